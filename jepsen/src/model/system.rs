//! The whole as `stateright` explores it: which state each cloud (and each copy of a lying one) is
//! in, and everything that may happen next. Delivery is lossy, reordered and repeated by nature:
//! anything may be delivered at any time, or never.

use super::clouds::{Clouds, Id};
use super::config::{Config, Reach};
use super::deliver::What;
use super::federation::{Federation, MAX_EPOCHS, NAMES, id};
use super::quiet::broken_now;
use super::run::{Bounds, Explored, INVARIANTS};
use super::trace;
use crate::invariants::{CloudView, Views};
use stateright::{Model, Property};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tercet_core::command::Command;
use tercet_core::epochs;
use tercet_core::genesis::CLOUDS;
use tercet_core::ids::CloudId;
use tercet_core::mirrors;

/// Three clouds and at most two copies.
pub const MAX_COPIES: usize = 5;

const NOBODY: Id = Id::MAX;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct System {
    /// By copy; unused places hold `NOBODY`.
    pub clouds: [Id; MAX_COPIES],
    /// A copy as it was when it sent something that has not arrived.
    pub late: Option<(u8, Id)>,
    pub submits: u8,
    pub losses: u8,
    pub rotations: u8,
    pub lates: u8,
    /// The latest epoch that each cloud's root key has signed.
    pub epochs: [u8; CLOUDS],
    /// A step that broke an invariant ends here.
    pub broken: Option<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Submit {
        at: u8,
        event: u8,
        content: u8,
    },
    Deliver {
        from: u8,
        to: u8,
        what: What,
    },
    /// What `from` sends now arrives only later.
    Delay {
        from: u8,
    },
    Arrive {
        to: u8,
        what: What,
    },
    Lose {
        at: u8,
    },
    Rotate {
        at: u8,
    },
    Announce {
        cloud: u8,
        to: u8,
    },
}

pub struct FinalityModel {
    pub config: Config,
    pub clouds: Arc<Clouds>,
    pub liars: BTreeSet<CloudId>,
    /// Which cloud each copy is of.
    copies: Vec<usize>,
    init: System,
    pub(super) quiet: super::quiet::Memo,
    /// Properties whose first example was found: later, longer ones are not asked for.
    found: Arc<AtomicU32>,
}

impl FinalityModel {
    pub fn new(config: Config) -> Result<Self, Arc<str>> {
        let clouds = Arc::new(Clouds::new(Federation::new(config.events, config.contents), config.events));
        let copies: Vec<usize> = (0..CLOUDS).chain(config.liars.iter().copied()).collect();
        let liars = config.liars.iter().map(|cloud| id(*cloud)).collect();
        let (submits, losses, rotations, lates) = (config.submits, config.losses, config.rotations, config.late);
        let (epochs, late, broken) = ([0; CLOUDS], None, None);
        let init = System { clouds: [NOBODY; MAX_COPIES], late, submits, losses, rotations, lates, epochs, broken };
        let (quiet, found) = (super::quiet::Memo::default(), Arc::default());
        let mut model = Self { config, clouds, liars, copies, init, quiet, found };
        for cloud in 0..CLOUDS {
            model.init.clouds[cloud] = model.clouds.create(cloud, &model.first_commands(cloud))?;
        }
        // The clouds have met, and audited each other's first leaf, before anything is submitted.
        let met = model.exchange(&[0, 1, 2], &model.init)?;
        model.init.clouds[..CLOUDS].copy_from_slice(&met);
        for (at, cloud) in model.copies.iter().enumerate() {
            model.init.clouds[at] = met[*cloud];
        }
        if !model.config.past.is_empty() {
            for action in model.config.past {
                model.init = model.next_state(&model.init, *action).ok_or("a step of the past changes nothing")?;
            }
            let told = model.exchange(&model.honest(), &model.init)?;
            for (copy, cloud) in model.honest().into_iter().zip(told) {
                model.init.clouds[usize::from(copy)] = cloud;
            }
        }
        Ok(model)
    }

    fn first_commands(&self, cloud: usize) -> Vec<Command> {
        let openings = &self.clouds.federation.openings;
        let others = (0..CLOUDS).filter(|other| *other != cloud);
        let introduce = |other: usize| Command::Mirrors(mirrors::Command::Introduce(openings[other][0].clone()));
        let open = Command::Epochs(epochs::Command::Open(openings[cloud][0].clone()));
        [open].into_iter().chain(others.map(introduce)).chain([self.clouds.federation.put_tenant()]).collect()
    }

    pub fn copies(&self) -> usize {
        self.copies.len()
    }

    pub fn cloud_of(&self, copy: u8) -> usize {
        self.copies[usize::from(copy)]
    }

    /// `gcp`, or `gcp'` for the other copy of a liar.
    pub fn label(&self, copy: u8) -> String {
        let twin = if usize::from(copy) >= CLOUDS { "'" } else { "" };
        format!("{}{twin}", NAMES[self.cloud_of(copy)])
    }

    pub fn is_liar(&self, copy: u8) -> bool {
        self.config.liars.contains(&self.cloud_of(copy))
    }

    pub fn honest(&self) -> Vec<u8> {
        (0..CLOUDS as u8).filter(|copy| !self.is_liar(*copy)).collect()
    }

    fn deliver(&self, system: &System, from: u8, to: u8, what: What) -> Option<System> {
        let sender = system.clouds[usize::from(from)];
        self.bring(system, sender, to, what)
    }

    pub(super) fn bring(&self, system: &System, sender: Id, to: u8, what: What) -> Option<System> {
        self.step(system, to, (sender, what.code()), |receiver| {
            what.commands(&self.clouds, &self.clouds.get(sender), receiver)
        })
    }

    /// `None` if it changes nothing.
    fn step(
        &self,
        system: &System,
        at: u8,
        key: (Id, u16),
        make: impl FnOnce(&super::clouds::Cloud) -> Vec<Command>,
    ) -> Option<System> {
        let before = system.clouds[usize::from(at)];
        let mut next = system.clone();
        match self.clouds.step(before, key, make) {
            Ok(after) if after == before => return None,
            Ok(after) => next.clouds[usize::from(at)] = after,
            Err(broken) => next.broken = Some(broken),
        }
        Some(next)
    }

    fn submit(&self, system: &System, at: u8, event: u8, content: u8) -> Option<System> {
        let code = 0x200 | u16::from(event) << 4 | u16::from(content);
        let command = || self.clouds.federation.submit(event.into(), content.into());
        let mut next = self.step(system, at, (NOBODY, code), |_| vec![command()])?;
        next.submits -= 1;
        Some(next)
    }

    fn lose(&self, system: &System, at: u8) -> Option<System> {
        let cloud = self.cloud_of(at);
        let mut next = system.clone();
        next.losses -= 1;
        next.epochs[cloud] += 1;
        let federation = &self.clouds.federation;
        let mut commands = vec![federation.put_tenant()];
        for other in (0..CLOUDS).filter(|other| *other != cloud) {
            let known = federation.openings[other].iter().take(usize::from(system.epochs[other]) + 1).cloned();
            commands.extend(known.map(|opening| Command::Mirrors(mirrors::Command::Introduce(opening))));
        }
        match self.clouds.create(cloud, &commands) {
            Ok(empty) => next.clouds[usize::from(at)] = empty,
            Err(broken) => next.broken = Some(broken),
        }
        self.reopen(&next, at)
    }

    /// The cloud opens the latest epoch that its root key has signed, and hears of its older ones.
    fn reopen(&self, system: &System, at: u8) -> Option<System> {
        let cloud = self.cloud_of(at);
        let latest = usize::from(system.epochs[cloud]);
        let openings = &self.clouds.federation.openings[cloud][..=latest];
        self.step(system, at, (NOBODY, 0x300 | latest as u16), |_| {
            let open = Command::Epochs(epochs::Command::Open(openings[latest].clone()));
            let introduce = |opening: &_| Command::Mirrors(mirrors::Command::Introduce(Clone::clone(opening)));
            [open].into_iter().chain(openings.iter().map(introduce)).collect()
        })
    }

    /// A cloud hears of the epochs of another one.
    pub(super) fn announce(&self, system: &System, cloud: u8, to: u8) -> Option<System> {
        let latest = system.epochs[usize::from(cloud)];
        let openings = &self.clouds.federation.openings[usize::from(cloud)][..=usize::from(latest)];
        let code = 0x400 | u16::from(cloud) << 4 | u16::from(latest);
        self.step(system, to, (NOBODY, code), |_| {
            openings.iter().map(|opening| Command::Mirrors(mirrors::Command::Introduce(opening.clone()))).collect()
        })
    }

    pub fn with_views<T>(&self, clouds: &[Id], judge: impl FnOnce(&Views<'_>) -> T) -> T {
        let held: Vec<_> = clouds.iter().map(|id| self.clouds.get(*id)).collect();
        let views: Vec<&CloudView> = held.iter().map(|cloud| &cloud.view).collect();
        judge(&Views { genesis: &self.clouds.federation.genesis, liars: &self.liars, clouds: &views })
    }

    /// What is wrong with a state, if anything is.
    pub fn judge(&self, system: &System) -> Option<String> {
        if let Some(broken) = &system.broken {
            return Some(broken.to_string());
        }
        let copies = &system.clouds[..self.copies()];
        let broken = self.with_views(copies, broken_now);
        if let Some((name, why)) = broken.first() {
            return Some(format!("{name}: {why}"));
        }
        let quiet = self.unquiet(system);
        quiet.first().map(|wrong| format!("{}: {}", wrong.invariant, wrong.why))
    }

    pub fn reaches(&self, system: &System, reach: Reach) -> bool {
        use tercet_core::events::Level;
        if reach == Reach::Renewed {
            // Leaf 0 opens an epoch, the next one is a vote.
            let renewed = |copy: &u8| {
                let state = &self.clouds.get(system.clouds[usize::from(*copy)]).state;
                let first = u32::from(self.init.epochs[self.cloud_of(*copy)]);
                let later = state.opening(state.me()).is_some_and(|opening| opening.number > first);
                later && state.head(state.me()).is_some_and(|head| head.size > 1)
            };
            return self.honest().iter().any(renewed);
        }
        let honest: Vec<Id> = self.honest().iter().map(|copy| system.clouds[usize::from(*copy)]).collect();
        self.with_views(&honest, |views| match reach {
            Reach::Final => views.events().any(|(_, _, event)| event.level == Level::Final),
            Reach::Sealed => views.events().any(|(_, _, event)| event.is_sealed()),
            Reach::Quarantined => views.events().any(|(_, _, event)| event.level == Level::Quarantined),
            Reach::Convicted => views.clouds.iter().any(|view| !view.flagged.is_empty()),
            Reach::Conflict => views.events().filter(|(_, _, event)| event.is_final()).any(|(_, key, event)| {
                let others = views.clouds.iter().filter_map(|view| view.events.get(key));
                others.into_iter().any(|other| other.is_final() && other.settled != event.settled)
            }),
            Reach::Renewed => false,
        })
    }

    /// Whether this is the first state found to show a property.
    fn first(&self, property: u32, shows: impl FnOnce() -> bool) -> bool {
        let bit = 1 << property;
        self.found.load(Ordering::Relaxed) & bit == 0
            && shows()
            && self.found.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}

type Condition = fn(&FinalityModel, &System) -> bool;

impl Model for FinalityModel {
    type State = System;
    type Action = Action;

    fn init_states(&self) -> Vec<System> {
        vec![self.init.clone()]
    }

    fn actions(&self, system: &System, actions: &mut Vec<Action>) {
        if system.broken.is_some() {
            return;
        }
        let copies = self.copies() as u8;
        let idle = self.idle_twins(system);
        for at in (0..copies).filter(|at| system.submits > 0 && !idle.contains(at)) {
            self.submissions(system, at, actions);
        }
        for to in (0..copies).filter(|to| !idle.contains(to)) {
            for from in (0..copies).filter(|from| self.cloud_of(*from) != self.cloud_of(to)) {
                actions.extend(self.wanted(from, to).map(|what| Action::Deliver { from, to, what }));
            }
        }
        self.delays(system, actions);
        self.renewals(system, actions);
    }

    fn next_state(&self, system: &System, action: Action) -> Option<System> {
        match action {
            Action::Submit { at, event, content } => self.submit(system, at, event, content),
            Action::Deliver { from, to, what } => self.deliver(system, from, to, what),
            Action::Delay { from } => {
                let mut next = system.clone();
                next.late = Some((from, system.clouds[usize::from(from)]));
                next.lates -= 1;
                Some(next)
            }
            Action::Arrive { to, what } => {
                let mut next = self.bring(system, system.late?.1, to, what)?;
                next.late = None;
                Some(next)
            }
            Action::Lose { at } => self.lose(system, at),
            Action::Rotate { at } => {
                let mut next = system.clone();
                next.rotations -= 1;
                next.epochs[self.cloud_of(at)] += 1;
                self.reopen(&next, at)
            }
            Action::Announce { cloud, to } => self.announce(system, cloud, to),
        }
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let reach: [(Reach, Condition); 6] = [
            (Reach::Final, |model, system| model.first(1, || model.reaches(system, Reach::Final))),
            (Reach::Sealed, |model, system| model.first(2, || model.reaches(system, Reach::Sealed))),
            (Reach::Quarantined, |model, system| model.first(3, || model.reaches(system, Reach::Quarantined))),
            (Reach::Conflict, |model, system| model.first(4, || model.reaches(system, Reach::Conflict))),
            (Reach::Convicted, |model, system| model.first(5, || model.reaches(system, Reach::Convicted))),
            (Reach::Renewed, |model, system| model.first(6, || model.reaches(system, Reach::Renewed))),
        ];
        let always: Condition = |model, system| !model.first(0, || model.judge(system).is_some());
        let wanted = reach.into_iter().filter(|(reach, _)| self.config.reaches.contains(reach));
        [Property::always(INVARIANTS, always)]
            .into_iter()
            .chain(wanted.map(|(reach, shows)| Property::sometimes(reach.name(), shows)))
            .collect()
    }
}

impl Explored for FinalityModel {
    fn bounds(&self) -> Bounds {
        let Config { name, about, depth, floor, reaches, .. } = self.config;
        Bounds { name, about, depth, floor, reaches: reaches.iter().map(|reach| reach.name()).collect() }
    }

    fn expected(&self) -> &'static str {
        Reach::Conflict.name()
    }

    fn clouds(&self) -> &Arc<Clouds> {
        &self.clouds
    }

    fn broken(&self, system: &System) -> Option<String> {
        self.judge(system)
    }

    fn render(&self, steps: &[(System, Option<Action>)]) -> String {
        trace::render(self, steps)
    }
}

impl FinalityModel {
    /// Contents are alike, and so are events: the first one submitted is called e0, its first content A.
    fn submissions(&self, system: &System, at: u8, actions: &mut Vec<Action>) {
        let untouched = system.submits == self.config.submits;
        let (events, contents) = if untouched { (1, 1) } else { (self.config.events, self.config.contents) };
        for event in 0..events as u8 {
            actions.extend((0..contents as u8).map(|content| Action::Submit { at, event, content }));
        }
    }

    /// A liar's copies take logs, so that they can vote and audit; that they would accuse themselves
    /// helps no attack. Nor does it help that they relay what its owner can send.
    fn wanted(&self, from: u8, to: u8) -> impl Iterator<Item = What> + use<> {
        let (me, sender, relays) = (self.cloud_of(to), self.cloud_of(from), !self.is_liar(from));
        let logs = (0..CLOUDS).filter(move |log| *log != me && (relays || *log == sender));
        let logs = logs.map(|log| What::Log(log as u8));
        let proofs = !self.liars.is_empty() && !self.is_liar(to) && !self.is_liar(from);
        let rest = [(self.config.bodies, What::Bodies), (proofs, What::Proofs)];
        logs.chain(rest.into_iter().filter(|(wanted, _)| *wanted).map(|(_, what)| what))
    }

    /// Both copies of a liar begin alike: whichever something happens to first is called the first.
    fn idle_twins(&self, system: &System) -> Vec<u8> {
        let untouched = |copy: usize| system.clouds[copy] == self.init.clouds[copy];
        let twins = CLOUDS..self.copies();
        twins.filter(|twin| untouched(self.copies[*twin])).map(|twin| twin as u8).collect()
    }

    fn delays(&self, system: &System, actions: &mut Vec<Action>) {
        match system.late {
            None if system.lates > 0 => actions.extend((0..self.copies() as u8).map(|from| Action::Delay { from })),
            None => {}
            Some((from, _)) => {
                for to in (0..self.copies() as u8).filter(|to| self.cloud_of(*to) != self.cloud_of(from)) {
                    let log = self.cloud_of(from) as u8;
                    actions.extend([What::Log(log), What::Overlap(log)].map(|what| Action::Arrive { to, what }));
                }
            }
        }
    }

    fn renewals(&self, system: &System, actions: &mut Vec<Action>) {
        for at in self.config.unlucky.iter().map(|cloud| *cloud as u8) {
            let more = usize::from(system.epochs[usize::from(at)]) + 1 < MAX_EPOCHS;
            if more && system.losses > 0 {
                actions.push(Action::Lose { at });
            }
            if more && system.rotations > 0 {
                actions.push(Action::Rotate { at });
            }
            if system.epochs[usize::from(at)] > 0 {
                let others = (0..self.copies() as u8).filter(|to| self.cloud_of(*to) != usize::from(at));
                actions.extend(others.map(|to| Action::Announce { cloud: at, to }));
            }
        }
    }
}
