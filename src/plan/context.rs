use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::check::{CheckedPlan, CheckedStep};
use super::error::ContextError;
#[cfg(feature = "expressions")]
use super::expressions::Surroundings;
use super::output::Output;
use crate::artifact::{ArtifactData, TASK_PREFIX};
use crate::id::{check_text, shorten};
use crate::json;
use crate::limits::{
    MAX_ARTIFACT_BYTES, MAX_KEY_BYTES, MAX_PAYLOAD_BYTES, MAX_STAGED_ARTIFACTS, MAX_STAGED_BYTES,
};
use crate::run::{RunId, StepFailure};

/// What a callable knows of its step, its run and the steps before it. Cloning is cheap.
///
/// ```
/// use lunacore::{ContextError, Step, StepContext};
/// use serde_json::json;
///
/// let fetch = Step::new("fetch", || vec!["a.txt", "b.txt"]);
/// let count = Step::new("count", |ctx: StepContext| -> Result<usize, ContextError> {
///     let names: Vec<String> = ctx.output("fetch")?;
///     ctx.progress(json!({ "files": names.len() }))?;
///     ctx.put_artifact("file-list", names.join("\n"))?;
///     Ok(names.len())
/// });
/// # let _ = (fetch, count);
/// ```
#[derive(Clone)]
pub struct StepContext {
    scope: Arc<RunScope>,
    index: usize,
    attempt: u32,
    /// The input, where it is not as it was given.
    input: Option<Arc<Value>>,
}

/// What all attempts of a run share.
pub(crate) struct RunScope {
    pub(crate) run_id: RunId,
    pub(crate) plan: Arc<CheckedPlan>,
    pub(crate) cancellation: CancellationToken,
    /// Hands a progress report to the bus: the plan folder knows no actors.
    pub(crate) report: Box<dyn Fn(Arc<str>, u32, Value) + Send + Sync>,
    #[cfg(feature = "expressions")]
    pub(crate) surroundings: Surroundings,
    outputs: Mutex<Vec<Output>>,
    in_flight: Mutex<InFlight>,
}

/// What the attempt in flight has of its own.
#[derive(Default)]
struct InFlight {
    /// Which attempt that is; `None` between attempts.
    open_for: Option<(usize, u32)>,
    /// What it stages is committed with its result or not at all.
    artifacts: Vec<StagedArtifact>,
    bytes: usize,
    /// This attempt and others that have come to a limit: what is left of them is to stop, also when they are over.
    expired: Vec<(usize, u32)>,
    /// Made when it is first asked for.
    cancellation: Option<CancellationToken>,
    /// Why the attempts before it failed, if it is that of the fallback.
    failure: Option<Arc<StepFailure>>,
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
            outputs: Mutex::new(outputs),
            in_flight: Mutex::default(),
        }
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
        let mut in_flight = lock(&self.in_flight);
        (in_flight.open_for, in_flight.failure) = (Some((index, attempt)), failure);
        StepContext { scope: Arc::clone(self), index, attempt, input }
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
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl StepContext {
    /// The run this call belongs to.
    #[must_use]
    pub fn run_id(&self) -> &RunId {
        &self.scope.run_id
    }

    /// The step's id.
    #[must_use]
    pub fn step_id(&self) -> &str {
        self.checked().map_or("", |checked| &*checked.id)
    }

    /// The step's place in the plan, from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Which attempt of the step this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Names this step of this run to the outside world, the same for every attempt and after every restart: a payment
    /// service that is given it with each request can tell a repetition from a new request.
    ///
    /// Run id, generation and step id, each with all but ASCII letters, digits, `-`, `.`, `_` and `~` percent-encoded
    /// (RFC 3986), with `/` between them. The generation is 1.
    ///
    /// ```
    /// use lunacore::{Engine, ExecutePlan, Step, StepContext};
    ///
    /// # actix::System::new().block_on(async {
    /// let pay = Step::new("pay rent", |ctx: StepContext| ctx.idempotency_key());
    /// let results = Engine::builder().start()?.execute(ExecutePlan::new([pay]).run_id("2026/11")).await?;
    /// assert_eq!(results, ["2026%2F11/1/pay%20rent"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        let mut key = String::new();
        escape(self.run_id().as_str(), &mut key);
        key.push_str("/1/");
        escape(self.step_id(), &mut key);
        key
    }

    /// The step's input, as given with [`Step::input`](crate::Step::input). Of a template (`Step::with`) it is what its
    /// expressions have come to for this attempt.
    ///
    /// # Errors
    /// [`ContextError::Input`] when it does not have the shape of a `T`.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, ContextError> {
        let given = || self.checked().map_or(&Value::Null, |checked| checked.step.get_input());
        let input = self.input.as_deref().unwrap_or_else(given);
        T::deserialize(input).map_err(|error| ContextError::Input {
            step_id: self.step_id().to_owned(),
            source: Arc::new(error),
        })
    }

    /// The output of an earlier step of this plan, with its type.
    ///
    /// # Errors
    /// [`ContextError::NoSuchStep`], [`ContextError::NotYetRun`], or [`ContextError::Output`] when it does not have the
    /// shape of a `T`.
    pub fn output<T: DeserializeOwned>(&self, step_id: &str) -> Result<T, ContextError> {
        match self.scope.plan.index_of(step_id) {
            Some(index) => self.output_at(index),
            None => Err(ContextError::NoSuchStep { step_id: step_id.to_owned() }),
        }
    }

    /// The output of the step just before this one.
    ///
    /// # Errors
    /// [`ContextError::NoPrevious`] in the first step; else as [`output`](Self::output).
    pub fn previous<T: DeserializeOwned>(&self) -> Result<T, ContextError> {
        self.output_at(self.index.checked_sub(1).ok_or(ContextError::NoPrevious)?)
    }

    fn output_at<T: DeserializeOwned>(&self, index: usize) -> Result<T, ContextError> {
        let step_id =
            || self.scope.plan.get(index).map_or_else(String::new, |checked| checked.id.to_string());
        // Taken out of the lock: reading it runs code of the user's.
        match self.scope.output_at(index) {
            Some(output) => output
                .read()
                .map_err(|error| ContextError::Output { step_id: step_id(), source: Arc::new(error) }),
            None => Err(ContextError::NotYetRun { step_id: step_id() }),
        }
    }

    /// Why the step failed for the last time, in the call of its [fallback](crate::OnFailure::Fallback); `None` in every other.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<StepFailure>> {
        self.in_flight().and_then(|in_flight| in_flight.failure.clone())
    }

    /// Is cancelled when the run is, and when this attempt comes to a limit: blocking code should look at it from time to
    /// time and return. Async code need not, since its future is dropped at its next await. Cancelling this token cancels
    /// nothing else.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        if self.is_expired() {
            let over = CancellationToken::new();
            over.cancel();
            return over;
        }
        match self.in_flight() {
            Some(mut in_flight) => {
                let own = in_flight.cancellation.get_or_insert_with(|| self.scope.cancellation.child_token());
                own.child_token()
            }
            None => self.scope.cancellation.child_token(),
        }
    }

    /// Whether the run has been told to stop, or this attempt has come to a limit.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.scope.cancellation.is_cancelled() || self.is_expired()
    }

    fn is_expired(&self) -> bool {
        lock(&self.scope.in_flight).expired.contains(&(self.index, self.attempt))
    }

    /// What the attempt has of its own, as long as it is this one.
    fn in_flight(&self) -> Option<MutexGuard<'_, InFlight>> {
        let in_flight = lock(&self.scope.in_flight);
        (in_flight.open_for == Some((self.index, self.attempt))).then_some(in_flight)
    }

    /// Tells subscribers how far the step is, as `task.progress`. Such an event is not stored, and is dropped while
    /// the bus is far behind.
    ///
    /// # Errors
    /// [`ContextError::ProgressTooLarge`], [`ContextError::ProgressTooDeep`], or [`ContextError::AttemptEnded`] when the
    /// context outlived its call.
    pub fn progress(&self, value: impl Into<Value>) -> Result<(), ContextError> {
        let value = value.into();
        if json::is_too_deep(&value) {
            return Err(ContextError::ProgressTooDeep);
        }
        let bytes = json::size(&value);
        if bytes > MAX_PAYLOAD_BYTES {
            return Err(ContextError::ProgressTooLarge { bytes });
        }
        if self.in_flight().is_none() {
            return Err(ContextError::AttemptEnded);
        }
        if let Some(checked) = self.checked() {
            (self.scope.report)(Arc::clone(&checked.id), self.attempt, value);
        }
        Ok(())
    }

    /// Stores a further artifact, text or bytes, as a new version under `key`. It is committed together with the step's
    /// result, or not at all when the step fails.
    ///
    /// # Errors
    /// [`ContextError::ArtifactKey`], [`ContextError::ReservedKey`] for `task:…`, [`ContextError::ArtifactTooLarge`], [`ContextError::TooManyArtifacts`], or
    /// [`ContextError::AttemptEnded`] when the context outlived its call.
    pub fn put_artifact(
        &self,
        key: impl Into<String>,
        data: impl Into<ArtifactData>,
    ) -> Result<(), ContextError> {
        let (key, data) = (key.into(), data.into());
        if let Err(fault) = check_text(&key, MAX_KEY_BYTES) {
            return Err(ContextError::ArtifactKey { key: shorten(&key), fault });
        }
        if key.starts_with(TASK_PREFIX) {
            return Err(ContextError::ReservedKey { key: shorten(&key) });
        }
        let bytes = data.len();
        if bytes > MAX_ARTIFACT_BYTES {
            return Err(ContextError::ArtifactTooLarge { key, bytes });
        }
        let Some(mut staged) = self.in_flight() else { return Err(ContextError::AttemptEnded) };
        if staged.artifacts.len() >= MAX_STAGED_ARTIFACTS || staged.bytes + bytes > MAX_STAGED_BYTES {
            return Err(ContextError::TooManyArtifacts);
        }
        staged.bytes += bytes;
        staged.artifacts.push(StagedArtifact { key, data });
        Ok(())
    }

    fn checked(&self) -> Option<&CheckedStep> {
        self.scope.plan.get(self.index)
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986, so that parts cannot run into each other.
fn escape(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

impl fmt::Debug for StepContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepContext")
            .field("run_id", self.run_id())
            .field("step_id", &self.step_id())
            .field("index", &self.index)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}
