//! The tables, their versions, and whose file it is.

use rusqlite::{Connection, TransactionBehavior};

/// Marks a file as a store: the letters `Luna`.
const APPLICATION_ID: i64 = 0x4C75_6E61;

/// Each script brings a store from the version before to its own, the first an empty file to version 1. Scripts that were
/// released are never changed.
const MIGRATIONS: [&str; 3] = [include_str!("v1.sql"), include_str!("v2.sql"), include_str!("v3.sql")];

/// The latest version.
pub(super) const VERSION: i64 = 3;

// A script that is added makes a new version.
const _: () = assert!(MIGRATIONS.len() == VERSION as usize);

/// What a file turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// New, or made and never written to.
    Empty,
    /// A store that this version knows.
    Store,
    /// A store of a later version.
    Newer(i64),
    /// Some other application's database.
    Foreign,
}

pub(super) fn identify(connection: &Connection) -> rusqlite::Result<Identity> {
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version = version(connection)?;
    let objects: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (application, version) {
        (APPLICATION_ID, version) if version > VERSION => Identity::Newer(version),
        (APPLICATION_ID, version) if version > 0 => Identity::Store,
        (0, 0) if objects == 0 => Identity::Empty,
        _ => Identity::Foreign,
    })
}

/// Brings a store, or an empty file, to [`VERSION`], or changes nothing.
pub(super) fn upgrade(connection: &mut Connection) -> rusqlite::Result<()> {
    // A script may make a table anew, under another name until the old one is gone. What others have made that names the table
    // means the new one then, and is not looked at meanwhile.
    connection.pragma_update(None, "legacy_alter_table", true)?;
    let upgraded = run_scripts(connection);
    connection.pragma_update(None, "legacy_alter_table", false)?;
    upgraded
}

fn run_scripts(connection: &mut Connection) -> rusqlite::Result<()> {
    let upgrade = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version = version(&upgrade)?;
    if version < VERSION {
        let attached = attached(&upgrade)?;
        for script in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0)) {
            upgrade.execute_batch(script)?;
        }
        attach_again(&upgrade, attached)?;
        upgrade.pragma_update(None, "application_id", APPLICATION_ID)?;
        upgrade.pragma_update(None, "user_version", VERSION)?;
    }
    upgrade.commit()
}

/// The names of all indexes and triggers, and how each is made. They go with their table or view, and others may have made some.
fn attached(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let sql = "SELECT name, sql FROM sqlite_schema \
               WHERE type IN ('index', 'trigger') AND sql IS NOT NULL ORDER BY rowid";
    connection.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Makes those again that have gone. No script drops an index of the store's own for good: it would have to be left out here.
fn attach_again(connection: &Connection, attached: Vec<(String, String)>) -> rusqlite::Result<()> {
    let mut is_there = connection.prepare("SELECT 1 FROM sqlite_schema WHERE name = ?1")?;
    for (name, sql) in attached {
        if !is_there.exists([name])? {
            connection.execute_batch(&sql)?;
        }
    }
    Ok(())
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Shows a store of an earlier version to a connection that only reads as if it were of the latest; answers whether it is one.
pub(super) fn read_as_latest(connection: &Connection) -> rusqlite::Result<bool> {
    let is_first = is_first(connection)?;
    if is_first {
        connection.execute_batch(include_str!("v1_read.sql"))?;
    }
    Ok(is_first)
}

/// Whether a store is of the first version. Readers need nothing of what came with the third.
pub(super) fn is_first(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(version(connection)? == 1)
}

/// Takes back what [`read_as_latest`] has made, from a connection that may write nothing else.
pub(super) fn read_as_it_is(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA query_only = OFF; DROP VIEW temp.runs; DROP VIEW temp.unfinished_runs; DROP VIEW temp.steps; \
         DROP VIEW temp.signals; PRAGMA query_only = ON;",
    )
}

/// Changes nothing, but counts as a write: what is stored is synced when it ends.
pub(super) fn touch(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "user_version", VERSION)
}
