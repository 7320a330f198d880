//! `noop`, `fail` and `sleep`.

use std::time::Duration;

use lunacore::{StepContext, StepError};
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Returns its input.
// Async, though it waits for nothing: it is done at its first poll, without a thread.
pub(super) async fn noop(input: Value, _: StepContext) -> Value {
    input
}

/// The input of `fail`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Fail {
    /// What the failure says.
    message: String,
    /// Whether a retry would be in vain, and so is not made.
    #[serde(default)]
    fatal: bool,
}

/// Fails with a message.
pub(super) async fn fail(Fail { message, fatal }: Fail, _: StepContext) -> Result<(), StepError> {
    let error = StepError::from(message);
    Err(if fatal { StepError::fatal(error) } else { error })
}

/// The input of `sleep`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sleep {
    /// How long, in words such as `500ms`, `2s` or `1h 30m`.
    #[serde(rename = "for", deserialize_with = "duration")]
    #[schemars(with = "String")]
    duration: Duration,
}

/// Waits.
pub(super) async fn sleep(Sleep { duration }: Sleep, _: StepContext) {
    tokio::time::sleep(duration).await;
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => humantime::parse_duration(&text)
            .map_err(|error| D::Error::custom(format_args!("{text:?} is no duration: {error}"))),
        Value::Number(number) => {
            Err(D::Error::custom(format_args!("{number} what? write \"{number}s\" for seconds")))
        }
        other => Err(D::Error::custom(format_args!("{other} is no duration; write \"2s\", for example"))),
    }
}
