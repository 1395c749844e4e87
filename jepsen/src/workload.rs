//! What clients do, in every layer: submit, retry at other clouds, use an id twice with other
//! content, and decide by hand; and what observers look at. A seed fixes the choices of each client.

pub mod leases;

use crate::history::{Recorder, What};
use crate::port::{Answer, Event, Port};
use crate::random::Random;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tercet_core::tenants::Confirm;
use tokio::time::Instant;

/// The most recent acknowledged events are the ones whose level still moves.
const RECENT: usize = 50;
/// Ids that several clients use with different contents: so many are in play at once.
const CONTESTED: u64 = 3;
/// The most events of one client.
const MAX_EVENTS: u64 = 1_000_000;

/// How clients of a run behave. Pauses are means; each is drawn between half and one and a half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    pub clients: u64,
    pub pause: Duration,
    /// Of 100 operations: repetitions of an own event, anywhere.
    pub repeats: usize,
    /// Of 100: ids that other clients use as well, with other content.
    pub contested: usize,
    /// Of 100: events of the tenant that confirms by hand.
    pub manual: usize,
    pub look_pause: Duration,
}

impl Default for Mix {
    fn default() -> Self {
        let (pause, look_pause) = (Duration::from_millis(500), Duration::from_millis(700));
        Self { clients: 5, pause, repeats: 10, contested: 5, manual: 5, look_pause }
    }
}

/// What all actors of a run share.
pub struct World {
    pub port: Arc<dyn Port>,
    pub recorder: Arc<Recorder>,
    pub mix: Mix,
    pub seed: u64,
    /// Clouds that clients use: those that may lie are not asked.
    pub clouds: Vec<String>,
    pub stop: AtomicBool,
    /// What was submitted, by id: for ids with several contents, the first.
    pub submitted: Mutex<BTreeMap<String, Event>>,
    /// What was acknowledged, by id, for the observers and the end.
    pub acknowledged: Mutex<BTreeMap<String, Event>>,
    recent: Mutex<Vec<String>>,
}

impl World {
    pub fn new(port: Arc<dyn Port>, recorder: Arc<Recorder>, mix: Mix, seed: u64, clouds: Vec<String>) -> Self {
        let (submitted, acknowledged, recent) = Default::default();
        Self { port, recorder, mix, seed, clouds, stop: AtomicBool::new(false), submitted, acknowledged, recent }
    }

    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub fn end(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub fn event(&self, id: &str) -> Option<Event> {
        self.acknowledged.lock().expect("no thread panics while it adds an event").get(id).cloned()
    }
}

/// Whether several clients use this id, with contents of their own.
pub fn is_contested(id: &str) -> bool {
    id.starts_with('x')
}

/// Whether operators decide about it.
pub fn is_manual(id: &str) -> bool {
    id.starts_with('m')
}

/// One client, until the world is over. The first ones stay at one cloud each, so that not all of
/// them can be held up by one cloud.
pub async fn submit(world: Arc<World>, client: u64) {
    let mut random = Random::new(world.seed, 100 + client);
    let mut own: Vec<Event> = Vec::new();
    for number in 0..MAX_EVENTS {
        pause(&mut random, world.mix.pause).await;
        if world.is_over() {
            return;
        }
        let cloud = match world.clouds.get(client as usize) {
            Some(home) if random.below(10) > 0 => home.clone(),
            _ => random.choose(&world.clouds).clone(),
        };
        let event = choose(&world.mix, &mut random, client, number, &own);
        submit_one(&world, client, &cloud, &event).await;
        if event.confirm == Confirm::Manual {
            decide(&world, &mut random, &event).await;
        }
        own.push(event);
    }
}

/// What a client does next.
fn choose(mix: &Mix, random: &mut Random, client: u64, number: u64, own: &[Event]) -> Event {
    let dice = random.below(100);
    if dice < mix.repeats && !own.is_empty() {
        return random.choose(own).clone();
    }
    let payload = format!("event {number} of client {client}");
    if dice < mix.repeats + mix.contested {
        // The clients move on to new ids together, so that their submissions really meet.
        let id = format!("x-{}-{}", number / 8, random.number() % CONTESTED);
        return Event { confirm: Confirm::Auto, id, payload };
    }
    let manual = dice < mix.repeats + mix.contested + mix.manual;
    let (confirm, letter) = if manual { (Confirm::Manual, 'm') } else { (Confirm::Auto, 'c') };
    Event { confirm, id: format!("{letter}{client}-{number}"), payload }
}

async fn submit_one(world: &World, client: u64, cloud: &str, event: &Event) {
    let (cloud, id, content) = (cloud.to_owned(), event.id.clone(), event.content());
    world.recorder.write(What::Invoked { client, cloud: cloud.clone(), id: id.clone(), content });
    {
        let mut submitted = world.submitted.lock().expect("no thread panics while it adds an event");
        submitted.entry(id.clone()).or_insert_with(|| event.clone());
    }
    match world.port.submit(&cloud, event).await {
        Answer::Acknowledged { cloud, content, new, repeated } => {
            world.recorder.write(What::Acknowledged { client, cloud, id: id.clone(), content, new, repeated });
            let mut acknowledged = world.acknowledged.lock().expect("no thread panics while it adds an event");
            if acknowledged.insert(id.clone(), event.clone()).is_none() {
                world.recent.lock().expect("no thread panics while it adds an id").push(id);
            }
        }
        Answer::Refused { code, first } => world.recorder.write(What::Refused { client, cloud, id, code, first }),
        Answer::Unknown(why) => world.recorder.write(What::Unknown { client, cloud, id, why }),
    }
}

/// One more event at every cloud, each tried until it is acknowledged: a healed cloud takes events. An
/// error says which cloud took none.
pub async fn submit_last(world: &World, deadline: Instant, between: Duration) -> Result<Vec<Event>, String> {
    let mut events = Vec::new();
    for (cloud, client) in world.clouds.iter().zip(world.mix.clients..) {
        let id = format!("last-{cloud}");
        let event = Event { confirm: Confirm::Auto, payload: format!("the last event at {cloud}"), id };
        while world.event(&event.id).is_none() {
            if Instant::now() > deadline {
                return Err(format!("{cloud} takes no event"));
            }
            submit_one(world, client, cloud, &event).await;
            tokio::time::sleep(between).await;
        }
        events.push(event);
    }
    Ok(events)
}

/// Operators of a random number of clouds decide, mostly alike.
async fn decide(world: &World, random: &mut Random, event: &Event) {
    for cloud in &world.clouds {
        if random.below(4) == 0 {
            continue;
        }
        let confirm = random.below(8) > 0;
        let outcome = world.port.decide(cloud, event, confirm).await;
        let (id, content) = (event.id.clone(), event.content());
        world.recorder.write(What::Decided { cloud: cloud.clone(), id, content, confirm, outcome });
    }
}

/// Observes one cloud until the world is over: what it shows of a FINAL during the run must be what
/// every cloud says at the end.
pub async fn observe(world: Arc<World>, cloud: String, number: u64) {
    let mut random = Random::new(world.seed, 200 + number);
    while !world.is_over() {
        pause(&mut random, world.mix.look_pause).await;
        let Some(event) = watched(&world, &mut random) else { continue };
        if let Some(seen) = world.port.look(&cloud, &event).await {
            world.recorder.write(What::Observed { cloud: cloud.clone(), id: event.id, seen });
        }
    }
}

fn watched(world: &World, random: &mut Random) -> Option<Event> {
    let id = {
        let ids = world.recent.lock().expect("no thread panics while it adds an id");
        let any = random.below(2) == 0;
        let from = if any { &ids[..] } else { &ids[ids.len().saturating_sub(RECENT)..] };
        if from.is_empty() {
            return None;
        }
        random.choose(from).clone()
    };
    world.event(&id)
}

async fn pause(random: &mut Random, mean: Duration) {
    tokio::time::sleep(random.between(mean / 2, mean * 3 / 2)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_what_a_client_does_and_every_kind_of_work_occurs() {
        let mix = Mix::default();
        let plan = |seed| {
            let mut random = Random::new(seed, 100);
            let mut own = Vec::new();
            for number in 0..500 {
                own.push(choose(&mix, &mut random, 0, number, &own));
            }
            own
        };
        assert_eq!(plan(1), plan(1));
        assert_ne!(plan(1), plan(2));
        let events = plan(1);
        for letter in ["c", "x", "m"] {
            assert!(events.iter().any(|event| event.id.starts_with(letter)), "no {letter}");
        }
        assert!(events.iter().enumerate().any(|(at, event)| events[..at].contains(event)), "no repetition");
    }
}
