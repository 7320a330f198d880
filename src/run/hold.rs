use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a step is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HoldReason {
    /// Its attempt was cut off, and may have had its effect.
    Interrupted,
    /// The same, and what was asked whether it had could not tell.
    Unverified,
    /// It failed for the last time.
    Failed,
}

impl HoldReason {
    /// The word used in events, stores and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interrupted => "interrupted",
            Self::Unverified => "unverified",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
