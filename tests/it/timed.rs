//! Virtual time, and lives in it: for everything that waits.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actix::prelude::*;
use lunacore::testing::{SharedStore, virtual_clock};
use lunacore::*;
use serde_json::Value;

use crate::support::*;

/// When the virtual clock starts.
const START: Duration = Duration::from_secs(1_767_225_600);

pub const MS: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);

/// So many milliseconds after the start.
pub fn at(ms: u64) -> SystemTime {
    UNIX_EPOCH + START + Duration::from_millis(ms)
}

/// Milliseconds from the start, or microseconds where those are not whole.
fn time(at: SystemTime) -> String {
    let micros = at.duration_since(UNIX_EPOCH + START).unwrap().as_micros();
    if micros.is_multiple_of(1_000) { (micros / 1_000).to_string() } else { format!("{micros}us") }
}

/// Stops tokio's time where one of its milliseconds begins: its timers go off at those only, so that from here on every one
/// that is some milliseconds ahead goes off at its very time.
pub async fn virtual_time() -> Clock {
    let before = tokio::time::Instant::now();
    std::thread::sleep(Duration::from_micros(10));
    if before.elapsed() > Duration::ZERO {
        tokio::time::pause();
    }
    let takes = async |ahead: Duration| {
        let before = tokio::time::Instant::now();
        tokio::time::sleep(ahead).await;
        before.elapsed()
    };
    if takes(MS).await > MS {
        // What goes off with the next millisecond is not behind it.
        let (mut before, mut behind) = (Duration::ZERO, MS);
        while behind - before > Duration::from_nanos(1) {
            let middle = (before + behind) / 2;
            if takes(middle).await > MS { behind = middle } else { before = middle }
        }
        tokio::time::advance(before).await;
    }
    assert_eq!(takes(MS).await, MS, "time is not where a millisecond begins");
    virtual_clock()
}

/// The four actors on a store, by this clock; the random number is always this one.
pub fn live(store: impl Store, clock: &Clock, registry: RegistryAllocator, random: f64) -> Actors {
    let memory = ProjectMemory::with_store(store).clock(clock.clone()).start();
    let bus = EventBus::new().start();
    let orchestrator = ExecutionOrchestrator::new(bus.clone(), memory.clone(), registry.start());
    let orchestrator = orchestrator.clock(clock.clone()).random(move || random).start();
    Actors { orchestrator, bus, memory }
}

/// The four actors, in virtual time.
pub async fn life() -> Actors {
    life_with(0.5).await
}

pub async fn life_with(random: f64) -> Actors {
    live(VolatileStore::default(), &virtual_time().await, RegistryAllocator::new(), random)
}

/// What survives a process.
pub enum Disk {
    Volatile(SharedStore),
    #[cfg(feature = "sqlite")]
    Sqlite(tempfile::TempDir),
}

impl Disk {
    /// One of each sort, with nothing on it.
    pub fn each() -> Vec<Self> {
        vec![
            Self::Volatile(SharedStore::new(VolatileStore::default())),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(tempfile::tempdir().unwrap()),
        ]
    }

    /// The store, once the life before has let go of it.
    pub async fn open(&self) -> SharedStore {
        match self {
            Self::Volatile(store) => store.clone(),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(dir) => {
                let began = Instant::now();
                loop {
                    match SqliteStore::open(dir.path().join("runs.db")) {
                        Ok(store) => return SharedStore::new(store),
                        Err(OpenError::InUse { .. }) if began.elapsed() < 20 * SECOND => breathe().await,
                        Err(error) => panic!("{error:?}"),
                    }
                }
            }
        }
    }
}

/// Lets everything else go on, without letting virtual time.
pub async fn breathe() {
    std::thread::sleep(Duration::from_micros(200));
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// Waits, without letting virtual time go on, until this is so.
pub async fn patiently<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < 20 * SECOND, "waited in vain for {what}");
        breathe().await;
    }
}

/// Waits until nothing of a life is left that has the store. Only its store's death keeps its runs from being cancelled.
pub async fn bury(actors: Actors) {
    let _ = actors.orchestrator.send(Shutdown::now()).await;
    let memory = actors.memory.downgrade();
    drop(actors);
    patiently("the memory to go", async || memory.upgrade().is_none()).await;
}

/// The plan of the run r.
pub fn plan(steps: impl Into<Plan>) -> ExecutePlan {
    ExecutePlan::new(steps).run_id("r")
}

pub async fn execute(actors: &Actors, plan: ExecutePlan) -> Result<Vec<Value>, PlanError> {
    actors.orchestrator.send(plan).await.unwrap()
}

pub async fn submit(actors: &Actors, plan: ExecutePlan) -> RunHandle {
    actors.orchestrator.send(SubmitPlan(plan)).await.unwrap().unwrap()
}

pub async fn status(actors: &Actors, id: &str) -> RunInfo {
    actors.orchestrator.send(PlanStatus(run_id(id))).await.unwrap().unwrap()
}

pub async fn cancel(actors: &Actors, id: &str) -> CancelOutcome {
    actors.orchestrator.send(CancelPlan(run_id(id))).await.unwrap().unwrap()
}

pub async fn abandoned(actors: &Actors) -> Vec<AbandonedCall> {
    actors.orchestrator.send(ListAbandoned).await.unwrap()
}

/// Waits until a run is in this state.
pub async fn reaches(actors: &Actors, id: &str, state: RunState) -> RunInfo {
    patiently(&format!("{id} to be {state}"), async || {
        let found = actors.orchestrator.send(PlanStatus(run_id(id))).await.unwrap();
        found.is_ok_and(|info| info.state == state)
    })
    .await;
    status(actors, id).await
}

/// All that is stored of a run as events, with their times.
pub async fn history(actors: &Actors, id: &str) -> Vec<String> {
    let events = actors.memory.send(ReadHistory::new(run_id(id))).await.unwrap().unwrap();
    events.iter().map(said).collect()
}

/// The same of the run r, behind its start.
pub async fn told(actors: &Actors) -> Vec<String> {
    let mut told = history(actors, "r").await;
    assert_eq!(told[..2], ["0 plan.accepted", "0 plan.started"]);
    told.split_off(2)
}

fn said(event: &Event) -> String {
    let what = match event.kind() {
        EventKind::TaskStarted { attempt, fallback, .. } => {
            format!("{event} {attempt}{}", if *fallback { " fallback" } else { "" })
        }
        EventKind::TaskFailed { attempt, will_retry, next_attempt_at, failure, .. } => {
            assert_eq!(*will_retry, next_attempt_at.is_some());
            let again = next_attempt_at.map(|at| format!(", again at {}", time(at))).unwrap_or_default();
            format!("{event} {attempt} {}{again}", failure.kind.as_str())
        }
        EventKind::TaskCancelled { attempt, .. } => format!("{event} {attempt}"),
        EventKind::TaskCompensating { attempt, .. } => format!("{event} {attempt}"),
        EventKind::TaskCompensationFailed { attempt, will_retry, next_attempt_at, failure, .. } => {
            assert_eq!(*will_retry, next_attempt_at.is_some());
            let again = next_attempt_at.map(|at| format!(", again at {}", time(at))).unwrap_or_default();
            format!("{event} {attempt} {}{again}", failure.kind.as_str())
        }
        EventKind::PlanCompensating { steps } => format!("{event} {steps}"),
        EventKind::PlanFailed { failure, .. } => format!("{event} {}", failure.kind.as_str()),
        EventKind::PlanResumed { completed } => format!("{event} {completed}"),
        EventKind::EscalationNeeded { reason, .. } | EventKind::PlanInterrupted { reason } => {
            format!("{event}: {reason}")
        }
        _ => event.to_string(),
    };
    format!("{} {what}", time(event.timestamp()))
}

/// The kind of a failure, its own error, and the attempt.
pub fn failed(outcome: Result<Vec<Value>, PlanError>) -> (FailureKind, StepError, u32) {
    match outcome {
        Err(PlanError::StepFailed { kind, source, attempt, .. }) => (kind, source, attempt),
        other => panic!("{other:?}"),
    }
}

/// A step that fails so many times, and then returns "up".
pub fn flaky(id: &'static str, failures: u32) -> Step {
    Step::new(id, flakily(failures))
}

pub fn flakily(failures: u32) -> Callable {
    Callable::new(move |ctx: StepContext| async move {
        if ctx.attempt() > failures { Ok("up") } else { Err(StepError::from("down")) }
    })
}

/// Notes the end of whatever holds it.
pub struct Noted(pub Trace, pub &'static str);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.note(self.1);
    }
}

/// A step whose future never ends by itself, and notes that it was dropped.
pub fn endless(trace: &Trace) -> Step {
    let trace = trace.clone();
    Step::new("a", move || {
        let noted = Noted(trace.clone(), "dropped");
        async move {
            let _noted = noted;
            std::future::pending::<()>().await;
        }
    })
}

/// What a blocking step waits for.
#[derive(Clone, Default)]
pub struct Gate(Arc<(std::sync::Mutex<bool>, std::sync::Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn pass(&self) {
        let closed = self.0.0.lock().unwrap();
        let (open, _) = self.0.1.wait_timeout_while(closed, 30 * SECOND, |open| !*open).unwrap();
        assert!(*open, "nobody opened the gate");
    }
}

/// Blocking code that looks at nothing until the gate is opened, and notes when it is called, is told to stop, and ends.
pub fn stubborn(trace: &Trace, gate: &Gate) -> Callable {
    let (trace, gate) = (trace.clone(), gate.clone());
    Callable::new(move |ctx: StepContext| {
        trace.note(format!("called {}", ctx.attempt()));
        gate.pass();
        trace.note(format!("ended {} {}", ctx.attempt(), ctx.is_cancelled()));
        "too late"
    })
}

/// Waits until something was noted.
pub async fn noted(trace: &Trace, what: &str) {
    patiently(what, async || trace.all().iter().any(|note| note == what)).await;
}
