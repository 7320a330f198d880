//! Inputs and conditions that are made of what is known only when the step's turn comes.

use std::sync::Arc;

use serde_json::Value;

use super::step::Step;
use crate::expression::holds_expression;

impl Step {
    /// Gives the callable an input whose strings may hold expressions, `${{ … }}`.
    ///
    /// `$${{` stands for `${{` itself. An input in which no string holds either is plain data, as if given with
    /// [`input`](Self::input).
    #[must_use]
    pub fn with(self, template: impl Into<Value>) -> Self {
        let template = template.into();
        let holds = holds_expression(&template);
        self.change(|record| (record.input, record.template) = (template, holds))
    }

    /// Runs the step only where this expression, with or without `${{ }}` around it, is true when its turn comes.
    #[must_use]
    pub fn when(self, condition: impl Into<Arc<str>>) -> Self {
        self.change(|record| record.when = Some(condition.into()))
    }
}
