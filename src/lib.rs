//! lunacore
mod allocator;
mod artifact;
mod bus;
mod engine;
mod event;
mod id;
mod isolate;
pub mod limits;
mod memory;
mod orchestrator;
mod plan;
mod run;

pub use allocator::{AllocatorError, RegistryAllocator, Resolve, ResolveError, SimpleAllocator};
pub use artifact::{Artifact, ArtifactData, Project};
pub use bus::{
    Emit, EmitError, EventBus, EventStream, Flush, FlushTimeout, IntoSubscriber, Publish, Subscribe, SubscribeError,
    SubscribeStream, Subscriber, SubscriberOutcome, Subscription,
};
pub use engine::{Engine, EngineBuilder, EngineError};
pub use event::{Event, EventKind, InvalidEventType, InvalidPattern, Pattern};
pub use id::IdFault;
pub use memory::{
    Access, Attach, Commit, Committed, Delete, Get, GetOutputs, GetRun, ListKeys, ListRuns, ListVersions,
    MemoryError, NewArtifact, NewRun, Operation, ProjectMemory, Put, RunUpdate, Store, StoreError, VolatileStore,
};
pub use orchestrator::{
    CancelOutcome, CancelPlan, ControlError, CurrentStep, ExecutePlan, ExecutionOrchestrator, ListPlans, PlanError,
    PlanStatus, RunHandle, RunInfo, Shutdown, ShutdownReport, SubmitPlan,
};
pub use plan::{
    Callable, ContextError, IntoCallable, IntoOutput, InvalidPlan, Json, Output, OutputError, Plan, Step, StepContext,
    StepError, StepPanic,
};
pub use run::{FailureKind, InvalidRunId, RunId, RunRecord, RunState, StepFailure};
