//! Three clouds in one paused runtime: real replicas and federation, the network and the disk in
//! memory. Each test is a behaviour that a user of the federation relies on.

mod sim;

use sim::{Sim, cloud};
use std::time::Duration;
use tercet_core::events::Level;

#[tokio::test(start_paused = true)]
async fn an_event_becomes_final_and_sealed_in_all_three_clouds() {
    for nodes in [1, 3] {
        let sim = Sim::start(nodes).await;
        sim.submit("gcp", "first").await;
        sim.until_level(&["aws", "azure", "gcp"], "first", Level::Sealed).await;
        sim.until_heads_agree().await;
        sim.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn events_submitted_everywhere_at_once_become_sealed() {
    let sim = Sim::start(3).await;
    let names: Vec<String> = (0..60).map(|n| format!("event-{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        sim.submit(["aws", "azure", "gcp"][n % 3], name).await;
    }
    for name in &names {
        sim.until_level(&["aws", "azure", "gcp"], name, Level::Sealed).await;
    }
    sim.until_heads_agree().await;
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_between_two_clouds_heals_through_the_third() {
    let sim = Sim::start(3).await;
    sim.cut("gcp", "aws");
    sim.submit("gcp", "over-the-detour").await;
    sim.until_level(&["aws", "azure", "gcp"], "over-the-detour", Level::Sealed).await;
    sim.heal();
    sim.submit("aws", "and-back").await;
    sim.until_level(&["aws", "azure", "gcp"], "and-back", Level::Sealed).await;
    sim.until_heads_agree().await;
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_was_away_catches_up_and_seals_what_became_final_without_it() {
    let sim = Sim::start(1).await;
    sim.submit("gcp", "before").await;
    sim.until_level(&["azure"], "before", Level::Sealed).await;
    sim.isolate("azure");
    let names: Vec<String> = (0..40).map(|n| format!("away-{n}")).collect();
    for name in &names {
        sim.submit("gcp", name).await;
        sim.until_level(&["gcp", "aws"], name, Level::Final).await;
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(sim.level("gcp", "away-0"), Some(Level::Final), "nothing is SEALED without the third cloud");
    sim.heal();
    for name in &names {
        sim.until_level(&["aws", "azure", "gcp"], name, Level::Sealed).await;
    }
    sim.until_heads_agree().await;
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_signs_and_pulls_on() {
    let mut sim = Sim::start(3).await;
    sim.submit("aws", "under-the-first-leader").await;
    sim.until_level(&["aws", "azure", "gcp"], "under-the-first-leader", Level::Sealed).await;
    let leader = sim.leader("gcp").await;
    sim.kill(&leader).await;
    sim.submit("gcp", "under-the-second-leader").await;
    sim.until_level(&["aws", "azure", "gcp"], "under-the-second-leader", Level::Sealed).await;
    sim.until_heads_agree().await;
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn one_cloud_alone_gets_nothing_final() {
    let sim = Sim::start(1).await;
    sim.isolate("aws");
    sim.isolate("gcp");
    sim.submit("gcp", "alone").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(sim.level("gcp", "alone"), Some(Level::Pending));
    sim.heal();
    sim.until_level(&["aws", "azure", "gcp"], "alone", Level::Sealed).await;
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_federation_sends_nothing() {
    let sim = Sim::start(3).await;
    sim.submit("gcp", "last-news").await;
    sim.until_level(&["aws", "azure", "gcp"], "last-news", Level::Sealed).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = sim.federation_frames();
    assert!(before > 0);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(sim.federation_frames(), before);
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_one_cloud_learns_late_gets_its_votes_in_the_end() {
    let sim = Sim::start_without_tenant(1).await;
    sim.put_tenant("gcp").await;
    sim.put_tenant("aws").await;
    sim.submit("gcp", "early").await;
    sim.until_level(&["gcp", "aws"], "early", Level::Final).await;
    sim.put_tenant("azure").await;
    sim.until_level(&["azure"], "early", Level::Sealed).await;
    sim.until(|| sim.votes("gcp", "early") == 3, "azure votes too").await;
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_forks_its_log_at_one_size_is_convicted_by_both_others() {
    let sim = Sim::start(1).await;
    sim.submit("gcp", "honest").await;
    sim.until_level(&["aws", "azure", "gcp"], "honest", Level::Sealed).await;
    sim.until_heads_agree().await;
    // gcp shows aws one next vote and azure another.
    sim.isolate("gcp");
    sim.forge("gcp", "aws", &["lie-1"]).await;
    sim.forge("gcp", "azure", &["lie-2"]).await;
    sim.until(|| sim.flagged("aws", "gcp") && sim.flagged("azure", "gcp"), "both convict gcp").await;
    sim.heal();
    sim.until(|| sim.evidence("gcp") > 0, "gcp hears of it").await;
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_forks_its_log_and_goes_on_is_convicted_by_index() {
    let sim = Sim::start(1).await;
    sim.submit("gcp", "honest").await;
    sim.until_heads_agree().await;
    sim.isolate("gcp");
    sim.forge("gcp", "aws", &["lie-1", "more-1", "more-2"]).await;
    sim.forge("gcp", "azure", &["lie-2", "more-1", "more-2", "more-3", "more-4"]).await;
    sim.until(|| sim.flagged("aws", "gcp") && sim.flagged("azure", "gcp"), "both convict gcp").await;
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_shows_another_history_than_it_signed_before_is_convicted() {
    let sim = Sim::start(1).await;
    sim.until_heads_agree().await;
    // aws alone heard a lie; then gcp goes on in public with the history that everybody gets.
    sim.forge("gcp", "aws", &["whispered"]).await;
    for n in 0..5 {
        sim.submit("gcp", &format!("public-{n}")).await;
    }
    sim.until(|| sim.flagged("aws", "gcp") && sim.flagged("azure", "gcp"), "both convict gcp").await;
    sim.stop().await;
    assert_ne!(cloud("aws"), cloud("gcp"));
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_lost_its_state_signs_nothing_while_others_hold_more_of_its_log() {
    let mut sim = Sim::start(1).await;
    sim.submit("gcp", "remembered-elsewhere").await;
    sim.until_level(&["aws", "azure", "gcp"], "remembered-elsewhere", Level::Sealed).await;
    sim.lose_state("gcp").await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let peers = sim.peers("gcp").await;
    assert!(peers.iter().all(|peer| peer.refusal.is_some()), "{peers:?}");
    assert!(sim.signed("gcp").await.is_none());
    assert!(!sim.flagged("aws", "gcp"), "an honest loss convicts nobody");
    sim.stop().await;
}
