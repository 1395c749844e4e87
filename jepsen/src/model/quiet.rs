//! Lets the honest clouds tell each other everything, from any explored state, and judges what they
//! then hold. Where that leads depends only on the honest clouds' states, so it is remembered.

use super::clouds::{Id, Sharded};
use super::deliver::What;
use super::system::{FinalityModel, System};
use crate::invariants::{self, Views};
use std::sync::Arc;
use tercet_core::genesis::CLOUDS;

/// Rounds after which clouds that still have news for each other never fall silent.
const MAX_ROUNDS: usize = 50;

/// By the honest clouds' states and the epochs that are announced: what is wrong, if anything is.
pub type Memo = Sharded<(Vec<Id>, [u8; CLOUDS]), Arc<[Wrong]>>;

/// An invariant that does not hold, and why.
#[derive(Debug, Clone)]
pub struct Wrong {
    pub invariant: &'static str,
    pub why: String,
}

impl FinalityModel {
    /// What is wrong once the honest clouds have told each other everything.
    pub fn unquiet(&self, system: &System) -> Arc<[Wrong]> {
        let honest = self.honest();
        let key = (honest.iter().map(|copy| system.clouds[usize::from(*copy)]).collect(), system.epochs);
        if let Some(known) = self.quiet.get(&key) {
            return known;
        }
        let wrong: Arc<[Wrong]> = match self.exchange(&honest, system) {
            Err(why) => [Wrong { invariant: "a step", why: why.to_string() }].into(),
            Ok(clouds) => self.with_views(&clouds, judge_quiet).into(),
        };
        self.quiet.insert(key, wrong.clone());
        wrong
    }

    /// These talk until nobody has news. Their states then, in their order.
    pub(super) fn exchange(&self, copies: &[u8], system: &System) -> Result<Vec<Id>, Arc<str>> {
        let mut system = self.renew_all(copies, system.clone())?;
        for _ in 0..MAX_ROUNDS {
            let before = system.clouds;
            for from in copies {
                for to in copies.iter().filter(|to| *to != from) {
                    system = self.tell(system, *from, *to)?;
                }
            }
            if system.clouds == before {
                return Ok(copies.iter().map(|copy| system.clouds[usize::from(*copy)]).collect());
            }
        }
        Err("the honest clouds never fall silent".into())
    }

    /// Operators finish what they began: who lost its epoch opens the next, and all hear of it.
    fn renew_all(&self, copies: &[u8], mut system: System) -> Result<System, Arc<str>> {
        let epochs = system.epochs;
        for cloud in copies.iter().filter(|cloud| epochs[usize::from(**cloud)] > 0) {
            for to in copies.iter().filter(|to| *to != cloud) {
                system = settle(self.announce(&system, *cloud, *to), system)?;
            }
        }
        Ok(system)
    }

    /// Everything that one honest cloud has for another, by the rules of `tercetd`'s federation.
    fn tell(&self, mut system: System, from: u8, to: u8) -> Result<System, Arc<str>> {
        let sender = system.clouds[usize::from(from)];
        let mut bring = |what: What| -> Result<(), Arc<str>> {
            system = settle(self.bring(&system, sender, to, what), system.clone())?;
            Ok(())
        };
        for log in (0..CLOUDS as u8).filter(|log| usize::from(*log) != self.cloud_of(to)) {
            bring(What::Log(log))?;
        }
        for what in [What::Proofs, What::Bodies] {
            bring(what)?;
        }
        Ok(system)
    }
}

/// What must hold in every state. A cloud of the model has one replica, which applies what is
/// committed: it is always at rest.
pub fn broken_now(views: &Views<'_>) -> Vec<invariants::Broken> {
    let honest = views.clouds.iter().filter(|view| views.is_honest(&view.cloud));
    let at_rest = honest.flat_map(|owner| invariants::broken_at_rest(owner, views));
    invariants::broken(&invariants::ALWAYS, views).into_iter().chain(at_rest).collect()
}

fn judge_quiet(views: &Views<'_>) -> Vec<Wrong> {
    let mut broken = invariants::broken(&invariants::WHEN_QUIET, views);
    broken.extend(broken_now(views));
    let wrong = |(invariant, why): (_, String)| Wrong { invariant, why: format!("once all is told, {why}") };
    broken.into_iter().map(wrong).collect()
}

fn settle(next: Option<System>, before: System) -> Result<System, Arc<str>> {
    let next = next.unwrap_or(before);
    match next.broken {
        None => Ok(next),
        Some(broken) => Err(broken),
    }
}
