//! Runs that wait for a time or a signal: how they are left, told of, and go on.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::run::{calls, ended, folder, send, start};
use crate::support::*;

fn approval() -> Value {
    json!({ "name": "approval", "steps": [
        { "id": "ask", "uses": "shell", "with": { "script": "echo ask >> calls; echo 420" } },
        { "id": "decision", "wait_for_signal": "the decision" },
        { "id": "act", "uses": "noop", "with": "decided: ${{ steps.decision.output }}" },
    ] })
}

fn run(dir: &Path) -> Told {
    run_in(dir, &["run", "plan.json", "--run-id", "r"])
}

fn state(dir: &Path) -> String {
    json_lines(&out(dir, &["list", "--json"]))[0]["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_run_that_waits_for_a_signal_is_left_and_told_with_what_goes_on() {
    let dir = folder(&[("plan.json", approval())]);
    let told = run(dir.path());
    assert_eq!((told.code, told.out.lines().count()), (Some(6), 1), "{}", told.err);
    let expected = "\
run r of the plan approval
TIME ask started (attempt 1)
TIME ask | 420
TIME ask completed in N
TIME decision waits for the signal the decision
TIME awaiting signal after N: 1 of 3 steps done
run r waits at step decision for the signal the decision
`lunacore signal r 'the decision'` sends it, and `lunacore resume r` goes on then
";
    assert_eq!(normal(&told.err), expected);
    assert!(out(dir.path(), &["list"]).contains("r    approval  awaiting_signal  1/3"));
    let shown = out(dir.path(), &["show", "r"]);
    assert!(shown.contains("State     awaiting_signal, for the signal the decision\n"), "{shown}");
    assert!(shown.contains("┅ awaited a signal"), "{shown}");
    assert!(out(dir.path(), &["events", "r"]).contains("task.awaiting_signal decision  the decision\n"));
    let told = run_in(dir.path(), &["resume", "r", "--json", "--quiet"]);
    assert_eq!(told.code, Some(6));
    let told: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(
        (&told["state"], &told["waits"]),
        (&"awaiting_signal".into(), &json!({ "step": "decision", "signal": "the decision" }))
    );

    let said = out(dir.path(), &["signal", "r", "the decision", "yes"]);
    assert_eq!(said, "run r has the signal the decision; `lunacore resume r` goes on with it\n");
    assert_eq!(state(dir.path()), "awaiting_signal", "nothing has run");
    assert!(out(dir.path(), &["events", "r"]).contains("signal.received  the decision\n"));
    let told = run_in(dir.path(), &["resume", "r"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert!(told.out.ends_with("decision  yes\nact       decided: yes\n"), "{}", told.out);
    assert_eq!(calls(dir.path()), ["ask"]);
    let message = error(dir.path(), 2, &["signal", "r", "the decision"]);
    assert_eq!(message, "error: run r is completed already, and takes no signal\n");
}

#[test]
fn a_signal_brings_what_it_is_given_and_may_go_on_at_once() {
    let brings = |args: &[&str], stdin: &str| -> Value {
        let dir = folder(&[("plan.json", approval())]);
        assert_eq!(run(dir.path()).code, Some(6));
        std::fs::write(dir.path().join("payload"), "{\"by\": \"ada\"}\n").unwrap();
        let args = [&["signal", "r", "the decision"], args, &["--resume", "--json"]].concat();
        let mut child = command(&args)
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        let told: Told = child.wait_with_output().unwrap().into();
        assert_eq!(told.code, Some(0), "{args:?}: {}", told.err);
        let told: Value = serde_json::from_str(&told.out).unwrap();
        told["outputs"]["decision"].clone()
    };
    assert_eq!(brings(&[], ""), Value::Null);
    assert_eq!(brings(&["yes"], ""), "yes");
    assert_eq!(brings(&["{\"a\": [1]}"], ""), json!({ "a": [1] }));
    assert_eq!(brings(&["--file", "payload"], ""), json!({ "by": "ada" }));
    assert_eq!(brings(&["--file", "-"], "no,\r\nnever\r\n"), "no,\r\nnever");
}

#[test]
fn a_signal_that_cannot_be_sent_is_told() {
    let dir = folder(&[("plan.json", approval())]);
    run(dir.path());
    let events = out(dir.path(), &["events"]);
    let failed = |args: &[&str]| error(dir.path(), 2, args);
    assert!(failed(&["signal", "r", ""]).contains("the signal name \"\" is empty"));
    assert!(failed(&["signal", "r", "x", "--file", "none"]).contains("none cannot be read: "));
    assert!(failed(&["signal", "r", "x", "y", "--file", "none"]).contains("cannot be used with"));
    std::fs::write(dir.path().join("bytes"), [0xff]).unwrap();
    assert_eq!(
        failed(&["signal", "r", "x", "--file", "bytes"]),
        "error: bytes is no text: it is not UTF-8\n"
    );
    assert!(failed(&["signal", "nobody", "x"]).contains("there is no run nobody"));
    // With its quotes one byte more than a signal may bring; and the same with --resume.
    std::fs::write(dir.path().join("large"), "x".repeat(1024 * 1024 - 1)).unwrap();
    let too_large = "error: what the signal \"x\" brings has 1048577 bytes of JSON, more than 1048576; write it to a file and send the \
                     file's name\n";
    assert_eq!(failed(&["signal", "r", "x", "--file", "large"]), too_large);
    assert_eq!(failed(&["signal", "r", "x", "--file", "large", "--resume", "--quiet"]), too_large);
    assert_eq!(out(dir.path(), &["events"]), events);
    // One that no step waits for is kept, and changes nothing.
    let told: Value = serde_json::from_str(&out(dir.path(), &["signal", "r", "other", "--json"])).unwrap();
    assert_eq!(told, json!({ "run_id": "r", "state": "awaiting_signal", "signal": "other" }));
    assert_eq!(run_in(dir.path(), &["resume", "r", "--quiet"]).code, Some(6));
    // But not more than so much of them.
    std::fs::write(dir.path().join("large"), "x".repeat(1024 * 1024 - 2)).unwrap();
    for _ in 0..15 {
        out(dir.path(), &["signal", "r", "x", "--file", "large"]);
    }
    let message = failed(&["signal", "r", "x", "--file", "large"]);
    assert!(
        message.starts_with("error: run r keeps signals of 15728644 bytes that nothing has waited for"),
        "{message}"
    );
}

#[test]
fn a_signal_that_came_before_is_not_waited_for() {
    let plan = json!({ "steps": [
        { "id": "first", "uses": "shell", "with": { "script": "echo first >> calls; while [ ! -e go ]; do sleep 0.02; done" } },
        { "id": "decision", "wait_for_signal": "d" },
    ] });
    let dir = folder(&[("plan.json", plan)]);
    let running = start(dir.path(), &["run", "plan.json", "--run-id", "r"], 1);
    let message = error(dir.path(), 3, &["signal", "r", "d"]);
    assert!(message.contains(&format!("in use by process {} since", running.0.id())), "{message}");
    send(&running.0, Signal::SIGKILL);
    ended(running);
    out(dir.path(), &["signal", "r", "d", "early"]);
    std::fs::write(dir.path().join("go"), "").unwrap();
    let told = run_in(dir.path(), &["resume", "r"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert!(told.out.ends_with("decision  early\n"), "{}", told.out);
}

#[test]
fn a_wait_that_was_too_long_is_over_when_the_run_goes_on() {
    let plan = json!({ "steps": [
        { "id": "decision", "wait_for_signal": "d", "timeout": "1s", "on_failure": "continue" },
        { "id": "then", "uses": "noop", "with": 1 },
    ] });
    let dir = folder(&[("plan.json", plan)]);
    let told = run(dir.path());
    assert_eq!(told.code, Some(6), "{}", told.err);
    assert!(told.err.contains("run r waits at step decision for the signal d, until 2"), "{}", told.err);
    assert!(normal(&told.err).contains("TIME decision waits for the signal d, for N\n"), "{}", told.err);
    std::thread::sleep(Duration::from_secs(1));
    let told = run_in(dir.path(), &["resume", "r"]);
    assert_eq!((told.code, told.out.as_str()), (Some(0), "decision  null\nthen      1\n"), "{}", told.err);
    // In memory there is nobody to wait for it later.
    let told = run_in(dir.path(), &["run", "plan.json", "--in-memory"]);
    assert_eq!((told.code, told.out.as_str()), (Some(0), "decision  null\nthen      1\n"), "{}", told.err);
}

fn nap(time: &str) -> Value {
    json!({ "steps": [{ "id": "nap", "sleep": time }, { "id": "then", "uses": "noop", "with": 1 }] })
}

#[test]
fn what_sleeps_is_waited_for() {
    let dir = folder(&[("plan.json", nap("1s"))]);
    let told = run(dir.path());
    assert_eq!((told.code, told.out.as_str()), (Some(0), "nap   null\nthen  1\n"), "{}", told.err);
    assert!(normal(&told.err).contains("TIME nap sleeps for N\nTIME nap completed\n"), "{}", told.err);
    assert!(out(dir.path(), &["show", "r"]).contains("┈ slept"));
}

#[test]
fn ctrl_c_leaves_what_sleeps_and_does_not_cancel_it() {
    let dir = folder(&[("plan.json", nap("1h"))]);
    let child = command(&["run", "plan.json", "--run-id", "r"])
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let running = Running(child);
    wait_for("it to sleep", || {
        let listed = run_in(dir.path(), &["list", "--json"]);
        listed.out.contains("\"sleeping\"").then_some(())
    });
    // Until the command has seen it too.
    std::thread::sleep(Duration::from_millis(500));
    let began = std::time::Instant::now();
    send(&running.0, Signal::SIGINT);
    let told = ended(running);
    assert_eq!(told.code, Some(6), "{}", told.err);
    assert!(began.elapsed() < Duration::from_secs(8), "it waits for nothing");
    let until = told.err.lines().rev().nth(1).unwrap();
    assert!(until.starts_with("run r sleeps at step nap, until 2"), "{}", told.err);
    assert!(told.err.ends_with("`lunacore resume r` goes on with it\n"), "{}", told.err);
    assert_eq!(state(dir.path()), "sleeping");
    assert!(
        out(dir.path(), &["show", "r"]).contains("State     sleeping, wakes in 59 m\n"),
        "{}",
        out(dir.path(), &["show", "r"])
    );
    assert_eq!(out(dir.path(), &["cancel", "r"]), "run r is cancelled\n");
}

#[test]
fn a_run_in_memory_that_waits_for_a_signal_ends() {
    let dir = folder(&[("plan.json", approval())]);
    let told = run_in(dir.path(), &["run", "plan.json", "--in-memory", "--run-id", "r", "--quiet"]);
    assert_eq!(told.code, Some(6));
    let expected = "run r waits at step decision for the signal the decision\nnothing of it is kept; without --in-memory it could go on\n";
    assert_eq!(told.err, expected);
}

#[test]
fn of_several_runs_those_that_wait_hold_up_no_other() {
    let dir = folder(&[("plan.json", approval()), ("nap.json", nap("1s"))]);
    assert_eq!(run(dir.path()).code, Some(6));
    let running = start(dir.path(), &["run", "plan.json", "--run-id", "s"], 1);
    assert_eq!(ended(running).code, Some(6));
    out(dir.path(), &["signal", "s", "the decision", "late"]);
    let told = run_in(dir.path(), &["resume"]);
    assert_eq!(told.code, Some(6), "{}", told.err);
    assert!(told.err.contains("run r waits at step decision"), "{}", told.err);
    assert!(told.out.ends_with("act       decided: late\n"), "{}", told.out);
}
