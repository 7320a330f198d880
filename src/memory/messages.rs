use std::sync::Arc;
use std::time::SystemTime;

use actix::{Message, Recipient};
use serde_json::{Map, Value};

use super::error::MemoryError;
use crate::artifact::{Artifact, ArtifactData};
use crate::bus::Publish;
use crate::event::EventKind;
use crate::plan::Output;
use crate::project::Project;
use crate::run::{RunId, RunRecord, RunState, StepFailure};

/// One atomic write: a run's progress, an output, artifacts and events together, or nothing of it.
///
/// The orchestrator sends it; applications have no need to.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Committed, MemoryError>")]
#[non_exhaustive]
pub struct Commit {
    /// The run.
    pub run_id: RunId,
    /// The project that its artifacts go to.
    pub project: Project,
    /// Present in the first commit of a run: the run itself.
    pub accept: Option<Box<NewRun>>,
    /// Where the run stands once this is stored.
    pub update: RunUpdate,
    /// The output of the step that this commit completes: its index, and what it returned.
    pub output: Option<(usize, Output)>,
    /// New versions of artifacts.
    pub artifacts: Vec<NewArtifact>,
    /// What happened, in order. The store numbers them.
    pub events: Vec<EventKind>,
}

impl Commit {
    /// A commit that moves a run and does nothing else yet.
    #[must_use]
    pub fn new(run_id: RunId, project: Project, update: RunUpdate) -> Self {
        let (artifacts, events) = (Vec::new(), Vec::new());
        Self { run_id, project, accept: None, update, output: None, artifacts, events }
    }
}

/// What is stored of a run when it is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewRun {
    /// The plan's name, if it has one.
    pub name: Option<Arc<str>>,
    /// The ids of its steps, in order.
    pub step_ids: Arc<[Arc<str>]>,
}

impl NewRun {
    /// A run of a plan with these steps.
    #[must_use]
    pub fn new(name: Option<Arc<str>>, step_ids: Arc<[Arc<str>]>) -> Self {
        Self { name, step_ids }
    }
}

/// Where a run stands; see [`RunRecord`], which has the same fields.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunUpdate {
    /// Its state.
    pub state: RunState,
    /// How many steps have completed.
    pub cursor: usize,
    /// The attempt of the step at `cursor` that is about to run or ran last; 0 when it has not been started.
    pub attempt: u32,
    /// Why it failed, if it did.
    pub failure: Option<Arc<StepFailure>>,
}

impl RunUpdate {
    /// A run that has not failed.
    #[must_use]
    pub fn new(state: RunState, cursor: usize, attempt: u32) -> Self {
        Self { state, cursor, attempt, failure: None }
    }
}

/// An artifact to be stored as the next version of its key.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NewArtifact {
    /// The key.
    pub key: String,
    /// What it is.
    pub artifact_type: Arc<str>,
    /// The step that made it, whose index and id become the meta `{"step": …, "step_id": …}`.
    pub step: (usize, Arc<str>),
    /// The content.
    pub data: ArtifactData,
}

impl NewArtifact {
    /// An artifact made by the step with this index and id.
    #[must_use]
    pub fn new(key: String, artifact_type: Arc<str>, step: (usize, Arc<str>), data: ArtifactData) -> Self {
        Self { key, artifact_type, step, data }
    }
}

/// A commit is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// When, to the microsecond: the time of its events.
    pub at: SystemTime,
}

impl Committed {
    /// A commit that was stored then.
    #[must_use]
    pub fn new(at: SystemTime) -> Self {
        Self { at }
    }
}

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
