//! Steps that call nothing, and wait.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::{Ahead, Decision, Position};
use crate::event::EventKind;
use crate::id::to_micros;
use crate::plan::{CheckedPlan, CheckedStep, Wait};
use crate::run::{RunState, StepProgress};

/// What the run waits for, whatever its state is meanwhile: its step calls nothing, and has begun to wait.
pub(crate) fn begun(plan: &CheckedPlan, at: Position) -> Option<&Wait> {
    let over = at.step.fallback || at.step.held.is_some() || at.state == RunState::Compensating;
    if at.attempt == 0 || over { None } else { plan.wait(at.cursor) }
}

/// Begins the wait of a step, or goes on with it for as long as it may still take. One that is over begins too: that what it
/// waits for is there is the next input, so that there is one way out of it.
pub(super) fn enter(
    step: &CheckedStep,
    wait: &Wait,
    at: Position,
    ahead: Ahead,
    mut events: Vec<EventKind>,
) -> Decision {
    let now = match ahead {
        Ahead::Wait(now) => Some(now),
        // It has begun, or begins anew: when, was said then.
        _ if at.attempt > 0 => at.step.since,
        // When it begins is not known: it is asked for once this is stored, as a condition is.
        _ => None,
    };
    let Some(now) = now else { return Decision::new(at, events) };
    let since = at.step.since.unwrap_or_else(|| to_micros(now));
    let until = at.step.until.filter(|_| at.attempt > 0).or_else(|| {
        let until = match wait {
            Wait::Sleep(time) => now.checked_add(*time),
            Wait::Until(time) => Some(*time),
            Wait::Signal(_) => since.checked_add(step.step.policy()?.timeout?),
        };
        until.map(to_micros)
    });
    let step_progress = StepProgress { since: Some(since), until, ..at.step };
    let at = Position { attempt: 1, step: step_progress, ..at };
    let task_id = Arc::clone(&step.id);
    let state = if let Wait::Signal(signal) = wait {
        events.push(EventKind::TaskAwaitingSignal { task_id, signal: Arc::clone(signal), until });
        RunState::AwaitingSignal
    } else {
        // A sleep whose end no clock can show has none to wait for.
        let until = until.unwrap_or(UNIX_EPOCH);
        events.push(EventKind::TaskSleeping { task_id, until });
        RunState::Sleeping
    };
    Decision::new(Position { state, ..at }, events)
}

#[cfg(test)]
pub(super) mod tests;
