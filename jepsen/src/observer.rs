//! Observers ask single clouds about random acknowledged events, all the time: what they see of a
//! FINAL during the run must be what every cloud says at the end.

use crate::history::{Recorder, What};
use crate::random::Random;
use crate::workload::World;
use std::time::Duration;
use tercet::client::Route;
use tercet::events::level_name;
use tercet_core::ids::{CloudId, EventKey};

const PAUSE: Duration = Duration::from_millis(100);
/// The most recent acknowledged events are the ones whose level still moves.
const RECENT: usize = 50;

/// Observes one cloud until the world is over.
pub async fn observe(world: &World, cloud: CloudId, seed: u64, actor: u64) {
    let mut random = Random::new(seed, 200 + actor);
    while !world.is_over() {
        if let Some(id) = choose(world, &mut random) {
            look(world, &world.recorder, &cloud, &id).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn choose(world: &World, random: &mut Random) -> Option<String> {
    let ids = world.acknowledged.lock().expect("no thread panics while it adds an id");
    let any = random.below(2) == 0;
    let from = if any { &ids[..] } else { &ids[ids.len().saturating_sub(RECENT)..] };
    (!from.is_empty()).then(|| random.choose(from).clone())
}

async fn look(world: &World, recorder: &Recorder, cloud: &CloudId, id: &str) {
    let Ok(key) = EventKey::new("", id) else { return };
    // A cloud that is down, or does not know the event yet, says nothing.
    let Ok(view) = world.client.event(&Route::Only(cloud.clone()), world.signer.tenant(), &key).await else { return };
    recorder.write(What::Observed {
        cloud: cloud.to_string(),
        id: id.to_owned(),
        level: level_name(view.level).to_owned(),
        content: view.content_hash.map(|hash| hash.to_string()),
    });
}
