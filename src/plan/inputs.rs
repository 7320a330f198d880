//! The inputs that a plan declares, and the values that a run of it is given.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::check::check_name;
use super::invalid::InvalidPlan;
use super::step::Plan;
use crate::id::{nearest, shorten};
use crate::json;
use crate::limits::{MAX_INPUT_BYTES, MAX_PLAN_INPUTS};

/// What an input of a plan may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum InputType {
    /// A text.
    String,
    /// A number that is written without a point or an exponent, and fits 64 bits.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
    /// A list.
    Array,
    /// An object.
    Object,
    /// Anything, null included. The default.
    #[default]
    Any,
}

impl InputType {
    /// Whether a value is of this type.
    ///
    /// ```
    /// use lunacore::InputType;
    /// use serde_json::json;
    ///
    /// assert!(InputType::Integer.admits(&json!(3)) && InputType::Number.admits(&json!(3)));
    /// assert!(!InputType::Integer.admits(&json!(3.0)) && !InputType::String.admits(&json!(null)));
    /// ```
    #[must_use]
    pub fn admits(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Array => value.is_array(),
            Self::Object => value.is_object(),
            Self::Any => true,
        }
    }

    /// The word for it, as plan files have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Array => "array",
            Self::Object => "object",
            Self::Any => "any",
        }
    }
}

impl fmt::Display for InputType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An input that a plan declares: its type, its default, what it is for. Without a default it must be given.
///
/// ```
/// use lunacore::PlanInput;
///
/// let day = PlanInput::string().description("the day to report on, as 2026-11-23");
/// let pages = PlanInput::integer().default(10);
/// assert!(day.is_required() && !pages.is_required());
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct PlanInput {
    /// What it may be.
    pub input_type: InputType,
    /// What it is where it is not given.
    pub default: Option<Value>,
    /// What it is for.
    pub description: Option<Arc<str>>,
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident: $kind:ident;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name() -> Self {
            Self::of(InputType::$kind)
        }
    )*};
}

impl PlanInput {
    /// An input of this type, which must be given.
    #[must_use]
    pub fn of(input_type: InputType) -> Self {
        Self { input_type, default: None, description: None }
    }

    constructors! {
        /// A text.
        string: String;
        /// An integer of 64 bits.
        integer: Integer;
        /// Any number.
        number: Number;
        /// True or false.
        boolean: Boolean;
        /// A list.
        array: Array;
        /// An object.
        object: Object;
        /// Anything, null included.
        any: Any;
    }

    /// What it is where it is not given. It must have the input's type.
    #[must_use]
    pub fn default(self, value: impl Into<Value>) -> Self {
        Self { default: Some(value.into()), ..self }
    }

    /// Says what it is for.
    #[must_use]
    pub fn description(self, text: impl Into<Arc<str>>) -> Self {
        Self { description: Some(text.into()), ..self }
    }

    /// Whether it must be given.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.default.is_none()
    }
}

/// An input with its name.
#[derive(Debug, Clone)]
pub(super) struct Declared {
    name: Arc<str>,
    input: PlanInput,
}

impl Declared {
    /// An input that is known by its value only, as a record has it.
    pub(super) fn of_value(name: &str, value: &Value) -> Self {
        Self { name: Arc::from(name), input: PlanInput::any().default(value.clone()) }
    }
}

impl Plan {
    /// Declares an input, which expressions read as `inputs.name`, and which [`ExecutePlan::input`](crate::ExecutePlan::input)
    /// gives its value. One that was declared before under the same name is replaced.
    ///
    /// ```
    /// use lunacore::{ExecutePlan, Plan, PlanInput, Step};
    ///
    /// let plan = Plan::new([Step::named("report")])
    ///     .declare("day", PlanInput::string())
    ///     .declare("pages", PlanInput::integer().default(10));
    /// let run = ExecutePlan::new(plan).input("day", "2026-11-23");
    /// # drop(run);
    /// ```
    #[cfg(feature = "expressions")]
    #[must_use]
    pub fn declare(mut self, name: impl Into<Arc<str>>, input: PlanInput) -> Self {
        let name = name.into();
        // A plan with more than that is refused anyway, and not to be searched again and again.
        let few = self.declared.len() <= MAX_PLAN_INPUTS;
        match self.declared.iter_mut().find(|declared| few && declared.name == name) {
            Some(declared) => declared.input = input,
            None => self.declared.push(Declared { name, input }),
        }
        self
    }

    /// The inputs that it declares, in their order.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = (&str, &PlanInput)> {
        self.declared.iter().map(|Declared { name, input }| (&**name, input))
    }
}

/// Checks what a plan declares.
pub(super) fn check(declared: &[Declared]) -> impl Iterator<Item = InvalidPlan> {
    let many = declared.len() > MAX_PLAN_INPUTS;
    let many = many.then_some(InvalidPlan::TooManyInputs { inputs: declared.len() });
    let each = declared.iter().take(MAX_PLAN_INPUTS).filter_map(|Declared { name, input }| {
        let faulty = check_name("name", name, || "an input of the plan".to_owned());
        let fits = || {
            input.default.as_ref().map_or(Ok(()), |value| check_value("the default of ", name, input, value))
        };
        faulty.and_then(|()| fits()).err()
    });
    many.into_iter().chain(each)
}

fn check_value(what: &'static str, name: &str, input: &PlanInput, value: &Value) -> Result<(), InvalidPlan> {
    if !input.input_type.admits(value) {
        let (name, expected, found) = (shorten(name), input.input_type, json::type_name(value));
        return Err(InvalidPlan::InputType { what, name, expected, found });
    }
    if json::is_too_deep(value) {
        return Err(InvalidPlan::InputTooDeep { what, name: shorten(name) });
    }
    Ok(())
}

/// The values of all inputs: those that were given, and the defaults of the others.
pub(super) fn fill(
    declared: &[Declared],
    mut given: Map<String, Value>,
) -> Result<Map<String, Value>, InvalidPlan> {
    if declared.is_empty() && given.is_empty() {
        return Ok(given);
    }
    let names: HashSet<&str> = declared.iter().map(|declared| &*declared.name).collect();
    if let Some(name) = given.keys().find(|name| !names.contains(name.as_str())) {
        let similar = nearest(name, declared.iter().map(|declared| &*declared.name)).map(str::to_owned);
        let (name, declares_none) = (shorten(name), declared.is_empty());
        return Err(InvalidPlan::UnknownInput { name, similar, declares_none });
    }
    let mut values = Map::new();
    for Declared { name, input } in declared {
        let value = match given.remove(&**name) {
            Some(value) => {
                check_value("", name, input, &value)?;
                value
            }
            None => input.default.clone().ok_or_else(|| InvalidPlan::MissingInput {
                name: shorten(name),
                expected: input.input_type,
            })?,
        };
        values.insert(name.to_string(), value);
    }
    let bytes = json::size(&values);
    if bytes > MAX_INPUT_BYTES {
        return Err(InvalidPlan::InputsTooLarge { bytes });
    }
    Ok(values)
}
