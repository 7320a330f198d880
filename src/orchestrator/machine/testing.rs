//! What the tests of the machine share.

use super::*;
use crate::plan::IntoOutput;
use crate::run::FailureKind;
use std::time::{Duration, UNIX_EPOCH};

pub(super) fn types(decision: &Decision) -> Vec<&str> {
    decision.events.iter().map(EventKind::event_type).collect()
}

pub(super) fn output() -> Output {
    "x".into_output().unwrap()
}

pub(super) fn failure() -> Arc<StepFailure> {
    Arc::new(StepFailure::record(FailureKind::Error, &std::io::Error::other("broken")))
}

pub(super) fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

pub(super) fn completed(cancelled: bool) -> Input {
    Input::Completed { output: output(), cancelled, ahead: Ahead::Go }
}

pub(super) fn failed(then: Then) -> Input {
    Input::Failed { failure: failure(), then, escalate: true }
}

/// Of a run that has nothing to undo.
pub(super) fn decide(
    plan: &CheckedPlan,
    at: Position,
    failure: Option<&Arc<StepFailure>>,
    input: Input,
) -> Option<Decision> {
    super::decide(plan, at, &Known { failure, ..Known::default() }, input)
}

pub(super) fn go(plan: &CheckedPlan, from: Position, input: Input) -> Decision {
    decide(plan, from, None, input).unwrap()
}
