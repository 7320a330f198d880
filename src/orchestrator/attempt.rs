//! One attempt of a step: called, watched, and stopped where it must be.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Instant, SystemTime};

use tokio_util::sync::WaitForCancellationFuture;

use super::error::PlanError;
use super::invoke::Call;
use super::limit::Limit;
use super::machine::{Decision, Input, Position};
use super::messages::CancelOutcome;
use super::runner::{Flow, Runner, produce};
use super::watch::Request;
use crate::limits::TIMEOUT_GRACE;
use crate::plan::{BreakerOpen, Callable, LimitExceeded, Output, Policy, Role, StepError};
use crate::run::{FailureKind, RunState, StepFailure};

type StepResult = Result<Output, StepError>;

/// How an attempt ended.
pub(super) enum Ended {
    Returned(StepResult),
    /// Its future was dropped because the run was cancelled.
    Dropped,
}

/// What comes first while an attempt is in flight.
pub(super) enum Heard {
    Result(StepResult),
    Cancelled,
    Request(Request),
    Limit,
    /// Nothing after all.
    Nothing,
}

impl Runner {
    /// Calls the step at the cursor, unless the run has been cancelled meanwhile.
    pub(super) async fn attempt(&mut self) -> Result<Flow, PlanError> {
        let Position { cursor, attempt, step: progress, .. } = self.watch.at.get();
        let scope = Arc::clone(&self.scope);
        // Mostly there is nothing to hear, and then nothing is made for it.
        if (self.watch.is_asked() || scope.cancellation.is_cancelled())
            && let Some(flow) = Box::pin(self.hear_first()).await?
        {
            return Ok(flow);
        }
        if let Some(breaker) = self.gate.refused.take() {
            let refused = StepError::of_kind(FailureKind::BreakerOpen, BreakerOpen { breaker });
            return Ok(Flow::Turn(self.failed(refused)));
        }
        // Its time may have passed before its turn came: while the process was down, for example.
        let limit = self.limit();
        if let Some(limit) =
            limit.filter(|limit| self.watch.since.get().is_some_and(|since| since >= limit.at))
        {
            self.gate.give_back();
            return Ok(Flow::Turn(self.failed(StepError::limit(limit.exceeded()))));
        }
        if attempt == 0 {
            return Ok(self.consider());
        }
        let (Some(step), Some(callable)) = (scope.plan.get(cursor), self.callable(cursor, progress.fallback))
        else {
            return Err(self.interrupted("a step had no callable"));
        };
        let began = log::log_enabled!(target: "lunacore::run", log::Level::Debug).then(Instant::now);
        let known = if progress.fallback { self.watch.failure.borrow().clone() } else { None };
        let input = match self.input(cursor) {
            Ok(input) => input,
            Err(error) => return Ok(Flow::Turn(self.uncalled(error))),
        };
        let context = scope.open_attempt(cursor, attempt, known, input);
        let call = Call::start(callable, step.step.is_inline(), context, &self.claim);
        let ended = self.end_of(call, limit).await;
        // No code of it runs any more; what was abandoned has taken its permit along.
        self.gate.permit = None;
        let staged = scope.take_staged();
        let (result, staged) = match ended? {
            Ended::Returned(result) => scope.clean(result, staged),
            Ended::Dropped => return Ok(self.cancelled()),
        };
        let now = self.watch.at.get();
        if result.is_err() && scope.cancellation.is_cancelled() && !now.expired {
            // That it was told to stop, mostly: which says nothing about the service. It may have seen so before we did.
            self.gate.passage = None;
            if now.state == RunState::Running {
                return Ok(Input::Cancel.into());
            }
        }
        if let Some(began) = began {
            log_end((scope.run_id.as_str(), &step.id, attempt), began, result.is_ok());
        }
        let result = result.and_then(|output| {
            let produced = produce(cursor, &step.id, &output, staged)?;
            Ok((output, produced))
        });
        if let Some(passage) = self.gate.passage.take() {
            let change = passage.report(verdict(result.as_ref().err()), self.clock.now());
            self.changes.extend(change);
        }
        Ok(Flow::Turn(match result {
            Ok((output, produced)) => self.completed(output, produced),
            Err(error) => self.failed(error),
        }))
    }

    /// What was asked while the run was between two calls: those that return at once leave no other time for it.
    pub(super) async fn hear_first(&mut self) -> Result<Option<Flow>, PlanError> {
        while let Some(request) = self.watch.asked() {
            if let Some(flow) = self.serve(request).await? {
                return Ok(Some(flow));
            }
        }
        Ok(if self.scope.cancellation.is_cancelled() { Some(self.cancelled()) } else { None })
    }

    /// The attempt was cancelled, which says nothing about the service.
    fn cancelled(&mut self) -> Flow {
        self.gate.give_back();
        Input::Cancel.into()
    }

    fn callable(&self, cursor: usize, fallback: bool) -> Option<&Callable> {
        if !fallback {
            return self.callables.steps.get(cursor);
        }
        self.other(cursor, Role::Fallback)
    }

    /// What a step has a callable for, besides what it does.
    pub(super) fn other(&self, cursor: usize, role: Role) -> Option<&Callable> {
        let own = self.plan().get(cursor)?.step.policy_code().and_then(|code| code.callable(role));
        own.or_else(|| self.callables.others.get(&(cursor, role)))
    }

    /// Waits for the end of a call, and does meanwhile what else there is to do.
    pub(super) async fn end_of(&mut self, mut call: Call, limit: Option<Limit>) -> Result<Ended, PlanError> {
        let is_inline = matches!(call, Call::Done(_));
        // Many have ended before anything else need be looked at.
        let first = poll_fn(|cx| Poll::Ready(call.poll_result(cx))).await;
        if let Poll::Ready(result) = first {
            // An inline call cannot have been stopped.
            return Ok(Ended::Returned(
                match limit.filter(|limit| is_inline && self.clock.now() > limit.at) {
                    Some(limit) => Err(StepError::limit(limit.exceeded())),
                    None => result,
                },
            ));
        }
        let mut polled = true;
        let scope = Arc::clone(&self.scope);
        let mut cancelled = pin!(scope.cancellation.cancelled());
        let at = limit.map(|limit| limit.at);
        loop {
            match self.hear(&mut call, Some(cancelled.as_mut()), at, &mut polled).await {
                Heard::Result(result) => return Ok(Ended::Returned(result)),
                Heard::Nothing => {}
                Heard::Request(request) => {
                    if let Err(error) = self.serve(request).await {
                        if !call.abandon(&scope) {
                            // Whatever the run comes to, nothing else of it runs until the code has ended.
                            drop(call.end().await);
                        }
                        return Err(error);
                    }
                }
                Heard::Cancelled if call.abandon(&scope) => return Ok(Ended::Dropped),
                Heard::Cancelled => return self.stop(call).await,
                Heard::Limit => {
                    let Some(limit) = limit else { continue };
                    self.scope.expire();
                    if call.abandon(&scope) {
                        return Ok(Ended::Returned(Err(StepError::limit(limit.exceeded()))));
                    }
                    return self.expire(call, limit, cancelled).await;
                }
            }
        }
    }

    /// What comes first. The result, if it is there: it counts. `polled`: the call has just been asked for it.
    pub(super) async fn hear(
        &self,
        call: &mut Call,
        mut cancelled: Option<Pin<&mut WaitForCancellationFuture<'_>>>,
        limit: Option<SystemTime>,
        polled: &mut bool,
    ) -> Heard {
        let watch = Rc::clone(&self.watch);
        let mut poked = pin!(watch.poked());
        let mut timer = pin!(self.until(limit));
        poll_fn(|cx| {
            // One that has just been asked has yielded, and is asked again when something wakes us.
            if !std::mem::take(polled)
                && let Poll::Ready(result) = call.poll_result(cx)
            {
                return Poll::Ready(Heard::Result(result));
            }
            if cancelled.as_mut().is_some_and(|cancelled| cancelled.as_mut().poll(cx).is_ready()) {
                return Poll::Ready(Heard::Cancelled);
            }
            if let Some(request) = watch.asked() {
                return Poll::Ready(Heard::Request(request));
            }
            if poked.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Heard::Nothing);
            }
            timer.as_mut().poll(cx).map(|()| Heard::Limit)
        })
        .await
    }

    /// The run was cancelled while blocking code runs: stores that it is stopping, tells those who cancelled it, and waits
    /// for the code to end.
    async fn stop(&mut self, mut call: Call) -> Result<Ended, PlanError> {
        let Position { cursor, attempt, .. } = self.watch.at.get();
        let (run_id, step_id) =
            (self.scope.run_id.as_str(), self.plan().get(cursor).map_or("", |step| &*step.id));
        log::debug!(
            target: "lunacore::run", run_id, step_id, attempt;
            "run {run_id} is cancelled and waits for the blocking code of step {step_id}"
        );
        let mut stopping = match self.decide(Input::Stop) {
            Some(decision) => self.moved_to(decision).await,
            None => Ok(()),
        };
        if stopping.is_ok() {
            for cancel in self.watch.cancels.take() {
                let _ = cancel.send(Ok(CancelOutcome::Stopping));
            }
        }
        // Whether or not that could be stored, nothing else runs until the code has ended.
        let result = loop {
            match self.hear(&mut call, None, None, &mut false).await {
                Heard::Result(result) => break result,
                Heard::Request(request) => {
                    let served = self.serve(request).await;
                    stopping = stopping.and(served.map(drop));
                }
                Heard::Cancelled | Heard::Limit | Heard::Nothing => {}
            }
        };
        stopping?;
        Ok(Ended::Returned(result))
    }

    /// Blocking code has come to a limit and was told to stop: it is waited for as long as the grace is.
    async fn expire(
        &mut self,
        mut call: Call,
        limit: Limit,
        mut cancelled: Pin<&mut WaitForCancellationFuture<'_>>,
    ) -> Result<Ended, PlanError> {
        let error = StepError::limit(limit.exceeded());
        let failure = Arc::new(StepFailure::record(error.kind(), &*error));
        let mut expired = match self.decide(Input::Expire(failure)) {
            Some(decision) => self.moved_to(decision).await,
            None => Ok(()),
        };
        let grace = self.policy().map_or(TIMEOUT_GRACE, Policy::grace);
        let over = self.clock.now().checked_add(grace);
        loop {
            let listen = expired.is_ok().then_some(cancelled.as_mut());
            match self.hear(&mut call, listen, over, &mut false).await {
                // What it returns now does not count.
                Heard::Result(_) => break,
                Heard::Cancelled => return self.stop(call).await,
                Heard::Request(request) => {
                    let served = self.serve(request).await;
                    expired = expired.and(served.map(drop));
                }
                Heard::Limit => {
                    let call = (call, self.gate.permit.take());
                    let Position { cursor, attempt, .. } = self.watch.at.get();
                    self.links.abandoned.watch(&self.scope, (cursor, attempt), call, self.clock.now());
                    let source = Box::new(limit.exceeded());
                    expired?;
                    return Ok(Ended::Returned(Err(StepError::limit(LimitExceeded::Abandoned {
                        grace,
                        source,
                    }))));
                }
                Heard::Nothing => {}
            }
        }
        expired?;
        Ok(Ended::Returned(Err(error)))
    }

    pub(super) async fn moved_to(&mut self, decision: Decision) -> Result<(), PlanError> {
        let moved = self.move_to(decision).await;
        moved.map_err(|error| PlanError::from_memory(self.scope.run_id.clone(), error))
    }
}

fn log_end((run_id, step_id, attempt): (&str, &str, u32), began: Instant, ok: bool) {
    let duration = humantime::format_duration(began.elapsed()).to_string();
    let (ended, duration) = (if ok { "completed" } else { "failed" }, duration.as_str());
    log::debug!(
        target: "lunacore::run", run_id, step_id, attempt, duration, ok;
        "step {step_id} of run {run_id} {ended} at attempt {attempt} after {duration}"
    );
}

/// What a result says about the service behind a breaker: whether it does what it is asked to. `None`: nothing.
fn verdict(error: Option<&StepError>) -> Option<bool> {
    let Some(error) = error else { return Some(true) };
    match error.kind() {
        // The service has answered, if not as the step would have liked.
        _ if error.is_fatal() => None,
        FailureKind::Error | FailureKind::Panic | FailureKind::Timeout => Some(false),
        FailureKind::Abandoned => Some(false),
        _ => None,
    }
}
