//! A plan fails in the middle: what is kept, what the error says, and how the caller goes on. Then the same plan with steps
//! that know what to do about their failure.
//!
//! `cargo run --example partial_failure`

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::time::Duration;

use lunacore::{
    ContextError, Engine, Event, EventKind, ExecutePlan, OnFailure, PlanError, Shutdown, Step, StepContext,
    StepError,
};

/// Real input, with a line that is broken.
const ORDERS: &str = "pears,3\napples,many\nplums,5\n";

fn parse(text: &str) -> Result<u32, StepError> {
    let mut sum = 0;
    for line in text.lines() {
        let (name, count) = line.split_once(',').ok_or("a line has no comma")?;
        sum += count.parse::<u32>().map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(sum)
}

fn read() -> Step {
    Step::new("read", || ORDERS)
}

fn sum() -> Step {
    Step::new("sum", |ctx: StepContext| parse(&ctx.output::<String>("read")?))
}

/// Counts what can be counted, and says why.
fn estimate(ctx: StepContext) -> Result<u32, ContextError> {
    let failure = ctx.failure().map_or_else(String::new, |failure| failure.message.clone());
    ctx.put_artifact("complaint", failure)?;
    let text: String = ctx.output("read")?;
    Ok(text.lines().filter_map(|line| line.split_once(',')?.1.parse::<u32>().ok()).sum())
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let engine = Engine::builder().start()?;

    // The step before the failure has completed, and its result is stored.
    let report = || {
        Step::new("report", |ctx: StepContext| {
            Ok::<_, StepError>(format!("{} in all", ctx.previous::<u32>()?))
        })
    };
    let plan = ExecutePlan::new([read(), sum(), report()]).run_id("harvest");
    let Err(error) = engine.execute(plan).await else { return Err("a line is broken".into()) };
    let PlanError::StepFailed { step_id, index, completed, source, .. } = &error else {
        return Err(error.into());
    };
    println!("{error}: {source}");
    println!("kept of the steps before {step_id} (step {index}): {}", completed.len());
    let kept = engine.artifact("task:read").await?.ok_or("it is stored")?;
    assert_eq!((kept.text(), completed.len()), (Some(ORDERS), 1));

    // The caller goes on with what is there.
    let repaired = kept.text().unwrap_or_default().replace("many", "4");
    let results = engine.execute([Step::new("sum", move || parse(&repaired)), report()]).await?;
    println!("repaired: {}", results[1]);
    assert_eq!(results[1], "12 in all");

    // Or the plan itself knows what to do: without the step, or by another way; and somebody is told.
    engine
        .subscribe("*", |event: Event| {
            if matches!(event.kind(), EventKind::TaskSkipped { .. } | EventKind::EscalationNeeded { .. }) {
                println!("{event}");
            }
        })
        .await?;
    let notify = Step::new("notify", || Err::<(), _>("no mail server")).on_failure(OnFailure::Continue);
    let careful = sum().on_failure(OnFailure::fallback(estimate)).escalate_on_failure();
    let results = engine.execute([read(), notify, careful]).await?;
    engine.flush(Duration::from_secs(5)).await?;
    println!("with a fallback: {} and {}", results[1], results[2]);
    assert_eq!(results[2], 8);
    let complaint = engine.artifact("complaint").await?.ok_or("the fallback has stored it")?;
    println!("complaint: {}", complaint.text().unwrap_or_default());

    engine.shutdown(Shutdown::drain(Duration::from_secs(5))).await;
    Ok(())
}
