//! Telling every cloud how things stand: regularly, and at once when something changed.

use super::{Shared, patience};
use crate::client::Route;
use crate::http::Call;
use futures::future::join_all;
use reqwest::Method;
use std::collections::BTreeMap;
use std::sync::Arc;
use tercet_core::agents::Report;
use tercet_core::ids::{CloudId, Hash};
use tercet_core::time::WallMillis;

pub async fn run(shared: Arc<Shared>) {
    // A later start has a greater number, if the clock of this machine does not fall back behind its last start.
    let boot = wall_ms();
    let mut complaints: BTreeMap<CloudId, String> = BTreeMap::new();
    for sequence in 1.. {
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
        let tell = |cloud: &CloudId| {
            let (shared, call, cloud) = (shared.clone(), call.clone(), cloud.clone());
            async move { (shared.client.send_for(&Route::Only(cloud.clone()), &call, patience()).await, cloud) }
        };
        let told = join_all(shared.client.clouds().iter().map(|cloud| tell(&cloud.name))).await;
        for (answer, cloud) in told {
            match answer {
                Ok(_) => {
                    if complaints.remove(&cloud).is_some() {
                        eprintln!("cloud {cloud} takes reports again");
                    }
                }
                // A report that arrived twice is no news.
                Err(error) if error.code() == Some("replayed_report") => {}
                Err(error) => {
                    let text = error.to_string();
                    if complaints.get(&cloud) != Some(&text) {
                        eprintln!("cloud {cloud} did not take the report: {text}");
                        complaints.insert(cloud, text);
                    }
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(shared.report_every) => {}
            () = shared.news.notified() => {}
        }
    }
}

fn wall_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
