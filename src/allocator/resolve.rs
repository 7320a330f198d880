use std::sync::Arc;

use actix::Message;

use super::error::{AllocatorError, ResolveError};
use crate::plan::{Callable, CheckedPlan, InvalidPlan, Plan, Step};

/// Asks an allocator for the callables of a plan's steps, in order.
///
/// An allocator sees each step whole: id, name, input, attributes, and its own callable if it has one.
/// [`each`](Self::each) asks a function step by step; an allocator that has to wait for something first returns a
/// `ResponseFuture` and calls it then.
///
/// ```
/// use actix::prelude::*;
/// use lunacore::{AllocatorError, Callable, Resolve};
///
/// /// Gives every step without a callable one that returns the step's id.
/// struct Echo;
///
/// impl Actor for Echo {
///     type Context = Context<Self>;
/// }
///
/// impl Handler<Resolve> for Echo {
///     type Result = <Resolve as Message>::Result;
///
///     fn handle(&mut self, resolve: Resolve, _: &mut Self::Context) -> Self::Result {
///         resolve.each(|step| {
///             if let Some(own) = step.callable() {
///                 return Ok(own.clone());
///             }
///             let id = step.id().unwrap_or_default().to_owned();
///             Ok::<_, AllocatorError>(Callable::new(move || id.clone()))
///         })
///     }
/// }
/// ```
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Vec<Callable>, ResolveError>")]
pub struct Resolve {
    plan: Arc<CheckedPlan>,
}

impl Resolve {
    pub(crate) fn new(plan: Arc<CheckedPlan>) -> Self {
        Self { plan }
    }

    /// What an orchestrator would send for this plan: for tests of an allocator.
    ///
    /// # Errors
    /// The plan is not valid.
    pub fn of(plan: impl Into<Plan>) -> Result<Self, InvalidPlan> {
        CheckedPlan::new(plan.into()).map(|plan| Self::new(Arc::new(plan)))
    }

    /// The steps to resolve, in order. Each has an id.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &Step> {
        self.plan.steps()
    }

    /// Asks `find` for the callable of each step; stops at the first that has none.
    ///
    /// # Errors
    /// The first error of `find`, with the step it is about.
    pub fn each<E: Into<AllocatorError>>(
        &self,
        mut find: impl FnMut(&Step) -> Result<Callable, E>,
    ) -> Result<Vec<Callable>, ResolveError> {
        let mut callables = Vec::with_capacity(self.plan.len());
        for (index, step) in self.plan.steps().enumerate() {
            let step_id = || step.id().unwrap_or_default().to_owned();
            let found = find(step).map_err(|error| ResolveError {
                step_id: step_id(),
                index,
                source: error.into(),
            })?;
            callables.push(found);
        }
        Ok(callables)
    }
}
