//! `lunacore resume`.

use lunacore::{Reader, RunRecord, SqliteStore};

use super::bounds;
use super::drive::{Job, Kept, What, drive};
use crate::args::Resume;
use crate::exit::{Exit, Failure};
use crate::screen::{self, Screen};
use crate::store;

pub(crate) fn resume(resume: &Resume, screen: &mut Screen) -> Result<Exit, Failure> {
    // Before the store is opened for running, which would make one that is missing.
    let looked = store::open(&resume.source.store)?;
    let mut runs: Vec<RunRecord> = Vec::new();
    match &resume.run {
        Some(text) => runs.push(store::find_run(&looked, text)?),
        None => store::each_page(&looked, true, |mut page| {
            runs.append(&mut page);
            Ok(())
        })?,
    }
    drop(looked);
    if let [run] = &*runs
        && resume.run.is_some()
        && run.state.is_final()
    {
        let message = format!("run {} is {} already; nothing of it is left to do", run.run_id, run.state);
        return Err(Failure::invalid(message));
    }
    if runs.is_empty() {
        screen::note(&format!("no unfinished runs in {}", resume.source.store.display()));
        return Ok(Exit::Done);
    }
    let store = SqliteStore::open(&resume.source.store)?;
    let mut wanted = Vec::with_capacity(runs.len());
    for run in runs {
        // Without its plan there is nothing to go on with.
        if let Some(plan) = store.plan(&run.run_id)? {
            wanted.push((run, plan));
        }
    }
    let guards = bounds::of(wanted.iter().map(|(_, plan)| plan), &resume.bounds.limits)?;
    let kept = Kept::File { store, path: resume.source.store.clone() };
    let secrets = resume.secrets.secrets();
    let job = Job {
        kept,
        what: What::Continue(wanted),
        secrets,
        guards,
        json: resume.source.json,
        quiet: resume.quiet,
    };
    drive(job, screen)
}
