//! Runs a plan, or goes on with runs, and tells what happens until it is over.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use futures_core::Stream;
use lunacore::{
    Engine, EventStream, ExecutePlan, PlanError, PlanRecord, ProjectMemory, Recover, RegistryAllocator,
    RunHandle, RunId, RunRecord, RunState, Secrets, Shutdown, SqliteStore, SubscribeStream,
};
use serde_json::Value;

use super::outcome;
use super::signals::Signals;
use super::start::called;
use crate::callables::{self, Ledger};
use crate::exit::{Exit, Failure, with_causes};
use crate::progress::{Progress, TICK};
use crate::screen::{self, Screen, Style};

/// Events that may wait to be shown. They are looked at every [`TICK`]: fast plans make some hundred thousand meanwhile.
const EVENTS: usize = 262_144;

/// How long the end of the engine may take: what is left by then is stored as it is.
const END: Duration = Duration::from_secs(10);

/// How long events that are on their way are waited for once a run is over.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// Where runs are kept.
pub(crate) enum Place {
    InMemory,
    File { store: SqliteStore, path: PathBuf },
}

/// What is to be run.
pub(crate) enum What {
    /// A plan; `before` is its run, if that is known already.
    Execute { execute: Box<ExecutePlan>, record: PlanRecord, before: Option<Box<RunRecord>> },
    /// Runs that are stored, one after another.
    Continue(Vec<(RunRecord, PlanRecord)>),
}

pub(crate) struct Job {
    pub(crate) place: Place,
    pub(crate) what: What,
    pub(crate) secrets: Secrets,
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

/// The operating system gives not what running plans takes.
#[derive(Debug, thiserror::Error)]
#[error("plans cannot be run here")]
struct NoSystem(#[source] std::io::Error);

/// What stays the same from run to run.
struct Driver<'a> {
    engine: Engine,
    signals: Signals,
    ledger: Ledger,
    stored: bool,
    json: bool,
    quiet: bool,
    screen: &'a mut Screen,
    /// Told to stop: nothing more is begun.
    stopping: bool,
}

pub(crate) fn drive(job: Job, screen: &mut Screen) -> Result<Exit, Failure> {
    let Job { place, what, secrets, json, quiet } = job;
    let (memory, ledger, stored) = match place {
        Place::InMemory => (ProjectMemory::in_memory(), Ledger::in_memory(), false),
        Place::File { store, path } => (ProjectMemory::with_store(store), Ledger::beside(&path), true),
    };
    let system = |error| Failure::of(Exit::Store, &NoSystem(error));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
    runtime.block_on(async {
        let signals = Signals::watch().map_err(system)?;
        // On a thread of its own: drawing never holds up a step.
        let engine = Engine::builder()
            .memory(memory)
            .allocator(callables::register(RegistryAllocator::new(), &ledger))
            .secrets(secrets)
            .recover(Recover::None)
            .spawn()?;
        let mut driver = Driver { engine, signals, ledger, stored, json, quiet, screen, stopping: false };
        let done = driver.perform(what).await;
        if !matches!(done, Err(Failure::Told { exit: Exit::Killed, .. })) {
            driver.engine.shutdown(Shutdown::drain(END)).await;
        }
        done
    })
}

impl Driver<'_> {
    async fn perform(&mut self, what: What) -> Result<Exit, Failure> {
        match what {
            What::Execute { execute, record, before } => {
                let engine = self.engine.clone();
                let paused = before.as_ref().is_some_and(|before| before.state == RunState::Paused);
                self.follow(async move { engine.submit(*execute).await }, &record, before.as_deref(), paused)
                    .await
            }
            What::Continue(runs) => {
                let mut exit = Exit::Done;
                for (run, plan) in runs {
                    if self.stopping {
                        break;
                    }
                    let (engine, run_id) = (self.engine.clone(), run.run_id.clone());
                    let paused = run.state == RunState::Paused;
                    let begin = async move { engine.continue_run(&run_id).await };
                    let ended = self.follow(begin, &plan, Some(&run), paused).await?;
                    // The first that did not go well is told.
                    if exit == Exit::Done {
                        exit = ended;
                    }
                }
                Ok(exit)
            }
        }
    }

    /// Has a run begun, and follows it to its end.
    async fn follow(
        &mut self,
        begin: impl Future<Output = Result<RunHandle, PlanError>>,
        plan: &PlanRecord,
        before: Option<&RunRecord>,
        paused: bool,
    ) -> Result<Exit, Failure> {
        // One that is over has no more of them.
        let over = before.is_some_and(|before| before.state.is_final());
        let events = match self.quiet || over {
            true => None,
            false => {
                let subscribe = SubscribeStream::new("*").capacity(EVENTS);
                self.engine.subscribe_stream_with(subscribe).await.ok()
            }
        };
        let handle = match begin.await {
            Ok(handle) => handle,
            Err(error) => return self.refused(plan, before, error),
        };
        let run_id = handle.run_id().clone();
        if paused {
            // Whoever asks for it wants it to go on.
            self.engine.resume(&run_id).await?;
        }
        let mut progress = self.progress(&run_id, plan, before, events.is_some());
        let outcome = self.watch(handle, events, &mut progress).await?;
        if let Err(PlanError::Cancelled { .. }) = outcome.as_ref().map_err(PlanError::why)
            && let Err(error) = self.ledger.end_left_by(&run_id)
        {
            // Left by a process that was killed before, and not started by this one.
            screen::complain(&with_causes(&error));
        }
        if !over {
            progress.end(&outcome);
        }
        let exit = outcome::tell(&run_id, plan, &outcome, self.json, self.screen)?;
        self.complain(outcome.as_ref().err());
        Ok(exit)
    }

    /// One that was over before answers at once, and so does one that cannot be run.
    fn refused(
        &mut self,
        plan: &PlanRecord,
        before: Option<&RunRecord>,
        error: PlanError,
    ) -> Result<Exit, Failure> {
        let Some(before) = before.filter(|_| outcome::completed(&error).is_some()) else {
            let message = outcome::explained(&error, self.stored);
            return Err(Failure::Told { exit: Failure::exit_of(&error), message });
        };
        let outcome = Err(error);
        drop(self.progress(&before.run_id, plan, Some(before), false));
        let exit = outcome::tell(&before.run_id, plan, &outcome, self.json, self.screen)?;
        self.complain(outcome.as_ref().err());
        Ok(exit)
    }

    fn progress(
        &self,
        run_id: &RunId,
        plan: &PlanRecord,
        before: Option<&RunRecord>,
        shown: bool,
    ) -> Progress {
        let is_terminal = std::io::stderr().is_terminal();
        let title = called(plan.name());
        let text = match before {
            None => format!("run {run_id} of {title}"),
            Some(before) if before.state.is_final() => {
                format!("run {run_id} of {title} is {} already", before.state)
            }
            Some(before) => {
                let done = crate::inspect::counted(before.cursor, "step");
                format!("going on with run {run_id} of {title}: {done} of {} done", before.steps)
            }
        };
        if self.quiet {
            return Progress::silent();
        }
        Progress::new(plan, &text, shown && is_terminal, Style::of(is_terminal))
    }

    /// Waits for the end of a run, shows what happens meanwhile, and cancels it when told to.
    async fn watch(
        &mut self,
        mut handle: RunHandle,
        mut events: Option<EventStream>,
        progress: &mut Progress,
    ) -> Result<Result<Vec<Value>, PlanError>, Failure> {
        let run_id = handle.run_id().clone();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let outcome = loop {
            tokio::select! {
                outcome = &mut handle => break outcome,
                _ = ticks.tick(), if events.is_some() => {
                    take(&mut events, &run_id, progress);
                    progress.draw(SystemTime::now());
                }
                () = self.signals.next() => self.stop(&run_id, progress)?,
            }
        };
        if !ends_run(&outcome) {
            events = None;
        }
        let late = tokio::time::Instant::now() + LAST_EVENTS;
        while events.is_some() && !take(&mut events, &run_id, progress) && tokio::time::Instant::now() < late
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(outcome)
    }

    /// The first time the run is cancelled, which its step is told; the second time everything ends at once.
    fn stop(&mut self, run_id: &RunId, progress: &mut Progress) -> Result<(), Failure> {
        if self.stopping {
            progress.abandon();
            self.ledger.kill_all();
            let message = format!("ended at once; what is stored of run {run_id} is as it was");
            return Err(Failure::Told { exit: Exit::Killed, message });
        }
        self.stopping = true;
        progress.note("stopping; once more ends at once");
        let (engine, run_id) = (self.engine.clone(), run_id.clone());
        // Its outcome says what became of it.
        tokio::spawn(async move { drop(engine.cancel(&run_id).await) });
        Ok(())
    }

    fn complain(&self, error: Option<&PlanError>) {
        if let Some(error) = error {
            screen::complain(&outcome::explained(error, self.stored));
        }
    }
}

/// Whether an event tells of it: a run that was cut off has no last one.
fn ends_run(outcome: &Result<Vec<Value>, PlanError>) -> bool {
    outcome.as_ref().map_or_else(|error| outcome::completed(error).is_some(), |_| true)
}

/// Shows the events that are there, without waiting for more; answers whether the last of the run was among them.
///
/// Nobody is woken for an event: that would cost the plan more than its steps do.
fn take(events: &mut Option<EventStream>, run_id: &RunId, progress: &mut Progress) -> bool {
    let Some(stream) = events else { return true };
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(next) = Pin::new(&mut *stream).poll_next(&mut context) {
        let Some(event) = next else {
            *events = None;
            return true;
        };
        if event.run_id().is_none_or(|of| of == run_id) {
            progress.tell(&event);
        }
        if event.ends_run() && event.run_id() == Some(run_id) {
            return true;
        }
    }
    false
}
