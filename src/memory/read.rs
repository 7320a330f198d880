//! The reading messages: on the actor's own thread, or through views on the blocking pool.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Context, Handler, Message};
use tokio::sync::Semaphore;

use super::access::Operation;
use super::actor::ProjectMemory;
use super::error::{MemoryError, StoreError};
use super::found::{FindRun, FoundRun};
use super::messages::{
    Get, GetOutputs, GetRun, ListBreakers, ListKeys, ListRuns, ListUnfinished, ListVersions, ReadHistory,
};
use super::store::Reader;
use super::write::guard;
use crate::artifact::{Artifact, task_key};
use crate::bus::{HistoryError, ReadEvents};
use crate::event::Event;
use crate::limits::MAX_PAGE;
use crate::plan::{Output, PlanRecord};
use crate::resilience::BreakerRecord;
use crate::run::RunRecord;

/// Views of a store, each of which reads one thing at a time.
pub(crate) struct Readers {
    idle: Mutex<Vec<Box<dyn Reader>>>,
    /// As many as there are views.
    free: Semaphore,
}

impl Readers {
    pub(crate) fn new(views: Vec<Box<dyn Reader>>) -> Arc<Self> {
        let free = Semaphore::new(views.len());
        Arc::new(Self { idle: Mutex::new(views), free })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Box<dyn Reader>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read<T, E>(
        self: Arc<Self>,
        read: impl FnOnce(&dyn Reader) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let _permit = self.free.acquire().await;
        let view = self.idle().pop();
        let Some(view) = view else {
            return Err(StoreError::new("a view of the store was lost").into());
        };
        let job = tokio::task::spawn_blocking(move || (guard(|| read(&*view)), view));
        // Only when the runtime shuts down does it not come back.
        let (result, view) = job.await.map_err(StoreError::new)?;
        self.idle().push(view);
        result
    }
}

/// The answer to a reading message.
pub struct Reading<T>(When<T>);

enum When<T> {
    Now(T),
    Later(Pin<Box<dyn Future<Output = T>>>),
}

impl<T: 'static> Reading<T> {
    fn now(answer: T) -> Self {
        Self(When::Now(answer))
    }

    fn map<U>(self, change: impl FnOnce(T) -> U + 'static) -> Reading<U> {
        Reading(match self.0 {
            When::Now(answer) => When::Now(change(answer)),
            When::Later(answer) => When::Later(Box::pin(async move { change(answer.await) })),
        })
    }
}

impl<A: Actor, M: Message<Result = T>, T: 'static> MessageResponse<A, M> for Reading<T> {
    fn handle(self, _: &mut A::Context, sender: Option<OneshotSender<T>>) {
        let Some(sender) = sender else { return };
        match self.0 {
            When::Now(answer) => drop(sender.send(answer)),
            When::Later(answer) => drop(actix::spawn(async move { drop(sender.send(answer.await)) })),
        }
    }
}

impl ProjectMemory {
    fn read<T, E>(
        &self,
        read: impl FnOnce(&dyn Reader) -> Result<T, E> + Send + 'static,
    ) -> Reading<Result<T, E>>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        match (&self.readers, &self.store) {
            (Some(readers), _) => Reading(When::Later(Box::pin(Arc::clone(readers).read(read)))),
            (None, Some(store)) => Reading::now(guard(|| read(&**store))),
            (None, None) => Reading::now(Err(StoreError::new("the store is gone").into())),
        }
    }
}

impl Handler<Get> for ProjectMemory {
    type Result = Reading<Result<Option<Artifact>, MemoryError>>;

    fn handle(&mut self, get: Get, _: &mut Self::Context) -> Self::Result {
        match self.access.check(&get.project, &get.key, Operation::Read) {
            Err(error) => Reading::now(Err(error)),
            Ok(()) => self.read(move |store| Ok(store.artifact(&get.project, &get.key, get.version)?)),
        }
    }
}

impl Handler<ListVersions> for ProjectMemory {
    type Result = Reading<Result<Vec<u64>, MemoryError>>;

    fn handle(&mut self, list: ListVersions, _: &mut Self::Context) -> Self::Result {
        match self.access.check(&list.project, &list.key, Operation::List) {
            Err(error) => Reading::now(Err(error)),
            Ok(()) => self.read(move |store| Ok(store.versions(&list.project, &list.key)?)),
        }
    }
}

impl Handler<ListKeys> for ProjectMemory {
    type Result = Reading<Result<Vec<String>, MemoryError>>;

    fn handle(&mut self, list: ListKeys, _: &mut Self::Context) -> Self::Result {
        match self.access.check_prefix(&list.project, &list.prefix) {
            Err(error) => Reading::now(Err(error)),
            Ok(()) => self.read(move |store| {
                let (after, limit) = (list.after.as_deref(), list.limit.min(MAX_PAGE));
                Ok(store.keys(&list.project, &list.prefix, after, limit)?)
            }),
        }
    }
}

impl Handler<GetRun> for ProjectMemory {
    type Result = Reading<Result<Option<RunRecord>, MemoryError>>;

    fn handle(&mut self, GetRun(run_id): GetRun, _: &mut Self::Context) -> Self::Result {
        self.read(move |store| Ok(store.run(&run_id)?))
    }
}

impl Handler<ListRuns> for ProjectMemory {
    type Result = Reading<Result<Vec<RunRecord>, MemoryError>>;

    fn handle(&mut self, list: ListRuns, _: &mut Self::Context) -> Self::Result {
        self.read(move |store| Ok(store.runs(list.after.as_ref(), MAX_PAGE)?))
    }
}

impl Handler<ListUnfinished> for ProjectMemory {
    type Result = Reading<Result<Vec<RunRecord>, MemoryError>>;

    fn handle(&mut self, list: ListUnfinished, _: &mut Self::Context) -> Self::Result {
        self.read(move |store| Ok(store.unfinished(list.after.as_ref(), MAX_PAGE)?))
    }
}

impl Handler<ListBreakers> for ProjectMemory {
    type Result = Reading<Result<Vec<BreakerRecord>, MemoryError>>;

    fn handle(&mut self, ListBreakers: ListBreakers, _: &mut Self::Context) -> Self::Result {
        self.read(|store| Ok(store.breakers()?))
    }
}

impl Handler<FindRun> for ProjectMemory {
    type Result = Reading<Result<Option<FoundRun>, MemoryError>>;

    /// The claim is granted before the store is read: whoever else asks meanwhile does not get it.
    fn handle(&mut self, find: FindRun, _: &mut Self::Context) -> Self::Result {
        let FindRun { run_id, claim, retry } = find;
        let granted = self.claims.grant(&run_id, &claim);
        self.read(move |store| {
            // Held until the answer is made.
            let _claim = claim;
            let (Some(record), Some(plan)) = (store.run(&run_id)?, store.plan(&run_id)?) else {
                // Whoever has the claim is about to have the run accepted.
                return if granted { Ok(None) } else { Err(MemoryError::RunHeld { run_id }) };
            };
            let outputs = store.outputs(&run_id)?.unwrap_or_default();
            let (skipped, signals) = (store.skipped(&run_id)?, store.signals(&run_id)?);
            let claimed = granted && (retry || !record.state.is_final());
            Ok(Some(FoundRun { skipped, signals, ..FoundRun::new(record, plan, outputs, claimed) }))
        })
    }
}

impl Handler<GetOutputs> for ProjectMemory {
    type Result = Reading<Result<Option<Vec<Output>>, MemoryError>>;

    /// The outputs of a run are the contents of its steps' artifacts, so the same check guards them.
    fn handle(&mut self, GetOutputs(run_id): GetOutputs, _: &mut Self::Context) -> Self::Result {
        if !self.access.is_guarded() {
            return self.read(move |store| Ok(store.outputs(&run_id)?));
        }
        let reading = self.read(move |store| {
            let (record, plan) = (store.run(&run_id)?, store.plan(&run_id)?);
            Ok::<_, MemoryError>((record, plan, store.outputs(&run_id)?))
        });
        let access = self.access.clone();
        let allowed = move |found: (Option<RunRecord>, Option<PlanRecord>, Option<Vec<Output>>)| {
            let (Some(record), Some(plan), Some(outputs)) = found else { return Ok(None) };
            // By the outputs themselves: more may have come since the record was read.
            for step_id in plan.step_ids().take(outputs.len()) {
                access.check(&record.project, &task_key(step_id), Operation::Read)?;
            }
            Ok(Some(outputs))
        };
        reading.map(|read| read.and_then(allowed))
    }
}

impl Handler<ReadHistory> for ProjectMemory {
    type Result = Reading<Result<Vec<Event>, MemoryError>>;

    fn handle(&mut self, read: ReadHistory, _: &mut Context<Self>) -> Self::Result {
        let limit = read.limit.min(MAX_PAGE);
        self.read(move |store| store.run_events(&read.run_id, read.after, limit))
    }
}

impl Handler<ReadEvents> for ProjectMemory {
    type Result = Reading<Result<Vec<Event>, HistoryError>>;

    fn handle(&mut self, read: ReadEvents, _: &mut Context<Self>) -> Self::Result {
        let reading = self.read(move |store| store.events(read.after, read.limit.min(MAX_PAGE)));
        reading.map(|read| read.map_err(history_error))
    }
}

fn history_error(error: MemoryError) -> HistoryError {
    match error {
        MemoryError::HistoryGone { after, first } => HistoryError::Gone { after, first },
        error => HistoryError::Failed { source: Arc::new(error) },
    }
}
