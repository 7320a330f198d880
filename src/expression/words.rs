//! The words of an expression: enough of its grammar to find its end, and the names in it.

use std::ops::Range;

/// A fault at a byte of the text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) problem: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    /// With its quotes.
    Text,
    Number,
    /// One character of an operator or bracket, or two equal signs.
    Sign(char),
    Equal,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) kind: Kind,
    /// Where it stands, in bytes.
    pub(super) range: Range<usize>,
}

/// Reads words from `start` on: to the end of the text, or to the `}}` that closes the expression. Answers them, and where the
/// expression ends.
pub(super) fn read(text: &str, start: usize, closed: bool) -> Result<(Vec<Word>, usize), Fault> {
    let (mut words, mut at, mut open) = (Vec::new(), start, 0_usize);
    while let Some(first) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = &text[at..];
        if closed && open == 0 && rest.starts_with("}}") {
            return Ok((words, at));
        }
        let (kind, length) = match first {
            _ if first.is_whitespace() => {
                at += first.len_utf8();
                continue;
            }
            '\'' | '"' => {
                let problem = || Fault { at, problem: "a text has no closing quote".to_owned() };
                (Kind::Text, quoted(rest).ok_or_else(problem)?)
            }
            _ if is_name(first) && !first.is_ascii_digit() => (Kind::Name, span(rest, is_name)),
            _ if first.is_ascii_digit() => (Kind::Number, number(rest)),
            '=' if rest.starts_with("==") => (Kind::Equal, 2),
            _ => {
                match first {
                    '{' => open += 1,
                    '}' => open = open.saturating_sub(1),
                    _ => {}
                }
                (Kind::Sign(first), first.len_utf8())
            }
        };
        words.push(Word { kind, range: at..at + length });
        at += length;
    }
    if closed {
        let at = start.saturating_sub("${{".len());
        return Err(Fault { at, problem: "an expression has no closing `}}`".to_owned() });
    }
    Ok((words, at))
}

/// How deep brackets nest.
pub(super) fn depth(words: &[Word]) -> usize {
    let (mut open, mut deepest) = (0_usize, 0);
    for word in words {
        match word.kind {
            Kind::Sign('(' | '[' | '{') => open += 1,
            Kind::Sign(')' | ']' | '}') => open = open.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(open);
    }
    deepest
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn span(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// A point belongs to a number only before another digit.
fn number(text: &str) -> usize {
    let whole = span(text, is_name);
    match text[whole..].strip_prefix('.') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => whole + 1 + span(rest, is_name),
        _ => whole,
    }
}

/// How long a text is with its quotes.
fn quoted(text: &str) -> Option<usize> {
    let quote = text.chars().next()?;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return Some(at + c.len_utf8()),
            _ => {}
        }
    }
    None
}
