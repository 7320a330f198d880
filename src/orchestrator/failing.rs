//! What follows from a failure, as the policy of its step has it.

use std::sync::Arc;
use std::time::SystemTime;

use super::limit::{self, Deadline};
use super::machine::{Ahead, Input, Position, Then};
use super::runner::{Runner, Turn, Yield, skip};
use crate::isolate::catch;
use crate::plan::{Handling, Output, Policy, StepError};
use crate::resilience::Failed;
use crate::run::{FailureKind, StepFailure};

impl Runner {
    /// An attempt has failed, or the run has come to a limit.
    pub(super) fn failed(&mut self, error: StepError) -> Turn {
        let (then, escalate) = self.then(&error);
        let mut produced = Yield::default();
        let at = self.watch.at.get();
        if let (Then::Continue(_), Some(step)) = (then, self.plan().get(at.cursor)) {
            match skip(at.cursor, &step.id) {
                Ok(null) => produced = null,
                Err(error) => return self.aborted(error),
            }
        }
        let failure = Arc::new(StepFailure::record(error.kind(), &*error));
        Turn { input: Input::Failed { failure, then, escalate }, produced, error: Some(error) }
    }

    /// The same, whatever the policy says.
    pub(super) fn aborted(&self, error: StepError) -> Turn {
        let failure = Arc::new(StepFailure::record(error.kind(), &*error));
        let input = Input::Failed { failure, then: Then::Abort, escalate: false };
        Turn { input, produced: Yield::default(), error: Some(error) }
    }

    /// Whether something of the plan follows when the run has come to this limit while it waited.
    pub(super) fn goes_on_after(&self, limit: &StepError) -> bool {
        let ends = self.watch.at.get().step.fallback || limit.kind() == FailureKind::Deadline;
        // There is no time left for a retry.
        !ends
            && self
                .policy()
                .is_some_and(|policy| !matches!(policy.on_failure, Handling::Abort | Handling::Hold))
    }

    /// What the policy has follow from a failure, and whether somebody is to be told of it.
    fn then(&mut self, error: &StepError) -> (Then, bool) {
        let at = self.watch.at.get();
        let Some(policy) = self.policy() else { return (Then::Abort, false) };
        // Who was told when the fallback began need not be told again.
        let escalate = policy.escalate && !at.step.fallback;
        if at.step.fallback || matches!(error.kind(), FailureKind::Deadline | FailureKind::Abandoned) {
            return (Then::Abort, escalate);
        }
        if let Some(retry_at) = self.retry_at(policy, at, error) {
            return (Then::Retry(retry_at), escalate);
        }
        match policy.on_failure {
            Handling::Abort => (Then::Abort, escalate),
            Handling::Hold => (Then::Hold, escalate),
            Handling::Fallback | Handling::FallbackNamed(_) => (Then::Fallback, escalate),
            Handling::Continue if at.pausing => (Then::Continue(Ahead::Go), escalate),
            Handling::Continue => (Then::Continue(self.next(at.cursor + 1, &Output::null())), escalate),
        }
    }

    fn retry_at(&self, policy: &Policy, at: Position, error: &StepError) -> Option<SystemTime> {
        let now = self.clock.now();
        let failed = Failed {
            attempt: at.attempt,
            kind: error.kind(),
            verdict: error.verdict(),
            first_started_at: at.step.since.unwrap_or(now),
        };
        let retry_at = policy.retry.next(&failed, now, (self.random)())?;
        // An attempt that could not start in time is not waited for.
        let limits = [limit::total(policy, at), self.deadline.map(Deadline::limit)];
        let in_time = limits.into_iter().flatten().all(|limit| retry_at < limit.at);
        let code = self.plan().get(at.cursor).and_then(|step| step.step.policy_code());
        let may = code.and_then(|code| code.retry_if.as_ref()).is_none_or(|may| {
            catch(|| may(error)).unwrap_or_else(|message| {
                log::warn!(target: "lunacore::run", "what decides about a retry panicked: {message}");
                false
            })
        });
        (in_time && may).then_some(retry_at)
    }
}
