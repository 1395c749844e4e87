//! Evidence convicts liars only. A liar may spread junk against others, but nothing that verifies.

use super::{Run, Verdict};
use crate::history::What;

pub fn check(run: &Run<'_>) -> Verdict {
    accused(run).into()
}

fn accused(run: &Run<'_>) -> Result<(), String> {
    for record in run.history {
        let What::Convicted { by, cloud, evidence, valid } = &record.what else { continue };
        let at = record.time_ms();
        if *valid && run.is_honest(cloud) {
            return Err(format!("at {at} ms {by} holds valid evidence {evidence} against {cloud}, which is honest"));
        }
        if !valid && run.is_honest(by) {
            return Err(format!("at {at} ms {by} holds evidence {evidence} against {cloud}, which does not verify"));
        }
    }
    Ok(())
}
