//! The end: told to stop, or nobody left. Every caller is answered.

use std::sync::mpsc;
use std::time::Duration;

use actix::prelude::*;
use lunacore::limits::{DROP_DRAIN, STOP_GRACE};
use lunacore::{ExecutePlan, PlanError, Shutdown, Step};

use crate::support::{Trace, start, start_with, until, watch};

fn noting(name: &'static str, trace: &Trace) -> Step {
    let trace = trace.clone();
    Step::new(name, move || {
        let trace = trace.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            trace.note(name);
            name
        }
    })
}

fn endless() -> Step {
    Step::new("endless", std::future::pending::<()>)
}

#[actix::test]
async fn draining_finishes_what_runs_and_what_waits() {
    tokio::time::pause();
    let (actors, trace) = (start(), Trace::default());
    let first = actors.orchestrator.send(ExecutePlan::new([noting("first", &trace)]));
    let second = actors.orchestrator.send(ExecutePlan::new([noting("second", &trace)]));
    let failing =
        actors.orchestrator.send(ExecutePlan::new([Step::new("bad", || async { Err::<(), _>("x") })]));
    let shutdown = actors.orchestrator.send(Shutdown { drain: true, timeout: Duration::from_secs(60) });
    let late = actors.orchestrator.send(ExecutePlan::new([noting("late", &trace)]));

    assert!(matches!(late.await.unwrap(), Err(PlanError::ShuttingDown)));
    assert_eq!(first.await.unwrap().unwrap(), ["first"]);
    assert_eq!(second.await.unwrap().unwrap(), ["second"]);
    assert!(failing.await.unwrap().is_err());
    let report = shutdown.await.unwrap();
    assert_eq!((report.completed, report.failed, report.cancelled, report.interrupted), (2, 1, 0, 0));
    assert_eq!(trace.all(), ["first", "second"]);
    let closed = actors.orchestrator.send(ExecutePlan::new([])).await;
    assert!(matches!(closed, Err(MailboxError::Closed)));
}

#[actix::test]
async fn draining_ends_with_a_cancellation_when_time_is_up() {
    tokio::time::pause();
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let running = actors.orchestrator.send(ExecutePlan::new([endless()]));
    let waiting = actors.orchestrator.send(ExecutePlan::new([endless()]));
    let began = tokio::time::Instant::now();
    let report =
        actors.orchestrator.send(Shutdown { drain: true, timeout: Duration::from_secs(5) }).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 5);
    assert_eq!((report.cancelled, report.completed), (2, 0));
    for answer in [running, waiting] {
        assert!(matches!(answer.await.unwrap(), Err(PlanError::Cancelled { .. })));
    }
    let ends = [until(&mut events, "plan.cancelled").await, until(&mut events, "plan.cancelled").await];
    assert_ne!(ends[0].last().unwrap().run_id(), ends[1].last().unwrap().run_id());
}

#[actix::test]
async fn without_draining_all_is_cancelled_at_once_and_nothing_more_is_called() {
    let (actors, trace) = (start_with(|o| o.max_concurrent_plans(2)), Trace::default());
    let mut events = watch(&actors.bus).await;
    let answers: Vec<_> = (0..6)
        .map(|_| {
            let trace = trace.clone();
            let called = Step::new("call", move || {
                trace.note("called");
                std::future::pending::<()>()
            });
            actors.orchestrator.send(ExecutePlan::new([called]))
        })
        .collect();
    until(&mut events, "task.started").await;
    until(&mut events, "task.started").await;
    let report = actors.orchestrator.send(Shutdown { drain: false, timeout: Duration::ZERO }).await.unwrap();
    assert_eq!(report.cancelled, 6);
    for answer in answers {
        assert!(matches!(answer.await.unwrap(), Err(PlanError::Cancelled { .. })));
    }
    assert_eq!(trace.all(), ["called", "called"]);
}

#[actix::test]
async fn an_idle_orchestrator_shuts_down_at_once() {
    let actors = start();
    let report = actors
        .orchestrator
        .send(Shutdown { drain: true, timeout: Duration::from_secs(3_600) })
        .await
        .unwrap();
    assert_eq!(report, lunacore::ShutdownReport::default());
}

#[actix::test]
async fn blocking_code_that_will_not_stop_is_interrupted_after_the_grace() {
    tokio::time::pause();
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let (release, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let stubborn = Step::new("stubborn", move || wait.lock().unwrap().recv().map_err(|_| "hung up"));
    let answer = actors.orchestrator.send(ExecutePlan::new([stubborn]).run_id("a"));
    until(&mut events, "task.started").await;
    let mut shutdown = Box::pin(actors.orchestrator.send(Shutdown { drain: false, timeout: Duration::ZERO }));
    // Handled before the clock moves: questions are answered in the order of the mailbox.
    let _ = actors.orchestrator.send(lunacore::ListPlans::new()).await.unwrap();

    // Virtual time stands still while the pool works, so the test moves it.
    tokio::time::advance(STOP_GRACE - Duration::from_millis(10)).await;
    tokio::select! {
        biased;
        report = &mut shutdown => panic!("too early: {report:?}"),
        () = tokio::task::yield_now() => {}
    }
    tokio::time::advance(Duration::from_millis(20)).await;
    let report = shutdown.await.unwrap();
    assert_eq!((report.interrupted, report.cancelled), (1, 0));
    let error = answer.await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "run a was interrupted: the orchestrator shut down before its blocking code had ended"
    );
    release.send(()).unwrap();
}

#[actix::test]
async fn dropping_the_last_handle_finishes_what_was_accepted() {
    tokio::time::pause();
    let (actors, trace) = (start(), Trace::default());
    let mut events = watch(&actors.bus).await;
    let answers: Vec<_> = ["first", "second"]
        .map(|name| actors.orchestrator.send(ExecutePlan::new([noting(name, &trace)])))
        .into();
    until(&mut events, "task.started").await;
    let weak = actors.orchestrator.downgrade();
    drop(actors.orchestrator);
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(trace.all(), ["first", "second"]);
    while weak.upgrade().is_some() {
        tokio::task::yield_now().await;
    }
}

#[actix::test]
async fn a_dropped_orchestrator_that_does_not_come_to_an_end_is_cancelled() {
    tokio::time::pause();
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let answer = actors.orchestrator.send(ExecutePlan::new([endless()]));
    until(&mut events, "task.started").await;
    let began = tokio::time::Instant::now();
    drop(actors.orchestrator);
    assert!(matches!(answer.await.unwrap(), Err(PlanError::Cancelled { .. })));
    assert_eq!(began.elapsed().as_secs(), DROP_DRAIN.as_secs());
}

#[actix::test]
async fn endless_durations_and_capacities_are_taken_as_they_are_meant() {
    let actors = start_with(|orchestrator| orchestrator.queue_capacity(usize::MAX));
    assert!(actors.orchestrator.send(ExecutePlan::new([])).await.unwrap().is_ok());
    let flush = lunacore::Flush::within(Duration::MAX);
    assert_eq!(actors.bus.send(flush).await.unwrap(), Ok(()));
    let running = actors.orchestrator.send(ExecutePlan::new([Step::new("x", || 1)]));
    let report = actors.orchestrator.send(Shutdown::drain(Duration::MAX)).await.unwrap();
    assert_eq!((report.completed, report.cancelled), (1, 0));
    assert_eq!(running.await.unwrap().unwrap(), [1]);
}

#[actix::test]
async fn two_shutdowns_at_once_are_both_answered() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let running = actors.orchestrator.send(ExecutePlan::new([endless()]));
    until(&mut events, "task.started").await;
    let draining = actors.orchestrator.send(Shutdown::drain(Duration::from_secs(3_600)));
    let now = actors.orchestrator.send(Shutdown::now());
    assert_eq!(now.await.unwrap().cancelled, 1);
    assert_eq!(draining.await.unwrap().cancelled, 1);
    assert!(running.await.unwrap().is_err());
}
