use std::time::{SystemTime, UNIX_EPOCH};

use super::gcra::Gcra;
use super::limit::Limit;

/// A limit at work: how many attempts are under way, and when the next is expected. It is told the time, and starts
/// nothing itself.
#[derive(Debug)]
pub(crate) struct Meter {
    concurrency: Option<u32>,
    rate: Option<Gcra>,
    /// When the next attempt is expected, as the rate has it.
    expected: SystemTime,
    in_use: u32,
}

/// Whether an attempt may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It may now.
    Now,
    /// The rate lets it start then, and not earlier.
    At(SystemTime),
    /// As many as may are under way: to be asked again when one of them has ended.
    Busy,
}

impl Meter {
    pub(crate) fn new(limit: &Limit) -> Self {
        let rate = limit.rate.map(|rate| Gcra::new(rate.attempts, rate.period, limit.burst.unwrap_or(1)));
        Self { concurrency: limit.concurrency, rate, expected: UNIX_EPOCH, in_use: 0 }
    }

    /// Whether an attempt may start now behind `ahead` others that start as early as they may.
    pub(crate) fn admission(&mut self, now: SystemTime, ahead: usize) -> Admission {
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        if self.concurrency.is_some_and(|most| self.in_use.saturating_add(ahead) >= most) {
            return Admission::Busy;
        }
        match self.earliest(now, ahead) {
            Some(earliest) if earliest > now => Admission::At(earliest),
            _ => Admission::Now,
        }
    }

    /// An attempt starts, if it may: its part of the rate is spent, and it counts until it is [given back](Self::give_back).
    pub(crate) fn take(&mut self, now: SystemTime) -> bool {
        if self.admission(now, 0) != Admission::Now {
            return false;
        }
        if let Some(rate) = self.rate {
            self.expected = rate.pass(self.expected, now).unwrap_or(self.expected);
        }
        self.in_use += 1;
        true
    }

    /// An attempt has ended.
    pub(crate) fn give_back(&mut self) {
        self.in_use = self.in_use.saturating_sub(1);
    }

    /// How many attempts are under way.
    pub(crate) fn in_use(&self) -> u32 {
        self.in_use
    }

    /// The time before which the rate lets nothing start, if that is still to come.
    pub(crate) fn next_at(&mut self, now: SystemTime) -> Option<SystemTime> {
        self.earliest(now, 0).filter(|earliest| *earliest > now)
    }

    fn earliest(&mut self, now: SystemTime, ahead: u32) -> Option<SystemTime> {
        let rate = self.rate?;
        self.expected = rate.seen(self.expected, now);
        Some(rate.earliest(self.expected, now, ahead))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000 + second)
    }

    #[test]
    fn concurrency_is_given_back_and_rate_is_not() {
        let mut meter = Meter::new(&Limit::new("l").concurrency(2).rate(1, Duration::from_secs(10)).burst(3));
        assert!(meter.take(at(0)) && meter.take(at(0)));
        assert_eq!(
            (meter.take(at(0)), meter.admission(at(0), 0), meter.in_use()),
            (false, Admission::Busy, 2)
        );
        meter.give_back();
        assert_eq!((meter.admission(at(0), 0), meter.admission(at(0), 1)), (Admission::Now, Admission::Busy));
        assert!(meter.take(at(0)));
        meter.give_back();
        meter.give_back();
        assert_eq!((meter.admission(at(1), 0), meter.next_at(at(1))), (Admission::At(at(10)), Some(at(10))));
        assert_eq!(meter.admission(at(1), 1), Admission::At(at(20)));
        assert_eq!((meter.take(at(9)), meter.take(at(10)), meter.in_use()), (false, true, 1));
        assert_eq!(meter.next_at(at(60)), None);
    }

    /// As if all of it had been spent just then.
    #[test]
    fn a_clock_that_is_set_back_makes_nobody_wait_longer() {
        let mut meter = Meter::new(&Limit::new("l").rate(1, Duration::from_secs(10)).burst(2));
        assert!(meter.take(at(5_000)) && meter.take(at(5_000)));
        assert_eq!(meter.admission(at(100), 0), Admission::At(at(110)));
        assert_eq!((meter.next_at(at(109)), meter.take(at(109))), (Some(at(110)), false));
        assert!(meter.take(at(110)));
        assert_eq!(meter.admission(at(110), 0), Admission::At(at(120)));
    }

    #[test]
    fn what_is_not_limited_is_not_waited_for() {
        let mut wide = Meter::new(&Limit::new("l").rate(1, Duration::from_secs(1)).burst(100));
        assert!((0..100).all(|_| wide.take(at(0))));
        assert_eq!((wide.in_use(), wide.take(at(0))), (100, false));
        let mut narrow = Meter::new(&Limit::new("l").concurrency(1));
        assert!((0..100).all(|_| {
            let taken = narrow.take(at(0));
            narrow.give_back();
            taken
        }));
        assert_eq!(narrow.next_at(at(0)), None);
    }
}
