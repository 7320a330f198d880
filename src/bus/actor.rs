use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler, Recipient, Response, ResponseFuture, WeakRecipient};
use uuid::Uuid;

use super::account::{Account, Lost, Mark};
use super::delivery::serve;
use super::feed::Feed;
use super::history::{HistoryError, ReadEvents};
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
    /// The last sequence number seen of each store. A list, since there is hardly ever more than one.
    seen: Vec<(Uuid, u64)>,
    /// Where the events of each store can be read again. Weak, since a memory holds its buses.
    stores: HashMap<Uuid, WeakRecipient<ReadEvents>>,
}

struct Entry {
    pattern: Pattern,
    queue: Arc<Queue>,
    reader: Reader,
    /// The store whose events it counts on getting all of, by their numbers, if it does.
    store: Option<Uuid>,
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

    /// Events of another store would have the numbers of its own.
    fn wants_from(&self, source: Option<Uuid>) -> bool {
        self.store.is_none() || source.is_none() || self.store == source
    }
}

impl EventBus {
    /// A bus without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it is live or begins with a replay, it is registered at once: nothing that the bus handles later passes
    /// it by.
    fn add(
        &mut self,
        pattern: &str,
        capacity: usize,
        from: Option<u64>,
        reader: Reader,
    ) -> Result<Feed, SubscribeError> {
        let pattern: Pattern = pattern.parse()?;
        self.subscriptions.retain(Entry::takes_place);
        if self.subscriptions.len() >= MAX_SUBSCRIPTIONS {
            return Err(SubscribeError::TooMany);
        }
        let capacity = capacity.clamp(1, MAX_SUBSCRIBER_QUEUE);
        let (queue, store, feed) = match from {
            None => {
                let queue = Queue::new(capacity);
                let feed = Feed::live(Subscription::new(pattern.clone(), Arc::clone(&queue)));
                (queue, None, feed)
            }
            Some(from) => {
                let (source, store) = self.only_store()?;
                let passed = self.seen.iter().find(|(seen, _)| *seen == source).map_or(0, |(_, upto)| *upto);
                let after = from.saturating_sub(1);
                let queue = Queue::with_account(capacity, Account::new(after, passed));
                let subscription = Subscription::new(pattern.clone(), Arc::clone(&queue));
                (queue, Some(source), Feed::replaying(subscription, store, Lost { after, upto: passed }))
            }
        };
        self.subscriptions.push(Entry { pattern, queue, reader, store });
        Ok(feed)
    }

    /// The store that a sequence number can be one of.
    fn only_store(&self) -> Result<(Uuid, WeakRecipient<ReadEvents>), SubscribeError> {
        let mut stores = self.stores.iter();
        match (stores.next(), stores.next()) {
            (None, _) => Err(SubscribeError::NoHistory),
            (Some((source, store)), None) => Ok((*source, store.clone())),
            (Some(_), Some(_)) => Err(SubscribeError::SeveralStores),
        }
    }

    /// A store that came before and is gone has no numbers to be confused with.
    fn introduce(&mut self, source: Uuid, store: WeakRecipient<ReadEvents>) {
        self.stores.retain(|_, known| known.upgrade().is_some_and(|store| store.connected()));
        self.stores.insert(source, store);
    }

    fn deliver(&mut self, events: &[Event], stored: Option<(Uuid, u64)>, lost_before: u64) {
        let (source, upto) = stored.unzip();
        self.subscriptions.retain(|entry| {
            if !entry.wants_from(source) {
                return true;
            }
            let matching = events.iter().filter(|event| entry.pattern.matches(event.event_type()));
            entry.queue.push(matching, lost_before, upto.unwrap_or_default()) || !entry.queue.has_left()
        });
    }

    /// How many events of a store were left out between its last message and this one.
    fn count_lost(&mut self, source: Uuid, upto: u64, events: &[Event]) -> u64 {
        let carried = events.len() as u64;
        let Some((_, seen)) = self.seen.iter_mut().find(|(seen, _)| *seen == source) else {
            // The first message of a store says where this bus comes in.
            self.seen.push((source, upto));
            return 0;
        };
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
        if let (Some(store), Some((source, _))) = (publish.history, publish.stored) {
            self.introduce(source, store);
        }
        let lost = match publish.stored {
            Some((source, upto)) => self.count_lost(source, upto, &publish.events),
            None => 0,
        };
        self.deliver(&publish.events, publish.stored, lost);
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
        self.deliver(&[event], None, 0);
        Ok(())
    }
}

impl Handler<Subscribe> for EventBus {
    type Result = Response<Result<Subscription, SubscribeError>>;

    fn handle(&mut self, subscribe: Subscribe, _: &mut Self::Context) -> Self::Result {
        let Subscribe { pattern, subscriber, capacity, from } = subscribe;
        let actor = subscriber.actor().cloned();
        let reader = Reader::Served(actor);
        answer(self.add(&pattern, capacity, from, reader), from, move |feed| {
            let subscription = feed.subscription().clone();
            // A task of its own: a future in the actor's context would be polled at every message.
            actix::spawn(serve(feed, subscriber.0));
            subscription
        })
    }
}

impl Handler<SubscribeStream> for EventBus {
    type Result = Response<Result<EventStream, SubscribeError>>;

    fn handle(&mut self, subscribe: SubscribeStream, _: &mut Self::Context) -> Self::Result {
        let SubscribeStream { pattern, capacity, from } = subscribe;
        answer(self.add(&pattern, capacity, from, Reader::Stream), from, EventStream::new)
    }
}

/// Answers at once, unless there is a history: then once its first page is read, so that one that cannot be is an error
/// of the subscription.
fn answer<T: 'static>(
    added: Result<Feed, SubscribeError>,
    from: Option<u64>,
    begin: impl FnOnce(Feed) -> T + 'static,
) -> Response<Result<T, SubscribeError>> {
    let (mut feed, from) = match (added, from) {
        (Ok(feed), Some(from)) => (feed, from),
        (added, _) => return Response::reply(added.map(begin)),
    };
    Response::fut(async move {
        match feed.open().await {
            Ok(()) => Ok(begin(feed)),
            Err(HistoryError::Gone { first, .. }) => Err(SubscribeError::HistoryGone { from, first }),
            Err(source) => Err(SubscribeError::History { source }),
        }
    })
}

impl Handler<Flush> for EventBus {
    type Result = ResponseFuture<Result<(), FlushTimeout>>;

    fn handle(&mut self, Flush { timeout }: Flush, _: &mut Self::Context) -> Self::Result {
        let waiting: Vec<(Arc<Queue>, Mark)> = (self.subscriptions.iter())
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
