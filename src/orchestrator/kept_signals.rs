//! The signals that are kept for a run, as its task knows them. Pure.

use std::collections::BTreeSet;

use crate::memory::KeptSignal;

/// Those that no step has taken yet, in the order of their numbers.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeptSignals {
    kept: Vec<KeptSignal>,
    /// The numbers of all that were ever told: one that is told twice, and was taken in between, must not come back.
    told: BTreeSet<u64>,
}

impl KeptSignals {
    /// One more is stored; or it was told before.
    pub(crate) fn keep(&mut self, signal: KeptSignal) {
        if self.told.insert(signal.no) {
            let place = self.kept.partition_point(|other| other.no < signal.no);
            self.kept.insert(place, signal);
        }
    }

    /// The same for all of these, some of which may have been told or taken before.
    pub(crate) fn merge(&mut self, others: Self) {
        others.kept.into_iter().for_each(|signal| self.keep(signal));
    }

    /// The earliest of this name.
    pub(crate) fn first(&self, name: &str) -> Option<&KeptSignal> {
        self.kept.iter().find(|signal| *signal.name == *name)
    }

    /// That a step has taken this one is stored.
    pub(crate) fn take(&mut self, no: u64) {
        self.kept.retain(|signal| signal.no != no);
    }
}

impl FromIterator<KeptSignal> for KeptSignals {
    fn from_iter<I: IntoIterator<Item = KeptSignal>>(signals: I) -> Self {
        let mut kept = Self::default();
        signals.into_iter().for_each(|signal| kept.keep(signal));
        kept
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn signal(no: u64, name: &str) -> KeptSignal {
        KeptSignal::new(no, Arc::from(name), Arc::new(no.into()))
    }

    #[test]
    fn the_earliest_of_a_name_comes_first_whenever_it_was_told() {
        let mut kept: KeptSignals = [signal(4, "a"), signal(2, "b")].into_iter().collect();
        kept.keep(signal(3, "a"));
        assert_eq!(kept.first("a"), Some(&signal(3, "a")));
        assert_eq!(kept.first("b"), Some(&signal(2, "b")));
        assert_eq!(kept.first("c"), None);
    }

    #[test]
    fn one_that_was_taken_does_not_come_back() {
        let mut kept: KeptSignals = [signal(1, "a")].into_iter().collect();
        kept.keep(signal(1, "a"));
        kept.keep(signal(2, "a"));
        kept.take(1);
        kept.keep(signal(1, "a"));
        assert_eq!(kept.first("a"), Some(&signal(2, "a")));
        kept.take(2);
        assert_eq!(kept.first("a"), None);
    }
}
