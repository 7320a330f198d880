//! The expressions of a plan: checked against what it has, and evaluated when their step's turn comes.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::check::{CheckedPlan, Enough, Problems};
use super::error::StepError;
use super::invalid::InvalidPlan;
use super::output::Output;
use super::scope::RunScope;
use crate::expression::{self, Checker, EvaluationError, Lookup, Names, Sources, StepName};
use crate::id::nearest;
use crate::isolate::catch;
use crate::json;
use crate::limits::{MAX_EXPRESSIONS, MAX_SUGGESTIONS_TRIED};
use crate::secrets::{SecretError, Secrets};

/// What a plan has, as seen from one of its steps.
struct View<'a> {
    plan: &'a CheckedPlan,
    index: usize,
    /// How many names may still be looked at for what was meant.
    tries: &'a Cell<usize>,
}

impl View<'_> {
    /// The nearest of so many names, if there are not too many.
    fn similar<'b>(&self, name: &str, known: impl Iterator<Item = &'b str>, number: usize) -> Option<String> {
        self.tries.set(self.tries.get().checked_sub(number)?);
        nearest(name, known).map(str::to_owned)
    }
}

impl Names for View<'_> {
    fn step(&self, id: &str) -> StepName {
        match self.plan.index_of(id) {
            Some(index) if index < self.index => StepName::Earlier,
            Some(index) if index == self.index => StepName::Own,
            Some(_) => StepName::Later,
            None => StepName::Unknown,
        }
    }

    fn similar_step(&self, id: &str) -> Option<String> {
        let earlier = (0..self.index).filter_map(|index| self.plan.get(index)).map(|step| &*step.id);
        self.similar(id, earlier, self.index)
    }

    fn has_input(&self, name: &str) -> bool {
        self.plan.record().inputs().contains_key(name)
    }

    fn similar_input(&self, name: &str) -> Option<String> {
        let inputs = self.plan.record().inputs();
        self.similar(name, inputs.keys().map(String::as_str), inputs.len())
    }
}

/// Checks all expressions of a plan.
pub(super) fn check(plan: &CheckedPlan, problems: &mut Problems) -> Result<(), Enough> {
    let (mut checker, tries) = (Checker::default(), Cell::new(MAX_SUGGESTIONS_TRIED));
    for (index, step) in plan.steps().enumerate() {
        let view = View { plan, index, tries: &tries };
        let mut found = Vec::new();
        // What nests too deep is not walked, and is refused for that.
        if step.has_template() && !json::is_too_deep(step.get_input()) {
            found = checker.template(step.get_input(), &view);
        }
        if let Some(condition) = step.condition() {
            found.append(&mut checker.condition(condition, &view));
        }
        let id = step.id().unwrap_or_default();
        for (place, source) in found {
            problems.add(InvalidPlan::Expression { id: crate::id::shorten(id), index, place, source })?;
        }
        if checker.seen > MAX_EXPRESSIONS {
            return problems.add(InvalidPlan::TooManyExpressions).and(Err(Enough));
        }
    }
    Ok(())
}

/// What expressions can see of the world.
#[derive(Clone)]
pub(crate) struct Surroundings {
    /// The variables of the process environment.
    pub(crate) env: Lookup,
    pub(crate) secrets: Secrets,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { env: Arc::new(|name| std::env::var(name).ok()), secrets: Secrets::default() }
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

impl CheckedPlan {
    /// The names of the secrets that its expressions read.
    pub(super) fn secrets(&self) -> &BTreeSet<String> {
        self.secrets.get_or_init(|| {
            let mut found = BTreeSet::new();
            for step in self.steps().filter(|_| self.has_expressions()) {
                if step.has_template() {
                    expression::secrets_of_template(step.get_input(), &mut found);
                }
                if let Some(condition) = step.condition() {
                    expression::secrets_of_condition(condition, &mut found);
                }
            }
            found
        })
    }

    /// Whether there is everything that it needs from outside.
    pub(crate) fn check_secrets(&self, secrets: &Secrets) -> Result<(), SecretError> {
        self.secrets().iter().try_for_each(|name| secrets.find(name).map(drop))
    }
}

impl RunScope {
    /// The same with other surroundings than those of the process.
    pub(crate) fn in_surroundings(mut self, surroundings: Surroundings) -> Self {
        self.surroundings = surroundings;
        self
    }

    /// The input of a step that is made of what is known now, or that a retry has set; `None` where it is as it was given. What
    /// takes the place of a template is one too.
    pub(crate) fn resolve(&self, index: usize) -> Result<Option<Arc<Value>>, StepError> {
        let set = self.set_input(index);
        if !self.plan.has_expressions() {
            return Ok(set);
        }
        // Also where this input has none: an earlier step may have left it where this one finds it.
        let secrets = self.secrets()?;
        let Some(step) = self.plan.get(index).filter(|step| step.step.has_template()) else {
            return Ok(set);
        };
        let template = set.as_deref().unwrap_or_else(|| step.step.get_input());
        self.evaluate(secrets, None, |sources| expression::resolve(template, sources))
            .map(|input| Some(Arc::new(input)))
    }

    /// Whether a step is to run, as its condition says. `last` is an output that is not stored yet.
    pub(crate) fn decide(&self, index: usize, last: Option<&Output>) -> Result<bool, StepError> {
        let condition = self.plan.condition(index);
        condition.map_or(Ok(true), |condition| {
            self.evaluate(self.secrets()?, last, |sources| expression::decide(condition, sources))
        })
    }

    fn evaluate<T>(
        &self,
        secrets: Lookup,
        last: Option<&Output>,
        evaluate: impl FnOnce(&Sources<'_>) -> Result<T, EvaluationError>,
    ) -> Result<T, StepError> {
        let output = |id: &str| {
            let index = self.plan.index_of(id)?;
            let output =
                self.output_at(index).or_else(|| last.filter(|_| index == self.completed()).cloned())?;
            Some(match output {
                Output::Json(value) => value,
                bytes @ Output::Bytes(_) => Arc::new(bytes.to_value()),
            })
        };
        let sources = Sources {
            output: &output,
            inputs: self.plan.record().shared_inputs(),
            run_id: self.run_id.as_str(),
            env: Arc::clone(&self.surroundings.env),
            secrets,
        };
        // What reads the environment is the application's.
        let evaluated =
            catch(|| evaluate(&sources)).map_err(|message| StepError::fatal(StepError::panic(message)));
        evaluated.and_then(|value| value.map_err(StepError::fatal)).map_err(|error| self.clean_error(error))
    }

    /// Knows from now on what is secret to the plan, where nothing of it may have been evaluated yet.
    pub(crate) fn know_secrets(&self) -> Result<(), StepError> {
        if self.plan.has_expressions() { self.secrets().map(drop) } else { Ok(()) }
    }

    /// The secrets of the plan as they are now. From here on, they are taken out of what leaves the run.
    fn secrets(&self) -> Result<Lookup, StepError> {
        let names = self.plan.secrets();
        // One that is not there any more fails the step that reads it, and no other.
        let find = |name: &String| Some((name.clone(), self.surroundings.secrets.find(name).ok()?));
        let found: BTreeMap<String, String> = names.iter().filter_map(find).collect();
        self.learn(found.values()).map_err(StepError::fatal)?;
        Ok(Arc::new(move |name| found.get(name).cloned()))
    }
}
