//! The write that everything is built on: one commit.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use serde_json::Value;

use super::error::MemoryError;
use crate::artifact::ArtifactData;
use crate::event::EventKind;
use crate::plan::{Output, PlanRecord};
use crate::project::Project;
use crate::resilience::BreakerRecord;
use crate::run::{Durability, RunId, RunRecord, RunState, StepFailure, StepProgress, Undoing};

/// One atomic write: a run's progress, an output, artifacts and events together, or nothing of it.
///
/// The orchestrator sends it; applications have no need to.
#[derive(Debug, Clone, actix::Message)]
#[rtype(result = "Result<Committed, MemoryError>")]
#[non_exhaustive]
pub struct Commit {
    /// The run.
    pub run_id: RunId,
    /// The project that its artifacts go to.
    pub project: Project,
    /// Present in the first commit of a run: the run itself.
    pub accept: Option<Box<NewRun>>,
    /// Present in the first commit of a generation behind the first: what it begins with.
    pub reopen: Option<Box<Reopen>>,
    /// Where the run stands once this is stored.
    pub update: RunUpdate,
    /// The step that this commit completes, and what it returned.
    pub output: Option<StepOutput>,
    /// What that step staged: new versions of artifacts, behind that of its result.
    pub artifacts: Vec<NewArtifact>,
    /// What happened, in order. The store numbers them.
    pub events: Vec<EventKind>,
    /// The kept signal that becomes the output, by its number: it is not kept any more.
    pub signal: Option<u64>,
    /// Circuit breakers that have changed with it: each takes the place of the record of its name.
    pub breakers: Vec<BreakerRecord>,
    /// How well it must be stored when it is acknowledged; the store's own setting where nothing is said.
    pub durability: Option<Durability>,
}

impl Commit {
    /// A commit that moves a run and does nothing else yet.
    #[must_use]
    pub fn new(run_id: RunId, project: Project, update: RunUpdate) -> Self {
        let (artifacts, events, breakers) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            run_id,
            project,
            accept: None,
            reopen: None,
            update,
            output: None,
            artifacts,
            events,
            signal: None,
            breakers,
            durability: None,
        }
    }
}

/// What is stored of a run when it is accepted.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NewRun {
    /// The plan.
    pub plan: PlanRecord,
    /// How well its commits are to be stored, where the plan said so: kept, for when the run is resumed.
    pub durability: Option<Durability>,
    /// When it must be done.
    pub deadline: Option<SystemTime>,
    /// Who runs it.
    pub claim: Claim,
}

impl NewRun {
    /// A run of this plan.
    #[must_use]
    pub fn new(plan: PlanRecord, claim: Claim) -> Self {
        Self { plan, durability: None, deadline: None, claim }
    }
}

/// What a new generation of a run begins with.
///
/// The run was over, or cut off, or is held. Outputs from the step `from` on do not count any more; the artifacts that came
/// of them stay, as the versions that they are. Its final time goes, and so does what was stored about its being undone.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Reopen {
    /// Which generation it is: one more than the last.
    pub generation: u32,
    /// The first step whose output, if it is stored, does not count any more.
    pub from: usize,
    /// The plan that it goes on with, where that is another one.
    pub plan: Option<PlanRecord>,
    /// The inputs that take the place of those in the plan, all of them.
    pub set_inputs: BTreeMap<usize, Arc<Value>>,
    /// When it must be done.
    pub deadline: Option<SystemTime>,
}

impl Reopen {
    /// A generation in which the outputs before the step `from` count.
    #[must_use]
    pub fn new(generation: u32, from: usize) -> Self {
        Self { generation, from, plan: None, set_inputs: BTreeMap::new(), deadline: None }
    }
}

/// Sets what a record says of its plan.
pub(super) fn describe(record: &mut RunRecord, plan: &PlanRecord) {
    (record.name, record.steps) = (plan.shared_name().cloned(), plan.len());
    record.self_contained = plan.is_self_contained();
}

/// The right to run a run, so that two orchestrators over one memory never run the same one. Memory gives it to one at a
/// time; it ends when every clone is dropped. Not stored: a process that died holds nothing.
#[derive(Debug, Clone, Default)]
pub struct Claim(Arc<()>);

impl Claim {
    /// A claim that nobody has asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn watch(&self) -> Weak<()> {
        Arc::downgrade(&self.0)
    }
}

/// Where a run stands; see [`RunRecord`], which has the same fields.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunUpdate {
    /// Its state.
    pub state: RunState,
    /// How many steps have completed.
    pub cursor: usize,
    /// The attempt of the step at `cursor` that is about to run or ran last; 0 when it has not been started.
    pub attempt: u32,
    /// How far that step is otherwise.
    pub step: StepProgress,
    /// It was told to pause.
    pub pausing: bool,
    /// Why it failed, or why its last attempt did.
    pub failure: Option<Arc<StepFailure>>,
    /// Why it is interrupted, if it is.
    pub reason: Option<Arc<str>>,
    /// How far it is with undoing what its steps did.
    pub undoing: Option<Arc<Undoing>>,
}

impl RunUpdate {
    /// A run that has not failed.
    #[must_use]
    pub fn new(state: RunState, cursor: usize, attempt: u32) -> Self {
        Self {
            state,
            cursor,
            attempt,
            step: StepProgress::default(),
            pausing: false,
            failure: None,
            reason: None,
            undoing: None,
        }
    }
}

/// The step that a commit completes, and what it returned.
///
/// Its artifact, which the store keeps too, is the next version of `task:{step_id}`: of the type `task_result`, with the meta
/// `{"step": …, "step_id": …}` (and `"generation"`, behind the first), and with [`Output::to_data`] for content.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StepOutput {
    /// The step's place in the plan, from 0.
    pub step: usize,
    /// Its id.
    pub step_id: Arc<str>,
    /// What it returned.
    pub output: Output,
    /// It was skipped, and its output is null for that.
    pub skipped: bool,
}

impl StepOutput {
    /// The output of the step with this index and id.
    #[must_use]
    pub fn new(step: usize, step_id: Arc<str>, output: Output) -> Self {
        Self { step, step_id, output, skipped: false }
    }
}

/// An artifact to be stored as the next version of its key.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NewArtifact {
    /// The key.
    pub key: String,
    /// What it is.
    pub artifact_type: Arc<str>,
    /// The step that made it, whose index and id become the meta `{"step": …, "step_id": …}`.
    pub step: (usize, Arc<str>),
    /// The content.
    pub data: ArtifactData,
}

impl NewArtifact {
    /// An artifact made by the step with this index and id.
    #[must_use]
    pub fn new(key: String, artifact_type: Arc<str>, step: (usize, Arc<str>), data: ArtifactData) -> Self {
        Self { key, artifact_type, step, data }
    }
}

/// A commit is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// When, to the microsecond: the time of its events.
    pub at: SystemTime,
}

impl Committed {
    /// A commit that was stored then.
    #[must_use]
    pub fn new(at: SystemTime) -> Self {
        Self { at }
    }
}
