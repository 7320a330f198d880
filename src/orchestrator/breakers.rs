//! The circuit breakers of one orchestrator, shared by the runs of all its plans.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use super::machine::{Ahead, Behind};
use super::permits::{LimitPermit, Place};
use crate::event::EventKind;
use crate::memory::Commit;
use crate::plan::{CheckedPlan, Policy, WhenOpen};
use crate::resilience::{Breaker, BreakerRecord, Circuit, Permit, Ticket, Transition};

pub(crate) type BreakerSet = Rc<BTreeMap<Arc<str>, Rc<Guarded>>>;

/// One breaker.
pub(crate) struct Guarded {
    circuit: RefCell<Circuit>,
    /// Tells those that wait for it, in the order in which they came, that they had better ask again.
    changes: Notify,
}

/// A change of a breaker's state, to be stored with what caused it.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) event: EventKind,
    pub(crate) record: BreakerRecord,
}

/// What an attempt that is about to start has got from its breaker and from its limit.
#[derive(Default)]
pub(crate) struct Gate {
    /// Its way through, if it has a breaker.
    pub(crate) passage: Option<Passage>,
    /// The breaker that lets nothing through, where the step would rather fail than wait.
    pub(crate) refused: Option<Arc<str>>,
    /// What asking has changed.
    pub(crate) change: Option<Change>,
    /// Its part of the limit, if it has one, until no code of it runs any more.
    pub(crate) permit: Option<LimitPermit>,
    /// The place of a parked run in the line of the limit.
    pub(crate) place: Option<Place>,
}

impl Gate {
    /// The attempt does not take place, or says nothing: what it has got goes to others.
    pub(crate) fn give_back(&mut self) {
        (self.passage, self.permit) = (None, None);
    }
}

/// A way through a breaker. One that is dropped without a word gives its place back, and says nothing about the service.
pub(crate) struct Passage {
    breaker: Rc<Guarded>,
    ticket: Option<Ticket>,
}

impl Guarded {
    pub(crate) fn new(config: Breaker, now: SystemTime) -> Self {
        Self { circuit: RefCell::new(Circuit::new(config, now)), changes: Notify::new() }
    }

    /// Goes on where an earlier process has stopped.
    pub(crate) fn restore(&self, record: &BreakerRecord) {
        let mut circuit = self.circuit.borrow_mut();
        *circuit = Circuit::restore(circuit.config().clone(), record);
    }

    pub(crate) fn record(&self) -> BreakerRecord {
        self.circuit.borrow().record()
    }

    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changes.notified()
    }

    /// Closes it.
    pub(crate) fn reset(&self, now: SystemTime) -> Option<Change> {
        let change = self.circuit.borrow_mut().reset(now);
        self.told(change)
    }

    /// When it is worth while to ask for a way through: `None` is as soon as something changes.
    pub(crate) fn opens(&self, now: SystemTime) -> Option<SystemTime> {
        self.circuit.borrow().opens(now)
    }

    /// Those who wait are told, too: of a change, or of a place that is free again.
    fn told(&self, transition: Option<Transition>) -> Option<Change> {
        let record = self.record();
        self.changes.notify_waiters();
        let breaker = Arc::clone(&record.name);
        let event = match transition? {
            Transition::Opened { until } => EventKind::BreakerOpened { breaker, until },
            Transition::HalfOpened => EventKind::BreakerHalfOpened { breaker },
            Transition::Closed => EventKind::BreakerClosed { breaker },
        };
        Some(Change { event, record })
    }
}

/// Whether the breaker of the step at `index` would let an attempt start. Asking so changes nothing.
pub(crate) fn would_pass(
    breakers: &BreakerSet,
    plan: &CheckedPlan,
    index: usize,
    now: SystemTime,
    trial: bool,
) -> bool {
    let name = plan.policy(index).and_then(|policy| policy.breaker.as_ref());
    let guarded = name.and_then(|name| breakers.get(name));
    guarded.is_none_or(|guarded| guarded.circuit.borrow().would_pass(now, trial))
}

/// Asks the breaker of the step at `index` whether an attempt may start. `trial`: somebody has asked for one now, whatever
/// the breaker thinks of it.
pub(crate) fn ahead(
    breakers: &BreakerSet,
    plan: &CheckedPlan,
    index: usize,
    now: SystemTime,
    trial: bool,
) -> (Ahead, Gate) {
    let Some(Policy { breaker: Some(name), when_open, .. }) = plan.policy(index) else {
        return (Ahead::Go, Gate::default());
    };
    // The names were checked when the plan came in.
    let Some(guarded) = breakers.get(name) else { return (Ahead::Go, Gate::default()) };
    let (permit, transition) = {
        let mut circuit = guarded.circuit.borrow_mut();
        if trial { circuit.trial(now) } else { circuit.permit(now) }
    };
    let change = transition.and_then(|change| guarded.told(Some(change)));
    let until = match permit {
        Permit::Pass(ticket) | Permit::Probe(ticket) => {
            let passage = Passage { breaker: Rc::clone(guarded), ticket: Some(ticket) };
            return (Ahead::Go, Gate { passage: Some(passage), change, ..Gate::default() });
        }
        Permit::Wait(until) => Some(until),
        Permit::Busy => None,
    };
    match when_open {
        WhenOpen::Fail => (Ahead::Go, Gate { refused: Some(Arc::clone(name)), change, ..Gate::default() }),
        WhenOpen::Park => {
            (Ahead::Park { now, until, behind: Behind::Breaker }, Gate { change, ..Gate::default() })
        }
    }
}

impl Passage {
    /// The attempt is over. `ok`: whether the service did what it was asked to; `None` where that is not known.
    pub(crate) fn report(mut self, ok: Option<bool>, now: SystemTime) -> Option<Change> {
        let ticket = self.ticket.take()?;
        let mut circuit = self.breaker.circuit.borrow_mut();
        let transition = match ok {
            Some(true) => circuit.succeeded(ticket, now),
            Some(false) => circuit.failed(ticket, now),
            None => {
                circuit.abandoned(ticket);
                None
            }
        };
        // Nobody waits for one that is closed, and was.
        let is_news = transition.is_some() || !circuit.is_closed();
        drop(circuit);
        if is_news { self.breaker.told(transition) } else { None }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.breaker.circuit.borrow_mut().abandoned(ticket);
            self.breaker.changes.notify_waiters();
        }
    }
}

/// Puts changes into the commit of what caused them: behind the end of an attempt, and before what follows from that.
pub(crate) fn tell(changes: &[Change], commit: &mut Commit) {
    if changes.is_empty() {
        return;
    }
    let ends = |kind: &EventKind| {
        matches!(
            kind,
            EventKind::TaskCompleted { .. } | EventKind::TaskFailed { .. } | EventKind::TaskSkipped { .. }
        )
    };
    let place = usize::from(commit.events.first().is_some_and(ends));
    let (events, records): (Vec<_>, Vec<_>) =
        changes.iter().cloned().map(|Change { event, record }| (event, record)).unzip();
    commit.events.splice(place..place, events);
    commit.breakers.extend(records);
}
