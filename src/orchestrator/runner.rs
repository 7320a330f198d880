//! Drives one run: commits what the machine decided, then calls the step, until the run is over.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use serde_json::Value;
use tokio::sync::oneshot;

use super::error::PlanError;
use super::invoke::Call;
use super::links::{Links, stored};
use super::machine::{self, Decision, Input, Next, Position};
use super::messages::CancelOutcome;
use crate::artifact::{ArtifactData, Project, task_key, task_result};
use crate::memory::{Commit, MemoryError, NewArtifact, NewRun, RunUpdate};
use crate::plan::{Callable, CheckedPlan, Output, RunScope, StagedArtifact, StepError, check_size};
use crate::run::{FailureKind, RunState, StepFailure};

pub(crate) type Outcome = Result<Vec<Value>, PlanError>;

/// What the actor sees of a run while it goes on: they share a thread.
pub(crate) struct Watch {
    pub(crate) at: Cell<Position>,
    /// When the attempt in flight was started.
    pub(crate) since: Cell<Option<SystemTime>>,
    /// Who is to be told when the run has stored that it is stopping.
    pub(crate) stop_waiters: RefCell<Vec<oneshot::Sender<CancelOutcome>>>,
}

impl Watch {
    pub(crate) fn new() -> Rc<Self> {
        let at = Position { state: RunState::Queued, cursor: 0, attempt: 0 };
        Rc::new(Self { at: Cell::new(at), since: Cell::new(None), stop_waiters: RefCell::default() })
    }
}

pub(crate) struct Runner {
    pub(crate) links: Rc<Links>,
    pub(crate) scope: Arc<RunScope>,
    pub(crate) project: Project,
    pub(crate) callables: Vec<Callable>,
    pub(crate) watch: Rc<Watch>,
    /// Told once the run is accepted, when that has still to be stored.
    pub(crate) accepted: Option<oneshot::Sender<Result<(), PlanError>>>,
}

/// What goes into the next commit, besides the decision.
#[derive(Default)]
struct Yield {
    output: Option<(usize, Output)>,
    artifacts: Vec<NewArtifact>,
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
    /// Runs the plan from the beginning. `accepted` tells whether its acceptance is stored.
    pub(crate) async fn run(mut self, accepted: bool) -> Outcome {
        let decision = if accepted {
            machine::decide(self.plan(), self.watch.at.get(), Input::Start)
        } else {
            Some(machine::accept(self.plan(), true))
        };
        let outcome = self.drive(decision, !accepted).await;
        if let (Some(accepted), Err(error)) = (self.accepted.take(), &outcome) {
            let _ = accepted.send(Err(error.clone()));
        }
        outcome
    }

    async fn drive(&mut self, mut decision: Option<Decision>, mut accept: bool) -> Outcome {
        let mut produced = Yield::default();
        let mut error = None;
        loop {
            // The machine answers every input that is given here; were it not to, the run must not go on.
            let Some(Decision { to, failure, events, next }) = decision else {
                return Err(self.interrupted("its state machine had no answer"));
            };
            let mut commit = self.commit_to(to, failure, produced, events);
            if std::mem::take(&mut accept) {
                let new = NewRun::new(self.plan().name().cloned(), self.plan().step_ids());
                commit.accept = Some(Box::new(new));
            }
            if let Err(refused) = self.store(commit, to).await {
                // A refused artifact is the step's own failure; anything else is the end of the run.
                if self.watch.at.get().attempt == 0 || !refused.wrote_nothing() {
                    return Err(PlanError::from_memory(self.scope.run_id.clone(), refused));
                }
                let refused = StepError::of_kind(FailureKind::Artifact, refused);
                decision = self.failed(&refused);
                (error, produced) = (Some(refused), Yield::default());
                continue;
            }
            if next == Next::Finish {
                return self.outcome(error);
            }
            (decision, produced, error) = match self.attempt().await? {
                Attempt::Returned { output, produced } => {
                    let cancelled = self.scope.cancellation.is_cancelled();
                    (self.decide(Input::Completed { output, cancelled }), produced, None)
                }
                Attempt::Failed(error) => (self.failed(&error), Yield::default(), Some(error)),
                Attempt::Dropped => (self.decide(Input::Cancel), Yield::default(), None),
            };
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

    fn commit_to(
        &self,
        to: Position,
        failure: Option<Arc<StepFailure>>,
        produced: Yield,
        events: Vec<crate::event::EventKind>,
    ) -> Commit {
        let mut update = RunUpdate::new(to.state, to.cursor, to.attempt);
        update.failure = failure;
        let mut commit = Commit::new(self.scope.run_id.clone(), self.project.clone(), update);
        (commit.output, commit.artifacts, commit.events) = (produced.output, produced.artifacts, events);
        commit
    }

    /// Commits, and only then moves on.
    async fn store(&mut self, commit: Commit, to: Position) -> Result<(), MemoryError> {
        let output = commit.output.as_ref().map(|(_, output)| output.clone());
        let committed = stored(self.links.commit.send(commit)).await?;
        self.watch.at.set(to);
        self.watch.since.set(Some(committed.at));
        if let Some(output) = output {
            self.scope.push_output(output);
        }
        if let Some(accepted) = self.accepted.take() {
            let _ = accepted.send(Ok(()));
        }
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
        let mut call = Call::start(callable, step.step.is_inline(), self.scope.open_attempt(cursor, attempt));
        let result = match call.result(&self.scope.cancellation).await {
            Some(result) => result,
            None if call.abandon() => {
                drop(self.scope.take_staged());
                return Ok(Attempt::Dropped);
            }
            None => {
                log::debug!(target: "lunacore::run", run_id, step_id, attempt; "waiting for blocking code to stop");
                self.stop().await?;
                call.end().await
            }
        };
        if let Some(began) = began {
            let (duration, ok) = (humantime::format_duration(began.elapsed()).to_string(), result.is_ok());
            log::debug!(target: "lunacore::run", run_id, step_id, attempt, duration = duration.as_str(), ok; "attempt ended");
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
        let Some(Decision { to, failure, events, .. }) = self.decide(Input::Stop) else { return Ok(()) };
        let commit = self.commit_to(to, failure, Yield::default(), events);
        let committed = stored(self.links.commit.send(commit)).await;
        committed.map_err(|error| PlanError::from_memory(self.scope.run_id.clone(), error))?;
        self.watch.at.set(to);
        for waiter in self.watch.stop_waiters.take() {
            let _ = waiter.send(CancelOutcome::Stopping);
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

/// What a completed step leaves: its output, its artifact, and the artifacts that it staged.
fn produce(
    index: usize,
    step_id: &Arc<str>,
    output: &Output,
    staged: Vec<StagedArtifact>,
) -> Result<Yield, StepError> {
    let text = check_size(output)?;
    let data = match output {
        Output::Bytes(bytes) => ArtifactData::Bytes(bytes.clone()),
        Output::Json(_) => ArtifactData::Text(Arc::from(text)),
    };
    let new = |key: String, artifact_type: Arc<str>, data: ArtifactData| {
        NewArtifact::new(key, artifact_type, (index, Arc::clone(step_id)), data)
    };
    let mut artifacts = Vec::with_capacity(1 + staged.len());
    artifacts.push(new(task_key(step_id), task_result(), data));
    artifacts
        .extend(staged.into_iter().map(|StagedArtifact { key, data }| new(key, Arc::from("data"), data)));
    Ok(Yield { output: Some((index, output.clone())), artifacts })
}
