//! The bounded queue of one subscriber. The bus fills it and never waits; whoever serves the subscriber empties it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use crate::event::{Event, EventKind};

/// One subscriber's events. Ours rather than a channel of tokio's: it drops the oldest and counts, takes and gives
/// in batches under one lock, and knows when everything has been handled.
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    capacity: usize,
    /// Told whenever the reader gets on.
    progress: Notify,
}

#[derive(Default)]
struct Inner {
    events: VecDeque<Event>,
    /// Dropped since the last `subscription.lagged`.
    untold: u64,
    /// Events put in since the beginning; also the position of the next one.
    pushed: u64,
    /// Events of the last batch that the reader has not handled yet.
    in_hand: u64,
    /// The position behind that batch.
    hand_end: u64,
    missed: u64,
    failures: u64,
    /// The subscriber wants no more.
    ended: bool,
    /// The bus has stopped: what is queued is still delivered.
    closed: bool,
    /// Whoever served the subscriber has let go of it.
    left: bool,
    reader: Option<Waker>,
}

/// What a reader got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Events to handle; the reader says when it has handled them.
    Events,
    /// There will be no more.
    End,
}

impl Queue {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), capacity, progress: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds events, behind a mark for those that were lost before them; the oldest make room. Answers `false` when the
    /// subscription has ended.
    pub(crate) fn push<'a>(&self, events: impl Iterator<Item = &'a Event>, lost_before: u64) -> bool {
        let mut inner = self.lock();
        if inner.ended {
            return false;
        }
        let pushed = inner.pushed;
        if lost_before > 0 {
            inner.missed += lost_before;
            inner.append(lagged(lost_before), self.capacity);
        }
        for event in events {
            inner.append(event.clone(), self.capacity);
        }
        let reader = if inner.pushed > pushed { inner.reader.take() } else { None };
        drop(inner);
        if let Some(reader) = reader {
            reader.wake();
        }
        true
    }

    /// Moves at most `most` events into an empty list, after one that tells of those that were missed.
    pub(crate) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        most: usize,
        into: &mut VecDeque<Event>,
    ) -> Poll<Taken> {
        let mut inner = self.lock();
        if inner.ended {
            return Poll::Ready(Taken::End);
        }
        if inner.untold == 0 && inner.events.is_empty() {
            if inner.closed {
                return Poll::Ready(Taken::End);
            }
            inner.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let untold = std::mem::take(&mut inner.untold);
        if untold == 0 && inner.events.len() <= most {
            // The common case: the two lists change places, and nothing is copied.
            std::mem::swap(&mut inner.events, into);
            inner.hand_over(into.len());
            return Poll::Ready(Taken::Events);
        }
        if untold > 0 {
            into.push_back(lagged(untold));
        }
        let count = (most - into.len()).min(inner.events.len());
        into.extend(inner.events.drain(..count));
        inner.hand_over(into.len());
        Poll::Ready(Taken::Events)
    }

    /// The reader has handled this many events of a batch, and failed at some.
    pub(crate) fn handled(&self, count: u64, failures: u64) {
        let mut inner = self.lock();
        inner.in_hand = inner.in_hand.saturating_sub(count);
        inner.failures += failures;
        drop(inner);
        self.progress.notify_waiters();
    }

    /// Ends the subscription: nothing more is delivered.
    pub(crate) fn end(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        inner.events.clear();
        let reader = inner.reader.take();
        drop(inner);
        self.progress.notify_waiters();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Ends it, and says that no call is under way any more either.
    pub(crate) fn leave(&self) {
        self.lock().left = true;
        self.end();
    }

    /// Whether it takes no place on the bus any more.
    pub(crate) fn has_left(&self) -> bool {
        self.lock().left
    }

    /// The bus has stopped: the reader ends once it has taken everything.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let reader = inner.reader.take();
        drop(inner);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        let inner = self.lock();
        !inner.ended && (!inner.closed || !inner.events.is_empty())
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.lock().ended
    }

    /// How many events were put in so far: a mark for [`handled_up_to`](Self::handled_up_to).
    pub(crate) fn mark(&self) -> u64 {
        self.lock().pushed
    }

    /// Waits until everything before the mark has been handled or dropped.
    pub(crate) async fn handled_up_to(&self, mark: u64) {
        loop {
            // Made before the look, so that nothing is missed between the two.
            let progress = self.progress.notified();
            if self.lock().is_handled(mark) {
                return;
            }
            progress.await;
        }
    }

    pub(crate) fn failures(&self) -> u64 {
        self.lock().failures
    }

    pub(crate) fn missed(&self) -> u64 {
        self.lock().missed
    }
}

impl Inner {
    /// The position of the first event in the queue.
    fn front(&self) -> u64 {
        self.pushed - self.events.len() as u64
    }

    fn hand_over(&mut self, count: usize) {
        (self.in_hand, self.hand_end) = (count as u64, self.front());
    }

    /// What lies before the front has been handled or dropped, but for what the reader has in hand.
    fn is_handled(&self, mark: u64) -> bool {
        let done = if self.in_hand > 0 { self.hand_end.saturating_sub(self.in_hand) } else { self.front() };
        self.ended || done >= mark
    }

    fn append(&mut self, event: Event, capacity: usize) {
        if self.events.len() >= capacity
            && let Some(oldest) = self.events.pop_front()
        {
            // A mark that makes room hands its count on; it has been counted as missed before.
            if let EventKind::SubscriptionLagged { missed } = oldest.kind() {
                self.untold += missed;
            } else {
                self.untold += 1;
                self.missed += 1;
            }
        }
        self.events.push_back(event);
        self.pushed += 1;
    }
}

fn lagged(missed: u64) -> Event {
    Event::ephemeral(None, EventKind::SubscriptionLagged { missed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn take(queue: &Queue, most: usize) -> Vec<String> {
        let mut events = VecDeque::new();
        match queue.poll_take(&mut Context::from_waker(Waker::noop()), most, &mut events) {
            Poll::Ready(Taken::Events) => {
                queue.handled(events.len() as u64, 0);
                events
                    .iter()
                    .map(|event| match event.kind() {
                        EventKind::SubscriptionLagged { missed } => format!("missed {missed}"),
                        _ => event.event_type().to_owned(),
                    })
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    proptest! {
        /// Against a plain model: every event comes once and in order, or is counted as missed just before the next.
        #[test]
        fn nothing_is_lost_uncounted(
            capacity in 1_usize..5,
            moves in proptest::collection::vec((0_usize..7, 1_usize..5), 1..30),
        ) {
            let queue = Queue::new(capacity);
            let (mut sent, mut expected) = (0_usize, 0_usize);
            for (push, most) in moves {
                let events: Vec<Event> =
                    (sent..sent + push).map(|n| Event::custom(n.to_string(), json!(null))).collect();
                sent += push;
                prop_assert!(queue.push(events.iter(), 0));
                for got in take(&queue, most) {
                    match got.strip_prefix("missed ") {
                        Some(missed) => expected += missed.parse::<usize>().unwrap(),
                        None => {
                            prop_assert_eq!(got.parse::<usize>().unwrap(), expected);
                            expected += 1;
                        }
                    }
                }
            }
            while !take(&queue, 3).is_empty() {}
            let mark = queue.mark();
            prop_assert!(queue.lock().is_handled(mark));
        }
    }
}
