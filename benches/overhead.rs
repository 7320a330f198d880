//! What a step costs, as ratios against floors that are measured in the same run.
//!
//! `cargo bench` prints a table. The two sides of a ratio take turns, round by round, so that a machine that changes its
//! speed changes both.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark prints its table, and one that cannot run should stop"
)]

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix::prelude::*;
use lunacore::{
    Breaker, Engine, Event, EventKind, ExecutePlan, OnFailure, Plan, PlanStatus, Retry, RunId, Step,
};
use serde_json::Value;

const ROUNDS: usize = 15;
const STEPS: usize = 10_000;

fn main() {
    if std::env::args().any(|arg| arg == "--peak-memory") {
        System::new().block_on(run_wide_plan());
        return;
    }
    println!("| measure | fastest rounds | median round | goal |");
    println!("|---|---|---|---|");
    System::new().block_on(async {
        let ask = || async { ask_floor(STEPS).await };
        let plain = || async { plain_floor(STEPS).await };
        let step = || async { plans(1, STEPS, 1).await };
        row("a step / one ask", 6.0, step, ask).await;
        row("a step / the plain loop", 4.0, step, plain).await;
        row("N = 100,000 / N = 1,000", 1.3, || plans(1, 100_000, 1), || plans(1, 1_000, 1)).await;
        let in_turn = || plans_in_turn(1_000, 10);
        row("1,000 plans queued at once / in turn", 1.5, || plans_at_once(1_000, 1, 10, 1), in_turn).await;
        row("1,000 plans running at once / in turn", 1.5, || plans(1_000, 10, 1), in_turn).await;
        row("1,000 plans in turn / one of 10,000 steps", f64::NAN, in_turn, step).await;
        let (careful, bare) = (|| careful_plan(STEPS, true), || careful_plan(STEPS, false));
        row("a step with a full policy / a bare one", 1.25, careful, bare).await;
        row("10 subscribers / one", 3.5, || plans(1, STEPS, 10), step).await;
        println!(
            "\nfor scale: {:.0} ns an ask, {:.0} ns the plain loop, {:.0} ns a step",
            ask().await,
            plain().await,
            step().await
        );
        let p99 = status_p99().await;
        println!("PlanStatus while async steps run: p99 {p99:?} (goal: at most 1 ms)");
    });
    println!("peak memory of 100,000 steps with 100-byte results: {}", peak_memory());
}

/// Prints the ratio of two costs, measured in turns: of their fastest rounds, which a busy machine disturbs least, and
/// the median of the ratios round by round.
async fn row<A, B>(name: &str, goal: f64, a: impl Fn() -> A, b: impl Fn() -> B)
where
    A: Future<Output = f64>,
    B: Future<Output = f64>,
{
    let (mut fastest_a, mut fastest_b, mut ratios) = (f64::MAX, f64::MAX, Vec::new());
    for round in 0..=ROUNDS {
        let (a, b) = (a().await, b().await);
        // The first round warms up.
        if round > 0 {
            (fastest_a, fastest_b) = (fastest_a.min(a), fastest_b.min(b));
            ratios.push(a / b);
        }
    }
    ratios.sort_by(f64::total_cmp);
    let (fastest, median) = (fastest_a / fastest_b, ratios[ROUNDS / 2]);
    let goal = if goal.is_nan() { "told only".to_owned() } else { format!("≤ {goal}") };
    println!("| {name} | {fastest:.2} | {median:.2} | {goal} |");
}

fn per(began: Instant, count: usize) -> f64 {
    began.elapsed().as_nanos() as f64 / count as f64
}

struct Echo;
impl Actor for Echo {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "u64")]
struct Ask(u64);

impl Handler<Ask> for Echo {
    type Result = u64;
    fn handle(&mut self, Ask(value): Ask, _: &mut Self::Context) -> u64 {
        value
    }
}

/// Nanoseconds for one question to an actor on the same arbiter.
async fn ask_floor(asks: usize) -> f64 {
    let echo = Echo.start();
    // In a task of its own, as a run is: the main future is woken in a slower way.
    let asking = actix::spawn(async move {
        let began = Instant::now();
        for value in 0..asks as u64 {
            assert_eq!(echo.send(Ask(value)).await, Ok(value));
        }
        per(began, asks)
    });
    asking.await.unwrap()
}

/// What the plain loop keeps of a result: the fields of an artifact.
#[allow(dead_code, reason = "written only")]
struct Kept {
    id: uuid::Uuid,
    version: u64,
    created_at: SystemTime,
    step: (usize, Arc<str>),
    run_id: RunId,
    text: String,
}

/// Nanoseconds a step for the same work without actors: call, string form, insert of the artifact into a map, and two
/// broadcasts of the events, which one subscriber receives.
async fn plain_floor(steps: usize) -> f64 {
    type Called = Pin<Box<dyn Future<Output = Value>>>;
    fn boxed() -> Box<dyn Fn() -> Called> {
        Box::new(|| Box::pin(async { Value::from("x") }))
    }
    let calls: Vec<(Arc<str>, _)> = (0..steps).map(|n| (Arc::from(format!("step_{n}")), boxed())).collect();
    let (run_id, [started, completed]) = (RunId::random(), events_of_a_step().await);
    let (send, mut receive) = tokio::sync::broadcast::channel::<Event>(1_024);
    let (mut artifacts, mut results, mut seq) = (HashMap::new(), Vec::new(), 0);
    let began = Instant::now();
    for (index, (step_id, call)) in calls.iter().enumerate() {
        let mut broadcast = |kind| {
            seq += 1;
            send.send(Event::stored(seq, SystemTime::now(), run_id.clone(), kind)).unwrap();
        };
        broadcast(started.clone());
        let value = call().await;
        let (id, created_at) = (uuid::Uuid::from_u128(fastrand::u128(..)), SystemTime::now());
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let step = (index, Arc::clone(step_id));
        let kept = Kept { id, version: 1, created_at, step, run_id: run_id.clone(), text };
        artifacts.insert(format!("task:{step_id}"), vec![kept]);
        broadcast(completed.clone());
        results.push(value);
        while receive.try_recv().is_ok() {}
    }
    let cost = per(began, steps);
    assert_eq!((artifacts.len(), results.len()), (steps, steps));
    cost
}

/// What the two events of a step say, as the orchestrator makes them.
async fn events_of_a_step() -> [EventKind; 2] {
    let engine = Engine::builder().start().unwrap();
    let mut events = engine.subscribe_stream("task.*").await.unwrap();
    engine.execute(plan(1)).await.unwrap();
    [events.next().await.unwrap().kind().clone(), events.next().await.unwrap().kind().clone()]
}

fn plan(steps: usize) -> Plan {
    (0..steps).map(|_| Step::unnamed(|| async { "x" })).collect()
}

/// Nanoseconds a step of one plan, the steps of which have all of a policy, and need none of it; or of the same
/// steps without.
async fn careful_plan(steps: usize, has_policy: bool) -> f64 {
    let engine = Engine::builder().breaker(Breaker::new("b")).start().unwrap();
    engine.subscribe("*", |_: Event| async {}).await.unwrap();
    let careful = |step: Step| {
        let retry =
            Retry::exponential(Duration::from_secs(1)).max_attempts(5).on_timeout(true).on_panic(true);
        step.retry(retry)
            .timeout(Duration::from_secs(60))
            .total_timeout(Duration::from_secs(600))
            .breaker("b")
            .on_failure(OnFailure::Continue)
            .escalate_on_failure()
    };
    let step = || Step::unnamed(|| async { "x" });
    let step = || if has_policy { careful(step()) } else { step() };
    let plan = ExecutePlan::new((0..steps).map(|_| step()).collect::<Plan>());
    let plan = if has_policy { plan.deadline(Duration::from_secs(3_600)) } else { plan };
    let began = Instant::now();
    assert_eq!(engine.execute(plan).await.unwrap().len(), steps);
    per(began, steps)
}

/// Nanoseconds a step: that many plans of so many trivial async steps running at once, all actors on one arbiter.
async fn plans(count: usize, steps: usize, subscribers: usize) -> f64 {
    plans_at_once(count, count, steps, subscribers).await
}

/// The same, but only so many of them run at a time.
async fn plans_at_once(count: usize, running: usize, steps: usize, subscribers: usize) -> f64 {
    let engine = Engine::builder().max_concurrent_plans(running).start().unwrap();
    let mut receivers = Vec::new();
    for _ in 0..subscribers {
        let mut events = engine.subscribe_stream("task.*").await.unwrap();
        receivers.push(actix::spawn(async move {
            let mut seen = 0;
            while let Some(event) = events.next().await {
                assert!(event.task_id().is_some(), "the subscriber keeps up");
                seen += 1;
                if seen == 2 * count * steps {
                    return;
                }
            }
        }));
    }
    let messages: Vec<_> = (0..count).map(|_| ExecutePlan::new(plan(steps))).collect();
    let began = Instant::now();
    let answers: Vec<_> = messages.into_iter().map(|message| engine.orchestrator().send(message)).collect();
    for answer in answers {
        assert_eq!(answer.await.unwrap().unwrap().len(), steps);
    }
    for receiver in receivers {
        receiver.await.unwrap();
    }
    per(began, count * steps)
}

/// Nanoseconds a step of as many plans, each sent when the one before has ended.
async fn plans_in_turn(count: usize, steps: usize) -> f64 {
    let engine = Engine::builder().start().unwrap();
    let mut events = engine.subscribe_stream("task.*").await.unwrap();
    let receiver = actix::spawn(async move {
        for _ in 0..2 * count * steps {
            assert!(events.next().await.unwrap().task_id().is_some(), "the subscriber keeps up");
        }
    });
    let messages: Vec<_> = (0..count).map(|_| ExecutePlan::new(plan(steps))).collect();
    let began = Instant::now();
    for message in messages {
        assert_eq!(engine.execute(message).await.unwrap().len(), steps);
    }
    receiver.await.unwrap();
    per(began, count * steps)
}

async fn status_p99() -> Duration {
    let engine = Engine::builder().start().unwrap();
    let run_id: RunId = "busy".parse().unwrap();
    let steps = (0..50_000).map(|_| {
        Step::unnamed(|| async {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        })
    });
    let run = engine.submit(ExecutePlan::new(steps.collect::<Plan>()).run_id(run_id.as_str())).await.unwrap();
    let mut times = Vec::new();
    for _ in 0..2_000 {
        let began = Instant::now();
        engine.orchestrator().send(PlanStatus(run_id.clone())).await.unwrap().unwrap();
        times.push(began.elapsed());
    }
    let still = engine.status(&run_id).await.unwrap();
    assert!(!still.state.is_final(), "the steps ended before the questions did");
    engine.cancel(&run_id).await.unwrap();
    assert!(run.await.is_err());
    times.sort();
    times[times.len() * 99 / 100]
}

async fn run_wide_plan() {
    let engine = Engine::builder().start().unwrap();
    let mut events = engine.subscribe_stream("*").await.unwrap();
    actix::spawn(async move { while events.next().await.is_some() {} });
    let steps = (0..100_000).map(|_| Step::unnamed(|| async { "0123456789".repeat(10) }));
    let results = engine.execute(steps.collect::<Plan>()).await.unwrap();
    assert_eq!(results.len(), 100_000);
}

/// What the operating system says of a process that does nothing else.
fn peak_memory() -> String {
    let own = std::env::current_exe().unwrap();
    let mut child = std::process::Command::new(own).arg("--peak-memory").spawn().unwrap();
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak = None;
    while child.try_wait().unwrap().is_none() {
        if let Ok(status) = std::fs::read_to_string(&status_file) {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
            peak = peak.max(kib);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    match peak {
        Some(kib) => format!("{} MB (goal: at most 150)", kib * 1_024 / 1_000_000),
        None => "not known on this operating system".to_owned(),
    }
}
