//! What somebody decides about a step that is held.

use std::sync::Arc;

use actix::{Context, Handler, Message, ResponseFuture};
use serde_json::Value;
use tokio::sync::oneshot;

use super::actor::ExecutionOrchestrator;
use super::error::{ControlError, PlanError};
use super::machine::{Decided, Input};
use super::runner::{Flow, Runner, Yield, produce, skip};
use super::watch::{Reply, Request};
use crate::plan::{IntoOutput, StepError};
use crate::run::{FailureKind, RunId, RunState, StepFailure};

/// Decides about the step at which a run is held: because it may have had its effect when the run was cut off
/// ([`OnInterrupted::Hold`](crate::OnInterrupted::Hold)), or because it failed and says so
/// ([`OnFailure::Hold`](crate::OnFailure::Hold)).
///
/// The answer comes when that is stored; the run goes on as soon as it has a slot, at the head of the queue.
/// [`SkipStep`] goes on without the step, [`RetryNow`](crate::RetryNow) calls it again, and [`RetryRun`](crate::RetryRun) does
/// so with another input, or from an earlier step.
///
/// ```
/// use lunacore::{Engine, ExecutePlan, OnFailure, ResolveStep, RunState, Step, StepError, StepOutcome};
///
/// # actix::System::new().block_on(async {
/// let engine = Engine::builder().start()?;
/// let pay = Step::new("pay", || Err::<(), _>(StepError::from("the bank is closed"))).on_failure(OnFailure::Hold);
/// let run = engine.submit(ExecutePlan::new([pay]).run_id("rent")).await?;
/// # while engine.status(run.run_id()).await?.state != RunState::Held { tokio::task::yield_now().await; }
///
/// // Somebody pays in cash, and says so.
/// let paid = StepOutcome::Completed("in cash".into());
/// engine.resolve(ResolveStep::new(run.run_id().clone(), "pay", paid)).await?;
/// assert_eq!(run.await?, ["in cash"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<ResolveOutcome, ControlError>")]
#[non_exhaustive]
pub struct ResolveStep {
    /// The run.
    pub run_id: RunId,
    /// The step that it is held at; another one is refused, so that nobody decides about a step that he does not mean.
    pub step_id: String,
    /// What became of it.
    pub outcome: StepOutcome,
}

impl ResolveStep {
    /// This outcome of that step.
    pub fn new(run_id: RunId, step_id: impl Into<String>, outcome: StepOutcome) -> Self {
        Self { run_id, step_id: step_id.into(), outcome }
    }
}

/// What became of a step that is held.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StepOutcome {
    /// It had its effect: it completes with this output, and is not called again. What is a secret of the plan is taken out of it,
    /// as it is out of what a step returns.
    Completed(Value),
    /// It had none: it is called again, as its next attempt, and its [total timeout](crate::Step::total_timeout) begins anew.
    Rerun,
    /// It failed for good, for this reason, and so does the plan.
    Failed(String),
}

/// Goes on without a step: one that is held, or the one at which a run stands that has failed, was cancelled, or is
/// interrupted. Its output is null.
///
/// A run that is not held here enters its next generation with that, as with [`RetryRun`](crate::RetryRun), and from the plan that is
/// stored with it. Where that does not do, since a step was a closure, it is refused:
/// [`RetryFault::NeedsPlanToSkip`](crate::RetryFault::NeedsPlanToSkip). A run that is held here can be gone on with all the same.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<ResolveOutcome, ControlError>")]
#[non_exhaustive]
pub struct SkipStep {
    /// The run.
    pub run_id: RunId,
    /// The step.
    pub step_id: String,
}

impl SkipStep {
    /// That step of this run.
    pub fn new(run_id: RunId, step_id: impl Into<String>) -> Self {
        Self { run_id, step_id: step_id.into() }
    }
}

/// What deciding about a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResolveOutcome {
    /// It is decided, and the run goes on, or is over.
    Resolved,
    /// The run was not held, but in this state.
    NotHeld(RunState),
}

/// What was decided, and about which step.
pub(crate) struct Decision {
    pub(crate) step_id: String,
    /// `None`: it is skipped.
    pub(crate) outcome: Option<StepOutcome>,
}

impl Runner {
    /// Carries out what was decided about the step at the cursor.
    pub(super) async fn resolve(
        &mut self,
        decision: Decision,
        reply: Reply<ResolveOutcome>,
    ) -> Result<Option<Flow>, PlanError> {
        let at = self.watch.at.get();
        if at.state != RunState::Held {
            let _ = reply.send(Ok(ResolveOutcome::NotHeld(at.state)));
            return Ok(None);
        }
        let input = match self.decided(decision) {
            Ok(input) => input,
            Err(error) => {
                let _ = reply.send(Err(error));
                return Ok(None);
            }
        };
        let (decided, produced) = input;
        let Some(decision) = self.decide(Input::Resolve(decided)) else {
            return Err(self.interrupted("its state machine had no answer to what was decided"));
        };
        match self.move_with(decision, produced).await {
            Ok(()) => {
                let _ = reply.send(Ok(ResolveOutcome::Resolved));
                Ok(Some(Flow::Moved))
            }
            Err(error) => {
                let _ = reply.send(Err(ControlError::Memory(error.clone())));
                if error.wrote_nothing() {
                    return Ok(None);
                }
                Err(PlanError::from_memory(self.scope.run_id.clone(), error))
            }
        }
    }

    fn decided(&self, decision: Decision) -> Result<(Decided, Yield), ControlError> {
        let (run_id, cursor) = (&self.scope.run_id, self.watch.at.get().cursor);
        let held = self.plan().get(cursor).map(|step| Arc::clone(&step.id)).unwrap_or_default();
        if *held != *decision.step_id {
            let (run_id, step_id, held) = (run_id.clone(), decision.step_id, held.to_string());
            return Err(ControlError::OtherStep { run_id, step_id, held });
        }
        let refused = |source| ControlError::Refused { run_id: run_id.clone(), source };
        Ok(match decision.outcome {
            None => (Decided::Skipped, skip(cursor, &held).map_err(refused)?),
            Some(StepOutcome::Rerun) => (Decided::Rerun(self.clock.now()), Yield::default()),
            Some(StepOutcome::Failed(reason)) => {
                self.scope.know_secrets().map_err(refused)?;
                let failed = StepError::from(self.scope.clean_text(&reason));
                let failure = StepFailure::record(FailureKind::Error, &*failed);
                (Decided::Failed(Arc::new(failure)), Yield::default())
            }
            Some(StepOutcome::Completed(output)) => {
                let output = output.into_output().map_err(refused)?;
                // What is a secret of the plan is one whoever says it.
                let output = self.scope.clean_given(output).map_err(refused)?;
                let produced = produce(cursor, &held, &output, Vec::new()).map_err(refused)?;
                (Decided::Completed(output), produced)
            }
        })
    }
}

impl ExecutionOrchestrator {
    fn decide(
        &mut self,
        run_id: RunId,
        decision: Decision,
        ctx: &mut Context<Self>,
    ) -> oneshot::Receiver<Result<ResolveOutcome, ControlError>> {
        if !self.is_here(&run_id) {
            self.catch_up(ctx);
        }
        let (reply, answer) = oneshot::channel();
        self.steer(run_id, Request::Resolve(decision, reply), ctx);
        answer
    }
}

impl Handler<ResolveStep> for ExecutionOrchestrator {
    type Result = ResponseFuture<Result<ResolveOutcome, ControlError>>;

    fn handle(&mut self, resolve: ResolveStep, ctx: &mut Self::Context) -> Self::Result {
        let ResolveStep { run_id, step_id, outcome } = resolve;
        let answer = self.decide(run_id, Decision { step_id, outcome: Some(outcome) }, ctx);
        Box::pin(async move { answer.await.unwrap_or(Err(ControlError::Stopped)) })
    }
}

impl Handler<SkipStep> for ExecutionOrchestrator {
    type Result = ResponseFuture<Result<ResolveOutcome, ControlError>>;

    fn handle(&mut self, skip: SkipStep, ctx: &mut Self::Context) -> Self::Result {
        let SkipStep { run_id, step_id } = skip;
        let answer = self.decide(run_id, Decision { step_id, outcome: None }, ctx);
        Box::pin(async move { answer.await.unwrap_or(Err(ControlError::Stopped)) })
    }
}
