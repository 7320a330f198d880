//! `tests/fixtures/store-v1.db`: a store as the first version has written it. Every later version reads it, and goes on with
//! it.
//!
//! `store-v1.txt` beside it is all that it holds, as text. Both were made by `make` below, and are not made anew when the
//! code changes: that is what they are for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use lunacore::*;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::support::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A copy, which may be written to.
fn copy() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    std::fs::copy(fixture("store-v1.db"), &path).unwrap();
    (folder, path)
}

/// The plan that was cut off: each step adds its input to the result before it.
fn sums() -> ExecutePlan {
    let steps = (0..5).map(|n| Step::named(format!("s{n}")).uses("add").input(n * 10).attr("weight", 1.5));
    ExecutePlan::new(Plan::new(steps).name("sums")).run_id("interrupted").durability(Durability::Relaxed)
}

/// Calls `add`, and waits in it for ever where `stops` says so.
fn engine(path: &Path, called: &Trace, stops: Option<usize>, reached: &Arc<Notify>) -> Engine {
    let (called, reached) = (called.clone(), reached.clone());
    let add = move |ctx: StepContext| {
        let (called, reached) = (called.clone(), reached.clone());
        async move {
            called.note(ctx.step_id());
            if stops == Some(ctx.index()) {
                reached.notify_one();
                std::future::pending::<()>().await;
            }
            let before: u64 = if ctx.index() == 0 { 0 } else { ctx.previous()? };
            ctx.put_artifact("notes/sums", format!("{} of {}", ctx.step_id(), ctx.run_id()))?;
            Ok::<_, StepError>(before + ctx.input::<u64>()?)
        }
    };
    Engine::builder()
        .memory(ProjectMemory::open(path).unwrap())
        .allocator(RegistryAllocator::new().register("add", add))
        .max_concurrent_plans(2)
        .start()
        .unwrap()
}

/// How the fixture was made.
#[actix::test]
#[ignore = "made once: cargo test --test it fixture::make -- --ignored"]
async fn make() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    let reached = Arc::new(Notify::new());
    let engine = engine(&path, &Trace::default(), Some(2), &reached);

    let note = |ctx: StepContext| async move {
        ctx.put_artifact("notes/raw", Bytes::from_static(b"\x00\xfe"))
            .map(|()| Bytes::from_static(b"\xff\x00raw"))
    };
    let steps = [
        Step::new("text", || async { "plain \"text\" ß 🚀" }).agent("writer"),
        Step::new("json", || async { Json(json!({ "n": [1, 2.5, u64::MAX, null], "ok": true })) }),
        Step::new("bytes", note),
    ];
    engine.execute(ExecutePlan::new(Plan::new(steps).name("all kinds")).run_id("completed")).await.unwrap();

    let steps = [
        Step::new("fine", || async { 7 }),
        Step::new("broken", || async { Err::<u8, _>(std::io::Error::other("disk on fire")) }),
    ];
    engine.execute(ExecutePlan::new(steps).run_id("failed").in_project("acme", "web")).await.unwrap_err();

    let steps = [
        Step::new("first", || async { true }),
        Step::new("endless", || async { std::future::pending::<u8>().await }),
    ];
    let handle = engine.submit(ExecutePlan::new(steps).run_id("cancelled")).await.unwrap();
    while engine.memory().send(GetRun(run_id("cancelled"))).await.unwrap().unwrap().unwrap().cursor < 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    engine.cancel(handle.run_id()).await.unwrap();
    handle.await.unwrap_err();

    let memory = engine.memory();
    memory.send(Put::new("report", "draft").meta("author", "ada")).await.unwrap().unwrap();
    memory.send(Put::new("report", "final").meta("pages", 3)).await.unwrap().unwrap();
    memory.send(Put::new("report", "withdrawn")).await.unwrap().unwrap();
    memory.send(Delete::version("report", 3)).await.unwrap().unwrap();
    memory
        .send(Put::new("logo", Bytes::from_static(b"\x89PNG")).artifact_type("image"))
        .await
        .unwrap()
        .unwrap();

    let _waits = engine.submit(sums()).await.unwrap();
    reached.notified().await;
    // Everything is in one file then, which is copied while the third step runs.
    let busy: i64 = Connection::open(&path)
        .unwrap()
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .unwrap();
    assert_eq!(busy, 0);
    std::fs::create_dir_all(fixture("")).unwrap();
    std::fs::copy(&path, fixture("store-v1.db")).unwrap();
    std::fs::write(fixture("store-v1.txt"), told(&SqliteStore::open_read_only(&path).unwrap())).unwrap();
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_micros(at).to_string()
}

/// Everything that a store holds, in words of this file's own, so that no change of a `Debug` makes a difference.
fn told(store: &SqliteStore) -> String {
    let mut lines = Vec::new();
    for run in store.runs(None, 1_000).unwrap() {
        let outputs: Vec<Value> =
            store.outputs(&run.run_id).unwrap().unwrap().iter().map(Output::to_value).collect();
        let plan = store.plan(&run.run_id).unwrap().unwrap();
        lines.push(format!("run {} of {}", run.run_id, run.project));
        let told = json!({
            "name": run.name, "steps": run.steps, "self_contained": run.self_contained, "durability": run.durability,
            "state": run.state.as_str(), "cursor": run.cursor, "attempt": run.attempt, "failure": run.failure,
            "reason": run.reason, "accepted": time(run.accepted_at), "started": run.started_at.map(time),
            "finished": run.finished_at.map(time), "outputs": outputs, "plan": plan, "fingerprint": plan.fingerprint(),
        });
        lines.push(told.to_string());
    }
    for event in store.events(0, 1_000).unwrap() {
        lines.push(format!("event {}", serde_json::to_string(&event).unwrap()));
    }
    for project in [Project::default(), Project::new("acme", "web")] {
        for key in store.keys(&project, "", None, 1_000).unwrap() {
            for version in store.versions(&project, &key).unwrap() {
                let artifact = store.artifact(&project, &key, Some(version)).unwrap().unwrap();
                let told = json!({
                    "id": artifact.id, "type": artifact.artifact_type, "created": time(artifact.created_at),
                    "meta": artifact.meta, "run": artifact.run_id, "text": artifact.text(),
                    "bytes": artifact.data.as_bytes(),
                });
                lines.push(format!("artifact {project} {key} {version} {told}"));
            }
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn everything_in_it_is_read_as_it_was_written() {
    let (_folder, path) = copy();
    let store = SqliteStore::open(path).unwrap();
    for (line, expected) in told(&store).lines().zip(include_str!("../fixtures/store-v1.txt").lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(told(&store), include_str!("../fixtures/store-v1.txt"));

    // The same once more, in so far as it does not depend on when it was made.
    let run = |id: &str| store.run(&run_id(id)).unwrap().unwrap();
    let outputs = |id: &str| store.outputs(&run_id(id)).unwrap().unwrap();
    let runs = store.runs(None, 9).unwrap();
    let states = runs.iter().map(|run| format!("{} {} {}", run.run_id, run.state, run.cursor));
    let expected =
        ["completed completed 3", "failed failed 1", "cancelled cancelled 1", "interrupted running 2"];
    assert!(states.eq(expected), "{runs:?}");
    let value = json!({ "n": [1, 2.5, u64::MAX, null], "ok": true });
    let raw = Output::Bytes(Bytes::from_static(b"\xff\x00raw"));
    let all = ["plain \"text\" ß 🚀".into_output().unwrap(), Json(value).into_output().unwrap(), raw];
    assert_eq!(outputs("completed"), all);
    assert_eq!(
        outputs("interrupted").iter().map(Output::to_value).collect::<Vec<_>>(),
        [json!(0), json!(10)]
    );
    let failure = run("failed").failure.unwrap();
    assert_eq!((&*failure.message, failure.kind), ("disk on fire", FailureKind::Error));
    assert_eq!(run("interrupted").durability, Some(Durability::Relaxed));
    let latest = |key: &str| store.artifact(&Project::default(), key, None).unwrap().unwrap();
    let report = latest("report");
    assert_eq!((report.version, report.text()), (2, Some("final")));
    assert_eq!(Value::from(report.meta), json!({ "author": "ada", "pages": 3 }));
    assert_eq!(latest("notes/raw").data.as_bytes(), b"\x00\xfe");
    assert_eq!((&*latest("logo").artifact_type, latest("logo").data.as_bytes()), ("image", &b"\x89PNG"[..]));
    assert_eq!(latest("task:text").text(), Some("plain \"text\" ß 🚀"));
}

#[actix::test]
async fn the_run_that_was_cut_off_goes_on_to_its_end() {
    let (_folder, path) = copy();
    let before = SqliteStore::open_read_only(&path).unwrap().last_seq().unwrap();
    let called = Trace::default();
    let engine = engine(&path, &called, None, &Arc::default());
    let results = engine.execute(sums()).await.unwrap();
    assert_eq!(results, [0, 10, 30, 60, 100]);
    assert_eq!(called.all(), ["s2", "s3", "s4"], "the one that ran may have had no effect yet");
    // Those that are over are answered for.
    let error = engine.execute(sums().run_id("completed")).await.unwrap_err();
    assert!(matches!(error, PlanError::PlanMismatch { .. }), "{error:?}");
    let history = engine.history(ReadHistory::new(run_id("interrupted"))).await.unwrap();
    let after: Vec<String> =
        history.iter().filter(|event| event.seq() > Some(before)).map(ToString::to_string).collect();
    let expected = [
        "plan.resumed",
        "task.recovered s0",
        "task.recovered s1",
        "task.started s2",
        "task.completed s2",
        "task.started s3",
        "task.completed s3",
        "task.started s4",
        "task.completed s4",
        "plan.completed",
    ];
    assert_eq!(after, expected);
    // A number that was deleted is not used again.
    let put = engine.memory().send(Put::new("report", "new")).await.unwrap().unwrap();
    assert_eq!(put.version, 4);
    let note = engine.memory().send(Get::latest("notes/sums")).await.unwrap().unwrap().unwrap();
    assert_eq!((note.version, note.text()), (5, Some("s4 of interrupted")));
}

#[test]
fn who_only_reads_it_does_not_change_a_byte() {
    let (folder, path) = copy();
    let before = std::fs::read(&path).unwrap();
    assert!(before.len() < 200_000 && before == std::fs::read(fixture("store-v1.db")).unwrap());
    let store = SqliteStore::open_read_only(&path).unwrap();
    assert_eq!(told(&store), include_str!("../fixtures/store-v1.txt"));
    drop(store);
    assert!(std::fs::read(&path).unwrap() == before);
    // What SQLite may leave beside it holds nothing.
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(!name.ends_with("-wal") || entry.metadata().unwrap().len() == 0, "{name}");
        assert!(!name.ends_with("-lock"), "it was locked");
    }
}

/// Others may have made something of their own in the file. It works as before, and is never in the way.
#[test]
fn what_others_have_made_in_it_stays_when_it_is_upgraded() {
    let (_folder, path) = copy();
    let sql = Connection::open(&path).unwrap();
    sql.execute_batch(
        "CREATE VIEW mine AS SELECT run_id, state FROM runs;
         CREATE VIEW of_theirs AS SELECT run_id FROM run_overview WHERE finished IS NULL;
         CREATE TABLE audit (run TEXT, what TEXT, of INTEGER REFERENCES runs (no));
         CREATE INDEX by_name ON runs (name);
         CREATE TRIGGER moved AFTER UPDATE OF state ON Runs BEGIN
             INSERT INTO audit SELECT run_id, NEW.state, NEW.no FROM runs WHERE no = NEW.no;
         END;
         CREATE TRIGGER told AFTER INSERT ON events BEGIN
             INSERT INTO audit SELECT run_id, 'told', no FROM runs WHERE no = NEW.run;
         END;
         CREATE TRIGGER asked INSTEAD OF DELETE ON run_overview BEGIN
             INSERT INTO audit VALUES (OLD.run_id, 'asked', NULL);
         END;",
    )
    .unwrap();
    let mut store = SqliteStore::open(&path).unwrap();
    assert_eq!(told(&store), include_str!("../fixtures/store-v1.txt"));
    let row = |query: &str| sql.query_row(query, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(
        row("SELECT group_concat(run_id || ' ' || state) FROM mine WHERE run_id LIKE 'i%'"),
        "interrupted running"
    );
    assert_eq!(row("SELECT group_concat(run_id) FROM of_theirs"), "interrupted");
    assert_eq!(row("SELECT count(*) || '' FROM audit"), "0", "none of it was about the upgrade");
    assert_eq!(
        row("SELECT sql FROM sqlite_schema WHERE name = 'by_name'"),
        "CREATE INDEX by_name ON runs (name)"
    );
    assert!(row("SELECT sql FROM sqlite_schema WHERE name = 'audit'").contains("REFERENCES runs (no)"));
    let update = RunUpdate::new(RunState::Cancelled, 2, 1);
    let mut cancelled = Commit::new(run_id("interrupted"), Project::default(), update);
    cancelled.events = vec![EventKind::PlanResumed { completed: 2 }];
    store.begin(Durability::Immediate).unwrap();
    store.commit(Box::new(cancelled), SystemTime::now()).unwrap();
    store.end().unwrap();
    sql.execute_batch("DELETE FROM run_overview WHERE run_id = 'interrupted'").unwrap();
    let audit = row("SELECT group_concat(run || ' ' || what, ', ') FROM audit");
    assert_eq!(audit, "interrupted cancelled, interrupted told, interrupted asked");
    assert_eq!(row("SELECT group_concat(type) FROM pragma_integrity_check JOIN (SELECT 'ok' AS type)"), "ok");
    // And once more, by who comes next.
    drop(store);
    SqliteStore::open(&path).unwrap();
    assert_eq!(row("SELECT count(*) || '' FROM sqlite_schema WHERE type = 'trigger'"), "3");
}

/// A reader that was there before another program has upgraded it sees what is new since.
#[test]
fn who_reads_it_while_it_is_upgraded_sees_what_comes_then() {
    let (_folder, path) = copy();
    let reading = SqliteStore::open_read_only(&path).unwrap();
    assert_eq!(told(&reading), include_str!("../fixtures/store-v1.txt"));
    assert_eq!(reading.signals(&run_id("interrupted")).unwrap(), []);
    let mut store = SqliteStore::open(&path).unwrap();
    store.begin(Durability::Immediate).unwrap();
    let signal = RecordSignal::new(run_id("interrupted"), Arc::from("go"), Arc::new(json!([1])));
    let (kept, events) = store.record_signal(signal, SystemTime::now()).unwrap();
    let mut update = RunUpdate::new(RunState::Held, 2, 1);
    (update.step.held, update.step.since) = (Some(HoldReason::Interrupted), Some(SystemTime::UNIX_EPOCH));
    let held = Commit::new(run_id("interrupted"), Project::default(), update);
    store.commit(Box::new(held), SystemTime::now()).unwrap();
    // In the middle of the batch it is as it was.
    assert_eq!(reading.signals(&run_id("interrupted")).unwrap(), []);
    assert_eq!(reading.unfinished(None, 9).unwrap()[0].state, RunState::Running);
    store.end().unwrap();
    for _ in 0..2 {
        assert_eq!(reading.signals(&run_id("interrupted")).unwrap(), std::slice::from_ref(&kept));
        let record = store.run(&run_id("interrupted")).unwrap();
        assert_eq!(record.as_ref().unwrap().step.held, Some(HoldReason::Interrupted));
        assert_eq!(reading.run(&run_id("interrupted")).unwrap(), record);
        assert_eq!(reading.unfinished(None, 9).unwrap(), Vec::from_iter(record));
        assert_eq!(reading.events(store.last_seq().unwrap() - 1, 9).unwrap(), events);
        assert_eq!(told(&reading), told(&store));
    }
    // It still writes nothing.
    let mut reading = reading;
    let refused = reading.put(Put::new("k", "x"), SystemTime::now());
    assert!(matches!(refused, Err(MemoryError::ReadOnly)), "{refused:?}");
}
