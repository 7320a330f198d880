use std::future::Future;

use serde::de::DeserializeOwned;

use super::callable::Callable;
use super::context::StepContext;
use super::error::StepError;
use super::output::IntoOutput;
use crate::isolate::Guarded;

/// Functions and closures that can be a step: sync or async, with or without a [`StepContext`], and with or without
/// the step's input as a type of their own.
///
/// | form | example |
/// |---|---|
/// | sync | `\|\| "x"`, `fn work() -> u32` |
/// | sync with context | `\|ctx: StepContext\| ctx.input::<u32>()` |
/// | async | `\|\| async { 1 }`, `async fn fetch() -> String`, `async \|\| 1` |
/// | async with context | `\|ctx: StepContext\| async move { ctx.attempt() }` |
/// | typed, sync | `\|args: ResizeArgs, ctx: StepContext\| args.width` |
/// | typed, async | `async fn resize(args: ResizeArgs, ctx: StepContext) -> u32` |
///
/// The type tells which: what returns a `Future` is polled, everything else is called on the blocking pool. The
/// parameter `Marker` only keeps the six apart; it is always inferred.
///
/// The first argument of a typed one is the step's input, read into any type that is `DeserializeOwned`; the context
/// comes second. An input that does not have that shape fails the step with [`ContextError::Input`], before any of the
/// code runs, and is not retried: it would be the same each time.
///
/// ```
/// use lunacore::{Engine, ExecutePlan, RegistryAllocator, Step, StepContext};
/// use serde::Deserialize;
/// use serde_json::json;
///
/// #[derive(Deserialize)]
/// struct ResizeArgs {
///     width: u32,
///     #[serde(default)]
///     crop: bool,
/// }
///
/// # actix::System::new().block_on(async {
/// let registry = RegistryAllocator::new().register("resize", |args: ResizeArgs, ctx: StepContext| async move {
///     format!("{}: {} pixels, {}", ctx.step_id(), args.width, if args.crop { "cropped" } else { "whole" })
/// });
/// let steps = [Step::named("thumbnail").uses("resize").input(json!({ "width": 120 }))];
/// let results = Engine::builder().allocator(registry).start()?.execute(ExecutePlan::new(steps)).await?;
/// assert_eq!(results, ["thumbnail: 120 pixels, whole"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
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
///
/// [`ContextError::Input`]: crate::ContextError::Input
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the callable of a step",
    label = "not a callable",
    note = "a callable is `Fn() -> O`, `Fn(StepContext) -> O`, `Fn(A, StepContext) -> O`, or the same returning a `Future + Send` of `O`",
    note = "`A` is the step's input and must implement `DeserializeOwned`",
    note = "it must be `Fn + Send + Sync + 'static`, and `O` must implement `IntoOutput`: wrap a type that serialises as `Json(value)`",
    note = "an error must convert into `StepError`: `Box<dyn Error + Send + Sync>` does, `Box<dyn Error>` does not",
    note = "a context is taken by value, and named: `|ctx: StepContext| …`",
    note = "an async closure that borrows its captures does not fit: `move` them and clone inside"
)]
pub trait IntoCallable<Marker> {
    /// Wraps the code.
    fn into_callable(self) -> Callable;
}

/// Markers of the six forms. They are types of arguments, never values.
#[doc(hidden)]
#[allow(missing_debug_implementations, unreachable_pub, reason = "named only by inference")]
pub mod marker {
    pub enum Sync0 {}
    pub enum Sync1 {}
    pub enum Async0 {}
    pub enum Async1 {}
    pub enum Sync2 {}
    pub enum Async2 {}

    /// The forms that take the step's input, and the type that it is read into.
    #[cfg(feature = "plan-files")]
    pub trait Typed {
        type Input;
    }

    #[cfg(feature = "plan-files")]
    impl<A, O> Typed for (Sync2, A, O) {
        type Input = A;
    }

    #[cfg(feature = "plan-files")]
    impl<A, Fut> Typed for (Async2, A, Fut) {
        type Input = A;
    }
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

impl<F, A, O> IntoCallable<(marker::Sync2, A, O)> for F
where
    F: Fn(A, StepContext) -> O + Send + Sync + 'static,
    A: DeserializeOwned,
    O: IntoOutput,
{
    fn into_callable(self) -> Callable {
        let call = Guarded::new(self);
        Callable::from_sync(move |context| {
            let input = context.input().map_err(StepError::fatal)?;
            call.get().ok_or_else(gone)?(input, context).into_output()
        })
    }
}

impl<F, A, Fut> IntoCallable<(marker::Async2, A, Fut)> for F
where
    F: Fn(A, StepContext) -> Fut + Send + Sync + 'static,
    A: DeserializeOwned,
    Fut: Future<Output: IntoOutput> + Send + 'static,
{
    fn into_callable(self) -> Callable {
        let call = Guarded::new(self);
        Callable::from_async(move |context| {
            // Read before there is a future, so that an input need not be `Send` to be given to one that is.
            let future = context.input().map_err(StepError::fatal).and_then(|input| {
                let call = call.get().ok_or_else(gone)?;
                Ok(call(input, context))
            });
            Box::pin(async move { future?.await.into_output() })
        })
    }
}

impl IntoCallable<Self> for Callable {
    fn into_callable(self) -> Callable {
        self
    }
}
