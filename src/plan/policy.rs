//! What a step does on a bad day: how often and how long it is tried, what stops it, and what happens when all has failed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::callable::Callable;
use super::error::StepError;
use super::into_callable::IntoCallable;
use super::invalid::InvalidPolicy;
use super::step::Step;
use crate::limits::{MAX_WAIT, TIMEOUT_GRACE};
use crate::resilience::Retry;

/// What becomes of a plan when a step has failed for the last time.
///
/// A plan that has come to its deadline, or whose blocking code could not be stopped, fails whatever this says.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum OnFailure {
    /// The plan fails too. The default.
    #[default]
    Abort,
    /// The failure is recorded, `task.skipped` is sent, and the plan goes on: the step's result is null.
    Continue,
    /// This is called instead, once, and what it returns is the step's result. It reads the failure with
    /// [`StepContext::failure`](crate::StepContext::failure). When it fails too, so does the plan.
    Fallback(Callable),
    /// The same, with a callable that the allocator finds by this name: so the plan can be resumed from what is stored.
    FallbackNamed(Arc<str>),
    /// The run is held, without a slot, until somebody [decides](crate::ResolveStep) about the step.
    Hold,
}

impl OnFailure {
    /// [`Fallback`](Self::Fallback) with a function or closure; see [`IntoCallable`] for the forms it may have.
    pub fn fallback<M>(callable: impl IntoCallable<M>) -> Self {
        Self::Fallback(callable.into_callable())
    }

    /// [`FallbackNamed`](Self::FallbackNamed).
    pub fn fallback_named(name: impl Into<Arc<str>>) -> Self {
        Self::FallbackNamed(name.into())
    }
}

/// What a step does when its circuit breaker lets nothing through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WhenOpen {
    /// The run waits, without a slot, until the breaker lets the step through; its limits bound the wait. The default.
    #[default]
    Park,
    /// The attempt fails at once with [`BreakerOpen`](crate::BreakerOpen), which is retried like any other error.
    Fail,
}

/// The part of a policy that can be stored; most steps have none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Policy {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) retry: Retry,
    /// A closure decides about retries too.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) retry_if: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) timeout: Option<Duration>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) total_timeout: Option<Duration>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) grace: Option<Duration>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) breaker: Option<Arc<str>>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) when_open: WhenOpen,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) limit: Option<Arc<str>>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) on_failure: Handling,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) escalate: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) on_interrupted: Interruption,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) compensation: Option<Compensation>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// [`OnFailure`] without its callable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Handling {
    #[default]
    Abort,
    Continue,
    /// There was a callable.
    Fallback,
    FallbackNamed(Arc<str>),
    Hold,
}

/// [`OnInterrupted`](crate::OnInterrupted) without its callable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Interruption {
    #[default]
    Rerun,
    Hold,
    /// There was a callable.
    Verify,
    VerifyNamed(Arc<str>),
}

/// How a step is undone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Compensation {
    pub(crate) by: UndoneBy,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) retry: Retry,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) timeout: Option<Duration>,
}

/// What undoes a step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UndoneBy {
    /// Nothing was said yet, which is not enough.
    #[default]
    Nothing,
    /// There was a callable.
    Closure,
    Named(Arc<str>),
}

/// What a step may have a callable for, besides what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Fallback,
    Verification,
    Compensation,
}

impl Role {
    pub(crate) const ALL: [Self; 3] = [Self::Fallback, Self::Verification, Self::Compensation];

    /// What such a callable is called, in a sentence.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Fallback => "fallback",
            Self::Verification => "verification",
            Self::Compensation => "compensation",
        }
    }
}

type RetryIf = dyn Fn(&StepError) -> bool + Send + Sync;

/// The part that cannot: code.
#[derive(Clone, Default)]
pub(crate) struct PolicyCode {
    pub(crate) retry_if: Option<Arc<RetryIf>>,
    pub(crate) fallback: Option<Callable>,
    pub(crate) verification: Option<Callable>,
    pub(crate) compensation: Option<Callable>,
}

impl PolicyCode {
    pub(crate) fn callable(&self, role: Role) -> Option<&Callable> {
        match role {
            Role::Fallback => self.fallback.as_ref(),
            Role::Verification => self.verification.as_ref(),
            Role::Compensation => self.compensation.as_ref(),
        }
    }
}

impl Policy {
    pub(crate) fn grace(&self) -> Duration {
        self.grace.unwrap_or(TIMEOUT_GRACE)
    }

    /// The code that cannot be stored, as a sentence tells of it.
    pub(crate) fn closure(&self) -> Option<&'static str> {
        if self.retry_if {
            Some("decided about retries by a closure")
        } else if self.on_failure == Handling::Fallback {
            Some("had a closure as its fallback")
        } else if self.on_interrupted == Interruption::Verify {
            Some("was verified by a closure")
        } else if self.compensation.as_ref().is_some_and(|undo| undo.by == UndoneBy::Closure) {
            Some("was undone by a closure")
        } else {
            None
        }
    }

    /// The name of the callable that the allocator finds for a role.
    pub(crate) fn named(&self, role: Role) -> Option<&Arc<str>> {
        match (role, &self.on_failure, &self.on_interrupted) {
            (Role::Fallback, Handling::FallbackNamed(name), _) => Some(name),
            (Role::Verification, _, Interruption::VerifyNamed(name)) => Some(name),
            (Role::Compensation, ..) => match &self.compensation.as_ref()?.by {
                UndoneBy::Named(name) => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), InvalidPolicy> {
        self.retry.check()?;
        let undo = self.compensation.as_ref();
        if let Some(undo) = undo {
            undo.retry.check().map_err(InvalidPolicy::CompensationRetry)?;
            if undo.by == UndoneBy::Nothing {
                return Err(InvalidPolicy::NothingUndoes);
            }
        }
        let limits = [
            ("timeout", self.timeout),
            ("total_timeout", self.total_timeout),
            ("grace", self.grace),
            ("timeout of the compensation", undo.and_then(|undo| undo.timeout)),
        ];
        for (what, time) in limits {
            match time {
                Some(Duration::ZERO) if what != "grace" => return Err(InvalidPolicy::Zero { what }),
                Some(time) if time > MAX_WAIT => return Err(InvalidPolicy::TooLong { what, time }),
                _ => {}
            }
        }
        Ok(())
    }
}

/// # When it fails
///
/// A step is tried once, for as long as it takes, and its failure fails the plan. Each of these changes one thing; all of
/// them together are the step's policy. It does not count in a plan's [fingerprint](crate::PlanRecord::fingerprint): a run
/// that was cut off may be resumed with another one.
///
/// ```
/// use lunacore::{Jitter, OnFailure, Retry, Step};
/// use std::time::Duration;
///
/// let charge = Step::new("charge", || async { "paid" })
///     .retry(Retry::exponential(Duration::from_millis(200)).max_attempts(5).jitter(Jitter::Full).on_timeout(true))
///     .timeout(Duration::from_secs(2))
///     .total_timeout(Duration::from_secs(30))
///     .breaker("payments")
///     .limit("payments")
///     .on_failure(OnFailure::fallback(|| "on account"))
///     .escalate_on_failure();
/// # drop(charge);
/// ```
impl Step {
    /// Tries the step again when it fails, as this says. [`Retry::none`] by default.
    ///
    /// The error has its say too: one made by [`StepError::fatal`] is not retried, and one made by [`StepError::retry_after`]
    /// says when.
    #[must_use]
    pub fn retry(self, retry: Retry) -> Self {
        self.change_policy(|policy| policy.retry = retry)
    }

    /// Retries only where this says yes, besides all that the policy says. A closure, so a run of this plan cannot be resumed
    /// from what is stored alone; [`StepError::fatal`] says the same without one.
    #[must_use]
    pub fn retry_if(self, may: impl Fn(&StepError) -> bool + Send + Sync + 'static) -> Self {
        let step = self.change_policy(|policy| policy.retry_if = true);
        step.change_code(|code| code.retry_if = Some(Arc::new(may)))
    }

    /// The longest that one attempt may take; its failure is of the kind [`Timeout`](crate::FailureKind::Timeout), which is
    /// retried if the policy [says so](Retry::on_timeout).
    ///
    /// A future is dropped. Blocking code sees its [cancellation token](crate::StepContext::cancellation) and is waited for,
    /// for the [grace](Self::grace) at most; what it returns does not count any more. An [inline](Self::inline) call cannot
    /// be stopped: when it has taken longer, what it returned does not count.
    #[must_use]
    pub fn timeout(self, limit: Duration) -> Self {
        self.change_policy(|policy| policy.timeout = Some(limit))
    }

    /// The longest that the step may take with all its attempts and the waits between them, from when its turn came. Its
    /// fallback comes on top. An attempt that could only start later is not waited for.
    ///
    /// It goes on counting while the run is paused, while it is parked, and while its process is down.
    #[must_use]
    pub fn total_timeout(self, limit: Duration) -> Self {
        self.change_policy(|policy| policy.total_timeout = Some(limit))
    }

    /// How long blocking code that has come to a limit may take to end, [`TIMEOUT_GRACE`] by default. Code that is still running
    /// then is abandoned: the plan fails at once, with a failure of the kind [`Abandoned`](crate::FailureKind::Abandoned),
    /// since nothing else of it may run beside that code, nor anything that [undoes](Self::compensate) what was done.
    /// [`ListAbandoned`](crate::ListAbandoned) tells which threads it holds.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        self.change_policy(|policy| policy.grace = Some(grace))
    }

    /// Lets the circuit breaker of this name watch the step. It must be known to the orchestrator; see
    /// [`ExecutionOrchestrator::breaker`](crate::ExecutionOrchestrator::breaker).
    #[must_use]
    pub fn breaker(self, name: impl Into<Arc<str>>) -> Self {
        self.change_policy(|policy| policy.breaker = Some(name.into()))
    }

    /// What to do while that breaker lets nothing through. [`WhenOpen::Park`] by default.
    #[must_use]
    pub fn when_open(self, when_open: WhenOpen) -> Self {
        self.change_policy(|policy| policy.when_open = when_open)
    }

    /// Has the step keep to the limit of this name, which it shares with all steps that name it. It must be known to the
    /// orchestrator; see [`ExecutionOrchestrator::limit`](crate::ExecutionOrchestrator::limit). A step has one at most.
    #[must_use]
    pub fn limit(self, name: impl Into<Arc<str>>) -> Self {
        self.change_policy(|policy| policy.limit = Some(name.into()))
    }

    /// What becomes of the plan when the step has failed for the last time. [`OnFailure::Abort`] by default.
    #[must_use]
    pub fn on_failure(self, on_failure: OnFailure) -> Self {
        let (handling, fallback) = match on_failure {
            OnFailure::Abort => (Handling::Abort, None),
            OnFailure::Continue => (Handling::Continue, None),
            OnFailure::Fallback(callable) => (Handling::Fallback, Some(callable)),
            OnFailure::FallbackNamed(name) => (Handling::FallbackNamed(name), None),
            OnFailure::Hold => (Handling::Hold, None),
        };
        let step = self.change_policy(|policy| policy.on_failure = handling);
        step.change_code(|code| code.fallback = fallback)
    }

    /// The name of the callable that is called when all has failed, if [there is one](OnFailure::FallbackNamed).
    #[must_use]
    pub fn fallback_name(&self) -> Option<&str> {
        self.callable_of(Role::Fallback)
    }

    /// Sends `escalation.needed` when the step has failed for the last time, before whatever follows from that.
    #[must_use]
    pub fn escalate_on_failure(self) -> Self {
        self.change_policy(|policy| policy.escalate = true)
    }
}

impl fmt::Debug for PolicyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyCode").finish_non_exhaustive()
    }
}
