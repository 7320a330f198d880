//! Run control: what pausing, resuming, retrying at once and cancelling do and answer, in every state; and that slots are
//! counted right whatever is asked in between.
//!
//! Time is tokio's and stands still, so that every moment is known. What concerns a store is run on each: see `frozen!`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lunacore::testing::{Fault, FaultyStore};
use lunacore::*;
use proptest::prelude::*;

use crate::recovery::{Volatile, World};
use crate::staged::*;
use crate::support::*;

fn plain(orchestrator: ExecutionOrchestrator) -> ExecutionOrchestrator {
    orchestrator.breaker(payments()).unwrap()
}

/// Opens at the first failure, for a minute.
fn payments() -> Breaker {
    Breaker::new("payments").failures(1).open_for(Duration::from_secs(60))
}

/// A call that is tried again after a minute.
fn patient() -> Step {
    call("call", 0).retry(Retry::fixed(Duration::from_secs(60)))
}

// The table.

/// The states in which a run may be when something is asked of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Queued,
    Running,
    Blocking,
    BackingOff,
    Parked,
    Sleeping,
    AwaitingSignal,
    Paused,
    Held,
    /// It is being asked whether the attempt that was cut off had its effect.
    Verifying,
    Compensating,
    /// It was cancelled while blocking code runs.
    Stopping,
    /// It came to a limit while blocking code runs.
    Expired,
    Completed,
    Failed,
    Cancelled,
    Compensated,
    Interrupted,
    Unknown,
}

const STAGES: [Stage; 19] = [
    Stage::Queued,
    Stage::Running,
    Stage::Blocking,
    Stage::BackingOff,
    Stage::Parked,
    Stage::Sleeping,
    Stage::AwaitingSignal,
    Stage::Paused,
    Stage::Held,
    Stage::Verifying,
    Stage::Compensating,
    Stage::Stopping,
    Stage::Expired,
    Stage::Completed,
    Stage::Failed,
    Stage::Cancelled,
    Stage::Compensated,
    Stage::Interrupted,
    Stage::Unknown,
];

/// For each stage the answers to a message and to the same once more, each with the state after it.
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn expected(stage: Stage) -> [&'static str; 8] {
    // To cancel, to pause, to resume, to retry now; a signal; to decide that its step completed, to skip that, to try the run again.
    match stage {
        Stage::Queued => [
            "Cancelled, cancelled; Finished(Cancelled), cancelled",
            "Paused, paused; Paused, paused",
            "NotPaused(Queued), queued; NotPaused(Queued), queued",
            "NotWaiting(Queued), queued; NotWaiting(Queued), queued",
            "Received, queued; Received, queued",
            "NotHeld(Queued), queued; NotHeld(Queued), queued",
            "NotHeld(Queued), queued; NotHeld(Queued), queued",
            "NotRetried(queued), queued; NotRetried(queued), queued",
        ],
        Stage::Running => [
            "Cancelled, cancelled; Finished(Cancelled), cancelled",
            "Pausing, running; Pausing, running",
            "NotPaused(Running), running; NotPaused(Running), running",
            "NotWaiting(Running), running; NotWaiting(Running), running",
            "Received, running; Received, running",
            "NotHeld(Running), running; NotHeld(Running), running",
            "NotHeld(Running), running; NotHeld(Running), running",
            "NotRetried(running), running; NotRetried(running), running",
        ],
        Stage::Blocking => [
            "Stopping, stopping; Stopping, stopping",
            "Pausing, running; Pausing, running",
            "NotPaused(Running), running; NotPaused(Running), running",
            "NotWaiting(Running), running; NotWaiting(Running), running",
            "Received, running; Received, running",
            "NotHeld(Running), running; NotHeld(Running), running",
            "NotHeld(Running), running; NotHeld(Running), running",
            "NotRetried(running), running; NotRetried(running), running",
        ],
        Stage::BackingOff => [
            "Cancelled, cancelled; Finished(Cancelled), cancelled",
            "Paused, paused; Paused, paused",
            "NotPaused(BackingOff), backing_off; NotPaused(BackingOff), backing_off",
            "Retrying, running; NotWaiting(Running), running",
            "Received, backing_off; Received, backing_off",
            "NotHeld(BackingOff), backing_off; NotHeld(BackingOff), backing_off",
            "NotHeld(BackingOff), backing_off; NotHeld(BackingOff), backing_off",
            "NotRetried(backing_off), backing_off; NotRetried(backing_off), backing_off",
        ],
        Stage::Parked => [
            "Cancelled, cancelled; Finished(Cancelled), cancelled",
            "Paused, paused; Paused, paused",
            "NotPaused(Parked), parked; NotPaused(Parked), parked",
            "Retrying, running; NotWaiting(Running), running",
            "Received, parked; Received, parked",
            "NotHeld(Parked), parked; NotHeld(Parked), parked",
            "NotHeld(Parked), parked; NotHeld(Parked), parked",
            "NotRetried(parked), parked; NotRetried(parked), parked",
        ],
        Stage::Sleeping => [
            "Cancelled, cancelled; Finished(Cancelled), cancelled",
            "Paused, paused; Paused, paused",
            "NotPaused(Sleeping), sleeping; NotPaused(Sleeping), sleeping",
            "NotWaiting(Sleeping), sleeping; NotWaiting(Sleeping), sleeping",
            "Received, sleeping; Received, sleeping",
            "NotHeld(Sleeping), sleeping; NotHeld(Sleeping), sleeping",
            "NotHeld(Sleeping), sleeping; NotHeld(Sleeping), sleeping",
            "NotRetried(sleeping), sleeping; NotRetried(sleeping), sleeping",
        ],
        Stage::AwaitingSignal => [
            "Cancelled, cancelled; Finished(Cancelled), cancelled",
            "Paused, paused; Paused, paused",
            "NotPaused(AwaitingSignal), awaiting_signal; NotPaused(AwaitingSignal), awaiting_signal",
            "NotWaiting(AwaitingSignal), awaiting_signal; NotWaiting(AwaitingSignal), awaiting_signal",
            "Received, completed; Finished(Completed), completed",
            "NotHeld(AwaitingSignal), awaiting_signal; NotHeld(AwaitingSignal), awaiting_signal",
            "NotHeld(AwaitingSignal), awaiting_signal; NotHeld(AwaitingSignal), awaiting_signal",
            "NotRetried(awaiting_signal), awaiting_signal; NotRetried(awaiting_signal), awaiting_signal",
        ],
        Stage::Paused => [
            "Cancelled, cancelled; Finished(Cancelled), cancelled",
            "Paused, paused; Paused, paused",
            "Resumed, running; NotPaused(Running), running",
            "NotWaiting(Paused), paused; NotWaiting(Paused), paused",
            "Received, paused; Received, paused",
            "NotHeld(Paused), paused; NotHeld(Paused), paused",
            "NotHeld(Paused), paused; NotHeld(Paused), paused",
            "NotRetried(paused), paused; NotRetried(paused), paused",
        ],
        Stage::Held => [
            "Cancelled, cancelled; Finished(Cancelled), cancelled",
            "Held, held; Held, held",
            "NotPaused(Held), held; NotPaused(Held), held",
            "Retrying, held; Retrying, held",
            "Received, held; Received, held",
            "Resolved, running; NotHeld(Running), running",
            "Resolved, running; NotHeld(Running), running",
            "Retried, held; Retried, held",
        ],
        Stage::Verifying => [
            "Cancelled, cancelled; Finished(Cancelled), cancelled",
            "Pausing, running; Pausing, running",
            "NotPaused(Running), running; NotPaused(Running), running",
            "NotWaiting(Running), running; NotWaiting(Running), running",
            "Received, running; Received, running",
            "NotHeld(Running), running; NotHeld(Running), running",
            "NotHeld(Running), running; NotHeld(Running), running",
            "NotRetried(running), running; NotRetried(running), running",
        ],
        Stage::Compensating => [
            "Compensating, compensating; Compensating, compensating",
            "Compensating, compensating; Compensating, compensating",
            "NotPaused(Compensating), compensating; NotPaused(Compensating), compensating",
            "NotWaiting(Compensating), compensating; NotWaiting(Compensating), compensating",
            "Received, compensating; Received, compensating",
            "NotHeld(Compensating), compensating; NotHeld(Compensating), compensating",
            "NotHeld(Compensating), compensating; NotHeld(Compensating), compensating",
            "NotRetried(compensating), compensating; NotRetried(compensating), compensating",
        ],
        Stage::Stopping => [
            "Stopping, stopping; Stopping, stopping",
            "Stopping, stopping; Stopping, stopping",
            "NotPaused(Stopping), stopping; NotPaused(Stopping), stopping",
            "NotWaiting(Stopping), stopping; NotWaiting(Stopping), stopping",
            "Received, stopping; Received, stopping",
            "NotHeld(Stopping), stopping; NotHeld(Stopping), stopping",
            "NotHeld(Stopping), stopping; NotHeld(Stopping), stopping",
            "NotRetried(stopping), stopping; NotRetried(stopping), stopping",
        ],
        Stage::Expired => [
            "Stopping, stopping; Stopping, stopping",
            "Pausing, stopping; Pausing, stopping",
            "NotPaused(Stopping), stopping; NotPaused(Stopping), stopping",
            "NotWaiting(Stopping), stopping; NotWaiting(Stopping), stopping",
            "Received, stopping; Received, stopping",
            "NotHeld(Stopping), stopping; NotHeld(Stopping), stopping",
            "NotHeld(Stopping), stopping; NotHeld(Stopping), stopping",
            "NotRetried(stopping), stopping; NotRetried(stopping), stopping",
        ],
        Stage::Completed => [
            "Finished(Completed), completed; Finished(Completed), completed",
            "Finished(Completed), completed; Finished(Completed), completed",
            "NotPaused(Completed), completed; NotPaused(Completed), completed",
            "NotWaiting(Completed), completed; NotWaiting(Completed), completed",
            "Finished(Completed), completed; Finished(Completed), completed",
            "NotHeld(Completed), completed; NotHeld(Completed), completed",
            "NotHeld(Completed), completed; NotHeld(Completed), completed",
            "NotRetried(completed), completed; NotRetried(completed), completed",
        ],
        Stage::Failed => [
            "Finished(Failed), failed; Finished(Failed), failed",
            "Finished(Failed), failed; Finished(Failed), failed",
            "NotPaused(Failed), failed; NotPaused(Failed), failed",
            "NotWaiting(Failed), failed; NotWaiting(Failed), failed",
            "Finished(Failed), failed; Finished(Failed), failed",
            "NotHeld(Failed), failed; NotHeld(Failed), failed",
            "Resolved, completed; NotHeld(Completed), completed",
            "Retried, failed; Retried, failed",
        ],
        Stage::Cancelled => [
            "Finished(Cancelled), cancelled; Finished(Cancelled), cancelled",
            "Finished(Cancelled), cancelled; Finished(Cancelled), cancelled",
            "NotPaused(Cancelled), cancelled; NotPaused(Cancelled), cancelled",
            "NotWaiting(Cancelled), cancelled; NotWaiting(Cancelled), cancelled",
            "Finished(Cancelled), cancelled; Finished(Cancelled), cancelled",
            "NotHeld(Cancelled), cancelled; NotHeld(Cancelled), cancelled",
            "Resolved, completed; NotHeld(Completed), completed",
            "Retried, running; NotRetried(running), running",
        ],
        Stage::Compensated => [
            "Finished(Compensated), compensated; Finished(Compensated), compensated",
            "Finished(Compensated), compensated; Finished(Compensated), compensated",
            "NotPaused(Compensated), compensated; NotPaused(Compensated), compensated",
            "NotWaiting(Compensated), compensated; NotWaiting(Compensated), compensated",
            "Finished(Compensated), compensated; Finished(Compensated), compensated",
            "NotHeld(Compensated), compensated; NotHeld(Compensated), compensated",
            "NotRetried(undone), compensated; NotRetried(undone), compensated",
            "NotRetried(undone), compensated; NotRetried(undone), compensated",
        ],
        Stage::Interrupted => [
            "Cancelled, cancelled; Finished(Cancelled), cancelled",
            "NotHere(interrupted), interrupted; NotHere(interrupted), interrupted",
            "NotHere(interrupted), interrupted; NotHere(interrupted), interrupted",
            "NotHere(interrupted), interrupted; NotHere(interrupted), interrupted",
            "Received, interrupted; Received, interrupted",
            "NotHere(interrupted), interrupted; NotHere(interrupted), interrupted",
            "NotRetried(needs its plan), interrupted; NotRetried(needs its plan), interrupted",
            "NotRetried(needs its plan), interrupted; NotRetried(needs its plan), interrupted",
        ],
        Stage::Unknown => ["UnknownRun, unknown; UnknownRun, unknown"; 8],
    }
}

/// Brings the run `a` to a stage.
#[expect(clippy::too_many_lines, reason = "it is a table")]
async fn bring<W: World>(bench: &Bench<W>, stage: Stage) -> Actors {
    let actors = bench.live(plain).await;
    let service = &bench.service;
    match stage {
        Stage::Queued => {
            submit(&actors, "before", [work("long", 10_000)]).await;
            submit(&actors, "a", [work("s", 10_000)]).await;
        }
        Stage::Running => drop(submit(&actors, "a", [work("s", 10_000)]).await),
        Stage::Blocking => drop(submit(&actors, "a", [block("s"), work("t", 1)]).await),
        Stage::BackingOff => {
            service.goes(false);
            let waits = Retry::fixed(Duration::from_secs(3_600));
            submit(&actors, "a", [call("s", 1_000).retry(waits)]).await;
            seconds(1_000).await;
        }
        Stage::Parked => {
            service.goes(false);
            submit(&actors, "opener", [call("s", 0).breaker("payments")]).await.await.unwrap_err();
            submit(&actors, "a", [call("s", 1_000).breaker("payments")]).await;
        }
        Stage::Sleeping => {
            submit(&actors, "a", [Step::sleep("s", Duration::from_secs(10_000))]).await;
        }
        Stage::AwaitingSignal => drop(submit(&actors, "a", [Step::wait_for_signal("s", "go")]).await),
        Stage::Paused => {
            submit(&actors, "a", [work("s", 1), work("t", 10_000)]).await;
            assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Pausing);
            seconds(1).await;
        }
        Stage::Held => {
            let held = Step::named("s").uses("refuse").on_failure(OnFailure::Hold);
            submit(&actors, "a", [held, work("t", 10_000)]).await;
        }
        Stage::Verifying => {
            bench.bury(actors).await;
            *service.answer.lock().unwrap() = serde_json::json!({ "sleep": 100_000 });
            let verified = work("s", 1).on_interrupted(OnInterrupted::verify_named("verify"));
            let actors = bench.live_over(FaultyStore::new(bench.store().await, Fault::Die, 2), plain);
            submit(&actors, "a", [verified]).await.await.unwrap_err();
            bench.forget(actors).await;
            let actors = bench.live(plain).await;
            quiet().await;
            assert!(record(&actors, "a").await.step.verifying);
            return actors;
        }
        Stage::Compensating | Stage::Compensated => {
            let undone = work("s", 10_000).compensate_named("work");
            let run = submit(&actors, "a", [undone, Step::named("t").uses("refuse")]).await;
            seconds(10_001).await;
            if stage == Stage::Compensated {
                run.await.unwrap_err();
            }
        }
        Stage::Stopping => {
            submit(&actors, "a", [block("s")]).await;
            reaches(&actors, "a", RunState::Running).await;
            assert_eq!(cancel(&actors, "a").await.unwrap(), CancelOutcome::Stopping);
        }
        Stage::Expired => {
            let limited = block("s").timeout(Duration::from_secs(5)).grace(Duration::from_secs(1_000));
            submit(&actors, "a", [limited, work("t", 1)]).await;
            reaches(&actors, "a", RunState::Running).await;
            called(bench, 1).await;
            tokio::time::advance(Duration::from_secs(6)).await;
            reaches(&actors, "a", RunState::Stopping).await;
        }
        Stage::Completed => drop(submit(&actors, "a", [work("s", 1)]).await.await.unwrap()),
        Stage::Failed => {
            submit(&actors, "a", [Step::named("s").uses("refuse")]).await.await.unwrap_err();
        }
        Stage::Cancelled => {
            let run = submit(&actors, "a", [work("s", 1)]).await;
            cancel(&actors, "a").await.unwrap();
            run.await.unwrap_err();
        }
        Stage::Interrupted => {
            bench.bury(actors).await;
            let dying = FaultyStore::new(bench.store().await, Fault::Die, 2);
            let actors = bench.live_over(dying, plain);
            let closure = Step::new("s", || async {});
            submit(&actors, "a", [closure]).await.await.unwrap_err();
            bench.forget(actors).await;
            let actors = bench.live(plain).await;
            reaches(&actors, "a", RunState::Interrupted).await;
            quiet().await;
            return actors;
        }
        Stage::Unknown => {}
    }
    if !matches!(stage, Stage::Blocking | Stage::Stopping | Stage::Expired) {
        quiet().await;
    } else if stage == Stage::Blocking {
        reaches(&actors, "a", RunState::Running).await;
    }
    actors
}

/// Waits until so many blocking calls have begun.
async fn called<W: World>(bench: &Bench<W>, calls: usize) {
    let patience = Patience::new();
    while bench.service.blocked.load(Ordering::SeqCst) < calls {
        patience.wait("the blocking code to be called").await;
    }
}

fn told<T: std::fmt::Debug>(answer: Result<T, ControlError>) -> String {
    match answer {
        Ok(outcome) => format!("{outcome:?}"),
        Err(ControlError::UnknownRun { run_id }) => {
            assert_eq!(run_id.as_str(), "a");
            "UnknownRun".to_owned()
        }
        Err(ControlError::NotHere { state, .. }) => format!("NotHere({state})"),
        Err(ControlError::NotRetried { source, .. }) => not_retried(&source),
        Err(other) => format!("{other:?}"),
    }
}

fn not_retried(error: &PlanError) -> String {
    match error {
        PlanError::NotRetried { fault: RetryFault::State(state), .. } => format!("NotRetried({state})"),
        PlanError::NotRetried { fault: RetryFault::Undone, .. } => "NotRetried(undone)".to_owned(),
        PlanError::NotRetried {
            fault: RetryFault::NeedsPlan { .. } | RetryFault::NeedsPlanToSkip { .. },
            ..
        } => "NotRetried(needs its plan)".to_owned(),
        other => format!("{other:?}"),
    }
}

async fn send(actors: &Actors, message: usize) -> String {
    match message {
        0 => told(cancel(actors, "a").await),
        1 => told(pause(actors, "a").await),
        2 => told(resume(actors, "a").await),
        3 => told(retry_now(actors, "a").await),
        4 => told(signal(actors, "a", "go", "payload").await),
        5 => {
            let outcome = StepOutcome::Completed("by hand".into());
            told(actors.orchestrator.send(ResolveStep::new(run_id("a"), "s", outcome)).await.unwrap())
        }
        6 => told(actors.orchestrator.send(SkipStep::new(run_id("a"), "s")).await.unwrap()),
        _ => match actors.orchestrator.send(RetryRun::new(run_id("a"))).await.unwrap() {
            Ok(_) => "Retried".to_owned(),
            Err(PlanError::UnknownRun { .. }) => "UnknownRun".to_owned(),
            Err(error) => not_retried(&error),
        },
    }
}

async fn every_message_has_its_answer_in_every_state<W: World>() {
    for stage in STAGES {
        let blocks = matches!(stage, Stage::Blocking | Stage::Stopping | Stage::Expired);
        for (message, expected) in expected(stage).into_iter().enumerate() {
            let bench = Bench::<W>::new();
            let actors = bring(&bench, stage).await;
            let mut seen = Vec::new();
            for _ in 0..2 {
                let answer = send(&actors, message).await;
                if !blocks {
                    quiet().await;
                }
                let state = status(&actors, "a").await.map_or("unknown", |info| info.state.as_str());
                seen.push(format!("{answer}, {state}"));
            }
            assert_eq!(seen.join("; "), expected, "{stage:?}, message {message}");
            bench.service.release();
            bench.bury(actors).await;
        }
    }
}

// Pausing.

async fn pausing_between_steps_is_said_before_and_when_it_takes_effect<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = submit(&actors, "a", [work("s", 10), work("t", 5)]).await;
    seconds(4).await;
    assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Pausing);
    let info = status(&actors, "a").await.unwrap();
    assert_eq!((info.state, info.pausing, info.completed), (RunState::Running, true, 0));
    assert!(record(&actors, "a").await.pausing, "it is stored when it is answered");
    seconds(100).await;
    let info = status(&actors, "a").await.unwrap();
    assert_eq!((info.state, info.completed), (RunState::Paused, 1));
    assert_eq!(bench.service.trace.all(), ["0s a.s"], "nothing of it runs");

    assert_eq!(resume(&actors, "a").await.unwrap(), ResumeOutcome::Resumed);
    assert_eq!(run.await.unwrap(), ["s done", "t done"]);
    assert_eq!(bench.elapsed(), 104 + 5);
    assert_eq!(bench.service.trace.all(), ["0s a.s", "104s a.t"]);
    let expected = [
        "plan.accepted",
        "plan.started",
        "task.started s",
        "plan.pausing",
        "task.completed s",
        "plan.paused",
        "plan.resumed",
        "task.started t",
        "task.completed t",
        "plan.completed",
    ];
    assert_eq!(history_of(&actors, "a").await, expected);
    bench.bury(actors).await;
}

async fn a_queued_run_is_paused_before_it_is_started<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let before = submit(&actors, "before", [work("s", 10)]).await;
    let run = submit(&actors, "a", [work("s", 1)]).await;
    assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Paused);
    assert_eq!(record(&actors, "a").await.state, RunState::Paused);
    before.await.unwrap();
    seconds(10).await;
    assert_eq!(history_of(&actors, "a").await, ["plan.accepted", "plan.paused"]);
    assert_eq!(resume(&actors, "a").await.unwrap(), ResumeOutcome::Resumed);
    run.await.unwrap();
    assert_eq!(bench.service.trace.all(), ["0s before.s", "20s a.s"]);
    let expected = [
        "plan.accepted",
        "plan.paused",
        "plan.resumed",
        "plan.started",
        "task.started s",
        "task.completed s",
        "plan.completed",
    ];
    assert_eq!(history_of(&actors, "a").await, expected);
    bench.bury(actors).await;
}

async fn a_run_that_is_being_resolved_is_paused<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    // Sent in one breath: nothing of the run is stored when the pause comes.
    let outcome = actors.orchestrator.send(ExecutePlan::new([work("s", 3), work("t", 1)]).run_id("a"));
    let paused = actors.orchestrator.send(PausePlan(run_id("a")));
    let behind = actors.orchestrator.send(ExecutePlan::new([work("s", 1)]).run_id("b"));
    let behind_paused = actors.orchestrator.send(PausePlan(run_id("b")));
    // One had a free slot, and the other had to wait.
    assert_eq!(paused.await.unwrap().unwrap(), PauseOutcome::Pausing);
    assert_eq!(behind_paused.await.unwrap().unwrap(), PauseOutcome::Paused);
    seconds(10).await;
    assert_eq!(states(&actors, ["a", "b"]).await, [RunState::Paused; 2]);
    assert_eq!(bench.service.trace.all(), ["0s a.s"]);
    for id in ["b", "a"] {
        assert_eq!(resume(&actors, id).await.unwrap(), ResumeOutcome::Resumed);
    }
    assert_eq!(behind.await.unwrap().unwrap().len(), 1);
    assert_eq!(outcome.await.unwrap().unwrap().len(), 2);
    assert_eq!(bench.service.trace.all(), ["0s a.s", "10s b.s", "11s a.t"]);
    bench.bury(actors).await;
}

async fn the_rest_of_a_delay_is_waited_after_a_pause<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    let run = submit(&actors, "a", [patient()]).await;
    seconds(20).await;
    assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Paused);
    let info = status(&actors, "a").await.unwrap();
    assert_eq!((info.state, info.until), (RunState::Paused, Some(bench.at(60))));
    seconds(10).await;
    assert_eq!(resume(&actors, "a").await.unwrap(), ResumeOutcome::Resumed);
    quiet().await;
    let info = status(&actors, "a").await.unwrap();
    assert_eq!((info.state, info.until), (RunState::BackingOff, Some(bench.at(60))));
    bench.service.goes(true);
    run.await.unwrap();
    assert_eq!(bench.service.trace.all(), ["0s a.call", "60s a.call#2"]);
    let events = history_of(&actors, "a").await;
    assert_eq!(
        events[3..],
        [
            "task.failed call",
            "plan.paused",
            "plan.resumed",
            "task.waiting call",
            "task.started call#2",
            "task.completed call",
            "plan.completed"
        ]
    );
    bench.bury(actors).await;
}

async fn a_delay_that_has_passed_during_a_pause_is_not_waited_again<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    let run = submit(&actors, "a", [patient()]).await;
    seconds(20).await;
    pause(&actors, "a").await.unwrap();
    seconds(180).await;
    assert_eq!(bench.service.trace.all(), ["0s a.call"]);
    bench.service.goes(true);
    resume(&actors, "a").await.unwrap();
    run.await.unwrap();
    assert_eq!(bench.service.trace.all(), ["0s a.call", "200s a.call#2"]);
    bench.bury(actors).await;
}

/// An attempt that fails while its run is about to pause: the delay runs from there.
async fn a_run_that_was_about_to_pause_does_so_instead_of_backing_off<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    let run = submit(&actors, "a", [call("s", 10).retry(Retry::fixed(Duration::from_secs(30)))]).await;
    seconds(1).await;
    assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Pausing);
    seconds(14).await;
    assert_eq!(state(&actors, "a").await, RunState::Paused);
    bench.service.goes(true);
    resume(&actors, "a").await.unwrap();
    run.await.unwrap();
    assert_eq!(bench.service.trace.all(), ["0s a.s", "40s a.s#2"]);
    bench.bury(actors).await;
}

async fn a_parked_run_is_paused_and_does_not_go_on_when_its_breaker_closes<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    submit(&actors, "opener", [call("s", 0).breaker("payments")]).await.await.unwrap_err();
    let run = submit(&actors, "a", [call("s", 0).breaker("payments")]).await;
    quiet().await;
    assert_eq!(state(&actors, "a").await, RunState::Parked);
    assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Paused);
    bench.service.goes(true);
    seconds(300).await;
    assert_eq!(state(&actors, "a").await, RunState::Paused);
    resume(&actors, "a").await.unwrap();
    run.await.unwrap();
    assert_eq!(bench.service.trace.all(), ["0s opener.s", "300s a.s"]);
    bench.bury(actors).await;
}

async fn a_parked_run_that_is_resumed_while_its_breaker_is_open_parks_again<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    submit(&actors, "opener", [call("s", 0).breaker("payments")]).await.await.unwrap_err();
    let run = submit(&actors, "a", [call("s", 0).breaker("payments")]).await;
    quiet().await;
    pause(&actors, "a").await.unwrap();
    bench.service.goes(true);
    resume(&actors, "a").await.unwrap();
    quiet().await;
    assert_eq!(state(&actors, "a").await, RunState::Parked);
    run.await.unwrap();
    assert_eq!(bench.service.trace.all(), ["0s opener.s", "60s a.s"]);
    let expected = [
        "plan.accepted",
        "plan.started",
        "plan.parked s",
        "plan.paused",
        "plan.resumed",
        "plan.parked s",
        "breaker.half_opened",
        "task.started s",
        "task.completed s",
        "breaker.closed",
        "plan.completed",
    ];
    assert_eq!(history_of(&actors, "a").await, expected);
    bench.bury(actors).await;
}

async fn a_paused_run_is_cancelled_at_once<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = submit(&actors, "a", [work("s", 1), work("t", 1)]).await;
    quiet().await;
    pause(&actors, "a").await.unwrap();
    seconds(5).await;
    assert_eq!(cancel(&actors, "a").await.unwrap(), CancelOutcome::Cancelled);
    assert!(matches!(run.await, Err(PlanError::Cancelled { completed, .. }) if completed == ["s done"]));
    assert_eq!(state(&actors, "a").await, RunState::Cancelled);
    let events = history_of(&actors, "a").await;
    assert_eq!(events[5..], ["plan.paused", "plan.cancelled"]);
    bench.bury(actors).await;
}

async fn a_run_that_is_about_to_pause_is_cancelled_at_once<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = submit(&actors, "a", [work("s", 10), work("t", 1)]).await;
    quiet().await;
    pause(&actors, "a").await.unwrap();
    assert_eq!(cancel(&actors, "a").await.unwrap(), CancelOutcome::Cancelled);
    assert!(matches!(run.await, Err(PlanError::Cancelled { completed, .. }) if completed.is_empty()));
    assert!(!record(&actors, "a").await.pausing);
    bench.bury(actors).await;
}

async fn a_pause_that_is_taken_back_before_it_took_effect_changes_nothing<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = submit(&actors, "a", [work("s", 10), work("t", 1)]).await;
    seconds(1).await;
    pause(&actors, "a").await.unwrap();
    assert_eq!(resume(&actors, "a").await.unwrap(), ResumeOutcome::Resumed);
    assert!(!record(&actors, "a").await.pausing);
    assert_eq!(resume(&actors, "a").await.unwrap(), ResumeOutcome::NotPaused(RunState::Running));
    run.await.unwrap();
    assert_eq!(bench.service.trace.all(), ["0s a.s", "10s a.t"]);
    let expected = [
        "plan.accepted",
        "plan.started",
        "task.started s",
        "plan.pausing",
        "plan.resumed",
        "task.completed s",
        "task.started t",
        "task.completed t",
        "plan.completed",
    ];
    assert_eq!(history_of(&actors, "a").await, expected);
    bench.bury(actors).await;
}

async fn a_run_that_is_told_to_pause_in_its_last_step_completes<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = submit(&actors, "a", [work("s", 10)]).await;
    seconds(1).await;
    assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Pausing);
    assert_eq!(run.await.unwrap(), ["s done"]);
    let record = record(&actors, "a").await;
    assert_eq!((record.state, record.pausing), (RunState::Completed, false));
    let events = history_of(&actors, "a").await;
    assert_eq!(events[3..], ["plan.pausing", "task.completed s", "plan.completed"]);
    bench.bury(actors).await;
}

async fn an_attempt_in_flight_keeps_its_timeout_when_its_run_is_told_to_pause<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = submit(&actors, "a", [work("s", 100).timeout(Duration::from_secs(10))]).await;
    seconds(6).await;
    pause(&actors, "a").await.unwrap();
    let since = status(&actors, "a").await.unwrap().current.unwrap().since;
    assert_eq!(since, bench.at(0));
    run.await.unwrap_err();
    assert_eq!(bench.elapsed(), 10);
    bench.bury(actors).await;
}

async fn blocking_code_is_waited_for_before_its_run_pauses<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = submit(&actors, "a", [block("s"), work("t", 1)]).await;
    called(&bench, 1).await;
    assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Pausing);
    assert_eq!(state(&actors, "a").await, RunState::Running);
    bench.service.release();
    reaches(&actors, "a", RunState::Paused).await;
    assert_eq!(status(&actors, "a").await.unwrap().completed, 1);
    resume(&actors, "a").await.unwrap();
    assert_eq!(run.await.unwrap().len(), 2);
    bench.bury(actors).await;
}

/// Blocking code that has come to a limit, whose step would be tried again: it pauses before that.
async fn a_run_that_stops_at_a_limit_pauses_before_the_next_attempt<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let retry = Retry::fixed(Duration::from_secs(1)).on_timeout(true);
    let limited = block("s").timeout(Duration::from_secs(5)).grace(Duration::from_secs(100)).retry(retry);
    let run = submit(&actors, "a", [limited]).await;
    called(&bench, 1).await;
    tokio::time::advance(Duration::from_secs(6)).await;
    reaches(&actors, "a", RunState::Stopping).await;
    assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Pausing);
    bench.service.release();
    reaches(&actors, "a", RunState::Paused).await;
    seconds(100).await;
    assert_eq!(state(&actors, "a").await, RunState::Paused);
    resume(&actors, "a").await.unwrap();
    run.await.unwrap();
    let events = history_of(&actors, "a").await;
    let expected = [
        "plan.stopping",
        "plan.pausing",
        "task.failed s",
        "plan.paused",
        "plan.resumed",
        "task.started s#2",
        "task.completed s",
        "plan.completed",
    ];
    assert_eq!(events[3..], expected);
    bench.bury(actors).await;
}

async fn the_deadline_of_a_plan_ends_its_pause<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let plan = ExecutePlan::new([work("s", 1), work("t", 1)]).run_id("a").deadline(Duration::from_secs(30));
    let run = submit_plan(&actors, plan).await;
    quiet().await;
    pause(&actors, "a").await.unwrap();
    let error = run.await.unwrap_err();
    assert!(matches!(&error, PlanError::DeadlineExceeded { step_id, .. } if step_id == "t"), "{error:?}");
    assert_eq!((bench.elapsed(), state(&actors, "a").await), (30, RunState::Failed));
    assert_eq!(
        actors.orchestrator.send(Shutdown::drain(Duration::from_secs(9))).await.unwrap(),
        ShutdownReport::default()
    );
    bench.forget(actors).await;
}

// Slots.

async fn a_paused_run_gives_its_slot_to_others<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let a = submit(&actors, "a", [work("s", 10), work("t", 10)]).await;
    let b = submit(&actors, "b", [work("s", 7), work("t", 7)]).await;
    seconds(1).await;
    pause(&actors, "a").await.unwrap();
    seconds(11).await;
    assert_eq!(states(&actors, ["a", "b"]).await, [RunState::Paused, RunState::Running]);
    // It is ready again while another has the slot, and waits for that.
    resume(&actors, "a").await.unwrap();
    quiet().await;
    let info = status(&actors, "a").await.unwrap();
    assert_eq!(info.state, RunState::Queued);
    b.await.unwrap();
    a.await.unwrap();
    assert_eq!(bench.service.trace.all(), ["0s a.s", "10s b.s", "17s b.t", "24s a.t"]);
    assert_eq!(bench.service.most.load(Ordering::SeqCst), 1);
    bench.bury(actors).await;
}

async fn resumed_runs_go_before_those_that_only_queued_and_in_their_order<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let mut runs = Vec::new();
    for id in ["a", "b", "c"] {
        runs.push(submit(&actors, id, [work("s", 1), work("t", 1)]).await);
        pause(&actors, id).await.unwrap();
        seconds(2).await;
    }
    for id in ["x", "y", "z"] {
        runs.push(submit(&actors, id, [work("s", 1)]).await);
    }
    quiet().await;
    for id in ["c", "a", "b"] {
        assert_eq!(resume(&actors, id).await.unwrap(), ResumeOutcome::Resumed);
    }
    for run in runs {
        run.await.unwrap();
    }
    let called: Vec<String> = bench.service.trace.all()[3..]
        .iter()
        .map(|call| call.split(' ').nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(called, ["x.s", "c.t", "a.t", "b.t", "y.s", "z.s"]);
    assert_eq!(bench.service.most.load(Ordering::SeqCst), 1);
    bench.bury(actors).await;
}

async fn runs_that_stand_aside_have_a_place_in_the_queue<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(|orchestrator| plain(orchestrator).queue_capacity(2)).await;
    let a = submit(&actors, "a", [work("s", 1), work("t", 1)]).await;
    pause(&actors, "a").await.unwrap();
    seconds(2).await;
    bench.service.goes(false);
    submit(&actors, "opener", [call("s", 0).breaker("payments")]).await.await.unwrap_err();
    let b = submit(&actors, "b", [call("s", 0).breaker("payments")]).await;
    quiet().await;
    assert_eq!(states(&actors, ["a", "b"]).await, [RunState::Paused, RunState::Parked]);
    // Two stand aside; the free slot takes one more.
    let running = submit(&actors, "c", [work("s", 1)]).await;
    let full = actors.orchestrator.send(ExecutePlan::new([work("s", 1)])).await.unwrap();
    assert!(matches!(full, Err(PlanError::QueueFull { capacity: 2 })), "{full:?}");
    running.await.unwrap();
    assert_eq!(cancel(&actors, "b").await.unwrap(), CancelOutcome::Cancelled);
    b.await.unwrap_err();
    let running = submit(&actors, "d", [work("s", 1)]).await;
    let waiting = submit(&actors, "e", [work("s", 1)]).await;
    resume(&actors, "a").await.unwrap();
    for run in [running, waiting, a] {
        run.await.unwrap();
    }
    bench.bury(actors).await;
}

// Retrying at once.

async fn a_run_that_backs_off_is_tried_at_once<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    let run = submit(&actors, "a", [patient()]).await;
    seconds(10).await;
    bench.service.goes(true);
    assert_eq!(retry_now(&actors, "a").await.unwrap(), RetryOutcome::Retrying);
    run.await.unwrap();
    assert_eq!(bench.service.trace.all(), ["0s a.call", "10s a.call#2"]);
    bench.bury(actors).await;
}

/// The attempt counts: it does not give the step one more.
async fn an_attempt_that_was_asked_for_counts_like_any_other<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    let retry = Retry::fixed(Duration::from_secs(100)).max_attempts(3);
    let run = submit(&actors, "a", [call("s", 0).retry(retry)]).await;
    for _ in 0..2 {
        seconds(1).await;
        assert_eq!(retry_now(&actors, "a").await.unwrap(), RetryOutcome::Retrying);
    }
    assert!(matches!(run.await, Err(PlanError::StepFailed { attempt: 3, .. })));
    assert_eq!(bench.service.trace.all(), ["0s a.s", "1s a.s#2", "2s a.s#3"]);
    bench.bury(actors).await;
}

// Restarts.

async fn a_paused_run_stays_paused_after_a_restart<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = submit(&actors, "a", [work("s", 1), work("t", 1)]).await;
    quiet().await;
    pause(&actors, "a").await.unwrap();
    seconds(5).await;
    bench.bury(actors).await;
    assert!(matches!(run.await, Err(PlanError::Interrupted { .. })));
    for _ in 0..2 {
        let actors = bench.live(plain).await;
        seconds(50).await;
        assert_eq!(state(&actors, "a").await, RunState::Paused);
        assert_eq!(record(&actors, "a").await.state, RunState::Paused);
        bench.bury(actors).await;
    }
    let actors = bench.live(plain).await;
    seconds(1).await;
    assert_eq!(resume(&actors, "a").await.unwrap(), ResumeOutcome::Resumed);
    let attached = submit(&actors, "a", [work("s", 1), work("t", 1)]).await;
    assert_eq!(attached.await.unwrap(), ["s done", "t done"]);
    let calls = bench.service.trace.all();
    assert_eq!(calls.len(), 2, "{calls:?}");
    let expected = [
        "plan.accepted",
        "plan.started",
        "task.started s",
        "plan.pausing",
        "task.completed s",
        "plan.paused",
        "plan.resumed",
        "task.started t",
        "task.completed t",
        "plan.completed",
    ];
    assert_eq!(history_of(&actors, "a").await, expected);
    bench.bury(actors).await;
}

/// Nothing but the store tells the next process that the pause was answered.
async fn a_crash_after_the_answer_pausing_leads_to_a_paused_run<W: World>() {
    let bench = Bench::<W>::new();
    // Accepted and started; pausing; then it dies with the result of the step.
    let dying = FaultyStore::new(bench.store().await, Fault::Die, 3);
    let actors = bench.live_over(dying, plain);
    let run = submit(&actors, "a", [work("s", 5), work("t", 1)]).await;
    quiet().await;
    assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Pausing);
    run.await.unwrap_err();
    bench.forget(actors).await;

    let actors = bench.live(plain).await;
    seconds(100).await;
    assert_eq!(state(&actors, "a").await, RunState::Paused);
    assert_eq!(bench.service.trace.all(), ["0s a.s"]);
    resume(&actors, "a").await.unwrap();
    let attached = submit(&actors, "a", [work("s", 5), work("t", 1)]).await;
    assert_eq!(attached.await.unwrap(), ["s done", "t done"]);
    // What was in flight when the process died is tried again.
    assert!(bench.service.trace.all()[1].ends_with("a.s#2"));
    bench.bury(actors).await;
}

/// Everything that is asked in the moment after a restart, when the runs are still being taken up.
async fn what_is_asked_right_after_a_restart_is_answered_by_what_is_stored<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(|orchestrator| plain(orchestrator).max_concurrent_plans(4)).await;
    bench.service.goes(false);
    submit(&actors, "opener", [call("s", 0).breaker("payments")]).await.await.unwrap_err();
    submit(&actors, "parked", [call("s", 0).breaker("payments")]).await;
    submit(&actors, "paused", [work("s", 1), work("t", 1)]).await;
    pause(&actors, "paused").await.unwrap();
    seconds(2).await;
    bench.bury(actors).await;

    let actors = bench.live(|orchestrator| plain(orchestrator).max_concurrent_plans(4)).await;
    bench.service.goes(true);
    let resumed = actors.orchestrator.send(ResumePlan(run_id("paused")));
    let retried = actors.orchestrator.send(RetryNow(run_id("parked")));
    assert_eq!(resumed.await.unwrap().unwrap(), ResumeOutcome::Resumed);
    assert_eq!(retried.await.unwrap().unwrap(), RetryOutcome::Retrying);
    seconds(2).await;
    assert_eq!(states(&actors, ["paused", "parked"]).await, [RunState::Completed; 2]);
    bench.bury(actors).await;
}

/// A run that was cut off in an attempt and waits for a slot again: it is paused where it waits.
async fn a_run_that_waits_for_a_slot_after_a_restart_is_paused_at_once<W: World>() {
    let bench = Bench::<W>::new();
    let dying = FaultyStore::new(bench.store().await, Fault::Die, 4);
    let actors = bench.live_over(dying, |orchestrator| plain(orchestrator).max_concurrent_plans(2));
    let first = submit(&actors, "first", [work("s", 100), work("t", 1)]).await;
    let second = submit(&actors, "second", [work("s", 5), work("t", 95), work("u", 1)]).await;
    // The third commit is the last: that of the second run's first step.
    first.await.unwrap_err();
    second.await.unwrap_err();
    bench.forget(actors).await;

    let actors = bench.live(plain).await;
    quiet().await;
    let asked = bench.elapsed();
    assert_eq!(pause(&actors, "second").await.unwrap(), PauseOutcome::Paused);
    assert_eq!(bench.elapsed(), asked, "nobody waits for the slot");
    assert_eq!(states(&actors, ["first", "second"]).await, [RunState::Running, RunState::Paused]);
    seconds(300).await;
    assert_eq!(states(&actors, ["first", "second"]).await, [RunState::Completed, RunState::Paused]);
    resume(&actors, "second").await.unwrap();
    seconds(300).await;
    assert_eq!(state(&actors, "second").await, RunState::Completed);
    bench.bury(actors).await;
}

async fn who_attaches_to_a_paused_run_waits_for_its_outcome<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let steps = || [work("s", 1), work("t", 1)];
    let first = submit(&actors, "a", steps()).await;
    pause(&actors, "a").await.unwrap();
    seconds(5).await;
    let mut second = submit(&actors, "a", steps()).await;
    tokio::select! {
        biased;
        outcome = &mut second => panic!("{outcome:?}"),
        () = seconds(50) => {}
    }
    resume(&actors, "a").await.unwrap();
    assert_eq!(second.await.unwrap(), first.await.unwrap());
    bench.bury(actors).await;
}

// Shutting down.

async fn a_shutdown_leaves_what_stands_aside_as_it_is_stored<W: World>() {
    for drain in [true, false] {
        let bench = Bench::<W>::new();
        let actors = bench.live(plain).await;
        bench.service.goes(false);
        submit(&actors, "opener", [call("s", 0).breaker("payments")]).await.await.unwrap_err();
        let parked = submit(
            &actors,
            "parked",
            [call("s", 0).breaker("payments").total_timeout(Duration::from_secs(500))],
        )
        .await;
        let paused = submit(&actors, "paused", [work("s", 1), work("t", 1)]).await;
        pause(&actors, "paused").await.unwrap();
        seconds(2).await;
        let queued = submit(&actors, "running", [work("s", 20)]).await;
        quiet().await;
        let shutdown = if drain { Shutdown::drain(Duration::from_secs(30)) } else { Shutdown::now() };
        let report = actors.orchestrator.send(shutdown).await.unwrap();
        let counts = (report.completed, report.failed, report.cancelled, report.interrupted);
        assert_eq!(counts, if drain { (1, 0, 0, 2) } else { (0, 0, 1, 2) });
        // The parked one is given its chance for as long as the drain may take.
        assert_eq!(bench.elapsed(), if drain { 32 } else { 2 });
        for run in [parked, paused] {
            let error = run.await.unwrap_err();
            assert!(matches!(error, PlanError::Interrupted { .. }), "{error:?}");
        }
        assert_eq!(queued.await.is_ok(), drain);
        assert_eq!(record(&actors, "parked").await.state, RunState::Parked);
        assert_eq!(record(&actors, "paused").await.state, RunState::Paused);
        bench.forget(actors).await;
        let actors = bench.live(plain).await;
        quiet().await;
        assert_eq!(states(&actors, ["parked", "paused"]).await, [RunState::Parked, RunState::Paused]);
        let breaker = record_of_breaker(&actors).await;
        assert_eq!((breaker.state, breaker.until), (CircuitState::Open, Some(bench.at(60))));
        bench.bury(actors).await;
    }
}

async fn record_of_breaker(actors: &Actors) -> BreakerRecord {
    actors.orchestrator.send(Breakers::List).await.unwrap().unwrap().remove(0)
}

async fn a_paused_run_does_not_hold_up_a_drain<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let paused = submit(&actors, "a", [work("s", 1), work("t", 1)]).await;
    pause(&actors, "a").await.unwrap();
    seconds(5).await;
    let report = actors.orchestrator.send(Shutdown::drain(Duration::from_secs(3_600))).await.unwrap();
    assert_eq!((report.interrupted, bench.elapsed()), (1, 5));
    let reason = paused.await.unwrap_err().to_string();
    assert_eq!(
        reason,
        "run a was interrupted: the orchestrator shut down while it was paused; it goes on from there when it is taken up again"
    );
    bench.forget(actors).await;
}

/// Told to pause while the drain is under way, in each of the ways to come to a pause.
async fn what_is_paused_during_a_drain_does_not_hold_it_up<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    submit(&actors, "opener", [call("s", 0).breaker("payments")]).await.await.unwrap_err();
    let parked = submit(&actors, "parked", [call("s", 0).breaker("payments")]).await;
    let running = submit(&actors, "running", [work("s", 10), work("t", 10)]).await;
    let queued = submit(&actors, "queued", [work("s", 10)]).await;
    quiet().await;
    let drained = actors.orchestrator.send(Shutdown::drain(Duration::from_secs(3_600)));
    assert_eq!(pause(&actors, "running").await.unwrap(), PauseOutcome::Pausing);
    for id in ["parked", "queued"] {
        assert_eq!(pause(&actors, id).await.unwrap(), PauseOutcome::Paused, "{id}");
    }
    let report = drained.await.unwrap();
    assert_eq!((report.interrupted, report.completed, report.cancelled, report.failed), (3, 0, 0, 0));
    assert_eq!(bench.elapsed(), 10);
    for run in [parked, running, queued] {
        assert!(matches!(run.await, Err(PlanError::Interrupted { .. })));
    }
    bench.forget(actors).await;
    let actors = bench.live(plain).await;
    quiet().await;
    assert_eq!(states(&actors, ["parked", "running", "queued"]).await, [RunState::Paused; 3]);
    bench.bury(actors).await;
}

async fn dropping_the_last_handle_leaves_a_paused_run_as_it_is_stored<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let paused = submit(&actors, "a", [work("s", 1), work("t", 1)]).await;
    pause(&actors, "a").await.unwrap();
    seconds(5).await;
    bench.forget(actors).await;
    assert!(matches!(paused.await, Err(PlanError::Interrupted { .. })));
    assert_eq!(bench.elapsed(), 5);
    let actors = bench.live(plain).await;
    quiet().await;
    assert_eq!(state(&actors, "a").await, RunState::Paused);
    bench.bury(actors).await;
}

async fn dropping_the_last_handle_leaves_a_parked_run_as_it_is_stored<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    submit(&actors, "opener", [call("s", 0).breaker("payments")]).await.await.unwrap_err();
    let parked = submit(&actors, "a", [call("s", 0).breaker("payments")]).await;
    quiet().await;
    let memory = actors.memory.clone();
    drop((actors.orchestrator, actors.bus, actors.memory));
    assert!(matches!(parked.await, Err(PlanError::Interrupted { .. })));
    assert_eq!(bench.elapsed(), limits::DROP_DRAIN.as_secs());
    assert_eq!(memory.send(GetRun(run_id("a"))).await.unwrap().unwrap().unwrap().state, RunState::Parked);
}

// A store that fails.

async fn a_pause_that_cannot_be_stored_interrupts_its_run<W: World>() {
    // Running, queued behind another, and backing off: each time the commit of the pause is the one that fails.
    for (stage, failing) in [(Stage::Running, 2), (Stage::Queued, 3), (Stage::BackingOff, 3)] {
        let bench = Bench::<W>::new();
        bench.service.goes(false);
        let store = FaultyStore::new(bench.store().await, Fault::Fail, failing);
        let actors = bench.live_over(store, plain);
        if stage == Stage::Queued {
            submit(&actors, "before", [work("s", 100)]).await;
        }
        let first = if stage == Stage::BackingOff { patient() } else { work("s", 100) };
        let run = submit(&actors, "a", [first, work("t", 1)]).await;
        quiet().await;
        let refused = pause(&actors, "a").await.unwrap_err();
        assert!(matches!(refused, ControlError::Memory(_)), "{stage:?}: {refused:?}");
        let error = run.await.unwrap_err();
        assert!(matches!(error, PlanError::Memory { .. }), "{stage:?}: {error:?}");
        assert_eq!(state(&actors, "a").await, RunState::Interrupted, "{stage:?}");
        // Its slot is free.
        if stage == Stage::Queued {
            cancel(&actors, "before").await.unwrap();
        }
        submit(&actors, "b", [work("s", 1)]).await.await.unwrap();
        bench.bury(actors).await;
    }
}

// Slots, whatever is asked.

/// What is asked, of whom, and how many milliseconds pass then.
type Move = (u8, usize, u64);

/// Runs whose attempt is in flight or that keep their slot, and those that wait for one.
async fn busy_and_queued(actors: &Actors) -> (usize, usize) {
    let infos = actors.orchestrator.send(ListPlans::new()).await.unwrap().unwrap();
    let count = |states: &[RunState]| infos.iter().filter(|info| states.contains(&info.state)).count();
    (count(&[RunState::Running, RunState::BackingOff]), count(&[RunState::Queued]))
}

/// An answer does not wait for time to pass.
async fn in_time<T>(answer: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_millis(1), answer).await.expect("an answer at once")
}

/// A step of each kind that has a slot, or gives it up.
fn all_kinds() -> [Step; 6] {
    let retry = Retry::fixed(Duration::from_secs(2)).max_attempts(5);
    [
        work("first", 1),
        call("second", 1).retry(retry.clone()),
        Step::sleep("nap", Duration::from_secs(1)),
        call("third", 1).breaker("payments").retry(retry),
        Step::wait_for_signal("signal", "go"),
        work("fourth", 0),
    ]
}

async fn any_interleaving(slots: usize, moves: Vec<Move>) {
    let bench = Bench::<Volatile>::new();
    let configure = |orchestrator: ExecutionOrchestrator| plain(orchestrator).max_concurrent_plans(slots);
    let actors = bench.live(configure).await;
    let ended = Arc::new(Mutex::new(Vec::new()));
    let mut ids: Vec<String> = Vec::new();
    for (what, which, millis) in moves {
        let id = ids.get(which % ids.len().max(1)).map_or("none", String::as_str);
        match what {
            0..=2 => {
                let id = format!("{:02}", ids.len());
                let run = submit(&actors, &id, all_kinds()).await;
                let ended = Arc::clone(&ended);
                actix::spawn(async move {
                    let id = run.run_id().clone();
                    let outcome = run.await;
                    ended.lock().unwrap().push((id, outcome));
                });
                ids.push(id);
            }
            3 | 4 => drop(in_time(pause(&actors, id)).await),
            5 => drop(in_time(resume(&actors, id)).await),
            6 => drop(in_time(cancel(&actors, id)).await),
            7 => drop(in_time(retry_now(&actors, id)).await),
            8 => bench.service.goes(which % 2 == 0),
            9 => drop(in_time(signal(&actors, id, "go", 1)).await),
            _ => {
                drop(
                    actors.orchestrator.send(Breakers::Reset("payments".to_owned())).await.unwrap().unwrap(),
                );
            }
        }
        tokio::time::sleep(Duration::from_millis(millis)).await;
        quiet().await;
        let (mut busy, mut queued) = busy_and_queued(&actors).await;
        if queued > 0 && busy < slots {
            // A run may have ended this very moment, and the start of the next be on its way.
            quiet().await;
            (busy, queued) = busy_and_queued(&actors).await;
        }
        assert!(busy <= slots, "{busy} of {slots}");
        assert!(queued == 0 || busy == slots, "{queued} wait, and {busy} of {slots} are busy");
    }
    // Whatever stands aside goes on, and the line comes to its end.
    bench.service.goes(true);
    for id in &ids {
        let _ = in_time(signal(&actors, id, "go", 1)).await;
        let _ = in_time(resume(&actors, id)).await;
    }
    quiet().await;
    let before = ended.lock().unwrap().len();
    let report = actors.orchestrator.send(Shutdown::drain(Duration::from_secs(100_000))).await.unwrap();
    assert!(bench.elapsed() < 50_000, "the drain came to its own end");
    quiet().await;
    let ended = std::mem::take(&mut *ended.lock().unwrap());
    assert_eq!(ended.len(), ids.len());
    let count = |matches: fn(&Result<Vec<serde_json::Value>, PlanError>) -> bool| {
        ended[before..].iter().filter(|(_, outcome)| matches(outcome)).count()
    };
    let counts = (report.completed, report.failed, report.cancelled, report.interrupted);
    let failed = count(|outcome| matches!(outcome, Err(PlanError::StepFailed { .. })));
    let cancelled = count(|outcome| matches!(outcome, Err(PlanError::Cancelled { .. })));
    assert_eq!(counts, (count(Result::is_ok), failed, cancelled, 0), "{:?}", &ended[before..]);
    let most = bench.service.most.load(Ordering::SeqCst);
    assert!(most <= slots, "{most} in flight, with {slots} slots");
    one_attempt_at_a_time(&actors, &ids).await;
}

async fn one_attempt_at_a_time(actors: &Actors, ids: &[String]) {
    for id in ids {
        let events: Vec<String> = history_of(actors, id).await;
        let open = events.iter().fold(0_i32, |open, event| match event.split(' ').next().unwrap() {
            "task.started" => {
                assert_eq!(open, 0, "{id}: {events:?}");
                1
            }
            "task.completed" | "task.failed" | "task.cancelled" => 0,
            _ => open,
        });
        assert_eq!(open, 0, "{id}: {events:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Never more attempts in flight than slots, no slot is lost, and every run ends or stands aside.
    #[test]
    fn slots_are_counted_right_under_any_interleaving(
        slots in 1_usize..4,
        moves in proptest::collection::vec((0_u8..11, 0_usize..8, 0_u64..2_500), 1..50),
    ) {
        actix::System::new().block_on(in_the_end(any_interleaving(slots, moves)));
    }
}

frozen! {
    every_message_has_its_answer_in_every_state
    pausing_between_steps_is_said_before_and_when_it_takes_effect
    a_queued_run_is_paused_before_it_is_started
    a_run_that_is_being_resolved_is_paused
    the_rest_of_a_delay_is_waited_after_a_pause
    a_delay_that_has_passed_during_a_pause_is_not_waited_again
    a_run_that_was_about_to_pause_does_so_instead_of_backing_off
    a_parked_run_is_paused_and_does_not_go_on_when_its_breaker_closes
    a_parked_run_that_is_resumed_while_its_breaker_is_open_parks_again
    a_paused_run_is_cancelled_at_once
    a_run_that_is_about_to_pause_is_cancelled_at_once
    a_pause_that_is_taken_back_before_it_took_effect_changes_nothing
    a_run_that_is_told_to_pause_in_its_last_step_completes
    an_attempt_in_flight_keeps_its_timeout_when_its_run_is_told_to_pause
    blocking_code_is_waited_for_before_its_run_pauses
    a_run_that_stops_at_a_limit_pauses_before_the_next_attempt
    the_deadline_of_a_plan_ends_its_pause
    a_paused_run_gives_its_slot_to_others
    resumed_runs_go_before_those_that_only_queued_and_in_their_order
    runs_that_stand_aside_have_a_place_in_the_queue
    a_run_that_backs_off_is_tried_at_once
    an_attempt_that_was_asked_for_counts_like_any_other
    a_paused_run_stays_paused_after_a_restart
    a_crash_after_the_answer_pausing_leads_to_a_paused_run
    what_is_asked_right_after_a_restart_is_answered_by_what_is_stored
    a_run_that_waits_for_a_slot_after_a_restart_is_paused_at_once
    who_attaches_to_a_paused_run_waits_for_its_outcome
    a_shutdown_leaves_what_stands_aside_as_it_is_stored
    a_paused_run_does_not_hold_up_a_drain
    what_is_paused_during_a_drain_does_not_hold_it_up
    dropping_the_last_handle_leaves_a_paused_run_as_it_is_stored
    dropping_the_last_handle_leaves_a_parked_run_as_it_is_stored
    a_pause_that_cannot_be_stored_interrupts_its_run
}
