//! A step that may have had its effect, or that failed and says that somebody has to decide; what follows from what is decided;
//! and a run that is tried again.

use std::sync::Arc;
use std::time::SystemTime;

use super::parts::{next_place, said, step_id};
use super::{Ahead, Decision, Position, enter, finish};
use crate::event::{EventKind, Resolution, SkipReason};
use crate::plan::{CheckedPlan, Interruption, Output};
use crate::run::{HoldReason, RunState, StepFailure, StepProgress};

/// What was decided about a step that is held.
#[derive(Debug)]
pub(crate) enum Decided {
    /// It has this output.
    Completed(Output),
    /// It is called again, at this time or later.
    Rerun(SystemTime),
    /// It failed for good.
    Failed(Arc<StepFailure>),
    /// The plan goes on without it.
    Skipped,
}

/// What becomes of a run that was cut off, if its step was in flight: `Rerun` also where it was not.
pub(super) fn interruption<'p>(
    plan: &'p CheckedPlan,
    at: Position,
    known: Option<&Arc<StepFailure>>,
) -> &'p Interruption {
    // The failure of the last attempt is known until there is another, and to that of the fallback.
    let failed = known.is_some() && !at.step.fallback;
    let cut = matches!(at.state, RunState::Running | RunState::Interrupted);
    let in_flight = cut && at.attempt > 0 && at.step.until.is_none() && !failed;
    let policy = plan.policy(at.cursor).filter(|_| in_flight || at.step.verifying);
    policy.map_or(&Interruption::Rerun, |policy| &policy.on_interrupted)
}

/// What is stored of the step of a run that is interrupted: of one that was not in flight by then, that its next attempt may be
/// made, so that it is not in doubt later, when the run is found interrupted.
pub(super) fn cut_off(plan: &CheckedPlan, at: Position) -> StepProgress {
    let in_doubt = matches!(at.state, RunState::Running | RunState::Interrupted) || at.step.verifying;
    if in_doubt || at.attempt == 0 || at.step.held.is_some() || plan.wait(at.cursor).is_some() {
        return at.step;
    }
    StepProgress { until: at.step.until.or(at.step.since), ..at.step }
}

/// Where a run that was cut off stands when it does not wait in the line any more, but for somebody's word: what is in doubt
/// stays so. One that is to be held comes to that next, and needs no slot for it.
pub(crate) fn aside(plan: &CheckedPlan, at: Position, known: Option<&Arc<StepFailure>>) -> Position {
    let in_doubt = interruption(plan, at, known);
    if at.step.held.is_some() || *in_doubt == Interruption::Hold {
        return Position { state: RunState::Interrupted, ..at };
    }
    let verifying = *in_doubt != Interruption::Rerun;
    Position { state: RunState::Queued, step: StepProgress { verifying, ..at.step }, ..at }
}

/// Whether a run that was cut off calls its step again as soon as it goes on, and not something else, or nothing.
pub(crate) fn calls_again(plan: &CheckedPlan, at: Position, known: Option<&Arc<StepFailure>>) -> bool {
    at.step.held.is_none() && *interruption(plan, at, known) == Interruption::Rerun
}

pub(super) fn hold(
    plan: &CheckedPlan,
    at: Position,
    reason: HoldReason,
    mut events: Vec<EventKind>,
) -> Decision {
    events.push(EventKind::TaskHeld { task_id: step_id(plan, at), attempt: at.attempt, reason });
    let step = StepProgress { held: Some(reason), verifying: false, until: None, ..at.step };
    Decision::new(Position { state: RunState::Held, expired: false, step, ..at }, events)
}

/// Asks whether the attempt that was cut off had its effect.
pub(super) fn verify(plan: &CheckedPlan, at: Position, mut events: Vec<EventKind>) -> Decision {
    events.push(EventKind::TaskVerifying { task_id: step_id(plan, at), attempt: at.attempt });
    let step = StepProgress { verifying: true, ..at.step };
    Decision::new(Position { state: RunState::Running, expired: false, step, ..at }, events)
}

/// A run that was over, or held, is accepted again, in its next generation. `at`: where that begins, which is behind `from` if
/// that step is skipped.
pub(crate) fn retry(
    plan: &CheckedPlan,
    at: Position,
    (generation, from): (u32, usize),
    slot: Option<Ahead>,
) -> Decision {
    let task_id = plan.get(from).map(|step| Arc::clone(&step.id));
    let mut events = said(EventKind::PlanRetried { generation, task_id: task_id.clone(), completed: from });
    if let Some(task_id) = task_id.filter(|_| at.cursor > from) {
        events.push(EventKind::TaskSkipped { task_id, reason: SkipReason::Operator });
    }
    match slot {
        Some(ahead) => enter(plan, at, ahead, events),
        None => Decision::new(at, events),
    }
}

/// Somebody has decided. What goes on waits for a slot.
pub(super) fn resolve(plan: &CheckedPlan, at: Position, decided: Decided) -> Decision {
    let task_id = step_id(plan, at);
    let resolved = |resolution| said(EventKind::TaskResolved { task_id: Arc::clone(&task_id), resolution });
    let at = Position { step: StepProgress { held: None, ..at.step }, ..at };
    match decided {
        Decided::Completed(result) => {
            let mut events = resolved(Resolution::Completed);
            events.push(EventKind::TaskCompleted { task_id, result });
            queue_behind(plan, at, events)
        }
        Decided::Skipped => {
            let mut events = resolved(Resolution::Skipped);
            events.push(EventKind::TaskSkipped { task_id, reason: SkipReason::Operator });
            queue_behind(plan, at, events)
        }
        Decided::Rerun(now) => {
            // Its time begins anew: it was a person's that passed.
            let step = StepProgress { since: Some(now), until: None, fallback: false, ..at.step };
            let to = Position { state: RunState::Queued, step, ..at };
            Decision::new(to, resolved(Resolution::Rerun))
        }
        Decided::Failed(failure) => {
            finish(plan, at, RunState::Failed, Some(failure), resolved(Resolution::Failed))
        }
    }
}

/// The step is dealt with: the next one waits for a slot, or the plan is over.
fn queue_behind(plan: &CheckedPlan, at: Position, events: Vec<EventKind>) -> Decision {
    let to = Position { state: RunState::Queued, ..next_place(at) };
    if to.cursor < plan.len() {
        return Decision::new(to, events);
    }
    finish(plan, to, RunState::Completed, None, events)
}

#[cfg(test)]
mod tests;
