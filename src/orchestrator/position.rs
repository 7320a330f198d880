use std::time::SystemTime;

use crate::run::{RunRecord, RunState, StepProgress};

/// Where a run stands, once that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) state: RunState,
    /// How many steps have completed; also the index of the step in flight.
    pub(crate) cursor: usize,
    /// The attempt of that step which was started last; 0 before the first.
    pub(crate) attempt: u32,
    /// What else is known of that step.
    pub(crate) step: StepProgress,
    /// It is to pause before the next attempt.
    pub(crate) pausing: bool,
    /// It is stopping because it came to a limit, and not because it was cancelled.
    pub(crate) expired: bool,
}

impl Position {
    /// An accepted plan that waits for a slot.
    pub(crate) const QUEUED: Self = Self {
        state: RunState::Queued,
        cursor: 0,
        attempt: 0,
        step: StepProgress { since: None, until: None, fallback: false, verifying: false, held: None },
        pausing: false,
        expired: false,
    };

    /// Where a stored run stands.
    pub(crate) fn of(record: &RunRecord) -> Self {
        let RunRecord { state, cursor, attempt, step, pausing, .. } = *record;
        let expired = state == RunState::Stopping && record.failure.is_some();
        Self { state, cursor, attempt, step, pausing, expired }
    }

    /// Whether breaker and limit have to be asked before the next attempt: not for a fallback, nor while something else is waited
    /// for, nor where there may be none: what a run that was stopping comes to is still to be seen.
    pub(crate) fn asks_breaker(&self, now: SystemTime) -> bool {
        let due = self.attempt == 0 || self.step.until.is_none_or(|until| until <= now);
        let next = !self.step.fallback && !self.pausing && self.state != RunState::Stopping;
        next && (due || self.state == RunState::Parked)
    }

    /// Whether its plan has been started.
    pub(crate) fn is_started(&self) -> bool {
        self.cursor > 0 || self.attempt > 0 || self.step.since.is_some()
    }
}
