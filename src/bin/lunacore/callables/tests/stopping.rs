use std::time::{Duration, Instant};

use lunacore::*;

use super::support::{BEAT, World, beats, is_still, is_there, read};
use crate::callables::group::{Group, Record};
use crate::callables::limits::GRACE;

/// A script of which a child's child beats.
fn deep(before: &str) -> String {
    format!("{before} (sh -c '{before} {BEAT}' & wait) & wait")
}

#[actix::test]
async fn a_timeout_ends_the_whole_group() {
    let world = World::new();
    let step = world.script(&deep("")).timeout(Duration::from_millis(700));
    let failed = world.run(step).await.unwrap_err();
    assert_eq!(failed.kind, FailureKind::Timeout);
    is_still(&world.path("beat")).await;
}

#[actix::test]
async fn cancelling_ends_the_whole_group() {
    // The second calls it a success, which it is not.
    for (script, tells) in [(deep(""), false), (format!("trap 'touch told; exit 0' TERM; {BEAT}"), true)] {
        let world = World::new();
        let run = world.engine.submit([world.script(&script)]).await.unwrap();
        beats(&world.path("beat")).await;
        world.engine.cancel(run.run_id()).await.unwrap();
        assert!(matches!(run.await, Err(PlanError::Cancelled { .. })));
        assert_eq!(world.path("told").exists(), tells, "it was told to stop, and not killed at once");
        is_still(&world.path("beat")).await;
    }
}

#[actix::test]
async fn what_does_not_listen_is_killed_after_the_grace() {
    for script in [
        // All of it.
        deep("trap \"\" TERM;"),
        // Only what the first process leaves behind.
        format!("(trap '' TERM; {BEAT}) & wait"),
    ] {
        let world = World::new();
        let run = world.engine.submit([world.script(&script)]).await.unwrap();
        beats(&world.path("beat")).await;
        let began = Instant::now();
        world.engine.cancel(run.run_id()).await.unwrap();
        assert!(matches!(run.await, Err(PlanError::Cancelled { .. })));
        assert!(began.elapsed() >= GRACE, "it had time to do what it had to");
        is_still(&world.path("beat")).await;
    }
}

#[actix::test]
async fn a_retry_after_a_timeout_overlaps_with_nothing() {
    let world = World::new();
    // At the end it needs some time, in which the next attempt must not have started.
    let script = "mkdir lock || { echo overlap >> log; exit 9; }; echo start >> log; \
        trap 'sleep 0.4; rmdir lock; echo end >> log; exit 1' TERM; while :; do sleep 0.01; done";
    let retry = Retry::fixed(Duration::ZERO).max_attempts(3).on_timeout(true);
    let step = world.script(script).timeout(Duration::from_millis(700)).retry(retry);
    assert_eq!(world.run(step).await.unwrap_err().kind, FailureKind::Timeout);
    assert_eq!(read(&world.path("log")), "start\nend\n".repeat(3));
}

#[actix::test]
async fn an_orderly_shutdown_leaves_nothing_running() {
    let world = World::new();
    let run = world.engine.submit([world.script(&deep(""))]).await.unwrap();
    beats(&world.path("beat")).await;
    let report = world.engine.shutdown(Shutdown::now()).await;
    assert_eq!((report.cancelled, report.interrupted), (1, 0));
    assert!(matches!(run.await, Err(PlanError::Cancelled { .. })));
    is_still(&world.path("beat")).await;
}

#[actix::test]
async fn a_command_that_ends_at_once_leaves_nothing_running_and_starts_nothing() {
    let world = World::new();
    let script = deep("trap \"\" TERM;");
    let run = world.engine.submit([world.script(&script)]).await.unwrap();
    beats(&world.path("beat")).await;
    world.ledger.kill_all();
    is_still(&world.path("beat")).await;
    let Err(PlanError::StepFailed { source, .. }) = run.await else { panic!("it was killed") };
    assert_eq!(source.to_string(), "the script was ended by signal 9 (SIGKILL); it wrote nothing to stderr");
    let failed = world.run(world.script("touch more")).await.unwrap_err();
    assert_eq!(failed.message, "the command is ending");
    assert!(!world.path("more").exists());
}

/// Starts a group for each call, whose gate nobody opens; the first is dropped after a while, by another thread.
fn two_groups(ledger: &crate::callables::Ledger, ctx: &StepContext) -> [String; 2] {
    let start = || Group::start(Group::gated(["/bin/true"]), Record::of(ctx), ledger).unwrap();
    let first = start();
    let pid = first.child.id().to_string();
    let told = pid.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        assert!(is_there(&told));
        drop(first);
    });
    let began = Instant::now();
    let second = start();
    assert!(began.elapsed() >= Duration::from_millis(300), "two groups of one step at a time");
    assert!(!is_there(&pid), "it was dropped, and so ended and waited for");
    [pid, second.child.id().to_string()]
}

#[actix::test]
async fn a_group_that_is_dropped_is_ended_and_the_next_of_its_step_waits_for_that() {
    let world = World::new();
    let ledger = world.ledger.clone();
    let step = Step::new("step", move |ctx: StepContext| two_groups(&ledger, &ctx).to_vec());
    let pids: Vec<String> = serde_json::from_value(world.run(step).await.unwrap()).unwrap();
    assert!(pids.iter().all(|pid| !is_there(pid)));
}
