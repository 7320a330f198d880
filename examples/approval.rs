//! A refund that somebody has to approve, and that cools down before it is paid. Nobody decides before the program ends; the next
//! process waits where the first one did.
//!
//! `cargo run --example approval [STORE]`

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use lunacore::{
    Engine, Event, EventKind, ExecutePlan, OnFailure, ProjectMemory, RegistryAllocator, RunId, RunState,
    Shutdown, Signal, Step, StepContext, StepError,
};
use serde_json::{Value, json};

const COOL_DOWN: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(5);

/// The program: what its steps do, and where it keeps what they did.
async fn start(store: &Path) -> Result<Engine, Box<dyn Error>> {
    let allocator = RegistryAllocator::new()
        .register("request", |ctx: StepContext| async move { ctx.input::<String>() })
        .register("nobody", || async { json!({ "approved": false, "by": "nobody" }) })
        .register("act", act);
    let engine = Engine::builder().memory(ProjectMemory::open(store)?).allocator(allocator).start()?;
    engine.subscribe("*", tell).await?;
    Ok(engine)
}

async fn act(ctx: StepContext) -> Result<String, StepError> {
    let (refund, decision): (String, Value) = (ctx.output("request")?, ctx.output("decide")?);
    let by = decision["by"].as_str().unwrap_or_default();
    Ok(format!("{refund}: {} by {by}", if decision["approved"] == true { "approved" } else { "refused" }))
}

fn tell(event: Event) {
    match event.kind() {
        EventKind::TaskAwaitingSignal { task_id, signal, .. } => println!("  {task_id} waits for {signal:?}"),
        EventKind::SignalReceived { signal } => println!("  {signal:?} has come"),
        EventKind::TaskSleeping { task_id, .. } => println!("  {task_id} begins"),
        EventKind::TaskCompleted { task_id, .. } => println!("  {task_id} is done"),
        _ => {}
    }
}

async fn morning(store: &Path, run_id: &RunId) -> Result<(), Box<dyn Error>> {
    let engine = start(store).await?;
    let plan = ExecutePlan::new([
        Step::named("request").input("refund 42 €"),
        // A decision within a week, or none.
        Step::wait_for_signal("decide", "decision")
            .timeout(Duration::from_secs(7 * 24 * 3_600))
            .on_failure(OnFailure::fallback_named("nobody")),
        Step::sleep("cool-down", COOL_DOWN),
        Step::named("act"),
    ]);
    engine.submit(plan.run_id(run_id.as_str())).await?;
    while engine.status(run_id).await?.state != RunState::AwaitingSignal {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let report = engine.shutdown(Shutdown::drain(PATIENCE)).await;
    // A shutdown does not wait for people: the run is left as it is stored.
    assert_eq!((report.interrupted, report.cancelled), (1, 0));
    Ok(())
}

async fn evening(store: &Path, run_id: &RunId) -> Result<(), Box<dyn Error>> {
    let engine = start(store).await?;
    let decided = Instant::now();
    let decision = json!({ "approved": true, "by": "ada" });
    engine.signal(Signal::new(run_id.clone(), "decision").payload(decision)).await?;
    let results = engine.continue_run(run_id).await?.await?;
    assert!(decided.elapsed() >= COOL_DOWN, "it has cooled down");
    engine.shutdown(Shutdown::drain(PATIENCE)).await;
    assert_eq!(results[3], "refund 42 €: approved by ada");
    println!("{}", results[3].as_str().unwrap_or_default());
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let folder = tempfile::tempdir()?;
    let store = std::env::args_os().nth(1).map_or_else(|| folder.path().join("runs.db"), Into::into);
    let run_id = "refund-17".parse()?;
    println!("in the morning:");
    actix::System::new().block_on(morning(&store, &run_id))?;
    println!("in the evening, in another process:");
    actix::System::new().block_on(evening(&store, &run_id))
}
