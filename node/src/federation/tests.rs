//! Three clouds in one paused runtime: real replicas and federation, the network and the disk in
//! memory. Each test is a behaviour that a user of the federation relies on.

mod sim;
mod verifying;

use crate::env::Entropy;
use crate::env::memory::SeededEntropy;
use sim::{CLOUDS, Sim};
use std::time::Duration;
use tercet_core::events::Level;
use tercet_core::rejection::Rejection;

#[tokio::test(start_paused = true)]
async fn an_event_becomes_final_and_sealed_in_all_three_clouds() {
    for nodes in [1, 3] {
        let sim = Sim::start(nodes).await;
        sim.submit("gcp", "first").await;
        sim.until_level(&CLOUDS, "first", Level::Sealed).await;
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
        sim.until_level(&CLOUDS, name, Level::Sealed).await;
    }
    sim.until_heads_agree().await;
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_between_two_clouds_heals_through_the_third() {
    let sim = Sim::start(3).await;
    sim.cut("gcp", "aws");
    sim.submit("gcp", "over-the-detour").await;
    sim.until_level(&CLOUDS, "over-the-detour", Level::Sealed).await;
    sim.heal();
    sim.submit("aws", "and-back").await;
    sim.until_level(&CLOUDS, "and-back", Level::Sealed).await;
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
        sim.until_level(&CLOUDS, name, Level::Sealed).await;
    }
    sim.until_heads_agree().await;
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_signs_and_pulls_on() {
    let mut sim = Sim::start(3).await;
    sim.submit("aws", "under-the-first-leader").await;
    sim.until_level(&CLOUDS, "under-the-first-leader", Level::Sealed).await;
    let leader = sim.leader("gcp").await;
    sim.kill(&leader).await;
    sim.submit("gcp", "under-the-second-leader").await;
    sim.until_level(&CLOUDS, "under-the-second-leader", Level::Sealed).await;
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
    sim.until_level(&CLOUDS, "alone", Level::Sealed).await;
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_signed_that_raft_has_not_committed() {
    let sim = Sim::start(1).await;
    sim.until_heads_agree().await;
    let size = async || sim.signed("gcp").await.map(|note| note.body.size);
    let (log, signed) = (sim.log("gcp").await, size().await);
    assert!(signed.is_some());
    log.hold();
    let submitting = tokio::time::timeout(Duration::from_secs(20), sim.submit("gcp", "not-synced"));
    assert!(submitting.await.is_err(), "nothing commits before its sync");
    assert_eq!(size().await, signed);
    log.end_syncs(Ok(()));
    sim.until_level(&CLOUDS, "not-synced", Level::Sealed).await;
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_federation_sends_nothing() {
    let sim = Sim::start(3).await;
    sim.submit("gcp", "last-news").await;
    sim.until_level(&CLOUDS, "last-news", Level::Sealed).await;
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
    sim.until_level(&CLOUDS, "honest", Level::Sealed).await;
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
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_lost_its_state_signs_and_takes_nothing_while_others_hold_more_of_its_log() {
    let mut sim = Sim::start(1).await;
    sim.submit("gcp", "remembered-elsewhere").await;
    sim.until_level(&CLOUDS, "remembered-elsewhere", Level::Sealed).await;
    sim.lose_state("gcp").await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let peers = sim.peers("gcp").await;
    assert!(peers.iter().all(|peer| peer.refusal.is_some()), "{peers:?}");
    assert!(sim.signed("gcp").await.is_none());
    sim.put_tenant("gcp").await;
    assert_eq!(sim.attempt("gcp", "lost-when-it-is-renewed").await, Err(Rejection::EpochNotOpen));
    assert!(!sim.flagged("aws", "gcp"), "an honest loss convicts nobody");
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_link_that_hangs_without_breaking_is_bypassed() {
    let sim = Sim::start(1).await;
    sim.submit("gcp", "before").await;
    sim.until_level(&CLOUDS, "before", Level::Sealed).await;
    sim.stall("gcp", "aws");
    for n in 0..5 {
        let name = format!("hanging-{n}");
        sim.submit(["gcp", "aws"][n % 2], &name).await;
        sim.until_level(&CLOUDS, &name, Level::Sealed).await;
    }
    sim.heal();
    sim.submit("aws", "after").await;
    sim.until_level(&CLOUDS, "after", Level::Sealed).await;
    sim.until_heads_agree().await;
    sim.stop().await;
}

/// The seeds to run: a few, or those that `TERCET_SEEDS=from..to` names.
fn seeds(few: u64) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("TERCET_SEEDS") else { return 0..few };
    let (from, to) = text.split_once("..").expect("TERCET_SEEDS is like 10..20");
    from.parse().expect("a number")..to.parse().expect("a number")
}

/// Random links are cut, hang and heal while events come in everywhere. Afterwards everything is
/// SEALED, all heads agree and nobody is accused.
async fn survive(seed: u64, nodes: usize) -> u64 {
    let chance = SeededEntropy::new(seed, "chaos");
    let below = |bound: u64| {
        let mut bytes = [0; 8];
        chance.fill(&mut bytes);
        u64::from_be_bytes(bytes) % bound
    };
    let cloud_at = |n: u64| CLOUDS[n as usize % CLOUDS.len()];
    eprintln!("seed {seed}, {nodes} nodes a cloud");
    let mut sim = Sim::start(nodes).await;
    let (mut names, mut killed) = (Vec::new(), Vec::new());
    for step in 0..60 {
        let (a, b) = (below(3), below(2) + 1);
        match below(10) {
            0 => sim.cut(cloud_at(a), cloud_at(a + b)),
            1 => sim.stall(cloud_at(a), cloud_at(a + b)),
            2 => sim.heal(),
            4 => sim.set_latency(Duration::from_millis(below(80))),
            3 if nodes == 3 && !killed.contains(&cloud_at(a)) => {
                killed.push(cloud_at(a));
                let leader = sim.leader(cloud_at(a)).await;
                sim.kill(&leader).await;
            }
            _ => {
                names.push(format!("event-{step}"));
                sim.submit(cloud_at(a), &names[names.len() - 1]).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(below(1_500))).await;
    }
    sim.heal();
    for name in &names {
        sim.until_level(&CLOUDS, name, Level::Sealed).await;
    }
    sim.until_heads_agree().await;
    for at in CLOUDS {
        assert!(CLOUDS.iter().all(|of| !sim.flagged(at, of)), "seed {seed}: an honest cloud is accused");
    }
    let frames = sim.federation_frames();
    sim.stop().await;
    frames
}

#[tokio::test(start_paused = true)]
async fn cuts_and_hanging_links_lose_nothing() {
    for seed in seeds(2) {
        survive(seed, 1).await;
        survive(seed, 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_cloud_that_lost_its_state_returns_in_a_new_epoch_with_what_the_others_hold() {
    let mut sim = Sim::start(1).await;
    for n in 0..20 {
        sim.submit(CLOUDS[n % 3], &format!("before-{n}")).await;
    }
    sim.until_heads_agree().await;
    sim.lose_state("gcp").await;
    sim.submit("aws", "meanwhile").await;
    sim.until_level(&["aws", "azure"], "meanwhile", Level::Final).await;
    sim.recover("gcp").await;
    sim.put_tenant("gcp").await;
    sim.submit("gcp", "after").await;
    sim.until_level(&CLOUDS, "after", Level::Sealed).await;
    sim.until_level(&CLOUDS, "meanwhile", Level::Sealed).await;
    sim.until_level(&CLOUDS, "before-19", Level::Sealed).await;
    sim.until_heads_agree().await;
    assert!(!sim.flagged("aws", "gcp") && !sim.flagged("azure", "gcp"));
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_absence_is_caught_up_in_bounded_chunks() {
    let sim = Sim::start(1).await;
    sim.isolate("azure");
    let names = |batch: usize| (0..1_000).map(|n| format!("bulk-{batch}-{n}")).collect::<Vec<_>>();
    for batch in 0..5 {
        sim.submit_all(["gcp", "aws"][batch % 2], &names(batch), 2_000).await;
    }
    sim.until_level(&["gcp", "aws"], "bulk-4-999", Level::Final).await;
    sim.heal();
    for batch in 0..5 {
        sim.until_level(&CLOUDS, &format!("bulk-{batch}-0"), Level::Sealed).await;
        sim.until_level(&CLOUDS, &format!("bulk-{batch}-999"), Level::Sealed).await;
    }
    sim.until_heads_agree().await;
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_speaks_nonsense_is_dropped_and_harms_nobody() {
    let mut sim = Sim::start(3).await;
    let chance = SeededEntropy::new(5, "nonsense");
    for round in 0..50_u8 {
        let frames = (0..4).map(|n| {
            let mut frame = vec![0; usize::from(round) * 7 + 1];
            chance.fill(&mut frame);
            // Some of it begins as messages do.
            let middle = frame.len() / 2;
            (frame[0], frame[middle]) = (1, n);
            frame
        });
        sim.babble("azure-2", ["gcp-1", "aws-3"][usize::from(round) % 2], frames.collect()).await;
    }
    sim.submit("gcp", "as-if-nothing-happened").await;
    sim.until_level(&CLOUDS, "as-if-nothing-happened", Level::Sealed).await;
    sim.stop().await;
}

#[tokio::test(start_paused = true)]
async fn honest_clouds_agree_about_everything_after_a_fork() {
    for seed in seeds(2) {
        let chance = SeededEntropy::new(seed, "liar");
        let below = |bound: u64| {
            let mut bytes = [0; 8];
            chance.fill(&mut bytes);
            u64::from_be_bytes(bytes) % bound
        };
        let sim = Sim::start(1 + 2 * (seed as usize % 2)).await;
        let honest = ["aws", "azure"];
        let mut names = Vec::new();
        for n in 0..below(12) {
            names.push(format!("before-{n}"));
            sim.submit(CLOUDS[below(3) as usize], &names[names.len() - 1]).await;
            tokio::time::sleep(Duration::from_millis(below(60))).await;
        }
        sim.isolate("gcp");
        tokio::time::sleep(Duration::from_millis(below(500))).await;
        for (victim, branch) in [("aws", "one"), ("azure", "other")] {
            let lies: Vec<String> = (0..=below(5)).map(|n| format!("{branch}-{n}")).collect();
            sim.forge("gcp", victim, &lies.iter().map(String::as_str).collect::<Vec<_>>()).await;
        }
        if below(2) == 0 {
            sim.heal();
        }
        for n in 0..below(12) {
            names.push(format!("after-{n}"));
            sim.submit(honest[below(2) as usize], &names[names.len() - 1]).await;
        }
        sim.until(|| honest.iter().all(|at| sim.flagged(at, "gcp")), "both convict gcp").await;
        sim.heal();
        for at in honest {
            assert!(honest.iter().all(|of| !sim.flagged(at, of)), "seed {seed}: an honest cloud is accused");
        }
        // What only the liar ever held may be lost; what is known must be the same in both.
        tokio::time::sleep(Duration::from_secs(180)).await;
        for name in &names {
            let seen = honest.map(|at| sim.event(at, name)).join("\n");
            assert_eq!(sim.level("aws", name), sim.level("azure", name), "seed {seed}\n{seen}");
            let kept = name.starts_with("before") || sim.level("aws", name) >= Some(Level::Final);
            assert!(kept, "seed {seed}: an event that two honest clouds hold is FINAL\n{seen}");
        }
        sim.stop().await;
    }
}
