use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::check::{CheckedPlan, InvalidPlan};
use super::policy::{Handling, Policy};
use super::step::{Plan, Step};
use crate::id::shorten;
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
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) input: Value,
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
    steps: Vec<Arc<StepRecord>>,
}

const FORMAT: u32 = 1;

impl From<PlanRecord> for Stored {
    fn from(record: PlanRecord) -> Self {
        Self { format: FORMAT, name: record.name, steps: record.steps.to_vec() }
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
        // The same checks as for a plan that comes in.
        let steps = stored.steps.into_iter().map(Step::recorded);
        let mut plan = Plan::new(steps);
        if let Some(name) = stored.name {
            plan = plan.name(name);
        }
        Self::of(plan).map_err(|error| error.to_string())
    }
}

impl PlanRecord {
    pub(crate) fn new(name: Option<Arc<str>>, steps: Arc<[Arc<StepRecord>]>) -> Self {
        Self { name, steps }
    }

    /// The record of a plan.
    ///
    /// # Errors
    /// The plan is not valid.
    pub fn of(plan: impl Into<Plan>) -> Result<Self, InvalidPlan> {
        CheckedPlan::new(plan.into()).map(|plan| plan.record().clone())
    }

    /// The plan's name, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(crate) fn shared_name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }

    /// The ids of its steps, in order.
    pub fn step_ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.steps.iter().map(|step| step.id())
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

    /// The steps whose fallback is left to the allocator, each as a step of its own that uses it, with its place.
    pub(crate) fn named_fallbacks(&self) -> impl Iterator<Item = (usize, Step)> {
        let steps = self.steps.iter().enumerate();
        steps.filter_map(|(index, step)| match &step.policy.as_deref()?.on_failure {
            Handling::FallbackNamed(name) => {
                let uses = Some(Arc::clone(name));
                let record = StepRecord { uses, closure: false, policy: None, ..(**step).clone() };
                Some((index, Step::recorded(Arc::new(record))))
            }
            _ => None,
        })
    }

    /// The plan again. Steps that came with a closure have none now.
    pub(crate) fn to_plan(&self) -> Plan {
        let plan = Plan::new(self.steps.iter().map(|step| Step::recorded(Arc::clone(step))));
        match &self.name {
            Some(name) => plan.name(Arc::clone(name)),
            None => plan,
        }
    }

    /// Names what makes it the same plan: the ids of the steps, their order, the names of their callables and their
    /// inputs. Agents, attributes, policies and the plan's own name do not count, and neither does what a closure does: nobody can
    /// compare that.
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
            canonical.push(b'\n');
        }
        format!("{FORMAT}-{}", Uuid::new_v5(&FINGERPRINT, &canonical).hyphenated())
    }

    /// In what `other` differs, step by step; nothing when the two have the same fingerprint.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<PlanDifference> {
        let mut found = Vec::new();
        for index in 0..self.steps.len().max(other.steps.len()) {
            let change = match (self.steps.get(index), other.steps.get(index)) {
                (Some(was), Some(now)) => was.change(now),
                (Some(was), None) => Some(StepChange::Removed { id: was.id().to_owned() }),
                (None, now) => now.map(|now| StepChange::Added { id: now.id().to_owned() }),
            };
            found.extend(change.map(|change| PlanDifference { index, change }));
        }
        found
    }
}

/// The name space of fingerprints.
const FINGERPRINT: Uuid = Uuid::from_u128(0x6c75_6e61_636f_7265_0000_0000_0000_0001);

impl StepRecord {
    fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// The name that the allocator is asked for; a closure has none but the one it was given.
    fn callable_name(&self) -> Option<&str> {
        let id = if self.closure { None } else { self.id.as_deref() };
        self.uses.as_deref().or(id)
    }

    fn first_closure(&self) -> Option<&'static str> {
        if self.closure { Some("was a closure") } else { self.policy.as_deref().and_then(Policy::closure) }
    }

    fn change(&self, now: &Self) -> Option<StepChange> {
        if self.id() != now.id() {
            return Some(StepChange::Id { was: self.id().to_owned(), now: now.id().to_owned() });
        }
        let id = self.id().to_owned();
        if self.callable_name() != now.callable_name() {
            let name = |step: &Self| step.callable_name().map(str::to_owned);
            return Some(StepChange::Callable { id, was: name(self), now: name(now) });
        }
        if self.input == now.input {
            return None;
        }
        // Shown, and compared, in the form that the fingerprint is made of.
        let canonical = |step: &Self| {
            let mut text = Vec::new();
            json::write_canonical(&step.input, &mut text);
            String::from_utf8_lossy(&text).into_owned()
        };
        let (was, now) = (canonical(self), canonical(now));
        (was != now).then(|| StepChange::Input { id, was: shorten(&was), now: shorten(&now) })
    }
}

/// One step that is not what was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanDifference {
    /// The step's place, from 0.
    pub index: usize,
    /// What has changed there.
    pub change: StepChange,
}

/// What has changed in a step.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepChange {
    /// Another step stands there.
    Id {
        /// The recorded step.
        was: String,
        /// The step that was given.
        now: String,
    },
    /// It uses another callable; `None` is a closure.
    Callable {
        /// The step.
        id: String,
        /// The recorded name.
        was: Option<String>,
        /// The name that was given.
        now: Option<String>,
    },
    /// It has another input.
    Input {
        /// The step.
        id: String,
        /// The recorded input as JSON, shortened.
        was: String,
        /// The input that was given, likewise.
        now: String,
    },
    /// It was recorded and is not there.
    Removed {
        /// The recorded step.
        id: String,
    },
    /// It is there and was not recorded.
    Added {
        /// The step that was given.
        id: String,
    },
}

impl fmt::Display for PlanDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = self.index;
        let callable = |name: &Option<String>| match name {
            Some(name) => format!("the callable {name:?}"),
            None => "a closure".to_owned(),
        };
        match &self.change {
            StepChange::Id { was, now } => write!(f, "step {index} was {was:?}, now {now:?}"),
            StepChange::Callable { id, was, now } => {
                write!(f, "step {index} ({id:?}) used {}, now {}", callable(was), callable(now))
            }
            StepChange::Input { id, was, now } => {
                write!(f, "step {index} ({id:?}) had the input {was}, now {now}")
            }
            StepChange::Removed { id } => write!(f, "step {index} ({id:?}) is missing"),
            StepChange::Added { id } => write!(f, "step {index} ({id:?}) is new"),
        }
    }
}
