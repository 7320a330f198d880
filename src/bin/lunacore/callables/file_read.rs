//! `file.read`: the text of a file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;

use lunacore::limits::MAX_OUTPUT_BYTES;
use lunacore::{StepContext, StepError};
use schemars::JsonSchema;
use serde::Deserialize;

/// The input of `file.read`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Args {
    /// The file, relative to the folder in which the command runs.
    path: PathBuf,
    /// The most that it may hold, in bytes; the largest output of a step by default.
    #[serde(default = "most")]
    max_bytes: usize,
}

fn most() -> usize {
    MAX_OUTPUT_BYTES
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum ReadError {
    #[error("the file {path:?} cannot be read")]
    Io { path: PathBuf, source: io::Error },
    /// A pipe could be waited for for ever, and a device has no end.
    #[error("{path:?} is not a regular file")]
    NotAFile { path: PathBuf },
    #[error("the file {path:?} has more than {limit} bytes; let a later step work on the file itself")]
    TooLarge { path: PathBuf, limit: usize },
    #[error("the file {path:?} is not UTF-8 text: there is the byte 0x{byte:02x} at offset {at}")]
    NotText { path: PathBuf, byte: u8, at: usize },
    #[error("max_bytes is {max_bytes}, more than {MAX_OUTPUT_BYTES}, the largest output of a step")]
    Limit { max_bytes: usize },
}

/// Reads a file. Its text is the output, as it stands.
pub(super) fn read(Args { path, max_bytes }: Args, _: StepContext) -> Result<String, StepError> {
    if max_bytes > MAX_OUTPUT_BYTES {
        return Err(StepError::fatal(ReadError::Limit { max_bytes }));
    }
    Ok(text_of(path, max_bytes)?)
}

fn text_of(path: PathBuf, limit: usize) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    let mut read = || -> io::Result<bool> {
        // Before it is opened: that alone may take for ever where it is a pipe.
        if !fs::metadata(&path)?.is_file() {
            return Ok(false);
        }
        File::open(&path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        Ok(true)
    };
    match read() {
        Err(source) => return Err(ReadError::Io { path, source }),
        Ok(false) => return Err(ReadError::NotAFile { path }),
        Ok(true) => {}
    }
    if bytes.len() > limit {
        return Err(ReadError::TooLarge { path, limit });
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(at).copied().unwrap_or_default();
        ReadError::NotText { path, byte, at }
    })
}
