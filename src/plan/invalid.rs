use std::time::Duration;

use super::inputs::InputType;
#[cfg(feature = "expressions")]
use crate::expression::InvalidExpression;
use crate::id::IdFault;
use crate::limits::{
    MAX_COMPENSATIONS, MAX_INPUT_BYTES, MAX_JSON_DEPTH, MAX_PLAN_INPUTS, MAX_STEPS, MAX_WAIT,
};
use crate::resilience::InvalidRetry;

/// What is wrong with a plan.
///
/// Steps are counted from 0, as in `step_0` and in artifacts' meta.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPlan {
    /// A step's id is empty, too long, or has control characters.
    #[error("the id {id:?} of step {index} {fault}")]
    StepId {
        /// The id, shortened.
        id: String,
        /// The step's place.
        index: usize,
        /// What is wrong with the id.
        fault: IdFault,
    },
    /// Another name in a step, or the plan's own, is empty, too long, or has control characters.
    #[error("the {what} {name:?} of {place} {fault}")]
    Name {
        /// What the name is for, such as `agent name`.
        what: &'static str,
        /// The name, shortened.
        name: String,
        /// Whose it is: the plan's, or a step's.
        place: String,
        /// What is wrong with it.
        fault: IdFault,
    },
    /// Two steps have the same id.
    #[error("steps {first} and {second} have the same id {id:?}; each step of a plan needs its own")]
    DuplicateId {
        /// The id.
        id: String,
        /// The place of the first step with it.
        first: usize,
        /// The place of the second.
        second: usize,
    },
    /// A step's input or one of its attributes nests deeper than [`MAX_JSON_DEPTH`].
    #[error("the input or an attribute of step {index} ({id:?}) nests deeper than {MAX_JSON_DEPTH} levels")]
    TooDeep {
        /// The step's id.
        id: String,
        /// Its place.
        index: usize,
    },
    /// A step's policy cannot be one.
    #[error("the policy of step {index} ({id:?}) is not valid")]
    Policy {
        /// The step's id.
        id: String,
        /// Its place.
        index: usize,
        /// What is wrong with it.
        source: InvalidPolicy,
    },
    /// The plan has no time at all.
    #[error("the plan's deadline is 0s, in which nothing can be done; leave it out for none")]
    NoTime,
    /// The plan is longer than [`MAX_STEPS`].
    #[error("the plan has {steps} steps, more than {MAX_STEPS}; split it")]
    TooManySteps {
        /// Its number of steps.
        steps: usize,
    },
    /// More steps than [`MAX_COMPENSATIONS`] have a compensation.
    #[error("{steps} steps of the plan have a compensation, more than {MAX_COMPENSATIONS}; split it")]
    TooManyCompensations {
        /// How many have.
        steps: usize,
    },
    /// The plan declares more inputs than [`MAX_PLAN_INPUTS`].
    #[error(
        "the plan declares {inputs} inputs, more than {MAX_PLAN_INPUTS}; give it an object that holds them"
    )]
    TooManyInputs {
        /// How many it declares.
        inputs: usize,
    },
    /// A value was given for an input that the plan does not declare.
    #[error("{}", unknown_input(name, similar.as_deref(), *declares_none))]
    #[non_exhaustive]
    UnknownInput {
        /// The name that was given, shortened.
        name: String,
        /// An input of the plan whose name looks alike.
        similar: Option<String>,
        /// The plan declares no inputs at all.
        declares_none: bool,
    },
    /// An input without a default was not given.
    #[error("the input {name:?} was not given, and has no default; it is of type {expected}")]
    MissingInput {
        /// The input.
        name: String,
        /// What it may be.
        expected: InputType,
    },
    /// An input, or the default of one, has another type than was declared.
    #[error("{what}the input {name:?} is of type {found}, but {expected} was declared")]
    InputType {
        /// `the default of `, or nothing.
        what: &'static str,
        /// The input.
        name: String,
        /// What it may be.
        expected: InputType,
        /// The type that it has.
        found: &'static str,
    },
    /// An input, or the default of one, nests deeper than [`MAX_JSON_DEPTH`].
    #[error("{what}the input {name:?} nests deeper than {MAX_JSON_DEPTH} levels")]
    InputTooDeep {
        /// `the default of `, or nothing.
        what: &'static str,
        /// The input.
        name: String,
    },
    /// An expression cannot be read, or names something that is not there.
    #[cfg(feature = "expressions")]
    #[error("step {index} ({id:?}) has an expression in {place} that is not valid")]
    Expression {
        /// The step's id.
        id: String,
        /// Its place.
        index: usize,
        /// Where in the step: `when`, or a place in the input such as `with.headers[0]`.
        place: String,
        /// What is wrong with it.
        source: InvalidExpression,
    },
    /// The plan has more expressions than [`MAX_EXPRESSIONS`](crate::limits::MAX_EXPRESSIONS).
    #[cfg(feature = "expressions")]
    #[error("the plan has more than {} expressions; split it", crate::limits::MAX_EXPRESSIONS)]
    TooManyExpressions,
    /// The values of all inputs together are larger than [`MAX_INPUT_BYTES`].
    #[error(
        "the inputs of the plan have {bytes} bytes of JSON, more than {MAX_INPUT_BYTES}; write what is large to a file and give its name"
    )]
    InputsTooLarge {
        /// Their size.
        bytes: usize,
    },
}

/// What is wrong with a step's policy.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPolicy {
    /// The retry policy.
    #[error(transparent)]
    Retry(#[from] InvalidRetry),
    /// A limit is zero.
    #[error("the {what} is 0s, in which nothing can be done; leave it out for none")]
    Zero {
        /// Which one.
        what: &'static str,
    },
    /// How often undoing the step is tried.
    #[error("the retry policy of the compensation is not valid")]
    CompensationRetry(#[source] InvalidRetry),
    /// It says how the step is undone, but not by what.
    #[error(
        "it says how often or how long undoing is tried, but there is no callable that undoes; add `compensate`"
    )]
    NothingUndoes,
    /// A step that calls nothing, and waits, has something that only a step which calls something can have.
    #[error("a step that only waits cannot have {what}")]
    OnlyWaits {
        /// What it has.
        what: &'static str,
    },
    /// It sleeps until a time that is [too far away](crate::limits::END_OF_TIME) to be told.
    #[error("it sleeps until a time after the year 9999; was another unit meant?")]
    TooFar,
    /// A time is longer than [`MAX_WAIT`].
    #[error("the {what} is {}, more than {} days; was another unit meant?", humantime::format_duration(*time), MAX_WAIT.as_secs() / 86_400)]
    TooLong {
        /// Which one.
        what: &'static str,
        /// The time that was given.
        time: Duration,
    },
}

fn unknown_input(name: &str, similar: Option<&str>, declares_none: bool) -> String {
    let hint = match similar {
        _ if declares_none => "; it declares none, and takes only values that it declares".to_owned(),
        Some(similar) => format!("; did you mean {similar:?}?"),
        None => String::new(),
    };
    format!("the plan declares no input {name:?}{hint}")
}
