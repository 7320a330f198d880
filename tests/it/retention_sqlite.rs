//! The same in a file: what a crash leaves, what others read meanwhile, and how large the file gets.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use actix::prelude::*;
use lunacore::limits::{COLLECT_INTERVAL, COLLECT_ROWS, RELAXED_WINDOW, SQLITE_REMEMBERED};
use lunacore::testing::{Fault, FaultyStore, SharedStore, virtual_clock};
use lunacore::*;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::retention::Told;
use crate::sqlite_model::{accept, moment, outputs, step};
use crate::support::*;

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("runs.db");
    (folder, path)
}

fn number(path: &Path, sql: &str) -> i64 {
    Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

fn batch<T>(store: &mut dyn Store, write: impl FnOnce(&mut dyn Store) -> T) -> T {
    store.begin(Durability::Relaxed).unwrap();
    let written = write(&mut *store);
    store.end().unwrap();
    written
}

fn collect(store: &mut dyn Store, retention: &Retention, now: SystemTime, limit: usize) -> Collected {
    let mut all = Collected::default();
    for _ in 0..10_000 {
        all = all.and(batch(store, |store| store.collect(retention, now, limit).unwrap()));
        if !all.more {
            return all;
        }
    }
    panic!("it does not come to an end: {all:?}")
}

/// A run of so many steps that is finished in one batch.
fn whole_run(store: &mut dyn Store, run: &str, steps: usize, at: SystemTime) {
    run_with(store, run, (steps, 1), at);
}

/// The same with so many further artifacts a step.
fn run_with(store: &mut dyn Store, run: &str, (steps, staged): (usize, usize), at: SystemTime) {
    let output = run.into_output().unwrap();
    batch(store, |store| {
        store.commit(accept(run, steps, RunState::Running), at).unwrap();
        (0..steps).for_each(|n| drop(store.commit(step(run, n, steps, &output, staged), at).unwrap()));
    });
}

fn names(store: &dyn Reader) -> Vec<String> {
    store.runs(None, 1_000).unwrap().into_iter().map(|record| record.run_id.to_string()).collect()
}

/// The process dies at each batch of a collection; what must stay is there, and the next one brings it to its end.
fn sweep_over_deaths(place: &mut dyn FnMut() -> SharedStore) {
    let retention = Retention::new().keep_runs(2).keep_versions(2).keep_events_for(Duration::from_secs(60));
    for fault in [Fault::Fail, Fault::FailAfter, Fault::Die, Fault::DieAfter] {
        for death in 1.. {
            let mut store = place();
            batch(&mut store, |store| {
                store.commit(accept("open", 3, RunState::Running), moment(0)).unwrap();
                store.commit(step("open", 0, 3, &outputs()[0], 2), moment(0)).unwrap();
            });
            for n in 0..8 {
                whole_run(&mut store, &format!("r{n}"), 3, moment(n));
            }
            let newest = store.artifact(&Project::default(), "task:s1", None).unwrap();
            let last_seq = store.last_seq().unwrap();
            let mut dying = FaultyStore::new(store.clone(), fault, death);
            let died = (0..1_000).find_map(|_| {
                dying.begin(Durability::Relaxed).unwrap();
                let some = dying.collect(&retention, moment(300), 5);
                match some.and_then(|some| Ok(dying.end().map(|()| some)?)) {
                    Ok(some) if some.more => None,
                    other => Some(other.is_err()),
                }
            });
            store.reopen().unwrap();
            let open = store.run(&run_id("open")).unwrap().unwrap();
            assert_eq!((open.state, open.cursor), (RunState::Running, 1));
            assert_eq!(store.outputs(&run_id("open")).unwrap().unwrap(), outputs()[..1]);
            assert_eq!(store.artifact(&Project::default(), "task:s1", None).unwrap(), newest);
            assert_eq!(store.last_seq().unwrap(), last_seq);
            for record in store.runs(None, 100).unwrap() {
                assert_eq!(store.outputs(&record.run_id).unwrap().unwrap().len(), record.cursor);
                assert!(store.plan(&record.run_id).unwrap().is_some());
            }
            for version in store.versions(&Project::default(), "task:s1").unwrap() {
                let artifact =
                    store.artifact(&Project::default(), "task:s1", Some(version)).unwrap().unwrap();
                assert_eq!(artifact.text(), Some(&*format!("r{}", version - 1)));
            }
            collect(&mut store, &retention, moment(300), 5);
            assert_eq!(names(&store), ["open", "r6", "r7"]);
            assert_eq!(store.versions(&Project::default(), "task:s1").unwrap(), [7, 8]);
            assert_eq!(store.versions(&Project::default(), "k0").unwrap(), [24, 25]);
            // And it goes on.
            batch(&mut store, |store| {
                for n in 1..3 {
                    store.commit(step("open", n, 3, &outputs()[1], 0), moment(400)).unwrap();
                }
            });
            assert_eq!(store.run(&run_id("open")).unwrap().unwrap().state, RunState::Completed);
            assert_eq!(store.versions(&Project::default(), "task:s1").unwrap(), [7, 8, 9]);
            if died == Some(false) {
                assert!(death > 10, "there were few batches: {death}");
                break;
            }
        }
    }
}

#[test]
fn a_crash_at_any_batch_leaves_what_must_stay() {
    sweep_over_deaths(&mut || SharedStore::new(VolatileStore::default()));
    let folder = tempfile::tempdir().unwrap();
    let mut places = 0;
    sweep_over_deaths(&mut || {
        places += 1;
        let store = SqliteStore::open(folder.path().join(format!("{places}.db"))).unwrap();
        SharedStore::new(store.durability(Durability::Relaxed))
    });
}

#[test]
fn a_large_run_goes_a_part_at_a_time_and_nothing_of_it_is_left() {
    let (_folder, path) = place();
    let mut store = SqliteStore::open(&path).unwrap();
    run_with(&mut store, "large", (300, 0), moment(0));
    run_with(&mut store, "next", (1, 0), moment(1));
    let retention = Retention::new().keep_runs(0).keep_versions(1);
    // All its artifacts but the last of each key are no artifacts any more.
    run_with(&mut store, "same", (300, 0), moment(2));
    run_with(&mut store, "last", (1, 0), moment(3));
    let (mut parts, mut left) = (0, 0);
    for round in 0.. {
        assert!(round < 1_000, "it does not come to an end");
        let some = batch(&mut store, |store| store.collect(&retention, moment(9), 50).unwrap());
        if store.run(&run_id("large")).unwrap().is_none() {
            assert_eq!(store.outputs(&run_id("large")).unwrap(), None);
            let rows =
                number(&path, "SELECT count(*) FROM steps JOIN leftovers USING (run) WHERE key_no IS NULL");
            parts += usize::from(rows > 0 && rows != left);
            left = rows;
            if rows > 0 {
                // Whoever opens it next goes on with the rest.
                drop(store);
                store = SqliteStore::open(&path).unwrap();
            }
        } else {
            assert_eq!(store.outputs(&run_id("large")).unwrap().unwrap().len(), 300);
        }
        if !some.more {
            break;
        }
    }
    assert!(parts > 2, "it went in {parts} parts");
    assert_eq!(names(&store), ["last"]);
    let count = |sql| number(&path, sql);
    assert_eq!(count("SELECT count(*) FROM leftovers"), 0);
    assert_eq!(count("SELECT count(*) FROM steps WHERE key_no IS NULL"), 0);
    assert_eq!(count("SELECT count(*) FROM steps"), 300, "one version of each key");
    assert_eq!(
        count("SELECT count(*) FROM artifact_overview WHERE run_id IS NULL AND type = 'task_result'"),
        299
    );
    // What is left of deleted runs is deleted like any artifact, and then it is gone.
    let key = Project::default();
    assert!(batch(&mut store, |store| store.delete(&key, "task:s7", None).unwrap()));
    assert!(batch(&mut store, |store| store.delete(&key, "task:s8", Some(2)).unwrap()));
    assert!(!batch(&mut store, |store| store.delete(&key, "task:s8", Some(2)).unwrap()));
    assert_eq!(count("SELECT count(*) FROM steps"), 298);
    // While that of a run that is kept is an output still.
    assert!(batch(&mut store, |store| store.delete(&key, "task:s0", None).unwrap()));
    assert_eq!(
        (count("SELECT count(*) FROM steps"), store.outputs(&run_id("last")).unwrap().unwrap().len()),
        (298, 1)
    );
}

/// What is left of a run may be all artifacts, among which the rest is looked for: that is work as well, however little goes.
#[test]
fn what_is_looked_through_counts_although_it_stays() {
    let (_folder, path) = place();
    let mut store = SqliteStore::open(&path).unwrap();
    for n in 0..4 {
        run_with(&mut store, &format!("r{n}"), (300, 0), moment(n));
    }
    run_with(&mut store, "last", (1, 0), moment(9));
    // Nothing but artifacts and a few outputs that are none any more.
    for key in ["task:s3", "task:s150", "task:s299"] {
        batch(&mut store, |store| store.delete(&Project::default(), key, None).unwrap());
    }
    let retention = Retention::new().keep_runs(0);
    let (mut behind, mut batches) = (0, 0);
    loop {
        let some = batch(&mut store, |store| store.collect(&retention, moment(99), 50).unwrap());
        let leftovers = number(&path, "SELECT count(*) FROM leftovers");
        assert!(leftovers <= 1, "{leftovers} runs went, and what is left of none was looked through");
        (behind, batches) = (behind + leftovers, batches + 1);
        assert!(some.more || leftovers == 0);
        if !some.more {
            break;
        }
        if batches % 3 == 0 {
            drop(store);
            store = SqliteStore::open(&path).unwrap();
        }
    }
    assert!(batches >= 4 * 300 / 50 && behind >= 4 * 5, "{batches} batches, {behind} behind");
    assert_eq!(names(&store), ["last"]);
    assert_eq!(number(&path, "SELECT count(*) FROM steps WHERE key_no IS NULL"), 0);
    assert_eq!(number(&path, "SELECT count(*) FROM steps"), 4 * 297 + 1);
}

/// A clock that was ahead is in the way of nothing, neither in what finished then nor in what has since.
#[test]
fn runs_that_finished_in_the_future_keep_no_others() {
    let (_folder, path) = place();
    let mut store = SqliteStore::open(&path).unwrap().durability(Durability::Relaxed);
    let finished = |store: &mut SqliteStore, runs: std::ops::Range<u64>, later: u64| {
        for n in runs {
            batch(store, |store| {
                store.commit(accept(&format!("r{n}"), 0, RunState::Completed), moment(later + n)).unwrap();
            });
        }
    };
    // More than are looked at together, behind one that is old and before others.
    finished(&mut store, 0..1, 0);
    finished(&mut store, 1..COLLECT_ROWS as u64 + 100, 1_000_000);
    finished(&mut store, 600..700, 0);
    finished(&mut store, 700..702, 1_000);
    let retention = Retention::new().keep_runs_for(Duration::from_secs(60));
    let collected = collect(&mut store, &retention, moment(1_000), COLLECT_ROWS);
    assert_eq!((collected.runs, names(&store)), (700, vec!["r700".to_owned(), "r701".to_owned()]));
    // Those that come last wait for their time, and with them nothing else.
    finished(&mut store, 702..1_400, 1_000_000);
    finished(&mut store, 1_400..1_401, 1_000);
    let collected = collect(&mut store, &retention, moment(1_000 + 702 + 60), 20);
    assert_eq!((collected.runs, names(&store).len()), (2, 699));
    assert_eq!(collect(&mut store, &retention, moment(1_000 + 1_401 + 60), 20).runs, 698);
    assert_eq!(names(&store), ["r1400"]);
}

#[test]
fn a_run_never_gets_the_number_of_one_that_has_left_artifacts() {
    let (_folder, path) = place();
    let mut store = SqliteStore::open(&path).unwrap();
    let nothing = Retention::new().keep_runs(0);
    whole_run(&mut store, "a", 2, moment(0));
    batch(&mut store, |store| store.commit(accept("b", 1, RunState::Running), moment(1)).unwrap());
    whole_run(&mut store, "c", 2, moment(2));
    batch(&mut store, |store| store.commit(step("b", 0, 1, &outputs()[0], 0), moment(3)).unwrap());
    collect(&mut store, &nothing, moment(9), 10);
    assert_eq!(names(&store), ["b", "c"]);
    drop(store);
    let mut store = SqliteStore::open(&path).unwrap();
    whole_run(&mut store, "d", 2, moment(10));
    collect(&mut store, &nothing, moment(19), 10);
    assert_eq!(names(&store), ["d"]);
    let texts: Vec<_> = (1..=4)
        .map(|version| store.artifact(&Project::default(), "task:s0", Some(version)).unwrap().unwrap())
        .map(|artifact| {
            (artifact.text().unwrap().to_owned(), artifact.run_id.map(|run_id| run_id.to_string()))
        })
        .collect();
    let own = |text: &str, run: Option<&str>| (text.to_owned(), run.map(str::to_owned));
    assert_eq!(texts, [own("a", None), own("c", None), own("processed_data", None), own("d", Some("d"))]);
}

/// Others read while things go: what they get is whole, or they are told that it is gone.
#[test]
fn readers_see_all_of_it_or_are_told_that_it_is_gone() {
    const STEPS: usize = 4;
    let (_folder, path) = place();
    let mut store = SqliteStore::open(&path).unwrap().durability(Durability::Relaxed);
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (view, stop) = (store.reader().unwrap().unwrap(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut gone = 0;
                while !stop.load(Ordering::SeqCst) {
                    let after = match view.events(0, 1) {
                        Err(MemoryError::HistoryGone { first, .. }) => first - 1,
                        read => read.map(|_| 0).unwrap(),
                    };
                    match view.events(after, 9) {
                        Err(MemoryError::HistoryGone { .. }) => gone += 1,
                        read => {
                            let numbers: Vec<u64> = read.unwrap().iter().filter_map(Event::seq).collect();
                            let last = after + numbers.len() as u64;
                            assert_eq!(numbers, (after + 1..=last).collect::<Vec<u64>>());
                        }
                    }
                    for record in view.runs(None, 3).unwrap() {
                        match view.outputs(&record.run_id).unwrap() {
                            None => gone += 1,
                            Some(outputs) => assert_eq!(outputs.len(), STEPS, "{}", record.run_id),
                        }
                        match view.run_events(&record.run_id, 0, 100) {
                            Err(MemoryError::HistoryGone { .. }) => gone += 1,
                            // Accepted and started; two for each step.
                            read => assert!([0, 3 + 2 * STEPS].contains(&read.unwrap().len())),
                        }
                    }
                }
                gone
            })
        })
        .collect();
    let retention = Retention::new().keep_runs(5).keep_versions(3);
    for n in 0..600 {
        whole_run(&mut store, &format!("r{n}"), STEPS, moment(n));
        if n % 3 == 2 {
            collect(&mut store, &retention, moment(n), 20);
        }
    }
    stop.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.join().unwrap();
    }
}

/// How large file and log are after many rounds of plans, in pages, with and without retention.
async fn pages_after(rounds: usize, retention: Retention) -> (i64, i64) {
    let (_folder, path) = place();
    let store = SqliteStore::open(&path).unwrap().durability(Durability::Relaxed);
    let engine = Engine::builder()
        .memory(ProjectMemory::with_store(store))
        .clock(virtual_clock())
        .retention(retention)
        .max_concurrent_plans(10)
        .start()
        .unwrap();
    let mut largest = (0, 0);
    for round in 0..rounds {
        let plans: Vec<_> = (0..10)
            .map(|n| {
                let steps = (0..5).map(|step| {
                    let note = move |ctx: StepContext| async move {
                        ctx.put_artifact(format!("notes/{step}"), "n".repeat(1_000))?;
                        Ok::<_, StepError>("x".repeat(1_000))
                    };
                    Step::new(format!("s{step}"), note)
                });
                let plan = ExecutePlan::new(steps.collect::<Plan>()).run_id(format!("r{round}-{n}"));
                actix::spawn(engine.orchestrator().send(plan))
            })
            .collect();
        for plan in plans {
            assert_eq!(plan.await.unwrap().unwrap().unwrap().len(), 5);
        }
        tokio::time::sleep(COLLECT_INTERVAL).await;
        let log = std::fs::metadata(format!("{}-wal", path.display())).unwrap().len() / 4_096;
        largest = (largest.0.max(number(&path, "PRAGMA page_count")), largest.1.max(log as i64));
    }
    largest
}

#[actix::test]
async fn the_file_stays_small_however_long_it_runs() {
    tokio::time::pause();
    let kept = Retention::new().keep_runs(20).keep_versions(10);
    let by_time = Retention::new()
        .keep_runs_for(2 * COLLECT_INTERVAL)
        .keep_events_for(COLLECT_INTERVAL)
        .keep_versions(10);
    let without = pages_after(60, Retention::new()).await;
    for retention in [kept, by_time] {
        let few = pages_after(15, retention.clone()).await;
        let many = pages_after(60, retention.clone()).await;
        assert!(many.0 * 4 < without.0, "{many:?} is not much less than {without:?}");
        assert!(many.0 < few.0 * 5 / 4, "it grows from {few:?} to {many:?}");
        assert!(many.1 <= 2 * lunacore::limits::SQLITE_LOG_PAGES as i64, "{many:?}");
    }
}

#[test]
fn the_space_of_what_has_gone_is_given_back() {
    let (_folder, path) = place();
    let mut store = SqliteStore::open(&path).unwrap().durability(Durability::Relaxed);
    for n in 0..300 {
        whole_run(&mut store, &format!("r{n}"), 5, moment(n));
    }
    collect(&mut store, &Retention::new().keep_runs(1).keep_versions(1), moment(999), COLLECT_ROWS);
    let (before, last) = (number(&path, "PRAGMA page_count"), store.last_seq().unwrap());
    store.vacuum().unwrap();
    assert!(number(&path, "PRAGMA page_count") * 4 < before);
    assert!(std::fs::metadata(&path).unwrap().len() < before as u64 * 1_024);
    assert_eq!((names(&store), store.last_seq().unwrap()), (vec!["r299".to_owned()], last));
    assert_eq!(store.outputs(&run_id("r299")).unwrap().unwrap().len(), 5);
    whole_run(&mut store, "next", 2, moment(1_000));
    assert_eq!(store.versions(&Project::default(), "task:s0").unwrap(), [300, 301]);
    let refused = SqliteStore::open_read_only(&path).unwrap().vacuum();
    assert!(matches!(refused, Err(MemoryError::ReadOnly)), "{refused:?}");
}

#[actix::test]
async fn a_store_for_reading_only_loses_nothing() {
    let (_folder, path) = place();
    let mut store = SqliteStore::open(&path).unwrap();
    for n in 0..3 {
        whole_run(&mut store, &format!("r{n}"), 1, moment(n));
    }
    let memory = ProjectMemory::open_read_only(&path).unwrap().start();
    let refused = memory.send(Collect::by(Retention::new().keep_runs(0))).await.unwrap();
    assert!(matches!(refused, Err(MemoryError::ReadOnly)), "{refused:?}");
    assert_eq!(names(&store).len(), 3);
}

/// It will not get any better.
#[actix::test]
async fn a_store_for_reading_only_is_asked_once() {
    let (_folder, path) = place();
    drop(SqliteStore::open(&path).unwrap());
    let (store, calls) = Told::new(SqliteStore::open_read_only(&path).unwrap());
    tokio::time::pause();
    let memory = ProjectMemory::with_store(store).retention(Retention::new().keep_runs(1)).start();
    tokio::time::sleep(5 * COLLECT_INTERVAL).await;
    let asked = calls.lock().unwrap().iter().filter(|call| call.starts_with("begin")).count();
    assert_eq!(asked, 1);
    drop(memory);
}

/// New versions come as fast as old ones go, and runs have their turn all the same.
#[test]
fn versions_keep_no_run_from_going() {
    let (_folder, path) = place();
    let mut store = SqliteStore::open(&path).unwrap().durability(Durability::Relaxed);
    for n in 0..5 {
        run_with(&mut store, &format!("r{n}"), (1, 0), moment(n));
    }
    let retention = Retention::new().keep_versions(1).keep_runs(1);
    for _ in 0..50 {
        batch(&mut store, |store| {
            (0..20).for_each(|_| drop(store.put(Put::new("k", "x"), moment(9)).unwrap()));
        });
        assert!(batch(&mut store, |store| store.collect(&retention, moment(9), 10).unwrap()).more);
    }
    assert_eq!(names(&store), ["r4"]);
}

/// So many keys have new versions that they are not remembered: all are looked at once more.
#[test]
fn no_key_is_forgotten_however_many_there_are() {
    let (_folder, path) = place();
    let mut store = SqliteStore::open(&path).unwrap().durability(Durability::Relaxed);
    let retention = Retention::new().keep_versions(1);
    collect(&mut store, &retention, moment(0), COLLECT_ROWS);
    batch(&mut store, |store| {
        let mut put = |key: String| drop(store.put(Put::new(key, ""), moment(1)).unwrap());
        (0..2).for_each(|_| put("first".to_owned()));
        (0..SQLITE_REMEMBERED).for_each(|n| put(format!("k{n}")));
    });
    assert_eq!(collect(&mut store, &retention, moment(2), COLLECT_ROWS).versions, 1);
    assert_eq!(store.versions(&Project::default(), "first").unwrap(), [2]);
}

#[test]
fn signals_that_nothing_took_go_with_their_run() {
    let (_folder, path) = place();
    let mut store = SqliteStore::open(&path).unwrap();
    for run in ["a", "b"] {
        batch(&mut store, |store| {
            store.commit(accept(run, 1, RunState::Running), moment(0)).unwrap();
            let signal = RecordSignal::new(run_id(run), Arc::from("go"), Arc::default());
            store.record_signal(signal, moment(0)).unwrap();
            store.commit(step(run, 0, 1, &outputs()[0], 0), moment(0)).unwrap();
        });
    }
    collect(&mut store, &Retention::new().keep_runs(1), moment(9), COLLECT_ROWS);
    assert_eq!(number(&path, "SELECT count(*) FROM signals"), 1);
    assert_eq!(store.signals(&run_id("b")).unwrap().len(), 1);
}

/// An old file gets what retention needs when it is opened for running; until then it is read as it is.
#[test]
fn a_store_of_the_first_version_is_collected_from_too() {
    let (_folder, path) = place();
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store-v1.db"), &path).unwrap();
    let before = names(&SqliteStore::open_read_only(&path).unwrap());
    assert_eq!(before, ["completed", "failed", "cancelled", "interrupted"]);
    let mut store = SqliteStore::open(&path).unwrap();
    let collected = collect(&mut store, &Retention::new().keep_runs(1), SystemTime::now(), 10);
    assert_eq!((collected.runs, names(&store)), (2, vec!["cancelled".to_owned(), "interrupted".to_owned()]));
    let bytes = store.artifact(&Project::default(), "task:bytes", None).unwrap().unwrap();
    assert_eq!((bytes.data.as_bytes(), bytes.run_id), (&b"\xff\x00raw"[..], None));
}

/// Collecting is a batch of its own, which is not flushed for its own sake.
#[actix::test]
async fn collecting_forces_nothing_to_the_disk_and_is_alone_in_its_batch() {
    let (_folder, path) = place();
    let (store, calls) = Told::new(SqliteStore::open(&path).unwrap());
    let memory = ProjectMemory::with_store(store).start();
    for n in 0..3 {
        let commit = accept(&format!("r{n}"), 0, RunState::Completed);
        memory.send(commit).await.unwrap().unwrap();
    }
    calls.lock().unwrap().clear();
    let one = memory.send(Put::new("a", "x"));
    let collected = memory.send(Collect::by(Retention::new().keep_runs(1)));
    let other = memory.send(Put::new("b", "x"));
    let (one, collected, other) = (actix::spawn(one), actix::spawn(collected), actix::spawn(other));
    one.await.unwrap().unwrap().unwrap();
    other.await.unwrap().unwrap().unwrap();
    assert_eq!(collected.await.unwrap().unwrap().unwrap().runs, 2);
    tokio::time::sleep(3 * RELAXED_WINDOW).await;
    let calls = calls.lock().unwrap().join(", ");
    assert!(calls.contains("begin relaxed, collect, end"), "{calls}");
    assert!(!calls.contains("flush") && !calls.contains("reopen"), "{calls}");
}

/// A flush that is owed is made, and none that is not.
#[actix::test]
async fn what_was_stored_relaxed_is_flushed_once_whatever_is_collected_meanwhile() {
    tokio::time::pause();
    for paid in [false, true] {
        let (_folder, path) = place();
        let (store, calls) = Told::new(SqliteStore::open(&path).unwrap());
        let memory = ProjectMemory::with_store(store).start();
        let mut relaxed = accept("a", 0, RunState::Completed);
        relaxed.durability = Some(Durability::Relaxed);
        memory.send(relaxed).await.unwrap().unwrap();
        memory.send(Collect::by(Retention::new().keep_versions(1))).await.unwrap().unwrap();
        if paid {
            // One that is flushed at once flushes what came before.
            memory.send(Put::new("a", "x")).await.unwrap().unwrap();
        }
        tokio::time::sleep(5 * RELAXED_WINDOW).await;
        let flushed = calls.lock().unwrap().iter().filter(|call| *call == "flush").count();
        assert_eq!(flushed, usize::from(!paid));
    }
}
