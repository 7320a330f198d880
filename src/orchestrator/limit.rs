//! How long the run may take for what it is at. Pure.

use std::time::{Duration, SystemTime};

use super::machine::Position;
use crate::plan::{LimitExceeded, Policy};
use crate::run::RunState;

/// A time by which something must be done, and what it is called when it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) at: SystemTime,
    /// How long that is.
    after: Duration,
    scope: Scope,
}

/// What it is a limit of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Attempt,
    Step,
    Plan,
}

impl Limit {
    pub(crate) fn exceeded(self) -> LimitExceeded {
        let limit = self.after;
        match self.scope {
            Scope::Attempt => LimitExceeded::Timeout { limit },
            Scope::Step => LimitExceeded::TotalTimeout { limit },
            Scope::Plan => LimitExceeded::Deadline { limit },
        }
    }
}

/// When an attempt must be over that was started then and may take so long.
pub(crate) fn within(started: SystemTime, after: Duration) -> Option<Limit> {
    Some(Limit { at: started.checked_add(after)?, after, scope: Scope::Attempt })
}

/// When the whole plan must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline {
    pub(crate) at: SystemTime,
    /// How long that is from when it came in.
    pub(crate) after: Duration,
}

impl Deadline {
    pub(crate) fn limit(self) -> Limit {
        Limit { at: self.at, after: self.after, scope: Scope::Plan }
    }
}

/// The first limit that the run comes to where it stands now. `started`: when the attempt in flight was, or the wait for a signal
/// that has not come.
pub(crate) fn first(
    policy: Option<&Policy>,
    deadline: Option<Deadline>,
    at: Position,
    started: Option<SystemTime>,
) -> Option<Limit> {
    if policy.is_none() && deadline.is_none() {
        return None;
    }
    let attempt = policy.and_then(|policy| attempt(policy, started));
    let whole = policy.and_then(|policy| total(policy, at));
    // Of limits that come at the same time, the one that means more.
    [deadline.map(Deadline::limit), whole, attempt].into_iter().flatten().min_by_key(|limit| limit.at)
}

/// When an attempt that was started then must be done.
pub(crate) fn attempt(policy: &Policy, started: Option<SystemTime>) -> Option<Limit> {
    within(started?, policy.timeout?)
}

/// When the step must be done, with all its attempts.
pub(crate) fn total(policy: &Policy, at: Position) -> Option<Limit> {
    // A step that was paused before its first attempt has still its whole time, and its fallback comes on top.
    // While somebody decides about it, or it is asked whether it had its effect, its time does not pass.
    let decided = at.state != RunState::Held && !at.step.verifying;
    let counts = (at.attempt > 0 || at.state == RunState::Parked) && decided;
    if at.step.fallback || !counts {
        return None;
    }
    let limit = policy.total_timeout?;
    Some(Limit { at: at.step.since?.checked_add(limit)?, after: limit, scope: Scope::Step })
}
