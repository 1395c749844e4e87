//! Runs one configuration to its end and says what came of it.

use super::clouds::Clouds;
use super::config::Config;
use super::system::FinalityModel;
use serde::Serialize;
use stateright::report::{ReportData, ReportDiscovery, Reporter};
use stateright::{Checker as _, HasDiscoveries, Model};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The property that is never to be broken.
pub const INVARIANTS: &str = "every invariant holds";

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub threads: usize,
    /// Stops at this many steps from the start, rather than where the configuration says.
    pub depth: Option<usize>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub states: usize,
    pub unique: usize,
    pub depth: usize,
}

#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    pub config: &'static str,
    pub about: &'static str,
    /// States generated, repeats included; different ones; and different states of single clouds.
    pub states: usize,
    pub unique: usize,
    pub clouds: usize,
    /// Commands applied by the core, and steps that were replayed after a restart.
    pub applied: usize,
    pub restarts: usize,
    pub depth: usize,
    /// Whether no bound on depth cut anything off.
    pub complete: bool,
    pub seconds: f64,
    /// What had to be reached and was, with the number of steps to the first example.
    pub reached: BTreeMap<&'static str, usize>,
    /// Why the run failed; empty if it is green.
    pub failures: Vec<String>,
    /// The way to a broken invariant.
    pub counterexample: Option<String>,
    /// The ways to what is expected: two FINALs that contradict each other where a cloud lies.
    pub expected: BTreeMap<&'static str, String>,
}

/// What a configuration asks of its run.
pub struct Bounds {
    pub name: &'static str,
    pub about: &'static str,
    /// How many steps from the start are explored unless said otherwise.
    pub depth: usize,
    /// Fewer unique states than this mean that the model did not run.
    pub floor: usize,
    /// What a run must have reached at least once.
    pub reaches: Vec<&'static str>,
}

/// What is explored: a model of some part of the core, in one configuration.
pub trait Explored:
    Model<
        State: Clone + Debug + PartialEq + Hash + Send + Sync + 'static,
        Action: Clone + Debug + PartialEq + Send + Sync + 'static,
    > + Send
    + Sync
    + 'static
{
    fn bounds(&self) -> Bounds;
    /// Which of what is reached is told as a counterexample that has to exist.
    fn expected(&self) -> &'static str;
    fn clouds(&self) -> &Arc<Clouds>;
    /// What is wrong with a state, if anything is.
    fn broken(&self, state: &Self::State) -> Option<String>;
    /// The way to a state, for people.
    fn render(&self, steps: &[(Self::State, Option<Self::Action>)]) -> String;
}

pub fn run(config: Config, limits: Limits, progress: impl FnMut(Progress) + Send) -> Outcome {
    match FinalityModel::new(config) {
        Ok(model) => explore(model, limits, progress),
        Err(broken) => Outcome::broken(config.name, config.about, format!("the clouds cannot even meet: {broken}")),
    }
}

/// Visits every state within the bounds, the nearest first.
pub fn explore<M: Explored>(model: M, limits: Limits, progress: impl FnMut(Progress) + Send) -> Outcome {
    let begun = Instant::now();
    let (clouds, bounds) = (Arc::clone(model.clouds()), model.bounds());
    let builder = model.checker().threads(limits.threads).finish_when(HasDiscoveries::AnyFailures);
    // stateright counts states, the first one included, and does not judge the last.
    let depth = limits.depth.unwrap_or(bounds.depth) + 2;
    let checker = builder.target_max_depth(depth).spawn_bfs().join_and_report(&mut Watch(progress));
    let model = checker.model();
    let mut outcome = Outcome::broken(bounds.name, bounds.about, String::new());
    outcome.failures.clear();
    (outcome.states, outcome.unique) = (checker.state_count(), checker.unique_state_count());
    (outcome.clouds, outcome.depth) = (clouds.count(), checker.max_depth().saturating_sub(1));
    outcome.applied = clouds.applied.load(Ordering::Relaxed);
    outcome.restarts = clouds.restarts.load(Ordering::Relaxed);
    outcome.complete = checker.max_depth() < depth;
    for (name, path) in checker.discoveries() {
        let steps = path.into_vec();
        if name == INVARIANTS {
            let last = &steps.last().expect("a path has a state").0;
            outcome.failures.push(model.broken(last).unwrap_or_else(|| "a violation that does not repeat".into()));
            outcome.counterexample = Some(model.render(&steps));
            continue;
        }
        outcome.reached.insert(name, steps.len() - 1);
        if name == model.expected() {
            outcome.expected.insert(name, model.render(&steps));
        }
    }
    outcome.judge_work(&bounds);
    outcome.seconds = begun.elapsed().as_secs_f64();
    outcome
}

impl Outcome {
    pub(super) fn broken(config: &'static str, about: &'static str, why: String) -> Self {
        Self {
            config,
            about,
            states: 0,
            unique: 0,
            clouds: 0,
            applied: 0,
            restarts: 0,
            depth: 0,
            complete: false,
            seconds: 0.0,
            reached: BTreeMap::new(),
            failures: vec![why],
            counterexample: None,
            expected: BTreeMap::new(),
        }
    }

    pub fn is_green(&self) -> bool {
        self.failures.is_empty()
    }

    /// A run that did too little proves nothing. A violation ends a run early and says enough.
    fn judge_work(&mut self, bounds: &Bounds) {
        if !self.is_green() {
            return;
        }
        if self.unique < bounds.floor {
            let (unique, floor) = (self.unique, bounds.floor);
            self.failures
                .push(format!("only {unique} states were explored, at least {floor} are needed; raise --depth"));
        }
        for reach in bounds.reaches.iter().filter(|reach| !self.reached.contains_key(*reach)) {
            self.failures.push(format!("never reached: {reach}"));
        }
    }
}

struct Watch<F>(F);

impl<F: FnMut(Progress), M: Model> Reporter<M> for Watch<F> {
    fn report_checking(&mut self, data: ReportData) {
        self.0(Progress { states: data.total_states, unique: data.unique_states, depth: data.max_depth });
    }

    fn report_discoveries(&mut self, _: &M, _: BTreeMap<&'static str, ReportDiscovery<M>>)
    where
        M::Action: Debug,
        M::State: Debug + Hash,
    {
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(200)
    }
}
