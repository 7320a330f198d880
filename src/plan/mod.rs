//! What to run: plans, steps, callables and what they return.

mod callable;
mod check;
mod context;
mod difference;
mod error;
#[cfg(feature = "expressions")]
mod expressions;
mod inputs;
mod into_callable;
mod invalid;
mod output;
mod policy;
mod record;
mod recourse;
#[cfg(feature = "expressions")]
mod references;
mod scope;
mod step;
#[cfg(feature = "expressions")]
mod template;
mod wait;

pub use callable::Callable;
pub(crate) use callable::Kind as CallableKind;
pub(crate) use check::{CheckedPlan, CheckedStep};
pub use context::StepContext;
pub use difference::{PlanDifference, StepChange};
pub use error::{BreakerOpen, ContextError, LimitExceeded, OutputError, RecordedError, StepError, StepPanic};
#[cfg(feature = "expressions")]
pub(crate) use expressions::Surroundings;
pub use inputs::{InputType, PlanInput};
pub use into_callable::IntoCallable;
#[cfg(feature = "plan-files")]
pub(crate) use into_callable::marker::Typed;
pub use invalid::{InvalidPlan, InvalidPolicy};
pub use output::{IntoOutput, Json, Output};
#[cfg(feature = "plan-files")]
pub(crate) use policy::UndoneBy;
pub(crate) use policy::{Compensation, Handling, Interruption, Policy, Role};
pub use policy::{OnFailure, WhenOpen};
pub use record::PlanRecord;
pub use recourse::{OnInterrupted, Verdict};
pub(crate) use scope::{RunScope, StagedArtifact};
pub use step::{Plan, Step};
pub use wait::Wait;
