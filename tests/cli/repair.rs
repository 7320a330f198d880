//! Runs that are held, or failed, and go on: `resolve` and `retry`.

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::run::{calls, ended, folder, send, start};
use crate::support::*;

/// Three steps, of which the second fails and is held.
fn held() -> Value {
    json!({ "name": "pay rent", "steps": [
        { "id": "offer", "uses": "noop", "with": 420 },
        { "id": "pay", "uses": "fail", "with": { "message": "the bank is closed" }, "on_failure": "hold" },
        { "id": "receipt", "uses": "noop", "with": "paid: ${{ steps.pay.output }}" },
    ] })
}

fn run(dir: &Path) -> Told {
    run_in(dir, &["run", "plan.json", "--run-id", "r"])
}

fn show(dir: &Path) -> Value {
    serde_json::from_str(&out(dir, &["show", "r", "--json"])).unwrap()
}

#[test]
fn a_run_that_is_held_is_left_and_told_with_what_goes_on() {
    let dir = folder(&[("plan.json", held())]);
    let told = run(dir.path());
    assert_eq!((told.code, told.out.as_str()), (Some(6), "offer  420\n"), "{}", told.err);
    let expected = "\
run r of the plan pay rent
TIME offer started (attempt 1)
TIME offer completed in N
TIME pay started (attempt 1)
TIME pay failed (attempt 1): the bank is closed
TIME pay held: it failed
TIME held after N: 1 of 3 steps done
run r is held at step pay: it failed: the bank is closed
`lunacore resolve r` with --completed, --rerun, --failed or --skip decides, and goes on with it
";
    assert_eq!(normal(&told.err), expected);
    // Whoever goes on with it is told the same, and nothing has happened.
    let events = out(dir.path(), &["events"]);
    for args in [&["resume", "r"][..], &["resume"], &["run", "plan.json"]] {
        let again = run_in(dir.path(), &[args, &["--quiet"]].concat());
        assert_eq!((again.code, again.out.as_str()), (Some(6), "offer  420\n"), "{args:?}");
        assert_eq!(again.err, expected.lines().skip(7).map(|line| format!("{line}\n")).collect::<String>());
    }
    assert_eq!(out(dir.path(), &["events"]), events);
    let told = run_in(dir.path(), &["resume", "r", "--json", "--quiet"]);
    let waits = json!({ "step": "pay", "held": "failed" });
    let expected = json!({ "run_id": "r", "state": "held", "outputs": { "offer": 420 }, "waits": waits });
    assert_eq!(serde_json::from_str::<Value>(&told.out).unwrap(), expected);
    assert!(
        out(dir.path(), &["list"]).contains("r    pay rent  held   1/3"),
        "{}",
        out(dir.path(), &["list"])
    );
    let shown = out(dir.path(), &["show", "r"]);
    assert!(shown.contains("State     held, since it failed\n"), "{shown}");
    assert!(shown.contains("\n… pay"), "{shown}");
    assert_eq!(show(dir.path())["run"]["held"], "failed");
    assert!(events.contains("task.held pay  attempt 1: it failed\n"), "{events}");
}

#[test]
fn what_is_decided_about_a_step_holds_and_the_run_goes_on() {
    let decide = |args: &[&str]| {
        let dir = folder(&[("plan.json", held())]);
        assert_eq!(run(dir.path()).code, Some(6));
        (run_in(dir.path(), &[&["resolve", "r"], args].concat()), dir)
    };
    let (told, dir) = decide(&["--completed", "{\"cash\": true}"]);
    let expected = "offer    420\npay      {\"cash\":true}\nreceipt  paid: {\"cash\":true}\n";
    assert_eq!((told.code, told.out.as_str()), (Some(0), expected), "{}", told.err);
    let progress = "\
going on with run r of the plan pay rent: 1 step of 3 done
TIME pay decided: it had its effect
TIME pay completed
TIME receipt started (attempt 1)
TIME receipt completed in N
TIME completed after N: 3 of 3 steps done
";
    assert_eq!(normal(&told.err), progress);
    assert!(out(dir.path(), &["events"]).contains("task.resolved pay  it had its effect\n"));

    // A text is a text, and nothing is null; the step may be named.
    let output = |args: &[&str]| decide(args).0.out.lines().nth(1).unwrap().to_owned();
    assert_eq!(output(&["--completed", "in cash", "--quiet"]), "pay      in cash");
    assert_eq!(output(&["--completed", "--quiet"]), "pay      null");
    assert_eq!(output(&["pay", "--completed"]), "pay      null");
    assert_eq!(output(&["--skip"]), "pay      null");

    let (told, dir) = decide(&["pay", "--failed", "no money"]);
    assert_eq!((told.code, told.out.as_str()), (Some(1), "offer  420\n"), "{}", told.err);
    assert!(
        told.err.contains("error: step 1 (\"pay\") of run r failed at attempt 1: no money\n"),
        "{}",
        told.err
    );
    assert_eq!(show(dir.path())["run"]["state"], "failed");

    // It is called again, and is held again.
    let (told, dir) = decide(&["--rerun", "--json"]);
    assert_eq!(told.code, Some(6), "{}", told.err);
    assert_eq!(serde_json::from_str::<Value>(&told.out).unwrap()["state"], "held");
    assert!(told.err.contains(" pay started (attempt 2)\n"), "{}", told.err);
    assert_eq!(show(dir.path())["timeline"][1]["attempts"], 2);
}

#[test]
fn a_decision_that_cannot_be_is_refused_and_changes_nothing() {
    let dir = folder(&[("plan.json", held())]);
    run(dir.path());
    let events = out(dir.path(), &["events"]);
    let failed = |args: &[&str]| error(dir.path(), 2, args);
    assert_eq!(
        failed(&["resolve", "r", "offer", "--skip"]),
        "error: run r is held at step pay, and not at offer\n"
    );
    assert!(failed(&["resolve", "r"]).contains("<--completed [<OUTPUT>]|--rerun|--failed <REASON>|--skip>"));
    assert!(failed(&["resolve", "r", "--skip", "--rerun"]).contains("cannot be used with"));
    assert!(failed(&["resolve", "x", "--skip"]).contains("there is no run x"));
    let deep = "[".repeat(101) + &"]".repeat(101);
    assert!(
        failed(&["resolve", "r", "--completed", &deep])
            .contains("run r cannot go on with the output that it was given")
    );
    assert_eq!(out(dir.path(), &["events"]), events);
    assert_eq!(run_in(dir.path(), &["resolve", "r", "--skip"]).code, Some(0));
    assert_eq!(
        failed(&["resolve", "r", "--skip"]),
        "error: run r is completed, and not held; there is nothing to decide about it\n"
    );
    assert!(
        error(dir.path(), 3, &["resolve", "r", "--skip", "--store", "none.db"]).contains("there is no store")
    );
}

/// A step that fails while there is no file named `go`, and says how often it was called.
fn broken() -> Value {
    let script = "echo $LUNACORE_ATTEMPT >> calls; test -e \"$FILE\"; echo there is \"$FILE\"";
    json!({ "name": "repair", "steps": [
        { "id": "first", "uses": "shell", "with": { "script": "echo first >> calls; echo ${{ run.id }}" } },
        { "id": "second", "uses": "shell", "with": {
            "script": script, "env": { "FILE": "go", "FROM": "${{ steps.first.output.stdout }}" } } },
        { "id": "third", "uses": "noop", "with": "${{ steps.second.output.stdout | trim }}" },
    ] })
}

#[test]
fn a_run_that_failed_is_tried_again_from_where_it_stands() {
    let dir = folder(&[("plan.json", broken())]);
    assert_eq!(run(dir.path()).code, Some(1));
    // Nothing is other than before: it fails again, in another generation.
    let told = run_in(dir.path(), &["retry", "r"]);
    assert_eq!(told.code, Some(1), "{}", told.err);
    assert!(told.err.starts_with("run r of the plan repair again, in generation 2\n"), "{}", told.err);
    std::fs::write(dir.path().join("go"), "").unwrap();
    let told = run_in(dir.path(), &["retry", "r", "--json", "--quiet"]);
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""));
    let told: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((&told["state"], &told["outputs"]["third"]), (&"completed".into(), &"there is go".into()));
    assert_eq!(calls(dir.path()), ["first", "1", "1", "1"], "the first step is not called again");
    let shown = out(dir.path(), &["show", "r"]);
    assert!(shown.contains("\nRetried   generation 3\n"), "{shown}");
    let shown = show(dir.path());
    assert_eq!((&shown["run"]["generation"], &shown["timeline"][1]["attempts"]), (&3.into(), &1.into()));
    let segments = shown["timeline"][1]["segments"].as_array().unwrap();
    assert_eq!(segments.len(), 1, "those of the generations before count no more: {segments:?}");
    assert!(out(dir.path(), &["events"]).contains("plan.retried second  generation 2, 1 step kept\n"));
    let message = error(dir.path(), 2, &["retry", "r"]);
    assert_eq!(message, "error: run r cannot be tried again: it is completed\n");
}

#[test]
fn a_retry_may_begin_earlier_and_with_another_input() {
    let dir = folder(&[("plan.json", broken())]);
    run(dir.path());
    std::fs::write(dir.path().join("other"), "").unwrap();
    // An expression beside what is set is one still.
    let told = run_in(dir.path(), &["retry", "r", "--set", "env.FILE=other", "--set", "stdin=\"x\""]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert!(told.out.ends_with("third   there is other\n"), "{}", told.out);
    let set = &show(dir.path())["run"]["set_inputs"]["1"];
    assert_eq!((&set["env"]["FILE"], &set["stdin"]), (&"other".into(), &"x".into()));
    assert_eq!(set["env"]["FROM"], "${{ steps.first.output.stdout }}");

    let dir = folder(&[("plan.json", broken())]);
    run(dir.path());
    // What was set before is kept where more is set.
    run_in(dir.path(), &["retry", "r", "--set", "env.OTHER=1"]);
    run_in(dir.path(), &["retry", "r", "--set", "env.MORE=2"]);
    std::fs::write(dir.path().join("go"), "").unwrap();
    let told =
        run_in(dir.path(), &["retry", "r", "--from", "first", "--set", "script=echo again >> calls; echo 1"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert_eq!(calls(dir.path()), ["first", "1", "1", "1", "again", "1"]);
    let sets = show(dir.path())["run"]["set_inputs"].clone();
    assert_eq!(sets["0"]["script"], "echo again >> calls; echo 1");
    assert_eq!((&sets["1"]["env"]["OTHER"], &sets["1"]["env"]["MORE"]), (&1.into(), &2.into()));
}

#[test]
fn a_retry_that_cannot_be_is_refused_and_changes_nothing() {
    let dir = folder(&[("plan.json", broken())]);
    run(dir.path());
    let events = out(dir.path(), &["events"]);
    let failed = |args: &[&str]| error(dir.path(), 2, &[&["retry", "r"], args].concat());
    assert_eq!(
        failed(&["--from", "thrid"]),
        "error: the plan of the run has no step thrid; did you mean third?\n"
    );
    assert_eq!(
        failed(&["--from", "x"]),
        "error: the plan of the run has no step x; it has first, second, third\n"
    );
    assert_eq!(
        failed(&["--from", "third"]),
        "error: run r cannot be tried again: it did not come to step \"third\"; 1 steps have completed\n"
    );
    assert_eq!(failed(&["--set", "env"]), "error: \"env\" sets nothing; write path=value\n");
    assert_eq!(
        failed(&["--set", "script.x=1"]).split(" is ").next().unwrap(),
        "error: \"script.x\" cannot be set: \"script\""
    );
    assert!(error(dir.path(), 2, &["retry", "nobody"]).contains("there is no run nobody"));
    assert_eq!(out(dir.path(), &["events"]), events);
    assert_eq!(calls(dir.path()).len(), 2);
}

#[test]
fn a_run_that_failed_can_go_on_without_its_step() {
    let dir = folder(&[("plan.json", broken())]);
    run(dir.path());
    let message = error(dir.path(), 2, &["resolve", "r", "--rerun"]);
    assert!(
        message.contains("it can go on without its step, with --skip; `lunacore retry r` tries it again"),
        "{message}"
    );
    let told = run_in(dir.path(), &["resolve", "r", "--skip"]);
    // The third reads what the second has not.
    assert_eq!(told.code, Some(1), "{}", told.err);
    let shown = show(dir.path());
    assert_eq!((&shown["timeline"][1]["state"], &shown["run"]["completed"]), (&"skipped".into(), &2.into()));
    let told = run_in(dir.path(), &["retry", "r", "--from", "third", "--set", "x=1"]);
    assert!(told.err.contains("cannot be set: the input is "), "{}", told.err);
    let told = run_in(dir.path(), &["resolve", "r", "third", "--skip"]);
    assert_eq!(
        (told.code, told.out.lines().skip(1).collect::<Vec<_>>()),
        (Some(0), vec!["second  null", "third   null"])
    );
}

#[test]
fn a_step_that_may_have_had_its_effect_is_held_when_its_run_goes_on() {
    let script = "echo paid >> calls; while [ ! -e go ]; do sleep 0.02; done";
    let plan = json!({ "steps": [
        { "id": "pay", "uses": "shell", "with": { "script": script }, "on_interrupted": "hold" },
        { "id": "then", "uses": "noop", "with": "${{ steps.pay.output }}" },
    ] });
    let dir = folder(&[("plan.json", plan)]);
    let running = start(dir.path(), &["run", "plan.json", "--run-id", "r"], 1);
    send(&running.0, Signal::SIGKILL);
    ended(running);
    let told = run_in(dir.path(), &["resume", "r"]);
    assert_eq!((told.code, told.out.as_str()), (Some(6), ""), "{}", told.err);
    let held = "run r is held at step pay: it was cut off, and may have had its effect\n";
    assert!(told.err.contains(held), "{}", told.err);
    assert!(
        out(dir.path(), &["show", "r"])
            .contains("State     held, since it was cut off, and may have had its effect\n")
    );
    assert_eq!(calls(dir.path()), ["paid"], "it was not called again");
    let told = run_in(dir.path(), &["resolve", "r", "--completed", "receipt 17"]);
    assert_eq!(
        (told.code, told.out.as_str()),
        (Some(0), "pay   receipt 17\nthen  receipt 17\n"),
        "{}",
        told.err
    );
    assert_eq!(calls(dir.path()), ["paid"]);
}

#[test]
fn a_run_in_memory_that_is_held_ends() {
    let dir = folder(&[("plan.json", held())]);
    let told = run_in(dir.path(), &["run", "plan.json", "--in-memory", "--run-id", "r", "--quiet"]);
    assert_eq!((told.code, told.out.as_str()), (Some(6), "offer  420\n"));
    let expected = "run r is held at step pay: it failed: the bank is closed\nnothing of it is kept; without --in-memory it could go on\n";
    assert_eq!(told.err, expected);
}

#[test]
fn a_script_can_tell_whether_a_step_had_its_effect() {
    let plan = |check: &str| {
        let script =
            "echo paid >> calls; test \"$LUNACORE_ATTEMPT\" -gt 1 || while [ ! -e go ]; do sleep 0.02; done";
        let with = json!({ "script": script, "check": check, "env": { "TO": "ada" } });
        json!({ "steps": [
            { "id": "pay", "uses": "shell", "with": with, "on_interrupted": { "verify": "shell.check" } },
        ] })
    };
    for (check, code, calls_then, tells) in [
        ("echo checked >> calls; echo \"to $TO\"", 0, &["paid", "checked"][..], "\"stdout\":\"to ada\\n\""),
        ("exit 1", 0, &["paid", "paid"], "\"stdout\":\"\""),
        ("exit 2", 6, &["paid"], "cut off, and whether it had its effect could not be told"),
        ("kill -9 $$", 6, &["paid"], "cut off, and whether it had its effect could not be told"),
    ] {
        let dir = folder(&[("plan.json", plan(check))]);
        let running = start(dir.path(), &["run", "plan.json", "--run-id", "r"], 1);
        send(&running.0, Signal::SIGKILL);
        ended(running);
        let told = run_in(dir.path(), &["resume", "r"]);
        assert_eq!(told.code, Some(code), "{check}: {}", told.err);
        assert_eq!(calls(dir.path()), calls_then, "{check}");
        assert!(format!("{}{}", told.out, told.err).contains(tells), "{check}: {} {}", told.out, told.err);
        assert!(told.err.contains(" pay was cut off: whether it had its effect is asked\n"), "{}", told.err);
    }
    let dir = folder(&[(
        "plan.json",
        json!({ "steps": [
        { "id": "pay", "uses": "shell", "with": { "script": "" }, "on_interrupted": { "verify": "shell.check" } },
    ] }),
    )]);
    let message = error(dir.path(), 2, &["check", "plan.json"]);
    assert!(
        message.contains("plan.json:1:") && message.contains("\"check\" is a required property"),
        "{message}"
    );
}
