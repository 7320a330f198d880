//! What the actor and the task of a run share: they are on one thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{Notify, oneshot};

use super::control::Cancelled;
use super::deciding::{Decision, ResolveOutcome};
use super::error::{ControlError, PlanError};
use super::kept_signals::KeptSignals;
use super::machine::Position;
use super::messages::{PauseOutcome, ResumeOutcome, RetryOutcome};
use super::retrying::Retrier;
use super::waiting::Waiting;
use crate::memory::KeptSignal;
use crate::run::{RunState, StepFailure, Undoing};

pub(crate) type Reply<T> = oneshot::Sender<Result<T, ControlError>>;

/// What somebody wants of a run that goes on, and is told when it is stored.
pub(crate) enum Request {
    Pause(Reply<PauseOutcome>),
    Resume(Reply<ResumeOutcome>),
    RetryNow(Reply<RetryOutcome>),
    /// That something is decided about the step that it is held at.
    Resolve(Decision, Reply<ResolveOutcome>),
    /// To be tried again from what is stored, if it is held.
    Reopen(Box<Retrier>),
    /// To be left as it is stored: the orchestrator shuts down.
    Leave,
}

impl Request {
    /// Answers that the run has come to its end.
    pub(crate) fn too_late(self, state: RunState) {
        match self {
            Self::Pause(reply) => drop(reply.send(Ok(PauseOutcome::Finished(state)))),
            Self::Resume(reply) => drop(reply.send(Ok(ResumeOutcome::NotPaused(state)))),
            Self::RetryNow(reply) => drop(reply.send(Ok(RetryOutcome::NotWaiting(state)))),
            Self::Resolve(_, reply) => drop(reply.send(Ok(ResolveOutcome::NotHeld(state)))),
            Self::Reopen(retrier) => retrier.too_late(state),
            Self::Leave => {}
        }
    }

    /// Answers that the run undoes what its steps did, which goes on.
    pub(crate) fn compensating(self) {
        match self {
            Self::Pause(reply) => drop(reply.send(Ok(PauseOutcome::Compensating))),
            other => other.too_late(RunState::Compensating),
        }
    }

    pub(crate) fn fail(self, error: ControlError) {
        match self {
            Self::Pause(reply) => drop(reply.send(Err(error))),
            Self::Resume(reply) => drop(reply.send(Err(error))),
            Self::RetryNow(reply) => drop(reply.send(Err(error))),
            Self::Resolve(_, reply) => drop(reply.send(Err(error))),
            Self::Reopen(retrier) => retrier.refuse(PlanError::Stopped),
            Self::Leave => {}
        }
    }
}

/// Whether a run that undoes what its steps did is to stay as it is stored, since the orchestrator shuts down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    No,
    /// After the attempt in flight.
    AfterThis,
    /// Now, if that attempt can be dropped.
    AtOnce,
}

/// What the actor sees of a run while it goes on, and tells it.
pub(crate) struct Watch {
    pub(crate) at: Cell<Position>,
    /// When that was stored: of an attempt in flight, when it was started.
    pub(crate) since: Cell<Option<SystemTime>>,
    /// The failure that is stored of its step.
    pub(crate) failure: RefCell<Option<Arc<StepFailure>>>,
    /// How far it is with undoing what its steps did, if it does.
    pub(crate) undoing: RefCell<Option<Arc<Undoing>>>,
    /// The steps behind it that were skipped, in order.
    pub(crate) skipped: RefCell<Vec<usize>>,
    /// Whether it is to undo anything more.
    pub(crate) leaving: Cell<Leaving>,
    /// Who cancelled it, and is told when the run has stored that it is stopping, or else when it ends.
    pub(crate) cancels: RefCell<Vec<oneshot::Sender<Cancelled>>>,
    /// Who is to be told that the run is accepted, while that has still to be stored.
    accepts: RefCell<Vec<oneshot::Sender<Result<(), PlanError>>>>,
    /// What it is to be in its next generation, once it is left for that.
    pub(crate) reopened: RefCell<Option<Box<Waiting>>>,
    requests: RefCell<VecDeque<Request>>,
    poke: Notify,
    /// The signals that are kept for it.
    pub(crate) signals: RefCell<KeptSignals>,
    signalled: Notify,
}

impl Watch {
    pub(crate) fn new(at: Position, accepts: Vec<oneshot::Sender<Result<(), PlanError>>>) -> Rc<Self> {
        let (at, since, accepts) = (Cell::new(at), Cell::new(None), RefCell::new(accepts));
        Rc::new(Self {
            at,
            since,
            failure: RefCell::default(),
            undoing: RefCell::default(),
            skipped: RefCell::default(),
            leaving: Cell::new(Leaving::No),
            cancels: RefCell::default(),
            accepts,
            reopened: RefCell::default(),
            requests: RefCell::default(),
            poke: Notify::new(),
            signals: RefCell::default(),
            signalled: Notify::new(),
        })
    }

    /// Has the run left as it is stored, once it is at undoing what its steps did.
    pub(crate) fn leave(&self, leaving: Leaving) {
        self.leaving.set(leaving);
        self.ask(Request::Leave);
    }

    /// Tells one more that the run is accepted, as soon as it is.
    pub(crate) fn accepted_by(&self, caller: oneshot::Sender<Result<(), PlanError>>) {
        if self.since.get().is_some() {
            let _ = caller.send(Ok(()));
        } else {
            self.accepts.borrow_mut().push(caller);
        }
    }

    pub(crate) fn accepted(&self, accepted: &Result<(), PlanError>) {
        for caller in self.accepts.take() {
            let _ = caller.send(accepted.clone());
        }
    }

    pub(crate) fn ask(&self, request: Request) {
        self.requests.borrow_mut().push_back(request);
        self.poke.notify_one();
    }

    /// The run is cancelled: whoever wanted it to be tried again before comes to nothing with it.
    pub(crate) fn withdraw_retries(&self) {
        for request in self.requests.borrow_mut().iter_mut() {
            if let Request::Reopen(retrier) = request {
                retrier.withdrawn = true;
            }
        }
    }

    /// Whether there is a request.
    pub(crate) fn is_asked(&self) -> bool {
        !self.requests.borrow().is_empty()
    }

    /// The next request, if there is one.
    pub(crate) fn asked(&self) -> Option<Request> {
        self.requests.borrow_mut().pop_front()
    }

    /// Waits until there may be one.
    pub(crate) async fn poked(&self) {
        self.poke.notified().await;
    }

    /// A signal is kept for it.
    pub(crate) fn keep(&self, signal: KeptSignal) {
        self.signals.borrow_mut().keep(signal);
        self.signalled.notify_one();
    }

    /// Waits until there may be another signal.
    pub(crate) async fn signalled(&self) {
        self.signalled.notified().await;
    }

    pub(crate) fn take_requests(&self) -> VecDeque<Request> {
        self.requests.take()
    }
}
