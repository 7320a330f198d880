//! `--input name=value`.

use lunacore::{InputType, Plan};
use serde_json::{Map, Value};

use crate::exit::Failure;

/// Reads each value by the type that the plan declares for it: a text is taken as it stands, everything else is JSON. What
/// may be anything is JSON if it can be, and a text otherwise. Names are the plan's to check.
pub(crate) fn parse(plan: &Plan, given: &[String]) -> Result<Map<String, Value>, Failure> {
    let mut inputs = Map::new();
    for pair in given {
        let Some((name, text)) = pair.split_once('=') else {
            return Err(Failure::invalid(format!("the input {pair:?} has no value; write name=value")));
        };
        let declared =
            plan.inputs().find(|(declared, _)| *declared == name).map(|(_, input)| input.input_type);
        let value = value(name, text, declared.unwrap_or(InputType::Any))?;
        if inputs.insert(name.to_owned(), value).is_some() {
            return Err(Failure::invalid(format!("the input {name:?} is given twice")));
        }
    }
    Ok(inputs)
}

fn value(name: &str, text: &str, declared: InputType) -> Result<Value, Failure> {
    if declared == InputType::String {
        return Ok(Value::from(text));
    }
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(_) if declared == InputType::Any => Ok(Value::from(text)),
        Err(error) => Err(Failure::invalid(format!(
            "the input {name:?} is of type {declared}, and its value is no JSON: {error}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use lunacore::PlanInput;
    use serde_json::json;

    use super::*;

    fn plan() -> Plan {
        let inputs = [
            ("text", PlanInput::string()),
            ("count", PlanInput::integer()),
            ("list", PlanInput::array()),
            ("any", PlanInput::any()),
        ];
        inputs.into_iter().fold(Plan::default(), |plan, (name, input)| plan.declare(name, input))
    }

    fn told(given: &[&str]) -> Result<Value, String> {
        let given: Vec<String> = given.iter().map(|pair| (*pair).to_owned()).collect();
        match parse(&plan(), &given) {
            Ok(inputs) => Ok(Value::Object(inputs)),
            Err(Failure::Told { message, .. }) => Err(message),
            Err(other) => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn the_declared_type_decides_how_a_value_is_read() {
        let given = ["text=17", "count=17", "list=[1, \"a=b\"]", "any=17", "unknown=x=y"];
        let expected = json!({ "text": "17", "count": 17, "list": [1, "a=b"], "any": 17, "unknown": "x=y" });
        assert_eq!(told(&given).unwrap(), expected);
        assert_eq!(told(&["text=", "any=two words"]).unwrap(), json!({ "text": "", "any": "two words" }));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert_eq!(told(&["text"]).unwrap_err(), "the input \"text\" has no value; write name=value");
        assert_eq!(told(&["any=1", "any=2"]).unwrap_err(), "the input \"any\" is given twice");
        assert!(
            told(&["count=many"]).unwrap_err().starts_with("the input \"count\" is of type integer, and its")
        );
    }
}
