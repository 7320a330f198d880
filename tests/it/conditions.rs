//! Steps that run only on a condition: when it is looked at, what is told of a step that is skipped, and what else holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use lunacore::{
    Breaker, Engine, EventKind, ExecutePlan, FailureKind, Get, OnFailure, PausePlan, PlanError,
    RegistryAllocator, ResumePlan, Retry, RetryRun, RunState, SkipReason, SkipStep, Step, StepContext,
    StepError, SubmitPlan,
};
use serde_json::{Value, json};

use crate::support::{Trace, engine, run_id, start, until, watch};

/// A step that notes its name, and returns it.
fn noted(id: &'static str, trace: &Trace) -> Step {
    let trace = trace.clone();
    Step::new(id, move || {
        trace.note(id);
        id
    })
}

async fn told(steps: Vec<Step>) -> (Result<Vec<Value>, PlanError>, Vec<String>) {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let outcome = actors.orchestrator.send(ExecutePlan::new(steps)).await.unwrap();
    let last = if outcome.is_ok() { "plan.completed" } else { "plan.failed" };
    let events = until(&mut events, last).await;
    let told = events.iter().map(|event| {
        let reason = match event.kind() {
            EventKind::TaskSkipped { reason: SkipReason::Condition, .. } => " condition",
            EventKind::TaskSkipped { reason: SkipReason::Failed, .. } => " failed",
            _ => "",
        };
        format!("{event}{reason}")
    });
    (outcome, told.collect())
}

#[actix::test]
async fn a_step_is_skipped_where_its_condition_is_false_and_called_where_it_is_true() {
    let trace = Trace::default();
    let steps = vec![
        noted("a", &trace),
        noted("b", &trace).when("steps.a.output == 'b'"),
        noted("c", &trace).when("${{ steps.a.output == 'a' and steps.b.output is none }}"),
    ];
    let (outcome, told) = told(steps).await;
    assert_eq!(outcome.unwrap(), [json!("a"), json!(null), json!("c")]);
    assert_eq!(trace.all(), ["a", "c"]);
    assert_eq!(
        told,
        [
            "plan.accepted",
            "plan.started",
            "task.started a",
            "task.completed a",
            "task.skipped b condition",
            "task.started c",
            "task.completed c",
            "plan.completed"
        ]
    );
}

#[actix::test]
async fn the_first_step_the_last_and_all_may_be_skipped() {
    let trace = Trace::default();
    let skipped = |id: &'static str| noted(id, &trace).when("false");
    let (outcome, events) =
        told(vec![skipped("a"), noted("b", &trace).when("true"), skipped("c"), skipped("d")]).await;
    assert_eq!(outcome.unwrap(), [json!(null), json!("b"), json!(null), json!(null)]);
    assert_eq!(
        events,
        [
            "plan.accepted",
            "plan.started",
            "task.skipped a condition",
            "task.started b",
            "task.completed b",
            "task.skipped c condition",
            "task.skipped d condition",
            "plan.completed"
        ]
    );
    let (outcome, events) = told(vec![skipped("a"), skipped("b")]).await;
    assert_eq!(outcome.unwrap(), [json!(null), json!(null)]);
    assert_eq!(
        events,
        [
            "plan.accepted",
            "plan.started",
            "task.skipped a condition",
            "task.skipped b condition",
            "plan.completed"
        ]
    );
    assert_eq!(trace.all(), ["b"]);
}

#[actix::test]
async fn a_step_that_was_skipped_leaves_null_like_any_result() {
    let engine = engine();
    let read = |ctx: StepContext| ctx.output::<Option<u32>>("a").map(|output| output.is_none());
    let results = engine.execute([Step::new("a", || 1).when("1 > 2"), Step::new("b", read)]).await.unwrap();
    assert_eq!(results, [json!(null), json!(true)]);
    let artifact = engine.memory().send(Get::latest("task:a")).await.unwrap().unwrap().unwrap();
    assert_eq!((artifact.version, artifact.data), (1, "null".into()));
}

#[actix::test]
async fn a_condition_that_is_neither_true_nor_false_fails_the_step() {
    for (condition, expected) in [
        ("1", "is of type integer, but a condition must be true or false"),
        ("steps.a.output", "is of type string, but a condition must be true or false"),
        ("none", "is of type null, but a condition must be true or false"),
        ("steps.a.output.x", "reads `steps.a.output.x`, which is not there"),
    ] {
        let trace = Trace::default();
        let step = noted("b", &trace).when(condition).retry(Retry::fixed(Duration::ZERO).max_attempts(3));
        let (outcome, events) = told(vec![noted("a", &trace), step.clone()]).await;
        let Err(PlanError::StepFailed { kind, attempt, source, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!((kind, attempt), (FailureKind::Error, 0));
        assert_eq!(source.to_string(), format!("when: the expression {condition:?} {expected}"));
        assert_eq!(events[4..], ["task.failed b", "plan.failed b"]);
        // What its policy says of failures holds.
        let (outcome, events) =
            told(vec![noted("a", &trace), step.clone().on_failure(OnFailure::Continue)]).await;
        assert_eq!(outcome.unwrap(), [json!("a"), json!(null)]);
        assert_eq!(events[4..], ["task.failed b", "task.skipped b failed", "plan.completed"]);
        let (outcome, _) =
            told(vec![noted("a", &trace), step.on_failure(OnFailure::fallback(|| "rescued"))]).await;
        assert_eq!(outcome.unwrap(), ["a", "rescued"]);
        assert_eq!(trace.all(), ["a", "a", "a"]);
    }
    // A text that is no expression at all is refused before.
    let refused = engine().execute([Step::new("a", || 1).when("a b")]).await;
    assert!(matches!(refused, Err(PlanError::Invalid(_))));
}

#[actix::test]
async fn a_condition_is_not_looked_at_again_once_the_step_was_started() {
    let (reads, calls) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (read, call) = (reads.clone(), calls.clone());
    let environment =
        move |_: &str| Some(if read.fetch_add(1, SeqCst) == 0 { "yes" } else { "no" }.to_owned());
    let engine = Engine::builder().environment(environment).start().unwrap();
    let flaky = move || {
        if call.fetch_add(1, SeqCst) < 2 { Err("not yet") } else { Ok("done") }
    };
    let step =
        Step::new("b", flaky).when("env.GO == 'yes'").retry(Retry::fixed(Duration::ZERO).max_attempts(5));
    assert_eq!(engine.execute([Step::new("a", || 1), step]).await.unwrap(), [json!(1), json!("done")]);
    assert_eq!((reads.load(SeqCst), calls.load(SeqCst)), (1, 3));
}

#[actix::test]
async fn a_step_that_is_skipped_asks_no_breaker() {
    let breaker = Breaker::new("service").failures(1).open_for(Duration::from_secs(3_600));
    let engine = Engine::builder().breaker(breaker).start().unwrap();
    let broken = || Err::<(), _>(StepError::from("broken"));
    let results = engine.execute([
        Step::new("opens", broken).breaker("service").on_failure(OnFailure::Continue),
        Step::new("b", || 1).breaker("service").when("false"),
        Step::new("c", || 2).when("true"),
    ]);
    let results =
        tokio::time::timeout(Duration::from_secs(60), results).await.expect("it is parked").unwrap();
    assert_eq!(results, [json!(null), json!(null), json!(2)]);
}

#[actix::test]
async fn a_run_that_was_paused_looks_at_the_condition_when_it_goes_on() {
    for condition in ["env.GO == 'yes'", "env.GO != 'yes'"] {
        let set = Arc::new(AtomicU32::new(0));
        let read = set.clone();
        let environment = move |_: &str| Some(if read.load(SeqCst) == 1 { "yes" } else { "no" }.to_owned());
        let engine = Engine::builder().environment(environment).start().unwrap();
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let waits = gate.clone();
        let first = Step::new("a", move || {
            let waits = waits.clone();
            async move { drop(waits.acquire().await) }
        });
        let steps = [first, Step::new("b", || "called").when(condition), Step::new("c", || 3)];
        let run = SubmitPlan(ExecutePlan::new(steps).run_id("r"));
        let run = engine.orchestrator().send(run).await.unwrap().unwrap();
        engine.orchestrator().send(PausePlan(run_id("r"))).await.unwrap().unwrap();
        gate.add_permits(1);
        while engine.status(&run_id("r")).await.unwrap().state != RunState::Paused {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        set.store(1, SeqCst);
        engine.orchestrator().send(ResumePlan(run_id("r"))).await.unwrap().unwrap();
        let called = if condition.contains("==") { json!("called") } else { json!(null) };
        assert_eq!(run.await.unwrap(), [json!(null), called, json!(3)]);
    }
}

/// It is not taken for one that was started before.
#[actix::test]
async fn a_retry_that_had_to_queue_looks_at_the_condition_and_asks_the_breaker() {
    // It begins at a conditional step whose condition is false by then; behind one that is skipped; or at one behind its breaker.
    for case in ["retry", "skip", "breaker"] {
        let set = Arc::new(AtomicU32::new(u32::from(case != "skip")));
        let (read, trace, gate) = (set.clone(), Trace::default(), Arc::new(tokio::sync::Semaphore::new(0)));
        let environment = move |_: &str| Some(if read.load(SeqCst) == 1 { "yes" } else { "no" }.to_owned());
        let (waits, calls, fails) = (gate.clone(), trace.clone(), trace.clone());
        let registry = RegistryAllocator::new()
            .register("note", move |ctx: StepContext| calls.note(ctx.step_id()))
            .register("fail", move |ctx: StepContext| {
                fails.note(ctx.step_id());
                Err::<(), _>(StepError::from("broken"))
            })
            .register("wait", move || {
                let waits = waits.clone();
                async move { drop(waits.acquire().await) }
            });
        let breaker = Breaker::new("service").failures(1).open_for(Duration::from_secs(3_600));
        let engine =
            Engine::builder().allocator(registry).environment(environment).breaker(breaker).start().unwrap();
        let conditional = |id, uses| Step::named(id).uses(uses).when("env.GO == 'yes'");
        let steps = match case {
            "retry" => vec![conditional("a", "fail")],
            "skip" => vec![Step::named("a").uses("fail"), conditional("b", "note")],
            _ => vec![conditional("a", "fail").breaker("service")],
        };
        let plan = ExecutePlan::new(steps).run_id("r");
        engine.execute(plan.clone()).await.unwrap_err();
        let busy = engine.submit([Step::named("busy").uses("wait")]).await.unwrap();
        match case {
            "skip" => drop(engine.skip(SkipStep::new(run_id("r"), "a")).await.unwrap()),
            _ => drop(engine.retry_run(RetryRun::new(run_id("r"))).await.unwrap()),
        }
        set.store(u32::from(case == "breaker"), SeqCst);
        gate.add_permits(1);
        busy.await.unwrap();
        if case == "breaker" {
            while engine.status(&run_id("r")).await.unwrap().state == RunState::Queued {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(engine.status(&run_id("r")).await.unwrap().state, RunState::Parked);
            engine.cancel(&run_id("r")).await.unwrap();
        } else {
            let outcome = engine.execute(plan).await.unwrap();
            assert!(outcome.iter().all(Value::is_null), "{outcome:?}");
        }
        assert_eq!(trace.all(), ["a"], "{case}");
    }
}

#[actix::test]
async fn a_panic_of_what_reads_the_environment_fails_the_step_only() {
    let engine = Engine::builder().environment(|_| panic!("no environment")).start().unwrap();
    for step in [Step::new("b", || 1).when("env.X == 'x'"), Step::new("b", || 1).with("${{ env.X }}")] {
        let step = step.retry(Retry::fixed(Duration::ZERO).max_attempts(3).on_panic(true));
        let outcome = engine.execute([Step::new("a", || 1), step]).await;
        assert!(
            matches!(outcome, Err(PlanError::StepFailed { index: 1, kind: FailureKind::Panic, .. })),
            "{outcome:?}"
        );
    }
    assert_eq!(engine.execute([Step::new("a", || 1)]).await.unwrap(), [1]);
}
