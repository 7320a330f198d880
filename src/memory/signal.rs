use std::sync::Arc;

use actix::Message;
use serde_json::Value;

use super::error::MemoryError;
use crate::json;
use crate::limits::{MAX_SIGNAL_BYTES, MAX_SIGNALS, MAX_SIGNALS_BYTES};
use crate::run::RunId;

/// A signal that was sent to a run, and that no step has taken yet.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct KeptSignal {
    /// The number of the event that told of it.
    pub no: u64,
    /// Its name.
    pub name: Arc<str>,
    /// What it brings.
    pub payload: Arc<Value>,
}

impl KeptSignal {
    /// The signal with this number.
    #[must_use]
    pub fn new(no: u64, name: Arc<str>, payload: Arc<Value>) -> Self {
        Self { no, name, payload }
    }
}

/// What the signals that are kept for a run take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SignalUsage {
    /// How many there are.
    pub count: usize,
    /// How many bytes the JSON of their payloads has.
    pub bytes: usize,
}

impl SignalUsage {
    /// So many signals, whose payloads have so many bytes of JSON.
    #[must_use]
    pub fn new(count: usize, bytes: usize) -> Self {
        Self { count, bytes }
    }

    /// That of these signals.
    #[must_use]
    pub fn of(signals: &[KeptSignal]) -> Self {
        Self::new(signals.len(), signals.iter().map(|signal| json::size(&*signal.payload)).sum())
    }

    /// Whether a run that keeps this may be sent one more, of so many bytes.
    pub(super) fn check(self, run_id: &RunId, bytes: usize) -> Result<(), MemoryError> {
        let Self { count: kept, bytes: kept_bytes } = self;
        if kept >= MAX_SIGNALS {
            return Err(MemoryError::TooManySignals { run_id: run_id.clone(), kept });
        }
        if kept_bytes.saturating_add(bytes) > MAX_SIGNALS_BYTES {
            return Err(MemoryError::SignalsTooLarge { run_id: run_id.clone(), kept: kept_bytes, bytes });
        }
        Ok(())
    }
}

/// The signals of a run, in the order of their numbers.
#[derive(Debug, Default)]
pub(super) struct Signals {
    kept: Vec<KeptSignal>,
    /// What they take, so that nobody need count it.
    usage: SignalUsage,
}

impl Signals {
    pub(super) fn all(&self) -> &[KeptSignal] {
        &self.kept
    }

    pub(super) fn usage(&self) -> SignalUsage {
        self.usage
    }

    pub(super) fn keep(&mut self, signal: KeptSignal) {
        self.usage.count += 1;
        self.usage.bytes += json::size(&*signal.payload);
        self.kept.push(signal);
    }

    pub(super) fn take(&mut self, no: u64) {
        if let Ok(place) = self.kept.binary_search_by_key(&no, |signal| signal.no) {
            let taken = self.kept.remove(place);
            self.usage.count -= 1;
            self.usage.bytes -= json::size(&*taken.payload);
        }
    }
}

/// Keeps a signal for a run, with the event `signal.received`, until a step of it takes it.
///
/// The orchestrator sends it, and tells the run: what is kept without that is found when the run is taken up again. One that is
/// over gets [`MemoryError::RunOver`], one that keeps [`MAX_SIGNALS`] already
/// [`MemoryError::TooManySignals`], and one whose signals would have more than [`MAX_SIGNALS_BYTES`] together
/// [`MemoryError::SignalsTooLarge`].
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<KeptSignal, MemoryError>")]
#[non_exhaustive]
pub struct RecordSignal {
    /// The run.
    pub run_id: RunId,
    /// The signal's name.
    pub name: Arc<str>,
    /// What it brings.
    pub payload: Arc<Value>,
}

impl RecordSignal {
    /// This signal to this run.
    #[must_use]
    pub fn new(run_id: RunId, name: Arc<str>, payload: Arc<Value>) -> Self {
        Self { run_id, name, payload }
    }

    /// Answers how many bytes of JSON it brings, if no store need refuse it.
    pub(super) fn check(&self) -> Result<usize, MemoryError> {
        let name = || self.name.to_string();
        if json::is_too_deep(&self.payload) {
            return Err(MemoryError::SignalTooDeep { name: name() });
        }
        let bytes = json::size(&*self.payload);
        if bytes > MAX_SIGNAL_BYTES {
            return Err(MemoryError::SignalTooLarge { name: name(), bytes });
        }
        Ok(bytes)
    }
}
