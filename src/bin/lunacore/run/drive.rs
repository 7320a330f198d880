//! Opens an engine, and has runs begin or go on, one after another.

use std::path::PathBuf;
use std::time::Duration;

use lunacore::{
    Engine, EngineBuilder, ExecutePlan, PlanRecord, ProjectMemory, Recover, RegistryAllocator,
    ResolveOutcome, ResolveStep, RetryRun, RunHandle, RunRecord, RunState, Secrets, Shutdown, Signal,
    SkipStep, SqliteStore,
};

use super::bounds::Guards;
use super::follow::{Begins, Driver, Ended, Refused};
use super::rest::Place;
use super::signal;
use super::signals::Signals;
use crate::callables::{self, Ledger};
use crate::exit::{Exit, Failure};
use crate::screen::Screen;

/// How long the end of the engine may take: what is left by then is stored as it is.
const END: Duration = Duration::from_secs(10);

/// Where runs are kept.
pub(crate) enum Kept {
    InMemory,
    File { store: SqliteStore, path: PathBuf },
}

/// What is to be run.
pub(crate) enum What {
    /// A plan; `before` is its run, if that is known already.
    Execute { execute: Box<ExecutePlan>, record: PlanRecord, before: Option<Box<RunRecord>> },
    /// Runs that are stored, one after another.
    Continue(Vec<(RunRecord, PlanRecord)>),
    /// A run that is tried again.
    Retry { retry: Box<RetryRun>, before: Box<RunRecord>, plan: PlanRecord },
    /// A run that is sent a signal, and goes on.
    Signal { signal: Box<Signal>, before: Box<RunRecord>, plan: PlanRecord },
    /// A run that goes on once it is decided about its step.
    Decide { decision: Decision, before: Box<RunRecord>, plan: PlanRecord },
}

/// What is decided about a step.
pub(crate) enum Decision {
    Resolve(ResolveStep),
    Skip(SkipStep),
}

pub(crate) struct Job {
    pub(crate) kept: Kept,
    pub(crate) what: What,
    pub(crate) secrets: Secrets,
    pub(crate) guards: Guards,
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

/// The operating system gives not what running plans takes.
#[derive(Debug, thiserror::Error)]
#[error("plans cannot be run here")]
struct NoSystem(#[source] std::io::Error);

pub(crate) fn drive(job: Job, screen: &mut Screen) -> Result<Exit, Failure> {
    let Job { kept, what, secrets, guards, json, quiet } = job;
    let (memory, ledger, place) = match kept {
        Kept::InMemory => (ProjectMemory::in_memory(), Ledger::in_memory(), Place::Memory),
        Kept::File { store, path } => (ProjectMemory::with_store(store), Ledger::beside(&path), Place::File),
    };
    let system = |error| Failure::of(Exit::Store, &NoSystem(error));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
    runtime.block_on(async {
        let signals = Signals::watch().map_err(system)?;
        // On a thread of its own: drawing never holds up a step.
        let builder = Engine::builder()
            .memory(memory)
            .allocator(callables::register(RegistryAllocator::new(), &ledger))
            .secrets(secrets)
            .recover(Recover::None);
        let builder = guards.breakers.into_iter().fold(builder, EngineBuilder::breaker);
        let engine = guards.limits.into_iter().fold(builder, EngineBuilder::limit).spawn()?;
        let (stopping, at_once) = (false, false);
        let mut driver = Driver { engine, signals, ledger, place, json, quiet, screen, stopping, at_once };
        let done = driver.perform(what).await;
        if !matches!(done, Err(Failure::Told { exit: Exit::Killed, .. })) {
            let end = if driver.at_once { Shutdown::now() } else { Shutdown::drain(END) };
            driver.engine.shutdown(end).await;
        }
        done
    })
}

impl Driver<'_> {
    async fn perform(&mut self, what: What) -> Result<Exit, Failure> {
        let engine = self.engine.clone();
        match what {
            What::Execute { execute, record, before } => {
                let paused = before.as_ref().is_some_and(|before| before.state == RunState::Paused);
                let begins = Begins::known(before.as_deref());
                let begin = async move { Ok(engine.submit(*execute).await?) };
                Ok(self.follow(begin, &record, begins, paused).await?.exit())
            }
            What::Retry { retry, before, plan } => {
                let begin = async move { Ok(engine.retry_run(*retry).await?) };
                Ok(self.follow(begin, &plan, Begins::Again(&before), false).await?.exit())
            }
            What::Signal { signal, before, plan } => {
                let run_id = before.run_id.clone();
                let paused = before.state == RunState::Paused;
                let begin = async move {
                    signal::received(&run_id, engine.signal(*signal).await?)?;
                    Ok(engine.continue_run(&run_id).await?)
                };
                Ok(self.follow(begin, &plan, Begins::GoesOn(&before), paused).await?.exit())
            }
            What::Decide { decision, before, plan } => {
                let begin = decide(engine, decision, &before);
                Ok(self.follow(begin, &plan, Begins::GoesOn(&before), false).await?.exit())
            }
            What::Continue(runs) => self.go_on(runs).await,
        }
    }

    async fn go_on(&mut self, runs: Vec<(RunRecord, PlanRecord)>) -> Result<Exit, Failure> {
        let mut exits = Vec::with_capacity(runs.len());
        let mut left = Vec::new();
        for (run, plan) in runs {
            if self.stopping {
                break;
            }
            let (engine, run_id) = (self.engine.clone(), run.run_id.clone());
            let paused = run.state == RunState::Paused;
            let begin = async move { Ok(engine.continue_run(&run_id).await?) };
            let ended = self.follow(begin, &plan, Begins::known(Some(&run)), paused).await?;
            exits.push(ended.exit());
            if let Ended::Waits(handle) = ended {
                left.push((exits.len() - 1, run, plan, handle));
            }
        }
        // One may have come to its time while others were gone on with.
        for (place, run, plan, handle) in left {
            if !self.stopping && !self.still_waits(&run.run_id).await {
                let begin = async move { Ok(handle) };
                let ended = self.follow(begin, &plan, Begins::GoesOn(&run), false).await?;
                exits[place] = ended.exit();
            }
        }
        // The first that did not go well is told.
        Ok(exits.into_iter().find(|exit| *exit != Exit::Done).unwrap_or(Exit::Done))
    }
}

/// A run has to be here to be decided about; one that failed comes here by that.
async fn decide(engine: Engine, decision: Decision, before: &RunRecord) -> Result<RunHandle, Refused> {
    let run_id = before.run_id.clone();
    let held = before.state == RunState::Held;
    let handle = match held {
        true => Some(engine.continue_run(&run_id).await?),
        false => None,
    };
    let outcome = match decision {
        Decision::Resolve(resolve) => engine.resolve(resolve).await?,
        Decision::Skip(skip) => engine.skip(skip).await?,
    };
    if let ResolveOutcome::NotHeld(state) = outcome {
        return Err(Failure::invalid(format!("run {run_id} is not held; it is {state}")).into());
    }
    match handle {
        Some(handle) => Ok(handle),
        None => Ok(engine.continue_run(&run_id).await?),
    }
}
