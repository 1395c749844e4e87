//! Bounds how many clusters run at once on this machine, across threads and processes: two small
//! ones, or one large one. More of them only starve each other of the processor, and elections with
//! real timers then fail for no reason of the product's.

use std::fs::File;
use std::time::Duration;

const SLOTS: usize = 2;
const POLL: Duration = Duration::from_millis(50);

/// What a cluster holds while it runs.
#[derive(Debug)]
pub struct Slot {
    _held: Vec<File>,
}

/// A cluster of one node a cloud.
pub fn small() -> Slot {
    let files: Vec<File> = (0..SLOTS).map(open).collect();
    loop {
        // From the last one: large clusters queue at the first.
        for file in files.iter().rev() {
            if file.try_lock().is_ok() {
                let held = file.try_clone().expect("a handle of an open file");
                return Slot { _held: vec![held] };
            }
        }
        std::thread::sleep(POLL);
    }
}

/// A cluster of nine nodes takes the whole machine.
pub fn large() -> Slot {
    let files: Vec<File> = (0..SLOTS).map(open).collect();
    for file in &files {
        file.lock().expect("a lock on a file of our own");
    }
    Slot { _held: files }
}

/// Whoever measures does so alone; `None` while another one does.
pub fn measuring() -> Option<Slot> {
    let file = file("measuring");
    file.try_lock().is_ok().then(|| Slot { _held: vec![file] })
}

fn open(slot: usize) -> File {
    file(&format!("slot-{slot}"))
}

fn file(name: &str) -> File {
    let folder = std::env::temp_dir().join(format!("tercet-tests-{}", nix::unistd::getuid()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    File::create(folder.join(name)).expect("the temporary folder is writable")
}
