//! TOML, with positions.

use serde_json::Number;
use toml::Spanned;
use toml::de::{DeFloat, DeInteger, DeTable, DeValue};

use super::node::{Content, Key, Node, Unfit};
use super::syntax::{Budget, Syntax};

/// Of a text that is no TOML, every error: unlike the other two, the reader goes on after one.
pub(super) fn read(text: &str) -> Result<Node, Vec<Syntax>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let syntax = |error: &toml::de::Error| Syntax {
            at: error.span().map_or(0, |span| offset(span.start)),
            message: match error.message() {
                message if message.contains("recurs") => {
                    "lists and tables nest deeper here than the 80 levels that TOML files may".to_owned()
                }
                message => message.to_owned(),
            },
        };
        return Err(errors.iter().map(syntax).collect());
    }
    let at = 0;
    let content = members(table.into_inner(), 0, &mut Budget::new()).map_err(|error| vec![error])?;
    Ok(Node { at, content })
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn members(table: DeTable<'_>, depth: usize, budget: &mut Budget) -> Result<Content, Syntax> {
    let mut read = Vec::with_capacity(table.len());
    for (name, value) in table {
        let key = Key { at: offset(name.span().start), text: name.into_inner().into_owned() };
        read.push((key, node(value, depth + 1, budget)?));
    }
    // In the order of the file, which the table does not keep.
    read.sort_by_key(|(key, _)| key.at);
    Ok(Content::Map(read))
}

fn node(value: Spanned<DeValue<'_>>, depth: usize, budget: &mut Budget) -> Result<Node, Syntax> {
    let at = offset(value.span().start);
    budget.value(at)?;
    let content = match value.into_inner() {
        DeValue::String(text) => Content::Text(text.into_owned()),
        DeValue::Boolean(value) => Content::Bool(value),
        DeValue::Integer(integer) => integer_of(&integer),
        DeValue::Float(float) => float_of(&float),
        DeValue::Datetime(_) => Content::Unfit(Unfit::Date),
        DeValue::Table(table) => {
            budget.level(at, depth)?;
            members(table, depth, budget)?
        }
        DeValue::Array(items) => {
            budget.level(at, depth)?;
            let items = items.into_iter().map(|item| node(item, depth + 1, budget));
            Content::List(items.collect::<Result<_, _>>()?)
        }
    };
    Ok(Node { at, content })
}

fn integer_of(integer: &DeInteger<'_>) -> Content {
    let (digits, radix) = (integer.as_str(), integer.radix());
    let signed = i64::from_str_radix(digits, radix).map(Number::from);
    let number = signed.or_else(|_| u64::from_str_radix(digits, radix).map(Number::from));
    number.map_or(Content::Unfit(Unfit::TooLarge), Content::Number)
}

fn float_of(float: &DeFloat<'_>) -> Content {
    let number = float.as_str().parse().ok().and_then(Number::from_f64);
    number.map_or(Content::Unfit(Unfit::NotFinite), Content::Number)
}
