//! Telling every cloud how things stand: regularly, and at once when something changed. Each is told by
//! itself, so that one that hangs holds up no other.

use super::{Shared, patience};
use crate::client::Route;
use crate::http::Call;
use futures::future::join_all;
use reqwest::Method;
use std::sync::Arc;
use tercet_core::agents::Report;
use tercet_core::ids::{CloudId, Hash};
use tercet_core::time::WallMillis;

/// So many refusals one after the other, as of a report that came twice, have another reason.
const REPLAYS: u32 = 3;

pub async fn run(shared: Arc<Shared>) {
    // A later start has a greater number, if the clock of this machine does not fall back behind its last start.
    let boot = wall_ms();
    join_all(shared.client.clouds().iter().map(|cloud| tell(&shared, &cloud.name, boot))).await;
}

async fn tell(shared: &Shared, cloud: &CloudId, boot: u64) {
    let mut news = shared.news.subscribe();
    let (mut complained, mut replays) = (false, 0);
    for sequence in 1.. {
        news.mark_unchanged();
        let standing = shared.standing().values().cloned().collect();
        let report = Report {
            tenant: shared.tenant.clone(),
            agent: shared.id.clone(),
            boot,
            sequence,
            sent_at: WallMillis(wall_ms()),
            standing,
            mac: Hash([0; 32]),
        };
        let report = report.sign(&shared.fed, &shared.key.secret);
        let call = Call::new(Method::POST, &["federation", "consensus"]).json(&report);
        match shared.client.send_for(&Route::Only(cloud.clone()), &call, patience()).await {
            Ok(_) => {
                if std::mem::take(&mut complained) {
                    eprintln!("cloud {cloud} takes reports again");
                }
                replays = 0;
            }
            // One that arrived twice is no news.
            Err(error) if error.code() == Some("replayed_report") && replays < REPLAYS => replays += 1,
            Err(error) => {
                if !std::mem::replace(&mut complained, true) {
                    eprintln!("cloud {cloud} did not take the report: {error}");
                    if replays >= REPLAYS {
                        eprintln!("another process reports as {} and began later; only one may run", shared.id);
                    }
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(shared.report_every) => {}
            _ = news.changed() => {}
        }
    }
}

fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
