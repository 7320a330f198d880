use std::sync::Arc;
use std::time::SystemTime;

use super::{RunId, RunState, StepFailure};
use crate::project::Project;

/// What a store knows of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunRecord {
    /// The run.
    pub run_id: RunId,
    /// The project that its artifacts go to.
    pub project: Project,
    /// The plan's name, if it has one.
    pub name: Option<Arc<str>>,
    /// The ids of the plan's steps, in order.
    pub step_ids: Arc<[Arc<str>]>,
    /// Where the run stands.
    pub state: RunState,
    /// How many steps have completed; also the index of the step in flight.
    pub cursor: usize,
    /// The attempt of the step at `cursor` that was started last, from 1; 0 before the first.
    pub attempt: u32,
    /// Why it failed, if it did: the failure of the step at `cursor`.
    pub failure: Option<Arc<StepFailure>>,
    /// When it was accepted.
    pub accepted_at: SystemTime,
    /// When it left the queue: its first step was started, or it was cancelled.
    pub started_at: Option<SystemTime>,
    /// When it came to its final state.
    pub finished_at: Option<SystemTime>,
}

impl RunRecord {
    /// A run that was accepted at `at` and waits.
    #[must_use]
    pub fn new(
        run_id: RunId,
        project: Project,
        name: Option<Arc<str>>,
        step_ids: Arc<[Arc<str>]>,
        at: SystemTime,
    ) -> Self {
        Self {
            run_id,
            project,
            name,
            step_ids,
            state: RunState::Queued,
            cursor: 0,
            attempt: 0,
            failure: None,
            accepted_at: at,
            started_at: None,
            finished_at: None,
        }
    }

    /// Brings the record to where a commit at `at` leaves the run.
    pub fn advance(
        &mut self,
        state: RunState,
        cursor: usize,
        attempt: u32,
        failure: Option<Arc<StepFailure>>,
        at: SystemTime,
    ) {
        (self.state, self.cursor, self.attempt, self.failure) = (state, cursor, attempt, failure);
        if state != RunState::Queued {
            self.started_at.get_or_insert(at);
        }
        if state.is_final() {
            self.finished_at.get_or_insert(at);
        }
    }
}
