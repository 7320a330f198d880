//! The orchestrator: the actor that keeps a queue of plans and runs them, step by step.
//!
//! - `line` decides which plan is accepted or started next, `machine` what a run does next: both pure.
//! - `runner` drives one run: it commits what the machine decided, then calls the step, and so on.
//! - `invoke` calls the user's code.
//! - `actor` answers messages, and never waits; `admission`, `recovery`, `control` and `shutdown` are parts of it.

mod actor;
mod admission;
mod control;
mod error;
mod internal;
mod invoke;
mod line;
mod links;
mod machine;
mod messages;
mod recovery;
mod runner;
mod shutdown;
mod status;

pub use actor::ExecutionOrchestrator;
pub use error::{ControlError, PlanError};
pub use messages::{
    CancelOutcome, CancelPlan, ExecutePlan, ListPlans, PlanStatus, RunHandle, Shutdown, ShutdownReport,
    SubmitPlan,
};
pub use status::{CurrentStep, RunInfo};
