//! A run that is held here and tried again: it is held until it is known that it can be, and again if it is refused after all.

use std::sync::Arc;

use actix::Context;

use super::actor::ExecutionOrchestrator;
use super::breakers::Gate;
use super::error::PlanError;
use super::going_on::Asker;
use super::internal::{Happened, tell};
use super::outcome::left;
use super::retrying::{Next, Retrier};
use super::runner::{Flow, Outcome, Runner};
use super::shutdown::Closing;
use super::slots::Active;
use super::status::RunInfo;
use super::waiting::Waiting;
use super::watch::Request;
use crate::memory::{FindRun, FoundRun, MemoryError};

impl Runner {
    /// Tries the run again that is held. It is left only when nothing but its place in the line stands before that; until then, and
    /// if it cannot be tried again, it is held as it was.
    pub(super) async fn reopen(&mut self, mut retrier: Retrier) -> Result<Option<Flow>, PlanError> {
        let run_id = self.scope.run_id.clone();
        // With the claim that we have: nobody else gets the run meanwhile.
        let request = FindRun::new(run_id.clone(), self.claim.clone()).to_retry();
        let found = self.links.find_run.send(request).await.unwrap_or(Err(MemoryError::Stopped));
        if self.scope.cancellation.is_cancelled() {
            let completed = self.scope.outputs();
            retrier.refuse(PlanError::Cancelled { run_id, completed });
            return Ok(None);
        }
        let as_it_is = found.as_ref().ok().cloned().flatten();
        let guards = (&self.breakers, &self.limits);
        match (retrier.next_generation(self.claim.clone(), found, guards, self.clock.now()), as_it_is) {
            (Ok(Next::Generation(mut waiting)), Some(found)) => {
                retrier.attach_to(&mut waiting);
                waiting.was_held = Some(Box::new(self.held(found)));
                self.watch.reopened.replace(Some(Box::new(waiting)));
                Err(left(run_id, self.watch.at.get().state, "it is tried again"))
            }
            (Ok(Next::Other(mut waiting)), _) => {
                retrier.attach_to(&mut waiting);
                tell(&self.orchestrator, Happened::OtherRun { waiting: Box::new(waiting) });
                Ok(None)
            }
            (Err(error), _) => {
                retrier.refuse(error);
                Ok(None)
            }
            (Ok(Next::Generation(_)), None) => {
                retrier.refuse(PlanError::UnknownRun { run_id });
                Ok(None)
            }
        }
    }

    /// The run as it is now, with its callables, to be held again.
    fn held(&mut self, found: FoundRun) -> Waiting {
        let (run_id, plan) = (self.scope.run_id.clone(), Arc::clone(self.plan()));
        let mut held = Waiting::new(run_id, self.project.clone(), plan, self.claim.clone());
        held.take_up(found);
        (held.durability, held.deadline) = (self.durability, self.deadline);
        held.callables = std::mem::take(&mut self.callables);
        held
    }
}

impl ExecutionOrchestrator {
    /// A run that was held goes into the line with its next generation, and so does what was asked of it meanwhile.
    pub(crate) fn leave_held(&mut self, mut waiting: Waiting, active: Active, ctx: &mut Context<Self>) {
        let run_id = waiting.run_id.clone();
        let mut signals = active.watch.signals.take();
        signals.merge(waiting.signals);
        waiting.signals = signals.clone();
        if let Some(held) = &mut waiting.was_held {
            (held.outcomes, held.signals) = (active.outcomes, signals);
        }
        for request in active.watch.take_requests() {
            match request {
                Request::Leave => {}
                Request::Reopen(retrier) => self.to_retry.push(*retrier),
                other => self.to_steer.push((run_id.clone(), other)),
            }
        }
        self.asks_again = true;
        waiting.cancels = active.watch.cancels.take();
        let closing = self.closing.is_some();
        let ticket = self.line.join_anyway();
        self.tickets.insert(run_id.clone(), ticket);
        let withdrawn = !waiting.cancels.is_empty();
        self.insert(ticket, waiting, ctx);
        if closing {
            self.refuse(ticket, PlanError::ShuttingDown);
        } else if withdrawn {
            self.withdraw(ticket, ctx);
        } else {
            self.resolve(ticket, ctx);
        }
    }

    /// A run is not tried again that waited for that: nothing of its next generation is stored. What else is asked of it goes to what
    /// there is of it.
    pub(crate) fn not_reopened(&mut self, waiting: &mut Waiting, outcome: &Outcome) {
        let run_id = waiting.run_id.clone();
        let (requests, posted) = (std::mem::take(&mut waiting.requests), std::mem::take(&mut waiting.posted));
        self.to_steer.extend(requests.into_iter().map(|request| (run_id.clone(), request)));
        self.to_signal.extend(posted);
        // A shutdown means only what is here, and does not cancel what is held.
        if waiting.was_held.is_some() || !self.closing.as_ref().is_some_and(Closing::has_cancelled) {
            let cancels = std::mem::take(&mut waiting.cancels);
            self.to_cancel.extend(cancels.into_iter().map(|cancelled| (run_id.clone(), cancelled)));
        }
        self.asks_again = true;
        let Some(mut held) = waiting.was_held.take() else { return };
        held.signals.merge(std::mem::take(&mut waiting.signals));
        let in_doubt = matches!(outcome, Err(PlanError::Memory { source, .. }) if !source.wrote_nothing());
        if in_doubt {
            // What is stored says what it is now; its callables may not be known there.
            waiting.outcomes.extend(held.outcomes);
            self.remember(RunInfo::interrupted(run_id.clone(), &held.plan, held.at, None));
            self.to_continue.push(Asker::nobody(run_id, Vec::new()));
        } else {
            self.to_hold.push(*held);
        }
    }

    /// It is held again, for those who waited for it before.
    pub(crate) fn hold_again(&mut self, held: Waiting, ctx: &mut Context<Self>) {
        self.line.back_aside();
        self.launch(held, None, Gate::default(), ctx);
    }

    /// A run takes the place of one that is held.
    pub(crate) fn take_other(&mut self, waiting: Waiting, ctx: &mut Context<Self>) {
        if self.closing.is_some() {
            return waiting.turn_away(&PlanError::ShuttingDown);
        }
        self.admit(waiting, true, ctx);
    }
}
