//! The engine that evaluates expressions: minijinja, with what is vetted here and nothing else.

use std::sync::{Arc, LazyLock};

use minijinja::value::{Kwargs, Value as Dynamic};
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior};
use serde_json::Value;

use super::budget::Budget;
use super::error::InvalidExpression;
use super::node::{Node, Root};
use super::result::Room;
use super::roots::{Named, Scope};
use super::text::Expression;
use crate::limits::{EXPRESSION_FUEL, MAX_PAYLOAD_BYTES};

/// Filters: what the engine has built in, of which each counts what it does, without what makes markup or formats by codes.
pub(super) const FILTERS: [&str; 41] = [
    "abs",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "fromjson",
    "groupby",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
];

/// The same for tests.
pub(super) const TESTS: [&str; 33] = [
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "even",
    "false",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "int",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "upper",
    "empty",
];

/// The same for functions.
pub(super) const FUNCTIONS: [&str; 2] = ["dict", "range"];

/// What the engine has and expressions have not.
const WITHHELD: [&str; 8] = ["safe", "escape", "e", "attr", "indent", "pprint", "format", "zip"];

static ENGINE: LazyLock<Environment<'static>> = LazyLock::new(|| {
    // Not from an empty one: what counts its work is built in only.
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_fuel(Some(EXPRESSION_FUEL));
    engine.set_debug(true);
    for name in WITHHELD {
        engine.remove_filter(name);
    }
    for name in ["filter", "test", "safe", "escaped"] {
        engine.remove_test(name);
    }
    for name in ["debug", "namespace"] {
        engine.remove_global(name);
    }
    engine.add_function(SPENT, |state: &State| state.fuel_levels().map_or(0, |(spent, _)| spent));
    engine.add_filter("tojson", to_json);
    engine.add_filter("fromjson", from_json);
    engine.add_test("empty", |value: &Dynamic| value.len() == Some(0));
    engine
});

/// The JSON text of a value.
fn to_json(value: &Dynamic, _options: Kwargs) -> Result<String, Error> {
    let failed = |problem| Error::new(ErrorKind::InvalidOperation, problem);
    let value = Room::new(MAX_PAYLOAD_BYTES).take(value).map_err(failed)?;
    Ok(value.to_string())
}

/// The value of a JSON text, what a program printed for example.
fn from_json(text: &str) -> Result<Dynamic, Error> {
    let failed = |problem: String| Error::new(ErrorKind::InvalidOperation, problem);
    if text.len() > MAX_PAYLOAD_BYTES {
        return Err(failed(format!("reads JSON of {} bytes, more than {MAX_PAYLOAD_BYTES}", text.len())));
    }
    // What was wrong with it would quote it.
    let place = |error: serde_json::Error| format!("line {} column {}", error.line(), error.column());
    let value: Value = serde_json::from_str(text)
        .map_err(|error| failed(format!("reads a text that is not JSON, at {}", place(error))))?;
    Ok(Node::dynamic(Root::Value(Arc::new(value)), &Arc::new(Budget::new())))
}

/// Whether the engine can read an expression.
pub(super) fn check(expression: &Expression<'_>) -> Result<(), InvalidExpression> {
    ENGINE.compile_expression(expression.source()).map(drop).map_err(|error| {
        let within = error.range().map_or(0, |range| range.start);
        let detail = error.detail().unwrap_or("it cannot be read");
        expression.fault(expression.range.start + within, format!("not an expression: {detail}"))
    })
}

/// The value of an expression, and how much fuel it has taken.
pub(super) fn evaluate(source: &str, scope: &Arc<Scope>) -> Result<(Dynamic, u64), Error> {
    // What is left of the fuel only a function is told that runs in the same evaluation.
    let metered = format!("[({source}), {SPENT}()]");
    let both = ENGINE.compile_expression(&metered)?.eval(Named::all(scope))?;
    let spent = both.get_item_by_index(1)?.as_usize().and_then(|spent| u64::try_from(spent).ok());
    Ok((both.get_item_by_index(0)?, spent.unwrap_or(EXPRESSION_FUEL)))
}

/// A function that is ours: nobody else gets past the check of names with it.
const SPENT: &str = "__spent";

/// The text that a literal stands for.
pub(super) fn literal(written: &str) -> Option<String> {
    let value = ENGINE.compile_expression(written).ok()?.eval(()).ok()?;
    value.as_str().map(str::to_owned)
}
