//! Removing what is not kept any more: in the background, or because somebody asks for it.

use std::time::Duration;

use actix::{AsyncContext, Context, Handler, Message, ResponseFuture, WeakAddr};

use super::actor::ProjectMemory;
use super::error::MemoryError;
use super::retention::{Collected, Retention};
use super::write::{Answer, Write};
use crate::limits::{COLLECT_DELAY, COLLECT_INTERVAL, COLLECT_PAUSE};

/// Removes now, to the end, what the memory's [`Retention`] does not keep, or another one; answers what it was.
///
/// It goes batch by batch, between which commits come to their turn. What becomes too old meanwhile may stay until the next
/// time.
///
/// ```
/// use actix::prelude::*;
/// use lunacore::{Collect, ListVersions, ProjectMemory, Put, Retention};
///
/// # actix::System::new().block_on(async {
/// let memory = ProjectMemory::in_memory().start();
/// for text in ["first", "second", "third"] {
///     memory.send(Put::new("report", text)).await??;
/// }
/// let collected = memory.send(Collect::by(Retention::new().keep_versions(2))).await??;
/// assert_eq!(collected.versions, 1);
/// assert_eq!(memory.send(ListVersions::new("report")).await??, [2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Default, Message)]
#[rtype(result = "Result<Collected, MemoryError>")]
pub struct Collect {
    retention: Option<Retention>,
}

impl Collect {
    /// By the memory's own retention.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// By this one, this time.
    #[must_use]
    pub fn by(retention: Retention) -> Self {
        Self { retention: Some(retention) }
    }
}

/// One batch of it.
#[derive(Message)]
#[rtype(result = "Result<Collected, MemoryError>")]
pub(crate) struct CollectSome(Retention);

impl ProjectMemory {
    /// Keeps only what this says: what it does not cover is removed in the background, soon after the start and then every
    /// [`COLLECT_INTERVAL`], [`COLLECT_ROWS`](crate::limits::COLLECT_ROWS) at a time. By default everything is kept.
    ///
    /// ```
    /// use lunacore::{ProjectMemory, Retention};
    /// use std::time::Duration;
    ///
    /// let month = Duration::from_secs(30 * 24 * 60 * 60);
    /// let memory = ProjectMemory::in_memory().retention(Retention::new().keep_runs_for(month).keep_versions(100));
    /// # drop(memory);
    /// ```
    #[must_use]
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    pub(super) fn collect_from_time_to_time(&self, ctx: &mut Context<Self>) {
        if !self.retention.keeps_everything() {
            // It does not keep memory alive. Apart from the actor's own futures, which are all looked at whenever one goes on.
            actix::spawn(in_the_background(ctx.address().downgrade(), self.retention.clone()));
        }
    }
}

/// Until memory has stopped.
async fn in_the_background(memory: WeakAddr<ProjectMemory>, retention: Retention) {
    let mut pause = COLLECT_DELAY;
    while let Some(next) = wait_and_collect(pause, &memory, &retention).await {
        pause = next;
    }
}

/// One batch, after this pause; answers how long to wait for the next.
async fn wait_and_collect(
    pause: Duration,
    memory: &WeakAddr<ProjectMemory>,
    retention: &Retention,
) -> Option<Duration> {
    tokio::time::sleep(pause).await;
    match memory.upgrade()?.send(CollectSome(retention.clone())).await.ok()? {
        Ok(Collected { more: true, .. }) => Some(COLLECT_PAUSE),
        Ok(_) => Some(COLLECT_INTERVAL),
        Err(MemoryError::ReadOnly) => {
            log::warn!(target: "lunacore::memory", "the store is open for reading only, so nothing is removed from it");
            None
        }
        Err(error) => {
            log::error!(
                target: "lunacore::memory",
                "what is not kept any more could not be removed, and will be tried again: {error}"
            );
            Some(COLLECT_INTERVAL)
        }
    }
}

impl Handler<CollectSome> for ProjectMemory {
    type Result = Answer<Result<Collected, MemoryError>>;

    fn handle(&mut self, CollectSome(retention): CollectSome, ctx: &mut Self::Context) -> Self::Result {
        self.write(Write::Collect(Box::new(retention)), ctx)
    }
}

impl Handler<Collect> for ProjectMemory {
    type Result = ResponseFuture<Result<Collected, MemoryError>>;

    fn handle(&mut self, Collect { retention }: Collect, ctx: &mut Self::Context) -> Self::Result {
        let (memory, retention) = (ctx.address(), retention.unwrap_or_else(|| self.retention.clone()));
        Box::pin(async move {
            let mut all = Collected::default();
            loop {
                all = all.and(memory.send(CollectSome(retention.clone())).await??);
                if !all.more {
                    return Ok(all);
                }
            }
        })
    }
}
