//! Promise 12: what becomes of a plan when a step has failed for the last time.

use lunacore::testing::{Fault, FaultyStore};
use lunacore::*;
use serde_json::{Value, json};

use crate::support::*;
use crate::timed::*;

/// A step that always fails.
fn down(id: &'static str) -> Step {
    flaky(id, u32::MAX)
}

fn bug() {
    panic!("a bug");
}

/// Returns why the step before it failed, and at which attempt it is told so.
fn why() -> Callable {
    Callable::new(|ctx: StepContext| async move {
        let failure = ctx.failure().unwrap();
        format!("{} {} {}", ctx.attempt(), failure.kind.as_str(), failure.message)
    })
}

async fn artifact(actors: &Actors, key: &str) -> Option<Artifact> {
    actors.memory.send(Get::latest(key)).await.unwrap().unwrap()
}

#[actix::test]
async fn a_failure_ends_the_plan_unless_the_step_says_otherwise() {
    for step in [down("a"), down("a").on_failure(OnFailure::Abort)] {
        let actors = life().await;
        let steps = [flaky("z", 0), step, Step::new("never", bug)];
        match execute(&actors, plan(steps)).await {
            Err(PlanError::StepFailed { index, completed, .. }) => {
                assert_eq!((index, completed), (1, vec![json!("up")]));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(
            told(&actors).await[2..],
            ["0 task.started a 1", "0 task.failed a 1 error", "0 plan.failed a error"]
        );
    }
}

// Going on without it.

#[actix::test]
async fn a_plan_may_go_on_without_a_step_whose_result_is_null_then() {
    let actors = life().await;
    let retry = Retry::fixed(SECOND).max_attempts(2);
    let next = Step::new("b", |ctx: StepContext| async move {
        let (previous, of_a) = (ctx.previous::<Value>()?, ctx.output::<Option<String>>("a")?);
        Ok::<_, StepError>(json!([previous, of_a, ctx.failure().is_some()]))
    });
    let steps = [down("a").retry(retry).on_failure(OnFailure::Continue), next];
    assert_eq!(execute(&actors, plan(steps)).await.unwrap(), [Value::Null, json!([null, null, false])]);
    assert_eq!(
        told(&actors).await,
        [
            "0 task.started a 1",
            "0 task.failed a 1 error, again at 1000",
            "1000 task.started a 2",
            "1000 task.failed a 2 error",
            "1000 task.skipped a",
            "1000 task.started b 1",
            "1000 task.completed b",
            "1000 plan.completed"
        ]
    );
    let null = artifact(&actors, "task:a").await.unwrap();
    assert_eq!((null.text(), &*null.artifact_type, null.version), (Some("null"), "task_result", 1));
    let info = status(&actors, "r").await;
    assert_eq!((info.state, info.completed, info.failure), (RunState::Completed, 2, None));
}

#[actix::test]
async fn every_sort_of_failure_is_gone_on_without() {
    let trace = Trace::default();
    let steps = [
        Step::new("error", || async { Err::<(), _>("down") }),
        Step::new("fatal", || async { Err::<(), _>(StepError::fatal("wrong")) }),
        Step::new("panic", || async { bug() }),
        Step::new("output", || async { f64::NAN }),
        endless(&trace).timeout(SECOND),
        Step::new("total", std::future::pending::<()>).total_timeout(SECOND),
    ];
    let actors = life().await;
    let steps = steps.map(|step| step.on_failure(OnFailure::Continue));
    assert_eq!(execute(&actors, plan(steps)).await.unwrap(), vec![Value::Null; 6]);
    let failed: Vec<_> =
        told(&actors).await.into_iter().filter(|told| told.contains("task.failed")).collect();
    assert_eq!(
        failed,
        [
            "0 task.failed error 1 error",
            "0 task.failed fatal 1 error",
            "0 task.failed panic 1 panic",
            "0 task.failed output 1 output",
            "1000 task.failed a 1 timeout",
            "2000 task.failed total 1 total_timeout"
        ]
    );
    assert_eq!(
        told(&actors).await[16..],
        ["2000 task.failed total 1 total_timeout", "2000 task.skipped total", "2000 plan.completed"]
    );
}

#[actix::test]
async fn what_a_skipped_step_staged_is_not_stored() {
    let actors = life().await;
    let step = Step::new("a", |ctx: StepContext| async move {
        ctx.put_artifact("half", "done")?;
        Err::<(), StepError>("down".into())
    });
    assert_eq!(execute(&actors, plan([step.on_failure(OnFailure::Continue)])).await.unwrap(), [Value::Null]);
    assert_eq!(artifact(&actors, "half").await, None);
}

#[actix::test]
async fn a_cancelled_step_is_not_one_that_failed() {
    for handling in [OnFailure::Continue, OnFailure::fallback(|| "instead")] {
        let (actors, trace) = (life().await, Trace::default());
        let step = endless(&trace).on_failure(handling).escalate_on_failure();
        let run = submit(&actors, plan([step, flaky("b", 0)])).await;
        breathe().await;
        assert_eq!(cancel(&actors, "r").await, CancelOutcome::Cancelled);
        assert!(matches!(run.await, Err(PlanError::Cancelled { .. })));
        assert_eq!(told(&actors).await, ["0 task.started a 1", "0 task.cancelled a 1", "0 plan.cancelled"]);
    }
}

// Something else instead.

#[actix::test]
async fn a_fallback_reads_the_failure_and_its_result_is_the_steps() {
    let actors = life().await;
    let retry = Retry::fixed(SECOND).max_attempts(2);
    let step = down("a").retry(retry).on_failure(OnFailure::fallback(why()));
    let next = Step::new("b", |ctx: StepContext| async move { ctx.previous::<String>() });
    assert_eq!(execute(&actors, plan([step, next])).await.unwrap(), ["3 error down", "3 error down"]);
    assert_eq!(artifact(&actors, "task:a").await.unwrap().text(), Some("3 error down"));
    assert_eq!(
        told(&actors).await[2..],
        [
            "1000 task.started a 2",
            "1000 task.failed a 2 error",
            "1000 task.started a 3 fallback",
            "1000 task.completed a",
            "1000 task.started b 1",
            "1000 task.completed b",
            "1000 plan.completed"
        ]
    );
}

#[actix::test]
async fn only_a_fallback_is_told_of_a_failure() {
    let actors = life().await;
    let step = Step::new("a", |ctx: StepContext| async move {
        assert_eq!(ctx.failure(), None);
        if ctx.attempt() == 1 { Err(StepError::from("down")) } else { Ok("up") }
    });
    let step = step.retry(Retry::fixed(SECOND)).on_failure(OnFailure::fallback(why()));
    assert_eq!(execute(&actors, plan([step])).await.unwrap(), ["up"]);
}

#[actix::test]
async fn a_fallback_that_fails_fails_the_plan_with_its_own_failure_and_is_not_retried() {
    let actors = life().await;
    let fallback = || async { Err::<(), _>("down too") };
    let step = down("a").retry(Retry::fixed(SECOND).max_attempts(1)).escalate_on_failure();
    let step = step.on_failure(OnFailure::fallback(fallback));
    let retried = Step::new("b", flakily(9)).retry(Retry::fixed(SECOND).max_attempts(2));
    let retried = retried.on_failure(OnFailure::fallback(bug));
    let (kind, error, attempt) = failed(execute(&actors, plan([step])).await);
    assert_eq!((kind, error.to_string(), attempt), (FailureKind::Error, "down too".to_owned(), 2));
    assert_eq!(
        told(&actors).await,
        [
            "0 task.started a 1",
            "0 task.failed a 1 error",
            "0 escalation.needed a: down",
            "0 task.started a 2 fallback",
            "0 task.failed a 2 error",
            "0 plan.failed a error"
        ]
    );
    let (kind, _, attempt) = failed(execute(&actors, ExecutePlan::new([retried])).await);
    assert_eq!((kind, attempt), (FailureKind::Panic, 3));
}

#[actix::test]
async fn a_fallback_has_the_timeout_of_an_attempt_but_not_what_is_left_of_the_total() {
    let actors = life().await;
    let slow = |takes| {
        move || async move {
            tokio::time::sleep(takes).await;
            "instead"
        }
    };
    let trace = Trace::default();
    let step = |takes| {
        let step = endless(&trace).timeout(3 * SECOND).total_timeout(2 * SECOND);
        step.on_failure(OnFailure::fallback(slow(takes)))
    };
    assert_eq!(execute(&actors, plan([step(2_999 * MS)])).await.unwrap(), ["instead"]);
    let (kind, _, attempt) = failed(execute(&actors, ExecutePlan::new([step(3_001 * MS)])).await);
    assert_eq!((kind, attempt), (FailureKind::Timeout, 2));
}

// By name.

#[actix::test]
async fn a_fallback_may_be_found_by_its_name() {
    let clock = virtual_time().await;
    let registry = RegistryAllocator::new().register("why", why());
    let actors = live(VolatileStore::default(), &clock, registry, 0.5);
    let steps = [flaky("z", 0), down("a").on_failure(OnFailure::fallback_named("why"))];
    assert_eq!(execute(&actors, plan(steps)).await.unwrap(), ["up", "2 error down"]);
}

#[actix::test]
async fn a_fallback_that_nobody_knows_refuses_the_plan_and_names_its_step() {
    let clock = virtual_time().await;
    let registry = RegistryAllocator::new().register("why", why());
    let actors = live(VolatileStore::default(), &clock, registry, 0.5);
    let mut events = watch(&actors.bus).await;
    let steps = [
        flaky("z", 0),
        down("y").on_failure(OnFailure::fallback_named("why")),
        flaky("x", 0),
        down("a").on_failure(OnFailure::fallback_named("wy")),
    ];
    let error = execute(&actors, plan(steps)).await.unwrap_err();
    assert!(matches!(&error, PlanError::Unresolved(error) if error.index == 3), "{error:?}");
    assert_eq!(
        chain(&error),
        [
            "step 3 (\"a\") cannot be called",
            "step \"a\" uses \"wy\", which is not registered; did you mean \"why\"?"
        ]
    );
    assert_untouched(&actors, &mut events).await;
}

/// What the processes of these tests know by name.
fn registry(trace: &Trace) -> RegistryAllocator {
    let trace = trace.clone();
    RegistryAllocator::new().register("down", flakily(u32::MAX)).register("why", move |ctx: StepContext| {
        trace.note(format!("why {}", ctx.attempt()));
        let failure = ctx.failure().unwrap();
        async move { format!("{} {}", failure.kind.as_str(), failure.message) }
    })
}

/// A life that dies when its fallback has returned, and before that is stored.
async fn dies_with_its_fallback(disk: &Disk, clock: &Clock, step: Step) {
    let actors =
        live(FaultyStore::new(disk.open().await, Fault::Die, 3), clock, registry(&Trace::default()), 0.5);
    assert!(matches!(execute(&actors, plan([step])).await, Err(PlanError::Memory { .. })));
    bury(actors).await;
}

#[actix::test]
async fn a_fallback_that_was_cut_off_is_called_again_with_the_same_failure() {
    for disk in Disk::each() {
        let (clock, trace) = (virtual_time().await, Trace::default());
        let step = Step::named("a").uses("down").on_failure(OnFailure::fallback_named("why"));
        dies_with_its_fallback(&disk, &clock, step).await;
        // Nothing but the registry is needed.
        let actors = live(disk.open().await, &clock, registry(&trace), 0.5);
        reaches(&actors, "r", RunState::Completed).await;
        assert_eq!(
            told(&actors).await,
            [
                "0 task.started a 1",
                "0 task.failed a 1 error",
                "0 task.started a 2 fallback",
                "0 plan.resumed 0",
                "0 task.started a 3 fallback",
                "0 task.completed a",
                "0 plan.completed"
            ]
        );
        assert_eq!(trace.all(), ["why 3"]);
        assert_eq!(artifact(&actors, "task:a").await.unwrap().text(), Some("error down"));
        bury(actors).await;
    }
}

#[actix::test]
async fn a_fallback_that_is_a_closure_is_missed_by_name_and_its_run_goes_on_when_the_plan_is_sent() {
    for disk in Disk::each() {
        let (clock, trace) = (virtual_time().await, Trace::default());
        let step = || Step::named("a").uses("down").on_failure(OnFailure::fallback(why()));
        dies_with_its_fallback(&disk, &clock, step()).await;
        let actors = live(disk.open().await, &clock, registry(&trace), 0.5);
        let info = reaches(&actors, "r", RunState::Interrupted).await;
        let reason = "step 0 (\"a\") had a closure as its fallback, which cannot be stored; \
                      send its plan again with this run id";
        assert_eq!(info.reason.as_deref(), Some(reason));
        let stored = actors.memory.send(GetRun(run_id("r"))).await.unwrap().unwrap().unwrap();
        assert!(!stored.self_contained);
        assert_eq!(execute(&actors, plan([step()])).await.unwrap(), ["3 error down"]);
        assert_eq!(
            told(&actors).await[3..6],
            [
                format!("0 plan.interrupted: {reason}"),
                "0 plan.resumed 0".to_owned(),
                "0 task.started a 3 fallback".to_owned()
            ]
        );
        bury(actors).await;
    }
}

#[actix::test]
async fn a_skipped_step_stays_skipped_after_a_restart() {
    for disk in Disk::each() {
        let (clock, trace) = (virtual_time().await, Trace::default());
        let steps =
            || [Step::named("a").uses("down").on_failure(OnFailure::Continue), Step::named("b").uses("up")];
        let registry = || registry(&trace).register("up", |ctx: StepContext| ctx.previous::<Value>());
        let store = FaultyStore::new(disk.open().await, Fault::Die, 3);
        let actors = live(store, &clock, registry(), 0.5);
        assert!(execute(&actors, plan(steps())).await.is_err());
        bury(actors).await;
        let actors = live(disk.open().await, &clock, registry(), 0.5);
        assert_eq!(execute(&actors, plan(steps())).await.unwrap(), [Value::Null, Value::Null]);
        assert_eq!(
            told(&actors).await[3..6],
            ["0 task.started b 1", "0 plan.resumed 1", "0 task.recovered a"]
        );
        bury(actors).await;
    }
}

// Telling somebody.

#[actix::test]
async fn an_escalation_comes_after_the_last_attempt_and_before_what_follows() {
    let retry = || Retry::fixed(SECOND).max_attempts(2);
    let follows: [(OnFailure, &[&str]); 3] = [
        (OnFailure::Abort, &["1000 plan.failed a error"]),
        (OnFailure::Continue, &["1000 task.skipped a", "1000 plan.completed"]),
        (
            OnFailure::fallback(why()),
            &["1000 task.started a 3 fallback", "1000 task.completed a", "1000 plan.completed"],
        ),
    ];
    for (handling, follows) in follows {
        let actors = life().await;
        let _ = execute(&actors, plan([down("a").retry(retry()).on_failure(handling).escalate_on_failure()]))
            .await;
        let told = told(&actors).await;
        assert_eq!(
            told[..5],
            [
                "0 task.started a 1",
                "0 task.failed a 1 error, again at 1000",
                "1000 task.started a 2",
                "1000 task.failed a 2 error",
                "1000 escalation.needed a: down"
            ]
        );
        assert_eq!(told[5..], *follows);
    }
}

#[actix::test]
async fn an_escalation_reaches_who_listens_for_it_as_documented() {
    let actors = life().await;
    let subscribe = SubscribeStream::new("escalation.*");
    let mut events = actors.bus.send(subscribe).await.unwrap().unwrap();
    let step = Step::new("a", || async { Err::<(), _>("no connection") }).escalate_on_failure();
    execute(&actors, plan([step])).await.unwrap_err();
    let event = events.next().await.unwrap();
    assert_eq!((event.event_type(), event.run_id()), ("escalation.needed", Some(&run_id("r"))));
    assert_eq!(event.get("task_id"), Some(json!("a")));
    assert_eq!(event.get("reason"), Some(json!("no connection")));
}

#[actix::test]
async fn nobody_is_told_of_what_came_right_or_did_not_ask_for_it() {
    for step in [flaky("a", 1).retry(Retry::fixed(SECOND)).escalate_on_failure(), down("a")] {
        let actors = life().await;
        let _ = execute(&actors, plan([step])).await;
        assert!(!told(&actors).await.iter().any(|told| told.contains("escalation")));
    }
}

#[actix::test]
async fn an_escalation_is_needed_at_a_limit_too() {
    let trace = Trace::default();
    let steps = [
        plan([endless(&trace).timeout(SECOND).escalate_on_failure()]),
        plan([endless(&trace).total_timeout(SECOND).escalate_on_failure()]),
        plan([endless(&trace).escalate_on_failure()]).deadline(SECOND),
    ];
    for plan in steps {
        let actors = life().await;
        assert!(execute(&actors, plan).await.is_err());
        assert!(told(&actors).await[2].starts_with("1000 escalation.needed a: the "));
    }
}

#[actix::test]
async fn a_policy_counts_for_its_own_step_only() {
    let actors = life().await;
    let steps = [
        flaky("a", 1).retry(Retry::fixed(SECOND)).on_failure(OnFailure::Continue).escalate_on_failure(),
        down("b"),
    ];
    assert_eq!(failed(execute(&actors, plan(steps)).await).2, 1);
    assert_eq!(told(&actors).await[5..], ["1000 task.failed b 1 error", "1000 plan.failed b error"]);
}
