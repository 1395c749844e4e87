//! A lie that can be proven is proven: soon after healing every honest cloud holds valid evidence
//! against the liar.

use super::{Run, Verdict};
use crate::history::What;

/// Reading the evidence of three clouds comes after healing, and takes its own time.
const READING_MS: u64 = 60_000;

pub fn check(run: &Run<'_>) -> Verdict {
    let is_detectable = |what: &What| matches!(what, What::Lied { detectable: true, .. });
    let Some(healing) = run.healing else {
        let lied = run.history.iter().any(|record| is_detectable(&record.what));
        let unknown = || Verdict::Unknown("the history does not tell how healing ended".into());
        return if lied { unknown() } else { Verdict::Holds };
    };
    let within_ms = run.limit_ms().unwrap_or(0).min(healing.within_ms);
    let deadline_ms = (healing.time_ms + within_ms).saturating_sub(healing.took_ms) + READING_MS;
    let convictions = run.convictions();
    for record in run.history {
        let What::Lied { cloud: liar, lie, detectable: true } = &record.what else { continue };
        for honest in run.honest() {
            let told = format!("at {} ms {liar} lied ({lie})", record.time_ms());
            match convictions.get(&(honest, liar.as_str())) {
                None => return Verdict::Broken(format!("{told}; {honest} never convicted it")),
                Some(late) if *late > deadline_ms => {
                    return Verdict::Broken(format!(
                        "{told}; {honest} convicted it at {late} ms, after {deadline_ms} ms"
                    ));
                }
                Some(_) => {}
            }
        }
    }
    Verdict::Holds
}
