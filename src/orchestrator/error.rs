use actix::MailboxError;
use serde_json::Value;

use super::not_undone::{StepNotUndone, list, told};
use super::signals::InvalidSignal;
use crate::allocator::ResolveError;
use crate::memory::MemoryError;
use crate::plan::{InvalidPlan, PlanDifference, StepError};
use crate::run::{FailureKind, InvalidRunId, RunId, RunState};

/// Why a plan was not accepted, or did not complete.
///
/// ```
/// use actix::prelude::*;
/// use lunacore::{Engine, PlanError, Step};
/// use std::error::Error;
///
/// # actix::System::new().block_on(async {
/// let engine = Engine::builder().start()?;
/// let steps = [Step::new("read", || "some text"), Step::new("parse", || "x".parse::<u32>())];
/// match engine.execute(steps).await {
///     Err(PlanError::StepFailed { step_id, completed, source, .. }) => {
///         assert_eq!((&*step_id, completed.len()), ("parse", 1));
///         assert!(source.is::<std::num::ParseIntError>());
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The plan cannot be one. Nothing has run.
    #[error(transparent)]
    Invalid(#[from] InvalidPlan),
    /// The run id cannot be one. Nothing has run.
    #[error(transparent)]
    InvalidRunId(#[from] InvalidRunId),
    /// The run has another plan. Nothing has run.
    #[error("run {run_id} was accepted with another plan: {}", differences_of(differences))]
    PlanMismatch {
        /// The run.
        run_id: RunId,
        /// In what the plan differs from the recorded one, step by step.
        differences: Vec<PlanDifference>,
    },
    /// Another orchestrator over the same memory has the run in hand; or code of the run that was
    /// [abandoned](crate::Step::grace) is still at work, here or there, and the run is free when that has ended. Nothing has run.
    #[error("run {run_id} is in the hands of another orchestrator")]
    RunElsewhere {
        /// The run.
        run_id: RunId,
    },
    /// No such run is known, and only its id was given. Nothing has run.
    #[error("no run {run_id} is known")]
    UnknownRun {
        /// The id that was given.
        run_id: RunId,
    },
    /// There is a run with this id already, in another project. Nothing has run.
    #[error("there is a run {run_id} already; choose another run id, or leave it out")]
    RunExists {
        /// The id.
        run_id: RunId,
    },
    /// The allocator has no callable for a step. Nothing has run.
    #[error(transparent)]
    Unresolved(#[from] ResolveError),
    /// The allocator gave no usable answer. Nothing has run.
    #[error("the allocator {reason}")]
    Allocator {
        /// What it did instead.
        reason: String,
    },
    /// An expression of the plan reads a secret that cannot be had. Nothing has run.
    #[cfg(feature = "expressions")]
    #[error(transparent)]
    Secret(#[from] crate::secrets::SecretError),
    /// A step names a circuit breaker that the orchestrator does not have. Nothing has run.
    #[error("step {step_id:?} names the circuit breaker {name:?}, which this orchestrator does not have{}",
        similar.as_ref().map(|name| format!("; did you mean {name:?}?")).unwrap_or_default())]
    #[non_exhaustive]
    UnknownBreaker {
        /// The step.
        step_id: String,
        /// The name that it gave.
        name: String,
        /// A breaker whose name looks alike.
        similar: Option<String>,
    },
    /// The run cannot be [tried again](crate::RetryRun). Nothing has run.
    #[error("run {run_id} cannot be tried again: {fault}")]
    NotRetried {
        /// The run.
        run_id: RunId,
        /// Why.
        fault: RetryFault,
    },
    /// A step names a limit that the orchestrator does not have. Nothing has run.
    #[error("step {step_id:?} names the limit {name:?}, which this orchestrator does not have{}",
        similar.as_ref().map(|name| format!("; did you mean {name:?}?")).unwrap_or_default())]
    #[non_exhaustive]
    UnknownLimit {
        /// The step.
        step_id: String,
        /// The name that it gave.
        name: String,
        /// A limit whose name looks alike.
        similar: Option<String>,
    },
    /// As many plans wait as may. Nothing has run; try again later.
    #[error("{capacity} plans wait already; try again later or raise the queue's capacity")]
    QueueFull {
        /// How many may wait.
        capacity: usize,
    },
    /// The orchestrator is shutting down and takes no more plans. Nothing has run.
    #[error("the orchestrator is shutting down")]
    ShuttingDown,
    /// A step failed. Those before it have completed and their results are stored.
    #[error("step {index} ({step_id:?}) of run {run_id} failed at attempt {attempt}")]
    #[non_exhaustive]
    StepFailed {
        /// The run.
        run_id: RunId,
        /// The step's id.
        step_id: String,
        /// Its place in the plan, from 0.
        index: usize,
        /// Which attempt, from 1.
        attempt: u32,
        /// What sort of failure it was.
        kind: FailureKind,
        /// The results of the steps before it, in order.
        completed: Vec<Value>,
        /// The step's own error: `downcast_ref` gives it back with its type.
        source: StepError,
    },
    /// The plan was not done at its [deadline](crate::ExecutePlan::deadline).
    #[error("run {run_id} was not done at its deadline; it had come to step {index} ({step_id:?})")]
    #[non_exhaustive]
    DeadlineExceeded {
        /// The run.
        run_id: RunId,
        /// The step that was in flight, or would have been next.
        step_id: String,
        /// Its place in the plan, from 0.
        index: usize,
        /// The results of the steps before it, in order.
        completed: Vec<Value>,
        /// How long it might have taken: a [`LimitExceeded`](crate::LimitExceeded).
        source: StepError,
    },
    /// The run was cancelled.
    #[error("run {run_id} was cancelled")]
    Cancelled {
        /// The run.
        run_id: RunId,
        /// The results of the steps that completed before, in order.
        completed: Vec<Value>,
    },
    /// The run failed, or was cancelled, and what its steps did was [undone](crate::Step::compensate), or as much of it as could
    /// be.
    #[error("{}", told(run_id, undone, not_undone))]
    #[non_exhaustive]
    Compensated {
        /// The run.
        run_id: RunId,
        /// The ids of the steps that are undone, in the order in which they were.
        undone: Vec<String>,
        /// The steps that are not, in the order in which that was tried.
        not_undone: Vec<StepNotUndone>,
        /// What the run would have ended with otherwise: [`StepFailed`](Self::StepFailed),
        /// [`DeadlineExceeded`](Self::DeadlineExceeded) or [`Cancelled`](Self::Cancelled).
        source: Box<Self>,
    },
    /// The run was cut off: by a shutdown, when blocking code that was told to stop did not end in time, or by a fault of
    /// its task.
    #[error("run {run_id} was interrupted: {reason}")]
    Interrupted {
        /// The run.
        run_id: RunId,
        /// What cut it off.
        reason: String,
    },
    /// Memory failed or refused, so that the run could not go on. What it had acknowledged before is stored.
    #[error("memory could not store run {run_id}")]
    Memory {
        /// The run.
        run_id: RunId,
        /// Why.
        source: MemoryError,
    },
    /// The orchestrator has stopped.
    #[error("the orchestrator has stopped")]
    Stopped,
}

fn differences_of(differences: &[PlanDifference]) -> String {
    list(differences, "; ", ToString::to_string)
}

impl PlanError {
    /// The failure of a step, or of the plan at its deadline.
    pub(crate) fn failed(
        run_id: RunId,
        step_id: String,
        index: usize,
        attempt: u32,
        completed: Vec<Value>,
        source: StepError,
    ) -> Self {
        match source.kind() {
            FailureKind::Deadline => Self::DeadlineExceeded { run_id, step_id, index, completed, source },
            kind => Self::StepFailed { run_id, step_id, index, attempt, kind, completed, source },
        }
    }

    pub(crate) fn from_memory(run_id: RunId, source: MemoryError) -> Self {
        match source {
            MemoryError::RunExists { run_id } => Self::RunExists { run_id },
            MemoryError::RunHeld { run_id } => Self::RunElsewhere { run_id },
            source => Self::Memory { run_id, source },
        }
    }
}

/// Why a run cannot be tried again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RetryFault {
    /// It is in this state; only one that has failed, was cancelled or interrupted, or is held can be.
    #[error("it is {0}")]
    State(RunState),
    /// What its steps did was undone, or some of it.
    #[error("what its steps did was undone, or some of it; send its plan as a new run")]
    Undone,
    /// Its plan cannot be taken from what is stored.
    #[error("{reason} (see `RetryRun::plan`)")]
    NeedsPlan {
        /// Why not.
        reason: String,
    },
    /// It cannot go on [without a step](crate::SkipStep): its plan cannot be taken from what is stored, and is not sent along.
    #[error(
        "{reason}, by `RetryRun::plan` with `OnMismatch::KeepPrefix`, and with another step in that place, or none"
    )]
    NeedsPlanToSkip {
        /// Why not.
        reason: String,
    },
    /// Its plan has no step with this id.
    #[error("its plan has no step {step_id:?}")]
    NoSuchStep {
        /// The id that was given.
        step_id: String,
    },
    /// The run did not come to this step: those before it have no results.
    #[error("it did not come to step {step_id:?}; {completed} steps have completed")]
    NotReached {
        /// The step.
        step_id: String,
        /// How many have completed.
        completed: usize,
    },
    /// It is not at this step that the run stands.
    #[error("it does not stand at step {step_id:?}")]
    NotAt {
        /// The step that was given.
        step_id: String,
    },
    /// There is no step that could take the input: it only waits, or none is left.
    #[error("there is no step that could take the input")]
    NoInput,
}

/// Why a control message about a run was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No such run is known.
    #[error("no run {run_id} is known")]
    UnknownRun {
        /// The id that was given.
        run_id: RunId,
    },
    /// The run is neither waiting nor running in this orchestrator, but not finished either.
    #[error("run {run_id} is {state}, but not in this orchestrator")]
    NotHere {
        /// The run.
        run_id: RunId,
        /// Its stored state.
        state: RunState,
    },
    /// The run was cut off before it could be cancelled. Nothing of it runs; cancel it again, or send its plan again with
    /// the same run id.
    #[error("run {run_id} was interrupted before it was cancelled; nothing of it runs")]
    Interrupted {
        /// The run.
        run_id: RunId,
    },
    /// The signal cannot be one. Nothing is stored.
    #[error(transparent)]
    InvalidSignal(#[from] InvalidSignal),
    /// The run is held at another step. Nothing is decided.
    #[error("run {run_id} is held at step {held:?}, and not at {step_id:?}")]
    OtherStep {
        /// The run.
        run_id: RunId,
        /// The step that was given.
        step_id: String,
        /// The step that it is held at.
        held: String,
    },
    /// What was given as the output of a step cannot be one. Nothing is decided.
    #[error("run {run_id} cannot go on with the output that it was given")]
    Refused {
        /// The run.
        run_id: RunId,
        /// Why.
        source: StepError,
    },
    /// The run cannot go on without the step at which it has failed.
    #[error("run {run_id} cannot go on without its step")]
    NotRetried {
        /// The run.
        run_id: RunId,
        /// Why.
        source: Box<PlanError>,
    },
    /// The orchestrator has no circuit breaker of this name.
    #[error("there is no circuit breaker {name:?}")]
    UnknownBreaker {
        /// The name that was given.
        name: String,
    },
    /// Memory failed.
    #[error("memory could not be read or written")]
    Memory(#[from] MemoryError),
    /// The orchestrator has stopped.
    #[error("the orchestrator has stopped")]
    Stopped,
}

/// So that `??` works on what an actor's address answers.
impl From<MailboxError> for PlanError {
    fn from(_: MailboxError) -> Self {
        Self::Stopped
    }
}

/// So that `??` works on what an actor's address answers.
impl From<MailboxError> for ControlError {
    fn from(_: MailboxError) -> Self {
        Self::Stopped
    }
}
