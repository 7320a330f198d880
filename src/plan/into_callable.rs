use std::future::Future;

use super::callable::Callable;
use super::context::StepContext;
use super::error::StepError;
use super::output::IntoOutput;
use crate::isolate::Guarded;

/// Functions and closures that can be a step: sync or async, with or without a [`StepContext`].
///
/// | form | example |
/// |---|---|
/// | sync | `\|\| "x"`, `fn work() -> u32` |
/// | sync with context | `\|ctx: StepContext\| ctx.input::<u32>()` |
/// | async | `\|\| async { 1 }`, `async fn fetch() -> String`, `async \|\| 1` |
/// | async with context | `\|ctx: StepContext\| async move { ctx.attempt() }` |
///
/// The type tells which: what returns a `Future` is polled, everything else is called on the blocking pool. The
/// parameter `Marker` only keeps the four apart; it is always inferred.
///
/// A context is taken by value; where nothing else says so, name its type: `|ctx: StepContext| …`. An `async` block that
/// uses `?` needs its error type named somewhere, as in `Ok::<_, StepError>(value)`.
///
/// A callable may be called again (another run, another attempt), so it is `Fn + Send + Sync + 'static`. An async
/// closure that borrows what it captured does not fit, since its future would not be `'static`: clone into the future.
///
/// ```
/// use lunacore::Step;
/// use std::sync::Arc;
///
/// let client = Arc::new(String::from("client"));
/// let step = Step::new("fetch", move || {
///     let client = Arc::clone(&client);
///     async move { client.len() }
/// });
/// # let _ = step;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the callable of a step",
    label = "not a callable",
    note = "a callable is `Fn() -> O`, `Fn(StepContext) -> O`, or the same returning a `Future + Send` of `O`",
    note = "it must be `Fn + Send + Sync + 'static`, and `O` must implement `IntoOutput`: wrap a type that serialises as `Json(value)`",
    note = "an error must convert into `StepError`: `Box<dyn Error + Send + Sync>` does, `Box<dyn Error>` does not",
    note = "a context is taken by value, and named: `|ctx: StepContext| …`",
    note = "an async closure that borrows its captures does not fit: `move` them and clone inside"
)]
pub trait IntoCallable<Marker> {
    /// Wraps the code.
    fn into_callable(self) -> Callable;
}

/// Markers of the four forms. They are types of arguments, never values.
#[doc(hidden)]
#[allow(missing_debug_implementations, unreachable_pub, reason = "named only by inference")]
pub mod marker {
    pub enum Sync0 {}
    pub enum Sync1 {}
    pub enum Async0 {}
    pub enum Async1 {}
}

/// A callable that was let go of while it was called: cannot happen, but is no reason to panic.
fn gone() -> StepError {
    StepError::from("the callable is gone")
}

impl<F, O> IntoCallable<(marker::Sync0, O)> for F
where
    F: Fn() -> O + Send + Sync + 'static,
    O: IntoOutput,
{
    fn into_callable(self) -> Callable {
        let call = Guarded::new(self);
        Callable::from_sync(move |_| call.get().ok_or_else(gone)?().into_output())
    }
}

impl<F, O> IntoCallable<(marker::Sync1, O)> for F
where
    F: Fn(StepContext) -> O + Send + Sync + 'static,
    O: IntoOutput,
{
    fn into_callable(self) -> Callable {
        let call = Guarded::new(self);
        Callable::from_sync(move |context| call.get().ok_or_else(gone)?(context).into_output())
    }
}

impl<F, Fut> IntoCallable<(marker::Async0, Fut)> for F
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output: IntoOutput> + Send + 'static,
{
    fn into_callable(self) -> Callable {
        let call = Guarded::new(self);
        Callable::from_async(move |_| {
            let future = call.get().map(|call| call());
            Box::pin(async move { future.ok_or_else(gone)?.await.into_output() })
        })
    }
}

impl<F, Fut> IntoCallable<(marker::Async1, Fut)> for F
where
    F: Fn(StepContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: IntoOutput> + Send + 'static,
{
    fn into_callable(self) -> Callable {
        let call = Guarded::new(self);
        Callable::from_async(move |context| {
            let future = call.get().map(|call| call(context));
            Box::pin(async move { future.ok_or_else(gone)?.await.into_output() })
        })
    }
}

impl IntoCallable<Self> for Callable {
    fn into_callable(self) -> Callable {
        self
    }
}
