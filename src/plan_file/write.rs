//! A plan as a file has it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::file;
use super::write_step::FileStep;
use crate::plan::{InputType, Plan, PlanInput};

/// A plan: steps that run one after another.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct FilePlan {
    /// Names the plan, for events and listings.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    name: Option<String>,
    /// What the plan is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// What a run of the plan is given, by name; expressions read it as `inputs.name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    inputs: Option<Inputs>,
    /// What is done, in this order.
    #[schemars(length(max = 100000))]
    steps: Vec<FileStep>,
}

/// In the order in which the plan declares them, which a map would not keep.
#[derive(JsonSchema)]
#[schemars(transparent)]
struct Inputs(#[schemars(with = "BTreeMap<String, AnyInput>")] Vec<(String, FileInput)>);

/// The type of an input alone, or all that there is to say of it.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code, reason = "the schema is made of it")]
enum AnyInput {
    Type(Type),
    Whole(FileInput),
}

/// An input of the plan. Without a default it must be given.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct FileInput {
    /// What it may be; `any` by default.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    input_type: Option<Type>,
    /// What it is where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Value", default)]
    default: Option<Value>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Type {
    String,
    Integer,
    Number,
    Boolean,
    Array,
    Object,
    Any,
}

impl Serialize for Inputs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, input) in &self.0 {
            map.serialize_entry(name, input)?;
        }
        map.end()
    }
}

impl FilePlan {
    fn of(plan: &Plan) -> Result<Self, String> {
        let inputs: Vec<_> =
            plan.inputs().map(|(name, input)| (name.to_owned(), FileInput::of(input))).collect();
        let steps = plan.steps().iter().enumerate();
        Ok(Self {
            name: plan.get_name().map(str::to_owned),
            description: plan.get_description().map(str::to_owned),
            inputs: (!inputs.is_empty()).then_some(Inputs(inputs)),
            steps: steps.map(|(index, step)| FileStep::of(index, step)).collect::<Result<_, _>>()?,
        })
    }
}

impl FileInput {
    fn of(input: &PlanInput) -> Self {
        let input_type = match input.input_type {
            InputType::String => Some(Type::String),
            InputType::Integer => Some(Type::Integer),
            InputType::Number => Some(Type::Number),
            InputType::Boolean => Some(Type::Boolean),
            InputType::Array => Some(Type::Array),
            InputType::Object => Some(Type::Object),
            InputType::Any => Some(Type::Any),
        };
        let description = input.description.as_deref().map(str::to_owned);
        Self { input_type, default: input.default.clone(), description }
    }
}

/// As plan files have it. A step with a closure is an error that names the step.
impl Serialize for Plan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        FilePlan::of(self).map_err(S::Error::custom)?.serialize(serializer)
    }
}

/// As plan files have it, with the same checks. Of a text, [`Plan::from_text`] tells where it is wrong too.
impl<'de> Deserialize<'de> for Plan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        file::from_value(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
