//! The way of committed events to the buses.

use actix::{Recipient, WeakRecipient};
use uuid::Uuid;

use crate::bus::{Backlog, Publish, ReadEvents};
use crate::event::Event;
use crate::limits::PUBLISH_BACKLOG;

/// Hands committed events to every bus that was attached, and keeps account of what each has been told.
pub(crate) struct Outlet {
    source: Uuid,
    /// The last event that was committed.
    last_seq: u64,
    buses: Vec<Bus>,
    /// How often a bus has fallen behind.
    gaps: u64,
}

/// A bus that was attached.
struct Bus {
    recipient: Recipient<Publish>,
    backlog: Backlog,
    /// Events were left out and the bus does not know yet.
    gap: bool,
}

impl Outlet {
    pub(crate) fn new(source: Uuid) -> Self {
        Self { source, last_seq: 0, buses: Vec::new(), gaps: 0 }
    }

    /// The last event that was published, or would have been if there were a bus.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Says that events up to this one were stored before the first bus came.
    pub(crate) fn begin_behind(&mut self, last_seq: u64) {
        self.last_seq = last_seq;
    }

    pub(crate) fn attach(&mut self, recipient: Recipient<Publish>, history: WeakRecipient<ReadEvents>) {
        self.buses.retain(|bus| bus.recipient.connected());
        if self.buses.iter().all(|bus| bus.recipient != recipient) {
            let bus = Bus { recipient, backlog: Backlog::new(PUBLISH_BACKLOG), gap: false };
            if let Some(place) = bus.backlog.enter() {
                // Tells the bus where it comes in, so that it can tell a gap from a late start.
                bus.recipient.do_send(Publish::introduction(self.source, self.last_seq, history, place));
            }
            self.buses.push(bus);
        }
    }

    /// Hands over committed events. A bus that is too far behind is told of a gap instead of being waited for. Answers
    /// whether one has fallen behind, and is to be told so before long.
    pub(crate) fn publish(&mut self, events: Vec<Event>) -> bool {
        let Some(seq) = events.last().and_then(Event::seq) else { return false };
        self.last_seq = seq;
        let last = self.buses.len().saturating_sub(1);
        let mut events = Some(events);
        let mut behind = 0;
        for (index, bus) in self.buses.iter_mut().enumerate() {
            let had_gap = bus.gap;
            // Almost always there is one bus, which gets the list itself.
            let list = if index == last { events.take() } else { events.clone() };
            bus.gap = !bus.tell(self.source, seq, list.unwrap_or_default());
            behind += u64::from(bus.gap && !had_gap);
        }
        if behind == 0 {
            return false;
        }
        let before = self.gaps;
        self.gaps += behind;
        // A bus at its limit falls behind again and again: the 1st, 2nd, 4th, 8th … time is worth a line.
        if before.checked_ilog2() != self.gaps.checked_ilog2() {
            let gaps = self.gaps;
            log::warn!(
                target: "lunacore::memory", seq, gaps;
                "the event bus is far behind; its subscribers miss events and are told how many"
            );
        }
        true
    }

    /// Tells buses of gaps that no later commit has told them of. Answers whether there is still one to be told.
    pub(crate) fn tell_gaps(&mut self) -> bool {
        for bus in self.buses.iter_mut().filter(|bus| bus.gap) {
            bus.gap = !bus.tell(self.source, self.last_seq, Vec::new());
        }
        self.buses.iter().any(|bus| bus.gap)
    }
}

impl Bus {
    /// Answers whether the bus was told. One that has stopped counts as told: there is nobody to miss anything.
    fn tell(&self, source: Uuid, upto: u64, events: Vec<Event>) -> bool {
        let Some(place) = self.backlog.enter() else { return false };
        // `do_send` ignores the mailbox's capacity; the backlog is the bound.
        self.recipient.do_send(Publish::stored(source, upto, events, place));
        true
    }
}
