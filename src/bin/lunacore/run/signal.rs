//! `lunacore signal`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use lunacore::limits::MAX_OUTPUT_BYTES;
use lunacore::{Engine, ProjectMemory, Recover, RunId, RunRecord, Shutdown, SignalOutcome, SqliteStore};
use serde_json::{Value, json};

use super::bounds;
use super::decide::value;
use super::drive::{Job, Kept, What, drive};
use crate::args::Signal;
use crate::exit::{Exit, Failure};
use crate::screen::{Screen, clean};
use crate::store;

pub(crate) fn signal(signal: &Signal, screen: &mut Screen) -> Result<Exit, Failure> {
    // Before the store is opened for running, which would make one that is missing.
    let looked = store::open(&signal.source.store)?;
    let before = store::find_run(&looked, &signal.run)?;
    let plan = store::plan_of(&looked, &before)?;
    drop(looked);
    if before.state.is_final() {
        return Err(too_late(&before.run_id, before.state.as_str()));
    }
    let sent = lunacore::Signal::new(before.run_id.clone(), signal.name.as_str()).payload(payload(signal)?);
    let guards = bounds::of([&plan], &signal.bounds.limits)?;
    let path = signal.source.store.clone();
    let store = SqliteStore::open(&path)?;
    if !signal.resume {
        return send(sent, store, &before, signal, screen);
    }
    let what = What::Signal { signal: Box::new(sent), before: Box::new(before), plan };
    let kept = Kept::File { store, path };
    let secrets = signal.secrets.secrets();
    drive(Job { kept, what, secrets, guards, json: signal.source.json, quiet: signal.quiet }, screen)
}

/// Has it stored, and nothing run.
fn send(
    sent: lunacore::Signal,
    store: SqliteStore,
    before: &RunRecord,
    signal: &Signal,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let outcome = actix::System::new().block_on(async {
        let memory = ProjectMemory::with_store(store);
        let engine = Engine::builder().memory(memory).recover(Recover::None).start()?;
        let outcome = engine.signal(sent).await;
        engine.shutdown(Shutdown::now()).await;
        Ok::<_, Failure>(outcome?)
    })?;
    let run_id = &before.run_id;
    received(run_id, outcome)?;
    if signal.source.json {
        screen.json(&json!({ "run_id": run_id, "state": before.state, "signal": signal.name }))?;
    } else {
        let name = clean(&signal.name);
        screen.line(format!(
            "run {run_id} has the signal {name}; `lunacore resume {run_id}` goes on with it"
        ))?;
    }
    Ok(Exit::Done)
}

pub(super) fn received(run_id: &RunId, outcome: SignalOutcome) -> Result<(), Failure> {
    match outcome {
        SignalOutcome::Finished(state) => Err(too_late(run_id, state.as_str())),
        _ => Ok(()),
    }
}

fn too_late(run_id: &RunId, state: &str) -> Failure {
    Failure::invalid(format!("run {run_id} is {state} already, and takes no signal"))
}

fn payload(signal: &Signal) -> Result<Value, Failure> {
    let Some(file) = &signal.file else {
        return Ok(signal.payload.as_deref().map_or(Value::Null, value));
    };
    let failed = |error: io::Error| Failure::invalid(format!("{} cannot be read: {error}", file.display()));
    let bytes = match file == Path::new("-") {
        true => bytes(io::stdin().lock()),
        false => File::open(file).and_then(bytes),
    };
    let text = String::from_utf8(bytes.map_err(failed)?)
        .map_err(|_| Failure::invalid(format!("{} is no text: it is not UTF-8", file.display())))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(value(line.strip_suffix('\r').unwrap_or(line)))
}

/// What a signal may bring can be written with spaces, as large as an output; what is larger still is refused as too large.
fn bytes(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_OUTPUT_BYTES as u64 + 3).read_to_end(&mut bytes)?;
    Ok(bytes)
}
