use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The generic cell rate algorithm of ITU-T Recommendation I.371 and of the ATM Forum's Traffic Management Specification
/// 4.0, in the form of virtual scheduling: of what has passed, it remembers only when the next is expected. One that
/// comes earlier than that by more than the tolerance does not conform.
///
/// Ours, although `governor` is a good library of it. That asks a clock of its own, and answers only by letting pass:
/// whether something would pass, and when the third from now on would, it does not tell, so that nothing could be asked
/// without being spent. What is needed of it are these few lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gcra {
    /// From one to the next.
    interval: Duration,
    /// How much earlier than expected one may come.
    tolerance: Duration,
}

/// The last time that RFC 3339 has a form for: 9999-12-31T23:59:59.
const LAST: Duration = Duration::from_secs(253_402_300_799);

fn later(at: SystemTime, by: Option<Duration>) -> SystemTime {
    let last = UNIX_EPOCH + LAST;
    by.and_then(|by| at.checked_add(by)).map_or(last, |at| at.min(last))
}

impl Gcra {
    /// Lets `attempts`, at least 1, pass in each `period`, and `burst`, at least 1, at once after a rest.
    pub(super) fn new(attempts: u32, period: Duration, burst: u32) -> Self {
        // Rounded up: the rate is rather a nanosecond slower than faster.
        let nanos = period.as_nanos().div_ceil(u128::from(attempts.max(1)));
        let interval = Duration::from_nanos_u128(nanos);
        Self { interval, tolerance: interval.saturating_mul(burst.saturating_sub(1)) }
    }

    /// When the next is expected, as far as that may be from now: when the clock was set back, nobody waits longer by it. To
    /// be remembered, or else it moves on with the time.
    pub(super) fn seen(self, expected: SystemTime, now: SystemTime) -> SystemTime {
        expected.min(later(now, self.interval.checked_add(self.tolerance)))
    }

    /// The earliest time from now on at which one may pass behind `ahead` others that each pass as early as they may.
    pub(super) fn earliest(self, expected: SystemTime, now: SystemTime, ahead: u32) -> SystemTime {
        let expected = later(expected.max(now), self.interval.checked_mul(ahead));
        expected.checked_sub(self.tolerance).map_or(now, |at| at.max(now))
    }

    /// One asks to pass. If it may, this is when the next is expected then.
    pub(super) fn pass(self, expected: SystemTime, now: SystemTime) -> Option<SystemTime> {
        let passes = self.earliest(expected, now, 0) <= now;
        passes.then(|| later(expected.max(now), Some(self.interval)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(nanos: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(nanos)
    }

    /// What passes of these, in whose order time goes on.
    fn passed(gcra: Gcra, asks: &[u64]) -> Vec<u64> {
        let (mut expected, mut passed) = (UNIX_EPOCH, Vec::new());
        for nanos in asks {
            if let Some(next) = gcra.pass(expected, at(*nanos)) {
                expected = next;
                passed.push(*nanos);
            }
        }
        passed
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn they_pass_evenly_and_a_burst_after_a_rest() {
        let even = Gcra::new(2, Duration::from_secs(1), 1);
        let halves: Vec<u64> = (10..50).map(|tenth| tenth * SECOND / 10).collect();
        let expected: Vec<u64> = (2..10).map(|half| half * SECOND / 2).collect();
        assert_eq!(passed(even, &halves), expected);
        let burst = Gcra::new(1, Duration::from_secs(1), 3);
        let asks: Vec<u64> = [10, 10, 10, 10, 10, 11, 11, 14, 14, 14].map(|second| second * SECOND).to_vec();
        assert_eq!(passed(burst, &asks), [10, 10, 10, 11, 14, 14, 14].map(|second| second * SECOND));
    }

    #[test]
    fn a_rate_that_does_not_divide_is_rounded_down() {
        let thirds = Gcra::new(3, Duration::from_secs(1), 1);
        assert_eq!(thirds.interval, Duration::from_nanos(333_333_334));
        let next = thirds.pass(UNIX_EPOCH, at(SECOND)).unwrap();
        assert_eq!((next, thirds.pass(next, at(SECOND + 333_333_333))), (at(SECOND + 333_333_334), None));
        assert!(thirds.pass(next, at(SECOND + 333_333_334)).is_some());
    }

    #[test]
    fn no_time_is_too_far_away() {
        let slow = Gcra::new(1, crate::limits::MAX_WAIT, crate::limits::MAX_LIMIT_BURST);
        let last = UNIX_EPOCH + LAST;
        assert_eq!(slow.earliest(last, last, u32::MAX), last);
        assert!(slow.earliest(UNIX_EPOCH, at(0), u32::MAX) <= last);
        assert!(slow.pass(UNIX_EPOCH, last).is_some_and(|next| next <= last));
    }

    proptest! {
        /// The definition: of what passes, no window holds more than a burst and what comes in while it lasts.
        #[test]
        fn no_window_holds_more_than_it_may(
            attempts in 1_u32..50,
            period in 1_000_u64..1_000_000,
            burst in 1_u32..8,
            gaps in proptest::collection::vec(0_u64..40_000, 1..200),
        ) {
            let gcra = Gcra::new(attempts, Duration::from_nanos(period), burst);
            let asks: Vec<u64> =
                gaps.iter().scan(SECOND, |now, gap| { *now += gap; Some(*now) }).collect();
            let passed = passed(gcra, &asks);
            prop_assert!(!passed.is_empty());
            for (index, first) in passed.iter().enumerate() {
                for (count, last) in (1_u128..).zip(&passed[index..]) {
                    let most = u128::from(burst) + u128::from(last - first) * u128::from(attempts) / u128::from(period);
                    prop_assert!(count <= most, "{count} from {first} to {last}");
                }
            }
        }

        /// What is told beforehand is what happens: not a nanosecond earlier, and then at once.
        #[test]
        fn the_time_that_is_told_is_the_first_at_which_it_passes(
            attempts in 1_u32..50,
            period in 1_000_u64..1_000_000,
            burst in 1_u32..8,
            spent in 0_u32..12,
            ahead in 0_u32..12,
            rest in 0_u64..100_000,
        ) {
            let gcra = Gcra::new(attempts, Duration::from_nanos(period), burst);
            let (mut expected, mut now) = (UNIX_EPOCH, at(SECOND));
            for _ in 0..spent {
                now = gcra.earliest(expected, now, 0);
                expected = gcra.pass(expected, now).unwrap();
            }
            now += Duration::from_nanos(rest);
            let told = gcra.earliest(expected, now, ahead);
            for _ in 0..ahead {
                now = gcra.earliest(expected, now, 0);
                expected = gcra.pass(expected, now).unwrap();
            }
            prop_assert_eq!(gcra.earliest(expected, now, 0), told);
            if told > now {
                prop_assert!(gcra.pass(expected, told - Duration::from_nanos(1)).is_none());
            }
            prop_assert!(gcra.pass(expected, told).is_some());
        }
    }
}
