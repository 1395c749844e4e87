//! A history with what most invariants ask of it: who was honest, which submission had which
//! outcome, which ids were used with several contents, and which clouds lost their state.

use super::Verdict;
use crate::history::{LOST_STATE, Record, What};
use crate::settle;
use std::collections::{BTreeMap, BTreeSet};

/// One submission of a client, from its invocation to its answer. Places are indexes of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submission<'a> {
    pub client: u64,
    pub cloud: &'a str,
    pub id: &'a str,
    pub content: &'a str,
    pub invoked: usize,
    pub returned: Option<usize>,
    pub outcome: Outcome<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    Acknowledged {
        content: &'a str,
        new: bool,
        repeated: bool,
    },
    Refused {
        code: &'a str,
        first: Option<&'a str>,
    },
    /// It may have happened, or may still happen; also when the history ends before the answer.
    Unknown,
}

/// How healing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Healing<'a> {
    pub at: usize,
    pub time_ms: u64,
    pub took_ms: u64,
    pub within_ms: u64,
    pub complete: bool,
    pub missing: Option<&'a str>,
}

/// A fault, from its first record to its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault<'a> {
    pub number: u64,
    pub name: &'a str,
    pub on: &'a [String],
    pub began: usize,
    pub proven: Option<usize>,
    /// How it was proven.
    pub how: Option<&'a str>,
    /// It met nothing, and says so.
    pub missed: bool,
    pub ended: Option<usize>,
}

#[derive(Debug)]
pub struct Run<'a> {
    pub history: &'a [Record],
    pub clouds: Vec<&'a str>,
    pub nodes: Vec<&'a str>,
    pub liars: BTreeSet<&'a str>,
    pub submissions: Vec<Submission<'a>>,
    /// The contents that each id was submitted with.
    pub contents: BTreeMap<&'a str, BTreeSet<&'a str>>,
    pub faults: Vec<Fault<'a>>,
    pub healing: Option<Healing<'a>>,
}

impl<'a> Run<'a> {
    /// Says why a history cannot be judged at all.
    pub fn of(history: &'a [Record]) -> Result<Self, String> {
        let Some(Record { what: What::Run { clouds, nodes, liars, .. }, .. }) = history.first() else {
            return Err("the history does not begin with the record of its run".into());
        };
        if let Some(at) = history.windows(2).position(|pair| pair[1].time_ns < pair[0].time_ns) {
            return Err(format!("record {}: time goes backwards", at + 1));
        }
        let submissions = submissions(history)?;
        let mut contents: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for submission in &submissions {
            contents.entry(submission.id).or_default().insert(submission.content);
        }
        Ok(Self {
            history,
            clouds: clouds.iter().map(String::as_str).collect(),
            nodes: nodes.iter().map(String::as_str).collect(),
            liars: liars.iter().map(String::as_str).collect(),
            submissions,
            contents,
            faults: faults(history)?,
            healing: healing(history),
        })
    }

    pub fn layer(&self) -> &'a str {
        match &self.history[0].what {
            What::Run { layer, .. } => layer,
            _ => unreachable!("`of` saw the record of the run"),
        }
    }

    pub fn is_honest(&self, cloud: &str) -> bool {
        !self.liars.contains(cloud)
    }

    pub fn honest(&self) -> impl Iterator<Item = &'a str> {
        self.clouds.iter().copied().filter(|cloud| self.is_honest(cloud))
    }

    /// Whether clients used the id with more than one content: then clouds may vote differently.
    pub fn is_contested(&self, id: &str) -> bool {
        self.contents.get(id).is_some_and(|contents| contents.len() > 1)
    }

    /// What honest clouds acknowledged. No loss excuses any of it: before a fault takes a whole cloud's
    /// state it keeps clients away and waits until the others hold everything.
    pub fn owed(&self) -> impl Iterator<Item = &Submission<'a>> {
        self.submissions.iter().filter(|submission| {
            matches!(submission.outcome, Outcome::Acknowledged { .. }) && self.is_honest(submission.cloud)
        })
    }

    /// How long everything may take to settle, in milliseconds; no history sets its own bound.
    pub fn limit_ms(&self) -> Option<u64> {
        let limit = match self.layer() {
            "sim" => settle::SIM_LIMIT,
            "real" => settle::REAL_LIMIT,
            _ => return None,
        };
        Some(limit.as_millis() as u64)
    }

    /// When each honest cloud first held valid evidence against each liar.
    pub fn convictions(&self) -> BTreeMap<(&'a str, &'a str), u64> {
        let mut first = BTreeMap::new();
        for record in self.history {
            if let What::Convicted { by, cloud, valid: true, .. } = &record.what
                && self.is_honest(by)
            {
                first.entry((by.as_str(), cloud.as_str())).or_insert_with(|| record.time_ms());
            }
        }
        first
    }

    /// The faults that took a whole cloud's state.
    pub fn losses<'b>(&'b self, cloud: &'b str) -> impl Iterator<Item = &'b Fault<'a>> {
        self.faults.iter().filter(move |fault| fault.name.starts_with(LOST_STATE) && self.takes_all(fault, cloud))
    }

    fn takes_all(&self, fault: &Fault<'_>, cloud: &str) -> bool {
        let hit = |node: &str| fault.on.iter().any(|on| on == node);
        hit(cloud) || (self.nodes_of(cloud).next().is_some() && self.nodes_of(cloud).all(hit))
    }

    /// Nodes are named after their cloud: `aws-1`.
    pub fn nodes_of<'b>(&'b self, cloud: &'b str) -> impl Iterator<Item = &'a str> + 'b {
        self.nodes.iter().copied().filter(move |node| cloud_of(node) == cloud)
    }

    /// What the clouds said at the end can be judged if they were asked and answered; says why not.
    /// One cloud that lists nothing beside others that do has lost everything.
    pub fn ended(&self) -> Result<Healing<'a>, Verdict> {
        let untold = || Verdict::Unknown("the history does not tell how healing ended".into());
        let healing = self.healing.ok_or_else(untold)?;
        let listed = || self.history.iter().any(|record| matches!(record.what, What::Listed { .. }));
        if healing.complete || listed() {
            return Ok(healing);
        }
        let missing = healing.missing.unwrap_or("no reason is told");
        Err(Verdict::Unknown(format!("no cloud could be asked for its events at the end: {missing}")))
    }

    pub fn time_ms(&self, at: usize) -> u64 {
        self.history[at].time_ms()
    }
}

pub fn cloud_of(node: &str) -> &str {
    node.rsplit_once('-').map_or(node, |(cloud, _)| cloud)
}

/// A client waits for its answer before it asks again, so an answer belongs to its last question.
fn submissions(history: &[Record]) -> Result<Vec<Submission<'_>>, String> {
    let mut all: Vec<Submission<'_>> = Vec::new();
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    for (at, record) in history.iter().enumerate() {
        let (client, id, outcome) = match &record.what {
            What::Invoked { client, cloud, id, content } => {
                let (client, outcome) = (*client, Outcome::Unknown);
                if open.insert(client, all.len()).is_some() {
                    return Err(format!("record {at}: client {client} submits {id} before its last one was answered"));
                }
                all.push(Submission { client, cloud, id, content, invoked: at, returned: None, outcome });
                continue;
            }
            What::Acknowledged { client, id, content, new, repeated, .. } => {
                (client, id, Outcome::Acknowledged { content, new: *new, repeated: *repeated })
            }
            What::Refused { client, id, code, first, .. } => {
                (client, id, Outcome::Refused { code, first: first.as_deref() })
            }
            What::Unknown { client, id, .. } => (client, id, Outcome::Unknown),
            _ => continue,
        };
        let asked = open.remove(client).map(|asked| &mut all[asked]);
        let asked = asked.filter(|asked| asked.id == id);
        let asked = asked.ok_or_else(|| format!("record {at}: client {client} did not ask about {id}"))?;
        (asked.returned, asked.outcome) = (Some(at), outcome);
    }
    Ok(all)
}

fn faults(history: &[Record]) -> Result<Vec<Fault<'_>>, String> {
    let mut all: Vec<Fault<'_>> = Vec::new();
    for (at, record) in history.iter().enumerate() {
        let number = match &record.what {
            What::FaultBegan { number, fault, on, .. } => {
                if all.iter().any(|fault| fault.number == *number) {
                    return Err(format!("record {at}: fault {number} began twice"));
                }
                all.push(Fault {
                    number: *number,
                    name: fault,
                    on,
                    began: at,
                    proven: None,
                    how: None,
                    missed: false,
                    ended: None,
                });
                continue;
            }
            What::FaultMissed { number, .. } | What::FaultProven { number, .. } | What::FaultEnded { number } => number,
            _ => continue,
        };
        let fault = all.iter_mut().find(|fault| fault.number == *number);
        let fault = fault.ok_or_else(|| format!("record {at}: fault {number} never began"))?;
        match &record.what {
            What::FaultProven { how, .. } => (fault.proven, fault.how) = (Some(at), Some(how.as_str())),
            What::FaultMissed { .. } => fault.missed = true,
            _ => fault.ended = Some(at),
        }
    }
    Ok(all)
}

fn healing(history: &[Record]) -> Option<Healing<'_>> {
    history.iter().enumerate().rev().find_map(|(at, record)| match &record.what {
        What::Healed { took_ms, within_ms, complete, missing } => Some(Healing {
            at,
            time_ms: record.time_ms(),
            took_ms: *took_ms,
            within_ms: *within_ms,
            complete: *complete,
            missing: missing.as_deref(),
        }),
        _ => None,
    })
}
