//! YAML, with positions.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{DuplicateKeyPolicy, Error, MergeKeyPolicy, NonFiniteFloatPolicy, Options, Spanned};

use super::node::{Content, Key, Node, Unfit};
use super::syntax::{Syntax, too_deep, too_many};
use crate::limits::{MAX_PLAN_FILE_ALIASED, MAX_PLAN_FILE_BYTES, MAX_PLAN_FILE_DEPTH, MAX_PLAN_FILE_VALUES};

/// The stack that the reader is given. It calls itself for each level of nesting, some twenty times and through large frames:
/// on the two MiB that threads mostly have, the deepest file that is allowed would end the process.
const STACK: usize = 64 * 1024 * 1024;

pub(super) fn read(text: &str) -> Result<Node, Syntax> {
    let gone = |message: &str| Syntax { at: 0, message: message.to_owned() };
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name("lunacore-yaml".to_owned()).stack_size(STACK);
        let reader = reader.spawn_scoped(scope, || {
            let mut root: Node =
                serde_saphyr::from_str_with_options(text, options()).map_err(|error| syntax(text, &error))?;
            restore_integers(&mut root, text);
            Ok(root)
        });
        let reader = reader.map_err(|error| gone(&format!("there is no thread to read it with: {error}")))?;
        reader.join().unwrap_or_else(|_| Err(gone("the YAML reader has a bug, and gave up")))
    })
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            // Names are nodes too, and each node is at most two events.
            max_nodes: 2 * MAX_PLAN_FILE_VALUES,
            max_events: 4 * MAX_PLAN_FILE_VALUES,
            max_depth: MAX_PLAN_FILE_DEPTH,
            max_total_scalar_bytes: MAX_PLAN_FILE_BYTES,
            max_documents: 1,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_PLAN_FILE_ALIASED,
        },
        // Whoever reads the values sees all that stand there twice, and not only the first.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        // Which of two values wins would be a rule to know; an alias alone says the same.
        merge_keys: MergeKeyPolicy::Error,
        // Likewise: they come as what they are, to be told of with everything else.
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        // As YAML 1.2 has it.
        underscored_numbers_as_strings: true,
        // `yes`, `no`, `on` and `off` are texts.
        strict_booleans: true,
        reject_unsupported_tags: true,
        // The place of an error is shown as for the other formats.
        with_snippet: false,
    }
}

fn syntax(text: &str, error: &Error) -> Syntax {
    let at = error.location().map_or(0, |location| offset(text, location));
    let because = |message: &str| Syntax { at, message: message.to_owned() };
    match innermost(error) {
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => too_deep(at),
        Error::Budget { breach: BudgetBreach::Nodes { .. } | BudgetBreach::Events { .. }, .. } => {
            too_many(at)
        }
        Error::Budget { breach: BudgetBreach::Documents { .. }, .. } | Error::MultipleDocuments { .. } => {
            because("another document begins here; a plan file holds one plan")
        }
        Error::AliasReplayLimitExceeded { .. } => because(&format!(
            "aliases repeat more than {MAX_PLAN_FILE_ALIASED} values and names in this file; write them out"
        )),
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            because("this alias stands inside of what it repeats")
        }
        Error::MergeKeyNotAllowed { .. } => {
            because("merge keys (`<<`) are not read; give the whole mapping an anchor, or write it out")
        }
        Error::NullIntoString { .. } => because("a key is null here; put it in quotes"),
        Error::Unexpected { expected: "string scalar", .. } => {
            because("a key is a list or a mapping here; keys are text")
        }
        other => foreign(text, at, &other.to_string()),
    }
}

/// What the parser says itself.
fn foreign(text: &str, at: u32, message: &str) -> Syntax {
    // Where, the problem says itself.
    let cut = message.find(" at line ").or_else(|| message.find('\n')).unwrap_or(message.len());
    let message = message.get(..cut).unwrap_or(message);
    if message.contains("recursion limit") {
        return too_deep(first_too_deep(text).unwrap_or(at));
    }
    let mut message = message.to_owned();
    let line = text.get(at as usize..).unwrap_or_default().lines().next().unwrap_or_default();
    let start = text.get(..at as usize).unwrap_or_default().rsplit('\n').next().unwrap_or_default();
    if message.contains("flow") && (line.contains("{{") || start.contains("{{")) {
        message.push_str("; inside of { } and [ ], an expression stands in quotes");
    }
    Syntax { at, message }
}

/// The parser looks ahead over nested brackets before it tells of any of them.
fn first_too_deep(text: &str) -> Option<u32> {
    let mut depth = 0_usize;
    let place = text.bytes().position(|byte| {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > MAX_PLAN_FILE_DEPTH
    });
    place.and_then(|at| u32::try_from(at).ok())
}

/// Some places come without their byte.
fn offset(text: &str, location: serde_saphyr::Location) -> u32 {
    let at = location.span().byte_offset().and_then(|at| usize::try_from(at).ok()).unwrap_or_else(|| {
        let skipped = usize::try_from(location.line()).unwrap_or_default().saturating_sub(1);
        let start: usize = text.split_inclusive('\n').take(skipped).map(str::len).sum();
        let before = usize::try_from(location.column()).unwrap_or_default().saturating_sub(1);
        let rest = text.get(start..).unwrap_or_default();
        start + rest.chars().take(before).map(char::len_utf8).sum::<usize>()
    });
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// The reader makes floats of integers that begin with a zero, or that do not fit 64 bits; the text tells.
fn restore_integers(node: &mut Node, text: &str) {
    let rest = text.get(node.at as usize..).unwrap_or_default();
    match &mut node.content {
        Content::List(items) => items.iter_mut().for_each(|item| restore_integers(item, text)),
        Content::Map(members) => members.iter_mut().for_each(|(_, value)| restore_integers(value, text)),
        Content::Number(number) if number.is_f64() => {
            let unsigned = rest.trim_start_matches(['-', '+']);
            let digits = unsigned.len() - unsigned.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let ended = !unsigned[digits..].starts_with(['.', 'e', 'E', '_']);
            if digits > 0 && ended {
                let written = &rest[..rest.len() - unsigned.len() + digits];
                let whole = written.parse::<i64>().map(Number::from);
                let whole = whole.or_else(|_| written.parse::<u64>().map(Number::from));
                node.content = whole.map_or(Content::Unfit(Unfit::TooLarge), Content::Number);
            }
        }
        _ => {}
    }
}

/// The error itself, where it came out of an alias.
fn innermost(error: &Error) -> &Error {
    match error {
        Error::AliasError { error, .. } => innermost(error),
        other => other.without_snippet(),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { value, defined, .. } = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self { at: place(defined), content: value })
    }
}

fn place(location: serde_saphyr::Location) -> u32 {
    location.span().byte_offset().and_then(|at| u32::try_from(at).ok()).unwrap_or_default()
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyContent)
    }
}

struct AnyContent;

impl<'de> Visitor<'de> for AnyContent {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Number(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Content, E> {
        let small =
            i64::try_from(value).map(Number::from).or_else(|_| u64::try_from(value).map(Number::from));
        Ok(small.map_or(Content::Unfit(Unfit::TooLarge), Content::Number))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Content, E> {
        Ok(u64::try_from(value)
            .map_or(Content::Unfit(Unfit::TooLarge), |value| Content::Number(value.into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content, E> {
        Ok(Number::from_f64(value).map_or(Content::Unfit(Unfit::NotFinite), Content::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Content, E> {
        Ok(Content::Text(value))
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Content, E> {
        Ok(Content::Unfit(Unfit::Bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut read = Vec::new();
        while let Some(item) = items.next_element()? {
            read.push(item);
        }
        Ok(Content::List(read))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Content, A::Error> {
        let mut read = Vec::new();
        while let Some(name) = members.next_key::<Spanned<String>>()? {
            if u32::try_from(read.len()).is_err() {
                return Err(A::Error::custom("too many members"));
            }
            let key = Key { at: place(name.defined), text: name.value };
            read.push((key, members.next_value()?));
        }
        Ok(Content::Map(read))
    }
}
