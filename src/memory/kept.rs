//! Artifacts as the volatile store keeps them.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::artifact::{Artifact, ArtifactData, TASK_PREFIX, task_result};
use crate::plan::Output;
use crate::project::Project;
use crate::run::RunId;

/// A key of an artifact behind its first bytes as a number, which tell most keys apart in one comparison: calls of `memcmp`
/// would be a tenth of what a step costs. In the order of the keys as texts, and found by them.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    head: u128,
    pub(super) text: Box<str>,
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        let mut head = [0; 16];
        for (place, byte) in head.iter_mut().zip(text.bytes()) {
            *place = byte;
        }
        Self { head: u128::from_be_bytes(head), text: text.into_boxed_str() }
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.text
    }
}

#[derive(Debug, Default)]
pub(super) struct Versions {
    last: u64,
    pub(super) kept: Vec<Kept>,
}

/// An artifact without what its place says already.
#[derive(Debug)]
pub(super) struct Kept {
    id: Uuid,
    pub(super) version: u64,
    created_at: SystemTime,
    run_id: Option<RunId>,
    content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    /// The result of the step with this index, as it was returned: its artifact is made when it is read.
    Result(usize, Output),
    /// In a box, since most artifacts are results.
    Other(Box<Other>),
}

#[derive(Debug)]
pub(super) struct Other {
    pub(super) artifact_type: Arc<str>,
    pub(super) meta: Meta,
    pub(super) data: ArtifactData,
}

#[derive(Debug)]
pub(super) enum Meta {
    Step(usize, Arc<str>),
    Free(Map<String, Value>),
}

fn step_meta(step: usize, step_id: &str) -> Map<String, Value> {
    Map::from_iter([("step".to_owned(), Value::from(step)), ("step_id".to_owned(), Value::from(step_id))])
}

impl Kept {
    /// Of a version that is not known yet.
    pub(super) fn new(id: Uuid, created_at: SystemTime, run_id: Option<RunId>, content: Content) -> Self {
        Self { id, version: 0, created_at, run_id, content }
    }

    pub(super) fn to_artifact(&self, project: &Project, key: &str) -> Artifact {
        let (artifact_type, meta, data) = match &self.content {
            Content::Result(step, output) => {
                let step_id = key.strip_prefix(TASK_PREFIX).unwrap_or(key);
                (task_result(), step_meta(*step, step_id), output.to_data())
            }
            Content::Other(other) => {
                let meta = match &other.meta {
                    Meta::Step(step, step_id) => step_meta(*step, step_id),
                    Meta::Free(map) => map.clone(),
                };
                (Arc::clone(&other.artifact_type), meta, other.data.clone())
            }
        };
        Artifact {
            id: self.id,
            project: project.clone(),
            key: key.to_owned(),
            version: self.version,
            artifact_type,
            created_at: self.created_at,
            meta,
            run_id: self.run_id.clone(),
            data,
        }
    }
}

impl Versions {
    /// Versions are kept in ascending order.
    pub(super) fn find(&self, version: u64) -> Option<usize> {
        self.kept.binary_search_by_key(&version, |kept| kept.version).ok()
    }

    /// Takes it as the next version.
    pub(super) fn push(&mut self, mut kept: Kept) -> &Kept {
        self.last += 1;
        kept.version = self.last;
        // Most keys have one version: no room is kept for more until there are.
        if self.kept.is_empty() {
            self.kept.reserve_exact(1);
        }
        self.kept.push(kept);
        // Just pushed, so the index is there.
        &self.kept[self.kept.len() - 1]
    }
}
