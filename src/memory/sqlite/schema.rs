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
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
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
    let upgrade = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = upgrade.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version < VERSION {
        for script in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0)) {
            upgrade.execute_batch(script)?;
        }
        upgrade.pragma_update(None, "application_id", APPLICATION_ID)?;
        upgrade.pragma_update(None, "user_version", VERSION)?;
    }
    upgrade.commit()
}

/// Shows a store of an earlier version to a connection that only reads as if it were of the latest.
pub(super) fn read_as_latest(connection: &Connection) -> rusqlite::Result<()> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 1 { connection.execute_batch(include_str!("v1_read.sql")) } else { Ok(()) }
}

/// Changes nothing, but counts as a write: what is stored is synced when it ends.
pub(super) fn touch(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "user_version", VERSION)
}
