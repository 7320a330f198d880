use std::time::SystemTime;

use super::error::{MemoryError, StoreError};
use super::messages::{Commit, Put};
use crate::artifact::Artifact;
use crate::event::Event;
use crate::plan::Output;
use crate::project::Project;
use crate::run::{RunId, RunRecord};

/// Where memory keeps things. One actor owns a store, so calls never overlap.
///
/// Names, keys, sizes and access rights are checked before a store is asked.
///
/// # What an implementation promises
///
/// - **Atomic**: after [`commit`](Self::commit) all of it is readable, or, after an error, memory may see none or all
///   of it but never a part.
/// - **Numbered**: the events of the store's commits have the sequence numbers 1, 2, 3 … without a gap, in the order
///   of the commits. A commit that fails uses none.
/// - **Versioned**: an artifact's version is one more than the largest its key ever had; a key whose last version is
///   deleted starts anew at 1.
pub trait Store: Send + 'static {
    /// Stores all of `commit`, at the time `at`, and answers with its events as they are stored: numbered, in order.
    ///
    /// # Errors
    /// [`MemoryError::RunExists`] when it accepts a run whose id is known: nothing is written.
    /// [`MemoryError::Store`]: it is unknown whether it is stored.
    fn commit(&mut self, commit: Commit, at: SystemTime) -> Result<Vec<Event>, MemoryError>;

    /// The sequence number of the last event that was committed; 0 before the first.
    ///
    /// # Errors
    /// The store failed.
    fn last_seq(&self) -> Result<u64, StoreError>;

    /// Stores one artifact outside a run, with its meta as given (memory has merged it already).
    ///
    /// # Errors
    /// The store failed; whether it is stored is unknown.
    fn put(&mut self, put: Put, at: SystemTime) -> Result<Artifact, StoreError>;

    /// Deletes a version, or all; answers whether there was something to delete.
    ///
    /// # Errors
    /// The store failed; whether it is deleted is unknown.
    fn delete(&mut self, project: &Project, key: &str, version: Option<u64>) -> Result<bool, StoreError>;

    /// Reads a version, or the latest.
    ///
    /// # Errors
    /// The store failed.
    fn artifact(
        &self,
        project: &Project,
        key: &str,
        version: Option<u64>,
    ) -> Result<Option<Artifact>, StoreError>;

    /// Lists the versions of a key, ascending.
    ///
    /// # Errors
    /// The store failed.
    fn versions(&self, project: &Project, key: &str) -> Result<Vec<u64>, StoreError>;

    /// Lists at most `limit` keys that start with `prefix` and come behind `after`, in order.
    ///
    /// # Errors
    /// The store failed.
    fn keys(
        &self,
        project: &Project,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError>;

    /// Reads the record of a run.
    ///
    /// # Errors
    /// The store failed.
    fn run(&self, run_id: &RunId) -> Result<Option<RunRecord>, StoreError>;

    /// Lists at most `limit` runs in the order of their acceptance, from the one behind `after`. An `after` that is
    /// not known is taken as the end: an empty page.
    ///
    /// # Errors
    /// The store failed.
    fn runs(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError>;

    /// Reads the outputs that a run has stored so far, in step order.
    ///
    /// # Errors
    /// The store failed.
    fn outputs(&self, run_id: &RunId) -> Result<Option<Vec<Output>>, StoreError>;
}
