//! Signals: from whoever sends them to memory, and from there to the run, whose step waits for them or will.

use std::rc::Rc;
use std::sync::Arc;

use actix::{AsyncContext, Context, Handler, Message, ResponseFuture};
use serde_json::Value;
use tokio::sync::oneshot;

use super::actor::ExecutionOrchestrator;
use super::control::record_of;
use super::error::ControlError;
use super::internal::{Happened, tell};
use super::line::Ticket;
use super::links::Links;
use crate::id::{IdFault, check_id, shorten};
use crate::json;
use crate::limits::MAX_SIGNAL_BYTES;
use crate::memory::{Claim, FindRun, GetRun, KeptSignal, MemoryError, RecordSignal};
use crate::plan::OutputError;
use crate::run::{RunId, RunState};

/// Sends a signal to a run: what a step made with [`Step::wait_for_signal`](crate::Step::wait_for_signal) waits for.
///
/// It is kept until a step of the run takes it, which is the first that waits for its name when or after it comes; of several with
/// the name the earliest. The answer comes when it is stored, and from then on no crash loses it. It changes nothing about
/// a run that is not waiting for it: one that is queued keeps its place, and one that is paused stays so.
///
/// The payload is kept as it is sent. Where the run's plan reads secrets, they are taken out of it when a step takes
/// it, and not before: what is secret is not to be sent.
///
/// A run that is not here is sent it too, so that it finds the signal when it is taken up again, unless somebody else over the same
/// memory runs it: [`ControlError::NotHere`].
///
/// It brings at most [`MAX_SIGNAL_BYTES`] of JSON: [`InvalidSignal::TooLarge`]. For one run no more than
/// [`MAX_SIGNALS`](crate::limits::MAX_SIGNALS) are kept, with [`MAX_SIGNALS_BYTES`](crate::limits::MAX_SIGNALS_BYTES) together:
/// [`MemoryError::TooManySignals`] and [`MemoryError::SignalsTooLarge`].
///
/// ```
/// use lunacore::{RunId, Signal};
/// use serde_json::json;
///
/// let run: RunId = "order-17".parse()?;
/// let decision = Signal::new(run, "decision").payload(json!({ "approved": true, "by": "ada" }));
/// # drop(decision);
/// # Ok::<(), lunacore::InvalidRunId>(())
/// ```
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<SignalOutcome, ControlError>")]
pub struct Signal {
    run_id: RunId,
    name: Arc<str>,
    payload: Arc<Value>,
}

impl Signal {
    /// A signal of this name, which brings null.
    pub fn new(run_id: RunId, name: impl Into<Arc<str>>) -> Self {
        Self { run_id, name: name.into(), payload: Arc::default() }
    }

    /// What it brings: the output of the step that takes it.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Value>) -> Self {
        self.payload = Arc::new(payload.into());
        self
    }

    fn check(&self) -> Result<(), InvalidSignal> {
        check_id(&self.name).map_err(|fault| InvalidSignal::Name { name: shorten(&self.name), fault })?;
        let name = || self.name.to_string();
        if json::is_too_deep(&self.payload) {
            return Err(InvalidSignal::Payload { name: name(), source: OutputError::TooDeep });
        }
        let bytes = json::size(&*self.payload);
        if bytes > MAX_SIGNAL_BYTES { Err(InvalidSignal::TooLarge { name: name(), bytes }) } else { Ok(()) }
    }
}

/// What became of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignalOutcome {
    /// It is stored, and waits for a step, or a step for it.
    Received,
    /// The run had come to this end before, and takes none.
    Finished(RunState),
}

/// What is wrong with a signal.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSignal {
    /// Its name is none that a step could wait for.
    #[error("the signal name {name:?} {fault}")]
    Name {
        /// The name, shortened.
        name: String,
        /// What is wrong with it.
        fault: IdFault,
    },
    /// No step could have what it brings for its output.
    #[error("what the signal {name:?} brings cannot be the output of a step")]
    Payload {
        /// The signal's name.
        name: String,
        /// Why.
        source: OutputError,
    },
    /// What it brings has more than [`MAX_SIGNAL_BYTES`] of JSON.
    #[error(
        "what the signal {name:?} brings has {bytes} bytes of JSON, more than {MAX_SIGNAL_BYTES}; write it to a file and send the \
         file's name"
    )]
    TooLarge {
        /// The signal's name.
        name: String,
        /// The size in bytes.
        bytes: usize,
    },
}

type Answer = Result<SignalOutcome, ControlError>;

/// A signal on its way, and who sent it.
pub(crate) struct Posted {
    signal: Signal,
    reply: oneshot::Sender<Answer>,
}

impl Posted {
    /// The run is over, or was refused.
    pub(crate) fn too_late(self, state: RunState) {
        let _ = self.reply.send(Ok(SignalOutcome::Finished(state)));
    }
}

impl ExecutionOrchestrator {
    /// Has a signal stored as soon as its run is, or as it is known what becomes of that.
    pub(crate) fn signal(&mut self, posted: Posted, ctx: &mut Context<Self>) {
        let run_id = &posted.signal.run_id;
        if self.active.contains_key(run_id) {
            return self.record_signal(posted, ctx);
        }
        if let Some(ticket) = self.tickets.get(run_id).copied()
            && let Some(waiting) = self.waiting.get_mut(&ticket)
        {
            if self.line.is_on_record(ticket) {
                return self.record_signal(posted, ctx);
            }
            waiting.posted.push(posted);
        } else if self.is_settled(run_id) {
            self.signal_stored(posted, ctx);
        } else {
            self.to_signal.push(posted);
        }
    }

    /// The acceptance of a plan that waits has been sent to memory, or it is known from before: its signals come behind that.
    pub(crate) fn post(&mut self, ticket: Ticket, ctx: &mut Context<Self>) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        for posted in std::mem::take(&mut waiting.posted) {
            self.record_signal(posted, ctx);
        }
    }

    /// Has a signal stored to a run that is here, and the run told of it before the sender is.
    pub(crate) fn record_signal(&self, posted: Posted, ctx: &mut Context<Self>) {
        let Posted { signal: Signal { run_id, name, payload }, reply } = posted;
        // Sent here, for the order of the signals.
        let request = self.links.record_signal.send(RecordSignal::new(run_id.clone(), name, payload));
        let (links, myself) = (Rc::clone(&self.links), ctx.address().downgrade());
        actix::spawn(async move {
            let kept = request.await.unwrap_or(Err(MemoryError::Stopped));
            let signals = match &kept {
                Ok(kept) => vec![kept.clone()],
                // It may be stored all the same, and a run that waits for it would not hear of it in this life.
                Err(MemoryError::Store(_)) => kept_signals(&links, run_id.clone()).await,
                Err(_) => Vec::new(),
            };
            if !signals.is_empty() {
                tell(&myself, Happened::Signalled { run_id, signals });
            }
            let _ = reply.send(outcome(kept));
        });
    }

    /// Has a signal stored to a run that is not here: it was cut off, or is over. Whoever asks for it meanwhile waits for that, so that
    /// the run is found with its signal.
    fn signal_stored(&mut self, posted: Posted, ctx: &mut Context<Self>) {
        let Posted { signal, reply } = posted;
        let (run_id, links, myself) =
            (signal.run_id.clone(), Rc::clone(&self.links), ctx.address().downgrade());
        self.unsettled.insert(run_id.clone());
        actix::spawn(async move {
            let _ = reply.send(signal_found(&links, signal).await);
            tell(&myself, Happened::CancelTold { run_id, goes_on: None });
        });
    }

    /// Signals are kept for a run. If it is not here any more, whoever takes it up finds them.
    pub(crate) fn signalled(&mut self, run_id: &RunId, signals: Vec<KeptSignal>) {
        if let Some(active) = self.active.get(run_id) {
            signals.into_iter().for_each(|signal| active.watch.keep(signal));
        } else if let Some(ticket) = self.tickets.get(run_id)
            && let Some(waiting) = self.waiting.get_mut(ticket)
        {
            signals.into_iter().for_each(|signal| waiting.signals.keep(signal));
        } else if self.unsettled.contains(run_id) {
            // It may have been looked up before they were stored.
            self.told.entry(run_id.clone()).or_default().extend(signals);
        }
    }
}

/// Claims the run meanwhile: others who take it up have looked for its signals already, or find this one.
async fn signal_found(links: &Links, signal: Signal) -> Answer {
    let Signal { run_id, name, payload } = signal;
    // Looked up first: to claim a run that is new would keep it from whoever is about to have it accepted.
    let record = record_of(run_id.clone(), links.get_run.send(GetRun(run_id.clone()))).await?;
    if record.state.is_final() {
        return Ok(SignalOutcome::Finished(record.state));
    }
    let claim = Claim::new();
    let found = links.find_run.send(FindRun::new(run_id.clone(), claim.clone())).await;
    let Some(found) = found.unwrap_or(Err(MemoryError::Stopped))? else {
        return Err(ControlError::UnknownRun { run_id });
    };
    let state = found.record.state;
    if !found.claimed && !state.is_final() {
        return Err(ControlError::NotHere { run_id, state });
    }
    let kept = links.record_signal.send(RecordSignal::new(run_id, name, payload)).await;
    drop(claim);
    outcome(kept.unwrap_or(Err(MemoryError::Stopped)))
}

/// The signals that are kept for a run, whoever has it.
async fn kept_signals(links: &Links, run_id: RunId) -> Vec<KeptSignal> {
    let found = links.find_run.send(FindRun::new(run_id, Claim::new())).await;
    match found.unwrap_or(Err(MemoryError::Stopped)) {
        Ok(found) => found.map(|found| found.signals).unwrap_or_default(),
        Err(error) => {
            log::warn!(target: "lunacore::orchestrator", "which signals are kept for a run cannot be read: {error}");
            Vec::new()
        }
    }
}

fn outcome(kept: Result<KeptSignal, MemoryError>) -> Answer {
    match kept {
        Ok(_) => Ok(SignalOutcome::Received),
        Err(MemoryError::RunOver { state, .. }) => Ok(SignalOutcome::Finished(state)),
        Err(MemoryError::UnknownRun { run_id }) => Err(ControlError::UnknownRun { run_id }),
        Err(error) => Err(error.into()),
    }
}

impl Handler<Signal> for ExecutionOrchestrator {
    type Result = ResponseFuture<Answer>;

    fn handle(&mut self, signal: Signal, ctx: &mut Self::Context) -> Self::Result {
        if let Err(invalid) = signal.check() {
            return Box::pin(async move { Err(invalid.into()) });
        }
        if !self.is_here(&signal.run_id) {
            self.catch_up(ctx);
        }
        let (reply, answer) = oneshot::channel();
        self.signal(Posted { signal, reply }, ctx);
        Box::pin(async move { answer.await.unwrap_or(Err(ControlError::Stopped)) })
    }
}
