//! What can be said of plans and callables without running anything.

use lunacore::Plan;
use serde_json::{Value, json};

use crate::run::folder;
use crate::support::*;

fn plan() -> Value {
    json!({
        "name": "nightly",
        "description": "Fetches what is new,\nand tells of it.",
        "inputs": {
            "day": { "type": "string", "description": "the day to fetch" },
            "pages": { "type": "integer", "default": 3 },
        },
        "steps": [
            { "id": "fetch", "uses": "shell", "with": { "script": "echo ${{ inputs.day }}" } },
            { "id": "a <b>", "uses": "noop", "with": "${{ steps.fetch.output.stdout }}" },
            { "id": "noop", "when": "steps[\"a <b>\"].output == steps.fetch.output.stdout" },
        ],
    })
}

#[test]
fn a_good_plan_is_told_with_its_inputs_and_steps() {
    let dir = folder(&[("plan.json", plan())]);
    let expected = "\
nightly
Fetches what is new,
and tells of it.

INPUT  TYPE     DEFAULT     ABOUT
day    string   (required)  the day to fetch
pages  integer  3

STEP   USES   NEEDS         WHEN
fetch  shell  -
a <b>  noop   fetch
noop   noop   a <b>, fetch  steps[\"a <b>\"].output == steps.fetch.output.stdout
";
    assert_eq!(out(dir.path(), &["check", "plan.json"]), expected);
    let told: Value = serde_json::from_str(&out(dir.path(), &["check", "plan.json", "--json"])).unwrap();
    let expected = json!({
        "name": "nightly",
        "description": "Fetches what is new,\nand tells of it.",
        "inputs": [
            { "name": "day", "type": "string", "required": true, "description": "the day to fetch" },
            { "name": "pages", "type": "integer", "required": false, "default": 3 },
        ],
        "steps": [
            { "id": "fetch", "uses": "shell", "needs": [] },
            { "id": "a <b>", "uses": "noop", "needs": ["fetch"] },
            {
                "id": "noop", "uses": "noop", "needs": ["a <b>", "fetch"],
                "when": "steps[\"a <b>\"].output == steps.fetch.output.stdout",
            },
        ],
    });
    assert_eq!(told, expected);
}

#[test]
fn a_plan_can_be_drawn_as_a_flowchart() {
    let dir = folder(&[("plan.json", plan())]);
    let expected = "\
flowchart TD
    s0[\"fetch<br/>shell\"]
    s1[\"a #lt;b#gt;<br/>noop\"]
    s2{{\"noop<br/>when steps[#quot;a #lt;b#gt;#quot;].output == steps.fetch.output.stdout\"}}
    s0 --> s1
    s1 --> s2
    s0 -.-> s1
    s1 -.-> s2
    s0 -.-> s2
";
    assert_eq!(out(dir.path(), &["check", "plan.json", "--mermaid"]), expected);
}

#[test]
fn all_that_is_wrong_with_a_plan_is_told_at_its_place() {
    let text = "name: bad\nsteps:\n  - { id: a, uses: nopo }\n  - { id: a, uses: noop, timeuot: 3s }\n  - { id: c, uses: sheel }\n";
    let dir = folder(&[]);
    std::fs::write(dir.path().join("plan.yaml"), text).unwrap();
    let message = error(dir.path(), 2, &["check", "plan.yaml"]);
    assert!(message.contains("plan.yaml:4:") && message.contains("did you mean \"timeout\"?"), "{message}");
    std::fs::write(
        dir.path().join("plan.yaml"),
        text.replace("timeuot", "timeout").replacen("id: a", "id: b", 1),
    )
    .unwrap();
    let message = error(dir.path(), 2, &["check", "plan.yaml"]);
    for part in ["plan.yaml:3:", "did you mean \"noop\"?", "plan.yaml:5:", "did you mean \"shell\"?"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let wrong = "steps:\n  - { id: a, uses: sleep, with: { fro: 3s } }\n  - { id: b, uses: noop, when: steps.c.output }\n";
    std::fs::write(dir.path().join("input.yaml"), wrong).unwrap();
    assert!(
        error(dir.path(), 2, &["check", "input.yaml"]).contains("input.yaml:3:"),
        "a step that is not there"
    );
    std::fs::write(dir.path().join("input.yaml"), wrong.replace("steps.c.output", "steps.a.output == 1"))
        .unwrap();
    let input = error(dir.path(), 2, &["check", "input.yaml"]);
    assert!(
        input.contains("input.yaml:2:") && input.contains("fro"),
        "an input that its callable does not take: {input}"
    );
    // The same for who runs it, and before anything is made.
    assert_eq!(error(dir.path(), 2, &["run", "plan.yaml"]), message);
}

#[test]
fn the_schema_is_that_of_the_library() {
    let told: Value = serde_json::from_str(&out(std::path::Path::new("."), &["schema"])).unwrap();
    assert_eq!(told, Plan::schema());
}

#[test]
fn callables_are_told_with_their_inputs() {
    let dir = std::path::Path::new(".");
    let told = json_lines(&out(dir, &["callables", "--json"]));
    let names: Vec<&str> = told.iter().map(|about| about["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["fail", "file.read", "file.write", "noop", "shell", "shell.check", "shell.undo", "sleep"]
    );
    assert!(told.iter().all(|about| about["description"].as_str().is_some_and(|text| text.ends_with('.'))));
    assert_eq!(told[1]["input"]["properties"]["path"]["type"], "string");
    let text = out(dir, &["callables"]);
    for line in ["\nfile.read\n", "\n    path (string, required): ", "\nnoop\n  Returns its input.\n"] {
        assert!(text.contains(line), "{line:?}: {text}");
    }
}

#[test]
fn what_a_step_waits_for_stands_where_others_have_their_callable() {
    let plan = json!({ "steps": [
        { "id": "a", "uses": "shell", "with": { "script": "", "undo": "" }, "compensate": "shell.undo" },
        { "id": "b", "sleep": "90s" },
        { "id": "c", "sleep_until": "2026-12-24T18:00:00Z" },
        { "id": "d", "wait_for_signal": "go" },
    ] });
    let dir = folder(&[("plan.json", plan)]);
    let expected = "\
STEP  USES                               NEEDS  WHEN
a     shell                              -
b     sleep: 1m 30s                      -
c     sleep_until: 2026-12-24T18:00:00Z  -
d     wait_for_signal: go                -
";
    assert_eq!(out(dir.path(), &["check", "plan.json"]), expected);
    let told: Value = serde_json::from_str(&out(dir.path(), &["check", "plan.json", "--json"])).unwrap();
    let expected = json!([
        { "id": "a", "uses": "shell", "needs": [], "compensate": "shell.undo" },
        { "id": "b", "sleep": "1m 30s", "needs": [] },
        { "id": "c", "sleep_until": "2026-12-24T18:00:00Z", "needs": [] },
        { "id": "d", "wait_for_signal": "go", "needs": [] },
    ]);
    assert_eq!(told["steps"], expected);
    let drawn = out(dir.path(), &["check", "plan.json", "--mermaid"]);
    assert!(drawn.contains("    s1[\"b<br/>sleep: 1m 30s\"]\n"), "{drawn}");
}
