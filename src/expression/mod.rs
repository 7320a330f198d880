//! Expressions in inputs and conditions.

mod text;

pub(crate) use text::holds_expression;
