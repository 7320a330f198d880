//! Expressions in inputs and conditions: found in a text, checked before a run, evaluated when a step's turn comes.
//!
//! They are evaluated by minijinja. It is kept up; it is small, with no dependency but serde; its expressions have no loops, no
//! files, and reach nothing of the program that is not handed to them; and it counts what an expression does, the bytes that it
//! makes included. Its dynamic values are those of JSON. CEL, the other candidate, comes with the run-time of a parser
//! generator, and its integers are of two types that do not mix, which JSON does not tell apart.
//!
//! What an expression may name is found by reading it word for word here ([`words`]), since the engine tells of names only where
//! they are joined by dots. What it reads is not converted: the engine is handed [nodes](node) that look into the outputs as they
//! are, and a result that is one of these is that part of the output, unchanged.

mod budget;
mod engine;
mod error;
mod names;
mod node;
mod result;
mod roots;
mod template;
mod text;
mod words;

pub use error::{EvaluationError, InvalidExpression};
pub(crate) use names::{Names, StepName};
pub(crate) use roots::{Lookup, Sources};
pub(crate) use template::{Checker, decide, resolve};
pub(crate) use text::holds_expression;
