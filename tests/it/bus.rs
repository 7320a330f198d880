//! The bus: who gets which events, in which order, and how little a bad subscriber can do to anybody else.

use std::future::{pending, ready};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use actix::prelude::*;
use futures_util::{FutureExt, StreamExt};
use lunacore::limits::{
    MAX_PATTERN_BYTES, MAX_PAYLOAD_BYTES, MAX_SUBSCRIPTIONS, PROGRESS_BACKLOG, PUBLISH_BACKLOG,
    SUBSCRIBER_QUEUE,
};
use lunacore::{
    Attach, Emit, EmitError, Event, EventBus, EventKind, EventStream, ExecutePlan, ExecutionOrchestrator,
    Flush, GetOutputs, IdFault, IntoSubscriber, InvalidEventType, InvalidPattern, Output, ProjectMemory,
    SimpleAllocator, Step, StepContext, Subscribe, SubscribeError, SubscribeStream, Subscription,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::support::{Trace, next, run_id, start, until, watch};

/// Only a test that has failed waits as long as this.
const PATIENCE: Duration = Duration::from_secs(10);

/// What should happen at once: a test that waits for it in vain fails.
async fn soon<T>(happens: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, happens).await.expect("it does not happen")
}

/// What a plan of two steps, `a` and `b`, tells of its tasks.
const TASKS: [&str; 4] = ["task.started a", "task.completed a", "task.started b", "task.completed b"];

fn two_steps() -> ExecutePlan {
    ExecutePlan::new([Step::new("a", || "x"), Step::new("b", || async { "y" })])
}

/// An orchestrator over parts that the test has started.
fn orchestrate(bus: &Addr<EventBus>, memory: &Addr<ProjectMemory>) -> Addr<ExecutionOrchestrator> {
    ExecutionOrchestrator::new(bus.clone(), memory.clone(), SimpleAllocator.start()).start()
}

async fn execute(orchestrator: &Addr<ExecutionOrchestrator>, plan: ExecutePlan) -> Vec<Value> {
    orchestrator.send(plan).await.unwrap().unwrap()
}

fn tick(n: u64) -> Event {
    Event::custom("app.tick", json!({ "n": n }))
}

async fn emit(bus: &Addr<EventBus>, event: Event) {
    bus.send(Emit(event)).await.unwrap().unwrap();
}

async fn ticks(bus: &Addr<EventBus>, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        emit(bus, tick(n)).await;
    }
}

async fn flush(bus: &Addr<EventBus>) {
    bus.send(Flush::within(PATIENCE)).await.unwrap().unwrap();
}

async fn subscribe<M>(bus: &Addr<EventBus>, pattern: &str, to: impl IntoSubscriber<M>) -> Subscription {
    bus.send(Subscribe::new(pattern, to)).await.unwrap().unwrap()
}

async fn stream(bus: &Addr<EventBus>, pattern: &str, capacity: usize) -> EventStream {
    bus.send(SubscribeStream::new(pattern).capacity(capacity)).await.unwrap().unwrap()
}

/// An event in short: the number of a tick, `lagged 3`, or its type and step.
fn short(event: &Event) -> String {
    match event.kind() {
        EventKind::SubscriptionLagged { missed } => format!("lagged {missed}"),
        EventKind::Custom { payload, .. } if payload.contains_key("n") => payload["n"].to_string(),
        _ => event.to_string(),
    }
}

/// What waits in a stream.
fn waiting(events: &mut EventStream) -> Vec<String> {
    std::iter::from_fn(|| events.next().now_or_never().flatten()).map(|event| short(&event)).collect()
}

fn numbers(of: impl IntoIterator<Item = u64>) -> Vec<String> {
    of.into_iter().map(|n| n.to_string()).collect()
}

/// Lets everything on this thread go on until it waits for something else.
async fn let_others_run() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// A subscriber that notes what it gets.
fn noting(trace: &Trace) -> impl FnMut(Event) + Send + 'static + use<> {
    let trace = trace.clone();
    move |event| trace.note(short(&event))
}

/// The test's end of a subscriber that is held in every call. Dropping it lets the subscriber go.
struct Hold {
    called: UnboundedReceiver<String>,
    release: mpsc::Sender<()>,
}

impl Hold {
    /// Waits until the subscriber is called, and is held.
    async fn called(&mut self) -> String {
        soon(self.called.recv()).await.unwrap()
    }

    fn release_one(&self) {
        self.release.send(()).unwrap();
    }
}

struct Held {
    called: UnboundedSender<String>,
    released: mpsc::Receiver<()>,
    patience_ends: Instant,
}

impl Held {
    /// Fails only when the test does not come to the point where it lets go.
    fn wait(&mut self, event: &Event) -> Result<(), &'static str> {
        let _ = self.called.send(short(event));
        match self.released.recv_timeout(self.patience_ends.saturating_duration_since(Instant::now())) {
            Err(mpsc::RecvTimeoutError::Timeout) => Err("nobody let go of this subscriber"),
            _ => Ok(()),
        }
    }
}

fn hold() -> (Held, Hold) {
    let ((called, called_receiver), (release, released)) = (unbounded_channel(), mpsc::channel());
    (
        Held { called, released, patience_ends: Instant::now() + PATIENCE },
        Hold { called: called_receiver, release },
    )
}

/// A sync subscriber that is held in every call, on its thread of the blocking pool.
fn holding() -> (impl FnMut(Event) -> Result<(), &'static str> + Send + 'static, Hold) {
    let (mut held, hold) = hold();
    (move |event: Event| held.wait(&event), hold)
}

/// An actor that notes its events. `app.stop` stops it, `app.panic` makes it panic.
struct Listener(Trace);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Event> for Listener {
    type Result = ();

    fn handle(&mut self, event: Event, ctx: &mut Self::Context) {
        self.0.note(short(&event));
        match event.event_type() {
            "app.stop" => ctx.stop(),
            "app.panic" => panic!("as told"),
            _ => {}
        }
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Stop;

impl Handler<Stop> for Listener {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

// Who can be a subscriber.

#[actix::test]
async fn a_sync_closure_gets_events() {
    let (actors, trace) = (start(), Trace::default());
    subscribe(&actors.bus, "task.*", noting(&trace)).await;
    execute(&actors.orchestrator, two_steps()).await;
    flush(&actors.bus).await;
    assert_eq!(trace.all(), TASKS);
}

#[actix::test]
async fn an_async_closure_gets_events() {
    let (actors, trace) = (start(), Trace::default());
    let noted = trace.clone();
    let subscriber = move |event: Event| {
        let noted = noted.clone();
        async move {
            tokio::task::yield_now().await;
            noted.note(short(&event));
        }
    };
    subscribe(&actors.bus, "task.*", subscriber).await;
    execute(&actors.orchestrator, two_steps()).await;
    flush(&actors.bus).await;
    assert_eq!(trace.all(), TASKS);
}

#[actix::test]
async fn an_actor_gets_events_by_its_address() {
    let (actors, trace) = (start(), Trace::default());
    subscribe(&actors.bus, "task.*", Listener(trace.clone()).start()).await;
    execute(&actors.orchestrator, two_steps()).await;
    flush(&actors.bus).await;
    assert_eq!(trace.all(), TASKS);
}

#[actix::test]
async fn an_actor_gets_events_as_a_recipient() {
    let (actors, trace) = (start(), Trace::default());
    let recipient: Recipient<Event> = Listener(trace.clone()).start().recipient();
    subscribe(&actors.bus, "task.*", recipient).await;
    execute(&actors.orchestrator, two_steps()).await;
    flush(&actors.bus).await;
    assert_eq!(trace.all(), TASKS);
}

#[actix::test]
async fn a_stream_gets_events() {
    let actors = start();
    let mut events = stream(&actors.bus, "task.*", 100).await;
    execute(&actors.orchestrator, two_steps()).await;
    assert_eq!(next(&mut events, 4).await, TASKS);
}

#[actix::test]
async fn an_event_stream_works_with_stream_combinators() {
    let bus = EventBus::new().start();
    let events = stream(&bus, "app.*", 100).await;
    ticks(&bus, 0..4).await;
    let even: Vec<String> =
        events.map(|event| short(&event)).filter(|n| ready(n != "1" && n != "3")).take(2).collect().await;
    assert_eq!(even, ["0", "2"]);
}

#[actix::test]
async fn closures_may_return_nothing_or_a_result() {
    let bus = EventBus::new().start();
    let subscriptions = [
        subscribe(&bus, "*", |_: Event| ()).await,
        subscribe(&bus, "*", |_: Event| Ok::<(), String>(())).await,
        subscribe(&bus, "*", |_: Event| async {}).await,
        subscribe(&bus, "*", |_: Event| async { Ok::<(), std::io::Error>(()) }).await,
        subscribe(&bus, "*", |_: Event| Err("sync")).await,
        subscribe(&bus, "*", |_: Event| async { Err(std::io::Error::other("async")) }).await,
    ];
    ticks(&bus, 0..3).await;
    flush(&bus).await;
    assert_eq!(subscriptions.map(|subscription| subscription.failures()), [0, 0, 0, 0, 3, 3]);
}

#[actix::test]
async fn a_subscriber_may_emit_to_the_bus_that_calls_it() {
    let bus = EventBus::new().start();
    let mut answers = stream(&bus, "app.answer", 10).await;
    let back = bus.clone();
    let subscriber = move |event: Event| {
        let back = back.clone();
        async move { emit(&back, Event::custom("app.answer", json!({ "n": event.get("n") }))).await }
    };
    subscribe(&bus, "app.tick", subscriber).await;
    emit(&bus, tick(7)).await;
    assert_eq!(short(&answers.next().await.unwrap()), "7");
}

// Patterns.

#[actix::test]
async fn a_pattern_selects_events_by_type() {
    let actors = start();
    let mut streams = Vec::new();
    for pattern in
        ["*", "task.*", "*.completed", "plan.started", "plan.?????ted", "[!t]*ed", "[pt]*.started", "Task.*"]
    {
        streams.push((pattern, stream(&actors.bus, pattern, 100).await));
    }
    execute(&actors.orchestrator, ExecutePlan::new([Step::new("a", || 1)])).await;
    flush(&actors.bus).await;
    let got: Vec<(&str, String)> =
        streams.into_iter().map(|(pattern, mut events)| (pattern, waiting(&mut events).join(", "))).collect();
    let expected = [
        ("*", "plan.accepted, plan.started, task.started a, task.completed a, plan.completed"),
        ("task.*", "task.started a, task.completed a"),
        ("*.completed", "task.completed a, plan.completed"),
        ("plan.started", "plan.started"),
        ("plan.?????ted", "plan.accepted"),
        ("[!t]*ed", "plan.accepted, plan.started, plan.completed"),
        ("[pt]*.started", "plan.started, task.started a"),
        ("Task.*", ""),
    ];
    assert_eq!(got, expected.map(|(pattern, types)| (pattern, types.to_owned())));
}

#[actix::test]
async fn a_malformed_pattern_is_an_error_at_subscription() {
    let bus = EventBus::new().start();
    let long = "x".repeat(MAX_PATTERN_BYTES + 1);
    for (pattern, expected) in [
        ("", InvalidPattern::Empty),
        ("task.[", InvalidPattern::UnclosedClass { pattern: "task.[".to_owned(), at: 5 }),
        ("[z-a]", InvalidPattern::BackwardRange { pattern: "[z-a]".to_owned(), low: 'z', high: 'a' }),
        (long.as_str(), InvalidPattern::TooLong { bytes: MAX_PATTERN_BYTES + 1 }),
    ] {
        let closure = bus.send(Subscribe::new(pattern, |_: Event| ())).await.unwrap();
        assert_eq!(closure.unwrap_err(), SubscribeError::Pattern(expected.clone()));
        let stream = bus.send(SubscribeStream::new(pattern)).await.unwrap();
        assert_eq!(stream.unwrap_err(), SubscribeError::Pattern(expected));
    }
}

#[actix::test]
async fn a_subscription_knows_its_pattern() {
    let bus = EventBus::new().start();
    assert_eq!(subscribe(&bus, "task.[!s]*", |_: Event| ()).await.pattern().as_str(), "task.[!s]*");
}

// Order.

#[actix::test]
async fn a_sync_subscriber_gets_ten_thousand_events_in_order_one_at_a_time() {
    let (bus, trace) = (EventBus::new().start(), Trace::default());
    let (noted, busy) = (trace.clone(), AtomicBool::new(false));
    let subscriber = move |event: Event| {
        let overlaps = busy.swap(true, Ordering::SeqCst);
        noted.note(short(&event));
        busy.store(false, Ordering::SeqCst);
        if overlaps { Err("called twice at a time") } else { Ok(()) }
    };
    let subscribed = bus.send(Subscribe::new("app.*", subscriber).capacity(10_000)).await.unwrap().unwrap();
    ticks(&bus, 0..10_000).await;
    flush(&bus).await;
    assert_eq!(trace.all(), numbers(0..10_000));
    assert_eq!((subscribed.failures(), subscribed.missed()), (0, 0));
}

#[actix::test]
async fn an_async_subscriber_gets_events_in_order_however_long_each_takes() {
    let (bus, trace) = (EventBus::new().start(), Trace::default());
    let noted = trace.clone();
    let mut waits = (0..7_usize).rev().cycle();
    let subscriber = move |event: Event| {
        let (noted, wait) = (noted.clone(), waits.next().unwrap());
        async move {
            for _ in 0..wait {
                tokio::task::yield_now().await;
            }
            noted.note(short(&event));
        }
    };
    subscribe(&bus, "app.*", subscriber).await;
    ticks(&bus, 0..1_000).await;
    flush(&bus).await;
    assert_eq!(trace.all(), numbers(0..1_000));
}

#[actix::test]
async fn an_actor_with_a_small_mailbox_gets_all_events_in_order() {
    let (bus, trace) = (EventBus::new().start(), Trace::default());
    let listener = Listener::create(|ctx| {
        ctx.set_mailbox_capacity(1);
        Listener(trace.clone())
    });
    let subscribed = subscribe(&bus, "app.*", listener).await;
    ticks(&bus, 0..1_000).await;
    flush(&bus).await;
    assert_eq!(trace.all(), numbers(0..1_000));
    assert_eq!((subscribed.failures(), subscribed.missed()), (0, 0));
}

// How long a subscription lives.

#[actix::test]
async fn an_ended_subscription_gets_nothing_more_not_even_what_was_queued() {
    let bus = EventBus::new().start();
    let (subscriber, mut hold) = holding();
    let subscription = subscribe(&bus, "app.*", subscriber).await;
    ticks(&bus, 0..1).await;
    assert_eq!(hold.called().await, "0");
    // These are handed over together when the subscriber comes back.
    ticks(&bus, 1..4).await;
    hold.release_one();
    assert_eq!(hold.called().await, "1");
    subscription.end();
    ticks(&bus, 4..6).await;
    assert!(!subscription.is_active());
    drop(hold.release);
    // The subscriber is let go of without another call.
    assert_eq!(soon(hold.called.recv()).await, None);
}

#[actix::test]
async fn an_async_subscriber_that_ends_itself_is_not_called_again() {
    let (bus, trace) = (EventBus::new().start(), Trace::default());
    let (release, released) = oneshot::channel::<()>();
    let myself = Arc::new(OnceLock::<Subscription>::new());
    let (noted, known, mut first) = (trace.clone(), Arc::clone(&myself), Some(released));
    let subscriber = move |event: Event| {
        noted.note(short(&event));
        let (first, known) = (first.take(), Arc::clone(&known));
        async move {
            match first {
                Some(released) => released.await.unwrap(),
                None => known.get().unwrap().end(),
            }
        }
    };
    myself.set(subscribe(&bus, "app.*", subscriber).await).unwrap();
    ticks(&bus, 0..1).await;
    let_others_run().await;
    // These are handed over together when the subscriber comes back.
    ticks(&bus, 1..4).await;
    release.send(()).unwrap();
    let_others_run().await;
    assert_eq!(trace.all(), ["0", "1"]);
    assert!(!myself.get().unwrap().is_active());
}

#[actix::test]
async fn an_ended_subscription_lets_go_of_its_closure() {
    let bus = EventBus::new().start();
    let ((in_sync, mut sync_dropped), (in_async, mut async_dropped)) =
        (unbounded_channel(), unbounded_channel());
    let sync = subscribe(&bus, "app.*", move |event: Event| in_sync.send(event).unwrap()).await;
    let asynchronous = subscribe(&bus, "app.*", move |event: Event| ready(in_async.send(event))).await;
    ticks(&bus, 0..1).await;
    for dropped in [&mut sync_dropped, &mut async_dropped] {
        assert_eq!(soon(dropped.recv()).await.as_ref().map(short).as_deref(), Some("0"));
    }
    sync.end();
    asynchronous.end();
    for dropped in [&mut sync_dropped, &mut async_dropped] {
        assert_eq!(soon(dropped.recv()).await, None);
    }
}

#[actix::test]
async fn a_subscription_outlives_its_handle() {
    let (bus, trace) = (EventBus::new().start(), Trace::default());
    drop(subscribe(&bus, "app.*", noting(&trace)).await);
    ticks(&bus, 0..2).await;
    flush(&bus).await;
    assert_eq!(trace.all(), ["0", "1"]);
}

#[actix::test]
async fn a_clone_of_the_handle_ends_the_same_subscription() {
    let (bus, trace) = (EventBus::new().start(), Trace::default());
    let subscription = subscribe(&bus, "app.*", noting(&trace)).await;
    subscription.clone().end();
    ticks(&bus, 0..1).await;
    flush(&bus).await;
    assert!(!subscription.is_active());
    assert_eq!(trace.all(), [""; 0]);
}

#[actix::test]
async fn one_subscription_too_many_is_refused() {
    let bus = EventBus::new().start();
    for _ in 0..MAX_SUBSCRIPTIONS {
        subscribe(&bus, "app.*", |_: Event| ()).await;
    }
    let closure = bus.send(Subscribe::new("*", |_: Event| ())).await.unwrap();
    assert_eq!(closure.unwrap_err(), SubscribeError::TooMany);
    let stream = bus.send(SubscribeStream::new("*")).await.unwrap();
    assert_eq!(stream.unwrap_err(), SubscribeError::TooMany);
}

/// Fills the bus up to its last place.
async fn fill(bus: &Addr<EventBus>, taken: usize) -> Vec<EventStream> {
    let mut streams = Vec::new();
    for _ in taken..MAX_SUBSCRIPTIONS {
        streams.push(stream(bus, "*", 10).await);
    }
    assert_eq!(bus.send(SubscribeStream::new("*")).await.unwrap().unwrap_err(), SubscribeError::TooMany);
    streams
}

#[actix::test]
async fn a_dropped_stream_gives_its_place_back() {
    let bus = EventBus::new().start();
    let mut streams = fill(&bus, 0).await;
    streams.pop();
    stream(&bus, "*", 10).await;
}

#[actix::test]
async fn an_ended_subscription_gives_its_place_back() {
    let bus = EventBus::new().start();
    let subscription = subscribe(&bus, "*", |_: Event| ()).await;
    let _streams = fill(&bus, 1).await;
    subscription.end();
    stream(&bus, "*", 10).await;
}

#[actix::test]
async fn a_dead_actor_is_unsubscribed_at_its_next_event() {
    let (bus, trace) = (EventBus::new().start(), Trace::default());
    let subscription = subscribe(&bus, "app.*", Listener(trace.clone()).start()).await;
    let _streams = fill(&bus, 1).await;
    emit(&bus, Event::custom("app.stop", json!({}))).await;
    flush(&bus).await;
    ticks(&bus, 0..1).await;
    flush(&bus).await;
    assert_eq!(trace.all(), ["app.stop"]);
    assert!(!subscription.is_active());
    stream(&bus, "*", 10).await;
}

#[actix::test]
async fn an_actor_that_died_without_an_event_gives_its_place_back() {
    let bus = EventBus::new().start();
    let listener = Listener(Trace::default()).start();
    let subscription = subscribe(&bus, "app.*", listener.clone()).await;
    let _streams = fill(&bus, 1).await;
    listener.send(Stop).await.unwrap();
    let_others_run().await;
    stream(&bus, "*", 10).await;
    assert!(!subscription.is_active());
}

// Overflow.

#[actix::test]
async fn what_overflows_arrives_as_one_lagged_event_before_the_newest() {
    let bus = EventBus::new().start();
    let mut events = stream(&bus, "app.*", 3).await;
    ticks(&bus, 0..10).await;
    assert_eq!(waiting(&mut events), ["lagged 7", "7", "8", "9"]);
    assert_eq!(events.missed(), 7);
}

#[actix::test]
async fn a_queue_that_is_just_full_has_missed_nothing() {
    let bus = EventBus::new().start();
    let mut events = stream(&bus, "app.*", 3).await;
    ticks(&bus, 0..3).await;
    assert_eq!(waiting(&mut events), ["0", "1", "2"]);
    assert_eq!(events.missed(), 0);
}

#[actix::test]
async fn each_overflow_is_told_once_with_its_own_count() {
    let bus = EventBus::new().start();
    let mut events = stream(&bus, "app.*", 2).await;
    ticks(&bus, 0..5).await;
    assert_eq!(waiting(&mut events), ["lagged 3", "3", "4"]);
    ticks(&bus, 5..9).await;
    assert_eq!(waiting(&mut events), ["lagged 2", "7", "8"]);
    ticks(&bus, 9..10).await;
    assert_eq!(waiting(&mut events), ["9"]);
    assert_eq!(events.missed(), 5);
}

#[actix::test]
async fn events_that_do_not_match_do_not_overflow_a_queue() {
    let bus = EventBus::new().start();
    let mut events = stream(&bus, "app.*", 2).await;
    emit(&bus, tick(0)).await;
    for _ in 0..10 {
        emit(&bus, Event::custom("other", json!({}))).await;
    }
    assert_eq!(waiting(&mut events), ["0"]);
}

#[actix::test]
async fn a_held_closure_misses_the_oldest_of_what_waits() {
    let bus = EventBus::new().start();
    let (subscriber, mut hold) = holding();
    let subscription = bus.send(Subscribe::new("app.*", subscriber).capacity(2)).await.unwrap().unwrap();
    ticks(&bus, 0..1).await;
    assert_eq!(hold.called().await, "0");
    ticks(&bus, 1..6).await;
    drop(hold.release);
    for expected in ["lagged 3", "4", "5"] {
        assert_eq!(soon(hold.called.recv()).await.unwrap(), expected);
    }
    assert_eq!((subscription.missed(), subscription.failures()), (3, 0));
}

#[actix::test]
async fn a_slow_subscriber_is_told_of_a_lag_and_a_fast_one_is_not() {
    let (bus, trace) = (EventBus::new().start(), Trace::default());
    let mut slow = stream(&bus, "app.*", 1).await;
    bus.send(Subscribe::new("*", noting(&trace)).capacity(1)).await.unwrap().unwrap();
    for n in 0..3 {
        ticks(&bus, [n]).await;
        flush(&bus).await;
    }
    assert_eq!(trace.all(), ["0", "1", "2"]);
    assert_eq!(waiting(&mut slow), ["lagged 2", "2"]);
}

#[actix::test]
async fn whatever_a_slow_reader_misses_is_counted_just_before_what_follows() {
    let actors = start();
    let mut events = stream(&actors.bus, "*", 7).await;
    let mut expected = 1;
    for plan in 0..60_usize {
        execute(&actors.orchestrator, two_steps()).await;
        flush(&actors.bus).await;
        for _ in 0..plan % 9 {
            let Some(event) = events.next().now_or_never().flatten() else { break };
            match event.kind() {
                EventKind::SubscriptionLagged { missed } => expected += missed,
                _ => {
                    assert_eq!(event.seq(), Some(expected));
                    expected += 1;
                }
            }
        }
    }
    assert!(events.missed() > 0 && expected > 7 * 50);
}

#[actix::test]
async fn a_queue_holds_4096_events_by_default() {
    let bus = EventBus::new().start();
    let mut events = bus.send(SubscribeStream::new("*")).await.unwrap().unwrap();
    assert_eq!(SUBSCRIBER_QUEUE, 4_096);
    ticks(&bus, 0..4_097).await;
    assert_eq!(waiting(&mut events)[..2], ["lagged 1", "1"]);
}

#[actix::test]
async fn a_capacity_of_zero_is_taken_as_one() {
    let bus = EventBus::new().start();
    let mut events = stream(&bus, "*", 0).await;
    ticks(&bus, 0..2).await;
    assert_eq!(waiting(&mut events), ["lagged 1", "1"]);
}

// What a bad subscriber can do to others.

#[actix::test]
async fn a_blocked_subscriber_delays_nobody() {
    let actors = start();
    let (subscriber, mut hold) = holding();
    let blocked = subscribe(&actors.bus, "*", subscriber).await;
    let (trace, mut events) = (Trace::default(), stream(&actors.bus, "task.*", 100).await);
    let other = subscribe(&actors.bus, "task.*", noting(&trace)).await;
    emit(&actors.bus, tick(0)).await;
    assert_eq!(hold.called().await, "0");

    assert_eq!(execute(&actors.orchestrator, two_steps()).await, ["x", "y"]);
    assert_eq!(next(&mut events, 4).await, TASKS);
    blocked.end();
    flush(&actors.bus).await;
    assert_eq!(trace.all(), TASKS);
    drop(hold.release);
    assert_eq!(soon(hold.called.recv()).await, None);
    assert_eq!((blocked.failures(), other.missed()), (0, 0));
}

#[actix::test]
async fn a_bus_full_of_blocked_subscribers_leaves_threads_for_the_steps() {
    let (actors, mut holds) = (start(), Vec::new());
    for _ in 0..MAX_SUBSCRIPTIONS {
        let (subscriber, hold) = holding();
        subscribe(&actors.bus, "app.*", subscriber).await;
        holds.push(hold);
    }
    emit(&actors.bus, tick(0)).await;
    for hold in &mut holds {
        assert_eq!(hold.called().await, "0");
    }
    assert_eq!(soon(execute(&actors.orchestrator, two_steps())).await, ["x", "y"]);
}

#[actix::test]
async fn an_async_subscriber_that_never_returns_delays_nobody() {
    let (actors, trace) = (start(), Trace::default());
    subscribe(&actors.bus, "*", |_: Event| pending::<()>()).await;
    let mut events = stream(&actors.bus, "task.*", 100).await;
    emit(&actors.bus, tick(0)).await;
    let other = subscribe(&actors.bus, "task.*", noting(&trace)).await;
    assert_eq!(execute(&actors.orchestrator, two_steps()).await, ["x", "y"]);
    assert_eq!(next(&mut events, 4).await, TASKS);
    tokio::time::pause();
    assert_eq!(actors.bus.send(Flush::default()).await.unwrap().unwrap_err().subscribers, 1);
    assert_eq!((trace.all(), other.missed()), (TASKS.map(str::to_owned).to_vec(), 0));
}

/// An actor that is held at every event.
struct HeldActor(Held);

impl Actor for HeldActor {
    type Context = Context<Self>;
}

impl Handler<Event> for HeldActor {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        self.0.wait(&event).unwrap();
    }
}

#[actix::test]
async fn an_actor_that_blocks_its_own_arbiter_delays_nobody() {
    let (actors, arbiter) = (start(), Arbiter::new());
    let (held, mut hold) = hold();
    let listener = HeldActor::start_in_arbiter(&arbiter.handle(), |_| HeldActor(held));
    let blocked = subscribe(&actors.bus, "*", listener.recipient()).await;
    let mut events = stream(&actors.bus, "task.*", 100).await;
    emit(&actors.bus, tick(0)).await;
    assert_eq!(hold.called().await, "0");

    assert_eq!(execute(&actors.orchestrator, two_steps()).await, ["x", "y"]);
    assert_eq!(next(&mut events, 4).await, TASKS);
    drop(hold);
    flush(&actors.bus).await;
    assert!(blocked.is_active());
    arbiter.stop();
}

/// A subscriber that notes its calls and fails in each: the plan and another subscriber do not feel it, the failures are
/// counted, and it is called all the same.
async fn fails_alone<M>(calls: &Trace, failing: impl IntoSubscriber<M>) {
    let (actors, others) = (start(), Trace::default());
    let failing = subscribe(&actors.bus, "task.*", failing).await;
    let other = subscribe(&actors.bus, "task.*", noting(&others)).await;
    assert_eq!(execute(&actors.orchestrator, two_steps()).await, ["x", "y"]);
    flush(&actors.bus).await;
    assert_eq!(others.all(), TASKS);
    assert_eq!(calls.all(), TASKS);
    assert_eq!((failing.failures(), other.failures()), (4, 0));
    assert!(failing.is_active());
}

#[actix::test]
async fn a_subscriber_that_returns_errors_fails_alone() {
    let calls = Trace::default();
    let mut note = noting(&calls);
    let failing = move |event: Event| {
        note(event);
        Err("on purpose")
    };
    fails_alone(&calls, failing).await;
}

#[actix::test]
async fn an_async_subscriber_that_returns_errors_fails_alone() {
    let calls = Trace::default();
    let mut note = noting(&calls);
    let failing = move |event: Event| {
        note(event);
        async { Err(std::io::Error::other("on purpose")) }
    };
    fails_alone(&calls, failing).await;
}

#[actix::test]
async fn a_subscriber_that_panics_fails_alone() {
    let calls = Trace::default();
    let mut note = noting(&calls);
    let failing = move |event: Event| -> () {
        note(event);
        panic!("on purpose");
    };
    fails_alone(&calls, failing).await;
}

#[actix::test]
async fn an_async_subscriber_that_panics_when_it_is_called_fails_alone() {
    let calls = Trace::default();
    let mut note = noting(&calls);
    let failing = move |event: Event| -> std::future::Ready<()> {
        note(event);
        panic!("on purpose");
    };
    fails_alone(&calls, failing).await;
}

async fn panic_later() {
    tokio::task::yield_now().await;
    panic!("on purpose");
}

#[actix::test]
async fn an_async_subscriber_that_panics_when_it_is_polled_fails_alone() {
    let calls = Trace::default();
    let mut note = noting(&calls);
    let failing = move |event: Event| {
        note(event);
        panic_later()
    };
    fails_alone(&calls, failing).await;
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        // A second panic while another unwinds would end the process, as Rust has it.
        if !std::thread::panicking() {
            panic!("on purpose");
        }
    }
}

/// A future that is ready at once and panics when it is dropped.
struct ReadyBomb {
    _bomb: Bomb,
}

impl Future for ReadyBomb {
    type Output = ();

    fn poll(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        std::task::Poll::Ready(())
    }
}

#[actix::test]
async fn an_async_subscriber_whose_future_panics_in_its_drop_fails_alone() {
    let calls = Trace::default();
    let mut note = noting(&calls);
    let failing = move |event: Event| {
        note(event);
        ReadyBomb { _bomb: Bomb }
    };
    fails_alone(&calls, failing).await;
}

#[actix::test]
async fn a_panic_whose_payload_panics_in_its_drop_fails_alone() {
    let calls = Trace::default();
    let mut note = noting(&calls);
    let failing = move |event: Event| -> () {
        note(event);
        std::panic::panic_any(Bomb);
    };
    fails_alone(&calls, failing).await;
}

/// An actor that is restarted at its first event, which it never answers, and is well from then on.
struct Restarted(Trace);

impl Actor for Restarted {
    type Context = Context<Self>;
}

impl Supervised for Restarted {}

impl Handler<Event> for Restarted {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, event: Event, ctx: &mut Self::Context) -> Self::Result {
        self.0.note(short(&event));
        if self.0.all().len() == 1 {
            ctx.stop();
            return Box::pin(pending::<()>().into_actor(self));
        }
        Box::pin(ready(()).into_actor(self))
    }
}

#[actix::test]
async fn a_supervised_actor_that_is_restarted_keeps_its_subscription_and_the_failure_is_counted() {
    let (bus, trace) = (EventBus::new().start(), Trace::default());
    let shared = trace.clone();
    let supervised = Supervisor::start(move |_| Restarted(shared));
    let subscription = subscribe(&bus, "app.*", supervised).await;
    ticks(&bus, 0..3).await;
    flush(&bus).await;
    assert_eq!(trace.all(), ["0", "1", "2"]);
    assert_eq!((subscription.failures(), subscription.is_active()), (1, true));
}

#[actix::test]
async fn an_actor_that_panics_is_unsubscribed_and_delays_nobody() {
    let (actors, trace) = (start(), Trace::default());
    let subscription = subscribe(&actors.bus, "*", Listener(trace.clone()).start()).await;
    emit(&actors.bus, Event::custom("app.panic", json!({}))).await;
    assert_eq!(execute(&actors.orchestrator, two_steps()).await, ["x", "y"]);
    flush(&actors.bus).await;
    assert_eq!(trace.all(), ["app.panic"]);
    assert!(!subscription.is_active());
}

#[actix::test]
async fn an_actor_that_panics_is_counted() {
    let bus = EventBus::new().start();
    let subscription = subscribe(&bus, "*", Listener(Trace::default()).start()).await;
    emit(&bus, Event::custom("app.panic", json!({}))).await;
    flush(&bus).await;
    assert_eq!(subscription.failures(), 1);
}

// Sharing.

#[actix::test]
async fn a_result_is_shared_by_the_store_and_all_subscribers_not_copied() {
    fn result_of(event: &Event) -> &Arc<Value> {
        match event.kind() {
            EventKind::TaskCompleted { result: Output::Json(value), .. } => value,
            other => panic!("{other:?}"),
        }
    }
    let (actors, (tell, mut told)) = (start(), unbounded_channel());
    let mut events = Vec::new();
    for _ in 0..3 {
        events.push(stream(&actors.bus, "task.completed", 10).await);
    }
    subscribe(&actors.bus, "task.completed", move |event: Event| tell.send(event).unwrap()).await;
    let plan = ExecutePlan::new([Step::new("a", || vec!["large"; 1_000])]).run_id("shared");
    execute(&actors.orchestrator, plan).await;

    let stored = actors.memory.send(GetOutputs(run_id("shared"))).await.unwrap().unwrap().unwrap();
    let Output::Json(stored) = &stored[0] else { panic!("{stored:?}") };
    assert!(Arc::ptr_eq(stored, result_of(&told.recv().await.unwrap())));
    for events in &mut events {
        assert!(Arc::ptr_eq(stored, result_of(&events.next().await.unwrap())));
    }
}

// Emit.

#[actix::test]
async fn an_application_emits_events_of_its_own() {
    let bus = EventBus::new().start();
    let mut events = stream(&bus, "billing.*", 10).await;
    let event = Event::custom("billing.done", json!({ "invoice": 17 }));
    emit(&bus, event.clone()).await;
    let got = events.next().await.unwrap();
    assert_eq!(got, event);
    assert_eq!((got.get("invoice"), got.seq(), got.run_id()), (Some(json!(17)), None, None));
}

#[actix::test]
async fn the_types_of_this_crate_cannot_be_emitted() {
    let bus = EventBus::new().start();
    let mut events = stream(&bus, "*", 10).await;
    for event_type in
        ["plan.completed", "task.x", "subscription.lagged", "breaker.x", "escalation.x", "signal.x"]
    {
        let refused = bus.send(Emit(Event::custom(event_type, json!({})))).await.unwrap();
        let reserved = InvalidEventType::Reserved { event_type: event_type.to_owned() };
        assert_eq!(refused, Err(EmitError::EventType(reserved)));
    }
    for event_type in ["planned", "tasks.x", "my.plan.x"] {
        emit(&bus, Event::custom(event_type, json!({}))).await;
    }
    assert_eq!(waiting(&mut events), ["planned", "tasks.x", "my.plan.x"]);
}

#[actix::test]
async fn an_emitted_event_has_no_place_in_the_sequence() {
    let bus = EventBus::new().start();
    let mut events = stream(&bus, "*", 10).await;
    let kind = tick(0).kind().clone();
    let forged = Event::stored(7, std::time::SystemTime::now(), run_id("not-a-run"), kind);
    let emitted = bus.send(Emit(forged)).await.unwrap();
    let delivered = events.next().now_or_never().flatten();
    assert!(emitted.is_err() || delivered.is_some_and(|event| event.seq().is_none()));
}

#[actix::test]
async fn a_malformed_type_cannot_be_emitted() {
    let bus = EventBus::new().start();
    let mut events = stream(&bus, "*", 10).await;
    let longest = "x".repeat(256);
    for (event_type, shown, fault) in [
        ("", "", IdFault::Empty),
        ("a\nb", "a\nb", IdFault::ControlCharacter { character: '\n', at: 1 }),
        (
            &format!("{longest}x"),
            &format!("{}…", &longest[..64]),
            IdFault::TooLong { bytes: 257, limit: 256 },
        ),
    ] {
        let refused = bus.send(Emit(Event::custom(event_type, json!({})))).await.unwrap();
        let malformed = InvalidEventType::Malformed { event_type: shown.to_owned(), fault };
        assert_eq!(refused, Err(EmitError::EventType(malformed)));
    }
    emit(&bus, Event::custom(longest.as_str(), json!({}))).await;
    assert_eq!(waiting(&mut events), [longest]);
}

#[actix::test]
async fn an_event_may_be_as_large_as_the_limit_and_no_larger() {
    let bus = EventBus::new().start();
    let mut events = stream(&bus, "*", 10).await;
    let size = |event: &Event| serde_json::to_vec(event).unwrap().len();
    let frame = size(&Event::custom("app.big", json!("")));
    let largest = Event::custom("app.big", json!("x".repeat(MAX_PAYLOAD_BYTES - frame)));
    let larger = Event::custom("app.big", json!("x".repeat(MAX_PAYLOAD_BYTES - frame + 1)));
    assert_eq!(size(&largest), MAX_PAYLOAD_BYTES);

    let refused = bus.send(Emit(larger)).await.unwrap();
    let (event_type, bytes) = ("app.big".to_owned(), MAX_PAYLOAD_BYTES + 1);
    assert_eq!(refused, Err(EmitError::TooLarge { event_type, bytes }));
    emit(&bus, largest.clone()).await;
    assert_eq!(events.next().await, Some(largest));
    assert_eq!(waiting(&mut events), [""; 0]);
}

// Flush.

#[actix::test]
async fn a_flush_waits_for_closures_and_actors() {
    let (bus, trace) = (EventBus::new().start(), Trace::default());
    let (subscriber, mut hold) = holding();
    subscribe(&bus, "app.*", subscriber).await;
    subscribe(&bus, "app.*", Listener(trace.clone()).start()).await;
    ticks(&bus, 0..2).await;
    let mut flushed = Box::pin(bus.send(Flush::within(PATIENCE)));
    assert_eq!(hold.called().await, "0");
    let_others_run().await;
    assert!(flushed.as_mut().now_or_never().is_none());
    hold.release_one();
    assert_eq!(hold.called().await, "1");
    let_others_run().await;
    assert!(flushed.as_mut().now_or_never().is_none());
    drop(hold);
    assert_eq!(flushed.await.unwrap(), Ok(()));
    assert_eq!(trace.all(), ["0", "1"]);
}

#[actix::test]
async fn a_flush_that_times_out_tells_how_many_subscribers_are_late() {
    tokio::time::pause();
    let (bus, trace) = (EventBus::new().start(), Trace::default());
    subscribe(&bus, "app.*", |_: Event| pending::<()>()).await;
    subscribe(&bus, "app.*", |_: Event| async { Ok::<(), String>(()) }).await;
    subscribe(&bus, "app.*", |_: Event| pending::<()>()).await;
    subscribe(&bus, "other.*", |_: Event| pending::<()>()).await;
    subscribe(&bus, "app.*", Listener(trace).start()).await;
    ticks(&bus, 0..1).await;
    let began = tokio::time::Instant::now();
    let late = bus.send(Flush::within(Duration::from_secs(3))).await.unwrap().unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 3);
    assert_eq!((late.subscribers, late.timeout), (2, Duration::from_secs(3)));
    assert_eq!(late.to_string(), "2 subscribers had not handled their events within 3s");
}

#[actix::test]
async fn a_flush_does_not_wait_for_streams() {
    let bus = EventBus::new().start();
    let mut unread = stream(&bus, "app.*", 10).await;
    ticks(&bus, 0..1).await;
    flush(&bus).await;
    assert_eq!(waiting(&mut unread), ["0"]);
}

#[actix::test]
async fn a_flush_does_not_wait_for_what_comes_after_it() {
    let bus = EventBus::new().start();
    let (subscriber, mut hold) = holding();
    subscribe(&bus, "app.*", subscriber).await;
    ticks(&bus, 0..1).await;
    let flushed = bus.send(Flush::within(PATIENCE));
    ticks(&bus, 1..2).await;
    assert_eq!(hold.called().await, "0");
    hold.release_one();
    assert_eq!(hold.called().await, "1");
    assert_eq!(flushed.await.unwrap(), Ok(()));
}

#[actix::test]
async fn a_flush_waits_for_a_failing_subscriber_like_for_any_other() {
    let bus = EventBus::new().start();
    let failing = subscribe(&bus, "app.*", |_: Event| -> () { panic!("on purpose") }).await;
    ticks(&bus, 0..100).await;
    flush(&bus).await;
    assert_eq!(failing.failures(), 100);
}

#[actix::test]
async fn several_flushes_are_all_answered() {
    let bus = EventBus::new().start();
    let (subscriber, mut hold) = holding();
    subscribe(&bus, "app.*", subscriber).await;
    ticks(&bus, 0..1).await;
    let flushes = [(); 3].map(|()| bus.send(Flush::within(100 * PATIENCE)));
    hold.called().await;
    let_others_run().await;
    drop(hold);
    for flushed in flushes {
        assert_eq!(soon(flushed).await.unwrap(), Ok(()));
    }
}

#[actix::test]
async fn a_flush_waits_for_the_call_under_way_also_when_later_events_overflow() {
    let bus = EventBus::new().start();
    let ((first, mut first_hold), (second, mut second_hold)) = (holding(), holding());
    subscribe(&bus, "app.*", first).await;
    bus.send(Subscribe::new("app.*", second).capacity(1)).await.unwrap().unwrap();
    ticks(&bus, 0..1).await;
    assert_eq!((first_hold.called().await, second_hold.called().await), ("0".to_owned(), "0".to_owned()));
    let mut flushed = Box::pin(bus.send(Flush::within(PATIENCE)));
    ticks(&bus, 1..3).await;
    first_hold.release_one();
    assert_eq!(first_hold.called().await, "1");
    let_others_run().await;
    assert!(flushed.as_mut().now_or_never().is_none(), "the second subscriber still handles event 0");
}

#[actix::test]
async fn a_flush_waits_for_the_last_event_also_when_a_lagged_event_comes_first() {
    let bus = EventBus::new().start();
    let (subscriber, mut hold) = holding();
    bus.send(Subscribe::new("app.*", subscriber).capacity(2)).await.unwrap().unwrap();
    ticks(&bus, 0..1).await;
    assert_eq!(hold.called().await, "0");
    ticks(&bus, 1..4).await;
    let mut flushed = Box::pin(bus.send(Flush::within(PATIENCE)));
    for expected in ["lagged 1", "2", "3"] {
        hold.release_one();
        assert_eq!(hold.called().await, expected);
    }
    let_others_run().await;
    assert!(flushed.as_mut().now_or_never().is_none(), "the subscriber still handles event 3");
}

// The end of a bus.

#[actix::test]
async fn a_stream_ends_after_what_was_queued_when_the_bus_stopped() {
    let bus = EventBus::new().start();
    let mut events = stream(&bus, "app.*", 2).await;
    ticks(&bus, 0..3).await;
    drop(bus);
    let_others_run().await;
    let rest: Vec<String> = soon(events.by_ref().map(|event| short(&event)).collect()).await;
    assert_eq!(rest, ["lagged 1", "1", "2"]);
    assert_eq!(events.next().await, None);
}

#[actix::test]
async fn a_stream_that_waits_ends_when_the_bus_stops() {
    let bus = EventBus::new().start();
    let mut events = stream(&bus, "app.*", 10).await;
    let reader = actix::spawn(async move { events.next().await });
    let_others_run().await;
    drop(bus);
    assert_eq!(soon(reader).await.unwrap(), None);
}

#[actix::test]
async fn a_closure_still_gets_what_was_queued_when_the_bus_stopped() {
    let (bus, trace) = (EventBus::new().start(), Trace::default());
    let (mut held, mut hold) = hold();
    let noted = trace.clone();
    let subscriber = move |event: Event| {
        noted.note(short(&event));
        held.wait(&event)
    };
    let subscription = subscribe(&bus, "app.*", subscriber).await;
    ticks(&bus, 0..1).await;
    hold.called().await;
    ticks(&bus, 1..3).await;
    drop(bus);
    let_others_run().await;
    drop(hold.release);
    while soon(hold.called.recv()).await.is_some() {}
    assert_eq!(trace.all(), ["0", "1", "2"]);
    assert!(!subscription.is_active());
}

#[actix::test]
async fn a_stream_ends_when_the_whole_arbiter_of_its_bus_stops() {
    let arbiter = Arbiter::new();
    let bus = EventBus::start_in_arbiter(&arbiter.handle(), |_| EventBus::new());
    let mut events = stream(&bus, "app.*", 10).await;
    ticks(&bus, 0..1).await;
    arbiter.stop();
    arbiter.join().unwrap();
    assert_eq!(events.next().await.as_ref().map(short).as_deref(), Some("0"));
    assert_eq!(soon(events.next()).await, None);
}

// A bus that is far behind.

/// A bus on an arbiter of its own whose thread is held by an async subscriber that blocks, and a stream of everything.
struct HeldBus {
    bus: Addr<EventBus>,
    events: EventStream,
    hold: Hold,
    arbiter: Arbiter,
}

impl HeldBus {
    async fn start() -> Self {
        let arbiter = Arbiter::new();
        let bus = EventBus::start_in_arbiter(&arbiter.handle(), |_| EventBus::new());
        let mut events = watch(&bus).await;
        let (mut held, mut hold) = hold();
        subscribe(&bus, "app.*", move |event: Event| ready(held.wait(&event))).await;
        emit(&bus, tick(0)).await;
        assert_eq!(hold.called().await, "0");
        assert_eq!(next(&mut events, 1).await, ["app.tick"]);
        Self { bus, events, hold, arbiter }
    }

    /// Lets the bus go on.
    fn release(self) -> (Addr<EventBus>, EventStream, Arbiter) {
        drop(self.hold);
        (self.bus, self.events, self.arbiter)
    }
}

/// A plan with more commits than may wait for a bus.
fn long_plan() -> (ExecutePlan, u64) {
    let steps = PUBLISH_BACKLOG + 500;
    let plan = ExecutePlan::new((0..steps).map(|_| Step::unnamed(|| ()).inline()).collect::<Vec<_>>());
    // Accepted, started and completed, and two of each step.
    (plan, 3 + 2 * steps as u64)
}

/// Reads stored events until `total` are seen or told as missed: the numbers seen, and the sum of the missed.
async fn account(events: &mut EventStream, total: u64) -> (Vec<u64>, u64) {
    let (mut seen, mut lost) = (Vec::new(), 0);
    while seen.len() as u64 + lost < total {
        let event = soon(events.next()).await.unwrap();
        match event.kind() {
            EventKind::SubscriptionLagged { missed } => lost += missed,
            _ => seen.push(event.seq().unwrap()),
        }
    }
    (seen, lost)
}

/// Reads events up to number `total`, and checks that those which are missing are told just before the next.
async fn follow(events: &mut EventStream, total: u64) {
    let mut expected = 1;
    while expected <= total {
        let event = soon(events.next()).await.unwrap();
        match event.kind() {
            EventKind::SubscriptionLagged { missed } => expected += missed,
            _ => {
                assert_eq!(event.seq(), Some(expected));
                expected += 1;
            }
        }
    }
    assert_eq!(expected, total + 1);
}

#[actix::test]
async fn a_bus_that_is_far_behind_delays_no_plan_and_accounts_for_a_gap_at_the_end() {
    let held = HeldBus::start().await;
    let orchestrator = orchestrate(&held.bus, &ProjectMemory::in_memory().start());
    let (plan, total) = long_plan();
    execute(&orchestrator, plan).await;
    let (bus, mut events, arbiter) = held.release();
    let (seen, missed) = account(&mut events, total).await;
    assert!(seen.is_sorted_by(|a, b| a < b));
    assert!(missed > 0, "the plan was not long enough");
    assert_eq!((seen.len() as u64 + missed, events.missed()), (total, missed));
    flush(&bus).await;
    assert_eq!(waiting(&mut events), [""; 0]);
    arbiter.stop();
}

#[actix::test]
async fn events_that_follow_a_gap_are_not_counted_as_missed() {
    let held = HeldBus::start().await;
    let orchestrator = orchestrate(&held.bus, &ProjectMemory::in_memory().start());
    let (plan, total) = long_plan();
    execute(&orchestrator, plan).await;
    let (bus, mut events, arbiter) = held.release();
    flush(&bus).await;
    execute(&orchestrator, two_steps()).await;
    let (seen, missed) = account(&mut events, total + 7).await;
    assert!(seen.is_sorted_by(|a, b| a < b) && missed > 0);
    assert_eq!(seen[seen.len() - 7..], (total + 1..=total + 7).collect::<Vec<_>>());
    assert_eq!(seen.len() as u64 + missed, total + 7);
    arbiter.stop();
}

#[actix::test]
async fn a_gap_is_told_to_subscribers_of_any_pattern() {
    let held = HeldBus::start().await;
    // It waits in the mailbox before all events of the plan.
    let narrow = held.bus.send(SubscribeStream::new("nothing.at.all"));
    let orchestrator = orchestrate(&held.bus, &ProjectMemory::in_memory().start());
    let (plan, total) = long_plan();
    execute(&orchestrator, plan).await;
    let (_bus, mut events, arbiter) = held.release();
    let mut narrow = narrow.await.unwrap().unwrap();
    let told = soon(narrow.next()).await.unwrap();
    let (_, missed) = account(&mut events, total).await;
    assert_eq!(short(&told), format!("lagged {missed}"));
    arbiter.stop();
}

#[actix::test]
async fn a_gap_is_told_just_before_the_event_that_follows_it() {
    let held = HeldBus::start().await;
    let narrow = held.bus.send(SubscribeStream::new("nothing.at.all"));
    let orchestrator = orchestrate(&held.bus, &ProjectMemory::in_memory().start());
    let (plan, total) = long_plan();
    execute(&orchestrator, plan).await;
    let (_bus, mut events, arbiter) = held.release();
    // Once this one is told of the gap, the other has it in its queue, behind all events that came before.
    soon(narrow.await.unwrap().unwrap().next()).await;
    follow(&mut events, total).await;
    arbiter.stop();
}

/// The events behind the gap push out some of those before it, or all of those and the gap's own mark.
#[actix::test]
async fn a_gap_and_an_overflow_are_counted_together() {
    for steps in [0, 30, 60] {
        let held = HeldBus::start().await;
        let small = held.bus.send(SubscribeStream::new("*").capacity(100));
        let narrow = held.bus.send(SubscribeStream::new("nothing.at.all"));
        let orchestrator = orchestrate(&held.bus, &ProjectMemory::in_memory().start());
        let (plan, total) = long_plan();
        execute(&orchestrator, plan).await;
        let (bus, _events, arbiter) = held.release();
        soon(narrow.await.unwrap().unwrap().next()).await;
        let more: Vec<Step> = (0..steps).map(|_| Step::unnamed(|| ()).inline()).collect();
        execute(&orchestrator, ExecutePlan::new(more)).await;
        flush(&bus).await;
        let (mut small, total) = (small.await.unwrap().unwrap(), total + 3 + 2 * steps);
        follow(&mut small, total).await;
        assert_eq!(waiting(&mut small), [""; 0]);
        assert!(small.missed() > total - 101);
        arbiter.stop();
    }
}

#[actix::test]
async fn progress_that_overtakes_the_bus_is_dropped_and_the_rest_keeps_its_order() {
    let held = HeldBus::start().await;
    let orchestrator = orchestrate(&held.bus, &ProjectMemory::in_memory().start());
    let report = |ctx: StepContext| {
        for n in 0..PROGRESS_BACKLOG + 100 {
            ctx.progress(json!(n)).unwrap();
        }
    };
    execute(&orchestrator, ExecutePlan::new([Step::new("a", report)])).await;
    let (_bus, mut events, arbiter) = held.release();
    let seen = until(&mut events, "plan.completed").await;
    let reported: Vec<Value> = seen.iter().filter_map(|event| event.get("value")).collect();
    assert_eq!(reported, (0..PROGRESS_BACKLOG).collect::<Vec<_>>());
    assert_eq!((seen.len(), events.missed()), (5 + PROGRESS_BACKLOG, 0));
    arbiter.stop();
}

// Several memories, several buses.

#[actix::test]
async fn two_memories_feed_one_bus() {
    let bus = EventBus::new().start();
    let mut events = watch(&bus).await;
    let first = orchestrate(&bus, &ProjectMemory::in_memory().start());
    let second = orchestrate(&bus, &ProjectMemory::in_memory().start());
    for n in 0..3 {
        execute(&first, two_steps().run_id(format!("first-{n}"))).await;
        execute(&second, two_steps().run_id(format!("second-{n}"))).await;
    }
    flush(&bus).await;
    assert_eq!(events.missed(), 0);
    let seen: Vec<Event> = std::iter::from_fn(|| events.next().now_or_never().flatten()).collect();
    for memory in ["first-", "second-"] {
        let of_memory = seen.iter().filter(|event| event.run_id().unwrap().as_str().starts_with(memory));
        assert_eq!(
            of_memory.map(|event| event.seq().unwrap()).collect::<Vec<_>>(),
            (1..=21).collect::<Vec<_>>()
        );
    }
    assert_eq!(seen.len(), 42);
}

#[actix::test]
async fn memories_of_one_bus_are_counted_apart() {
    let (bus, other) = (EventBus::new().start(), EventBus::new().start());
    let mut events = watch(&bus).await;
    // This one has a history that the bus has not seen, and that it would take for a gap in the events of the other.
    let old = ProjectMemory::in_memory().start();
    execute(&orchestrate(&other, &old), two_steps()).await;
    execute(&orchestrate(&bus, &ProjectMemory::in_memory().start()), ExecutePlan::new([])).await;
    execute(&orchestrate(&bus, &old), ExecutePlan::new([])).await;
    flush(&bus).await;
    let seen = std::iter::from_fn(|| events.next().now_or_never().flatten());
    assert_eq!(seen.map(|event| event.seq()).collect::<Vec<_>>(), [1, 2, 3, 8, 9, 10].map(Some));
}

#[actix::test]
async fn a_memory_that_is_attached_twice_publishes_once() {
    let (bus, memory) = (EventBus::new().start(), ProjectMemory::in_memory().start());
    let mut events = stream(&bus, "task.*", 100).await;
    let _other = orchestrate(&bus, &memory);
    memory.send(Attach(bus.clone().recipient())).await.unwrap();
    execute(&orchestrate(&bus, &memory), two_steps()).await;
    flush(&bus).await;
    assert_eq!(waiting(&mut events), TASKS);
}

#[actix::test]
async fn a_memory_feeds_several_buses() {
    let (first, second) = (EventBus::new().start(), EventBus::new().start());
    let memory = ProjectMemory::in_memory().start();
    let mut streams = [stream(&first, "task.*", 100).await, stream(&second, "task.*", 100).await];
    memory.send(Attach(second.clone().recipient())).await.unwrap();
    execute(&orchestrate(&first, &memory), two_steps()).await;
    flush(&first).await;
    flush(&second).await;
    for events in &mut streams {
        assert_eq!(waiting(events), TASKS);
    }
}

#[actix::test]
async fn a_bus_that_is_attached_late_has_missed_nothing() {
    let (early, late) = (EventBus::new().start(), EventBus::new().start());
    let memory = ProjectMemory::in_memory().start();
    let orchestrator = orchestrate(&early, &memory);
    execute(&orchestrator, two_steps()).await;
    let mut events = watch(&late).await;
    memory.send(Attach(late.clone().recipient())).await.unwrap();
    execute(&orchestrator, ExecutePlan::new([])).await;
    flush(&late).await;
    assert_eq!(waiting(&mut events), ["plan.accepted", "plan.started", "plan.completed"]);
}
