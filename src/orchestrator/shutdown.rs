//! Stopping in an orderly way, when told to or when nobody is left to tell.

use actix::{ActorContext, AsyncContext, Context, Handler, ResponseFuture};
use tokio::sync::oneshot;

use super::actor::ExecutionOrchestrator;
use super::error::PlanError;
use super::messages::{Shutdown, ShutdownReport};
use super::outcome::{SHUT_DOWN, left};
use super::runner::Outcome;
use super::slots::{Active, Place};
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
        self.leave(&[RunState::Paused, RunState::Held]);
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
        for (_, run_id) in waiting {
            // Those who wait for the run are answered when it ends; nobody waits for the cancellation itself.
            drop(self.cancel(&run_id, ctx));
        }
        let aside = [RunState::Paused, RunState::Held, RunState::Parked, RunState::Queued];
        self.leave(&aside);
        let stays =
            |active: &Active| aside.contains(&active.watch.at.get().state) && active.place != Place::Slot;
        let active: Vec<RunId> = self
            .active
            .iter()
            .filter(|(_, active)| !stays(active))
            .map(|(run_id, _)| run_id.clone())
            .collect();
        for run_id in active {
            if let Some(active) = self.active.get(&run_id) {
                // Nor is anything begun that it would undo.
                active.watch.leave(Leaving::AfterThis);
            }
            drop(self.cancel(&run_id, ctx));
        }
    }

    /// Runs that stand aside in one of these states are left as they are stored.
    fn leave(&self, states: &[RunState]) {
        for active in self.active.values().filter(|active| active.place != Place::Slot) {
            if states.contains(&active.watch.at.get().state) {
                active.watch.ask(Request::Leave);
            }
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
