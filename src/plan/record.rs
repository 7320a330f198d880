use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::check::CheckedPlan;
use super::difference::{self, PlanDifference, StepChange};
use super::inputs::Declared;
use super::invalid::InvalidPlan;
use super::policy::{Policy, Role};
use super::step::{Plan, Step};
use super::wait::Wait;
use crate::causes::with_causes;
use crate::json;

/// A plan as data: what a store keeps of it, and what a plan is compared with when its run is attached to. Cloning is
/// cheap.
///
/// A step's closure cannot be kept: the record says that there was one. In JSON a record has the field `format`, now 1;
/// a later version of this crate reads every earlier format.
///
/// ```
/// use lunacore::{PlanRecord, Step};
///
/// let plan = PlanRecord::of([Step::named("fetch").uses("http.get").input("https://example.org")])?;
/// let text = serde_json::to_string(&plan)?;
/// let read: PlanRecord = serde_json::from_str(&text)?;
/// assert_eq!(read.fingerprint(), plan.fingerprint());
/// assert!(plan.is_self_contained());
///
/// let other = PlanRecord::of([Step::named("load").uses("http.get")])?;
/// assert_eq!(plan.differences(&other)[0].to_string(), r#"step 0 was "fetch", now "load""#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "AnyFormat")]
pub struct PlanRecord {
    name: Option<Arc<str>>,
    description: Option<Arc<str>>,
    /// The values of its inputs, with the defaults of those that were not given.
    inputs: Arc<Map<String, Value>>,
    steps: Arc<[Arc<StepRecord>]>,
}

/// A step without its callable.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    /// A step of a record always has one.
    pub(crate) id: Option<Arc<str>>,
    /// It came with a callable of its own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) closure: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) uses: Option<Arc<str>>,
    /// It calls nothing, and waits.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) wait: Option<Wait>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) input: Value,
    /// The input holds expressions.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) template: bool,
    /// The condition on which it runs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) when: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) attributes: Map<String, Value>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) agent: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) inline: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) policy: Option<Arc<Policy>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The JSON form, of whatever format: a later one may have other fields.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
    #[serde(flatten)]
    content: Map<String, Value>,
}

/// The JSON form.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(skip_deserializing)]
    format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "is_default")]
    inputs: Arc<Map<String, Value>>,
    steps: Vec<Arc<StepRecord>>,
}

const FORMAT: u32 = 1;

impl From<PlanRecord> for Stored {
    fn from(record: PlanRecord) -> Self {
        let PlanRecord { name, description, inputs, steps } = record;
        Self { format: FORMAT, name, description, inputs, steps: steps.to_vec() }
    }
}

impl TryFrom<AnyFormat> for PlanRecord {
    type Error = String;

    fn try_from(AnyFormat { format, content }: AnyFormat) -> Result<Self, Self::Error> {
        if format != FORMAT {
            return Err(format!("the plan has format {format}, of which this version knows nothing"));
        }
        let stored: Stored =
            serde_json::from_value(Value::Object(content)).map_err(|error| error.to_string())?;
        let Stored { name, description, inputs, steps, .. } = stored;
        // The same checks as for a plan that comes in.
        let plan = Self { name, description, inputs, steps: steps.into() }.to_plan();
        Self::of(plan).map_err(|error| with_causes(&error))
    }
}

impl PlanRecord {
    pub(super) fn new(
        (name, description): (Option<Arc<str>>, Option<Arc<str>>),
        inputs: Map<String, Value>,
        steps: Arc<[Arc<StepRecord>]>,
    ) -> Self {
        Self { name, description, inputs: Arc::new(inputs), steps }
    }

    /// The record of a plan whose inputs have their defaults.
    ///
    /// # Errors
    /// The plan is not valid, or one of its inputs has no default.
    pub fn of(plan: impl Into<Plan>) -> Result<Self, InvalidPlan> {
        Self::with_inputs(plan, Map::new())
    }

    /// The record of a plan with these values for its inputs, and the defaults of all others.
    ///
    /// # Errors
    /// The plan is not valid, or the inputs are not those that it declares.
    pub fn with_inputs(plan: impl Into<Plan>, inputs: Map<String, Value>) -> Result<Self, InvalidPlan> {
        CheckedPlan::with_inputs(plan.into(), inputs).map(|plan| plan.record().clone())
    }

    /// The plan's name, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What the plan is for, if it says so.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// The values of the plan's inputs, with the defaults of those that were not given.
    #[must_use]
    pub fn inputs(&self) -> &Map<String, Value> {
        &self.inputs
    }

    #[cfg(feature = "expressions")]
    pub(super) fn shared_inputs(&self) -> Arc<Map<String, Value>> {
        Arc::clone(&self.inputs)
    }

    pub(crate) fn shared_name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }

    /// The ids of its steps, in order.
    pub fn step_ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.steps.iter().map(|step| step.id())
    }

    /// The input of the step with this place, as it was given: of a template, the template. `None` where there is no such step.
    #[must_use]
    pub fn input_of(&self, index: usize) -> Option<&Value> {
        self.steps.get(index).map(|step| &step.input)
    }

    /// What the step with this place waits for, if it is one that calls nothing.
    ///
    /// ```
    /// use lunacore::{PlanRecord, Step, Wait};
    ///
    /// let plan = PlanRecord::of([Step::named("ask"), Step::wait_for_signal("answer", "yes")])?;
    /// assert_eq!(plan.wait_of(0), None);
    /// assert_eq!(plan.wait_of(1), Some(&Wait::Signal("yes".into())));
    /// # Ok::<(), lunacore::InvalidPlan>(())
    /// ```
    #[must_use]
    pub fn wait_of(&self, index: usize) -> Option<&Wait> {
        self.steps.get(index)?.wait.as_ref()
    }

    /// The names of the circuit breakers that watch its steps, each once.
    #[must_use]
    pub fn breaker_names(&self) -> BTreeSet<&str> {
        self.breakers().map(|(_, name)| &**name).collect()
    }

    /// The names of the limits that its steps keep to, each once.
    ///
    /// ```
    /// use lunacore::{PlanRecord, Step};
    ///
    /// let plan = PlanRecord::of(["a", "b"].map(|id| Step::named(id).limit("openai").breaker("openai")))?;
    /// assert!(plan.limit_names().iter().eq(&["openai"]) && plan.breaker_names() == plan.limit_names());
    /// # Ok::<(), lunacore::InvalidPlan>(())
    /// ```
    #[must_use]
    pub fn limit_names(&self) -> BTreeSet<&str> {
        self.limits().map(|(_, name)| &**name).collect()
    }

    /// How many steps it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether it has no steps.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether every step leaves its callables to the allocator, so that a run can be resumed from its record alone.
    #[must_use]
    pub fn is_self_contained(&self) -> bool {
        self.first_closure().is_none()
    }

    /// The first step that came with a closure: its place, its id, and how a sentence about it goes on.
    pub(crate) fn first_closure(&self) -> Option<(usize, &str, &'static str)> {
        let mut steps = self.steps.iter().enumerate();
        steps.find_map(|(index, step)| step.first_closure().map(|what| (index, step.id(), what)))
    }

    /// The names of the breakers that watch its steps, each with the step's id.
    pub(crate) fn breakers(&self) -> impl Iterator<Item = (&str, &Arc<str>)> {
        self.steps.iter().filter_map(|step| Some((step.id(), step.policy.as_deref()?.breaker.as_ref()?)))
    }

    /// The names of the limits that its steps keep to, each with the step's id.
    pub(crate) fn limits(&self) -> impl Iterator<Item = (&str, &Arc<str>)> {
        self.steps.iter().filter_map(|step| Some((step.id(), step.policy.as_deref()?.limit.as_ref()?)))
    }

    /// The steps that leave their callable for a role to the allocator, each as a step of its own that uses it, with its place.
    pub(crate) fn named(&self, role: Role) -> impl Iterator<Item = (usize, Step)> {
        let steps = self.steps.iter().enumerate();
        steps.filter_map(move |(index, step)| {
            let uses = Some(Arc::clone(step.policy.as_deref()?.named(role)?));
            let record = StepRecord { uses, closure: false, wait: None, policy: None, ..(**step).clone() };
            Some((index, Step::recorded(Arc::new(record))))
        })
    }

    /// Whether any step of it can be undone.
    pub(crate) fn has_compensation(&self) -> bool {
        self.steps.iter().any(|step| step.policy.as_ref().is_some_and(|policy| policy.compensation.is_some()))
    }

    /// The plan again. Steps that came with a closure have none now, and inputs have their values as defaults.
    pub(crate) fn to_plan(&self) -> Plan {
        Plan {
            name: self.name.clone(),
            description: self.description.clone(),
            declared: self.inputs.iter().map(|(name, value)| Declared::of_value(name, value)).collect(),
            steps: self.steps.iter().map(|step| Step::recorded(Arc::clone(step))).collect(),
        }
    }

    /// What keeps a run of it from being resumed from what is stored.
    pub(crate) fn cannot_go_on(&self) -> Option<String> {
        if let Some((index, id, what)) = self.first_closure() {
            let reason = "which cannot be stored; send its plan again with this run id";
            return Some(format!("step {index} ({id:?}) {what}, {reason}"));
        }
        if cfg!(feature = "expressions") {
            return None;
        }
        let index = self.steps.iter().position(|step| step.has_expressions())?;
        let (id, feature) = (self.steps[index].id(), "lunacore's feature `expressions`");
        Some(format!("step {index} ({id:?}) has expressions, but this program was built without {feature}"))
    }

    /// Names what makes it the same plan: the ids of the steps, their order, the names of their callables, their
    /// inputs and conditions, and the values of the plan's own inputs. Agents, attributes, policies, the plan's own name and its
    /// description do not count, and neither does what a closure does: nobody can compare that.
    ///
    /// `1-` and a UUIDv5 (RFC 9562) of the canonical JSON of these; a later version of this crate that counts
    /// something else begins with another number.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut canonical = Vec::with_capacity(64 * self.steps.len());
        for step in self.steps.iter() {
            json::write_text(step.id(), &mut canonical);
            canonical.push(b':');
            match step.callable_name() {
                Some(name) => json::write_text(name, &mut canonical),
                None => canonical.extend_from_slice(b"null"),
            }
            canonical.push(b':');
            json::write_canonical(&step.input, &mut canonical);
            // Only where there are any, so that plans from before there were have the same name.
            if let Some(wait) = &step.wait {
                canonical.extend_from_slice(b":wait:");
                json::write_canonical(&json::of(wait), &mut canonical);
            }
            if step.template {
                canonical.extend_from_slice(b":template");
            }
            if let Some(when) = &step.when {
                canonical.extend_from_slice(b":when:");
                json::write_text(when, &mut canonical);
            }
            canonical.push(b'\n');
        }
        for (name, value) in sorted(&self.inputs) {
            canonical.extend_from_slice(b"input:");
            json::write_text(name, &mut canonical);
            canonical.push(b':');
            json::write_canonical(value, &mut canonical);
            canonical.push(b'\n');
        }
        format!("{FORMAT}-{}", Uuid::new_v5(&FINGERPRINT, &canonical).hyphenated())
    }

    /// In what `other` differs, input by input and step by step; nothing when the two have the same fingerprint.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<PlanDifference> {
        let mut found = difference::of_inputs(&self.inputs, &other.inputs);
        for index in 0..self.steps.len().max(other.steps.len()) {
            let change = match (self.steps.get(index), other.steps.get(index)) {
                (Some(was), Some(now)) => was.change(now),
                (Some(was), None) => Some(StepChange::Removed { id: was.id().to_owned() }),
                (None, now) => now.map(|now| StepChange::Added { id: now.id().to_owned() }),
            };
            found.extend(change.map(|change| PlanDifference::Step { index, change }));
        }
        found
    }
}

/// In the order of their names, whatever order they are kept in.
fn sorted(values: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut sorted: Vec<_> = values.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    sorted
}

/// The name space of fingerprints.
const FINGERPRINT: Uuid = Uuid::from_u128(0x6c75_6e61_636f_7265_0000_0000_0000_0001);

impl StepRecord {
    pub(super) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// The name that the allocator is asked for; a closure has none but the one it was given.
    pub(super) fn callable_name(&self) -> Option<&str> {
        let id = if self.closure { None } else { self.id.as_deref() };
        self.uses.as_deref().or(id)
    }

    /// Whether anything of it has to be evaluated.
    pub(super) fn has_expressions(&self) -> bool {
        self.template || self.when.is_some()
    }

    fn first_closure(&self) -> Option<&'static str> {
        if self.closure { Some("was a closure") } else { self.policy.as_deref().and_then(Policy::closure) }
    }
}
