//! Drives one run: commits what the machine decided, then calls the step, until the run is over.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use actix::dev::RecipientRequest;
use serde_json::Value;
use tokio::sync::oneshot;

use super::control::Cancelled;
use super::error::PlanError;
use super::invoke::Call;
use super::links::{Links, stored};
use super::machine::{self, Decision, Input, Position};
use super::messages::CancelOutcome;
use crate::artifact::{ArtifactData, task_key, task_result};
use crate::memory::{Claim, Commit, MemoryError, NewArtifact, RunUpdate};
use crate::plan::{Callable, CheckedPlan, Output, RunScope, StagedArtifact, StepError, to_data};
use crate::project::Project;
use crate::run::{Durability, FailureKind, RunId, RunState, StepFailure};

pub(crate) type Outcome = Result<Vec<Value>, PlanError>;

/// What the actor sees of a run while it goes on: they share a thread.
pub(crate) struct Watch {
    pub(crate) at: Cell<Position>,
    /// When the attempt in flight was started.
    pub(crate) since: Cell<Option<SystemTime>>,
    /// Who cancelled it, and is told when the run has stored that it is stopping, or else when it ends.
    pub(crate) cancels: RefCell<Vec<oneshot::Sender<Cancelled>>>,
    /// Who is to be told that the run is accepted, while that has still to be stored.
    accepts: RefCell<Vec<oneshot::Sender<Result<(), PlanError>>>>,
}

impl Watch {
    pub(crate) fn new(at: Position, accepts: Vec<oneshot::Sender<Result<(), PlanError>>>) -> Rc<Self> {
        let (at, since, accepts) = (Cell::new(at), Cell::new(None), RefCell::new(accepts));
        Rc::new(Self { at, since, cancels: RefCell::default(), accepts })
    }

    /// Tells one more that the run is accepted, as soon as it is.
    pub(crate) fn accepted_by(&self, caller: oneshot::Sender<Result<(), PlanError>>) {
        if self.since.get().is_some() {
            let _ = caller.send(Ok(()));
        } else {
            self.accepts.borrow_mut().push(caller);
        }
    }

    fn accepted(&self, accepted: &Result<(), PlanError>) {
        for caller in self.accepts.take() {
            let _ = caller.send(accepted.clone());
        }
    }
}

pub(crate) struct Runner {
    pub(crate) links: Rc<Links>,
    pub(crate) scope: Arc<RunScope>,
    pub(crate) project: Project,
    pub(crate) callables: Vec<Callable>,
    pub(crate) durability: Option<Durability>,
    pub(crate) watch: Rc<Watch>,
    /// The right to run it: nobody else gets it until this is dropped, which is when no code of a step runs any more.
    pub(crate) claim: Claim,
}

/// What goes into the next commit, besides the decision.
#[derive(Default)]
struct Yield {
    output: Option<(usize, Output)>,
    artifacts: Vec<NewArtifact>,
}

/// A decision on its way to memory.
pub(crate) struct Sent {
    pub(crate) to: Position,
    pub(crate) request: RecipientRequest<Box<Commit>>,
    output: Option<Output>,
}

impl Sent {
    /// A decision that completes no step.
    pub(crate) fn new(to: Position, request: RecipientRequest<Box<Commit>>) -> Self {
        Self { to, request, output: None }
    }
}

/// How an attempt ended.
enum Attempt {
    Returned {
        output: Output,
        produced: Yield,
    },
    Failed(StepError),
    /// Its future was dropped, or it was not called at all.
    Dropped,
}

impl Runner {
    /// Runs the plan from its first commit, which the actor has sent, to its end.
    pub(crate) async fn run(mut self, first: Sent) -> Outcome {
        let outcome = self.drive(first).await;
        if let Err(error) = &outcome {
            self.watch.accepted(&Err(error.clone()));
        }
        outcome
    }

    async fn drive(&mut self, mut sent: Sent) -> Outcome {
        let mut error = None;
        loop {
            let (is_last, completes) = (sent.to.state.is_final(), sent.output.is_some());
            let (decision, produced);
            match self.stored(sent).await {
                Ok(()) if is_last => return self.outcome(error),
                Ok(()) => {
                    (decision, produced, error) = match self.attempt().await? {
                        Attempt::Returned { output, produced } => {
                            let cancelled = self.scope.cancellation.is_cancelled();
                            (self.decide(Input::Completed { output, cancelled }), produced, None)
                        }
                        Attempt::Failed(error) => (self.failed(&error), Yield::default(), Some(error)),
                        Attempt::Dropped => (self.decide(Input::Cancel), Yield::default(), None),
                    };
                }
                // What a step wants to store may be refused: its own failure. Anything else is the end of the run.
                Err(refused) if refused.wrote_nothing() && completes => {
                    let refused = StepError::of_kind(FailureKind::Artifact, refused);
                    (decision, produced) = (self.failed(&refused), Yield::default());
                    error = Some(refused);
                }
                Err(failed) => return Err(PlanError::from_memory(self.scope.run_id.clone(), failed)),
            }
            // The machine answers every input that is given here; were it not to, the run must not go on.
            let decision = decision.ok_or_else(|| self.interrupted("its state machine had no answer"))?;
            sent = self.send(decision, produced);
        }
    }

    fn plan(&self) -> &Arc<CheckedPlan> {
        &self.scope.plan
    }

    fn decide(&self, input: Input) -> Option<Decision> {
        machine::decide(self.plan(), self.watch.at.get(), input)
    }

    fn failed(&self, error: &StepError) -> Option<Decision> {
        self.decide(Input::Failed(Arc::new(StepFailure::record(error.kind(), &**error))))
    }

    fn send(&self, decision: Decision, produced: Yield) -> Sent {
        let to = decision.to;
        let mut commit = commit_of(&self.scope.run_id, &self.project, self.durability, decision);
        let output = produced.output.as_ref().map(|(_, output)| output.clone());
        (commit.output, commit.artifacts) = (produced.output, produced.artifacts);
        Sent { to, request: self.links.commit.send(commit), output }
    }

    /// Waits until a decision is stored, and only then moves on.
    async fn stored(&mut self, sent: Sent) -> Result<(), MemoryError> {
        let committed = stored(sent.request).await?;
        self.watch.at.set(sent.to);
        self.watch.since.set(Some(committed.at));
        if let Some(output) = sent.output {
            self.scope.push_output(output);
        }
        self.watch.accepted(&Ok(()));
        Ok(())
    }

    /// Calls the step at the cursor, unless the run has been cancelled meanwhile.
    async fn attempt(&mut self) -> Result<Attempt, PlanError> {
        let Position { cursor, attempt, .. } = self.watch.at.get();
        let (Some(step), Some(callable)) = (self.scope.plan.get(cursor), self.callables.get(cursor)) else {
            return Err(self.interrupted("a step had no callable"));
        };
        if self.scope.cancellation.is_cancelled() {
            return Ok(Attempt::Dropped);
        }
        let (run_id, step_id) = (self.scope.run_id.as_str(), &*step.id);
        let began = log::log_enabled!(target: "lunacore::run", log::Level::Debug).then(Instant::now);
        let context = self.scope.open_attempt(cursor, attempt);
        let mut call = Call::start(callable, step.step.is_inline(), context, &self.claim);
        let result = match call.result(&self.scope.cancellation).await {
            Some(result) => result,
            None if call.abandon() => {
                drop(self.scope.take_staged());
                return Ok(Attempt::Dropped);
            }
            None => {
                log::debug!(
                    target: "lunacore::run", run_id, step_id, attempt;
                    "run {run_id} is cancelled and waits for the blocking code of step {step_id}"
                );
                // Whether or not that can be stored, nothing else runs until the code has ended.
                let stopping = self.stop().await;
                let result = call.end().await;
                stopping?;
                result
            }
        };
        if let Some(began) = began {
            let (duration, ok) = (humantime::format_duration(began.elapsed()).to_string(), result.is_ok());
            let (ended, duration) = (if ok { "completed" } else { "failed" }, duration.as_str());
            log::debug!(
                target: "lunacore::run", run_id, step_id, attempt, duration, ok;
                "step {step_id} of run {run_id} {ended} at attempt {attempt} after {duration}"
            );
        }
        let staged = self.scope.take_staged();
        Ok(match result {
            Err(error) => Attempt::Failed(error),
            Ok(output) => match produce(cursor, &step.id, &output, staged) {
                Ok(produced) => Attempt::Returned { output, produced },
                Err(error) => Attempt::Failed(error),
            },
        })
    }

    /// Stores that the run is stopping, then tells those who cancelled it.
    async fn stop(&self) -> Result<(), PlanError> {
        let Some(decision) = self.decide(Input::Stop) else { return Ok(()) };
        let Sent { to, request, .. } = self.send(decision, Yield::default());
        let committed = stored(request).await;
        committed.map_err(|error| PlanError::from_memory(self.scope.run_id.clone(), error))?;
        self.watch.at.set(to);
        for cancel in self.watch.cancels.take() {
            let _ = cancel.send(Ok(CancelOutcome::Stopping));
        }
        Ok(())
    }

    fn outcome(&self, error: Option<StepError>) -> Outcome {
        let Position { state, cursor, attempt } = self.watch.at.get();
        let (run_id, completed) = (self.scope.run_id.clone(), self.scope.outputs());
        match (state, error) {
            (RunState::Completed, _) => Ok(completed),
            (RunState::Failed, Some(source)) => Err(PlanError::StepFailed {
                run_id,
                step_id: self.plan().get(cursor).map_or_else(String::new, |step| step.id.to_string()),
                index: cursor,
                attempt,
                kind: source.kind(),
                completed,
                source,
            }),
            _ => Err(PlanError::Cancelled { run_id, completed }),
        }
    }

    fn interrupted(&self, reason: &str) -> PlanError {
        log::error!(target: "lunacore::run", run_id = self.scope.run_id.as_str(); "interrupted: {reason}");
        PlanError::Interrupted { run_id: self.scope.run_id.clone(), reason: reason.to_owned() }
    }
}

/// The commit of a decision that produces nothing yet.
pub(crate) fn commit_of(
    run_id: &RunId,
    project: &Project,
    durability: Option<Durability>,
    decision: Decision,
) -> Box<Commit> {
    let Decision { to, failure, reason, events } = decision;
    let mut update = RunUpdate::new(to.state, to.cursor, to.attempt);
    (update.failure, update.reason) = (failure, reason);
    let mut commit = Box::new(Commit::new(run_id.clone(), project.clone(), update));
    commit.events = events;
    commit.durability = durability;
    commit
}

/// What a completed step leaves: its output, its artifact, and the artifacts that it staged.
fn produce(
    index: usize,
    step_id: &Arc<str>,
    output: &Output,
    staged: Vec<StagedArtifact>,
) -> Result<Yield, StepError> {
    let data = to_data(output)?;
    let new = |key: String, artifact_type: Arc<str>, data: ArtifactData| {
        NewArtifact::new(key, artifact_type, (index, Arc::clone(step_id)), data)
    };
    let mut artifacts = Vec::with_capacity(1 + staged.len());
    artifacts.push(new(task_key(step_id), task_result(), data));
    artifacts
        .extend(staged.into_iter().map(|StagedArtifact { key, data }| new(key, Arc::from("data"), data)));
    Ok(Yield { output: Some((index, output.clone())), artifacts })
}
