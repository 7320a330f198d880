use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::isolate::Guarded;
use crate::limits::{MAX_JSON_DEPTH, MAX_OUTPUT_BYTES};
use crate::run::{FailureKind, StepFailure};

/// The error of a step: any error value, kept as it is.
///
/// Everything that converts into `Box<dyn Error + Send + Sync>` converts into this one: `std` errors, `anyhow::Error`,
/// `&str` and `String`. So `?` works in callables. Like `anyhow::Error` it does not implement
/// [`Error`] itself but dereferences to the error inside. Cloning is cheap. (An `anyhow::Error` keeps its messages, and its
/// causes can be downcast; its outermost type is hidden by anyhow's own conversion.)
///
/// ```
/// use lunacore::StepError;
///
/// fn parse(text: &str) -> Result<u32, StepError> {
///     if text.is_empty() {
///         return Err("nothing to parse".into());
///     }
///     Ok(text.parse()?)
/// }
///
/// let error = parse("x").unwrap_err();
/// assert!(error.downcast_ref::<std::num::ParseIntError>().is_some());
/// assert_eq!(parse("").unwrap_err().to_string(), "nothing to parse");
/// ```
#[derive(Clone)]
pub struct StepError {
    kind: FailureKind,
    /// Guarded, because the last to let go of it may be an actor, and its `Drop` is the user's code.
    error: Arc<Guarded<Box<dyn Error + Send + Sync>>>,
}

/// Stands in for an error that is being dropped; nobody can hold one then.
#[derive(Debug, thiserror::Error)]
#[error("the error is gone")]
struct Gone;

impl StepError {
    pub(crate) fn of_kind(kind: FailureKind, error: impl Error + Send + Sync + 'static) -> Self {
        Self { kind, error: Arc::new(Guarded::new(Box::new(error))) }
    }

    pub(crate) fn panic(message: String) -> Self {
        Self::of_kind(FailureKind::Panic, StepPanic { message })
    }

    /// A failure that was stored, as an error again: its message and its causes.
    pub(crate) fn recorded(failure: &StepFailure) -> Self {
        let link = |source: Option<Box<RecordedError>>, message: &String| {
            Some(Box::new(RecordedError { message: message.clone(), source }))
        };
        let source = failure.causes.iter().rev().fold(None, link);
        Self::of_kind(failure.kind, RecordedError { message: failure.message.clone(), source })
    }

    pub(crate) fn kind(&self) -> FailureKind {
        self.kind
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for StepError {
    fn from(error: E) -> Self {
        let boxed: Box<dyn Error + Send + Sync> = error.into();
        // An `OutputError` that a callable's return value raised keeps its kind.
        let kind = if boxed.is::<OutputError>() { FailureKind::Output } else { FailureKind::Error };
        Self { kind, error: Arc::new(Guarded::new(boxed)) }
    }
}

impl Deref for StepError {
    type Target = dyn Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        self.error.get().map_or(&Gone, |error| &**error)
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl fmt::Debug for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// The error of a step of an earlier process, read from the store: of the original value its messages are left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct RecordedError {
    /// The error's own message.
    pub message: String,
    /// What had caused it.
    pub source: Option<Box<Self>>,
}

/// The error of a step that panicked: reached by `downcast_ref` like any other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {message}")]
#[non_exhaustive]
pub struct StepPanic {
    /// The panic's message.
    pub message: String,
}

/// The error of a step whose return value cannot be stored.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The output is larger than [`MAX_OUTPUT_BYTES`].
    #[error(
        "the output has {bytes} bytes, more than {MAX_OUTPUT_BYTES}; write it to a file and return the file's name"
    )]
    TooLarge {
        /// Its size in bytes: of the string form, or of the raw bytes.
        bytes: usize,
    },
    /// The output nests deeper than [`MAX_JSON_DEPTH`].
    #[error("the output nests deeper than {MAX_JSON_DEPTH} levels; return a flatter value, or its text")]
    TooDeep,
    /// The output has no JSON form.
    #[error("the output has no JSON form")]
    NotJson {
        /// What serde said.
        source: Arc<serde_json::Error>,
    },
    /// JSON has no number for this.
    #[error("the output {number} is not a JSON number; return None or a string instead")]
    NotFinite {
        /// A NaN or an infinity.
        number: f64,
    },
}
