//! The signals that are kept for runs.

use std::sync::Arc;

use rusqlite::{Connection, Row};

use super::error::Fault;
use super::rows::{Read, integer, number, text};
use crate::memory::signal::{KeptSignal, SignalUsage};
use crate::run::RunId;

pub(super) fn keep(connection: &Connection, run: i64, signal: &KeptSignal, at: i64) -> Result<(), Fault> {
    let sql = "INSERT INTO signals (run, no, at, name, payload) VALUES (?1, ?2, ?3, ?4, ?5)";
    let payload = serde_json::to_string(&signal.payload)?;
    connection.prepare_cached(sql)?.execute((run, number(signal.no), at, &*signal.name, payload))?;
    Ok(())
}

/// What those of a run take. SQLite knows how long a text is without reading it.
pub(super) fn usage(connection: &Connection, run_id: &RunId) -> Result<SignalUsage, Fault> {
    let sql = "SELECT count(*), ifnull(sum(octet_length(s.payload)), 0) FROM runs r JOIN signals s ON s.run = r.no \
               WHERE r.run_id = ?1";
    let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
    let (count, bytes) = connection.prepare_cached(sql)?.query_row([run_id.as_str()], read)?;
    let size = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
    Ok(SignalUsage::new(size(count), size(bytes)))
}

/// A step has taken it.
pub(super) fn take(connection: &Connection, run: i64, no: u64) -> Result<(), Fault> {
    connection
        .prepare_cached("DELETE FROM signals WHERE run = ?1 AND no = ?2")?
        .execute((run, number(no)))?;
    Ok(())
}

/// Those of a run, by its id.
pub(super) const KEPT: &str = "SELECT s.run, s.no, s.name, s.payload FROM runs r JOIN signals s ON s.run = r.no \
                               WHERE r.run_id = ?1 ORDER BY s.no";

/// A signal, from its run, its number, its name and its payload.
pub(super) fn signal(row: &Row<'_>) -> Read<KeptSignal> {
    let payload = Arc::new(serde_json::from_str(text(row, 3)?)?);
    Ok(KeptSignal::new(integer(row, 1)?, Arc::from(text(row, 2)?), payload))
}
