use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::isolate::catch;
use crate::limits::{MAX_FAILURE_BYTES, MAX_FAILURE_CAUSES};

/// Why an attempt of a step failed, as data: what is stored and what events carry.
///
/// The live caller has the error value itself, through [`PlanError`](crate::PlanError)'s `source`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StepFailure {
    /// What sort of failure it was.
    pub kind: FailureKind,
    /// The error's own message, at most [`MAX_FAILURE_BYTES`] bytes. In JSON this field is called `error`.
    #[serde(rename = "error")]
    pub message: String,
    /// The messages of the chain of sources, outermost first, at most [`MAX_FAILURE_CAUSES`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
}

/// What sort of failure ended an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The callable returned an error.
    Error,
    /// The callable panicked.
    Panic,
    /// The callable returned something that cannot be stored: too large, or not JSON.
    Output,
    /// An artifact that the step staged was refused.
    Artifact,
    /// The attempt took longer than its timeout.
    Timeout,
    /// The step was not done, with all its attempts, after its total timeout.
    TotalTimeout,
    /// The plan was not done at its deadline.
    Deadline,
    /// The attempt came to a limit, was told to stop, and its blocking code did not end within the grace.
    Abandoned,
    /// The circuit breaker was open, and the callable was not called.
    BreakerOpen,
}

impl FailureKind {
    /// The word used in events, logs and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Panic => "panic",
            Self::Output => "output",
            Self::Artifact => "artifact",
            Self::Timeout => "timeout",
            Self::TotalTimeout => "total_timeout",
            Self::Deadline => "deadline",
            Self::Abandoned => "abandoned",
            Self::BreakerOpen => "breaker_open",
        }
    }
}

impl StepFailure {
    /// Records `error` and its chain of sources, within the limits.
    #[must_use]
    pub fn record(kind: FailureKind, error: &(dyn Error + 'static)) -> Self {
        // The messages are made by code of the user's.
        let recorded = catch(|| Self::read(kind, error));
        recorded.unwrap_or_else(|message| {
            let message =
                shorten(format!("the error could not be shown, for its message panicked: {message}"));
            Self { kind: FailureKind::Panic, message, causes: Vec::new() }
        })
    }

    fn read(kind: FailureKind, error: &(dyn Error + 'static)) -> Self {
        let causes = std::iter::successors(error.source(), |cause| (*cause).source())
            .take(MAX_FAILURE_CAUSES)
            .map(|cause| shorten(cause.to_string()))
            .collect();
        Self { kind, message: shorten(error.to_string()), causes }
    }
}

impl fmt::Display for StepFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

fn shorten(mut text: String) -> String {
    if text.len() > MAX_FAILURE_BYTES {
        let mark = '…';
        text.truncate(text.floor_char_boundary(MAX_FAILURE_BYTES - mark.len_utf8()));
        text.push(mark);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: String,
        source: Option<Box<Link>>,
    }

    #[test]
    fn long_messages_and_chains_are_cut_at_the_limits() {
        let deep = (0..40).fold(None, |source, n| Some(Box::new(Link { text: n.to_string(), source })));
        let top = Link { text: "ä".repeat(MAX_FAILURE_BYTES), source: deep };
        let failure = StepFailure::record(FailureKind::Error, &top);
        assert!(failure.message.len() <= MAX_FAILURE_BYTES && failure.message.ends_with("ä…"));
        assert_eq!(failure.causes.len(), MAX_FAILURE_CAUSES);
        assert_eq!(failure.causes[0], "39");
    }
}
