use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler, Recipient, ResponseFuture};
use uuid::Uuid;

use super::delivery::serve;
use super::messages::{
    Emit, EmitError, Flush, FlushTimeout, Publish, Subscribe, SubscribeError, SubscribeStream,
};
use super::queue::Queue;
use super::subscription::{EventStream, Subscription};
use crate::event::{Event, EventKind, Pattern};
use crate::json;
use crate::limits::{MAILBOX, MAX_PAYLOAD_BYTES, MAX_SUBSCRIBER_QUEUE, MAX_SUBSCRIPTIONS};

/// The actor that delivers events. See [`Subscribe`] for an example.
#[derive(Default)]
pub struct EventBus {
    subscriptions: Vec<Entry>,
    /// The last sequence number seen of each store.
    seen: HashMap<Uuid, u64>,
}

struct Entry {
    pattern: Pattern,
    queue: Arc<Queue>,
    reader: Reader,
}

enum Reader {
    /// Served by a task of ours; an actor is asked whether it is alive.
    Served(Option<Recipient<Event>>),
    /// Emptied by its owner, so that a flush does not wait for it.
    Stream,
}

impl Entry {
    /// Whether it still takes a place. One that was ended does while its last call is under way, for that may hold a
    /// thread.
    fn takes_place(&self) -> bool {
        if let Reader::Served(Some(actor)) = &self.reader
            && !actor.connected()
        {
            self.queue.end();
            return false;
        }
        !self.queue.has_left()
    }
}

impl EventBus {
    /// A bus without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn add(
        &mut self,
        pattern: &str,
        capacity: usize,
        reader: Reader,
    ) -> Result<Subscription, SubscribeError> {
        let pattern: Pattern = pattern.parse()?;
        self.subscriptions.retain(Entry::takes_place);
        if self.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return Err(SubscribeError::TooMany);
        }
        let queue = Queue::new(capacity.clamp(1, MAX_SUBSCRIBER_QUEUE));
        self.subscriptions.push(Entry { pattern: pattern.clone(), queue: Arc::clone(&queue), reader });
        Ok(Subscription::new(pattern, queue))
    }

    fn deliver(&mut self, events: &[Event], lost_before: u64) {
        self.subscriptions.retain(|entry| {
            let matching = events.iter().filter(|event| entry.pattern.matches(event.event_type()));
            entry.queue.push(matching, lost_before) || !entry.queue.has_left()
        });
    }

    /// How many events of a store were left out between its last message and this one.
    fn count_lost(&mut self, source: Uuid, upto: u64, events: &[Event]) -> u64 {
        let carried = events.len() as u64;
        // The first message of a store says where this bus comes in.
        let seen = self.seen.entry(source).or_insert(upto.saturating_sub(carried));
        let lost = upto.saturating_sub(*seen).saturating_sub(carried);
        *seen = upto.max(*seen);
        lost
    }
}

impl Actor for EventBus {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

/// However the bus ends, also with its whole system: subscribers get what is queued, and streams end.
impl Drop for EventBus {
    fn drop(&mut self) {
        for entry in &self.subscriptions {
            entry.queue.close();
        }
    }
}

impl Handler<Publish> for EventBus {
    type Result = ();

    fn handle(&mut self, publish: Publish, _: &mut Self::Context) {
        let lost = match publish.stored {
            Some((source, upto)) => self.count_lost(source, upto, &publish.events),
            None => 0,
        };
        self.deliver(&publish.events, lost);
    }
}

impl Handler<Emit> for EventBus {
    type Result = Result<(), EmitError>;

    fn handle(&mut self, Emit(event): Emit, _: &mut Self::Context) -> Self::Result {
        event.check_emittable()?;
        if event.seq().is_some() {
            return Err(EmitError::Numbered { event_type: event.event_type().to_owned() });
        }
        if let EventKind::Custom { payload, .. } = event.kind()
            && json::any_too_deep(payload)
        {
            return Err(EmitError::TooDeep { event_type: event.event_type().to_owned() });
        }
        let bytes = json::size(&event);
        if bytes > MAX_PAYLOAD_BYTES {
            return Err(EmitError::TooLarge { event_type: event.event_type().to_owned(), bytes });
        }
        self.deliver(&[event], 0);
        Ok(())
    }
}

impl Handler<Subscribe> for EventBus {
    type Result = Result<Subscription, SubscribeError>;

    fn handle(&mut self, subscribe: Subscribe, _: &mut Self::Context) -> Self::Result {
        let actor = subscribe.subscriber.actor().cloned();
        let subscription = self.add(&subscribe.pattern, subscribe.capacity, Reader::Served(actor))?;
        let (pattern, queue) = (subscription.pattern().clone(), Arc::clone(subscription.queue()));
        // A task of its own: a future in the actor's context would be polled at every message.
        actix::spawn(serve(pattern, queue, subscribe.subscriber.0));
        Ok(subscription)
    }
}

impl Handler<SubscribeStream> for EventBus {
    type Result = Result<EventStream, SubscribeError>;

    fn handle(&mut self, subscribe: SubscribeStream, _: &mut Self::Context) -> Self::Result {
        self.add(&subscribe.pattern, subscribe.capacity, Reader::Stream).map(EventStream::new)
    }
}

impl Handler<Flush> for EventBus {
    type Result = ResponseFuture<Result<(), FlushTimeout>>;

    fn handle(&mut self, Flush { timeout }: Flush, _: &mut Self::Context) -> Self::Result {
        let waiting: Vec<(Arc<Queue>, u64)> = (self.subscriptions.iter())
            .filter(|entry| matches!(entry.reader, Reader::Served(_)))
            .map(|entry| (Arc::clone(&entry.queue), entry.queue.mark()))
            .collect();
        Box::pin(async move {
            // A century is as good as for ever, and does not overflow the clock.
            let deadline = tokio::time::Instant::now() + timeout.min(Duration::from_secs(100 * 365 * 86_400));
            let mut subscribers = 0;
            for (queue, mark) in waiting {
                let handled = queue.handled_up_to(mark);
                subscribers += usize::from(tokio::time::timeout_at(deadline, handled).await.is_err());
            }
            if subscribers == 0 { Ok(()) } else { Err(FlushTimeout { subscribers, timeout }) }
        })
    }
}
