//! What becomes of a step that may have had its effect, and how a step is undone.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::callable::Callable;
use super::into_callable::IntoCallable;
use super::invalid::InvalidPolicy;
use super::policy::{Compensation, Interruption, Policy, Role, UndoneBy};
use super::step::Step;
use super::wait::Wait;
use crate::limits::{END_OF_TIME, MAX_WAIT};
use crate::resilience::Retry;

/// What becomes of a step whose attempt was in flight when its run was cut off: it may have had its effect, or not.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum OnInterrupted {
    /// It is called again, as another attempt with the same [idempotency key](crate::StepContext::idempotency_key). The
    /// default.
    #[default]
    Rerun,
    /// This is asked first, with the context of the attempt that was cut off, and returns a [`Verdict`]. It must change nothing:
    /// it is asked again if the process dies meanwhile. If it fails, the run is held.
    ///
    /// It may take as long as an [attempt](Step::timeout), and until the deadline of the plan, with which the run fails. No
    /// [circuit breaker](Step::breaker) is asked for it, and it takes no permit of a [limit](Step::limit).
    Verify(Callable),
    /// The same, with a callable that the allocator finds by this name: so the plan can be resumed from what is stored.
    VerifyNamed(Arc<str>),
    /// The run is held, without a slot, until somebody [decides](crate::ResolveStep).
    Hold,
}

impl OnInterrupted {
    /// [`Verify`](Self::Verify) with a function or closure; see [`IntoCallable`] for the forms it may have.
    pub fn verify<M>(callable: impl IntoCallable<M>) -> Self {
        Self::Verify(callable.into_callable())
    }

    /// [`VerifyNamed`](Self::VerifyNamed).
    pub fn verify_named(name: impl Into<Arc<str>>) -> Self {
        Self::VerifyNamed(name.into())
    }
}

/// Whether an attempt that was cut off had its effect: what [`OnInterrupted::Verify`] returns, as [`Json`](crate::Json).
///
/// ```
/// use lunacore::Verdict;
/// use serde_json::json;
///
/// let paid: Verdict = serde_json::from_value(json!({ "verdict": "happened", "output": "receipt 17" }))?;
/// assert_eq!(paid, Verdict::Happened { output: json!("receipt 17") });
/// assert_eq!(serde_json::to_value(Verdict::Unknown)?, json!({ "verdict": "unknown" }));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// It had: the step completes with this output, and is not called again.
    Happened {
        /// What it would have returned; null where nothing is said.
        #[serde(default)]
        output: Value,
    },
    /// It had not: the step is called again.
    DidNotHappen,
    /// That cannot be told: the run is held.
    Unknown,
}

/// # What may have happened, and what has to be undone
///
/// ```
/// use lunacore::{Json, OnInterrupted, Retry, Step, StepContext, Verdict};
/// use std::time::Duration;
///
/// let charge = Step::new("charge", || async { "receipt 17" })
///     .on_interrupted(OnInterrupted::verify(|| Json(Verdict::DidNotHappen)))
///     .compensate(|ctx: StepContext| async move {
///         let receipt: String = ctx.output("charge")?; // what there is to undo
///         Ok::<_, lunacore::StepError>(format!("{receipt} refunded"))
///     })
///     .compensation_retry(Retry::exponential(Duration::from_millis(100)).max_attempts(5))
///     .compensation_timeout(Duration::from_secs(10));
/// # drop(charge);
/// ```
impl Step {
    /// What becomes of the step when its attempt was in flight as its run was cut off. [`OnInterrupted::Rerun`] by default.
    #[must_use]
    pub fn on_interrupted(self, on_interrupted: OnInterrupted) -> Self {
        let (interruption, verification) = match on_interrupted {
            OnInterrupted::Rerun => (Interruption::Rerun, None),
            OnInterrupted::Hold => (Interruption::Hold, None),
            OnInterrupted::Verify(callable) => (Interruption::Verify, Some(callable)),
            OnInterrupted::VerifyNamed(name) => (Interruption::VerifyNamed(name), None),
        };
        let step = self.change_policy(|policy| policy.on_interrupted = interruption);
        step.change_code(|code| code.verification = verification)
    }

    /// The name of the callable that is asked whether an attempt that was cut off had its effect, if there
    /// [is one](OnInterrupted::VerifyNamed).
    #[must_use]
    pub fn verification_name(&self) -> Option<&str> {
        self.callable_of(Role::Verification)
    }

    /// How the step is undone when its plan fails, or is cancelled, after it has completed.
    ///
    /// Completed steps that can be undone are, from the last to the first, before the run is over. The callable reads what its
    /// step returned, and what others did, with [`StepContext::output`](crate::StepContext::output), why that is so with
    /// [`StepContext::failure`](crate::StepContext::failure), and has an
    /// [idempotency key](crate::StepContext::idempotency_key) of its own. What it returns does not matter; artifacts that it
    /// [stores](crate::StepContext::put_artifact) are committed with the news that the step is undone. When it fails for the
    /// last time, the others are undone all the same. A step that was skipped is not undone, nor is the one that failed.
    ///
    /// The run is [`Compensating`](crate::RunState::Compensating) meanwhile, and the plan's deadline does not bound that, nor is
    /// a [circuit breaker](Self::breaker) asked, or a permit of a [limit](Self::limit) taken. Its start and its end are stored
    /// for each attempt: when the process dies, the next one goes on behind what is undone, and calls again what was in flight,
    /// as the next attempt with the same key. When all is undone, the run is [`Compensated`](crate::RunState::Compensated), and
    /// else what it would have been without; its callers get [`PlanError::Compensated`](crate::PlanError::Compensated) either
    /// way, which says what is undone and what is not.
    ///
    /// After blocking code that is [abandoned](Self::grace), whether of a step or of what undoes one, nothing more is undone, since
    /// it may still run: the run has failed, or is cancelled, and its callers learn what is not undone.
    #[must_use]
    pub fn compensate<M>(self, callable: impl IntoCallable<M>) -> Self {
        let callable = callable.into_callable();
        let step = self.change_compensation(|undo| undo.by = UndoneBy::Closure);
        step.change_code(|code| code.compensation = Some(callable))
    }

    /// The same, with a callable that the allocator finds by this name: so the run is undone also after a restart.
    #[must_use]
    pub fn compensate_named(self, name: impl Into<Arc<str>>) -> Self {
        let step = self.change_compensation(|undo| undo.by = UndoneBy::Named(name.into()));
        step.change_code(|code| code.compensation = None)
    }

    /// Tries to undo the step again when that fails, as this says. [`Retry::none`] by default.
    ///
    /// Attempts count through restarts. One that was cut off is made again even if it was the last.
    #[must_use]
    pub fn compensation_retry(self, retry: Retry) -> Self {
        self.change_compensation(|undo| undo.retry = retry)
    }

    /// The longest that one attempt to undo the step may take.
    ///
    /// It is stopped as by a [timeout](Self::timeout) of the step, with the step's own [grace](Self::grace). Blocking code
    /// that does not stop within it is abandoned: nothing else of the run is called then, and what was still to be undone is not.
    #[must_use]
    pub fn compensation_timeout(self, limit: Duration) -> Self {
        self.change_compensation(|undo| undo.timeout = Some(limit))
    }

    fn change_compensation(self, change: impl FnOnce(&mut Compensation)) -> Self {
        self.change_policy(|policy| change(policy.compensation.get_or_insert_default()))
    }

    /// The name of the callable that undoes the step, if it was given [by name](Self::compensate_named).
    #[must_use]
    pub fn compensation_name(&self) -> Option<&str> {
        self.callable_of(Role::Compensation)
    }

    /// The name of what the step leaves to the allocator besides what it does.
    pub(crate) fn callable_of(&self, role: Role) -> Option<&str> {
        self.policy()?.named(role).map(|name| &**name)
    }

    /// Checks that a step which only waits has nothing that it cannot have.
    pub(crate) fn check_wait(&self) -> Result<(), InvalidPolicy> {
        let Some(wait) = self.wait() else { return Ok(()) };
        let default = Policy::default();
        let policy = self.policy().unwrap_or(&default);
        if let Wait::Sleep(time) = wait
            && *time > MAX_WAIT
        {
            return Err(InvalidPolicy::TooLong { what: "sleep", time: *time });
        }
        if let Wait::Until(time) = wait
            && time.duration_since(UNIX_EPOCH).is_ok_and(|since| since >= END_OF_TIME)
        {
            return Err(InvalidPolicy::TooFar);
        }
        let ends = !matches!(wait, Wait::Signal(_));
        let found = [
            ("a callable", self.record().uses.is_some()),
            ("an input", self.record().template || !self.get_input().is_null()),
            ("a retry policy", policy.retry != default.retry || policy.retry_if),
            ("a call in place", self.is_inline()),
            ("a timeout: it ends when it says", ends && policy.timeout.is_some()),
            ("a total timeout: it ends when it says", ends && policy.total_timeout.is_some()),
            ("a grace", policy.grace.is_some()),
            ("a circuit breaker", policy.breaker.is_some()),
            ("a rule for an open breaker", policy.when_open != default.when_open),
            ("a limit", policy.limit.is_some()),
            ("a rule for when it is cut off", policy.on_interrupted != default.on_interrupted),
            ("a compensation", policy.compensation.is_some()),
        ];
        let what = found.into_iter().find_map(|(what, has)| has.then_some(what));
        what.map_or(Ok(()), |what| Err(InvalidPolicy::OnlyWaits { what }))
    }
}
