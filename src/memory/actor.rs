use std::sync::Arc;
use std::time::SystemTime;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};

use super::access::{Access, AccessGuard, Operation, check_project, invalid_name};
use super::claims::Claims;
use super::commit::{Commit, Committed};
use super::error::{MemoryError, StoreError};
use super::messages::{Attach, Delete, Put, RecordBreaker};
use super::outlet::Outlet;
use super::read::Readers;
use super::retention::Retention;
use super::signal::{KeptSignal, RecordSignal};
use super::store::Store;
use super::stored::Stored;
use super::volatile::VolatileStore;
use super::write::{Answer, Batch, Queue, Queueable, Waiter, Write, guard, recover, take_events, write_one};
use crate::artifact::{Artifact, task_key};
use crate::clock::Clock;
use crate::event::Event;
use crate::id::{check_id, uuid_at};
use crate::json;
use crate::limits::{GAP_RETRY, MAILBOX, MAX_ARTIFACT_BYTES, READERS, RELAXED_WINDOW};
use crate::run::Durability;

/// The actor that owns a store: versioned artifacts, runs, and the sequence of events.
///
/// ```
/// use actix::prelude::*;
/// use lunacore::{Get, ProjectMemory, Put};
///
/// # actix::System::new().block_on(async {
/// let memory = ProjectMemory::in_memory().start();
/// memory.send(Put::new("report", "draft").meta("author", "ada")).await??;
/// memory.send(Put::new("report", "final")).await??;
///
/// let latest = memory.send(Get::latest("report")).await??.expect("stored above");
/// assert_eq!((latest.version, latest.text()), (2, Some("final")));
/// assert_eq!(latest.meta["author"], "ada");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// # Stores that wait for a disk
///
/// are written on the blocking pool. While one batch is being stored, what comes in makes the next: so a flush is shared by
/// all plans that wait for one. Reads go through views of their own and do not wait for writes; they see what was
/// acknowledged before they were asked.
///
/// When a batch fails, what became of it is unknown. Everyone who waited for it gets [`MemoryError::Store`], the store
/// is reopened, and whatever turns out to be stored is published. It is not tried again.
pub struct ProjectMemory {
    /// Views of a store that waits for a disk; `None` where the store answers at once. Before the store, so that they are
    /// closed before it is: who closes a SQLite file last moves everything into it.
    pub(super) readers: Option<Arc<Readers>>,
    /// Away while a batch is being written on the blocking pool.
    pub(super) store: Option<Box<dyn Store>>,
    pub(super) access: AccessGuard,
    pub(super) claims: Claims,
    clock: Clock,
    outlet: Outlet,
    gap_timer: bool,
    queue: Queue,
    /// A batch is being written, or is about to be.
    writing: bool,
    /// Something stored with `Relaxed` is not flushed yet.
    unflushed: bool,
    /// A timer runs, at the end of which it is.
    flush_timer: bool,
    flush_due: bool,
    /// The last batch failed, and the store could not be reopened.
    broken: bool,
    /// What is kept, where not everything is.
    pub(super) retention: Retention,
}

impl ProjectMemory {
    /// Memory that lives and dies with the process; see [`VolatileStore`].
    #[must_use]
    pub fn in_memory() -> Self {
        Self::with_store(VolatileStore::default())
    }

    /// Memory over a store of your own.
    pub fn with_store(store: impl Store) -> Self {
        Self {
            store: Some(Box::new(store)),
            readers: None,
            access: AccessGuard::default(),
            claims: Claims::default(),
            clock: Clock::default(),
            outlet: Outlet::new(uuid_at(SystemTime::now())),
            gap_timer: false,
            queue: Queue::default(),
            writing: false,
            unflushed: false,
            flush_timer: false,
            flush_due: false,
            broken: false,
            retention: Retention::default(),
        }
    }

    /// Asks this function before every access to an artifact, and to the outputs of a run. Where it says no, or panics, the answer is
    /// [`MemoryError::AccessDenied`]; a plan that may not write the artifacts of its steps is not accepted.
    #[must_use]
    pub fn access_check(mut self, may: impl Fn(&Access) -> bool + Send + 'static) -> Self {
        self.access = AccessGuard::new(may);
        self
    }

    /// Takes the time of what is stored from this clock; by default it is that of the system.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Checks what a commit writes. The results of steps are checked once, when their run is accepted.
    fn check_commit(&self, commit: &Commit) -> Result<(), MemoryError> {
        if let Some(new) = &commit.accept {
            check_project(&commit.project)?;
            for step_id in new.plan.step_ids().filter(|_| self.access.is_guarded()) {
                self.access.ask(&commit.project, &task_key(step_id), Operation::Write)?;
            }
        }
        for artifact in &commit.artifacts {
            self.access.check(&commit.project, &artifact.key, Operation::Write)?;
        }
        Ok(())
    }

    fn check_put(&self, put: &Put) -> Result<(), MemoryError> {
        self.access.check(&put.project, &put.key, Operation::Write)?;
        check_id(&put.artifact_type)
            .map_err(|fault| invalid_name("artifact type", &put.artifact_type, fault))?;
        let bytes = put.data.len();
        if bytes > MAX_ARTIFACT_BYTES {
            return Err(MemoryError::DataTooLarge { key: put.key.clone(), bytes });
        }
        if json::any_too_deep(&put.meta) {
            return Err(MemoryError::MetaTooDeep { key: put.key.clone() });
        }
        Ok(())
    }

    /// Keeps account of who runs what.
    fn claim(&mut self, commit: &Commit) -> Result<(), MemoryError> {
        if let Some(new) = &commit.accept
            && !self.claims.grant(&commit.run_id, &new.claim)
        {
            return Err(MemoryError::RunHeld { run_id: commit.run_id.clone() });
        }
        Ok(())
    }

    /// Writes at once where the store answers at once, or else with the next batch.
    pub(super) fn write<T: Queueable>(&mut self, write: Write, ctx: &mut Context<Self>) -> Answer<T> {
        if self.readers.is_some() {
            if !std::mem::replace(&mut self.writing, true) {
                // Polled when the mailbox is empty: whatever else is there already joins the batch.
                ctx.spawn(async {}.into_actor(self).map(|(), this, ctx| this.write_next(ctx)));
            }
            return Answer::queued(self.queue.clone(), write);
        }
        let Some(store) = &mut self.store else {
            return Answer::now(T::of(Err(gone().into()), self.clock.now()));
        };
        let (at, mut result) = write_one(&mut **store, write, self.clock.now());
        let mut events = take_events(&mut result);
        if let Err(MemoryError::Store(error)) = &result {
            log::error!(target: "lunacore::memory", "a write to the store failed: {error}");
            events = recover(&mut **store, self.outlet.last_seq()).unwrap_or_default();
        }
        self.publish(events, ctx);
        Answer::now(T::of(result, at))
    }

    /// Starts the next batch, if there is anything to write.
    fn write_next(&mut self, ctx: &mut Context<Self>) {
        let (writes, waiters) = self.queue.take_batch();
        let flush = std::mem::take(&mut self.flush_due) && self.unflushed;
        self.writing = !writes.is_empty() || flush;
        let Some(mut store) = self.store.take_if(|_| self.writing) else { return };
        let (broken, published, default) = (self.broken, self.outlet.last_seq(), store.durability());
        let asked = writes.iter().map(|write| write.durability().unwrap_or(default)).max();
        let durability = if flush { Durability::Immediate } else { asked.unwrap_or(default) };
        let counts = writes.is_empty() || !writes.iter().all(Write::is_housekeeping);
        let clock = self.clock.clone();
        let job = tokio::task::spawn_blocking(move || {
            let stored = Stored::write(&mut *store, writes, durability, (broken, published), &clock);
            (store, stored)
        });
        ctx.spawn(job.into_actor(self).map(move |joined, this, ctx| match joined {
            Ok((store, stored)) => {
                this.store = Some(store);
                this.stored(stored, waiters, (durability, counts), ctx);
            }
            // Only when the runtime shuts down: a panic was caught. Whoever waits is told that memory has stopped.
            Err(_) => drop(waiters),
        }));
    }

    /// Publishes what a batch stored, starts the next, and answers everyone who waited.
    fn stored(
        &mut self,
        stored: Stored,
        waiters: Vec<Waiter>,
        (durability, counts): (Durability, bool),
        ctx: &mut Context<Self>,
    ) {
        let Stored { batch: Batch { at, events, results }, recovered, broken } = stored;
        self.broken = broken;
        self.publish(recovered, ctx);
        self.publish(events, ctx);
        let waited = waiters.len();
        // One flush covers everything before it. But a batch of which all was refused may have flushed nothing.
        if results.as_ref().is_ok_and(|results| waited == 0 || results.iter().any(Result::is_ok)) {
            self.unflushed = durability == Durability::Relaxed && (counts || self.unflushed);
        }
        // A store that cannot be reopened is not asked for a flush again and again: the next write reopens it.
        if !self.broken {
            self.flush_in_time(ctx);
        }
        // Answering many takes a while, in which the disk need not be idle.
        self.write_next(ctx);
        match results {
            Ok(results) => {
                for (waiter, result) in waiters.into_iter().zip(results) {
                    waiter.answer(result, at);
                }
            }
            Err(error) => {
                log::error!(target: "lunacore::memory", writes = waited; "a write to the store failed: {error}");
                for waiter in waiters {
                    waiter.answer(Err(error.clone().into()), at);
                }
            }
        }
    }

    /// One timer, however often flushed and unflushed writes take turns.
    fn flush_in_time(&mut self, ctx: &mut Context<Self>) {
        if self.unflushed && !std::mem::replace(&mut self.flush_timer, true) {
            ctx.run_later(RELAXED_WINDOW, |this, ctx| {
                this.flush_timer = false;
                this.flush_due = true;
                if !this.writing {
                    this.write_next(ctx);
                }
            });
        }
    }

    fn publish(&mut self, events: Vec<Event>, ctx: &mut Context<Self>) {
        if self.outlet.publish(events) {
            self.arm_gap_timer(ctx);
        }
    }

    /// One timer for all buses: what no later commit tells them of, it does.
    fn arm_gap_timer(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.gap_timer, true) {
            ctx.run_later(GAP_RETRY, |this, ctx| {
                this.gap_timer = false;
                if this.outlet.tell_gaps() {
                    this.arm_gap_timer(ctx);
                }
            });
        }
    }
}

fn gone() -> StoreError {
    StoreError::new("the store is gone")
}

impl Actor for ProjectMemory {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let Some(store) = &self.store else { return };
        match guard(|| store.last_seq()) {
            Ok(last_seq) => self.outlet.begin_behind(last_seq),
            Err(error) => log::error!(target: "lunacore::memory", "the store cannot be read: {error}"),
        }
        let views: Result<Option<Vec<_>>, StoreError> =
            guard(|| (0..READERS).map(|_| store.reader()).collect());
        match views {
            Ok(views) => self.readers = views.map(Readers::new),
            Err(error) => {
                // It still answers, if slowly.
                log::error!(target: "lunacore::memory", "the store gives no views to read through: {error}");
            }
        }
        self.collect_from_time_to_time(ctx);
    }
}

impl Handler<Attach> for ProjectMemory {
    type Result = ();

    fn handle(&mut self, Attach(recipient): Attach, ctx: &mut Self::Context) {
        self.outlet.attach(recipient, ctx.address().recipient().downgrade());
    }
}

/// Boxed: it is moved from hand to hand several times, and a pointer is cheaper to move than its content.
impl Handler<Box<Commit>> for ProjectMemory {
    type Result = Answer<Result<Committed, MemoryError>>;

    fn handle(&mut self, commit: Box<Commit>, ctx: &mut Self::Context) -> Self::Result {
        match self.check_commit(&commit).and_then(|()| self.claim(&commit)) {
            Ok(()) => self.write(Write::Commit(commit), ctx),
            Err(error) => Answer::now(Err(error)),
        }
    }
}

impl Handler<Put> for ProjectMemory {
    type Result = Answer<Result<Artifact, MemoryError>>;

    fn handle(&mut self, put: Put, ctx: &mut Self::Context) -> Self::Result {
        match self.check_put(&put) {
            Ok(()) => self.write(Write::Put(Box::new(put)), ctx),
            Err(error) => Answer::now(Err(error)),
        }
    }
}

impl Handler<RecordBreaker> for ProjectMemory {
    type Result = Answer<Result<Committed, MemoryError>>;

    fn handle(&mut self, change: RecordBreaker, ctx: &mut Self::Context) -> Self::Result {
        self.write(Write::Breaker(Box::new(change)), ctx)
    }
}

impl Handler<RecordSignal> for ProjectMemory {
    type Result = Answer<Result<KeptSignal, MemoryError>>;

    fn handle(&mut self, signal: RecordSignal, ctx: &mut Self::Context) -> Self::Result {
        self.write(Write::Signal(Box::new(signal)), ctx)
    }
}

impl Handler<Delete> for ProjectMemory {
    type Result = Answer<Result<bool, MemoryError>>;

    fn handle(&mut self, delete: Delete, ctx: &mut Self::Context) -> Self::Result {
        match self.access.check(&delete.project, &delete.key, Operation::Delete) {
            Ok(()) => self.write(Write::Delete(Box::new(delete)), ctx),
            Err(error) => Answer::now(Err(error)),
        }
    }
}
