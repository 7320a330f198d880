//! The way of a plan from its submission to its place in the line: checked, resolved, accepted.

use std::sync::Arc;

use actix::{AsyncContext, Context};
use tokio::sync::oneshot;

use super::actor::ExecutionOrchestrator;
use super::control::Cancelled;
use super::error::PlanError;
use super::internal::{Happened, Unresolved, tell};
use super::line::Ticket;
use super::links::stored;
use super::machine;
use super::messages::ExecutePlan;
use super::runner::{Outcome, commit_of};
use crate::allocator::Resolve;
use crate::limits::RESOLVE_TIMEOUT;
use crate::memory::{Commit, Committed, MemoryError, NewRun};
use crate::plan::{Callable, CheckedPlan};
use crate::project::Project;
use crate::run::RunId;

/// A plan in the line.
pub(crate) struct Waiting {
    pub(crate) run_id: RunId,
    pub(crate) project: Project,
    pub(crate) plan: Arc<CheckedPlan>,
    pub(crate) callables: Vec<Callable>,
    pub(crate) accepted: Option<oneshot::Sender<Result<(), PlanError>>>,
    pub(crate) outcome: oneshot::Sender<Outcome>,
    /// Who is to be told that the run is cancelled.
    pub(crate) cancels: Vec<oneshot::Sender<Cancelled>>,
}

/// What a submission answers: when it is accepted, and when it is over.
pub(crate) struct Submitted {
    pub(crate) run_id: RunId,
    pub(crate) accepted: oneshot::Receiver<Result<(), PlanError>>,
    pub(crate) outcome: oneshot::Receiver<Outcome>,
}

impl ExecutionOrchestrator {
    /// Puts a plan into the line, if it is valid.
    pub(crate) fn submit(
        &mut self,
        message: ExecutePlan,
        ctx: &mut Context<Self>,
    ) -> Result<Submitted, PlanError> {
        if self.closing.is_some() {
            return Err(PlanError::ShuttingDown);
        }
        let run_id = message.run_id.map_or_else(|| Ok(RunId::random()), |id| id.parse())?;
        let plan = Arc::new(CheckedPlan::new(message.plan)?);
        if self.tickets.contains_key(&run_id) || self.active.contains_key(&run_id) {
            return Err(PlanError::RunExists { run_id });
        }
        let ticket = self.line.join().ok_or(PlanError::QueueFull { capacity: self.line.capacity })?;
        // Sent here, so that plans reach the allocator in their order.
        let request = self.links.resolve.send(Resolve::new(Arc::clone(&plan)));
        let myself = ctx.address().downgrade();
        actix::spawn(async move {
            let answer = match tokio::time::timeout(RESOLVE_TIMEOUT, request).await {
                Ok(Ok(Ok(callables))) => Ok(callables),
                Ok(Ok(Err(error))) => Err(Unresolved::Step(error)),
                Ok(Err(_)) => Err(Unresolved::Allocator("has stopped, or did not answer".to_owned())),
                Err(_) => Err(Unresolved::Allocator(format!("did not answer within {RESOLVE_TIMEOUT:?}"))),
            };
            tell(&myself, Happened::Resolved { ticket, answer });
        });
        let (accepted, accepted_reply) = oneshot::channel();
        let (outcome, outcome_reply) = oneshot::channel();
        self.tickets.insert(run_id.clone(), ticket);
        let waiting = Waiting {
            run_id: run_id.clone(),
            project: message.project,
            plan,
            callables: Vec::new(),
            accepted: Some(accepted),
            outcome,
            cancels: Vec::new(),
        };
        self.waiting.insert(ticket, waiting);
        Ok(Submitted { run_id, accepted: accepted_reply, outcome: outcome_reply })
    }

    /// Stores the acceptance of a plan that has to wait.
    pub(crate) fn accept(&mut self, ticket: Ticket, ctx: &mut Context<Self>) {
        let Some(waiting) = self.waiting.get(&ticket) else { return };
        // Sent here, so that acceptances are stored in the order of the line.
        let request = self.links.commit.send(waiting.accepting(machine::accept(&waiting.plan, false)));
        let myself = ctx.address().downgrade();
        actix::spawn(async move {
            let stored = stored(request).await;
            tell(&myself, Happened::Accepted { ticket, stored });
        });
    }

    pub(crate) fn take_waiting(&mut self, ticket: Ticket) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        self.tickets.remove(&waiting.run_id);
        Some(waiting)
    }

    /// Takes a plan out of the line and tells its callers why.
    pub(crate) fn refuse(&mut self, ticket: Ticket, error: PlanError) {
        self.line.remove(ticket);
        let Some(waiting) = self.take_waiting(ticket) else { return };
        if let Some(accepted) = waiting.accepted {
            let _ = accepted.send(Err(error.clone()));
        }
        self.settle(Err(error), waiting.outcome, waiting.cancels);
    }

    pub(crate) fn resolved(&mut self, ticket: Ticket, answer: Result<Vec<Callable>, Unresolved>) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        let error = match answer {
            Ok(callables) if callables.len() == waiting.plan.len() => {
                waiting.callables = callables;
                self.line.resolved(ticket);
                return;
            }
            Ok(callables) => {
                let (got, steps) = (callables.len(), waiting.plan.len());
                PlanError::Allocator { reason: format!("gave callables for {got} of {steps} steps") }
            }
            Err(Unresolved::Step(error)) => PlanError::Unresolved(error),
            Err(Unresolved::Allocator(reason)) => PlanError::Allocator { reason },
        };
        self.refuse(ticket, error);
    }

    pub(crate) fn accepted(
        &mut self,
        ticket: Ticket,
        stored: Result<Committed, MemoryError>,
        ctx: &mut Context<Self>,
    ) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        match stored {
            Err(error) => {
                let error = PlanError::from_memory(waiting.run_id.clone(), error);
                self.refuse(ticket, error);
            }
            Ok(_) => {
                if let Some(accepted) = waiting.accepted.take() {
                    let _ = accepted.send(Ok(()));
                }
                let cancelled = !waiting.cancels.is_empty();
                self.line.accepted(ticket);
                if cancelled {
                    self.withdraw(ticket, ctx);
                }
            }
        }
    }
}

impl Waiting {
    pub(crate) fn commit(&self, decision: machine::Decision) -> Box<Commit> {
        commit_of(&self.run_id, &self.project, decision)
    }

    /// A commit that also stores the run itself.
    pub(crate) fn accepting(&self, decision: machine::Decision) -> Box<Commit> {
        let mut commit = self.commit(decision);
        let (name, step_ids) = (self.plan.name().cloned(), self.plan.step_ids());
        commit.accept = Some(Box::new(NewRun::new(name, step_ids)));
        commit
    }
}
