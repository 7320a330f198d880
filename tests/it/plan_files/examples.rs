//! The plans in `examples/plans` are plans, and the data beside them is what they say.

use std::path::{Path, PathBuf};

use lunacore::PlanFile;

const CALLABLES: [&str; 8] =
    ["shell", "shell.check", "shell.undo", "file.read", "file.write", "sleep", "noop", "fail"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/plans")
}

#[test]
fn every_example_is_a_plan_of_what_the_command_can_call() {
    let schema = jsonschema::validator_for(&lunacore::Plan::schema()).unwrap();
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let file = PlanFile::from_path(&path).unwrap_or_else(|error| panic!("{error}"));
        file.check_callables(CALLABLES).unwrap_or_else(|error| panic!("{error}"));
        let plan = file.plan();
        assert!(
            plan.get_name().is_some() && plan.get_description().is_some(),
            "{path:?} says what it is for"
        );
        assert!(plan.inputs().all(|(_, input)| !input.is_required()), "{path:?} runs as it is");
        assert!(schema.is_valid(&serde_json::json!(plan)), "{path:?}");
        seen.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["approval.yaml", "etl.toml", "release_checklist.yaml", "retry_and_fallback.json"]);
}

#[test]
fn the_elements_are_all_there() {
    let text = std::fs::read_to_string(folder().join("data/elements.csv")).unwrap();
    let rows: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 118);
    let periods = |period: &str| rows.iter().filter(|row| row[3] == period).count();
    assert_eq!(["1", "2", "3", "4", "5", "6", "7"].map(periods), [2, 8, 8, 18, 18, 32, 32]);
    for (number, row) in (1..).zip(&rows) {
        assert_eq!(row[0], number.to_string());
    }
    let symbols: std::collections::BTreeSet<&str> = rows.iter().map(|row| row[1]).collect();
    assert_eq!(symbols.len(), 118);
}
