//! What a lying cloud can sign into its own log, and what its mirrors make of it.

mod clouds;

use clouds::{Clouds, id};
use tercet_core::ids::Hash;
use tercet_core::mirrors::{ChunkOutcome, LogChunk};
use tercet_core::transparency::{Frontier, Leaf, SignedNote, leaf_hash};

/// gcp's log with one more leaf, signed with gcp's key: only the new leaf, for whoever has the rest.
fn continued(clouds: &Clouds, leaf: Leaf) -> LogChunk {
    let (gcp, state) = &clouds.clouds["gcp"];
    let size = state.head(&id("gcp")).expect("its epoch is open").size;
    let mut frontier = Frontier::default();
    for index in 0..size {
        let leaf = state.leaf(&gcp.records, &id("gcp"), index).unwrap().expect("below its size");
        frontier.append(leaf_hash(&leaf.bytes()));
    }
    frontier.append(leaf_hash(&leaf.bytes()));
    let mut body = clouds.note("gcp").expect("its epoch is open").body;
    (body.size, body.root) = (frontier.size(), frontier.root());
    let signatures = vec![body.sign(&"gcp-1".parse().unwrap(), &gcp.key)];
    LogChunk {
        cloud: id("gcp"),
        epoch: body.origin.epoch,
        first_index: size,
        leaves: vec![leaf],
        note: SignedNote { body, signatures },
        consistency: Vec::new(),
        bodies: Vec::new(),
    }
}

#[test]
fn a_cloud_that_answers_a_tag_twice_in_one_log_is_convicted_of_a_double_vote() {
    let mut clouds = Clouds::default();
    clouds.submit("gcp", "shop", "a", "1").unwrap();
    clouds.exchange(&["gcp", "aws"]);
    let (gcp, state) = &clouds.clouds["gcp"];
    let last = state.head(&id("gcp")).unwrap().size - 1;
    let Some(Leaf::Vote(mut vote)) = state.leaf(&gcp.records, &id("gcp"), last).unwrap() else {
        panic!("its last leaf is its vote on the event")
    };
    vote.content = Hash([5; 32]);
    let chunk = continued(&clouds, Leaf::Vote(vote));
    assert_eq!(clouds.ingest("aws", chunk), Some(ChunkOutcome::Extended { size: last + 2 }));
    let (aws, state) = &clouds.clouds["aws"];
    assert!(state.is_flagged(&id("gcp")));
    let proofs = state.evidence(&aws.records).unwrap();
    assert_eq!(proofs.iter().map(tercet_core::evidence::Evidence::kind).collect::<Vec<_>>(), ["double-vote"]);
    proofs[0].verify(&clouds.genesis, &clouds.openings).unwrap();
}

#[test]
fn a_closed_epoch_takes_no_more_leaves() {
    let mut clouds = Clouds::default();
    clouds.submit("gcp", "shop", "a", "1").unwrap();
    clouds.exchange(&["gcp", "aws"]);
    // An old copy goes on in the lost epoch, after aws has promised what it holds of it.
    clouds.twin("gcp");
    clouds.lose("gcp");
    clouds.introduce_all("aws");
    clouds.submit("gcp-twin", "shop", "b", "1").unwrap();
    assert_eq!(clouds.send_log(&id("gcp"), "gcp-twin", "aws"), Some(ChunkOutcome::WrongEpoch));
}
