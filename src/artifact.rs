//! Stored results: artifacts and their data.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use bytes::Bytes;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::id::uuid_at;
use crate::project::Project;
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
    /// A version with a new id, the type `"data"`, no meta and no run; the fields are there to be set.
    #[must_use]
    pub fn new(project: Project, key: String, version: u64, data: ArtifactData, at: SystemTime) -> Self {
        let (artifact_type, meta) = (Arc::from("data"), Map::new());
        Self {
            id: uuid_at(at),
            project,
            key,
            version,
            artifact_type,
            created_at: at,
            meta,
            run_id: None,
            data,
        }
    }

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

/// The meta of what a step stores. The generation of its run is told where it is not the first.
pub(crate) fn step_meta(step: usize, step_id: &str, generation: u32) -> Map<String, Value> {
    let mut meta = Map::from_iter([
        ("step".to_owned(), Value::from(step)),
        ("step_id".to_owned(), Value::from(step_id)),
    ]);
    if generation > 1 {
        meta.insert("generation".to_owned(), Value::from(generation));
    }
    meta
}
