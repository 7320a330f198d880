//! Reading a plan file, as far as the command can say whether it is good.

use std::path::Path;

use lunacore::PlanFile;

use crate::callables;
use crate::exit::{Exit, Failure};

/// Reads a plan whose callables the command has. All that is wrong with it is told at once.
pub(crate) fn load(path: &Path) -> Result<PlanFile, Failure> {
    let file = PlanFile::from_path(path).map_err(|error| Failure::of(Exit::Invalid, &error))?;
    let known = callables::about();
    let names = known.iter().map(|about| about.name);
    file.check_callables(names).map_err(|error| Failure::of(Exit::Invalid, &error))?;
    Ok(file)
}
