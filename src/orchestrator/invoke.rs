//! Calls the user's code, so that a panic in it ends its step and nothing else.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use tokio::task::JoinHandle;

use crate::isolate::{Isolated, catch};
use crate::memory::Claim;
use crate::plan::{Callable, CallableKind, Output, RunScope, StepContext, StepError};

type StepResult = Result<Output, StepError>;

/// A call that has been made.
pub(crate) enum Call {
    /// It has returned: an inline callable, or one that panicked before it gave a future.
    Done(StepResult),
    Future(Isolated<dyn Future<Output = StepResult> + Send>),
    Blocking(JoinHandle<Result<StepResult, String>>),
}

impl Call {
    /// Blocking code holds the claim of its run until it has ended, whatever becomes of the orchestrator and its thread.
    pub(crate) fn start(callable: &Callable, inline: bool, context: StepContext, claim: &Claim) -> Self {
        match callable.kind() {
            CallableKind::Async(call) => match catch(|| call(context)) {
                Ok(future) => Self::Future(Isolated::new(future)),
                Err(message) => Self::Done(Err(StepError::panic(message))),
            },
            CallableKind::Sync(call) if inline => Self::Done(flatten(catch(|| call(context)))),
            CallableKind::Sync(call) => {
                let (call, claim) = (call.clone(), claim.clone());
                Self::Blocking(tokio::task::spawn_blocking(move || {
                    let result = catch(move || call(context));
                    drop(claim);
                    result
                }))
            }
        }
    }

    /// Waits for the result, whatever happens meanwhile.
    pub(crate) async fn end(&mut self) -> StepResult {
        poll_fn(|cx| self.poll_result(cx)).await
    }

    /// Drops a future, and answers whether that was possible: blocking code cannot be dropped.
    pub(crate) fn abandon(&mut self, scope: &RunScope) -> bool {
        match self {
            Self::Done(_) => true,
            Self::Future(future) => {
                if let Err(message) = future.abandon() {
                    let message = scope.clean_text(&message);
                    log::warn!(target: "lunacore::run", "dropping a cancelled step panicked: {message}");
                }
                true
            }
            Self::Blocking(_) => false,
        }
    }

    pub(crate) fn poll_result(&mut self, cx: &mut std::task::Context<'_>) -> Poll<StepResult> {
        match self {
            Self::Done(result) => Poll::Ready(std::mem::replace(result, Err(polled_again()))),
            Self::Future(future) => Pin::new(future).poll(cx).map(flatten),
            Self::Blocking(handle) => Pin::new(handle).poll(cx).map(|joined| match joined {
                Ok(result) => flatten(result),
                // Only when the runtime shuts down: the panic was caught inside.
                Err(error) => Err(StepError::from(error)),
            }),
        }
    }
}

fn flatten(caught: Result<StepResult, String>) -> StepResult {
    caught.unwrap_or_else(|message| Err(StepError::panic(message)))
}

fn polled_again() -> StepError {
    StepError::from("the result was taken already")
}
