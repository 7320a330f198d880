//! The message that has a run tried again.

use std::time::Duration;

use actix::Message;
use serde_json::Value;

use super::error::PlanError;
use super::messages::RunHandle;
use crate::plan::Plan;
use crate::run::RunId;

/// Tries a run again that has failed, was cancelled or interrupted, or is held, and answers with a handle to it as soon as it
/// has its place in the queue.
///
/// That opens the next generation of the run: the results of the steps before the one that it goes on from are kept, and
/// those steps are not called. What later steps had stored stays where it is, as versions of their artifacts; the meta of a version
/// says in which `generation` it was made, unless that was the first. The [idempotency
/// key](crate::StepContext::idempotency_key) of a step is another one in each generation.
///
/// ```
/// use lunacore::{Engine, ExecutePlan, RegistryAllocator, RetryRun, Step, StepContext, StepError};
///
/// # actix::System::new().block_on(async {
/// let allocator = RegistryAllocator::new()
///     .register("measure", || 17)
///     .register("parse", |ctx: StepContext| Ok::<u32, StepError>(ctx.input::<String>()?.parse()?));
/// let engine = Engine::builder().allocator(allocator).start()?;
/// let steps = [Step::named("measure"), Step::named("parse").input("1O")];
/// engine.execute(ExecutePlan::new(steps).run_id("nightly")).await.unwrap_err();
///
/// let nightly = "nightly".parse()?;
/// let repaired = engine.retry_run(RetryRun::new(nightly).set_input("10")).await?;
/// assert_eq!(repaired.await?, [17, 10]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// The plan is the one that is stored with the run. If its steps were closures, or have changed, it has to be
/// [sent along](Self::plan).
///
/// # Errors
/// [`PlanError::UnknownRun`]; [`PlanError::NotRetried`] with the reason, for a run that is none of these, or whose steps were
/// undone; [`PlanError::PlanMismatch`]; and all that a plan is refused for. Nothing has changed then: a run that is held is held as
/// before, and who waits for it still does. So it is where the retry comes to its [deadline](Self::deadline) before it has its
/// place. [`PlanError::Cancelled`], if the run was cancelled meanwhile.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<RunHandle, PlanError>")]
pub struct RetryRun {
    pub(super) run_id: RunId,
    pub(super) from: RetryFrom,
    pub(super) set_input: Option<Value>,
    pub(super) plan: Option<Plan>,
    pub(super) on_mismatch: OnMismatch,
    pub(super) deadline: Option<Duration>,
}

/// The step that a retried run goes on from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryFrom {
    /// The one at which it stands: that failed, is held, or was in flight or next when the run was cancelled. The default.
    #[default]
    FailedStep,
    /// The step with this id: that one, or one before it.
    Step(String),
}

/// What becomes of a retry whose [plan](RetryRun::plan) is not the one that the run was accepted with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnMismatch {
    /// It is refused, with [`PlanError::PlanMismatch`]. The default.
    #[default]
    Refuse,
    /// The plan is accepted as a run of its own, from its first step; the run itself stays as it is. Its run id is that of the
    /// run, `~`, and the first part of what tells the plan from others: so the same retry, sent again, finds the same run.
    NewRun,
    /// The run goes on with this plan, from the first step that differs, or from where the retry says if that comes before. Only
    /// here a run that has completed can be retried: to do what is new.
    KeepPrefix,
}

impl RetryRun {
    /// A retry of this run, from the step at which it stands.
    #[must_use]
    pub fn new(run_id: RunId) -> Self {
        let (from, on_mismatch) = (RetryFrom::default(), OnMismatch::default());
        Self { run_id, from, set_input: None, plan: None, on_mismatch, deadline: None }
    }

    /// Goes on from this step instead.
    #[must_use]
    pub fn from(mut self, from: RetryFrom) -> Self {
        self.from = from;
        self
    }

    /// Goes on from the step with this id.
    #[must_use]
    pub fn from_step(self, step_id: impl Into<String>) -> Self {
        self.from(RetryFrom::Step(step_id.into()))
    }

    /// Gives the step that it goes on from this input, in this generation and all after it. It takes the place of that in the
    /// plan; the plan itself, and its fingerprint, stay what they are. What takes the place of a template (`Step::with`) is a
    /// template too, and reads no secrets but those that the plan names.
    #[must_use]
    pub fn set_input(mut self, input: impl Into<Value>) -> Self {
        self.set_input = Some(input.into());
        self
    }

    /// Brings the plan along: with its closures, or changed. Its inputs keep the values that the run has. Other policies of the same
    /// steps are no change that [`on_mismatch`](Self::on_mismatch) is asked about: they count from now on, and are stored.
    #[must_use]
    pub fn plan(mut self, plan: impl Into<Plan>) -> Self {
        self.plan = Some(plan.into());
        self
    }

    /// What to do if that plan is another one. [`OnMismatch::Refuse`] by default.
    #[must_use]
    pub fn on_mismatch(mut self, on_mismatch: OnMismatch) -> Self {
        self.on_mismatch = on_mismatch;
        self
    }

    /// How long it may take from now on. Without this there is no deadline: that of the run has mostly passed.
    #[must_use]
    pub fn deadline(mut self, after: Duration) -> Self {
        self.deadline = Some(after);
        self
    }
}
