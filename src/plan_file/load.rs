//! From a path to a text, whatever the path leads to.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::error::PlanFileError;
use super::fault::PlanFileFault;
use crate::limits::MAX_PLAN_FILE_BYTES;

/// The bytes of a file. A pipe or a device is not even opened: that could wait for ever.
pub(super) fn bytes_of(path: &Path) -> Result<Vec<u8>, PlanFileError> {
    let read = |source| PlanFileError::Read { path: path.to_owned(), source: Arc::new(source) };
    let about = fs::metadata(path).map_err(read)?;
    if !about.is_file() {
        return Err(PlanFileError::NotAFile { path: path.to_owned(), what: kind_of(&about) });
    }
    let too_large = || PlanFileError::TooLarge { path: Some(path.to_owned()) };
    if about.len() > MAX_PLAN_FILE_BYTES as u64 {
        return Err(too_large());
    }
    // It may grow while it is read.
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or_default());
    let file = File::open(path).map_err(read)?;
    file.take(MAX_PLAN_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(read)?;
    if bytes.len() > MAX_PLAN_FILE_BYTES { Err(too_large()) } else { Ok(bytes) }
}

fn kind_of(about: &Metadata) -> &'static str {
    if about.is_dir() { "a folder" } else { "a pipe, a device or a socket" }
}

/// The text of these bytes, without the mark that some editors put before it; or where it is none, and why.
pub(super) fn text_of(bytes: &[u8]) -> Result<&str, (usize, PlanFileFault)> {
    let syntax = |message: String| PlanFileFault::Syntax { message };
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err((0, syntax("the file is UTF-16; save it as UTF-8".to_owned())));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let byte = bytes.get(at).copied().unwrap_or_default();
        (at, syntax(format!("the byte 0x{byte:02x} is not UTF-8")))
    })?;
    check(text)
}

/// Some readers take a NUL for the end: what came after it would not be seen.
pub(super) fn check(text: &str) -> Result<&str, (usize, PlanFileFault)> {
    match text.find('\0') {
        Some(at) => {
            let message = "a NUL stands here; a plan file is text, saved as UTF-8".to_owned();
            Err((at, PlanFileFault::Syntax { message }))
        }
        None => Ok(text),
    }
}
