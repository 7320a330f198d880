//! What a run came to: its outputs on stdout, and what went wrong on stderr.

use lunacore::{FailureKind, PlanError, PlanRecord, RunId, RunState, StepNotUndone};
use serde_json::{Map, Value, json};

use super::rest::Rest;
use crate::exit::{Exit, Failure, with_causes};
use crate::screen::{Colour, Screen, clean, fit, pad};

/// How much room the ids of steps get at most before their outputs.
const ID: usize = 32;

/// Tells of a run that is over, and answers how the command ends.
pub(crate) fn tell(
    run_id: &RunId,
    plan: &PlanRecord,
    outcome: &Result<Vec<Value>, PlanError>,
    json: bool,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let none = Vec::new();
    let (outputs, exit) = match outcome {
        Ok(outputs) => (outputs, Exit::Done),
        Err(error) => (completed(error).unwrap_or(&none), Failure::exit_of(error)),
    };
    if json {
        screen.json(&as_json(run_id, plan, outputs, outcome.as_ref().err()))?;
    } else {
        as_lines(plan, outputs, screen)?;
    }
    screen.flush()?;
    Ok(exit)
}

/// Tells of a run that waits: what it has done so far.
pub(super) fn tell_waiting(
    plan: &PlanRecord,
    rest: &Rest,
    outputs: &[Value],
    json: bool,
    screen: &mut Screen,
) -> Result<(), Failure> {
    if json {
        let told = json!({
            "run_id": rest.run_id,
            "state": rest.state,
            "outputs": by_id(plan, outputs),
            "waits": rest.as_json(),
        });
        screen.json(&told)?;
    } else {
        as_lines(plan, outputs, screen)?;
    }
    screen.flush()
}

/// The outputs of the steps that completed before.
pub(crate) fn completed(error: &PlanError) -> Option<&Vec<Value>> {
    match error.why() {
        PlanError::StepFailed { completed, .. }
        | PlanError::DeadlineExceeded { completed, .. }
        | PlanError::Cancelled { completed, .. } => Some(completed),
        _ => None,
    }
}

/// A line for each step that has an output. A text stands as it is if it is one line; all else is JSON.
fn as_lines(plan: &PlanRecord, outputs: &[Value], screen: &mut Screen) -> Result<(), Failure> {
    let ids: Vec<String> = plan.step_ids().take(outputs.len()).map(|id| fit(id, ID, screen.style)).collect();
    let widest = ids.iter().map(|id| console::measure_text_width(id)).max().unwrap_or(0);
    for (id, output) in ids.iter().zip(outputs) {
        let text = match output.as_str() {
            Some(text) if !text.chars().any(char::is_control) => text.to_owned(),
            _ => output.to_string(),
        };
        // Only people want it cut.
        let text = if screen.is_terminal {
            fit(&text, screen.width.saturating_sub(widest + 2), screen.style)
        } else {
            text
        };
        let id = screen.style.paint(Colour::Bold, pad(id, widest));
        screen.line(format!("{id}  {text}"))?;
    }
    Ok(())
}

fn as_json(run_id: &RunId, plan: &PlanRecord, outputs: &[Value], error: Option<&PlanError>) -> Value {
    let outputs = by_id(plan, outputs);
    let state = match error.map(PlanError::why) {
        _ if error.is_some_and(is_compensated) => RunState::Compensated,
        None => RunState::Completed,
        Some(PlanError::StepFailed { .. } | PlanError::DeadlineExceeded { .. }) => RunState::Failed,
        Some(PlanError::Cancelled { .. }) => RunState::Cancelled,
        Some(_) => RunState::Interrupted,
    };
    let mut told = json!({ "run_id": run_id, "state": state, "outputs": outputs });
    let failure = match error.map(PlanError::why) {
        Some(PlanError::StepFailed { step_id, attempt, kind, source, .. }) => {
            json!({ "step": step_id, "attempt": attempt, "kind": kind, "error": with_causes(&**source) })
        }
        Some(PlanError::DeadlineExceeded { step_id, source, .. }) => {
            json!({ "step": step_id, "kind": FailureKind::Deadline, "error": with_causes(&**source) })
        }
        Some(PlanError::Cancelled { .. }) | None => Value::Null,
        Some(error) => json!({ "error": with_causes(error) }),
    };
    if !failure.is_null() {
        told["failure"] = failure;
    }
    if let Some(PlanError::Compensated { undone, not_undone, .. }) = error {
        told["undone"] = json!(undone);
        let why = |step: &StepNotUndone| json!({ "step": step.step_id, "kind": step.failure.kind, "error": step.failure.message });
        told["not_undone"] = not_undone.iter().map(why).collect();
    }
    told
}

fn by_id(plan: &PlanRecord, outputs: &[Value]) -> Map<String, Value> {
    plan.step_ids().map(str::to_owned).zip(outputs.iter().cloned()).collect()
}

/// Whether all that there was to undo is undone.
fn is_compensated(error: &PlanError) -> bool {
    matches!(error, PlanError::Compensated { not_undone, .. } if not_undone.is_empty())
}

/// What stderr is told of an error, besides the progress.
pub(crate) fn explained(error: &PlanError, stored: bool) -> String {
    let text = with_causes(error).lines().map(clean).collect::<Vec<_>>().join("\n    ");
    match error {
        PlanError::StepFailed { run_id, .. }
        | PlanError::DeadlineExceeded { run_id, .. }
        | PlanError::Compensated { run_id, .. }
            if stored =>
        {
            format!("{text}\n`lunacore show {run_id}` tells what happened")
        }
        PlanError::Interrupted { run_id, .. } if stored => {
            format!("{text}\n`lunacore resume {run_id}` goes on with it")
        }
        _ => text,
    }
}
