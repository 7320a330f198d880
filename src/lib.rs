//! An embeddable plan orchestrator: give it a list of steps, and they run strictly one after another. Every result becomes
//! a versioned artifact, every move is an event, and a failing step stops its own plan and nothing else.
//!
//! No server to operate: four [actix](https://docs.rs/actix) actors inside your application. Memory is volatile, or a file
//! with which a killed process goes on where it stopped.
//!
//! # Quick start
//!
//! Five words are enough for a first plan: a [`Step`] has an id and a callable; [`ExecutePlan`] carries steps to the
//! [`ExecutionOrchestrator`]; the [`EventBus`] tells what happens; [`ProjectMemory`] keeps the results.
//!
//! ```
//! use actix::prelude::*;
//! use lunacore::{
//!     Event, EventBus, ExecutePlan, ExecutionOrchestrator, Flush, Get, ProjectMemory, SimpleAllocator, Step, Subscribe,
//! };
//!
//! #[actix::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let bus = EventBus::new().start();
//!     let memory = ProjectMemory::in_memory().start();
//!     let allocator = SimpleAllocator.start();
//!     let orchestrator = ExecutionOrchestrator::new(bus.clone(), memory.clone(), allocator).start();
//!
//!     bus.send(Subscribe::new("task.*", |event: Event| println!("{event}"))).await??;
//!
//!     let steps = vec![
//!         Step::new("process", || "processed_data"),
//!         Step::new("fetch", || async { "remote_data" }),
//!     ];
//!     let results = orchestrator.send(ExecutePlan::new(steps)).await??;
//!     assert_eq!(results, ["processed_data", "remote_data"]);
//!
//!     let artifact = memory.send(Get::latest("task:process")).await??.expect("the step has completed");
//!     assert_eq!(artifact.text(), Some("processed_data"));
//!
//!     bus.send(Flush::default()).await??; // subscribers get their last events before the program ends
//!     Ok(())
//! }
//! ```
//!
//! [`Engine`] wires the four actors in one line, and [`Engine::spawn`] does it for programs that run on tokio alone.
//!
//! # Where to look
//!
//! | you want to | see |
//! |---|---|
//! | write steps, sync or async, with inputs and earlier outputs | [`Step`], [`IntoCallable`], [`StepContext`], [`IntoOutput`] |
//! | know why a plan did not complete | [`PlanError`], [`StepError`], [`StepFailure`] |
//! | watch what happens | [`Subscribe`], [`SubscribeStream`], [`Pattern`], [`Event`], [`EventKind`] |
//! | survive the process | [`ProjectMemory::open`], [`SqliteStore`], [`ExecutePlan::run_id`], [`Durability`], [`StepContext::idempotency_key`] |
//! | read and write artifacts | [`Get`], [`Put`], [`ListVersions`], [`ListKeys`], [`Delete`], [`Artifact`] |
//! | have a step tried again, or stopped in time | [`Step::retry`], [`Retry`], [`Step::timeout`], [`Step::total_timeout`], [`ExecutePlan::deadline`] |
//! | leave a service alone that is down | [`Step::breaker`], [`Breaker`], [`Breakers`] |
//! | ask no more of a service than it grants | [`Step::limit`], [`Limit`], [`Limits`] |
//! | say what follows from a failure | [`Step::on_failure`], [`OnFailure`], [`Step::escalate_on_failure`], [`StepError::fatal`] |
//! | ask about runs, cancel them, shut down | [`PlanStatus`], [`ListPlans`], [`CancelPlan`], [`Shutdown`] |
//! | wait for a time, or for somebody | [`Step::sleep`], [`Step::sleep_until`], [`Step::wait_for_signal`], [`Signal`] |
//! | hold a run, and let it go on | [`PausePlan`], [`ResumePlan`], [`RetryNow`] |
//! | say which runs go on after a crash | [`Recover`], [`ContinueRun`], [`ExecutePlan::run_id`] |
//! | find callables by name, or inject what they need | [`RegistryAllocator`], [`Resolve`] |
//! | know what happened before | [`Subscribe::from`], [`Engine::history`], [`ReadHistory`] |
//! | compare and keep plans as data | [`PlanRecord`] |
//! | make one step's input of another's output | `Step::with`, `Step::when`, `Plan::declare`, `Secrets` (feature `expressions`) |
//! | write plans as files | `plan_files`, `Plan::from_path` (feature `plan-files`) |
//! | run plan files, and look into a store | the command `lunacore` (feature `cli`) |
//! | keep results elsewhere | [`Store`] |
//! | test plans against crashes, and stores against their promises | `testing` (feature `testing`) |
//! | know every cap | [`limits`] |
//! | come from the Python original | [`from_python`] |
//!
//! # What is promised
//!
//! - Plans run in the order in which they were submitted, and the steps of a plan in theirs; at the default of one plan at
//!   a time nothing interleaves.
//! - A plan that is not valid, or of which a step has no callable, is refused before any of it runs.
//! - A step's result, its artifacts, the run's progress and the events about them are stored together or not at all,
//!   before the next step starts. Events tell only what is stored, in the order in which it was.
//! - [`PlanStatus`], [`CancelPlan`], [`PausePlan`] and [`ListPlans`] are answered while a step runs. The exceptions: an
//!   [inline](Step::inline) step, and an async one that computes without ever awaiting, hold the thread for as long as
//!   they compute.
//! - A panic in a step, wherever it happens, fails that step's plan only. The exceptions are Rust's own: a second panic
//!   while the first unwinds, a stack overflow, and `panic = "abort"` end the process.
//! - No step runs twice at the same time: blocking code that has come to a limit is waited for before the next attempt, and a
//!   plan whose code cannot be stopped fails.
//! - Delays, limits and pauses are stored before they are waited for. A run that backs off, is parked or is paused when its
//!   process dies is so afterwards, with what is left of its time.
//! - A slow, blocking, failing or dead subscriber slows no plan and no other subscriber; what it misses is counted and
//!   told. The exception: an *async* subscriber that blocks its thread; see [`IntoSubscriber`].
//! - Every queue is bounded, and a full one gives a typed error or a counted gap. (A mailbox holds at most one message for
//!   each asker that waits for its answer, besides its capacity.)
//! - The end of `main` waits for nothing: send [`Shutdown`], or [`Flush`] the bus, before it.
//!
//! With a store on disk, [`ProjectMemory::open`], also:
//!
//! - No accepted plan is lost, whenever the process is killed. A step whose completion was acknowledged, by an answer or
//!   an event, is never called again; the one that was in flight may be, and its result is stored once.
//! - What was acknowledged survives a power loss on a disk that honours fsync, or all but the last moments of it:
//!   [`Durability`].
//! - When an orchestrator starts, unfinished runs go on by themselves, in their order, if their plans name their
//!   callables ([`Step::named`]). What cannot go on stays `interrupted` and says why, in the log, as an event and in
//!   [`ListPlans`]; send its plan again with the same [run id](ExecutePlan::run_id), and it does.
//! - When the store fails, nothing is acknowledged: the plans concerned end with [`PlanError::Memory`], and can be sent
//!   again once it is well.
//! - One process at a time runs what is in a store; others may read it.
//!
//! # Logging
//!
//! Through [`log`], under targets that begin with `lunacore::`, with run id, step id, attempt and duration as key-values. A
//! program that goes well says nothing at level `info`; results are never logged.

mod allocator;
mod artifact;
mod bus;
mod causes;
mod clock;
mod engine;
mod event;
#[cfg(feature = "expressions")]
mod expression;
pub mod from_python;
mod id;
mod isolate;
mod json;
pub mod limits;
mod memory;
mod orchestrator;
mod plan;
#[cfg(feature = "plan-files")]
mod plan_file;
#[cfg(feature = "plan-files")]
#[doc = include_str!("plan_file/manual.md")]
pub mod plan_files {}
mod project;
mod resilience;
mod run;
mod secrets;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use allocator::{AllocatorError, InputFault, RegistryAllocator, Resolve, ResolveError, SimpleAllocator};
pub use artifact::{Artifact, ArtifactData};
pub use bus::{
    Emit, EmitError, EventBus, EventStream, Flush, FlushTimeout, HistoryError, IntoSubscriber, Publish,
    ReadEvents, Subscribe, SubscribeError, SubscribeStream, Subscriber, SubscriberOutcome, Subscription,
};
pub use clock::Clock;
pub use engine::{Engine, EngineBuilder, EngineError};
pub use event::{
    Barrier, Event, EventKind, InvalidEventType, InvalidPattern, Pattern, Resolution, SkipReason,
};
#[cfg(feature = "expressions")]
pub use expression::{EvaluationError, InvalidExpression};
pub use id::IdFault;
pub use memory::{
    Access, Attach, Claim, Collect, Collected, Commit, Committed, Delete, FindRun, FoundRun, Get, GetOutputs,
    GetRun, KeptSignal, ListBreakers, ListKeys, ListRuns, ListUnfinished, ListVersions, MemoryError,
    NewArtifact, NewRun, Operation, ProjectMemory, Put, ReadHistory, Reader, RecordBreaker, RecordSignal,
    Reopen, Retention, RunUpdate, SignalUsage, StepOutput, Store, StoreError, VolatileStore,
};
#[cfg(feature = "sqlite")]
pub use memory::{LockHolder, OpenError, SqliteStore};
pub use orchestrator::{
    AbandonedCall, Breakers, CancelOutcome, CancelPlan, ContinueRun, ControlError, CurrentStep, ExecutePlan,
    ExecutionOrchestrator, InvalidSignal, LimitStatus, Limits, ListAbandoned, ListPlans, OnMismatch,
    PauseOutcome, PausePlan, PlanError, PlanStatus, Recover, ResolveOutcome, ResolveStep, ResumeOutcome,
    ResumePlan, RetryFault, RetryFrom, RetryNow, RetryOutcome, RetryRun, RunHandle, RunInfo, Shutdown,
    ShutdownReport, Signal, SignalOutcome, SkipStep, StepNotUndone, StepOutcome, SubmitPlan,
};
pub use plan::{
    BreakerOpen, Callable, ContextError, InputType, IntoCallable, IntoOutput, InvalidPlan, InvalidPolicy,
    Json, LimitExceeded, OnFailure, OnInterrupted, Output, OutputError, Plan, PlanDifference, PlanInput,
    PlanRecord, RecordedError, Step, StepChange, StepContext, StepError, StepPanic, Verdict, Wait, WhenOpen,
};
#[cfg(feature = "plan-files")]
pub use plan_file::{PlanFile, PlanFileError, PlanFileFault, PlanFileProblem, PlanFormat};
pub use project::Project;
pub use resilience::{
    Breaker, BreakerRecord, CircuitState, InvalidBreaker, InvalidLimit, InvalidRetry, Jitter, Limit, Retry,
};
pub use run::{
    Durability, FailureKind, HoldReason, InvalidRunId, NotUndone, RunId, RunRecord, RunState, StepFailure,
    StepProgress, Undoing,
};
#[cfg(feature = "expressions")]
pub use secrets::{SecretError, Secrets};

/// The README's code is tested like the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
