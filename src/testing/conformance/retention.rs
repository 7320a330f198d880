//! What stores promise that remove what is not kept any more: all but those that keep everything.

use super::*;
use crate::artifact::task_key;
use crate::memory::{Collected, Retention};

/// In batches of so many rows, to the end; the store is looked at after each.
pub(super) fn collect<S: Store>(
    store: &mut S,
    retention: &Retention,
    second: u64,
    limit: usize,
    mut look: impl FnMut(&S),
) -> Collected {
    let mut all = Collected::default();
    for _ in 0..10_000 {
        let some = batch(store, |store| store.collect(retention, at(second), limit).unwrap());
        all = all.and(some);
        look(store);
        if !some.more {
            return all;
        }
    }
    panic!("it does not come to an end: {all:?}")
}

/// A run of as many steps, accepted, run and finished in one second.
pub(super) fn run_at(store: &mut impl Store, run: &str, steps: usize, second: u64) -> Vec<Event> {
    let mut events = commit(store, second, accepted(run, steps));
    for index in 0..steps {
        events.append(&mut commit(store, second, completed(run, index, steps, format!("{run} {index}"))));
    }
    events
}

pub(super) fn names(store: &impl Store) -> Vec<String> {
    let runs = store.runs(None, ALL).unwrap();
    runs.into_iter().map(|record| record.run_id.to_string()).collect()
}

fn gone(read: Result<Vec<Event>, MemoryError>) -> bool {
    matches!(read, Err(MemoryError::HistoryGone { .. }))
}

/// What a run holds is whole, or the run is gone.
fn assert_whole(store: &impl Store, run: &str, steps: usize) {
    let record = store.run(&run_id(run)).unwrap();
    assert_eq!(store.plan(&run_id(run)).unwrap().is_some(), record.is_some(), "{run}");
    assert_eq!(store.outputs(&run_id(run)).unwrap().map(|outputs| outputs.len()), record.map(|_| steps));
}

/// Of each key the last versions stay, of results and others; outputs stay; and the next version is the next.
pub fn old_versions_go<S: Store>(mut open: impl FnMut() -> S) {
    for limit in [1, 2, 7, ALL] {
        let (mut store, project) = (open(), Project::new("t", limit.to_string()));
        let keys = ["k", "lone", "task:s0", "task:x"];
        let put = |store: &mut S, key: &str| {
            let put = Put::new(key, key).in_project("t", limit.to_string());
            batch(store, |store| store.put(put, at(0)).unwrap().version)
        };
        for key in keys {
            let count = if key == "lone" { 1 } else { 5 };
            assert!((1..=count).all(|n| put(&mut store, key) == n));
        }
        let of_run = |run: &str, commit: Box<Commit>| {
            let mut commit = Commit { project: project.clone(), ..*commit };
            commit.run_id = run_id(&format!("{run}{limit}"));
            commit
        };
        for run in ["a", "b", "c"] {
            commit(&mut store, 0, of_run(run, accepted(run, 1)));
            commit(&mut store, 0, of_run(run, completed(run, 0, 1, run)));
        }
        batch(&mut store, |store| store.delete(&project, "k", Some(4)).unwrap());
        let largest = |store: &S| {
            for key in ["k", "task:x"] {
                assert_eq!(store.artifact(&project, key, None).unwrap().unwrap().version, 5);
            }
        };
        let retention = Retention::new().keep_versions(2);
        let collected = collect(&mut store, &retention, 0, limit, largest);
        let versions = |store: &S| keys.map(|key| store.versions(&project, key).unwrap());
        // The notes that each of the three runs staged are a key too.
        assert_eq!(collected.versions, 2 + 6 + 3 + 1, "of k, task:s0, task:x and notes");
        assert_eq!((collected.runs, collected.events), (0, 0));
        assert_eq!(versions(&store), [vec![3, 5], vec![1], vec![7, 8], vec![4, 5]]);
        assert_eq!(store.artifact(&project, "task:s0", Some(7)).unwrap().unwrap().text(), Some("b"));
        assert!(store.artifact(&project, "task:s0", Some(6)).unwrap().is_none());
        for run in ["a", "b", "c"] {
            let outputs = store.outputs(&run_id(&format!("{run}{limit}"))).unwrap().unwrap();
            assert_eq!(outputs, [run.into_output().unwrap()]);
        }
        assert_eq!([put(&mut store, "k"), put(&mut store, "lone"), put(&mut store, "task:s0")], [6, 2, 9]);
        // What was written since is looked at again, also by another store.
        assert_eq!(collect(&mut store, &retention, 0, limit, |_| ()).versions, 2);
        put(&mut store, "k");
        drop(store);
        let mut store = open();
        assert_eq!(collect(&mut store, &retention, 0, limit, |_| ()).versions, 1);
        assert_eq!(versions(&store), [vec![6, 7], vec![1, 2], vec![8, 9], vec![4, 5]]);
        // Fewer of them, from now on.
        assert_eq!(collect(&mut store, &Retention::new().keep_versions(1), 0, limit, |_| ()).versions, 5);
        assert_eq!(versions(&store), [vec![7], vec![2], vec![9], vec![5]]);
    }
}

/// Finished runs go when they are too old or too many, the first that finished first; what is not finished stays whole.
pub fn finished_runs_go_and_others_stay<S: Store>(mut open: impl FnMut() -> S) {
    for (day, limit) in [(0, 1), (1_000, 3), (2_000, ALL)] {
        let mut store = open();
        let earlier = names(&store).len() as u64;
        let name = |run: &str| format!("{run}{limit}");
        let [open_run, late, a, b, c, last] = ["open", "late", "a", "b", "c", "last"].map(name);
        commit(&mut store, day, accepted(&open_run, 2));
        commit(&mut store, day, completed(&open_run, 0, 2, "kept"));
        commit(&mut store, day, accepted(&late, 1));
        run_at(&mut store, &a, 9, day + 10);
        run_at(&mut store, &b, 2, day + 20);
        commit(&mut store, day + 25, completed(&late, 0, 1, "late"));
        let c_events = run_at(&mut store, &c, 2, day + 30);
        commit(&mut store, day + 40, accepted(&last, 1));
        let look = |store: &S| {
            assert_whole(store, &a, 9);
            assert_whole(store, &b, 2);
            assert_whole(store, &c, 2);
            assert_whole(store, &open_run, 1);
        };
        let for_16 = Retention::new().keep_runs_for(Duration::from_secs(16));
        let before: Vec<Vec<u64>> =
            (0..9).map(|n| store.versions(&Project::default(), &format!("task:s{n}")).unwrap()).collect();
        let collected = collect(&mut store, &for_16, day + 37, limit, look);
        assert_eq!((collected.runs, collected.versions), (2 + earlier, 0));
        assert_eq!(names(&store), [open_run.clone(), late.clone(), c.clone(), last.clone()]);
        // The results of a deleted run stay, as they were.
        for (n, versions) in before.iter().enumerate() {
            let key = format!("task:s{n}");
            assert_eq!(store.versions(&Project::default(), &key).unwrap(), *versions);
            let first = store.artifact(&Project::default(), &key, versions.last().copied()).unwrap().unwrap();
            assert_eq!(
                (&*first.artifact_type, Value::Object(first.meta)),
                ("task_result", json!({ "step": n, "step_id": format!("s{n}") }))
            );
        }
        let eighth = store.artifact(&Project::default(), "task:s8", None).unwrap().unwrap();
        assert_eq!((eighth.text(), eighth.created_at), (Some(&*format!("{a} 8")), at(day + 10)));
        // An old run that goes on has lost the beginning of its history, and nothing else.
        assert!(gone(store.run_events(&run_id(&open_run), 0, ALL)));
        assert_eq!(store.run_events(&run_id(&c), 0, ALL).unwrap(), c_events);
        assert_eq!(store.run_events(&run_id(&a), 0, ALL).unwrap(), []);
        // By their number: those that finished last stay.
        let collected = collect(&mut store, &Retention::new().keep_runs(1), 0, limit, look);
        assert_eq!(collected.runs, 1);
        assert_eq!(names(&store), [open_run.clone(), c.clone(), last.clone()]);
        drop(store);
        let mut store = open();
        let record = store.run(&run_id(&open_run)).unwrap().unwrap();
        assert_eq!((record.state, record.cursor), (RunState::Running, 1));
        assert_eq!(store.outputs(&run_id(&open_run)).unwrap().unwrap(), ["kept".into_output().unwrap()]);
        // Its id may be given again, and the next versions are the next.
        let next = before[0].last().unwrap() + 1;
        run_at(&mut store, &a, 1, day + 50);
        assert_eq!(store.artifact(&Project::default(), "task:s0", None).unwrap().unwrap().version, next);
        assert_eq!(store.outputs(&run_id(&a)).unwrap().unwrap().len(), 1);
        commit(&mut store, day + 60, completed(&open_run, 1, 2, "end"));
        commit(&mut store, day + 60, completed(&last, 0, 1, "end"));
    }
}

/// Of two rules about the same thing the one that removes more counts; what is just as old as it may be stays.
pub fn finished_runs_go_by_either_rule<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    for (run, second) in [("a", 0), ("b", 10), ("c", 20), ("d", 30)] {
        run_at(&mut store, run, 1, second);
    }
    let rules = |runs, seconds| Retention::new().keep_runs(runs).keep_runs_for(Duration::from_secs(seconds));
    assert_eq!(collect(&mut store, &rules(4, 100), 40, ALL, |_| ()).runs, 0);
    assert_eq!(collect(&mut store, &rules(3, 20), 40, ALL, |_| ()).runs, 2);
    assert_eq!(names(&store), ["c", "d"]);
    assert_eq!(collect(&mut store, &rules(1, 20), 40, ALL, |_| ()).runs, 1);
    assert_eq!(names(&store), ["d"]);
}

/// What numbers go on from stays, whatever the rules say.
pub fn what_numbers_go_on_from_stays<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    let mut nothing = Retention::new().keep_runs(0).keep_events_for(Duration::ZERO);
    // Taken as 1 by whoever says so.
    nothing.keep_versions = Some(0);
    assert_eq!(Retention::new().keep_versions(0), Retention::new().keep_versions(1));
    assert_eq!(collect(&mut store, &nothing, 9, ALL, |_| ()), Collected::default());
    commit(&mut store, 0, accepted("first", 1));
    run_at(&mut store, "a", 1, 1);
    let end = commit(&mut store, 2, completed("first", 0, 1, "x"));
    let last_seq = store.last_seq().unwrap();
    assert_eq!(collect(&mut store, &nothing, 9, ALL, |_| ()).runs, 0);
    assert_eq!(names(&store), ["first", "a"], "that of the last event, and the one accepted last");
    assert_eq!((store.last_seq().unwrap(), end[1].seq()), (last_seq, Some(last_seq)));
    assert_eq!(store.events(last_seq - 1, ALL).unwrap(), end[1..]);
    for n in 0..2 {
        drop(store);
        store = open();
        let run = format!("next{n}");
        let events = run_at(&mut store, &run, 1, 3 + n);
        assert_eq!(events[0].seq(), Some(last_seq + 1 + 4 * n));
        let result = store.artifact(&Project::default(), "task:s0", None).unwrap().unwrap();
        assert_eq!((result.version, result.run_id), (3 + n, Some(run_id(&run))));
        collect(&mut store, &nothing, 9, ALL, |_| ());
        assert_eq!(names(&store), [run]);
        assert_eq!(store.versions(&Project::default(), "task:s0").unwrap(), [3 + n]);
    }
}

/// Events go from the front, by their time; what is left is whole, and whoever asks for more is told.
pub fn old_events_go_from_the_front<S: Store>(mut open: impl FnMut() -> S) {
    for (day, limit) in [(0, 1), (1_000, 2), (2_000, ALL)] {
        let mut store = open();
        let [a, b] = ["a", "b"].map(|run| run_id(&format!("{run}{limit}")));
        run_at(&mut store, a.as_str(), 2, day + 10);
        let mut left = commit(&mut store, day + 20, accepted(b.as_str(), 2));
        left.append(&mut commit(&mut store, day + 30, completed(b.as_str(), 0, 2, "x")));
        let first = left[0].seq().unwrap();
        let last = left.last().unwrap().seq().unwrap();
        let kept = Retention::new().keep_events_for(Duration::from_secs(5));
        let look = |store: &S| {
            let history = match store.events(0, ALL) {
                Err(MemoryError::HistoryGone { after: 0, first }) => store.events(first - 1, ALL).unwrap(),
                history => history.unwrap(),
            };
            let numbers: Vec<u64> = history.iter().filter_map(Event::seq).collect();
            assert_eq!(numbers, (numbers[0]..=last).collect::<Vec<u64>>());
        };
        // To the very second nothing is too old.
        assert_eq!(store.events(first - 1, ALL).unwrap(), left);
        let collected = collect(&mut store, &kept, day + 25, limit, look);
        assert_eq!((collected.runs, collected.versions), (0, 0));
        assert!(collected.events >= 6);
        assert_eq!(store.events(first - 1, ALL).unwrap(), left);
        assert!(gone(store.events(first - 2, ALL)) && gone(store.run_events(&a, 0, ALL)));
        assert_eq!(store.run_events(&b, 0, ALL).unwrap(), left);
        assert!(matches!(
            store.events(0, ALL),
            Err(MemoryError::HistoryGone { after: 0, first: told }) if told == first
        ));
        // The run itself is kept, and behind its last event nothing of it is missing.
        assert_eq!(store.outputs(&a).unwrap().unwrap().len(), 2);
        assert_eq!(store.run_events(&a, first - 1, ALL).unwrap(), []);
        commit(&mut store, day + 40, completed(b.as_str(), 1, 2, "end"));
        collect(&mut store, &kept, day + 100, limit, |_| ());
        assert_eq!(store.run_events(&a, first - 1, ALL).unwrap(), []);
        assert!(gone(store.run_events(&b, 0, ALL)));
    }
}

/// A batch that collects and is not ended has removed all of it, or nothing; the rest goes another time.
pub fn collecting_is_all_or_nothing<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    let events = run_at(&mut store, "a", 3, 0);
    run_at(&mut store, "b", 3, 1);
    let retention = Retention::new().keep_versions(1).keep_runs(1);
    store.begin(Durability::Relaxed).unwrap();
    let some = store.collect(&retention, at(2), ALL).unwrap();
    assert_eq!((some.runs, some.versions, some.more), (1, 3 + 5, false));
    store.reopen().unwrap();
    match store.run(&run_id("a")).unwrap() {
        None => assert!(gone(store.events(0, ALL))),
        Some(record) => {
            assert_eq!((record.state, record.cursor), (RunState::Completed, 3));
            assert_eq!(store.run_events(&run_id("a"), 0, ALL).unwrap(), events);
            assert_eq!(store.versions(&Project::default(), "notes").unwrap().len(), 6);
            assert_eq!(collect(&mut store, &retention, 2, ALL, |_| ()), some);
        }
    }
    assert_eq!(names(&store), ["b"]);
    assert_eq!(store.versions(&Project::default(), "notes").unwrap(), [6]);
}

/// Two that keep different numbers of versions, batch by batch in turns: each comes to its end, and has looked at all keys then.
pub fn two_retentions_in_turns_come_to_their_ends<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    let keys: Vec<String> = (0..40).map(|n| format!("k{n:02}")).collect();
    let put = |store: &mut S, key: &str| {
        batch(store, |store| store.put(Put::new(key, "x"), at(0)).unwrap());
    };
    let some = |store: &mut S, keep: u64| {
        let retention = Retention::new().keep_versions(keep);
        batch(store, |store| store.collect(&retention, at(1), 8).unwrap())
    };
    for (few, more) in [(2, 4), (1, 3)] {
        keys.iter().for_each(|key| (0..4).for_each(|_| put(&mut store, key)));
        // The other has come to the middle.
        for _ in 0..4 {
            assert!(some(&mut store, more).more);
        }
        let mut rounds = 0..1_000;
        while some(&mut store, few).more {
            some(&mut store, more);
            assert!(rounds.next().is_some(), "it does not come to an end");
        }
        for key in &keys {
            let versions = store.versions(&Project::default(), key).unwrap();
            assert_eq!(versions.len() as u64, few, "{key} {versions:?}");
        }
    }
}

/// What is written where a collection has passed already is looked at before it comes to its end.
pub fn what_is_written_behind_a_collection_goes_too<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    let retention = Retention::new().keep_versions(1);
    let put = |store: &mut S, key: &str| {
        batch(store, |store| store.put(Put::new(key, "x"), at(0)).unwrap());
    };
    let keys: Vec<String> = (0..40).map(|n| format!("k{n:02}")).chain([task_key("s0")]).collect();
    keys.iter().for_each(|key| (0..3).for_each(|_| put(&mut store, key)));
    for _ in 0..9 {
        assert!(batch(&mut store, |store| store.collect(&retention, at(1), 8).unwrap()).more);
    }
    keys.iter().for_each(|key| put(&mut store, key));
    run_at(&mut store, "a", 1, 1);
    collect(&mut store, &retention, 1, 8, |_| ());
    for key in keys.iter().map(String::as_str).chain(["notes"]) {
        assert_eq!(store.versions(&Project::default(), key).unwrap().len(), 1, "{key}");
    }
}

/// Commits wait for a batch that collects, so one removes no more runs and versions than it may look at.
pub fn a_batch_that_collects_keeps_to_its_limit<S: Store>(mut open: impl FnMut() -> S) {
    const LIMIT: u64 = 10;
    let mut store = open();
    for n in 0..60 {
        run_at(&mut store, &format!("r{n}"), 1, n);
    }
    let retention = Retention::new().keep_versions(1).keep_runs(1).keep_events_for(Duration::ZERO);
    let mut all = Collected::default();
    for _ in 0..1_000 {
        let some = batch(&mut store, |store| store.collect(&retention, at(100), LIMIT as usize).unwrap());
        assert!(some.runs + some.versions <= LIMIT, "{some:?}");
        all = all.and(some);
        if !some.more {
            break;
        }
    }
    assert_eq!((all.runs, all.versions, all.more), (59, 2 * 59, false));
}

/// What a view has read before is gone for it too.
pub fn a_view_follows_what_is_collected<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    run_at(&mut store, "a", 2, 0);
    let kept = run_at(&mut store, "b", 2, 1);
    let Some(view) = store.reader().unwrap() else { return };
    let read = |view: &dyn crate::memory::Reader| {
        let run = run_id("a");
        let (record, plan) = (view.run(&run).unwrap(), view.plan(&run).unwrap());
        let outputs = view.outputs(&run).unwrap();
        let all = [record.is_some(), plan.is_some(), outputs.is_some()];
        (all, view.runs(None, ALL).unwrap().len(), view.versions(&Project::default(), "task:s0").unwrap())
    };
    assert_eq!(read(&*view), ([true; 3], 2, vec![1, 2]));
    assert!(view.artifact(&Project::default(), "task:s0", Some(1)).unwrap().is_some());
    assert_eq!(view.events(0, 1).unwrap().len(), 1);
    collect(&mut store, &Retention::new().keep_versions(1).keep_runs(1), 9, ALL, |_| ());
    assert_eq!(read(&*view), ([false; 3], 1, vec![2]));
    assert!(view.artifact(&Project::default(), "task:s0", Some(1)).unwrap().is_none());
    assert!(gone(view.events(0, ALL)));
    assert_eq!(view.run_events(&run_id("a"), 0, ALL).unwrap(), []);
    assert_eq!(view.run_events(&run_id("b"), 0, ALL).unwrap(), kept);
}
