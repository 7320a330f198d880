//! Typed callables: code whose first argument is the step's input.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use lunacore::{
    Callable, ContextError, Engine, ExecutePlan, FailureKind, IntoCallable, Json, OnFailure, PlanError,
    RegistryAllocator, Retry, Step, StepContext, StepError,
};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::support::{Trace, chain, engine};

#[derive(Debug, Deserialize)]
struct ResizeArgs {
    width: u32,
    #[serde(default)]
    crop: bool,
}

async fn resize(args: ResizeArgs, ctx: StepContext) -> Result<String, StepError> {
    Ok(format!("{} {} {}", ctx.step_id(), args.width, args.crop))
}

fn area(sides: (u64, u64), _: StepContext) -> u64 {
    sides.0 * sides.1
}

/// Registers the forms as users write them; what matters is that they compile without a type more than these.
fn registry() -> RegistryAllocator {
    let shared = Arc::new(String::from("shared"));
    let also = Arc::clone(&shared);
    RegistryAllocator::new()
        .register("async block", |args: ResizeArgs, ctx: StepContext| async move {
            format!("{} {} {}", ctx.step_id(), args.width, args.crop)
        })
        .register("async closure", async |args: ResizeArgs, _: StepContext| args.width)
        .register("async fn", resize)
        .register("sync", |args: ResizeArgs, ctx: StepContext| format!("{} {}", ctx.attempt(), args.width))
        .register("sync fn", area)
        .register("sync result", |name: String, _: StepContext| -> Result<usize, StepError> {
            if name.is_empty() { Err("no name".into()) } else { Ok(name.len()) }
        })
        .register("question mark", |text: String, _: StepContext| async move {
            Ok::<_, StepError>(text.parse::<i64>()?)
        })
        .register("json", |tags: BTreeMap<String, Vec<u8>>, _: StepContext| Json(tags))
        .register("value", |input: Value, _: StepContext| async move { input })
        .register("optional", |limit: Option<u8>, _: StepContext| limit.map_or(-1, i64::from))
        .register("captures", move |times: usize, _: StepContext| shared.repeat(times))
        .register("captures async", move |times: usize, _: StepContext| {
            let also = Arc::clone(&also);
            async move { also.repeat(times) }
        })
        .register("a callable", Callable::new(|n: u8, _: StepContext| n + 1))
        .register("no input", || 1)
        .register("context only", |ctx: StepContext| ctx.input::<Value>())
        .register("async context only", |ctx: StepContext| async move { ctx.input::<Value>() })
}

#[actix::test]
async fn every_form_is_inferred_and_is_given_the_input() {
    let engine = Engine::builder().allocator(registry()).start().unwrap();
    for (uses, input, expected) in [
        ("async block", json!({ "width": 3 }), json!("x 3 false")),
        ("async closure", json!({ "width": 3, "crop": true }), json!(3)),
        ("async fn", json!({ "width": 4, "crop": true }), json!("x 4 true")),
        ("sync", json!({ "width": 5 }), json!("1 5")),
        ("sync fn", json!([6, 7]), json!(42)),
        ("sync result", json!("abc"), json!(3)),
        ("question mark", json!("-12"), json!(-12)),
        ("json", json!({ "a": [1, 2] }), json!({ "a": [1, 2] })),
        ("value", json!([1, "x", null]), json!([1, "x", null])),
        ("optional", Value::Null, json!(-1)),
        ("optional", json!(8), json!(8)),
        ("captures", json!(2), json!("sharedshared")),
        ("captures async", json!(1), json!("shared")),
        ("a callable", json!(1), json!(2)),
        ("no input", json!({ "unread": true }), json!(1)),
        ("context only", json!("plain"), json!("plain")),
        ("async context only", json!("plain"), json!("plain")),
    ] {
        let step = Step::named("x").uses(uses).input(input);
        assert_eq!(engine.execute(ExecutePlan::new([step])).await.unwrap(), [expected], "{uses}");
    }
}

#[test]
fn what_returns_a_future_is_polled_and_the_rest_is_called() {
    fn is_async<M>(callable: impl IntoCallable<M>) -> bool {
        callable.into_callable().is_async()
    }
    assert!(is_async(resize));
    assert!(is_async(|_: u8, _: StepContext| async { 1 }));
    assert!(!is_async(area));
    assert!(!is_async(|_: u8, _: StepContext| 1));
}

#[actix::test]
async fn a_step_and_a_fallback_may_be_typed() {
    let step = Step::new("charge", |cents: u64, _: StepContext| -> Result<u64, StepError> {
        Err(format!("{cents} refused").into())
    });
    let later = OnFailure::fallback(|cents: u64, ctx: StepContext| {
        format!(
            "{cents} later: {}",
            ctx.failure().map_or_else(String::new, |failure| failure.message.clone())
        )
    });
    let step = step.input(250).on_failure(later);
    assert_eq!(engine().execute(ExecutePlan::new([step])).await.unwrap(), ["250 later: 250 refused"]);
    let unnamed = Step::unnamed(async |n: u8, _: StepContext| n).input(7);
    assert_eq!(engine().execute(ExecutePlan::new([unnamed])).await.unwrap(), [7]);
}

/// The failure of a plan of this step, with the calls that were made.
async fn failure(step: Step) -> StepError {
    match engine().execute(ExecutePlan::new([step])).await.unwrap_err() {
        PlanError::StepFailed { source, .. } => source,
        other => panic!("{other:?}"),
    }
}

#[actix::test]
async fn an_input_that_does_not_fit_is_a_fatal_failure_that_says_what_and_where() {
    for (input, cause) in [
        (json!({ "width": "wide" }), r#"invalid type: string "wide", expected u32"#),
        (json!({ "width": -1 }), "invalid value: integer `-1`, expected u32"),
        (json!({}), "missing field `width`"),
        (Value::Null, "invalid type: null, expected struct ResizeArgs"),
    ] {
        for polled in [false, true] {
            let trace = Trace::default();
            let calls = trace.clone();
            let step = if polled {
                Step::new("thumbnail", move |args: ResizeArgs, _: StepContext| {
                    calls.note("called");
                    async move { args.width }
                })
            } else {
                Step::new("thumbnail", move |args: ResizeArgs, _: StepContext| {
                    calls.note("called");
                    args.width
                })
            };
            let retry = Retry::fixed(Duration::ZERO).max_attempts(5);
            let error = failure(step.input(input.clone()).retry(retry)).await;
            assert_eq!(chain(&*error), [r#"the input of step "thumbnail" does not fit"#, cause]);
            assert!(error.is_fatal(), "a retry would read the same input");
            let source = error.downcast_ref::<ContextError>().unwrap();
            assert!(matches!(source, ContextError::Input { step_id, .. } if step_id == "thumbnail"));
            assert_eq!(trace.all(), [""; 0], "no code runs without its input");
        }
    }
}

#[actix::test]
async fn an_input_that_does_not_fit_is_not_tried_again() {
    struct Counted;
    static READ: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    impl<'de> Deserialize<'de> for Counted {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            READ.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Err(serde::de::Error::custom("never fits"))
        }
    }
    let step = Step::new("x", |_: Counted, _: StepContext| 1);
    let error = failure(step.retry(Retry::fixed(Duration::ZERO).max_attempts(5))).await;
    assert_eq!(chain(&*error), [r#"the input of step "x" does not fit"#, "never fits"]);
    assert_eq!(READ.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[actix::test]
async fn a_panic_while_the_input_is_read_fails_the_step_only() {
    struct Panics;
    impl<'de> Deserialize<'de> for Panics {
        fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("in deserialize");
        }
    }
    let engine = engine();
    let steps: [fn() -> Step; 2] = [
        || Step::new("x", |_: Panics, _: StepContext| 1),
        || Step::new("x", |_: Panics, _: StepContext| async { 1 }),
    ];
    for step in steps {
        let error = engine.execute(ExecutePlan::new([step()])).await.unwrap_err();
        let PlanError::StepFailed { source, kind, .. } = error else { panic!("{error:?}") };
        assert_eq!(source.to_string(), "panicked: in deserialize");
        assert_eq!(kind, FailureKind::Panic);
    }
    assert_eq!(engine.execute([Step::new("y", || 1)]).await.unwrap(), [1]);
}

#[actix::test]
async fn an_input_need_not_be_send() {
    struct Local(Rc<str>);
    impl<'de> Deserialize<'de> for Local {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            Ok(Self(Rc::from(String::deserialize(deserializer)?)))
        }
    }
    let sync = Step::new("a", |local: Local, _: StepContext| local.0.len()).input("four");
    let polled = Step::new("b", |local: Local, _: StepContext| {
        let length = local.0.len();
        async move { length }
    });
    let results = engine().execute([sync, polled.input("three")]).await.unwrap();
    assert_eq!(results, [4, 5]);
}
