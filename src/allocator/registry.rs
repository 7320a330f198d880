use std::collections::BTreeMap;
use std::sync::Arc;

use actix::{Actor, Context, Handler, Message};

use super::error::{AllocatorError, ResolveError};
#[cfg(feature = "plan-files")]
use super::input::InputSchema;
use super::resolve::Resolve;
use crate::id::nearest;
use crate::limits::MAILBOX;
#[cfg(feature = "plan-files")]
use crate::plan::Typed;
use crate::plan::{Callable, IntoCallable, Plan, Role, Step};

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
    callables: BTreeMap<String, Registered>,
}

#[derive(Debug, Clone)]
struct Registered {
    callable: Callable,
    /// What it does, in the words of who registered it.
    about: Option<Arc<str>>,
    #[cfg(feature = "plan-files")]
    input: Option<Arc<InputSchema>>,
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
        self.insert(name.into(), callable.into_callable());
        self
    }

    fn insert(&mut self, name: String, callable: Callable) -> &mut Registered {
        let registered = Registered {
            callable,
            about: None,
            #[cfg(feature = "plan-files")]
            input: None,
        };
        let entry = self.callables.entry(name).insert_entry(registered);
        entry.into_mut()
    }

    /// Registers a callable whose first argument is its input (see [`IntoCallable`]), and makes a schema of that argument's
    /// type: a plan with a step whose input does not fit is refused before any of it runs, with
    /// [`AllocatorError::Input`]. What an expression in the input stands for is not known then, and fails the step if it does
    /// not fit.
    ///
    /// ```
    /// use lunacore::{AllocatorError, Plan, RegistryAllocator, Step, StepContext};
    /// use schemars::JsonSchema;
    /// use serde::Deserialize;
    /// use serde_json::json;
    ///
    /// #[derive(Deserialize, JsonSchema)]
    /// #[serde(deny_unknown_fields)]
    /// struct ResizeArgs {
    ///     width: u32,
    /// }
    ///
    /// let registry = RegistryAllocator::new()
    ///     .register_with_schema("resize", |args: ResizeArgs, _: StepContext| args.width)
    ///     .describe("resize", "Makes an image as wide as this.");
    /// assert_eq!(registry.schema("resize").unwrap()["required"], json!(["width"]));
    ///
    /// let plan = Plan::new([Step::named("thumb").uses("resize").input(json!({ "width": "wide" }))]);
    /// let errors = registry.check(&plan);
    /// assert_eq!(
    ///     errors[0].source.to_string(),
    ///     r#"the input of step "thumb" does not fit "resize": /width: "wide" is not of type "integer""#
    /// );
    /// ```
    #[cfg(feature = "plan-files")]
    #[must_use]
    pub fn register_with_schema<M>(mut self, name: impl Into<String>, callable: impl IntoCallable<M>) -> Self
    where
        M: Typed<Input: schemars::JsonSchema>,
    {
        let schema = schemars::schema_for!(M::Input).to_value();
        self.insert(name.into(), callable.into_callable()).input = Some(Arc::new(InputSchema::new(schema)));
        self
    }

    /// Says what a registered callable does, for listings; of a name that is not registered, nothing.
    #[must_use]
    pub fn describe(mut self, name: &str, text: impl Into<Arc<str>>) -> Self {
        if let Some(registered) = self.callables.get_mut(name) {
            registered.about = Some(text.into());
        }
        self
    }

    /// What a callable does, if it was [described](Self::describe).
    #[must_use]
    pub fn description(&self, name: &str) -> Option<&str> {
        self.callables.get(name)?.about.as_deref()
    }

    /// The JSON Schema of a callable's input, if it was [registered with one](Self::register_with_schema).
    #[cfg(feature = "plan-files")]
    #[must_use]
    pub fn schema(&self, name: &str) -> Option<&serde_json::Value> {
        self.callables.get(name)?.input.as_deref().map(InputSchema::schema)
    }

    /// All that a plan's steps call and that cannot be called, each with why: the steps themselves, their fallbacks, what verifies
    /// and what undoes them. What an orchestrator refuses the plan for is one of them.
    #[must_use]
    pub fn check(&self, plan: &Plan) -> Vec<ResolveError> {
        let mut errors = Vec::new();
        for (index, step) in plan.steps().iter().enumerate() {
            let named = Role::ALL.into_iter().filter_map(|role| step.callable_of(role));
            let others = named.filter_map(|name| self.find_named(name, step).err());
            errors.extend(self.find(step).err().into_iter().chain(others).map(|source| {
                let step_id = step.id().map_or_else(|| format!("step_{index}"), str::to_owned);
                ResolveError { step_id, index, source }
            }));
        }
        errors
    }

    /// The names that are registered, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.callables.keys().map(String::as_str)
    }

    fn find(&self, step: &Step) -> Result<Callable, AllocatorError> {
        match step.callable() {
            Some(own) => Ok(own.clone()),
            None => self.find_named(step.callable_name().unwrap_or_default(), step),
        }
    }

    fn find_named(&self, name: &str, step: &Step) -> Result<Callable, AllocatorError> {
        let step_id = || step.id().unwrap_or_default().to_owned();
        let Some(registered) = self.callables.get(name) else {
            let similar = nearest(name, self.names()).map(str::to_owned);
            return Err(AllocatorError::NotRegistered { step_id: step_id(), name: name.to_owned(), similar });
        };
        #[cfg(feature = "plan-files")]
        if let Some(input) = &registered.input {
            let faults = input.faults(step);
            if !faults.is_empty() {
                return Err(AllocatorError::Input { step_id: step_id(), name: name.to_owned(), faults });
            }
        }
        Ok(registered.callable.clone())
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
