//! Promise 6: what happens when the store fails, wherever it does.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use actix::prelude::*;
use lunacore::*;
use serde_json::Value;
use tokio::sync::Notify;

use crate::memory::*;
use crate::support::*;

/// How a commit fails.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// It gives an error and has written nothing.
    Error,
    /// It gives an error although everything is written: the outcome is unknown.
    ErrorAfterWriting,
    /// It panics.
    Panic,
}

/// The volatile store, with a fault at one of its commits.
pub struct Faulty {
    inner: VolatileStore,
    commits: Arc<AtomicUsize>,
    /// At which commit, from 1; 0 for none.
    at: usize,
    fault: Fault,
    /// Whether everything but commits fails too.
    reads_fail: bool,
}

impl Faulty {
    pub fn new(at: usize, fault: Fault) -> Self {
        Self { inner: VolatileStore::default(), commits: Arc::default(), at, fault, reads_fail: false }
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.reads_fail { Err(StoreError::new("disk on fire")) } else { Ok(()) }
    }
}

impl Store for Faulty {
    fn commit(&mut self, commit: Box<Commit>, at: SystemTime) -> Result<Vec<Event>, MemoryError> {
        if self.commits.fetch_add(1, Ordering::SeqCst) + 1 != self.at {
            return self.inner.commit(commit, at);
        }
        match self.fault {
            Fault::Error => {}
            Fault::ErrorAfterWriting => drop(self.inner.commit(commit, at)?),
            Fault::Panic => panic!("disk on fire"),
        }
        Err(StoreError::new("disk on fire").into())
    }

    fn record_signal(
        &mut self,
        signal: lunacore::RecordSignal,
        at: SystemTime,
    ) -> Result<(lunacore::KeptSignal, Vec<Event>), MemoryError> {
        self.check()?;
        self.inner.record_signal(signal, at)
    }

    fn record_breaker(
        &mut self,
        change: lunacore::RecordBreaker,
        at: SystemTime,
    ) -> Result<Vec<Event>, MemoryError> {
        self.check()?;
        self.inner.record_breaker(change, at)
    }

    fn put(&mut self, put: Put, at: SystemTime) -> Result<Artifact, MemoryError> {
        self.check()?;
        self.inner.put(put, at)
    }

    fn delete(&mut self, project: &Project, key: &str, version: Option<u64>) -> Result<bool, MemoryError> {
        self.check()?;
        self.inner.delete(project, key, version)
    }
}

impl Reader for Faulty {
    fn last_seq(&self) -> Result<u64, StoreError> {
        self.inner.last_seq()
    }

    fn artifact(
        &self,
        project: &Project,
        key: &str,
        version: Option<u64>,
    ) -> Result<Option<Artifact>, StoreError> {
        self.check()?;
        self.inner.artifact(project, key, version)
    }

    fn skipped(&self, run_id: &RunId) -> Result<Vec<usize>, StoreError> {
        self.check()?;
        self.inner.skipped(run_id)
    }

    fn signals(&self, run_id: &RunId) -> Result<Vec<lunacore::KeptSignal>, StoreError> {
        self.check()?;
        self.inner.signals(run_id)
    }

    fn breakers(&self) -> Result<Vec<lunacore::BreakerRecord>, StoreError> {
        self.check()?;
        self.inner.breakers()
    }

    fn versions(&self, project: &Project, key: &str) -> Result<Vec<u64>, StoreError> {
        self.check()?;
        self.inner.versions(project, key)
    }

    fn keys(
        &self,
        project: &Project,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        self.check()?;
        self.inner.keys(project, prefix, after, limit)
    }

    fn run(&self, run_id: &RunId) -> Result<Option<RunRecord>, StoreError> {
        self.check()?;
        self.inner.run(run_id)
    }

    fn plan(&self, run_id: &RunId) -> Result<Option<PlanRecord>, StoreError> {
        self.check()?;
        self.inner.plan(run_id)
    }

    fn unfinished(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        self.check()?;
        self.inner.unfinished(after, limit)
    }

    fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError> {
        self.check()?;
        self.inner.events(after, limit)
    }

    fn run_events(&self, run_id: &RunId, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError> {
        self.check()?;
        self.inner.run_events(run_id, after, limit)
    }

    fn runs(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        self.check()?;
        self.inner.runs(after, limit)
    }

    fn outputs(&self, run_id: &RunId) -> Result<Option<Vec<Output>>, StoreError> {
        self.check()?;
        self.inner.outputs(run_id)
    }
}

/// The events of each commit of a plan of the steps a, b and c.
const COMMITS: [&[&str]; 4] = [
    &["plan.accepted", "plan.started", "task.started a"],
    &["task.completed a", "task.started b"],
    &["task.completed b", "task.started c"],
    &["task.completed c", "plan.completed"],
];

fn abc(trace: &Trace) -> ExecutePlan {
    ExecutePlan::new(["a", "b", "c"].map(|id| noted(trace, id)))
}

#[actix::test]
async fn a_plan_of_three_steps_takes_four_commits() {
    let store = Faulty::new(0, Fault::Error);
    let commits = Arc::clone(&store.commits);
    let actors = start_over(ProjectMemory::with_store(store));
    let mut events = watch(&actors.bus).await;
    actors.orchestrator.send(abc(&Trace::default())).await.unwrap().unwrap();
    assert_eq!(commits.load(Ordering::SeqCst), 4);
    assert_eq!(next(&mut events, 9).await, COMMITS.concat());
}

/// Runs a plan whose `n`th commit fails, and then the same again over the store that is healthy once more.
async fn survives(n: usize, fault: Fault) {
    let actors = start_over(ProjectMemory::with_store(Faulty::new(n, fault)));
    let (mut events, trace) = (watch(&actors.bus).await, Trace::default());
    let error = actors.orchestrator.send(abc(&trace).run_id("broken")).await.unwrap().unwrap_err();
    let reason = if fault == Fault::Panic { "the store panicked: disk on fire" } else { "disk on fire" };
    assert_eq!(
        chain(&error),
        [
            "memory could not store run broken",
            "the store failed; what it was writing may or may not be stored",
            reason
        ]
    );
    assert!(matches!(
        &error,
        PlanError::Memory { run_id, source: MemoryError::Store(_) } if run_id.as_str() == "broken"
    ));
    // The commit before it let the steps up to n - 2 be called, and no other is.
    assert_eq!(trace.all(), ["a", "b", "c"][..n - 1]);

    let told = COMMITS[..n - 1].concat();
    assert_eq!(next(&mut events, told.len()).await, told);

    actors.orchestrator.send(abc(&trace).run_id("healthy")).await.unwrap().unwrap();
    assert_eq!(trace.all()[n - 1..], ["a", "b", "c"]);

    // Of the failed commit the bus hears nothing, unless it turns out to be stored.
    let stored_events = if fault == Fault::ErrorAfterWriting { COMMITS[n - 1] } else { &[] };
    let lost = stored_events.len();
    assert_eq!(next(&mut events, lost).await, stored_events);
    let seen = until(&mut events, "plan.completed").await;
    assert_eq!(seen.iter().map(ToString::to_string).collect::<Vec<_>>(), COMMITS.concat());
    let first = (told.len() + lost + 1) as u64;
    assert!(seen.iter().map(Event::seq).eq((first..first + 9).map(Some)), "{n} {fault:?}");
    // What was not acknowledged is not stored either, unless the store did store it.
    let stored = if fault == Fault::ErrorAfterWriting { n } else { n - 1 };
    let record = record(&actors.memory, "broken").await;
    assert_eq!(record.map(|record| record.cursor), stored.checked_sub(1));
    for (index, key) in ["task:a", "task:b", "task:c"].into_iter().enumerate() {
        let twice = index + 1 < stored;
        assert_eq!(versions(&actors.memory, key).await, if twice { vec![1, 2] } else { vec![1] }, "{key}");
    }
}

#[actix::test]
async fn a_commit_that_fails_stops_its_plan_and_nothing_else_wherever_it_is() {
    for n in 1..=4 {
        survives(n, Fault::Error).await;
    }
}

#[actix::test]
async fn a_commit_that_panics_stops_its_plan_and_nothing_else_wherever_it_is() {
    for n in 1..=4 {
        survives(n, Fault::Panic).await;
    }
}

#[actix::test]
async fn a_commit_that_was_written_but_not_acknowledged_stops_its_plan_and_is_told_once_that_is_known() {
    for n in 1..=4 {
        survives(n, Fault::ErrorAfterWriting).await;
    }
}

#[actix::test]
async fn a_run_whose_commit_failed_is_not_told_as_running() {
    let actors = start_over(ProjectMemory::with_store(Faulty::new(2, Fault::Error)));
    actors.orchestrator.send(abc(&Trace::default()).run_id("r")).await.unwrap().unwrap_err();
    let info = actors.orchestrator.send(PlanStatus(run_id("r"))).await.unwrap().unwrap();
    assert_ne!(info.state, RunState::Running);
}

#[actix::test]
async fn a_failed_commit_is_not_tried_again() {
    let store = Faulty::new(2, Fault::Error);
    let commits = Arc::clone(&store.commits);
    let actors = start_over(ProjectMemory::with_store(store));
    actors.orchestrator.send(abc(&Trace::default())).await.unwrap().unwrap_err();
    assert_eq!(commits.load(Ordering::SeqCst), 2);
}

#[actix::test]
async fn a_failed_acceptance_of_a_plan_that_waits_fails_that_plan_only() {
    let (actors, trace) =
        (start_over(ProjectMemory::with_store(Faulty::new(2, Fault::Error))), Trace::default());
    let release = Arc::new(Notify::new());
    let wait = Arc::clone(&release);
    let waits = Step::new("waits", move || {
        let wait = Arc::clone(&wait);
        async move { wait.notified().await }
    });
    let first = submit(&actors, ExecutePlan::new([waits])).await;
    let error = actors.orchestrator.send(SubmitPlan(abc(&trace))).await.unwrap().unwrap_err();
    assert!(matches!(error, PlanError::Memory { source: MemoryError::Store(_), .. }), "{error:?}");
    let third = submit(&actors, ExecutePlan::new([noted(&trace, "third")])).await;
    release.notify_one();
    assert_eq!(first.await.unwrap(), [Value::Null]);
    third.await.unwrap();
    assert_eq!(trace.all(), ["third"]);
}

#[actix::test]
async fn a_store_that_fails_answers_every_message_with_its_error() {
    let memory =
        ProjectMemory::with_store(Faulty { reads_fail: true, ..Faulty::new(0, Fault::Error) }).start();
    let answers: Vec<Result<(), MemoryError>> = vec![
        memory.send(Put::new("k", "x")).await.unwrap().map(drop),
        memory.send(Get::latest("k")).await.unwrap().map(drop),
        memory.send(ListVersions::new("k")).await.unwrap().map(drop),
        memory.send(ListKeys::new()).await.unwrap().map(drop),
        memory.send(Delete::all("k")).await.unwrap().map(drop),
        memory.send(GetRun(run_id("r"))).await.unwrap().map(drop),
        memory.send(ListRuns::default()).await.unwrap().map(drop),
        memory.send(GetOutputs(run_id("r"))).await.unwrap().map(drop),
    ];
    for answer in answers {
        let error = answer.unwrap_err();
        assert_eq!(
            chain(&error),
            ["the store failed; what it was writing may or may not be stored", "disk on fire"]
        );
        assert!(!error.wrote_nothing());
    }
}

#[actix::test]
async fn a_memory_that_has_stopped_fails_the_plan() {
    let (elsewhere, trace) = (Arbiter::new(), Trace::default());
    let memory = ProjectMemory::start_in_arbiter(&elsewhere.handle(), |_| ProjectMemory::in_memory());
    let bus = EventBus::new().start();
    let orchestrator = ExecutionOrchestrator::new(bus, memory.clone(), SimpleAllocator.start()).start();
    orchestrator.send(ExecutePlan::new([noted(&trace, "before")])).await.unwrap().unwrap();
    elsewhere.stop();
    elsewhere.join().unwrap();

    let error =
        orchestrator.send(ExecutePlan::new([noted(&trace, "after")]).run_id("r")).await.unwrap().unwrap_err();
    assert_eq!(chain(&error), ["memory could not store run r", "the memory actor has stopped"]);
    assert!(matches!(error, PlanError::Memory { source: MemoryError::Stopped, .. }));
    assert_eq!(trace.all(), ["before"]);
}

/// After `good` commits it refuses every one, as it is allowed to for other reasons.
struct Refusing {
    inner: Faulty,
    good: usize,
}

impl Actor for Refusing {
    type Context = Context<Self>;
}

impl Handler<Box<Commit>> for Refusing {
    type Result = Result<Committed, MemoryError>;

    fn handle(&mut self, commit: Box<Commit>, _: &mut Self::Context) -> Self::Result {
        let at = SystemTime::now();
        if self.good == 0 {
            return Err(MemoryError::RunExists { run_id: commit.run_id });
        }
        self.good -= 1;
        self.inner.commit(commit, at).map(|_| Committed::new(at))
    }
}

impl Handler<GetRun> for Refusing {
    type Result = Result<Option<RunRecord>, MemoryError>;

    fn handle(&mut self, GetRun(run_id): GetRun, _: &mut Self::Context) -> Self::Result {
        Ok(self.inner.run(&run_id)?)
    }
}

impl Handler<ListRuns> for Refusing {
    type Result = Result<Vec<RunRecord>, MemoryError>;

    fn handle(&mut self, _: ListRuns, _: &mut Self::Context) -> Self::Result {
        Ok(Vec::new())
    }
}

impl Handler<FindRun> for Refusing {
    type Result = Result<Option<FoundRun>, MemoryError>;

    fn handle(&mut self, _: FindRun, _: &mut Self::Context) -> Self::Result {
        Ok(None)
    }
}

impl Handler<ListUnfinished> for Refusing {
    type Result = Result<Vec<RunRecord>, MemoryError>;

    fn handle(&mut self, _: ListUnfinished, _: &mut Self::Context) -> Self::Result {
        Ok(Vec::new())
    }
}

impl Handler<lunacore::ListBreakers> for Refusing {
    type Result = Result<Vec<lunacore::BreakerRecord>, MemoryError>;

    fn handle(&mut self, _: lunacore::ListBreakers, _: &mut Self::Context) -> Self::Result {
        Ok(Vec::new())
    }
}

impl Handler<lunacore::RecordBreaker> for Refusing {
    type Result = Result<Committed, MemoryError>;

    fn handle(&mut self, _: lunacore::RecordBreaker, _: &mut Self::Context) -> Self::Result {
        Err(MemoryError::ReadOnly)
    }
}

impl Handler<lunacore::RecordSignal> for Refusing {
    type Result = Result<lunacore::KeptSignal, MemoryError>;

    fn handle(&mut self, _: lunacore::RecordSignal, _: &mut Self::Context) -> Self::Result {
        Err(MemoryError::ReadOnly)
    }
}

impl Handler<Attach> for Refusing {
    type Result = ();

    fn handle(&mut self, _: Attach, _: &mut Self::Context) {}
}

#[actix::test]
async fn a_memory_that_refuses_everything_ends_the_run_instead_of_being_asked_for_ever() {
    for good in 0..4 {
        let memory = Refusing { inner: Faulty::new(0, Fault::Error), good }.start();
        let allocator = SimpleAllocator.start();
        let orchestrator = ExecutionOrchestrator::new(EventBus::new().start(), memory, allocator).start();
        let steps = [0, 1, 2].map(|n| Step::unnamed(move || async move { n }));
        let error = orchestrator.send(ExecutePlan::new(steps)).await.unwrap().unwrap_err();
        assert!(matches!(error, PlanError::RunExists { .. }), "{error:?}");
    }
}

#[actix::test]
async fn a_slot_is_not_given_away_while_blocking_code_runs_though_its_stop_could_not_be_stored() {
    // Commit 1 starts run a, commit 2 accepts run b, commit 3 is the stop of a.
    let actors = start_over(ProjectMemory::with_store(Faulty::new(3, Fault::Error)));
    let trace = Trace::default();
    let (release, wait) = std::sync::mpsc::channel::<()>();
    let (wait, ended, ran) = (Mutex::new(wait), trace.clone(), trace.clone());
    let blocking = Step::new("blocking", move || {
        wait.lock().unwrap().recv().unwrap();
        ended.note("a ended");
    });
    let a = SubmitPlan(ExecutePlan::new([blocking]).run_id("a"));
    let a = actors.orchestrator.send(a).await.unwrap().unwrap();
    let b = SubmitPlan(ExecutePlan::new([Step::new("x", move || ran.note("b ran"))]));
    let b = actors.orchestrator.send(b).await.unwrap().unwrap();
    let cancelled = actors.orchestrator.send(CancelPlan(run_id("a")));
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(trace.all(), [""; 0]);
    release.send(()).unwrap();
    assert!(matches!(a.await, Err(PlanError::Memory { .. })));
    assert!(cancelled.await.unwrap().is_err());
    b.await.unwrap();
    assert_eq!(trace.all(), ["a ended", "b ran"]);
}

#[actix::test]
async fn a_store_with_a_history_is_attached_without_a_false_gap() {
    let mut store = VolatileStore::default();
    for n in 0..5 {
        let run_id: RunId = format!("old-{n}").parse().unwrap();
        let mut commit = Commit::new(run_id, Project::default(), RunUpdate::new(RunState::Completed, 0, 0));
        commit.accept = Some(Box::new(NewRun::new(PlanRecord::of([]).unwrap(), Claim::new())));
        commit.events = vec![EventKind::PlanCompleted {}];
        store.commit(Box::new(commit), SystemTime::now()).unwrap();
    }
    let actors = start_over(ProjectMemory::with_store(store));
    let mut events = watch(&actors.bus).await;
    actors.orchestrator.send(ExecutePlan::new([])).await.unwrap().unwrap();
    let first = events.next().await.unwrap();
    assert_eq!((first.event_type(), first.seq()), ("plan.accepted", Some(6)));
}
