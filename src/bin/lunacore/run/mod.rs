//! The commands that run plans: `run`, `resume`, `retry`, `resolve` and `signal`.

mod again;
mod bounds;
mod decide;
mod drive;
mod follow;
mod inputs;
mod outcome;
mod plan;
mod rest;
mod resume;
mod set;
mod signal;
mod signals;
mod start;

pub(crate) use again::retry;
pub(crate) use decide::resolve;
pub(crate) use plan::load;
pub(crate) use resume::resume;
pub(crate) use signal::signal;
pub(crate) use start::run;
