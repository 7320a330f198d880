//! Actors whose time goes as tokio's, which a test pauses: steps that take so many seconds, and what they did when.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use actix::prelude::*;
use lunacore::limits::MAX_PAGE;
use lunacore::testing::virtual_clock;
use lunacore::*;

use crate::recovery::World;
use crate::support::*;

/// A world, its time, and what its steps share.
pub struct Bench<W> {
    world: W,
    clock: Clock,
    began: SystemTime,
    pub service: Service,
}

/// What steps call.
#[derive(Clone, Default)]
pub struct Service {
    /// Calls fail.
    pub down: Arc<AtomicBool>,
    /// What was called when.
    pub trace: Trace,
    /// Calls in flight, and the most that there ever were.
    pub flying: Arc<AtomicUsize>,
    pub most: Arc<AtomicUsize>,
    /// What `verify` answers, or does.
    pub answer: Arc<Mutex<serde_json::Value>>,
    /// Blocking calls that have begun.
    pub blocked: Arc<AtomicUsize>,
    /// They wait for this.
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Service {
    /// Lets blocking calls return.
    pub fn release(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }

    pub fn goes(&self, down: bool) {
        self.down.store(!down, Ordering::SeqCst);
    }
}

/// A call that is in flight as long as this lives.
struct Call(Service);

impl Call {
    fn new(service: &Service) -> Self {
        let now = service.flying.fetch_add(1, Ordering::SeqCst) + 1;
        service.most.fetch_max(now, Ordering::SeqCst);
        Self(service.clone())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.flying.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<W: World> Bench<W> {
    /// Time must stand still but for what is waited for: see `frozen!`.
    pub fn new() -> Self {
        let clock = virtual_clock();
        let began = clock.now();
        Self { world: W::fresh(), clock, began, service: Service::default() }
    }

    pub async fn store(&self) -> W::Store {
        self.world.open().await
    }

    /// The actors over what is stored.
    pub async fn live(
        &self,
        configure: impl FnOnce(ExecutionOrchestrator) -> ExecutionOrchestrator,
    ) -> Actors {
        self.live_over(self.store().await, configure)
    }

    pub fn live_over(
        &self,
        store: impl Store,
        configure: impl FnOnce(ExecutionOrchestrator) -> ExecutionOrchestrator,
    ) -> Actors {
        self.live_in(ProjectMemory::with_store(store), configure)
    }

    pub fn live_in(
        &self,
        memory: ProjectMemory,
        configure: impl FnOnce(ExecutionOrchestrator) -> ExecutionOrchestrator,
    ) -> Actors {
        self.live_with(memory, self.registry().start(), configure)
    }

    /// The same, with an allocator of the test's own.
    pub fn live_with(
        &self,
        memory: ProjectMemory,
        allocator: impl Into<Recipient<Resolve>>,
        configure: impl FnOnce(ExecutionOrchestrator) -> ExecutionOrchestrator,
    ) -> Actors {
        let (bus, memory) = (EventBus::new().start(), memory.clock(self.clock.clone()).start());
        let orchestrator = ExecutionOrchestrator::new(bus.clone(), memory.clone(), allocator);
        let orchestrator = configure(orchestrator.clock(self.clock.clone()).random(|| 1.0)).start();
        Actors { orchestrator, bus, memory }
    }

    /// `work` takes so many seconds; `call` too, and fails while the service is down; `refuse` fails for good; `verify` answers
    /// what it is told to.
    pub fn registry(&self) -> RegistryAllocator {
        let (service, began, clock) = (self.service.clone(), self.began, self.clock.clone());
        let call = move |may_fail: bool| {
            let (service, clock) = (service.clone(), clock.clone());
            Callable::new(move |ctx: StepContext| {
                let (service, clock) = (service.clone(), clock.clone());
                async move {
                    let second = clock.now().duration_since(began).unwrap().as_secs();
                    let what = format!("{second}s {}.{}", ctx.run_id(), ctx.step_id());
                    service.trace.note(match ctx.attempt() {
                        1 => what,
                        attempt => format!("{what}#{attempt}"),
                    });
                    let _call = Call::new(&service);
                    match ctx.input::<u64>()? {
                        0 => {}
                        seconds => tokio::time::sleep(Duration::from_secs(seconds)).await,
                    }
                    if may_fail && service.down.load(Ordering::SeqCst) {
                        return Err(StepError::from("the service is down"));
                    }
                    Ok(format!("{} done", ctx.step_id()))
                }
            })
        };
        let service = self.service.clone();
        let verify = move |ctx: StepContext| {
            let service = service.clone();
            async move {
                service.trace.note(format!("verify {}.{}#{}", ctx.run_id(), ctx.step_id(), ctx.attempt()));
                let answer = service.answer.lock().unwrap().clone();
                assert!(answer["panic"].is_null(), "it was told to panic");
                if let Some(seconds) = answer["sleep"].as_u64() {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                }
                answer
            }
        };
        let (gate, blocked) = (Arc::clone(&self.service.gate), Arc::clone(&self.service.blocked));
        let block = move || {
            blocked.fetch_add(1, Ordering::SeqCst);
            let (open, opened) = &*gate;
            // A test that fails does not wait for what nobody releases any more.
            let patience = Duration::from_secs(30);
            drop(opened.wait_timeout_while(open.lock().unwrap(), patience, |open| !*open).unwrap());
        };
        RegistryAllocator::new()
            .register("work", call(false))
            .register("call", call(true))
            .register("verify", verify)
            .register("refuse", || async { Err::<(), _>(StepError::fatal("no such customer")) })
            .register("block", block)
    }

    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    pub fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// Seconds since the world began.
    pub fn elapsed(&self) -> u64 {
        self.clock.now().duration_since(self.began).unwrap().as_secs()
    }

    pub fn at(&self, second: u64) -> SystemTime {
        self.began + Duration::from_secs(second)
    }

    /// Ends a life: as a shutdown does, and until nothing is left that has the store.
    pub async fn bury(&self, actors: Actors) {
        let _ = actors.orchestrator.send(Shutdown::now()).await;
        self.forget(actors).await;
    }

    /// The same where the orchestrator is gone, or goes, by itself.
    pub async fn forget(&self, actors: Actors) {
        let memory = actors.memory.downgrade();
        drop(actors);
        let patience = Patience::new();
        while memory.upgrade().is_some() {
            patience.wait("the memory to go").await;
        }
        quiet().await;
    }
}

/// A step that takes so many seconds.
pub fn work(id: &str, seconds: u64) -> Step {
    Step::named(id).uses("work").input(seconds)
}

/// The same, that fails while the service is down.
pub fn call(id: &str, seconds: u64) -> Step {
    Step::named(id).uses("call").input(seconds)
}

/// A step that blocks a thread until it is released.
pub fn block(id: &str) -> Step {
    Step::named(id).uses("block")
}

pub async fn submit(actors: &Actors, id: &str, steps: impl Into<Plan>) -> RunHandle {
    submit_plan(actors, ExecutePlan::new(steps).run_id(id)).await
}

pub async fn submit_plan(actors: &Actors, plan: ExecutePlan) -> RunHandle {
    actors.orchestrator.send(SubmitPlan(plan)).await.unwrap().unwrap()
}

pub async fn pause(actors: &Actors, id: &str) -> Result<PauseOutcome, ControlError> {
    actors.orchestrator.send(PausePlan(run_id(id))).await.unwrap()
}

pub async fn resume(actors: &Actors, id: &str) -> Result<ResumeOutcome, ControlError> {
    actors.orchestrator.send(ResumePlan(run_id(id))).await.unwrap()
}

pub async fn retry_now(actors: &Actors, id: &str) -> Result<RetryOutcome, ControlError> {
    actors.orchestrator.send(RetryNow(run_id(id))).await.unwrap()
}

pub async fn cancel(actors: &Actors, id: &str) -> Result<CancelOutcome, ControlError> {
    actors.orchestrator.send(CancelPlan(run_id(id))).await.unwrap()
}

pub async fn signal(
    actors: &Actors,
    id: &str,
    name: &str,
    payload: impl Into<serde_json::Value>,
) -> Result<SignalOutcome, ControlError> {
    let signal = Signal::new(run_id(id), name).payload(payload);
    actors.orchestrator.send(signal).await.unwrap()
}

pub async fn status(actors: &Actors, id: &str) -> Result<RunInfo, ControlError> {
    actors.orchestrator.send(PlanStatus(run_id(id))).await.unwrap()
}

pub async fn state(actors: &Actors, id: &str) -> RunState {
    status(actors, id).await.unwrap().state
}

/// The states of several runs.
pub async fn states<const N: usize>(actors: &Actors, ids: [&str; N]) -> [RunState; N] {
    let mut states = [RunState::Queued; N];
    for (state_of, id) in states.iter_mut().zip(ids) {
        *state_of = state(actors, id).await;
    }
    states
}

pub async fn record(actors: &Actors, id: &str) -> RunRecord {
    actors.memory.send(GetRun(run_id(id))).await.unwrap().unwrap().unwrap()
}

/// Everything that is stored, numbered without a gap.
pub async fn history(actors: &Actors) -> Vec<Event> {
    let events = actors.memory.send(ReadEvents::new(0, MAX_PAGE)).await.unwrap().unwrap();
    assert!(events.iter().map(Event::seq).eq((1..=events.len() as u64).map(Some)), "{events:#?}");
    events
}

/// The events of a run, with the number of the attempt where it is not the first.
pub async fn history_of(actors: &Actors, id: &str) -> Vec<String> {
    let events = history(actors).await;
    events.iter().filter(|event| event.run_id() == Some(&run_id(id))).map(shown).collect()
}

fn shown(event: &Event) -> String {
    match event.kind() {
        EventKind::TaskStarted { attempt, .. }
        | EventKind::TaskFailed { attempt, .. }
        | EventKind::TaskCancelled { attempt, .. }
            if *attempt != 1 =>
        {
            format!("{event}#{attempt}")
        }
        _ => event.to_string(),
    }
}

/// Lets this much time pass. It does not while anything is under way, a write to a disk included.
pub async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// Lets everything that is under way come to a rest.
pub async fn quiet() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// For loops that wait for something beside time: a test fails rather than wait for ever.
pub struct Patience(Instant);

impl Patience {
    pub fn new() -> Self {
        Self(Instant::now())
    }

    pub async fn wait(&self, what: &str) {
        assert!(self.0.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        tokio::task::yield_now().await;
    }
}

/// Waits until a run is in this state, without letting time pass.
pub async fn reaches(actors: &Actors, id: &str, expected: RunState) {
    let patience = Patience::new();
    while state(actors, id).await != expected {
        patience.wait(&format!("{id} to be {expected}")).await;
    }
}

/// Has time stand still for a test, which fails when there is nothing left that it could wait for.
pub async fn in_the_end(test: impl Future<Output = ()>) {
    tokio::time::pause();
    let patience = Duration::from_secs(10_000_000);
    tokio::time::timeout(patience, test).await.expect("something to wait for");
}

/// Makes of each of these a test over each store, with time that stands still.
macro_rules! frozen {
    ($($test:ident)*) => {
        mod volatile {
            $(
                #[actix::test]
                async fn $test() {
                    crate::staged::in_the_end(super::$test::<crate::recovery::Volatile>()).await;
                }
            )*
        }

        #[cfg(feature = "sqlite")]
        mod sqlite {
            $(
                #[actix::test]
                async fn $test() {
                    crate::staged::in_the_end(super::$test::<crate::recovery::Sqlite>()).await;
                }
            )*
        }
    };
}
pub(crate) use frozen;
