use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::feed::Feed;
use super::queue::Queue;
use crate::event::{Event, Pattern};

/// A subscription of a closure or an actor.
///
/// It lives as long as the bus, whether this handle is kept or dropped, unless [`end`](Self::end) is called or the
/// actor is gone. Cloning gives another handle to the same subscription.
#[derive(Clone)]
pub struct Subscription {
    pattern: Pattern,
    queue: Arc<Queue>,
}

impl Subscription {
    pub(crate) fn new(pattern: Pattern, queue: Arc<Queue>) -> Self {
        Self { pattern, queue }
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// Ends it: the subscriber is not called again once a call that is under way has returned.
    pub fn end(&self) {
        self.queue.end();
    }

    /// Whether events are still delivered.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.queue.is_active()
    }

    /// What it selects.
    #[must_use]
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// How often the subscriber returned an error or panicked.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.queue.failures()
    }

    /// How many events it missed because its queue was full, or the bus was behind. Those that a subscription with a
    /// [history](super::Subscribe::from) reads again are not among them.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.queue.missed()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("pattern", &self.pattern).finish_non_exhaustive()
    }
}

/// The events of a subscription, as a stream. It ends when the bus does; dropping it ends the subscription.
pub struct EventStream {
    feed: Feed,
    taken: VecDeque<Event>,
}

impl EventStream {
    pub(crate) fn new(feed: Feed) -> Self {
        Self { feed, taken: VecDeque::new() }
    }

    /// The next event, or `None` when the bus has stopped and everything was delivered.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// How many events it missed; see [`Subscription::missed`].
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.feed.subscription().missed()
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        loop {
            if let Some(event) = self.taken.pop_front() {
                return Poll::Ready(Some(event));
            }
            // Nobody waits until a stream has handled what it took, so the queue is not told.
            if !std::task::ready!(self.feed.poll_take(cx, &mut self.taken)) {
                return Poll::Ready(None);
            }
        }
    }
}

impl Stream for EventStream {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream")
            .field("pattern", self.feed.subscription().pattern())
            .finish_non_exhaustive()
    }
}
