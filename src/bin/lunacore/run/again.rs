//! `lunacore retry`.

use lunacore::{PlanRecord, RetryRun, RunRecord, SqliteStore};
use serde_json::Value;

use super::bounds;
use super::drive::{Job, Kept, What, drive};
use super::set::set;
use crate::args::Retry;
use crate::exit::{Exit, Failure};
use crate::screen::{Screen, clean};
use crate::store;

pub(crate) fn retry(retry: &Retry, screen: &mut Screen) -> Result<Exit, Failure> {
    // Before the store is opened for running, which would make one that is missing.
    let looked = store::open(&retry.source.store)?;
    let before = store::find_run(&looked, &retry.run)?;
    let plan = store::plan_of(&looked, &before)?;
    drop(looked);
    let from = match &retry.from {
        Some(step) => place(step, &plan)?,
        None => before.cursor,
    };
    let mut again = RetryRun::new(before.run_id.clone());
    if let Some(step) = &retry.from {
        again = again.from_step(step.as_str());
    }
    if !retry.set.is_empty() {
        again = again.set_input(changed(&retry.set, from, &before, &plan)?);
    }
    let guards = bounds::of([&plan], &retry.bounds.limits)?;
    let path = retry.source.store.clone();
    let kept = Kept::File { store: SqliteStore::open(&path)?, path };
    let what = What::Retry { retry: Box::new(again), before: Box::new(before), plan };
    let secrets = retry.secrets.secrets();
    drive(Job { kept, what, secrets, guards, json: retry.source.json, quiet: retry.quiet }, screen)
}

fn place(step: &str, plan: &PlanRecord) -> Result<usize, Failure> {
    plan.step_ids().position(|id| id == step).ok_or_else(|| {
        let likeness = |id: &&str| strsim::damerau_levenshtein(id, step);
        let near = plan.step_ids().min_by_key(likeness).filter(|id| likeness(id) <= step.chars().count() / 3);
        let hint = match near {
            Some(near) => format!("; did you mean {}?", clean(near)),
            None => format!("; it has {}", plan.step_ids().take(9).map(clean).collect::<Vec<_>>().join(", ")),
        };
        Failure::invalid(format!("the plan of the run has no step {}{hint}", clean(step)))
    })
}

/// The input of a step, as the plan or an earlier retry gave it, with what is set.
fn changed(pairs: &[String], step: usize, before: &RunRecord, plan: &PlanRecord) -> Result<Value, Failure> {
    let earlier = before.set_inputs.get(&step).map(|input| &**input);
    let mut input = earlier.or_else(|| plan.input_of(step)).cloned().unwrap_or_default();
    for pair in pairs {
        set(&mut input, pair).map_err(Failure::invalid)?;
    }
    Ok(input)
}
