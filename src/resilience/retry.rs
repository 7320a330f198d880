use std::time::{Duration, SystemTime};

use humantime::format_duration;
use serde::{Deserialize, Serialize};

use crate::limits::{MAX_RETRY_ATTEMPTS, MAX_WAIT, RETRY_ATTEMPTS, RETRY_MAX_DELAY};
use crate::run::FailureKind;

/// Whether and when a step whose attempt failed is tried again.
///
/// After failed attempt number `n` it waits for `delay · factor^(n-1)`, at most [`max_delay`](Self::max_delay), with
/// [`Jitter`] taken from that; then the next attempt may start, if attempts and [`budget`](Self::budget) are left.
///
/// What is retried is an error that the callable returned; a panic and a timeout only if the policy says so, with
/// [`on_panic`](Self::on_panic) and [`on_timeout`](Self::on_timeout). A result that cannot be stored, and a refused
/// artifact, are not: the callable did its work, and doing it again mostly gives the same.
///
/// The setters check nothing: an orchestrator checks the policy with its plan, and [`check`](Self::check) does it
/// earlier. In JSON a policy has only the fields that differ from those of [`Retry::none`]. Durations are seconds and
/// nanoseconds there, which loses nothing.
///
/// ```
/// use std::time::Duration;
///
/// use lunacore::Retry;
///
/// let retry = Retry::exponential(Duration::from_millis(200)).max_attempts(5).budget(Duration::from_secs(600));
/// retry.check()?;
///
/// let text = serde_json::to_string(&retry)?;
/// assert_eq!(serde_json::from_str::<Retry>(&text)?, retry);
/// assert_eq!(serde_json::to_string(&Retry::none())?, "{}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    #[serde(skip_serializing_if = "is_one")]
    pub(crate) max_attempts: u32,
    #[serde(skip_serializing_if = "Duration::is_zero")]
    pub(crate) delay: Duration,
    #[serde(skip_serializing_if = "is_constant")]
    pub(crate) factor: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_delay: Option<Duration>,
    #[serde(skip_serializing_if = "Jitter::is_none")]
    pub(crate) jitter: Jitter,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) budget: Option<Duration>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) on_panic: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) on_timeout: bool,
}

fn is_one(attempts: &u32) -> bool {
    *attempts == 1
}

#[expect(clippy::float_cmp, reason = "only the very number leaves delays as they are")]
fn is_constant(factor: &f64) -> bool {
    *factor == 1.0
}

/// How much of a delay is left to chance, so that steps which failed together do not all come back together.
///
/// With a random number `r` from 0 to 1. The formulas are those of M. Brooker, "Exponential Backoff And Jitter", AWS
/// Architecture Blog, 2015; by its measurements `Full` burdens a service least. No jitter makes a delay longer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Jitter {
    /// Anything up to the delay: `delay · r`. The default of [`Retry::exponential`].
    Full,
    /// At least half of it: `delay / 2 + delay / 2 · r`.
    Equal,
    /// The delay itself. The default of [`Retry::fixed`].
    #[default]
    None,
}

impl Jitter {
    fn is_none(&self) -> bool {
        *self == Self::None
    }

    fn apply(self, delay: Duration, random: f64) -> Duration {
        match self {
            Self::Full => scale(delay, random),
            Self::Equal => {
                let half = delay / 2;
                half + scale(half, random)
            }
            Self::None => delay,
        }
    }
}

/// `random`, from 0 to 1, of a duration; never more than all of it, although a float rounds a long one up. Of what is no
/// number, all of it.
fn scale(whole: Duration, random: f64) -> Duration {
    Duration::try_from_secs_f64(whole.as_secs_f64() * random).map_or(whole, |part| part.min(whole))
}

impl Default for Retry {
    fn default() -> Self {
        Self::none()
    }
}

impl Retry {
    /// One attempt and no more: the default.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            max_attempts: 1,
            delay: Duration::ZERO,
            factor: 1.0,
            max_delay: None,
            jitter: Jitter::None,
            budget: None,
            on_panic: false,
            on_timeout: false,
        }
    }

    /// The same delay after each failed attempt: [`RETRY_ATTEMPTS`] attempts, no jitter. A delay of zero is allowed.
    #[must_use]
    pub const fn fixed(delay: Duration) -> Self {
        Self { max_attempts: RETRY_ATTEMPTS, delay, ..Self::none() }
    }

    /// A delay of `base` after the first attempt, and twice the one before after each further: [`RETRY_ATTEMPTS`]
    /// attempts, [`Jitter::Full`]. `base` is more than zero.
    #[must_use]
    pub const fn exponential(base: Duration) -> Self {
        Self { factor: 2.0, jitter: Jitter::Full, ..Self::fixed(base) }
    }

    /// By what the delay is multiplied after each further attempt: a finite number of at least 1. The default is 2 for
    /// [`exponential`](Self::exponential), and 1 for [`fixed`](Self::fixed).
    #[must_use]
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// What the delay grows to at most: no shorter than the first one, and no longer than [`MAX_WAIT`]. The default is
    /// [`RETRY_MAX_DELAY`], or the first delay where that is longer.
    #[must_use]
    pub const fn max_delay(mut self, max_delay: Duration) -> Self {
        self.max_delay = Some(max_delay);
        self
    }

    /// How many attempts there are at most, the first included: from 1 to [`MAX_RETRY_ATTEMPTS`]. The default is
    /// [`RETRY_ATTEMPTS`], and 1 for [`none`](Self::none).
    #[must_use]
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// How much of a delay is left to chance. See [`Jitter`] for the defaults.
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The time, from the start of the first attempt, within which another attempt may still start: more than zero, at
    /// most [`MAX_WAIT`]. An attempt that has started may take as long as it takes. The default is no such limit.
    #[must_use]
    pub const fn budget(mut self, budget: Duration) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Whether a panic is retried. The default is no: it is a bug, and a bug mostly comes again.
    #[must_use]
    pub const fn on_panic(mut self, retried: bool) -> Self {
        self.on_panic = retried;
        self
    }

    /// Whether an attempt that took longer than its step's timeout is retried. The default is no: the work may still go
    /// on somewhere, and a second attempt would do it twice.
    #[must_use]
    pub const fn on_timeout(mut self, retried: bool) -> Self {
        self.on_timeout = retried;
        self
    }

    /// Checks every setting against its range.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use lunacore::{InvalidRetry, Retry};
    ///
    /// let retry = Retry::exponential(Duration::from_secs(1)).factor(0.5);
    /// assert_eq!(retry.check(), Err(InvalidRetry::Factor { factor: 0.5 }));
    /// ```
    pub fn check(&self) -> Result<(), InvalidRetry> {
        let Self { max_attempts, delay, factor, max_delay, budget, .. } = *self;
        if max_attempts == 0 {
            return Err(InvalidRetry::NoAttempts);
        }
        if max_attempts > MAX_RETRY_ATTEMPTS {
            return Err(InvalidRetry::TooManyAttempts { attempts: max_attempts });
        }
        if !(factor.is_finite() && factor >= 1.0) {
            return Err(InvalidRetry::Factor { factor });
        }
        if delay.is_zero() && factor > 1.0 {
            return Err(InvalidRetry::NoDelay { factor });
        }
        for (what, time) in [("delay", Some(delay)), ("max_delay", max_delay), ("budget", budget)] {
            if let Some(time) = time.filter(|time| *time > MAX_WAIT) {
                return Err(InvalidRetry::TooLong { what, time });
            }
        }
        if let Some(max_delay) = max_delay.filter(|max_delay| *max_delay < delay) {
            return Err(InvalidRetry::MaxDelay { max_delay, delay });
        }
        if budget.is_some_and(|budget| budget.is_zero()) {
            return Err(InvalidRetry::NoBudget);
        }
        Ok(())
    }

    /// The wait after failed attempt number `attempt`, from 1; `random` is from 0 to 1. Of a policy or a number that is
    /// out of its range it makes something too, and that is never longer than the longest delay.
    pub(crate) fn delay(&self, attempt: u32, random: f64) -> Duration {
        self.jitter.apply(self.full_delay(attempt), random.clamp(0.0, 1.0))
    }

    fn full_delay(&self, attempt: u32) -> Duration {
        let longest = self.max_delay.unwrap_or(RETRY_MAX_DELAY.max(self.delay));
        let growths = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        // What does not grow is not brought through a float, which would round it.
        if growths == 0 || is_constant(&self.factor) || self.delay.is_zero() {
            return self.delay.min(longest);
        }
        // What does not fit has grown beyond every limit.
        let grown = self.delay.as_secs_f64() * self.factor.powi(growths);
        Duration::try_from_secs_f64(grown).map_or(longest, |grown| grown.min(longest))
    }

    /// When the next attempt may start after one that failed and was over at `now`; `None` when there is to be none.
    pub(crate) fn next(&self, failed: &Failed, now: SystemTime, random: f64) -> Option<SystemTime> {
        if failed.attempt >= self.max_attempts {
            return None;
        }
        let wait = match failed.verdict {
            Verdict::Fatal => return None,
            Verdict::Policy if !self.covers(failed.kind) => return None,
            Verdict::Policy => self.delay(failed.attempt, random),
            // Coming back earlier than it was asked to would be a wasted attempt at best.
            Verdict::After(wait) if wait > MAX_WAIT => return None,
            Verdict::After(wait) => wait,
        };
        // A clock that was set back has used up nothing.
        let used = now.duration_since(failed.first_started_at).unwrap_or_default();
        if self.budget.is_some_and(|budget| used.saturating_add(wait) > budget) {
            return None;
        }
        // A time that cannot be told never comes.
        now.checked_add(wait)
    }

    fn covers(&self, kind: FailureKind) -> bool {
        match kind {
            FailureKind::Error => true,
            FailureKind::Panic => self.on_panic,
            FailureKind::Timeout => self.on_timeout,
            FailureKind::Output | FailureKind::Artifact => false,
            FailureKind::BreakerOpen => true,
            // The time of the step is over, or that of the plan, or its code still runs.
            FailureKind::TotalTimeout | FailureKind::Deadline | FailureKind::Abandoned => false,
        }
    }
}

/// An attempt that failed, as far as it matters for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed {
    /// Its number, from 1.
    pub(crate) attempt: u32,
    /// What sort of failure it was.
    pub(crate) kind: FailureKind,
    /// What the error itself says.
    pub(crate) verdict: Verdict,
    /// When the step's first attempt was started.
    pub(crate) first_started_at: SystemTime,
}

/// What an error says about a retry. Its word comes before the policy's, but neither attempts nor budget grow by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: the policy decides.
    #[default]
    Policy,
    /// It will be the same each time: no retry.
    Fatal,
    /// Worth a retry after exactly this wait, whatever the kind of failure: a server's word, such as HTTP's
    /// `Retry-After` (RFC 9110, section 10.2.3). So it has no jitter and may be longer than the policy's longest delay;
    /// but beyond [`MAX_WAIT`] there is no retry.
    After(Duration),
}

/// What is wrong with a [`Retry`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRetry {
    /// It allows no attempt at all.
    #[error("max_attempts is 0; it counts the first attempt too, so give it 1 for no retry")]
    NoAttempts,
    /// It allows more attempts than [`MAX_RETRY_ATTEMPTS`].
    #[error(
        "max_attempts is {attempts}, more than {MAX_RETRY_ATTEMPTS}; let it wait longer between fewer attempts"
    )]
    TooManyAttempts {
        /// The number that was given.
        attempts: u32,
    },
    /// The factor is not a finite number of at least 1.
    #[error("the factor is {factor}; give it a finite number of at least 1")]
    Factor {
        /// The number that was given.
        factor: f64,
    },
    /// The delay is zero, and was meant to grow.
    #[error(
        "the first delay is 0s, which a factor of {factor} does not make longer; give it a longer one, or use Retry::fixed"
    )]
    NoDelay {
        /// The factor.
        factor: f64,
    },
    /// A time is longer than [`MAX_WAIT`].
    #[error("the {what} is {}, more than {} days; was another unit meant?", format_duration(*time), MAX_WAIT.as_secs() / 86_400)]
    TooLong {
        /// Which one: `delay`, `max_delay` or `budget`.
        what: &'static str,
        /// The time that was given.
        time: Duration,
    },
    /// The longest delay is shorter than the first one.
    #[error(
        "max_delay is {}, shorter than the first delay of {}; raise the one or lower the other",
        format_duration(*max_delay), format_duration(*delay)
    )]
    MaxDelay {
        /// The longest delay.
        max_delay: Duration,
        /// The first delay.
        delay: Duration,
    },
    /// The budget is zero.
    #[error(
        "the budget is 0s, in which no further attempt can start; give it a longer one, or use Retry::none"
    )]
    NoBudget,
}

#[cfg(test)]
mod tests;
