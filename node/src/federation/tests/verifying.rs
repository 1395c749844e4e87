//! What a leader must refuse of another cloud's messages before it proposes anything.

use super::sim::{CLOUDS, Sim, cloud};
use crate::federation::verify::{Checked, Verifier};
use std::sync::Arc;
use tercet_core::events::{Level, PackedBody};
use tercet_core::mirrors::LogChunk;
use tercet_core::signature::SigningKey;
use tercet_core::tenants::TenantSignature;
use tercet_core::transparency::SignedNote;

/// gcp has signed an event that aws did not hear of yet; what it would send.
async fn news(sim: &Sim) -> LogChunk {
    sim.submit("gcp", "before").await;
    sim.until_level(&CLOUDS, "before", Level::Sealed).await;
    sim.isolate("gcp");
    let known = sim.size("aws", "gcp");
    sim.submit("gcp", "news").await;
    let mut signed = sim.federation("gcp").await.signed_note();
    let note = signed.wait_for(|note| note.as_ref().is_some_and(|note| note.body.size > known)).await.unwrap();
    let note: Arc<SignedNote> = note.clone().unwrap();
    sim.read("gcp", |view| view.state.log_chunk(view.records, &cloud("gcp"), known, &note).unwrap().unwrap())
}

async fn check(sim: &Sim, chunk: LogChunk) -> Checked {
    let aws = sim.federation("aws").await;
    Verifier::new().chunk(&aws.shared, chunk).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_chunk_is_believed_only_under_its_own_clouds_signatures() {
    let sim = Sim::start(3).await;
    let honest = news(&sim).await;
    let mut flipped = honest.clone();
    flipped.note.signatures[0].signature.0[9] ^= 1;
    let mut lone = honest.clone();
    lone.note.signatures.pop();
    let mut altered = honest.clone();
    altered.note.body.root.0[0] ^= 1;
    for forged in [flipped, lone, altered] {
        assert!(matches!(check(&sim, forged).await, Checked::Bad(_)));
    }
    assert!(matches!(check(&sim, honest).await, Checked::Good(_)));
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_body_is_admitted_only_under_its_tenants_signature() {
    let sim = Sim::start(1).await;
    let honest = news(&sim).await;
    let fed = sim.federation("aws").await.shared.fed;
    let bodies = |checked| match checked {
        Checked::Good(chunk) => chunk.bodies.len(),
        _ => panic!("the chunk itself is sound"),
    };
    assert_eq!(bodies(check(&sim, honest.clone()).await), 1);
    let strange = SigningKey::from_seed(&[8; 32]);
    let body = honest.bodies[0].unpack().unwrap();
    let (mut unsigned, mut foreign, mut other) = (body.clone(), body.clone(), body.clone());
    unsigned.signature = None;
    foreign.signature = Some(TenantSignature::sign(&fed, &body.content.hash(), &strange));
    other.content.payload = b"2".to_vec();
    for forged in [unsigned, foreign, other] {
        let forged = LogChunk { bodies: vec![PackedBody::of(&forged)], ..honest.clone() };
        assert_eq!(bodies(check(&sim, forged).await), 0);
    }
    sim.stop().await;
}
