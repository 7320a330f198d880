use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::id::rfc3339;

/// Where a breaker stands, as data: what is stored of it, and what it is restored from after a restart. Times are to the
/// microsecond.
///
/// ```
/// use lunacore::{BreakerRecord, CircuitState};
/// use serde_json::json;
///
/// let record: BreakerRecord = serde_json::from_value(json!({
///     "name": "payments", "state": "open", "until": "2026-11-23T12:00:30.000000Z", "failures": 5,
///     "changed_at": "2026-11-23T12:00:00.000000Z"
/// }))?;
/// assert_eq!(record.state, CircuitState::Open);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BreakerRecord {
    /// The breaker's name.
    pub name: Arc<str>,
    /// Its state.
    pub state: CircuitState,
    /// Until when an open one lets nothing through; the others have none.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339::maybe")]
    pub until: Option<SystemTime>,
    /// Of a closed one, the failures that count now: those in a row, or those in the window. Otherwise those that opened
    /// it, and the failed probes since.
    pub failures: u32,
    /// When it came to its state.
    #[serde(with = "rfc3339")]
    pub changed_at: SystemTime,
}

impl BreakerRecord {
    /// What a store kept.
    #[must_use]
    pub fn new(
        name: impl Into<Arc<str>>,
        state: CircuitState,
        until: Option<SystemTime>,
        failures: u32,
        changed_at: SystemTime,
    ) -> Self {
        Self { name: name.into(), state, until, failures, changed_at }
    }
}

/// The state of a breaker. The words are those of M. Nygard, "Release It!", 2007.
///
/// ```
/// use lunacore::CircuitState;
///
/// assert_eq!(CircuitState::HalfOpen.to_string(), "half_open");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CircuitState {
    /// Everything passes, and failures are counted.
    Closed,
    /// Nothing passes until a time.
    Open,
    /// A few attempts pass, to see whether all is well again.
    HalfOpen,
}

impl CircuitState {
    /// The word used in events, logs and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl fmt::Display for CircuitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
