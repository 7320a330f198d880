//! kill -9: another process runs a plan with a `shell` step on a store, and is killed in the middle of it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lunacore::*;
use serde_json::json;

use super::support::{BEAT, beats, is_still, is_there, patiently, read, size};
use crate::callables::group::{Group, Record};
use crate::callables::{Ledger, register};

/// The first time it beats for ever, the second time it tells how often it beats meanwhile.
fn plan(folder: &Path, before: &str) -> ExecutePlan {
    let script = format!(
        "if mkdir first; then echo $$ > pid; {before} ({before} {BEAT}) & wait; fi; \
         a=$(wc -c < beat); sleep 0.3; b=$(wc -c < beat); echo $((b - a))"
    );
    let input = json!({ "script": script, "cwd": folder });
    ExecutePlan::new([Step::named("step").uses("shell").input(input)]).run_id("r")
}

fn engine(folder: &Path) -> Engine {
    let store = folder.join("runs.db");
    let memory = ProjectMemory::open(&store).unwrap();
    let registry = register(RegistryAllocator::new(), &Ledger::beside(&store));
    Engine::builder().memory(memory).allocator(registry).start().unwrap()
}

/// The life of a process that is killed.
#[actix::test]
#[ignore = "run by the other tests of this file, as a process of its own"]
async fn child() {
    let Ok(folder) = std::env::var("LUNACORE_TEST_FOLDER") else { return };
    let (folder, before) = (Path::new(&folder), std::env::var("LUNACORE_TEST_BEFORE").unwrap());
    if before == "gate" {
        let gated = Step::new("gated", move |ctx: StepContext| {
            let folder = std::env::var("LUNACORE_TEST_FOLDER").unwrap();
            let mut command = Group::gated(["/bin/touch", "ran"]);
            command.current_dir(&folder);
            let group = Group::start(command, Record::of(&ctx), &Ledger::in_memory()).unwrap();
            std::fs::write(Path::new(&folder).join("pid"), group.child.id().to_string()).unwrap();
            std::thread::sleep(Duration::from_secs(1_000));
        });
        Engine::builder().start().unwrap().execute([gated]).await.unwrap();
    }
    engine(folder).execute(plan(folder, &before)).await.unwrap();
}

fn spawn(folder: &Path, before: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["callables::tests::crash::child", "--exact", "--ignored"])
        .env("LUNACORE_TEST_FOLDER", folder)
        .env("LUNACORE_TEST_BEFORE", before)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[actix::test]
async fn what_a_killed_process_left_is_ended_before_its_step_runs_again() {
    // The second does not listen to SIGTERM.
    for before in ["", "trap '' TERM;"] {
        let folder = tempfile::tempdir().unwrap();
        let (beat, pid) = (folder.path().join("beat"), folder.path().join("pid"));
        let child = spawn(folder.path(), before);
        beats(&beat).await;
        kill(child);
        // It does not care.
        beats(&beat).await;
        let results = engine(folder.path()).execute(plan(folder.path(), before)).await.unwrap();
        assert_eq!(results[0]["stdout"], "0\n", "the first attempt went on beside the second");
        is_still(&beat).await;
        assert!(!folder.path().join("runs.db-groups").exists());
        assert_ne!(read(&pid), "");
    }
}

#[actix::test]
async fn so_is_a_group_that_has_lost_its_first_process_too() {
    let folder = tempfile::tempdir().unwrap();
    let (beat, pid) = (folder.path().join("beat"), folder.path().join("pid"));
    let child = spawn(folder.path(), "");
    beats(&beat).await;
    kill(child);
    let first = read(&pid).trim().to_owned();
    Command::new("kill").args(["-9", &first]).status().unwrap();
    let is_dead =
        || !is_there(&first) || read(&Path::new("/proc").join(&first).join("stat")).contains(") Z ");
    patiently("the first process to die", is_dead).await;
    beats(&beat).await;
    let results = engine(folder.path()).execute(plan(folder.path(), "")).await.unwrap();
    assert_eq!(results[0]["stdout"], "0\n");
    is_still(&beat).await;
}

#[actix::test]
async fn what_waits_at_its_gate_never_runs_when_the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let child = spawn(folder.path(), "gate");
    patiently("the gate to be there", || size(&pid) > 0).await;
    let gate = read(&pid);
    assert!(is_there(&gate) && !folder.path().join("ran").exists());
    kill(child);
    let is_dead = || !is_there(&gate) || read(&Path::new("/proc").join(&gate).join("stat")).contains(") Z ");
    patiently("the gate to be gone", is_dead).await;
    assert!(!folder.path().join("ran").exists());
}
