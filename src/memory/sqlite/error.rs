use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::memory::error::{MemoryError, StoreError};

/// Why a store could not be opened. Each variant names the file, and its message says what to do.
///
/// ```
/// use lunacore::{OpenError, SqliteStore};
///
/// let error = SqliteStore::open("/no/such/folder/runs.db").map(drop).unwrap_err();
/// assert!(matches!(error, OpenError::NoDirectory { .. }));
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or this one, has the store open for running.
    #[error("the store {path:?} is in use by {}; end it, or open the store for reading only", by(holder.as_ref()))]
    InUse {
        /// The file.
        path: PathBuf,
        /// Who has it, if the lock file says so.
        holder: Option<LockHolder>,
    },
    /// The file is no SQLite database, or one of another application. It was not changed.
    #[error("{path:?} is not a store: {fault}; choose another file")]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        fault: &'static str,
    },
    /// A later version of this crate has written the store. It was not changed.
    #[error(
        "the store {path:?} has version {found}, and this program knows versions up to {known}; use a later release of lunacore"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its tables.
        found: i64,
        /// The latest version that is known here.
        known: i64,
    },
    /// The file or its directory may not be written to.
    #[error(
        "the store {path:?} cannot be written to; allow this for the file and its directory, or open it for reading only"
    )]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// What the attempt ended with.
        source: StoreError,
    },
    /// There is no such file, and opening for reading only does not make one.
    #[error("there is no store {path:?}; open it for running once, which makes it")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The directory that the file should be in does not exist.
    #[error("there is no directory for the store {path:?}; make it first")]
    NoDirectory {
        /// The file.
        path: PathBuf,
    },
    /// The operating system or SQLite refused.
    #[error("the store {path:?} cannot be opened")]
    Failed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
}

/// Who has a store open for running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LockHolder {
    /// The id of its process.
    pub pid: u32,
    /// When it opened the store, to the microsecond.
    pub since: SystemTime,
}

impl LockHolder {
    pub(super) fn new(pid: u32, since: SystemTime) -> Self {
        Self { pid, since }
    }
}

/// `process 4711 since 2026-11-23T12:00:00.000000Z`
impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = if self.pid == std::process::id() { "this process," } else { "process" };
        write!(f, "{which} {} since {}", self.pid, humantime::format_rfc3339_micros(self.since))
    }
}

fn by(holder: Option<&LockHolder>) -> String {
    holder.map_or_else(|| "another process".to_owned(), ToString::to_string)
}

/// What goes wrong inside a store that is open.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// Somebody has edited the file, or the disk has.
    #[error("row {row} of the table {table} cannot be read")]
    Row { table: &'static str, row: String, source: Unreadable },
    /// A value has no JSON form, so it cannot be written.
    #[error("what is to be stored has no JSON form")]
    NotJson(#[from] serde_json::Error),
    #[error("run {run_id} was never accepted")]
    NeverAccepted { run_id: String },
    /// It would make what is stored contradict itself.
    #[error("a commit to run {run_id} does not follow what is stored of it: {fault}")]
    OutOfOrder { run_id: String, fault: String },
    #[error("there are no more numbers for the {0}")]
    Exhausted(&'static str),
    #[error(
        "another program reads the store and does not end, so what it holds cannot be secured after a failure"
    )]
    Busy,
    #[error("the store has failed and is not reopened yet")]
    Closed,
}

/// Why a row cannot be read.
pub(super) type Unreadable = Box<dyn Error + Send + Sync>;

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        Self::new(fault)
    }
}

impl From<Fault> for MemoryError {
    fn from(fault: Fault) -> Self {
        Self::Store(fault.into())
    }
}
