use std::fmt;
use std::str::FromStr;

use crate::limits::MAX_PATTERN_BYTES;

/// A glob over event types, as in the original (Python's `fnmatch`, case-sensitive).
///
/// | part | matches |
/// |---|---|
/// | `*` | any run of characters, dots too |
/// | `?` | one character |
/// | `[ab]`, `[a-f]` | one of these characters |
/// | `[!ab]` | one character that is none of these |
/// | anything else | itself; `[*]`, `[?]` and `[[]` stand for the special ones |
///
/// One difference: an unclosed `[` and a range that runs backwards are errors here, not literals.
///
/// Matching takes at most length of pattern × length of text steps, never more, and allocates nothing. The matcher
/// is ours because the kept ones treat `/` or `{}` specially or do not know `[!a]`; it is held against a reference
/// in a property test.
///
/// ```
/// use lunacore::Pattern;
///
/// let pattern: Pattern = "task.*".parse()?;
/// assert!(pattern.matches("task.started") && !pattern.matches("plan.started"));
/// assert!("task.[".parse::<Pattern>().is_err());
/// # Ok::<(), lunacore::InvalidPattern>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    shape: Shape,
}

/// The common patterns need no general matcher.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Any,
    Exact(String),
    Prefix(String),
    Glob(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    One,
    Run,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Token {
    fn matches(&self, c: char) -> bool {
        match self {
            Self::Literal(literal) => *literal == c,
            Self::One => true,
            Self::Run => false,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated
            }
        }
    }
}

/// A pattern that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPattern {
    /// It has no characters.
    #[error("the pattern is empty; use \"*\" for every event")]
    Empty,
    /// It is longer than [`MAX_PATTERN_BYTES`].
    #[error("the pattern has {bytes} bytes, more than {MAX_PATTERN_BYTES}")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// A `[` has no `]`.
    #[error(
        "the pattern {pattern:?} has a \"[\" at byte {at} that no \"]\" closes; write \"[[]\" for the character"
    )]
    UnclosedClass {
        /// The pattern.
        pattern: String,
        /// Where the bracket stands, in bytes.
        at: usize,
    },
    /// A range such as `[z-a]` runs backwards.
    #[error("the pattern {pattern:?} has the range {low:?} to {high:?}, which runs backwards")]
    BackwardRange {
        /// The pattern.
        pattern: String,
        /// The first end.
        low: char,
        /// The second end.
        high: char,
    },
}

impl Pattern {
    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `text` matches as a whole.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match &self.shape {
            Shape::Any => true,
            Shape::Exact(exact) => exact == text,
            Shape::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Shape::Glob(tokens) => matches_glob(tokens, text),
        }
    }
}

/// Greedy with one point of return: only the last `*` can need to take more, since an earlier one that took more would
/// leave less for the tokens between the two.
fn matches_glob(tokens: &[Token], text: &str) -> bool {
    let (mut token, mut rest) = (0, text);
    let mut last_run: Option<(usize, &str)> = None;
    loop {
        let mut chars = rest.chars();
        match (tokens.get(token), chars.next()) {
            (Some(Token::Run), _) => {
                token += 1;
                last_run = Some((token, rest));
            }
            (None, None) => return true,
            (Some(one), Some(c)) if one.matches(c) => {
                token += 1;
                rest = chars.as_str();
            }
            _ => {
                let Some((after, taken_to)) = last_run else { return false };
                let mut chars = taken_to.chars();
                if chars.next().is_none() {
                    return false;
                }
                (token, rest) = (after, chars.as_str());
                last_run = Some((after, rest));
            }
        }
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(InvalidPattern::Empty);
        }
        if text.len() > MAX_PATTERN_BYTES {
            return Err(InvalidPattern::TooLong { bytes: text.len() });
        }
        Ok(Self { text: text.to_owned(), shape: shape_of(parse(text)?) })
    }
}

fn shape_of(tokens: Vec<Token>) -> Shape {
    let literal = |tokens: &[Token]| -> Option<String> {
        tokens.iter().map(|token| if let Token::Literal(c) = token { Some(*c) } else { None }).collect()
    };
    match tokens.split_last() {
        Some((Token::Run, [])) => Shape::Any,
        Some((Token::Run, before)) => {
            literal(before).map_or_else(|| Shape::Glob(tokens.clone()), Shape::Prefix)
        }
        _ => literal(&tokens).map_or_else(|| Shape::Glob(tokens.clone()), Shape::Exact),
    }
}

fn parse(text: &str) -> Result<Vec<Token>, InvalidPattern> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let at = text.len() - rest.len();
        rest = &rest[c.len_utf8()..];
        tokens.push(match c {
            '*' if tokens.last() == Some(&Token::Run) => continue,
            '*' => Token::Run,
            '?' => Token::One,
            '[' => {
                let (class, after) = parse_class(text, at, rest)?;
                rest = after;
                class
            }
            literal => Token::Literal(literal),
        });
    }
    Ok(tokens)
}

/// Parses what follows a `[`; a `]` that comes first is a member.
fn parse_class<'a>(text: &str, at: usize, rest: &'a str) -> Result<(Token, &'a str), InvalidPattern> {
    let (negated, body) = rest.strip_prefix('!').map_or((false, rest), |body| (true, body));
    let first = usize::from(body.starts_with(']'));
    let close = body[first..].find(']').map(|close| close + first);
    let close = close.ok_or_else(|| InvalidPattern::UnclosedClass { pattern: text.to_owned(), at })?;
    let members: Vec<char> = body[..close].chars().collect();
    let mut ranges = Vec::new();
    let mut index = 0;
    while let Some(&low) = members.get(index) {
        let high = match (members.get(index + 1), members.get(index + 2)) {
            (Some('-'), Some(&high)) => {
                index += 2;
                high
            }
            _ => low,
        };
        if high < low {
            return Err(InvalidPattern::BackwardRange { pattern: text.to_owned(), low, high });
        }
        ranges.push((low, high));
        index += 1;
    }
    Ok((Token::Class { negated, ranges }, &body[close + 1..]))
}

impl TryFrom<&str> for Pattern {
    type Error = InvalidPattern;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The reference: one rule per token, all splits of a `*` tried. Exponential, so for short texts only.
    fn reference(tokens: &[Token], text: &[char]) -> bool {
        match tokens.split_first() {
            None => text.is_empty(),
            Some((Token::Run, rest)) => (0..=text.len()).any(|taken| reference(rest, &text[taken..])),
            Some((token, rest)) => {
                text.split_first().is_some_and(|(c, text)| token.matches(*c) && reference(rest, text))
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_reference(
            pattern in r"([ab.*?]|\[!?[ab.]{1,2}\]|\[a-b\]){1,7}",
            text in "[abc.]{0,9}",
        ) {
            let parsed: Pattern = pattern.parse().unwrap();
            let chars: Vec<char> = text.chars().collect();
            prop_assert_eq!(parsed.matches(&text), reference(&parse(&pattern).unwrap(), &chars));
        }

        #[test]
        fn parsing_never_panics(pattern in r"\PC{0,40}", text in r"\PC{0,20}") {
            if let Ok(parsed) = pattern.parse::<Pattern>() {
                let _ = parsed.matches(&text);
            }
        }
    }

    #[test]
    fn known_answers() {
        for (pattern, text, expected) in [
            ("task.*", "task.started", true),
            ("task.*", "task.", true),
            ("task.*", "task", false),
            ("*", "", true),
            ("*.completed", "plan.completed", true),
            ("*.*.b", "a.c.b", true),
            ("t?sk", "task", true),
            ("[pt]*.started", "plan.started", true),
            ("[!p]*.started", "plan.started", false),
            ("[]]", "]", true),
            ("[!]]", "]", false),
            ("[a-]", "-", true),
            ("[*]", "x", false),
            ("TASK.*", "task.started", false),
            ("Ä?", "Äö", true),
        ] {
            assert_eq!(pattern.parse::<Pattern>().unwrap().matches(text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn malformed_patterns_say_where() {
        let message = |pattern: &str| pattern.parse::<Pattern>().unwrap_err().to_string();
        assert_eq!(
            message("task.[ab"),
            r#"the pattern "task.[ab" has a "[" at byte 5 that no "]" closes; write "[[]" for the character"#
        );
        assert!(message("[z-a]").contains("runs backwards"));
        assert!(message("").contains("is empty"));
        assert!(message(&"a".repeat(300)).contains("300 bytes"));
    }

    #[test]
    fn many_stars_stay_cheap() {
        // Exponential matchers do not come back from this.
        let pattern: Pattern = "*a".repeat(100).parse().unwrap();
        assert!(!pattern.matches(&"a".repeat(99)));
        assert!(pattern.matches(&"a".repeat(5_000)));
        assert!(!pattern.matches(&("a".repeat(5_000) + "b")));
    }
}
