//! Plans whose steps are undone when they fail, or are cancelled.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::run::{calls, ended, folder, send, start};
use crate::support::*;

fn step(id: &str, undo: &str) -> Value {
    let with = json!({
        "script": format!("echo {id} >> calls; echo ticket-{id}"),
        "undo": format!("echo undo-{id} $(cat) $SEAT >> calls; {undo}"),
        "env": { "SEAT": "17a" },
    });
    json!({ "id": id, "uses": "shell", "with": with, "compensate": "shell.undo" })
}

/// Two steps that can be undone, one that waits for a file named `go`, and one that fails.
fn trip(undo_hotel: &str) -> Value {
    json!({ "name": "trip", "steps": [
        step("flight", ""),
        step("hotel", undo_hotel),
        { "id": "wait", "uses": "shell", "with": {
            "script": "echo wait >> calls; while [ ! -e go ]; do sleep 0.02; done" } },
        { "id": "charge", "uses": "fail", "with": { "message": "no money" } },
    ] })
}

const DONE: [&str; 3] = ["flight", "hotel", "wait"];
const UNDONE: [&str; 2] = ["undo-hotel ticket-hotel 17a", "undo-flight ticket-flight 17a"];

#[test]
fn a_plan_that_fails_undoes_its_steps_and_says_so() {
    let dir = folder(&[("plan.json", trip(""))]);
    std::fs::write(dir.path().join("go"), "").unwrap();
    let told = run_in(dir.path(), &["run", "plan.json", "--run-id", "r"]);
    assert_eq!(told.code, Some(1), "{}", told.err);
    let progress = "\
TIME charge failed (attempt 1): no money
TIME undoing 2 steps
TIME hotel being undone (attempt 1)
TIME hotel undone in N
TIME flight being undone (attempt 1)
TIME flight undone in N
TIME compensated after N: 3 of 4 steps done
";
    assert!(normal(&told.err).contains(progress), "{}", told.err);
    assert!(told.err.contains("no money"), "{}", told.err);
    assert_eq!(calls(dir.path()), [&DONE[..], &UNDONE].concat());
    assert_eq!(told.out.lines().count(), 3, "{}", told.out);
    let shown = out(dir.path(), &["show", "r"]);
    assert!(
        shown.contains("State     compensated\n") && shown.contains("\nFailed (error): no money\n"),
        "{shown}"
    );
    assert!(shown.contains("\n↶ hotel ") && shown.contains("◀ undone"), "{shown}");
    let events = out(dir.path(), &["events", "r"]);
    for line in [
        "  plan.compensating  2 steps to undo\n",
        "  task.compensating hotel  attempt 1\n",
        "  task.compensated hotel\n",
    ] {
        assert!(events.contains(line), "{line}: {events}");
    }
    let message = error(dir.path(), 2, &["retry", "r"]);
    assert!(message.contains("run r cannot be tried again: what its steps did was undone"), "{message}");
    // The same is told again.
    let again = run_in(dir.path(), &["run", "plan.json", "--run-id", "r", "--json"]);
    assert_eq!(again.code, Some(1), "{}", again.err);
    let again: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!((&again["state"], &again["undone"]), (&"compensated".into(), &json!(["hotel", "flight"])));
}

#[test]
fn what_could_not_be_undone_is_told() {
    let dir = folder(&[("plan.json", trip("echo fully booked >&2; exit 3"))]);
    std::fs::write(dir.path().join("go"), "").unwrap();
    let told = run_in(dir.path(), &["run", "plan.json", "--run-id", "r"]);
    assert_eq!(told.code, Some(1), "{}", told.err);
    assert!(
        told.err.contains(" hotel not undone (attempt 1): the script exited with code 3"),
        "{}",
        told.err
    );
    assert_eq!(calls(dir.path()), [&DONE[..], &UNDONE].concat(), "the others are undone all the same");
    let shown = out(dir.path(), &["show", "r"]);
    assert!(shown.contains("State     failed\n"), "{shown}");
    let why =
        "\nNot undone (hotel): the script exited with code 3; the end of its stderr:\n    fully booked\n";
    assert!(shown.contains(why), "{shown}");
    let as_json: Value = serde_json::from_str(&out(dir.path(), &["show", "r", "--json"])).unwrap();
    assert_eq!(as_json["run"]["undoing"]["failed"][0]["step"], 1);
    let states: Vec<_> =
        as_json["timeline"].as_array().unwrap().iter().map(|row| row["state"].clone()).collect();
    assert_eq!(states, ["undone", "failed", "completed", "failed"]);
}

#[test]
fn ctrl_c_undoes_what_was_done() {
    let dir = folder(&[("plan.json", trip(""))]);
    let running = start(dir.path(), &["run", "plan.json", "--run-id", "r"], 3);
    send(&running.0, Signal::SIGINT);
    let told = ended(running);
    assert_eq!(told.code, Some(4), "{}", told.err);
    assert_eq!(calls(dir.path()), [&DONE[..], &UNDONE].concat());
    assert!(out(dir.path(), &["show", "r"]).contains("State     compensated\n"));
}

#[test]
fn a_run_that_was_killed_and_is_cancelled_is_undone_when_it_goes_on() {
    let dir = folder(&[("plan.json", trip(""))]);
    let running = start(dir.path(), &["run", "plan.json", "--run-id", "r"], 3);
    send(&running.0, Signal::SIGKILL);
    ended(running);
    assert_eq!(
        out(dir.path(), &["cancel", "r"]),
        "run r is cancelled; `lunacore resume r` undoes what it did\n"
    );
    assert_eq!(calls(dir.path()), DONE, "nothing is run by that");
    let told = run_in(dir.path(), &["resume", "r"]);
    assert_eq!(told.code, Some(4), "{}", told.err);
    assert_eq!(calls(dir.path()), [&DONE[..], &UNDONE].concat());
}

#[test]
fn a_step_without_a_script_that_undoes_it_is_refused() {
    let plan = json!({ "steps": [{ "id": "a", "uses": "shell", "with": { "script": "" }, "compensate": "shell.undo" }] });
    let dir = folder(&[("plan.json", plan)]);
    let message = error(dir.path(), 2, &["run", "plan.json"]);
    assert!(
        message.contains("plan.json:1:") && message.contains("\"undo\" is a required property"),
        "{message}"
    );
}
