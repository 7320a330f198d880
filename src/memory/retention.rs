use std::time::{Duration, SystemTime};

/// What a memory keeps of what is over. By default everything, for ever.
///
/// Each rule that is set removes what it no longer covers; where two are about the same thing, what either of them would remove
/// goes. A memory that [was given one](crate::ProjectMemory::retention) applies it in the background, in small batches between
/// commits; [`Collect`](crate::Collect) does it at once.
///
/// ```
/// use lunacore::{Engine, ExecutePlan, Get, ListVersions, Retention, Step};
/// use std::time::Duration;
///
/// # #[actix::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let retention = Retention::new()
///     .keep_versions(10)
///     .keep_runs(1_000)
///     .keep_runs_for(Duration::from_secs(30 * 24 * 60 * 60));
/// let engine = Engine::builder().retention(retention).start()?;
/// for day in 1..=12 {
///     engine.execute(ExecutePlan::new([Step::new("report", move || day)])).await?;
/// }
/// let collected = engine.collect().await?;
/// assert_eq!((collected.versions, collected.runs), (2, 0));
/// let versions = engine.memory().send(ListVersions::new("task:report")).await??;
/// assert_eq!(versions, (3..=12).collect::<Vec<u64>>());
/// assert_eq!(engine.artifact(Get::latest("task:report")).await?.and_then(|report| report.text().map(str::to_owned)), Some("12".to_owned()));
/// # Ok(())
/// # }
/// ```
///
/// # What is spared
///
/// - A run that is not in a final state, with its plan and outputs; only the beginning of its history may go.
/// - The output that a run which is kept has stored, also where the artifact of it goes.
/// - What numbers go on from: the last version of each key, the run that was accepted last, the last event and its run.
///
/// # What goes with a run
///
/// Its record, its plan, its outputs, and all events up to its last one, so that those that are kept have no gap. A run that
/// is kept although it began before has lost the beginning of its history then:
/// [`HistoryGone`](crate::MemoryError::HistoryGone). Events that are younger than the end of the run do not go.
///
/// The artifacts of its steps stay, as results that persist across runs: only
/// [`keep_versions`](Self::keep_versions) and [`Delete`](crate::Delete) remove them. Which run has made them may be forgotten. Its id can be
/// given to another run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// Of each artifact key, at most so many versions: the last. At least 1.
    pub keep_versions: Option<u64>,
    /// At most so many finished runs: those that finished last.
    pub keep_runs: Option<u64>,
    /// Finished runs for so long after their end.
    pub keep_runs_for: Option<Duration>,
    /// Events for so long after they happened.
    pub keep_events_for: Option<Duration>,
}

impl Retention {
    /// Keeps everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps at most the last so many versions of each artifact key, those of results and all others; 0 is taken as 1.
    #[must_use]
    pub fn keep_versions(mut self, versions: u64) -> Self {
        self.keep_versions = Some(versions.max(1));
        self
    }

    /// Keeps at most so many finished runs: those that finished last.
    #[must_use]
    pub fn keep_runs(mut self, runs: u64) -> Self {
        self.keep_runs = Some(runs);
        self
    }

    /// Keeps finished runs for so long after their end.
    #[must_use]
    pub fn keep_runs_for(mut self, time: Duration) -> Self {
        self.keep_runs_for = Some(time);
        self
    }

    /// Keeps events for so long after they happened, also those of runs that are kept longer or that are not finished.
    ///
    /// Events go from the front only, in the order of their numbers. One whose time is in the future, since the clock was ahead
    /// when it was stored, keeps all those behind it until it is too old itself.
    #[must_use]
    pub fn keep_events_for(mut self, time: Duration) -> Self {
        self.keep_events_for = Some(time);
        self
    }

    /// Whether no rule is set.
    ///
    /// ```
    /// use lunacore::Retention;
    ///
    /// assert!(Retention::new().keeps_everything());
    /// assert!(!Retention::new().keep_runs(100).keeps_everything());
    /// ```
    #[must_use]
    pub fn keeps_everything(&self) -> bool {
        *self == Self::default()
    }

    /// For stores: runs that finished before this are kept no longer.
    #[must_use]
    pub fn runs_until(&self, now: SystemTime) -> Option<SystemTime> {
        self.keep_runs_for.and_then(|time| now.checked_sub(time))
    }

    /// For stores: events that happened before this are kept no longer.
    #[must_use]
    pub fn events_until(&self, now: SystemTime) -> Option<SystemTime> {
        self.keep_events_for.and_then(|time| now.checked_sub(time))
    }
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collected {
    /// Finished runs, each with its plan and outputs.
    pub runs: u64,
    /// Versions of artifacts.
    pub versions: u64,
    /// Events.
    pub events: u64,
    /// There may be more to remove. Never after [`Collect`](crate::Collect), which goes on to the end.
    pub more: bool,
}

impl Collected {
    /// So much, and whether there may be more.
    #[must_use]
    pub fn new(runs: u64, versions: u64, events: u64, more: bool) -> Self {
        Self { runs, versions, events, more }
    }

    /// This and what was removed next.
    ///
    /// ```
    /// use lunacore::Collected;
    ///
    /// let all = Collected::new(1, 0, 7, true).and(Collected::new(0, 2, 0, false));
    /// assert_eq!(all, Collected::new(1, 2, 7, false));
    /// ```
    #[must_use]
    pub fn and(self, next: Self) -> Self {
        Self {
            runs: self.runs + next.runs,
            versions: self.versions + next.versions,
            events: self.events + next.events,
            more: next.more,
        }
    }
}
