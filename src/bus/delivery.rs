//! Serves one closure or actor: takes events from its queue and hands them over, one at a time.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;

use actix::Recipient;

use super::queue::{Queue, Taken};
use super::subscriber::{AsyncCall, Failure, Kind};
use crate::event::{Event, Pattern};
use crate::isolate::{Isolated, catch, drop_quietly};
use crate::limits::SUBSCRIBER_BATCH;

pub(crate) async fn serve(pattern: Pattern, queue: Arc<Queue>, subscriber: Kind) {
    match subscriber {
        Kind::Sync(call) => serve_sync(&pattern, &queue, call).await,
        Kind::Async(call) => serve_async(&pattern, &queue, call).await,
        Kind::Actor(recipient) => serve_actor(&pattern, &queue, recipient).await,
    }
    queue.leave();
}

/// The next events, at most `SUBSCRIBER_BATCH`; `None` when there will be no more.
async fn take(queue: &Queue) -> Option<VecDeque<Event>> {
    let mut events = VecDeque::new();
    match poll_fn(|cx| queue.poll_take(cx, SUBSCRIBER_BATCH, &mut events)).await {
        Taken::Events => Some(events),
        Taken::End => None,
    }
}

/// One hand-over to the blocking pool carries all that came while the last one was served: under load its cost is
/// shared, and an idle subscriber holds no thread.
async fn serve_sync(
    pattern: &Pattern,
    queue: &Arc<Queue>,
    mut call: Box<dyn FnMut(Event) -> Failure + Send>,
) {
    while let Some(events) = take(queue).await {
        let (owned_pattern, shared) = (pattern.clone(), Arc::clone(queue));
        let served = tokio::task::spawn_blocking(move || {
            for event in events {
                if shared.is_ended() {
                    break;
                }
                let outcome = catch(|| call(event));
                settle(&owned_pattern, &shared, outcome);
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

async fn serve_async(pattern: &Pattern, queue: &Queue, mut call: AsyncCall) {
    while let Some(events) = take(queue).await {
        for event in events {
            if queue.is_ended() {
                break;
            }
            let outcome = match catch(|| call(event)) {
                Ok(future) => Isolated::new(future).await,
                Err(message) => Err(message),
            };
            settle(pattern, queue, outcome);
        }
    }
    let _ = drop_quietly(call);
}

/// Each event waits for the answer to the one before: two unanswered sends could change places in a full mailbox.
async fn serve_actor(pattern: &Pattern, queue: &Queue, recipient: Recipient<Event>) {
    while let Some(events) = take(queue).await {
        for event in events {
            if queue.is_ended() {
                return;
            }
            let answer = recipient.send(event).await;
            if answer.is_err() && !queue.is_ended() {
                let how = if recipient.connected() { "gave no answer" } else { "stopped or panicked" };
                settle(pattern, queue, Ok(Some(how.to_owned())));
            } else {
                settle(pattern, queue, Ok(None));
            }
            if !recipient.connected() {
                return;
            }
        }
    }
}

/// Counts a call, and logs a failure: each of the first, then the 2nd, 4th, 8th …, so that a broken subscriber does
/// not fill the log.
fn settle(pattern: &Pattern, queue: &Queue, outcome: Result<Failure, String>) {
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
        let pattern = pattern.as_str();
        log::warn!(target: "lunacore::bus", pattern, failures; "a subscriber {failure}");
    }
    queue.handled(1, 1);
}
