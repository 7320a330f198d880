use std::time::UNIX_EPOCH;

use lunacore::RunId;
use serde_json::{Map, json};

use super::*;

fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

/// An event as the store tells it.
fn event(millis: u64, event_type: &str, fields: Value) -> Event {
    let mut all = Map::from_iter([("type".to_owned(), json!(event_type))]);
    all.extend(fields.as_object().cloned().unwrap_or_default());
    let kind: EventKind = serde_json::from_value(Value::Object(all)).unwrap();
    Event::stored(1, at(millis), "r".parse::<RunId>().unwrap(), kind)
}

fn started(millis: u64, id: &str, attempt: u32) -> Event {
    event(millis, "task.started", json!({ "task_id": id, "agent_id": "orchestrator", "attempt": attempt }))
}

fn completed(millis: u64, id: &str) -> Event {
    event(millis, "task.completed", json!({ "task_id": id, "result": null }))
}

fn model(steps: usize) -> Model {
    let ids: Vec<String> = (0..steps).map(|n| format!("s{n}")).collect();
    Model::new(ids.iter().map(String::as_str))
}

fn shown(model: &Model, millis: u64) -> Vec<String> {
    let lines = model.lines(at(millis));
    lines.iter().map(|line| format!("{} {}", line.id, line.text).trim_end().to_owned()).collect()
}

#[test]
fn of_a_thousand_steps_a_few_are_shown() {
    let mut model = model(1_000);
    assert_eq!(shown(&model, 0), ["s0", "s1", "s2", "s3"]);
    for step in 0..500 {
        let id = format!("s{step}");
        model.tell(&started(step * 10, &id, 1));
        model.tell(&completed(step * 10 + 7, &id));
    }
    model.tell(&started(5_000, "s500", 1));
    assert_eq!(shown(&model, 6_500), ["s498 7 ms", "s499 7 ms", "s500 1.50 s", "s501", "s502", "s503"]);
    assert_eq!(model.done, 500);
}

#[test]
fn a_step_shows_its_attempt_its_wait_and_its_last_report() {
    let mut model = model(2);
    model.tell(&started(0, "s0", 1));
    model.tell(&event(
        10,
        "task.progress",
        json!({ "task_id": "s0", "attempt": 1, "value": { "stream": "stdout", "line": "50 %" } }),
    ));
    assert_eq!(shown(&model, 20), ["s0 20 ms | 50 %", "s1"]);
    let failed = json!({
        "task_id": "s0", "attempt": 1, "will_retry": true, "next_attempt_at": "1970-01-01T00:00:05Z",
        "kind": "error", "error": "no connection"
    });
    model.tell(&event(1_000, "task.failed", failed));
    assert_eq!(shown(&model, 1_000)[0], "s0 attempt 2 in 4.00 s: no connection");
    assert_eq!(shown(&model, 2_500)[0], "s0 attempt 2 in 3.00 s: no connection", "a started second counts");
    model.tell(&started(5_000, "s0", 2));
    assert_eq!(shown(&model, 5_500)[0], "s0 attempt 2, 500 ms", "the report was that of the attempt before");
}

#[test]
fn what_was_missed_is_taken_to_be_over() {
    let mut model = model(9);
    model.tell(&started(0, "s0", 1));
    model.tell(&event(1, "subscription.lagged", json!({ "missed": 12 })));
    model.tell(&started(1_000, "s6", 1));
    assert_eq!((model.done, model.missed), (6, 12));
    assert_eq!(shown(&model, 1_000)[..3], ["s4", "s5", "s6 0.00 ms"]);
    assert!(model.lines(at(0))[..2].iter().all(|line| line.standing.is_over()));
}

#[test]
fn a_run_that_goes_on_shows_what_it_has_behind_it_and_what_it_waits_for() {
    let mut model = model(3);
    model.tell(&event(0, "task.recovered", json!({ "task_id": "s0" })));
    model.tell(&event(0, "plan.parked", json!({ "task_id": "s1", "breaker": "db" })));
    assert_eq!(shown(&model, 0), ["s0", "s1 parked: the breaker db is open", "s2"]);
    model.tell(&event(0, "plan.parked", json!({ "task_id": "s1", "limit": "openai" })));
    assert_eq!(shown(&model, 0), ["s0", "s1 parked: the limit openai has no permit", "s2"]);
    model.tell(&event(0, "plan.paused", json!({})));
    assert_eq!(shown(&model, 0)[1], "s1 paused");
    model.tell(&event(0, "task.skipped", json!({ "task_id": "s1" })));
    assert_eq!((shown(&model, 0)[1].as_str(), model.done), ("s1 skipped", 2));
    model.tell(&event(0, "task.cancelled", json!({ "task_id": "s2", "attempt": 1 })));
    assert_eq!(shown(&model, 0)[2], "s2 cancelled");
}

#[test]
fn a_report_is_shown_as_the_line_that_it_is() {
    assert_eq!(reported(&json!("half")), "half");
    assert_eq!(reported(&json!({ "line": "x" })), "x");
    assert_eq!(reported(&json!({ "files": 3 })), r#"{"files":3}"#);
}

#[test]
fn what_a_step_waits_for_is_shown_until_it_has_it() {
    let mut model = model(4);
    let step = |millis, kind: &str, mut fields: serde_json::Value| {
        fields["task_id"] = json!("s0");
        event(millis, kind, fields)
    };
    model.tell(&step(0, "task.sleeping", json!({ "until": "1970-01-01T00:01:30Z" })));
    assert_eq!(shown(&model, 500)[0], "s0 sleeps for 1 m 30 s");
    model.tell(&step(0, "task.awaiting_signal", json!({ "signal": "go" })));
    assert_eq!(shown(&model, 0)[0], "s0 waits for the signal go");
    model.tell(&step(0, "task.awaiting_signal", json!({ "signal": "go", "until": "1970-01-01T00:00:09Z" })));
    assert_eq!(shown(&model, 1_000)[0], "s0 waits for the signal go, for 8.00 s");
    model.tell(&step(0, "task.verifying", json!({ "attempt": 1 })));
    assert_eq!(shown(&model, 20)[0], "s0 whether it had its effect is asked, 20 ms");
    model.tell(&step(0, "task.held", json!({ "attempt": 1, "reason": "unverified" })));
    assert_eq!(
        shown(&model, 0)[0],
        "s0 held: it was cut off, and whether it had its effect could not be told"
    );
    assert_eq!(model.done, 0);
}

#[test]
fn steps_are_seen_while_they_are_undone_from_the_last_to_the_first() {
    let mut model = model(10);
    for step in 0..9 {
        model.tell(&started(step, &format!("s{step}"), 1));
        model.tell(&completed(step, &format!("s{step}")));
    }
    let undoing =
        |attempt: u32| event(0, "task.compensating", json!({ "task_id": "s1", "attempt": attempt }));
    model.tell(&undoing(1));
    assert_eq!(shown(&model, 7)[..3], ["s0 0.00 ms", "s1 being undone, 7 ms", "s2 0.00 ms"]);
    let failed = json!({
        "task_id": "s1", "attempt": 1, "will_retry": true, "next_attempt_at": "1970-01-01T00:00:05Z",
        "kind": "error", "error": "nobody there"
    });
    model.tell(&event(0, "task.compensation_failed", failed.clone()));
    assert_eq!(shown(&model, 0)[1], "s1 attempt 2 in 5.00 s: nobody there");
    model.tell(&undoing(2));
    assert_eq!(shown(&model, 7)[1], "s1 being undone, attempt 2, 7 ms");
    model.tell(&event(0, "task.compensated", json!({ "task_id": "s1" })));
    assert_eq!(shown(&model, 7)[1], "s1 undone");
    let last = json!({ "task_id": "s0", "attempt": 1, "kind": "error", "error": "nobody there" });
    model.tell(&event(0, "task.compensating", json!({ "task_id": "s0", "attempt": 1 })));
    model.tell(&event(0, "task.compensation_failed", last));
    assert_eq!(shown(&model, 7)[0], "s0 nobody there");
}

#[test]
fn another_generation_begins_where_it_says() {
    let mut model = model(4);
    model.tell(&started(0, "s0", 1));
    model.tell(&completed(0, "s0"));
    model.tell(&started(0, "s1", 1));
    model.tell(&completed(0, "s1"));
    model.tell(&event(0, "plan.retried", json!({ "generation": 2, "task_id": "s1", "completed": 1 })));
    assert_eq!(
        (shown(&model, 0), model.done),
        (["s0 0.00 ms", "s1", "s2", "s3"].map(str::to_owned).to_vec(), 1)
    );
}
