//! The callables as a plan uses them: through an engine.

mod basic;
mod crash;
mod files;
mod left;
mod shell;
mod stopping;
mod streaming;
mod support;
