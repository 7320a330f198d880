//! The composition root: the only place that names the four actors together.

mod builder;
mod handle;

pub use builder::{EngineBuilder, EngineError};
pub use handle::Engine;
