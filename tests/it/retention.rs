//! What is not kept any more goes, in the background or when somebody asks; what must stay stays, whatever fails.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use actix::prelude::*;
use lunacore::limits::{COLLECT_DELAY, COLLECT_INTERVAL, COLLECT_ROWS};
use lunacore::testing::{Fault, FaultyStore, virtual_clock};
use lunacore::*;

use crate::support::*;

fn plan(run: &str) -> ExecutePlan {
    let steps = ["fetch", "report"].map(|id| Step::new(id, move || async move { id }));
    ExecutePlan::new(steps).run_id(run)
}

async fn runs(engine: &Engine) -> Vec<String> {
    let records = engine.memory().send(ListRuns::default()).await.unwrap().unwrap();
    records.into_iter().map(|record| record.run_id.to_string()).collect()
}

async fn versions(engine: &Engine, key: &str) -> Vec<u64> {
    engine.memory().send(ListVersions::new(key)).await.unwrap().unwrap()
}

/// An engine under virtual time.
fn start_with(memory: ProjectMemory, retention: Retention) -> Engine {
    Engine::builder().memory(memory).clock(virtual_clock()).retention(retention).start().unwrap()
}

#[actix::test]
async fn memory_collects_soon_after_its_start_and_then_again_and_again() {
    tokio::time::pause();
    let engine = start_with(ProjectMemory::in_memory(), Retention::new().keep_runs(2).keep_versions(3));
    for n in 0..5 {
        engine.execute(plan(&format!("r{n}"))).await.unwrap();
    }
    tokio::time::sleep(COLLECT_DELAY / 2).await;
    assert_eq!(runs(&engine).await.len(), 5);
    tokio::time::sleep(COLLECT_DELAY).await;
    assert_eq!(runs(&engine).await, ["r3", "r4"]);
    assert_eq!(versions(&engine, "task:fetch").await, [3, 4, 5]);
    engine.execute(plan("r5")).await.unwrap();
    assert_eq!(runs(&engine).await.len(), 3);
    tokio::time::sleep(COLLECT_INTERVAL).await;
    assert_eq!(runs(&engine).await, ["r4", "r5"]);
    let gone = engine.history(&run_id("r4")).await;
    assert_eq!(gone.unwrap().len(), 7, "the history of a run that is kept is whole");
}

#[actix::test]
async fn many_things_go_batch_by_batch_without_waiting_for_the_next_time() {
    tokio::time::pause();
    let (store, calls) = Told::new(VolatileStore::default());
    let engine = start_with(ProjectMemory::with_store(store), Retention::new().keep_versions(1));
    let count = 4 * COLLECT_ROWS;
    for n in 0..count {
        engine.memory().send(Put::new(format!("k{}", n % 7), "x")).await.unwrap().unwrap();
    }
    tokio::time::sleep(COLLECT_DELAY + COLLECT_INTERVAL / 2).await;
    assert_eq!(versions(&engine, "k0").await, [count as u64 / 7 + 1]);
    assert_eq!(versions(&engine, "k6").await.len(), 1);
    assert!(calls.lock().unwrap().iter().filter(|call| *call == "collect").count() >= 4);
}

/// What collects now and then does not keep alive what it collects from.
#[actix::test]
async fn memory_that_nobody_has_any_more_goes() {
    let memory = ProjectMemory::in_memory().retention(Retention::new().keep_runs(1)).start();
    memory.send(Put::new("k", "x")).await.unwrap().unwrap();
    let weak = memory.downgrade();
    drop(memory);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(weak.upgrade().is_none());
}

#[actix::test]
async fn everything_is_kept_where_nothing_is_said() {
    tokio::time::pause();
    let (store, calls) = Told::new(VolatileStore::default());
    let engine = start_with(ProjectMemory::with_store(store), Retention::new());
    for n in 0..5 {
        engine.execute(plan(&format!("r{n}"))).await.unwrap();
    }
    tokio::time::sleep(3 * COLLECT_INTERVAL).await;
    assert!(!calls.lock().unwrap().contains(&"collect".to_owned()), "the store is left alone");
    assert_eq!(engine.collect().await.unwrap(), Collected::default());
    assert_eq!((runs(&engine).await.len(), versions(&engine, "task:fetch").await.len()), (5, 5));
}

#[actix::test]
async fn runs_and_events_go_by_the_clock_that_was_given() {
    tokio::time::pause();
    let retention = Retention::new()
        .keep_runs_for(Duration::from_secs(3_600))
        .keep_events_for(Duration::from_secs(1_800));
    let engine = start_with(ProjectMemory::in_memory(), retention);
    engine.execute(plan("early")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2_000)).await;
    engine.execute(plan("late")).await.unwrap();
    tokio::time::sleep(COLLECT_INTERVAL).await;
    let gone = engine.history(&run_id("early")).await;
    assert!(matches!(gone, Err(MemoryError::HistoryGone { first: 8, .. })), "{gone:?}");
    assert_eq!(engine.results(&run_id("early")).await.unwrap().unwrap(), ["fetch", "report"]);
    tokio::time::sleep(Duration::from_secs(1_700)).await;
    assert_eq!(runs(&engine).await, ["late"]);
    assert_eq!(engine.results(&run_id("early")).await.unwrap(), None);
    assert_eq!(engine.artifact(Get::version("task:fetch", 1)).await.unwrap().unwrap().text(), Some("fetch"));
}

#[actix::test]
async fn a_run_that_is_not_finished_goes_on_whatever_goes_around_it() {
    let go_on = Arc::new(tokio::sync::Notify::new());
    let engine = start_with(ProjectMemory::in_memory(), Retention::new());
    let waiting = Arc::clone(&go_on);
    let wait = Step::new("wait", move |ctx: StepContext| {
        let waiting = Arc::clone(&waiting);
        async move {
            waiting.notified().await;
            Ok::<_, StepError>(format!("{} and more", ctx.previous::<String>()?))
        }
    });
    let steps = [Step::new("first", || "first"), wait, Step::new("last", || "last")];
    let handle = engine.submit(ExecutePlan::new(steps).run_id("open")).await.unwrap();
    let nothing = Retention::new().keep_runs(0).keep_versions(1).keep_events_for(Duration::ZERO);
    let memory = engine.memory();
    while memory.send(GetRun(run_id("open"))).await.unwrap().unwrap().unwrap().cursor == 0 {
        tokio::task::yield_now().await;
    }
    // Another one over the same memory, since this one runs a plan at a time.
    let others = ExecutionOrchestrator::new(engine.bus().clone(), memory.clone(), SimpleAllocator.start());
    let others = others.recover(Recover::None).start();
    for n in 0..5 {
        others.send(plan(&format!("r{n}"))).await.unwrap().unwrap();
        memory.send(Collect::by(nothing.clone())).await.unwrap().unwrap();
    }
    assert_eq!(runs(&engine).await, ["open", "r4"]);
    assert!(matches!(engine.history(&run_id("open")).await, Err(MemoryError::HistoryGone { .. })));
    go_on.notify_one();
    assert_eq!(handle.await.unwrap(), ["first", "first and more", "last"]);
    assert_eq!(engine.results(&run_id("open")).await.unwrap().unwrap().len(), 3);
    // The id of one that has gone is free again.
    others.send(plan("r0")).await.unwrap().unwrap();
    assert_eq!(versions(&engine, "task:fetch").await, [5, 6]);
}

#[actix::test]
async fn who_asks_gets_all_that_is_to_go_at_once() {
    let engine = start_with(ProjectMemory::in_memory(), Retention::new().keep_runs(1));
    let memory = engine.memory();
    for _ in 0..3 * COLLECT_ROWS {
        memory.send(Put::new("k", "x")).await.unwrap().unwrap();
    }
    for n in 0..3 {
        engine.execute(plan(&format!("r{n}"))).await.unwrap();
    }
    let by_its_own = engine.collect().await.unwrap();
    assert_eq!(by_its_own, Collected::new(2, 0, 14, false));
    let by_another = memory.send(Collect::by(Retention::new().keep_versions(1))).await.unwrap().unwrap();
    assert_eq!(by_another, Collected::new(0, 3 * COLLECT_ROWS as u64 - 1 + 4, 0, false));
}

/// Counts how often it was asked to collect, and writes down what a store is told.
pub struct Told {
    inner: Box<dyn Store>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Told {
    pub fn new(inner: impl Store) -> (Self, Arc<Mutex<Vec<String>>>) {
        let calls = Arc::default();
        (Self { inner: Box::new(inner), calls: Arc::clone(&calls) }, calls)
    }

    fn note(&self, call: impl Into<String>) {
        self.calls.lock().unwrap().push(call.into());
    }
}

impl Reader for Told {
    fn last_seq(&self) -> Result<u64, StoreError> {
        self.inner.last_seq()
    }
    fn artifact(&self, p: &Project, key: &str, version: Option<u64>) -> Result<Option<Artifact>, StoreError> {
        self.inner.artifact(p, key, version)
    }
    fn versions(&self, project: &Project, key: &str) -> Result<Vec<u64>, StoreError> {
        self.inner.versions(project, key)
    }
    fn keys(
        &self,
        p: &Project,
        s: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        self.inner.keys(p, s, after, limit)
    }
    fn run(&self, run_id: &RunId) -> Result<Option<RunRecord>, StoreError> {
        self.inner.run(run_id)
    }
    fn plan(&self, run_id: &RunId) -> Result<Option<PlanRecord>, StoreError> {
        self.inner.plan(run_id)
    }
    fn runs(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        self.inner.runs(after, limit)
    }
    fn unfinished(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        self.inner.unfinished(after, limit)
    }
    fn outputs(&self, run_id: &RunId) -> Result<Option<Vec<Output>>, StoreError> {
        self.inner.outputs(run_id)
    }
    fn skipped(&self, run_id: &RunId) -> Result<Vec<usize>, StoreError> {
        self.inner.skipped(run_id)
    }
    fn signals(&self, run_id: &RunId) -> Result<Vec<KeptSignal>, StoreError> {
        self.inner.signals(run_id)
    }
    fn breakers(&self) -> Result<Vec<BreakerRecord>, StoreError> {
        self.inner.breakers()
    }
    fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError> {
        self.inner.events(after, limit)
    }
    fn run_events(&self, run_id: &RunId, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError> {
        self.inner.run_events(run_id, after, limit)
    }
}

impl Store for Told {
    fn begin(&mut self, durability: Durability) -> Result<(), StoreError> {
        self.note(format!("begin {durability}"));
        self.inner.begin(durability)
    }
    fn end(&mut self) -> Result<(), StoreError> {
        self.note("end");
        self.inner.end()
    }
    fn commit(&mut self, commit: Box<Commit>, at: SystemTime) -> Result<Vec<Event>, MemoryError> {
        self.note("commit");
        self.inner.commit(commit, at)
    }
    fn put(&mut self, put: Put, at: SystemTime) -> Result<Artifact, MemoryError> {
        self.note("put");
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
        self.note("collect");
        self.inner.collect(retention, now, limit)
    }
    fn flush(&mut self) -> Result<(), StoreError> {
        self.note("flush");
        self.inner.flush()
    }
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.note("reopen");
        self.inner.reopen()
    }
    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        self.inner.reader()
    }
}

/// A failure is told to whoever asked, and to nobody else: commits go on, and the next time it works.
#[actix::test]
async fn collecting_that_fails_disturbs_no_commit_and_is_tried_again() {
    tokio::time::pause();
    for fault in [Fault::Fail, Fault::FailAfter, Fault::Panic] {
        let (store, calls) = Told::new(FaultyStore::new(VolatileStore::default(), fault, 13));
        let engine = start_with(ProjectMemory::with_store(store), Retention::new().keep_runs(1));
        for n in 0..4 {
            // Three commits each.
            engine.execute(plan(&format!("r{n}"))).await.unwrap();
        }
        tokio::time::sleep(COLLECT_DELAY * 2).await;
        let collects = || calls.lock().unwrap().iter().filter(|call| *call == "collect").count();
        assert_eq!(collects(), 1, "{fault:?}");
        let left = if fault == Fault::FailAfter { 1 } else { 4 };
        assert_eq!(runs(&engine).await.len(), left, "{fault:?}");
        assert_eq!(engine.execute(plan("next")).await.unwrap().len(), 2, "{fault:?}");
        tokio::time::sleep(COLLECT_INTERVAL).await;
        assert_eq!((collects(), runs(&engine).await), (2, vec!["next".to_owned()]), "{fault:?}");
    }
}
