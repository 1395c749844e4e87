//! The table of what caught each bug, as it stands in the README.

use super::Verdict;
use anyhow::{Result, bail};
use tercet_core::mutants::find;

const BEGIN: &str = "<!-- mutants:begin -->";
const END: &str = "<!-- mutants:end -->";

/// The table in Markdown.
pub fn render(verdicts: &[Verdict]) -> String {
    let mut out = String::from(
        "| planted bug | where | caught by | after | seconds | what did not hold |\n|---|---|---|---|---|---|\n",
    );
    for verdict in verdicts {
        let Some(mutant) = verdict.mutant.and_then(find) else { continue };
        let (bug, name, place) = (mutant.bug(), mutant.name(), mutant.place());
        let row = match verdict.caught() {
            Some(attempt) => {
                let found = attempt.found.as_deref().unwrap_or_default().replace('|', "\\|");
                format!("{} | {} | {:.1} | {found}", attempt.layer.name(), attempt.effort, attempt.seconds)
            }
            None => {
                let tried: Vec<_> =
                    verdict.attempts.iter().map(|a| format!("{}: {}", a.layer.name(), a.effort)).collect();
                format!("**nothing** | {} | | ", tried.join(", "))
            }
        };
        out += &format!("| {bug} (`{name}`) | `{place}` | {row} |\n");
    }
    out
}

/// Puts the table between its two marks.
pub fn write_into(readme: &str, table: &str) -> Result<String> {
    let (Some(begin), Some(end)) = (readme.find(BEGIN), readme.find(END)) else {
        bail!("the README has no lines {BEGIN} and {END}; add them where the table belongs");
    };
    if end < begin {
        bail!("in the README {END} stands before {BEGIN}");
    }
    Ok(format!("{}{BEGIN}\n{table}{}", &readme[..begin], &readme[end..]))
}

#[cfg(test)]
mod tests {
    use super::super::{Attempt, Layer};
    use super::*;

    #[test]
    fn the_table_replaces_the_one_before_and_nothing_else() {
        let readme = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let once = write_into(&readme, "| new |\n").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\n| new |\n{END}\nafter\n"));
        assert_eq!(write_into(&once, "| new |\n").unwrap(), once);
        assert!(write_into("no marks", "").is_err());
    }

    #[test]
    fn a_bug_that_nothing_caught_is_shown_as_such() {
        let attempt = |found| Attempt { layer: Layer::Sim, effort: "3 seeds".into(), seconds: 1.25, found };
        let verdict = |found| Verdict { mutant: Some("DedupOff"), attempts: vec![attempt(found)] };
        assert!(render(&[verdict(None)]).contains("**nothing** | simulation: 3 seeds"));
        assert!(render(&[verdict(Some("a|b".into()))]).contains("| simulation | 3 seeds | 1.2 | a\\|b |"));
    }
}
