//! What every store promises, as functions that panic where one does not keep it. [`store_conformance!`](crate::store_conformance)
//! and, for what [`Store::collect`] removes, [`retention_conformance!`](crate::retention_conformance) make a test of each.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a check fails by panicking")]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::artifact::ArtifactData;
use crate::event::{Event, EventKind};
use crate::memory::{Claim, Commit, MemoryError, NewArtifact, NewRun, Put, RunUpdate, StepOutput, Store};
use crate::plan::{IntoOutput, Output, PlanRecord, Step};
use crate::project::Project;
use crate::run::{Durability, FailureKind, RunId, RunState, StepFailure};

mod batches;
mod generations;
mod keeping;
mod retention;
mod signals;
mod steering;
mod undoing;

pub use batches::*;
pub use generations::*;
pub use keeping::*;
pub use retention::*;
pub use signals::*;
pub use steering::*;
pub use undoing::*;

const ALL: usize = 1_000;

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::new(1_700_000_000 + second, 123_456_000)
}

fn run_id(text: &str) -> RunId {
    text.parse().unwrap()
}

/// One write in a batch of its own.
fn batch<S: Store, T>(store: &mut S, write: impl FnOnce(&mut S) -> T) -> T {
    store.begin(Durability::Immediate).unwrap();
    let written = write(store);
    store.end().unwrap();
    written
}

fn accepted(run: &str, steps: usize) -> Box<Commit> {
    let plan = (0..steps).map(|n| Step::named(format!("s{n}")));
    let plan = PlanRecord::of(plan.collect::<Vec<_>>()).unwrap();
    let mut commit =
        Box::new(Commit::new(run_id(run), Project::default(), RunUpdate::new(RunState::Running, 0, 1)));
    commit.accept = Some(Box::new(NewRun::new(plan, Claim::new())));
    commit.events = vec![EventKind::PlanAccepted { name: None, steps }, started(0)];
    commit
}

fn started(index: usize) -> EventKind {
    EventKind::TaskStarted {
        task_id: Arc::from(format!("s{index}")),
        agent_id: Arc::from("me"),
        attempt: 1,
        fallback: false,
    }
}

/// The commit that completes a step.
fn completed(run: &str, index: usize, steps: usize, output: impl IntoOutput) -> Box<Commit> {
    let (output, task_id) = (output.into_output().unwrap(), Arc::<str>::from(format!("s{index}")));
    let last = index + 1 == steps;
    let (state, attempt) = if last { (RunState::Completed, 1) } else { (RunState::Running, 1) };
    let mut commit =
        Box::new(Commit::new(run_id(run), Project::default(), RunUpdate::new(state, index + 1, attempt)));
    let step = (index, Arc::clone(&task_id));
    let note = NewArtifact::new("notes".to_owned(), Arc::from("data"), step, ArtifactData::from("further"));
    commit.artifacts = vec![note];
    commit.output = Some(StepOutput::new(index, Arc::clone(&task_id), output.clone()));
    let next = if last { EventKind::PlanCompleted {} } else { started(index + 1) };
    commit.events = vec![EventKind::TaskCompleted { task_id, result: output }, next];
    commit
}

fn commit(store: &mut impl Store, second: u64, commit: impl Into<Box<Commit>>) -> Vec<Event> {
    batch(store, |store| store.commit(commit.into(), at(second)).unwrap())
}

/// A run of as many steps, from its acceptance to its end; answers its events.
fn whole_run(store: &mut impl Store, run: &str, steps: usize) -> Vec<Event> {
    let mut events = commit(store, 0, accepted(run, steps));
    for index in 0..steps {
        events.append(&mut commit(store, 1 + index as u64, completed(run, index, steps, index)));
    }
    events
}

/// All parts of a commit are readable once its batch has ended, and carry its time.
pub fn a_commit_is_stored_whole<S: Store>(mut open: impl FnMut() -> S) {
    let (mut store, project) = (open(), Project::default());
    commit(&mut store, 1, accepted("a", 2));
    let events = commit(&mut store, 2, completed("a", 0, 2, "done"));
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| event.timestamp() == at(2) && event.run_id() == Some(&run_id("a"))));
    let record = store.run(&run_id("a")).unwrap().unwrap();
    assert_eq!((record.state, record.cursor, record.attempt), (RunState::Running, 1, 1));
    assert_eq!((record.steps, record.self_contained, record.accepted_at), (2, true, at(1)));
    let result = store.artifact(&project, "task:s0", None).unwrap().unwrap();
    assert_eq!((result.version, result.text(), result.created_at), (1, Some("done"), at(2)));
    assert_eq!((&*result.artifact_type, result.run_id), ("task_result", Some(run_id("a"))));
    assert_eq!(Value::Object(result.meta), json!({ "step": 0, "step_id": "s0" }));
    let further = store.artifact(&project, "notes", None).unwrap().unwrap();
    assert_eq!((further.text(), &*further.artifact_type), (Some("further"), "data"));
    assert_eq!(Value::Object(further.meta), json!({ "step": 0, "step_id": "s0" }));
    let plan = store.plan(&run_id("a")).unwrap().unwrap();
    assert_eq!(plan.step_ids().collect::<Vec<_>>(), ["s0", "s1"]);
}

/// Numbers go on over runs, and no commit leaves one out.
pub fn events_are_numbered_without_a_gap<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    assert_eq!(store.last_seq().unwrap(), 0);
    let mut events = whole_run(&mut store, "a", 2);
    events.append(&mut whole_run(&mut store, "b", 1));
    assert!(events.iter().map(|event| event.seq().unwrap()).eq(1..=events.len() as u64));
    assert_eq!(store.last_seq().unwrap(), events.len() as u64);
}

/// A run id is given once; a commit that tries again writes nothing, takes no number, and leaves its batch alone.
pub fn a_known_run_is_refused_alone<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    commit(&mut store, 0, accepted("a", 1));
    store.begin(Durability::Immediate).unwrap();
    store.commit(accepted("b", 1), at(1)).unwrap();
    let refused = store.commit(accepted("a", 3), at(1));
    assert!(
        matches!(&refused, Err(MemoryError::RunExists { run_id }) if run_id.as_str() == "a"),
        "{refused:?}"
    );
    assert!(refused.unwrap_err().wrote_nothing());
    let last = store.commit(accepted("c", 1), at(1)).unwrap();
    store.end().unwrap();
    assert_eq!(last.last().unwrap().seq(), Some(6));
    assert_eq!(store.run(&run_id("a")).unwrap().unwrap().steps, 1);
    assert_eq!(store.runs(None, ALL).unwrap().len(), 3);
    assert_eq!(store.last_seq().unwrap(), 6);
}

/// Versions count up for as long as the key lives, whatever is deleted.
pub fn versions_are_not_used_again<S: Store>(mut open: impl FnMut() -> S) {
    let (mut store, project) = (open(), Project::default());
    let put = |store: &mut S| batch(store, |store| store.put(Put::new("k", "x"), at(0)).unwrap().version);
    let delete = |store: &mut S, version| batch(store, |store| store.delete(&project, "k", version).unwrap());
    assert_eq!([put(&mut store), put(&mut store), put(&mut store)], [1, 2, 3]);
    assert!(delete(&mut store, Some(3)) && !delete(&mut store, Some(3)) && !delete(&mut store, Some(9)));
    assert_eq!(store.artifact(&project, "k", None).unwrap().unwrap().version, 2);
    drop(store);
    let mut store = open();
    assert_eq!(put(&mut store), 4);
    assert!(delete(&mut store, Some(2)));
    assert_eq!(store.versions(&project, "k").unwrap(), [1, 4]);
    assert!(store.artifact(&project, "k", Some(2)).unwrap().is_none());
    assert!(delete(&mut store, None) && !delete(&mut store, None));
    assert_eq!(store.versions(&project, "k").unwrap(), [0_u64; 0]);
    assert!(store.artifact(&project, "k", None).unwrap().is_none());
    assert_eq!(put(&mut store), 1);
    assert!(delete(&mut store, Some(1)));
    assert_eq!(put(&mut store), 1);
    // What a run stored under a key is deleted like anything else, and its output stays.
    whole_run(&mut store, "a", 1);
    let deleted = batch(&mut store, |store| store.delete(&project, "task:s0", None).unwrap());
    assert!(deleted && store.artifact(&project, "task:s0", None).unwrap().is_none());
    assert_eq!(store.outputs(&run_id("a")).unwrap().unwrap().len(), 1);
}

/// Listings follow the order of acceptance, page by page; the unfinished ones likewise.
pub fn runs_are_listed_in_the_order_of_acceptance<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    for (n, run) in ["z", "a", "m", "b"].into_iter().enumerate() {
        commit(&mut store, n as u64, accepted(run, 1));
    }
    commit(&mut store, 9, completed("a", 0, 1, ()));
    let names = |records: Vec<crate::run::RunRecord>| {
        records.into_iter().map(|record| record.run_id.to_string()).collect::<Vec<_>>()
    };
    let page = |after: Option<&str>, limit| names(store.runs(after.map(run_id).as_ref(), limit).unwrap());
    assert_eq!(
        (page(None, 2), page(Some("a"), 9)),
        (vec!["z".into(), "a".into()], vec!["m".into(), "b".into()])
    );
    assert_eq!((page(Some("b"), 9), page(Some("unknown"), 9)), (vec![], vec![]));
    let open =
        |after: Option<&str>, limit| names(store.unfinished(after.map(run_id).as_ref(), limit).unwrap());
    assert_eq!(
        (open(None, 9), open(Some("z"), 1)),
        (vec!["z".into(), "m".into(), "b".into()], vec!["m".into()])
    );
    assert_eq!((open(Some("a"), 9), open(Some("unknown"), 9)), (vec!["m".into(), "b".into()], vec![]));
}

/// An output is read back with its type, to the last bit.
pub fn outputs_come_back_as_they_were<S: Store>(mut open: impl FnMut() -> S) {
    let values = [
        json!(null),
        json!(true),
        json!(""),
        json!("x"),
        json!("\"quoted\" \u{1F600}"),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(0.1),
        json!(1e300),
        json!(1.0),
        json!([1, [2, {}]]),
        json!({ "b": 1, "a": [null] }),
    ];
    let mut outputs: Vec<Output> = values.into_iter().map(|value| value.into_output().unwrap()).collect();
    outputs.push(Bytes::from_static(&[0, 159, 255]).into_output().unwrap());
    outputs.push(Bytes::new().into_output().unwrap());
    outputs.push(Bytes::from_static(b"text as bytes").into_output().unwrap());
    let mut store = open();
    commit(&mut store, 0, accepted("a", outputs.len()));
    for (index, output) in outputs.iter().enumerate() {
        commit(&mut store, 1, completed("a", index, outputs.len(), output.clone()));
    }
    assert_eq!(store.outputs(&run_id("a")).unwrap().unwrap(), outputs);
    drop(store);
    let store = open();
    assert_eq!(store.outputs(&run_id("a")).unwrap().unwrap(), outputs);
    assert_eq!(store.outputs(&run_id("b")).unwrap(), None);
    for (index, output) in outputs.iter().enumerate() {
        let artifact = store.artifact(&Project::default(), &format!("task:s{index}"), None).unwrap().unwrap();
        assert_eq!(artifact.data, output.to_data());
    }
}

/// Events are read back equal to what was told of them.
pub fn history_comes_back_as_it_was_told<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    let (mut a, mut b) = (commit(&mut store, 0, accepted("a", 2)), commit(&mut store, 0, accepted("b", 1)));
    a.append(&mut commit(&mut store, 1, completed("a", 0, 2, json!({ "n": [1, 2.5] }))));
    b.append(&mut commit(&mut store, 2, completed("b", 0, 1, Bytes::from_static(&[1, 2, 255]))));
    a.append(&mut commit(&mut store, 3, completed("a", 1, 2, "end")));
    let mut all = [a.clone(), b.clone()].concat();
    all.sort_by_key(Event::seq);
    for _ in 0..2 {
        assert_eq!(store.events(0, ALL).unwrap(), all);
        assert_eq!(store.events(3, 2).unwrap(), all[3..5]);
        assert_eq!(store.events(all.len() as u64, ALL).unwrap(), []);
        assert_eq!(store.run_events(&run_id("a"), 0, ALL).unwrap(), a);
        assert_eq!(store.run_events(&run_id("b"), 0, ALL).unwrap(), b);
        assert_eq!(store.run_events(&run_id("a"), a[1].seq().unwrap(), 2).unwrap(), a[2..4]);
        assert_eq!(store.run_events(&run_id("none"), 0, ALL).unwrap(), []);
        drop(store);
        store = open();
    }
}

/// Keys are listed by their bytes, taken as they are, and each project has its own.
pub fn keys_are_listed_in_order<S: Store>(mut open: impl FnMut() -> S) {
    let (mut store, other) = (open(), Project::new("o'tenant", "%"));
    let keys = ["B", "a", "a%", "a_", "ab", "ä", "\u{10FFFF}", "'; DROP TABLE runs; --"];
    // Results stand among the others, however a store finds them.
    let tasks = ["task", "task:", "task:a", "task:b", "task;", "task9"];
    let keys = [&keys[..], &tasks[..]].concat();
    for key in &keys {
        batch(&mut store, |store| store.put(Put::new(*key, "x"), at(0)).unwrap());
    }
    batch(&mut store, |store| store.put(Put::new("a", "y").in_project("o'tenant", "%"), at(0)).unwrap());
    let list = |project: &Project, prefix: &str, after: Option<&str>, limit| {
        store.keys(project, prefix, after, limit).unwrap()
    };
    let mut sorted = keys;
    sorted.sort_unstable();
    let default = Project::default();
    assert_eq!(list(&default, "", None, ALL), sorted);
    for (index, key) in sorted.iter().enumerate() {
        assert_eq!(
            list(&default, "", Some(key), 2),
            sorted[index + 1..].iter().take(2).copied().collect::<Vec<_>>()
        );
    }
    assert_eq!(list(&default, "task", None, ALL), ["task", "task9", "task:", "task:a", "task:b", "task;"]);
    assert_eq!(list(&default, "task:", None, ALL), ["task:", "task:a", "task:b"]);
    assert_eq!(list(&default, "task:", Some("task:"), 1), ["task:a"]);
    assert_eq!(list(&default, "a", None, ALL), ["a", "a%", "a_", "ab"]);
    assert_eq!(list(&default, "a_", None, ALL), ["a_"]);
    assert_eq!(list(&default, "a", Some("a%"), 1), ["a_"]);
    assert_eq!(list(&default, "a", Some("B"), 1), ["a"]);
    assert_eq!(
        (list(&other, "", None, ALL), list(&Project::new("x", "y"), "", None, ALL)),
        (vec!["a".into()], vec![])
    );
    assert_eq!(store.artifact(&other, "a", None).unwrap().unwrap().text(), Some("y"));
    assert_eq!(store.versions(&default, "a").unwrap(), [1]);
}

/// A record tells the state, its reason and its times.
pub fn records_follow_their_runs<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    let mut queued = accepted("a", 1);
    queued.project = Project::new("acme", "web");
    queued.update = RunUpdate::new(RunState::Queued, 0, 0);
    queued.accept.as_mut().unwrap().durability = Some(Durability::Relaxed);
    commit(&mut store, 1, queued);
    let moved = |state, attempt| {
        Commit::new(run_id("a"), Project::new("acme", "web"), RunUpdate::new(state, 0, attempt))
    };
    let mut cut = moved(RunState::Interrupted, 0);
    cut.update.reason = Some(Arc::from("no callable"));
    commit(&mut store, 2, cut);
    let record = store.run(&run_id("a")).unwrap().unwrap();
    assert_eq!((record.state, record.reason.as_deref()), (RunState::Interrupted, Some("no callable")));
    assert_eq!((record.started_at, record.durability), (None, Some(Durability::Relaxed)));
    assert_eq!(record.project, Project::new("acme", "web"));
    commit(&mut store, 3, moved(RunState::Running, 1));
    commit(&mut store, 4, moved(RunState::Running, 2));
    let failure = StepFailure::record(FailureKind::Panic, &std::io::Error::other("broken"));
    let mut failed = moved(RunState::Failed, 2);
    failed.update.failure = Some(Arc::new(failure.clone()));
    failed.events =
        vec![EventKind::PlanFailed { task_id: Arc::from("s0"), failure: Arc::new(failure.clone()) }];
    commit(&mut store, 5, failed);
    drop(store);
    let record = open().run(&run_id("a")).unwrap().unwrap();
    assert_eq!((record.state, record.cursor, record.attempt), (RunState::Failed, 0, 2));
    assert_eq!((record.failure.as_deref(), record.reason), (Some(&failure), None));
    let times = (record.accepted_at, record.started_at, record.finished_at);
    assert_eq!(times, (at(1), Some(at(3)), Some(at(5))));
}

/// Text and bytes of any length, with type and meta.
pub fn puts_keep_what_they_were_given<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    let contents =
        [ArtifactData::from(""), "a\0b \u{1F600}".into(), vec![0_u8, 255].into(), Vec::new().into()];
    for (n, data) in contents.iter().enumerate() {
        let put = Put::new("k", data.clone())
            .artifact_type("markdown")
            .meta("n", n)
            .meta("deep", json!({ "x": [1.5] }));
        let stored = batch(&mut store, |store| store.put(put, at(n as u64)).unwrap());
        let read = store.artifact(&Project::default(), "k", Some(stored.version)).unwrap().unwrap();
        assert_eq!(read, stored);
        assert_eq!((&read.data, &*read.artifact_type, read.run_id), (data, "markdown", None));
        assert_eq!(Value::Object(read.meta), json!({ "n": n, "deep": { "x": [1.5] } }));
    }
}

/// Opening it again finds everything, and goes on with the next numbers.
pub fn what_was_stored_is_there_when_it_is_opened_again<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    let events = whole_run(&mut store, "a", 3);
    commit(&mut store, 9, accepted("b", 2));
    let record = store.run(&run_id("a")).unwrap();
    drop(store);
    let mut store = open();
    assert_eq!(store.run(&run_id("a")).unwrap(), record);
    assert_eq!(store.run_events(&run_id("a"), 0, ALL).unwrap(), events);
    let plan = store.plan(&run_id("b")).unwrap().unwrap();
    assert_eq!(plan, PlanRecord::of([Step::named("s0"), Step::named("s1")]).unwrap());
    let next = commit(&mut store, 10, completed("b", 0, 2, "x"));
    assert_eq!(next[0].seq(), Some(events.len() as u64 + 3));
    assert_eq!(store.artifact(&Project::default(), "task:s0", None).unwrap().unwrap().version, 2);
}
