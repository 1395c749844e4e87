//! Epochs of the configuration and of the other clouds that the state does not know yet: the leader
//! introduces them. The own epoch is opened only after the others had a chance to show that they
//! already hold leaves of it.

use super::Shared;
use crate::raft::ProposeError;
use std::time::Duration;
use tercet_core::command::Command;
use tercet_core::epochs::Opening;
use tercet_core::ids::{CloudId, EpochId};
use tercet_core::{epochs, mirrors};

const RETRY: Duration = Duration::from_millis(200);

/// Introduces the other clouds' epochs that the configuration names.
pub(super) async fn introduce_configured(shared: &Shared) {
    let others: Vec<Opening> =
        shared.directory.openings.iter().filter(|opening| opening.cloud != shared.me).cloned().collect();
    introduce(shared, others).await;
}

/// Introduces whatever is new among these, in the order of their numbers.
pub(super) async fn introduce(shared: &Shared, mut openings: Vec<Opening>) {
    openings.sort_by_key(|opening| opening.number);
    for opening in openings {
        let recovering = || shared.replica.read(|view| Ok(view.state.is_recovering())).unwrap_or(false);
        if (opening.cloud == shared.me && !recovering()) || knows(shared, &opening.id(&shared.fed)) {
            continue;
        }
        if let Err(error) = opening.check(&shared.directory.genesis) {
            tracing::warn!(cloud = %opening.cloud, "an epoch was not introduced: {error}");
            continue;
        }
        let (cloud, number) = (opening.cloud.clone(), opening.number);
        propose(shared, &cloud, number, Command::Mirrors(mirrors::Command::Introduce(opening))).await;
    }
}

/// Opens this cloud's latest configured epoch unless it is open.
pub(super) async fn open_own(shared: &Shared) {
    let Some(latest) = shared.configured_epoch().cloned() else {
        tracing::error!("the configuration has no epoch of cloud {}; write its opening to openings.json", shared.me);
        return;
    };
    let current = shared.replica.read(|view| Ok(view.state.opening(&shared.me).map(|opening| opening.number)));
    if matches!(current, Ok(None)) || matches!(current, Ok(Some(number)) if number < latest.number) {
        let number = latest.number;
        propose(shared, &shared.me, number, Command::Epochs(epochs::Command::Open(latest))).await;
    }
    // A recovering cloud mirrors its own past like another cloud's.
    introduce(shared, shared.directory.openings.clone()).await;
}

/// The epochs that this cloud knows.
pub(super) fn known(shared: &Shared) -> Vec<EpochId> {
    let openings = shared.replica.read(|view| Ok(view.state.openings())).unwrap_or_default();
    openings.iter().map(|opening| opening.id(&shared.fed)).collect()
}

fn knows(shared: &Shared, epoch: &EpochId) -> bool {
    known(shared).contains(epoch)
}

async fn propose(shared: &Shared, cloud: &CloudId, number: u32, command: Command) {
    loop {
        match shared.replica.propose(None, command.clone()).await {
            Ok(committed) => {
                if let Err(rejection) = committed.reply {
                    tracing::warn!(%cloud, number, "{rejection}");
                }
                return;
            }
            Err(ProposeError::Overloaded | ProposeError::NoLeader | ProposeError::OutcomeUnknown) => {
                tokio::time::sleep(RETRY).await;
            }
            Err(ProposeError::NotLeader { .. } | ProposeError::Stopped) => return,
        }
    }
}
