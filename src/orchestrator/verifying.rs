//! Asks whether an attempt that was cut off had its effect.

use std::sync::Arc;

use super::attempt::Ended;
use super::error::PlanError;
use super::invoke::Call;
use super::machine::{Ahead, Input, Position};
use super::runner::{Flow, Runner, produce};
use crate::plan::{IntoOutput, Output, Role, StepError, Verdict};
use crate::run::{FailureKind, RunState, StepFailure};

impl Runner {
    /// Calls what verifies the step at the cursor, in the name of the attempt that was cut off.
    pub(super) async fn verify(&mut self) -> Result<Flow, PlanError> {
        if let Some(flow) = self.hear_first().await? {
            return Ok(flow);
        }
        let Position { cursor, attempt, step: progress, .. } = self.watch.at.get();
        let scope = Arc::clone(&self.scope);
        let callable = self.other(cursor, Role::Verification).cloned();
        let (Some(step), Some(callable)) = (scope.plan.get(cursor), callable) else {
            return Err(self.interrupted("what verifies a step was not there"));
        };
        let input = match self.input(cursor) {
            Ok(input) => input,
            Err(error) => return Ok(unverified(Some(&error))),
        };
        let known = if progress.fallback { self.watch.failure.borrow().clone() } else { None };
        let context = scope.open_attempt(cursor, attempt, known, input);
        let call = Call::start(&callable, step.step.is_inline(), context, &self.claim);
        // As long as an attempt may take, and the plan.
        let limit = self.limit();
        let ended = self.end_of(call, limit).await;
        // It changes nothing, and stores nothing.
        drop(scope.take_staged());
        let result = match ended? {
            Ended::Returned(result) => scope.clean(result, Vec::new()).0,
            Ended::Dropped => return Ok(Input::Cancel.into()),
        };
        let now = self.watch.at.get();
        if scope.cancellation.is_cancelled() && !now.expired {
            // What was asked does not matter any more.
            return Ok(match now.state {
                RunState::Running => Input::Cancel.into(),
                _ => Flow::Turn(self.aborted("it was cancelled".into())),
            });
        }
        match result.and_then(|answer| verdict(&answer)) {
            Ok(Verdict::Happened { output }) => self.happened(output),
            Ok(Verdict::DidNotHappen) => {
                let time = self.clock.now();
                let ahead = if now.asks_breaker(time) { self.ahead(cursor, false) } else { Ahead::Go };
                Ok(Input::Proceed(ahead, time).into())
            }
            Ok(Verdict::Unknown) => Ok(unverified(None)),
            Err(error) => Ok(self.not_verified(error)),
        }
    }

    /// What was asked failed, which says nothing about the attempt that it was asked about.
    pub(super) fn not_verified(&mut self, error: StepError) -> Flow {
        match error.kind() {
            // Nothing else of the run may run beside its code, and none does after its deadline.
            FailureKind::Abandoned | FailureKind::Deadline => Flow::Turn(self.failed(error)),
            _ => unverified(Some(&error)),
        }
    }

    fn happened(&mut self, output: serde_json::Value) -> Result<Flow, PlanError> {
        let cursor = self.watch.at.get().cursor;
        let Some(step) = self.plan().get(cursor) else {
            return Err(self.interrupted("the step that was verified is gone"));
        };
        let produced = output.into_output().and_then(|output| {
            let produced = produce(cursor, &step.id, &output, Vec::new())?;
            Ok((output, produced))
        });
        Ok(match produced {
            Ok((output, produced)) => Flow::Turn(self.completed(output, produced)),
            Err(error) => unverified(Some(&error)),
        })
    }
}

fn unverified(error: Option<&StepError>) -> Flow {
    let failure = error.map(|error| Arc::new(StepFailure::record(error.kind(), &**error)));
    Input::Unverified(failure).into()
}

fn verdict(answer: &Output) -> Result<Verdict, StepError> {
    serde_json::from_value(answer.to_value())
        .map_err(|error| format!("what verifies the step returned no verdict: {error}").into())
}
