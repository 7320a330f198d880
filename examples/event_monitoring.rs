//! Watches a plan: a closure prints every `task.*` event, a stream follows the plan, and a step sends an event of the
//! application's own.
//!
//! `cargo run --example event_monitoring`

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::prelude::*;
use lunacore::{
    ContextError, Emit, Engine, Event, EventBus, EventKind, Flush, Step, StepContext, StepError, SubmitPlan,
    Subscribe, SubscribeStream,
};
use serde_json::json;

/// Tells how far it is: subscribers get a `task.progress` event for each report.
fn process(ctx: StepContext) -> Result<&'static str, ContextError> {
    for page in 1..=2 {
        ctx.progress(json!({ "page": page, "of": 2 }))?;
    }
    Ok("2 pages")
}

/// A step that sends an event of our own. The types `task.*` and `plan.*` are lunacore's, so ours starts differently.
fn notify(bus: Addr<EventBus>) -> Step {
    Step::new("notify", move || {
        let bus = bus.clone();
        async move {
            bus.send(Emit(Event::custom("mail.sent", json!({ "to": "ada" })))).await??;
            Ok::<_, StepError>("sent")
        }
    })
}

fn print_task(event: &Event) {
    let (what, task) = (event.event_type(), event.task_id().unwrap_or("no step"));
    match event.kind() {
        EventKind::TaskProgress { value, .. } => println!("Event: {what} for {task}: {value}"),
        _ => println!("Event: {what} for {task}"),
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let engine = Engine::builder().start()?;
    let bus = engine.bus();

    // A closure is called for each event, in order, on a thread where it may block. It never slows the plan.
    let counted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&counted);
    let print = move |event: Event| {
        counter.fetch_add(1, Ordering::Relaxed);
        print_task(&event);
    };
    let tasks = bus.send(Subscribe::new("task.*", print)).await??;
    // A stream is for code that waits for something to happen.
    let mut plan_events = bus.send(SubscribeStream::new("plan.*")).await??;
    let mut mails = bus.send(SubscribeStream::new("mail.*")).await??;

    let steps = [Step::new("process", process), notify(bus.clone())];
    let run = engine.orchestrator().send(SubmitPlan(steps.into())).await??;

    let mut plan_types = Vec::new();
    while let Some(event) = plan_events.next().await {
        // The stream tells of every plan, and does not end with this one.
        if event.run_id() != Some(run.run_id()) {
            continue;
        }
        plan_types.push(event.event_type().to_owned());
        if matches!(event.event_type(), "plan.completed" | "plan.failed" | "plan.cancelled") {
            break;
        }
    }
    assert_eq!(run.await?, ["2 pages", "sent"]);

    // Subscribers run behind: before the program ends, give the closure time to print the last events.
    bus.send(Flush::default()).await??;
    println!("Stream: {}", plan_types.join(", "));
    let mail = mails.next().await.ok_or("the bus has stopped")?;
    let to = mail.get("to").unwrap_or_default();
    println!("Own event: {mail} to {to}");

    assert_eq!(plan_types, ["plan.accepted", "plan.started", "plan.completed"]);
    assert_eq!(to, "ada");
    // Two starts, two completions, two progress reports; none failed and none missed.
    assert_eq!((counted.load(Ordering::Relaxed), tasks.failures(), tasks.missed()), (6, 0, 0));
    Ok(())
}
