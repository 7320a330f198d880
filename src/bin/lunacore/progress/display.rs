use std::io::Write;
use std::time::{Duration, SystemTime};

use lunacore::{Event, PlanError, PlanRecord, RunState};
use serde_json::Value;

use super::bars::Bars;
use super::lines::Lines;
use crate::screen::Style;
use crate::times::{between, took};

/// How often events are looked at, and the display is drawn: twenty times a second is more than anyone can read, and each
/// time costs less than a millisecond.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// What is told of a run while it runs.
pub(crate) struct Progress {
    form: Form,
    began: SystemTime,
    steps: usize,
}

enum Form {
    Silent,
    Lines(Lines),
    Bars(Box<Bars>),
}

impl Progress {
    /// Tells nothing.
    pub(crate) fn silent() -> Self {
        Self { form: Form::Silent, began: SystemTime::now(), steps: 0 }
    }

    /// Begins with a line that says what is run; so many steps are done already.
    pub(crate) fn new(plan: &PlanRecord, done: usize, title: &str, on_terminal: bool, style: Style) -> Self {
        write(&format!("{title}\n"));
        let form = match on_terminal {
            true => Form::Bars(Box::new(Bars::new(plan, done, style))),
            false => Form::Lines(Lines::new(style)),
        };
        Self { form, began: SystemTime::now(), steps: plan.len() }
    }

    /// Takes the next event of the run.
    pub(crate) fn tell(&mut self, event: &Event) {
        match &mut self.form {
            Form::Silent => {}
            Form::Lines(lines) => lines.tell(event),
            Form::Bars(bars) => bars.tell(event),
        }
    }

    /// Brings what is seen up to date.
    pub(crate) fn draw(&mut self, now: SystemTime) {
        match &mut self.form {
            Form::Silent => {}
            Form::Lines(lines) => lines.flush(),
            Form::Bars(bars) => bars.draw(now),
        }
    }

    /// Says something that is no event.
    pub(crate) fn note(&mut self, text: &str) {
        match &mut self.form {
            Form::Silent => {}
            Form::Lines(lines) => {
                lines.add(SystemTime::now(), text);
                lines.flush();
            }
            Form::Bars(bars) => bars.note(text),
        }
    }

    /// Leaves the terminal as it was found: the command ends at once.
    pub(crate) fn abandon(&mut self) {
        if let Form::Bars(bars) = &mut self.form {
            bars.clear();
        }
    }

    /// Says what became of the run.
    pub(crate) fn end(&mut self, outcome: &Result<Vec<Value>, PlanError>) {
        let (state, done) = match outcome.as_ref().map_err(PlanError::why) {
            Ok(outputs) => (RunState::Completed, outputs.len()),
            Err(PlanError::StepFailed { completed, .. } | PlanError::DeadlineExceeded { completed, .. }) => {
                (RunState::Failed, completed.len())
            }
            Err(PlanError::Cancelled { completed, .. }) => (RunState::Cancelled, completed.len()),
            Err(_) => (RunState::Interrupted, 0),
        };
        let undone =
            matches!(outcome, Err(PlanError::Compensated { not_undone, .. }) if not_undone.is_empty());
        let state = if undone { RunState::Compensated } else { state };
        self.last(state, done);
    }

    /// Says that the run waits, and is left to.
    pub(crate) fn rest(&mut self, state: RunState, done: usize) {
        self.last(state, done);
    }

    fn last(&mut self, state: RunState, done: usize) {
        let now = SystemTime::now();
        let after = took(between(self.began, now));
        let text = match state {
            RunState::Interrupted => format!("interrupted after {after}"),
            state => {
                let state = state.as_str().replace('_', " ");
                format!("{state} after {after}: {done} of {} steps done", self.steps)
            }
        };
        match &mut self.form {
            Form::Silent => {}
            Form::Lines(lines) => {
                lines.add(now, &text);
                lines.flush();
            }
            Form::Bars(bars) => {
                bars.clear();
                bars.last(&text, state);
            }
        }
    }
}

/// Where nobody reads it, it is not said.
pub(super) fn write(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}
