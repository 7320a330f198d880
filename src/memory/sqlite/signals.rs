//! The signals that are kept for runs.

use std::sync::Arc;

use rusqlite::{Connection, Row};

use super::error::Fault;
use super::rows::{Read, integer, number, text};
use crate::memory::signal::KeptSignal;

pub(super) fn keep(connection: &Connection, run: i64, signal: &KeptSignal, at: i64) -> Result<(), Fault> {
    let sql = "INSERT INTO signals (run, no, at, name, payload) VALUES (?1, ?2, ?3, ?4, ?5)";
    let payload = serde_json::to_string(&signal.payload)?;
    connection.prepare_cached(sql)?.execute((run, number(signal.no), at, &*signal.name, payload))?;
    Ok(())
}

/// A step has taken it.
pub(super) fn take(connection: &Connection, run: i64, no: u64) -> Result<(), Fault> {
    connection
        .prepare_cached("DELETE FROM signals WHERE run = ?1 AND no = ?2")?
        .execute((run, number(no)))?;
    Ok(())
}

/// A signal, from its run, its number, its name and its payload.
pub(super) fn signal(row: &Row<'_>) -> Read<KeptSignal> {
    let payload = Arc::new(serde_json::from_str(text(row, 3)?)?);
    Ok(KeptSignal::new(integer(row, 1)?, Arc::from(text(row, 2)?), payload))
}
