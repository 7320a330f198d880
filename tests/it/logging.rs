//! What the crate logs, and what it never logs.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::{Arc, Mutex, Once, Weak};
use std::thread::ThreadId;
use std::time::Duration;

use actix::prelude::*;
use log::{Level, LevelFilter, Log, Metadata, Record};
use lunacore::limits::PUBLISH_BACKLOG;
use lunacore::{
    Attach, CancelOutcome, CancelPlan, Emit, Event, ExecutePlan, ExecutionOrchestrator, Flush, Get,
    PlanError, ProjectMemory, Publish, Put, SimpleAllocator, Step, StepContext, SubmitPlan, Subscribe,
};
use serde_json::json;
use tokio::sync::Notify;

use super::support::{Actors, run_id, start, watch};

/// One record, as a logger sees it.
#[derive(Debug, Clone)]
pub struct Line {
    pub level: Level,
    pub target: String,
    module: String,
    pub text: String,
    pub fields: BTreeMap<String, String>,
}

impl Line {
    fn is_ours(&self) -> bool {
        [&self.target, &self.module].iter().any(|name| *name == "lunacore" || name.starts_with("lunacore::"))
    }
}

/// What is logged while this is kept: by this test's thread, on which its actors run, and whatever mentions `needle`, for
/// the threads of the blocking pool.
pub struct Capture {
    thread: ThreadId,
    needle: String,
    lines: Mutex<Vec<Line>>,
}

/// Tests run side by side, so there is one logger, which hands each record to the captures that it concerns.
static CAPTURES: Mutex<Vec<Weak<Capture>>> = Mutex::new(Vec::new());

struct Captures;

impl Log for Captures {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let captures: Vec<Arc<Capture>> = CAPTURES.lock().unwrap().iter().filter_map(Weak::upgrade).collect();
        if captures.is_empty() {
            return;
        }
        let mut fields = Fields(BTreeMap::new());
        record.key_values().visit(&mut fields).unwrap();
        let line = Line {
            level: record.level(),
            target: record.target().to_owned(),
            module: record.module_path().unwrap_or_default().to_owned(),
            text: record.args().to_string(),
            fields: fields.0,
        };
        let whole = format!("{line:?}");
        for capture in captures {
            if capture.thread == std::thread::current().id() || whole.contains(&capture.needle) {
                capture.lines.lock().unwrap().push(line.clone());
            }
        }
    }

    fn flush(&self) {}
}

struct Fields(BTreeMap<String, String>);

impl<'kvs> log::kv::VisitSource<'kvs> for Fields {
    fn visit_pair(
        &mut self,
        key: log::kv::Key<'kvs>,
        value: log::kv::Value<'kvs>,
    ) -> Result<(), log::kv::Error> {
        self.0.insert(key.to_string(), value.to_string());
        Ok(())
    }
}

impl Capture {
    pub fn start(needle: &str) -> Arc<Self> {
        static INSTALL: Once = Once::new();
        INSTALL.call_once(|| {
            log::set_logger(&Captures).expect("no other test installs a logger");
            log::set_max_level(LevelFilter::Trace);
        });
        let thread = std::thread::current().id();
        let capture = Arc::new(Self { thread, needle: needle.to_owned(), lines: Mutex::default() });
        CAPTURES.lock().unwrap().push(Arc::downgrade(&capture));
        capture
    }

    fn lines(&self) -> Vec<Line> {
        self.lines.lock().unwrap().clone()
    }

    /// What the crate has logged at this level or a more severe one.
    pub fn ours(&self, at_least: Level) -> Vec<Line> {
        self.lines().into_iter().filter(|line| line.is_ours() && line.level <= at_least).collect()
    }

    /// The same in short.
    pub fn said(&self, at_least: Level) -> Vec<String> {
        self.ours(at_least).iter().map(|line| format!("{}: {}", line.target, line.text)).collect()
    }
}

async fn execute(actors: &Actors, plan: ExecutePlan) -> Result<Vec<serde_json::Value>, PlanError> {
    actors.orchestrator.send(plan).await.unwrap()
}

/// Lets everything on this thread go on until it waits for something else.
async fn let_others_run() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

async fn flush(actors: &Actors) {
    actors.bus.send(Flush::within(Duration::from_secs(20))).await.unwrap().unwrap();
}

#[actix::test]
async fn a_program_that_goes_well_says_nothing_at_info() {
    let log = Capture::start("quiet-run");
    let actors = start();
    actors.bus.send(Subscribe::new("*", |_: Event| ())).await.unwrap().unwrap();
    let mut events = watch(&actors.bus).await;
    let second = |ctx: StepContext| async move {
        ctx.progress(json!(1)).map_err(|error| error.to_string())?;
        ctx.put_artifact("more", "data").map_err(|error| error.to_string())
    };
    let steps = [Step::new("a", || 1), Step::new("b", second), Step::new("c", || 3).inline()];
    execute(&actors, ExecutePlan::new(steps).run_id("quiet-run-1")).await.unwrap();
    // Nobody waits for this one.
    let plan = ExecutePlan::new([Step::new("a", || 1)]).run_id("quiet-run-2");
    drop(actors.orchestrator.send(SubmitPlan(plan)).await.unwrap().unwrap());
    actors.bus.send(Emit(Event::custom("app.done", json!({})))).await.unwrap().unwrap();
    let ends_second = |event: Event| event.ends_run() && event.run_id() == Some(&run_id("quiet-run-2"));
    while !ends_second(events.next().await.unwrap()) {}
    let shutdown = lunacore::Shutdown { drain: true, timeout: Duration::from_secs(20) };
    actors.orchestrator.send(shutdown).await.unwrap();
    flush(&actors).await;
    assert_eq!(log.said(Level::Info), [""; 0]);
    assert!(!log.ours(Level::Debug).is_empty(), "the logger works");
}

#[actix::test]
async fn an_attempt_is_logged_at_debug_with_its_run_step_attempt_and_duration() {
    let log = Capture::start("attempts-run");
    let actors = start();
    let steps =
        [Step::new("a", || 1), Step::new("b", || async { 2 }), Step::new("c", || Err::<(), _>("broken"))];
    execute(&actors, ExecutePlan::new(steps).run_id("attempts-run")).await.unwrap_err();
    let of_run = |line: &Line| line.fields.get("run_id").is_some_and(|run_id| run_id == "attempts-run");
    let attempts: Vec<Line> = log.ours(Level::Trace).into_iter().filter(of_run).collect();
    let told: Vec<_> = attempts
        .iter()
        .map(|line| (line.level, line.fields["step_id"].as_str(), line.fields["attempt"].as_str()))
        .collect();
    assert_eq!(told, [(Level::Debug, "a", "1"), (Level::Debug, "b", "1"), (Level::Debug, "c", "1")]);
    for line in &attempts {
        assert!(humantime::parse_duration(&line.fields["duration"]).unwrap() > Duration::ZERO);
    }
}

#[actix::test]
async fn results_and_inputs_are_never_logged() {
    const CANARY: &str = "canary-7f3a";
    let log = Capture::start(CANARY);
    let actors = start();
    let failing = |_: Event| async { Err("a subscriber's own words") };
    actors.bus.send(Subscribe::new("*", failing)).await.unwrap().unwrap();
    let sing = |ctx: StepContext| {
        ctx.progress(json!({ "song": CANARY })).map_err(|error| error.to_string())?;
        ctx.put_artifact("song", CANARY).map_err(|error| error.to_string())?;
        ctx.input::<String>().map_err(|error| error.to_string())
    };
    let cage = || Step::new("cage", sing).input(json!(CANARY)).attr("bird", json!(CANARY));
    let misread = Step::new("misread", |ctx: StepContext| ctx.output::<u32>("cage"));
    execute(&actors, ExecutePlan::new([cage()])).await.unwrap();
    execute(&actors, ExecutePlan::new([cage(), misread])).await.unwrap_err();
    // Cancelled while it runs, with nobody to tell.
    let plan = ExecutePlan::new([cage(), Step::new("wait", pending::<()>)]).run_id("caged");
    drop(actors.orchestrator.send(SubmitPlan(plan)).await.unwrap().unwrap());
    actors.orchestrator.send(CancelPlan(run_id("caged"))).await.unwrap().unwrap();
    // Failed, with nobody to tell.
    let plan = ExecutePlan::new([Step::new("fail", || async { Err::<(), _>("broken") })]);
    drop(actors.orchestrator.send(SubmitPlan(plan)).await.unwrap().unwrap());
    actors.bus.send(Emit(Event::custom("bird.sang", json!(CANARY)))).await.unwrap().unwrap();
    actors.memory.send(Put::new("song", CANARY).meta("bird", json!(CANARY))).await.unwrap().unwrap();
    let song = actors.memory.send(Get::latest("song")).await.unwrap().unwrap().unwrap();
    flush(&actors).await;

    assert_eq!(song.text(), Some(CANARY));
    let lines = log.lines();
    assert!(lines.iter().any(|line| line.level == Level::Debug && line.is_ours()));
    assert!(lines.iter().any(|line| line.level == Level::Warn && line.is_ours()));
    let leaks: Vec<&Line> = lines.iter().filter(|line| format!("{line:?}").contains(CANARY)).collect();
    assert!(leaks.is_empty(), "{leaks:#?}");
}

/// Whether this is the last event of `logged_failures`, at which subscribers do not fail.
fn is_last(event: &Event) -> bool {
    event.get("data") == Some(json!("last"))
}

/// What is logged when the subscriber of this pattern gets so many events that it fails at.
async fn logged_failures<M>(
    pattern: &str,
    events: usize,
    failing: impl lunacore::IntoSubscriber<M>,
) -> Vec<Line> {
    let log = Capture::start(pattern);
    let actors = start();
    actors.bus.send(Subscribe::new(pattern, failing)).await.unwrap().unwrap();
    // When the last event is handled, all has been said of those before it.
    for payload in std::iter::repeat_n(json!("bad"), events).chain([json!("last")]) {
        actors.bus.send(Emit(Event::custom("app.tick", payload))).await.unwrap().unwrap();
    }
    flush(&actors).await;
    log.ours(Level::Trace)
}

fn assert_warns(lines: &[Line], pattern: &str, why: &str) {
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((lines[0].level, lines[0].target.as_str()), (Level::Warn, "lunacore::bus"));
    assert_eq!(lines[0].fields["pattern"], pattern);
    assert!(lines[0].text.contains(why), "{}", lines[0].text);
}

#[actix::test]
async fn a_subscriber_that_does_not_fail_is_not_logged() {
    assert_eq!(logged_failures("app.tic[k]", 3, |_: Event| ()).await.len(), 0);
}

#[actix::test]
async fn a_subscriber_that_returns_an_error_is_a_warning_with_its_pattern() {
    let failing = |event: Event| if is_last(&event) { Ok(()) } else { Err("no room") };
    assert_warns(&logged_failures("app.ti[c]k", 1, failing).await, "app.ti[c]k", "failed: no room");
}

#[actix::test]
async fn an_async_subscriber_that_returns_an_error_is_a_warning_with_its_pattern() {
    let failing = |event: Event| async move { if is_last(&event) { Ok(()) } else { Err("no room") } };
    assert_warns(&logged_failures("app.t[i]ck", 1, failing).await, "app.t[i]ck", "failed: no room");
}

#[actix::test]
async fn a_subscriber_that_panics_is_a_warning_with_its_pattern() {
    let failing = |event: Event| assert!(is_last(&event), "no luck");
    assert_warns(&logged_failures("app.[t]ick", 1, failing).await, "app.[t]ick", "panicked: no luck");
}

#[actix::test]
async fn an_async_subscriber_that_panics_is_a_warning_with_its_pattern() {
    let failing = |event: Event| async move {
        tokio::task::yield_now().await;
        assert!(is_last(&event), "no luck");
    };
    assert_warns(&logged_failures("app[.]tick", 1, failing).await, "app[.]tick", "panicked: no luck");
}

#[actix::test]
async fn an_actor_that_panics_is_a_warning_with_its_pattern() {
    struct Fragile;
    impl Actor for Fragile {
        type Context = Context<Self>;
    }
    impl Handler<Event> for Fragile {
        type Result = ();
        fn handle(&mut self, _: Event, _: &mut Self::Context) {
            panic!("no luck");
        }
    }
    assert_warns(&logged_failures("ap[p].tick", 1, Fragile.start()).await, "ap[p].tick", "");
}

#[actix::test]
async fn a_subscriber_that_fails_again_and_again_does_not_fill_the_log() {
    let failing = |event: Event| if is_last(&event) { Ok(()) } else { Err("no room") };
    let lines = logged_failures("a[p]p.tick", 100, failing).await;
    let failures: Vec<&str> = lines.iter().map(|line| line.fields["failures"].as_str()).collect();
    assert_eq!(failures, ["1", "2", "4", "8", "16", "32", "64"]);
}

/// Runs a plan that fails once its handle has been dropped.
async fn fails_with_nobody_waiting(actors: &Actors, run: &str) {
    let mut events = watch(&actors.bus).await;
    let dropped = Arc::new(Notify::new());
    let wait = Arc::clone(&dropped);
    let fail = move || {
        let wait = Arc::clone(&wait);
        async move {
            wait.notified().await;
            Err::<(), _>("broken")
        }
    };
    let plan = ExecutePlan::new([Step::new("a", fail)]).run_id(run);
    drop(actors.orchestrator.send(SubmitPlan(plan)).await.unwrap().unwrap());
    dropped.notify_one();
    while events.next().await.unwrap().event_type() != "plan.failed" {}
    let_others_run().await;
}

#[actix::test]
async fn a_failure_that_nobody_waits_for_is_a_warning() {
    let log = Capture::start("orphan-run");
    let actors = start();
    fails_with_nobody_waiting(&actors, "orphan-run").await;
    actors.orchestrator.send(lunacore::Shutdown { drain: true, timeout: Duration::ZERO }).await.unwrap();
    let lines = log.ours(Level::Info);
    assert_eq!(lines.iter().map(|line| line.level).collect::<Vec<_>>(), [Level::Warn]);
    assert!(lines[0].text.contains("orphan-run"), "{}", lines[0].text);
}

#[actix::test]
async fn cancelling_a_run_that_nobody_waits_for_is_no_warning() {
    let log = Capture::start("cancelled-run");
    let actors = start();
    let plan = ExecutePlan::new([Step::new("a", pending::<()>)]).run_id("cancelled-run");
    drop(actors.orchestrator.send(SubmitPlan(plan)).await.unwrap().unwrap());
    let cancelled = actors.orchestrator.send(CancelPlan(run_id("cancelled-run"))).await.unwrap().unwrap();
    assert_eq!(cancelled, CancelOutcome::Cancelled);
    assert_eq!(log.said(Level::Info), [""; 0]);
}

/// A bus that never gets round to what it is told: the messages keep their places until the test takes one away.
struct Behind(Arc<Mutex<Vec<Publish>>>);

impl Actor for Behind {
    type Context = Context<Self>;
}

impl Handler<Publish> for Behind {
    type Result = ();

    fn handle(&mut self, publish: Publish, _: &mut Self::Context) {
        self.0.lock().unwrap().push(publish);
    }
}

#[actix::test]
async fn a_bus_that_falls_far_behind_is_a_warning() {
    let log = Capture::start("behind-run");
    let (actors, kept) = (start(), Arc::default());
    let behind = Behind(Arc::clone(&kept)).start();
    actors.memory.send(Attach(behind.recipient())).await.unwrap();
    // One place is taken by the introduction.
    let steps = |count: usize| {
        ExecutePlan::new((0..count).map(|_| Step::unnamed(|| ()).inline()).collect::<Vec<_>>())
    };
    execute(&actors, steps(PUBLISH_BACKLOG - 2)).await.unwrap();
    assert_eq!(log.said(Level::Info), [""; 0]);
    execute(&actors, steps(3)).await.unwrap();
    assert_eq!(kept.lock().unwrap().len(), PUBLISH_BACKLOG);
    let lines = log.ours(Level::Info);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((lines[0].level, lines[0].target.as_str()), (Level::Warn, "lunacore::memory"));
}

#[actix::test]
async fn a_bus_that_stays_far_behind_does_not_fill_the_log() {
    let log = Capture::start("behind-again-run");
    let (actors, kept) = (start(), Arc::default());
    let behind = Behind(Arc::clone(&kept)).start();
    actors.memory.send(Attach(behind.recipient())).await.unwrap();
    let steps = (0..PUBLISH_BACKLOG).map(|_| Step::unnamed(|| ()).inline()).collect::<Vec<_>>();
    execute(&actors, ExecutePlan::new(steps)).await.unwrap();
    for _ in 0..100 {
        kept.lock().unwrap().pop();
        // One commit finds the place that is free, the other none.
        execute(&actors, ExecutePlan::new([])).await.unwrap();
        execute(&actors, ExecutePlan::new([])).await.unwrap();
    }
    let warnings = log.ours(Level::Info).len();
    assert!(warnings <= 10, "{warnings} warnings");
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("bomb");
        }
    }
}

/// An attempt, a dropped step that panics, a failure that nobody waits for, a subscriber that fails, an access check
/// that panics.
#[actix::test]
async fn everything_is_logged_under_targets_of_the_crate() {
    let log = Capture::start("targets-run");
    let actors = start();
    actors.bus.send(Subscribe::new("*", |_: Event| async { Err("no room") })).await.unwrap().unwrap();
    let wait = || {
        let bomb = Bomb;
        async move {
            let _bomb = bomb;
            pending::<()>().await;
        }
    };
    let plan = ExecutePlan::new([Step::new("a", || 1).inline(), Step::new("b", wait)]).run_id("targets-run");
    let mut events = watch(&actors.bus).await;
    drop(actors.orchestrator.send(SubmitPlan(plan)).await.unwrap().unwrap());
    while events.next().await.unwrap().task_id() != Some("b") {}
    actors.orchestrator.send(CancelPlan(run_id("targets-run"))).await.unwrap().unwrap();
    fails_with_nobody_waiting(&actors, "targets-run-2").await;
    let guarded = ProjectMemory::in_memory().access_check(|_| panic!("no idea")).start();
    let orchestrator =
        ExecutionOrchestrator::new(actors.bus.clone(), guarded, SimpleAllocator.start()).start();
    orchestrator.send(ExecutePlan::new([Step::new("a", || 1)])).await.unwrap().unwrap_err();
    flush(&actors).await;

    let ours: Vec<Line> = log.lines().into_iter().filter(Line::is_ours).collect();
    assert!(ours.iter().all(|line| line.target.starts_with("lunacore::")), "{ours:#?}");
    let targets: BTreeSet<&str> = ours.iter().map(|line| line.target.as_str()).collect();
    assert_eq!(
        targets,
        ["lunacore::bus", "lunacore::memory", "lunacore::orchestrator", "lunacore::run"].into()
    );
}
