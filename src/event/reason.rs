use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a step was skipped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SkipReason {
    /// It failed for the last time, and its policy is [`Continue`](crate::OnFailure::Continue).
    #[default]
    Failed,
    /// Its condition was false when its turn came: it was not called.
    Condition,
    /// Somebody [said so](crate::SkipStep).
    Operator,
}

/// What a plan is parked behind, by its name. In JSON it is a field `breaker`, or `limit`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Barrier {
    /// A [circuit breaker](crate::Step::breaker) that is open.
    Breaker(Arc<str>),
    /// A [limit](crate::Step::limit) that has no permit.
    Limit(Arc<str>),
}

/// What somebody decided about a step that was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Resolution {
    /// It had its effect: it counts as completed.
    Completed,
    /// It had none: it is called again.
    Rerun,
    /// It failed for good.
    Failed,
    /// The plan goes on without it.
    Skipped,
}

impl SkipReason {
    pub(super) fn is_failed(&self) -> bool {
        *self == Self::Failed
    }
}
