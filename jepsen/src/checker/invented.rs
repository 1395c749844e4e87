//! Clouds hold only what clients submitted, with the content that they submitted.

use crate::history::{Record, What};
use std::collections::BTreeMap;

/// What `tercetd up` submits itself at every start.
const GREETING: &str = "hello-";

pub fn check(history: &[Record]) -> Result<(), String> {
    let mut invoked = BTreeMap::new();
    for record in history {
        if let What::Invoked { id, content, .. } = &record.what {
            invoked.insert(id, content);
        }
    }
    for record in history {
        if let What::Listed { cloud, id, seen } = &record.what {
            if id.starts_with(GREETING) {
                continue;
            }
            let Some(submitted) = invoked.get(id) else {
                return Err(format!("{cloud} lists {id}, which nobody submitted"));
            };
            if seen.content.as_ref() != Some(submitted) {
                return Err(format!("{id} was submitted with content {submitted}; {cloud} lists {:?}", seen.content));
            }
        }
    }
    Ok(())
}
