//! Is there an order of these operations that respects real time and that a sequential model allows?
//! The search of Wing and Gong with Lowe's memory of what was tried. It knows nothing of events: a
//! register, a lease or a set is a `Model`.
//!
//! Crates exist and were passed over: stateright's tester has no memory and no bound of time, so a
//! dozen concurrent operations stall it; todc-utils has the memory but neither a bound nor operations
//! that may never take effect, and the real histories are full of those.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

/// A sequential object. An operation carries what was answered, if anything was.
pub trait Model {
    type Operation: Debug;
    type State: Clone + Eq + Hash + Debug;

    fn initial(&self) -> Self::State;
    /// The state after the operation, or `None` if this answer is wrong in this state.
    fn step(&self, state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;
}

/// An operation with its place in real time: it takes effect once between the two, or, if nobody
/// knows its end, at any time after its beginning or never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation<O> {
    pub what: O,
    pub invoked: usize,
    pub returned: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Linearizable {
    Yes,
    /// The longest beginning that some order explains, and what fits after none.
    No(String),
    /// Time or memory ran out first.
    Unknown,
}

/// So many steps pass between two looks at the clock.
const STEPS_PER_LOOK: u64 = 1024;
/// The most states of the search that are remembered: some hundred bytes each.
const MAX_TRIED: usize = 200_000;

pub fn check<M: Model>(model: &M, mut operations: Vec<Operation<M::Operation>>, deadline: Instant) -> Linearizable {
    operations.sort_by_key(|operation| operation.invoked);
    let mut search = Search::new(model, &operations);
    let mut steps = 0_u64;
    loop {
        if search.open == 0 {
            return Linearizable::Yes;
        }
        let late = steps.is_multiple_of(STEPS_PER_LOOK) && Instant::now() >= deadline;
        if late || search.tried.len() >= MAX_TRIED {
            return Linearizable::Unknown;
        }
        steps += 1;
        if !search.advance() && !search.retreat() {
            return Linearizable::No(search.explain());
        }
    }
}

struct Frame<S> {
    state: S,
    /// Which operation led here.
    chosen: usize,
    /// The next operation to try from here.
    next: usize,
}

struct Search<'a, M: Model> {
    model: &'a M,
    operations: &'a [Operation<M::Operation>],
    done: Bits,
    /// How many operations that must take effect have not.
    open: usize,
    path: Vec<Frame<M::State>>,
    tried: HashSet<(Bits, M::State)>,
    longest: Vec<usize>,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, operations: &'a [Operation<M::Operation>]) -> Self {
        let open = operations.iter().filter(|operation| operation.returned.is_some()).count();
        let root = Frame { state: model.initial(), chosen: usize::MAX, next: 0 };
        let (done, tried, longest) = (Bits::new(operations.len()), HashSet::new(), Vec::new());
        Self { model, operations, done, open, path: vec![root], tried, longest }
    }

    /// Takes the next operation that may come now and leads to something new.
    fn advance(&mut self) -> bool {
        let bound = self.first_return();
        let frame = self.path.last_mut().expect("the root stays");
        let mut at = frame.next;
        while at < self.operations.len() && self.operations[at].invoked < bound {
            let operation = &self.operations[at];
            if !self.done.has(at)
                && let Some(state) = self.model.step(&frame.state, &operation.what)
            {
                self.done.flip(at);
                if self.tried.insert((self.done.clone(), state.clone())) {
                    frame.next = at + 1;
                    self.open -= usize::from(operation.returned.is_some());
                    self.path.push(Frame { state, chosen: at, next: 0 });
                    self.remember();
                    return true;
                }
                self.done.flip(at);
            }
            at += 1;
        }
        false
    }

    /// What was invoked after this cannot come yet: an operation that is still open had returned.
    fn first_return(&self) -> usize {
        let mut bound = usize::MAX;
        for (at, operation) in self.operations.iter().enumerate() {
            if operation.invoked > bound {
                break;
            }
            if !self.done.has(at) {
                bound = bound.min(operation.returned.unwrap_or(usize::MAX));
            }
        }
        bound
    }

    /// Takes the last choice back; false if there is none.
    fn retreat(&mut self) -> bool {
        if self.path.len() == 1 {
            return false;
        }
        let last = self.path.pop().expect("the path is longer than its root");
        self.done.flip(last.chosen);
        self.open += usize::from(self.operations[last.chosen].returned.is_some());
        true
    }

    fn remember(&mut self) {
        if self.path.len() > self.longest.len() + 1 {
            self.longest = self.path[1..].iter().map(|frame| frame.chosen).collect();
        }
    }

    fn explain(&self) -> String {
        let mut state = self.model.initial();
        for at in &self.longest {
            let after = self.model.step(&state, &self.operations[*at].what);
            state = after.expect("this path was taken");
        }
        let rest = self.operations.iter().enumerate();
        let rest = rest.filter(|(at, operation)| operation.returned.is_some() && !self.longest.contains(at));
        let rest: Vec<_> = rest.map(|(_, operation)| &operation.what).take(3).collect();
        format!("after {} operations, in state {state:?}, none fits of {rest:?}", self.longest.len())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    fn flip(&mut self, at: usize) {
        self.0[at / 64] ^= 1 << (at % 64);
    }
}

#[cfg(test)]
mod tests;
