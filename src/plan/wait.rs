//! Steps that call nothing, and wait.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::callable::Callable;
use super::step::Step;
use crate::id::rfc3339;

/// What a step waits for that calls nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Wait {
    /// So much time, from when its turn comes.
    Sleep(Duration),
    /// This time, to the microsecond. One that has passed is not waited for.
    Until(#[serde(with = "rfc3339")] SystemTime),
    /// A signal of this name.
    Signal(Arc<str>),
}

/// # Steps that wait
///
/// They call nothing. While its run waits it holds no slot, so that other plans run, and what it waits for is stored: a restart
/// does not begin a wait anew.
///
/// ```
/// # actix::System::new().block_on(async {
/// use lunacore::{Engine, ExecutePlan, Signal, Step, StepContext};
/// use std::time::Duration;
///
/// let steps = [
///     Step::new("offer", || "3 nights, 420 €"),
///     Step::sleep("cool-down", Duration::from_millis(20)),
///     Step::wait_for_signal("approval", "decision").timeout(Duration::from_secs(86_400)),
///     Step::new("book", |ctx: StepContext| async move { ctx.output::<String>("approval") }),
/// ];
/// let engine = Engine::builder().start()?;
/// let run = engine.submit(ExecutePlan::new(steps)).await?;
/// engine.signal(Signal::new(run.run_id().clone(), "decision").payload("yes")).await?; // early: it is kept
/// assert_eq!(run.await?[2..], ["yes", "yes"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// Such a step takes a [condition](Self::condition) and [what follows from a failure](Self::on_failure), and one that waits for a
/// signal a [timeout](Self::timeout), which counts from when its turn came, also while the run is paused and while its process is
/// down. What else a step may have is refused.
///
/// A signal that is kept counts until the failure of its step is stored, also where it came after the timeout, and where the slot to go on
/// with comes after it. The [deadline](crate::ExecutePlan::deadline) of the plan ends every wait. Such a step has one attempt, which
/// begins with `task.sleeping` or `task.awaiting_signal`, in place of `task.started`; that of its fallback is the second.
impl Step {
    /// A step that waits so long, [`MAX_WAIT`](crate::limits::MAX_WAIT) at most, from when its turn comes. Its output is null.
    pub fn sleep(id: impl Into<Arc<str>>, time: Duration) -> Self {
        Self::waiting(id.into(), Wait::Sleep(time))
    }

    /// A step that waits until this time, to the microsecond. If that has passed when its turn comes, it completes at once. Its
    /// output is null.
    pub fn sleep_until(id: impl Into<Arc<str>>, time: SystemTime) -> Self {
        Self::waiting(id.into(), Wait::Until(crate::id::to_micros(time)))
    }

    /// A step that waits until its run is sent a [signal](crate::Signal) of this name. The signal's payload is its output.
    ///
    /// Each signal is taken once, by the first step that waits for its name; one that was sent before is kept until then.
    pub fn wait_for_signal(id: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self::waiting(id.into(), Wait::Signal(name.into()))
    }

    /// What it waits for, if it is a step that calls nothing.
    #[must_use]
    pub fn wait(&self) -> Option<&Wait> {
        self.record().wait.as_ref()
    }
}

/// What stands where others have their callable. It is never called.
pub(super) fn nothing() -> Callable {
    Callable::new(|| ())
}
