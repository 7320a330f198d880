use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, MutexGuard};

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::check::CheckedStep;
use super::error::ContextError;
use super::scope::{Called, InFlight, RunScope, StagedArtifact, lock};
use crate::artifact::{ArtifactData, TASK_PREFIX};
use crate::id::{check_text, percent_encode, shorten};
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
    called: Called,
    /// The input, where it is not as it was given.
    input: Option<Arc<Value>>,
}

impl StepContext {
    pub(super) fn new(scope: Arc<RunScope>, called: Called, input: Option<Arc<Value>>) -> Self {
        Self { scope, called, input }
    }

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
        self.called.index
    }

    /// Which attempt of the step this is, from 1; in a [compensation](crate::Step::compensate), which attempt of that.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.called.attempt
    }

    /// Names this step of this run to the outside world, the same for every attempt and after every restart: a payment
    /// service that is given it with each request can tell a repetition from a new request. What
    /// [verifies](crate::OnInterrupted::Verify) an attempt has the key of that attempt.
    ///
    /// What [undoes](crate::Step::compensate) the step has another one, which ends in `/undo`: it too is the same for every attempt
    /// to undo it and after every restart. It names the generation that undoes the step, which may be a later one than that in
    /// which the step was done: what was done is found by what the step returned, and not by this key without its end.
    ///
    /// Run id, generation and step id, each with all but ASCII letters, digits, `-`, `.`, `_` and `~` percent-encoded
    /// (RFC 3986), with `/` between them. The generation is 1, and one more with each [retry of the run](crate::RetryRun).
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
        percent_encode(self.run_id().as_str(), &mut key);
        key.push_str(&format!("/{}/", self.scope.generation));
        percent_encode(self.step_id(), &mut key);
        if self.called.undoes {
            key.push_str("/undo");
        }
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
        self.output_at(self.called.index.checked_sub(1).ok_or(ContextError::NoPrevious)?)
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

    /// Why the step failed for the last time, in the call of its [fallback](crate::OnFailure::Fallback); why the run failed, in
    /// that of a [compensation](crate::Step::compensate), unless the run was cancelled. `None` in every other.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<StepFailure>> {
        self.in_flight().and_then(|in_flight| in_flight.failure.clone())
    }

    /// Is cancelled when the run is, and when this attempt comes to a limit: blocking code should look at it from time to
    /// time and return. Async code need not, since its future is dropped at its next await. Cancelling this token cancels
    /// nothing else. What undoes a step is not cancelled with its run, and only comes to its own limit.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        if self.is_expired() {
            let over = CancellationToken::new();
            over.cancel();
            return over;
        }
        match self.in_flight() {
            Some(mut in_flight) => {
                let own = in_flight.cancellation.get_or_insert_with(|| self.outer_cancellation());
                own.child_token()
            }
            None => self.outer_cancellation(),
        }
    }

    /// Whether the run has been told to stop, or this attempt has come to a limit.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        (self.scope.cancellation.is_cancelled() && !self.called.undoes) || self.is_expired()
    }

    /// Of the run; of none, where it is undone.
    fn outer_cancellation(&self) -> CancellationToken {
        if self.called.undoes { CancellationToken::new() } else { self.scope.cancellation.child_token() }
    }

    fn is_expired(&self) -> bool {
        lock(&self.scope.in_flight).expired.contains(&self.called)
    }

    /// What the attempt has of its own, as long as it is this one.
    fn in_flight(&self) -> Option<MutexGuard<'_, InFlight>> {
        let in_flight = lock(&self.scope.in_flight);
        (in_flight.open_for == Some(self.called)).then_some(in_flight)
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
        let value = self.scope.redactor().value(value);
        let bytes = json::size(&value);
        if bytes > MAX_PAYLOAD_BYTES {
            return Err(ContextError::ProgressTooLarge { bytes });
        }
        if self.in_flight().is_none() {
            return Err(ContextError::AttemptEnded);
        }
        if let Some(checked) = self.checked() {
            (self.scope.report)(Arc::clone(&checked.id), self.called.attempt, value);
        }
        Ok(())
    }

    /// Stores a further artifact, text or bytes, as a new version under `key`. It is committed together with the step's
    /// result, or not at all when the step fails. That of a [compensation](crate::Step::compensate) is committed with the news
    /// that the step is undone.
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

    /// A text without the secrets of the run's plan, `***` in their places: as everything becomes that leaves a step. For text
    /// that is cut before it does, so that no part of a secret is left at the cut.
    ///
    /// ```
    /// use lunacore::{Step, StepContext};
    ///
    /// let step = Step::new("log", |ctx: StepContext| {
    ///     let line = ctx.redact("a very long line").into_owned();
    ///     line.chars().take(10).collect::<String>()
    /// });
    /// # let _ = step;
    /// ```
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.scope.redactor().text(text) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(clean) => Cow::Owned(clean),
        }
    }

    fn checked(&self) -> Option<&CheckedStep> {
        self.scope.plan.get(self.called.index)
    }
}

impl fmt::Debug for StepContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StepContext")
            .field("run_id", self.run_id())
            .field("step_id", &self.step_id())
            .field("index", &self.called.index)
            .field("attempt", &self.called.attempt)
            .finish_non_exhaustive()
    }
}
