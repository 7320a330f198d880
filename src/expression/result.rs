//! What the engine came to, as JSON.

use minijinja::value::{Value as Dynamic, ValueKind};
use serde_json::{Map, Number, Value};

use super::node::Node;
use crate::json;
use crate::limits::{MAX_INPUT_BYTES, MAX_JSON_DEPTH};

/// How much room is left in the value that is being made.
pub(super) struct Room {
    bytes: usize,
    limit: usize,
}

impl Room {
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: limit, limit }
    }

    /// An input of a step.
    pub(super) fn of_input() -> Self {
        Self::new(MAX_INPUT_BYTES)
    }

    /// Takes so many bytes.
    pub(super) fn use_up(&mut self, bytes: usize) -> Result<(), String> {
        match self.bytes.checked_sub(bytes) {
            Some(left) => {
                self.bytes = left;
                Ok(())
            }
            None => Err(format!("makes more than {} bytes", self.limit)),
        }
    }

    /// The JSON form of a value. A problem says what is wrong, and not with which value.
    pub(super) fn take(&mut self, value: &Dynamic) -> Result<Value, String> {
        self.take_at(value, MAX_JSON_DEPTH)
    }

    /// The same for a value that stands in another one.
    pub(super) fn take_within(&mut self, value: &Dynamic, levels: usize) -> Result<Value, String> {
        self.take_at(value, levels)
    }

    fn take_at(&mut self, value: &Dynamic, levels: usize) -> Result<Value, String> {
        if let Some(node) = value.downcast_object_ref::<Node>() {
            return self.take_node(node, levels);
        }
        let deeper =
            || levels.checked_sub(1).ok_or_else(|| format!("nests deeper than {MAX_JSON_DEPTH} levels"));
        match value.kind() {
            ValueKind::None => self.use_up(4).map(|()| Value::Null),
            ValueKind::Bool => self.use_up(4).map(|()| Value::Bool(value.is_true())),
            ValueKind::Number => {
                self.use_up(1)?;
                number(value).map(Value::Number)
            }
            ValueKind::String => {
                let text = value.as_str().unwrap_or_default();
                self.use_up(text.len() + 2)?;
                Ok(Value::String(text.to_owned()))
            }
            ValueKind::Seq | ValueKind::Iterable => {
                let levels = deeper()?;
                self.use_up(2)?;
                let items = value.try_iter().map_err(|_| "cannot be listed".to_owned())?;
                let each = items.checked().map(|item| {
                    self.use_up(1)?;
                    let item = item.map_err(|error| super::template::describe(&error, true))?;
                    self.take_at(&item, levels)
                });
                each.collect::<Result<_, _>>().map(Value::Array)
            }
            ValueKind::Map => self.take_map(value, deeper()?),
            ValueKind::Undefined => Err("has a part that is not there".to_owned()),
            other => Err(format!("is {other}, which has no JSON form")),
        }
    }

    fn take_map(&mut self, value: &Dynamic, levels: usize) -> Result<Value, String> {
        self.use_up(2)?;
        let mut members = Map::new();
        for name in value.try_iter().map_err(|_| "cannot be listed".to_owned())? {
            let Some(text) = name.as_str() else {
                return Err("has an object with a name that is no text".to_owned());
            };
            self.use_up(text.len() + 4)?;
            let member = value.get_item(&name).map_err(|error| super::template::describe(&error, true))?;
            members.insert(text.to_owned(), self.take_at(&member, levels)?);
        }
        Ok(Value::Object(members))
    }

    /// A part of an output, as it is.
    fn take_node(&mut self, node: &Node, levels: usize) -> Result<Value, String> {
        let left = self.bytes;
        let taken = node.look(|found| {
            let (bytes, deep) = match found {
                Ok(value) => (json::size_up_to(value, left), json::is_deeper(value, levels)),
                Err(members) => (
                    json::size_up_to(members, left),
                    levels == 0 || members.values().any(|value| json::is_deeper(value, levels - 1)),
                ),
            };
            if deep {
                return Err(format!("nests deeper than {MAX_JSON_DEPTH} levels"));
            }
            let value = || found.map_or_else(|members| Value::Object(members.clone()), Value::clone);
            Ok(bytes.map(|bytes| (bytes, value())))
        });
        match taken.transpose()?.flatten() {
            Some((bytes, value)) => self.use_up(bytes).map(|()| value),
            None => Err(format!("makes more than {} bytes", self.limit)),
        }
    }
}

fn number(value: &Dynamic) -> Result<Number, String> {
    if value.is_integer() {
        let signed = value.as_i64().map(Number::from);
        let number = signed.or_else(|| u64::try_from(value.clone()).ok().map(Number::from));
        return number.ok_or_else(|| "is an integer of more than 64 bits".to_owned());
    }
    let number = f64::try_from(value.clone()).ok().and_then(Number::from_f64);
    number.ok_or_else(|| "is a number that JSON has not: an infinity, or none at all".to_owned())
}
