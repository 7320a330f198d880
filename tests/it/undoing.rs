//! A run that fails, or is cancelled, and undoes what its steps did, cut off at every commit: what was undone stays so, what
//! was not is, what was in flight is called once more, and nothing else is.
//!
//! By virtual time, which both lives of a run share.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use actix::prelude::*;
use lunacore::limits::MAX_PAGE;
use lunacore::testing::{Fault, FaultyStore, virtual_clock};
use lunacore::*;
use serde_json::Value;

use crate::recovery::World;
use crate::support::{Actors, chain, run_id};

/// Between two attempts.
const DELAY: Duration = Duration::from_secs(4);
/// How long nobody is there after a crash: less than any wait.
const DOWN: Duration = Duration::from_secs(1);
/// Longer than anything takes.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// The last one ends the run; the others are undone, the second of them at its second attempt.
const STEPS: [&str; 4] = ["a", "b", "c", "last"];
const FAULTS: [Fault; 4] = [Fault::Die, Fault::DieAfter, Fault::Fail, Fault::FailAfter];
/// Four for the steps, one for the end of the last, two for each attempt to undo one: pinned, so that none is left out unseen.
const COMMITS: usize = 4 + 1 + 2 * 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Async,
    Blocking,
    Inline,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    kind: Kind,
    /// The run is cancelled; else it fails.
    cancelled: bool,
    /// At which commit the first life is cut off, and how; 0 is never.
    fault: Fault,
    at: usize,
    /// Its plan is sent again, instead of leaving the run to itself.
    attach: bool,
}

impl Case {
    fn plan(self) -> ExecutePlan {
        let step = |id: &'static str| {
            if id == "last" {
                return Step::named(id);
            }
            let retry = Retry::fixed(DELAY).max_attempts(2);
            let step = Step::named(id).uses("do").compensate_named("undo").compensation_retry(retry);
            if self.kind == Kind::Inline { step.inline() } else { step }
        };
        ExecutePlan::new(STEPS.map(step)).run_id("r").durability(Durability::Relaxed)
    }

    /// Whether the commit that was hit is stored all the same.
    fn is_stored(self) -> bool {
        matches!(self.fault, Fault::DieAfter | Fault::FailAfter)
    }
}

/// A call, and the life in which it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Called {
    what: String,
    attempt: u32,
    key: String,
    life: usize,
}

/// The world outside of the store: what was done there stays done.
#[derive(Default)]
struct Outside {
    calls: Mutex<Vec<Called>>,
    life: AtomicUsize,
    busy: AtomicBool,
    overlaps: AtomicUsize,
    orchestrator: Mutex<Option<actix::WeakAddr<ExecutionOrchestrator>>>,
}

struct Busy(Arc<Outside>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, SeqCst);
    }
}

impl Outside {
    fn enter(self: &Arc<Self>, what: &str, ctx: &StepContext) -> Busy {
        if self.busy.swap(true, SeqCst) {
            self.overlaps.fetch_add(1, SeqCst);
        }
        let (what, attempt) = (format!("{what} {}", ctx.step_id()), ctx.attempt());
        let called = Called { what, attempt, key: ctx.idempotency_key(), life: self.life.load(SeqCst) };
        self.calls.lock().unwrap().push(called);
        Busy(Arc::clone(self))
    }

    fn act(self: &Arc<Self>, what: &str, ctx: &StepContext) -> Result<String, StepError> {
        let _busy = self.enter(what, ctx);
        if what == "undo" {
            assert_eq!(ctx.output::<String>(ctx.step_id())?, format!("{} done", ctx.step_id()));
            if ctx.step_id() == "b" && ctx.attempt() == 1 {
                return Err("not yet".into());
            }
        }
        Ok(format!("{} done", ctx.step_id()))
    }

    fn callable(self: &Arc<Self>, what: &'static str, kind: Kind) -> Callable {
        let outside = Arc::clone(self);
        match kind {
            Kind::Async => Callable::new(move |ctx: StepContext| {
                let outside = Arc::clone(&outside);
                async move {
                    tokio::task::yield_now().await;
                    outside.act(what, &ctx)
                }
            }),
            Kind::Blocking | Kind::Inline => Callable::new(move |ctx: StepContext| outside.act(what, &ctx)),
        }
    }

    /// Ends the run.
    fn last(self: &Arc<Self>, cancelled: bool) -> Callable {
        let outside = Arc::clone(self);
        Callable::new(move |ctx: StepContext| {
            let outside = Arc::clone(&outside);
            async move {
                let _busy = outside.enter("do", &ctx);
                if !cancelled {
                    return Err::<(), _>(StepError::from("broken"));
                }
                let orchestrator = outside.orchestrator.lock().unwrap().as_ref().unwrap().upgrade().unwrap();
                orchestrator.do_send(CancelPlan(run_id("r")));
                drop(orchestrator);
                pending().await
            }
        })
    }

    fn live(self: &Arc<Self>, store: FaultyStore, clock: &Clock, case: Case) -> Actors {
        self.life.fetch_add(1, SeqCst);
        let memory = ProjectMemory::with_store(store).clock(clock.clone()).start();
        let bus = EventBus::new().start();
        let registry = RegistryAllocator::new()
            .register("do", self.callable("do", case.kind))
            .register("undo", self.callable("undo", case.kind))
            .register("last", self.last(case.cancelled));
        let orchestrator = ExecutionOrchestrator::new(bus.clone(), memory.clone(), registry.start());
        let orchestrator = orchestrator.clock(clock.clone()).start();
        *self.orchestrator.lock().unwrap() = Some(orchestrator.downgrade());
        Actors { orchestrator, bus, memory }
    }
}

/// Waits until nothing of a life is left.
async fn bury(actors: Actors) {
    let _ = actors.orchestrator.send(Shutdown::now()).await;
    let memory = actors.memory.downgrade();
    drop(actors);
    for _ in 0..1_000 {
        if memory.upgrade().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("the memory does not go");
}

/// What is left of a case in the end.
struct Told {
    case: Case,
    outcome: Result<Vec<Value>, PlanError>,
    record: RunRecord,
    events: Vec<Event>,
    /// How many of them the first life left.
    left: usize,
    restart_at: SystemTime,
    calls: Vec<Called>,
    commits: usize,
}

async fn live<W: World>(case: Case) -> Told {
    let (outside, world, clock) = (Arc::new(Outside::default()), W::fresh(), virtual_clock());
    let store = FaultyStore::new(world.open().await, case.fault, case.at);
    let commits = store.commits();
    let mut actors = outside.live(store, &clock, case);
    let life = tokio::time::timeout(FOR_EVER, actors.orchestrator.send(case.plan())).await;
    let mut outcome = life.unwrap_or_else(|_| panic!("{case:?}: the run hangs")).unwrap();
    let commits = commits.load(SeqCst);
    let (mut left, mut restart_at) = (usize::MAX, clock.now());
    if case.at > 0 {
        assert!(matches!(outcome, Err(PlanError::Memory { .. })), "{case:?}: {outcome:?}");
        bury(actors).await;
        assert!(!outside.busy.load(SeqCst), "{case:?}: code of the first life still runs");
        tokio::time::sleep(DOWN).await;
        let store = world.open().await;
        left = store.events(0, MAX_PAGE).unwrap().len();
        let known = store.run(&run_id("r")).unwrap().is_some();
        restart_at = clock.now();
        actors = outside.live(FaultyStore::new(store, case.fault, 0), &clock, case);
        if known && !case.attach {
            // By itself.
            for _ in 0..200 {
                tokio::time::sleep(DELAY).await;
                let info = actors.orchestrator.send(PlanStatus(run_id("r"))).await.unwrap().unwrap();
                if info.state.is_final() {
                    break;
                }
            }
        }
        let life = tokio::time::timeout(FOR_EVER, actors.orchestrator.send(case.plan())).await;
        outcome = life.unwrap_or_else(|_| panic!("{case:?}: the run hangs")).unwrap();
    }
    let events = actors.memory.send(ReadEvents::new(0, MAX_PAGE)).await.unwrap().unwrap();
    let record = actors.memory.send(GetRun(run_id("r"))).await.unwrap().unwrap().unwrap();
    bury(actors).await;
    assert_eq!(outside.overlaps.load(SeqCst), 0, "{case:?}: calls were made side by side");
    let (left, calls) = (left.min(events.len()), outside.calls.lock().unwrap().clone());
    Told { case, outcome, record, events, left, restart_at, calls, commits }
}

impl Told {
    fn shown(&self) -> String {
        let line = |(index, event): (usize, &Event)| {
            let cut = if index == self.left { "---- the second life\n" } else { "" };
            format!("{cut}{event}\n")
        };
        let events: String = self.events.iter().enumerate().map(line).collect();
        format!("{:?}\n{events}{:#?}", self.case, self.calls)
    }

    /// What an event says was started: what is called then.
    fn starts(event: &Event) -> Option<(String, u32)> {
        match event.kind() {
            EventKind::TaskStarted { task_id, attempt, .. } => Some((format!("do {task_id}"), *attempt)),
            EventKind::TaskCompensating { task_id, attempt } => Some((format!("undo {task_id}"), *attempt)),
            _ => None,
        }
    }

    /// Whether the last start that the first life left was stored, and not heard of.
    fn is_unheard(&self) -> bool {
        let last = self.events[..self.left].last();
        self.case.at > 0 && self.case.is_stored() && last.is_some_and(|event| Self::starts(event).is_some())
    }

    /// What was in flight at the crash, by what is stored.
    fn in_flight(&self) -> Option<String> {
        let last = self.events[..self.left].iter().rfind(|event| event.event_type().starts_with("task."))?;
        Self::starts(last).map(|(what, _)| what).filter(|_| self.case.at > 0)
    }

    fn check(&self) {
        let shown = self.shown();
        self.check_end(&shown);
        self.check_calls(&shown);
        self.check_times(&shown);
        let seqs = self.events.iter().map(Event::seq);
        assert!(seqs.eq((1..=self.events.len() as u64).map(Some)), "{shown}");
    }

    /// All is undone, from the last to the first, and all who ask hear so.
    fn check_end(&self, shown: &str) {
        let undoing = self.record.undoing.as_ref().unwrap_or_else(|| panic!("{shown}"));
        assert_eq!((self.record.state, self.record.cursor), (RunState::Compensated, 3), "{shown}");
        assert_eq!((&*undoing.undone, undoing.failed.len()), (&[2, 1, 0][..], 0), "{shown}");
        assert_eq!((undoing.cancelled, undoing.attempt), (self.case.cancelled, 0), "{shown}");
        let Err(error @ PlanError::Compensated { .. }) = &self.outcome else { panic!("{shown}") };
        assert_eq!(error.to_string(), r#"what run r had done is undone: "c", "b", "a""#, "{shown}");
        match error.why() {
            PlanError::Cancelled { completed, .. } if self.case.cancelled => assert_eq!(completed.len(), 3),
            PlanError::StepFailed { step_id, completed, .. } if !self.case.cancelled => {
                assert_eq!((&**step_id, completed.len()), ("last", 3), "{shown}");
                assert_eq!(chain(error)[2], "broken");
            }
            other => panic!("{other:?}\n{shown}"),
        }
        let said = |wanted: &str| -> Vec<&str> {
            let of_type = self.events.iter().filter(|event| event.event_type() == wanted);
            of_type.map(|event| event.task_id().unwrap_or_default()).collect()
        };
        assert_eq!(said("task.compensated"), ["c", "b", "a"], "{shown}");
        assert_eq!((said("plan.compensating").len(), said("plan.compensated").len()), (1, 1), "{shown}");
        assert_eq!(self.events.last().unwrap().event_type(), "plan.compensated", "{shown}");
        assert_eq!(said("task.completed"), ["a", "b", "c"], "{shown}");
    }

    /// Whatever was stored as started was called, once, and nothing else was: but for a start that nobody heard of.
    fn check_calls(&self, shown: &str) {
        let unheard = self.is_unheard().then_some(self.left.wrapping_sub(1));
        let started = self.events.iter().enumerate().filter(|(index, _)| Some(*index) != unheard);
        let started: Vec<(String, u32)> = started.filter_map(|(_, event)| Self::starts(event)).collect();
        let called: Vec<(String, u32)> =
            self.calls.iter().map(|call| (call.what.clone(), call.attempt)).collect();
        assert_eq!(called, started, "{shown}");
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for call in &self.calls {
            *times.entry(&call.what).or_default() += 1;
        }
        for (what, times) in times {
            let needed = if what == "undo b" { 2 } else { 1 };
            let lost = self.in_flight().is_some_and(|lost| lost == what) && !self.is_unheard();
            // The attempt that was cut off may have been the one that fails.
            let most = needed + usize::from(lost);
            assert!(
                (needed..=most).contains(&times) || self.loses_the_first(what),
                "{what} {times}\n{shown}"
            );
        }
        for call in &self.calls {
            let (what, step) = call.what.split_once(' ').unwrap();
            let ending = if what == "undo" { "/undo" } else { "" };
            assert_eq!(call.key, format!("r/1/{step}{ending}"), "{shown}");
            let is_over = |event: &Event| {
                let over = if what == "undo" { "task.compensated" } else { "task.completed" };
                event.event_type() == over && event.task_id() == Some(step)
            };
            assert!(call.life == 1 || !self.events[..self.left].iter().any(is_over), "{call:?}\n{shown}");
        }
    }

    /// The attempt that fails was stored as started, and never heard of: the next one does not fail.
    fn loses_the_first(&self, what: &str) -> bool {
        what == "undo b" && self.is_unheard() && self.in_flight().is_some_and(|lost| lost == what)
    }

    /// An attempt is waited for as long as it was said, also across a crash.
    fn check_times(&self, shown: &str) {
        let mut due = None;
        for (index, event) in self.events.iter().enumerate() {
            match event.kind() {
                EventKind::TaskCompensationFailed { next_attempt_at, will_retry, .. } => {
                    assert!(*will_retry && *next_attempt_at == Some(event.timestamp() + DELAY), "{shown}");
                    due = *next_attempt_at;
                }
                EventKind::TaskCompensating { .. } => {
                    let from = if index >= self.left { self.restart_at } else { SystemTime::UNIX_EPOCH };
                    if let Some(due) = due.take() {
                        assert_eq!(event.timestamp(), due.max(from), "{shown}");
                    }
                }
                _ => {}
            }
        }
    }
}

/// Sweeps where time stands still unless it is waited for.
fn sweep<W: World>(cancelled: bool) {
    let paused = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        // From the very start: timers count whole milliseconds from there.
        runtime.enable_all().start_paused(true).build().unwrap()
    };
    actix::System::with_tokio_rt(paused).block_on(async {
        let (mut crashes, mut repeated) = (0, 0);
        for kind in [Kind::Async, Kind::Blocking, Kind::Inline] {
            let never = Case { kind, cancelled, fault: Fault::Die, at: 0, attach: false };
            let whole = live::<W>(never).await;
            whole.check();
            assert_eq!(whole.commits, COMMITS, "{}", whole.shown());
            assert_eq!(whole.calls.len(), 4 + 4, "{}", whole.shown());
            for at in 1..=COMMITS {
                for fault in FAULTS {
                    let told = live::<W>(Case { fault, at, attach: at % 2 == 0, ..never }).await;
                    told.check();
                    assert_eq!(told.commits, at, "{}", told.shown());
                    crashes += 1;
                    let in_flight = told.in_flight().is_some() && !told.is_unheard();
                    let undoes = told.in_flight().is_some_and(|lost| lost.starts_with("undo"));
                    repeated += usize::from(in_flight && undoes);
                }
            }
        }
        assert_eq!(crashes, 3 * COMMITS * FAULTS.len());
        // The commit behind each of four attempts, lost.
        assert_eq!(repeated, 3 * 4 * 2);
    });
}

#[test]
fn failing_volatile() {
    sweep::<crate::recovery::Volatile>(false);
}

#[test]
fn cancelled_volatile() {
    sweep::<crate::recovery::Volatile>(true);
}

/// A SQLite file in memory, if there is a place for one: what the disk does is not what is asked here.
#[cfg(feature = "sqlite")]
struct Sqlite(crate::recovery::Sqlite);

#[cfg(feature = "sqlite")]
impl World for Sqlite {
    type Store = SqliteStore;

    const BATCHES: bool = true;

    fn fresh() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self(crate::recovery::Sqlite(folder.unwrap()))
    }

    async fn open(&self) -> SqliteStore {
        self.0.open().await
    }

    fn view(store: &SqliteStore) -> Box<dyn Reader> {
        crate::recovery::Sqlite::view(store)
    }
}

#[cfg(feature = "sqlite")]
#[test]
fn failing_sqlite() {
    sweep::<Sqlite>(false);
}

#[cfg(feature = "sqlite")]
#[test]
fn cancelled_sqlite() {
    sweep::<Sqlite>(true);
}
