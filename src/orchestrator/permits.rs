//! The limits by name of one orchestrator, shared by the runs of all its plans, and the permits that their attempts hold.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use actix::{Handler, Message, MessageResult};
use tokio::sync::Notify;

use super::actor::ExecutionOrchestrator;
use super::breakers::{self, BreakerSet, Gate};
use super::machine::{Ahead, Behind};
use crate::id::to_micros;
use crate::limits::MAX_NAMED_LIMITS;
use crate::plan::CheckedPlan;
use crate::resilience::{Admission, InvalidLimit, Limit, Meter};

pub(crate) type LimitSet = Rc<BTreeMap<Arc<str>, Rc<Metered>>>;

/// One limit.
pub(crate) struct Metered {
    meter: RefCell<Meter>,
    line: RefCell<Line>,
}

/// Who waits for a permit, in the order in which they came.
#[derive(Default)]
struct Line {
    next: u64,
    /// How each is told. Only the first is: all others wait for it to be gone, so that a permit wakes one run and not a
    /// thousand.
    places: BTreeMap<u64, Rc<Notify>>,
}

/// A place in the line of a limit, which is left when this is dropped.
pub(crate) struct Place {
    limit: Rc<Metered>,
    number: u64,
    told: Rc<Notify>,
}

/// The right to have an attempt under way. It is given back when this is dropped: when no code of the attempt runs any more.
pub(crate) struct LimitPermit(Rc<Metered>);

/// What somebody with a place in the line has to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing: it is his turn.
    Now,
    /// This time, or to be told.
    Later(Option<SystemTime>),
}

impl Metered {
    pub(crate) fn new(limit: &Limit) -> Self {
        Self { meter: RefCell::new(Meter::new(limit)), line: RefCell::default() }
    }

    /// Takes a place at the end of the line.
    pub(crate) fn join(self: &Rc<Self>) -> Place {
        let (mut line, told) = (self.line.borrow_mut(), Rc::new(Notify::new()));
        let number = line.next;
        line.next += 1;
        line.places.insert(number, Rc::clone(&told));
        Place { limit: Rc::clone(self), number, told }
    }

    /// Asks for a permit. Nobody gets one before those who wait already: else they could wait for ever. Without one, there
    /// is a place in the line, and until when the rate alone lets nothing through.
    fn ask(
        self: &Rc<Self>,
        place: Option<Place>,
        now: SystemTime,
    ) -> Result<LimitPermit, (Place, Option<SystemTime>)> {
        // That of another limit is of no use here.
        let place = place.filter(|place| Rc::ptr_eq(&place.limit, self));
        let (may, ahead) = match &place {
            Some(place) => (place.is_first(), 0),
            None => {
                let waiting = self.line.borrow().places.len();
                (waiting == 0, waiting)
            }
        };
        let mut meter = self.meter.borrow_mut();
        if may && meter.take(now) {
            drop(meter);
            // Before this, whoever is next would only have learned that it is not his turn.
            drop(place);
            return Ok(LimitPermit(Rc::clone(self)));
        }
        let until = match meter.admission(now, ahead) {
            Admission::At(until) => Some(to_micros(until)),
            Admission::Now | Admission::Busy => None,
        };
        Err((place.unwrap_or_else(|| self.join()), until))
    }

    fn tell_first(&self) {
        if let Some((_, told)) = self.line.borrow().places.first_key_value() {
            told.notify_one();
        }
    }

    fn status(&self, name: &Arc<str>, now: SystemTime) -> LimitStatus {
        let (mut meter, waiting) = (self.meter.borrow_mut(), self.line.borrow().places.len());
        LimitStatus { name: Arc::clone(name), in_use: meter.in_use(), waiting, next_at: meter.next_at(now) }
    }
}

impl Place {
    fn is_first(&self) -> bool {
        self.limit.line.borrow().places.first_key_value().is_some_and(|(first, _)| *first == self.number)
    }

    pub(crate) fn turn(&self, now: SystemTime) -> Turn {
        if !self.is_first() {
            return Turn::Later(None);
        }
        match self.limit.meter.borrow_mut().admission(now, 0) {
            Admission::Now => Turn::Now,
            Admission::At(until) => Turn::Later(Some(until)),
            Admission::Busy => Turn::Later(None),
        }
    }

    /// Waits until it may be his turn.
    pub(crate) async fn told(&self) {
        self.told.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let was_first = self.is_first();
        self.limit.line.borrow_mut().places.remove(&self.number);
        if was_first {
            self.limit.tell_first();
        }
    }
}

impl Drop for LimitPermit {
    fn drop(&mut self) {
        self.0.meter.borrow_mut().give_back();
        self.0.tell_first();
    }
}

/// Asks the breaker of the step at `index`, and then its limit, whether an attempt may start. What is got from one is never
/// held while the other is waited for: the breaker is only looked at before, and asked once the limit has let the attempt
/// through. `place`: that of the run in the line of the limit, if it has one.
pub(crate) fn ahead(
    (breakers, limits): (&BreakerSet, &LimitSet),
    plan: &CheckedPlan,
    index: usize,
    now: SystemTime,
    trial: bool,
    place: Option<Place>,
) -> (Ahead, Gate) {
    let name = plan.policy(index).and_then(|policy| policy.limit.as_ref());
    // The names were checked when the plan came in.
    let limit = name.and_then(|name| limits.get(name));
    let Some(limit) = limit.filter(|_| breakers::would_pass(breakers, plan, index, now, trial)) else {
        return breakers::ahead(breakers, plan, index, now, trial);
    };
    match limit.ask(place, now) {
        Err((place, until)) => {
            let gate = Gate { place: Some(place), ..Gate::default() };
            (Ahead::Park { now, until, behind: Behind::Limit }, gate)
        }
        Ok(permit) => {
            let (ahead, gate) = breakers::ahead(breakers, plan, index, now, trial);
            (ahead, Gate { permit: Some(permit), ..gate })
        }
    }
}

impl ExecutionOrchestrator {
    /// Has a limit, which all steps that [name it](crate::Step::limit) share, in all plans. One of the same name takes its
    /// place; the last of a [thousand](MAX_NAMED_LIMITS) is the last.
    ///
    /// # How a limit is kept
    ///
    /// An attempt takes a permit before its start is stored, and so does each retry of it. If there is none, the run parks
    /// without a slot, and `plan.parked` tells behind which limit; it goes on when there is one, first come, first served.
    /// Whoever comes while others wait, waits behind them. The total timeout of the step and the deadline of the plan bound
    /// that wait. A run that is paused meanwhile loses its place, and [`RetryNow`](crate::RetryNow) asks once more, but passes
    /// no limit.
    ///
    /// Of the concurrency, an attempt holds its part for exactly as long as its code may run: until its future is dropped, or
    /// its blocking code has ended, even where that was abandoned. Of the rate, its part is spent when it starts, and not given
    /// back. While it backs off, a step holds nothing. A [fallback](crate::OnFailure::Fallback) takes no permit: it is there
    /// to do without the service. Nor does what [verifies](crate::OnInterrupted::Verify) or [undoes](crate::Step::compensate) a
    /// step.
    ///
    /// Where a step has a [breaker](crate::Step::breaker), too, that is asked first: behind one that is open, a run stands in
    /// no line, and in the line of a limit it holds no place of a probe.
    ///
    /// It limits this orchestrator, and as long as that lives: nothing of it is stored. After a restart the rate begins anew,
    /// and the runs that were parked come in the order of their acceptance.
    ///
    /// # Errors
    /// It cannot be one: see [`InvalidLimit`].
    ///
    /// ```
    /// use actix::prelude::*;
    /// use lunacore::{EventBus, ExecutePlan, ExecutionOrchestrator, Limit, ProjectMemory, SimpleAllocator, Step};
    /// use std::time::Duration;
    ///
    /// # actix::System::new().block_on(async {
    /// let (bus, memory) = (EventBus::new().start(), ProjectMemory::in_memory().start());
    /// let openai = Limit::new("openai").concurrency(4).rate(60, Duration::from_secs(60)).burst(10);
    /// let orchestrator = ExecutionOrchestrator::new(bus, memory, SimpleAllocator.start())
    ///     .max_concurrent_plans(100)
    ///     .limit(openai)?
    ///     .start();
    ///
    /// let ask = Step::new("ask", || async { "42" }).limit("openai");
    /// assert_eq!(orchestrator.send(ExecutePlan::new([ask])).await??, ["42"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn limit(mut self, limit: Limit) -> Result<Self, InvalidLimit> {
        limit.check()?;
        let name = Arc::from(limit.name());
        if let Some(limits) = Rc::get_mut(&mut self.limits)
            && (limits.len() < MAX_NAMED_LIMITS || limits.contains_key(&name))
        {
            limits.insert(name, Rc::new(Metered::new(&limit)));
        }
        Ok(self)
    }
}

/// Lists the limits of an orchestrator, in the order of their names.
#[derive(Debug, Clone, Copy, Default, Message)]
#[rtype(result = "Vec<LimitStatus>")]
pub struct Limits;

/// Where a limit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitStatus {
    /// Its name.
    pub name: Arc<str>,
    /// How many attempts are under way, abandoned ones included.
    pub in_use: u32,
    /// How many runs are parked behind it.
    pub waiting: usize,
    /// When the rate lets the next attempt start; `None` where that is now.
    pub next_at: Option<SystemTime>,
}

impl Handler<Limits> for ExecutionOrchestrator {
    type Result = MessageResult<Limits>;

    fn handle(&mut self, Limits: Limits, _: &mut Self::Context) -> Self::Result {
        let now = self.clock.now();
        MessageResult(self.limits.iter().map(|(name, limit)| limit.status(name, now)).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000 + second)
    }

    fn single() -> Rc<Metered> {
        Rc::new(Metered::new(&Limit::new("l").concurrency(1)))
    }

    fn was_told(place: &Place) -> bool {
        pin!(place.told()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// The places that were told, of those that wait.
    fn told(places: &[Place]) -> Vec<u64> {
        places.iter().filter(|place| was_told(place)).map(|place| place.number).collect()
    }

    /// Else what a thousand wait for would wake a million.
    #[test]
    fn a_permit_that_comes_back_wakes_one_of_a_thousand() {
        let limit = single();
        let mut permit = limit.ask(None, at(0)).ok().unwrap();
        let mut places: Vec<Place> = (0..1_000).map(|_| limit.ask(None, at(0)).err().unwrap().0).collect();
        assert_eq!(told(&places), [0; 0]);
        for number in 0..1_000 {
            drop(permit);
            assert_eq!(told(&places), [number]);
            assert_eq!(places[0].turn(at(0)), Turn::Now);
            permit = limit.ask(Some(places.remove(0)), at(0)).ok().unwrap();
            // Who is first now has to know it, for only the first waits for the time.
            assert!(told(&places).iter().eq((number < 999).then_some(&(number + 1))));
            assert!(places.first().is_none_or(|place| place.turn(at(0)) == Turn::Later(None)));
        }
    }

    #[test]
    fn who_leaves_the_line_makes_way_and_wakes_nobody_else() {
        let limit = single();
        let permit = limit.ask(None, at(0)).ok();
        let mut places: Vec<Place> = (0..4).map(|_| limit.join()).collect();
        drop(places.remove(1));
        assert_eq!(told(&places), [0; 0], "nothing has changed for the first");
        drop(permit);
        assert_eq!(told(&places), [0]);
        // Nobody passes those who wait, and nobody his place.
        let (late, _) = limit.ask(None, at(0)).err().unwrap();
        let (second, until) = limit.ask(Some(places.remove(1)), at(0)).err().unwrap();
        assert_eq!((second.number, second.turn(at(0)), until, late.number), (2, Turn::Later(None), None, 4));
        drop(places.remove(0));
        assert!(was_told(&second) && !was_told(&late));
        assert_eq!((second.turn(at(0)), late.turn(at(0))), (Turn::Now, Turn::Later(None)));
    }

    #[test]
    fn a_place_in_another_line_is_left() {
        let (limit, other) = (single(), single());
        let place = other.join();
        let permit = limit.ask(Some(place), at(0));
        assert!(permit.is_ok());
        assert_eq!(other.line.borrow().places.len(), 0);
    }

    #[test]
    fn the_time_that_is_told_counts_those_before() {
        let rate = Limit::new("l").concurrency(3).rate(1, Duration::from_secs(10));
        let limit = Rc::new(Metered::new(&rate));
        let _permit = limit.ask(None, at(0)).ok().unwrap();
        let waits: Vec<(Place, Option<SystemTime>)> =
            (0..3).map(|_| limit.ask(None, at(0)).err().unwrap()).collect();
        let until: Vec<Option<SystemTime>> = waits.iter().map(|(_, until)| *until).collect();
        assert_eq!(until, [Some(at(10)), Some(at(20)), None], "of the last, those before it decide");
        assert_eq!(waits[0].0.turn(at(1)), Turn::Later(Some(at(10))));
        assert_eq!(waits[1].0.turn(at(1)), Turn::Later(None));
        assert_eq!(waits[0].0.turn(at(10)), Turn::Now);
        let status = limit.status(&Arc::from("l"), at(1));
        assert_eq!((status.in_use, status.waiting, status.next_at), (1, 3, Some(at(10))));
    }
}
