//! Twins: two unmodified copies of one cloud run with its keys, and each honest cloud talks to one of
//! them (Bano et al., OPODIS 2021).

use super::{Liar, PAUSE};
use crate::history::What;
use crate::random::Random;
use crate::sim::network::Seat;
use tokio::time::Instant;

impl Liar {
    /// Two copies of the cloud run with its keys from some moment on; each honest cloud talks to one
    /// of them, and clients tell each copy something else. Returns what the honest clouds must find
    /// out once they talk to each other.
    pub(super) async fn run_twins(&self, until: Instant) {
        let mut random = Random::new(self.cluster.seed, 3);
        self.wait(&mut random, until).await;
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

    fn part(&self, some: &[Seat], others: &[Seat]) {
        for (a, b) in some.iter().flat_map(|a| others.iter().map(move |b| (a, b))) {
            self.cluster.network.cut(a, b);
            self.cluster.network.cut(b, a);
        }
    }
}
