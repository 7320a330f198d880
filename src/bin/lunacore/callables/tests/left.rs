//! Records of groups that earlier processes left, true and false ones.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lunacore::*;
use serde_json::{Value, json};

use super::support::patiently;
use crate::callables::{Ledger, register};

/// The idempotency key of the step that all of these are about.
const STEP: &str = "r/1/step";

struct Beside {
    folder: tempfile::TempDir,
}

impl Beside {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("runs.db")
    }

    fn records(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("runs.db-groups")
    }

    fn record(&self, pgid: u32, change: impl FnOnce(&mut Value)) {
        let mut record =
            json!({ "pgid": pgid, "started": started(pgid), "mark": "m", "step": STEP, "run_id": "r" });
        change(&mut record);
        fs::create_dir_all(self.records()).unwrap();
        fs::write(self.records().join(format!("{pgid}.json")), record.to_string()).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.records()) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Runs the step.
    async fn run(&self, ledger: &Ledger) -> Result<Vec<Value>, PlanError> {
        let engine = Engine::builder().allocator(register(RegistryAllocator::new(), ledger)).start().unwrap();
        let input = json!({ "script": "touch ran; ls ..", "cwd": self.folder.path() });
        let step = Step::named("step").uses("shell").input(input);
        engine.execute(ExecutePlan::new([step]).run_id("r")).await
    }

    fn has_run(&self) -> bool {
        self.folder.path().join("ran").exists()
    }
}

/// As the records have it.
fn started(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let ticks = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(19)).unwrap_or("0");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    format!("boot {} tick {ticks}", boot.trim())
}

/// A process in a group of its own.
fn stranger(script: &str) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("LUNACORE_GROUP", "m").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[actix::test]
async fn a_group_is_ended_only_if_its_first_process_is_the_one_on_record() {
    // With the mark and all, but started at another time: the number was given to another.
    let other_times = ["boot x tick 0".to_owned(), started(std::process::id())];
    for time in other_times {
        let (beside, mut stranger) = (Beside::new(), stranger("exec sleep 1000"));
        beside.record(stranger.id(), |record| record["started"] = json!(time));
        // Recorded after the ledger was made, so that the step itself has to judge.
        let ledger = Ledger::beside(&beside.store());
        beside.record(stranger.id(), |record| record["started"] = json!(time));
        beside.run(&ledger).await.unwrap();
        assert!(stranger.try_wait().unwrap().is_none(), "a stranger was ended");
        assert_eq!(beside.names(), [""; 0], "its record says nothing any more");
        kill(&mut stranger);
    }
    let (beside, mut left) = (Beside::new(), stranger("sleep 1000 & wait"));
    beside.record(left.id(), |_| {});
    beside.run(&Ledger::beside(&beside.store())).await.unwrap();
    assert!(left.try_wait().unwrap().is_some(), "what was left is ended");
}

/// A group whose first process has ended; answers its number and that of the process that is left.
fn headless(folder: &std::path::Path) -> (u32, u32) {
    let mut first = stranger(&format!("sleep 1000 & echo $! > {}", folder.join("pid").display()));
    let pgid = first.id();
    first.wait().unwrap();
    (pgid, fs::read_to_string(folder.join("pid")).unwrap().trim().parse().unwrap())
}

/// Not as a zombie: nobody may wait for it.
fn lives(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[actix::test]
async fn a_group_without_its_first_process_is_known_by_its_mark() {
    for (mark, ends) in [("m", true), ("other", false)] {
        let beside = Beside::new();
        let (pgid, left) = headless(beside.folder.path());
        let ledger = Ledger::beside(&beside.store());
        beside.record(pgid, |record| record["mark"] = json!(mark));
        assert!(lives(left));
        beside.run(&ledger).await.unwrap();
        assert_eq!(!lives(left), ends, "{mark}");
        Command::new("kill").args(["-9", &left.to_string()]).stderr(Stdio::null()).status().unwrap();
    }
}

#[actix::test]
async fn what_other_steps_left_is_left_alone_until_it_is_asked_for() {
    let (beside, mut left) = (Beside::new(), stranger("exec sleep 1000"));
    beside.record(left.id(), |record| {
        record["step"] = json!("q/1/step");
        record["run_id"] = json!("q");
    });
    let ledger = Ledger::beside(&beside.store());
    beside.run(&ledger).await.unwrap();
    assert!(left.try_wait().unwrap().is_none());
    assert_eq!(beside.names(), [format!("{}.json", left.id())]);
    // By whoever cancels its run.
    assert_eq!(ledger.end_left_by(&"r".parse().unwrap()).unwrap(), 0);
    assert!(left.try_wait().unwrap().is_none());
    assert_eq!(ledger.end_left_by(&"q".parse().unwrap()).unwrap(), 1);
    assert!(left.try_wait().unwrap().is_some());
    assert_eq!(beside.names(), [""; 0]);
}

#[actix::test]
async fn what_does_not_listen_is_killed() {
    let (beside, mut left) = (Beside::new(), stranger("trap '' TERM; while :; do sleep 0.02; done"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    beside.record(left.id(), |_| {});
    beside.run(&Ledger::beside(&beside.store())).await.unwrap();
    assert!(left.try_wait().unwrap().is_some());
}

#[actix::test]
async fn records_of_what_is_gone_are_removed() {
    let (beside, mut left) = (Beside::new(), stranger("true"));
    beside.record(left.id(), |_| {});
    left.wait().unwrap();
    let ledger = Ledger::beside(&beside.store());
    assert!(!beside.records().exists());
    // While a step runs there is a record of it, and then none.
    let engine = Engine::builder().allocator(register(RegistryAllocator::new(), &ledger)).start().unwrap();
    let input = json!({ "script": "until [ -e go ]; do sleep 0.01; done", "cwd": beside.folder.path() });
    let run = engine.submit([Step::named("s").uses("shell").input(input)]).await.unwrap();
    patiently("a record", || beside.names().len() == 1).await;
    fs::write(beside.folder.path().join("go"), "").unwrap();
    run.await.unwrap();
    assert!(!beside.records().exists());
}

#[actix::test]
async fn records_that_are_none_are_passed_over() {
    let beside = Beside::new();
    let ledger = Ledger::beside(&beside.store());
    // Half a record, and a file of somebody else.
    fs::create_dir_all(beside.records()).unwrap();
    fs::write(beside.records().join("77.json"), "{\"pgid\":77,").unwrap();
    fs::write(beside.records().join("readme"), "hands off").unwrap();
    beside.run(&ledger).await.unwrap();
    assert!(beside.has_run() && beside.records().join("readme").exists());
}

#[actix::test]
async fn nothing_runs_off_the_record() {
    let beside = Beside::new();
    let ledger = Ledger::beside(&beside.store());
    // No folder can be made there, so there is nothing to read, and nothing can be written.
    std::os::unix::fs::symlink("nowhere/at/all", beside.records()).unwrap();
    let Err(PlanError::StepFailed { source, .. }) = beside.run(&ledger).await else { panic!("it ran") };
    let message = source.to_string();
    assert!(message.starts_with("the process group could not be put on record in \""), "{message}");
    assert!(message.ends_with(".json\", so it was not let run"), "{message}");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!beside.has_run());
    // And if one cannot read what may be left of the step.
    fs::remove_file(beside.records()).unwrap();
    fs::write(beside.records(), "").unwrap();
    let Err(PlanError::StepFailed { source, .. }) = beside.run(&ledger).await else { panic!("it ran") };
    assert!(source.to_string().starts_with("the records of process groups in "), "{source}");
    assert!(!beside.has_run());
}
