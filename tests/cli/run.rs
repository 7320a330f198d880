//! Running plans: what is told, how it ends, and how it goes on.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use lunacore::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::support::*;

/// A folder with these plans in it.
pub fn folder(plans: &[(&str, Value)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, plan) in plans {
        std::fs::write(dir.path().join(name), plan.to_string()).unwrap();
    }
    dir
}

/// Three steps, of which the second waits for a file named `go`, and all of which leave a line in the file `calls`.
pub fn waiting(name: &str) -> Value {
    let step = |id: &str, script: &str| json!({ "id": id, "uses": "shell", "with": { "script": format!("echo {name} {id} >> calls\n{script}") } });
    json!({
        "name": name,
        "steps": [
            step("first", "echo one"),
            step("second", "while [ ! -e go ]; do sleep 0.02; done; echo two"),
            step("third", "echo three"),
        ]
    })
}

pub fn calls(dir: &Path) -> Vec<String> {
    let calls = std::fs::read_to_string(dir.join("calls")).unwrap_or_default();
    calls.lines().map(str::to_owned).collect()
}

fn go(dir: &Path) {
    std::fs::write(dir.join("go"), "").unwrap();
}

/// Starts the command, and waits until this many lines were left in `calls`.
pub fn start(dir: &Path, args: &[&str], lines: usize) -> Running {
    let before = calls(dir).len();
    let child = command(args).current_dir(dir).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let running = Running(child);
    wait_for("the steps to be called", || (calls(dir).len() >= before + lines).then_some(()));
    running
}

pub fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// What is left of a child that has ended, or ends soon.
pub fn ended(mut running: Running) -> Told {
    use std::io::Read;
    let (mut out, mut err) = (String::new(), String::new());
    running.0.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    running.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    Told { code: running.0.wait().unwrap().code(), out, err }
}

/// The only run of a store, or the last.
fn last_run(dir: &Path) -> Value {
    json_lines(&out(dir, &["list", "--json"])).pop().unwrap()
}

#[test]
fn a_plan_runs_and_its_outputs_are_printed() {
    let dir = folder(&[(
        "plan.json",
        json!({ "name": "demo", "steps": [
            { "id": "object", "uses": "noop", "with": { "x": [1, 2.5, null] } },
            { "id": "text", "uses": "noop", "with": "some text" },
            { "id": "two lines", "uses": "noop", "with": "a\nb" },
        ] }),
    )]);
    let told = run_in(dir.path(), &["run", "plan.json"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    let outputs = "object     {\"x\":[1,2.5,null]}\ntext       some text\ntwo lines  \"a\\nb\"\n";
    assert_eq!(told.out, outputs);
    let progress = "\
run ID of the plan demo
TIME object started (attempt 1)
TIME object completed in N
TIME text started (attempt 1)
TIME text completed in N
TIME two lines started (attempt 1)
TIME two lines completed in N
TIME completed after N: 3 of 3 steps done
";
    assert_eq!(normal(&told.err), progress);
    let run = last_run(dir.path());
    assert_eq!((&run["state"], &run["name"]), (&"completed".into(), &"demo".into()));

    let quiet = run_in(dir.path(), &["run", "plan.json", "--quiet", "--json", "--run-id", "mine"]);
    assert_eq!((quiet.code, quiet.err.as_str()), (Some(0), ""));
    let told: Value = serde_json::from_str(&quiet.out).unwrap();
    let outputs = json!({ "object": { "x": [1, 2.5, null] }, "text": "some text", "two lines": "a\nb" });
    assert_eq!(told, json!({ "run_id": "mine", "state": "completed", "outputs": outputs }));
}

#[test]
fn a_run_in_memory_leaves_nothing() {
    let dir = folder(&[("plan.json", json!({ "steps": [{ "id": "a", "uses": "noop", "with": 1 }] }))]);
    let told = run_in(dir.path(), &["run", "plan.json", "--in-memory"]);
    assert_eq!((told.code, told.out.as_str()), (Some(0), "a  1\n"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(told.err.contains(" of the plan\n"), "a plan needs no name: {}", told.err);
}

#[test]
fn a_plan_that_fails_ends_with_1_and_says_why() {
    let plan = json!({ "steps": [
        { "id": "good", "uses": "noop", "with": 7 },
        { "id": "bad", "uses": "fail", "with": { "message": "no disk" },
          "retry": { "max_attempts": 2, "delay": "10ms" } },
        { "id": "never", "uses": "noop" },
    ] });
    let dir = folder(&[("plan.json", plan)]);
    let told = run_in(dir.path(), &["run", "plan.json", "--run-id", "r"]);
    assert_eq!((told.code, told.out.as_str()), (Some(1), "good  7\n"));
    let progress = "\
run r of the plan
TIME good started (attempt 1)
TIME good completed in N
TIME bad started (attempt 1)
TIME bad failed (attempt 1): no disk; next attempt in N
TIME bad started (attempt 2)
TIME bad failed (attempt 2): no disk
TIME failed after N: 1 of 3 steps done
error: step 1 (\"bad\") of run r failed at attempt 2: no disk
`lunacore show r` tells what happened
";
    assert_eq!(normal(&told.err), progress);
    // It is over: the same command with its id tells the same again, and runs nothing.
    let events = out(dir.path(), &["events"]);
    let again = run_in(dir.path(), &["run", "plan.json", "--run-id", "r", "--json"]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.starts_with("run r of the plan is failed already\n"), "{}", again.err);
    let told: Value = serde_json::from_str(&again.out).unwrap();
    let failure = json!({ "step": "bad", "attempt": 2, "kind": "error", "error": "no disk" });
    assert_eq!(
        told,
        json!({ "run_id": "r", "state": "failed", "outputs": { "good": 7 }, "failure": failure })
    );
    assert_eq!(out(dir.path(), &["events"]), events);
    assert_eq!(again.err.lines().count(), 3, "nothing has happened: {}", again.err);
}

#[test]
fn a_run_that_is_over_is_told_again() {
    let dir = folder(&[("plan.json", json!({ "steps": [{ "id": "a", "uses": "noop", "with": 1 }] }))]);
    let run = || run_in(dir.path(), &["run", "plan.json", "--run-id", "r"]);
    assert_eq!(run().code, Some(0));
    let again = run();
    assert_eq!((again.code, again.out.as_str()), (Some(0), "a  1\n"));
    assert_eq!(again.err, "run r of the plan is completed already\n");
}

#[test]
fn the_log_is_only_for_who_asks() {
    let dir = folder(&[("plan.json", json!({ "steps": [{ "id": "a", "uses": "noop" }] }))]);
    let err = |args: &[&str]| run_in(dir.path(), args).err;
    assert_eq!(err(&["run", "plan.json", "--quiet"]), "");
    assert!(err(&["run", "plan.json", "--quiet", "--verbose"]).contains("lunacore::"));
    assert!(err(&["-v", "run", "plan.json", "--quiet"]).contains("DEBUG"));
}

#[test]
fn what_is_not_valid_ends_with_2_and_makes_no_store() {
    let dir = folder(&[
        ("plan.json", json!({ "steps": [{ "id": "a", "uses": "noop" }] })),
        ("twice.json", json!({ "steps": [{ "id": "a", "uses": "noop" }, { "id": "a", "uses": "nop" }] })),
    ]);
    let failed = |args: &[&str]| error(dir.path(), 2, args);
    assert!(failed(&["run", "nowhere.json"]).contains("nowhere.json"));
    assert!(failed(&["run", "twice.json"]).starts_with("error: twice.json:1:"));
    assert!(failed(&["run", "plan.json", "--input", "day"]).contains("write name=value"));
    assert!(failed(&["run", "plan.json", "--input", "day=1"]).contains("\"day\""));
    assert!(failed(&["run", "plan.json", "--run-id", ""]).contains("run id"));
    assert!(failed(&["run", "plan.json", "--run-id", "x", "--new"]).contains("cannot be used with"));
    assert!(failed(&["run"]).contains("<PLAN>"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no store was made");
}

#[test]
fn inputs_reach_the_steps_and_their_types_are_checked() {
    let plan = json!({
        "inputs": { "day": { "type": "string" }, "pages": { "type": "integer", "default": 3 } },
        "steps": [
            { "id": "a", "uses": "noop", "with": { "day": "${{ inputs.day }}", "pages": "${{ inputs.pages }}" } },
            { "id": "b", "uses": "noop", "when": "inputs.pages > 3", "with": "${{ steps.a.output.day }} in ${{ run.id }}" },
        ],
    });
    let dir = folder(&[("plan.json", plan)]);
    let run = |args: &[&str]| {
        let told = run_in(dir.path(), &[&["run", "plan.json", "--quiet"], args].concat());
        assert_eq!(told.code, Some(0), "{}", told.err);
        let store = SqliteStore::open_read_only(dir.path().join("runs.db")).unwrap();
        let run_id = store.runs(None, 9).unwrap().pop().unwrap().run_id;
        let stored = Value::Object(store.plan(&run_id).unwrap().unwrap().inputs().clone());
        (told.out.replace(run_id.as_str(), "RUN"), stored)
    };
    let few = ("a  {\"day\":\"17\",\"pages\":3}\nb  null\n".to_owned(), json!({ "day": "17", "pages": 3 }));
    assert_eq!(run(&["-i", "day=17"]), few);
    let many =
        ("a  {\"day\":\"x\",\"pages\":5}\nb  x in RUN\n".to_owned(), json!({ "day": "x", "pages": 5 }));
    assert_eq!(run(&["-i", "day=x", "--input", "pages=5"]), many);
    assert!(error(dir.path(), 2, &["run", "plan.json"]).contains("\"day\""), "it is required");
    assert!(
        error(dir.path(), 2, &["run", "plan.json", "-i", "dya=1", "-i", "day=1"])
            .contains("did you mean \"day\"?")
    );
    assert!(
        error(dir.path(), 2, &["run", "plan.json", "-i", "day=1", "-i", "pages=many"]).contains("integer")
    );
}

#[test]
fn a_store_that_somebody_has_ends_with_3_and_says_who() {
    let dir = folder(&[("plan.json", waiting("w"))]);
    let holder = start(dir.path(), &["run", "plan.json"], 2);
    for args in [&["run", "plan.json"][..], &["resume"], &["cancel", "0"], &["retry", "0"]] {
        let message = error(dir.path(), 3, args);
        assert!(message.contains(&format!("in use by process {} since", holder.0.id())), "{message}");
    }
    // Who only looks is not held up.
    assert_eq!(last_run(dir.path())["state"], "running");
    go(dir.path());
    assert_eq!(ended(holder).code, Some(0));
}

#[test]
fn a_killed_run_goes_on_with_the_same_command() {
    let dir = folder(&[("plan.json", waiting("mine")), ("other.json", waiting("other"))]);
    for plan in ["other.json", "plan.json"] {
        let running = start(dir.path(), &["run", plan], 2);
        send(&running.0, Signal::SIGKILL);
        assert_eq!(ended(running).code, None);
    }
    let runs = json_lines(&out(dir.path(), &["list", "--json"]));
    assert_eq!(runs.len(), 2);
    go(dir.path());
    let told = run_in(dir.path(), &["run", "plan.json"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    let id = runs[1]["run_id"].as_str().unwrap();
    let first = format!("going on with run {id} of the plan mine: 1 step of 3 done\n");
    assert!(told.err.starts_with(&first), "{}", told.err);
    assert!(told.err.contains(" first had completed before\n"), "{}", told.err);
    assert_eq!(told.out.lines().count(), 3);
    // Not the first step again, and nothing of the other run.
    let expected = ["other first", "other second", "mine first", "mine second", "mine second", "mine third"];
    assert_eq!(calls(dir.path()), expected);
    let now = json_lines(&out(dir.path(), &["list", "--json"]));
    assert_eq!((&now[0], &now[1]["state"], now.len()), (&runs[0], &"completed".into(), 2));
    // What is over is not gone on with.
    let told = run_in(dir.path(), &["run", "plan.json"]);
    assert_eq!(told.code, Some(0));
    assert_eq!(json_lines(&out(dir.path(), &["list", "--json"])).len(), 3);
}

#[test]
fn a_new_run_can_be_asked_for_and_one_can_be_named() {
    let dir = folder(&[("plan.json", waiting("mine")), ("other.json", waiting("other"))]);
    let running = start(dir.path(), &["run", "plan.json", "--run-id", "cut"], 2);
    send(&running.0, Signal::SIGKILL);
    ended(running);
    go(dir.path());
    let told = run_in(dir.path(), &["run", "plan.json", "--new"]);
    assert_eq!(told.code, Some(0));
    let runs = json_lines(&out(dir.path(), &["list", "--json"]));
    assert_eq!((&runs[0]["state"], &runs[1]["state"]), (&"running".into(), &"completed".into()));
    let message = run_in(dir.path(), &["run", "other.json", "--run-id", "cut"]);
    assert_eq!((message.code, message.out.as_str()), (Some(2), ""));
    assert!(message.err.contains("run cut was accepted with another plan: "), "{}", message.err);
    let told = run_in(dir.path(), &["run", "plan.json", "--run-id", "cut"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert!(told.err.starts_with("going on with run cut of"), "{}", told.err);
}

#[test]
fn resuming_needs_no_plan_file() {
    let dir = folder(&[("a.json", waiting("a")), ("b.json", waiting("b")), ("c.json", waiting("c"))]);
    for name in ["a", "b", "c"] {
        let running = start(dir.path(), &["run", &format!("{name}.json"), "--run-id", name], 2);
        send(&running.0, Signal::SIGKILL);
        ended(running);
        std::fs::remove_file(dir.path().join(format!("{name}.json"))).unwrap();
    }
    go(dir.path());
    let told = run_in(dir.path(), &["resume", "b", "--json"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert_eq!(json_lines(&told.out)[0]["run_id"], "b");
    let states = || -> Vec<String> {
        let runs = json_lines(&out(dir.path(), &["list", "--json"]));
        runs.iter().map(|run| run["state"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(states(), ["running", "completed", "running"]);
    let told = run_in(dir.path(), &["resume"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert_eq!(states(), ["completed", "completed", "completed"]);
    assert_eq!(told.out.lines().count(), 6);
    let first = told.err.find("going on with run a of the plan a").unwrap();
    assert!(first < told.err.find("going on with run c of the plan c").unwrap(), "{}", told.err);
    // There is nothing left.
    let told = run_in(dir.path(), &["resume"]);
    assert_eq!(
        (told.code, told.out.as_str(), told.err.as_str()),
        (Some(0), "", "no unfinished runs in runs.db\n")
    );
    let message = error(dir.path(), 2, &["resume", "b"]);
    assert_eq!(message, "error: run b is completed already; nothing of it is left to do\n");
    assert!(error(dir.path(), 2, &["resume", "nobody"]).contains("there is no run nobody"));
}

#[test]
fn cancelling_what_was_killed_ends_what_it_left_and_nothing_else() {
    let script = "echo $1 >> calls; echo $$ > pid-$1; while :; do sleep 0.05; done";
    let plan = |name: &str| {
        let argv = ["/bin/sh", "-c", script, "sh", name];
        json!({ "name": name, "steps": [{ "id": "s", "uses": "shell", "with": { "argv": argv } }] })
    };
    let dir = folder(&[("a.json", plan("a")), ("b.json", plan("b"))]);
    let pids = ["a", "b"].map(|name| {
        let running = start(dir.path(), &["run", &format!("{name}.json"), "--run-id", name], 1);
        let pid = wait_for("the script", || {
            let pid = std::fs::read_to_string(dir.path().join(format!("pid-{name}"))).ok()?;
            pid.trim().parse::<i32>().ok().map(Pid::from_raw)
        });
        send(&running.0, Signal::SIGKILL);
        // The script has its pipes still.
        drop(running);
        pid
    });
    let events = out(dir.path(), &["events", "b"]);
    assert_eq!(out(dir.path(), &["cancel", "a"]), "run a is cancelled\n");
    wait_for("the script to be gone", || kill(pids[0], None).is_err().then_some(()));
    assert!(kill(pids[1], None).is_ok(), "that of the other run is left alone");
    assert_eq!(out(dir.path(), &["events", "b"]), events);
    assert_eq!(last_run(dir.path())["state"], "running");
    kill(pids[1], Signal::SIGKILL).unwrap();
}

#[test]
fn a_run_that_was_paused_goes_on_when_it_is_resumed() {
    let dir = folder(&[]);
    let store = SqliteStore::open(dir.path().join("runs.db")).unwrap();
    actix::System::new().block_on(async move {
        let engine = Engine::builder()
            .memory(ProjectMemory::with_store(store))
            .allocator(
                RegistryAllocator::new().register("noop", || 1).register("hold", std::future::pending::<()>),
            )
            .start()
            .unwrap();
        let hold =
            engine.submit(ExecutePlan::new([Step::named("h").uses("hold")]).run_id("h")).await.unwrap();
        let plan = Plan::new([Step::named("x").uses("noop").input("text")]).name("later");
        let paused = engine.submit(ExecutePlan::new(plan).run_id("p")).await.unwrap();
        engine.pause(paused.run_id()).await.unwrap();
        engine.cancel(hold.run_id()).await.unwrap();
        engine.shutdown(Shutdown::now()).await;
    });
    assert_eq!(last_run(dir.path())["state"], "paused");
    let told = run_in(dir.path(), &["resume", "p"]);
    assert_eq!((told.code, told.out.as_str()), (Some(0), "x  text\n"), "{}", told.err);
}

#[test]
fn a_run_with_closures_cannot_be_resumed_here_and_is_left_as_it_is() {
    let (dir, _) = history();
    let told = run_in(dir.path(), &["resume", "waiting"]);
    assert_eq!((told.code, told.out.as_str()), (Some(5), ""));
    assert!(told.err.contains("step 0 (\"x\") was a closure, which cannot be stored"), "{}", told.err);
    assert_eq!(last_run(dir.path())["state"], "paused");
}

#[test]
fn ctrl_c_cancels_the_run_and_what_it_has_done_is_kept() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let dir = folder(&[("plan.json", waiting("w"))]);
        let running = start(dir.path(), &["run", "plan.json", "--run-id", "r"], 2);
        send(&running.0, signal);
        let told = ended(running);
        assert_eq!(told.code, Some(4), "{}", told.err);
        assert!(told.out.starts_with("first  {") && told.out.lines().count() == 1, "{}", told.out);
        assert!(told.err.contains(" stopping; once more ends at once\n"), "{}", told.err);
        let last = "TIME cancelled after N: 1 of 3 steps done\nerror: run r was cancelled\n";
        assert!(normal(&told.err).ends_with(last), "{}", told.err);
        assert_eq!(last_run(dir.path())["state"], "cancelled");
        assert_eq!(calls(dir.path()), ["w first", "w second"]);
    }
}

#[test]
fn a_second_ctrl_c_ends_at_once() {
    let script = "echo s >> calls; trap '' TERM; echo $$ > pid; while :; do sleep 0.05; done";
    let plan = json!({ "steps": [{ "id": "stubborn", "uses": "shell", "with": { "script": script }, "grace": "1h" }] });
    let dir = folder(&[("plan.json", plan)]);
    let running = start(dir.path(), &["run", "plan.json"], 1);
    let pid = wait_for("the script", || {
        let pid = std::fs::read_to_string(dir.path().join("pid")).ok()?;
        pid.trim().parse::<i32>().ok()
    });
    send(&running.0, Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(300));
    send(&running.0, Signal::SIGINT);
    let told = ended(running);
    // Waiting for the script would have been another end.
    assert_eq!(told.code, Some(130), "{}", told.err);
    assert!(told.err.contains("error: ended at once"), "{}", told.err);
    wait_for("the script to be gone", || kill(Pid::from_raw(pid), None).is_err().then_some(()));
    assert_eq!(out(dir.path(), &["list", "--unfinished"]).lines().count(), 2, "it is not over");
}

#[test]
fn a_run_goes_on_though_nobody_reads_its_progress() {
    let dir = folder(&[("plan.json", waiting("w"))]);
    let mut running = start(dir.path(), &["run", "plan.json"], 2);
    drop(running.0.stderr.take());
    go(dir.path());
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    assert_eq!(calls(dir.path()).len(), 3);
    assert_eq!(last_run(dir.path())["state"], "completed");
}

#[test]
fn what_a_program_says_is_told_while_it_runs() {
    let dir = folder(&[(
        "plan.json",
        json!({ "steps": [
        { "id": "talk", "uses": "shell", "with": { "script": "echo half; echo done" } },
    ] }),
    )]);
    let told = run_in(dir.path(), &["run", "plan.json"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert!(normal(&told.err).contains("TIME talk | half\nTIME talk | done\n"), "{}", told.err);
}
