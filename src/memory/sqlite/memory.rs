use std::path::Path;

use super::error::OpenError;
use super::store::SqliteStore;
use crate::memory::actor::ProjectMemory;

impl ProjectMemory {
    /// Memory in a file: opens a [`SqliteStore`] for running, and makes the file if it is missing.
    ///
    /// ```no_run
    /// use lunacore::{Engine, ProjectMemory};
    ///
    /// # fn wire() -> Result<(), Box<dyn std::error::Error>> {
    /// let engine = Engine::builder().memory(ProjectMemory::open("runs.db")?).start()?;
    /// # drop(engine);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`SqliteStore::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        SqliteStore::open(path).map(Self::with_store)
    }

    /// Memory of a file that another program may be running: everything can be read, and nothing written.
    ///
    /// # Errors
    /// Those of [`SqliteStore::open_read_only`].
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        SqliteStore::open_read_only(path).map(Self::with_store)
    }
}
