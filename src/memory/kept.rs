//! Artifacts as the volatile store keeps them.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::artifact::{Artifact, ArtifactData, TASK_PREFIX, step_meta, task_key, task_result};
use crate::plan::Output;
use crate::project::Project;
use crate::run::RunId;

/// The artifacts of a project. Those of results are under the ids of their steps, which are shared: a step needs no text made.
#[derive(Debug, Default)]
pub(super) struct Keys {
    results: BTreeMap<Key, Versions>,
    others: BTreeMap<Key, Versions>,
}

/// A key of an artifact behind its first bytes as a number, which tell most keys apart in one comparison: calls of `memcmp`
/// would be a tenth of what a step costs. In the order of the keys as texts, and found by them.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    head: u128,
    text: Arc<str>,
}

impl From<Arc<str>> for Key {
    fn from(text: Arc<str>) -> Self {
        let mut head = [0; 16];
        for (place, byte) in head.iter_mut().zip(text.bytes()) {
            *place = byte;
        }
        Self { head: u128::from_be_bytes(head), text }
    }
}

impl Keys {
    pub(super) fn get(&self, key: &str) -> Option<&Versions> {
        match key.strip_prefix(TASK_PREFIX) {
            Some(step_id) => self.results.get(step_id),
            None => self.others.get(key),
        }
    }

    /// Keeps it as the next version of a key.
    pub(super) fn keep(&mut self, key: &str, next: Kept) -> &Kept {
        match key.strip_prefix(TASK_PREFIX) {
            Some(step_id) => self.keep_result(Arc::from(step_id), next),
            None => keep(&mut self.others, Arc::from(key), next),
        }
    }

    pub(super) fn keep_result(&mut self, step_id: Arc<str>, next: Kept) -> &Kept {
        keep(&mut self.results, step_id, next)
    }

    /// Deletes a version, or all; answers whether there was something to delete.
    pub(super) fn delete(&mut self, key: &str, version: Option<u64>) -> bool {
        let (keys, key) = match key.strip_prefix(TASK_PREFIX) {
            Some(step_id) => (&mut self.results, step_id),
            None => (&mut self.others, key),
        };
        let deleted = keys.get_mut(key).and_then(|versions| versions.delete(version));
        if deleted == Some(false) {
            keys.remove(key);
        }
        deleted.is_some()
    }

    /// Deletes the oldest versions of a key but for the last `keep`, at most `limit` of them; answers how many.
    pub(super) fn trim(&mut self, key: &str, keep: u64, limit: usize) -> usize {
        let versions = match key.strip_prefix(TASK_PREFIX) {
            Some(step_id) => self.results.get_mut(step_id),
            None => self.others.get_mut(key),
        };
        versions.map_or(0, |versions| versions.trim(keep, limit))
    }

    /// At most `limit` keys with this prefix behind `after`, in order.
    pub(super) fn page(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        let first = after.unwrap_or(prefix).max(prefix);
        let from = if after == Some(first) { Bound::Excluded(first) } else { Bound::Included(first) };
        // The results stand together in the order of all keys: behind `first` are all of them, some, or none.
        let results = match first.strip_prefix(TASK_PREFIX) {
            Some(step_id) => Some(from.map(|_| step_id)),
            None => (first < TASK_PREFIX).then_some(Bound::Unbounded),
        };
        let results = results.map(|from| self.results.range::<str, _>((from, Bound::Unbounded)));
        let results = results.into_iter().flatten().map(|(step_id, _)| task_key(&step_id.text));
        let others =
            self.others.range::<str, _>((from, Bound::Unbounded)).map(|(key, _)| key.text.to_string());
        let mut page: Vec<String> = results.take_while(|key| key.starts_with(prefix)).take(limit).collect();
        page.extend(others.take_while(|key| key.starts_with(prefix)).take(limit));
        page.sort_unstable();
        page.truncate(limit);
        page
    }
}

fn keep(keys: &mut BTreeMap<Key, Versions>, key: Arc<str>, next: Kept) -> &Kept {
    let versions = match keys.entry(key.into()) {
        Entry::Vacant(place) => place.insert(Versions::new(next)),
        Entry::Occupied(versions) => {
            let versions = versions.into_mut();
            versions.push(next);
            versions
        }
    };
    &versions.latest
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.text
    }
}

/// The versions of a key, of which there is one at least. Most keys have no other, so the latest needs no list.
#[derive(Debug)]
pub(super) struct Versions {
    /// The largest number that there ever was.
    last: u64,
    /// In a box: it would move with each key that comes between others.
    latest: Box<Kept>,
    /// Those before it, in ascending order.
    earlier: Vec<Kept>,
}

/// An artifact without what its place says already.
#[derive(Debug)]
pub(super) struct Kept {
    id: Uuid,
    version: u64,
    created_at: SystemTime,
    run_id: Option<RunId>,
    content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    /// The result of a step, as it was returned: its artifact is made when it is read. The step's place, and the generation of
    /// its run, in as little room as one number takes.
    Result(u32, u32, Output),
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
    /// The step, its id, and the generation of its run.
    Step(usize, Arc<str>, u32),
    Free(Map<String, Value>),
}

impl Kept {
    /// Of a version that is not known yet.
    pub(super) fn new(id: Uuid, created_at: SystemTime, run_id: Option<RunId>, content: Content) -> Self {
        Self { id, version: 0, created_at, run_id, content }
    }

    pub(super) fn to_artifact(&self, project: &Project, key: &str) -> Artifact {
        let (artifact_type, meta, data) = match &self.content {
            Content::Result(step, generation, output) => {
                let step_id = key.strip_prefix(TASK_PREFIX).unwrap_or(key);
                (task_result(), step_meta(*step as usize, step_id, *generation), output.to_data())
            }
            Content::Other(other) => {
                let meta = match &other.meta {
                    Meta::Step(step, step_id, generation) => step_meta(*step, step_id, *generation),
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
    /// Those of a new key.
    pub(super) fn new(mut first: Kept) -> Self {
        first.version = 1;
        Self { last: 1, latest: Box::new(first), earlier: Vec::new() }
    }

    /// Takes it as the next version.
    pub(super) fn push(&mut self, mut next: Kept) {
        self.last += 1;
        next.version = self.last;
        self.earlier.push(std::mem::replace(&mut *self.latest, next));
    }

    /// A version, or the latest.
    pub(super) fn get(&self, version: Option<u64>) -> Option<&Kept> {
        match version {
            Some(version) if version != self.latest.version => self.earlier.get(self.place(version)?),
            _ => Some(&*self.latest),
        }
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.earlier.iter().chain([&*self.latest]).map(|kept| kept.version)
    }

    /// Deletes a version, or all. `None`, if there is no such version; else whether there are others left.
    pub(super) fn delete(&mut self, version: Option<u64>) -> Option<bool> {
        let Some(version) = version else { return Some(false) };
        if version != self.latest.version {
            let place = self.place(version)?;
            self.earlier.remove(place);
        } else if let Some(before) = self.earlier.pop() {
            *self.latest = before;
        } else {
            return Some(false);
        }
        Some(true)
    }

    /// Deletes the oldest but for the last `keep`, at most `limit` of them; answers how many.
    fn trim(&mut self, keep: u64, limit: usize) -> usize {
        let keep = usize::try_from(keep).unwrap_or(usize::MAX).max(1);
        let old = (self.earlier.len() + 1).saturating_sub(keep).min(limit);
        self.earlier.drain(..old);
        old
    }

    fn place(&self, version: u64) -> Option<usize> {
        self.earlier.binary_search_by_key(&version, |kept| kept.version).ok()
    }
}
