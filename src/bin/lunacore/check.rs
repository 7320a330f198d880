//! `lunacore check`, `schema` and `callables`: what can be said without running anything.

use lunacore::{Plan, Step, Wait};
use serde_json::{Value, json};

use crate::args::Check;
use crate::callables::about;
use crate::exit::{Exit, Failure};
use crate::json::without_nulls;
use crate::run::load;
use crate::screen::{Colour, Screen, clean, fit};
use crate::table::Table;

/// How much of an id, or of a list of them, a row shows.
const SHOWN: usize = 40;

pub(crate) fn check(check: &Check, screen: &mut Screen) -> Result<Exit, Failure> {
    let plan = load(&check.plan)?.into_plan();
    if check.json {
        screen.json(&as_json(&plan))?;
    } else if check.mermaid {
        mermaid(&plan, screen)?;
    } else {
        table(&plan, screen)?;
    }
    Ok(Exit::Done)
}

fn table(plan: &Plan, screen: &mut Screen) -> Result<(), Failure> {
    if let Some(name) = plan.get_name() {
        screen.line(screen.style.paint(Colour::Bold, clean(name)))?;
    }
    if let Some(description) = plan.get_description() {
        for line in description.lines() {
            screen.line(clean(line))?;
        }
    }
    let mut inputs = Table::new(&["INPUT", "TYPE", "DEFAULT", "ABOUT"], screen);
    let mut declared = false;
    for (name, input) in plan.inputs() {
        declared = true;
        inputs.add(vec![
            fit(name, SHOWN, screen.style),
            input.input_type.to_string(),
            input
                .default
                .as_ref()
                .map_or("(required)".to_owned(), |value| fit(&value.to_string(), SHOWN, screen.style)),
            clean(input.description.as_deref().unwrap_or_default()),
        ]);
    }
    if declared {
        screen.line("")?;
        inputs.write(screen)?;
    }
    if declared || plan.get_name().is_some() || plan.get_description().is_some() {
        screen.line("")?;
    }
    let mut steps = Table::new(&["STEP", "USES", "NEEDS", "WHEN"], screen);
    for step in plan.steps() {
        let needs = step.references().join(", ");
        steps.add(vec![
            fit(step.id().unwrap_or_default(), SHOWN, screen.style),
            fit(&does(step), SHOWN, screen.style),
            if needs.is_empty() { "-".to_owned() } else { fit(&needs, SHOWN, screen.style) },
            clean(step.condition().unwrap_or_default()),
        ]);
    }
    steps.write(screen)
}

/// What a step waits for that calls nothing, as a plan file says it.
fn waits(step: &Step) -> Option<(&'static str, String)> {
    match step.wait()? {
        Wait::Sleep(time) => Some(("sleep", humantime::format_duration(*time).to_string())),
        Wait::Until(time) => Some(("sleep_until", humantime::format_rfc3339(*time).to_string())),
        Wait::Signal(name) => Some(("wait_for_signal", name.as_ref().to_owned())),
        _ => None,
    }
}

/// The callable that a step uses, or what it waits for.
fn does(step: &Step) -> String {
    match waits(step) {
        Some((key, value)) => format!("{key}: {value}"),
        None => step.callable_name().unwrap_or_default().to_owned(),
    }
}

fn as_json(plan: &Plan) -> Value {
    let inputs = plan.inputs().map(|(name, input)| {
        without_nulls(json!({
            "name": name,
            "type": input.input_type,
            "required": input.is_required(),
            "default": input.default,
            "description": input.description,
        }))
    });
    let step = |step: &Step| {
        let mut told = json!({
            "id": step.id(),
            "when": step.condition(),
            "needs": step.references(),
            "compensate": step.compensation_name(),
        });
        match waits(step) {
            Some((key, value)) => told[key] = value.into(),
            None => told["uses"] = step.callable_name().into(),
        }
        without_nulls(told)
    };
    without_nulls(json!({
        "name": plan.get_name(),
        "description": plan.get_description(),
        "inputs": inputs.collect::<Vec<_>>(),
        "steps": plan.steps().iter().map(step).collect::<Vec<_>>(),
    }))
}

/// The order as arrows, and what is read of earlier steps as dotted ones.
fn mermaid(plan: &Plan, screen: &mut Screen) -> Result<(), Failure> {
    screen.line("flowchart TD")?;
    let place = |id: &str| plan.steps().iter().position(|step| step.id() == Some(id));
    for (index, step) in plan.steps().iter().enumerate() {
        let id = label(step.id().unwrap_or_default());
        let uses = label(&does(step));
        let text = if id == uses { id } else { format!("{id}<br/>{uses}") };
        // A condition makes a step that may be left out.
        let node = match step.condition() {
            Some(condition) => format!("    s{index}{{{{\"{text}<br/>when {}\"}}}}", label(condition)),
            None => format!("    s{index}[\"{text}\"]"),
        };
        screen.line(node)?;
    }
    for index in 1..plan.steps().len() {
        screen.line(format!("    s{} --> s{index}", index - 1))?;
    }
    for (index, step) in plan.steps().iter().enumerate() {
        for needed in step.references().iter().filter_map(|id| place(id)) {
            screen.line(format!("    s{needed} -.-> s{index}"))?;
        }
    }
    Ok(())
}

/// A text that Mermaid takes for nothing else (<https://mermaid.js.org/syntax/flowchart.html>).
fn label(text: &str) -> String {
    let mut label = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '"' => label.push_str("#quot;"),
            '#' => label.push_str("#35;"),
            '<' => label.push_str("#lt;"),
            '>' => label.push_str("#gt;"),
            '&' => label.push_str("#amp;"),
            '`' => label.push_str("#96;"),
            c => label.push(c),
        }
    }
    label
}

pub(crate) fn schema(screen: &mut Screen) -> Result<Exit, Failure> {
    let schema = serde_json::to_string_pretty(&Plan::schema()).map_err(std::io::Error::from)?;
    screen.line(schema)?;
    Ok(Exit::Done)
}

pub(crate) fn callables(as_json: bool, screen: &mut Screen) -> Result<Exit, Failure> {
    for about in about() {
        if as_json {
            screen.json(
                &json!({ "name": about.name, "description": about.description, "input": about.schema }),
            )?;
            continue;
        }
        screen.line(screen.style.paint(Colour::Bold, about.name))?;
        screen.line(format!("  {}", about.description))?;
        for line in fields(&about.schema) {
            screen.line(format!("    {line}"))?;
        }
    }
    Ok(Exit::Done)
}

/// The fields of an input, a line each: `path (string): what it is for`.
fn fields(schema: &Value) -> Vec<String> {
    let mut told = Vec::new();
    let required = |name: &str| {
        schema["required"].as_array().is_some_and(|required| required.iter().any(|other| other == name))
    };
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let kinds = match &field["type"] {
            Value::String(kind) => kind.clone(),
            Value::Array(kinds) => {
                let kinds = kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null");
                kinds.collect::<Vec<_>>().join(" or ")
            }
            _ => String::new(),
        };
        let kind = match (kinds.is_empty(), required(name)) {
            (true, true) => " (required)".to_owned(),
            (true, false) => String::new(),
            (false, true) => format!(" ({kinds}, required)"),
            (false, false) => format!(" ({kinds})"),
        };
        let text = field["description"].as_str().unwrap_or_default();
        let text = text.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        told.push(if text.is_empty() { format!("{name}{kind}") } else { format!("{name}{kind}: {text}") });
    }
    told
}
