//! What the words of events and records mean, for people.

use lunacore::{HoldReason, Resolution, SkipReason};

/// Why somebody has to decide about a step.
pub(crate) fn why_held(reason: HoldReason) -> &'static str {
    match reason {
        HoldReason::Interrupted => "it was cut off, and may have had its effect",
        HoldReason::Unverified => "it was cut off, and whether it had its effect could not be told",
        HoldReason::Failed => "it failed",
        _ => "somebody has to decide about it",
    }
}

/// What somebody decided about a step.
pub(crate) fn decided(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Completed => "it had its effect",
        Resolution::Rerun => "it is called again",
        Resolution::Failed => "it failed for good",
        Resolution::Skipped => "it is skipped",
        _ => "it is decided",
    }
}

/// Why a step was skipped.
pub(crate) fn why_skipped(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::Failed => "it failed",
        SkipReason::Condition => "its condition is false",
        SkipReason::Operator => "somebody decided so",
        _ => "",
    }
}
