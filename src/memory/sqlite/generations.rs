//! What a new generation of a run withdraws. The table `steps` holds the outputs that count, and no others: so the cursor is
//! their number, as ever. What came of those that do not stays where else it can be read.

use rusqlite::{Connection, Row};
use uuid::Uuid;

use super::error::Fault;
use super::events::with_result;
use super::rows::{INSERT_ARTIFACT, Read, data_cell, number, output, text};
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

/// The artifact of a result, as its row in `steps` has it.
struct Kept {
    step: i64,
    key_no: i64,
    version: i64,
    id: Uuid,
    at: i64,
    output: Output,
    generation: u32,
    key: String,
}

impl Kept {
    fn read(row: &Row<'_>) -> Read<Self> {
        Ok(Self {
            step: row.get(0)?,
            key_no: row.get(1)?,
            version: row.get(2)?,
            id: Uuid::from_slice(row.get_ref(3)?.as_blob()?)?,
            at: row.get(4)?,
            output: output(row.get_ref(5)?)?,
            generation: row.get(6)?,
            key: text(row, 7)?.to_owned(),
        })
    }
}

/// The artifacts of results become artifacts like all others.
fn keep_artifacts(connection: &Connection, run: i64, from: usize) -> Result<(), Fault> {
    let sql = "SELECT s.step, s.key_no, s.version, s.artifact_id, s.at, s.output, s.generation, k.key FROM steps s \
               JOIN artifact_keys k ON k.no = s.key_no WHERE s.run = ?1 AND s.step >= ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query((run, number(from)))?;
    let mut insert = connection.prepare_cached(INSERT_ARTIFACT)?;
    while let Some(row) = rows.next()? {
        let step: i64 = row.get(0)?;
        let kept = Kept::read(row).map_err(|source| {
            let row = format!("{run} {step}");
            Fault::Row { table: "steps", row, source }
        })?;
        let Kept { step, key_no, version, id, at, output, generation, key } = kept;
        let step_id = key.strip_prefix(TASK_PREFIX).unwrap_or(&key);
        let meta = step_meta(usize::try_from(step).unwrap_or(0), step_id, generation);
        let (meta, data) = (serde_json::to_string(&meta)?, output.to_data());
        let row = (key_no, version, id.as_bytes(), TASK_RESULT, at, meta, run, step, data_cell(&data));
        insert.execute(row)?;
    }
    Ok(())
}
