//! `lunacore cancel`: the store is opened for running, and nothing is run.

use lunacore::{CancelOutcome, Engine, ProjectMemory, Recover, SqliteStore};
use serde_json::json;

use crate::args::Cancel;
use crate::callables::Ledger;
use crate::exit::{Exit, Failure, with_causes};
use crate::screen::Screen;
use crate::store;

pub(crate) fn cancel(cancel: &Cancel, screen: &mut Screen) -> Result<Exit, Failure> {
    // Before the store is opened for running, which would make one that is missing.
    let record = store::find_run(&store::open(&cancel.source.store)?, &cancel.run)?;
    let run_id = record.run_id;
    let outcome = if record.state.is_final() {
        CancelOutcome::Finished(record.state)
    } else {
        let store = SqliteStore::open(&cancel.source.store)?;
        let outcome = actix::System::new().block_on(async {
            let memory = ProjectMemory::with_store(store);
            let engine = Engine::builder().memory(memory).recover(Recover::None).start()?;
            let outcome = engine.cancel(&run_id).await;
            engine.shutdown(lunacore::Shutdown::now()).await;
            Ok::<_, Failure>(outcome?)
        })?;
        // It will not go on, so nothing else would end what a killed process left running.
        Ledger::beside(&cancel.source.store).end_left_by(&run_id).map_err(|error| {
            let error = with_causes(&error);
            let message = format!("run {run_id} is cancelled, but not all that it left running: {error}");
            Failure::Told { exit: Exit::Interrupted, message }
        })?;
        outcome
    };
    let (state, cancelled) = match outcome {
        CancelOutcome::Finished(state) => (state, false),
        CancelOutcome::Compensating | CancelOutcome::ToCompensate => (lunacore::RunState::Compensating, true),
        _ => (lunacore::RunState::Cancelled, true),
    };
    if cancel.source.json {
        screen.json(&json!({ "run_id": run_id, "state": state, "cancelled": cancelled }))?;
    } else if state == lunacore::RunState::Compensating {
        screen.line(format!("run {run_id} is cancelled; `lunacore resume {run_id}` undoes what it did"))?;
    } else if cancelled {
        screen.line(format!("run {run_id} is cancelled"))?;
    } else {
        screen.line(format!("run {run_id} was {state} already"))?;
    }
    Ok(Exit::Done)
}
