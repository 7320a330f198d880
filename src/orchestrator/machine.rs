//! What a run does next: a pure function of where it stands, and of what happened and when.

mod compensation;

use std::sync::Arc;
use std::time::SystemTime;

pub(crate) use self::compensation::{AfterUndo, Known, Undo};
use self::going_on::{go_on_or_ask, proceed, resume};
pub(crate) use self::held::{Decided, aside, calls_again, retry};
use self::parts::{completed, is_last, next_place, said, step_id};
use self::steered::{pause, steered};
pub(crate) use self::waits::begun;
pub(crate) use super::position::Position;
use crate::event::{Barrier, EventKind, SkipReason};
use crate::plan::{CheckedPlan, Output};
use crate::run::{HoldReason, RunState, StepFailure, StepProgress, Undoing};

mod going_on;
mod held;
mod parts;
mod steered;
mod waits;

/// What stands before the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ahead {
    /// Nothing: it can start at once.
    Go,
    /// Its condition: the step stands at the cursor, not started, and what the condition says is the next input. Not said of a
    /// step that was started, or parked, before: it was true then.
    Check,
    /// Something that lets nothing through at this time, until then if that is known.
    Park { now: SystemTime, until: Option<SystemTime>, behind: Behind },
    /// A wait, which begins at this time: the step calls nothing.
    Wait(SystemTime),
}

/// What a run parks behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    /// The circuit breaker of its step, which is open.
    Breaker,
    /// The limit of its step, which has no permit.
    Limit,
}

impl Ahead {
    /// The same where the condition has been looked at: before an attempt that waits for a time, or for its breaker, it was true.
    fn decided(self) -> Self {
        if self == Self::Check { Self::Go } else { self }
    }
}

/// What follows from a failure, as the step's policy has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Another attempt, at that time.
    Retry(SystemTime),
    /// The attempt of the fallback.
    Fallback,
    /// The next step, before which this stands.
    Continue(Ahead),
    /// Somebody has to decide.
    Hold,
    /// The end of the plan.
    Abort,
}

/// What happened to a run.
#[derive(Debug)]
pub(crate) enum Input {
    /// A queued run has got a slot, at this time.
    Start(Ahead, SystemTime),
    /// A run that was cut off has got a slot, or is found to have been told to stop.
    Resume(Ahead, SystemTime),
    /// A run that was cut off cannot go on.
    Interrupt { reason: Arc<str> },
    /// The attempt returned this, or what the step waited for is there. `cancelled`: meanwhile the run was.
    Completed { output: Output, cancelled: bool, ahead: Ahead },
    /// The condition of the step at the cursor, which has not been started, is false. What stands before the one behind it?
    Skip(Ahead),
    /// The attempt failed, or the run came to a limit while it waited.
    Failed { failure: Arc<StepFailure>, then: Then, escalate: bool },
    /// What a run waited for is there, and it has a slot; or the condition of its step is true.
    Proceed(Ahead, SystemTime),
    /// What was asked whether the attempt had its effect could not tell: somebody has to, and may be told why it could not.
    Unverified(Option<Arc<StepFailure>>),
    /// Somebody has decided about the step that is held.
    Resolve(Decided),
    /// The run was cancelled while it waited, before the attempt was called, or by dropping its future.
    Cancel,
    /// The run was cancelled while blocking code runs, which cannot be dropped.
    Stop,
    /// The run came to a limit while blocking code runs.
    Expire(Arc<StepFailure>),
    /// It was told to pause.
    Pause,
    /// It was told to go on.
    Unpause,
    /// This happened while it undoes what its steps did.
    Undo(Undo),
}

/// What to commit. Once that is stored, a run in a final state is over; one that is running calls the step at its cursor, or
/// looks at its condition if no attempt of it was started.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) to: Position,
    pub(crate) failure: Option<Arc<StepFailure>>,
    /// Why the run is interrupted, if it is.
    pub(crate) reason: Option<Arc<str>>,
    /// How far it is with undoing what its steps did, if it does.
    pub(crate) undoing: Option<Arc<Undoing>>,
    pub(crate) events: Vec<EventKind>,
}

impl Decision {
    fn new(to: Position, events: Vec<EventKind>) -> Self {
        Self { to, failure: None, reason: None, undoing: None, events }
    }

    fn because(self, failure: Arc<StepFailure>) -> Self {
        Self { failure: Some(failure), ..self }
    }
}

/// A plan is accepted: it starts at once, if it has a slot, or queues.
pub(crate) fn accept(plan: &CheckedPlan, slot: Option<Ahead>) -> Decision {
    let accepted = EventKind::PlanAccepted { name: plan.name().cloned(), steps: plan.len() };
    match slot {
        Some(ahead) => begin(plan, Position::QUEUED, ahead, said(accepted)),
        None => Decision::new(Position::QUEUED, vec![accepted]),
    }
}

/// The transition table. `None`: the input means nothing in that state.
pub(crate) fn decide(plan: &CheckedPlan, at: Position, known: &Known<'_>, input: Input) -> Option<Decision> {
    if let Some(undoing) = known.undoing {
        return compensation::decide(plan, at, known, undoing, input);
    }
    let mut decision = transition(plan, at, known.failure, input)?;
    let to = decision.to;
    // The failure of the last attempt stays known until there is another attempt, or wait, and in that of the fallback.
    let same = to.cursor == at.cursor && (to.attempt == at.attempt || to.step.fallback);
    let cancelled = to.state == RunState::Stopping && !to.expired;
    let waits = matches!(to.state, RunState::Sleeping | RunState::AwaitingSignal);
    if decision.failure.is_none() && same && !to.state.is_final() && !cancelled && !waits {
        decision.failure = known.failure.cloned();
    }
    if matches!(to.state, RunState::Failed | RunState::Cancelled) {
        decision = compensation::before_the_end(plan, known.skipped, decision);
    }
    Some(decision)
}

fn transition(
    plan: &CheckedPlan,
    at: Position,
    known: Option<&Arc<StepFailure>>,
    input: Input,
) -> Option<Decision> {
    use RunState::{
        AwaitingSignal, BackingOff, Held, Interrupted, Parked, Paused, Queued, Running, Sleeping, Stopping,
    };
    let waits = matches!(
        at.state,
        Queued | BackingOff | Parked | Sleeping | AwaitingSignal | Paused | Held | Interrupted
    );
    let decision = match (at.state, input) {
        (Queued, Input::Start(ahead, now)) if at.is_started() => {
            go_on_or_ask(plan, at, known, ahead, now, Vec::new())
        }
        (Queued, Input::Start(ahead, _)) => begin(plan, at, ahead, Vec::new()),
        (BackingOff | Parked, Input::Proceed(ahead, now)) => {
            proceed(plan, at, ahead.decided(), now, Vec::new())
        }
        (Running, Input::Proceed(ahead, _)) if at.attempt == 0 || at.step.verifying => {
            enter(plan, at, ahead, Vec::new())
        }
        (Queued | Running, Input::Skip(ahead)) if at.attempt == 0 && at.is_started() => {
            let skipped =
                EventKind::TaskSkipped { task_id: step_id(plan, at), reason: SkipReason::Condition };
            next_step(plan, at, ahead, said(skipped))
        }
        (Queued | Running | BackingOff | Interrupted, Input::Resume(ahead, now)) => {
            resume(plan, at, known, ahead, now)
        }
        // Its cancellation was acknowledged, and the code that it waited for is gone with its process.
        (Stopping, Input::Resume(..)) if !at.expired => cancel_attempt(plan, at),
        (Running | Stopping, Input::Unverified(failure)) if at.step.verifying => {
            let held = held::hold(plan, at, HoldReason::Unverified, Vec::new());
            Decision { failure, ..held }
        }
        (Held, Input::Resolve(decided)) => held::resolve(plan, at, decided),
        (_, Input::Interrupt { reason }) if waits || at.state == Running => {
            let pausing = at.pausing || at.state == Paused;
            let to = Position { state: Interrupted, step: held::cut_off(plan, at), pausing, ..at };
            let events = said(EventKind::PlanInterrupted { reason: Arc::clone(&reason) });
            Decision { reason: Some(reason), ..Decision::new(to, events) }
        }
        // A cancellation comes before the next step; where there is none, it comes too late.
        (Running | Sleeping | AwaitingSignal, Input::Completed { output, cancelled, ahead })
            if !cancelled || is_last(plan, at) =>
        {
            next_step(plan, at, ahead, said(completed(plan, at, output)))
        }
        (Running | Sleeping | AwaitingSignal | Stopping, Input::Completed { output, .. }) => {
            let events = said(completed(plan, at, output));
            finish(plan, next_place(at), RunState::Cancelled, None, events)
        }
        // Code that was told to stop mostly ends with an error that says so.
        (Stopping, Input::Failed { .. }) if !at.expired => cancel_attempt(plan, at),
        (Running | Stopping, Input::Failed { failure, then, escalate }) => {
            fail(plan, at, failure, then, escalate)
        }
        (_, Input::Failed { failure, then, escalate })
            if waits && (at.is_started() || then == Then::Abort) =>
        {
            fail(plan, at, failure, then, escalate)
        }
        (Running | BackingOff | Sleeping | AwaitingSignal | Held, Input::Cancel) => cancel_attempt(plan, at),
        (Queued | Parked | Paused | Interrupted, Input::Cancel) => {
            finish(plan, at, RunState::Cancelled, None, Vec::new())
        }
        (_, input) => return steered(at, input),
    };
    Some(decision)
}

/// Cancels a run that nobody runs: one that waits, or was cut off.
pub(crate) fn cancel(plan: &CheckedPlan, at: Position, known: &Known<'_>) -> Option<Decision> {
    if at.state == RunState::Stopping {
        // The code that it had told to stop is gone.
        return Some(compensation::before_the_end(plan, known.skipped, cancel_attempt(plan, at)));
    }
    decide(plan, at, known, Input::Cancel)
}

fn begin(plan: &CheckedPlan, at: Position, ahead: Ahead, mut events: Vec<EventKind>) -> Decision {
    events.push(EventKind::PlanStarted {});
    enter(plan, at, ahead, events)
}

/// Goes on to the next step, whose start rides along, or ends the run if there is none.
fn next_step(plan: &CheckedPlan, at: Position, ahead: Ahead, events: Vec<EventKind>) -> Decision {
    enter(plan, next_place(at), ahead, events)
}

/// Another attempt of the step at the cursor, or its wait, unless something stands before it.
fn enter(plan: &CheckedPlan, at: Position, ahead: Ahead, mut events: Vec<EventKind>) -> Decision {
    let step = StepProgress { verifying: false, ..at.step };
    let at = Position { state: RunState::Running, expired: false, step, ..at };
    let Some(step) = plan.get(at.cursor) else {
        return finish(plan, at, RunState::Completed, None, events);
    };
    if at.pausing {
        return pause(at, events);
    }
    if let Some(wait) = step.step.wait().filter(|_| !at.step.fallback) {
        return waits::enter(step, wait, at, ahead, events);
    }
    match ahead {
        Ahead::Check if at.attempt == 0 => Decision::new(at, events),
        Ahead::Go | Ahead::Check | Ahead::Wait(_) => {
            let (task_id, agent_id) = (Arc::clone(&step.id), step.step.agent_id());
            let (attempt, fallback) = (at.attempt + 1, at.step.fallback);
            events.push(EventKind::TaskStarted { task_id, agent_id, attempt, fallback });
            let step = StepProgress { until: None, ..at.step };
            Decision::new(Position { attempt, step, ..at }, events)
        }
        Ahead::Park { now, until, behind } => {
            let (task_id, policy) = (Arc::clone(&step.id), step.step.policy());
            let name = |name: Option<&Arc<str>>| name.map_or_else(|| Arc::from(""), Arc::clone);
            let behind = match behind {
                Behind::Breaker => Barrier::Breaker(name(policy.and_then(|policy| policy.breaker.as_ref()))),
                Behind::Limit => Barrier::Limit(name(policy.and_then(|policy| policy.limit.as_ref()))),
            };
            events.push(EventKind::PlanParked { task_id, behind, until });
            let step = StepProgress { since: at.step.since.or(Some(now)), until, ..at.step };
            Decision::new(Position { state: RunState::Parked, step, ..at }, events)
        }
    }
}

/// What a failure leads to, in the words of the step's policy.
fn fail(plan: &CheckedPlan, at: Position, failure: Arc<StepFailure>, then: Then, escalate: bool) -> Decision {
    let next_attempt_at = if let Then::Retry(at) = then { Some(at) } else { None };
    let will_retry = next_attempt_at.is_some();
    let task_id = step_id(plan, at);
    let mut events = Vec::with_capacity(3);
    // A plan without steps may come to its deadline, too.
    if plan.get(at.cursor).is_some() {
        let (task_id, failure) = (Arc::clone(&task_id), Arc::clone(&failure));
        let attempt = at.attempt;
        events.push(EventKind::TaskFailed { task_id, attempt, will_retry, next_attempt_at, failure });
    }
    if escalate && !will_retry {
        let reason = Arc::from(&*failure.message);
        events.push(EventKind::EscalationNeeded { task_id: Arc::clone(&task_id), reason });
    }
    let step = StepProgress { verifying: false, ..at.step };
    let at = Position { state: RunState::Running, expired: false, step, ..at };
    match then {
        Then::Retry(_) => {
            let step = StepProgress { until: next_attempt_at, ..at.step };
            let to = Position { state: RunState::BackingOff, step, ..at };
            if at.pausing { pause(to, events) } else { Decision::new(to, events) }.because(failure)
        }
        Then::Fallback => {
            let step = StepProgress { fallback: true, until: None, ..at.step };
            enter(plan, Position { step, ..at }, Ahead::Go, events).because(failure)
        }
        Then::Continue(ahead) => {
            events.push(EventKind::TaskSkipped { task_id, reason: SkipReason::Failed });
            next_step(plan, at, ahead, events)
        }
        Then::Hold => held::hold(plan, at, HoldReason::Failed, events).because(failure),
        Then::Abort => finish(plan, at, RunState::Failed, Some(failure), events),
    }
}

fn cancel_attempt(plan: &CheckedPlan, at: Position) -> Decision {
    let cancelled = EventKind::TaskCancelled { task_id: step_id(plan, at), attempt: at.attempt };
    finish(plan, at, RunState::Cancelled, None, said(cancelled))
}

fn finish(
    plan: &CheckedPlan,
    at: Position,
    state: RunState,
    failed: Option<Arc<StepFailure>>,
    mut events: Vec<EventKind>,
) -> Decision {
    events.push(match &failed {
        Some(failure) => EventKind::PlanFailed { task_id: step_id(plan, at), failure: Arc::clone(failure) },
        None if state == RunState::Completed => EventKind::PlanCompleted {},
        None => EventKind::PlanCancelled {},
    });
    let step = StepProgress { until: None, verifying: false, held: None, ..at.step };
    let to = Position { state, step, pausing: false, expired: false, ..at };
    Decision { failure: failed, ..Decision::new(to, events) }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
