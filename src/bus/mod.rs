//! The event bus: the actor that delivers events to subscribers by pattern.
//!
//! Each subscriber has a bounded queue of its own and is served on its own, so a slow, blocked or failing one delays
//! neither a plan nor another subscriber. When its queue is full it loses the oldest events, and is told how many by one
//! `subscription.lagged` event in their place. One that asked for history reads them again from the store instead.

mod account;
mod actor;
mod backlog;
mod delivery;
mod feed;
mod history;
mod messages;
mod queue;
mod subscriber;
mod subscription;

pub use actor::EventBus;
pub(crate) use backlog::Backlog;
pub use history::{HistoryError, ReadEvents};
pub use messages::{
    Emit, EmitError, Flush, FlushTimeout, Publish, Subscribe, SubscribeError, SubscribeStream,
};
pub use subscriber::{IntoSubscriber, Subscriber, SubscriberOutcome};
pub use subscription::{EventStream, Subscription};
