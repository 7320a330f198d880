//! How a run goes on that waited, or was cut off.

use std::sync::Arc;
use std::time::SystemTime;

use super::parts::step_id;
use super::{Ahead, Decision, Position, begin, enter, held, waits};
use crate::event::EventKind;
use crate::plan::{CheckedPlan, Interruption};
use crate::run::{HoldReason, RunState, StepFailure, StepProgress};

/// Goes on where the run was cut off: completed steps count, and the policy of the one that may have been in flight says what
/// becomes of it: mostly that it is called again, as another attempt.
pub(super) fn resume(
    plan: &CheckedPlan,
    at: Position,
    known: Option<&Arc<StepFailure>>,
    ahead: Ahead,
    now: SystemTime,
) -> Decision {
    if !at.is_started() {
        return begin(plan, at, ahead, Vec::new());
    }
    let mut events = Vec::with_capacity(at.cursor + 2);
    events.push(EventKind::PlanResumed { completed: at.cursor });
    let completed = (0..at.cursor).filter_map(|index| plan.get(index));
    events.extend(completed.map(|step| EventKind::TaskRecovered { task_id: Arc::clone(&step.id) }));
    go_on_or_ask(plan, at, known, ahead, now, events)
}

/// Goes on, unless the attempt that was made last may have had its effect, or somebody was to decide.
pub(super) fn go_on_or_ask(
    plan: &CheckedPlan,
    at: Position,
    known: Option<&Arc<StepFailure>>,
    ahead: Ahead,
    now: SystemTime,
    events: Vec<EventKind>,
) -> Decision {
    if let Some(reason) = at.step.held {
        return held::hold(plan, at, reason, events);
    }
    match held::interruption(plan, at, known) {
        Interruption::Rerun => go_on(plan, at, ahead, now, events),
        Interruption::Hold => held::hold(plan, at, HoldReason::Interrupted, events),
        Interruption::Verify | Interruption::VerifyNamed(_) => held::verify(plan, at, events),
    }
}

/// Goes on after a wait that may not be over.
fn go_on(
    plan: &CheckedPlan,
    at: Position,
    ahead: Ahead,
    now: SystemTime,
    mut events: Vec<EventKind>,
) -> Decision {
    let rest = at
        .step
        .until
        .filter(|until| *until > now && at.attempt > 0 && !at.pausing && waits::begun(plan, at).is_none());
    let Some(next_attempt_at) = rest else { return proceed(plan, at, ahead, now, events) };
    let (task_id, attempt) = (step_id(plan, at), at.attempt);
    events.push(EventKind::TaskWaiting { task_id, attempt, next_attempt_at });
    Decision::new(Position { state: RunState::BackingOff, ..at }, events)
}

pub(super) fn proceed(
    plan: &CheckedPlan,
    at: Position,
    ahead: Ahead,
    now: SystemTime,
    events: Vec<EventKind>,
) -> Decision {
    // The turn of a step that has not been tried yet begins anew, unless its breaker is what it waited for.
    let keeps = at.attempt > 0 || at.state == RunState::Parked;
    let since = if keeps { at.step.since } else { Some(now) };
    enter(plan, Position { step: StepProgress { since, ..at.step }, ..at }, ahead, events)
}
