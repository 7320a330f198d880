use std::sync::Arc;
use std::time::SystemTime;

use super::machine::Position;
use super::waiting::Waiting;
use super::watch::Watch;
use crate::plan::{CheckedPlan, Wait};
use crate::run::{HoldReason, RunId, RunRecord, RunState, StepFailure, Undoing};

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
    /// The step in flight, or waited for, while there is one that was tried; or the one that is being undone.
    pub current: Option<CurrentStep>,
    /// Why somebody has to decide about the current step, if somebody has to.
    pub held: Option<HoldReason>,
    /// It was told to pause, and does before the next attempt, or has.
    pub pausing: bool,
    /// When its next attempt may start, while it waits for that: when it backs off, when it is parked, and between two attempts
    /// to undo a step. Until when it sleeps, and when it has waited for a signal for too long, also while it is paused.
    pub until: Option<SystemTime>,
    /// The name of the signal that it awaits; known only where the run is, and none as soon as the signal is kept for it: it goes
    /// on by itself then.
    pub signal: Option<Arc<str>>,
    /// How many steps the plan has.
    pub steps: usize,
    /// How many of them have completed.
    pub completed: usize,
    /// Why it failed, if it did; or why the last attempt did, while the next is waited for or the fallback runs.
    pub failure: Option<Arc<StepFailure>>,
    /// Why it is interrupted, where that is known.
    pub reason: Option<Arc<str>>,
    /// How far it is with [undoing](crate::Step::compensate) what its steps did, or how far it came.
    pub undoing: Option<Arc<Undoing>>,
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
            signal: None,
            steps: plan.len(),
            completed: 0,
            failure: None,
            reason: None,
            undoing: None,
            finished_at: None,
        }
    }

    /// The same of a run that undoes what its steps did, and waits for a slot.
    pub(crate) fn compensating(self, waiting: &Waiting) -> Self {
        let (failure, undoing) = (waiting.failure.clone(), waiting.undoing.clone());
        let until = undoing.as_ref().and_then(|undoing| undoing.until);
        Self { state: RunState::Compensating, failure, undoing, until, ..self }
    }

    pub(crate) fn active(run_id: RunId, plan: &CheckedPlan, watch: &Watch) -> Self {
        let (at, mut since) = (watch.at.get(), watch.since.get());
        let mut signal = None;
        if matches!(at.state, RunState::Sleeping | RunState::AwaitingSignal) {
            // It may have begun in another life.
            since = at.step.since.or(since);
            if let Some(Wait::Signal(name)) = plan.wait(at.cursor)
                && watch.signals.borrow().first(name).is_none()
            {
                signal = Some(Arc::clone(name));
            }
        }
        let (failure, undoing) = (watch.failure.borrow().clone(), watch.undoing.borrow().clone());
        let (index, attempt, until) = match undoing.as_deref() {
            Some(undoing) => (undoing.step, undoing.attempt, undoing.until),
            None => (at.cursor, at.attempt, at.step.until),
        };
        let step = if attempt > 0 { plan.get(index) } else { None };
        let current = step.zip(since).map(|(step, since)| CurrentStep {
            step_id: Arc::clone(&step.id),
            index,
            attempt,
            since,
        });
        let (pausing, held) = (at.pausing, at.step.held);
        let info = Self { undoing, until, held, signal, ..Self::queued(run_id, plan, None) };
        Self { state: at.state, completed: at.cursor, current, failure, pausing, ..info }
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
            until: record.undoing.as_ref().map_or(record.step.until, |undoing| undoing.until),
            signal: None,
            steps: record.steps,
            completed: record.cursor,
            failure: record.failure,
            reason: record.reason,
            undoing: record.undoing,
            finished_at: record.finished_at,
        }
    }
}
