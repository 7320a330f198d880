//! What decisions are made of.

use std::sync::Arc;

use super::Position;
use crate::event::EventKind;
use crate::plan::{CheckedPlan, Output};
use crate::run::StepProgress;

/// A first event, with room for the one that mostly follows.
pub(super) fn said(kind: EventKind) -> Vec<EventKind> {
    let mut events = Vec::with_capacity(2);
    events.push(kind);
    events
}

pub(super) fn is_last(plan: &CheckedPlan, at: Position) -> bool {
    at.cursor + 1 == plan.len()
}

pub(super) fn completed(plan: &CheckedPlan, at: Position, result: Output) -> EventKind {
    EventKind::TaskCompleted { task_id: step_id(plan, at), result }
}

pub(super) fn step_id(plan: &CheckedPlan, at: Position) -> Arc<str> {
    plan.get(at.cursor).map_or_else(|| Arc::from(""), |step| Arc::clone(&step.id))
}

/// Where the step behind the one at the cursor stands, before anything of it.
pub(super) fn next_place(at: Position) -> Position {
    Position { cursor: at.cursor + 1, attempt: 0, step: StepProgress::default(), ..at }
}
