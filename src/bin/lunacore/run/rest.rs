//! Runs that wait for what nobody can give them while the command has their store: what is told of them, and how they go on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use lunacore::{HoldReason, PlanRecord, Reader, RunId, RunInfo, RunState, SqliteStore, StepFailure, Wait};
use serde_json::{Value, json};

use crate::screen::clean;
use crate::times::{date, rfc3339};
use crate::words::why_held;

/// Where runs are kept, for who has to say how they go on.
pub(super) enum Place {
    Memory,
    File(PathBuf),
}

impl Place {
    pub(super) fn is_stored(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// The run has been sent a signal that no step has taken yet.
    fn keeps_signal(&self, run_id: &RunId, name: &str) -> bool {
        let Self::File(path) = self else { return false };
        let kept = SqliteStore::open_read_only(path).ok().and_then(|store| store.signals(run_id).ok());
        kept.is_some_and(|kept| kept.iter().any(|signal| &*signal.name == name))
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
pub(super) fn of(now: &RunInfo, before: Option<&RunInfo>, plan: &PlanRecord, place: &Place) -> Option<Rest> {
    let rest = Rest::new(now, plan);
    match now.state {
        RunState::Held => Some(rest),
        RunState::AwaitingSignal => {
            // It goes on by itself: it may just have begun to wait for what was sent before, and in memory it can only wait
            // until it has waited for too long.
            let stays =
                before.is_some_and(|before| (before.state, before.completed) == (now.state, now.completed));
            let kept = || rest.signal.as_ref().is_some_and(|name| place.keeps_signal(&now.run_id, name));
            let ends = !place.is_stored() && now.until.is_some();
            (stays && !ends && !kept()).then_some(rest)
        }
        _ => None,
    }
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
            Place::File(_) => format!("{what}\n{then}"),
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
