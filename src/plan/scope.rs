use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::check::CheckedPlan;
use super::context::StepContext;
use super::error::StepError;
#[cfg(feature = "expressions")]
use super::expressions::Surroundings;
use super::output::Output;
use crate::artifact::ArtifactData;
use crate::run::{RunId, StepFailure};
use crate::secrets::Redactor;

/// What all attempts of a run share.
pub(crate) struct RunScope {
    pub(crate) run_id: RunId,
    pub(crate) plan: Arc<CheckedPlan>,
    pub(crate) cancellation: CancellationToken,
    /// Hands a progress report to the bus: the plan folder knows no actors.
    pub(crate) report: Box<dyn Fn(Arc<str>, u32, Value) + Send + Sync>,
    #[cfg(feature = "expressions")]
    pub(crate) surroundings: Surroundings,
    /// Takes secrets out of what leaves the run.
    redactor: Mutex<Arc<Redactor>>,
    outputs: Mutex<Vec<Output>>,
    pub(super) generation: u32,
    /// Inputs that take the place of those in the plan, by the place of the step.
    pub(super) set_inputs: BTreeMap<usize, Arc<Value>>,
    pub(super) in_flight: Mutex<InFlight>,
}

/// Which call of the user's code it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Called {
    /// The step's place.
    pub(super) index: usize,
    pub(super) attempt: u32,
    /// It undoes what the step did.
    pub(super) undoes: bool,
}

/// What the attempt in flight has of its own.
#[derive(Default)]
pub(super) struct InFlight {
    /// Which attempt that is; `None` between attempts.
    pub(super) open_for: Option<Called>,
    /// What it stages is committed with its result or not at all.
    pub(super) artifacts: Vec<StagedArtifact>,
    pub(super) bytes: usize,
    /// This attempt and others that have come to a limit: what is left of them is to stop, also when they are over.
    pub(super) expired: Vec<Called>,
    /// Made when it is first asked for.
    pub(super) cancellation: Option<CancellationToken>,
    /// Why the attempts before it failed, if it is that of the fallback; why the run did, if it undoes something.
    pub(super) failure: Option<Arc<StepFailure>>,
}

pub(crate) struct StagedArtifact {
    pub(crate) key: String,
    pub(crate) data: ArtifactData,
}

impl RunScope {
    pub(crate) fn new(
        run_id: RunId,
        plan: Arc<CheckedPlan>,
        mut outputs: Vec<Output>,
        report: impl Fn(Arc<str>, u32, Value) + Send + Sync + 'static,
    ) -> Self {
        outputs.reserve_exact(plan.len().saturating_sub(outputs.len()));
        Self {
            run_id,
            plan,
            cancellation: CancellationToken::new(),
            report: Box::new(report),
            #[cfg(feature = "expressions")]
            surroundings: Surroundings::default(),
            redactor: Mutex::default(),
            outputs: Mutex::new(outputs),
            generation: 1,
            set_inputs: BTreeMap::new(),
            in_flight: Mutex::default(),
        }
    }

    /// Sets which generation of the run it is, and the inputs that retries have set.
    pub(crate) fn in_generation(self, generation: u32, set_inputs: BTreeMap<usize, Arc<Value>>) -> Self {
        Self { generation, set_inputs, ..self }
    }

    /// The input that a retry has set for a step.
    pub(crate) fn set_input(&self, index: usize) -> Option<Arc<Value>> {
        self.set_inputs.get(&index).cloned()
    }

    /// Opens an attempt: only its context may stage artifacts until the next `take_staged`.
    /// `failure` is that of the attempts before, if this is the one of the fallback; `input` what has been made of a template.
    pub(crate) fn open_attempt(
        self: &Arc<Self>,
        index: usize,
        attempt: u32,
        failure: Option<Arc<StepFailure>>,
        input: Option<Arc<Value>>,
    ) -> StepContext {
        self.open(Called { index, attempt, undoes: false }, failure, input)
    }

    /// The same for an attempt to undo what a step did. `failure` is that of the run, unless it was cancelled.
    pub(crate) fn open_undo(
        self: &Arc<Self>,
        index: usize,
        attempt: u32,
        failure: Option<Arc<StepFailure>>,
        input: Option<Arc<Value>>,
    ) -> StepContext {
        self.open(Called { index, attempt, undoes: true }, failure, input)
    }

    fn open(
        self: &Arc<Self>,
        called: Called,
        failure: Option<Arc<StepFailure>>,
        input: Option<Arc<Value>>,
    ) -> StepContext {
        let mut in_flight = lock(&self.in_flight);
        (in_flight.open_for, in_flight.failure) = (Some(called), failure);
        StepContext::new(Arc::clone(self), called, input)
    }

    /// Closes the attempt and takes what it staged.
    pub(crate) fn take_staged(&self) -> Vec<StagedArtifact> {
        let mut in_flight = lock(&self.in_flight);
        (in_flight.open_for, in_flight.bytes) = (None, 0);
        (in_flight.cancellation, in_flight.failure) = (None, None);
        std::mem::take(&mut in_flight.artifacts)
    }

    /// Tells the code of the attempt in flight to stop.
    pub(crate) fn expire(&self) {
        let mut in_flight = lock(&self.in_flight);
        let over = in_flight.open_for;
        in_flight.expired.extend(over);
        let cancellation = in_flight.cancellation.take();
        drop(in_flight);
        // Outside of the lock: it wakes code of the user's.
        if let Some(cancellation) = cancellation {
            cancellation.cancel();
        }
    }

    pub(super) fn redactor(&self) -> Arc<Redactor> {
        Arc::clone(&lock(&self.redactor))
    }

    /// Learns secrets, which from now on leave the run no more.
    #[cfg(feature = "expressions")]
    pub(super) fn learn<'a>(
        &self,
        secrets: impl Iterator<Item = &'a String>,
    ) -> Result<(), crate::secrets::TooManySecrets> {
        let mut redactor = lock(&self.redactor);
        for secret in secrets {
            if !redactor.knows(secret) {
                Arc::make_mut(&mut redactor).learn(secret)?;
            }
        }
        Ok(())
    }

    /// Without expressions, there are no secrets.
    #[cfg(not(feature = "expressions"))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps, reason = "the same shape as with the feature")]
    pub(crate) fn know_secrets(&self) -> Result<(), StepError> {
        Ok(())
    }

    /// What an attempt has come to, without secrets.
    pub(crate) fn clean(
        &self,
        result: Result<Output, StepError>,
        staged: Vec<StagedArtifact>,
    ) -> (Result<Output, StepError>, Vec<StagedArtifact>) {
        // Most plans have no secrets, and so nothing to ask for.
        if !self.plan.has_expressions() {
            return (result, staged);
        }
        let redactor = self.redactor();
        if redactor.is_idle() {
            return (result, staged);
        }
        let of_artifact = |StagedArtifact { key, data }: StagedArtifact| StagedArtifact {
            key: redactor.text(&key).into_owned(),
            data: redactor.data(data),
        };
        let result = match result {
            Ok(output) => Ok(output.clean(&redactor)),
            Err(error) => Err(error.clean(&redactor)),
        };
        (result, staged.into_iter().map(of_artifact).collect())
    }

    /// The same for what comes from outside: it may be the first that the run has to do with since it was taken up.
    pub(crate) fn clean_given(&self, given: Output) -> Result<Output, StepError> {
        self.know_secrets()?;
        self.clean(Ok(given), Vec::new()).0
    }

    /// An error without secrets.
    #[cfg(feature = "expressions")]
    pub(super) fn clean_error(&self, error: StepError) -> StepError {
        error.clean(&self.redactor())
    }

    /// A text without secrets.
    pub(crate) fn clean_text(&self, text: &str) -> String {
        self.redactor().text(text).into_owned()
    }

    pub(crate) fn push_output(&self, output: Output) {
        lock(&self.outputs).push(output);
    }

    /// How many outputs there are.
    #[cfg(feature = "expressions")]
    pub(super) fn completed(&self) -> usize {
        lock(&self.outputs).len()
    }

    /// The output of a step, if it has completed.
    pub(super) fn output_at(&self, index: usize) -> Option<Output> {
        lock(&self.outputs).get(index).cloned()
    }

    pub(crate) fn outputs(&self) -> Vec<Value> {
        lock(&self.outputs).iter().map(Output::to_value).collect()
    }
}

/// A poisoned lock is taken all the same: no code of ours panics while it holds one.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
