use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::breaker::{Breaker, Trip};
use super::record::{BreakerRecord, CircuitState};
use super::window::Window;
use crate::id::to_micros;

/// A breaker at work. It is told what happens and when, says what may pass, and returns each change of its state, to be
/// stored with what caused it.
///
/// Whoever asks for a [`Permit`] and gets a [`Ticket`] gives it back, once, when the attempt is over. A ticket of a probe
/// that is never given back keeps its place for good.
#[derive(Debug)]
pub(crate) struct Circuit {
    config: Breaker,
    phase: Phase,
    /// Goes up with each change, and marks the tickets: a result from before the change says nothing about what is now.
    epoch: u64,
    /// Probes in flight, of whatever epoch: one whose result no longer counts still burdens the service.
    probing: u32,
    /// Those that opened it, and the failed probes since; not kept up while it is closed.
    failures: u32,
    changed_at: SystemTime,
}

#[derive(Debug)]
enum Phase {
    Closed(Tally),
    Open {
        until: SystemTime,
    },
    HalfOpen {
        /// Probes that have succeeded in a row.
        succeeded: u32,
    },
}

/// What a closed circuit remembers.
#[derive(Debug)]
enum Tally {
    /// Failures in a row.
    Row(u32),
    Window(Window),
}

/// Whether an attempt may start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// The breaker is closed: it may.
    Pass(Ticket),
    /// It may, and its end decides about the breaker.
    Probe(Ticket),
    /// The breaker is open until then; nobody need ask earlier.
    Wait(SystemTime),
    /// As many probes as may are in flight. To be asked again whenever one of their tickets is given back, for that may
    /// free a place without any transition.
    Busy,
}

/// What an attempt that was let through gives back at its end.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a ticket that is not given back keeps the place of a probe"]
pub(crate) struct Ticket {
    epoch: u64,
    probe: bool,
}

/// A change of a breaker's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transition {
    /// Nothing passes until then.
    Opened { until: SystemTime },
    /// A probe has been let through.
    HalfOpened,
    /// Everything passes again.
    Closed,
}

/// The last time that RFC 3339 has a form for: 9999-12-31T23:59:59.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// A time as it can be stored: what is restored is then what was.
fn storable(at: SystemTime) -> SystemTime {
    to_micros(at.min(UNIX_EPOCH + LAST))
}

impl Circuit {
    /// A closed circuit.
    pub(crate) fn new(config: Breaker, now: SystemTime) -> Self {
        let phase = Phase::Closed(Tally::new(&config));
        Self { config, phase, epoch: 0, probing: 0, failures: 0, changed_at: storable(now) }
    }

    /// The circuit again after a restart, with which every attempt that was in flight has died. An open one stays open
    /// until its time; a half-open one lets a probe through at once; a closed one counts from nothing.
    pub(crate) fn restore(config: Breaker, record: &BreakerRecord) -> Self {
        let mut circuit = Self::new(config, record.changed_at);
        let until = match record.state {
            CircuitState::Closed => return circuit,
            CircuitState::Open => record.until.unwrap_or_else(|| circuit.open_until(record.changed_at)),
            // It was half-open by then, so its open time was over.
            CircuitState::HalfOpen => record.changed_at,
        };
        circuit.phase = Phase::Open { until: storable(until) };
        circuit.failures = record.failures;
        circuit
    }

    /// What is stored of it.
    pub(crate) fn record(&self) -> BreakerRecord {
        let (state, until, failures) = match &self.phase {
            Phase::Closed(tally) => (CircuitState::Closed, None, tally.failures()),
            Phase::Open { until } => (CircuitState::Open, Some(*until), self.failures),
            Phase::HalfOpen { .. } => (CircuitState::HalfOpen, None, self.failures),
        };
        BreakerRecord { name: self.config.name.clone(), state, until, failures, changed_at: self.changed_at }
    }

    pub(crate) fn config(&self) -> &Breaker {
        &self.config
    }

    /// Whether an attempt may start now. The first probe after the open time makes the circuit half-open.
    pub(crate) fn permit(&mut self, now: SystemTime) -> (Permit, Option<Transition>) {
        let mut change = None;
        match self.phase {
            Phase::Closed(_) => return (Permit::Pass(self.ticket(false)), None),
            Phase::Open { until } => {
                // When the clock was set back, the open time must not become longer by it.
                let until = until.min(self.open_until(now));
                self.phase = Phase::Open { until };
                if now < until {
                    return (Permit::Wait(until), None);
                }
                if self.probing < self.config.probes {
                    self.enter(Phase::HalfOpen { succeeded: 0 }, now);
                    change = Some(Transition::HalfOpened);
                }
            }
            Phase::HalfOpen { .. } => {}
        }
        if self.probing >= self.config.probes {
            return (Permit::Busy, None);
        }
        self.probing += 1;
        (Permit::Probe(self.ticket(true)), change)
    }

    /// The same for an attempt that somebody has asked for by hand: the open time is over then.
    pub(crate) fn trial(&mut self, now: SystemTime) -> (Permit, Option<Transition>) {
        if let Phase::Open { until } = &mut self.phase {
            *until = now.min(*until);
        }
        self.permit(now)
    }

    /// When it is worth while to ask for a permit: now if there is a place, and `None` if one has to be given back first.
    pub(crate) fn opens(&self, now: SystemTime) -> Option<SystemTime> {
        match self.phase {
            Phase::Closed(_) => Some(now),
            Phase::Open { until } if until > now => Some(until.min(self.open_until(now))),
            Phase::Open { .. } | Phase::HalfOpen { .. } => (self.probing < self.config.probes).then_some(now),
        }
    }

    /// Whether whoever asked for a permit now, or for a [trial](Self::trial), would get one. Asking so changes nothing.
    pub(crate) fn would_pass(&self, now: SystemTime, trial: bool) -> bool {
        let tried = trial && matches!(self.phase, Phase::Open { .. }) && self.probing < self.config.probes;
        tried || self.opens(now).is_some_and(|opens| opens <= now)
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed(_))
    }

    /// The attempt with this ticket succeeded.
    pub(crate) fn succeeded(&mut self, ticket: Ticket, now: SystemTime) -> Option<Transition> {
        if !self.take(&ticket) {
            return None;
        }
        match &mut self.phase {
            Phase::Closed(tally) => {
                tally.count(now, false);
                self.open_if_tripped(now)
            }
            Phase::HalfOpen { succeeded } => {
                *succeeded += 1;
                (*succeeded >= self.config.probes).then(|| self.close(now))
            }
            // Nothing that was let through since it opened can be over.
            Phase::Open { .. } => None,
        }
    }

    /// The attempt with this ticket failed.
    pub(crate) fn failed(&mut self, ticket: Ticket, now: SystemTime) -> Option<Transition> {
        if !self.take(&ticket) {
            return None;
        }
        match &mut self.phase {
            Phase::Closed(tally) => {
                tally.count(now, true);
                self.open_if_tripped(now)
            }
            Phase::HalfOpen { .. } => {
                self.failures = self.failures.saturating_add(1);
                Some(self.open(now))
            }
            Phase::Open { .. } => None,
        }
    }

    /// The attempt with this ticket has an end that says nothing: it was cancelled. That changes no state, but may free
    /// the place of a probe.
    pub(crate) fn abandoned(&mut self, ticket: Ticket) {
        self.take(&ticket);
    }

    /// Closes the circuit by hand, and forgets what it has counted. What is in flight no longer counts.
    pub(crate) fn reset(&mut self, now: SystemTime) -> Option<Transition> {
        if let Phase::Closed(tally) = &mut self.phase {
            *tally = Tally::new(&self.config);
            self.epoch += 1;
            return None;
        }
        Some(self.close(now))
    }

    fn ticket(&self, probe: bool) -> Ticket {
        Ticket { epoch: self.epoch, probe }
    }

    /// Takes a ticket back. Whether its attempt counts: it was let through since the last change.
    fn take(&mut self, ticket: &Ticket) -> bool {
        if ticket.probe {
            self.probing = self.probing.saturating_sub(1);
        }
        ticket.epoch == self.epoch
    }

    fn open_if_tripped(&mut self, now: SystemTime) -> Option<Transition> {
        let Phase::Closed(tally) = &self.phase else { return None };
        if !tally.has_tripped(self.config.trip) {
            return None;
        }
        self.failures = tally.failures();
        Some(self.open(now))
    }

    fn open(&mut self, now: SystemTime) -> Transition {
        let until = self.open_until(now);
        self.enter(Phase::Open { until }, now);
        Transition::Opened { until }
    }

    fn close(&mut self, now: SystemTime) -> Transition {
        self.enter(Phase::Closed(Tally::new(&self.config)), now);
        Transition::Closed
    }

    fn enter(&mut self, phase: Phase, now: SystemTime) {
        self.phase = phase;
        self.epoch += 1;
        self.changed_at = storable(now);
    }

    fn open_until(&self, now: SystemTime) -> SystemTime {
        storable(now.checked_add(self.config.open_for).unwrap_or(UNIX_EPOCH + LAST))
    }
}

impl Tally {
    fn new(config: &Breaker) -> Self {
        match config.trip {
            Trip::Failures(_) => Self::Row(0),
            Trip::Rate { .. } => Self::Window(Window::new(config.window)),
        }
    }

    fn count(&mut self, now: SystemTime, failed: bool) {
        match self {
            Self::Row(failures) if failed => *failures = failures.saturating_add(1),
            Self::Row(failures) => *failures = 0,
            Self::Window(window) => window.count(now, failed),
        }
    }

    fn failures(&self) -> u32 {
        match self {
            Self::Row(failures) => *failures,
            Self::Window(window) => u32::try_from(window.sums().failures).unwrap_or(u32::MAX),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "no window holds 2^53 calls")]
    fn has_tripped(&self, trip: Trip) -> bool {
        match (self, trip) {
            (Self::Row(failures), Trip::Failures(limit)) => *failures >= limit,
            (Self::Window(window), Trip::Rate { rate, minimum_calls }) => {
                let sums = window.sums();
                // Divided, not multiplied: 3 of 10 is then the very number that is written 0.3.
                sums.calls >= u64::from(minimum_calls) && sums.failures as f64 / sums.calls as f64 >= rate
            }
            // A tally is made for its trip.
            _ => false,
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
