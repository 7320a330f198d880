//! The bounded queue of one subscriber. The bus fills it and never waits; whoever serves the subscriber empties it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;

use super::account::{Account, Lost, Mark};
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
    /// Kept where lost events can be read again: then they are not missed.
    account: Option<Account>,
}

/// What a reader got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Events to handle; the reader says when it has handled them.
    Events,
    /// Stored events were lost. They are to be read again before more is taken, with everything behind them.
    Lost(Lost),
    /// There will be no more.
    End,
}

impl Queue {
    pub(crate) fn new(capacity: usize) -> Arc<Self> {
        Self::build(capacity, Inner::default())
    }

    /// A queue of which lost events can be read again. Its reader begins with a replay; see [`Account::new`].
    pub(crate) fn with_account(capacity: usize, account: Account) -> Arc<Self> {
        Self::build(capacity, Inner { account: Some(account), ..Inner::default() })
    }

    fn build(capacity: usize, inner: Inner) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new(inner), capacity, progress: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds events, behind a mark for those that were lost before them; the oldest make room. `upto` is the last stored
    /// event that has gone past with them. Answers `false` when the subscription has ended.
    pub(crate) fn push<'a>(
        &self,
        events: impl Iterator<Item = &'a Event>,
        lost_before: u64,
        upto: u64,
    ) -> bool {
        let mut inner = self.lock();
        if inner.ended {
            return false;
        }
        let pushed = inner.pushed;
        if lost_before > 0 {
            inner.lose(lost_before, self.capacity);
        }
        for event in events {
            inner.append(event.clone(), self.capacity);
        }
        if let Some(account) = &mut inner.account {
            account.pass(upto);
        }
        let news = lost_before > 0 || inner.pushed > pushed;
        let reader = if news { inner.reader.take() } else { None };
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
        let mut skipped = false;
        let taken = loop {
            match self.lock().poll_take(cx, most, into) {
                // All that was taken had been replayed.
                Poll::Ready(Taken::Events) if into.is_empty() => skipped = true,
                taken => break taken,
            }
        };
        if skipped {
            self.progress.notify_waiters();
        }
        taken
    }

    /// Ready when the subscription has ended; or else the reader is woken when it does.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.ended {
            return Poll::Ready(());
        }
        inner.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The reader gets this many events of a replay, which has come to `upto` with them.
    pub(crate) fn replay(&self, count: usize, upto: u64) {
        let mut inner = self.lock();
        inner.in_hand = count as u64;
        if let Some(account) = &mut inner.account {
            account.replay(upto);
        }
        drop(inner);
        self.progress.notify_waiters();
    }

    /// The reader has handled the last events of a replay, and goes on with the queue.
    pub(crate) fn end_replay(&self) {
        if let Some(account) = &mut self.lock().account {
            account.end_replay();
        }
        self.progress.notify_waiters();
    }

    /// Counts stored events that cannot be read again.
    pub(crate) fn miss(&self, count: u64) {
        self.lock().missed += count;
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
        let behind = inner.account.as_ref().is_some_and(Account::is_behind);
        !inner.ended && (!inner.closed || behind || !inner.events.is_empty())
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.lock().ended
    }

    /// What was delivered so far: a mark for [`handled_up_to`](Self::handled_up_to).
    pub(crate) fn mark(&self) -> Mark {
        let inner = self.lock();
        Mark { pushed: inner.pushed, seq: inner.account.as_ref().map_or(0, Account::passed) }
    }

    /// Waits until everything before the mark has been handled or dropped.
    pub(crate) async fn handled_up_to(&self, mark: Mark) {
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

    fn poll_take(&mut self, cx: &mut Context<'_>, most: usize, into: &mut VecDeque<Event>) -> Poll<Taken> {
        if self.ended {
            return Poll::Ready(Taken::End);
        }
        if let Some(lost) = self.account.as_mut().and_then(Account::begin_replay) {
            return Poll::Ready(Taken::Lost(lost));
        }
        if self.untold == 0 && self.events.is_empty() {
            if self.closed {
                return Poll::Ready(Taken::End);
            }
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let untold = std::mem::take(&mut self.untold);
        if untold == 0 && self.events.len() <= most {
            // The common case: the two lists change places, and nothing is copied.
            std::mem::swap(&mut self.events, into);
        } else {
            if untold > 0 {
                into.push_back(lagged(untold));
            }
            let count = (most - into.len()).min(self.events.len());
            into.extend(self.events.drain(..count));
        }
        let taken = into.len();
        if let Some(account) = &self.account {
            into.retain(|event| !account.was_replayed(event.seq()));
        }
        // Those that are left out count as handled only with the last of the others: each of these stood at its place in
        // the batch, or behind it.
        self.in_hand = into.len() as u64;
        self.hand_end = self.front() - (taken - into.len()) as u64;
        Poll::Ready(Taken::Events)
    }

    /// What lies before the front has been handled or dropped, but for what the reader has in hand. What a replay brings
    /// has no place in the queue.
    fn is_handled(&self, mark: Mark) -> bool {
        let (in_hand, account) = (self.in_hand > 0, self.account.as_ref());
        let replaying = account.is_some_and(Account::is_replaying);
        let front =
            if in_hand && !replaying { self.hand_end.saturating_sub(self.in_hand) } else { self.front() };
        let stored = account.is_none_or(|account| account.handled(in_hand) >= mark.seq);
        self.ended || (front >= mark.pushed && stored)
    }

    /// The bus has left out this many stored events.
    fn lose(&mut self, count: u64, capacity: usize) {
        let Some(account) = &mut self.account else {
            self.missed += count;
            self.append(lagged(count), capacity);
            return;
        };
        // A replay comes before what is in the queue, so it begins with that.
        let passed = account.passed();
        let first = self.events.iter().find_map(Event::seq);
        account.lose(first.map_or(passed, |seq| seq.saturating_sub(1)), passed + count);
    }

    fn append(&mut self, event: Event, capacity: usize) {
        if self.events.len() >= capacity
            && let Some(oldest) = self.events.pop_front()
        {
            match (&mut self.account, oldest.seq()) {
                (Some(account), Some(seq)) => account.lose(seq.saturating_sub(1), seq),
                // Nobody can read it again. It is counted, and not told: the reader was promised what is stored.
                (Some(_), None) => self.missed += 1,
                (None, _) => self.make_room(&oldest),
            }
        }
        self.events.push_back(event);
        self.pushed += 1;
    }

    fn make_room(&mut self, oldest: &Event) {
        // A mark that makes room hands its count on; it has been counted as missed before.
        if let EventKind::SubscriptionLagged { missed } = oldest.kind() {
            self.untold += missed;
        } else {
            self.untold += 1;
            self.missed += 1;
        }
    }
}

/// Tells a subscriber how many events it has missed here.
pub(crate) fn lagged(missed: u64) -> Event {
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
                prop_assert!(queue.push(events.iter(), 0, 0));
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
