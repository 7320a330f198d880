//! From values with places to a plan, with all that is wrong on the way.

use super::fault::PlanFileFault;
use super::fields::Faults;
use super::node::{Content, Node};
use crate::limits::MAX_STEPS;
use crate::plan::{InputType, InvalidPlan, Plan, PlanInput, Step};

// The keys of each mapping, in the order in which its reader takes them apart.
const PLAN: [&str; 4] = ["name", "description", "inputs", "steps"];
const INPUT: [&str; 3] = ["type", "default", "description"];
const TYPES: [&str; 7] = ["string", "integer", "number", "boolean", "array", "object", "any"];

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

pub(super) struct Reader<'f, 's> {
    pub(super) faults: &'f mut Faults<'s>,
    pub(super) complete: bool,
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
}
