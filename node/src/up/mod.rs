//! `tercetd up`: makes a federation in a data folder (`create.rs`) or opens the one that is there
//! (`prepare.rs`), runs its nodes as child processes (`children.rs`), shows the first event become
//! FINAL and SEALED (`hello.rs`, over the public API), and stays until Ctrl-C. It never touches the
//! state of a node: whatever it does, a user could do by hand.

/// Prints a line. A reader that has gone (`up | head`) is no reason to stop a cluster.
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}

mod children;
pub mod create;
mod hello;
mod lamps;
mod prepare;
mod renew;

use anyhow::Result;
pub use children::die_with_parent;
use children::{Children, Exit};
pub use renew::renew;
use std::path::{Path, PathBuf};
use tercet_core::ids::CloudId;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

/// What `tercetd up` was asked for.
pub struct Options {
    pub config: Option<PathBuf>,
    pub data_dir: PathBuf,
    pub nodes_per_cloud: Option<usize>,
    /// Empty means all.
    pub clouds: Vec<CloudId>,
    pub restart: bool,
    /// The log filter of the nodes.
    pub log: Option<String>,
}

/// Runs until Ctrl-C or SIGTERM, or until every node is gone.
pub async fn up(options: Options) -> Result<()> {
    let begun = Instant::now();
    let cluster = prepare::prepare(&options)?;
    cluster.print_plan();
    let mut children = Children::start(&cluster, options.log, options.restart)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hello = Some(Box::pin(hello::show(&cluster, begun)));
    // Children are started by the main task only: the kernel ties their lives to the thread that
    // started them, and this is the thread that lives as long as the process.
    let outcome = loop {
        let showing = async {
            match hello.as_mut() {
                Some(hello) => hello.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
            shown = showing => {
                hello = None;
                if let Err(e) = shown {
                    say!("\nThe first event was not shown: {e:#}\nThe nodes go on; their logs are {}/nodes/<node>/log.txt", cluster.dir.display());
                }
            }
            exit = children.changed() => match exit {
                Exit::One => {}
                Exit::All => break Err(anyhow::anyhow!("every node has exited; their last words are above")),
            }
        }
    };
    drop(hello);
    say!("\nStopping the nodes ...");
    tokio::select! {
        () = children.stop() => {}
        _ = interrupt.recv() => children.kill(),
    }
    say!("Stopped. Start again with the same command: nothing is lost.");
    outcome
}

/// How a user calls one of our programs: by its name if a shell finds it there, else by its path
/// beside this program.
fn program(name: &str) -> String {
    let own = std::env::current_exe().ok();
    let Some(folder) = own.as_deref().and_then(Path::parent) else { return name.to_owned() };
    let found = std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|entry| entry == folder));
    let beside = folder.join(name);
    if found || !beside.exists() { name.to_owned() } else { beside.display().to_string() }
}
