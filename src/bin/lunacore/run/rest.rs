//! Runs that wait for what nobody can give them while the command has their store: what is told of them, and how they go on.

use std::sync::Arc;
use std::time::SystemTime;

use lunacore::{HoldReason, PlanRecord, RunId, RunInfo, RunState, StepFailure, Wait};
use serde_json::{Value, json};

use crate::screen::clean;
use crate::times::{date, rfc3339};
use crate::words::why_held;

/// Where runs are kept, for who has to say how they go on.
pub(super) enum Place {
    Memory,
    File,
}

impl Place {
    pub(super) fn is_stored(&self) -> bool {
        matches!(self, Self::File)
    }
}

/// A run that waits, and for what.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) run_id: RunId,
    pub(super) state: RunState,
    pub(super) completed: usize,
    step: String,
    held: Option<HoldReason>,
    failure: Option<Arc<StepFailure>>,
    signal: Option<Arc<str>>,
    until: Option<SystemTime>,
}

/// What a run waits for that it will not get here, if it does.
pub(super) fn of(info: &RunInfo, now: SystemTime, plan: &PlanRecord, place: &Place) -> Option<Rest> {
    let waits = match info.state {
        RunState::Held => true,
        // It goes on by itself once the signal is there, or it has waited for too long; in memory all that it can do is to wait
        // for that.
        RunState::AwaitingSignal => {
            info.signal.is_some() && info.until.is_none_or(|until| place.is_stored() && until > now)
        }
        _ => false,
    };
    waits.then(|| Rest::new(info, plan))
}

/// A run that sleeps, and can be left to.
pub(super) fn sleeping(now: &RunInfo, plan: &PlanRecord, place: &Place) -> Option<Rest> {
    (now.state == RunState::Sleeping && place.is_stored()).then(|| Rest::new(now, plan))
}

impl Rest {
    fn new(now: &RunInfo, plan: &PlanRecord) -> Self {
        let signal = match plan.wait_of(now.completed) {
            Some(Wait::Signal(name)) => Some(Arc::clone(name)),
            _ => None,
        };
        Self {
            run_id: now.run_id.clone(),
            state: now.state,
            completed: now.completed,
            step: plan.step_ids().nth(now.completed).unwrap_or_default().to_owned(),
            held: now.held,
            failure: now.failure.clone(),
            signal,
            until: now.until,
        }
    }

    /// For people: what it waits for, and which command goes on.
    pub(super) fn explained(&self, place: &Place) -> String {
        let (run_id, step) = (&self.run_id, clean(&self.step));
        let until = self.until.map(|until| format!(", until {} UTC", date(until))).unwrap_or_default();
        let (what, then) = match (self.state, &self.signal) {
            (RunState::AwaitingSignal, Some(name)) => (
                format!("run {run_id} waits at step {step} for the signal {}{until}", clean(name)),
                format!(
                    "`lunacore signal {run_id} {}` sends it, and `lunacore resume {run_id}` goes on then",
                    quoted(name)
                ),
            ),
            (RunState::Sleeping, _) => (
                format!("run {run_id} sleeps at step {step}{until}"),
                format!("`lunacore resume {run_id}` goes on with it"),
            ),
            _ => (
                format!("run {run_id} is held at step {step}: {}", self.why()),
                format!(
                    "`lunacore resolve {run_id}` with --completed, --rerun, --failed or --skip decides, and goes on with it"
                ),
            ),
        };
        match place {
            Place::File => format!("{what}\n{then}"),
            Place::Memory => format!("{what}\nnothing of it is kept; without --in-memory it could go on"),
        }
    }

    fn why(&self) -> String {
        let why = self.held.map_or("somebody has to decide about it", why_held);
        match &self.failure {
            Some(failure) => {
                format!("{why}: {}", failure.message.lines().map(clean).collect::<Vec<_>>().join("\n    "))
            }
            None => why.to_owned(),
        }
    }

    /// For programs.
    pub(super) fn as_json(&self) -> Value {
        let waits = json!({
            "step": self.step,
            "signal": self.signal.as_ref().filter(|_| self.state == RunState::AwaitingSignal),
            "held": self.held,
            "until": self.until.map(rfc3339),
        });
        crate::json::without_nulls(waits)
    }
}

/// A name as a shell takes it for one word.
fn quoted(name: &str) -> String {
    let plain =
        |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/' | '@' | '%' | '+' | ',');
    if name.chars().all(plain) && !name.starts_with('-') {
        return name.to_owned();
    }
    format!("'{}'", clean(name).replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_name_is_one_word_to_a_shell() {
        assert_eq!(quoted("decision/ä-1"), "decision/ä-1");
        assert_eq!(quoted("it's on"), r"'it'\''s on'");
        assert_eq!(quoted("-x"), "'-x'");
    }
}
