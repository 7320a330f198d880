//! What expressions can name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Object, Value as Dynamic};
use serde_json::{Map, Value};

use super::budget::Budget;
use super::node::{Node, Root};

/// Finds a value by its name, in the process environment for example.
pub(crate) type Lookup = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Where the values come from.
pub(crate) struct Sources<'a> {
    /// The output of an earlier step, in its JSON form.
    pub(crate) output: &'a dyn Fn(&str) -> Option<Arc<Value>>,
    pub(crate) inputs: Arc<Map<String, Value>>,
    pub(crate) run_id: &'a str,
    pub(crate) env: Lookup,
    /// `None` where there are none.
    pub(crate) secrets: Option<Lookup>,
}

/// What the expressions of one input see.
pub(super) struct Scope {
    /// Those that are named in them.
    pub(super) steps: BTreeMap<String, Arc<Value>>,
    pub(super) inputs: Arc<Map<String, Value>>,
    pub(super) run_id: Arc<str>,
    pub(super) env: Lookup,
    pub(super) secrets: Option<Lookup>,
    /// The names of the secrets that were read.
    pub(super) read: Mutex<Vec<String>>,
    pub(super) budget: Arc<Budget>,
}

impl Scope {
    pub(super) fn read_secrets(&self) -> Vec<String> {
        std::mem::take(&mut *self.read.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn secret(&self, name: &str) -> Option<String> {
        let value = self.secrets.as_ref()?(name)?;
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if !read.iter().any(|known| known == name) {
            read.push(name.to_owned());
        }
        Some(value)
    }

    fn text(&self, text: &str) -> Dynamic {
        if self.budget.take(text.len() / 64) { Dynamic::from(text) } else { super::node::spent() }
    }
}

/// One of the things that can be named, and what holds them all.
pub(super) struct Named {
    scope: Arc<Scope>,
    what: What,
}

enum What {
    All,
    Steps,
    Step(Arc<Value>),
    Inputs,
    Env,
    Run,
    Secrets,
}

impl Named {
    pub(super) fn all(scope: &Arc<Scope>) -> Dynamic {
        Self::of(scope, What::All)
    }

    fn of(scope: &Arc<Scope>, what: What) -> Dynamic {
        Dynamic::from_object(Self { scope: Arc::clone(scope), what })
    }
}

impl fmt::Debug for Named {
    // What there is may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Named").finish_non_exhaustive()
    }
}

impl Object for Named {
    fn get_value(self: &Arc<Self>, key: &Dynamic) -> Option<Dynamic> {
        let (scope, key) = (&self.scope, key.as_str()?);
        match &self.what {
            What::All => {
                let what = match key {
                    "steps" => What::Steps,
                    "inputs" => What::Inputs,
                    "env" => What::Env,
                    "run" => What::Run,
                    "secrets" => What::Secrets,
                    _ => return None,
                };
                Some(Self::of(scope, what))
            }
            What::Steps => scope.steps.get(key).map(|output| Self::of(scope, What::Step(Arc::clone(output)))),
            What::Step(output) if key == "output" => {
                Some(Node::dynamic(Root::Value(Arc::clone(output)), &scope.budget))
            }
            What::Inputs => {
                let inputs = Node::dynamic(Root::Members(Arc::clone(&scope.inputs)), &scope.budget);
                inputs.get_attr(key).ok().filter(|value| !value.is_undefined())
            }
            What::Env => (scope.env)(key).map(|value| scope.text(&value)),
            What::Run if key == "id" => Some(scope.text(&scope.run_id)),
            What::Secrets => scope.secret(key).map(|value| scope.text(&value)),
            What::Step(_) | What::Run => None,
        }
    }
}
