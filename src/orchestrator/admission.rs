//! The way of a plan from its submission to its place in the line: checked, looked up, resolved, accepted.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{AsyncContext, Context};
use tokio::sync::oneshot;

use super::actor::ExecutionOrchestrator;
use super::breakers::{BreakerSet, Gate};
use super::control::{Cancelled, cancelled_by};
use super::error::PlanError;
use super::internal::{Happened, tell};
use super::limit::Deadline;
use super::line::Ticket;
use super::links::{Links, stored};
use super::machine;
use super::messages::{CancelOutcome, ExecutePlan};
use super::outcome::outcome_of;
use super::permits::LimitSet;
use super::recovery::compare_records;
use super::runner::Outcome;
use super::shutdown::stands_aside;
use super::signals::Posted;
use super::waiting::{Alarm, Waiting};
use super::watch::Request;
use crate::id::to_micros;
use crate::memory::{Claim, Committed, FindRun, GetRun, MemoryError};
use crate::plan::{CheckedPlan, InvalidPlan};
use crate::run::{RunId, RunState};

/// Who asked for a run, or to cancel it, behind a plan that was not the run's.
pub(crate) struct Unheard {
    pub(crate) run_id: RunId,
    pub(crate) requests: Vec<Request>,
    pub(crate) posted: Vec<Posted>,
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
        let plan = Arc::new(CheckedPlan::with_inputs(message.plan, message.inputs)?);
        self.check_guards(&plan)?;
        let now = self.clock.now();
        let deadline = match message.deadline {
            Some(Duration::ZERO) => return Err(InvalidPlan::NoTime.into()),
            // What is too far away to be told never comes.
            Some(after) => now.checked_add(after).map(|at| Deadline { at: to_micros(at), after }),
            None => None,
        };
        let (accepted, accepted_reply) = oneshot::channel();
        let (outcome, outcome_reply) = oneshot::channel();
        let submitted =
            Submitted { run_id: run_id.clone(), accepted: accepted_reply, outcome: outcome_reply };
        let mut waiting = Waiting::new(run_id, message.project, plan, Claim::new());
        (waiting.durability, waiting.deadline) = (message.durability, deadline);
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
        self.insert(ticket, waiting, ctx);
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
        let (requests, posted) = (std::mem::take(&mut waiting.requests), std::mem::take(&mut waiting.posted));
        let unheard = Unheard { run_id: waiting.run_id.clone(), requests, posted, rivals, cancels };
        self.refuse(ticket, error);
        Some(unheard)
    }

    pub(crate) fn hear(&mut self, unheard: Option<Unheard>, ctx: &mut Context<Self>) {
        let Some(Unheard { run_id, requests, posted, rivals, cancels }) = unheard else { return };
        for rival in rivals {
            self.admit(rival, true, ctx);
        }
        // A shutdown waits for no answer, and means only what is here.
        for cancelled in cancels.into_iter().filter(|cancelled| !cancelled.is_closed()) {
            self.cancel_or_tell(run_id.clone(), cancelled, ctx);
        }
        for request in requests {
            self.steer(run_id.clone(), request, ctx);
        }
        for posted in posted {
            self.signal(posted, ctx);
        }
    }

    /// Every breaker and every limit that a step names must be there.
    pub(crate) fn check_guards(&self, plan: &CheckedPlan) -> Result<(), PlanError> {
        check_guards(plan, (&self.breakers, &self.limits))
    }

    /// Lets a plan wait, until its deadline if it has one.
    pub(crate) fn insert(&mut self, ticket: Ticket, waiting: Waiting, ctx: &Context<Self>) {
        self.waiting.insert(ticket, waiting);
        self.set_alarm(ticket, ctx);
    }

    /// Sees to its deadline for as long as it waits. One that has been started does so itself.
    pub(crate) fn set_alarm(&mut self, ticket: Ticket, ctx: &Context<Self>) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        waiting.alarm = waiting.deadline.map(|deadline| {
            let left = deadline.at.duration_since(self.clock.now()).unwrap_or_default();
            let myself = ctx.address().downgrade();
            Alarm(actix::spawn(async move {
                tokio::time::sleep(left).await;
                tell(&myself, Happened::Overdue { ticket });
            }))
        });
    }

    /// The deadline of a plan is there.
    pub(crate) fn overdue(&mut self, ticket: Ticket, ctx: &mut Context<Self>) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        // The run that it turned out to be may have another one.
        let overdue = waiting.deadline.is_some_and(|deadline| deadline.at <= self.clock.now());
        // Nor does it bound how long undoing takes.
        if !overdue || waiting.undoing.is_some() {
            return;
        }
        waiting.overdue = true;
        self.withdraw(ticket, ctx);
    }

    /// A run that waits for something else than a slot does not wait in the line.
    pub(crate) fn set_aside(&mut self, ticket: Ticket, ctx: &mut Context<Self>) {
        let Some(waiting) = self.waiting.get(&ticket) else { return };
        let aside = match waiting.at.state {
            state if stands_aside(state) => true,
            // Only to be paused.
            RunState::Queued => !waiting.requests.is_empty(),
            // The same for one that was cut off, and for one that was about to pause by then and no longer is to.
            RunState::Running | RunState::BackingOff | RunState::Interrupted => {
                matches!(waiting.requests.first(), Some(Request::Pause(_) | Request::Resume(_)))
            }
            _ => false,
        };
        if aside && waiting.undoing.is_none() && self.line.is_accepted(ticket) {
            self.line.leave_for_aside(ticket);
            if let Some(mut waiting) = self.take_waiting(ticket) {
                if !stands_aside(waiting.at.state) {
                    waiting.at = machine::aside(&waiting.plan, waiting.at, waiting.failure.as_ref());
                }
                self.launch(waiting, None, Gate::default(), ctx);
            }
        }
    }

    /// Stores the acceptance of a plan that has to wait.
    pub(crate) fn accept(&mut self, ticket: Ticket, ctx: &mut Context<Self>) {
        let Some(waiting) = self.waiting.get(&ticket) else { return };
        // Sent here, so that acceptances are stored in the order of the line.
        let request = self.links.commit.send(waiting.accepting(waiting.acceptance(None)));
        self.post(ticket, ctx);
        let myself = ctx.address().downgrade();
        actix::spawn(async move {
            let stored = stored(request.await);
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
        let Some(mut waiting) = self.take_waiting(ticket) else { return };
        let state = cancelled_by(&outcome).ok().and_then(CancelOutcome::state);
        let state = state.unwrap_or(RunState::Interrupted);
        if waiting.reopen.is_some() {
            self.not_reopened(&mut waiting, &outcome);
        }
        Self::too_late(waiting.requests, state);
        waiting.posted.into_iter().for_each(|posted| posted.too_late(state));
        // Whoever asks again when he has his answer is not to find that somebody holds the run.
        drop(waiting.claim);
        for accepted in waiting.accepted {
            let _ = accepted.send(outcome.as_ref().map(drop).map_err(Clone::clone));
        }
        self.settle(outcome, waiting.outcomes, waiting.cancels);
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
                let withdrawn = !waiting.cancels.is_empty() || waiting.overdue;
                // From now on it is a run like all others.
                waiting.reopen = None;
                waiting.take_over();
                self.line.accepted(ticket);
                if withdrawn {
                    self.withdraw(ticket, ctx);
                } else {
                    self.set_aside(ticket, ctx);
                }
            }
        }
    }
}

/// Every breaker and every limit that a step names must be one of these.
pub(crate) fn check_guards(
    plan: &CheckedPlan,
    (breakers, limits): (&BreakerSet, &LimitSet),
) -> Result<(), PlanError> {
    if !plan.has_policies() {
        return Ok(());
    }
    if let Some((step_id, name, similar)) = unknown(plan.record().breakers(), breakers) {
        return Err(PlanError::UnknownBreaker { step_id, name, similar });
    }
    if let Some((step_id, name, similar)) = unknown(plan.record().limits(), limits) {
        return Err(PlanError::UnknownLimit { step_id, name, similar });
    }
    Ok(())
}

/// The first name that is not known, with its step, and one that is known and looks alike.
fn unknown<'p, T>(
    mut named: impl Iterator<Item = (&'p str, &'p Arc<str>)>,
    known: &BTreeMap<Arc<str>, T>,
) -> Option<(String, String, Option<String>)> {
    let (step_id, name) = named.find(|(_, name)| !known.contains_key(*name))?;
    let likeness = |known: &&Arc<str>| strsim::damerau_levenshtein(known, name);
    let similar = known.keys().min_by_key(likeness).filter(|known| likeness(known) <= 2);
    Some((step_id.to_owned(), name.to_string(), similar.map(|name| name.to_string())))
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
