//! `tercet role`: leases as people use them.

mod change;
mod create;
mod history;
mod list;
mod run;
mod show;

use crate::exit::{Failure, NO_QUORUM, REFUSED};
use crate::session::Globals;
use clap::Subcommand;
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeMap;
use std::time::Duration;
use tercet::leases::LeaseView;
use tercet::{Client, Error};
use tercet_core::ids::{CloudId, HolderId, LeaseId, TenantId};
use tercet_core::leases::{Scope, Spec};
use tokio::time::{Instant, timeout_at};

/// How long the other clouds are waited for once enough have answered.
const GRACE: Duration = Duration::from_millis(300);

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a role on every cloud
    Create(create::Create),
    /// List the roles and who holds them
    List(list::List),
    /// Show who holds a role, as all clouds say
    Show(show::Show),
    /// Show who held a role, since when and why
    History(history::History),
    /// Win a role, run a command while holding it, stop the command when it is lost
    Run(run::Run),
    /// Keep whoever holds a role, and let nobody new in
    Freeze(change::Freeze),
    /// Let candidates in again
    Thaw(change::Thaw),
    /// Say who goes first when a role is free
    Prefer(change::Prefer),
    /// Hand a role over to a candidate that is ready for it
    Handover(change::Handover),
}

pub async fn run(globals: &Globals, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(command) => create::run(globals, command).await,
        Command::List(command) => list::run(globals, &command).await,
        Command::Show(command) => show::run(globals, &command).await,
        Command::History(command) => history::run(globals, &command).await,
        Command::Run(command) => run::run(globals, command).await,
        Command::Freeze(command) => change::freeze(globals, &command).await,
        Command::Thaw(command) => change::thaw(globals, &command).await,
        Command::Prefer(command) => change::prefer(globals, &command).await,
        Command::Handover(command) => change::handover(globals, &command).await,
    }
}

pub fn parse_lease(text: &str) -> Result<LeaseId, String> {
    LeaseId::new(text).map_err(|error| error.to_string())
}

pub fn parse_holder(text: &str) -> Result<HolderId, String> {
    HolderId::new(text).map_err(|error| error.to_string())
}

/// Every cloud's answer about one role.
pub struct Views {
    pub views: Vec<LeaseView>,
    pub silent: BTreeMap<CloudId, Error>,
}

impl Views {
    /// Asks all clouds; at least one has to know the role. Once enough have answered, a cloud that is away is not waited
    /// for.
    pub async fn ask(client: &Client, tenant: &TenantId, lease: &LeaseId) -> Result<Self, Failure> {
        let patience = client.patience();
        let ask = async |cloud: &CloudId| (cloud.clone(), client.lease(cloud, tenant, lease, None, patience).await);
        let mut asked: FuturesUnordered<_> = client.clouds().iter().map(|cloud| ask(&cloud.name)).collect();
        let (mut this, mut until) = (Self { views: Vec::new(), silent: BTreeMap::new() }, None);
        loop {
            let answer = match until {
                None => Ok(asked.next().await),
                Some(until) => timeout_at(until, asked.next()).await,
            };
            match answer {
                Ok(Some((_, Ok(view)))) => this.views.push(view),
                Ok(Some((cloud, Err(error)))) => drop(this.silent.insert(cloud, error)),
                Ok(None) | Err(_) => break,
            }
            if this.needed(client.clouds().len()).is_some_and(|needed| this.views.len() >= needed) {
                until = until.or(Some(Instant::now() + GRACE));
            }
        }
        if this.views.is_empty() {
            let refused = this.silent.into_values().max_by_key(|error| matches!(error, Error::Refused(_)));
            return Err(refused.map_or_else(|| Failure::usage("the context names no cloud"), Failure::from));
        }
        for cloud in client.clouds() {
            if !this.silent.contains_key(&cloud.name) && !this.views.iter().any(|view| view.cloud == cloud.name) {
                let late = Error::NoQuorum(format!("no answer within {GRACE:?} of the others"));
                this.silent.insert(cloud.name.clone(), late);
            }
        }
        this.views.sort_by(|a, b| a.cloud.cmp(&b.cloud));
        Ok(this)
    }

    /// How many of so many clouds have to name the holder.
    fn needed(&self, clouds: usize) -> Option<usize> {
        Some(match &self.views.first()?.scope {
            Scope::Cloud(_) => 1,
            Scope::Global => clouds / 2 + 1,
            Scope::Strict => clouds,
        })
    }

    /// Who holds the role: the one whom enough clouds name. A quorum is counted in clouds of equal weight, which is
    /// how a reader without the trust bundle sees it; what decides is the grant.
    pub fn holder(&self, clouds: usize) -> Option<(&HolderId, u64)> {
        let needed = self.needed(clouds)?;
        let mut named: BTreeMap<(&HolderId, u64), usize> = BTreeMap::new();
        for view in &self.views {
            if let (Some(holder), Some(token)) = (&view.holder_identity, view.fencing_token) {
                *named.entry((holder, token)).or_default() += 1;
            }
        }
        named.into_iter().find(|(_, count)| *count >= needed).map(|(named, _)| named)
    }

    /// Tells on stderr who did not answer.
    pub fn complain(&self) {
        for (cloud, error) in &self.silent {
            eprintln!("cloud {cloud}: {error}");
        }
    }
}

/// Tells every cloud that answers, and says which do not; more than half have to. Returns which ones did.
async fn put_where_they_answer(client: &Client, spec: &Spec) -> Result<Vec<CloudId>, Failure> {
    let put = join_all(client.clouds().iter().map(|cloud| client.put_lease(&cloud.name, spec))).await;
    let (mut told, mut why) = (Vec::new(), None);
    for (cloud, result) in client.clouds().iter().zip(put) {
        match result {
            Ok(_) => told.push(cloud.name.clone()),
            Err(error @ Error::Refused(_)) => return Err(error.into()),
            Err(error) => {
                eprintln!("cloud {}: {error}", cloud.name);
                why = Some(error);
            }
        }
    }
    match why.filter(|_| told.len() <= client.clouds().len() / 2) {
        Some(error) => Err(error.into()),
        None => Ok(told),
    }
}

/// Tells every cloud, and says which one did not take it.
async fn put_everywhere(client: &Client, spec: &Spec) -> Result<Vec<LeaseView>, Failure> {
    let put = join_all(client.clouds().iter().map(|cloud| client.put_lease(&cloud.name, spec))).await;
    let (mut views, mut failed) = (Vec::new(), Vec::new());
    for (cloud, result) in client.clouds().iter().zip(put) {
        match result {
            Ok(view) => views.push(view),
            Err(error) => failed.push((cloud.name.clone(), Failure::from(error))),
        }
    }
    let Some((_, worst)) = failed.iter().find(|(_, failure)| failure.code == REFUSED).or(failed.first()) else {
        return Ok(views);
    };
    for (cloud, failure) in &failed {
        eprintln!("cloud {cloud}: {}", failure.message);
    }
    let names: Vec<&str> = failed.iter().map(|(cloud, _)| cloud.as_str()).collect();
    let code = if worst.code == REFUSED { REFUSED } else { NO_QUORUM };
    let why = format!("not done on: {}; run the same command again when they answer, that is safe", names.join(", "));
    Err(Failure::new(code, why))
}
