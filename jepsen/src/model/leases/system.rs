//! What may happen next, what must never be, and the way to a state for people.

use super::super::clouds::Clouds;
use super::super::run::{Bounds, Explored, INVARIANTS};
use super::world::{
    ASKS, Action, CANDIDATES, Candidate, ELECTIONS, LIAR, LOST, LeaseModel, MAX_PENDING, RELEASES, RESTARTS, SHOWS,
    STEPS, World,
};
use super::{Config, Reach};
use stateright::{Model, Property};
use std::fmt::Write as _;
use std::sync::Arc;
use tercet_core::genesis::CLOUDS;
use tercet_core::leases::Waits;

type Condition = fn(&LeaseModel, &World) -> bool;

impl Model for LeaseModel {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![self.init.clone()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        let left = |what: usize| world.left[what] > 0;
        let begun = world.left[ASKS] < self.config.asks || !self.config.past.is_empty();
        if left(STEPS) && begun {
            actions.push(Action::Pass);
        }
        let honest = || (0..CLOUDS as u8).filter(|cloud| !self.lies(*cloud));
        if left(ELECTIONS) && begun {
            // Clouds are alike, too.
            actions.push(Action::Elect { cloud: 0 });
        }
        actions.extend((0..world.pending.len() as u8).map(|at| Action::Apply { at }));
        // Candidates are alike: the first one that asks is called Ada.
        for who in 0..if begun { CANDIDATES as u8 } else { 1 } {
            let candidate = &world.candidates[usize::from(who)];
            if left(ASKS) {
                actions.push(Action::Ask { who });
            }
            if left(RESTARTS) && begun {
                actions.push(Action::Restart { who });
            }
            if left(RELEASES) && candidate.asked.is_some() {
                actions.push(Action::Release { who });
            }
            if self.config.liar && candidate.asked.as_ref().is_some_and(|asked| asked.votes & 1 << LIAR == 0) {
                actions.push(Action::Lie { who });
            }
            for cloud in honest() {
                let is_in = |bits: u8| bits & 1 << cloud != 0;
                let room = world.pending.iter().filter(|entry| entry.cloud == cloud).count() < MAX_PENDING;
                match candidate.asked.as_ref().filter(|asked| is_in(asked.pending)) {
                    Some(_) if self.config.pending && room => actions.push(Action::Decide { who, cloud }),
                    Some(_) if !self.config.pending => {
                        actions.push(Action::Vote { who, cloud, heard: true });
                        actions.extend(left(LOST).then_some(Action::Vote { who, cloud, heard: false }));
                    }
                    _ => {}
                }
                if candidate.late.as_ref().is_some_and(|(_, to)| is_in(*to)) {
                    actions.push(Action::Late { who, cloud });
                }
                if candidate.released.as_ref().is_some_and(|(_, to)| is_in(*to)) {
                    actions.push(Action::Released { who, cloud });
                }
                if left(SHOWS) && candidate.held.is_some() && candidate.asked.as_ref().is_some_and(|a| !is_in(a.votes))
                {
                    actions.push(Action::Show { who, cloud });
                }
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Pass => {
                next.now += 1;
                next.left[STEPS] -= 1;
                self.measure(&mut next);
            }
            Action::Elect { cloud } => {
                next.waits[usize::from(cloud)] = Waits::default();
                self.measure(&mut next);
                next.left[ELECTIONS] -= 1;
            }
            Action::Restart { who } => {
                let me = &mut next.candidates[usize::from(who)];
                me.leave_claim();
                let fresh = Candidate::new(&self.clouds.federation, &self.config, who, me.session + 1);
                *me = Candidate { late: me.late.take(), ..fresh };
                next.left[RESTARTS] -= 1;
            }
            Action::Apply { at } => {
                let entry = next.pending.remove(usize::from(at));
                self.vote(&mut next, &entry, true);
                Self::note_split(&mut next, entry.who);
            }
            Action::Ask { who } => return self.ask(world, who),
            Action::Vote { who, cloud, heard } => return self.arrive(world, who, cloud, heard, false),
            Action::Decide { who, cloud } => return self.arrive(world, who, cloud, true, true),
            Action::Late { who, cloud } => return self.late(world, who, cloud),
            Action::Release { who } => return self.release(world, who),
            Action::Released { who, cloud } => return self.released(world, who, cloud),
            Action::Show { who, cloud } => return self.show(world, who, cloud),
            Action::Lie { who } => return self.lie(world, who),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let reach: [(Reach, Condition); 6] = [
            (Reach::Granted, |model, world| model.reaches(world, Reach::Granted)),
            (Reach::Expired, |model, world| model.reaches(world, Reach::Expired)),
            (Reach::Released, |model, world| model.reaches(world, Reach::Released)),
            (Reach::Split, |model, world| model.reaches(world, Reach::Split)),
            (Reach::Joined, |model, world| model.reaches(world, Reach::Joined)),
            (Reach::TwoHolders, |model, world| model.reaches(world, Reach::TwoHolders)),
        ];
        let always: Condition = |model, world| model.judge(world).is_none();
        let wanted = reach.into_iter().filter(|(reach, _)| self.config.reaches.contains(reach));
        [Property::always(INVARIANTS, always)]
            .into_iter()
            .chain(wanted.map(|(reach, shows)| Property::sometimes(reach.name(), shows)))
            .collect()
    }
}

impl Explored for LeaseModel {
    fn bounds(&self) -> Bounds {
        let Config { name, about, depth, floor, reaches, .. } = self.config;
        Bounds { name, about, depth, floor, reaches: reaches.iter().map(|reach| reach.name()).collect() }
    }

    fn expected(&self) -> &'static str {
        Reach::TwoHolders.name()
    }

    fn clouds(&self) -> &Arc<Clouds> {
        &self.clouds
    }

    fn broken(&self, world: &World) -> Option<String> {
        self.judge(world)
    }

    fn render(&self, steps: &[(World, Option<Action>)]) -> String {
        let mut out = String::new();
        for (number, (world, action)) in steps.iter().enumerate() {
            let holders: Vec<String> = world.holders().map(|held| format!("{:?}", held.held)).collect();
            let ballots: Vec<String> = (0..CLOUDS as u8)
                .map(|cloud| {
                    self.lease(world, cloud).vote.map_or("-".into(), |vote| {
                        format!("{} {}.{}", vote.claim.holder, vote.claim.token, vote.claim.renewal)
                    })
                })
                .collect();
            let _ = writeln!(out, "     votes {}; holders {}", ballots.join(", "), holders.join(" and "));
            if let Some(action) = action {
                let _ = writeln!(out, "{:>3}. {action:?}", number + 1);
            }
        }
        if let Some(why) = steps.last().and_then(|(last, _)| self.judge(last)) {
            let _ = writeln!(out, "     {why}");
        }
        out
    }
}
