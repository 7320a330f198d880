//! `lunacore show`.

use std::collections::BTreeSet;
use std::time::SystemTime;

use lunacore::{Event, MemoryError, PlanRecord, Reader, RunRecord, RunState, Wait};
use serde_json::json;

use super::timeline::{Phase, Row, Standing, Timeline, bar};
use crate::args::Show;
use crate::exit::{Exit, Failure};
use crate::json;
use crate::screen::{Colour, Screen, Style, clean, fit, pad};
use crate::store::{self, PAGE};
use crate::times::{between, date, relative, took};
use crate::words::why_held;

/// How much of a step's id a row shows.
const ID: usize = 24;

/// The columns of a row besides the id and the bar: a mark, the number of attempts, the duration, and what is between.
const REST: usize = 2 + 5 + 12 + 3;

/// The bar is never narrower: below that it says nothing.
const BAR: usize = 10;

pub(crate) fn show(show: &Show, screen: &mut Screen) -> Result<Exit, Failure> {
    let reader = store::open(&show.source.store)?;
    let record = store::find_run(&reader, &show.run)?;
    if show.ascii {
        screen.style.unicode = false;
    }
    let plan = reader.plan(&record.run_id)?;
    let timeline = timeline(&reader, &record, plan.as_ref())?;
    if show.source.json {
        screen.json(&json!({ "run": json::run(&record), "timeline": timeline.rows }))?;
        return Ok(Exit::Done);
    }
    let now = SystemTime::now();
    header(&record, plan.as_ref(), now, screen)?;
    failure(&record, screen)?;
    undone(&record, plan.as_ref(), screen)?;
    draw(&record, &timeline.rows, now, screen)?;
    Ok(Exit::Done)
}

/// Read a page at a time: what a timeline keeps of an event is small, and its result, which may not be, is let go of.
fn timeline(reader: &dyn Reader, record: &RunRecord, plan: Option<&PlanRecord>) -> Result<Timeline, Failure> {
    let mut timeline = Timeline::new(plan.into_iter().flat_map(PlanRecord::step_ids));
    let mut after = 0;
    loop {
        let page = match reader.run_events(&record.run_id, after, PAGE) {
            Err(MemoryError::HistoryGone { first, .. }) => {
                after = first.saturating_sub(1);
                continue;
            }
            page => page?,
        };
        page.iter().for_each(|event| timeline.tell(event));
        match page.last().and_then(Event::seq) {
            Some(last) => after = last,
            None => return Ok(timeline),
        }
    }
}

/// What the run waits for, and until when, behind its state.
fn waits_for(record: &RunRecord, plan: Option<&PlanRecord>, now: SystemTime) -> String {
    let undoing = record.undoing.as_ref().filter(|_| record.state == RunState::Compensating);
    let until = undoing.map_or(record.step.until, |undoing| undoing.until);
    let until = until.map(|until| relative(until, now));
    match (record.state, plan.and_then(|plan| plan.wait_of(record.cursor)), until) {
        (RunState::Held, ..) => record.step.held.map(|held| format!(", since {}", why_held(held))),
        (RunState::AwaitingSignal | RunState::Paused, Some(Wait::Signal(name)), until) => {
            let until = until.map(|until| format!(", which it gives up {until}")).unwrap_or_default();
            Some(format!(", for the signal {}{until}", clean(name)))
        }
        (_, Some(Wait::Sleep(_) | Wait::Until(_)), Some(until)) => Some(format!(", wakes {until}")),
        (_, _, Some(until)) => Some(format!(", next attempt {until}")),
        _ => None,
    }
    .unwrap_or_default()
}

fn header(
    record: &RunRecord,
    plan: Option<&PlanRecord>,
    now: SystemTime,
    screen: &mut Screen,
) -> Result<(), Failure> {
    let style = screen.style;
    let mut field = |name: &str, value: String| {
        screen.line(format!("{}{value}", pad(&style.paint(Colour::Bold, name), 10)))
    };
    field("Run", clean(record.run_id.as_str()))?;
    if let Some(name) = &record.name {
        field("Plan", clean(name))?;
    }
    let mut state = style.state(record.state);
    if record.pausing && record.state != RunState::Paused {
        state.push_str(", about to pause");
    }
    state.push_str(&waits_for(record, plan, now));
    field("State", state)?;
    if record.generation > 1 {
        field("Retried", format!("generation {}", record.generation))?;
    }
    field("Steps", format!("{} of {} done", record.cursor, record.steps))?;
    let moment = |at: SystemTime| format!("{} UTC, {}", date(at), relative(at, now));
    field("Accepted", moment(record.accepted_at))?;
    if let Some(started) = record.started_at {
        field("Started", moment(started))?;
    }
    if let Some(finished) = record.finished_at {
        let took = took(between(record.started_at.unwrap_or(record.accepted_at), finished));
        field("Finished", format!("{}, took {took}", moment(finished)))?;
    }
    if let Some(deadline) = record.deadline {
        field("Deadline", moment(deadline))?;
    }
    Ok(())
}

/// Why it failed or is cut off; or why the last attempt failed, where the next is waited for.
fn failure(record: &RunRecord, screen: &mut Screen) -> Result<(), Failure> {
    if let Some(reason) = &record.reason {
        screen.line(format!("\nInterrupted: {}", clean(reason)))?;
    }
    let Some(failure) = &record.failure else { return Ok(()) };
    let kind = failure.kind.as_str().replace('_', " ");
    let what = match record.state {
        RunState::Failed | RunState::Compensating | RunState::Compensated => "Failed",
        _ => "Last attempt",
    };
    let head = screen.style.paint(Colour::Red, format!("{what} ({kind}):"));
    screen.line(format!("\n{head} {}", indented(&failure.message)))?;
    for cause in &failure.causes {
        screen.line(format!("  caused by: {}", indented(cause)))?;
    }
    Ok(())
}

/// What could not be undone, and why.
fn undone(record: &RunRecord, plan: Option<&PlanRecord>, screen: &mut Screen) -> Result<(), Failure> {
    let Some(undoing) = record.undoing.as_ref().filter(|undoing| !undoing.failed.is_empty()) else {
        return Ok(());
    };
    screen.line("")?;
    for failed in &undoing.failed {
        let step = plan.and_then(|plan| plan.step_ids().nth(failed.step)).unwrap_or_default();
        let head = screen.style.paint(Colour::Red, format!("Not undone ({}):", clean(step)));
        screen.line(format!("{head} {}", indented(&failed.failure.message)))?;
    }
    Ok(())
}

/// Text of several lines keeps them, each under the first.
fn indented(text: &str) -> String {
    text.trim_end().lines().map(clean).collect::<Vec<_>>().join("\n    ")
}

fn draw(record: &RunRecord, rows: &[Row], now: SystemTime, screen: &mut Screen) -> Result<(), Failure> {
    let style = screen.style;
    let spans = rows.iter().filter_map(|row| row.span(now));
    let Some(start) = spans.clone().map(|(from, _)| from).min() else { return Ok(()) };
    // The clock of a run that is over stands still.
    let now = record.finished_at.unwrap_or(now);
    let end = spans.map(|(_, to)| to).max().unwrap_or(now).min(now).max(start);
    let ids = rows.iter().map(|row| console::measure_text_width(&row.id)).max().unwrap_or(0).min(ID);
    let width = screen.width.saturating_sub(ids + REST).max(BAR);
    screen.line("")?;
    let phases: BTreeSet<Phase> =
        rows.iter().flat_map(|row| &row.segments).map(|segment| segment.phase).collect();
    for row in rows {
        let bar = bar(row, (start, end), now, width, style.unicode);
        let took = row.span(now).map_or_else(|| "-".to_owned(), |(from, to)| took(between(from, to)));
        let attempts = if row.attempts > 1 { format!("x{}", row.attempts) } else { String::new() };
        let (mark, colour) = mark(row.state, style);
        let line = format!(
            "{} {} {} {} {}",
            style.paint(colour, mark),
            pad(&fit(&row.id, ids, style), ids),
            style.paint(colour, bar),
            pad(&took, 11),
            attempts
        );
        screen.line(line.trim_end())?;
    }
    // Where everything just ran there is nothing to explain.
    if phases.iter().any(|phase| *phase != Phase::Attempt) {
        let explained = |phase: &Phase| format!("{} {}", phase.glyph(style.unicode), phase.name());
        let legend: Vec<String> = phases.iter().map(explained).collect();
        screen.line(format!("\n{}", style.paint(Colour::Dim, legend.join("   "))))?;
    }
    Ok(())
}

fn mark(standing: Standing, style: Style) -> (char, Colour) {
    let (unicode, ascii, colour) = match standing {
        Standing::Pending => ('·', ' ', Colour::Dim),
        Standing::Running => ('▶', '>', Colour::Cyan),
        Standing::Waiting => ('…', '~', Colour::Yellow),
        Standing::Completed => ('✔', '+', Colour::Green),
        Standing::Skipped => ('↷', '/', Colour::Yellow),
        Standing::Failed => ('✘', '!', Colour::Red),
        Standing::Cancelled => ('■', '-', Colour::Dim),
        Standing::CutOff => ('?', '?', Colour::Yellow),
        Standing::Undone => ('↶', '<', Colour::Yellow),
    };
    (if style.unicode { unicode } else { ascii }, colour)
}
