use std::sync::Arc;
use std::time::Duration;

use humantime::format_duration;

use crate::id::{IdFault, check_id, shorten};
use crate::limits::{MAX_LIMIT_BURST, MAX_LIMIT_CONCURRENCY, MAX_WAIT};

/// A limit by name: steps that use the same service share one, in all plans, and so keep to what the service grants.
///
/// It bounds how many attempts may be under way [at a time](Self::concurrency), how many may start [in a
/// time](Self::rate), or both. It has at least one of the two.
///
/// The rate is that of the generic cell rate algorithm (ITU-T I.371; ATM Forum TM 4.0): attempts are spread evenly over
/// the time, except for a [burst](Self::burst) after a rest. In any window of time, wherever it begins, no more start
/// than the burst and what the rate grants while it lasts.
///
/// The setters check nothing; [`check`](Self::check) does.
///
/// ```
/// use std::time::Duration;
///
/// use lunacore::Limit;
///
/// let openai = Limit::new("openai").concurrency(4).rate(60, Duration::from_secs(60)).burst(10);
/// openai.check()?;
/// # Ok::<(), lunacore::InvalidLimit>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    name: Arc<str>,
    pub(super) concurrency: Option<u32>,
    pub(super) rate: Option<Rate>,
    pub(super) burst: Option<u32>,
}

/// So many attempts in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) attempts: u32,
    pub(super) period: Duration,
}

impl Limit {
    /// A limit with this name, which obeys the rule for ids: at most [`MAX_ID_BYTES`](crate::limits::MAX_ID_BYTES)
    /// bytes, not empty, no control characters. It limits nothing yet.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), concurrency: None, rate: None, burst: None }
    }

    /// Lets at most so many attempts be under way at a time, from 1 to [`MAX_LIMIT_CONCURRENCY`]; any number by default.
    #[must_use]
    pub fn concurrency(mut self, attempts: u32) -> Self {
        self.concurrency = Some(attempts);
        self
    }

    /// Lets so many attempts start in each period, at any rate by default: at least one, in a period of at least a
    /// microsecond and at most [`MAX_WAIT`], and at most one a microsecond. They are spread evenly: 60 in 60 seconds is
    /// one a second.
    ///
    /// What is waited for is waited for to the millisecond, so that more than a thousand a second are only reached with a
    /// burst.
    #[must_use]
    pub fn rate(mut self, attempts: u32, period: Duration) -> Self {
        self.rate = Some(Rate { attempts, period });
        self
    }

    /// How many attempts may start at once when there have been none for long enough: from 1, the default, to
    /// [`MAX_LIMIT_BURST`]. It comes on top of the rate: with 60 a minute and a burst of 10, a minute may see 70 at its
    /// busiest.
    #[must_use]
    pub fn burst(mut self, attempts: u32) -> Self {
        self.burst = Some(attempts);
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
    /// The first setting that is out of its range, or that there is none.
    ///
    /// ```
    /// use lunacore::Limit;
    ///
    /// let error = Limit::new("openai").check().unwrap_err();
    /// assert_eq!(error.to_string(), r#"the limit "openai" limits nothing; give it a concurrency or a rate"#);
    /// ```
    pub fn check(&self) -> Result<(), InvalidLimit> {
        let name = || shorten(&self.name);
        check_id(&self.name).map_err(|fault| InvalidLimit::Name { name: name(), fault })?;
        if self.rate.is_none() && self.burst.is_some() {
            return Err(InvalidLimit::BurstAlone { name: name() });
        }
        if self.rate.is_none() && self.concurrency.is_none() {
            return Err(InvalidLimit::Nothing { name: name() });
        }
        let counts = [
            ("concurrency", self.concurrency, MAX_LIMIT_CONCURRENCY),
            ("rate", self.rate.map(|rate| rate.attempts), u32::MAX),
            ("burst", self.burst, MAX_LIMIT_BURST),
        ];
        for (what, number, most) in counts {
            match number {
                Some(0) => return Err(InvalidLimit::Zero { name: name(), what }),
                Some(number) if number > most => {
                    return Err(InvalidLimit::TooMany { name: name(), what, number, most });
                }
                _ => {}
            }
        }
        let Some(Rate { attempts, period }) = self.rate else { return Ok(()) };
        if period > MAX_WAIT {
            return Err(InvalidLimit::TooLong { name: name(), period });
        }
        if period.as_nanos() < u128::from(attempts) * SHORTEST.as_nanos() {
            return Err(InvalidLimit::TooFast { name: name(), attempts, period });
        }
        Ok(())
    }
}

/// Times are stored to the microsecond: what may start more often is not limited.
const SHORTEST: Duration = Duration::from_micros(1);

/// What is wrong with a [`Limit`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidLimit {
    /// The name is empty, too long, or has control characters.
    #[error("the limit name {name:?} {fault}")]
    Name {
        /// The name, shortened.
        name: String,
        /// What is wrong with it.
        fault: IdFault,
    },
    /// It has neither a concurrency nor a rate.
    #[error("the limit {name:?} limits nothing; give it a concurrency or a rate")]
    Nothing {
        /// The limit, shortened.
        name: String,
    },
    /// It has a burst, and no rate that this would be of.
    #[error("the limit {name:?} has a burst and no rate; give it a rate, too")]
    BurstAlone {
        /// The limit, shortened.
        name: String,
    },
    /// A number is zero.
    #[error("the {what} of the limit {name:?} is 0, which lets nothing through; give it at least 1")]
    Zero {
        /// The limit, shortened.
        name: String,
        /// Which one: `concurrency`, `rate` or `burst`.
        what: &'static str,
    },
    /// A number is larger than its cap.
    #[error("the {what} of the limit {name:?} is {number}, more than {most}; leave it out for none")]
    TooMany {
        /// The limit, shortened.
        name: String,
        /// Which one: `concurrency` or `burst`.
        what: &'static str,
        /// The number that was given.
        number: u32,
        /// The cap: [`MAX_LIMIT_CONCURRENCY`] or [`MAX_LIMIT_BURST`].
        most: u32,
    },
    /// The period is longer than [`MAX_WAIT`].
    #[error(
        "the period of the limit {name:?} is {}, more than {} days; was another unit meant?",
        format_duration(*period), MAX_WAIT.as_secs() / 86_400
    )]
    TooLong {
        /// The limit, shortened.
        name: String,
        /// The period that was given.
        period: Duration,
    },
    /// More than one attempt a microsecond.
    #[error(
        "the rate of the limit {name:?} is {attempts} in {}, more than one a microsecond; was another unit meant?",
        format_duration(*period)
    )]
    TooFast {
        /// The limit, shortened.
        name: String,
        /// The number of attempts that was given.
        attempts: u32,
        /// The period that was given.
        period: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::MAX_ID_BYTES;

    #[test]
    fn every_setting_has_its_range() {
        let plain = || Limit::new("openai");
        let second = Duration::from_secs(1);
        for (limit, expected) in [
            (Limit::new("").concurrency(1), r#"the limit name "" is empty"#),
            (Limit::new("x".repeat(MAX_ID_BYTES + 1)).concurrency(1), "has 257 bytes, more than 256"),
            (plain(), r#"the limit "openai" limits nothing; give"#),
            (plain().burst(3), r#"the limit "openai" has a burst and no rate; give"#),
            (plain().concurrency(3).burst(3), "has a burst and no rate"),
            (plain().concurrency(0), r#"the concurrency of the limit "openai" is 0, which"#),
            (plain().rate(0, second), "the rate of"),
            (plain().rate(1, second).burst(0), "the burst of"),
            (plain().concurrency(MAX_LIMIT_CONCURRENCY + 1), "is 10001, more than 10000; leave"),
            (plain().rate(1, second).burst(MAX_LIMIT_BURST + 1), "is 10001, more than 10000; leave"),
            (plain().rate(1, MAX_WAIT + Duration::from_nanos(1)), "more than 366 days"),
            (plain().rate(1, Duration::ZERO), r#"the rate of the limit "openai" is 1 in 0s, more than"#),
            (plain().rate(1, Duration::from_nanos(999)), "is 1 in 999ns, more than one a microsecond"),
            (plain().rate(1_000_001, second), "is 1000001 in 1s, more than"),
        ] {
            let message = limit.check().unwrap_err().to_string();
            assert!(message.contains(expected), "{message:?} does not contain {expected:?}");
        }
        for limit in [
            plain().concurrency(1),
            plain().concurrency(MAX_LIMIT_CONCURRENCY).rate(u32::MAX, MAX_WAIT).burst(MAX_LIMIT_BURST),
            plain().rate(1_000_000, second),
            plain().rate(1, SHORTEST),
            // The later of the two counts.
            plain().concurrency(0).concurrency(1),
        ] {
            assert_eq!(limit.check(), Ok(()), "{limit:?}");
        }
    }
}
