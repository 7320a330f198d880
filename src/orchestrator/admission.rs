//! The way of a plan from its submission to its place in the line: checked, looked up, resolved, accepted.

use std::rc::Rc;
use std::sync::Arc;

use actix::{AsyncContext, Context};
use tokio::sync::oneshot;

use super::actor::ExecutionOrchestrator;
use super::control::Cancelled;
use super::error::PlanError;
use super::internal::{Happened, Unresolved, tell};
use super::line::Ticket;
use super::links::{Links, stored};
use super::machine::{self, Position};
use super::messages::ExecutePlan;
use super::recovery::{compare_records, outcome_of};
use super::runner::{Outcome, commit_of};
use crate::allocator::Resolve;
use crate::limits::RESOLVE_TIMEOUT;
use crate::memory::{Claim, Commit, Committed, FindRun, GetRun, MemoryError, NewRun};
use crate::plan::{Callable, CheckedPlan, Output};
use crate::project::Project;
use crate::run::{Durability, RunId};

/// A plan in the line.
pub(crate) struct Waiting {
    pub(crate) run_id: RunId,
    pub(crate) project: Project,
    pub(crate) plan: Arc<CheckedPlan>,
    pub(crate) durability: Option<Durability>,
    pub(crate) callables: Vec<Callable>,
    /// Where the run stands, as stored: a run that goes on has come some way already.
    pub(crate) at: Position,
    /// Why it was interrupted, if it was.
    pub(crate) reason: Option<Arc<str>>,
    /// The outputs of the steps that it has behind it.
    pub(crate) outputs: Vec<Output>,
    /// Our right to run it.
    pub(crate) claim: Claim,
    /// Who is to be told that it is accepted.
    pub(crate) accepted: Vec<oneshot::Sender<Result<(), PlanError>>>,
    /// Who waits for its end. Nobody, when the run was found unfinished and goes on by itself.
    pub(crate) outcomes: Vec<oneshot::Sender<Outcome>>,
    /// Who is to be told that the run is cancelled.
    pub(crate) cancels: Vec<oneshot::Sender<Cancelled>>,
    /// Others with another plan for the run, while it is not known yet whose is the run's own.
    pub(crate) rivals: Vec<Waiting>,
}

/// Who asked for a run, or to cancel it, behind a plan that was not the run's.
pub(crate) struct Unheard {
    pub(crate) run_id: RunId,
    pub(crate) rivals: Vec<Waiting>,
    pub(crate) cancels: Vec<oneshot::Sender<Cancelled>>,
}

/// What a submission answers: when it is accepted, and when it is over.
pub(crate) struct Submitted {
    pub(crate) run_id: RunId,
    pub(crate) accepted: oneshot::Receiver<Result<(), PlanError>>,
    pub(crate) outcome: oneshot::Receiver<Outcome>,
}

impl ExecutionOrchestrator {
    /// Puts a plan into the line if it is valid, or attaches to the run that it names.
    pub(crate) fn submit(
        &mut self,
        message: ExecutePlan,
        ctx: &mut Context<Self>,
    ) -> Result<Submitted, PlanError> {
        if self.closing.is_some() {
            return Err(PlanError::ShuttingDown);
        }
        let named = message.run_id.is_some();
        let run_id = message.run_id.map_or_else(|| Ok(RunId::random()), |id| id.parse())?;
        let plan = Arc::new(CheckedPlan::new(message.plan)?);
        let (accepted, accepted_reply) = oneshot::channel();
        let (outcome, outcome_reply) = oneshot::channel();
        let submitted =
            Submitted { run_id: run_id.clone(), accepted: accepted_reply, outcome: outcome_reply };
        let mut waiting = Waiting::new(run_id, message.project, plan, Claim::new());
        waiting.durability = message.durability;
        waiting.accepted.push(accepted);
        waiting.outcomes.push(outcome);
        self.admit(waiting, named, ctx);
        Ok(submitted)
    }

    /// Lets a plan wait in the line, or its callers with those of the run that is here already.
    pub(crate) fn admit(&mut self, waiting: Waiting, named: bool, ctx: &mut Context<Self>) {
        let Some(waiting) = self.attach(waiting) else { return };
        let Some(ticket) = self.line.join() else {
            let full = PlanError::QueueFull { capacity: self.line.capacity };
            return if named { self.answer_if_over(waiting, full) } else { waiting.turn_away(&full) };
        };
        self.tickets.insert(waiting.run_id.clone(), ticket);
        self.waiting.insert(ticket, waiting);
        if named {
            self.line.finding(ticket);
            self.find(ticket, ctx);
        } else {
            self.resolve(ticket, ctx);
        }
    }

    /// A run that is over needs no place in the line: its callers get what is stored. All others are turned away.
    fn answer_if_over(&self, waiting: Waiting, full: PlanError) {
        let Some(place) = self.links.lookups.enter() else { return waiting.turn_away(&full) };
        let links = Rc::clone(&self.links);
        actix::spawn(async move {
            let outcome = match stored_outcome(&links, &waiting).await {
                Ok(Some(outcome)) => outcome,
                Ok(None) => Err(full),
                Err(error) => Err(error),
            };
            waiting.answer(&outcome);
            drop(place);
        });
    }

    /// Refuses a plan that is not that of the run it names, or not to be run here. Gives back who has still to be heard.
    pub(crate) fn displace(&mut self, ticket: Ticket, error: PlanError) -> Option<Unheard> {
        let waiting = self.waiting.get_mut(&ticket)?;
        let (rivals, cancels) = (std::mem::take(&mut waiting.rivals), std::mem::take(&mut waiting.cancels));
        let unheard = Unheard { run_id: waiting.run_id.clone(), rivals, cancels };
        self.refuse(ticket, error);
        Some(unheard)
    }

    pub(crate) fn hear(&mut self, unheard: Option<Unheard>, ctx: &mut Context<Self>) {
        let Some(Unheard { run_id, rivals, cancels }) = unheard else { return };
        for rival in rivals {
            self.admit(rival, true, ctx);
        }
        // A shutdown waits for no answer, and means only what is here.
        for cancelled in cancels.into_iter().filter(|cancelled| !cancelled.is_closed()) {
            self.cancel_or_tell(run_id.clone(), cancelled, ctx);
        }
    }

    /// Asks the allocator for the callables of a plan.
    pub(crate) fn resolve(&self, ticket: Ticket, ctx: &mut Context<Self>) {
        let Some(waiting) = self.waiting.get(&ticket) else { return };
        // Sent here, so that plans reach the allocator in their order.
        let request = self.links.resolve.send(Resolve::new(Arc::clone(&waiting.plan)));
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
        self.conclude(ticket, Err(error));
    }

    /// Takes a plan out of the line and answers its callers, without anything having run.
    pub(crate) fn conclude(&mut self, ticket: Ticket, outcome: Outcome) {
        self.line.remove(ticket);
        let Some(waiting) = self.take_waiting(ticket) else { return };
        // Whoever asks again when he has his answer is not to find that somebody holds the run.
        drop(waiting.claim);
        for accepted in waiting.accepted {
            let _ = accepted.send(outcome.as_ref().map(drop).map_err(Clone::clone));
        }
        self.settle(outcome, waiting.outcomes, waiting.cancels);
    }

    pub(crate) fn resolved(
        &mut self,
        ticket: Ticket,
        answer: Result<Vec<Callable>, Unresolved>,
        ctx: &mut Context<Self>,
    ) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        if !self.line.is_resolving(ticket) {
            return;
        }
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
        if self.line.is_returning(ticket) {
            self.interrupt(ticket, error, ctx);
        } else {
            self.refuse(ticket, error);
        }
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
                for accepted in waiting.accepted.drain(..) {
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

/// How a run ended that is over, for callers who have its plan; `None` for one that is not over, or not known.
async fn stored_outcome(links: &Links, asked: &Waiting) -> Result<Option<Outcome>, PlanError> {
    let run_id = &asked.run_id;
    let failed = |error| PlanError::from_memory(run_id.clone(), error);
    let record = links.get_run.send(GetRun(run_id.clone())).await.unwrap_or(Err(MemoryError::Stopped));
    // Only then is it read whole: that would claim a run which is not over, and keep others from it meanwhile.
    if !record.map_err(failed)?.is_some_and(|record| record.state.is_final()) {
        return Ok(None);
    }
    let found = links.find_run.send(FindRun::new(run_id.clone(), asked.claim.clone())).await;
    let Some(found) = found.unwrap_or(Err(MemoryError::Stopped)).map_err(failed)? else { return Ok(None) };
    compare_records(run_id, (&found.record.project, &found.plan), (&asked.project, asked.plan.record()))?;
    Ok(Some(outcome_of(found)))
}

impl Waiting {
    /// A plan of which nothing is stored, and nobody has asked for an answer.
    pub(crate) fn new(run_id: RunId, project: Project, plan: Arc<CheckedPlan>, claim: Claim) -> Self {
        Self {
            run_id,
            project,
            plan,
            durability: None,
            callables: Vec::new(),
            at: Position::QUEUED,
            reason: None,
            outputs: Vec::new(),
            claim,
            accepted: Vec::new(),
            outcomes: Vec::new(),
            cancels: Vec::new(),
            rivals: Vec::new(),
        }
    }

    /// Tells its callers that it does not get into the line.
    pub(crate) fn turn_away(self, error: &PlanError) {
        self.answer(&Err(error.clone()));
    }

    /// Answers its callers without a place in the line.
    fn answer(self, outcome: &Outcome) {
        for accepted in self.accepted {
            let _ = accepted.send(outcome.as_ref().map(drop).map_err(Clone::clone));
        }
        for reply in self.outcomes {
            let _ = reply.send(outcome.clone());
        }
    }

    pub(crate) fn commit(&self, decision: machine::Decision) -> Box<Commit> {
        commit_of(&self.run_id, &self.project, self.durability, decision)
    }

    /// A commit that also stores the run itself.
    pub(crate) fn accepting(&self, decision: machine::Decision) -> Box<Commit> {
        let mut commit = self.commit(decision);
        let mut new = NewRun::new(self.plan.record().clone(), self.claim.clone());
        new.durability = self.durability;
        commit.accept = Some(Box::new(new));
        commit
    }
}
