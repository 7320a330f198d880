use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::artifact::Artifact;
use crate::event::Event;
use crate::memory::{Commit, MemoryError, Put, Reader, Store, StoreError};
use crate::plan::{Output, PlanRecord};
use crate::project::Project;
use crate::run::{Durability, RunId, RunRecord};

/// A store with several handles. One memory at a time may have one; when its actors are gone, the next gets another,
/// and finds what the first had stored.
#[derive(Clone)]
pub struct SharedStore(Arc<Mutex<Box<dyn Store>>>);

impl SharedStore {
    /// Shares this store.
    #[must_use]
    pub fn new(store: impl Store) -> Self {
        Self(Arc::new(Mutex::new(Box::new(store))))
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Store>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for SharedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedStore").finish_non_exhaustive()
    }
}

impl Store for SharedStore {
    fn begin(&mut self, durability: Durability) -> Result<(), StoreError> {
        self.lock().begin(durability)
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.lock().end()
    }

    fn commit(&mut self, commit: Commit, at: SystemTime) -> Result<Vec<Event>, MemoryError> {
        self.lock().commit(commit, at)
    }

    fn put(&mut self, put: Put, at: SystemTime) -> Result<Artifact, MemoryError> {
        self.lock().put(put, at)
    }

    fn delete(&mut self, project: &Project, key: &str, version: Option<u64>) -> Result<bool, MemoryError> {
        self.lock().delete(project, key, version)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.lock().flush()
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.lock().reopen()
    }

    fn durability(&self) -> Durability {
        self.lock().durability()
    }

    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        self.lock().reader()
    }
}

impl Reader for SharedStore {
    fn last_seq(&self) -> Result<u64, StoreError> {
        self.lock().last_seq()
    }

    fn artifact(
        &self,
        project: &Project,
        key: &str,
        version: Option<u64>,
    ) -> Result<Option<Artifact>, StoreError> {
        self.lock().artifact(project, key, version)
    }

    fn versions(&self, project: &Project, key: &str) -> Result<Vec<u64>, StoreError> {
        self.lock().versions(project, key)
    }

    fn keys(
        &self,
        project: &Project,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        self.lock().keys(project, prefix, after, limit)
    }

    fn run(&self, run_id: &RunId) -> Result<Option<RunRecord>, StoreError> {
        self.lock().run(run_id)
    }

    fn plan(&self, run_id: &RunId) -> Result<Option<PlanRecord>, StoreError> {
        self.lock().plan(run_id)
    }

    fn runs(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        self.lock().runs(after, limit)
    }

    fn unfinished(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        self.lock().unfinished(after, limit)
    }

    fn outputs(&self, run_id: &RunId) -> Result<Option<Vec<Output>>, StoreError> {
        self.lock().outputs(run_id)
    }

    fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError> {
        self.lock().events(after, limit)
    }

    fn run_events(&self, run_id: &RunId, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError> {
        self.lock().run_events(run_id, after, limit)
    }
}
