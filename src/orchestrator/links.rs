use std::sync::Arc;

use actix::{MailboxError, Recipient};

use super::abandoned::AbandonedCalls;
use crate::allocator::Resolve;
use crate::bus::{Backlog, Publish};
use crate::event::{Event, EventKind};
use crate::memory::{
    Attach, Commit, Committed, FindRun, GetRun, ListBreakers, ListRuns, ListUnfinished, MemoryError,
    RecordBreaker, RecordSignal,
};
use crate::run::RunId;

/// The orchestrator's view of the other actors: the messages they take, and nothing else.
pub(crate) struct Links {
    pub(crate) publish: Recipient<Publish>,
    pub(crate) commit: Recipient<Box<Commit>>,
    pub(crate) get_run: Recipient<GetRun>,
    pub(crate) find_run: Recipient<FindRun>,
    pub(crate) list_unfinished: Recipient<ListUnfinished>,
    pub(crate) list_runs: Recipient<ListRuns>,
    pub(crate) list_breakers: Recipient<ListBreakers>,
    pub(crate) record_breaker: Recipient<RecordBreaker>,
    pub(crate) record_signal: Recipient<RecordSignal>,
    pub(crate) attach: Recipient<Attach>,
    pub(crate) resolve: Recipient<Resolve>,
    /// Bounds the progress reports that wait for the bus.
    pub(crate) progress: Backlog,
    /// Bounds the runs that are looked up although the line is full.
    pub(crate) lookups: Backlog,
    pub(crate) abandoned: AbandonedCalls,
}

impl Links {
    /// A function that sends a run's progress to the bus, and drops it when the bus is far behind.
    pub(crate) fn progress_reporter(
        &self,
        run_id: RunId,
    ) -> impl Fn(Arc<str>, u32, serde_json::Value) + Send + Sync + 'static {
        // Weak, so that a context that is kept for ever does not keep the bus alive.
        let (publish, bound) = (self.publish.downgrade(), self.progress.clone());
        move |task_id, attempt, value| {
            if let (Some(publish), Some(place)) = (publish.upgrade(), bound.enter()) {
                let kind = EventKind::TaskProgress { task_id, attempt, value: Arc::new(value) };
                publish.do_send(Publish::ephemeral(Event::ephemeral(Some(run_id.clone()), kind), place));
            }
        }
    }
}

/// Memory's answer to a commit. The request is to be awaited to the end: actix skips a message whose asker is gone.
pub(crate) fn stored(
    answer: Result<Result<Committed, MemoryError>, MailboxError>,
) -> Result<Committed, MemoryError> {
    answer.unwrap_or(Err(MemoryError::Stopped))
}
