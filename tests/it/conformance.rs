//! Every store keeps what the trait promises; and one that does not is noticed.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use lunacore::testing::conformance as checks;
use lunacore::testing::{Fault, FaultyStore, SharedStore};
use lunacore::*;

store_conformance!(volatile, || {
    let store = SharedStore::new(VolatileStore::default());
    move || store.clone()
});

retention_conformance!(volatile_retention, || {
    let store = SharedStore::new(VolatileStore::default());
    move || store.clone()
});

// A wrapper that never fails must not be told from what it wraps.
store_conformance!(faulty, || {
    let store = SharedStore::new(VolatileStore::default());
    move || FaultyStore::new(store.clone(), Fault::Fail, 0)
});

retention_conformance!(faulty_retention, || {
    let store = SharedStore::new(VolatileStore::default());
    move || FaultyStore::new(store.clone(), Fault::Fail, 0)
});

#[cfg(feature = "sqlite")]
store_conformance!(sqlite, || {
    let dir = tempfile::tempdir().unwrap();
    move || lunacore::SqliteStore::open(dir.path().join("runs.db")).unwrap()
});

#[cfg(feature = "sqlite")]
retention_conformance!(sqlite_retention, || {
    let dir = tempfile::tempdir().unwrap();
    move || lunacore::SqliteStore::open(dir.path().join("runs.db")).unwrap()
});

// A store need not remove anything, nor do anything that the trait does for it.
store_conformance!(keeps_everything, || {
    let store = Plain::new(VolatileStore::default(), None);
    move || store.clone()
});

/// What is wrong with a store.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Defect {
    /// Of several commits together those behind one that is refused are lost.
    StopsAtARefusal,
    /// Several commits together are stored the last one first.
    Backwards,
    /// A run that was over once is removed, although it is tried again.
    RemovesWhatIsTriedAgain,
    /// Collecting takes all signals.
    LosesSignals,
    /// Collecting takes no heed of its limit.
    HasNoLimit,
    /// Collecting begins anew for another number of versions.
    BeginsAnew,
    /// A view goes on telling what it has read once.
    OldViews,
}

/// Another store with what the trait asks for, and nothing else that could be left out: so it keeps everything. Or with a defect.
#[derive(Clone)]
struct Plain {
    inner: SharedStore,
    defect: Option<Defect>,
    notes: Arc<Mutex<Notes>>,
}

#[derive(Default)]
struct Notes {
    over: HashSet<RunId>,
    removed: HashSet<RunId>,
    collected: bool,
    /// The number of versions that was asked for last, and how far that is.
    keep: Option<(u64, usize)>,
    read: HashMap<RunId, Option<Vec<Output>>>,
}

impl Plain {
    fn new(inner: impl Store, defect: Option<Defect>) -> Self {
        Self { inner: SharedStore::new(inner), defect, notes: Arc::default() }
    }

    fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    fn notes<T>(&self, take: impl FnOnce(&mut Notes) -> T) -> T {
        take(&mut self.notes.lock().unwrap())
    }

    fn is_removed(&self, run_id: &RunId) -> bool {
        self.notes(|notes| notes.removed.contains(run_id))
    }
}

impl Store for Plain {
    fn begin(&mut self, durability: Durability) -> Result<(), StoreError> {
        self.inner.begin(durability)
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.inner.end()
    }

    fn commit(&mut self, commit: Box<Commit>, at: SystemTime) -> Result<Vec<Event>, MemoryError> {
        if commit.update.state.is_final() {
            self.notes(|notes| notes.over.insert(commit.run_id.clone()));
        }
        self.inner.commit(commit, at)
    }

    fn commit_all(
        &mut self,
        commits: &mut dyn Iterator<Item = Box<Commit>>,
        at: SystemTime,
    ) -> Result<Vec<Result<Vec<Event>, MemoryError>>, StoreError> {
        let mut commits: Vec<_> = commits.collect();
        let backwards = self.has(Defect::Backwards);
        if backwards {
            commits.reverse();
        }
        let mut results = Vec::new();
        let mut refused = None;
        for commit in commits {
            let result = match &refused {
                Some(refused) if self.has(Defect::StopsAtARefusal) => Err(MemoryError::clone(refused)),
                _ => self.commit(commit, at),
            };
            refused = refused.or(result.as_ref().err().cloned());
            results.push(result);
        }
        if backwards {
            results.reverse();
        }
        Ok(results)
    }

    fn put(&mut self, put: Put, at: SystemTime) -> Result<Artifact, MemoryError> {
        self.inner.put(put, at)
    }

    fn delete(&mut self, project: &Project, key: &str, version: Option<u64>) -> Result<bool, MemoryError> {
        self.inner.delete(project, key, version)
    }

    fn record_breaker(&mut self, change: RecordBreaker, at: SystemTime) -> Result<Vec<Event>, MemoryError> {
        self.inner.record_breaker(change, at)
    }

    fn record_signal(
        &mut self,
        signal: RecordSignal,
        at: SystemTime,
    ) -> Result<(KeptSignal, Vec<Event>), MemoryError> {
        self.inner.record_signal(signal, at)
    }

    fn collect(
        &mut self,
        retention: &Retention,
        now: SystemTime,
        limit: usize,
    ) -> Result<Collected, MemoryError> {
        match self.defect {
            None | Some(Defect::StopsAtARefusal | Defect::Backwards) => Ok(Collected::default()),
            Some(Defect::RemovesWhatIsTriedAgain) => {
                self.notes(|notes| notes.removed.extend(notes.over.drain()));
                Ok(Collected::default())
            }
            Some(Defect::LosesSignals) => {
                self.notes(|notes| notes.collected = true);
                Ok(Collected::default())
            }
            Some(Defect::HasNoLimit) => self.inner.collect(retention, now, 1_000_000),
            Some(Defect::BeginsAnew) => {
                let keep = retention.keep_versions.unwrap_or_default();
                let rounds = self.notes(|notes| match &mut notes.keep {
                    Some((last, rounds)) if *last == keep => {
                        *rounds += 1;
                        *rounds
                    }
                    other => other.insert((keep, 0)).1,
                });
                let collected = self.inner.collect(retention, now, limit)?;
                Ok(Collected::new(collected.runs, collected.versions, collected.events, rounds < 100))
            }
            Some(Defect::OldViews) => self.inner.collect(retention, now, limit),
        }
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.inner.reopen()
    }

    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        if !self.has(Defect::OldViews) {
            return Ok(None);
        }
        Ok(Some(Box::new(self.clone())))
    }
}

/// Asks the inner store.
macro_rules! ask_inner {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {$(
        fn $name(&self, $($argument: $type),*) -> $answer {
            self.inner.$name($($argument),*)
        }
    )*};
}

impl Reader for Plain {
    ask_inner! {
        last_seq() -> Result<u64, StoreError>;
        artifact(project: &Project, key: &str, version: Option<u64>) -> Result<Option<Artifact>, StoreError>;
        versions(project: &Project, key: &str) -> Result<Vec<u64>, StoreError>;
        keys(project: &Project, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>, StoreError>;
        plan(run_id: &RunId) -> Result<Option<PlanRecord>, StoreError>;
        runs(after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError>;
        unfinished(after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError>;
        skipped(run_id: &RunId) -> Result<Vec<usize>, StoreError>;
        breakers() -> Result<Vec<BreakerRecord>, StoreError>;
        events(after: u64, limit: usize) -> Result<Vec<Event>, MemoryError>;
        run_events(run_id: &RunId, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError>;
    }

    fn run(&self, run_id: &RunId) -> Result<Option<RunRecord>, StoreError> {
        Ok(self.inner.run(run_id)?.filter(|_| !self.is_removed(run_id)))
    }

    fn outputs(&self, run_id: &RunId) -> Result<Option<Vec<Output>>, StoreError> {
        let outputs = self.inner.outputs(run_id)?;
        if self.has(Defect::OldViews) {
            return Ok(self.notes(|notes| notes.read.entry(run_id.clone()).or_insert(outputs).clone()));
        }
        Ok(outputs)
    }

    fn signals(&self, run_id: &RunId) -> Result<Vec<KeptSignal>, StoreError> {
        let lost = self.has(Defect::LosesSignals) && self.notes(|notes| notes.collected);
        if lost { Ok(Vec::new()) } else { self.inner.signals(run_id) }
    }
}

/// Asserts that the check fails for a store with this defect, and for none without.
macro_rules! noticed {
    ($($defect:ident by $check:ident;)*) => {$({
        let passes = |store: Plain| {
            catch_unwind(AssertUnwindSafe(|| checks::$check(move || store.clone()))).is_ok()
        };
        let defect = Defect::$defect;
        assert!(!passes(Plain::new(VolatileStore::default(), Some(defect))), "{defect:?} is not noticed");
        let store = SharedStore::new(VolatileStore::default());
        checks::$check(move || store.clone());
    })*};
}

#[test]
fn a_store_that_does_not_keep_what_it_promises_is_noticed() {
    noticed! {
        StopsAtARefusal by commits_that_come_together_are_as_one_by_one;
        Backwards by commits_that_come_together_are_as_one_by_one;
        RemovesWhatIsTriedAgain by what_is_tried_again_stays_whole;
        LosesSignals by what_is_not_over_stays_whole;
        LosesSignals by what_is_tried_again_stays_whole;
        HasNoLimit by a_batch_that_collects_keeps_to_its_limit;
        BeginsAnew by two_retentions_in_turns_come_to_their_ends;
        OldViews by a_view_follows_what_is_withdrawn;
        OldViews by a_view_follows_what_is_collected;
    }
}
