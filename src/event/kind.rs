use std::sync::Arc;
use std::time::SystemTime;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::reason::{Barrier, Resolution, SkipReason};
use crate::id::rfc3339;
use crate::plan::Output;
use crate::run::{HoldReason, StepFailure};

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
#[serde(tag = "type", remote = "Self")]
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
    /// The plan was told to pause, and does so after the attempt in flight.
    #[serde(rename = "plan.pausing")]
    PlanPausing {},
    /// The plan was told to pause: nothing of it runs until it is told to go on.
    #[serde(rename = "plan.paused")]
    PlanPaused {},
    /// The plan waits for a circuit breaker, or for a limit, to let its next step through.
    #[serde(rename = "plan.parked")]
    PlanParked {
        /// The step.
        task_id: Arc<str>,
        /// What it waits for.
        #[serde(flatten)]
        behind: Barrier,
        /// Until when the breaker is open; not there while its probes are in flight. Of a limit, when its rate lets
        /// the step start at the earliest; not there while as many attempts as may are under way, so that nobody knows.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339::maybe")]
        until: Option<SystemTime>,
    },
    /// A signal came for the run. It is kept until a step takes it.
    #[serde(rename = "signal.received")]
    SignalReceived {
        /// The signal's name.
        signal: Arc<str>,
    },
    /// A run that was over, or was held, is tried again.
    #[serde(rename = "plan.retried")]
    PlanRetried {
        /// Which generation of the run this is, from 2.
        generation: u32,
        /// The step that it goes on from; not there where none is left.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task_id: Option<Arc<str>>,
        /// How many steps before it count as completed.
        completed: usize,
    },
    /// The plan failed, or was cancelled, and what its steps did is about to be undone.
    #[serde(rename = "plan.compensating")]
    PlanCompensating {
        /// How many steps there are to undo.
        steps: usize,
    },
    /// The plan failed, or was cancelled, and all that was to be undone is.
    #[serde(rename = "plan.compensated")]
    PlanCompensated {},
    /// Blocking code runs that was told to stop, since the plan was cancelled or came to a limit; it is waited for.
    #[serde(rename = "plan.stopping")]
    PlanStopping {},
    /// A run that was paused, or cut off, goes on: with the step at which it was.
    #[serde(rename = "plan.resumed")]
    PlanResumed {
        /// How many steps had completed before. If it was cut off, each is told of by a `task.recovered`.
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
        /// It is the one attempt of the step's fallback.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        fallback: bool,
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
    /// An attempt of a step failed, or the step came to a limit between two.
    #[serde(rename = "task.failed")]
    TaskFailed {
        /// The step.
        task_id: Arc<str>,
        /// Which attempt, from 1; 0 for a step that came to a limit before its first.
        attempt: u32,
        /// Whether the policy has it tried again.
        #[serde(default)]
        will_retry: bool,
        /// When, if it is.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339::maybe")]
        next_attempt_at: Option<SystemTime>,
        /// Why.
        #[serde(flatten)]
        failure: Arc<StepFailure>,
    },
    /// A step waits for its next attempt again, for what is left of the delay: its run was paused, or cut off, meanwhile.
    #[serde(rename = "task.waiting")]
    TaskWaiting {
        /// The step.
        task_id: Arc<str>,
        /// The attempt that failed last, from 1.
        attempt: u32,
        /// When the next one starts.
        #[serde(with = "rfc3339")]
        next_attempt_at: SystemTime,
    },
    /// A step that only waits has begun to, or goes on with it after a pause, or after its run was interrupted. A restart alone changes
    /// nothing, and is not told of.
    #[serde(rename = "task.sleeping")]
    TaskSleeping {
        /// The step.
        task_id: Arc<str>,
        /// Until when.
        #[serde(with = "rfc3339")]
        until: SystemTime,
    },
    /// The same for a step that waits for a signal.
    #[serde(rename = "task.awaiting_signal")]
    TaskAwaitingSignal {
        /// The step.
        task_id: Arc<str>,
        /// The signal's name.
        signal: Arc<str>,
        /// When it has waited for too long; not there where it waits for ever.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339::maybe")]
        until: Option<SystemTime>,
    },
    /// An attempt was cut off, and it is about to be asked whether it had its effect.
    #[serde(rename = "task.verifying")]
    TaskVerifying {
        /// The step.
        task_id: Arc<str>,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// Somebody has to decide about a step: the plan waits for that.
    #[serde(rename = "task.held")]
    TaskHeld {
        /// The step.
        task_id: Arc<str>,
        /// Which attempt, from 1.
        attempt: u32,
        /// Why.
        reason: HoldReason,
    },
    /// Somebody has decided about a step that was held.
    #[serde(rename = "task.resolved")]
    TaskResolved {
        /// The step.
        task_id: Arc<str>,
        /// How.
        resolution: Resolution,
    },
    /// What a step did is about to be undone.
    #[serde(rename = "task.compensating")]
    TaskCompensating {
        /// The step.
        task_id: Arc<str>,
        /// Which attempt of its compensation this is, from 1.
        attempt: u32,
    },
    /// What a step did is undone.
    #[serde(rename = "task.compensated")]
    TaskCompensated {
        /// The step.
        task_id: Arc<str>,
    },
    /// An attempt to undo what a step did has failed.
    #[serde(rename = "task.compensation_failed")]
    TaskCompensationFailed {
        /// The step.
        task_id: Arc<str>,
        /// Which attempt of its compensation, from 1.
        attempt: u32,
        /// Whether it is tried again.
        #[serde(default)]
        will_retry: bool,
        /// When, if it is.
        #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339::maybe")]
        next_attempt_at: Option<SystemTime>,
        /// Why.
        #[serde(flatten)]
        failure: Arc<StepFailure>,
    },
    /// The plan goes on without a step, whose result is null: it failed for the last time, or its condition was false.
    #[serde(rename = "task.skipped")]
    TaskSkipped {
        /// The step.
        task_id: Arc<str>,
        /// Why; in JSON only where it is not that it failed.
        #[serde(default, skip_serializing_if = "SkipReason::is_failed")]
        reason: SkipReason,
    },
    /// A step failed for the last time, and had asked for somebody to be told.
    #[serde(rename = "escalation.needed")]
    EscalationNeeded {
        /// The step.
        task_id: Arc<str>,
        /// Why it failed.
        reason: Arc<str>,
    },
    /// A circuit breaker opened: it lets nothing through for a while.
    #[serde(rename = "breaker.opened")]
    BreakerOpened {
        /// Its name.
        breaker: Arc<str>,
        /// Until when.
        #[serde(with = "rfc3339")]
        until: SystemTime,
    },
    /// A circuit breaker lets probes through, to see whether all is well again.
    #[serde(rename = "breaker.half_opened")]
    BreakerHalfOpened {
        /// Its name.
        breaker: Arc<str>,
    },
    /// A circuit breaker lets everything through again.
    #[serde(rename = "breaker.closed")]
    BreakerClosed {
        /// Its name.
        breaker: Arc<str>,
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

impl Serialize for EventKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for EventKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Map::deserialize(deserializer)?;
        // A number would pass for the place of a variant.
        if !fields.get("type").is_some_and(Value::is_string) {
            return Err(D::Error::custom("an event needs a `type` that is a text"));
        }
        Self::deserialize(Value::Object(fields)).map_err(D::Error::custom)
    }
}
