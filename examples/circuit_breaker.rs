//! A service that is down: after two failures its breaker opens, and plans that need it stand aside, so that others run.
//! When a probe succeeds, they go on.
//!
//! `cargo run --example circuit_breaker`

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lunacore::{
    Breaker, Breakers, CircuitState, Engine, Event, ExecutePlan, Plan, Retry, RunState, Shutdown, Step,
};

fn charge(id: &str, is_up: &Arc<AtomicBool>, calls: &Arc<AtomicUsize>) -> ExecutePlan {
    let (is_up, calls) = (Arc::clone(is_up), Arc::clone(calls));
    let call = move || {
        calls.fetch_add(1, Ordering::SeqCst);
        let answer = if is_up.load(Ordering::SeqCst) { Ok("paid") } else { Err("connection refused") };
        async move { answer }
    };
    let step = Step::new("charge", call)
        .breaker("payments")
        .retry(Retry::fixed(Duration::from_millis(10)).max_attempts(5));
    ExecutePlan::new(Plan::new([step])).run_id(id)
}

fn print(event: &Event) {
    let who = event.run_id().map_or("-", |run_id| run_id.as_str());
    if !matches!(event.event_type(), "plan.accepted" | "plan.started") {
        println!("{who}: {event}");
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let breaker = Breaker::new("payments").failures(2).open_for(Duration::from_secs(1));
    // One plan at a time, so that one that only waits would be in the way.
    let engine = Engine::builder().breaker(breaker).start()?;
    engine.subscribe("*", |event: Event| print(&event)).await?;

    let (is_up, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let first = engine.submit(charge("first", &is_up, &calls)).await?;
    let second = engine.submit(charge("second", &is_up, &calls)).await?;
    // Needs no payments, and is not kept waiting by those who do.
    let report = ExecutePlan::new([Step::new("report", || async { "done" })]).run_id("report");
    assert_eq!(engine.execute(report).await?, ["done"]);

    assert_eq!(engine.status(first.run_id()).await?.state, RunState::Parked);
    assert_eq!(engine.breakers(Breakers::List).await?[0].state, CircuitState::Open);
    assert_eq!(calls.load(Ordering::SeqCst), 2, "the service is left alone");

    is_up.store(true, Ordering::SeqCst);
    engine.flush(Duration::from_secs(5)).await?;
    println!("-- the service is up again");
    assert_eq!(first.await?, ["paid"]);
    assert_eq!(second.await?, ["paid"]);
    assert_eq!(calls.load(Ordering::SeqCst), 4);

    engine.shutdown(Shutdown::drain(Duration::from_secs(5))).await;
    Ok(())
}
