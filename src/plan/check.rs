use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::policy::{InvalidPolicy, Policy};
use super::record::PlanRecord;
use super::step::{Plan, Step};
use crate::id::{IdFault, check_id, shorten};
use crate::json;
use crate::limits::{MAX_JSON_DEPTH, MAX_STEPS};

/// What is wrong with a plan.
///
/// Steps are counted from 0, as in `step_0` and in artifacts' meta.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPlan {
    /// A step's id is empty, too long, or has control characters.
    #[error("the id {id:?} of step {index} {fault}")]
    StepId {
        /// The id, shortened.
        id: String,
        /// The step's place.
        index: usize,
        /// What is wrong with the id.
        fault: IdFault,
    },
    /// Another name in a step, or the plan's own, is empty, too long, or has control characters.
    #[error("the {what} {name:?} of {place} {fault}")]
    Name {
        /// What the name is for, such as `agent name`.
        what: &'static str,
        /// The name, shortened.
        name: String,
        /// Whose it is: the plan's, or a step's.
        place: String,
        /// What is wrong with it.
        fault: IdFault,
    },
    /// Two steps have the same id.
    #[error("steps {first} and {second} have the same id {id:?}; each step of a plan needs its own")]
    DuplicateId {
        /// The id.
        id: String,
        /// The place of the first step with it.
        first: usize,
        /// The place of the second.
        second: usize,
    },
    /// A step's input or one of its attributes nests deeper than [`MAX_JSON_DEPTH`].
    #[error("the input or an attribute of step {index} ({id:?}) nests deeper than {MAX_JSON_DEPTH} levels")]
    TooDeep {
        /// The step's id.
        id: String,
        /// Its place.
        index: usize,
    },
    /// A step's policy cannot be one.
    #[error("the policy of step {index} ({id:?}) is not valid")]
    Policy {
        /// The step's id.
        id: String,
        /// Its place.
        index: usize,
        /// What is wrong with it.
        source: InvalidPolicy,
    },
    /// The plan has no time at all.
    #[error("the plan's deadline is 0s, in which nothing can be done; leave it out for none")]
    NoTime,
    /// The plan is longer than [`MAX_STEPS`].
    #[error("the plan has {steps} steps, more than {MAX_STEPS}; split it")]
    TooManySteps {
        /// Its number of steps.
        steps: usize,
    },
}

/// A plan that passed every check: each step has an id of its own.
#[derive(Debug)]
pub(crate) struct CheckedPlan {
    record: PlanRecord,
    steps: Vec<CheckedStep>,
    /// Whether any step has a policy: where none has, none need be looked at.
    has_policies: bool,
    /// Made when it is first needed: many plans never are.
    by_id: OnceLock<HashMap<Arc<str>, usize>>,
}

#[derive(Debug)]
pub(crate) struct CheckedStep {
    pub(crate) id: Arc<str>,
    pub(crate) step: Step,
}

impl CheckedPlan {
    pub(crate) fn new(plan: Plan) -> Result<Self, InvalidPlan> {
        let (name, steps) = plan.into_parts();
        if steps.len() > MAX_STEPS {
            return Err(InvalidPlan::TooManySteps { steps: steps.len() });
        }
        if let Some(name) = &name {
            check_name("name", name, || "the plan".to_owned())?;
        }
        let mut checked = Vec::with_capacity(steps.len());
        let mut has_policies = false;
        // Ids that are made of places are different anyway.
        let any_named = steps.iter().any(|step| step.id().is_some());
        let mut by_id = HashMap::with_capacity(if any_named { steps.len() } else { 0 });
        for (index, mut step) in steps.into_iter().enumerate() {
            let id = match step.shared_id() {
                Some(id) => {
                    check_id(&id).map_err(|fault| InvalidPlan::StepId { id: shorten(&id), index, fault })?;
                    id
                }
                None => {
                    let id = id_of_place(index);
                    step.set_id(Arc::clone(&id));
                    id
                }
            };
            for (what, name) in step.names() {
                check_name(what, name, || format!("step {index} ({id:?})"))?;
            }
            if json::is_too_deep(step.get_input()) || json::any_too_deep(step.attributes()) {
                return Err(InvalidPlan::TooDeep { id: id.to_string(), index });
            }
            if let Some(policy) = step.policy() {
                has_policies = true;
                let invalid = |source| InvalidPlan::Policy { id: id.to_string(), index, source };
                policy.check().map_err(invalid)?;
            }
            if any_named && let Some(first) = by_id.insert(Arc::clone(&id), index) {
                return Err(InvalidPlan::DuplicateId { id: id.to_string(), first, second: index });
            }
            checked.push(CheckedStep { id, step });
        }
        let record =
            PlanRecord::new(name, checked.iter().map(|step| Arc::clone(step.step.record())).collect());
        let by_id = if any_named { OnceLock::from(by_id) } else { OnceLock::new() };
        Ok(Self { record, steps: checked, has_policies, by_id })
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

fn check_name(what: &'static str, name: &str, place: impl FnOnce() -> String) -> Result<(), InvalidPlan> {
    check_id(name).map_err(|fault| InvalidPlan::Name { what, name: shorten(name), place: place(), fault })
}
