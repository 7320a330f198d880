//! A step, as a file tells of it.

use std::time::Duration;

use super::fault::PlanFileFault;
use super::node::{Content, Node};
use super::read::Reader;
use crate::limits::PLAN_RETRY_DELAY;
use crate::plan::{OnFailure, OnInterrupted, Step, WhenOpen};
use crate::resilience::{Jitter, Retry};

// The keys of each mapping, in the order in which its reader takes them apart.
const STEP: [&str; 21] = [
    "id",
    "sleep",
    "sleep_until",
    "wait_for_signal",
    "uses",
    "with",
    "when",
    "agent",
    "attributes",
    "inline",
    "retry",
    "timeout",
    "total_timeout",
    "grace",
    "breaker",
    "when_open",
    "limit",
    "on_failure",
    "escalate_on_failure",
    "on_interrupted",
    "compensate",
];
const RETRY: [&str; 8] =
    ["max_attempts", "delay", "factor", "max_delay", "jitter", "budget", "on_panic", "on_timeout"];
const COMPENSATE: [&str; 3] = ["uses", "retry", "timeout"];

const WHEN_OPEN: [&str; 2] = ["park", "fail"];
const JITTER: [&str; 3] = ["full", "equal", "none"];
const ON_FAILURE: [&str; 3] = ["abort", "continue", "hold"];
const ON_INTERRUPTED: [&str; 2] = ["rerun", "hold"];

impl Reader<'_, '_> {
    /// A step for each entry of the list, whatever is wrong with it: so each has its place.
    pub(super) fn step(&mut self, node: &Node) -> Step {
        let Some(members) = self.faults.members(node, "a step", &STEP) else {
            self.complete = false;
            return Step::named("");
        };
        let [id, sleep, until, signal, rest @ ..] = members;
        if id.is_none() {
            let hint = "give it a name of its own, under which its result is found";
            let fault = PlanFileFault::MissingKey { key: "id", of: "the step", hint };
            self.faults.add(node.at, fault);
        }
        let id = id.and_then(|id| self.faults.name(id, "`id`"));
        self.complete &= id.is_some();
        let step = self.begin(id.unwrap_or_default(), [sleep, until, signal]);
        let [uses, with, when, agent, attributes, inline, policy @ ..] = rest;
        let step = self.call(step, [uses, with, when, agent, attributes, inline]);
        self.policy(step, policy)
    }

    /// A step that waits, if it says for what; otherwise one that calls something.
    fn begin(&mut self, id: &str, waits: [Option<&Node>; 3]) -> Step {
        let mut said: Vec<_> =
            STEP.iter().skip(1).zip(waits).filter_map(|(key, node)| Some((*key, node?))).collect();
        said.sort_by_key(|(_, node)| node.at);
        if let [(first, _), (second, node), ..] = *said {
            self.faults.add(node.at, PlanFileFault::WaitsTwice { first, second });
        }
        let [sleep, until, signal] = waits;
        let faults = &mut *self.faults;
        if let Some(node) = sleep {
            return Step::sleep(id, faults.duration(node, "`sleep`").unwrap_or(Duration::ZERO));
        }
        if let Some(node) = until {
            return match faults.moment(node, "`sleep_until`") {
                Some(time) => Step::sleep_until(id, time),
                None => Step::sleep(id, Duration::ZERO),
            };
        }
        if let Some(node) = signal {
            return Step::wait_for_signal(id, faults.name(node, "`wait_for_signal`").unwrap_or(STEP[3]));
        }
        Step::named(id)
    }

    /// What is called, with what, and whether.
    fn call(&mut self, mut step: Step, members: [Option<&Node>; 6]) -> Step {
        let [uses, with, when, agent, attributes, inline] = members;
        let faults = &mut *self.faults;
        if let Some(uses) = uses.and_then(|uses| faults.name(uses, "`uses`")) {
            step = step.uses(uses);
        }
        if let Some(with) = with {
            step = super::escape::read(step, faults.value(with));
        }
        match when.map(|when| &when.content) {
            Some(Content::Bool(value)) => step = step.when(if *value { "true" } else { "false" }),
            Some(_) => {
                if let Some(when) = when.and_then(|when| faults.text(when, "`when`")) {
                    step = step.when(when);
                }
            }
            None => {}
        }
        if let Some(agent) = agent.and_then(|agent| faults.name(agent, "`agent`")) {
            step = step.agent(agent);
        }
        if let Some(attributes) = attributes {
            for (key, value) in faults.object(attributes, "`attributes`") {
                step = step.attr(key, value);
            }
        }
        if inline.and_then(|inline| faults.flag(inline, "`inline`")) == Some(true) {
            step = step.inline();
        }
        step
    }

    fn policy(&mut self, mut step: Step, members: [Option<&Node>; 11]) -> Step {
        let [retry, timeout, total_timeout, grace, breaker, when_open, limit, after @ ..] = members;
        if let Some(retry) = retry.and_then(|retry| self.retry(retry)) {
            step = step.retry(retry);
        }
        let faults = &mut *self.faults;
        if let Some(time) = timeout.and_then(|time| faults.duration(time, "`timeout`")) {
            step = step.timeout(time);
        }
        if let Some(time) = total_timeout.and_then(|time| faults.duration(time, "`total_timeout`")) {
            step = step.total_timeout(time);
        }
        if let Some(time) = grace.and_then(|time| faults.duration(time, "`grace`")) {
            step = step.grace(time);
        }
        if let Some(breaker) = breaker.and_then(|breaker| faults.name(breaker, "`breaker`")) {
            step = step.breaker(breaker);
        }
        // What is the default anyway makes no policy.
        if when_open.and_then(|node| faults.word(node, "`when_open`", &WHEN_OPEN)) == Some(1) {
            step = step.when_open(WhenOpen::Fail);
        }
        if let Some(limit) = limit.and_then(|limit| faults.name(limit, "`limit`")) {
            step = step.limit(limit);
        }
        self.recourse(step, after)
    }

    /// What becomes of the step when it has failed, or was cut off, or its plan fails later.
    fn recourse(&mut self, mut step: Step, members: [Option<&Node>; 4]) -> Step {
        let [on_failure, escalate, on_interrupted, compensate] = members;
        if let Some(on_failure) = on_failure.and_then(|node| self.on_failure(node)) {
            step = step.on_failure(on_failure);
        }
        if escalate.and_then(|node| self.faults.flag(node, "`escalate_on_failure`")) == Some(true) {
            step = step.escalate_on_failure();
        }
        if let Some(on_interrupted) = on_interrupted.and_then(|node| self.on_interrupted(node)) {
            step = step.on_interrupted(on_interrupted);
        }
        match compensate {
            Some(node) => self.compensate(step, node),
            None => step,
        }
    }

    // What is the default anyway makes no policy.
    fn on_failure(&mut self, node: &Node) -> Option<OnFailure> {
        if !matches!(node.content, Content::Map(_)) {
            return match self.faults.word(node, "`on_failure`", &ON_FAILURE)? {
                0 => None,
                1 => Some(OnFailure::Continue),
                _ => Some(OnFailure::Hold),
            };
        }
        let [fallback] = self.faults.members(node, "`on_failure`", &["fallback"])?;
        let Some(fallback) = fallback else {
            let hint = "name the callable that is called instead";
            self.faults.add(node.at, PlanFileFault::MissingKey { key: "fallback", of: "`on_failure`", hint });
            return None;
        };
        self.faults.name(fallback, "`fallback`").map(OnFailure::fallback_named)
    }

    fn on_interrupted(&mut self, node: &Node) -> Option<OnInterrupted> {
        if !matches!(node.content, Content::Map(_)) {
            let known = self.faults.word(node, "`on_interrupted`", &ON_INTERRUPTED)?;
            return (known == 1).then_some(OnInterrupted::Hold);
        }
        let [verify] = self.faults.members(node, "`on_interrupted`", &["verify"])?;
        let Some(verify) = verify else {
            let hint = "name the callable that is asked whether the step had its effect";
            let fault = PlanFileFault::MissingKey { key: "verify", of: "`on_interrupted`", hint };
            self.faults.add(node.at, fault);
            return None;
        };
        self.faults.name(verify, "`verify`").map(OnInterrupted::verify_named)
    }

    fn compensate(&mut self, step: Step, node: &Node) -> Step {
        // A text alone can only be the name.
        if matches!(node.content, Content::Text(_)) {
            return match self.faults.name(node, "`compensate`") {
                Some(name) => step.compensate_named(name),
                None => step,
            };
        }
        let Some([uses, retry, timeout]) = self.faults.members(node, "`compensate`", &COMPENSATE) else {
            return step;
        };
        if uses.is_none() {
            let hint = "name the callable that undoes the step";
            self.faults.add(node.at, PlanFileFault::MissingKey { key: "uses", of: "`compensate`", hint });
        }
        let uses = uses.and_then(|uses| self.faults.name(uses, "`uses`"));
        let retry = retry.and_then(|retry| self.retry(retry));
        let timeout = timeout.and_then(|time| self.faults.duration(time, "`timeout`"));
        // Without its name it is no compensation, and that was told.
        let Some(uses) = uses else { return step };
        let step = step.compensate_named(uses);
        let step = retry.into_iter().fold(step, Step::compensation_retry);
        timeout.into_iter().fold(step, Step::compensation_timeout)
    }

    fn retry(&mut self, node: &Node) -> Option<Retry> {
        // A number alone can only be that of the attempts.
        if matches!(node.content, Content::Number(_)) {
            let attempts = self.faults.count(node, "`retry`")?;
            return Some(Retry::exponential(PLAN_RETRY_DELAY).max_attempts(attempts));
        }
        let members = self.faults.members(node, "`retry`", &RETRY)?;
        let [max_attempts, delay, factor, max_delay, jitter, budget, on_panic, on_timeout] = members;
        let faults = &mut *self.faults;
        let delay = delay.and_then(|time| faults.duration(time, "`delay`")).unwrap_or(PLAN_RETRY_DELAY);
        let mut retry = Retry::exponential(delay);
        if delay.is_zero() {
            // No delay is not made longer by a factor.
            retry = retry.factor(1.0);
        }
        if let Some(attempts) = max_attempts.and_then(|node| faults.count(node, "`max_attempts`")) {
            retry = retry.max_attempts(attempts);
        }
        if let Some(factor) = factor.and_then(|node| faults.number(node, "`factor`")) {
            retry = retry.factor(factor);
        }
        if let Some(time) = max_delay.and_then(|time| faults.duration(time, "`max_delay`")) {
            retry = retry.max_delay(time);
        }
        match jitter.and_then(|node| faults.word(node, "`jitter`", &JITTER)) {
            Some(0) => retry = retry.jitter(Jitter::Full),
            Some(1) => retry = retry.jitter(Jitter::Equal),
            Some(_) => retry = retry.jitter(Jitter::None),
            None => {}
        }
        if let Some(time) = budget.and_then(|time| faults.duration(time, "`budget`")) {
            retry = retry.budget(time);
        }
        if let Some(retried) = on_panic.and_then(|node| faults.flag(node, "`on_panic`")) {
            retry = retry.on_panic(retried);
        }
        if let Some(retried) = on_timeout.and_then(|node| faults.flag(node, "`on_timeout`")) {
            retry = retry.on_timeout(retried);
        }
        Some(retry)
    }
}
