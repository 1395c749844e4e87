//! The mutant gate: bugs planted in the product (`tercet_core::mutants`), and which layers find each.
//! A layer that cannot find them is not believed when it finds nothing. Every layer looks for every bug
//! that it can meet, so the table tells what each of them is worth. The switch is one for the whole
//! process, so every attempt is a process of its own. Before any bug counts as caught, each layer must
//! find nothing in the product as it is.

mod programs;
mod table;

pub use programs::Programs;
pub use table::{cell, render, summary, write_into};

use futures::StreamExt as _;
use serde::Serialize;
use std::time::Duration;
use tercet_core::mutants::Mutant;
use tokio::time::Instant;

/// One of the ways in which a bug can be found, in the order of the table's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The tests of `tercet-core`
    Core,
    /// The tests of `tercetd`
    Node,
    /// `jepsen sim`, several seeds
    Sim,
    /// `jepsen model --config all`
    Model,
    /// `jepsen real`
    Real,
}

impl Layer {
    /// Without being asked for, the real layer is left out: it takes minutes for each bug.
    pub const DEFAULT: [Self; 4] = [Self::Core, Self::Node, Self::Sim, Self::Model];

    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "core tests",
            Self::Node => "node tests",
            Self::Sim => "simulation",
            Self::Model => "model",
            Self::Real => "real",
        }
    }

    /// Whether this layer runs the code that the bug is planted in: the tests of the core and the model run
    /// nothing but `state-machine/`.
    pub fn can_meet(self, mutant: Mutant) -> bool {
        !matches!(self, Self::Core | Self::Model) || mutant.place().starts_with("state-machine/")
    }
}

/// How hard each layer tries.
#[derive(Debug, Clone)]
pub struct Effort {
    pub layers: Vec<Layer>,
    /// Seeds of the simulation, from 0.
    pub seeds: u64,
    /// Simulated time of one seed, and the time and the faults of the real layer's one run.
    pub sim_time: String,
    pub real_time: String,
    pub nemesis: String,
    /// How long one process may take.
    pub limit: Duration,
    /// How many bugs are looked for at the same time.
    pub jobs: usize,
}

/// What a layer did, as it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Work {
    /// Tests that ran until one failed.
    Tests(usize),
    /// Seeds that ran, and those of them with a broken invariant.
    Seeds { run: u64, broken: u64 },
    /// States that were explored, and the configuration that turned red.
    Model { states: u64, red: Option<String> },
    /// The time that a nemesis had.
    Real { time: String },
}

/// What one layer said of one bug.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    pub layer: Layer,
    pub work: Work,
    /// What did not hold first; `None` if the layer found nothing.
    pub found: Option<String>,
    pub seconds: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The planted bug, or the product as it is.
    pub mutant: Option<&'static str>,
    /// One for each layer that can meet the bug.
    pub attempts: Vec<Attempt>,
}

impl Verdict {
    pub fn is_caught(&self) -> bool {
        self.finds().next().is_some()
    }

    /// The attempts that found something.
    pub fn finds(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| attempt.found.is_some())
    }

    pub fn of(&self, layer: Layer) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.layer == layer)
    }
}

/// Every layer on the product as it is, until one finds something: each must find nothing, with as many
/// seeds as any bug gets.
pub async fn baseline(programs: &Programs, effort: &Effort) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict { mutant: None, attempts: Vec::new() };
    for layer in &effort.layers {
        verdict.attempts.push(attempt(programs, effort, *layer, None).await?);
        if verdict.is_caught() {
            break;
        }
    }
    Ok(verdict)
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
    let mut hunting = futures::stream::iter(hunts).buffer_unordered(effort.jobs);
    let mut verdicts = Vec::new();
    while let Some(done) = hunting.next().await {
        let (at, verdict) = done?;
        tell(&verdict);
        verdicts.push((at, verdict));
    }
    verdicts.sort_by_key(|(at, _)| *at);
    Ok(verdicts.into_iter().map(|(_, verdict)| verdict).collect())
}

/// Asks every layer that can meet the bug, one after the other.
async fn hunt(programs: &Programs, effort: &Effort, mutant: Mutant) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict { mutant: Some(mutant.name()), attempts: Vec::new() };
    for layer in effort.layers.iter().filter(|layer| layer.can_meet(mutant)) {
        verdict.attempts.push(attempt(programs, effort, *layer, Some(mutant)).await?);
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
    let (work, found) = match layer {
        Layer::Core | Layer::Node => programs.tests(layer, mutant, effort.limit).await?,
        Layer::Model => programs.model(mutant, effort.limit).await?,
        Layer::Sim => programs.sim(mutant, effort).await?,
        Layer::Real => programs.real(mutant, effort).await?,
    };
    Ok(Attempt { layer, work, found, seconds: begun.elapsed().as_secs_f64() })
}
