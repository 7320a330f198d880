//! Callables that are registered with a schema of their input.

use std::collections::BTreeMap;

use actix::Actor;
use lunacore::{
    AllocatorError, Engine, ExecutePlan, InputFault, OnFailure, Plan, PlanError, PlanFile, PlanFormat,
    RegistryAllocator, ResolveError, Step, StepContext, StepError,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::{Trace, chain};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ResizeArgs {
    /// How wide.
    width: u32,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    crop: Option<Crop>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Crop {
    left: i64,
}

async fn resize(args: ResizeArgs, _: StepContext) -> String {
    let left = args.crop.map_or(0, |crop| crop.left);
    format!("{} {} {} {left}", args.width, args.tags.len(), args.headers.len())
}

fn registry() -> RegistryAllocator {
    RegistryAllocator::new()
        .register_with_schema("resize", resize)
        .describe("resize", "Makes an image as wide as this.")
        .register_with_schema("sync", |args: (u8, String), _: StepContext| -> Result<u8, StepError> {
            Ok(args.0)
        })
        .register_with_schema("closure", |args: Option<u8>, _: StepContext| async move { args })
        .register("plain", || 1)
}

/// What is wrong with this input of `resize`.
fn faults(step: Step) -> Vec<String> {
    let errors = registry().check(&Plan::new([step.uses("resize")]));
    let Some(ResolveError { source, .. }) = errors.into_iter().next() else { return Vec::new() };
    match source {
        AllocatorError::Input { step_id, name, faults, .. } => {
            assert_eq!((&*step_id, &*name), ("x", "resize"));
            faults.iter().map(ToString::to_string).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn given(input: Value) -> Vec<String> {
    faults(Step::named("x").input(input))
}

fn template(input: Value) -> Vec<String> {
    let step = Step::named("x").with(input);
    assert!(step.has_template());
    faults(step)
}

#[test]
fn an_input_that_fits_is_not_complained_of() {
    assert_eq!(given(json!({ "width": 5 })), [""; 0]);
    assert_eq!(
        given(json!({ "width": 5, "tags": ["a"], "headers": { "b": "c" }, "crop": { "left": -1 } })),
        [""; 0]
    );
    assert_eq!(given(json!({ "width": 5, "crop": null })), [""; 0]);
}

#[test]
fn all_that_does_not_fit_is_told_with_its_path() {
    let told = given(json!({ "width": "wide", "tags": ["a", 5], "headers": { "b/c": 1 }, "depth": 1 }));
    assert_eq!(
        told,
        [
            r#"/headers/b~1c: 1 is not of type "string""#,
            r#"/tags/1: 5 is not of type "string""#,
            r#"/width: "wide" is not of type "integer""#,
            "Additional properties are not allowed ('depth' was unexpected)",
        ]
    );
    assert_eq!(given(json!({})), [r#""width" is a required property"#]);
    assert_eq!(given(Value::Null), [r#"null is not of type "object""#]);
    assert_eq!(given(json!({ "width": -1 })), ["/width: -1 is less than the minimum of 0"]);
}

#[test]
fn a_large_input_is_not_quoted_whole() {
    let told = given(json!({ "width": "w".repeat(100_000), "tags": vec![1; 100] }));
    assert_eq!(told.len(), 20, "only so many are told");
    assert!(told.iter().all(|fault| fault.chars().count() < 320), "{told:?}");
}

#[test]
fn what_an_expression_stands_for_is_not_known() {
    assert_eq!(template(json!({ "width": "${{ inputs.width }}" })), [""; 0]);
    assert_eq!(template(json!("${{ inputs.all }}")), [""; 0]);
    assert_eq!(
        template(json!({ "width": 5, "tags": "${{ inputs.tags }}", "crop": "${{ inputs.crop }}" })),
        [""; 0]
    );
    assert_eq!(template(json!({ "width": 5, "crop": { "left": "${{ inputs.left }}" } })), [""; 0]);
    // What stands beside it is, and so are the names around it.
    assert_eq!(
        template(json!({ "width": "wide", "tags": ["${{ inputs.tag }}", 5] })),
        [r#"/tags/1: 5 is not of type "string""#, r#"/width: "wide" is not of type "integer""#]
    );
    assert_eq!(template(json!({ "tags": ["${{ inputs.tag }}"] })), [r#""width" is a required property"#]);
    let told = template(json!({ "width": 5, "wdith": "${{ inputs.width }}" }));
    assert_eq!(told, ["Additional properties are not allowed ('wdith' was unexpected)"]);
    // Data that looks like one is data.
    assert_eq!(given(json!({ "width": "${{ x }}" })), [r#"/width: "${{ x }}" is not of type "integer""#]);
}

#[actix::test]
async fn a_plan_whose_input_does_not_fit_is_refused_before_any_of_it_runs() {
    let trace = Trace::default();
    let calls = trace.clone();
    let engine = Engine::builder().allocator(registry().register("note", move || calls.note("called")));
    let engine = engine.start().unwrap();
    let bad = Step::named("x").uses("resize").input(json!({ "width": "wide" }));
    let error = engine.execute(ExecutePlan::new([Step::named("note"), bad])).await.unwrap_err();
    assert_eq!(
        chain(&error),
        [
            r#"step 1 ("x") cannot be called"#,
            r#"the input of step "x" does not fit "resize": /width: "wide" is not of type "integer""#
        ]
    );
    let PlanError::Unresolved(ResolveError { source: AllocatorError::Input { faults, .. }, .. }) = error
    else {
        panic!("{error:?}");
    };
    let [InputFault { path, message, .. }] = &faults[..] else { panic!("{faults:?}") };
    assert_eq!((&**path, &**message), ("/width", r#""wide" is not of type "integer""#));
    assert_eq!(trace.all(), [""; 0]);

    let good = Step::named("x").uses("resize").input(json!({ "width": 5, "tags": ["a"] }));
    let sync = Step::named("y").uses("sync").input(json!([7, "b"]));
    assert_eq!(
        engine.execute([good, sync, Step::named("closure")]).await.unwrap(),
        [json!("5 1 0 0"), json!(7), json!(null)]
    );
}

#[actix::test]
async fn the_input_of_a_fallback_is_checked_too() {
    let step = Step::named("x").uses("plain").on_failure(OnFailure::fallback_named("resize"));
    let errors = registry().check(&Plan::new([Step::named("plain"), step.clone()]));
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0].index, &*errors[0].step_id), (1, "x"));
    let engine = Engine::builder().allocator(registry()).start().unwrap();
    let error = engine.execute([step]).await.unwrap_err();
    assert_eq!(
        chain(&error).last().unwrap(),
        r#"the input of step "x" does not fit "resize": null is not of type "object""#
    );
}

#[test]
fn every_step_that_cannot_be_called_is_listed() {
    let fallback = OnFailure::fallback_named("rezise");
    let steps = [
        Step::named("a").uses("resiez"),
        Step::named("plain"),
        Step::named("b").uses("plain").on_failure(fallback),
        Step::new("own", || 1).uses("nowhere"),
        Step::named("c").uses("sync").input(5),
    ];
    let told: Vec<String> = registry()
        .check(&Plan::new(steps))
        .iter()
        .map(|error| format!("{} {}", error.index, error.source))
        .collect();
    assert_eq!(
        told,
        [
            r#"0 step "a" uses "resiez", which is not registered; did you mean "resize"?"#,
            r#"2 step "b" uses "rezise", which is not registered; did you mean "resize"?"#,
            r#"4 the input of step "c" does not fit "sync": 5 is not of type "array""#,
        ]
    );
    let addr_is_made_of_it = |registry: RegistryAllocator| -> bool {
        actix::System::new().block_on(async { registry.start().connected() })
    };
    assert!(addr_is_made_of_it(registry()));
}

#[test]
fn a_registry_tells_what_it_knows_of_its_callables() {
    let registry = registry().describe("nobody", "Is not registered.");
    assert_eq!(registry.names().collect::<Vec<_>>(), ["closure", "plain", "resize", "sync"]);
    assert_eq!(registry.description("resize"), Some("Makes an image as wide as this."));
    assert_eq!((registry.description("plain"), registry.description("nobody")), (None, None));
    let schema = registry.schema("resize").unwrap();
    assert_eq!(schema["properties"]["width"]["description"], "How wide.");
    assert_eq!(registry.schema("plain"), None);
    // One that is registered anew is another.
    let registry = registry.register("resize", || 1);
    assert_eq!((registry.schema("resize"), registry.description("resize")), (None, None));
}

#[test]
fn in_a_file_each_fault_has_its_place() {
    let text = "\
steps:
  - id: x
    uses: resize
    with:
      width: wide
      tags:
        - ${{ run.id }}
        - 5
      headers: { a/b: 1 }
      depth: 3
";
    let file = PlanFile::from_text(text, PlanFormat::Yaml).unwrap();
    let error = file.locate(registry().check(file.plan()));
    let told: Vec<String> = error.problems().iter().map(ToString::to_string).collect();
    let of = |fault: &str| format!("the input of step \"x\" does not fit \"resize\": {fault}");
    assert_eq!(
        told,
        [
            format!("5:7: {}", of("Additional properties are not allowed ('depth' was unexpected)")),
            format!("5:14: {}", of(r#"/width: "wide" is not of type "integer""#)),
            format!("8:11: {}", of(r#"/tags/1: 5 is not of type "string""#)),
            format!("9:23: {}", of(r#"/headers/a~1b: 1 is not of type "string""#)),
        ]
    );
}
