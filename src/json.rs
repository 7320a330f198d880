//! What JSON is measured and compared by: how large its text is, how deep it nests, its canonical form.

use serde_json::{Map, Value};

use crate::limits::MAX_JSON_DEPTH;

/// The size of a value's JSON text in bytes, without making it. `usize::MAX` for what has none.
pub(crate) fn size(value: &impl serde::Serialize) -> usize {
    size_up_to(value, usize::MAX).unwrap_or(usize::MAX)
}

/// The same, as far as it is at most so large.
pub(crate) fn size_up_to(value: &impl serde::Serialize, limit: usize) -> Option<usize> {
    struct Count {
        bytes: usize,
        limit: usize,
    }
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.bytes += bytes.len();
            if self.bytes > self.limit {
                Err(std::io::ErrorKind::StorageFull.into())
            } else {
                Ok(bytes.len())
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count { bytes: 0, limit };
    serde_json::to_writer(&mut count, value).ok().map(|()| count.bytes)
}

/// What has always a JSON form, in it.
pub(crate) fn of(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// The word for the type of a value.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether arrays and objects nest deeper than [`MAX_JSON_DEPTH`]. To be asked before a value is written, compared or
/// read: all of these recurse.
pub(crate) fn is_too_deep(value: &Value) -> bool {
    is_deeper(value, MAX_JSON_DEPTH)
}

/// The same for the members of an object.
pub(crate) fn any_too_deep(map: &Map<String, Value>) -> bool {
    map.values().any(|value| is_deeper(value, MAX_JSON_DEPTH - 1))
}

/// Whether arrays and objects nest deeper than this.
pub(crate) fn is_deeper(value: &Value, limit: usize) -> bool {
    match value {
        Value::Array(items) => limit == 0 || items.iter().any(|item| is_deeper(item, limit - 1)),
        Value::Object(members) => limit == 0 || members.values().any(|item| is_deeper(item, limit - 1)),
        _ => false,
    }
}

/// Appends the text of a value with the members of objects in the order of their names, whatever order they are kept in.
/// Of a value that does not nest too deep.
pub(crate) fn write_canonical(value: &Value, into: &mut Vec<u8>) {
    match value {
        Value::Array(items) => {
            into.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    into.push(b',');
                }
                write_canonical(item, into);
            }
            into.push(b']');
        }
        Value::Object(members) => {
            let mut names: Vec<&String> = members.keys().collect();
            names.sort_unstable();
            into.push(b'{');
            for (index, name) in names.into_iter().enumerate() {
                if index > 0 {
                    into.push(b',');
                }
                write_text(name, into);
                into.push(b':');
                write_canonical(&members[name], into);
            }
            into.push(b'}');
        }
        Value::String(text) => write_text(text, into),
        plain => into.extend_from_slice(plain.to_string().as_bytes()),
    }
}

/// Appends a text as JSON has it.
pub(crate) fn write_text(text: &str, into: &mut Vec<u8>) {
    // A text has a JSON form, and writing to a list does not fail.
    let _ = serde_json::to_writer(into, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_exactly() {
        let nested = |depth| (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        assert!(!is_too_deep(&nested(MAX_JSON_DEPTH)));
        assert!(is_too_deep(&nested(MAX_JSON_DEPTH + 1)));
        // What is allowed can be read back: serde_json stops at 128.
        let text = nested(MAX_JSON_DEPTH).to_string();
        assert!(serde_json::from_str::<Value>(&text).is_ok());
        assert_eq!(size(&nested(3)), "[[[null]]]".len());
    }
}
