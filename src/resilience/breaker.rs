use std::sync::Arc;
use std::time::Duration;

use humantime::format_duration;

use crate::id::{IdFault, check_id, shorten};
use crate::limits::{BREAKER_FAILURES, BREAKER_OPEN, BREAKER_WINDOW, MAX_BREAKER_PROBES, MAX_WAIT};

/// A circuit breaker: steps that use the same service share one, and when the service fails it holds them all back for a
/// while, instead of letting each find out for itself.
///
/// It opens after a number of [failures in a row](Self::failures), or at a [failure rate](Self::failure_rate). Open, it
/// lets nothing through [for a time](Self::open_for); then a few [probes](Self::probes): when they succeed it closes, and
/// when one fails it opens again. The pattern is that of M. Nygard, "Release It!", 2007, and M. Fowler,
/// "CircuitBreaker", 2014; failure rate, minimum of calls and time window are as in resilience4j.
///
/// Only attempts that were let through in the present state count: one that was let through before the breaker opened
/// and is over afterwards neither closes it nor keeps it open. A cancelled attempt counts as nothing.
///
/// The setters check nothing; [`check`](Self::check) does.
///
/// ```
/// use std::time::Duration;
///
/// use lunacore::Breaker;
///
/// let payments = Breaker::new("payments").failures(3).open_for(Duration::from_secs(10));
/// let search = Breaker::new("search").failure_rate(0.5, 20).window(Duration::from_secs(120)).probes(3);
/// payments.check()?;
/// search.check()?;
/// # Ok::<(), lunacore::InvalidBreaker>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Breaker {
    pub(super) name: Arc<str>,
    pub(super) trip: Trip,
    pub(super) window: Duration,
    pub(super) open_for: Duration,
    pub(super) probes: u32,
}

/// What opens a breaker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Trip {
    /// So many failures in a row.
    Failures(u32),
    /// This share of the calls in the window, from so many calls on.
    Rate { rate: f64, minimum_calls: u32 },
}

impl Breaker {
    /// A breaker with this name, which obeys the rule for ids: at most
    /// [`MAX_ID_BYTES`](crate::limits::MAX_ID_BYTES) bytes, not empty, no control characters. It opens after
    /// [`BREAKER_FAILURES`] failures in a row.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            trip: Trip::Failures(BREAKER_FAILURES),
            window: BREAKER_WINDOW,
            open_for: BREAKER_OPEN,
            probes: 1,
        }
    }

    /// Opens after `failures` failures in a row, at least 1; a success begins the count anew. The default, with
    /// [`BREAKER_FAILURES`]. It replaces a [`failure_rate`](Self::failure_rate).
    #[must_use]
    pub fn failures(mut self, failures: u32) -> Self {
        self.trip = Trip::Failures(failures);
        self
    }

    /// Opens when at least `rate` of the calls in the [`window`](Self::window) have failed: more than 0, at most 1, so
    /// 0.5 is one half. Fewer calls than `minimum_calls`, at least 1, say nothing yet. It is looked at after each call,
    /// so a success that makes the minimum full may open the breaker too. It replaces [`failures`](Self::failures).
    #[must_use]
    pub fn failure_rate(mut self, rate: f64, minimum_calls: u32) -> Self {
        self.trip = Trip::Rate { rate, minimum_calls };
        self
    }

    /// The time over which the failure rate is taken: more than zero, at most [`MAX_WAIT`]; the default is
    /// [`BREAKER_WINDOW`]. It is counted in [`BREAKER_BUCKETS`](crate::limits::BREAKER_BUCKETS) parts, and calls leave
    /// it by whole parts. Failures in a row have no window.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// How long it stays open before probes are let through: at least a microsecond, at most [`MAX_WAIT`]; the default
    /// is [`BREAKER_OPEN`].
    #[must_use]
    pub fn open_for(mut self, open_for: Duration) -> Self {
        self.open_for = open_for;
        self
    }

    /// How many probes may be in flight at a time, and how many must succeed in a row to close it: from 1, the default,
    /// to [`MAX_BREAKER_PROBES`].
    #[must_use]
    pub fn probes(mut self, probes: u32) -> Self {
        self.probes = probes;
        self
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checks the name and every setting against its range.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    ///
    /// ```
    /// use lunacore::Breaker;
    ///
    /// let error = Breaker::new("payments").probes(0).check().unwrap_err();
    /// assert_eq!(error.to_string(), r#"the number of probes of the breaker "payments" is 0; give it at least 1"#);
    /// ```
    pub fn check(&self) -> Result<(), InvalidBreaker> {
        let name = || shorten(&self.name);
        check_id(&self.name).map_err(|fault| InvalidBreaker::Name { name: name(), fault })?;
        let (rate, counts) = match self.trip {
            Trip::Failures(failures) => (None, ("failures", failures)),
            Trip::Rate { rate, minimum_calls } => (Some(rate), ("minimum calls", minimum_calls)),
        };
        if let Some(rate) = rate.filter(|rate| !(*rate > 0.0 && *rate <= 1.0)) {
            return Err(InvalidBreaker::Rate { name: name(), rate });
        }
        for (what, number) in [counts, ("probes", self.probes)] {
            if number == 0 {
                return Err(InvalidBreaker::Zero { name: name(), what });
            }
        }
        if self.probes > MAX_BREAKER_PROBES {
            return Err(InvalidBreaker::TooManyProbes { name: name(), probes: self.probes });
        }
        for (what, time) in [("window", self.window), ("open time", self.open_for)] {
            if time < SHORTEST {
                return Err(InvalidBreaker::TooShort { name: name(), what, time });
            }
            if time > MAX_WAIT {
                return Err(InvalidBreaker::TooLong { name: name(), what, time });
            }
        }
        Ok(())
    }
}

/// Times are stored to the microsecond, so a shorter one would be none.
const SHORTEST: Duration = Duration::from_micros(1);

/// What is wrong with a [`Breaker`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBreaker {
    /// The name is empty, too long, or has control characters.
    #[error("the breaker name {name:?} {fault}")]
    Name {
        /// The name, shortened.
        name: String,
        /// What is wrong with it.
        fault: IdFault,
    },
    /// The failure rate is not a share.
    #[error(
        "the failure rate of the breaker {name:?} is {rate}; give it a share above 0 and up to 1, as 0.5 for one half"
    )]
    Rate {
        /// The breaker, shortened.
        name: String,
        /// The rate that was given.
        rate: f64,
    },
    /// A number is zero.
    #[error("the number of {what} of the breaker {name:?} is 0; give it at least 1")]
    Zero {
        /// The breaker, shortened.
        name: String,
        /// Which one: `failures`, `minimum calls` or `probes`.
        what: &'static str,
    },
    /// It has more probes than [`MAX_BREAKER_PROBES`].
    #[error(
        "the breaker {name:?} has {probes} probes, more than {MAX_BREAKER_PROBES}; a few are enough to see whether all is well"
    )]
    TooManyProbes {
        /// The breaker, shortened.
        name: String,
        /// The number that was given.
        probes: u32,
    },
    /// A time is shorter than a microsecond.
    #[error("the {what} of the breaker {name:?} is {}; give it at least a microsecond", format_duration(*time))]
    TooShort {
        /// The breaker, shortened.
        name: String,
        /// Which one: `window` or `open time`.
        what: &'static str,
        /// The time that was given.
        time: Duration,
    },
    /// A time is longer than [`MAX_WAIT`].
    #[error(
        "the {what} of the breaker {name:?} is {}, more than {} days; was another unit meant?",
        format_duration(*time), MAX_WAIT.as_secs() / 86_400
    )]
    TooLong {
        /// The breaker, shortened.
        name: String,
        /// Which one: `window` or `open time`.
        what: &'static str,
        /// The time that was given.
        time: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_ID_BYTES;

    #[test]
    fn every_setting_has_its_range() {
        let plain = || Breaker::new("payments");
        let long = Breaker::new("x".repeat(MAX_ID_BYTES + 1));
        for (breaker, expected) in [
            (Breaker::new(""), r#"the breaker name "" is empty"#),
            (long, "has 257 bytes, more than 256"),
            (
                plain().failures(0),
                r#"the number of failures of the breaker "payments" is 0; give it at least 1"#,
            ),
            (plain().failure_rate(0.5, 0), "the number of minimum calls"),
            (plain().failure_rate(0.0, 1), "is 0; give it a share above 0 and up to 1"),
            (plain().failure_rate(-0.5, 1), "is -0.5; give"),
            (plain().failure_rate(1.1, 1), "is 1.1; give"),
            (plain().failure_rate(f64::NAN, 1), "is NaN; give"),
            (plain().probes(0), "the number of probes"),
            (plain().probes(MAX_BREAKER_PROBES + 1), "has 10001 probes, more than 10000"),
            (plain().window(Duration::ZERO), "the window of the breaker \"payments\" is 0s; give"),
            (
                plain().open_for(Duration::from_nanos(999)),
                "the open time of the breaker \"payments\" is 999ns; give",
            ),
            (plain().open_for(MAX_WAIT + Duration::from_nanos(1)), "more than 366 days"),
            (plain().window(Duration::MAX), "the window of the breaker \"payments\" is 5"),
        ] {
            let message = breaker.check().unwrap_err().to_string();
            assert!(message.contains(expected), "{message:?} does not contain {expected:?}");
        }
        for breaker in [
            plain(),
            plain().failures(u32::MAX).probes(MAX_BREAKER_PROBES).open_for(MAX_WAIT),
            plain().failure_rate(1.0, u32::MAX).window(MAX_WAIT),
            plain().failure_rate(f64::MIN_POSITIVE, 1).window(SHORTEST).open_for(SHORTEST),
            // The later of the two counts.
            plain().failure_rate(7.0, 0).failures(1),
        ] {
            assert_eq!(breaker.check(), Ok(()), "{breaker:?}");
        }
    }
}
