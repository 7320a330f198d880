//! Inputs of steps against the schemas of their callables.

use std::fmt;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use super::error::InputFault;
use crate::expression::holds_expression;
use crate::limits::MAX_INPUT_FAULTS;
use crate::plan::Step;

/// A schema, ready to check inputs.
pub(super) struct InputSchema {
    schema: Value,
    /// Or why it is no schema.
    validator: Result<Validator, String>,
}

impl InputSchema {
    pub(super) fn new(schema: Value) -> Self {
        let validator = jsonschema::validator_for(&schema).map_err(|error| error.to_string());
        Self { schema, validator }
    }

    pub(super) fn schema(&self) -> &Value {
        &self.schema
    }

    /// What of a step's input does not fit. What an expression stands for nobody knows before it is evaluated: of the values
    /// that hold one, only the names of their members are checked.
    pub(super) fn faults(&self, step: &Step) -> Vec<InputFault> {
        let validator = match &self.validator {
            Ok(validator) => validator,
            Err(error) => {
                return vec![InputFault::new("", &format!("the callable's schema is none: {error}"))];
            }
        };
        let known = |error: &ValidationError<'_>| {
            !step.has_template() || is_about_names(error.kind()) || !holds_expression(error.instance())
        };
        let faults = validator.iter_errors(step.get_input()).filter(known);
        let fault =
            |error: ValidationError<'_>| InputFault::new(error.instance_path().as_str(), &error.to_string());
        faults.take(MAX_INPUT_FAULTS).map(fault).collect()
    }
}

fn is_about_names(kind: &ValidationErrorKind) -> bool {
    matches!(
        kind,
        ValidationErrorKind::Required { .. }
            | ValidationErrorKind::AdditionalProperties { .. }
            | ValidationErrorKind::UnevaluatedProperties { .. }
    )
}

impl fmt::Debug for InputSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.schema.fmt(f)
    }
}
