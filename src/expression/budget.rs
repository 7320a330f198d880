//! What the expressions of one input may read together.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::EXPRESSION_READS;

#[derive(Debug)]
pub(super) struct Budget(AtomicU64);

impl Budget {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(EXPRESSION_READS))
    }

    /// Takes this much. False, from then on, when there is no more.
    pub(super) fn take(&self, units: usize) -> bool {
        let units = u64::try_from(units).unwrap_or(u64::MAX);
        let left = self.0.load(Ordering::Relaxed);
        let rest = left.checked_sub(units);
        self.0.store(rest.unwrap_or(0), Ordering::Relaxed);
        rest.is_some_and(|rest| rest > 0)
    }

    pub(super) fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}
