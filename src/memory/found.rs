use actix::Message;

use super::commit::Claim;
use super::error::MemoryError;
use super::signal::KeptSignal;
use crate::plan::{Output, PlanRecord};
use crate::run::{RunId, RunRecord};

/// Reads everything about a run, to answer for it or to go on with it, and claims it unless it is finished. A run that is
/// not known, but that somebody else has claimed, is [`MemoryError::RunHeld`].
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<FoundRun>, MemoryError>")]
#[non_exhaustive]
pub struct FindRun {
    /// The run.
    pub run_id: RunId,
    /// Who would go on with it.
    pub claim: Claim,
    /// It is claimed also if it is finished: it is to be tried again.
    pub retry: bool,
}

impl FindRun {
    /// Finds a run for the holder of this claim.
    #[must_use]
    pub fn new(run_id: RunId, claim: Claim) -> Self {
        Self { run_id, claim, retry: false }
    }

    /// Claims it also if it is finished, to try it again.
    #[must_use]
    pub fn to_retry(self) -> Self {
        Self { retry: true, ..self }
    }
}

/// A run, its plan, and the outputs that it has stored so far.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FoundRun {
    /// Where it stands.
    pub record: RunRecord,
    /// Its plan.
    pub plan: PlanRecord,
    /// Its outputs, in step order.
    pub outputs: Vec<Output>,
    /// The places of the steps that were skipped, in order: their outputs are null.
    pub skipped: Vec<usize>,
    /// The signals that are kept for it, in the order in which they came.
    pub signals: Vec<KeptSignal>,
    /// Whether the claim was granted: nobody else runs it. Of one that is finished only where it is to be tried again.
    pub claimed: bool,
}

impl FoundRun {
    /// What a memory found.
    #[must_use]
    pub fn new(record: RunRecord, plan: PlanRecord, outputs: Vec<Output>, claimed: bool) -> Self {
        Self { record, plan, outputs, skipped: Vec::new(), signals: Vec::new(), claimed }
    }
}
