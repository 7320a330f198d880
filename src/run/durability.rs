use std::fmt;

use serde::{Deserialize, Serialize};

/// What a power loss may take of what was acknowledged. A process that crashes or is killed loses nothing either way.
///
/// Set for a store with [`SqliteStore::durability`](crate::SqliteStore::durability), and for a plan with
/// [`ExecutePlan::durability`](crate::ExecutePlan::durability). What is written together is stored as the most careful of
/// it demands. The volatile store has nothing to lose it from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Durability {
    /// Nothing but the last [`RELAXED_WINDOW`](crate::limits::RELAXED_WINDOW) of it: steps do not wait for the disk, which is
    /// flushed when the window is over.
    Relaxed,
    /// Nothing, on a disk that honours fsync: it is on disk before the next step starts. The default.
    #[default]
    Immediate,
}

impl Durability {
    /// The word used in stores and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relaxed => "relaxed",
            Self::Immediate => "immediate",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
