//! Where in a file that stands which a check of the plan complains about.

use super::node::Segment;
use crate::plan::{InvalidPlan, InvalidPolicy, Role};
use crate::resilience::InvalidRetry;

/// The way to what is wrong; `None` for what the reader has told of already.
pub(super) fn way(problem: &InvalidPlan) -> Option<Vec<Segment>> {
    Some(match problem {
        InvalidPlan::StepId { .. } | InvalidPlan::Name { .. } => return None,
        InvalidPlan::DuplicateId { second, .. } => step(*second, &["id"]),
        InvalidPlan::TooDeep { index, .. } => step(*index, &["with"]),
        InvalidPlan::Policy { index, source, .. } => step(*index, &policy(source)),
        InvalidPlan::TooManySteps { .. } => vec!["steps".into()],
        InvalidPlan::TooManyInputs { .. } => vec!["inputs".into()],
        InvalidPlan::InputType { name, .. } | InvalidPlan::InputTooDeep { name, .. } => {
            vec!["inputs".into(), name.as_str().into(), "default".into()]
        }
        InvalidPlan::Expression { index, place, .. } => {
            step(*index, &[]).into_iter().chain(segments(place)).collect()
        }
        InvalidPlan::TooManyExpressions => vec!["steps".into()],
        _ => Vec::new(),
    })
}

/// The segments of a place such as `with.headers[0]["x-y"]`; up to one whose name is not written out.
fn segments(place: &str) -> Vec<Segment> {
    let mut found = Vec::new();
    let mut rest = place;
    loop {
        let plain = rest.find(['.', '[']).unwrap_or(rest.len());
        if plain > 0 {
            found.push(Segment::from(&rest[..plain]));
        }
        rest = &rest[plain..];
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
        } else if let Some(quoted) = rest.strip_prefix("[\"") {
            match quoted.split_once("\"]") {
                Some((name, after)) if !name.contains(['\\', '…']) => {
                    found.push(Segment::from(name));
                    rest = after;
                }
                _ => return found,
            }
        } else if let Some((index, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            found.extend(index.parse().map(Segment::Index));
            rest = after;
        } else {
            return found;
        }
    }
}

pub(super) fn step(index: usize, keys: &[&str]) -> Vec<Segment> {
    let keys = keys.iter().map(|key| Segment::from(*key));
    [Segment::from("steps"), Segment::from(index)].into_iter().chain(keys).collect()
}

fn policy(fault: &InvalidPolicy) -> Vec<&'static str> {
    match fault {
        InvalidPolicy::Zero { what } | InvalidPolicy::TooLong { what, .. } => match *what {
            "timeout of the compensation" => vec!["compensate", "timeout"],
            what => vec![what],
        },
        InvalidPolicy::OnlyWaits { what } => beyond_waiting(what).into_iter().collect(),
        InvalidPolicy::TooFar => vec!["sleep_until"],
        InvalidPolicy::NothingUndoes => vec!["compensate"],
        InvalidPolicy::CompensationRetry(fault) => vec!["compensate", "retry", retry(fault)],
        InvalidPolicy::Retry(fault) => vec!["retry", retry(fault)],
    }
}

/// The key that a step which only waits cannot have.
fn beyond_waiting(what: &str) -> Option<&'static str> {
    let keys = [
        ("a callable", "uses"),
        ("an input", "with"),
        ("a retry policy", "retry"),
        ("a call in place", "inline"),
        ("a timeout", "timeout"),
        ("a total timeout", "total_timeout"),
        ("a grace", "grace"),
        ("a circuit breaker", "breaker"),
        ("a rule for an open breaker", "when_open"),
        ("a limit", "limit"),
        ("a rule for when it is cut off", "on_interrupted"),
        ("a compensation", "compensate"),
    ];
    // What comes after a colon says why.
    let what = what.split(':').next().unwrap_or_default();
    keys.into_iter().find_map(|(known, key)| (known == what).then_some(key))
}

fn retry(fault: &InvalidRetry) -> &'static str {
    match fault {
        InvalidRetry::NoAttempts | InvalidRetry::TooManyAttempts { .. } => "max_attempts",
        InvalidRetry::Factor { .. } => "factor",
        InvalidRetry::NoDelay { .. } => "delay",
        InvalidRetry::TooLong { what, .. } => what,
        InvalidRetry::MaxDelay { .. } => "max_delay",
        InvalidRetry::NoBudget => "budget",
    }
}

/// The way to the name of a callable that cannot be found: that of the step itself, or one that it has besides.
pub(super) fn callable(index: usize, role: Option<Role>) -> Vec<Segment> {
    match role {
        None => step(index, &["uses"]),
        Some(Role::Fallback) => step(index, &["on_failure", "fallback"]),
        Some(Role::Verification) => step(index, &["on_interrupted", "verify"]),
        // Where the name alone stands, the way ends there.
        Some(Role::Compensation) => step(index, &["compensate", "uses"]),
    }
}

/// The way to a part of a step's input; `pointer` is a JSON pointer (RFC 6901).
pub(super) fn input(index: usize, pointer: &str) -> Vec<Segment> {
    let parts = pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"));
    step(index, &["with"]).into_iter().chain(parts.map(Segment::Key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_apart() {
        let key = Segment::from;
        for (place, expected) in [
            ("when", vec![key("when")]),
            ("with", vec![key("with")]),
            ("with.a[0][12].b", vec![key("with"), key("a"), 0.into(), 12.into(), key("b")]),
            (r#"with["x-y"].z["a.b[c]"]"#, vec![key("with"), key("x-y"), key("z"), key("a.b[c]")]),
            (r#"with.a["b\"c"].d"#, vec![key("with"), key("a")]),
            (r#"with.a["bbb…"].d"#, vec![key("with"), key("a")]),
            ("", vec![]),
        ] {
            assert_eq!(segments(place), expected, "{place}");
        }
    }
}
