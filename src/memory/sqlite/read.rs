//! Reading: through the writer's connection, or one of its own.

use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Params, Row};
use serde_json::{Map, Value};

use super::error::{Fault, Unreadable};
use super::events;
use super::rows::{
    Read, data, integer, number, optional_text, output, output_data, record, record_columns, text, time, uuid,
};
use crate::artifact::{Artifact, TASK_PREFIX};
use crate::event::Event;
use crate::memory::error::{MemoryError, StoreError};
use crate::memory::store::Reader;
use crate::plan::{Output, PlanRecord};
use crate::project::Project;
use crate::run::{RunId, RunRecord};

/// A table, and how many columns its primary key has.
#[derive(Clone, Copy)]
struct Table(&'static str, usize);

const RUNS: Table = Table("runs", 1);
const STEPS: Table = Table("steps", 2);
const KEYS: Table = Table("artifact_keys", 1);
const ARTIFACTS: Table = Table("artifacts", 2);
const EVENTS: Table = Table("events", 1);

impl Table {
    fn unreadable(self, row: &Row<'_>, source: Unreadable) -> Fault {
        let Self(table, columns) = self;
        let key: Vec<String> = (0..columns).map(|column| cell(row, column)).collect();
        Fault::Row { table, row: key.join(" "), source }
    }
}

fn cell(row: &Row<'_>, column: usize) -> String {
    row.get::<_, i64>(column).map_or_else(|_| "?".to_owned(), |number| number.to_string())
}

/// A connection to read through. Each call reads the store as it is at one moment.
#[derive(Debug)]
pub(super) struct View(pub(super) Connection);

macro_rules! artifact_query {
    ($and:literal) => {
        concat!(
            "SELECT a.key_no, a.version, a.id, a.type, a.created_at, a.meta, r.run_id, a.step, a.data, s.output \
             FROM artifact_keys k JOIN artifacts a ON a.key_no = k.no \
             LEFT JOIN runs r ON r.no = a.run LEFT JOIN steps s ON s.run = a.run AND s.step = a.step \
             WHERE k.tenant = ?1 AND k.project = ?2 AND k.key = ?3",
            $and
        )
    };
}

macro_rules! event_query {
    ($and:literal) => {
        concat!(
            "SELECT e.seq, e.id, e.run, r.run_id, e.type, e.at, e.payload, e.step, s.output FROM events e \
             LEFT JOIN runs r ON r.no = e.run LEFT JOIN steps s ON s.run = e.run AND s.step = e.step WHERE ",
            $and,
            " ORDER BY e.seq LIMIT ?1"
        )
    };
}

impl View {
    /// All rows of a query, which selects the primary key of `table` first: that is how a row is named that cannot be read.
    fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        table: Table,
        mut read: impl FnMut(&Row<'_>) -> Read<T>,
    ) -> Result<Vec<T>, Fault> {
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(read(row).map_err(|source| table.unreadable(row, source))?);
        }
        Ok(found)
    }

    /// The one row that a query has at most.
    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        table: Table,
        read: impl FnMut(&Row<'_>) -> Read<T>,
    ) -> Result<Option<T>, Fault> {
        Ok(self.all(sql, params, table, read)?.pop())
    }

    /// A run and its number.
    pub(super) fn find(&self, run_id: &RunId) -> Result<Option<(i64, RunRecord)>, Fault> {
        let sql = concat!("SELECT ", record_columns!(), " FROM runs WHERE run_id = ?1");
        self.one(sql, [run_id.as_str()], RUNS, record)
    }

    fn number_of(&self, run_id: &RunId) -> Result<Option<i64>, Fault> {
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

    /// Whether the events behind `after` are still there: somebody may have deleted old ones to save space.
    fn check_kept(&self, after: u64) -> Result<(), MemoryError> {
        let sql = "SELECT seq FROM events ORDER BY seq LIMIT 1";
        match self.one(sql, [], EVENTS, |row| integer::<u64>(row, 0))? {
            Some(first) if first.saturating_sub(1) > after => Err(MemoryError::HistoryGone { after, first }),
            _ => Ok(()),
        }
    }
}

/// An artifact of the step's result has no meta and no data of its own: both are made of what is stored of the step.
fn artifact(row: &Row<'_>, project: &Project, key: &str) -> Read<Artifact> {
    let content = match row.get_ref(8)? {
        ValueRef::Null => output_data(row.get_ref(9)?)?,
        own => data(own)?,
    };
    let mut artifact =
        Artifact::new(project.clone(), key.to_owned(), integer(row, 1)?, content, time(row.get(4)?)?);
    artifact.id = uuid(row, 2)?;
    artifact.artifact_type = Arc::from(text(row, 3)?);
    artifact.run_id = optional_text(row, 6)?.map(str::parse).transpose()?;
    artifact.meta = match (optional_text(row, 5)?, row.get::<_, Option<i64>>(7)?) {
        (Some(meta), _) => serde_json::from_str(meta)?,
        (None, Some(step)) => step_meta(step, key.strip_prefix(TASK_PREFIX).unwrap_or(key)),
        (None, None) => Map::new(),
    };
    Ok(artifact)
}

/// The meta of what a step stores.
pub(super) fn step_meta(step: i64, step_id: &str) -> Map<String, Value> {
    Map::from_iter([("step".to_owned(), Value::from(step)), ("step_id".to_owned(), Value::from(step_id))])
}

/// Reads events. Those of one run mostly stand together and share its id.
fn event_reader() -> impl FnMut(&Row<'_>) -> Read<Event> {
    let mut last: Option<(i64, RunId)> = None;
    move |row| {
        let run_id = match (row.get::<_, Option<i64>>(2)?, &last) {
            (None, _) => None,
            (Some(run), Some((known, run_id))) if run == *known => Some(run_id.clone()),
            (Some(run), _) => {
                let run_id: RunId = text(row, 3)?.parse()?;
                last = Some((run, run_id.clone()));
                Some(run_id)
            }
        };
        let stored = row.get_ref(8)?;
        if stored == ValueRef::Null && row.get_ref(7)? != ValueRef::Null {
            return Err("the output of its step is not stored".into());
        }
        let kind = events::kind(text(row, 4)?, text(row, 6)?, stored)?;
        Ok(Event::restored(uuid(row, 1)?, integer(row, 0)?, time(row.get(5)?)?, run_id, kind))
    }
}

impl Reader for View {
    fn last_seq(&self) -> Result<u64, StoreError> {
        let sql = "SELECT seq FROM events ORDER BY seq DESC LIMIT 1";
        Ok(self.one(sql, [], EVENTS, |row| integer(row, 0))?.unwrap_or(0))
    }

    fn artifact(
        &self,
        project: &Project,
        key: &str,
        version: Option<u64>,
    ) -> Result<Option<Artifact>, StoreError> {
        let (tenant, name) = (project.tenant(), project.project());
        let read = |row: &Row<'_>| artifact(row, project, key);
        let found = match version {
            None => {
                let sql = artifact_query!(" ORDER BY a.version DESC LIMIT 1");
                self.one(sql, (tenant, name, key), ARTIFACTS, read)?
            }
            Some(version) => {
                let sql = artifact_query!(" AND a.version = ?4");
                self.one(sql, (tenant, name, key, number(version)), ARTIFACTS, read)?
            }
        };
        Ok(found)
    }

    fn versions(&self, project: &Project, key: &str) -> Result<Vec<u64>, StoreError> {
        let sql = "SELECT a.key_no, a.version FROM artifact_keys k JOIN artifacts a ON a.key_no = k.no \
                   WHERE k.tenant = ?1 AND k.project = ?2 AND k.key = ?3 ORDER BY a.version";
        let params = (project.tenant(), project.project(), key);
        Ok(self.all(sql, params, ARTIFACTS, |row| integer(row, 1))?)
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
            " FROM runs INDEXED BY runs_unfinished WHERE finished_at IS NULL AND no > ?1 ORDER BY no LIMIT ?2"
        );
        Ok(self.page(sql, after, limit)?)
    }

    fn outputs(&self, run_id: &RunId) -> Result<Option<Vec<Output>>, StoreError> {
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

    fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError> {
        self.check_kept(after)?;
        let sql = event_query!("e.seq > ?2");
        Ok(self.all(sql, (number(limit), number(after)), EVENTS, event_reader())?)
    }

    fn run_events(&self, run_id: &RunId, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError> {
        let sql = "SELECT no, first_seq, ifnull(last_seq, 9223372036854775807) FROM runs WHERE run_id = ?1";
        let place =
            |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, integer::<u64>(row, 1)?, row.get::<_, i64>(2)?));
        let Some((no, first, last)) = self.one(sql, [run_id.as_str()], RUNS, place)? else {
            return Ok(Vec::new());
        };
        // An index of events by run would cost every commit more than this costs a reader.
        let after = after.max(first.saturating_sub(1));
        self.check_kept(after)?;
        let sql = event_query!("e.seq > ?2 AND e.seq <= ?3 AND e.run = ?4");
        Ok(self.all(sql, (number(limit), number(after), last, no), EVENTS, event_reader())?)
    }
}
