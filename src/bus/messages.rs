use std::time::Duration;

use actix::{MailboxError, Message, WeakRecipient};
use uuid::Uuid;

use super::backlog::Place;
use super::history::{HistoryError, ReadEvents};
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
    pub(crate) from: Option<u64>,
}

impl Subscribe {
    /// A subscription to a [`Pattern`](crate::Pattern) such as `"task.*"`.
    pub fn new<M>(pattern: impl Into<String>, subscriber: impl IntoSubscriber<M>) -> Self {
        let subscriber = subscriber.into_subscriber();
        Self { pattern: pattern.into(), subscriber, capacity: SUBSCRIBER_QUEUE, from: None }
    }

    /// How many events may wait for it, besides those that it has taken already (up to
    /// [`SUBSCRIBER_BATCH`](crate::limits::SUBSCRIBER_BATCH)): from 1 to [`MAX_SUBSCRIBER_QUEUE`](crate::limits::MAX_SUBSCRIBER_QUEUE);
    /// [`SUBSCRIBER_QUEUE`] by default. Values outside are taken as the nearest bound.
    #[must_use]
    pub fn capacity(mut self, events: usize) -> Self {
        self.capacity = events;
        self
    }

    /// Begins with the stored event that has this sequence number, or with the first (1, or 0), and goes on with what
    /// comes: every stored event once, in order, without a gap.
    ///
    /// However slow the subscriber is, no stored event is lost: what its queue cannot hold, and what the bus itself is
    /// told to do without, is read again from the store, a page at a time. There is only a `subscription.lagged` event
    /// for events that the store does not keep any more, or that it fails to read; it then counts all of them, whether
    /// they match the pattern or not.
    ///
    /// Events that are not stored (`task.progress`, an application's own) come as always, but after a replay that is
    /// under way. When they make way for others in a full queue they are lost; [`Subscription::missed`] counts them.
    ///
    /// The history is that of the one memory that publishes to this bus, of which the bus hears when they are attached:
    /// an orchestrator does so when it starts. Of another memory that is attached later, this subscription tells
    /// nothing. Where nothing more is stored yet than a number below this one, the subscription waits for it.
    ///
    /// ```
    /// use actix::prelude::*;
    /// use lunacore::{
    ///     EventBus, ExecutionOrchestrator, ExecutePlan, Flush, ProjectMemory, SimpleAllocator, Step, Subscribe,
    /// };
    ///
    /// # actix::System::new().block_on(async {
    /// let (bus, memory) = (EventBus::new().start(), ProjectMemory::in_memory().start());
    /// let orchestrator = ExecutionOrchestrator::new(bus.clone(), memory, SimpleAllocator.start()).start();
    /// orchestrator.send(ExecutePlan::new([Step::new("answer", || 42)])).await??;
    ///
    /// let (seen, late) = std::sync::mpsc::channel();
    /// let subscriber = move |event: lunacore::Event| seen.send(event.to_string());
    /// bus.send(Subscribe::new("task.*", subscriber).from(1)).await??;
    /// bus.send(Flush::default()).await??;
    /// assert_eq!(late.try_iter().collect::<Vec<_>>(), ["task.started answer", "task.completed answer"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn from(mut self, seq: u64) -> Self {
        self.from = Some(seq);
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
    pub(crate) from: Option<u64>,
}

impl SubscribeStream {
    /// A subscription to a [`Pattern`](crate::Pattern) such as `"task.*"`.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self { pattern: pattern.into(), capacity: SUBSCRIBER_QUEUE, from: None }
    }

    /// How many events may wait; see [`Subscribe::capacity`].
    #[must_use]
    pub fn capacity(mut self, events: usize) -> Self {
        self.capacity = events;
        self
    }

    /// Begins with the stored event that has this sequence number; see [`Subscribe::from`].
    #[must_use]
    pub fn from(mut self, seq: u64) -> Self {
        self.from = Some(seq);
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
    /// There is no store to read earlier events from: no memory was attached to this bus. An orchestrator attaches its
    /// memory when it starts; [`Attach`](crate::Attach) does so without one.
    #[error("the bus knows no store to read earlier events from; attach a memory to it first")]
    NoHistory,
    /// Several memories are attached to this bus, and a sequence number is that of one.
    #[error("the bus has the events of several stores, each with numbers of its own; use a bus for each")]
    SeveralStores,
    /// The store does not keep the first events any more.
    #[error("events from {from} on are not kept any more; the first that is has the number {first}")]
    HistoryGone {
        /// The first event that was asked for.
        from: u64,
        /// The first event that is still there.
        first: u64,
    },
    /// The store could not be read.
    #[error("earlier events cannot be read")]
    History {
        /// Why.
        source: HistoryError,
    },
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
    /// In the first message of a store: where its events can be read again.
    pub(crate) history: Option<WeakRecipient<ReadEvents>>,
    pub(crate) events: Vec<Event>,
    /// Bounds what waits for the bus: given back when the message is handled.
    pub(crate) _place: Place,
}

impl Publish {
    pub(crate) fn stored(source: Uuid, upto: u64, events: Vec<Event>, place: Place) -> Self {
        Self { stored: Some((source, upto)), history: None, events, _place: place }
    }

    /// The first message of a store, which has `upto` events already.
    pub(crate) fn introduction(
        source: Uuid,
        upto: u64,
        history: WeakRecipient<ReadEvents>,
        place: Place,
    ) -> Self {
        Self { history: Some(history), ..Self::stored(source, upto, Vec::new(), place) }
    }

    pub(crate) fn ephemeral(event: Event, place: Place) -> Self {
        Self { stored: None, history: None, events: vec![event], _place: place }
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

/// Answers once every closure and actor has handled what was delivered before. Streams are not waited for.
///
/// One with a [history](Subscribe::from) has then handled all that was stored before, back to where it began.
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
