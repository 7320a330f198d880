//! A few lines on a terminal that are drawn again and again.

use std::time::SystemTime;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use lunacore::{Event, PlanRecord, RunState};

use super::display::write;
use super::model::{Model, Standing};
use crate::screen::{Colour, Style, clean, fit, pad};
use crate::times::{between, took};

/// How often a terminal is written to at most, in a second.
const REDRAWS: u8 = 20;

/// How much of a step's id is shown.
const ID: usize = 28;

/// How wide the bar is that shows how many steps are done.
const BAR: usize = 24;

/// One frame of the spinner a tick.
const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const SPINNER_ASCII: [char; 4] = ['|', '/', '-', '\\'];

pub(super) struct Bars {
    model: Model,
    style: Style,
    began: SystemTime,
    all: MultiProgress,
    head: ProgressBar,
    lines: Vec<ProgressBar>,
    frame: usize,
}

impl Bars {
    pub(super) fn new(plan: &PlanRecord, done: usize, style: Style) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS));
        let head = all.add(line());
        let mut model = Model::new(plan.step_ids());
        model.done = done;
        Self { model, style, began: SystemTime::now(), all, head, lines: Vec::new(), frame: 0 }
    }

    pub(super) fn tell(&mut self, event: &Event) {
        self.model.tell(event);
    }

    pub(super) fn draw(&mut self, now: SystemTime) {
        self.frame += 1;
        let style = self.style;
        let shown: Vec<String> = self
            .model
            .lines(now)
            .iter()
            .map(|line| {
                let (mark, colour) = self.mark(line.standing);
                let id = pad(&fit(line.id, ID, style), self.widest());
                let text = format!("  {} {id}  {}", style.paint(colour, mark), clean(&line.text));
                text.trim_end().to_owned()
            })
            .collect();
        while self.lines.len() < shown.len() {
            self.lines.push(self.all.add(line()));
        }
        for (bar, text) in self.lines.iter().zip(shown) {
            bar.set_message(text);
        }
        self.head.set_message(self.heading(now));
    }

    fn heading(&self, now: SystemTime) -> String {
        let (done, of) = (self.model.done, self.model.len().max(1));
        let filled = done * BAR / of;
        let (full, empty) = if self.style.unicode { ("━", "─") } else { ("#", "-") };
        let bar = self.style.paint(Colour::Green, full.repeat(filled)) + &empty.repeat(BAR - filled.min(BAR));
        let missed = match self.model.missed {
            0 => String::new(),
            missed => format!(" ({missed} events are not shown)"),
        };
        format!("{bar} {done}/{of}  {}{missed}", took(between(self.began, now)))
    }

    /// The ids line up as far as those in sight are concerned.
    fn widest(&self) -> usize {
        let lines = self.model.lines(self.began);
        lines.iter().map(|line| console::measure_text_width(line.id)).max().unwrap_or(0).min(ID)
    }

    fn mark(&self, standing: &Standing) -> (char, Colour) {
        let (unicode, ascii, colour) = match standing {
            Standing::Pending => ('·', ' ', Colour::Dim),
            Standing::Running { .. } | Standing::Verifying { .. } | Standing::Undoing { .. } => {
                let turn = |frames: &[char]| frames.get(self.frame % frames.len()).copied().unwrap_or(' ');
                (turn(&SPINNER), turn(&SPINNER_ASCII), Colour::Cyan)
            }
            Standing::Waiting { .. }
            | Standing::Parked { .. }
            | Standing::Limited { .. }
            | Standing::Paused
            | Standing::Sleeping { .. }
            | Standing::AwaitingSignal { .. }
            | Standing::Held { .. } => ('…', '~', Colour::Yellow),
            Standing::Undone => ('↶', '<', Colour::Yellow),
            Standing::Completed { .. } => ('✔', '+', Colour::Green),
            Standing::Skipped => ('↷', '/', Colour::Yellow),
            Standing::Failed { .. } => ('✘', '!', Colour::Red),
            Standing::Cancelled => ('■', '-', Colour::Dim),
        };
        (if self.style.unicode { unicode } else { ascii }, colour)
    }

    /// A line above the others, which stays.
    pub(super) fn note(&self, text: &str) {
        let _ = self.all.println(text);
    }

    /// Takes all lines away.
    pub(super) fn clear(&mut self) {
        for bar in self.lines.drain(..).chain([self.head.clone()]) {
            bar.finish_and_clear();
        }
    }

    /// What stays on the terminal.
    pub(super) fn last(&self, text: &str, state: RunState) {
        let (mark, colour) = match (state, self.style.unicode) {
            (RunState::Completed, true) => ("✔", Colour::Green),
            (RunState::Completed, false) => ("+", Colour::Green),
            (RunState::Held | RunState::AwaitingSignal | RunState::Sleeping, true) => ("…", Colour::Yellow),
            (RunState::Held | RunState::AwaitingSignal | RunState::Sleeping, false) => ("~", Colour::Yellow),
            (_, true) => ("✘", Colour::Red),
            (_, false) => ("!", Colour::Red),
        };
        write(&format!("{} {text}\n", self.style.paint(colour, mark)));
    }
}

/// A line that shows a message, as much of it as fits.
fn line() -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new_spinner().with_style(style)
}
