//! What steps share by name: the circuit breakers that watch them, and the limits that they keep to. Pure.

use std::collections::{BTreeMap, BTreeSet};

use lunacore::{Breaker, Limit, PlanRecord};

use crate::exit::{Exit, Failure};
use crate::screen::clean;

/// What stands before the attempts of steps, by name.
pub(crate) struct Guards {
    pub(super) breakers: Vec<Breaker>,
    pub(super) limits: Vec<Limit>,
}

/// The breakers and the limits that these plans name: breakers as they are by default, limits as they are given. Where
/// nothing is given one attempt may be under way at a time, which is all that one run after another makes.
pub(super) fn of<'p>(
    plans: impl IntoIterator<Item = &'p PlanRecord>,
    given: &[String],
) -> Result<Guards, Failure> {
    let (mut breakers, mut names) = (BTreeSet::new(), BTreeSet::new());
    for plan in plans {
        breakers.extend(plan.breaker_names());
        names.extend(plan.limit_names());
    }
    let mut limits: BTreeMap<&str, Limit> = BTreeMap::new();
    for pair in given {
        let limit = parse(pair).ok_or_else(|| {
            let pair = clean(pair);
            Failure::invalid(format!(
                "{pair:?} is no limit; write NAME=60/1m, NAME=60/1m+10, NAME=4 or NAME=4,60/1m"
            ))
        })?;
        limit.check().map_err(|error| Failure::of(Exit::Invalid, &error))?;
        let Some(name) = names.get(limit.name()).copied() else {
            let name = clean(limit.name());
            let known: Vec<_> = names.iter().map(|name| clean(name)).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Failure::invalid(format!(
                "no step keeps to the limit {name}; the limits that are named are: {known}"
            )));
        };
        if limits.insert(name, limit).is_some() {
            return Err(Failure::invalid(format!("the limit {} is given twice", clean(name))));
        }
    }
    let limit = |name: &str| limits.remove(name).unwrap_or_else(|| Limit::new(name).concurrency(1));
    let breakers = breakers.into_iter().map(Breaker::new).collect();
    Ok(Guards { breakers, limits: names.into_iter().map(limit).collect() })
}

/// `name=4,60/1m+10`.
fn parse(pair: &str) -> Option<Limit> {
    let (name, given) = pair.split_once('=')?;
    let mut limit = Limit::new(name);
    let (mut concurrency, mut rate) = (false, false);
    for part in given.split(',') {
        match part.split_once('/') {
            None if !concurrency => {
                limit = limit.concurrency(part.trim().parse().ok()?);
                concurrency = true;
            }
            Some((attempts, time)) if !rate => {
                let (time, burst) =
                    time.split_once('+').map_or((time, None), |(time, burst)| (time, Some(burst)));
                limit =
                    limit.rate(attempts.trim().parse().ok()?, humantime::parse_duration(time.trim()).ok()?);
                if let Some(burst) = burst {
                    limit = limit.burst(burst.trim().parse().ok()?);
                }
                rate = true;
            }
            _ => return None,
        }
    }
    Some(limit)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lunacore::Step;

    use super::*;

    fn limits(given: &[&str]) -> Result<Vec<Limit>, String> {
        let steps = [
            Step::named("a").limit("x").breaker("b"),
            Step::named("b").limit("y"),
            Step::named("c").limit("x"),
        ];
        let plan = PlanRecord::of(steps).unwrap();
        let given: Vec<String> = given.iter().map(|pair| (*pair).to_owned()).collect();
        match of([&plan, &plan], &given) {
            Ok(Guards { breakers, limits }) => {
                assert_eq!(breakers.iter().map(Breaker::name).collect::<Vec<_>>(), ["b"]);
                Ok(limits)
            }
            Err(Failure::Told { message, .. }) => Err(message),
            Err(other) => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn each_limit_that_is_named_is_there_once() {
        let one = |name| Limit::new(name).concurrency(1);
        let minute = Duration::from_secs(60);
        assert_eq!(limits(&[]), Ok(vec![one("x"), one("y")]));
        assert_eq!(limits(&["y=60/1m"]), Ok(vec![one("x"), Limit::new("y").rate(60, minute)]));
        let all = [Limit::new("x").concurrency(4).rate(60, minute).burst(10), Limit::new("y").concurrency(7)];
        assert_eq!(limits(&["x=4,60/1m+10", "y=7"]), Ok(all.to_vec()));
        assert_eq!(limits(&["x=60/1m + 10, 4", "y= 7"]), Ok(all.to_vec()));
    }

    #[test]
    fn what_is_no_limit_is_told() {
        for wrong in ["x", "x=", "x=many", "x=4,5", "x=1/1m,1/1m", "x=1/minute", "x=/1m", "x=1/1m+", "x=-1"] {
            assert!(
                limits(&[wrong])
                    .unwrap_err()
                    .starts_with(&format!("{wrong:?} is no limit; write NAME=60/1m")),
                "{wrong}"
            );
        }
        assert_eq!(
            limits(&["z=4"]).unwrap_err(),
            "no step keeps to the limit z; the limits that are named are: x, y"
        );
        assert_eq!(limits(&["x=4", "x=5"]).unwrap_err(), "the limit x is given twice");
        assert!(limits(&["x=0"]).unwrap_err().contains("\"x\""));
    }
}
