//! Limits by name: shared by the steps that name them, in all plans. Runs park where there is no permit, and go on in their
//! order; a permit is held for exactly as long as code of its attempt may run.
//!
//! Time is tokio's and stands still, so that every moment is known. What concerns a store is run on each: see `frozen!`.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use lunacore::limits::MAX_NAMED_LIMITS;
use lunacore::testing::{Fault, FaultyStore};
use lunacore::*;
use proptest::prelude::*;

use crate::recovery::{Volatile, World};
use crate::staged::*;
use crate::support::*;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Ten slots, and this limit.
fn with(limit: Limit) -> impl FnOnce(ExecutionOrchestrator) -> ExecutionOrchestrator {
    |orchestrator| orchestrator.max_concurrent_plans(10).limit(limit).unwrap()
}

/// One attempt at a time.
fn single() -> Limit {
    Limit::new("openai").concurrency(1)
}

/// One attempt in ten seconds.
fn slow() -> Limit {
    Limit::new("openai").rate(1, secs(10))
}

/// A call that keeps to the limit.
fn ask(seconds: u64) -> Step {
    call("ask", seconds).limit("openai")
}

async fn limits(actors: &Actors) -> Vec<LimitStatus> {
    actors.orchestrator.send(Limits).await.unwrap()
}

/// How many attempts are under way, and how many runs wait.
async fn used(actors: &Actors) -> (u32, usize) {
    let status = limits(actors).await.remove(0);
    (status.in_use, status.waiting)
}

/// What was called when.
fn calls<W>(bench: &Bench<W>) -> Vec<String> {
    bench.service.trace.all().iter().map(|call| call.replace(".ask", "")).collect()
}

/// Waits until a blocking call has begun.
async fn called<W: World>(bench: &Bench<W>) {
    let patience = Patience::new();
    while bench.service.blocked.load(Ordering::SeqCst) < 1 {
        patience.wait("the blocking code to be called").await;
    }
}

/// What the events of a run say that it parked behind, and until which second of the world.
async fn parked<W: World>(bench: &Bench<W>, actors: &Actors, id: &str) -> Vec<(Option<String>, Option<u64>)> {
    let events = history(actors).await;
    let mine = events.iter().filter(|event| event.run_id() == Some(&run_id(id)));
    mine.filter_map(|event| match event.kind() {
        EventKind::PlanParked { task_id, behind, until, .. } if !matches!(behind, Barrier::Breaker(_)) => {
            assert_eq!(&**task_id, "ask");
            let second = |until: SystemTime| until.duration_since(bench.at(0)).unwrap().as_secs();
            let limit = if let Barrier::Limit(limit) = behind { Some(limit.to_string()) } else { None };
            Some((limit, until.map(second)))
        }
        _ => None,
    })
    .collect()
}

// Who may name what.

#[actix::test]
async fn an_unknown_limit_refuses_the_plan_before_anything_runs() {
    let actors = start_with(|orchestrator| {
        let search = Limit::new("search").rate(1, secs(1));
        orchestrator.limit(single()).unwrap().limit(search).unwrap()
    });
    let mut events = watch(&actors.bus).await;
    let trace = Trace::default();
    let note = trace.clone();
    let steps = [Step::new("first", move || note.note("called")), Step::new("ask", || 1).limit("openia")];
    let error = actors.orchestrator.send(ExecutePlan::new(steps.clone())).await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"step "ask" names the limit "openia", which this orchestrator does not have; did you mean "openai"?"#
    );
    let PlanError::UnknownLimit { step_id, name, similar, .. } = error else { panic!("{error:?}") };
    assert_eq!((&*step_id, &*name, similar.as_deref()), ("ask", "openia", Some("openai")));
    let refused = actors.orchestrator.send(SubmitPlan(ExecutePlan::new(steps))).await.unwrap();
    assert!(matches!(refused, Err(PlanError::UnknownLimit { .. })));
    let other = ExecutePlan::new([Step::new("ask", || 1).limit("something else")]);
    let error = actors.orchestrator.send(other).await.unwrap().unwrap_err();
    assert!(matches!(error, PlanError::UnknownLimit { similar: None, .. }), "{error:?}");
    let nameless = ExecutePlan::new([Step::new("ask", || 1).limit("")]);
    let error = actors.orchestrator.send(nameless).await.unwrap().unwrap_err();
    let chain = chain(&error).join(": ");
    assert!(chain.contains("limit name") && chain.contains("is empty"), "{chain}");
    assert_untouched(&actors, &mut events).await;
    assert_eq!(trace.all(), [""; 0]);
}

#[actix::test]
async fn a_builder_takes_limits_and_says_which_cannot_be_one() {
    let second = Limit::new("b").rate(1, secs(3_600)).burst(2);
    let engine =
        Engine::builder().limit(second).limit(Limit::new("a").concurrency(3)).max_concurrent_plans(2);
    let engine = engine.start().unwrap();
    let limits = engine.limits().await;
    let names: Vec<&str> = limits.iter().map(|limit| &*limit.name).collect();
    assert_eq!(names, ["a", "b"], "in the order of their names");
    for _ in 0..2 {
        assert_eq!(engine.execute([Step::new("s", || 1).limit("b")]).await.unwrap(), [1]);
    }
    let limits = engine.limits().await;
    assert_eq!((limits[0].next_at, limits[1].in_use, limits[1].waiting), (None, 0, 0));
    assert!(limits[1].next_at.unwrap() > SystemTime::now() + secs(3_000));
    let error = Engine::builder().limit(Limit::new("a")).start().unwrap_err();
    let chain = chain(&error).join(": ");
    assert_eq!(chain, r#"the limit "a" limits nothing; give it a concurrency or a rate"#);
}

#[actix::test]
async fn so_many_limits_are_had_and_no_more() {
    let bench = Bench::<Volatile>::new();
    let name = |n: usize| format!("l{n:04}");
    let all = (0..=MAX_NAMED_LIMITS).map(|n| Limit::new(name(n)).concurrency(1));
    // One that takes the place of another takes no further one.
    let again = Limit::new(name(0)).rate(1, secs(3_600));
    let configure = |orchestrator| all.chain([again]).try_fold(orchestrator, ExecutionOrchestrator::limit);
    let actors = bench.live(|orchestrator| configure(orchestrator).unwrap()).await;
    let had = limits(&actors).await;
    assert_eq!((had.len(), &*had.last().unwrap().name), (MAX_NAMED_LIMITS, &*name(MAX_NAMED_LIMITS - 1)));
    submit(&actors, "a", [call("s", 0).limit(name(0))]).await.await.unwrap();
    assert!(limits(&actors).await[0].next_at.is_some(), "the last one of a name counts");
}

#[test]
fn a_limit_is_no_part_of_what_a_plan_does() {
    let (with, without) = (Plan::new([ask(1)]), Plan::new([call("ask", 1)]));
    let print = |plan: Plan| PlanRecord::of(plan).unwrap().fingerprint();
    assert_eq!(print(with), print(without));
}

// Concurrency.

async fn as_many_attempts_are_under_way_as_the_limit_allows_and_the_others_park<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(with(Limit::new("openai").concurrency(2))).await;
    let mut runs = Vec::new();
    for id in ["a", "b", "c", "d", "e"] {
        // Another step, in another plan: the limit is theirs, too.
        let step = if id == "b" { work("ask", 10).limit("openai") } else { ask(10) };
        runs.push(submit(&actors, id, [step]).await);
    }
    quiet().await;
    let info = status(&actors, "c").await.unwrap();
    assert_eq!((info.state, info.until, used(&actors).await), (RunState::Parked, None, (2, 3)));
    for run in runs {
        run.await.unwrap();
    }
    assert_eq!(calls(&bench), ["0s a", "0s b", "10s c", "10s d", "20s e"]);
    assert_eq!((bench.service.most.load(Ordering::SeqCst), used(&actors).await), (2, (0, 0)));
    let expected = [
        "plan.accepted",
        "plan.started",
        "plan.parked ask",
        "task.started ask",
        "task.completed ask",
        "plan.completed",
    ];
    assert_eq!(history_of(&actors, "c").await, expected);
    assert_eq!(parked(&bench, &actors, "c").await, [(Some("openai".to_owned()), None)]);
    assert_eq!(parked(&bench, &actors, "a").await, []);
    bench.bury(actors).await;
}

async fn a_parked_run_gives_its_slot_to_others<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(|orchestrator| with(single())(orchestrator).max_concurrent_plans(2)).await;
    let first = submit(&actors, "first", [ask(100)]).await;
    let parked = submit(&actors, "parked", [ask(0)]).await;
    for id in ["a", "b"] {
        submit(&actors, id, [work("s", 10)]).await.await.unwrap();
    }
    assert_eq!((bench.elapsed(), state(&actors, "parked").await), (20, RunState::Parked));
    first.await.unwrap();
    parked.await.unwrap();
    assert_eq!(bench.elapsed(), 100);
    bench.bury(actors).await;
}

/// Nobody passes those who wait, although there is a permit: the first of them waits for a slot by then.
async fn who_comes_later_waits_behind_those_who_wait_for_a_slot<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(|orchestrator| with(single())(orchestrator).max_concurrent_plans(2)).await;
    let mut runs = vec![submit(&actors, "a", [ask(10), work("long", 100)]).await];
    quiet().await;
    for id in ["b", "c"] {
        runs.push(submit(&actors, id, [ask(10)]).await);
    }
    quiet().await;
    runs.push(submit(&actors, "late", [work("long", 50), ask(10)]).await);
    seconds(30).await;
    let now = states(&actors, ["a", "b", "c", "late"]).await;
    assert_eq!(now, [RunState::Running, RunState::Parked, RunState::Parked, RunState::Running]);
    assert_eq!(used(&actors).await, (0, 2));
    for run in runs {
        run.await.unwrap();
    }
    let expected = ["0s a", "0s late.long", "10s a.long", "50s b", "60s c", "70s late"];
    assert_eq!(calls(&bench), expected);
    bench.bury(actors).await;
}

/// The next step of the same plan stands behind those who wait already.
async fn the_steps_of_two_plans_take_turns<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(with(single())).await;
    let steps = || (0..3).map(|n| call(&n.to_string(), 10).limit("openai")).collect::<Plan>();
    let a = submit(&actors, "a", steps()).await;
    let b = submit(&actors, "b", steps()).await;
    a.await.unwrap();
    b.await.unwrap();
    assert_eq!(calls(&bench), ["0s a.0", "10s b.0", "20s a.1", "30s b.1", "40s a.2", "50s b.2"]);
    bench.bury(actors).await;
}

async fn a_thousand_runs_go_on_in_the_order_in_which_they_parked<W: World>() {
    let bench = Bench::<W>::new();
    let configure =
        |orchestrator| with(single())(orchestrator).max_concurrent_plans(1_000).queue_capacity(2_000);
    let actors = bench.live(configure).await;
    let mut runs = Vec::new();
    for n in 0..1_000 {
        runs.push(submit(&actors, &format!("{n:03}"), [ask(1)]).await);
    }
    for run in runs {
        run.await.unwrap();
    }
    let expected: Vec<String> = (0..1_000).map(|n| format!("{n:03}")).collect();
    let called = calls(&bench);
    assert!(called.iter().map(|call| call.split(' ').nth(1).unwrap()).eq(&expected), "{called:?}");
    assert_eq!(bench.service.most.load(Ordering::SeqCst), 1);
    bench.bury(actors).await;
}

// What gives a permit back.

/// The attempt that has the permit ends like this, and then the other run is called, and not before.
async fn the_next_is_called_at<W: World>(first: Step, second: u64, ends: impl AsyncFnOnce(&Actors)) {
    let bench = Bench::<W>::new();
    let actors = bench.live(with(single())).await;
    bench.service.goes(false);
    let first = submit(&actors, "first", [first.limit("openai")]).await;
    quiet().await;
    let next = submit(&actors, "next", [work("ask", 0).limit("openai")]).await;
    quiet().await;
    assert_eq!((state(&actors, "next").await, used(&actors).await), (RunState::Parked, (1, 1)));
    ends(&actors).await;
    next.await.unwrap();
    assert_eq!(calls(&bench).last().unwrap(), &format!("{second}s next"));
    drop(first);
    quiet().await;
    assert_eq!(used(&actors).await, (0, 0));
    bench.bury(actors).await;
}

async fn a_permit_comes_back_when_the_attempt_fails<W: World>() {
    the_next_is_called_at::<W>(call("ask", 10), 10, async |_| {}).await;
}

async fn a_step_that_backs_off_holds_no_permit<W: World>() {
    let retry = Retry::fixed(secs(3_600));
    the_next_is_called_at::<W>(call("ask", 10).retry(retry), 10, async |_| {}).await;
}

async fn a_permit_comes_back_when_the_attempt_panics<W: World>() {
    let panics = Step::new("panics", || async {
        seconds(10).await;
        "no number".parse::<u8>().unwrap()
    });
    the_next_is_called_at::<W>(panics, 10, async |_| {}).await;
}

async fn a_permit_comes_back_when_a_future_comes_to_its_timeout<W: World>() {
    the_next_is_called_at::<W>(work("ask", 100).timeout(secs(7)), 7, async |_| {}).await;
}

async fn a_permit_comes_back_when_a_future_is_cancelled<W: World>() {
    the_next_is_called_at::<W>(work("ask", 100), 5, async |actors| {
        seconds(5).await;
        cancel(actors, "first").await.unwrap();
    })
    .await;
}

async fn a_permit_comes_back_when_dropping_the_future_panics<W: World>() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in its drop");
        }
    }
    let bomb = Step::new("bomb", || async {
        let _bomb = Bomb;
        std::future::pending::<()>().await;
    });
    the_next_is_called_at::<W>(bomb, 5, async |actors| {
        seconds(5).await;
        cancel(actors, "first").await.unwrap();
    })
    .await;
}

/// A run that is told to stop, or is abandoned, and blocking code that goes on all the same.
async fn blocking_code_keeps_its_permit_until_it_has_ended<W: World>() {
    let timed = || block("s").timeout(secs(5));
    for (step, cancelled, ends, listed) in [
        (block("s"), true, RunState::Stopping, 0),
        (timed().grace(secs(1_000)), false, RunState::Stopping, 0),
        (timed().grace(secs(1)), false, RunState::Failed, 1),
    ] {
        let bench = Bench::<W>::new();
        let actors = bench.live(with(single())).await;
        let first = submit(&actors, "first", [step.limit("openai")]).await;
        called(&bench).await;
        let next = submit(&actors, "next", [work("ask", 0).limit("openai")]).await;
        reaches(&actors, "next", RunState::Parked).await;
        // Time does not go on by itself while blocking code runs.
        tokio::time::advance(secs(6)).await;
        if cancelled {
            cancel(&actors, "first").await.unwrap();
        }
        reaches(&actors, "first", RunState::Stopping).await;
        tokio::time::advance(secs(2)).await;
        reaches(&actors, "first", ends).await;
        assert_eq!(actors.orchestrator.send(ListAbandoned).await.unwrap().len(), listed);
        assert_eq!((used(&actors).await, state(&actors, "next").await), ((1, 1), RunState::Parked));
        bench.service.release();
        next.await.unwrap();
        drop(first);
        quiet().await;
        assert_eq!(used(&actors).await, (0, 0));
        bench.bury(actors).await;
    }
}

/// Its start is stored, or not, and it is not called.
async fn a_permit_comes_back_when_the_attempt_is_not_called<W: World>() {
    for at in [1, 2] {
        let bench = Bench::<W>::new();
        let failing = FaultyStore::new(bench.store().await, Fault::Fail, at);
        let actors = bench.live_over(failing, with(single()));
        let plan = ExecutePlan::new(match at {
            1 => vec![ask(5)],
            _ => vec![work("before", 5), ask(5)],
        });
        let error = actors.orchestrator.send(plan).await.unwrap().unwrap_err();
        assert!(matches!(error, PlanError::Memory { .. }), "{error:?}");
        assert_eq!(used(&actors).await, (0, 0));
        submit(&actors, "next", [ask(0)]).await.await.unwrap_or_default();
        assert!(calls(&bench).last().unwrap().ends_with("next"), "{:?}", calls(&bench));
        bench.bury(actors).await;
    }
}

/// It is cancelled while its start is being stored.
async fn a_permit_comes_back_when_the_run_is_cancelled_before_the_call<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(with(single())).await;
    let orchestrator = actors.orchestrator.clone();
    let first = Step::new("first", move || {
        let orchestrator = orchestrator.clone();
        async move {
            seconds(5).await;
            orchestrator.do_send(CancelPlan(run_id("a")));
        }
    });
    submit(&actors, "a", [first, ask(5)]).await.await.unwrap_err();
    let events = history_of(&actors, "a").await;
    let expected = ["task.completed first", "task.started ask", "task.cancelled ask", "plan.cancelled"];
    assert_eq!(
        (&events[3..], calls(&bench).len(), used(&actors).await),
        (&expected.map(str::to_owned)[..], 0, (0, 0))
    );
    submit(&actors, "b", [ask(0)]).await.await.unwrap();
    bench.bury(actors).await;
}

// Rate.

async fn attempts_start_no_faster_than_the_rate_and_an_event_tells_when<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(with(slow())).await;
    let mut runs = Vec::new();
    for id in ["a", "b", "c", "d"] {
        runs.push(submit(&actors, id, [ask(1)]).await);
    }
    quiet().await;
    let status = limits(&actors).await.remove(0);
    assert_eq!((status.in_use, status.waiting), (1, 3));
    let next = status.next_at.unwrap();
    assert!(next >= bench.at(10) && next < bench.at(11), "{next:?}");
    let info = crate::staged::status(&actors, "b").await.unwrap();
    assert_eq!(info.state, RunState::Parked);
    assert!(info.until.unwrap() >= bench.at(10) && info.until.unwrap() < bench.at(11));
    for run in runs {
        run.await.unwrap();
    }
    assert_eq!(calls(&bench), ["0s a", "10s b", "20s c", "30s d"]);
    // Each knows when those before it will have gone.
    let openai = Some("openai".to_owned());
    for (id, until) in [("b", 10), ("c", 20), ("d", 30)] {
        assert_eq!(parked(&bench, &actors, id).await, [(openai.clone(), Some(until))]);
    }
    bench.bury(actors).await;
}

async fn a_burst_starts_at_once_after_a_rest<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(with(slow().burst(3))).await;
    let mut runs = Vec::new();
    for n in 0..5 {
        runs.push(submit(&actors, &n.to_string(), [ask(0)]).await);
    }
    for run in runs.drain(..) {
        run.await.unwrap();
    }
    assert_eq!(calls(&bench), ["0s 0", "0s 1", "0s 2", "10s 3", "20s 4"]);
    seconds(1_000).await;
    for n in 5..9 {
        runs.push(submit(&actors, &n.to_string(), [ask(0)]).await);
    }
    for run in runs {
        run.await.unwrap();
    }
    assert_eq!(calls(&bench)[5..], ["1020s 5", "1020s 6", "1020s 7", "1030s 8"]);
    bench.bury(actors).await;
}

/// Where both are full, nobody knows until when.
async fn a_rate_and_a_concurrency_hold_together<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(with(slow().burst(2).concurrency(1))).await;
    let mut runs = Vec::new();
    for id in ["a", "b", "c"] {
        runs.push(submit(&actors, id, [ask(4)]).await);
    }
    for run in runs {
        run.await.unwrap();
    }
    assert_eq!(calls(&bench), ["0s a", "4s b", "10s c"]);
    assert_eq!(parked(&bench, &actors, "b").await, [(Some("openai".to_owned()), None)]);
    bench.bury(actors).await;
}

async fn each_retry_takes_a_permit_of_its_own<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(with(slow())).await;
    bench.service.goes(false);
    let retry = Retry::fixed(secs(2)).max_attempts(3);
    submit(&actors, "a", [ask(0).retry(retry)]).await.await.unwrap_err();
    assert_eq!(bench.service.trace.all(), ["0s a.ask", "10s a.ask#2", "20s a.ask#3"]);
    let expected = [
        "task.started ask",
        "task.failed ask",
        "plan.parked ask",
        "task.started ask#2",
        "task.failed ask#2",
        "plan.parked ask",
        "task.started ask#3",
        "task.failed ask#3",
        "plan.failed ask",
    ];
    assert_eq!(history_of(&actors, "a").await[2..], expected);
    bench.bury(actors).await;
}

async fn a_fallback_takes_no_permit<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(with(slow())).await;
    bench.service.goes(false);
    let step = ask(0).on_failure(OnFailure::fallback_named("work"));
    submit(&actors, "a", [step]).await.await.unwrap();
    assert_eq!((bench.elapsed(), calls(&bench).len(), used(&actors).await), (0, 2, (0, 0)));
    bench.bury(actors).await;
}

// What ends a wait.

async fn its_limits_of_time_bound_the_wait<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(with(single())).await;
    let first = submit(&actors, "first", [ask(100)]).await;
    let total = submit(&actors, "total", [ask(0).total_timeout(secs(10))]).await;
    let plan = ExecutePlan::new([ask(0)]).run_id("deadline").deadline(secs(20));
    let deadline = submit_plan(&actors, plan).await;
    let last = submit(&actors, "last", [ask(0)]).await;
    let error = total.await.unwrap_err();
    let PlanError::StepFailed { attempt, source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(source.downcast_ref(), Some(LimitExceeded::TotalTimeout { .. })), "{source:?}");
    assert_eq!((*attempt, bench.elapsed()), (0, 10));
    let error = deadline.await.unwrap_err();
    assert!(matches!(error, PlanError::DeadlineExceeded { .. }), "{error:?}");
    assert_eq!((bench.elapsed(), used(&actors).await), (20, (1, 1)));
    first.await.unwrap();
    last.await.unwrap();
    assert_eq!(calls(&bench), ["0s first", "100s last"]);
    bench.bury(actors).await;
}

/// It has come to its total timeout, and waits for a slot to go on without the service: those behind it do not.
async fn who_goes_on_without_a_permit_leaves_the_line<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(|orchestrator| with(single())(orchestrator).max_concurrent_plans(2)).await;
    let a = submit(&actors, "a", [ask(30), work("s", 100)]).await;
    let gives_up = ask(0).total_timeout(secs(10)).on_failure(OnFailure::Continue);
    let b = submit(&actors, "b", [gives_up, work("s", 1)]).await;
    let c = submit(&actors, "c", [ask(0)]).await;
    quiet().await;
    let busy = submit(&actors, "busy", [work("s", 100)]).await;
    seconds(20).await;
    assert_eq!(used(&actors).await, (1, 1), "b waits for a slot only");
    for run in [a, b, c, busy] {
        run.await.unwrap();
    }
    assert_eq!(calls(&bench), ["0s a", "0s busy.s", "30s a.s", "100s b.s", "101s c"]);
    bench.bury(actors).await;
}

async fn a_run_that_is_cancelled_or_paused_loses_its_place<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(with(single())).await;
    let first = submit(&actors, "first", [ask(10)]).await;
    let mut runs = Vec::new();
    for id in ["cancelled", "paused", "third"] {
        runs.push(submit(&actors, id, [ask(10)]).await);
    }
    seconds(5).await;
    cancel(&actors, "cancelled").await.unwrap();
    assert_eq!(pause(&actors, "paused").await.unwrap(), PauseOutcome::Paused);
    quiet().await;
    assert_eq!(used(&actors).await, (1, 1));
    first.await.unwrap();
    seconds(1).await;
    assert_eq!(resume(&actors, "paused").await.unwrap(), ResumeOutcome::Resumed);
    quiet().await;
    assert_eq!(state(&actors, "paused").await, RunState::Parked);
    runs.remove(0).await.unwrap_err();
    for run in runs {
        run.await.unwrap();
    }
    assert_eq!(calls(&bench), ["0s first", "10s third", "20s paused"]);
    bench.bury(actors).await;
}

/// Nor is it in the line while it undoes what it did.
async fn a_run_that_is_undone_stands_in_no_line<W: World>() {
    let bench = Bench::<W>::new();
    *bench.service.answer.lock().unwrap() = serde_json::json!({ "sleep": 100 });
    let actors = bench.live(with(single())).await;
    let first = submit(&actors, "first", [ask(10)]).await;
    let undone = submit(&actors, "undone", [work("s", 0).compensate_named("verify"), ask(0)]).await;
    quiet().await;
    let third = submit(&actors, "third", [ask(0)]).await;
    quiet().await;
    assert_eq!(used(&actors).await, (1, 2));
    assert_eq!(cancel(&actors, "undone").await.unwrap(), CancelOutcome::Compensating);
    quiet().await;
    assert_eq!(used(&actors).await, (1, 1));
    first.await.unwrap();
    third.await.unwrap();
    assert_eq!(bench.elapsed(), 10);
    assert!(matches!(undone.await, Err(PlanError::Compensated { .. })));
    assert_eq!(bench.elapsed(), 100);
    bench.bury(actors).await;
}

async fn retrying_a_parked_run_passes_no_limit<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(with(slow().concurrency(2))).await;
    let mut runs = Vec::new();
    for id in ["a", "b", "c"] {
        runs.push(submit(&actors, id, [ask(1)]).await);
    }
    for second in 1..10 {
        seconds(1).await;
        for id in ["c", "b"] {
            assert_eq!(retry_now(&actors, id).await.unwrap(), RetryOutcome::Retrying);
        }
        quiet().await;
        assert_eq!((bench.elapsed(), used(&actors).await.1), (second, 2));
    }
    for run in runs {
        run.await.unwrap();
    }
    assert_eq!(calls(&bench), ["0s a", "10s b", "20s c"]);
    // A run that backs off asks once more, too.
    bench.service.goes(false);
    let run = submit(&actors, "d", [ask(0).retry(Retry::fixed(secs(100)).max_attempts(2))]).await;
    seconds(12).await;
    assert_eq!(state(&actors, "d").await, RunState::BackingOff);
    submit(&actors, "e", [ask(0)]).await.await.unwrap_err();
    assert_eq!(retry_now(&actors, "d").await.unwrap(), RetryOutcome::Retrying);
    quiet().await;
    assert_eq!(state(&actors, "d").await, RunState::Parked);
    run.await.unwrap_err();
    assert_eq!(bench.service.trace.all()[3..], ["30s d.ask", "40s e.ask", "50s d.ask#2"]);
    bench.bury(actors).await;
}

async fn a_drain_waits_for_parked_runs_and_a_shutdown_leaves_them<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(with(slow())).await;
    for id in ["a", "b"] {
        submit(&actors, id, [ask(0)]).await;
    }
    let report = actors.orchestrator.send(Shutdown::drain(secs(999))).await.unwrap();
    assert_eq!((report.completed, bench.elapsed()), (1, 10));
    bench.forget(actors).await;

    let actors = bench.live(with(slow())).await;
    submit(&actors, "c", [ask(0)]).await;
    let left = submit(&actors, "d", [ask(0)]).await;
    quiet().await;
    bench.bury(actors).await;
    assert!(matches!(left.await, Err(PlanError::Interrupted { .. })));
    // The rate begins anew.
    let began = bench.elapsed();
    let actors = bench.live(with(slow())).await;
    reaches(&actors, "d", RunState::Completed).await;
    assert_eq!(bench.elapsed(), began);
    bench.bury(actors).await;
}

// Together with a breaker.

/// Opens after one failure, for a minute.
fn guarded(limit: Limit) -> impl FnOnce(ExecutionOrchestrator) -> ExecutionOrchestrator {
    let payments = Breaker::new("payments").failures(1).open_for(secs(60));
    |orchestrator| with(limit)(orchestrator).breaker(payments).unwrap()
}

async fn breaker(actors: &Actors) -> CircuitState {
    actors.orchestrator.send(Breakers::List).await.unwrap().unwrap()[0].state
}

async fn trip<W: World>(bench: &Bench<W>, actors: &Actors) {
    bench.service.goes(false);
    let id = format!("trip {}", bench.elapsed());
    submit(actors, &id, [call("ask", 0).breaker("payments")]).await.await.unwrap_err();
    bench.service.goes(true);
    assert_eq!(breaker(actors).await, CircuitState::Open);
}

async fn who_waits_for_a_breaker_stands_in_no_line<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(guarded(slow().concurrency(1))).await;
    trip(&bench, &actors).await;
    let both = submit(&actors, "both", [ask(0).breaker("payments")]).await;
    quiet().await;
    assert_eq!((state(&actors, "both").await, used(&actors).await), (RunState::Parked, (0, 0)));
    let other = submit(&actors, "other", [ask(0)]).await;
    other.await.unwrap();
    assert_eq!(bench.elapsed(), 0, "nothing of the limit was spent");
    both.await.unwrap();
    assert_eq!((bench.elapsed(), breaker(&actors).await), (60, CircuitState::Closed));
    bench.bury(actors).await;
}

async fn who_waits_for_a_permit_holds_no_place_of_a_probe<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(guarded(single())).await;
    trip(&bench, &actors).await;
    let both = submit(&actors, "both", [ask(0).breaker("payments")]).await;
    let busy = submit(&actors, "busy", [ask(100)]).await;
    seconds(70).await;
    assert_eq!((state(&actors, "both").await, used(&actors).await), (RunState::Parked, (1, 1)));
    assert_eq!(breaker(&actors).await, CircuitState::Open, "no probe was made");
    submit(&actors, "probe", [call("ask", 0).breaker("payments")]).await.await.unwrap();
    assert_eq!((bench.elapsed(), breaker(&actors).await), (70, CircuitState::Closed));
    busy.await.unwrap();
    both.await.unwrap();
    assert_eq!(calls(&bench)[1..], ["0s busy", "70s probe", "100s both"]);
    bench.bury(actors).await;
}

/// The breaker opens while the run is in the line: those behind it need not wait for that.
async fn who_finds_the_breaker_open_when_it_is_its_turn_lets_others_go_first<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(guarded(single())).await;
    let busy = submit(&actors, "busy", [ask(10)]).await;
    let both = submit(&actors, "both", [ask(0).breaker("payments")]).await;
    let behind = submit(&actors, "behind", [ask(0)]).await;
    seconds(5).await;
    assert_eq!(used(&actors).await, (1, 2));
    trip(&bench, &actors).await;
    for run in [busy, behind, both] {
        run.await.unwrap();
    }
    let calls: Vec<String> = calls(&bench).into_iter().filter(|call| !call.contains("trip")).collect();
    assert_eq!(calls, ["0s busy", "10s behind", "65s both"]);
    // Who would rather fail does not wait for it, either.
    let began = bench.elapsed();
    let busy = submit(&actors, "busy again", [ask(10)]).await;
    let fails = || ask(0).breaker("payments").when_open(WhenOpen::Fail);
    let late = submit(&actors, "late", [fails()]).await;
    quiet().await;
    assert_eq!(state(&actors, "late").await, RunState::Parked);
    trip(&bench, &actors).await;
    let error = late.await.unwrap_err();
    assert!(matches!(error, PlanError::StepFailed { kind: FailureKind::BreakerOpen, .. }), "{error:?}");
    busy.await.unwrap();
    assert_eq!(bench.elapsed(), began + 10);
    actors.orchestrator.send(Breakers::Reset("payments".to_owned())).await.unwrap().unwrap();
    // And who would rather fail does so at once, and nothing of the limit is spent.
    trip(&bench, &actors).await;
    let error = submit(&actors, "fails", [fails()]).await.await.unwrap_err();
    assert!(matches!(error, PlanError::StepFailed { kind: FailureKind::BreakerOpen, .. }), "{error:?}");
    assert_eq!(used(&actors).await, (0, 0));
    bench.bury(actors).await;
}

// After a restart.

async fn parked_runs_are_parked_again_in_the_order_of_their_acceptance<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(with(single())).await;
    submit(&actors, "a", [ask(1_000)]).await;
    quiet().await;
    for id in ["b", "c", "d"] {
        submit(&actors, id, [ask(5)]).await;
    }
    seconds(3).await;
    bench.bury(actors).await;
    assert_eq!(calls(&bench), ["0s a"]);

    let actors = bench.live(with(single())).await;
    quiet().await;
    assert_eq!(used(&actors).await, (1, 2));
    let late = submit(&actors, "late", [ask(5)]).await;
    late.await.unwrap();
    assert_eq!(calls(&bench)[1..], ["3s b", "8s c", "13s d", "18s late"]);
    bench.bury(actors).await;
}

/// Nothing starts when it is taken up, so that nothing is taken from the limit.
async fn a_run_that_was_stopping_at_a_limit_holds_no_permit_after_a_restart<W: World>() {
    let bench = Bench::<W>::new();
    // Its start, that it stops, and that it is tried again.
    let dying = FaultyStore::new(bench.store().await, Fault::Die, 3);
    let actors = bench.live_over(dying, with(slow().concurrency(1)));
    let retry = Retry::fixed(secs(60)).on_timeout(true);
    let step = block("s").limit("openai").timeout(secs(5)).grace(secs(1_000)).retry(retry);
    let run = submit(&actors, "a", [step]).await;
    called(&bench).await;
    tokio::time::advance(secs(6)).await;
    reaches(&actors, "a", RunState::Stopping).await;
    bench.service.release();
    run.await.unwrap_err();
    bench.forget(actors).await;

    let actors = bench.live(with(slow().concurrency(1))).await;
    reaches(&actors, "a", RunState::BackingOff).await;
    let status = limits(&actors).await.remove(0);
    assert_eq!((status.in_use, status.next_at), (0, None));
    submit(&actors, "b", [ask(0)]).await.await.unwrap();
    seconds(200).await;
    assert_eq!(state(&actors, "a").await, RunState::Completed);
    bench.bury(actors).await;
}

async fn a_run_whose_limit_is_gone_stays_interrupted<W: World>() {
    let bench = Bench::<W>::new();
    let actors = bench.live(with(single())).await;
    submit(&actors, "a", [ask(1_000)]).await;
    submit(&actors, "b", [ask(5)]).await;
    quiet().await;
    bench.bury(actors).await;

    let actors = bench.live(with(Limit::new("opena").concurrency(1))).await;
    reaches(&actors, "b", RunState::Interrupted).await;
    let reason = status(&actors, "b").await.unwrap().reason.unwrap();
    let expected = r#"step "ask" names the limit "openai", which this orchestrator does not have; did you mean "opena"?"#;
    assert_eq!(&*reason, expected);
    let error = actors.orchestrator.send(ContinueRun(run_id("b"))).await.unwrap().unwrap_err();
    assert!(matches!(error, PlanError::UnknownLimit { .. }), "{error:?}");
    bench.bury(actors).await;

    // It counts in no fingerprint: the plan may come again with another one.
    let actors = bench.live(with(Limit::new("opena").concurrency(1))).await;
    submit(&actors, "b", [call("ask", 5).limit("opena")]).await.await.unwrap();
    bench.bury(actors).await;
}

// Whatever is asked.

/// What is asked, of whom, and how many milliseconds pass then.
type Move = (u8, usize, u64);

/// A concurrency, a rate in a minute, and its burst.
type Shape = (u32, u32, u32);

async fn any_schedule((concurrency, rate, burst): Shape, slots: usize, moves: Vec<Move>) {
    let bench = Bench::<Volatile>::new();
    let limit = Limit::new("openai").concurrency(concurrency).rate(rate, secs(60)).burst(burst);
    let configure = |orchestrator| guarded(limit)(orchestrator).max_concurrent_plans(slots);
    let actors = bench.live(configure).await;
    let mut ids: Vec<String> = Vec::new();
    for (what, which, millis) in moves {
        let id = ids.get(which % ids.len().max(1)).map_or("none", String::as_str);
        match what {
            0..=3 => {
                let id = format!("{:02}", ids.len());
                let retry = Retry::fixed(secs(2)).max_attempts(3);
                let steps = [
                    ask(1 + which as u64 % 3),
                    call("second", 4)
                        .limit("openai")
                        .retry(retry)
                        .timeout(secs(3))
                        .on_failure(OnFailure::Continue),
                    call("third", 1).limit("openai").breaker("payments").total_timeout(secs(100)),
                ];
                drop(submit(&actors, &id, steps).await);
                ids.push(id);
            }
            4 => drop(pause(&actors, id).await),
            5 => drop(resume(&actors, id).await),
            6 => drop(cancel(&actors, id).await),
            7 => drop(retry_now(&actors, id).await),
            _ => bench.service.goes(which % 2 == 0),
        }
        tokio::time::sleep(Duration::from_millis(millis)).await;
        let (in_use, waiting) = used(&actors).await;
        assert!(in_use <= concurrency && waiting <= ids.len());
    }
    bench.service.goes(true);
    for id in &ids {
        let _ = resume(&actors, id).await;
    }
    quiet().await;
    // Nothing is lost: all come to their end.
    for id in &ids {
        let patience = Patience::new();
        while !state(&actors, id).await.is_final() {
            patience.wait(&format!("{id} to end")).await;
            seconds(5).await;
        }
    }
    assert_eq!(used(&actors).await, (0, 0));
    let most = bench.service.most.load(Ordering::SeqCst);
    assert!(most <= concurrency as usize, "{most} under way, of {concurrency}");
    let events = history(&actors).await;
    let starts: Vec<SystemTime> = events
        .iter()
        .filter(|event| event.event_type() == "task.started")
        .map(|event| event.timestamp())
        .collect();
    for (index, first) in starts.iter().enumerate() {
        for (count, last) in (1..).zip(&starts[index..]) {
            let window = last.duration_since(*first).unwrap() + Duration::from_millis(1);
            let granted = u128::from(burst) + window.as_millis() * u128::from(rate) / 60_000;
            assert!(count <= granted, "{count} in {window:?}, of {granted}");
        }
    }
    bench.bury(actors).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Never more attempts under way than the concurrency, never more started in any window than the rate grants, and
    /// whatever waits goes on.
    #[test]
    fn limits_are_kept_under_any_schedule(
        shape in (1_u32..4, 1_u32..120, 1_u32..4),
        slots in 1_usize..6,
        moves in proptest::collection::vec((0_u8..9, 0_usize..8, 0_u64..4_000), 1..40),
    ) {
        actix::System::new().block_on(in_the_end(any_schedule(shape, slots, moves)));
    }
}

frozen! {
    as_many_attempts_are_under_way_as_the_limit_allows_and_the_others_park
    a_parked_run_gives_its_slot_to_others
    who_comes_later_waits_behind_those_who_wait_for_a_slot
    the_steps_of_two_plans_take_turns
    a_thousand_runs_go_on_in_the_order_in_which_they_parked
    a_permit_comes_back_when_the_attempt_fails
    a_step_that_backs_off_holds_no_permit
    a_permit_comes_back_when_the_attempt_panics
    a_permit_comes_back_when_a_future_comes_to_its_timeout
    a_permit_comes_back_when_a_future_is_cancelled
    a_permit_comes_back_when_dropping_the_future_panics
    blocking_code_keeps_its_permit_until_it_has_ended
    a_permit_comes_back_when_the_attempt_is_not_called
    a_permit_comes_back_when_the_run_is_cancelled_before_the_call
    attempts_start_no_faster_than_the_rate_and_an_event_tells_when
    a_burst_starts_at_once_after_a_rest
    a_rate_and_a_concurrency_hold_together
    each_retry_takes_a_permit_of_its_own
    a_fallback_takes_no_permit
    its_limits_of_time_bound_the_wait
    who_goes_on_without_a_permit_leaves_the_line
    a_run_that_is_cancelled_or_paused_loses_its_place
    a_run_that_is_undone_stands_in_no_line
    retrying_a_parked_run_passes_no_limit
    a_drain_waits_for_parked_runs_and_a_shutdown_leaves_them
    who_waits_for_a_breaker_stands_in_no_line
    who_waits_for_a_permit_holds_no_place_of_a_probe
    who_finds_the_breaker_open_when_it_is_its_turn_lets_others_go_first
    parked_runs_are_parked_again_in_the_order_of_their_acceptance
    a_run_that_was_stopping_at_a_limit_holds_no_permit_after_a_restart
    a_run_whose_limit_is_gone_stays_interrupted
}
