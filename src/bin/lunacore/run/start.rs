//! `lunacore run`.

use lunacore::{ExecutePlan, PlanRecord, Project, Reader, RunId, RunRecord, SqliteStore};

use super::bounds;
use super::drive::{Job, Kept, What, drive};
use super::{inputs, plan};
use crate::args::Run;
use crate::exit::{Exit, Failure};
use crate::screen::{Screen, clean};
use crate::store;

pub(crate) fn run(run: &Run, screen: &mut Screen) -> Result<Exit, Failure> {
    // What is wrong with the plan is known before a store is made for it.
    let plan = plan::load(&run.plan)?.into_plan();
    let inputs = inputs::parse(&plan, &run.inputs)?;
    let record = PlanRecord::with_inputs(plan.clone(), inputs.clone())
        .map_err(|error| Failure::of(Exit::Invalid, &error))?;
    let mut execute = ExecutePlan::new(plan).inputs(inputs);
    let run_id = run.run_id.as_deref().map(str::parse::<RunId>).transpose();
    let run_id = run_id.map_err(|error| Failure::of(Exit::Invalid, &error))?;
    let guards = bounds::of([&record], &run.bounds.limits)?;
    let kept = if run.in_memory {
        Kept::InMemory
    } else {
        Kept::File { store: SqliteStore::open(&run.store)?, path: run.store.clone() }
    };
    let mut before = None;
    if let Kept::File { store, .. } = &kept {
        before = match &run_id {
            Some(run_id) => store.run(run_id)?,
            None if run.new => None,
            None => unfinished(store, &record)?,
        };
    }
    if let Some(run_id) = before.as_ref().map(|before| &before.run_id).or(run_id.as_ref()) {
        execute = execute.run_id(run_id.as_str());
    }
    let what = What::Execute { execute: Box::new(execute), record, before: before.map(Box::new) };
    let secrets = run.secrets.secrets();
    drive(Job { kept, what, secrets, guards, json: run.json, quiet: run.quiet }, screen)
}

/// The unfinished run of this plan, and the last of several: that of the command that was cut off.
fn unfinished(store: &SqliteStore, plan: &PlanRecord) -> Result<Option<RunRecord>, Failure> {
    let mut found = None;
    store::each_page(store, true, |runs| {
        for run in runs.into_iter().filter(|run| run.project == Project::default()) {
            let same = store.plan(&run.run_id)?.is_some_and(|other| other.differences(plan).is_empty());
            if same {
                found = Some(run);
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// A name for people: that of the plan, if it has one.
pub(crate) fn called(name: Option<&str>) -> String {
    name.map_or_else(|| "the plan".to_owned(), |name| format!("the plan {}", clean(name)))
}
