//! `--set path=value`. Pure.

use serde_json::{Map, Value};

use super::decide::value;

/// Sets a member of an input. Objects that are not there yet are made; an item of a list has to be.
pub(super) fn set(input: &mut Value, pair: &str) -> Result<(), String> {
    let Some((path, text)) = pair.split_once('=') else {
        return Err(format!("{pair:?} sets nothing; write path=value"));
    };
    if path.split('.').any(str::is_empty) {
        return Err(format!("{path:?} is no path; write the names of members with a dot between them"));
    }
    let mut here = input;
    let mut way = String::new();
    for name in path.split('.') {
        if here.is_null() {
            *here = Value::Object(Map::new());
        }
        here = match here {
            Value::Object(members) => members.entry(name).or_insert(Value::Null),
            Value::Array(items) => {
                let length = items.len();
                let item = name.parse::<usize>().ok().and_then(|index| items.get_mut(index));
                item.ok_or_else(|| {
                    format!("{path:?} cannot be set: {} is a list of {length}, without {name:?}", told(&way))
                })?
            }
            other => {
                return Err(format!(
                    "{path:?} cannot be set: {} is {other}, which has no members",
                    told(&way)
                ));
            }
        };
        way = if way.is_empty() { name.to_owned() } else { format!("{way}.{name}") };
    }
    *here = value(text);
    Ok(())
}

fn told(way: &str) -> String {
    if way.is_empty() { "the input".to_owned() } else { format!("{way:?}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(mut input: Value, pairs: &[&str]) -> Result<Value, String> {
        pairs.iter().try_for_each(|pair| set(&mut input, pair))?;
        Ok(input)
    }

    #[test]
    fn members_are_set_and_objects_are_made() {
        assert_eq!(with(json!(null), &["a=1"]), Ok(json!({ "a": 1 })));
        assert_eq!(
            with(json!({ "a": { "b": 1 } }), &["a.c=x y", "a.b=null"]),
            Ok(json!({ "a": { "b": null, "c": "x y" } }))
        );
        assert_eq!(with(json!({}), &["a.b.c=[1]", "a.b.c.0=2"]), Ok(json!({ "a": { "b": { "c": [2] } } })));
        assert_eq!(
            with(json!({ "a": null }), &["a.b=\"5\"", "d=x=y", "e="]),
            Ok(json!({ "a": { "b": "5" }, "d": "x=y", "e": "" }))
        );
        assert_eq!(with(json!([{ "x": 1 }, 2]), &["0.x=3"]), Ok(json!([{ "x": 3 }, 2])));
    }

    #[test]
    fn what_cannot_be_set_is_told() {
        let told = |input: Value, pair: &str| with(input, &[pair]).unwrap_err();
        assert_eq!(told(json!({}), "a"), "\"a\" sets nothing; write path=value");
        assert_eq!(
            told(json!({}), "=1"),
            "\"\" is no path; write the names of members with a dot between them"
        );
        assert_eq!(
            told(json!({}), "a..b=1"),
            "\"a..b\" is no path; write the names of members with a dot between them"
        );
        assert_eq!(
            told(json!("text"), "a=1"),
            "\"a\" cannot be set: the input is \"text\", which has no members"
        );
        assert_eq!(
            told(json!({ "a": { "b": 5 } }), "a.b.c=1"),
            "\"a.b.c\" cannot be set: \"a.b\" is 5, which has no members"
        );
        assert_eq!(
            told(json!({ "a": [7] }), "a.1=1"),
            "\"a.1\" cannot be set: \"a\" is a list of 1, without \"1\""
        );
    }
}
