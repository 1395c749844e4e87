//! One role of one agent: standing by, leading, handing over. Everything that must not go on without
//! the role has ended before its time is over.

use super::config::{ContainerConfig, RoleConfig, Standby};
use super::engine::Belongs;
use super::watchdog::Watchdog;
use super::{Deployment, Shared, hooks, patience};
use crate::leases::{Candidate, Held};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tercet_core::agents::Owned;
use tercet_core::ids::HolderId;
use tercet_core::leases::Grant;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

/// How often the container is looked after, and the wish for a handover.
const LOOK: Duration = Duration::from_millis(500);
/// Pause after a failed promotion, so that somebody else gets the role.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// How long a container may take to stop when nothing presses.
const STOP: Duration = Duration::from_secs(10);

struct Role {
    shared: Arc<Shared>,
    config: RoleConfig,
    /// What containers and hooks see: `grant` and `token` while the role is held.
    folder: PathBuf,
    /// The image that was deployed last, if any was.
    deployed: Mutex<Option<String>>,
    /// Who is preferred, and since when this agent knows.
    wish: Mutex<Option<(HolderId, Instant)>>,
}

/// Why a tenure ended.
enum Ended {
    Lost,
    Stopped,
    Wanted(HolderId),
}

pub async fn run(
    shared: Arc<Shared>,
    config: RoleConfig,
    mut deployments: mpsc::Receiver<Deployment>,
    mut stop: watch::Receiver<bool>,
) {
    let folder = shared.state_dir.join(config.name.as_str());
    let role = Role { shared, config, folder, deployed: Mutex::default(), wish: Mutex::default() };
    if let Err(error) = std::fs::create_dir_all(&role.folder) {
        return eprintln!("{}: cannot make {}: {error}", role.config.name, role.folder.display());
    }
    role.forget_grant();
    let stopped = async |stop: &mut watch::Receiver<bool>| drop(stop.wait_for(|stop| *stop).await);
    loop {
        let held = tokio::select! {
            held = role.stand_by() => held,
            () = refuse(&mut deployments) => return,
            () = stopped(&mut stop) => break,
        };
        // Before the container: who is killed between the two leaves nothing behind.
        let mut watchdog = role.watchdog(&held).await;
        let grant = match role.promote(&held).await {
            Ok(grant) => grant,
            Err(why) => {
                role.say(&format!("cannot take the role: {why}"));
                role.demote(held.left()).await;
                held.release(None).await;
                if let Some(watchdog) = watchdog {
                    watchdog.dismiss().await;
                }
                sleep(AFTER_FAILURE).await;
                continue;
            }
        };
        let ended = tokio::select! {
            ended = role.lead(&held, &grant, &mut watchdog, &mut deployments) => ended,
            () = stopped(&mut stop) => Ended::Stopped,
        };
        match &ended {
            Ended::Lost => {
                role.say("the role is lost: it could not be renewed in time");
                role.demote(held.left()).await;
                held.release(None).await;
            }
            Ended::Stopped => {
                role.demote(held.left().min(STOP)).await;
                held.release(None).await;
            }
            Ended::Wanted(to) => {
                role.say(&format!("handing over to {to}"));
                // Not ready for another turn until the drain is over.
                role.shared.stand(&role.config.name, |standing| (standing.owns, standing.ready) = (None, false));
                if let Some(watchdog) = &mut watchdog {
                    watchdog.allow(held.left() + role.config.drain).await;
                }
                // First the switch; what runs here finishes what it has begun.
                held.release(Some(to.clone())).await;
                role.forget_grant();
                sleep(role.config.drain).await;
                role.demote(STOP).await;
            }
        }
        if let Some(watchdog) = watchdog {
            watchdog.dismiss().await;
        }
        if matches!(ended, Ended::Stopped) {
            break;
        }
    }
}

/// Who is no leader deploys nothing.
async fn refuse(deployments: &mut mpsc::Receiver<Deployment>) {
    while let Some(deployment) = deployments.recv().await {
        let _ = deployment.done.send(Err("not-leader".into()));
    }
}

impl Role {
    fn say(&self, text: &str) {
        eprintln!("{}: {text}", self.config.name);
    }

    fn belongs(&self) -> Belongs<'_> {
        Belongs { tenant: &self.shared.tenant, role: &self.config.name, agent: &self.shared.id }
    }

    /// The container as it should run now.
    fn container(&self) -> Option<ContainerConfig> {
        let mut container = self.config.container.clone()?;
        if let Some(image) = &*self.deployed.lock().unwrap_or_else(PoisonError::into_inner) {
            container.image.clone_from(image);
        }
        Some(container)
    }

    fn is_warm(&self) -> bool {
        self.config.container.as_ref().is_some_and(|container| container.standby == Standby::Warm)
    }

    /// Keeps ready, and waits until the role is won.
    async fn stand_by(&self) -> Held {
        loop {
            self.prepare().await;
            let ready = self.shared.standing().get(&self.config.name).is_some_and(|standing| standing.ready);
            if !ready {
                sleep(LOOK).await;
                continue;
            }
            let shared = &self.shared;
            let (client, trust, tenant) = (shared.client.clone(), shared.trust.clone(), shared.tenant.clone());
            let candidate = Candidate::new(client, trust, tenant, self.config.name.clone(), shared.id.clone()).await;
            let candidate = match candidate {
                Ok(candidate) => candidate,
                Err(error) => {
                    self.say(&error.to_string());
                    sleep(AFTER_FAILURE).await;
                    continue;
                }
            };
            let keep_ready = async {
                loop {
                    sleep(LOOK).await;
                    self.prepare().await;
                    if !self.shared.standing().get(&self.config.name).is_some_and(|standing| standing.ready) {
                        return;
                    }
                    self.answer_wish().await;
                }
            };
            tokio::select! {
                held = candidate.acquire(None) => match held {
                    Ok(held) => return held,
                    Err(error) => self.say(&error.to_string()),
                },
                () = keep_ready => {}
            }
        }
    }

    /// What a standby does again and again: a warm container runs, a cold one does not, and what is reported is true.
    async fn prepare(&self) {
        let mut ready = true;
        if let (Some(engine), Some(container)) = (&self.shared.engine, &self.container()) {
            let kept = match container.standby {
                Standby::Warm => engine.ensure(&self.belongs(), container, &self.folder).await.map(|_| true),
                Standby::Cold => {
                    self.release_strays().await;
                    Ok(engine.has_image(&container.image).await)
                }
            };
            ready = kept.unwrap_or_else(|error| {
                self.say(&format!("container {}: {error}", container.name));
                false
            });
        }
        ready = ready && hooks::run(&self.config.ready, &[], &self.folder, hooks::HOOK_TIMEOUT).await.is_ok();
        let epoch = self.config.epoch_file.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        let epoch = epoch.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        self.shared.stand(&self.config.name, |standing| (standing.ready, standing.epoch) = (ready, epoch));
    }

    /// Containers of this role that run although this agent does not hold it.
    async fn release_strays(&self) {
        let Some(engine) = &self.shared.engine else { return };
        for stray in engine.of_role(&self.belongs()).await.unwrap_or_default() {
            self.say(&format!("container {} runs without the role; stopping it", &stray[..stray.len().min(12)]));
            if let Err(error) = engine.stop(&stray, Duration::ZERO).await {
                self.say(&format!("it does not stop: {error}"));
            }
        }
    }

    async fn promote(&self, held: &Held) -> Result<Grant, String> {
        let grant = held.check().map_err(|lost| lost.to_string())?;
        self.write_grant(&grant).map_err(|error| format!("cannot write the grant: {error}"))?;
        let mut container = None;
        if let (Some(engine), Some(config)) = (&self.shared.engine, &self.container()) {
            let started = engine.ensure(&self.belongs(), config, &self.folder).await;
            container = Some(started.map_err(|error| format!("container {}: {error}", config.name))?);
        }
        hooks::run(&self.config.on_promote, &variables(&grant), &self.folder, held.left()).await?;
        let grant = held.check().map_err(|lost| lost.to_string())?;
        let owned = Owned { token: grant.claim.token, container };
        self.shared.stand(&self.config.name, |standing| standing.owns = Some(owned));
        self.say(&format!("leads with fencing token {}", grant.claim.token));
        Ok(grant)
    }

    /// Stops what belongs to the role, within this time, and with force after it.
    async fn demote(&self, within: Duration) {
        let until = Instant::now() + within;
        self.forget_grant();
        if let (Some(engine), Some(container), false) = (&self.shared.engine, &self.config.container, self.is_warm())
            // SIGTERM only if there is a second for it: less is none to the engine.
            && let Err(error) = engine.stop(&container.name, within.saturating_sub(Duration::from_secs(1))).await
        {
            self.say(&format!("container {} does not stop: {error}", container.name));
        }
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        let variables = [("TERCET_ROLE", self.config.name.to_string()), ("TERCET_HOLDER", self.shared.id.to_string())];
        if let Err(why) = hooks::run(&self.config.on_demote, &variables, &self.folder, left).await {
            self.say(&why);
        }
        self.shared.stand(&self.config.name, |standing| standing.owns = None);
    }

    /// For a container that must not outlive the role.
    async fn watchdog(&self, held: &Held) -> Option<Watchdog> {
        let (engine, container) = (self.shared.engine.as_ref()?, self.config.container.as_ref()?);
        let mut watchdog = if self.is_warm() { None } else { Watchdog::start(engine, &container.name) }?;
        watchdog.allow(held.left()).await;
        Some(watchdog)
    }

    /// Until the role is lost, or somebody shall have it.
    async fn lead(
        &self,
        held: &Held,
        grant: &Grant,
        watchdog: &mut Option<Watchdog>,
        deployments: &mut mpsc::Receiver<Deployment>,
    ) -> Ended {
        let lease = Duration::from_millis(u64::from(grant.claim.duration_ms));
        loop {
            if let Some(watchdog) = watchdog {
                watchdog.allow(held.left()).await;
            }
            tokio::select! {
                biased;
                () = held.ends_within(lease / 4) => return Ended::Lost,
                Some(deployment) = deployments.recv() => self.deploy(held, deployment).await,
                () = sleep(LOOK.min(lease / 8)) => {
                    if let Ok(grant) = held.check() {
                        let _ = self.write_grant(&grant);
                    }
                    self.look_after(held).await;
                    if let Some(to) = self.wanted().await {
                        return Ended::Wanted(to);
                    }
                }
            }
        }
    }

    /// Starts again what should run.
    async fn look_after(&self, held: &Held) {
        let (Some(engine), Some(container)) = (&self.shared.engine, &self.container()) else { return };
        if !matches!(engine.running(&container.name).await, Ok(None)) || held.check().is_err() {
            return;
        }
        self.say(&format!("container {} has ended; starting it", container.name));
        match engine.ensure(&self.belongs(), container, &self.folder).await {
            Ok(id) => self.shared.stand(&self.config.name, |standing| {
                if let Some(owned) = &mut standing.owns {
                    owned.container = Some(id);
                }
            }),
            Err(error) => self.say(&format!("it does not start: {error}")),
        }
    }

    /// Since when this agent knows who is preferred.
    fn known_wish(&self, preferred: Option<&HolderId>) -> Option<(HolderId, Instant)> {
        let mut wish = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
        if wish.as_ref().map(|(known, _)| known) != preferred {
            *wish = preferred.map(|preferred| (preferred.clone(), Instant::now()));
        }
        wish.clone()
    }

    /// A standby that is newly preferred reports at once: the holder waits for that.
    async fn answer_wish(&self) {
        let shared = &self.shared;
        let Ok(view) = shared.client.leader_within(&shared.tenant, &self.config.name, patience()).await else { return };
        let before = self.wish.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let wish = self.known_wish(view.preferred_holder.as_ref());
        if wish != before && wish.is_some_and(|(preferred, _)| preferred == shared.id) {
            shared.news.send_replace(());
        }
    }

    /// Who is preferred, not this agent, and has reported that it is ready since this agent knows of the wish: one that
    /// died before leaves the role where it is.
    async fn wanted(&self) -> Option<HolderId> {
        let shared = &self.shared;
        let view = shared.client.leader_within(&shared.tenant, &self.config.name, patience()).await.ok()?;
        let (preferred, since) = self.known_wish(view.preferred_holder.as_ref())?;
        let candidate = view.candidates.iter().find(|candidate| candidate.agent == preferred)?;
        let answered = Duration::from_millis(candidate.heard_ms_ago) < since.elapsed();
        (preferred != shared.id && candidate.ready && answered).then_some(preferred)
    }

    /// Replaces the container by one of another image, if this agent still leads.
    async fn deploy(&self, held: &Held, deployment: Deployment) {
        let Deployment { image, done } = deployment;
        let outcome = match (&self.shared.engine, &self.config.container, held.check()) {
            (_, _, Err(_)) => Err("not-leader".to_owned()),
            (Some(engine), Some(container), Ok(_)) => {
                let container = ContainerConfig { image: image.clone(), ..container.clone() };
                let deployed = engine.ensure(&self.belongs(), &container, &self.folder).await;
                deployed.map_err(|error| error.to_string())
            }
            _ => Err("this role has no container here".to_owned()),
        };
        if let Ok(id) = &outcome {
            *self.deployed.lock().unwrap_or_else(PoisonError::into_inner) = Some(image);
            self.shared.stand(&self.config.name, |standing| {
                if let Some(owned) = &mut standing.owns {
                    owned.container = Some(id.clone());
                }
            });
        }
        let _ = done.send(outcome);
    }

    /// Each file is replaced as a whole, so that nobody reads half of one.
    fn write_grant(&self, grant: &Grant) -> std::io::Result<()> {
        for (name, text) in [("grant", grant.to_text()), ("token", grant.claim.token.to_string())] {
            let fresh = self.folder.join(format!(".{name}.new"));
            let mut file = std::fs::File::create(&fresh)?;
            file.write_all(text.as_bytes())?;
            std::fs::rename(fresh, self.folder.join(name))?;
        }
        Ok(())
    }

    fn forget_grant(&self) {
        for name in ["grant", "token"] {
            // It may not be there.
            let _ = std::fs::remove_file(self.folder.join(name));
        }
    }
}

fn variables(grant: &Grant) -> [(&'static str, String); 4] {
    [
        ("TERCET_ROLE", grant.claim.lease.to_string()),
        ("TERCET_HOLDER", grant.claim.holder.to_string()),
        ("TERCET_FENCING_TOKEN", grant.claim.token.to_string()),
        ("TERCET_GRANT", grant.to_text()),
    ]
}
