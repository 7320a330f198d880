use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use humantime::format_duration;

use crate::id::IdFault;
use crate::isolate::{Guarded, catch};
use crate::limits::{
    MAX_ARTIFACT_BYTES, MAX_FAILURE_CAUSES, MAX_JSON_DEPTH, MAX_OUTPUT_BYTES, MAX_PAYLOAD_BYTES,
    MAX_STAGED_ARTIFACTS, MAX_STAGED_BYTES,
};
use crate::resilience::Verdict;
use crate::run::{FailureKind, StepFailure};
use crate::secrets::Redactor;

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
    /// What it says about a retry.
    verdict: Verdict,
    /// Guarded, because the last to let go of it may be an actor, and its `Drop` is the user's code.
    error: Arc<Guarded<Box<dyn Error + Send + Sync>>>,
}

/// Stands in for an error that is being dropped; nobody can hold one then.
#[derive(Debug, thiserror::Error)]
#[error("the error is gone")]
struct Gone;

impl StepError {
    pub(crate) fn of_kind(kind: FailureKind, error: impl Error + Send + Sync + 'static) -> Self {
        Self { kind, verdict: Verdict::Policy, error: Arc::new(Guarded::new(Box::new(error))) }
    }

    /// An error that would be the same each time, such as a request that is refused as wrong: it is never retried, and a
    /// circuit breaker does not count it.
    ///
    /// ```
    /// use lunacore::StepError;
    ///
    /// fn charge(amount: i64) -> Result<(), StepError> {
    ///     if amount < 0 { Err(StepError::fatal("nobody is paid a negative amount")) } else { Ok(()) }
    /// }
    /// assert!(charge(-1).unwrap_err().is_fatal());
    /// ```
    #[must_use]
    pub fn fatal(error: impl Into<Self>) -> Self {
        Self { verdict: Verdict::Fatal, ..error.into() }
    }

    /// An error that is worth a retry after this wait, as a server said with HTTP's `Retry-After`, for example. It takes the
    /// place of the policy's own delay and may be longer; how many attempts there are, and how long they may take together,
    /// remains for the policy to say.
    #[must_use]
    pub fn retry_after(error: impl Into<Self>, wait: Duration) -> Self {
        Self { verdict: Verdict::After(wait), ..error.into() }
    }

    /// Whether it was made by [`fatal`](Self::fatal).
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.verdict == Verdict::Fatal
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// An attempt that came to a limit.
    pub(crate) fn limit(exceeded: LimitExceeded) -> Self {
        let kind = match &exceeded {
            LimitExceeded::Timeout { .. } => FailureKind::Timeout,
            LimitExceeded::TotalTimeout { .. } => FailureKind::TotalTimeout,
            LimitExceeded::Deadline { .. } => FailureKind::Deadline,
            LimitExceeded::Abandoned { .. } => FailureKind::Abandoned,
        };
        Self::of_kind(kind, exceeded)
    }

    pub(crate) fn panic(message: String) -> Self {
        Self::of_kind(FailureKind::Panic, StepPanic { message })
    }

    /// A failure that was stored, as an error again: its message and its causes.
    pub(crate) fn recorded(failure: &StepFailure) -> Self {
        Self::of_kind(
            failure.kind,
            RecordedError::chain(failure.message.clone(), failure.causes.iter().cloned()),
        )
    }

    /// The same without secrets: where it shows one, only its messages are left of it.
    pub(super) fn clean(self, redactor: &Redactor) -> Self {
        if redactor.is_idle() {
            return self;
        }
        // The messages are made by code of the user's, and so is what the error shows of itself.
        let shown = catch(|| {
            let chain =
                std::iter::successors(Some(&*self as &(dyn Error + 'static)), |error| (*error).source());
            let messages = chain.take(1 + MAX_FAILURE_CAUSES).map(ToString::to_string).collect::<Vec<_>>();
            (messages, format!("{:?}", &*self))
        });
        let (messages, debug) = shown.unwrap_or_else(|message| {
            (vec![format!("the error could not be shown, for its message panicked: {message}")], message)
        });
        let is_clean = |text: &String| matches!(redactor.text(text), Cow::Borrowed(_));
        if is_clean(&debug) && messages.iter().all(is_clean) {
            return self;
        }
        let mut clean = messages.iter().map(|message| redactor.text(message).into_owned());
        let message = clean.next().unwrap_or_default();
        Self { verdict: self.verdict, ..Self::of_kind(self.kind, RecordedError::chain(message, clean)) }
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
        Self { kind, verdict: Verdict::Policy, error: Arc::new(Guarded::new(boxed)) }
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

impl RecordedError {
    /// An error of these messages, outermost first.
    fn chain(message: String, causes: impl DoubleEndedIterator<Item = String>) -> Self {
        let link = |source: Option<Box<Self>>, message| Some(Box::new(Self { message, source }));
        Self { message, source: causes.rev().fold(None, link) }
    }
}

/// The error of a step that panicked: reached by `downcast_ref` like any other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("panicked: {message}")]
#[non_exhaustive]
pub struct StepPanic {
    /// The panic's message.
    pub message: String,
}

/// The error of a step, or a plan, that took longer than it may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitExceeded {
    /// One attempt did; see [`Step::timeout`](crate::Step::timeout).
    #[error("the attempt was not over after {}, its timeout", format_duration(*limit))]
    #[non_exhaustive]
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// All attempts of a step together did; see [`Step::total_timeout`](crate::Step::total_timeout).
    #[error("the step was not done after {}, its total timeout", format_duration(*limit))]
    #[non_exhaustive]
    TotalTimeout {
        /// The limit.
        limit: Duration,
    },
    /// The plan did; see [`ExecutePlan::deadline`](crate::ExecutePlan::deadline).
    #[error("the plan was not done after {}, its deadline", format_duration(*limit))]
    #[non_exhaustive]
    Deadline {
        /// The limit.
        limit: Duration,
    },
    /// Blocking code did, and had not ended when the [grace](crate::Step::grace) was over. It may still run.
    #[error("its blocking code did not end within the grace of {}; it may still run", format_duration(*grace))]
    #[non_exhaustive]
    Abandoned {
        /// The grace.
        grace: Duration,
        /// The limit that it had come to.
        source: Box<Self>,
    },
}

/// The error of an attempt that was not made, because the step's circuit breaker lets nothing through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker {breaker:?} is open")]
#[non_exhaustive]
pub struct BreakerOpen {
    /// The breaker's name.
    pub breaker: Arc<str>,
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

/// A step asked its context for something that is not there, or that cannot be.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The step's input has another shape.
    #[error("the input of step {step_id:?} does not fit")]
    Input {
        /// The step.
        step_id: String,
        /// Where it does not fit.
        source: Arc<serde_json::Error>,
    },
    /// The other step's output has another shape.
    #[error("the output of step {step_id:?} does not fit")]
    Output {
        /// The other step.
        step_id: String,
        /// Where it does not fit.
        source: Arc<serde_json::Error>,
    },
    /// The plan has no such step.
    #[error("the plan has no step {step_id:?}")]
    NoSuchStep {
        /// The id that was asked for.
        step_id: String,
    },
    /// The other step comes later, or is this one.
    #[error("step {step_id:?} has not run yet; only outputs of earlier steps can be read")]
    NotYetRun {
        /// The other step.
        step_id: String,
    },
    /// The first step has none before it.
    #[error("the first step of a plan has no previous output")]
    NoPrevious,
    /// A progress report is larger than [`MAX_PAYLOAD_BYTES`].
    #[error("the progress report has {bytes} bytes of JSON, more than {MAX_PAYLOAD_BYTES}")]
    ProgressTooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// A progress report nests deeper than [`MAX_JSON_DEPTH`].
    #[error("the progress report nests deeper than {MAX_JSON_DEPTH} levels")]
    ProgressTooDeep,
    /// The key is of the form that results of steps have.
    #[error("the artifact key {key:?} is reserved for the result of a step; choose one without \"task:\"")]
    ReservedKey {
        /// The key, shortened.
        key: String,
    },
    /// The key cannot be one.
    #[error("the artifact key {key:?} {fault}")]
    ArtifactKey {
        /// The key, shortened.
        key: String,
        /// What is wrong with it.
        fault: IdFault,
    },
    /// The data is larger than [`MAX_ARTIFACT_BYTES`].
    #[error("the artifact {key:?} has {bytes} bytes, more than {MAX_ARTIFACT_BYTES}")]
    ArtifactTooLarge {
        /// The key.
        key: String,
        /// The size in bytes.
        bytes: usize,
    },
    /// One attempt staged more than [`MAX_STAGED_ARTIFACTS`] artifacts or [`MAX_STAGED_BYTES`] bytes.
    #[error(
        "one step stores at most {MAX_STAGED_ARTIFACTS} further artifacts with {MAX_STAGED_BYTES} bytes together"
    )]
    TooManyArtifacts,
    /// The call that this context was made for has ended.
    #[error("the attempt has ended; what it stores must be stored before it returns")]
    AttemptEnded,
}
