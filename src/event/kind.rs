use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::plan::Output;
use crate::run::StepFailure;

/// What an event says, by type.
///
/// In JSON the fields stand flat beside the envelope's: `{"type":"task.started","task_id":"process",…}`. A type that
/// this version does not know is read as [`Custom`](Self::Custom), with all its fields.
///
/// ```
/// use lunacore::EventKind;
/// use serde_json::json;
///
/// let kind: EventKind = serde_json::from_value(json!({
///     "type": "task.started", "task_id": "process", "agent_id": "orchestrator", "attempt": 1
/// }))?;
/// assert!(matches!(&kind, EventKind::TaskStarted { task_id, .. } if &**task_id == "process"));
/// assert_eq!(kind.event_type(), "task.started");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", expecting = "an event needs a `type` that is a text")]
#[non_exhaustive]
pub enum EventKind {
    /// A plan was checked, resolved and stored; it will run.
    #[serde(rename = "plan.accepted")]
    PlanAccepted {
        /// The plan's name, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Arc<str>>,
        /// How many steps it has.
        steps: usize,
    },
    /// The first step is about to run.
    #[serde(rename = "plan.started")]
    PlanStarted {},
    /// A run that was cut off goes on: with the step at which it was.
    #[serde(rename = "plan.resumed")]
    PlanResumed {
        /// How many steps had completed before; each is told of by a `task.recovered`.
        completed: usize,
    },
    /// A run was cut off and cannot go on by itself: it waits for its plan to be sent again with the same run id.
    #[serde(rename = "plan.interrupted")]
    PlanInterrupted {
        /// Why it cannot.
        reason: Arc<str>,
    },
    /// Every step completed.
    #[serde(rename = "plan.completed")]
    PlanCompleted {},
    /// A step failed and so did its plan.
    #[serde(rename = "plan.failed")]
    PlanFailed {
        /// The step that failed.
        task_id: Arc<str>,
        /// Why.
        #[serde(flatten)]
        failure: Arc<StepFailure>,
    },
    /// The plan was cancelled.
    #[serde(rename = "plan.cancelled")]
    PlanCancelled {},
    /// An attempt of a step is about to run.
    #[serde(rename = "task.started")]
    TaskStarted {
        /// The step.
        task_id: Arc<str>,
        /// The agent named by the step, `"orchestrator"` by default.
        agent_id: Arc<str>,
        /// Which attempt this is, from 1.
        attempt: u32,
    },
    /// A step completed and its result is stored.
    #[serde(rename = "task.completed")]
    TaskCompleted {
        /// The step.
        task_id: Arc<str>,
        /// What it returned; shared with the store, not copied.
        result: Output,
    },
    /// A step had completed before its run was cut off: its stored result counts, and it is not called again.
    #[serde(rename = "task.recovered")]
    TaskRecovered {
        /// The step.
        task_id: Arc<str>,
    },
    /// An attempt of a step failed.
    #[serde(rename = "task.failed")]
    TaskFailed {
        /// The step.
        task_id: Arc<str>,
        /// Which attempt, from 1.
        attempt: u32,
        /// Why.
        #[serde(flatten)]
        failure: Arc<StepFailure>,
    },
    /// A step was in flight, or about to be, when its plan was cancelled; it has no result.
    #[serde(rename = "task.cancelled")]
    TaskCancelled {
        /// The step.
        task_id: Arc<str>,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// A step tells how far it is. Ephemeral: not stored, and dropped when the bus is far behind.
    #[serde(rename = "task.progress")]
    TaskProgress {
        /// The step.
        task_id: Arc<str>,
        /// Which attempt, from 1.
        attempt: u32,
        /// Whatever the step reported.
        value: Arc<Value>,
    },
    /// This subscriber was too slow and missed events, which were older than the next one it gets.
    #[serde(rename = "subscription.lagged")]
    SubscriptionLagged {
        /// How many it missed. Where the bus itself was behind this counts every event, also those that the
        /// subscription's pattern would not have matched.
        missed: u64,
    },
    /// An application's own event, or one of a later version of this crate.
    #[serde(untagged)]
    Custom {
        /// The type, for example `"billing.done"`.
        #[serde(rename = "type")]
        event_type: Arc<str>,
        /// All other fields.
        #[serde(flatten)]
        payload: Map<String, Value>,
    },
}

impl EventKind {
    /// The type as text, for example `"task.started"`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        match self {
            Self::PlanAccepted { .. } => "plan.accepted",
            Self::PlanStarted {} => "plan.started",
            Self::PlanResumed { .. } => "plan.resumed",
            Self::PlanInterrupted { .. } => "plan.interrupted",
            Self::PlanCompleted {} => "plan.completed",
            Self::PlanFailed { .. } => "plan.failed",
            Self::PlanCancelled {} => "plan.cancelled",
            Self::TaskStarted { .. } => "task.started",
            Self::TaskCompleted { .. } => "task.completed",
            Self::TaskRecovered { .. } => "task.recovered",
            Self::TaskFailed { .. } => "task.failed",
            Self::TaskCancelled { .. } => "task.cancelled",
            Self::TaskProgress { .. } => "task.progress",
            Self::SubscriptionLagged { .. } => "subscription.lagged",
            Self::Custom { event_type, .. } => event_type,
        }
    }

    /// The step the event is about, for `task.*` events and `plan.failed`.
    #[must_use]
    pub fn task_id(&self) -> Option<&str> {
        match self {
            Self::PlanFailed { task_id, .. }
            | Self::TaskStarted { task_id, .. }
            | Self::TaskCompleted { task_id, .. }
            | Self::TaskRecovered { task_id }
            | Self::TaskFailed { task_id, .. }
            | Self::TaskCancelled { task_id, .. }
            | Self::TaskProgress { task_id, .. } => Some(task_id),
            _ => None,
        }
    }
}
