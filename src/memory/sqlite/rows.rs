//! From the cells of a row to the types of this crate. Anybody can edit the file, so nothing is taken for granted.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, ToSql};
use serde::de::{DeserializeOwned, IntoDeserializer};

use super::error::{Fault, Unreadable};
use crate::artifact::ArtifactData;
use crate::plan::Output;
use crate::project::Project;
use crate::resilience::BreakerRecord;
use crate::run::{Durability, HoldReason, RunId, RunRecord, RunState};

/// What is later has no RFC 3339 form: the end of the year 9999.
const LAST_TIME: u64 = 253_402_300_799_999_999;

pub(super) type Read<T> = Result<T, Unreadable>;

/// Microseconds since the epoch.
pub(super) fn micros(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    seconds.saturating_mul(1_000_000).saturating_add(i64::from(since.subsec_micros()))
}

pub(super) fn time(micros: i64) -> Read<SystemTime> {
    match u64::try_from(micros) {
        Ok(micros) if micros <= LAST_TIME => Ok(UNIX_EPOCH + Duration::from_micros(micros)),
        _ => Err(format!("{micros} is no time").into()),
    }
}

/// A number as SQLite has them; the largest it has for what is larger, which no number in a store ever is.
pub(super) fn number(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

pub(super) fn text<'a>(row: &'a Row<'_>, column: usize) -> Read<&'a str> {
    Ok(row.get_ref(column)?.as_str()?)
}

pub(super) fn optional_text<'a>(row: &'a Row<'_>, column: usize) -> Read<Option<&'a str>> {
    Ok(row.get_ref(column)?.as_str_or_null()?)
}

pub(super) fn integer<T: TryFrom<i64>>(row: &Row<'_>, column: usize) -> Read<T> {
    let number: i64 = row.get(column)?;
    T::try_from(number).map_err(|_| format!("the number {number} is out of range").into())
}

/// What every reader of records selects, in the order in which [`record`] takes it.
///
/// The cursor is the place behind the last stored step: it cannot come apart from the outputs.
macro_rules! record_columns {
    () => {
        "no, run_id, tenant, project, name, steps, self_contained, state, attempt, failure, reason, accepted_at, \
         started_at, finished_at, durability, step_until, fallback, pausing, deadline, \
         ifnull(step_since, ifnull((SELECT at FROM steps WHERE run = runs.no ORDER BY step DESC LIMIT 1), \
         started_at)), \
         ifnull((SELECT step + 1 FROM steps WHERE run = runs.no ORDER BY step DESC LIMIT 1), 0), \
         verifying, generation, undoing, set_inputs, held"
    };
}
pub(super) use record_columns;

/// Stores an artifact that is not that of a result which counts.
pub(super) const INSERT_ARTIFACT: &str = "INSERT INTO artifacts (key_no, version, id, type, created_at, meta, run, step, data) \
                               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

/// A run and its number.
pub(super) fn record(row: &Row<'_>) -> Read<(i64, RunRecord)> {
    let no = row.get(0)?;
    let run_id: RunId = text(row, 1)?.parse()?;
    let project = project(text(row, 2)?, text(row, 3)?);
    let mut record = RunRecord::new(run_id, project, integer(row, 5)?, time(row.get(11)?)?);
    record.name = optional_text(row, 4)?.map(Arc::from);
    record.self_contained = row.get(6)?;
    record.state = state(text(row, 7)?)?;
    record.attempt = integer(row, 8)?;
    record.failure = optional_text(row, 9)?.map(serde_json::from_str).transpose()?.map(Arc::new);
    record.reason = optional_text(row, 10)?.map(Arc::from);
    record.started_at = row.get::<_, Option<i64>>(12)?.map(time).transpose()?;
    record.finished_at = row.get::<_, Option<i64>>(13)?.map(time).transpose()?;
    record.durability = optional_text(row, 14)?.map(durability).transpose()?;
    let moment = |column| row.get::<_, Option<i64>>(column)?.map(time).transpose();
    record.step.until = moment(15)?;
    record.step.fallback = row.get(16)?;
    record.pausing = row.get(17)?;
    record.deadline = moment(18)?;
    record.step.since = moment(19)?;
    record.cursor = integer(row, 20)?;
    record.step.verifying = row.get(21)?;
    record.generation = integer(row, 22)?;
    record.undoing = optional_text(row, 23)?.map(serde_json::from_str).transpose()?.map(Arc::new);
    record.set_inputs = optional_text(row, 24)?.map(serde_json::from_str).transpose()?.unwrap_or_default();
    record.step.held = optional_text(row, 25)?.map(hold_reason).transpose()?;
    Ok((no, record))
}

/// A breaker takes the place of the one of its name.
pub(super) fn store_breaker(connection: &Connection, breaker: &BreakerRecord) -> Result<(), Fault> {
    let sql = "INSERT OR REPLACE INTO breakers (name, state, until, failures, changed_at) VALUES (?1, ?2, ?3, ?4, ?5)";
    let BreakerRecord { name, state, until, failures, changed_at } = breaker;
    let params = (&**name, state.as_str(), until.map(micros), failures, micros(*changed_at));
    connection.prepare_cached(sql)?.execute(params)?;
    Ok(())
}

/// The columns of a breaker in their order.
pub(super) fn breaker(row: &Row<'_>) -> Read<BreakerRecord> {
    let state = of_word(text(row, 1)?).map_err(|_| "its state is not one of a breaker")?;
    let until = row.get::<_, Option<i64>>(2)?.map(time).transpose()?;
    Ok(BreakerRecord::new(text(row, 0)?, state, until, integer(row, 3)?, time(row.get(4)?)?))
}

fn project(tenant: &str, project: &str) -> Project {
    let default = Project::default();
    if default.tenant() == tenant && default.project() == project {
        default
    } else {
        Project::new(tenant, project)
    }
}

fn durability(word: &str) -> Read<Durability> {
    of_word(word).map_err(|_| format!("durability cannot be {word:?}").into())
}

fn hold_reason(word: &str) -> Read<HoldReason> {
    of_word(word).map_err(|_| format!("the reason for a hold cannot be {word:?}").into())
}

fn state(word: &str) -> Read<RunState> {
    of_word(word).map_err(|_| format!("a run cannot be {word:?}").into())
}

/// The variant that has this word in JSON, which is what `as_str` gives too.
fn of_word<T: DeserializeOwned>(word: &str) -> Result<T, serde::de::value::Error> {
    T::deserialize(word.into_deserializer())
}

/// JSON is text, bytes are a blob: the storage class of the cell tells them apart.
pub(super) fn output(cell: ValueRef<'_>) -> Read<Output> {
    match cell {
        ValueRef::Text(json) => Ok(Output::Json(Arc::new(serde_json::from_slice(json)?))),
        ValueRef::Blob(bytes) => Ok(Output::Bytes(Bytes::copy_from_slice(bytes))),
        other => Err(format!("an output cannot be of the type {}", other.data_type()).into()),
    }
}

/// The string form of an output that is stored as `cell`: its JSON text, but for a string, which has no quotes.
pub(super) fn output_data(cell: ValueRef<'_>) -> Read<ArtifactData> {
    match cell {
        ValueRef::Text(json) if json.starts_with(b"\"") => {
            Ok(ArtifactData::from(serde_json::from_slice::<String>(json)?))
        }
        other => data(other),
    }
}

pub(super) fn data(cell: ValueRef<'_>) -> Read<ArtifactData> {
    match cell {
        ValueRef::Text(text) => Ok(ArtifactData::from(std::str::from_utf8(text)?)),
        ValueRef::Blob(bytes) => Ok(ArtifactData::from(bytes)),
        ValueRef::Null => Err("its data is gone: the output of its step is not stored".into()),
        other => Err(format!("data cannot be of the type {}", other.data_type()).into()),
    }
}

/// A cell as it is to be stored.
pub(super) struct Raw<'a>(pub(super) ValueRef<'a>);

impl ToSql for Raw<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0))
    }
}

/// The cell for the data of an artifact.
pub(super) fn data_cell(data: &ArtifactData) -> Raw<'_> {
    Raw(match data {
        ArtifactData::Text(text) => ValueRef::Text(text.as_bytes()),
        ArtifactData::Bytes(bytes) => ValueRef::Blob(bytes),
    })
}
