//! Uses lunacore from a program that runs on tokio alone: the engine gets a thread of its own, and its handle works
//! from every task.
//!
//! `cargo run --example from_tokio`

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::time::Duration;

use lunacore::{Engine, EngineError, Shutdown, Step, StepContext, StepError};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;

fn square(ctx: StepContext) -> Result<u64, StepError> {
    let number: u64 = ctx.input()?;
    Ok(number * number)
}

/// Holds a step until we open it, as a slow server would.
static GATE: Notify = Notify::const_new();

async fn wait() {
    GATE.notified().await;
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();

    // `start` puts the actors on the current thread, and needs an actix system there.
    let error = Engine::builder().start().err().ok_or("there is no actix system here")?;
    println!("start: {error}");
    assert!(matches!(error, EngineError::NoSystem));

    // `spawn` brings its own.
    let engine = Engine::spawn()?;

    // A clone of the handle for each task; the plans of all of them share one queue.
    let mut tasks = JoinSet::new();
    for number in 1..=4_u64 {
        let engine = engine.clone();
        tasks.spawn(async move { engine.execute([Step::new("square", square).input(json!(number))]).await });
    }
    let mut squares = Vec::new();
    while let Some(results) = tasks.join_next().await {
        squares.extend(results??.iter().filter_map(Value::as_u64));
    }
    // Tasks finish in any order.
    squares.sort_unstable();
    println!("squares: {squares:?}");
    assert_eq!(squares, [1, 4, 9, 16]);

    // A plan that is still in flight when we shut down.
    let run = engine.submit([Step::new("wait", wait), Step::new("last", || "done")]).await?;

    // With `drain`, what was accepted is finished first.
    let shutdown = Shutdown { drain: true, timeout: Duration::from_secs(10) };
    let (report, ()) = tokio::join!(engine.shutdown(shutdown), async { GATE.notify_one() });
    println!("shutdown: {report:?}");
    assert_eq!((report.completed, report.failed, report.cancelled, report.interrupted), (1, 0, 0, 0));
    assert_eq!(run.await?, [json!(null), json!("done")]);

    // Afterwards the handle answers with an error; it does not hang.
    let refused = engine.execute([Step::new("late", || "never")]).await;
    println!("afterwards: {}", refused.err().ok_or("the engine has stopped")?);
    Ok(())
}
