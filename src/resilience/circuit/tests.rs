use super::*;
use crate::limits::BREAKER_OPEN;

pub(super) fn at(secs: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + secs)
}

fn opened(secs: u64) -> Option<Transition> {
    Some(Transition::Opened { until: at(secs) })
}

pub(super) fn pass(circuit: &mut Circuit, now: SystemTime) -> Ticket {
    match circuit.permit(now) {
        (Permit::Pass(ticket), None) => ticket,
        other => panic!("{other:?}"),
    }
}

/// A probe, and whether it was the one that made the circuit half-open.
fn probe(circuit: &mut Circuit, now: SystemTime) -> (Ticket, bool) {
    match circuit.permit(now) {
        (Permit::Probe(ticket), change) => {
            assert!(matches!(change, None | Some(Transition::HalfOpened)), "{change:?}");
            (ticket, change.is_some())
        }
        other => panic!("{other:?}"),
    }
}

/// An open circuit that opened at 0 and lets probes through from 30 on.
fn open(probes: u32) -> Circuit {
    let mut circuit = Circuit::new(Breaker::new("payments").failures(1).probes(probes), at(0));
    let ticket = pass(&mut circuit, at(0));
    assert_eq!(circuit.failed(ticket, at(0)), opened(30));
    circuit
}

pub(super) fn state(circuit: &Circuit) -> CircuitState {
    circuit.record().state
}

#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    Success,
    Failure,
    Nothing,
}

/// From each state, what each end of an attempt that counts leads to.
#[test]
fn transitions() {
    use CircuitState::{Closed, HalfOpen, Open};
    for (from, probes, end, change, to) in [
        (Closed, 1, End::Success, None, Closed),
        (Closed, 1, End::Failure, opened(61), Open),
        (Closed, 1, End::Nothing, None, Closed),
        (HalfOpen, 1, End::Success, Some(Transition::Closed), Closed),
        (HalfOpen, 2, End::Success, None, HalfOpen),
        (HalfOpen, 1, End::Failure, opened(61), Open),
        (HalfOpen, 2, End::Failure, opened(61), Open),
        (HalfOpen, 1, End::Nothing, None, HalfOpen),
    ] {
        let mut circuit = open(probes);
        let ticket = if from == Closed {
            assert_eq!(circuit.reset(at(30)), Some(Transition::Closed));
            pass(&mut circuit, at(30))
        } else {
            probe(&mut circuit, at(30)).0
        };
        assert_eq!(state(&circuit), from);
        let changed = match end {
            End::Success => circuit.succeeded(ticket, at(31)),
            End::Failure => circuit.failed(ticket, at(31)),
            End::Nothing => {
                circuit.abandoned(ticket);
                None
            }
        };
        assert_eq!((changed, state(&circuit)), (change, to), "{from:?} {probes} {end:?}");
        let changed_at = if change.is_some() { at(31) } else { at(30) };
        assert_eq!(circuit.record().changed_at, changed_at, "{from:?} {probes} {end:?}");
    }
}

#[test]
fn an_open_circuit_waits_and_then_probes() {
    let mut circuit = open(2);
    for now in [at(0), at(29), at(30) - Duration::from_nanos(1)] {
        assert_eq!(circuit.permit(now), (Permit::Wait(at(30)), None));
    }
    let (first, half_opened) = probe(&mut circuit, at(30));
    assert!(half_opened);
    let (second, half_opened) = probe(&mut circuit, at(30));
    assert!(!half_opened);
    assert_eq!(circuit.permit(at(99)), (Permit::Busy, None));
    // An end that says nothing frees the place and no more.
    circuit.abandoned(first);
    let (third, half_opened) = probe(&mut circuit, at(99));
    assert!(!half_opened);
    assert_eq!(circuit.succeeded(second, at(99)), None);
    assert_eq!(circuit.succeeded(third, at(99)), Some(Transition::Closed));
    let _ticket = pass(&mut circuit, at(99));
    assert_eq!(circuit.record().failures, 0);
}

#[test]
fn a_late_result_counts_for_nothing() {
    let mut circuit = Circuit::new(Breaker::new("payments").failures(2), at(0));
    let [a, b, c, d, e, f] = [0; 6].map(|_| pass(&mut circuit, at(0)));
    assert_eq!(circuit.failed(a, at(1)), None);
    assert_eq!(circuit.failed(b, at(2)), opened(32));
    // Open: neither a success nor a failure of before changes it or its time.
    assert_eq!(circuit.succeeded(c, at(3)), None);
    assert_eq!(circuit.failed(d, at(4)), None);
    assert_eq!(circuit.permit(at(5)), (Permit::Wait(at(32)), None));
    // Half-open: only its probe decides.
    let (only, _) = probe(&mut circuit, at(32));
    assert_eq!(circuit.succeeded(e, at(33)), None);
    assert_eq!(circuit.permit(at(33)), (Permit::Busy, None), "it had not taken the probe's place");
    assert_eq!(circuit.succeeded(only, at(34)), Some(Transition::Closed));
    // Closed again: it is not the first of two failures.
    assert_eq!(circuit.failed(f, at(35)), None);
    let ticket = pass(&mut circuit, at(36));
    assert_eq!(circuit.failed(ticket, at(36)), None);
}

#[test]
fn a_probe_of_before_keeps_its_place_but_counts_for_nothing() {
    let mut circuit = open(2);
    let ((first, _), (second, _)) = (probe(&mut circuit, at(30)), probe(&mut circuit, at(30)));
    assert_eq!(circuit.failed(first, at(31)), opened(61));
    assert_eq!(circuit.record().failures, 2);
    // One probe of the last time is still in flight: there is place for one.
    let (third, half_opened) = probe(&mut circuit, at(61));
    assert!(half_opened);
    assert_eq!(circuit.permit(at(61)), (Permit::Busy, None));
    assert_eq!(circuit.failed(second, at(62)), None);
    assert_eq!(state(&circuit), CircuitState::HalfOpen);
    let (fourth, _) = probe(&mut circuit, at(63));
    assert_eq!(circuit.succeeded(third, at(64)), None);
    assert_eq!(circuit.succeeded(fourth, at(64)), Some(Transition::Closed));

    // Where all places are still taken it stays open, until one is free.
    let mut circuit = open(1);
    let (stuck, _) = probe(&mut circuit, at(30));
    assert_eq!(circuit.reset(at(31)), Some(Transition::Closed));
    let ticket = pass(&mut circuit, at(31));
    assert_eq!(circuit.failed(ticket, at(31)), opened(61));
    assert_eq!(circuit.permit(at(61)), (Permit::Busy, None));
    assert_eq!(state(&circuit), CircuitState::Open);
    assert_eq!(circuit.succeeded(stuck, at(62)), None);
    assert!(probe(&mut circuit, at(62)).1);
}

#[test]
fn a_reset_forgets() {
    let mut circuit = Circuit::new(Breaker::new("payments").failures(2), at(0));
    let (first, second) = (pass(&mut circuit, at(0)), pass(&mut circuit, at(0)));
    assert_eq!(circuit.failed(first, at(1)), None);
    assert_eq!(circuit.reset(at(2)), None, "it was closed");
    assert_eq!(circuit.record().failures, 0);
    assert_eq!(circuit.failed(second, at(3)), None);
    assert_eq!(circuit.record().failures, 0);
    let mut circuit = open(1);
    assert_eq!(circuit.reset(at(1)), Some(Transition::Closed));
    assert_eq!(circuit.record().changed_at, at(1));
}

#[test]
fn a_clock_that_is_set_does_not_hold_it_open() {
    let year = 366 * 24 * 3_600;
    let mut circuit = open(1);
    let early = at(0) - Duration::from_secs(year);
    let until = early + BREAKER_OPEN;
    assert_eq!(circuit.permit(early), (Permit::Wait(until), None));
    assert_eq!(circuit.permit(early + BREAKER_OPEN / 2), (Permit::Wait(until), None));
    assert_eq!(circuit.record().until, Some(until));
    assert!(probe(&mut circuit, until).1);
    // Times that have no form are brought to one that has.
    let beyond = UNIX_EPOCH + LAST + Duration::from_secs(year);
    for odd in [UNIX_EPOCH - Duration::from_secs(year), beyond] {
        let mut circuit = Circuit::new(Breaker::new("payments").failures(1), odd);
        let ticket = pass(&mut circuit, odd);
        assert!(circuit.failed(ticket, odd).is_some());
        let text = serde_json::to_string(&circuit.record()).unwrap();
        assert_eq!(serde_json::from_str::<BreakerRecord>(&text).unwrap(), circuit.record());
    }
}

/// Outcomes of calls a second apart, and the number of the call that opens the breaker.
#[test]
fn known_thresholds() {
    let rows = || Breaker::new("payments").failures(3);
    let rate = |rate, minimum| Breaker::new("payments").failure_rate(rate, minimum);
    let minute = "sssssssssssssssssssssssssssssssssssssssssssssssssssssssssss";
    for (breaker, calls, expected) in [
        (Breaker::new("payments"), "fffff".to_owned(), Some(5)),
        (rows(), "ffsffsfff".to_owned(), Some(9)),
        (rows(), "ffsffsff".to_owned(), None),
        (rate(0.5, 4), "ffff".to_owned(), Some(4)),
        (rate(0.5, 4), "sfsf".to_owned(), Some(4)),
        (rate(0.5, 4), "sssfsff".to_owned(), None),
        (rate(0.5, 4), "sssffff".to_owned(), Some(6)),
        // The success makes the minimum full.
        (rate(0.5, 4), "fffs".to_owned(), Some(4)),
        (rate(0.3, 10), "sssssssfff".to_owned(), Some(10)),
        (rate(1.0, 1), "sf".to_owned(), None),
        // The successes have left the window of 60 seconds but for those that leave one failure of sixty too few.
        (rate(0.05, 60), format!("s{minute}ff"), None),
        (rate(0.05, 60), format!("s{minute}fff"), Some(63)),
        (rate(1.0, 60), "f".repeat(59), None),
        (rate(1.0, 60), "f".repeat(60), Some(60)),
        // No window ever holds 61 calls that are a second apart.
        (rate(1.0, 61), "f".repeat(300), None),
    ] {
        let mut circuit = Circuit::new(breaker, at(0));
        let opened = calls.bytes().zip(1..).find_map(|(call, number)| {
            let (now, ticket) = (at(number), pass(&mut circuit, at(number)));
            let change =
                if call == b'f' { circuit.failed(ticket, now) } else { circuit.succeeded(ticket, now) };
            change.map(|_| number)
        });
        assert_eq!(opened, expected, "{:?} {calls}", circuit.config());
    }
}

#[test]
fn a_window_forgets_when_the_clock_is_set_far_back() {
    let mut window = Window::new(Duration::from_secs(60));
    window.count(at(1_000), true);
    // A little back counts to the newest part …
    window.count(at(995), true);
    assert_eq!((window.sums().failures, window.buckets()), (2, 1));
    // … and further back than the window begins anew.
    window.count(at(900), false);
    assert_eq!((window.sums().failures, window.sums().calls), (0, 1));
}

#[test]
fn a_record_is_plain_json() {
    let json = |circuit: &Circuit| serde_json::to_value(circuit.record()).unwrap();
    let mut circuit = open(1);
    assert_eq!(
        json(&circuit),
        serde_json::json!({
            "name": "payments", "state": "open", "until": "2027-01-15T08:00:30.000000Z", "failures": 1,
            "changed_at": "2027-01-15T08:00:00.000000Z"
        })
    );
    let _ticket = probe(&mut circuit, at(31));
    let half_open = serde_json::json!({
        "name": "payments", "state": "half_open", "failures": 1, "changed_at": "2027-01-15T08:00:31.000000Z"
    });
    assert_eq!(json(&circuit), half_open);

    // The probe died with the process, so another may pass at once.
    let record: BreakerRecord = serde_json::from_value(half_open).unwrap();
    let mut restored = Circuit::restore(circuit.config().clone(), &record);
    assert_eq!(state(&restored), CircuitState::Open);
    assert!(probe(&mut restored, at(31)).1);

    // A closed one counts from nothing; an open one without a time has its full time.
    let mut closed = Circuit::new(Breaker::new("payments").failures(2), at(0));
    let ticket = pass(&mut closed, at(0));
    assert_eq!(closed.failed(ticket, at(0)), None);
    let record = closed.record();
    assert_eq!((record.state, record.failures), (CircuitState::Closed, 1));
    assert_eq!(Circuit::restore(closed.config().clone(), &record).record().failures, 0);
    let timeless = BreakerRecord { state: CircuitState::Open, ..record };
    let mut restored = Circuit::restore(closed.config().clone(), &timeless);
    assert_eq!(restored.permit(at(29)).0, Permit::Wait(at(30)));
}
