use crate::allocator::AllocatorError;
use crate::causes::with_causes;
use crate::id::IdFault;
use crate::plan::InvalidPlan;

/// What is wrong at one place of a plan file.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PlanFileFault {
    /// The text is not of its format, or more than a plan file may be.
    #[error("{message}")]
    #[non_exhaustive]
    Syntax {
        /// What the reader of the format says.
        message: String,
    },
    /// There is nothing in the file.
    #[error("the file is empty; a plan has `steps`")]
    Empty,
    /// A value is of another type than its place asks for.
    #[error("{what} is {found}, but {expected} is expected{hint}")]
    #[non_exhaustive]
    Type {
        /// The place, such as `` `timeout` ``.
        what: String,
        /// What may stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
        /// What to write instead, after a semicolon, or nothing.
        hint: &'static str,
    },
    /// A key that is not known at its place.
    #[error("unknown key {key:?} in {of}{}", instead(key, similar.as_deref(), known))]
    #[non_exhaustive]
    UnknownKey {
        /// The key, shortened.
        key: String,
        /// In what it stands, such as `a step`.
        of: &'static str,
        /// A known key that looks alike.
        similar: Option<String>,
        /// All keys that are known there.
        known: &'static [&'static str],
    },
    /// A key that stands twice in the same mapping.
    #[error("the key {key:?} stands here twice; it has a value on line {first_line} already")]
    #[non_exhaustive]
    DuplicateKey {
        /// The key, shortened.
        key: String,
        /// The line of the first, from 1.
        first_line: usize,
    },
    /// A key that has to be there is not.
    #[error("{of} has no {key:?}; {hint}")]
    #[non_exhaustive]
    MissingKey {
        /// The key.
        key: &'static str,
        /// What lacks it, such as `the plan`.
        of: &'static str,
        /// What to write.
        hint: &'static str,
    },
    /// A word that is not one of those that may stand at its place.
    #[error("{what} is {word:?}{}", instead(word, similar.as_deref(), known))]
    #[non_exhaustive]
    Word {
        /// The place, such as `` `jitter` ``.
        what: &'static str,
        /// The word, shortened.
        word: String,
        /// A known word that looks alike.
        similar: Option<String>,
        /// All words that are known there.
        known: &'static [&'static str],
    },
    /// A duration that is none.
    #[error("{what} is {found}; {hint}")]
    #[non_exhaustive]
    Duration {
        /// The place, such as `` `timeout` ``.
        what: &'static str,
        /// What stands there.
        found: String,
        /// What to write instead.
        hint: String,
    },
    /// A time that is none.
    #[error("{what} is {found}; write a time in UTC, such as 2026-12-24T18:00:00Z")]
    #[non_exhaustive]
    Moment {
        /// The place, such as `` `sleep_until` ``.
        what: &'static str,
        /// What stands there.
        found: String,
    },
    /// A step that is to wait for two things.
    #[error("a step waits for one thing, and this one has {first:?} and {second:?}; make two steps of it")]
    #[non_exhaustive]
    WaitsTwice {
        /// The key that comes first.
        first: &'static str,
        /// The key that comes second.
        second: &'static str,
    },
    /// A number that is out of its range.
    #[error("{what} is {found}, but {expected} is expected")]
    #[non_exhaustive]
    Range {
        /// The place, such as `` `max_attempts` ``.
        what: &'static str,
        /// The number.
        found: String,
        /// Which may stand there.
        expected: &'static str,
    },
    /// A value that the format can say and a plan cannot hold.
    #[error("{what}")]
    #[non_exhaustive]
    Unfit {
        /// What it is, and what to write instead.
        what: &'static str,
    },
    /// A name that breaks the rule for ids.
    #[error("the {what} {name:?} {fault}")]
    #[non_exhaustive]
    Name {
        /// What the name is for, such as `id`.
        what: &'static str,
        /// The name, shortened.
        name: String,
        /// What is wrong with it.
        fault: IdFault,
    },
    /// A name with a character that nobody sees, or that changes how those beside it are shown.
    #[error("the {what} {name:?} has the invisible character U+{:04X}; two names that look alike must be alike", u32::from(*character))]
    #[non_exhaustive]
    Invisible {
        /// What the name is for, such as `id`.
        what: &'static str,
        /// The name, shortened.
        name: String,
        /// The first such character.
        character: char,
    },
    /// The plan that the file tells of cannot be one.
    #[error("{}", with_causes(.0))]
    Plan(InvalidPlan),
    /// A step cannot be called.
    #[error("{}", with_causes(.0))]
    Callable(AllocatorError),
}

/// What to write instead of a word that is not known.
fn instead(word: &str, similar: Option<&str>, known: &[&str]) -> String {
    let foreign = word.chars().find(|c| !c.is_ascii());
    let foreign = foreign.map(|c| format!("; {c:?} in it is U+{:04X}", u32::from(c))).unwrap_or_default();
    match similar {
        Some(similar) => format!("{foreign}; did you mean {similar:?}?"),
        None => format!("{foreign}; known are {}", known.join(", ")),
    }
}
