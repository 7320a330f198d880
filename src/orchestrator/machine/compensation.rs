//! Undoing what a run did that failed, or was cancelled: a part of the transition table of its own, since nothing of the
//! other part is heard meanwhile.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Decision, Input, Position, step_id};
use crate::event::EventKind;
use crate::plan::CheckedPlan;
use crate::run::{FailureKind, NotUndone, RunState, StepFailure, Undoing};

/// What is known of a run besides where it stands.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known<'a> {
    /// The failure that is stored of its step.
    pub(crate) failure: Option<&'a Arc<StepFailure>>,
    /// How far it is with undoing what its steps did, if it does.
    pub(crate) undoing: Option<&'a Arc<Undoing>>,
    /// The steps behind it that were skipped, in order.
    pub(crate) skipped: &'a [usize],
}

/// What happened to a run that undoes what its steps did.
#[derive(Debug)]
pub(crate) enum Undo {
    /// The next attempt is to be made, at this time.
    Begin(SystemTime),
    /// The attempt did what it was to do.
    Done,
    /// The attempt failed.
    Failed { failure: Arc<StepFailure>, then: AfterUndo },
}

/// What follows from a failure to undo a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterUndo {
    /// Another attempt, at that time.
    Retry(SystemTime),
    /// The step before it: this one stays as it is.
    Next,
    /// Nothing: code of the run may still be at work, so that nothing else of it may be.
    End,
}

/// The last step before `end` that there is something to undo of.
fn last_before(plan: &CheckedPlan, end: usize, skipped: &[usize]) -> Option<usize> {
    let is_undone = |index: &usize| plan.policy(*index).is_some_and(|policy| policy.compensation.is_some());
    (0..end).rev().find(|index| is_undone(index) && skipped.binary_search(index).is_err())
}

fn all_before<'a>(
    plan: &'a CheckedPlan,
    end: usize,
    skipped: &'a [usize],
) -> impl Iterator<Item = usize> + 'a {
    std::iter::successors(last_before(plan, end, skipped), move |step| last_before(plan, *step, skipped))
}

/// A run that would be over undoes first what its steps did, if there is anything to undo: the same commit says so, in place of
/// the end. Where code of the run may still be at work, it is over, and nothing is undone.
pub(super) fn before_the_end(plan: &CheckedPlan, skipped: &[usize], mut decision: Decision) -> Decision {
    let cancelled = decision.to.state == RunState::Cancelled;
    if !plan.record().has_compensation() {
        return decision;
    }
    let Some(last) = last_before(plan, decision.to.cursor, skipped) else { return decision };
    if let Some(failure) = abandoned(&decision) {
        let left: Vec<usize> = all_before(plan, decision.to.cursor, skipped).collect();
        let mut undoing = Undoing::new(left.last().copied().unwrap_or(last), cancelled);
        undoing.failed = left.into_iter().map(|step| NotUndone::new(step, Arc::clone(&failure))).collect();
        decision.undoing = Some(Arc::new(undoing));
        return decision;
    }
    // That it is over was the last word.
    decision.events.pop();
    let steps = all_before(plan, decision.to.cursor, skipped).count();
    decision.events.push(EventKind::PlanCompensating { steps });
    decision.to.state = RunState::Compensating;
    decision.undoing = Some(Arc::new(Undoing::new(last, cancelled)));
    decision
}

/// Why the run ended, if that is that code of it does not stop.
fn abandoned(decision: &Decision) -> Option<Arc<StepFailure>> {
    decision.failure.clone().filter(|failure| failure.kind == FailureKind::Abandoned)
}

/// The transition table of a run that undoes what its steps did, or was cut off while it did.
pub(super) fn decide(
    plan: &CheckedPlan,
    at: Position,
    known: &Known<'_>,
    undoing: &Arc<Undoing>,
    input: Input,
) -> Option<Decision> {
    use RunState::{Compensating, Interrupted};
    let mut events = Vec::with_capacity(2);
    let (mut to, mut reason, mut next) = (at, None, Arc::clone(undoing));
    match (at.state, input) {
        (Compensating | Interrupted, Input::Resume(..)) => {
            to.state = Compensating;
            events.push(EventKind::PlanResumed { completed: at.cursor });
            let completed = (0..at.cursor).filter_map(|index| plan.get(index));
            events.extend(completed.map(|step| EventKind::TaskRecovered { task_id: Arc::clone(&step.id) }));
        }
        (Compensating | Interrupted, Input::Interrupt { reason: why }) => {
            to.state = Interrupted;
            events.push(EventKind::PlanInterrupted { reason: Arc::clone(&why) });
            reason = Some(why);
        }
        (Compensating, Input::Undo(Undo::Begin(now))) => {
            let undoing = Arc::make_mut(&mut next);
            undoing.attempt += 1;
            (undoing.until, undoing.since) = (None, undoing.since.or(Some(now)));
            let (task_id, attempt) = (id_of(plan, undoing.step), undoing.attempt);
            events.push(EventKind::TaskCompensating { task_id, attempt });
        }
        (Compensating, Input::Undo(Undo::Done)) if undoing.attempt > 0 => {
            events.push(EventKind::TaskCompensated { task_id: id_of(plan, undoing.step) });
            let undoing = Arc::make_mut(&mut next);
            undoing.undone.push(undoing.step);
            let end = !goes_to_the_next(plan, known.skipped, undoing);
            if end {
                to.state = ending(plan, at, known, undoing, &mut events);
            }
        }
        (Compensating, Input::Undo(Undo::Failed { failure, then })) if undoing.attempt > 0 => {
            let undoing = Arc::make_mut(&mut next);
            if failed(plan, known.skipped, undoing, failure, then, &mut events) {
                to.state = ending(plan, at, known, undoing, &mut events);
            }
        }
        _ => return None,
    }
    let failure = known.failure.cloned();
    Some(Decision { to, failure, reason, undoing: Some(next), events })
}

/// Answers whether nothing is left to be tried.
fn failed(
    plan: &CheckedPlan,
    skipped: &[usize],
    undoing: &mut Undoing,
    failure: Arc<StepFailure>,
    then: AfterUndo,
    events: &mut Vec<EventKind>,
) -> bool {
    let next_attempt_at = if let AfterUndo::Retry(at) = then { Some(at) } else { None };
    let (task_id, attempt) = (id_of(plan, undoing.step), undoing.attempt);
    let told = Arc::clone(&failure);
    let will_retry = next_attempt_at.is_some();
    events.push(EventKind::TaskCompensationFailed {
        task_id,
        attempt,
        will_retry,
        next_attempt_at,
        failure: told,
    });
    match then {
        AfterUndo::Retry(_) => undoing.until = next_attempt_at,
        AfterUndo::Next => undoing.failed.push(NotUndone::new(undoing.step, failure)),
        AfterUndo::End => {
            let left = all_before(plan, undoing.step + 1, skipped);
            undoing.failed.extend(left.map(|step| NotUndone::new(step, Arc::clone(&failure))));
        }
    }
    match then {
        AfterUndo::Retry(_) => false,
        AfterUndo::Next => !goes_to_the_next(plan, skipped, undoing),
        AfterUndo::End => {
            (undoing.attempt, undoing.since) = (0, None);
            true
        }
    }
}

/// Goes to the step before the one that is dealt with, and answers whether there is one.
fn goes_to_the_next(plan: &CheckedPlan, skipped: &[usize], undoing: &mut Undoing) -> bool {
    (undoing.attempt, undoing.until, undoing.since) = (0, None, None);
    let next = last_before(plan, undoing.step, skipped);
    undoing.step = next.unwrap_or(undoing.step);
    next.is_some()
}

/// Nothing is left to be tried: the run is compensated if all is undone, and else what it would have been without.
fn ending(
    plan: &CheckedPlan,
    at: Position,
    known: &Known<'_>,
    undoing: &Undoing,
    events: &mut Vec<EventKind>,
) -> RunState {
    let (state, event) = match known.failure.filter(|_| !undoing.cancelled) {
        _ if undoing.failed.is_empty() => (RunState::Compensated, EventKind::PlanCompensated {}),
        Some(failure) => {
            let (task_id, failure) = (step_id(plan, at), Arc::clone(failure));
            (RunState::Failed, EventKind::PlanFailed { task_id, failure })
        }
        None => (RunState::Cancelled, EventKind::PlanCancelled {}),
    };
    events.push(event);
    state
}

fn id_of(plan: &CheckedPlan, step: usize) -> Arc<str> {
    plan.get(step).map_or_else(|| Arc::from(""), |step| Arc::clone(&step.id))
}

#[cfg(test)]
mod tests;
