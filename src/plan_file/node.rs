//! What all three formats are read into: values that know where they stand.

use serde_json::{Map, Number, Value};

/// A value, and the byte of the file's text where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) at: u32,
    pub(super) content: Content,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
    /// Something that the format can say and a plan cannot hold.
    Unfit(Unfit),
}

/// The name of a member, which may stand there twice: whoever reads it says so.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) at: u32,
    pub(super) text: String,
}

/// Values that JSON has no form for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// An infinity, not a number, or a number whose exponent is too large.
    NotFinite,
    /// An integer beyond 64 bits.
    TooLarge,
    /// A date or a time of TOML.
    Date,
    /// A text whose escapes make no text.
    Escape,
    /// Bytes.
    Bytes,
}

/// A step on the way to a value inside of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

impl From<&str> for Segment {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Segment {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl Node {
    /// What a sentence calls it, with a value that is short.
    pub(super) fn kind(&self) -> String {
        match &self.content {
            Content::Null => "nothing".to_owned(),
            Content::Bool(value) => format!("{value}"),
            Content::Number(number) => format!("the number {number}"),
            Content::Text(text) => format!("the text {:?}", crate::id::shorten(text)),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a mapping".to_owned(),
            Content::Unfit(Unfit::Date) => "a date".to_owned(),
            Content::Unfit(Unfit::Bytes) => "bytes".to_owned(),
            Content::Unfit(Unfit::Escape) => "a text that is none".to_owned(),
            Content::Unfit(Unfit::NotFinite | Unfit::TooLarge) => "a number that is too large".to_owned(),
        }
    }

    /// Where the value stands that this way leads to: the last one on it that there is.
    pub(super) fn find(&self, way: &[Segment]) -> u32 {
        let mut here = self;
        for segment in way {
            let next = match (&here.content, segment) {
                (Content::Map(members), Segment::Key(name)) => {
                    members.iter().find(|(key, _)| key.text == *name).map(|(_, value)| value)
                }
                (Content::List(items), Segment::Index(index)) => items.get(*index),
                (Content::Map(members), Segment::Index(index)) => {
                    let name = index.to_string();
                    members.iter().find(|(key, _)| key.text == name).map(|(_, value)| value)
                }
                (Content::List(items), Segment::Key(name)) => {
                    name.parse::<usize>().ok().and_then(|index| items.get(index))
                }
                _ => None,
            };
            match next {
                Some(next) => here = next,
                None => break,
            }
        }
        here.at
    }

    /// A value of a program, which stands nowhere.
    pub(super) fn of(value: &Value) -> Self {
        let content = match value {
            Value::Null => Content::Null,
            Value::Bool(value) => Content::Bool(*value),
            Value::Number(number) => Content::Number(number.clone()),
            Value::String(text) => Content::Text(text.clone()),
            Value::Array(items) => Content::List(items.iter().map(Self::of).collect()),
            Value::Object(members) => Content::Map(Self::members_of(members)),
        };
        Self { at: 0, content }
    }

    fn members_of(members: &Map<String, Value>) -> Vec<(Key, Self)> {
        members.iter().map(|(name, value)| (Key { at: 0, text: name.clone() }, Self::of(value))).collect()
    }
}
