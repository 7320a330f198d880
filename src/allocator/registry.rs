use std::collections::BTreeMap;

use actix::{Actor, Context, Handler, Message};

use super::error::AllocatorError;
use super::resolve::Resolve;
use crate::id::nearest;
use crate::limits::MAILBOX;
use crate::plan::{Callable, IntoCallable, Step};

/// The allocator that finds callables by name: a step's own if it has one, else the one registered under the name it
/// uses.
///
/// ```
/// use lunacore::{RegistryAllocator, Step, StepContext};
///
/// let allocator = RegistryAllocator::new()
///     .register("greet", |ctx: StepContext| format!("hello from {}", ctx.step_id()))
///     .register("fetch", || async { "remote_data" });
/// let steps = [Step::named("greet"), Step::named("get").uses("fetch")];
/// # let _ = (allocator, steps);
/// ```
#[derive(Debug, Clone, Default)]
pub struct RegistryAllocator {
    callables: BTreeMap<String, Callable>,
}

impl RegistryAllocator {
    /// An allocator that knows no names yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a callable; one registered before under the same name is replaced.
    #[must_use]
    pub fn register<M>(mut self, name: impl Into<String>, callable: impl IntoCallable<M>) -> Self {
        self.callables.insert(name.into(), callable.into_callable());
        self
    }

    /// The names that are registered, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.callables.keys().map(String::as_str)
    }

    fn find(&self, step: &Step) -> Result<Callable, AllocatorError> {
        let name = step.callable_name().unwrap_or_default();
        step.callable().or_else(|| self.callables.get(name)).cloned().ok_or_else(|| {
            AllocatorError::NotRegistered {
                step_id: step.id().unwrap_or_default().to_owned(),
                name: name.to_owned(),
                similar: nearest(name, self.names()).map(str::to_owned),
            }
        })
    }
}

impl Actor for RegistryAllocator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Resolve> for RegistryAllocator {
    type Result = <Resolve as Message>::Result;

    fn handle(&mut self, resolve: Resolve, _: &mut Self::Context) -> Self::Result {
        resolve.each(|step| self.find(step))
    }
}
