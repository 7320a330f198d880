//! Allocators: where the callables of steps come from.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use lunacore::limits::RESOLVE_TIMEOUT;
use lunacore::{
    AllocatorError, Callable, Engine, EventBus, ExecutePlan, ExecutionOrchestrator, PlanError, ProjectMemory,
    RegistryAllocator, Resolve, ResolveError, SimpleAllocator, Step, StepContext, StepError,
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::{Actors, Trace, assert_untouched, chain, watch};

type Resolved = Result<Vec<Callable>, ResolveError>;

/// The four actors, with this allocator.
fn start_with(allocator: impl Into<Recipient<Resolve>>) -> Actors {
    let (bus, memory) = (EventBus::new().start(), ProjectMemory::in_memory().start());
    let orchestrator = ExecutionOrchestrator::new(bus.clone(), memory.clone(), allocator).start();
    Actors { orchestrator, bus, memory }
}

/// The steps of a plan that notes every call.
fn steps(trace: &Trace, ids: &[&'static str]) -> Vec<Step> {
    let step = |id: &'static str| {
        let trace = trace.clone();
        Step::new(id, move || trace.note(id))
    };
    ids.iter().copied().map(step).collect()
}

/// Checks that a plan is refused with these messages, and that nothing of it has happened.
async fn refused(allocator: impl Into<Recipient<Resolve>>, plan: Vec<Step>, expected: &[&str]) -> PlanError {
    let actors = start_with(allocator);
    let mut events = watch(&actors.bus).await;
    let error = actors.orchestrator.send(ExecutePlan::new(plan)).await.unwrap().unwrap_err();
    assert_eq!(chain(&error), expected);
    assert_untouched(&actors, &mut events).await;
    error
}

// The allocators of this crate.

#[actix::test]
async fn the_simple_allocator_hands_back_the_steps_own_callables() {
    let engine = Engine::builder().allocator(SimpleAllocator).start().unwrap();
    // A name changes nothing for a step that has a callable.
    let steps = [Step::new("a", || "own").uses("other"), Step::new("b", async || "async")];
    assert_eq!(engine.execute(steps).await.unwrap(), ["own", "async"]);
}

#[actix::test]
async fn the_simple_allocator_finds_nothing_by_name() {
    let trace = Trace::default();
    let mut plan = steps(&trace, &["first"]);
    plan.push(Step::named("x").uses("first"));
    let expected = [r#"step 1 ("x") cannot be called"#, r#"no callable found in step "x""#];
    let error = refused(SimpleAllocator.start(), plan, &expected).await;
    let PlanError::Unresolved(ResolveError { step_id, index, source, .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!((&*step_id, index), ("x", 1));
    assert!(matches!(source, AllocatorError::NoCallable { step_id } if step_id == "x"));
    assert_eq!(trace.all(), [""; 0]);
}

fn registry() -> RegistryAllocator {
    RegistryAllocator::new()
        .register("greet", |ctx: StepContext| format!("hello from {}", ctx.step_id()))
        .register("fetch", async || "remote_data")
        .register("double", |ctx: StepContext| async move { Ok::<_, StepError>(2 * ctx.input::<i64>()?) })
}

#[actix::test]
async fn the_registry_finds_callables_by_the_name_used_or_else_by_id() {
    let engine = Engine::builder().allocator(registry()).start().unwrap();
    let steps = [
        Step::named("greet"),
        Step::named("get").uses("fetch"),
        // The name that is used wins over the id, although that is registered too.
        Step::named("fetch").uses("greet"),
        Step::named("n").uses("double").input(json!(21)),
        Step::named("m").uses("double").input(json!(1)),
    ];
    let results = engine.execute(steps).await.unwrap();
    assert_eq!(
        results,
        [json!("hello from greet"), json!("remote_data"), json!("hello from fetch"), json!(42), json!(2)]
    );
}

#[actix::test]
async fn in_the_registry_a_steps_own_callable_wins() {
    let engine = Engine::builder().allocator(registry()).start().unwrap();
    let steps =
        [Step::new("greet", || "own"), Step::new("x", || "own too").uses("fetch"), Step::named("fetch")];
    assert_eq!(engine.execute(steps).await.unwrap(), ["own", "own too", "remote_data"]);
}

#[actix::test]
async fn a_later_registration_under_the_same_name_replaces_the_earlier() {
    let allocator = registry().register("greet", || "replaced").register("also", || 1);
    assert_eq!(allocator.names().collect::<Vec<_>>(), ["also", "double", "fetch", "greet"]);
    let engine = Engine::builder().allocator(allocator).start().unwrap();
    assert_eq!(engine.execute([Step::named("greet")]).await.unwrap(), ["replaced"]);
}

#[actix::test]
async fn a_name_that_is_not_registered_is_an_error_that_suggests_one_that_looks_alike() {
    let cases = [
        (Step::named("x").uses("grete"), "grete", Some("greet")),
        (Step::named("x").uses("GREET"), "GREET", Some("greet")),
        (Step::named("x").uses("greeting"), "greeting", None),
        (Step::named("x").uses("fetch_"), "fetch_", Some("fetch")),
        (Step::named("x").uses("fech"), "fech", Some("fetch")),
        (Step::named("x").uses("upload"), "upload", None),
        (Step::named("x"), "x", None),
    ];
    for (step, name, similar) in cases {
        let hint = similar.map(|similar| format!("; did you mean {similar:?}?")).unwrap_or_default();
        let expected = [
            r#"step 0 ("x") cannot be called"#,
            &format!(r#"step "x" uses {name:?}, which is not registered{hint}"#),
        ];
        let error = refused(registry().start(), vec![step], &expected).await;
        let PlanError::Unresolved(ResolveError { source, .. }) = error else { panic!("{error:?}") };
        let AllocatorError::NotRegistered { name: told, similar: hinted, .. } = source else {
            panic!("{source:?}")
        };
        assert_eq!((&*told, hinted.as_deref()), (name, similar));
    }
}

#[actix::test]
async fn a_name_that_is_not_registered_refuses_the_plan_before_anything_runs() {
    let trace = Trace::default();
    let mut plan = steps(&trace, &["first"]);
    plan.push(Step::named("missing"));
    let expected = [
        r#"step 1 ("missing") cannot be called"#,
        r#"step "missing" uses "missing", which is not registered"#,
    ];
    refused(registry().start(), plan, &expected).await;
    assert_eq!(trace.all(), [""; 0]);
}

#[actix::test]
async fn the_suggestion_is_the_name_that_looks_most_alike() {
    let allocator = RegistryAllocator::new().register("load_1", || 1).register("load_b2", || 2);
    let expected = [
        r#"step 0 ("x") cannot be called"#,
        r#"step "x" uses "load_b", which is not registered; did you mean "load_b2"?"#,
    ];
    refused(allocator.start(), vec![Step::named("x").uses("load_b")], &expected).await;
}

// An application's own.

/// An allocator that does what its function says.
struct Custom<F>(F);

impl<F: Fn(&Resolve) -> Resolved + Unpin + 'static> Actor for Custom<F> {
    type Context = Context<Self>;
}

impl<F: Fn(&Resolve) -> Resolved + Unpin + 'static> Handler<Resolve> for Custom<F> {
    type Result = Resolved;

    fn handle(&mut self, resolve: Resolve, _: &mut Self::Context) -> Self::Result {
        (self.0)(&resolve)
    }
}

/// Each step's own callable.
fn own(resolve: &Resolve) -> Resolved {
    resolve.each(|step| step.callable().cloned().ok_or_else(|| AllocatorError::other("none")))
}

#[actix::test]
async fn an_allocator_sees_each_step_whole() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let actors = start_with(
        Custom(move |resolve: &Resolve| {
            assert_eq!(resolve.steps().len(), 3);
            for step in resolve.steps() {
                note.lock().unwrap().push(json!({
                    "id": step.id(),
                    "name": step.callable_name(),
                    "own": step.callable().is_some(),
                    "input": step.get_input(),
                    "gpu": step.get_attr("gpu"),
                    "attributes": step.attributes(),
                    "agent": step.agent_name(),
                }));
            }
            resolve.each(|_| Ok::<_, AllocatorError>(Callable::new(|| ())))
        })
        .start(),
    );
    let steps = [
        Step::unnamed(|| 1),
        Step::named("resize")
            .input(json!([1, 2]))
            .attr("gpu", json!(true))
            .attr("size", json!("big"))
            .agent("renderer"),
        Step::named("send").uses("mail.send").attr("gpu", json!(false)).attr("gpu", json!(null)),
    ];
    actors.orchestrator.send(ExecutePlan::new(steps)).await.unwrap().unwrap();
    assert_eq!(
        *seen.lock().unwrap(),
        [
            json!({
                "id": "step_0", "name": "step_0", "own": true, "input": null, "gpu": null, "attributes": {},
                "agent": "orchestrator"
            }),
            json!({
                "id": "resize", "name": "resize", "own": false, "input": [1, 2], "gpu": true,
                "attributes": { "gpu": true, "size": "big" }, "agent": "renderer"
            }),
            json!({
                "id": "send", "name": "mail.send", "own": false, "input": null, "gpu": null,
                "attributes": { "gpu": null }, "agent": "orchestrator"
            }),
        ]
    );
}

#[actix::test]
async fn an_allocator_makes_callables_from_attributes_and_from_what_it_owns() {
    let client = Arc::new(String::from("client"));
    let allocator = Custom(move |resolve: &Resolve| {
        resolve.each(|step| {
            let client = Arc::clone(&client);
            let path = step.get_attr("path").and_then(Value::as_str).unwrap_or("/").to_owned();
            Ok::<_, AllocatorError>(match step.callable() {
                Some(own) => own.clone(),
                None => Callable::new(move |ctx: StepContext| {
                    let answer = format!("{client} gets {path} for {}", ctx.step_id());
                    async move { answer }
                }),
            })
        })
    });
    let actors = start_with(allocator.start());
    let steps = [Step::named("a").attr("path", json!("/a")), Step::new("b", || "own"), Step::named("c")];
    let results = actors.orchestrator.send(ExecutePlan::new(steps)).await.unwrap().unwrap();
    assert_eq!(results, ["client gets /a for a", "own", "client gets / for c"]);
}

#[actix::test]
async fn an_allocator_may_live_on_another_thread() {
    let elsewhere = Arbiter::new();
    let allocator = RegistryAllocator::start_in_arbiter(&elsewhere.handle(), |_| registry());
    let actors = start_with(allocator);
    let results = actors.orchestrator.send(ExecutePlan::new([Step::named("greet")])).await.unwrap().unwrap();
    assert_eq!(results, ["hello from greet"]);
    elsewhere.stop();
    elsewhere.join().unwrap();
}

#[actix::test]
async fn an_allocator_is_asked_once_for_each_plan() {
    let (asked, note) = (Trace::default(), Trace::default());
    let count = asked.clone();
    let actors = start_with(
        Custom(move |resolve: &Resolve| {
            count.note(resolve.steps().map(|step| step.id().unwrap()).collect::<Vec<_>>().join(" "));
            own(resolve)
        })
        .start(),
    );
    let plan = ExecutePlan::new(steps(&note, &["a", "b", "c"]));
    actors.orchestrator.send(plan.clone()).await.unwrap().unwrap();
    assert_eq!(asked.all(), ["a b c"]);
    // Again for the same plan: what it resolves to may have changed.
    actors.orchestrator.send(plan).await.unwrap().unwrap();
    actors.orchestrator.send(ExecutePlan::new(steps(&note, &["d"]))).await.unwrap().unwrap();
    assert_eq!(asked.all(), ["a b c", "a b c", "d"]);
    assert_eq!(note.all(), ["a", "b", "c", "a", "b", "c", "d"]);
}

#[actix::test]
async fn an_allocator_is_not_asked_about_an_invalid_plan() {
    let (asked, note) = (Trace::default(), Trace::default());
    let count = asked.clone();
    let actors = start_with(
        Custom(move |resolve: &Resolve| {
            count.note("asked");
            own(resolve)
        })
        .start(),
    );
    let plan = ExecutePlan::new(steps(&note, &["a", "a"]));
    let error = actors.orchestrator.send(plan).await.unwrap().unwrap_err();
    assert!(matches!(error, PlanError::Invalid(_)), "{error:?}");
    assert_eq!(asked.all(), [""; 0]);
}

// Allocators that do not do their work.

#[actix::test]
async fn an_allocator_that_gives_another_number_of_callables_refuses_the_plan() {
    for (given, text) in [
        (0, "the allocator gave callables for 0 of 2 steps"),
        (1, "the allocator gave callables for 1 of 2 steps"),
        (3, "the allocator gave callables for 3 of 2 steps"),
    ] {
        let trace = Trace::default();
        let note = trace.clone();
        let callable = Callable::new(move || note.note("called"));
        let allocator = Custom(move |_: &Resolve| Ok(vec![callable.clone(); given]));
        let error = refused(allocator.start(), steps(&trace, &["a", "b"]), &[text]).await;
        assert!(matches!(error, PlanError::Allocator { .. }));
        assert_eq!(trace.all(), [""; 0]);
    }
}

#[derive(Debug, thiserror::Error, PartialEq)]
#[error("no licence for {0}")]
struct NoLicence(String);

#[actix::test]
async fn an_allocators_own_error_reaches_the_caller_with_its_type() {
    let trace = Trace::default();
    let allocator = Custom(|resolve: &Resolve| {
        resolve.each(|step| match step.id() {
            Some("paid") => Err(AllocatorError::other(NoLicence("paid".to_owned()))),
            _ => Ok(step.callable().unwrap().clone()),
        })
    });
    let expected = [r#"step 1 ("paid") cannot be called"#, "no licence for paid"];
    let error = refused(allocator.start(), steps(&trace, &["free", "paid", "last"]), &expected).await;
    let PlanError::Unresolved(ResolveError { source, .. }) = error else { panic!("{error:?}") };
    let AllocatorError::Other { source } = source else { panic!("{source:?}") };
    assert_eq!(source.downcast_ref(), Some(&NoLicence("paid".to_owned())));
    assert_eq!(trace.all(), [""; 0]);
}

#[actix::test]
async fn an_allocator_stops_at_the_first_step_that_it_cannot_call() {
    let asked = Trace::default();
    let note = asked.clone();
    let allocator = Custom(move |resolve: &Resolve| {
        resolve.each(|step| {
            note.note(step.id().unwrap());
            step.callable().cloned().ok_or_else(|| AllocatorError::other("none"))
        })
    });
    let mut plan = steps(&Trace::default(), &["a"]);
    plan.extend([Step::named("b"), Step::named("c")]);
    let expected = [r#"step 1 ("b") cannot be called"#, "none"];
    refused(allocator.start(), plan, &expected).await;
    assert_eq!(asked.all(), ["a", "b"]);
}

/// An allocator that is gone as soon as it has started.
struct Stopped;

impl Actor for Stopped {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Handler<Resolve> for Stopped {
    type Result = Resolved;

    fn handle(&mut self, _: Resolve, _: &mut Self::Context) -> Self::Result {
        unreachable!("it has stopped")
    }
}

#[actix::test]
async fn an_allocator_that_has_stopped_refuses_the_plan() {
    let trace = Trace::default();
    let expected = ["the allocator has stopped, or did not answer"];
    let error = refused(Stopped.start(), steps(&trace, &["a"]), &expected).await;
    assert!(matches!(error, PlanError::Allocator { .. }));
    assert_eq!(trace.all(), [""; 0]);
}

#[actix::test]
async fn an_allocator_that_panics_refuses_the_plan() {
    let trace = Trace::default();
    let allocator = Custom(|_: &Resolve| panic!("broken allocator"));
    let expected = ["the allocator has stopped, or did not answer"];
    refused(allocator.start(), steps(&trace, &["a"]), &expected).await;
    assert_eq!(trace.all(), [""; 0]);
}

/// An allocator that answers this late.
struct Late(Duration);

impl Actor for Late {
    type Context = Context<Self>;
}

impl Handler<Resolve> for Late {
    type Result = ResponseFuture<Resolved>;

    fn handle(&mut self, resolve: Resolve, _: &mut Self::Context) -> Self::Result {
        let late = self.0;
        Box::pin(async move {
            tokio::time::sleep(late).await;
            own(&resolve)
        })
    }
}

#[actix::test]
async fn an_allocator_that_never_answers_is_waited_for_30_seconds() {
    tokio::time::pause();
    let (trace, began) = (Trace::default(), tokio::time::Instant::now());
    let expected = ["the allocator did not answer within 30s"];
    let error = refused(Late(Duration::MAX).start(), steps(&trace, &["a"]), &expected).await;
    assert!(matches!(error, PlanError::Allocator { .. }));
    let waited = began.elapsed();
    assert!(waited >= RESOLVE_TIMEOUT && waited < RESOLVE_TIMEOUT + Duration::from_millis(10), "{waited:?}");
    assert_eq!(trace.all(), [""; 0]);
}

#[actix::test]
async fn an_allocator_may_take_its_time_up_to_the_timeout() {
    tokio::time::pause();
    let (trace, began) = (Trace::default(), tokio::time::Instant::now());
    let late = RESOLVE_TIMEOUT - Duration::from_secs(1);
    let actors = start_with(Late(late).start());
    actors.orchestrator.send(ExecutePlan::new(steps(&trace, &["a"]))).await.unwrap().unwrap();
    assert_eq!(trace.all(), ["a"]);
    assert!(began.elapsed() >= late);
}

/// An allocator that keeps plans with a step `slow` until it is released, or for ever.
struct Selective(Arc<Notify>);

impl Actor for Selective {
    type Context = Context<Self>;
}

impl Handler<Resolve> for Selective {
    type Result = ResponseFuture<Resolved>;

    fn handle(&mut self, resolve: Resolve, _: &mut Self::Context) -> Self::Result {
        let release = Arc::clone(&self.0);
        Box::pin(async move {
            if resolve.steps().any(|step| step.id() == Some("slow")) {
                release.notified().await;
            }
            own(&resolve)
        })
    }
}

#[actix::test]
async fn a_plan_does_not_overtake_one_that_is_still_being_resolved() {
    let (trace, release) = (Trace::default(), Arc::new(Notify::new()));
    let actors = start_with(Selective(Arc::clone(&release)).start());
    let slow = actors.orchestrator.send(ExecutePlan::new(steps(&trace, &["slow"])));
    let quick = actors.orchestrator.send(ExecutePlan::new(steps(&trace, &["quick"])));
    let (slow, quick, ()) = tokio::join!(slow, quick, async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        trace.note("released");
        release.notify_one();
    });
    slow.unwrap().unwrap();
    quick.unwrap().unwrap();
    assert_eq!(trace.all(), ["released", "slow", "quick"]);
}

#[actix::test]
async fn a_plan_behind_one_that_is_never_resolved_runs_after_the_timeout() {
    tokio::time::pause();
    let trace = Trace::default();
    let actors = start_with(Selective(Arc::new(Notify::new())).start());
    let (slow, quick) = tokio::join!(
        actors.orchestrator.send(ExecutePlan::new(steps(&trace, &["slow"]))),
        actors.orchestrator.send(ExecutePlan::new(steps(&trace, &["quick"]))),
    );
    assert_eq!(slow.unwrap().unwrap_err().to_string(), "the allocator did not answer within 30s");
    quick.unwrap().unwrap();
    assert_eq!(trace.all(), ["quick"]);
}

#[actix::test]
async fn the_orchestrator_is_alive_after_an_allocator_failed() {
    let trace = Trace::default();
    let actors = start_with(
        Custom(|resolve: &Resolve| {
            resolve.each(|step| match step.id() {
                Some("bad") => Err(AllocatorError::other("bad")),
                _ => Ok(step.callable().unwrap().clone()),
            })
        })
        .start(),
    );
    actors.orchestrator.send(ExecutePlan::new(steps(&trace, &["bad"]))).await.unwrap().unwrap_err();
    actors.orchestrator.send(ExecutePlan::new(steps(&trace, &["good"]))).await.unwrap().unwrap();
    assert_eq!(trace.all(), ["good"]);
}
