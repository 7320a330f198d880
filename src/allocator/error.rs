use std::error::Error;
use std::fmt;
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
    /// The step's input does not have the shape that the callable asks for.
    #[error("the input of step {step_id:?} does not fit {name:?}: {}", list(faults))]
    #[non_exhaustive]
    Input {
        /// The step.
        step_id: String,
        /// The callable.
        name: String,
        /// What does not fit, at most [`MAX_INPUT_FAULTS`](crate::limits::MAX_INPUT_FAULTS) of it.
        faults: Vec<InputFault>,
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

fn list(faults: &[InputFault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A part of an input that does not fit, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InputFault {
    /// Where it stands in the input, as a JSON pointer (RFC 6901): `/headers/0`, or nothing for the whole input.
    pub path: String,
    /// What is wrong with it, shortened.
    pub message: String,
}

impl InputFault {
    #[cfg(feature = "plan-files")]
    pub(super) fn new(path: &str, message: &str) -> Self {
        let message = match message.char_indices().nth(MAX_FAULT_CHARS) {
            Some((at, _)) => format!("{}…", &message[..at]),
            None => message.to_owned(),
        };
        Self { path: path.to_owned(), message }
    }
}

/// What is told of one fault: a schema's complaint may quote the whole input.
#[cfg(feature = "plan-files")]
const MAX_FAULT_CHARS: usize = 300;

impl fmt::Display for InputFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
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
