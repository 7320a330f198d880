use std::sync::Arc;
use std::time::SystemTime;

use super::machine::Position;
use super::watch::Watch;
use crate::plan::CheckedPlan;
use crate::run::{HoldReason, RunId, RunRecord, RunState, StepFailure};

/// How a run is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunInfo {
    /// The run.
    pub run_id: RunId,
    /// Which generation of the run this is, from 1: each retry of a run that was over, or held, opens the next.
    pub generation: u32,
    /// The plan's name, if it has one.
    pub name: Option<Arc<str>>,
    /// Where it stands.
    pub state: RunState,
    /// How many plans wait before it, while it is queued.
    pub position: Option<usize>,
    /// The step in flight, or waited for, while there is one that was tried.
    pub current: Option<CurrentStep>,
    /// Why somebody has to decide about the current step, if somebody has to.
    pub held: Option<HoldReason>,
    /// It was told to pause, and does before the next attempt, or has.
    pub pausing: bool,
    /// When its next attempt may start, while it waits for that: when it backs off, and when it is parked.
    pub until: Option<SystemTime>,
    /// How many steps the plan has.
    pub steps: usize,
    /// How many of them have completed.
    pub completed: usize,
    /// Why it failed, if it did; or why the last attempt did, while the next is waited for or the fallback runs.
    pub failure: Option<Arc<StepFailure>>,
    /// Why it is interrupted, where that is known.
    pub reason: Option<Arc<str>>,
    /// When it came to its final state, if it has.
    pub finished_at: Option<SystemTime>,
}

/// The step that a run is at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CurrentStep {
    /// The step's id.
    pub step_id: Arc<str>,
    /// Its place in the plan, from 0.
    pub index: usize,
    /// The attempt that is in flight, from 1; while the run waits for the next one, the last.
    pub attempt: u32,
    /// When that attempt was started, or the wait began.
    pub since: SystemTime,
}

impl RunInfo {
    pub(crate) fn queued(run_id: RunId, plan: &CheckedPlan, position: Option<usize>) -> Self {
        Self {
            run_id,
            generation: 1,
            name: plan.name().cloned(),
            state: RunState::Queued,
            position,
            current: None,
            held: None,
            pausing: false,
            until: None,
            steps: plan.len(),
            completed: 0,
            failure: None,
            reason: None,
            finished_at: None,
        }
    }

    pub(crate) fn active(run_id: RunId, plan: &CheckedPlan, watch: &Watch) -> Self {
        let (at, since) = (watch.at.get(), watch.since.get());
        let step = if at.attempt > 0 { plan.get(at.cursor) } else { None };
        let current = step.zip(since).map(|(step, since)| CurrentStep {
            step_id: Arc::clone(&step.id),
            index: at.cursor,
            attempt: at.attempt,
            since,
        });
        let failure = watch.failure.borrow().clone();
        let (pausing, until, held) = (at.pausing, at.step.until, at.step.held);
        let info = Self::queued(run_id, plan, None);
        Self { state: at.state, completed: at.cursor, current, failure, pausing, until, held, ..info }
    }

    pub(crate) fn interrupted(
        run_id: RunId,
        plan: &CheckedPlan,
        at: Position,
        reason: Option<Arc<str>>,
    ) -> Self {
        let state = RunState::Interrupted;
        Self { state, completed: at.cursor, reason, ..Self::queued(run_id, plan, None) }
    }
}

impl From<RunRecord> for RunInfo {
    fn from(record: RunRecord) -> Self {
        Self {
            run_id: record.run_id,
            generation: record.generation,
            name: record.name,
            state: record.state,
            position: None,
            current: None,
            held: record.step.held,
            pausing: record.pausing,
            until: record.step.until,
            steps: record.steps,
            completed: record.cursor,
            failure: record.failure,
            reason: record.reason,
            finished_at: record.finished_at,
        }
    }
}
