//! What is written is read again as it was, and no text makes the readers panic.

use std::time::{Duration, UNIX_EPOCH};

use lunacore::PlanFormat::{self, Json, Toml, Yaml};
use lunacore::limits::MAX_WAIT;
use lunacore::{
    InputType, Jitter, OnFailure, OnInterrupted, Plan, PlanInput, Retry, Step, StepContext, Wait, WhenOpen,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Of TOML, which has no null, values without one.
fn values(nulls: bool) -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "\\PC{0,12}",
        "[a-z#:'\" \\-\\[\\]{}$\n\t]{0,12}",
        Just("${{".to_owned()),
        Just("a $${{ b }} $$${{".to_owned()),
        Just("yes".to_owned()),
        Just("2026-11-23".to_owned()),
        Just("1e999".to_owned()),
        Just("007".to_owned()),
        Just("~".to_owned()),
    ];
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        text.prop_map(Value::from),
        Just(if nulls { Value::Null } else { json!("null") }),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(("[a-z0-9 .]{0,6}", inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn durations() -> impl Strategy<Value = Duration> {
    let longest = MAX_WAIT.as_secs() - 1;
    prop_oneof![
        (1..longest).prop_map(Duration::from_secs),
        (1..longest, 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos)),
    ]
}

fn retries() -> impl Strategy<Value = Retry> {
    let jitter = prop_oneof![Just(Jitter::Full), Just(Jitter::Equal), Just(Jitter::None)];
    let growth = (1.0..1e6_f64, durations(), option::of(0..1_000_u64));
    (1..10_000_u32, growth, jitter, option::of(durations()), any::<(bool, bool)>()).prop_map(
        |(attempts, (factor, delay, more), jitter, budget, (on_panic, on_timeout))| {
            let mut retry = Retry::fixed(delay).max_attempts(attempts).factor(factor).jitter(jitter);
            if let Some(more) = more {
                retry = retry.max_delay((delay + Duration::from_secs(more)).min(MAX_WAIT));
            }
            if let Some(budget) = budget {
                retry = retry.budget(budget);
            }
            retry.on_panic(on_panic).on_timeout(on_timeout)
        },
    )
}

/// What a step has of a policy.
#[derive(Debug, Clone)]
struct Drawn {
    retry: Option<Retry>,
    times: [Option<Duration>; 3],
    breaker: Option<String>,
    limit: Option<String>,
    fail: bool,
    failure: u8,
    escalate: bool,
    cut_off: u8,
    undo: Option<(Option<Retry>, Option<Duration>)>,
}

impl Drawn {
    fn of(self, step: Step) -> Step {
        let [timeout, total_timeout, grace] = self.times;
        let mut step = self.retry.into_iter().fold(step, Step::retry);
        step = timeout.into_iter().fold(step, Step::timeout);
        step = total_timeout.into_iter().fold(step, Step::total_timeout);
        step = grace.into_iter().fold(step, Step::grace);
        step = self.breaker.into_iter().fold(step, Step::breaker);
        step = self.limit.into_iter().fold(step, Step::limit);
        if self.fail {
            step = step.when_open(WhenOpen::Fail);
        }
        step = match self.failure {
            0 => step,
            1 => step.on_failure(OnFailure::Continue),
            2 => step.on_failure(OnFailure::Hold),
            _ => step.on_failure(OnFailure::fallback_named("other")),
        };
        step = match self.cut_off {
            0 => step,
            1 => step.on_interrupted(OnInterrupted::Hold),
            _ => step.on_interrupted(OnInterrupted::verify_named("seen")),
        };
        if let Some((retry, timeout)) = self.undo {
            step = step.compensate_named("undo");
            step = retry.into_iter().fold(step, Step::compensation_retry);
            step = timeout.into_iter().fold(step, Step::compensation_timeout);
        }
        if self.escalate { step.escalate_on_failure() } else { step }
    }

    /// What of it a step has that only waits; one that waits for a signal has two times more.
    fn waits(self, id: String, wait: Wait) -> Step {
        let (step, ends) = match wait {
            Wait::Sleep(time) => (Step::sleep(id, time), true),
            Wait::Until(time) => (Step::sleep_until(id, time), true),
            Wait::Signal(name) => (Step::wait_for_signal(id, name), false),
            other => panic!("{other:?} is new"),
        };
        let [timeout, total_timeout, _] = if ends { [None; 3] } else { self.times };
        let times = [timeout, total_timeout, None];
        Self { retry: None, times, breaker: None, limit: None, fail: false, cut_off: 0, undo: None, ..self }
            .of(step)
    }
}

fn policies() -> impl Strategy<Value = Drawn> {
    let time = || option::of(durations());
    let names = (option::of("[a-z]{1,8}"), option::of("[a-z]{1,8}"));
    let words = (names, any::<bool>(), 0..4_u8, any::<bool>(), 0..3_u8);
    let undo = option::of((option::of(retries()), time()));
    (option::of(retries()), [time(), time(), time()], words, undo).prop_map(
        |(retry, times, ((breaker, limit), fail, failure, escalate, cut_off), undo)| Drawn {
            retry,
            times,
            breaker,
            limit,
            fail,
            failure,
            escalate,
            cut_off,
            undo,
        },
    )
}

fn waits() -> impl Strategy<Value = Wait> {
    prop_oneof![
        durations().prop_map(Wait::Sleep),
        // To the microsecond, and until the year 9999.
        (0..253_402_300_799_999_999_u64)
            .prop_map(|micros| Wait::Until(UNIX_EPOCH + Duration::from_micros(micros))),
        "[a-z]{1,8}".prop_map(|name| Wait::Signal(name.into())),
    ]
}

fn plans(nulls: bool) -> impl Strategy<Value = Plan> {
    let attributes = vec(("[a-z]{1,4}", values(nulls)), 0..3);
    let step =
        (option::of("[a-z. ]{1,8}"), values(nulls), option::of("[a-z]{1,8}"), attributes, any::<bool>());
    let steps = vec((step, policies(), any::<bool>(), option::weighted(0.2, waits())), 0..5);
    let input = (0..7_usize, any::<bool>(), option::of("\\PC{0,12}"));
    let inputs = vec(("[a-z]{1,6}", input), 0..4);
    (option::of("\\PC{1,20}"), option::of("\\PC{0,40}"), inputs, steps).prop_map(
        |(name, about, inputs, steps)| {
            let steps = steps.into_iter().enumerate().map(
                |(index, ((uses, input, agent, attributes, inline), policy, template, wait))| {
                    let id = format!("step ä/{index}");
                    if let Some(wait) = wait {
                        let step = policy.waits(id, wait);
                        return agent.into_iter().fold(step, Step::agent);
                    }
                    let mut step = Step::named(id);
                    step = if template {
                        step.with(json!(["${{ run.id }}", "$${{"]))
                    } else {
                        step.input(input)
                    };
                    step = uses.into_iter().fold(step, Step::uses);
                    step = agent.into_iter().fold(step, Step::agent);
                    step = attributes.into_iter().fold(step, |step, (name, value)| step.attr(name, value));
                    if template {
                        step = step.when("run.id != ''");
                    }
                    policy.of(if inline { step.inline() } else { step })
                },
            );
            let mut plan = Plan::new(steps.collect::<Vec<_>>());
            // Names show all of themselves.
            let visible =
                |name: &String| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == ' ');
            plan = name.filter(visible).into_iter().fold(plan, Plan::name);
            plan = about.into_iter().fold(plan, Plan::description);
            for (name, (kind, default, about)) in inputs {
                let kinds = [
                    (InputType::String, json!("x")),
                    (InputType::Integer, json!(-5)),
                    (InputType::Number, json!(1.5)),
                    (InputType::Boolean, json!(false)),
                    (InputType::Array, json!([1, "a"])),
                    (InputType::Object, json!({ "a": 1 })),
                    (InputType::Any, json!("any")),
                ];
                let (kind, value) = kinds[kind].clone();
                let mut input = PlanInput::of(kind);
                if default {
                    input = input.default(value);
                }
                input = about.into_iter().fold(input, PlanInput::description);
                plan = plan.declare(name, input);
            }
            plan
        },
    )
}

fn write(plan: &Plan, format: PlanFormat) -> String {
    match format {
        Toml => toml::to_string(plan).unwrap(),
        Json => serde_json::to_string_pretty(plan).unwrap(),
        _ => serde_saphyr::to_string(plan).unwrap(),
    }
}

#[track_caller]
fn comes_back(plan: &Plan, format: PlanFormat) {
    let text = write(plan, format);
    let read = match Plan::from_text(&text, format) {
        Ok(read) => read,
        Err(error) => panic!("{format}: {error}\n{text}"),
    };
    assert_eq!(format!("{:?}", read.steps()), format!("{:?}", plan.steps()), "{text}");
    assert_eq!(read.inputs().collect::<Vec<_>>(), plan.inputs().collect::<Vec<_>>(), "{text}");
    assert_eq!(record(&read), record(plan), "{text}");
}

/// All of a plan that counts, given its inputs.
fn record(plan: &Plan) -> Value {
    let value = |kind: InputType| match kind {
        InputType::Integer => json!(1),
        InputType::Number => json!(1.5),
        InputType::Boolean => json!(true),
        InputType::Array => json!([]),
        InputType::Object => json!({}),
        _ => json!("x"),
    };
    let given = plan.inputs().map(|(name, input)| (name.to_owned(), value(input.input_type)));
    json!(lunacore::PlanRecord::with_inputs(plan.clone(), given.collect::<Map<_, _>>()).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_comes_back_from_yaml(plan in plans(true)) {
        comes_back(&plan, Yaml);
    }

    #[test]
    fn a_plan_comes_back_from_json(plan in plans(true)) {
        comes_back(&plan, Json);
        let read: Plan = serde_json::from_value(json!(plan)).unwrap();
        prop_assert_eq!(record(&read), record(&plan));
    }

    #[test]
    fn a_plan_comes_back_from_toml(plan in plans(false)) {
        comes_back(&plan, Toml);
    }

    #[test]
    fn no_text_makes_a_reader_panic(
        plan in plans(false),
        format in prop_oneof![Just(Yaml), Just(Toml), Just(Json)],
        edits in vec((any::<prop::sample::Index>(), 0..20_usize, "[\\[\\]{}:,&*!|>'\"%@`#?\\- \n\tx0$\u{0}\u{202e}ä]{0,4}"), 1..5),
    ) {
        let mut text: Vec<char> = write(&plan, format).chars().collect();
        for (place, length, with) in edits {
            let at = place.index(text.len() + 1);
            let end = (at + length).min(text.len());
            drop(text.splice(at..end, with.chars()));
        }
        let text: String = text.into_iter().collect();
        if let Err(error) = Plan::from_text(&text, format) {
            prop_assert!(!error.problems().is_empty());
            prop_assert!(!error.to_string().contains("has a bug"), "{}", text);
            let lines = text.split('\n').count();
            prop_assert!(error.problems().iter().all(|problem| (1..=lines).contains(&problem.line)));
        }
    }
}

#[test]
fn a_closure_cannot_be_written_and_is_named() {
    let error =
        |step: Step| serde_json::to_string(&Plan::new([Step::named("a"), step])).unwrap_err().to_string();
    let told = "which no file can hold; register the code and use it by name";
    assert_eq!(error(Step::new("b", || 1)), format!("step 1 (\"b\") is a closure, {told}"));
    let named = || Step::named("b");
    let fallback = named().on_failure(OnFailure::fallback(|ctx: StepContext| ctx.attempt()));
    assert_eq!(error(fallback), format!("step 1 (\"b\") had a closure as its fallback, {told}"));
    let retry_if = named().retry_if(|_| true);
    assert_eq!(error(retry_if), format!("step 1 (\"b\") decided about retries by a closure, {told}"));
    let verified = named().on_interrupted(OnInterrupted::verify(|| 1));
    assert_eq!(error(verified), format!("step 1 (\"b\") was verified by a closure, {told}"));
    let undone = named().compensate(|| 1);
    assert_eq!(error(undone), format!("step 1 (\"b\") was undone by a closure, {told}"));
    let never = named().compensation_timeout(Duration::from_secs(1));
    assert_eq!(
        error(never),
        "step 1 (\"b\"): it says how often or how long undoing is tried, but there is no callable that undoes; add `compensate`"
    );
    let calls = Step::sleep("b", Duration::ZERO).uses("x");
    assert_eq!(error(calls), "step 1 (\"b\"): a step that only waits cannot have a callable");
    let late = Step::sleep_until("b", UNIX_EPOCH + Duration::from_secs(253_402_300_800));
    assert_eq!(
        error(late),
        "step 1 (\"b\"): it sleeps until a time after the year 9999; was another unit meant?"
    );
    let factor = named().retry(Retry::none().factor(f64::NAN));
    assert_eq!(error(factor), "the retry factor of step 1 (\"b\") is NaN, which no file can hold");
    let deep = (0..101).fold(Value::Null, |inner, _| json!([inner]));
    assert_eq!(
        error(named().input(deep)),
        "the input or an attribute of step 1 (\"b\") nests too deep for a file"
    );
}

#[test]
fn a_plan_is_written_as_a_person_would() {
    let step =
        Step::named("fetch").uses("http.get").input("costs ${{ 5").timeout(Duration::from_millis(90_500));
    let plan =
        Plan::new([step.on_failure(OnFailure::Continue)]).name("x").declare("day", PlanInput::string());
    assert_eq!(
        json!(plan),
        json!({
            "name": "x",
            "inputs": { "day": { "type": "string" } },
            "steps": [{
                "id": "fetch", "uses": "http.get", "with": "costs $${{ 5", "timeout": "1m 30s 500ms",
                "on_failure": "continue"
            }]
        })
    );
    let retried = Plan::new([Step::named("a").retry(Retry::fixed(Duration::ZERO))]);
    let expected = json!({ "max_attempts": 3, "delay": "0s", "factor": 1.0, "jitter": "none" });
    assert_eq!(json!(retried)["steps"][0]["retry"], expected);
    let waits = Plan::new([
        Step::sleep("a", Duration::from_secs(90)),
        Step::sleep_until("b", UNIX_EPOCH + Duration::from_secs(60)),
        Step::wait_for_signal("c", "go"),
        Step::named("d").compensate_named("undo").on_interrupted(OnInterrupted::verify_named("seen")),
    ]);
    assert_eq!(
        json!(waits)["steps"],
        json!([
            { "id": "a", "sleep": "1m 30s" },
            { "id": "b", "sleep_until": "1970-01-01T00:01:00Z" },
            { "id": "c", "wait_for_signal": "go" },
            { "id": "d", "compensate": "undo", "on_interrupted": { "verify": "seen" } },
        ])
    );
}

#[test]
fn a_value_that_is_no_plan_tells_all_that_is_wrong() {
    let value =
        json!({ "nmae": "x", "steps": [{ "id": "a", "timeout": "0s" }, { "id": "a", "retry": 1.5 }] });
    assert_eq!(
        serde_json::from_value::<Plan>(value).unwrap_err().to_string(),
        "unknown key \"nmae\" in the plan; did you mean \"name\"?; \
         `retry` is 1.5, but a whole number from 0 to 4294967295 is expected; \
         the policy of step 0 (\"a\") is not valid: the timeout is 0s, in which nothing can be done; leave it out for none; \
         steps 0 and 1 have the same id \"a\"; each step of a plan needs its own"
    );
}
