//! Inputs that are data and nothing else, in a file where every input is a template.

use serde_json::Value;

use crate::plan::Step;

/// What begins an expression, and what stands for it.
const OPEN: &str = "${{";
const ESCAPED: &str = "$${{";

/// Gives a step the input that a file has: a template, or, where nothing in it is an expression, plain data.
pub(super) fn read(step: Step, input: Value) -> Step {
    if any(&input, &mut |text| holds_open(text)) {
        step.with(input)
    } else {
        step.input(map(input, &|text| if text.contains(OPEN) { text.replace(ESCAPED, OPEN) } else { text }))
    }
}

/// The input of a step, as a file has it.
pub(super) fn write(step: &Step) -> Value {
    let input = step.get_input().clone();
    if step.has_template() {
        return input;
    }
    map(input, &|text| if text.contains(OPEN) { text.replace(OPEN, ESCAPED) } else { text })
}

/// Whether an expression begins in the text, that is not escaped.
fn holds_open(text: &str) -> bool {
    text.match_indices(OPEN).any(|(at, _)| !text[..at].ends_with('$'))
}

fn any(value: &Value, holds: &mut impl FnMut(&str) -> bool) -> bool {
    match value {
        Value::String(text) => holds(text),
        Value::Array(items) => items.iter().any(|item| any(item, holds)),
        Value::Object(members) => members.values().any(|item| any(item, holds)),
        _ => false,
    }
}

fn map(value: Value, change: &impl Fn(String) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(items) => items.into_iter().map(|item| map(item, change)).collect(),
        Value::Object(members) => members
            .into_iter()
            .map(|(name, item)| (name, map(item, change)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        plain => plain,
    }
}
