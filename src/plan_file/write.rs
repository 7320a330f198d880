//! A plan as a file has it.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::{escape, file};
use crate::json;
use crate::plan::{Handling, InputType, Plan, PlanInput, Policy, Step, WhenOpen};
use crate::resilience::{Jitter, Retry};

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

/// A step: what is called, with what, and what happens when it fails.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct FileStep {
    /// The step's name, under which its result is found; no other step of the plan has it.
    #[schemars(length(min = 1, max = 256))]
    id: String,
    /// The callable, by the name that it is registered under; the step's id by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    uses: Option<String>,
    /// The callable's input. Strings in it may hold expressions, `${{ … }}`; `$${{` stands for `${{` itself.
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schemars(default)]
    with: Value,
    /// An expression, with or without `${{ }}` around it: the step is skipped where it is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Condition>")]
    when: Option<String>,
    /// The agent that `task.started` reports; `orchestrator` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    agent: Option<String>,
    /// Free attributes, for allocators.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schemars(default)]
    attributes: Map<String, Value>,
    /// Calls a callable of microseconds in place; `false` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    inline: Option<bool>,
    /// Whether and when it is tried again; not by default. A number alone is that of the attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AnyRetry>")]
    retry: Option<FileRetry>,
    /// The longest that one attempt may take; no limit by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Time>,
    /// The longest that all attempts may take, with the waits between them; no limit by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_timeout: Option<Time>,
    /// How long blocking code that has come to a limit may take to end; `10s` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    grace: Option<Time>,
    /// The circuit breaker that watches the step; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    breaker: Option<String>,
    /// What to do while that lets nothing through: wait, or fail; `park` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    when_open: Option<Open>,
    /// What becomes of the plan when the step has failed for the last time; `abort` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_failure: Option<Failure>,
    /// Sends `escalation.needed` when it has; `false` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    escalate_on_failure: Option<bool>,
}

#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[allow(dead_code, reason = "the schema is made of it")]
enum Condition {
    Always(bool),
    Expression(String),
}

#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[allow(dead_code, reason = "the schema is made of it")]
enum AnyRetry {
    Attempts(#[schemars(range(min = 1, max = 10000))] u32),
    Whole(FileRetry),
}

/// Whether and when a step is tried again. What is left out is as in the short form.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct FileRetry {
    /// Attempts at most, the first included; 3 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    max_attempts: Option<u32>,
    /// The wait after the first failed attempt; `1s` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<Time>,
    /// By what the wait is multiplied after each further one; 2 by default, or 1 where the delay is `0s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    factor: Option<f64>,
    /// What the wait grows to at most; `1m` by default, or the delay where that is longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_delay: Option<Time>,
    /// How much of the wait is left to chance: all of it, half of it, nothing; `full` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<Chance>,
    /// The time within which another attempt may still start; no limit by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<Time>,
    /// Whether a panic is retried; `false` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_panic: Option<bool>,
    /// Whether an attempt that came to its timeout is retried; `false` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_timeout: Option<bool>,
}

/// A duration: numbers with units, such as `30s`, `5m` or `1h 30m`.
#[derive(JsonSchema)]
#[schemars(transparent)]
struct Time(#[schemars(with = "String", regex(pattern = r"^\s*([0-9]+\s*[A-Za-zµ]+\s*)+$"))] Duration);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
#[allow(dead_code, reason = "the default is not written")]
enum Open {
    Park,
    Fail,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Chance {
    Full,
    Equal,
    None,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
#[allow(dead_code, reason = "the default is not written")]
enum Failure {
    /// The plan fails too.
    Abort,
    /// The failure is recorded, and the plan goes on with null as the result.
    Continue,
    /// The callable of this name is called instead, once.
    Fallback(#[schemars(length(min = 1, max = 256))] String),
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

impl FileStep {
    fn of(index: usize, step: &Step) -> Result<Self, String> {
        let id = step.id().map(str::to_owned);
        let name =
            || id.as_ref().map_or_else(|| format!("step {index}"), |id| format!("step {index} ({id:?})"));
        let code = if step.callable().is_some() { Some("is a closure") } else { None };
        if let Some(code) = code.or_else(|| step.policy().and_then(Policy::closure)) {
            return Err(format!(
                "{} {code}, which no file can hold; register the code and use it by name",
                name()
            ));
        }
        if json::is_too_deep(step.get_input()) || json::any_too_deep(step.attributes()) {
            return Err(format!("the input or an attribute of {} nests too deep for a file", name()));
        }
        let default = Policy::default();
        let policy = step.policy().unwrap_or(&default);
        let beyond = policy.on_failure == Handling::Hold
            || policy.on_interrupted != default.on_interrupted
            || policy.compensation.is_some();
        if beyond {
            return Err(format!(
                "what is done about {} when it is cut off or undone is in no file yet",
                name()
            ));
        }
        Ok(Self {
            uses: step.callable_name().filter(|uses| Some(*uses) != step.id()).map(str::to_owned),
            with: escape::write(step),
            when: step.condition().map(str::to_owned),
            agent: step.own_agent().map(str::to_owned),
            attributes: step.attributes().clone(),
            inline: step.is_inline().then_some(true),
            retry: FileRetry::of(&policy.retry, name)?,
            timeout: policy.timeout.map(Time),
            total_timeout: policy.total_timeout.map(Time),
            grace: policy.grace.map(Time),
            breaker: policy.breaker.as_deref().map(str::to_owned),
            when_open: match policy.when_open {
                WhenOpen::Park => None,
                WhenOpen::Fail => Some(Open::Fail),
            },
            on_failure: match &policy.on_failure {
                Handling::Abort | Handling::Fallback | Handling::Hold => None,
                Handling::Continue => Some(Failure::Continue),
                Handling::FallbackNamed(name) => Some(Failure::Fallback(name.as_ref().to_owned())),
            },
            escalate_on_failure: policy.escalate.then_some(true),
            id: id.ok_or_else(|| format!("step {index} has no id"))?,
        })
    }
}

impl FileRetry {
    /// Everything is written, so that other defaults of a later version change nothing.
    fn of(retry: &Retry, name: impl Fn() -> String) -> Result<Option<Self>, String> {
        if *retry == Retry::none() {
            return Ok(None);
        }
        if !retry.factor.is_finite() {
            return Err(format!(
                "the retry factor of {} is {}, which no file can hold",
                name(),
                retry.factor
            ));
        }
        Ok(Some(Self {
            max_attempts: Some(retry.max_attempts),
            delay: Some(Time(retry.delay)),
            factor: Some(retry.factor),
            max_delay: retry.max_delay.map(Time),
            jitter: Some(match retry.jitter {
                Jitter::Full => Chance::Full,
                Jitter::Equal => Chance::Equal,
                Jitter::None => Chance::None,
            }),
            budget: retry.budget.map(Time),
            on_panic: retry.on_panic.then_some(true),
            on_timeout: retry.on_timeout.then_some(true),
        }))
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
