//! Opening a store to look into it, and finding runs in it.

use std::path::Path;

use lunacore::{PlanRecord, Reader, RunId, RunRecord, SqliteStore};

use crate::exit::Failure;
use crate::screen::clean;

/// How many runs, events or keys are read at a time: few enough to hold, and enough that the reading costs nothing.
pub(crate) const PAGE: usize = lunacore::limits::MAX_PAGE;

/// How many ids are named when it is not clear which one is meant.
const NAMED: usize = 3;

/// Opens a store to be read: this makes no file, and needs nobody to let go of the store.
pub(crate) fn open(path: &Path) -> Result<SqliteStore, Failure> {
    Ok(SqliteStore::open_read_only(path)?)
}

/// All runs in the order of their acceptance, or only those that are unfinished; a page at a time.
pub(crate) fn each_page(
    reader: &dyn Reader,
    unfinished: bool,
    mut page: impl FnMut(Vec<RunRecord>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut after: Option<RunId> = None;
    loop {
        let runs = match unfinished {
            true => reader.unfinished(after.as_ref(), PAGE)?,
            false => reader.runs(after.as_ref(), PAGE)?,
        };
        let Some(last) = runs.last() else { return Ok(()) };
        after = Some(last.run_id.clone());
        page(runs)?;
    }
}

/// The run with this id, or the only one whose id begins so.
pub(crate) fn find_run(reader: &dyn Reader, text: &str) -> Result<RunRecord, Failure> {
    let run_id: RunId = text.parse().map_err(|error| Failure::invalid(format!("{error}")))?;
    if let Some(record) = reader.run(&run_id)? {
        return Ok(record);
    }
    let mut search = Search::new(text);
    each_page(reader, false, |runs| {
        runs.into_iter().for_each(|run| search.look_at(run));
        Ok(())
    })?;
    search.found()
}

/// The plan of a run. Without it there is nothing to go on with.
pub(crate) fn plan_of(reader: &dyn Reader, run: &RunRecord) -> Result<PlanRecord, Failure> {
    let plan = reader.plan(&run.run_id)?;
    plan.ok_or_else(|| Failure::invalid(format!("the plan of run {} is not kept any more", run.run_id)))
}

/// Looks for a run by the beginning of its id, and remembers what looks alike.
struct Search<'a> {
    text: &'a str,
    begin_so: Vec<RunRecord>,
    more: usize,
    /// The most alike first.
    alike: Vec<(usize, String)>,
}

impl<'a> Search<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, begin_so: Vec::new(), more: 0, alike: Vec::new() }
    }

    fn look_at(&mut self, run: RunRecord) {
        let id = run.run_id.as_str();
        if id.starts_with(self.text) {
            match self.begin_so.len() {
                0..NAMED => self.begin_so.push(run),
                _ => self.more += 1,
            }
            return;
        }
        // Against as much of the id as was given: it may have been meant as the beginning of one.
        let start: String = id.chars().take(self.text.chars().count()).collect();
        let distance =
            strsim::damerau_levenshtein(&start, self.text).min(strsim::damerau_levenshtein(id, self.text));
        if distance <= 2.min(self.text.chars().count() / 3) {
            self.alike.push((distance, id.to_owned()));
            self.alike.sort_by_key(|(distance, _)| *distance);
            self.alike.truncate(NAMED);
        }
    }

    fn found(mut self) -> Result<RunRecord, Failure> {
        let text = clean(self.text);
        if self.more == 0 && self.begin_so.len() == 1 {
            return self.begin_so.pop().ok_or(Failure::Closed);
        }
        if self.begin_so.is_empty() {
            let near: Vec<String> = self.alike.into_iter().map(|(_, id)| id).collect();
            let hint = match &*near {
                [] => "; `lunacore list` shows all".to_owned(),
                near => format!("; did you mean {}?", near.join(" or ")),
            };
            return Err(Failure::invalid(format!("there is no run {text}{hint}")));
        }
        let ids: Vec<&str> = self.begin_so.iter().map(|run| run.run_id.as_str()).collect();
        let more = if self.more == 0 { String::new() } else { format!(" and {} more", self.more) };
        Err(Failure::invalid(format!(
            "several runs begin with {text}: {}{more}; give more of the id",
            ids.join(", ")
        )))
    }
}
