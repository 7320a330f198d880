//! What is read: through the writer's connection, or one of its own.

use std::sync::Arc;

use rusqlite::{Params, Row};
use uuid::Uuid;

use super::error::Fault;
use super::events as payload;
use super::rows::{
    Read, breaker, data, integer, number, optional_text, output, output_data, record, record_columns, text,
    time,
};
use super::signals;
use super::view::{Table, View};
use crate::artifact::{Artifact, TASK_PREFIX, step_meta, task_result};
use crate::event::Event;
use crate::memory::error::{MemoryError, StoreError};
use crate::memory::signal::{KeptSignal, SignalUsage};
use crate::memory::store::Reader;
use crate::plan::{Output, PlanRecord};
use crate::project::Project;
use crate::resilience::BreakerRecord;
use crate::run::{RunId, RunRecord};

const RUNS: Table = Table("runs", 1);
const STEPS: Table = Table("steps", 2);
const KEYS: Table = Table("artifact_keys", 1);
const ARTIFACTS: Table = Table("artifacts", 2);
const BREAKERS: Table = Table("breakers", 1);
const EVENTS: Table = Table("events", 1);
const SIGNALS: Table = Table("signals", 2);

/// The versions of a key, which are in two tables: the primary key of the row, whether it is one of `steps`, the version, and
/// what else is asked for.
macro_rules! artifact_query {
    ($own:literal, $result:literal, $and:literal, $order:literal) => {
        concat!(
            "SELECT a.key_no, a.version, 0, a.version",
            $own,
            " FROM artifact_keys k JOIN artifacts a ON a.key_no = k.no LEFT JOIN runs r ON r.no = a.run \
             WHERE k.tenant = ?1 AND k.project = ?2 AND k.key = ?3",
            $and,
            " UNION ALL SELECT s.run, s.step, 1, s.version",
            $result,
            " FROM artifact_keys k JOIN steps s ON s.key_no = k.no LEFT JOIN runs r ON r.no = s.run \
             WHERE k.tenant = ?1 AND k.project = ?2 AND k.key = ?3",
            $and,
            " ORDER BY 4 ",
            $order
        )
    };
    ($and:literal) => {
        artifact_query!(
            ", a.id, a.created_at, r.run_id, a.data, a.type, a.meta",
            ", s.artifact_id, s.at, r.run_id, s.output, s.generation, NULL",
            $and,
            "DESC LIMIT 1"
        )
    };
}

/// From the row that has the event behind the one with the number ?1.
macro_rules! event_query {
    ($and:literal) => {
        concat!(
            "SELECT e.seq, e.run, r.run_id, e.at, e.ids, e.payload, e.step, s.output FROM events e \
             LEFT JOIN runs r ON r.no = e.run LEFT JOIN steps s ON s.run = e.run AND s.step = e.step WHERE e.seq >= \
             ifnull((SELECT seq FROM events WHERE seq <= ?1 + 1 ORDER BY seq DESC LIMIT 1), ?1)",
            $and,
            " ORDER BY e.seq"
        )
    };
}

impl View {
    /// All rows of a query of both tables that have artifacts.
    fn versions_of<T>(
        &self,
        sql: &str,
        params: impl Params,
        mut read: impl FnMut(&Row<'_>) -> Read<T>,
    ) -> Result<Vec<T>, Fault> {
        let read = |row: &Row<'_>| {
            let table = if row.get(2)? { STEPS } else { ARTIFACTS };
            Ok(read(row).map_err(|source| table.unreadable(row, source)))
        };
        self.all(sql, params, ARTIFACTS, read)?.into_iter().collect()
    }

    /// At most `limit` events behind `after`. A page may begin and end in the middle of a row.
    fn events_of(
        &self,
        sql: &str,
        params: impl Params,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, Fault> {
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut found = Vec::new();
        let mut last_run = None;
        while found.len() < limit
            && let Some(row) = rows.next()?
        {
            events(row, after, &mut last_run, &mut found).map_err(|source| EVENTS.unreadable(row, source))?;
        }
        found.truncate(limit);
        Ok(found)
    }

    /// A run and its number.
    pub(super) fn find(&self, run_id: &RunId) -> Result<Option<(i64, RunRecord)>, Fault> {
        let sql = concat!("SELECT ", record_columns!(), " FROM runs WHERE run_id = ?1");
        self.one(sql, [run_id.as_str()], RUNS, record)
    }

    pub(super) fn number_of(&self, run_id: &RunId) -> Result<Option<i64>, Fault> {
        let sql = "SELECT no FROM runs WHERE run_id = ?1";
        self.one(sql, [run_id.as_str()], RUNS, |row| Ok(row.get(0)?))
    }

    /// A page of records. `sql` takes the number of the run before, and how many.
    fn page(&self, sql: &str, after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, Fault> {
        let after = match after.map(|run_id| self.number_of(run_id)).transpose()? {
            None => 0,
            Some(Some(no)) => no,
            Some(None) => return Ok(Vec::new()),
        };
        self.all(sql, (after, number(limit)), RUNS, |row| Ok(record(row)?.1))
    }

    fn outputs_of(&self, run_id: &RunId) -> Result<Option<Vec<Output>>, Fault> {
        let Some(no) = self.number_of(run_id)? else { return Ok(None) };
        let mut next = 0;
        let read = |row: &Row<'_>| -> Read<Output> {
            if integer::<usize>(row, 1)? != next {
                return Err(format!("step {next} should come before it").into());
            }
            next += 1;
            output(row.get_ref(2)?)
        };
        Ok(Some(self.all(
            "SELECT run, step, output FROM steps WHERE run = ?1 ORDER BY step",
            [no],
            STEPS,
            read,
        )?))
    }

    fn events_of_run(&self, run_id: &RunId, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError> {
        let sql = "SELECT no, first_seq, ifnull(last_seq, 9223372036854775807) FROM runs WHERE run_id = ?1";
        let place =
            |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, integer::<u64>(row, 1)?, row.get::<_, i64>(2)?));
        let Some((no, first, last)) = self.one(sql, [run_id.as_str()], RUNS, place)? else {
            return Ok(Vec::new());
        };
        if after >= last.unsigned_abs() {
            return Ok(Vec::new());
        }
        // An index of events by run would cost every commit more than this costs a reader.
        let after = after.max(first.saturating_sub(1));
        self.check_kept(after)?;
        let sql = event_query!(" AND e.seq <= ?2 AND e.run = ?3");
        Ok(self.events_of(sql, (number(after), last, no), after, limit)?)
    }

    /// Whether the events behind `after` are still there.
    fn check_kept(&self, after: u64) -> Result<(), MemoryError> {
        let sql = "SELECT seq FROM events ORDER BY seq LIMIT 1";
        match self.one(sql, [], EVENTS, |row| integer::<u64>(row, 0))? {
            Some(first) if first.saturating_sub(1) > after => Err(MemoryError::HistoryGone { after, first }),
            _ => Ok(()),
        }
    }
}

/// The artifact of a step's result has a type and a meta that follow from that, and the output is its data.
fn artifact(row: &Row<'_>, project: &Project, key: &str) -> Read<Artifact> {
    let is_result = row.get(2)?;
    let content = if is_result { output_data(row.get_ref(7)?)? } else { data(row.get_ref(7)?)? };
    let mut artifact =
        Artifact::new(project.clone(), key.to_owned(), integer(row, 3)?, content, time(row.get(5)?)?);
    artifact.id = Uuid::from_slice(row.get_ref(4)?.as_blob()?)?;
    artifact.run_id = optional_text(row, 6)?.map(str::parse).transpose()?;
    if is_result {
        artifact.artifact_type = task_result();
        let step_id = key.strip_prefix(TASK_PREFIX).unwrap_or(key);
        artifact.meta = step_meta(integer(row, 1)?, step_id, integer(row, 8)?);
    } else {
        artifact.artifact_type = Arc::from(text(row, 8)?);
        artifact.meta = optional_text(row, 9)?.map(serde_json::from_str).transpose()?.unwrap_or_default();
    }
    Ok(artifact)
}

/// The events of a row that are behind `after`. Rows of one run mostly stand together and share its id.
fn events(
    row: &Row<'_>,
    after: u64,
    last_run: &mut Option<(i64, RunId)>,
    found: &mut Vec<Event>,
) -> Read<()> {
    let first: u64 = integer(row, 0)?;
    let (ids, rest) = row.get_ref(4)?.as_blob()?.as_chunks::<16>();
    if !ids.is_empty() && first + ids.len() as u64 <= after.saturating_add(1) {
        return Ok(());
    }
    let run_id = match (row.get::<_, Option<i64>>(1)?, &*last_run) {
        (None, _) => None,
        (Some(run), Some((known, run_id))) if run == *known => Some(run_id.clone()),
        (Some(run), _) => {
            let run_id: RunId = text(row, 2)?.parse()?;
            *last_run = Some((run, run_id.clone()));
            Some(run_id)
        }
    };
    let at = time(row.get(3)?)?;
    let kinds = payload::kinds(text(row, 5)?, row.get_ref(7)?)?;
    if !rest.is_empty() || ids.is_empty() || kinds.len() != ids.len() {
        return Err(format!("it has {} events and {} ids", kinds.len(), ids.len()).into());
    }
    for ((seq, id), kind) in (first..).zip(ids).zip(kinds) {
        if seq > after {
            found.push(Event::restored(Uuid::from_bytes(*id), seq, at, run_id.clone(), kind));
        }
    }
    Ok(())
}

impl Reader for View {
    fn last_seq(&self) -> Result<u64, StoreError> {
        let sql = "SELECT seq, seq + length(ids) / 16 - 1 FROM events ORDER BY seq DESC LIMIT 1";
        Ok(self.one(sql, [], EVENTS, |row| integer(row, 1))?.unwrap_or(0))
    }

    fn artifact(
        &self,
        project: &Project,
        key: &str,
        version: Option<u64>,
    ) -> Result<Option<Artifact>, StoreError> {
        let (tenant, name) = (project.tenant(), project.project());
        let read = |row: &Row<'_>| artifact(row, project, key);
        let mut found = match version {
            None => self.versions_of(artifact_query!(""), (tenant, name, key), read)?,
            Some(version) => {
                let sql = artifact_query!(" AND version = ?4");
                self.versions_of(sql, (tenant, name, key, number(version)), read)?
            }
        };
        Ok(found.pop())
    }

    fn versions(&self, project: &Project, key: &str) -> Result<Vec<u64>, StoreError> {
        let sql = artifact_query!("", "", "", "");
        let params = (project.tenant(), project.project(), key);
        Ok(self.versions_of(sql, params, |row| integer(row, 3))?)
    }

    fn keys(
        &self,
        project: &Project,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        // Text is compared byte by byte, as it is in Rust.
        let sql = "SELECT no, key FROM artifact_keys WHERE tenant = ?1 AND project = ?2 AND key >= ?3 \
                   AND (key > ?3 OR ?4) ORDER BY key LIMIT ?5";
        let (from, inclusive) = match after {
            Some(after) if after >= prefix => (after, false),
            _ => (prefix, true),
        };
        let params = (project.tenant(), project.project(), from, inclusive, number(limit));
        let mut keys = self.all(sql, params, KEYS, |row| Ok(text(row, 1)?.to_owned()))?;
        // The keys with the prefix stand together, in front.
        keys.truncate(keys.partition_point(|key| key.starts_with(prefix)));
        Ok(keys)
    }

    fn run(&self, run_id: &RunId) -> Result<Option<RunRecord>, StoreError> {
        Ok(self.find(run_id)?.map(|(_, record)| record))
    }

    fn plan(&self, run_id: &RunId) -> Result<Option<PlanRecord>, StoreError> {
        let sql = "SELECT no, plan FROM runs WHERE run_id = ?1";
        Ok(self.one(sql, [run_id.as_str()], RUNS, |row| Ok(serde_json::from_str(text(row, 1)?)?))?)
    }

    fn runs(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        let sql = concat!("SELECT ", record_columns!(), " FROM runs WHERE no > ?1 ORDER BY no LIMIT ?2");
        Ok(self.page(sql, after, limit)?)
    }

    fn unfinished(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        let sql = concat!(
            "SELECT ",
            record_columns!(),
            " FROM unfinished_runs AS runs WHERE no > ?1 ORDER BY no LIMIT ?2"
        );
        Ok(self.page(sql, after, limit)?)
    }

    fn outputs(&self, run_id: &RunId) -> Result<Option<Vec<Output>>, StoreError> {
        Ok(self.at_one_moment(|| self.outputs_of(run_id))?)
    }

    fn skipped(&self, run_id: &RunId) -> Result<Vec<usize>, StoreError> {
        let Some(no) = self.number_of(run_id)? else { return Ok(Vec::new()) };
        let sql = "SELECT run, step FROM steps WHERE run = ?1 AND attempt = 0 ORDER BY step";
        Ok(self.all(sql, [no], STEPS, |row| integer(row, 1))?)
    }

    fn signals(&self, run_id: &RunId) -> Result<Vec<KeptSignal>, StoreError> {
        Ok(self.all(signals::KEPT, [run_id.as_str()], SIGNALS, signals::signal)?)
    }

    fn signal_usage(&self, run_id: &RunId) -> Result<SignalUsage, StoreError> {
        Ok(signals::usage(&self.0, run_id)?)
    }

    fn breakers(&self) -> Result<Vec<BreakerRecord>, StoreError> {
        let sql = "SELECT name, state, until, failures, changed_at FROM breakers ORDER BY name";
        Ok(self.all(sql, [], BREAKERS, breaker)?)
    }

    fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError> {
        self.at_one_moment(|| {
            self.check_kept(after)?;
            Ok(self.events_of(event_query!(""), [number(after)], after, limit)?)
        })
    }

    fn run_events(&self, run_id: &RunId, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError> {
        self.at_one_moment(|| self.events_of_run(run_id, after, limit))
    }
}
