//! The table of what each layer says of each bug, as it stands in the README.

use super::{Attempt, Layer, Verdict, Work};
use anyhow::{Result, bail};
use tercet_core::mutants::find;

const BEGIN: &str = "<!-- mutants:begin -->";
const END: &str = "<!-- mutants:end -->";
/// Of a layer that does not run the code which the bug is planted in.
const CANNOT_MEET: &str = "–";

/// In Markdown: a row for each bug, a column for each layer, and how many each layer caught.
pub fn render(verdicts: &[Verdict], layers: &[Layer]) -> String {
    let names: String = layers.iter().map(|layer| format!(" {} |", layer.name())).collect();
    let mut out = format!("| planted bug | where |{names}\n|---|---|{}\n", "---|".repeat(layers.len()));
    for verdict in verdicts {
        let Some(mutant) = verdict.mutant.and_then(find) else { continue };
        let (bug, name, place) = (mutant.bug(), mutant.name(), mutant.place());
        let cells: String = layers.iter().map(|layer| format!(" {} |", emphasized(verdict.of(*layer)))).collect();
        out += &format!("| {bug} (`{name}`) | `{place}` |{cells}\n");
    }
    out += "\n";
    for line in summary(verdicts, layers) {
        out += &format!("- {line}\n");
    }
    out
}

/// How many of the bugs each layer caught, a line each.
pub fn summary(verdicts: &[Verdict], layers: &[Layer]) -> Vec<String> {
    let line = |layer: &Layer| {
        let met: Vec<&Attempt> = verdicts.iter().filter_map(|verdict| verdict.of(*layer)).collect();
        let caught = met.iter().filter(|attempt| attempt.found.is_some()).count();
        let told = format!("{}: caught {caught} of {}", layer.name(), verdicts.len());
        match verdicts.len() - met.len() {
            0 => told,
            others => format!("{told}; {others} are in code that it does not run"),
        }
    };
    let mut lines: Vec<String> = layers.iter().map(line).collect();
    let caught = verdicts.iter().filter(|verdict| verdict.is_caught()).count();
    lines.push(format!("all together: caught {caught} of {}", verdicts.len()));
    lines
}

/// What a layer found, or how much it did and found nothing.
pub fn cell(attempt: &Attempt) -> String {
    let found = attempt.found.as_deref();
    match (&attempt.work, found) {
        (Work::Tests(_), Some(test)) => test.rsplit("::").next().unwrap_or(test).to_owned(),
        (Work::Tests(count), None) => format!("{count} tests pass"),
        // It was ended before it could tell of any seed.
        (Work::Seeds { run: 0, .. }, Some(found)) => found.to_owned(),
        (Work::Seeds { run, broken }, Some(found)) => format!("{broken} of {run} seeds: {found}"),
        (Work::Seeds { run, .. }, None) => format!("0 of {run} seeds"),
        (Work::Model { red: Some(config), .. }, Some(_)) => config.clone(),
        (Work::Model { .. } | Work::Real { .. }, Some(found)) => found.to_owned(),
        (Work::Model { .. }, None) => "holds".to_owned(),
        (Work::Real { time }, None) => format!("holds for {time}"),
    }
}

/// What caught a bug stands out.
fn emphasized(attempt: Option<&Attempt>) -> String {
    match attempt {
        None => CANNOT_MEET.to_owned(),
        Some(attempt) => {
            let text = cell(attempt).replace('|', "\\|");
            if attempt.found.is_some() { format!("**{text}**") } else { text }
        }
    }
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
    use super::*;

    const LAYERS: [Layer; 3] = [Layer::Core, Layer::Node, Layer::Sim];

    fn attempt(layer: Layer, work: Work, found: Option<&str>) -> Attempt {
        Attempt { layer, work, found: found.map(str::to_owned), seconds: 1.0 }
    }

    fn verdict(mutant: &'static str, attempts: Vec<Attempt>) -> Verdict {
        Verdict { mutant: Some(mutant), attempts }
    }

    #[test]
    fn the_table_replaces_the_one_before_and_nothing_else() {
        let readme = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let once = write_into(&readme, "| new |\n").unwrap();
        assert_eq!(once, format!("before\n{BEGIN}\n| new |\n{END}\nafter\n"));
        assert_eq!(write_into(&once, "| new |\n").unwrap(), once);
        assert!(write_into("no marks", "").is_err());
    }

    #[test]
    fn a_row_tells_what_every_layer_says_and_which_cannot_meet_the_bug() {
        let sim = attempt(Layer::Sim, Work::Seeds { run: 6, broken: 5 }, Some("a|b"));
        let node = attempt(Layer::Node, Work::Tests(118), None);
        let table = render(&[verdict("VotesNotSynced", vec![node, sim])], &LAYERS);
        assert!(
            table.contains("| planted bug | where | core tests | node tests | simulation |\n|---|---|---|---|---|\n")
        );
        assert!(table.contains("| – | 118 tests pass | **5 of 6 seeds: a\\|b** |"), "{table}");
        assert!(table.contains("- core tests: caught 0 of 1; 1 are in code that it does not run\n"), "{table}");
    }

    #[test]
    fn each_layer_is_summed_up_and_so_are_all_together() {
        let core = |found| attempt(Layer::Core, Work::Tests(3), found);
        let sim = |found| attempt(Layer::Sim, Work::Seeds { run: 2, broken: 0 }, found);
        let verdicts = [
            verdict("DedupOff", vec![core(Some("events::a_test")), sim(Some("x"))]),
            verdict("VotesTwice", vec![core(None), sim(Some("x"))]),
            verdict("QuorumOfOne", vec![core(None), sim(None)]),
        ];
        let told = summary(&verdicts, &[Layer::Core, Layer::Sim]);
        assert_eq!(
            told,
            ["core tests: caught 1 of 3", "simulation: caught 2 of 3", "all together: caught 2 of 3"]
                .map(str::to_owned)
        );
    }

    #[test]
    fn a_cell_is_short_whatever_the_layer() {
        let tests = |found| cell(&attempt(Layer::Core, Work::Tests(7), found));
        assert_eq!(tests(Some("raft::tests::a_vote_is_kept")), "a_vote_is_kept");
        assert_eq!(tests(None), "7 tests pass");
        let seeds = |run, broken, found| cell(&attempt(Layer::Sim, Work::Seeds { run, broken }, found));
        assert_eq!(seeds(6, 2, Some("heads agree")), "2 of 6 seeds: heads agree");
        assert_eq!(seeds(6, 0, None), "0 of 6 seeds");
        assert_eq!(seeds(0, 0, Some("no end within 900s")), "no end within 900s");
        let model = |red: Option<&str>, found| {
            cell(&attempt(Layer::Model, Work::Model { states: 9, red: red.map(str::to_owned) }, found))
        };
        assert_eq!(model(Some("lost-state"), Some("a fault")), "lost-state");
        assert_eq!(model(None, Some("no end within 900s")), "no end within 900s");
        assert_eq!(model(None, None), "holds");
        let real = |found| cell(&attempt(Layer::Real, Work::Real { time: "2m".into() }, found));
        assert_eq!((real(Some("heads agree")), real(None)), ("heads agree".into(), "holds for 2m".into()));
    }
}
