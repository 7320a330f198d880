//! What the orchestrator's own tasks tell it.

use std::collections::HashMap;
use std::sync::Arc;

use actix::{Actor, Addr, Context, Handler, Message, WeakAddr};
use serde_json::Value;
use tokio::sync::oneshot;

use super::error::PlanError;
use super::going_on::Asker;
use super::line::Ticket;
use super::machine::Position;
use super::retrying::Retrier;
use super::status::RunInfo;
use super::waiting::Waiting;
use crate::allocator::ResolveError;
use crate::memory::{Claim, Committed, FoundRun, KeptSignal, MemoryError};
use crate::plan::{Callable, Role};
use crate::resilience::BreakerRecord;
use crate::run::{RunId, StepFailure, Undoing};

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Happened {
    /// The allocator answered, or did not.
    Resolved { ticket: Ticket, answer: Result<Callables, Unresolved> },
    /// The acceptance of a plan that has to wait was stored, or was not.
    Accepted { ticket: Ticket, stored: Result<Committed, MemoryError> },
    /// The cancellation of a waiting plan was stored, or was not.
    Withdrawn { ticket: Ticket, stored: Result<Committed, MemoryError>, undoes: Option<Box<Undoes>> },
    /// A run has ended.
    Ended { run_id: RunId, outcome: Result<Vec<Value>, PlanError> },
    /// Memory told what it knows of a run that was named, or failed.
    Found { ticket: Ticket, found: Box<Result<Option<FoundRun>, MemoryError>> },
    /// The same, for a run of which only the id was given.
    Known { asker: Box<Asker>, found: Box<Result<Option<FoundRun>, MemoryError>> },
    /// The same, for a run that is to be tried again.
    Reopening { retrier: Box<Retrier>, claim: Claim, found: Box<Result<Option<FoundRun>, MemoryError>> },
    /// A held run is not tried again, but another one takes its place.
    OtherRun { waiting: Box<Waiting> },
    /// Memory told which runs are unfinished, and where the breakers stand.
    Recovered { found: Result<Unfinished, MemoryError> },
    /// That a run does not go on by itself was stored, or was not.
    Interrupted { info: Box<RunInfo>, stored: Result<Committed, MemoryError> },
    /// All others have had their turn since plans came.
    Breath,
    /// A run has given its slot back, and waits for something.
    Released { run_id: RunId },
    /// It has that, and wants a slot again.
    Ready { run_id: RunId, grant: oneshot::Sender<()> },
    /// A plan that waits has come to its deadline.
    Overdue { ticket: Ticket },
    /// Signals are kept for a run.
    Signalled { run_id: RunId, signals: Vec<KeptSignal> },
    /// Whoever cancelled a run that is not here, or sent it a signal, was answered. It goes on if it has something to undo.
    CancelTold { run_id: RunId, goes_on: Option<GoesOn> },
    /// The last handle to the orchestrator was dropped.
    Orphaned,
}

/// The callables of a plan, and what steps left to the allocator besides, by their place and what it is for.
#[derive(Default)]
pub(crate) struct Callables {
    pub(crate) steps: Vec<Callable>,
    pub(crate) others: HashMap<(usize, Role), Callable>,
}

/// Where a run stands that was cancelled, or came to its deadline, and undoes first what its steps did.
pub(crate) struct Undoes {
    pub(crate) to: Position,
    pub(crate) undoing: Arc<Undoing>,
    pub(crate) failure: Option<Arc<StepFailure>>,
}

/// A run to be taken up, with our claim on it.
pub(crate) type GoesOn = Box<(Claim, FoundRun)>;

/// What an orchestrator finds when it starts.
#[derive(Default)]
pub(crate) struct Unfinished {
    pub(crate) runs: Vec<(Claim, FoundRun)>,
    pub(crate) breakers: Vec<BreakerRecord>,
}

/// Why there are no callables.
pub(crate) enum Unresolved {
    Step(ResolveError),
    Allocator(String),
}

/// Tells an orchestrator, unless it has stopped. The tasks hold weak addresses: only the application's handles keep an
/// orchestrator alive.
pub(crate) fn tell<A>(orchestrator: &WeakAddr<A>, happened: Happened)
where
    A: Actor<Context = Context<A>> + Handler<Happened>,
{
    if let Some(orchestrator) = orchestrator.upgrade() {
        let orchestrator: Addr<A> = orchestrator;
        // `do_send` passes a full mailbox: at most one of these is under way for each plan, and those are bounded.
        orchestrator.do_send(happened);
    }
}
