//! Plans and steps: what can be called, what is refused, and what a step knows of its run.

use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use lunacore::limits::{
    MAX_ARTIFACT_BYTES, MAX_PAYLOAD_BYTES, MAX_STAGED_ARTIFACTS, MAX_STAGED_BYTES, MAX_STEPS,
};
use lunacore::{
    Access, AllocatorError, Artifact, Callable, ContextError, EventKind, ExecutePlan, FailureKind, Get,
    IdFault, InvalidPlan, ListKeys, MemoryError, Operation, Plan, PlanError, PlanStatus, ProjectMemory,
    RunHandle, RunState, Step, StepContext, StepError, SubmitPlan,
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::{
    Actors, Trace, assert_untouched, chain, cut, engine, next, run_id, start, until, watch,
};

/// A step that notes its id when it is called.
fn noted(trace: &Trace, id: &str) -> Step {
    let (trace, note) = (trace.clone(), id.to_owned());
    Step::new(id, move || trace.note(note.clone()))
}

/// Runs a plan and gives back why it was refused or failed.
async fn refusal(actors: &Actors, plan: impl Into<ExecutePlan>) -> PlanError {
    actors.orchestrator.send(plan.into()).await.unwrap().unwrap_err()
}

/// Runs a plan whose last step fails, and gives back that step's error.
async fn step_error(plan: impl Into<ExecutePlan>) -> StepError {
    match refusal(&start(), plan).await {
        PlanError::StepFailed { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

async fn submit(actors: &Actors, plan: ExecutePlan) -> RunHandle {
    actors.orchestrator.send(SubmitPlan(plan)).await.unwrap().unwrap()
}

async fn latest(actors: &Actors, key: &str) -> Option<Artifact> {
    actors.memory.send(Get::latest(key)).await.unwrap().unwrap()
}

async fn keys(actors: &Actors) -> Vec<String> {
    actors.memory.send(ListKeys::new()).await.unwrap().unwrap()
}

// What can be called.

fn plain() -> u32 {
    1
}

fn plain_with_context(ctx: StepContext) -> String {
    ctx.step_id().to_owned()
}

async fn asynchronous() -> &'static str {
    tokio::task::yield_now().await;
    "async fn"
}

async fn asynchronous_with_context(ctx: StepContext) -> usize {
    tokio::task::yield_now().await;
    ctx.index()
}

/// Every form, whether it is async, and what it returns.
fn forms() -> Vec<(Step, bool, Value)> {
    let pointer: fn() -> i64 = || 7;
    let boxed: Box<dyn Fn(StepContext) -> bool + Send + Sync> = Box::new(|ctx| ctx.attempt() == 1);
    let client = Arc::new(String::from("client"));
    vec![
        (Step::unnamed(|| "x"), false, json!("x")),
        (Step::unnamed(|| 1), false, json!(1)),
        (Step::unnamed(|| 2.5), false, json!(2.5)),
        (Step::unnamed(|| {}), false, json!(null)),
        (Step::unnamed(|ctx: StepContext| ctx.attempt()), false, json!(1)),
        (Step::unnamed(|_ctx| "untyped"), false, json!("untyped")),
        (Step::unnamed(|_ctx| 3), false, json!(3)),
        (Step::unnamed(|_| async { "untyped, async" }), true, json!("untyped, async")),
        (Step::unnamed(plain), false, json!(1)),
        (Step::unnamed(plain_with_context), false, json!("step_9")),
        (Step::unnamed(pointer), false, json!(7)),
        (Step::unnamed(boxed), false, json!(true)),
        (Step::unnamed(|| async { "y" }), true, json!("y")),
        (Step::unnamed(|| async { 4 }), true, json!(4)),
        (Step::unnamed(|| async {}), true, json!(null)),
        (Step::unnamed(|ctx: StepContext| async move { ctx.index() }), true, json!(15)),
        (Step::unnamed(asynchronous), true, json!("async fn")),
        (Step::unnamed(asynchronous_with_context), true, json!(17)),
        (Step::unnamed(async || "async closure"), true, json!("async closure")),
        (Step::unnamed(async |ctx: StepContext| ctx.index()), true, json!(19)),
        (
            Step::unnamed(move || {
                let client = Arc::clone(&client);
                async move { client.len() }
            }),
            true,
            json!(6),
        ),
        (Step::unnamed(Callable::new(|| async { 5 })), true, json!(5)),
        (Step::unnamed(|| std::future::ready("any future")), true, json!("any future")),
    ]
}

#[actix::test]
async fn every_form_of_callable_is_taken_and_its_type_tells_sync_from_async() {
    let told: Vec<bool> = forms().iter().map(|(step, ..)| step.callable().unwrap().is_async()).collect();
    let expected: Vec<bool> = forms().iter().map(|(_, is_async, _)| *is_async).collect();
    assert_eq!(told, expected);

    let results = engine().execute(forms().into_iter().map(|(step, ..)| step).collect::<Plan>()).await;
    let expected: Vec<Value> = forms().into_iter().map(|(.., result)| result).collect();
    assert_eq!(results.unwrap(), expected);
}

#[actix::test]
async fn a_sync_callable_runs_on_another_thread_and_everything_else_in_place() {
    let home = thread::current().id();
    let here = move || thread::current().id() == home;
    let steps = [
        Step::new("sync", here),
        Step::new("sync with context", move |_: StepContext| here()),
        Step::new("inline", here).inline(),
        Step::new("async", move || async move { here() }),
        Step::new("async after a wait", move || async move {
            tokio::task::yield_now().await;
            here()
        }),
    ];
    assert_eq!(engine().execute(steps).await.unwrap(), [false, false, true, true, true]);
}

#[actix::test]
async fn a_callable_is_called_again_when_its_plan_runs_again() {
    let trace = Trace::default();
    let plan = Plan::new([noted(&trace, "a"), noted(&trace, "b")]);
    let engine = engine();
    engine.execute(plan.clone()).await.unwrap();
    engine.execute(plan).await.unwrap();
    assert_eq!(trace.all(), ["a", "b", "a", "b"]);
}

// Ids and names.

#[actix::test]
async fn an_unnamed_step_takes_its_id_from_its_place() {
    let actors = start();
    let id = |ctx: StepContext| ctx.step_id().to_owned();
    let steps = [Step::unnamed(id), Step::new("own", id), Step::unnamed(id)];
    let results = actors.orchestrator.send(ExecutePlan::new(steps)).await.unwrap().unwrap();
    assert_eq!(results, ["step_0", "own", "step_2"]);
    assert_eq!(keys(&actors).await, ["task:own", "task:step_0", "task:step_2"]);
}

#[actix::test]
async fn the_agent_of_a_step_is_told_when_it_starts_and_is_the_orchestrator_by_default() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let steps = [Step::new("a", || 1), Step::new("b", || 2).agent("renderer")];
    actors.orchestrator.send(ExecutePlan::new(steps)).await.unwrap().unwrap();
    let agents: Vec<String> = (until(&mut events, "plan.completed").await.iter())
        .filter_map(|event| match event.kind() {
            EventKind::TaskStarted { task_id, agent_id, .. } => Some(format!("{task_id} by {agent_id}")),
            _ => None,
        })
        .collect();
    assert_eq!(agents, ["a by orchestrator", "b by renderer"]);
}

#[actix::test]
async fn ids_may_hold_anything_printable_up_to_256_bytes() {
    let longest = "ä".repeat(128);
    let actors = start();
    for id in ["../../etc/passwd", "a b", "日本", "task:x", "%00", longest.as_str()] {
        actors.orchestrator.send(ExecutePlan::new([Step::new(id, || "done")])).await.unwrap().unwrap();
        assert_eq!(latest(&actors, &format!("task:{id}")).await.unwrap().text(), Some("done"));
    }
}

#[test]
fn a_steps_debug_form_hides_its_input_and_its_attributes() {
    let step = Step::named("x").input(json!("secret")).attr("token", json!("secret"));
    let debug = format!("{step:?}");
    assert!(debug.contains("\"x\"") && !debug.contains("secret"), "{debug}");
}

// What is refused.

/// The steps of a plan, what is wrong with them, and how that reads.
fn invalid_plans(trace: &Trace) -> Vec<(Plan, InvalidPlan, String)> {
    let good = || noted(trace, "good");
    let (long, longer) = ("x".repeat(257), "ä".repeat(129));
    let too_long = |bytes| IdFault::TooLong { bytes, limit: 256 };
    let step_id = |id: &str, index, fault| InvalidPlan::StepId { id: id.to_owned(), index, fault };
    let name = |what, name: &str, place: &str, fault| InvalidPlan::Name {
        what,
        name: name.to_owned(),
        place: place.to_owned(),
        fault,
    };
    let duplicate = |id: &str, first, second| InvalidPlan::DuplicateId { id: id.to_owned(), first, second };
    vec![
        (
            Plan::new([good(), noted(trace, "")]),
            step_id("", 1, IdFault::Empty),
            r#"the id "" of step 1 is empty"#.to_owned(),
        ),
        (
            Plan::new([noted(trace, &long)]),
            step_id(&cut(&long), 0, too_long(257)),
            format!("the id {:?} of step 0 has 257 bytes, more than 256", cut(&long)),
        ),
        (
            Plan::new([good(), noted(trace, &longer)]),
            step_id(&format!("{}…", &longer[..128]), 1, too_long(258)),
            format!("the id {:?} of step 1 has 258 bytes, more than 256", format!("{}…", &longer[..128])),
        ),
        (
            Plan::new([good(), good().inline(), noted(trace, "a\nb")]),
            duplicate("good", 0, 1),
            r#"steps 0 and 1 have the same id "good"; each step of a plan needs its own"#.to_owned(),
        ),
        (
            Plan::new([good(), noted(trace, "a\nb")]),
            step_id("a\nb", 1, IdFault::ControlCharacter { character: '\n', at: 1 }),
            r#"the id "a\nb" of step 1 has the control character '\n' at byte 1"#.to_owned(),
        ),
        (
            Plan::new([noted(trace, "ä\u{85}")]),
            step_id("ä\u{85}", 0, IdFault::ControlCharacter { character: '\u{85}', at: 2 }),
            r#"the id "ä\u{85}" of step 0 has the control character '\u{85}' at byte 2"#.to_owned(),
        ),
        (
            Plan::new([noted(trace, "step_1"), Step::unnamed(|| 1)]),
            duplicate("step_1", 0, 1),
            r#"steps 0 and 1 have the same id "step_1"; each step of a plan needs its own"#.to_owned(),
        ),
        (
            Plan::new([good(), noted(trace, "x").agent("")]),
            name("agent name", "", r#"step 1 ("x")"#, IdFault::Empty),
            r#"the agent name "" of step 1 ("x") is empty"#.to_owned(),
        ),
        (
            Plan::new([Step::named("x").uses("a\tb")]),
            name(
                "callable name",
                "a\tb",
                r#"step 0 ("x")"#,
                IdFault::ControlCharacter { character: '\t', at: 1 },
            ),
            r#"the callable name "a\tb" of step 0 ("x") has the control character '\t' at byte 1"#.to_owned(),
        ),
        (
            Plan::new([good()]).name(long.clone()),
            name("name", &cut(&long), "the plan", too_long(257)),
            format!("the name {:?} of the plan has 257 bytes, more than 256", cut(&long)),
        ),
    ]
}

#[actix::test]
async fn an_invalid_plan_is_refused_before_anything_runs() {
    let trace = Trace::default();
    for (plan, expected, text) in invalid_plans(&trace) {
        let actors = start();
        let mut events = watch(&actors.bus).await;
        let error = refusal(&actors, plan).await;
        assert_eq!(chain(&error), [text]);
        assert!(matches!(&error, PlanError::Invalid(invalid) if *invalid == expected), "{error:?}");
        assert_untouched(&actors, &mut events).await;
    }
    assert_eq!(trace.all(), [""; 0]);
}

#[actix::test]
async fn a_plan_of_more_than_100_000_steps_is_refused() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let steps = |count| (0..count).map(|n| Step::named(n.to_string())).collect::<Plan>();
    let error = refusal(&actors, steps(MAX_STEPS + 1)).await;
    assert_eq!(chain(&error), ["the plan has 100001 steps, more than 100000; split it"]);
    // One step fewer passes that check, and is refused by the next: no step has a callable.
    assert!(matches!(refusal(&actors, steps(MAX_STEPS)).await, PlanError::Unresolved(_)));
    assert_untouched(&actors, &mut events).await;
}

#[actix::test]
async fn an_invalid_run_id_is_refused_before_anything_runs() {
    let (actors, trace) = (start(), Trace::default());
    let mut events = watch(&actors.bus).await;
    let long = "x".repeat(257);
    for (id, shown, fault) in [
        ("", r#""""#, "is empty"),
        ("a\u{7f}", r#""a\u{7f}""#, r"has the control character '\u{7f}' at byte 1"),
        (&long, &format!("{:?}", cut(&long)), "has 257 bytes, more than 256"),
    ] {
        let error = refusal(&actors, ExecutePlan::new([noted(&trace, "x")]).run_id(id)).await;
        let text = format!("the run id {shown} {fault}; choose 1 to 256 bytes without control characters");
        assert_eq!(chain(&error), [text]);
        assert!(matches!(&error, PlanError::InvalidRunId(_)));
    }
    assert_untouched(&actors, &mut events).await;
    assert_eq!(trace.all(), [""; 0]);
}

#[actix::test]
async fn a_step_without_a_callable_refuses_its_plan_before_anything_runs() {
    let (actors, trace) = (start(), Trace::default());
    let mut events = watch(&actors.bus).await;
    let error = refusal(&actors, [noted(&trace, "first"), Step::named("x"), Step::named("y")]).await;
    assert_eq!(chain(&error), [r#"step 1 ("x") cannot be called"#, r#"no callable found in step "x""#]);
    let PlanError::Unresolved(unresolved) = error else { panic!("{error:?}") };
    assert_eq!((&*unresolved.step_id, unresolved.index), ("x", 1));
    assert!(matches!(unresolved.source, AllocatorError::NoCallable { step_id } if step_id == "x"));
    assert_untouched(&actors, &mut events).await;
    assert_eq!(trace.all(), [""; 0]);
}

#[actix::test]
async fn a_refused_plan_does_not_hold_up_the_next() {
    let actors = start();
    let (refused, next) = tokio::join!(
        actors.orchestrator.send(ExecutePlan::new([Step::named("x")])),
        actors.orchestrator.send(ExecutePlan::new([Step::new("x", || "ran")])),
    );
    assert!(matches!(refused.unwrap(), Err(PlanError::Unresolved(_))));
    assert_eq!(next.unwrap().unwrap(), ["ran"]);
}

#[actix::test]
async fn an_empty_plan_completes_with_no_results() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let results = actors.orchestrator.send(ExecutePlan::new([])).await.unwrap().unwrap();
    assert_eq!(results, [Value::Null; 0]);
    assert_eq!(next(&mut events, 3).await, ["plan.accepted", "plan.started", "plan.completed"]);
}

// What a step knows.

#[actix::test]
async fn a_context_tells_its_run_step_place_and_attempt() {
    let show = |ctx: StepContext| json!([ctx.run_id().as_str(), ctx.step_id(), ctx.index(), ctx.attempt()]);
    let plan = ExecutePlan::new([Step::new("a", show), Step::new("b", show)]).run_id("r");
    assert_eq!(engine().execute(plan).await.unwrap(), [json!(["r", "a", 0, 1]), json!(["r", "b", 1, 1])]);
}

#[actix::test]
async fn an_input_is_read_with_its_type_and_is_null_by_default() {
    let steps = [
        Step::new("double", |ctx: StepContext| ctx.input::<i64>().map(|n| n * 2)).input(json!(21)),
        Step::new("join", |ctx: StepContext| async move {
            let (name, parts): (String, Vec<String>) = ctx.input()?;
            Ok::<_, StepError>(format!("{name}: {}", parts.join(" ")))
        })
        .input(json!(["words", ["a", "b"]])),
        Step::new("nothing", |ctx: StepContext| ctx.input::<Value>()),
    ];
    assert_eq!(engine().execute(steps).await.unwrap(), [json!(42), json!("words: a b"), Value::Null]);
}

#[actix::test]
async fn an_input_of_another_type_is_an_error_that_names_the_step() {
    let step = Step::new("double", |ctx: StepContext| ctx.input::<u32>()).input(json!("x"));
    let error = step_error([step]).await;
    assert_eq!(
        chain(&*error),
        [r#"the input of step "double" does not fit"#, r#"invalid type: string "x", expected u32"#]
    );
    assert!(matches!(
        error.downcast_ref(),
        Some(ContextError::Input { step_id, .. }) if step_id == "double"
    ));
}

#[actix::test]
async fn a_step_reads_the_outputs_of_those_before_it_with_their_types() {
    let steps = [
        Step::new("names", || vec!["a", "b"]),
        Step::new("count", |ctx: StepContext| ctx.previous::<Vec<String>>().map(|names| names.len())),
        Step::new("tell", |ctx: StepContext| async move {
            let (names, count): (Vec<String>, u8) = (ctx.output("names")?, ctx.output("count")?);
            let previous: u64 = ctx.previous()?;
            Ok::<_, ContextError>(format!("{} {count} {previous}", names[1]))
        }),
    ];
    assert_eq!(engine().execute(steps).await.unwrap()[2], "b 2 2");
}

#[actix::test]
async fn an_output_that_is_not_there_or_does_not_fit_is_an_error_that_names_the_step() {
    type Ask = fn(StepContext) -> Result<Value, ContextError>;
    let not_yet = |id| format!("step {id:?} has not run yet; only outputs of earlier steps can be read");
    let no_fit = r#"the output of step "first" does not fit"#.to_owned();
    let cases: [(Ask, &str, String); 6] = [
        (|ctx| ctx.output("absent"), "NoSuchStep absent", r#"the plan has no step "absent""#.to_owned()),
        (|ctx| ctx.output("last"), "NotYetRun last", not_yet("last")),
        (|ctx| ctx.output("asks"), "NotYetRun asks", not_yet("asks")),
        (|ctx| ctx.output::<Vec<u8>>("first").map(Value::from), "Output first", no_fit.clone()),
        (|ctx| ctx.previous::<bool>().map(Value::from), "Output first", no_fit.clone()),
        (|ctx| ctx.previous::<()>().map(Value::from), "Output first", no_fit),
    ];
    for (ask, kind, text) in cases {
        let steps = [Step::new("first", || "text"), Step::new("asks", ask), Step::new("last", || 1)];
        let error = step_error(steps).await;
        assert_eq!(error.to_string(), text);
        let told = match error.downcast_ref::<ContextError>() {
            Some(ContextError::NoSuchStep { step_id }) => format!("NoSuchStep {step_id}"),
            Some(ContextError::NotYetRun { step_id }) => format!("NotYetRun {step_id}"),
            Some(ContextError::Output { step_id, .. }) => format!("Output {step_id}"),
            other => panic!("{other:?}"),
        };
        assert_eq!(told, kind);
    }
}

#[actix::test]
async fn the_first_step_has_no_previous_output() {
    let error = step_error([Step::new("first", |ctx: StepContext| ctx.previous::<Value>())]).await;
    assert_eq!(error.to_string(), "the first step of a plan has no previous output");
    assert!(matches!(error.downcast_ref(), Some(ContextError::NoPrevious)));
}

#[actix::test]
async fn a_context_that_asks_for_what_is_not_there_fails_its_step_and_nothing_else() {
    let engine = engine();
    let steps = [Step::new("x", |ctx: StepContext| ctx.output::<Value>("absent"))];
    let error = engine.execute(steps).await.unwrap_err();
    assert!(matches!(error, PlanError::StepFailed { kind: FailureKind::Error, .. }), "{error:?}");
    assert_eq!(engine.execute([Step::new("x", || "fine")]).await.unwrap(), ["fine"]);
}

// Further artifacts.

#[actix::test]
async fn further_artifacts_appear_together_with_the_result_and_not_before() {
    let actors = start();
    let (staged, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let step = {
        let (staged, release) = (Arc::clone(&staged), Arc::clone(&release));
        move |ctx: StepContext| {
            let (staged, release) = (Arc::clone(&staged), Arc::clone(&release));
            async move {
                ctx.put_artifact("report", "# All well")?;
                ctx.put_artifact("raw", vec![0xff, 0x00])?;
                staged.notify_one();
                release.notified().await;
                Ok::<_, StepError>("done")
            }
        }
    };
    let plan = ExecutePlan::new([Step::new("first", || 1), Step::new("second", step)]).run_id("r");
    let run = submit(&actors, plan).await;
    staged.notified().await;
    assert_eq!(keys(&actors).await, ["task:first"]);
    release.notify_one();
    assert_eq!(run.await.unwrap(), [json!(1), json!("done")]);

    assert_eq!(keys(&actors).await, ["raw", "report", "task:first", "task:second"]);
    let report = latest(&actors, "report").await.unwrap();
    assert_eq!((report.version, report.text()), (1, Some("# All well")));
    assert_eq!((&*report.artifact_type, report.run_id), ("data", Some(run_id("r"))));
    assert_eq!(Value::from(report.meta), json!({ "step": 1, "step_id": "second" }));
    let raw = latest(&actors, "raw").await.unwrap();
    assert_eq!((raw.text(), raw.data.as_bytes()), (None, &[0xff, 0x00][..]));
}

#[actix::test]
async fn one_step_may_store_several_versions_of_an_artifact_in_its_order() {
    let actors = start();
    let step = Step::new("draw", |ctx: StepContext| {
        ctx.put_artifact("picture", "sketch")?;
        ctx.put_artifact("picture", "final")
    });
    actors.orchestrator.send(ExecutePlan::new([step])).await.unwrap().unwrap();
    for (version, text) in [(1, "sketch"), (2, "final")] {
        let artifact = actors.memory.send(Get::version("picture", version)).await.unwrap().unwrap();
        assert_eq!(artifact.unwrap().text(), Some(text));
    }
}

#[actix::test]
async fn further_artifacts_of_a_step_that_fails_are_not_stored() {
    fn fails(ctx: StepContext) -> Result<(), StepError> {
        ctx.put_artifact("report", "half done")?;
        Err("broken".into())
    }
    fn panics(ctx: StepContext) -> Result<(), StepError> {
        ctx.put_artifact("report", "half done")?;
        panic!("broken")
    }
    for step in [Step::new("x", fails), Step::new("x", panics), Step::new("x", fails).inline()] {
        let actors = start();
        refusal(&actors, [Step::new("first", || 1), step]).await;
        assert_eq!(keys(&actors).await, ["task:first"]);
    }
}

#[actix::test]
async fn a_context_that_outlives_its_attempt_stores_nothing_more() {
    let (actors, kept) = (start(), Arc::new(Mutex::new(Vec::<StepContext>::new())));
    let (leak, reuse) = (Arc::clone(&kept), Arc::clone(&kept));
    let steps = [
        Step::new("leaks", move |ctx: StepContext| leak.lock().unwrap().push(ctx)),
        Step::new("reuses", move |ctx: StepContext| {
            let mut kept = reuse.lock().unwrap();
            let error = kept[0].put_artifact("late", "x").unwrap_err();
            kept.push(ctx);
            error.to_string()
        }),
    ];
    let results = actors.orchestrator.send(ExecutePlan::new(steps)).await.unwrap().unwrap();
    assert_eq!(results[1], "the attempt has ended; what it stores must be stored before it returns");
    // Nor after the plan, which no later attempt follows.
    for ctx in kept.lock().unwrap().iter() {
        assert!(matches!(ctx.put_artifact("later", "x"), Err(ContextError::AttemptEnded)), "{ctx:?}");
    }
    assert_eq!(keys(&actors).await, ["task:leaks", "task:reuses"]);
}

#[actix::test]
async fn the_latest_version_under_a_task_key_is_the_result_of_the_step() {
    let actors = start();
    let step = Step::new("x", |ctx: StepContext| {
        ctx.put_artifact("task:x", "staged")?;
        Ok::<_, StepError>("result")
    });
    // Whether staging such a key is refused or comes before the result: it must not pass for the result.
    if actors.orchestrator.send(ExecutePlan::new([step])).await.unwrap().is_ok() {
        let latest = latest(&actors, "task:x").await.unwrap();
        assert_eq!((latest.text(), &*latest.artifact_type), (Some("result"), "task_result"));
    }
}

#[actix::test]
async fn a_further_artifact_needs_a_valid_key() {
    let long = "k".repeat(513);
    let cases = [
        (String::new(), r#"the artifact key "" is empty"#.to_owned()),
        ("a\0".to_owned(), r#"the artifact key "a\0" has the control character '\0' at byte 1"#.to_owned()),
        (long.clone(), format!("the artifact key {:?} has 513 bytes, more than 512", cut(&long))),
    ];
    for (key, text) in cases {
        let error = step_error([Step::new("x", move |ctx: StepContext| ctx.put_artifact(&key, "x"))]).await;
        assert_eq!(error.to_string(), text);
        assert!(matches!(error.downcast_ref(), Some(ContextError::ArtifactKey { .. })));
    }
}

#[actix::test]
async fn a_further_artifact_has_at_most_16_mebibytes() {
    let actors = start();
    let most = Bytes::from(vec![7; MAX_ARTIFACT_BYTES]);
    let more = Bytes::from(vec![7; MAX_ARTIFACT_BYTES + 1]);
    let step = Step::new("x", move |ctx: StepContext| {
        let error = ctx.put_artifact("more", more.clone()).unwrap_err();
        assert!(matches!(&error, ContextError::ArtifactTooLarge { key, bytes: 16_777_217 } if key == "more"));
        ctx.put_artifact("most", most.clone())?;
        Ok::<_, StepError>(error.to_string())
    });
    let results = actors.orchestrator.send(ExecutePlan::new([step])).await.unwrap().unwrap();
    assert_eq!(results, [r#"the artifact "more" has 16777217 bytes, more than 16777216"#]);
    assert_eq!(keys(&actors).await, ["most", "task:x"]);
}

#[actix::test]
async fn one_step_stores_at_most_1_000_further_artifacts() {
    let actors = start();
    let step = Step::new("x", |ctx: StepContext| {
        for n in 0..MAX_STAGED_ARTIFACTS {
            ctx.put_artifact(format!("a{n}"), "")?;
        }
        let error = ctx.put_artifact("more", "").unwrap_err();
        assert!(matches!(error, ContextError::TooManyArtifacts));
        Ok::<_, StepError>(error.to_string())
    });
    // The next step counts anew.
    let next = Step::new("y", |ctx: StepContext| ctx.put_artifact("next", ""));
    let results = actors.orchestrator.send(ExecutePlan::new([step, next])).await.unwrap().unwrap();
    assert_eq!(results[0], "one step stores at most 1000 further artifacts with 67108864 bytes together");
    assert_eq!(latest(&actors, "a999").await.unwrap().version, 1);
    assert_eq!(latest(&actors, "more").await, None);
    assert_eq!(latest(&actors, "next").await.unwrap().version, 1);
}

#[actix::test]
async fn one_step_stores_at_most_64_mebibytes_of_further_artifacts() {
    let actors = start();
    let quarter = Bytes::from(vec![7; MAX_STAGED_BYTES / 4]);
    let step = move |ctx: StepContext| {
        for n in 0..4 {
            ctx.put_artifact(format!("a{n}"), quarter.clone())?;
        }
        assert!(matches!(ctx.put_artifact("more", "x"), Err(ContextError::TooManyArtifacts)));
        // No bytes do not count.
        ctx.put_artifact("empty", "")
    };
    let plan = ExecutePlan::new([Step::new("x", step.clone()), Step::new("y", step)]);
    actors.orchestrator.send(plan).await.unwrap().unwrap();
    assert_eq!(keys(&actors).await, ["a0", "a1", "a2", "a3", "empty", "task:x", "task:y"]);
    assert_eq!(latest(&actors, "a3").await.unwrap().version, 2);
}

#[actix::test]
async fn a_further_artifact_that_may_not_be_written_fails_its_step() {
    let memory = ProjectMemory::in_memory().access_check(|access: &Access| !access.key.starts_with("secret"));
    let engine = lunacore::Engine::builder().memory(memory).start().unwrap();
    let steps = [
        Step::new("first", || 1),
        Step::new("x", |ctx: StepContext| {
            ctx.put_artifact("open", "x")?;
            ctx.put_artifact("secret/1", "x")
        }),
        Step::new("never", || -> () { panic!("called") }),
    ];
    let error = engine.execute(ExecutePlan::new(steps).run_id("r")).await.unwrap_err();
    assert_eq!(
        chain(&error),
        [
            r#"step 1 ("x") of run r failed at attempt 1"#,
            r#"write access to "secret/1" in default/default is denied"#
        ]
    );
    let PlanError::StepFailed { kind, completed, source, .. } = error else { panic!("{error:?}") };
    assert_eq!((kind, completed), (FailureKind::Artifact, vec![json!(1)]));
    assert!(matches!(
        source.downcast_ref(),
        Some(MemoryError::AccessDenied { key, operation: Operation::Write, .. }) if key == "secret/1"
    ));
    // Nothing of the step is stored, and its failure is recorded.
    let keys = engine.memory().send(ListKeys::new()).await.unwrap().unwrap();
    assert_eq!(keys, ["task:first"]);
    let info = engine.status(&run_id("r")).await.unwrap();
    assert_eq!((info.state, info.completed), (RunState::Failed, 1));
    assert_eq!(info.failure.unwrap().kind, FailureKind::Artifact);
}

// Progress.

#[actix::test]
async fn progress_is_told_between_the_start_of_a_step_and_its_end() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let step = |ctx: StepContext| {
        ctx.progress(json!({ "done": 1, "of": 2 }))?;
        ctx.progress(json!("half"))
    };
    let plan = ExecutePlan::new([Step::new("a", step), Step::new("b", step).inline()]).run_id("r");
    actors.orchestrator.send(plan).await.unwrap().unwrap();
    let seen = until(&mut events, "plan.completed").await;
    let order: Vec<String> = seen.iter().map(ToString::to_string).collect();
    assert_eq!(
        order[2..order.len() - 1],
        [
            "task.started a",
            "task.progress a",
            "task.progress a",
            "task.completed a",
            "task.started b",
            "task.progress b",
            "task.progress b",
            "task.completed b",
        ]
    );
    let progress = &seen[3];
    assert_eq!((progress.seq(), progress.run_id()), (None, Some(&run_id("r"))));
    assert!(matches!(
        progress.kind(),
        EventKind::TaskProgress { attempt: 1, value, .. } if **value == json!({ "done": 1, "of": 2 })
    ));
}

#[actix::test]
async fn a_progress_report_over_one_mebibyte_is_an_error_and_is_not_told() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let step = Step::new("x", |ctx: StepContext| {
        // The quotes count: it is the JSON that is measured.
        let error = ctx.progress(json!("x".repeat(MAX_PAYLOAD_BYTES - 1))).unwrap_err();
        assert!(matches!(error, ContextError::ProgressTooLarge { bytes: 1_048_577 }));
        ctx.progress(json!("y".repeat(MAX_PAYLOAD_BYTES - 2)))?;
        Ok::<_, StepError>(error.to_string())
    });
    let results = actors.orchestrator.send(ExecutePlan::new([step])).await.unwrap().unwrap();
    assert_eq!(results, ["the progress report has 1048577 bytes of JSON, more than 1048576"]);
    let seen = until(&mut events, "plan.completed").await;
    let told: Vec<_> = seen.iter().filter(|event| event.event_type() == "task.progress").collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].get("value").unwrap().as_str().unwrap().starts_with('y'));
}

#[actix::test]
async fn a_context_that_outlives_its_attempt_tells_no_more_progress() {
    let (actors, kept) = (start(), Arc::new(Mutex::new(None::<StepContext>)));
    let mut events = watch(&actors.bus).await;
    let leak = Arc::clone(&kept);
    let step = Step::new("leaks", move |ctx: StepContext| *leak.lock().unwrap() = Some(ctx));
    actors.orchestrator.send(ExecutePlan::new([step])).await.unwrap().unwrap();
    until(&mut events, "plan.completed").await;
    let _ = kept.lock().unwrap().take().unwrap().progress(json!("late"));
    actors.orchestrator.send(ExecutePlan::new([])).await.unwrap().unwrap();
    assert_eq!(next(&mut events, 1).await, ["plan.accepted"]);
}

// Run ids.

#[actix::test]
async fn a_given_run_id_is_used_everywhere() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let plan = ExecutePlan::new([Step::new("x", |ctx: StepContext| ctx.run_id().to_string())]);
    let run = submit(&actors, plan.run_id("nightly")).await;
    assert_eq!(run.run_id(), &run_id("nightly"));
    assert_eq!(run.await.unwrap(), ["nightly"]);
    for event in until(&mut events, "plan.completed").await {
        assert_eq!(event.run_id(), Some(&run_id("nightly")), "{event}");
    }
    assert_eq!(latest(&actors, "task:x").await.unwrap().run_id, Some(run_id("nightly")));
    let info = actors.orchestrator.send(PlanStatus(run_id("nightly"))).await.unwrap().unwrap();
    assert_eq!((info.run_id, info.state), (run_id("nightly"), RunState::Completed));
}

#[actix::test]
async fn a_run_without_an_id_gets_a_uuid_of_version_7_of_its_own() {
    let engine = engine();
    let plan = Plan::new([Step::new("x", |ctx: StepContext| ctx.run_id().to_string())]);
    let first = engine.execute(plan.clone()).await.unwrap();
    let second = engine.execute(plan).await.unwrap();
    assert_ne!(first, second);
    for id in [&first[0], &second[0]] {
        let id: uuid::Uuid = id.as_str().unwrap().parse().unwrap();
        assert_eq!(id.get_version_num(), 7);
    }
}

/// Checks that another plan cannot take the run id `r`.
async fn assert_taken(actors: &Actors, trace: &Trace) {
    let before = trace.all();
    let error = refusal(actors, ExecutePlan::new([noted(trace, "duplicate")]).run_id("r")).await;
    assert!(error.to_string().starts_with("run r was accepted with another plan: step 0 was "), "{error}");
    assert!(matches!(&error, PlanError::PlanMismatch { run_id, .. } if run_id.as_str() == "r"), "{error:?}");
    assert_eq!(trace.all(), before);
}

#[actix::test]
async fn a_run_id_is_taken_while_its_run_waits_and_runs_and_after_it_has_ended() {
    let (actors, trace) = (start(), Trace::default());
    let mut events = watch(&actors.bus).await;
    let waits = |release: &Arc<Notify>| {
        let release = Arc::clone(release);
        Step::new("waits", move || {
            let release = Arc::clone(&release);
            async move { release.notified().await }
        })
    };
    let (first, second) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let other = submit(&actors, ExecutePlan::new([waits(&first)]).run_id("other")).await;
    let run = submit(&actors, ExecutePlan::new([waits(&second)]).run_id("r")).await;
    assert_taken(&actors, &trace).await;
    // The run that has the id keeps its place in the line.
    let info = actors.orchestrator.send(PlanStatus(run_id("r"))).await.unwrap().unwrap();
    assert_eq!((info.state, info.position), (RunState::Queued, Some(0)));
    first.notify_one();
    other.await.unwrap();
    until(&mut events, "plan.completed").await;
    assert_eq!(next(&mut events, 2).await, ["plan.started", "task.started waits"]);
    assert_taken(&actors, &trace).await;
    let info = actors.orchestrator.send(PlanStatus(run_id("r"))).await.unwrap().unwrap();
    assert_eq!(info.current.map(|current| current.index), Some(0));
    second.notify_one();
    assert_eq!(run.await.unwrap(), [Value::Null]);
    assert_taken(&actors, &trace).await;

    // The duplicates left no events, and did not touch the record of the run.
    assert_eq!(next(&mut events, 2).await, ["task.completed waits", "plan.completed"]);
    actors.orchestrator.send(ExecutePlan::new([])).await.unwrap().unwrap();
    assert_eq!(next(&mut events, 1).await, ["plan.accepted"]);
    let info = actors.orchestrator.send(PlanStatus(run_id("r"))).await.unwrap().unwrap();
    assert_eq!((info.state, info.completed), (RunState::Completed, 1));
}

#[actix::test]
async fn the_id_of_a_failed_run_is_taken_too() {
    let (actors, trace) = (start(), Trace::default());
    refusal(&actors, ExecutePlan::new([Step::new("x", || Err::<(), _>("broken"))]).run_id("r")).await;
    assert_taken(&actors, &trace).await;
}

#[actix::test]
async fn the_id_of_a_refused_plan_is_free() {
    let actors = start();
    refusal(&actors, ExecutePlan::new([Step::named("x")]).run_id("r")).await;
    let plan = ExecutePlan::new([Step::new("x", || "ran")]).run_id("r");
    assert_eq!(actors.orchestrator.send(plan).await.unwrap().unwrap(), ["ran"]);
}
