//! Memory in a SQLite file: what comes back, what is refused, who may open it, and what other programs see.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use lunacore::*;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::sqlite_model::*;
use crate::support::*;

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    (folder, path)
}

/// Stores these commits in one batch; each must be taken.
fn store(store: &mut SqliteStore, commits: impl IntoIterator<Item = Box<Commit>>) -> Vec<Event> {
    let mut events = Vec::new();
    store.begin(Durability::Immediate).unwrap();
    for commit in commits {
        events.append(&mut store.commit(commit, moment(1)).unwrap());
    }
    store.end().unwrap();
    events
}

fn move_to(run: &str, state: RunState, cursor: usize) -> Box<Commit> {
    Box::new(Commit::new(run_id(run), Project::default(), RunUpdate::new(state, cursor, 1)))
}

fn latest(reader: &impl Reader, key: &str) -> Option<Artifact> {
    reader.artifact(&Project::default(), key, None).unwrap()
}

fn open_error(path: impl AsRef<Path>) -> OpenError {
    SqliteStore::open(path).map(drop).unwrap_err()
}

// What comes back.

#[test]
fn outputs_events_and_artifacts_come_back_as_they_were_and_are_stored_once() {
    let (_folder, path) = place();
    let outputs = outputs();
    let mut sqlite = SqliteStore::open(&path).unwrap();
    let steps = outputs.iter().enumerate().map(|(n, output)| step("r", n, outputs.len(), output, 1));
    let commits = std::iter::once(accept("r", outputs.len(), RunState::Running)).chain(steps);
    let events = store(&mut sqlite, commits);
    drop(sqlite);

    let sqlite = SqliteStore::open(&path).unwrap();
    assert_eq!(sqlite.outputs(&run_id("r")).unwrap().unwrap(), outputs);
    assert_eq!(sqlite.events(0, 1_000).unwrap(), events, "with their ids");
    assert_eq!(sqlite.run_events(&run_id("r"), 0, 1_000).unwrap(), events);
    for (n, output) in outputs.iter().enumerate() {
        let artifact = latest(&sqlite, &format!("task:s{n}")).unwrap();
        assert_eq!(artifact.data, output.to_data());
        assert_eq!(Value::from(artifact.meta), json!({ "step": n, "step_id": format!("s{n}") }));
        assert_eq!((&*artifact.artifact_type, artifact.run_id), ("task_result", Some(run_id("r"))));
    }
    let further = latest(&sqlite, "k0").unwrap();
    assert_eq!(
        Value::from(further.meta),
        json!({ "step": outputs.len() - 1, "step_id": step_id(outputs.len() - 1) })
    );

    let sql = Connection::open(&path).unwrap();
    let count = |query: &str| sql.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(
        count("SELECT count(*) FROM steps WHERE key_no > 0 AND version > 0 AND length(artifact_id) = 16"),
        outputs.len() as i64
    );
    assert_eq!(count("SELECT count(*) FROM artifacts"), outputs.len() as i64, "the further ones");
    assert_eq!(count("SELECT count(*) FROM events"), outputs.len() as i64 + 1, "one a commit");
    assert_eq!(count("SELECT count(*) FROM events WHERE payload LIKE '%result%'"), 0);
    assert_eq!(
        count("SELECT count(*) FROM steps WHERE typeof(output) = 'text' AND NOT json_valid(output)"),
        0
    );
}

#[test]
fn a_page_of_events_may_begin_and_end_anywhere() {
    let (_folder, path) = place();
    let mut sqlite = SqliteStore::open(&path).unwrap();
    let output = "x".into_output().unwrap();
    let mut resumed = move_to("b", RunState::Running, 2);
    resumed.events = vec![EventKind::PlanResumed { completed: 250 }];
    resumed.events.extend((0..250).map(|step| EventKind::TaskRecovered { task_id: step_id(step) }));
    let first = [accept("a", 3, RunState::Running), accept("b", 3, RunState::Running)];
    let steps = (0..2).flat_map(|n| ["a", "b"].map(|run| step(run, n, 3, &output, 0)));
    let nothing = move_to("a", RunState::Running, 2);
    let all = store(&mut sqlite, first.into_iter().chain(steps).chain([nothing, resumed]));
    assert_eq!(all.len(), 6 + 8 + 251);
    let seqs: Vec<u64> = all.iter().filter_map(Event::seq).collect();
    assert_eq!(seqs, (1..=265).collect::<Vec<u64>>());
    let of_run = |run: Option<&str>| {
        let of = |event: &&Event| run.is_none_or(|run| event.run_id() == Some(&run_id(run)));
        all.iter().filter(of).cloned().collect::<Vec<Event>>()
    };
    for after in (0..20).chain([100, 112, 113, 114, 115, 212, 213, 214, 264, 265, 266, u64::MAX]) {
        for limit in [0, 1, 2, 3, 99, 100, 101, 1_000] {
            for run in [None, Some("a"), Some("b")] {
                let events = of_run(run).into_iter().filter(|event| event.seq() > Some(after)).take(limit);
                let read = match run {
                    None => sqlite.events(after, limit),
                    Some(run) => sqlite.run_events(&run_id(run), after, limit),
                };
                assert_eq!(read.unwrap(), events.collect::<Vec<_>>(), "{limit} of {run:?} behind {after}");
            }
        }
    }
    drop(sqlite);
    assert_eq!(SqliteStore::open(&path).unwrap().last_seq().unwrap(), 265);
    let sql = Connection::open(&path).unwrap();
    let shown = "SELECT count(*) || ' ' || max(seq) || ' ' || count(DISTINCT task_id) FROM event_log";
    assert_eq!(sql.query_row(shown, [], |row| row.get::<_, String>(0)).unwrap(), "265 265 250");
}

#[test]
fn what_only_looks_like_the_result_is_stored_as_given() {
    let (_folder, path) = place();
    let mut sqlite = SqliteStore::open(&path).unwrap();
    let output = "x".into_output().unwrap();
    let mut odd = step("r", 0, 1, &output, 0);
    odd.artifacts = vec![further("task:s0", 0, "another text"), further("elsewhere", 7, "x")];
    let bytes = Output::Bytes(Bytes::from_static(b"\xff"));
    odd.events.push(EventKind::TaskCompleted { task_id: step_id(7), result: bytes });
    let events = store(&mut sqlite, [accept("r", 1, RunState::Running), odd]);
    let version = |version| sqlite.artifact(&Project::default(), "task:s0", Some(version)).unwrap().unwrap();
    assert_eq!((version(1).text(), &*version(1).artifact_type), (Some("x"), "task_result"));
    assert_eq!((version(2).text(), &*version(2).artifact_type), (Some("another text"), "data"));
    let elsewhere = latest(&sqlite, "elsewhere").unwrap();
    assert_eq!((elsewhere.text(), &elsewhere.meta["step_id"]), (Some("x"), &json!("s7")));
    assert_eq!(sqlite.events(0, 1_000).unwrap(), events);
}

#[test]
fn puts_come_back_with_meta_and_data() {
    let (_folder, path) = place();
    let mut sqlite = SqliteStore::open(&path).unwrap();
    let puts = [
        Put::new("a", "text \0 ß").meta("n", u64::MAX).meta("list", json!([1.5, null])),
        Put::new("b", Bytes::from_static(b"\xff\x00")),
        Put::new("c", "").artifact_type("empty"),
    ];
    sqlite.begin(Durability::Relaxed).unwrap();
    let answers: Vec<_> = puts.into_iter().map(|put| sqlite.put(put, moment(3)).unwrap()).collect();
    sqlite.end().unwrap();
    drop(sqlite);
    let sqlite = SqliteStore::open(&path).unwrap();
    for answer in answers {
        assert_eq!(latest(&sqlite, &answer.key), Some(answer));
    }
}

#[test]
fn a_deleted_result_leaves_the_output_and_the_next_version_goes_on() {
    let (_folder, path) = place();
    let mut sqlite = SqliteStore::open(&path).unwrap();
    let output = "x".into_output().unwrap();
    for run in ["a", "b"] {
        store(&mut sqlite, [accept(run, 1, RunState::Running), step(run, 0, 1, &output, 0)]);
    }
    sqlite.begin(Durability::Immediate).unwrap();
    assert!(sqlite.delete(&Project::default(), "task:s0", Some(2)).unwrap());
    sqlite.end().unwrap();
    drop(sqlite);
    let mut sqlite = SqliteStore::open(&path).unwrap();
    assert_eq!(sqlite.outputs(&run_id("b")).unwrap().unwrap(), std::slice::from_ref(&output));
    assert_eq!(sqlite.run_events(&run_id("b"), 0, 9).unwrap().len(), 5);
    store(&mut sqlite, [accept("c", 1, RunState::Running), step("c", 0, 1, &output, 0)]);
    assert_eq!(sqlite.versions(&Project::default(), "task:s0").unwrap(), [1, 3]);
}

// Batches.

#[test]
fn a_refused_commit_leaves_the_others_of_its_batch_alone_and_uses_no_number() {
    let (_folder, path) = place();
    let mut sqlite = SqliteStore::open(&path).unwrap();
    sqlite.begin(Durability::Immediate).unwrap();
    let mut seqs = Vec::new();
    for run in ["a", "a", "b"] {
        match sqlite.commit(accept(run, 1, RunState::Running), moment(1)) {
            Ok(events) => seqs.extend(events.iter().filter_map(Event::seq)),
            Err(error) => assert!(matches!(&error, MemoryError::RunExists { .. }) && error.wrote_nothing()),
        }
    }
    sqlite.end().unwrap();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    assert_eq!(sqlite.runs(None, 9).unwrap().len(), 2);
}

#[test]
fn commits_that_are_stored_together_are_stored_as_one_by_one() {
    let (_folder, path) = place();
    let (mut sqlite, mut model) = (SqliteStore::open(&path).unwrap(), VolatileStore::default());
    let runs: Vec<String> = (0..75).map(|run| format!("r{run}")).collect();
    let outputs = outputs();
    let mut commits: Vec<Box<Commit>> = runs.iter().map(|run| accept(run, 3, RunState::Running)).collect();
    commits.insert(40, accept("r7", 3, RunState::Running));
    for n in 0..3 {
        let step = |(at, run): (usize, &String)| step(run, n, 3, &outputs[(at + n) % outputs.len()], at % 2);
        commits.extend(runs.iter().enumerate().map(step));
    }
    for together in [50, 1, 200, 75] {
        let some: Vec<Box<Commit>> = commits.drain(..together.min(commits.len())).collect();
        sqlite.begin(Durability::Relaxed).unwrap();
        let stored = sqlite.commit_all(&mut some.iter().cloned(), moment(1)).unwrap();
        sqlite.end().unwrap();
        for (one, other) in
            stored.into_iter().zip(model.commit_all(&mut some.into_iter(), moment(1)).unwrap())
        {
            match (one, other) {
                (Ok(one), Ok(other)) => {
                    let kinds = |events: &[Event]| {
                        events.iter().map(|event| event.kind().clone()).collect::<Vec<_>>()
                    };
                    assert_eq!(kinds(&one), kinds(&other));
                    let seq = one[0].seq().unwrap();
                    assert_eq!(sqlite.events(seq - 1, one.len()).unwrap(), one);
                }
                (one, other) => assert_eq!(one.unwrap_err().to_string(), other.unwrap_err().to_string()),
            }
        }
    }
    assert!(commits.is_empty());
    for run in &runs {
        assert_eq!(sqlite.outputs(&run_id(run)).unwrap(), model.outputs(&run_id(run)).unwrap());
        assert_eq!(sqlite.run(&run_id(run)).unwrap(), model.run(&run_id(run)).unwrap());
    }
    for key in ["task:s0", "task:s2", "k0"] {
        let versions = model.versions(&Project::default(), key).unwrap();
        assert_eq!(sqlite.versions(&Project::default(), key).unwrap(), versions);
        for version in versions {
            let read = |reader: &dyn Reader| {
                reader.artifact(&Project::default(), key, Some(version)).unwrap().unwrap()
            };
            assert_eq!(read(&sqlite).data, read(&model).data);
            assert_eq!(read(&sqlite).run_id, read(&model).run_id);
        }
    }
}

/// Whatever it is. Another connection sees that a flush writes something, which is how it syncs what was stored before.
#[test]
fn what_was_stored_relaxed_is_there_to_be_flushed() {
    let (_folder, path) = place();
    let mut sqlite = SqliteStore::open(&path).unwrap();
    store(&mut sqlite, [accept("a", 0, RunState::Completed), accept("b", 1, RunState::Running)]);
    let other = Connection::open(&path).unwrap();
    let version = || other.query_row("PRAGMA data_version", [], |row| row.get::<_, i64>(0)).unwrap();
    type Write = fn(&mut SqliteStore);
    let writes: [(&str, Write); 7] = [
        ("a put", |store| drop(store.put(Put::new("k", "x"), moment(2)).unwrap())),
        ("a deletion", |store| assert!(store.delete(&Project::default(), "k", None).unwrap())),
        ("an acceptance", |store| {
            drop(store.commit(accept("c", 0, RunState::Completed), moment(2)).unwrap());
        }),
        ("a move", |store| drop(store.commit(move_to("b", RunState::Parked, 0), moment(2)).unwrap())),
        ("a signal", |store| {
            let signal = RecordSignal::new(run_id("b"), Arc::from("go"), Arc::default());
            drop(store.record_signal(signal, moment(2)).unwrap());
        }),
        ("a breaker", |store| {
            let record = BreakerRecord::new("service", CircuitState::Closed, None, 0, moment(2));
            let event = EventKind::BreakerClosed { breaker: Arc::from("service") };
            drop(store.record_breaker(RecordBreaker::new(record, event), moment(2)).unwrap());
        }),
        ("a collection", |store| {
            assert_eq!(store.collect(&Retention::new().keep_runs(0), moment(2), 99).unwrap().runs, 1);
        }),
    ];
    for (what, write) in writes {
        sqlite.begin(Durability::Relaxed).unwrap();
        write(&mut sqlite);
        sqlite.end().unwrap();
        let stored = version();
        sqlite.flush().unwrap();
        let flushed = version();
        assert_ne!(stored, flushed, "{what}");
        sqlite.flush().unwrap();
        assert_eq!(version(), flushed, "{what} is flushed once");
    }
}

#[test]
fn a_batch_that_is_not_ended_never_was() {
    let (_folder, path) = place();
    let mut sqlite = SqliteStore::open(&path).unwrap();
    store(&mut sqlite, [accept("a", 3, RunState::Running)]);
    let output = "x".into_output().unwrap();
    for dropped in [false, true] {
        sqlite.begin(Durability::Relaxed).unwrap();
        sqlite.commit(accept("b", 1, RunState::Running), moment(2)).unwrap();
        sqlite.commit(step("a", 0, 3, &output, 1), moment(2)).unwrap();
        if dropped {
            drop(sqlite);
            sqlite = SqliteStore::open(&path).unwrap();
        } else {
            sqlite.reopen().unwrap();
        }
        assert_eq!(sqlite.last_seq().unwrap(), 3);
        assert_eq!(sqlite.run(&run_id("b")).unwrap(), None);
        assert_eq!(sqlite.run(&run_id("a")).unwrap().unwrap().cursor, 0);
    }
    let events = store(&mut sqlite, [step("a", 0, 3, &output, 1)]);
    assert_eq!((events[0].seq(), latest(&sqlite, "k0").unwrap().version), (Some(4), 1));
}

#[test]
fn a_commit_that_contradicts_what_is_stored_is_refused_and_the_store_goes_on_when_reopened() {
    let output = "x".into_output().unwrap();
    let skips = step("r", 1, 3, &output, 0);
    let mut lies = step("r", 0, 3, &output, 0);
    lies.update.cursor = 2;
    let revived = move_to("done", RunState::Running, 0);
    let unknown = move_to("unknown", RunState::Running, 0);
    for (wrong, says) in [
        (skips, "the next output is that of step 0"),
        (lies, "its cursor is 1 then, not 2"),
        (revived, "it is cancelled and cannot be running again"),
        (unknown, "never accepted"),
    ] {
        let (_folder, path) = place();
        let mut sqlite = SqliteStore::open(&path).unwrap();
        let ended = move_to("done", RunState::Cancelled, 0);
        store(&mut sqlite, [accept("r", 3, RunState::Running), accept("done", 1, RunState::Queued), ended]);
        sqlite.begin(Durability::Immediate).unwrap();
        sqlite.commit(accept("with", 1, RunState::Queued), moment(2)).unwrap();
        let Err(MemoryError::Store(error)) = sqlite.commit(wrong, moment(2)) else {
            panic!("refused: {says}")
        };
        assert!(error.to_string().contains(says), "{error}");
        // Nothing goes until it is reopened, and nothing of the batch is stored.
        assert!(
            sqlite.end().is_err() && sqlite.begin(Durability::Immediate).is_err() && sqlite.flush().is_err()
        );
        assert!(sqlite.run(&run_id("r")).is_err() && sqlite.last_seq().is_err());
        assert!(matches!(sqlite.put(Put::new("k", "x"), moment(2)), Err(MemoryError::Store(_))));
        sqlite.reopen().unwrap();
        assert_eq!(sqlite.run(&run_id("with")).unwrap(), None);
        store(&mut sqlite, [step("r", 0, 3, &output, 0)]);
    }
}

#[test]
fn a_run_that_comes_to_no_end_is_found_by_its_index() {
    let (_folder, path) = place();
    let mut sqlite = SqliteStore::open(&path).unwrap();
    let ended = |run| move_to(run, RunState::Cancelled, 0);
    let runs = ["a", "b", "c"].map(|run| accept(run, 1, RunState::Queued));
    store(&mut sqlite, runs.into_iter().chain([ended("a"), ended("c")]));
    let unfinished = sqlite.unfinished(None, 9).unwrap();
    assert_eq!(unfinished.iter().map(|run| run.run_id.as_str()).collect::<Vec<_>>(), ["b"]);
    let sql = Connection::open(&path).unwrap();
    let query = "EXPLAIN QUERY PLAN SELECT run_id FROM runs INDEXED BY runs_unfinished \
                 WHERE finished_at IS NULL AND no > 0 ORDER BY no LIMIT 10";
    let mut statement = sql.prepare(query).unwrap();
    let plan: Vec<String> = statement.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
    assert_eq!(plan, ["SEARCH runs USING INDEX runs_unfinished (no>?)"]);
}

// Who may open it.

#[test]
fn a_store_is_open_for_running_once() {
    let (folder, path) = place();
    let sqlite = SqliteStore::open(&path).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(&path, folder.path().join("link.db")).unwrap();
    let other = if cfg!(unix) { "link.db" } else { "runs.db" };
    for spelling in [path.clone(), folder.path().join(".").join(other)] {
        let OpenError::InUse { holder, .. } = open_error(&spelling) else { panic!("it is in use") };
        assert_eq!(holder.unwrap().pid, std::process::id());
    }
    let message = open_error(&path).to_string();
    let this = format!("is in use by this process, {} since 20", std::process::id());
    assert!(message.contains(&this), "{message}");
    drop(sqlite);
    drop(SqliteStore::open(&path).unwrap());
}

/// Run by the test below in a process of its own.
#[test]
fn child_that_dies_with_a_store_open() {
    let Ok(path) = std::env::var("LUNACORE_TEST_STORE") else { return };
    let mut sqlite = SqliteStore::open(path).unwrap();
    let output = "x".into_output().unwrap();
    store(&mut sqlite, [accept("r", 3, RunState::Running), step("r", 0, 3, &output, 0)]);
    sqlite.begin(Durability::Relaxed).unwrap();
    sqlite.commit(step("r", 1, 3, &output, 0), moment(2)).unwrap();
    sqlite.end().unwrap();
    sqlite.begin(Durability::Relaxed).unwrap();
    sqlite.commit(step("r", 2, 3, &output, 0), moment(3)).unwrap();
    std::fs::write(std::env::var("LUNACORE_TEST_READY").unwrap(), "ready").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_killed_process_leaves_what_it_committed_and_no_lock() {
    let (folder, path) = place();
    let ready = folder.path().join("ready");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sqlite::child_that_dies_with_a_store_open"])
        .env("LUNACORE_TEST_STORE", &path)
        .env("LUNACORE_TEST_READY", &ready)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    for _ in 0..3_000 {
        if ready.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let OpenError::InUse { holder, .. } = open_error(&path) else { panic!("it is in use") };
    assert_eq!(holder.unwrap().pid, child.id());
    let cursor = |reader: &SqliteStore| reader.run(&run_id("r")).unwrap().unwrap().cursor;
    assert_eq!(cursor(&SqliteStore::open_read_only(&path).unwrap()), 2);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(std::fs::metadata(path.with_extension("db-wal")).unwrap().len() > 0);
    assert_eq!(cursor(&SqliteStore::open_read_only(&path).unwrap()), 2);
    let mut sqlite = SqliteStore::open(&path).unwrap();
    assert_eq!(cursor(&sqlite), 2);
    store(&mut sqlite, [step("r", 2, 3, &"x".into_output().unwrap(), 0)]);
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let (folder, path) = place();
    std::fs::write(&path, "hello, this is a text and no database").unwrap();
    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (x); PRAGMA user_version = 1").unwrap();
    for (path, says) in [(&path, "no SQLite database"), (&foreign, "another application")] {
        let before = std::fs::read(path).unwrap();
        for error in [open_error(path), SqliteStore::open_read_only(path).map(drop).unwrap_err()] {
            assert!(matches!(&error, OpenError::NotAStore { fault, .. } if fault.contains(says)), "{error}");
        }
        assert_eq!(std::fs::read(path).unwrap(), before);
    }
    assert!(matches!(open_error(folder.path()), OpenError::NotAStore { fault: "it is a directory", .. }));
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing stays beside them: {left:?}");
}

#[test]
fn a_store_of_a_later_version_says_so() {
    let (_folder, path) = place();
    drop(SqliteStore::open(&path).unwrap());
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version = 7").unwrap();
    for error in [open_error(&path), SqliteStore::open_read_only(&path).map(drop).unwrap_err()] {
        assert!(matches!(&error, OpenError::Newer { found: 7, known: 3, .. }), "{error}");
        assert!(error.to_string().contains("has version 7") && error.to_string().contains("runs.db"));
    }
}

#[test]
fn what_is_not_there_or_not_allowed_is_told_apart() {
    let (folder, path) = place();
    let read_only = |path: &Path| SqliteStore::open_read_only(path).map(drop).unwrap_err();
    assert!(matches!(read_only(&path), OpenError::Missing { .. }));
    assert!(!path.exists());
    let nowhere = folder.path().join("no/runs.db");
    assert!(matches!(open_error(&nowhere), OpenError::NoDirectory { .. }));
    assert!(matches!(read_only(&nowhere), OpenError::NoDirectory { .. }));
    // Where even root may not make files.
    if Path::new("/sys/kernel").is_dir() {
        let error = open_error("/sys/kernel/runs.db");
        assert!(matches!(error, OpenError::NotWritable { .. }), "{error:?}");
        assert_eq!(chain(&error).len(), 2);
    }
    // Whoever is root may write what is read-only.
    drop(SqliteStore::open(&path).unwrap());
    for locked in [path.as_path(), folder.path()] {
        let before = std::fs::metadata(locked).unwrap().permissions();
        let mut permissions = before.clone();
        permissions.set_readonly(true);
        std::fs::set_permissions(locked, permissions).unwrap();
        let probe = if locked.is_dir() { folder.path().join("probe") } else { path.clone() };
        if std::fs::OpenOptions::new().append(true).create(true).open(probe).is_err() {
            assert!(matches!(open_error(&path), OpenError::NotWritable { .. }), "{:?}", open_error(&path));
        }
        std::fs::set_permissions(locked, before).unwrap();
    }
}

#[test]
fn a_store_is_read_while_it_is_run() {
    let (_folder, path) = place();
    let mut running = SqliteStore::open(&path).unwrap();
    let mut reading = SqliteStore::open_read_only(&path).unwrap();
    store(&mut running, [accept("r", 2, RunState::Running)]);
    assert_eq!(reading.run(&run_id("r")).unwrap(), running.run(&run_id("r")).unwrap());
    running.begin(Durability::Immediate).unwrap();
    running.commit(step("r", 0, 2, &"x".into_output().unwrap(), 0), moment(2)).unwrap();
    // In the middle of a batch it reads what was stored before, and does not wait.
    assert_eq!(reading.run(&run_id("r")).unwrap().unwrap().cursor, 0);
    assert_eq!(running.run(&run_id("r")).unwrap().unwrap().cursor, 1);
    running.end().unwrap();
    assert_eq!(reading.last_seq().unwrap(), 5);

    reading.begin(Durability::Immediate).unwrap();
    assert!(matches!(
        reading.commit(accept("x", 1, RunState::Queued), moment(1)),
        Err(MemoryError::ReadOnly)
    ));
    assert!(matches!(reading.put(Put::new("k", "x"), moment(1)), Err(MemoryError::ReadOnly)));
    assert!(matches!(reading.delete(&Project::default(), "k", None), Err(MemoryError::ReadOnly)));
    reading.end().unwrap();
    reading.flush().unwrap();
    reading.reopen().unwrap();
    assert_eq!(reading.reader().unwrap().unwrap().last_seq().unwrap(), 5);
}

// What other programs see.

#[test]
fn views_show_what_is_stored_while_it_is_open() {
    let (_folder, path) = place();
    let mut sqlite = SqliteStore::open(&path).unwrap();
    let output = json!({ "n": 1 }).into_output().unwrap();
    let bytes = Output::Bytes(Bytes::from_static(b"\xff"));
    let text = "plain".into_output().unwrap();
    let mut failed = move_to("r", RunState::Failed, 3);
    let failure = Arc::new(StepFailure::record(FailureKind::Error, &std::io::Error::other("broken")));
    failed.update.failure = Some(failure.clone());
    failed.events = vec![EventKind::PlanFailed { task_id: step_id(3), failure }];
    let steps =
        [&output, &bytes, &text].into_iter().enumerate().map(|(n, output)| step("r", n, 4, output, 0));
    store(&mut sqlite, std::iter::once(accept("r", 4, RunState::Running)).chain(steps).chain([failed]));
    sqlite.begin(Durability::Relaxed).unwrap();
    sqlite.put(Put::new("note", "own"), moment(1)).unwrap();
    sqlite.end().unwrap();

    let sql = Connection::open(&path).unwrap();
    let rows = |query: &str| -> Vec<String> {
        let mut statement = sql.prepare(query).unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let overview = "SELECT concat_ws(' ', run_id, name, state, completed_steps, steps, failure, started) FROM run_overview";
    let time = humantime::format_rfc3339_micros(moment(1)).to_string();
    assert_eq!(rows(overview), [format!("r plan r failed 3 4 broken {time}")]);
    let log = "SELECT concat_ws(' ', seq, time, run_id, type, task_id, payload ->> '$.result') FROM event_log WHERE seq > 3";
    assert_eq!(rows(log)[0], format!("4 {time} r task.completed s0 {{\"n\":1}}"));
    assert_eq!(rows(log)[2], format!("6 {time} r task.completed s1"));
    assert_eq!(rows(log)[4], format!("8 {time} r task.completed s2 plain"));
    assert_eq!(rows(log)[6], format!("10 {time} r plan.failed s3"));
    let artifacts =
        "SELECT concat_ws(' ', key, version, type, run_id, step, data) FROM artifact_overview ORDER BY key";
    let expected = [
        "note 1 data own",
        "task:s0 1 task_result r 0 {\"n\":1}",
        "task:s1 1 task_result r 1",
        "task:s2 1 task_result r 2 plain",
    ];
    assert_eq!(rows(artifacts), expected);
    assert_eq!(rows("SELECT durability FROM runs"), ["relaxed"]);
    assert_eq!(rows("SELECT plan ->> '$.steps[1].id' FROM runs"), ["s1"]);
}

#[test]
fn a_row_that_somebody_broke_is_an_error_that_names_it() {
    let output = "x".into_output().unwrap();
    for (edit, table, row) in [
        ("UPDATE runs SET state = 'lost'", "runs", "1"),
        ("UPDATE runs SET run_id = char(10)", "runs", "1"),
        ("UPDATE runs SET accepted_at = -1", "runs", "1"),
        ("UPDATE runs SET finished_at = 9223372036854775807", "runs", "1"),
        ("UPDATE runs SET failure = '{'", "runs", "1"),
        ("UPDATE runs SET plan = '{\"format\":9,\"steps\":[]}'", "runs", "1"),
        ("UPDATE steps SET output = '{' WHERE step = 1", "steps", "1 1"),
        ("UPDATE steps SET output = 1.5 WHERE step = 1", "steps", "1 1"),
        ("DELETE FROM steps WHERE step = 0", "steps", "1 1"),
        ("UPDATE artifacts SET id = x'00'", "artifacts", "2 2"),
        ("UPDATE artifacts SET meta = '['", "artifacts", "2 2"),
        ("UPDATE artifacts SET data = 1.5", "artifacts", "2 2"),
        ("UPDATE artifacts SET version = -1 WHERE version = 1", "artifacts", "2 -1"),
        ("UPDATE steps SET artifact_id = NULL", "steps", "1 1"),
        ("UPDATE steps SET version = -2 WHERE step = 1", "steps", "1 1"),
        ("UPDATE events SET payload = '[]' WHERE seq = 1", "events", "1"),
        ("UPDATE events SET payload = '{' WHERE seq = 1", "events", "1"),
        ("UPDATE events SET ids = x'' WHERE seq = 1", "events", "1"),
        ("UPDATE events SET ids = zeroblob(49) WHERE seq = 1", "events", "1"),
        ("UPDATE events SET at = -1 WHERE seq = 4", "events", "4"),
        ("DELETE FROM steps WHERE step = 0", "events", "4"),
    ] {
        let (_folder, path) = place();
        let mut sqlite = SqliteStore::open(&path).unwrap();
        let steps = (0..2).map(|n| step("r", n, 2, &output, 1));
        store(&mut sqlite, std::iter::once(accept("r", 2, RunState::Running)).chain(steps));
        let artifact = |key| sqlite.artifact(&Project::default(), key, None);
        Connection::open(&path).unwrap().execute_batch(edit).unwrap();
        let failed = match table {
            "runs" if edit.contains("plan") => sqlite.plan(&run_id("r")).map(drop),
            "runs" => sqlite.runs(None, 9).map(drop),
            "steps" => artifact("task:s1").and_then(|_| sqlite.outputs(&run_id("r"))).map(drop),
            "artifacts" => artifact("k0").and_then(|_| sqlite.versions(&Project::default(), "k0")).map(drop),
            _ => match sqlite.events(0, 9) {
                Err(MemoryError::Store(error)) => Err(error),
                other => panic!("{edit}: {other:?}"),
            },
        };
        let error = failed.expect_err(edit);
        assert_eq!(error.to_string(), format!("row {row} of the table {table} cannot be read"), "{edit}");
        assert!(std::error::Error::source(&error).is_some());
    }
}

#[test]
fn events_that_somebody_deleted_are_told_as_gone() {
    let (_folder, path) = place();
    let mut sqlite = SqliteStore::open(&path).unwrap();
    store(&mut sqlite, [accept("a", 1, RunState::Running), accept("b", 1, RunState::Running)]);
    Connection::open(&path).unwrap().execute_batch("DELETE FROM events WHERE seq <= 2").unwrap();
    let gone = |read: Result<Vec<Event>, MemoryError>| {
        matches!(read, Err(MemoryError::HistoryGone { first: 4, .. }))
    };
    assert!(gone(sqlite.events(0, 9)) && gone(sqlite.events(2, 9)));
    assert!(gone(sqlite.run_events(&run_id("a"), 0, 9)) && gone(sqlite.run_events(&run_id("a"), 1, 9)));
    assert_eq!(sqlite.events(3, 9).unwrap().len(), 3);
    assert_eq!(sqlite.run_events(&run_id("b"), 0, 9).unwrap().len(), 3);
}

// Through the actors.

#[actix::test]
async fn a_plan_is_there_when_its_process_is_not_any_more() {
    let (_folder, path) = place();
    let engine = Engine::builder().memory(ProjectMemory::open(&path).unwrap()).start().unwrap();
    let mut events = watch(engine.bus()).await;
    let steps = [
        Step::new("process", || "processed_data"),
        Step::new("fetch", || async { Bytes::from_static(b"\xff") }),
    ];
    let plan = ExecutePlan::new(steps).run_id("r");
    let results = engine.orchestrator().send(plan).await.unwrap().unwrap();
    let seen = until(&mut events, "plan.completed").await;
    let record = engine.memory().send(GetRun(run_id("r"))).await.unwrap().unwrap().unwrap();
    assert_eq!((record.state, record.cursor), (RunState::Completed, 2));
    // While it is running, another program reads it.
    let reader = ProjectMemory::open_read_only(&path).unwrap().start();
    assert_eq!(reader.send(ReadHistory::new(run_id("r"))).await.unwrap().unwrap(), seen);
    let refused = reader.send(Put::new("k", "x")).await.unwrap();
    assert!(matches!(refused, Err(MemoryError::ReadOnly)), "{refused:?}");
    engine.orchestrator().send(Shutdown::drain(Duration::from_secs(5))).await.unwrap();
    drop((engine, events));

    let memory = reopened(&path).await.start();
    assert_eq!(memory.send(GetRun(run_id("r"))).await.unwrap().unwrap(), Some(record));
    assert_eq!(memory.send(ReadHistory::new(run_id("r"))).await.unwrap().unwrap(), seen);
    let outputs = memory.send(GetOutputs(run_id("r"))).await.unwrap().unwrap().unwrap();
    assert_eq!(outputs.iter().map(Output::to_value).collect::<Vec<_>>(), results);
    let artifact = memory.send(Get::latest("task:process")).await.unwrap().unwrap().unwrap();
    assert_eq!(artifact.text(), Some("processed_data"));
    let again = memory.send(Put::new("note", "x").meta("a", 1)).await.unwrap().unwrap();
    let merged = memory.send(Put::new("note", "y").meta("b", 2)).await.unwrap().unwrap();
    assert_eq!((again.version, Value::from(merged.meta)), (1, json!({ "a": 1, "b": 2 })));
}

/// The actors of an engine end a little after its last handle is dropped.
async fn reopened(path: &Path) -> ProjectMemory {
    for _ in 0..500 {
        match ProjectMemory::open(path) {
            Err(OpenError::InUse { .. }) => actix::clock::sleep(Duration::from_millis(10)).await,
            other => return other.unwrap(),
        }
    }
    panic!("the store is still in use")
}

#[actix::test]
async fn many_plans_at_once_share_a_store() {
    let (_folder, path) = place();
    let memory = ProjectMemory::with_store(SqliteStore::open(&path).unwrap().durability(Durability::Relaxed));
    let engine = Engine::builder().memory(memory).max_concurrent_plans(50).start().unwrap();
    let steps = || (0..4).map(|n| Step::new(format!("s{n}"), move || async move { n }));
    let plans = (0..50).map(|_| ExecutePlan::new(steps().collect::<Plan>()));
    let runs: Vec<_> = plans.map(|plan| actix::spawn(engine.orchestrator().send(plan))).collect();
    for results in runs {
        assert_eq!(results.await.unwrap().unwrap().unwrap().len(), 4);
    }
    let versions = engine.memory().send(ListVersions::new("task:s3")).await.unwrap().unwrap();
    assert_eq!(versions, (1..=50).collect::<Vec<u64>>());
    let sql = Connection::open(&path).unwrap();
    let count = |query: &str| sql.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM steps"), 200);
    assert_eq!(count("SELECT max(seq) - count(*) FROM event_log"), 0);
}

#[actix::test]
async fn a_store_that_was_shut_down_is_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runs.db");
    let engine = Engine::builder().memory(ProjectMemory::open(&path).unwrap()).start().unwrap();
    engine.execute([Step::new("x", || "x")]).await.unwrap();
    engine.shutdown(Shutdown::now()).await;
    drop(engine);
    // The memory goes when its last address has; until then the lock is held.
    while matches!(SqliteStore::open(&path), Err(OpenError::InUse { .. })) {
        tokio::task::yield_now().await;
    }
    let copy = dir.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    assert!(!dir.path().join("runs.db-wal").exists());
    assert_eq!(SqliteStore::open_read_only(&copy).unwrap().runs(None, 9).unwrap().len(), 1);
}

/// A run that keeps large signals is sent another as fast: none of them is read for it.
#[actix::test]
async fn what_is_kept_is_not_read_to_be_counted() {
    let (_folder, path) = place();
    let mut sqlite = SqliteStore::open(&path).unwrap();
    store(&mut sqlite, [accept("r", 1, RunState::Running)]);
    drop(sqlite);
    let memory = ProjectMemory::open(&path).unwrap().start();
    let send = |payload: &str| {
        memory.send(RecordSignal::new(run_id("r"), Arc::from("go"), Arc::new(Value::from(payload))))
    };
    let first = send("first").await.unwrap().unwrap();
    // Whoever read it would fail.
    let changed = Connection::open(&path).unwrap().execute("UPDATE signals SET payload = '{\"broken'", []);
    assert_eq!(changed.unwrap(), 1);
    assert_eq!(send("second").await.unwrap().unwrap().no, first.no + 1);
}
