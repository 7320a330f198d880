//! Where expressions stand in a text.

use serde_json::Value;

use crate::limits::MAX_JSON_DEPTH;

/// Begins an expression; with another `$` before it, it stands for itself.
const OPEN: &str = "${{";

/// Whether any string of a value holds an expression, or what is written like one. What nests too deep is not looked
/// at: it is refused.
pub(crate) fn holds_expression(value: &Value) -> bool {
    holds(value, MAX_JSON_DEPTH)
}

fn holds(value: &Value, levels: usize) -> bool {
    match value {
        Value::String(text) => text.contains(OPEN),
        Value::Array(items) => levels > 0 && items.iter().any(|item| holds(item, levels - 1)),
        Value::Object(members) => levels > 0 && members.values().any(|item| holds(item, levels - 1)),
        _ => false,
    }
}
