//! What a run does while no attempt of it is in flight: it waits for a time, for its breaker, for its limit, for a signal, for
//! somebody's word, or for a slot.

use std::time::SystemTime;

use tokio::sync::oneshot;

use super::error::PlanError;
use super::internal::{Happened, tell};
use super::machine::{Ahead, Input};
use super::permits::Turn;
use super::runner::{Flow, Runner};
use super::watch::Request;
use crate::plan::{StepError, WhenOpen};
use crate::run::RunState;

/// What comes first.
enum Heard {
    Cancelled,
    Request(Request),
    Limit,
    /// The time, a change of the breaker, word from the limit, or a signal.
    Ready,
    /// A slot.
    Slot,
}

/// What a run waits for that has no slot.
pub(super) enum Want {
    /// Somebody's word.
    Word,
    /// A slot.
    Slot,
    /// This time, or a change of its breaker.
    Breaker(Option<SystemTime>),
    /// This time, or word from its limit.
    Limit(Option<SystemTime>),
    /// This time.
    Time(SystemTime),
    /// A signal that is kept for it.
    Signal,
}

impl Runner {
    /// Waits for the time of the next attempt, with its slot.
    pub(super) async fn back_off(&mut self) -> Result<Flow, PlanError> {
        let limit = self.limit();
        loop {
            let at = self.watch.at.get();
            let heard = tokio::select! {
                biased;
                () = self.scope.cancellation.cancelled() => Heard::Cancelled,
                request = self.request() => Heard::Request(request),
                () = self.until(at.step.until) => Heard::Ready,
                () = self.until(limit.as_ref().map(|limit| limit.at)), if limit.is_some() => Heard::Limit,
            };
            let at_once = match heard {
                Heard::Cancelled => return Ok(Input::Cancel.into()),
                Heard::Request(request) => {
                    let retry_now = matches!(request, Request::RetryNow(_));
                    match self.serve(request).await? {
                        Some(_) if retry_now => true,
                        Some(flow) => return Ok(flow),
                        None => continue,
                    }
                }
                Heard::Limit => match limit {
                    Some(limit) => return Ok(Flow::Turn(self.failed(StepError::limit(limit.exceeded())))),
                    None => continue,
                },
                Heard::Ready | Heard::Slot => false,
            };
            let ahead = self.ahead(at.cursor, at_once);
            return Ok(Input::Proceed(ahead, self.clock.now()).into());
        }
    }

    /// Waits without a slot, until there is something to do and a slot to do it with.
    pub(super) async fn stand_aside(&mut self) -> Result<Flow, PlanError> {
        // Also without one: what stands aside is left alone, or not, by what it waits for.
        self.slot = false;
        if self.watch.at.get().state != RunState::Parked {
            self.gate.place = None;
        }
        tell(&self.orchestrator, Happened::Released { run_id: self.scope.run_id.clone() });
        let mut granted = None;
        let flow = self.stand(&mut granted).await;
        // One that was granted at the same moment is ours, too.
        if let Some(mut granted) = granted {
            granted.close();
            self.slot = granted.try_recv().is_ok();
        }
        flow
    }

    async fn stand(&mut self, granted: &mut Option<oneshot::Receiver<()>>) -> Result<Flow, PlanError> {
        let (mut trial, mut overdue) = (false, None);
        loop {
            let want = self.want(trial || overdue.is_some());
            if matches!(want, Want::Slot) && granted.is_none() {
                *granted = Some(self.ask_for_a_slot());
            }
            // Once it has come to a limit, it comes to no other.
            let limit = if overdue.is_some() { None } else { self.limit() };
            match self.wait(&want, granted.as_mut(), limit.as_ref().map(|limit| limit.at)).await {
                Heard::Cancelled => return Ok(Input::Cancel.into()),
                Heard::Request(request) => {
                    let retry_now = matches!(request, Request::RetryNow(_));
                    match self.serve(request).await? {
                        Some(_) if retry_now => trial = true,
                        Some(flow) => return Ok(flow),
                        None => {}
                    }
                }
                Heard::Limit => {
                    // Unless it is none any more: a signal may have come for a run that is paused.
                    let Some(limit) = limit.filter(|limit| self.limit() == Some(*limit)) else { continue };
                    let error = StepError::limit(limit.exceeded());
                    // What follows waits for no permit, and those behind it are not to wait for what it waits for.
                    self.gate.place = None;
                    // What goes on needs a slot, and asks no breaker before; but for a plan that is paused and stays so.
                    if self.watch.at.get().pausing || !self.goes_on_after(&error) {
                        return Ok(Flow::Turn(self.failed(error)));
                    }
                    overdue = Some(error);
                }
                Heard::Ready => {}
                Heard::Slot => {
                    self.slot = true;
                    *granted = None;
                    if let Some(flow) = self.go_on(overdue.take(), std::mem::take(&mut trial)) {
                        return Ok(flow);
                    }
                    self.slot = false;
                    tell(&self.orchestrator, Happened::Released { run_id: self.scope.run_id.clone() });
                }
            }
        }
    }

    /// It has a slot: what now? `None`: its breaker, or its limit, lets it through no more.
    fn go_on(&mut self, overdue: Option<StepError>, trial: bool) -> Option<Flow> {
        // A signal that has come counts, also where its failure had only to be stored.
        if let Some(error) = overdue.filter(|_| !self.is_signalled()) {
            return Some(Flow::Turn(self.failed(error)));
        }
        if matches!(self.watch.at.get().state, RunState::Sleeping | RunState::AwaitingSignal) {
            return self.waited();
        }
        if let Some(flow) = self.consider_queued() {
            return Some(flow);
        }
        let (at, now) = (self.watch.at.get(), self.clock.now());
        // What is asked whether it had its effect is not called, or not yet.
        let calls = at.asks_breaker(now) && !at.step.verifying;
        let ahead = if calls { self.ahead(at.cursor, trial) } else { Ahead::Go };
        match (at.state, ahead) {
            (RunState::Parked, Ahead::Park { .. }) => None,
            (RunState::Parked, Ahead::Go) => Some(Input::Proceed(ahead, now).into()),
            _ => Some(Input::Start(ahead, now).into()),
        }
    }

    fn want(&mut self, at_once: bool) -> Want {
        match self.watch.at.get().state {
            _ if at_once => Want::Slot,
            RunState::Queued => Want::Slot,
            RunState::Sleeping | RunState::AwaitingSignal => self.want_of_wait(),
            RunState::Parked => self.barrier(),
            _ => Want::Word,
        }
    }

    /// What a parked run waits for: its breaker, unless it would rather fail, then its limit, then a slot.
    fn barrier(&mut self) -> Want {
        let now = self.clock.now();
        let breaker = self.policy().and_then(|policy| policy.breaker.as_ref());
        // One that is not there lets everything through.
        let opens =
            breaker.and_then(|name| self.breakers.get(name)).map_or(Some(now), |breaker| breaker.opens(now));
        if opens.is_none_or(|opens| opens > now) {
            // Meanwhile others may have what the limit grants.
            self.gate.place = None;
            let fails = self.policy().is_some_and(|policy| policy.when_open == WhenOpen::Fail);
            return if fails { Want::Slot } else { Want::Breaker(opens) };
        }
        let name = self.policy().and_then(|policy| policy.limit.as_ref());
        let Some(limit) = name.and_then(|name| self.limits.get(name)) else { return Want::Slot };
        match self.gate.place.get_or_insert_with(|| limit.join()).turn(now) {
            Turn::Now => Want::Slot,
            Turn::Later(until) => Want::Limit(until),
        }
    }

    async fn wait(
        &self,
        want: &Want,
        granted: Option<&mut oneshot::Receiver<()>>,
        limit: Option<SystemTime>,
    ) -> Heard {
        let slot = async {
            let granted = match granted {
                Some(granted) => granted.await.is_ok(),
                None => false,
            };
            // An orchestrator that is gone gives no slots.
            if !granted {
                std::future::pending::<()>().await;
            }
        };
        let waited = async {
            match want {
                Want::Time(time) => self.until(Some(*time)).await,
                Want::Signal => self.watch.signalled().await,
                _ => std::future::pending().await,
            }
        };
        let limited = async {
            let (Want::Limit(next), Some(place)) = (want, &self.gate.place) else {
                return std::future::pending().await;
            };
            tokio::select! {
                () = place.told() => {}
                () = self.until(*next) => {}
            }
        };
        let breaker = async {
            let Want::Breaker(opens) = want else { return std::future::pending().await };
            let name = self.policy().and_then(|policy| policy.breaker.as_ref());
            let Some(breaker) = name.and_then(|name| self.breakers.get(name)) else { return };
            tokio::select! {
                () = breaker.changed() => {}
                () = self.until(*opens) => {}
            }
        };
        tokio::select! {
            biased;
            () = self.scope.cancellation.cancelled() => Heard::Cancelled,
            request = self.request() => Heard::Request(request),
            () = slot => Heard::Slot,
            () = self.until(limit), if limit.is_some() => Heard::Limit,
            () = waited => Heard::Ready,
            () = breaker => Heard::Ready,
            () = limited => Heard::Ready,
        }
    }

    /// Behind those that have become ready before, and before those that have only queued.
    pub(super) fn ask_for_a_slot(&self) -> oneshot::Receiver<()> {
        let (grant, granted) = oneshot::channel();
        tell(&self.orchestrator, Happened::Ready { run_id: self.scope.run_id.clone(), grant });
        granted
    }

    pub(super) async fn request(&self) -> Request {
        loop {
            if let Some(request) = self.watch.asked() {
                return request;
            }
            self.watch.poked().await;
        }
    }
}
