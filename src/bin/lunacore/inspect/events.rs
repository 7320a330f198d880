//! `lunacore events`.

use std::time::Duration;

use lunacore::{Barrier, Event, EventKind, MemoryError, Pattern, Reader, RunId};

use crate::args::Events;
use crate::exit::{Exit, Failure};
use crate::screen::{Colour, Screen, Style, clean, fit};
use crate::store::{self, PAGE};
use crate::times::{clock, date, rfc3339};
use crate::words::{decided, why_held, why_skipped};

/// How often a store is looked at while it is followed: a tenth of what people call at once, and nothing to the store.
const POLL: Duration = Duration::from_millis(100);

/// How much of a result or a reason is shown; all of it is in `--json`.
const SHOWN: usize = 120;

pub(crate) fn events(events: &Events, screen: &mut Screen) -> Result<Exit, Failure> {
    let pattern: Pattern = events.pattern.parse().map_err(|error| Failure::invalid(format!("{error}")))?;
    let reader = store::open(&events.source.store)?;
    let run = match &events.run {
        Some(text) => Some(store::find_run(&reader, text)?.run_id),
        None => None,
    };
    let mut after = 0;
    loop {
        // What is over before its events are read has no more than those.
        let over = match &run {
            Some(run_id) => reader.run(run_id)?.is_none_or(|record| record.state.is_final()),
            None => false,
        };
        while let Some(last) = page(&reader, run.as_ref(), after, &pattern, events.source.json, screen)? {
            after = last;
        }
        screen.flush()?;
        if !events.follow || over {
            return Ok(Exit::Done);
        }
        std::thread::sleep(POLL);
    }
}

/// Prints the next page, and answers the number of its last event; nothing when there are no more.
fn page(
    reader: &dyn Reader,
    run: Option<&RunId>,
    after: u64,
    pattern: &Pattern,
    json: bool,
    screen: &mut Screen,
) -> Result<Option<u64>, Failure> {
    let read = |after| match run {
        Some(run_id) => reader.run_events(run_id, after, PAGE),
        None => reader.events(after, PAGE),
    };
    let page = match read(after) {
        // The first ones that are still there will do.
        Err(MemoryError::HistoryGone { first, .. }) => read(first.saturating_sub(1))?,
        page => page?,
    };
    for event in page.iter().filter(|event| pattern.matches(event.event_type())) {
        if json {
            screen.json(event)?;
        } else {
            screen.line(line(event, run.is_none(), screen.style))?;
        }
    }
    Ok(page.last().and_then(Event::seq))
}

fn line(event: &Event, with_run: bool, style: Style) -> String {
    let time = rfc3339(event.timestamp());
    // To the millisecond; the day is there because histories are long.
    let day = time.get(..10).unwrap_or_default();
    let millis = time.get(19..23).unwrap_or_default();
    let seq = event.seq().map_or_else(String::new, |seq| seq.to_string());
    let mut line = format!("{day} {}{millis}  {seq:>6}", clock(event.timestamp()));
    if with_run {
        let run = event.run_id().map_or("-", RunId::as_str);
        line.push_str(&format!("  {}", fit(run, 36, style)));
    }
    let colour = match event.kind() {
        EventKind::PlanFailed { .. }
        | EventKind::TaskFailed { .. }
        | EventKind::TaskCompensationFailed { .. } => Colour::Red,
        EventKind::PlanCompleted {} | EventKind::TaskCompleted { .. } => Colour::Green,
        EventKind::TaskStarted { .. } => Colour::Cyan,
        _ => Colour::Bold,
    };
    line.push_str(&format!("  {}", style.paint(colour, event.event_type())));
    if let Some(task_id) = event.task_id() {
        line.push_str(&format!(" {}", clean(task_id)));
    }
    let details = details(event, SHOWN, style);
    if !details.is_empty() {
        line.push_str(&format!("  {}", style.paint(Colour::Dim, details)));
    }
    line
}

/// What an event says besides its type and its step, for a line.
pub(crate) fn details(event: &Event, width: usize, style: Style) -> String {
    let text = match event.kind() {
        EventKind::PlanAccepted { name, steps } => match name {
            Some(name) => format!("{name}, {}", counted(*steps, "step")),
            None => counted(*steps, "step"),
        },
        EventKind::PlanParked { behind: Barrier::Limit(limit), .. } => format!("limit {limit}"),
        EventKind::PlanParked { behind: Barrier::Breaker(breaker), .. }
        | EventKind::BreakerOpened { breaker, .. }
        | EventKind::BreakerHalfOpened { breaker }
        | EventKind::BreakerClosed { breaker } => format!("breaker {breaker}"),
        EventKind::PlanRetried { generation, completed, .. } => {
            format!("generation {generation}, {} kept", counted(*completed, "step"))
        }
        EventKind::PlanCompensating { steps } => format!("{} to undo", counted(*steps, "step")),
        EventKind::SignalReceived { signal } => signal.to_string(),
        EventKind::PlanResumed { completed } => format!("{} done before", counted(*completed, "step")),
        EventKind::PlanInterrupted { reason } | EventKind::EscalationNeeded { reason, .. } => {
            reason.to_string()
        }
        EventKind::PlanFailed { failure, .. } => failure.message.clone(),
        EventKind::TaskStarted { attempt, fallback: false, .. } => format!("attempt {attempt}"),
        EventKind::TaskStarted { .. } => "fallback".to_owned(),
        EventKind::TaskCompleted { result, .. } => return shown(&result.to_value(), width, style),
        EventKind::TaskFailed { attempt, will_retry, failure, .. } => {
            failed(*attempt, *will_retry, &failure.message)
        }
        EventKind::TaskWaiting { next_attempt_at, .. } => format!("until {}", clock(*next_attempt_at)),
        EventKind::TaskSleeping { until, .. } => format!("until {}", date(*until)),
        EventKind::TaskAwaitingSignal { signal, until, .. } => match until {
            Some(until) => format!("{signal}, until {}", date(*until)),
            None => signal.to_string(),
        },
        EventKind::TaskHeld { attempt, reason, .. } => format!("attempt {attempt}: {}", why_held(*reason)),
        EventKind::TaskResolved { resolution, .. } => decided(*resolution).to_owned(),
        EventKind::TaskSkipped { reason, .. } => why_skipped(*reason).to_owned(),
        EventKind::TaskCompensationFailed { attempt, will_retry, failure, .. } => {
            failed(*attempt, *will_retry, &failure.message)
        }
        EventKind::TaskCancelled { attempt, .. }
        | EventKind::TaskVerifying { attempt, .. }
        | EventKind::TaskCompensating { attempt, .. } => format!("attempt {attempt}"),
        EventKind::TaskProgress { value, .. } => return shown(value, width, style),
        EventKind::SubscriptionLagged { missed } => format!("{missed} missed"),
        EventKind::Custom { payload, .. } => serde_json::to_string(payload).unwrap_or_default(),
        _ => String::new(),
    };
    fit(&text, width, style)
}

fn failed(attempt: u32, will_retry: bool, message: &str) -> String {
    let then = if will_retry { ", to be tried again" } else { "" };
    format!("attempt {attempt}{then}: {message}")
}

/// A value on one line; a text without its quotes.
fn shown(value: &serde_json::Value, width: usize, style: Style) -> String {
    match value.as_str() {
        Some(text) => fit(text, width, style),
        None => fit(&value.to_string(), width, style),
    }
}

pub(crate) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
