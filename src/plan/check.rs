use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};

use super::inputs;
use super::invalid::InvalidPlan;
use super::policy::Policy;
use super::record::PlanRecord;
use super::step::{Plan, Step};
use super::wait::Wait;
use crate::id::{check_id, shorten};
use crate::json;
use crate::limits::{MAX_COMPENSATIONS, MAX_PROBLEMS, MAX_STEPS};

/// A plan that passed every check: each step has an id of its own.
#[derive(Debug)]
pub(crate) struct CheckedPlan {
    record: PlanRecord,
    steps: Vec<CheckedStep>,
    /// Whether any step has a policy: where none has, none need be looked at.
    has_policies: bool,
    /// The same for steps that only wait.
    has_waits: bool,
    /// The same for templates and conditions.
    has_expressions: bool,
    /// The names of the secrets that they read, once they were looked for.
    #[cfg(feature = "expressions")]
    pub(super) secrets: OnceLock<std::collections::BTreeSet<String>>,
    /// Made when it is first needed: many plans never are.
    by_id: OnceLock<HashMap<Arc<str>, usize>>,
}

#[derive(Debug)]
pub(crate) struct CheckedStep {
    pub(crate) id: Arc<str>,
    pub(crate) step: Step,
}

/// What is found wrong with a plan, until it is enough.
#[derive(Debug, Default)]
pub(super) struct Problems {
    most: usize,
    found: Vec<InvalidPlan>,
}

/// Nothing more need be looked at.
pub(super) struct Enough;

impl Problems {
    pub(super) fn add(&mut self, problem: InvalidPlan) -> Result<(), Enough> {
        self.found.push(problem);
        if self.found.len() < self.most { Ok(()) } else { Err(Enough) }
    }
}

/// All that is wrong with a plan, or the first [`MAX_PROBLEMS`] of it.
pub(super) fn problems(plan: Plan) -> Vec<InvalidPlan> {
    let mut problems = Problems { most: MAX_PROBLEMS, ..Problems::default() };
    // Which values they have does not matter here.
    let inputs = plan.inputs().map(|(name, _)| (name.to_owned(), Value::Null)).collect();
    // That it is enough, the list itself says.
    let _ = CheckedPlan::check(plan, inputs, &mut problems)
        .and_then(|plan| plan.check_expressions(&mut problems));
    problems.found
}

impl CheckedPlan {
    /// The plan with the defaults of its inputs.
    pub(crate) fn new(plan: Plan) -> Result<Self, InvalidPlan> {
        Self::with_inputs(plan, Map::new())
    }

    /// The plan with these inputs.
    pub(crate) fn with_inputs(plan: Plan, given: Map<String, Value>) -> Result<Self, InvalidPlan> {
        let values = inputs::fill(&plan.declared, given)?;
        let mut problems = Problems { most: 1, ..Problems::default() };
        let checked = Self::check(plan, values, &mut problems);
        let checked = checked.and_then(|plan| plan.check_expressions(&mut problems).map(|()| plan));
        match (problems.found.pop(), checked) {
            (Some(problem), _) => Err(problem),
            (None, Ok(checked)) => Ok(checked),
            // Never: it is only enough when there is one.
            (None, Err(Enough)) => Err(InvalidPlan::TooManySteps { steps: 0 }),
        }
    }

    /// Steps that are somebody's question, and no plan that runs: their expressions are not looked at.
    pub(crate) fn question(steps: Vec<Step>) -> Option<Self> {
        Self::check(Plan::from(steps), Map::new(), &mut Problems { most: 1, ..Problems::default() }).ok()
    }

    #[cfg(feature = "expressions")]
    fn check_expressions(&self, problems: &mut Problems) -> Result<(), Enough> {
        if self.has_expressions { super::expressions::check(self, problems) } else { Ok(()) }
    }

    /// A plan that comes from a store may have them; it is not run.
    #[cfg(not(feature = "expressions"))]
    #[allow(clippy::unused_self, reason = "the same shape as with the feature")]
    fn check_expressions(&self, _: &mut Problems) -> Result<(), Enough> {
        Ok(())
    }

    fn check(plan: Plan, values: Map<String, Value>, problems: &mut Problems) -> Result<Self, Enough> {
        let Plan { name, description, declared, steps } = plan;
        if steps.len() > MAX_STEPS {
            problems.add(InvalidPlan::TooManySteps { steps: steps.len() })?;
            // Of so many, the others are not even looked at.
            return Err(Enough);
        }
        if let Some(name) = &name
            && let Err(problem) = check_name("name", name, || "the plan".to_owned())
        {
            problems.add(problem)?;
        }
        for problem in inputs::check(&declared) {
            problems.add(problem)?;
        }
        let mut checked = Vec::with_capacity(steps.len());
        let (mut has_policies, mut has_waits, mut has_expressions) = (false, false, false);
        let mut compensations = 0;
        // Ids that are made of places are different anyway.
        let any_named = steps.iter().any(|step| step.id().is_some());
        let mut by_id = HashMap::with_capacity(if any_named { steps.len() } else { 0 });
        for (index, mut step) in steps.into_iter().enumerate() {
            let id = match step.shared_id() {
                Some(id) => {
                    if let Err(fault) = check_id(&id) {
                        problems.add(InvalidPlan::StepId { id: shorten(&id), index, fault })?;
                    }
                    id
                }
                None => {
                    let id = id_of_place(index);
                    step.set_id(Arc::clone(&id));
                    id
                }
            };
            check_step(&id, index, &step, problems)?;
            has_policies |= step.policy().is_some();
            has_waits |= step.wait().is_some();
            compensations += usize::from(step.policy().is_some_and(|policy| policy.compensation.is_some()));
            has_expressions |= step.record().has_expressions();
            if any_named {
                match by_id.entry(Arc::clone(&id)) {
                    Entry::Vacant(place) => drop(place.insert(index)),
                    Entry::Occupied(first) => {
                        let (id, first) = (shorten(&id), *first.get());
                        problems.add(InvalidPlan::DuplicateId { id, first, second: index })?;
                    }
                }
            }
            checked.push(CheckedStep { id, step });
        }
        if compensations > MAX_COMPENSATIONS {
            problems.add(InvalidPlan::TooManyCompensations { steps: compensations })?;
        }
        let steps = checked.iter().map(|step| Arc::clone(step.step.record())).collect();
        let record = PlanRecord::new((name, description), values, steps);
        let by_id = if any_named { OnceLock::from(by_id) } else { OnceLock::new() };
        Ok(Self {
            record,
            steps: checked,
            has_policies,
            has_waits,
            has_expressions,
            #[cfg(feature = "expressions")]
            secrets: OnceLock::new(),
            by_id,
        })
    }

    pub(crate) fn name(&self) -> Option<&Arc<str>> {
        self.record.shared_name()
    }

    /// The plan as data.
    pub(crate) fn record(&self) -> &PlanRecord {
        &self.record
    }

    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    pub(crate) fn steps(&self) -> impl ExactSizeIterator<Item = &Step> {
        self.steps.iter().map(|checked| &checked.step)
    }

    pub(crate) fn get(&self, index: usize) -> Option<&CheckedStep> {
        self.steps.get(index)
    }

    /// The policy of a step, if it has one.
    pub(crate) fn policy(&self, index: usize) -> Option<&Policy> {
        if self.has_policies { self.get(index)?.step.policy() } else { None }
    }

    pub(crate) fn has_policies(&self) -> bool {
        self.has_policies
    }

    /// What a step waits for, if it calls nothing.
    pub(crate) fn wait(&self, index: usize) -> Option<&Wait> {
        if self.has_waits { self.get(index)?.step.wait() } else { None }
    }

    /// The condition of a step, if it has one.
    pub(crate) fn condition(&self, index: usize) -> Option<&str> {
        if self.has_expressions { self.get(index)?.step.condition() } else { None }
    }

    pub(crate) fn has_expressions(&self) -> bool {
        self.has_expressions
    }

    pub(crate) fn index_of(&self, id: &str) -> Option<usize> {
        let by_id = self.by_id.get_or_init(|| {
            self.steps.iter().enumerate().map(|(index, step)| (Arc::clone(&step.id), index)).collect()
        });
        by_id.get(id).copied()
    }
}

/// The id of a step that was given none. By hand, since formatting costs more than all else that a step is checked for.
fn id_of_place(index: usize) -> Arc<str> {
    const PREFIX: &[u8] = b"step_";
    // No number has more than twenty digits.
    let mut buffer = [0; PREFIX.len() + 20];
    let (mut start, mut rest) = (buffer.len(), index);
    loop {
        start -= 1;
        buffer[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    start -= PREFIX.len();
    buffer[start..start + PREFIX.len()].copy_from_slice(PREFIX);
    Arc::from(std::str::from_utf8(&buffer[start..]).unwrap_or_default())
}

fn check_step(id: &Arc<str>, index: usize, step: &Step, problems: &mut Problems) -> Result<(), Enough> {
    for (what, name) in step.names() {
        if let Err(problem) = check_name(what, name, || format!("step {index} ({:?})", shorten(id))) {
            problems.add(problem)?;
        }
    }
    if json::is_too_deep(step.get_input()) || json::any_too_deep(step.attributes()) {
        problems.add(InvalidPlan::TooDeep { id: shorten(id), index })?;
    }
    let policy = step.policy().map_or(Ok(()), Policy::check);
    if let Err(source) = policy.and_then(|()| step.check_wait()) {
        problems.add(InvalidPlan::Policy { id: shorten(id), index, source })?;
    }
    Ok(())
}

pub(super) fn check_name(
    what: &'static str,
    name: &str,
    place: impl FnOnce() -> String,
) -> Result<(), InvalidPlan> {
    check_id(name).map_err(|fault| InvalidPlan::Name { what, name: shorten(name), place: place(), fault })
}
