//! The versions of keys: which number comes next, and what a deletion leaves.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension};

use super::error::Fault;
use super::rows::number;
use crate::limits::SQLITE_REMEMBERED;
use crate::project::Project;

macro_rules! without_run {
    () => {
        "NOT EXISTS (SELECT 1 FROM runs WHERE no = steps.run)"
    };
}

/// What is left of a deleted run is nothing but an artifact.
macro_rules! delete_results {
    ($where:literal) => {
        concat!("DELETE FROM steps WHERE ", $where, " AND ", without_run!())
    };
}

/// The results of steps have their artifacts in their own rows: these go, and the outputs stay.
macro_rules! forget_results {
    () => {
        "UPDATE steps SET key_no = NULL, version = NULL, artifact_id = NULL WHERE "
    };
}

/// Of a row of `steps`: it is what is left of a deleted run.
pub(super) const WITHOUT_RUN: &str = without_run!();

/// The largest version that a key has, or 0.
macro_rules! largest {
    ($key:literal) => {
        concat!(
            "max(ifnull((SELECT version FROM artifacts WHERE key_no = ",
            $key,
            " ORDER BY version DESC LIMIT 1), 0), ifnull((SELECT version FROM steps WHERE key_no = ",
            $key,
            " ORDER BY version DESC LIMIT 1), 0))"
        )
    };
}

/// A key's number, and the largest version it has had.
#[derive(Debug, Clone, Copy)]
struct Last {
    no: i64,
    version: i64,
}

/// Remembers the last versions of keys, so that most writes need not look them up.
#[derive(Debug, Default)]
pub(super) struct Keys {
    projects: HashMap<Project, HashMap<String, Last>>,
    remembered: usize,
    /// The number of the key that was made last.
    last_no: i64,
}

impl Keys {
    pub(super) fn open(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT ifnull(max(no), 0) FROM artifact_keys";
        let last_no = connection.query_row(sql, [], |row| row.get(0))?;
        Ok(Self { last_no, ..Self::default() })
    }

    /// The key's number and its next version, if its last one is remembered.
    pub(super) fn known(&mut self, project: &Project, key: &str) -> Result<Option<(i64, i64)>, Fault> {
        let Some(last) = self.projects.get_mut(project).and_then(|keys| keys.get_mut(key)) else {
            return Ok(None);
        };
        last.version = after(last.version)?;
        Ok(Some((last.no, last.version)))
    }

    /// The same for a key that is not remembered. One that is not there is made.
    pub(super) fn look_up(
        &mut self,
        connection: &Connection,
        project: &Project,
        key: &str,
    ) -> Result<(i64, i64), Fault> {
        let last = match find(connection, project, key)? {
            Some(last) => Last { version: after(last.version)?, ..last },
            None => {
                let sql =
                    "INSERT INTO artifact_keys (tenant, project, key, no, floor) VALUES (?1, ?2, ?3, ?4, 0)";
                self.last_no = after(self.last_no)?;
                let row = (project.tenant(), project.project(), key, self.last_no);
                connection.prepare_cached(sql)?.execute(row)?;
                Last { no: self.last_no, version: 1 }
            }
        };
        self.remember(project, key, last);
        Ok((last.no, last.version))
    }

    /// Deletes a version of a key, or all; answers whether there was something to delete.
    pub(super) fn delete(
        &mut self,
        connection: &Connection,
        project: &Project,
        key: &str,
        version: Option<u64>,
    ) -> Result<bool, Fault> {
        let Some(last) = find(connection, project, key)? else { return Ok(false) };
        let left: Option<i64> = match version {
            None => {
                connection.prepare_cached("DELETE FROM artifacts WHERE key_no = ?1")?.execute([last.no])?;
                connection.prepare_cached(delete_results!("key_no = ?1"))?.execute([last.no])?;
                connection.prepare_cached(concat!(forget_results!(), "key_no = ?1"))?.execute([last.no])?;
                None
            }
            Some(version) => {
                let which = (last.no, number(version));
                let sql = "DELETE FROM artifacts WHERE key_no = ?1 AND version = ?2";
                let mut deleted = connection.prepare_cached(sql)?.execute(which)?;
                if deleted == 0 {
                    let sql = delete_results!("key_no = ?1 AND version = ?2");
                    deleted = connection.prepare_cached(sql)?.execute(which)?;
                }
                if deleted == 0 {
                    let sql = concat!(forget_results!(), "key_no = ?1 AND version = ?2");
                    deleted = connection.prepare_cached(sql)?.execute(which)?;
                }
                if deleted == 0 {
                    return Ok(false);
                }
                let sql = concat!("SELECT nullif(", largest!("?1"), ", 0)");
                connection.prepare_cached(sql)?.query_row([last.no], |row| row.get(0))?
            }
        };
        match left {
            None => {
                let sql = "DELETE FROM artifact_keys WHERE tenant = ?1 AND project = ?2 AND key = ?3";
                connection.prepare_cached(sql)?.execute((project.tenant(), project.project(), key))?;
                self.forget(project, key);
            }
            // The number of a deleted version is not used again while the key lives.
            Some(left) if left < last.version => {
                let sql =
                    "UPDATE artifact_keys SET floor = ?4 WHERE tenant = ?1 AND project = ?2 AND key = ?3";
                let row = (project.tenant(), project.project(), key, last.version);
                connection.prepare_cached(sql)?.execute(row)?;
            }
            Some(_) => {}
        }
        Ok(true)
    }

    fn remember(&mut self, project: &Project, key: &str, last: Last) {
        if self.remembered >= SQLITE_REMEMBERED {
            *self = Self { last_no: self.last_no, ..Self::default() };
        }
        self.remembered += 1;
        self.projects.entry(project.clone()).or_default().insert(key.to_owned(), last);
    }

    fn forget(&mut self, project: &Project, key: &str) {
        if self.projects.get_mut(project).and_then(|keys| keys.remove(key)).is_some() {
            self.remembered -= 1;
        }
    }
}

fn find(connection: &Connection, project: &Project, key: &str) -> Result<Option<Last>, Fault> {
    let sql = concat!(
        "SELECT no, max(floor, ",
        largest!("k.no"),
        ") FROM artifact_keys k WHERE tenant = ?1 AND project = ?2 AND key = ?3"
    );
    let read = |row: &rusqlite::Row<'_>| Ok(Last { no: row.get(0)?, version: row.get(1)? });
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row((project.tenant(), project.project(), key), read).optional()?)
}

fn after(version: i64) -> Result<i64, Fault> {
    version.checked_add(1).ok_or(Fault::Exhausted("versions of a key"))
}
