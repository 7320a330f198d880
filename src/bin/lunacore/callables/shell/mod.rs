//! `shell`: a script or a program, in a process group of its own.

mod args;
mod capture;
mod error;
mod lines;
mod other;
mod pipes;
mod run;

pub(super) use args::{Args, CheckArgs, UndoArgs};
pub(super) use other::{check, undo};
pub(super) use run::shell;
