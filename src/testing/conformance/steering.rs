//! What stores promise about circuit breakers, and about what a run waits for.

use super::*;
use crate::memory::RecordBreaker;
use crate::resilience::{BreakerRecord, CircuitState};
use crate::run::StepProgress;

fn open_breaker(name: &str, second: u64) -> (BreakerRecord, EventKind) {
    let until = at(second + 30);
    let event = EventKind::BreakerOpened { breaker: Arc::from(name), until };
    (BreakerRecord::new(name, CircuitState::Open, Some(until), 3, at(second)), event)
}

fn closed_breaker(name: &str, second: u64) -> (BreakerRecord, EventKind) {
    let event = EventKind::BreakerClosed { breaker: Arc::from(name) };
    (BreakerRecord::new(name, CircuitState::Closed, None, 0, at(second)), event)
}

fn record_breaker(store: &mut impl Store, (record, event): (BreakerRecord, EventKind), second: u64) -> Event {
    let change = RecordBreaker::new(record, event);
    let mut events = batch(store, |store| store.record_breaker(change, at(second)).unwrap());
    assert_eq!(events.len(), 1);
    events.pop().unwrap()
}

/// The last record of each breaker is kept, by its name; its event belongs to no run and has its place among the others.
pub fn breakers_are_kept_as_they_were_told<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    assert_eq!(store.breakers().unwrap(), []);
    let mut events = commit(&mut store, 0, accepted("a", 1));
    let names = ["z", "a'); --", "\u{e4}"];
    for (n, name) in names.into_iter().enumerate() {
        let event = record_breaker(&mut store, open_breaker(name, n as u64), n as u64);
        assert_eq!((event.run_id(), event.timestamp()), (None, at(n as u64)));
        assert_eq!(event.kind(), &open_breaker(name, n as u64).1);
        events.push(event);
    }
    let half_open = BreakerRecord::new("z", CircuitState::HalfOpen, None, u32::MAX, at(9));
    let event = EventKind::BreakerHalfOpened { breaker: Arc::from("z") };
    events.push(record_breaker(&mut store, (half_open.clone(), event), 9));
    assert!(events.iter().map(|event| event.seq().unwrap()).eq(1..=6));
    let kept = [open_breaker(names[1], 1).0, half_open, open_breaker(names[2], 2).0];
    for _ in 0..2 {
        assert_eq!(store.breakers().unwrap(), kept);
        assert_eq!(store.events(0, ALL).unwrap(), events);
        assert_eq!(store.run_events(&run_id("a"), 0, ALL).unwrap(), events[..2]);
        assert_eq!(store.last_seq().unwrap(), 6);
        drop(store);
        store = open();
    }
    let next = commit(&mut store, 10, completed("a", 0, 1, "x"));
    assert_eq!(next[0].seq(), Some(7));
}

/// A breaker that changes with a commit is stored with it, and not at all with one that is refused.
pub fn a_commit_stores_the_breakers_that_change_with_it<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    record_breaker(&mut store, closed_breaker("b", 0), 0);
    let mut first = accepted("a", 2);
    let ((opened, event), (other, _)) = (open_breaker("b", 1), open_breaker("other", 1));
    first.events.push(event.clone());
    first.breakers = vec![opened.clone(), other.clone()];
    let events = commit(&mut store, 1, first);
    let told = events.last().unwrap();
    assert_eq!((told.kind(), told.run_id(), told.timestamp()), (&event, Some(&run_id("a")), at(1)));
    assert_eq!(store.breakers().unwrap(), [opened.clone(), other.clone()]);
    // The later of two in one batch counts.
    store.begin(Durability::Immediate).unwrap();
    let mut second = completed("a", 0, 2, "x");
    second.breakers = vec![closed_breaker("b", 2).0];
    store.commit(second, at(2)).unwrap();
    let (again, event) = open_breaker("b", 3);
    store.record_breaker(RecordBreaker::new(again.clone(), event), at(3)).unwrap();
    let mut refused = accepted("a", 1);
    refused.breakers = vec![closed_breaker("b", 4).0, closed_breaker("new", 4).0];
    assert!(matches!(store.commit(refused, at(4)), Err(MemoryError::RunExists { .. })));
    store.end().unwrap();
    for _ in 0..2 {
        assert_eq!(store.breakers().unwrap(), [again.clone(), other.clone()]);
        drop(store);
        store = open();
    }
    if let Some(view) = store.reader().unwrap() {
        assert_eq!(view.breakers().unwrap(), [again, other]);
    }
}

/// A batch that was not ended takes its breakers with it, or leaves them with all the rest.
pub fn breakers_of_a_batch_that_was_not_ended_are_all_or_nothing<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    store.begin(Durability::Immediate).unwrap();
    let mut first = accepted("a", 1);
    first.breakers = vec![open_breaker("b", 0).0];
    store.commit(first, at(0)).unwrap();
    let (record, event) = open_breaker("c", 0);
    store.record_breaker(RecordBreaker::new(record, event), at(0)).unwrap();
    store.reopen().unwrap();
    let all = store.run(&run_id("a")).unwrap().is_some();
    assert_eq!(store.breakers().unwrap().len(), if all { 2 } else { 0 });
    assert_eq!(store.last_seq().unwrap(), if all { 3 } else { 0 });
}

/// What a run waits for, and until when, comes back as it was committed: its step's progress, that it pauses, its deadline.
pub fn what_a_run_waits_for_is_kept<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    let mut queued = accepted("a", 2);
    queued.update = RunUpdate::new(RunState::Queued, 0, 0);
    queued.accept.as_mut().unwrap().deadline = Some(at(1_000));
    commit(&mut store, 0, queued);
    commit(&mut store, 0, accepted("none", 1));
    let failure = Arc::new(StepFailure::record(FailureKind::Error, &std::io::Error::other("broken")));
    let progress =
        |since, until, fallback| StepProgress { since, until, fallback, verifying: false, held: None };
    let states = [
        (RunState::Paused, 0, progress(None, None, false), true, None),
        (RunState::Queued, 0, progress(None, None, false), false, None),
        (RunState::Running, 1, progress(Some(at(4)), None, false), false, None),
        (RunState::Running, 1, progress(Some(at(4)), None, false), true, None),
        (RunState::BackingOff, 1, progress(Some(at(4)), Some(at(90)), false), false, Some(&failure)),
        (RunState::Paused, 1, progress(Some(at(4)), Some(at(90)), false), true, Some(&failure)),
        (RunState::Parked, 1, progress(Some(at(4)), Some(at(91)), false), false, Some(&failure)),
        (RunState::Parked, 1, progress(Some(at(4)), None, false), false, None),
        (RunState::Sleeping, 1, progress(Some(at(4)), Some(at(90)), false), false, None),
        (RunState::AwaitingSignal, 1, progress(Some(at(4)), None, false), false, None),
        (RunState::AwaitingSignal, 1, progress(Some(at(4)), Some(at(90)), false), false, None),
        (RunState::Running, 2, progress(Some(at(4)), None, true), false, Some(&failure)),
        (RunState::Stopping, 2, progress(Some(at(4)), None, true), true, Some(&failure)),
    ];
    for (n, (state, attempt, step, pausing, failure)) in states.into_iter().enumerate() {
        let mut update = RunUpdate::new(state, 0, attempt);
        (update.step, update.pausing, update.failure) = (step, pausing, failure.cloned());
        commit(&mut store, 2 + n as u64, Commit::new(run_id("a"), Project::default(), update));
        if n % 2 == 1 {
            drop(store);
            store = open();
        }
        let record = store.run(&run_id("a")).unwrap().unwrap();
        assert_eq!((record.state, record.attempt, record.pausing), (state, attempt, pausing), "{n}");
        // What is not said of an attempt that was started is when it was.
        if attempt > 0 {
            assert_eq!(record.step, step, "{n}");
        }
        assert_eq!((record.failure.as_ref(), record.deadline), (failure, Some(at(1_000))), "{n}");
        assert_eq!(store.unfinished(None, ALL).unwrap()[0], record, "{n}");
    }
    assert_eq!(store.run(&run_id("none")).unwrap().unwrap().deadline, None);
    // The next step's turn comes with the commit that completes the one before, unless that says otherwise.
    commit(&mut store, 50, completed("a", 0, 2, "x"));
    for _ in 0..2 {
        let record = store.run(&run_id("a")).unwrap().unwrap();
        assert_eq!((record.cursor, record.attempt, record.pausing), (1, 1, false));
        assert_eq!(record.step, progress(Some(at(50)), None, false));
        assert_eq!((record.failure, record.deadline), (None, Some(at(1_000))));
        drop(store);
        store = open();
    }
}
