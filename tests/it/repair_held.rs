//! Runs that are held, or over, and are asked for by several at once: nobody is left without an answer, and a retry that is
//! refused changes nothing.
//!
//! Time is tokio's and stands still. Each test is run over each store: see `frozen!`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::prelude::*;
use lunacore::testing::{Fault, FaultyStore};
use lunacore::*;
use serde_json::{Value, json};

use crate::recovery::World;
use crate::staged::*;
use crate::support::*;
use crate::waits::slow_memory;

fn plain(orchestrator: ExecutionOrchestrator) -> ExecutionOrchestrator {
    orchestrator
}

fn retry_of(id: &str) -> RetryRun {
    RetryRun::new(run_id(id))
}

async fn retry(actors: &Actors, retry: RetryRun) -> Result<RunHandle, PlanError> {
    actors.orchestrator.send(retry).await.unwrap()
}

fn paid() -> ResolveStep {
    ResolveStep::new(run_id("a"), "t", StepOutcome::Completed(json!("in cash")))
}

async fn resolve(actors: &Actors) -> Result<ResolveOutcome, ControlError> {
    actors.orchestrator.send(paid()).await.unwrap()
}

/// Closures, the second of which fails, and holds its run.
fn closures() -> Vec<Step> {
    let pay = Step::new("t", || Err::<(), _>(StepError::from("the bank is closed")));
    vec![Step::new("s", || "s done"), pay.on_failure(OnFailure::Hold), Step::new("u", || "u done")]
}

/// The same by name: the second fails while the service is down.
fn named() -> Vec<Step> {
    vec![work("s", 0), call("t", 0).on_failure(OnFailure::Hold), work("u", 0)]
}

/// A run `a` that is held at `t`.
async fn held<W: World>(bench: &Bench<W>, actors: &Actors, steps: Vec<Step>) -> RunHandle {
    bench.service.goes(false);
    let run = submit(actors, "a", steps).await;
    reaches(actors, "a", RunState::Held).await;
    quiet().await;
    bench.service.goes(true);
    run
}

/// It is held as before: who waited still does, and what is decided counts.
async fn is_held_as_before(actors: &Actors, run: RunHandle) {
    quiet().await;
    assert_eq!(state(actors, "a").await, RunState::Held);
    let stored = record(actors, "a").await;
    assert_eq!((stored.state, stored.generation), (RunState::Held, 1));
    assert_eq!(resolve(actors).await.unwrap(), ResolveOutcome::Resolved);
    assert_eq!(run.await.unwrap(), ["s done", "in cash", "u done"]);
}

/// An allocator that takes so many seconds.
struct Slow {
    registry: Addr<RegistryAllocator>,
    seconds: Arc<AtomicU64>,
}

impl Actor for Slow {
    type Context = Context<Self>;
}

impl Handler<Resolve> for Slow {
    type Result = ResponseFuture<Result<Vec<Callable>, ResolveError>>;

    fn handle(&mut self, resolve: Resolve, _: &mut Self::Context) -> Self::Result {
        let (registry, seconds) = (self.registry.clone(), self.seconds.load(Ordering::SeqCst));
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            registry.send(resolve).await.unwrap()
        })
    }
}

async fn slow<W: World>(bench: &Bench<W>) -> (Actors, Arc<AtomicU64>) {
    let seconds = Arc::<AtomicU64>::default();
    let allocator = Slow { registry: bench.registry().start(), seconds: Arc::clone(&seconds) };
    let memory = ProjectMemory::with_store(bench.store().await);
    (bench.live_with(memory, allocator.start(), plain), seconds)
}

// A retry that is refused.

async fn a_retry_that_is_refused_leaves_a_held_run_of_closures_as_it_is<W: World>() {
    let unknown = || vec![Step::new("s", || "s done"), Step::named("t").uses("nobody")];
    for (wanted, refusal) in [
        (retry_of("a"), "was a closure"),
        (retry_of("a").plan(closures()).from_step("x"), "has no step \"x\""),
        (retry_of("a").plan(closures()).deadline(Duration::ZERO), "deadline"),
        (retry_of("a").plan(unknown()), "another plan"),
        // Only the allocator refuses this one, when nothing else stands before it.
        (retry_of("a").plan(unknown()).on_mismatch(OnMismatch::KeepPrefix), "cannot be called"),
    ] {
        let bench = Bench::<W>::new();
        let actors = bench.live(plain).await;
        let run = held(&bench, &actors, closures()).await;
        let refused = retry(&actors, wanted).await.unwrap_err().to_string();
        assert!(refused.contains(refusal), "{refused}");
        is_held_as_before(&actors, run).await;
        bench.bury(actors).await;
    }
}

async fn a_held_run_of_closures_that_a_retry_brings_along_is_tried_again<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = held(&bench, &actors, closures()).await;
    let mut fixed = closures();
    fixed[1] = Step::new("t", || "t done");
    let again = retry(&actors, retry_of("a").plan(fixed)).await.unwrap();
    assert_eq!(again.await.unwrap(), ["s done", "t done", "u done"]);
    assert_eq!(run.await.unwrap(), ["s done", "t done", "u done"], "who waited, waits for what it becomes");
    assert_eq!(record(&actors, "a").await.generation, 2);
    bench.bury(actors).await;
}

async fn a_held_run_keeps_its_place_while_it_is_tried_again<W: World>() {
    let bench = Bench::<W>::new();
    let full = |orchestrator: ExecutionOrchestrator| orchestrator.queue_capacity(0);
    let actors = slow_memory(&bench, bench.store().await, full);
    let run = held(&bench, &actors, named()).await;
    let again = actors.orchestrator.send(retry_of("a").set_input(100));
    // Before it is found, and when it has been.
    for _ in 0..20 {
        seconds(1).await;
        let other = actors.orchestrator.send(SubmitPlan([work("o", 1_000)].into())).await.unwrap();
        assert!(matches!(other, Err(PlanError::QueueFull { .. })), "{other:?}");
    }
    assert_eq!(again.await.unwrap().unwrap().await.unwrap().len(), 3);
    assert_eq!(run.await.unwrap().len(), 3);
    bench.bury(actors).await;
}

async fn a_run_that_takes_the_place_of_a_held_one_leaves_that_as_it_is<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = held(&bench, &actors, closures()).await;
    let instead = retry_of("a").plan([work("x", 1)]).on_mismatch(OnMismatch::NewRun);
    let other = retry(&actors, instead).await.unwrap();
    assert!(other.run_id().as_str().starts_with("a~"), "{}", other.run_id());
    assert_eq!(other.await.unwrap(), ["x done"]);
    is_held_as_before(&actors, run).await;
    bench.bury(actors).await;
}

// Asked by several at once.

async fn a_held_run_is_cancelled_although_it_is_about_to_be_tried_again<W: World>() {
    let bench = Bench::<W>::new();
    let (actors, seconds_to_resolve) = slow(&bench).await;
    let run = held(&bench, &actors, named()).await;
    seconds_to_resolve.store(10, Ordering::SeqCst);
    let again = actors.orchestrator.send(retry_of("a"));
    seconds(1).await;
    assert_eq!(state(&actors, "a").await, RunState::Queued);
    assert_eq!(cancel(&actors, "a").await.unwrap(), CancelOutcome::Cancelled);
    assert!(matches!(again.await.unwrap(), Err(PlanError::Cancelled { .. })));
    assert!(matches!(run.await, Err(PlanError::Cancelled { .. })));
    seconds(100).await;
    let stored = record(&actors, "a").await;
    assert_eq!((stored.state, stored.generation), (RunState::Cancelled, 1));
    bench.bury(actors).await;
}

async fn a_cancellation_right_behind_a_retry_counts<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = held(&bench, &actors, named()).await;
    let again = actors.orchestrator.send(retry_of("a"));
    let cancelled = actors.orchestrator.send(CancelPlan(run_id("a")));
    assert!(matches!(again.await.unwrap(), Err(PlanError::Cancelled { .. })));
    assert_eq!(cancelled.await.unwrap().unwrap(), CancelOutcome::Cancelled);
    assert!(matches!(run.await, Err(PlanError::Cancelled { .. })));
    quiet().await;
    assert_eq!(record(&actors, "a").await.state, RunState::Cancelled);
    bench.bury(actors).await;
}

async fn what_waits_for_its_deadline_to_be_tried_again_is_held_again<W: World>() {
    let bench = Bench::<W>::new();
    let (actors, seconds_to_resolve) = slow(&bench).await;
    let run = held(&bench, &actors, named()).await;
    seconds_to_resolve.store(10, Ordering::SeqCst);
    let late = retry(&actors, retry_of("a").deadline(Duration::from_secs(3))).await.unwrap_err();
    assert!(matches!(late, PlanError::DeadlineExceeded { .. }), "{late}");
    is_held_as_before(&actors, run).await;
    // The allocator still answers.
    seconds(10).await;
    bench.bury(actors).await;
}

async fn all_who_ask_a_held_run_for_something_at_once_are_answered<W: World>() {
    let bench = Bench::<W>::new();
    let (actors, seconds_to_resolve) = slow(&bench).await;
    let run = held(&bench, &actors, named()).await;
    seconds_to_resolve.store(10, Ordering::SeqCst);
    let first = actors.orchestrator.send(retry_of("a"));
    let second = actors.orchestrator.send(retry_of("a"));
    let resolved = actors.orchestrator.send(paid());
    let resumed = actors.orchestrator.send(ResumePlan(run_id("a")));
    let queued = ResolveOutcome::NotHeld(RunState::Queued);
    assert_eq!(resolved.await.unwrap().unwrap(), queued);
    assert_eq!(resumed.await.unwrap().unwrap(), ResumeOutcome::NotPaused(RunState::Queued));
    let second = second.await.unwrap().unwrap_err();
    assert_eq!(second.to_string(), "run a cannot be tried again: it is queued");
    assert_eq!(first.await.unwrap().unwrap().await.unwrap().len(), 3);
    assert_eq!(run.await.unwrap().len(), 3);
    assert_eq!(record(&actors, "a").await.generation, 2);
    bench.bury(actors).await;
}

async fn a_shutdown_leaves_a_held_run_that_was_about_to_be_tried_again<W: World>() {
    let bench = Bench::<W>::new();
    let (actors, seconds_to_resolve) = slow(&bench).await;
    let run = held(&bench, &actors, named()).await;
    seconds_to_resolve.store(10, Ordering::SeqCst);
    let again = actors.orchestrator.send(retry_of("a"));
    seconds(1).await;
    actors.orchestrator.send(Shutdown::now()).await.unwrap();
    assert!(matches!(again.await.unwrap(), Err(PlanError::Interrupted { .. })));
    let left = run.await.unwrap_err().to_string();
    assert!(left.contains("while it was held"), "{left}");
    assert_eq!(record(&actors, "a").await.state, RunState::Held);
    seconds(10).await;
    bench.forget(actors).await;
    let actors = bench.live(plain).await;
    reaches(&actors, "a", RunState::Held).await;
    bench.bury(actors).await;
}

async fn a_signal_that_comes_while_a_held_run_is_tried_again_is_kept<W: World>() {
    let bench = Bench::<W>::new();
    let (actors, seconds_to_resolve) = slow(&bench).await;
    let steps = || [&named()[..2], &[Step::wait_for_signal("go", "go")]].concat();
    // While it waits to be tried again, and also where that comes to nothing.
    for (deadline, results) in [(60, 1), (5, 0)] {
        seconds_to_resolve.store(0, Ordering::SeqCst);
        bench.service.goes(false);
        let id = format!("deadline-{deadline}");
        let run = submit(&actors, &id, steps()).await;
        reaches(&actors, &id, RunState::Held).await;
        bench.service.goes(true);
        seconds_to_resolve.store(10, Ordering::SeqCst);
        let again = actors.orchestrator.send(retry_of(&id).deadline(Duration::from_secs(deadline)));
        let at_once = actors.orchestrator.send(Signal::new(run_id(&id), "go").payload(1));
        seconds(1).await;
        assert_eq!(at_once.await.unwrap().unwrap(), SignalOutcome::Received);
        assert_eq!(signal(&actors, &id, "go", 2).await.unwrap(), SignalOutcome::Received);
        let again = again.await.unwrap();
        assert_eq!(usize::from(again.is_ok()), results);
        if again.is_err() {
            let paid = StepOutcome::Completed(Value::Null);
            let paid = ResolveStep::new(run_id(&id), "t", paid);
            assert_eq!(actors.orchestrator.send(paid).await.unwrap().unwrap(), ResolveOutcome::Resolved);
        }
        assert_eq!(run.await.unwrap()[2], json!(1));
        seconds(10).await;
    }
    bench.bury(actors).await;
}

async fn a_retry_and_a_plan_with_its_id_that_come_at_once_are_both_heard<W: World>() {
    let fragile = || vec![work("s", 0), call("t", 0), work("u", 0)];
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    submit(&actors, "a", fragile()).await.await.unwrap_err();
    bench.service.goes(true);
    let again = actors.orchestrator.send(retry_of("a").set_input(1));
    let attached = actors.orchestrator.send(ExecutePlan::new(fragile()).run_id("a"));
    assert!(matches!(attached.await.unwrap(), Err(PlanError::StepFailed { .. })), "it had failed by then");
    assert_eq!(again.await.unwrap().unwrap().await.unwrap().len(), 3);
    assert_eq!(record(&actors, "a").await.generation, 2);
    assert_eq!(bench.service.trace.all(), ["0s a.s", "0s a.t", "0s a.t", "1s a.u"]);
    bench.bury(actors).await;
}

// Asked of a run that is only about to be looked up.

async fn what_is_asked_of_a_run_that_is_being_looked_up_goes_by_what_is_stored<W: World>() {
    let by_itself = |orchestrator: ExecutionOrchestrator| orchestrator.recover(Recover::None);
    // Held.
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    held(&bench, &actors, named()).await;
    bench.bury(actors).await;
    let actors = bench.live(by_itself).await;
    quiet().await;
    let attached = actors.orchestrator.send(ExecutePlan::new(named()).run_id("a"));
    let resolved = actors.orchestrator.send(paid());
    assert_eq!(resolved.await.unwrap().unwrap(), ResolveOutcome::Resolved);
    assert_eq!(attached.await.unwrap().unwrap()[1], json!("in cash"));
    bench.bury(actors).await;

    // Failed.
    let bench = Bench::<W>::new();
    let fragile = || vec![work("s", 0), call("t", 0), work("u", 0)];
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    submit(&actors, "a", fragile()).await.await.unwrap_err();
    let attached = actors.orchestrator.send(ExecutePlan::new(fragile()).run_id("a"));
    let skipped = actors.orchestrator.send(SkipStep::new(run_id("a"), "t"));
    assert_eq!(skipped.await.unwrap().unwrap(), ResolveOutcome::Resolved);
    attached.await.unwrap().unwrap_err();
    reaches(&actors, "a", RunState::Completed).await;
    bench.bury(actors).await;

    // Paused.
    let bench = Bench::<W>::new();
    let steps = || vec![work("s", 1), work("t", 1)];
    let actors = bench.live(plain).await;
    submit(&actors, "a", steps()).await;
    pause(&actors, "a").await.unwrap();
    seconds(2).await;
    bench.bury(actors).await;
    let actors = bench.live(by_itself).await;
    quiet().await;
    let attached = actors.orchestrator.send(ExecutePlan::new(steps()).run_id("a"));
    let resumed = actors.orchestrator.send(ResumePlan(run_id("a")));
    assert_eq!(resumed.await.unwrap().unwrap(), ResumeOutcome::Resumed);
    assert_eq!(attached.await.unwrap().unwrap().len(), 2);
    // One that is new is not paused, and can be.
    let attached = actors.orchestrator.send(ExecutePlan::new(steps()).run_id("b"));
    let resumed = actors.orchestrator.send(ResumePlan(run_id("b")));
    let paused = actors.orchestrator.send(PausePlan(run_id("b")));
    assert_eq!(resumed.await.unwrap().unwrap(), ResumeOutcome::NotPaused(RunState::Queued));
    assert_eq!(paused.await.unwrap().unwrap(), PauseOutcome::Pausing);
    let resumed = actors.orchestrator.send(ResumePlan(run_id("b")));
    assert_eq!(resumed.await.unwrap().unwrap(), ResumeOutcome::Resumed);
    attached.await.unwrap().unwrap();
    bench.bury(actors).await;
}

async fn what_is_asked_of_a_run_that_turns_out_not_to_go_on_is_answered_so<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    submit(&actors, "a", [work("s", 1), work("t", 1)]).await;
    pause(&actors, "a").await.unwrap();
    seconds(2).await;
    bench.bury(actors).await;
    // A program that does not know its callables: the first time that is stored, the second it is known.
    for _ in 0..2 {
        let actors = start_over(ProjectMemory::with_store(bench.store().await));
        let resumed = actors.orchestrator.send(ResumePlan(run_id("a"))).await.unwrap().unwrap_err();
        assert_eq!(resumed.to_string(), "run a is interrupted, but not in this orchestrator");
        bench.bury(actors).await;
    }
}

// What is stored.

async fn a_pause_that_was_asked_for_before_a_run_was_held_can_be_taken_back<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    let steps = || vec![call("t", 5).on_failure(OnFailure::Hold), work("u", 0)];
    let run = submit(&actors, "a", steps()).await;
    seconds(1).await;
    assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Pausing);
    reaches(&actors, "a", RunState::Running).await;
    seconds(10).await;
    assert_eq!(state(&actors, "a").await, RunState::Held);
    assert!(record(&actors, "a").await.pausing);
    assert_eq!(resume(&actors, "a").await.unwrap(), ResumeOutcome::Resumed);
    let stored = record(&actors, "a").await;
    assert_eq!((stored.state, stored.pausing), (RunState::Held, false));
    assert_eq!((stored.step.held, stored.failure.is_some()), (Some(HoldReason::Failed), true));
    assert_eq!(resume(&actors, "a").await.unwrap(), ResumeOutcome::NotPaused(RunState::Held));
    assert_eq!(resolve(&actors).await.unwrap(), ResolveOutcome::Resolved);
    assert_eq!(run.await.unwrap(), ["in cash", "u done"]);
    bench.bury(actors).await;
}

async fn the_policies_that_a_retry_brings_along_outlive_a_crash<W: World>() {
    let bench = Bench::<W>::new();
    let steps = |on_interrupted| vec![work("s", 0), call("t", 1).on_interrupted(on_interrupted)];
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    submit(&actors, "a", steps(OnInterrupted::Rerun)).await.await.unwrap_err();
    bench.service.goes(true);
    bench.bury(actors).await;
    // It dies with the result of the step.
    let actors = bench.live_over(FaultyStore::new(bench.store().await, Fault::Die, 2), plain);
    let again = retry(&actors, retry_of("a").plan(steps(OnInterrupted::Hold))).await.unwrap();
    again.await.unwrap_err();
    bench.forget(actors).await;
    let actors = bench.live(plain).await;
    reaches(&actors, "a", RunState::Held).await;
    bench.bury(actors).await;
}

async fn a_run_of_closures_that_has_failed_cannot_be_gone_on_without_a_step<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let fails = || vec![Step::new("s", || 1), Step::new("t", || Err::<(), _>(StepError::from("no")))];
    submit(&actors, "a", fails()).await.await.unwrap_err();
    let skipped = actors.orchestrator.send(SkipStep::new(run_id("a"), "t")).await.unwrap().unwrap_err();
    let told = chain(&skipped).join(": ");
    assert!(told.contains("was a closure") && told.contains("`OnMismatch::KeepPrefix`"), "{told}");
    // What it says helps.
    let without = retry_of("a").plan([fails().remove(0)]).on_mismatch(OnMismatch::KeepPrefix);
    assert_eq!(retry(&actors, without).await.unwrap().await.unwrap(), [1]);
    bench.bury(actors).await;
}

frozen! {
    a_retry_that_is_refused_leaves_a_held_run_of_closures_as_it_is
    a_held_run_of_closures_that_a_retry_brings_along_is_tried_again
    a_held_run_keeps_its_place_while_it_is_tried_again
    a_run_that_takes_the_place_of_a_held_one_leaves_that_as_it_is
    a_held_run_is_cancelled_although_it_is_about_to_be_tried_again
    a_cancellation_right_behind_a_retry_counts
    what_waits_for_its_deadline_to_be_tried_again_is_held_again
    all_who_ask_a_held_run_for_something_at_once_are_answered
    a_shutdown_leaves_a_held_run_that_was_about_to_be_tried_again
    a_signal_that_comes_while_a_held_run_is_tried_again_is_kept
    a_retry_and_a_plan_with_its_id_that_come_at_once_are_both_heard
    what_is_asked_of_a_run_that_is_being_looked_up_goes_by_what_is_stored
    what_is_asked_of_a_run_that_turns_out_not_to_go_on_is_answered_so
    a_pause_that_was_asked_for_before_a_run_was_held_can_be_taken_back
    the_policies_that_a_retry_brings_along_outlive_a_crash
    a_run_of_closures_that_has_failed_cannot_be_gone_on_without_a_step
}
