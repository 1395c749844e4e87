//! One cloud lies. Its nodes are unmodified copies of the product: what is false is the world around
//! them, or what their messages become on the way.

use super::cluster::Cluster;
use super::monitor::Monitor;
use super::network::Seat;
use super::port::SimPort;
use crate::history::{Recorder, What};
use crate::port::Event;
use crate::random::Random;
use std::sync::Arc;
use std::time::Duration;
use tercet_core::ids::CloudId;
use tercet_core::tenants::Confirm;
use tercet_core::transparency::Leaf;
use tokio::time::Instant;

/// Between two events that the liar's own clients submit.
const PAUSE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(3_000));

pub struct Liar {
    pub cluster: Cluster,
    pub port: Arc<SimPort>,
    pub monitor: Arc<Monitor>,
    pub recorder: Arc<Recorder>,
    pub cloud: String,
}

impl Liar {
    fn others(&self) -> Vec<String> {
        super::cluster::CLOUDS.iter().filter(|cloud| **cloud != self.cloud).map(|cloud| (*cloud).to_owned()).collect()
    }

    /// Two copies of the cloud run with its keys from some moment on; each honest cloud talks to one
    /// of them, and clients tell each copy something else. Returns what the honest clouds must find
    /// out once they talk to each other.
    pub async fn run_twins(&self, until: Instant) {
        let mut random = Random::new(self.cluster.seed, 3);
        let left = until.saturating_duration_since(Instant::now());
        tokio::time::sleep(random.between(Duration::from_secs(1), left / 3)).await;
        let others = self.others();
        let (faithful, deceived) = if random.below(2) == 0 { (0, 1) } else { (1, 0) };
        let originals = self.cluster.seats_of(&self.cloud);
        let twins = self.cluster.twin(&self.cloud);
        self.part(&originals, &self.cluster.seats_of(&others[deceived]));
        self.part(&twins, &self.cluster.seats_of(&others[faithful]));
        self.part(&originals, &twins);
        for (twin, victim) in twins
            .iter()
            .flat_map(|twin| self.cluster.seats_of(&others[deceived]).into_iter().map(move |victim| (twin, victim)))
        {
            let node = self.cluster.with(twin, |place| place.node.clone());
            self.cluster.network.route(&victim, &node, twin);
        }
        for twin in &twins {
            if let Err(why) = self.cluster.start(twin).await {
                self.monitor.violated("a node starts from what its disk kept", why);
            }
        }
        let lie = format!("two copies run: {} talks to one, {} to the other", others[faithful], others[deceived]);
        self.recorder.write(What::Lied { cloud: self.cloud.clone(), lie, detectable: false });
        let mut number = 0;
        while Instant::now() < until {
            tokio::time::sleep(random.between(PAUSE.0, PAUSE.1)).await;
            let id = format!("t{number}");
            number += 1;
            for (side, seats) in [&originals, &twins].into_iter().enumerate() {
                // Now and then both copies are told the same, or only one of them anything.
                let content = if random.below(4) == 0 { 9 } else { side };
                if random.below(5) > 0 {
                    self.submit(seats, &id, content).await;
                }
            }
        }
    }

    async fn submit(&self, seats: &[Seat], id: &str, content: usize) {
        let payload = format!("{id} as the liar tells it, version {content}");
        let event = Event { confirm: Confirm::Auto, id: id.to_owned(), payload };
        let (client, cloud) = (900 + content as u64, self.cloud.clone());
        self.recorder.write(What::Invoked {
            client,
            cloud: cloud.clone(),
            id: id.to_owned(),
            content: event.content(),
        });
        // What a liar acknowledges promises nothing.
        let answer = self.port.submit_at(seats, &event).await;
        let why = format!("a liar's answer: {answer:?}");
        self.recorder.write(What::Unknown { client, cloud, id: id.to_owned(), why });
    }

    fn part(&self, some: &[Seat], others: &[Seat]) {
        for (a, b) in some.iter().flat_map(|a| others.iter().map(move |b| (a, b))) {
            self.cluster.network.cut(a, b);
            self.cluster.network.cut(b, a);
        }
    }

    /// Whether the two honest clouds hold different histories of the liar's log. They do not know
    /// yet; once they talk, they must prove it.
    pub fn note_detectable(&self) {
        let liar = CloudId::new(self.cloud.clone()).expect("a cloud's name");
        let others = self.others();
        let logs: Vec<Vec<Leaf>> = others.iter().filter_map(|at| self.log(at, &liar)).collect();
        let [one, other] = &logs[..] else { return };
        if let Some(index) = one.iter().zip(other).position(|(a, b)| a != b) {
            let lie = format!("its log differs from leaf {index} on, at {} and {}", others[0], others[1]);
            self.recorder.write(What::Lied { cloud: self.cloud.clone(), lie, detectable: true });
        }
    }

    fn log(&self, at: &str, of: &CloudId) -> Option<Vec<Leaf>> {
        let running = self.cluster.running(&self.cluster.leader(&self.cluster.seats_of(at))?)?;
        let leaves = running.core.replica.read(|view| {
            let size = view.state.head(of).map_or(0, |head| head.size);
            (0..size).map(|index| view.state.leaf(view.records, of, index)).collect::<Result<Option<Vec<_>>, _>>()
        });
        leaves.ok().flatten()
    }
}
