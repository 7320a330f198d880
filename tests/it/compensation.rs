//! A run that failed, or was cancelled, undoes what its steps did: from the last to the first, each as often as its policy
//! says, and whatever else happens to it meanwhile.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use lunacore::limits::MAX_COMPENSATIONS;
use lunacore::*;

use crate::support::*;
use crate::timed::*;

/// Callables that are found by name, in whatever life: `do`, `fail`, `hang`, and `undo`.
#[derive(Clone, Default)]
struct Kit {
    called: Trace,
    /// How often it fails to undo a step; for ever, if that is `u32::MAX`.
    fails: Arc<Mutex<BTreeMap<&'static str, u32>>>,
    /// The step whose `undo` does not end.
    hangs: Arc<Mutex<Option<&'static str>>>,
    /// Every key that was used to undo a step.
    keys: Trace,
}

impl Kit {
    fn failing(step: &'static str, times: u32) -> Self {
        let kit = Self::default();
        kit.fails.lock().unwrap().insert(step, times);
        kit
    }

    fn hanging(step: &'static str) -> Self {
        let kit = Self::default();
        *kit.hangs.lock().unwrap() = Some(step);
        kit
    }

    fn registry(&self) -> RegistryAllocator {
        let (done, undone) = (self.clone(), self.clone());
        let act = move |ctx: StepContext| {
            done.called.note(format!("do {}", ctx.step_id()));
            format!("{} done", ctx.step_id())
        };
        let undo = move |ctx: StepContext| {
            let kit = undone.clone();
            async move {
                kit.called.note(format!("undo {} {}", ctx.step_id(), ctx.attempt()));
                kit.keys.note(ctx.idempotency_key());
                assert_eq!(ctx.output::<String>(ctx.step_id())?, format!("{} done", ctx.step_id()));
                assert!(!ctx.is_cancelled() && !ctx.cancellation().is_cancelled());
                if kit.hangs.lock().unwrap().is_some_and(|step| step == ctx.step_id()) {
                    pending::<()>().await;
                }
                let fails = kit.fails.lock().unwrap().get(ctx.step_id()).copied().unwrap_or(0);
                if ctx.attempt() <= fails { Err(StepError::from("refused")) } else { Ok(()) }
            }
        };
        RegistryAllocator::new()
            .register("do", act)
            .register("fail", || async { Err::<(), _>(StepError::from("broken")) })
            .register("hang", pending::<()>)
            .register("undo", undo)
    }

    async fn life(&self, disk: &Disk, clock: &Clock) -> Actors {
        live(disk.open().await, clock, self.registry(), 0.5)
    }

    fn calls(&self) -> String {
        self.called.all().join(", ")
    }
}

fn undone(id: &'static str) -> Step {
    Step::named(id).uses("do").compensate_named("undo")
}

/// Steps a and c that can be undone, b that cannot, and one that does this.
fn saga(last: &str) -> ExecutePlan {
    plan([undone("a"), Step::named("b").uses("do"), undone("c"), Step::named("last").uses(last)])
}

fn compensated(outcome: Result<Vec<serde_json::Value>, PlanError>) -> (Vec<String>, Vec<String>, PlanError) {
    match outcome {
        Err(PlanError::Compensated { undone, not_undone, source, .. }) => {
            (undone, not_undone.iter().map(ToString::to_string).collect(), *source)
        }
        other => panic!("{other:?}"),
    }
}

async fn record(actors: &Actors) -> RunRecord {
    actors.memory.send(GetRun(run_id("r"))).await.unwrap().unwrap().unwrap()
}

#[actix::test]
async fn completed_steps_are_undone_from_the_last_to_the_first() {
    let clock = virtual_time().await;
    for disk in Disk::each() {
        let kit = Kit::default();
        let actors = kit.life(&disk, &clock).await;
        let error = execute(&actors, saga("fail")).await.unwrap_err();
        assert_eq!(error.to_string(), r#"what run r had done is undone: "c", "a""#);
        assert_eq!(chain(&error)[1..], [r#"step 3 ("last") of run r failed at attempt 1"#, "broken"]);
        assert!(matches!(error.why(), PlanError::StepFailed { completed, .. } if completed.len() == 3));
        assert_eq!(kit.calls(), "do a, do b, do c, undo c 1, undo a 1");
        let mut told = told(&actors).await;
        for event in &mut told {
            *event = event.split_once(' ').unwrap().1.to_owned();
        }
        assert_eq!(
            told[6..],
            [
                "task.started last 1",
                "task.failed last 1 error",
                "plan.compensating 2",
                "task.compensating c 1",
                "task.compensated c",
                "task.compensating a 1",
                "task.compensated a",
                "plan.compensated",
            ]
        );
        let record = record(&actors).await;
        assert_eq!((record.state, record.cursor, record.attempt), (RunState::Compensated, 3, 1));
        assert_eq!(&*record.failure.unwrap().message, "broken");
        let undoing = record.undoing.unwrap();
        assert_eq!((&*undoing.undone, undoing.failed.len(), undoing.cancelled), (&[2, 0][..], 0, false));
        // Whoever asks later gets the same answer, also of another process.
        let again = execute(&actors, saga("fail")).await.unwrap_err();
        assert_eq!(chain(&again), chain(&error));
        let retried = actors.orchestrator.send(RetryRun::new(run_id("r"))).await.unwrap();
        assert!(matches!(retried, Err(PlanError::NotRetried { .. })), "{retried:?}");
        bury(actors).await;
        let actors = kit.life(&disk, &clock).await;
        let again = execute(&actors, saga("fail")).await.unwrap_err();
        assert_eq!(chain(&again), chain(&error));
        assert_eq!(cancel(&actors, "r").await, CancelOutcome::Finished(RunState::Compensated));
        bury(actors).await;
    }
}

/// All that it may want to know.
#[actix::test]
async fn what_undoes_a_step_sees_what_was_done_and_why_it_is_undone() {
    let actors = life().await;
    let (seen, seen_too) = (Trace::default(), Trace::default());
    let (note, note_too) = (seen.clone(), seen_too.clone());
    let first = Step::new("first", || Json((7, "seat"))).input("in").compensate(move |ctx: StepContext| {
        note.note(format!("{} {} {}", ctx.step_id(), ctx.index(), ctx.attempt()));
        note.note(ctx.input::<String>()?);
        note.note(format!("{:?}", ctx.output::<(u8, String)>("first")?));
        note.note(format!("{:?}", ctx.output::<Vec<u8>>("second")?));
        note.note(ctx.failure().map(|failure| failure.message.clone()).unwrap_or_default());
        note.note(ctx.idempotency_key());
        ctx.put_artifact("receipt", "given back")?;
        // What it returns does not matter.
        Ok::<_, StepError>(f64::NAN)
    });
    let second = Step::new("second", || vec![1, 2]);
    let third = Step::new("third", || ()).inline().compensate(move |ctx: StepContext| {
        note_too.note(ctx.idempotency_key());
        f64::NAN
    });
    let fails = Step::new("fails", || Err::<(), _>(StepError::from("no money")));
    let (undone, not_undone, source) =
        compensated(execute(&actors, plan([first, second, third, fails])).await);
    assert_eq!((undone, not_undone.len()), (vec!["third".to_owned(), "first".to_owned()], 0));
    assert_eq!(failed(Err(source)).1.to_string(), "no money");
    assert_eq!(seen.all(), ["first 0 1", "in", r#"(7, "seat")"#, "[1, 2]", "no money", "r/1/first/undo"]);
    assert_eq!(seen_too.all(), ["r/1/third/undo"]);
    let receipt = actors.memory.send(Get::latest("receipt")).await.unwrap().unwrap().unwrap();
    assert_eq!((receipt.text(), receipt.meta["step_id"].as_str()), (Some("given back"), Some("first")));
    // Its result is what it was.
    let versions = actors.memory.send(ListVersions::new("task:first")).await.unwrap().unwrap();
    assert_eq!(versions, [1]);
}

#[actix::test]
async fn each_has_a_retry_policy_of_its_own() {
    let clock = virtual_time().await;
    for disk in Disk::each() {
        let kit = Kit::failing("c", 2);
        let actors = kit.life(&disk, &clock).await;
        let began = clock.now();
        let retry = Retry::fixed(4 * SECOND).max_attempts(3);
        let steps = [undone("a"), undone("c").compensation_retry(retry), Step::named("last").uses("fail")];
        let (undone, not_undone, _) = compensated(execute(&actors, plan(steps)).await);
        assert_eq!((undone.join(" "), not_undone.len()), ("c a".to_owned(), 0));
        assert_eq!(kit.calls(), "do a, do c, undo c 1, undo c 2, undo c 3, undo a 1");
        assert_eq!(kit.keys.all(), ["r/1/c/undo", "r/1/c/undo", "r/1/c/undo", "r/1/a/undo"]);
        assert_eq!(clock.now().duration_since(began).unwrap(), 8 * SECOND);
        bury(actors).await;
    }
}

/// Of all its attempts together, from the first on.
#[actix::test]
async fn it_may_take_so_long_and_no_longer() {
    let kit = Kit::failing("a", u32::MAX);
    let actors = live(VolatileStore::default(), &virtual_time().await, kit.registry(), 0.5);
    let retry = Retry::fixed(4 * SECOND).max_attempts(9).budget(10 * SECOND);
    let steps = [undone("a").compensation_retry(retry), fails()];
    assert_eq!(compensated(execute(&actors, plan(steps)).await).1, [r#""a" (refused)"#]);
    assert_eq!(kit.calls(), "do a, undo a 1, undo a 2, undo a 3");
}

#[actix::test]
async fn what_cannot_be_undone_keeps_nothing_else_from_it_and_is_told() {
    let clock = virtual_time().await;
    for disk in Disk::each() {
        let kit = Kit::failing("c", u32::MAX);
        let actors = kit.life(&disk, &clock).await;
        let error = execute(&actors, saga("fail")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"what run r had done is undone only in part: "a" undone, but not "c" (refused)"#
        );
        assert_eq!(kit.calls(), "do a, do b, do c, undo c 1, undo a 1");
        let told = told(&actors).await;
        let end: Vec<&str> =
            told.iter().rev().take(5).map(|event| event.split_once(' ').unwrap().1).collect();
        let expected = [
            "plan.failed last error",
            "task.compensated a",
            "task.compensating a 1",
            "task.compensation_failed c 1 error",
            "task.compensating c 1",
        ];
        assert_eq!(end, expected);
        let info = status(&actors, "r").await;
        assert_eq!((info.state, info.undoing.unwrap().failed.len()), (RunState::Failed, 1));
        let retried = actors.orchestrator.send(RetryRun::new(run_id("r"))).await.unwrap();
        assert!(matches!(retried, Err(PlanError::NotRetried { .. })), "{retried:?}");
        bury(actors).await;
        let actors = kit.life(&disk, &clock).await;
        let again = execute(&actors, saga("fail")).await.unwrap_err();
        assert_eq!(chain(&again), chain(&error));
        assert_eq!(cancel(&actors, "r").await, CancelOutcome::Finished(RunState::Failed));
        bury(actors).await;
    }
    // Nothing at all.
    let actors = life().await;
    let fatal = || Err::<(), _>(StepError::fatal("gone"));
    let step =
        Step::new("a", || ()).compensate(fatal).compensation_retry(Retry::fixed(SECOND).max_attempts(9));
    let error = execute(&actors, plan([step, Step::new("b", fatal)])).await.unwrap_err();
    assert_eq!(error.to_string(), r#"what run r had done is not undone: "a" (gone)"#);
}

/// Wherever it panics, that is its failure and nothing else.
#[actix::test]
async fn a_panic_is_a_failure_to_undo() {
    let actors = life().await;
    fn panics(message: &str) {
        panic!("{message}")
    }
    let before = |_: StepContext| -> std::future::Ready<()> { panic!("before") };
    let steps = [
        Step::new("async", || ()).compensate(|| async { panics("in a future") }),
        Step::new("blocking", || ()).compensate(|| panics("on a thread")),
        Step::new("inline", || ()).inline().compensate(|| panics("inline")),
        Step::new("before", || ()).compensate(before),
        Step::new("fails", || Err::<(), _>(StepError::from("no"))),
    ];
    let (undone, not_undone, _) = compensated(execute(&actors, plan(steps)).await);
    assert_eq!(undone, [""; 0]);
    let expected = [
        r#""before" (panicked: before)"#,
        r#""inline" (panicked: inline)"#,
        r#""blocking" (panicked: on a thread)"#,
        r#""async" (panicked: in a future)"#,
    ];
    assert_eq!(not_undone, expected);
}

fn fails() -> Step {
    Step::new("fails", || async { Err::<(), _>(StepError::from("no")) })
}

#[actix::test]
async fn an_attempt_to_undo_has_a_limit_of_its_own() {
    let actors = life().await;
    let trace = Trace::default();
    let dropped = trace.clone();
    let hangs = move |ctx: StepContext| {
        let noted = Noted(dropped.clone(), "dropped");
        async move {
            let _noted = noted;
            if ctx.attempt() == 1 {
                pending::<()>().await;
            }
        }
    };
    let retry = Retry::fixed(SECOND).max_attempts(2).on_timeout(true);
    let step =
        Step::new("a", || ()).compensate(hangs).compensation_timeout(5 * SECOND).compensation_retry(retry);
    let (undone, ..) = compensated(execute(&actors, plan([step, fails()])).await);
    assert_eq!((undone, trace.all().len()), (vec!["a".to_owned()], 2));
    let told = told(&actors).await;
    assert_eq!(
        told[told.len() - 5..],
        [
            "0 task.compensating a 1",
            "5000 task.compensation_failed a 1 timeout, again at 6000",
            "6000 task.compensating a 2",
            "6000 task.compensated a",
            "6000 plan.compensated"
        ]
    );
}

/// Blocking code is told to stop, and waited for; what it returns then does not count.
#[actix::test]
async fn blocking_code_that_takes_too_long_is_told_to_stop() {
    let actors = life().await;
    let trace = Trace::default();
    let note = trace.clone();
    let step = Step::new("a", || ()).compensation_timeout(5 * SECOND).compensate(move |ctx: StepContext| {
        note.note("called");
        while !ctx.is_cancelled() {
            std::thread::sleep(Duration::from_micros(100));
        }
        note.note(format!("told to stop {}", ctx.cancellation().is_cancelled()));
    });
    let run = submit(&actors, plan([step, fails()])).await;
    noted(&trace, "called").await;
    tokio::time::advance(5 * SECOND).await;
    noted(&trace, "told to stop true").await;
    let (undone, not_undone, _) = compensated(run.await);
    let expected = r#""a" (the attempt was not over after 5s, its timeout)"#;
    assert_eq!((undone.len(), not_undone), (0, vec![expected.to_owned()]));
}

/// Inline code is not interrupted: that it took too long is known when it returns.
#[actix::test]
async fn inline_code_that_took_too_long_has_failed() {
    let actors = start_over(ProjectMemory::in_memory());
    let undo = || std::thread::sleep(20 * MS);
    let step = Step::new("a", || ()).inline().compensate(undo).compensation_timeout(MS);
    let (undone, not_undone, _) = compensated(execute(&actors, plan([step, fails()])).await);
    let expected = r#""a" (the attempt was not over after 1ms, its timeout)"#;
    assert_eq!((undone.len(), not_undone), (0, vec![expected.to_owned()]));
}

#[actix::test]
async fn code_that_does_not_stop_ends_it() {
    let actors = life().await;
    let (trace, gate) = (Trace::default(), Gate::default());
    let other = trace.clone();
    let stuck =
        Step::new("b", || ()).compensate(stubborn(&trace, &gate)).compensation_timeout(SECOND).grace(SECOND);
    let first = Step::new("a", || ()).compensate(move || other.note("undone"));
    let run = submit(&actors, plan([first, stuck, fails()])).await;
    noted(&trace, "called 1").await;
    tokio::time::advance(SECOND).await;
    patiently("the grace to begin", async || {
        tokio::time::advance(MS).await;
        !abandoned(&actors).await.is_empty()
    })
    .await;
    let (undone, not_undone, source) = compensated(run.await);
    let why = "(its blocking code did not end within the grace of 1s; it may still run)";
    assert_eq!((undone.len(), not_undone), (0, vec![format!("\"b\" {why}"), format!("\"a\" {why}")]));
    assert!(matches!(source, PlanError::StepFailed { .. }));
    assert_eq!(status(&actors, "r").await.state, RunState::Failed);
    let left = abandoned(&actors).await;
    assert_eq!((&*left[0].step_id, left[0].index, left[0].attempt), ("b", 1, 1));
    gate.open();
    noted(&trace, "ended 1 true").await;
    assert!(!trace.all().contains(&"undone".to_owned()));
}

/// Neither beside a step of it, which has its effects, whatever becomes of them.
#[actix::test]
async fn nothing_is_undone_beside_code_that_does_not_stop() {
    let actors = life().await;
    let (trace, gate) = (Trace::default(), Gate::default());
    let undoes = |id: &'static str| {
        let other = trace.clone();
        Step::new(id, || ()).compensate(move || other.note("undone"))
    };
    let stuck = Step::new("c", stubborn(&trace, &gate)).timeout(SECOND).grace(SECOND);
    let run = submit(&actors, plan([undoes("a"), undoes("b"), stuck])).await;
    noted(&trace, "called 1").await;
    tokio::time::advance(SECOND).await;
    patiently("the grace to be over", async || {
        tokio::time::advance(MS).await;
        !abandoned(&actors).await.is_empty()
    })
    .await;
    let (undone, not_undone, source) = compensated(run.await);
    let why = "(its blocking code did not end within the grace of 1s; it may still run)";
    assert_eq!((undone.len(), not_undone), (0, vec![format!("\"b\" {why}"), format!("\"a\" {why}")]));
    assert!(matches!(source, PlanError::StepFailed { kind: FailureKind::Abandoned, index: 2, .. }));
    let stored = record(&actors).await;
    assert_eq!((stored.state, stored.cursor, stored.finished_at.is_some()), (RunState::Failed, 2, true));
    let told = told(&actors).await;
    assert!(told.last().unwrap().ends_with("plan.failed c abandoned"), "{told:?}");
    assert!(!told.iter().any(|told| told.contains("compensat")), "{told:?}");
    assert_eq!(cancel(&actors, "r").await, CancelOutcome::Finished(RunState::Failed));
    gate.open();
    noted(&trace, "ended 1 true").await;
    assert!(!trace.all().contains(&"undone".to_owned()));
}

#[actix::test]
async fn steps_that_were_skipped_are_not_undone() {
    let clock = virtual_time().await;
    for disk in Disk::each() {
        let kit = Kit::default();
        let actors = kit.life(&disk, &clock).await;
        let skipped = Step::named("s").uses("fail").on_failure(OnFailure::Continue).compensate_named("undo");
        let hold = Step::named("h").uses("fail").on_failure(OnFailure::Hold).compensate_named("undo");
        let steps =
            || [undone("a"), skipped.clone(), hold.clone(), undone("c"), Step::named("last").uses("hang")];
        let run = submit(&actors, plan(steps())).await;
        reaches(&actors, "r", RunState::Held).await;
        actors.orchestrator.send(SkipStep::new(run_id("r"), "h")).await.unwrap().unwrap();
        patiently("the last step", async || status(&actors, "r").await.completed == 4).await;
        // What was skipped is known after a restart, too.
        actors.orchestrator.send(Shutdown::now()).await.unwrap();
        let left = run.await;
        assert!(matches!(left, Err(PlanError::Interrupted { .. })), "{left:?}");
        assert_eq!(kit.calls(), "do a, do c");
        bury(actors).await;
        let actors = kit.life(&disk, &clock).await;
        let (undone, not_undone, source) = compensated(execute(&actors, plan(steps())).await);
        assert_eq!((undone.join(" "), not_undone.len()), ("c a".to_owned(), 0));
        assert!(matches!(source, PlanError::Cancelled { completed, .. } if completed.len() == 4));
        assert_eq!(kit.calls(), "do a, do c, undo c 1, undo a 1");
        bury(actors).await;
    }
}

/// Somebody says that it was done, although no attempt of it ever began.
#[cfg(feature = "expressions")]
#[actix::test]
async fn a_step_that_somebody_completed_is_undone_after_a_restart() {
    let clock = virtual_time().await;
    for disk in Disk::each() {
        let kit = Kit::default();
        let actors = kit.life(&disk, &clock).await;
        let held = undone("h").when("steps.a.output.x").on_failure(OnFailure::Hold);
        let steps = || [undone("a"), held.clone(), undone("c"), Step::named("last").uses("hang")];
        let run = submit(&actors, plan(steps())).await;
        reaches(&actors, "r", RunState::Held).await;
        assert_eq!(record(&actors).await.attempt, 0);
        let done = StepOutcome::Completed("h done".into());
        actors.orchestrator.send(ResolveStep::new(run_id("r"), "h", done)).await.unwrap().unwrap();
        patiently("the last step", async || status(&actors, "r").await.completed == 3).await;
        actors.orchestrator.send(Shutdown::now()).await.unwrap();
        let left = run.await;
        assert!(matches!(left, Err(PlanError::Interrupted { .. })), "{left:?}");
        bury(actors).await;
        let actors = kit.life(&disk, &clock).await;
        let (undone, not_undone, _) = compensated(execute(&actors, plan(steps())).await);
        assert_eq!((undone.join(" "), not_undone.len()), ("c h a".to_owned(), 0));
        assert_eq!(kit.calls(), "do a, do c, undo c 1, undo h 1, undo a 1");
        bury(actors).await;
    }
}

#[actix::test]
async fn nor_are_those_that_were_skipped_a_moment_ago() {
    let kit = Kit::default();
    let actors = live(VolatileStore::default(), &virtual_time().await, kit.registry(), 0.5);
    let skipped = Step::named("s").uses("fail").on_failure(OnFailure::Continue).compensate_named("undo");
    let (undone, not_undone, _) = compensated(execute(&actors, plan([undone("a"), skipped, fails()])).await);
    assert_eq!((undone, not_undone.len()), (vec!["a".to_owned()], 0));
    assert_eq!(kit.calls(), "do a, undo a 1");
    let told = told(&actors).await;
    assert!(told.iter().any(|told| told.ends_with("plan.compensating 1")), "{told:?}");
}

#[cfg(feature = "expressions")]
#[actix::test]
async fn nor_are_those_whose_condition_was_false() {
    let actors = live(VolatileStore::default(), &virtual_time().await, Kit::default().registry(), 0.5);
    let steps = [undone("a"), undone("b").when("run.id == 'other'"), Step::named("last").uses("fail")];
    let (undone, not_undone, _) = compensated(execute(&actors, plan(steps)).await);
    assert_eq!((undone, not_undone.len()), (vec!["a".to_owned()], 0));
}

/// A template is resolved for it as for the step; secrets do not leave.
#[cfg(feature = "expressions")]
#[actix::test]
async fn templates_and_secrets() {
    let clock = virtual_time().await;
    let memory = ProjectMemory::in_memory().clock(clock.clone()).start();
    let bus = EventBus::new().start();
    let orchestrator = ExecutionOrchestrator::new(bus.clone(), memory.clone(), SimpleAllocator.start());
    let secrets = Secrets::given([("token", "hunter22")]);
    let orchestrator = orchestrator.clock(clock).secrets(secrets).start();
    let actors = Actors { orchestrator, bus, memory };
    let leaks = |ctx: StepContext| -> Result<(), StepError> {
        let input: String = ctx.input()?;
        Err(format!("service refused {input}").into())
    };
    let step = Step::new("a", || "seat").with("token ${{ secrets.token }}").compensate(leaks);
    let (_, not_undone, _) = compensated(execute(&actors, plan([step, fails()])).await);
    assert_eq!(not_undone, [r#""a" (service refused token ***)"#]);
    let events = actors.memory.send(ReadHistory::new(run_id("r"))).await.unwrap().unwrap();
    assert!(!serde_json::to_string(&events).unwrap().contains("hunter22"));
    assert!(!format!("{:?}", record(&actors).await).contains("hunter22"));
}

// Cancelled.

#[actix::test]
async fn a_run_that_is_cancelled_is_undone() {
    let clock = virtual_time().await;
    for disk in Disk::each() {
        let kit = Kit::hanging("c");
        let actors = kit.life(&disk, &clock).await;
        let run = submit(&actors, saga("hang")).await;
        patiently("the last step", async || {
            status(&actors, "r").await.current.is_some_and(|step| step.index == 3)
        })
        .await;
        // The answer comes when that is stored.
        assert_eq!(cancel(&actors, "r").await, CancelOutcome::Compensating);
        assert_eq!(record(&actors).await.state, RunState::Compensating);
        patiently("the first undo", async || !kit.keys.all().is_empty()).await;
        let info = status(&actors, "r").await;
        let current = info.current.unwrap();
        assert_eq!(
            (info.state, &*current.step_id, current.index, current.attempt),
            (RunState::Compensating, "c", 2, 1)
        );
        // It accepts nothing.
        assert_eq!(cancel(&actors, "r").await, CancelOutcome::Compensating);
        let id = || run_id("r");
        assert_eq!(
            actors.orchestrator.send(PausePlan(id())).await.unwrap().unwrap(),
            PauseOutcome::Compensating
        );
        let state = RunState::Compensating;
        let resumed = actors.orchestrator.send(ResumePlan(id())).await.unwrap().unwrap();
        assert_eq!(resumed, ResumeOutcome::NotPaused(state));
        let retried = actors.orchestrator.send(RetryNow(id())).await.unwrap().unwrap();
        assert_eq!(retried, RetryOutcome::NotWaiting(state));
        let skipped = actors.orchestrator.send(SkipStep::new(id(), "last")).await.unwrap().unwrap();
        assert_eq!(skipped, ResolveOutcome::NotHeld(state));
        let again = actors.orchestrator.send(RetryRun::new(id())).await.unwrap();
        assert!(matches!(again, Err(PlanError::NotRetried { .. })), "{again:?}");
        // It is left as it is when the process ends, and goes on with the next: that attempt was cut off.
        drop(run);
        let before = history(&actors, "r").await.len();
        actors.orchestrator.do_send(Shutdown::now());
        tokio::time::sleep(10 * SECOND).await;
        drop(actors);
        *kit.hangs.lock().unwrap() = None;
        let actors = kit.life(&disk, &clock).await;
        let (undone, _, source) = compensated(execute(&actors, saga("hang")).await);
        assert_eq!(undone, ["c", "a"]);
        assert!(matches!(source, PlanError::Cancelled { completed, .. } if completed.len() == 3));
        assert_eq!(kit.calls(), "do a, do b, do c, undo c 1, undo c 2, undo a 1");
        let told: Vec<String> = history(&actors, "r").await.split_off(before);
        let told: Vec<&str> = told.iter().map(|event| event.split_once(' ').unwrap().1).collect();
        let expected = [
            "plan.resumed 3",
            "task.recovered a",
            "task.recovered b",
            "task.recovered c",
            "task.compensating c 2",
            "task.compensated c",
            "task.compensating a 1",
            "task.compensated a",
            "plan.compensated",
        ];
        assert_eq!(told, expected);
        bury(actors).await;
    }
}

/// A life whose allocator knows the kit and whose orchestrator has a breaker that is open after one failure.
fn guarded(kit: &Kit, clock: &Clock) -> Actors {
    let memory = ProjectMemory::in_memory().clock(clock.clone()).start();
    let bus = EventBus::new().start();
    let orchestrator = ExecutionOrchestrator::new(bus.clone(), memory.clone(), kit.registry().start());
    let breaker = Breaker::new("service").failures(1).open_for(Duration::from_secs(60));
    let orchestrator = orchestrator.clock(clock.clone()).breaker(breaker).unwrap().start();
    Actors { orchestrator, bus, memory }
}

/// Wherever it waits; and while it does so it holds no slot, which it needs to be undone.
#[actix::test]
async fn a_run_that_waits_is_undone_when_it_is_cancelled() {
    let clock = virtual_time().await;
    for state in [RunState::BackingOff, RunState::Parked, RunState::Paused, RunState::Held] {
        let kit = Kit::default();
        let actors = guarded(&kit, &clock);
        let last = Step::named("last").uses("fail");
        let last = match state {
            RunState::BackingOff | RunState::Paused => last.retry(Retry::fixed(100 * SECOND).max_attempts(3)),
            RunState::Parked => last.breaker("service").retry(Retry::fixed(SECOND).max_attempts(3)),
            _ => last.on_failure(OnFailure::Hold),
        };
        let run = submit(&actors, plan([undone("a"), last])).await;
        if state == RunState::Paused {
            reaches(&actors, "r", RunState::BackingOff).await;
            actors.orchestrator.send(PausePlan(run_id("r"))).await.unwrap().unwrap();
        }
        if state == RunState::Parked {
            // At its second attempt.
            tokio::time::sleep(SECOND).await;
        }
        reaches(&actors, "r", state).await;
        // The slot is taken, where it is free.
        let busy = submit(&actors, ExecutePlan::new([Step::named("x").uses("hang")]).run_id("busy")).await;
        assert_eq!(cancel(&actors, "r").await, CancelOutcome::Compensating, "{state}");
        if state != RunState::BackingOff {
            breathe().await;
            let info = status(&actors, "r").await;
            assert_eq!(
                (info.state, kit.calls().contains("undo")),
                (RunState::Compensating, false),
                "{state}"
            );
        }
        cancel(&actors, "busy").await;
        let (undone, _, source) = compensated(run.await);
        assert_eq!(undone, ["a"], "{state}");
        assert!(matches!(source, PlanError::Cancelled { .. }));
        assert!(busy.await.is_err());
    }
}

/// Blocking code is waited for first; whoever cancelled knows since.
#[actix::test]
async fn a_run_that_is_stopping_is_undone_behind_its_code() {
    let actors = life().await;
    let (trace, gate) = (Trace::default(), Gate::default());
    let note = trace.clone();
    let first = Step::new("a", || ()).compensate(move |ctx: StepContext| {
        note.note(format!("undo, {} {}", ctx.is_cancelled(), ctx.failure().is_none()));
    });
    let run = submit(&actors, plan([first, Step::new("b", stubborn(&trace, &gate))])).await;
    noted(&trace, "called 1").await;
    assert_eq!(cancel(&actors, "r").await, CancelOutcome::Stopping);
    gate.open();
    let (undone, ..) = compensated(run.await);
    assert_eq!(undone, ["a"]);
    assert_eq!(trace.all(), ["called 1", "ended 1 true", "undo, false true"]);
}

/// The deadline leads to it, and does not bound it.
#[actix::test]
async fn a_run_that_comes_to_its_deadline_is_undone_in_its_own_time() {
    let clock = virtual_time().await;
    for disk in Disk::each() {
        let kit = Kit::failing("a", 1);
        let retry = Retry::fixed(100 * SECOND).max_attempts(2);
        let steps =
            || plan([undone("a").compensation_retry(retry.clone()), Step::named("last").uses("hang")]);
        let actors = kit.life(&disk, &clock).await;
        let run = submit(&actors, steps().deadline(5 * SECOND)).await;
        tokio::time::sleep(5 * SECOND).await;
        patiently("a failure", async || status(&actors, "r").await.until.is_some()).await;
        let waits = status(&actors, "r").await;
        assert_eq!(waits.until, Some(clock.now() + 100 * SECOND));
        assert_eq!(&*waits.failure.unwrap().message, "the plan was not done after 5s, its deadline");
        // Nor behind a restart, in the line or with a slot: only the rest is waited for.
        actors.orchestrator.send(Shutdown::now()).await.unwrap();
        assert!(matches!(run.await, Err(PlanError::Interrupted { .. })));
        bury(actors).await;
        tokio::time::sleep(40 * SECOND).await;
        let actors = kit.life(&disk, &clock).await;
        let (undone, _, source) = compensated(execute(&actors, steps()).await);
        assert_eq!(undone, ["a"]);
        assert!(matches!(source, PlanError::DeadlineExceeded { step_id, .. } if step_id == "last"));
        assert_eq!(waits.until, Some(clock.now()));
        bury(actors).await;
    }
}

/// A run whose last step is in flight, left as a process leaves it that dies.
async fn died(kit: &Kit, disk: &Disk, clock: &Clock, plan: ExecutePlan, commits: usize) {
    use lunacore::testing::{Fault, FaultyStore};
    let store = FaultyStore::new(disk.open().await, Fault::Die, commits + 1);
    let actors = live(store, clock, kit.registry(), 0.5);
    let run = submit(&actors, plan).await;
    patiently("the last commit", async || {
        record_of(&actors).await.is_some_and(|record| record.attempt == 1 && record.cursor == 3)
    })
    .await;
    // Nothing more of it is stored.
    let _ = actors.orchestrator.send(CancelPlan(run_id("r"))).await;
    assert!(matches!(run.await, Err(PlanError::Memory { .. })));
    bury(actors).await;
}

async fn record_of(actors: &Actors) -> Option<RunRecord> {
    actors.memory.send(GetRun(run_id("r"))).await.unwrap().unwrap()
}

/// What was cut off waits in the line, and gets a slot to be undone.
#[actix::test]
async fn a_run_that_waits_to_go_on_is_undone_when_it_is_cancelled() {
    let clock = virtual_time().await;
    for overdue in [false, true] {
        for disk in Disk::each() {
            let kit = Kit::default();
            let sent = if overdue { saga("hang").deadline(50 * SECOND) } else { saga("hang") };
            died(&kit, &disk, &clock, sent, 4).await;
            if overdue {
                // While nobody was there.
                tokio::time::sleep(60 * SECOND).await;
            }
            let called = kit.called.all().len();
            let actors = kit.life(&disk, &clock).await;
            if !overdue {
                // Asked before it is known what goes on: it never gets as far as to be called.
                let cancelled = actors.orchestrator.send(CancelPlan(run_id("r")));
                let paused = actors.orchestrator.send(PausePlan(run_id("r")));
                assert_eq!(cancelled.await.unwrap().unwrap(), CancelOutcome::Compensating);
                assert_eq!(paused.await.unwrap().unwrap(), PauseOutcome::Compensating);
            }
            let (undone, _, source) = compensated(execute(&actors, saga("hang")).await);
            assert_eq!(undone, ["c", "a"]);
            assert_eq!(matches!(source, PlanError::DeadlineExceeded { .. }), overdue);
            assert_eq!(kit.called.all()[called..], ["undo c 1", "undo a 1"]);
            // Nothing has cut it off since it began to.
            let told = history(&actors, "r").await;
            let begun = told.iter().position(|told| told.contains("plan.compensating")).unwrap();
            assert!(!told[begun..].iter().any(|told| told.contains("plan.resumed")), "{told:?}");
            bury(actors).await;
        }
    }
}

/// Its retry policy bounds the attempts of all lives; one more is made all the same for the one that was cut off.
#[actix::test]
async fn an_attempt_that_was_cut_off_counts() {
    let clock = virtual_time().await;
    for disk in Disk::each() {
        let kit = Kit::hanging("a");
        kit.fails.lock().unwrap().insert("a", u32::MAX);
        let retry = Retry::fixed(SECOND).max_attempts(2);
        let steps =
            || plan([undone("a").compensation_retry(retry.clone()), Step::named("last").uses("fail")]);
        for life in 0..2 {
            let actors = kit.life(&disk, &clock).await;
            let run = submit(&actors, steps()).await;
            patiently("an attempt", async || kit.keys.all().len() == life + 1).await;
            // The shutdown waits for it, but not for ever: then it is dropped, and left.
            actors.orchestrator.send(Shutdown::now()).await.unwrap();
            let left = run.await.unwrap_err();
            let expected = "run r was interrupted: the orchestrator shut down while it was compensating; \
                            it goes on from there when it is taken up again";
            assert_eq!(left.to_string(), expected);
            bury(actors).await;
        }
        *kit.hangs.lock().unwrap() = None;
        let actors = kit.life(&disk, &clock).await;
        let (_, not_undone, source) = compensated(execute(&actors, steps()).await);
        assert_eq!(not_undone, [r#""a" (refused)"#]);
        assert_eq!(kit.calls(), "do a, undo a 1, undo a 2, undo a 3");
        assert_eq!(kit.keys.all(), ["r/1/a/undo"; 3]);
        // The failure that is told is that of the first life.
        assert_eq!(failed(Err(source)).1.to_string(), "broken");
        bury(actors).await;
    }
}

// Not here.

#[actix::test]
async fn a_run_of_closures_is_undone_when_its_plan_is_sent_again() {
    let clock = virtual_time().await;
    for disk in Disk::each() {
        let kit = Kit::default();
        let note = kit.called.clone();
        let steps = || {
            let note = note.clone();
            let undo = move |ctx: StepContext| note.note(format!("undo {}", ctx.attempt()));
            plan([
                Step::new("a", || ()).compensate(undo),
                Step::new("b", || ()),
                Step::new("c", || ()),
                Step::named("last").uses("hang"),
            ])
        };
        died(&kit, &disk, &clock, steps(), 4).await;
        let actors = kit.life(&disk, &clock).await;
        reaches(&actors, "r", RunState::Interrupted).await;
        assert_eq!(cancel(&actors, "r").await, CancelOutcome::ToCompensate);
        let cut = reaches(&actors, "r", RunState::Interrupted).await;
        assert_eq!((cut.undoing.unwrap().cancelled, cut.reason.is_some()), (true, true));
        assert_eq!(cancel(&actors, "r").await, CancelOutcome::ToCompensate);
        let alone = actors.orchestrator.send(ContinueRun(run_id("r"))).await.unwrap();
        assert!(matches!(alone, Err(PlanError::Interrupted { .. })), "{alone:?}");
        // Another start changes nothing.
        bury(actors).await;
        let actors = kit.life(&disk, &clock).await;
        reaches(&actors, "r", RunState::Interrupted).await;
        assert!(record(&actors).await.undoing.is_some() && kit.calls().is_empty());
        let (undone, _, source) = compensated(execute(&actors, steps()).await);
        assert_eq!((undone, kit.calls()), (vec!["a".to_owned()], "undo 1".to_owned()));
        assert!(matches!(source, PlanError::Cancelled { completed, .. } if completed.len() == 3));
        bury(actors).await;
    }
}

/// Its cancellation was acknowledged while its code ran, which is gone with its process.
#[actix::test]
async fn a_run_that_was_stopping_is_undone_by_the_next_process() {
    use lunacore::testing::{Fault, FaultyStore};
    let clock = virtual_time().await;
    for disk in Disk::each() {
        let kit = Kit::default();
        let steps = |closure: bool| {
            let first = Step::named("a").uses("do");
            let note = kit.called.clone();
            let undo = move || note.note("undone");
            let first = if closure { first.compensate(undo) } else { first.compensate_named("undo") };
            plan([first, Step::named("b").uses("stubborn")])
        };
        let registry =
            |trace: &Trace, gate: &Gate| kit.registry().register("stubborn", stubborn(trace, gate));
        // Behind the restart of the first, which takes two commits.
        for (closure, id, commits) in [(true, "closure", 4), (false, "named", 2 + 4)] {
            let (trace, gate) = (Trace::default(), Gate::default());
            let store = FaultyStore::new(disk.open().await, Fault::Die, commits);
            let actors = live(store, &clock, registry(&trace, &gate), 0.5);
            if !closure {
                reaches(&actors, "closure", RunState::Interrupted).await;
            }
            let run = submit(&actors, steps(closure).run_id(id)).await;
            noted(&trace, "called 1").await;
            assert_eq!(cancel(&actors, id).await, CancelOutcome::Stopping);
            gate.open();
            assert!(matches!(run.await, Err(PlanError::Memory { .. })));
            bury(actors).await;
        }
        let actors = live(disk.open().await, &clock, registry(&Trace::default(), &Gate::default()), 0.5);
        reaches(&actors, "named", RunState::Compensated).await;
        let cut = reaches(&actors, "closure", RunState::Interrupted).await;
        assert!(cut.undoing.unwrap().cancelled && cut.reason.unwrap().contains("was undone by a closure"));
        let (undone, ..) = compensated(execute(&actors, steps(true).run_id("closure")).await);
        assert_eq!(undone, ["a"]);
        assert_eq!(kit.calls(), "do a, do a, undo a 1, undone");
        bury(actors).await;
    }
}

#[actix::test]
async fn where_nothing_goes_on_by_itself_it_is_undone_once_somebody_asks() {
    let clock = virtual_time().await;
    for disk in Disk::each() {
        let kit = Kit::default();
        died(&kit, &disk, &clock, saga("hang"), 4).await;
        let called = kit.called.all().len();
        let (bus, memory) = (
            EventBus::new().start(),
            ProjectMemory::with_store(disk.open().await).clock(clock.clone()).start(),
        );
        let orchestrator = ExecutionOrchestrator::new(bus.clone(), memory.clone(), kit.registry().start());
        let orchestrator = orchestrator.clock(clock.clone()).recover(Recover::None).start();
        let actors = Actors { orchestrator, bus, memory };
        for _ in 0..2 {
            assert_eq!(cancel(&actors, "r").await, CancelOutcome::ToCompensate);
            assert_eq!(status(&actors, "r").await.state, RunState::Compensating);
        }
        assert_eq!(kit.called.all().len(), called);
        let run = actors.orchestrator.send(ContinueRun(run_id("r"))).await.unwrap().unwrap();
        assert_eq!(compensated(run.await).0, ["c", "a"]);
        bury(actors).await;
    }
}

/// Of a run that nobody has, since it cannot be called here, and that is cancelled: it is taken up, and says why it stays.
#[actix::test]
async fn a_run_that_is_not_here_is_taken_up_to_be_undone() {
    let clock = virtual_time().await;
    for disk in Disk::each() {
        let kit = Kit::default();
        died(&kit, &disk, &clock, saga("hang"), 4).await;
        let called = kit.called.all().len();
        let actors = live(disk.open().await, &clock, RegistryAllocator::new(), 0.5);
        reaches(&actors, "r", RunState::Interrupted).await;
        assert_eq!(cancel(&actors, "r").await, CancelOutcome::Compensating);
        let cut = reaches(&actors, "r", RunState::Interrupted).await;
        assert!(cut.undoing.is_some() && cut.reason.is_some());
        bury(actors).await;
        // Where it can be called, it goes on by itself.
        let actors = kit.life(&disk, &clock).await;
        reaches(&actors, "r", RunState::Compensated).await;
        assert_eq!(kit.called.all()[called..], ["undo c 1", "undo a 1"]);
        bury(actors).await;
    }
}

// Shutting down.

#[actix::test]
async fn draining_it_is_finished() {
    let actors = live(VolatileStore::default(), &virtual_time().await, Kit::failing("a", 1).registry(), 0.5);
    let retry = Retry::fixed(4 * SECOND).max_attempts(2);
    let run =
        submit(&actors, plan([undone("a").compensation_retry(retry), Step::named("last").uses("fail")]))
            .await;
    let report = actors.orchestrator.send(Shutdown::drain(10 * SECOND)).await.unwrap();
    assert_eq!((report.failed, report.interrupted), (1, 0));
    assert_eq!(compensated(run.await).0, ["a"]);
}

/// What was undone by then is stored, and the rest is left to whoever comes next.
#[actix::test]
async fn without_draining_it_is_left_behind_the_attempt_in_flight() {
    let clock = virtual_time().await;
    for disk in Disk::each() {
        let kit = Kit::default();
        let slow = Step::named("c").uses("do").compensate_named("slow");
        let (note, called) = (kit.called.clone(), kit.called.clone());
        let registry = || {
            let note = note.clone();
            kit.registry().register("slow", move || {
                let note = note.clone();
                async move {
                    note.note("slow");
                    tokio::time::sleep(SECOND).await;
                }
            })
        };
        let steps = || plan([undone("a"), slow.clone(), Step::named("last").uses("fail")]);
        let actors = live(disk.open().await, &clock, registry(), 0.5);
        let run = submit(&actors, steps()).await;
        noted(&called, "slow").await;
        let report = actors.orchestrator.send(Shutdown::now()).await.unwrap();
        assert_eq!((report.interrupted, report.cancelled), (1, 0));
        assert!(matches!(run.await, Err(PlanError::Interrupted { .. })));
        bury(actors).await;
        let actors = live(disk.open().await, &clock, registry(), 0.5);
        assert_eq!(compensated(execute(&actors, steps()).await).0, ["c", "a"]);
        assert_eq!(kit.calls(), "do a, do c, slow, undo a 1");
        bury(actors).await;
    }
}

/// In the line, too: it accepts nothing there, and is left there.
#[actix::test]
async fn a_run_that_waits_to_be_undone_is_left_in_the_line() {
    let clock = virtual_time().await;
    for disk in Disk::each() {
        let kit = Kit::hanging("a");
        let life = async |plans| {
            let memory = ProjectMemory::with_store(disk.open().await).clock(clock.clone()).start();
            let bus = EventBus::new().start();
            let orchestrator =
                ExecutionOrchestrator::new(bus.clone(), memory.clone(), kit.registry().start());
            let orchestrator = orchestrator.clock(clock.clone()).max_concurrent_plans(plans).start();
            Actors { orchestrator, bus, memory }
        };
        let of = |id: &str| ExecutePlan::new([undone("a"), Step::named("last").uses("fail")]).run_id(id);
        let actors = life(2).await;
        for id in ["r", "s"] {
            submit(&actors, of(id)).await;
            reaches(&actors, id, RunState::Compensating).await;
        }
        patiently("both", async || kit.keys.all().len() == 2).await;
        bury(actors).await;
        // One of them has the only slot.
        let actors = life(1).await;
        let waits = submit(&actors, of("s")).await;
        patiently("the first", async || kit.keys.all().len() == 3).await;
        let info = status(&actors, "s").await;
        assert_eq!(
            (info.state, info.position, info.undoing.unwrap().attempt),
            (RunState::Compensating, Some(0), 1)
        );
        assert_eq!(cancel(&actors, "s").await, CancelOutcome::Compensating);
        let paused = actors.orchestrator.send(PausePlan(run_id("s"))).await.unwrap().unwrap();
        assert_eq!(paused, PauseOutcome::Compensating);
        let resumed = actors.orchestrator.send(ResumePlan(run_id("s"))).await.unwrap().unwrap();
        assert_eq!(resumed, ResumeOutcome::NotPaused(RunState::Compensating));
        let retried = actors.orchestrator.send(RetryNow(run_id("s"))).await.unwrap().unwrap();
        assert_eq!(retried, RetryOutcome::NotWaiting(RunState::Compensating));
        let report = actors.orchestrator.send(Shutdown::now()).await.unwrap();
        assert_eq!(report.interrupted, 2);
        let left = waits.await.unwrap_err().to_string();
        assert!(
            left.ends_with("while it was compensating; it goes on from there when it is taken up again"),
            "{left}"
        );
        bury(actors).await;
        *kit.hangs.lock().unwrap() = None;
        let actors = life(1).await;
        for id in ["r", "s"] {
            reaches(&actors, id, RunState::Compensated).await;
        }
        bury(actors).await;
    }
}

/// What its input is made of may be gone.
#[cfg(feature = "expressions")]
#[actix::test]
async fn an_input_that_cannot_be_made_any_more_is_a_failure_to_undo() {
    let clock = virtual_time().await;
    let (bus, memory) = (EventBus::new().start(), ProjectMemory::in_memory().clock(clock.clone()).start());
    let there = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let seen = Arc::clone(&there);
    let read = move |_: &str| seen.load(std::sync::atomic::Ordering::SeqCst).then(|| "seat".to_owned());
    let orchestrator = ExecutionOrchestrator::new(bus.clone(), memory.clone(), SimpleAllocator.start());
    let orchestrator = orchestrator.clock(clock).environment(read).start();
    let actors = Actors { orchestrator, bus, memory };
    let ends = Step::new("ends", move || {
        there.store(false, std::sync::atomic::Ordering::SeqCst);
        Err::<(), _>(StepError::from("no"))
    });
    let (first, second) = (Step::new("a", || ()).compensate(|| ()), Step::new("b", || ()).compensate(|| ()));
    let steps = [first, second.with("${{ env.SEAT }}"), ends];
    let (undone, not_undone, _) = compensated(execute(&actors, plan(steps)).await);
    assert_eq!((undone, not_undone.len()), (vec!["a".to_owned()], 1));
    assert!(not_undone[0].contains("SEAT"), "{not_undone:?}");
}

#[actix::test]
async fn what_it_stages_may_be_refused() {
    let memory = ProjectMemory::in_memory().access_check(|access: &Access| access.key != "secret");
    let actors = start_over(memory);
    let step = Step::new("a", || ()).compensate(|ctx: StepContext| ctx.put_artifact("secret", "x"));
    let other = Step::new("b", || ()).compensate(|ctx: StepContext| ctx.put_artifact("open", "x"));
    let (undone, not_undone, _) = compensated(execute(&actors, plan([step, other, fails()])).await);
    let why = r#""a" (write access to "secret" in default/default is denied)"#;
    assert_eq!((undone, not_undone), (vec!["b".to_owned()], vec![why.to_owned()]));
    assert_eq!(record(&actors).await.undoing.unwrap().failed[0].failure.kind, FailureKind::Artifact);
    let open = actors.memory.send(Get::latest("open")).await.unwrap().unwrap().unwrap();
    assert_eq!(open.meta["step_id"], "b");
}

#[actix::test]
async fn as_many_steps_can_be_undone_as_a_commit_can_tell_of() {
    let actors = life().await;
    let steps = |number| Plan::new((0..number).map(|_| Step::unnamed(|| ()).compensate(|| ())));
    execute(&actors, plan(steps(MAX_COMPENSATIONS))).await.unwrap();
    let refused = execute(&actors, plan(steps(MAX_COMPENSATIONS + 1))).await.unwrap_err();
    let problem = InvalidPlan::TooManyCompensations { steps: MAX_COMPENSATIONS + 1 };
    assert!(matches!(&refused, PlanError::Invalid(invalid) if *invalid == problem), "{refused:?}");
    assert_eq!(refused.to_string(), "1001 steps of the plan have a compensation, more than 1000; split it");
}
