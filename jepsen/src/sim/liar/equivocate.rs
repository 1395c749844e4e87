//! One honest cloud is told another history than the other: from the fork on some votes are changed
//! in it, under notes that the liar's nodes really signed. Each of the two can audit what it is told;
//! only together can they find out.

use super::branch::Branch;
use super::tamper::{Hands, Lying, Message, now};
use crate::sim::lane::Lane;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tercet_core::ids::{CloudId, Hash, Tag};
use tercet_core::mirrors::LogChunk;
use tercet_core::transparency::{Leaf, SignedNote, Verdict};
use tercet_core::wire::sha256;
use tercetd::federation::frames::{Answer, Question, Reply, Request};

/// Questions of the victim that may wait for their answer.
const MAX_QUESTIONS: usize = 1024;

/// What the branch says of an event in place of the true vote: the salted content.
pub type Votes = Arc<Mutex<BTreeMap<Tag, Hash>>>;

pub struct Equivocate {
    pub victim: String,
    /// Events whose other content the victim holds.
    pub votes: Votes,
    fork_at: u64,
    branch: Branch,
    /// What the victim asked, by connection and id.
    questions: BTreeMap<(u64, u64), Question>,
}

impl Equivocate {
    /// Forks behind everything that any of the liar's nodes holds now.
    pub fn new(hands: &Hands, victim: String, votes: Votes) -> Self {
        let seats = hands.cluster.seats_of(hands.cloud.as_str());
        let sizes = seats.iter().filter_map(|seat| log_size(hands, seat));
        let fork_at = sizes.max().unwrap_or(0).max(1);
        Self { victim, votes, fork_at, branch: Branch::default(), questions: BTreeMap::new() }
    }

    /// Follows the true log up to a size; whether the branch reaches it.
    fn reach(&mut self, hands: &mut Hands, seat: &str, size: u64) -> bool {
        while self.branch.size() < size {
            let index = self.branch.size();
            let Some(leaf) = true_leaf(hands, seat, index) else { return false };
            let leaf = if index < self.fork_at { leaf } else { self.forge(hands, leaf) };
            self.branch.push(leaf);
        }
        true
    }

    fn forge(&self, hands: &mut Hands, leaf: Leaf) -> Leaf {
        let Leaf::Vote(mut vote) = leaf else { return leaf };
        let chosen = self.votes.lock().unwrap_or_else(PoisonError::into_inner).get(&vote.tag).copied();
        match (chosen, hands.random.below(6)) {
            (Some(content), _) => {
                (vote.content, vote.verdict) = (content, Verdict::Confirm);
                hands.did("votes for another content");
            }
            (None, 0) => {
                vote.content = sha256(&vote.content.0);
                hands.did("votes for an unknown content");
            }
            (None, 1) if vote.verdict == Verdict::Confirm => {
                vote.verdict = Verdict::RejectOperator;
                hands.did("votes turned round");
            }
            _ => {}
        }
        Leaf::Vote(vote)
    }

    /// The liar's own note as the victim is to see it; `None` if it cannot be told.
    fn note(&mut self, hands: &mut Hands, seat: &str, note: &SignedNote) -> Option<SignedNote> {
        if note.body.size <= self.fork_at {
            return Some(note.clone());
        }
        if !self.reach(hands, seat, note.body.size) {
            return None;
        }
        let mut body = note.body.clone();
        body.root = self.branch.root(body.size)?;
        if body.root == note.body.root {
            return Some(note.clone());
        }
        hands.did("notes signed over the branch");
        Some(hands.sign(body))
    }

    fn chunk(&mut self, hands: &mut Hands, seat: &str, mut chunk: LogChunk) -> Option<LogChunk> {
        chunk.note = self.note(hands, seat, &chunk.note)?;
        let (size, end) = (chunk.note.body.size, chunk.first_index + chunk.leaves.len() as u64);
        if size <= self.fork_at {
            return Some(chunk);
        }
        chunk.leaves = (chunk.first_index..end).map(|index| self.branch.leaf(index).cloned()).collect::<Option<_>>()?;
        chunk.consistency = self.branch.consistency(end, size)?;
        Some(chunk)
    }

    /// What the true log's answers become. A question about the time before the fork has one answer.
    fn answer(&mut self, hands: &mut Hands, lane: &Lane, id: u64, answer: Answer) -> Answer {
        let asked = self.questions.remove(&(lane.connection, id));
        let own = |cloud: &CloudId| *cloud == hands.cloud;
        match (asked, answer) {
            (Some(Question::Note(cloud)), Answer::Note(Some(note))) if own(&cloud) => {
                Answer::Note(self.note(hands, &lane.from, &note).map(Box::new))
            }
            (Some(Question::Root { cloud, size }), Answer::Root(Some(_))) if own(&cloud) && size > self.fork_at => {
                let reached = self.reach(hands, &lane.from, size);
                Answer::Root(self.branch.root(size).filter(|_| reached))
            }
            (Some(Question::Leaf { cloud, index, size }), Answer::Leaf(Some(_)))
                if own(&cloud) && size > self.fork_at =>
            {
                let reached = self.reach(hands, &lane.from, size);
                let leaf = self.branch.leaf(index).cloned().zip(self.branch.proof(index, size));
                Answer::Leaf(leaf.filter(|_| reached))
            }
            (_, answer) => answer,
        }
    }

    fn is_victim(&self, seat: &str) -> bool {
        seat.split('-').next() == Some(&self.victim)
    }
}

impl Lying for Equivocate {
    fn sends(&mut self, hands: &mut Hands, lane: &Lane, mut message: Message) -> Vec<(Duration, Message)> {
        if !self.is_victim(&lane.to) {
            return vec![now(message)];
        }
        if let Some(notes) = message.greeting() {
            let own = |note: &SignedNote| note.body.origin.cloud == hands.cloud;
            let (mine, others): (Vec<_>, Vec<_>) = notes.drain(..).partition(own);
            let mine = mine.iter().filter_map(|note| self.note(hands, &lane.from, note));
            *notes = mine.collect::<Vec<_>>().into_iter().chain(others).collect();
            return vec![now(message)];
        }
        match message {
            Message::Reply(Reply::Chunk { serial, chunk }) if chunk.cloud == hands.cloud => {
                let chunk = self.chunk(hands, &lane.from, *chunk);
                let told = chunk.map(|chunk| Message::Reply(Reply::Chunk { serial, chunk: Box::new(chunk) }));
                told.into_iter().map(now).collect()
            }
            Message::Reply(Reply::Answer { id, answer }) => {
                let answer = self.answer(hands, lane, id, answer);
                vec![now(Message::Reply(Reply::Answer { id, answer }))]
            }
            message => vec![now(message)],
        }
    }

    /// A liar's nodes would stop signing once they saw that somebody holds another log of theirs.
    fn hears(&mut self, hands: &mut Hands, lane: &Lane, mut message: Message) -> Message {
        if let Message::Request(Request::Ask { id, question }) = &message {
            if self.questions.len() >= MAX_QUESTIONS {
                self.questions.pop_first();
            }
            self.questions.insert((lane.connection, *id), question.clone());
        }
        if let Some(notes) = message.greeting() {
            notes.retain(|note| note.body.origin.cloud != hands.cloud);
        }
        message
    }
}

fn log_size(hands: &Hands, seat: &str) -> Option<u64> {
    let running = hands.cluster.running(seat)?;
    let size = running.core.replica.read(|view| Ok(view.state.head(&hands.cloud).map(|head| head.size)));
    size.ok().flatten()
}

fn true_leaf(hands: &Hands, seat: &str, index: u64) -> Option<Leaf> {
    let running = hands.cluster.running(seat)?;
    running.core.replica.read(|view| view.state.leaf(view.records, &hands.cloud, index)).ok().flatten()
}
