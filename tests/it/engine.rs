//! The engine: the four actors in one handle, with and without an actix system.

use std::time::Duration;

use lunacore::{
    CancelOutcome, Engine, EngineError, Event, ExecutePlan, ListPlans, PlanError, RegistryAllocator,
    RunState, Shutdown, Step,
};
use serde_json::json;

use crate::support::{Trace, engine};

fn is_send<T: Send>(value: T) -> T {
    value
}

#[test]
fn a_handle_can_go_anywhere() {
    fn anywhere<T: Clone + Send + Sync + 'static>() {}
    anywhere::<Engine>();
    is_send(Engine::builder());
}

#[actix::test]
async fn every_method_does_what_its_message_does() {
    let engine = engine();
    let mut stream = engine.subscribe_stream("*").await.unwrap();
    let trace = Trace::default();
    let noted = trace.clone();
    let seen = engine.subscribe("task.*", move |event: Event| noted.note(event.to_string())).await.unwrap();

    let results = engine.execute([Step::new("process", || "processed_data")]).await.unwrap();
    assert_eq!(results, ["processed_data"]);
    let artifact = engine.artifact("task:process").await.unwrap().unwrap();
    assert_eq!(artifact.text(), Some("processed_data"));
    assert!(engine.artifact("task:other").await.unwrap().is_none());

    let run = engine.submit(ExecutePlan::new([Step::new("wait", std::future::pending::<()>)])).await.unwrap();
    assert_eq!(engine.status(run.run_id()).await.unwrap().state, RunState::Running);
    assert_eq!(engine.cancel(run.run_id()).await.unwrap(), CancelOutcome::Cancelled);
    assert!(matches!(run.await, Err(PlanError::Cancelled { .. })));
    let listed = engine.list(ListPlans::new()).await.unwrap();
    assert_eq!(
        listed.iter().map(|info| info.state).collect::<Vec<_>>(),
        [RunState::Completed, RunState::Cancelled]
    );
    assert_eq!(engine.results(&listed[0].run_id).await.unwrap(), Some(vec![json!("processed_data")]));

    engine.emit(Event::custom("tick", json!(1))).await.unwrap();
    engine.flush(Duration::from_secs(30)).await.unwrap();
    assert_eq!(
        trace.all(),
        ["task.started process", "task.completed process", "task.started wait", "task.cancelled wait"]
    );
    assert!(seen.is_active());
    while stream.next().await.unwrap().event_type() != "tick" {}

    let report = engine.shutdown(Shutdown { drain: true, timeout: Duration::ZERO }).await;
    assert_eq!(report.completed, 0);
    assert!(matches!(engine.execute([]).await, Err(PlanError::Stopped)));
}

#[test]
fn the_wrong_constructor_says_which_is_right() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let error = runtime
        .block_on(async { tokio::spawn(async { Engine::builder().start().unwrap_err() }).await.unwrap() });
    assert!(matches!(error, EngineError::NoSystem));
    assert_eq!(
        error.to_string(),
        "no actix system runs on this thread; call `spawn` instead of `start`, or use `#[actix::main]`"
    );
}

#[test]
fn a_system_without_a_running_arbiter_is_told_apart_too() {
    let system = actix::System::new();
    assert!(matches!(Engine::builder().start(), Err(EngineError::NoSystem)));
    drop(system);
}

#[tokio::test]
async fn a_final_status_always_carries_its_facts() {
    let engine = Engine::spawn().unwrap();
    for n in 0..300 {
        let run = engine.submit([Step::new("fail", || Err::<(), _>("broken")).inline()]).await.unwrap();
        let info = loop {
            let info = engine.status(run.run_id()).await.unwrap();
            if info.state.is_final() {
                break info;
            }
        };
        let facts = (info.state, info.failure.is_some(), info.finished_at.is_some(), info.current);
        assert_eq!(facts, (RunState::Failed, true, true, None), "round {n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spawned_engine_serves_every_task_of_a_tokio_program() {
    let engine = Engine::builder()
        .allocator(
            RegistryAllocator::new()
                .register("double", |ctx: lunacore::StepContext| ctx.input::<i64>().map(|n| 2 * n)),
        )
        .max_concurrent_plans(3)
        .spawn()
        .unwrap();
    let tasks: Vec<_> = (0..10)
        .map(|n| {
            let engine = engine.clone();
            tokio::spawn(is_send(async move {
                engine.execute([Step::named("double").input(json!(n))]).await.unwrap()
            }))
        })
        .collect();
    for (n, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await.unwrap(), [2 * n]);
    }
}

#[tokio::test]
async fn a_spawned_engine_ends_when_it_is_shut_down_or_let_go() {
    let engine = Engine::spawn().unwrap();
    let mut events = engine.subscribe_stream("*").await.unwrap();
    let run = engine.submit([Step::new("last", || "done")]).await.unwrap();
    // The last handle goes while a plan may still run: it finishes, then the bus closes its streams.
    drop(engine);
    assert_eq!(run.await.unwrap(), ["done"]);
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event);
    }
    assert_eq!(last.unwrap().event_type(), "plan.completed");

    let engine = Engine::spawn().unwrap();
    let mut events = engine.subscribe_stream("*").await.unwrap();
    let report = engine.shutdown(Shutdown { drain: false, timeout: Duration::ZERO }).await;
    assert_eq!(report, lunacore::ShutdownReport::default());
    assert!(events.next().await.is_none());
    assert!(matches!(engine.execute([]).await, Err(PlanError::Stopped)));
}

#[tokio::test]
async fn the_last_events_reach_a_closure_before_the_engine_is_gone() {
    let trace = Trace::default();
    let engine = Engine::spawn().unwrap();
    let noted = trace.clone();
    engine.subscribe("plan.*", move |event: Event| noted.note(event.to_string())).await.unwrap();
    engine.execute([Step::new("a", || 1)]).await.unwrap();
    engine.shutdown(Shutdown { drain: true, timeout: Duration::from_secs(5) }).await;
    assert_eq!(trace.all(), ["plan.accepted", "plan.started", "plan.completed"]);
}
