//! Runs two steps one after the other, a sync one and an async one, and prints their results.
//!
//! This is the first program of the Python original: four actors, two steps, one list of results.
//!
//! `cargo run --example sequential_plan`

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::time::Duration;

use actix::prelude::*;
use lunacore::{EventBus, ExecutePlan, ExecutionOrchestrator, ProjectMemory, SimpleAllocator, Step};

/// A sync step may block: it is called on a pool of threads made for that.
fn process_data() -> &'static str {
    "processed_data"
}

/// An async step is polled, so other things go on while it waits for the network.
async fn fetch_remote() -> &'static str {
    tokio::time::sleep(Duration::from_millis(100)).await;
    "remote_data"
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();

    let bus = EventBus::new().start();
    let memory = ProjectMemory::in_memory().start();
    let allocator = SimpleAllocator.start();
    let orchestrator = ExecutionOrchestrator::new(bus, memory, allocator).start();

    let steps = vec![Step::new("process", process_data), Step::new("fetch", fetch_remote)];
    // The first `?` is for an orchestrator that is gone, the second for a plan that failed.
    let results = orchestrator.send(ExecutePlan::new(steps)).await??;
    assert_eq!(results, ["processed_data", "remote_data"]);

    // Results are JSON values, since they are stored; these two are strings.
    let texts: Vec<&str> = results.iter().filter_map(|value| value.as_str()).collect();
    println!("{texts:?}");
    Ok(())
}
