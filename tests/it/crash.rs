//! kill -9: a child process runs plans on a store, and is killed at random moments, again and again.
//!
//! One log outside the store, to which every process appends whole lines, says what really happened and in which order:
//! what the steps did to the world (`effect`), and what was acknowledged (`accepted`, `completed`, `done`). In the end it is
//! held against the store.

#![allow(clippy::print_stdout, reason = "a seed that fails is to be seen")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lunacore::*;
use serde_json::{Value, json};

const STEPS: usize = 6;

/// What every process of one test shares.
#[derive(Clone)]
struct World {
    dir: PathBuf,
    log: Arc<File>,
}

impl World {
    fn at(dir: &Path) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
        Self { dir: dir.to_owned(), log: Arc::new(log) }
    }

    /// One write, so that lines of several threads stay whole.
    fn note(&self, line: &str) {
        (&*self.log).write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn store(&self) -> PathBuf {
        self.dir.join("runs.db")
    }

    fn lines(&self) -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(self.dir.join("log")).unwrap();
        text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
    }

    fn engine(&self, concurrent: usize) -> Engine {
        let world = self.clone();
        let step = move |ctx: StepContext| {
            let world = world.clone();
            async move {
                let before: u64 = if ctx.index() == 0 { 0 } else { ctx.previous()? };
                world.note(&format!("effect {} {}", ctx.run_id(), ctx.step_id()));
                // Some steps take a while, so that kills fall into them and between them.
                if ctx.index() % 3 == 1 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                ctx.put_artifact(format!("notes/{}", ctx.step_id()), ctx.run_id().as_str())?;
                Ok::<_, StepError>(before + ctx.input::<u64>()?)
            }
        };
        Engine::builder()
            .memory(ProjectMemory::open(self.store()).unwrap())
            .allocator(RegistryAllocator::new().register("add", step))
            .max_concurrent_plans(concurrent)
            .start()
            .unwrap()
    }
}

fn plan(number: usize) -> ExecutePlan {
    let steps = (0..STEPS).map(|n| Step::named(format!("s{n}")).uses("add").input(json!(n + number)));
    ExecutePlan::new(steps.collect::<Vec<_>>()).run_id(format!("run-{number}"))
}

fn results(number: usize) -> Vec<Value> {
    (0..STEPS).map(|n| json!((0..=n).map(|n| n + number).sum::<usize>())).collect()
}

/// The life of a child: takes up what is unfinished, and submits plans for as long as it lives.
#[actix::test]
#[ignore = "run by the other tests of this file, as a process of its own"]
async fn child() {
    let Ok(dir) = std::env::var("LUNACORE_CRASH_DIR") else { return };
    let world = World::at(Path::new(&dir));
    let number = |name| std::env::var(name).unwrap().parse::<usize>().unwrap();
    let (concurrent, plans) = (number("LUNACORE_CRASH_CONCURRENT"), number("LUNACORE_CRASH_PLANS"));
    let engine = world.engine(concurrent);
    let told = world.clone();
    let note = move |event: Event| match event.kind() {
        EventKind::TaskCompleted { task_id, .. } => {
            told.note(&format!("completed {} {task_id}", event.run_id().unwrap()));
        }
        EventKind::PlanCompleted {} => told.note(&format!("done {}", event.run_id().unwrap())),
        _ => {}
    };
    engine.subscribe("*.completed", note).await.unwrap();
    world.note("life");
    let accepted = world.lines().into_iter().filter(|line| line[0] == "accepted").count();
    for number in accepted..plans {
        let handle = engine.submit(plan(number)).await.unwrap();
        world.note(&format!("accepted {}", handle.run_id()));
        // A few plans ahead of the one that runs.
        if number % 4 == 3 {
            let _ = handle.await;
        }
    }
    while !engine.memory().send(ListUnfinished::default()).await.unwrap().unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    engine.shutdown(Shutdown::drain(Duration::from_secs(30))).await;
    world.note("end");
}

fn spawn(world: &World, concurrent: usize, plans: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["crash::child", "--exact", "--ignored", "--nocapture"])
        .env("LUNACORE_CRASH_DIR", &world.dir)
        .env("LUNACORE_CRASH_CONCURRENT", concurrent.to_string())
        .env("LUNACORE_CRASH_PLANS", plans.to_string())
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Runs, as accepted, of which the log does not say that they are done.
fn open_runs(lines: &[Vec<String>]) -> BTreeSet<String> {
    let named =
        |what: &'static str| lines.iter().filter(move |line| line[0] == what).map(|line| line[1].clone());
    let done: BTreeSet<String> = named("done").collect();
    named("effect").filter(|run| !done.contains(run)).collect()
}

/// Kills children until there were `kills` of them, then lets one finish, and checks everything.
fn survive(seed: u64, concurrent: usize, kills: usize, in_mid_plan: usize) {
    println!("seed {seed}, {concurrent} plans at a time");
    let dir = tempfile::tempdir().unwrap();
    let world = World::at(dir.path());
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut killed, mut hit) = (0, 0);
    while killed < kills {
        let lives = world.lines().iter().filter(|line| line[0] == "life").count();
        let mut child = spawn(&world, concurrent, usize::MAX);
        // Half of them are killed from the moment at which they began to work, half from their very start.
        if random.bool() {
            while world.lines().iter().filter(|line| line[0] == "life").count() == lives {
                assert!(
                    child.try_wait().unwrap().is_none(),
                    "the child ended by itself: {:?}",
                    world.lines().last()
                );
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        std::thread::sleep(Duration::from_micros(random.u64(0..60_000)));
        assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
        hit += usize::from(!open_runs(&world.lines()).is_empty());
    }
    let accepted = world.lines().iter().filter(|line| line[0] == "accepted").count();
    assert!(spawn(&world, concurrent, accepted).wait().unwrap().success());
    assert_eq!(world.lines().last().unwrap(), &["end"]);
    assert!(hit >= in_mid_plan, "only {hit} of {killed} kills were in the middle of a plan");
    let steps = check(&world);
    println!("{killed} kills, {hit} in mid-plan, {accepted} plans, {steps} steps");
    assert!(accepted * STEPS >= kills, "too little work was done to prove anything");
}

/// Holds the log against the store. Answers how many steps were completed.
fn check(world: &World) -> usize {
    let lines = world.lines();
    // No step that was acknowledged is run again, and at most one is repeated per run and life.
    let (mut acknowledged, mut effects) = (BTreeSet::new(), BTreeMap::<_, usize>::new());
    let mut repeated = HashMap::<String, usize>::new();
    for line in &lines {
        match line[0].as_str() {
            "life" => repeated.clear(),
            "completed" => drop(acknowledged.insert((line[1].clone(), line[2].clone()))),
            "effect" => {
                let step = (line[1].clone(), line[2].clone());
                assert!(!acknowledged.contains(&step), "{step:?} was run again");
                let times = effects.entry(step).or_default();
                *times += 1;
                if *times > 1 {
                    let count = repeated.entry(line[1].clone()).or_default();
                    *count += 1;
                    assert_eq!(*count, 1, "{} repeated more than one step after one crash", line[1]);
                }
            }
            _ => {}
        }
    }
    let store = SqliteStore::open_read_only(world.store()).unwrap();
    assert_eq!(store.unfinished(None, 10).unwrap(), []);
    // No accepted run is lost, and each has its results.
    let mut runs = 0;
    for line in lines.iter().filter(|line| line[0] == "accepted") {
        let run_id: RunId = line[1].parse().unwrap();
        let record = store.run(&run_id).unwrap().unwrap_or_else(|| panic!("{run_id} is lost"));
        assert_eq!((record.state, record.cursor), (RunState::Completed, STEPS), "{run_id}");
        let outputs = store.outputs(&run_id).unwrap().unwrap();
        let number = line[1].strip_prefix("run-").unwrap().parse().unwrap();
        assert_eq!(outputs.iter().map(Output::to_value).collect::<Vec<_>>(), results(number));
        runs += 1;
    }
    // A kill may fall between the acceptance and its line in the log.
    let stored = store.runs(None, 1_000_000).unwrap().len();
    assert!(stored >= runs);
    // Each result is recorded once: as many versions as runs, without a gap.
    for n in 0..STEPS {
        for key in [format!("task:s{n}"), format!("notes/s{n}")] {
            let versions = store.versions(&Project::default(), &key).unwrap();
            assert!(versions.iter().copied().eq(1..=stored as u64), "{key}: {versions:?}");
        }
    }
    check_events(&store, stored)
}

/// The sequence has no gap, and tells of each end once.
fn check_events(store: &SqliteStore, runs: usize) -> usize {
    let (mut after, mut ends) = (0, BTreeMap::<String, usize>::new());
    loop {
        let page = store.events(after, 1_000).unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.iter().map(|event| event.seq().unwrap()).eq(after + 1..=after + page.len() as u64));
        after = last.seq().unwrap();
        for event in page {
            if matches!(event.event_type(), "task.completed" | "plan.completed" | "plan.accepted") {
                *ends.entry(format!("{} {event}", event.run_id().unwrap())).or_default() += 1;
            }
        }
    }
    assert_eq!(after, store.last_seq().unwrap());
    assert_eq!(ends.len(), runs * (STEPS + 2));
    assert!(ends.values().all(|times| *times == 1), "{ends:?}");
    runs * STEPS
}

#[test]
fn nothing_is_lost_or_done_twice_however_often_the_process_is_killed() {
    survive(1, 1, 75, 15);
    survive(2, 1, 75, 15);
}

#[test]
fn nothing_is_lost_or_done_twice_with_several_plans_at_a_time() {
    survive(3, 4, 75, 15);
    survive(fastrand::u64(..), 4, 75, 15);
}
