use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use crate::artifact::Artifact;
use crate::event::Event;
use crate::memory::{
    Collected, Commit, KeptSignal, MemoryError, Put, Reader, RecordBreaker, RecordSignal, Retention, Store,
    StoreError, delegate_reader,
};
use crate::project::Project;
use crate::run::Durability;

/// How a [`FaultyStore`] fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The commit gives an error and is not stored; then all is well again.
    Fail,
    /// The commit gives an error although it is stored; then all is well again.
    FailAfter,
    /// The commit panics and is not stored; then all is well again.
    Panic,
    /// The process dies before the commit is stored: nothing works any more.
    Die,
    /// The process dies when the commit is stored, and before anybody hears of it.
    DieAfter,
}

/// A store that fails at a chosen commit. A signal that is kept for a run counts as one, and so does each batch that
/// [collects](Store::collect).
///
/// Once it has died, its [readers](Store::reader) fail like itself: nobody of that process sees what is stored. Whoever is
/// to be the next process opens the store that it was given.
pub struct FaultyStore {
    inner: Box<dyn Store>,
    fault: Fault,
    at: usize,
    commits: Arc<AtomicUsize>,
    /// The batch that is open is to fail when it ends.
    doomed: bool,
    dead: Arc<AtomicBool>,
}

/// A view of the store, which dies with it.
struct View {
    inner: Box<dyn Reader>,
    dead: Arc<AtomicBool>,
}

impl FaultyStore {
    /// Fails at the commit with this number, counted from 1; never, at 0.
    #[must_use]
    pub fn new(inner: impl Store, fault: Fault, at: usize) -> Self {
        let (commits, dead) = (Arc::default(), Arc::default());
        Self { inner: Box::new(inner), fault, at, commits, doomed: false, dead }
    }

    /// The number of commits that were asked for, to be read at any time.
    #[must_use]
    pub fn commits(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.commits)
    }

    fn alive(&self) -> Result<&dyn Store, StoreError> {
        check(&self.dead).map(|()| &*self.inner)
    }

    fn alive_mut(&mut self) -> Result<&mut dyn Store, StoreError> {
        check(&self.dead).map(|()| &mut *self.inner)
    }

    /// Counts a write, and fails if its turn has come.
    #[allow(clippy::panic, reason = "this is what it was asked for")]
    fn strike<T>(
        &mut self,
        write: impl FnOnce(&mut dyn Store) -> Result<T, MemoryError>,
    ) -> Result<T, MemoryError> {
        self.alive()?;
        if self.commits.fetch_add(1, Ordering::SeqCst) + 1 != self.at {
            return write(&mut *self.inner);
        }
        match self.fault {
            Fault::Fail => Err(broken().into()),
            Fault::Die => {
                self.die();
                Err(broken().into())
            }
            Fault::Panic => panic!("the disk is on fire"),
            Fault::FailAfter | Fault::DieAfter => {
                self.doomed = true;
                write(&mut *self.inner)
            }
        }
    }

    fn die(&self) {
        self.dead.store(true, Ordering::SeqCst);
    }
}

impl View {
    fn alive(&self) -> Result<&dyn Reader, StoreError> {
        check(&self.dead).map(|()| &*self.inner)
    }
}

fn check(dead: &AtomicBool) -> Result<(), StoreError> {
    if dead.load(Ordering::SeqCst) { Err(broken()) } else { Ok(()) }
}

fn broken() -> StoreError {
    StoreError::new("the disk is on fire")
}

impl std::fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyStore")
            .field("fault", &self.fault)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Store for FaultyStore {
    fn begin(&mut self, durability: Durability) -> Result<(), StoreError> {
        self.alive_mut()?.begin(durability)
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.alive_mut()?.end()?;
        if std::mem::take(&mut self.doomed) {
            if self.fault == Fault::DieAfter {
                self.die();
            }
            return Err(broken());
        }
        Ok(())
    }

    fn commit(&mut self, commit: Box<Commit>, at: SystemTime) -> Result<Vec<Event>, MemoryError> {
        self.strike(|inner| inner.commit(commit, at))
    }

    fn put(&mut self, put: Put, at: SystemTime) -> Result<Artifact, MemoryError> {
        self.alive_mut()?.put(put, at)
    }

    fn delete(&mut self, project: &Project, key: &str, version: Option<u64>) -> Result<bool, MemoryError> {
        self.alive_mut()?.delete(project, key, version)
    }

    fn record_breaker(&mut self, change: RecordBreaker, at: SystemTime) -> Result<Vec<Event>, MemoryError> {
        self.alive_mut()?.record_breaker(change, at)
    }

    fn record_signal(
        &mut self,
        signal: RecordSignal,
        at: SystemTime,
    ) -> Result<(KeptSignal, Vec<Event>), MemoryError> {
        self.strike(|store| store.record_signal(signal, at))
    }

    fn collect(
        &mut self,
        retention: &Retention,
        now: SystemTime,
        limit: usize,
    ) -> Result<Collected, MemoryError> {
        self.strike(|inner| inner.collect(retention, now, limit))
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.alive_mut()?.flush()
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.doomed = false;
        self.alive_mut()?.reopen()
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        let dead = Arc::clone(&self.dead);
        let view = self.alive()?.reader()?.map(|inner| Box::new(View { inner, dead }) as Box<dyn Reader>);
        Ok(view)
    }
}

delegate_reader! { FaultyStore, View => |this| this.alive()? }
