//! `file.write`: a file, whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lunacore::{StepContext, StepError};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::text::Text;

/// The input of `file.write`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    /// The file, relative to the folder in which the command runs. Its folder must be there.
    path: PathBuf,
    /// All that it shall hold; what is not a text is written as JSON.
    text: Text,
}

/// Why a file was not written. It is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum WriteError {
    #[error("the file {path:?} cannot be written: there is no folder {folder:?}; make it first")]
    NoFolder { path: PathBuf, folder: PathBuf },
    #[error("{path:?} is there, and is not a regular file")]
    NotAFile { path: PathBuf },
    #[error("the file {path:?} cannot be written")]
    Io { path: PathBuf, source: io::Error },
}

/// Writes a file: into a new one beside it, which takes its place when it is on the disk.
pub(super) fn write(Args { path, text: Text(text) }: Args, _: StepContext) -> Result<Value, StepError> {
    replace(&path, text.as_bytes())?;
    Ok(json!({ "path": path, "bytes": text.len() }))
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let failed = |source| WriteError::Io { path: path.to_owned(), source };
    let not_a_file = || WriteError::NotAFile { path: path.to_owned() };
    // What a link leads to is written, not the link.
    let (target, permissions) = match fs::canonicalize(path) {
        Ok(target) => {
            let metadata = fs::metadata(&target).map_err(failed)?;
            if !metadata.is_file() {
                return Err(not_a_file());
            }
            (target, Some(metadata.permissions()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
            (path.to_owned(), None)
        }
        Err(error) => return Err(failed(error)),
    };
    let folder = match target.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return Err(not_a_file()),
    };
    if target.file_name().is_none() {
        return Err(not_a_file());
    }
    if !folder.is_dir() {
        return Err(WriteError::NoFolder { path: path.to_owned(), folder: folder.to_owned() });
    }
    store(&target, folder, permissions, bytes).map_err(failed)
}

fn store(target: &Path, folder: &Path, permissions: Option<Permissions>, bytes: &[u8]) -> io::Result<()> {
    // As any new file has them: the umask of the process takes its part away.
    let ordinary = Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new()
        .prefix(&OsString::from(".lunacore-"))
        .suffix(".tmp")
        .permissions(ordinary)
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    if let Some(permissions) = permissions {
        file.as_file().set_permissions(permissions)?;
    }
    file.as_file().sync_all()?;
    file.persist(target)?;
    // The new name is in the folder, which is on the disk only now.
    File::open(folder)?.sync_all()
}
