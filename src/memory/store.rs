use std::time::SystemTime;

use super::commit::Commit;
use super::error::{MemoryError, StoreError};
use super::messages::{Put, RecordBreaker};
use super::retention::{Collected, Retention};
use super::signal::{KeptSignal, RecordSignal, SignalUsage};
use crate::artifact::Artifact;
use crate::event::Event;
use crate::plan::{Output, PlanRecord};
use crate::project::Project;
use crate::resilience::BreakerRecord;
use crate::run::{Durability, RunId, RunRecord};

/// Where memory keeps things. One actor owns a store, so calls never overlap.
///
/// Names, keys, sizes and access rights are checked before a store is asked. `testing::store_conformance!` (feature
/// `testing`) checks a store of your own against everything that is promised here, but for what [`collect`](Self::collect) removes:
/// a store may keep everything. One that does not is checked by `testing::retention_conformance!` too.
///
/// # What an implementation promises
///
/// - **Atomic**: after [`end`](Self::end) all that was written since [`begin`](Self::begin) is readable, and still is
///   after a crash; if `end` fails, or is never reached, all of it or nothing is. Each single write is stored whole or, when it
///   is refused with an error that [wrote nothing](MemoryError::wrote_nothing), not at all, while the others of the batch go
///   on.
/// - **Numbered**: the events of the store's commits have the sequence numbers 1, 2, 3 … without a gap, in the order
///   of the commits. A commit that is refused uses none.
/// - **Generations**: what a [`Reopen`](super::Reopen) withdraws is gone from the outputs, and from nothing else: artifacts and
///   events, with the results in them, read as before.
/// - **Versioned**: an artifact's version is one more than the largest its key ever had; a key whose last version is
///   deleted starts anew at 1.
/// - **Unfinished runs stay**, whatever is [collected](Self::collect).
pub trait Store: Reader {
    /// Opens a batch, which is to be stored so well that what `durability` allows is all that a power loss may take. Every
    /// write comes between a `begin` and an [`end`](Self::end).
    ///
    /// # Errors
    /// The store failed.
    fn begin(&mut self, durability: Durability) -> Result<(), StoreError> {
        let _ = durability;
        Ok(())
    }

    /// Stores the batch. With [`Durability::Immediate`] that covers every batch before it, too.
    ///
    /// # Errors
    /// The store failed. Whether the batch is stored is unknown until [`reopen`](Self::reopen).
    fn end(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Stores all of `commit`, at the time `at`, and answers with its events as they are stored: numbered, in order. It comes in the
    /// box that it was sent in, since it is large.
    ///
    /// # Errors
    /// [`MemoryError::RunExists`] when it accepts a run whose id is known: nothing is written.
    /// [`MemoryError::Store`]: it is unknown whether it is stored.
    fn commit(&mut self, commit: Box<Commit>, at: SystemTime) -> Result<Vec<Event>, MemoryError>;

    /// Stores several commits, one after another, each as [`commit`](Self::commit) does, and answers what became of each. For
    /// stores to which many are cheaper together.
    ///
    /// # Errors
    /// The store failed, at any of them: it is unknown whether they are stored.
    fn commit_all(
        &mut self,
        commits: &mut dyn Iterator<Item = Box<Commit>>,
        at: SystemTime,
    ) -> Result<Vec<Result<Vec<Event>, MemoryError>>, StoreError> {
        let mut results = Vec::new();
        for commit in commits {
            match self.commit(commit, at) {
                Err(MemoryError::Store(error)) => return Err(error),
                result => results.push(result),
            }
        }
        Ok(results)
    }

    /// Stores one artifact outside a run, with its meta as given (memory has merged it already).
    ///
    /// # Errors
    /// The store failed; whether it is stored is unknown.
    fn put(&mut self, put: Put, at: SystemTime) -> Result<Artifact, MemoryError>;

    /// Deletes a version, or all; answers whether there was something to delete.
    ///
    /// # Errors
    /// The store failed; whether it is deleted is unknown.
    fn delete(&mut self, project: &Project, key: &str, version: Option<u64>) -> Result<bool, MemoryError>;

    /// Stores a change of a circuit breaker that belongs to no run, with its event, and answers with that as it is stored.
    ///
    /// # Errors
    /// The store failed; whether it is stored is unknown.
    fn record_breaker(&mut self, change: RecordBreaker, at: SystemTime) -> Result<Vec<Event>, MemoryError>;

    /// Keeps a signal for a run, and answers with it and with its event, as that is stored. The signal's number is that of the
    /// event. How many a run may keep, and how large they may be, was checked before.
    ///
    /// # Errors
    /// [`MemoryError::UnknownRun`]: nothing is written. The store failed: it is unknown whether it is stored.
    fn record_signal(
        &mut self,
        signal: RecordSignal,
        at: SystemTime,
    ) -> Result<(KeptSignal, Vec<Event>), MemoryError>;

    /// Removes some of what `retention` does not keep at the time `now`, as [`Retention`] says, and answers how much, and whether
    /// there may be more. It looks at `limit` rows, or whatever the store counts, at most, and each run and each version that it
    /// removes is one: the commits that come next wait for it.
    ///
    /// It is in a batch of its own, which stores nothing else. Calls follow each other until there is no more; a store may remember
    /// where it was. Between them may come writes, and calls by another retention: when there is no more, all that was there at the
    /// first call has been looked at. Events go from the front only, so that those that are kept have no gap, and a run only when
    /// all its events have gone. The default is a store that keeps everything.
    ///
    /// # Errors
    /// The store failed; whether anything was removed is unknown. What must stay is there either way.
    fn collect(
        &mut self,
        retention: &Retention,
        now: SystemTime,
        limit: usize,
    ) -> Result<Collected, MemoryError> {
        let _ = (retention, now, limit);
        Ok(Collected::default())
    }

    /// Makes everything that was stored with [`Durability::Relaxed`] survive a power loss too.
    ///
    /// # Errors
    /// The store failed.
    fn flush(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Called after a failure: lets go of whatever the failure may have broken, forgets a batch that was not ended, and
    /// goes by what is stored.
    ///
    /// # Errors
    /// The store is still unusable. It is called again before the next batch.
    fn reopen(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// How well a commit is stored that does not say.
    fn durability(&self) -> Durability {
        Durability::default()
    }

    /// Another view of the store, which reads what is stored while this one writes.
    ///
    /// A store that waits for a disk has one: it is then written and read on the blocking pool, several writes at a time.
    /// `None`, the default: calls return at once, and are made on the actor's own thread.
    ///
    /// # Errors
    /// The store failed.
    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        Ok(None)
    }
}

/// The reading half of a [`Store`].
pub trait Reader: Send + 'static {
    /// The sequence number of the last event that was committed; 0 before the first.
    ///
    /// # Errors
    /// The store failed.
    fn last_seq(&self) -> Result<u64, StoreError>;

    /// Reads a version, or the latest.
    ///
    /// # Errors
    /// The store failed.
    fn artifact(
        &self,
        project: &Project,
        key: &str,
        version: Option<u64>,
    ) -> Result<Option<Artifact>, StoreError>;

    /// Lists the versions of a key, ascending.
    ///
    /// # Errors
    /// The store failed.
    fn versions(&self, project: &Project, key: &str) -> Result<Vec<u64>, StoreError>;

    /// Lists at most `limit` keys that start with `prefix` and come behind `after`, in order.
    ///
    /// # Errors
    /// The store failed.
    fn keys(
        &self,
        project: &Project,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError>;

    /// Reads the record of a run.
    ///
    /// # Errors
    /// The store failed.
    fn run(&self, run_id: &RunId) -> Result<Option<RunRecord>, StoreError>;

    /// Reads the plan of a run.
    ///
    /// # Errors
    /// The store failed.
    fn plan(&self, run_id: &RunId) -> Result<Option<PlanRecord>, StoreError>;

    /// Lists at most `limit` runs in the order of their acceptance, from the one behind `after`. An `after` that is
    /// not known is taken as the end: an empty page.
    ///
    /// # Errors
    /// The store failed.
    fn runs(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError>;

    /// The same for the runs that are not in a final state, without looking at those that are.
    ///
    /// # Errors
    /// The store failed.
    fn unfinished(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError>;

    /// Reads the outputs that a run has stored so far, in step order, each as it was committed.
    ///
    /// # Errors
    /// The store failed.
    fn outputs(&self, run_id: &RunId) -> Result<Option<Vec<Output>>, StoreError>;

    /// Lists the places of the steps of a run whose outputs are null because they were skipped, in order.
    ///
    /// # Errors
    /// The store failed.
    fn skipped(&self, run_id: &RunId) -> Result<Vec<usize>, StoreError>;

    /// Reads the signals that are kept for a run, in the order of their numbers.
    ///
    /// # Errors
    /// The store failed.
    fn signals(&self, run_id: &RunId) -> Result<Vec<KeptSignal>, StoreError>;

    /// Tells how many signals are kept for a run, and how many bytes of JSON their payloads have: asked before each new one. The
    /// default reads them; a store that can tell without should.
    ///
    /// # Errors
    /// The store failed.
    fn signal_usage(&self, run_id: &RunId) -> Result<SignalUsage, StoreError> {
        Ok(SignalUsage::of(&self.signals(run_id)?))
    }

    /// Reads what is stored of circuit breakers, in the order of their names.
    ///
    /// # Errors
    /// The store failed.
    fn breakers(&self) -> Result<Vec<BreakerRecord>, StoreError>;

    /// Reads at most `limit` events behind `after`, in order, each as it was committed.
    ///
    /// # Errors
    /// [`MemoryError::HistoryGone`] when the next one is not kept any more, or the store failed.
    fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError>;

    /// The same for the events of one run; none for a run that is not known.
    ///
    /// # Errors
    /// [`MemoryError::HistoryGone`] when a part of them, behind `after`, is not kept any more, or the store failed.
    fn run_events(&self, run_id: &RunId, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError>;
}

/// Implements [`Reader`] for stores, and views of them, that pass every question on: `|this|` names where to.
#[cfg(any(test, feature = "sqlite", feature = "testing"))]
macro_rules! delegate_reader {
    ($($reader:ty),+ => |$this:ident| $inner:expr) => {$(
        impl $crate::memory::Reader for $reader {
            $crate::memory::delegate_reader! { @each |$this| $inner;
                last_seq() -> Result<u64, $crate::memory::StoreError>;
                artifact(
                    project: &$crate::project::Project, key: &str, version: Option<u64>
                ) -> Result<Option<$crate::artifact::Artifact>, $crate::memory::StoreError>;
                versions(
                    project: &$crate::project::Project, key: &str
                ) -> Result<Vec<u64>, $crate::memory::StoreError>;
                keys(
                    project: &$crate::project::Project, prefix: &str, after: Option<&str>, limit: usize
                ) -> Result<Vec<String>, $crate::memory::StoreError>;
                run(
                    run_id: &$crate::run::RunId
                ) -> Result<Option<$crate::run::RunRecord>, $crate::memory::StoreError>;
                plan(
                    run_id: &$crate::run::RunId
                ) -> Result<Option<$crate::plan::PlanRecord>, $crate::memory::StoreError>;
                runs(
                    after: Option<&$crate::run::RunId>, limit: usize
                ) -> Result<Vec<$crate::run::RunRecord>, $crate::memory::StoreError>;
                unfinished(
                    after: Option<&$crate::run::RunId>, limit: usize
                ) -> Result<Vec<$crate::run::RunRecord>, $crate::memory::StoreError>;
                outputs(
                    run_id: &$crate::run::RunId
                ) -> Result<Option<Vec<$crate::plan::Output>>, $crate::memory::StoreError>;
                skipped(run_id: &$crate::run::RunId) -> Result<Vec<usize>, $crate::memory::StoreError>;
                signals(
                    run_id: &$crate::run::RunId
                ) -> Result<Vec<$crate::memory::KeptSignal>, $crate::memory::StoreError>;
                signal_usage(
                    run_id: &$crate::run::RunId
                ) -> Result<$crate::memory::SignalUsage, $crate::memory::StoreError>;
                breakers() -> Result<Vec<$crate::resilience::BreakerRecord>, $crate::memory::StoreError>;
                events(
                    after: u64, limit: usize
                ) -> Result<Vec<$crate::event::Event>, $crate::memory::MemoryError>;
                run_events(
                    run_id: &$crate::run::RunId, after: u64, limit: usize
                ) -> Result<Vec<$crate::event::Event>, $crate::memory::MemoryError>;
            }
        }
    )+};
    (@each |$this:ident| $inner:expr; $($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {$(
        fn $name(&self, $($argument: $type),*) -> $answer {
            let $this = self;
            $inner.$name($($argument),*)
        }
    )*};
}
#[cfg(any(test, feature = "sqlite", feature = "testing"))]
pub(crate) use delegate_reader;
