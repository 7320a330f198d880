//! What happened: the event envelope, its types, and the patterns that select them.

mod kind;
mod pattern;
mod record;

pub use kind::{EventKind, SkipReason};
pub use pattern::{InvalidPattern, Pattern};
pub use record::{Event, InvalidEventType};
