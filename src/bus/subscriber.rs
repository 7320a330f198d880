use std::fmt;
use std::future::Future;
use std::pin::Pin;

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Handler, Message, Recipient};

use crate::event::Event;

/// Lets an [`Event`] be sent to an actor of the application's own.
impl Message for Event {
    type Result = ();
}

/// Who gets the events of a subscription.
pub struct Subscriber(pub(crate) Kind);

pub(crate) type Failure = Option<String>;
pub(crate) type AsyncCall = Box<dyn FnMut(Event) -> Pin<Box<dyn Future<Output = Failure>>> + Send>;

pub(crate) enum Kind {
    /// May block: called on the blocking pool.
    Sync(Box<dyn FnMut(Event) -> Failure + Send>),
    /// Polled on the bus's own arbiter.
    Async(AsyncCall),
    Actor(Recipient<Event>),
}

impl Subscriber {
    pub(crate) fn actor(&self) -> Option<&Recipient<Event>> {
        match &self.0 {
            Kind::Actor(recipient) => Some(recipient),
            Kind::Sync(_) | Kind::Async(_) => None,
        }
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Sync(_) => "Subscriber(sync)",
            Kind::Async(_) => "Subscriber(async)",
            Kind::Actor(_) => "Subscriber(actor)",
        })
    }
}

/// What a subscriber's function may return: nothing, or a `Result` whose error is logged and counted.
#[diagnostic::on_unimplemented(
    message = "a subscriber cannot return `{Self}`",
    note = "return `()` or `Result<(), E>` where `E: Display`"
)]
pub trait SubscriberOutcome {
    /// The error's message, if it is one.
    fn failure(self) -> Option<String>;
}

impl SubscriberOutcome for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: fmt::Display> SubscriberOutcome for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// What can be a subscriber: a sync closure `FnMut(Event)`, an async one, or an actor that handles [`Event`], by its
/// address or as a `Recipient<Event>`.
///
/// A sync closure is called on the blocking pool and may block. An async one is polled on the bus's own arbiter, so it
/// may wait as long as it likes but, as everywhere in async code, must not block the thread; start the bus on an
/// arbiter of its own where you cannot be sure of that. Calls of one subscriber never overlap.
///
/// The parameter `Marker` only keeps the forms apart; it is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a subscriber",
    note = "a subscriber is `FnMut(Event) + Send`, the same returning a future, or an actor that handles `Event`"
)]
pub trait IntoSubscriber<Marker> {
    /// Wraps the subscriber.
    fn into_subscriber(self) -> Subscriber;
}

/// Markers of the forms. They are types of arguments, never values.
#[doc(hidden)]
#[allow(missing_debug_implementations, unreachable_pub, reason = "named only by inference")]
pub mod marker {
    pub enum Sync {}
    pub enum Async {}
    pub enum Actor {}
}

impl<F, R> IntoSubscriber<(marker::Sync, R)> for F
where
    F: FnMut(Event) -> R + Send + 'static,
    R: SubscriberOutcome,
{
    fn into_subscriber(mut self) -> Subscriber {
        Subscriber(Kind::Sync(Box::new(move |event| self(event).failure())))
    }
}

impl<F, Fut> IntoSubscriber<(marker::Async, Fut)> for F
where
    F: FnMut(Event) -> Fut + Send + 'static,
    Fut: Future<Output: SubscriberOutcome> + 'static,
{
    fn into_subscriber(mut self) -> Subscriber {
        Subscriber(Kind::Async(Box::new(move |event| {
            let future = self(event);
            Box::pin(async move { future.await.failure() })
        })))
    }
}

impl IntoSubscriber<marker::Actor> for Recipient<Event> {
    fn into_subscriber(self) -> Subscriber {
        Subscriber(Kind::Actor(self))
    }
}

impl<A> IntoSubscriber<marker::Actor> for Addr<A>
where
    A: Actor + Handler<Event>,
    A::Context: ToEnvelope<A, Event>,
{
    fn into_subscriber(self) -> Subscriber {
        Subscriber(Kind::Actor(self.recipient()))
    }
}
