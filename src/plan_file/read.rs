//! From values with places to a plan, with all that is wrong on the way.

use super::fault::PlanFileFault;
use super::fields::Faults;
use super::node::{Content, Node};
use crate::limits::{MAX_STEPS, PLAN_RETRY_DELAY};
use crate::plan::{InputType, InvalidPlan, OnFailure, Plan, PlanInput, Step, WhenOpen};
use crate::resilience::{Jitter, Retry};

// The keys of each mapping, in the order in which its reader takes them apart.
const PLAN: [&str; 4] = ["name", "description", "inputs", "steps"];
const INPUT: [&str; 3] = ["type", "default", "description"];
const STEP: [&str; 15] = [
    "id",
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
    "on_failure",
    "escalate_on_failure",
];
const RETRY: [&str; 8] =
    ["max_attempts", "delay", "factor", "max_delay", "jitter", "budget", "on_panic", "on_timeout"];
const TYPES: [&str; 7] = ["string", "integer", "number", "boolean", "array", "object", "any"];

const WHEN_OPEN: [&str; 2] = ["park", "fail"];
const JITTER: [&str; 3] = ["full", "equal", "none"];
const ON_FAILURE: [&str; 2] = ["abort", "continue"];

/// What a file tells of.
pub(super) struct Draft {
    pub(super) plan: Plan,
    /// Whether every step and every input has a name: where one has none, it would be missed wherever it is used.
    pub(super) complete: bool,
}

pub(super) fn plan(root: &Node, faults: &mut Faults<'_>) -> Draft {
    let mut reader = Reader { faults, complete: true };
    let plan = reader.plan(root);
    Draft { plan, complete: reader.complete }
}

struct Reader<'f, 's> {
    faults: &'f mut Faults<'s>,
    complete: bool,
}

impl Reader<'_, '_> {
    fn plan(&mut self, root: &Node) -> Plan {
        if root.content == Content::Null {
            self.complete = false;
            self.faults.add(root.at, PlanFileFault::Empty);
            return Plan::default();
        }
        let Some([name, description, inputs, steps]) = self.faults.members(root, "the plan", &PLAN) else {
            self.complete = false;
            return Plan::default();
        };
        let mut plan = Plan::new(steps.map(|steps| self.steps(steps)).unwrap_or_default());
        if steps.is_none() {
            let hint = "it is the list of what is done";
            self.faults.add(root.at, PlanFileFault::MissingKey { key: "steps", of: "the plan", hint });
        }
        if let Some(name) = name.and_then(|name| self.faults.name(name, "plan name")) {
            plan = plan.name(name);
        }
        if let Some(text) = description.and_then(|text| self.faults.text(text, "`description`")) {
            plan = plan.description(text);
        }
        match inputs {
            Some(inputs) => self.inputs(plan, inputs),
            None => plan,
        }
    }

    fn inputs(&mut self, mut plan: Plan, node: &Node) -> Plan {
        for (key, value) in self.faults.entries(node, "`inputs`") {
            if self.faults.check_name(&key.text, key.at, "input name") {
                let input = self.input(value);
                plan = plan.declare(&*key.text, input);
            } else {
                self.complete = false;
            }
        }
        plan
    }

    fn input(&mut self, node: &Node) -> PlanInput {
        // A text alone can only be the type.
        if matches!(node.content, Content::Text(_)) {
            return PlanInput::of(self.input_type(node));
        }
        let Some([input_type, default, description]) = self.faults.members(node, "an input", &INPUT) else {
            return PlanInput::any();
        };
        let mut input = PlanInput::of(input_type.map(|node| self.input_type(node)).unwrap_or_default());
        if let Some(default) = default {
            input = input.default(self.faults.value(default));
        }
        match description.and_then(|text| self.faults.text(text, "`description`")) {
            Some(text) => input.description(text),
            None => input,
        }
    }

    fn input_type(&mut self, node: &Node) -> InputType {
        const ALL: [InputType; 7] = [
            InputType::String,
            InputType::Integer,
            InputType::Number,
            InputType::Boolean,
            InputType::Array,
            InputType::Object,
            InputType::Any,
        ];
        let place = self.faults.word(node, "`type`", &TYPES);
        place.and_then(|place| ALL.get(place).copied()).unwrap_or_default()
    }

    fn steps(&mut self, node: &Node) -> Vec<Step> {
        let nodes = self.faults.list(node, "`steps`");
        if nodes.len() > MAX_STEPS {
            self.complete = false;
            let fault = InvalidPlan::TooManySteps { steps: nodes.len() };
            self.faults.add(node.at, PlanFileFault::Plan(fault));
            return Vec::new();
        }
        nodes.iter().map(|node| self.step(node)).collect()
    }

    /// A step for each entry of the list, whatever is wrong with it: so each has its place.
    fn step(&mut self, node: &Node) -> Step {
        let Some(members) = self.faults.members(node, "a step", &STEP) else {
            self.complete = false;
            return Step::named("");
        };
        let [id, uses, with, when, agent, attributes, inline, policy @ ..] = members;
        let faults = &mut *self.faults;
        if id.is_none() {
            let hint = "give it a name of its own, under which its result is found";
            faults.add(node.at, PlanFileFault::MissingKey { key: "id", of: "the step", hint });
        }
        let id = id.and_then(|id| faults.name(id, "`id`"));
        self.complete &= id.is_some();
        let mut step = Step::named(id.unwrap_or_default());
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
        self.policy(step, policy)
    }

    fn policy(&mut self, mut step: Step, members: [Option<&Node>; 8]) -> Step {
        let [retry, timeout, total_timeout, grace, breaker, when_open, on_failure, escalate] = members;
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
        if let Some(on_failure) = on_failure.and_then(|node| self.on_failure(node)) {
            step = step.on_failure(on_failure);
        }
        match escalate.and_then(|node| self.faults.flag(node, "`escalate_on_failure`")) {
            Some(true) => step.escalate_on_failure(),
            _ => step,
        }
    }

    fn on_failure(&mut self, node: &Node) -> Option<OnFailure> {
        if !matches!(node.content, Content::Map(_)) {
            let known = self.faults.word(node, "`on_failure`", &ON_FAILURE)?;
            return (known == 1).then_some(OnFailure::Continue);
        }
        let [fallback] = self.faults.members(node, "`on_failure`", &["fallback"])?;
        let Some(fallback) = fallback else {
            let hint = "name the callable that is called instead";
            self.faults.add(node.at, PlanFileFault::MissingKey { key: "fallback", of: "`on_failure`", hint });
            return None;
        };
        self.faults.name(fallback, "`fallback`").map(OnFailure::fallback_named)
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
