use actix::{Actor, Context, Handler, Message};

use super::error::AllocatorError;
use super::resolve::Resolve;
use crate::limits::MAILBOX;

/// The allocator that hands back each step's own callable.
///
/// A step without one is an error: `no callable found in step "x"`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimpleAllocator;

impl Actor for SimpleAllocator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

impl Handler<Resolve> for SimpleAllocator {
    type Result = <Resolve as Message>::Result;

    fn handle(&mut self, resolve: Resolve, _: &mut Self::Context) -> Self::Result {
        resolve.each(|step| {
            step.callable().cloned().ok_or_else(|| AllocatorError::NoCallable {
                step_id: step.id().unwrap_or_default().to_owned(),
            })
        })
    }
}
