//! What a subscriber gets next: from its queue or, where it asked for history, from the store.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix::WeakRecipient;
use tokio_util::sync::ReusableBoxFuture;

use super::account::Lost;
use super::history::{HistoryError, ReadEvents};
use super::queue::{Queue, Taken, lagged};
use super::subscription::Subscription;
use crate::causes::with_causes;
use crate::event::Event;
use crate::limits::SUBSCRIBER_BATCH;

/// The reader's end of a subscription. Dropping it ends the subscription.
pub(crate) struct Feed {
    subscription: Subscription,
    /// Boxed, since most have none.
    history: Option<Box<History>>,
}

/// A store that keeps what the queue loses.
struct History {
    store: WeakRecipient<ReadEvents>,
    replay: Option<Replay>,
    /// How many replays broke off.
    failures: u64,
}

/// A walk through the store, a page at a time, until it has no more than was handed out. Events that come meanwhile
/// wait in the queue, as many as there is room for.
struct Replay {
    /// Everything up to here was handed out, does not match, or is gone.
    upto: u64,
    /// What is behind this number was put into the queue as well.
    queued_behind: u64,
    page: Page,
}

enum Page {
    Wanted,
    Asked(ReusableBoxFuture<'static, Result<Vec<Event>, HistoryError>>),
    Read(Result<Vec<Event>, HistoryError>),
}

impl Feed {
    pub(crate) fn live(subscription: Subscription) -> Self {
        Self { subscription, history: None }
    }

    /// A feed that begins with what the store has behind `lost.after`.
    pub(crate) fn replaying(
        subscription: Subscription,
        store: WeakRecipient<ReadEvents>,
        lost: Lost,
    ) -> Self {
        let history = History { store, replay: Some(Replay::of(lost)), failures: 0 };
        Self { subscription, history: Some(Box::new(history)) }
    }

    pub(crate) fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        self.subscription.queue()
    }

    /// Reads the first page of the history, if there is to be one, to know early whether it can be read.
    pub(crate) async fn open(&mut self) -> Result<(), HistoryError> {
        let Some(history) = &mut self.history else { return Ok(()) };
        let Some(replay) = &mut history.replay else { return Ok(()) };
        let page = poll_fn(|cx| replay.poll_page(&history.store, cx)).await?;
        replay.page = Page::Read(Ok(page));
        Ok(())
    }

    /// Puts the next events into an empty list, about `SUBSCRIBER_BATCH` at most; answers `false` when there will be no
    /// more. The reader has handled those before, and tells the queue when it has handled these.
    pub(crate) fn poll_take(&mut self, cx: &mut Context<'_>, into: &mut VecDeque<Event>) -> Poll<bool> {
        loop {
            if let Some(history) = &mut self.history
                && history.replay.is_some()
            {
                match ready!(history.poll_replay(&self.subscription, cx, into)) {
                    Replayed::Events => return Poll::Ready(true),
                    Replayed::Ended => return Poll::Ready(false),
                    Replayed::All => {}
                }
            }
            match ready!(self.subscription.queue().poll_take(cx, SUBSCRIBER_BATCH, into)) {
                Taken::Events => return Poll::Ready(true),
                Taken::End => return Poll::Ready(false),
                Taken::Lost(lost) => {
                    if let Some(history) = &mut self.history {
                        history.replay = Some(Replay::of(lost));
                    }
                }
            }
        }
    }
}

/// Whoever read has let go, and no call is under way any more.
impl Drop for Feed {
    fn drop(&mut self) {
        self.queue().leave();
    }
}

/// What a replay came to.
enum Replayed {
    Events,
    /// The subscription has ended.
    Ended,
    /// The rest is in the queue.
    All,
}

impl History {
    fn poll_replay(
        &mut self,
        subscription: &Subscription,
        cx: &mut Context<'_>,
        into: &mut VecDeque<Event>,
    ) -> Poll<Replayed> {
        let queue = subscription.queue();
        while let Some(replay) = &mut self.replay {
            if queue.poll_ended(cx).is_ready() {
                return Poll::Ready(Replayed::Ended);
            }
            let got_on = match ready!(replay.poll_page(&self.store, cx)) {
                // At the end of the store there is nothing to give up, unless it has less than the bus was told of.
                Ok(page) => replay.hand_out(page, subscription, into) || replay.give_up(queue, into) > 0,
                // A store that calls gone what it has given before would have us ask for ever.
                Err(HistoryError::Gone { first, .. }) if first.saturating_sub(1) > replay.upto => {
                    replay.skip_gone(first - 1, queue, into) > 0
                }
                Err(error) => {
                    let missed = replay.give_up(queue, into);
                    self.failures += 1;
                    warn(subscription, &error, missed, self.failures);
                    missed > 0
                }
            };
            if !got_on {
                self.replay = None;
                queue.end_replay();
                break;
            }
            queue.replay(into.len(), replay.upto);
            if !into.is_empty() {
                return Poll::Ready(Replayed::Events);
            }
        }
        Poll::Ready(Replayed::All)
    }
}

impl Replay {
    fn of(Lost { after, upto }: Lost) -> Self {
        Self { upto: after, queued_behind: upto, page: Page::Wanted }
    }

    fn poll_page(
        &mut self,
        store: &WeakRecipient<ReadEvents>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<Event>, HistoryError>> {
        loop {
            match std::mem::replace(&mut self.page, Page::Wanted) {
                Page::Wanted => self.page = ask(store, self.upto),
                Page::Asked(mut page) => match page.poll(cx) {
                    Poll::Ready(page) => return Poll::Ready(page),
                    Poll::Pending => {
                        self.page = Page::Asked(page);
                        return Poll::Pending;
                    }
                },
                Page::Read(page) => return Poll::Ready(page),
            }
        }
    }

    /// Keeps the events that the subscriber wants. Answers whether any was new, wanted or not.
    fn hand_out(
        &mut self,
        page: Vec<Event>,
        subscription: &Subscription,
        into: &mut VecDeque<Event>,
    ) -> bool {
        let before = self.upto;
        for event in page {
            let Some(seq) = event.seq().filter(|seq| *seq > self.upto) else { continue };
            self.upto = seq;
            if subscription.pattern().matches(event.event_type()) {
                into.push_back(event);
            }
        }
        self.upto > before
    }

    /// The store has forgotten events up to this one. The queue may still have some of them.
    fn skip_gone(&mut self, upto: u64, queue: &Queue, into: &mut VecDeque<Event>) -> u64 {
        if upto > self.queued_behind { self.give_up(queue, into) } else { self.skip(upto, queue, into) }
    }

    /// Goes on behind events that cannot be had, and tells of them. Answers how many they are.
    fn skip(&mut self, upto: u64, queue: &Queue, into: &mut VecDeque<Event>) -> u64 {
        let missed = upto.saturating_sub(self.upto);
        if missed > 0 {
            self.upto = upto;
            queue.miss(missed);
            into.push_back(lagged(missed));
        }
        missed
    }

    /// Goes on with what is in the queue, as if the store had no more. Answers how many events are missed.
    fn give_up(&mut self, queue: &Queue, into: &mut VecDeque<Event>) -> u64 {
        self.page = Page::Read(Ok(Vec::new()));
        self.skip(self.queued_behind, queue, into)
    }
}

/// The memory is held no longer than it takes to ask: it holds the bus itself.
fn ask(store: &WeakRecipient<ReadEvents>, after: u64) -> Page {
    let Some(store) = store.upgrade() else { return Page::Read(Err(HistoryError::Stopped)) };
    let asked = store.send(ReadEvents::new(after, SUBSCRIBER_BATCH));
    Page::Asked(ReusableBoxFuture::new(async move { asked.await? }))
}

/// The 1st, 2nd, 4th, 8th … time is worth a line: a store that fails does so again and again.
fn warn(subscription: &Subscription, error: &HistoryError, missed: u64, failures: u64) {
    if !failures.is_power_of_two() {
        return;
    }
    let why = with_causes(error);
    let pattern = subscription.pattern().as_str();
    log::warn!(
        target: "lunacore::bus", pattern, missed, failures;
        "a replay for a subscriber broke off, and it goes on with what comes: {why}"
    );
}
