//! Evidence: what convicts a cloud, what does not, and that no byte of a proof can change.

mod support;

use proptest::prelude::*;
use support::{Federation, Log, cloud, content, envelope, node, opening, vote};
use tercet_core::certificate::Certificate;
use tercet_core::epochs::Closing;
use tercet_core::evidence::{Evidence, Lie, Statement};
use tercet_core::ids::{Hash, HolderId, LeaseId, TenantId};
use tercet_core::leases::{Claim, Scope, SignedVote};
use tercet_core::time::WallMillis;
use tercet_core::transparency::{Leaf, NoteBody, Open, SignedNote, Verdict, Vote, inclusion_proof};
use tercet_core::wire::{Writer, domain, sha256};

fn statement(federation: &Federation, log: &Log, index: u64) -> Statement {
    Statement {
        note: federation.sign(log.body(Vec::new())),
        index,
        leaf: log.leaves[index as usize].clone(),
        proof: inclusion_proof(log, index, log.size()).expect("every node is in memory"),
    }
}

/// A vote for the event `a-1`, with another payload if asked for.
fn answer(federation: &Federation, other: bool) -> Vote {
    let mut content = content("a-1");
    if other {
        content.payload = b"{}".to_vec();
    }
    vote(&federation.fed(), &content, &envelope("gcp"))
}

fn log_with(federation: &Federation, votes: impl IntoIterator<Item = Vote>) -> Log {
    let mut log = Log::new(federation, "gcp");
    log.push(Leaf::Vote(vote(&federation.fed(), &content("filler"), &envelope("aws"))));
    for vote in votes {
        log.push(Leaf::Vote(vote));
    }
    log
}

fn double_vote(federation: &Federation) -> Evidence {
    let log = log_with(federation, [answer(federation, false), answer(federation, true)]);
    Evidence::double_vote(statement(federation, &log, 2), statement(federation, &log, 3))
}

/// Two branches of one log, of the same size, that part at leaf 2.
fn branches(federation: &Federation) -> (Log, Log) {
    let branch = |other| log_with(federation, [answer(federation, other)]);
    (branch(false), branch(true))
}

fn fork_at_size(federation: &Federation) -> Evidence {
    let (a, b) = branches(federation);
    Evidence::fork_at_size(federation.sign(a.body(Vec::new())), federation.sign(b.body(Vec::new())))
}

fn fork_at_index(federation: &Federation) -> Evidence {
    let (a, mut b) = branches(federation);
    b.push(Leaf::Vote(vote(&federation.fed(), &content("later"), &envelope("gcp"))));
    Evidence::fork_at_index(statement(federation, &a, 2), statement(federation, &b, 2))
}

/// The longer log audits nothing, the shorter one has audited aws.
fn diverging_notes(federation: &Federation) -> Evidence {
    let (aws, log) = (Log::new(federation, "aws"), log_with(federation, [answer(federation, false)]));
    let shorter = federation.sign(log.body_at(2, vec![aws.audit()]));
    Evidence::diverging_notes(shorter, federation.sign(log.body(Vec::new())))
}

fn lease_vote(federation: &Federation, who: &str, renewal: u64) -> SignedVote {
    let claim = Claim {
        tenant: TenantId::new("default").unwrap(),
        lease: LeaseId::new("primary").unwrap(),
        token: 7,
        renewal,
        holder: HolderId::new(who).unwrap(),
        session: support::seeded(who).public(),
        duration_ms: 3_000,
    };
    federation.lease_vote("gcp", &claim, &Scope::Global, WallMillis(1))
}

fn double_lease_vote(federation: &Federation) -> Evidence {
    Evidence::double_lease_vote(lease_vote(federation, "ada", 0), lease_vote(federation, "bob", 0))
}

fn every_kind(federation: &Federation) -> [Evidence; 5] {
    [double_vote, fork_at_size, fork_at_index, diverging_notes, double_lease_vote].map(|of| of(federation))
}

fn verify(federation: &Federation, evidence: &Evidence) -> Result<(), String> {
    evidence.verify(&federation.genesis, &federation.openings).map_err(|refused| refused.0)
}

#[test]
fn each_kind_of_lie_convicts_and_reads_back() {
    let federation = Federation::new();
    for evidence in every_kind(&federation) {
        assert_eq!(verify(&federation, &evidence), Ok(()), "{}", evidence.kind());
        assert_eq!(evidence.cloud, cloud("gcp"));
        let bytes = evidence.bytes();
        assert_eq!(Evidence::decode(&bytes), Ok(evidence.clone()));
        assert_eq!(evidence.id(), sha256(&bytes));
    }
}

#[test]
fn one_lie_has_one_form_however_it_is_found() {
    let federation = Federation::new();
    let log = log_with(&federation, [answer(&federation, false), answer(&federation, true)]);
    let (a, b) = (statement(&federation, &log, 2), statement(&federation, &log, 3));
    let found = Evidence::double_vote(a.clone(), b.clone());
    assert_eq!(Evidence::double_vote(b.clone(), a.clone()), found);

    let Lie::DoubleVote(first, second) = found.lie.clone() else { panic!("a double vote") };
    let swapped = Evidence { cloud: found.cloud, lie: Lie::DoubleVote(second, first) };
    assert_eq!(verify(&federation, &swapped), Err("its two parts are not in order".into()));
    assert!(Evidence::decode(&swapped.bytes()).is_err());

    // Two votes at one place of one log are a fork, and nothing else.
    let (a, b) = branches(&federation);
    let (a, b) = (statement(&federation, &a, 2), statement(&federation, &b, 2));
    let fork = Evidence::double_vote(a.clone(), b.clone());
    assert_eq!(fork, Evidence::fork_at_index(a, b));
    let Lie::ForkAtIndex(a, b) = fork.lie else { panic!("a fork") };
    let renamed = Evidence { cloud: cloud("gcp"), lie: Lie::DoubleVote(a, b) };
    let refused = verify(&federation, &renamed).expect_err("one kind for one lie");
    assert!(refused.contains("a fork at an index"), "{refused}");
}

#[test]
fn a_reject_after_a_confirm_is_a_double_vote() {
    let federation = Federation::new();
    let reject = Vote { verdict: Verdict::RejectOperator, ..answer(&federation, false) };
    let log = log_with(&federation, [answer(&federation, false), reject]);
    let evidence = Evidence::double_vote(statement(&federation, &log, 2), statement(&federation, &log, 3));
    assert_eq!(verify(&federation, &evidence), Ok(()));
}

#[test]
fn votes_in_two_epochs_of_a_cloud_convict_it() {
    let mut federation = Federation::new();
    federation.openings.push(opening(&federation.fed(), "gcp", 0));
    let old = log_with(&federation, [answer(&federation, false)]);
    let second = opening(&federation.fed(), "gcp", 1);
    let mut new = Federation { openings: vec![second.clone()], ..federation.clone() };
    let log = log_with(&new, [answer(&federation, true)]);
    new.openings.push(second);
    let body = log.body(Vec::new());
    let signatures = ["gcp-1", "gcp-2"].map(|id| body.sign(&node(id), &support::seeded(&format!("{id} 1")))).to_vec();
    let later = Statement { note: SignedNote { body, signatures }, ..statement(&new, &log, 2) };
    let evidence = Evidence::double_vote(statement(&federation, &old, 2), later);
    federation.openings.extend(new.openings);
    assert_eq!(verify(&federation, &evidence), Ok(()));
    federation.openings.truncate(3);
    let refused = verify(&federation, &evidence).expect_err("the second epoch is unknown");
    assert!(refused.contains("is unknown"), "{refused}");
}

#[test]
fn what_differs_without_contradiction_convicts_nobody() {
    let federation = Federation::new();
    let fed = federation.fed();
    let refused = |evidence: &Evidence| verify(&federation, evidence).expect_err("no lie");

    let late = vote(&fed, &content("a-1"), &envelope("aws"));
    assert_ne!(late, answer(&federation, false), "the envelopes differ");
    let log = log_with(&federation, [answer(&federation, false), late, vote(&fed, &content("b"), &envelope("gcp"))]);
    let at = |index| statement(&federation, &log, index);
    assert_eq!(refused(&Evidence::double_vote(at(2), at(3))), "the votes say the same");
    assert_eq!(refused(&Evidence::double_vote(at(2), at(4))), "the votes are for different tags");
    assert_eq!(refused(&Evidence::double_vote(at(0), at(2))), "a leaf is not a vote");
    assert_eq!(refused(&Evidence::fork_at_index(at(2), at(3))), "the leaves are at different indexes");

    let aws = Log::new(&federation, "aws");
    let (with, without) = (federation.sign(log.body(vec![aws.audit()])), federation.sign(log.body(Vec::new())));
    let signed_by_others = federation.sign_by(without.body.clone(), &[node("gcp-2"), node("gcp-3")]);
    assert_eq!(refused(&Evidence::fork_at_size(with, without.clone())), "the notes have the same root");
    assert_eq!(refused(&Evidence::fork_at_size(signed_by_others, without.clone())), "the notes have the same root");
    let shorter = federation.sign(log.body_at(3, Vec::new()));
    assert_eq!(refused(&Evidence::fork_at_size(shorter, without.clone())), "the notes are of different sizes");
    let same = Statement { note: federation.sign(log.body(vec![aws.audit()])), ..at(2) };
    assert_eq!(refused(&Evidence::fork_at_index(same, at(2))), "the leaves are the same");
    let other = Evidence { cloud: cloud("aws"), ..Evidence::fork_at_size(federation.sign(aws.body(vec![])), without) };
    assert_eq!(refused(&other), "a note is of gcp, not of aws");
}

#[test]
fn lease_votes_that_an_honest_cloud_gives_convict_nobody() {
    let federation = Federation::new();
    let refused = |a: &SignedVote, b: &SignedVote| {
        verify(&federation, &Evidence::double_lease_vote(a.clone(), b.clone())).expect_err("no lie")
    };
    let ada = lease_vote(&federation, "ada", 0);
    // Ada's cloud voted for her, and joined the winner of that token later.
    assert_eq!(refused(&ada, &lease_vote(&federation, "bob", 1)), "the votes have different keys");
    // Asked again, with another time of day.
    let again = federation.lease_vote("gcp", &ada.vote.claim, &Scope::Global, WallMillis(2));
    assert_eq!(refused(&ada, &again), "the votes say the same");
    let elsewhere =
        federation.lease_vote("aws", &lease_vote(&federation, "bob", 0).vote.claim, &Scope::Global, WallMillis(1));
    assert!(refused(&ada, &elsewhere).contains("a vote is of"));
    let mut unsigned = lease_vote(&federation, "bob", 0);
    unsigned.signatures[0].1.0[0] ^= 1;
    assert!(refused(&ada, &unsigned).contains("is not signed"));
}

#[test]
fn notes_that_grew_convict_nobody() {
    let federation = Federation::new();
    let (mut aws, log) = (Log::new(&federation, "aws"), log_with(&federation, [answer(&federation, false)]));
    let first = log.body_at(2, vec![aws.audit()]);
    aws.push(Leaf::Vote(answer(&federation, true)));
    let audited = log.body_at(2, vec![aws.audit()]);
    let closing = Closing { cloud: cloud("azure"), epoch: aws.audit().epoch, size: 1, root: Hash([1; 32]) };
    let closed = NoteBody { closings: vec![closing.clone()], ..audited.clone() };
    let voted = NoteBody { closings: vec![closing], ..log.body(vec![aws.audit()]) };
    let grown = [first.clone(), audited, closed, voted.clone()];
    for (at, later) in grown.iter().enumerate() {
        for earlier in &grown[..=at] {
            assert!(later.grew_from(earlier));
            let evidence = Evidence::diverging_notes(federation.sign(later.clone()), federation.sign(earlier.clone()));
            assert!(verify(&federation, &evidence).is_err());
        }
    }
    // Whatever is missing from a note that has more of something else contradicts it.
    let unaudited = NoteBody { audits: Vec::new(), ..voted.clone() };
    let mut elsewhere = voted.clone();
    elsewhere.audits[0].size = first.audits[0].size;
    elsewhere.audits[0].root = Hash([9; 32]);
    for later in [unaudited, elsewhere] {
        let evidence = Evidence::diverging_notes(federation.sign(first.clone()), federation.sign(later));
        assert_eq!(verify(&federation, &evidence), Ok(()));
    }
    let (a, b) = branches(&federation);
    let fork = Evidence::diverging_notes(federation.sign(a.body(Vec::new())), federation.sign(b.body(Vec::new())));
    assert!(verify(&federation, &fork).expect_err("one kind for one lie").contains("a fork at a size"));
}

#[test]
fn a_cloud_is_convicted_only_by_what_it_signed() {
    let federation = Federation::new();
    let (a, b) = branches(&federation);
    let lone = federation.sign_by(b.body(Vec::new()), &[node("gcp-1")]);
    let evidence = Evidence::fork_at_size(federation.sign(a.body(Vec::new())), lone);
    let refused = verify(&federation, &evidence).expect_err("one stolen key is not the cloud");
    assert!(refused.contains("exactly 2 are needed"), "{refused}");

    let claim = |mut statement: Statement| {
        statement.leaf =
            Leaf::Open(Open { opening: Hash([0; 32]), config: 0, config_hash: Hash([0; 32]), predecessor: None });
        statement
    };
    let evidence = Evidence::fork_at_index(statement(&federation, &a, 2), claim(statement(&federation, &b, 2)));
    let refused = verify(&federation, &evidence).expect_err("the leaf is not in the log");
    assert_eq!(refused, "leaf 2 is not in the log of 3 leaves that its note signs");

    let evidence = fork_at_size(&federation);
    let mut forged = federation.clone();
    forged.openings[2].root_signature = forged.openings[0].root_signature;
    let refused = verify(&forged, &evidence).expect_err("an epoch that the root key did not sign");
    assert!(refused.contains("not signed by the root key of cloud gcp"), "{refused}");
}

#[test]
fn every_changed_byte_is_refused_with_a_reason() {
    let federation = Federation::new();
    for evidence in every_kind(&federation) {
        let bytes = evidence.bytes();
        for at in 0..bytes.len() {
            for mask in [1 << (at % 8), 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= mask;
                let reason = match Evidence::decode(&changed) {
                    Err(error) => error.0,
                    Ok(decoded) => verify(&federation, &decoded)
                        .expect_err(&format!("byte {at} of {} may change by {mask:#04x}", evidence.kind())),
                };
                assert!(!reason.is_empty());
            }
        }
        for cut in 0..bytes.len() {
            assert!(Evidence::decode(&bytes[..cut]).is_err(), "cut after {cut}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoders_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..400), kind in 0_u8..4) {
        // Sound beginnings, so that the rest is reached.
        let mut evidence = Writer::new(domain::EVIDENCE).lp(b"gcp").u8(kind).finish();
        let mut certificate = Writer::new(domain::CERTIFICATE).u8(kind).lp(b"default").lp(b"").lp(b"a-1").finish();
        evidence.extend_from_slice(&bytes);
        certificate.append(&mut bytes);
        if let Ok(decoded) = Evidence::decode(&evidence) {
            prop_assert_eq!(&decoded.bytes(), &evidence);
        }
        if let Ok(decoded) = Certificate::decode(&certificate) {
            prop_assert_eq!(&decoded.bytes(), &certificate);
        }
    }
}
