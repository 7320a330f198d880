//! The callables that the command brings along, which a plan file names with `uses`.
//!
//! | `uses` | `with` | returns |
//! |---|---|---|
//! | `shell` | `script`, or `argv`; `cwd`, `env`, `stdin`, `undo`, `check` | `{ "exit_code", "stdout", "stderr" }` |
//! | `file.read` | `path`, `max_bytes` | the text of the file |
//! | `file.write` | `path`, `text` | `{ "path", "bytes" }` |
//! | `sleep` | `for`, such as `2s` or `1h 30m` | null |
//! | `noop` | anything | its input |
//! | `fail` | `message`, `fatal` | nothing: it fails |
//!
//! A key that is not known is refused. So is an input that does not fit, for good: no retry would make it fit. Where a text is
//! wanted that is handed on as it is (`argv`, the values of `env`, `stdin`, and `text`), any other value but null
//! may stand and is taken as its JSON text, since an expression keeps the type of its value.
//!
//! # `shell`
//!
//! `script` is run by `/bin/sh -e -c`, so it ends at the first command that fails. `argv` is a program and its arguments, which no
//! shell interprets; the program is looked for in PATH. Exactly one of the two is given.
//!
//! - `cwd`: the folder to run in; that of the command by default.
//! - `env`: variables added to the environment of the command. Besides, there are always `LUNACORE_RUN_ID`,
//!   `LUNACORE_STEP_ID`, `LUNACORE_ATTEMPT`, and `LUNACORE_IDEMPOTENCY_KEY`, which is the same for all attempts; and
//!   `LUNACORE_GROUP`, by which what is left after a crash is recognised.
//! - `stdin`: what can be read from standard input, which is empty by default. There is no terminal.
//!
//! **The output.** Both streams are text (what is not UTF-8 is replaced by U+FFFD). Of each, 1 MiB is kept: half of it from the
//! beginning and half from the end, with `… N bytes left out …` between them, and then the output has `stdout_left_out` or
//! `stderr_left_out`, a number of bytes. Each line is told of as it comes, as an event `task.progress` with
//! `{ "stream": "stdout", "line": "…" }`: but for empty ones, at most 1 KiB of each, and at most 100 in a second; the
//! next one that is told of then has `skipped`, the number of those that were not. The last line always is.
//!
//! **Failures.** An exit code other than 0, or death by a signal, is a failure, whose message has the last 20 lines of stderr, or
//! 2 KiB of them. Whether it is tried again is for the step's `retry` to say. What cannot be run at all (no such program, no
//! such folder) is not tried again.
//!
//! **Its processes** are a group of their own and end as a group: on a timeout, when the run is cancelled, and when the
//! command is interrupted. They are sent SIGTERM, and what lives 1.5 s later is killed. The step is over only when all of
//! them are gone, so the next attempt overlaps with nothing. (A step with a `grace` shorter than that may be given up
//! before; its run fails then, and the group is killed all the same.) What a script leaves running in its group when it
//! has ended by itself has 250 ms to end, and is ended then. When the command was killed (`kill -9`) its groups live on;
//! what a step left is ended before that step runs again. A process that leaves the group, by `setsid` for example, is
//! not waited for, and not ended; one that becomes another user's, by `sudo` for example, cannot be ended. Do not make
//! such a step `inline`: it would hold up everything else for as long as it runs.
//!
//! **Undoing it.** `compensate: shell.undo` runs the script `undo` of the step's input, in the same folder and with the same `env`. It
//! reads from standard input what the step wrote to standard output (or the JSON text of the output that somebody gave the step).
//! `on_interrupted: { verify: shell.check }` runs the script `check`: exit code 0 says that the step had its effect, and what the
//! script wrote is the step's output then; 1 says that it had not; with any other the run is held.
//!
//! Nothing of a step runs before its group is on record, in the folder `NAME-groups` beside the store NAME.
//!
//! # `file.read` and `file.write`
//!
//! Paths are relative to the folder in which the command runs. `file.read` takes regular files of UTF-8 text, of at most
//! `max_bytes` (16 MiB by default, which is also the most). `file.write` writes a file whole or not at all: into a temporary file
//! `.lunacore-….tmp` in the same folder, which is on the disk before it takes the name. A file that is there
//! keeps its permissions (not its owner, if that is another); a link is followed; the folder must be there. If the
//! command is killed meanwhile the temporary file may stay.
//!
//! # `sleep`, `noop` and `fail`
//!
//! A `sleep` that is cut off by a crash begins anew. `fail` is not retried if `fatal` is true; it is false by default.

mod basic;
mod file_read;
mod file_write;
mod group;
mod limits;
mod register;
mod shell;
mod text;

pub(crate) use group::Ledger;
pub(crate) use register::{about, register};

#[cfg(test)]
mod tests;
