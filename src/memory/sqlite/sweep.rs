//! Removing what is not kept any more, a few rows at a time.
//!
//! A run goes in the order in which runs finished, and when all its events have: so nothing that is left refers to it. What is
//! left of it are the rows of `steps` that are artifacts, which stay where they are.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::error::Fault;
use super::keys;
use super::rows::{micros, number};
use crate::memory::passes::Passes;
use crate::memory::retention::{Collected, Retention};

/// With fewer rows a call might not come any further.
const LEAST: usize = 4;

/// Which keys may have too many versions: all of them at first, and from then on those that were written to. It is remembered
/// for as long as the connection lives; who knows nothing looks at all keys once more. Nothing is noted before somebody asks.
#[derive(Debug, Default)]
pub(super) struct Sweep(Passes<i64>);

/// What the batch that is open may do.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) now: SystemTime,
    /// Events behind this one are not published yet.
    pub(super) published: u64,
    /// How many rows to look at.
    pub(super) limit: usize,
}

impl Sweep {
    /// A key has a version more.
    pub(super) fn note(&mut self, key_no: i64) {
        self.0.note(&key_no);
    }

    pub(super) fn collect(
        &mut self,
        connection: &Connection,
        retention: &Retention,
        bounds: Bounds,
    ) -> Result<Collected, Fault> {
        let mut left = bounds.limit.max(LEAST);
        remove_leftovers(connection, &mut left)?;
        // Half of it: new versions may come as fast as old ones go, and the others shall have their turn.
        let mut share = left.div_ceil(2);
        left -= share;
        let (versions, is_short) = match retention.keep_versions {
            Some(keep) => self.versions(connection, keep.max(1), &mut share)?,
            None => (0, false),
        };
        left += share;
        let until = finished_until(connection, retention, bounds.now, left)?;
        let old = retention.events_until(bounds.now).map(micros);
        let events = events(connection, (until, old), bounds.published, &mut left)?;
        let runs = match until {
            Some(until) => runs(connection, until, &mut left)?,
            None => 0,
        };
        Ok(Collected::new(runs, versions, events, is_short || left == 0))
    }

    /// Removes old versions of keys; answers how many, and whether there may be more.
    fn versions(
        &mut self,
        connection: &Connection,
        keep: u64,
        left: &mut usize,
    ) -> Result<(u64, bool), Fault> {
        let pass = self.0.of(keep);
        let (turn, mut removed) = (pass.keep(), 0);
        while *left > 0
            && let Some(key_no) = pass.next(|passed| next_key(connection, passed.copied().unwrap_or(0)))?
        {
            let (versions, is_done) = trim(connection, key_no, turn, left)?;
            removed += versions;
            if is_done {
                pass.looked_at(key_no);
            }
        }
        Ok((removed, *left == 0 || turn != keep))
    }
}

/// Runs one statement with so many rows left as its last parameter, and answers how many it changed.
fn some(connection: &Connection, sql: &str, params: impl Params, left: &mut usize) -> Result<u64, Fault> {
    let changed = connection.prepare_cached(sql)?.execute(params)?;
    *left = left.saturating_sub(changed);
    Ok(changed as u64)
}

fn one(connection: &Connection, sql: &str, params: impl Params) -> Result<Option<i64>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    Ok(statement.query_row(params, |row| row.get(0)).optional()?.flatten())
}

/// The next key that has a version: there is no index of keys by their numbers, but two of versions.
fn next_key(connection: &Connection, after: i64) -> Result<Option<i64>, Fault> {
    let sql = "SELECT min(no) FROM (SELECT (SELECT min(key_no) FROM steps WHERE key_no > ?1) AS no \
               UNION ALL SELECT (SELECT min(key_no) FROM artifacts WHERE key_no > ?1))";
    one(connection, sql, [after])
}

/// Removes all versions of a key but the last, and answers how many; and whether that were all. The largest number stays, from
/// which the next is counted.
fn trim(connection: &Connection, key_no: i64, keep: u64, left: &mut usize) -> Result<(u64, bool), Fault> {
    *left -= 1;
    let sql = "SELECT version FROM artifacts WHERE key_no = ?1 UNION ALL \
               SELECT version FROM steps WHERE key_no = ?1 ORDER BY 1 DESC LIMIT 1 OFFSET ?2";
    let Some(last) = one(connection, sql, (key_no, number(keep)))? else { return Ok((0, true)) };
    let sql = "DELETE FROM artifacts WHERE key_no = ?1 AND version IN \
               (SELECT version FROM artifacts WHERE key_no = ?1 AND version <= ?2 ORDER BY version LIMIT ?3)";
    let mut removed = some(connection, sql, (key_no, last, number(*left)), left)?;
    // What is left of deleted runs first, so that it is gone before its row would become one without a key.
    let rows = "SELECT rowid FROM steps WHERE key_no = ?1 AND version <= ?2 ORDER BY version LIMIT ?3";
    let sql = format!("DELETE FROM steps WHERE rowid IN ({rows}) AND {}", keys::WITHOUT_RUN);
    let before = *left;
    removed += some(connection, &sql, (key_no, last, number(before)), left)?;
    let sql = format!(
        "UPDATE steps SET key_no = NULL, version = NULL, artifact_id = NULL WHERE rowid IN ({rows}) AND NOT {}",
        keys::WITHOUT_RUN
    );
    removed += some(connection, &sql, (key_no, last, number(*left)), left)?;
    Ok((removed, *left > 0))
}

/// The last event of the last of the oldest finished runs that is not to be kept: it goes, and all that finished before it.
fn finished_until(
    connection: &Connection,
    retention: &Retention,
    now: SystemTime,
    left: usize,
) -> Result<Option<i64>, Fault> {
    let too_many = match retention.keep_runs {
        None => None,
        Some(keep) => {
            let sql = "SELECT last_seq FROM runs INDEXED BY runs_finished WHERE finished_at IS NOT NULL \
                       ORDER BY last_seq DESC LIMIT 1 OFFSET ?1";
            one(connection, sql, [number(keep)])?
        }
    };
    // A clock may have been set back between two of them; one that finished later says how late it was at least. The oldest of
    // them are enough, one more than can go: there may be one that stays.
    let too_old = match retention.runs_until(now) {
        None => None,
        Some(until) => {
            let sql = "SELECT max(last_seq) FROM (SELECT last_seq FROM runs INDEXED BY runs_finished_at \
                       WHERE finished_at < ?1 ORDER BY finished_at LIMIT ?2)";
            one(connection, sql, (micros(until), number(left).saturating_add(1)))?
        }
    };
    Ok(too_many.max(too_old))
}

/// Removes the first events: those up to a number, and those before a time. The row with the last event of all stays, since
/// numbers go on from there.
fn events(
    connection: &Connection,
    (until, old): (Option<i64>, Option<i64>),
    published: u64,
    left: &mut usize,
) -> Result<u64, Fault> {
    if until.is_none() && old.is_none() {
        return Ok(0);
    }
    let sql = "SELECT seq, length(ids) / 16, at FROM events WHERE seq < (SELECT max(seq) FROM events) \
               ORDER BY seq LIMIT ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([number(*left)])?;
    let (mut last, mut removed) = (None, 0);
    while let Some(row) = rows.next()? {
        let (seq, count, at): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let end = seq.saturating_add(count).saturating_sub(1);
        let goes = until.is_some_and(|until| end <= until) || old.is_some_and(|old| at < old);
        if !goes || end > number(published) {
            break;
        }
        (last, removed) = (Some(seq), removed + count.unsigned_abs());
    }
    let Some(last) = last else { return Ok(0) };
    some(connection, "DELETE FROM events WHERE seq <= ?1", [last], left)?;
    Ok(removed)
}

/// Removes the runs that finished until then and have no event any more. The one with the largest number stays: the next run would
/// get its number, and what is left of it.
fn runs(connection: &Connection, until: i64, left: &mut usize) -> Result<u64, Fault> {
    let sql = "SELECT no FROM runs INDEXED BY runs_finished WHERE finished_at IS NOT NULL AND last_seq <= ?1 \
               AND last_seq < ifnull((SELECT min(seq) FROM events), 9223372036854775807) AND no < (SELECT max(no) FROM runs) \
               ORDER BY last_seq LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let due = statement.query_map((until, number(*left)), |row| row.get(0))?;
    let due: Vec<i64> = due.collect::<Result<_, _>>()?;
    let mut removed = 0;
    for run in due {
        if *left == 0 {
            break;
        }
        removed += some(connection, "DELETE FROM runs WHERE no = ?1", [run], left)?;
        // There are few of them at most.
        some(connection, "DELETE FROM signals WHERE run = ?1", [run], left)?;
        if let Some(step) = remove_outputs(connection, (run, 0), left)? {
            let sql = "INSERT INTO leftovers (run, step) VALUES (?1, ?2)";
            connection.prepare_cached(sql)?.execute((run, step))?;
        }
    }
    Ok(removed)
}

/// Removes what a deleted run has stored from a step on and is no artifact; answers from which step on there may be more. Those
/// that stay are looked at as well.
fn remove_outputs(
    connection: &Connection,
    (run, from): (i64, i64),
    left: &mut usize,
) -> Result<Option<i64>, Fault> {
    let sql = "SELECT count(*), max(step) FROM \
               (SELECT step FROM steps WHERE run = ?1 AND step >= ?2 ORDER BY step LIMIT ?3)";
    let params = (run, from, number(*left));
    let (seen, last): (i64, Option<i64>) =
        connection.prepare_cached(sql)?.query_row(params, |row| Ok((row.get(0)?, row.get(1)?)))?;
    if let Some(last) = last {
        let sql = "DELETE FROM steps WHERE run = ?1 AND step BETWEEN ?2 AND ?3 AND key_no IS NULL";
        connection.prepare_cached(sql)?.execute((run, from, last))?;
    }
    *left = left.saturating_sub(usize::try_from(seen).unwrap_or(usize::MAX));
    Ok((*left == 0).then(|| last.map_or(from, |last| last.saturating_add(1))))
}

fn remove_leftovers(connection: &Connection, left: &mut usize) -> Result<(), Fault> {
    let next = "SELECT run, step FROM leftovers ORDER BY run LIMIT 1";
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    while *left > 0
        && let Some((run, from)) = connection.prepare_cached(next)?.query_row([], read).optional()?
    {
        if let Some(step) = remove_outputs(connection, (run, from), left)? {
            let sql = "UPDATE leftovers SET step = ?2 WHERE run = ?1";
            connection.prepare_cached(sql)?.execute((run, step))?;
        } else {
            connection.prepare_cached("DELETE FROM leftovers WHERE run = ?1")?.execute([run])?;
            *left = left.saturating_sub(1);
        }
    }
    Ok(())
}
