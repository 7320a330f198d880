//! Stored results: artifacts, their data, and the project they belong to.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::run::RunId;

/// One version of a stored result.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Artifact {
    /// A UUIDv7 that names this version and no other.
    pub id: Uuid,
    /// The project it belongs to.
    pub project: Project,
    /// Its key: `task:{step_id}` for the result of a step.
    pub key: String,
    /// Its version, from 1. A number is not used again while the key lives.
    pub version: u64,
    /// What it is: `"task_result"` for the result of a step, `"data"` where nothing else was said.
    pub artifact_type: Arc<str>,
    /// When it was stored, to the microsecond.
    pub created_at: SystemTime,
    /// A JSON object about it: `{"step": 0, "step_id": "process"}` for the result of a step.
    pub meta: Map<String, Value>,
    /// The run that stored it, if a run did.
    pub run_id: Option<RunId>,
    /// The content.
    pub data: ArtifactData,
}

impl Artifact {
    /// The content, if it is text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.data.text()
    }
}

/// The content of an artifact. Cloning shares it.
///
/// ```
/// use lunacore::ArtifactData;
///
/// let data = ArtifactData::from("processed_data");
/// assert_eq!(data.text(), Some("processed_data"));
/// assert_eq!(ArtifactData::from(vec![0xff]).text(), None);
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArtifactData {
    /// UTF-8 text.
    Text(Arc<str>),
    /// Raw bytes.
    Bytes(Bytes),
}

impl ArtifactData {
    /// The text, unless these are raw bytes.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bytes(_) => None,
        }
    }

    /// The content as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Whether there is no content.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Shows what it is, not what it says: contents do not belong into logs.
impl fmt::Debug for ArtifactData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = if matches!(self, Self::Text(_)) { "Text" } else { "Bytes" };
        write!(f, "{form}({} bytes)", self.len())
    }
}

impl From<&str> for ArtifactData {
    fn from(text: &str) -> Self {
        Self::Text(Arc::from(text))
    }
}

impl From<String> for ArtifactData {
    fn from(text: String) -> Self {
        Self::Text(Arc::from(text))
    }
}

impl From<Bytes> for ArtifactData {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Vec<u8>> for ArtifactData {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Bytes::from(bytes))
    }
}

impl From<&[u8]> for ArtifactData {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(Bytes::copy_from_slice(bytes))
    }
}

/// A tenant and one of its projects: keys of one project are invisible to every other. Both are `"default"` by default.
///
/// ```
/// use lunacore::Project;
///
/// let web = Project::new("acme", "web");
/// assert_eq!(web.to_string(), "acme/web");
/// assert_eq!(Project::default().to_string(), "default/default");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Project {
    tenant: Arc<str>,
    project: Arc<str>,
}

impl Project {
    /// A project of a tenant. The names are checked when they are used.
    pub fn new(tenant: impl Into<Arc<str>>, project: impl Into<Arc<str>>) -> Self {
        Self { tenant: tenant.into(), project: project.into() }
    }

    /// The tenant's name.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The project's name within the tenant.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }
}

impl Default for Project {
    fn default() -> Self {
        // One allocation for the two names: a plan makes one of these.
        let name: Arc<str> = Arc::from("default");
        Self { tenant: Arc::clone(&name), project: name }
    }
}

impl fmt::Display for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.project)
    }
}

/// The artifact type of a step's result.
pub(crate) const TASK_RESULT: &str = "task_result";

/// What the keys of steps' results begin with.
pub(crate) const TASK_PREFIX: &str = "task:";

/// The key of a step's result.
pub(crate) fn task_key(step_id: &str) -> String {
    let mut key = String::with_capacity(TASK_PREFIX.len() + step_id.len());
    key.push_str(TASK_PREFIX);
    key.push_str(step_id);
    key
}

/// [`TASK_RESULT`] as artifacts share it.
pub(crate) fn task_result() -> Arc<str> {
    static SHARED: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(TASK_RESULT));
    Arc::clone(&SHARED)
}
