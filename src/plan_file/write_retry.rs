//! Retry policies and durations as a file has them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::resilience::{Jitter, Retry};

#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[allow(dead_code, reason = "the schema is made of it")]
pub(super) enum AnyRetry {
    Attempts(#[schemars(range(min = 1, max = 10000))] u32),
    Whole(FileRetry),
}

/// Whether and when a step is tried again. What is left out is as in the short form.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct FileRetry {
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
pub(super) struct Time(
    #[schemars(with = "String", regex(pattern = r"^\s*([0-9]+\s*[A-Za-zµ]+\s*)+$"))] pub(super) Duration,
);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum Chance {
    Full,
    Equal,
    None,
}

impl FileRetry {
    /// Everything is written, so that other defaults of a later version change nothing.
    pub(super) fn of(retry: &Retry, name: impl Fn() -> String) -> Result<Option<Self>, String> {
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
