//! What the command costs beside the library: a plan file of 1,000 steps that return their input, read and run by `lunacore run`
//! as a process, and by the library in this one.
//!
//! `cargo bench --features cli --bench command` prints a table.

#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints its table, and one that cannot run should stop"
)]

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use actix::prelude::*;
use lunacore::limits::MAX_STEPS;
use lunacore::{Engine, Plan, PlanFormat, ProjectMemory, RegistryAllocator, Shutdown, StepContext};
use serde_json::Value;

const STEPS: usize = 1_000;
const ROUNDS: usize = 15;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    for steps in [1, STEPS] {
        let mut plan = "steps:\n".to_owned();
        for step in 0..steps {
            writeln!(plan, "  - {{ id: step-{step}, uses: noop, with: processed_data }}").unwrap();
        }
        std::fs::write(dir.path().join(format!("{steps}.yaml")), plan).unwrap();
    }
    largest_file();
    println!("| measure | fastest rounds | goal |");
    println!("|---|---|---|");
    for durable in [false, true] {
        let name = if durable { "durable" } else { "in memory" };
        // By turns, since a machine may be slower for a while.
        let (mut start, mut whole, mut own) = (f64::MAX, f64::MAX, f64::MAX);
        for _ in 0..ROUNDS {
            start = start.min(command(dir.path(), 1, durable));
            whole = whole.min(command(dir.path(), STEPS, durable));
            own = own.min(library(dir.path(), durable));
        }
        println!("| {name}: start of the command, and one step | {:.1} ms | ≤ 50 ms |", start / 1e6);
        let ratio = (whole - start) / (STEPS - 1) as f64 / own;
        println!("| {name}: a step of the command / one of the library | {ratio:.2} | ≤ 1.3 |");
        println!(
            "| {name}: the whole command / the library's steps and 50 ms | {:.2} | ≤ 1 |",
            whole / (1.3 * own * STEPS as f64 + 50e6)
        );
    }
}

/// Reads a file of as many steps as a plan may have, in each format.
fn largest_file() {
    let read = |format: PlanFormat, text: &str| {
        let began = Instant::now();
        assert_eq!(Plan::from_text(text, format).unwrap().steps().len(), MAX_STEPS);
        println!(
            "{MAX_STEPS} steps of {format}, {} MB, are read in {:.1?}",
            text.len() / 1_000_000,
            began.elapsed()
        );
    };
    let (mut json, mut yaml, mut toml) = ("{\"steps\":[".to_owned(), "steps:\n".to_owned(), String::new());
    for step in 0..MAX_STEPS {
        let comma = if step > 0 { "," } else { "" };
        write!(
            json,
            r#"{comma}{{"id":"s{step}","uses":"noop","with":{{"n":{step},"list":[1,2,3]}},"retry":3}}"#
        )
        .unwrap();
        writeln!(yaml, "  - {{ id: s{step}, uses: noop, with: {{ n: {step}, list: [1, 2, 3] }}, retry: 3 }}")
            .unwrap();
        writeln!(
            toml,
            "[[steps]]\nid = 's{step}'\nuses = 'noop'\nwith = {{ n = {step}, list = [1, 2, 3] }}\nretry = 3"
        )
        .unwrap();
    }
    json.push_str("]}");
    read(PlanFormat::Json, &json);
    read(PlanFormat::Yaml, &yaml);
    read(PlanFormat::Toml, &toml);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!(
        "{}, the texts of all three included\n",
        status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default()
    );
}

/// Nanoseconds that the command takes as a process.
fn command(dir: &Path, steps: usize, durable: bool) -> f64 {
    let store = tempfile::tempdir_in(dir).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lunacore"));
    command.arg("run").arg(dir.join(format!("{steps}.yaml"))).arg("--quiet").stdout(Stdio::null());
    if durable {
        command.arg("--store").arg(store.path().join("runs.db"));
    } else {
        command.arg("--in-memory");
    }
    let began = Instant::now();
    assert!(command.status().unwrap().success());
    began.elapsed().as_nanos() as f64
}

/// Nanoseconds a step of the same file, read and run in an engine that is there already.
fn library(dir: &Path, durable: bool) -> f64 {
    let store = tempfile::tempdir_in(dir).unwrap();
    let memory = if durable {
        ProjectMemory::open(store.path().join("runs.db")).unwrap()
    } else {
        ProjectMemory::in_memory()
    };
    let noop = async |input: Value, _: StepContext| input;
    System::new().block_on(async {
        let registry = RegistryAllocator::new().register("noop", noop);
        let engine = Engine::builder().memory(memory).allocator(registry).start().unwrap();
        let began = Instant::now();
        let plan = Plan::from_path(dir.join(format!("{STEPS}.yaml"))).unwrap();
        assert_eq!(engine.execute(plan).await.unwrap().len(), STEPS);
        let cost = began.elapsed().as_nanos() as f64 / STEPS as f64;
        engine.shutdown(Shutdown::now()).await;
        cost
    })
}
