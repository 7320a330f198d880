use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::{Fault, OpenError};
use super::lock::Lock;
use super::open;
use super::view::View;
use super::write::{CommitResult, Writer};
use crate::artifact::Artifact;
use crate::event::Event;
use crate::memory::commit::Commit;
use crate::memory::error::{MemoryError, StoreError};
use crate::memory::messages::{Put, RecordBreaker};
use crate::memory::retention::{Collected, Retention};
use crate::memory::signal::{KeptSignal, RecordSignal};
use crate::memory::store::{Reader, Store, delegate_reader};
use crate::project::Project;
use crate::run::Durability;

/// A store in one SQLite file, which survives the process and, as [`Durability`] says, a power loss.
///
/// One process at a time runs what it holds, and has it locked for as long as it lives. Any number of others, and any
/// SQLite tool, may read it meanwhile: its tables and views are described below, and are public.
///
/// ```
/// use lunacore::{Durability, OpenError, ProjectMemory, SqliteStore};
///
/// # fn main() -> Result<(), OpenError> {
/// # let folder = std::env::temp_dir().join(format!("lunacore-doc-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).map_err(|_| ()).ok();
/// # let path = folder.join("runs.db");
/// let store = SqliteStore::open(&path)?.durability(Durability::Relaxed);
/// assert!(matches!(SqliteStore::open(&path), Err(OpenError::InUse { .. })));
/// let memory = ProjectMemory::with_store(store);
/// # drop(memory);
/// # std::fs::remove_dir_all(&folder).ok();
/// # Ok(())
/// # }
/// ```
#[doc = include_str!("tables.md")]
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    durability: Durability,
    side: Side,
}

#[derive(Debug)]
enum Side {
    /// Away after a failure, until it is opened again. The lock is let go of last.
    Running(Option<Box<Writer>>, #[allow(dead_code, reason = "held, not used")] Lock),
    ReadOnly(View),
}

impl SqliteStore {
    /// Opens a store for running, and makes the file if it is missing. Its directory must be there.
    ///
    /// Beside the file SQLite keeps two of its own (`-wal` and `-shm`), and the lock is in a third, `-lock`. They belong
    /// together: copy a store with SQLite's `VACUUM INTO`, or when no program has it open.
    ///
    /// # Errors
    /// See [`OpenError`]. The file is unchanged then, but that a new one may be there, empty.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = open::locate(path.as_ref())?;
        let mut lock = Lock::acquire(&path)?;
        let writer = match Writer::open(&path) {
            Ok(writer) => writer,
            Err(error) => {
                if matches!(error, OpenError::NotAStore { .. }) {
                    lock.discard();
                }
                return Err(error);
            }
        };
        lock.sign().map_err(|error| open::unwritable(&path, error))?;
        let side = Side::Running(Some(Box::new(writer)), lock);
        Ok(Self { path, durability: Durability::default(), side })
    }

    /// Opens a store for reading, at any time: also while a program runs what it holds, and after one was killed. Every
    /// write is answered with [`MemoryError::ReadOnly`].
    ///
    /// No right to write is needed, to the file or to its directory. Without it, a store that nobody has open is read as it is at
    /// that moment: what is run later needs a reader that is opened later.
    ///
    /// # Errors
    /// See [`OpenError`]; [`Missing`](OpenError::Missing) when there is no such file.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = open::locate(path.as_ref())?;
        if !path.exists() {
            return Err(OpenError::Missing { path });
        }
        let side = Side::ReadOnly(open::reader(&path)?);
        Ok(Self { path, durability: Durability::default(), side })
    }

    /// How well commits are stored that do not say. [`Durability::Immediate`] by default.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Gives the space of what was deleted back to the disk, which otherwise is used for what comes. The file is written anew:
    /// this takes as long, and up to twice as much space meanwhile. Not between [`begin`](Store::begin) and [`end`](Store::end).
    ///
    /// Programs that read the store at the same time may keep the file at its size until they end.
    ///
    /// ```
    /// use lunacore::SqliteStore;
    ///
    /// # let folder = std::env::temp_dir().join(format!("lunacore-vacuum-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder)?;
    /// # let path = folder.join("runs.db");
    /// SqliteStore::open(path)?.vacuum()?;
    /// # std::fs::remove_dir_all(&folder)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::ReadOnly`], or the store failed: the disk is full, for example. What it holds is as it was.
    pub fn vacuum(&mut self) -> Result<(), MemoryError> {
        self.write(|writer| writer.vacuum())
    }

    fn view(&self) -> Result<&View, Fault> {
        match &self.side {
            Side::Running(Some(writer), _) => Ok(&writer.view),
            Side::Running(None, _) => Err(Fault::Closed),
            Side::ReadOnly(view) => Ok(view),
        }
    }

    /// One write. When it fails, the connection goes, and with it all that the batch has written.
    fn write<T, E: Into<MemoryError>>(
        &mut self,
        write: impl FnOnce(&mut Writer) -> Result<T, E>,
    ) -> Result<T, MemoryError> {
        let Side::Running(writer, _) = &mut self.side else { return Err(MemoryError::ReadOnly) };
        let result = match writer {
            Some(writer) => write(writer).map_err(Into::into),
            None => Err(Fault::Closed.into()),
        };
        if matches!(result, Err(MemoryError::Store(_))) {
            *writer = None;
        }
        result
    }

    /// What concerns the batch. A store that is read only has batches too, in which every write is refused.
    fn batch(&mut self, call: impl FnOnce(&mut Writer) -> Result<(), Fault>) -> Result<(), StoreError> {
        match self.write(call) {
            Err(MemoryError::ReadOnly) => Ok(()),
            Err(MemoryError::Store(error)) => Err(error),
            other => other.map_err(StoreError::new),
        }
    }
}

/// What was stored with [`Durability::Relaxed`] is flushed.
impl Drop for SqliteStore {
    fn drop(&mut self) {
        let Side::Running(Some(writer), _) = &mut self.side else { return };
        if let Err(error) = writer.close() {
            log::error!(target: "lunacore::memory", "the store was closed, but not flushed: {error}");
        }
    }
}

impl Store for SqliteStore {
    fn begin(&mut self, durability: Durability) -> Result<(), StoreError> {
        self.batch(|writer| writer.begin(durability))
    }

    fn end(&mut self) -> Result<(), StoreError> {
        self.batch(Writer::end)
    }

    fn commit(&mut self, commit: Box<Commit>, at: SystemTime) -> Result<Vec<Event>, MemoryError> {
        let mut results = self.write(|writer| writer.commit_all([commit], at))?;
        results.pop().unwrap_or_else(|| Ok(Vec::new()))
    }

    fn commit_all(
        &mut self,
        commits: &mut dyn Iterator<Item = Box<Commit>>,
        at: SystemTime,
    ) -> Result<Vec<CommitResult>, StoreError> {
        match self.write(|writer| writer.commit_all(&mut *commits, at)) {
            Err(MemoryError::Store(error)) => Err(error),
            Err(refused) => Ok(commits.map(|_| Err(refused.clone())).collect()),
            Ok(results) => Ok(results),
        }
    }

    fn put(&mut self, put: Put, at: SystemTime) -> Result<Artifact, MemoryError> {
        self.write(|writer| writer.put(put, at))
    }

    fn delete(&mut self, project: &Project, key: &str, version: Option<u64>) -> Result<bool, MemoryError> {
        self.write(|writer| writer.delete(project, key, version))
    }

    fn record_breaker(&mut self, change: RecordBreaker, at: SystemTime) -> Result<Vec<Event>, MemoryError> {
        self.write(|writer| writer.record_breaker(change, at))
    }

    fn record_signal(
        &mut self,
        signal: RecordSignal,
        at: SystemTime,
    ) -> Result<(KeptSignal, Vec<Event>), MemoryError> {
        self.write(|writer| writer.record_signal(signal, at))
    }

    fn collect(
        &mut self,
        retention: &Retention,
        now: SystemTime,
        limit: usize,
    ) -> Result<Collected, MemoryError> {
        self.write(|writer| writer.collect(retention, now, limit))
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.batch(Writer::flush)
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        match &mut self.side {
            Side::Running(writer, _) => {
                // The old one goes first, and rolls back what it had not committed.
                *writer = None;
                let opened = Writer::open(&self.path).map_err(StoreError::new)?;
                opened.checkpoint()?;
                *writer = Some(Box::new(opened));
            }
            Side::ReadOnly(view) => *view = open::reader(&self.path).map_err(StoreError::new)?,
        }
        Ok(())
    }

    fn durability(&self) -> Durability {
        self.durability
    }

    fn reader(&self) -> Result<Option<Box<dyn Reader>>, StoreError> {
        let view = open::reader(&self.path).map_err(StoreError::new)?;
        Ok(Some(Box::new(view)))
    }
}

// Through the connection that writes, so a batch sees what it has written.
delegate_reader! { SqliteStore => |this| this.view()? }
