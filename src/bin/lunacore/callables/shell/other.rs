//! What a `shell` step may have besides what it does: a script that undoes it, and one that tells whether it had its effect.

use lunacore::{StepContext, StepError, Verdict};
use serde_json::Value;

use super::args::{CheckArgs, UndoArgs};
use super::error::ShellError;
use super::run::run;
use crate::callables::group::Ledger;

/// The exit code by which a script says no. Every other one but 0 says that it cannot tell.
const NO: i32 = 1;

/// Runs the script that undoes the step.
pub(crate) fn undo(ledger: &Ledger, UndoArgs(args): UndoArgs, ctx: &StepContext) -> Result<Value, StepError> {
    let script = args.undo.clone();
    // What it returned may have come from somebody else, who said that the step has had its effect.
    let left: Value = ctx.output(ctx.step_id())?;
    let stdin = match (left.get("stdout").unwrap_or(&left), left.is_null()) {
        (_, true) => None,
        (Value::String(text), _) => Some(text.clone()),
        (other, _) => Some(other.to_string()),
    };
    run(&args.other(script, stdin), ledger, ctx).map_err(ShellError::into_step)
}

/// Runs the script that tells whether the step had its effect.
pub(crate) fn check(
    ledger: &Ledger,
    CheckArgs(args): CheckArgs,
    ctx: &StepContext,
) -> Result<Value, StepError> {
    let script = args.check.clone();
    let verdict = match run(&args.other(script, None), ledger, ctx) {
        Ok(output) => Verdict::Happened { output },
        Err(ShellError::Exited { code: NO, .. }) => Verdict::DidNotHappen,
        Err(ShellError::Exited { .. }) => Verdict::Unknown,
        Err(error) => return Err(error.into_step()),
    };
    serde_json::to_value(verdict).map_err(StepError::fatal)
}
