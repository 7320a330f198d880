//! A step as a file has it.

use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::escape;
use super::write_retry::{AnyRetry, FileRetry, Time};
use crate::json;
use crate::plan::{
    Compensation, Handling, Interruption, InvalidPolicy, Policy, Step, UndoneBy, Wait, WhenOpen,
};

/// A step: what is called, with what, and what happens when it fails.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct FileStep {
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
    /// Calls nothing, and waits for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    sleep: Option<Time>,
    /// Calls nothing, and waits until this time, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    sleep_until: Option<Moment>,
    /// Calls nothing, and waits for a signal of this name, whose payload is the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    wait_for_signal: Option<String>,
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
    /// The limit that the step keeps to, which bounds how many attempts are under way, or start in a time; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    limit: Option<String>,
    /// What becomes of the plan when the step has failed for the last time; `abort` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_failure: Option<Failure>,
    /// Sends `escalation.needed` when it has; `false` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    escalate_on_failure: Option<bool>,
    /// What becomes of the step when it was cut off, and may have had its effect or not; `rerun` by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_interrupted: Option<CutOff>,
    /// The callable that undoes the step when its plan fails later, or is cancelled; none by default. A name alone is tried once.
    #[serde(skip_serializing_if = "Option::is_none")]
    compensate: Option<AnyUndo>,
}

#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[allow(dead_code, reason = "the schema is made of it")]
enum Condition {
    Always(bool),
    Expression(String),
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
#[allow(dead_code, reason = "the default is not written")]
enum Failure {
    /// The plan fails too.
    Abort,
    /// The failure is recorded, and the plan goes on with null as the result.
    Continue,
    /// The callable of this name is called instead, once.
    Fallback(#[schemars(length(min = 1, max = 256))] String),
    /// The run waits until somebody decides about the step.
    Hold,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
#[allow(dead_code, reason = "the default is not written")]
enum CutOff {
    /// It is called again.
    Rerun,
    /// The run waits until somebody decides about the step.
    Hold,
    /// The callable of this name is asked whether the step had its effect.
    Verify(#[schemars(length(min = 1, max = 256))] String),
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
enum AnyUndo {
    Name(#[schemars(length(min = 1, max = 256))] String),
    Whole(FileUndo),
}

/// How a step is undone.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct FileUndo {
    /// The callable, by the name that it is registered under.
    #[schemars(length(min = 1, max = 256))]
    uses: String,
    /// Whether and when undoing is tried again; not by default. A number alone is that of the attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AnyRetry>")]
    retry: Option<FileRetry>,
    /// The longest that one attempt to undo it may take; no limit by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<Time>,
}

/// A time in UTC, by RFC 3339: `2026-12-24T18:00:00Z`.
#[derive(JsonSchema)]
#[schemars(transparent)]
struct Moment(
    #[schemars(
        with = "String",
        regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?Z$")
    )]
    SystemTime,
);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339(self.0))
    }
}

impl FileStep {
    pub(super) fn of(index: usize, step: &Step) -> Result<Self, String> {
        let id = step.id().map(str::to_owned);
        let name =
            || id.as_ref().map_or_else(|| format!("step {index}"), |id| format!("step {index} ({id:?})"));
        let code = (step.callable().is_some() && step.wait().is_none()).then_some("is a closure");
        if let Some(code) = code.or_else(|| step.policy().and_then(Policy::closure)) {
            return Err(format!(
                "{} {code}, which no file can hold; register the code and use it by name",
                name()
            ));
        }
        // What the checks of the plan refuse may have no form in a file either.
        step.check_wait().map_err(|fault| format!("{}: {fault}", name()))?;
        if json::is_too_deep(step.get_input()) || json::any_too_deep(step.attributes()) {
            return Err(format!("the input or an attribute of {} nests too deep for a file", name()));
        }
        let default = Policy::default();
        let policy = step.policy().unwrap_or(&default);
        let (sleep, sleep_until, signal) = match step.wait() {
            Some(Wait::Sleep(time)) => (Some(Time(*time)), None, None),
            Some(Wait::Until(time)) => (None, Some(Moment(*time)), None),
            Some(Wait::Signal(name)) => (None, None, Some(name.as_ref().to_owned())),
            None => (None, None, None),
        };
        Ok(Self {
            uses: step.callable_name().filter(|uses| Some(*uses) != step.id()).map(str::to_owned),
            with: escape::write(step),
            when: step.condition().map(str::to_owned),
            agent: step.own_agent().map(str::to_owned),
            attributes: step.attributes().clone(),
            sleep,
            sleep_until,
            wait_for_signal: signal,
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
            limit: policy.limit.as_deref().map(str::to_owned),
            on_failure: match &policy.on_failure {
                Handling::Abort | Handling::Fallback => None,
                Handling::Hold => Some(Failure::Hold),
                Handling::Continue => Some(Failure::Continue),
                Handling::FallbackNamed(name) => Some(Failure::Fallback(name.as_ref().to_owned())),
            },
            escalate_on_failure: policy.escalate.then_some(true),
            on_interrupted: match &policy.on_interrupted {
                Interruption::Rerun | Interruption::Verify => None,
                Interruption::Hold => Some(CutOff::Hold),
                Interruption::VerifyNamed(name) => Some(CutOff::Verify(name.as_ref().to_owned())),
            },
            compensate: policy.compensation.as_ref().map(|undo| AnyUndo::of(undo, name)).transpose()?,
            id: id.ok_or_else(|| format!("step {index} has no id"))?,
        })
    }
}

impl AnyUndo {
    fn of(undo: &Compensation, name: impl Fn() -> String) -> Result<Self, String> {
        let UndoneBy::Named(uses) = &undo.by else {
            return Err(format!("{}: {}", name(), InvalidPolicy::NothingUndoes));
        };
        let uses = uses.as_ref().to_owned();
        let (retry, timeout) = (FileRetry::of(&undo.retry, name)?, undo.timeout.map(Time));
        Ok(match (&retry, &timeout) {
            (None, None) => Self::Name(uses),
            _ => Self::Whole(FileUndo { uses, retry, timeout }),
        })
    }
}
