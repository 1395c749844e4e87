//! `tercet role`: leases as people use them.

mod change;
mod create;
mod history;
mod list;
mod run;
mod show;

use crate::exit::{Failure, NO_QUORUM, REFUSED};
use crate::session::Globals;
use clap::{Args, Subcommand};
use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tercet::leases::LeaseView;
use tercet::{Client, Error};
use tercet_core::ids::{CloudId, HolderId, LeaseId, TenantId};
use tercet_core::leases::{Asked, Scope, Spec};
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

/// What the history says of who changed a role.
#[derive(Debug, Args)]
struct AskedArgs {
    /// Who asks, for the role's history; USER@HOST unless named
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Why, for the role's history
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
}

impl AskedArgs {
    /// `otherwise` is the reason if none was named.
    fn asked(&self, otherwise: Option<String>) -> Result<Asked, Failure> {
        let by = self.by.clone().unwrap_or_else(|| {
            let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
            let user = user.unwrap_or_else(|_| nix::unistd::getuid().to_string());
            let host = nix::unistd::gethostname().map_or_else(|_| String::new(), |host| host.to_string_lossy().into());
            format!("{user}@{host}")
        });
        let asked = Asked { by: Some(by), why: self.why.clone().or(otherwise), ..Asked::default() };
        asked.check().map_err(Failure::usage)?;
        Ok(asked)
    }
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
        let clouds = client.clouds().len();
        let mut this = Self { views: Vec::new(), silent: BTreeMap::new() };
        let answers = gather(
            client,
            |cloud| client.lease(cloud, tenant, lease, None, patience),
            |cloud, answer| {
                match answer {
                    Ok(view) => this.views.push(view),
                    Err(error) => drop(this.silent.insert(cloud, error)),
                }
                this.is_told(clouds)
            },
        );
        answers.await;
        if this.views.is_empty() {
            let refused = this.silent.into_values().max_by_key(|error| matches!(error, Error::Refused(_)));
            return Err(refused.map_or_else(|| Failure::usage("the context names no cloud"), Failure::from));
        }
        this.views.sort_by(|a, b| a.cloud.cmp(&b.cloud));
        Ok(this)
    }

    pub fn scope(&self) -> Scope {
        self.views[0].scope.clone()
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

    /// Whether enough of those who vote on the role have answered.
    fn is_told(&self, clouds: usize) -> bool {
        let votes = |view: &&LeaseView| !matches!(&view.scope, Scope::Cloud(cloud) if view.cloud != *cloud);
        self.needed(clouds).is_some_and(|needed| self.views.iter().filter(votes).count() >= needed)
    }

    /// Why these answers do not tell that nobody holds the role: too many of those who vote on it are silent.
    pub fn unknown(&self, clouds: usize) -> Option<Failure> {
        if self.holder(clouds).is_some() || self.is_told(clouds) {
            return None;
        }
        let silent: Vec<&str> = self.silent.keys().map(CloudId::as_str).collect();
        Some(Failure::new(NO_QUORUM, format!("nobody can tell who holds the role: no answer of {}", silent.join(", "))))
    }

    /// Tells on stderr who did not answer.
    pub fn complain(&self) {
        for (cloud, error) in &self.silent {
            eprintln!("cloud {cloud}: {error}");
        }
    }
}

/// Asks every cloud at once. As soon as `take` says that enough have answered the others are not waited for any more;
/// they count as silent.
async fn gather<'a, T, F>(
    client: &'a Client,
    ask: impl Fn(&'a CloudId) -> F,
    mut take: impl FnMut(CloudId, Result<T, Error>) -> bool,
) where
    F: Future<Output = Result<T, Error>>,
{
    let ask = async |cloud: &'a CloudId| (cloud, ask(cloud).await);
    let mut asked: FuturesUnordered<_> = client.clouds().iter().map(|cloud| ask(&cloud.name)).collect();
    let mut left: BTreeSet<&CloudId> = client.clouds().iter().map(|cloud| &cloud.name).collect();
    let mut until = None;
    loop {
        let answer = match until {
            None => asked.next().await,
            Some(until) => timeout_at(until, asked.next()).await.unwrap_or(None),
        };
        let Some((cloud, answer)) = answer else { break };
        left.remove(cloud);
        if take(cloud.clone(), answer) {
            until = until.or(Some(Instant::now() + GRACE));
        }
    }
    for cloud in left {
        take(cloud.clone(), Err(Error::NoQuorum(format!("no answer within {GRACE:?} of the others"))));
    }
}

/// Tells every cloud. Which ones took it, and why the others did not.
async fn put(client: &Client, spec: &Spec, asked: &Asked) -> (Vec<CloudId>, Vec<(CloudId, Error)>) {
    let put = join_all(client.clouds().iter().map(|cloud| client.put_lease(&cloud.name, spec, asked))).await;
    let (mut told, mut failed) = (Vec::new(), Vec::new());
    for (cloud, result) in client.clouds().iter().zip(put) {
        match result {
            Ok(_) => told.push(cloud.name.clone()),
            Err(error) => failed.push((cloud.name.clone(), error)),
        }
    }
    (told, failed)
}

/// Tells every cloud that answers, and says which do not; more than half have to. Returns which ones did.
async fn put_where_they_answer(client: &Client, spec: &Spec, asked: &Asked) -> Result<Vec<CloudId>, Failure> {
    let (told, mut failed) = put(client, spec, asked).await;
    if let Some(at) = failed.iter().position(|(_, error)| matches!(error, Error::Refused(_))) {
        return Err(failed.swap_remove(at).1.into());
    }
    for (cloud, error) in &failed {
        eprintln!("cloud {cloud}: {error}");
    }
    match failed.pop() {
        Some((_, error)) if told.len() <= client.clouds().len() / 2 => Err(error.into()),
        _ => Ok(told),
    }
}

/// Tells every cloud, and says which one did not take it.
async fn put_everywhere(client: &Client, spec: &Spec, asked: &Asked) -> Result<(), Failure> {
    let (_, failed) = put(client, spec, asked).await;
    let failed: Vec<(CloudId, Failure)> = failed.into_iter().map(|(cloud, error)| (cloud, error.into())).collect();
    let Some((_, worst)) = failed.iter().find(|(_, failure)| failure.code == REFUSED).or(failed.first()) else {
        return Ok(());
    };
    for (cloud, failure) in &failed {
        eprintln!("cloud {cloud}: {}", failure.message);
    }
    let names: Vec<&str> = failed.iter().map(|(cloud, _)| cloud.as_str()).collect();
    let names = names.join(", ");
    // What one cloud refuses no repetition changes.
    Err(match worst.code {
        REFUSED => Failure::new(REFUSED, format!("refused by: {names}")),
        _ => Failure::new(
            NO_QUORUM,
            format!("not done on: {names}; run the same command again when they answer, that is safe"),
        ),
    })
}
