//! Drives one run: commits what the machine decided, then does what its state asks for, until the run is over.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use actix::WeakAddr;
use actix::dev::RecipientRequest;
use serde_json::Value;
use tokio::sync::oneshot;

use super::actor::ExecutionOrchestrator;
use super::breakers::{self, BreakerSet, Change, Gate};
use super::deciding::{self, StepOutcome};
use super::error::{ControlError, PlanError};
use super::internal::Callables;
use super::limit::Deadline;
use super::links::{Links, stored};
use super::machine::{self, Ahead, Decision, Input, Known, Position};
use super::messages::{PauseOutcome, ResumeOutcome, RetryOutcome};
use super::outcome::{SHUT_DOWN, left};
use super::permits::{self, LimitSet};
pub(super) use super::produced::{Yield, of_step, produce, skip};
use super::watch::{Reply, Request, Watch};
use crate::clock::Clock;
use crate::memory::{Claim, Commit, MemoryError, RunUpdate};
use crate::plan::{CheckedPlan, Output, Policy, RunScope, StepError};
use crate::project::Project;
use crate::run::{Durability, FailureKind, RunId, RunState, StepFailure, Undoing};

pub(crate) type Outcome = Result<Vec<Value>, PlanError>;

/// Gives a number from 0 to 1, for jitter.
pub(crate) type Random = Rc<dyn Fn() -> f64>;

pub(crate) struct Runner {
    pub(crate) links: Rc<Links>,
    /// Whom to ask for a slot.
    pub(crate) orchestrator: WeakAddr<ExecutionOrchestrator>,
    pub(crate) scope: Arc<RunScope>,
    pub(crate) project: Project,
    pub(crate) callables: Callables,
    pub(crate) durability: Option<Durability>,
    pub(crate) deadline: Option<Deadline>,
    pub(crate) breakers: BreakerSet,
    pub(crate) limits: LimitSet,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    pub(crate) watch: Rc<Watch>,
    /// The right to run it: nobody else gets it until this is dropped, which is when no code of a step runs any more.
    pub(crate) claim: Claim,
    /// Whether it holds a slot.
    pub(crate) slot: bool,
    /// What the next attempt, or the one in flight, has got from its breaker and its limit.
    pub(crate) gate: Gate,
    /// Changes of breakers that go into the next commit, and the one after that if it is refused: they have happened.
    pub(crate) changes: Vec<Change>,
}

/// A decision on its way to memory.
pub(crate) struct Sent {
    request: RecipientRequest<Box<Commit>>,
    then: Then,
}

/// Where a run stands once its commit is stored.
pub(super) struct Then {
    to: Position,
    failure: Option<Arc<StepFailure>>,
    undoing: Option<Arc<Undoing>>,
    output: Option<Output>,
    signal: Option<u64>,
    /// The step that this skips.
    skips: Option<usize>,
}

impl Sent {
    /// A decision that completes no step.
    pub(crate) fn new(
        to: Position,
        failure: Option<Arc<StepFailure>>,
        undoing: Option<Arc<Undoing>>,
        request: RecipientRequest<Box<Commit>>,
    ) -> Self {
        Self { request, then: Then { to, failure, undoing, output: None, signal: None, skips: None } }
    }
}

/// What a state came to.
pub(super) enum Flow {
    /// This happened.
    Turn(Turn),
    /// Somebody has moved the run to another state, which is stored.
    Moved,
}

pub(super) struct Turn {
    pub(super) input: Input,
    pub(super) produced: Yield,
    pub(super) error: Option<StepError>,
}

impl From<Input> for Flow {
    fn from(input: Input) -> Self {
        Self::Turn(Turn { input, produced: Yield::default(), error: None })
    }
}

impl Runner {
    /// Runs the plan from its first commit, which the actor has sent, to its end. Without one it begins where it stands.
    pub(crate) async fn run(mut self, first: Option<Sent>) -> Outcome {
        let outcome = self.drive(first).await;
        if let Err(error) = &outcome {
            self.watch.accepted(&Err(error.clone()));
        }
        outcome
    }

    async fn drive(&mut self, first: Option<Sent>) -> Outcome {
        if let Some(first) = first {
            match stored(first.request.await) {
                Ok(committed) => self.move_on(first.then, committed.at),
                Err(failed) => return Err(PlanError::from_memory(self.scope.run_id.clone(), failed)),
            }
        }
        let mut error = None;
        loop {
            let flow = match self.watch.at.get().state {
                RunState::Running if !self.watch.at.get().step.verifying => self.attempt().await?,
                // What is rare is boxed: else the task of every run would have room for it.
                RunState::Running => Box::pin(self.verify()).await?,
                RunState::BackingOff => Box::pin(self.back_off()).await?,
                RunState::Queued | RunState::Parked | RunState::Paused | RunState::Held => {
                    Box::pin(self.stand_aside()).await?
                }
                RunState::Sleeping | RunState::AwaitingSignal => Box::pin(self.wait_out()).await?,
                RunState::Compensating => Box::pin(self.compensate()).await?,
                // Only after a restart: the code that had come to its limit is gone with its process.
                RunState::Stopping => match self.watch.failure.take() {
                    Some(failure) if self.watch.at.get().step.verifying => {
                        self.not_verified(StepError::recorded(&failure))
                    }
                    Some(failure) => Flow::Turn(self.failed(StepError::recorded(&failure))),
                    None => Input::Resume(Ahead::Go, self.clock.now()).into(),
                },
                // It is to be held, for which it needs no slot.
                RunState::Interrupted => Input::Resume(Ahead::Go, self.clock.now()).into(),
                state if state.is_final() => return self.outcome(error),
                _ => return Err(self.interrupted("it came to a state that nothing leads out of")),
            };
            if let Flow::Turn(turn) = flow {
                error = self.take(turn).await?;
            }
        }
    }

    /// Decides what follows, stores it, and moves on. Answers the error that it came from, if that was one.
    async fn take(&mut self, mut turn: Turn) -> Result<Option<StepError>, PlanError> {
        loop {
            let (error, completes) = (turn.error, turn.produced.completes());
            let skips = matches!(turn.input, Input::Skip(_));
            // The machine answers every input that is given here; were it not to, the run must not go on.
            let decision = self.decide(turn.input);
            let decision = decision.ok_or_else(|| self.interrupted("its state machine had no answer"))?;
            let sent = self.send(decision, turn.produced);
            match stored(sent.request.await) {
                Ok(committed) => {
                    self.move_on(sent.then, committed.at);
                    return Ok(error);
                }
                // What a step wants to store may be refused: its own failure. Anything else is the end of the run.
                Err(refused) if refused.wrote_nothing() && completes => {
                    let refused = StepError::of_kind(FailureKind::Artifact, refused);
                    self.gate = Gate::default();
                    turn =
                        if error.is_some() || skips { self.aborted(refused) } else { self.failed(refused) };
                }
                Err(failed) => return Err(PlanError::from_memory(self.scope.run_id.clone(), failed)),
            }
        }
    }

    pub(super) fn plan(&self) -> &Arc<CheckedPlan> {
        &self.scope.plan
    }

    /// The policy of the step at the cursor.
    pub(super) fn policy(&self) -> Option<&Policy> {
        self.plan().policy(self.watch.at.get().cursor)
    }

    pub(super) fn decide(&self, input: Input) -> Option<Decision> {
        let (failure, undoing) = (self.watch.failure.borrow(), self.watch.undoing.borrow());
        let skipped = self.watch.skipped.borrow();
        let known = Known { failure: failure.as_ref(), undoing: undoing.as_ref(), skipped: &skipped };
        machine::decide(self.plan(), self.watch.at.get(), &known, input)
    }

    pub(super) fn send(&mut self, decision: Decision, produced: Yield) -> Sent {
        let (to, failure, undoing) = (decision.to, decision.failure.clone(), decision.undoing.clone());
        let mut commit = commit_of(&self.scope.run_id, &self.project, self.durability, decision);
        let (output, skips) = (produced.output(), produced.skips());
        let signal = produced.into_commit(&mut commit);
        breakers::tell(&self.changes, &mut commit);
        let then = Then { to, failure, undoing, output, signal, skips };
        Sent { request: self.links.commit.send(commit), then }
    }

    /// Waits until a decision is stored, and only then moves on.
    pub(super) async fn stored(&mut self, sent: Sent) -> Result<(), MemoryError> {
        let committed = stored(sent.request.await)?;
        self.move_on(sent.then, committed.at);
        Ok(())
    }

    /// Moves to where the run stands now that its decision is stored.
    fn move_on(&mut self, then: Then, at: SystemTime) {
        let mut to = then.to;
        if to.state == RunState::Running {
            to.step.since.get_or_insert(at);
        }
        self.watch.at.set(to);
        self.watch.since.set(Some(at));
        self.watch.failure.replace(then.failure);
        self.watch.undoing.replace(then.undoing);
        if let Some(skipped) = then.skips {
            self.watch.skipped.borrow_mut().push(skipped);
        }
        self.changes.clear();
        if let Some(output) = then.output {
            self.scope.push_output(output);
        }
        if let Some(taken) = then.signal {
            self.watch.signals.borrow_mut().take(taken);
        }
        self.watch.accepted(&Ok(()));
    }

    /// Stores a decision that comes from outside, while the run is at something.
    pub(super) async fn move_to(&mut self, decision: Decision) -> Result<(), MemoryError> {
        self.move_with(decision, Yield::default()).await
    }

    /// The same, with what it produces.
    pub(super) async fn move_with(&mut self, decision: Decision, produced: Yield) -> Result<(), MemoryError> {
        let sent = self.send(decision, produced);
        let since = self.watch.since.get();
        let was_running = self.watch.at.get().state == RunState::Running;
        self.stored(sent).await?;
        if was_running {
            // The attempt in flight goes on.
            self.watch.since.set(since);
        }
        Ok(())
    }

    /// What stands before the next attempt of the step at `cursor`. What it has got from breaker and limit is kept.
    pub(super) fn ahead(&mut self, cursor: usize, trial: bool) -> Ahead {
        if self.plan().wait(cursor).is_some() {
            return Ahead::Wait(self.clock.now());
        }
        if self.plan().policy(cursor).is_none() {
            return Ahead::Go;
        }
        let (guards, place) = ((&self.breakers, &self.limits), self.gate.place.take());
        let (ahead, mut gate) =
            permits::ahead(guards, &self.scope.plan, cursor, self.clock.now(), trial, place);
        self.changes.extend(gate.change.take());
        self.gate = gate;
        ahead
    }

    /// A step has completed.
    pub(super) fn completed(&mut self, output: Output, produced: Yield) -> Turn {
        let at = self.watch.at.get();
        let cancelled = self.scope.cancellation.is_cancelled();
        let ahead = if cancelled || at.pausing { Ahead::Go } else { self.next(at.cursor + 1, &output) };
        Turn { input: Input::Completed { output, cancelled, ahead }, produced, error: None }
    }

    /// Waits until a time. For ever, without one.
    pub(super) async fn until(&self, time: Option<SystemTime>) {
        match time {
            Some(time) => tokio::time::sleep(time.duration_since(self.clock.now()).unwrap_or_default()).await,
            None => std::future::pending().await,
        }
    }

    /// Carries out what somebody asked for.
    pub(super) async fn serve(&mut self, request: Request) -> Result<Option<Flow>, PlanError> {
        let at = self.watch.at.get();
        match request {
            Request::Reopen(retrier) if at.state == RunState::Held => Box::pin(self.reopen(*retrier)).await,
            Request::Reopen(retrier) => {
                retrier.too_late(at.state);
                Ok(None)
            }
            Request::Leave if self.slot => Ok(None),
            Request::Leave => Err(left(self.scope.run_id.clone(), at.state, SHUT_DOWN)),
            Request::Resolve(decision, reply) => Box::pin(self.resolve(decision, reply)).await,
            Request::RetryNow(reply) if at.state == RunState::Held => {
                let (resolved, outcome) = oneshot::channel();
                let step_id = self.plan().get(at.cursor).map_or_else(String::new, |step| step.id.to_string());
                let rerun = deciding::Decision { step_id, outcome: Some(StepOutcome::Rerun) };
                let flow = Box::pin(self.resolve(rerun, resolved)).await;
                let answer = outcome.await.unwrap_or(Err(ControlError::Stopped));
                let _ = reply.send(answer.map(|_| RetryOutcome::Retrying));
                flow
            }
            Request::RetryNow(reply) => {
                let waits = matches!(at.state, RunState::BackingOff | RunState::Parked);
                let outcome = if waits { RetryOutcome::Retrying } else { RetryOutcome::NotWaiting(at.state) };
                let _ = reply.send(Ok(outcome));
                Ok(waits.then_some(Flow::Moved))
            }
            Request::Pause(reply) => match self.decide(Input::Pause) {
                None => {
                    let _ = reply.send(Ok(PauseOutcome::of(at)));
                    Ok(None)
                }
                Some(decision) => {
                    let answer = PauseOutcome::of(decision.to);
                    self.carry_out(decision, reply, answer).await
                }
            },
            Request::Resume(reply) => match self.decide(Input::Unpause) {
                None => {
                    let _ = reply.send(Ok(ResumeOutcome::NotPaused(at.state)));
                    Ok(None)
                }
                Some(decision) => self.carry_out(decision, reply, ResumeOutcome::Resumed).await,
            },
        }
    }

    async fn carry_out<T>(
        &mut self,
        decision: Decision,
        reply: Reply<T>,
        answer: T,
    ) -> Result<Option<Flow>, PlanError> {
        let moves = decision.to.state != self.watch.at.get().state;
        match self.move_to(decision).await {
            Ok(()) => {
                let _ = reply.send(Ok(answer));
                Ok(moves.then_some(Flow::Moved))
            }
            Err(error) => {
                let _ = reply.send(Err(ControlError::Memory(error.clone())));
                Err(PlanError::from_memory(self.scope.run_id.clone(), error))
            }
        }
    }

    pub(super) fn interrupted(&self, reason: &str) -> PlanError {
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
    let Decision { to, failure, reason, undoing, events } = decision;
    let mut update = RunUpdate::new(to.state, to.cursor, to.attempt);
    (update.step, update.pausing, update.failure, update.reason) = (to.step, to.pausing, failure, reason);
    update.undoing = undoing;
    let mut commit = Box::new(Commit::new(run_id.clone(), project.clone(), update));
    commit.events = events;
    commit.durability = durability;
    commit
}
