//! What is fuzzed, shared by the fuzz targets and the test that runs their corpus.

use lunacore::{Plan, PlanFormat, PlanInput, Step};

/// Any bytes as a plan file. The first says which format; what is a plan comes back from what is written of it.
pub fn plan_file(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let format = match first {
        b'y' => PlanFormat::Yaml,
        b't' => PlanFormat::Toml,
        _ => PlanFormat::Json,
    };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match Plan::from_text(text, format) {
        Ok(plan) => {
            let written = serde_json::to_string(&plan).expect("a plan of a file can be written");
            let read = Plan::from_text(&written, PlanFormat::Json);
            let read = read.unwrap_or_else(|error| panic!("{written} is not read again: {error}"));
            assert_eq!(serde_json::to_string(&read).expect("and again"), written);
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(!error.to_string().contains("has a bug"), "the YAML reader panicked");
        }
    }
}

/// Any text as an expression, a template and a condition: each is refused or accepted, and neither panics.
pub fn expression(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let steps = [
        Step::named("first"),
        Step::named("a").with(text),
        Step::named("b").with(format!("${{{{ {text} }}}}")),
        Step::named("c").when(text),
    ];
    let plan = Plan::new(steps).declare("x", PlanInput::any());
    for problem in plan.problems() {
        assert!(!problem.to_string().is_empty());
    }
}
