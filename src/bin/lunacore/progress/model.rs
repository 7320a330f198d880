//! Where each step stands, and which few of them are worth to be seen. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lunacore::{Barrier, Event, EventKind, HoldReason, StepFailure};
use serde_json::Value;

use crate::times::{between, took};
use crate::words::why_held;

/// How many steps are shown that are over, and how many that come next: all else would flood the terminal.
const OVER: usize = 2;
const NEXT: usize = 3;

/// Where a step stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    Pending,
    Running { attempt: u32, since: SystemTime },
    Waiting { next: u32, until: SystemTime, why: Arc<str> },
    Parked { breaker: Arc<str> },
    Limited { limit: Arc<str> },
    Paused,
    Sleeping { until: SystemTime },
    AwaitingSignal { signal: Arc<str>, until: Option<SystemTime> },
    Held { reason: HoldReason },
    Verifying { since: SystemTime },
    Undoing { attempt: u32, since: SystemTime },
    Undone,
    Completed { took: Option<Duration> },
    Skipped,
    Failed { why: Arc<str> },
    Cancelled,
}

impl Standing {
    fn is_over(&self) -> bool {
        matches!(
            self,
            Self::Completed { .. } | Self::Skipped | Self::Failed { .. } | Self::Cancelled | Self::Undone
        )
    }
}

/// The steps of a run.
pub(super) struct Model {
    ids: Vec<Arc<str>>,
    places: HashMap<Arc<str>, usize>,
    standing: Vec<Standing>,
    /// How many steps the run has behind it.
    pub(super) done: usize,
    /// The step that is being undone, or was last.
    undoing: Option<usize>,
    /// What the step in flight reported last.
    report: Option<String>,
    /// Events that never came: what is shown may not be all.
    pub(super) missed: u64,
}

/// A line of the display.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) id: &'a str,
    pub(super) standing: &'a Standing,
    pub(super) text: String,
}

impl Model {
    pub(super) fn new<'a>(steps: impl Iterator<Item = &'a str>) -> Self {
        let ids: Vec<Arc<str>> = steps.map(Arc::from).collect();
        let places = ids.iter().enumerate().map(|(place, id)| (Arc::clone(id), place)).collect();
        let standing = vec![Standing::Pending; ids.len()];
        Self { ids, places, standing, done: 0, undoing: None, report: None, missed: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Takes the next event of the run.
    pub(super) fn tell(&mut self, event: &Event) {
        if self.tell_whole(event.kind()) {
            return;
        }
        let Some(place) = event.task_id().and_then(|id| self.places.get(id)).copied() else { return };
        let Some(standing) = self.standing.get_mut(place) else { return };
        let at = event.timestamp();
        let next = match event.kind() {
            EventKind::TaskStarted { attempt, .. } => {
                self.report = None;
                // After a gap: those before it must be over.
                self.done = self.done.max(place);
                Standing::Running { attempt: *attempt, since: at }
            }
            EventKind::TaskProgress { value, .. } => {
                self.report = Some(reported(value));
                return;
            }
            EventKind::TaskCompleted { .. } => {
                self.done = self.done.max(place + 1);
                let since = match standing {
                    Standing::Running { since, .. } => Some(*since),
                    _ => None,
                };
                Standing::Completed { took: since.map(|since| between(since, at)) }
            }
            EventKind::TaskRecovered { .. } => {
                self.done = self.done.max(place + 1);
                Standing::Completed { took: None }
            }
            EventKind::TaskFailed { attempt, next_attempt_at, failure, .. } => {
                failed(*attempt, *next_attempt_at, failure)
            }
            EventKind::TaskWaiting { attempt, next_attempt_at, .. } => {
                Standing::Waiting { next: attempt + 1, until: *next_attempt_at, why: Arc::from("") }
            }
            EventKind::TaskSkipped { .. } => {
                self.done = self.done.max(place + 1);
                Standing::Skipped
            }
            EventKind::TaskCancelled { .. } => Standing::Cancelled,
            EventKind::TaskSleeping { until, .. } => Standing::Sleeping { until: *until },
            EventKind::TaskAwaitingSignal { signal, until, .. } => {
                Standing::AwaitingSignal { signal: Arc::clone(signal), until: *until }
            }
            EventKind::TaskHeld { reason, .. } => Standing::Held { reason: *reason },
            EventKind::TaskVerifying { .. } => Standing::Verifying { since: at },
            EventKind::TaskCompensating { attempt, .. } => {
                (self.undoing, self.report) = (Some(place), None);
                Standing::Undoing { attempt: *attempt, since: at }
            }
            EventKind::TaskCompensated { .. } => Standing::Undone,
            EventKind::TaskCompensationFailed { attempt, next_attempt_at, failure, .. } => {
                failed(*attempt, *next_attempt_at, failure)
            }
            EventKind::PlanParked { behind: Barrier::Breaker(breaker), .. } => {
                Standing::Parked { breaker: Arc::clone(breaker) }
            }
            EventKind::PlanParked { behind: Barrier::Limit(limit), .. } => {
                Standing::Limited { limit: Arc::clone(limit) }
            }
            _ => return,
        };
        *standing = next;
    }

    /// Takes what is about no step alone, and answers whether that was all.
    fn tell_whole(&mut self, kind: &EventKind) -> bool {
        match kind {
            EventKind::SubscriptionLagged { missed } => self.missed += missed,
            EventKind::PlanPaused {} => {
                if let Some(standing) = self.standing.get_mut(self.done) {
                    *standing = Standing::Paused;
                }
            }
            EventKind::PlanRetried { completed, .. } => {
                self.done = *completed;
                self.standing.iter_mut().skip(*completed).for_each(|standing| *standing = Standing::Pending);
            }
            _ => return false,
        }
        true
    }

    /// The lines worth to be seen: the last steps that are over, the one that the run is at, and the next few.
    pub(super) fn lines(&self, now: SystemTime) -> Vec<Line<'_>> {
        let at = self.undoing.unwrap_or(self.done).min(self.ids.len().saturating_sub(1));
        let range = at.saturating_sub(OVER)..(at + 1 + NEXT).min(self.ids.len());
        let steps = self.ids.iter().zip(&self.standing).enumerate();
        let shown = steps.skip(range.start).take(range.len());
        shown
            .map(|(place, (id, standing))| {
                // What is undone is so one at a time, and nothing of it passes unseen.
                let over_unseen = self.undoing.is_none() && place < self.done && !standing.is_over();
                let standing = if over_unseen { &Standing::Completed { took: None } } else { standing };
                Line { id, standing, text: self.text(standing, now) }
            })
            .collect()
    }

    fn text(&self, standing: &Standing, now: SystemTime) -> String {
        match standing {
            Standing::Pending | Standing::Completed { took: None } => String::new(),
            Standing::Completed { took: Some(duration) } => took(*duration),
            Standing::Running { attempt, since } => {
                let mut text = took(between(*since, now));
                if *attempt > 1 {
                    text = format!("attempt {attempt}, {text}");
                }
                match &self.report {
                    Some(report) => format!("{text} | {report}"),
                    None => text,
                }
            }
            Standing::Waiting { next, until, why } if why.is_empty() => {
                format!("attempt {next} in {}", waits_for(*until, now))
            }
            Standing::Waiting { next, until, why } => {
                format!("attempt {next} in {}: {why}", waits_for(*until, now))
            }
            Standing::Parked { breaker } => format!("parked: the breaker {breaker} is open"),
            Standing::Limited { limit } => format!("parked: the limit {limit} has no permit"),
            Standing::Paused => "paused".to_owned(),
            Standing::Sleeping { until } => format!("sleeps for {}", waits_for(*until, now)),
            Standing::AwaitingSignal { signal, until: None } => format!("waits for the signal {signal}"),
            Standing::AwaitingSignal { signal, until: Some(until) } => {
                format!("waits for the signal {signal}, for {}", waits_for(*until, now))
            }
            Standing::Held { reason } => format!("held: {}", why_held(*reason)),
            Standing::Verifying { since } => {
                format!("whether it had its effect is asked, {}", took(between(*since, now)))
            }
            Standing::Undoing { attempt, since } => {
                let which = if *attempt > 1 { format!("attempt {attempt}, ") } else { String::new() };
                let report = self.report.as_ref().map(|report| format!(" | {report}")).unwrap_or_default();
                format!("being undone, {which}{}{report}", took(between(*since, now)))
            }
            Standing::Undone => "undone".to_owned(),
            Standing::Skipped => "skipped".to_owned(),
            Standing::Failed { why } => why.to_string(),
            Standing::Cancelled => "cancelled".to_owned(),
        }
    }
}

fn failed(attempt: u32, next: Option<SystemTime>, failure: &StepFailure) -> Standing {
    let why = Arc::from(failure.message.as_str());
    match next {
        Some(until) => Standing::Waiting { next: attempt + 1, until, why },
        None => Standing::Failed { why },
    }
}

/// A countdown goes by whole seconds, the last of which is not nothing.
pub(super) fn waits_for(until: SystemTime, now: SystemTime) -> String {
    let left = between(now, until);
    match left.as_millis() {
        0..1_000 => took(left),
        _ => took(Duration::from_secs(left.as_millis().div_ceil(1_000).try_into().unwrap_or(u64::MAX))),
    }
}

/// What a step reports: its line, where it is output of a program, or else all of it.
pub(super) fn reported(value: &Value) -> String {
    match (value.get("line").and_then(Value::as_str), value.as_str()) {
        (Some(text), _) | (None, Some(text)) => text.to_owned(),
        (None, None) => value.to_string(),
    }
}

#[cfg(test)]
mod tests;
