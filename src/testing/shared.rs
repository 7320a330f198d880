use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::artifact::Artifact;
use crate::event::Event;
use crate::memory::{
    Collected, Commit, KeptSignal, MemoryError, Put, Reader, RecordBreaker, RecordSignal, Retention, Store,
    StoreError, delegate_reader,
};
use crate::project::Project;
use crate::run::Durability;

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

    fn commit(&mut self, commit: Box<Commit>, at: SystemTime) -> Result<Vec<Event>, MemoryError> {
        self.lock().commit(commit, at)
    }

    fn put(&mut self, put: Put, at: SystemTime) -> Result<Artifact, MemoryError> {
        self.lock().put(put, at)
    }

    fn delete(&mut self, project: &Project, key: &str, version: Option<u64>) -> Result<bool, MemoryError> {
        self.lock().delete(project, key, version)
    }

    fn record_breaker(&mut self, change: RecordBreaker, at: SystemTime) -> Result<Vec<Event>, MemoryError> {
        self.lock().record_breaker(change, at)
    }

    fn record_signal(
        &mut self,
        signal: RecordSignal,
        at: SystemTime,
    ) -> Result<(KeptSignal, Vec<Event>), MemoryError> {
        self.lock().record_signal(signal, at)
    }

    fn collect(
        &mut self,
        retention: &Retention,
        now: SystemTime,
        limit: usize,
    ) -> Result<Collected, MemoryError> {
        self.lock().collect(retention, now, limit)
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

delegate_reader! { SharedStore => |this| this.lock() }
