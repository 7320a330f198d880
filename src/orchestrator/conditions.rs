//! What is known of a step only when its turn comes: its input, where that is a template, and whether it runs at all.

use std::sync::Arc;

use serde_json::Value;

use super::machine::{Ahead, Input};
use super::runner::{Flow, Runner, Turn, skip};
use crate::plan::{Output, StepError};
use crate::run::RunState;

impl Runner {
    /// What stands before the first attempt of a step whose turn comes with the commit that is being made. `last` is the output
    /// that this commit stores.
    pub(super) fn next(&mut self, cursor: usize, last: &Output) -> Ahead {
        let conditional = self.plan().condition(cursor).is_some();
        // What is not true is looked at again once all before it is stored: a skip is a commit of its own.
        if conditional && !matches!(self.decides(cursor, Some(last)), Ok(true)) {
            return Ahead::Check;
        }
        self.ahead(cursor, false)
    }

    /// Looks at the condition of the step at the cursor, of which no attempt was started. Its slot is there.
    pub(super) fn consider(&mut self) -> Flow {
        let at = self.watch.at.get();
        match self.decides(at.cursor, None) {
            Ok(true) => {
                let ahead = if at.pausing { Ahead::Go } else { self.ahead(at.cursor, false) };
                Input::Proceed(ahead, self.clock.now()).into()
            }
            Ok(false) => Flow::Turn(self.skipped()),
            Err(error) => Flow::Turn(self.failed(error)),
        }
    }

    /// The same for a run that waited for a slot before the step. `None`: it may start.
    pub(super) fn consider_queued(&mut self) -> Option<Flow> {
        let at = self.watch.at.get();
        let first = at.state == RunState::Queued && at.attempt == 0;
        if !first || self.plan().condition(at.cursor).is_none() {
            return None;
        }
        if !at.is_started() {
            return Some(Input::Start(Ahead::Check, self.clock.now()).into());
        }
        match self.decides(at.cursor, None) {
            Ok(true) => None,
            Ok(false) => Some(Flow::Turn(self.skipped())),
            Err(error) => Some(Flow::Turn(self.failed(error))),
        }
    }

    fn skipped(&mut self) -> Turn {
        let at = self.watch.at.get();
        let null = Output::null();
        let Some(step) = self.plan().get(at.cursor) else { return self.aborted("the step is gone".into()) };
        match skip(at.cursor, &step.id) {
            Ok(produced) => {
                let ahead = if at.pausing { Ahead::Go } else { self.next(at.cursor + 1, &null) };
                Turn { input: Input::Skip(ahead), produced, error: None }
            }
            Err(error) => self.aborted(error),
        }
    }

    #[cfg(feature = "expressions")]
    fn decides(&self, cursor: usize, last: Option<&Output>) -> Result<bool, StepError> {
        self.scope.decide(cursor, last)
    }

    /// Without the feature, no plan with a condition gets here.
    #[cfg(not(feature = "expressions"))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "the same shape as with the feature")]
    fn decides(&self, _: usize, _: Option<&Output>) -> Result<bool, StepError> {
        Ok(true)
    }

    /// An attempt that was started, and cannot be called: which says nothing about the service behind its breaker.
    pub(super) fn uncalled(&mut self, error: StepError) -> Turn {
        self.gate.give_back();
        self.failed(error)
    }

    /// What the template of a step comes to, or what a retry has set; `None` where its input is as it was given.
    #[cfg(feature = "expressions")]
    pub(super) fn input(&self, cursor: usize) -> Result<Option<Arc<Value>>, StepError> {
        self.scope.resolve(cursor)
    }

    /// Without the feature, no plan with a template gets here.
    #[cfg(not(feature = "expressions"))]
    #[allow(clippy::unnecessary_wraps, reason = "the same shape as with the feature")]
    pub(super) fn input(&self, cursor: usize) -> Result<Option<Arc<Value>>, StepError> {
        Ok(self.scope.set_input(cursor))
    }
}
