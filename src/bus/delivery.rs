//! Serves one closure or actor: takes events from its queue and hands them over, one at a time.

use std::collections::VecDeque;
use std::future::poll_fn;

use actix::Recipient;

use super::feed::Feed;
use super::subscriber::{AsyncCall, Failure, Kind};
use super::subscription::Subscription;
use crate::event::Event;
use crate::isolate::{Isolated, catch, drop_quietly};

pub(crate) async fn serve(mut feed: Feed, subscriber: Kind) {
    match subscriber {
        Kind::Sync(call) => serve_sync(&mut feed, call).await,
        Kind::Async(call) => serve_async(&mut feed, call).await,
        Kind::Actor(recipient) => serve_actor(&mut feed, recipient).await,
    }
}

/// The next events; `None` when there will be no more.
async fn take(feed: &mut Feed) -> Option<VecDeque<Event>> {
    let mut events = VecDeque::new();
    poll_fn(|cx| feed.poll_take(cx, &mut events)).await.then_some(events)
}

/// One hand-over to the blocking pool carries all that came while the last one was served: under load its cost is
/// shared, and an idle subscriber holds no thread.
async fn serve_sync(feed: &mut Feed, mut call: Box<dyn FnMut(Event) -> Failure + Send>) {
    while let Some(events) = take(feed).await {
        let subscription = feed.subscription().clone();
        let served = tokio::task::spawn_blocking(move || {
            for event in events {
                if subscription.queue().is_ended() {
                    break;
                }
                let outcome = catch(|| call(event));
                settle(&subscription, outcome);
            }
            call
        });
        match served.await {
            Ok(returned) => call = returned,
            // The runtime is shutting down; a panic was caught above.
            Err(_) => return,
        }
    }
    let _ = drop_quietly(call);
}

async fn serve_async(feed: &mut Feed, mut call: AsyncCall) {
    while let Some(events) = take(feed).await {
        for event in events {
            if feed.queue().is_ended() {
                break;
            }
            let outcome = match catch(|| call(event)) {
                Ok(future) => Isolated::new(future).await,
                Err(message) => Err(message),
            };
            settle(feed.subscription(), outcome);
        }
    }
    let _ = drop_quietly(call);
}

/// Each event waits for the answer to the one before: two unanswered sends could change places in a full mailbox.
async fn serve_actor(feed: &mut Feed, recipient: Recipient<Event>) {
    while let Some(events) = take(feed).await {
        for event in events {
            if feed.queue().is_ended() {
                return;
            }
            let answer = recipient.send(event).await;
            if answer.is_err() && !feed.queue().is_ended() {
                let how = if recipient.connected() { "gave no answer" } else { "stopped or panicked" };
                settle(feed.subscription(), Ok(Some(how.to_owned())));
            } else {
                settle(feed.subscription(), Ok(None));
            }
            if !recipient.connected() {
                return;
            }
        }
    }
}

/// Counts a call, and logs a failure: each of the first, then the 2nd, 4th, 8th …, so that a broken subscriber does
/// not fill the log.
fn settle(subscription: &Subscription, outcome: Result<Failure, String>) {
    let queue = subscription.queue();
    let failure = match outcome {
        Ok(None) => {
            queue.handled(1, 0);
            return;
        }
        Ok(Some(error)) => format!("failed: {error}"),
        Err(message) => format!("panicked: {message}"),
    };
    // Logged before it is counted as handled, so that a flush waits for the log line too.
    let failures = queue.failures() + 1;
    if failures.is_power_of_two() {
        let pattern = subscription.pattern().as_str();
        log::warn!(target: "lunacore::bus", pattern, failures; "a subscriber {failure}");
    }
    queue.handled(1, 1);
}
