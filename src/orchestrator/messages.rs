use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix::Message;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::abandoned::AbandonedCall;
use super::error::{ControlError, PlanError};
use super::machine::Position;
use super::status::RunInfo;
use crate::plan::{Plan, Step};
use crate::project::Project;
use crate::resilience::BreakerRecord;
use crate::run::{Durability, RunId, RunState};

/// Runs a plan and answers with its results, in step order.
///
/// The plan goes to the end of the queue. Once it is accepted it runs to its end whether or not the answer is still
/// waited for. To know when it is accepted, send [`SubmitPlan`] instead.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<Value>, PlanError>")]
pub struct ExecutePlan {
    pub(crate) plan: Plan,
    pub(crate) project: Project,
    pub(crate) run_id: Option<String>,
    pub(crate) durability: Option<Durability>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) inputs: Map<String, Value>,
}

impl ExecutePlan {
    /// A plan, or its steps.
    pub fn new(plan: impl Into<Plan>) -> Self {
        let project = Project::default();
        let (run_id, durability, deadline) = (None, None, None);
        Self { plan: plan.into(), project, run_id, durability, deadline, inputs: Map::new() }
    }

    /// Gives an input of the plan its value; see [`Plan::declare`]. What is not given has its default, and what the plan does
    /// not declare is refused.
    ///
    /// Values are stored with the run, so that it can be resumed, and count in the plan's
    /// [fingerprint](crate::PlanRecord::fingerprint).
    #[cfg(feature = "expressions")]
    #[must_use]
    pub fn input(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.inputs.insert(name.into(), value.into());
        self
    }

    /// The same for several inputs at once.
    #[cfg(feature = "expressions")]
    #[must_use]
    pub fn inputs(mut self, values: impl IntoIterator<Item = (String, Value)>) -> Self {
        self.inputs.extend(values);
        self
    }

    /// Names the run, so that it can be asked about, cancelled and attached to. Without this it gets a UUIDv7.
    ///
    /// A run that memory knows by this name is not run a second time: the caller is *attached* to it.
    ///
    /// | the run is | the caller gets |
    /// |---|---|
    /// | completed | its stored results |
    /// | failed | its stored failure: a [`PlanError::StepFailed`] whose source is a [`RecordedError`](crate::RecordedError) |
    /// | cancelled | [`PlanError::Cancelled`] |
    /// | undone, or was as far as that could be | [`PlanError::Compensated`] |
    /// | queued, running or waiting here | the same outcome as whoever sent it first |
    /// | paused | the outcome, once it has been resumed |
    /// | cut off, by a crash or a failure of the store | the outcome of the rest: steps that completed are not called again, their outputs come from memory, and `task.recovered` says so for each |
    ///
    /// The plan must be the one that the run was accepted with, by its [fingerprint](crate::PlanRecord::fingerprint): step ids, their
    /// order, the names of callables, inputs, conditions. What a closure does cannot be compared; it counts by its step's id. Another
    /// plan gets [`PlanError::PlanMismatch`], another project's [`PlanError::RunExists`], and a run that another
    /// orchestrator over the same memory has in hand gets [`PlanError::RunElsewhere`].
    ///
    /// What is completed, failed, cancelled, or here already needs no place in the queue; all else gets
    /// [`PlanError::QueueFull`] when there is none.
    #[must_use]
    pub fn run_id(mut self, run_id: impl Into<String>) -> Self {
        self.run_id = Some(run_id.into());
        self
    }

    /// Says what a power loss may take of this plan's progress; without this, the store's own setting counts.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// The longest that the plan may take from now on, waiting included; then it fails with
    /// [`PlanError::DeadlineExceeded`]. What is in flight is stopped as by a [timeout](crate::Step::timeout).
    ///
    /// It counts by the clock on the wall: also while the run is paused, and while its process is down.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Stores the results in this project of this tenant; both are `"default"` otherwise.
    #[must_use]
    pub fn in_project(mut self, tenant: impl Into<Arc<str>>, project: impl Into<Arc<str>>) -> Self {
        self.project = Project::new(tenant, project);
        self
    }
}

impl From<Plan> for ExecutePlan {
    fn from(plan: Plan) -> Self {
        Self::new(plan)
    }
}

impl From<Vec<Step>> for ExecutePlan {
    fn from(steps: Vec<Step>) -> Self {
        Self::new(steps)
    }
}

impl<const N: usize> From<[Step; N]> for ExecutePlan {
    fn from(steps: [Step; N]) -> Self {
        Self::new(steps)
    }
}

/// Runs a plan and answers as soon as it is accepted, with a handle to its run.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<RunHandle, PlanError>")]
pub struct SubmitPlan(pub ExecutePlan);

/// A run that was accepted: a future of its results.
///
/// Dropping it does not stop the run.
#[derive(Debug)]
pub struct RunHandle {
    run_id: RunId,
    outcome: oneshot::Receiver<Result<Vec<Value>, PlanError>>,
}

impl RunHandle {
    pub(crate) fn new(run_id: RunId, outcome: oneshot::Receiver<Result<Vec<Value>, PlanError>>) -> Self {
        Self { run_id, outcome }
    }

    /// The run's id.
    #[must_use]
    pub fn run_id(&self) -> &RunId {
        &self.run_id
    }
}

impl Future for RunHandle {
    type Output = Result<Vec<Value>, PlanError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.outcome).poll(cx).map(|outcome| outcome.unwrap_or(Err(PlanError::Stopped)))
    }
}

/// Asks how a run is doing. Answered at once, also while a step runs.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<RunInfo, ControlError>")]
pub struct PlanStatus(pub RunId);

/// Lists runs in the order in which they were accepted, a page of at most
/// [`MAX_PAGE`](crate::limits::MAX_PAGE) at a time.
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "Result<Vec<RunInfo>, ControlError>")]
#[non_exhaustive]
pub struct ListPlans {
    /// Only runs accepted after this one: the last of the page before.
    pub after: Option<RunId>,
}

impl ListPlans {
    /// The first page.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The page behind a run.
    #[must_use]
    pub fn after(run_id: RunId) -> Self {
        Self { after: Some(run_id) }
    }
}

/// Cancels a run: at once when it waits, before its next step when it runs. A run that is in its last step completes if
/// that step does, unless [`CancelOutcome::Stopping`] was answered.
///
/// A future is dropped at its next await. Blocking code sees its
/// [cancellation token](crate::StepContext::cancellation) and is waited for: a run that has to wait for it answers
/// [`CancelOutcome::Stopping`]. The answer comes when the cancellation is stored. Sending it again does no harm.
///
/// A run whose steps did something that can be [undone](crate::Step::compensate) undoes that first, and answers
/// [`CancelOutcome::Compensating`].
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<CancelOutcome, ControlError>")]
pub struct CancelPlan(pub RunId);

/// What cancelling did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CancelOutcome {
    /// The run is cancelled: nothing of it runs any more.
    Cancelled,
    /// The run will be cancelled as soon as the blocking code that it is in returns.
    Stopping,
    /// The run is cancelled, or had failed before, and what its steps did [is being undone](crate::Step::compensate), or will be
    /// as soon as there is a slot for it. That cannot be cancelled.
    Compensating,
    /// The run is cancelled, or had failed before; what its steps did is to be undone, and that is done once somebody asks for
    /// it: it has steps that were closures, so that its plan has to be sent again with the same run id, or this orchestrator
    /// lets [no run go on by itself](crate::Recover::None).
    ToCompensate,
    /// The run had come to this end before.
    Finished(RunState),
}

impl CancelOutcome {
    /// The final state of the run, if it is over.
    pub(crate) fn state(self) -> Option<RunState> {
        match self {
            Self::Cancelled => Some(RunState::Cancelled),
            Self::Finished(state) => Some(state),
            Self::Stopping | Self::Compensating | Self::ToCompensate => None,
        }
    }
}

/// Pauses a run: at once when it waits, after the attempt in flight when it runs. It gives its slot back, and nothing of it
/// runs until [`ResumePlan`], also when the process is started anew.
///
/// The answer comes when that is stored. Sending it again does no harm. A run whose last step completes meanwhile has nothing
/// left to pause, and completes.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<PauseOutcome, ControlError>")]
pub struct PausePlan(pub RunId);

/// What pausing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PauseOutcome {
    /// The run is paused.
    Paused,
    /// The run will be, after the attempt in flight.
    Pausing,
    /// The run is being cancelled, and waits for blocking code only.
    Stopping,
    /// The run has failed, or was cancelled, and what its steps did [is being undone](crate::Step::compensate), which goes on.
    Compensating,
    /// The run is held, and waits for somebody's decision anyway.
    Held,
    /// The run had come to this end before.
    Finished(RunState),
}

impl PauseOutcome {
    pub(crate) fn of(at: Position) -> Self {
        match at.state {
            RunState::Paused => Self::Paused,
            RunState::Held => Self::Held,
            RunState::Stopping if !at.expired => Self::Stopping,
            RunState::Compensating => Self::Compensating,
            state if state.is_final() => Self::Finished(state),
            _ => Self::Pausing,
        }
    }
}

/// Lets a paused run go on: it goes to the head of the queue. One that is only about to pause no longer is, also if it is
/// held meanwhile.
///
/// The answer comes when that is stored. Sending it again does no harm.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<ResumeOutcome, ControlError>")]
pub struct ResumePlan(pub RunId);

/// What resuming did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResumeOutcome {
    /// The run goes on; one that is held does not pause when somebody has decided.
    Resumed,
    /// The run was not paused, but in this state.
    NotPaused(RunState),
}

/// Ends the wait of a run that backs off: its next attempt is made now. For one that is parked the next attempt is made as a
/// probe, as soon as it has a slot, although its circuit breaker is open. No limit by name is passed: it is asked once more.
///
/// A step that only waits is not tried: neither a sleep nor the wait for a signal is ended by it.
///
/// The answer comes at once. What it does is stored with the attempt: a process that dies before goes on waiting when it is
/// started anew. Sending it again does no harm.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<RetryOutcome, ControlError>")]
pub struct RetryNow(pub RunId);

/// What retrying at once did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryOutcome {
    /// The next attempt is on its way.
    Retrying,
    /// The run did not wait for another attempt, but was in this state.
    NotWaiting(RunState),
}

/// Lists the circuit breakers of an orchestrator, in the order of their names, and may reset one before.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<BreakerRecord>, ControlError>")]
#[non_exhaustive]
pub enum Breakers {
    /// Only lists them.
    List,
    /// Closes this one and forgets what it has counted; runs that are parked behind it go on. The answer comes when that is
    /// stored.
    Reset(String),
}

/// Lists the calls of blocking code that were given up and still run; see [`AbandonedCall`].
#[derive(Debug, Clone, Copy, Default, Message)]
#[rtype(result = "Vec<AbandonedCall>")]
pub struct ListAbandoned;

/// Stops the orchestrator: it takes no more plans, finishes or cancels those it has, answers every waiting caller, and
/// then stops.
///
/// Runs that wait for somebody (they are paused, held, or await a signal) are left as they are stored, at once, and so are those that are
/// parked or asleep when all are cancelled. Their callers get [`PlanError::Interrupted`]: the next orchestrator over a durable store
/// takes them up again. So are those, when all are cancelled, of which anything is still to be
/// [undone](crate::Step::compensate): what is being undone then is finished first.
///
/// With `drain`, plans that wait or run go on for at most `timeout`; without it, or after that, all are cancelled.
/// Blocking code that was told to stop is waited for until the timeout, and for at least
/// [`STOP_GRACE`](crate::limits::STOP_GRACE); then its caller is answered with
/// [`PlanError::Interrupted`], and the code itself runs on unobserved.
///
/// Dropping the last address of an orchestrator does the same, with `drain` and a timeout of
/// [`DROP_DRAIN`](crate::limits::DROP_DRAIN).
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "ShutdownReport")]
pub struct Shutdown {
    /// Whether plans may still finish.
    pub drain: bool,
    /// How long they may take.
    pub timeout: Duration,
}

impl Shutdown {
    /// Lets plans that wait or run finish, for at most this long.
    #[must_use]
    pub fn drain(timeout: Duration) -> Self {
        Self { drain: true, timeout }
    }

    /// Cancels all plans at once.
    #[must_use]
    pub fn now() -> Self {
        Self { drain: false, timeout: Duration::ZERO }
    }
}

/// What became of the plans that were waiting or running when the orchestrator was told to stop. Plans that had ended
/// before are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Runs that completed.
    pub completed: usize,
    /// Runs that failed, and plans that were refused meanwhile.
    pub failed: usize,
    /// Runs that were cancelled.
    pub cancelled: usize,
    /// Runs that were cut off: blocking code that did not end in time, mostly.
    pub interrupted: usize,
}
