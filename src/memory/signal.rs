use std::sync::Arc;

use actix::Message;
use serde_json::Value;

use super::error::MemoryError;
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

/// Keeps a signal for a run, with the event `signal.received`, until a step of it takes it.
///
/// The orchestrator sends it, and tells the run: what is kept without that is found when the run is taken up again. One that is
/// over gets [`MemoryError::RunOver`], and one that keeps [`MAX_SIGNALS`](crate::limits::MAX_SIGNALS) already
/// [`MemoryError::TooManySignals`].
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
}
