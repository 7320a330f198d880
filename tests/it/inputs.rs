//! The inputs that a plan declares: what they may be, what is refused, and how records tell of them.

use std::collections::BTreeMap;

use lunacore::{
    ExecutePlan, InputType, InvalidPlan, Plan, PlanDifference, PlanError, PlanInput, PlanRecord, RunState,
    Step, StepChange, SubmitPlan, limits,
};
use serde_json::{Map, Value, json};

use crate::support::{assert_untouched, engine, start, watch};

fn report() -> Plan {
    Plan::new([Step::named("report").input(1)])
        .declare("day", PlanInput::string().description("the day to report on"))
        .declare("pages", PlanInput::integer().default(10))
}

fn given(values: Value) -> Map<String, Value> {
    let Value::Object(values) = values else { panic!("not an object: {values}") };
    values
}

fn refusal(plan: Plan, values: Value) -> String {
    PlanRecord::with_inputs(plan, given(values)).unwrap_err().to_string()
}

#[test]
fn a_plan_lists_what_it_declares_in_its_order() {
    let plan = report().declare("all", PlanInput::boolean().default(false));
    let listed: Vec<_> = plan.inputs().map(|(name, input)| (name, input.input_type)).collect();
    assert_eq!(
        listed,
        [("day", InputType::String), ("pages", InputType::Integer), ("all", InputType::Boolean)]
    );
    let again = plan.declare("pages", PlanInput::number());
    let pages = again.inputs().nth(1).unwrap();
    assert_eq!(
        (again.inputs().len(), pages),
        (3, ("pages", &PlanInput::number())),
        "replaced where it stood"
    );
}

#[test]
fn values_and_defaults_are_recorded() {
    let record = PlanRecord::with_inputs(report(), given(json!({ "day": "today" }))).unwrap();
    assert_eq!(Value::Object(record.inputs().clone()), json!({ "day": "today", "pages": 10 }));
    let text = serde_json::to_string(&record).unwrap();
    let read: PlanRecord = serde_json::from_str(&text).unwrap();
    assert_eq!(read, record);
    assert_eq!(read.fingerprint(), record.fingerprint());
}

#[test]
fn values_that_are_not_declared_missing_or_of_another_type_are_refused() {
    let day = json!({ "day": "today" });
    assert!(PlanRecord::with_inputs(report(), given(day.clone())).is_ok());
    assert_eq!(
        refusal(report(), json!({ "day": "x", "page": 3 })),
        r#"the plan declares no input "page"; did you mean "pages"?"#
    );
    // Also where one is missing for it.
    assert_eq!(
        refusal(report(), json!({ "dya": "x" })),
        r#"the plan declares no input "dya"; did you mean "day"?"#
    );
    assert_eq!(refusal(report(), json!({ "day": "x", "color": 3 })), r#"the plan declares no input "color""#);
    assert_eq!(
        refusal(Plan::new([Step::named("a")]), day),
        r#"the plan declares no input "day"; it declares none, and takes only values that it declares"#
    );
    assert_eq!(
        refusal(report(), json!({})),
        r#"the input "day" was not given, and has no default; it is of type string"#
    );
    assert_eq!(
        refusal(report(), json!({ "day": 23 })),
        r#"the input "day" is of type integer, but string was declared"#
    );
    assert_eq!(
        refusal(report(), json!({ "day": "x", "pages": 1.0 })),
        r#"the input "pages" is of type number, but integer was declared"#
    );
    assert_eq!(
        refusal(report(), json!({ "day": null })),
        r#"the input "day" is of type null, but string was declared"#
    );
}

#[test]
fn each_type_admits_its_own_values_only() {
    let values =
        [json!("x"), json!(1), json!(u64::MAX), json!(1.5), json!(true), json!([1]), json!({}), json!(null)];
    let admitted = |input: fn() -> PlanInput| -> Vec<usize> {
        let fits = |value: &Value| {
            let plan = Plan::new([Step::named("a")]).declare("x", input());
            PlanRecord::with_inputs(plan, given(json!({ "x": value }))).is_ok()
        };
        (0..values.len()).filter(|place| fits(&values[*place])).collect()
    };
    assert_eq!(admitted(PlanInput::string), [0]);
    assert_eq!(admitted(PlanInput::integer), [1, 2]);
    assert_eq!(admitted(PlanInput::number), [1, 2, 3]);
    assert_eq!(admitted(PlanInput::boolean), [4]);
    assert_eq!(admitted(PlanInput::array), [5]);
    assert_eq!(admitted(PlanInput::object), [6]);
    assert_eq!(admitted(PlanInput::any), [0, 1, 2, 3, 4, 5, 6, 7]);
    let names = ["string", "integer", "number", "boolean", "array", "object", "any"];
    for name in names {
        let read: InputType = serde_json::from_value(json!(name)).unwrap();
        assert_eq!((read.name(), json!(read)), (name, json!(name)));
    }
}

#[test]
fn what_is_declared_is_checked_with_the_plan() {
    let problems = |plan: Plan| plan.problems().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(problems(report()), [""; 0], "that an input must be given is no problem of the plan");
    let plan =
        report().declare("pages", PlanInput::integer().default("ten")).declare("a\nb", PlanInput::any());
    assert_eq!(
        problems(plan),
        [
            r#"the default of the input "pages" is of type string, but integer was declared"#,
            r#"the name "a\nb" of an input of the plan has the control character '\n' at byte 1"#,
        ]
    );
    let deep = (0..=limits::MAX_JSON_DEPTH).fold(Value::Null, |inner, _| json!([inner]));
    let too_deep = report().declare("x", PlanInput::any().default(deep.clone()));
    assert!(matches!(&too_deep.problems()[..], [InvalidPlan::InputTooDeep { .. }]));
    let any = Plan::new([Step::named("a")]).declare("x", PlanInput::any());
    assert_eq!(refusal(any.clone(), json!({ "x": deep })), r#"the input "x" nests deeper than 100 levels"#);

    let many = |inputs: usize| {
        (0..inputs).fold(Plan::new([]), |plan, n| plan.declare(format!("i{n}"), PlanInput::any()))
    };
    assert_eq!(problems(many(limits::MAX_PLAN_INPUTS)), [""; 0]);
    assert_eq!(
        problems(many(limits::MAX_PLAN_INPUTS + 1)),
        ["the plan declares 1001 inputs, more than 1000; give it an object that holds them"]
    );
    let large = |bytes: usize| PlanRecord::with_inputs(any.clone(), given(json!({ "x": "x".repeat(bytes) })));
    let room = limits::MAX_INPUT_BYTES - r#"{"x":""}"#.len();
    assert!(large(room).is_ok());
    assert!(
        matches!(large(room + 1), Err(InvalidPlan::InputsTooLarge { bytes }) if bytes == limits::MAX_INPUT_BYTES + 1)
    );
}

#[test]
fn all_problems_are_listed_up_to_the_limit() {
    let steps = (0..limits::MAX_PROBLEMS + 5).map(|_| Step::named("same").agent(""));
    let problems = Plan::new(steps).problems();
    assert_eq!(problems.len(), limits::MAX_PROBLEMS);
    // The first of them is what an orchestrator says.
    let plan = Plan::new([Step::named("a"), Step::named(""), Step::named("a")]);
    assert_eq!(PlanRecord::of(plan.clone()).unwrap_err(), plan.problems()[0]);
    assert_eq!(plan.problems().len(), 2);
    let long = Plan::new((0..=limits::MAX_STEPS).map(|_| Step::named("")));
    assert!(matches!(&long.problems()[..], [InvalidPlan::TooManySteps { .. }]));
}

#[actix::test]
async fn a_plan_that_lacks_an_input_leaves_no_trace() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let refused = actors.orchestrator.send(ExecutePlan::new(report())).await.unwrap().unwrap_err();
    assert!(matches!(refused, PlanError::Invalid(InvalidPlan::MissingInput { .. })));
    assert_untouched(&actors, &mut events).await;
}

#[actix::test]
async fn another_value_is_another_plan() {
    let engine = engine();
    let plan = Plan::new([Step::new("a", || 1)]).declare("day", PlanInput::string());
    let run = |day: &str| {
        let values = BTreeMap::from([("day".to_owned(), json!(day))]);
        SubmitPlan(ExecutePlan::new(plan.clone()).inputs(values).run_id("r"))
    };
    let first = engine.orchestrator().send(run("monday")).await.unwrap().unwrap();
    assert_eq!(first.await.unwrap(), [1]);
    assert!(engine.orchestrator().send(run("monday")).await.unwrap().is_ok());
    let other = engine.orchestrator().send(run("tuesday")).await.unwrap().unwrap_err();
    assert_eq!(
        other.to_string(),
        r#"run r was accepted with another plan: the input "day" was "monday", now "tuesday""#
    );
    let state = engine.status(&"r".parse().unwrap()).await.unwrap().state;
    assert_eq!(state, RunState::Completed);
}

#[test]
fn inputs_templates_and_conditions_count_in_the_fingerprint_where_there_are_any() {
    let of = |plan: Plan, values: Value| PlanRecord::with_inputs(plan, given(values)).unwrap();
    let plain = of(Plan::new([Step::named("a").input("x")]), json!({}));
    // As before there were any.
    assert_eq!(of(Plan::new([Step::named("a").with("x")]), json!({})).fingerprint(), plain.fingerprint());
    let text = "${{ run.id }}";
    let data = of(Plan::new([Step::named("a").input(text)]), json!({}));
    let template = of(Plan::new([Step::named("a").with(text)]), json!({}));
    let some = of(Plan::new([Step::named("a").input("x").when("true")]), json!({}));
    let other = of(Plan::new([Step::named("a").input("x").when("false")]), json!({}));
    let input = |name: &str, value: Value| {
        of(Plan::new([Step::named("a").input("x")]).declare(name, PlanInput::any()), json!({ name: value }))
    };
    let (one, two, renamed) = (input("n", json!(1)), input("n", json!(2)), input("m", json!(1)));
    let all = [&plain, &data, &template, &some, &other, &one, &two, &renamed];
    let mut prints: Vec<String> = all.iter().map(|record| record.fingerprint()).collect();
    prints.sort();
    prints.dedup();
    assert_eq!(prints.len(), all.len());
    for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
        assert_eq!(a.differences(b).is_empty(), a.fingerprint() == b.fingerprint());
    }
    let differences =
        |a: &PlanRecord, b: &PlanRecord| a.differences(b).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(differences(&plain, &one), [r#"the input "n" was no value, now 1"#]);
    assert_eq!(
        differences(&one, &renamed),
        [r#"the input "m" was no value, now 1"#, r#"the input "n" was 1, now no value"#]
    );
    assert_eq!(differences(&data, &template), [r#"the input of step 0 ("a") was data, now a template"#]);
    assert_eq!(differences(&template, &data), [r#"the input of step 0 ("a") was a template, now data"#]);
    assert_eq!(differences(&plain, &some), [r#"step 0 ("a") ran always, now on the condition "true""#]);
    assert!(matches!(
        &some.differences(&other)[..],
        [PlanDifference::Step { index: 0, change: StepChange::Condition { was: Some(was), now: Some(now), .. } }]
            if was == "true" && now == "false"
    ));
}

#[test]
fn what_a_step_and_a_plan_say_of_it() {
    let step = Step::named("a").with(json!({ "x": ["${{ run.id }}"] })).when("${{ true }}");
    assert!(step.has_template());
    assert_eq!(
        (step.get_input(), step.condition()),
        (&json!({ "x": ["${{ run.id }}"] }), Some("${{ true }}"))
    );
    // Literal data is never looked into, also when it comes later; and what holds no expression is data.
    assert!(!step.clone().input("${{ run.id }}").has_template());
    assert!(!Step::named("a").with(json!(["x", { "${{ run.id }}": "{{ run.id }}" }])).has_template());
    assert!(Step::named("a").with("$${{ run.id }}").has_template());
    let plan = Plan::new([step]).name("n").description("what it is for");
    assert_eq!(plan.get_description(), Some("what it is for"));
    let record = PlanRecord::of(plan).unwrap();
    assert_eq!(record.description(), Some("what it is for"));
    let json = serde_json::to_value(&record).unwrap();
    assert_eq!(json["description"], "what it is for");
    assert_eq!(
        (&json["steps"][0]["template"], &json["steps"][0]["when"]),
        (&json!(true), &json!("${{ true }}"))
    );
    assert_eq!(serde_json::from_value::<PlanRecord>(json).unwrap(), record);
    // Nothing of it is there where there is nothing.
    let plain = serde_json::to_value(PlanRecord::of([Step::named("a")]).unwrap()).unwrap();
    assert_eq!(plain, json!({ "format": 1, "steps": [{ "id": "a" }] }));
}
