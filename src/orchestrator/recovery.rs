//! Runs that are known already: attaching to one by its id, and going on with what was unfinished at the start.

use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use actix::{AsyncContext, Context};

use super::actor::ExecutionOrchestrator;
use super::admission::Unheard;
use super::error::PlanError;
use super::going_on::unfinished;
use super::internal::{GoesOn, Happened, Unfinished, tell};
use super::limit::Deadline;
use super::line::Ticket;
use super::links::stored;
use super::machine::{self, Input, Position};
use super::outcome::outcome_of;
use super::status::RunInfo;
use super::waiting::Waiting;
use crate::causes::with_causes;
use crate::memory::{Claim, Committed, FindRun, FoundRun, KeptSignal, MemoryError};
use crate::plan::{CheckedPlan, PlanRecord};
use crate::project::Project;
use crate::resilience::BreakerRecord;
use crate::run::{RunId, RunRecord, RunState};

impl ExecutionOrchestrator {
    /// Lets callers wait for a run that waits or runs here, if there is one; else gives them back.
    pub(crate) fn attach(&mut self, mut caller: Waiting) -> Option<Waiting> {
        let now = (&caller.project, &*caller.plan);
        if let Some(active) = self.active.get_mut(&caller.run_id) {
            match compare(&caller.run_id, (&active.project, &active.plan), now) {
                Err(error) => caller.turn_away(&error),
                Ok(()) => {
                    active.outcomes.append(&mut caller.outcomes);
                    for accepted in caller.accepted {
                        active.watch.accepted_by(accepted);
                    }
                }
            }
            return None;
        }
        let ticket = self.tickets.get(&caller.run_id).copied();
        let Some((ticket, waiting)) =
            ticket.and_then(|ticket| Some((ticket, self.waiting.get_mut(&ticket)?)))
        else {
            return Some(caller);
        };
        match compare(&caller.run_id, (&waiting.project, &waiting.plan), now) {
            // Which of the two is the run's own plan, memory has still to say.
            Err(_) if self.line.is_finding(ticket) => waiting.rivals.push(caller),
            Err(error) => caller.turn_away(&error),
            Ok(()) => {
                waiting.outcomes.append(&mut caller.outcomes);
                if !waiting.accepted.is_empty() {
                    waiting.accepted.append(&mut caller.accepted);
                }
                for accepted in caller.accepted {
                    let _ = accepted.send(Ok(()));
                }
            }
        }
        None
    }

    /// Asks memory whether it knows the run, once it is known what goes on by itself.
    pub(crate) fn find(&mut self, ticket: Ticket, ctx: &mut Context<Self>) {
        let Some(waiting) = self.waiting.get(&ticket) else { return };
        if !self.is_settled(&waiting.run_id) {
            self.to_find.push(ticket);
            return;
        }
        let request = self.links.find_run.send(FindRun::new(waiting.run_id.clone(), waiting.claim.clone()));
        let myself = ctx.address().downgrade();
        actix::spawn(async move {
            let found = request.await.unwrap_or(Err(MemoryError::Stopped));
            tell(&myself, Happened::Found { ticket, found: Box::new(found) });
        });
    }

    /// A new run goes on to be resolved, and so does one that was cut off; one that is over is answered for.
    pub(crate) fn found(
        &mut self,
        ticket: Ticket,
        found: Result<Option<FoundRun>, MemoryError>,
        ctx: &mut Context<Self>,
    ) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        let run_id = waiting.run_id.clone();
        let rivals = std::mem::take(&mut waiting.rivals);
        let unheard = match self.found_run(ticket, found, ctx) {
            Ok(()) => Some(Unheard {
                run_id,
                rivals,
                requests: Vec::new(),
                posted: Vec::new(),
                cancels: Vec::new(),
            }),
            Err(error) => {
                let unheard = self.displace(ticket, error);
                unheard.map(|unheard| Unheard { rivals, ..unheard })
            }
        };
        self.hear(unheard, ctx);
        // What is asked of it, and waited for that.
        self.asks_again = true;
    }

    /// The same, for the plan that has the ticket. An error says that it is not the run's, or that the run is not ours.
    fn found_run(
        &mut self,
        ticket: Ticket,
        found: Result<Option<FoundRun>, MemoryError>,
        ctx: &mut Context<Self>,
    ) -> Result<(), PlanError> {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return Ok(()) };
        let run_id = waiting.run_id.clone();
        let goes_on = match found {
            Err(MemoryError::RunHeld { run_id }) => return Err(PlanError::RunElsewhere { run_id }),
            Err(error) => {
                self.refuse(ticket, PlanError::from_memory(run_id, error));
                return Ok(());
            }
            Ok(None) => false,
            Ok(Some(found)) => {
                let recorded = (&found.record.project, &found.plan);
                compare_records(&run_id, recorded, (&waiting.project, waiting.plan.record()))?;
                if found.record.state.is_final() {
                    self.conclude(ticket, outcome_of(found));
                    return Ok(());
                }
                if !found.claimed {
                    return Err(PlanError::RunElsewhere { run_id });
                }
                self.interrupted.retain(|info| info.run_id != run_id);
                waiting.take_up(found);
                for accepted in waiting.accepted.drain(..) {
                    let _ = accepted.send(Ok(()));
                }
                true
            }
        };
        let undoes = waiting.undoing.is_some();
        let withdrawn = !undoes && (!waiting.cancels.is_empty() || waiting.is_stopping() || waiting.overdue);
        if goes_on {
            self.set_alarm(ticket, ctx);
            self.post(ticket, ctx);
        }
        self.line.found(ticket, goes_on);
        if undoes {
            self.stand_by(ticket);
        }
        if withdrawn {
            self.withdraw(ticket, ctx);
        } else {
            self.resolve(ticket, ctx);
        }
        Ok(())
    }

    /// Looks for what was unfinished when this orchestrator was started. Nothing is started before that is known.
    pub(crate) fn find_unfinished(&self, ctx: &mut Context<Self>) {
        let (links, myself) = (Rc::clone(&self.links), ctx.address().downgrade());
        let recover = self.recover;
        actix::spawn(async move {
            let found = unfinished(&links, recover).await;
            tell(&myself, Happened::Recovered { found });
        });
    }

    pub(crate) fn recovered(&mut self, found: Result<Unfinished, MemoryError>, ctx: &mut Context<Self>) {
        match found {
            // They are left to whoever comes next.
            Ok(_) if self.closing.is_some() => {}
            Ok(found) => {
                self.restore_breakers(&found.breakers);
                for (claim, run) in found.runs {
                    self.take_up(claim, run, ctx);
                }
            }
            Err(error) => {
                log::error!(
                    target: "lunacore::orchestrator",
                    "unfinished runs cannot be read, and do not go on: {}", with_causes(&error)
                );
            }
        }
        self.line.open();
        self.ask_again(ctx);
    }

    /// Goes on with what was known of the breakers.
    fn restore_breakers(&self, records: &[BreakerRecord]) {
        for record in records {
            if let Some(breaker) = self.breakers.get(&record.name) {
                breaker.restore(record);
            }
        }
    }

    /// Whether memory says all there is to say about a run.
    pub(crate) fn is_settled(&self, run_id: &RunId) -> bool {
        self.line.is_open() && !self.unsettled.contains(run_id)
    }

    /// Memory has told what it knows of a run. Answers the signals that were kept for it since.
    pub(crate) fn settle_run(&mut self, run_id: &RunId) -> Vec<KeptSignal> {
        self.unsettled.remove(run_id);
        self.told.remove(run_id).unwrap_or_default()
    }

    /// That a run does not go on was stored, or was not.
    pub(crate) fn settled(
        &mut self,
        info: RunInfo,
        stored: Result<Committed, MemoryError>,
        ctx: &mut Context<Self>,
    ) {
        self.settle_run(&info.run_id);
        if let Err(error) = stored {
            let run_id = info.run_id.as_str();
            log::error!(
                target: "lunacore::orchestrator", run_id;
                "that run {run_id} is interrupted could not be stored: {error}"
            );
            self.remember(info);
        }
        self.ask_again(ctx);
    }

    /// A run that is not here was cancelled, or sent a signal, or was not.
    pub(crate) fn cancel_told(&mut self, run_id: &RunId, goes_on: Option<GoesOn>, ctx: &mut Context<Self>) {
        let told = self.settle_run(run_id);
        if let Some(goes_on) = goes_on.filter(|_| self.closing.is_none()) {
            let (claim, mut found) = *goes_on;
            found.signals.extend(told);
            self.interrupted.retain(|info| info.run_id != *run_id);
            self.take_up(claim, found, ctx);
        }
        self.ask_again(ctx);
    }

    /// Goes on with what had to wait until runs are settled.
    pub(crate) fn ask_again(&mut self, ctx: &mut Context<Self>) {
        for held in std::mem::take(&mut self.to_hold) {
            self.hold_again(held, ctx);
        }
        for ticket in std::mem::take(&mut self.to_find) {
            self.find(ticket, ctx);
        }
        for asker in std::mem::take(&mut self.to_continue) {
            self.continue_run(asker, ctx);
        }
        for (run_id, cancelled) in std::mem::take(&mut self.to_cancel) {
            self.cancel_or_tell(run_id, cancelled, ctx);
        }
        for (run_id, request) in std::mem::take(&mut self.to_steer) {
            self.steer(run_id, request, ctx);
        }
        for posted in std::mem::take(&mut self.to_signal) {
            self.signal(posted, ctx);
        }
        self.retry_again(ctx);
    }

    /// Puts a run that was unfinished into the line.
    fn take_up(&mut self, claim: Claim, found: FoundRun, ctx: &mut Context<Self>) {
        let run_id = found.record.run_id.clone();
        let mut unheard = None;
        if let Some(ticket) = self.tickets.get(&run_id).copied()
            && let Some(asked) = self.waiting.get(&ticket)
        {
            let recorded = (&found.record.project, &found.plan);
            match compare_records(&run_id, recorded, (&asked.project, asked.plan.record())) {
                // Somebody has asked for it meanwhile, and brings its plan along: the run is left to them.
                Ok(()) => return,
                Err(error) => unheard = self.displace(ticket, error),
            }
        }
        let plan = match CheckedPlan::new(found.plan.to_plan()) {
            Ok(plan) => Arc::new(plan),
            Err(error) => {
                log::error!(
                    target: "lunacore::orchestrator", run_id = run_id.as_str();
                    "the stored plan of run {run_id} is not valid, so that it does not go on: {error}"
                );
                return self.hear(unheard, ctx);
            }
        };
        let stuck = found.plan.cannot_go_on();
        let mut waiting = Waiting::new(run_id.clone(), found.record.project.clone(), plan, claim);
        waiting.take_up(found);
        waiting.stuck.clone_from(&stuck);
        let (stopping, guards) = (waiting.is_stopping(), self.check_guards(&waiting.plan));
        let ticket = self.line.rejoin();
        self.tickets.insert(run_id, ticket);
        self.insert(ticket, waiting, ctx);
        if stopping {
            self.withdraw(ticket, ctx);
        } else if let Some(reason) = stuck {
            self.interrupt_for(ticket, &reason, ctx);
        } else if let Err(error) = guards {
            self.interrupt_for(ticket, &error.to_string(), ctx);
        } else {
            self.resolve(ticket, ctx);
        }
        self.hear(unheard, ctx);
    }

    /// A run that is stored cannot be called.
    pub(crate) fn interrupt(&mut self, ticket: Ticket, error: PlanError, ctx: &mut Context<Self>) {
        let reason = with_causes(&error);
        let asked = self.waiting.get_mut(&ticket).map(|waiting| std::mem::take(&mut waiting.outcomes));
        self.interrupt_for(ticket, &reason, ctx);
        if let Some(outcomes) = asked.filter(|outcomes| !outcomes.is_empty()) {
            self.settle(Err(error), outcomes, Vec::new());
        }
    }

    /// Takes a run out of the line and says loudly, and durably, why it does not go on.
    pub(crate) fn interrupt_for(&mut self, ticket: Ticket, reason: &str, ctx: &mut Context<Self>) {
        self.line.remove(ticket);
        let Some(mut waiting) = self.take_waiting(ticket) else { return };
        let run_id = waiting.run_id.clone();
        // They are told where it stands, once that is stored.
        let requests = std::mem::take(&mut waiting.requests);
        self.to_steer.extend(requests.into_iter().map(|request| (run_id.clone(), request)));
        self.asks_again = true;
        log::warn!(
            target: "lunacore::orchestrator", run_id = run_id.as_str();
            "run {run_id} was cut off and does not go on by itself: {reason}"
        );
        if waiting.at.state == RunState::Interrupted && waiting.reason.as_deref() == Some(reason) {
            // It was told before, by an earlier start.
            return;
        }
        let reason: Arc<str> = Arc::from(reason);
        let told = Some(Arc::clone(&reason));
        let info = RunInfo::interrupted(run_id.clone(), &waiting.plan, waiting.at, told);
        let input = Input::Interrupt { reason };
        let decision = machine::decide(&waiting.plan, waiting.at, &waiting.known(), input);
        let Some(decision) = decision else { return };
        let request = self.links.commit.send(waiting.commit(decision));
        let myself = ctx.address().downgrade();
        self.unsettled.insert(run_id);
        actix::spawn(async move {
            let stored = stored(request.await);
            // Until it is stored, nobody else takes it up.
            drop(waiting);
            tell(&myself, Happened::Interrupted { info: Box::new(info), stored });
        });
    }
}

impl Waiting {
    /// Goes on from where memory says the run is.
    pub(crate) fn take_up(&mut self, found: FoundRun) {
        self.at = Position::of(&found.record);
        let RunRecord { reason, durability, failure, undoing, deadline, accepted_at, .. } = found.record;
        let RunRecord { generation, set_inputs, .. } = found.record;
        (self.undoing, self.skipped) = (undoing, found.skipped);
        (self.reason, self.failure, self.recovered, self.overdue) = (reason, failure, true, false);
        self.outputs = found.outputs;
        // Some may have been told of since memory looked.
        found.signals.into_iter().for_each(|signal| self.signals.keep(signal));
        (self.generation, self.set_inputs) = (generation, set_inputs);
        self.durability = self.durability.or(durability);
        // That of the run counts, and not that of whoever asks for it.
        let after = |at: SystemTime| at.duration_since(accepted_at).unwrap_or_default();
        self.deadline = deadline.map(|at| Deadline { at, after: after(at) });
    }
}

fn compare(
    run_id: &RunId,
    (was_in, was): (&Project, &CheckedPlan),
    (now_in, now): (&Project, &CheckedPlan),
) -> Result<(), PlanError> {
    compare_records(run_id, (was_in, was.record()), (now_in, now.record()))
}

/// Only the plan that a run was accepted with may attach to it, and only from its own project.
pub(crate) fn compare_records(
    run_id: &RunId,
    (was_in, was): (&Project, &PlanRecord),
    (now_in, now): (&Project, &PlanRecord),
) -> Result<(), PlanError> {
    let run_id = run_id.clone();
    if was_in != now_in {
        // Says nothing about whose it is.
        return Err(PlanError::RunExists { run_id });
    }
    let differences = was.differences(now);
    if differences.is_empty() { Ok(()) } else { Err(PlanError::PlanMismatch { run_id, differences }) }
}
