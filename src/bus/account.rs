//! What a queue knows of the store behind it, when what it loses can be read again.

/// A stretch of stored events that the queue does not hold: those behind `after`, up to `upto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) after: u64,
    pub(crate) upto: u64,
}

/// What was delivered up to a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    /// Events put into the queue.
    pub(crate) pushed: u64,
    /// The last stored event, in the queue or not.
    pub(crate) seq: u64,
}

/// Which stored events went past a queue, which of them it lost, and how far a replay has come. All are sequence
/// numbers of one store.
#[derive(Debug)]
pub(crate) struct Account {
    /// The last event that went past, whether it matched or not.
    passed: u64,
    /// What no replay has begun to fetch. What is before it the reader has taken from the queue, or did not want.
    lost: Option<Lost>,
    replaying: bool,
    /// What the replay has handed out. In the queue, events up to here are there a second time.
    replayed: u64,
    /// The same before its last batch, which the reader may still have in hand.
    replayed_before: u64,
}

impl Account {
    /// Of a queue that comes in where `passed` events are stored, for a reader who has those up to `after`: a replay is
    /// under way from the beginning.
    pub(crate) fn new(after: u64, passed: u64) -> Self {
        Self { passed, lost: None, replaying: true, replayed: after, replayed_before: after }
    }

    pub(crate) fn passed(&self) -> u64 {
        self.passed
    }

    pub(crate) fn pass(&mut self, upto: u64) {
        self.passed = self.passed.max(upto);
    }

    /// A stretch is not in the queue. What lies between two such is in it, but is fetched with them: the reader goes
    /// from one number to the next.
    pub(crate) fn lose(&mut self, after: u64, upto: u64) {
        let known = self.lost.unwrap_or(Lost { after, upto });
        self.lost = Some(Lost { after: known.after.min(after), upto: known.upto.max(upto) });
    }

    /// Begins a replay, if one is needed.
    pub(crate) fn begin_replay(&mut self) -> Option<Lost> {
        let Lost { after, upto } = self.lost.take()?;
        // The replay before may have come across it.
        if upto <= self.replayed {
            return None;
        }
        (self.replaying, self.replayed) = (true, self.replayed.max(after));
        self.replayed_before = self.replayed;
        Some(Lost { after: self.replayed, upto })
    }

    /// The reader asks for more, so it has handled what it had, and gets the events up to this one.
    pub(crate) fn replay(&mut self, upto: u64) {
        (self.replayed_before, self.replayed) = (self.replayed, upto);
    }

    pub(crate) fn end_replay(&mut self) {
        self.replaying = false;
    }

    /// Whether this event, which is in the queue, was handed out by a replay.
    pub(crate) fn was_replayed(&self, seq: Option<u64>) -> bool {
        seq.is_some_and(|seq| seq <= self.replayed)
    }

    pub(crate) fn is_replaying(&self) -> bool {
        self.replaying
    }

    /// Whether only the store has the next event.
    pub(crate) fn is_behind(&self) -> bool {
        self.replaying || self.lost.is_some()
    }

    /// Up to where all events that are not in the queue have been handled, when the reader has, or has not, some in hand.
    pub(crate) fn handled(&self, in_hand: bool) -> u64 {
        match self.lost {
            _ if self.replaying && in_hand => self.replayed_before,
            _ if self.replaying => self.replayed,
            Some(lost) => lost.after.max(self.replayed),
            None => u64::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Wake, Waker};
    use std::time::SystemTime;

    use super::super::queue::Queue;
    use super::*;
    use crate::event::{Event, EventKind};
    use crate::run::RunId;

    fn live(passed: u64) -> Account {
        let mut account = Account::new(0, passed);
        account.replay(passed);
        account.end_replay();
        account
    }

    #[test]
    fn stretches_are_fetched_together_and_once() {
        let mut account = live(10);
        account.pass(20);
        account.lose(14, 15);
        account.lose(20, 25);
        account.lose(12, 13);
        assert_eq!(account.begin_replay(), Some(Lost { after: 12, upto: 25 }));
        account.lose(26, 27);
        account.replay(30);
        account.end_replay();
        assert_eq!(account.begin_replay(), None, "the replay came across it");
        assert!(
            account.was_replayed(Some(30)) && !account.was_replayed(Some(31)) && !account.was_replayed(None)
        );
    }

    /// It comes from the store before the bus hears of it, and the bus is flushed before the reader sees it again.
    #[test]
    fn an_event_that_comes_a_second_time_holds_up_no_flush() {
        let queue = Queue::with_account(4, live(5));
        let event = Event::stored(5, SystemTime::now(), RunId::random(), EventKind::PlanStarted {});
        assert!(queue.push([event].iter(), 0, 5));
        let woken = Arc::new(Woken::default());
        let (flushing, mut reading) = (Waker::from(Arc::clone(&woken)), VecDeque::new());
        let mut flushed = Box::pin(queue.handled_up_to(queue.mark()));
        assert!(flushed.as_mut().poll(&mut Context::from_waker(&flushing)).is_pending());
        assert!(queue.poll_take(&mut Context::from_waker(Waker::noop()), 9, &mut reading).is_pending());
        assert!(woken.0.load(Ordering::SeqCst) && reading.is_empty());
        assert!(flushed.as_mut().poll(&mut Context::from_waker(&flushing)).is_ready());
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_is_in_hand_is_not_handled() {
        let mut account = Account::new(4, 20);
        assert_eq!((account.handled(false), account.is_behind()), (4, true));
        account.replay(9);
        assert_eq!((account.handled(true), account.handled(false)), (4, 9));
        account.replay(20);
        assert_eq!((account.handled(true), account.handled(false)), (9, 20));
        account.end_replay();
        assert_eq!((account.handled(false), account.is_behind()), (u64::MAX, false));
        account.lose(22, 23);
        assert_eq!((account.handled(false), account.is_behind()), (22, true));
    }
}
