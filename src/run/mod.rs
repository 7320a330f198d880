//! The words for one execution of a plan: its id, its states, its failure, its record.

mod durability;
mod failure;
mod hold;
mod id;
mod record;
mod state;

pub use durability::Durability;
pub use failure::{FailureKind, StepFailure};
pub use hold::HoldReason;
pub use id::{InvalidRunId, RunId};
pub use record::{NotUndone, RunRecord, StepProgress, Undoing};
pub use state::RunState;
