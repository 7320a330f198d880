//! `shell`: a script or a program, in a process group of its own.

mod args;
mod capture;
mod error;
mod lines;
mod pipes;
mod run;

pub(super) use args::Args;
pub(super) use run::shell;
