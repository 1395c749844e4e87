//! The planted bugs themselves: each stands where it says, and says something of its own.

#![cfg(feature = "mutants")]

use std::collections::BTreeSet;
use std::path::Path;
use tercet_core::mutants::{Mutant, find};

#[test]
fn each_has_a_name_and_a_description_of_its_own() {
    let names: BTreeSet<_> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
    let bugs: BTreeSet<_> = Mutant::ALL.iter().map(|mutant| mutant.bug()).collect();
    assert_eq!((names.len(), bugs.len()), (Mutant::ALL.len(), Mutant::ALL.len()));
    assert!(Mutant::ALL.len() >= 25);
    assert!(Mutant::ALL.iter().all(|mutant| find(mutant.name()) == Some(*mutant)));
}

#[test]
fn each_is_planted_where_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace");
    for mutant in Mutant::ALL {
        let file = root.join(mutant.place());
        let source = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let planted = format!("mutant!({})", mutant.name());
        assert!(source.contains(&planted), "{} has no {planted}", mutant.place());
    }
}
