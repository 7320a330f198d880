use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a run stands.
///
/// ```
/// use lunacore::RunState;
///
/// assert!(RunState::Completed.is_final());
/// assert_eq!(RunState::Queued.to_string(), "queued");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunState {
    /// Accepted; waits for its turn.
    Queued,
    /// An attempt of a step is in flight.
    Running,
    /// The last attempt of a step failed, and the next one waits for its time.
    BackingOff,
    /// The circuit breaker of its next step is open, or the limit of that step has no permit. It holds no slot meanwhile.
    Parked,
    /// A step that only waits has not come to its [time](crate::Step::sleep). It holds no slot meanwhile, and needs one to go on: as
    /// soon as there is one, before runs that have only queued. After a restart it waits for the rest of the time.
    Sleeping,
    /// A step waits for a [signal](crate::Step::wait_for_signal), or has it, and waits for a slot. After a restart it still waits, and
    /// its timeout goes on counting.
    AwaitingSignal,
    /// It was told to pause, and waits to be told to go on. It holds no slot meanwhile.
    Paused,
    /// Somebody has to decide about its step: one that may have had its effect when the run was cut off, or one that failed and
    /// says so. It holds no slot meanwhile.
    Held,
    /// It was cancelled, or came to a limit, while blocking code ran, and waits for that code to end.
    Stopping,
    /// It failed, or was cancelled, and what its steps did is being [undone](crate::Step::compensate). It holds a slot, goes on
    /// after a restart, and accepts nothing.
    Compensating,
    /// Every step completed.
    Completed,
    /// A step failed; if there was anything to undo, not all of it could be.
    Failed,
    /// It was cancelled; if there was anything to undo, not all of it could be.
    Cancelled,
    /// It failed, or was cancelled, and all that was to be undone is.
    Compensated,
    /// It was cut off, by a failure of memory for example, and does not go on by itself.
    Interrupted,
}

impl RunState {
    /// Whether nothing more will happen to the run by itself.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Compensated)
    }

    /// The word used in events, logs and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::BackingOff => "backing_off",
            Self::Parked => "parked",
            Self::Sleeping => "sleeping",
            Self::AwaitingSignal => "awaiting_signal",
            Self::Paused => "paused",
            Self::Held => "held",
            Self::Stopping => "stopping",
            Self::Compensating => "compensating",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Compensated => "compensated",
            Self::Interrupted => "interrupted",
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
