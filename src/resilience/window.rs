use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::limits::BREAKER_BUCKETS;

/// What happened lately, as sums over parts of a time window: the partial aggregation of resilience4j's time-based
/// sliding window. A call leaves the window between a part's width before its age is the window's, and that age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    /// In nanoseconds, not 0.
    width: u128,
    /// By slot, the oldest first; no slot twice, none older than the window, so at most [`BREAKER_BUCKETS`].
    buckets: VecDeque<Bucket>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    /// Which part of all time it is, counted from the epoch.
    slot: u128,
    calls: u64,
    failures: u64,
}

/// Calls and failures of a whole window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) calls: u64,
    pub(super) failures: u64,
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        let width = length.as_nanos().div_ceil(u128::from(BREAKER_BUCKETS)).max(1);
        Self { width, buckets: VecDeque::new() }
    }

    /// Counts a call that was over at `now`.
    pub(super) fn count(&mut self, now: SystemTime, failed: bool) {
        let slots = u128::from(BREAKER_BUCKETS);
        let mut slot = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() / self.width;
        match self.buckets.back() {
            // A clock that was set back a little counts to the newest part. One that was set back by more than the
            // window would stay there for as long, with nothing ever leaving: what was counted has no place in time now.
            Some(newest) if newest.slot >= slot + slots => self.buckets.clear(),
            Some(newest) => slot = slot.max(newest.slot),
            None => {}
        }
        while self.buckets.front().is_some_and(|oldest| oldest.slot + slots <= slot) {
            self.buckets.pop_front();
        }
        match self.buckets.back_mut() {
            Some(newest) if newest.slot == slot => newest.count(failed),
            _ => {
                let mut bucket = Bucket { slot, calls: 0, failures: 0 };
                bucket.count(failed);
                self.buckets.push_back(bucket);
            }
        }
    }

    /// The sums as of the call that was counted last.
    pub(super) fn sums(&self) -> Sums {
        self.buckets.iter().fold(Sums::default(), |sums, bucket| Sums {
            calls: sums.calls + bucket.calls,
            failures: sums.failures + bucket.failures,
        })
    }

    #[cfg(test)]
    pub(super) fn buckets(&self) -> usize {
        self.buckets.len()
    }
}

impl Bucket {
    fn count(&mut self, failed: bool) {
        self.calls += 1;
        self.failures += u64::from(failed);
    }
}
