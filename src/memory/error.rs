use std::error::Error;
use std::sync::Arc;

use actix::MailboxError;

use super::access::Operation;
use crate::id::IdFault;
use crate::limits::{
    MAX_ARTIFACT_BYTES, MAX_JSON_DEPTH, MAX_META_BYTES, MAX_SIGNAL_BYTES, MAX_SIGNALS, MAX_SIGNALS_BYTES,
};
use crate::project::Project;
use crate::run::{RunId, RunState};

/// Why memory did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The access check said no.
    #[error("{operation} access to {key:?} in {project} is denied")]
    AccessDenied {
        /// The tenant and project.
        project: Project,
        /// The key or prefix.
        key: String,
        /// What was asked for.
        operation: Operation,
    },
    /// The key, tenant or project cannot be one.
    #[error("the {what} {name:?} {fault}")]
    InvalidName {
        /// What the name is for.
        what: &'static str,
        /// The name, shortened.
        name: String,
        /// What is wrong with it.
        fault: IdFault,
    },
    /// The data is larger than [`MAX_ARTIFACT_BYTES`].
    #[error("the artifact {key:?} has {bytes} bytes, more than {MAX_ARTIFACT_BYTES}")]
    DataTooLarge {
        /// The key.
        key: String,
        /// The size in bytes.
        bytes: usize,
    },
    /// The meta is larger than [`MAX_META_BYTES`].
    #[error("the meta of artifact {key:?} has {bytes} bytes of JSON, more than {MAX_META_BYTES}")]
    MetaTooLarge {
        /// The key.
        key: String,
        /// The size in bytes.
        bytes: usize,
    },
    /// The meta nests deeper than [`MAX_JSON_DEPTH`].
    #[error("the meta of artifact {key:?} nests deeper than {MAX_JSON_DEPTH} levels")]
    MetaTooDeep {
        /// The key.
        key: String,
    },
    /// There is a run with this id already.
    #[error("there is a run {run_id} already; choose another run id")]
    RunExists {
        /// The id.
        run_id: RunId,
    },
    /// There is no run with this id.
    #[error("there is no run {run_id}")]
    UnknownRun {
        /// The id.
        run_id: RunId,
    },
    /// The run is over, and takes no signals.
    #[error("run {run_id} is {state}")]
    RunOver {
        /// The id.
        run_id: RunId,
        /// The state that it came to.
        state: RunState,
    },
    /// So many signals are kept for the run already, and none of them was waited for.
    #[error(
        "run {run_id} keeps {kept} signals that nothing has waited for; no more than {MAX_SIGNALS} are kept"
    )]
    TooManySignals {
        /// The run.
        run_id: RunId,
        /// How many it keeps.
        kept: usize,
    },
    /// The signals that are kept for the run already, and this one, would have more than [`MAX_SIGNALS_BYTES`] together.
    #[error(
        "run {run_id} keeps signals of {kept} bytes that nothing has waited for, and this one has {bytes}; no more than \
         {MAX_SIGNALS_BYTES} are kept"
    )]
    SignalsTooLarge {
        /// The run.
        run_id: RunId,
        /// How many bytes of JSON those that it keeps have.
        kept: usize,
        /// How many this one has.
        bytes: usize,
    },
    /// What a signal brings has more than [`MAX_SIGNAL_BYTES`] of JSON.
    #[error("what the signal {name:?} brings has {bytes} bytes of JSON, more than {MAX_SIGNAL_BYTES}")]
    SignalTooLarge {
        /// The signal's name.
        name: String,
        /// The size in bytes.
        bytes: usize,
    },
    /// What a signal brings nests deeper than [`MAX_JSON_DEPTH`].
    #[error("what the signal {name:?} brings nests deeper than {MAX_JSON_DEPTH} levels")]
    SignalTooDeep {
        /// The signal's name.
        name: String,
    },
    /// Somebody else over the same memory runs this run, or is about to.
    #[error("run {run_id} is held by somebody else over the same memory")]
    RunHeld {
        /// The run.
        run_id: RunId,
    },
    /// The store is open for reading only.
    #[error("the store is open for reading only")]
    ReadOnly,
    /// The events asked for are not kept any more.
    #[error("events up to {} are not kept any more; the first that is has the number {first}", first.saturating_sub(1))]
    HistoryGone {
        /// Events behind this number were asked for.
        after: u64,
        /// The first event that is still there.
        first: u64,
    },
    /// The store failed; whether the write happened is unknown.
    #[error("the store failed; what it was writing may or may not be stored")]
    Store(#[from] StoreError),
    /// The memory actor has stopped.
    #[error("the memory actor has stopped")]
    Stopped,
}

impl MemoryError {
    /// Whether it is certain that nothing was written. If it is not, nothing may be acknowledged.
    #[must_use]
    pub fn wrote_nothing(&self) -> bool {
        !matches!(self, Self::Store(_) | Self::Stopped)
    }
}

/// A store failed. Whether what it was writing is stored is unknown. Shows, and leads to the causes of, what went wrong.
///
/// ```
/// use lunacore::StoreError;
///
/// let error = StoreError::new(std::io::Error::other("disk on fire"));
/// assert_eq!(error.to_string(), "disk on fire");
/// ```
#[derive(Debug, Clone)]
pub struct StoreError {
    source: Arc<dyn Error + Send + Sync>,
}

impl StoreError {
    /// Wraps what went wrong.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Arc::from(source.into()) }
    }
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.source.fmt(f)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

/// So that `??` works on what an actor's address answers.
impl From<MailboxError> for MemoryError {
    fn from(_: MailboxError) -> Self {
        Self::Stopped
    }
}
