use std::error::Error;
use std::sync::Arc;

/// Why an allocator has no callable for a step.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AllocatorError {
    /// The step has none of its own, and this allocator looks nowhere else: the original's `ValueError`.
    #[error("no callable found in step {step_id:?}")]
    NoCallable {
        /// The step.
        step_id: String,
    },
    /// No callable is registered under the name.
    #[error("step {step_id:?} uses {name:?}, which is not registered{}", suggestion(similar.as_deref()))]
    NotRegistered {
        /// The step.
        step_id: String,
        /// The name that was looked up.
        name: String,
        /// A registered name that looks alike.
        similar: Option<String>,
    },
    /// An allocator's own reason.
    #[error(transparent)]
    Other {
        /// The reason.
        source: Arc<dyn Error + Send + Sync>,
    },
}

fn suggestion(similar: Option<&str>) -> String {
    similar.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
}

impl AllocatorError {
    /// A reason of your own.
    pub fn other(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other { source: Arc::from(source.into()) }
    }
}

impl From<&str> for AllocatorError {
    fn from(reason: &str) -> Self {
        Self::other(reason)
    }
}

impl From<String> for AllocatorError {
    fn from(reason: String) -> Self {
        Self::other(reason)
    }
}

/// A plan that cannot be called, and the step at fault.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
#[error("step {index} ({step_id:?}) cannot be called")]
pub struct ResolveError {
    /// The step's id.
    pub step_id: String,
    /// Its place in the plan.
    pub index: usize,
    /// Why.
    pub source: AllocatorError,
}
