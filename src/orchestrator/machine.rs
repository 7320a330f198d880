//! What a run does next: a pure function of where it stands and what happened.

use std::sync::Arc;

use crate::event::EventKind;
use crate::plan::{CheckedPlan, Output};
use crate::run::{RunState, StepFailure};

/// Where a run stands, once that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) state: RunState,
    /// How many steps have completed; also the index of the step in flight.
    pub(crate) cursor: usize,
    /// The attempt of that step which was started last; 0 before the first.
    pub(crate) attempt: u32,
}

impl Position {
    /// An accepted plan that waits for a slot.
    pub(crate) const QUEUED: Self = Self { state: RunState::Queued, cursor: 0, attempt: 0 };
}

/// What happened to a run.
#[derive(Debug)]
pub(crate) enum Input {
    /// A queued run has got a slot.
    Start,
    /// A run that was cut off has got a slot, or is found to have been told to stop.
    Resume,
    /// A run that was cut off cannot go on.
    Interrupt { reason: Arc<str> },
    /// The attempt returned this. `cancelled`: meanwhile the run was.
    Completed { output: Output, cancelled: bool },
    /// The attempt failed.
    Failed(Arc<StepFailure>),
    /// The run was cancelled while it waited, before the attempt was called, or by dropping its future.
    Cancel,
    /// The run was cancelled while blocking code runs, which cannot be dropped.
    Stop,
}

/// What to commit. Once that is stored, a run in a final state is over; one that is running calls the step at its cursor.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) to: Position,
    pub(crate) failure: Option<Arc<StepFailure>>,
    /// Why the run is interrupted, if it is.
    pub(crate) reason: Option<Arc<str>>,
    pub(crate) events: Vec<EventKind>,
}

/// A plan is accepted: it starts at once, or queues.
pub(crate) fn accept(plan: &CheckedPlan, has_slot: bool) -> Decision {
    let accepted = EventKind::PlanAccepted { name: plan.name().cloned(), steps: plan.len() };
    if has_slot {
        start(plan, said(accepted))
    } else {
        Decision { to: Position::QUEUED, failure: None, reason: None, events: vec![accepted] }
    }
}

/// The transition table. `None`: the input means nothing in that state.
pub(crate) fn decide(plan: &CheckedPlan, at: Position, input: Input) -> Option<Decision> {
    let decision = match (at.state, input) {
        (RunState::Queued, Input::Start) => start(plan, Vec::new()),
        (RunState::Queued | RunState::Interrupted, Input::Cancel) => {
            finish(at, RunState::Cancelled, None, Vec::new())
        }
        (RunState::Queued | RunState::Running | RunState::Interrupted, Input::Resume) => resume(plan, at),
        // Its cancellation was acknowledged, and the code that it waited for is gone with its process.
        (RunState::Stopping, Input::Resume) => {
            finish(at, RunState::Cancelled, None, said(cancelled(plan, at)))
        }
        (RunState::Queued | RunState::Running | RunState::Interrupted, Input::Interrupt { reason }) => {
            Decision {
                to: Position { state: RunState::Interrupted, ..at },
                failure: None,
                reason: Some(Arc::clone(&reason)),
                events: said(EventKind::PlanInterrupted { reason }),
            }
        }
        // A cancellation comes before the next step; where there is none, it comes too late.
        (RunState::Running, Input::Completed { output, cancelled })
            if !cancelled || at.cursor + 1 == plan.len() =>
        {
            proceed(plan, at.cursor + 1, said(completed(plan, at, output)))
        }
        (RunState::Running | RunState::Stopping, Input::Completed { output, .. }) => {
            let events = said(completed(plan, at, output));
            let at = Position { cursor: at.cursor + 1, attempt: 0, ..at };
            finish(at, RunState::Cancelled, None, events)
        }
        (RunState::Running, Input::Failed(failure)) => {
            let (task_id, attempt) = (step_id(plan, at), at.attempt);
            let failed = EventKind::TaskFailed { task_id, attempt, failure: failure.clone() };
            finish(at, RunState::Failed, Some((step_id(plan, at), failure)), said(failed))
        }
        // Code that was told to stop mostly ends with an error that says so.
        (RunState::Stopping, Input::Failed(_)) | (RunState::Running, Input::Cancel) => {
            finish(at, RunState::Cancelled, None, said(cancelled(plan, at)))
        }
        (RunState::Running, Input::Stop) => {
            let to = Position { state: RunState::Stopping, ..at };
            Decision { to, failure: None, reason: None, events: Vec::new() }
        }
        _ => return None,
    };
    Some(decision)
}

/// Cancels a run that nobody runs: one that waits, or was cut off.
pub(crate) fn cancel(plan: &CheckedPlan, at: Position) -> Option<Decision> {
    // One that had been told to stop is taken up only to be ended.
    decide(plan, at, if at.state == RunState::Stopping { Input::Resume } else { Input::Cancel })
}

fn start(plan: &CheckedPlan, mut events: Vec<EventKind>) -> Decision {
    events.push(EventKind::PlanStarted {});
    proceed(plan, 0, events)
}

/// Goes on where the run was cut off: completed steps count, and the one that may have been in flight is called again,
/// as another attempt.
fn resume(plan: &CheckedPlan, at: Position) -> Decision {
    if at.attempt == 0 {
        return start(plan, Vec::new());
    }
    let mut events = Vec::with_capacity(at.cursor + 2);
    events.push(EventKind::PlanResumed { completed: at.cursor });
    let completed = (0..at.cursor).filter_map(|index| plan.get(index));
    events.extend(completed.map(|step| EventKind::TaskRecovered { task_id: Arc::clone(&step.id) }));
    attempt(plan, at.cursor, at.attempt + 1, events)
}

/// Goes on to the step at `cursor`, whose start rides along, or ends the run if there is none.
fn proceed(plan: &CheckedPlan, cursor: usize, events: Vec<EventKind>) -> Decision {
    attempt(plan, cursor, 1, events)
}

fn attempt(plan: &CheckedPlan, cursor: usize, attempt: u32, mut events: Vec<EventKind>) -> Decision {
    let Some(step) = plan.get(cursor) else {
        let at = Position { state: RunState::Running, cursor, attempt: 0 };
        return finish(at, RunState::Completed, None, events);
    };
    let to = Position { state: RunState::Running, cursor, attempt };
    let (task_id, agent_id) = (Arc::clone(&step.id), Arc::clone(&step.agent));
    events.push(EventKind::TaskStarted { task_id, agent_id, attempt });
    Decision { to, failure: None, reason: None, events }
}

fn finish(
    at: Position,
    state: RunState,
    failed: Option<(Arc<str>, Arc<StepFailure>)>,
    mut events: Vec<EventKind>,
) -> Decision {
    let failure = failed.as_ref().map(|(_, failure)| failure.clone());
    events.push(match failed {
        Some((task_id, failure)) => EventKind::PlanFailed { task_id, failure },
        None if state == RunState::Completed => EventKind::PlanCompleted {},
        None => EventKind::PlanCancelled {},
    });
    Decision { to: Position { state, ..at }, failure, reason: None, events }
}

/// A first event, with room for the one that mostly follows.
fn said(kind: EventKind) -> Vec<EventKind> {
    let mut events = Vec::with_capacity(2);
    events.push(kind);
    events
}

fn cancelled(plan: &CheckedPlan, at: Position) -> EventKind {
    EventKind::TaskCancelled { task_id: step_id(plan, at), attempt: at.attempt }
}

fn completed(plan: &CheckedPlan, at: Position, result: Output) -> EventKind {
    EventKind::TaskCompleted { task_id: step_id(plan, at), result }
}

fn step_id(plan: &CheckedPlan, at: Position) -> Arc<str> {
    plan.get(at.cursor).map_or_else(|| Arc::from(""), |step| Arc::clone(&step.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{IntoOutput, Plan, Step};
    use crate::run::FailureKind;
    use proptest::prelude::*;

    fn plan(steps: usize) -> CheckedPlan {
        CheckedPlan::new((0..steps).map(|_| Step::unnamed(|| ())).collect::<Plan>()).unwrap()
    }

    fn types(decision: &Decision) -> Vec<&str> {
        decision.events.iter().map(EventKind::event_type).collect()
    }

    fn output() -> Output {
        "x".into_output().unwrap()
    }

    fn failure() -> Arc<StepFailure> {
        Arc::new(StepFailure::record(FailureKind::Error, &std::io::Error::other("broken")))
    }

    #[test]
    fn one_commit_a_step_with_the_next_start_in_it() {
        let plan = plan(2);
        let first = accept(&plan, true);
        assert_eq!(types(&first), ["plan.accepted", "plan.started", "task.started"]);
        let second =
            decide(&plan, first.to, Input::Completed { output: output(), cancelled: false }).unwrap();
        assert_eq!(types(&second), ["task.completed", "task.started"]);
        assert_eq!((second.to.state, second.to.cursor), (RunState::Running, 1));
        let last = decide(&plan, second.to, Input::Completed { output: output(), cancelled: false }).unwrap();
        assert_eq!(types(&last), ["task.completed", "plan.completed"]);
        assert_eq!((last.to.state, last.to.cursor), (RunState::Completed, 2));
    }

    #[test]
    fn an_empty_plan_completes_at_once() {
        let plan = plan(0);
        assert_eq!(types(&accept(&plan, true)), ["plan.accepted", "plan.started", "plan.completed"]);
        let queued = accept(&plan, false);
        let started = decide(&plan, queued.to, Input::Start).unwrap();
        assert_eq!(types(&started), ["plan.started", "plan.completed"]);
    }

    #[test]
    fn every_state_answers_every_input() {
        use RunState::{Cancelled, Completed, Failed, Interrupted, Queued, Running, Stopping};
        let plan = plan(2);
        let inputs: [fn() -> Input; 8] = [
            || Input::Start,
            || Input::Resume,
            || Input::Interrupt { reason: Arc::from("no callable") },
            || Input::Completed { output: output(), cancelled: false },
            || Input::Completed { output: output(), cancelled: true },
            || Input::Failed(failure()),
            || Input::Cancel,
            || Input::Stop,
        ];
        // One row a state: where each input above leads.
        let [run, cut, stop, fail, cancel] =
            [Running, Interrupted, Stopping, Failed, Cancelled].map(Some::<RunState>);
        let table: [(RunState, [Option<RunState>; 8]); 7] = [
            (Queued, [run, run, cut, None, None, None, cancel, None]),
            (Running, [None, run, cut, run, cancel, fail, cancel, stop]),
            (Stopping, [None, cancel, None, cancel, cancel, cancel, None, None]),
            (Interrupted, [None, run, cut, None, None, None, cancel, None]),
            (Completed, [None; 8]),
            (Failed, [None; 8]),
            (Cancelled, [None; 8]),
        ];
        for (state, row) in table {
            let at = Position { state, cursor: 0, attempt: 1 };
            for (index, (input, expected)) in inputs.iter().zip(row).enumerate() {
                let to = decide(&plan, at, input()).map(|decision| decision.to.state);
                assert_eq!(to, expected, "{state} and input {index}");
            }
        }
    }

    proptest! {
        /// Whatever happens: the cursor only grows, each step starts at most once, and the end is said once, last.
        #[test]
        fn any_history_is_orderly(steps in 0_usize..5, inputs in proptest::collection::vec(0_usize..8, 0..20)) {
            let plan = plan(steps);
            let mut decision = accept(&plan, false);
            let mut said: Vec<EventKind> = std::mem::take(&mut decision.events);
            for input in inputs {
                let input = match input {
                    0 | 1 => Input::Completed { output: output(), cancelled: false },
                    2 => Input::Start,
                    3 => Input::Failed(failure()),
                    4 => Input::Cancel,
                    5 => Input::Resume,
                    6 => Input::Interrupt { reason: Arc::from("cut") },
                    _ => Input::Stop,
                };
                let Some(next) = decide(&plan, decision.to, input) else { continue };
                prop_assert!(next.to.cursor >= decision.to.cursor && next.to.cursor <= steps);
                prop_assert!(!decision.to.state.is_final());
                decision = next;
                said.append(&mut decision.events);
            }
            let count = |wanted: &str| said.iter().filter(|kind| kind.event_type() == wanted).count();
            prop_assert_eq!(count("task.completed"), decision.to.cursor);
            // Each step starts once, and once more for each time that the run was taken up again.
            prop_assert!(count("task.started") <= decision.to.cursor + 1 + count("plan.resumed"));
            let ends = count("plan.completed") + count("plan.failed") + count("plan.cancelled");
            prop_assert_eq!(ends, usize::from(decision.to.state.is_final()));
        }
    }
}
