//! Steps that wait for a time or for a signal: to the exact moment, without a slot, across restarts, pauses and limits; and that
//! no signal is lost or taken twice.
//!
//! Time is tokio's and stands still, so that every moment is known. Each test is run over each store: see `frozen!`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix::prelude::*;
use lunacore::limits::{MAX_ID_BYTES, MAX_JSON_DEPTH, MAX_SIGNAL_BYTES, MAX_SIGNALS, MAX_SIGNALS_BYTES};
use lunacore::testing::{Fault, FaultyStore};
use lunacore::*;
use serde_json::{Value, json};

use crate::recovery::World;
use crate::staged::*;
use crate::support::*;

const DAY: u64 = 86_400;

fn plain(orchestrator: ExecutionOrchestrator) -> ExecutionOrchestrator {
    orchestrator
}

fn sleep(id: &str, seconds: u64) -> Step {
    Step::sleep(id, Duration::from_secs(seconds))
}

/// A time as whole seconds since the world began: timers may be a millisecond late.
fn second<W: World>(bench: &Bench<W>, time: SystemTime) -> u64 {
    time.duration_since(bench.at(0)).unwrap().as_secs()
}

/// A step that waits for the signal `go`.
fn go(id: &str) -> Step {
    Step::wait_for_signal(id, "go")
}

fn impatient(id: &str) -> Step {
    go(id).timeout(Duration::from_secs(60))
}

async fn received(actors: &Actors, id: &str, name: &str, payload: impl Into<Value>) {
    assert_eq!(signal(actors, id, name, payload).await.unwrap(), SignalOutcome::Received);
}

/// The signals that are kept for a run.
async fn kept(actors: &Actors, id: &str) -> Vec<(String, Value)> {
    let found = actors.memory.send(FindRun::new(run_id(id), Claim::new())).await.unwrap().unwrap().unwrap();
    found.signals.into_iter().map(|signal| (signal.name.to_string(), Value::clone(&signal.payload))).collect()
}

/// A life that ends without a word, as a crash does: nothing but what is stored is left.
async fn crash<W: World>(bench: &Bench<W>, actors: Actors) {
    // It leaves what waits as it is stored, which the tests of shutting down show.
    bench.bury(actors).await;
}

// Timers.

async fn a_sleep_ends_at_its_time_to_the_moment<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = submit(&actors, "a", [work("s", 3), sleep("nap", 10), work("t", 1)]).await;
    seconds(4).await;
    let info = status(&actors, "a").await.unwrap();
    assert_eq!((info.state, info.signal), (RunState::Sleeping, None));
    assert_eq!(info.until.map(|until| second(&bench, until)), Some(13));
    let current = info.current.unwrap();
    assert_eq!((&*current.step_id, current.index, current.attempt), ("nap", 1, 1));
    assert_eq!(second(&bench, current.since), 3);
    assert_eq!(run.await.unwrap(), [json!("s done"), Value::Null, json!("t done")]);
    assert_eq!(bench.service.trace.all(), ["0s a.s", "13s a.t"]);
    assert_eq!(bench.elapsed(), 14);
    let expected = [
        "plan.accepted",
        "plan.started",
        "task.started s",
        "task.completed s",
        "task.sleeping nap",
        "task.completed nap",
        "task.started t",
        "task.completed t",
        "plan.completed",
    ];
    assert_eq!(history_of(&actors, "a").await, expected);
    let woken = &history(&actors).await[5];
    assert_eq!(second(&bench, woken.timestamp()), 13, "{woken}");
    bench.bury(actors).await;
}

async fn a_sleep_until_a_time_ends_then_and_one_that_has_passed_at_once<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let steps = [
        Step::sleep_until("past", bench.at(0)),
        work("s", 7),
        Step::sleep_until("passed", bench.at(5)),
        Step::sleep_until("later", bench.at(30)),
        work("t", 1),
    ];
    let behind = async {
        let run = submit(&actors, "a", steps).await;
        // Those that are over do not let others go first.
        let other = submit(&actors, "b", [work("s", 2)]).await;
        (run.await.unwrap(), other.await.unwrap())
    };
    behind.await;
    assert_eq!(bench.service.trace.all(), ["0s a.s", "7s b.s", "30s a.t"]);
    let told = history_of(&actors, "a").await;
    assert_eq!(told[..4], ["plan.accepted", "plan.started", "task.sleeping past", "task.completed past"]);
    assert_eq!(
        told[5..9],
        ["task.completed s", "task.sleeping passed", "task.completed passed", "task.sleeping later"]
    );
    bench.bury(actors).await;
}

async fn a_plan_of_nothing_but_waits_completes<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = submit(&actors, "a", [sleep("one", 1), sleep("none", 0), go("signal")]).await;
    received(&actors, "a", "go", 7).await;
    assert_eq!(run.await.unwrap(), [Value::Null, Value::Null, json!(7)]);
    assert_eq!(bench.elapsed(), 1);
    assert_eq!(record(&actors, "a").await.state, RunState::Completed);
    let artifact = actors.memory.send(Get::latest("task:signal")).await.unwrap().unwrap().unwrap();
    assert_eq!(artifact.text(), Some("7"));
    bench.bury(actors).await;
}

async fn who_waits_gives_its_slot_to_others_and_comes_before_those_that_only_queued<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let asleep = submit(&actors, "asleep", [sleep("nap", 10), work("s", 1)]).await;
    let awaiting = submit(&actors, "awaiting", [go("signal"), work("s", 1)]).await;
    let busy = submit(&actors, "busy", [work("s", 20)]).await;
    let queued = submit(&actors, "queued", [work("s", 1)]).await;
    quiet().await;
    let expected = [RunState::Sleeping, RunState::AwaitingSignal, RunState::Running, RunState::Queued];
    assert_eq!(states(&actors, ["asleep", "awaiting", "busy", "queued"]).await, expected);
    seconds(5).await;
    received(&actors, "awaiting", "go", "now").await;
    seconds(10).await;
    // What they waited for is there; a slot is not.
    assert_eq!(states(&actors, ["asleep", "awaiting"]).await, expected[..2]);
    for run in [asleep, awaiting, busy, queued] {
        run.await.unwrap();
    }
    let trace = ["0s busy.s", "20s awaiting.s", "21s asleep.s", "22s queued.s"];
    assert_eq!(bench.service.trace.all(), trace);
    bench.bury(actors).await;
}

async fn a_sleep_goes_on_after_a_restart_for_the_rest_of_it<W: World>() {
    for (down, ends) in [(20, 100), (500, 530)] {
        let bench = Bench::<W>::new();
        let actors = bench.live(plain).await;
        let run = submit(&actors, "a", [work("s", 0), sleep("nap", 100), work("t", 1)]).await;
        seconds(30).await;
        crash(&bench, actors).await;
        assert!(matches!(run.await, Err(PlanError::Interrupted { .. })));
        seconds(down).await;
        let actors = bench.live(plain).await;
        quiet().await;
        if ends == 100 {
            let info = status(&actors, "a").await.unwrap();
            assert_eq!((info.state, info.until), (RunState::Sleeping, Some(bench.at(100))));
            assert_eq!(info.current.unwrap().since, bench.at(0), "it began in another life");
        }
        seconds(600).await;
        assert_eq!(bench.service.trace.all(), ["0s a.s".to_owned(), format!("{ends}s a.t")]);
        // Nothing is told of a restart that changes nothing.
        let told = history_of(&actors, "a").await;
        assert_eq!(
            told[3..7],
            ["task.completed s", "task.sleeping nap", "task.completed nap", "task.started t"]
        );
        bench.bury(actors).await;
    }
}

async fn a_thousand_that_wait_hold_nobody_up_after_a_restart<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let many = 1_000;
    for n in 0..many {
        let steps = if n % 2 == 0 { [sleep("wait", DAY), work("s", 0)] } else { [go("wait"), work("s", 0)] };
        let plan = ExecutePlan::new(steps).run_id(format!("{n:03}")).durability(Durability::Relaxed);
        submit_plan(&actors, plan).await;
    }
    let before = history(&actors).await.len();
    seconds(1).await;
    crash(&bench, actors).await;
    let actors = bench.live(plain).await;
    let new = submit(&actors, "new", [work("s", 1)]).await;
    new.await.unwrap();
    assert!(bench.service.trace.all()[0].ends_with("new.s"), "with a single slot");
    let events = actors.memory.send(ReadEvents::new(0, limits::MAX_PAGE)).await.unwrap().unwrap();
    assert_eq!(events.len(), before, "a page");
    for n in (1..many).step_by(2) {
        received(&actors, &format!("{n:03}"), "go", n).await;
    }
    seconds(2 * DAY).await;
    let report = actors.orchestrator.send(Shutdown::drain(Duration::from_secs(1))).await.unwrap();
    assert_eq!((report.cancelled, report.interrupted), (0, 0), "all had ended");
    assert_eq!(bench.service.trace.all().len(), many + 1);
    bench.forget(actors).await;
}

async fn a_time_that_cannot_be_told_is_refused<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let end = std::time::UNIX_EPOCH + limits::END_OF_TIME;
    let plan = ExecutePlan::new([Step::sleep_until("s", end)]).run_id("a");
    let refused = actors.orchestrator.send(plan).await.unwrap().unwrap_err();
    let expected = "it sleeps until a time after the year 9999; was another unit meant?";
    assert_eq!(chain(&refused).last().unwrap(), expected);
    let last = Step::sleep_until("s", end - Duration::from_secs(1));
    submit(&actors, "a", [last]).await;
    quiet().await;
    assert_eq!(state(&actors, "a").await, RunState::Sleeping);
    crash(&bench, actors).await;
    let actors = bench.live(plain).await;
    quiet().await;
    let until = status(&actors, "a").await.unwrap().until;
    assert_eq!(until, Some(end - Duration::from_secs(1)));
    cancel(&actors, "a").await.unwrap();
    let told = serde_json::to_string(&history(&actors).await).unwrap();
    assert!(told.contains("9999-12-31T23:59:59"), "{told}");
    bench.bury(actors).await;
}

/// A step that was held, since its signal did not come, and that is tried again, waits anew.
async fn a_wait_that_was_held_begins_anew<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = submit(&actors, "a", [impatient("d").on_failure(OnFailure::Hold), work("t", 1)]).await;
    seconds(100).await;
    assert_eq!(state(&actors, "a").await, RunState::Held);
    seconds(1_000).await;
    assert_eq!(state(&actors, "a").await, RunState::Held, "its time does not pass");
    let rerun = ResolveStep::new(run_id("a"), "d", StepOutcome::Rerun);
    actors.orchestrator.send(rerun.clone()).await.unwrap().unwrap();
    quiet().await;
    let info = status(&actors, "a").await.unwrap();
    let until = info.until.map(|until| second(&bench, until));
    assert_eq!((info.state, until, info.failure), (RunState::AwaitingSignal, Some(1_160), None));
    seconds(100).await;
    assert_eq!(state(&actors, "a").await, RunState::Held);
    // Kept while it is held.
    received(&actors, "a", "go", "at last").await;
    actors.orchestrator.send(rerun).await.unwrap().unwrap();
    assert_eq!(run.await.unwrap(), ["at last", "t done"]);
    bench.bury(actors).await;
}

/// What no step has taken is kept for the next generation, too.
async fn the_next_generation_finds_the_signals_that_are_kept<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    let run = submit(&actors, "a", [call("s", 5), go("d")]).await;
    received(&actors, "a", "go", "kept").await;
    run.await.unwrap_err();
    assert_eq!(signal(&actors, "a", "go", 1).await.unwrap(), SignalOutcome::Finished(RunState::Failed));
    bench.service.goes(true);
    let retried = actors.orchestrator.send(RetryRun::new(run_id("a")));
    // In the same breath: nothing of the generation is stored.
    let told = actors.orchestrator.send(Signal::new(run_id("a"), "go").payload("late"));
    let run = retried.await.unwrap().unwrap();
    assert_eq!(told.await.unwrap().unwrap(), SignalOutcome::Received);
    assert_eq!(run.await.unwrap(), ["s done", "kept"]);
    assert_eq!(kept(&actors, "a").await, [("go".to_owned(), json!("late"))]);
    bench.bury(actors).await;
}

// Signals.

async fn a_signal_ends_the_wait_with_its_payload<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = submit(&actors, "a", [go("decision"), work("s", 1)]).await;
    seconds(9).await;
    let info = status(&actors, "a").await.unwrap();
    assert_eq!(
        (info.state, info.until, info.signal.as_deref()),
        (RunState::AwaitingSignal, None, Some("go"))
    );
    let current = info.current.unwrap();
    assert_eq!((&*current.step_id, current.since), ("decision", bench.at(0)));
    received(&actors, "a", "other", "not this").await;
    seconds(1).await;
    assert_eq!(state(&actors, "a").await, RunState::AwaitingSignal);
    received(&actors, "a", "go", json!({ "by": "ada" })).await;
    assert_eq!(run.await.unwrap()[0], json!({ "by": "ada" }));
    assert_eq!(bench.service.trace.all(), ["10s a.s"]);
    let expected = [
        "plan.accepted",
        "plan.started",
        "task.awaiting_signal decision",
        "signal.received",
        "signal.received",
        "task.completed decision",
        "task.started s",
        "task.completed s",
        "plan.completed",
    ];
    assert_eq!(history_of(&actors, "a").await, expected);
    assert_eq!(kept(&actors, "a").await, [("other".to_owned(), json!("not this"))]);
    bench.bury(actors).await;
}

/// Though nothing else happens to the run before long.
async fn who_listens_hears_of_a_signal_at_once<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    submit(&actors, "a", [work("s", 100), go("decision")]).await;
    quiet().await;
    let mut events = watch(&actors.bus).await;
    received(&actors, "a", "go", 1).await;
    assert_eq!(until(&mut events, "signal.received").await.len(), 1);
    assert_eq!(bench.elapsed(), 0);
    drop(events);
    bench.bury(actors).await;
}

async fn each_signal_is_taken_once_and_the_earliest_of_its_name_first<W: World>() {
    for restart in [false, true] {
        let bench = Bench::<W>::new();
        let mut actors = bench.live(plain).await;
        let other = Step::wait_for_signal("third", "other");
        submit(&actors, "a", [work("s", 10), go("first"), go("second"), other, go("fourth")]).await;
        for (name, payload) in [("go", 1), ("other", 2), ("go", 3)] {
            received(&actors, "a", name, payload).await;
        }
        seconds(20).await;
        assert_eq!(state(&actors, "a").await, RunState::AwaitingSignal);
        if restart {
            crash(&bench, actors).await;
            actors = bench.live(plain).await;
            quiet().await;
        }
        assert_eq!(state(&actors, "a").await, RunState::AwaitingSignal, "none is left, and none comes back");
        assert_eq!(kept(&actors, "a").await, []);
        received(&actors, "a", "go", 4).await;
        quiet().await;
        let results = actors.memory.send(GetOutputs(run_id("a"))).await.unwrap().unwrap().unwrap();
        let results: Vec<Value> = results.iter().map(Output::to_value).collect();
        assert_eq!(results[1..], [json!(1), json!(3), json!(2), json!(4)]);
        assert_eq!(state(&actors, "a").await, RunState::Completed);
        bench.bury(actors).await;
    }
}

async fn an_early_signal_is_kept_across_a_restart<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    submit(&actors, "a", [sleep("nap", 50), go("decision"), work("s", 1)]).await;
    received(&actors, "a", "go", "early").await;
    crash(&bench, actors).await;
    let actors = bench.live(plain).await;
    seconds(60).await;
    assert_eq!(record(&actors, "a").await.state, RunState::Completed);
    assert_eq!(bench.service.trace.all(), ["50s a.s"]);
    let told = history_of(&actors, "a").await;
    // It is waited for, if not for long.
    assert_eq!(
        told[3..7],
        ["signal.received", "task.completed nap", "task.awaiting_signal decision", "task.completed decision"]
    );
    bench.bury(actors).await;
}

/// In the same breath as the plan, when nothing of it is stored: those that start at once, and those that have to queue.
async fn a_signal_waits_until_its_run_is_stored_and_changes_nothing_about_its_place<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let submit = |id: &str, first: Step| {
        actors.orchestrator.send(ExecutePlan::new([first, go("decision"), work("t", 1)]).run_id(id))
    };
    let post = |id: &str, n: u64| actors.orchestrator.send(Signal::new(run_id(id), "go").payload(n));
    let first = submit("a", work("s", 5));
    let told = post("a", 1);
    let second = submit("b", work("s", 5));
    let third = submit("c", work("s", 5));
    let (told_b, told_c, again) = (post("b", 2), post("c", 3), post("b", 4));
    for told in [told, told_b, told_c, again] {
        assert_eq!(told.await.unwrap().unwrap(), SignalOutcome::Received);
    }
    assert_eq!(kept(&actors, "b").await, [("go".to_owned(), json!(2)), ("go".to_owned(), json!(4))]);
    for (run, n) in [(first, 1), (second, 2), (third, 3)] {
        assert_eq!(run.await.unwrap().unwrap()[1], n);
    }
    let trace = ["0s a.s", "5s a.t", "6s b.s", "11s b.t", "12s c.s", "17s c.t"];
    assert_eq!(bench.service.trace.all(), trace);
    bench.bury(actors).await;
}

async fn a_signal_to_a_plan_that_is_refused_goes_nowhere<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let refused = actors.orchestrator.send(ExecutePlan::new([Step::named("nobody knows")]).run_id("a"));
    let told = actors.orchestrator.send(Signal::new(run_id("a"), "go"));
    assert!(matches!(refused.await.unwrap(), Err(PlanError::Unresolved(_))));
    // As for what else is asked of such a plan.
    assert_eq!(told.await.unwrap().unwrap(), SignalOutcome::Finished(RunState::Cancelled));
    let unknown = signal(&actors, "a", "go", 1).await.unwrap_err();
    assert!(matches!(unknown, ControlError::UnknownRun { .. }), "{unknown:?}");
    assert_eq!(history(&actors).await, []);
    bench.bury(actors).await;
}

/// Another plan has come with the run's id, and the signal behind it is the run's all the same.
async fn a_signal_behind_a_plan_that_is_not_the_runs_reaches_the_run<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    submit(&actors, "a", [go("decision"), work("s", 1)]).await;
    crash(&bench, actors).await;
    let actors = bench.live(|orchestrator| orchestrator.recover(Recover::None)).await;
    quiet().await;
    let other = actors.orchestrator.send(ExecutePlan::new([work("other", 1)]).run_id("a"));
    let told = actors.orchestrator.send(Signal::new(run_id("a"), "go").payload("kept"));
    assert!(matches!(other.await.unwrap(), Err(PlanError::PlanMismatch { .. })));
    assert_eq!(told.await.unwrap().unwrap(), SignalOutcome::Received);
    let run = actors.orchestrator.send(ContinueRun(run_id("a"))).await.unwrap().unwrap();
    assert_eq!(run.await.unwrap()[0], "kept");
    bench.bury(actors).await;
}

async fn a_run_that_is_not_here_finds_its_signals_when_it_goes_on<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    submit(&actors, "a", [go("decision"), sleep("nap", 10), go("again")]).await;
    crash(&bench, actors).await;
    let actors = bench.live(|orchestrator| orchestrator.recover(Recover::None)).await;
    seconds(5).await;
    received(&actors, "a", "go", 1).await;
    seconds(5).await;
    assert_eq!(record(&actors, "a").await.cursor, 0, "nobody runs it");
    let run = actors.orchestrator.send(ContinueRun(run_id("a"))).await.unwrap().unwrap();
    received(&actors, "a", "go", 2).await;
    assert_eq!(run.await.unwrap(), [json!(1), Value::Null, json!(2)]);
    assert_eq!(bench.elapsed(), 20);
    bench.bury(actors).await;
}

/// Whoever has it go on in the same breath waits until the signal is stored, and the run finds it.
async fn a_run_that_is_sent_a_signal_goes_on_behind_that<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    submit(&actors, "a", [go("decision")]).await;
    crash(&bench, actors).await;
    let actors = bench.live(|orchestrator| orchestrator.recover(Recover::None)).await;
    quiet().await;
    let told = actors.orchestrator.send(Signal::new(run_id("a"), "go").payload("first"));
    let run = actors.orchestrator.send(ContinueRun(run_id("a")));
    assert_eq!(told.await.unwrap().unwrap(), SignalOutcome::Received);
    assert_eq!(run.await.unwrap().unwrap().await.unwrap(), ["first"]);
    // One that is over takes none, whoever asks memory.
    let late = RecordSignal::new(run_id("a"), "go".into(), std::sync::Arc::new(json!(1)));
    let refused = actors.memory.send(late).await.unwrap().unwrap_err();
    assert!(matches!(&refused, MemoryError::RunOver { state: RunState::Completed, .. }), "{refused:?}");
    assert_eq!(history_of(&actors, "a").await.last().unwrap(), "plan.completed");
    bench.bury(actors).await;
}

/// Sent before it is known what is unfinished, and with the plan sent again behind it.
async fn a_signal_right_after_a_restart_is_not_lost<W: World>() {
    for attach in [false, true] {
        let bench = Bench::<W>::new();
        let steps = || [go("decision"), work("s", 1)];
        let actors = bench.live(plain).await;
        submit(&actors, "a", steps()).await;
        crash(&bench, actors).await;
        let actors = bench.live(plain).await;
        let attached = attach.then(|| actors.orchestrator.send(ExecutePlan::new(steps()).run_id("a")));
        let told = actors.orchestrator.send(Signal::new(run_id("a"), "go").payload("first"));
        let again = actors.orchestrator.send(Signal::new(run_id("a"), "go").payload("second"));
        assert_eq!(told.await.unwrap().unwrap(), SignalOutcome::Received);
        assert_eq!(again.await.unwrap().unwrap(), SignalOutcome::Received);
        if let Some(attached) = attached {
            assert_eq!(attached.await.unwrap().unwrap()[0], "first");
        }
        seconds(5).await;
        assert_eq!(record(&actors, "a").await.state, RunState::Completed);
        assert_eq!(kept(&actors, "a").await, [("go".to_owned(), json!("second"))]);
        bench.bury(actors).await;
    }
}

async fn a_run_in_other_hands_takes_no_signal_from_here<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = submit(&actors, "a", [go("decision")]).await;
    let other =
        ExecutionOrchestrator::new(actors.bus.clone(), actors.memory.clone(), SimpleAllocator.start());
    let other = other.recover(Recover::None).start();
    let refused = other.send(Signal::new(run_id("a"), "go")).await.unwrap().unwrap_err();
    assert_eq!(refused.to_string(), "run a is awaiting_signal, but not in this orchestrator");
    assert_eq!(kept(&actors, "a").await, []);
    received(&actors, "a", "go", 1).await;
    assert_eq!(run.await.unwrap(), [1]);
    other.send(Shutdown::now()).await.unwrap();
    drop(other);
    bench.bury(actors).await;
}

async fn what_cannot_be_a_signal_is_refused<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    submit(&actors, "a", [go("decision")]).await;
    let deep = (0..=MAX_JSON_DEPTH).fold(Value::Null, |value, _| json!([value]));
    let long = "x".repeat(MAX_ID_BYTES + 1);
    let cases = [
        ("", Value::Null, vec!["the signal name \"\" is empty".to_owned()]),
        ("a\nb", Value::Null, vec!["the signal name \"a\\nb\" has the control character '\\n' at byte 1".to_owned()]),
        (&long, Value::Null, vec![format!("the signal name {:?} has 257 bytes, more than 256", cut(&long))]),
        ("go", deep, vec![
            "what the signal \"go\" brings cannot be the output of a step".to_owned(),
            "the output nests deeper than 100 levels; return a flatter value, or its text".to_owned(),
        ]),
        // With its quotes.
        ("go", json!("x".repeat(MAX_SIGNAL_BYTES - 1)), vec![
            "what the signal \"go\" brings has 1048577 bytes of JSON, more than 1048576; write it to a file and send the file's name".to_owned(),
        ]),
    ];
    for (name, payload, expected) in cases {
        let refused = signal(&actors, "a", name, payload).await.unwrap_err();
        assert!(matches!(refused, ControlError::InvalidSignal(_)), "{refused:?}");
        assert_eq!(chain(&refused), expected);
    }
    assert_eq!(history_of(&actors, "a").await.len(), 3, "nothing is told of them");
    bench.bury(actors).await;
}

async fn only_so_many_signals_are_kept<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    submit(&actors, "a", [work("s", 10), go("one"), go("two")]).await;
    for n in 0..MAX_SIGNALS {
        received(&actors, "a", "go", n).await;
    }
    let refused = signal(&actors, "a", "go", "more").await.unwrap_err();
    let too_many =
        matches!(&refused, ControlError::Memory(MemoryError::TooManySignals { kept: MAX_SIGNALS, .. }));
    assert!(too_many, "{refused:?}");
    seconds(11).await;
    assert_eq!(state(&actors, "a").await, RunState::Completed);
    assert_eq!(kept(&actors, "a").await.len(), MAX_SIGNALS - 2);
    bench.bury(actors).await;
}

async fn only_signals_of_so_many_bytes_are_kept<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    submit(&actors, "a", [work("s", 10), go("one"), work("t", 10)]).await;
    submit(&actors, "b", [work("s", 30)]).await;
    let largest = "x".repeat(MAX_SIGNAL_BYTES - 2);
    let most = MAX_SIGNALS_BYTES / MAX_SIGNAL_BYTES;
    for _ in 0..most {
        received(&actors, "a", "go", largest.as_str()).await;
    }
    let refused = signal(&actors, "a", "go", "more").await.unwrap_err();
    let too_large = matches!(
        &refused,
        ControlError::Memory(MemoryError::SignalsTooLarge { kept: MAX_SIGNALS_BYTES, bytes: 6, .. })
    );
    assert!(too_large, "{refused:?}");
    assert_eq!(
        chain(&refused)[1],
        "run a keeps signals of 16777216 bytes that nothing has waited for, and this one has 6; no more than 16777216 are kept"
    );
    received(&actors, "b", "go", "of another run").await;
    // One is taken, and so there is room for another.
    seconds(11).await;
    received(&actors, "a", "go", "more").await;
    assert_eq!(kept(&actors, "a").await.len(), most);
    // What memory is asked for without an orchestrator is checked too.
    let send = |payload: Value| {
        actors.memory.send(RecordSignal::new(run_id("b"), Arc::from("go"), Arc::new(payload)))
    };
    let refused = send(json!(largest + "x")).await.unwrap();
    assert!(
        matches!(&refused, Err(MemoryError::SignalTooLarge { bytes, .. }) if *bytes == MAX_SIGNAL_BYTES + 1),
        "{refused:?}"
    );
    let deep = (0..=MAX_JSON_DEPTH).fold(Value::Null, |value, _| json!([value]));
    let refused = send(deep).await.unwrap();
    assert!(matches!(refused, Err(MemoryError::SignalTooDeep { .. })), "{refused:?}");
    assert_eq!(kept(&actors, "b").await.len(), 1);
    bench.bury(actors).await;
}

async fn many_signals_at_once_come_each_to_its_step<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(|orchestrator| orchestrator.max_concurrent_plans(7)).await;
    let (runs, each) = (40, 25);
    let mut handles = Vec::new();
    for n in 0..runs {
        let steps: Vec<Step> = (0..each).map(|step| go(&format!("s{step}"))).collect();
        handles.push(submit(&actors, &format!("r{n}"), steps).await);
    }
    let signals = (0..each).flat_map(|step| (0..runs).map(move |n| (n, step)));
    let sent: Vec<_> = signals
        .map(|(n, step)| actors.orchestrator.send(Signal::new(run_id(&format!("r{n}")), "go").payload(step)))
        .collect();
    for told in sent {
        assert_eq!(told.await.unwrap().unwrap(), SignalOutcome::Received);
    }
    for handle in handles {
        let expected: Vec<Value> = (0..each).map(Value::from).collect();
        assert_eq!(handle.await.unwrap(), expected, "in the order in which they were sent");
    }
    bench.bury(actors).await;
}

/// Whoever sent it does not know, but the run does: it goes on if the signal is stored.
async fn a_signal_whose_storing_fails_is_acknowledged_by_nobody<W: World>() {
    for fault in [Fault::Fail, Fault::FailAfter] {
        let bench = Bench::<W>::new();
        let actors = bench.live_over(FaultyStore::new(bench.store().await, fault, 2), plain);
        let run = submit(&actors, "a", [go("decision")]).await;
        let failed = signal(&actors, "a", "go", "first").await.unwrap_err();
        assert!(matches!(failed, ControlError::Memory(MemoryError::Store(_))), "{failed:?}");
        quiet().await;
        let stored = fault == Fault::FailAfter;
        let expected = if stored { RunState::Completed } else { RunState::AwaitingSignal };
        assert_eq!(state(&actors, "a").await, expected, "{fault:?}");
        let again = signal(&actors, "a", "go", "second").await.unwrap();
        let expected =
            if stored { SignalOutcome::Finished(RunState::Completed) } else { SignalOutcome::Received };
        assert_eq!(again, expected);
        assert_eq!(run.await.unwrap(), [if stored { "first" } else { "second" }]);
        bench.bury(actors).await;
    }
}

// Limits.

async fn a_signal_that_does_not_come_in_time_fails_its_step<W: World>() {
    for total in [false, true] {
        let bench = Bench::<W>::new();
        let actors = bench.live(plain).await;
        let minute = Duration::from_secs(60);
        let step = if total { go("decision").total_timeout(minute) } else { go("decision").timeout(minute) };
        let run = submit(&actors, "a", [work("s", 5), step.escalate_on_failure()]).await;
        seconds(6).await;
        let until = status(&actors, "a").await.unwrap().until;
        assert_eq!(until.map(|until| second(&bench, until)), Some(65).filter(|_| !total));
        let error = run.await.unwrap_err();
        let expected = if total { FailureKind::TotalTimeout } else { FailureKind::Timeout };
        assert!(
            matches!(&error, PlanError::StepFailed { kind, attempt: 1, .. } if *kind == expected),
            "{error:?}"
        );
        assert_eq!(bench.elapsed(), 65);
        let told = history_of(&actors, "a").await;
        let end = [
            "task.awaiting_signal decision",
            "task.failed decision",
            "escalation.needed decision",
            "plan.failed decision",
        ];
        assert_eq!(told[4..], end);
        bench.bury(actors).await;
    }
}

async fn a_timeout_counts_across_restarts_and_pauses<W: World>() {
    for pauses in [false, true] {
        let bench = Bench::<W>::new();
        let mut actors = bench.live(plain).await;
        submit(&actors, "a", [impatient("decision"), work("s", 1)]).await;
        seconds(20).await;
        if pauses {
            assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Paused);
            let info = status(&actors, "a").await.unwrap();
            assert_eq!((info.state, info.until, info.signal), (RunState::Paused, Some(bench.at(60)), None));
        }
        crash(&bench, actors).await;
        seconds(20).await;
        actors = bench.live(plain).await;
        seconds(19).await;
        assert!(!state(&actors, "a").await.is_final());
        seconds(2).await;
        assert_eq!(state(&actors, "a").await, RunState::Failed);
        let failed =
            history(&actors).await.into_iter().find(|event| event.event_type() == "task.failed").unwrap();
        assert_eq!(second(&bench, failed.timestamp()), 60);
        bench.bury(actors).await;
    }
}

async fn what_follows_from_a_timeout_is_as_the_policy_has_it<W: World>() {
    for pauses in [false, true] {
        let bench = Bench::<W>::new();
        let actors = bench.live(plain).await;
        let on = |step: Step, on_failure| [step.on_failure(on_failure), work("t", 1)];
        let skips = submit(&actors, "skips", on(impatient("d"), OnFailure::Continue)).await;
        let rescued =
            submit(&actors, "rescued", on(impatient("d"), OnFailure::fallback_named("refuse"))).await;
        let falls =
            OnFailure::fallback(|ctx: StepContext| async move { ctx.failure().unwrap().kind.as_str() });
        let falls = submit(&actors, "falls", on(impatient("d"), falls)).await;
        seconds(1).await;
        if pauses {
            for id in ["skips", "falls", "rescued"] {
                pause(&actors, id).await.unwrap();
            }
            seconds(99).await;
            let told = history_of(&actors, "skips").await;
            assert_eq!(told[3..], ["plan.paused", "task.failed d", "task.skipped d", "plan.paused"]);
            for id in ["skips", "falls", "rescued"] {
                assert_eq!(state(&actors, id).await, RunState::Paused);
                resume(&actors, id).await.unwrap();
            }
        }
        assert_eq!(skips.await.unwrap(), [Value::Null, json!("t done")]);
        assert_eq!(falls.await.unwrap(), ["timeout", "t done"]);
        let error = rescued.await.unwrap_err();
        assert!(
            matches!(&error, PlanError::StepFailed { attempt: 2, kind: FailureKind::Error, .. }),
            "{error:?}"
        );
        assert!(history_of(&actors, "falls").await.contains(&"task.started d#2".to_owned()));
        bench.bury(actors).await;
    }
}

/// The slot that it needs to go on comes too late, but the signal did not.
async fn a_signal_in_time_counts_whenever_there_is_a_slot<W: World>() {
    for (on_failure, arrives) in
        [(OnFailure::Abort, 59), (OnFailure::Continue, 59), (OnFailure::Continue, 70)]
    {
        let bench = Bench::<W>::new();
        let actors = bench.live(plain).await;
        let run = submit(&actors, "a", [impatient("d").on_failure(on_failure)]).await;
        let busy = submit(&actors, "busy", [work("s", 100)]).await;
        seconds(arrives).await;
        assert_eq!(status(&actors, "a").await.unwrap().signal.as_deref(), Some("go"));
        // At 70 s its failure only waits for a slot, to be stored with what follows from it.
        received(&actors, "a", "go", "in time").await;
        let info = status(&actors, "a").await.unwrap();
        assert_eq!((info.state, info.signal), (RunState::AwaitingSignal, None));
        assert_eq!(run.await.unwrap(), ["in time"]);
        assert_eq!(bench.elapsed(), 100);
        busy.await.unwrap();
        bench.bury(actors).await;
    }
}

async fn a_deadline_ends_every_wait<W: World>() {
    for first in
        [sleep("wait", 100), go("wait"), impatient("wait"), Step::sleep_until("wait", std::time::UNIX_EPOCH)]
    {
        for pauses in [false, true] {
            let bench = Bench::<W>::new();
            let actors = bench.live(plain).await;
            let then = if first.wait() == Some(&Wait::Until(std::time::UNIX_EPOCH)) {
                go("then")
            } else {
                work("then", 1)
            };
            let plan = ExecutePlan::new([first.clone(), then]).run_id("a").deadline(Duration::from_secs(30));
            let run = submit_plan(&actors, plan).await;
            if pauses {
                quiet().await;
                assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Paused);
            }
            let error = run.await.unwrap_err();
            assert!(matches!(error, PlanError::DeadlineExceeded { .. }), "{error:?}");
            assert_eq!(bench.elapsed(), 30);
            bench.bury(actors).await;
        }
    }
}

async fn a_deadline_that_passes_while_nobody_is_there_ends_the_wait_at_once<W: World>() {
    for (first, arrives) in [(sleep("wait", 20), false), (sleep("wait", 90), false), (go("wait"), true)] {
        let bench = Bench::<W>::new();
        let actors = bench.live(plain).await;
        let plan = ExecutePlan::new([first, work("s", 1)]).run_id("a").deadline(Duration::from_secs(30));
        submit_plan(&actors, plan).await;
        quiet().await;
        crash(&bench, actors).await;
        let actors = bench.live(|orchestrator| orchestrator.recover(Recover::None)).await;
        quiet().await;
        if arrives {
            received(&actors, "a", "go", "early").await;
        }
        bench.bury(actors).await;
        seconds(40).await;
        let actors = bench.live(plain).await;
        quiet().await;
        assert_eq!(record(&actors, "a").await.state, RunState::Failed);
        assert_eq!(bench.service.trace.all(), [""; 0]);
        bench.bury(actors).await;
    }
}

// Steering.

async fn a_wait_goes_on_after_a_pause_and_time_goes_on_meanwhile<W: World>() {
    for (paused, ends) in [(10, 50), (100, 110)] {
        let bench = Bench::<W>::new();
        let actors = bench.live(plain).await;
        let run = submit(&actors, "a", [sleep("nap", 50), work("s", 1)]).await;
        seconds(10).await;
        assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Paused);
        let info = status(&actors, "a").await.unwrap();
        assert_eq!((info.state, info.until), (RunState::Paused, Some(bench.at(50))));
        seconds(paused).await;
        assert_eq!(state(&actors, "a").await, RunState::Paused);
        assert_eq!(resume(&actors, "a").await.unwrap(), ResumeOutcome::Resumed);
        run.await.unwrap();
        assert_eq!(bench.service.trace.all(), [format!("{ends}s a.s")]);
        let told = history_of(&actors, "a").await;
        let middle =
            ["task.sleeping nap", "plan.paused", "plan.resumed", "task.sleeping nap", "task.completed nap"];
        assert_eq!(told[2..7], middle);
        bench.bury(actors).await;
    }
}

async fn a_signal_to_a_paused_run_is_kept_until_it_is_resumed<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = submit(&actors, "a", [impatient("d"), work("s", 1)]).await;
    quiet().await;
    pause(&actors, "a").await.unwrap();
    received(&actors, "a", "go", "paused").await;
    // Nor is it too late then.
    seconds(100).await;
    assert_eq!(state(&actors, "a").await, RunState::Paused);
    resume(&actors, "a").await.unwrap();
    assert_eq!(run.await.unwrap()[0], "paused");
    assert_eq!(bench.service.trace.all(), ["100s a.s"]);
    bench.bury(actors).await;
}

async fn what_has_come_is_not_completed_once_the_run_is_cancelled<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let runs =
        [submit(&actors, "a", [go("d")]).await, submit(&actors, "b", [sleep("d", 5), work("s", 1)]).await];
    let busy = submit(&actors, "busy", [work("s", 20)]).await;
    received(&actors, "a", "go", 1).await;
    seconds(10).await;
    for (id, run) in ["a", "b"].into_iter().zip(runs) {
        assert_eq!(cancel(&actors, id).await.unwrap(), CancelOutcome::Cancelled);
        assert!(matches!(run.await, Err(PlanError::Cancelled { .. })));
        let told = history_of(&actors, id).await;
        assert_eq!(told[told.len() - 2..], ["task.cancelled d", "plan.cancelled"]);
    }
    assert_eq!(kept(&actors, "a").await.len(), 1);
    busy.await.unwrap();
    bench.bury(actors).await;
}

async fn a_run_without_its_callables_is_interrupted_and_goes_on_with_its_wait<W: World>() {
    for first in [sleep("wait", 100), go("wait")] {
        let bench = Bench::<W>::new();
        let steps = || [first.clone(), Step::new("s", || async { "closure" })];
        let actors = bench.live(plain).await;
        submit(&actors, "a", steps()).await;
        seconds(10).await;
        crash(&bench, actors).await;
        let actors = bench.live(plain).await;
        reaches(&actors, "a", RunState::Interrupted).await;
        quiet().await;
        received(&actors, "a", "go", "while cut off").await;
        seconds(20).await;
        let run = submit(&actors, "a", steps()).await;
        let asleep = first.wait() == Some(&Wait::Sleep(Duration::from_secs(100)));
        let results = run.await.unwrap();
        assert_eq!(results[1], "closure");
        assert_eq!(results[0] == Value::Null, asleep);
        assert_eq!(bench.elapsed(), if asleep { 100 } else { 30 });
        let told = history_of(&actors, "a").await;
        let again = if asleep { "task.sleeping wait" } else { "task.awaiting_signal wait" };
        let expected = ["plan.interrupted", "signal.received", "plan.resumed", again, "task.completed wait"];
        assert_eq!(told[3..8], expected);
        bench.bury(actors).await;
    }
}

// Shutting down.

async fn a_shutdown_leaves_what_waits_as_it_is_stored<W: World>() {
    for drain in [None, Some(10), Some(100)] {
        let bench = Bench::<W>::new();
        let actors = bench.live(plain).await;
        let asleep = submit(&actors, "asleep", [sleep("nap", 50), work("s", 1)]).await;
        let awaiting = submit(&actors, "awaiting", [go("d"), work("s", 1)]).await;
        quiet().await;
        let shutdown = match drain {
            Some(time) => Shutdown::drain(Duration::from_secs(time)),
            None => Shutdown::now(),
        };
        let report = actors.orchestrator.send(shutdown).await.unwrap();
        let completes = drain == Some(100);
        let expected = if completes { (1, 0, 1) } else { (0, 0, 2) };
        assert_eq!((report.completed, report.cancelled, report.interrupted), expected);
        assert_eq!(bench.elapsed(), if completes { 51 } else { drain.unwrap_or(0) });
        assert_eq!(asleep.await.is_ok(), completes);
        let left = awaiting.await.unwrap_err().to_string();
        assert!(left.contains("shut down while it was awaiting_signal; it goes on from there"), "{left}");
        let expected = if completes { RunState::Completed } else { RunState::Sleeping };
        assert_eq!(record(&actors, "asleep").await.state, expected);
        assert_eq!(record(&actors, "awaiting").await.state, RunState::AwaitingSignal);
        bench.forget(actors).await;
    }
}

/// Only those that have come to it by then: those on their way to it are left as soon as they do, and who has its signal goes on.
async fn a_drain_does_not_wait_for_signals<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let signalled = submit(&actors, "signalled", [go("d"), work("s", 1)]).await;
    let later = submit(&actors, "later", [work("s", 10), go("d")]).await;
    quiet().await;
    received(&actors, "signalled", "go", 1).await;
    let report = actors.orchestrator.send(Shutdown::drain(Duration::from_secs(1_000))).await.unwrap();
    assert_eq!((report.completed, report.interrupted, report.cancelled), (1, 1, 0));
    assert_eq!(bench.elapsed(), 11);
    signalled.await.unwrap();
    assert!(matches!(later.await, Err(PlanError::Interrupted { .. })));
    assert_eq!(record(&actors, "later").await.state, RunState::AwaitingSignal);
    bench.forget(actors).await;
}

/// Takes its time to find anything.
struct Slow;

impl Actor for Slow {
    type Context = Context<Self>;
}

impl Handler<Resolve> for Slow {
    type Result = ResponseFuture<Result<Vec<Callable>, ResolveError>>;

    fn handle(&mut self, _: Resolve, _: &mut Self::Context) -> Self::Result {
        Box::pin(std::future::pending())
    }
}

/// Before they stand aside: when nothing is known of them yet, and when their callables are being looked for.
async fn a_shutdown_right_after_a_restart_leaves_what_waits_as_it_is_stored<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    submit(&actors, "a", [sleep("nap", 50)]).await;
    submit(&actors, "b", [go("d")]).await;
    quiet().await;
    crash(&bench, actors).await;
    for looks in [false, true] {
        let bus = EventBus::new().start();
        let memory = ProjectMemory::with_store(bench.store().await).start();
        let orchestrator = ExecutionOrchestrator::new(bus.clone(), memory.clone(), Slow.start()).start();
        let actors = Actors { orchestrator, bus, memory };
        if looks {
            quiet().await;
            assert_eq!(status(&actors, "b").await.unwrap().position, Some(1));
        }
        let report = actors.orchestrator.send(Shutdown::now()).await.unwrap();
        assert_eq!((report.cancelled, report.interrupted), (0, if looks { 2 } else { 0 }));
        assert_eq!(record(&actors, "a").await.state, RunState::Sleeping);
        assert_eq!(record(&actors, "b").await.state, RunState::AwaitingSignal);
        // Whoever asks the allocator gives up.
        seconds(60).await;
        bench.forget(actors).await;
    }
}

async fn dropping_the_last_handle_leaves_a_run_that_awaits_a_signal<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let run = submit(&actors, "a", [go("d")]).await;
    seconds(5).await;
    bench.forget(actors).await;
    assert!(matches!(run.await, Err(PlanError::Interrupted { .. })));
    assert_eq!(bench.elapsed(), 5);
    let actors = bench.live(plain).await;
    quiet().await;
    assert_eq!(state(&actors, "a").await, RunState::AwaitingSignal);
    bench.bury(actors).await;
}

#[cfg(feature = "expressions")]
async fn a_condition_is_looked_at_before_a_wait_begins<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let steps = [
        sleep("first", 5).when("${{ false }}"),
        work("s", 1),
        sleep("not", 100).when("steps.s.output == 'something else'"),
        go("never").when("steps.s.output == 'something else'"),
        sleep("met", 10).when("steps.s.output == 's done'"),
        go("signal").when("steps.s.output == 's done'"),
    ];
    let run = submit(&actors, "a", steps).await;
    received(&actors, "a", "go", 1).await;
    assert_eq!(run.await.unwrap()[5], 1);
    assert_eq!(bench.elapsed(), 11);
    let told = history_of(&actors, "a").await;
    assert_eq!(told.iter().filter(|event| event.starts_with("task.skipped")).count(), 3, "{told:?}");
    bench.bury(actors).await;
}

/// A memory that is slow: to store signals, and to tell what it has found.
struct SlowMemory(Addr<ProjectMemory>);

impl Actor for SlowMemory {
    type Context = Context<Self>;
}

/// Passes messages on, before or behind so many seconds.
macro_rules! slow_memory {
    ($($message:ty, $before:literal, $behind:literal;)*) => {$(
        impl Handler<$message> for SlowMemory {
            type Result = ResponseFuture<<$message as Message>::Result>;

            fn handle(&mut self, message: $message, _: &mut Self::Context) -> Self::Result {
                let memory = self.0.clone();
                let at_once = $before == 0;
                let mut message = Some(message);
                let sent = if at_once { message.take().map(|message| memory.send(message)) } else { None };
                Box::pin(async move {
                    let request = match sent {
                        Some(request) => request,
                        None => {
                            tokio::time::sleep(Duration::from_secs($before)).await;
                            memory.send(message.unwrap())
                        }
                    };
                    let answer = request.await.unwrap();
                    if $behind > 0 {
                        tokio::time::sleep(Duration::from_secs($behind)).await;
                    }
                    answer
                })
            }
        }
    )*};
}

slow_memory! {
    Attach, 0, 0;
    Box<Commit>, 0, 0;
    FindRun, 0, 10;
    GetRun, 0, 0;
    ListBreakers, 0, 0;
    ListRuns, 0, 0;
    ListUnfinished, 0, 0;
    RecordBreaker, 0, 0;
    RecordSignal, 10, 0;
}

/// Actors that find a run in ten seconds, and store a signal in as many.
pub fn slow_memory<W: World>(
    bench: &Bench<W>,
    store: impl Store,
    configure: impl FnOnce(ExecutionOrchestrator) -> ExecutionOrchestrator,
) -> Actors {
    let memory = ProjectMemory::with_store(store).clock(bench.clock()).start();
    let (bus, slow) = (EventBus::new().start(), SlowMemory(memory.clone()).start());
    let orchestrator = ExecutionOrchestrator::new(bus.clone(), slow, bench.registry().start());
    let orchestrator = configure(orchestrator.clock(bench.clock())).start();
    Actors { orchestrator, bus, memory }
}

async fn a_signal_that_is_stored_while_its_run_is_looked_up_is_not_missed<W: World>() {
    let bench = Bench::<W>::new();
    // The result of the first step is what cannot be stored.
    let actors = slow_memory(&bench, FaultyStore::new(bench.store().await, Fault::Fail, 2), plain);
    let plan = || ExecutePlan::new([work("s", 5), go("t")]).run_id("a");
    // It is looked up for ten seconds.
    let run = submit_plan(&actors, plan()).await;
    seconds(1).await;
    let sent = actors.orchestrator.send(Signal::new(run_id("a"), "go").payload(7));
    assert!(matches!(run.await, Err(PlanError::Memory { .. })));
    // The signal comes behind what memory reads now, and before it tells that.
    let again = actors.orchestrator.send(plan());
    quiet().await;
    assert_eq!(kept(&actors, "a").await, []);
    assert_eq!(sent.await.unwrap().unwrap(), SignalOutcome::Received);
    assert_eq!(again.await.unwrap().unwrap(), [json!("s done"), json!(7)]);
    bench.bury(actors).await;
}

frozen! {
    a_signal_that_is_stored_while_its_run_is_looked_up_is_not_missed
    a_sleep_ends_at_its_time_to_the_moment
    a_sleep_until_a_time_ends_then_and_one_that_has_passed_at_once
    a_plan_of_nothing_but_waits_completes
    who_waits_gives_its_slot_to_others_and_comes_before_those_that_only_queued
    a_sleep_goes_on_after_a_restart_for_the_rest_of_it
    a_thousand_that_wait_hold_nobody_up_after_a_restart
    a_time_that_cannot_be_told_is_refused
    a_wait_that_was_held_begins_anew
    the_next_generation_finds_the_signals_that_are_kept
    a_signal_ends_the_wait_with_its_payload
    who_listens_hears_of_a_signal_at_once
    each_signal_is_taken_once_and_the_earliest_of_its_name_first
    an_early_signal_is_kept_across_a_restart
    a_signal_waits_until_its_run_is_stored_and_changes_nothing_about_its_place
    a_signal_to_a_plan_that_is_refused_goes_nowhere
    a_signal_behind_a_plan_that_is_not_the_runs_reaches_the_run
    a_run_that_is_not_here_finds_its_signals_when_it_goes_on
    a_run_that_is_sent_a_signal_goes_on_behind_that
    a_signal_right_after_a_restart_is_not_lost
    a_run_in_other_hands_takes_no_signal_from_here
    what_cannot_be_a_signal_is_refused
    only_so_many_signals_are_kept
    only_signals_of_so_many_bytes_are_kept
    many_signals_at_once_come_each_to_its_step
    a_signal_whose_storing_fails_is_acknowledged_by_nobody
    a_signal_that_does_not_come_in_time_fails_its_step
    a_timeout_counts_across_restarts_and_pauses
    what_follows_from_a_timeout_is_as_the_policy_has_it
    a_signal_in_time_counts_whenever_there_is_a_slot
    a_deadline_ends_every_wait
    a_deadline_that_passes_while_nobody_is_there_ends_the_wait_at_once
    a_wait_goes_on_after_a_pause_and_time_goes_on_meanwhile
    a_signal_to_a_paused_run_is_kept_until_it_is_resumed
    what_has_come_is_not_completed_once_the_run_is_cancelled
    a_run_without_its_callables_is_interrupted_and_goes_on_with_its_wait
    a_shutdown_leaves_what_waits_as_it_is_stored
    a_drain_does_not_wait_for_signals
    a_shutdown_right_after_a_restart_leaves_what_waits_as_it_is_stored
    dropping_the_last_handle_leaves_a_run_that_awaits_a_signal
}

#[cfg(feature = "expressions")]
mod expressions {
    use super::a_condition_is_looked_at_before_a_wait_begins;

    crate::staged::frozen! { a_condition_is_looked_at_before_a_wait_begins }
}
