//! Promise 11: nothing takes longer than it may: an attempt, a step, a plan.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::*;
use lunacore::limits::MAX_WAIT;
use lunacore::testing::{Fault, FaultyStore};
use lunacore::*;

use crate::support::*;
use crate::timed::*;

/// The limit that a run came to, and how long that was.
fn limit_of(error: &StepError) -> (&'static str, Duration) {
    match error.downcast_ref::<LimitExceeded>().unwrap() {
        LimitExceeded::Timeout { limit, .. } => ("timeout", *limit),
        LimitExceeded::TotalTimeout { limit, .. } => ("total timeout", *limit),
        LimitExceeded::Deadline { limit, .. } => ("deadline", *limit),
        LimitExceeded::Abandoned { grace, .. } => ("grace", *grace),
        other => panic!("{other:?}"),
    }
}

/// How a plan came to its deadline: the step, its place, and how many had completed.
fn overdue(outcome: Result<Vec<serde_json::Value>, PlanError>) -> (String, usize, usize, StepError) {
    match outcome {
        Err(PlanError::DeadlineExceeded { step_id, index, completed, source, .. }) => {
            (step_id, index, completed.len(), source)
        }
        other => panic!("{other:?}"),
    }
}

/// A step that takes so long.
fn slow(id: &'static str, takes: Duration) -> Step {
    Step::new(id, move || async move {
        tokio::time::sleep(takes).await;
        "done"
    })
}

// Of an attempt.

#[actix::test]
async fn an_attempt_is_dropped_at_its_timeout() {
    let (actors, trace) = (life().await, Trace::default());
    let run = submit(&actors, plan([endless(&trace).timeout(2 * SECOND), flaky("b", 0)])).await;
    tokio::time::sleep(1_999 * MS).await;
    assert_eq!(trace.all(), [""; 0]);
    let error = run.await.unwrap_err();
    assert_eq!(trace.all(), ["dropped"]);
    assert_eq!(
        chain(&error),
        ["step 0 (\"a\") of run r failed at attempt 1", "the attempt was not over after 2s, its timeout"]
    );
    let (kind, source, _) = failed(Err(error));
    assert_eq!((kind, limit_of(&source)), (FailureKind::Timeout, ("timeout", 2 * SECOND)));
    assert_eq!(
        told(&actors).await,
        ["0 task.started a 1", "2000 task.failed a 1 timeout", "2000 plan.failed a timeout"]
    );
}

#[actix::test]
async fn what_an_attempt_has_started_elsewhere_is_told_to_stop_at_its_timeout() {
    let (actors, trace) = (life().await, Trace::default());
    let note = trace.clone();
    let step = Step::new("a", move |ctx: StepContext| {
        let (token, note) = (ctx.cancellation(), note.clone());
        async move {
            tokio::spawn(async move {
                token.cancelled().await;
                note.note(format!("told {}", ctx.attempt()));
                // Also when it asks later.
                tokio::time::sleep(SECOND).await;
                assert!(ctx.is_cancelled() && ctx.cancellation().is_cancelled());
                note.note(format!("seen {}", ctx.attempt()));
            });
            std::future::pending::<()>().await;
        }
    });
    let retry = Retry::fixed(SECOND / 2).max_attempts(2).on_timeout(true);
    let run = submit(&actors, plan([step.timeout(2 * SECOND).retry(retry)])).await;
    tokio::time::sleep(2 * SECOND + MS).await;
    assert_eq!(trace.all(), ["told 1"]);
    failed(run.await);
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(trace.all(), ["told 1", "seen 1", "told 2", "seen 2"]);
}

#[actix::test]
async fn each_attempt_has_the_whole_timeout() {
    let (actors, trace) = (life().await, Trace::default());
    let retry = Retry::fixed(5 * SECOND).max_attempts(2).on_timeout(true);
    let run = execute(&actors, plan([endless(&trace).timeout(2 * SECOND).retry(retry)]));
    assert_eq!(failed(run.await).2, 2);
    assert_eq!(trace.all(), ["dropped", "dropped"]);
    assert_eq!(
        told(&actors).await[..4],
        [
            "0 task.started a 1",
            "2000 task.failed a 1 timeout, again at 7000",
            "7000 task.started a 2",
            "9000 task.failed a 2 timeout"
        ]
    );
}

#[actix::test]
async fn what_is_done_in_time_is_not_disturbed() {
    let actors = life().await;
    let in_time = |id| slow(id, 1_999 * MS).timeout(2 * SECOND).total_timeout(2 * SECOND);
    let plan = plan([in_time("a"), in_time("b")]).deadline(4 * SECOND);
    assert_eq!(execute(&actors, plan).await.unwrap(), ["done", "done"]);
}

// Of a step.

#[actix::test]
async fn the_total_timeout_ends_an_attempt_though_its_own_timeout_would_not() {
    let (actors, trace) = (life().await, Trace::default());
    let retry = Retry::fixed(SECOND).max_attempts(9).on_timeout(true);
    let step = endless(&trace).timeout(4 * SECOND).total_timeout(7 * SECOND).retry(retry);
    let error = execute(&actors, plan([slow("z", SECOND), step])).await.unwrap_err();
    assert_eq!(chain(&error)[1], "the step was not done after 7s, its total timeout");
    let (kind, source, attempt) = failed(Err(error));
    assert_eq!((kind, attempt), (FailureKind::TotalTimeout, 2));
    assert_eq!(limit_of(&source), ("total timeout", 7 * SECOND));
    assert_eq!(
        told(&actors).await[2..],
        [
            "1000 task.started a 1",
            "5000 task.failed a 1 timeout, again at 6000",
            "6000 task.started a 2",
            "8000 task.failed a 2 total_timeout",
            "8000 plan.failed a total_timeout"
        ]
    );
    assert_eq!(trace.all(), ["dropped", "dropped"]);
}

#[actix::test]
async fn an_attempt_that_could_only_start_at_a_limit_is_not_waited_for() {
    let actors = life().await;
    let retry = || Retry::fixed(4 * SECOND).max_attempts(9);
    for (id, total) in [("early", 8_000 * MS), ("late", 8_001 * MS)] {
        let step = flaky("a", 9).retry(retry()).total_timeout(total);
        let (kind, error, attempt) = failed(execute(&actors, ExecutePlan::new([step]).run_id(id)).await);
        assert_eq!((kind, error.to_string()), (FailureKind::Error, "down".to_owned()));
        assert_eq!(attempt, if id == "early" { 2 } else { 3 });
        let step = flaky("a", 9).retry(retry());
        let plan = ExecutePlan::new([step]).deadline(total);
        assert_eq!(failed(execute(&actors, plan).await).2, attempt, "the deadline counts like that");
    }
}

// Of a plan.

#[actix::test]
async fn a_plan_ends_at_its_deadline_whatever_its_steps_would_do() {
    let handlings = [OnFailure::Abort, OnFailure::Continue, OnFailure::fallback(|| "instead")];
    for handling in handlings {
        let (actors, trace) = (life().await, Trace::default());
        let retry = Retry::fixed(MS).max_attempts(9).on_timeout(true);
        let steps = [slow("z", SECOND), endless(&trace).retry(retry).on_failure(handling), flaky("b", 0)];
        let error = execute(&actors, plan(steps).deadline(3 * SECOND)).await.unwrap_err();
        assert_eq!(
            chain(&error),
            [
                "run r was not done at its deadline; it had come to step 1 (\"a\")",
                "the plan was not done after 3s, its deadline"
            ]
        );
        let (step_id, index, completed, source) = overdue(Err(error));
        assert_eq!((&*step_id, index, completed), ("a", 1, 1));
        assert_eq!(limit_of(&source), ("deadline", 3 * SECOND));
        assert_eq!(trace.all(), ["dropped"]);
        assert_eq!(
            told(&actors).await[2..],
            ["1000 task.started a 1", "3000 task.failed a 1 deadline", "3000 plan.failed a deadline"]
        );
    }
}

#[actix::test]
async fn of_limits_that_come_together_the_one_that_means_more_counts() {
    let limited = |trace: &Trace| endless(trace).timeout(SECOND).total_timeout(SECOND);
    let trace = Trace::default();
    let (kind, ..) = failed(execute(&life().await, plan([limited(&trace)])).await);
    assert_eq!(kind, FailureKind::TotalTimeout);
    overdue(execute(&life().await, plan([limited(&trace)]).deadline(SECOND)).await);
    let (kind, ..) = failed(execute(&life().await, plan([limited(&trace)]).deadline(SECOND + MS)).await);
    assert_eq!(kind, FailureKind::TotalTimeout);
}

#[actix::test]
async fn a_plan_whose_deadline_passes_in_the_queue_fails_then_and_is_not_run() {
    let (actors, trace) = (life().await, Trace::default());
    let first = submit(&actors, ExecutePlan::new([slow("s", 10 * SECOND)])).await;
    let never = trace.clone();
    let late = plan([Step::new("a", move || never.note("called"))]).deadline(4 * SECOND);
    let late = submit(&actors, late).await;
    let behind = submit(&actors, ExecutePlan::new([flaky("b", 0)]).run_id("behind")).await;
    tokio::time::sleep(3_999 * MS).await;
    assert_eq!(status(&actors, "r").await.state, RunState::Queued);

    let (step_id, index, completed, source) = overdue(late.await);
    assert_eq!((&*step_id, index, completed), ("a", 0, 0));
    assert_eq!(limit_of(&source), ("deadline", 4 * SECOND));
    let info = status(&actors, "r").await;
    assert_eq!((info.state, info.finished_at), (RunState::Failed, Some(at(4_000))));
    assert_eq!(info.failure.unwrap().kind, FailureKind::Deadline);
    assert_eq!(status(&actors, "behind").await.position, Some(0));

    assert_eq!(first.await.unwrap(), ["done"]);
    assert_eq!(behind.await.unwrap(), ["up"]);
    assert_eq!(
        history(&actors, "r").await,
        ["0 plan.accepted", "4000 task.failed a 0 deadline", "4000 plan.failed a deadline"]
    );
    assert_eq!(trace.all(), [""; 0]);
}

#[actix::test]
async fn the_time_in_the_queue_counts() {
    let (actors, trace) = (life().await, Trace::default());
    let first = submit(&actors, ExecutePlan::new([slow("s", 3 * SECOND)])).await;
    let second = submit(&actors, plan([endless(&trace)]).deadline(4 * SECOND)).await;
    first.await.unwrap();
    overdue(second.await);
    assert_eq!(history(&actors, "r").await[1..3], ["3000 plan.started", "3000 task.started a 1"]);
    assert_eq!(history(&actors, "r").await[3], "4000 task.failed a 1 deadline");
}

#[actix::test]
async fn a_limit_of_no_time_or_of_far_too_much_is_refused() {
    let actors = life().await;
    let mut events = watch(&actors.bus).await;
    let error = execute(&actors, plan([flaky("a", 0)]).deadline(Duration::ZERO)).await.unwrap_err();
    assert!(matches!(error, PlanError::Invalid(InvalidPlan::NoTime)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the plan's deadline is 0s, in which nothing can be done; leave it out for none"
    );
    let (none, much) = (Duration::ZERO, MAX_WAIT + SECOND);
    let step = || flaky("a", 0);
    let invalid = [
        (step().timeout(none), "the timeout is 0s, in which nothing can be done; leave it out for none"),
        (step().timeout(much), "the timeout is 1year 18h 1s, more than 366 days; was another unit meant?"),
        (
            step().total_timeout(none),
            "the total_timeout is 0s, in which nothing can be done; leave it out for none",
        ),
        (
            step().total_timeout(much),
            "the total_timeout is 1year 18h 1s, more than 366 days; was another unit meant?",
        ),
        (step().grace(much), "the grace is 1year 18h 1s, more than 366 days; was another unit meant?"),
    ];
    for (step, why) in invalid {
        let error = execute(&actors, plan([step])).await.unwrap_err();
        assert_eq!(chain(&error), ["the policy of step 0 (\"a\") is not valid", why]);
    }
    assert_untouched(&actors, &mut events).await;
}

// Blocking code.

/// A blocking step with this callable, stopped at a second and given three more.
fn limited(callable: Callable) -> Step {
    Step::new("a", callable).timeout(SECOND).grace(3 * SECOND)
}

#[actix::test]
async fn blocking_code_is_told_to_stop_and_waited_for() {
    let (actors, trace) = (life().await, Trace::default());
    let (saw, gate) = (trace.clone(), Gate::default());
    let wait = gate.clone();
    let step = limited(Callable::new(move |ctx: StepContext| {
        while !ctx.is_cancelled() {
            std::thread::sleep(MS);
        }
        saw.note("told");
        wait.pass();
        "too late"
    }));
    let run = submit(&actors, plan([step, flaky("b", 0)])).await;
    let behind = submit(&actors, ExecutePlan::new([flaky("c", 0)]).run_id("behind")).await;
    tokio::time::advance(SECOND).await;
    let info = reaches(&actors, "r", RunState::Stopping).await;
    assert_eq!(info.failure.unwrap().kind, FailureKind::Timeout);
    noted(&trace, "told").await;
    tokio::time::advance(SECOND).await;
    breathe().await;
    assert_eq!(status(&actors, "r").await.state, RunState::Stopping);
    assert_eq!(status(&actors, "behind").await.state, RunState::Queued);

    gate.open();
    let (kind, source, attempt) = failed(run.await);
    assert_eq!((kind, limit_of(&source), attempt), (FailureKind::Timeout, ("timeout", SECOND), 1));
    assert_eq!(
        told(&actors).await,
        [
            "0 task.started a 1",
            "1000 plan.stopping",
            "2000 task.failed a 1 timeout",
            "2000 plan.failed a timeout"
        ]
    );
    assert_eq!(behind.await.unwrap(), ["up"]);
    assert_eq!(abandoned(&actors).await, []);
    assert!(actors.memory.send(Get::latest("task:a")).await.unwrap().unwrap().is_none());
}

#[actix::test]
async fn blocking_code_that_does_not_stop_is_abandoned_after_the_grace_and_listed_until_it_ends() {
    let (actors, trace, gate) = (life().await, Trace::default(), Gate::default());
    let retry = Retry::fixed(MS).max_attempts(9).on_timeout(true);
    // Nothing else of the plan may run beside that code.
    let step = limited(stubborn(&trace, &gate)).retry(retry).on_failure(OnFailure::Continue);
    let run = submit(&actors, plan([flaky("z", 0), step, flaky("b", 0)])).await;
    noted(&trace, "called 1").await;
    tokio::time::advance(SECOND).await;
    reaches(&actors, "r", RunState::Stopping).await;
    tokio::time::advance(2_999 * MS).await;
    breathe().await;
    assert_eq!(status(&actors, "r").await.state, RunState::Stopping);
    assert_eq!(abandoned(&actors).await, []);

    tokio::time::advance(MS).await;
    let error = run.await.unwrap_err();
    assert_eq!(
        chain(&error)[1..],
        [
            "its blocking code did not end within the grace of 3s; it may still run",
            "the attempt was not over after 1s, its timeout"
        ]
    );
    let (kind, source, attempt) = failed(Err(error));
    assert_eq!((kind, limit_of(&source), attempt), (FailureKind::Abandoned, ("grace", 3 * SECOND), 1));
    assert_eq!(
        told(&actors).await[2..],
        [
            "0 task.started a 1",
            "1000 plan.stopping",
            "4000 task.failed a 1 abandoned",
            "4000 plan.failed a abandoned"
        ]
    );
    let calls = abandoned(&actors).await;
    assert_eq!(calls.len(), 1);
    let AbandonedCall { run_id, step_id, index, attempt, since, .. } = &calls[0];
    assert_eq!((run_id.as_str(), &**step_id, *index, *attempt, *since), ("r", "a", 1, 1, at(4_000)));
    // It holds a thread and nothing else.
    assert_eq!(execute(&actors, ExecutePlan::new([flaky("c", 0)])).await.unwrap(), ["up"]);

    gate.open();
    patiently("the call to end", async || abandoned(&actors).await.is_empty()).await;
    assert_eq!(trace.all(), ["called 1", "ended 1 true"]);
    assert_eq!(status(&actors, "r").await.state, RunState::Failed);
}

#[actix::test]
async fn without_grace_blocking_code_is_abandoned_at_once() {
    let (actors, trace, gate) = (life().await, Trace::default(), Gate::default());
    let run = submit(&actors, plan([limited(stubborn(&trace, &gate)).grace(Duration::ZERO)])).await;
    noted(&trace, "called 1").await;
    tokio::time::advance(SECOND).await;
    assert_eq!(failed(run.await).0, FailureKind::Abandoned);
    assert_eq!(told(&actors).await.last().unwrap(), "1000 plan.failed a abandoned");
    gate.open();
    // It looks only now, and sees that it is to stop.
    noted(&trace, "ended 1 true").await;
}

#[actix::test]
async fn the_deadline_and_the_total_timeout_stop_blocking_code_too() {
    for (total, kind) in [(true, FailureKind::TotalTimeout), (false, FailureKind::Deadline)] {
        let (actors, trace, gate) = (life().await, Trace::default(), Gate::default());
        let step = Step::new("a", stubborn(&trace, &gate)).on_failure(OnFailure::Continue);
        let plan = if total { plan([step.total_timeout(SECOND)]) } else { plan([step]).deadline(SECOND) };
        let run = submit(&actors, plan).await;
        noted(&trace, "called 1").await;
        tokio::time::advance(SECOND).await;
        assert_eq!(reaches(&actors, "r", RunState::Stopping).await.failure.unwrap().kind, kind);
        assert_eq!(told(&actors).await[1..], ["1000 plan.stopping"]);
        gate.open();
        match (run.await, total) {
            (Ok(results), true) => assert_eq!(results, [serde_json::Value::Null]),
            (Err(PlanError::DeadlineExceeded { .. }), false) => {}
            (other, _) => panic!("{other:?}"),
        }
    }
}

#[actix::test]
async fn a_second_copy_of_blocking_code_does_not_start_before_the_first_has_ended() {
    let (actors, trace) = (life().await, Trace::default());
    let (first, running) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (note, gate, count) = (trace.clone(), first.clone(), Arc::clone(&running));
    let step = limited(Callable::new(move |ctx: StepContext| {
        assert_eq!(count.fetch_add(1, Ordering::SeqCst), 0, "two copies at once");
        note.note(format!("called {}", ctx.attempt()));
        if ctx.attempt() == 1 {
            gate.pass();
        }
        count.fetch_sub(1, Ordering::SeqCst);
        "done"
    }));
    let retry = Retry::fixed(Duration::ZERO).on_timeout(true);
    let run = submit(&actors, plan([step.retry(retry)])).await;
    noted(&trace, "called 1").await;
    tokio::time::advance(SECOND).await;
    reaches(&actors, "r", RunState::Stopping).await;
    tokio::time::advance(2 * SECOND).await;
    breathe().await;
    assert_eq!(trace.all(), ["called 1"]);
    first.open();
    assert_eq!(run.await.unwrap(), ["done"]);
    assert_eq!(trace.all(), ["called 1", "called 2"]);
    assert_eq!(
        told(&actors).await,
        [
            "0 task.started a 1",
            "1000 plan.stopping",
            "3000 task.failed a 1 timeout, again at 3000",
            "3000 task.started a 2",
            "3000 task.completed a",
            "3000 plan.completed"
        ]
    );
}

#[actix::test]
async fn the_second_attempt_has_a_token_of_its_own() {
    let (actors, trace, gate) = (life().await, Trace::default(), Gate::default());
    let step = limited(stubborn(&trace, &gate)).retry(Retry::fixed(SECOND).on_timeout(true));
    let run = submit(&actors, plan([step])).await;
    noted(&trace, "called 1").await;
    tokio::time::advance(SECOND).await;
    reaches(&actors, "r", RunState::Stopping).await;
    gate.open();
    assert_eq!(run.await.unwrap(), ["too late"]);
    assert_eq!(trace.all(), ["called 1", "ended 1 true", "called 2", "ended 2 false"]);
}

#[actix::test]
async fn a_cancellation_while_code_stops_because_of_a_limit_cancels_the_run() {
    let (actors, trace, gate) = (life().await, Trace::default(), Gate::default());
    let retry = Retry::fixed(MS).on_timeout(true);
    let step = limited(stubborn(&trace, &gate)).retry(retry).on_failure(OnFailure::Continue);
    let run = submit(&actors, plan([step, flaky("b", 0)])).await;
    noted(&trace, "called 1").await;
    tokio::time::advance(SECOND).await;
    reaches(&actors, "r", RunState::Stopping).await;
    assert_eq!(cancel(&actors, "r").await, CancelOutcome::Stopping);
    let info = status(&actors, "r").await;
    assert_eq!((info.state, info.failure), (RunState::Stopping, None));
    gate.open();
    assert!(matches!(run.await, Err(PlanError::Cancelled { .. })));
    let told = told(&actors).await;
    assert_eq!(told[1], "1000 plan.stopping");
    assert_eq!(told.last().unwrap(), "1000 plan.cancelled");
    assert_eq!(status(&actors, "r").await.state, RunState::Cancelled);
    assert_eq!(trace.all(), ["called 1", "ended 1 true"]);
}

#[actix::test]
async fn an_inline_call_that_took_too_long_does_not_count() {
    let millis = Arc::new(AtomicU64::new(0));
    let show = Arc::clone(&millis);
    let clock = Clock::new(move || at(show.load(Ordering::SeqCst)));
    let actors = live(VolatileStore::default(), &clock, RegistryAllocator::new(), 0.5);
    for (took, in_time) in [(999, true), (1_000, true), (1_001, false)] {
        let hand = Arc::clone(&millis);
        let call = move || {
            hand.fetch_add(took, Ordering::SeqCst);
            "done"
        };
        let step = Step::new("a", call).inline().timeout(SECOND);
        match execute(&actors, ExecutePlan::new([step])).await {
            Ok(results) => assert!(in_time && results == ["done"], "{took}"),
            outcome => {
                let (kind, source, _) = failed(outcome);
                assert_eq!((kind, limit_of(&source)), (FailureKind::Timeout, ("timeout", SECOND)));
                assert!(!in_time, "{took}");
            }
        }
    }
}

// Across processes.

#[actix::test]
async fn another_process_hears_the_same_of_a_run_that_came_to_a_limit() {
    for disk in Disk::each() {
        let clock = virtual_time().await;
        let (trace, gate) = (Trace::default(), Gate::default());
        let plans = || {
            [
                ("timeout", ExecutePlan::new([endless(&trace).timeout(SECOND)])),
                ("total", ExecutePlan::new([endless(&trace).total_timeout(SECOND)])),
                ("deadline", ExecutePlan::new([endless(&trace)]).deadline(SECOND)),
                ("abandoned", ExecutePlan::new([limited(stubborn(&trace, &gate))])),
            ]
        };
        let mut heard = Vec::new();
        let actors = live(disk.open().await, &clock, RegistryAllocator::new(), 0.5);
        for (id, plan) in plans() {
            let run = submit(&actors, plan.run_id(id)).await;
            if id == "abandoned" {
                noted(&trace, "called 1").await;
                tokio::time::advance(SECOND).await;
                reaches(&actors, id, RunState::Stopping).await;
                tokio::time::advance(3 * SECOND).await;
            }
            heard.push(run.await.unwrap_err());
        }
        gate.open();
        bury(actors).await;

        let actors = live(disk.open().await, &clock, RegistryAllocator::new(), 0.5);
        for ((id, plan), live) in plans().into_iter().zip(heard) {
            let stored = execute(&actors, plan.run_id(id)).await.unwrap_err();
            assert_eq!(chain(&stored), chain(&live));
            match (stored, live) {
                (
                    PlanError::DeadlineExceeded { index, .. },
                    PlanError::DeadlineExceeded { index: was, .. },
                ) => {
                    assert_eq!((id, index), ("deadline", was));
                }
                (stored, live) => {
                    let ((kind, _, attempt), (was, ..)) = (failed(Err(stored)), failed(Err(live)));
                    assert_eq!((kind, attempt), (was, 1), "{id}");
                }
            }
        }
        bury(actors).await;
    }
}

/// A life that dies while its blocking code is told to stop, as a timeout of it wants.
async fn dies_while_it_stops(disk: &Disk, clock: &Clock, step: Step) {
    let (trace, gate) = (Trace::default(), Gate::default());
    let registry = RegistryAllocator::new().register("work", stubborn(&trace, &gate));
    let store = FaultyStore::new(disk.open().await, Fault::Die, 3);
    let actors = live(store, clock, registry, 0.5);
    let run = submit(&actors, plan([step])).await;
    noted(&trace, "called 1").await;
    tokio::time::advance(SECOND).await;
    reaches(&actors, "r", RunState::Stopping).await;
    gate.open();
    assert!(matches!(run.await, Err(PlanError::Memory { .. })));
    bury(actors).await;
}

#[actix::test]
async fn a_restart_while_code_was_being_stopped_goes_on_as_the_limit_wants() {
    let step = || Step::named("a").uses("work").timeout(SECOND);
    let retried = || step().retry(Retry::fixed(SECOND).on_timeout(true));
    for disk in Disk::each() {
        let clock = virtual_time().await;
        let work = || RegistryAllocator::new().register("work", || async { "done" });
        dies_while_it_stops(&disk, &clock, retried()).await;
        let actors = live(disk.open().await, &clock, work(), 0.5);
        assert_eq!(execute(&actors, plan([retried()])).await.unwrap(), ["done"]);
        assert_eq!(
            told(&actors).await,
            [
                "0 task.started a 1",
                "1000 plan.stopping",
                "1000 task.failed a 1 timeout, again at 2000",
                "2000 task.started a 2",
                "2000 task.completed a",
                "2000 plan.completed"
            ]
        );
        bury(actors).await;
    }
    for disk in Disk::each() {
        let clock = virtual_time().await;
        let work = || RegistryAllocator::new().register("work", || async { "done" });
        dies_while_it_stops(&disk, &clock, step()).await;
        let actors = live(disk.open().await, &clock, work(), 0.5);
        reaches(&actors, "r", RunState::Failed).await;
        assert_eq!(told(&actors).await[2..], ["1000 task.failed a 1 timeout", "1000 plan.failed a timeout"]);
        bury(actors).await;
    }
}

/// A life that dies while a step, which fails at first, waits for its second attempt at 15 s; the next begins at 20 s.
async fn dies_for_long(disk: &Disk, clock: &Clock, plan: ExecutePlan) {
    let registry = RegistryAllocator::new().register("work", flakily(1));
    let actors = live(FaultyStore::new(disk.open().await, Fault::Die, 3), clock, registry, 0.5);
    let run = submit(&actors, plan).await;
    reaches(&actors, "r", RunState::BackingOff).await;
    bury(actors).await;
    assert!(matches!(run.await, Err(PlanError::Memory { .. })));
    tokio::time::advance(20 * SECOND).await;
}

fn patient() -> Step {
    Step::named("a").uses("work").retry(Retry::fixed(15 * SECOND))
}

#[actix::test]
async fn a_deadline_counts_while_the_process_is_down() {
    for disk in Disk::each() {
        let (clock, trace) = (virtual_time().await, Trace::default());
        let plan = || plan([patient()]).deadline(18 * SECOND);
        dies_for_long(&disk, &clock, plan()).await;
        let note = trace.clone();
        let registry = RegistryAllocator::new().register("work", move || note.note("called"));
        let actors = live(disk.open().await, &clock, registry, 0.5);
        let (step_id, index, _, source) = overdue(execute(&actors, plan()).await);
        assert_eq!((&*step_id, index, trace.all().len()), ("a", 0, 0));
        assert_eq!(source.to_string(), "the plan was not done after 18s, its deadline");
        assert_eq!(told(&actors).await.last().unwrap(), "20000 plan.failed a deadline");
        bury(actors).await;
    }
}

#[actix::test]
async fn a_total_timeout_counts_while_the_process_is_down() {
    for disk in Disk::each() {
        let (clock, trace) = (virtual_time().await, Trace::default());
        let step = || patient().total_timeout(18 * SECOND);
        dies_for_long(&disk, &clock, plan([step()])).await;
        let note = trace.clone();
        let registry = RegistryAllocator::new().register("work", move || {
            note.note("called");
            async { "up" }
        });
        let actors = live(disk.open().await, &clock, registry, 0.5);
        let outcome = execute(&actors, plan([step()])).await;
        assert_eq!(trace.all(), [""; 0], "its time was over");
        let (kind, source, _) = failed(outcome);
        assert_eq!((kind, limit_of(&source)), (FailureKind::TotalTimeout, ("total timeout", 18 * SECOND)));
        assert_eq!(told(&actors).await.last().unwrap(), "20000 plan.failed a total_timeout");
        bury(actors).await;
    }
}

/// It goes without a task that failed, for there is none.
#[actix::test]
async fn a_plan_without_steps_comes_to_its_deadline_in_the_queue_too() {
    let actors = life().await;
    let first =
        submit(&actors, ExecutePlan::new([Step::new("long", || tokio::time::sleep(10 * SECOND))])).await;
    let empty = ExecutePlan::new(Vec::new()).run_id("empty").deadline(SECOND);
    let error = execute(&actors, empty).await.unwrap_err();
    assert!(matches!(error, PlanError::DeadlineExceeded { index: 0, .. }), "{error:?}");
    assert_eq!(history(&actors, "empty").await, ["0 plan.accepted", "1000 plan.failed  deadline"]);
    first.await.unwrap();
}

/// Whoever asked to be told is told, also where the plan was taken up again and waits for a slot.
#[actix::test]
async fn a_deadline_in_the_line_after_a_restart_is_escalated() {
    for disk in Disk::each() {
        let clock = virtual_time().await;
        let registry = || {
            RegistryAllocator::new()
                .register("down", || async { Err::<(), _>("down") })
                .register("long", || tokio::time::sleep(100 * SECOND))
        };
        // Two at a time at first, so that both have been tried; then one.
        let store = FaultyStore::new(disk.open().await, Fault::Die, 4);
        let memory = ProjectMemory::with_store(store).clock(clock.clone()).start();
        let bus = EventBus::new().start();
        let orchestrator = ExecutionOrchestrator::new(bus.clone(), memory.clone(), registry().start());
        let orchestrator = orchestrator.clock(clock.clone()).max_concurrent_plans(2).start();
        let life = Actors { orchestrator, bus, memory };
        let careful = Step::named("a").uses("down").escalate_on_failure();
        let careful = careful.retry(Retry::fixed(10 * SECOND).max_attempts(9));
        submit(&life, ExecutePlan::new([Step::named("l").uses("long")]).run_id("long")).await;
        submit(&life, plan([careful]).deadline(15 * SECOND)).await;
        reaches(&life, "r", RunState::BackingOff).await;
        bury(life).await;
        let life = live(disk.open().await, &clock, registry(), 1.0);
        tokio::time::sleep(20 * SECOND).await;
        let told = history(&life, "r").await;
        assert_eq!(
            told[4..],
            [
                "15000 task.failed a 1 deadline",
                "15000 escalation.needed a: the plan was not done after 15s, its deadline",
                "15000 plan.failed a deadline"
            ]
        );
        bury(life).await;
    }
}
