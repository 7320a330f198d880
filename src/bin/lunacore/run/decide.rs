//! `lunacore resolve`.

use lunacore::{PlanRecord, ResolveStep, RunRecord, RunState, SkipStep, SqliteStore, StepOutcome};
use serde_json::Value;

use super::bounds;
use super::drive::{Decision, Job, Kept, What, drive};
use crate::args::Resolve;
use crate::exit::{Exit, Failure};
use crate::screen::{Screen, clean};
use crate::store;

pub(crate) fn resolve(resolve: &Resolve, screen: &mut Screen) -> Result<Exit, Failure> {
    // Before the store is opened for running, which would make one that is missing.
    let looked = store::open(&resolve.source.store)?;
    let before = store::find_run(&looked, &resolve.run)?;
    let plan = store::plan_of(&looked, &before)?;
    drop(looked);
    let decision = decision(resolve, &before, &plan)?;
    let guards = bounds::of([&plan], &resolve.bounds.limits)?;
    let path = resolve.source.store.clone();
    let kept = Kept::File { store: SqliteStore::open(&path)?, path };
    let what = What::Decide { decision, before: Box::new(before), plan };
    let secrets = resolve.secrets.secrets();
    drive(Job { kept, what, secrets, guards, json: resolve.source.json, quiet: resolve.quiet }, screen)
}

/// Of a run that is held, all is possible; one that failed can go on without its step.
fn decision(resolve: &Resolve, before: &RunRecord, plan: &PlanRecord) -> Result<Decision, Failure> {
    let (run_id, state) = (&before.run_id, before.state);
    match state {
        RunState::Held => {}
        RunState::Failed if resolve.skip => {}
        RunState::Failed => {
            return Err(Failure::invalid(format!(
                "run {run_id} is failed, and not held: it can go on without its step, with --skip; `lunacore retry {run_id}` tries it again"
            )));
        }
        state => {
            let message =
                format!("run {run_id} is {state}, and not held; there is nothing to decide about it");
            return Err(Failure::invalid(message));
        }
    }
    let at = plan.step_ids().nth(before.cursor).unwrap_or_default();
    let step = resolve.step.as_deref().unwrap_or(at);
    // Before anything is begun.
    if step != at {
        let (step, at) = (clean(step), clean(at));
        return Err(Failure::invalid(format!("run {run_id} is {state} at step {at}, and not at {step}")));
    }
    let outcome = match (&resolve.completed, &resolve.failed) {
        (Some(output), _) => StepOutcome::Completed(value(output)),
        (None, Some(reason)) => StepOutcome::Failed(reason.clone()),
        (None, None) if resolve.rerun => StepOutcome::Rerun,
        (None, None) => return Ok(Decision::Skip(SkipStep::new(run_id.clone(), step))),
    };
    Ok(Decision::Resolve(ResolveStep::new(run_id.clone(), step, outcome)))
}

/// JSON if it can be, and a text otherwise.
pub(super) fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}
