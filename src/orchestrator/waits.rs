//! What a run does at a step that only waits: it stands aside until what it waits for is there, and completes the step then.

use std::time::SystemTime;

use super::aside::Want;
use super::error::PlanError;
use super::limit::{self, Limit};
use super::machine::{Input, Position, begun};
use super::runner::{Flow, Runner, produce};
use crate::memory::KeptSignal;
use crate::plan::{Output, StepError, Wait};
use crate::run::RunState;

impl Runner {
    /// Waits without a slot; but with the one that it has, if the wait is over before it is given back.
    pub(super) async fn wait_out(&mut self) -> Result<Flow, PlanError> {
        if self.slot {
            while let Some(request) = self.watch.asked() {
                if let Some(flow) = self.serve(request).await? {
                    return Ok(flow);
                }
            }
            if self.scope.cancellation.is_cancelled() {
                return Ok(Input::Cancel.into());
            }
            let now = self.clock.now();
            if let Some(limit) = self.limit().filter(|limit| limit.at <= now) {
                return Ok(Flow::Turn(self.failed(StepError::limit(limit.exceeded()))));
            }
            if let Some(flow) = self.waited() {
                return Ok(flow);
            }
        }
        self.stand_aside().await
    }

    /// What is behind the wait, if that is over: the run has a slot.
    pub(super) fn waited(&mut self) -> Option<Flow> {
        let at = self.watch.at.get();
        let (output, signal) = match at.state {
            RunState::Sleeping if !self.is_asleep(at) => (Output::null(), None),
            RunState::AwaitingSignal => {
                let KeptSignal { no, payload, .. } = self.signal()?;
                // What is a secret of the plan is one whoever sends it.
                match self.scope.clean_given(Output::Json(payload)) {
                    Ok(payload) => (payload, Some(no)),
                    Err(error) => return Some(Flow::Turn(self.failed(error))),
                }
            }
            _ => return None,
        };
        if self.scope.cancellation.is_cancelled() {
            return Some(Input::Cancel.into());
        }
        let step = self.plan().get(at.cursor)?;
        Some(Flow::Turn(match produce(at.cursor, &step.id, &output, Vec::new()) {
            Ok(produced) => self.completed(output, produced.taking(signal)),
            Err(error) => self.failed(error),
        }))
    }

    /// What it takes for the wait to be over.
    pub(super) fn want_of_wait(&self) -> Want {
        let at = self.watch.at.get();
        match (at.state, at.step.until) {
            (RunState::Sleeping, Some(until)) if self.is_asleep(at) => Want::Time(until),
            (RunState::AwaitingSignal, _) if self.signal().is_none() => Want::Signal,
            _ => Want::Slot,
        }
    }

    fn is_asleep(&self, at: Position) -> bool {
        at.step.until.is_some_and(|until| until > self.clock.now())
    }

    /// The first signal that is kept of those that the step waits for, whatever the run's state is meanwhile.
    fn signal(&self) -> Option<KeptSignal> {
        match begun(self.plan(), self.watch.at.get())? {
            Wait::Signal(name) => self.watch.signals.borrow().first(name).cloned(),
            Wait::Sleep(_) | Wait::Until(_) => None,
        }
    }

    /// Whether what the step waits for is there, so that it cannot come too late any more.
    pub(super) fn is_signalled(&self) -> bool {
        self.signal().is_some()
    }

    /// The first limit that the run comes to where it stands.
    pub(super) fn limit(&self) -> Option<Limit> {
        // Most plans have none.
        if !self.plan().has_policies() && self.deadline.is_none() {
            return None;
        }
        let at = self.watch.at.get();
        let policy = self.policy().filter(|_| !self.is_signalled());
        limit::first(policy, self.deadline, at, self.started(at))
    }

    /// When that began which has a time limit of its own, if anything has.
    fn started(&self, at: Position) -> Option<SystemTime> {
        if begun(self.plan(), at).is_some() {
            at.step.since
        } else {
            self.watch.since.get().filter(|_| at.state == RunState::Running)
        }
    }
}
