//! Rows on their way into the store. A statement has a price, whatever it stores: so the rows of many commits share one.

use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Statement, ToSql};

use super::error::Fault;
use super::rows::Raw;
use crate::limits::{SQLITE_PENDING_BYTES, SQLITE_PENDING_ROWS};

/// Rows that one statement stores where there are as many; the others go one by one.
const TOGETHER: usize = 16;

/// What the rows take together is stored, or nothing is: the connection is dropped after a failure. So `OR FAIL`, with which
/// SQLite need not be able to take back a part of a statement.
const STEPS: Table = Table {
    insert: "INSERT OR FAIL INTO steps (run, step, attempt, at, key_no, version, artifact_id, output) VALUES ",
    values: "(?,?,?,?,?,?,?,?)",
};

const EVENTS: Table = Table {
    insert: "INSERT OR FAIL INTO events (seq, run, at, step, ids, payload) VALUES ",
    values: "(?,?,?,?,?,?)",
};

/// A table, and what a row of it takes.
struct Table {
    insert: &'static str,
    values: &'static str,
}

/// A step that completed.
#[derive(Debug)]
pub(super) struct StepRow {
    pub(super) run: i64,
    pub(super) step: i64,
    pub(super) attempt: u32,
    pub(super) at: i64,
    pub(super) artifact: Option<ResultArtifact>,
    pub(super) output: OutputCell,
}

/// The artifact of its result: the number of the key, the version, and its id.
#[derive(Debug)]
pub(super) struct ResultArtifact {
    pub(super) key_no: i64,
    pub(super) version: i64,
    pub(super) id: [u8; 16],
}

/// An output as it is stored.
#[derive(Debug)]
pub(super) enum OutputCell {
    Json(String),
    Bytes(Bytes),
}

/// Events of one commit.
#[derive(Debug)]
pub(super) struct EventRow {
    pub(super) seq: i64,
    pub(super) run: i64,
    pub(super) at: i64,
    pub(super) step: Option<i64>,
    pub(super) ids: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

/// Rows that nothing reads before they are stored.
#[derive(Debug, Default)]
pub(super) struct Pending {
    steps: Vec<StepRow>,
    events: Vec<EventRow>,
    bytes: usize,
}

impl Pending {
    pub(super) fn step(&mut self, row: StepRow) {
        self.bytes += match &row.output {
            OutputCell::Json(json) => json.len(),
            OutputCell::Bytes(bytes) => bytes.len(),
        };
        self.steps.push(row);
    }

    pub(super) fn events(&mut self, row: EventRow) {
        self.bytes += row.payload.len();
        self.events.push(row);
    }

    /// Whether they have become so many that they had better be stored.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= SQLITE_PENDING_BYTES || self.events.len().max(self.steps.len()) >= SQLITE_PENDING_ROWS
    }

    /// Stores them all.
    pub(super) fn store(&mut self, connection: &Connection) -> Result<(), Fault> {
        insert(connection, &STEPS, &self.steps, |row, cells| {
            cells.bind(row.run)?;
            cells.bind(row.step)?;
            cells.bind(row.attempt)?;
            cells.bind(row.at)?;
            cells.bind(row.artifact.as_ref().map(|artifact| artifact.key_no))?;
            cells.bind(row.artifact.as_ref().map(|artifact| artifact.version))?;
            cells.bind(row.artifact.as_ref().map(|artifact| artifact.id))?;
            cells.bind(Raw(match &row.output {
                OutputCell::Json(json) => ValueRef::Text(json.as_bytes()),
                OutputCell::Bytes(bytes) => ValueRef::Blob(bytes),
            }))
        })?;
        insert(connection, &EVENTS, &self.events, |row, cells| {
            cells.bind(row.seq)?;
            cells.bind(row.run)?;
            cells.bind(row.at)?;
            cells.bind(row.step)?;
            cells.bind(Raw(ValueRef::Blob(&row.ids)))?;
            cells.bind(Raw(ValueRef::Text(&row.payload)))
        })?;
        self.steps.clear();
        self.events.clear();
        self.bytes = 0;
        Ok(())
    }
}

fn insert<R>(
    connection: &Connection,
    table: &Table,
    rows: &[R],
    bind: impl Fn(&R, &mut Cells<'_, '_>) -> rusqlite::Result<()>,
) -> Result<(), Fault> {
    let (many, few) = rows.split_at(rows.len() - rows.len() % TOGETHER);
    for (rows, together) in [(many, TOGETHER), (few, 1)] {
        if rows.is_empty() {
            continue;
        }
        let mut sql = String::from(table.insert);
        for row in 0..together {
            sql.push_str(if row == 0 { "" } else { "," });
            sql.push_str(table.values);
        }
        let mut statement = connection.prepare_cached(&sql)?;
        for rows in rows.chunks(together) {
            let mut cells = Cells { statement: &mut statement, bound: 0 };
            rows.iter().try_for_each(|row| bind(row, &mut cells))?;
            statement.raw_execute()?;
        }
    }
    Ok(())
}

/// The cells of the rows that a statement stores, one after another.
struct Cells<'a, 'c> {
    statement: &'a mut Statement<'c>,
    bound: usize,
}

impl Cells<'_, '_> {
    fn bind(&mut self, value: impl ToSql) -> rusqlite::Result<()> {
        self.bound += 1;
        self.statement.raw_bind_parameter(self.bound, value)
    }
}
