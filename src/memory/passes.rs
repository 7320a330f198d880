//! Which keys are to be looked at next for old versions: in batches, between which others come to their turn.

use std::collections::BTreeSet;

use crate::limits::{COLLECT_PASSES, COLLECT_WRITTEN};

/// A pass over all keys for each number of versions that was asked for: they must not disturb each other.
#[derive(Debug)]
pub(super) struct Passes<K>(Vec<Pass<K>>);

/// One of them: first all keys, and from then on those that were written to.
#[derive(Debug)]
pub(super) struct Pass<K> {
    keep: u64,
    place: Place<K>,
    /// Keys that have been written to where it had come by.
    written: BTreeSet<K>,
    /// They were too many to be remembered: it looks at all once more.
    again: bool,
}

#[derive(Debug)]
enum Place<K> {
    /// Behind this key, or before the first.
    Behind(Option<K>),
    /// It has come by all.
    Done,
}

impl<K> Default for Passes<K> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord + Clone> Passes<K> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A key has a version more.
    pub(super) fn note(&mut self, key: &K) {
        for pass in &mut self.0 {
            pass.note(key);
        }
    }

    /// The pass for this number of versions. Where there is no room for it, it is another one, which has to come to its end first.
    pub(super) fn of(&mut self, keep: u64) -> &mut Pass<K> {
        let place = self.0.iter().position(|pass| pass.keep == keep).unwrap_or_else(|| {
            if self.0.len() >= COLLECT_PASSES {
                match self.0.iter().position(|pass| matches!(pass.place, Place::Done)) {
                    Some(done) => drop(self.0.remove(done)),
                    None => return 0,
                }
            }
            self.0.push(Pass::new(keep));
            self.0.len() - 1
        });
        &mut self.0[place]
    }

    /// Nobody need know any more what was written to since: who asks for it next looks at all keys.
    pub(super) fn forget(&mut self, keep: u64) {
        self.0.retain(|pass| pass.keep != keep);
    }
}

impl<K: Ord + Clone> Pass<K> {
    fn new(keep: u64) -> Self {
        Self { keep, place: Place::Behind(None), written: BTreeSet::new(), again: false }
    }

    /// How many versions it leaves of each key.
    pub(super) fn keep(&self) -> u64 {
        self.keep
    }

    fn note(&mut self, key: &K) {
        let comes_by = match &self.place {
            Place::Behind(passed) => passed.as_ref().is_none_or(|passed| key > passed),
            Place::Done => false,
        };
        if comes_by || self.again {
            return;
        }
        self.written.insert(key.clone());
        if self.written.len() > COLLECT_WRITTEN {
            self.written.clear();
            // It comes to its end first: it might begin anew for ever, and never get to the last keys.
            self.again = true;
        }
    }

    /// The key to look at next, if there is one; `behind` tells the first behind a key, or the first of all.
    pub(super) fn next<E>(
        &mut self,
        behind: impl Fn(Option<&K>) -> Result<Option<K>, E>,
    ) -> Result<Option<K>, E> {
        loop {
            if let Place::Behind(passed) = &self.place {
                match behind(passed.as_ref())? {
                    None => self.place = Place::Done,
                    key => return Ok(key),
                }
            }
            if !std::mem::take(&mut self.again) {
                return Ok(self.written.first().cloned());
            }
            self.place = Place::Behind(None);
        }
    }

    /// This key, which came next, has no old versions any more.
    pub(super) fn looked_at(&mut self, key: K) {
        self.written.remove(&key);
        if let Place::Behind(passed) = &mut self.place {
            *passed = Some(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: usize = 3 * COLLECT_WRITTEN;

    fn next(pass: &mut Pass<usize>) -> Option<usize> {
        let behind =
            |passed: Option<&usize>| Ok(Some(passed.map_or(0, |key| key + 1)).filter(|key| *key < KEYS));
        let Ok::<_, std::convert::Infallible>(key) = pass.next(behind);
        key
    }

    /// So many keys; answers whether there were as many.
    fn look_at(pass: &mut Pass<usize>, keys: usize) -> bool {
        (0..keys).all(|_| next(pass).map(|key| pass.looked_at(key)).is_some())
    }

    #[test]
    fn a_pass_comes_to_its_end_however_much_is_written_meanwhile() {
        let mut passes = Passes::default();
        assert!(look_at(passes.of(1), COLLECT_WRITTEN + 1));
        let mut last = 0;
        for _ in 0..KEYS / 1_000 {
            (0..=COLLECT_WRITTEN).for_each(|key| passes.note(&key));
            let pass = passes.of(1);
            assert!(look_at(pass, 1_000));
            last = last.max(next(pass).unwrap());
        }
        assert!(last > KEYS - 1_000, "it has come to {last} only");
        // What was forgotten is looked at once more, and then there is nothing left.
        let pass = passes.of(1);
        while look_at(pass, 1) {}
        assert!(!pass.again && pass.written.is_empty());
    }

    #[test]
    fn what_is_written_behind_a_pass_is_looked_at_and_nothing_else() {
        let mut passes = Passes::default();
        assert!(look_at(passes.of(1), 10));
        passes.note(&5);
        passes.note(&50);
        assert!(look_at(passes.of(1), KEYS - 10));
        passes.note(&7);
        let pass = passes.of(1);
        for key in [5, 7] {
            assert_eq!(next(pass), Some(key));
            pass.looked_at(key);
        }
        assert_eq!(next(pass), None);
    }

    #[test]
    fn each_number_of_versions_comes_to_its_end_however_many_there_are() {
        let mut passes = Passes::default();
        let many = COLLECT_PASSES as u64 + 5;
        let mut open: Vec<u64> = (0..many).collect();
        for round in 0.. {
            assert!(round < 100, "these do not come to their end: {open:?}");
            open.retain(|keep| {
                let pass = passes.of(*keep);
                look_at(pass, KEYS / 3 + 1) || pass.keep() != *keep
            });
            assert!(passes.0.len() <= COLLECT_PASSES);
            if open.is_empty() {
                break;
            }
        }
    }
}
