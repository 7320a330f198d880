//! What a new generation of a run withdraws. The table `steps` holds the outputs that count, and no others: so the cursor is
//! their number, as ever. What came of those that do not stays where else it can be read.

use rusqlite::Connection;
use uuid::Uuid;

use super::error::Fault;
use super::events::with_result;
use super::rows::{Read, data_cell, number, output, text};
use crate::artifact::{TASK_PREFIX, TASK_RESULT, step_meta};
use crate::plan::Output;

/// Withdraws the outputs of a run from a step on.
pub(super) fn withdraw(connection: &Connection, run: i64, from: usize) -> Result<(), Fault> {
    keep_results(connection, run, from)?;
    keep_artifacts(connection, run, from)?;
    connection
        .prepare_cached("DELETE FROM steps WHERE run = ?1 AND step >= ?2")?
        .execute((run, number(from)))?;
    Ok(())
}

/// Events leave out a result that is stored with its step. Those of the steps that go tell it themselves from now on.
fn keep_results(connection: &Connection, run: i64, from: usize) -> Result<(), Fault> {
    let sql = "SELECT e.seq, e.payload, s.output FROM events e JOIN steps s ON s.run = e.run AND s.step = e.step \
               WHERE e.seq >= (SELECT first_seq FROM runs WHERE no = ?1) AND e.run = ?1 AND e.step >= ?2";
    let mut changed: Vec<(i64, String)> = Vec::new();
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query((run, number(from)))?;
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        let payload: Read<String> = text(row, 1).and_then(|payload| with_result(payload, row.get_ref(2)?));
        let unreadable = |source| Fault::Row { table: "events", row: seq.to_string(), source };
        changed.push((seq, payload.map_err(unreadable)?));
    }
    let mut update =
        connection.prepare_cached("UPDATE events SET payload = ?2, step = NULL WHERE seq = ?1")?;
    for (seq, payload) in changed {
        update.execute((seq, payload))?;
    }
    Ok(())
}

/// The artifacts of results become artifacts like all others.
fn keep_artifacts(connection: &Connection, run: i64, from: usize) -> Result<(), Fault> {
    let sql = "SELECT s.step, s.key_no, s.version, s.artifact_id, s.at, s.output, s.generation, k.key FROM steps s \
               JOIN artifact_keys k ON k.no = s.key_no WHERE s.run = ?1 AND s.step >= ?2";
    let mut insert = connection.prepare_cached(
        "INSERT INTO artifacts (key_no, version, id, type, created_at, meta, run, step, data) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    let mut found: Vec<(i64, i64, i64, Uuid, i64, Output, u32, String)> = Vec::new();
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query((run, number(from)))?;
    while let Some(row) = rows.next()? {
        let step: i64 = row.get(0)?;
        let read = || -> Read<_> {
            let id = Uuid::from_slice(row.get_ref(3)?.as_blob()?)?;
            let output = output(row.get_ref(5)?)?;
            Ok((
                step,
                row.get(1)?,
                row.get(2)?,
                id,
                row.get(4)?,
                output,
                row.get(6)?,
                text(row, 7)?.to_owned(),
            ))
        };
        found.push(read().map_err(|source| Fault::Row {
            table: "steps",
            row: format!("{run} {step}"),
            source,
        })?);
    }
    for (step, key_no, version, id, at, output, generation, key) in found {
        let step_id = key.strip_prefix(TASK_PREFIX).unwrap_or(&key);
        let meta = step_meta(usize::try_from(step).unwrap_or(0), step_id, generation);
        let (meta, data) = (serde_json::to_string(&meta)?, output.to_data());
        let row = (key_no, version, id.as_bytes(), TASK_RESULT, at, meta, run, step, data_cell(&data));
        insert.execute(row)?;
    }
    Ok(())
}
