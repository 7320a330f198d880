//! Circuit breakers and limits that plan files name.

use serde_json::json;

use crate::run::folder;
use crate::support::*;

#[test]
fn steps_keep_to_the_limits_that_are_given() {
    let step = |id: &str| json!({ "id": id, "uses": "noop", "limit": "api" });
    let dir = folder(&[("plan.json", json!({ "steps": [step("a"), step("b"), step("c")] }))]);
    let parked = " parked: the limit api has no permit\n";
    let told = run_in(dir.path(), &["run", "plan.json"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert!(!told.err.contains(parked), "one at a time is what a run does anyway: {}", told.err);
    let began = std::time::Instant::now();
    let told = run_in(dir.path(), &["run", "plan.json", "--limit", "api=1/600ms"]);
    assert_eq!(told.code, Some(0), "{}", told.err);
    assert_eq!(told.err.matches(parked).count(), 2, "{}", told.err);
    assert!(began.elapsed().as_millis() >= 1_200);
    let told = run_in(dir.path(), &["run", "plan.json", "--limit", "api=2,1/1h+3"]);
    assert_eq!((told.code, told.err.contains(parked)), (Some(0), false), "{}", told.err);
}

#[test]
fn a_limit_that_is_none_is_refused_before_a_store_is_made() {
    let dir = folder(&[("plan.json", json!({ "steps": [{ "id": "a", "uses": "noop", "limit": "api" }] }))]);
    let failed = |limit: &str| error(dir.path(), 2, &["run", "plan.json", "--limit", limit]);
    assert!(failed("api").contains("\"api\" is no limit; write NAME=60/1m"));
    assert!(failed("ape=1").contains("no step keeps to the limit ape; the limits that are named are: api"));
    assert!(failed("api=0").contains("the concurrency of the limit \"api\" is 0"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_breaker_opens_and_the_run_waits_for_it() {
    // Five failures open it, for longer than the step may take.
    let retry = json!({ "max_attempts": 9, "delay": "1ms" });
    let plan = json!({ "steps": [{
        "id": "a", "uses": "fail", "with": { "message": "down" }, "breaker": "api", "retry": retry, "total_timeout": "2s"
    }] });
    let dir = folder(&[("plan.json", plan)]);
    let told = run_in(dir.path(), &["run", "plan.json", "--run-id", "r"]);
    assert_eq!(told.code, Some(1), "{}", told.err);
    assert!(told.err.contains(" a parked: the breaker api is open\n"), "{}", told.err);
    assert!(out(dir.path(), &["events", "--pattern", "breaker.*"]).contains("breaker.opened  breaker api"));
}
