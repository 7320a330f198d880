//! The list of the built-in callables.

use lunacore::{RegistryAllocator, StepContext};
use schemars::{JsonSchema, schema_for};
use serde_json::Value;

use super::group::Ledger;
use super::{basic, file_read, file_write, shell};

/// What is said of a callable.
pub(crate) struct About {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it does, in a sentence or two.
    pub(crate) description: &'static str,
    /// What its input looks like.
    pub(crate) schema: Value,
}

/// Registers all of them. The ledger keeps account of the processes of `shell` steps.
pub(crate) fn register(registry: RegistryAllocator, ledger: &Ledger) -> RegistryAllocator {
    let ledger = ledger.clone();
    registry
        .register("fail", basic::fail)
        .register("file.read", file_read::read)
        .register("file.write", file_write::write)
        .register("noop", basic::noop)
        .register("shell", move |ctx: StepContext| shell::shell(&ledger, &ctx))
        .register("sleep", basic::sleep)
}

/// What is said of each, in the order of their names.
pub(crate) fn about() -> Vec<About> {
    vec![
        entry::<basic::Fail>("fail", "Fails with a message; retries are in vain if it is fatal."),
        entry::<file_read::Args>("file.read", "Returns the text of a file, which must be UTF-8."),
        entry::<file_write::Args>(
            "file.write",
            "Writes a file, whole or not at all, and returns its path and size in bytes.",
        ),
        entry::<Value>("noop", "Returns its input."),
        entry::<shell::Args>(
            "shell",
            "Runs a script by `/bin/sh -e -c`, or a program with its arguments, in a process group of its own; returns \
             exit_code, stdout and stderr. Fails if the exit code is not 0.",
        ),
        entry::<basic::Sleep>("sleep", "Waits."),
    ]
}

fn entry<T: JsonSchema>(name: &'static str, description: &'static str) -> About {
    About { name, description, schema: schema_for!(T).to_value() }
}
