//! Steps that may have had their effect, and runs that are tried again: what is kept, what is done once more, what is told.
//!
//! Time is tokio's and stands still. What concerns a store is run on each: see `frozen!`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::Actor;
use lunacore::testing::{Fault, FaultyStore};
use lunacore::*;
use serde_json::{Value, json};

use crate::recovery::World;
use crate::staged::*;
use crate::support::*;

fn plain(orchestrator: ExecutionOrchestrator) -> ExecutionOrchestrator {
    orchestrator
}

async fn resolve(actors: &Actors, step: &str, outcome: StepOutcome) -> Result<ResolveOutcome, ControlError> {
    actors.orchestrator.send(ResolveStep::new(run_id("a"), step, outcome)).await.unwrap()
}

async fn skip(actors: &Actors, step: &str) -> Result<ResolveOutcome, ControlError> {
    actors.orchestrator.send(SkipStep::new(run_id("a"), step)).await.unwrap()
}

fn retry_of(id: &str) -> RetryRun {
    RetryRun::new(run_id(id))
}

async fn retry(actors: &Actors, retry: RetryRun) -> Result<RunHandle, PlanError> {
    actors.orchestrator.send(retry).await.unwrap()
}

async fn attached(actors: &Actors, steps: Vec<Step>) -> Result<Vec<Value>, PlanError> {
    actors.orchestrator.send(ExecutePlan::new(steps).run_id("a")).await.unwrap()
}

/// The events of the run `a` behind the first that says this.
async fn since(actors: &Actors, first: &str) -> Vec<String> {
    let all = history_of(actors, "a").await;
    let at = all.iter().position(|said| said == first).unwrap_or_else(|| panic!("no {first} in {all:?}"));
    all[at..].to_vec()
}

/// Leaves the run `a` of these steps with its second one in flight, as a process does that dies in it.
async fn cut_off<W: World>(bench: &Bench<W>, steps: Vec<Step>) {
    let actors = bench.live_over(FaultyStore::new(bench.store().await, Fault::Die, 3), plain);
    let run = submit(&actors, "a", steps).await;
    assert!(matches!(run.await, Err(PlanError::Memory { .. })));
    bench.forget(actors).await;
}

fn in_doubt(on_interrupted: OnInterrupted) -> Vec<Step> {
    vec![work("s", 0), work("t", 1).on_interrupted(on_interrupted), work("u", 0)]
}

// Held.

async fn a_step_in_flight_is_held_until_somebody_decides<W: World>() {
    for (outcome, calls, ends) in [
        (Some(StepOutcome::Completed(json!({ "paid": true }))), 0, Ok(json!({ "paid": true }))),
        (Some(StepOutcome::Rerun), 1, Ok(json!("t done"))),
        (None, 0, Ok(Value::Null)),
        (Some(StepOutcome::Failed("it bounced".to_owned())), 0, Err("it bounced")),
    ] {
        let bench = Bench::<W>::new();
        cut_off(&bench, in_doubt(OnInterrupted::Hold)).await;
        let actors = bench.live(plain).await;
        reaches(&actors, "a", RunState::Held).await;
        let info = status(&actors, "a").await.unwrap();
        assert_eq!((info.held, info.completed), (Some(HoldReason::Interrupted), 1));
        let current = info.current.unwrap();
        assert_eq!((&*current.step_id, current.attempt), ("t", 1));
        // It has no slot.
        submit(&actors, "other", [work("o", 1)]).await.await.unwrap();
        assert_eq!(since(&actors, "plan.resumed").await, ["plan.resumed", "task.recovered s", "task.held t"]);

        // Nor after another restart, which tells nothing new.
        bench.bury(actors).await;
        let actors = bench.live(plain).await;
        reaches(&actors, "a", RunState::Held).await;
        let told = history_of(&actors, "a").await;
        assert_eq!(told.iter().filter(|told| *told == "task.held t").count(), 1);
        let before = bench.service.trace.all().len();

        let decided = match outcome.clone() {
            Some(outcome) => resolve(&actors, "t", outcome).await,
            None => skip(&actors, "t").await,
        };
        assert_eq!(decided.unwrap(), ResolveOutcome::Resolved);
        let answer = attached(&actors, in_doubt(OnInterrupted::Hold)).await;
        let called = bench.service.trace.all()[before..].to_vec();
        match ends {
            Ok(result) => {
                assert_eq!(answer.unwrap(), [json!("s done"), result.clone(), json!("u done")]);
                assert_eq!(called.iter().filter(|call| call.contains("a.t")).count(), calls, "{called:?}");
                let stored = record(&actors, "a").await;
                assert_eq!((stored.state, stored.step.held), (RunState::Completed, None));
            }
            Err(reason) => {
                let Err(PlanError::StepFailed { step_id, source, completed, .. }) = answer else { panic!() };
                assert_eq!((&*step_id, source.to_string().as_str(), completed.len()), ("t", reason, 1));
                assert!(called.is_empty());
            }
        }
        let told = since(&actors, "task.resolved t").await;
        let expected: &[&str] = match outcome {
            Some(StepOutcome::Completed(_)) => &["task.completed t", "task.started u"],
            Some(StepOutcome::Rerun) => &["task.started t#2", "task.completed t", "task.started u"],
            Some(_) => &["plan.failed t"],
            None => &["task.skipped t", "task.started u"],
        };
        assert_eq!(told[1..=expected.len()], *expected, "{told:?}");
        bench.bury(actors).await;
    }
}

async fn what_is_decided_must_be_about_the_step_that_is_held<W: World>() {
    let bench = Bench::<W>::new();
    cut_off(&bench, in_doubt(OnInterrupted::Hold)).await;
    let actors = bench.live(plain).await;
    reaches(&actors, "a", RunState::Held).await;
    let other = resolve(&actors, "u", StepOutcome::Rerun).await.unwrap_err();
    assert_eq!(other.to_string(), r#"run a is held at step "t", and not at "u""#);
    let large = "x".repeat(lunacore::limits::MAX_OUTPUT_BYTES + 1);
    let refused = resolve(&actors, "t", StepOutcome::Completed(large.into())).await.unwrap_err();
    assert!(matches!(&refused, ControlError::Refused { .. }), "{refused}");
    assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Held);
    assert_eq!(resume(&actors, "a").await.unwrap(), ResumeOutcome::NotPaused(RunState::Held));
    assert_eq!(state(&actors, "a").await, RunState::Held);
    // To try it again at once is to decide that it had no effect.
    assert_eq!(retry_now(&actors, "a").await.unwrap(), RetryOutcome::Retrying);
    attached(&actors, in_doubt(OnInterrupted::Hold)).await.unwrap();
    let done = ResolveOutcome::NotHeld(RunState::Completed);
    assert_eq!(resolve(&actors, "t", StepOutcome::Rerun).await.unwrap(), done);
    assert_eq!(skip(&actors, "t").await.unwrap(), done);
    let unknown = ResolveStep::new(run_id("nobody"), "t", StepOutcome::Rerun);
    let unknown = actors.orchestrator.send(unknown).await.unwrap().unwrap_err();
    assert!(matches!(unknown, ControlError::UnknownRun { .. }));
    bench.bury(actors).await;
}

async fn a_held_run_is_cancelled_and_comes_to_its_deadline<W: World>() {
    let bench = Bench::<W>::new();
    cut_off(&bench, in_doubt(OnInterrupted::Hold)).await;
    let actors = bench.live(plain).await;
    reaches(&actors, "a", RunState::Held).await;
    assert_eq!(cancel(&actors, "a").await.unwrap(), CancelOutcome::Cancelled);
    assert_eq!(since(&actors, "task.held t").await[1..], ["task.cancelled t", "plan.cancelled"]);
    bench.bury(actors).await;

    let bench = Bench::<W>::new();
    let actors = bench.live_over(FaultyStore::new(bench.store().await, Fault::Die, 3), plain);
    let steps = in_doubt(OnInterrupted::Hold);
    let plan = ExecutePlan::new(steps).run_id("a").deadline(Duration::from_secs(100));
    assert!(submit_plan(&actors, plan.clone()).await.await.is_err());
    bench.forget(actors).await;
    let actors = bench.live(plain).await;
    let ended = actors.orchestrator.send(plan).await.unwrap().unwrap_err();
    assert!(matches!(ended, PlanError::DeadlineExceeded { index: 1, .. }), "{ended}");
    assert_eq!(bench.elapsed(), 100);
    bench.bury(actors).await;
}

async fn a_step_that_fails_for_good_can_be_held<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    let steps = || {
        let held = call("t", 0).retry(Retry::fixed(Duration::from_secs(1)).max_attempts(2));
        vec![work("s", 0), held.on_failure(OnFailure::Hold).total_timeout(Duration::from_secs(10))]
    };
    let run = submit(&actors, "a", steps()).await;
    seconds(5).await;
    reaches(&actors, "a", RunState::Held).await;
    let info = status(&actors, "a").await.unwrap();
    assert_eq!(
        (info.held, info.failure.unwrap().message.clone()),
        (Some(HoldReason::Failed), "the service is down".into())
    );
    // Its own time does not pass, and begins anew.
    seconds(1_000).await;
    assert_eq!(state(&actors, "a").await, RunState::Held);
    bench.service.goes(true);
    assert_eq!(resolve(&actors, "t", StepOutcome::Rerun).await.unwrap(), ResolveOutcome::Resolved);
    assert_eq!(run.await.unwrap(), ["s done", "t done"]);
    let expected = [
        "task.failed t",
        "task.started t#2",
        "task.failed t#2",
        "task.held t",
        "task.resolved t",
        "task.started t#3",
        "task.completed t",
        "plan.completed",
    ];
    assert_eq!(since(&actors, "task.failed t").await, expected);
    bench.bury(actors).await;
}

async fn a_held_run_whose_callables_are_gone_is_held_again_when_they_are_back<W: World>() {
    let bench = Bench::<W>::new();
    cut_off(&bench, in_doubt(OnInterrupted::Hold)).await;
    let actors = bench.live(plain).await;
    reaches(&actors, "a", RunState::Held).await;
    bench.bury(actors).await;
    // A program that does not know them.
    let memory = ProjectMemory::with_store(bench.store().await);
    let other = start_over(memory);
    reaches(&other, "a", RunState::Interrupted).await;
    quiet().await;
    bench.bury(other).await;
    let actors = bench.live(plain).await;
    reaches(&actors, "a", RunState::Held).await;
    assert_eq!(status(&actors, "a").await.unwrap().held, Some(HoldReason::Interrupted));
    assert!(bench.service.trace.all().len() == 2, "nothing was called again");
    bench.bury(actors).await;
}

/// Here it is not its policy that has it held, and the same holds.
async fn a_step_that_failed_is_held_again_when_its_callables_are_back<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    submit(&actors, "a", [Step::named("t").uses("refuse").on_failure(OnFailure::Hold)]).await;
    reaches(&actors, "a", RunState::Held).await;
    bench.bury(actors).await;
    let other = start_over(ProjectMemory::with_store(bench.store().await));
    reaches(&other, "a", RunState::Interrupted).await;
    quiet().await;
    bench.bury(other).await;
    let actors = bench.live(plain).await;
    reaches(&actors, "a", RunState::Held).await;
    assert_eq!(status(&actors, "a").await.unwrap().held, Some(HoldReason::Failed));
    let started =
        history_of(&actors, "a").await.iter().filter(|told| told.starts_with("task.started")).count();
    assert_eq!(started, 1, "nobody decides for the person");
    bench.bury(actors).await;
}

async fn only_what_was_in_flight_is_in_doubt<W: World>() {
    // Backing off: the attempt has failed, which is known.
    let bench = Bench::<W>::new();
    bench.service.goes(false);
    let steps = || {
        vec![call("t", 0).retry(Retry::fixed(Duration::from_secs(50))).on_interrupted(OnInterrupted::Hold)]
    };
    let actors = bench.live(plain).await;
    submit(&actors, "a", steps()).await;
    reaches(&actors, "a", RunState::BackingOff).await;
    pause(&actors, "a").await.unwrap();
    bench.bury(actors).await;
    bench.service.goes(true);
    let actors = bench.live(plain).await;
    resume(&actors, "a").await.unwrap();
    attached(&actors, steps()).await.unwrap();
    assert!(!history_of(&actors, "a").await.contains(&"task.held t".to_owned()));
    bench.bury(actors).await;
}

// Verified.

async fn what_verifies_a_step_decides_about_it<W: World>() {
    for (answer, state, result) in [
        (json!({ "verdict": "happened", "output": 7 }), RunState::Completed, json!(7)),
        (json!({ "verdict": "happened" }), RunState::Completed, Value::Null),
        (json!({ "verdict": "did_not_happen" }), RunState::Completed, json!("t done")),
        (json!({ "verdict": "unknown" }), RunState::Held, Value::Null),
        (json!("it did, I think"), RunState::Held, Value::Null),
        (json!({ "panic": true }), RunState::Held, Value::Null),
        (json!({ "sleep": 100 }), RunState::Held, Value::Null),
    ] {
        let bench = Bench::<W>::new();
        let steps = || {
            let verified = work("t", 1).on_interrupted(OnInterrupted::verify_named("verify"));
            vec![work("s", 0), verified.timeout(Duration::from_secs(20)), work("u", 0)]
        };
        cut_off(&bench, steps()).await;
        *bench.service.answer.lock().unwrap() = answer.clone();
        let actors = bench.live(plain).await;
        let patience = Patience::new();
        while ![RunState::Completed, RunState::Held].contains(&record(&actors, "a").await.state) {
            patience.wait("a verdict").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let stored = record(&actors, "a").await;
        assert_eq!(stored.state, state, "{answer}");
        let asked = bench.service.trace.all().iter().filter(|call| call.contains("verify")).count();
        assert_eq!(asked, 1);
        if state == RunState::Completed {
            assert_eq!(attached(&actors, steps()).await.unwrap()[1], result, "{answer}");
            let calls = bench.service.trace.all();
            let again = calls.iter().filter(|call| call.contains("a.t#2")).count();
            assert_eq!(again, usize::from(answer["verdict"] == "did_not_happen"), "{calls:?}");
        } else {
            assert_eq!(stored.step.held, Some(HoldReason::Unverified));
            assert_eq!(since(&actors, "task.verifying t").await, ["task.verifying t", "task.held t"]);
            assert_eq!(stored.failure.is_some(), answer["verdict"] != "unknown", "{answer}");
            resolve(&actors, "t", StepOutcome::Completed(json!(1))).await.unwrap();
            assert_eq!(attached(&actors, steps()).await.unwrap()[1], json!(1));
        }
        bench.bury(actors).await;
    }
}

async fn a_run_that_dies_while_it_is_verified_is_verified_again<W: World>() {
    let bench = Bench::<W>::new();
    let steps = || in_doubt(OnInterrupted::verify_named("verify"));
    cut_off(&bench, steps()).await;
    *bench.service.answer.lock().unwrap() = json!({ "verdict": "happened", "output": 7 });
    // The commit that says what it found is lost.
    let actors = bench.live_over(FaultyStore::new(bench.store().await, Fault::Die, 2), plain);
    quiet().await;
    bench.forget(actors).await;
    let actors = bench.live(plain).await;
    assert_eq!(attached(&actors, steps()).await.unwrap()[1], json!(7));
    let asked = bench.service.trace.all().iter().filter(|call| call.contains("verify")).count();
    assert_eq!(asked, 2);
    assert!(!bench.service.trace.all().iter().any(|call| call.contains("a.t#2")));
    bench.bury(actors).await;
}

async fn a_run_can_be_cancelled_and_paused_while_it_is_verified<W: World>() {
    let bench = Bench::<W>::new();
    let steps = || in_doubt(OnInterrupted::verify_named("verify"));
    cut_off(&bench, steps()).await;
    *bench.service.answer.lock().unwrap() = json!({ "sleep": 100 });
    let actors = bench.live(plain).await;
    seconds(1).await;
    assert!(record(&actors, "a").await.step.verifying);
    assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Pausing);
    *bench.service.answer.lock().unwrap() = json!({ "verdict": "did_not_happen" });
    seconds(200).await;
    // It answered what it was asked for by then, which was no verdict.
    assert_eq!(state(&actors, "a").await, RunState::Held);
    resolve(&actors, "t", StepOutcome::Rerun).await.unwrap();
    reaches(&actors, "a", RunState::Paused).await;
    assert_eq!(cancel(&actors, "a").await.unwrap(), CancelOutcome::Cancelled);
    bench.bury(actors).await;

    let bench = Bench::<W>::new();
    cut_off(&bench, steps()).await;
    *bench.service.answer.lock().unwrap() = json!({ "sleep": 100 });
    let actors = bench.live(plain).await;
    seconds(1).await;
    assert_eq!(cancel(&actors, "a").await.unwrap(), CancelOutcome::Cancelled);
    assert_eq!(record(&actors, "a").await.state, RunState::Cancelled);
    bench.bury(actors).await;
}

/// Another run has the only slot after the restart, so that this one waits in the line with its step in doubt. `pausing`: it was
/// told to pause before.
async fn cut_off_and_queued<W: World>(bench: &Bench<W>, steps: Vec<Step>, pausing: bool) -> Actors {
    let dying = FaultyStore::new(bench.store().await, Fault::Die, 4 + usize::from(pausing));
    let actors = bench.live_over(dying, |orchestrator| plain(orchestrator).max_concurrent_plans(2));
    let first = submit(&actors, "first", [work("o", 100), work("p", 0)]).await;
    let run = submit(&actors, "a", steps).await;
    quiet().await;
    if pausing {
        assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Pausing);
    }
    run.await.unwrap_err();
    first.await.unwrap_err();
    bench.forget(actors).await;
    let actors = bench.live(plain).await;
    quiet().await;
    assert_eq!(states(&actors, ["first", "a"]).await, [RunState::Running, RunState::Queued]);
    actors
}

fn calls_of_t<W>(bench: &Bench<W>) -> usize {
    let calls = bench.service.trace.all();
    calls.iter().filter(|call| call.contains("a.t") && !call.contains("verify")).count()
}

/// Neither to pause it nor to let it go on is to say that its step had no effect.
async fn what_is_in_doubt_is_held_though_it_is_paused_in_the_line<W: World>() {
    for pausing in [false, true] {
        let bench = Bench::<W>::new();
        let actors = cut_off_and_queued(&bench, in_doubt(OnInterrupted::Hold), pausing).await;
        if !pausing {
            assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Held);
        }
        let _ = resume(&actors, "a").await.unwrap();
        quiet().await;
        assert_eq!(states(&actors, ["first", "a"]).await, [RunState::Running, RunState::Held]);
        let stored = record(&actors, "a").await;
        assert_eq!((stored.state, stored.step.held), (RunState::Held, Some(HoldReason::Interrupted)));
        seconds(300).await;
        assert_eq!((state(&actors, "a").await, calls_of_t(&bench)), (RunState::Held, 1));
        resolve(&actors, "t", StepOutcome::Completed(json!(1))).await.unwrap();
        seconds(1).await;
        let _ = resume(&actors, "a").await.unwrap();
        assert_eq!(attached(&actors, in_doubt(OnInterrupted::Hold)).await.unwrap()[1], json!(1));
        assert_eq!(calls_of_t(&bench), 1);
        bench.bury(actors).await;
    }
}

async fn what_is_in_doubt_is_verified_though_it_is_paused_in_the_line<W: World>() {
    for (pausing, happened) in [(false, true), (true, true), (false, false)] {
        let bench = Bench::<W>::new();
        let steps = || {
            let mut steps = in_doubt(OnInterrupted::verify_named("verify"));
            if happened {
                // While it is in doubt, its time does not pass.
                steps[1] = steps[1].clone().total_timeout(Duration::from_secs(150));
            }
            steps
        };
        let mut actors = cut_off_and_queued(&bench, steps(), pausing).await;
        let verdict = if happened { "happened" } else { "did_not_happen" };
        *bench.service.answer.lock().unwrap() = json!({ "verdict": verdict, "output": 7 });
        if !pausing {
            assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Paused);
            // It stays in doubt over restarts, with callables and without.
            bench.bury(actors).await;
            actors = bench.live(plain).await;
            quiet().await;
            assert_eq!(state(&actors, "a").await, RunState::Paused);
            bench.bury(actors).await;
            let other = start_over(ProjectMemory::with_store(bench.store().await));
            reaches(&other, "a", RunState::Interrupted).await;
            quiet().await;
            bench.bury(other).await;
            actors = bench.live(plain).await;
            seconds(300).await;
        }
        resume(&actors, "a").await.unwrap();
        let expected = if happened { json!(7) } else { json!("t done") };
        assert_eq!(attached(&actors, steps()).await.unwrap()[1], expected);
        let asked = bench.service.trace.all().iter().filter(|call| call.contains("verify")).count();
        assert_eq!((asked, calls_of_t(&bench)), (1, 1 + usize::from(!happened)));
        assert!(!history_of(&actors, "a").await.contains(&"task.held t".to_owned()));
        bench.bury(actors).await;
    }
}

/// Over restarts, the first of which does not know the callables.
async fn what_somebody_has_decided_is_not_asked_again<W: World>() {
    let bench = Bench::<W>::new();
    cut_off(&bench, in_doubt(OnInterrupted::Hold)).await;
    let actors = bench.live(plain).await;
    reaches(&actors, "a", RunState::Held).await;
    submit(&actors, "other", [work("o", 100)]).await;
    assert_eq!(resolve(&actors, "t", StepOutcome::Rerun).await.unwrap(), ResolveOutcome::Resolved);
    assert_eq!(state(&actors, "a").await, RunState::Queued);
    bench.bury(actors).await;
    let other = start_over(ProjectMemory::with_store(bench.store().await));
    reaches(&other, "a", RunState::Interrupted).await;
    quiet().await;
    bench.bury(other).await;
    let actors = bench.live(plain).await;
    assert_eq!(attached(&actors, in_doubt(OnInterrupted::Hold)).await.unwrap()[1], json!("t done"));
    let told = history_of(&actors, "a").await;
    assert_eq!(told.iter().filter(|told| *told == "task.held t").count(), 1, "{told:?}");
    assert_eq!(calls_of_t(&bench), 2);
    bench.bury(actors).await;
}

/// What verifies it came to its limit, which says nothing about the step.
async fn a_run_that_dies_while_its_verification_is_told_to_stop_is_held<W: World>() {
    let bench = Bench::<W>::new();
    let retry = Retry::fixed(Duration::from_secs(1)).on_timeout(true);
    let verified = work("t", 1).on_interrupted(OnInterrupted::verify_named("block")).retry(retry);
    let verified = verified.timeout(Duration::from_secs(20)).grace(Duration::from_secs(100));
    cut_off(&bench, vec![work("s", 0), verified, work("u", 0)]).await;
    // It is verified, and told to stop; what follows is lost.
    let actors = bench.live_over(FaultyStore::new(bench.store().await, Fault::Die, 3), plain);
    let patience = Patience::new();
    while bench.service.blocked.load(Ordering::SeqCst) == 0 {
        patience.wait("the verification").await;
    }
    tokio::time::advance(Duration::from_secs(21)).await;
    reaches(&actors, "a", RunState::Stopping).await;
    assert!(record(&actors, "a").await.step.verifying);
    bench.service.release();
    quiet().await;
    bench.forget(actors).await;

    let actors = bench.live(plain).await;
    reaches(&actors, "a", RunState::Held).await;
    let stored = record(&actors, "a").await;
    assert_eq!(stored.step.held, Some(HoldReason::Unverified));
    assert_eq!(stored.failure.unwrap().kind, FailureKind::Timeout);
    seconds(100).await;
    assert_eq!((state(&actors, "a").await, calls_of_t(&bench)), (RunState::Held, 1));
    bench.bury(actors).await;
}

/// The fallback is there to do without the service.
async fn a_fallback_that_did_not_happen_is_called_whatever_its_breaker_says<W: World>() {
    for when_open in [WhenOpen::Fail, WhenOpen::Park] {
        let bench = Bench::<W>::new();
        let breaker = || Breaker::new("payments").failures(1).open_for(Duration::from_secs(3_600));
        let guarded = |orchestrator: ExecutionOrchestrator| orchestrator.breaker(breaker()).unwrap();
        let steps = || {
            let step = call("t", 1).breaker("payments").when_open(when_open);
            let step = step.on_failure(OnFailure::fallback_named("work"));
            [step.on_interrupted(OnInterrupted::verify_named("verify"))]
        };
        bench.service.goes(false);
        let actors = bench.live_over(FaultyStore::new(bench.store().await, Fault::Die, 3), guarded);
        submit(&actors, "a", steps()).await.await.unwrap_err();
        bench.forget(actors).await;
        *bench.service.answer.lock().unwrap() = json!({ "verdict": "did_not_happen" });
        let actors = bench.live(guarded).await;
        assert_eq!(attached(&actors, steps().to_vec()).await.unwrap(), ["t done"]);
        assert_eq!(bench.elapsed(), 3);
        let calls = bench.service.trace.all();
        assert_eq!(calls, ["0s a.t", "1s a.t#2", "verify a.t#2", "2s a.t#3"], "{when_open:?}");
        bench.bury(actors).await;
    }
}

async fn a_verification_is_over_with_the_deadline_of_the_plan<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live_over(FaultyStore::new(bench.store().await, Fault::Die, 3), plain);
    let steps = in_doubt(OnInterrupted::verify_named("verify"));
    let plan = ExecutePlan::new(steps).run_id("a").deadline(Duration::from_secs(100));
    submit_plan(&actors, plan.clone()).await.await.unwrap_err();
    bench.forget(actors).await;
    *bench.service.answer.lock().unwrap() = json!({ "sleep": 1_000 });
    let actors = bench.live(plain).await;
    let ended = actors.orchestrator.send(plan).await.unwrap().unwrap_err();
    assert!(matches!(ended, PlanError::DeadlineExceeded { index: 1, .. }), "{ended}");
    assert_eq!(bench.elapsed(), 100);
    // Its slot is free.
    submit(&actors, "other", [work("o", 1)]).await.await.unwrap();
    bench.bury(actors).await;
}

// Tried again.

/// The second step fails while the service is down.
fn fragile() -> Vec<Step> {
    vec![work("s", 0), call("t", 0), work("u", 0)]
}

async fn failed<W: World>(bench: &Bench<W>, actors: &Actors, id: &str) {
    bench.service.goes(false);
    submit(actors, id, fragile()).await.await.unwrap_err();
    bench.service.goes(true);
}

async fn a_failed_run_goes_on_from_its_failed_step_with_another_input<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let steps = || vec![work("s", 0), Step::named("t").uses("work").input("no number"), work("u", 0)];
    submit(&actors, "a", steps()).await.await.unwrap_err();
    let repaired = retry(&actors, retry_of("a").set_input(3)).await.unwrap();
    assert_eq!(repaired.run_id().as_str(), "a");
    assert_eq!(repaired.await.unwrap(), ["s done", "t done", "u done"]);
    assert_eq!(bench.service.trace.all(), ["0s a.s", "0s a.t", "0s a.t", "3s a.u"]);
    let told = since(&actors, "plan.retried t").await;
    let expected =
        ["plan.retried t", "task.started t", "task.completed t", "task.started u", "task.completed u"];
    assert_eq!(told[..5], expected);
    let stored = record(&actors, "a").await;
    assert_eq!((stored.generation, stored.state), (2, RunState::Completed));
    assert!(stored.finished_at > Some(stored.started_at.unwrap() + Duration::from_secs(2)));
    // It is still the run of its plan.
    assert_eq!(attached(&actors, steps()).await.unwrap().len(), 3);
    bench.bury(actors).await;
}

async fn earlier_results_stay_as_versions_and_in_the_history<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    failed(&bench, &actors, "a").await;
    let before = history(&actors).await;
    retry(&actors, retry_of("a").from_step("s").set_input(1)).await.unwrap().await.unwrap();
    let all = history(&actors).await;
    assert_eq!(all[..before.len()], before, "what was told stays as it was");
    let artifact =
        async |version| actors.memory.send(Get::version("task:s", version)).await.unwrap().unwrap().unwrap();
    let (first, second) = (artifact(1).await, artifact(2).await);
    assert_eq!(actors.memory.send(ListVersions::new("task:s")).await.unwrap().unwrap(), [1, 2]);
    assert_eq!((first.text(), first.meta.get("generation")), (Some("s done"), None));
    assert_eq!((first.meta["step"].clone(), first.meta["step_id"].clone()), (json!(0), json!("s")));
    assert_eq!((&*first.artifact_type, first.run_id), ("task_result", Some(run_id("a"))));
    assert_eq!(second.meta["generation"], json!(2));
    // A generation later, again.
    bench.service.goes(true);
    let denied = retry(&actors, retry_of("a")).await.unwrap_err();
    assert_eq!(denied.to_string(), "run a cannot be tried again: it is completed");
    bench.bury(actors).await;
}

async fn a_run_is_repaired_twice_over_restarts<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    failed(&bench, &actors, "a").await;
    bench.bury(actors).await;
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    retry(&actors, retry_of("a").set_input(2)).await.unwrap().await.unwrap_err();
    assert_eq!(record(&actors, "a").await.generation, 2);
    bench.bury(actors).await;
    bench.service.goes(true);
    let actors = bench.live(plain).await;
    // The input that was set stays set.
    let run = retry(&actors, retry_of("a")).await.unwrap();
    assert_eq!(run.await.unwrap(), ["s done", "t done", "u done"]);
    assert_eq!(bench.service.trace.all(), ["0s a.s", "0s a.t", "0s a.t", "2s a.t", "4s a.u"]);
    assert_eq!(record(&actors, "a").await.generation, 3);
    bench.bury(actors).await;
}

async fn a_cancelled_run_goes_on_where_it_was_cancelled<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = submit(&actors, "a", [work("s", 0), work("t", 100), work("u", 0)]).await;
    seconds(1).await;
    cancel(&actors, "a").await.unwrap();
    run.await.unwrap_err();
    let run = retry(&actors, retry_of("a")).await.unwrap();
    assert_eq!(run.await.unwrap().len(), 3);
    assert_eq!(bench.service.trace.all(), ["0s a.s", "0s a.t", "1s a.t", "101s a.u"]);
    bench.bury(actors).await;
}

async fn who_waits_for_a_held_run_waits_for_what_it_becomes<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    let steps = || vec![work("s", 0), call("t", 0).on_failure(OnFailure::Hold)];
    let run = submit(&actors, "a", steps()).await;
    reaches(&actors, "a", RunState::Held).await;
    bench.service.goes(true);
    // What cannot be does not disturb it.
    let denied = retry(&actors, retry_of("a").from_step("x")).await.unwrap_err();
    assert_eq!(denied.to_string(), r#"run a cannot be tried again: its plan has no step "x""#);
    quiet().await;
    reaches(&actors, "a", RunState::Held).await;
    let again = retry(&actors, retry_of("a").from_step("s").set_input(5)).await.unwrap();
    assert_eq!(again.await.unwrap(), ["s done", "t done"]);
    assert_eq!(run.await.unwrap(), ["s done", "t done"]);
    assert_eq!(bench.elapsed(), 5);
    bench.bury(actors).await;
}

async fn a_failed_step_can_be_gone_on_without<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    failed(&bench, &actors, "a").await;
    let wrong = skip(&actors, "s").await.unwrap_err();
    assert_eq!(chain(&wrong)[1], r#"run a cannot be tried again: it does not stand at step "s""#);
    assert_eq!(skip(&actors, "t").await.unwrap(), ResolveOutcome::Resolved);
    assert_eq!(attached(&actors, fragile()).await.unwrap(), [json!("s done"), Value::Null, json!("u done")]);
    let told = since(&actors, "plan.retried t").await;
    assert_eq!(told[..4], ["plan.retried t", "task.skipped t", "task.started u", "task.completed u"]);
    // The last step, too: then nothing is left.
    let last = || vec![work("s", 0), Step::named("t").uses("refuse")];
    submit(&actors, "b", last()).await.await.unwrap_err();
    let skipped = actors.orchestrator.send(SkipStep::new(run_id("b"), "t")).await.unwrap().unwrap();
    assert_eq!(skipped, ResolveOutcome::Resolved);
    reaches(&actors, "b", RunState::Completed).await;
    bench.bury(actors).await;
}

/// In no later life, either.
async fn what_was_gone_on_without_is_not_undone<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let steps = || vec![call("t", 0).compensate_named("work"), work("u", 1), Step::named("v").uses("refuse")];
    bench.service.goes(false);
    submit(&actors, "a", steps()).await.await.unwrap_err();
    assert_eq!(skip(&actors, "t").await.unwrap(), ResolveOutcome::Resolved);
    pause(&actors, "a").await.unwrap();
    seconds(2).await;
    assert_eq!(state(&actors, "a").await, RunState::Paused);
    bench.bury(actors).await;
    let actors = bench.live(plain).await;
    resume(&actors, "a").await.unwrap();
    let ended = attached(&actors, steps()).await.unwrap_err();
    assert!(matches!(&ended, PlanError::StepFailed { step_id, .. } if step_id == "v"), "{ended}");
    assert_eq!(bench.service.trace.all(), ["0s a.t", "0s a.u"]);
    bench.bury(actors).await;
}

async fn what_was_skipped_and_then_done_is_undone<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let skipped = call("t", 0).on_failure(OnFailure::Continue).compensate_named("work");
    bench.service.goes(false);
    let failed = submit(&actors, "a", [skipped, Step::named("v").uses("refuse")]).await.await.unwrap_err();
    assert!(matches!(failed, PlanError::StepFailed { .. }), "{failed}");
    bench.service.goes(true);
    let again = retry(&actors, retry_of("a").from_step("t")).await.unwrap().await.unwrap_err();
    assert!(matches!(&again, PlanError::Compensated { undone, .. } if *undone == ["t"]), "{again}");
    bench.bury(actors).await;
}

async fn what_cannot_be_tried_again_says_why<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let refused = async |wanted: RetryRun| retry(&actors, wanted).await.unwrap_err().to_string();
    assert_eq!(refused(retry_of("nobody")).await, "no run nobody is known");
    let run = submit(&actors, "running", [work("s", 10)]).await;
    submit(&actors, "queued", [work("s", 10)]).await;
    assert_eq!(refused(retry_of("running")).await, "run running cannot be tried again: it is running");
    quiet().await;
    assert_eq!(refused(retry_of("queued")).await, "run queued cannot be tried again: it is queued");
    drop(run);
    failed(&bench, &actors, "a").await;
    let not_reached = refused(retry_of("a").from_step("u")).await;
    assert_eq!(
        not_reached,
        r#"run a cannot be tried again: it did not come to step "u"; 1 steps have completed"#
    );
    let closures = [Step::new("s", || Err::<(), _>(StepError::from("no")))];
    submit(&actors, "closures", closures.to_vec()).await.await.unwrap_err();
    let needs = refused(retry_of("closures")).await;
    assert!(needs.contains("was a closure") && needs.ends_with("(see `RetryRun::plan`)"), "{needs}");
    let fixed = retry_of("closures").plan([Step::new("s", || 1)]);
    assert_eq!(retry(&actors, fixed).await.unwrap().await.unwrap(), [1]);
    let zero = refused(retry_of("a").deadline(Duration::ZERO)).await;
    assert!(zero.contains("deadline"), "{zero}");
    assert_eq!(record(&actors, "a").await.generation, 1, "nothing was changed by what was refused");
    let states = states(&actors, ["a", "queued"]).await;
    assert_eq!(states[0], RunState::Failed);
    bench.bury(actors).await;
}

async fn another_plan_is_refused_or_a_run_of_its_own_or_goes_on_behind_what_is_the_same<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    failed(&bench, &actors, "a").await;
    let changed = || vec![work("s", 0), work("t2", 0), work("u", 0), work("v", 0)];
    let with = |on_mismatch| retry_of("a").plan(changed()).on_mismatch(on_mismatch);
    let refused = retry(&actors, with(OnMismatch::Refuse)).await.unwrap_err();
    assert!(
        matches!(&refused, PlanError::PlanMismatch { differences, .. } if differences.len() == 2),
        "{refused}"
    );
    // The same plan is no mismatch, whatever is to become of one.
    let other = retry(&actors, with(OnMismatch::NewRun)).await.unwrap();
    let other_id = other.run_id().clone();
    assert!(other_id.as_str().starts_with("a~1-"), "{other_id}");
    assert_eq!(other.await.unwrap().len(), 4);
    let calls = bench.service.trace.all().len();
    let again = retry(&actors, with(OnMismatch::NewRun)).await.unwrap();
    assert_eq!((again.run_id(), bench.service.trace.all().len()), (&other_id, calls), "it is found again");
    again.await.unwrap();
    assert_eq!(state(&actors, "a").await, RunState::Failed);

    let kept = retry(&actors, with(OnMismatch::KeepPrefix)).await.unwrap();
    assert_eq!(kept.await.unwrap(), ["s done", "t2 done", "u done", "v done"]);
    let calls = bench.service.trace.all()[calls..].to_vec();
    assert_eq!(calls, ["0s a.t2", "0s a.u", "0s a.v"]);
    let stored = record(&actors, "a").await;
    assert_eq!((stored.steps, stored.state, stored.generation), (4, RunState::Completed, 2));
    // It is the run of that plan from now on, also one that is done, to which something is added.
    assert_eq!(attached(&actors, changed()).await.unwrap().len(), 4);
    let longer = [changed(), vec![work("w", 0)]].concat();
    let longer = retry_of("a").plan(longer).on_mismatch(OnMismatch::KeepPrefix);
    assert_eq!(retry(&actors, longer).await.unwrap().await.unwrap().len(), 5);
    assert!(bench.service.trace.all().last().unwrap().ends_with("a.w"));
    // And to which nothing is left to do.
    let shorter = retry_of("a").plan([work("s", 0)]).on_mismatch(OnMismatch::KeepPrefix);
    assert_eq!(retry(&actors, shorter).await.unwrap().await.unwrap(), ["s done"]);
    bench.bury(actors).await;
}

async fn nothing_behind_a_step_that_differs_is_kept<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    submit(&actors, "a", [work("s", 0), work("t", 0), call("u", 0)]).await.await.unwrap_err();
    bench.service.goes(true);
    let changed = [work("s", 0), work("t2", 0), call("u", 0)];
    let kept = retry_of("a").from_step("u").plan(changed).on_mismatch(OnMismatch::KeepPrefix);
    assert_eq!(retry(&actors, kept).await.unwrap().await.unwrap(), ["s done", "t2 done", "u done"]);
    bench.bury(actors).await;
}

async fn an_input_that_was_set_is_not_for_another_step<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    failed(&bench, &actors, "a").await;
    bench.service.goes(false);
    retry(&actors, retry_of("a").set_input(2)).await.unwrap().await.unwrap_err();
    let changed = [work("s", 0), work("t2", 1), work("u", 0)];
    let kept = retry_of("a").plan(changed).on_mismatch(OnMismatch::KeepPrefix);
    retry(&actors, kept).await.unwrap().await.unwrap();
    assert_eq!(bench.service.trace.all()[3..], ["2s a.t2", "3s a.u"]);
    assert!(record(&actors, "a").await.set_inputs.is_empty());
    bench.bury(actors).await;
}

async fn a_run_that_is_held_elsewhere_is_not_tried_again_here<W: World>() {
    let bench = Bench::<W>::new();
    cut_off(&bench, in_doubt(OnInterrupted::Hold)).await;
    let actors = bench.live(plain).await;
    reaches(&actors, "a", RunState::Held).await;
    let (bus, memory) = (actors.bus.clone(), actors.memory.clone());
    let other = ExecutionOrchestrator::new(bus, memory, SimpleAllocator.start()).start();
    let refused = other.send(retry_of("a")).await.unwrap().unwrap_err();
    assert!(matches!(refused, PlanError::RunElsewhere { .. }), "{refused}");
    assert_eq!(resolve(&actors, "t", StepOutcome::Rerun).await.unwrap(), ResolveOutcome::Resolved);
    assert_eq!(attached(&actors, in_doubt(OnInterrupted::Hold)).await.unwrap().len(), 3);
    assert_eq!(record(&actors, "a").await.generation, 1);
    drop(other);
    bench.bury(actors).await;
}

async fn a_retry_has_its_place_in_the_line_and_its_time<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(|orchestrator| orchestrator.queue_capacity(1)).await;
    bench.service.goes(false);
    let limited = || vec![work("s", 0), call("t", 2).total_timeout(Duration::from_secs(5))];
    submit(&actors, "a", limited()).await.await.unwrap_err();
    bench.service.goes(true);
    seconds(100).await;
    let before = submit(&actors, "before", [work("o", 10)]).await;
    let again = retry(&actors, retry_of("a").deadline(Duration::from_secs(60))).await.unwrap();
    assert_eq!(state(&actors, "a").await, RunState::Queued);
    let stored = record(&actors, "a").await;
    assert_eq!(stored.state, RunState::Queued, "it is stored when it is answered");
    assert_eq!(stored.deadline, Some(stored.step.since.unwrap() + Duration::from_secs(60)));
    let full = retry(&actors, retry_of("before")).await.unwrap_err();
    assert!(matches!(full, PlanError::NotRetried { .. }), "{full}");
    before.await.unwrap();
    again.await.unwrap();
    assert_eq!(bench.elapsed(), 2 + 100 + 10 + 2);

    // It goes on, also where it had not come any further than to its first step.
    bench.service.goes(false);
    submit(&actors, "c", [call("t", 0)]).await.await.unwrap_err();
    bench.service.goes(true);
    let _before = submit(&actors, "before c", [work("o", 10)]).await;
    retry(&actors, retry_of("c")).await.unwrap().await.unwrap();
    let told = history_of(&actors, "c").await;
    assert_eq!(told.iter().filter(|told| *told == "plan.started").count(), 1, "{told:?}");

    failed(&bench, &actors, "b").await;
    submit(&actors, "x", [work("o", 10)]).await;
    submit(&actors, "y", [work("o", 10)]).await;
    let full = retry(&actors, retry_of("b")).await.unwrap_err();
    assert!(matches!(full, PlanError::QueueFull { .. }), "{full}");
    assert_eq!(state(&actors, "b").await, RunState::Failed);
    bench.bury(actors).await;
}

async fn a_queued_retry_goes_on_after_a_restart<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    failed(&bench, &actors, "a").await;
    let before = submit(&actors, "before", [work("o", 10)]).await;
    let _again = retry(&actors, retry_of("a").set_input(1)).await.unwrap();
    pause(&actors, "a").await.unwrap();
    before.await.unwrap();
    bench.bury(actors).await;
    let actors = bench.live(plain).await;
    assert_eq!(status(&actors, "a").await.unwrap().completed, 1);
    resume(&actors, "a").await.unwrap();
    assert_eq!(attached(&actors, fragile()).await.unwrap().len(), 3);
    let calls = bench.service.trace.all();
    assert_eq!(calls.iter().filter(|call| call.ends_with("a.s")).count(), 1, "{calls:?}");
    bench.bury(actors).await;
}

async fn a_run_can_be_tried_again_as_soon_as_it_is_told_that_it_failed<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let mut events = watch(&actors.bus).await;
    bench.service.goes(false);
    for generation in 1..20 {
        if generation == 1 {
            submit(&actors, "a", fragile()).await;
        } else {
            let run = retry(&actors, retry_of("a")).await.unwrap();
            assert_eq!(status(&actors, run.run_id().as_str()).await.unwrap().generation, generation);
        }
        until(&mut events, "plan.failed").await;
    }
    bench.bury(actors).await;
}

async fn two_who_try_it_again_do_it_once<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    failed(&bench, &actors, "a").await;
    let (one, other) = tokio::join!(retry(&actors, retry_of("a")), retry(&actors, retry_of("a")));
    let denied = other.unwrap_err();
    assert!(matches!(denied, PlanError::NotRetried { .. }), "{denied}");
    one.unwrap().await.unwrap();
    assert_eq!(record(&actors, "a").await.generation, 2);
    bench.bury(actors).await;
}

async fn each_generation_has_its_own_idempotency_keys<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let fails = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let steps = |fails: &std::sync::Arc<std::sync::atomic::AtomicBool>| {
        let fails = std::sync::Arc::clone(fails);
        let key = move |ctx: StepContext| match fails.load(Ordering::SeqCst) {
            true => Err(StepError::from(ctx.idempotency_key())),
            false => Ok(ctx.idempotency_key()),
        };
        vec![Step::new("k", |ctx: StepContext| ctx.idempotency_key()), Step::new("t", key)]
    };
    let error = submit(&actors, "a", steps(&fails)).await.await.unwrap_err();
    assert_eq!(chain(&error)[1], "a/1/t");
    fails.store(false, Ordering::SeqCst);
    let run = retry(&actors, retry_of("a").plan(steps(&fails))).await.unwrap();
    assert_eq!(run.await.unwrap(), ["a/1/k", "a/2/t"]);
    bench.bury(actors).await;
}

// Cut off at every commit.

/// Brings the run `a` on as somebody would who does not know how far it is.
async fn see_to<W: World>(bench: &Bench<W>, actors: &Actors) -> bool {
    let patience = Patience::new();
    loop {
        quiet().await;
        let Ok(info) = status(actors, "a").await else { return false };
        let generation = match actors.memory.send(GetRun(run_id("a"))).await.unwrap() {
            Ok(Some(record)) => record.generation,
            _ => return false,
        };
        match info.state {
            RunState::Completed => return true,
            RunState::Failed => {
                // The first repair does not help.
                bench.service.goes(generation >= 2);
                if retry(actors, retry_of("a").set_input(generation)).await.is_err() {
                    return false;
                }
            }
            RunState::Held => {
                let by_hand = StepOutcome::Completed(json!("by hand"));
                let Ok(_) = resolve(actors, "v", by_hand).await else { return false };
            }
            RunState::Interrupted => return false,
            _ => {}
        }
        patience.wait("the run to end").await;
    }
}

/// Its second step is repaired twice, and its last one is held.
fn repaired_twice() -> Vec<Step> {
    let held = Step::named("v").uses("refuse").on_failure(OnFailure::Hold);
    vec![work("s", 1), call("t", 1), work("u", 1), held]
}

async fn a_run_that_is_repaired_twice_may_die_at_any_commit<W: World>() {
    let mut commits = usize::MAX;
    let mut crashes = 0;
    for fault in [Fault::Die, Fault::DieAfter, Fault::Fail, Fault::FailAfter] {
        // The first time never, to count.
        let mut at = if commits == usize::MAX { 0 } else { 1 };
        while at <= commits {
            let bench = Bench::<W>::new();
            bench.service.goes(false);
            let store = FaultyStore::new(bench.store().await, fault, at);
            let counted = store.commits();
            let actors = bench.live_over(store, plain);
            let sent =
                actors.orchestrator.send(SubmitPlan(ExecutePlan::new(repaired_twice()).run_id("a"))).await;
            let mut done = sent.unwrap().is_ok() && see_to(&bench, &actors).await;
            if at == 0 {
                assert!(done);
                commits = counted.load(Ordering::SeqCst);
                // The first start; s; t fails, is retried, fails, is retried, completes; u; v is held, and resolved.
                assert_eq!(commits, 10, "{:?}", history_of(&actors, "a").await);
            }
            bench.bury(actors).await;
            let mut lives = 1;
            while !done {
                lives += 1;
                assert!(lives < 4, "it does not end");
                let actors = bench.live(plain).await;
                if status(&actors, "a").await.is_err() {
                    submit(&actors, "a", repaired_twice()).await;
                }
                done = see_to(&bench, &actors).await;
                bench.bury(actors).await;
            }
            let actors = bench.live(plain).await;
            let what = format!("{fault:?} at {at}: {:#?}", history_of(&actors, "a").await);
            assert_eq!(
                attached(&actors, repaired_twice()).await.unwrap(),
                ["s done", "t done", "u done", "by hand"],
                "{what}"
            );
            let stored = record(&actors, "a").await;
            assert_eq!((stored.generation, stored.state), (3, RunState::Completed), "{what}");
            // What was done: each step once, the repaired one once a generation, and one more for the crash.
            let calls = bench.service.trace.all();
            let count = |step: &str| {
                calls.iter().filter(|call| call.split('#').next().unwrap().ends_with(step)).count()
            };
            let repeated = (count("a.s") - 1) + (count("a.t") - 3) + (count("a.u") - 1);
            assert!(repeated <= usize::from(at > 0), "{calls:?}\n{what}");
            // Nothing that was stored is done again.
            let versions =
                async |key: &str| actors.memory.send(ListVersions::new(key)).await.unwrap().unwrap();
            for key in ["task:s", "task:t", "task:u", "task:v"] {
                assert_eq!(versions(key).await, [1], "{key}: {what}");
            }
            let told = history_of(&actors, "a").await;
            let said = |what: &str| told.iter().filter(|told| *told == what).count();
            let expected =
                [("plan.accepted", 1), ("plan.retried t", 2), ("plan.failed t", 3), ("plan.completed", 1)];
            for (event, times) in expected {
                let times = if event == "plan.failed t" { times - 1 } else { times };
                assert_eq!(said(event), times, "{event}: {what}");
            }
            bench.bury(actors).await;
            crashes += usize::from(at > 0);
            at += 1;
        }
    }
    assert_eq!(crashes, 4 * commits);
}

frozen! {
    a_step_in_flight_is_held_until_somebody_decides
    what_is_decided_must_be_about_the_step_that_is_held
    a_held_run_is_cancelled_and_comes_to_its_deadline
    a_step_that_fails_for_good_can_be_held
    a_held_run_whose_callables_are_gone_is_held_again_when_they_are_back
    a_step_that_failed_is_held_again_when_its_callables_are_back
    only_what_was_in_flight_is_in_doubt
    what_verifies_a_step_decides_about_it
    a_run_that_dies_while_it_is_verified_is_verified_again
    a_run_can_be_cancelled_and_paused_while_it_is_verified
    what_is_in_doubt_is_held_though_it_is_paused_in_the_line
    what_is_in_doubt_is_verified_though_it_is_paused_in_the_line
    what_somebody_has_decided_is_not_asked_again
    a_run_that_dies_while_its_verification_is_told_to_stop_is_held
    a_fallback_that_did_not_happen_is_called_whatever_its_breaker_says
    a_verification_is_over_with_the_deadline_of_the_plan
    a_failed_run_goes_on_from_its_failed_step_with_another_input
    earlier_results_stay_as_versions_and_in_the_history
    a_run_is_repaired_twice_over_restarts
    a_cancelled_run_goes_on_where_it_was_cancelled
    who_waits_for_a_held_run_waits_for_what_it_becomes
    a_failed_step_can_be_gone_on_without
    what_was_gone_on_without_is_not_undone
    what_was_skipped_and_then_done_is_undone
    what_cannot_be_tried_again_says_why
    another_plan_is_refused_or_a_run_of_its_own_or_goes_on_behind_what_is_the_same
    nothing_behind_a_step_that_differs_is_kept
    an_input_that_was_set_is_not_for_another_step
    a_run_that_is_held_elsewhere_is_not_tried_again_here
    a_retry_has_its_place_in_the_line_and_its_time
    a_queued_retry_goes_on_after_a_restart
    a_run_can_be_tried_again_as_soon_as_it_is_told_that_it_failed
    two_who_try_it_again_do_it_once
    each_generation_has_its_own_idempotency_keys
    a_run_that_is_repaired_twice_may_die_at_any_commit
}
