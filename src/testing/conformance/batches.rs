//! What stores promise about batches, and about views of what they have stored.

use super::*;

/// Of a batch that was not ended, all is there afterwards or nothing.
pub fn a_batch_that_was_not_ended_is_all_or_nothing<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    commit(&mut store, 0, accepted("before", 1));
    store.begin(Durability::Immediate).unwrap();
    store.commit(accepted("a", 1), at(1)).unwrap();
    store.commit(completed("a", 0, 1, "x"), at(1)).unwrap();
    store.put(Put::new("k", "x"), at(1)).unwrap();
    store.reopen().unwrap();
    let there = store.run(&run_id("a")).unwrap();
    let all = there.is_some();
    assert!(there.is_none_or(|record| record.state == RunState::Completed));
    assert_eq!(store.versions(&Project::default(), "k").unwrap().len(), usize::from(all));
    assert_eq!(store.versions(&Project::default(), "task:s0").unwrap().len(), usize::from(all));
    assert_eq!(store.last_seq().unwrap(), if all { 6 } else { 2 });
    // And it goes on as if nothing had been.
    let events = commit(&mut store, 2, accepted("b", 1));
    assert_eq!(events[0].seq(), Some(if all { 7 } else { 3 }));
}

/// A view, where a store has them, reads what was stored and nothing else, also while a batch is open.
pub fn a_view_sees_what_is_stored<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    let Some(view) = store.reader().unwrap() else { return };
    let events = whole_run(&mut store, "a", 2);
    assert_eq!(view.last_seq().unwrap(), 6);
    assert_eq!(view.events(0, ALL).unwrap(), events);
    assert_eq!(view.run(&run_id("a")).unwrap(), store.run(&run_id("a")).unwrap());
    assert_eq!(view.outputs(&run_id("a")).unwrap(), store.outputs(&run_id("a")).unwrap());
    store.begin(Durability::Relaxed).unwrap();
    store.commit(accepted("b", 1), at(1)).unwrap();
    assert_eq!((view.run(&run_id("b")).unwrap(), view.last_seq().unwrap()), (None, 6));
    store.end().unwrap();
    assert!(view.run(&run_id("b")).unwrap().is_some() && view.last_seq().unwrap() == 8);
    store.flush().unwrap();
}

/// Commits that come together are stored as if they had come one after another, also behind one that is refused.
pub fn commits_that_come_together_are_as_one_by_one<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    let mut told = commit(&mut store, 0, accepted("known", 1));
    let none = batch(&mut store, |store| store.commit_all(&mut std::iter::empty(), at(1)).unwrap());
    assert!(none.is_empty());
    let commits = [
        accepted("a", 2),
        completed("a", 0, 2, "first"),
        accepted("known", 3),
        accepted("b", 1),
        failed("b", 0),
        reopened("unknown", 2, 0),
        reopened("b", 2, 0),
        completed("a", 1, 2, Bytes::from_static(b"\xff")),
    ];
    let count = commits.len();
    let mut commits = commits.into_iter();
    let results = batch(&mut store, |store| store.commit_all(&mut commits, at(5)).unwrap());
    assert_eq!((results.len(), commits.len()), (count, 0), "each is answered");
    for (n, result) in results.into_iter().enumerate() {
        match (n, result) {
            (2, Err(MemoryError::RunExists { run_id })) => assert_eq!(run_id.as_str(), "known"),
            (5, Err(MemoryError::UnknownRun { run_id })) => assert_eq!(run_id.as_str(), "unknown"),
            (2 | 5, other) => panic!("{other:?}"),
            (_, result) => {
                let mut events = result.unwrap();
                assert!(events.iter().all(|event| event.timestamp() == at(5)));
                told.append(&mut events);
            }
        }
    }
    assert!(told.iter().map(|event| event.seq().unwrap()).eq(1..=told.len() as u64));
    for _ in 0..2 {
        assert_eq!(store.events(0, ALL).unwrap(), told);
        let record = |run: &str| store.run(&run_id(run)).unwrap().unwrap();
        assert_eq!((record("a").state, record("a").cursor), (RunState::Completed, 2));
        assert_eq!((record("b").state, record("b").generation), (RunState::Running, 2));
        assert_eq!((record("known").steps, store.runs(None, ALL).unwrap().len()), (1, 3));
        let outputs = ["first".into_output(), Bytes::from_static(b"\xff").into_output()].map(Result::unwrap);
        assert_eq!(store.outputs(&run_id("a")).unwrap().unwrap(), outputs);
        assert_eq!(store.versions(&Project::default(), "notes").unwrap(), [1, 2]);
        drop(store);
        store = open();
    }
}

/// What a view has read once it reads anew: what a generation has withdrawn is gone for it too.
pub fn a_view_follows_what_is_withdrawn<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    commit(&mut store, 0, accepted("a", 3));
    let mut skipped = completed("a", 0, 3, ());
    skipped.output.as_mut().unwrap().skipped = true;
    commit(&mut store, 1, skipped);
    commit(&mut store, 1, completed("a", 1, 3, "withdrawn"));
    commit(&mut store, 2, failed("a", 2));
    let Some(view) = store.reader().unwrap() else { return };
    let read = |view: &dyn crate::memory::Reader| {
        let record = view.run(&run_id("a")).unwrap().unwrap();
        let (outputs, skipped) = (view.outputs(&run_id("a")).unwrap(), view.skipped(&run_id("a")).unwrap());
        (record, outputs, skipped, view.unfinished(None, ALL).unwrap(), view.events(0, ALL).unwrap())
    };
    let before = read(&*view);
    assert_eq!((before.0.state, before.1.as_ref().map(Vec::len)), (RunState::Failed, Some(2)));
    assert_eq!((&before.2, before.3.len()), (&vec![0], 0));
    commit(&mut store, 10, reopened("a", 2, 0));
    let after = read(&*view);
    assert_eq!((after.0.state, after.0.generation, &after.1), (RunState::Running, 2, &Some(Vec::new())));
    assert_eq!((after.2.len(), after.3.len()), (0, 1));
    assert_eq!(after, read(&store));
    // Its artifacts are as they were.
    let artifact = |view: &dyn crate::memory::Reader| {
        view.artifact(&Project::default(), "task:s1", None).unwrap().unwrap()
    };
    assert_eq!((artifact(&*view).text(), artifact(&*view)), (Some("withdrawn"), artifact(&store)));
}
