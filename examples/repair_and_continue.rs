//! A run fails in the night, because of its input. In the morning, in another process, somebody corrects that input: the run
//! goes on from the step that failed, and what was done before is not done again.
//!
//! `cargo run --example repair_and_continue [STORE]`

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use lunacore::{
    Engine, ExecutePlan, Get, PlanError, ProjectMemory, RegistryAllocator, RetryRun, RunId, Shutdown, Step,
    StepContext, StepError,
};
use serde_json::json;

/// Number and name of the lightest elements, as somebody has typed them.
const ELEMENTS: [&str; 4] = ["1 Hydrogen", "2 Helium", "3Lithium", "4 Beryllium"];

fn parse(ctx: &StepContext) -> Result<Vec<(u32, String)>, StepError> {
    let lines: Vec<String> = ctx.input()?;
    let element = |line: &String| {
        let (number, name) = line.split_once(' ').ok_or_else(|| format!("{line:?} has no space"))?;
        Ok((number.parse()?, name.to_owned()))
    };
    lines.iter().map(element).collect()
}

/// The program: what its steps do, and where it keeps what they did.
fn start(store: &Path) -> Result<Engine, Box<dyn Error>> {
    let said = |what: &'static str| println!("  {what} is called");
    let allocator = RegistryAllocator::new()
        .register("announce", move |ctx: StepContext| {
            said("announce");
            Ok::<String, StepError>(ctx.input()?)
        })
        .register("parse", move |ctx: StepContext| {
            said("parse");
            parse(&ctx).map(|elements| json!(elements))
        })
        .register("sum", move |ctx: StepContext| {
            said("sum");
            let elements: Vec<(u32, String)> = ctx.output("parse")?;
            Ok::<u32, StepError>(elements.iter().map(|(number, _)| number).sum())
        });
    Ok(Engine::builder().memory(ProjectMemory::open(store)?).allocator(allocator).start()?)
}

async fn night(store: &Path) -> Result<(), Box<dyn Error>> {
    let engine = start(store)?;
    let plan = [
        Step::named("announce").input("the elements are counted"),
        Step::named("parse").input(json!(ELEMENTS)),
        Step::named("sum"),
    ];
    let Err(error) = engine.execute(ExecutePlan::new(plan).run_id("elements")).await else {
        return Err("a line is broken".into());
    };
    let PlanError::StepFailed { completed, source, .. } = &error else { return Err(error.into()) };
    println!("{error}: {source}");
    assert_eq!(completed.len(), 1);
    engine.shutdown(Shutdown::drain(Duration::from_secs(5))).await;
    Ok(())
}

async fn morning(store: &Path) -> Result<(), Box<dyn Error>> {
    let engine = start(store)?;
    let elements: RunId = "elements".parse()?;
    let corrected = ELEMENTS.map(|line| if line == "3Lithium" { "3 Lithium" } else { line });
    let run = engine.retry_run(RetryRun::new(elements.clone()).set_input(json!(corrected))).await?;
    let results = run.await?;
    println!("1 + 2 + 3 + 4 is {}", results[2]);
    assert_eq!(results[2], 10);

    // Which generation of the run made which result.
    for key in ["task:announce", "task:parse"] {
        let artifact = engine.artifact(Get::latest(key)).await?.ok_or("it is stored")?;
        let generation = artifact.meta.get("generation").map_or(json!(1), Clone::clone);
        println!("{key} was made by generation {generation}");
    }
    engine.shutdown(Shutdown::drain(Duration::from_secs(5))).await;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let folder = tempfile::tempdir()?;
    let store = std::env::args_os().nth(1).map_or_else(|| folder.path().join("runs.db"), Into::into);
    println!("at night:");
    actix::System::new().block_on(night(&store))?;
    println!("in the morning:");
    actix::System::new().block_on(morning(&store))
}
