use std::sync::Arc;
use std::time::SystemTime;

use super::{RunId, RunState, StepFailure};
use crate::artifact::Project;

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
    /// When its first step was started.
    pub started_at: Option<SystemTime>,
    /// When it came to its final state.
    pub finished_at: Option<SystemTime>,
}
