//! What every store promises to keep, also one that removes nothing.

use super::retention::{collect, names, run_at};
use super::*;
use crate::memory::{Collected, Retention};

/// Without a rule nothing goes.
pub fn everything_is_kept_by_default<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    let events = run_at(&mut store, "a", 2, 0);
    run_at(&mut store, "b", 2, 1);
    let collected = collect(&mut store, &Retention::new(), 1_000_000, ALL, |_| ());
    assert_eq!(collected, Collected::default());
    assert_eq!(store.run_events(&run_id("a"), 0, ALL).unwrap(), events);
    assert_eq!(store.versions(&Project::default(), "task:s0").unwrap(), [1, 2]);
    assert_eq!(names(&store), ["a", "b"]);
}

/// What keeps as little as can be.
fn nothing() -> Retention {
    Retention::new()
        .keep_versions(1)
        .keep_runs(0)
        .keep_runs_for(Duration::ZERO)
        .keep_events_for(Duration::ZERO)
}

/// A run that is not over stays, with its plan, its outputs and its signals, whatever is collected.
pub fn what_is_not_over_stays_whole<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    let states = [RunState::Running, RunState::Interrupted, RunState::Held, RunState::Paused];
    for state in states {
        let run = state.as_str();
        commit(&mut store, 0, accepted(run, 2));
        commit(&mut store, 1, completed(run, 0, 2, run));
        record_signal(&mut store, 2, run, "go", json!(run));
        commit(&mut store, 3, Commit::new(run_id(run), Project::default(), RunUpdate::new(state, 1, 1)));
    }
    run_at(&mut store, "over", 2, 4);
    commit(&mut store, 5, accepted("last", 1));
    let assert_there = |store: &S| {
        for state in states {
            let run = run_id(state.as_str());
            let record = store.run(&run).unwrap().unwrap();
            assert_eq!((record.state, record.cursor), (state, 1));
            assert_eq!(store.plan(&run).unwrap().unwrap().len(), 2);
            assert_eq!(store.outputs(&run).unwrap().unwrap(), [run.as_str().into_output().unwrap()]);
            let signals = store.signals(&run).unwrap();
            assert_eq!(signals.len(), 1, "{run}");
            assert_eq!(*signals[0].payload, json!(run.as_str()));
        }
        assert_eq!(store.unfinished(None, ALL).unwrap().len(), states.len() + 1);
    };
    collect(&mut store, &nothing(), 1_000_000, 5, &assert_there);
    drop(store);
    let mut store = open();
    assert_there(&store);
    for state in states {
        commit(&mut store, 9, completed(state.as_str(), 1, 2, "end"));
    }
}

/// A run that was over and is tried again is not over: it stays as well, while others go, and is over when it ends once more.
pub fn what_is_tried_again_stays_whole<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    let states = [RunState::Failed, RunState::Cancelled, RunState::Completed];
    for state in states {
        let run = state.as_str();
        commit(&mut store, 0, accepted(run, 2));
        commit(&mut store, 1, completed(run, 0, 2, run));
        commit(&mut store, 2, ended(run, 1, state));
    }
    run_at(&mut store, "over", 2, 3);
    for state in states {
        commit(&mut store, 10, reopened(state.as_str(), 2, 1));
        record_signal(&mut store, 11, state.as_str(), "go", json!(state.as_str()));
    }
    commit(&mut store, 12, accepted("last", 1));
    let assert_there = |store: &S| {
        for state in states {
            let run = run_id(state.as_str());
            let record = store.run(&run).unwrap().unwrap();
            assert_eq!((record.state, record.generation, record.cursor), (RunState::Running, 2, 1));
            assert_eq!(store.outputs(&run).unwrap().unwrap(), [run.as_str().into_output().unwrap()]);
            assert_eq!(
                (store.signals(&run).unwrap().len(), store.plan(&run).unwrap().unwrap().len()),
                (1, 2)
            );
        }
    };
    collect(&mut store, &nothing(), 1_000_000, 5, &assert_there);
    drop(store);
    let mut store = open();
    assert_there(&store);
    for state in states {
        commit(&mut store, 20, completed(state.as_str(), 1, 2, "end"));
        let record = store.run(&run_id(state.as_str())).unwrap().unwrap();
        assert_eq!((record.state, record.finished_at), (RunState::Completed, Some(at(20))));
    }
    commit(&mut store, 21, completed("last", 0, 1, "end"));
    assert!(names(&store).contains(&"last".to_owned()));
}
