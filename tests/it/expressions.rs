//! Inputs that are made of earlier outputs: what expressions see, what they come to, what is refused before the run, and
//! what hostile ones cost.

use std::time::Duration;

use lunacore::{
    Engine, ExecutePlan, FailureKind, InvalidPlan, OnFailure, Plan, PlanError, PlanInput, PlanRecord, Retry,
    Step, StepContext, limits,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{Trace, chain};

/// A step that returns its input.
fn echo(id: &str) -> Step {
    Step::new(id, |ctx: StepContext| ctx.input::<Value>())
}

fn returns(id: &str, output: Value) -> Step {
    Step::new(id, move || output.clone())
}

fn engine() -> Engine {
    let known = |name: &str| match name {
        "REGION" => Some("eu-west".to_owned()),
        "EMPTY" => Some(String::new()),
        "LARGE" => Some("x".repeat(1024 * 1024)),
        _ => None,
    };
    Engine::builder().environment(known).start().unwrap()
}

/// What a template comes to behind a step `a` that returns `output`.
async fn resolved(template: impl Into<Value>, output: Value) -> Result<Value, PlanError> {
    let run = ExecutePlan::new([returns("a", output), echo("b").with(template)]).run_id("the-run");
    engine().execute(run).await.map(|mut results| results.pop().unwrap())
}

async fn value(expression: &str, output: Value) -> Value {
    resolved(format!("${{{{ {expression} }}}}"), output).await.unwrap_or_else(|error| {
        panic!("{expression}: {:?}", chain(&error));
    })
}

/// Why a template has no value: the last message of the chain.
async fn failure(template: impl Into<Value>, output: Value) -> String {
    match resolved(template, output).await {
        Err(PlanError::StepFailed { step_id, kind, attempt, source, .. }) => {
            assert_eq!((&*step_id, kind, attempt), ("b", FailureKind::Error, 1));
            assert!(source.is_fatal());
            source.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[actix::test]
async fn an_expression_keeps_its_type_and_text_around_it_makes_text() {
    let output = json!({ "s": "text", "i": 7, "f": 1.5, "b": true, "n": null, "l": [1, "x"], "o": { "z": 1, "a": [] } });
    let template = json!({
        "s": "${{ steps.a.output.s }}", "i": "${{ steps.a.output.i }}", "f": "${{steps.a.output.f}}",
        "b": "${{ steps.a.output.b }}", "n": "${{ steps.a.output.n }}", "l": "${{ steps.a.output.l }}",
        "o": "${{ steps.a.output.o }}",
    });
    assert_eq!(resolved(template, output.clone()).await.unwrap(), output);
    let around = json!([
        "<${{ steps.a.output.s }}>",
        "${{ steps.a.output.i }} ",
        "${{ steps.a.output.f }}${{ steps.a.output.b }}",
        "-${{ steps.a.output.n }}",
        "l=${{ steps.a.output.l }}",
        "o=${{ steps.a.output.o }}"
    ]);
    let texts = json!(["<text>", "7 ", "1.5true", "-null", r#"l=[1,"x"]"#, r#"o={"a":[],"z":1}"#]);
    assert_eq!(resolved(around, output).await.unwrap(), texts);
}

#[actix::test]
async fn every_name_that_there_is() {
    let output = json!({ "odd key": [{ "x": 1 }, { "x": 2 }], "items": ["i"] });
    let plan = Plan::new([
        returns("odd id", output),
        echo("b").with(json!([
            "${{ steps[\"odd id\"].output['odd key'][1].x }}",
            "${{ steps['odd id'].output['odd key'][-1].x }}",
            "${{ steps['odd id'].output.items[0] }}",
            "${{ inputs.day }}",
            "${{ inputs['odd input'].deep[0] }}",
            "${{ env.REGION }}",
            "${{ run.id }}",
        ])),
    ]);
    let plan = plan.declare("day", PlanInput::string()).declare("odd input", PlanInput::object());
    let run =
        ExecutePlan::new(plan).run_id("r/1").input("day", "today").input("odd input", json!({ "deep": [9] }));
    let results = engine().execute(run).await.unwrap();
    assert_eq!(results[1], json!([2, 2, "i", "today", 9, "eu-west", "r/1"]));
}

#[actix::test]
async fn integers_are_exact_and_other_numbers_stay_what_they_are() {
    for number in [
        json!(u64::MAX),
        json!(i64::MIN),
        json!(9_007_199_254_740_993_u64),
        json!(0.1),
        json!(1e300),
        json!(3.0),
    ] {
        assert_eq!(value("steps.a.output", number.clone()).await, number);
        assert_eq!(value("[steps.a.output][0]", number.clone()).await, number);
    }
    assert_eq!(
        value("steps.a.output + 1", json!(9_007_199_254_740_992_u64)).await,
        json!(9_007_199_254_740_993_u64)
    );
    assert_eq!(value("steps.a.output * 2", json!(1.5)).await, json!(3.0));
}

#[actix::test]
async fn what_expressions_can_do() {
    let output = json!({ "names": ["b", "a", "a"], "n": 3, "text": " {\"k\": [1]} ", "bytes": "" });
    for (expression, expected) in [
        ("1 + 2 * 3 - 4 // 3", json!(6)),
        ("'a' ~ 1 ~ '-' ~ steps.a.output.n", json!("a1-3")),
        ("steps.a.output.n > 2 and not steps.a.output.n == 4", json!(true)),
        ("'yes' if steps.a.output.n is odd else 'no'", json!("yes")),
        ("'a' in steps.a.output.names", json!(true)),
        ("steps.a.output.names | unique | sort | join(', ')", json!("a, b")),
        ("steps.a.output.names | length", json!(3)),
        ("steps.a.output.names[1:]", json!(["a", "a"])),
        ("steps.a.output.names | map('upper') | list", json!(["B", "A", "A"])),
        ("(steps.a.output.text | fromjson).k[0]", json!(1)),
        ("steps.a.output.names | tojson", json!(r#"["b","a","a"]"#)),
        ("{'a': {'b': steps.a.output.names}}", json!({ "a": { "b": ["b", "a", "a"] } })),
        ("{'a': {'b': {'c': 1}}}.a.b", json!({ "c": 1 })),
        ("dict(x=1).x", json!(1)),
        ("range(3) | list", json!([0, 1, 2])),
        ("steps.a.output.nothing | default('there')", json!("there")),
        ("steps.a.output.nothing is defined", json!(false)),
        ("env.UNSET | default('none')", json!("none")),
        ("env.EMPTY is empty", json!(true)),
        ("steps.a.output.names | first", json!("b")),
        ("none", json!(null)),
        ("'}}' ~ \"${{\"", json!("}}${{")),
        (
            "steps.a.output == {'names': ['b', 'a', 'a'], 'n': 3, 'text': steps.a.output.text, 'bytes': ''}",
            json!(true),
        ),
    ] {
        assert_eq!(value(expression, output.clone()).await, expected, "{expression}");
    }
}

#[actix::test]
async fn a_dollar_more_writes_what_would_open_an_expression() {
    for (template, expected) in [
        ("$${{ steps.a.output }}", "${{ steps.a.output }}"),
        ("a $${{ x ${{ steps.a.output }} $${{", "a ${{ x o ${{"),
        ("$$${{", "$${{"),
        ("${{ '$' }}${{ steps.a.output }}", "$o"),
        ("$${{${{ steps.a.output }}", "${{o"),
        ("$ {{ x }} ${ x } ${{ steps.a.output }} }}", "$ {{ x }} ${ x } o }}"),
    ] {
        assert_eq!(resolved(template, json!("o")).await.unwrap(), expected, "{template}");
    }
    // Neither keys nor literal inputs are looked into.
    let keys = resolved(json!({ "${{ run.id }}": "${{ run.id }}" }), json!(1)).await.unwrap();
    assert_eq!(keys, json!({ "${{ run.id }}": "the-run" }));
    let literal = [echo("x").input("${{ steps.none.output }}"), echo("y").input("$${{")];
    assert_eq!(engine().execute(literal).await.unwrap(), ["${{ steps.none.output }}", "$${{"]);
}

fn problems(plan: impl Into<Plan>) -> Vec<String> {
    let problems = plan.into().problems();
    problems.iter().map(|problem| chain(problem).join(": ")).collect()
}

/// The problem of one expression in the middle of a plan with the steps `fetch`, `fetch-data`, `odd id`, `me` and `later`.
fn problem(expression: &str) -> String {
    let steps = ["fetch", "fetch-data", "odd id"].map(Step::named).into_iter();
    let me = Step::named("me").with(json!({ "headers": [format!("${{{{ {expression} }}}}")] }));
    let plan = Plan::new(steps.chain([me, Step::named("later")])).declare("day", PlanInput::string());
    let found = problems(plan);
    assert!(found.len() <= 1, "{found:?}");
    let prefix = r#"step 3 ("me") has an expression in with.headers[0] that is not valid: "#;
    let found = found.first().cloned().unwrap_or_default();
    found.strip_prefix(prefix).unwrap_or(&found).split(" (at character").next().unwrap().to_owned()
}

#[test]
fn names_that_are_not_there_are_found_before_the_run() {
    for (expression, expected) in [
        ("steps.fetch.output.x", ""),
        ("steps.fetch", "of a step there is only its output, `steps.fetch.output`"),
        (
            "steps.fetch.otput.x",
            r#"of a step there is only its output, `steps.fetch.output`, and no "otput""#,
        ),
        ("steps.fetc.output", r#"there is no step "fetc"; did you mean "fetch"?"#),
        ("steps['odd-id'].output", r#"there is no step "odd-id"; did you mean "odd id"?"#),
        ("steps.xyz.output", r#"there is no step "xyz""#),
        ("steps.later.output", r#"step "later" comes later; only outputs of earlier steps can be read"#),
        ("steps.me.output", r#"step "me" is this step; only outputs of earlier ones can be read"#),
        ("steps['fetch-data'].output", ""),
        ("steps[\"odd id\"].output", ""),
        ("steps['odd\\u0020id'].output", ""),
        (
            "steps[inputs.day].output",
            r#""steps" needs a name that is written out, as in `steps.fetch.output`"#,
        ),
        ("steps", r#""steps" needs a name that is written out, as in `steps.fetch.output`"#),
        ("inputs.day", ""),
        ("inputs.dya", r#"the plan declares no input "dya"; did you mean "day"?"#),
        ("inputs", r#""inputs" needs a name that is written out, as in `inputs.day`"#),
        ("run.id", ""),
        ("run.name", r#"of the run there is only `run.id`, and no "name""#),
        ("env.HOME", ""),
        ("secrets.TOKEN", ""),
        ("secrets", r#""secrets" needs a name that is written out, as in `secrets.TOKEN`"#),
        ("secrets[inputs.day]", r#""secrets" needs a name that is written out, as in `secrets.TOKEN`"#),
        ("step.fetch.output", r#"there is no name "step"; did you mean "steps"?"#),
        ("foo.bar", r#"there is no name "foo"; there are steps, inputs, env, run and secrets"#),
        ("{foo: 1}", r#"there is no name "foo"; there are steps, inputs, env, run and secrets"#),
        ("env.HOME | uper", r#"there is no filter "uper"; did you mean "upper"?"#),
        ("env.HOME | pprint", r#"there is no filter "pprint""#),
        ("env.HOME is strng", r#"there is no test "strng"; did you mean "string"?"#),
        ("env.HOME is not defined", ""),
        ("debug()", r#"there is no function "debug""#),
        ("__spent()", r#"there is no function "__spent""#),
        ("1], [2", "not an expression: unexpected input after expression"),
        ("dict(steps=1)", ""),
        ("[env.HOME, 'steps.xyz'] | join(',')", ""),
        ("1 +", "not an expression: unexpected end of input, expected expression"),
        ("1 2", "not an expression: unexpected input after expression"),
        (" ", "an expression is empty"),
        ("{% if %}", "not an expression: unexpected `%`"),
    ] {
        assert_eq!(problem(expression), expected, "{expression}");
    }
    // A minus is an operator: with a step of that name, that is what was meant.
    assert_eq!(
        problem("steps.fetch-data.output + 1"),
        r#"a minus is no part of a name; write `steps["fetch-data"]` for the step "fetch-data""#
    );
    assert_eq!(problem("steps.fetch.output-1"), "");
}

#[test]
fn a_problem_tells_where_it_is_and_all_are_told() {
    let plan = Plan::new([
        Step::named("a")
            .with(json!({ "x y": { "z": ["fine", "ünd ${{ run.di }}"] }, "b": "${{ 'open }}" }))
            .when("true or"),
        Step::named("c").with("${{ steps.b.output }}${{ foo }} ${{ 1 + }}"),
        Step::named("d").with("${{ 1 ").when("x ${{ true }}"),
    ]);
    assert_eq!(
        problems(plan.clone()),
        [
            r#"step 0 ("a") has an expression in with.b that is not valid: a text has no closing quote (at character 5 of "${{ 'open }}")"#,
            r#"step 0 ("a") has an expression in with["x y"].z[1] that is not valid: of the run there is only `run.id`, and no "di" (at character 9 of "ünd ${{ run.di }}")"#,
            r#"step 0 ("a") has an expression in when that is not valid: not an expression: unexpected end of input, expected expression (at character 6 of "true or")"#,
            r#"step 1 ("c") has an expression in with that is not valid: there is no step "b" (at character 5 of "${{ steps.b.output }}${{ foo }} ${{ 1 + }}")"#,
            r#"step 1 ("c") has an expression in with that is not valid: there is no name "foo"; there are steps, inputs, env, run and secrets (at character 26 of "${{ steps.b.output }}${{ foo }} ${{ 1 + }}")"#,
            r#"step 1 ("c") has an expression in with that is not valid: not an expression: unexpected end of input, expected expression (at character 39 of "${{ steps.b.output }}${{ foo }} ${{ 1 + }}")"#,
            r#"step 2 ("d") has an expression in with that is not valid: an expression has no closing `}}` (at character 1 of "${{ 1 ")"#,
            r#"step 2 ("d") has an expression in when that is not valid: not an expression: unexpected character (at character 3 of "x ${{ true }}")"#,
        ]
    );
    assert_eq!(PlanRecord::of(plan.clone()).unwrap_err(), plan.problems()[0]);
    assert!(
        matches!(&plan.problems()[0], InvalidPlan::Expression { index: 0, place, .. } if place == "with.b")
    );
}

#[actix::test]
async fn what_has_no_value_fails_its_step_for_good() {
    let output = json!({ "x": { "y": 1 }, "s": "text", "big": 18_446_744_073_709_551_615_u64 });
    for (expression, expected) in [
        ("steps.a.output.x.z", "reads `steps.a.output.x.z`, which is not there"),
        ("steps.a.output.z.y", "reads `steps.a.output.z.y`, which is not there"),
        ("steps.a.output.x[0]", "reads `steps.a.output.x[0]`, which is not there"),
        ("env.UNSET", "reads `env.UNSET`, which is not there"),
        ("env.UNSET ~ 'x'", "reads `env.UNSET`, which is not there"),
        ("[steps.a.output.z]", "has a part that is not there"),
        ("1 / 0", "cannot be evaluated: invalid operation: unable to calculate 1 / 0"),
        ("1e300 * 1e300", "is a number that JSON has not: an infinity, or none at all"),
        ("steps.a.output.big + 1", "is an integer of more than 64 bits"),
        ("{1: 2}", "has an object with a name that is no text"),
        (
            "steps.a.output.s | fromjson",
            "cannot be evaluated: invalid operation: reads a text that is not JSON, at line 1 column 2",
        ),
        ("steps.a.output.s | int", ""),
    ] {
        let failed = failure(format!("${{{{ {expression} }}}}"), output.clone()).await;
        let told = format!("with: the expression {expression:?} {expected}");
        if expected.is_empty() {
            assert!(failed.starts_with(&told), "{failed}");
        } else {
            assert_eq!(failed, told);
        }
    }
    // What came from the environment is not told, whatever the engine says of it.
    let failed = failure("${{ env.REGION | int }}", json!(1)).await;
    assert!(!failed.contains("eu-west") && failed.contains("cannot be evaluated"), "{failed}");
}

#[actix::test]
async fn a_failed_evaluation_is_not_retried_and_its_policy_applies() {
    let trace = Trace::default();
    let step = |on_failure| {
        let trace = trace.clone();
        let called = move || trace.note("called");
        let step = Step::new("b", called).with("${{ steps.a.output.none }}");
        step.retry(Retry::fixed(Duration::ZERO).max_attempts(5)).on_failure(on_failure)
    };
    let run = |on_failure| {
        let engine = engine();
        let steps = [returns("a", json!({})), step(on_failure)];
        async move { engine.execute(steps).await }
    };
    assert_eq!(run(OnFailure::Continue).await.unwrap(), [json!({}), json!(null)]);
    // The fallback's input is the same template.
    assert!(matches!(run(OnFailure::fallback(|| 7)).await, Err(PlanError::StepFailed { attempt: 2, .. })));
    assert!(matches!(run(OnFailure::Abort).await, Err(PlanError::StepFailed { attempt: 1, .. })));
    assert_eq!(trace.all(), [""; 0]);
}

#[actix::test]
async fn an_input_is_made_anew_for_each_attempt_and_for_the_fallback() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let reads = std::sync::Arc::new(AtomicU32::new(0));
    let count = reads.clone();
    let environment = move |_: &str| Some(count.fetch_add(1, Ordering::Relaxed).to_string());
    let engine = Engine::builder().environment(environment).start().unwrap();
    let trace = Trace::default();
    let notes = trace.clone();
    let step = Step::new("a", move |ctx: StepContext| {
        notes.note(ctx.input::<String>().unwrap());
        Err::<(), _>(lunacore::StepError::from("not yet"))
    });
    let step = step.with("${{ env.N }}").retry(Retry::fixed(Duration::ZERO).max_attempts(3));
    let step = step.on_failure(OnFailure::fallback(|ctx: StepContext| ctx.input::<String>()));
    assert_eq!(engine.execute([step]).await.unwrap(), ["3"]);
    assert_eq!(trace.all(), ["0", "1", "2"]);
}

#[actix::test]
async fn what_an_input_came_to_is_nowhere_but_in_the_call() {
    let engine = Engine::builder().environment(|_| Some("canary-7f3".to_owned())).start().unwrap();
    let shown = |ctx: StepContext| format!("{ctx:?}").contains("canary");
    let run = ExecutePlan::new(Plan::new([Step::new("a", shown).with("${{ env.X }}")])).run_id("r");
    assert_eq!(engine.execute(run).await.unwrap(), [false]);
    let found = lunacore::FindRun::new("r".parse().unwrap(), lunacore::Claim::new());
    let found = engine.memory().send(found).await.unwrap().unwrap().unwrap();
    assert!(!serde_json::to_string(&found.plan).unwrap().contains("canary"));
    let history =
        engine.memory().send(lunacore::ReadHistory::new("r".parse().unwrap())).await.unwrap().unwrap();
    assert!(!format!("{history:?}").contains("canary"));
}

/// What this thread has computed so far, where that can be told: not how busy the machine is.
fn cpu_time() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = told.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// What hostile expressions get, each within a second; beside valid ones that are as like to them as can be.
#[actix::test]
async fn hostile_expressions_are_stopped_in_time() {
    let large = json!({ "text": "x".repeat(1024 * 1024), "list": vec![1; 20_000], "deep": (0..90).fold(json!(1), |v, _| json!([v])) });
    let too_long = "takes too long, or makes too much; compute it in a step";
    let too_much = "reads too much; compute it in a step";
    let repeat = |part: &str, times: usize| vec![part; times].join(" ~ ");
    let nested = |levels: usize| format!("{}1{}", "(".repeat(levels), ")".repeat(levels));
    let lists = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let mut table: Vec<(String, Result<(), String>)> = Vec::new();
    let mut good = |expression: &str| table.push((expression.to_owned(), Ok(())));
    good("'x' * 1000000");
    good("range(1000) | list");
    good("2 ** 60");
    good(&nested(16));
    good(&lists(16));
    good(&repeat("steps.a.output.text", 3));
    good("steps.a.output.text | replace('x', 'yy')");
    good("steps.a.output.list | join('12345')");
    good("steps.a.output.list | sort | length");
    good(&vec!["1"; 200].join("+"));
    good("env.LARGE | length");
    good("steps.a.output.deep");
    let mut bad =
        |expression: &str, expected: &str| table.push((expression.to_owned(), Err(expected.to_owned())));
    bad("'x' * 1000000000", too_long);
    bad("range(10**9) | list", "cannot be evaluated: invalid operation: range has too many elements");
    bad("range(100000) | map('string') | list ~ (range(100000) | list) ~ (range(100000) | list)", too_long);
    bad("2 ** 99999", "cannot be evaluated: invalid operation: unable to calculate 2 ** 99999");
    bad(&repeat("steps.a.output.text", 30), too_long);
    bad(&format!("[{}]", vec!["steps.a.output.text"; 49].join(", ")), "makes more than 16777216 bytes");
    bad("steps.a.output.text | replace('x', 'y' * 1000)", too_long);
    bad("steps.a.output.text | replace('', 'y' * 1000)", too_long);
    bad("steps.a.output.list | join('y' * 100000)", too_long);
    bad("steps.a.output.text | list | length", too_long);
    bad(
        &format!("[{}] | length", vec!["steps.a.output.list == steps.a.output.list[:]"; 19].join(", ")),
        too_much,
    );
    bad("[steps.a.output.deep, [[[[[[[[[[[steps.a.output.deep]]]]]]]]]]]]", "nests deeper than 100 levels");
    bad("[steps.a.output.text] * 1000", "makes more than 16777216 bytes");
    for (expression, expected) in table {
        let started = cpu_time();
        let template = format!("${{{{ {expression} }}}}");
        match expected {
            Ok(()) => drop(
                resolved(template, large.clone()).await.map_err(|e| panic!("{expression}: {:?}", chain(&e))),
            ),
            Err(expected) => {
                let failed = failure(template, large.clone()).await;
                assert!(failed.ends_with(&expected), "{expression}: {failed}");
            }
        }
        let spent = cpu_time().saturating_sub(started);
        assert!(spent < Duration::from_secs(1), "{} took {spent:?}", &expression[..60.min(expression.len())]);
    }
    // Many that are harmless alone.
    let many = json!(vec!["${{ steps.a.output.text }}"; 17]);
    assert!(failure(many, large.clone()).await.ends_with("makes more than 16777216 bytes"));
    assert!(resolved(json!(vec!["${{ steps.a.output.text }}"; 15]), large.clone()).await.is_ok());
    let costly = |times: usize| json!(vec!["${{ ('x' * 5000000) | length }}"; times]);
    assert!(resolved(costly(2), json!(1)).await.is_ok());
    let started = cpu_time();
    assert!(failure(costly(1_000), json!(1)).await.ends_with(too_long));
    assert!(cpu_time().saturating_sub(started) < Duration::from_secs(1));
}

#[test]
fn hostile_expressions_are_refused_when_they_cannot_even_be_read() {
    let one = |expression: &str| problem(expression);
    let long = |bytes: usize| format!("'{}'", "x".repeat(bytes - 4));
    assert_eq!(one(&long(limits::MAX_EXPRESSION_BYTES)), "");
    assert_eq!(
        one(&long(limits::MAX_EXPRESSION_BYTES + 1)),
        "an expression has 4097 bytes, more than 4096; compute it in a step"
    );
    // Beyond what fits the stack: the engine itself would overflow it.
    let (most, deepest) = (limits::MAX_EXPRESSION_WORDS, limits::MAX_EXPRESSION_DEPTH);
    let many = |words: usize| vec!["not"; words - 1].join(" ") + " true";
    assert_eq!(one(&many(most)), "");
    assert_eq!(one(&many(most + 1)), "an expression has 401 words, more than 400; compute it in a step");
    let nested =
        |open: &str, close: &str, levels: usize| format!("{}1{}", open.repeat(levels), close.repeat(levels));
    for (open, close) in
        [("(", ")"), ("[", "]"), ("{'a':", "}"), ("dict(x=", ")"), ("(1 + (", "))"), ("range([1][", "])")]
    {
        let each = close.len();
        assert_eq!(one(&nested(open, close, deepest / each)), "", "{open}");
        let deeper = one(&nested(open, close, deepest / each + 1));
        assert_eq!(deeper, "an expression nests brackets deeper than 16 levels", "{open}");
        let far = problems([Step::named("me").when(open.repeat(300 / open.len()))]);
        assert!(far.len() == 1 && far[0].contains("nests brackets deeper"), "{open}: {far:?}");
    }
    // As long as it gets without being refused for it: checked, and evaluated.
    for (first, next, words) in [
        ("1", "+1", 2),
        ("1", "~1", 2),
        ("env.A", ".a", 2),
        ("env.A", "[0]", 3),
        ("1", " or 1", 2),
        ("1", "|abs", 2),
        ("1", "**1", 3),
        ("1", " if 1 else 1", 4),
        ("1", "<1", 2),
        ("1", " is odd", 2),
    ] {
        let chained = format!("{first}{}", next.repeat((most - 3) / words));
        assert_eq!(one(&chained), "", "{next}");
        let run = [Step::new("me", || 1).when(chained)];
        let _ = actix::System::new().block_on(async { engine().execute(run).await });
    }
    let huge = format!("${{{{ {} }}}}", "(".repeat(100_000));
    assert!(!Plan::new([Step::named("a").with(huge)]).problems().is_empty());
    let open = "${{".repeat(100_000);
    assert!(!Plan::new([Step::named("a").with(open)]).problems().is_empty());
}

#[test]
fn a_large_plan_is_checked_in_time_however_much_is_wrong_with_it() {
    let started = cpu_time();
    let steps = |wrong: bool| {
        (0..limits::MAX_STEPS).map(move |n| {
            let id = if wrong { format!("stap-{n}") } else { format!("step-{}", n.saturating_sub(1)) };
            let step = Step::named(format!("step-{n}"));
            if n == 0 { step } else { step.with(format!("${{{{ steps['{id}'].output }}}}")) }
        })
    };
    assert_eq!(Plan::new(steps(false)).problems(), []);
    assert_eq!(Plan::new(steps(true)).problems().len(), limits::MAX_PROBLEMS);
    let spent = cpu_time().saturating_sub(started);
    assert!(spent < Duration::from_secs(20), "{spent:?}");
    let many = "${{ 1 }}".repeat(limits::MAX_EXPRESSIONS + 1);
    assert_eq!(
        problems([Step::named("a").with(many)]),
        ["the plan has more than 100000 expressions; split it"]
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 50, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map("\\PC{0,8}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whole, as a member, and through the engine's own lists and objects.
    #[test]
    fn json_survives_unchanged(output in any_json()) {
        actix::System::new().block_on(async {
            assert_eq!(value("steps.a.output", output.clone()).await, output);
            assert_eq!(value("steps.a.output.x", json!({ "x": output.clone() })).await, output.clone());
            assert_eq!(value("[steps.a.output]", output.clone()).await, json!([output.clone()]));
            assert_eq!(value("{'k': steps.a.output[0]}", json!([output.clone()])).await, json!({ "k": output.clone() }));
            assert_eq!(value("steps.a.output | tojson | fromjson", output.clone()).await, output.clone());
            let list = value("steps.a.output | list", json!([output.clone(), output.clone()])).await;
            assert_eq!(list, json!([output.clone(), output]));
        });
    }

    /// Whatever is written, nothing panics, and what is accepted is told of or comes to a value.
    #[test]
    fn no_text_breaks_it(text in "(\\$\\{\\{|\\}\\}|steps|\\.|a|output|[ \"'\\[\\](){}|+*~$0-9é-]|is|not|inputs){0,24}") {
        let plan = Plan::new([returns("a", json!([1])), echo("b").with(text.clone()), echo("c").when(text)]);
        if plan.problems().is_empty() {
            actix::System::new().block_on(async { drop(engine().execute(plan).await) });
        }
    }
}

#[actix::test]
async fn a_fallback_that_the_allocator_finds_has_the_same_input() {
    let registry = lunacore::RegistryAllocator::new()
        .register("a", || 1)
        .register("b", || Err::<(), _>(lunacore::StepError::fatal("broken")))
        .register("rescue", |ctx: StepContext| ctx.input::<Value>());
    let engine = Engine::builder().allocator(registry).start().unwrap();
    let step = Step::named("b").with("${{ steps.a.output }} and ${{ run.id }}").when("steps.a.output == 1");
    let plan = Plan::new([Step::named("a"), step.on_failure(OnFailure::fallback_named("rescue"))]);
    let results = engine.execute(ExecutePlan::new(plan).run_id("r")).await.unwrap();
    assert_eq!(results, [json!(1), json!("1 and r")]);
}
