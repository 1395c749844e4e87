//! The mutant gate: bugs planted in the product (`tercet_core::mutants`), and which layer finds each.
//! A layer that cannot find them is not believed when it finds nothing. The switch is one for the
//! whole process, so every attempt is a process of its own. Before any bug counts as caught, each
//! layer must find nothing in the product as it is.

mod programs;
mod table;

pub use programs::Programs;
pub use table::{render, write_into};

use futures::StreamExt as _;
use serde::Serialize;
use std::time::Duration;
use tercet_core::mutants::{self, Mutant};
use tokio::time::Instant;

/// One of the ways in which a bug can be found, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The tests of `tercet-core`
    Core,
    /// `jepsen model --config all`
    Model,
    /// `jepsen sim`, one seed after the other
    Sim,
    /// The tests of `tercetd`
    Node,
    /// `jepsen real`
    Real,
}

impl Layer {
    /// Without being asked for, the real layer is left out: it needs root for most of its faults.
    pub const DEFAULT: [Self; 4] = [Self::Core, Self::Model, Self::Sim, Self::Node];

    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "core tests",
            Self::Model => "model",
            Self::Sim => "simulation",
            Self::Node => "node tests",
            Self::Real => "real",
        }
    }

    fn expected_for(mutant: Mutant) -> Self {
        match mutant.expected() {
            mutants::Layer::Core => Self::Core,
            mutants::Layer::Node => Self::Node,
            mutants::Layer::Model => Self::Model,
            mutants::Layer::Simulation => Self::Sim,
        }
    }
}

/// How hard each layer tries before it gives up.
#[derive(Debug, Clone)]
pub struct Effort {
    pub layers: Vec<Layer>,
    /// Seeds of the simulation, from 0.
    pub seeds: u64,
    /// Simulated time of one seed, and the time of the real layer's one run.
    pub sim_time: String,
    pub real_time: String,
    /// How long one process may take.
    pub limit: Duration,
    /// How many bugs are looked for at the same time.
    pub jobs: usize,
}

/// What one layer said.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    pub layer: Layer,
    /// What it took, as the layer counts: seeds, states, tests.
    pub effort: String,
    pub seconds: f64,
    /// What did not hold; `None` if the layer found nothing.
    pub found: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The planted bug, or the product as it is.
    pub mutant: Option<&'static str>,
    pub attempts: Vec<Attempt>,
}

impl Verdict {
    /// The attempt that found something: the last one, since then no other layer is asked.
    pub fn caught(&self) -> Option<&Attempt> {
        self.attempts.last().filter(|attempt| attempt.found.is_some())
    }
}

/// Every layer on the product as it is: each must find nothing, with as many seeds as any bug gets.
pub async fn baseline(programs: &Programs, effort: &Effort) -> anyhow::Result<Verdict> {
    let mut attempts = Vec::new();
    for layer in &effort.layers {
        attempts.push(attempt(programs, effort, *layer, None).await?);
        if attempts.last().is_some_and(|attempt| attempt.found.is_some()) {
            break;
        }
    }
    Ok(Verdict { mutant: None, attempts })
}

/// Looks for each of these bugs, and tells each verdict as it comes. In the order of `which`.
pub async fn run(
    programs: &Programs,
    effort: &Effort,
    which: &[Mutant],
    tell: impl Fn(&Verdict),
) -> anyhow::Result<Vec<Verdict>> {
    let hunts = which.iter().enumerate().map(|(at, mutant)| async move {
        let verdict = hunt(programs, effort, *mutant).await?;
        anyhow::Ok((at, verdict))
    });
    let mut hunting = futures::stream::iter(hunts).buffer_unordered(effort.jobs.max(1));
    let mut verdicts = Vec::new();
    while let Some(done) = hunting.next().await {
        let (at, verdict) = done?;
        tell(&verdict);
        verdicts.push((at, verdict));
    }
    verdicts.sort_by_key(|(at, _)| *at);
    Ok(verdicts.into_iter().map(|(_, verdict)| verdict).collect())
}

/// Asks one layer after the other, the expected one first, until one finds something.
async fn hunt(programs: &Programs, effort: &Effort, mutant: Mutant) -> anyhow::Result<Verdict> {
    let expected = Layer::expected_for(mutant);
    let (mut layers, rest): (Vec<_>, Vec<_>) = effort.layers.iter().partition(|layer| **layer == expected);
    layers.extend(rest);
    let mut verdict = Verdict { mutant: Some(mutant.name()), attempts: Vec::new() };
    for layer in layers {
        verdict.attempts.push(attempt(programs, effort, layer, Some(mutant)).await?);
        if verdict.caught().is_some() {
            break;
        }
    }
    Ok(verdict)
}

async fn attempt(
    programs: &Programs,
    effort: &Effort,
    layer: Layer,
    mutant: Option<Mutant>,
) -> anyhow::Result<Attempt> {
    let begun = Instant::now();
    let (effort, found) = match layer {
        Layer::Core | Layer::Node => programs.tests(layer, mutant, effort.limit).await?,
        Layer::Model => programs.model(mutant, effort.limit).await?,
        Layer::Sim => programs.sim(mutant, effort).await?,
        Layer::Real => programs.real(mutant, effort).await?,
    };
    Ok(Attempt { layer, effort, seconds: begun.elapsed().as_secs_f64(), found })
}
