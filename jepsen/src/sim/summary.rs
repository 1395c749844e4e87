//! What is worth knowing of a run when there are thousands: passed on by the process that ran it.

use super::run::Report;
use super::views::Checks;
use crate::checker;
use crate::history::What;
use crate::workload::leases::tenures;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub seed: u64,
    /// Of everything that happened: the same seed gives the same.
    pub digest: String,
    pub simulated_s: f64,
    pub real_s: f64,
    pub frames: u64,
    pub acknowledged: usize,
    /// Tenures of all leases, and writes that came too late and were refused.
    pub tenures: usize,
    pub refused_writes: usize,
    /// The cloud that lied, and how.
    pub liar: Option<String>,
    /// Pieces of evidence that honest clouds hold at the end.
    pub convictions: usize,
    /// Events of which two contents became FINAL, under a liar.
    pub conflicts: usize,
    /// How often the invariants of states were evaluated.
    pub invariant_checks: Checks,
    /// How often each fault began, and met something.
    pub faults: BTreeMap<String, usize>,
    /// Faults that met nothing.
    pub missed: usize,
    pub failures: Vec<Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub invariant: String,
    pub why: String,
}

impl Summary {
    pub fn of(report: &Report) -> Self {
        let (mut faults, mut numbers) = (BTreeMap::new(), BTreeMap::new());
        let (mut acknowledged, mut missed, mut refused_writes, mut convicted) = (0, 0, 0, BTreeSet::new());
        for record in &report.history {
            match &record.what {
                What::FaultBegan { number, fault, .. } => drop(numbers.insert(*number, fault.clone())),
                What::FaultProven { number, .. } => {
                    *faults.entry(numbers.get(number).cloned().unwrap_or_default()).or_default() += 1;
                }
                What::Acknowledged { .. } => acknowledged += 1,
                What::FaultMissed { .. } => missed += 1,
                What::Wrote { accepted: false, .. } => refused_writes += 1,
                What::Convicted { by, evidence, .. } => drop(convicted.insert((by, evidence))),
                _ => {}
            }
        }
        let failure = |(invariant, why): (&str, String)| Failure { invariant: invariant.to_owned(), why };
        Self {
            seed: report.seed,
            digest: format!("{:016x}", report.digest),
            simulated_s: report.simulated.as_secs_f64(),
            real_s: report.real.as_secs_f64(),
            frames: report.frames,
            acknowledged,
            tenures: tenures(&report.history).values().sum(),
            refused_writes,
            liar: report.swarm.liar.as_ref().map(|(cloud, lie)| format!("{cloud}: {}", lie.name())),
            convictions: convicted.len(),
            conflicts: report.conflicts,
            invariant_checks: report.checks,
            faults,
            missed,
            failures: checker::failures(&report.history).into_iter().map(failure).collect(),
        }
    }
}
