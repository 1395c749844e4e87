//! No acknowledged event is lost, doubled or changed.

use super::{CLOUDS, acknowledged_contents};
use crate::history::{Record, What};
use std::collections::BTreeMap;

pub fn check(history: &[Record]) -> Result<(), String> {
    let acknowledged = acknowledged_contents(history);
    let told_twice = history.iter().find_map(|record| match &record.what {
        What::Acknowledged { id, content, .. } if acknowledged[id.as_str()] != content => Some((id, content)),
        _ => None,
    });
    if let Some((id, content)) = told_twice {
        return Err(format!("{id} was acknowledged with content {content} and with {}", acknowledged[id.as_str()]));
    }
    for cloud in CLOUDS {
        let mut listed: BTreeMap<&str, Vec<Option<&str>>> = BTreeMap::new();
        for record in history {
            if let What::Listed { cloud: of, id, seen } = &record.what
                && of == cloud
            {
                listed.entry(id).or_default().push(seen.content.as_deref());
            }
        }
        for (id, content) in &acknowledged {
            match listed.get(id).map(Vec::as_slice) {
                None => return Err(format!("{id} was acknowledged and is lost at {cloud}")),
                Some([Some(found)]) if found == content => {}
                Some(found) => {
                    return Err(format!("{id} was acknowledged with content {content}; {cloud} lists {found:?}"));
                }
            }
        }
    }
    Ok(())
}
