//! Rows on their way into the store. A statement has a price, whatever it stores: so the rows of many commits share one.

use std::ops::Range;

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
    insert: "INSERT OR FAIL INTO steps (run, step, attempt, at, key_no, version, artifact_id, output, generation) VALUES ",
    values: "(?,?,?,?,?,?,?,?,?)",
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
    pub(super) key_no: i64,
    pub(super) version: i64,
    pub(super) artifact_id: [u8; 16],
    pub(super) output: OutputCell,
    pub(super) generation: u32,
}

/// An output as it is stored. Its JSON is in the text of what is pending.
#[derive(Debug)]
pub(super) enum OutputCell {
    Json(Range<usize>),
    Bytes(Bytes),
}

/// Events of one commit. Their ids and their payload are in the text of what is pending.
#[derive(Debug)]
pub(super) struct EventRow {
    pub(super) seq: i64,
    pub(super) run: Option<i64>,
    pub(super) at: i64,
    pub(super) step: Option<i64>,
    pub(super) ids: Range<usize>,
    pub(super) payload: Range<usize>,
}

/// Rows that nothing reads before they are stored.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) steps: Vec<StepRow>,
    pub(super) events: Vec<EventRow>,
    /// Texts of rows, one behind the other: they need no memory of their own.
    pub(super) text: Vec<u8>,
}

impl Pending {
    /// Between two commits: stores them if they have become so many that they had better be, or if no other comes.
    pub(super) fn settle(&mut self, connection: &Connection, is_last: bool) -> Result<(), Fault> {
        let rows = self.events.len().max(self.steps.len());
        if is_last || rows >= SQLITE_PENDING_ROWS || self.text.len() >= SQLITE_PENDING_BYTES {
            self.store(connection)?;
        }
        Ok(())
    }

    /// Stores them all.
    pub(super) fn store(&mut self, connection: &Connection) -> Result<(), Fault> {
        let Self { steps, events, text } = self;
        insert(connection, &STEPS, steps, |row, cells| {
            cells.bind(row.run)?;
            cells.bind(row.step)?;
            cells.bind(row.attempt)?;
            cells.bind(row.at)?;
            cells.bind(row.key_no)?;
            cells.bind(row.version)?;
            cells.bind(row.artifact_id)?;
            cells.bind(Raw(match &row.output {
                OutputCell::Json(json) => ValueRef::Text(&text[json.clone()]),
                OutputCell::Bytes(bytes) => ValueRef::Blob(bytes),
            }))?;
            cells.bind(row.generation)
        })?;
        insert(connection, &EVENTS, events, |row, cells| {
            cells.bind(row.seq)?;
            cells.bind(row.run)?;
            cells.bind(row.at)?;
            cells.bind(row.step)?;
            cells.bind(Raw(ValueRef::Blob(&text[row.ids.clone()])))?;
            cells.bind(Raw(ValueRef::Text(&text[row.payload.clone()])))
        })?;
        steps.clear();
        events.clear();
        text.clear();
        text.shrink_to(SQLITE_PENDING_BYTES);
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
