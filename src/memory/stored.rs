//! Storing a batch, on the blocking pool, and reopening the store where that fails.

use super::store::Store;
use super::write::{Batch, Write, recover, write_batch};
use crate::clock::Clock;
use crate::event::Event;
use crate::run::Durability;

/// A batch, and what had to be done about the store before or after it.
pub(super) struct Stored {
    pub(super) batch: Batch,
    /// Events that turned out to be stored by a batch that had failed.
    pub(super) recovered: Vec<Event>,
    /// The store could not be reopened.
    pub(super) broken: bool,
}

impl Stored {
    pub(super) fn write(
        store: &mut dyn Store,
        writes: Vec<Write>,
        durability: Durability,
        (broken, published): (bool, u64),
        clock: &Clock,
    ) -> Self {
        let mut recovered = Vec::new();
        if broken {
            match recover(store, published) {
                Ok(events) => recovered = events,
                Err(error) => {
                    let at = clock.now();
                    let batch = Batch { at, events: Vec::new(), results: Err(error) };
                    return Self { batch, recovered, broken: true };
                }
            }
        }
        let batch = write_batch(store, writes, durability, clock.now());
        if batch.results.is_ok() {
            return Self { batch, recovered, broken: false };
        }
        let after = recovered.last().and_then(Event::seq).unwrap_or(published);
        match recover(store, after) {
            Ok(mut events) => {
                recovered.append(&mut events);
                Self { batch, recovered, broken: false }
            }
            Err(error) => {
                log::error!(target: "lunacore::memory", "the store cannot be reopened: {error}");
                Self { batch, recovered, broken: true }
            }
        }
    }
}
