//! What happened: the event envelope, its types, and the patterns that select them.

mod kind;
mod names;
mod pattern;
mod reason;
mod record;

pub use kind::EventKind;
pub use pattern::{InvalidPattern, Pattern};
pub use reason::{Barrier, Resolution, SkipReason};
pub use record::{Event, InvalidEventType};
