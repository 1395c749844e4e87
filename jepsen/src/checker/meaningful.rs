//! A run proves something only if the nemesis did both harms, clients were served all the time, in
//! the storm as well, and observers saw events become FINAL.

use super::acknowledged_contents;
use crate::history::{Harm, Record, What};

/// The least work of a run, and the least while some harm lasts.
const LEAST_EVENTS: usize = 100;
const LEAST_IN_STORM: usize = 10;
const LEAST_FINAL_SEEN: usize = 20;

pub fn check(history: &[Record]) -> Result<(), String> {
    for harm in [Harm::KillLeader, Harm::KillCloud] {
        let done = |record: &&Record| matches!(&record.what, What::Harmed { how, nodes, .. } if *how == harm && !nodes.is_empty());
        let times = history.iter().filter(done).count();
        if times == 0 {
            return Err(format!("rejected: the nemesis never did {harm:?}"));
        }
    }
    let events = acknowledged_contents(history).len();
    if events < LEAST_EVENTS {
        return Err(format!("rejected: {events} events were acknowledged, at least {LEAST_EVENTS} are needed"));
    }
    let (mut storm, mut served) = (None, 0);
    for record in history {
        match &record.what {
            What::Harmed { how, cloud, .. } => (storm, served) = (Some((*how, cloud)), 0),
            What::Acknowledged { .. } => served += 1,
            What::Restored { .. } => {
                if let Some((how, cloud)) = storm.take()
                    && served < LEAST_IN_STORM
                {
                    return Err(format!(
                        "rejected: {served} submissions were acknowledged during {how:?} of {cloud}, at least {LEAST_IN_STORM} are needed"
                    ));
                }
            }
            _ => {}
        }
    }
    let is_final = |record: &&Record| matches!(&record.what, What::Observed { level, .. } if level == "FINAL" || level == "SEALED");
    let seen = history.iter().filter(is_final).count();
    if seen < LEAST_FINAL_SEEN {
        return Err(format!("rejected: observers saw {seen} FINAL events, at least {LEAST_FINAL_SEEN} are needed"));
    }
    Ok(())
}
