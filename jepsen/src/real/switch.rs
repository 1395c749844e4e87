//! A network switch in this process: it reads the packets of every namespace and carries them to
//! the others, unless a rule drops, delays, doubles or throttles them. The kernel here has no netem,
//! and rules in user space are seeded, say exactly what they did, and vanish with the process.

use super::kernel;
use crate::random::Random;
use anyhow::Result;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// The largest packet; the interfaces' MTU is smaller.
const MAX_PACKET_BYTES: usize = 2048;
/// Packets that wait because of a rule. Beyond that they are dropped, as by any full queue.
const MAX_WAITING: usize = 20_000;
/// A throttled link holds packets for so long, and then drops.
const MAX_THROTTLED: Duration = Duration::from_millis(400);

/// Directed pairs of ports.
pub type Links = BTreeSet<(usize, usize)>;

#[derive(Debug, Clone, Copy)]
pub enum Effect {
    Drop,
    /// Of 100 packets, so many are lost.
    Lose(usize),
    /// Each packet waits a time of its own between these, so packets overtake each other.
    Delay(Duration, Duration),
    /// Of 100 packets, so many arrive twice.
    Double(usize),
    /// Bytes a second of each link.
    Throttle(u64),
}

/// What a rule did to packets so far.
#[derive(Debug, Default)]
pub struct Counts {
    dropped: AtomicU64,
    delayed: AtomicU64,
    doubled: AtomicU64,
}

#[derive(Debug)]
struct Rule {
    links: Links,
    effect: Effect,
    counts: Arc<Counts>,
    /// When each throttled link is free again.
    free: Mutex<std::collections::BTreeMap<(usize, usize), Instant>>,
}

/// A rule in force. Dropping it heals the links.
#[derive(Debug)]
pub struct Harm {
    shared: Arc<Shared>,
    rule: Arc<Rule>,
}

#[derive(Debug)]
pub struct Switch {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

#[derive(Debug)]
struct Shared {
    ports: Vec<(Ipv4Addr, AsyncFd<File>)>,
    rules: RwLock<Vec<Arc<Rule>>>,
    random: Mutex<Random>,
    waiting: AtomicUsize,
}

impl Switch {
    /// Carries packets between these interfaces; their index is their port.
    pub fn start(interfaces: Vec<(Ipv4Addr, File)>, seed: u64) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let entered = runtime.enter();
        let ports = interfaces.into_iter().map(|(address, file)| Ok((address, kernel::watch(file)?)));
        let shared = Arc::new(Shared {
            ports: ports.collect::<Result<_>>()?,
            rules: RwLock::default(),
            random: Mutex::new(Random::new(seed, 400)),
            waiting: AtomicUsize::new(0),
        });
        for port in 0..shared.ports.len() {
            runtime.spawn(carry(shared.clone(), port));
        }
        drop(entered);
        Ok(Self { shared, runtime: Some(runtime) })
    }

    pub fn harm(&self, links: Links, effect: Effect) -> Harm {
        let rule = Arc::new(Rule { links, effect, counts: Arc::default(), free: Mutex::default() });
        self.shared.rules.write().expect("no thread panics with the rules").push(rule.clone());
        Harm { shared: self.shared.clone(), rule }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Harm {
    pub fn counts(&self) -> Arc<Counts> {
        self.rule.counts.clone()
    }
}

impl Drop for Harm {
    fn drop(&mut self) {
        let mut rules = self.shared.rules.write().expect("no thread panics with the rules");
        rules.retain(|rule| !Arc::ptr_eq(rule, &self.rule));
    }
}

impl Counts {
    /// What shows that the rule bit; `None` if no packet ever met it.
    pub fn proof(&self) -> Option<String> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let told = [(&self.dropped, "dropped"), (&self.delayed, "delayed"), (&self.doubled, "doubled")];
        let told =
            told.iter().filter(|(count, _)| read(count) > 0).map(|(count, word)| format!("{} {word}", read(count)));
        let told = told.collect::<Vec<_>>().join(", ");
        (!told.is_empty()).then(|| format!("packets: {told}"))
    }
}

/// What becomes of one packet: when each of its copies is delivered.
struct Fate {
    wait: Duration,
    copies: usize,
}

async fn carry(shared: Arc<Shared>, port: usize) {
    let mut buffer = [0; MAX_PACKET_BYTES];
    loop {
        let read = shared.ports[port].1.async_io(Interest::READABLE, |mut file| file.read(&mut buffer)).await;
        // The interface is gone only when the switch is.
        let Ok(length) = read else { return };
        let packet = &buffer[..length];
        let Some(to) = shared.destination(packet) else { continue };
        let Some(fate) = shared.fate((port, to), length) else { continue };
        for _ in 0..fate.copies {
            if fate.wait.is_zero() {
                shared.deliver(to, packet);
            } else {
                shared.deliver_later(to, packet.to_vec(), fate.wait);
            }
        }
    }
}

impl Shared {
    /// By the destination address of an IPv4 packet; nothing else is carried.
    fn destination(&self, packet: &[u8]) -> Option<usize> {
        let header = packet.get(..20).filter(|header| header[0] >> 4 == 4)?;
        let address = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
        self.ports.iter().position(|(of, _)| *of == address)
    }

    /// Every rule of the link has its say; `None` drops the packet.
    fn fate(&self, link: (usize, usize), length: usize) -> Option<Fate> {
        let mut fate = Fate { wait: Duration::ZERO, copies: 1 };
        let rules = self.rules.read().expect("no thread panics with the rules");
        for rule in rules.iter().filter(|rule| rule.links.contains(&link)) {
            if !rule.judge(link, length, &mut fate, &self.random) {
                rule.counts.dropped.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        }
        Some(fate)
    }

    /// An interface takes a packet at once or, while its namespace ends, never.
    fn deliver(&self, to: usize, packet: &[u8]) {
        let _ = self.ports[to].1.get_ref().write(packet);
    }

    fn deliver_later(self: &Arc<Self>, to: usize, packet: Vec<u8>, wait: Duration) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let shared = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            shared.waiting.fetch_sub(1, Ordering::Relaxed);
            shared.deliver(to, &packet);
        });
    }
}

impl Rule {
    /// Whether the packet goes on.
    fn judge(&self, link: (usize, usize), length: usize, fate: &mut Fate, random: &Mutex<Random>) -> bool {
        let dice = || random.lock().expect("no thread panics with the dice").below(100);
        match self.effect {
            Effect::Drop => return false,
            Effect::Lose(percent) => return dice() >= percent,
            Effect::Delay(least, most) => {
                fate.wait += random.lock().expect("no thread panics with the dice").between(least, most);
                self.counts.delayed.fetch_add(1, Ordering::Relaxed);
            }
            Effect::Double(percent) => {
                if dice() < percent {
                    fate.copies += 1;
                    self.counts.doubled.fetch_add(1, Ordering::Relaxed);
                }
            }
            Effect::Throttle(bytes) => {
                let mut free = self.free.lock().expect("no thread panics with the links");
                let now = Instant::now();
                let begins = free.get(&link).copied().unwrap_or(now).max(now);
                let ends = begins + Duration::from_secs_f64(length as f64 / bytes as f64);
                if ends - now > MAX_THROTTLED {
                    return false;
                }
                free.insert(link, ends);
                fate.wait += ends - now;
                self.counts.delayed.fetch_add(1, Ordering::Relaxed);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(effect: Effect) -> Rule {
        Rule { links: Links::from([(0, 1)]), effect, counts: Arc::default(), free: Mutex::default() }
    }

    /// How many of 1000 packets of 100 bytes go on, and how many copies of them there are.
    fn pass(effect: Effect) -> (usize, usize) {
        let (rule, random) = (rule(effect), Mutex::new(Random::new(1, 1)));
        let mut copies = 0;
        let passed = (0..1000).filter(|_| {
            let mut fate = Fate { wait: Duration::ZERO, copies: 1 };
            let passed = rule.judge((0, 1), 100, &mut fate, &random);
            copies += if passed { fate.copies } else { 0 };
            passed
        });
        (passed.count(), copies)
    }

    #[tokio::test(start_paused = true)]
    async fn each_effect_does_what_it_says() {
        assert_eq!(pass(Effect::Drop), (0, 0));
        let (passed, _) = pass(Effect::Lose(20));
        assert!((700..900).contains(&passed), "{passed}");
        let (passed, copies) = pass(Effect::Double(10));
        assert!(passed == 1000 && (1050..1200).contains(&copies), "{copies}");
        // 400 ms of 10,000 bytes a second are 40 packets of 100 bytes.
        assert_eq!(pass(Effect::Throttle(10_000)).0, 40);
    }

    #[test]
    fn a_rule_that_no_packet_met_proves_nothing() {
        let rule = rule(Effect::Drop);
        assert_eq!(rule.counts.proof(), None);
        rule.counts.dropped.fetch_add(2, Ordering::Relaxed);
        assert_eq!(rule.counts.proof().as_deref(), Some("packets: 2 dropped"));
    }
}
