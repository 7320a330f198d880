//! Memory: the actor that owns a store, and is the only one that writes to it.
//!
//! It commits what the orchestrator asks for, then hands the committed events to the buses that were attached. What it
//! does not do: it never publishes what is not stored, and never tries a failed commit again.

mod access;
mod actor;
mod claims;
mod collect;
mod commit;
mod error;
mod found;
mod kept;
mod messages;
mod outlet;
mod passes;
mod read;
mod retention;
mod signal;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
mod stored;
mod volatile;
mod volatile_sweep;
mod write;

pub use access::{Access, Operation};
pub use actor::ProjectMemory;
pub use collect::Collect;
pub use commit::{Claim, Commit, Committed, NewArtifact, NewRun, Reopen, RunUpdate, StepOutput};
pub use error::{MemoryError, StoreError};
pub use found::{FindRun, FoundRun};
pub use messages::{
    Attach, Delete, Get, GetOutputs, GetRun, ListBreakers, ListKeys, ListRuns, ListUnfinished, ListVersions,
    Put, ReadHistory, RecordBreaker,
};
pub use retention::{Collected, Retention};
pub use signal::{KeptSignal, RecordSignal, SignalUsage};
#[cfg(feature = "sqlite")]
pub use sqlite::{LockHolder, OpenError, SqliteStore};
#[cfg(any(test, feature = "sqlite", feature = "testing"))]
pub(crate) use store::delegate_reader;
pub use store::{Reader, Store};
pub use volatile::VolatileStore;
