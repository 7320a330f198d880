//! A plan that survives `kill -9`: run it, kill it in the middle, run it again.
//!
//! `cargo run --example durable_plan [STORE]`; the default is `lunacore-durable-plan.db` among the temporary files.

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use lunacore::{
    Engine, Event, EventKind, ExecutePlan, ProjectMemory, Shutdown, Step, StepContext, StepError,
};

/// Real input: the crates that this project is built of.
const LOCK: &str = include_str!("../Cargo.lock");

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("error")).init();
    let default = || std::env::temp_dir().join("lunacore-durable-plan.db");
    let path = std::env::args().nth(1).map_or_else(default, PathBuf::from);

    let engine = Engine::builder().memory(ProjectMemory::open(&path)?).start()?;
    engine.subscribe("task.*", tell).await?;

    // The run id is what makes it one run, however many processes it takes.
    let plan = ExecutePlan::new([
        Step::new("read", read),
        Step::new("count", count),
        Step::new("longest", longest),
        Step::new("report", report),
    ]);
    let results = engine.execute(plan.run_id("crates-1")).await?;
    engine.shutdown(Shutdown::drain(Duration::from_secs(5))).await;

    println!("{}", results[3].as_str().unwrap_or_default());
    println!(
        "Run it again: the run is known and nothing is done twice. Delete {} to begin anew.",
        path.display()
    );
    Ok(())
}

fn tell(event: Event) {
    match event.kind() {
        EventKind::TaskRecovered { task_id } => println!("{task_id}: not run again, its result is stored"),
        EventKind::TaskStarted { task_id, attempt, .. } => println!("{task_id}: attempt {attempt}"),
        EventKind::TaskCompleted { task_id, .. } => println!("{task_id}: stored"),
        _ => {}
    }
}

async fn read() -> Vec<String> {
    work().await;
    LOCK.lines().filter_map(|line| line.strip_prefix("name = ")).map(|name| name.replace('"', "")).collect()
}

async fn count(ctx: StepContext) -> Result<usize, StepError> {
    work().await;
    let names: Vec<String> = ctx.output("read")?;
    Ok(names.len())
}

async fn longest(ctx: StepContext) -> Result<Option<String>, StepError> {
    work().await;
    let names: Vec<String> = ctx.output("read")?;
    Ok(names.into_iter().max_by_key(String::len))
}

async fn report(ctx: StepContext) -> Result<String, StepError> {
    work().await;
    let (count, longest): (usize, String) = (ctx.output("count")?, ctx.output("longest")?);
    Ok(format!("{count} crates, the longest name is {longest}"))
}

/// Something that takes its time.
async fn work() {
    tokio::time::sleep(Duration::from_millis(700)).await;
}
