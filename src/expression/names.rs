//! The names in an expression, and whether there is what they name.

use serde_json::Value;

use super::engine::{self, FILTERS, FUNCTIONS, TESTS};
use super::error::InvalidExpression;
use super::text::Expression;
use super::words::{Kind, Word};
use crate::id::{nearest, shorten};

const ROOTS: [&str; 5] = ["steps", "inputs", "env", "run", "secrets"];

const KEYWORDS: [&str; 12] =
    ["and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False"];

/// What a plan has, as seen from one of its steps.
pub(crate) trait Names {
    /// The step of this id.
    fn step(&self, id: &str) -> StepName;
    /// The earlier step whose id looks most like this one.
    fn similar_step(&self, id: &str) -> Option<String>;
    /// Whether it has this input.
    fn has_input(&self, name: &str) -> bool;
    /// The input whose name looks most like this one.
    fn similar_input(&self, name: &str) -> Option<String>;
    /// Whether secrets can be read.
    fn has_secrets(&self) -> bool;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StepName {
    Earlier,
    Own,
    Later,
    Unknown,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Member {
    Name(String),
    Index(i64),
    /// Known only when it is evaluated.
    Computed,
}

/// A name and what is read of it, as far as that is said word for word.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    pub(super) root: &'a str,
    /// Where it stands, in bytes.
    at: usize,
    pub(super) members: Vec<Member>,
}

impl Reference<'_> {
    fn member(&self, place: usize) -> Option<&str> {
        match self.members.get(place)? {
            Member::Name(name) => Some(name),
            _ => None,
        }
    }

    /// The step that it reads.
    pub(super) fn step(&self) -> Option<&str> {
        if self.root == "steps" { self.member(0) } else { None }
    }

    /// The first name that it reads.
    pub(super) fn name(&self) -> Option<&str> {
        self.member(0)
    }

    /// Whether what it reads of the output is there. What is computed is taken to be.
    pub(super) fn is_in(&self, output: &Value) -> bool {
        let mut value = output;
        for member in self.members.iter().skip(2) {
            let next = match member {
                Member::Name(name) => value.get(name),
                Member::Index(index) => {
                    let length = value.as_array().map_or(0, Vec::len);
                    let from_end =
                        usize::try_from(index.unsigned_abs()).ok().and_then(|back| length.checked_sub(back));
                    let index = usize::try_from(*index).ok().or(from_end);
                    index.and_then(|index| value.get(index))
                }
                Member::Computed => return true,
            };
            match next {
                Some(next) => value = next,
                None => return false,
            }
        }
        true
    }

    /// As it might have been written.
    pub(super) fn shown(&self) -> String {
        let mut shown = self.root.to_owned();
        for member in &self.members {
            match member {
                Member::Name(name) if is_plain(name) => shown.push_str(&format!(".{name}")),
                Member::Name(name) => shown.push_str(&format!("[{name:?}]")),
                Member::Index(index) => shown.push_str(&format!("[{index}]")),
                Member::Computed => break,
            }
        }
        shorten(&shown)
    }
}

/// Whether a name can stand behind a dot.
pub(super) fn is_plain(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

enum Role {
    Keyword,
    Member,
    Filter,
    Test,
    Argument,
    Function,
    Reference,
}

fn sign(word: Option<&Word>) -> Option<char> {
    match word?.kind {
        Kind::Sign(sign) => Some(sign),
        _ => None,
    }
}

/// What the name at this place is.
fn role(expression: &Expression<'_>, place: usize) -> Role {
    let words = &expression.words;
    let before = |back: usize| place.checked_sub(back).and_then(|place| words.get(place));
    let is_word = |back: usize, name: &str| {
        before(back).is_some_and(|word| word.kind == Kind::Name && expression.word(word) == name)
            && sign(before(back + 1)) != Some('.')
    };
    let next = words.get(place + 1);
    match sign(before(1)) {
        Some('.') => return Role::Member,
        Some('|') => return Role::Filter,
        Some('(' | ',') if sign(next) == Some('=') => return Role::Argument,
        _ => {}
    }
    if is_word(1, "is") && expression.word(&words[place]) != "not" || is_word(1, "not") && is_word(2, "is") {
        return Role::Test;
    }
    match expression.word(&words[place]) {
        name if KEYWORDS.contains(&name) || name == "None" => Role::Keyword,
        _ if sign(next) == Some('(') => Role::Function,
        _ => Role::Reference,
    }
}

/// All that an expression refers to.
pub(super) fn references<'a>(expression: &Expression<'a>) -> Vec<Reference<'a>> {
    let names = expression.words.iter().enumerate().filter(|(_, word)| word.kind == Kind::Name);
    let read = names.filter(|(place, _)| matches!(role(expression, *place), Role::Reference));
    read.map(|(place, _)| reference(expression, place)).collect()
}

fn reference<'a>(expression: &Expression<'a>, place: usize) -> Reference<'a> {
    let words = &expression.words;
    let (root, at) = (expression.word(&words[place]), words[place].range.start);
    let (mut members, mut next) = (Vec::new(), place + 1);
    loop {
        let inner = words.get(next + 1);
        let (member, length) = match (sign(words.get(next)), inner.map(|word| word.kind)) {
            (Some('.'), Some(Kind::Name | Kind::Number)) => (constant(expression, inner), 2),
            (Some('['), Some(Kind::Text | Kind::Number)) if sign(words.get(next + 2)) == Some(']') => {
                (constant(expression, inner), 3)
            }
            (Some('['), Some(Kind::Sign('-'))) if sign(words.get(next + 3)) == Some(']') => {
                let back = match constant(expression, words.get(next + 2)) {
                    Member::Index(index) => Member::Index(-index),
                    _ => Member::Computed,
                };
                (back, 4)
            }
            (Some('['), _) => (Member::Computed, usize::MAX),
            _ => break,
        };
        if length == usize::MAX {
            members.push(member);
            break;
        }
        next += length;
        if sign(words.get(next)) == Some('(') {
            // A method: its name is not one of what is read.
            members.push(Member::Computed);
            break;
        }
        members.push(member);
    }
    Reference { root, at, members }
}

fn constant(expression: &Expression<'_>, word: Option<&Word>) -> Member {
    let Some(word) = word else { return Member::Computed };
    let written = expression.word(word);
    match word.kind {
        Kind::Name => Member::Name(written.to_owned()),
        Kind::Number => written.parse().map_or(Member::Computed, Member::Index),
        Kind::Text if !written.contains('\\') => Member::Name(written[1..written.len() - 1].to_owned()),
        Kind::Text => engine::literal(written).map_or(Member::Computed, Member::Name),
        _ => Member::Computed,
    }
}

/// All names in an expression that name nothing.
pub(super) fn check(expression: &Expression<'_>, names: &dyn Names) -> Vec<InvalidExpression> {
    let (mut found, mut told) = (Vec::new(), 0);
    for (place, word) in expression.words.iter().enumerate().filter(|(_, word)| word.kind == Kind::Name) {
        if word.range.start < told {
            continue;
        }
        let name = expression.word(word);
        let (what, known): (_, &[&str]) = match role(expression, place) {
            Role::Keyword | Role::Member | Role::Argument => continue,
            Role::Filter => ("filter", &FILTERS),
            Role::Test => ("test", &TESTS),
            Role::Function => ("function", &FUNCTIONS),
            Role::Reference => {
                let reference = reference(expression, place);
                if let Some(odd) = odd_id(expression, &reference, names) {
                    let problem =
                        format!("a minus is no part of a name; write `steps[{odd:?}]` for the step {odd:?}");
                    found.push(expression.fault(reference.at, problem));
                    // What follows the minus is no name of its own.
                    told = reference.at + "steps.".len() + odd.len();
                    continue;
                }
                found.extend(check_reference(expression, &reference, names).err());
                continue;
            }
        };
        if !known.contains(&name) {
            let hint = hint(nearest(name, known.iter().copied()));
            found.push(expression.fault(word.range.start, format!("there is no {what} {name:?}{hint}")));
        }
    }
    found
}

/// The id of a step that was written as if it could stand behind a dot: `steps.fetch-data` is a subtraction.
fn odd_id<'a>(expression: &Expression<'a>, reference: &Reference<'_>, names: &dyn Names) -> Option<&'a str> {
    let id = reference.step().filter(|_| reference.members.len() == 1)?;
    let written = expression.text[reference.at..expression.range.end].strip_prefix("steps.")?;
    let belongs = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let odd = &written[..written.find(|c| !belongs(c)).unwrap_or(written.len())];
    (odd != id && names.step(odd) != StepName::Unknown).then_some(odd)
}

fn hint(similar: Option<&str>) -> String {
    similar.map(|similar| format!("; did you mean {similar:?}?")).unwrap_or_default()
}

fn check_reference(
    expression: &Expression<'_>,
    reference: &Reference<'_>,
    names: &dyn Names,
) -> Result<(), InvalidExpression> {
    let fault = |problem: String| Err(expression.fault(reference.at, problem));
    let root = reference.root;
    if !ROOTS.contains(&root) {
        let hint = match nearest(root, ROOTS.into_iter()) {
            Some(similar) => format!("; did you mean {similar:?}?"),
            None => "; there are steps, inputs, env, run and secrets".to_owned(),
        };
        return fault(format!("there is no name {:?}{hint}", shorten(root)));
    }
    let Some(member) = reference.member(0) else {
        let example = match root {
            "steps" => "steps.fetch.output",
            "inputs" => "inputs.day",
            "run" => "run.id",
            "env" => "env.REGION",
            _ => "secrets.TOKEN",
        };
        return fault(format!("{root:?} needs a name that is written out, as in `{example}`"));
    };
    match root {
        "steps" => check_step(expression, reference, member, names),
        "inputs" if !names.has_input(member) => {
            let hint = hint(names.similar_input(member).as_deref());
            fault(format!("the plan declares no input {:?}{hint}", shorten(member)))
        }
        "run" if member != "id" => {
            fault(format!("of the run there is only `run.id`, and no {:?}", shorten(member)))
        }
        "secrets" if !names.has_secrets() => fault("secrets are not available here".to_owned()),
        _ => Ok(()),
    }
}

fn check_step(
    expression: &Expression<'_>,
    reference: &Reference<'_>,
    id: &str,
    names: &dyn Names,
) -> Result<(), InvalidExpression> {
    let fault = |problem: String| Err(expression.fault(reference.at, problem));
    let shown = shorten(id);
    match names.step(id) {
        StepName::Earlier => {}
        StepName::Own => {
            return fault(format!("step {shown:?} is this step; only outputs of earlier ones can be read"));
        }
        StepName::Later => {
            return fault(format!("step {shown:?} comes later; only outputs of earlier steps can be read"));
        }
        StepName::Unknown => {
            let hint = hint(names.similar_step(id).as_deref());
            return fault(format!("there is no step {shown:?}{hint}"));
        }
    }
    match reference.member(1) {
        Some("output") => Ok(()),
        other => {
            let reference = if is_plain(id) { format!("steps.{id}") } else { format!("steps[{id:?}]") };
            let what = other.map(|other| format!(", and no {:?}", shorten(other))).unwrap_or_default();
            fault(format!("of a step there is only its output, `{}.output`{what}", shorten(&reference)))
        }
    }
}
