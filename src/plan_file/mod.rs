//! Plans as files in YAML, TOML and JSON.
//!
//! Each format is read into the same values, which know where they stand (`node`); one reader makes a plan of them and
//! tells all that is wrong on the way (`read`). What the plan's own checks find is brought back to its place (`locate`).

mod error;
mod escape;
mod fault;
mod fields;
mod file;
mod format;
mod load;
mod locate;
mod node;
mod read;
mod read_json;
mod read_step;
mod read_toml;
mod read_yaml;
mod schema;
mod source;
mod syntax;
mod write;
mod write_retry;
mod write_step;

pub use error::{PlanFileError, PlanFileProblem};
pub use fault::PlanFileFault;
pub use file::PlanFile;
pub use format::PlanFormat;
