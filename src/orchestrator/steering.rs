//! Pausing, resuming and retrying at once; and the circuit breakers, as an operator sees them.

use actix::{Context, Handler, MessageResult, ResponseFuture};
use tokio::sync::oneshot;

use super::actor::ExecutionOrchestrator;
use super::breakers::Change;
use super::control::record_of;
use super::deciding::Decision;
use super::error::ControlError;
use super::messages::{
    Breakers, ListAbandoned, PauseOutcome, PausePlan, ResumeOutcome, ResumePlan, RetryNow, RetryOutcome,
};
use super::watch::{Reply, Request};
use crate::memory::{GetRun, MemoryError, RecordBreaker};
use crate::resilience::BreakerRecord;
use crate::run::{RunId, RunState};

impl ExecutionOrchestrator {
    /// Passes a request on to the run that it is about, or answers for one that is not here.
    pub(crate) fn steer(&mut self, run_id: RunId, request: Request, ctx: &mut Context<Self>) {
        if let Some(active) = self.active.get(&run_id) {
            active.watch.ask(request);
            return;
        }
        if let Some(ticket) = self.tickets.get(&run_id).copied()
            && let Some(waiting) = self.waiting.get_mut(&ticket)
        {
            if self.line.is_finding(ticket) {
                // Where it stands, memory has still to say.
                self.to_steer.push((run_id, request));
                return;
            }
            let state = waiting.at.state;
            if waiting.undoing.is_some() {
                return request.compensating();
            }
            if state == RunState::BackingOff
                && waiting.requests.is_empty()
                && let Request::RetryNow(reply) = request
            {
                // When it has a slot it backs off no more.
                waiting.at.step.until = None;
                let _ = reply.send(Ok(RetryOutcome::Retrying));
                return;
            }
            // Answered in their order. What waits in the line can be paused; else it goes by where the run is stored to be.
            let concerned = match request {
                Request::Pause(_) => true,
                Request::Resume(_) => waiting.at.pausing,
                Request::RetryNow(_) => {
                    matches!(state, RunState::BackingOff | RunState::Parked | RunState::Held)
                }
                Request::Resolve(..) => state == RunState::Held,
                Request::Reopen(_) | Request::Leave => false,
            };
            if waiting.requests.is_empty() && !concerned {
                return request.too_late(state);
            }
            waiting.requests.push(request);
            return self.set_aside(ticket, ctx);
        }
        if !self.is_settled(&run_id) {
            self.to_steer.push((run_id, request));
            return;
        }
        if let Request::Resolve(Decision { step_id, outcome: None }, reply) = request {
            return self.skip_failed(run_id, step_id, reply, ctx);
        }
        let record = self.links.get_run.send(GetRun(run_id.clone()));
        actix::spawn(async move {
            match record_of(run_id.clone(), record).await {
                Err(error) => request.fail(error),
                Ok(record) if record.state.is_final() => request.too_late(record.state),
                Ok(record) => request.fail(ControlError::NotHere { run_id, state: record.state }),
            }
        });
    }

    fn asked<T: Send + 'static>(
        &mut self,
        run_id: RunId,
        request: impl FnOnce(Reply<T>) -> Request,
        ctx: &mut Context<Self>,
    ) -> ResponseFuture<Result<T, ControlError>> {
        if !self.is_here(&run_id) {
            self.catch_up(ctx);
        }
        let (reply, answer) = oneshot::channel();
        self.steer(run_id, request(reply), ctx);
        Box::pin(async move { answer.await.unwrap_or(Err(ControlError::Stopped)) })
    }

    /// A run has ended: whatever was still asked of it came too late.
    pub(crate) fn too_late(requests: impl IntoIterator<Item = Request>, state: RunState) {
        for request in requests {
            request.too_late(state);
        }
    }

    fn breaker_records(&self) -> Vec<BreakerRecord> {
        self.breakers.values().map(|breaker| breaker.record()).collect()
    }
}

impl Handler<PausePlan> for ExecutionOrchestrator {
    type Result = ResponseFuture<Result<PauseOutcome, ControlError>>;

    fn handle(&mut self, PausePlan(run_id): PausePlan, ctx: &mut Self::Context) -> Self::Result {
        self.asked(run_id, Request::Pause, ctx)
    }
}

impl Handler<ResumePlan> for ExecutionOrchestrator {
    type Result = ResponseFuture<Result<ResumeOutcome, ControlError>>;

    fn handle(&mut self, ResumePlan(run_id): ResumePlan, ctx: &mut Self::Context) -> Self::Result {
        self.asked(run_id, Request::Resume, ctx)
    }
}

impl Handler<RetryNow> for ExecutionOrchestrator {
    type Result = ResponseFuture<Result<RetryOutcome, ControlError>>;

    fn handle(&mut self, RetryNow(run_id): RetryNow, ctx: &mut Self::Context) -> Self::Result {
        self.asked(run_id, Request::RetryNow, ctx)
    }
}

impl Handler<Breakers> for ExecutionOrchestrator {
    type Result = ResponseFuture<Result<Vec<BreakerRecord>, ControlError>>;

    fn handle(&mut self, breakers: Breakers, _: &mut Self::Context) -> Self::Result {
        let name = match breakers {
            Breakers::List => {
                let records = self.breaker_records();
                return Box::pin(async move { Ok(records) });
            }
            Breakers::Reset(name) => name,
        };
        let Some(breaker) = self.breakers.get(&*name) else {
            return Box::pin(async move { Err(ControlError::UnknownBreaker { name }) });
        };
        let change = breaker.reset(self.clock.now());
        let records = self.breaker_records();
        // Sent here, so that it is stored before what follows from it.
        let stored = change.map(|Change { record, event }| {
            self.links.record_breaker.send(RecordBreaker::new(record, event))
        });
        Box::pin(async move {
            if let Some(stored) = stored {
                stored.await.unwrap_or(Err(MemoryError::Stopped))?;
            }
            Ok(records)
        })
    }
}

impl Handler<ListAbandoned> for ExecutionOrchestrator {
    type Result = MessageResult<ListAbandoned>;

    fn handle(&mut self, ListAbandoned: ListAbandoned, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.links.abandoned.list())
    }
}
