//! The one rule for every id that a user chooses.

use crate::limits::MAX_ID_BYTES;

/// What is wrong with an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdFault {
    /// It has no characters.
    #[error("is empty")]
    Empty,
    /// It is longer than [`MAX_ID_BYTES`].
    #[error("has {bytes} bytes, more than {limit}")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// It holds a control character, which would break log lines and tables.
    #[error("has the control character {:?} at byte {at}", character)]
    ControlCharacter {
        /// The first one.
        character: char,
        /// Where it stands, in bytes.
        at: usize,
    },
}

/// Checks an id of at most [`MAX_ID_BYTES`] bytes.
pub(crate) fn check_id(id: &str) -> Result<(), IdFault> {
    check_text(id, MAX_ID_BYTES)
}

/// Checks a text of at most `limit` bytes: not empty, no control characters.
pub(crate) fn check_text(text: &str, limit: usize) -> Result<(), IdFault> {
    if text.is_empty() {
        return Err(IdFault::Empty);
    }
    if text.len() > limit {
        return Err(IdFault::TooLong { bytes: text.len(), limit });
    }
    match text.char_indices().find(|(_, c)| c.is_control()) {
        Some((at, character)) => Err(IdFault::ControlCharacter { character, at }),
        None => Ok(()),
    }
}
