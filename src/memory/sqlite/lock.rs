//! The lock file: one process at a time runs what a store holds.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::{LockHolder, OpenError};
use super::open::unwritable;
use crate::id::to_micros;

/// More than a lock file has.
const MAX_BYTES: u64 = 256;

/// Held for as long as it lives. The operating system lets go of it when the process ends, however it does, so a lock
/// file that is there says nothing: only one that is locked does.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// Locks the store at `store`, a canonical path.
    pub(super) fn acquire(store: &Path) -> Result<Self, OpenError> {
        let mut name = OsString::from(store);
        name.push("-lock");
        let path = PathBuf::from(name);
        let failed = |error| unwritable(store, error);
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, file }),
            Err(TryLockError::WouldBlock) => {
                Err(OpenError::InUse { path: store.to_owned(), holder: read(&mut file) })
            }
            Err(TryLockError::Error(error)) => Err(unwritable(store, error)),
        }
    }

    /// Writes down who holds it. Only once the store is known to be one: before that, the lock file may be someone else's.
    pub(super) fn sign(&mut self) -> std::io::Result<()> {
        let (pid, now) = (std::process::id(), humantime::format_rfc3339_micros(SystemTime::now()));
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(format!("pid {pid}\nsince {now}\n").as_bytes())
    }

    /// Leaves nothing beside a file that is no store.
    pub(super) fn discard(self) {
        if self.file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            // It does no harm if it stays.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// `None` while the holder has not written it, and where locked files cannot be read.
fn read(file: &mut File) -> Option<LockHolder> {
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).ok()?;
    let mut lines = text.lines();
    let pid = lines.next()?.strip_prefix("pid ")?.parse().ok()?;
    let since = humantime::parse_rfc3339(lines.next()?.strip_prefix("since ")?).ok()?;
    Some(LockHolder::new(pid, to_micros(since)))
}
