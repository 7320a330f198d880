//! What a durable step costs, as ratios against a floor that is measured in the same run: an append of 200 bytes and an
//! `fdatasync`, on the same disk.
//!
//! `cargo bench --bench durable` prints a table.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark prints its table, and one that cannot run should stop"
)]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use lunacore::{
    Durability, Engine, ExecutePlan, Plan, ProjectMemory, RegistryAllocator, Shutdown, SqliteStore, Step,
};
use tokio::sync::Notify;

const STEPS: usize = 10_000;

fn main() {
    println!("| measure | figure | goal |");
    println!("|---|---|---|");
    System::new().block_on(async {
        let (floor, single, many) = by_turns().await;
        // Where a flush costs next to nothing, what is measured is the way to the blocking pool and back.
        let goal = if floor < 20e3 { format!("≤ 1.8 + {:.1}", 40e3 / floor) } else { "≤ 1.8".to_owned() };
        println!("| a durable step / append + fdatasync | {:.2} | {goal} |", single / floor);
        println!("| a step of one plan / one of 1,000 plans at once | {:.1} | ≥ 40 |", single / many);
        let relaxed = fastest(3, || one_plan(STEPS, Durability::Relaxed)).await;
        println!("| a durable step / a relaxed one | {:.1} | told only |", single / relaxed);
        println!("\nfor scale: {:.0} µs the floor, {:.0} µs a durable step, {:.1} µs among 1,000 plans, {:.0} µs relaxed", floor / 1e3, single / 1e3, many / 1e3, relaxed / 1e3);
        read_while_committing().await;
        reopen().await;
    });
}

fn per(began: Instant, count: usize) -> f64 {
    began.elapsed().as_nanos() as f64 / count as f64
}

async fn fastest<A: Future<Output = f64>>(rounds: usize, measure: impl Fn() -> A) -> f64 {
    let mut fastest = f64::MAX;
    for _ in 0..rounds {
        fastest = fastest.min(measure().await);
    }
    fastest
}

/// Nanoseconds an append with a flush.
fn floor(dir: &Path) -> f64 {
    let mut file = File::create(dir.join("floor")).unwrap();
    let appends = 2_000;
    let began = Instant::now();
    for _ in 0..appends {
        file.write_all(&[b'x'; 200]).unwrap();
        file.sync_data().unwrap();
    }
    per(began, appends)
}

/// The floor, a step of one plan, and one of 1,000 plans at once. What is compared is measured by turns, since a machine may be
/// slower for a while.
async fn by_turns() -> (f64, f64, f64) {
    let dir = tempfile::tempdir().unwrap();
    let mut ratios: Vec<(f64, f64)> = Vec::new();
    let mut many = f64::MAX;
    for _ in 0..3 {
        let before = floor(dir.path());
        let step = one_plan(STEPS, Durability::Immediate).await;
        ratios.push(((before + floor(dir.path())) / 2.0, step));
        many = many.min(fastest(7, || at_once(1_000, 10)).await);
    }
    ratios.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
    (ratios[1].0, ratios[1].1, many)
}

fn plan(steps: usize) -> Plan {
    (0..steps).map(|_| Step::unnamed(|| async { "processed_data" })).collect()
}

fn engine(path: &Path, running: usize) -> Engine {
    let memory = ProjectMemory::open(path).unwrap();
    Engine::builder().memory(memory).max_concurrent_plans(running).start().unwrap()
}

async fn one_plan(steps: usize, durability: Durability) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&dir.path().join("runs.db"), 1);
    let began = Instant::now();
    let results = engine.execute(ExecutePlan::new(plan(steps)).durability(durability)).await.unwrap();
    let cost = per(began, steps);
    assert_eq!(results.len(), steps);
    engine.shutdown(Shutdown::now()).await;
    cost
}

async fn at_once(plans: usize, steps: usize) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&dir.path().join("runs.db"), plans);
    let messages: Vec<_> = (0..plans).map(|_| ExecutePlan::new(plan(steps))).collect();
    let began = Instant::now();
    let answers: Vec<_> = messages.into_iter().map(|message| engine.orchestrator().send(message)).collect();
    for answer in answers {
        assert_eq!(answer.await.unwrap().unwrap().len(), steps);
    }
    let cost = per(began, plans * steps);
    engine.shutdown(Shutdown::now()).await;
    cost
}

/// Reads artifacts while a hundred plans commit.
async fn read_while_committing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&dir.path().join("runs.db"), 100);
    engine.execute([Step::new("known", || "x")]).await.unwrap();
    let plans: Vec<_> = (0..100).map(|_| engine.orchestrator().send(ExecutePlan::new(plan(1_000)))).collect();
    let mut times = Vec::new();
    for _ in 0..2_000 {
        let began = Instant::now();
        assert!(engine.artifact("task:known").await.unwrap().is_some());
        times.push(began.elapsed());
    }
    let busy = engine.list(lunacore::ListPlans::new()).await.unwrap();
    let still = busy.iter().filter(|info| !info.state.is_final()).count();
    times.sort();
    println!(
        "reading an artifact while {still} plans commit: p99 {:?} (goal: at most 5 ms)",
        times[times.len() * 99 / 100]
    );
    engine.shutdown(Shutdown::now()).await;
    drop(plans);
}

/// Opens a store with 100,000 finished runs and 100 unfinished ones.
async fn reopen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runs.db");
    let (before, after) = (fill(&path, 1_000), fill(&path, 99_000));
    let resumed = Arc::new(Notify::new());
    let tell = Arc::clone(&resumed);
    let step = move || {
        tell.notify_one();
        std::future::pending::<()>()
    };
    let began = Instant::now();
    let allocator = RegistryAllocator::new().register("wait", step);
    let engine =
        Engine::builder().memory(ProjectMemory::open(&path).unwrap()).allocator(allocator).start().unwrap();
    resumed.notified().await;
    println!(
        "100,000 finished runs and 100 unfinished: first resumed step after {:?} (goal: at most 1 s)",
        began.elapsed()
    );
    println!("memory after 1,000 finished runs {before} MB, after 99,000 more {after} MB (goal: no growth)");
    engine.shutdown(Shutdown::now()).await;
}

/// Adds finished runs, and 100 unfinished ones the first time; answers how much memory this process has in use then.
fn fill(path: &Path, runs: usize) -> u64 {
    use lunacore::{
        Claim, Commit, EventKind, NewRun, PlanRecord, Project, RunId, RunState, RunUpdate, Store,
    };
    let mut store = SqliteStore::open(path).unwrap();
    let record = PlanRecord::of([Step::named("wait")]).unwrap();
    let unfinished = if runs == 1_000 { 100 } else { 0 };
    let states = (0..runs).map(|_| RunState::Completed).chain((0..unfinished).map(|_| RunState::Running));
    let states: Vec<RunState> = states.collect();
    for batch in states.chunks(1_000) {
        store.begin(Durability::Relaxed).unwrap();
        for state in batch {
            let update = RunUpdate::new(*state, 0, 1);
            let mut commit = Commit::new(RunId::random(), Project::default(), update);
            commit.accept = Some(Box::new(NewRun::new(record.clone(), Claim::new())));
            commit.events = vec![EventKind::PlanStarted {}, EventKind::PlanCompleted {}];
            store.commit(Box::new(commit), std::time::SystemTime::now()).unwrap();
        }
        store.end().unwrap();
    }
    resident_mb()
}

fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() * 1_024 / 1_000_000
}
