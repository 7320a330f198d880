//! Finding the file, and connections to it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags};

use super::error::OpenError;
use super::schema::{self, Identity};
use super::view::View;
use crate::limits::{
    SQLITE_BUSY_TIMEOUT, SQLITE_LOG_PAGES, SQLITE_READER_CACHE, SQLITE_STATEMENTS, SQLITE_WRITER_CACHE,
};
use crate::memory::error::StoreError;

/// The one path of a file that may not be there yet, whatever way it is spelt: what is locked must be the same for all.
///
/// Absolute, so that SQLite takes it for a path, and not for one of its own names such as `:memory:` or `file:…`.
pub(super) fn locate(path: &Path) -> Result<PathBuf, OpenError> {
    let fault = |fault| OpenError::NotAStore { path: path.to_owned(), fault };
    match std::fs::canonicalize(path) {
        Ok(found) if found.is_dir() => Err(fault("it is a directory")),
        Ok(found) => Ok(found),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            if path.is_symlink() {
                // SQLite would make the file that the link names, and another spelling of it would not collide.
                return Err(fault("it is a symbolic link to nothing"));
            }
            let name = path.file_name().ok_or_else(|| fault("the path ends in no name"))?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            match std::fs::canonicalize(parent.unwrap_or(Path::new("."))) {
                Ok(parent) if parent.is_dir() => Ok(parent.join(name)),
                _ => Err(OpenError::NoDirectory { path: path.to_owned() }),
            }
        }
        Err(error) => Err(failed(path, error)),
    }
}

/// The connection that writes. Makes the file and its tables where they are missing.
pub(super) fn writer(path: &Path) -> Result<Connection, OpenError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let refused = |error| unwritable_database(path, error);
    let mut connection = connect(path, flags).map_err(refused)?;
    // Before anything is written: it may be someone else's.
    check(path, schema::identify(&connection).map_err(refused)?, true)?;
    if connection.is_readonly(MAIN_DB).map_err(refused)? {
        return Err(OpenError::NotWritable {
            path: path.to_owned(),
            source: StoreError::new("the file is read-only"),
        });
    }
    let kibibytes = SQLITE_WRITER_CACHE / 1024;
    let settings = format!(
        "PRAGMA page_size = 4096; PRAGMA cache_size = -{kibibytes}; PRAGMA foreign_keys = OFF; \
         PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = {SQLITE_LOG_PAGES}; PRAGMA trusted_schema = OFF;"
    );
    connection.execute_batch(&settings).map_err(refused)?;
    let mode = write_ahead(&connection).map_err(refused)?;
    if mode != "wal" {
        // A network file system, for example. Without it, readers would wait for commits.
        return Err(failed(path, format!("a write-ahead log is not possible there, only the mode {mode:?}")));
    }
    schema::upgrade(&mut connection).map_err(refused)?;
    Ok(connection)
}

/// Asks for a write-ahead log, and answers which sort of journal there is now.
///
/// The statement is run to its end: SQLite says `wal` first, and commits the change afterwards, which may fail.
fn write_ahead(connection: &Connection) -> rusqlite::Result<String> {
    let mut statement = connection.prepare("PRAGMA journal_mode = WAL")?;
    let modes: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(modes.concat())
}

/// A connection that reads what is stored, while another one writes or none does.
///
/// Beside a log that is there, SQLite reads without a right to write. Where there is none it would begin one; who may not, reads
/// the file as it lies there: without a log it is complete, and who runs the store would have one.
pub(super) fn reader(path: &Path) -> Result<View, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    match reading(path, path, flags) {
        Err(OpenError::NotWritable { source, .. }) if has_log(path) => {
            Err(OpenError::Failed { path: path.to_owned(), source })
        }
        Err(OpenError::NotWritable { .. }) => {
            reading(path, &immutable(path), flags | OpenFlags::SQLITE_OPEN_URI)
        }
        read => read,
    }
}

/// The same, with the file under a name that SQLite takes.
fn reading(path: &Path, name: &Path, flags: OpenFlags) -> Result<View, OpenError> {
    let refused = |error| unwritable_database(path, error);
    let connection = connect(name, flags).map_err(|error| self::refused(path, error))?;
    check(path, schema::identify(&connection).map_err(refused)?, false)?;
    let view = View::of_reader(connection).map_err(refused)?;
    let kibibytes = SQLITE_READER_CACHE / 1024;
    let settings =
        format!("PRAGMA cache_size = -{kibibytes}; PRAGMA query_only = ON; PRAGMA trusted_schema = OFF;");
    view.0.execute_batch(&settings).map_err(refused)?;
    Ok(view)
}

/// Whether there is something in the write-ahead log, or may be.
fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    match std::fs::metadata(log) {
        Ok(metadata) => metadata.len() > 0,
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

/// The name under which SQLite reads a file that does not change (<https://www.sqlite.org/uri.html>).
fn immutable(path: &Path) -> PathBuf {
    let mut name = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                name.push(char::from(*byte));
            }
            byte => name.push_str(&format!("%{byte:02x}")),
        }
    }
    name.push_str("?immutable=1");
    PathBuf::from(name)
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(SQLITE_BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(SQLITE_STATEMENTS);
    Ok(connection)
}

fn check(path: &Path, identity: Identity, may_be_empty: bool) -> Result<(), OpenError> {
    let fault = |fault| Err(OpenError::NotAStore { path: path.to_owned(), fault });
    match identity {
        Identity::Store => Ok(()),
        Identity::Empty if may_be_empty => Ok(()),
        Identity::Empty => fault("it is empty"),
        Identity::Foreign => fault("it is the database of another application"),
        Identity::Newer(found) => {
            Err(OpenError::Newer { path: path.to_owned(), found, known: schema::VERSION })
        }
    }
}

/// What SQLite says, in the words of a user who opens a file.
fn refused(path: &Path, error: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotAStore { path, fault: "it is no SQLite database" },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            OpenError::NotWritable { path, source: StoreError::new(error) }
        }
        _ => OpenError::Failed { path, source: StoreError::new(error) },
    }
}

/// The same for who writes: the database is found by now, so what cannot be opened are the files that SQLite keeps beside it.
fn unwritable_database(path: &Path, error: rusqlite::Error) -> OpenError {
    if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) {
        return OpenError::NotWritable { path: path.to_owned(), source: StoreError::new(error) };
    }
    refused(path, error)
}

/// What the operating system says to who writes.
pub(super) fn unwritable(path: &Path, error: std::io::Error) -> OpenError {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            OpenError::NotWritable { path: path.to_owned(), source: StoreError::new(error) }
        }
        _ => failed(path, error),
    }
}

pub(super) fn failed(path: &Path, error: impl Into<super::error::Unreadable>) -> OpenError {
    OpenError::Failed { path: path.to_owned(), source: StoreError::new(error) }
}
