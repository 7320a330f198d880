//! The one rule for every id that a user chooses, and the making of those that nobody does; and the form of the times
//! that are stored beside them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

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

/// A name as errors quote it: at most 64 characters, with a mark where it was cut.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986, so that parts cannot run into each other.
pub(crate) fn percent_encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// The known name that looks most like this one, if it is at most two typing errors away.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    let length = wanted.chars().count();
    let most = 2.min(length.saturating_sub(1));
    let near = known.filter(|known| {
        // Most names need not be compared: each typing error makes one character more or less at most.
        known.len().abs_diff(name.len()) <= 4 * (most + 1)
            && known.chars().count().abs_diff(length) <= most
            && strsim::damerau_levenshtein(&known.to_lowercase(), &wanted) <= most
    });
    // Of those as near as another, the one with the longer common start.
    let likeness = |known: &str| strsim::jaro_winkler(&known.to_lowercase(), &wanted);
    near.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
}

/// Makes the ids of all that happens at one moment: UUIDv7 (RFC 9562). Their random bits come from a fast generator that is
/// seeded by the operating system once per thread: unique, but not secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ids {
    millis: u64,
}

impl Ids {
    /// The ids made at `at`, and `at` cut to microseconds: both of one look at the time, since whatever has an id has both.
    pub(crate) fn at(at: SystemTime) -> (Self, SystemTime) {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        // Not `as_millis`, which computes with 128 bits.
        let millis = since.as_secs() * 1_000 + u64::from(since.subsec_millis());
        (Self { millis }, cut(at, since))
    }

    /// A new one.
    pub(crate) fn make(self) -> Uuid {
        let random = fastrand::u128(..).to_ne_bytes();
        let mut tail = [0; 10];
        tail.copy_from_slice(&random[..10]);
        uuid::Builder::from_unix_timestamp_millis(self.millis, &tail).into_uuid()
    }
}

/// A new id made at `at`.
pub(crate) fn uuid_at(at: SystemTime) -> Uuid {
    Ids::at(at).0.make()
}

/// `at` cut to microseconds, the precision of everything that is stored.
pub(crate) fn to_micros(at: SystemTime) -> SystemTime {
    cut(at, at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn cut(at: SystemTime, since: Duration) -> SystemTime {
    // Mostly it is cut already. (What lies before the epoch has no `since`, and becomes the epoch.)
    if since.subsec_nanos().is_multiple_of(1_000) && !since.is_zero() {
        return at;
    }
    UNIX_EPOCH + Duration::new(since.as_secs(), since.subsec_micros() * 1_000)
}

/// A time as JSON has it: RFC 3339, to the microsecond.
pub(crate) mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_micros(*at))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text).map(super::to_micros).map_err(serde::de::Error::custom)
    }

    /// A time that may be missing.
    pub(crate) mod maybe {
        use std::time::SystemTime;

        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        #[derive(Serialize, Deserialize)]
        struct Time(#[serde(with = "super")] SystemTime);

        #[allow(clippy::ref_option, reason = "serde asks for it like this")]
        pub(crate) fn serialize<S: Serializer>(
            at: &Option<SystemTime>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            at.map(Time).serialize(serializer)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<SystemTime>, D::Error> {
            Ok(Option::<Time>::deserialize(deserializer)?.map(|Time(at)| at))
        }
    }
}
