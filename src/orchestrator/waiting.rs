//! A plan that waits in the line, and what it takes with it when it leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::oneshot;

use super::control::Cancelled;
use super::error::PlanError;
use super::internal::Callables;
use super::kept_signals::KeptSignals;
use super::limit::Deadline;
use super::machine::{self, Ahead, Input, Known, Position, Then};
use super::messages::CancelOutcome;
use super::runner::{Outcome, commit_of};
use super::signals::Posted;
use super::watch::Request;
use crate::memory::{Claim, Commit, NewRun, Reopen, StepOutput};
use crate::plan::{CheckedPlan, Output, StepError};
use crate::project::Project;
use crate::run::{Durability, RunId, RunState, StepFailure, Undoing};

/// A plan in the line.
pub(crate) struct Waiting {
    pub(crate) run_id: RunId,
    pub(crate) project: Project,
    pub(crate) plan: Arc<CheckedPlan>,
    pub(crate) durability: Option<Durability>,
    pub(crate) callables: Callables,
    /// When it must be done, and what wakes us then.
    pub(crate) deadline: Option<Deadline>,
    pub(crate) alarm: Option<Alarm>,
    /// Where the run stands, as stored: a run that goes on has come some way already.
    pub(crate) at: Position,
    /// The failure that is stored of its step, if there is one.
    pub(crate) failure: Option<Arc<StepFailure>>,
    /// How far it is with undoing what its steps did, if it does.
    pub(crate) undoing: Option<Arc<Undoing>>,
    /// The steps behind it that were skipped, in order.
    pub(crate) skipped: Vec<usize>,
    /// Why it cannot go on from what is stored alone, if that is all there is.
    pub(crate) stuck: Option<String>,
    /// It was taken up from what is stored.
    pub(crate) recovered: bool,
    /// It came to its deadline.
    pub(crate) overdue: bool,
    /// Why it was interrupted, if it was.
    pub(crate) reason: Option<Arc<str>>,
    /// The outputs of the steps that it has behind it.
    pub(crate) outputs: Vec<Output>,
    /// Which generation of the run it is.
    pub(crate) generation: u32,
    /// Inputs that take the place of those in the plan.
    pub(crate) set_inputs: BTreeMap<usize, Arc<Value>>,
    /// What its generation begins with, as long as that is not stored.
    pub(crate) reopen: Option<Box<Reopen>>,
    /// What it was until now if it was held here, and is again if it is refused.
    pub(crate) was_held: Option<Box<Waiting>>,
    /// Our right to run it.
    pub(crate) claim: Claim,
    /// Who is to be told that it is accepted.
    pub(crate) accepted: Vec<oneshot::Sender<Result<(), PlanError>>>,
    /// Who waits for its end. Nobody, when the run was found unfinished and goes on by itself.
    pub(crate) outcomes: Vec<oneshot::Sender<Outcome>>,
    /// Who is to be told that the run is cancelled.
    pub(crate) cancels: Vec<oneshot::Sender<Cancelled>>,
    /// What else was asked of it meanwhile.
    pub(crate) requests: Vec<Request>,
    /// The signals that are kept for it.
    pub(crate) signals: KeptSignals,
    /// Signals that came before there was anything stored to keep them for.
    pub(crate) posted: Vec<Posted>,
    /// Others with another plan for the run, while it is not known yet whose is the run's own.
    pub(crate) rivals: Vec<Waiting>,
}

impl Waiting {
    /// A plan of which nothing is stored, and nobody has asked for an answer.
    pub(crate) fn new(run_id: RunId, project: Project, plan: Arc<CheckedPlan>, claim: Claim) -> Self {
        Self {
            run_id,
            project,
            plan,
            durability: None,
            callables: Callables::default(),
            deadline: None,
            alarm: None,
            at: Position::QUEUED,
            failure: None,
            undoing: None,
            skipped: Vec::new(),
            stuck: None,
            recovered: false,
            overdue: false,
            reason: None,
            outputs: Vec::new(),
            generation: 1,
            set_inputs: BTreeMap::new(),
            reopen: None,
            was_held: None,
            claim,
            accepted: Vec::new(),
            outcomes: Vec::new(),
            cancels: Vec::new(),
            requests: Vec::new(),
            signals: KeptSignals::default(),
            posted: Vec::new(),
            rivals: Vec::new(),
        }
    }

    /// It is accepted in its next generation, or is about to be: who waited for what it was waits for what it becomes.
    pub(crate) fn take_over(&mut self) {
        if let Some(held) = self.was_held.take() {
            self.outcomes.extend(held.outcomes);
        }
    }

    /// Tells its callers that it does not get into the line.
    pub(crate) fn turn_away(self, error: &PlanError) {
        self.answer(&Err(error.clone()));
    }

    /// Answers its callers without a place in the line.
    pub(crate) fn answer(self, outcome: &Outcome) {
        for accepted in self.accepted {
            let _ = accepted.send(outcome.as_ref().map(drop).map_err(Clone::clone));
        }
        for reply in self.outcomes {
            let _ = reply.send(outcome.clone());
        }
    }

    /// The deadline that it has come to, unless it is cancelled.
    fn overdue(&self) -> Option<Deadline> {
        self.deadline.filter(|_| self.overdue && self.cancels.is_empty() && !self.is_stopping())
    }

    /// It was cancelled, and waited for blocking code.
    pub(crate) fn is_stopping(&self) -> bool {
        self.at.state == RunState::Stopping && !self.at.expired
    }

    /// What is stored of it besides where it stands.
    pub(crate) fn known(&self) -> Known<'_> {
        let (failure, undoing) = (self.failure.as_ref(), self.undoing.as_ref());
        Known { failure, undoing, skipped: &self.skipped }
    }

    /// What there is to undo of it is undone, whoever cancels it.
    pub(crate) fn tell_compensating(&mut self) {
        for cancelled in self.cancels.drain(..) {
            let _ = cancelled.send(Ok(CancelOutcome::Compensating));
        }
    }

    /// What its cancellation, or its deadline, leads to.
    pub(crate) fn withdrawal(&self) -> Option<machine::Decision> {
        match self.overdue() {
            None => machine::cancel(&self.plan, self.at, &self.known()),
            Some(deadline) => {
                let error = StepError::limit(deadline.limit().exceeded());
                let failure = Arc::new(StepFailure::record(error.kind(), &*error));
                let policy = self.plan.get(self.at.cursor).and_then(|step| step.step.policy());
                let tried = self.at.attempt > 0 && !self.at.step.fallback;
                let escalate = tried && policy.is_some_and(|policy| policy.escalate);
                let input = Input::Failed { failure, then: Then::Abort, escalate };
                machine::decide(&self.plan, self.at, &self.known(), input)
            }
        }
    }

    /// How it ended when it was withdrawn.
    pub(crate) fn withdrawn(&self) -> PlanError {
        let (run_id, index) = (self.run_id.clone(), self.at.cursor);
        let completed = self.outputs.iter().map(Output::to_value).collect();
        match self.overdue() {
            None => PlanError::Cancelled { run_id, completed },
            Some(deadline) => {
                let step_id = self.plan.get(index).map_or_else(String::new, |step| step.id.to_string());
                let source = StepError::limit(deadline.limit().exceeded());
                PlanError::failed(run_id, step_id, index, self.at.attempt, completed, source)
            }
        }
    }

    pub(crate) fn commit(&self, decision: machine::Decision) -> Box<Commit> {
        commit_of(&self.run_id, &self.project, self.durability, decision)
    }

    /// What its acceptance leads to: with a slot and what stands before its first step, or in the line.
    pub(crate) fn acceptance(&self, slot: Option<Ahead>) -> machine::Decision {
        match &self.reopen {
            None => machine::accept(&self.plan, slot),
            Some(reopen) => machine::retry(&self.plan, self.at, (reopen.generation, reopen.from), slot),
        }
    }

    /// A commit that also stores the run itself, or its next generation.
    pub(crate) fn accepting(&self, decision: machine::Decision) -> Box<Commit> {
        let mut commit = self.commit(decision);
        if let Some(reopen) = &self.reopen {
            let skipped = self.plan.get(reopen.from).filter(|_| self.at.cursor > reopen.from);
            commit.output = skipped.map(|step| {
                let null = StepOutput::new(reopen.from, Arc::clone(&step.id), Output::null());
                StepOutput { skipped: true, ..null }
            });
            commit.reopen = Some(reopen.clone());
            return commit;
        }
        let mut new = NewRun::new(self.plan.record().clone(), self.claim.clone());
        (new.durability, new.deadline) = (self.durability, self.deadline.map(|deadline| deadline.at));
        commit.accept = Some(Box::new(new));
        commit
    }
}

/// A task that waits for a time, and is dropped with this.
pub(crate) struct Alarm(pub(crate) tokio::task::JoinHandle<()>);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.abort();
    }
}
