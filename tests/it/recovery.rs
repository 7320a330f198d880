//! Promises 1 to 4: what a run's id is good for, and how a run goes on that was cut off: by a failure of the store, by the
//! death of the process, by the end of its orchestrator.
//!
//! Each test is written for any store that can be opened again, and is run on each of them: see `worlds!` at the end.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant, SystemTime};

use actix::prelude::*;
use bytes::Bytes;
use log::Level;
use lunacore::limits::{LOOKUPS, MAX_PAGE, STOP_GRACE};
use lunacore::testing::{Fault, FaultyStore, SharedStore};
use lunacore::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::logging::Capture;
use crate::support::*;

// Worlds, and lives in them.

/// What survives a process: a store that can be opened again.
pub trait World: 'static {
    type Store: Store;

    /// Whether commits of several runs may share a batch, and fail together.
    const BATCHES: bool;

    /// A world where nothing has happened yet.
    fn fresh() -> Self;

    /// The store, as the next process finds it, once whoever had it before has let go of it.
    async fn open(&self) -> Self::Store;

    /// A view that reads what is stored while the store writes.
    fn view(store: &Self::Store) -> Box<dyn Reader>;
}

/// The volatile store, which stays when its memory goes.
pub struct Volatile(SharedStore);

impl World for Volatile {
    type Store = SharedStore;

    const BATCHES: bool = false;

    fn fresh() -> Self {
        Self(SharedStore::new(VolatileStore::default()))
    }

    async fn open(&self) -> SharedStore {
        self.0.clone()
    }

    fn view(store: &SharedStore) -> Box<dyn Reader> {
        Box::new(store.clone())
    }
}

/// A SQLite file, which only one life at a time can have open.
#[cfg(feature = "sqlite")]
pub struct Sqlite(pub tempfile::TempDir);

#[cfg(feature = "sqlite")]
impl World for Sqlite {
    type Store = SqliteStore;

    const BATCHES: bool = true;

    fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The actors of the life before may be gone while a batch or a flush of theirs has still to end.
    async fn open(&self) -> SqliteStore {
        let patience = Patience::new();
        loop {
            match SqliteStore::open(self.0.path().join("runs.db")) {
                Ok(store) => return store,
                Err(OpenError::InUse { .. }) => patience.wait("the life before to close its store").await,
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    fn view(store: &SqliteStore) -> Box<dyn Reader> {
        store.reader().unwrap().unwrap()
    }
}

/// What the steps of one life note, and what they wait for.
#[derive(Clone)]
struct Kit {
    trace: Trace,
    gate: Arc<Semaphore>,
}

impl Kit {
    /// Its steps return at once.
    fn new() -> Self {
        let kit = Self::closed();
        kit.open();
        kit
    }

    /// Its steps wait for `open`.
    fn closed() -> Self {
        Self { trace: Trace::default(), gate: Arc::new(Semaphore::new(0)) }
    }

    fn open(&self) {
        self.gate.add_permits(1);
    }

    /// A callable that notes its call and, once the gate is open, returns the text of the step before it and its own id.
    fn link(&self) -> Callable {
        let kit = self.clone();
        Callable::new(move |ctx: StepContext| {
            let kit = kit.clone();
            async move {
                kit.trace.note(format!("{} {} {}", ctx.run_id(), ctx.step_id(), ctx.attempt()));
                let _open = kit.gate.acquire().await?;
                let before = if ctx.index() == 0 { String::new() } else { ctx.previous()? };
                Ok::<_, StepError>(before + ctx.step_id())
            }
        })
    }

    /// The same callable, that fails in the end.
    fn broken(&self) -> Callable {
        let kit = self.clone();
        Callable::new(move |ctx: StepContext| {
            let kit = kit.clone();
            async move {
                kit.trace.note(format!("{} {} {}", ctx.run_id(), ctx.step_id(), ctx.attempt()));
                let _open = kit.gate.acquire().await?;
                Err::<(), StepError>(Broken { source: std::num::ParseIntError::clone(&bad_number()) }.into())
            }
        })
    }

    fn closures(&self, ids: &[&'static str]) -> Vec<Step> {
        ids.iter().map(|id| Step::new(*id, self.link())).collect()
    }

    fn registry(&self) -> RegistryAllocator {
        RegistryAllocator::new().register("link", self.link()).register("broken", self.broken())
    }

    /// How often a step was called.
    fn calls(&self, run: &str, step: &str) -> usize {
        calls(&self.trace.all(), run, step)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the number is no good")]
struct Broken {
    source: std::num::ParseIntError,
}

fn bad_number() -> std::num::ParseIntError {
    "x".parse::<u32>().unwrap_err()
}

fn calls(trace: &[String], run: &str, step: &str) -> usize {
    trace.iter().filter(|call| call.starts_with(&format!("{run} {step} "))).count()
}

/// Steps whose callables are found by name, in whatever life.
fn named(ids: &[&'static str]) -> Vec<Step> {
    ids.iter().map(|id| Step::named(*id).uses("link")).collect()
}

const ABCD: [&str; 4] = ["a", "b", "c", "d"];

fn live(store: impl Store, registry: RegistryAllocator) -> Actors {
    live_with(store, registry, |orchestrator| orchestrator)
}

fn live_with(
    store: impl Store,
    registry: RegistryAllocator,
    configure: impl FnOnce(ExecutionOrchestrator) -> ExecutionOrchestrator,
) -> Actors {
    let (bus, memory) = (EventBus::new().start(), ProjectMemory::with_store(store).start());
    let orchestrator = ExecutionOrchestrator::new(bus.clone(), memory.clone(), registry.start());
    Actors { orchestrator: configure(orchestrator).start(), bus, memory }
}

/// Another orchestrator over the same memory.
fn beside(actors: &Actors, registry: RegistryAllocator) -> Actors {
    let (bus, memory) = (actors.bus.clone(), actors.memory.clone());
    let orchestrator = ExecutionOrchestrator::new(bus.clone(), memory.clone(), registry.start()).start();
    Actors { orchestrator, bus, memory }
}

/// Waits until nothing of a life is left that has the store.
async fn bury(actors: Actors) {
    let _ = actors.orchestrator.send(Shutdown::now()).await;
    let memory = actors.memory.downgrade();
    drop(actors);
    let patience = Patience::new();
    while memory.upgrade().is_some() {
        patience.wait("the memory to go").await;
    }
    let_others_run().await;
}

/// Lets everything on this thread go on until it waits for something else.
async fn let_others_run() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn plan_of(id: &str, steps: impl Into<Plan>) -> ExecutePlan {
    ExecutePlan::new(steps).run_id(id)
}

async fn execute(actors: &Actors, plan: ExecutePlan) -> Result<Vec<Value>, PlanError> {
    actors.orchestrator.send(plan).await.unwrap()
}

/// Sends them all, then waits for all.
async fn execute_all(
    actors: &Actors,
    plans: impl IntoIterator<Item = ExecutePlan>,
) -> Vec<Result<Vec<Value>, PlanError>> {
    let requests: Vec<_> = plans.into_iter().map(|plan| actors.orchestrator.send(plan)).collect();
    let mut answers = Vec::new();
    for request in requests {
        answers.push(request.await.unwrap());
    }
    answers
}

async fn submit(actors: &Actors, plan: ExecutePlan) -> RunHandle {
    actors.orchestrator.send(SubmitPlan(plan)).await.unwrap().unwrap()
}

async fn cancel(actors: &Actors, id: &str) -> Result<CancelOutcome, ControlError> {
    actors.orchestrator.send(CancelPlan(run_id(id))).await.unwrap()
}

async fn status(actors: &Actors, id: &str) -> RunInfo {
    actors.orchestrator.send(PlanStatus(run_id(id))).await.unwrap().unwrap()
}

async fn states(actors: &Actors) -> Vec<(String, RunState)> {
    let infos = actors.orchestrator.send(ListPlans::new()).await.unwrap().unwrap();
    infos.into_iter().map(|info| (info.run_id.to_string(), info.state)).collect()
}

/// Waits until the orchestrator knows what goes on by itself and what does not, which is when it begins to say something
/// about runs that are not there; and until that is stored, and the first steps of what goes on are called.
async fn recovered(actors: &Actors) {
    assert!(matches!(cancel(actors, "no such run").await, Err(ControlError::UnknownRun { .. })));
    let_others_run().await;
    all_stored(actors).await;
    let_others_run().await;
}

/// Waits until everything that memory has been sent so far is written, or has failed: writes are answered in their order.
async fn all_stored(actors: &Actors) {
    let _ = actors.memory.send(Delete::all("no such key")).await.unwrap();
}

/// For loops that wait for something: a test fails rather than wait for ever.
struct Patience(Instant);

impl Patience {
    fn new() -> Self {
        Self(Instant::now())
    }

    async fn wait(&self, what: &str) {
        assert!(self.0.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        tokio::task::yield_now().await;
    }
}

/// Waits until every run has ended.
async fn all_end(actors: &Actors) {
    let patience = Patience::new();
    while !unfinished(actors).await.is_empty() {
        patience.wait("the runs to end").await;
    }
}

/// Waits until a run is in this state.
async fn reaches(actors: &Actors, id: &str, state: RunState) -> RunInfo {
    let patience = Patience::new();
    loop {
        let info = status(actors, id).await;
        if info.state == state {
            return info;
        }
        assert!(!info.state.is_final(), "{id} is {}", info.state);
        patience.wait(&format!("{id} to be {state}")).await;
    }
}

async fn record(actors: &Actors, id: &str) -> Option<RunRecord> {
    actors.memory.send(GetRun(run_id(id))).await.unwrap().unwrap()
}

async fn unfinished(actors: &Actors) -> Vec<String> {
    let records = actors.memory.send(ListUnfinished::new(None)).await.unwrap().unwrap();
    records.into_iter().map(|record| record.run_id.to_string()).collect()
}

async fn versions(actors: &Actors, key: &str) -> Vec<u64> {
    actors.memory.send(ListVersions::new(key)).await.unwrap().unwrap()
}

/// Everything that is stored as an event, whose numbers are 1, 2, 3 ….
async fn history(actors: &Actors) -> Vec<Event> {
    let events = actors.memory.send(ReadEvents::new(0, MAX_PAGE)).await.unwrap().unwrap();
    assert!(events.iter().map(Event::seq).eq((1..=events.len() as u64).map(Some)), "{events:#?}");
    events
}

async fn history_of(actors: &Actors, id: &str) -> Vec<String> {
    let of_run: Vec<Event> =
        history(actors).await.into_iter().filter(|event| event.run_id() == Some(&run_id(id))).collect();
    let read = actors.memory.send(ReadHistory::new(run_id(id))).await.unwrap().unwrap();
    assert_eq!(read, of_run);
    of_run.iter().map(shown).collect()
}

/// Type, step, and what counts here.
fn shown(event: &Event) -> String {
    match event.kind() {
        EventKind::TaskStarted { attempt, .. }
        | EventKind::TaskFailed { attempt, .. }
        | EventKind::TaskCancelled { attempt, .. } => format!("{event} {attempt}"),
        EventKind::PlanResumed { completed } => format!("{event} {completed}"),
        _ => event.to_string(),
    }
}

/// A life in which the store dies at a commit: that of the first step of the first run, with the others in the queue, after
/// `more` commits.
async fn cut_off<W: World>(world: &W, kit: &Kit, plans: Vec<ExecutePlan>, more: usize) {
    let store = FaultyStore::new(world.open().await, Fault::Die, plans.len() + more + 1);
    let actors = live(store, kit.registry());
    let mut handles = Vec::new();
    for plan in plans {
        handles.push(submit(&actors, plan).await);
    }
    kit.open();
    for handle in handles {
        assert_cut_off(&handle.await.unwrap_err());
    }
    bury(actors).await;
}

fn assert_cut_off(error: &PlanError) {
    assert!(matches!(error, PlanError::Memory { source: MemoryError::Store(_), .. }), "{error:?}");
}

// 1. The sweep: whatever commit fails, and however.

/// How the run is taken up again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    /// Its plan is sent again to the same orchestrator.
    Same,
    /// To that of the next process, before that knows what was unfinished.
    AtOnce,
    /// To that of the next process, once that has said that the run does not go on by itself.
    Later,
    /// By itself, in the next process.
    ByItself,
}

const FAILURES: [Fault; 3] = [Fault::Fail, Fault::FailAfter, Fault::Panic];
const DEATHS: [Fault; 2] = [Fault::Die, Fault::DieAfter];

fn is_stored(fault: Fault) -> bool {
    matches!(fault, Fault::FailAfter | Fault::DieAfter)
}

/// The events of each commit of a run of the steps a to d.
fn commits(queued: bool) -> Vec<Vec<String>> {
    let own = |events: &[&str]| events.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut commits = if queued {
        vec![own(&["plan.accepted"]), own(&["plan.started", "task.started a 1"])]
    } else {
        vec![own(&["plan.accepted", "plan.started", "task.started a 1"])]
    };
    commits.push(own(&["task.completed a", "task.started b 1"]));
    commits.push(own(&["task.completed b", "task.started c 1"]));
    commits.push(own(&["task.completed c", "task.started d 1"]));
    commits.push(own(&["task.completed d", "plan.completed"]));
    commits
}

/// What a run of a to d that was cut off when `stored` of its commits were, and then taken up, has said in the end.
fn said_by(stored: usize, queued: bool, way: Way) -> Vec<String> {
    let all = commits(queued);
    let last = all.len();
    if stored == 0 {
        // It was never accepted; by then there is a free slot.
        return commits(false).concat();
    }
    let mut said = all[..stored].concat();
    if stored == last {
        return said;
    }
    if way == Way::Later {
        said.push("plan.interrupted".to_owned());
    }
    if queued && stored == 1 {
        said.extend(all[1..].concat());
        return said;
    }
    let completed = stored - 1 - usize::from(queued);
    said.push(format!("plan.resumed {completed}"));
    said.extend(ABCD[..completed].iter().map(|step| format!("task.recovered {step}")));
    said.push(format!("task.started {} 2", ABCD[completed]));
    said.extend(all[stored..].concat());
    said
}

/// Goes on after a failure, in the way that is asked for; tells what was stored of each run when it was cut off.
async fn go_on<W: World>(
    world: &W,
    first: Actors,
    kit: &Kit,
    way: Way,
    ids: &[&str],
) -> (Actors, Vec<Option<RunRecord>>) {
    if way == Way::Same {
        let mut cuts = Vec::new();
        for id in ids {
            cuts.push(record(&first, id).await);
        }
        return (first, cuts);
    }
    bury(first).await;
    let store = world.open().await;
    let cuts = ids.iter().map(|id| store.run(&run_id(id)).unwrap()).collect();
    drop(store);
    let actors = live_with(world.open().await, kit.registry(), |o| o.max_concurrent_plans(4));
    match way {
        Way::Same | Way::AtOnce => {}
        Way::Later => recovered(&actors).await,
        Way::ByItself => all_end(&actors).await,
    }
    (actors, cuts)
}

/// The ways in which a run can be taken up after this.
fn ways(fault: Fault) -> &'static [Way] {
    if DEATHS.contains(&fault) { &[Way::AtOnce, Way::Later, Way::ByItself] } else { &[Way::Same] }
}

/// What must be true of a completed run, whatever happened to it, given what was stored of it and which steps had been called
/// when it was cut off.
async fn assert_whole(
    actors: &Actors,
    id: &str,
    steps: &[&str],
    cut: Option<&RunRecord>,
    before: &[String],
    after: &[String],
) {
    let completed = cut.map_or(0, |record| record.cursor);
    let was_started = cut.is_some_and(|record| record.attempt > 0 || record.state.is_final());
    let was_over = cut.is_some_and(|record| record.state.is_final());
    for (index, step) in steps.iter().enumerate() {
        let (first, all) = (calls(before, id, step), calls(after, id, step));
        match index {
            _ if index < completed => assert_eq!((first, all), (1, 1), "{step} of {id} had completed"),
            _ if index == completed => assert_eq!(all, first + 1, "{step} of {id} was in flight"),
            _ => assert_eq!((first, all), (0, 1), "{step} of {id} came later"),
        }
        assert_eq!(versions(actors, &format!("task:{step}")).await, [1], "{step} of {id}");
    }
    let said = history_of(actors, id).await;
    let count = |wanted: &str| said.iter().filter(|event| *event == wanted).count();
    for (index, step) in steps.iter().enumerate() {
        let resumed = was_started && !was_over;
        assert_eq!(count(&format!("task.started {step} 1")), 1, "{said:?}");
        let again = usize::from(resumed && index == completed);
        assert_eq!(count(&format!("task.started {step} 2")), again, "{said:?}");
        assert_eq!(count(&format!("task.completed {step}")), 1, "{said:?}");
        let recovered = usize::from(resumed && index < completed);
        assert_eq!(count(&format!("task.recovered {step}")), recovered, "{said:?}");
    }
    let resumed = usize::from(was_started && !was_over);
    assert_eq!(said.iter().filter(|event| event.starts_with("plan.resumed")).count(), resumed);
    assert_eq!(count(&format!("plan.resumed {completed}")), resumed, "{said:?}");
    for once in ["plan.accepted", "plan.started", "plan.completed"] {
        assert_eq!(count(once), 1, "{said:?}");
    }
    assert_eq!(said.last().unwrap(), "plan.completed");
    let record = record(actors, id).await.unwrap();
    assert_eq!((record.state, record.cursor), (RunState::Completed, steps.len()));
    let outputs = actors.memory.send(GetOutputs(run_id(id))).await.unwrap().unwrap().unwrap();
    assert_eq!(outputs.len(), steps.len());
}

fn prefixes() -> Vec<Value> {
    ["a", "ab", "abc", "abcd"].map(Value::from).into()
}

/// Steps that bring their callables, or name them, as this way needs it.
fn steps_for(way: Way, kit: &Kit, ids: &[&'static str]) -> Vec<Step> {
    if way == Way::ByItself { named(ids) } else { kit.closures(ids) }
}

/// One run of four steps, whose `n`th commit fails.
async fn sweep_alone<W: World>(n: usize, fault: Fault, way: Way) {
    let (world, kit, case) = (W::fresh(), Kit::new(), format!("{fault:?} at commit {n}, {way:?}"));
    let plan = plan_of("r", steps_for(way, &kit, &ABCD));
    let actors = live(FaultyStore::new(world.open().await, fault, n), kit.registry());
    let mut told = watch(&actors.bus).await;
    let answer = execute(&actors, plan.clone()).await;
    if n > 5 {
        assert_eq!(answer.unwrap(), prefixes());
    } else {
        assert_cut_off(&answer.unwrap_err());
    }
    let before = kit.trace.all();
    let expected: Vec<String> = ABCD[..(n - 1).min(4)].iter().map(|step| format!("r {step} 1")).collect();
    assert_eq!(before, expected, "{case}");
    let stored = if n > 5 { 5 } else { n - 1 + usize::from(is_stored(fault)) };
    let (actors, cuts) = go_on(&world, actors, &kit, way, &["r"]).await;
    let cut = cuts[0].as_ref();
    assert_eq!(cut.map(|record| record.cursor), stored.checked_sub(1), "{case}");

    assert_eq!(execute(&actors, plan).await.unwrap(), prefixes(), "{case}");
    let after = kit.trace.all();
    let repeated: usize = ABCD.iter().map(|step| calls(&after, "r", step) - 1).sum();
    // A step is repeated only when it was called and its result is not stored.
    assert_eq!(repeated, usize::from(before.len() > stored.saturating_sub(1)), "{case}: {after:?}");
    assert_whole(&actors, "r", &ABCD, cut, &before, &after).await;
    assert_eq!(history_of(&actors, "r").await, said_by(stored, false, way), "{case}");
    assert_eq!(unfinished(&actors).await, [""; 0], "{case}");
    assert_eq!(status(&actors, "r").await.state, RunState::Completed, "{case}");
    if way == Way::Same {
        // The bus has heard of each event once, in order, also of those that turned out to be stored.
        let seen = until(&mut told, "plan.completed").await;
        assert_eq!(seen, history(&actors).await, "{case}");
    }
}

async fn any_commit_may_fail_and_the_run_goes_on_where_it_was<W: World>() {
    for fault in FAILURES {
        for n in 1..=6 {
            sweep_alone::<W>(n, fault, Way::Same).await;
        }
    }
}

async fn the_process_may_die_at_any_commit_and_the_run_goes_on_where_it_was<W: World>() {
    for fault in DEATHS {
        for n in 1..=6 {
            for way in ways(fault) {
                sweep_alone::<W>(n, fault, *way).await;
            }
        }
    }
}

/// A run of four steps that has to wait for another one, of one step: at any commit of both but the first.
async fn sweep_queued<W: World>(n: usize, fault: Fault, way: Way) {
    let (world, kit, case) = (W::fresh(), Kit::closed(), format!("{fault:?} at commit {n}, {way:?}"));
    let plans = [plan_of("first", steps_for(way, &kit, &["z"])), plan_of("r", steps_for(way, &kit, &ABCD))];
    let actors = live(FaultyStore::new(world.open().await, fault, n), kit.registry());
    let first = submit(&actors, plans[0].clone()).await;
    let second = actors.orchestrator.send(SubmitPlan(plans[1].clone())).await.unwrap();
    assert_eq!(second.is_err(), n == 2, "{case}");
    kit.open();
    let first = first.await;
    let second = match second {
        Ok(handle) => handle.await,
        Err(error) => Err(error),
    };
    // Commit 1 starts the first run, 2 accepts the second, 3 ends the first, and the rest is the second's.
    let dies = DEATHS.contains(&fault);
    let stored = match n {
        3 if dies => 1,
        3 | 9 => 6,
        _ => [2, 4, 5, 6, 7, 8].iter().filter(|at| **at < n).count() + usize::from(is_stored(fault)),
    };
    assert_eq!(first.is_ok(), n > 3 || n == 2 && !dies, "{case}");
    assert_eq!(second.is_ok(), n > 8 || n == 3 && !dies, "{case}");
    let before = kit.trace.all();
    let (actors, cuts) = go_on(&world, actors, &kit, way, &["first", "r"]).await;
    assert_eq!(
        cuts[1].as_ref().map(|r| r.cursor),
        stored.checked_sub(1).map(|n| n.saturating_sub(1)),
        "{case}"
    );

    let answers = execute_all(&actors, plans).await;
    assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [vec![json!("z")], prefixes()]);
    let after = kit.trace.all();
    assert_whole(&actors, "first", &["z"], cuts[0].as_ref(), &before, &after).await;
    assert_whole(&actors, "r", &ABCD, cuts[1].as_ref(), &before, &after).await;
    if stored > 0 {
        assert_eq!(history_of(&actors, "r").await, said_by(stored, true, way), "{case}");
    }
    assert_eq!(unfinished(&actors).await, [""; 0], "{case}");
}

async fn a_plan_that_had_to_wait_goes_on_whatever_commit_fails<W: World>() {
    // Between its first step and its last one run is like the other, and a disk takes its time.
    let commits: &[usize] = if W::BATCHES { &[2, 3, 4, 6, 8, 9] } else { &[2, 3, 4, 5, 6, 7, 8, 9] };
    for fault in FAILURES.into_iter().chain(DEATHS) {
        for n in commits.iter().copied() {
            for way in ways(fault) {
                sweep_queued::<W>(n, fault, *way).await;
            }
        }
    }
}

/// Checks how a run of the steps `a` and `bad` failed.
fn assert_failed(error: &PlanError, attempt: u32) {
    let PlanError::StepFailed { run_id, step_id, index, attempt: at, kind, completed, source, .. } = error
    else {
        panic!("{error:?}")
    };
    assert_eq!((run_id.as_str(), &**step_id, *index, *at), ("r", "bad", 1, attempt));
    assert_eq!((*kind, &**completed), (FailureKind::Error, &[json!("a")][..]));
    assert!(source.is::<Broken>() || source.is::<RecordedError>());
    assert_eq!(
        chain(error),
        [
            &format!("step 1 (\"bad\") of run r failed at attempt {attempt}"),
            "the number is no good",
            &bad_number().to_string()
        ]
    );
}

fn failing(way: Way, kit: &Kit) -> ExecutePlan {
    let bad = match way {
        Way::ByItself => Step::named("bad").uses("broken"),
        _ => Step::new("bad", kit.broken()),
    };
    let mut steps = steps_for(way, kit, &["a"]);
    steps.push(bad);
    plan_of("r", steps)
}

async fn a_run_whose_step_fails_fails_once_whatever_commit_fails<W: World>() {
    for fault in FAILURES.into_iter().chain(DEATHS) {
        for (n, way) in (1..=4).flat_map(|n| ways(fault).iter().map(move |way| (n, *way))) {
            let (world, kit, case) = (W::fresh(), Kit::new(), format!("{fault:?} at commit {n}, {way:?}"));
            let actors = live(FaultyStore::new(world.open().await, fault, n), kit.registry());
            let answer = execute(&actors, failing(way, &kit)).await.unwrap_err();
            if n > 3 {
                assert_failed(&answer, 1);
            } else {
                assert_cut_off(&answer);
            }
            let stored = if n > 3 { 3 } else { n - 1 + usize::from(is_stored(fault)) };
            let called = kit.calls("r", "bad");
            assert_eq!(called, usize::from(n >= 3));
            let (actors, _) = go_on(&world, actors, &kit, way, &["r"]).await;

            let error = execute(&actors, failing(way, &kit)).await.unwrap_err();
            assert_failed(&error, if stored == 2 { 2 } else { 1 });
            assert_eq!(kit.calls("r", "bad"), if stored == 3 { called } else { called + 1 }, "{case}");
            assert_eq!(kit.calls("r", "a"), if n == 2 && stored == 1 { 2 } else { 1 }, "{case}");
            assert_eq!(versions(&actors, "task:a").await, [1], "{case}");
            assert_eq!(versions(&actors, "task:bad").await, [0; 0], "{case}");
            let said = history_of(&actors, "r").await;
            assert_eq!(said.iter().filter(|event| event.starts_with("task.failed")).count(), 1, "{said:?}");
            assert_eq!(said.last().unwrap(), "plan.failed bad", "{case}");
            assert_eq!(said.contains(&"task.recovered a".to_owned()), stored == 2, "{case}");
            assert_eq!(unfinished(&actors).await, [""; 0], "{case}");
            // Whoever asks again hears the same.
            let again = execute(&actors, failing(way, &kit)).await.unwrap_err();
            assert_eq!(chain(&again), chain(&error), "{case}");
        }
    }
}

const SIDE_BY_SIDE: [(&str, [&str; 3]); 4] = [
    ("w0", ["a0", "b0", "c0"]),
    ("w1", ["a1", "b1", "c1"]),
    ("w2", ["a2", "b2", "c2"]),
    ("w3", ["a3", "b3", "c3"]),
];

async fn runs_side_by_side_go_on_whichever_is_hit<W: World>() {
    // The four runs make 16 commits. Where those of several runs share a batch, it is the batch that fails, mostly of four: so
    // each of its places is hit in some batch, but not in every one.
    let places: Vec<usize> = (1..=17).filter(|n| !W::BATCHES || *n == 17 || n % 3 == 1).collect();
    for fault in FAILURES.into_iter().chain(DEATHS) {
        for (n, way) in places.iter().flat_map(|n| ways(fault).iter().map(move |way| (*n, *way))) {
            let (world, kit, case) = (W::fresh(), Kit::new(), format!("{fault:?} at commit {n}, {way:?}"));
            let plans = SIDE_BY_SIDE.map(|(id, steps)| plan_of(id, steps_for(way, &kit, &steps)));
            let faulty = FaultyStore::new(world.open().await, fault, n);
            let actors = live_with(faulty, kit.registry(), |o| o.max_concurrent_plans(4));
            let answers = execute_all(&actors, plans.clone()).await;
            let before = kit.trace.all();
            let ids = SIDE_BY_SIDE.map(|(id, _)| id);
            let (actors, cuts) = go_on(&world, actors, &kit, way, &ids).await;
            // A failure ends the runs whose commits it hits, and a death all that are left.
            let failed = answers.iter().filter(|answer| answer.is_err()).count();
            let at_most = if DEATHS.contains(&fault) || W::BATCHES { 4 } else { 1 };
            assert!(if n == 17 { failed == 0 } else { (1..=at_most).contains(&failed) }, "{case}: {failed}");
            for (answer, cut) in answers.iter().zip(&cuts) {
                match answer {
                    // What was acknowledged is stored.
                    Ok(_) => assert_eq!(cut.as_ref().unwrap().state, RunState::Completed, "{case}"),
                    Err(error) => assert_cut_off(error),
                }
            }
            let again = execute_all(&actors, plans).await;
            let after = kit.trace.all();
            for (((id, steps), answer), cut) in SIDE_BY_SIDE.iter().zip(again).zip(&cuts) {
                assert_eq!(answer.unwrap()[2], steps.concat(), "{case}");
                assert_whole(&actors, id, steps, cut.as_ref(), &before, &after).await;
            }
            assert_eq!(unfinished(&actors).await, [""; 0], "{case}");
        }
    }
}

// 2. Attaching.

async fn a_run_that_completed_answers_with_its_stored_results_and_calls_nothing<W: World>() {
    let (world, kit) = (W::fresh(), Kit::new());
    let plan = || plan_of("r", kit.closures(&ABCD));
    let actors = live(world.open().await, kit.registry());
    execute(&actors, plan()).await.unwrap();
    let (calls, told) = (kit.trace.all(), history(&actors).await);
    assert_eq!(execute(&actors, plan()).await.unwrap(), prefixes());
    assert_eq!(submit(&actors, plan()).await.await.unwrap(), prefixes());
    bury(actors).await;

    let actors = live(world.open().await, kit.registry());
    assert_eq!(submit(&actors, plan()).await.await.unwrap(), prefixes());
    assert_eq!(execute(&actors, plan()).await.unwrap(), prefixes());
    assert_eq!((kit.trace.all(), history(&actors).await), (calls, told));
}

async fn a_run_that_failed_answers_with_its_stored_failure_and_calls_nothing<W: World>() {
    let (world, kit) = (W::fresh(), Kit::new());
    let plan = || failing(Way::AtOnce, &kit);
    let mut actors = live(world.open().await, kit.registry());
    let error = execute(&actors, plan()).await.unwrap_err();
    assert_failed(&error, 1);
    let (calls, told) = (kit.trace.all(), history(&actors).await);
    for life in 0..2 {
        let again = execute(&actors, plan()).await.unwrap_err();
        assert_failed(&again, 1);
        assert_eq!(chain(&again), chain(&error), "in life {life}");
        let PlanError::StepFailed { source, .. } = &again else { panic!("{again:?}") };
        let recorded: &RecordedError = source.downcast_ref().unwrap();
        assert_eq!(recorded.message, "the number is no good");
        assert_eq!(recorded.source.as_ref().unwrap().message, bad_number().to_string());
        // A submission is answered in the same way: there is nothing left to wait for.
        let refused = actors.orchestrator.send(SubmitPlan(plan())).await.unwrap();
        let refused = match refused {
            Ok(handle) => handle.await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(chain(&refused), chain(&error));
        bury(actors).await;
        actors = live(world.open().await, kit.registry());
    }
    assert_eq!((kit.trace.all(), history(&actors).await), (calls, told));
}

async fn a_recorded_panic_reads_like_the_live_one<W: World>() {
    let (world, kit) = (W::fresh(), Kit::new());
    let plan = || plan_of("r", [Step::new("x", || -> () { panic!("no luck") })]);
    let actors = live(world.open().await, kit.registry());
    let live_error = execute(&actors, plan()).await.unwrap_err();
    let stored = execute(&actors, plan()).await.unwrap_err();
    assert_eq!(chain(&live_error), chain(&stored));
    assert_eq!(chain(&stored)[1], "panicked: no luck");
    let PlanError::StepFailed { kind, source, .. } = stored else { panic!("{stored:?}") };
    assert_eq!(kind, FailureKind::Panic);
    assert!(source.is::<RecordedError>());
}

fn assert_cancelled(answer: Result<Vec<Value>, PlanError>, expected: &[Value]) {
    match answer {
        Err(PlanError::Cancelled { completed, .. }) => assert_eq!(completed, expected),
        other => panic!("{other:?}"),
    }
}

async fn a_run_that_was_cancelled_answers_so_with_what_had_completed<W: World>() {
    let (world, kit) = (W::fresh(), Kit::new());
    let plan = || {
        let mut steps = kit.closures(&["a"]);
        steps.push(Step::new("endless", pending::<()>));
        plan_of("r", steps)
    };
    let actors = live(world.open().await, kit.registry());
    let handle = submit(&actors, plan()).await;
    while status(&actors, "r").await.completed < 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(cancel(&actors, "r").await.unwrap(), CancelOutcome::Cancelled);
    assert_cancelled(handle.await, &[json!("a")]);
    assert_cancelled(execute(&actors, plan()).await, &[json!("a")]);
    bury(actors).await;
    let actors = live(world.open().await, kit.registry());
    assert_cancelled(execute(&actors, plan()).await, &[json!("a")]);
    assert_eq!(kit.calls("r", "a"), 1);
}

async fn callers_of_a_run_that_runs_or_waits_get_the_same_outcome<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let actors = live(world.open().await, kit.registry());
    let ids = ["running", "waiting"];
    let steps = |id: &str| if id == "running" { ["a", "b"] } else { ["c", "d"] };
    let plan = |id: &str| plan_of(id, kit.closures(&steps(id)));
    let mut handles = Vec::new();
    for id in ids {
        for _ in 0..3 {
            // Accepted already, so the answer is there at once: nothing moves before the gate is open.
            handles.push((id, submit(&actors, plan(id)).await));
        }
    }
    let executed: Vec<_> = ids.iter().map(|id| actors.orchestrator.send(plan(id))).collect();
    assert_eq!(
        states(&actors).await,
        [("running".to_owned(), RunState::Running), ("waiting".to_owned(), RunState::Queued)]
    );
    kit.open();
    for (id, handle) in handles {
        assert_eq!(handle.await.unwrap()[1], steps(id).concat());
    }
    for (id, answer) in ids.iter().zip(executed) {
        assert_eq!(answer.await.unwrap().unwrap()[1], steps(id).concat());
        assert_eq!(steps(id).map(|step| kit.calls(id, step)), [1, 1]);
    }
}

async fn callers_of_a_run_that_fails_get_the_live_error_each<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let actors = live(world.open().await, kit.registry());
    let plan = || failing(Way::Same, &kit);
    let answers: Vec<_> = (0..3).map(|_| actors.orchestrator.send(plan())).collect();
    let handle = submit(&actors, plan()).await;
    kit.open();
    assert_failed(&handle.await.unwrap_err(), 1);
    for answer in answers {
        let error = answer.await.unwrap().unwrap_err();
        assert_failed(&error, 1);
        let PlanError::StepFailed { source, .. } = error else { panic!("{error:?}") };
        assert!(source.is::<Broken>());
    }
    assert_eq!(kit.calls("r", "bad"), 1);
}

/// A store that waits for a disk: it is written on the blocking pool, and one of its commits takes until the test says so.
struct Slow<W: World> {
    inner: W::Store,
    looked: tokio::sync::mpsc::UnboundedSender<()>,
    /// The commit that is held, from 1.
    at: usize,
    commits: usize,
    held: tokio::sync::mpsc::UnboundedSender<()>,
    release: mpsc::Receiver<()>,
}

struct View {
    inner: Box<dyn Reader>,
    /// Told when a run has been read with its plan.
    looked: tokio::sync::mpsc::UnboundedSender<()>,
}

/// The test's ends of it.
struct Hold {
    held: tokio::sync::mpsc::UnboundedReceiver<()>,
    looked: tokio::sync::mpsc::UnboundedReceiver<()>,
    release: mpsc::Sender<()>,
}

impl<W: World> Slow<W> {
    async fn new(world: &W, at: usize) -> (Self, Hold) {
        let (tell_held, held) = tokio::sync::mpsc::unbounded_channel();
        let (tell_looked, looked) = tokio::sync::mpsc::unbounded_channel();
        let (release, wait) = mpsc::channel();
        let inner = world.open().await;
        let slow = Self { inner, looked: tell_looked, at, commits: 0, held: tell_held, release: wait };
        (slow, Hold { held, looked, release })
    }
}

macro_rules! read_through {
    ([$($of:tt)*] $store:ty, $looked:expr) => {
        impl<$($of)*> Reader for $store {
            fn last_seq(&self) -> Result<u64, StoreError> {
                self.inner.last_seq()
            }
            fn artifact(
                &self,
                p: &Project,
                key: &str,
                v: Option<u64>,
            ) -> Result<Option<Artifact>, StoreError> {
                self.inner.artifact(p, key, v)
            }
            fn skipped(&self, run_id: &RunId) -> Result<Vec<usize>, StoreError> {
                self.inner.skipped(run_id)
            }

            fn signals(&self, run_id: &RunId) -> Result<Vec<lunacore::KeptSignal>, StoreError> {
                self.inner.signals(run_id)
            }

            fn breakers(&self) -> Result<Vec<lunacore::BreakerRecord>, StoreError> {
                self.inner.breakers()
            }
            fn versions(&self, project: &Project, key: &str) -> Result<Vec<u64>, StoreError> {
                self.inner.versions(project, key)
            }
            fn keys(
                &self,
                p: &Project,
                x: &str,
                a: Option<&str>,
                n: usize,
            ) -> Result<Vec<String>, StoreError> {
                self.inner.keys(p, x, a, n)
            }
            fn run(&self, run_id: &RunId) -> Result<Option<RunRecord>, StoreError> {
                self.inner.run(run_id)
            }
            fn plan(&self, run_id: &RunId) -> Result<Option<PlanRecord>, StoreError> {
                let plan = self.inner.plan(run_id);
                $looked(self);
                plan
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
            fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError> {
                self.inner.events(after, limit)
            }
            fn run_events(
                &self,
                run_id: &RunId,
                after: u64,
                limit: usize,
            ) -> Result<Vec<Event>, MemoryError> {
                self.inner.run_events(run_id, after, limit)
            }
        }
    };
}

read_through!([W: World] Slow<W>, |_: &Slow<W>| ());
read_through!([] View, |view: &View| view.looked.send(()).unwrap_or_default());

impl<W: World> Store for Slow<W> {
    fn begin(&mut self, durability: Durability) -> Result<(), StoreError> {
        self.inner.begin(durability)
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.inner.end()
    }

    fn commit(&mut self, commit: Box<Commit>, at: SystemTime) -> Result<Vec<Event>, MemoryError> {
        self.commits += 1;
        if self.commits == self.at {
            let _ = self.held.send(());
            let _ = self.release.recv();
        }
        self.inner.commit(commit, at)
    }

    fn record_signal(
        &mut self,
        signal: lunacore::RecordSignal,
        at: SystemTime,
    ) -> Result<(lunacore::KeptSignal, Vec<Event>), MemoryError> {
        self.inner.record_signal(signal, at)
    }

    fn record_breaker(
        &mut self,
        change: lunacore::RecordBreaker,
        at: SystemTime,
    ) -> Result<Vec<Event>, MemoryError> {
        self.inner.record_breaker(change, at)
    }

    fn put(&mut self, put: Put, at: SystemTime) -> Result<Artifact, MemoryError> {
        self.inner.put(put, at)
    }

    fn delete(&mut self, project: &Project, key: &str, version: Option<u64>) -> Result<bool, MemoryError> {
        self.inner.delete(project, key, version)
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.inner.reopen()
    }

    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        Ok(Some(Box::new(View { inner: W::view(&self.inner), looked: self.looked.clone() })))
    }
}

/// Whether this has no answer yet.
async fn is_open<F: Future + Unpin>(answer: &mut F) -> bool {
    let_others_run().await;
    std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *answer).poll(cx).is_pending()))
        .await
}

async fn a_submission_is_answered_when_its_run_is_stored_and_not_before<W: World>() {
    // Commit 1 starts the first run, commit 2 accepts the second, which has to wait.
    for (held, id) in [(1, "first"), (2, "second")] {
        let (world, kit) = (W::fresh(), Kit::closed());
        let (store, mut hold) = Slow::new(&world, held).await;
        let actors = live(store, kit.registry());
        let plan = |id| plan_of(id, kit.closures(&["a"]));
        if held == 2 {
            submit(&actors, plan("first")).await;
        }
        let send = || Box::pin(actors.orchestrator.send(SubmitPlan(plan(id))));
        let mut early = [send(), send()];
        hold.held.recv().await.unwrap();
        let mut late = send();
        for answer in early.iter_mut().chain([&mut late]) {
            assert!(is_open(answer).await, "answered before it was stored");
        }
        hold.release.send(()).unwrap();
        let mut handles = Vec::new();
        for answer in early.into_iter().chain([late]) {
            handles.push(answer.await.unwrap().unwrap());
        }
        // Now it is stored, and the answer does not wait for the run.
        handles.push(submit(&actors, plan(id)).await);
        assert!(record(&actors, id).await.is_some());
        kit.open();
        for handle in handles {
            assert_eq!(handle.await.unwrap(), ["a"]);
        }
        assert_eq!(kit.calls(id, "a"), 1);
    }
}

async fn a_full_queue_takes_more_callers_for_the_runs_that_it_has<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let actors = live_with(world.open().await, kit.registry(), |o| o.queue_capacity(1));
    let ids = ["running", "waiting"];
    let plan = |id: &str| plan_of(id, kit.closures(&[if id == "running" { "a" } else { "b" }]));
    let mut handles = Vec::new();
    for id in ids {
        handles.push(submit(&actors, plan(id)).await);
    }
    for refused in [ExecutePlan::new([]), plan("another")] {
        assert!(matches!(execute(&actors, refused).await, Err(PlanError::QueueFull { capacity: 1 })));
    }
    for id in ids {
        handles.push(submit(&actors, plan(id)).await);
    }
    kit.open();
    for (handle, expected) in handles.into_iter().zip(["a", "b", "a", "b"]) {
        assert_eq!(handle.await.unwrap(), [expected]);
    }
}

async fn a_full_queue_answers_for_runs_that_are_over<W: World>() {
    let (world, kit, gate) = (W::fresh(), Kit::new(), Kit::closed());
    let actors = live_with(world.open().await, kit.registry(), |o| o.queue_capacity(1));
    let done = || plan_of("done", kit.closures(&ABCD));
    let endless = || plan_of("endless", [Step::new("y", pending::<()>)]);
    execute(&actors, done()).await.unwrap();
    let failure = execute(&actors, failing(Way::Same, &kit)).await.unwrap_err();
    let handle = submit(&actors, endless()).await;
    cancel(&actors, "endless").await.unwrap();
    assert_cancelled(handle.await, &[]);
    let running = submit(&actors, plan_of("running", gate.closures(&["e"]))).await;
    let waiting = submit(&actors, plan_of("waiting", gate.closures(&["f"]))).await;
    let (called, told) = (kit.trace.all(), history(&actors).await);

    assert_eq!(execute(&actors, done()).await.unwrap(), prefixes());
    assert_eq!(submit(&actors, done()).await.await.unwrap(), prefixes());
    assert_eq!(chain(&execute(&actors, failing(Way::Same, &kit)).await.unwrap_err()), chain(&failure));
    assert_cancelled(execute(&actors, endless()).await, &[]);
    let other = execute(&actors, plan_of("done", kit.closures(&["x"]))).await;
    assert!(matches!(other, Err(PlanError::PlanMismatch { .. })), "{other:?}");
    let stranger = execute(&actors, done().in_project("other", "project")).await;
    assert!(matches!(stranger, Err(PlanError::RunExists { .. })), "{stranger:?}");
    for refused in [ExecutePlan::new([]), plan_of("another", kit.closures(&["x"]))] {
        let refused = execute(&actors, refused).await;
        assert!(matches!(refused, Err(PlanError::QueueFull { capacity: 1 })), "{refused:?}");
    }
    // More of them than are looked up at a time: each gets the one answer or the other.
    let answers = execute_all(&actors, (0..LOOKUPS + 10).map(|_| done())).await;
    let full = |answer: &Result<_, _>| matches!(answer, Err(PlanError::QueueFull { .. }));
    assert!(answers[..LOOKUPS].iter().all(|answer| answer.as_ref().is_ok_and(|all| *all == prefixes())));
    assert!(answers.iter().all(|answer| answer.is_ok() || full(answer)));
    assert_eq!((kit.trace.all(), history(&actors).await), (called, told));
    gate.open();
    running.await.unwrap();
    waiting.await.unwrap();
}

async fn a_full_queue_turns_away_runs_that_were_cut_off<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let plan = || plan_of("r", kit.closures(&["a", "b"]));
    cut_off(&world, &kit, vec![plan()], 1).await;
    let gate = Kit::closed();
    let actors = live_with(world.open().await, kit.registry(), |o| o.queue_capacity(0));
    recovered(&actors).await;
    let running = submit(&actors, plan_of("running", gate.closures(&["e"]))).await;
    let refused = execute(&actors, plan()).await;
    assert!(matches!(refused, Err(PlanError::QueueFull { capacity: 0 })), "{refused:?}");
    // It was not taken from anybody by that.
    assert_eq!(execute(&beside(&actors, kit.registry()), plan()).await.unwrap(), ["a", "ab"]);
    gate.open();
    running.await.unwrap();
}

/// A blocking callable that notes its call and its end, and waits for the test in between.
fn blocking(kit: &Kit) -> (Callable, mpsc::Sender<()>) {
    let (release, wait) = mpsc::channel::<()>();
    let (wait, trace) = (Mutex::new(wait), kit.trace.clone());
    let callable = Callable::new(move |ctx: StepContext| {
        trace.note(format!("{} {} {}", ctx.run_id(), ctx.step_id(), ctx.attempt()));
        wait.lock().unwrap().recv()?;
        trace.note("ended");
        Ok::<_, StepError>("done")
    });
    (callable, release)
}

async fn attaching_to_a_run_that_is_being_cancelled_hears_of_the_cancellation<W: World>() {
    let (world, kit) = (W::fresh(), Kit::new());
    let actors = live(world.open().await, kit.registry());
    let (callable, release) = blocking(&kit);
    let plan = || plan_of("r", [Step::new("x", callable.clone())]);
    let queued = || plan_of("queued", kit.closures(&["a"]));
    let handle = submit(&actors, plan()).await;
    let waiting = submit(&actors, queued()).await;
    // One that waits, in the same breath.
    let cancelled = actors.orchestrator.send(CancelPlan(run_id("queued")));
    let attached = actors.orchestrator.send(queued());
    assert_eq!(cancelled.await.unwrap().unwrap(), CancelOutcome::Cancelled);
    assert_cancelled(attached.await.unwrap(), &[]);
    assert_cancelled(waiting.await, &[]);
    // One that runs code which cannot be dropped.
    assert_eq!(cancel(&actors, "r").await.unwrap(), CancelOutcome::Stopping);
    let attached = actors.orchestrator.send(plan());
    let submitted = submit(&actors, plan()).await;
    release.send(()).unwrap();
    assert_cancelled(handle.await, &[json!("done")]);
    assert_cancelled(attached.await.unwrap(), &[json!("done")]);
    assert_cancelled(submitted.await, &[json!("done")]);
    // One whose future is dropped.
    let endless = || plan_of("endless", [Step::new("y", pending::<()>)]);
    let handle = submit(&actors, endless()).await;
    let cancelled = actors.orchestrator.send(CancelPlan(run_id("endless")));
    let attached = actors.orchestrator.send(endless());
    assert_eq!(cancelled.await.unwrap().unwrap(), CancelOutcome::Cancelled);
    assert_cancelled(attached.await.unwrap(), &[]);
    assert_cancelled(handle.await, &[]);
    assert_eq!(kit.trace.all(), ["r x 1", "ended"]);
}

async fn attaching_to_an_interrupted_run_that_is_being_cancelled_hears_of_the_cancellation<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let plan = || plan_of("r", kit.closures(&["a", "b"]));
    cut_off(&world, &kit, vec![plan()], 1).await;
    let actors = live(world.open().await, kit.registry());
    recovered(&actors).await;
    reaches(&actors, "r", RunState::Interrupted).await;
    let cancelled = actors.orchestrator.send(CancelPlan(run_id("r")));
    let attached = actors.orchestrator.send(plan());
    assert_eq!(cancelled.await.unwrap().unwrap(), CancelOutcome::Cancelled);
    assert_cancelled(attached.await.unwrap(), &[json!("a")]);
    assert_eq!(kit.trace.all(), ["r a 1", "r b 1"]);
}

// 3. Another plan under the same id.

fn recorded_plan(kit: &Kit) -> Vec<Step> {
    vec![
        Step::new("a", kit.link()),
        Step::named("b").uses("link").input(json!({ "n": 1 })),
        Step::named("c").uses("link"),
    ]
}

/// Other plans, and what is said of them.
fn other_plans(kit: &Kit) -> Vec<(Vec<Step>, Vec<&'static str>)> {
    let base = || recorded_plan(kit);
    let with = |index: usize, step: Step| {
        let mut steps = base();
        steps[index] = step;
        steps
    };
    let longer = |ids: &[&'static str]| [base(), named(ids)].concat();
    let swapped = vec![base()[1].clone(), base()[0].clone(), base()[2].clone()];
    let b = || Step::named("b").uses("link");
    vec![
        (with(2, Step::named("x").uses("link")), vec![r#"step 2 was "c", now "x""#]),
        (swapped, vec![r#"step 0 was "a", now "b""#, r#"step 1 was "b", now "a""#]),
        (
            with(2, Step::named("c").uses("broken")),
            vec![r#"step 2 ("c") used the callable "link", now the callable "broken""#],
        ),
        (with(2, Step::named("c")), vec![r#"step 2 ("c") used the callable "link", now the callable "c""#]),
        (
            with(2, Step::new("c", kit.link())),
            vec![r#"step 2 ("c") used the callable "link", now a closure"#],
        ),
        (
            with(0, Step::named("a").uses("link")),
            vec![r#"step 0 ("a") used a closure, now the callable "link""#],
        ),
        (with(1, b().input(json!({ "n": 2 }))), vec![r#"step 1 ("b") had the input {"n":1}, now {"n":2}"#]),
        (with(1, b()), vec![r#"step 1 ("b") had the input {"n":1}, now null"#]),
        (with(2, Step::named("c").uses("link").input(7)), vec![r#"step 2 ("c") had the input null, now 7"#]),
        (base()[..2].to_vec(), vec![r#"step 2 ("c") is missing"#]),
        (
            vec![],
            vec![r#"step 0 ("a") is missing"#, r#"step 1 ("b") is missing"#, r#"step 2 ("c") is missing"#],
        ),
        (longer(&["d"]), vec![r#"step 3 ("d") is new"#]),
        (
            longer(&["d", "e", "f", "g", "h"]),
            vec![
                r#"step 3 ("d") is new"#,
                r#"step 4 ("e") is new"#,
                r#"step 5 ("f") is new"#,
                r#"step 6 ("g") is new"#,
                r#"step 7 ("h") is new"#,
            ],
        ),
        (
            longer(&["d", "e", "f", "g", "h", "i", "j"]),
            vec![
                r#"step 3 ("d") is new"#,
                r#"step 4 ("e") is new"#,
                r#"step 5 ("f") is new"#,
                r#"step 6 ("g") is new"#,
                r#"step 7 ("h") is new"#,
                "and 2 more",
            ],
        ),
    ]
}

/// Tries to get at the run `r` with every other plan, and from another project.
async fn assert_closed_to_others(actors: &Actors, kit: &Kit) {
    for (steps, expected) in other_plans(kit) {
        let error = execute(actors, plan_of("r", steps)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("run r was accepted with another plan: {}", expected.join("; "))
        );
        let PlanError::PlanMismatch { run_id, differences } = error else { panic!("{error:?}") };
        let count = if expected.last() == Some(&"and 2 more") { 7 } else { expected.len() };
        assert_eq!((run_id.as_str(), differences.len()), ("r", count));
    }
    for steps in [recorded_plan(kit), named(&["x"])] {
        for (tenant, project) in [("default", "other"), ("other", "default")] {
            let plan = plan_of("r", steps.clone()).in_project(tenant, project);
            let error = execute(actors, plan).await.unwrap_err();
            assert!(matches!(&error, PlanError::RunExists { run_id } if run_id.as_str() == "r"), "{error:?}");
            assert_eq!(error.to_string(), "there is a run r already; choose another run id, or leave it out");
        }
    }
}

async fn another_plan_or_project_is_refused_whatever_state_the_run_is_in<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let base = || plan_of("r", recorded_plan(&kit));
    let actors = live(world.open().await, kit.registry());
    let first = submit(&actors, plan_of("first", kit.closures(&["z"]))).await;
    let handle = submit(&actors, base()).await;
    assert_eq!(status(&actors, "r").await.state, RunState::Queued);
    assert_closed_to_others(&actors, &kit).await;
    cancel(&actors, "first").await.unwrap();
    first.await.unwrap_err();
    reaches(&actors, "r", RunState::Running).await;
    assert_closed_to_others(&actors, &kit).await;
    assert_eq!(kit.trace.all(), ["first z 1", "r a 1"]);
    kit.open();
    assert_eq!(handle.await.unwrap(), ["a", "ab", "abc"]);
    assert_closed_to_others(&actors, &kit).await;
    assert_eq!(kit.trace.all(), ["first z 1", "r a 1", "r b 1", "r c 1"]);
    bury(actors).await;
    let actors = live(world.open().await, kit.registry());
    assert_closed_to_others(&actors, &kit).await;
}

async fn another_plan_or_project_is_refused_after_a_crash_and_does_no_harm<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    cut_off(&world, &kit, vec![plan_of("r", recorded_plan(&kit))], 1).await;
    let actors = live(world.open().await, kit.registry());
    recovered(&actors).await;
    reaches(&actors, "r", RunState::Interrupted).await;
    let told = history(&actors).await;
    assert_closed_to_others(&actors, &kit).await;
    let info = status(&actors, "r").await;
    assert_eq!((info.state, info.completed), (RunState::Interrupted, 1));
    assert!(info.reason.is_some());
    assert_eq!(history(&actors).await, told);
    let answer = execute(&actors, plan_of("r", recorded_plan(&kit))).await;
    assert_eq!(answer.unwrap(), ["a", "ab", "abc"]);
    assert_eq!(kit.trace.all(), ["r a 1", "r b 1", "r b 2", "r c 1"]);
}

async fn what_a_closure_does_does_not_count_and_the_one_that_comes_is_called<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    cut_off(&world, &kit, vec![plan_of("r", kit.closures(&["a", "b", "c"]))], 1).await;
    let actors = live(world.open().await, kit.registry());
    let other = |id: &'static str| Step::new(id, move || format!("other {id}"));
    let plan = || plan_of("r", ["a", "b", "c"].map(other));
    assert_eq!(execute(&actors, plan()).await.unwrap(), ["a", "other b", "other c"]);
    assert_eq!(execute(&actors, plan()).await.unwrap(), ["a", "other b", "other c"]);
    assert_eq!(kit.trace.all(), ["r a 1", "r b 1"]);
}

async fn agents_attributes_names_and_inline_do_not_count<W: World>() {
    let (world, kit) = (W::fresh(), Kit::new());
    let actors = live(world.open().await, kit.registry());
    execute(&actors, plan_of("r", named(&["a", "b"]))).await.unwrap();
    let changes: [fn(Step) -> Step; 3] =
        [|step| step.agent("renderer"), |step| step.attr("gpu", true), Step::inline];
    for change in changes {
        let steps: Plan = named(&["a", "b"]).into_iter().map(change).collect();
        assert_eq!(execute(&actors, plan_of("r", steps)).await.unwrap(), ["a", "ab"]);
    }
    let plan = plan_of("r", Plan::new(named(&["a", "b"])).name("nightly"));
    assert_eq!(execute(&actors, plan).await.unwrap(), ["a", "ab"]);
    // A closure under a name of its own is asked for by that name, like a registered one.
    let steps = ["a", "b"].map(|id| Step::new(id, || "never").uses("link"));
    assert_eq!(execute(&actors, plan_of("r", steps)).await.unwrap(), ["a", "ab"]);
}

// 4. Outputs are read back with their types.

async fn outputs_of_every_type_are_read_by_later_steps_after_a_crash<W: World>() {
    let raw = Bytes::from_static(&[0, 159, 146, 150, 255]);
    let nested = json!({ "list": [1, 2.5, { "deep": [null, "ä"] }], "": {} });
    let values = vec![
        ("text", json!("plain \u{1F600} \"quoted\"\n")),
        ("empty", json!("")),
        ("whole", json!(u64::MAX)),
        ("negative", json!(i64::MIN)),
        ("fraction", json!(0.1)),
        ("huge", json!(1.7976931348623157e308)),
        ("truth", json!(false)),
        ("null", Value::Null),
        ("nested", nested),
    ];
    for n in 1..=12 {
        let (world, kit) = (W::fresh(), Kit::new());
        let plan = || {
            let mut steps: Vec<Step> =
                values.iter().cloned().map(|(id, value)| Step::new(id, move || value.clone())).collect();
            let bytes = raw.clone();
            steps.push(Step::new("raw", move || bytes.clone()));
            let (expected, bytes) = (values.clone(), raw.clone());
            steps.push(Step::new("read", move |ctx: StepContext| {
                for (id, value) in &expected {
                    assert_eq!(ctx.output::<Value>(id)?, *value, "{id}");
                }
                assert_eq!(ctx.output::<u64>("whole")?, u64::MAX);
                assert_eq!(ctx.output::<i64>("negative")?, i64::MIN);
                assert_eq!(ctx.output::<f64>("fraction")?.to_bits(), 0.1_f64.to_bits());
                assert_eq!(ctx.output::<Option<u8>>("null")?, None);
                assert_eq!(ctx.output::<Bytes>("raw")?, bytes);
                assert_eq!(ctx.previous::<Vec<u8>>()?, bytes);
                Ok::<_, StepError>("read them all")
            }));
            plan_of("r", steps)
        };
        let actors = live(FaultyStore::new(world.open().await, Fault::Die, n), kit.registry());
        assert_cut_off(&execute(&actors, plan()).await.unwrap_err());
        bury(actors).await;
        let actors = live(world.open().await, kit.registry());
        let results = execute(&actors, plan()).await.unwrap();
        assert_eq!(results.last().unwrap(), "read them all");
        assert_eq!(results[..9], values.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>());
        assert_eq!(results[9], "AJ+Slv8=", "the JSON form of bytes");
        let artifact = actors.memory.send(Get::latest("task:raw")).await.unwrap().unwrap().unwrap();
        assert_eq!((artifact.version, artifact.data.as_bytes()), (1, &*raw));
    }
}

// 5. What was unfinished goes on by itself.

async fn unfinished_runs_go_on_in_their_order_and_before_new_ones<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let (w0, w1, w2) = (SIDE_BY_SIDE[0], SIDE_BY_SIDE[1], SIDE_BY_SIDE[2]);
    let plans = [w2, w0, w1].map(|(id, steps)| plan_of(id, named(&steps)));
    cut_off(&world, &kit, plans.into(), 1).await;
    assert_eq!(kit.trace.all(), ["w2 a2 1", "w2 b2 1"]);

    let kit = Kit::closed();
    let actors = live(world.open().await, kit.registry());
    // At once, before it is known what was unfinished, and with an id or without.
    let new = actors.orchestrator.send(plan_of("new", named(&["x"])));
    let last = actors.orchestrator.send(ExecutePlan::new(kit.closures(&["y"])));
    recovered(&actors).await;
    let waiting: Vec<_> =
        states(&actors).await.into_iter().filter(|(_, state)| *state == RunState::Queued).collect();
    assert_eq!(waiting.iter().map(|(id, _)| id.as_str()).take(2).collect::<Vec<_>>(), ["w0", "w1"]);
    assert_eq!(kit.trace.all(), ["w2 b2 2"], "one slot");
    let places = [status(&actors, "w0").await, status(&actors, "w1").await, status(&actors, "new").await];
    assert_eq!(places.map(|info| info.position), [Some(0), Some(1), Some(2)]);
    kit.open();
    assert_eq!(new.await.unwrap().unwrap(), ["x"]);
    assert_eq!(last.await.unwrap().unwrap(), ["y"]);
    let calls = kit.trace.all();
    assert_eq!(
        calls[..9],
        ["w2 b2 2", "w2 c2 1", "w0 a0 1", "w0 b0 1", "w0 c0 1", "w1 a1 1", "w1 b1 1", "w1 c1 1", "new x 1"]
    );
    assert!(calls[9].ends_with(" y 1") && calls.len() == 10);
    for (id, steps) in [w0, w1, w2] {
        // Nobody asked, but the results are there.
        let results = execute(&actors, plan_of(id, named(&steps))).await.unwrap();
        assert_eq!(results[2], steps.concat());
    }
    assert_eq!(history_of(&actors, "w0").await[..2], ["plan.accepted", "plan.started"]);
}

async fn recovered_runs_use_all_slots_and_need_no_place_in_the_queue<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let plans = SIDE_BY_SIDE.map(|(id, steps)| plan_of(id, named(&steps)));
    cut_off(&world, &kit, plans.into(), 0).await;
    let kit = Kit::closed();
    let actors =
        live_with(world.open().await, kit.registry(), |o| o.max_concurrent_plans(3).queue_capacity(0));
    recovered(&actors).await;
    assert_eq!(kit.trace.all(), ["w0 a0 2", "w1 a1 1", "w2 a2 1"]);
    assert!(matches!(execute(&actors, ExecutePlan::new([])).await, Err(PlanError::QueueFull { .. })));
    kit.open();
    for (id, _) in SIDE_BY_SIDE {
        reaches(&actors, id, RunState::Completed).await;
    }
    execute(&actors, ExecutePlan::new([])).await.unwrap();
}

async fn a_recovered_run_that_waits_tells_what_has_completed<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let (w0, w1) = (SIDE_BY_SIDE[0], SIDE_BY_SIDE[1]);
    // Both run, and both have completed a step when the process dies.
    let store = FaultyStore::new(world.open().await, Fault::Die, 5);
    let actors = live_with(store, kit.registry(), |o| o.max_concurrent_plans(2));
    let handles = [
        submit(&actors, plan_of(w0.0, named(&w0.1))).await,
        submit(&actors, plan_of(w1.0, named(&w1.1))).await,
    ];
    kit.open();
    for handle in handles {
        handle.await.unwrap_err();
    }
    bury(actors).await;
    let kit = Kit::closed();
    let actors = live(world.open().await, kit.registry());
    recovered(&actors).await;
    let info = status(&actors, "w1").await;
    assert_eq!((info.state, info.position, info.steps), (RunState::Queued, Some(0), 3));
    assert_eq!(info.completed, 1);
}

fn reasons(infos: Vec<RunInfo>) -> Vec<String> {
    infos.iter().map(|info| info.reason.as_deref().unwrap_or_default().to_owned()).collect()
}

const CLOSURE: &str =
    "step 1 (\"b\") was a closure, which cannot be stored; send its plan again with this run id";
const NOT_REGISTERED: &str =
    "step 0 (\"a\") cannot be called: step \"a\" uses \"gone\", which is not registered";

/// A run with a closure, one whose callable nobody registers, and one that is all right.
fn mixed(kit: &Kit) -> Vec<ExecutePlan> {
    vec![
        plan_of("closure", [named(&["a"]), kit.closures(&["b"])].concat()),
        plan_of("unregistered", [Step::named("a").uses("gone")]),
        plan_of("fine", named(&["f"])),
    ]
}

async fn cut_off_mixed<W: World>(world: &W, kit: &Kit) {
    let store = FaultyStore::new(world.open().await, Fault::Die, 4);
    let actors = live(store, kit.registry().register("gone", kit.link()));
    let mut handles = Vec::new();
    for plan in mixed(kit) {
        handles.push(submit(&actors, plan).await);
    }
    kit.open();
    for handle in handles {
        assert_cut_off(&handle.await.unwrap_err());
    }
    bury(actors).await;
}

async fn a_run_that_cannot_be_called_stays_interrupted_and_says_why<W: World>() {
    let log = Capture::start("nobody but this thread");
    let (world, kit) = (W::fresh(), Kit::closed());
    cut_off_mixed(&world, &kit).await;
    let before = log.ours(Level::Warn).len();
    let kit = Kit::new();
    let actors = live(world.open().await, kit.registry());
    let mut told = watch(&actors.bus).await;
    // Those that cannot be called hold up nobody.
    reaches(&actors, "fine", RunState::Completed).await;
    recovered(&actors).await;
    assert_eq!(kit.trace.all(), ["fine f 1"]);
    let ids = ["closure", "unregistered"];
    let texts = [CLOSURE, NOT_REGISTERED];
    for (id, reason) in ids.into_iter().zip(texts) {
        let info = reaches(&actors, id, RunState::Interrupted).await;
        assert_eq!(info.reason.as_deref(), Some(reason));
        assert_eq!(history_of(&actors, id).await.last().unwrap(), "plan.interrupted");
        let record = record(&actors, id).await.unwrap();
        assert_eq!((record.state, record.reason.as_deref()), (RunState::Interrupted, Some(reason)));
    }
    let listed = actors.orchestrator.send(ListPlans::new()).await.unwrap().unwrap();
    assert_eq!(reasons(listed), [CLOSURE, NOT_REGISTERED, ""]);
    let told: Vec<Event> = until(&mut told, "plan.completed").await;
    let said: Vec<_> = told.iter().filter(|event| event.event_type() == "plan.interrupted").collect();
    assert_eq!(said.len(), 2);
    assert_eq!(said.iter().map(|event| event.get("reason").unwrap()).collect::<Vec<_>>(), texts);
    let warnings = log.ours(Level::Warn).split_off(before);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for (line, (id, reason)) in warnings.iter().zip(ids.into_iter().zip(texts)) {
        assert_eq!((line.level, line.target.as_str()), (Level::Warn, "lunacore::orchestrator"));
        assert_eq!(line.text, format!("run {id} was cut off and does not go on by itself: {reason}"));
        assert_eq!(line.fields["run_id"], id);
    }
}

async fn that_a_run_is_interrupted_is_stored_again_only_when_the_reason_is_another<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    cut_off_mixed(&world, &kit).await;
    let kit = Kit::new();
    let actors = live(world.open().await, kit.registry());
    reaches(&actors, "fine", RunState::Completed).await;
    recovered(&actors).await;
    let told = history(&actors).await;
    bury(actors).await;
    let log = Capture::start("nobody but this thread");
    let actors = live(world.open().await, kit.registry());
    recovered(&actors).await;
    assert_eq!(history(&actors).await, told);
    assert_eq!(log.ours(Level::Warn).len(), 2, "but it is said again");
    bury(actors).await;
    let actors = live(world.open().await, kit.registry().register("gong", || 1));
    recovered(&actors).await;
    let reason = status(&actors, "unregistered").await.reason.unwrap();
    assert!(reason.starts_with(NOT_REGISTERED) && reason.contains("gong"), "{reason}");
    assert_eq!(history(&actors).await.len(), told.len() + 1);
}

async fn an_interrupted_run_goes_on_when_its_plan_is_sent<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    cut_off_mixed(&world, &kit).await;
    for life in 0..2 {
        let actors = live(world.open().await, kit.registry());
        recovered(&actors).await;
        reaches(&actors, "closure", RunState::Interrupted).await;
        if life == 1 {
            let handle = submit(&actors, mixed(&kit).remove(0)).await;
            assert_eq!(handle.await.unwrap(), ["a", "ab"]);
            assert_eq!((kit.calls("closure", "a"), kit.calls("closure", "b")), (2, 1));
            let info = status(&actors, "closure").await;
            assert_eq!((info.state, info.reason), (RunState::Completed, None));
            assert_eq!(
                history_of(&actors, "closure").await[3..],
                [
                    "plan.interrupted",
                    "plan.resumed 0",
                    "task.started a 2",
                    "task.completed a",
                    "task.started b 1",
                    "task.completed b",
                    "plan.completed"
                ]
            );
        }
        bury(actors).await;
    }
}

async fn an_interrupted_run_goes_on_by_itself_once_its_callable_is_registered<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    cut_off_mixed(&world, &kit).await;
    let actors = live(world.open().await, kit.registry());
    recovered(&actors).await;
    reaches(&actors, "unregistered", RunState::Interrupted).await;
    bury(actors).await;
    let actors = live(world.open().await, kit.registry().register("gone", kit.link()));
    let info = reaches(&actors, "unregistered", RunState::Completed).await;
    assert_eq!(info.reason, None);
    assert_eq!(kit.calls("unregistered", "a"), 1);
}

/// Goes on with a run by its id, and waits for its end.
async fn continue_run(actors: &Actors, id: &str) -> Result<Vec<Value>, PlanError> {
    actors.orchestrator.send(ContinueRun(run_id(id))).await.unwrap()?.await
}

async fn a_run_continues_by_its_id_alone_and_others_are_left_alone<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let plans = SIDE_BY_SIDE.iter().take(3).map(|(id, steps)| plan_of(id, named(steps)));
    cut_off(&world, &kit, plans.collect(), 1).await;
    let kit = Kit::new();
    let none = |orchestrator: ExecutionOrchestrator| orchestrator.recover(Recover::None);
    let actors = live_with(world.open().await, kit.registry(), none);
    recovered(&actors).await;
    let before = unfinished(&actors).await;
    assert_eq!((kit.trace.all().len(), before.len()), (0, 3), "nothing goes on by itself");
    // A plan of its own is not held up by them.
    assert_eq!(execute(&actors, plan_of("new", named(&["x"]))).await.unwrap(), ["x"]);

    let (id, steps) = SIDE_BY_SIDE[0];
    let completed = record(&actors, id).await.unwrap().cursor;
    assert_eq!(completed, 1, "it had come some way");
    assert_eq!(continue_run(&actors, id).await.unwrap()[2], steps.concat());
    assert_eq!(kit.trace.all(), ["new x 1", "w0 b0 2", "w0 c0 1"], "what had completed is not called again");
    let told = history_of(&actors, id).await;
    assert!(told.contains(&"task.recovered a0".to_owned()), "{told:?}");
    assert_eq!(unfinished(&actors).await, ["w1", "w2"]);
    // One that is left alone can be cancelled, and sent again.
    assert_eq!(cancel(&actors, "w1").await.unwrap(), CancelOutcome::Cancelled);
    let (id, steps) = SIDE_BY_SIDE[2];
    assert_eq!(execute(&actors, plan_of(id, named(&steps))).await.unwrap()[2], steps.concat());
    assert_eq!(unfinished(&actors).await, [""; 0]);
}

async fn whoever_continues_a_run_is_attached_to_it_whatever_its_state<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let actors = live(world.open().await, kit.registry());
    // Also to one with closures, which are here.
    let runs = submit(&actors, plan_of("runs", kit.closures(&["a"]))).await;
    let waits = submit(&actors, plan_of("waits", named(&["b"]))).await;
    let go_on = |id| actors.orchestrator.send(ContinueRun(run_id(id)));
    let handles = (go_on("runs").await.unwrap().unwrap(), go_on("waits").await.unwrap().unwrap());
    assert_eq!(handles.0.run_id().as_str(), "runs");
    kit.open();
    assert_eq!((runs.await.unwrap(), waits.await.unwrap()), (vec![json!("a")], vec![json!("b")]));
    assert_eq!((handles.0.await.unwrap(), handles.1.await.unwrap()), (vec![json!("a")], vec![json!("b")]));
    assert_eq!(kit.trace.all(), ["runs a 1", "waits b 1"]);

    // One that is over answers with its end.
    let broken = plan_of("broken", [Step::named("c").uses("broken")]);
    execute(&actors, broken).await.unwrap_err();
    assert_eq!(continue_run(&actors, "runs").await.unwrap(), ["a"]);
    let failed = continue_run(&actors, "broken").await.unwrap_err();
    assert!(matches!(&failed, PlanError::StepFailed { step_id, .. } if step_id == "c"), "{failed:?}");
    assert_eq!(kit.trace.all().len(), 3);
}

async fn a_run_that_cannot_continue_says_why<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    cut_off_mixed(&world, &kit).await;
    let kit = Kit::new();
    let none = |orchestrator: ExecutionOrchestrator| orchestrator.recover(Recover::None);
    let actors = live_with(world.open().await, kit.registry(), none);
    let unknown = continue_run(&actors, "nobody").await.unwrap_err();
    assert_eq!(unknown.to_string(), "no run nobody is known");
    let closure = continue_run(&actors, "closure").await.unwrap_err();
    assert_eq!(closure.to_string(), format!("run closure was interrupted: {CLOSURE}"));
    // That is an answer, and nothing that is stored.
    assert_eq!(record(&actors, "closure").await.unwrap().state, RunState::Running);
    let unresolved = continue_run(&actors, "unregistered").await.unwrap_err();
    assert!(matches!(unresolved, PlanError::Unresolved(_)), "{unresolved:?}");
    reaches(&actors, "unregistered", RunState::Interrupted).await;
    assert_eq!(kit.trace.all(), [""; 0]);
    assert_eq!(continue_run(&actors, "fine").await.unwrap().len(), 1);

    let shutdown = actors.orchestrator.send(Shutdown::now());
    let late = actors.orchestrator.send(ContinueRun(run_id("closure")));
    shutdown.await.unwrap();
    assert!(!matches!(late.await, Ok(Ok(_))), "it takes nothing more");
}

async fn a_run_that_is_continued_right_after_the_start_runs_once<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    cut_off(&world, &kit, vec![plan_of("r", named(&["a", "b"]))], 1).await;
    let kit = Kit::new();
    let actors = live(world.open().await, kit.registry());
    // Before it is known what goes on by itself, beside who brings the plan, and beside another plan for it.
    let wrong = actors.orchestrator.send(plan_of("r", named(&["z"])));
    let first = actors.orchestrator.send(ContinueRun(run_id("r")));
    let right = actors.orchestrator.send(plan_of("r", named(&["a", "b"])));
    let second = actors.orchestrator.send(ContinueRun(run_id("r")));
    let results = vec![json!("a"), json!("ab")];
    assert_eq!(first.await.unwrap().unwrap().await.unwrap(), results);
    assert_eq!(right.await.unwrap().unwrap(), results);
    assert_eq!(second.await.unwrap().unwrap().await.unwrap(), results);
    assert!(matches!(wrong.await.unwrap(), Err(PlanError::PlanMismatch { .. })));
    assert_eq!(kit.trace.all(), ["r b 2"]);
}

async fn a_run_that_another_orchestrator_has_does_not_continue_here<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let actors = live(world.open().await, kit.registry());
    let handle = submit(&actors, plan_of("r", named(&["a"]))).await;
    let other = beside(&actors, kit.registry());
    let elsewhere = continue_run(&other, "r").await.unwrap_err();
    assert!(matches!(elsewhere, PlanError::RunElsewhere { .. }), "{elsewhere:?}");
    kit.open();
    assert_eq!(handle.await.unwrap(), ["a"]);
    assert_eq!(continue_run(&other, "r").await.unwrap(), ["a"], "it is over, which anyone may know");
    assert_eq!(kit.calls("r", "a"), 1);
}

async fn an_interrupted_run_can_be_cancelled_for_good<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    cut_off(&world, &kit, vec![plan_of("r", kit.closures(&["a", "b"]))], 1).await;
    let actors = live(world.open().await, kit.registry());
    recovered(&actors).await;
    assert_eq!(cancel(&actors, "r").await.unwrap(), CancelOutcome::Cancelled);
    let info = status(&actors, "r").await;
    assert_eq!((info.state, info.reason.as_deref(), info.completed), (RunState::Cancelled, None, 1));
    assert_eq!(cancel(&actors, "r").await.unwrap(), CancelOutcome::Finished(RunState::Cancelled));
    assert_eq!(unfinished(&actors).await, [""; 0]);
    assert_eq!(history_of(&actors, "r").await.last().unwrap(), "plan.cancelled");
    bury(actors).await;
    let actors = live(world.open().await, kit.registry());
    recovered(&actors).await;
    assert_cancelled(execute(&actors, plan_of("r", kit.closures(&["a", "b"]))).await, &[json!("a")]);
    assert_eq!(kit.trace.all(), ["r a 1", "r b 1"]);
}

/// A run that was cancelled while blocking code ran, and whose end could not be stored any more.
async fn cut_off_stopping<W: World>(world: &W, kit: &Kit, is_named: bool) -> ExecutePlan {
    let (callable, release) = blocking(kit);
    let step = if is_named { Step::named("x").uses("block") } else { Step::new("x", callable.clone()) };
    let plan = plan_of("r", [step]);
    let store = FaultyStore::new(world.open().await, Fault::Die, 3);
    let actors = live(store, kit.registry().register("block", callable));
    let handle = submit(&actors, plan.clone()).await;
    assert_eq!(cancel(&actors, "r").await.unwrap(), CancelOutcome::Stopping);
    release.send(()).unwrap();
    assert_cut_off(&handle.await.unwrap_err());
    bury(actors).await;
    assert_eq!(world.open().await.run(&run_id("r")).unwrap().unwrap().state, RunState::Stopping);
    plan
}

async fn a_run_that_was_told_to_stop_ends_cancelled_and_its_step_is_not_called_again<W: World>() {
    for is_named in [true, false] {
        for at_once in [true, false] {
            let (world, kit) = (W::fresh(), Kit::new());
            let plan = cut_off_stopping(&world, &kit, is_named).await;
            let actors = live(world.open().await, kit.registry().register("block", kit.link()));
            if !at_once {
                reaches(&actors, "r", RunState::Cancelled).await;
            }
            assert_cancelled(execute(&actors, plan).await, &[]);
            assert_eq!(kit.trace.all(), ["r x 1", "ended"]);
            assert_eq!(
                history_of(&actors, "r").await,
                [
                    "plan.accepted",
                    "plan.started",
                    "task.started x 1",
                    "plan.stopping",
                    "task.cancelled x 1",
                    "plan.cancelled"
                ]
            );
            assert_eq!(unfinished(&actors).await, [""; 0]);
        }
    }
}

async fn a_recovered_run_that_fails_is_logged<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let steps = vec![Step::named("a").uses("link"), Step::named("bad").uses("broken")];
    cut_off(&world, &kit, vec![plan_of("r", steps)], 0).await;
    let log = Capture::start("nobody is called like this");
    let actors = live(world.open().await, kit.registry());
    reaches(&actors, "r", RunState::Failed).await;
    let_others_run().await;
    let lines = log.ours(Level::Info);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((lines[0].level, lines[0].target.as_str()), (Level::Warn, "lunacore::orchestrator"));
    assert_eq!(
        lines[0].text,
        "step 1 (\"bad\") of run r failed at attempt 1, and nobody waits for the answer"
    );
    assert_eq!(lines[0].fields["run_id"], "r");
}

async fn a_run_that_is_asked_for_right_after_the_start_runs_once<W: World>() {
    for is_named in [true, false] {
        let (world, kit) = (W::fresh(), Kit::closed());
        let steps = || if is_named { named(&ABCD) } else { kit.closures(&ABCD) };
        cut_off(&world, &kit, vec![plan_of("r", steps())], 1).await;
        let actors = live(world.open().await, kit.registry());
        let executed = [(); 3].map(|()| actors.orchestrator.send(plan_of("r", steps())));
        let submitted = [(); 2].map(|()| actors.orchestrator.send(SubmitPlan(plan_of("r", steps()))));
        for answer in executed {
            assert_eq!(answer.await.unwrap().unwrap(), prefixes());
        }
        for answer in submitted {
            assert_eq!(answer.await.unwrap().unwrap().await.unwrap(), prefixes());
        }
        assert_eq!(kit.trace.all(), ["r a 1", "r b 1", "r b 2", "r c 1", "r d 1"]);
        assert_eq!(history_of(&actors, "r").await, said_by(2, false, Way::AtOnce));
    }
}

async fn questions_right_after_the_start_are_answered_from_what_is_stored<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let plans = SIDE_BY_SIDE[..2].iter().map(|(id, steps)| plan_of(id, named(steps))).collect();
    cut_off(&world, &kit, plans, 1).await;
    let actors = live(world.open().await, Kit::closed().registry());
    let told = actors.orchestrator.send(PlanStatus(run_id("w0")));
    let listed = actors.orchestrator.send(ListPlans::new());
    let unknown = actors.orchestrator.send(PlanStatus(run_id("x")));
    let told = told.await.unwrap().unwrap();
    assert_eq!((told.completed, told.steps, told.state.is_final()), (1, 3, false));
    let listed = listed.await.unwrap().unwrap();
    assert_eq!(listed.iter().map(|info| info.run_id.as_str()).collect::<Vec<_>>(), ["w0", "w1"]);
    assert!(matches!(unknown.await.unwrap(), Err(ControlError::UnknownRun { .. })));
}

async fn a_run_that_is_cancelled_right_after_the_start_does_not_go_on<W: World>() {
    // Of a callable that is registered, one that is not, and a closure.
    for index in 0..3 {
        let (world, kit) = (W::fresh(), Kit::closed());
        cut_off_mixed(&world, &kit).await;
        let kit = Kit::closed();
        let actors = live(world.open().await, kit.registry());
        let id = ["fine", "unregistered", "closure"][index];
        let cancelled = [(); 2].map(|()| actors.orchestrator.send(CancelPlan(run_id(id))));
        for answer in cancelled {
            let outcome = answer.await.unwrap().unwrap();
            assert!(
                matches!(outcome, CancelOutcome::Cancelled | CancelOutcome::Finished(RunState::Cancelled)),
                "{id}: {outcome:?}"
            );
        }
        recovered(&actors).await;
        assert_eq!(kit.calls(id, "a") + kit.calls(id, "f"), 0);
        assert_eq!(status(&actors, id).await.state, RunState::Cancelled, "{id}");
        assert_eq!(record(&actors, id).await.unwrap().state, RunState::Cancelled, "{id}");
        assert_eq!(history_of(&actors, id).await.last().unwrap(), "plan.cancelled", "{id}");
        // It holds up nobody.
        kit.open();
        execute(&actors, ExecutePlan::new([])).await.unwrap();
    }
}

async fn a_cancellation_right_after_the_start_is_answered_when_it_is_stored<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    cut_off_mixed(&world, &kit).await;
    // Commit 1 says that the closure is interrupted, and 2 cancels the run whose callable nobody has.
    let (store, mut hold) = Slow::new(&world, 2).await;
    let actors = live(store, Kit::closed().registry());
    let mut cancelled = Box::pin(actors.orchestrator.send(CancelPlan(run_id("unregistered"))));
    hold.held.recv().await.unwrap();
    assert!(is_open(&mut cancelled).await, "answered before it was stored");
    hold.release.send(()).unwrap();
    assert_eq!(cancelled.await.unwrap().unwrap(), CancelOutcome::Cancelled);
    assert_eq!(record(&actors, "unregistered").await.unwrap().state, RunState::Cancelled);
}

async fn whoever_asks_and_cancels_right_after_the_start_hears_of_the_cancellation<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let plan = || plan_of("r", kit.closures(&["a", "b"]));
    cut_off(&world, &kit, vec![plan()], 1).await;
    let actors = live(world.open().await, kit.registry());
    let asked = actors.orchestrator.send(plan());
    let cancelled = actors.orchestrator.send(CancelPlan(run_id("r")));
    assert_eq!(cancelled.await.unwrap().unwrap(), CancelOutcome::Cancelled);
    assert_cancelled(asked.await.unwrap(), &[json!("a")]);
    assert_eq!(kit.trace.all(), ["r a 1", "r b 1"]);
    assert_eq!(record(&actors, "r").await.unwrap().state, RunState::Cancelled);
}

async fn another_plan_right_after_the_start_does_not_keep_a_run_from_going_on<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    cut_off(&world, &kit, vec![plan_of("r", named(&["a", "b"]))], 1).await;
    let actors = live(world.open().await, kit.registry());
    let stranger = plan_of("r", named(&["x"])).in_project("other", "project");
    let strange = actors.orchestrator.send(stranger);
    let other = actors.orchestrator.send(plan_of("r", named(&["x"])));
    let strange = strange.await.unwrap().unwrap_err();
    assert!(matches!(strange, PlanError::RunExists { .. }), "{strange:?}");
    let other = other.await.unwrap().unwrap_err();
    assert!(matches!(other, PlanError::PlanMismatch { .. }), "{other:?}");
    recovered(&actors).await;
    all_end(&actors).await;
    assert_eq!(record(&actors, "r").await.unwrap().state, RunState::Completed);
    assert_eq!(kit.trace.all(), ["r a 1", "r b 1", "r b 2"]);
}

async fn another_plan_that_comes_first_does_not_keep_the_right_one_out<W: World>() {
    // In a life in which the run ended, and in one in which it was cut off, at the start and later.
    for (cut, wait) in [(false, false), (false, true), (true, false), (true, true)] {
        let (world, kit) = (W::fresh(), Kit::closed());
        let plan = || plan_of("r", kit.closures(&["a", "b"]));
        if cut {
            cut_off(&world, &kit, vec![plan()], 1).await;
        } else {
            kit.open();
            let actors = live(world.open().await, kit.registry());
            execute(&actors, plan()).await.unwrap();
            bury(actors).await;
        }
        let actors = live(world.open().await, kit.registry());
        if wait {
            recovered(&actors).await;
        }
        let stranger = actors.orchestrator.send(plan_of("r", named(&["x"])).in_project("other", "project"));
        let right = actors.orchestrator.send(plan());
        let wrong = actors.orchestrator.send(SubmitPlan(plan_of("r", named(&["x"]))));
        let again = actors.orchestrator.send(SubmitPlan(plan()));
        let stranger = stranger.await.unwrap().unwrap_err();
        assert!(matches!(stranger, PlanError::RunExists { .. }), "{stranger:?}");
        assert_eq!(right.await.unwrap().unwrap(), ["a", "ab"]);
        let wrong = wrong.await.unwrap().unwrap_err();
        assert!(matches!(wrong, PlanError::PlanMismatch { .. }), "{wrong:?}");
        assert_eq!(again.await.unwrap().unwrap().await.unwrap(), ["a", "ab"]);
        assert_eq!(kit.trace.all().len(), if cut { 3 } else { 2 });
        assert_eq!(actors.orchestrator.send(Shutdown::now()).await.unwrap(), ShutdownReport::default());
    }
}

async fn of_two_plans_for_a_new_run_the_first_is_the_runs_own<W: World>() {
    let (world, kit) = (W::fresh(), Kit::new());
    let actors = live(world.open().await, kit.registry());
    let first = actors.orchestrator.send(plan_of("r", named(&["a"])));
    let second = actors.orchestrator.send(plan_of("r", named(&["b"])));
    assert_eq!(first.await.unwrap().unwrap(), ["a"]);
    assert!(matches!(second.await.unwrap(), Err(PlanError::PlanMismatch { .. })));
    // One that is refused keeps nobody out either.
    let first = actors.orchestrator.send(plan_of("s", [Step::named("unknown")]));
    assert!(matches!(first.await.unwrap(), Err(PlanError::Unresolved(_))));
    assert_eq!(execute(&actors, plan_of("s", named(&["b"]))).await.unwrap(), ["b"]);
    assert_eq!(kit.trace.all(), ["r a 1", "s b 1"]);
}

async fn a_run_that_was_asked_for_but_cannot_be_called_is_told_as_interrupted<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    cut_off_mixed(&world, &kit).await;
    let actors = live(world.open().await, kit.registry());
    let error = execute(&actors, mixed(&kit).remove(1)).await.unwrap_err();
    assert!(matches!(error, PlanError::Unresolved(_)), "{error:?}");
    recovered(&actors).await;
    let info = reaches(&actors, "unregistered", RunState::Interrupted).await;
    assert_eq!(info.reason.as_deref(), Some(NOT_REGISTERED));
}

async fn a_store_that_cannot_be_read_is_logged_and_plans_are_answered<W: World>() {
    let log = Capture::start("nobody is called like this either");
    let (world, kit) = (W::fresh(), Kit::new());
    let mut store = FaultyStore::new(world.open().await, Fault::Die, 1);
    let commit = Commit::new(run_id("x"), Project::default(), RunUpdate::new(RunState::Queued, 0, 0));
    store.commit(Box::new(commit), SystemTime::now()).unwrap_err();
    let actors = live(store, kit.registry());
    assert_cut_off(&execute(&actors, ExecutePlan::new([])).await.unwrap_err());
    assert_cut_off(&execute(&actors, plan_of("r", [])).await.unwrap_err());
    let lines = log.said(Level::Error);
    assert!(
        lines.iter().any(|line| line.starts_with("lunacore::orchestrator: unfinished runs cannot be read")),
        "{lines:?}"
    );
}

async fn that_a_run_is_interrupted_is_told_though_it_could_not_be_stored<W: World>() {
    for fault in [Fault::Fail, Fault::Panic, Fault::FailAfter] {
        let (world, kit) = (W::fresh(), Kit::closed());
        let plan = || plan_of("r", [named(&["a"]), kit.closures(&["b"])].concat());
        cut_off(&world, &kit, vec![plan()], 1).await;
        let actors = live(FaultyStore::new(world.open().await, fault, 1), kit.registry());
        recovered(&actors).await;
        let expected = if is_stored(fault) { RunState::Interrupted } else { RunState::Running };
        assert_eq!(record(&actors, "r").await.unwrap().state, expected);
        let info = status(&actors, "r").await;
        assert_eq!((info.state, info.reason.as_deref()), (RunState::Interrupted, Some(CLOSURE)), "{fault:?}");
        assert_eq!((info.steps, info.completed, info.current), (2, 1, None));
        assert_eq!(states(&actors).await, [("r".to_owned(), RunState::Interrupted)]);
        assert_eq!(execute(&actors, plan()).await.unwrap(), ["a", "ab"]);
        assert_eq!(status(&actors, "r").await.state, RunState::Completed);
    }
}

async fn a_run_whose_cancellation_could_not_be_stored_is_told_as_interrupted<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    two_cut_off(&world).await;
    // Commit 1 takes up the first, and 2 would cancel the second, which waits.
    let actors = live(FaultyStore::new(world.open().await, Fault::Fail, 2), kit.registry());
    recovered(&actors).await;
    assert_eq!(states(&actors).await[1], ("w1".to_owned(), RunState::Queued));
    assert!(matches!(cancel(&actors, "w1").await, Err(ControlError::Memory(_))));
    assert_eq!(status(&actors, "w1").await.state, RunState::Interrupted);
    let (id, steps) = SIDE_BY_SIDE[1];
    let handle = submit(&actors, plan_of(id, named(&steps))).await;
    assert_eq!(status(&actors, "w1").await.state, RunState::Queued);
    kit.open();
    assert_eq!(handle.await.unwrap()[2], steps.concat());
}

/// A store that notes how well each commit is to be stored.
struct Noting<W: World> {
    inner: W::Store,
    noted: Trace,
}

read_through!([W: World] Noting<W>, |_: &Noting<W>| ());

impl<W: World> Store for Noting<W> {
    fn begin(&mut self, durability: Durability) -> Result<(), StoreError> {
        self.inner.begin(durability)
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.inner.end()
    }

    fn commit(&mut self, commit: Box<Commit>, at: SystemTime) -> Result<Vec<Event>, MemoryError> {
        self.noted.note(format!("{} {:?}", commit.update.state, commit.durability));
        self.inner.commit(commit, at)
    }

    fn record_signal(
        &mut self,
        signal: lunacore::RecordSignal,
        at: SystemTime,
    ) -> Result<(lunacore::KeptSignal, Vec<Event>), MemoryError> {
        self.inner.record_signal(signal, at)
    }

    fn record_breaker(
        &mut self,
        change: lunacore::RecordBreaker,
        at: SystemTime,
    ) -> Result<Vec<Event>, MemoryError> {
        self.inner.record_breaker(change, at)
    }

    fn put(&mut self, put: Put, at: SystemTime) -> Result<Artifact, MemoryError> {
        self.inner.put(put, at)
    }

    fn delete(&mut self, project: &Project, key: &str, version: Option<u64>) -> Result<bool, MemoryError> {
        self.inner.delete(project, key, version)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.inner.flush()
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        self.inner.reopen()
    }

    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        self.inner.reader()
    }
}

/// How a run of a and b that was accepted with `was` is stored when it was cut off at b and goes on, by itself or because it
/// is sent again with `now`.
async fn stored_with<W: World>(was: Option<Durability>, way: Way, now: Option<Durability>) -> Vec<String> {
    let (world, kit) = (W::fresh(), Kit::closed());
    let plan = |durability: Option<Durability>| {
        let plan = plan_of("r", steps_for(way, &kit, &["a", "b"]));
        durability.map_or_else(|| plan.clone(), |durability| plan.clone().durability(durability))
    };
    cut_off(&world, &kit, vec![plan(was)], 1).await;
    let noted = Trace::default();
    let store = Noting::<W> { inner: world.open().await, noted: noted.clone() };
    let actors = live(store, kit.registry());
    match way {
        Way::ByItself => drop(reaches(&actors, "r", RunState::Completed).await),
        _ => {
            if way == Way::Later {
                recovered(&actors).await;
            }
            execute(&actors, plan(now)).await.unwrap();
        }
    }
    assert_eq!(record(&actors, "r").await.unwrap().durability, was);
    noted.all()
}

async fn a_run_that_goes_on_is_stored_as_well_as_it_was_accepted_to_be<W: World>() {
    let (relaxed, immediate) = (Some(Durability::Relaxed), Some(Durability::Immediate));
    for (was, now, then) in [
        (relaxed, None, relaxed),
        (immediate, None, immediate),
        (None, None, None),
        // Whoever sends the plan again may say otherwise.
        (relaxed, immediate, immediate),
        (None, relaxed, relaxed),
    ] {
        let commits = |states: &[&str]| states.iter().map(|of| format!("{of} {then:?}")).collect::<Vec<_>>();
        let on = commits(&["running", "completed"]);
        assert_eq!(stored_with::<W>(was, Way::AtOnce, now).await, on, "{was:?} {now:?}");
        if now.is_none() {
            assert_eq!(stored_with::<W>(was, Way::ByItself, None).await, on, "{was:?}");
            let later = commits(&["interrupted", "running", "completed"]);
            assert_eq!(stored_with::<W>(was, Way::Later, None).await, later, "{was:?}");
        }
    }
}

async fn what_is_dead_cannot_be_read_either<W: World>() {
    for fault in DEATHS {
        let (world, kit) = (W::fresh(), Kit::new());
        let actors = live(FaultyStore::new(world.open().await, fault, 2), kit.registry());
        assert_cut_off(&execute(&actors, plan_of("r", named(&["a", "b"]))).await.unwrap_err());
        let read = actors.memory.send(GetRun(run_id("r"))).await.unwrap();
        assert!(matches!(read, Err(MemoryError::Store(_))), "{read:?}");
        let read = actors.memory.send(ReadEvents::new(0, MAX_PAGE)).await.unwrap();
        assert!(matches!(read, Err(HistoryError::Failed { .. })), "{read:?}");
        // What the orchestrator knows by itself it still tells.
        assert_eq!(status(&actors, "r").await.state, RunState::Interrupted);
        bury(actors).await;
        let cursor = world.open().await.run(&run_id("r")).unwrap().unwrap().cursor;
        assert_eq!(cursor, usize::from(is_stored(fault)));
    }
}

// 6. Two orchestrators over one memory.

async fn a_second_orchestrator_leaves_alone_what_the_first_has<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let first = live(world.open().await, kit.registry());
    let plans = [plan_of("running", named(&["a"])), plan_of("waiting", named(&["b"]))];
    let handles = [submit(&first, plans[0].clone()).await, submit(&first, plans[1].clone()).await];
    let told = history(&first).await;
    let other = Kit::new();
    let second = beside(&first, other.registry());
    recovered(&second).await;
    for (plan, id) in plans.iter().zip(["running", "waiting"]) {
        let error = execute(&second, plan.clone()).await.unwrap_err();
        assert!(matches!(&error, PlanError::RunElsewhere { run_id } if run_id.as_str() == id), "{error:?}");
        assert_eq!(error.to_string(), format!("run {id} is in the hands of another orchestrator"));
        let error = second.orchestrator.send(SubmitPlan(plan.clone())).await.unwrap().unwrap_err();
        assert!(matches!(error, PlanError::RunElsewhere { .. }), "{error:?}");
        assert!(matches!(cancel(&second, id).await, Err(ControlError::NotHere { .. })));
    }
    assert_eq!(history(&first).await, told);
    kit.open();
    for (handle, step) in handles.into_iter().zip(["a", "b"]) {
        assert_eq!(handle.await.unwrap(), [step]);
    }
    assert_eq!(execute(&second, plans[1].clone()).await.unwrap(), ["b"]);
    assert_eq!((kit.trace.all().len(), other.trace.all().len()), (2, 0));
}

async fn a_run_that_was_taken_up_is_held_like_a_new_one<W: World>() {
    for is_named in [true, false] {
        let (world, kit) = (W::fresh(), Kit::closed());
        let steps = || if is_named { named(&["a", "b"]) } else { kit.closures(&["a", "b"]) };
        cut_off(&world, &kit, vec![plan_of("r", steps())], 1).await;
        // By itself, or because somebody asks for it.
        let kit = Kit::closed();
        let steps = || if is_named { named(&["a", "b"]) } else { kit.closures(&["a", "b"]) };
        let first = live(world.open().await, kit.registry());
        recovered(&first).await;
        let handle = submit(&first, plan_of("r", steps())).await;
        reaches(&first, "r", RunState::Running).await;
        let other = Kit::new();
        let second = beside(&first, other.registry());
        recovered(&second).await;
        let asked = if is_named { named(&["a", "b"]) } else { other.closures(&["a", "b"]) };
        let refused = execute(&second, plan_of("r", asked)).await;
        assert!(matches!(refused, Err(PlanError::RunElsewhere { .. })), "{refused:?}");
        assert_eq!(other.trace.all(), [""; 0]);
        assert!(matches!(cancel(&second, "r").await, Err(ControlError::NotHere { .. })));
        kit.open();
        assert_eq!(handle.await.unwrap(), ["a", "ab"]);
        assert_eq!(kit.trace.all(), ["r b 2"]);
    }
}

async fn cancelling_what_is_elsewhere_is_not_answered_as_done<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let first = live(world.open().await, kit.registry());
    let handle = submit(&first, plan_of("r", named(&["a"]))).await;
    let second = beside(&first, kit.registry());
    recovered(&second).await;
    // While the second has still to find out that the run is elsewhere, or another.
    let asked = second.orchestrator.send(plan_of("r", named(&["a"])));
    let cancelled = second.orchestrator.send(CancelPlan(run_id("r")));
    assert!(matches!(asked.await.unwrap(), Err(PlanError::RunElsewhere { .. })));
    let cancelled = cancelled.await.unwrap();
    assert!(matches!(cancelled, Err(ControlError::NotHere { .. })), "{cancelled:?}");
    let asked = second.orchestrator.send(plan_of("r", named(&["x"])));
    let cancelled = second.orchestrator.send(CancelPlan(run_id("r")));
    assert!(matches!(asked.await.unwrap(), Err(PlanError::PlanMismatch { .. })));
    let cancelled = cancelled.await.unwrap();
    assert!(matches!(cancelled, Err(ControlError::NotHere { .. })), "{cancelled:?}");
    kit.open();
    handle.await.unwrap();
}

async fn two_orchestrators_that_are_given_the_same_new_run_at_once_run_it_once<W: World>() {
    let (world, kit) = (W::fresh(), Kit::new());
    let first = live(world.open().await, kit.registry());
    let second = beside(&first, kit.registry());
    recovered(&first).await;
    recovered(&second).await;
    let plan = || plan_of("r", named(&["a", "b"]));
    let asked = first.orchestrator.send(plan());
    let refused = [second.orchestrator.send(plan()), second.orchestrator.send(plan())];
    let submitted = second.orchestrator.send(SubmitPlan(plan()));
    let cancelled = second.orchestrator.send(CancelPlan(run_id("r")));
    assert_eq!(asked.await.unwrap().unwrap(), ["a", "ab"]);
    for answer in refused {
        let error = answer.await.unwrap().unwrap_err();
        assert!(matches!(&error, PlanError::RunElsewhere { run_id } if run_id.as_str() == "r"), "{error:?}");
    }
    let error = submitted.await.unwrap().unwrap_err();
    assert!(matches!(error, PlanError::RunElsewhere { .. }), "{error:?}");
    // Whatever is known of the run by then, the second has not cancelled it.
    match cancelled.await.unwrap() {
        Err(ControlError::UnknownRun { .. } | ControlError::NotHere { .. }) => {}
        Ok(CancelOutcome::Finished(RunState::Completed)) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(kit.trace.all(), ["r a 1", "r b 1"]);
    assert_eq!(execute(&second, plan()).await.unwrap(), ["a", "ab"]);
}

async fn a_run_that_is_about_to_be_accepted_is_not_taken_by_another<W: World>() {
    let (world, kit) = (W::fresh(), Kit::new());
    let first = live(world.open().await, kit.registry());
    // An allocator that takes its time: the run is claimed, and not stored.
    let (bus, memory) = (first.bus.clone(), first.memory.clone());
    let never = Never.start();
    let waits = ExecutionOrchestrator::new(bus.clone(), memory.clone(), never.recipient()).start();
    recovered(&first).await;
    recovered(&Actors { orchestrator: waits.clone(), bus, memory }).await;
    let plan = || plan_of("r", named(&["a"]));
    let waiting = waits.send(plan());
    let_others_run().await;
    all_found(&first).await;
    let refused = execute(&first, plan()).await;
    assert!(matches!(refused, Err(PlanError::RunElsewhere { .. })), "{refused:?}");
    assert!(matches!(cancel(&first, "r").await, Err(ControlError::UnknownRun { .. })));
    assert_eq!(waits.send(CancelPlan(run_id("r"))).await.unwrap().unwrap(), CancelOutcome::Cancelled);
    assert_cancelled(waiting.await.unwrap(), &[]);
    assert_eq!(execute(&first, plan()).await.unwrap(), ["a"]);
}

/// Waits until memory has handled what it was sent so far.
async fn all_found(actors: &Actors) {
    let _ = record(actors, "no such run").await;
    let_others_run().await;
}

/// An allocator that never answers.
struct Never;

impl Actor for Never {
    type Context = Context<Self>;
}

impl Handler<Resolve> for Never {
    type Result = ResponseFuture<Result<Vec<Callable>, ResolveError>>;

    fn handle(&mut self, _: Resolve, _: &mut Self::Context) -> Self::Result {
        Box::pin(pending())
    }
}

async fn what_a_gone_orchestrator_leaves_unfinished_can_be_resumed_by_another<W: World>() {
    let (world, kit) = (W::fresh(), Kit::closed());
    let actors = live(world.open().await, kit.registry());
    let elsewhere = Arbiter::new();
    let (bus, memory, allocator) =
        (actors.bus.clone(), actors.memory.clone(), kit.registry().start().recipient());
    let gone = ExecutionOrchestrator::start_in_arbiter(&elsewhere.handle(), move |_| {
        ExecutionOrchestrator::new(bus, memory, allocator)
    });
    let plan = || plan_of("r", kit.closures(&["a", "b"]));
    gone.send(SubmitPlan(plan())).await.unwrap().unwrap();
    while kit.trace.all().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(matches!(execute(&actors, plan()).await, Err(PlanError::RunElsewhere { .. })));
    elsewhere.stop();
    elsewhere.join().unwrap();
    kit.open();
    assert_eq!(execute(&actors, plan()).await.unwrap(), ["a", "ab"]);
    assert_eq!(kit.trace.all(), ["r a 1", "r a 2", "r b 1"]);
}

async fn a_run_that_its_orchestrator_lost_can_be_resumed_by_another<W: World>() {
    let (world, kit) = (W::fresh(), Kit::new());
    let first = live(FaultyStore::new(world.open().await, Fault::Fail, 2), kit.registry());
    let second = beside(&first, kit.registry());
    recovered(&second).await;
    let plan = || plan_of("r", kit.closures(&["a", "b"]));
    assert_cut_off(&execute(&first, plan()).await.unwrap_err());
    assert_eq!(execute(&second, plan()).await.unwrap(), ["a", "ab"]);
    assert_eq!(kit.trace.all(), ["r a 1", "r a 2", "r b 1"]);
    assert_eq!(status(&first, "r").await.state, RunState::Completed);
}

async fn a_run_is_held_while_its_blocking_code_runs_after_the_shutdown<W: World>() {
    tokio::time::pause();
    let (world, kit) = (W::fresh(), Kit::new());
    let first = live(world.open().await, kit.registry());
    let second = beside(&first, kit.registry());
    recovered(&second).await;
    let (callable, release) = blocking(&kit);
    let plan = || plan_of("r", [Step::new("x", callable.clone())]);
    let answer = first.orchestrator.send(plan());
    while kit.trace.all().is_empty() {
        tokio::task::yield_now().await;
    }
    let shutdown = first.orchestrator.send(Shutdown::now());
    let _ = states(&first).await;
    tokio::time::advance(STOP_GRACE + Duration::from_millis(10)).await;
    let report = shutdown.await.unwrap();
    assert_eq!((report.interrupted, report.completed, report.cancelled, report.failed), (1, 0, 0, 0));
    assert!(matches!(answer.await.unwrap(), Err(PlanError::Interrupted { .. })));
    assert!(!first.orchestrator.connected());
    for _ in 0..3 {
        let refused = execute(&second, plan()).await;
        assert!(matches!(refused, Err(PlanError::RunElsewhere { .. })), "{refused:?}");
        assert!(matches!(cancel(&second, "r").await, Err(ControlError::NotHere { .. })));
        let_others_run().await;
    }
    assert_eq!(kit.trace.all(), ["r x 1"]);
    release.send(()).unwrap();
    reaches(&second, "r", RunState::Cancelled).await;
    assert_cancelled(execute(&second, plan()).await, &[json!("done")]);
    assert_eq!(kit.trace.all(), ["r x 1", "ended"]);
}

async fn a_run_is_held_while_its_blocking_code_runs_though_its_stop_could_not_be_stored<W: World>() {
    let (world, kit) = (W::fresh(), Kit::new());
    let first = live(FaultyStore::new(world.open().await, Fault::Fail, 2), kit.registry());
    let second = beside(&first, kit.registry());
    recovered(&second).await;
    let (callable, release) = blocking(&kit);
    let plan = || plan_of("r", [Step::new("x", callable.clone())]);
    let handle = submit(&first, plan()).await;
    let cancelled = first.orchestrator.send(CancelPlan(run_id("r")));
    let_others_run().await;
    let refused = execute(&second, plan()).await;
    assert!(matches!(refused, Err(PlanError::RunElsewhere { .. })), "{refused:?}");
    release.send(()).unwrap();
    assert_cut_off(&handle.await.unwrap_err());
    assert!(cancelled.await.unwrap().is_err());
    release.send(()).unwrap();
    assert_eq!(execute(&second, plan()).await.unwrap(), ["done"]);
    assert_eq!(kit.trace.all(), ["r x 1", "ended", "r x 2", "ended"]);
}

async fn a_run_is_held_while_its_blocking_code_runs_though_its_thread_was_stopped<W: World>() {
    let (world, kit) = (W::fresh(), Kit::new());
    let actors = live(world.open().await, kit.registry());
    let elsewhere = Arbiter::new();
    let (bus, memory, allocator) =
        (actors.bus.clone(), actors.memory.clone(), kit.registry().start().recipient());
    let gone = ExecutionOrchestrator::start_in_arbiter(&elsewhere.handle(), move |_| {
        ExecutionOrchestrator::new(bus, memory, allocator)
    });
    let (callable, release) = blocking(&kit);
    let plan = || plan_of("r", [Step::new("x", callable.clone())]);
    gone.send(SubmitPlan(plan())).await.unwrap().unwrap();
    while kit.trace.all().is_empty() {
        tokio::task::yield_now().await;
    }
    elsewhere.stop();
    while gone.connected() {
        tokio::task::yield_now().await;
    }
    // Time enough for its thread to let go of everything that it does not have to keep.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let refused = actors.orchestrator.send(plan());
    let_others_run().await;
    let calls = kit.trace.all();
    release.send(()).unwrap();
    release.send(()).unwrap();
    assert_eq!(calls, ["r x 1"], "the step was called again while it ran");
    let refused = refused.await.unwrap();
    assert!(matches!(refused, Err(PlanError::RunElsewhere { .. })), "{refused:?}");
    elsewhere.join().unwrap();
    assert_eq!(execute(&actors, plan()).await.unwrap(), ["done"]);
}

async fn a_run_is_held_until_its_end_is_stored<W: World>() {
    let (world, kit) = (W::fresh(), Kit::new());
    let (store, mut hold) = Slow::new(&world, 2).await;
    let first = live(store, kit.registry());
    let second = beside(&first, kit.registry());
    recovered(&first).await;
    recovered(&second).await;
    let plan = || plan_of("r", kit.closures(&["a"]));
    let answer = first.orchestrator.send(plan());
    hold.held.recv().await.unwrap();
    while hold.looked.try_recv().is_ok() {}
    // The result is on its way to the disk when the second one asks.
    let asked = second.orchestrator.send(plan());
    hold.looked.recv().await.unwrap();
    hold.release.send(()).unwrap();
    assert_eq!(answer.await.unwrap().unwrap(), ["a"]);
    let asked = asked.await.unwrap();
    assert_eq!(kit.trace.all(), ["r a 1"], "{asked:?}");
    assert!(matches!(asked, Err(PlanError::RunElsewhere { .. })), "{asked:?}");
    assert_eq!(versions(&first, "task:a").await, [1]);
}

// 7. Keys for the outside world.

async fn a_repeated_attempt_has_the_same_idempotency_key<W: World>() {
    let (world, keys) = (W::fresh(), Trace::default());
    let plan = |id: &str| {
        let step = |step: &'static str| {
            let keys = keys.clone();
            Step::new(step, move |ctx: StepContext| {
                keys.note(format!("{} {}", ctx.idempotency_key(), ctx.attempt()));
            })
        };
        plan_of(id, [step("pay/a b"), step("ä")])
    };
    let actors = live(FaultyStore::new(world.open().await, Fault::Die, 2), RegistryAllocator::new());
    execute(&actors, plan("2026/11")).await.unwrap_err();
    bury(actors).await;
    let actors = live(world.open().await, RegistryAllocator::new());
    execute(&actors, plan("2026/11")).await.unwrap();
    execute(&actors, plan("2026")).await.unwrap();
    assert_eq!(
        keys.all(),
        [
            "2026%2F11/1/pay%2Fa%20b 1",
            "2026%2F11/1/pay%2Fa%20b 2",
            "2026%2F11/1/%C3%A4 1",
            "2026/1/pay%2Fa%20b 1",
            "2026/1/%C3%A4 1"
        ]
    );
}

#[actix::test]
async fn idempotency_keys_are_injective() {
    // Ids of the characters that could confuse: separators, what they are escaped as, and parts of a key.
    let piece = prop_oneof![
        Just("/"),
        Just("%"),
        Just("2F"),
        Just("1"),
        Just("%2F"),
        Just("a"),
        Just("ä"),
        Just(" ")
    ];
    let id = proptest::collection::vec(piece, 1..5).prop_map(|pieces| pieces.concat());
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let ids: BTreeSet<String> = (0..120).map(|_| id.new_tree(&mut runner).unwrap().current()).collect();
    let ids: Vec<String> = ids.into_iter().take(40).collect();
    let engine = engine();
    let mut keys = BTreeSet::new();
    for run in &ids {
        let steps =
            ids.iter().map(|id| Step::new(id.as_str(), |ctx: StepContext| ctx.idempotency_key()).inline());
        let found = engine.execute(ExecutePlan::new(steps.collect::<Plan>()).run_id(run)).await.unwrap();
        for key in found {
            let key = key.as_str().unwrap().to_owned();
            assert!(key.is_ascii() && key.matches('/').count() == 2, "{key}");
            assert!(keys.insert(key.clone()), "{key} comes twice");
        }
    }
    assert_eq!(keys.len(), ids.len() * ids.len());
}

// 8. Plans as data.

fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!(1)),
        Just(json!(1.0)),
        Just(json!("1")),
        Just(json!(true)),
        any::<f64>().prop_filter_map("finite", |n| serde_json::Number::from_f64(n).map(Value::Number)),
        any::<i64>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[ab:\n\"]{0,2}", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Steps of few kinds, so that two plans are often the same.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let inputs = prop_oneof![3 => Just(Value::Null), 2 => Just(json!(1)), 1 => json_values()];
    let step = (0..4_usize, inputs).prop_map(|(kind, input)| {
        let step = |id: &str| match kind {
            0 => Step::named(id),
            1 => Step::new(id, || 1),
            2 => Step::named(id).uses("b"),
            _ => Step::new(id, || 1).uses("b"),
        };
        (step("a"), step("b"), step("null")).into_input(input)
    });
    (proptest::collection::vec((0..3_usize, step), 0..3)).prop_filter_map("ids differ", |steps| {
        let steps: Vec<Step> = steps.into_iter().map(|(which, choice)| choice[which].clone()).collect();
        let ids: BTreeSet<_> = steps.iter().map(|step| step.id().unwrap().to_owned()).collect();
        (ids.len() == steps.len()).then_some(steps)
    })
}

trait IntoInput {
    fn into_input(self, input: Value) -> [Step; 3];
}

impl IntoInput for (Step, Step, Step) {
    fn into_input(self, input: Value) -> [Step; 3] {
        [self.0.input(input.clone()), self.1.input(input.clone()), self.2.input(input)]
    }
}

proptest! {
    #[test]
    fn plans_have_the_same_fingerprint_exactly_when_nothing_differs(one in steps(), two in steps()) {
        let (a, b) = (PlanRecord::of(one).unwrap(), PlanRecord::of(two).unwrap());
        let same = a.fingerprint() == b.fingerprint();
        prop_assert_eq!(same, a.differences(&b).is_empty());
        prop_assert_eq!(same, b.differences(&a).is_empty());
        prop_assert!(a.differences(&a).is_empty());
    }

    #[test]
    fn a_plan_comes_back_from_json_as_it_was(steps in steps(), name in proptest::option::of("[a-z]{1,9}")) {
        let decorated = steps.into_iter().map(|step| step.agent("x").attr("k", 1.5).inline());
        let mut plan = Plan::new(decorated);
        if let Some(name) = &name {
            plan = plan.name(name.as_str());
        }
        let record = PlanRecord::of(plan).unwrap();
        let read: PlanRecord = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        prop_assert_eq!(read.fingerprint(), record.fingerprint());
        prop_assert!(read.differences(&record).is_empty());
        prop_assert_eq!(read.name(), name.as_deref());
        prop_assert_eq!(read.is_self_contained(), record.is_self_contained());
        prop_assert_eq!(read, record);
    }

    /// Changing one thing in one step is found, and is found there.
    #[test]
    fn one_change_is_one_difference(steps in steps(), at in 0..3_usize, what in 0..3_usize) {
        prop_assume!(at < steps.len());
        let mut changed = steps.clone();
        let step = changed[at].clone();
        changed[at] = match what {
            0 => step.input(json!(["another input"])),
            1 => step.uses("another callable"),
            _ => Step::named("another id"),
        };
        let (a, b) = (PlanRecord::of(steps).unwrap(), PlanRecord::of(changed).unwrap());
        let differences = a.differences(&b);
        prop_assert_eq!(differences.len(), 1);
        prop_assert!(a.fingerprint() != b.fingerprint());
        let PlanDifference::Step { index, change } = &differences[0] else { panic!("{differences:?}") };
        let found = match change {
            StepChange::Input { .. } => 0,
            StepChange::Callable { .. } => 1,
            StepChange::Id { .. } => 2,
            other => panic!("{other:?}"),
        };
        prop_assert_eq!((*index, found), (at, what));
    }
}

#[test]
fn the_fingerprint_does_not_depend_on_the_order_of_object_members() {
    let record = |input: &str| {
        let input: Value = serde_json::from_str(input).unwrap();
        PlanRecord::of([Step::named("a").input(input)]).unwrap()
    };
    let (one, two) =
        (record(r#"{"a":{"x":1,"y":[2]},"b":null}"#), record(r#"{"b":null,"a":{"y":[2],"x":1}}"#));
    assert_eq!(one.fingerprint(), two.fingerprint());
    assert_eq!(one.differences(&two), []);
}

/// What stores have of earlier versions must be found again: another canonical form needs another number in front.
#[test]
fn the_fingerprint_is_pinned() {
    let plan = PlanRecord::of(
        Plan::new([
            Step::named("fetch")
                .uses("http.get")
                .input(json!({ "url": "https://example.org", "n": [1, 2.5] })),
            Step::new("count", || 1).agent("counter").attr("gpu", true),
            Step::named("store"),
        ])
        .name("nightly"),
    );
    assert_eq!(plan.unwrap().fingerprint(), "1-9cd13e10-8c3c-546f-b3e9-0ae784c1958e");
    assert_eq!(PlanRecord::of([]).unwrap().fingerprint(), "1-a805bd31-dbd8-5e06-b40f-d9df30d92dd5");
}

fn refused(text: &str) -> String {
    serde_json::from_str::<PlanRecord>(text).unwrap_err().to_string()
}

#[test]
fn a_plan_of_an_unknown_format_is_refused_by_that_number() {
    let expected = "the plan has format 2, of which this version knows nothing";
    assert_eq!(refused(r#"{"format":2,"steps":[]}"#), expected);
    assert!(refused(r#"{"steps":[]}"#).contains("format"), "{}", refused(r#"{"steps":[]}"#));
    // Whatever else a later format changes.
    assert!(
        refused(r#"{"format":2,"nodes":{}}"#).contains(expected),
        "{}",
        refused(r#"{"format":2,"nodes":{}}"#)
    );
    assert!(refused(r#"{"format":2,"steps":{"a":{}}}"#).contains(expected));
}

#[test]
fn a_stored_plan_that_is_not_valid_is_refused() {
    for (steps, expected) in [
        (
            r#"[{"id":"a"},{"id":"a"}]"#,
            r#"steps 0 and 1 have the same id "a"; each step of a plan needs its own"#,
        ),
        (r#"[{"id":""}]"#, r#"the id "" of step 0 is empty"#),
        (r#"[{"id":"a\u0000"}]"#, r#"the id "a\0" of step 0 has the control character '\0' at byte 1"#),
        (r#"[{"id":"a","uses":""}]"#, r#"the callable name "" of step 0 ("a") is empty"#),
        (r#"[{"id":"a","agent":""}]"#, r#"the agent name "" of step 0 ("a") is empty"#),
    ] {
        assert_eq!(refused(&format!(r#"{{"format":1,"steps":{steps}}}"#)), expected);
    }
    let deep = format!("{}{}", "[".repeat(101), "]".repeat(101));
    assert!(
        refused(&format!(r#"{{"format":1,"steps":[{{"id":"a","input":{deep}}}]}}"#)).contains("nests deeper")
    );
    assert_eq!(refused(r#"{"format":1,"name":"","steps":[]}"#), r#"the name "" of the plan is empty"#);
}

// 9. The end comes before the recovery, or during it.

async fn two_cut_off<W: World>(world: &W) {
    let kit = Kit::closed();
    let plans = SIDE_BY_SIDE[..2].iter().map(|(id, steps)| plan_of(id, named(steps))).collect();
    cut_off(world, &kit, plans, 1).await;
}

async fn closing_before_the_recovery_leaves_the_runs_for_the_next_start<W: World>() {
    for how in 0..3 {
        let (world, kit) = (W::fresh(), Kit::new());
        two_cut_off(&world).await;
        let Actors { orchestrator, bus, memory } = live(world.open().await, kit.registry());
        let (drain, gone) = (Shutdown::drain(Duration::from_secs(3_600)), memory.downgrade());
        match how {
            0 => assert_eq!(orchestrator.send(Shutdown::now()).await.unwrap(), ShutdownReport::default()),
            1 => assert_eq!(orchestrator.send(drain).await.unwrap(), ShutdownReport::default()),
            _ => {}
        }
        drop(orchestrator);
        let_others_run().await;
        drop((bus, memory));
        let patience = Patience::new();
        while gone.upgrade().is_some() {
            patience.wait("the memory to go").await;
        }
        let_others_run().await;
        assert_eq!(kit.trace.all(), [""; 0]);
        let store = world.open().await;
        let states: Vec<_> = store.unfinished(None, 10).unwrap().into_iter().map(|run| run.state).collect();
        assert_eq!(states, [RunState::Running, RunState::Queued]);
        drop(store);
        let actors = live(world.open().await, kit.registry());
        for (id, _) in &SIDE_BY_SIDE[..2] {
            reaches(&actors, id, RunState::Completed).await;
        }
    }
}

async fn closing_during_the_recovery_serves_who_asked_and_leaves_the_others<W: World>() {
    let (world, kit) = (W::fresh(), Kit::new());
    two_cut_off(&world).await;
    let actors = live(world.open().await, kit.registry());
    let (id, steps) = SIDE_BY_SIDE[1];
    let asked = actors.orchestrator.send(plan_of(id, named(&steps)));
    let report = actors.orchestrator.send(Shutdown::drain(Duration::from_secs(3_600)));
    assert_eq!(asked.await.unwrap().unwrap()[2], steps.concat());
    let report = report.await.unwrap();
    assert_eq!((report.completed, report.failed, report.cancelled, report.interrupted), (1, 0, 0, 0));
    assert_eq!(unfinished(&actors).await, ["w0"]);
    let next = beside(&actors, kit.registry());
    reaches(&next, "w0", RunState::Completed).await;
}

async fn a_shutdown_counts_the_runs_that_were_recovered<W: World>() {
    for drain in [true, false] {
        let (world, kit) = (W::fresh(), Kit::closed());
        two_cut_off(&world).await;
        let actors = live(world.open().await, kit.registry());
        recovered(&actors).await;
        let shutdown = if drain { Shutdown::drain(Duration::from_secs(3_600)) } else { Shutdown::now() };
        let report = actors.orchestrator.send(shutdown);
        let_others_run().await;
        kit.open();
        let report = report.await.unwrap();
        let expected = if drain { (2, 0) } else { (0, 2) };
        assert_eq!((report.completed, report.cancelled), expected);
        assert_eq!((report.failed, report.interrupted), (0, 0));
        assert_eq!(unfinished(&actors).await, [""; 0]);
    }
}

// Every world runs every test.

macro_rules! worlds {
    ($($test:ident)*) => {
        mod volatile {
            $(
                #[actix::test]
                async fn $test() {
                    super::$test::<super::Volatile>().await;
                }
            )*
        }

        #[cfg(feature = "sqlite")]
        mod sqlite {
            $(
                #[actix::test]
                async fn $test() {
                    super::$test::<super::Sqlite>().await;
                }
            )*
        }
    };
}

worlds! {
    any_commit_may_fail_and_the_run_goes_on_where_it_was
    the_process_may_die_at_any_commit_and_the_run_goes_on_where_it_was
    a_plan_that_had_to_wait_goes_on_whatever_commit_fails
    a_run_whose_step_fails_fails_once_whatever_commit_fails
    runs_side_by_side_go_on_whichever_is_hit
    a_run_that_completed_answers_with_its_stored_results_and_calls_nothing
    a_run_that_failed_answers_with_its_stored_failure_and_calls_nothing
    a_recorded_panic_reads_like_the_live_one
    a_run_that_was_cancelled_answers_so_with_what_had_completed
    callers_of_a_run_that_runs_or_waits_get_the_same_outcome
    callers_of_a_run_that_fails_get_the_live_error_each
    a_submission_is_answered_when_its_run_is_stored_and_not_before
    a_full_queue_takes_more_callers_for_the_runs_that_it_has
    a_full_queue_answers_for_runs_that_are_over
    a_full_queue_turns_away_runs_that_were_cut_off
    attaching_to_a_run_that_is_being_cancelled_hears_of_the_cancellation
    attaching_to_an_interrupted_run_that_is_being_cancelled_hears_of_the_cancellation
    another_plan_or_project_is_refused_whatever_state_the_run_is_in
    another_plan_or_project_is_refused_after_a_crash_and_does_no_harm
    what_a_closure_does_does_not_count_and_the_one_that_comes_is_called
    agents_attributes_names_and_inline_do_not_count
    outputs_of_every_type_are_read_by_later_steps_after_a_crash
    unfinished_runs_go_on_in_their_order_and_before_new_ones
    recovered_runs_use_all_slots_and_need_no_place_in_the_queue
    a_recovered_run_that_waits_tells_what_has_completed
    a_run_that_cannot_be_called_stays_interrupted_and_says_why
    that_a_run_is_interrupted_is_stored_again_only_when_the_reason_is_another
    an_interrupted_run_goes_on_when_its_plan_is_sent
    an_interrupted_run_goes_on_by_itself_once_its_callable_is_registered
    a_run_continues_by_its_id_alone_and_others_are_left_alone
    whoever_continues_a_run_is_attached_to_it_whatever_its_state
    a_run_that_cannot_continue_says_why
    a_run_that_is_continued_right_after_the_start_runs_once
    a_run_that_another_orchestrator_has_does_not_continue_here
    an_interrupted_run_can_be_cancelled_for_good
    a_run_that_was_told_to_stop_ends_cancelled_and_its_step_is_not_called_again
    a_recovered_run_that_fails_is_logged
    a_run_that_is_asked_for_right_after_the_start_runs_once
    questions_right_after_the_start_are_answered_from_what_is_stored
    a_run_that_is_cancelled_right_after_the_start_does_not_go_on
    a_cancellation_right_after_the_start_is_answered_when_it_is_stored
    whoever_asks_and_cancels_right_after_the_start_hears_of_the_cancellation
    another_plan_right_after_the_start_does_not_keep_a_run_from_going_on
    another_plan_that_comes_first_does_not_keep_the_right_one_out
    of_two_plans_for_a_new_run_the_first_is_the_runs_own
    a_run_that_was_asked_for_but_cannot_be_called_is_told_as_interrupted
    a_store_that_cannot_be_read_is_logged_and_plans_are_answered
    that_a_run_is_interrupted_is_told_though_it_could_not_be_stored
    a_run_whose_cancellation_could_not_be_stored_is_told_as_interrupted
    a_run_that_goes_on_is_stored_as_well_as_it_was_accepted_to_be
    what_is_dead_cannot_be_read_either
    a_second_orchestrator_leaves_alone_what_the_first_has
    a_run_that_was_taken_up_is_held_like_a_new_one
    cancelling_what_is_elsewhere_is_not_answered_as_done
    two_orchestrators_that_are_given_the_same_new_run_at_once_run_it_once
    a_run_that_is_about_to_be_accepted_is_not_taken_by_another
    what_a_gone_orchestrator_leaves_unfinished_can_be_resumed_by_another
    a_run_that_its_orchestrator_lost_can_be_resumed_by_another
    a_run_is_held_while_its_blocking_code_runs_after_the_shutdown
    a_run_is_held_while_its_blocking_code_runs_though_its_stop_could_not_be_stored
    a_run_is_held_while_its_blocking_code_runs_though_its_thread_was_stopped
    a_run_is_held_until_its_end_is_stored
    a_repeated_attempt_has_the_same_idempotency_key
    closing_before_the_recovery_leaves_the_runs_for_the_next_start
    closing_during_the_recovery_serves_who_asked_and_leaves_the_others
    a_shutdown_counts_the_runs_that_were_recovered
}
