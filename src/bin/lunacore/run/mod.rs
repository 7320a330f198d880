//! The commands that run plans: `run` and `resume`.

mod drive;
mod inputs;
mod outcome;
mod plan;
mod resume;
mod signals;
mod start;

pub(crate) use plan::load;
pub(crate) use resume::resume;
pub(crate) use start::run;
