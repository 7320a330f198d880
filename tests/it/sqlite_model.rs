//! The SQLite store does what the volatile store does, whatever is written, and whenever it is closed or reopened.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lunacore::*;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::run_id;

/// A time of its own for each write, to the microsecond.
pub fn moment(number: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(1_790_000_000_000_000 + 1_000_001 * number)
}

/// Outputs of every form.
pub fn outputs() -> Vec<Output> {
    let values = [
        json!("processed_data"),
        json!(""),
        json!("\"quoted\" \\ \0 \n ß 🚀"),
        json!("null"),
        Value::Null,
        json!(true),
        json!(0),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(0.1),
        json!(1.0),
        json!(-0.0),
        json!(f64::MIN_POSITIVE),
        json!(1.797_693_134_862_315_7e308),
        json!([]),
        json!({ "a": [1, 2.5, { "b": null, "": "ü" }], "type": "x" }),
        json!("x".repeat(20_000)),
    ];
    let bytes = [&b""[..], b"\xff\x00", b"looks like text", b"\"x\""];
    let json = values.into_iter().map(|value| value.into_output().unwrap());
    json.chain(bytes.map(|bytes| Output::Bytes(Bytes::from_static(bytes)))).collect()
}

pub fn step_id(step: usize) -> Arc<str> {
    Arc::from(format!("s{step}"))
}

pub fn started(step: usize) -> EventKind {
    EventKind::TaskStarted {
        task_id: step_id(step),
        agent_id: Arc::from("orchestrator"),
        attempt: 1,
        fallback: false,
    }
}

/// The first commit of a run of so many steps.
pub fn accept(run: &str, steps: usize, state: RunState) -> Box<Commit> {
    let plan =
        Plan::new((0..steps).map(|step| Step::named(step_id(step)).input(step))).name(format!("plan {run}"));
    let attempt = u32::from(state == RunState::Running);
    let mut commit =
        Box::new(Commit::new(run_id(run), Project::default(), RunUpdate::new(state, 0, attempt)));
    let mut new = NewRun::new(PlanRecord::of(plan).unwrap(), Claim::new());
    new.durability = Some(Durability::Relaxed);
    commit.accept = Some(Box::new(new));
    commit.events = vec![EventKind::PlanAccepted { name: None, steps }];
    if state == RunState::Running {
        commit.events.extend([EventKind::PlanStarted {}, started(0)]);
    }
    commit
}

/// An artifact that a step staged.
pub fn further(key: impl Into<String>, step: usize, text: &str) -> NewArtifact {
    NewArtifact::new(key.into(), Arc::from("data"), (step, step_id(step)), ArtifactData::from(text))
}

/// The commit of a step's result, with so many further artifacts.
pub fn step(run: &str, step: usize, of: usize, output: &Output, staged: usize) -> Box<Commit> {
    let ends = step + 1 == of;
    let (state, attempt) = if ends { (RunState::Completed, 0) } else { (RunState::Running, 1) };
    let mut commit =
        Box::new(Commit::new(run_id(run), Project::default(), RunUpdate::new(state, step + 1, attempt)));
    commit.output = Some(StepOutput::new(step, step_id(step), output.clone()));
    let further = |n| further(format!("k{n}"), step, &format!("{run} {n}"));
    commit.artifacts = (0..staged).map(further).collect();
    let completed = EventKind::TaskCompleted { task_id: step_id(step), result: output.clone() };
    commit.events = vec![completed, if ends { EventKind::PlanCompleted {} } else { started(step + 1) }];
    commit
}

/// What is equal in both stores: all of an event but its id.
type Shown = (Option<u64>, SystemTime, Option<RunId>, EventKind);

fn shown(events: Vec<Event>) -> Vec<Shown> {
    let show = |event: Event| (event.seq(), event.timestamp(), event.run_id().cloned(), event.kind().clone());
    events.into_iter().map(show).collect()
}

fn same_artifact(mut one: Artifact, mut other: Artifact, pruned: bool) {
    assert_eq!(one.id.get_version_num(), 7);
    one.id = other.id;
    // Only the volatile store remembers which run made it, where that run is gone.
    if pruned && one.run_id.is_none() {
        other.run_id = None;
    }
    assert_eq!(one, other);
}

const RUNS: [&str; 4] = ["one", "two", "three", "ü"];

fn projects() -> [Project; 2] {
    [Project::default(), Project::new("acme", "web")]
}

/// The first event that is kept.
fn oldest(reader: &dyn Reader) -> u64 {
    match reader.events(0, 0) {
        Err(MemoryError::HistoryGone { first, .. }) => first,
        read => read.map(|_| 1).unwrap(),
    }
}

/// Every reading method of both.
pub fn assert_same(sqlite: &dyn Reader, model: &dyn Reader) {
    let last = model.last_seq().unwrap();
    // The SQLite store has the last events of all in one row, which stays as a whole.
    let from = oldest(sqlite).max(oldest(model)) - 1;
    assert_eq!(sqlite.last_seq().unwrap(), last);
    let (known, unknown) = (RUNS.map(run_id), run_id("unknown"));
    for after in [None, Some(&unknown)].into_iter().chain(known.iter().map(Some)) {
        for limit in [0, 2, 1_000] {
            assert_eq!(sqlite.runs(after, limit).unwrap(), model.runs(after, limit).unwrap());
            assert_eq!(sqlite.unfinished(after, limit).unwrap(), model.unfinished(after, limit).unwrap());
        }
    }
    for run in known.iter().chain([&unknown]) {
        assert_eq!(sqlite.run(run).unwrap(), model.run(run).unwrap());
        assert_eq!(sqlite.plan(run).unwrap(), model.plan(run).unwrap());
        assert_eq!(sqlite.outputs(run).unwrap(), model.outputs(run).unwrap());
        for (after, limit) in [(0, 1_000), (0, 2), (last / 2, 3), (last, 1_000), (last + 7, 1)] {
            let read = |reader: &dyn Reader| shown(reader.run_events(run, after.max(from), limit).unwrap());
            assert_eq!(read(sqlite), read(model));
        }
    }
    for (after, limit) in [(0, 1_000), (1, 2), (last / 2, 3), (last, 1_000), (last + 7, 1)] {
        let read = |reader: &dyn Reader| shown(reader.events(after.max(from), limit).unwrap());
        assert_eq!(read(sqlite), read(model));
    }
    for project in projects().iter().chain([&Project::new("no", "one")]) {
        for (prefix, after, limit) in [
            ("", None, 1_000),
            ("task:", None, 2),
            ("k", Some("k0"), 9),
            ("k", Some("a"), 9),
            ("k", Some("z"), 9),
        ] {
            let read = |reader: &dyn Reader| reader.keys(project, prefix, after, limit).unwrap();
            assert_eq!(read(sqlite), read(model));
        }
        for key in model.keys(project, "", None, 1_000).unwrap().iter().map(String::as_str).chain(["none"]) {
            let versions = model.versions(project, key).unwrap();
            assert_eq!(sqlite.versions(project, key).unwrap(), versions);
            let largest = versions.last().copied().unwrap_or(0);
            for version in (0..=largest + 1).map(Some).chain([None, Some(u64::MAX)]) {
                let read = |reader: &dyn Reader| reader.artifact(project, key, version).unwrap();
                match (read(sqlite), read(model)) {
                    (Some(one), Some(other)) => same_artifact(one, other, from > 0),
                    (one, other) => assert_eq!(one, other),
                }
            }
        }
    }
}

/// One thing that happens to a store.
#[derive(Debug, Clone)]
enum Move {
    Accept { run: usize, steps: usize, queued: bool },
    Step { run: usize, output: usize, staged: usize },
    Retry { run: usize, attempt: u32 },
    End { run: usize, state: usize },
    Put { project: usize, key: usize, meta: bool },
    Delete { project: usize, key: usize, version: Option<u64> },
    Ends { relaxed: bool },
    Reopen { drop: bool },
    Collect { retention: Retention, limit: usize },
}

fn retentions() -> impl Strategy<Value = Retention> {
    let (versions, runs) = (proptest::option::of(1_u64..4), proptest::option::of(0_u64..4));
    let time = || proptest::option::of((0_u64..30).prop_map(Duration::from_secs));
    (versions, runs, time(), time()).prop_map(|(versions, runs, runs_for, events_for)| {
        let mut retention = Retention::new();
        (retention.keep_versions, retention.keep_runs) = (versions, runs);
        (retention.keep_runs_for, retention.keep_events_for) = (runs_for, events_for);
        retention
    })
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let run = 0..RUNS.len();
    let one = prop_oneof![
        2 => (run.clone(), 0_usize..4, any::<bool>()).prop_map(|(run, steps, queued)| Move::Accept { run, steps, queued }),
        6 => (run.clone(), 0..outputs().len(), 0_usize..3).prop_map(|(run, output, staged)| Move::Step { run, output, staged }),
        1 => (run.clone(), 1_u32..4).prop_map(|(run, attempt)| Move::Retry { run, attempt }),
        1 => (run, 0_usize..4).prop_map(|(run, state)| Move::End { run, state }),
        3 => (0_usize..2, 0_usize..3, any::<bool>()).prop_map(|(project, key, meta)| Move::Put { project, key, meta }),
        3 => (0_usize..2, 0_usize..5, proptest::option::of(1_u64..5))
            .prop_map(|(project, key, version)| Move::Delete { project, key, version }),
        3 => any::<bool>().prop_map(|relaxed| Move::Ends { relaxed }),
        1 => any::<bool>().prop_map(|drop| Move::Reopen { drop }),
        2 => (retentions(), 1_usize..6).prop_map(|(retention, limit)| Move::Collect { retention, limit }),
    ];
    proptest::collection::vec(one, 1..80)
}

/// Both stores, and what is going on.
struct Pair<'a> {
    path: &'a Path,
    sqlite: Option<SqliteStore>,
    model: VolatileStore,
    in_batch: bool,
    relaxed: bool,
    clock: u64,
}

impl Pair<'_> {
    fn sqlite(&mut self) -> &mut SqliteStore {
        let durability = if self.relaxed { Durability::Relaxed } else { Durability::Immediate };
        let sqlite = self.sqlite.as_mut().unwrap();
        if !std::mem::replace(&mut self.in_batch, true) {
            sqlite.begin(durability).unwrap();
        }
        sqlite
    }

    fn commit(&mut self, commit: Box<Commit>) {
        self.clock += 1;
        let at = moment(self.clock);
        let stored = self.sqlite().commit(commit.clone(), at);
        match (stored, self.model.commit(commit, at)) {
            (Ok(one), Ok(other)) => {
                if let Some(seq) = one.first().and_then(Event::seq) {
                    assert_eq!(self.sqlite().events(seq - 1, 1_000).unwrap(), one);
                }
                assert_eq!(shown(one), shown(other));
            }
            (Err(MemoryError::RunExists { run_id: one }), Err(MemoryError::RunExists { run_id: other })) => {
                assert_eq!(one, other);
            }
            (one, other) => panic!("{one:?} is not {other:?}"),
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.in_batch) {
            self.sqlite.as_mut().unwrap().end().unwrap();
        }
    }

    /// In batches of their own, to the end.
    fn collect(&mut self, retention: &Retention, limit: usize) {
        self.end();
        let now = moment(self.clock);
        let (mut one, mut other) = (Collected::new(0, 0, 0, true), Collected::new(0, 0, 0, true));
        while one.more {
            one = one.and(self.sqlite().collect(retention, now, limit).unwrap());
            self.end();
        }
        while other.more {
            other = other.and(self.model.collect(retention, now, 2 * limit).unwrap());
        }
        assert_eq!((one.runs, one.versions), (other.runs, other.versions));
    }

    fn make(&mut self, what: Move) {
        let record = |pair: &Self, run: usize| pair.model.run(&run_id(RUNS[run])).unwrap();
        match what {
            Move::Accept { run, steps, queued } => {
                let state = if queued { RunState::Queued } else { RunState::Running };
                self.commit(accept(RUNS[run], steps, state));
            }
            Move::Step { run, output, staged } => {
                let Some(found) = record(self, run) else { return };
                if !found.state.is_final() && found.cursor < found.steps {
                    self.commit(step(RUNS[run], found.cursor, found.steps, &outputs()[output], staged));
                }
            }
            Move::Retry { run, attempt } => {
                let Some(found) = record(self, run) else { return };
                if !found.state.is_final() {
                    let mut update = RunUpdate::new(RunState::Interrupted, found.cursor, attempt);
                    update.reason = Some(Arc::from("cut off"));
                    let mut commit = Box::new(Commit::new(run_id(RUNS[run]), Project::default(), update));
                    commit.events = vec![EventKind::PlanInterrupted { reason: Arc::from("cut off") }];
                    self.commit(commit);
                }
            }
            Move::End { run, state } => {
                let Some(found) = record(self, run) else { return };
                let state =
                    [RunState::Failed, RunState::Cancelled, RunState::Completed, RunState::Stopping][state];
                if !found.state.is_final() {
                    let mut update = RunUpdate::new(state, found.cursor, found.attempt);
                    let failure = StepFailure::record(FailureKind::Error, &std::io::Error::other("broken"));
                    update.failure = (state == RunState::Failed).then(|| Arc::new(failure));
                    let mut commit = Box::new(Commit::new(run_id(RUNS[run]), Project::default(), update));
                    // The order in which runs have finished is that of their last events.
                    commit.events = vec![EventKind::PlanStopping {}];
                    self.commit(commit);
                }
            }
            Move::Put { project, key, meta } => {
                let project = projects()[project].clone();
                let mut put = Put::new(format!("k{key}"), vec![key as u8]).artifact_type("note");
                put = put.in_project(project.tenant(), project.project());
                let put = if meta { put.meta("a", json!([1, null])) } else { put };
                self.clock += 1;
                let at = moment(self.clock);
                let one = self.sqlite().put(put.clone(), at).unwrap();
                let read = self.sqlite().artifact(&project, &one.key, None).unwrap();
                assert_eq!(read.as_ref(), Some(&one));
                same_artifact(one, self.model.put(put, at).unwrap(), false);
            }
            Move::Delete { project, key, version } => {
                let (project, key) =
                    (projects()[project].clone(), ["k0", "k1", "k2", "task:s0", "task:s1"][key]);
                let one = self.sqlite().delete(&project, key, version).unwrap();
                assert_eq!(one, self.model.delete(&project, key, version).unwrap());
            }
            Move::Ends { relaxed } => {
                self.end();
                self.relaxed = relaxed;
            }
            Move::Collect { retention, limit } => self.collect(&retention, limit),
            Move::Reopen { drop: true } => {
                self.end();
                drop(self.sqlite.take());
                self.sqlite = Some(SqliteStore::open(self.path).unwrap());
            }
            Move::Reopen { drop: false } => {
                self.end();
                self.sqlite.as_mut().unwrap().reopen().unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_written_reads_as_in_the_volatile_store(moves in moves()) {
        let folder = tempfile::tempdir().unwrap();
        let path = &*folder.path().join("runs.db");
        let (sqlite, model) = (Some(SqliteStore::open(path).unwrap()), VolatileStore::default());
        let mut pair = Pair { path, sqlite, model, in_batch: false, relaxed: true, clock: 0 };
        let view = pair.sqlite.as_ref().unwrap().reader().unwrap().unwrap();
        for (number, what) in moves.into_iter().enumerate() {
            pair.make(what);
            if number % 8 == 0 {
                assert_same(pair.sqlite.as_ref().unwrap(), &pair.model);
            }
        }
        assert_same(pair.sqlite.as_ref().unwrap(), &pair.model);
        pair.end();
        assert_same(&*view, &pair.model);
        drop(pair.sqlite);
        assert_same(&SqliteStore::open_read_only(path).unwrap(), &pair.model);
    }
}
