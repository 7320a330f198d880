//! Where expressions stand in a text.

use std::ops::Range;

use serde_json::Value;

use super::error::InvalidExpression;
use super::words::{self, Word};
use crate::limits::{MAX_EXPRESSION_BYTES, MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_WORDS, MAX_JSON_DEPTH};

/// Begins an expression; with another `$` before it, it stands for itself.
const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// Whether any string of a value holds an expression, or what is written like one. What nests too deep is not looked
/// at: it is refused.
pub(crate) fn holds_expression(value: &Value) -> bool {
    holds(value, MAX_JSON_DEPTH)
}

fn holds(value: &Value, levels: usize) -> bool {
    match value {
        Value::String(text) => text.contains(OPEN),
        Value::Array(items) => levels > 0 && items.iter().any(|item| holds(item, levels - 1)),
        Value::Object(members) => levels > 0 && members.values().any(|item| holds(item, levels - 1)),
        _ => false,
    }
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Plain(&'a str),
    Expression(Expression<'a>),
}

/// An expression in a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expression<'a> {
    /// The text that it stands in.
    pub(super) text: &'a str,
    /// Where it does, in bytes, without what it is enclosed by.
    pub(super) range: Range<usize>,
    pub(super) words: Vec<Word>,
}

impl<'a> Expression<'a> {
    fn new(text: &'a str, range: Range<usize>, words: Vec<Word>) -> Result<Self, InvalidExpression> {
        let fault = |problem: String| Err(InvalidExpression::new(text, range.start, problem));
        let bytes = range.len();
        if bytes > MAX_EXPRESSION_BYTES {
            return fault(format!(
                "an expression has {bytes} bytes, more than {MAX_EXPRESSION_BYTES}; compute it in a step"
            ));
        }
        if words.len() > MAX_EXPRESSION_WORDS {
            return fault(format!(
                "an expression has {} words, more than {MAX_EXPRESSION_WORDS}; compute it in a step",
                words.len()
            ));
        }
        if words::depth(&words) > MAX_EXPRESSION_DEPTH {
            return fault(format!("an expression nests brackets deeper than {MAX_EXPRESSION_DEPTH} levels"));
        }
        if words.is_empty() {
            return fault("an expression is empty".to_owned());
        }
        Ok(Self { text, range, words })
    }

    pub(super) fn source(&self) -> &'a str {
        &self.text[self.range.clone()]
    }

    pub(super) fn word(&self, word: &Word) -> &'a str {
        &self.text[word.range.clone()]
    }

    pub(super) fn fault(&self, at: usize, problem: impl Into<String>) -> InvalidExpression {
        InvalidExpression::new(self.text, at, problem)
    }
}

/// The parts of a text.
pub(super) fn parts(text: &str) -> Result<Vec<Part<'_>>, InvalidExpression> {
    let (mut parts, mut plain, mut from) = (Vec::new(), 0, 0);
    while let Some(found) = text[from..].find(OPEN) {
        let open = from + found;
        let start = open + OPEN.len();
        if text[plain..open].ends_with('$') {
            // `$${{`: without its first character it stands for itself.
            parts.push(Part::Plain(&text[plain..open - 1]));
            (plain, from) = (open, start);
            continue;
        }
        if plain < open {
            parts.push(Part::Plain(&text[plain..open]));
        }
        let fault = |fault: words::Fault| InvalidExpression::new(text, fault.at, fault.problem);
        let (words, end) = words::read(text, start, true).map_err(fault)?;
        parts.push(Part::Expression(Expression::new(text, start..end, words)?));
        (plain, from) = (end + CLOSE.len(), end + CLOSE.len());
    }
    if plain < text.len() {
        parts.push(Part::Plain(&text[plain..]));
    }
    Ok(parts)
}

/// The one expression that a condition is, with or without `${{ }}` around it.
pub(super) fn condition(text: &str) -> Result<Expression<'_>, InvalidExpression> {
    let start = text.len() - text.trim_start().len();
    if !text[start..].starts_with(OPEN) {
        let fault = |fault: words::Fault| InvalidExpression::new(text, fault.at, fault.problem);
        let (words, end) = words::read(text, 0, false).map_err(fault)?;
        return Expression::new(text, 0..end, words);
    }
    let mut expression = None;
    for part in parts(text)? {
        match part {
            Part::Plain(plain) if plain.trim().is_empty() => {}
            Part::Expression(found) if expression.is_none() => expression = Some(found),
            _ => expression = None,
        }
        if expression.is_none() && start == 0 {
            break;
        }
    }
    expression.ok_or_else(|| {
        InvalidExpression::new(text, start, "a condition is one expression, with nothing around it")
    })
}
