//! Certificates: what each level needs, that nothing more is in them, and that no byte can change.

mod support;

use proptest::prelude::*;
use support::{CLOUDS, Federation, Scene, cloud, content, envelope, node, opening, seeded, vote};
use tercet_core::certificate::{Certificate, InclusionProof, TrustBundle};
use tercet_core::events::{Level, VoteFact, standing};
use tercet_core::genesis::CloudSet;
use tercet_core::ids::Hash;
use tercet_core::transparency::{Leaf, Verdict, inclusion_proof};

fn two_voted() -> Scene {
    Scene::voted(Federation::new(), &["aws", "gcp"])
}

/// The certificate, if verifying agrees with building it.
fn level(scene: &Scene) -> Option<Level> {
    let certificate = scene.certificate()?;
    let verified = Certificate::verify(&certificate.bytes(), &scene.trust()).expect("what is built verifies");
    assert_eq!(verified.level, certificate.level);
    Some(verified.level)
}

fn refusal(certificate: &Certificate, trust: &TrustBundle) -> String {
    let refused = Certificate::verify(&certificate.bytes(), trust).expect_err("this must not verify");
    refused.0
}

#[test]
fn two_votes_that_audit_each_other_are_final() {
    let scene = two_voted().audit("aws", "gcp").audit("gcp", "aws");
    let certificate = scene.certificate().expect("FINAL");
    let verified = Certificate::verify(&certificate.bytes(), &scene.trust()).unwrap();
    assert_eq!(verified.level, Level::Final);
    assert_eq!(verified.voters, [cloud("aws"), cloud("gcp")]);
    assert_eq!(verified.auditors, [cloud("aws"), cloud("gcp")]);
    assert_eq!((verified.content, verified.envelope), (scene.content.clone(), scene.envelope.clone()));
    assert_eq!(verified.content_hash, scene.content.hash());
    assert_eq!(verified.hash, scene.envelope.hash(&scene.content.hash()));
    assert_eq!(verified.trust_version, 1);
}

#[test]
fn the_third_clouds_audit_of_both_votes_seals_though_it_did_not_vote() {
    let scene = two_voted().all_audited();
    let certificate = scene.certificate().expect("SEALED");
    let verified = Certificate::verify(&certificate.bytes(), &scene.trust()).unwrap();
    assert_eq!(verified.level, Level::Sealed);
    assert_eq!(verified.voters, [cloud("aws"), cloud("gcp")]);
    assert_eq!(verified.auditors, CLOUDS.map(cloud));
}

#[test]
fn each_missing_audit_lowers_the_level() {
    let pair = |by, of| two_voted().audit(by, of);
    assert_eq!(level(&two_voted()), None);
    assert_eq!(level(&pair("aws", "gcp")), None);
    assert_eq!(level(&pair("gcp", "aws")), None);
    let mutual = || pair("aws", "gcp").audit("gcp", "aws");
    assert_eq!(level(&mutual().audit("azure", "gcp")), Some(Level::Final), "azure audited only one vote");
    assert_eq!(level(&mutual().audit("azure", "gcp").audit("azure", "aws")), Some(Level::Sealed));
    // Audits by a cloud that did not vote cannot replace the voters' own.
    assert_eq!(level(&pair("azure", "gcp").audit("azure", "aws")), None);
}

#[test]
fn an_audit_that_ends_before_the_vote_does_not_count() {
    let mut scene = two_voted().all_audited();
    scene.audits.insert(("azure", "gcp"), scene.votes["gcp"]);
    assert_eq!(level(&scene), Some(Level::Final));
    scene.audits.insert(("aws", "gcp"), scene.votes["gcp"]);
    assert_eq!(level(&scene), None);
}

#[test]
fn one_vote_is_never_enough_and_weights_decide_how_many_are() {
    assert_eq!(level(&Scene::voted(Federation::new(), &["gcp"]).all_audited()), None);
    let scene = |weights, quorum, voters: &[&'static str]| {
        Scene::voted(Federation::weighted(weights, quorum), voters).all_audited()
    };
    assert_eq!(level(&scene([1, 1, 1], 3, &["aws", "gcp"])), None, "a quorum of all");
    assert_eq!(level(&scene([1, 1, 1], 3, &CLOUDS)), Some(Level::Sealed));
    assert_eq!(level(&scene([2, 2, 1], 4, &["aws", "gcp"])), None, "weight 3 of 4");
    assert_eq!(level(&scene([2, 2, 1], 4, &["aws", "azure"])), Some(Level::Sealed));
    assert_eq!(level(&scene([2, 2, 1], 3, &["aws", "gcp"])), Some(Level::Sealed));
}

#[test]
fn a_certificate_holds_only_what_it_needs() {
    let scene = Scene::voted(Federation::new(), &CLOUDS).all_audited();
    let certificate = scene.certificate().expect("SEALED");
    assert_eq!((certificate.level, certificate.votes.len(), certificate.notes.len()), (Level::Sealed, 2, 3));
    let trust = scene.trust();

    let mut third = certificate.clone();
    third.votes = CLOUDS.map(|name| scene.proven(name)).to_vec();
    assert_eq!(refusal(&third, &trust), "the vote of aws is not needed");

    let mutual = two_voted().audit("aws", "gcp").audit("gcp", "aws").audit("azure", "gcp");
    let mut with_note = mutual.certificate().expect("FINAL");
    with_note.notes = mutual.notes();
    assert_eq!(refusal(&with_note, &trust), "azure has not audited the epoch of the vote of aws");

    let scene = two_voted().audit("aws", "gcp").audit("gcp", "aws");
    let mut with_proof = scene.certificate().expect("FINAL");
    let (log, index) = (&scene.logs["aws"], scene.votes["aws"]);
    let path = inclusion_proof(log, index, index + 1).unwrap();
    with_proof.votes[0].proofs.insert(0, InclusionProof { size: index + 1, path });
    assert_eq!(refusal(&with_proof, &trust), "a proof of the vote of aws is not needed, or not in order");
    let mut without = scene.certificate().expect("FINAL");
    without.votes[0].proofs.pop();
    assert_eq!(refusal(&without, &trust), "the vote of aws is not in its checkpoint");
}

#[test]
fn the_written_level_must_be_the_proven_one() {
    let scene = two_voted().all_audited();
    let mut sealed = scene.certificate().expect("SEALED");
    sealed.level = Level::Final;
    assert_eq!(refusal(&sealed, &scene.trust()), "it says FINAL and proves SEALED");
    let scene = two_voted().audit("aws", "gcp").audit("gcp", "aws");
    let mut written = scene.certificate().expect("FINAL");
    written.level = Level::Sealed;
    assert_eq!(refusal(&written, &scene.trust()), "it says SEALED and proves FINAL");
    written.level = Level::Pending;
    assert!(refusal(&written, &scene.trust()).contains("no level has number 0"));
}

#[test]
fn two_nodes_of_one_cloud_never_count_as_two_clouds() {
    let scene = two_voted().all_audited();
    let trust = scene.trust();
    let mut twice = scene.certificate().expect("SEALED");
    // gcp speaks again through two other nodes: a second note and a second vote of the same cloud.
    let again = scene.federation.sign_by(scene.note("gcp").body, &[node("gcp-2"), node("gcp-3")]);
    twice.level = Level::Final;
    twice.notes = vec![scene.note("gcp"), again];
    twice.votes = vec![scene.proven("gcp"), scene.proven("gcp")];
    assert_eq!(refusal(&twice, &trust), "a second note of gcp: a cloud counts once");
    twice.notes.pop();
    assert_eq!(refusal(&twice, &trust), "a second vote of gcp: a cloud counts once");
    twice.votes.pop();
    assert_eq!(refusal(&twice, &trust), "the votes have weight 1, the quorum is 2");
    // Nor does a node of gcp sign for aws, not even with its own good key.
    let mut borrowed = scene.certificate().expect("SEALED");
    borrowed.notes[0] = scene.federation.sign_by(scene.note("aws").body, &[node("aws-1"), node("gcp-1")]);
    assert!(refusal(&borrowed, &trust).contains("node gcp-1 is not a signer of this epoch"));
}

#[test]
fn every_refusal_says_which_part_failed() {
    let scene = two_voted().all_audited();
    let trust = scene.trust();
    let refused = |change: &dyn Fn(&mut Certificate)| {
        let mut certificate = scene.certificate().expect("SEALED");
        change(&mut certificate);
        refusal(&certificate, &trust)
    };
    let forged = refused(&|c| c.notes[2].signatures[0] = c.notes[2].body.sign(&node("gcp-1"), &seeded("thief")));
    assert_eq!(forged, "the note of gcp: the signature of node gcp-1 does not verify");
    assert_eq!(refused(&|c| c.content.payload[0] ^= 1), "the vote of aws is for another content");
    assert_eq!(refused(&|c| c.content_salt.0[0] ^= 1), "the vote of aws is for another content");
    assert_eq!(refused(&|c| c.key_salt.0[0] ^= 1), "the vote of aws is for another event");
    assert_eq!(refused(&|c| c.content.key = content("a-2").key), "the vote of aws is for another event");
    assert_eq!(refused(&|c| c.envelope.logical_clock += 1), "no vote is for this envelope");
    assert_eq!(refused(&|c| c.votes[1].vote.verdict = Verdict::RejectOperator), "the vote of gcp does not confirm");
    assert_eq!(refused(&|c| c.votes[1].index += 1), "the vote of gcp is not in the checkpoint that aws audited");
    assert_eq!(
        refused(&|c| c.votes[1].vote.envelope = Hash([0; 32])),
        "the vote of gcp is not in the checkpoint that aws audited"
    );
    let other = refused(&|c| c.votes[1].epoch.0[0] ^= 1);
    assert_eq!(other, "aws has not audited the epoch of the vote of gcp");
    assert!(
        refused(&|c| {
            c.notes[0].signatures.pop();
        })
        .contains("1 signatures, exactly 2 are needed")
    );
    let third = |c: &mut Certificate| {
        c.notes[0] = scene.federation.sign_by(c.notes[0].body.clone(), &["aws-1", "aws-2", "aws-3"].map(node))
    };
    assert!(refused(&third).contains("3 signatures, exactly 2 are needed"));
    assert_eq!(refused(&|c| drop(c.notes.remove(0))), "the note of aws, which voted, is missing");
    assert_eq!(refused(&|c| c.notes.swap(0, 1)), "the notes are not sorted by cloud");
    assert_eq!(refused(&|c| c.votes.swap(0, 1)), "the votes are not sorted by cloud");
}

#[test]
fn a_certificate_of_another_federation_or_an_unknown_epoch_is_refused() {
    let scene = two_voted().all_audited();
    let certificate = scene.certificate().expect("SEALED");
    let mut without = scene.trust();
    without.openings.retain(|opening| opening.cloud != cloud("gcp"));
    assert!(refusal(&certificate, &without).starts_with("the note of gcp: the epoch "));
    let mut elsewhere = Federation::new();
    elsewhere.genesis.nonce = [1; 32];
    let fed = elsewhere.fed();
    elsewhere.openings = CLOUDS.iter().map(|name| opening(&fed, name, 0)).collect();
    let elsewhere = TrustBundle::new(elsewhere.genesis, elsewhere.openings);
    assert!(refusal(&certificate, &elsewhere).contains("is unknown"));
    let mut forged = scene.trust();
    forged.openings[0].root_signature = forged.openings[1].root_signature;
    assert_eq!(
        refusal(&certificate, &forged),
        "epoch 0 of the trust bundle: the epoch is not signed by the root key of cloud aws"
    );
    let mut versioned = scene.trust();
    versioned.version = 2;
    assert!(refusal(&certificate, &versioned).contains("this build reads 1"));
    let mut weighted = scene.trust();
    weighted.genesis.quorum = 1;
    assert!(refusal(&certificate, &weighted).starts_with("the trust bundle's genesis"));
}

#[test]
fn the_envelope_must_be_one_that_a_voter_saw() {
    let mut scene = Scene::voted(Federation::new(), &["gcp"]);
    let late = vote(&scene.federation.fed(), &scene.content, &envelope("aws"));
    for name in ["aws", "azure"] {
        let log = scene.logs.get_mut(name).expect("a log");
        let index = log.push(Leaf::Vote(late.clone()));
        log.push(Leaf::Vote(vote(&scene.federation.fed(), &content("later"), &scene.envelope)));
        scene.votes.insert(name, index);
    }
    // Only gcp saw the envelope that is shown, so its vote must be among those chosen.
    let scene = scene.all_audited();
    let certificate = scene.certificate().expect("SEALED");
    assert!(certificate.votes.iter().any(|vote| vote.cloud == cloud("gcp")));
    assert_eq!(level(&scene), Some(Level::Sealed));
}

#[test]
fn every_changed_byte_is_refused_with_a_reason() {
    let scenes = [two_voted().all_audited(), two_voted().audit("aws", "gcp").audit("gcp", "aws")];
    for scene in scenes {
        let trust = scene.trust();
        let bytes = scene.certificate().expect("FINAL or SEALED").bytes();
        for at in 0..bytes.len() {
            for mask in [1 << (at % 8), 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= mask;
                match Certificate::verify(&changed, &trust) {
                    Ok(_) => panic!("byte {at} of {} may change by {mask:#04x}", bytes.len()),
                    Err(refused) => assert!(!refused.0.is_empty()),
                }
            }
        }
        for cut in 0..bytes.len() {
            assert!(Certificate::verify(&bytes[..cut], &trust).is_err(), "cut after {cut}");
        }
        let mut long = bytes.clone();
        long.push(0);
        assert!(Certificate::verify(&long, &trust).is_err());
    }
}

#[test]
fn the_trust_bundle_survives_its_json() {
    let trust = two_voted().trust();
    let json = serde_json::to_string(&trust).unwrap();
    assert_eq!(serde_json::from_str::<TrustBundle>(&json).unwrap(), trust);
    let unknown = json.replacen('{', "{\"note\":1,", 1);
    assert!(serde_json::from_str::<TrustBundle>(&unknown).is_err(), "an unknown field is refused");
}

/// Weights of aws, azure and gcp, and the quorum.
const WEIGHTS: [([u32; 3], u32); 5] = [([1, 1, 1], 2), ([1, 1, 1], 3), ([2, 2, 1], 3), ([2, 2, 1], 4), ([3, 2, 2], 4)];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The finality rule and the certificate are written apart; they must never disagree.
    #[test]
    fn a_certificate_proves_exactly_the_level_that_the_facts_have(
        voters in prop::sample::subsequence(CLOUDS.to_vec(), 0..=3),
        audits in prop::collection::vec(0_u8..3, 6),
        weights in prop::sample::select(WEIGHTS.to_vec()),
    ) {
        let mut scene = Scene::voted(Federation::weighted(weights.0, weights.1), &voters);
        let pairs = CLOUDS.into_iter().flat_map(|by| CLOUDS.map(|of| (by, of))).filter(|(by, of)| by != of);
        for ((by, of), reach) in pairs.zip(audits) {
            // Not at all, up to just before the vote, or past it.
            let vote = scene.votes.get(of).copied().unwrap_or(1);
            if reach > 0 {
                scene.audits.insert((by, of), vote + u64::from(reach) - 1);
            }
        }
        let position = |name: &str| scene.federation.genesis.position(&cloud(name)).unwrap();
        let audited_by = |name: &str, index: u64| {
            let past = scene.audits.iter().filter(|((_, of), size)| *of == name && **size > index);
            past.map(|((by, _), _)| position(by)).collect()
        };
        let facts: Vec<VoteFact> = scene.votes.iter().map(|(name, index)| VoteFact {
            cloud: position(name),
            verdict: Verdict::Confirm,
            content: Hash([1; 32]),
            audited_by: audited_by(name, *index),
        }).collect();
        let standing = standing(&scene.federation.genesis, &facts, CloudSet::default()).level;
        let expected = (standing >= Level::Final).then_some(standing);
        prop_assert_eq!(level(&scene), expected, "{:?}", facts);
    }
}
