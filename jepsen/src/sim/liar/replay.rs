//! Old messages once more: on the connection that they were sent on, on others, and to other clouds.

use super::tamper::{Hands, Lying, Message, now};
use crate::sim::lane::Lane;
use std::time::Duration;
use tercetd::federation::frames::{Reply, Request};

/// Messages kept to be sent again; then each new one takes the place of another.
const MAX_KEPT: usize = 256;
/// One message in so many is followed by an old one.
const ONE_IN: usize = 4;

struct Kept {
    connection: u64,
    to: String,
    dialled: bool,
    message: Message,
}

#[derive(Default)]
pub struct Replay {
    kept: Vec<Kept>,
}

impl Replay {
    fn keep(&mut self, hands: &mut Hands, lane: &Lane, message: &Message) {
        let Lane { connection, to, dialled, .. } = lane.clone();
        let kept = Kept { connection, to, dialled, message: message.clone() };
        if self.kept.len() < MAX_KEPT {
            self.kept.push(kept);
        } else {
            let place = hands.random.below(MAX_KEPT);
            self.kept[place] = kept;
        }
    }

    /// An old message of the same direction. Nothing that breaks the connection is chosen often:
    /// a broken one carries no lies.
    fn old(&self, hands: &mut Hands, lane: &Lane) -> Option<Message> {
        let breaks = |message: &Message| {
            matches!(
                message,
                Message::Request(Request::Hello { .. })
                    | Message::Reply(Reply::Welcome { .. } | Reply::Redirect { .. } | Reply::Answer { .. })
            )
        };
        let bold = hands.once_in(10);
        let fits = |kept: &&Kept| kept.dialled == lane.dialled && (bold || !breaks(&kept.message));
        let fitting: Vec<&Kept> = self.kept.iter().filter(fits).collect();
        let chosen = (!fitting.is_empty()).then(|| *hands.random.choose(&fitting))?;
        let cloud = |seat: &str| seat.split('-').next().map(ToOwned::to_owned);
        hands.did(match (chosen.connection == lane.connection, cloud(&chosen.to) == cloud(&lane.to)) {
            (true, _) => "messages repeated on their connection",
            (false, true) => "messages repeated on another connection",
            (false, false) => "messages repeated to another cloud",
        });
        Some(chosen.message.clone())
    }
}

impl Lying for Replay {
    fn sends(&mut self, hands: &mut Hands, lane: &Lane, message: Message) -> Vec<(Duration, Message)> {
        self.keep(hands, lane, &message);
        let greets = matches!(
            message,
            Message::Request(Request::Hello { .. }) | Message::Reply(Reply::Welcome { .. } | Reply::Redirect { .. })
        );
        let old = if !greets && hands.once_in(ONE_IN) { self.old(hands, lane) } else { None };
        [Some(message), old].into_iter().flatten().map(now).collect()
    }
}
