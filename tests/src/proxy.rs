//! A TCP link that a test can cut, silence and heal: put between two nodes by giving each a
//! `cluster.toml` that names the proxy as the other one's address, or before a node by a context of
//! its own. TLS runs through it end to end.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A link to one address.
#[derive(Debug)]
pub struct Proxy {
    /// What to connect to in place of the target.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    cut: AtomicBool,
    /// Nothing gets through, and nobody is told.
    silent: Mutex<bool>,
    changed: Condvar,
    closed: AtomicBool,
    next: AtomicU64,
    open: Mutex<HashMap<u64, (TcpStream, TcpStream)>>,
    /// How much later bytes arrive: those to the target, and those from it.
    delays: [Duration; 2],
}

/// Chunks under way on a link with a delay.
const UNDER_WAY: usize = 4096;

impl Proxy {
    pub fn start(target: SocketAddr, cut: bool) -> Self {
        Self::link_to(target, cut, [Duration::ZERO; 2])
    }

    /// A long link: what goes to the target arrives so much later, and what comes from it so much.
    pub fn delayed(target: SocketAddr, there: Duration, back: Duration) -> Self {
        Self::link_to(target, false, [there, back])
    }

    fn link_to(target: SocketAddr, cut: bool, delays: [Duration; 2]) -> Self {
        // At the same address, which is what the target's certificate names.
        let listener = TcpListener::bind((target.ip(), 0)).expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            target,
            cut: AtomicBool::new(cut),
            silent: Mutex::new(false),
            changed: Condvar::new(),
            closed: AtomicBool::new(false),
            next: AtomicU64::new(0),
            open: Mutex::default(),
            delays,
        });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.closed.load(Ordering::SeqCst) {
                    return;
                }
                serving.clone().link(stream);
            }
        });
        Self { address, shared }
    }

    /// Breaks every connection, and refuses new ones.
    pub fn cut(&self) {
        self.shared.cut.store(true, Ordering::SeqCst);
        self.shared.break_all();
    }

    /// Lets nothing through any more, as a network does that loses every packet.
    pub fn silence(&self) {
        self.shared.set_silent(true);
    }

    /// What was silenced goes on where it was.
    pub fn heal(&self) {
        self.shared.cut.store(false, Ordering::SeqCst);
        self.shared.set_silent(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.shared.set_silent(false);
        self.shared.break_all();
        // Wakes the accepting thread, which then ends.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn set_silent(&self, silent: bool) {
        *self.silent.lock().expect("no thread panics while it holds this") = silent;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let silent = self.silent.lock().expect("no thread panics while it holds this");
        drop(self.changed.wait_while(silent, |silent| *silent).expect("no thread panics while it holds this"));
    }

    /// Copies until one side ends, and then ends both.
    fn pump(&self, from: TcpStream, to: TcpStream, delay: Duration) {
        let ends = (from.try_clone(), to.try_clone());
        if delay.is_zero() {
            self.copy(from, to);
        } else {
            self.copy_later(from, to, delay);
        }
        for end in [ends.0, ends.1].into_iter().flatten() {
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            self.pass();
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
    }

    /// Reads without waiting, and writes each chunk when it is due: the link is long and not narrow.
    fn copy_later(&self, mut from: TcpStream, mut to: TcpStream, delay: Duration) {
        let (sender, chunks) = std::sync::mpsc::sync_channel::<(Instant, Vec<u8>)>(UNDER_WAY);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for (due, chunk) in chunks {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    if to.write_all(&chunk).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Both);
            });
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                self.pass();
                if sender.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
                    break;
                }
            }
            drop(sender);
        });
    }

    fn break_all(&self) {
        for (_, (a, b)) in self.open.lock().expect("no thread panics while it holds the links").drain() {
            let _ = a.shutdown(Shutdown::Both);
            let _ = b.shutdown(Shutdown::Both);
        }
    }

    fn link(self: Arc<Self>, near: TcpStream) {
        if self.cut.load(Ordering::SeqCst) {
            return;
        }
        let Ok(far) = TcpStream::connect(self.target) else { return };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let handles = (near.try_clone(), far.try_clone(), near.try_clone(), far.try_clone());
        let (Ok(near_in), Ok(far_out), Ok(near_kept), Ok(far_kept)) = handles else { return };
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        self.open.lock().expect("no thread panics while it holds the links").insert(id, (near_kept, far_kept));
        // A cut between the check above and the insertion would be missed otherwise.
        if self.cut.load(Ordering::SeqCst) {
            self.break_all();
        }
        let shared = self.clone();
        std::thread::spawn(move || {
            shared.pump(near_in, far_out, shared.delays[0]);
            shared.open.lock().expect("no thread panics while it holds the links").remove(&id);
        });
        std::thread::spawn(move || self.pump(far, near, self.delays[1]));
    }
}
