//! Exit codes, a part of the contract: scripts branch on them.

use tercet::Error;
use tercet::error::Outcome;
use tercet_core::ids::EventKey;

/// Anything else, such as a full disk or an answer that is not understood.
pub const OTHER: u8 = 1;
/// Wrong arguments, files or context; nothing was sent.
pub const USAGE: u8 = 2;
/// Refused, by a server or by verification.
pub const REFUSED: u8 = 3;
/// No cloud could take it; nothing happened.
pub const NO_QUORUM: u8 = 4;
/// Only a leader answers this, and none was found.
pub const NOT_LEADER: u8 = 5;
/// Time is over and it may have happened; repeating it is safe.
pub const TIMED_OUT: u8 = 6;

/// Why the program ends without success. An empty message prints nothing.
#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub message: String,
}

impl Failure {
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    /// Adds, to an unknown outcome, the key that makes a repetition safe.
    #[must_use]
    pub fn with_key(mut self, key: &EventKey) -> Self {
        if self.code == TIMED_OUT {
            self.message = format!("{}\n{}", self.message, retry_hint(key));
        }
        self
    }
}

/// How to repeat a submission.
pub fn retry_hint(key: &EventKey) -> String {
    let source = if key.source().is_empty() { String::new() } else { format!(" --source {:?}", key.source()) };
    format!("the key to retry with: --id {:?}{source} (the same content again is safe: it is one event)", key.id())
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Context(_) | Error::Invalid(_) => USAGE,
            Error::Refused(problem) if problem.outcome == Outcome::Unknown => TIMED_OUT,
            Error::Refused(_) => REFUSED,
            Error::NotLeader(_) => NOT_LEADER,
            Error::NoQuorum(_) => NO_QUORUM,
            Error::OutcomeUnknown(_) => TIMED_OUT,
            Error::Protocol { .. } => OTHER,
        };
        let mut message = error.to_string();
        if let Error::Refused(problem) = &error
            && let Some(first) = problem.text("firstContentHash").filter(|first| !message.contains(first))
        {
            message = format!("{message} (first content hash {first})");
        }
        Self { code, message }
    }
}

impl From<tercet::context::ContextError> for Failure {
    fn from(error: tercet::context::ContextError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<tercet_core::ids::InvalidId> for Failure {
    fn from(error: tercet_core::ids::InvalidId) -> Self {
        Self::usage(error.to_string())
    }
}
