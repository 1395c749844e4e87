//! One direction of one connection, as those see it who read along: who sends to whom, which
//! connection it is, and what it is for. From that a frame can be read, and changed on its way.

use super::network::Seat;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tercet_core::codec;
use tercetd::federation::frames::{Answer, Question, Reply, Request};
use tercetd::peer::{Method, Service, unframe};

/// Sees what a seat sends to other clouds and may send something else: nothing, the same later,
/// more. It sees what arrives there, too, and may let the seat hear something else.
pub trait Tamper: Send {
    /// What goes out instead, each frame so much later than usual.
    fn sends(&mut self, lane: &Lane, frame: Bytes) -> Vec<(Duration, Bytes)>;
    fn hears(&mut self, _lane: &Lane, frame: Bytes) -> Bytes {
        frame
    }
}

#[derive(Debug, Clone)]
pub struct Lane {
    pub from: Seat,
    pub to: Seat,
    /// Number of the connection: both of its directions have the same.
    pub connection: u64,
    /// Whether the sender of this direction opened the connection.
    pub dialled: bool,
    service: Arc<OnceLock<Option<Service>>>,
}

impl Lane {
    /// Both directions of a new connection: there, and back.
    pub fn pair(from: &Seat, to: &Seat, connection: u64) -> (Self, Self) {
        let there =
            Self { from: from.clone(), to: to.clone(), connection, dialled: true, service: Arc::new(OnceLock::new()) };
        let back = Self { from: to.clone(), to: from.clone(), dialled: false, ..there.clone() };
        (there, back)
    }

    /// Looks at a frame that is sent. The first one of a connection says what it is for; returns
    /// whether this was it.
    pub fn opens(&self, frame: &Bytes) -> bool {
        let first = self.dialled && self.service.get().is_none();
        if first {
            let tag = frame.first().copied().filter(|_| frame.len() == 1);
            let _ = self.service.set(tag.and_then(Service::from_byte));
        }
        first
    }

    pub fn is_federation(&self) -> bool {
        self.service.get() == Some(&Some(Service::Federation))
    }

    /// A frame in words. Whether it opens the connection is seen by its length alone.
    pub fn describe(&self, frame: &Bytes) -> String {
        let what = match (self.service.get().copied().flatten(), self.dialled, frame.len()) {
            (Some(service), true, 1) => format!("opens a {service:?} connection"),
            (Some(Service::Cloud), dialled, _) => call(frame, dialled),
            (Some(Service::Federation), true, _) => decoded(frame, request),
            (Some(Service::Federation), false, _) => decoded(frame, reply),
            (None, ..) => "an unknown service".to_owned(),
        };
        format!("#{} {what}, {} bytes", self.connection, frame.len())
    }
}

fn call(frame: &Bytes, request: bool) -> String {
    match unframe(frame.clone()) {
        None => "no frame of a call".to_owned(),
        Some((id, kind, _)) if request => match Method::from_byte(kind) {
            Some(method) => format!("call {id} {method:?}"),
            None => format!("call {id} of unknown method {kind}"),
        },
        Some((id, status, _)) => format!("answer {id} {}", if status == 0 { "ok" } else { "failed" }),
    }
}

fn decoded<T: DeserializeOwned>(frame: &Bytes, tell: fn(&T) -> String) -> String {
    codec::decode(frame).map_or_else(|error| format!("undecodable ({error})"), |message| tell(&message))
}

fn short(id: &impl ToString) -> String {
    id.to_string().chars().take(8).collect()
}

fn request(message: &Request) -> String {
    match message {
        Request::Hello { cloud, node, notes, .. } => format!("Hello {cloud} {node}, {} notes", notes.len()),
        Request::Subscribe { cloud, epoch, from, serial } => {
            format!("Subscribe {cloud} epoch {} from {from}, serial {serial}", short(epoch))
        }
        Request::Unsubscribe { cloud } => format!("Unsubscribe {cloud}"),
        Request::Ack { cloud, serial } => format!("Ack {cloud} serial {serial}"),
        Request::Ask { id, question } => format!("Ask {id} {}", self::question(question)),
    }
}

fn question(question: &Question) -> String {
    match question {
        Question::Bodies(tags) => format!("Bodies of {} tags", tags.len()),
        Question::Evidence(ids) => format!("Evidence {} ids", ids.len()),
        Question::Openings => "Openings".to_owned(),
        Question::Note(cloud) => format!("Note of {cloud}"),
        Question::Root { cloud, size } => format!("Root of {cloud} at {size}"),
        Question::Leaf { cloud, index, size } => format!("Leaf {index} of {cloud} at {size}"),
        Question::Testimony(tags) => format!("Testimony on {} tags", tags.len()),
    }
}

fn reply(message: &Reply) -> String {
    match message {
        Reply::Welcome { notes, openings, evidence } => {
            format!("Welcome, {} notes, {} openings, {} evidence", notes.len(), openings.len(), evidence.len())
        }
        Reply::Redirect { leader } => {
            format!("Redirect to {}", leader.as_ref().map_or("nobody".to_owned(), ToString::to_string))
        }
        Reply::News { openings, evidence } => format!("News, {} openings, {} evidence", openings.len(), evidence.len()),
        Reply::Chunk { serial, chunk } => format!(
            "Chunk {} epoch {} {}..{} note {} serial {serial}, {} bodies",
            chunk.cloud,
            short(&chunk.epoch),
            chunk.first_index,
            chunk.first_index + chunk.leaves.len() as u64,
            chunk.note.body.size,
            chunk.bodies.len()
        ),
        Reply::Answer { id, answer } => format!("Answer {id} {}", self::answer(answer)),
    }
}

fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Bodies(bodies) => format!("{} Bodies", bodies.len()),
        Answer::Evidence(found) => format!("{} Evidence", found.len()),
        Answer::Openings(found) => format!("{} Openings", found.len()),
        Answer::Note(note) => match note {
            Some(note) => format!("Note of {} at {}", note.body.origin.cloud, note.body.size),
            None => "no Note".to_owned(),
        },
        Answer::Root(root) => format!("Root {}", root.map_or("unknown".to_owned(), |root| short(&root))),
        Answer::Leaf(leaf) => if leaf.is_some() { "Leaf" } else { "no Leaf" }.to_owned(),
        Answer::Testimony { statements, strays } => {
            format!("Testimony, {} statements, {} strays", statements.len(), strays.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tercet_core::ids::CloudId;

    #[test]
    fn frames_are_read_by_service_and_direction() {
        let (there, back) = Lane::pair(&"aws-1".into(), &"gcp-1".into(), 7);
        let tag = Bytes::from_static(&[Service::Federation as u8]);
        assert!(!back.opens(&tag) && there.opens(&tag) && !there.opens(&tag));
        assert!(there.is_federation() && back.is_federation());
        assert_eq!(there.describe(&tag), "#7 opens a Federation connection, 1 bytes");
        let ack = Request::Ack { cloud: CloudId::new("gcp").expect("a name"), serial: 3 };
        let frame = Bytes::from(codec::encode(&ack));
        assert!(there.describe(&frame).starts_with("#7 Ack gcp serial 3, "));
        assert!(!back.describe(&frame).contains("Ack"), "the other direction carries replies");
    }
}
