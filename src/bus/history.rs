use std::error::Error;
use std::sync::Arc;

use actix::{MailboxError, Message};

use crate::event::Event;

/// Asks a memory for stored events, for a subscriber that comes late.
///
/// Answered with those that have larger sequence numbers than `after`, in order, at most `limit`; with none when there
/// are none.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Vec<Event>, HistoryError>")]
#[non_exhaustive]
pub struct ReadEvents {
    /// Only events behind this sequence number.
    pub after: u64,
    /// At most this many.
    pub limit: usize,
}

impl ReadEvents {
    /// At most `limit` events behind `after`.
    #[must_use]
    pub fn new(after: u64, limit: usize) -> Self {
        Self { after, limit }
    }
}

/// Why stored events cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The next event is not kept any more.
    #[error("events up to {} are not kept any more; the first that is has the number {first}", first.saturating_sub(1))]
    Gone {
        /// Events behind this number were asked for.
        after: u64,
        /// The first event that is still there.
        first: u64,
    },
    /// They could not be read.
    #[error("stored events could not be read")]
    Failed {
        /// Why.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The memory has stopped.
    #[error("the memory actor has stopped")]
    Stopped,
}

/// Two failures are equal when they are the same one: what a store reports cannot be compared.
impl PartialEq for HistoryError {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Gone { after, first }, Self::Gone { after: other_after, first: other_first }) => {
                (after, first) == (other_after, other_first)
            }
            (Self::Failed { source }, Self::Failed { source: other }) => Arc::ptr_eq(source, other),
            (Self::Stopped, Self::Stopped) => true,
            _ => false,
        }
    }
}

impl Eq for HistoryError {}

/// So that `?` works on what an actor's address answers.
impl From<MailboxError> for HistoryError {
    fn from(_: MailboxError) -> Self {
        Self::Stopped
    }
}
