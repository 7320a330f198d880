//! The line of plans that wait, and the slots: who is accepted or started next. Pure.

use std::collections::VecDeque;

/// A plan's place in the order of submission.
pub(crate) type Ticket = u64;

/// Leaves room for those that return.
const FIRST_TICKET: Ticket = 1 << 32;

/// How far a waiting plan has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Memory has been asked whether it knows the run.
    Finding,
    /// The allocator has been asked.
    Resolving,
    /// The same, for a run that is stored already and goes on.
    Returning,
    /// It can be called; nothing is stored yet.
    Resolved,
    /// Its acceptance is being stored.
    Accepting,
    /// It is accepted and waits for a slot.
    Accepted,
    /// Its cancellation is being stored.
    Withdrawing,
}

/// First in, first out: plans are accepted, and started, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Line {
    waiting: VecDeque<(Ticket, Stage)>,
    /// How many at the front are known to be beyond `Resolved`.
    settled: usize,
    active: usize,
    /// Runs that have given their slot back and are not ready to go on.
    aside: usize,
    next_ticket: Ticket,
    /// The tickets of runs that were unfinished when the orchestrator started come before all others.
    next_returning: Ticket,
    /// Nothing moves until it is known which those are.
    open: bool,
    pub(crate) slots: usize,
    pub(crate) capacity: usize,
}

/// What to do for the line to move on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// Run this plan; `accepted` tells whether its acceptance is stored already.
    Start { ticket: Ticket, accepted: bool },
    /// Store the acceptance of this plan.
    Accept(Ticket),
}

/// How a plan that waits can be cancelled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Withdrawal {
    /// Nothing of it is stored: it is out of the line.
    Forgotten,
    /// Its cancellation has to be stored; call [`Line::remove`] then.
    ToStore,
    /// Something about it is being stored right now; ask again then.
    Busy,
}

impl Line {
    pub(crate) fn new(slots: usize, capacity: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            settled: 0,
            active: 0,
            aside: 0,
            next_ticket: FIRST_TICKET,
            next_returning: 0,
            open: false,
            slots,
            capacity,
        }
    }

    pub(crate) fn open(&mut self) {
        self.open = true;
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Puts a plan at the end; `None` when the line is full.
    pub(crate) fn join(&mut self) -> Option<Ticket> {
        // A free slot takes one plan more than the line holds.
        if self.waiting.len() + self.aside >= self.capacity + self.slots.saturating_sub(self.active) {
            return None;
        }
        Some(self.join_anyway())
    }

    /// Puts a run at the end that has left what it was at for that: it had its place before, and is never refused one.
    pub(crate) fn join_anyway(&mut self) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push_back((ticket, Stage::Resolving));
        ticket
    }

    /// A run that was taken out of the line stands aside, as it did before it came.
    pub(crate) fn back_aside(&mut self) {
        self.aside += 1;
    }

    /// Puts a run that was unfinished when the orchestrator started behind the others of its kind, and before everyone
    /// else. It was accepted once, so there is always a place.
    pub(crate) fn rejoin(&mut self) -> Ticket {
        let ticket = self.next_returning;
        self.next_returning += 1;
        let index = self.waiting.partition_point(|(other, _)| *other < ticket);
        self.waiting.insert(index, (ticket, Stage::Returning));
        ticket
    }

    /// A run gives its slot back, for as long as it waits for something.
    pub(crate) fn step_aside(&mut self) {
        self.active -= 1;
        self.aside += 1;
    }

    /// A run that waits for something leaves the line, without ever having had a slot.
    pub(crate) fn leave_for_aside(&mut self, ticket: Ticket) {
        self.remove(ticket);
        self.aside += 1;
    }

    /// A run that stood aside is ready to go on: it comes behind the others of its kind, and before everyone else.
    pub(crate) fn ready(&mut self) -> Ticket {
        self.aside -= 1;
        let ticket = self.rejoin();
        self.set(ticket, Stage::Accepted);
        ticket
    }

    /// It is not ready after all.
    pub(crate) fn not_ready(&mut self, ticket: Ticket) {
        self.leave_for_aside(ticket);
    }

    /// A run that stood aside is over.
    pub(crate) fn left(&mut self) {
        self.aside -= 1;
    }

    /// Memory is being asked about the run.
    pub(crate) fn finding(&mut self, ticket: Ticket) {
        self.set(ticket, Stage::Finding);
    }

    /// It has answered: the run is new, or goes on.
    pub(crate) fn found(&mut self, ticket: Ticket, goes_on: bool) {
        self.set(ticket, if goes_on { Stage::Returning } else { Stage::Resolving });
    }

    fn index(&self, ticket: Ticket) -> Option<usize> {
        self.waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()
    }

    fn set(&mut self, ticket: Ticket, stage: Stage) {
        if let Some((_, current)) = self.index(ticket).and_then(|index| self.waiting.get_mut(index)) {
            *current = stage;
        }
    }

    pub(crate) fn resolved(&mut self, ticket: Ticket) {
        match self.stage(ticket) {
            Some(Stage::Resolving) => self.set(ticket, Stage::Resolved),
            Some(Stage::Returning) => self.set(ticket, Stage::Accepted),
            _ => {}
        }
    }

    /// Whether its acceptance is stored, or on its way: what memory is asked from now on comes behind that.
    pub(crate) fn is_on_record(&self, ticket: Ticket) -> bool {
        let stage = self.stage(ticket);
        matches!(stage, Some(Stage::Returning | Stage::Accepting | Stage::Accepted | Stage::Withdrawing))
    }

    /// Whether memory has still to say whether it knows the run.
    pub(crate) fn is_finding(&self, ticket: Ticket) -> bool {
        self.stage(ticket) == Some(Stage::Finding)
    }

    /// Whether callables are still wanted; not for a run whose cancellation is being stored meanwhile.
    pub(crate) fn is_resolving(&self, ticket: Ticket) -> bool {
        matches!(self.stage(ticket), Some(Stage::Resolving | Stage::Returning))
    }

    /// Whether it is a run that is stored already and goes on.
    pub(crate) fn is_returning(&self, ticket: Ticket) -> bool {
        self.stage(ticket) == Some(Stage::Returning)
    }

    fn stage(&self, ticket: Ticket) -> Option<Stage> {
        self.index(ticket).and_then(|index| self.waiting.get(index)).map(|(_, stage)| *stage)
    }

    /// Whether it is accepted, and only waits for a slot.
    pub(crate) fn is_accepted(&self, ticket: Ticket) -> bool {
        self.stage(ticket) == Some(Stage::Accepted)
    }

    pub(crate) fn accepted(&mut self, ticket: Ticket) {
        self.set(ticket, Stage::Accepted);
    }

    pub(crate) fn finished(&mut self) {
        self.active -= 1;
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) {
        if let Some(index) = self.index(ticket) {
            self.waiting.remove(index);
            if index < self.settled {
                self.settled -= 1;
            }
        }
    }

    pub(crate) fn withdraw(&mut self, ticket: Ticket) -> Withdrawal {
        match self.stage(ticket) {
            None | Some(Stage::Resolving | Stage::Resolved) => {
                self.remove(ticket);
                Withdrawal::Forgotten
            }
            Some(Stage::Accepted | Stage::Returning) => {
                self.set(ticket, Stage::Withdrawing);
                Withdrawal::ToStore
            }
            Some(Stage::Finding | Stage::Accepting | Stage::Withdrawing) => Withdrawal::Busy,
        }
    }

    /// How many wait before this one.
    pub(crate) fn position(&self, ticket: Ticket) -> Option<usize> {
        self.index(ticket)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.active == 0 && self.aside == 0 && self.waiting.is_empty()
    }

    /// The next thing to do, if there is one; to be asked until there is none.
    pub(crate) fn advance(&mut self) -> Option<Move> {
        if !self.open {
            return None;
        }
        if self.active < self.slots
            && let Some((ticket, stage @ (Stage::Resolved | Stage::Accepted))) = self.waiting.front().copied()
        {
            self.remove(ticket);
            self.active += 1;
            return Some(Move::Start { ticket, accepted: stage == Stage::Accepted });
        }
        loop {
            let (ticket, stage) = self.waiting.get_mut(self.settled)?;
            match stage {
                Stage::Finding | Stage::Resolving | Stage::Returning => return None,
                Stage::Resolved => {
                    *stage = Stage::Accepting;
                    self.settled += 1;
                    return Some(Move::Accept(*ticket));
                }
                // A run that goes on was accepted long ago.
                Stage::Accepting | Stage::Accepted | Stage::Withdrawing => self.settled += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests;
