//! `tercet role run`: a command that runs while a role is held, and never longer.

use super::{parse_holder, parse_lease};
use crate::commands::keep::Kept;
use crate::exit::{Failure, OTHER};
use crate::session::{Globals, TenantArgs};
use clap::Args;
use std::ffi::OsString;
use std::pin::Pin;
use std::time::Duration;
use tercet::client::Patience;
use tercet::leases::{Candidate, Held, Waiting};
use tercet_core::ids::{HolderId, LeaseId};
use tokio::signal::unix::{SignalKind, signal};

/// How long a command may take to end after SIGTERM, if the lease gives it that long.
const GRACE: Duration = Duration::from_secs(10);
/// How long taking back votes may take.
const WITHDRAW: Duration = Duration::from_secs(2);
/// How long one call to a cloud may take.
const CALL: Duration = Duration::from_secs(15);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet role run primary -- ./serve --port 8080
  tercet role run primary --candidate web-1 -- sh -c 'echo token $TERCET_FENCING_TOKEN; exec ./job'
  tercet role run nightly --once -- ./backup.sh

Waits for its turn, then runs the command with TERCET_ROLE, TERCET_HOLDER, TERCET_FENCING_TOKEN and TERCET_GRANT set.
If the role cannot be renewed the command gets SIGTERM when a quarter of the lease is left, and SIGKILL when it is over,
with everything that it started, also in sessions of its own. That is done by a process beside this one: stopping or killing
this program does not keep the command alive beyond its lease. Then this candidate waits for its turn again (with --once it ends with code 1). When the
command ends by itself the role is released, and its exit code is passed on.")]
pub struct Run {
    /// The role's name
    #[arg(value_name = "NAME", value_parser = parse_lease)]
    name: LeaseId,
    /// Who this is, to the clouds and to people [default: the machine's name]
    #[arg(long, value_name = "ID", value_parser = parse_holder)]
    candidate: Option<HolderId>,
    /// End when the role is lost, and do not wait for it again
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    tenant: TenantArgs,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<OsString>,
}

/// How a command ended.
enum Ended {
    ByItself(i32),
    Lost,
    Stopped,
}

pub async fn run(globals: &Globals, command: Run) -> Result<(), Failure> {
    let context = globals.context()?;
    let client = globals.client(&context, Patience::interactive(CALL))?;
    let tenant = command.tenant.tenant(&context)?;
    let holder = command.candidate.clone().map_or_else(this_machine, Ok)?;
    let (trust, name) = (context.trust_bundle()?, command.name.clone());
    // For all of the time: a signal between two listeners would be lost.
    let mut stop = std::pin::pin!(stopped());
    loop {
        let candidate = tokio::select! {
            candidate = Candidate::new(client.clone(), trust.clone(), tenant.clone(), name.clone(), holder.clone()) => {
                candidate?
            }
            () = &mut stop => return Ok(()),
        };
        eprintln!("{holder} waits for {name}");
        let held = tokio::select! {
            held = candidate.acquire(globals.timeout) => held?,
            () = tell(&candidate) => unreachable!("it tells for as long as it is asked to"),
            () = &mut stop => {
                // A vote that it may have would be in the way of others.
                let _ = tokio::time::timeout(WITHDRAW, candidate.withdraw()).await;
                return Ok(());
            }
        };
        let (ended, held) = hold(&command, held, candidate.duration(), stop.as_mut()).await?;
        match ended {
            Ended::Lost => {
                eprintln!("{name} is lost: it could not be renewed in time");
                held.release(None).await;
                if command.once {
                    return Err(Failure::new(OTHER, ""));
                }
            }
            Ended::ByItself(code) => {
                held.release(None).await;
                eprintln!("{name} is released");
                return if code == 0 { Ok(()) } else { Err(Failure::new(u8::try_from(code).unwrap_or(OTHER), "")) };
            }
            Ended::Stopped => {
                held.release(None).await;
                eprintln!("{name} is released");
                return Ok(());
            }
        }
    }
}

/// Says why the role is not held yet, whenever that changes.
async fn tell(candidate: &Candidate) {
    let mut waiting = candidate.waiting();
    while waiting.changed().await.is_ok() {
        match &*waiting.borrow_and_update() {
            Waiting::Turn => eprintln!("the clouds answer; waiting for the role"),
            Waiting::Clouds(why) => eprintln!("too few clouds vote: {why}"),
            Waiting::Frozen => eprintln!("the role is frozen: nobody new gets it until `tercet role thaw`"),
        }
    }
}

/// Runs the command for as long as the lease is held.
async fn hold(
    command: &Run,
    held: Held,
    lease: Duration,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<(Ended, Held), Failure> {
    let Ok(grant) = held.check() else { return Ok((Ended::Lost, held)) };
    eprintln!("{} holds {} with fencing token {}", grant.claim.holder, command.name, grant.claim.token);
    let env = [
        ("TERCET_ROLE", command.name.to_string()),
        ("TERCET_HOLDER", grant.claim.holder.to_string()),
        ("TERCET_FENCING_TOKEN", grant.claim.token.to_string()),
        ("TERCET_GRANT", grant.to_text()),
    ];
    let mut kept = match Kept::start(&command.command, &env, held.left()).await {
        Ok(kept) => kept,
        Err(error) => {
            held.release(None).await;
            return Err(Failure::usage(format!("cannot start a process: {error}")));
        }
    };
    loop {
        tokio::select! {
            // What ends when the time is over did not end by itself.
            biased;
            () = held.ends_within(lease / 4) => {
                kept.end(held.left()).await;
                return Ok((Ended::Lost, held));
            }
            code = kept.ended() => return Ok((Ended::ByItself(code), held)),
            () = &mut stop => {
                kept.end(held.left().min(GRACE)).await;
                return Ok((Ended::Stopped, held));
            }
            () = tokio::time::sleep(lease / 8) => {}
        }
        kept.allow(held.left()).await;
    }
}

/// Resolves when this program is asked to end, or its terminal is closed.
async fn stopped() {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// The machine's name in the letters of an id.
fn this_machine() -> Result<HolderId, Failure> {
    let name = nix::unistd::gethostname().map_err(|error| Failure::usage(format!("no host name: {error}")))?;
    let name = name.to_string_lossy().to_ascii_lowercase();
    let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(64).collect();
    HolderId::new(clean.trim_matches('-')).map_err(|_| Failure::usage("say who this is with --candidate ID"))
}
