//! What stores promise about runs that undo what their steps did.

use super::*;
use crate::run::{NotUndone, Undoing};

/// How far a run is with it comes back as it was committed, also when it is over; and before that the run is unfinished.
pub fn what_a_run_undoes_is_kept<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    commit(&mut store, 0, accepted("a", 3));
    let failure = |kind| Arc::new(StepFailure::record(kind, &std::io::Error::other("\u{e4}'); --")));
    let mut undoing = Undoing::new(2, true);
    let mut states = vec![(RunState::Compensating, undoing.clone())];
    (undoing.attempt, undoing.since, undoing.until) = (u32::MAX, Some(at(7)), Some(at(9)));
    states.push((RunState::Compensating, undoing.clone()));
    states.push((RunState::Interrupted, undoing.clone()));
    undoing.failed = vec![NotUndone::new(2, failure(FailureKind::Timeout))];
    (undoing.step, undoing.undone, undoing.cancelled) = (1, vec![4, 3], false);
    states.push((RunState::Compensating, undoing.clone()));
    undoing.failed.push(NotUndone::new(1, failure(FailureKind::Abandoned)));
    (undoing.attempt, undoing.since, undoing.until) = (0, None, None);
    states.push((RunState::Failed, undoing));
    for (n, (state, undoing)) in states.into_iter().enumerate() {
        let mut update = RunUpdate::new(state, 0, 1);
        update.failure = Some(failure(FailureKind::Error));
        update.undoing = Some(Arc::new(undoing));
        commit(&mut store, 2 + n as u64, Commit::new(run_id("a"), Project::default(), update.clone()));
        if n % 2 == 1 {
            drop(store);
            store = open();
        }
        let record = store.run(&run_id("a")).unwrap().unwrap();
        assert_eq!((record.state, record.undoing, record.failure), (state, update.undoing, update.failure));
        assert_eq!(store.unfinished(None, ALL).unwrap().len(), usize::from(!state.is_final()));
    }
}

/// The steps that were skipped are told apart from those that returned nothing.
pub fn what_was_skipped_is_known<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    commit(&mut store, 0, accepted("a", 4));
    commit(&mut store, 0, accepted("b", 1));
    for step in 0..3 {
        let mut done = completed("a", step, 4, "x");
        let output = done.output.as_mut().unwrap();
        (output.output, output.skipped) = (Output::null(), step != 1);
        commit(&mut store, 1, done);
    }
    for _ in 0..2 {
        assert_eq!(store.skipped(&run_id("a")).unwrap(), [0, 2]);
        assert_eq!(store.skipped(&run_id("b")).unwrap(), [0; 0]);
        assert_eq!(store.outputs(&run_id("a")).unwrap().unwrap().len(), 3);
        drop(store);
        store = open();
    }
}

/// An output that somebody gave for a step of which no attempt was made is not one of a step that was skipped.
pub fn what_somebody_completed_was_not_skipped<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    let mut held = accepted("a", 3);
    held.update = RunUpdate::new(RunState::Held, 0, 0);
    commit(&mut store, 0, held);
    commit(&mut store, 1, completed("a", 0, 3, "by hand"));
    let mut skipped = completed("a", 1, 3, "x");
    let output = skipped.output.as_mut().unwrap();
    (output.output, output.skipped) = (Output::null(), true);
    skipped.update.attempt = 0;
    commit(&mut store, 2, skipped);
    commit(&mut store, 3, completed("a", 2, 3, "by hand"));
    // In the very commit that accepts it, too.
    let mut whole = completed("b", 0, 1, "at once");
    whole.accept = accepted("b", 1).accept;
    commit(&mut store, 4, whole);
    for _ in 0..2 {
        assert_eq!(store.skipped(&run_id("a")).unwrap(), [1]);
        assert_eq!(store.outputs(&run_id("a")).unwrap().unwrap().len(), 3);
        assert_eq!(store.skipped(&run_id("b")).unwrap(), [0; 0]);
        drop(store);
        store = open();
    }
}
