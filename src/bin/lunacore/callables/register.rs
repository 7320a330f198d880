//! The list of the built-in callables.

use lunacore::{RegistryAllocator, StepContext};
use serde_json::Value;

use super::group::Ledger;
use super::{basic, file_read, file_write, shell};

/// What is said of a callable.
pub(crate) struct About {
    /// Its name.
    pub(crate) name: String,
    /// What it does, in a sentence or two.
    pub(crate) description: String,
    /// What its input looks like.
    pub(crate) schema: Value,
}

/// Registers all of them. The ledger keeps account of the processes of `shell` steps.
pub(crate) fn register(registry: RegistryAllocator, ledger: &Ledger) -> RegistryAllocator {
    let ledger = ledger.clone();
    let shell = move |args: shell::Args, ctx: StepContext| shell::shell(&ledger, &args, &ctx);
    registry
        .register_with_schema("fail", basic::fail)
        .describe("fail", "Fails with a message; retries are in vain if it is fatal.")
        .register_with_schema("file.read", file_read::read)
        .describe("file.read", "Returns the text of a file, which must be UTF-8.")
        .register_with_schema("file.write", file_write::write)
        .describe(
            "file.write",
            "Writes a file, whole or not at all, and returns its path and size in bytes.",
        )
        .register_with_schema("noop", basic::noop)
        .describe("noop", "Returns its input.")
        .register_with_schema("shell", shell)
        .describe(
            "shell",
            "Runs a script by `/bin/sh -e -c`, or a program with its arguments, in a process group of its own; returns \
             exit_code, stdout and stderr. Fails if the exit code is not 0.",
        )
        .register_with_schema("sleep", basic::sleep)
        .describe("sleep", "Waits.")
}

/// What is said of each, in the order of their names.
pub(crate) fn about() -> Vec<About> {
    let registry = register(RegistryAllocator::new(), &Ledger::in_memory());
    let about = |name: &str| About {
        name: name.to_owned(),
        description: registry.description(name).unwrap_or_default().to_owned(),
        schema: registry.schema(name).cloned().unwrap_or_default(),
    };
    registry.names().map(about).collect()
}
