use std::fmt;

use crate::id::shorten;

/// What is wrong with an expression, before it is evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (at character {at} of {text:?})")]
#[non_exhaustive]
pub struct InvalidExpression {
    /// What is wrong, and what may have been meant.
    pub problem: String,
    /// Where in the text, in characters from 1.
    pub at: usize,
    /// The text that the expression stands in, shortened.
    pub text: String,
}

impl InvalidExpression {
    /// A fault at this byte of a text.
    pub(super) fn new(text: &str, at: usize, problem: impl Into<String>) -> Self {
        let before = text.get(..at).unwrap_or(text);
        Self { problem: problem.into(), at: before.chars().count() + 1, text: shorten(text) }
    }
}

/// Why an expression has no value that could be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: the expression {expression:?} {problem}")]
#[non_exhaustive]
pub struct EvaluationError {
    /// Where it stands: `when`, or a place in the input such as `with.headers[0]`.
    pub place: String,
    /// The expression, shortened.
    pub expression: String,
    /// What is wrong. Of an expression that reads the environment or a secret it tells no values.
    pub problem: String,
}

impl EvaluationError {
    pub(super) fn new(place: impl fmt::Display, expression: &str, problem: impl Into<String>) -> Self {
        Self { place: place.to_string(), expression: shorten(expression.trim()), problem: problem.into() }
    }
}
