//! What is said of a run that was undone, or could not be.

use std::fmt;
use std::sync::Arc;

use super::error::PlanError;
use crate::run::{NotUndone, RunId, StepFailure, Undoing};

/// A step that completed, had a [compensation](crate::Step::compensate), and is not undone.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepNotUndone {
    /// The step's id.
    pub step_id: String,
    /// Its place in the plan, from 0.
    pub index: usize,
    /// Why its compensation failed for the last time. Of the kind [`Abandoned`](crate::FailureKind::Abandoned), it may be that
    /// of another step: after code that does not stop, nothing else of a run is called.
    pub failure: Arc<StepFailure>,
}

impl fmt::Display for StepNotUndone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", self.step_id, self.failure)
    }
}

impl PlanError {
    /// Why the run ended, whether or not what it did was undone: of a [`Compensated`](Self::Compensated) it is the source, else
    /// the error itself.
    ///
    /// ```
    /// use lunacore::{Engine, PlanError, Step, StepError};
    ///
    /// # actix::System::new().block_on(async {
    /// let steps = [
    ///     Step::new("book", || "seat 7").compensate(|| "given back"),
    ///     Step::new("pay", || Err::<(), _>(StepError::from("no money"))),
    /// ];
    /// let error = Engine::builder().start()?.execute(steps).await.unwrap_err();
    /// assert!(matches!(&error, PlanError::Compensated { undone, .. } if *undone == ["book"]));
    /// assert!(matches!(error.why(), PlanError::StepFailed { step_id, .. } if step_id == "pay"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn why(&self) -> &Self {
        match self {
            Self::Compensated { source, .. } => source.why(),
            other => other,
        }
    }

    /// A run that would have ended with `source`, and came so far with undoing what it did.
    pub(crate) fn compensated(
        run_id: RunId,
        undoing: &Undoing,
        id: impl Fn(usize) -> String,
        source: Self,
    ) -> Self {
        let undone = undoing.undone.iter().map(|index| id(*index)).collect();
        let of = |NotUndone { step: index, failure }: &NotUndone| StepNotUndone {
            step_id: id(*index),
            index: *index,
            failure: Arc::clone(failure),
        };
        let not_undone = undoing.failed.iter().map(of).collect();
        Self::Compensated { run_id, undone, not_undone, source: Box::new(source) }
    }
}

/// What was undone and what was not, in a sentence.
pub(super) fn told(run_id: &RunId, undone: &[String], not_undone: &[StepNotUndone]) -> String {
    let quoted = |id: &String| format!("{id:?}");
    match (undone, not_undone) {
        (undone, []) => format!("what run {run_id} had done is undone: {}", list(undone, ", ", quoted)),
        ([], not_undone) => {
            format!(
                "what run {run_id} had done is not undone: {}",
                list(not_undone, ", ", ToString::to_string)
            )
        }
        (undone, not_undone) => format!(
            "what run {run_id} had done is undone only in part: {} undone, but not {}",
            list(undone, ", ", quoted),
            list(not_undone, ", ", ToString::to_string)
        ),
    }
}

/// The first few; the rest as a number.
pub(super) fn list<T>(items: &[T], between: &str, shown: impl Fn(&T) -> String) -> String {
    const SHOWN: usize = 5;
    let mut texts: Vec<String> = items.iter().take(SHOWN).map(shown).collect();
    if items.len() > SHOWN {
        texts.push(format!("and {} more", items.len() - SHOWN));
    }
    texts.join(between)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_named_as_there_is_room_for() {
        let told = |count: usize| list(&vec!["x"; count], ", ", ToString::to_string);
        assert_eq!([told(0), told(1), told(5)], ["", "x", "x, x, x, x, x"]);
        assert_eq!(told(7), "x, x, x, x, x, and 2 more");
    }
}
