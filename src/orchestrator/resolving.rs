//! Asks the allocator for the callables of a plan: those of its steps, and what they have besides.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use actix::dev::RecipientRequest;
use actix::{AsyncContext, Context};

use super::actor::ExecutionOrchestrator;
use super::error::PlanError;
use super::internal::{Callables, Happened, Unresolved, tell};
use super::line::Ticket;
use super::links::Links;
use crate::allocator::Resolve;
use crate::limits::RESOLVE_TIMEOUT;
use crate::plan::{Callable, CheckedPlan, Role, Step};

impl ExecutionOrchestrator {
    /// Asks the allocator for the callables of a plan.
    pub(crate) fn resolve(&self, ticket: Ticket, ctx: &mut Context<Self>) {
        let Some(waiting) = self.waiting.get(&ticket) else { return };
        // Sent here, so that plans reach the allocator in their order.
        let request = self.links.resolve.send(Resolve::new(Arc::clone(&waiting.plan)));
        let asked = match waiting.plan.has_policies() {
            true => Role::ALL.map(|role| (role, waiting.plan.record().named(role).unzip())).into(),
            false => Vec::new(),
        };
        let (links, myself) = (Rc::clone(&self.links), ctx.address().downgrade());
        actix::spawn(async move {
            let answer = match resolved(request).await {
                Ok(steps) => resolve_others(&links, asked).await.map(|others| Callables { steps, others }),
                Err(error) => Err(error),
            };
            tell(&myself, Happened::Resolved { ticket, answer });
        });
    }

    pub(crate) fn resolved(
        &mut self,
        ticket: Ticket,
        answer: Result<Callables, Unresolved>,
        ctx: &mut Context<Self>,
    ) {
        let Some(waiting) = self.waiting.get_mut(&ticket) else { return };
        if !self.line.is_resolving(ticket) {
            return;
        }
        let error = match answer {
            Ok(callables) if callables.steps.len() == waiting.plan.len() => {
                waiting.callables = callables;
                #[cfg(feature = "expressions")]
                let checked = waiting.plan.check_secrets(&self.surroundings.secrets).map_err(PlanError::from);
                #[cfg(not(feature = "expressions"))]
                let checked = Ok(());
                match checked {
                    Ok(()) => {
                        self.line.resolved(ticket);
                        return self.set_aside(ticket, ctx);
                    }
                    Err(missing) => missing,
                }
            }
            Ok(callables) => {
                let (got, steps) = (callables.steps.len(), waiting.plan.len());
                PlanError::Allocator { reason: format!("gave callables for {got} of {steps} steps") }
            }
            Err(Unresolved::Step(error)) => PlanError::Unresolved(error),
            Err(Unresolved::Allocator(reason)) => PlanError::Allocator { reason },
        };
        if self.line.is_returning(ticket) {
            self.interrupt(ticket, error, ctx);
        } else {
            self.refuse(ticket, error);
        }
    }
}

async fn resolved(request: RecipientRequest<Resolve>) -> Result<Vec<Callable>, Unresolved> {
    match tokio::time::timeout(RESOLVE_TIMEOUT, request).await {
        Ok(Ok(Ok(callables))) => Ok(callables),
        Ok(Ok(Err(error))) => Err(Unresolved::Step(error)),
        Ok(Err(_)) => Err(Unresolved::Allocator("has stopped, or did not answer".to_owned())),
        Err(_) => Err(Unresolved::Allocator(format!("did not answer within {RESOLVE_TIMEOUT:?}"))),
    }
}

/// The steps that leave their callable for a role to the allocator, and their places.
type Asked = (Role, (Vec<usize>, Vec<Step>));

/// What is left to the allocator besides are steps to it like all others: those of one role at a time, since a step may have
/// several.
async fn resolve_others(
    links: &Links,
    asked: Vec<Asked>,
) -> Result<HashMap<(usize, Role), Callable>, Unresolved> {
    let mut found = HashMap::new();
    for (role, (places, steps)) in asked.into_iter().filter(|(_, (places, _))| !places.is_empty()) {
        let Some(plan) = CheckedPlan::question(steps) else {
            return Err(Unresolved::Allocator("was not asked, for its question was not valid".to_owned()));
        };
        match resolved(links.resolve.send(Resolve::new(Arc::new(plan)))).await {
            Ok(callables) if callables.len() == places.len() => {
                found.extend(places.into_iter().map(|place| (place, role)).zip(callables));
            }
            Ok(callables) => {
                let (got, steps, role) = (callables.len(), places.len(), role.as_str());
                return Err(Unresolved::Allocator(format!("gave callables for {got} of {steps} {role}s")));
            }
            Err(Unresolved::Step(mut error)) => {
                error.index = places.get(error.index).copied().unwrap_or(error.index);
                return Err(Unresolved::Step(error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
