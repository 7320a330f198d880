//! What stores promise about signals.

use super::*;
use crate::memory::{KeptSignal, RecordSignal, SignalUsage};

pub(super) fn record_signal(
    store: &mut impl Store,
    second: u64,
    run: &str,
    name: &str,
    payload: Value,
) -> (KeptSignal, Event) {
    let signal = RecordSignal::new(run_id(run), Arc::from(name), Arc::new(payload));
    let (kept, mut events) = batch(store, |store| store.record_signal(signal, at(second)).unwrap());
    assert_eq!(events.len(), 1);
    let event = events.pop().unwrap();
    assert_eq!((event.run_id(), event.timestamp()), (Some(&run_id(run)), at(second)));
    assert_eq!(event.kind(), &EventKind::SignalReceived { signal: Arc::from(name) });
    assert_eq!(event.seq(), Some(kept.no), "it has the number of its event");
    (kept, event)
}

/// A commit that takes a signal, which becomes the output of its step.
fn taking(run: &str, index: usize, steps: usize, signal: &KeptSignal) -> Box<Commit> {
    let mut commit = completed(run, index, steps, Output::Json(Arc::clone(&signal.payload)));
    commit.signal = Some(signal.no);
    commit
}

/// A signal is kept as it was sent, in the order in which it came, each for its own run, until a commit takes it.
pub fn signals_are_kept_until_they_are_taken<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    let mut events = commit(&mut store, 0, accepted("a", 2));
    events.append(&mut commit(&mut store, 0, accepted("b", 1)));
    let payloads = [json!(null), json!({ "by": "ä'); --", "n": [1, 2.5, u64::MAX] }), json!("text")];
    let mut kept = Vec::new();
    for (n, (name, payload)) in ["go", "o'ther", "go"].into_iter().zip(payloads).enumerate() {
        let (signal, event) = record_signal(&mut store, 1 + n as u64, "a", name, payload.clone());
        assert_eq!((&*signal.name, &*signal.payload), (name, &payload));
        kept.push(signal);
        events.push(event);
    }
    let (signal, event) = record_signal(&mut store, 5, "b", "go", json!("b"));
    events.push(event);
    let of_b = [signal];
    for _ in 0..2 {
        assert_eq!(store.signals(&run_id("a")).unwrap(), kept);
        assert_eq!(store.signals(&run_id("b")).unwrap(), of_b);
        assert_eq!(store.signals(&run_id("c")).unwrap(), []);
        assert_eq!(store.events(0, ALL).unwrap(), events);
        drop(store);
        store = open();
    }
    // Any of them, and no other.
    events.append(&mut commit(&mut store, 6, taking("a", 0, 2, &kept[1])));
    let taken = kept.remove(1);
    for _ in 0..2 {
        assert_eq!(store.signals(&run_id("a")).unwrap(), kept);
        assert_eq!(store.outputs(&run_id("a")).unwrap().unwrap(), [Output::Json(Arc::clone(&taken.payload))]);
        assert_eq!(store.signals(&run_id("b")).unwrap(), of_b);
        drop(store);
        store = open();
    }
    if let Some(view) = store.reader().unwrap() {
        assert_eq!(view.signals(&run_id("a")).unwrap(), kept);
    }
    // What nothing takes stays, also when the run is over.
    events.append(&mut commit(&mut store, 7, completed("a", 1, 2, "end")));
    assert_eq!(store.signals(&run_id("a")).unwrap(), kept);
    assert_eq!(store.events(0, ALL).unwrap(), events);
    assert!(events.iter().map(|event| event.seq().unwrap()).eq(1..=events.len() as u64));
}

/// A store tells what the signals of a run take, as they come and go.
pub fn what_signals_take_is_told<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    commit(&mut store, 0, accepted("a", 2));
    commit(&mut store, 0, accepted("b", 1));
    let usage = |store: &S, run: &str| store.signal_usage(&run_id(run)).unwrap();
    assert_eq!(usage(&store, "a"), SignalUsage::default());
    let payloads = [json!(null), json!("ä\n"), json!({ "long": "x".repeat(10_000) }), json!([1.5, []])];
    // As JSON: in bytes, with quotes and escapes.
    let sizes = [4, 6, 10_011, 8];
    let mut kept = Vec::new();
    let mut bytes = 0;
    for (payload, size) in payloads.into_iter().zip(sizes) {
        kept.push(record_signal(&mut store, 1, "a", "go", payload).0);
        bytes += size;
        assert_eq!(usage(&store, "a"), SignalUsage::new(kept.len(), bytes));
    }
    assert_eq!((usage(&store, "b"), usage(&store, "unknown")), Default::default());
    commit(&mut store, 2, taking("a", 0, 2, &kept[2]));
    for _ in 0..2 {
        assert_eq!(usage(&store, "a"), SignalUsage::new(3, bytes - sizes[2]));
        drop(store);
        store = open();
    }
    if let Some(view) = store.reader().unwrap() {
        assert_eq!(view.signal_usage(&run_id("a")).unwrap(), usage(&store, "a"));
    }
}

/// A signal to a run that is not known is refused alone, and takes no number; so is the commit of a run that is known beside one that
/// takes a signal.
pub fn a_signal_to_an_unknown_run_is_refused_alone<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    commit(&mut store, 0, accepted("a", 1));
    let (first, _) = record_signal(&mut store, 1, "a", "go", json!(1));
    store.begin(Durability::Immediate).unwrap();
    let signal = |run: &str| RecordSignal::new(run_id(run), Arc::from("go"), Arc::new(json!(2)));
    let (second, _) = store.record_signal(signal("a"), at(2)).unwrap();
    let refused = store.record_signal(signal("b"), at(2));
    assert!(
        matches!(&refused, Err(MemoryError::UnknownRun { run_id }) if run_id.as_str() == "b"),
        "{refused:?}"
    );
    assert!(refused.unwrap_err().wrote_nothing());
    let mut taken = accepted("a", 1);
    taken.signal = Some(first.no);
    assert!(matches!(store.commit(taken, at(2)), Err(MemoryError::RunExists { .. })));
    let (third, _) = store.record_signal(signal("a"), at(2)).unwrap();
    store.end().unwrap();
    assert_eq!((first.no, second.no, third.no), (3, 4, 5));
    for _ in 0..2 {
        assert_eq!(store.signals(&run_id("a")).unwrap(), [first.clone(), second.clone(), third.clone()]);
        assert_eq!(store.signals(&run_id("b")).unwrap(), []);
        assert_eq!(store.last_seq().unwrap(), 5);
        drop(store);
        store = open();
    }
}

/// A batch that was not ended takes its signals with it, and what it took, or leaves all of it.
pub fn signals_of_a_batch_that_was_not_ended_are_all_or_nothing<S: Store>(mut open: impl FnMut() -> S) {
    let mut store = open();
    commit(&mut store, 0, accepted("a", 2));
    let (first, _) = record_signal(&mut store, 1, "a", "go", json!(1));
    store.begin(Durability::Immediate).unwrap();
    store.commit(taking("a", 0, 2, &first), at(2)).unwrap();
    let second = RecordSignal::new(run_id("a"), Arc::from("go"), Arc::new(json!(2)));
    let (second, _) = store.record_signal(second, at(2)).unwrap();
    store.reopen().unwrap();
    let all = store.run(&run_id("a")).unwrap().unwrap().cursor == 1;
    assert_eq!(store.signals(&run_id("a")).unwrap(), [if all { second } else { first }]);
    assert_eq!(store.last_seq().unwrap(), if all { 6 } else { 3 });
}
