//! A connection to read through, and rows that cannot be read.

use std::cell::Cell;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Params, Row, Transaction};

use super::error::{Fault, Unreadable};
use super::rows::Read;
use super::schema;

/// A table, and how many columns its primary key has.
#[derive(Clone, Copy)]
pub(super) struct Table(pub(super) &'static str, pub(super) usize);

impl Table {
    pub(super) fn unreadable(self, row: &Row<'_>, source: Unreadable) -> Fault {
        let Self(table, columns) = self;
        let key: Vec<String> = (0..columns).map(|column| cell(row, column)).collect();
        Fault::Row { table, row: key.join(" "), source }
    }
}

fn cell(row: &Row<'_>, column: usize) -> String {
    match row.get_ref(column) {
        Ok(ValueRef::Integer(number)) => number.to_string(),
        Ok(ValueRef::Text(name)) => String::from_utf8_lossy(name).into_owned(),
        _ => "?".to_owned(),
    }
}

/// A connection to read through, and whether it sees a store of an earlier version as if it were of the latest. Each call reads
/// the store as it is at one moment.
#[derive(Debug)]
pub(super) struct View(pub(super) Connection, Cell<bool>);

impl View {
    /// Through the connection that writes, which has brought the store to the latest version.
    pub(super) fn of_writer(connection: Connection) -> Self {
        Self(connection, Cell::new(false))
    }

    /// Through one that only reads.
    pub(super) fn of_reader(connection: Connection) -> rusqlite::Result<Self> {
        let is_first = schema::read_as_latest(&connection)?;
        Ok(Self(connection, Cell::new(is_first)))
    }

    /// All rows of a query, which selects the primary key of `table` first: that is how a row is named that cannot be read.
    pub(super) fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        table: Table,
        mut read: impl FnMut(&Row<'_>) -> Read<T>,
    ) -> Result<Vec<T>, Fault> {
        let _moment = if self.1.get() { self.moment()? } else { None };
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            found.push(read(row).map_err(|source| table.unreadable(row, source))?);
        }
        Ok(found)
    }

    /// The one row that a query has at most.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        table: Table,
        read: impl FnMut(&Row<'_>) -> Read<T>,
    ) -> Result<Option<T>, Fault> {
        Ok(self.all(sql, params, table, read)?.pop())
    }

    /// What several statements read, all as it is at one moment: between two of them, something may be removed. In a batch
    /// this is so anyway.
    pub(super) fn at_one_moment<T, E: From<Fault>>(
        &self,
        read: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let _moment = self.moment()?;
        read()
    }

    /// A transaction, unless there is one: what is read in it is as it is now. The program that runs the store may have brought
    /// it to the latest version since the last one, and then it is read as it is from now on.
    fn moment(&self) -> Result<Option<Transaction<'_>>, Fault> {
        while self.0.is_autocommit() {
            let moment = self.0.unchecked_transaction()?;
            if !self.1.get() || schema::is_first(&self.0)? {
                return Ok(Some(moment));
            }
            // Not within it, since it is rolled back.
            drop(moment);
            schema::read_as_it_is(&self.0)?;
            self.1.set(false);
        }
        Ok(None)
    }
}
