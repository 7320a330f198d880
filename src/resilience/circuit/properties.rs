use proptest::prelude::*;

use super::tests::{End, at, pass, state};
use super::*;
use crate::limits::BREAKER_BUCKETS;

#[derive(Debug, Clone, Copy)]
enum Move {
    Permit,
    /// The end of the attempt with this number, of those in flight.
    End(usize, End),
    /// Milliseconds on, or back.
    Time(i64),
    Reset,
}

fn any_move() -> impl Strategy<Value = Move> {
    let end = prop_oneof![2 => Just(End::Success), 3 => Just(End::Failure), 1 => Just(End::Nothing)];
    prop_oneof![
        8 => Just(Move::Permit),
        8 => (0..64usize, end).prop_map(|(which, end)| Move::End(which, end)),
        3 => (0..20_000i64).prop_map(Move::Time),
        1 => (-90_000..0i64).prop_map(Move::Time),
        1 => Just(Move::Reset),
    ]
}

fn any_breaker() -> impl Strategy<Value = Breaker> {
    let count = (1..4u32).prop_map(|failures| Breaker::new("any").failures(failures));
    let rate =
        (0.1..=1.0f64, 1..6u32).prop_map(|(rate, minimum)| Breaker::new("any").failure_rate(rate, minimum));
    (prop_oneof![count, rate], 1..4u32, 1..40_000_000u64).prop_map(|(breaker, probes, micros)| {
        breaker.probes(probes).open_for(Duration::from_micros(micros)).window(Duration::from_secs(20))
    })
}

/// What a naive look at all calls says: the time of each by whole parts of the window, and whether it failed.
fn reference_opens(trip: Trip, width: u128, calls: &[(SystemTime, bool)]) -> bool {
    let slot = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap().as_nanos() / width;
    let Some(newest) = calls.last().map(|(at, _)| slot(*at)) else { return false };
    match trip {
        Trip::Failures(limit) => {
            calls.iter().rev().take_while(|(_, failed)| *failed).count() >= limit as usize
        }
        Trip::Rate { rate, minimum_calls } => {
            let counted = calls.iter().filter(|(at, _)| slot(*at) + u128::from(BREAKER_BUCKETS) > newest);
            let (all, failed) =
                counted.fold((0u32, 0u32), |(all, bad), call| (all + 1, bad + u32::from(call.1)));
            all >= minimum_calls && f64::from(failed) / f64::from(all) >= rate
        }
    }
}

proptest! {
    #[test]
    fn a_closed_breaker_opens_exactly_at_its_threshold(
        breaker in any_breaker(),
        calls in proptest::collection::vec((0..8_000u64, any::<bool>()), 1..60),
    ) {
        let (trip, width) = (breaker.trip, breaker.window.as_nanos().div_ceil(u128::from(BREAKER_BUCKETS)));
        let mut circuit = Circuit::new(breaker, at(0));
        let (mut now, mut seen) = (at(0), Vec::new());
        for (pause, failed) in calls {
            now += Duration::from_millis(pause);
            seen.push((now, failed));
            let ticket = pass(&mut circuit, now);
            let change = if failed { circuit.failed(ticket, now) } else { circuit.succeeded(ticket, now) };
            let opens = reference_opens(trip, width, &seen);
            prop_assert_eq!(matches!(change, Some(Transition::Opened { .. })), opens, "{:?}", seen);
            if opens {
                prop_assert_eq!(state(&circuit), CircuitState::Open);
                seen.clear();
                prop_assert_eq!(circuit.reset(now), Some(Transition::Closed));
            }
        }
    }

    /// Any history, with a clock that is set back now and then: probes keep their number, each change is told, an open
    /// circuit lets nothing through, and what is restored answers as what was stored.
    #[test]
    fn no_history_breaks_a_promise(
        breaker in any_breaker(),
        moves in proptest::collection::vec(any_move(), 1..200),
    ) {
        let (probes, open_for) = (breaker.probes, breaker.open_for);
        let mut circuit = Circuit::new(breaker, at(0));
        let (mut now, mut flying) = (at(0) + Duration::from_nanos(1_234), Vec::<Ticket>::new());
        for step in moves {
            let (before, epoch) = (state(&circuit), circuit.epoch);
            let change = match step {
                Move::Permit => {
                    let mut restored = Circuit::restore(circuit.config().clone(), &circuit.record());
                    if before == CircuitState::Open {
                        prop_assert_eq!(restored.record(), circuit.record());
                    }
                    let free = flying.iter().filter(|ticket| ticket.probe).count() < probes as usize;
                    let mut tried = Circuit::restore(circuit.config().clone(), &circuit.record());
                    let passes = |permit: &Permit| matches!(permit, Permit::Pass(_) | Permit::Probe(_));
                    let told = tried.would_pass(now, true);
                    prop_assert_eq!(told, passes(&tried.trial(now).0));
                    let told = circuit.would_pass(now, false);
                    let (permit, change) = circuit.permit(now);
                    prop_assert_eq!(told, passes(&permit));
                    let (again, change_again) = restored.permit(now);
                    match (&permit, &again) {
                        (Permit::Pass(_), Permit::Pass(_)) => prop_assert_eq!(before, CircuitState::Closed),
                        (Permit::Probe(_), Permit::Probe(_)) => prop_assert!(free),
                        // The probes that kept it busy have died.
                        (Permit::Busy, Permit::Probe(_)) => prop_assert!(!free),
                        (Permit::Wait(until), Permit::Wait(other)) => {
                            prop_assert_eq!(until, other);
                            prop_assert!(now < *until && *until <= now + open_for);
                            prop_assert_eq!(before, CircuitState::Open);
                        }
                        // The clock was set back to before the circuit became half-open.
                        (Permit::Probe(_) | Permit::Busy, Permit::Wait(_)) => {
                            prop_assert_eq!(before, CircuitState::HalfOpen);
                            prop_assert!(now < circuit.changed_at);
                        }
                        other => prop_assert!(false, "{:?}", other),
                    }
                    if before == CircuitState::Open {
                        prop_assert_eq!(change.is_some(), matches!(permit, Permit::Probe(_)));
                        prop_assert_eq!(change_again.is_some(), matches!(again, Permit::Probe(_)));
                    }
                    if let Permit::Pass(ticket) | Permit::Probe(ticket) = permit {
                        flying.push(ticket);
                    }
                    change
                }
                Move::End(which, end) if which < flying.len() => {
                    let ticket = flying.swap_remove(which);
                    let stale = ticket.epoch != epoch;
                    let change = match end {
                        End::Success => circuit.succeeded(ticket, now),
                        End::Failure => circuit.failed(ticket, now),
                        End::Nothing => {
                            circuit.abandoned(ticket);
                            None
                        }
                    };
                    prop_assert!(change.is_none() || !stale);
                    prop_assert!(change.is_none() || before != CircuitState::Open);
                    if before == CircuitState::HalfOpen && matches!(end, End::Failure) && !stale {
                        prop_assert!(change.is_some());
                    }
                    change
                }
                Move::End(..) => None,
                Move::Time(millis) => {
                    let by = Duration::from_millis(millis.unsigned_abs());
                    now = if millis < 0 { now - by } else { now + by };
                    None
                }
                Move::Reset => circuit.reset(now),
            };
            let expected = match change {
                None => before,
                Some(Transition::Opened { until }) => {
                    prop_assert!(until <= now + open_for && circuit.record().until == Some(until));
                    CircuitState::Open
                }
                Some(Transition::HalfOpened) => CircuitState::HalfOpen,
                Some(Transition::Closed) => CircuitState::Closed,
            };
            prop_assert_eq!(state(&circuit), expected);
            prop_assert!(flying.iter().filter(|ticket| ticket.probe).count() <= probes as usize);
            if let Phase::Closed(Tally::Window(window)) = &circuit.phase {
                prop_assert!(window.buckets() <= BREAKER_BUCKETS as usize);
            }
            let text = serde_json::to_string(&circuit.record()).unwrap();
            prop_assert_eq!(serde_json::from_str::<BreakerRecord>(&text).unwrap(), circuit.record());
        }
    }
}
