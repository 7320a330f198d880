//! Which steps a step reads.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::step::Step;
use crate::expression::{Checker, Names, StepName};

/// Takes every name for one that is there, and notes those of steps.
#[derive(Default)]
struct Noted {
    /// With the order in which they were named first.
    steps: RefCell<BTreeMap<String, usize>>,
}

impl Names for Noted {
    fn step(&self, id: &str) -> StepName {
        let mut steps = self.steps.borrow_mut();
        let next = steps.len();
        steps.entry(id.to_owned()).or_insert(next);
        StepName::Earlier
    }

    fn similar_step(&self, _: &str) -> Option<String> {
        None
    }

    fn has_input(&self, _: &str) -> bool {
        true
    }

    fn similar_input(&self, _: &str) -> Option<String> {
        None
    }
}

impl Step {
    /// The ids of the steps whose outputs its condition and its input read, each once: those of the condition first, then those of
    /// the input, as they stand there. Expressions that are not valid read nothing.
    ///
    /// ```
    /// use lunacore::Step;
    ///
    /// let step = Step::named("load").when("steps.check.output").with("${{ steps.fetch.output }} of ${{ inputs.day }}");
    /// assert_eq!(step.references(), ["check", "fetch"]);
    /// assert_eq!(Step::named("load").input("${{ steps.fetch.output }}").references(), [""; 0]);
    /// ```
    #[must_use]
    pub fn references(&self) -> Vec<String> {
        let (noted, mut checker) = (Noted::default(), Checker::default());
        if let Some(condition) = self.condition() {
            let _ = checker.condition(condition, &noted);
        }
        if self.has_template() {
            let _ = checker.template(self.get_input(), &noted);
        }
        let mut steps: Vec<(String, usize)> = noted.steps.into_inner().into_iter().collect();
        steps.sort_unstable_by_key(|(_, order)| *order);
        steps.into_iter().map(|(id, _)| id).collect()
    }
}
