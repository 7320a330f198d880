//! Events: what a plan says and in which order, what is stored of it, and the JSON form.

use std::collections::HashSet;
use std::future::pending;
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::faults::{Fault, Faulty};
use actix::prelude::*;
use bytes::Bytes;
use lunacore::{
    Artifact, CancelOutcome, CancelPlan, Emit, Event, EventKind, EventStream, ExecutePlan,
    ExecutionOrchestrator, FailureKind, Flush, Get, GetRun, IntoOutput, MemoryError, Output, PlanError,
    ProjectMemory, RunRecord, SimpleAllocator, Step, StepContext, StepFailure, SubmitPlan, Subscribe,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::oneshot;

use super::support::{Actors, next, run_id, start, until, watch};

async fn execute(actors: &Actors, plan: impl Into<ExecutePlan>) -> Result<Vec<Value>, PlanError> {
    actors.orchestrator.send(plan.into()).await.unwrap()
}

async fn cancel(actors: &Actors, run: &str) -> CancelOutcome {
    actors.orchestrator.send(CancelPlan(run_id(run))).await.unwrap().unwrap()
}

/// All events that were published so far.
async fn all(actors: &Actors, events: &mut EventStream) -> Vec<Event> {
    actors.bus.send(Emit(Event::custom("so.far", Value::Null))).await.unwrap().unwrap();
    let mut seen = until(events, "so.far").await;
    seen.pop();
    seen
}

/// What was said so far, as `type step`.
async fn said(actors: &Actors, events: &mut EventStream) -> Vec<String> {
    all(actors, events).await.iter().map(ToString::to_string).collect()
}

fn failing(id: &str) -> Step {
    Step::new(id.to_owned(), || Err::<(), _>("broken"))
}

// What a plan says.

#[actix::test]
async fn a_plan_that_completes_says_so_step_by_step() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    execute(&actors, [Step::new("a", || 1), Step::new("b", || async { 2 })]).await.unwrap();
    let expected = [
        "plan.accepted",
        "plan.started",
        "task.started a",
        "task.completed a",
        "task.started b",
        "task.completed b",
        "plan.completed",
    ];
    assert_eq!(said(&actors, &mut events).await, expected);
}

#[actix::test]
async fn a_plan_that_fails_says_where_and_nothing_of_the_steps_behind() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    execute(&actors, [Step::new("a", || 1), failing("b"), Step::new("c", || 3)]).await.unwrap_err();
    let expected = [
        "plan.accepted",
        "plan.started",
        "task.started a",
        "task.completed a",
        "task.started b",
        "task.failed b",
        "plan.failed b",
    ];
    assert_eq!(said(&actors, &mut events).await, expected);
}

#[actix::test]
async fn a_plan_that_is_cancelled_in_an_async_step_says_that_the_step_was_cancelled() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let plan = ExecutePlan::new([Step::new("a", pending::<()>), Step::new("b", || 2)]).run_id("run");
    let run = actors.orchestrator.send(SubmitPlan(plan)).await.unwrap().unwrap();
    assert_eq!(cancel(&actors, "run").await, CancelOutcome::Cancelled);
    assert!(matches!(run.await, Err(PlanError::Cancelled { .. })));
    let expected = ["plan.accepted", "plan.started", "task.started a", "task.cancelled a", "plan.cancelled"];
    assert_eq!(said(&actors, &mut events).await, expected);
}

/// Runs a plan whose first step blocks, cancels it meanwhile, and lets the step end with this.
async fn cancelled_while_blocking(end: Result<u32, &'static str>) -> Vec<String> {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let ((called, mut was_called), (release, released)) = (unbounded_channel(), mpsc::channel::<()>());
    let released = std::sync::Mutex::new(released);
    let block = move || {
        called.send(()).unwrap();
        let _ = released.lock().unwrap().recv();
        end
    };
    let plan = ExecutePlan::new([Step::new("a", block), Step::new("b", || 2)]).run_id("run");
    let run = actors.orchestrator.send(SubmitPlan(plan)).await.unwrap().unwrap();
    was_called.recv().await.unwrap();
    assert_eq!(cancel(&actors, "run").await, CancelOutcome::Stopping);
    drop(release);
    assert!(matches!(run.await, Err(PlanError::Cancelled { .. })));
    said(&actors, &mut events).await
}

#[actix::test]
async fn a_cancelled_plan_whose_blocking_step_still_returns_says_that_the_step_completed() {
    let expected = [
        "plan.accepted",
        "plan.started",
        "task.started a",
        "plan.stopping",
        "task.completed a",
        "plan.cancelled",
    ];
    assert_eq!(cancelled_while_blocking(Ok(1)).await, expected);
}

#[actix::test]
async fn a_cancelled_plan_whose_blocking_step_gives_up_says_that_the_step_was_cancelled() {
    let expected = [
        "plan.accepted",
        "plan.started",
        "task.started a",
        "plan.stopping",
        "task.cancelled a",
        "plan.cancelled",
    ];
    assert_eq!(cancelled_while_blocking(Err("told to stop")).await, expected);
}

#[actix::test]
async fn an_empty_plan_is_accepted_started_and_completed() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    assert_eq!(execute(&actors, []).await.unwrap(), [0; 0]);
    assert_eq!(said(&actors, &mut events).await, ["plan.accepted", "plan.started", "plan.completed"]);
}

#[actix::test]
async fn a_plan_that_queues_is_accepted_at_once_and_started_in_its_turn() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let (release, released) = oneshot::channel::<()>();
    let released = std::sync::Mutex::new(Some(released));
    let wait = move || {
        let released = released.lock().unwrap().take().unwrap();
        async { released.await.map_err(|error| error.to_string()) }
    };
    let first = ExecutePlan::new([Step::new("a", wait)]);
    let first = actors.orchestrator.send(SubmitPlan(first)).await.unwrap().unwrap();
    let second = ExecutePlan::new([Step::new("b", || 2)]);
    let second = actors.orchestrator.send(SubmitPlan(second)).await.unwrap().unwrap();
    let accepted = ["plan.accepted", "plan.started", "task.started a", "plan.accepted"];
    assert_eq!(said(&actors, &mut events).await, accepted);

    release.send(()).unwrap();
    first.await.unwrap();
    second.await.unwrap();
    let ran = [
        "task.completed a",
        "plan.completed",
        "plan.started",
        "task.started b",
        "task.completed b",
        "plan.completed",
    ];
    assert_eq!(said(&actors, &mut events).await, ran);
}

#[actix::test]
async fn a_plan_that_is_cancelled_in_the_queue_says_nothing_of_its_steps() {
    let actors = start();
    let first = ExecutePlan::new([Step::new("a", pending::<()>)]).run_id("first");
    actors.orchestrator.send(SubmitPlan(first)).await.unwrap().unwrap();
    let mut events = watch(&actors.bus).await;
    let second = ExecutePlan::new([Step::new("b", || 2)]).run_id("second");
    actors.orchestrator.send(SubmitPlan(second)).await.unwrap().unwrap();
    assert_eq!(cancel(&actors, "second").await, CancelOutcome::Cancelled);
    assert_eq!(said(&actors, &mut events).await, ["plan.accepted", "plan.cancelled"]);
}

#[actix::test]
async fn a_plan_that_is_refused_says_nothing() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    execute(&actors, [Step::new("a", || 1), Step::new("a", || 2)]).await.unwrap_err();
    execute(&actors, [Step::new("a", || 1), Step::named("nobody")]).await.unwrap_err();
    execute(&actors, ExecutePlan::new([Step::new("a", || 1)]).run_id("\n")).await.unwrap_err();
    assert_eq!(said(&actors, &mut events).await, [""; 0]);
    execute(&actors, []).await.unwrap();
    assert_eq!(all(&actors, &mut events).await[0].seq(), Some(1));
}

// What is stored.

#[actix::test]
async fn stored_events_are_numbered_from_one_without_a_gap_across_plans() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let report = |ctx: StepContext| ctx.progress(json!("half")).map_err(|error| error.to_string());
    execute(&actors, [Step::new("a", report)]).await.unwrap();
    execute(&actors, [failing("b")]).await.unwrap_err();
    execute(&actors, [Step::unnamed(|| 1), Step::unnamed(|| 2)]).await.unwrap();
    let seen = all(&actors, &mut events).await;
    let numbers: Vec<u64> = seen.iter().filter_map(Event::seq).collect();
    assert_eq!(numbers, (1..=5 + 5 + 7).collect::<Vec<_>>());
    assert_eq!(seen.len(), numbers.len() + 1, "and one report of progress");
}

#[actix::test]
async fn progress_has_no_number() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let report = |ctx: StepContext| ctx.progress(json!({ "done": 1 })).map_err(|error| error.to_string());
    execute(&actors, [Step::new("a", report)]).await.unwrap();
    let seen = all(&actors, &mut events).await;
    let progress: Vec<&Event> = seen.iter().filter(|event| event.event_type() == "task.progress").collect();
    assert_eq!(progress.len(), 1);
    assert_eq!((progress[0].seq(), progress[0].task_id()), (None, Some("a")));
}

#[actix::test]
async fn every_event_of_a_plan_carries_its_run_id() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let report = |ctx: StepContext| ctx.progress(json!(1)).map_err(|error| error.to_string());
    for run in ["first", "second"] {
        execute(&actors, ExecutePlan::new([Step::new("a", report), failing("b")]).run_id(run))
            .await
            .unwrap_err();
    }
    let runs: Vec<String> =
        all(&actors, &mut events).await.iter().map(|event| event.run_id().unwrap().to_string()).collect();
    assert_eq!(runs, [["first"; 8], ["second"; 8]].concat());
}

#[actix::test]
async fn a_plan_without_a_run_id_gets_one_that_its_events_carry() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let run = actors
        .orchestrator
        .send(SubmitPlan(ExecutePlan::new([Step::new("a", || 1)])))
        .await
        .unwrap()
        .unwrap();
    let given = run.run_id().clone();
    run.await.unwrap();
    assert!(all(&actors, &mut events).await.iter().all(|event| event.run_id() == Some(&given)));
    assert_eq!(given.as_str().parse::<uuid::Uuid>().unwrap().get_version_num(), 7);
}

/// Reads from memory what an event tells, as soon as it arrives, and passes both on.
struct Checker {
    memory: Addr<ProjectMemory>,
    found: tokio::sync::mpsc::UnboundedSender<(String, Option<Artifact>, RunRecord)>,
}

impl Actor for Checker {
    type Context = Context<Self>;
}

impl Handler<Event> for Checker {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, event: Event, _: &mut Self::Context) -> Self::Result {
        let (memory, found) = (self.memory.clone(), self.found.clone());
        Box::pin(async move {
            let run = memory.send(GetRun(event.run_id().unwrap().clone())).await.unwrap().unwrap().unwrap();
            let key = format!("task:{}", event.task_id().unwrap());
            let artifact = memory.send(Get::latest(key)).await.unwrap().unwrap();
            found.send((event.to_string(), artifact, run)).unwrap();
        })
    }
}

#[actix::test]
async fn an_event_comes_when_what_it_tells_is_stored_and_before_the_next_step_has_ended() {
    let actors = start();
    let (found, mut founds) = unbounded_channel();
    let checker = Checker { memory: actors.memory.clone(), found }.start();
    actors.bus.send(Subscribe::new("task.*", checker)).await.unwrap().unwrap();
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let wait = move || released.lock().unwrap().recv().map(|()| "first");
    let plan = ExecutePlan::new([Step::new("a", wait), Step::new("b", pending::<()>)]).run_id("run");
    actors.orchestrator.send(SubmitPlan(plan)).await.unwrap().unwrap();

    let (event, artifact, run) = founds.recv().await.unwrap();
    assert_eq!((event.as_str(), artifact, run.cursor, run.attempt), ("task.started a", None, 0, 1));
    release.send(()).unwrap();
    let (event, artifact, run) = founds.recv().await.unwrap();
    assert_eq!(event, "task.completed a");
    assert_eq!(artifact.unwrap().text(), Some("first"));
    // The intent to run the next step is in the same commit.
    assert_eq!((run.cursor, run.attempt), (1, 1));
    let (event, ..) = founds.recv().await.unwrap();
    assert_eq!(event, "task.started b");
}

#[actix::test]
async fn what_could_not_be_stored_is_not_told() {
    let bus = lunacore::EventBus::new().start();
    let memory = ProjectMemory::with_store(Faulty::new(2, Fault::Error)).start();
    let orchestrator =
        ExecutionOrchestrator::new(bus.clone(), memory.clone(), SimpleAllocator.start()).start();
    let actors = Actors { orchestrator, bus, memory };
    let mut events = watch(&actors.bus).await;
    let refused = execute(&actors, [Step::new("a", || 1), Step::new("b", || 2)]).await.unwrap_err();
    assert!(matches!(refused, PlanError::Memory { source: MemoryError::Store(_), .. }), "{refused}");
    assert_eq!(said(&actors, &mut events).await, ["plan.accepted", "plan.started", "task.started a"]);
}

#[actix::test]
async fn events_have_the_times_of_the_run_record() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let before = SystemTime::now();
    execute(&actors, ExecutePlan::new([Step::new("a", || 1)]).run_id("run")).await.unwrap();
    let after = SystemTime::now();
    let seen = all(&actors, &mut events).await;
    let run = actors.memory.send(GetRun(run_id("run"))).await.unwrap().unwrap().unwrap();
    let at =
        |event_type: &str| seen.iter().find(|event| event.event_type() == event_type).map(Event::timestamp);
    assert_eq!(at("plan.accepted"), Some(run.accepted_at));
    assert_eq!(at("task.started"), run.started_at);
    assert_eq!(at("plan.completed"), run.finished_at);
    // Cut to microseconds, so the first may be that much too early.
    assert!(run.accepted_at + Duration::from_micros(1) > before && run.finished_at.unwrap() <= after);
    assert!(seen.is_sorted_by_key(Event::timestamp));
}

#[actix::test]
async fn every_event_has_an_id_of_its_own() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    execute(&actors, (0..500).map(|_| Step::unnamed(|| ()).inline()).collect::<Vec<_>>()).await.unwrap();
    let seen = all(&actors, &mut events).await;
    let ids: HashSet<uuid::Uuid> = seen.iter().map(Event::id).collect();
    assert_eq!((seen.len(), ids.len()), (1_003, 1_003));
    assert!(ids.iter().all(|id| id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122));
}

// The JSON form.

/// The JSON of an event without its id and timestamp, which are checked against the event.
fn body(event: &Event) -> Value {
    let mut json = serde_json::to_value(event).unwrap();
    let fields = json.as_object_mut().unwrap();
    assert_eq!(fields.remove("id"), Some(json!(event.id().to_string())));
    let timestamp = humantime::format_rfc3339_micros(event.timestamp()).to_string();
    assert_eq!(fields.remove("timestamp"), Some(json!(timestamp)));
    json
}

#[actix::test]
async fn the_events_of_a_completing_plan_are_flat_json() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let process = |ctx: StepContext| {
        ctx.progress(json!({ "percent": 50 })).map_err(|error| error.to_string())?;
        Ok::<_, String>(vec![1, 2])
    };
    let steps = [
        Step::unnamed(process),
        Step::new("fetch", || async { "remote" }).agent("fetcher"),
        Step::new("bytes", || Bytes::from_static(b"\xff\x00")),
    ];
    let plan = lunacore::Plan::new(steps).name("nightly");
    execute(&actors, ExecutePlan::new(plan).run_id("run")).await.unwrap();
    let bodies: Vec<Value> = all(&actors, &mut events).await.iter().map(body).collect();
    let expected = [
        json!({ "seq": 1, "run_id": "run", "type": "plan.accepted", "name": "nightly", "steps": 3 }),
        json!({ "seq": 2, "run_id": "run", "type": "plan.started" }),
        json!({ "seq": 3, "run_id": "run", "type": "task.started", "task_id": "step_0",
            "agent_id": "orchestrator", "attempt": 1 }),
        json!({ "run_id": "run", "type": "task.progress", "task_id": "step_0", "attempt": 1,
            "value": { "percent": 50 } }),
        json!({ "seq": 4, "run_id": "run", "type": "task.completed", "task_id": "step_0", "result": [1, 2] }),
        json!({ "seq": 5, "run_id": "run", "type": "task.started", "task_id": "fetch",
            "agent_id": "fetcher", "attempt": 1 }),
        json!({ "seq": 6, "run_id": "run", "type": "task.completed", "task_id": "fetch", "result": "remote" }),
        json!({ "seq": 7, "run_id": "run", "type": "task.started", "task_id": "bytes",
            "agent_id": "orchestrator", "attempt": 1 }),
        json!({ "seq": 8, "run_id": "run", "type": "task.completed", "task_id": "bytes", "result": "/wA=" }),
        json!({ "seq": 9, "run_id": "run", "type": "plan.completed" }),
    ];
    assert_eq!(bodies, expected);
}

#[derive(Debug, thiserror::Error)]
#[error("no connection")]
struct NoConnection(#[source] std::io::Error);

#[actix::test]
async fn the_events_of_a_failing_plan_are_flat_json_with_the_chain_of_causes() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let connect = || Err::<(), _>(NoConnection(std::io::Error::other("cable cut")));
    execute(&actors, ExecutePlan::new([Step::new("connect", connect)]).run_id("run")).await.unwrap_err();
    let bodies: Vec<Value> = all(&actors, &mut events).await.iter().map(body).collect();
    let expected = [
        json!({ "seq": 4, "run_id": "run", "type": "task.failed", "task_id": "connect", "attempt": 1,
            "will_retry": false, "kind": "error", "error": "no connection", "causes": ["cable cut"] }),
        json!({ "seq": 5, "run_id": "run", "type": "plan.failed", "task_id": "connect",
            "kind": "error", "error": "no connection", "causes": ["cable cut"] }),
    ];
    assert_eq!(bodies[3..], expected);
}

#[actix::test]
async fn an_event_tells_what_sort_of_failure_it_was() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let panicking = Step::new("a", || {
        if true {
            panic!("on purpose")
        }
    });
    execute(&actors, [panicking]).await.unwrap_err();
    execute(&actors, [Step::new("b", || f64::NAN)]).await.unwrap_err();
    let failed: Vec<Value> = all(&actors, &mut events)
        .await
        .iter()
        .filter(|event| event.event_type() == "task.failed")
        .map(|event| json!([event.get("kind"), event.get("error"), event.get("causes")]))
        .collect();
    let not_finite = "the output NaN is not a JSON number; return None or a string instead";
    assert_eq!(failed, [json!(["panic", "panicked: on purpose", null]), json!(["output", not_finite, null])]);
}

#[actix::test]
async fn the_events_of_a_cancelled_plan_are_flat_json() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let plan = ExecutePlan::new([Step::new("a", pending::<()>)]).run_id("run");
    actors.orchestrator.send(SubmitPlan(plan)).await.unwrap().unwrap();
    cancel(&actors, "run").await;
    let bodies: Vec<Value> = all(&actors, &mut events).await.iter().map(body).collect();
    let expected = [
        json!({ "seq": 4, "run_id": "run", "type": "task.cancelled", "task_id": "a", "attempt": 1 }),
        json!({ "seq": 5, "run_id": "run", "type": "plan.cancelled" }),
    ];
    assert_eq!(bodies[3..], expected);
}

#[actix::test]
async fn a_lagged_event_is_flat_json_and_belongs_to_no_run() {
    let actors = start();
    let narrow = lunacore::SubscribeStream::new("*").capacity(1);
    let mut narrow = actors.bus.send(narrow).await.unwrap().unwrap();
    execute(&actors, []).await.unwrap();
    actors.bus.send(Flush::default()).await.unwrap().unwrap();
    let lagged = narrow.next().await.unwrap();
    assert_eq!(body(&lagged), json!({ "type": "subscription.lagged", "missed": 2 }));
    assert_eq!(next(&mut narrow, 1).await, ["plan.completed"]);
}

#[test]
fn an_applications_event_is_flat_json() {
    let event = Event::custom("billing.done", json!({ "invoice": 17, "lines": [{ "net": 1.5 }] }));
    let expected = json!({ "type": "billing.done", "invoice": 17, "lines": [{ "net": 1.5 }] });
    assert_eq!(body(&event), expected);
}

#[test]
fn an_event_has_a_utc_timestamp_with_microseconds() {
    let at = UNIX_EPOCH + Duration::from_nanos(1_795_435_200_000_001_999);
    let event = Event::stored(7, at, run_id("run"), EventKind::PlanStarted {});
    assert_eq!(event.timestamp(), UNIX_EPOCH + Duration::from_micros(1_795_435_200_000_001));
    assert_eq!(event.get("timestamp"), Some(json!("2026-11-23T12:00:00.000001Z")));
    // The id holds the same moment, to the millisecond (RFC 9562).
    assert_eq!(event.id().as_u128() >> 80, 1_795_435_200_000);
}

#[test]
fn a_whole_second_is_written_with_microseconds_too() {
    let at = UNIX_EPOCH + Duration::from_secs(1_795_435_200);
    let event = Event::stored(7, at, run_id("run"), EventKind::PlanStarted {});
    assert_eq!(event.get("timestamp"), Some(json!("2026-11-23T12:00:00.000000Z")));
}

/// One event of every type, with and without what is optional.
fn one_of_each() -> Vec<Event> {
    let task = || "process".into();
    let output = |value: Value| value.into_output().unwrap();
    let deep = NoConnection(std::io::Error::other("cable cut"));
    let flat = std::io::Error::other("cable cut");
    let failure = || StepFailure::record(FailureKind::Panic, &deep).into();
    let value = json!({ "a": [1, -2, 3.5, null, true, u64::MAX, i64::MIN], "ä\n\"": { "": {} } });
    [
        EventKind::PlanAccepted { name: None, steps: 2 },
        EventKind::PlanAccepted { name: Some("nightly".into()), steps: 0 },
        EventKind::PlanStarted {},
        EventKind::PlanCompleted {},
        EventKind::PlanFailed { task_id: task(), failure: failure() },
        EventKind::PlanCancelled {},
        EventKind::TaskStarted { task_id: task(), agent_id: "ada".into(), attempt: 3, fallback: false },
        EventKind::TaskCompleted { task_id: task(), result: output(value.clone()) },
        EventKind::TaskCompleted { task_id: task(), result: output(Value::Null) },
        EventKind::TaskFailed {
            task_id: task(),
            attempt: 2,
            will_retry: true,
            next_attempt_at: Some(SystemTime::UNIX_EPOCH + Duration::from_micros(1)),
            failure: failure(),
        },
        EventKind::TaskFailed {
            task_id: task(),
            attempt: u32::MAX,
            will_retry: false,
            next_attempt_at: None,
            failure: StepFailure::record(FailureKind::Artifact, &flat).into(),
        },
        EventKind::TaskCancelled { task_id: task(), attempt: 1 },
        EventKind::TaskProgress { task_id: task(), attempt: 1, value: value.clone().into() },
        EventKind::TaskProgress { task_id: task(), attempt: 1, value: Value::Null.into() },
        EventKind::SubscriptionLagged { missed: u64::MAX },
        EventKind::Custom { event_type: "billing.done".into(), payload: value.as_object().unwrap().clone() },
        EventKind::Custom { event_type: "billing.done".into(), payload: Map::new() },
    ]
    .into_iter()
    .map(|kind| Event::stored(9, SystemTime::now(), run_id("nightly-Ä"), kind))
    .collect()
}

#[test]
fn every_type_of_event_round_trips_through_json_text() {
    for event in one_of_each() {
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event, "{text}");
    }
}

#[test]
fn every_type_of_event_round_trips_through_a_json_value() {
    for event in one_of_each() {
        let value = serde_json::to_value(&event).unwrap();
        assert_eq!(serde_json::from_value::<Event>(value).unwrap(), event);
        let kind = serde_json::to_value(event.kind()).unwrap();
        assert_eq!(serde_json::from_value::<EventKind>(kind).unwrap(), *event.kind());
    }
}

#[test]
fn an_event_is_read_back_as_its_own_type_not_as_a_custom_one() {
    for event in one_of_each().iter().take(15) {
        let read: Event = serde_json::from_value(serde_json::to_value(event).unwrap()).unwrap();
        assert!(!matches!(read.kind(), EventKind::Custom { .. }), "{read}");
    }
}

#[test]
fn raw_bytes_in_an_event_come_back_as_their_base64_text() {
    let result = Bytes::from_static(b"\xff\x00").into_output().unwrap();
    let kind = EventKind::TaskCompleted { task_id: "a".into(), result };
    let json = serde_json::to_value(&kind).unwrap();
    let read: EventKind = serde_json::from_value(json.clone()).unwrap();
    assert!(matches!(&read, EventKind::TaskCompleted { result: Output::Json(text), .. } if **text == "/wA="));
    assert_eq!(serde_json::to_value(&read).unwrap(), json);
}

fn envelope(fields: Value) -> Value {
    let mut json = json!({ "id": "01993f0e-0000-7000-8000-000000000000", "seq": 4, "run_id": "nightly",
        "timestamp": "2026-11-23T12:00:00.000001Z" });
    json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json
}

#[test]
fn an_unknown_future_type_round_trips_with_all_its_fields() {
    let json = envelope(json!({ "type": "task.hibernated", "task_id": "a", "until": { "wake": [1, null] } }));
    let event: Event = serde_json::from_value(json.clone()).unwrap();
    assert_eq!((event.event_type(), event.seq()), ("task.hibernated", Some(4)));
    assert_eq!(event.get("until"), Some(json!({ "wake": [1, null] })));
    assert_eq!(serde_json::to_value(&event).unwrap(), json);
}

#[test]
fn a_failure_of_an_unknown_future_kind_round_trips() {
    let json = envelope(json!({ "type": "task.failed", "task_id": "a", "attempt": 1,
        "will_retry": false, "kind": "fatigue", "error": "too slow" }));
    let event: Event = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(event.event_type(), "task.failed");
    assert_eq!(serde_json::to_value(&event).unwrap(), json);
}

#[test]
fn an_event_without_an_envelope_is_not_read() {
    for (missing, says) in [("id", "missing field `id`"), ("timestamp", "missing field `timestamp`")] {
        let mut json = envelope(json!({ "type": "plan.started" }));
        json.as_object_mut().unwrap().remove(missing);
        let error = serde_json::from_value::<Event>(json).unwrap_err().to_string();
        assert_eq!(error, says);
    }
}

#[test]
fn an_event_with_a_malformed_field_is_not_read() {
    for (field, value) in [
        ("id", json!("not an id")),
        ("seq", json!(-1)),
        ("timestamp", json!("yesterday")),
        ("run_id", json!("")),
        ("run_id", json!("a\nb")),
        ("type", json!(5)),
        ("type", json!(null)),
    ] {
        let json = envelope(json!({ "type": "plan.started", (field): value }));
        assert!(serde_json::from_value::<Event>(json).is_err(), "{field}");
    }
}

#[test]
fn an_event_without_a_type_is_refused_with_a_message_that_says_so() {
    for json in [envelope(json!({})), envelope(json!({ "type": 5 }))] {
        let error = serde_json::from_value::<Event>(json).unwrap_err().to_string();
        assert!(error.contains("`type`"), "{error}");
    }
}

#[test]
fn an_event_with_nanoseconds_is_read_to_the_microsecond() {
    let json = envelope(json!({ "type": "plan.started", "timestamp": "2026-11-23T12:00:00.123456789Z" }));
    let event: Event = serde_json::from_value(json).unwrap();
    let reread: Event = serde_json::from_value(serde_json::to_value(&event).unwrap()).unwrap();
    assert_eq!(reread, event);
}

#[test]
fn a_custom_object_becomes_the_events_own_fields() {
    let event = Event::custom("a.b", json!({ "x": 1, "task_id": "t", "data": null }));
    assert_eq!(body(&event), json!({ "type": "a.b", "x": 1, "task_id": "t", "data": null }));
}

#[test]
fn any_other_payload_becomes_the_field_data() {
    for payload in [json!(3), json!("text"), json!([1, 2]), json!(null), json!(true)] {
        let event = Event::custom("a.b", payload.clone());
        assert_eq!(body(&event), json!({ "type": "a.b", "data": payload }));
    }
}

#[test]
fn an_object_that_uses_a_name_of_the_envelope_becomes_the_field_data() {
    for name in ["id", "seq", "timestamp", "run_id", "type"] {
        let payload = json!({ (name): "mine", "x": 1 });
        let event = Event::custom("a.b", payload.clone());
        assert_eq!(body(&event), json!({ "type": "a.b", "data": payload }));
        assert_eq!((event.event_type(), event.seq(), event.run_id()), ("a.b", None, None));
    }
}

#[test]
fn a_field_is_read_by_its_name_in_json() {
    let kind =
        EventKind::TaskStarted { task_id: "a".into(), agent_id: "ada".into(), attempt: 2, fallback: false };
    let event = Event::stored(5, SystemTime::now(), run_id("run"), kind);
    assert_eq!(event.get("attempt"), Some(json!(2)));
    assert_eq!((event.get("seq"), event.get("run_id")), (Some(json!(5)), Some(json!("run"))));
    assert_eq!(event.get("absent"), None);
}

#[test]
fn only_the_last_event_of_a_plan_ends_its_run() {
    let ends: Vec<String> =
        one_of_each().iter().filter(|event| event.ends_run()).map(ToString::to_string).collect();
    assert_eq!(ends, ["plan.completed", "plan.failed process", "plan.cancelled"]);
}

#[test]
fn only_events_about_a_step_name_one() {
    let named: Vec<String> =
        one_of_each().iter().filter_map(|e| e.task_id().map(|id| format!("{e}={id}"))).collect();
    let expected = [
        "plan.failed process=process",
        "task.started process=process",
        "task.completed process=process",
        "task.completed process=process",
        "task.failed process=process",
        "task.failed process=process",
        "task.cancelled process=process",
        "task.progress process=process",
        "task.progress process=process",
    ];
    assert_eq!(named, expected);
}

/// Any JSON that text can hold exactly.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_object_with_a_type_round_trips(
        event_type in r"(x|task|plan|subscription)\.\PC{0,12}x",
        fields in proptest::collection::btree_map(".{0,8}|task_id|attempt|error|kind|missed|id", any_json(), 0..6),
    ) {
        let mut payload: Map<String, Value> = fields.into_iter().filter(|(name, _)| name != "type").collect();
        let kind = EventKind::Custom { event_type: event_type.as_str().into(), payload: payload.clone() };
        let text = serde_json::to_string(&kind).unwrap();
        prop_assert_eq!(&serde_json::from_str::<EventKind>(&text).unwrap(), &kind);

        payload.insert("type".to_owned(), json!(event_type));
        prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), Value::Object(payload));
    }

    #[test]
    fn any_custom_event_round_trips(event_type in ".{0,20}", payload in any_json()) {
        let event = Event::custom(format!("x.{event_type}"), payload);
        let text = serde_json::to_string(&event).unwrap();
        prop_assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}

#[test]
fn every_float_in_a_payload_round_trips_through_text() {
    let event = Event::custom("x", json!({ "number": -2.1370152182138908e122 }));
    let text = serde_json::to_string(&event).unwrap();
    assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
}
