//! Subscribers that come late or are slow: every stored event once, in order, from the number they asked for.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, SystemTime};

use actix::prelude::*;
use futures_util::FutureExt;
use lunacore::limits::{MAX_SUBSCRIPTIONS, PUBLISH_BACKLOG, SUBSCRIBER_BATCH, VOLATILE_EVENTS};
use lunacore::*;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::*;

/// Only a test that has failed waits as long as this.
const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(happens: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, happens).await.expect("it does not happen")
}

/// Lets everything on this thread go on until it waits for something else.
async fn let_others_run() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

// A store that the test can look into, hold and break.

#[derive(Default)]
struct Knobs {
    reads_fail: AtomicBool,
    /// The first page is read again and again.
    stuck: AtomicBool,
    /// Pages of events that were asked for.
    pages: AtomicUsize,
    /// Where set, reading all further pages waits.
    allowed: Mutex<Option<usize>>,
    released: Condvar,
}

impl Knobs {
    /// Lets only so many more pages be read.
    fn hold_after(&self, pages: usize) {
        *self.allowed.lock().unwrap() = Some(self.pages() + pages);
    }

    fn release(&self) {
        *self.allowed.lock().unwrap() = None;
        self.released.notify_all();
    }

    fn pages(&self) -> usize {
        self.pages.load(Ordering::SeqCst)
    }

    fn fail(&self, fail: bool) {
        self.reads_fail.store(fail, Ordering::SeqCst);
    }

    fn read_page(&self) -> Result<(), StoreError> {
        let page = self.pages.fetch_add(1, Ordering::SeqCst);
        let allowed = self.allowed.lock().unwrap();
        let held = |allowed: &mut Option<usize>| allowed.is_some_and(|allowed| page >= allowed);
        drop(self.released.wait_timeout_while(allowed, PATIENCE, held).unwrap());
        if self.reads_fail.load(Ordering::SeqCst) { Err(StoreError::new("disk on fire")) } else { Ok(()) }
    }
}

/// The volatile store, as it is or, with `pooled`, like one that waits for a disk: read and written on the blocking pool.
#[derive(Clone, Default)]
struct Shared {
    inner: Arc<Mutex<VolatileStore>>,
    knobs: Arc<Knobs>,
    pooled: bool,
}

impl Shared {
    fn with<T>(&self, call: impl FnOnce(&mut VolatileStore) -> T) -> T {
        call(&mut self.inner.lock().unwrap())
    }
}

impl Store for Shared {
    fn commit(&mut self, commit: Box<Commit>, at: SystemTime) -> Result<Vec<Event>, MemoryError> {
        self.with(|store| store.commit(commit, at))
    }

    fn record_signal(
        &mut self,
        signal: lunacore::RecordSignal,
        at: SystemTime,
    ) -> Result<(lunacore::KeptSignal, Vec<Event>), MemoryError> {
        self.with(|store| store.record_signal(signal, at))
    }

    fn record_breaker(
        &mut self,
        change: lunacore::RecordBreaker,
        at: SystemTime,
    ) -> Result<Vec<Event>, MemoryError> {
        self.with(|store| store.record_breaker(change, at))
    }

    fn put(&mut self, put: Put, at: SystemTime) -> Result<Artifact, MemoryError> {
        self.with(|store| store.put(put, at))
    }

    fn delete(&mut self, project: &Project, key: &str, version: Option<u64>) -> Result<bool, MemoryError> {
        self.with(|store| store.delete(project, key, version))
    }

    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        Ok(self.pooled.then(|| Box::new(self.clone()) as Box<dyn Reader>))
    }
}

impl Reader for Shared {
    fn last_seq(&self) -> Result<u64, StoreError> {
        self.with(|store| store.last_seq())
    }

    fn artifact(
        &self,
        project: &Project,
        key: &str,
        version: Option<u64>,
    ) -> Result<Option<Artifact>, StoreError> {
        self.with(|store| store.artifact(project, key, version))
    }

    fn skipped(&self, run_id: &RunId) -> Result<Vec<usize>, StoreError> {
        self.with(|store| store.skipped(run_id))
    }

    fn signals(&self, run_id: &RunId) -> Result<Vec<lunacore::KeptSignal>, StoreError> {
        self.with(|store| store.signals(run_id))
    }

    fn breakers(&self) -> Result<Vec<lunacore::BreakerRecord>, StoreError> {
        self.with(|store| store.breakers())
    }

    fn versions(&self, project: &Project, key: &str) -> Result<Vec<u64>, StoreError> {
        self.with(|store| store.versions(project, key))
    }

    fn keys(
        &self,
        project: &Project,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        self.with(|store| store.keys(project, prefix, after, limit))
    }

    fn run(&self, run_id: &RunId) -> Result<Option<RunRecord>, StoreError> {
        self.with(|store| store.run(run_id))
    }

    fn plan(&self, run_id: &RunId) -> Result<Option<PlanRecord>, StoreError> {
        self.with(|store| store.plan(run_id))
    }

    fn runs(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        self.with(|store| store.runs(after, limit))
    }

    fn unfinished(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        self.with(|store| store.unfinished(after, limit))
    }

    fn outputs(&self, run_id: &RunId) -> Result<Option<Vec<Output>>, StoreError> {
        self.with(|store| store.outputs(run_id))
    }

    fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError> {
        self.knobs.read_page()?;
        let after = if self.knobs.stuck.load(Ordering::SeqCst) { 0 } else { after };
        self.with(|store| store.events(after, limit))
    }

    fn run_events(&self, run_id: &RunId, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError> {
        self.with(|store| store.run_events(run_id, after, limit))
    }
}

/// A bus and a memory that are attached to each other, and nothing else.
struct Pair {
    bus: Addr<EventBus>,
    memory: Addr<ProjectMemory>,
    store: Shared,
    writer: Writer,
}

async fn pair_of(store: Shared) -> Pair {
    let (bus, memory) = (EventBus::new().start(), ProjectMemory::with_store(store.clone()).start());
    attach(&memory, &bus).await;
    let writer = Writer::new(memory.clone());
    Pair { bus, memory, store, writer }
}

async fn pair() -> Pair {
    pair_of(Shared::default()).await
}

async fn attach(memory: &Addr<ProjectMemory>, bus: &Addr<EventBus>) {
    memory.send(Attach(bus.clone().recipient())).await.unwrap();
}

/// Stores events without running a plan.
#[derive(Clone)]
struct Writer {
    memory: Addr<ProjectMemory>,
    accepted: Arc<AtomicBool>,
    claim: Claim,
}

impl Writer {
    fn new(memory: Addr<ProjectMemory>) -> Self {
        Self { memory, accepted: Arc::default(), claim: Claim::new() }
    }

    /// One commit with this many events.
    fn commit(&self, events: usize) -> Box<Commit> {
        let update = RunUpdate::new(RunState::Running, 0, 0);
        let mut commit = Commit::new(run_id("written"), Project::default(), update);
        if !self.accepted.swap(true, Ordering::SeqCst) {
            commit.accept = Some(Box::new(NewRun::new(PlanRecord::of([]).unwrap(), self.claim.clone())));
        }
        commit.events = vec![EventKind::PlanStarted {}; events];
        Box::new(commit)
    }

    async fn write(&self, events: usize) {
        self.memory.send(self.commit(events)).await.unwrap().unwrap();
    }

    /// One commit for each event.
    async fn write_singly(&self, events: usize) {
        for _ in 0..events {
            self.write(1).await;
        }
    }
}

impl Pair {
    async fn stream(&self, from: u64, capacity: usize) -> EventStream {
        stream(&self.bus, "*", from, capacity).await
    }

    async fn flush(&self) {
        flush(&self.bus).await;
    }
}

async fn flush(bus: &Addr<EventBus>) {
    bus.send(Flush::within(PATIENCE)).await.unwrap().unwrap();
}

async fn stream(bus: &Addr<EventBus>, pattern: &str, from: u64, capacity: usize) -> EventStream {
    let subscribe = SubscribeStream::new(pattern).from(from).capacity(capacity);
    soon(bus.send(subscribe)).await.unwrap().unwrap()
}

async fn refused(bus: &Addr<EventBus>, from: u64) -> SubscribeError {
    let stream = soon(bus.send(SubscribeStream::new("*").from(from))).await.unwrap().unwrap_err();
    let closure = soon(bus.send(Subscribe::new("*", |_: Event| ()).from(from))).await.unwrap().unwrap_err();
    assert_eq!(chain(&stream), chain(&closure));
    stream
}

/// An event in short: its number, `lagged 3`, or its type.
fn short(event: &Event) -> String {
    match (event.kind(), event.seq()) {
        (EventKind::SubscriptionLagged { missed }, _) => format!("lagged {missed}"),
        (_, Some(seq)) => seq.to_string(),
        _ => event.to_string(),
    }
}

/// The next `count` events.
async fn take(events: &mut EventStream, count: usize) -> Vec<String> {
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(short(&soon(events.next()).await.expect("the bus is alive")));
    }
    taken
}

/// Checks that exactly these numbers come next, and then nothing.
async fn expect(events: &mut EventStream, numbers: impl IntoIterator<Item = u64>) {
    let expected: Vec<String> = numbers.into_iter().map(|seq| seq.to_string()).collect();
    assert_eq!(take(events, expected.len()).await, expected);
    expect_nothing(events).await;
}

async fn expect_nothing(events: &mut EventStream) {
    let_others_run().await;
    assert_eq!(events.next().now_or_never().flatten().map(|event| short(&event)), None);
}

/// Everything that is stored, by asking memory itself.
async fn stored(memory: &Addr<ProjectMemory>) -> Vec<Event> {
    let mut all: Vec<Event> = Vec::new();
    loop {
        let after = all.last().and_then(Event::seq).unwrap_or(0);
        let page = memory.send(ReadEvents::new(after, 1_000)).await.unwrap().unwrap();
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

// What subscribers collect.

#[derive(Clone, Default)]
struct Got(Arc<Mutex<Vec<Event>>>);

impl Got {
    fn note(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(short).collect()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

struct Listener(Got);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Event> for Listener {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        self.0.note(event);
    }
}

/// A subscription of each kind of served subscriber, slower or faster, that collects what it gets.
fn collector(kind: usize, pattern: &str, yields: usize, got: &Got) -> Subscribe {
    let got = got.clone();
    match kind {
        0 => Subscribe::new(pattern, move |event: Event| {
            for _ in 0..yields {
                std::thread::yield_now();
            }
            got.note(event);
        }),
        1 => Subscribe::new(pattern, move |event: Event| {
            let got = got.clone();
            async move {
                for _ in 0..yields {
                    tokio::task::yield_now().await;
                }
                got.note(event);
            }
        }),
        _ => Subscribe::new(pattern, Listener(got).start()),
    }
}

// The promise.

/// Reads a stream slowly, as long as it lives.
fn read_slowly(mut events: EventStream, yields: usize, got: Got) -> actix_rt::task::JoinHandle<()> {
    actix_rt::spawn(async move {
        while let Some(event) = events.next().await {
            assert_eq!(events.missed(), 0);
            got.note(event);
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
        }
    })
}

struct Expected {
    what: String,
    pattern: Pattern,
    from: u64,
    got: Got,
}

impl Expected {
    fn numbers(&self, stored: &[Event]) -> Vec<String> {
        let wanted =
            |event: &&Event| event.seq() >= Some(self.from) && self.pattern.matches(event.event_type());
        stored.iter().filter(wanted).map(short).collect()
    }
}

/// Plans run, several at a time, and subscribers of every kind come at some time from some number, with hardly any room.
async fn everything_comes_once(seed: u64, pooled: bool) {
    let mut random = fastrand::Rng::with_seed(seed);
    let (bus, store) = (EventBus::new().start(), Shared { pooled, ..Shared::default() });
    let memory = ProjectMemory::with_store(store.clone()).start();
    let orchestrator = ExecutionOrchestrator::new(bus.clone(), memory.clone(), SimpleAllocator.start())
        .max_concurrent_plans(3)
        .start();
    let (mut plans, mut readers, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    attach(&memory, &bus).await;
    for round in 0..random.usize(4..12) {
        for _ in 0..random.usize(0..4) {
            let steps = random.usize(0..40);
            let steps: Vec<Step> = (0..steps).map(|_| Step::unnamed(|| async { 1 })).collect();
            plans.push(orchestrator.send(SubmitPlan(ExecutePlan::new(steps))).await.unwrap().unwrap());
        }
        for _ in 0..random.usize(0..60) {
            tokio::task::yield_now().await;
        }
        let last = store.with(|store| store.last_seq()).unwrap();
        let from = random.u64(0..last + 20);
        let (capacity, yields, kind) = (random.usize(1..9), random.usize(0..12), random.usize(0..4));
        let pattern = *random.choice(&["*", "task.*", "*.completed", "plan.accepted"]).unwrap();
        let got = Got::default();
        if kind == 3 {
            readers.push(read_slowly(stream(&bus, pattern, from, capacity).await, yields, got.clone()));
        } else {
            let subscribe = collector(kind, pattern, yields, &got).capacity(capacity).from(from);
            soon(bus.send(subscribe)).await.unwrap().unwrap();
        }
        let what = format!("seed {seed} pooled {pooled} round {round} kind {kind} {pattern} from {from}");
        expected.push((kind, Expected { what, pattern: pattern.parse().unwrap(), from, got }));
    }
    for plan in plans {
        soon(plan).await.unwrap();
    }
    flush(&bus).await;
    let stored = stored(&memory).await;
    for (kind, expected) in expected {
        let numbers = expected.numbers(&stored);
        // A flush does not wait for streams.
        soon(async {
            while kind == 3 && expected.got.count() < numbers.len() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(expected.got.all(), numbers, "{}", expected.what);
    }
    for reader in readers {
        assert!(!reader.is_finished(), "seed {seed}: a reader failed");
        reader.abort();
    }
}

#[actix::test]
async fn every_stored_event_comes_once_and_in_order_however_late_and_slow_the_subscriber_is() {
    for seed in 0..60 {
        everything_comes_once(seed, false).await;
    }
}

#[actix::test]
async fn the_same_with_a_store_that_is_read_while_it_is_written() {
    for seed in 0..30 {
        everything_comes_once(1_000 + seed, true).await;
    }
}

#[actix::test]
async fn closures_and_actors_get_what_was_stored_and_then_what_comes() {
    for (kind, from) in [(0, 0), (0, 1), (1, 1), (2, 1), (0, 290), (1, 290), (2, 290)] {
        let pair = pair().await;
        pair.writer.write(300).await;
        let got = Got::default();
        let subscription = pair.bus.send(collector(kind, "*", 0, &got).from(from)).await.unwrap().unwrap();
        pair.writer.write(5).await;
        pair.flush().await;
        let expected: Vec<String> = (from.max(1)..=305).map(|seq| seq.to_string()).collect();
        assert_eq!(got.all(), expected, "kind {kind}");
        assert_eq!((subscription.missed(), subscription.is_active()), (0, true));
    }
}

#[actix::test]
async fn a_stream_gets_what_was_stored_and_then_what_comes() {
    let pair = pair().await;
    pair.writer.write(3 * SUBSCRIBER_BATCH).await;
    let last = 3 * SUBSCRIBER_BATCH as u64;
    for from in [0, 1, 2, last - 1, last] {
        expect(&mut pair.stream(from, 10).await, from.max(1)..=last).await;
    }
    let mut events = pair.stream(last - 1, 10).await;
    pair.writer.write(2).await;
    expect(&mut events, last - 1..=last + 2).await;
    pair.writer.write(1).await;
    expect(&mut events, [last + 3]).await;
}

#[actix::test]
async fn a_pattern_selects_from_the_history_too() {
    let actors = start();
    attach(&actors.memory, &actors.bus).await;
    for _ in 0..2 {
        actors.orchestrator.send(ExecutePlan::new([Step::new("a", || 1)])).await.unwrap().unwrap();
    }
    for (pattern, expected) in
        [("plan.*ed", vec![1, 2, 5, 6, 7, 10]), ("*.completed", vec![4, 5, 9, 10]), ("none", vec![])]
    {
        expect(&mut stream(&actors.bus, pattern, 1, 10).await, expected).await;
    }
}

#[actix::test]
async fn a_number_that_is_yet_to_come_is_waited_for() {
    let pair = pair().await;
    pair.writer.write(5).await;
    let (mut next, mut later) = (pair.stream(6, 10).await, pair.stream(9, 1).await);
    let mut never = pair.stream(u64::MAX, 10).await;
    expect_nothing(&mut next).await;
    pair.writer.write_singly(3).await;
    expect(&mut next, 6..=8).await;
    expect_nothing(&mut later).await;
    pair.writer.write_singly(3).await;
    expect(&mut later, 9..=11).await;
    expect_nothing(&mut never).await;
}

#[actix::test]
async fn a_queue_that_overflows_is_made_good_from_the_store() {
    let pair = pair().await;
    let mut events = pair.stream(1, 2).await;
    for round in 0..4 {
        pair.writer.write_singly(700).await;
        expect(&mut events, round * 700 + 1..=round * 700 + 700).await;
    }
    assert_eq!(events.missed(), 0);
}

/// Of a rare type, the event before a gap may be long ago: it is not from there that the store is read.
#[actix::test]
async fn a_replay_begins_where_the_gap_is() {
    let pair = pair().await;
    let (mut rare, mut all) = (stream(&pair.bus, "plan.started", 1, 1).await, pair.stream(1, 1).await);
    let mut commit = pair.writer.commit(1);
    commit.events.extend(vec![EventKind::PlanCompleted {}; VOLATILE_EVENTS + 500]);
    pair.memory.send(commit).await.unwrap().unwrap();
    // The opened page was empty, so that this comes from the queue.
    expect(&mut rare, [1]).await;
    pair.writer.write(3).await;
    let last = VOLATILE_EVENTS as u64 + 504;
    expect(&mut rare, last - 2..=last).await;
    assert_eq!(rare.missed(), 0);
    assert_eq!(
        take(&mut all, 2).await,
        [format!("lagged {}", last - VOLATILE_EVENTS as u64), "505".to_owned()]
    );
}

/// When the bus itself is behind, no queue has what is missing.
#[actix::test]
async fn what_the_bus_was_left_out_of_is_made_good_too() {
    let elsewhere = Arbiter::new();
    let bus = EventBus::start_in_arbiter(&elsewhere.handle(), |_| EventBus::new());
    let memory = ProjectMemory::in_memory().start();
    attach(&memory, &bus).await;
    let (mut events, mut plain) = (stream(&bus, "*", 1, 100_000).await, watch(&bus).await);
    let (release, held) = mpsc::channel::<()>();
    let (tell_busy, busy) = tokio::sync::oneshot::channel();
    elsewhere.spawn_fn(move || {
        let _ = tell_busy.send(());
        let _ = held.recv_timeout(PATIENCE);
    });
    // Not before: the bus might keep up until its thread is held.
    soon(busy).await.unwrap();
    let count = PUBLISH_BACKLOG + 500;
    Writer::new(memory.clone()).write_singly(count).await;
    drop(release);
    for seq in 1..=count as u64 {
        assert_eq!(soon(events.next()).await.unwrap().seq(), Some(seq));
    }
    assert_eq!(events.missed(), 0);
    // The one without a history does lose them: there was a gap.
    let lagged = soon(until(&mut plain, "subscription.lagged")).await;
    assert!(lagged.len() <= count);
    elsewhere.stop();
    elsewhere.join().unwrap();
}

#[actix::test]
async fn events_that_are_not_stored_pass_through_behind_a_replay() {
    let pair = pair().await;
    pair.writer.write(2).await;
    let mut events = pair.stream(1, 3).await;
    for _ in 0..2 {
        pair.bus.send(Emit(Event::custom("app.tick", json!(1)))).await.unwrap().unwrap();
    }
    assert_eq!(take(&mut events, 4).await, ["1", "2", "app.tick", "app.tick"]);
    // Those in a queue that overflows are lost, and counted.
    for _ in 0..8 {
        pair.bus.send(Emit(Event::custom("app.tick", json!(1)))).await.unwrap().unwrap();
    }
    assert_eq!(take(&mut events, 3).await, ["app.tick"; 3]);
    expect_nothing(&mut events).await;
    assert_eq!(events.missed(), 5);
}

// A history that is gone, or cannot be read.

#[actix::test]
async fn a_history_that_is_gone_refuses_the_subscription() {
    let pair = pair().await;
    pair.writer.write(VOLATILE_EVENTS + 50).await;
    for from in [0, 1, 50] {
        assert_eq!(refused(&pair.bus, from).await, SubscribeError::HistoryGone { from, first: 51 });
    }
    let error = refused(&pair.bus, 7).await;
    assert_eq!(
        chain(&error),
        ["events from 7 on are not kept any more; the first that is has the number 51"]
    );
    expect(&mut pair.stream(51, 10).await, 51..=VOLATILE_EVENTS as u64 + 50).await;
}

#[actix::test]
async fn a_store_that_forgets_before_the_subscriber_has_read_tells_how_much() {
    let pair = pair().await;
    pair.writer.write(10).await;
    let mut events = pair.stream(1, 1).await;
    let got = Got::default();
    let sync = pair.bus.send(collector(0, "*", 0, &got).from(1).capacity(1)).await.unwrap().unwrap();
    pair.flush().await;
    pair.writer.write(VOLATILE_EVENTS + 90).await;
    let (first, last) = (101_u64, VOLATILE_EVENTS as u64 + 100);
    let expected = || (1..=10).map(|seq| seq.to_string()).chain(["lagged 90".to_owned()]);
    let expected: Vec<String> = expected().chain((first..=last).map(|seq| seq.to_string())).collect();
    assert_eq!(take(&mut events, expected.len()).await, expected);
    assert_eq!(events.missed(), 90);
    pair.writer.write(1).await;
    expect(&mut events, [last + 1]).await;

    pair.flush().await;
    // How much the other one had read before it was forgotten is its own affair; but every number is told or counted.
    let (mut next, mut missed) = (1, 0);
    for told in got.all() {
        match told.strip_prefix("lagged ") {
            Some(count) => {
                missed += count.parse::<u64>().unwrap();
                next += count.parse::<u64>().unwrap();
            }
            None => {
                assert_eq!(told, next.to_string());
                next += 1;
            }
        }
    }
    assert_eq!(next, last + 2);
    assert_eq!(sync.missed(), missed);
}

/// A queue may hold more than the store.
#[actix::test]
async fn what_is_still_in_the_queue_is_not_gone() {
    let pair = pair().await;
    pair.writer.write(600).await;
    let mut events = pair.stream(1, 100_000).await;
    pair.writer.write(VOLATILE_EVENTS + 2_000).await;
    let first = SUBSCRIBER_BATCH as u64;
    let expected = (1..=first).map(|seq| seq.to_string()).chain([format!("lagged {}", 600 - first)]);
    let expected: Vec<String> =
        expected.chain((601..=600 + VOLATILE_EVENTS + 2_000).map(|seq| seq.to_string())).collect();
    assert_eq!(take(&mut events, expected.len()).await, expected);
    expect_nothing(&mut events).await;
    assert_eq!(events.missed(), 600 - first);
}

#[actix::test]
async fn a_store_that_gives_the_same_page_for_ever_is_not_asked_for_ever() {
    let pair = pair().await;
    pair.writer.write(2 * SUBSCRIBER_BATCH).await;
    pair.store.knobs.stuck.store(true, Ordering::SeqCst);
    let mut events = pair.stream(1, 10).await;
    let first: Vec<String> = (1..=SUBSCRIBER_BATCH).map(|seq| seq.to_string()).collect();
    assert_eq!(take(&mut events, first.len()).await, first);
    assert_eq!(take(&mut events, 1).await, [format!("lagged {SUBSCRIBER_BATCH}")]);
    pair.writer.write(1).await;
    expect(&mut events, [2 * SUBSCRIBER_BATCH as u64 + 1]).await;
    assert_eq!(pair.store.knobs.pages(), 2);
}

#[actix::test]
async fn a_history_that_cannot_be_read_refuses_the_subscription() {
    for pooled in [false, true] {
        let pair = pair_of(Shared { pooled, ..Shared::default() }).await;
        pair.store.knobs.fail(true);
        let error = refused(&pair.bus, 1).await;
        assert!(
            matches!(&error, SubscribeError::History { source: HistoryError::Failed { .. } }),
            "{error:?}"
        );
        assert_eq!(
            chain(&error),
            [
                "earlier events cannot be read",
                "stored events could not be read",
                "the store failed; what it was writing may or may not be stored",
                "disk on fire"
            ]
        );
        // Nobody is left behind on the bus.
        pair.writer.write(3).await;
        pair.flush().await;
        pair.store.knobs.fail(false);
        expect(&mut pair.stream(1, 10).await, 1..=3).await;
    }
}

#[actix::test]
async fn a_memory_that_has_stopped_refuses_the_subscription() {
    let Pair { bus, memory, writer, .. } = pair().await;
    drop((memory, writer));
    let_others_run().await;
    let error = refused(&bus, 1).await;
    assert_eq!(error, SubscribeError::History { source: HistoryError::Stopped });
    assert_eq!(chain(&error), ["earlier events cannot be read", "the memory actor has stopped"]);
}

#[actix::test]
async fn a_replay_that_fails_is_told_and_what_comes_is_delivered() {
    for pooled in [false, true] {
        let pair = pair_of(Shared { pooled, ..Shared::default() }).await;
        let mut events = pair.stream(1, 4).await;
        let got = Got::default();
        let slow = pair.bus.send(collector(1, "*", 0, &got).from(1).capacity(4)).await.unwrap().unwrap();
        pair.store.knobs.fail(true);
        pair.writer.write(20).await;
        pair.flush().await;
        assert_eq!(take(&mut events, 5).await, ["lagged 16", "17", "18", "19", "20"]);
        pair.writer.write(2).await;
        expect(&mut events, 21..=22).await;
        pair.flush().await;
        // The next time it overflows the store is well again.
        pair.store.knobs.fail(false);
        pair.writer.write(20).await;
        expect(&mut events, 23..=42).await;
        assert_eq!(events.missed(), 16);
        pair.flush().await;
        assert_eq!(got.count() as u64 + slow.missed() - 1, 42);
    }
}

#[actix::test]
async fn a_memory_that_stops_during_a_replay_ends_the_replay_only() {
    let Pair { bus, memory, writer, .. } = pair().await;
    writer.write(3 * SUBSCRIBER_BATCH).await;
    let mut events = stream(&bus, "*", 1, 2).await;
    writer.write(2).await;
    drop((memory, writer));
    let_others_run().await;
    let first: Vec<String> = (1..=SUBSCRIBER_BATCH).map(|seq| seq.to_string()).collect();
    assert_eq!(take(&mut events, first.len()).await, first);
    let last = 3 * SUBSCRIBER_BATCH;
    let rest = [format!("lagged {}", 2 * SUBSCRIBER_BATCH), (last + 1).to_string(), (last + 2).to_string()];
    assert_eq!(take(&mut events, 3).await, rest);
    bus.send(Emit(Event::custom("app.tick", json!(1)))).await.unwrap().unwrap();
    assert_eq!(take(&mut events, 1).await, ["app.tick"]);
    drop(bus);
    assert!(soon(events.next()).await.is_none());
}

#[actix::test]
async fn a_bus_that_ends_during_a_replay_still_delivers_it() {
    let elsewhere = Arbiter::new();
    let bus = EventBus::start_in_arbiter(&elsewhere.handle(), |_| EventBus::new());
    let memory = ProjectMemory::in_memory().start();
    attach(&memory, &bus).await;
    let writer = Writer::new(memory.clone());
    writer.write(3 * SUBSCRIBER_BATCH).await;
    let mut events = stream(&bus, "*", 1, 2).await;
    writer.write(7).await;
    elsewhere.stop();
    elsewhere.join().unwrap();
    let all: Vec<String> = (1..=3 * SUBSCRIBER_BATCH + 7).map(|seq| seq.to_string()).collect();
    assert_eq!(take(&mut events, all.len()).await, all);
    assert!(soon(events.next()).await.is_none());
}

// Whose history it is.

#[actix::test]
async fn a_bus_without_a_store_has_no_history() {
    let bus = EventBus::new().start();
    assert_eq!(refused(&bus, 1).await, SubscribeError::NoHistory);
    // Without a number nothing has changed.
    assert!(bus.send(SubscribeStream::new("*")).await.unwrap().is_ok());
}

#[actix::test]
async fn a_bus_with_two_stores_has_no_one_history() {
    let first = pair().await;
    let mut events = first.stream(1, 10).await;
    let second = ProjectMemory::in_memory().start();
    attach(&second, &first.bus).await;
    assert_eq!(refused(&first.bus, 1).await, SubscribeError::SeveralStores);

    // Who came before goes on with the first: the other's numbers mean other events.
    let mut both = first.bus.send(SubscribeStream::new("*")).await.unwrap().unwrap();
    Writer::new(second.clone()).write(4).await;
    first.writer.write(3).await;
    expect(&mut events, 1..=3).await;
    assert_eq!(take(&mut both, 7).await, ["1", "2", "3", "4", "1", "2", "3"]);

    // A memory that is gone is not one of two.
    let third = ProjectMemory::in_memory().start();
    drop(second);
    let_others_run().await;
    drop(first.writer);
    drop(first.memory);
    let_others_run().await;
    attach(&third, &first.bus).await;
    Writer::new(third.clone()).write(2).await;
    expect(&mut stream(&first.bus, "*", 1, 10).await, 1..=2).await;
}

#[actix::test]
async fn malformed_patterns_and_too_many_subscriptions_are_refused_first() {
    let bus = EventBus::new().start();
    let empty = bus.send(SubscribeStream::new("").from(1)).await.unwrap().unwrap_err();
    assert_eq!(empty, SubscribeError::Pattern(InvalidPattern::Empty));
    let mut streams = Vec::new();
    for _ in 0..MAX_SUBSCRIPTIONS {
        streams.push(bus.send(SubscribeStream::new("*")).await.unwrap().unwrap());
    }
    assert_eq!(refused(&bus, 1).await, SubscribeError::TooMany);
}

// Flushing and ending while a replay is under way.

/// An async subscriber that takes one permit for each event.
fn gated(got: &Got, gate: &Arc<Semaphore>) -> Subscribe {
    let (got, gate) = (got.clone(), Arc::clone(gate));
    Subscribe::new("*", move |event: Event| {
        let (got, gate) = (got.clone(), Arc::clone(&gate));
        async move {
            gate.acquire().await.unwrap().forget();
            got.note(event);
        }
    })
}

#[actix::test]
async fn a_flush_waits_for_the_replay() {
    let pair = pair().await;
    pair.writer.write(2 * SUBSCRIBER_BATCH).await;
    let (got, gate) = (Got::default(), Arc::new(Semaphore::new(0)));
    pair.bus.send(gated(&got, &gate).from(1).capacity(2)).await.unwrap().unwrap();
    let mut flush = Box::pin(pair.bus.send(Flush::within(PATIENCE)));
    for _ in 1..2 * SUBSCRIBER_BATCH {
        gate.add_permits(1);
        let_others_run_a_little().await;
        assert!(flush.as_mut().now_or_never().is_none(), "after {}", got.count());
    }
    gate.add_permits(1);
    soon(flush).await.unwrap().unwrap();
    assert_eq!(got.count(), 2 * SUBSCRIBER_BATCH);

    // The same when the queue has overflowed: what was dropped counts as delivered, and comes from the store.
    pair.writer.write(9).await;
    let mut flush = Box::pin(pair.bus.send(Flush::within(PATIENCE)));
    for _ in 1..9 {
        gate.add_permits(1);
        let_others_run_a_little().await;
        assert!(flush.as_mut().now_or_never().is_none(), "after {}", got.count());
    }
    gate.add_permits(1);
    soon(flush).await.unwrap().unwrap();
    assert_eq!(got.count(), 2 * SUBSCRIBER_BATCH + 9);
}

async fn let_others_run_a_little() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// Every event makes two more, so that the subscriber never catches up.
#[actix::test]
async fn a_flush_waits_for_what_was_stored_when_it_was_asked_and_no_longer() {
    let pair = pair().await;
    pair.writer.write(10).await;
    let (got, writer, limit) = (Got::default(), pair.writer.clone(), 3_000);
    let (noted, asked) = (got.clone(), pair.bus.clone());
    let subscriber = move |event: Event| {
        let (noted, writer) = (noted.clone(), writer.clone());
        async move {
            if noted.count() < limit {
                writer.write(2).await;
            }
            noted.note(event);
        }
    };
    let subscribe = Subscribe::new("*", subscriber).from(1).capacity(3);
    pair.bus.send(subscribe).await.unwrap().unwrap();
    for _ in 0..3 {
        soon(asked.send(Flush::within(PATIENCE))).await.unwrap().unwrap();
        assert!((10..limit).contains(&got.count()), "{}", got.count());
    }
    // It ends all the same.
    soon(async {
        while got.count() < 2 * limit + 10 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    pair.flush().await;
    assert_eq!(got.count(), 2 * limit + 10);
}

#[actix::test]
async fn a_flush_gives_up_on_a_replay_in_time() {
    tokio::time::pause();
    let pair = pair().await;
    pair.writer.write(10).await;
    let (got, gate) = (Got::default(), Arc::new(Semaphore::new(0)));
    pair.bus.send(gated(&got, &gate).from(1)).await.unwrap().unwrap();
    let late = pair.bus.send(Flush::default()).await.unwrap().unwrap_err();
    assert_eq!(late.subscribers, 1);
}

#[actix::test]
async fn a_subscription_can_end_during_its_replay() {
    let pair = pair().await;
    pair.writer.write(2 * SUBSCRIBER_BATCH).await;
    let (got, gate) = (Got::default(), Arc::new(Semaphore::new(3)));
    let subscription = pair.bus.send(gated(&got, &gate).from(1)).await.unwrap().unwrap();
    let_others_run().await;
    assert_eq!((got.count(), subscription.is_active()), (3, true));
    subscription.end();
    gate.add_permits(1_000);
    pair.flush().await;
    let_others_run().await;
    // The call that was under way has returned, and there was none after it.
    assert_eq!((got.count(), subscription.is_active()), (4, false));
}

/// Neither end waits for a page that is being read.
#[actix::test]
async fn a_subscription_ends_while_a_page_is_being_read() {
    let pair = pair_of(Shared { pooled: true, ..Shared::default() }).await;
    pair.writer.write(2 * SUBSCRIBER_BATCH).await;
    let got = Got::default();
    let mut events = pair.stream(1, 4).await;
    let opened = pair.store.knobs.pages();
    pair.store.knobs.hold_after(1);
    let subscription = pair.bus.send(collector(1, "*", 0, &got).from(1)).await.unwrap().unwrap();
    take(&mut events, SUBSCRIBER_BATCH).await;
    assert!(events.next().now_or_never().is_none());
    soon(async {
        while pair.store.knobs.pages() < opened + 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(subscription.is_active());
    subscription.end();
    pair.flush().await;
    drop(events);
    // Both have given their places back.
    let mut streams = Vec::new();
    for _ in 0..MAX_SUBSCRIPTIONS {
        let_others_run_a_little().await;
        streams.push(pair.bus.send(SubscribeStream::new("*")).await.unwrap().unwrap());
    }
    pair.store.knobs.release();
    assert_eq!(got.count(), SUBSCRIBER_BATCH);
}

/// The bus handles other messages while it reads for a subscription, and none of their events pass it by.
#[actix::test]
async fn events_that_come_before_the_first_page_is_read_are_not_lost() {
    let pair = pair_of(Shared { pooled: true, ..Shared::default() }).await;
    pair.writer.write(3).await;
    pair.store.knobs.hold_after(0);
    let mut subscribed = Box::pin(pair.bus.send(SubscribeStream::new("*").from(1)));
    assert!(subscribed.as_mut().now_or_never().is_none());
    let mut live = pair.bus.send(SubscribeStream::new("*")).await.unwrap().unwrap();
    pair.writer.write(2).await;
    pair.bus.send(Emit(Event::custom("app.tick", json!(1)))).await.unwrap().unwrap();
    assert_eq!(take(&mut live, 3).await, ["4", "5", "app.tick"]);
    pair.store.knobs.release();
    let mut events = soon(subscribed).await.unwrap().unwrap();
    assert_eq!(take(&mut events, 6).await, ["1", "2", "3", "4", "5", "app.tick"]);
    expect_nothing(&mut events).await;
}

#[actix::test]
async fn failures_are_counted_during_a_replay() {
    let pair = pair().await;
    pair.writer.write(300).await;
    let failing = |event: Event| if event.seq() == Some(7) { Err("no") } else { Ok(()) };
    let subscription = pair.bus.send(Subscribe::new("*", failing).from(1)).await.unwrap().unwrap();
    let panicking = |event: Event| assert!(event.seq() != Some(8), "as told");
    let other = pair.bus.send(Subscribe::new("*", panicking).from(1)).await.unwrap().unwrap();
    pair.flush().await;
    assert_eq!((subscription.failures(), other.failures()), (1, 1));
}

// By the engine.

#[actix::test]
async fn the_engine_tells_the_history_of_a_run_among_others() {
    let engine = Engine::builder().max_concurrent_plans(3).start().unwrap();
    let mut events =
        engine.subscribe_stream_with(SubscribeStream::new("*").from(1).capacity(4)).await.unwrap();
    let plan = |id: &str| {
        let steps: Vec<Step> =
            (0..20).map(|_| Step::unnamed(|| async { tokio::task::yield_now().await })).collect();
        ExecutePlan::new(steps).run_id(id)
    };
    let mut handles = Vec::new();
    for id in ["a", "b", "c"] {
        handles.push(engine.submit(plan(id)).await.unwrap());
    }
    for handle in handles {
        handle.await.unwrap();
    }
    let all = stored(engine.memory()).await;
    let mut seen = Vec::new();
    for _ in &all {
        seen.push(soon(events.next()).await.unwrap());
    }
    assert_eq!(seen, all);
    let interleaved = all.windows(2).filter(|pair| pair[0].run_id() != pair[1].run_id()).count();
    assert!(interleaved > 10, "{interleaved}");
    for id in ["a", "b", "c"] {
        let id = run_id(id);
        let own: Vec<Event> = all.iter().filter(|event| event.run_id() == Some(&id)).cloned().collect();
        assert_eq!(own.len(), 43);
        assert_eq!(engine.history(&id).await.unwrap(), own);
        assert_eq!(engine.history(id.clone()).await.unwrap(), own);
        for limit in [1, 7, 43, 100] {
            let (mut paged, mut after) = (Vec::new(), 0);
            loop {
                let page =
                    engine.history(ReadHistory::new(id.clone()).after(after).limit(limit)).await.unwrap();
                let Some(last) = page.last() else { break };
                assert!(page.len() <= limit);
                after = last.seq().unwrap();
                paged.extend(page);
            }
            assert_eq!(paged, own);
        }
    }
    assert_eq!(engine.history(run_id("unknown")).await.unwrap(), []);
}

#[actix::test]
async fn an_engine_has_a_history_from_its_very_start() {
    for _ in 0..20 {
        let (engine, got) = (engine(), Got::default());
        let subscription = engine.subscribe_with(collector(0, "*", 0, &got).from(1)).await.unwrap();
        let mut stream = engine.subscribe_stream_with(SubscribeStream::new("*").from(1)).await.unwrap();
        engine.execute([Step::new("a", || 1)]).await.unwrap();
        expect(&mut stream, 1..=5).await;
        engine.flush(PATIENCE).await.unwrap();
        assert_eq!((got.all().len(), subscription.missed()), (5, 0));
    }
}

/// Not on an actix thread, and on more than one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_with_a_history_is_read_from_any_runtime() {
    fn assert_shareable<T: Send + Sync>(_: &T) {}
    let engine = Engine::spawn().unwrap();
    let steps: Vec<Step> = (0..300).map(|_| Step::unnamed(|| Value::Null).inline()).collect();
    engine.execute(ExecutePlan::new(steps)).await.unwrap();
    let subscribe = SubscribeStream::new("*").from(1).capacity(1);
    let mut events = engine.subscribe_stream_with(subscribe).await.unwrap();
    assert_shareable(&events);
    let running = tokio::spawn({
        let engine = engine.clone();
        async move {
            for _ in 0..20 {
                engine.execute([Step::new("a", || 1).inline()]).await.unwrap();
            }
        }
    });
    for seq in 1..=703 {
        assert_eq!(soon(events.next()).await.unwrap().seq(), Some(seq));
    }
    running.await.unwrap();
    assert_eq!(events.missed(), 0);
    engine.shutdown(Shutdown::now()).await;
}
