//! The row of a run: made when it is accepted, and changed only when something in it does, which no plain step does.

use std::time::SystemTime;

use rusqlite::{Connection, params};

use super::error::Fault;
use super::rows::{micros, number};
use crate::memory::commit::{NewRun, Reopen, RunUpdate, describe};
use crate::project::Project;
use crate::run::{Durability, HoldReason, RunId, RunRecord, RunState};

/// A run that is not in a final state.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) no: i64,
    pub(super) record: RunRecord,
}

/// The time of a commit, and the numbers that its events get.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) at: SystemTime,
    pub(super) micros: i64,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
}

/// The number of the run; `None`, and nothing is written, when its id is known.
pub(super) fn insert(
    connection: &Connection,
    record: &RunRecord,
    new: &NewRun,
    moment: Moment,
) -> Result<Option<i64>, Fault> {
    let sql = "INSERT INTO runs (run_id, tenant, project, name, steps, self_contained, durability, state, attempt, \
               failure, reason, accepted_at, started_at, finished_at, first_seq, last_seq, plan, deadline, \
               step_since, step_until) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20) \
               ON CONFLICT (run_id) DO NOTHING";
    let inserted = connection.prepare_cached(sql)?.execute(params![
        record.run_id.as_str(),
        record.project.tenant(),
        record.project.project(),
        record.name.as_deref(),
        number(record.steps),
        record.self_contained,
        new.durability.map(Durability::as_str),
        record.state.as_str(),
        record.attempt,
        failure(record)?,
        record.reason.as_deref(),
        micros(record.accepted_at),
        record.started_at.map(micros),
        record.finished_at.map(micros),
        number(moment.first_seq),
        record.state.is_final().then_some(number(moment.last_seq)),
        serde_json::to_string(&new.plan)?,
        record.deadline.map(micros),
        record.step.since.map(micros),
        record.step.until.map(micros),
    ])?;
    Ok((inserted > 0).then(|| connection.last_insert_rowid()))
}

pub(super) fn update(connection: &Connection, run: &Run, moment: Moment) -> Result<(), Fault> {
    let sql = "UPDATE runs SET state = ?2, attempt = ?3, failure = ?4, reason = ?5, started_at = ?6, \
               finished_at = ?7, last_seq = ?8, step_since = ?9, step_until = ?10, fallback = ?11, pausing = ?12, \
               verifying = ?13, undoing = ?14, held = ?15 WHERE no = ?1";
    let Run { no, record } = run;
    connection.prepare_cached(sql)?.execute(params![
        no,
        record.state.as_str(),
        record.attempt,
        failure(record)?,
        record.reason.as_deref(),
        record.started_at.map(micros),
        record.finished_at.map(micros),
        record.state.is_final().then_some(number(moment.last_seq)),
        record.step.since.map(micros),
        record.step.until.map(micros),
        record.step.fallback,
        record.pausing,
        record.step.verifying,
        record.undoing.as_deref().map(serde_json::to_string).transpose()?,
        record.step.held.map(HoldReason::as_str),
    ])?;
    Ok(())
}

/// The row of a run that enters its next generation, but for what its first commit sets.
pub(super) fn reopen(connection: &Connection, run: &mut Run, reopen: Reopen) -> Result<(), Fault> {
    let Reopen { generation, from, plan, set_inputs, deadline } = reopen;
    let record = &mut run.record;
    if generation != record.generation + 1 || from > record.cursor {
        let fault = format!(
            "it is in generation {} and has {} outputs, so it cannot enter generation {generation} with {from}",
            record.generation, record.cursor
        );
        return Err(Fault::OutOfOrder { run_id: record.run_id.to_string(), fault });
    }
    (record.generation, record.cursor, record.set_inputs, record.deadline) =
        (generation, from, set_inputs, deadline);
    // It is not over any more, whatever state it enters.
    (record.finished_at, record.state) = (None, RunState::Queued);
    let set_inputs = match record.set_inputs.is_empty() {
        true => None,
        false => Some(serde_json::to_string(&record.set_inputs)?),
    };
    let sql = "UPDATE runs SET generation = ?2, set_inputs = ?3, deadline = ?4 WHERE no = ?1";
    connection.prepare_cached(sql)?.execute(params![
        run.no,
        generation,
        set_inputs,
        record.deadline.map(micros)
    ])?;
    if let Some(plan) = plan {
        describe(record, &plan);
        let sql = "UPDATE runs SET name = ?2, steps = ?3, self_contained = ?4, plan = ?5 WHERE no = ?1";
        connection.prepare_cached(sql)?.execute(params![
            run.no,
            record.name.as_deref(),
            number(record.steps),
            record.self_contained,
            serde_json::to_string(&plan)?,
        ])?;
    }
    Ok(())
}

fn failure(record: &RunRecord) -> Result<Option<String>, Fault> {
    Ok(record.failure.as_deref().map(serde_json::to_string).transpose()?)
}

/// The record of a run as its first commit leaves it.
pub(super) fn accepted(
    run_id: RunId,
    project: Project,
    new: &NewRun,
    update: RunUpdate,
    step: Option<usize>,
    at: SystemTime,
) -> Result<RunRecord, Fault> {
    let mut record = RunRecord::new(run_id, project, new.plan.len(), at);
    describe(&mut record, &new.plan);
    (record.durability, record.deadline) = (new.durability, new.deadline);
    advance(&mut record, update, step, at)?;
    Ok(record)
}

/// Moves a record on, and tells whether anything in its row changes. The cursor does not: it is the number of steps that are
/// stored, so an update that says otherwise would make the store contradict itself.
pub(super) fn advance(
    record: &mut RunRecord,
    update: RunUpdate,
    step: Option<usize>,
    at: SystemTime,
) -> Result<bool, Fault> {
    let RunUpdate { state, cursor, attempt, step: progress, pausing, failure, reason, undoing } = update;
    let next = record.cursor + usize::from(step.is_some());
    let fault = if step.is_some_and(|step| step != record.cursor) {
        Some(format!("the next output is that of step {}", record.cursor))
    } else if cursor != next {
        Some(format!("its cursor is {next} then, not {cursor}"))
    } else if record.state.is_final() && !state.is_final() {
        Some(format!("it is {} and cannot be {state} again", record.state))
    } else {
        None
    };
    if let Some(fault) = fault {
        return Err(Fault::OutOfOrder { run_id: record.run_id.to_string(), fault });
    }
    let same = (record.state, record.attempt, record.step, record.pausing)
        == (state, attempt, progress, pausing)
        && record.failure == failure
        && record.reason == reason
        && record.undoing == undoing;
    (record.cursor, record.attempt, record.failure, record.reason) = (cursor, attempt, failure, reason);
    // As its row has it, which says nothing where all follows from the steps.
    (record.step, record.pausing, record.undoing) = (progress, pausing, undoing);
    record.enter(state, at);
    // A final row also says where its events end.
    Ok(!same || state.is_final())
}
