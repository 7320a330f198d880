//! Follows a run from where it begins to its end, or to where it waits for what nobody here can give.

use std::io::IsTerminal;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use futures_core::Stream;
use lunacore::{
    ControlError, Engine, EventStream, PlanError, PlanRecord, RunHandle, RunId, RunInfo, RunRecord, RunState,
    SubscribeStream,
};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::outcome;
use super::rest::{self, Place, Rest};
use super::signals::Signals;
use super::start::called;
use crate::callables::Ledger;
use crate::exit::{Exit, Failure, with_causes};
use crate::inspect::counted;
use crate::progress::{Progress, TICK};
use crate::screen::{self, Screen, Style};

/// Events that may wait to be shown. They are looked at every [`TICK`]: fast plans make some hundred thousand meanwhile.
const EVENTS: usize = 262_144;

/// How long events that are on their way are waited for once a run is over.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// What stays the same from run to run.
pub(super) struct Driver<'a> {
    pub(super) engine: Engine,
    pub(super) signals: Signals,
    pub(super) ledger: Ledger,
    pub(super) place: Place,
    pub(super) json: bool,
    pub(super) quiet: bool,
    pub(super) screen: &'a mut Screen,
    /// Told to stop: nothing more is begun.
    pub(super) stopping: bool,
    /// What sleeps is not waited for.
    pub(super) at_once: bool,
}

/// Where a run begins.
#[derive(Clone, Copy)]
pub(super) enum Begins<'a> {
    New,
    GoesOn(&'a RunRecord),
    /// It is over, and is told of again.
    Over(&'a RunRecord),
    /// It is tried again, whatever it was.
    Again(&'a RunRecord),
}

impl<'a> Begins<'a> {
    pub(super) fn known(before: Option<&'a RunRecord>) -> Self {
        match before {
            None => Self::New,
            Some(before) if before.state.is_final() => Self::Over(before),
            Some(before) => Self::GoesOn(before),
        }
    }

    fn before(self) -> Option<&'a RunRecord> {
        match self {
            Self::New => None,
            Self::GoesOn(before) | Self::Over(before) | Self::Again(before) => Some(before),
        }
    }
}

/// Why a run did not begin.
pub(super) enum Refused {
    Plan(PlanError),
    Other(Failure),
}

impl From<PlanError> for Refused {
    fn from(error: PlanError) -> Self {
        Self::Plan(error)
    }
}

impl From<ControlError> for Refused {
    fn from(error: ControlError) -> Self {
        Self::Other(error.into())
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

/// What became of a run.
pub(super) enum Ended {
    Over(Exit),
    /// It is as it is stored, and is not followed any more.
    Waits(RunHandle),
}

impl Ended {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Over(exit) => *exit,
            Self::Waits(_) => Exit::Waits,
        }
    }
}

/// Why a run is not watched any more.
enum Watched {
    Over(Result<Vec<Value>, PlanError>),
    Waits(RunHandle, Rest),
}

type Looking = JoinHandle<Result<RunInfo, ControlError>>;

impl Driver<'_> {
    /// Has a run begun, and follows it to its end.
    pub(super) async fn follow(
        &mut self,
        begin: impl Future<Output = Result<RunHandle, Refused>>,
        plan: &PlanRecord,
        begins: Begins<'_>,
        paused: bool,
    ) -> Result<Ended, Failure> {
        // One that is over has no more of them.
        let over = matches!(begins, Begins::Over(_));
        let events = match self.quiet || over {
            true => None,
            false => {
                let subscribe = SubscribeStream::new("*").capacity(EVENTS);
                self.engine.subscribe_stream_with(subscribe).await.ok()
            }
        };
        let handle = match begin.await {
            Ok(handle) => handle,
            Err(Refused::Plan(error)) => return self.refused(plan, begins, error).map(Ended::Over),
            Err(Refused::Other(failure)) => return Err(failure),
        };
        let run_id = handle.run_id().clone();
        if paused {
            // Whoever asks for it wants it to go on.
            self.engine.resume(&run_id).await?;
        }
        let mut progress = self.progress(&run_id, plan, begins, events.is_some());
        let outcome = match self.watch(handle, events, plan, &mut progress).await? {
            Watched::Over(outcome) => outcome,
            Watched::Waits(handle, rest) => {
                self.left(plan, &rest, &mut progress).await?;
                return Ok(Ended::Waits(handle));
            }
        };
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
        Ok(Ended::Over(exit))
    }

    /// One that was over before answers at once, and so does one that cannot be run.
    fn refused(&mut self, plan: &PlanRecord, begins: Begins<'_>, error: PlanError) -> Result<Exit, Failure> {
        let Some(before) = begins.before().filter(|_| outcome::completed(&error).is_some()) else {
            let message = outcome::explained(&error, self.place.is_stored());
            return Err(Failure::Told { exit: Failure::exit_of(&error), message });
        };
        let outcome = Err(error);
        drop(self.progress(&before.run_id, plan, begins, false));
        let exit = outcome::tell(&before.run_id, plan, &outcome, self.json, self.screen)?;
        self.complain(outcome.as_ref().err());
        Ok(exit)
    }

    /// Tells of a run that waits, and of how it goes on.
    async fn left(&mut self, plan: &PlanRecord, rest: &Rest, progress: &mut Progress) -> Result<(), Failure> {
        progress.rest(rest.state, rest.completed);
        let outputs = self.engine.results(&rest.run_id).await?.unwrap_or_default();
        outcome::tell_waiting(plan, rest, &outputs, self.json, self.screen)?;
        screen::note(&rest.explained(&self.place));
        Ok(())
    }

    fn progress(&self, run_id: &RunId, plan: &PlanRecord, begins: Begins<'_>, shown: bool) -> Progress {
        let is_terminal = std::io::stderr().is_terminal();
        let title = called(plan.name());
        let text = match begins {
            Begins::New => format!("run {run_id} of {title}"),
            Begins::Over(before) => format!("run {run_id} of {title} is {} already", before.state),
            Begins::GoesOn(before) => {
                let done = counted(before.cursor, "step");
                format!("going on with run {run_id} of {title}: {done} of {} done", before.steps)
            }
            Begins::Again(before) => {
                format!("run {run_id} of {title} again, in generation {}", before.generation + 1)
            }
        };
        if self.quiet {
            return Progress::silent();
        }
        let done = match begins {
            Begins::GoesOn(before) => before.cursor,
            _ => 0,
        };
        Progress::new(plan, done, &text, shown && is_terminal, Style::of(is_terminal))
    }

    /// Waits for the end of a run, shows what happens meanwhile, and cancels it when told to. One that waits for what nobody
    /// here can give is left.
    async fn watch(
        &mut self,
        mut handle: RunHandle,
        mut events: Option<EventStream>,
        plan: &PlanRecord,
        progress: &mut Progress,
    ) -> Result<Watched, Failure> {
        let run_id = handle.run_id().clone();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Asked aside, since a step that is called in place keeps the engine from answering.
        let mut looking: Looking = self.look(&run_id);
        let mut seen: Option<RunInfo> = None;
        let outcome = loop {
            tokio::select! {
                outcome = &mut handle => break outcome,
                _ = ticks.tick() => {
                    take(&mut events, &run_id, progress);
                    progress.draw(SystemTime::now());
                    if looking.is_finished() {
                        let now = (&mut looking).await.ok().and_then(Result::ok);
                        let rest = now.as_ref().and_then(|info| rest::of(info, SystemTime::now(), plan, &self.place));
                        if let Some(rest) = rest {
                            take(&mut events, &run_id, progress);
                            return Ok(Watched::Waits(handle, rest));
                        }
                        seen = now;
                        looking = self.look(&run_id);
                    }
                }
                () = self.signals.next() => {
                    let sleeping = seen.as_ref().and_then(|seen| rest::sleeping(seen, plan, &self.place));
                    if let Some(rest) = sleeping {
                        (self.stopping, self.at_once) = (true, true);
                        return Ok(Watched::Waits(handle, rest));
                    }
                    self.stop(&run_id, progress)?;
                }
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
        Ok(Watched::Over(outcome))
    }

    fn look(&self, run_id: &RunId) -> Looking {
        let (engine, run_id) = (self.engine.clone(), run_id.clone());
        tokio::spawn(async move { engine.status(&run_id).await })
    }

    /// Whether a run that was left waits still.
    pub(super) async fn still_waits(&self, run_id: &RunId) -> bool {
        let waits = |info: RunInfo| matches!(info.state, RunState::AwaitingSignal | RunState::Held);
        self.engine.status(run_id).await.is_ok_and(waits)
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
            screen::complain(&outcome::explained(error, self.place.is_stored()));
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
