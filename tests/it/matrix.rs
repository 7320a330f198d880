//! Every feature of a step's policy and of steering, with every kind of callable, over every store, cut off at every
//! commit: what was stored counts, what was not is done once more, and nothing else is.
//!
//! All of it goes by virtual time, which both lives of a run share, so that times are exact.

mod check;
mod outside;

use std::collections::BTreeMap;
use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use actix::prelude::*;
use lunacore::limits::MAX_PAGE;
use lunacore::testing::{Fault, FaultyStore, virtual_clock};
use lunacore::*;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::outside::{Asked, Called, Outside};
use crate::recovery::World;
use crate::support::{Actors, run_id};

/// Between two attempts.
const DELAY: Duration = Duration::from_secs(4);
/// How long an attempt may take, where there is a limit.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How much more than that an inline call takes that takes too long.
const OVERRUN: Duration = Duration::from_secs(1);
/// How long a breaker is open.
const OPEN: Duration = Duration::from_secs(8);
/// How long a run is paused.
const LATER: Duration = Duration::from_secs(3);
/// How long all attempts may take together, where there is a limit: a third of them has no time any more.
const TOTAL: Duration = Duration::from_secs(10);
/// How long nobody is there after a crash: less than any wait.
const DOWN: Duration = Duration::from_secs(1);
/// Longer than anything takes.
const FOR_EVER: Duration = Duration::from_secs(3_600);
/// How often the second life looks whether the run has ended.
const LOOK: Duration = Duration::from_millis(500);

const STEPS: [&str; 3] = ["before", "subject", "after"];
const RUN: &str = "run";
const FAULTS: [Fault; 4] = [Fault::Die, Fault::DieAfter, Fault::Fail, Fault::FailAfter];

// The cells.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feature {
    Retry,
    Timeout,
    /// The limit on all attempts together.
    Total,
    Breaker,
    Cancel,
    Pause,
    Fallback,
    /// A condition that is not true.
    #[cfg(feature = "expressions")]
    Condition,
    /// A condition that is.
    #[cfg(feature = "expressions")]
    Met,
    /// An input that is made of an output.
    #[cfg(feature = "expressions")]
    Template,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Async,
    Blocking,
    Inline,
}

const KINDS: [Kind; 3] = [Kind::Async, Kind::Blocking, Kind::Inline];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    feature: Feature,
    kind: Kind,
}

/// One life of a run, or two.
#[derive(Debug, Clone, Copy)]
struct Case {
    cell: Cell,
    /// At which commit the first life is cut off, and how; 0 is never.
    fault: Fault,
    at: usize,
    /// Its plan is sent again, instead of leaving the run to itself.
    attach: bool,
    /// A cancellation that was not acknowledged is repeated.
    again: bool,
}

/// What an attempt does.
enum Act {
    Succeed,
    Fail,
    Fatal,
    /// Takes longer than it may.
    Overrun,
    /// Waits for the gate.
    Wait,
}

impl Cell {
    fn act(self, step: &str, attempt: u32) -> Act {
        if step != "subject" {
            return Act::Succeed;
        }
        match (self.feature, attempt) {
            (Feature::Retry, 1 | 2) | (Feature::Breaker, 1) | (Feature::Total, _) => Act::Fail,
            (Feature::Timeout, 1) => Act::Overrun,
            (Feature::Fallback, _) => Act::Fatal,
            (Feature::Cancel | Feature::Pause, _) if self.kind != Kind::Inline => Act::Wait,
            _ => Act::Succeed,
        }
    }

    /// How many attempts a step needs that is not cut off.
    fn attempts(self, step: &str) -> u32 {
        match (step, self.feature) {
            ("subject", Feature::Retry) => 3,
            ("subject", Feature::Timeout | Feature::Breaker | Feature::Fallback) => 2,
            #[cfg(feature = "expressions")]
            ("subject", Feature::Condition) => 0,
            _ => 1,
        }
    }

    /// How many commits a run has that is not cut off. Pinned, so that none is left out unseen.
    fn commits(self) -> usize {
        let blocking = usize::from(self.kind == Kind::Blocking);
        match self.feature {
            Feature::Retry => 8,
            Feature::Timeout => 6 + blocking,
            Feature::Total => 7,
            Feature::Breaker => 7,
            Feature::Cancel => 3 + usize::from(self.kind != Kind::Async),
            Feature::Pause => 7,
            Feature::Fallback => 5,
            // As many as without.
            #[cfg(feature = "expressions")]
            Feature::Condition | Feature::Met | Feature::Template => 4,
        }
    }

    /// How often, at least, a step is repeated in the sweep.
    fn repeats(self) -> usize {
        match self.feature {
            #[cfg(feature = "expressions")]
            Feature::Condition => 4,
            #[cfg(feature = "expressions")]
            Feature::Met | Feature::Template => 6,
            _ => 8,
        }
    }

    /// The step whose call has the run cancelled or paused. Nothing can be asked while an inline call runs, so what is asked
    /// then is heard at the start of the next.
    fn steered_at(self) -> Option<&'static str> {
        match (self.feature, self.kind) {
            (Feature::Pause, Kind::Inline) => Some("before"),
            (Feature::Pause | Feature::Cancel, _) => Some("subject"),
            _ => None,
        }
    }

    fn plan(self) -> ExecutePlan {
        let steps = STEPS.map(|id| {
            let step = Step::named(id);
            let step = if id == "subject" { self.subject(step) } else { step };
            if self.kind == Kind::Inline { step.inline() } else { step }
        });
        ExecutePlan::new(steps).run_id(RUN).durability(Durability::Relaxed)
    }

    fn subject(self, step: Step) -> Step {
        let retry = Retry::fixed(DELAY).max_attempts(3);
        match self.feature {
            Feature::Retry => step.retry(retry),
            Feature::Timeout => step.retry(retry.on_timeout(true)).timeout(TIMEOUT),
            Feature::Total => step.retry(retry.max_attempts(100)).total_timeout(TOTAL),
            Feature::Breaker => step.retry(retry).breaker("service"),
            Feature::Fallback => step.on_failure(OnFailure::fallback_named("rescue")),
            Feature::Cancel | Feature::Pause => step,
            #[cfg(feature = "expressions")]
            Feature::Condition => step.when("steps.before.output == 'something else'"),
            #[cfg(feature = "expressions")]
            Feature::Met => step.when("${{ steps.before.output == 'before ' }}"),
            #[cfg(feature = "expressions")]
            Feature::Template => step.with("${{ steps.before.output }}"),
        }
    }
}

impl Case {
    fn is_cut_off(&self) -> bool {
        self.at > 0
    }

    /// Whether the commit that was hit is stored all the same.
    fn is_stored(&self) -> bool {
        matches!(self.fault, Fault::DieAfter | Fault::FailAfter)
    }
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

// Two lives.

type Outcome = Result<Vec<Value>, PlanError>;

/// What was acknowledged to whoever steered the run.
#[derive(Debug, Default)]
struct Acknowledged {
    paused: bool,
    resumed: bool,
    cancelled: bool,
}

/// What is left of a case in the end.
struct Told {
    case: Case,
    acknowledged: Acknowledged,
    outcome: Outcome,
    record: RunRecord,
    events: Vec<Event>,
    /// How many of them the first life left, and what it left of the run.
    left: usize,
    left_record: Option<RunRecord>,
    restart_at: SystemTime,
    calls: Vec<(usize, Called)>,
    versions: BTreeMap<&'static str, Vec<u64>>,
    commits: usize,
}

/// Sees to what a call has asked for.
async fn steer(actors: &Actors, outside: &Outside, asked: Asked, acknowledged: &mut Acknowledged) {
    match asked {
        Asked::Nothing => {}
        // Virtual time stands while blocking code runs.
        Asked::Time => tokio::time::advance(TIMEOUT).await,
        Asked::Cancel(request) => {
            let answer = request.await.unwrap();
            acknowledged.cancelled = matches!(answer, Ok(CancelOutcome::Cancelled | CancelOutcome::Stopping));
        }
        Asked::Pause(request) => {
            let answer = request.await.unwrap();
            acknowledged.paused = matches!(answer, Ok(PauseOutcome::Pausing | PauseOutcome::Paused));
            outside.gate.add_permits(1);
            if !acknowledged.paused {
                return;
            }
            tokio::time::sleep(LATER).await;
            let answer = actors.orchestrator.send(ResumePlan(run_id(RUN))).await.unwrap();
            acknowledged.resumed = matches!(answer, Ok(ResumeOutcome::Resumed));
        }
    }
}

/// Sends the plan and sees it to its end, or to that of the store.
async fn first_life(
    actors: &Actors,
    outside: &Outside,
    told: &mut UnboundedReceiver<Asked>,
    acknowledged: &mut Acknowledged,
) -> Outcome {
    let mut run = pin!(actors.orchestrator.send(outside.cell.plan()));
    let outcome = loop {
        tokio::select! {
            biased;
            outcome = &mut run => break outcome.unwrap(),
            asked = told.recv() => steer(actors, outside, asked.unwrap(), acknowledged).await,
        }
    };
    while let Ok(asked) = told.try_recv() {
        steer(actors, outside, asked, acknowledged).await;
    }
    outcome
}

/// Sees a run to its end that was taken up again, and asks for nothing that was not asked for before.
async fn second_life(
    actors: &Actors,
    outside: &Outside,
    told: &mut UnboundedReceiver<Asked>,
    acknowledged: &mut Acknowledged,
    left: Option<&RunRecord>,
    case: Case,
) {
    for _ in 0..200 {
        tokio::select! {
            biased;
            asked = told.recv() => {
                steer(actors, outside, asked.unwrap(), acknowledged).await;
                continue;
            }
            () = tokio::time::sleep(LOOK) => {}
        }
        let state = actors.orchestrator.send(PlanStatus(run_id(RUN))).await.unwrap().unwrap().state;
        if state == RunState::Paused {
            assert!(
                left.is_some_and(|left| left.pausing),
                "{case:?}: nobody had paused it, or it was resumed"
            );
            let answer = actors.orchestrator.send(ResumePlan(run_id(RUN))).await.unwrap();
            assert_eq!(answer.unwrap(), ResumeOutcome::Resumed, "{case:?}");
            acknowledged.resumed = true;
        } else if state.is_final() {
            return;
        }
    }
    panic!("{case:?}: the run does not end");
}

/// Waits until nothing of a life is left. Memory may have a last flush to make, at its time.
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

async fn live<W: World>(case: Case) -> Told {
    let (outside, mut told) = Outside::new(case.cell);
    let (world, clock) = (W::fresh(), outside.clock());
    let mut acknowledged = Acknowledged::default();
    let store = FaultyStore::new(world.open().await, case.fault, case.at);
    let commits = store.commits();
    let mut actors = outside.live(store, &clock);
    let life = first_life(&actors, &outside, &mut told, &mut acknowledged);
    let outcome = tokio::time::timeout(FOR_EVER, life).await;
    let mut outcome = outcome.unwrap_or_else(|_| panic!("{case:?}: the run hangs"));
    let commits = commits.load(SeqCst);
    let (mut left, mut left_record, mut restart_at) = (usize::MAX, None, clock.now());
    if case.is_cut_off() {
        assert!(matches!(outcome, Err(PlanError::Memory { .. })), "{case:?}: {outcome:?}");
        bury(actors).await;
        assert!(!outside.busy.load(SeqCst), "{case:?}: code of the first life still runs");
        tokio::time::sleep(DOWN).await;
        outside.life.store(2, SeqCst);
        outside.steers.store(case.again, SeqCst);
        if !case.again {
            outside.gate.add_permits(1);
        }
        let store = world.open().await;
        (left, left_record) = (store.events(0, MAX_PAGE).unwrap().len(), store.run(&run_id(RUN)).unwrap());
        restart_at = clock.now();
        actors = outside.live(FaultyStore::new(store, case.fault, 0), &clock);
        let attached =
            (case.attach || left_record.is_none()).then(|| actors.orchestrator.send(case.cell.plan()));
        second_life(&actors, &outside, &mut told, &mut acknowledged, left_record.as_ref(), case).await;
        outcome = match attached {
            Some(attached) => attached.await.unwrap(),
            None => actors.orchestrator.send(case.cell.plan()).await.unwrap(),
        };
    }
    let events = actors.memory.send(ReadEvents::new(0, MAX_PAGE)).await.unwrap().unwrap();
    let record = actors.memory.send(GetRun(run_id(RUN))).await.unwrap().unwrap().unwrap();
    let mut versions = BTreeMap::new();
    for id in STEPS {
        let of_step = actors.memory.send(ListVersions::new(format!("task:{id}"))).await.unwrap().unwrap();
        versions.insert(id, of_step);
    }
    bury(actors).await;
    assert_eq!(outside.overlaps.load(SeqCst), 0, "{case:?}: attempts ran side by side");
    let (left, calls) = (left.min(events.len()), outside.calls.lock().unwrap().clone());
    Told {
        case,
        acknowledged,
        outcome,
        record,
        events,
        left,
        left_record,
        restart_at,
        calls,
        versions,
        commits,
    }
}

// The sweep.

/// What was done.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    cells: usize,
    crashes: usize,
    restarts: usize,
    repeated: usize,
}

async fn sweep<W: World>(cell: Cell, count: &mut Count) {
    let never = Case { cell, fault: Fault::Die, at: 0, attach: false, again: false };
    let whole = live::<W>(never).await;
    whole.check(&whole);
    assert_eq!(whole.commits, cell.commits(), "{}", whole.shown());
    count.cells += 1;
    for at in 1..=whole.commits {
        for (number, fault) in FAULTS.into_iter().enumerate() {
            let repeats: &[bool] = if cell.feature == Feature::Cancel { &[true, false] } else { &[false] };
            for again in repeats {
                let case = Case { cell, fault, at, attach: (at + number / 2) % 2 == 0, again: *again };
                let told = live::<W>(case).await;
                told.check(&whole);
                assert!(told.commits >= at);
                count.crashes += 1;
                count.restarts += usize::from(told.left < told.events.len());
                count.repeated += usize::from(told.in_flight().is_some() && told.unheard().is_none());
            }
        }
    }
}

/// Sweeps over all kinds of callables, where time stands still unless it is waited for.
fn sweep_all<W: World>(feature: Feature) {
    let paused = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        // From the very start: timers count whole milliseconds from there.
        runtime.enable_all().start_paused(true).build().unwrap()
    };
    actix::System::with_tokio_rt(paused).block_on(async {
        let mut count = Count::default();
        for kind in KINDS {
            sweep::<W>(Cell { feature, kind }, &mut count).await;
        }
        let commits: usize = KINDS.map(|kind| Cell { feature, kind }.commits()).iter().sum();
        let repeats = if feature == Feature::Cancel { 2 } else { 1 };
        assert_eq!((count.cells, count.crashes), (3, commits * FAULTS.len() * repeats), "{count:?}");
        // Only whose last commit was stored had nothing left to do.
        assert_eq!(count.restarts, count.crashes - 2 * KINDS.len() * repeats, "{count:?}");
        let repeated: usize = KINDS.map(|kind| Cell { feature, kind }.repeats()).iter().sum();
        assert!(count.repeated >= repeated, "{count:?}");
    });
}

macro_rules! matrix {
    ($($name:ident $feature:ident;)*) => {
        mod volatile {
            $(
                #[test]
                fn $name() {
                    crate::matrix::sweep_all::<crate::recovery::Volatile>(crate::matrix::Feature::$feature);
                }
            )*
        }

        #[cfg(feature = "sqlite")]
        mod sqlite {
            $(
                #[test]
                fn $name() {
                    crate::matrix::sweep_all::<crate::matrix::Sqlite>(crate::matrix::Feature::$feature);
                }
            )*
        }
    };
}

matrix! {
    retry Retry;
    timeout Timeout;
    total_timeout Total;
    breaker Breaker;
    cancel Cancel;
    pause Pause;
    fallback Fallback;
}

#[cfg(feature = "expressions")]
mod expressions {
    matrix! {
        condition Condition;
        met Met;
        template Template;
    }
}
