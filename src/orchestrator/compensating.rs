//! How a run undoes what its steps did: attempt by attempt, each stored before it is made and again when it is over.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Instant, SystemTime};

use actix::Context;

use super::actor::ExecutionOrchestrator;
use super::attempt::Heard;
use super::error::PlanError;
use super::internal::Undoes;
use super::invoke::Call;
use super::limit::{self, Limit};
use super::line::Ticket;
use super::machine::{AfterUndo, Input, Position, Undo};
use super::messages::CancelOutcome;
use super::outcome::{SHUT_DOWN, left};
use super::runner::{Flow, Runner, Yield, of_step};
use super::shutdown::Closing;
use super::watch::Leaving;
use crate::limits::TIMEOUT_GRACE;
use crate::memory::{FoundRun, NewArtifact};
use crate::plan::{Compensation, LimitExceeded, Output, Policy, Role, StagedArtifact, StepError};
use crate::resilience::Failed;
use crate::run::{FailureKind, RunState, StepFailure, Undoing};

type Undone = Result<Vec<StagedArtifact>, StepError>;

impl Runner {
    /// Makes the next attempt to undo a step, as soon as it may be made.
    pub(super) async fn compensate(&mut self) -> Result<Flow, PlanError> {
        for cancelled in self.watch.cancels.take() {
            let _ = cancelled.send(Ok(CancelOutcome::Compensating));
        }
        self.gate = super::breakers::Gate::default();
        if !self.slot {
            self.gain_a_slot().await?;
        }
        self.rest().await?;
        let now = self.clock.now();
        let begun = self.decide(Input::Undo(Undo::Begin(now)));
        let begun = begun.ok_or_else(|| self.interrupted("it had nothing to undo"))?;
        self.moved_to(begun).await?;
        let Some(undoing) = self.watch.undoing.borrow().clone() else {
            return Err(self.interrupted("what it had to undo was lost"));
        };
        let undone = self.undo(&undoing).await?;
        self.store(&undoing, undone).await?;
        Ok(Flow::Moved)
    }

    /// A run that waited for something else has given its slot back.
    async fn gain_a_slot(&mut self) -> Result<(), PlanError> {
        let mut granted = self.ask_for_a_slot();
        loop {
            if self.watch.leaving.get() != Leaving::No {
                return Err(left(self.scope.run_id.clone(), RunState::Compensating, SHUT_DOWN));
            }
            tokio::select! {
                biased;
                request = self.request() => drop(self.serve(request).await?),
                granted = &mut granted => match granted {
                    Ok(()) => break,
                    // An orchestrator that is gone gives no slots.
                    Err(_) => std::future::pending::<()>().await,
                },
            }
        }
        self.slot = true;
        Ok(())
    }

    /// Waits for the time of the next attempt, with its slot. Here, and nowhere else, the run may be left as it is stored.
    async fn rest(&mut self) -> Result<(), PlanError> {
        let until = self.watch.undoing.borrow().as_ref().and_then(|undoing| undoing.until);
        loop {
            while let Some(request) = self.watch.asked() {
                self.serve(request).await?;
            }
            if self.watch.leaving.get() != Leaving::No {
                return Err(left(self.scope.run_id.clone(), RunState::Compensating, SHUT_DOWN));
            }
            if until.is_none_or(|until| until <= self.clock.now()) {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = self.watch.poked() => {}
                () = self.until(until) => {}
            }
        }
    }

    /// Calls what undoes a step, and waits for its end.
    async fn undo(&mut self, undoing: &Undoing) -> Result<Undone, PlanError> {
        let scope = Arc::clone(&self.scope);
        let Undoing { step: index, attempt, .. } = *undoing;
        let (Some(step), Some(callable)) =
            (scope.plan.get(index), self.other(index, Role::Compensation).cloned())
        else {
            return Ok(Err(StepError::fatal("there is no callable any more that undoes it")));
        };
        let began = log::log_enabled!(target: "lunacore::run", log::Level::Debug).then(Instant::now);
        let failure = if undoing.cancelled { None } else { self.watch.failure.borrow().clone() };
        let input = match self.input(index) {
            Ok(input) => input,
            Err(error) => return Ok(Err(error)),
        };
        let context = scope.open_undo(index, attempt, failure, input);
        let call = Call::start(&callable, step.step.is_inline(), context, &self.claim);
        let ended = self.end_of_undo(call, undoing).await;
        let (result, staged) = scope.clean(ended?, scope.take_staged());
        let undone = match result {
            Ok(_) => Ok(staged),
            // What it returned does not matter, nor that it cannot be stored.
            Err(error) if error.kind() == FailureKind::Output => Ok(staged),
            Err(error) => Err(error),
        };
        if let Some(began) = began {
            let (run_id, step_id, ok) = (scope.run_id.as_str(), &*step.id, undone.is_ok());
            let duration = humantime::format_duration(began.elapsed()).to_string();
            let (ended, duration) = (if ok { "undone" } else { "not undone" }, duration.as_str());
            log::debug!(
                target: "lunacore::run", run_id, step_id, attempt, duration, ok;
                "step {step_id} of run {run_id} was {ended} at attempt {attempt} after {duration}"
            );
        }
        Ok(undone)
    }

    /// Waits for the end of a call. It is not cancelled with its run, and only comes to its own limit.
    async fn end_of_undo(
        &mut self,
        mut call: Call,
        undoing: &Undoing,
    ) -> Result<Result<Output, StepError>, PlanError> {
        let limit = self.limit_of(undoing);
        let is_inline = matches!(call, Call::Done(_));
        let first = poll_fn(|cx| Poll::Ready(call.poll_result(cx))).await;
        if let Poll::Ready(result) = first {
            let late = limit.filter(|limit| is_inline && self.clock.now() > limit.at);
            return Ok(late.map_or(result, |limit| Err(StepError::limit(limit.exceeded()))));
        }
        let (at, mut polled) = (limit.map(|limit| limit.at), true);
        let limit = loop {
            match (self.hear(&mut call, None, at, &mut polled).await, limit) {
                (Heard::Result(result), _) => return Ok(result),
                (Heard::Limit, Some(limit)) => break limit,
                (Heard::Request(request), _) => drop(self.serve(request).await?),
                _ => {}
            }
            if self.watch.leaving.get() == Leaving::AtOnce && call.abandon(&self.scope) {
                return Err(left(self.scope.run_id.clone(), RunState::Compensating, SHUT_DOWN));
            }
        };
        self.scope.expire();
        if call.abandon(&self.scope) {
            return Ok(Err(StepError::limit(limit.exceeded())));
        }
        // Blocking code was told to stop: it is waited for as long as the grace is.
        let grace = self.plan().policy(undoing.step).map_or(TIMEOUT_GRACE, Policy::grace);
        let over = self.clock.now().checked_add(grace);
        loop {
            match self.hear(&mut call, None, over, &mut false).await {
                // What it returns now does not count.
                Heard::Result(_) => return Ok(Err(StepError::limit(limit.exceeded()))),
                Heard::Limit => break,
                Heard::Request(request) => drop(self.serve(request).await?),
                Heard::Cancelled | Heard::Nothing => {}
            }
        }
        self.links.abandoned.watch(
            &self.scope,
            (undoing.step, undoing.attempt),
            (call, None),
            self.clock.now(),
        );
        let source = Box::new(limit.exceeded());
        Ok(Err(StepError::limit(LimitExceeded::Abandoned { grace, source })))
    }

    /// When the attempt in flight must be over. The deadline of the plan is none of it.
    fn limit_of(&self, undoing: &Undoing) -> Option<Limit> {
        let timeout = self.compensation(undoing.step)?.timeout?;
        limit::within(self.watch.since.get()?, timeout)
    }

    fn compensation(&self, step: usize) -> Option<&Compensation> {
        self.plan().policy(step)?.compensation.as_ref()
    }

    /// Stores what an attempt has come to. What it staged may be refused, which is a failure of its own.
    async fn store(&mut self, undoing: &Undoing, undone: Undone) -> Result<(), PlanError> {
        let mut undone = undone;
        loop {
            let (undo, artifacts) = match undone {
                Ok(staged) => (Undo::Done, self.artifacts_of(undoing.step, staged)),
                Err(error) => (self.not_undone(undoing, &error), Vec::new()),
            };
            let stages = !artifacts.is_empty();
            let decision = self.decide(Input::Undo(undo));
            let decision = decision.ok_or_else(|| self.interrupted("its state machine had no answer"))?;
            let sent = self.send(decision, Yield::of(artifacts));
            match self.stored(sent).await {
                Ok(()) => return Ok(()),
                Err(refused) if refused.wrote_nothing() && stages => {
                    undone = Err(StepError::of_kind(FailureKind::Artifact, refused));
                }
                Err(failed) => return Err(PlanError::from_memory(self.scope.run_id.clone(), failed)),
            }
        }
    }

    fn artifacts_of(&self, index: usize, staged: Vec<StagedArtifact>) -> Vec<NewArtifact> {
        let Some(step) = self.plan().get(index) else { return Vec::new() };
        staged.into_iter().map(|artifact| of_step((index, &step.id), artifact)).collect()
    }

    fn not_undone(&self, undoing: &Undoing, error: &StepError) -> Undo {
        let failure = Arc::new(StepFailure::record(error.kind(), &**error));
        let then = match self.undo_again_at(undoing, error) {
            _ if error.kind() == FailureKind::Abandoned => AfterUndo::End,
            Some(at) => AfterUndo::Retry(at),
            None => AfterUndo::Next,
        };
        if !matches!(then, AfterUndo::Retry(_)) {
            let (run_id, attempt) = (self.scope.run_id.as_str(), undoing.attempt);
            let step_id = self.plan().get(undoing.step).map_or("", |step| &*step.id);
            log::warn!(
                target: "lunacore::run", run_id, step_id, attempt;
                "step {step_id} of run {run_id} could not be undone: {failure}"
            );
        }
        Undo::Failed { failure, then }
    }

    fn undo_again_at(&self, undoing: &Undoing, error: &StepError) -> Option<SystemTime> {
        let now = self.clock.now();
        let failed = Failed {
            attempt: undoing.attempt,
            kind: error.kind(),
            verdict: error.verdict(),
            first_started_at: undoing.since.unwrap_or(now),
        };
        self.compensation(undoing.step)?.retry.next(&failed, now, (self.random)())
    }
}

/// What waits in the line, and is to undo first what its steps did.
impl ExecutionOrchestrator {
    /// A run that waited was cancelled, or came to its deadline: it waits on, for a slot in which to undo what its steps did.
    pub(crate) fn undo_waiting(&mut self, ticket: Ticket, undoes: Undoes, ctx: &mut Context<Self>) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        let Undoes { to, undoing, failure } = undoes;
        (waiting.at, waiting.undoing, waiting.failure) = (to, Some(undoing), failure);
        // Nobody has cut it off since.
        (waiting.recovered, waiting.alarm) = (false, None);
        waiting.tell_compensating();
        for request in std::mem::take(&mut waiting.requests) {
            request.compensating();
        }
        if let Some(reason) = waiting.stuck.clone() {
            return self.interrupt_for(ticket, &reason, ctx);
        }
        // Its callables may not be there yet.
        self.line.found(ticket, true);
        self.resolve(ticket, ctx);
        self.stand_by(ticket);
    }

    /// Tells those who cancel a run that it undoes what its steps did. When the orchestrator shuts down, it does not begin to.
    pub(crate) fn stand_by(&mut self, ticket: Ticket) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        waiting.tell_compensating();
        if self.closing.as_ref().is_some_and(Closing::has_cancelled) {
            let (run_id, state) = (waiting.run_id.clone(), RunState::Compensating);
            self.refuse(ticket, left(run_id, state, SHUT_DOWN));
        }
    }
}

impl Undoes {
    /// The run as memory would find it now.
    pub(crate) fn found(self, mut found: FoundRun) -> FoundRun {
        let Position { state, cursor, attempt, step, pausing, .. } = self.to;
        let record = &mut found.record;
        (record.state, record.cursor, record.attempt) = (state, cursor, attempt);
        (record.step, record.pausing) = (step, pausing);
        (record.failure, record.undoing, record.reason) = (self.failure, Some(self.undoing), None);
        found
    }
}
