//! `lunacore list`.

use std::time::SystemTime;

use lunacore::RunRecord;

use crate::args::List;
use crate::exit::{Exit, Failure};
use crate::json;
use crate::screen::{self, Screen, Style, fit};
use crate::store;
use crate::table::Table;
use crate::times::{between, relative, took};

/// How much of a plan's name, or of a run id that somebody chose, a row shows.
const NAME: usize = 36;

pub(crate) fn list(list: &List, screen: &mut Screen) -> Result<Exit, Failure> {
    let reader = store::open(&list.source.store)?;
    let now = SystemTime::now();
    let mut table = Table::new(&["RUN", "PLAN", "STATE", "STEPS", "ACCEPTED", "TOOK"], screen);
    let mut found = false;
    store::each_page(&reader, list.unfinished, |runs| {
        found = true;
        if list.source.json {
            return runs.iter().try_for_each(|run| screen.json(&json::run(run)));
        }
        runs.iter().for_each(|run| table.add(row(run, screen.style, now)));
        table.write(screen)
    })?;
    if !found && !list.source.json {
        let what = if list.unfinished { "no unfinished runs" } else { "no runs" };
        screen::note(&format!("{what} in {}", list.source.store.display()));
    }
    Ok(Exit::Done)
}

fn row(run: &RunRecord, style: Style, now: SystemTime) -> Vec<String> {
    let took = run.started_at.map(|started| took(between(started, run.finished_at.unwrap_or(now))));
    vec![
        fit(run.run_id.as_str(), NAME, style),
        fit(run.name.as_deref().unwrap_or("-"), NAME, style),
        style.state(run.state),
        format!("{}/{}", run.cursor, run.steps),
        relative(run.accepted_at, now),
        took.unwrap_or_else(|| "-".to_owned()),
    ]
}
