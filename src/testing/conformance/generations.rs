//! What stores promise about runs that are tried again, and about steps that somebody has to decide about.

use super::*;
use crate::memory::Reopen;
use crate::run::{HoldReason, StepProgress};

/// A run of three steps that has failed in its last, and all its events.
fn failed_run(store: &mut impl Store) -> Vec<Event> {
    let mut events = commit(store, 0, accepted("a", 3));
    events.append(&mut commit(store, 1, completed("a", 0, 3, "text")));
    events.append(&mut commit(store, 2, completed("a", 1, 3, Bytes::from_static(b"\xff\x00"))));
    events.append(&mut commit(store, 3, failed("a", 2)));
    events
}

/// The commit with which a run fails in this step.
pub(super) fn failed(run: &str, step: usize) -> Box<Commit> {
    ended(run, step, RunState::Failed)
}

/// The commit with which a run comes to this state, for a failure of this step.
pub(super) fn ended(run: &str, step: usize, state: RunState) -> Box<Commit> {
    let mut commit = Box::new(Commit::new(run_id(run), Project::default(), RunUpdate::new(state, step, 1)));
    let failure = StepFailure::record(FailureKind::Error, &std::io::Error::other("broken"));
    commit.update.failure = Some(Arc::new(failure));
    commit
}

/// The first commit of the next generation.
pub(super) fn reopened(run: &str, generation: u32, from: usize) -> Box<Commit> {
    let update = RunUpdate::new(RunState::Running, from, 1);
    let mut commit = Box::new(Commit::new(run_id(run), Project::default(), update));
    commit.update.step.since = Some(at(10));
    commit.reopen = Some(Box::new(Reopen::new(generation, from)));
    let task_id = Some(Arc::from(format!("s{from}")));
    commit.events = vec![EventKind::PlanRetried { generation, task_id, completed: from }, started(from)];
    commit
}

/// A new generation has the outputs that count; artifacts, and the results in events, are there as before.
pub fn a_generation_keeps_what_counts_and_forgets_nothing<S: Store>(mut open: impl FnMut() -> S) {
    let (mut store, project) = (open(), Project::default());
    let mut events = failed_run(&mut store);
    let keys = ["task:s0", "task:s1", "notes"];
    let artifacts: Vec<_> = keys.map(|key| store.artifact(&project, key, Some(1)).unwrap().unwrap()).into();
    let mut next = reopened("a", 2, 1);
    if let Some(reopen) = &mut next.reopen {
        reopen.set_inputs = [(1, Arc::new(json!({ "corrected": [1, "ü"] })))].into();
        reopen.deadline = Some(at(99));
    }
    events.append(&mut commit(&mut store, 10, next));
    for _ in 0..2 {
        let record = store.run(&run_id("a")).unwrap().unwrap();
        assert_eq!((record.state, record.generation, record.cursor), (RunState::Running, 2, 1));
        assert_eq!((record.finished_at, &record.failure, record.deadline), (None, &None, Some(at(99))));
        assert_eq!((record.step.since, record.started_at), (Some(at(10)), Some(at(0))));
        assert_eq!(*record.set_inputs[&1], json!({ "corrected": [1, "ü"] }));
        assert_eq!(store.unfinished(None, ALL).unwrap(), [record]);
        assert_eq!(store.outputs(&run_id("a")).unwrap().unwrap(), ["text".into_output().unwrap()]);
        for (key, artifact) in keys.iter().zip(&artifacts) {
            assert_eq!(store.artifact(&project, key, Some(1)).unwrap().as_ref(), Some(artifact));
        }
        assert_eq!(store.events(0, ALL).unwrap(), events);
        assert_eq!(store.run_events(&run_id("a"), 0, ALL).unwrap(), events);
        drop(store);
        store = open();
    }
    // What is done anew is the next version, and says of which generation it is.
    events.append(&mut commit(&mut store, 11, completed("a", 1, 3, "again")));
    events.append(&mut commit(&mut store, 12, completed("a", 2, 3, json!(2))));
    assert_eq!(store.versions(&project, "task:s1").unwrap(), [1, 2]);
    let again = store.artifact(&project, "task:s1", None).unwrap().unwrap();
    assert_eq!((again.text(), again.version), (Some("again"), 2));
    assert_eq!(Value::Object(again.meta), json!({ "step": 1, "step_id": "s1", "generation": 2 }));
    let note = store.artifact(&project, "notes", None).unwrap().unwrap();
    assert_eq!(note.meta["generation"], 2);
    let outputs = ["text".into_output(), "again".into_output(), json!(2).into_output()].map(Result::unwrap);
    assert_eq!(store.outputs(&run_id("a")).unwrap().unwrap(), outputs);
    let record = store.run(&run_id("a")).unwrap().unwrap();
    assert_eq!((record.state, record.finished_at), (RunState::Completed, Some(at(12))));
    assert_eq!(store.unfinished(None, ALL).unwrap(), []);
    // A generation later, from the start and without what had been set.
    events.append(&mut commit(&mut store, 20, reopened("a", 3, 0)));
    let record = store.run(&run_id("a")).unwrap().unwrap();
    assert_eq!((record.generation, record.cursor, record.deadline), (3, 0, None));
    assert!(record.set_inputs.is_empty());
    assert_eq!(store.outputs(&run_id("a")).unwrap().unwrap(), []);
    let first = store.artifact(&project, "task:s1", Some(2)).unwrap().unwrap();
    assert_eq!((first.text(), &first.meta["generation"]), (Some("again"), &json!(2)));
    assert_eq!(store.events(0, ALL).unwrap(), events);
}

/// A run that has been removed since somebody looked is not tried again, and others of its batch go on.
pub fn a_generation_of_an_unknown_run_is_refused_alone<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    store.begin(Durability::Immediate).unwrap();
    let refused = store.commit(reopened("a", 2, 0), at(1)).unwrap_err();
    assert!(matches!(refused, MemoryError::UnknownRun { .. }) && refused.wrote_nothing(), "{refused}");
    let mut other = accepted("b", 1);
    other.update.state = RunState::Running;
    store.commit(other, at(1)).unwrap();
    store.end().unwrap();
    assert_eq!(store.runs(None, ALL).unwrap().len(), 1);
    assert_eq!(store.last_seq().unwrap(), 2);
}

/// A generation may have another plan, and begin with a step that is skipped.
pub fn a_generation_may_have_another_plan<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    failed_run(&mut store);
    let plan = PlanRecord::of([Step::named("s0"), Step::named("other")]).unwrap();
    let mut next = reopened("a", 2, 1);
    if let Some(reopen) = &mut next.reopen {
        reopen.plan = Some(plan.clone());
    }
    next.update = RunUpdate::new(RunState::Completed, 2, 0);
    let skipped = StepOutput::new(1, Arc::from("other"), Output::null());
    next.output = Some(StepOutput { skipped: true, ..skipped });
    commit(&mut store, 10, next);
    for _ in 0..2 {
        assert_eq!(store.plan(&run_id("a")).unwrap().as_ref(), Some(&plan));
        let record = store.run(&run_id("a")).unwrap().unwrap();
        assert_eq!((record.steps, record.state, record.cursor), (2, RunState::Completed, 2));
        assert_eq!(record.finished_at, Some(at(10)));
        assert_eq!(store.skipped(&run_id("a")).unwrap(), [1]);
        drop(store);
        store = open();
    }
    // What is withdrawn is not skipped any more.
    commit(&mut store, 20, reopened("a", 3, 1));
    assert_eq!(store.skipped(&run_id("a")).unwrap(), [0_usize; 0]);
}

/// Why a step is held, and that it is being verified, is kept until it is not.
pub fn what_is_in_doubt_is_kept<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    commit(&mut store, 0, accepted("a", 2));
    let progress =
        |held, verifying| StepProgress { since: Some(at(0)), held, verifying, ..StepProgress::default() };
    let doubts = [
        (RunState::Running, progress(None, true)),
        (RunState::Held, progress(Some(HoldReason::Unverified), false)),
        (RunState::Interrupted, progress(Some(HoldReason::Interrupted), false)),
        (RunState::Held, progress(Some(HoldReason::Failed), false)),
        (RunState::Running, progress(None, false)),
    ];
    for (second, (state, step)) in (1..).zip(doubts) {
        let mut moved = Commit::new(run_id("a"), Project::default(), RunUpdate::new(state, 0, 1));
        moved.update.step = step;
        commit(&mut store, second, moved);
        for _ in 0..2 {
            let record = store.run(&run_id("a")).unwrap().unwrap();
            assert_eq!((record.state, record.step), (state, step));
            drop(store);
            store = open();
        }
    }
}

/// A generation may begin behind any end, and also in the middle: what the one before was waiting for, or why it ended, is over.
pub fn a_generation_may_follow_any_state<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    let states = [
        RunState::Failed,
        RunState::Cancelled,
        RunState::Completed,
        RunState::Interrupted,
        RunState::Held,
        RunState::Compensated,
    ];
    for state in states {
        let run = state.as_str();
        commit(&mut store, 0, accepted(run, 2));
        commit(&mut store, 1, completed(run, 0, 2, run));
        let mut end = ended(run, 1, state);
        end.update.pausing = true;
        end.update.reason = Some(Arc::from("a reason"));
        end.update.step = StepProgress { held: Some(HoldReason::Failed), ..StepProgress::default() };
        commit(&mut store, 2, end);
        let record = store.run(&run_id(run)).unwrap().unwrap();
        assert_eq!((record.state, record.finished_at.is_some()), (state, state.is_final()));
        commit(&mut store, 10, reopened(run, 2, 1));
        for _ in 0..2 {
            let record = store.run(&run_id(run)).unwrap().unwrap();
            assert_eq!((record.state, record.generation, record.cursor), (RunState::Running, 2, 1));
            assert_eq!((&record.failure, &record.reason, record.finished_at), (&None, &None, None));
            assert_eq!((record.step.held, record.pausing), (None, false));
            let unfinished = store.unfinished(None, ALL).unwrap();
            assert_eq!(unfinished.last(), Some(&record), "{run}");
            assert_eq!(store.outputs(&run_id(run)).unwrap().unwrap(), [run.into_output().unwrap()]);
            drop(store);
            store = open();
        }
    }
    assert_eq!(store.unfinished(None, ALL).unwrap().len(), states.len());
}
