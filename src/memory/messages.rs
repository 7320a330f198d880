use std::sync::Arc;

use actix::{Message, Recipient};
use serde_json::{Map, Value};

use super::commit::Committed;
use super::error::MemoryError;
use crate::artifact::{Artifact, ArtifactData};
use crate::bus::Publish;
use crate::event::{Event, EventKind};
use crate::plan::Output;
use crate::project::Project;
use crate::resilience::BreakerRecord;
use crate::run::{RunId, RunRecord};

/// Asks memory to publish what it commits from now on to this bus. A bus is attached once, however often it is asked.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Attach(pub Recipient<Publish>);

macro_rules! in_project {
    ($($message:ty)*) => {$(
        impl $message {
            /// Works in this project of this tenant; both are `"default"` otherwise.
            #[must_use]
            pub fn in_project(mut self, tenant: impl Into<Arc<str>>, project: impl Into<Arc<str>>) -> Self {
                self.project = Project::new(tenant, project);
                self
            }
        }
    )*};
}

in_project! { Put Get ListVersions ListKeys Delete }

/// Stores data as the next version of a key.
///
/// The meta is merged over that of the version before: entries given here win.
///
/// ```
/// use lunacore::Put;
///
/// let put = Put::new("report", "# All well").artifact_type("markdown").meta("pages", 1);
/// # let _ = put;
/// ```
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Artifact, MemoryError>")]
pub struct Put {
    pub(crate) project: Project,
    pub(crate) key: String,
    pub(crate) artifact_type: Arc<str>,
    pub(crate) meta: Map<String, Value>,
    pub(crate) data: ArtifactData,
}

impl Put {
    /// Text or bytes for a key.
    pub fn new(key: impl Into<String>, data: impl Into<ArtifactData>) -> Self {
        Self {
            project: Project::default(),
            key: key.into(),
            artifact_type: Arc::from("data"),
            meta: Map::new(),
            data: data.into(),
        }
    }

    /// Says what it is; `"data"` by default.
    #[must_use]
    pub fn artifact_type(mut self, artifact_type: impl Into<Arc<str>>) -> Self {
        self.artifact_type = artifact_type.into();
        self
    }

    /// Sets an entry of the meta.
    #[must_use]
    pub fn meta(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.meta.insert(name.into(), value.into());
        self
    }

    /// The project to store in.
    #[must_use]
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// The key to store under.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What a store keeps of it: type, meta as given, and data.
    #[must_use]
    pub fn into_parts(self) -> (Arc<str>, Map<String, Value>, ArtifactData) {
        (self.artifact_type, self.meta, self.data)
    }
}

/// Reads an artifact: the latest version of a key, or a given one.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<Artifact>, MemoryError>")]
pub struct Get {
    pub(crate) project: Project,
    pub(crate) key: String,
    pub(crate) version: Option<u64>,
}

impl Get {
    /// The latest version.
    pub fn latest(key: impl Into<String>) -> Self {
        Self { project: Project::default(), key: key.into(), version: None }
    }

    /// A given version, from 1.
    pub fn version(key: impl Into<String>, version: u64) -> Self {
        Self { project: Project::default(), key: key.into(), version: Some(version) }
    }
}

/// The latest version of this key.
impl From<&str> for Get {
    fn from(key: &str) -> Self {
        Self::latest(key)
    }
}

/// The latest version of this key.
impl From<String> for Get {
    fn from(key: String) -> Self {
        Self::latest(key)
    }
}

/// Lists the versions of a key, ascending. A key that is not there has none.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<u64>, MemoryError>")]
pub struct ListVersions {
    pub(crate) project: Project,
    pub(crate) key: String,
}

impl ListVersions {
    /// The versions of this key.
    pub fn new(key: impl Into<String>) -> Self {
        Self { project: Project::default(), key: key.into() }
    }
}

/// Lists keys in order, a page at a time.
///
/// ```
/// use lunacore::ListKeys;
///
/// let first = ListKeys::new().prefix("task:").limit(100);
/// let next = ListKeys::new().prefix("task:").limit(100).after("task:process");
/// # let _ = (first, next);
/// ```
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<String>, MemoryError>")]
pub struct ListKeys {
    pub(crate) project: Project,
    pub(crate) prefix: String,
    pub(crate) after: Option<String>,
    pub(crate) limit: usize,
}

impl Default for ListKeys {
    fn default() -> Self {
        Self {
            project: Project::default(),
            prefix: String::new(),
            after: None,
            limit: crate::limits::MAX_PAGE,
        }
    }
}

impl ListKeys {
    /// All keys, at most [`MAX_PAGE`](crate::limits::MAX_PAGE) of them.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only keys that start so.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Only keys behind this one: the last of the page before.
    #[must_use]
    pub fn after(mut self, key: impl Into<String>) -> Self {
        self.after = Some(key.into());
        self
    }

    /// At most this many, and never more than [`MAX_PAGE`](crate::limits::MAX_PAGE).
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit.min(crate::limits::MAX_PAGE);
        self
    }
}

/// Deletes a version of a key, or all; answers whether there was something to delete. When the last version goes, the
/// key's life ends, and versions start at 1 again.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<bool, MemoryError>")]
pub struct Delete {
    pub(crate) project: Project,
    pub(crate) key: String,
    pub(crate) version: Option<u64>,
}

impl Delete {
    /// All versions.
    pub fn all(key: impl Into<String>) -> Self {
        Self { project: Project::default(), key: key.into(), version: None }
    }

    /// One version.
    pub fn version(key: impl Into<String>, version: u64) -> Self {
        Self { project: Project::default(), key: key.into(), version: Some(version) }
    }
}

/// Reads what is known of a run.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<RunRecord>, MemoryError>")]
pub struct GetRun(pub RunId);

/// Lists runs in the order in which they were accepted, a page at a time.
///
/// A run that is not known (any more) has nothing after it: the volatile store forgets old runs.
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "Result<Vec<RunRecord>, MemoryError>")]
#[non_exhaustive]
pub struct ListRuns {
    /// Only runs accepted after this one: the last of the page before.
    pub after: Option<RunId>,
}

impl ListRuns {
    /// The first page, or the one after a run.
    #[must_use]
    pub fn new(after: Option<RunId>) -> Self {
        Self { after }
    }
}

/// Reads the outputs that a run has stored so far, in step order; `None` for a run that is not known.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<Vec<Output>>, MemoryError>")]
pub struct GetOutputs(pub RunId);

/// Lists the runs that have not come to a final state, in the order in which they were accepted, a page at a time.
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "Result<Vec<RunRecord>, MemoryError>")]
#[non_exhaustive]
pub struct ListUnfinished {
    /// Only runs accepted after this one: the last of the page before.
    pub after: Option<RunId>,
}

impl ListUnfinished {
    /// The first page, or the one after a run.
    #[must_use]
    pub fn new(after: Option<RunId>) -> Self {
        Self { after }
    }
}

/// Reads what is stored of circuit breakers. One that never opened is not known.
#[derive(Debug, Clone, Copy, Default, Message)]
#[rtype(result = "Result<Vec<BreakerRecord>, MemoryError>")]
pub struct ListBreakers;

/// Stores a change of a circuit breaker that belongs to no run, and the event that tells of it.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Committed, MemoryError>")]
#[non_exhaustive]
pub struct RecordBreaker {
    /// Where the breaker stands.
    pub record: BreakerRecord,
    /// What is told of it.
    pub event: EventKind,
}

impl RecordBreaker {
    /// This change.
    #[must_use]
    pub fn new(record: BreakerRecord, event: EventKind) -> Self {
        Self { record, event }
    }
}

/// Reads the stored events of a run in their order, a page at a time.
///
/// ```
/// use lunacore::{ReadHistory, RunId};
///
/// # let run_id = RunId::random();
/// let first = ReadHistory::new(run_id.clone()).limit(100);
/// // and then, with the number of the last event of the page before:
/// let next = ReadHistory::new(run_id).after(117).limit(100);
/// # let _ = (first, next);
/// ```
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<Event>, MemoryError>")]
pub struct ReadHistory {
    pub(crate) run_id: RunId,
    pub(crate) after: u64,
    pub(crate) limit: usize,
}

/// The first page of the events of a run.
impl From<RunId> for ReadHistory {
    fn from(run_id: RunId) -> Self {
        Self::new(run_id)
    }
}

/// The first page of the events of a run.
impl From<&RunId> for ReadHistory {
    fn from(run_id: &RunId) -> Self {
        Self::new(run_id.clone())
    }
}

impl ReadHistory {
    /// The first page of the events of a run: at most [`MAX_PAGE`](crate::limits::MAX_PAGE).
    #[must_use]
    pub fn new(run_id: RunId) -> Self {
        Self { run_id, after: 0, limit: crate::limits::MAX_PAGE }
    }

    /// Only events behind this sequence number.
    #[must_use]
    pub fn after(mut self, seq: u64) -> Self {
        self.after = seq;
        self
    }

    /// At most this many, and never more than [`MAX_PAGE`](crate::limits::MAX_PAGE).
    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit.min(crate::limits::MAX_PAGE);
        self
    }
}
