use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::EventKind;
use crate::id::{IdFault, Ids, check_id, rfc3339, shorten};
use crate::run::RunId;

/// Something that happened: an envelope around an [`EventKind`].
///
/// Cloning shares the content, so a large result reaches every subscriber without being copied. In JSON an event is
/// one flat object:
///
/// ```
/// use lunacore::{Event, EventKind};
/// use serde_json::json;
///
/// let event: Event = serde_json::from_value(json!({
///     "id": "01993f0e-0000-7000-8000-000000000000", "seq": 4, "timestamp": "2026-11-23T12:00:00.000001Z",
///     "run_id": "nightly", "type": "task.completed", "task_id": "process", "result": "processed_data"
/// }))?;
/// assert_eq!(event.event_type(), "task.completed");
/// assert_eq!(event.task_id(), Some("process"));
/// assert_eq!(event.seq(), Some(4));
/// assert_eq!(event.run_id().map(|id| id.as_str()), Some("nightly"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Event(Arc<Content>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Content {
    id: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(with = "rfc3339")]
    timestamp: SystemTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run_id: Option<RunId>,
    #[serde(flatten)]
    kind: EventKind,
}

/// The fields of the envelope: a payload may not use their names.
const ENVELOPE: [&str; 5] = ["id", "seq", "timestamp", "run_id", "type"];

/// First parts of the types that only this crate's own actors emit.
const RESERVED: [&str; 6] = ["plan.", "task.", "subscription.", "breaker.", "escalation.", "signal."];

impl Event {
    /// An event as a [`Store`](crate::Store) makes it when it commits: with its place `seq` in the store's sequence.
    ///
    /// `at` is cut to microseconds, the precision of the JSON form.
    #[must_use]
    pub fn stored(seq: u64, at: SystemTime, run_id: impl Into<Option<RunId>>, kind: EventKind) -> Self {
        Self::build(Some(seq), at, run_id.into(), kind)
    }

    /// An event that has been given its id: a store kept it, or makes it together with others of the same moment.
    pub(crate) fn restored(
        id: Uuid,
        seq: u64,
        timestamp: SystemTime,
        run_id: Option<RunId>,
        kind: EventKind,
    ) -> Self {
        Self(Arc::new(Content { id, seq: Some(seq), timestamp, run_id, kind }))
    }

    /// An event that is not stored, and so has no sequence number.
    pub(crate) fn ephemeral(run_id: Option<RunId>, kind: EventKind) -> Self {
        Self::build(None, SystemTime::now(), run_id, kind)
    }

    /// An application's own event, to be sent with [`Emit`](crate::Emit).
    ///
    /// An object becomes the event's own fields; any other payload, and an object that uses a name of the envelope
    /// (`id`, `seq`, `timestamp`, `run_id`, `type`), becomes the field `data`.
    ///
    /// ```
    /// use lunacore::Event;
    /// use serde_json::json;
    ///
    /// let event = Event::custom("billing.done", json!({ "invoice": 17 }));
    /// assert_eq!(event.get("invoice"), Some(json!(17)));
    /// assert_eq!(Event::custom("tick", json!(3)).get("data"), Some(json!(3)));
    /// ```
    #[must_use]
    pub fn custom(event_type: impl Into<Arc<str>>, payload: Value) -> Self {
        let payload = match payload {
            Value::Object(map) if !ENVELOPE.iter().any(|name| map.contains_key(*name)) => map,
            other => Map::from_iter([("data".to_owned(), other)]),
        };
        Self::ephemeral(None, EventKind::Custom { event_type: event_type.into(), payload })
    }

    fn build(seq: Option<u64>, at: SystemTime, run_id: Option<RunId>, kind: EventKind) -> Self {
        let (ids, timestamp) = Ids::at(at);
        let id = ids.make();
        Self(Arc::new(Content { id, seq, timestamp, run_id, kind }))
    }

    /// A UUIDv7 that names this event and no other.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.0.id
    }

    /// The event's place in its store's sequence, from 1, without gaps; `None` for an event that is not stored.
    #[must_use]
    pub fn seq(&self) -> Option<u64> {
        self.0.seq
    }

    /// When it happened, to the microsecond.
    #[must_use]
    pub fn timestamp(&self) -> SystemTime {
        self.0.timestamp
    }

    /// The run it belongs to: the original's correlation id.
    #[must_use]
    pub fn run_id(&self) -> Option<&RunId> {
        self.0.run_id.as_ref()
    }

    /// What it says.
    #[must_use]
    pub fn kind(&self) -> &EventKind {
        &self.0.kind
    }

    /// The type as text, for example `"task.started"`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        self.0.kind.event_type()
    }

    /// The step it is about, if it is about one.
    #[must_use]
    pub fn task_id(&self) -> Option<&str> {
        self.0.kind.task_id()
    }

    /// Whether this is the last event of its run: `plan.completed`, `plan.failed` or `plan.cancelled`.
    #[must_use]
    pub fn ends_run(&self) -> bool {
        let kind = self.kind();
        matches!(
            kind,
            EventKind::PlanCompleted {} | EventKind::PlanFailed { .. } | EventKind::PlanCancelled {}
        )
    }

    /// A field by its name in JSON, whatever the type. It serialises the event: for display, not for a hot loop.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<Value> {
        serde_json::to_value(self).ok()?.get_mut(field).map(Value::take)
    }

    /// Checks that an application may emit this.
    ///
    /// # Errors
    /// An empty or over-long type, control characters in it, or a type of this crate's own.
    pub(crate) fn check_emittable(&self) -> Result<(), InvalidEventType> {
        let event_type = self.event_type();
        if RESERVED.iter().any(|prefix| event_type.starts_with(prefix)) {
            return Err(InvalidEventType::Reserved { event_type: event_type.to_owned() });
        }
        check_id(event_type)
            .map_err(|fault| InvalidEventType::Malformed { event_type: shorten(event_type), fault })
    }
}

/// An event type that an application cannot emit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEventType {
    /// The type belongs to this crate.
    #[error(
        "the event type {event_type:?} is reserved for lunacore's own events; use a first part of your own"
    )]
    Reserved {
        /// The type that was given.
        event_type: String,
    },
    /// The type is not a name.
    #[error("the event type {event_type:?} {fault}")]
    Malformed {
        /// The type that was given, shortened.
        event_type: String,
        /// What is wrong with it.
        fault: IdFault,
    },
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Content { id, seq, timestamp, run_id, kind } = &*self.0;
        f.debug_struct("Event")
            .field("id", id)
            .field("seq", seq)
            .field("timestamp", &humantime::format_rfc3339_micros(*timestamp).to_string())
            .field("run_id", run_id)
            .field("kind", kind)
            .finish()
    }
}

/// `task.started process`: the type and the step.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.event_type())?;
        match self.task_id() {
            Some(task_id) => write!(f, " {task_id}"),
            None => Ok(()),
        }
    }
}
