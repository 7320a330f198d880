//! A run that is told to stop, to pause, or to go on.

use super::parts::said;
use super::{Decision, Input, Position};
use crate::event::EventKind;
use crate::run::RunState;

pub(super) fn steered(at: Position, input: Input) -> Option<Decision> {
    use RunState::{AwaitingSignal, BackingOff, Parked, Queued, Running, Sleeping, Stopping};
    let decision = match (at.state, input) {
        (Running, Input::Stop) => {
            let to = Position { state: Stopping, expired: false, ..at };
            Decision::new(to, said(EventKind::PlanStopping {}))
        }
        // It was told to stop before; only what follows from it changes.
        (Stopping, Input::Stop) if at.expired => Decision::new(Position { expired: false, ..at }, Vec::new()),
        (Running, Input::Expire(failure)) => {
            let to = Position { state: Stopping, expired: true, ..at };
            Decision::new(to, said(EventKind::PlanStopping {})).because(failure)
        }
        (Queued | BackingOff | Parked | Sleeping | AwaitingSignal, Input::Pause) => pause(at, Vec::new()),
        (Running | Stopping, Input::Pause) if !at.pausing && (at.state == Running || at.expired) => {
            Decision::new(Position { pausing: true, ..at }, said(EventKind::PlanPausing {}))
        }
        (_, Input::Unpause) => return unpause(at),
        _ => return None,
    };
    Some(decision)
}

pub(super) fn pause(at: Position, mut events: Vec<EventKind>) -> Decision {
    events.push(EventKind::PlanPaused {});
    Decision::new(Position { state: RunState::Paused, pausing: true, ..at }, events)
}

/// A run that is paused goes on, and one that is about to pause does not. What was cancelled meanwhile does neither.
fn unpause(at: Position) -> Option<Decision> {
    let state = match at.state {
        RunState::Paused => RunState::Queued,
        RunState::Stopping if !at.expired => return None,
        state @ (RunState::Queued | RunState::Running | RunState::Stopping | RunState::Held)
            if at.pausing =>
        {
            state
        }
        _ => return None,
    };
    let to = Position { state, pausing: false, ..at };
    Some(Decision::new(to, said(EventKind::PlanResumed { completed: at.cursor })))
}
