//! In what two plans differ.

use std::fmt;

use serde_json::{Map, Value};

use super::record::StepRecord;
use crate::id::shorten;
use crate::json;

/// One thing that is not what was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanDifference {
    /// An input of the plan has another value.
    Input {
        /// The input's name.
        name: String,
        /// The recorded value as JSON, shortened; `None` where there was none.
        was: Option<String>,
        /// The value that was given, likewise.
        now: Option<String>,
    },
    /// A step is another one.
    Step {
        /// The step's place, from 0.
        index: usize,
        /// What has changed there.
        change: StepChange,
    },
}

/// What has changed in a step.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepChange {
    /// Another step stands there.
    Id {
        /// The recorded step.
        was: String,
        /// The step that was given.
        now: String,
    },
    /// It uses another callable; `None` is a closure.
    Callable {
        /// The step.
        id: String,
        /// The recorded name.
        was: Option<String>,
        /// The name that was given.
        now: Option<String>,
    },
    /// It has another input.
    Input {
        /// The step.
        id: String,
        /// The recorded input as JSON, shortened.
        was: String,
        /// The input that was given, likewise.
        now: String,
    },
    /// Its input was a template and is data now, or the other way round.
    Template {
        /// The step.
        id: String,
        /// Whether it is a template now.
        now: bool,
    },
    /// It waits for something else; `None` is a step that calls something.
    Wait {
        /// The step.
        id: String,
        /// What was recorded, as JSON.
        was: Option<String>,
        /// What was given, likewise.
        now: Option<String>,
    },
    /// It runs on another condition; `None` is always.
    Condition {
        /// The step.
        id: String,
        /// The recorded condition, shortened.
        was: Option<String>,
        /// The condition that was given, likewise.
        now: Option<String>,
    },
    /// It was recorded and is not there.
    Removed {
        /// The recorded step.
        id: String,
    },
    /// It is there and was not recorded.
    Added {
        /// The step that was given.
        id: String,
    },
}

/// The inputs whose values differ, in the order of their names.
pub(super) fn of_inputs(was: &Map<String, Value>, now: &Map<String, Value>) -> Vec<PlanDifference> {
    let mut names: Vec<&String> = was.keys().chain(now.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let differing = names.into_iter().filter_map(|name| {
        let texts = [was, now].map(|values| values.get(name).map(canonical));
        let [was, now] = if texts[0] == texts[1] {
            return None;
        } else {
            texts.map(|text| text.map(|text| shorten(&text)))
        };
        Some(PlanDifference::Input { name: name.clone(), was, now })
    });
    differing.collect()
}

/// A value as it is shown, and compared: in the form that the fingerprint is made of.
fn canonical(value: &Value) -> String {
    let mut text = Vec::new();
    json::write_canonical(value, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

impl StepRecord {
    pub(super) fn change(&self, now: &Self) -> Option<StepChange> {
        if self.id() != now.id() {
            return Some(StepChange::Id { was: self.id().to_owned(), now: now.id().to_owned() });
        }
        let id = self.id().to_owned();
        if self.wait != now.wait {
            let wait = |step: &Self| step.wait.as_ref().map(|wait| canonical(&json::of(wait)));
            return Some(StepChange::Wait { id, was: wait(self), now: wait(now) });
        }
        if self.callable_name() != now.callable_name() {
            let name = |step: &Self| step.callable_name().map(str::to_owned);
            return Some(StepChange::Callable { id, was: name(self), now: name(now) });
        }
        if self.when != now.when {
            let condition = |step: &Self| step.when.as_deref().map(shorten);
            return Some(StepChange::Condition { id, was: condition(self), now: condition(now) });
        }
        if self.template != now.template {
            return Some(StepChange::Template { id, now: now.template });
        }
        if self.input == now.input {
            return None;
        }
        let (was, now) = (canonical(&self.input), canonical(&now.input));
        (was != now).then(|| StepChange::Input { id, was: shorten(&was), now: shorten(&now) })
    }
}

impl fmt::Display for PlanDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, change) = match self {
            Self::Input { name, was, now } => {
                let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "no value".to_owned());
                return write!(f, "the input {name:?} was {}, now {}", value(was), value(now));
            }
            Self::Step { index, change } => (index, change),
        };
        let callable = |name: &Option<String>| match name {
            Some(name) => format!("the callable {name:?}"),
            None => "a closure".to_owned(),
        };
        let condition = |when: &Option<String>| match when {
            Some(when) => format!("on the condition {when:?}"),
            None => "always".to_owned(),
        };
        match change {
            StepChange::Id { was, now } => write!(f, "step {index} was {was:?}, now {now:?}"),
            StepChange::Callable { id, was, now } => {
                write!(f, "step {index} ({id:?}) used {}, now {}", callable(was), callable(now))
            }
            StepChange::Input { id, was, now } => {
                write!(f, "step {index} ({id:?}) had the input {was}, now {now}")
            }
            StepChange::Template { id, now } => {
                let (was, now) = if *now { ("data", "a template") } else { ("a template", "data") };
                write!(f, "the input of step {index} ({id:?}) was {was}, now {now}")
            }
            StepChange::Condition { id, was, now } => {
                write!(f, "step {index} ({id:?}) ran {}, now {}", condition(was), condition(now))
            }
            StepChange::Wait { id, was, now } => {
                let wait = |wait: &Option<String>| match wait {
                    Some(wait) => format!("waited for {wait}"),
                    None => "called something".to_owned(),
                };
                write!(
                    f,
                    "step {index} ({id:?}) {}; now it {}",
                    wait(was),
                    wait(now).replacen("ed ", "s ", 1)
                )
            }
            StepChange::Removed { id } => write!(f, "step {index} ({id:?}) is missing"),
            StepChange::Added { id } => write!(f, "step {index} ({id:?}) is new"),
        }
    }
}
