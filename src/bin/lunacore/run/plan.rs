//! Reading a plan file, as far as the command can say whether it is good.

use std::path::Path;

use lunacore::{PlanFile, RegistryAllocator};

use crate::callables::{Ledger, register};
use crate::exit::{Exit, Failure};

/// Reads a plan whose callables the command has, with inputs that they take. All that is wrong with it is told at once.
pub(crate) fn load(path: &Path) -> Result<PlanFile, Failure> {
    let invalid = |error| Failure::of(Exit::Invalid, &error);
    let file = PlanFile::from_path(path).map_err(invalid)?;
    // Nothing is called, so there is nothing to keep account of.
    let found = register(RegistryAllocator::new(), &Ledger::in_memory()).check(file.plan());
    if found.is_empty() { Ok(file) } else { Err(invalid(file.locate(found))) }
}
