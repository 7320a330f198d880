//! JSON, with positions.
//!
//! Not by the YAML reader, although JSON is almost YAML: that would take comments, bare words and trailing commas in a
//! `.json` file, and refuse surrogate pairs. serde_json says first whether the text is JSON; what walks over it afterwards
//! only has to find where things are.

use serde::de::IgnoredAny;
use serde_json::Number;

use super::node::{Content, Key, Node, Unfit};
use super::syntax::{Budget, Syntax};

pub(super) fn read(text: &str) -> Result<Node, Syntax> {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        let at = offset(text, error.line(), error.column());
        let message = error.to_string();
        // Where, the problem says itself.
        let message = message.rsplit_once(" at line ").map_or(&*message, |(message, _)| message).to_owned();
        return Err(Syntax { at, message });
    }
    Walk { text, at: 0, budget: Budget::new() }.value(0)
}

/// serde_json counts lines from 1 and bytes within them, of the last byte that it has read.
fn offset(text: &str, line: usize, column: usize) -> u32 {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let mut at = (start + column.saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Walks over a text that is known to be JSON.
struct Walk<'a> {
    text: &'a str,
    at: usize,
    budget: Budget,
}

impl Walk<'_> {
    fn here(&self) -> u32 {
        u32::try_from(self.at).unwrap_or(u32::MAX)
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> u8 {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let white = rest.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
        self.at += white;
        rest.get(white).copied().unwrap_or_default()
    }

    fn value(&mut self, depth: usize) -> Result<Node, Syntax> {
        let first = self.peek();
        let at = self.here();
        self.budget.value(at)?;
        if matches!(first, b'{' | b'[') {
            self.budget.level(at, depth)?;
        }
        let content = match first {
            b'{' => self.map(depth)?,
            b'[' => self.list(depth)?,
            b'"' => self.string().map_or(Content::Unfit(Unfit::Escape), Content::Text),
            _ => self.scalar(),
        };
        Ok(Node { at, content })
    }

    fn list(&mut self, depth: usize) -> Result<Content, Syntax> {
        let mut items = Vec::new();
        self.at += 1;
        while !matches!(self.peek(), b']' | 0) {
            items.push(self.value(depth + 1)?);
            if self.peek() == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
        Ok(Content::List(items))
    }

    fn map(&mut self, depth: usize) -> Result<Content, Syntax> {
        let mut members = Vec::new();
        self.at += 1;
        while !matches!(self.peek(), b'}' | 0) {
            let at = self.here();
            let Some(text) = self.string() else {
                return Err(Syntax { at, message: "the escapes of this name make no text".to_owned() });
            };
            self.peek();
            self.at += 1;
            members.push((Key { at, text }, self.value(depth + 1)?));
            if self.peek() == b',' {
                self.at += 1;
            }
        }
        self.at += 1;
        Ok(Content::Map(members))
    }

    /// `None` for half of a surrogate pair.
    fn string(&mut self) -> Option<String> {
        let start = self.at;
        self.at += 1;
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => self.at += 1,
                _ => {}
            }
        }
        serde_json::from_str(self.text.get(start..self.at)?).ok()
    }

    /// A number, or one of three words.
    fn scalar(&mut self) -> Content {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.find([',', ']', '}', ' ', '\t', '\r', '\n']).unwrap_or(rest.len());
        let word = &rest[..length];
        self.at += length;
        match word {
            "null" => Content::Null,
            "true" => Content::Bool(true),
            "false" => Content::Bool(false),
            number => number_of(number),
        }
    }
}

/// An integer stays one, also where serde_json would take a large one for a float.
fn number_of(text: &str) -> Content {
    let integer = !text.contains(['.', 'e', 'E']);
    match serde_json::from_str::<Number>(text) {
        Ok(number) if integer && number.is_f64() && text != "-0" => Content::Unfit(Unfit::TooLarge),
        Ok(number) => Content::Number(number),
        Err(_) => Content::Unfit(Unfit::NotFinite),
    }
}
