use std::time::Duration;

use actix::{Addr, Recipient};
use serde_json::Value;

use super::builder::{EngineBuilder, EngineError};
use crate::allocator::Resolve;
use crate::artifact::Artifact;
use crate::bus::{
    Emit, EmitError, EventBus, EventStream, Flush, FlushTimeout, IntoSubscriber, Subscribe, SubscribeError,
    SubscribeStream, Subscription,
};
use crate::event::Event;
use crate::memory::{Attach, Collect, Collected, Get, GetOutputs, MemoryError, ProjectMemory, ReadHistory};
use crate::orchestrator::{
    AbandonedCall, Breakers, CancelOutcome, CancelPlan, ContinueRun, ControlError, ExecutePlan,
    ExecutionOrchestrator, LimitStatus, Limits, ListAbandoned, ListPlans, PauseOutcome, PausePlan, PlanError,
    PlanStatus, ResolveOutcome, ResolveStep, ResumeOutcome, ResumePlan, RetryNow, RetryOutcome, RetryRun,
    RunHandle, RunInfo, Shutdown, ShutdownReport, Signal, SignalOutcome, SkipStep, SubmitPlan,
};
use crate::resilience::BreakerRecord;
use crate::run::RunId;

/// The four actors, wired, with their messages as plain async methods.
///
/// A handle is cheap to clone and can be used from any thread and any runtime. When the last one is dropped, and no
/// address of the orchestrator is left, the engine finishes what it has accepted and stops; see [`Shutdown`]. The end of
/// `main` does not wait for that: await [`shutdown`](Self::shutdown) first.
///
/// Inside an actix system, `start` runs the actors on the current arbiter:
///
/// ```
/// use lunacore::{Engine, Step};
///
/// #[actix::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let engine = Engine::builder().start()?;
///     let results = engine.execute([Step::new("answer", || 42)]).await?;
///     assert_eq!(results, [42]);
///     Ok(())
/// }
/// ```
///
/// Everywhere else, `spawn` gives them a thread of their own:
///
/// ```
/// use lunacore::{Engine, Step};
///
/// #[tokio::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let engine = Engine::spawn()?;
///     let results = engine.execute([Step::new("answer", || 42)]).await?;
///     assert_eq!(results, [42]);
///     Ok(())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) orchestrator: Addr<ExecutionOrchestrator>,
    pub(crate) bus: Addr<EventBus>,
    pub(crate) memory: Addr<ProjectMemory>,
    pub(crate) allocator: Recipient<Resolve>,
}

impl Engine {
    /// Chooses the parts.
    #[must_use]
    pub fn builder() -> EngineBuilder {
        EngineBuilder::default()
    }

    /// An engine with the default parts, on a thread of its own; see [`EngineBuilder::spawn`].
    ///
    /// # Errors
    /// [`EngineError::Thread`] when the operating system gives no thread.
    pub fn spawn() -> Result<Self, EngineError> {
        Self::builder().spawn()
    }

    /// The orchestrator's address.
    #[must_use]
    pub fn orchestrator(&self) -> &Addr<ExecutionOrchestrator> {
        &self.orchestrator
    }

    /// The event bus's address.
    #[must_use]
    pub fn bus(&self) -> &Addr<EventBus> {
        &self.bus
    }

    /// The memory's address.
    #[must_use]
    pub fn memory(&self) -> &Addr<ProjectMemory> {
        &self.memory
    }

    /// The allocator.
    #[must_use]
    pub fn allocator(&self) -> &Recipient<Resolve> {
        &self.allocator
    }

    /// Runs a plan and waits for its results, in step order; see [`ExecutePlan`].
    ///
    /// # Errors
    /// Why it was not accepted or did not complete: [`PlanError`].
    pub async fn execute(&self, plan: impl Into<ExecutePlan>) -> Result<Vec<Value>, PlanError> {
        self.orchestrator.send(plan.into()).await?
    }

    /// Has a plan accepted and gives a handle to its run; see [`SubmitPlan`].
    ///
    /// # Errors
    /// Why it was not accepted: [`PlanError`].
    pub async fn submit(&self, plan: impl Into<ExecutePlan>) -> Result<RunHandle, PlanError> {
        self.orchestrator.send(SubmitPlan(plan.into())).await?
    }

    /// Goes on with a run that was cut off, from its stored plan, and gives a handle to it; see [`ContinueRun`].
    ///
    /// # Errors
    /// Why it does not go on: [`PlanError`].
    pub async fn continue_run(&self, run_id: &RunId) -> Result<RunHandle, PlanError> {
        self.orchestrator.send(ContinueRun(run_id.clone())).await?
    }

    /// How a run is doing; answered at once.
    ///
    /// # Errors
    /// [`ControlError::UnknownRun`], or memory failed.
    pub async fn status(&self, run_id: &RunId) -> Result<RunInfo, ControlError> {
        self.orchestrator.send(PlanStatus(run_id.clone())).await?
    }

    /// The runs that are known, in the order of their acceptance, a page at a time; see [`ListPlans`].
    ///
    /// # Errors
    /// Memory failed.
    pub async fn list(&self, page: ListPlans) -> Result<Vec<RunInfo>, ControlError> {
        self.orchestrator.send(page).await?
    }

    /// Cancels a run; see [`CancelPlan`].
    ///
    /// # Errors
    /// [`ControlError::UnknownRun`], or memory failed.
    pub async fn cancel(&self, run_id: &RunId) -> Result<CancelOutcome, ControlError> {
        self.orchestrator.send(CancelPlan(run_id.clone())).await?
    }

    /// Pauses a run; see [`PausePlan`].
    ///
    /// # Errors
    /// [`ControlError::UnknownRun`], [`ControlError::NotHere`], or memory failed.
    pub async fn pause(&self, run_id: &RunId) -> Result<PauseOutcome, ControlError> {
        self.orchestrator.send(PausePlan(run_id.clone())).await?
    }

    /// Lets a paused run go on; see [`ResumePlan`].
    ///
    /// # Errors
    /// [`ControlError::UnknownRun`], [`ControlError::NotHere`], or memory failed.
    pub async fn resume(&self, run_id: &RunId) -> Result<ResumeOutcome, ControlError> {
        self.orchestrator.send(ResumePlan(run_id.clone())).await?
    }

    /// Makes the next attempt of a run now; see [`RetryNow`].
    ///
    /// # Errors
    /// [`ControlError::UnknownRun`], [`ControlError::NotHere`], or memory failed.
    pub async fn retry_now(&self, run_id: &RunId) -> Result<RetryOutcome, ControlError> {
        self.orchestrator.send(RetryNow(run_id.clone())).await?
    }

    /// Sends a signal to a run; see [`Signal`].
    ///
    /// # Errors
    /// [`ControlError::UnknownRun`], [`ControlError::NotHere`], [`ControlError::InvalidSignal`], too many are kept already, or too
    /// large ones, or memory failed.
    pub async fn signal(&self, signal: Signal) -> Result<SignalOutcome, ControlError> {
        self.orchestrator.send(signal).await?
    }

    /// Tries a run again that has failed, was cancelled or interrupted, or is held; see [`RetryRun`].
    ///
    /// # Errors
    /// As [`RetryRun`] says.
    pub async fn retry_run(&self, retry: RetryRun) -> Result<RunHandle, PlanError> {
        self.orchestrator.send(retry).await?
    }

    /// Decides about the step at which a run is held; see [`ResolveStep`].
    ///
    /// # Errors
    /// [`ControlError::UnknownRun`], [`ControlError::NotHere`], [`ControlError::OtherStep`], [`ControlError::Refused`], or
    /// memory failed.
    pub async fn resolve(&self, resolve: ResolveStep) -> Result<ResolveOutcome, ControlError> {
        self.orchestrator.send(resolve).await?
    }

    /// Goes on without a step that is held, or at which its run stands that is over or interrupted; see [`SkipStep`].
    ///
    /// # Errors
    /// As for [`resolve`](Self::resolve), and [`ControlError::NotRetried`].
    pub async fn skip(&self, skip: SkipStep) -> Result<ResolveOutcome, ControlError> {
        self.orchestrator.send(skip).await?
    }

    /// The circuit breakers, and where they stand; see [`Breakers`].
    ///
    /// # Errors
    /// For [`Breakers::Reset`], [`ControlError::UnknownBreaker`], or memory failed.
    pub async fn breakers(&self, breakers: Breakers) -> Result<Vec<BreakerRecord>, ControlError> {
        self.orchestrator.send(breakers).await?
    }

    /// The limits by name, and where they stand; see [`Limits`].
    pub async fn limits(&self) -> Vec<LimitStatus> {
        self.orchestrator.send(Limits).await.unwrap_or_default()
    }

    /// Calls of blocking code that were given up and still run; see [`ListAbandoned`].
    pub async fn abandoned(&self) -> Vec<AbandonedCall> {
        self.orchestrator.send(ListAbandoned).await.unwrap_or_default()
    }

    /// The results that a run has stored so far, in step order; `None` for a run that is not known.
    ///
    /// # Errors
    /// Memory failed.
    pub async fn results(&self, run_id: &RunId) -> Result<Option<Vec<Value>>, MemoryError> {
        let outputs = self.memory.send(GetOutputs(run_id.clone())).await??;
        Ok(outputs.map(|outputs| outputs.iter().map(crate::plan::Output::to_value).collect()))
    }

    /// The stored events of a run in their order, a page at a time: the first for a [`RunId`], or what a
    /// [`ReadHistory`] says. A run that is not known has none.
    ///
    /// ```
    /// use lunacore::{Engine, ExecutePlan, RunId, Step};
    ///
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let engine = Engine::builder().start()?;
    /// engine.execute(ExecutePlan::new([Step::new("answer", || 42)]).run_id("nightly")).await?;
    /// let run_id: RunId = "nightly".parse()?;
    /// let told: Vec<String> = engine.history(&run_id).await?.iter().map(ToString::to_string).collect();
    /// assert_eq!(
    ///     told,
    ///     ["plan.accepted", "plan.started", "task.started answer", "task.completed answer", "plan.completed"]
    /// );
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::HistoryGone`] when a part is not kept any more, or memory failed.
    pub async fn history(&self, which: impl Into<ReadHistory>) -> Result<Vec<Event>, MemoryError> {
        self.memory.send(which.into()).await?
    }

    /// Subscribes a closure or an actor to events; see [`Subscribe`].
    ///
    /// # Errors
    /// A malformed pattern, or too many subscriptions.
    pub async fn subscribe<M>(
        &self,
        pattern: impl Into<String>,
        subscriber: impl IntoSubscriber<M>,
    ) -> Result<Subscription, SubscribeError> {
        let subscribe = Subscribe::new(pattern, subscriber);
        self.bus.send(subscribe).await?
    }

    /// The same as the message says: with a capacity, or with the events that were stored before.
    ///
    /// ```
    /// use lunacore::{Engine, Event, Step, Subscribe};
    ///
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let engine = Engine::builder().start()?;
    /// engine.execute([Step::new("answer", || 42)]).await?;
    /// let audit = |event: Event| println!("{event}");
    /// engine.subscribe_with(Subscribe::new("plan.*", audit).from(1)).await?; // prints what happened before, too
    /// # engine.flush(std::time::Duration::from_secs(5)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A malformed pattern, too many subscriptions, or a history that cannot be read: [`SubscribeError`].
    pub async fn subscribe_with(&self, subscribe: Subscribe) -> Result<Subscription, SubscribeError> {
        self.introduce(subscribe.from).await;
        self.bus.send(subscribe).await?
    }

    /// Subscribes with a stream; see [`SubscribeStream`].
    ///
    /// # Errors
    /// A malformed pattern, or too many subscriptions.
    pub async fn subscribe_stream(&self, pattern: impl Into<String>) -> Result<EventStream, SubscribeError> {
        self.bus.send(SubscribeStream::new(pattern)).await?
    }

    /// The same as the message says; see [`subscribe_with`](Self::subscribe_with).
    ///
    /// # Errors
    /// A malformed pattern, too many subscriptions, or a history that cannot be read: [`SubscribeError`].
    pub async fn subscribe_stream_with(
        &self,
        subscribe: SubscribeStream,
    ) -> Result<EventStream, SubscribeError> {
        self.introduce(subscribe.from).await;
        self.bus.send(subscribe).await?
    }

    /// Right after the start the orchestrator may not have introduced memory to the bus yet, and there would be no
    /// history. Doing it twice does no harm. If memory has stopped, the bus says so.
    async fn introduce(&self, from: Option<u64>) {
        if from.is_some() {
            let _ = self.memory.send(Attach(self.bus.clone().recipient())).await;
        }
    }

    /// Delivers an event of the application's own; see [`Event::custom`].
    ///
    /// # Errors
    /// A reserved or malformed type, or too large a payload.
    pub async fn emit(&self, event: Event) -> Result<(), EmitError> {
        self.bus.send(Emit(event)).await?
    }

    /// Waits until closures and actors have handled what was delivered before; see [`Flush`].
    ///
    /// # Errors
    /// Some had not in time. A bus that has stopped has nothing left to deliver.
    pub async fn flush(&self, timeout: Duration) -> Result<(), FlushTimeout> {
        self.bus.send(Flush::within(timeout)).await.unwrap_or(Ok(()))
    }

    /// An artifact: the latest version of a key of the default project, or what a [`Get`] says. `task:{step_id}` is the
    /// result of a step.
    ///
    /// # Errors
    /// The access check said no, the key cannot be one, or memory failed.
    pub async fn artifact(&self, which: impl Into<Get>) -> Result<Option<Artifact>, MemoryError> {
        self.memory.send(which.into()).await?
    }

    /// Removes now what is not kept any more, and answers what it was; see [`Collect`].
    ///
    /// # Errors
    /// Memory failed. What must stay is there either way.
    pub async fn collect(&self) -> Result<Collected, MemoryError> {
        self.memory.send(Collect::new()).await?
    }

    /// Stops the orchestrator in an orderly way, then waits for subscribers to handle the last events; see
    /// [`Shutdown`]. Every handle is of no use afterwards.
    pub async fn shutdown(&self, shutdown: Shutdown) -> ShutdownReport {
        let report = self.orchestrator.send(shutdown).await.unwrap_or_default();
        if let Err(late) = self.flush(Flush::default().timeout).await {
            log::warn!(target: "lunacore::engine", "{late}");
        }
        report
    }
}
