//! What to run: plans, steps, callables and what they return.

mod callable;
mod check;
mod context;
mod error;
mod into_callable;
mod output;
mod policy;
mod record;
mod step;

pub use callable::Callable;
pub(crate) use callable::Kind as CallableKind;
pub(crate) use check::CheckedPlan;
pub use check::InvalidPlan;
pub use context::StepContext;
pub(crate) use context::{RunScope, StagedArtifact};
pub use error::{BreakerOpen, ContextError, LimitExceeded, OutputError, RecordedError, StepError, StepPanic};
pub use into_callable::IntoCallable;
pub use output::{IntoOutput, Json, Output};
pub(crate) use policy::{Handling, Policy};
pub use policy::{InvalidPolicy, OnFailure, WhenOpen};
pub use record::{PlanDifference, PlanRecord, StepChange};
pub use step::{Plan, Step};
