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
    if at.attempt == 0 || at.step.fallback { None } else { plan.wait(at.cursor) }
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
    let at = match ahead {
        _ if at.attempt > 0 => at,
        Ahead::Wait(now) => {
            let since = at.step.since.unwrap_or_else(|| to_micros(now));
            let until = match wait {
                Wait::Sleep(time) => now.checked_add(*time),
                Wait::Until(time) => Some(*time),
                Wait::Signal(_) => step
                    .step
                    .policy()
                    .and_then(|policy| policy.timeout)
                    .and_then(|limit| since.checked_add(limit)),
            };
            let (since, until) = (Some(since), until.map(to_micros));
            Position { attempt: 1, step: StepProgress { since, until, ..at.step }, ..at }
        }
        // What the wait begins with is not known yet: it is asked for when this is stored, as a condition is.
        _ => return Decision::new(at, events),
    };
    let (task_id, until) = (Arc::clone(&step.id), at.step.until);
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
mod tests;
