//! A JSON value as the engine sees it: looked into, never converted as a whole.

use std::fmt;
use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr, Value as Dynamic};
use minijinja::{Error, ErrorKind};
use serde_json::{Map, Number, Value};

use super::budget::Budget;

/// What nodes look into; shared, not copied.
#[derive(Clone)]
pub(super) enum Root {
    Value(Arc<Value>),
    Members(Arc<Map<String, Value>>),
}

#[derive(Clone)]
enum Step {
    Index(usize),
    Name(Arc<str>),
}

/// An array or object in a value. What it holds may be secret.
pub(super) struct Node {
    root: Root,
    path: Vec<Step>,
    budget: Arc<Budget>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").finish_non_exhaustive()
    }
}

enum Found<'a> {
    Value(&'a Value),
    Members(&'a Map<String, Value>),
}

impl Node {
    /// A value as the engine is to see it.
    pub(super) fn dynamic(root: Root, budget: &Arc<Budget>) -> Dynamic {
        let node = Self { root, path: Vec::new(), budget: Arc::clone(budget) };
        let plain = match node.found() {
            Some(Found::Value(value)) => node.plain(value),
            _ => None,
        };
        plain.unwrap_or_else(|| Dynamic::from_object(node))
    }

    fn found(&self) -> Option<Found<'_>> {
        let mut path = self.path.iter();
        let mut value = match (&self.root, path.next()) {
            (Root::Value(value), None) => return Some(Found::Value(value)),
            (Root::Members(members), None) => return Some(Found::Members(members)),
            (Root::Value(value), Some(step)) => step.of(value)?,
            (Root::Members(members), Some(Step::Name(name))) => members.get(&**name)?,
            (Root::Members(_), Some(Step::Index(_))) => return None,
        };
        for step in path {
            value = step.of(value)?;
        }
        Some(Found::Value(value))
    }

    fn members(&self) -> Option<&Map<String, Value>> {
        match self.found()? {
            Found::Members(members) | Found::Value(Value::Object(members)) => Some(members),
            Found::Value(_) => None,
        }
    }

    /// What is no array or object is converted; a text is paid for, for it is copied.
    fn plain(&self, value: &Value) -> Option<Dynamic> {
        Some(match value {
            Value::Null => Dynamic::from(()),
            Value::Bool(value) => Dynamic::from(*value),
            Value::Number(number) => dynamic_number(number),
            Value::String(text) if self.budget.take(text.len() / 64) => Dynamic::from(text.as_str()),
            Value::String(_) => spent(),
            Value::Array(_) | Value::Object(_) => return None,
        })
    }

    fn child(&self, step: Step) -> Option<Dynamic> {
        // The way to it is walked anew each time.
        if !self.budget.take(1 + self.path.len() / 4) {
            return Some(spent());
        }
        let value = match self.found()? {
            Found::Value(value) => step.of(value)?,
            Found::Members(members) => match &step {
                Step::Name(name) => members.get(&**name)?,
                Step::Index(_) => return None,
            },
        };
        if let Some(plain) = self.plain(value) {
            return Some(plain);
        }
        let mut path = Vec::with_capacity(self.path.len() + 1);
        path.extend_from_slice(&self.path);
        path.push(step);
        Some(Dynamic::from_object(Self { root: self.root.clone(), path, budget: Arc::clone(&self.budget) }))
    }

    /// Runs over the value itself.
    pub(super) fn look<T>(&self, at: impl FnOnce(Result<&Value, &Map<String, Value>>) -> T) -> Option<T> {
        self.found().map(|found| match found {
            Found::Value(value) => at(Ok(value)),
            Found::Members(members) => at(Err(members)),
        })
    }
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Index(index) => value.as_array()?.get(*index),
            Self::Name(name) => value.as_object()?.get(&**name),
        }
    }
}

impl Object for Node {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match self.found() {
            Some(Found::Value(Value::Array(_))) => ObjectRepr::Seq,
            _ => ObjectRepr::Map,
        }
    }

    fn get_value(self: &Arc<Self>, key: &Dynamic) -> Option<Dynamic> {
        if let Some(name) = key.as_str() {
            return self.child(Step::Name(Arc::from(name)));
        }
        let index = key.as_usize().filter(|_| key.is_integer())?;
        self.child(Step::Index(index))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let length = self.enumerator_len().unwrap_or_default();
        if !self.budget.take(length) {
            return Enumerator::Empty;
        }
        match self.members() {
            Some(members) => {
                let names: Vec<Dynamic> = members.keys().map(|name| Dynamic::from(name.as_str())).collect();
                Enumerator::Values(names)
            }
            None => Enumerator::Seq(length),
        }
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        match self.found()? {
            Found::Members(members) | Found::Value(Value::Object(members)) => Some(members.len()),
            Found::Value(value) => value.as_array().map(Vec::len),
        }
    }
}

fn dynamic_number(number: &Number) -> Dynamic {
    match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(number), _, _) => Dynamic::from(number),
        (_, Some(number), _) => Dynamic::from(number),
        (_, _, number) => number.map_or_else(|| Dynamic::from(()), Dynamic::from),
    }
}

/// Stands for what is not read any more: whoever uses it fails.
pub(super) fn spent() -> Dynamic {
    Dynamic::from(Error::from(ErrorKind::OutOfFuel))
}
