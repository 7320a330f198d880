//! Memory: the actor that owns a store, and is the only one that writes to it.
//!
//! It commits what the orchestrator asks for, then hands the committed events to the buses that were attached. What it
//! does not do: it never publishes what is not stored, and never tries a failed commit again.

mod access;
mod actor;
mod error;
mod messages;
mod store;
mod volatile;

pub use access::{Access, Operation};
pub use actor::ProjectMemory;
pub use error::{MemoryError, StoreError};
pub use messages::{
    Attach, Commit, Committed, Delete, Get, GetOutputs, GetRun, ListKeys, ListRuns, ListVersions,
    NewArtifact, NewRun, Put, RunUpdate,
};
pub use store::Store;
pub use volatile::VolatileStore;
