use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, AsyncContext, Context, Handler, Recipient, ResponseFuture, Running};
use serde_json::Value;
use tokio::sync::oneshot;

use super::abandoned::AbandonedCalls;
use super::admission::Submitted;
use super::breakers::{BreakerSet, Guarded};
use super::burst::Burst;
use super::control::{Cancelled, cancelled_by};
use super::error::PlanError;
use super::going_on::{Asker, Recover};
use super::internal::Happened;
use super::line::{Line, Move, Ticket};
use super::links::Links;
use super::messages::{CancelOutcome, ExecutePlan, RunHandle, SubmitPlan};
use super::permits::LimitSet;
use super::retrying::Retrier;
use super::runner::{Outcome, Random};
use super::shutdown::Closing;
use super::signals::Posted;
use super::slots::{Active, Place};
use super::status::RunInfo;
use super::waiting::Waiting;
use super::watch::Request;
use crate::allocator::Resolve;
use crate::bus::{Backlog, Publish};
use crate::clock::Clock;
use crate::limits::{LOOKUPS, MAILBOX, MAX_BREAKERS, PROGRESS_BACKLOG, QUEUE_CAPACITY};
use crate::memory::{
    Attach, Commit, FindRun, GetRun, KeptSignal, ListBreakers, ListRuns, ListUnfinished, RecordBreaker,
    RecordSignal,
};
#[cfg(feature = "expressions")]
use crate::plan::Surroundings;
use crate::resilience::{Breaker, InvalidBreaker};
use crate::run::{RunId, RunState};
#[cfg(feature = "expressions")]
use crate::secrets::Secrets;

/// The actor that runs plans: one at a time, in the order in which they came.
///
/// ```
/// use actix::prelude::*;
/// use lunacore::{EventBus, ExecutePlan, ExecutionOrchestrator, ProjectMemory, SimpleAllocator, Step};
///
/// # actix::System::new().block_on(async {
/// let bus = EventBus::new().start();
/// let memory = ProjectMemory::in_memory().start();
/// let allocator = SimpleAllocator.start();
/// let orchestrator = ExecutionOrchestrator::new(bus, memory, allocator).start();
///
/// let steps = vec![
///     Step::new("process", || "processed_data"),
///     Step::new("fetch", || async { "remote_data" }),
/// ];
/// let results = orchestrator.send(ExecutePlan::new(steps)).await??;
/// assert_eq!(results, ["processed_data", "remote_data"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
pub struct ExecutionOrchestrator {
    pub(crate) links: Rc<Links>,
    pub(crate) line: Line,
    pub(crate) waiting: HashMap<Ticket, Waiting>,
    pub(crate) active: HashMap<RunId, Active>,
    /// The tickets of the runs that wait.
    pub(crate) tickets: HashMap<RunId, Ticket>,
    /// Runs that were cut off here, the oldest first: memory may still hold them as running.
    pub(crate) interrupted: VecDeque<RunInfo>,
    /// Runs of which it is being stored that they do not go on by themselves.
    pub(crate) unsettled: HashSet<RunId>,
    /// Signals that turned out to be kept for those meanwhile.
    pub(crate) told: HashMap<RunId, Vec<KeptSignal>>,
    /// Which runs go on by themselves.
    pub(crate) recover: Recover,
    /// Who asked for a run, or to cancel one, before that was stored, or before it was known what goes on.
    pub(crate) to_find: Vec<Ticket>,
    pub(crate) to_continue: Vec<Asker>,
    pub(crate) to_retry: Vec<Retrier>,
    /// Runs that were held, were about to be tried again, and are not.
    pub(crate) to_hold: Vec<Waiting>,
    pub(crate) to_cancel: Vec<(RunId, oneshot::Sender<Cancelled>)>,
    pub(crate) to_steer: Vec<(RunId, Request)>,
    pub(crate) to_signal: Vec<Posted>,
    /// A run that was about to go on does not: whoever asked for it is to ask again.
    pub(crate) asks_again: bool,
    /// Runs that stood aside, are ready to go on, and wait for a slot.
    pub(crate) ready: HashMap<Ticket, (RunId, oneshot::Sender<()>)>,
    pub(crate) breakers: BreakerSet,
    pub(crate) limits: LimitSet,
    pub(crate) clock: Clock,
    pub(crate) random: Random,
    #[cfg(feature = "expressions")]
    pub(crate) surroundings: Surroundings,
    pub(crate) burst: Burst,
    pub(crate) closing: Option<Closing>,
    /// Dropped with the actor, for whoever waits for its end.
    alive: Option<oneshot::Sender<()>>,
}

impl ExecutionOrchestrator {
    /// An orchestrator that sends events to `bus`, commits to `memory` and asks `allocator` for callables.
    ///
    /// The actors are known by their messages only. The orchestrator introduces the bus to the memory when it starts.
    pub fn new<B, M>(bus: Addr<B>, memory: Addr<M>, allocator: impl Into<Recipient<Resolve>>) -> Self
    where
        B: Actor + Handler<Publish>,
        B::Context: ToEnvelope<B, Publish>,
        M: Actor
            + Handler<Attach>
            + Handler<Box<Commit>>
            + Handler<FindRun>
            + Handler<GetRun>
            + Handler<ListBreakers>
            + Handler<ListRuns>
            + Handler<ListUnfinished>
            + Handler<RecordBreaker>
            + Handler<RecordSignal>,
        M::Context: ToEnvelope<M, Attach>
            + ToEnvelope<M, Box<Commit>>
            + ToEnvelope<M, FindRun>
            + ToEnvelope<M, GetRun>
            + ToEnvelope<M, ListBreakers>
            + ToEnvelope<M, RecordBreaker>
            + ToEnvelope<M, RecordSignal>
            + ToEnvelope<M, ListUnfinished>
            + ToEnvelope<M, ListRuns>,
    {
        let links = Links {
            publish: bus.recipient(),
            commit: memory.clone().recipient(),
            get_run: memory.clone().recipient(),
            find_run: memory.clone().recipient(),
            list_unfinished: memory.clone().recipient(),
            list_runs: memory.clone().recipient(),
            list_breakers: memory.clone().recipient(),
            record_breaker: memory.clone().recipient(),
            record_signal: memory.clone().recipient(),
            attach: memory.recipient(),
            resolve: allocator.into(),
            progress: Backlog::new(PROGRESS_BACKLOG),
            lookups: Backlog::new(LOOKUPS),
            abandoned: AbandonedCalls::default(),
        };
        Self {
            links: Rc::new(links),
            line: Line::new(1, QUEUE_CAPACITY),
            waiting: HashMap::new(),
            active: HashMap::new(),
            tickets: HashMap::new(),
            interrupted: VecDeque::new(),
            unsettled: HashSet::new(),
            told: HashMap::new(),
            recover: Recover::default(),
            to_find: Vec::new(),
            to_continue: Vec::new(),
            to_retry: Vec::new(),
            to_hold: Vec::new(),
            to_cancel: Vec::new(),
            to_steer: Vec::new(),
            to_signal: Vec::new(),
            asks_again: false,
            ready: HashMap::new(),
            breakers: BreakerSet::default(),
            limits: LimitSet::default(),
            clock: Clock::default(),
            random: Rc::new(fastrand::f64),
            #[cfg(feature = "expressions")]
            surroundings: Surroundings::default(),
            burst: Burst::default(),
            closing: None,
            alive: None,
        }
    }

    /// A receiver that resolves when the actor is gone.
    pub(crate) fn watch_end(&mut self) -> oneshot::Receiver<()> {
        let (alive, gone) = oneshot::channel();
        self.alive = Some(alive);
        gone
    }

    /// Has a circuit breaker, which watches all steps that [name it](crate::Step::breaker), in all plans. One of the same name
    /// takes its place; the last of a [thousand](MAX_BREAKERS) is the last.
    ///
    /// What memory knows of it from before counts: one that was open is open until its time.
    ///
    /// # Errors
    /// It cannot be one: see [`InvalidBreaker`].
    pub fn breaker(mut self, breaker: Breaker) -> Result<Self, InvalidBreaker> {
        breaker.check()?;
        let (name, now) = (Arc::from(breaker.name()), self.clock.now());
        if let Some(breakers) = Rc::get_mut(&mut self.breakers)
            && (breakers.len() < MAX_BREAKERS || breakers.contains_key(&name))
        {
            breakers.insert(name, Rc::new(Guarded::new(breaker, now)));
        }
        Ok(self)
    }

    /// Takes the time from this clock; by default it is that of the system. Memory should have the same.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Takes what expressions read as `env.NAME` from here; by default it is the environment of the process, at the time when
    /// the expression is evaluated. `None` is a variable that is not set.
    #[cfg(feature = "expressions")]
    #[must_use]
    pub fn environment(mut self, read: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.surroundings.env = Arc::new(read);
        self
    }

    /// Where expressions find `secrets.NAME`: in the environment of the process by default. A plan that reads a secret which
    /// cannot be had is not accepted, and a run that was cut off stays interrupted.
    #[cfg(feature = "expressions")]
    #[must_use]
    pub fn secrets(mut self, secrets: Secrets) -> Self {
        self.surroundings.secrets = secrets;
        self
    }

    /// Takes the numbers that delays are spread with from here; each from 0 to 1. For tests: by default they are random.
    #[must_use]
    pub fn random(mut self, random: impl Fn() -> f64 + 'static) -> Self {
        self.random = Rc::new(random);
        self
    }

    /// Moves the line on as far as it goes.
    pub(crate) fn advance(&mut self, ctx: &mut Context<Self>) {
        if std::mem::take(&mut self.asks_again) {
            self.ask_again(ctx);
        }
        while let Some(next) = self.line.advance() {
            match next {
                Move::Start { ticket, accepted } => self.start_run(ticket, accepted, ctx),
                Move::Accept(ticket) => self.accept(ticket, ctx),
            }
        }
        self.close_if_done(ctx);
    }

    /// Answers everyone who waits for a run that is over.
    pub(crate) fn settle(
        &mut self,
        outcome: Outcome,
        mut replies: Vec<oneshot::Sender<Outcome>>,
        cancels: Vec<oneshot::Sender<Cancelled>>,
    ) {
        for cancel in cancels {
            let _ = cancel.send(cancelled_by(&outcome));
        }
        if let Some(closing) = &mut self.closing {
            closing.count(&outcome);
        }
        // Mostly there is one, which gets the outcome itself.
        let last = replies.pop();
        let heard = replies.into_iter().filter_map(|reply| reply.send(outcome.clone()).ok()).count() > 0;
        let unheard = match last {
            Some(reply) => reply.send(outcome).err(),
            None => Some(outcome),
        };
        // Nobody waits, so nobody would hear of a failure.
        if !heard
            && let Some(Err(error)) = unheard
            && let PlanError::StepFailed { run_id, .. }
            | PlanError::DeadlineExceeded { run_id, .. }
            | PlanError::Memory { run_id, .. }
            | PlanError::Compensated { run_id, .. } = &error
        {
            let run_id = run_id.as_str();
            log::warn!(target: "lunacore::orchestrator", run_id; "{error}, and nobody waits for the answer");
        }
    }

    fn ended(&mut self, run_id: &RunId, outcome: Outcome, ctx: &mut Context<Self>) {
        let info = self.info(run_id);
        let Some(active) = self.active.remove(run_id) else { return };
        self.vacate(active.place);
        if let Some(reopened) = active.watch.reopened.take() {
            return self.leave_held(*reopened, active, ctx);
        }
        let state = cancelled_by(&outcome).ok().and_then(CancelOutcome::state);
        for request in active.watch.take_requests() {
            match (request, &outcome) {
                (Request::Reopen(retrier), Err(error)) if retrier.withdrawn => retrier.refuse(error.clone()),
                // Now it can be told whether it can be.
                (Request::Reopen(retrier), _) => self.to_retry.push(*retrier),
                (other, _) => other.too_late(state.unwrap_or(RunState::Interrupted)),
            }
        }
        // One that was left as it is stored was not cut off.
        let undoes = active.watch.at.get().state == RunState::Compensating;
        let left = self.closing.is_some() && (active.place != Place::Slot || undoes);
        if let Some(info) = info.filter(|_| !left)
            && matches!(&outcome, Err(PlanError::Memory { .. } | PlanError::Interrupted { .. }))
        {
            self.remember(RunInfo { state: RunState::Interrupted, ..info });
        }
        self.settle(outcome, active.outcomes, active.watch.cancels.take());
    }
}

impl Actor for ExecutionOrchestrator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        // Before any commit of ours: memory handles its messages in order.
        self.links.attach.do_send(Attach(self.links.publish.clone()));
        self.find_unfinished(ctx);
    }

    /// Called when the last address is dropped: there may still be work.
    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        if (self.line.is_idle() && self.burst.is_empty())
            || self.closing.as_ref().is_some_and(Closing::is_over)
        {
            return Running::Stop;
        }
        if self.closing.is_none() {
            ctx.address().do_send(Happened::Orphaned);
        }
        Running::Continue
    }
}

impl Handler<ExecutePlan> for ExecutionOrchestrator {
    type Result = ResponseFuture<Result<Vec<Value>, PlanError>>;

    fn handle(&mut self, message: ExecutePlan, ctx: &mut Self::Context) -> Self::Result {
        let received = self.receive(message, ctx);
        Box::pin(async move { received.submitted().await?.outcome.await.unwrap_or(Err(PlanError::Stopped)) })
    }
}

impl Handler<SubmitPlan> for ExecutionOrchestrator {
    type Result = ResponseFuture<Result<RunHandle, PlanError>>;

    fn handle(&mut self, SubmitPlan(message): SubmitPlan, ctx: &mut Self::Context) -> Self::Result {
        let received = self.receive(message, ctx);
        Box::pin(async move {
            let Submitted { run_id, accepted, outcome } = received.submitted().await?;
            accepted.await.unwrap_or(Err(PlanError::Stopped))?;
            Ok(RunHandle::new(run_id, outcome))
        })
    }
}

impl Handler<Happened> for ExecutionOrchestrator {
    type Result = ();

    fn handle(&mut self, happened: Happened, ctx: &mut Self::Context) {
        self.end_burst();
        match happened {
            Happened::Breath => self.breath(ctx),
            Happened::Resolved { ticket, answer } => self.resolved(ticket, answer, ctx),
            Happened::Found { ticket, found } => self.found(ticket, *found, ctx),
            Happened::Known { asker, found } => self.known(*asker, *found, ctx),
            Happened::Reopening { retrier, claim, found } => self.reopening(*retrier, claim, *found, ctx),
            Happened::OtherRun { waiting } => self.take_other(*waiting, ctx),
            Happened::Recovered { found } => self.recovered(found, ctx),
            Happened::Interrupted { info, stored } => self.settled(*info, stored, ctx),
            Happened::Accepted { ticket, stored } => self.accepted(ticket, stored, ctx),
            Happened::Withdrawn { ticket, stored, undoes } => self.withdrawn(ticket, stored, undoes, ctx),
            Happened::Ended { run_id, outcome } => self.ended(&run_id, outcome, ctx),
            Happened::Released { run_id } => self.released(&run_id),
            Happened::Ready { run_id, grant } => self.wants_slot(run_id, grant),
            Happened::Overdue { ticket } => self.overdue(ticket, ctx),
            Happened::Signalled { run_id, signals } => self.signalled(&run_id, signals),
            Happened::CancelTold { run_id, goes_on } => self.cancel_told(&run_id, goes_on, ctx),
            Happened::Orphaned => self.orphaned(ctx),
        }
        if self.line.is_open() && !self.to_retry.is_empty() {
            self.retry_again(ctx);
        }
        self.advance(ctx);
    }
}
