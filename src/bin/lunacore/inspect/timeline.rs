//! When the steps of a run ran, and what they waited for, out of its events. Pure.

use std::collections::HashMap;
use std::time::SystemTime;

use lunacore::{Event, EventKind, Resolution};
use serde::{Serialize, Serializer};

use crate::times::rfc3339;

/// What a step did for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// An attempt that completed, or is in flight.
    Attempt,
    /// An attempt that failed.
    Failed,
    /// An attempt that was cancelled, or cut off with its process.
    CutOff,
    /// It waited for the next attempt.
    BackingOff,
    /// It waited for a circuit breaker.
    Parked,
    /// The run was paused.
    Paused,
    /// It waited for a time.
    Sleeping,
    /// It waited for a signal.
    AwaitingSignal,
    /// It waited for somebody's decision.
    Held,
    /// It was asked whether it had its effect.
    Verifying,
    /// It was undone, or is being.
    Undoing,
}

impl Phase {
    fn is_attempt(self) -> bool {
        matches!(self, Self::Attempt | Self::Failed | Self::CutOff | Self::Verifying | Self::Undoing)
    }

    /// How a bar shows it.
    pub(crate) fn glyph(self, unicode: bool) -> char {
        match (self, unicode) {
            (Self::Attempt, true) => '█',
            (Self::Failed, true) => '▓',
            (Self::CutOff, true) => '▒',
            (Self::BackingOff, true) => '┄',
            (Self::Parked, true) => '╌',
            (Self::Paused, true) => '═',
            (Self::Sleeping, true) => '┈',
            (Self::AwaitingSignal, true) => '┅',
            (Self::Held, true) => '░',
            (Self::Verifying, true) => '▞',
            (Self::Undoing, true) => '◀',
            (Self::Attempt, false) => '#',
            (Self::Failed, false) => 'x',
            (Self::CutOff, false) => '%',
            (Self::BackingOff, false) => '.',
            (Self::Parked, false) => '~',
            (Self::Paused, false) => '=',
            (Self::Sleeping, false) => 'z',
            (Self::AwaitingSignal, false) => '-',
            (Self::Held, false) => '?',
            (Self::Verifying, false) => 'v',
            (Self::Undoing, false) => '<',
        }
    }

    /// What the legend calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Attempt => "ran",
            Self::Failed => "failed",
            Self::CutOff => "cut off",
            Self::BackingOff => "backed off",
            Self::Parked => "parked",
            Self::Paused => "paused",
            Self::Sleeping => "slept",
            Self::AwaitingSignal => "awaited a signal",
            Self::Held => "held",
            Self::Verifying => "verified",
            Self::Undoing => "undone",
        }
    }
}

/// What a step did, from when to when; one that is still open has no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Segment {
    pub(crate) phase: Phase,
    #[serde(serialize_with = "time")]
    pub(crate) from: SystemTime,
    #[serde(serialize_with = "maybe_time")]
    pub(crate) to: Option<SystemTime>,
}

fn time<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*at))
}

#[allow(clippy::ref_option, reason = "serde asks for it like this")]
fn maybe_time<S: Serializer>(at: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(rfc3339).serialize(serializer)
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    Pending,
    Running,
    Waiting,
    Completed,
    Skipped,
    Failed,
    Cancelled,
    CutOff,
    Undone,
}

/// A step, and what it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) state: Standing,
    pub(crate) attempts: u32,
    pub(crate) segments: Vec<Segment>,
}

impl Row {
    fn new(id: &str) -> Self {
        Self { id: id.to_owned(), state: Standing::Pending, attempts: 0, segments: Vec::new() }
    }

    /// Ends what is open; an attempt ends as `phase` says.
    fn close(&mut self, at: SystemTime, phase: Phase) {
        let Some(last) = self.segments.last_mut().filter(|last| last.to.is_none()) else { return };
        last.to = Some(at);
        if last.phase.is_attempt() {
            last.phase = phase;
        }
    }

    fn open(&mut self, at: SystemTime, phase: Phase) {
        self.close(at, Phase::CutOff);
        self.segments.push(Segment { phase, from: at, to: None });
        self.state = if phase.is_attempt() { Standing::Running } else { Standing::Waiting };
    }

    /// From its first moment to its last, or to `now` where it is not over.
    pub(crate) fn span(&self, now: SystemTime) -> Option<(SystemTime, SystemTime)> {
        let first = self.segments.first()?;
        let end = self.segments.last().map_or(Some(now), |last| last.to).unwrap_or(now);
        Some((first.from, end))
    }
}

/// The steps of a run in their order.
pub(crate) struct Timeline {
    pub(crate) rows: Vec<Row>,
    places: HashMap<String, usize>,
    /// The step that the run is at.
    cursor: usize,
}

impl Timeline {
    pub(crate) fn new<'a>(steps: impl Iterator<Item = &'a str>) -> Self {
        let rows: Vec<Row> = steps.map(Row::new).collect();
        let places = rows.iter().enumerate().map(|(place, row)| (row.id.clone(), place)).collect();
        Self { rows, places, cursor: 0 }
    }

    /// Takes the next event of the run.
    pub(crate) fn tell(&mut self, event: &Event) {
        let at = event.timestamp();
        if let EventKind::PlanRetried { completed, .. } = event.kind() {
            return self.begin_anew(at, *completed);
        }
        if let Some(task_id) = event.task_id() {
            if let Some(place) = self.places.get(task_id).copied() {
                self.tell_step(place, at, event.kind());
            }
            return;
        }
        let Some(row) = self.rows.get_mut(self.cursor) else { return };
        match event.kind() {
            EventKind::PlanPaused {} => row.open(at, Phase::Paused),
            // An attempt that is open was cut off; when, nobody could write down.
            EventKind::PlanResumed { .. } | EventKind::PlanInterrupted { .. } => {
                row.close(at, Phase::CutOff);
                if row.state == Standing::Running {
                    row.state = Standing::CutOff;
                }
            }
            EventKind::PlanCompleted {} => row.close(at, Phase::Attempt),
            EventKind::PlanCancelled {} => {
                row.close(at, Phase::CutOff);
                if row.state != Standing::Pending {
                    row.state = Standing::Cancelled;
                }
            }
            _ => {}
        }
    }

    /// Another generation: so many steps count as they are, and of the others nothing any more.
    fn begin_anew(&mut self, at: SystemTime, completed: usize) {
        if let Some(row) = self.rows.get_mut(self.cursor) {
            row.close(at, Phase::CutOff);
        }
        for row in self.rows.iter_mut().skip(completed) {
            *row = Row::new(&row.id);
        }
        self.cursor = completed;
    }

    fn tell_step(&mut self, place: usize, at: SystemTime, kind: &EventKind) {
        let Some(row) = self.rows.get_mut(place) else { return };
        match kind {
            EventKind::TaskStarted { attempt, .. } => {
                row.open(at, Phase::Attempt);
                row.attempts = row.attempts.max(*attempt);
                self.cursor = place;
            }
            EventKind::TaskCompleted { .. } => {
                row.close(at, Phase::Attempt);
                row.state = Standing::Completed;
                self.cursor = place + 1;
            }
            EventKind::TaskRecovered { .. } => self.cursor = place + 1,
            EventKind::TaskFailed { will_retry, .. } => {
                row.close(at, Phase::Failed);
                row.state = Standing::Failed;
                if *will_retry {
                    row.open(at, Phase::BackingOff);
                }
            }
            EventKind::TaskWaiting { .. } => row.open(at, Phase::BackingOff),
            EventKind::TaskSleeping { .. } => row.open(at, Phase::Sleeping),
            EventKind::TaskAwaitingSignal { .. } => row.open(at, Phase::AwaitingSignal),
            EventKind::TaskVerifying { .. } => row.open(at, Phase::Verifying),
            EventKind::TaskHeld { .. } => {
                row.close(at, Phase::Failed);
                row.open(at, Phase::Held);
            }
            EventKind::TaskResolved { resolution, .. } => {
                row.close(at, Phase::Held);
                if *resolution == Resolution::Failed {
                    row.state = Standing::Failed;
                }
            }
            EventKind::TaskCompensating { .. } => row.open(at, Phase::Undoing),
            EventKind::TaskCompensated { .. } => {
                row.close(at, Phase::Undoing);
                row.state = Standing::Undone;
            }
            EventKind::TaskCompensationFailed { will_retry, .. } => {
                row.close(at, Phase::Failed);
                row.state = Standing::Failed;
                if *will_retry {
                    row.open(at, Phase::BackingOff);
                }
            }
            EventKind::PlanParked { .. } => row.open(at, Phase::Parked),
            EventKind::TaskSkipped { .. } => {
                row.close(at, Phase::Failed);
                row.state = Standing::Skipped;
                self.cursor = place + 1;
            }
            EventKind::TaskCancelled { .. } => {
                row.close(at, Phase::CutOff);
                row.state = Standing::Cancelled;
            }
            EventKind::PlanFailed { .. } => {
                row.close(at, Phase::Failed);
                row.state = Standing::Failed;
            }
            _ => {}
        }
    }
}

/// A bar of `width` cells, in which whatever took any time at all between `start` and `end` has a cell at least. What is
/// open goes on until `now`.
pub(crate) fn bar(
    row: &Row,
    (start, end): (SystemTime, SystemTime),
    now: SystemTime,
    width: usize,
    unicode: bool,
) -> String {
    let total = end.duration_since(start).unwrap_or_default().as_secs_f64().max(f64::MIN_POSITIVE);
    let mut cells = vec![' '; width];
    let edge = |at: SystemTime| {
        let since = at.duration_since(start).unwrap_or_default().as_secs_f64();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 1")]
        let edge = ((since / total).clamp(0.0, 1.0) * width as f64).round() as usize;
        edge
    };
    // Attempts last: a wait beside one never hides it.
    let of = |attempts| row.segments.iter().filter(move |segment| segment.phase.is_attempt() == attempts);
    for segment in of(false).chain(of(true)) {
        let from = edge(segment.from).min(width.saturating_sub(1));
        let to = edge(segment.to.unwrap_or(now)).max(from + 1);
        for place in cells.iter_mut().take(to).skip(from) {
            *place = segment.phase.glyph(unicode);
        }
    }
    cells.into_iter().collect()
}
