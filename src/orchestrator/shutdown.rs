//! Stopping in an orderly way, when told to or when nobody is left to tell.

use actix::{ActorContext, AsyncContext, Context, Handler, ResponseFuture};
use tokio::sync::oneshot;

use super::actor::ExecutionOrchestrator;
use super::error::PlanError;
use super::messages::{Shutdown, ShutdownReport};
use super::outcome::{SHUT_DOWN, left};
use super::runner::Outcome;
use super::slots::{Active, Place};
use super::waiting::Waiting;
use super::watch::{Leaving, Request};
use crate::limits::{DROP_DRAIN, STOP_GRACE};
use crate::run::{RunId, RunState};

/// A shutdown that is under way.
#[derive(Default)]
pub(crate) struct Closing {
    replies: Vec<oneshot::Sender<ShutdownReport>>,
    report: ShutdownReport,
    /// Nothing is waited for any more but what cannot be stopped.
    cancelled: bool,
    over: bool,
}

impl Closing {
    pub(crate) fn count(&mut self, outcome: &Outcome) {
        let report = &mut self.report;
        match outcome.as_ref().map_err(PlanError::why) {
            Ok(_) => report.completed += 1,
            Err(PlanError::Cancelled { .. }) => report.cancelled += 1,
            Err(PlanError::Interrupted { .. }) => report.interrupted += 1,
            Err(_) => report.failed += 1,
        }
    }

    /// Whether all plans were cancelled.
    pub(crate) fn has_cancelled(&self) -> bool {
        self.cancelled
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }
}

impl Active {
    /// Nothing but somebody's word leads on, which a shutdown does not wait for.
    pub(crate) fn waits_for_somebody(&self) -> bool {
        match self.watch.at.get().state {
            RunState::Paused | RunState::Held => self.place != Place::Slot,
            // Elsewhere it has its signal.
            RunState::AwaitingSignal => self.place == Place::Aside,
            _ => false,
        }
    }

    /// It is not cancelled with the others.
    fn stays(&self) -> bool {
        let state = self.watch.at.get().state;
        self.place != Place::Slot && (state == RunState::Queued || stands_aside(state))
    }
}

/// Whether a run in this state waits for something else than a slot.
pub(crate) fn stands_aside(state: RunState) -> bool {
    use RunState::{AwaitingSignal, Held, Parked, Paused, Sleeping};
    matches!(state, Parked | Sleeping | AwaitingSignal | Paused | Held)
}

impl ExecutionOrchestrator {
    /// The last address was dropped while there was work.
    pub(crate) fn orphaned(&mut self, ctx: &mut Context<Self>) {
        self.catch_up(ctx);
        if self.closing.is_none() {
            log::debug!(target: "lunacore::orchestrator", "the last handle was dropped; finishing what was accepted");
            self.begin_shutdown(Shutdown { drain: true, timeout: DROP_DRAIN }, ctx);
        }
    }

    fn begin_shutdown(&mut self, shutdown: Shutdown, ctx: &mut Context<Self>) {
        self.closing.get_or_insert_default();
        self.leave(Active::waits_for_somebody);
        let Shutdown { drain, timeout } = shutdown;
        // Draining ends with a cancellation, which has its own grace; without draining, the timeout is the grace.
        let until_end = if drain {
            ctx.run_later(timeout, Self::cancel_all);
            timeout.saturating_add(STOP_GRACE)
        } else {
            self.cancel_all(ctx);
            timeout.max(STOP_GRACE)
        };
        ctx.run_later(until_end, |this, ctx| {
            this.interrupt_all();
            this.advance(ctx);
        });
    }

    fn cancel_all(&mut self, ctx: &mut Context<Self>) {
        self.closing.get_or_insert_default().cancelled = true;
        // The last first: were the first taken out first, those behind it would start.
        let mut waiting: Vec<(u64, RunId)> =
            self.tickets.iter().map(|(run_id, ticket)| (*ticket, run_id.clone())).collect();
        waiting.sort_unstable_by(|a, b| b.cmp(a));
        for (ticket, run_id) in waiting {
            let held = |waiting: &Waiting| waiting.was_held.as_ref().map(|held| held.at.state);
            let aside = |waiting| held(waiting).unwrap_or(waiting.at.state);
            if let Some(state) = self.waiting.get(&ticket).map(aside).filter(|state| stands_aside(*state)) {
                // It is about to.
                let left = left(run_id, state, SHUT_DOWN);
                self.refuse(ticket, left);
                continue;
            }
            // Those who wait for the run are answered when it ends; nobody waits for the cancellation itself.
            drop(self.cancel(&run_id, ctx));
        }
        self.leave(Active::stays);
        let active: Vec<RunId> = self
            .active
            .iter()
            .filter(|(_, active)| !active.stays())
            .map(|(run_id, _)| run_id.clone())
            .collect();
        for run_id in active {
            if let Some(active) = self.active.get(&run_id) {
                // Nor is anything begun that it would undo.
                active.watch.leave(Leaving::AfterThis);
            }
            drop(self.cancel(&run_id, ctx));
        }
        // What was held before it was refused is held again, and left like that.
        self.advance(ctx);
    }

    /// These runs are left as they are stored.
    fn leave(&self, which: impl Fn(&Active) -> bool) {
        for active in self.active.values().filter(|active| which(active)) {
            active.watch.ask(Request::Leave);
        }
    }

    /// Answers the callers of what has still not ended.
    fn interrupt_all(&mut self) {
        let reason = "the orchestrator shut down before its blocking code had ended";
        let tickets: Vec<u64> = self.waiting.keys().copied().collect();
        for ticket in tickets {
            let Some(waiting) = self.waiting.get(&ticket) else { continue };
            let run_id = waiting.run_id.clone();
            self.refuse(ticket, PlanError::Interrupted { run_id, reason: reason.to_owned() });
        }
        for (run_id, active) in std::mem::take(&mut self.active) {
            self.vacate(active.place);
            active.watch.leave(Leaving::AtOnce);
            log::warn!(target: "lunacore::orchestrator", run_id = run_id.as_str(); "{reason}");
            let outcome = Err(match active.watch.at.get().state {
                state @ RunState::Compensating => left(run_id, state, SHUT_DOWN),
                _ => PlanError::Interrupted { run_id, reason: reason.to_owned() },
            });
            self.settle(outcome, active.outcomes, active.watch.cancels.take());
        }
    }

    /// Stops once a shutdown is under way and nothing is left.
    pub(crate) fn close_if_done(&mut self, ctx: &mut Context<Self>) {
        if !self.line.is_idle() {
            return;
        }
        if let Some(closing) = &mut self.closing
            && !closing.over
        {
            closing.over = true;
            for reply in closing.replies.drain(..) {
                let _ = reply.send(closing.report);
            }
            ctx.stop();
        }
    }
}

impl Handler<Shutdown> for ExecutionOrchestrator {
    type Result = ResponseFuture<ShutdownReport>;

    fn handle(&mut self, shutdown: Shutdown, ctx: &mut Self::Context) -> Self::Result {
        // They came before it.
        self.catch_up(ctx);
        let (reply, report) = oneshot::channel();
        self.closing.get_or_insert_default().replies.push(reply);
        self.begin_shutdown(shutdown, ctx);
        self.close_if_done(ctx);
        Box::pin(async move { report.await.unwrap_or_default() })
    }
}
