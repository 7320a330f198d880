use std::time::Duration;

use actix::{MailboxError, Message};
use uuid::Uuid;

use super::backlog::Place;
use super::subscriber::{IntoSubscriber, Subscriber};
use super::subscription::{EventStream, Subscription};
use crate::event::{Event, InvalidEventType, InvalidPattern};
use crate::limits::{MAX_JSON_DEPTH, MAX_PAYLOAD_BYTES, MAX_SUBSCRIPTIONS, SUBSCRIBER_QUEUE};

/// Subscribes a closure or an actor to the events that match a pattern.
///
/// ```
/// use actix::prelude::*;
/// use lunacore::{Emit, Event, EventBus, Flush, Subscribe};
/// use serde_json::json;
///
/// # actix::System::new().block_on(async {
/// let bus = EventBus::new().start();
/// let seen = bus.send(Subscribe::new("billing.*", |event: Event| println!("{event}"))).await??;
/// bus.send(Emit(Event::custom("billing.done", json!({ "invoice": 17 })))).await??;
/// bus.send(Flush::default()).await??;
/// seen.end();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Message)]
#[rtype(result = "Result<Subscription, SubscribeError>")]
pub struct Subscribe {
    pub(crate) pattern: String,
    pub(crate) subscriber: Subscriber,
    pub(crate) capacity: usize,
}

impl Subscribe {
    /// A subscription to a [`Pattern`](crate::Pattern) such as `"task.*"`.
    pub fn new<M>(pattern: impl Into<String>, subscriber: impl IntoSubscriber<M>) -> Self {
        let subscriber = subscriber.into_subscriber();
        Self { pattern: pattern.into(), subscriber, capacity: SUBSCRIBER_QUEUE }
    }

    /// How many events may wait for it, besides those that it has taken already (up to
    /// [`SUBSCRIBER_BATCH`](crate::limits::SUBSCRIBER_BATCH)): from 1 to [`MAX_SUBSCRIBER_QUEUE`](crate::limits::MAX_SUBSCRIBER_QUEUE);
    /// [`SUBSCRIBER_QUEUE`] by default. Values outside are taken as the nearest bound.
    #[must_use]
    pub fn capacity(mut self, events: usize) -> Self {
        self.capacity = events;
        self
    }
}

/// Subscribes with a stream, which ends its subscription when it is dropped.
///
/// ```
/// use actix::prelude::*;
/// use lunacore::{Emit, Event, EventBus, SubscribeStream};
/// use serde_json::json;
///
/// # actix::System::new().block_on(async {
/// let bus = EventBus::new().start();
/// let mut events = bus.send(SubscribeStream::new("*")).await??;
/// bus.send(Emit(Event::custom("tick", json!(1)))).await??;
/// assert_eq!(events.next().await.unwrap().event_type(), "tick");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Message)]
#[rtype(result = "Result<EventStream, SubscribeError>")]
pub struct SubscribeStream {
    pub(crate) pattern: String,
    pub(crate) capacity: usize,
}

impl SubscribeStream {
    /// A subscription to a [`Pattern`](crate::Pattern) such as `"task.*"`.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self { pattern: pattern.into(), capacity: SUBSCRIBER_QUEUE }
    }

    /// How many events may wait; see [`Subscribe::capacity`].
    #[must_use]
    pub fn capacity(mut self, events: usize) -> Self {
        self.capacity = events;
        self
    }
}

/// Why a bus does not accept a subscription.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The pattern cannot be one.
    #[error(transparent)]
    Pattern(#[from] InvalidPattern),
    /// The bus has [`MAX_SUBSCRIPTIONS`] already.
    #[error("the bus has {MAX_SUBSCRIPTIONS} subscriptions already; end one, or use wider patterns")]
    TooMany,
    /// The bus has stopped.
    #[error("the event bus has stopped")]
    Stopped,
}

/// Delivers an application's own event. It is not stored.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), EmitError>")]
pub struct Emit(pub Event);

/// Why a bus does not deliver an application's event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// The type is reserved or is not a name.
    #[error(transparent)]
    EventType(#[from] InvalidEventType),
    /// The event is larger than [`MAX_PAYLOAD_BYTES`].
    #[error("the event {event_type:?} has {bytes} bytes of JSON, more than {MAX_PAYLOAD_BYTES}")]
    TooLarge {
        /// The event's type.
        event_type: String,
        /// Its size in bytes.
        bytes: usize,
    },
    /// The event has a sequence number, which only a store gives.
    #[error("the event {event_type:?} has the sequence number of a stored one; emit a new event")]
    Numbered {
        /// The event's type.
        event_type: String,
    },
    /// The event's payload nests deeper than [`MAX_JSON_DEPTH`].
    #[error("the event {event_type:?} nests deeper than {MAX_JSON_DEPTH} levels")]
    TooDeep {
        /// The event's type.
        event_type: String,
    },
    /// The bus has stopped.
    #[error("the event bus has stopped")]
    Stopped,
}

/// Delivers events of memory or of an orchestrator. Applications send [`Emit`].
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Publish {
    /// Which store it comes from, and the last sequence number that this message covers. What lies between the last
    /// message of the source and the first event here has been left out.
    pub(crate) stored: Option<(Uuid, u64)>,
    pub(crate) events: Vec<Event>,
    /// Bounds what waits for the bus: given back when the message is handled.
    pub(crate) _place: Place,
}

impl Publish {
    pub(crate) fn stored(source: Uuid, upto: u64, events: Vec<Event>, place: Place) -> Self {
        Self { stored: Some((source, upto)), events, _place: place }
    }

    pub(crate) fn ephemeral(event: Event, place: Place) -> Self {
        Self { stored: None, events: vec![event], _place: place }
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

/// Answers once every closure and actor has handled what was delivered before. Streams are not waited for.
///
/// For the end of a program, and for tests. Nothing else ever waits for a subscriber.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), FlushTimeout>")]
#[non_exhaustive]
pub struct Flush {
    /// How long to wait at most.
    pub timeout: Duration,
}

impl Flush {
    /// Waits at most this long.
    #[must_use]
    pub fn within(timeout: Duration) -> Self {
        Self { timeout }
    }
}

/// Waits at most 5 seconds.
impl Default for Flush {
    fn default() -> Self {
        Self::within(Duration::from_secs(5))
    }
}

/// Some subscribers had not handled everything in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{subscribers} subscribers had not handled their events within {timeout:?}")]
#[non_exhaustive]
pub struct FlushTimeout {
    /// How many.
    pub subscribers: usize,
    /// How long was waited.
    pub timeout: Duration,
}

/// So that `??` works on what an actor's address answers.
impl From<MailboxError> for SubscribeError {
    fn from(_: MailboxError) -> Self {
        Self::Stopped
    }
}

/// So that `??` works on what an actor's address answers.
impl From<MailboxError> for EmitError {
    fn from(_: MailboxError) -> Self {
        Self::Stopped
    }
}
