use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

const START: Duration = Duration::from_secs(1_800_000_000);

fn start() -> SystemTime {
    UNIX_EPOCH + START
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn failed(attempt: u32) -> Failed {
    let (kind, verdict) = (FailureKind::Error, Verdict::Policy);
    Failed { attempt, kind, verdict, first_started_at: start() }
}

#[test]
fn known_delays() {
    let grows = Retry::exponential(Duration::from_millis(100));
    let plain = grows.clone().jitter(Jitter::None);
    let cases = [
        // The numbers are the delays after attempts 1, 2, 3, 10, 11, u32::MAX, in milliseconds.
        (plain.clone(), 0.5, [100, 200, 400, 51_200, 60_000, 60_000]),
        (plain.clone().factor(3.0), 0.5, [100, 300, 900, 60_000, 60_000, 60_000]),
        (plain.clone().factor(1.0), 0.5, [100; 6]),
        (plain.max_delay(Duration::from_millis(250)), 0.5, [100, 200, 250, 250, 250, 250]),
        (grows.clone(), 0.5, [50, 100, 200, 25_600, 30_000, 30_000]),
        (grows.clone(), 0.0, [0; 6]),
        (grows.clone().jitter(Jitter::Equal), 0.0, [50, 100, 200, 25_600, 30_000, 30_000]),
        (grows.clone().jitter(Jitter::Equal), 0.5, [75, 150, 300, 38_400, 45_000, 45_000]),
        // What is no number is as the longest.
        (grows.clone(), f64::NAN, [100, 200, 400, 51_200, 60_000, 60_000]),
        // What is out of range is as its nearest end.
        (grows.clone(), -3.0, [0; 6]),
        (grows.clone(), f64::NEG_INFINITY, [0; 6]),
        (grows.clone(), 3.0, [100, 200, 400, 51_200, 60_000, 60_000]),
        (grows.clone().jitter(Jitter::Equal), -3.0, [50, 100, 200, 25_600, 30_000, 30_000]),
        (grows.jitter(Jitter::Equal), f64::NAN, [100, 200, 400, 51_200, 60_000, 60_000]),
        (Retry::fixed(secs(1)), 0.5, [1_000; 6]),
        // A fixed delay is not cut at the default of what grows.
        (Retry::fixed(secs(300)), 0.5, [300_000; 6]),
        (Retry::exponential(secs(300)).jitter(Jitter::None), 0.5, [300_000; 6]),
        (Retry::none(), 0.5, [0; 6]),
        // Out of range, and harmless.
        (Retry::exponential(Duration::ZERO), 0.5, [0; 6]),
        (
            Retry::exponential(secs(1)).jitter(Jitter::None).factor(f64::NAN),
            0.5,
            [1_000, 60_000, 60_000, 60_000, 60_000, 60_000],
        ),
        (
            Retry::exponential(secs(1)).jitter(Jitter::None).factor(f64::INFINITY),
            0.5,
            [1_000, 60_000, 60_000, 60_000, 60_000, 60_000],
        ),
    ];
    for (retry, random, expected) in cases {
        let delays = [1, 2, 3, 10, 11, u32::MAX].map(|attempt| retry.delay(attempt, random));
        assert_eq!(delays, expected.map(Duration::from_millis), "{retry:?} {random}");
    }
    // To the nanosecond, though no float of seconds has so many digits.
    for nanos in [1, 123_456_789, 999_999_999] {
        let odd = Duration::new(31_000_001, nanos);
        assert_eq!(Retry::fixed(odd).max_delay(MAX_WAIT).delay(2, 0.5), odd);
        assert_eq!(Retry::exponential(odd).max_delay(MAX_WAIT).jitter(Jitter::None).delay(1, 0.5), odd);
        assert!(Retry::fixed(odd).jitter(Jitter::Full).delay(1, 1.0) <= odd);
    }
}

/// Which failures are retried, and when: kind, what the error says, panics retried, timeouts retried, the wait.
#[test]
fn what_is_retried() {
    use FailureKind::{Artifact, Error, Output, Panic, Timeout};
    use Verdict::{After, Fatal, Policy};
    for (kind, verdict, on_panic, on_timeout, expected) in [
        (Error, Policy, false, false, Some(5)),
        (Error, Fatal, true, true, None),
        (Panic, Policy, false, true, None),
        (Panic, Policy, true, false, Some(5)),
        (Timeout, Policy, true, false, None),
        (Timeout, Policy, false, true, Some(5)),
        (Timeout, Fatal, false, true, None),
        (Output, Policy, true, true, None),
        (Artifact, Policy, true, true, None),
        // A server's word: neither jitter nor the longest delay changes it, and the kind of failure does not matter.
        (Error, After(secs(7)), false, false, Some(7)),
        (Error, After(secs(0)), false, false, Some(0)),
        (Error, After(secs(3_600)), false, false, Some(3_600)),
        (Timeout, After(secs(7)), false, false, Some(7)),
        (Error, After(MAX_WAIT), false, false, Some(MAX_WAIT.as_secs())),
        (Error, After(MAX_WAIT + Duration::from_nanos(1)), false, false, None),
        (Error, After(Duration::MAX), false, false, None),
    ] {
        let retry = Retry::fixed(secs(10)).jitter(Jitter::Full).on_panic(on_panic).on_timeout(on_timeout);
        let failed = Failed { kind, verdict, ..failed(1) };
        let now = start() + secs(100);
        let next = retry.next(&failed, now, 0.5);
        assert_eq!(
            next,
            expected.map(|wait| now + secs(wait)),
            "{kind:?} {verdict:?} {on_panic} {on_timeout}"
        );
    }
}

#[test]
fn attempts_and_budget_end() {
    let retry = Retry::fixed(secs(10)).budget(secs(60));
    let next = |attempt, now| retry.next(&failed(attempt), now, 0.0);
    let at = |after| start() + secs(after);
    assert_eq!(next(2, at(0)), Some(at(10)));
    assert_eq!(next(3, at(0)), None, "three attempts are the default");
    assert_eq!(next(u32::MAX, at(0)), None);
    // The budget's last moment is within it.
    assert_eq!(next(1, at(50)), Some(at(60)));
    assert_eq!(next(1, at(50) + Duration::from_nanos(1)), None);
    // The server's word is counted by both.
    let asked = |attempt, wait| Failed { verdict: Verdict::After(secs(wait)), ..failed(attempt) };
    assert_eq!(retry.next(&asked(1, 60), at(0), 0.0), Some(at(60)));
    assert_eq!(retry.next(&asked(1, 61), at(0), 0.0), None);
    assert_eq!(retry.next(&asked(3, 1), at(0), 0.0), None);
    assert_eq!(Retry::none().next(&asked(1, 1), at(0), 0.0), None);
    // A clock that was set back makes neither a panic nor a budget that is larger than the wait.
    assert_eq!(next(1, at(0) - secs(1_000)), Some(at(10) - secs(1_000)));
    assert_eq!(retry.next(&asked(1, 61), at(0) - secs(1_000), 0.0), None);
    // A time that there is not.
    let endless = Retry::fixed(Duration::MAX).max_attempts(9);
    assert_eq!(endless.next(&failed(1), at(0), 0.0), None);
}

#[test]
fn every_setting_has_its_range() {
    let grows = || Retry::exponential(secs(2));
    let beyond = MAX_WAIT + Duration::from_nanos(1);
    for (retry, expected) in [
        (
            grows().max_attempts(0),
            "max_attempts is 0; it counts the first attempt too, so give it 1 for no retry",
        ),
        (grows().max_attempts(MAX_RETRY_ATTEMPTS + 1), "max_attempts is 10001, more than 10000"),
        (grows().factor(0.99), "the factor is 0.99; give it a finite number of at least 1"),
        (grows().factor(f64::NAN), "the factor is NaN; give"),
        (grows().factor(f64::INFINITY), "the factor is inf; give"),
        (grows().factor(-2.0), "the factor is -2; give"),
        (
            Retry::exponential(Duration::ZERO),
            "the first delay is 0s, which a factor of 2 does not make longer",
        ),
        (Retry::fixed(beyond), "the delay is 1year"),
        (grows().max_delay(beyond), "the max_delay is 1year"),
        (grows().budget(Duration::MAX), "more than 366 days; was another unit meant?"),
        (grows().max_delay(secs(1)), "max_delay is 1s, shorter than the first delay of 2s; raise"),
        (grows().budget(Duration::ZERO), "the budget is 0s, in which no further attempt can start"),
    ] {
        let message = retry.check().unwrap_err().to_string();
        assert!(
            message.starts_with(expected) || message.ends_with(expected),
            "{message:?} is not {expected:?}"
        );
    }
    for retry in [
        Retry::none(),
        grows(),
        Retry::fixed(Duration::ZERO),
        Retry::fixed(MAX_WAIT).max_attempts(MAX_RETRY_ATTEMPTS).budget(MAX_WAIT),
        grows().max_delay(secs(2)).factor(1.0),
        grows().max_delay(MAX_WAIT).factor(f64::MAX).max_attempts(1),
        Retry::exponential(secs(3_600)),
    ] {
        assert_eq!(retry.check(), Ok(()), "{retry:?}");
    }
}

#[test]
fn the_json_form() {
    let json = |retry: &Retry| serde_json::to_value(retry).unwrap();
    let second = serde_json::json!({ "secs": 1, "nanos": 0 });
    assert_eq!(json(&Retry::fixed(secs(1))), serde_json::json!({ "max_attempts": 3, "delay": second }));
    assert_eq!(
        json(&Retry::exponential(secs(1)).on_panic(true)),
        serde_json::json!({ "max_attempts": 3, "delay": second, "factor": 2.0, "jitter": "full", "on_panic": true })
    );
    let read = |text: &str| serde_json::from_str::<Retry>(text);
    assert_eq!(read("{}").unwrap(), Retry::default());
    let error = read(r#"{ "max_attempt": 3 }"#).unwrap_err().to_string();
    assert!(error.starts_with("unknown field `max_attempt`"), "{error}");
    assert!(read(r#"{ "delay": { "secs": 18446744073709551615, "nanos": 1000000000 } }"#).is_err());
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::MAX),
        (0..5_000_000_000u64).prop_map(Duration::from_nanos),
        (any::<u64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
    ]
}

fn any_jitter() -> impl Strategy<Value = Jitter> {
    prop_oneof![Just(Jitter::Full), Just(Jitter::Equal), Just(Jitter::None)]
}

prop_compose! {
    /// Any policy, mostly out of range.
    fn any_retry()(
        max_attempts in prop_oneof![0..20u32, any::<u32>()],
        delay in any_duration(),
        factor in prop_oneof![1.0..4.0f64, any::<f64>()],
        max_delay in proptest::option::of(any_duration()),
        jitter in any_jitter(),
        budget in proptest::option::of(any_duration()),
        (on_panic, on_timeout) in any::<(bool, bool)>(),
    ) -> Retry {
        Retry { max_attempts, delay, factor, max_delay, jitter, budget, on_panic, on_timeout }
    }
}

prop_compose! {
    /// A policy that passes the check.
    fn valid_retry()(
        (nanos, more, factor) in (1..100_000_000_000u64, 0..1_000_000_000_000u64, 1.0..4.0f64),
        max_attempts in 1..30u32,
        jitter in any_jitter(),
        budget in proptest::option::of(1..300u64),
        (on_panic, on_timeout, own_limit) in any::<(bool, bool, bool)>(),
    ) -> Retry {
        let delay = Duration::from_nanos(nanos);
        let max_delay = own_limit.then_some(delay + Duration::from_nanos(more));
        let budget = budget.map(secs);
        Retry { max_attempts, delay, factor, max_delay, jitter, budget, on_panic, on_timeout }
    }
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        8 => Just(Verdict::Policy),
        1 => Just(Verdict::Fatal),
        2 => (0..200u64).prop_map(|wait| Verdict::After(secs(wait))),
    ]
}

fn any_kind() -> impl Strategy<Value = FailureKind> {
    use FailureKind::{Artifact, Error, Output, Panic, Timeout};
    prop_oneof![8 => Just(Error), 1 => Just(Panic), 1 => Just(Timeout), 1 => Just(Output), 1 => Just(Artifact)]
}

proptest! {
    #[test]
    fn no_policy_and_no_number_makes_a_delay_too_long(
        retry in any_retry(),
        attempt in prop_oneof![0..70u32, any::<u32>()],
        random in prop_oneof![0.0..1.0f64, any::<f64>()],
    ) {
        let longest = retry.max_delay.unwrap_or(RETRY_MAX_DELAY.max(retry.delay));
        prop_assert!(retry.delay(attempt, random) <= longest);
        let failed = Failed { attempt, ..failed(1) };
        if let Some(next) = retry.next(&failed, start(), random) {
            prop_assert!(next >= start() && attempt < retry.max_attempts);
        }
    }

    #[test]
    fn delays_keep_their_bounds(retry in valid_retry(), attempt in 1..200u32, random in 0.0..1.0f64) {
        prop_assert_eq!(retry.check(), Ok(()));
        let full = retry.clone().jitter(Jitter::None).delay(attempt, random);
        let delay = retry.delay(attempt, random);
        prop_assert!(delay <= full);
        match retry.jitter {
            Jitter::Full => {}
            Jitter::Equal => prop_assert!(delay >= full / 2),
            Jitter::None => prop_assert_eq!(delay, full),
        }
        // Without jitter it only grows, and by the factor while it may.
        let further = retry.clone().jitter(Jitter::None).delay(attempt + 1, random);
        prop_assert!(further >= full);
        let longest = retry.max_delay.unwrap_or(RETRY_MAX_DELAY.max(retry.delay));
        let expected = (full.as_secs_f64() * retry.factor).min(longest.as_secs_f64());
        prop_assert!((further.as_secs_f64() - expected).abs() <= 1e-8 * (1.0 + expected));
    }

    /// A whole life of a step: attempts take what they take, the clock goes on or back, until there is no next one.
    #[test]
    fn no_history_has_too_many_attempts_or_a_late_start(
        retry in valid_retry(),
        ends in proptest::collection::vec((any_kind(), any_verdict(), 0..40u64, 0.0..1.0f64, 0..10u32), 40),
    ) {
        let first_started_at = start();
        let (mut now, mut attempt) = (first_started_at, 1);
        for (kind, verdict, took, random, back) in ends {
            let failed = Failed { attempt, kind, verdict, first_started_at };
            // One in ten times the clock is set back by an hour.
            let over_at = if back == 0 { now - secs(3_600) } else { now + secs(took) };
            let Some(next) = retry.next(&failed, over_at, random) else { break };
            prop_assert!(verdict != Verdict::Fatal);
            prop_assert!(next >= over_at);
            attempt += 1;
            prop_assert!(attempt <= retry.max_attempts);
            if let Some(budget) = retry.budget {
                prop_assert!(next.duration_since(first_started_at).unwrap_or_default() <= budget);
            }
            now = next;
        }
        prop_assert!(attempt <= retry.max_attempts);
    }

    #[test]
    fn json_keeps_a_policy_exactly(retry in valid_retry()) {
        let text = serde_json::to_string(&retry).unwrap();
        prop_assert_eq!(serde_json::from_str::<Retry>(&text).unwrap(), retry.clone());
        prop_assert_eq!(serde_json::from_value::<Retry>(serde_json::to_value(&retry).unwrap()).unwrap(), retry);
    }
}
