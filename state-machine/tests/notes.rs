//! Leaves and notes: one form each, and notes that standard C2SP tools open.

mod support;

use proptest::prelude::*;
use signed_note::{StandardVerifier, Verifier, VerifierList};
use support::{Federation, Log, cloud, content, envelope, node, seeded, vote};
use tercet_core::epochs::Closing;
use tercet_core::ids::{EpochId, Hash, Tag};
use tercet_core::transparency::{
    Leaf, NodeSignature, NoteBody, NoteError, Open, Predecessor, SignedNote, Verdict, Vote,
};

fn federation_and_note() -> (Federation, SignedNote) {
    let federation = Federation::new();
    let (mut gcp, aws, azure) =
        (Log::new(&federation, "gcp"), Log::new(&federation, "aws"), Log::new(&federation, "azure"));
    gcp.push(Leaf::Vote(vote(&federation.fed(), &content("a-1"), &envelope("gcp"))));
    let mut body = gcp.body(vec![aws.audit(), azure.audit()]);
    body.closings.push(Closing { cloud: cloud("aws"), epoch: EpochId([7; 16]), size: 12, root: Hash([9; 32]) });
    let note = federation.sign(body);
    (federation, note)
}

#[test]
fn a_note_verifies_and_its_text_reads_back() {
    let (federation, note) = federation_and_note();
    assert_eq!(note.verify(&federation.fed(), federation.opening("gcp")), Ok(()));
    assert_eq!(SignedNote::parse(&note.text()), Ok(note.clone()));
    assert_eq!(NoteBody::parse(&note.body.text()), Ok(note.body.clone()));
    for signature in &note.signatures {
        assert_eq!(note.body.verify_one(signature, federation.opening("gcp")), Ok(()));
    }
}

#[test]
fn standard_tools_open_a_note_and_check_every_signature() {
    let (federation, note) = federation_and_note();
    let keys = &federation.opening("gcp").keys;
    let verifiers = keys.iter().map(|(id, key)| {
        let vkey = note.body.origin.vkey(id, key);
        Box::new(StandardVerifier::new(&vkey).expect("a well-formed vkey")) as Box<dyn Verifier>
    });
    let known = VerifierList::new(verifiers.collect());
    let opened = signed_note::Note::from_bytes(note.text().as_bytes()).expect("a well-formed signed note");
    let (verified, unverified) = opened.verify(&known).expect("every signature verifies");
    let names: Vec<_> = verified.iter().map(|signature| signature.name().to_owned()).collect();
    let expected: Vec<_> = note.signatures.iter().map(|s| note.body.origin.key_name(&s.node)).collect();
    assert_eq!((names, unverified.len()), (expected, 0));
    assert_eq!(opened.to_bytes(), note.text().into_bytes());

    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.body.text().as_bytes()).expect("a C2SP checkpoint");
    assert_eq!(checkpoint.origin(), note.body.origin.to_string());
    assert_eq!((checkpoint.size(), checkpoint.hash().0), (note.body.size, note.body.root.0));
    assert_eq!(checkpoint.extension().lines().count(), 3);
    assert_eq!(checkpoint.to_bytes(), note.body.text().into_bytes());
}

#[test]
fn a_note_counts_with_exactly_the_threshold_of_distinct_known_signatures() {
    let (federation, note) = federation_and_note();
    let (fed, opening) = (federation.fed(), federation.opening("gcp"));
    let [one, two, three] = ["gcp-1", "gcp-2", "gcp-3"].map(node);
    let sign = |nodes: &[&_]| federation.sign_by(note.body.clone(), nodes.iter().copied());
    assert_eq!(sign(&[&one, &three]).verify(&fed, opening), Ok(()));
    assert_eq!(sign(&[&one]).verify(&fed, opening), Err(NoteError::WrongCount { found: 1, threshold: 2 }));
    let all = sign(&[&one, &two, &three]);
    assert_eq!(all.verify(&fed, opening), Err(NoteError::WrongCount { found: 3, threshold: 2 }));
    assert_eq!(sign(&[&one, &one]).verify(&fed, opening), Err(NoteError::UnknownNode(one.clone())));
    assert!(matches!(sign(&[&two, &one]).verify(&fed, opening), Err(NoteError::Malformed(_))));

    // A node of another cloud, even with its own good key, is not a signer here.
    let stranger = node("aws-1");
    assert_eq!(sign(&[&stranger, &one]).verify(&fed, opening), Err(NoteError::UnknownNode(stranger)));

    let mut forged = note.clone();
    forged.signatures[1] = note.body.sign(&two, &seeded("somebody else"));
    assert_eq!(forged.verify(&fed, opening), Err(NoteError::BadSignature(two.clone())));
    let mut renamed = note.clone();
    renamed.signatures[1].key_id[0] ^= 1;
    assert_eq!(renamed.verify(&fed, opening), Err(NoteError::BadSignature(two)));
    let elsewhere = note.verify(&fed, federation.opening("aws"));
    assert!(matches!(elsewhere, Err(NoteError::OtherOrigin { .. })), "{elsewhere:?}");
}

#[test]
fn a_signed_body_cannot_be_altered() {
    let (federation, note) = federation_and_note();
    let altered = |change: fn(&mut NoteBody)| {
        let mut note = note.clone();
        change(&mut note.body);
        note.verify(&federation.fed(), federation.opening("gcp"))
    };
    let first = Err(NoteError::BadSignature(node("gcp-1")));
    assert_eq!(altered(|body| body.size += 1), first);
    assert_eq!(altered(|body| body.root.0[0] ^= 1), first);
    assert_eq!(altered(|body| body.audits[0].size += 1), first);
    assert_eq!(
        altered(|body| {
            body.audits.pop();
        }),
        first
    );
    assert_eq!(
        altered(|body| {
            body.closings.pop();
        }),
        first
    );
    assert!(matches!(altered(|body| body.audits.swap(0, 1)), Err(NoteError::Malformed(_))));
    assert!(matches!(altered(|body| body.audits[0].cloud = cloud("gcp")), Err(NoteError::Malformed(_))));
}

#[test]
fn a_text_that_differs_from_the_one_form_is_refused() {
    let (_, note) = federation_and_note();
    let text = note.text();
    let (origin, rest) = text.split_once('\n').expect("an origin line");
    let variants = [
        String::new(),
        text.trim_end().to_owned(),
        format!("{text}\n"),
        format!("\n{text}"),
        text.replace('\n', "\r\n"),
        text.replacen("\n2\n", "\n02\n", 1),
        text.replacen("\n2\n", "\n+2\n", 1),
        text.replacen("\n2\n", "\n2 \n", 1),
        text.replacen("audited ", "audited  ", 1),
        text.replacen("audited ", "Audited ", 1),
        text.replacen("audited ", "checked ", 1),
        text.replacen("closed ", "audited ", 1),
        text.replacen('\u{2014}', "-", 1),
        format!("{}\n{rest}", origin.to_uppercase()),
        format!("{origin}/\n{rest}"),
        format!("{}\n{rest}", origin.replace("gcp", "aws")),
        text.replacen("=\n", "\n", 1),
        "x".repeat(tercet_core::transparency::MAX_NOTE_BYTES + 1),
    ];
    for variant in variants {
        assert_ne!(variant, text, "the variant changed nothing");
        let parsed = SignedNote::parse(&variant);
        assert!(matches!(parsed, Err(NoteError::Malformed(_))), "{variant:?} gave {parsed:?}");
    }
}

#[test]
fn every_changed_byte_of_a_note_is_refused() {
    let (federation, note) = federation_and_note();
    let text = note.text();
    for at in 0..text.len() {
        for mask in [0x01, 0x02, 0x10, 0x20, 0x80] {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= mask;
            let Ok(changed) = String::from_utf8(bytes) else { continue };
            let verified =
                SignedNote::parse(&changed).and_then(|n| n.verify(&federation.fed(), federation.opening("gcp")));
            assert!(verified.is_err(), "byte {at} with mask {mask:#04x}");
        }
    }
}

fn leaves() -> impl Strategy<Value = Leaf> {
    let hash = any::<[u8; 32]>().prop_map(Hash);
    let open = (hash.clone(), any::<u32>(), hash.clone(), any::<Option<([u8; 16], u64, [u8; 32])>>());
    let open = open.prop_map(|(opening, config, config_hash, predecessor)| {
        let predecessor =
            predecessor.map(|(epoch, size, root)| Predecessor { epoch: EpochId(epoch), size, root: Hash(root) });
        Leaf::Open(Open { opening, config, config_hash, predecessor })
    });
    let verdict = prop_oneof![Just(Verdict::Confirm), Just(Verdict::RejectOperator)];
    let vote = (any::<u32>(), any::<[u8; 32]>(), verdict, hash.clone(), hash);
    let vote = vote.prop_map(|(config, tag, verdict, content, envelope)| {
        Leaf::Vote(Vote { config, tag: Tag(tag), verdict, content, envelope })
    });
    prop_oneof![open, vote]
}

proptest! {
    #[test]
    fn a_leaf_has_one_form(leaf in leaves(), at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let bytes = leaf.bytes();
        prop_assert_eq!(Leaf::decode(&bytes), Ok(leaf.clone()));
        prop_assert!(Leaf::decode(&bytes[..bytes.len() - 1]).is_err());
        let mut long = bytes.clone();
        long.push(0);
        prop_assert!(Leaf::decode(&long).is_err());
        let mut other = bytes.clone();
        other[at.index(bytes.len())] = value;
        if let Ok(decoded) = Leaf::decode(&other) {
            prop_assert_eq!(decoded.bytes(), other, "what is accepted is what would be written");
        }
    }
}

#[test]
fn a_key_id_covers_name_and_key() {
    let (federation, note) = federation_and_note();
    let ids: Vec<_> = note.signatures.iter().map(|NodeSignature { key_id, .. }| *key_id).collect();
    assert_ne!(ids[0], ids[1]);
    let (id, key) = &federation.opening("gcp").keys[0];
    assert!(note.body.origin.vkey(id, key).contains(&format!("+{}+", hex::encode(ids[0]))));
}
