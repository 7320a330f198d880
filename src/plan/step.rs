use std::fmt;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};

use super::callable::Callable;
use super::check;
use super::inputs::Declared;
use super::into_callable::IntoCallable;
use super::invalid::InvalidPlan;
use super::policy::{Policy, PolicyCode, Role};
use super::record::StepRecord;
use super::wait::{Wait, nothing};

/// One step of a plan: an id, a callable or the name of one, an input, and free attributes for allocators.
///
/// ```
/// use lunacore::{Step, StepContext};
///
/// let steps = [
///     Step::new("process", || "processed_data"),
///     Step::new("fetch", || async { "remote_data" }),
///     Step::new("double", |ctx: StepContext| async move { Ok::<_, lunacore::StepError>(2 * ctx.input::<i64>()?) })
///         .input(21),
///     Step::named("resize").uses("image.resize").attr("gpu", true).agent("renderer"),
/// ];
/// assert_eq!(steps[3].id(), Some("resize"));
/// ```
#[derive(Clone)]
pub struct Step {
    /// Shared with the record of the run that the step becomes part of.
    record: Arc<StepRecord>,
    callable: Option<Callable>,
    /// What of its policy is code; most steps have none.
    code: Option<Arc<PolicyCode>>,
}

impl Step {
    /// A step with its own callable. See [`IntoCallable`] for the forms that it may have.
    pub fn new<M>(id: impl Into<Arc<str>>, callable: impl IntoCallable<M>) -> Self {
        Self::build(Some(id.into()), Some(callable.into_callable()))
    }

    /// A step with its own callable that takes its id from its place: `step_0`, `step_1` …
    pub fn unnamed<M>(callable: impl IntoCallable<M>) -> Self {
        Self::build(None, Some(callable.into_callable()))
    }

    /// A step without a callable: the allocator finds one, by the name given with [`uses`](Self::uses) or else by `id`.
    pub fn named(id: impl Into<Arc<str>>) -> Self {
        Self::build(Some(id.into()), None)
    }

    fn build(id: Option<Arc<str>>, callable: Option<Callable>) -> Self {
        let record = StepRecord { id, closure: callable.is_some(), ..StepRecord::default() };
        Self { record: Arc::new(record), callable, code: None }
    }

    /// A step that calls nothing: there is nothing for an allocator to find.
    pub(super) fn waiting(id: Arc<str>, wait: Wait) -> Self {
        let record = StepRecord { id: Some(id), wait: Some(wait), ..StepRecord::default() };
        Self::recorded(Arc::new(record))
    }

    /// The step as a record tells of it. A closure is gone: an allocator may still find something.
    pub(crate) fn recorded(record: Arc<StepRecord>) -> Self {
        let callable = record.wait.is_some().then(nothing);
        Self { record, callable, code: None }
    }

    pub(crate) fn record(&self) -> &Arc<StepRecord> {
        &self.record
    }

    pub(super) fn change(mut self, change: impl FnOnce(&mut StepRecord)) -> Self {
        change(Arc::make_mut(&mut self.record));
        self
    }

    pub(super) fn change_policy(self, change: impl FnOnce(&mut Policy)) -> Self {
        self.change(|record| change(Arc::make_mut(record.policy.get_or_insert_default())))
    }

    pub(super) fn change_code(mut self, change: impl FnOnce(&mut PolicyCode)) -> Self {
        change(Arc::make_mut(self.code.get_or_insert_default()));
        self
    }

    /// The step's policy; `None` where it has the default in everything.
    pub(crate) fn policy(&self) -> Option<&Policy> {
        self.record.policy.as_deref()
    }

    pub(crate) fn policy_code(&self) -> Option<&PolicyCode> {
        self.code.as_deref()
    }

    /// Names the callable that the allocator shall find.
    #[must_use]
    pub fn uses(self, name: impl Into<Arc<str>>) -> Self {
        self.change(|record| record.uses = Some(name.into()))
    }

    /// Gives the callable an input, which it reads with [`StepContext::input`](crate::StepContext::input). The default
    /// is null.
    ///
    /// It is data and nothing else: whatever stands in it, also where it looks like an expression, comes to the callable as it
    /// is. For an input that is made of earlier outputs see `Step::with`, with the feature `expressions`.
    #[must_use]
    pub fn input(self, input: impl Into<Value>) -> Self {
        self.change(|record| (record.input, record.template) = (input.into(), false))
    }

    /// Sets a free attribute, for allocators: the other entries of the original's step dictionary.
    #[must_use]
    pub fn attr(self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.change(|record| drop(record.attributes.insert(key.into(), value.into())))
    }

    /// Names the agent that `task.started` reports. The default is `"orchestrator"`.
    #[must_use]
    pub fn agent(self, name: impl Into<Arc<str>>) -> Self {
        self.change(|record| record.agent = Some(name.into()))
    }

    /// Calls a sync callable in place, on the orchestrator's own thread, instead of on the blocking pool. That saves
    /// the hand-over (tens of microseconds), but for as long as the call takes nothing else of the orchestrator moves:
    /// no other plan, no status, no cancel. For calls of microseconds only. An async callable is polled in place anyway.
    #[must_use]
    pub fn inline(self) -> Self {
        self.change(|record| record.inline = true)
    }

    /// The id, if it has been given one; a step of an accepted plan always has one.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.record.id.as_deref()
    }

    /// The step's own callable, if it has one.
    #[must_use]
    pub fn callable(&self) -> Option<&Callable> {
        self.callable.as_ref()
    }

    /// The name of the callable to find: as given with [`uses`](Self::uses), else the id.
    #[must_use]
    pub fn callable_name(&self) -> Option<&str> {
        self.record.uses.as_deref().or(self.id())
    }

    /// The input, as it was given: of a [template](Self::has_template), the template.
    #[must_use]
    pub fn get_input(&self) -> &Value {
        &self.record.input
    }

    /// Whether the input holds expressions, whose values take their place before each attempt: it was given with
    /// `Step::with`, and has some.
    #[must_use]
    pub fn has_template(&self) -> bool {
        self.record.template
    }

    /// The condition on which the step runs, as it was given with `Step::when`; `None` where it always does.
    #[must_use]
    pub fn condition(&self) -> Option<&str> {
        self.record.when.as_deref()
    }

    /// A free attribute.
    #[must_use]
    pub fn get_attr(&self, key: &str) -> Option<&Value> {
        self.record.attributes.get(key)
    }

    /// All free attributes.
    #[must_use]
    pub fn attributes(&self) -> &Map<String, Value> {
        &self.record.attributes
    }

    /// The agent's name.
    #[must_use]
    pub fn agent_name(&self) -> &str {
        self.record.agent.as_deref().unwrap_or(DEFAULT_AGENT)
    }

    /// The agent's name, if it has been given one.
    #[cfg(feature = "plan-files")]
    pub(crate) fn own_agent(&self) -> Option<&str> {
        self.record.agent.as_deref()
    }

    pub(crate) fn is_inline(&self) -> bool {
        self.record.inline
    }

    /// The same, as events share it.
    pub(crate) fn agent_id(&self) -> Arc<str> {
        static DEFAULT: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(DEFAULT_AGENT));
        Arc::clone(self.record.agent.as_ref().unwrap_or_else(|| &DEFAULT))
    }

    pub(crate) fn shared_id(&self) -> Option<Arc<str>> {
        self.record.id.clone()
    }

    pub(crate) fn set_id(&mut self, id: Arc<str>) {
        Arc::make_mut(&mut self.record).id = Some(id);
    }

    /// All names in the step that the id rule covers, each with what it is called. Most steps have none, and cost no room for them.
    pub(crate) fn names(&self) -> Vec<(&'static str, &str)> {
        let StepRecord { uses, agent, policy, wait, .. } = &*self.record;
        if uses.is_none() && agent.is_none() && policy.is_none() && wait.is_none() {
            return Vec::new();
        }
        let policy = self.policy();
        let role = |role| policy.and_then(|policy| policy.named(role)).map(|name| &**name);
        let signal = match self.wait() {
            Some(Wait::Signal(name)) => Some(&**name),
            _ => None,
        };
        let named = [
            ("callable name", self.record.uses.as_deref()),
            ("agent name", self.record.agent.as_deref()),
            ("breaker name", policy.and_then(|policy| policy.breaker.as_deref())),
            ("limit name", policy.and_then(|policy| policy.limit.as_deref())),
            ("fallback name", role(Role::Fallback)),
            ("name of what verifies", role(Role::Verification)),
            ("name of what undoes", role(Role::Compensation)),
            ("signal name", signal),
        ];
        named.into_iter().filter_map(|(what, name)| name.map(|name| (what, name))).collect()
    }
}

/// The agent that runs steps which name none.
const DEFAULT_AGENT: &str = "orchestrator";

impl fmt::Debug for Step {
    // The input may be large or private, and attributes are the application's own: their presence is enough.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("id", &self.record.id)
            .field("callable", &self.callable)
            .field("uses", &self.record.uses)
            .field("agent", &self.record.agent)
            .field("inline", &self.record.inline)
            .finish_non_exhaustive()
    }
}

/// An ordered list of steps, with an optional name.
///
/// Wherever a plan is expected, a `Vec` or an array of steps will do.
///
/// ```
/// use lunacore::{Plan, Step};
///
/// let plan = Plan::new([Step::unnamed(|| 1), Step::unnamed(|| 2)]).name("count");
/// assert_eq!(plan.steps().len(), 2);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub(super) name: Option<Arc<str>>,
    pub(super) description: Option<Arc<str>>,
    pub(super) declared: Vec<Declared>,
    pub(super) steps: Vec<Step>,
}

impl Plan {
    /// A plan of these steps. Nothing is checked here; an orchestrator checks a plan before it accepts it.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), ..Self::default() }
    }

    /// Names the plan, for events and listings.
    #[must_use]
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Says what the plan is for, in a sentence or more; stored with its runs, and nothing else.
    #[must_use]
    pub fn description(mut self, text: impl Into<Arc<str>>) -> Self {
        self.description = Some(text.into());
        self
    }

    /// The name, if it has one.
    #[must_use]
    pub fn get_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The description, if it has one.
    #[must_use]
    pub fn get_description(&self) -> Option<&str> {
        self.description.as_deref()
    }

    /// The steps, in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// All that is wrong with the plan, in the order of its steps: what an orchestrator refuses it for is the first of them.
    /// Nothing, for a plan that is valid (whether its callables can be found, and whether its inputs are given, is another
    /// question).
    ///
    /// At most [`MAX_PROBLEMS`](crate::limits::MAX_PROBLEMS) are listed.
    ///
    /// ```
    /// use lunacore::{Plan, Step};
    ///
    /// let plan = Plan::new([Step::named("a"), Step::named("b").agent(""), Step::named("a")]);
    /// let problems: Vec<String> = plan.problems().iter().map(ToString::to_string).collect();
    /// assert_eq!(problems, [
    ///     r#"the agent name "" of step 1 ("b") is empty"#,
    ///     r#"steps 0 and 2 have the same id "a"; each step of a plan needs its own"#,
    /// ]);
    /// ```
    #[must_use]
    pub fn problems(&self) -> Vec<InvalidPlan> {
        check::problems(self.clone())
    }
}

impl From<Vec<Step>> for Plan {
    fn from(steps: Vec<Step>) -> Self {
        Self { steps, ..Self::default() }
    }
}

impl<const N: usize> From<[Step; N]> for Plan {
    fn from(steps: [Step; N]) -> Self {
        Self::new(steps)
    }
}

impl FromIterator<Step> for Plan {
    fn from_iter<I: IntoIterator<Item = Step>>(steps: I) -> Self {
        Self::new(steps)
    }
}
