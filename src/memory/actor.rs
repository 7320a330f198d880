use std::time::SystemTime;

use actix::{Actor, AsyncContext, Context, Handler, Recipient};
use uuid::Uuid;

use super::access::{Access, AccessCheck, Operation};
use super::error::{MemoryError, StoreError};
use super::messages::{
    Attach, Commit, Committed, Delete, Get, GetOutputs, GetRun, ListKeys, ListRuns, ListVersions, Put,
};
use super::store::Store;
use super::volatile::VolatileStore;
use crate::artifact::{Artifact, TASK_RESULT, task_key};
use crate::bus::{Backlog, Publish};
use crate::event::Event;
use crate::id::{IdFault, check_id, check_text, shorten, to_micros, uuid_at};
use crate::isolate::catch;
use crate::json;
use crate::limits::{
    GAP_RETRY, MAILBOX, MAX_ARTIFACT_BYTES, MAX_KEY_BYTES, MAX_META_BYTES, MAX_PAGE, PUBLISH_BACKLOG,
};
use crate::plan::Output;
use crate::project::Project;
use crate::run::RunRecord;

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
pub struct ProjectMemory {
    store: Box<dyn Store>,
    may: Option<AccessCheck>,
    source: Uuid,
    /// The last event that was committed.
    last_seq: u64,
    buses: Vec<Bus>,
    /// How often a bus has fallen behind, and whether a timer will tell it.
    gaps: u64,
    gap_timer: bool,
}

/// A bus that was attached.
struct Bus {
    recipient: Recipient<Publish>,
    backlog: Backlog,
    /// Events were left out and the bus does not know yet.
    gap: bool,
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
            store: Box::new(store),
            may: None,
            source: uuid_at(SystemTime::now()),
            last_seq: 0,
            buses: Vec::new(),
            gaps: 0,
            gap_timer: false,
        }
    }

    /// Asks this function before every access to an artifact, and to the outputs of a run. Where it says no, or panics, the answer is
    /// [`MemoryError::AccessDenied`]; a plan that may not write the artifacts of its steps is not accepted.
    #[must_use]
    pub fn access_check(mut self, may: impl Fn(&Access) -> bool + Send + 'static) -> Self {
        self.may = Some(Box::new(may));
        self
    }

    fn check(&self, project: &Project, key: &str, operation: Operation) -> Result<(), MemoryError> {
        check_project(project)?;
        check_text(key, MAX_KEY_BYTES).map_err(|fault| invalid_name("key", key, fault))?;
        self.check_access(project, key, operation)
    }

    fn check_access(&self, project: &Project, key: &str, operation: Operation) -> Result<(), MemoryError> {
        let Some(may) = &self.may else { return Ok(()) };
        let access = Access { project: project.clone(), key: key.to_owned(), operation };
        match catch(|| may(&access)) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(message) => {
                log::error!(target: "lunacore::memory", key; "the access check panicked: {message}");
            }
        }
        let Access { project, key, operation } = access;
        Err(MemoryError::AccessDenied { project, key, operation })
    }

    /// Checks what a commit writes. The results of steps are checked once, when their run is accepted.
    fn check_commit(&self, commit: &Commit) -> Result<(), MemoryError> {
        if let Some(new) = &commit.accept {
            check_project(&commit.project)?;
            for step_id in new.step_ids.iter().filter(|_| self.may.is_some()) {
                self.check_access(&commit.project, &task_key(step_id), Operation::Write)?;
            }
        }
        for artifact in &commit.artifacts {
            if &*artifact.artifact_type != TASK_RESULT {
                self.check(&commit.project, &artifact.key, Operation::Write)?;
            }
        }
        Ok(())
    }

    /// Hands committed events to every bus. A bus that is too far behind is told of a gap instead of being waited for.
    fn publish(&mut self, events: Vec<Event>, ctx: &mut Context<Self>) {
        let Some(seq) = events.last().and_then(Event::seq) else { return };
        self.last_seq = seq;
        let last = self.buses.len().saturating_sub(1);
        let mut events = Some(events);
        let mut behind = 0;
        for (index, bus) in self.buses.iter_mut().enumerate() {
            let had_gap = bus.gap;
            // Almost always there is one bus, which gets the list itself.
            let list = if index == last { events.take() } else { events.clone() };
            bus.gap = !bus.tell(self.source, seq, list.unwrap_or_default());
            behind += u64::from(bus.gap && !had_gap);
        }
        if behind > 0 {
            let before = self.gaps;
            self.gaps += behind;
            // A bus at its limit falls behind again and again: the 1st, 2nd, 4th, 8th … time is worth a line.
            if before.checked_ilog2() != self.gaps.checked_ilog2() {
                let gaps = self.gaps;
                log::warn!(
                    target: "lunacore::memory", seq, gaps;
                    "the event bus is far behind; its subscribers miss events and are told how many"
                );
            }
            self.arm_gap_timer(ctx);
        }
    }

    /// One timer for all buses: what no later commit tells them of, it does.
    fn arm_gap_timer(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.gap_timer, true) {
            ctx.run_later(GAP_RETRY, |this, ctx| {
                this.gap_timer = false;
                for bus in this.buses.iter_mut().filter(|bus| bus.gap) {
                    bus.gap = !bus.tell(this.source, this.last_seq, Vec::new());
                }
                if this.buses.iter().any(|bus| bus.gap) {
                    this.arm_gap_timer(ctx);
                }
            });
        }
    }
}

fn check_project(project: &Project) -> Result<(), MemoryError> {
    let tenant = check_id(project.tenant()).map_err(|fault| invalid_name("tenant", project.tenant(), fault));
    tenant.and(check_id(project.project()).map_err(|fault| invalid_name("project", project.project(), fault)))
}

fn invalid_name(what: &'static str, name: &str, fault: IdFault) -> MemoryError {
    MemoryError::InvalidName { what, name: shorten(name), fault }
}

impl Bus {
    /// Answers whether the bus was told. One that has stopped counts as told: there is nobody to miss anything.
    fn tell(&self, source: Uuid, upto: u64, events: Vec<Event>) -> bool {
        let Some(place) = self.backlog.enter() else { return false };
        // `do_send` ignores the mailbox's capacity; the backlog is the bound.
        self.recipient.do_send(Publish::stored(source, upto, events, place));
        true
    }
}

/// Calls the store; a panic in it is a failure like any other.
fn guard<T, E: From<StoreError>>(call: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch(call).unwrap_or_else(|message| {
        log::error!(target: "lunacore::memory", "the store panicked: {message}");
        Err(StoreError::new(format!("the store panicked: {message}")).into())
    })
}

impl Actor for ProjectMemory {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        match guard(|| self.store.last_seq()) {
            Ok(last_seq) => self.last_seq = last_seq,
            Err(error) => log::error!(target: "lunacore::memory", "the store cannot be read: {error}"),
        }
    }
}

impl Handler<Attach> for ProjectMemory {
    type Result = ();

    fn handle(&mut self, Attach(recipient): Attach, _: &mut Self::Context) {
        self.buses.retain(|bus| bus.recipient.connected());
        if self.buses.iter().all(|bus| bus.recipient != recipient) {
            let backlog = Backlog::new(PUBLISH_BACKLOG);
            let bus = Bus { recipient, backlog, gap: false };
            // Tells the bus where it comes in, so that it can tell a gap from a late start.
            bus.tell(self.source, self.last_seq, Vec::new());
            self.buses.push(bus);
        }
    }
}

/// Boxed: it is moved from hand to hand several times, and a pointer is cheaper to move than its content.
impl Handler<Box<Commit>> for ProjectMemory {
    type Result = Result<Committed, MemoryError>;

    fn handle(&mut self, commit: Box<Commit>, ctx: &mut Self::Context) -> Self::Result {
        self.check_commit(&commit)?;
        let now = to_micros(SystemTime::now());
        let events = guard(|| self.store.commit(*commit, now))?;
        self.publish(events, ctx);
        Ok(Committed::new(now))
    }
}

impl Handler<Put> for ProjectMemory {
    type Result = Result<Artifact, MemoryError>;

    fn handle(&mut self, mut put: Put, _: &mut Self::Context) -> Self::Result {
        self.check(&put.project, &put.key, Operation::Write)?;
        check_id(&put.artifact_type)
            .map_err(|fault| invalid_name("artifact type", &put.artifact_type, fault))?;
        let bytes = put.data.len();
        if bytes > MAX_ARTIFACT_BYTES {
            return Err(MemoryError::DataTooLarge { key: put.key, bytes });
        }
        if json::any_too_deep(&put.meta) {
            return Err(MemoryError::MetaTooDeep { key: put.key });
        }
        let before = guard(|| self.store.artifact(&put.project, &put.key, None))?;
        let mut meta = before.map(|artifact| artifact.meta).unwrap_or_default();
        meta.append(&mut put.meta);
        put.meta = meta;
        let bytes = json::size(&put.meta);
        if bytes > MAX_META_BYTES {
            return Err(MemoryError::MetaTooLarge { key: put.key, bytes });
        }
        let now = to_micros(SystemTime::now());
        Ok(guard(|| self.store.put(put, now))?)
    }
}

impl Handler<Get> for ProjectMemory {
    type Result = Result<Option<Artifact>, MemoryError>;

    fn handle(&mut self, get: Get, _: &mut Self::Context) -> Self::Result {
        self.check(&get.project, &get.key, Operation::Read)?;
        Ok(guard(|| self.store.artifact(&get.project, &get.key, get.version))?)
    }
}

impl Handler<ListVersions> for ProjectMemory {
    type Result = Result<Vec<u64>, MemoryError>;

    fn handle(&mut self, list: ListVersions, _: &mut Self::Context) -> Self::Result {
        self.check(&list.project, &list.key, Operation::List)?;
        Ok(guard(|| self.store.versions(&list.project, &list.key))?)
    }
}

impl Handler<ListKeys> for ProjectMemory {
    type Result = Result<Vec<String>, MemoryError>;

    fn handle(&mut self, list: ListKeys, _: &mut Self::Context) -> Self::Result {
        check_project(&list.project)?;
        self.check_access(&list.project, &list.prefix, Operation::List)?;
        let (after, limit) = (list.after.as_deref(), list.limit.min(MAX_PAGE));
        Ok(guard(|| self.store.keys(&list.project, &list.prefix, after, limit))?)
    }
}

impl Handler<Delete> for ProjectMemory {
    type Result = Result<bool, MemoryError>;

    fn handle(&mut self, delete: Delete, _: &mut Self::Context) -> Self::Result {
        self.check(&delete.project, &delete.key, Operation::Delete)?;
        Ok(guard(|| self.store.delete(&delete.project, &delete.key, delete.version))?)
    }
}

impl Handler<GetRun> for ProjectMemory {
    type Result = Result<Option<RunRecord>, MemoryError>;

    fn handle(&mut self, GetRun(run_id): GetRun, _: &mut Self::Context) -> Self::Result {
        Ok(guard(|| self.store.run(&run_id))?)
    }
}

impl Handler<ListRuns> for ProjectMemory {
    type Result = Result<Vec<RunRecord>, MemoryError>;

    fn handle(&mut self, list: ListRuns, _: &mut Self::Context) -> Self::Result {
        Ok(guard(|| self.store.runs(list.after.as_ref(), MAX_PAGE))?)
    }
}

impl Handler<GetOutputs> for ProjectMemory {
    type Result = Result<Option<Vec<Output>>, MemoryError>;

    /// The outputs of a run are the contents of its steps' artifacts, so the same check guards them.
    fn handle(&mut self, GetOutputs(run_id): GetOutputs, _: &mut Self::Context) -> Self::Result {
        if self.may.is_some()
            && let Some(record) = guard(|| self.store.run(&run_id))?
        {
            for step_id in record.step_ids.iter().take(record.cursor) {
                self.check_access(&record.project, &task_key(step_id), Operation::Read)?;
            }
        }
        Ok(guard(|| self.store.outputs(&run_id))?)
    }
}
