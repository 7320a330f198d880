//! Promises 8 and 9: questions are answered while a step runs, and a cancelled run stops before its next step.

use std::sync::Arc;
use std::sync::mpsc;

use actix::prelude::*;
use lunacore::{
    Breaker, Breakers, CancelOutcome, CancelPlan, CircuitState, ControlError, ExecutePlan, ListPlans,
    PausePlan, Plan, PlanError, PlanStatus, ResumeOutcome, ResumePlan, RunState, Step, StepContext,
    SubmitPlan,
};
use tokio::sync::{Notify, mpsc::unbounded_channel};

use crate::support::{Actors, Trace, next, run_id, start, start_with, until, watch};

/// A step that never ends by itself and notes that its future was dropped.
fn endless(trace: &Trace) -> Step {
    struct Noted(Trace);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.note("dropped");
        }
    }
    let trace = trace.clone();
    Step::new("endless", move || {
        let noted = Noted(trace.clone());
        async move {
            let _noted = noted;
            std::future::pending::<()>().await;
        }
    })
}

/// A blocking step that waits for the test; it answers `"done"`, or fails when the test hangs up.
fn blocking() -> (Step, mpsc::Sender<()>) {
    let (release, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    (Step::new("blocking", move || wait.lock().unwrap().recv().map(|()| "done")), release)
}

async fn submit(actors: &Actors, id: &str, plan: impl Into<Plan>) -> lunacore::RunHandle {
    actors.orchestrator.send(SubmitPlan(ExecutePlan::new(plan).run_id(id))).await.unwrap().unwrap()
}

async fn status(actors: &Actors, id: &str) -> lunacore::RunInfo {
    actors.orchestrator.send(PlanStatus(run_id(id))).await.unwrap().unwrap()
}

async fn cancel(actors: &Actors, id: &str) -> Result<CancelOutcome, ControlError> {
    actors.orchestrator.send(CancelPlan(run_id(id))).await.unwrap()
}

#[actix::test]
async fn status_tells_the_place_in_the_queue_the_step_and_the_end() {
    let actors = start();
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let second = Step::new("second", move || {
        let gate = Arc::clone(&opened);
        async move { gate.notified().await }
    });
    let before = std::time::SystemTime::now() - std::time::Duration::from_millis(1);
    let running =
        submit(&actors, "a", Plan::new([Step::new("first", || async {}), second]).name("nightly")).await;
    let _b = submit(&actors, "b", []).await;
    let c = submit(&actors, "c", []).await;
    while status(&actors, "a").await.completed < 1 {
        tokio::task::yield_now().await;
    }

    let info = status(&actors, "a").await;
    let current = info.current.unwrap();
    assert_eq!((info.state, info.completed, info.steps, info.position), (RunState::Running, 1, 2, None));
    assert_eq!((&*current.step_id, current.index, current.attempt), ("second", 1, 1));
    assert!(before < current.since && current.since <= std::time::SystemTime::now());
    assert_eq!(info.name.as_deref(), Some("nightly"));
    for (id, position) in [("b", 0), ("c", 1)] {
        let info = status(&actors, id).await;
        assert_eq!((info.state, info.position, info.current), (RunState::Queued, Some(position), None));
    }

    gate.notify_one();
    running.await.unwrap();
    c.await.unwrap();
    let info = status(&actors, "a").await;
    assert_eq!((info.state, info.completed, info.current), (RunState::Completed, 2, None));
    assert!(info.finished_at.is_some());
    let unknown = actors.orchestrator.send(PlanStatus(run_id("x"))).await.unwrap().unwrap_err();
    assert_eq!(unknown.to_string(), "no run x is known");
}

#[actix::test]
async fn questions_are_answered_while_blocking_code_runs() {
    let actors = start();
    let (step, release) = blocking();
    let run = submit(&actors, "a", [step]).await;
    let _waiting = submit(&actors, "b", []).await;
    assert_eq!(status(&actors, "a").await.current.unwrap().step_id.as_ref(), "blocking");
    let listed = actors.orchestrator.send(ListPlans::new()).await.unwrap().unwrap();
    let listed: Vec<_> =
        listed.iter().map(|info| (info.run_id.as_str(), info.state, info.position)).collect();
    assert_eq!(listed, [("a", RunState::Running, None), ("b", RunState::Queued, Some(0))]);
    release.send(()).unwrap();
    assert_eq!(run.await.unwrap(), ["done"]);
}

#[actix::test]
async fn runs_are_listed_in_the_order_of_acceptance_page_by_page() {
    let actors = start();
    for id in ["z", "m", "a"] {
        submit(&actors, id, [Step::new("fail", || Err::<(), _>("broken"))]).await.await.unwrap_err();
    }
    let ids =
        |page: Vec<lunacore::RunInfo>| page.iter().map(|info| info.run_id.to_string()).collect::<Vec<_>>();
    let all = actors.orchestrator.send(ListPlans::new()).await.unwrap().unwrap();
    assert_eq!(all[0].failure.as_ref().unwrap().message, "broken");
    assert_eq!(ids(all), ["z", "m", "a"]);
    let behind = actors.orchestrator.send(ListPlans::after(run_id("m"))).await.unwrap().unwrap();
    assert_eq!(ids(behind), ["a"]);
}

#[actix::test]
async fn a_running_future_is_dropped_and_that_is_stored_before_it_is_answered() {
    let (actors, trace) = (start(), Trace::default());
    let mut events = watch(&actors.bus).await;
    let never = trace.clone();
    let steps = [
        Step::new("first", || async { 1 }),
        endless(&trace),
        Step::new("never", move || never.note("called after a cancellation")),
    ];
    let run = submit(&actors, "a", steps).await;
    let next_run = submit(&actors, "b", []).await;
    until(&mut events, "task.completed").await;
    assert_eq!(next(&mut events, 1).await, ["task.started endless"]);

    assert_eq!(cancel(&actors, "a").await.unwrap(), CancelOutcome::Cancelled);
    assert_eq!(trace.all(), ["dropped"]);
    assert_eq!(status(&actors, "a").await.state, RunState::Cancelled);
    match run.await {
        Err(PlanError::Cancelled { run_id, completed }) => {
            assert_eq!((run_id.as_str(), completed), ("a", vec![1.into()]));
        }
        other => panic!("{other:?}"),
    }
    let told = until(&mut events, "plan.cancelled").await;
    let of_a = told.iter().filter(|event| event.run_id() == Some(&run_id("a"))).map(ToString::to_string);
    assert_eq!(of_a.collect::<Vec<_>>(), ["task.cancelled endless", "plan.cancelled"]);
    next_run.await.unwrap();
    // Again does no harm.
    assert_eq!(cancel(&actors, "a").await.unwrap(), CancelOutcome::Finished(RunState::Cancelled));
}

#[actix::test]
async fn a_queued_run_is_cancelled_without_being_called() {
    let (actors, trace) = (start(), Trace::default());
    let mut events = watch(&actors.bus).await;
    let running = submit(&actors, "a", [endless(&trace)]).await;
    let never = trace.clone();
    let queued = submit(&actors, "b", [Step::new("never", move || never.note("called"))]).await;
    let behind = submit(&actors, "c", [Step::new("ok", || 3)]).await;

    assert_eq!(cancel(&actors, "b").await.unwrap(), CancelOutcome::Cancelled);
    assert!(matches!(queued.await, Err(PlanError::Cancelled { completed, .. }) if completed.is_empty()));
    assert_eq!(status(&actors, "b").await.state, RunState::Cancelled);
    assert_eq!(status(&actors, "c").await.position, Some(0));
    cancel(&actors, "a").await.unwrap();
    assert!(running.await.is_err());
    assert_eq!(behind.await.unwrap(), [3]);
    assert_eq!(trace.all(), ["dropped"]);
    let of_b: Vec<String> = until(&mut events, "plan.completed")
        .await
        .iter()
        .filter(|event| event.run_id() == Some(&run_id("b")))
        .map(|event| event.to_string())
        .collect();
    assert_eq!(of_b, ["plan.accepted", "plan.cancelled"]);
}

#[actix::test]
async fn blocking_code_is_told_to_stop_and_nothing_else_runs_until_it_has_ended() {
    let (actors, trace) = (start(), Trace::default());
    let (told, hears) = tokio::sync::oneshot::channel();
    let (release, wait) = mpsc::channel::<()>();
    let parts = std::sync::Mutex::new(Some((told, wait)));
    let step = Step::new("stubborn", move |ctx: StepContext| {
        let (told, wait) = parts.lock().unwrap().take().unwrap();
        let token = ctx.cancellation();
        while !ctx.is_cancelled() {
            std::thread::yield_now();
        }
        assert!(token.is_cancelled());
        told.send(()).unwrap();
        wait.recv().unwrap();
        "ended in its own time"
    });
    let note = trace.clone();
    let run = submit(&actors, "a", [step, Step::new("never", || ())]).await;
    let behind = submit(&actors, "b", [Step::new("next", move || note.note("next plan"))]).await;

    assert_eq!(cancel(&actors, "a").await.unwrap(), CancelOutcome::Stopping);
    hears.await.unwrap();
    assert_eq!(status(&actors, "a").await.state, RunState::Stopping);
    assert_eq!(cancel(&actors, "a").await.unwrap(), CancelOutcome::Stopping);
    assert_eq!(trace.all(), [""; 0]);

    release.send(()).unwrap();
    // It did complete: its result is kept, but the run is cancelled.
    match run.await {
        Err(PlanError::Cancelled { completed, .. }) => assert_eq!(completed, ["ended in its own time"]),
        other => panic!("{other:?}"),
    }
    behind.await.unwrap();
    assert_eq!(trace.all(), ["next plan"]);
    let info = status(&actors, "a").await;
    assert_eq!((info.state, info.completed), (RunState::Cancelled, 1));
}

#[actix::test]
async fn blocking_code_that_fails_when_told_to_stop_is_a_cancelled_step() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let (step, release) = blocking();
    let run = submit(&actors, "a", [step]).await;
    assert_eq!(cancel(&actors, "a").await.unwrap(), CancelOutcome::Stopping);
    drop(release);
    assert!(matches!(run.await, Err(PlanError::Cancelled { completed, .. }) if completed.is_empty()));
    assert_eq!(
        next(&mut events, 6).await,
        [
            "plan.accepted",
            "plan.started",
            "task.started blocking",
            "plan.stopping",
            "task.cancelled blocking",
            "plan.cancelled"
        ]
    );
}

#[actix::test]
async fn a_cancellation_between_two_steps_comes_before_the_next_call() {
    let (actors, trace) = (start(), Trace::default());
    let mut events = watch(&actors.bus).await;
    let (orchestrator, never) = (actors.orchestrator.clone(), trace.clone());
    // The first step sends the cancellation and returns in the same breath, so that it arrives during the commit.
    let steps = [
        Step::new("first", move || {
            orchestrator.do_send(CancelPlan(run_id("a")));
            async { 1 }
        }),
        Step::new("second", move || never.note("called")),
    ];
    assert!(
        matches!(submit(&actors, "a", steps).await.await, Err(PlanError::Cancelled { completed, .. }) if completed == [1])
    );
    assert_eq!(trace.all(), [""; 0]);
    until(&mut events, "task.completed").await;
    assert_eq!(
        next(&mut events, 3).await,
        ["task.started second", "task.cancelled second", "plan.cancelled"]
    );
}

#[actix::test]
async fn cancelling_what_has_ended_or_never_was_says_so() {
    let actors = start();
    submit(&actors, "done", []).await.await.unwrap();
    submit(&actors, "broken", [Step::new("fail", || Err::<(), _>("x"))]).await.await.unwrap_err();
    assert_eq!(cancel(&actors, "done").await.unwrap(), CancelOutcome::Finished(RunState::Completed));
    assert_eq!(cancel(&actors, "broken").await.unwrap(), CancelOutcome::Finished(RunState::Failed));
    assert!(matches!(cancel(&actors, "x").await, Err(ControlError::UnknownRun { .. })));
}

#[actix::test]
async fn a_run_of_another_orchestrator_on_the_same_memory_is_told_apart() {
    let actors = start();
    let trace = Trace::default();
    let run = submit(&actors, "a", [endless(&trace)]).await;
    let other = lunacore::ExecutionOrchestrator::new(
        actors.bus.clone(),
        actors.memory.clone(),
        lunacore::SimpleAllocator.start(),
    )
    .start();
    let error = other.send(CancelPlan(run_id("a"))).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "run a is running, but not in this orchestrator");
    cancel(&actors, "a").await.unwrap();
    assert!(run.await.is_err());
}

#[actix::test]
async fn a_cancellation_during_the_last_step_comes_too_late() {
    let actors = start();
    let orchestrator = actors.orchestrator.clone();
    let steps = [Step::new("last", move || {
        orchestrator.do_send(CancelPlan(run_id("a")));
        async { 1 }
    })];
    assert_eq!(submit(&actors, "a", steps).await.await.unwrap(), [1]);
    assert_eq!(cancel(&actors, "a").await.unwrap(), CancelOutcome::Finished(RunState::Completed));
}

/// Code that ends with an error because its run is cancelled has not failed, and neither has the service that it uses: also
/// when it is faster to see the cancellation than the run is.
#[actix::test]
async fn code_that_ends_because_its_run_is_cancelled_has_not_failed() {
    for is_first in [false, true] {
        let breaker = Breaker::new("service").failures(1);
        let actors = start_with(|orchestrator| orchestrator.breaker(breaker).unwrap());
        let (tell, mut told) = unbounded_channel();
        let (release, wait) = mpsc::channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let step = Step::new("blocking", move |ctx: StepContext| {
            tell.send(ctx.cancellation()).unwrap();
            wait.lock().unwrap().recv().unwrap();
            Err::<(), _>("told to stop")
        });
        let run = submit(&actors, "a", [step.breaker("service")]).await;
        let cancellation = told.recv().await.unwrap();
        if is_first {
            // Awake before the run is, it holds their thread until the code has ended.
            actix::spawn(async move {
                cancellation.cancelled().await;
                release.send(()).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(100));
            });
            tokio::task::yield_now().await;
            assert_eq!(cancel(&actors, "a").await.unwrap(), CancelOutcome::Cancelled);
        } else {
            assert_eq!(cancel(&actors, "a").await.unwrap(), CancelOutcome::Stopping);
            release.send(()).unwrap();
        }
        assert!(matches!(run.await, Err(PlanError::Cancelled { .. })));
        let breakers = actors.orchestrator.send(Breakers::List).await.unwrap().unwrap();
        assert_eq!((breakers[0].state, breakers[0].failures), (CircuitState::Closed, 0));
    }
}

#[actix::test]
async fn a_run_of_calls_that_return_at_once_can_be_paused() {
    let actors = start();
    let orchestrator = actors.orchestrator.clone();
    let first = Step::new("first", move || orchestrator.do_send(PausePlan(run_id("a")))).inline();
    let others = (1..5).map(|n| Step::new(format!("step {n}"), move || n).inline());
    let run = submit(&actors, "a", Plan::new(std::iter::once(first).chain(others))).await;
    let paused = loop {
        let info = status(&actors, "a").await;
        assert!(!info.state.is_final(), "it was not heard");
        if info.state == RunState::Paused {
            break info;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(paused.completed, 2, "the next had been started");
    let resumed = actors.orchestrator.send(ResumePlan(run_id("a"))).await.unwrap().unwrap();
    assert_eq!(resumed, ResumeOutcome::Resumed);
    assert_eq!(run.await.unwrap().len(), 5);
}
