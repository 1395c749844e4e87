//! The way to the cluster: which cloud and node gets a call, when it is repeated and when we stop.
//! Every call here is safe to repeat (events deduplicate on their key, commands on their request
//! id), so it is repeated until it is answered or its time is over, and at the end the caller
//! learns whether it may have happened. A call never leaves the nodes that the context names.

use crate::context::Context;
use crate::error::{Error, Outcome, Problem};
use crate::http::{Answer, Call, Failure, Transport};
use reqwest::Url;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tercet_core::ids::{CloudId, NodeId};
use tokio::time::Instant;

/// The first and the longest pause between rounds over the clouds.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// A cloud that refused connections is asked last for this long.
const COOL_DOWN: Duration = Duration::from_secs(2);
/// A cloud that took a request and fell silent, which costs more time to find out again.
const COOL_DOWN_SILENT: Duration = Duration::from_secs(10);
/// The most leader hints followed in one visit to a cloud.
const MAX_HINTS: usize = 3;
/// The shortest attempt worth starting.
const ATTEMPT_MIN: Duration = Duration::from_millis(50);

/// Who may answer a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Any cloud, in this client's order of preference.
    Any,
    /// This cloud first, another if it does not answer.
    Prefer(CloudId),
    /// This cloud alone.
    Only(CloudId),
}

/// How long to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Overall; `None` tries for ever.
    pub total: Option<Duration>,
    /// While not a single node accepts connections: then nothing is running, and waiting is idle.
    pub nobody_listens: Option<Duration>,
    /// Whether to ask again after everybody was asked.
    pub again: bool,
}

impl Patience {
    /// For a person who waits: gives up early when nothing is running.
    pub fn interactive(total: Duration) -> Self {
        Self { total: Some(total), nobody_listens: Some(Duration::from_millis(1500)), again: true }
    }

    /// Through outages, up to the total.
    pub fn through_outages(total: Option<Duration>) -> Self {
        Self { total, nobody_listens: None, again: true }
    }

    /// Asks everybody once: the caller knows better when to ask again.
    pub fn once(total: Duration) -> Self {
        Self { total: Some(total), nobody_listens: None, again: false }
    }
}

/// One node as the context names it.
#[derive(Debug)]
pub struct Node {
    pub id: NodeId,
    pub url: Url,
}

/// One cloud, with what was learnt about it.
#[derive(Debug)]
pub struct Cloud {
    pub name: CloudId,
    pub nodes: Vec<Node>,
    /// Index of the node that answered last or that is the leader.
    first: AtomicUsize,
    /// Until when this cloud is asked last, in milliseconds since the client was made.
    cooling_until_ms: AtomicU64,
}

/// A client of one federation. It is cheap to share behind an `Arc` and to use concurrently.
#[derive(Debug)]
pub struct Client {
    transport: Transport,
    clouds: Vec<Cloud>,
    patience: Patience,
    born: Instant,
    /// Where unbound calls start; the preferred cloud's index if there is one.
    start: usize,
}

/// What a visit to one cloud brought, when no answer.
struct Miss {
    /// Whether some node accepted the connection.
    listened: bool,
    /// Whether some node may have acted on the call.
    unknown: bool,
    why: String,
    retry_after: Option<Duration>,
    problem: Option<Box<Problem>>,
}

impl Client {
    /// Reads the context's authority and token. `preferred` is asked first.
    pub fn new(context: &Context, preferred: Option<&CloudId>, patience: Patience) -> Result<Self, Error> {
        let transport = Transport::new(&context.ca_pem()?, &context.token()?)?;
        let clouds = context.clouds.iter().map(Cloud::new).collect::<Result<Vec<_>, Error>>()?;
        let start = match preferred {
            None => 0,
            Some(name) => {
                let known = || clouds.iter().map(|cloud| cloud.name.as_str()).collect::<Vec<_>>().join(", ");
                let found = clouds.iter().position(|cloud| cloud.name == *name);
                found.ok_or_else(|| {
                    Error::Invalid(format!("cloud {name} is not in the context; it names {}", known()))
                })?
            }
        };
        Ok(Self { transport, clouds, patience, born: Instant::now(), start })
    }

    pub fn clouds(&self) -> &[Cloud] {
        &self.clouds
    }

    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    pub fn patience(&self) -> Patience {
        self.patience
    }

    pub fn cloud(&self, name: &CloudId) -> Result<&Cloud, Error> {
        let known = || self.clouds.iter().map(|cloud| cloud.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = self.clouds.iter().find(|cloud| cloud.name == *name);
        found.ok_or_else(|| Error::Invalid(format!("cloud {name} is not in the context; it names {}", known())))
    }

    /// Sends the call with this client's own patience.
    pub async fn send(&self, route: &Route, call: &Call) -> Result<Answer, Error> {
        self.send_for(route, call, self.patience).await
    }

    /// Sends the call until it is answered, refused for good, or out of time.
    pub async fn send_for(&self, route: &Route, call: &Call, patience: Patience) -> Result<Answer, Error> {
        let begun = Instant::now();
        let deadline = patience.total.map(|total| begun + total);
        let (mut unknown, mut ever_listened, mut backoff) = (false, false, BACKOFF_MIN);
        loop {
            let mut pause = None;
            let mut last = None;
            for cloud in self.order(route)? {
                match self.visit(cloud, call, deadline).await {
                    Ok(answer) => return Ok(answer),
                    Err(Ok(refusal)) => return Err(refusal),
                    Err(Err(miss)) => {
                        tracing::debug!(cloud = %cloud.name, why = %miss.why, "no answer");
                        unknown |= miss.unknown;
                        ever_listened |= miss.listened;
                        pause = pause.max(miss.retry_after);
                        // A refusal tells more than a cloud that does not answer at all.
                        let told = last.as_ref().is_some_and(|(_, last): &(CloudId, Miss)| last.problem.is_some());
                        if !told || miss.problem.is_some() {
                            last = Some((cloud.name.clone(), miss));
                        }
                    }
                }
                if deadline.is_some_and(|deadline| Instant::now() + ATTEMPT_MIN >= deadline) {
                    break;
                }
            }
            let sleep = jittered(backoff).max(pause.unwrap_or_default());
            backoff = (backoff * 2).min(BACKOFF_MAX);
            let resumed = Instant::now() + sleep;
            let idle = !ever_listened && patience.nobody_listens.is_some_and(|limit| begun.elapsed() >= limit);
            if !patience.again || idle || deadline.is_some_and(|deadline| resumed + ATTEMPT_MIN >= deadline) {
                return Err(give_up(route, begun.elapsed(), unknown, ever_listened, last));
            }
            tokio::time::sleep_until(resumed).await;
        }
    }

    /// Asks the nodes of one cloud: the one that answered last first, then the others, and a
    /// leader where a node names one.
    async fn visit(
        &self,
        cloud: &Cloud,
        call: &Call,
        deadline: Option<Instant>,
    ) -> Result<Answer, Result<Error, Miss>> {
        let count = cloud.nodes.len();
        let first = cloud.first.load(Ordering::Relaxed) % count;
        let mut queue: Vec<usize> = (0..count).rev().map(|step| (first + step) % count).collect();
        let mut miss = Miss { listened: false, unknown: false, why: String::new(), retry_after: None, problem: None };
        let mut hints = 0;
        while let Some(index) = queue.pop() {
            let remaining = deadline.map_or(call.attempt_timeout, |deadline| deadline - Instant::now());
            if remaining < ATTEMPT_MIN {
                break;
            }
            let (node, timeout) = (&cloud.nodes[index], call.attempt_timeout.min(remaining));
            match self.transport.attempt(node.id.as_str(), &node.url, call, timeout).await {
                Ok(answer) => {
                    cloud.first.store(index, Ordering::Relaxed);
                    cloud.cooling_until_ms.store(0, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(Failure::Unsent(why)) => miss.why = format!("{}: {why}", node.id),
                Err(Failure::Lost(why)) => {
                    miss.listened = true;
                    miss.unknown = true;
                    miss.why = format!("{}: {why}", node.id);
                }
                Err(Failure::Refused { problem, retry_after }) => {
                    miss.listened = true;
                    let leader = problem.text("leader").and_then(|id| cloud.index_of(id));
                    if problem.status == 421 || problem.code == "not_leader" {
                        if let Some(leader) = leader.filter(|leader| *leader != index && hints < MAX_HINTS) {
                            hints += 1;
                            queue.retain(|other| *other != leader);
                            queue.push(leader);
                        }
                    } else if !problem.retryable {
                        return Err(Ok(Error::Refused(problem)));
                    }
                    miss.unknown |= problem.outcome == Outcome::Unknown;
                    miss.why = format!("{}: {problem}", node.id);
                    miss.retry_after = miss.retry_after.max(retry_after);
                    // The other nodes of the cloud would say the same.
                    let same = matches!(
                        problem.code.as_str(),
                        "overloaded" | "quota_exceeded" | "not_final" | "lease_held" | "lease_frozen"
                    );
                    miss.problem = Some(problem);
                    if same {
                        break;
                    }
                }
            }
        }
        if !miss.listened || miss.unknown {
            let until = self.born.elapsed() + if miss.unknown { COOL_DOWN_SILENT } else { COOL_DOWN };
            cloud.cooling_until_ms.store(until.as_millis() as u64, Ordering::Relaxed);
        }
        Err(Err(miss))
    }

    /// The clouds in the order in which they are asked.
    fn order(&self, route: &Route) -> Result<Vec<&Cloud>, Error> {
        let start = match route {
            Route::Only(name) => return Ok(vec![self.cloud(name)?]),
            Route::Prefer(name) => self.clouds.iter().position(|cloud| cloud.name == *name).unwrap_or(self.start),
            Route::Any => self.start,
        };
        let count = self.clouds.len();
        let now_ms = self.born.elapsed().as_millis() as u64;
        let mut order: Vec<&Cloud> = (0..count).map(|step| &self.clouds[(start + step) % count]).collect();
        // A stable sort: what is cooling moves to the end, the rest keeps its order.
        order.sort_by_key(|cloud| cloud.cooling_until_ms.load(Ordering::Relaxed) > now_ms);
        Ok(order)
    }
}

impl Cloud {
    fn new(address: &crate::context::CloudAddress) -> Result<Self, Error> {
        let nodes = address.nodes.iter().map(|node| {
            let url = Url::parse(&node.url).map_err(|error| Error::Invalid(format!("url of {}: {error}", node.id)))?;
            Ok(Node { id: node.id.clone(), url })
        });
        Ok(Self {
            name: address.name.clone(),
            nodes: nodes.collect::<Result<_, Error>>()?,
            first: AtomicUsize::new(0),
            cooling_until_ms: AtomicU64::new(0),
        })
    }

    fn index_of(&self, node: &str) -> Option<usize> {
        self.nodes.iter().position(|other| other.id.as_str() == node)
    }
}

fn give_up(
    route: &Route,
    waited: Duration,
    unknown: bool,
    ever_listened: bool,
    last: Option<(CloudId, Miss)>,
) -> Error {
    let waited = format!("{:.1} s", waited.as_secs_f32());
    let (why, problem) = match last {
        Some((cloud, miss)) => (format!("cloud {cloud}, node {}", miss.why), miss.problem),
        None => ("no attempt was possible".to_owned(), None),
    };
    if unknown {
        return Error::OutcomeUnknown(format!("no certain answer within {waited}; last: {why}"));
    }
    if !ever_listened {
        let whom = match route {
            Route::Only(cloud) => format!("no node of cloud {cloud} answers"),
            _ => "no node of any cloud answers".to_owned(),
        };
        return Error::NoQuorum(format!(
            "{whom} (tried for {waited}); is it running? Start it with `tercetd up`, or see `tercet status`. Last: {why}"
        ));
    }
    match problem {
        Some(problem) if problem.code == "not_leader" => Error::NotLeader(problem),
        // A cloud without a leader cannot act; any other refusal speaks for itself.
        Some(problem)
            if !problem.code.is_empty() && !matches!(problem.code.as_str(), "no_leader" | "epoch_not_open") =>
        {
            Error::Refused(problem)
        }
        _ => Error::NoQuorum(format!("nothing was done within {waited}; last: {why}")),
    }
}

/// Half to all of the pause, so that clients that failed together do not return together.
fn jittered(pause: Duration) -> Duration {
    let mut random = [0; 2];
    // Without random bytes the pause is only less spread.
    let _ = getrandom::fill(&mut random);
    let half = pause / 2;
    half + half * u32::from(u16::from_le_bytes(random)) / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{CloudAddress, NodeAddress};

    fn client() -> Client {
        let cloud = |name: &str, port: u16| CloudAddress {
            name: CloudId::new(name).unwrap(),
            nodes: vec![NodeAddress {
                id: NodeId::new(format!("{name}-1")).unwrap(),
                url: format!("https://127.0.0.1:{port}"),
            }],
        };
        let clouds = [cloud("aws", 1), cloud("azure", 1), cloud("gcp", 1)];
        Client {
            transport: Transport::new(b"", "token").unwrap(),
            clouds: clouds.iter().map(|cloud| Cloud::new(cloud).unwrap()).collect(),
            patience: Patience::interactive(Duration::from_secs(5)),
            born: Instant::now(),
            start: 2,
        }
    }

    fn names(order: &[&Cloud]) -> String {
        order.iter().map(|cloud| cloud.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[tokio::test]
    async fn the_preferred_cloud_is_asked_first_and_a_failed_one_last() {
        let client = client();
        assert_eq!(names(&client.order(&Route::Any).unwrap()), "gcp aws azure");
        let azure = CloudId::new("azure").unwrap();
        assert_eq!(names(&client.order(&Route::Prefer(azure.clone())).unwrap()), "azure gcp aws");
        client.clouds[2].cooling_until_ms.store(60_000, Ordering::Relaxed);
        assert_eq!(names(&client.order(&Route::Any).unwrap()), "aws azure gcp");
        assert_eq!(names(&client.order(&Route::Only(azure)).unwrap()), "azure");
        assert!(client.order(&Route::Only(CloudId::new("mars").unwrap())).is_err());
    }

    #[tokio::test]
    async fn a_cluster_that_does_not_run_is_given_up_early() {
        let patience =
            Patience { nobody_listens: Some(Duration::ZERO), ..Patience::interactive(Duration::from_secs(60)) };
        let error = client().send_for(&Route::Any, &Call::get(&["v1", "status"]), patience).await.unwrap_err();
        assert!(matches!(error, Error::NoQuorum(_)), "{error}");
        assert!(error.to_string().contains("tercetd up"), "{error}");
        assert_eq!(error.outcome(), Outcome::None);
    }

    #[test]
    fn jitter_stays_within_the_pause() {
        for _ in 0..100 {
            let pause = jittered(BACKOFF_MAX);
            assert!(pause >= BACKOFF_MAX / 2 && pause <= BACKOFF_MAX);
        }
    }
}
