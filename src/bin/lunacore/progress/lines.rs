//! A line for each thing that happens: for logs, pipes and terminals that can do no more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use lunacore::{Barrier, Event, EventKind};

use super::display::write;
use super::model::{reported, waits_for};
use crate::inspect::counted;
use crate::screen::{Style, clean, fit};
use crate::times::{between, clock, took};
use crate::words::{decided, why_held};

/// How much of a message, or of what a step reports, a line shows.
const SHOWN: usize = 200;

pub(super) struct Lines {
    style: Style,
    /// When the attempts that are in flight began.
    since: HashMap<Arc<str>, SystemTime>,
    /// What is written all at once: a write for each line is slower than the steps may be.
    waiting: String,
}

impl Lines {
    pub(super) fn new(style: Style) -> Self {
        Self { style, since: HashMap::new(), waiting: String::new() }
    }

    pub(super) fn tell(&mut self, event: &Event) {
        if let Some(text) = self.text(event) {
            self.add(event.timestamp(), &text);
        }
    }

    pub(super) fn add(&mut self, at: SystemTime, text: &str) {
        self.waiting.push_str(&clock(at));
        self.waiting.push(' ');
        self.waiting.push_str(text);
        self.waiting.push('\n');
    }

    pub(super) fn flush(&mut self) {
        if !self.waiting.is_empty() {
            write(&self.waiting);
            self.waiting.clear();
        }
    }

    /// What a line says of an event; nothing for those that the first line and the last tell of.
    fn text(&mut self, event: &Event) -> Option<String> {
        let (at, style) = (event.timestamp(), self.style);
        let step = event.task_id().map(clean).unwrap_or_default();
        // What was not called has taken no time.
        let took = |since: Option<SystemTime>| {
            since.map_or_else(String::new, |since| format!(" in {}", took(between(since, at))))
        };
        Some(match event.kind() {
            EventKind::TaskStarted { task_id, attempt, fallback, .. } => {
                self.since.insert(Arc::clone(task_id), at);
                let which = if *fallback { "its fallback".to_owned() } else { format!("attempt {attempt}") };
                format!("{step} started ({which})")
            }
            EventKind::TaskCompleted { task_id, .. } => {
                format!("{step} completed{}", took(self.since.remove(task_id)))
            }
            EventKind::TaskRecovered { .. } => format!("{step} had completed before"),
            EventKind::TaskFailed { task_id, attempt, next_attempt_at, failure, .. } => {
                self.since.remove(task_id);
                let next = next_attempt_at.map(|next| format!("; next attempt in {}", waits_for(next, at)));
                let message = fit(&failure.message, SHOWN, style);
                format!("{step} failed (attempt {attempt}): {message}{}", next.unwrap_or_default())
            }
            EventKind::TaskWaiting { next_attempt_at, .. } => {
                format!("{step} waits: next attempt in {}", waits_for(*next_attempt_at, at))
            }
            EventKind::TaskSkipped { .. } => format!("{step} skipped"),
            EventKind::TaskSleeping { until, .. } => format!("{step} sleeps for {}", waits_for(*until, at)),
            EventKind::TaskAwaitingSignal { signal, until, .. } => {
                let until = until.map(|until| format!(", for {}", waits_for(until, at)));
                format!("{step} waits for the signal {}{}", clean(signal), until.unwrap_or_default())
            }
            EventKind::SignalReceived { signal } => format!("the signal {} came", clean(signal)),
            EventKind::TaskVerifying { .. } => {
                format!("{step} was cut off: whether it had its effect is asked")
            }
            EventKind::TaskHeld { task_id, reason, .. } => {
                self.since.remove(task_id);
                format!("{step} held: {}", why_held(*reason))
            }
            EventKind::TaskResolved { resolution, .. } => format!("{step} decided: {}", decided(*resolution)),
            EventKind::PlanCompensating { steps } => format!("undoing {}", counted(*steps, "step")),
            EventKind::TaskCompensating { task_id, attempt } => {
                self.since.insert(Arc::clone(task_id), at);
                format!("{step} being undone (attempt {attempt})")
            }
            EventKind::TaskCompensated { task_id } => {
                format!("{step} undone{}", took(self.since.remove(task_id)))
            }
            EventKind::TaskCompensationFailed { task_id, attempt, next_attempt_at, failure, .. } => {
                self.since.remove(task_id);
                let next = next_attempt_at.map(|next| format!("; next attempt in {}", waits_for(next, at)));
                let message = fit(&failure.message, SHOWN, style);
                format!("{step} not undone (attempt {attempt}): {message}{}", next.unwrap_or_default())
            }
            EventKind::TaskCancelled { .. } => format!("{step} cancelled"),
            EventKind::TaskProgress { value, .. } => {
                format!("{step} | {}", fit(&reported(value), SHOWN, style))
            }
            EventKind::PlanPaused {} => "paused".to_owned(),
            EventKind::PlanParked { behind: Barrier::Breaker(breaker), .. } => {
                format!("{step} parked: the breaker {} is open", clean(breaker))
            }
            EventKind::PlanParked { behind: Barrier::Limit(limit), .. } => {
                format!("{step} parked: the limit {} has no permit", clean(limit))
            }
            EventKind::PlanStopping {} => "waiting for blocking code to stop".to_owned(),
            EventKind::PlanInterrupted { reason } => format!("interrupted: {}", fit(reason, SHOWN, style)),
            EventKind::SubscriptionLagged { missed } => format!("({missed} events are not shown)"),
            _ => return None,
        })
    }
}
