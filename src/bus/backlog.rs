//! A bound on what waits for the bus.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the messages of one sender that wait for the bus. A semaphore could do it, but nobody ever waits here, and this
/// costs a quarter.
#[derive(Debug, Clone)]
pub(crate) struct Backlog {
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

/// One message's place in the backlog, given back when the message is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Backlog {
    pub(crate) fn new(limit: usize) -> Self {
        Self { waiting: Arc::default(), limit }
    }

    /// A place for one more message; `None` when there are `limit`.
    pub(crate) fn enter(&self) -> Option<Place> {
        // Counted before it is compared, so that two threads cannot both take the last place.
        let place = Place(Arc::clone(&self.waiting));
        if self.waiting.fetch_add(1, Ordering::Relaxed) < self.limit { Some(place) } else { None }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let backlog = Backlog::new(2);
        let first = backlog.enter();
        let second = backlog.enter();
        assert!(first.is_some() && second.is_some() && backlog.enter().is_none());
        drop(first);
        assert!(backlog.enter().is_some());
    }
}
