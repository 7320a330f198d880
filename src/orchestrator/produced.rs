//! What goes into the commit that ends a step, besides what the machine decided.

use std::sync::Arc;

use crate::memory::{Commit, NewArtifact, StepOutput};
use crate::plan::{Output, StagedArtifact, StepError};

/// What goes into the next commit, besides the decision.
#[derive(Default)]
pub(super) struct Yield {
    output: Option<StepOutput>,
    besides: Besides,
}

/// What else there is. A step that only waits stages nothing.
enum Besides {
    Artifacts(Vec<NewArtifact>),
    /// The kept signal that the output comes from.
    Signal(u64),
}

impl Default for Besides {
    fn default() -> Self {
        Self::Artifacts(Vec::new())
    }
}

impl Yield {
    /// Of what completes no step.
    pub(super) fn of(artifacts: Vec<NewArtifact>) -> Self {
        Self { output: None, besides: Besides::Artifacts(artifacts) }
    }

    /// The same where the output is what a signal has brought.
    pub(super) fn taking(self, signal: Option<u64>) -> Self {
        Self { besides: signal.map_or(self.besides, Besides::Signal), ..self }
    }

    pub(super) fn completes(&self) -> bool {
        self.output.is_some()
    }

    pub(super) fn output(&self) -> Option<Output> {
        self.output.as_ref().map(|step| step.output.clone())
    }

    /// The step that this skips.
    pub(super) fn skips(&self) -> Option<usize> {
        self.output.as_ref().filter(|step| step.skipped).map(|step| step.step)
    }

    /// Puts it all into the commit, and answers which signal that takes.
    pub(super) fn into_commit(self, commit: &mut Commit) -> Option<u64> {
        commit.output = self.output;
        match self.besides {
            Besides::Artifacts(artifacts) => commit.artifacts = artifacts,
            Besides::Signal(taken) => commit.signal = Some(taken),
        }
        commit.signal
    }
}

/// What a completed step leaves: its output, and the artifacts that it staged.
pub(super) fn produce(
    step: usize,
    step_id: &Arc<str>,
    output: &Output,
    staged: Vec<StagedArtifact>,
) -> Result<Yield, StepError> {
    output.check()?;
    let artifacts = staged.into_iter().map(|artifact| of_step((step, step_id), artifact)).collect();
    let output = Some(StepOutput::new(step, Arc::clone(step_id), output.clone()));
    Ok(Yield { output, besides: Besides::Artifacts(artifacts) })
}

/// What a step leaves that somebody has skipped.
pub(super) fn skip(step: usize, step_id: &Arc<str>) -> Result<Yield, StepError> {
    let mut skipped = produce(step, step_id, &Output::null(), Vec::new())?;
    if let Some(output) = &mut skipped.output {
        output.skipped = true;
    }
    Ok(skipped)
}

/// An artifact that a step staged.
pub(super) fn of_step((step, id): (usize, &Arc<str>), staged: StagedArtifact) -> NewArtifact {
    NewArtifact::new(staged.key, Arc::from("data"), (step, Arc::clone(id)), staged.data)
}
