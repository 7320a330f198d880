//! What is written, one after another, and in batches where a store waits for a disk.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Message};

use super::commit::{Commit, Committed};
use super::error::{MemoryError, StoreError};
use super::messages::{Delete, Put, RecordBreaker};
use super::retention::{Collected, Retention};
use super::signal::{KeptSignal, RecordSignal};
use super::store::Store;
use crate::artifact::Artifact;
use crate::event::Event;
use crate::id::to_micros;
use crate::isolate::catch;
use crate::json;
use crate::limits::{COLLECT_ROWS, MAX_BATCH, MAX_META_BYTES, MAX_PAGE};
use crate::run::Durability;

/// One write. Small, since it is moved from list to list.
pub(crate) enum Write {
    Commit(Box<Commit>),
    Put(Box<Put>),
    Delete(Box<Delete>),
    Breaker(Box<RecordBreaker>),
    Signal(Box<RecordSignal>),
    Collect(Box<Retention>),
}

/// What became of it.
pub(crate) enum Written {
    Committed(Vec<Event>),
    Put(Box<Artifact>),
    Deleted(bool),
    /// In boxes, since most are commits, and are moved from hand to hand.
    Signal(Box<(KeptSignal, Vec<Event>)>),
    Collected(Box<Collected>),
}

pub(crate) type WriteResult = Result<Written, MemoryError>;

/// The events to publish of a write.
pub(crate) fn take_events(result: &mut WriteResult) -> Vec<Event> {
    match result {
        Ok(Written::Committed(events)) => std::mem::take(events),
        Ok(Written::Signal(signal)) => std::mem::take(&mut signal.1),
        _ => Vec::new(),
    }
}

impl Write {
    pub(crate) fn durability(&self) -> Option<Durability> {
        match self {
            Self::Commit(commit) => commit.durability,
            // What is removed once more after a power loss was not lost.
            Self::Collect(_) => Some(Durability::Relaxed),
            _ => None,
        }
    }

    /// Whether it stores nothing that anybody asked for, and so need not be flushed.
    pub(crate) fn is_housekeeping(&self) -> bool {
        matches!(self, Self::Collect(_))
    }

    fn into_commit(self) -> Result<Box<Commit>, Self> {
        match self {
            Self::Commit(commit) => Ok(commit),
            other => Err(other),
        }
    }

    fn apply(self, store: &mut dyn Store, at: SystemTime) -> WriteResult {
        match self {
            Self::Commit(commit) => store.commit(commit, at).map(Written::Committed),
            Self::Put(put) => merge_meta(*put, store)
                .and_then(|put| store.put(put, at))
                .map(|artifact| Written::Put(Box::new(artifact))),
            Self::Delete(delete) => {
                store.delete(&delete.project, &delete.key, delete.version).map(Written::Deleted)
            }
            Self::Breaker(change) => store.record_breaker(*change, at).map(Written::Committed),
            Self::Signal(signal) => {
                check_signal(&signal, store)?;
                store.record_signal(*signal, at).map(|signal| Written::Signal(Box::new(signal)))
            }
            Self::Collect(retention) => {
                let collected = store.collect(&retention, at, COLLECT_ROWS);
                collected.map(|collected| Written::Collected(Box::new(collected)))
            }
        }
    }
}

/// A put's meta goes over that of the version before.
fn merge_meta(mut put: Put, store: &dyn Store) -> Result<Put, MemoryError> {
    let before = store.artifact(&put.project, &put.key, None)?;
    let mut meta = before.map(|artifact| artifact.meta).unwrap_or_default();
    meta.append(&mut put.meta);
    put.meta = meta;
    let bytes = json::size(&put.meta);
    if bytes > MAX_META_BYTES { Err(MemoryError::MetaTooLarge { key: put.key, bytes }) } else { Ok(put) }
}

/// A run that is not over may be sent a signal, if it does not keep too many. One that is not known is the store's to refuse.
fn check_signal(signal: &RecordSignal, store: &dyn Store) -> Result<(), MemoryError> {
    let (bytes, run_id) = (signal.check()?, &signal.run_id);
    if let Some(record) = store.run(run_id)?.filter(|record| record.state.is_final()) {
        return Err(MemoryError::RunOver { run_id: run_id.clone(), state: record.state });
    }
    store.signal_usage(run_id)?.check(run_id, bytes)
}

/// What became of a batch.
pub(crate) struct Batch {
    pub(crate) at: SystemTime,
    /// The events to publish, of all writes: in one list, so that the actor's thread need not put them together.
    pub(crate) events: Vec<Event>,
    /// One for each write, without its events; or why it is unknown what became of any.
    pub(crate) results: Result<Vec<WriteResult>, StoreError>,
}

/// Stores all writes together. A write that is refused leaves the others alone; a store that fails leaves all in doubt.
pub(crate) fn write_batch(
    store: &mut dyn Store,
    writes: Vec<Write>,
    durability: Durability,
    now: SystemTime,
) -> Batch {
    let at = to_micros(now);
    let mut results = guard(|| {
        if writes.is_empty() {
            // Only what was stored before is to be flushed.
            return store.flush().map(|()| Vec::new());
        }
        store.begin(durability)?;
        let mut results = Vec::with_capacity(writes.len());
        let mut writes = writes.into_iter().peekable();
        loop {
            // Commits that have come together are stored together.
            let mut commits = std::iter::from_fn(|| writes.next_if_map(Write::into_commit));
            let stored = store.commit_all(&mut commits, at)?;
            results.extend(stored.into_iter().map(|result| result.map(Written::Committed)));
            let Some(other) = writes.next() else { break };
            match other.apply(store, at) {
                Err(MemoryError::Store(error)) => return Err(error),
                result => results.push(result),
            }
        }
        store.end()?;
        Ok(results)
    });
    let mut events = Vec::new();
    if let Ok(results) = &mut results {
        // Room for the two events of a step.
        events.reserve(2 * results.len());
        for result in results {
            events.append(&mut take_events(result));
        }
    }
    Batch { at, events, results }
}

/// The same for one write.
pub(crate) fn write_one(store: &mut dyn Store, write: Write, now: SystemTime) -> (SystemTime, WriteResult) {
    let at = to_micros(now);
    let durability = write.durability().unwrap_or_else(|| store.durability());
    let result = guard(|| {
        store.begin(durability)?;
        let result = write.apply(store, at);
        match &result {
            // In doubt already.
            Err(MemoryError::Store(_)) => {}
            _ => store.end()?,
        }
        result
    });
    (at, result)
}

/// After a failure: reopens the store, and reads the events that turn out to be stored although nobody was told.
pub(crate) fn recover(store: &mut dyn Store, published: u64) -> Result<Vec<Event>, StoreError> {
    let recovered = guard(|| {
        store.reopen()?;
        let mut found: Vec<Event> = Vec::new();
        loop {
            let after = found.last().and_then(Event::seq).unwrap_or(published);
            let mut page = store.events(after, MAX_PAGE)?;
            if page.is_empty() {
                return Ok(found);
            }
            found.append(&mut page);
        }
    });
    recovered.map_err(|error| match error {
        MemoryError::Store(error) => error,
        other => StoreError::new(other),
    })
}

/// Calls the store; a panic in it is a failure like any other.
pub(crate) fn guard<T, E: From<StoreError>>(call: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch(call).unwrap_or_else(|message| {
        log::error!(target: "lunacore::memory", "the store panicked: {message}");
        Err(StoreError::new(format!("the store panicked: {message}")).into())
    })
}

/// Whoever waits for a write.
pub(crate) enum Waiter {
    Commit(Option<OneshotSender<Result<Committed, MemoryError>>>),
    Put(Option<OneshotSender<Result<Artifact, MemoryError>>>),
    Delete(Option<OneshotSender<Result<bool, MemoryError>>>),
    Signal(Option<OneshotSender<Result<KeptSignal, MemoryError>>>),
    Collect(Option<OneshotSender<Result<Collected, MemoryError>>>),
}

impl Waiter {
    pub(crate) fn answer(self, result: WriteResult, at: SystemTime) {
        match self {
            Self::Commit(waiter) => reply(waiter, Queueable::of(result, at)),
            Self::Put(waiter) => reply(waiter, Queueable::of(result, at)),
            Self::Delete(waiter) => reply(waiter, Queueable::of(result, at)),
            Self::Signal(waiter) => reply(waiter, Queueable::of(result, at)),
            Self::Collect(waiter) => reply(waiter, Queueable::of(result, at)),
        }
    }
}

/// Whoever asked may have gone; what was asked for is done all the same.
fn reply<T>(waiter: Option<OneshotSender<T>>, answer: T) {
    if let Some(waiter) = waiter {
        let _ = waiter.send(answer);
    }
}

/// Writes that wait for the next batch, in their order. Shared by the actor and its answers.
#[derive(Clone, Default)]
pub(crate) struct Queue(Arc<Mutex<VecDeque<(Write, Waiter)>>>);

impl Queue {
    fn push(&self, write: Write, waiter: Waiter) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back((write, waiter));
    }

    /// The first of those that wait, as many as one batch may hold. What collects is a batch of its own: if it fails, no commit
    /// fails with it, and no event goes before it was published.
    pub(crate) fn take_batch(&self) -> (Vec<Write>, Vec<Waiter>) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others = queue.iter().take(MAX_BATCH).take_while(|(write, _)| !write.is_housekeeping()).count();
        let count = others.max(1).min(queue.len());
        queue.drain(..count).unzip()
    }
}

/// The answer to a write: now, or when its batch is stored.
pub struct Answer<T>(When<T>);

enum When<T> {
    Now(T),
    Queued(Queue, Write),
}

impl<T> Answer<T> {
    pub(crate) fn now(answer: T) -> Self {
        Self(When::Now(answer))
    }

    pub(crate) fn queued(queue: Queue, write: Write) -> Self {
        Self(When::Queued(queue, write))
    }
}

/// What a write is answered with.
pub(crate) trait Queueable: Sized {
    fn waiter(sender: Option<OneshotSender<Self>>) -> Waiter;

    /// Of the result of a write of its own kind.
    fn of(result: WriteResult, at: SystemTime) -> Self;
}

impl Queueable for Result<Committed, MemoryError> {
    fn waiter(sender: Option<OneshotSender<Self>>) -> Waiter {
        Waiter::Commit(sender)
    }

    fn of(result: WriteResult, at: SystemTime) -> Self {
        result.map(|_| Committed::new(at))
    }
}

impl Queueable for Result<Artifact, MemoryError> {
    fn waiter(sender: Option<OneshotSender<Self>>) -> Waiter {
        Waiter::Put(sender)
    }

    fn of(result: WriteResult, _: SystemTime) -> Self {
        match result? {
            Written::Put(artifact) => Ok(*artifact),
            _ => Err(MemoryError::Stopped),
        }
    }
}

impl Queueable for Result<bool, MemoryError> {
    fn waiter(sender: Option<OneshotSender<Self>>) -> Waiter {
        Waiter::Delete(sender)
    }

    fn of(result: WriteResult, _: SystemTime) -> Self {
        Ok(matches!(result?, Written::Deleted(true)))
    }
}

impl Queueable for Result<KeptSignal, MemoryError> {
    fn waiter(sender: Option<OneshotSender<Self>>) -> Waiter {
        Waiter::Signal(sender)
    }

    fn of(result: WriteResult, _: SystemTime) -> Self {
        match result? {
            Written::Signal(signal) => Ok(signal.0),
            _ => Err(MemoryError::Stopped),
        }
    }
}

impl Queueable for Result<Collected, MemoryError> {
    fn waiter(sender: Option<OneshotSender<Self>>) -> Waiter {
        Waiter::Collect(sender)
    }

    fn of(result: WriteResult, _: SystemTime) -> Self {
        match result? {
            Written::Collected(collected) => Ok(*collected),
            _ => Err(MemoryError::Stopped),
        }
    }
}

/// The sender of the answer itself goes into the queue: a commit costs no second channel.
#[allow(private_bounds, reason = "only this folder makes answers")]
impl<A: Actor, M: Message<Result = T>, T: Queueable + 'static> MessageResponse<A, M> for Answer<T> {
    fn handle(self, _: &mut A::Context, sender: Option<OneshotSender<T>>) {
        match self.0 {
            When::Now(answer) => reply(sender, answer),
            When::Queued(queue, write) => queue.push(write, T::waiter(sender)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A failure to collect is nobody else's.
    #[test]
    fn what_collects_is_a_batch_of_its_own() {
        let queue = Queue::default();
        let put = || Write::Put(Box::new(Put::new("k", "x")));
        let collect = || Write::Collect(Box::default());
        for write in [put(), put(), collect(), collect(), put()] {
            queue.push(write, Waiter::Put(None));
        }
        let batches = std::iter::repeat_with(|| queue.take_batch().0).take_while(|batch| !batch.is_empty());
        let sizes: Vec<(usize, bool)> =
            batches.map(|batch| (batch.len(), batch.iter().any(Write::is_housekeeping))).collect();
        assert_eq!(sizes, [(2, false), (1, true), (1, true), (1, false)]);
    }
}
