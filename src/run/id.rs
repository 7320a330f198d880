use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::id::{IdFault, check_id, shorten, uuid_at};
use crate::limits::MAX_ID_BYTES;

/// The name of a run: a UUIDv7 (RFC 9562), or whatever the caller chose.
///
/// A chosen id has 1 to [`MAX_ID_BYTES`] bytes and no control characters. Cloning is cheap.
///
/// ```
/// use lunacore::RunId;
///
/// let nightly: RunId = "nightly-2026-11-23".parse()?;
/// assert_eq!(nightly.as_str(), "nightly-2026-11-23");
/// assert!("".parse::<RunId>().is_err());
/// assert_ne!(RunId::random(), RunId::random());
/// # Ok::<(), lunacore::InvalidRunId>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct RunId(Arc<str>);

impl RunId {
    /// A new UUIDv7: ids made in different milliseconds sort by time.
    #[must_use]
    pub fn random() -> Self {
        let mut buffer = Uuid::encode_buffer();
        Self(Arc::from(&*uuid_at(SystemTime::now()).hyphenated().encode_lower(&mut buffer)))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A run id that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the run id {id:?} {fault}; choose 1 to {MAX_ID_BYTES} bytes without control characters")]
#[non_exhaustive]
pub struct InvalidRunId {
    /// The text that was given, shortened.
    pub id: String,
    /// What is wrong with it.
    pub fault: IdFault,
}

impl FromStr for RunId {
    type Err = InvalidRunId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match check_id(text) {
            Ok(()) => Ok(Self(Arc::from(text))),
            Err(fault) => Err(InvalidRunId { id: shorten(text), fault }),
        }
    }
}

impl TryFrom<&str> for RunId {
    type Error = InvalidRunId;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RunId({})", self.0)
    }
}

impl Borrow<str> for RunId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for RunId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<RunId> for String {
    fn from(run_id: RunId) -> Self {
        run_id.0.as_ref().to_owned()
    }
}

impl From<&RunId> for String {
    fn from(run_id: &RunId) -> Self {
        run_id.0.as_ref().to_owned()
    }
}
