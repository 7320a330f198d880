//! `tests/fixtures/store-v3.db`: a store as the third version has written it, with all that came since the first. Every later
//! version reads it, and goes on with it. See `fixture` for the first.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use lunacore::*;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn engine(path: &Path) -> Engine {
    let allocator = RegistryAllocator::new()
        .register("echo", |ctx: StepContext| ctx.input::<Value>().map(Json))
        .register("refuse", || Err::<(), _>(StepError::fatal("no such customer")));
    Engine::builder()
        .memory(ProjectMemory::open(path).unwrap())
        .allocator(allocator)
        .max_concurrent_plans(8)
        .start()
        .unwrap()
}

fn echo(id: &str) -> Step {
    Step::named(id).uses("echo").input(json!({ "of": id }))
}

fn refuse(id: &str) -> Step {
    Step::named(id).uses("refuse")
}

fn plan(id: &str) -> ExecutePlan {
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800);
    let steps = match id {
        "held" => vec![echo("first"), refuse("second").on_failure(OnFailure::Hold), echo("third")],
        "awaits" => {
            vec![Step::wait_for_signal("approval", "decision")]
        }
        "sleeps" => vec![Step::sleep_until("long", far)],
        "undone" => vec![echo("first").compensate_named("echo"), refuse("second")],
        _ => vec![echo("first").compensate_named("refuse"), refuse("second")],
    };
    ExecutePlan::new(steps).run_id(id)
}

async fn reaches(engine: &Engine, id: &str, state: RunState) {
    while engine.status(&run_id(id)).await.unwrap().state != state {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// How the fixture was made.
#[actix::test]
#[ignore = "made once: cargo test --test it fixture_v3::make -- --ignored"]
async fn make() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    let engine = engine(&path);
    for id in ["undone", "not undone"] {
        engine.execute(plan(id)).await.unwrap_err();
    }
    let steps = [echo("first"), Step::named("second").uses("refuse"), echo("third")];
    engine.execute(ExecutePlan::new(steps).run_id("repaired")).await.unwrap_err();
    let changed = [echo("first"), Step::named("second").uses("echo"), echo("third")];
    let retry = RetryRun::new(run_id("repaired")).plan(changed).on_mismatch(OnMismatch::KeepPrefix);
    engine.retry_run(retry.set_input(json!("corrected"))).await.unwrap().await.unwrap();
    for (id, state) in
        [("held", RunState::Held), ("awaits", RunState::AwaitingSignal), ("sleeps", RunState::Sleeping)]
    {
        drop(engine.submit(plan(id)).await.unwrap());
        reaches(&engine, id, state).await;
    }
    engine.signal(Signal::new(run_id("awaits"), "early").payload(json!([1, "ü"]))).await.unwrap();
    let busy: i64 = Connection::open(&path)
        .unwrap()
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .unwrap();
    assert_eq!(busy, 0);
    std::fs::copy(&path, fixture("store-v3.db")).unwrap();
    std::fs::write(fixture("store-v3.txt"), told(&SqliteStore::open_read_only(&path).unwrap())).unwrap();
}

/// What is new since the first version, in words of this file's own.
fn told(store: &SqliteStore) -> String {
    let time = |at: SystemTime| humantime::format_rfc3339_micros(at).to_string();
    let mut lines = Vec::new();
    for run in store.runs(None, 1_000).unwrap() {
        let signals = store.signals(&run.run_id).unwrap();
        let signals: Vec<_> = signals.iter().map(|kept| json!([kept.no, kept.name, kept.payload])).collect();
        let inputs: Vec<_> = run.set_inputs.iter().map(|(step, input)| json!([step, input])).collect();
        let outputs = store.outputs(&run.run_id).unwrap().unwrap();
        let outputs: Vec<Value> = outputs.iter().map(Output::to_value).collect();
        let told = json!({
            "run": run.run_id, "state": run.state.as_str(), "cursor": run.cursor, "attempt": run.attempt,
            "generation": run.generation, "held": run.step.held, "until": run.step.until.map(time),
            "undoing": run.undoing.as_deref(), "inputs": inputs, "signals": signals, "outputs": outputs,
            "skipped": store.skipped(&run.run_id).unwrap(), "failure": run.failure, "finished": run.finished_at.map(time),
        });
        lines.push(told.to_string());
    }
    for event in store.events(0, 1_000).unwrap() {
        lines.push(format!("event {}", serde_json::to_string(&event).unwrap()));
    }
    for key in store.keys(&Project::default(), "", None, 1_000).unwrap() {
        for version in store.versions(&Project::default(), &key).unwrap() {
            let artifact = store.artifact(&Project::default(), &key, Some(version)).unwrap().unwrap();
            lines.push(format!(
                "artifact {key} {version} {} {:?}",
                Value::Object(artifact.meta.clone()),
                artifact.text()
            ));
        }
    }
    lines.join("\n") + "\n"
}

#[actix::test]
async fn everything_in_it_is_read_as_it_was_written_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    std::fs::copy(fixture("store-v3.db"), &path).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(told(&store), include_str!("../fixtures/store-v3.txt"));
    let states = store.runs(None, 9).unwrap();
    let states: Vec<_> =
        states.iter().map(|run| format!("{} {} {}", run.run_id, run.state, run.generation)).collect();
    let expected = [
        "undone compensated 1",
        "not undone failed 1",
        "repaired completed 2",
        "held held 1",
        "awaits awaiting_signal 1",
        "sleeps sleeping 1",
    ];
    assert_eq!(states, expected);
    drop(store);

    let engine = engine(&path);
    reaches(&engine, "held", RunState::Held).await;
    let decided = StepOutcome::Completed(json!("by hand"));
    engine.resolve(ResolveStep::new(run_id("held"), "second", decided)).await.unwrap();
    let results = engine.execute(plan("held")).await.unwrap();
    assert_eq!(results, [json!({ "of": "first" }), json!("by hand"), json!({ "of": "third" })]);
    engine.signal(Signal::new(run_id("awaits"), "decision").payload("yes")).await.unwrap();
    assert_eq!(engine.execute(plan("awaits")).await.unwrap(), ["yes"]);
    assert_eq!(engine.status(&run_id("sleeps")).await.unwrap().state, RunState::Sleeping);
    let undone = engine.execute(plan("undone")).await.unwrap_err();
    assert!(matches!(&undone, PlanError::Compensated { undone, .. } if undone == &["first"]), "{undone}");
    let not = engine.execute(plan("not undone")).await.unwrap_err();
    assert!(matches!(&not, PlanError::Compensated { not_undone, .. } if not_undone.len() == 1), "{not}");
}
