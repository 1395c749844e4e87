//! What can go wrong for a caller, with the two answers that matter: may it be repeated, and may it
//! have happened all the same. Servers' refusals arrive as `application/problem+json`.

use crate::context::ContextError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// Whether a failed request may have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It certainly changed nothing.
    #[default]
    None,
    /// It may have happened, or may still happen.
    Unknown,
}

/// A refusal as a server tells it (RFC 9457). `code` is stable; the texts are for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    #[serde(rename = "type", default)]
    pub kind: String,
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub status: u16,
    #[serde(default)]
    pub code: String,
    #[serde(default)]
    pub detail: String,
    #[serde(default)]
    pub retryable: bool,
    #[serde(default)]
    pub outcome: Outcome,
    /// Members of this code alone, such as `firstContentHash` or `leader`.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Problem {
    /// A member that only some codes have.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.extra.get(name).and_then(Value::as_str)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if self.detail.is_empty() { &self.title } else { &self.detail };
        let code = if self.code.is_empty() { "error" } else { &self.code };
        if text.is_empty() {
            return write!(f, "{code} (status {})", self.status);
        }
        write!(f, "{code}: {text}")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Context(#[from] ContextError),
    /// What the caller passed cannot be sent; nothing was sent.
    #[error("{0}")]
    Invalid(String),
    /// A server refused for good.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// Only the leader answers this, and none was found in time.
    #[error("{0}")]
    NotLeader(Box<Problem>),
    /// Nothing happened, because no cloud (or not the asked one) could take it.
    #[error("{0}")]
    NoQuorum(String),
    /// Time ran out while the request may have taken effect. Repeating it is safe.
    #[error("{0}")]
    OutcomeUnknown(String),
    /// A server's answer makes no sense.
    #[error("the answer of {node} is not understood: {why}; client and cluster may be of different versions")]
    Protocol { node: String, why: String },
}

impl Error {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Context(_) | Self::Invalid(_) | Self::Protocol { .. } => false,
            Self::Refused(problem) => problem.retryable,
            Self::NotLeader(_) | Self::NoQuorum(_) | Self::OutcomeUnknown(_) => true,
        }
    }

    /// Whether the call may have taken effect although it failed.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(problem) => problem.outcome,
            Self::OutcomeUnknown(_) | Self::Protocol { .. } => Outcome::Unknown,
            Self::Context(_) | Self::Invalid(_) | Self::NotLeader(_) | Self::NoQuorum(_) => Outcome::None,
        }
    }

    /// The server's stable code, if a server refused.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(problem) | Self::NotLeader(problem) => Some(&problem.code),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_keeps_its_extra_members() {
        let json = r#"{"type":"about:blank","title":"Id reused","status":409,"code":"id_reuse","detail":"no",
            "retryable":false,"outcome":"none","firstContentHash":"ab"}"#;
        let problem: Problem = serde_json::from_str(json).unwrap();
        assert_eq!(problem.text("firstContentHash"), Some("ab"));
        assert_eq!(problem.to_string(), "id_reuse: no");
        assert!(!Error::Refused(Box::new(problem)).is_retryable());
    }

    #[test]
    fn a_problem_of_another_server_still_decodes() {
        let problem: Problem = serde_json::from_str("{}").unwrap();
        assert_eq!(problem.outcome, Outcome::None);
    }
}
