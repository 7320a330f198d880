//! Inputs with expressions in them, and conditions: checked, and evaluated.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use minijinja::value::Value as Dynamic;
use minijinja::{Error, ErrorKind};
use serde_json::{Map, Value};

use super::budget::Budget;
use super::engine;
use super::error::{EvaluationError, InvalidExpression};
use super::names::{self, Names, is_plain};
use super::result::Room;
use super::roots::{Scope, Sources};
use super::text::{Expression, Part, condition, parts};
use crate::id::shorten;
use crate::limits::{EXPRESSION_FUEL, MAX_JSON_DEPTH};

/// Where a text stands in an input.
#[derive(Clone, Copy)]
enum Place<'a> {
    Input,
    Index(&'a Place<'a>, usize),
    Name(&'a Place<'a>, &'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => f.write_str("with"),
            Self::Index(outer, index) => write!(f, "{outer}[{index}]"),
            Self::Name(outer, name) if is_plain(name) && name.len() <= 64 => write!(f, "{outer}.{name}"),
            Self::Name(outer, name) => write!(f, "{outer}[{:?}]", shorten(name)),
        }
    }
}

const CONDITION: &str = "when";

/// Checks the expressions of one plan, of which there may be only so many.
#[derive(Default)]
pub(crate) struct Checker {
    /// How many there were.
    pub(crate) seen: usize,
}

impl Checker {
    /// What is wrong in a template, each with its place.
    pub(crate) fn template(
        &mut self,
        template: &Value,
        names: &dyn Names,
    ) -> Vec<(String, InvalidExpression)> {
        let mut found = Vec::new();
        self.walk(template, Place::Input, names, &mut found);
        found
    }

    /// What is wrong with a condition.
    pub(crate) fn condition(&mut self, text: &str, names: &dyn Names) -> Vec<(String, InvalidExpression)> {
        self.seen += 1;
        let problems = match condition(text) {
            Ok(expression) => check(&expression, names),
            Err(problem) => vec![problem],
        };
        problems.into_iter().map(|problem| (CONDITION.to_owned(), problem)).collect()
    }

    fn walk(
        &mut self,
        value: &Value,
        place: Place<'_>,
        names: &dyn Names,
        found: &mut Vec<(String, InvalidExpression)>,
    ) {
        match value {
            Value::String(text) => match parts(text) {
                Err(problem) => found.push((place.to_string(), problem)),
                Ok(parts) => {
                    for part in parts {
                        let Part::Expression(expression) = part else { continue };
                        self.seen += 1;
                        let problems = check(&expression, names).into_iter();
                        found.extend(problems.map(|problem| (place.to_string(), problem)));
                    }
                }
            },
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.walk(item, Place::Index(&place, index), names, found);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    self.walk(member, Place::Name(&place, name), names, found);
                }
            }
            _ => {}
        }
    }
}

/// What is wrong with an expression: its names are not looked at where it cannot be read.
fn check(expression: &Expression<'_>, names: &dyn Names) -> Vec<InvalidExpression> {
    match engine::check(expression) {
        // A name that is not there says more than what the engine makes of the rest.
        Err(problem) => vec![problem],
        Ok(()) => names::check(expression, names),
    }
}

/// An input, or a condition, that is being evaluated.
struct Evaluation<'a> {
    sources: &'a Sources<'a>,
    budget: Arc<Budget>,
    /// What its expressions may still cost.
    fuel: u64,
    room: Room,
    /// The outputs that it has read.
    steps: BTreeMap<String, Arc<Value>>,
    secrets: Vec<String>,
}

/// The input that a template makes. The names of the secrets that it read are added to `secrets`, also where it fails.
pub(crate) fn resolve(
    template: &Value,
    sources: &Sources<'_>,
    secrets: &mut Vec<String>,
) -> Result<Value, EvaluationError> {
    let mut evaluation = Evaluation::new(sources);
    let value = evaluation.walk(template, Place::Input, MAX_JSON_DEPTH);
    secrets.append(&mut evaluation.secrets);
    value
}

/// Whether a condition is true.
pub(crate) fn decide(text: &str, sources: &Sources<'_>) -> Result<bool, EvaluationError> {
    let failed = |problem: InvalidExpression| EvaluationError::new(CONDITION, text, problem.to_string());
    let expression = condition(text).map_err(failed)?;
    let mut evaluation = Evaluation::new(sources);
    let value = evaluation.value(&expression, &CONDITION)?;
    match Room::of_input().take(&value) {
        Ok(Value::Bool(decision)) => Ok(decision),
        Ok(other) => {
            let found = crate::json::type_name(&other);
            let problem = format!("is of type {found}, but a condition must be true or false");
            Err(EvaluationError::new(CONDITION, expression.source(), problem))
        }
        Err(problem) => Err(EvaluationError::new(CONDITION, expression.source(), problem)),
    }
}

impl<'a> Evaluation<'a> {
    fn new(sources: &'a Sources<'a>) -> Self {
        let (steps, secrets) = (BTreeMap::new(), Vec::new());
        let (budget, room) = (Arc::new(Budget::new()), Room::of_input());
        Self { sources, budget, fuel: EXPRESSION_FUEL, room, steps, secrets }
    }

    fn walk(&mut self, value: &Value, place: Place<'_>, levels: usize) -> Result<Value, EvaluationError> {
        Ok(match value {
            Value::String(text) => self.text(text, place, levels)?,
            Value::Array(items) => {
                let items = items.iter().enumerate();
                let levels = levels.saturating_sub(1);
                let items = items.map(|(index, item)| self.walk(item, Place::Index(&place, index), levels));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let levels = levels.saturating_sub(1);
                let each = members.iter().map(|(name, member)| {
                    Ok((name.clone(), self.walk(member, Place::Name(&place, name), levels)?))
                });
                Value::Object(each.collect::<Result<Map<_, _>, EvaluationError>>()?)
            }
            plain => plain.clone(),
        })
    }

    fn text(&mut self, text: &str, place: Place<'_>, levels: usize) -> Result<Value, EvaluationError> {
        let parts = parts(text).map_err(|problem| EvaluationError::new(place, text, problem.to_string()))?;
        if let [Part::Expression(expression)] = &parts[..] {
            let value = self.value(expression, &place)?;
            return self.taken(&value, expression, &place, levels);
        }
        let mut made = String::new();
        for part in &parts {
            match part {
                Part::Plain(plain) => {
                    let fits = self.room.use_up(plain.len());
                    fits.map_err(|problem| EvaluationError::new(place, text, problem))?;
                    made.push_str(plain);
                }
                Part::Expression(expression) => {
                    let value = self.value(expression, &place)?;
                    match self.taken(&value, expression, &place, MAX_JSON_DEPTH)? {
                        Value::String(text) => made.push_str(&text),
                        other => made.push_str(&other.to_string()),
                    }
                }
            }
        }
        Ok(Value::String(made))
    }

    fn taken(
        &mut self,
        value: &Dynamic,
        expression: &Expression<'_>,
        place: &dyn fmt::Display,
        levels: usize,
    ) -> Result<Value, EvaluationError> {
        let taken = self.room.take_within(value, levels);
        // What could not be read any more is only now asked for.
        let spent = if self.budget.is_spent() { Err(READS_TOO_MUCH.to_owned()) } else { Ok(()) };
        let taken = spent.and(taken);
        taken.map_err(|problem| EvaluationError::new(place, expression.source(), problem))
    }

    /// What an expression comes to.
    fn value(
        &mut self,
        expression: &Expression<'_>,
        place: &dyn fmt::Display,
    ) -> Result<Dynamic, EvaluationError> {
        let references = names::references(expression);
        // Of so many outputs only those that it names.
        let mut steps = BTreeMap::new();
        for id in references.iter().filter_map(names::Reference::step) {
            let known = self.steps.get(id).cloned().or_else(|| (self.sources.output)(id));
            if let Some(output) = known {
                self.steps.entry(id.to_owned()).or_insert_with(|| Arc::clone(&output));
                steps.insert(id.to_owned(), output);
            }
        }
        let scope = Arc::new(Scope {
            steps,
            inputs: Arc::clone(&self.sources.inputs),
            run_id: Arc::from(self.sources.run_id),
            env: Arc::clone(&self.sources.env),
            secrets: self.sources.secrets.clone(),
            read: Mutex::default(),
            budget: Arc::clone(&self.budget),
        });
        let value = engine::evaluate(expression.source(), &scope);
        self.secrets.append(&mut scope.read_secrets());
        let private = references.iter().any(|reference| ["env", "secrets"].contains(&reference.root));
        let undefined = || {
            let missing = references.iter().find(|reference| {
                let output = reference.step().and_then(|id| self.steps.get(id));
                match reference.root {
                    "steps" => output.is_some_and(|output| !reference.is_in(output)),
                    "env" => reference.name().is_some_and(|name| (self.sources.env)(name).is_none()),
                    _ => false,
                }
            });
            match missing {
                Some(reference) => format!("reads `{}`, which is not there", reference.shown()),
                None => "reads something that is not there".to_owned(),
            }
        };
        let problem = match value {
            _ if self.budget.is_spent() => READS_TOO_MUCH.to_owned(),
            Ok((_, spent)) if spent >= self.fuel => TAKES_TOO_LONG.to_owned(),
            Ok((value, _)) if value.is_undefined() => undefined(),
            Ok((value, spent)) => {
                self.fuel -= spent;
                return Ok(value);
            }
            Err(error) if error.kind() == ErrorKind::UndefinedError => undefined(),
            Err(error) => describe(&error, private),
        };
        Err(EvaluationError::new(place, expression.source(), problem))
    }
}

const READS_TOO_MUCH: &str = "reads too much; compute it in a step";
const TAKES_TOO_LONG: &str = "takes too long, or makes too much; compute it in a step";

/// What an error of the engine says. `private`: it may tell nothing of what was read.
pub(super) fn describe(error: &Error, private: bool) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => TAKES_TOO_LONG.to_owned(),
        (ErrorKind::UndefinedError, _) => "reads something that is not there".to_owned(),
        (kind, Some(detail)) if !private => format!("cannot be evaluated: {kind}: {}", shorten(detail)),
        (kind, _) => format!("cannot be evaluated: {kind}"),
    }
}
