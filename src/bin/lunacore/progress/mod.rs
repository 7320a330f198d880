//! What a run does while it does it, on stderr: a few lines that are drawn again and again on a terminal, a line for each
//! thing that happens elsewhere.
//!
//! Nothing of it can fail: a plan does not end because nobody watches.

mod bars;
mod display;
mod lines;
mod model;

pub(crate) use display::{Progress, TICK};
