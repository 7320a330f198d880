use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::context::StepContext;
use super::error::StepError;
use super::into_callable::IntoCallable;
use super::output::Output;

pub(crate) type StepResult = Result<Output, StepError>;
pub(crate) type StepFuture = Pin<Box<dyn Future<Output = StepResult> + Send>>;

/// The user's code, ready to be called: what an allocator hands out. Cloning shares it.
///
/// ```
/// use lunacore::Callable;
///
/// let sync = Callable::new(|| "x");
/// let asynchronous = Callable::new(|| async { "y" });
/// assert!(!sync.is_async() && asynchronous.is_async());
/// ```
#[derive(Clone)]
pub struct Callable(Kind);

#[derive(Clone)]
pub(crate) enum Kind {
    Sync(Arc<dyn Fn(StepContext) -> StepResult + Send + Sync>),
    Async(Arc<dyn Fn(StepContext) -> StepFuture + Send + Sync>),
}

impl Callable {
    /// Wraps a function or closure; see [`IntoCallable`] for the forms it may have.
    pub fn new<M>(callable: impl IntoCallable<M>) -> Self {
        callable.into_callable()
    }

    pub(crate) fn from_sync(call: impl Fn(StepContext) -> StepResult + Send + Sync + 'static) -> Self {
        Self(Kind::Sync(Arc::new(call)))
    }

    pub(crate) fn from_async(call: impl Fn(StepContext) -> StepFuture + Send + Sync + 'static) -> Self {
        Self(Kind::Async(Arc::new(call)))
    }

    /// Whether it returns a future, which is polled; otherwise it is called on the blocking pool.
    #[must_use]
    pub fn is_async(&self) -> bool {
        matches!(self.0, Kind::Async(_))
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.0
    }
}

impl fmt::Debug for Callable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_async() { "Callable(async)" } else { "Callable(sync)" })
    }
}
