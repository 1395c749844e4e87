//! After healing, everything that was acknowledged becomes SEALED everywhere, within the bound and
//! with no operator.

use super::acknowledged_contents;
use crate::history::{Record, What};

pub fn check(history: &[Record]) -> Result<(), String> {
    let healed = history.iter().rev().find_map(|record| match &record.what {
        What::Healed { took_ms, within_ms, complete, .. } => Some((*took_ms, *within_ms, *complete)),
        _ => None,
    });
    let Some((took_ms, within_ms, complete)) = healed else {
        return Err("the history does not tell how healing ended".into());
    };
    if !complete || took_ms > within_ms {
        return Err(format!("not everything was SEALED after {took_ms} ms; {within_ms} ms are allowed"));
    }
    let acknowledged = acknowledged_contents(history);
    for record in history {
        if let What::Listed { cloud, id, seen } = &record.what
            && acknowledged.contains_key(id.as_str())
            && !seen.is_sealed()
        {
            return Err(format!("{cloud} lists {id} as {}", seen.level));
        }
    }
    Ok(())
}
