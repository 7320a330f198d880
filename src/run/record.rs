use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Durability, HoldReason, RunId, RunState, StepFailure};
use crate::id::rfc3339;
use crate::project::Project;

/// How far a run is with the step at its cursor, besides the number of the attempt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepProgress {
    /// When the step's turn came: its limits count from here. `None` in an update means the commit that completed the step
    /// before it, or started the plan.
    pub since: Option<SystemTime>,
    /// When its next attempt may start: while the run backs off, and while it is paused or parked, or interrupted then. Of a step that only waits: until when
    /// it sleeps, or when it has waited for its signal for too long.
    pub until: Option<SystemTime>,
    /// The attempt in flight is that of its fallback: all others have failed.
    pub fallback: bool,
    /// The attempt was cut off, and it is being asked whether it had its effect; of a run that is paused or queued: that is still
    /// to be asked.
    pub verifying: bool,
    /// Why somebody has to decide about it, if somebody has to.
    pub held: Option<HoldReason>,
}

/// How far a run is with undoing what its steps did, or how far it came.
///
/// Steps are undone from the last that completed to the first. In JSON, times are RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Undoing {
    /// The step whose compensation is called, or comes next: all behind it are dealt with. When none is left, the first step
    /// that had one.
    pub step: usize,
    /// The attempt of that compensation that was started last, from 1; 0 before the first, and when none is left.
    pub attempt: u32,
    /// When its next attempt may start, while that is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339::maybe")]
    pub until: Option<SystemTime>,
    /// When its first attempt was started.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339::maybe")]
    pub since: Option<SystemTime>,
    /// The run was cancelled; otherwise it failed.
    #[serde(default)]
    pub cancelled: bool,
    /// The steps that are undone, in the order in which they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undone: Vec<usize>,
    /// The steps that could not be undone, each with why, in the order in which that was tried. Where code of the run could not
    /// be stopped, none of those that were left was tried, and this is why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<NotUndone>,
}

impl Undoing {
    /// A run that is to undo this step next, and nothing has been tried yet.
    #[must_use]
    pub fn new(step: usize, cancelled: bool) -> Self {
        let (undone, failed) = (Vec::new(), Vec::new());
        Self { step, attempt: 0, until: None, since: None, cancelled, undone, failed }
    }
}

/// A step that could not be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NotUndone {
    /// The step's place in the plan, from 0.
    pub step: usize,
    /// Why its compensation failed for the last time.
    pub failure: Arc<StepFailure>,
}

impl NotUndone {
    /// The step with this index, and why.
    #[must_use]
    pub fn new(step: usize, failure: Arc<StepFailure>) -> Self {
        Self { step, failure }
    }
}

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
    /// How many steps the plan has.
    pub steps: usize,
    /// Whether the run can be resumed from what is stored: no step came with a closure.
    pub self_contained: bool,
    /// How well its commits are to be stored, where its plan said so.
    pub durability: Option<Durability>,
    /// Where the run stands.
    pub state: RunState,
    /// How many steps have completed; also the index of the step in flight.
    pub cursor: usize,
    /// The attempt of the step at `cursor` that was started last, from 1; 0 before the first.
    pub attempt: u32,
    /// How far that step is otherwise.
    pub step: StepProgress,
    /// It was told to pause: it does, or is, before the next attempt.
    pub pausing: bool,
    /// When it must be done.
    pub deadline: Option<SystemTime>,
    /// Why it failed, if it did: the failure of the step at `cursor`. Before that, why the last attempt did, for as long as the
    /// next is waited for or the fallback runs.
    pub failure: Option<Arc<StepFailure>>,
    /// Why it is interrupted, if it is.
    pub reason: Option<Arc<str>>,
    /// Which generation it is in, from 1: each retry of a run that was over opens the next.
    pub generation: u32,
    /// How far it is with undoing what its steps did, or how far it came; `None`, if it never began to.
    pub undoing: Option<Arc<Undoing>>,
    /// Inputs that take the place of those in the plan, by the place of the step: what retries have set.
    pub set_inputs: BTreeMap<usize, Arc<Value>>,
    /// When it was accepted.
    pub accepted_at: SystemTime,
    /// When it left the queue: its first step was started, or it was cancelled.
    pub started_at: Option<SystemTime>,
    /// When it came to its final state.
    pub finished_at: Option<SystemTime>,
}

impl RunRecord {
    /// A run of a plan with this many steps that was accepted at `at` and waits; the other fields are there to be set.
    #[must_use]
    pub fn new(run_id: RunId, project: Project, steps: usize, at: SystemTime) -> Self {
        Self {
            run_id,
            project,
            name: None,
            steps,
            self_contained: false,
            durability: None,
            state: RunState::Queued,
            cursor: 0,
            attempt: 0,
            step: StepProgress::default(),
            pausing: false,
            deadline: None,
            failure: None,
            reason: None,
            generation: 1,
            undoing: None,
            set_inputs: BTreeMap::new(),
            accepted_at: at,
            started_at: None,
            finished_at: None,
        }
    }

    /// Brings the record to a state that a commit at `at` leaves it in, and its times with it.
    pub fn enter(&mut self, state: RunState, at: SystemTime) {
        self.state = state;
        // A run may be cut off, or paused, before it has started.
        if !matches!(state, RunState::Queued | RunState::Interrupted | RunState::Paused) {
            self.started_at.get_or_insert(at);
        }
        if state.is_final() {
            self.finished_at.get_or_insert(at);
        }
    }
}
