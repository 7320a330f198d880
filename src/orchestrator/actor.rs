use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, AsyncContext, Context, Handler, Recipient, ResponseFuture, Running};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::admission::{Submitted, Waiting};
use super::control::{Cancelled, cancelled_by};
use super::error::PlanError;
use super::internal::{Happened, tell};
use super::line::{Line, Move, Ticket};
use super::links::Links;
use super::machine::{self, Input};
use super::messages::{ExecutePlan, RunHandle, SubmitPlan};
use super::runner::{Outcome, Runner, Sent, Watch};
use super::shutdown::Closing;
use super::status::RunInfo;
use crate::allocator::Resolve;
use crate::bus::{Backlog, Publish};
use crate::isolate::Isolated;
use crate::limits::{
    LOOKUPS, MAILBOX, MAX_CONCURRENT_PLANS, MAX_QUEUE_CAPACITY, PROGRESS_BACKLOG, QUEUE_CAPACITY,
};
use crate::memory::{Attach, Commit, FindRun, GetRun, ListRuns, ListUnfinished};
use crate::plan::{CheckedPlan, RunScope};
use crate::project::Project;
use crate::run::{RunId, RunState};

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
    /// Who asked for a run, or to cancel one, before that was stored, or before it was known what goes on.
    pub(crate) to_find: Vec<Ticket>,
    pub(crate) to_cancel: Vec<(RunId, oneshot::Sender<Cancelled>)>,
    pub(crate) closing: Option<Closing>,
    /// Dropped with the actor, for whoever waits for its end.
    alive: Option<oneshot::Sender<()>>,
}

/// A run that holds a slot.
pub(crate) struct Active {
    pub(crate) watch: Rc<Watch>,
    pub(crate) project: Project,
    pub(crate) plan: Arc<CheckedPlan>,
    pub(crate) cancellation: CancellationToken,
    /// Who waits for its end.
    pub(crate) outcomes: Vec<oneshot::Sender<Outcome>>,
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
            + Handler<ListRuns>
            + Handler<ListUnfinished>,
        M::Context: ToEnvelope<M, Attach>
            + ToEnvelope<M, Box<Commit>>
            + ToEnvelope<M, FindRun>
            + ToEnvelope<M, GetRun>
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
            attach: memory.recipient(),
            resolve: allocator.into(),
            progress: Backlog::new(PROGRESS_BACKLOG),
            lookups: Backlog::new(LOOKUPS),
        };
        Self {
            links: Rc::new(links),
            line: Line::new(1, QUEUE_CAPACITY),
            waiting: HashMap::new(),
            active: HashMap::new(),
            tickets: HashMap::new(),
            interrupted: VecDeque::new(),
            unsettled: HashSet::new(),
            to_find: Vec::new(),
            to_cancel: Vec::new(),
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

    /// Runs up to `plans` plans at a time, from 1 (the default) to [`MAX_CONCURRENT_PLANS`]; values outside are taken
    /// as the nearest bound. The steps of each plan still run one after another.
    #[must_use]
    pub fn max_concurrent_plans(mut self, plans: usize) -> Self {
        self.line.slots = plans.clamp(1, MAX_CONCURRENT_PLANS);
        self
    }

    /// Lets up to `plans` plans wait, [`QUEUE_CAPACITY`] by default and [`MAX_QUEUE_CAPACITY`] at most. The next one gets
    /// [`PlanError::QueueFull`].
    #[must_use]
    pub fn queue_capacity(mut self, plans: usize) -> Self {
        self.line.capacity = plans.min(MAX_QUEUE_CAPACITY);
        self
    }

    /// Moves the line on as far as it goes.
    pub(crate) fn advance(&mut self, ctx: &mut Context<Self>) {
        while let Some(next) = self.line.advance() {
            match next {
                Move::Start { ticket, accepted } => self.start_run(ticket, accepted, ctx),
                Move::Accept(ticket) => self.accept(ticket, ctx),
            }
        }
        self.close_if_done(ctx);
    }

    fn start_run(&mut self, ticket: Ticket, accepted: bool, ctx: &mut Context<Self>) {
        let Some(waiting) = self.take_waiting(ticket) else {
            self.line.finished();
            return;
        };
        let (to, commit) = if accepted {
            let input = if waiting.at.state == RunState::Queued { Input::Start } else { Input::Resume };
            // What waits for a slot is queued or was cut off, so this has an answer.
            let Some(started) = machine::decide(&waiting.plan, waiting.at, input) else {
                self.line.finished();
                return;
            };
            (started.to, waiting.commit(started))
        } else {
            let started = machine::accept(&waiting.plan, true);
            (started.to, waiting.accepting(started))
        };
        // Sent here, for the order of the line too.
        let first = Sent::new(to, self.links.commit.send(commit));
        let run_id = waiting.run_id;
        let report = self.links.progress_reporter(run_id.clone());
        let plan = Arc::clone(&waiting.plan);
        let scope = Arc::new(RunScope::new(run_id.clone(), plan, waiting.outputs, report));
        let watch = Watch::new(waiting.at, waiting.accepted);
        let active = Active {
            watch: Rc::clone(&watch),
            project: waiting.project.clone(),
            plan: waiting.plan,
            cancellation: scope.cancellation.clone(),
            outcomes: waiting.outcomes,
        };
        self.active.insert(run_id.clone(), active);
        let runner = Runner {
            links: Rc::clone(&self.links),
            scope,
            project: waiting.project,
            durability: waiting.durability,
            callables: waiting.callables,
            watch,
            claim: waiting.claim,
        };
        let myself = ctx.address().downgrade();
        // A task of its own: a wake-up costs the same however many plans run, and what escapes the containment of a
        // step ends this run only.
        let run = Isolated::new(Box::pin(runner.run(first)));
        actix::spawn(async move {
            let outcome = run.await.unwrap_or_else(|message| {
                let reason = format!("its task panicked: {message}");
                Err(PlanError::Interrupted { run_id: run_id.clone(), reason })
            });
            tell(&myself, Happened::Ended { run_id, outcome });
        });
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
            && let PlanError::StepFailed { run_id, .. } | PlanError::Memory { run_id, .. } = &error
        {
            let run_id = run_id.as_str();
            log::warn!(target: "lunacore::orchestrator", run_id; "{error}, and nobody waits for the answer");
        }
    }

    fn ended(&mut self, run_id: &RunId, outcome: Outcome) {
        let info = self.info(run_id);
        let Some(active) = self.active.remove(run_id) else { return };
        self.line.finished();
        if let Some(info) = info
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
        self.recover(ctx);
    }

    /// Called when the last address is dropped: there may still be work.
    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        if self.line.is_idle() || self.closing.as_ref().is_some_and(Closing::is_over) {
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
        let submitted = self.submit(message, ctx);
        Box::pin(async move { submitted?.outcome.await.unwrap_or(Err(PlanError::Stopped)) })
    }
}

impl Handler<SubmitPlan> for ExecutionOrchestrator {
    type Result = ResponseFuture<Result<RunHandle, PlanError>>;

    fn handle(&mut self, SubmitPlan(message): SubmitPlan, ctx: &mut Self::Context) -> Self::Result {
        let submitted = self.submit(message, ctx);
        Box::pin(async move {
            let Submitted { run_id, accepted, outcome } = submitted?;
            accepted.await.unwrap_or(Err(PlanError::Stopped))?;
            Ok(RunHandle::new(run_id, outcome))
        })
    }
}

impl Handler<Happened> for ExecutionOrchestrator {
    type Result = ();

    fn handle(&mut self, happened: Happened, ctx: &mut Self::Context) {
        match happened {
            Happened::Resolved { ticket, answer } => self.resolved(ticket, answer, ctx),
            Happened::Found { ticket, found } => self.found(ticket, *found, ctx),
            Happened::Recovered { found } => self.recovered(found, ctx),
            Happened::Interrupted { info, stored } => self.settled(*info, stored, ctx),
            Happened::Accepted { ticket, stored } => self.accepted(ticket, stored, ctx),
            Happened::Withdrawn { ticket, stored } => self.withdrawn(ticket, stored),
            Happened::Ended { run_id, outcome } => self.ended(&run_id, outcome),
            Happened::CancelTold { run_id } => self.cancel_told(&run_id, ctx),
            Happened::Orphaned => self.orphaned(ctx),
        }
        self.advance(ctx);
    }
}
