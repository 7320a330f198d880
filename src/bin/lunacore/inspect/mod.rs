//! The commands that look into a store, and the one that changes it without running anything.

mod artifacts;
mod cancel;
mod events;
mod list;
mod show;
mod timeline;

pub(crate) use artifacts::artifacts;
pub(crate) use cancel::cancel;
pub(crate) use events::{counted, events};
pub(crate) use list::list;
pub(crate) use show::show;
