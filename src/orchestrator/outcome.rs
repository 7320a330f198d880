//! What those are told who wait for a run that is over, or goes no further here.

use serde_json::Value;

use super::error::PlanError;
use super::machine::Position;
use super::runner::{Outcome, Runner};
use crate::memory::FoundRun;
use crate::plan::{Output, StepError};
use crate::run::{RunId, RunRecord, RunState, Undoing};

/// Why runs are left as they are stored, mostly.
pub(super) const SHUT_DOWN: &str = "the orchestrator shut down";

impl Runner {
    /// Of a run that is over. `error`: what ended it, if that happened here.
    pub(super) fn outcome(&self, error: Option<StepError>) -> Outcome {
        let source = error.or_else(|| self.watch.failure.borrow().as_deref().map(StepError::recorded));
        let id = |index| self.plan().get(index).map_or_else(String::new, |step| step.id.to_string());
        let undoing = self.watch.undoing.borrow();
        let ended = (self.watch.at.get(), undoing.as_deref());
        outcome(&self.scope.run_id, ended, source, self.scope.outputs(), id)
    }
}

/// How a run that is over ended, as it was answered then.
pub(crate) fn outcome_of(found: FoundRun) -> Outcome {
    let completed = found.outputs.iter().map(Output::to_value).collect();
    let at = Position::of(&found.record);
    let RunRecord { run_id, failure, undoing, .. } = found.record;
    let ids: Vec<&str> = found.plan.step_ids().collect();
    let id = |index: usize| ids.get(index).copied().unwrap_or_default().to_owned();
    let source = failure.as_deref().map(StepError::recorded);
    outcome(&run_id, (at, undoing.as_deref()), source, completed, id)
}

fn outcome(
    run_id: &RunId,
    (at, undoing): (Position, Option<&Undoing>),
    source: Option<StepError>,
    completed: Vec<Value>,
    id: impl Fn(usize) -> String,
) -> Outcome {
    if at.state == RunState::Completed {
        return Ok(completed);
    }
    let failed = undoing.map_or(at.state == RunState::Failed, |undoing| !undoing.cancelled);
    let (of, cursor) = (run_id.clone(), at.cursor);
    let ended = match source.filter(|_| failed) {
        Some(source) => PlanError::failed(of, id(cursor), cursor, at.attempt, completed, source),
        None => PlanError::Cancelled { run_id: of, completed },
    };
    Err(match undoing {
        Some(undoing) => PlanError::compensated(run_id.clone(), undoing, id, ended),
        None => ended,
    })
}

/// It goes no further here, and stays as it is stored.
pub(super) fn left(run_id: RunId, state: RunState, why: &str) -> PlanError {
    let reason = format!("{why} while it was {state}; it goes on from there when it is taken up again");
    PlanError::Interrupted { run_id, reason }
}
