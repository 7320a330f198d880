//! Plan files: what they say, and what is said of those that are none.

mod corpus;
mod examples;
mod fuzzed;
mod hostile;
mod paths;
mod reading;
mod round_trip;
mod schema;

use lunacore::{Plan, PlanFormat};

/// All that is said of a text that is no plan.
fn complaint(format: PlanFormat, text: &str) -> String {
    match Plan::from_text(text, format) {
        Ok(_) => "no complaint".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// The problems, without what is shown of the text.
fn problems(format: PlanFormat, text: &str) -> Vec<String> {
    let error = Plan::from_text(text, format).expect_err(text);
    error.problems().iter().map(ToString::to_string).collect()
}
