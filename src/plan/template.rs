//! Inputs and conditions that are made of what is known only when the step's turn comes.

use std::sync::Arc;

use serde_json::Value;

use super::step::Step;
use crate::expression::holds_expression;

/// # Data flow
///
/// The input of a step may be made of the outputs of steps before it, and whether it runs may depend on them.
///
/// ```
/// use lunacore::{Engine, Step, StepContext};
/// use serde_json::{Value, json};
///
/// # actix::System::new().block_on(async {
/// let input = |ctx: StepContext| ctx.input::<Value>();
/// let results = Engine::builder().start()?.execute([
///     Step::new("fetch", || json!({ "items": [{ "url": "https://example.org/1", "size": 7 }] })),
///     Step::new("get", input)
///         .when("steps.fetch.output.items | length > 0")
///         .with(json!({
///             "url": "${{ steps.fetch.output.items[0].url }}",
///             "size": "${{ steps.fetch.output.items[0].size }}",
///             "name": "file-${{ steps.fetch.output.items | length }}",
///         })),
/// ]).await?;
/// assert_eq!(results[1], json!({ "url": "https://example.org/1", "size": 7, "name": "file-1" }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
impl Step {
    /// Gives the callable an input whose strings may hold expressions, `${{ … }}`. Names of members are never looked into, and
    /// an input in which no string holds an expression is plain data, as if given with [`input`](Self::input).
    ///
    /// A string that is one expression and nothing else becomes the expression's value, with its type: an integer stays an
    /// integer (to 64 bits, exactly), an object an object. With text around it, or beside another one, it becomes a part of that
    /// text: a string as it is, everything else as JSON. `$${{` writes `${{` itself.
    ///
    /// # What can be named
    ///
    /// | name | is |
    /// |---|---|
    /// | `steps.fetch.output` | the output of an earlier step; null if it was skipped, and base64 text if it returned bytes |
    /// | `steps["fetch-data"].output` | the same for an id that cannot stand behind a dot |
    /// | `steps.fetch.output.items[0].url` | a part of it; `[-1]` is the last item, `["odd name"]` any member |
    /// | `inputs.day` | an input that the plan [declares](crate::Plan::declare) |
    /// | `env.REGION` | a variable of the process environment, as it is when the expression is evaluated |
    /// | `run.id` | the id of the run |
    /// | `secrets.TOKEN` | a secret, where the engine was given some |
    ///
    /// Ids, and the names of inputs and variables, are written out, and never computed: so a name that is not there, or a step
    /// that has not run by then, is refused with [`InvalidPlan::Expression`](crate::InvalidPlan::Expression) before anything
    /// runs. A part of an output that turns out not to be there, or a variable that is not set, fails the step, unless the
    /// expression says what then: `env.REGION | default("eu")`.
    ///
    /// # What can be computed
    ///
    /// The expressions are those of [Jinja](https://docs.rs/minijinja/latest/minijinja/syntax/index.html#expressions).
    ///
    /// | | |
    /// |---|---|
    /// | values | `1`, `1.5`, `"text"`, `'text'`, `true`, `false`, `none`, `[1, 2]`, `{"key": 1}` |
    /// | arithmetic | `+` `-` `*` `/` (a float), `//` (whole), `%` `**` |
    /// | text | `~` joins; `text[0:3]` is a part |
    /// | comparison | `==` `!=` `<` `<=` `>` `>=`, `x in list`, `not`, `and`, `or` |
    /// | choice | `a if condition else b` |
    /// | tests, behind `is` | `boolean` `defined` `divisibleby` `empty` `endingwith` `even` `false` `float` `in` `integer` `iterable` `lower` `mapping` `none` `number` `odd` `sameas` `sequence` `startingwith` `string` `true` `undefined` `upper`, and comparisons by name: `eq` `ne` `lt` `le` `gt` `ge` |
    /// | filters, behind `\|` | `abs` `batch` `bool` `capitalize` `chain` `default` `dictsort` `first` `float` `fromjson` `groupby` `int` `items` `join` `last` `length` `lines` `list` `lower` `map` `max` `min` `reject` `rejectattr` `replace` `reverse` `round` `select` `selectattr` `slice` `sort` `split` `string` `sum` `title` `tojson` `trim` `unique` `upper` |
    /// | functions | `dict(a=1)`, `range(3)` |
    ///
    /// `fromjson` and `tojson` turn text into a value and back. Within an expression, `~` and `string` write true as `True` and
    /// null as `None`, as Jinja does; text around an expression does not.
    ///
    /// # When, and how much
    ///
    /// The input is made anew for each attempt, and for a fallback, on the way to the callable, which reads it with
    /// [`StepContext::input`](crate::StepContext::input). The template is what is stored, compared and shown; what it came to is
    /// in no store, no event and no log. What cannot be evaluated fails the step with an
    /// [`EvaluationError`](crate::EvaluationError), which is not retried; [`on_failure`](Self::on_failure) holds.
    ///
    /// An expression is evaluated on the orchestrator's thread, so what it may cost is limited:
    /// [`MAX_EXPRESSION_BYTES`](crate::limits::MAX_EXPRESSION_BYTES),
    /// [`MAX_EXPRESSION_WORDS`](crate::limits::MAX_EXPRESSION_WORDS),
    /// [`MAX_EXPRESSION_DEPTH`](crate::limits::MAX_EXPRESSION_DEPTH), [`EXPRESSION_FUEL`](crate::limits::EXPRESSION_FUEL),
    /// [`EXPRESSION_READS`](crate::limits::EXPRESSION_READS); and what an input may hold,
    /// [`MAX_INPUT_BYTES`](crate::limits::MAX_INPUT_BYTES).
    #[must_use]
    pub fn with(self, template: impl Into<Value>) -> Self {
        let template = template.into();
        let holds = holds_expression(&template);
        self.change(|record| (record.input, record.template) = (template, holds))
    }

    /// Runs the step only where this expression, with or without `${{ }}` around it, is true when the step's turn comes; see
    /// [`with`](Self::with) for what it may say. Where it is false, the step is skipped: it is not called, `task.skipped` says
    /// so, its output is null, and the plan goes on. Anything else than true and false fails the step, as does what cannot be
    /// evaluated.
    ///
    /// Once the step was started the condition is not looked at again, for a retry or after a crash. A step that is skipped
    /// asks no circuit breaker.
    ///
    /// ```
    /// use lunacore::{Engine, Step};
    /// use serde_json::json;
    ///
    /// # actix::System::new().block_on(async {
    /// let results = Engine::builder().start()?.execute([
    ///     Step::new("count", || 0),
    ///     Step::new("report", || "sent").when("steps.count.output > 0"),
    /// ]).await?;
    /// assert_eq!(results, [json!(0), json!(null)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn when(self, condition: impl Into<Arc<str>>) -> Self {
        self.change(|record| record.when = Some(condition.into()))
    }
}
