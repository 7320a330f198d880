//! Slots, and who has one: runs are started, stand aside, and come back.

use std::rc::Rc;
use std::sync::Arc;

use actix::{AsyncContext, Context};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::actor::ExecutionOrchestrator;
use super::breakers::{self, Change, Gate};
use super::error::PlanError;
use super::internal::{Happened, tell};
use super::line::Ticket;
use super::machine::{self, Ahead, Input, Position};
use super::permits;
use super::runner::{Outcome, Runner, Sent};
use super::waiting::Waiting;
use super::watch::{Request, Watch};
use crate::isolate::Isolated;
use crate::limits::{MAX_CONCURRENT_PLANS, MAX_QUEUE_CAPACITY};
use crate::plan::{CheckedPlan, RunScope};
use crate::project::Project;
use crate::run::{RunId, RunState};

/// A run that was started: it has a task of its own.
pub(crate) struct Active {
    pub(crate) place: Place,
    pub(crate) watch: Rc<Watch>,
    pub(crate) project: Project,
    pub(crate) plan: Arc<CheckedPlan>,
    pub(crate) generation: u32,
    pub(crate) cancellation: CancellationToken,
    /// Who waits for its end.
    pub(crate) outcomes: Vec<oneshot::Sender<Outcome>>,
}

/// Where a run is that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It holds a slot.
    Slot,
    /// It waits for something else than a slot.
    Aside,
    /// It is back in the line.
    Line(Ticket),
}

impl ExecutionOrchestrator {
    /// Runs up to `plans` plans at a time, from 1 (the default) to [`MAX_CONCURRENT_PLANS`]; values outside are taken
    /// as the nearest bound. The steps of each plan still run one after another.
    #[must_use]
    pub fn max_concurrent_plans(mut self, plans: usize) -> Self {
        self.line.slots = plans.clamp(1, MAX_CONCURRENT_PLANS);
        self
    }

    /// Lets up to `plans` plans wait, [`QUEUE_CAPACITY`](crate::limits::QUEUE_CAPACITY) by default and [`MAX_QUEUE_CAPACITY`] at most. The next one gets
    /// [`PlanError::QueueFull`]. Runs that wait without a slot count too: those that are paused, parked, asleep or held, and those that
    /// await a signal.
    #[must_use]
    pub fn queue_capacity(mut self, plans: usize) -> Self {
        self.line.capacity = plans.min(MAX_QUEUE_CAPACITY);
        self
    }

    /// A plan, or a run that stood aside, gets the slot that it waited for.
    pub(crate) fn start_run(&mut self, ticket: Ticket, accepted: bool, ctx: &mut Context<Self>) {
        if let Some((run_id, grant)) = self.ready.remove(&ticket) {
            return self.grant(&run_id, grant);
        }
        let Some(mut waiting) = self.take_waiting(ticket) else {
            self.line.finished();
            return;
        };
        let (at, now) = (waiting.at, self.clock.now());
        let posted = std::mem::take(&mut waiting.posted);
        let (ahead, mut gate) = if waiting.undoing.is_some() {
            (Ahead::Go, Gate::default())
        } else if at.attempt == 0 && waiting.plan.condition(at.cursor).is_some() {
            (Ahead::Check, Gate::default())
        } else if waiting.plan.wait(at.cursor).is_some() {
            (Ahead::Wait(now), Gate::default())
        } else if at.asks_breaker(now) && machine::calls_again(&waiting.plan, at, waiting.failure.as_ref()) {
            let guards = (&self.breakers, &self.limits);
            permits::ahead(guards, &waiting.plan, at.cursor, now, false, None)
        } else {
            (Ahead::Go, Gate::default())
        };
        let changes: Vec<Change> = gate.change.take().into_iter().collect();
        let started = match at.state {
            _ if !accepted => Some(waiting.acceptance(Some(ahead))),
            // The task sees to what the limit leads to that its last attempt had come to.
            RunState::Stopping => None,
            // That it has something to undo was stored while it waited.
            RunState::Compensating if !waiting.recovered => None,
            _ => {
                let input =
                    if waiting.recovered { Input::Resume(ahead, now) } else { Input::Start(ahead, now) };
                machine::decide(&waiting.plan, at, &waiting.known(), input)
            }
        };
        let first = started.map(|started| {
            let (to, failure, undoing) = (started.to, started.failure.clone(), started.undoing.clone());
            let mut commit = if accepted { waiting.commit(started) } else { waiting.accepting(started) };
            breakers::tell(&changes, &mut commit);
            // Sent here, for the order of the line too.
            Sent::new(to, failure, undoing, self.links.commit.send(commit))
        });
        if !accepted && waiting.reopen.is_none() {
            waiting.at = Position::QUEUED;
        }
        // Behind the acceptance.
        for posted in posted {
            self.record_signal(posted, ctx);
        }
        self.launch(waiting, Some(first), gate, ctx);
    }

    /// A run that stood aside gets a slot, unless it does not want one any more.
    fn grant(&mut self, run_id: &RunId, grant: oneshot::Sender<()>) {
        let granted = grant.send(()).is_ok();
        match self.active.get_mut(run_id) {
            Some(active) if granted => active.place = Place::Slot,
            Some(active) => {
                active.place = Place::Aside;
                self.line.step_aside();
            }
            None => self.line.finished(),
        }
    }

    /// Gives a run a task of its own: with a slot and what it sent first, or aside.
    pub(crate) fn launch(
        &mut self,
        mut waiting: Waiting,
        slot: Option<Option<Sent>>,
        gate: Gate,
        ctx: &mut Context<Self>,
    ) {
        waiting.take_over();
        let run_id = waiting.run_id;
        let report = self.links.progress_reporter(run_id.clone());
        let plan = Arc::clone(&waiting.plan);
        let scope = RunScope::new(run_id.clone(), plan, waiting.outputs, report);
        let scope = scope.in_generation(waiting.generation, waiting.set_inputs);
        #[cfg(feature = "expressions")]
        let scope = scope.in_surroundings(self.surroundings.clone());
        let scope = Arc::new(scope);
        let watch = Watch::new(waiting.at, waiting.accepted);
        watch.failure.replace(waiting.failure);
        watch.signals.replace(waiting.signals);
        watch.undoing.replace(waiting.undoing);
        watch.skipped.replace(waiting.skipped);
        if slot.as_ref().is_none_or(Option::is_none) {
            // It begins where it is stored to be.
            watch.since.set(Some(self.clock.now()));
        }
        for request in waiting.requests {
            watch.ask(request);
        }
        if slot.is_none() && self.closing.is_some() {
            watch.ask(Request::Leave);
        }
        let active = Active {
            place: if slot.is_some() { Place::Slot } else { Place::Aside },
            watch: Rc::clone(&watch),
            project: waiting.project.clone(),
            plan: waiting.plan,
            generation: waiting.generation,
            cancellation: scope.cancellation.clone(),
            outcomes: waiting.outcomes,
        };
        self.active.insert(run_id.clone(), active);
        let runner = Runner {
            links: Rc::clone(&self.links),
            orchestrator: ctx.address().downgrade(),
            scope,
            project: waiting.project,
            durability: waiting.durability,
            deadline: waiting.deadline,
            callables: waiting.callables,
            breakers: Rc::clone(&self.breakers),
            limits: Rc::clone(&self.limits),
            clock: self.clock.clone(),
            random: Rc::clone(&self.random),
            watch,
            claim: waiting.claim,
            slot: slot.is_some(),
            gate,
            changes: Vec::new(),
        };
        let myself = ctx.address().downgrade();
        // A task of its own: a wake-up costs the same however many plans run, and what escapes the containment of a
        // step ends this run only.
        let run = Isolated::new(Box::pin(runner.run(slot.flatten())));
        actix::spawn(async move {
            let outcome = run.await.unwrap_or_else(|message| {
                let reason = format!("its task panicked: {message}");
                Err(PlanError::Interrupted { run_id: run_id.clone(), reason })
            });
            tell(&myself, Happened::Ended { run_id, outcome });
        });
    }

    /// A run has given its slot back.
    pub(crate) fn released(&mut self, run_id: &RunId) {
        let Some(active) = self.active.get_mut(run_id) else { return };
        if active.place == Place::Slot {
            active.place = Place::Aside;
            self.line.step_aside();
        }
        if self.closing.is_some() && active.waits_for_somebody() {
            // Nobody will give it.
            active.watch.ask(Request::Leave);
        }
    }

    /// A run that stood aside wants a slot.
    pub(crate) fn wants_slot(&mut self, run_id: RunId, grant: oneshot::Sender<()>) {
        let Some(active) = self.active.get_mut(&run_id) else { return };
        if let Place::Line(ticket) = active.place {
            // It had wanted one before, and then not.
            self.ready.remove(&ticket);
            self.line.not_ready(ticket);
        }
        let ticket = self.line.ready();
        active.place = Place::Line(ticket);
        self.ready.insert(ticket, (run_id, grant));
    }

    /// A run leaves the place that it had.
    pub(crate) fn vacate(&mut self, place: Place) {
        match place {
            Place::Slot => self.line.finished(),
            Place::Aside => self.line.left(),
            Place::Line(ticket) => {
                self.ready.remove(&ticket);
                self.line.remove(ticket);
            }
        }
    }
}
