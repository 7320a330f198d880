//! The list of the built-in callables.

use lunacore::{RegistryAllocator, StepContext};
use serde_json::Value;

use super::group::Ledger;
use super::{basic, file_read, file_write, shell};

/// What is said of each, in the order of their names.
const ABOUT: [(&str, &str); 8] = [
    ("fail", "Fails with a message; retries are in vain if it is fatal."),
    ("file.read", "Returns the text of a file, which must be UTF-8."),
    ("file.write", "Writes a file, whole or not at all, and returns its path and size in bytes."),
    ("noop", "Returns its input."),
    (
        "shell",
        "Runs a script by `/bin/sh -e -c`, or a program with its arguments, in a process group of its own; returns \
         exit_code, stdout and stderr. Fails if the exit code is not 0.",
    ),
    (
        "shell.check",
        "For `on_interrupted`: runs the script `check` of a step that uses `shell`. The step had its effect if it exits with 0, \
         which makes its output that of the step; it had not if it exits with 1; else that cannot be told.",
    ),
    (
        "shell.undo",
        "For `compensate`: runs the script `undo` of a step that uses `shell`, which reads what the step wrote to stdout.",
    ),
    ("sleep", "Waits."),
];

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
    let [to_run, to_check, to_undo] = [ledger, ledger, ledger].map(Ledger::clone);
    let shell = move |args: shell::Args, ctx: StepContext| shell::shell(&to_run, &args, &ctx);
    let check = move |args: shell::CheckArgs, ctx: StepContext| shell::check(&to_check, args, &ctx);
    let undo = move |args: shell::UndoArgs, ctx: StepContext| shell::undo(&to_undo, args, &ctx);
    let registry = registry
        .register_with_schema("fail", basic::fail)
        .register_with_schema("file.read", file_read::read)
        .register_with_schema("file.write", file_write::write)
        .register_with_schema("noop", basic::noop)
        .register_with_schema("shell", shell)
        .register_with_schema("shell.check", check)
        .register_with_schema("shell.undo", undo)
        .register_with_schema("sleep", basic::sleep);
    ABOUT.iter().fold(registry, |registry, (name, description)| registry.describe(name, *description))
}

/// What is said of each, in the order of their names.
pub(crate) fn about() -> Vec<About> {
    let registry = register(RegistryAllocator::new(), &Ledger::in_memory());
    let schema = |name| registry.schema(name).cloned().unwrap_or_default();
    ABOUT.iter().map(|(name, description)| About { name, description, schema: schema(name) }).collect()
}
