//! Circuit breakers: shared by the steps that name them, and told of in history; runs park behind an open one, and go on
//! in their order when a probe has shown that all is well.
//!
//! Time is tokio's and stands still, so that every moment is known. What concerns a store is run on each: see `frozen!`.

use std::sync::atomic::Ordering;
use std::time::Duration;

use lunacore::testing::{Fault, FaultyStore};
use lunacore::*;

use crate::recovery::World;
use crate::staged::*;
use crate::support::*;

/// Opens after two failures in a row, for a minute.
fn payments() -> Breaker {
    Breaker::new("payments").failures(2).open_for(Duration::from_secs(60))
}

fn plain(orchestrator: ExecutionOrchestrator) -> ExecutionOrchestrator {
    orchestrator.breaker(payments()).unwrap()
}

/// A call that the breaker watches.
fn pay(seconds: u64) -> Step {
    call("pay", seconds).breaker("payments")
}

/// Has the breaker opened, by calls that fail.
async fn trip<W: World>(bench: &Bench<W>, actors: &Actors) {
    bench.service.goes(false);
    for id in ["trip 1", "trip 2"] {
        submit(actors, id, [pay(0)]).await.await.unwrap_err();
    }
    let record = breaker(actors).await;
    assert_eq!((record.state, record.failures), (CircuitState::Open, 2));
}

async fn breakers(actors: &Actors) -> Vec<BreakerRecord> {
    actors.orchestrator.send(Breakers::List).await.unwrap().unwrap()
}

async fn breaker(actors: &Actors) -> BreakerRecord {
    breakers(actors).await.remove(0)
}

/// What is stored of it.
async fn stored(actors: &Actors) -> BreakerRecord {
    actors.memory.send(ListBreakers).await.unwrap().unwrap().remove(0)
}

async fn reset(actors: &Actors, name: &str) -> Result<Vec<BreakerRecord>, ControlError> {
    actors.orchestrator.send(Breakers::Reset(name.to_owned())).await.unwrap()
}

/// All calls from this one on, as `second run`.
fn calls<W>(bench: &Bench<W>, from: usize) -> Vec<String> {
    let calls = bench.service.trace.all();
    calls[from..].iter().map(|call| call.split('.').next().unwrap().to_owned()).collect()
}

/// All events from this one on, as `run type step`.
async fn told(actors: &Actors, from: usize) -> Vec<String> {
    let events = history(actors).await;
    let of = |event: &Event| event.run_id().map_or_else(|| "-".to_owned(), ToString::to_string);
    events[from..].iter().map(|event| format!("{} {event}", of(event))).collect()
}

#[actix::test]
async fn an_unknown_breaker_refuses_the_plan_before_anything_runs() {
    let actors = start_with(|orchestrator| {
        orchestrator.breaker(Breaker::new("payments")).unwrap().breaker(Breaker::new("search")).unwrap()
    });
    let mut events = watch(&actors.bus).await;
    let trace = Trace::default();
    let note = trace.clone();
    let first = Step::new("first", move || note.note("called"));
    let steps = [first, Step::new("charge", || 1).breaker("paymets")];
    let error = actors.orchestrator.send(ExecutePlan::new(steps.clone())).await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"step "charge" names the circuit breaker "paymets", which this orchestrator does not have; did you mean "payments"?"#
    );
    let PlanError::UnknownBreaker { step_id, name, similar, .. } = error else { panic!("{error:?}") };
    assert_eq!((&*step_id, &*name, similar.as_deref()), ("charge", "paymets", Some("payments")));
    let refused = actors.orchestrator.send(SubmitPlan(ExecutePlan::new(steps))).await.unwrap();
    assert!(matches!(refused, Err(PlanError::UnknownBreaker { .. })));
    let other = ExecutePlan::new([Step::new("charge", || 1).breaker("something else")]);
    let error = actors.orchestrator.send(other).await.unwrap().unwrap_err();
    assert!(matches!(error, PlanError::UnknownBreaker { similar: None, .. }), "{error:?}");
    assert_untouched(&actors, &mut events).await;
    assert_eq!(trace.all(), [""; 0]);
}

#[actix::test]
async fn a_builder_takes_breakers_and_says_which_cannot_be_one() {
    let engine = Engine::builder().breaker(Breaker::new("b")).breaker(Breaker::new("a")).start().unwrap();
    let names = engine.breakers(Breakers::List).await.unwrap();
    let names: Vec<&str> = names.iter().map(|record| &*record.name).collect();
    assert_eq!(names, ["a", "b"], "in the order of their names");
    assert_eq!(engine.execute([Step::new("s", || 1).breaker("a")]).await.unwrap(), [1]);
    let error = Engine::builder().breaker(Breaker::new("a").probes(0)).start().unwrap_err();
    let chain = chain(&error).join(": ");
    assert!(chain.contains(r#"the number of probes of the breaker "a" is 0"#), "{chain}");
}

async fn a_breaker_opens_parks_lets_a_probe_through_and_closes<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    submit(&actors, "a", [pay(0)]).await.await.unwrap_err();
    assert_eq!(breaker(&actors).await.state, CircuitState::Closed);
    assert_eq!(breaker(&actors).await.failures, 1);
    seconds(5).await;
    // Another plan, and another step: the breaker is theirs, too.
    let other = call("charge", 0).breaker("payments");
    submit(&actors, "b", [other]).await.await.unwrap_err();
    let record = breaker(&actors).await;
    assert_eq!((record.state, record.failures), (CircuitState::Open, 2));
    let until = record.until.unwrap();
    assert_eq!(record, stored(&actors).await);
    let left = until.duration_since(bench.now()).unwrap();
    assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(59), "{left:?}");

    let parked = submit(&actors, "c", [work("first", 1), pay(0)]).await;
    seconds(2).await;
    let info = status(&actors, "c").await.unwrap();
    assert_eq!((info.state, info.completed, info.until), (RunState::Parked, 1, Some(until)));
    assert_eq!(stored(&actors).await, record);
    bench.service.goes(true);
    parked.await.unwrap();
    assert!(bench.now() >= until && bench.now() < until + Duration::from_millis(10));
    assert_eq!(breaker(&actors).await.state, CircuitState::Closed);
    assert_eq!(stored(&actors).await.state, CircuitState::Closed);
    let expected = [
        "a plan.accepted",
        "a plan.started",
        "a task.started pay",
        "a task.failed pay",
        "a plan.failed pay",
        "b plan.accepted",
        "b plan.started",
        "b task.started charge",
        "b task.failed charge",
        "b breaker.opened",
        "b plan.failed charge",
        "c plan.accepted",
        "c plan.started",
        "c task.started first",
        "c task.completed first",
        "c plan.parked pay",
        "c breaker.half_opened",
        "c task.started pay",
        "c task.completed pay",
        "c breaker.closed",
        "c plan.completed",
    ];
    assert_eq!(told(&actors, 0).await, expected);
    // Each has the time of the commit that it is part of.
    let events = history(&actors).await;
    for (change, cause) in [(9, 8), (16, 17), (19, 18)] {
        assert_eq!(events[change].timestamp(), events[cause].timestamp());
    }
    let EventKind::BreakerOpened { breaker, until: told } = events[9].kind() else {
        panic!("{:?}", events[9])
    };
    assert_eq!((&**breaker, *told), ("payments", until));
    let EventKind::PlanParked { behind, until: told, .. } = events[15].kind() else {
        panic!("{:?}", events[15])
    };
    assert_eq!((behind, *told), (&Barrier::Breaker("payments".into()), Some(until)));
    bench.bury(actors).await;
}

/// The failure that opens it, and that it is open, are one write.
async fn what_opens_a_breaker_is_stored_with_it_or_not_at_all<W: World>() {
    for (fault, state) in [(Fault::Die, None), (Fault::DieAfter, Some(CircuitState::Open))] {
        let bench = Bench::<W>::new();
        bench.service.goes(false);
        let dying = FaultyStore::new(bench.store().await, fault, 2);
        let configure =
            |orchestrator: ExecutionOrchestrator| orchestrator.breaker(payments().failures(1)).unwrap();
        let actors = bench.live_over(dying, configure);
        submit(&actors, "a", [pay(0)]).await.await.unwrap_err();
        bench.forget(actors).await;
        let store = bench.store().await;
        assert_eq!(store.breakers().unwrap().first().map(|record| record.state), state);
        let events = store.events(0, 100).unwrap();
        let opened = events.iter().any(|event| event.event_type() == "breaker.opened");
        let failed = events.iter().any(|event| event.event_type() == "task.failed");
        assert_eq!((opened, failed), (state.is_some(), state.is_some()));
    }
}

async fn a_failure_rate_over_a_window_opens_it<W: World>() {
    let bench = Bench::<W>::new();
    let rate = Breaker::new("payments").failure_rate(0.5, 4).window(Duration::from_secs(60));
    let actors = bench.live(|orchestrator| orchestrator.breaker(rate).unwrap()).await;
    let call = async |id: &str, ok: bool| {
        bench.service.goes(ok);
        let _ = submit(&actors, id, [pay(0)]).await.await;
        breaker(&actors).await.state
    };
    // These two leave the window.
    assert_eq!(call("1", false).await, CircuitState::Closed);
    assert_eq!(call("2", false).await, CircuitState::Closed);
    seconds(61).await;
    assert_eq!(call("3", false).await, CircuitState::Closed);
    assert_eq!(call("4", true).await, CircuitState::Closed);
    assert_eq!(call("5", true).await, CircuitState::Closed);
    assert_eq!(call("6", true).await, CircuitState::Closed, "one of four");
    assert_eq!(call("7", false).await, CircuitState::Closed, "two of five");
    assert_eq!(call("8", false).await, CircuitState::Open, "three of six");
    bench.bury(actors).await;
}

async fn a_success_begins_the_count_of_failures_anew<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    for (id, ok) in [("1", false), ("2", true), ("3", false)] {
        bench.service.goes(ok);
        let _ = submit(&actors, id, [pay(0)]).await.await;
        assert_eq!(breaker(&actors).await.state, CircuitState::Closed);
    }
    submit(&actors, "4", [pay(0)]).await.await.unwrap_err();
    assert_eq!(breaker(&actors).await.state, CircuitState::Open);
    bench.bury(actors).await;
}

async fn what_says_nothing_about_the_service_does_not_count<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    for n in 0..3 {
        let refuse = Step::named("refuse").breaker("payments");
        submit(&actors, &format!("fatal {n}"), [refuse]).await.await.unwrap_err();
        let run = submit(&actors, &format!("cancelled {n}"), [pay(100)]).await;
        quiet().await;
        cancel(&actors, &format!("cancelled {n}")).await.unwrap();
        run.await.unwrap_err();
    }
    let record = breaker(&actors).await;
    assert_eq!((record.state, record.failures), (CircuitState::Closed, 0));
    bench.bury(actors).await;
}

async fn timeouts_and_panics_count<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let slow = pay(100).timeout(Duration::from_secs(1));
    submit(&actors, "slow", [slow]).await.await.unwrap_err();
    assert_eq!(breaker(&actors).await.failures, 1);
    let panics = Step::new("panics", || async { "no number".parse::<u8>().unwrap() }).breaker("payments");
    submit(&actors, "panics", [panics]).await.await.unwrap_err();
    assert_eq!(breaker(&actors).await.state, CircuitState::Open);
    bench.bury(actors).await;
}

async fn a_parked_run_gives_its_slot_to_others<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    trip(&bench, &actors).await;
    let parked = submit(&actors, "parked", [pay(0)]).await;
    for id in ["a", "b"] {
        submit(&actors, id, [work("s", 10)]).await.await.unwrap();
    }
    assert_eq!((bench.elapsed(), state(&actors, "parked").await), (20, RunState::Parked));
    bench.service.goes(true);
    parked.await.unwrap();
    assert_eq!(bench.elapsed(), 60);
    assert_eq!(bench.service.most.load(Ordering::SeqCst), 1);
    bench.bury(actors).await;
}

/// A parked run whose time has come goes before those that have only queued, and waits for a slot.
async fn a_parked_run_waits_for_a_slot_before_it_is_a_probe<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    trip(&bench, &actors).await;
    let parked = submit(&actors, "parked", [pay(0)]).await;
    let long = submit(&actors, "long", [work("s", 100)]).await;
    let queued = submit(&actors, "queued", [work("s", 1)]).await;
    bench.service.goes(true);
    seconds(80).await;
    assert_eq!(
        states(&actors, ["parked", "long", "queued"]).await,
        [RunState::Parked, RunState::Running, RunState::Queued]
    );
    for run in [parked, long, queued] {
        run.await.unwrap();
    }
    assert_eq!(calls(&bench, 2), ["0s long", "100s parked", "100s queued"]);
    assert_eq!(bench.service.most.load(Ordering::SeqCst), 1);
    bench.bury(actors).await;
}

async fn a_parked_run_is_still_parked_after_a_restart_and_its_breaker_open_until_its_time<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    trip(&bench, &actors).await;
    submit(&actors, "parked", [pay(0)]).await;
    quiet().await;
    let open = breaker(&actors).await;
    seconds(30).await;
    bench.bury(actors).await;

    let actors = bench.live(plain).await;
    quiet().await;
    assert_eq!(breaker(&actors).await, open);
    let info = status(&actors, "parked").await.unwrap();
    assert_eq!((info.state, info.until), (RunState::Parked, open.until));
    // Another run that comes now finds it open, too.
    let late = submit(&actors, "late", [pay(0)]).await;
    quiet().await;
    assert_eq!(state(&actors, "late").await, RunState::Parked);
    bench.service.goes(true);
    late.await.unwrap();
    assert_eq!(state(&actors, "parked").await, RunState::Completed);
    assert_eq!(calls(&bench, 2), ["60s parked", "60s late"]);
    bench.bury(actors).await;
}

/// A process that dies with its probe in flight leaves a breaker that lets the next one through at once.
async fn a_probe_that_died_with_its_process_is_made_again<W: World>() {
    let bench = Bench::<W>::new();
    // The two runs that trip it take two commits each; the third parks and starts, and dies with its result.
    let dying = FaultyStore::new(bench.store().await, Fault::Die, 7);
    let actors = bench.live_over(dying, plain);
    trip(&bench, &actors).await;
    let probe = submit(&actors, "probe", [pay(5)]).await;
    bench.service.goes(true);
    probe.await.unwrap_err();
    bench.forget(actors).await;
    let actors = bench.live(plain).await;
    quiet().await;
    assert_eq!(stored(&actors).await.state, CircuitState::HalfOpen);
    assert_eq!(state(&actors, "probe").await, RunState::Running);
    seconds(10).await;
    assert_eq!(state(&actors, "probe").await, RunState::Completed);
    assert_eq!(stored(&actors).await.state, CircuitState::Closed);
    bench.bury(actors).await;
}

async fn the_limits_of_a_parked_run_bound_its_wait<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    trip(&bench, &actors).await;
    let total = submit(&actors, "total", [pay(0).total_timeout(Duration::from_secs(10))]).await;
    let plan = ExecutePlan::new([pay(0)]).run_id("deadline").deadline(Duration::from_secs(20));
    let deadline = submit_plan(&actors, plan).await;
    let error = total.await.unwrap_err();
    let PlanError::StepFailed { attempt, source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(source.downcast_ref(), Some(LimitExceeded::TotalTimeout { .. })), "{source:?}");
    assert_eq!((*attempt, bench.elapsed()), (0, 10));
    let error = deadline.await.unwrap_err();
    assert!(matches!(error, PlanError::DeadlineExceeded { .. }), "{error:?}");
    assert_eq!(bench.elapsed(), 20);
    assert_eq!(breaker(&actors).await.failures, 2, "that says nothing about the service");
    let report = actors.orchestrator.send(Shutdown::drain(Duration::from_secs(999))).await.unwrap();
    assert_eq!(report, ShutdownReport::default());
    bench.forget(actors).await;
}

async fn a_step_that_would_rather_fail_gets_an_error_at_once<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    trip(&bench, &actors).await;
    let error = submit(&actors, "a", [pay(0).when_open(WhenOpen::Fail)]).await.await.unwrap_err();
    let PlanError::StepFailed { kind, source, attempt, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*kind, *attempt, bench.elapsed()), (FailureKind::BreakerOpen, 1, 0));
    assert_eq!(source.downcast_ref::<BreakerOpen>().map(|open| &*open.breaker), Some("payments"));
    // Like any other error it is retried: the last attempt is let through.
    bench.service.goes(true);
    let retry = Retry::fixed(Duration::from_secs(25)).max_attempts(4);
    let run = submit(&actors, "b", [pay(0).when_open(WhenOpen::Fail).retry(retry)]).await;
    run.await.unwrap();
    assert_eq!(calls(&bench, 2), ["75s b"]);
    let expected = [
        "plan.accepted",
        "plan.started",
        "task.started pay",
        "task.failed pay",
        "task.started pay#2",
        "task.failed pay#2",
        "task.started pay#3",
        "task.failed pay#3",
        "breaker.half_opened",
        "task.started pay#4",
        "task.completed pay",
        "breaker.closed",
        "plan.completed",
    ];
    assert_eq!(history_of(&actors, "b").await, expected);
    bench.bury(actors).await;
}

/// However many have waited, and however many slots are free.
async fn never_more_probes_are_in_flight_than_allowed<W: World>() {
    for probes in [1, 3] {
        let bench = Bench::<W>::new();
        let configure = |orchestrator: ExecutionOrchestrator| {
            orchestrator.max_concurrent_plans(10).breaker(payments().probes(probes)).unwrap()
        };
        let actors = bench.live(configure).await;
        trip(&bench, &actors).await;
        let mut runs = Vec::new();
        for n in 0..25 {
            runs.push(submit(&actors, &format!("{n:02}"), [pay(5)]).await);
        }
        quiet().await;
        bench.service.most.store(0, Ordering::SeqCst);
        // The first probes fail, and open it again.
        seconds(64).await;
        assert_eq!(bench.service.flying.load(Ordering::SeqCst), probes as usize);
        seconds(50).await;
        assert_eq!(bench.service.most.load(Ordering::SeqCst), probes as usize);
        let after: Vec<RunState> = {
            let mut after = Vec::new();
            for n in 0..25 {
                after.push(state(&actors, &format!("{n:02}")).await);
            }
            after
        };
        let failed = after.iter().take_while(|state| **state == RunState::Failed).count();
        assert_eq!(failed, probes as usize);
        assert!(after[failed..].iter().all(|state| *state == RunState::Parked), "{after:?}");

        // The next succeed, and all go on in their order, as many at a time as there are slots.
        bench.service.goes(true);
        for run in runs.drain(failed..) {
            run.await.unwrap();
        }
        let first = bench.service.trace.all().len() - (25 - failed);
        let called: Vec<String> =
            calls(&bench, first).iter().map(|call| call.split(' ').nth(1).unwrap().to_owned()).collect();
        assert!(called.is_sorted(), "{called:?}");
        assert_eq!(bench.service.most.load(Ordering::SeqCst), 10);
        assert_eq!(bench.elapsed(), 65 + 60 + 5 + 5 * (25 - 2 * u64::from(probes)).div_ceil(10));
        bench.bury(actors).await;
    }
}

async fn parked_runs_go_on_one_after_another_with_one_slot<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    trip(&bench, &actors).await;
    let mut runs = Vec::new();
    for n in 0..12 {
        runs.push(submit(&actors, &format!("{n:02}"), [pay(1)]).await);
        seconds(1).await;
    }
    bench.service.goes(true);
    for run in runs {
        run.await.unwrap();
    }
    let expected: Vec<String> = (0..12).map(|n| format!("{}s {n:02}", 60 + n)).collect();
    assert_eq!(calls(&bench, 2), expected);
    assert_eq!(bench.service.most.load(Ordering::SeqCst), 1);
    bench.bury(actors).await;
}

async fn a_probe_that_fails_leaves_the_others_parked_until_the_next_time<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    trip(&bench, &actors).await;
    let first = submit(&actors, "first", [pay(0)]).await;
    let second = submit(&actors, "second", [pay(0)]).await;
    quiet().await;
    first.await.unwrap_err();
    seconds(30).await;
    assert_eq!(state(&actors, "second").await, RunState::Parked);
    assert_eq!(breaker(&actors).await.failures, 3);
    bench.service.goes(true);
    second.await.unwrap();
    assert_eq!(calls(&bench, 2), ["60s first", "120s second"]);
    bench.bury(actors).await;
}

/// The probe's own step is tried again, and waits for the breaker like the others.
async fn a_probe_that_is_retried_parks_again<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    trip(&bench, &actors).await;
    let run = submit(&actors, "a", [pay(0).retry(Retry::fixed(Duration::from_secs(10)))]).await;
    seconds(65).await;
    assert_eq!(state(&actors, "a").await, RunState::BackingOff);
    seconds(10).await;
    assert_eq!(state(&actors, "a").await, RunState::Parked);
    bench.service.goes(true);
    run.await.unwrap();
    assert_eq!(bench.service.trace.all()[2..], ["60s a.pay", "120s a.pay#2"]);
    bench.bury(actors).await;
}

async fn a_cancelled_probe_frees_its_place<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(|orchestrator| plain(orchestrator).max_concurrent_plans(2)).await;
    trip(&bench, &actors).await;
    let first = submit(&actors, "first", [pay(1_000)]).await;
    let second = submit(&actors, "second", [pay(0)]).await;
    seconds(70).await;
    assert_eq!(states(&actors, ["first", "second"]).await, [RunState::Running, RunState::Parked]);
    bench.service.goes(true);
    cancel(&actors, "first").await.unwrap();
    first.await.unwrap_err();
    second.await.unwrap();
    assert_eq!(calls(&bench, 2), ["60s first", "70s second"]);
    assert_eq!(breaker(&actors).await.state, CircuitState::Closed);
    bench.bury(actors).await;
}

/// A run that comes while the one probe is in flight does not know until when it parks.
async fn who_comes_while_a_probe_is_in_flight_parks_until_it_has_ended<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(|orchestrator| plain(orchestrator).max_concurrent_plans(2)).await;
    trip(&bench, &actors).await;
    let probe = submit(&actors, "probe", [pay(10)]).await;
    seconds(65).await;
    let late = submit(&actors, "late", [pay(0)]).await;
    quiet().await;
    let info = status(&actors, "late").await.unwrap();
    assert_eq!((info.state, info.until), (RunState::Parked, None));
    bench.service.goes(true);
    probe.await.unwrap();
    late.await.unwrap();
    assert_eq!(bench.elapsed(), 70);
    bench.bury(actors).await;
}

async fn retrying_a_parked_run_makes_a_probe_of_it<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    trip(&bench, &actors).await;
    let first = submit(&actors, "first", [pay(0)]).await;
    let second = submit(&actors, "second", [pay(0)]).await;
    seconds(10).await;
    assert_eq!(retry_now(&actors, "second").await.unwrap(), RetryOutcome::Retrying);
    second.await.unwrap_err();
    assert_eq!((bench.elapsed(), state(&actors, "first").await), (10, RunState::Parked));
    let until = breaker(&actors).await.until.unwrap();
    assert!(until > bench.at(70), "it is open anew");
    bench.service.goes(true);
    assert_eq!(retry_now(&actors, "first").await.unwrap(), RetryOutcome::Retrying);
    first.await.unwrap();
    assert_eq!((bench.elapsed(), breaker(&actors).await.state), (10, CircuitState::Closed));
    bench.bury(actors).await;
}

async fn a_fallback_asks_no_breaker<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    let step = pay(0).on_failure(OnFailure::fallback_named("work")).total_timeout(Duration::from_secs(5));
    for id in ["1", "2"] {
        submit(&actors, id, [step.clone()]).await.await.unwrap();
    }
    assert_eq!(breaker(&actors).await.state, CircuitState::Open);
    // It parks until its limit, and then takes its fallback, which says nothing about the service.
    submit(&actors, "3", [step]).await.await.unwrap();
    assert_eq!((bench.elapsed(), breaker(&actors).await.state), (5, CircuitState::Open));
    bench.bury(actors).await;
}

async fn a_step_that_is_skipped_leads_to_one_that_parks<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    trip(&bench, &actors).await;
    let refused = Step::named("refuse").on_failure(OnFailure::Continue);
    let run = submit(&actors, "a", [refused, pay(0)]).await;
    quiet().await;
    assert_eq!(state(&actors, "a").await, RunState::Parked);
    bench.service.goes(true);
    assert_eq!(run.await.unwrap(), [serde_json::Value::Null, "pay done".into()]);
    bench.bury(actors).await;
}

// By hand.

async fn a_reset_closes_it_and_those_that_are_parked_go_on<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    trip(&bench, &actors).await;
    let mut runs = Vec::new();
    for id in ["a", "b", "c"] {
        runs.push(submit(&actors, id, [pay(0)]).await);
    }
    seconds(10).await;
    bench.service.goes(true);
    let before = history(&actors).await.len();
    let records = reset(&actors, "payments").await.unwrap();
    assert_eq!((records[0].state, records[0].failures, records[0].until), (CircuitState::Closed, 0, None));
    let events = history(&actors).await;
    let told = &events[before];
    assert_eq!((told.event_type(), told.run_id()), ("breaker.closed", None));
    assert_eq!(stored(&actors).await.state, CircuitState::Closed);
    for run in runs {
        run.await.unwrap();
    }
    assert_eq!(calls(&bench, 2), ["10s a", "10s b", "10s c"]);
    // Once more changes nothing, and tells nothing.
    let before = history(&actors).await.len();
    assert_eq!(reset(&actors, "payments").await.unwrap()[0].state, CircuitState::Closed);
    assert_eq!(history(&actors).await.len(), before);
    bench.bury(actors).await;
    let actors = bench.live(plain).await;
    quiet().await;
    assert_eq!(breaker(&actors).await.state, CircuitState::Closed);
    bench.bury(actors).await;
}

async fn a_reset_forgets_what_was_counted<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    bench.service.goes(false);
    submit(&actors, "1", [pay(0)]).await.await.unwrap_err();
    assert_eq!(reset(&actors, "payments").await.unwrap()[0].failures, 0);
    submit(&actors, "2", [pay(0)]).await.await.unwrap_err();
    assert_eq!(breaker(&actors).await.state, CircuitState::Closed);
    bench.bury(actors).await;
}

async fn a_breaker_that_is_not_there_is_not_reset<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(plain).await;
    let error = reset(&actors, "search").await.unwrap_err();
    assert!(matches!(&error, ControlError::UnknownBreaker { name } if name == "search"), "{error:?}");
    assert_eq!(error.to_string(), r#"there is no circuit breaker "search""#);
    assert_eq!(history(&actors).await, []);
    bench.bury(actors).await;
}

/// A probe succeeds, and its step's artifact is refused: that the breaker has closed is told all the same.
async fn what_a_breaker_did_is_stored_although_its_result_is_refused<W: World>() {
    let bench = Bench::<W>::new();
    let memory = ProjectMemory::with_store(bench.store().await).access_check(|access| access.key != "secret");
    let actors = bench.live_in(memory, plain);
    trip(&bench, &actors).await;
    let stage = |ctx: StepContext| async move { ctx.put_artifact("secret", "x") };
    submit(&actors, "a", [Step::new("pay", stage).breaker("payments")]).await.await.unwrap_err();
    let kept = breaker(&actors).await;
    assert_eq!(kept.state, CircuitState::Closed);
    assert_eq!(stored(&actors).await, kept);
    let expected = [
        "plan.accepted",
        "plan.started",
        "plan.parked pay",
        "breaker.half_opened",
        "task.started pay",
        "task.failed pay",
        "breaker.closed",
        "plan.failed pay",
    ];
    assert_eq!(history_of(&actors, "a").await, expected);
    bench.bury(actors).await;
}

/// What a run has got from a breaker while it waited for a slot, it gives back when it is paused instead.
async fn a_run_that_is_paused_holds_no_place_of_a_probe<W: World>() {
    let bench = Bench::<W>::new();
    let two = |orchestrator: ExecutionOrchestrator| {
        plain(orchestrator)
            .breaker(Breaker::new("stock").failures(1).open_for(Duration::from_secs(10)))
            .unwrap()
    };
    let actors = bench.live(two).await;
    trip(&bench, &actors).await;
    submit(&actors, "opens", [call("s", 0).breaker("stock")]).await.await.unwrap_err();
    // It parks until its limit, would go on to the other breaker then, and has no slot for it.
    let first = pay(0).total_timeout(Duration::from_secs(20)).on_failure(OnFailure::Continue);
    submit(&actors, "a", [first, call("t", 0).breaker("stock")]).await;
    quiet().await;
    let long = submit(&actors, "long", [work("s", 30)]).await;
    seconds(25).await;
    assert_eq!(pause(&actors, "a").await.unwrap(), PauseOutcome::Paused);
    bench.service.goes(true);
    long.await.unwrap();
    let b = submit(&actors, "b", [call("s", 0).breaker("stock")]).await;
    seconds(5).await;
    assert_eq!(state(&actors, "b").await, RunState::Completed);
    b.await.unwrap();
    let records: Vec<_> = breakers(&actors).await;
    let stored: Vec<_> = actors.memory.send(ListBreakers).await.unwrap().unwrap();
    assert_eq!(records, stored);
    bench.bury(actors).await;
}

frozen! {
    a_breaker_opens_parks_lets_a_probe_through_and_closes
    what_opens_a_breaker_is_stored_with_it_or_not_at_all
    a_failure_rate_over_a_window_opens_it
    a_success_begins_the_count_of_failures_anew
    what_says_nothing_about_the_service_does_not_count
    timeouts_and_panics_count
    a_parked_run_gives_its_slot_to_others
    a_parked_run_waits_for_a_slot_before_it_is_a_probe
    a_parked_run_is_still_parked_after_a_restart_and_its_breaker_open_until_its_time
    a_probe_that_died_with_its_process_is_made_again
    the_limits_of_a_parked_run_bound_its_wait
    a_step_that_would_rather_fail_gets_an_error_at_once
    never_more_probes_are_in_flight_than_allowed
    parked_runs_go_on_one_after_another_with_one_slot
    a_probe_that_fails_leaves_the_others_parked_until_the_next_time
    a_probe_that_is_retried_parks_again
    a_cancelled_probe_frees_its_place
    who_comes_while_a_probe_is_in_flight_parks_until_it_has_ended
    retrying_a_parked_run_makes_a_probe_of_it
    a_fallback_asks_no_breaker
    a_step_that_is_skipped_leads_to_one_that_parks
    a_reset_closes_it_and_those_that_are_parked_go_on
    a_reset_forgets_what_was_counted
    a_breaker_that_is_not_there_is_not_reset
    what_a_breaker_did_is_stored_although_its_result_is_refused
    a_run_that_is_paused_holds_no_place_of_a_probe
}
