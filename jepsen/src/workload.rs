//! Clients that submit through random clouds with the real client library, and now and then submit
//! an event of theirs again, as a client does that is not sure.

use crate::history::{Recorder, What};
use crate::random::Random;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tercet::client::{Client, Patience, Route};
use tercet::error::Outcome;
use tercet::events::{Draft, Payload};
use tercet::sign::Signer;
use tercet_core::ids::EventKey;

/// How long a client tries one submission.
const PATIENCE: Duration = Duration::from_secs(4);
/// One in so many submissions repeats an earlier one.
const REPEAT: usize = 10;
/// The pause between two submissions of one client: the nemesis is the load here.
const PAUSE: Duration = Duration::from_millis(20);
/// The most events of one client.
const MAX_EVENTS: u64 = 20_000;

/// What all actors share.
pub struct World {
    pub client: Client,
    pub signer: Signer,
    pub recorder: Recorder,
    pub stop: AtomicBool,
    /// Ids that were acknowledged, for the observers.
    pub acknowledged: Mutex<Vec<String>>,
}

impl World {
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub fn clouds(&self) -> Vec<tercet_core::ids::CloudId> {
        self.client.clouds().iter().map(|cloud| cloud.name.clone()).collect()
    }
}

/// How long a call through outages may take.
pub fn patience() -> Patience {
    Patience::through_outages(Some(PATIENCE))
}

/// One client, until the world is over.
pub async fn submit(world: &World, client: u64, seed: u64) {
    let mut random = Random::new(seed, 100 + client);
    let clouds = world.clouds();
    for number in 0..MAX_EVENTS {
        if world.is_over() {
            return;
        }
        let repeats = number > 0 && random.below(REPEAT) == 0;
        let number = if repeats { random.below(number as usize) as u64 } else { number };
        // One client stays at each cloud, so that not all of them can be held up by one cloud.
        let cloud = clouds.get(client as usize).unwrap_or_else(|| random.choose(&clouds));
        submit_one(world, client, number, cloud).await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn submit_one(world: &World, client: u64, number: u64, cloud: &tercet_core::ids::CloudId) {
    let id = format!("c{client}-{number}");
    let draft = Draft {
        key: EventKey::new("", id.clone()).expect("an id of letters and digits"),
        content_type: "text/plain".into(),
        payload: Payload::Bytes(format!("event {number} of client {client}").into_bytes()),
        supersedes: None,
    };
    let content = draft.content(world.signer.tenant()).expect("a valid draft").hash().to_string();
    world.recorder.write(What::Invoked { client, cloud: cloud.to_string(), id: id.clone(), content });
    match world.client.submit(&Route::Prefer(cloud.clone()), &world.signer, &draft).await {
        Ok(receipt) => {
            let content = receipt.content_hash.to_string();
            world.recorder.write(What::Acknowledged { client, id: id.clone(), content, new: receipt.new });
            world.acknowledged.lock().expect("no thread panics while it adds an id").push(id);
        }
        Err(error) if error.outcome() == Outcome::None => {
            world.recorder.write(What::Failed { client, id, why: error.to_string() });
        }
        Err(error) => world.recorder.write(What::Unknown { client, id, why: error.to_string() }),
    }
}
