//! Reading values of one type each, and telling of those that are not.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::fault::PlanFileFault;
use super::node::{Content, Key, Node, Unfit};
use super::source::{Source, is_invisible};
use crate::id::{check_id, nearest, shorten};
use crate::limits::MAX_PLAN_FILE_PROBLEMS;

/// What has been found wrong, each with its place; reading goes on after it.
pub(super) struct Faults<'a> {
    source: &'a Source<'a>,
    found: Vec<(u32, PlanFileFault)>,
    more: usize,
}

impl<'a> Faults<'a> {
    pub(super) fn new(source: &'a Source<'a>) -> Self {
        Self { source, found: Vec::new(), more: 0 }
    }

    pub(super) fn add(&mut self, at: u32, fault: PlanFileFault) {
        // What an alias repeats is wrong once.
        let last = self.found.last().filter(|(before, _)| *before == at);
        if last.is_some_and(|(_, before)| before.to_string() == fault.to_string()) {
            return;
        }
        if self.found.len() < MAX_PLAN_FILE_PROBLEMS {
            self.found.push((at, fault));
        } else {
            self.more += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn into_parts(self) -> (Vec<(u32, PlanFileFault)>, usize) {
        (self.found, self.more)
    }

    fn type_error(&mut self, node: &Node, what: &str, expected: &'static str, hint: &'static str) {
        let fault = match &node.content {
            Content::Unfit(unfit) => PlanFileFault::Unfit { what: unfit_text(*unfit) },
            _ => PlanFileFault::Type { what: what.to_owned(), expected, found: node.kind(), hint },
        };
        self.add(node.at, fault);
    }

    /// The members of a mapping that has these keys and no others, each once; in the order of `known`.
    pub(super) fn members<'n, const N: usize>(
        &mut self,
        node: &'n Node,
        of: &'static str,
        known: &'static [&'static str; N],
    ) -> Option<[Option<&'n Node>; N]> {
        let Content::Map(members) = &node.content else {
            self.type_error(node, of, "a mapping", "");
            return None;
        };
        let mut found = [None; N];
        let mut first = [0; N];
        for (key, value) in members {
            match known.iter().position(|known| *known == key.text) {
                Some(index) if found[index].is_none() => (found[index], first[index]) = (Some(value), key.at),
                Some(index) => self.duplicate(key, first[index]),
                None => {
                    let similar = alike(&key.text, known);
                    let fault = PlanFileFault::UnknownKey { key: shorten(&key.text), of, similar, known };
                    self.add(key.at, fault);
                }
            }
        }
        Some(found)
    }

    fn duplicate(&mut self, key: &Key, first: u32) {
        let first_line = self.source.line_of(first);
        self.add(key.at, PlanFileFault::DuplicateKey { key: shorten(&key.text), first_line });
    }

    /// The members of a mapping that may have any keys, each once, in the order of the file.
    pub(super) fn entries<'n>(&mut self, node: &'n Node, what: &str) -> Vec<(&'n Key, &'n Node)> {
        let Content::Map(members) = &node.content else {
            self.type_error(node, what, "a mapping", "");
            return Vec::new();
        };
        let mut first = HashMap::with_capacity(members.len());
        let mut entries = Vec::with_capacity(members.len());
        for (key, value) in members {
            if let Some(first) = first.insert(&*key.text, key.at) {
                self.duplicate(key, first);
            } else {
                entries.push((key, value));
            }
        }
        entries
    }

    pub(super) fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.content {
            Content::List(items) => items,
            _ => {
                self.type_error(node, what, "a list", "");
                &[]
            }
        }
    }

    pub(super) fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        if let Content::Text(text) = &node.content {
            return Some(text);
        }
        let plain = matches!(node.content, Content::Bool(_) | Content::Number(_));
        self.type_error(node, what, "text", if plain { "; put it in quotes" } else { "" });
        None
    }

    pub(super) fn flag(&mut self, node: &Node, what: &str) -> Option<bool> {
        if let Content::Bool(value) = node.content {
            return Some(value);
        }
        self.type_error(node, what, "true or false", "");
        None
    }

    /// A text that obeys the rule for ids, and that shows all of itself.
    pub(super) fn name<'n>(&mut self, node: &'n Node, what: &'static str) -> Option<&'n str> {
        let name = self.text(node, what)?;
        self.check_name(name, node.at, what).then_some(name)
    }

    pub(super) fn check_name(&mut self, name: &str, at: u32, what: &'static str) -> bool {
        let what = what.trim_matches('`');
        if let Err(fault) = check_id(name) {
            self.add(at, PlanFileFault::Name { what, name: shorten(name), fault });
            return false;
        }
        if let Some(character) = name.chars().find(|c| is_invisible(*c)) {
            self.add(at, PlanFileFault::Invisible { what, name: shorten(name), character });
            return false;
        }
        true
    }

    /// One of a few words.
    pub(super) fn word(
        &mut self,
        node: &Node,
        what: &'static str,
        known: &'static [&'static str],
    ) -> Option<usize> {
        let Content::Text(word) = &node.content else {
            self.type_error(node, what, "a word", "");
            return None;
        };
        let place = known.iter().position(|known| *known == word);
        if place.is_none() {
            let similar = alike(word, known);
            self.add(node.at, PlanFileFault::Word { what, word: shorten(word), similar, known });
        }
        place
    }

    pub(super) fn duration(&mut self, node: &Node, what: &'static str) -> Option<Duration> {
        let hint = match &node.content {
            Content::Text(text) => match humantime::parse_duration(text) {
                Ok(time) => return Some(time),
                Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                    format!("{} what? write {}s", shorten(text), shorten(text))
                }
                Err(_) => "write a duration, such as 30s, 5m or 1h 30m".to_owned(),
            },
            Content::Number(number) if number.is_u64() => format!("{number} what? write {number}s"),
            Content::Number(_) => "write a duration, such as 1s 500ms".to_owned(),
            _ => {
                self.type_error(node, what, "a duration", "; write it as 30s, 5m or 1h 30m");
                return None;
            }
        };
        self.add(node.at, PlanFileFault::Duration { what, found: node.kind(), hint });
        None
    }

    /// A time in UTC.
    pub(super) fn moment(&mut self, node: &Node, what: &'static str) -> Option<SystemTime> {
        let Content::Text(text) = &node.content else {
            self.type_error(node, what, "a time", "; write it as text, such as \"2026-12-24T18:00:00Z\"");
            return None;
        };
        let time = humantime::parse_rfc3339(text).ok();
        if time.is_none() {
            self.add(node.at, PlanFileFault::Moment { what, found: node.kind() });
        }
        time
    }

    pub(super) fn count(&mut self, node: &Node, what: &'static str) -> Option<u32> {
        let expected = "a whole number from 0 to 4294967295";
        match &node.content {
            Content::Number(number) => {
                let count = number.as_u64().and_then(|count| u32::try_from(count).ok());
                if count.is_none() {
                    self.add(node.at, PlanFileFault::Range { what, found: number.to_string(), expected });
                }
                count
            }
            _ => {
                self.type_error(node, what, "a number", "");
                None
            }
        }
    }

    pub(super) fn number(&mut self, node: &Node, what: &'static str) -> Option<f64> {
        if let Content::Number(number) = &node.content {
            return number.as_f64();
        }
        self.type_error(node, what, "a number", "");
        None
    }

    /// Any value, as JSON has it.
    pub(super) fn value(&mut self, node: &Node) -> Value {
        match &node.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number(number) => Value::Number(number.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => Value::Array(items.iter().map(|item| self.value(item)).collect()),
            Content::Map(_) => Value::Object(self.object(node, "the value")),
            Content::Unfit(unfit) => {
                self.add(node.at, PlanFileFault::Unfit { what: unfit_text(*unfit) });
                Value::Null
            }
        }
    }

    pub(super) fn object(&mut self, node: &Node, what: &str) -> Map<String, Value> {
        let entries = self.entries(node, what);
        entries.into_iter().map(|(key, value)| (key.text.clone(), self.value(value))).collect()
    }
}

/// The word that was meant, most likely. Of short words, most are two typing errors from each other.
fn alike(word: &str, known: &[&str]) -> Option<String> {
    let most = (word.chars().count() / 3).max(1);
    let near = known.iter().copied().filter(|known| strsim::damerau_levenshtein(known, word) <= most);
    nearest(word, near).map(str::to_owned)
}

fn unfit_text(unfit: Unfit) -> &'static str {
    match unfit {
        Unfit::NotFinite => "this number is infinite, too large, or none at all; a plan holds finite numbers",
        Unfit::TooLarge => "this integer does not fit 64 bits; put it in quotes, as text",
        Unfit::Date => "a plan holds no dates; put it in quotes, as text",
        Unfit::Escape => "this text has half of a surrogate pair, which is no character",
        Unfit::Bytes => "a plan holds no bytes; write them as text",
    }
}
