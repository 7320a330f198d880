//! The orchestrator: the actor that keeps a queue of plans and runs them, step by step.
//!
//! - `line` decides which plan is accepted or started next, `machine` what a run does next, `limit` how long it may take: all
//!   pure.
//! - `runner` drives one run: it commits what the machine decided, then does what its state asks for, and so on. `attempt` is
//!   what it does while a step runs, `aside` while none does, `waits` at a step that only waits, `failing` what it makes of a failure,
//!   `compensating` how it undoes what steps did, `outcome` what its callers are told in the end.
//! - `invoke` calls the user's code, `breakers` keeps it from calling what is down, and `permits` from calling
//!   more, or more often, than a limit by name allows.
//! - `verifying` asks whether an attempt that was cut off had its effect, `deciding` is what somebody decides about a step that is held.
//! - `actor` answers messages, and never waits; `burst`, `admission`, `resolving`, `slots`, `recovery`, `going_on`, `retrying`, `retrying_held`, `control`,
//!   `steering`, `signals` and `shutdown` are parts of it. A plan is `waiting` first; with the task of its run the actor shares a `watch`.

mod abandoned;
mod actor;
mod admission;
mod aside;
mod attempt;
mod breakers;
mod burst;
mod compensating;
mod conditions;
mod control;
mod deciding;
mod error;
mod failing;
mod going_on;
mod internal;
mod invoke;
mod kept_signals;
mod limit;
mod line;
mod links;
mod machine;
mod messages;
mod not_undone;
mod outcome;
mod permits;
mod position;
mod produced;
mod recovery;
mod resolving;
mod retry_run;
mod retrying;
mod retrying_held;
mod runner;
mod shutdown;
mod signals;
mod slots;
mod status;
mod steering;
mod verifying;
mod waiting;
mod waits;
mod watch;

pub use abandoned::AbandonedCall;
pub use actor::ExecutionOrchestrator;
pub use deciding::{ResolveOutcome, ResolveStep, SkipStep, StepOutcome};
pub use error::{ControlError, PlanError, RetryFault};
pub use going_on::{ContinueRun, Recover};
pub use messages::{
    Breakers, CancelOutcome, CancelPlan, ExecutePlan, ListAbandoned, ListPlans, PauseOutcome, PausePlan,
    PlanStatus, ResumeOutcome, ResumePlan, RetryNow, RetryOutcome, RunHandle, Shutdown, ShutdownReport,
    SubmitPlan,
};
pub use not_undone::StepNotUndone;
pub use permits::{LimitStatus, Limits};
pub use retry_run::{OnMismatch, RetryFrom, RetryRun};
pub use signals::{InvalidSignal, Signal, SignalOutcome};
pub use status::{CurrentStep, RunInfo};
