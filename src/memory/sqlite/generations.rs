//! What a new generation of a run withdraws. The table `steps` holds the outputs that count, and no others: so the cursor is
//! their number, as ever. What came of those that do not stays where else it can be read.

use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::error::Fault;
use super::events::with_result;
use super::rows::{INSERT_ARTIFACT, Read, data_cell, integer, number, output, text};
use crate::artifact::{TASK_PREFIX, TASK_RESULT, step_meta, task_key};
use crate::plan::{Output, PlanRecord};

const WITHDRAW: &str = "DELETE FROM steps WHERE run = ?1 AND step >= ?2";

/// Withdraws the outputs of a run from a step on. All commits wait for it: so no statement looks at more than its own rows, but
/// for the events of others between the run's own.
pub(super) fn withdraw(connection: &Connection, run: i64, from: usize) -> Result<(), Fault> {
    keep_results(connection, run, from)?;
    keep_artifacts(connection, run, from)?;
    connection.prepare_cached(WITHDRAW)?.execute((run, number(from)))?;
    Ok(())
}

/// The rows of events that leave out the result of a step which goes. There is no index of events by run: they lie between its
/// first and its last.
const EVENTS: &str = "SELECT seq FROM events WHERE seq >= (SELECT first_seq FROM runs WHERE no = ?1) \
                      AND seq <= ifnull((SELECT last_seq FROM runs WHERE no = ?1), 9223372036854775807) \
                      AND run = ?1 AND step >= ?2";

const EVENT: &str = "SELECT e.payload, s.output FROM events e JOIN steps s ON s.run = e.run AND s.step = e.step WHERE e.seq = ?1";

const TELL: &str = "UPDATE events SET payload = ?2, step = NULL WHERE seq = ?1";

/// Events leave out a result that is stored with its step. Those of the steps that go tell it themselves from now on.
fn keep_results(connection: &Connection, run: i64, from: usize) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached(EVENTS)?;
    let found = statement.query_map((run, number(from)), |row| row.get(0))?;
    // Their numbers only, since all that the steps returned may be more than there is memory for.
    let found: Vec<i64> = found.collect::<Result<_, _>>()?;
    let mut event = connection.prepare_cached(EVENT)?;
    let mut tell = connection.prepare_cached(TELL)?;
    for seq in found {
        let mut rows = event.query([seq])?;
        let Some(row) = rows.next()? else { continue };
        let payload = text(row, 0).and_then(|payload| with_result(payload, row.get_ref(1)?));
        let unreadable = |source| Fault::Row { table: "events", row: seq.to_string(), source };
        let payload = payload.map_err(unreadable)?;
        drop(rows);
        tell.execute((seq, payload))?;
    }
    Ok(())
}

/// The artifact of a result, as its row in `steps` has it.
struct Kept {
    step: usize,
    key_no: i64,
    version: i64,
    id: Uuid,
    at: i64,
    output: Output,
    generation: u32,
}

impl Kept {
    fn read(row: &Row<'_>) -> Read<Self> {
        Ok(Self {
            step: integer(row, 1)?,
            key_no: row.get(2)?,
            version: row.get(3)?,
            id: Uuid::from_slice(row.get_ref(4)?.as_blob()?)?,
            at: row.get(5)?,
            output: output(row.get_ref(6)?)?,
            generation: row.get(7)?,
        })
    }
}

const RESULTS: &str = "SELECT run, step, key_no, version, artifact_id, at, output, generation FROM steps \
                       WHERE run = ?1 AND step >= ?2 AND key_no IS NOT NULL";

/// The artifacts of results become artifacts like all others.
fn keep_artifacts(connection: &Connection, run: i64, from: usize) -> Result<(), Fault> {
    let mut statement = connection.prepare_cached(RESULTS)?;
    let mut rows = statement.query((run, number(from)))?;
    let mut insert = connection.prepare_cached(INSERT_ARTIFACT)?;
    let mut ids = None;
    while let Some(row) = rows.next()? {
        let unreadable = |source| {
            let step = row.get(1).unwrap_or(0_i64);
            Fault::Row { table: "steps", row: format!("{run} {step}"), source }
        };
        let Kept { step, key_no, version, id, at, output, generation } =
            Kept::read(row).map_err(unreadable)?;
        let ids = match &mut ids {
            Some(ids) => ids,
            none => none.insert(StepIds::of(connection, run)?),
        };
        let Some(step_id) = ids.find(connection, step, key_no)? else { continue };
        let meta = step_meta(step, &step_id, generation);
        let (meta, data) = (serde_json::to_string(&meta)?, output.to_data());
        let step = number(step);
        let row = (key_no, version, id.as_bytes(), TASK_RESULT, at, meta, run, step, data_cell(&data));
        insert.execute(row)?;
    }
    Ok(())
}

/// The steps by their ids, which are in the keys of their results. There is no index of keys by their numbers: so they are looked
/// up by those that the run's plan makes one expect.
struct StepIds {
    tenant: String,
    project: String,
    plan: PlanRecord,
}

const PLAN: &str = "SELECT tenant, project, plan FROM runs WHERE no = ?1";

const EXPECTED: &str =
    "SELECT 1 FROM artifact_keys WHERE tenant = ?1 AND project = ?2 AND key = ?3 AND no = ?4";

const KEY: &str = "SELECT key FROM artifact_keys WHERE no = ?1";

impl StepIds {
    fn of(connection: &Connection, run: i64) -> Result<Self, Fault> {
        let read = |row: &Row<'_>| -> Read<Self> {
            let (tenant, project) = (text(row, 0)?.to_owned(), text(row, 1)?.to_owned());
            Ok(Self { tenant, project, plan: serde_json::from_str(text(row, 2)?)? })
        };
        let ids = connection.prepare_cached(PLAN)?.query_row([run], |row| Ok(read(row)))?;
        ids.map_err(|source| Fault::Row { table: "runs", row: run.to_string(), source })
    }

    /// The id of a step whose result has the key with this number; `None` where somebody has deleted the key by hand.
    fn find(&self, connection: &Connection, step: usize, key_no: i64) -> Result<Option<String>, Fault> {
        if let Some(step_id) = self.plan.step_ids().nth(step) {
            let expected = (&self.tenant, &self.project, task_key(step_id), key_no);
            if connection.prepare_cached(EXPECTED)?.exists(expected)? {
                return Ok(Some(step_id.to_owned()));
            }
        }
        // Whoever drives the store may have stored it with another id.
        let key = connection.prepare_cached(KEY)?.query_row([key_no], |row| row.get(0)).optional()?;
        Ok(key.map(|key: String| key.strip_prefix(TASK_PREFIX).unwrap_or(&key).to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;
    use crate::memory::sqlite::schema;
    use crate::plan::Step;

    /// A run of so many steps, and as many keys and events behind it of others.
    fn store(steps: usize, others: usize, is_over: bool) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        schema::upgrade(&mut connection).unwrap();
        let named: Vec<Step> = (0..steps).map(|step| Step::named(format!("s{step}"))).collect();
        let plan = serde_json::to_string(&PlanRecord::of(named).unwrap()).unwrap();
        let sql = "INSERT INTO runs (no, run_id, tenant, project, steps, self_contained, state, attempt, accepted_at, \
                   finished_at, first_seq, last_seq, plan) VALUES (1, 'r', 't', 'p', ?1, 1, 'x', 1, 0, ?2, 1, ?2, ?3)";
        let last = is_over.then_some(number(steps));
        connection.execute(sql, (number(steps), last, plan)).unwrap();
        let rows = |count: usize, sql: &str| {
            let sql = format!(
                "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n) {sql} FROM n LIMIT {count}"
            );
            connection.execute_batch(&sql).unwrap();
        };
        rows(others, "INSERT INTO artifact_keys SELECT 't', 'p', 'other ' || i, 1000000 + i, 0");
        rows(steps, "INSERT INTO artifact_keys SELECT 't', 'p', 'task:s' || i, i, 0");
        rows(steps, "INSERT INTO steps SELECT 1, i, 1, 0, i, 1, zeroblob(16), '{\"of\":' || i || '}', 1");
        rows(
            steps,
            "INSERT INTO events SELECT i + 1, 1, 0, i, zeroblob(16), \
             '[{\"type\":\"task.completed\",\"task_id\":\"s' || i || '\"}]'",
        );
        rows(others, &format!("INSERT INTO events SELECT i + 1 + {steps}, 2, 0, NULL, zeroblob(16), '[]'"));
        connection
    }

    /// How much SQLite has done.
    fn work(connection: &Connection) -> i64 {
        let of = |sql| i64::from(connection.prepare_cached(sql).unwrap().get_status(StatementStatus::VmStep));
        let all = [EVENTS, EVENT, TELL, RESULTS, PLAN, EXPECTED, KEY, INSERT_ARTIFACT, WITHDRAW];
        all.map(of).iter().sum()
    }

    fn withdrawn(steps: usize, others: usize, is_over: bool) -> i64 {
        let connection = store(steps, others, is_over);
        withdraw(&connection, 1, 1).unwrap();
        let count = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT count(*) FROM steps"), 1);
        assert_eq!(count("SELECT count(*) FROM events WHERE step IS NOT NULL"), 1);
        let kept = number(steps - 1);
        let told =
            "SELECT count(*) FROM events WHERE payload ->> '$[0].result.of' = seq - 1 AND step IS NULL";
        assert_eq!(count(told), kept);
        let stored = "SELECT count(*) FROM artifacts WHERE data ->> '$.of' = step AND meta ->> '$.step_id' = 's' || step";
        assert_eq!(count(stored), kept);
        work(&connection)
    }

    /// Commits of all runs wait for it.
    #[test]
    fn it_takes_no_longer_for_what_others_have_stored() {
        let alone = withdrawn(2_000, 0, true);
        let among = withdrawn(2_000, 30_000, true);
        assert!(among <= alone + 100, "{alone} steps of SQLite, and {among} among others");
        // Nobody knows where the events of one end that is not over.
        let open = withdrawn(2_000, 30_000, false);
        assert!(open <= alone + 30_000 * 10, "{alone} steps of SQLite, and {open} if it is open");
        let twice = withdrawn(4_000, 0, true);
        assert!(twice <= 2 * alone + 100, "{alone} steps of SQLite, and {twice} for twice as many");
    }

    #[test]
    fn a_result_under_another_id_keeps_it_and_one_without_a_key_is_left_out() {
        let connection = store(4, 2, true);
        let sql = "UPDATE steps SET key_no = 1000001 WHERE step = 2; DELETE FROM artifact_keys WHERE no = 3";
        connection.execute_batch(sql).unwrap();
        withdraw(&connection, 1, 0).unwrap();
        let mut statement =
            connection.prepare("SELECT meta ->> '$.step_id' FROM artifacts ORDER BY step").unwrap();
        let ids: Vec<String> =
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert_eq!(ids, ["s0", "s1", "other 1"]);
    }
}
