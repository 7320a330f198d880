//! Every key, every default, and where problems are told to be.

use std::time::{Duration, UNIX_EPOCH};

use lunacore::PlanFormat::{Json, Toml, Yaml};
use lunacore::{
    AllocatorError, Jitter, OnFailure, OnInterrupted, Plan, PlanFile, PlanFileFault, PlanFormat, PlanInput,
    PlanRecord, RegistryAllocator, Resolve, ResolveError, Retry, Step, WhenOpen,
};
use serde_json::{Map, Value, json};

use super::{complaint, problems};

const WHOLE_YAML: &str = r#"
name: nightly
description: Loads what came in.
inputs:
  zone: string
  day: { type: string, default: "2026-11-23", description: the day to load }
  limit: { default: 5 }
steps:
  - id: fetch
    uses: http.get
    with: { url: "https://example.org/${{ inputs.day }}", tries: [1, 2.5, true, null] }
    agent: loader
    attributes: { gpu: true }
    inline: true
    retry:
      max_attempts: 7
      delay: 200ms
      factor: 1.5
      max_delay: 1m 30s
      jitter: equal
      budget: 2h
      on_panic: true
      on_timeout: true
    timeout: 30s
    total_timeout: 5m
    grace: 0s
    breaker: upstream
    when_open: fail
    limit: http
    on_failure: { fallback: cache.get }
    escalate_on_failure: true
    on_interrupted: { verify: http.seen }
    compensate: { uses: http.undo, retry: { max_attempts: 2, delay: 1m }, timeout: 10s }
  - id: count
    when: ${{ steps.fetch.output.ok }}
    retry: 5
    on_failure: continue
    on_interrupted: hold
    compensate: forget
  - id: cool
    sleep: 1m 30s
    when: ${{ steps.fetch.output.ok }}
    on_failure: hold
  - { id: eve, sleep_until: "2026-12-24T18:00:00.25Z", agent: santa }
  - { id: ask, wait_for_signal: decision, timeout: 3days, total_timeout: 4days, on_failure: { fallback: cache.get } }
  - id: last
    when: true
    when_open: park
    on_failure: abort
    inline: false
    escalate_on_failure: false
    on_interrupted: rerun
"#;

const WHOLE_TOML: &str = r#"
name = "nightly"
description = "Loads what came in."

[inputs]
zone = "string"
day = { type = "string", default = "2026-11-23", description = "the day to load" }
limit.default = 5

[[steps]]
id = "fetch"
uses = "http.get"
# TOML has no null.
with = { url = "https://example.org/${{ inputs.day }}", tries = [1, 2.5, true] }
agent = "loader"
attributes.gpu = true
inline = true
timeout = "30s"
total_timeout = "5m"
grace = "0s"
breaker = "upstream"
when_open = "fail"
limit = "http"
on_failure.fallback = "cache.get"
escalate_on_failure = true
on_interrupted.verify = "http.seen"

[steps.compensate]
uses = "http.undo"
retry = { max_attempts = 2, delay = "1m" }
timeout = "10s"

[steps.retry]
max_attempts = 7
delay = "200ms"
factor = 1.5
max_delay = "1m 30s"
jitter = "equal"
budget = "2h"
on_panic = true
on_timeout = true

[[steps]]
id = "count"
when = "${{ steps.fetch.output.ok }}"
retry = 5
on_failure = "continue"
on_interrupted = "hold"
compensate = "forget"

[[steps]]
id = "cool"
sleep = "1m 30s"
when = "${{ steps.fetch.output.ok }}"
on_failure = "hold"

[[steps]]
id = "eve"
sleep_until = "2026-12-24T18:00:00.25Z"
agent = "santa"

[[steps]]
id = "ask"
wait_for_signal = "decision"
timeout = "3days"
total_timeout = "4days"
on_failure.fallback = "cache.get"

[[steps]]
id = "last"
when = true
"#;

const WHOLE_JSON: &str = r#"{
  "name": "nightly", "description": "Loads what came in.",
  "inputs": {
    "zone": "string",
    "day": { "type": "string", "default": "2026-11-23", "description": "the day to load" },
    "limit": { "default": 5 }
  },
  "steps": [
    {
      "id": "fetch", "uses": "http.get",
      "with": { "url": "https://example.org/${{ inputs.day }}", "tries": [1, 2.5, true, null] },
      "agent": "loader", "attributes": { "gpu": true }, "inline": true,
      "retry": {
        "max_attempts": 7, "delay": "200ms", "factor": 1.5, "max_delay": "1m 30s", "jitter": "equal",
        "budget": "2h", "on_panic": true, "on_timeout": true
      },
      "timeout": "30s", "total_timeout": "5m", "grace": "0s", "breaker": "upstream", "when_open": "fail",
      "limit": "http",
      "on_failure": { "fallback": "cache.get" }, "escalate_on_failure": true,
      "on_interrupted": { "verify": "http.seen" },
      "compensate": { "uses": "http.undo", "retry": { "max_attempts": 2, "delay": "1m" }, "timeout": "10s" }
    },
    {
      "id": "count", "when": "${{ steps.fetch.output.ok }}", "retry": 5, "on_failure": "continue",
      "on_interrupted": "hold", "compensate": "forget"
    },
    { "id": "cool", "sleep": "1m 30s", "when": "${{ steps.fetch.output.ok }}", "on_failure": "hold" },
    { "id": "eve", "sleep_until": "2026-12-24T18:00:00.25Z", "agent": "santa" },
    {
      "id": "ask", "wait_for_signal": "decision", "timeout": "3days", "total_timeout": "4days",
      "on_failure": { "fallback": "cache.get" }
    },
    { "id": "last", "when": true }
  ]
}"#;

/// The same plan in Rust.
fn whole(tries: Value) -> Plan {
    let retry = Retry::fixed(Duration::from_millis(200)).max_attempts(7).factor(1.5).jitter(Jitter::Equal);
    let retry = retry.max_delay(Duration::from_secs(90)).budget(Duration::from_secs(7_200));
    let fetch = Step::named("fetch")
        .uses("http.get")
        .with(json!({ "url": "https://example.org/${{ inputs.day }}", "tries": tries }))
        .agent("loader")
        .attr("gpu", true)
        .inline()
        .retry(retry.on_panic(true).on_timeout(true))
        .timeout(Duration::from_secs(30))
        .total_timeout(Duration::from_secs(300))
        .grace(Duration::ZERO)
        .breaker("upstream")
        .when_open(WhenOpen::Fail)
        .limit("http")
        .on_failure(OnFailure::fallback_named("cache.get"))
        .escalate_on_failure()
        .on_interrupted(OnInterrupted::verify_named("http.seen"))
        .compensate_named("http.undo")
        .compensation_retry(Retry::exponential(Duration::from_secs(60)).max_attempts(2))
        .compensation_timeout(Duration::from_secs(10));
    let count = Step::named("count")
        .when("${{ steps.fetch.output.ok }}")
        .retry(Retry::exponential(Duration::from_secs(1)).max_attempts(5))
        .on_failure(OnFailure::Continue)
        .on_interrupted(OnInterrupted::Hold)
        .compensate_named("forget");
    let cool = Step::sleep("cool", Duration::from_secs(90))
        .when("${{ steps.fetch.output.ok }}")
        .on_failure(OnFailure::Hold);
    let eve = UNIX_EPOCH + Duration::from_millis(1_798_135_200_250);
    let eve = Step::sleep_until("eve", eve).agent("santa");
    let day = Duration::from_secs(86_400);
    let ask = Step::wait_for_signal("ask", "decision").timeout(3 * day).total_timeout(4 * day);
    let ask = ask.on_failure(OnFailure::fallback_named("cache.get"));
    Plan::new([fetch, count, cool, eve, ask, Step::named("last").when("true")])
        .name("nightly")
        .description("Loads what came in.")
        .declare("zone", PlanInput::string())
        .declare("day", PlanInput::string().default("2026-11-23").description("the day to load"))
        .declare("limit", PlanInput::any().default(5))
}

fn record(plan: Plan) -> PlanRecord {
    let inputs = Map::from_iter([("zone".to_owned(), json!("CET"))]);
    PlanRecord::with_inputs(plan, inputs).unwrap()
}

#[test]
fn a_file_says_what_a_plan_in_rust_does() {
    for (format, text, tries) in [
        (Yaml, WHOLE_YAML, json!([1, 2.5, true, null])),
        (Toml, WHOLE_TOML, json!([1, 2.5, true])),
        (Json, WHOLE_JSON, json!([1, 2.5, true, null])),
    ] {
        let read = Plan::from_text(text, format).unwrap();
        let expected = whole(tries);
        assert_eq!(
            read.inputs().collect::<Vec<_>>(),
            expected.inputs().collect::<Vec<_>>(),
            "{format}: the inputs, in their order"
        );
        let (read, expected) = (record(read), record(expected));
        // As JSON first, which shows the difference.
        assert_eq!(json!(read), json!(expected), "{format}");
        assert_eq!(read, expected, "{format}");
        assert_eq!(read.fingerprint(), expected.fingerprint(), "{format}");
    }
}

/// The record of the one step of this file.
fn step(text: &str) -> PlanRecord {
    PlanRecord::of(Plan::from_text(&format!("steps:\n  - id: a\n    {text}\n"), Yaml).unwrap()).unwrap()
}

#[test]
fn what_is_left_out_has_its_default() {
    let plain = |step: Step| PlanRecord::of([step]).unwrap();
    let named = || Step::named("a");
    let second = Duration::from_secs(1);
    assert_eq!(step(""), plain(named()));
    assert_eq!(step("retry: 5"), plain(named().retry(Retry::exponential(second).max_attempts(5))));
    assert_eq!(step("retry: {}"), plain(named().retry(Retry::exponential(second))));
    let hour = Duration::from_secs(3_600);
    assert_eq!(step("retry: { delay: 1h }"), plain(named().retry(Retry::exponential(hour))));
    // A delay of nothing is not made longer.
    let zero = Retry::fixed(Duration::ZERO).jitter(Jitter::Full);
    assert_eq!(step("retry: { delay: 0s }"), plain(named().retry(zero)));
    let none = Retry::exponential(second).jitter(Jitter::None);
    assert_eq!(step("retry: { jitter: none }"), plain(named().retry(none)));
    // One that is undone is so by one attempt, unless more is said.
    let undone = || named().compensate_named("u");
    assert_eq!(step("compensate: u"), plain(undone()));
    assert_eq!(step("compensate: { uses: u }"), plain(undone()));
    let five = Retry::exponential(second).max_attempts(5);
    assert_eq!(step("compensate: { uses: u, retry: 5 }"), plain(undone().compensation_retry(five)));
    assert_eq!(step("on_failure: hold"), plain(named().on_failure(OnFailure::Hold)));
    assert_eq!(step("on_interrupted: rerun"), plain(named()));
}

#[test]
fn what_holds_no_expression_is_plain_data() {
    let read = |with: &str| Plan::from_text(&format!("steps: [{{ id: a, with: {with} }}]"), Yaml).unwrap();
    for (with, template, input) in [
        (r#""plain $ {{ x }}""#, false, json!("plain $ {{ x }}")),
        (r#"["$${{ x", { k: "a $${{ b }} $${{ c" }]"#, false, json!(["${{ x", { "k": "a ${{ b }} ${{ c" }])),
        (r#""$$${{ x""#, false, json!("$${{ x")),
        (r#"["${{ 1 }}", "$${{ x }}"]"#, true, json!(["${{ 1 }}", "$${{ x }}"])),
    ] {
        let plan = read(with);
        assert_eq!(
            (plan.steps()[0].has_template(), plan.steps()[0].get_input()),
            (template, &input),
            "{with}"
        );
    }
}

#[test]
fn all_problems_are_told_each_with_its_line() {
    let text = "\
nmae: x
steps:
  - id: a
    timeuot: 30s
    timeout: 30
  - id: b
    retry: { max_attempts: 0, jitter: ful }
  - id: a
    on_failure: { fallbck: x }
    timeout: 0s
    total_timeout: 400days
";
    assert_eq!(
        complaint(Yaml, text),
        r#"1:1: unknown key "nmae" in the plan; did you mean "name"?
  1 | nmae: x
    | ^
4:5: unknown key "timeuot" in a step; did you mean "timeout"?
  4 |     timeuot: 30s
    |     ^
5:14: `timeout` is the number 30; 30 what? write 30s
  5 |     timeout: 30
    |              ^
7:28: the policy of step 1 ("b") is not valid: max_attempts is 0; it counts the first attempt too, so give it 1 for no retry
  7 |     retry: { max_attempts: 0, jitter: ful }
    |                            ^
7:39: `jitter` is "ful"; did you mean "full"?
  7 |     retry: { max_attempts: 0, jitter: ful }
    |                                       ^
8:9: steps 0 and 2 have the same id "a"; each step of a plan needs its own
  8 |   - id: a
    |         ^
9:17: `on_failure` has no "fallback"; name the callable that is called instead
  9 |     on_failure: { fallbck: x }
    |                 ^
9:19: unknown key "fallbck" in `on_failure`; did you mean "fallback"?
  9 |     on_failure: { fallbck: x }
    |                   ^
10:14: the policy of step 2 ("a") is not valid: the timeout is 0s, in which nothing can be done; leave it out for none
  10 |     timeout: 0s
     |              ^"#
    );
    let json = r#"{"steps": [{"id": "a",
        "timeuot": "30s", "timeout": 30}, {"id": "a"}]}"#;
    assert_eq!(
        problems(Json, json),
        [
            r#"2:9: unknown key "timeuot" in a step; did you mean "timeout"?"#,
            "2:38: `timeout` is the number 30; 30 what? write 30s",
            r#"2:50: steps 0 and 1 have the same id "a"; each step of a plan needs its own"#,
        ]
    );
    let toml = "[[steps]]\nid = 'a'\ntimeuot = '30s'\n[[steps]]\nid = 'a'\n[steps.retry]\ndelay = 5\n";
    assert_eq!(
        problems(Toml, toml),
        [
            r#"3:1: unknown key "timeuot" in a step; did you mean "timeout"?"#,
            r#"5:6: steps 0 and 1 have the same id "a"; each step of a plan needs its own"#,
            "7:9: `delay` is the number 5; 5 what? write 5s",
        ]
    );
}

#[test]
fn every_check_of_a_policy_points_at_its_key() {
    for (policy, column, what) in [
        ("timeout: 0s", 14, "the timeout is 0s, in which nothing can be done; leave it out for none"),
        (
            "total_timeout: 0s",
            20,
            "the total_timeout is 0s, in which nothing can be done; leave it out for none",
        ),
        (
            "grace: 400days",
            12,
            "the grace is 1year 1month 4days 7h 26m 24s, more than 366 days; was another unit meant?",
        ),
        ("retry: 0", 12, "max_attempts is 0; it counts the first attempt too, so give it 1 for no retry"),
        (
            "retry: { max_attempts: 10001 }",
            28,
            "max_attempts is 10001, more than 10000; let it wait longer between fewer attempts",
        ),
        ("retry: { factor: 0.5 }", 22, "the factor is 0.5; give it a finite number of at least 1"),
        (
            "retry: { factor: 3, delay: 0s }",
            32,
            "the first delay is 0s, which a factor of 3 does not make longer; give it a longer one, or use Retry::fixed",
        ),
        (
            "retry: { max_delay: 1ms }",
            25,
            "max_delay is 1ms, shorter than the first delay of 1s; raise the one or lower the other",
        ),
        (
            "retry: { budget: 0s }",
            22,
            "the budget is 0s, in which no further attempt can start; give it a longer one, or use Retry::none",
        ),
        (
            "sleep: 400days",
            12,
            "the sleep is 1year 1month 4days 7h 26m 24s, more than 366 days; was another unit meant?",
        ),
        (
            "compensate: { uses: u, timeout: 0s }",
            37,
            "the timeout of the compensation is 0s, in which nothing can be done; leave it out for none",
        ),
        (
            "compensate: { uses: u, retry: { factor: 0.5 } }",
            45,
            "the retry policy of the compensation is not valid: the factor is 0.5; give it a finite number of at least 1",
        ),
        (
            "compensate: { uses: u, retry: 0 }",
            35,
            "the retry policy of the compensation is not valid: max_attempts is 0; it counts the first attempt too, so give it 1 for no retry",
        ),
    ] {
        let text = format!("steps:\n  - id: a\n    {policy}\n");
        let expected = format!(r#"3:{column}: the policy of step 0 ("a") is not valid: {what}"#);
        assert_eq!(problems(Yaml, &text), [expected]);
    }
}

#[test]
fn a_step_that_waits_has_nothing_that_it_cannot_have_and_is_told_at_the_key() {
    let told = |what: &str| {
        format!(r#"the policy of step 0 ("a") is not valid: a step that only waits cannot have {what}"#)
    };
    let wrong = [
        ("uses: x", 11, "a callable"),
        ("with: 1", 11, "an input"),
        ("with: '${{ run.id }}'", 11, "an input"),
        ("retry: 5", 12, "a retry policy"),
        ("inline: true", 13, "a call in place"),
        ("grace: 1s", 12, "a grace"),
        ("breaker: b", 14, "a circuit breaker"),
        ("when_open: fail", 16, "a rule for an open breaker"),
        ("limit: l", 12, "a limit"),
        ("on_interrupted: hold", 21, "a rule for when it is cut off"),
        ("on_interrupted: { verify: v }", 21, "a rule for when it is cut off"),
        ("compensate: u", 17, "a compensation"),
    ];
    let times = [
        ("timeout: 5s", 14, "a timeout: it ends when it says"),
        ("total_timeout: 5s", 20, "a total timeout: it ends when it says"),
    ];
    for wait in ["sleep: 1s", "sleep_until: 2026-12-24T18:00:00Z", "wait_for_signal: s"] {
        let text = |line: &str| format!("steps:\n  - id: a\n    {wait}\n    {line}\n");
        for (line, column, what) in wrong {
            assert_eq!(
                problems(Yaml, &text(line)),
                [format!("4:{column}: {}", told(what))],
                "{wait}, {line}"
            );
        }
        for (line, column, what) in times {
            if wait.starts_with("wait") {
                assert!(Plan::from_text(&text(line), Yaml).is_ok(), "{wait}, {line}");
            } else {
                let expected = format!("4:{column}: {}", told(what));
                assert_eq!(problems(Yaml, &text(line)), [expected], "{wait}, {line}");
            }
        }
        for line in [
            "when: true",
            "agent: b",
            "attributes: { x: 1 }",
            "on_failure: continue",
            "escalate_on_failure: true",
        ] {
            assert!(Plan::from_text(&text(line), Yaml).is_ok(), "{wait}, {line}");
        }
    }
}

#[test]
fn the_plans_of_the_manual_are_plans() {
    let manual = include_str!("../../../src/plan_file/manual.md");
    let plans: Vec<&str> =
        manual.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(plans.len(), 2);
    for plan in plans {
        Plan::from_text(plan, Yaml).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn a_step_waits_for_one_thing() {
    for (line, column, first, second) in [
        ("sleep: 1s, wait_for_signal: s", 46, "sleep", "wait_for_signal"),
        ("wait_for_signal: s, sleep: 1s", 45, "wait_for_signal", "sleep"),
        ("sleep: 1s, sleep_until: 2026-12-24T18:00:00Z", 42, "sleep", "sleep_until"),
        ("sleep_until: 2026-12-24T18:00:00Z, wait_for_signal: s", 70, "sleep_until", "wait_for_signal"),
    ] {
        let text = format!("steps: [{{ id: a, {line} }}]");
        let expected = format!(
            "1:{column}: a step waits for one thing, and this one has {first:?} and {second:?}; make two steps of it"
        );
        assert_eq!(problems(Yaml, &text), [expected], "{line}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn every_value_of_another_type_is_told() {
    for (line, expected) in [
        ("id: 5", "3:9: `id` is the number 5, but text is expected; put it in quotes"),
        ("id: ''", r#"3:9: the id "" is empty"#),
        ("uses: [x]", "3:11: `uses` is a list, but text is expected"),
        ("when: 5", "3:11: `when` is the number 5, but text is expected; put it in quotes"),
        ("agent: true", "3:12: `agent` is true, but text is expected; put it in quotes"),
        ("attributes: x", r#"3:17: `attributes` is the text "x", but a mapping is expected"#),
        ("inline: yes", r#"3:13: `inline` is the text "yes", but true or false is expected"#),
        ("retry: often", r#"3:12: `retry` is the text "often", but a mapping is expected"#),
        ("retry: 1.5", "3:12: `retry` is 1.5, but a whole number from 0 to 4294967295 is expected"),
        ("retry: { factor: big }", r#"3:22: `factor` is the text "big", but a number is expected"#),
        ("retry: { on_panic: 1 }", "3:24: `on_panic` is the number 1, but true or false is expected"),
        ("timeout: 30", "3:14: `timeout` is the number 30; 30 what? write 30s"),
        ("timeout: '30'", r#"3:14: `timeout` is the text "30"; 30 what? write 30s"#),
        ("timeout: 1.5", "3:14: `timeout` is the number 1.5; write a duration, such as 1s 500ms"),
        (
            "timeout: soon",
            r#"3:14: `timeout` is the text "soon"; write a duration, such as 30s, 5m or 1h 30m"#,
        ),
        ("timeout: -5s", r#"3:14: `timeout` is the text "-5s"; write a duration, such as 30s, 5m or 1h 30m"#),
        (
            "timeout: [30s]",
            "3:14: `timeout` is a list, but a duration is expected; write it as 30s, 5m or 1h 30m",
        ),
        ("when_open: 3", "3:16: `when_open` is the number 3, but a word is expected"),
        ("when_open: wait", r#"3:16: `when_open` is "wait"; known are park, fail"#),
        ("on_failure: skip", r#"3:17: `on_failure` is "skip"; known are abort, continue, hold"#),
        ("on_failure: hodl", r#"3:17: `on_failure` is "hodl"; did you mean "hold"?"#),
        ("on_interrupted: ask", r#"3:21: `on_interrupted` is "ask"; known are rerun, hold"#),
        ("on_interrupted: rerrun", r#"3:21: `on_interrupted` is "rerrun"; did you mean "rerun"?"#),
        (
            "on_interrupted: {}",
            "3:21: `on_interrupted` has no \"verify\"; name the callable that is asked whether the step had its effect",
        ),
        ("on_interrupted: { verify: '' }", r#"3:31: the verify "" is empty"#),
        ("compensate: ''", r#"3:17: the compensate "" is empty"#),
        ("compensate: 5", "3:17: `compensate` is the number 5, but a mapping is expected"),
        (
            "compensate: { retry: 5 }",
            r#"3:17: `compensate` has no "uses"; name the callable that undoes the step"#,
        ),
        ("compensate: { uses: [] }", "3:25: `uses` is a list, but text is expected"),
        (
            "compensate: { uses: u, rety: 5 }",
            r#"3:28: unknown key "rety" in `compensate`; did you mean "retry"?"#,
        ),
        ("sleep: 30", "3:12: `sleep` is the number 30; 30 what? write 30s"),
        ("sleep: soon", r#"3:12: `sleep` is the text "soon"; write a duration, such as 30s, 5m or 1h 30m"#),
        (
            "sleep_until: tomorrow",
            r#"3:18: `sleep_until` is the text "tomorrow"; write a time in UTC, such as 2026-12-24T18:00:00Z"#,
        ),
        (
            "sleep_until: 2026-12-24T18:00:00+01:00",
            r#"3:18: `sleep_until` is the text "2026-12-24T18:00:00+01:00"; write a time in UTC, such as 2026-12-24T18:00:00Z"#,
        ),
        (
            "sleep_until: 5",
            r#"3:18: `sleep_until` is the number 5, but a time is expected; write it as text, such as "2026-12-24T18:00:00Z""#,
        ),
        ("wait_for_signal: ''", r#"3:22: the wait_for_signal "" is empty"#),
        ("wait_for_signal: [x]", "3:22: `wait_for_signal` is a list, but text is expected"),
        (
            "wiat_for_signal: x",
            r#"3:5: unknown key "wiat_for_signal" in a step; did you mean "wait_for_signal"?"#,
        ),
        ("breaker: ''", r#"3:14: the breaker "" is empty"#),
        ("limit: ''", r#"3:12: the limit "" is empty"#),
        ("limit: 5", "3:12: `limit` is the number 5, but text is expected; put it in quotes"),
        (
            "unheard_of: 1",
            "3:5: unknown key \"unheard_of\" in a step; known are id, sleep, sleep_until, wait_for_signal, uses, with, when, agent, attributes, inline, retry, timeout, total_timeout, grace, breaker, when_open, limit, on_failure, escalate_on_failure, on_interrupted, compensate",
        ),
    ] {
        let id = if line.starts_with("id") { "inline: false" } else { "id: a" };
        assert_eq!(problems(Yaml, &format!("steps:\n  - {id}\n    {line}\n")), [expected]);
    }
    let date = problems(Toml, "[[steps]]\nid = 'a'\nsleep_until = 2026-12-24T18:00:00Z\n");
    assert_eq!(date, ["3:15: a plan holds no dates; put it in quotes, as text"]);
    for (text, expected) in [
        ("steps: 5", "1:8: `steps` is the number 5, but a list is expected"),
        ("steps: [5]", "1:9: a step is the number 5, but a mapping is expected"),
        ("name: x", "1:1: the plan has no \"steps\"; it is the list of what is done"),
        ("name: ''\nsteps: []", r#"1:7: the plan name "" is empty"#),
        (
            "steps: [{ uses: x }]",
            r#"1:9: the step has no "id"; give it a name of its own, under which its result is found"#,
        ),
        ("inputs: [x]\nsteps: []", "1:9: `inputs` is a list, but a mapping is expected"),
        ("inputs: { x: 5 }\nsteps: []", "1:14: an input is the number 5, but a mapping is expected"),
        ("inputs: { x: strng }\nsteps: []", r#"1:14: `type` is "strng"; did you mean "string"?"#),
        (
            "inputs: { x: { tpye: any } }\nsteps: []",
            r#"1:16: unknown key "tpye" in an input; did you mean "type"?"#,
        ),
        (
            "inputs: { x: { type: integer, default: a } }\nsteps: []",
            r#"1:40: the default of the input "x" is of type string, but integer was declared"#,
        ),
        ("inputs: { '': any }\nsteps: []", r#"1:11: the input name "" is empty"#),
    ] {
        assert_eq!(problems(Yaml, text), [expected], "{text}");
    }
}

#[test]
fn what_cannot_be_called_is_told_with_its_place() {
    let text = "\
steps:
  - id: a
    uses: shel
  - id: noop
  - id: c
    uses: noop
    on_failure: { fallback: nop }
    on_interrupted: { verify: nop }
    compensate: { uses: nop }
  - id: d
    compensate: dd
  - { id: e, sleep: 1s }
";
    let file = PlanFile::from_text(text, PlanFormat::Yaml).unwrap();
    assert!(file.check_callables(["shel", "noop", "nop", "d", "dd"]).is_ok(), "what waits calls nothing");
    let error = file.check_callables(["shell", "noop"]).unwrap_err();
    let expected = "\
3:11: step \"a\" uses \"shel\", which is not registered; did you mean \"shell\"?
  3 |     uses: shel
    |           ^
7:29: step \"c\" uses \"nop\", which is not registered; did you mean \"noop\"?
  7 |     on_failure: { fallback: nop }
    |                             ^
8:31: step \"c\" uses \"nop\", which is not registered; did you mean \"noop\"?
  8 |     on_interrupted: { verify: nop }
    |                               ^
9:25: step \"c\" uses \"nop\", which is not registered; did you mean \"noop\"?
  9 |     compensate: { uses: nop }
    |                         ^
10:5: step \"d\" uses \"d\", which is not registered
  10 |   - id: d
     |     ^
11:17: step \"d\" uses \"dd\", which is not registered
  11 |     compensate: dd
     |                 ^";
    assert_eq!(error.to_string(), expected);
    // The same of an allocator that has them all looked up.
    let registry = RegistryAllocator::new().register("shell", || 1).register("noop", || 1);
    assert_eq!(file.locate(registry.check(file.plan())).to_string(), expected);
    assert!(matches!(
        &error.problems()[0].fault,
        PlanFileFault::Callable(AllocatorError::NotRegistered { .. })
    ));
    // What an allocator of another kind says finds its place too.
    let reason = AllocatorError::other("not today");
    let said = Resolve::of(file.plan().clone()).unwrap().each(|_| Err(reason.clone())).unwrap_err();
    let _: &ResolveError = &said;
    assert_eq!(file.locate([said]).to_string(), "2:5: not today\n  2 |   - id: a\n    |     ^");
}

#[test]
fn only_so_many_problems_are_told_and_the_rest_is_counted() {
    let text = (0..250).map(|n| format!("  - {{ id: s{n}, tmeout: 1s }}\n")).collect::<String>();
    let error = Plan::from_text(&format!("steps:\n{text}"), Yaml).unwrap_err();
    assert_eq!(error.problems().len(), 100);
    assert!(error.to_string().ends_with("\nand 150 more"));
}

#[test]
fn what_is_wrong_with_an_expression_is_told_with_its_place() {
    let text = "\
inputs: { day: string }
steps:
  - id: fetch
    with:
      url: ${{ inputs.dya }}
      headers:
        - plain
        - x-y: ${{ steps.load.output }}
  - id: load
    when: steps.fecth.output ==
    with: ${{ steps.fetch.output }}
";
    let found = problems(Yaml, text);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found[0].starts_with("5:12: step 0 (\"fetch\") has an expression in with.url that is not valid: "),
        "{found:#?}"
    );
    assert!(found[0].contains("\"day\""), "what was meant: {found:#?}");
    assert!(
        found[1].starts_with("8:16: step 0 (\"fetch\") has an expression in with.headers[1][\"x-y\"]"),
        "{found:#?}"
    );
    assert!(found[2].starts_with("10:11: step 1 (\"load\") has an expression in when"), "{found:#?}");
    let mended = text.replace("dya", "day").replace("steps.load.output", "run.id");
    let mended = mended.replace("fecth", "fetch").replace(" ==", " == 1");
    assert!(Plan::from_text(&mended, Yaml).is_ok());
}
