//! Promise 10: a step that panics, wherever it does, fails its own plan only.

use lunacore::{ExecutePlan, FailureKind, PlanError, Step, StepPanic};

use crate::support::{start, until, watch};

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("in drop");
        }
    }
}

fn never(message: &str) {
    panic!("{message}");
}

/// A payload that panics again when it is dropped.
fn throw() {
    std::panic::panic_any(Bomb);
}

fn in_construction() -> std::future::Ready<()> {
    panic!("in construction")
}

fn bombs() -> Vec<(&'static str, Step)> {
    vec![
        ("in construction", Step::new("bomb", in_construction)),
        ("in poll", Step::new("bomb", || async { never("in poll") })),
        (
            "in a later poll",
            Step::new("bomb", || async {
                tokio::task::yield_now().await;
                never("in a later poll");
            }),
        ),
        (
            "in drop",
            Step::new("bomb", || async {
                let _bomb = Bomb;
                tokio::task::yield_now().await;
            }),
        ),
        (
            "in drop",
            Step::new("bomb", || {
                let bomb = Bomb;
                std::future::poll_fn(move |_| {
                    let _held = &bomb;
                    std::task::Poll::Ready(())
                })
            }),
        ),
        ("on the blocking pool", Step::new("bomb", || never("on the blocking pool"))),
        ("inline", Step::new("bomb", || never("inline")).inline()),
        ("a panic without a text message", Step::new("bomb", || async { throw() })),
        ("a panic without a text message", Step::new("bomb", throw)),
    ]
}

#[actix::test]
async fn a_panic_anywhere_fails_its_plan_with_its_message_and_the_next_plan_runs() {
    let actors = start();
    for (message, bomb) in bombs() {
        let mut events = watch(&actors.bus).await;
        let steps = vec![Step::new("before", || 1), bomb, Step::new("never", || 2)];
        match actors.orchestrator.send(ExecutePlan::new(steps)).await.unwrap() {
            Err(PlanError::StepFailed { step_id, kind, completed, source, .. }) => {
                assert_eq!((&*step_id, kind, completed), ("bomb", FailureKind::Panic, vec![1.into()]));
                assert_eq!(source.downcast_ref::<StepPanic>().unwrap().message, message);
                assert_eq!(source.to_string(), format!("panicked: {message}"));
            }
            other => panic!("{message}: {other:?}"),
        }
        let failed = until(&mut events, "task.failed").await.pop().unwrap();
        assert_eq!(failed.get("error"), Some(format!("panicked: {message}").into()));
        assert_eq!(failed.get("kind"), Some("panic".into()));
        let next = actors.orchestrator.send(ExecutePlan::new([Step::new("ok", || "fine")]));
        assert_eq!(next.await.unwrap().unwrap(), ["fine"]);
    }
    assert!(actors.orchestrator.connected() && actors.memory.connected() && actors.bus.connected());
}

#[actix::test]
async fn a_cancelled_future_that_panics_in_its_drop_is_still_cancelled() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let step = Step::new("bomb", || async {
        let _bomb = Bomb;
        std::future::pending::<()>().await;
    });
    let run = actors.orchestrator.send(ExecutePlan::new([step]).run_id("a"));
    let run = actix::spawn(run);
    until(&mut events, "task.started").await;
    let cancel = lunacore::CancelPlan(crate::support::run_id("a"));
    let outcome = actors.orchestrator.send(cancel).await.unwrap().unwrap();
    assert_eq!(outcome, lunacore::CancelOutcome::Cancelled);
    assert!(matches!(run.await.unwrap().unwrap(), Err(PlanError::Cancelled { .. })));
    assert!(actors.orchestrator.send(ExecutePlan::new([])).await.unwrap().is_ok());
}

#[actix::test]
async fn a_callable_that_panics_when_it_is_let_go_harms_nobody() {
    let actors = start();
    // Its run is the last to hold it: completed, cancelled in the queue, and refused.
    let carries = || {
        let bomb = Bomb;
        Step::new("carries", move || {
            let _held = &bomb;
        })
    };
    assert!(actors.orchestrator.send(ExecutePlan::new([carries()])).await.unwrap().is_ok());
    let refused = [carries(), Step::named("nobody knows it")];
    assert!(actors.orchestrator.send(ExecutePlan::new(refused)).await.unwrap().is_err());
    let running = actors
        .orchestrator
        .send(ExecutePlan::new([Step::new("wait", std::future::pending::<()>)]).run_id("a"));
    let queued = actors.orchestrator.send(ExecutePlan::new([carries()]).run_id("b"));
    for id in ["b", "a"] {
        let cancel = lunacore::CancelPlan(crate::support::run_id(id));
        assert_eq!(
            actors.orchestrator.send(cancel).await.unwrap().unwrap(),
            lunacore::CancelOutcome::Cancelled
        );
    }
    assert!(running.await.unwrap().is_err() && queued.await.unwrap().is_err());
    assert!(actors.orchestrator.send(ExecutePlan::new([])).await.unwrap().is_ok());
}

#[actix::test]
async fn a_value_that_panics_while_it_is_read_fails_the_step_that_reads_it() {
    #[derive(Debug)]
    struct Picky;
    impl<'de> serde::Deserialize<'de> for Picky {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            panic!("while reading")
        }
    }
    let actors = start();
    let steps = [
        Step::new("write", || "x"),
        Step::new("read", |ctx: lunacore::StepContext| ctx.output::<Picky>("write").map(|_| ())),
        Step::new("never", || ()),
    ];
    let error = actors.orchestrator.send(ExecutePlan::new(steps)).await.unwrap().unwrap_err();
    assert!(matches!(error, PlanError::StepFailed { index: 1, kind: FailureKind::Panic, .. }), "{error:?}");
}

#[derive(Debug)]
struct Explosive {
    shown: bool,
}

impl std::fmt::Display for Explosive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        assert!(self.shown, "in display");
        f.write_str("explosive")
    }
}

impl std::error::Error for Explosive {}

impl Drop for Explosive {
    fn drop(&mut self) {
        if self.shown && !std::thread::panicking() {
            panic!("an error in drop");
        }
    }
}

#[actix::test]
async fn an_error_that_panics_when_it_is_let_go_harms_nobody() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    // Nobody waits for the answer, so that the last to hold the error is an actor.
    let step = Step::new("fail", || Err::<(), _>(Explosive { shown: true }));
    drop(actors.orchestrator.send(lunacore::SubmitPlan(ExecutePlan::new([step]))).await.unwrap().unwrap());
    until(&mut events, "plan.failed").await;
    for _ in 0..10 {
        assert!(actors.orchestrator.send(ExecutePlan::new([])).await.unwrap().is_ok());
    }
}

#[actix::test]
async fn an_error_whose_message_panics_still_fails_its_plan() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let step = Step::new("fail", || Err::<(), _>(Explosive { shown: false }));
    let error = actors.orchestrator.send(ExecutePlan::new([step])).await.unwrap().unwrap_err();
    assert!(matches!(error, PlanError::StepFailed { index: 0, .. }));
    let failed = until(&mut events, "task.failed").await.pop().unwrap();
    let text = "the error could not be shown, for its message panicked: in display";
    assert_eq!(failed.get("error"), Some(text.into()));
}
