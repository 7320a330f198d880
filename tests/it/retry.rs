//! Promise 10: a step that fails is tried again as its policy says, and at the very time that it says.

use std::time::{Duration, Instant};

use actix::prelude::*;
use lunacore::limits::{MAX_RETRY_ATTEMPTS, MAX_WAIT};
use lunacore::testing::{Fault, FaultyStore};
use lunacore::*;
use proptest::prelude::*;

use crate::support::*;
use crate::timed::*;

fn hourly() -> Retry {
    Retry::fixed(3_600 * SECOND)
}

/// A step whose every attempt ends with what this makes of its number.
fn failing(error: impl Fn(u32) -> StepError + Send + Sync + 'static) -> Step {
    Step::new("a", move |ctx: StepContext| {
        let error = error(ctx.attempt());
        async move { Err::<(), _>(error) }
    })
}

fn down() -> Step {
    failing(|_| "down".into())
}

// Delays.

#[actix::test]
async fn a_delay_grows_by_its_factor_up_to_the_longest_and_each_attempt_is_told() {
    let actors = life().await;
    let retry = Retry::exponential(SECOND).factor(3.0).max_delay(5 * SECOND).max_attempts(5);
    let step = flaky("a", 3).retry(retry.jitter(Jitter::None));
    assert_eq!(execute(&actors, plan([step])).await.unwrap(), ["up"]);
    assert_eq!(
        told(&actors).await,
        [
            "0 task.started a 1",
            "0 task.failed a 1 error, again at 1000",
            "1000 task.started a 2",
            "1000 task.failed a 2 error, again at 4000",
            "4000 task.started a 3",
            "4000 task.failed a 3 error, again at 9000",
            "9000 task.started a 4",
            "9000 task.completed a",
            "9000 plan.completed"
        ]
    );
}

#[actix::test]
async fn the_last_attempt_fails_the_plan_with_its_own_error() {
    let actors = life().await;
    let step = failing(|attempt| format!("down {attempt}").into()).retry(Retry::fixed(SECOND));
    let error = execute(&actors, plan([step])).await.unwrap_err();
    assert_eq!(chain(&error), ["step 0 (\"a\") of run r failed at attempt 3", "down 3"]);
    assert_eq!(
        told(&actors).await,
        [
            "0 task.started a 1",
            "0 task.failed a 1 error, again at 1000",
            "1000 task.started a 2",
            "1000 task.failed a 2 error, again at 2000",
            "2000 task.started a 3",
            "2000 task.failed a 3 error",
            "2000 plan.failed a error"
        ]
    );
}

#[actix::test]
async fn without_a_policy_a_step_is_tried_once() {
    for step in [down(), down().retry(Retry::none()), down().retry_if(|_| true)] {
        let actors = life().await;
        let (kind, error, attempt) = failed(execute(&actors, plan([step])).await);
        assert_eq!((kind, error.to_string(), attempt), (FailureKind::Error, "down".to_owned(), 1));
        assert_eq!(
            told(&actors).await,
            ["0 task.started a 1", "0 task.failed a 1 error", "0 plan.failed a error"]
        );
    }
}

#[actix::test]
async fn each_step_counts_its_own_attempts() {
    let actors = life().await;
    let retry = Retry::fixed(SECOND).max_attempts(2);
    let steps = [flaky("a", 1).retry(retry.clone()), flaky("b", 1).retry(retry)];
    assert_eq!(execute(&actors, plan(steps)).await.unwrap(), ["up", "up"]);
    let started: Vec<_> =
        told(&actors).await.into_iter().filter(|told| told.contains("task.started")).collect();
    assert_eq!(
        started,
        ["0 task.started a 1", "1000 task.started a 2", "1000 task.started b 1", "2000 task.started b 2"]
    );
}

/// The delays before the second and the third attempt, in milliseconds.
async fn delays(retry: Retry, random: f64) -> [u64; 2] {
    let actors = life_with(random).await;
    execute(&actors, plan([down().retry(retry)])).await.unwrap_err();
    let events = actors.memory.send(ReadHistory::new(run_id("r"))).await.unwrap().unwrap();
    let delays: Vec<u64> = events
        .iter()
        .filter_map(|event| match event.kind() {
            EventKind::TaskFailed { next_attempt_at: Some(next), .. } => {
                let micros = next.duration_since(event.timestamp()).unwrap().as_micros();
                Some(u64::try_from(micros / 1_000).unwrap())
            }
            _ => None,
        })
        .collect();
    delays.try_into().unwrap()
}

#[actix::test]
async fn jitter_takes_of_a_delay_what_the_random_number_says() {
    let retry = || Retry::exponential(8 * SECOND);
    for (random, full, equal) in [
        (0.0, [0, 0], [4_000, 8_000]),
        (0.25, [2_000, 4_000], [5_000, 10_000]),
        (0.5, [4_000, 8_000], [6_000, 12_000]),
        (1.0, [8_000, 16_000], [8_000, 16_000]),
    ] {
        assert_eq!(delays(retry(), random).await, full, "Full is the default, {random}");
        assert_eq!(delays(retry().jitter(Jitter::Full), random).await, full, "{random}");
        assert_eq!(delays(retry().jitter(Jitter::Equal), random).await, equal, "{random}");
        assert_eq!(delays(retry().jitter(Jitter::None), random).await, [8_000, 16_000], "{random}");
        assert_eq!(delays(Retry::fixed(8 * SECOND), random).await, [8_000, 8_000], "{random}");
    }
}

#[actix::test]
async fn no_jitter_exceeds_the_longest_delay_whatever_the_random_source_says() {
    for jitter in [Jitter::Full, Jitter::Equal, Jitter::None] {
        for random in [1.0, 7.0, f64::INFINITY, f64::NAN] {
            let retry = Retry::exponential(8 * SECOND).max_delay(10 * SECOND).jitter(jitter);
            assert_eq!(delays(retry, random).await, [8_000, 10_000], "{jitter:?} {random}");
        }
    }
}

#[actix::test]
async fn a_day_of_retries_takes_a_moment() {
    let (actors, began) = (life().await, Instant::now());
    let step = flaky("a", 24).retry(hourly().max_attempts(25));
    assert_eq!(execute(&actors, plan([step])).await.unwrap(), ["up"]);
    assert_eq!(told(&actors).await.last().unwrap(), "86400000 plan.completed");
    assert!(began.elapsed() < 20 * SECOND);
}

#[actix::test]
async fn within_its_budget_another_attempt_may_start_and_behind_it_none() {
    for (budget, attempts) in [(3_999, 4), (4_000, 5), (4_001, 5)] {
        let actors = life().await;
        let retry = Retry::fixed(SECOND).max_attempts(10).budget(Duration::from_millis(budget));
        let (kind, _, attempt) = failed(execute(&actors, plan([down().retry(retry)])).await);
        assert_eq!((kind, attempt), (FailureKind::Error, attempts), "{budget}");
        let last = format!("{} plan.failed a error", (attempts - 1) * 1_000);
        assert_eq!(told(&actors).await.last(), Some(&last), "what cannot start is not waited for");
    }
}

#[actix::test]
async fn a_budget_counts_from_the_steps_own_first_attempt() {
    let actors = life().await;
    let retry = Retry::fixed(SECOND).max_attempts(10).budget(SECOND);
    let wait = Step::new("w", || tokio::time::sleep(5 * SECOND));
    let steps = [wait, Step::new("a", flakily(1)).retry(retry)];
    assert_eq!(execute(&actors, plan(steps)).await.unwrap()[1], "up");
}

// What decides.

#[actix::test]
async fn a_fatal_error_is_not_retried() {
    let actors = life().await;
    let step = failing(|attempt| match attempt {
        1 => "down".into(),
        _ => StepError::fatal("wrong"),
    });
    let (_, error, attempt) = failed(execute(&actors, plan([step.retry(hourly().max_attempts(9))])).await);
    assert_eq!((error.to_string(), error.is_fatal(), attempt), ("wrong".to_owned(), true, 2));
}

#[actix::test]
async fn an_error_that_says_when_is_retried_then_and_no_sooner_or_later() {
    // Longer than the longest delay, and shorter than the first; without jitter.
    for wait in [100_000, 10] {
        let actors = life_with(0.0).await;
        let step = Step::new("a", move |ctx: StepContext| async move {
            let wait = Duration::from_millis(wait);
            if ctx.attempt() == 1 { Err(StepError::retry_after("busy", wait)) } else { Ok("up") }
        });
        let retry = Retry::exponential(SECOND).max_delay(2 * SECOND).max_attempts(2);
        assert_eq!(execute(&actors, plan([step.retry(retry)])).await.unwrap(), ["up"]);
        assert_eq!(
            told(&actors).await[1..3],
            [format!("0 task.failed a 1 error, again at {wait}"), format!("{wait} task.started a 2")]
        );
    }
}

#[actix::test]
async fn an_error_that_says_when_gets_no_more_attempts_and_no_more_time_than_the_policy_has() {
    let busy = |wait: Duration| failing(move |_| StepError::retry_after("busy", wait));
    let policies = [
        (busy(SECOND).retry(Retry::none()), 1),
        (busy(SECOND).retry(Retry::fixed(MS).max_attempts(2)), 2),
        (busy(SECOND).retry(Retry::fixed(MS).max_attempts(9).budget(2_500 * MS)), 3),
        (busy(MAX_WAIT + MS).retry(hourly()), 1),
    ];
    for (step, attempts) in policies {
        let (_, error, attempt) = failed(execute(&life().await, plan([step])).await);
        assert_eq!((error.to_string(), attempt), ("busy".to_owned(), attempts));
    }
}

#[actix::test]
async fn a_closure_may_say_that_an_error_is_not_retried() {
    let actors = life().await;
    let step = failing(|attempt| if attempt < 3 { "busy".into() } else { "wrong".into() });
    let step = step.retry(hourly().max_attempts(9)).retry_if(|error| error.to_string() == "busy");
    let (_, error, attempt) = failed(execute(&actors, plan([step])).await);
    assert_eq!((error.to_string(), attempt), ("wrong".to_owned(), 3));
}

#[actix::test]
async fn a_closure_that_panics_means_no_retry_and_harms_nobody() {
    let actors = life().await;
    let step = down().retry(hourly()).retry_if(|_| panic!("what now?"));
    let (kind, error, attempt) = failed(execute(&actors, plan([step])).await);
    assert_eq!((kind, error.to_string(), attempt), (FailureKind::Error, "down".to_owned(), 1));
    assert_eq!(
        told(&actors).await,
        ["0 task.started a 1", "0 task.failed a 1 error", "0 plan.failed a error"]
    );
    assert_eq!(execute(&actors, ExecutePlan::new([flaky("b", 0)])).await.unwrap(), ["up"]);
}

/// A step that panics at its first attempt, hangs at its second, and returns at its third.
fn moody() -> Step {
    let step = Step::new("a", |ctx: StepContext| async move {
        match ctx.attempt() {
            1 => panic!("a bug"),
            2 => std::future::pending().await,
            _ => "up",
        }
    });
    step.timeout(10 * SECOND)
}

#[actix::test]
async fn a_panic_and_a_timeout_are_retried_only_if_the_policy_says_so() {
    let retry = || Retry::fixed(SECOND);
    let policies = [
        (retry(), FailureKind::Panic, 1),
        (retry().on_timeout(true), FailureKind::Panic, 1),
        (retry().on_panic(true), FailureKind::Timeout, 2),
    ];
    for (retry, kind, attempts) in policies {
        let (ended, _, attempt) = failed(execute(&life().await, plan([moody().retry(retry)])).await);
        assert_eq!((ended, attempt), (kind, attempts));
    }
    let actors = life().await;
    let step = moody().retry(retry().on_panic(true).on_timeout(true));
    assert_eq!(execute(&actors, plan([step])).await.unwrap(), ["up"]);
    assert_eq!(
        told(&actors).await[..5],
        [
            "0 task.started a 1",
            "0 task.failed a 1 panic, again at 1000",
            "1000 task.started a 2",
            "11000 task.failed a 2 timeout, again at 12000",
            "12000 task.started a 3"
        ]
    );
}

#[actix::test]
async fn a_result_that_cannot_be_stored_is_not_retried() {
    let step = Step::new("a", || async { f64::NAN }).retry(hourly().on_panic(true).on_timeout(true));
    let (kind, _, attempt) = failed(execute(&life().await, plan([step])).await);
    assert_eq!((kind, attempt), (FailureKind::Output, 1));
}

// Policies that cannot be.

#[actix::test]
async fn a_policy_that_cannot_be_refuses_the_plan_and_says_what_to_do() {
    let second = || Retry::exponential(SECOND);
    let invalid = [
        (
            second().max_attempts(0),
            "max_attempts is 0; it counts the first attempt too, so give it 1 for no retry",
        ),
        (
            second().max_attempts(MAX_RETRY_ATTEMPTS + 1),
            "max_attempts is 10001, more than 10000; let it wait longer between fewer attempts",
        ),
        (second().factor(0.5), "the factor is 0.5; give it a finite number of at least 1"),
        (second().factor(f64::NAN), "the factor is NaN; give it a finite number of at least 1"),
        (second().factor(f64::INFINITY), "the factor is inf; give it a finite number of at least 1"),
        (
            Retry::exponential(Duration::ZERO),
            "the first delay is 0s, which a factor of 2 does not make longer; give it a longer one, or use Retry::fixed",
        ),
        (
            Retry::fixed(MAX_WAIT + SECOND),
            "the delay is 1year 18h 1s, more than 366 days; was another unit meant?",
        ),
        (
            second().max_delay(500 * MS),
            "max_delay is 500ms, shorter than the first delay of 1s; raise the one or lower the other",
        ),
        (
            second().budget(Duration::ZERO),
            "the budget is 0s, in which no further attempt can start; give it a longer one, or use Retry::none",
        ),
    ];
    let actors = life().await;
    let mut events = watch(&actors.bus).await;
    for (retry, why) in invalid {
        let steps = [flaky("a", 0), flaky("b", 0).retry(retry)];
        let error = execute(&actors, plan(steps)).await.unwrap_err();
        assert!(matches!(&error, PlanError::Invalid(InvalidPlan::Policy { index: 1, .. })), "{error:?}");
        assert_eq!(chain(&error), ["the policy of step 1 (\"b\") is not valid", why]);
        assert_untouched(&actors, &mut events).await;
    }
}

// While it waits.

#[actix::test]
async fn a_cancellation_ends_the_wait_at_once() {
    let actors = life().await;
    let run = submit(&actors, plan([flaky("z", 0), down().retry(hourly()), flaky("b", 0)])).await;
    tokio::time::sleep(1_800 * SECOND).await;
    assert_eq!(cancel(&actors, "r").await, CancelOutcome::Cancelled);
    match run.await {
        Err(PlanError::Cancelled { completed, .. }) => assert_eq!(completed, ["up"]),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        told(&actors).await[2..],
        [
            "0 task.started a 1",
            "0 task.failed a 1 error, again at 3600000",
            "1800000 task.cancelled a 1",
            "1800000 plan.cancelled"
        ]
    );
    tokio::time::sleep(7_200 * SECOND).await;
    assert_eq!(told(&actors).await.len(), 6, "nothing comes after its end");
}

#[actix::test]
async fn status_tells_until_when_a_run_backs_off_and_why() {
    let actors = life().await;
    let run = submit(&actors, plan([flaky("a", 1).retry(hourly())])).await;
    tokio::time::sleep(SECOND).await;
    let info = status(&actors, "r").await;
    assert_eq!((info.state, info.until), (RunState::BackingOff, Some(at(3_600_000))));
    let failure = info.failure.unwrap();
    assert_eq!((failure.kind, &*failure.message), (FailureKind::Error, "down"));
    let current = info.current.unwrap();
    assert_eq!((&*current.step_id, current.index, current.attempt, current.since), ("a", 0, 1, at(0)));
    let listed = actors.orchestrator.send(ListPlans::new()).await.unwrap().unwrap();
    assert_eq!((listed[0].state, listed[0].until), (RunState::BackingOff, Some(at(3_600_000))));
    assert_eq!(RunState::BackingOff.as_str(), "backing_off");

    let stored = actors.memory.send(GetRun(run_id("r"))).await.unwrap().unwrap().unwrap();
    assert_eq!((stored.state, stored.step.until), (RunState::BackingOff, Some(at(3_600_000))));
    run.await.unwrap();
    let info = status(&actors, "r").await;
    assert_eq!((info.state, info.until, info.failure), (RunState::Completed, None, None));
}

/// A life that dies three seconds into the wait of a policy with jitter: its delay is a quarter of a minute.
async fn dies_while_it_waits(disk: &Disk, clock: &Clock, step: Step) {
    let store = FaultyStore::new(disk.open().await, Fault::Die, 3);
    let actors = live(store, clock, RegistryAllocator::new().register("flaky", flakily(1)), 0.25);
    let run = submit(&actors, plan([step])).await;
    tokio::time::sleep(3 * SECOND).await;
    assert_eq!(status(&actors, "r").await.until, Some(at(15_000)));
    bury(actors).await;
    assert!(matches!(run.await, Err(PlanError::Memory { .. })));
}

fn patient() -> Step {
    Step::named("a").uses("flaky").retry(Retry::exponential(60 * SECOND))
}

#[actix::test]
async fn a_restart_waits_only_for_the_rest_of_a_delay() {
    for disk in Disk::each() {
        let clock = virtual_time().await;
        dies_while_it_waits(&disk, &clock, patient()).await;
        // Of what is random another process knows nothing.
        let registry = RegistryAllocator::new().register("flaky", flakily(1));
        let actors = live(disk.open().await, &clock, registry, 1.0);
        let info = reaches(&actors, "r", RunState::BackingOff).await;
        assert_eq!(info.until, Some(at(15_000)));
        assert_eq!(info.failure.unwrap().message, "down");
        tokio::time::sleep(60 * SECOND).await;
        assert_eq!(
            told(&actors).await,
            [
                "0 task.started a 1",
                "0 task.failed a 1 error, again at 15000",
                "3000 plan.resumed 0",
                "3000 task.waiting a",
                "15000 task.started a 2",
                "15000 task.completed a",
                "15000 plan.completed"
            ]
        );
        bury(actors).await;
    }
}

#[actix::test]
async fn a_restart_behind_the_time_of_the_next_attempt_makes_it_at_once() {
    for disk in Disk::each() {
        let clock = virtual_time().await;
        dies_while_it_waits(&disk, &clock, patient()).await;
        tokio::time::advance(20 * SECOND).await;
        let registry = RegistryAllocator::new().register("flaky", flakily(1));
        let actors = live(disk.open().await, &clock, registry, 1.0);
        reaches(&actors, "r", RunState::Completed).await;
        assert_eq!(told(&actors).await[2..4], ["23000 plan.resumed 0", "23000 task.started a 2"]);
        bury(actors).await;
    }
}

#[actix::test]
async fn attempts_and_budget_are_counted_across_a_restart() {
    for disk in Disk::each() {
        let clock = virtual_time().await;
        let step = || Step::named("a").uses("flaky").retry(Retry::fixed(15 * SECOND).budget(29 * SECOND));
        dies_while_it_waits(&disk, &clock, step()).await;
        let registry = RegistryAllocator::new().register("flaky", flakily(9));
        let actors = live(disk.open().await, &clock, registry, 1.0);
        let (_, _, attempt) = failed(execute(&actors, plan([step()])).await);
        assert_eq!(attempt, 2);
        assert_eq!(told(&actors).await.last().unwrap(), "15000 plan.failed a error");
        bury(actors).await;
    }
}

#[actix::test]
async fn a_closure_that_decides_is_missed_by_name_and_its_run_goes_on_when_the_plan_is_sent() {
    for disk in Disk::each() {
        let clock = virtual_time().await;
        let step = || patient().retry_if(|_| true);
        dies_while_it_waits(&disk, &clock, step()).await;
        let registry = RegistryAllocator::new().register("flaky", flakily(1));
        let actors = live(disk.open().await, &clock, registry, 1.0);
        let info = reaches(&actors, "r", RunState::Interrupted).await;
        let reason = "step 0 (\"a\") decided about retries by a closure, which cannot be stored; \
                      send its plan again with this run id";
        assert_eq!(info.reason.as_deref(), Some(reason));
        assert_eq!(execute(&actors, plan([step()])).await.unwrap(), ["up"]);
        assert_eq!(
            told(&actors).await[2..6],
            [
                format!("3000 plan.interrupted: {reason}"),
                "3000 plan.resumed 0".to_owned(),
                "3000 task.waiting a".to_owned(),
                "15000 task.started a 2".to_owned()
            ]
        );
        bury(actors).await;
    }
}

// A model of it all.

/// How an attempt ends, after its work.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Ok,
    Err,
    Fatal,
    After(u64),
    Panic,
    Hang,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Handles {
    Abort,
    Continue,
    Fallback,
    BrokenFallback,
}

/// A policy, in milliseconds; and what its step does. Behind the script's end every attempt fails.
#[derive(Debug, Clone)]
struct Case {
    delay: u64,
    factor: u32,
    max_delay: Option<u64>,
    jitter: Jitter,
    max_attempts: u32,
    budget: Option<u64>,
    on_panic: bool,
    on_timeout: bool,
    /// Of the random source, in quarters.
    random: u64,
    /// What a closure says about every error, if there is one.
    retry_if: Option<bool>,
    timeout: Option<u64>,
    total: Option<u64>,
    deadline: Option<u64>,
    handles: Handles,
    escalates: bool,
    script: Vec<(u64, End)>,
}

impl Case {
    fn nth(&self, attempt: u32) -> (u64, End) {
        match self.script.get(attempt as usize - 1) {
            // It would hang for ever.
            Some((work, End::Hang)) if self.timeout.or(self.total).or(self.deadline).is_none() => {
                (*work, End::Err)
            }
            Some(nth) => *nth,
            None => (0, End::Err),
        }
    }

    fn wait(&self, attempt: u32) -> u64 {
        let longest = self.max_delay.unwrap_or(60_000.max(self.delay));
        let full = (self.delay * u64::from(self.factor).pow(attempt - 1)).min(longest);
        match self.jitter {
            Jitter::Full => full * self.random / 4,
            Jitter::Equal => full / 2 + full * self.random / 8,
            _ => full,
        }
    }

    /// When an attempt is over that starts now, and what sort of failure that would be.
    fn attempt(&self, attempt: u32, now: u64) -> (u64, &'static str) {
        // The first limit, and of several the one that means most.
        let limits = [
            (self.deadline, "deadline"),
            (self.total, "total_timeout"),
            (self.timeout.map(|timeout| now + timeout), "timeout"),
        ];
        let mut first: Option<(u64, &'static str)> = None;
        for (limit, name) in limits {
            if let Some(limit) = limit
                && first.is_none_or(|(earliest, _)| limit < earliest)
            {
                first = Some((limit, name));
            }
        }
        let (work, end) = self.nth(attempt);
        match (end, first) {
            (End::Hang, Some(limit)) => limit,
            (_, Some(limit)) if now + work > limit.0 => limit,
            (End::Panic, _) => (now + work, "panic"),
            _ => (now + work, "error"),
        }
    }

    /// How long the next attempt is waited for after one that failed now, if there is one.
    fn again(&self, attempt: u32, kind: &str, now: u64) -> Option<u64> {
        let own = matches!(kind, "error" | "panic");
        let wait = match self.nth(attempt).1 {
            _ if kind == "deadline" || kind == "total_timeout" || attempt == self.max_attempts => None,
            End::Fatal if own => None,
            End::After(wait) if own => Some(wait),
            _ if kind == "panic" && !self.on_panic || kind == "timeout" && !self.on_timeout => None,
            _ => Some(self.wait(attempt)),
        };
        let in_time = |limit: Option<u64>, wait: u64| limit.is_none_or(|limit| now + wait < limit);
        wait.filter(|wait| self.budget.is_none_or(|budget| now + wait <= budget))
            .filter(|wait| in_time(self.total, *wait) && in_time(self.deadline, *wait))
            .filter(|_| self.retry_if != Some(false))
    }

    /// What the run must say, and come to.
    fn expected(&self) -> (Vec<String>, String) {
        let (mut said, mut now, mut attempt) = (Vec::new(), 0, 1);
        loop {
            said.push(format!("{now} task.started a {attempt}"));
            let end = self.nth(attempt).1;
            let (over, kind) = self.attempt(attempt, now);
            now = over;
            if end == End::Ok && kind == "error" {
                said.push(format!("{now} task.completed a"));
                return self.goes_on(said, now, "\"up\"");
            }
            if let Some(wait) = self.again(attempt, kind, now) {
                said.push(format!("{now} task.failed a {attempt} {kind}, again at {}", now + wait));
                now += wait;
                attempt += 1;
                continue;
            }
            said.push(format!("{now} task.failed a {attempt} {kind}"));
            if self.escalates {
                said.push(format!("{now} escalation.needed a"));
            }
            let handles = if kind == "deadline" { Handles::Abort } else { self.handles };
            match handles {
                Handles::Abort => {
                    said.push(format!("{now} plan.failed a {kind}"));
                    return (said, format!("{kind} {attempt}"));
                }
                Handles::Continue => {
                    said.push(format!("{now} task.skipped a"));
                    return self.goes_on(said, now, "null");
                }
                Handles::Fallback | Handles::BrokenFallback => {
                    attempt += 1;
                    said.push(format!("{now} task.started a {attempt} fallback"));
                    if self.deadline == Some(now) {
                        said.push(format!("{now} task.failed a {attempt} deadline"));
                        said.push(format!("{now} plan.failed a deadline"));
                        return (said, format!("deadline {attempt}"));
                    }
                    if self.handles == Handles::Fallback {
                        said.push(format!("{now} task.completed a"));
                        return self.goes_on(said, now, &format!("\"{kind}\""));
                    }
                    said.push(format!("{now} task.failed a {attempt} error"));
                    said.push(format!("{now} plan.failed a error"));
                    return (said, format!("error {attempt}"));
                }
            }
        }
    }

    fn goes_on(&self, mut said: Vec<String>, now: u64, result: &str) -> (Vec<String>, String) {
        if self.deadline != Some(now) {
            let rest = ["task.started b 1", "task.completed b", "plan.completed"];
            said.extend(rest.map(|event| format!("{now} {event}")));
            return (said, format!("[{result},{result}]"));
        }
        // The step was done at the very last moment, and the next comes too late.
        said.push(format!("{now} task.started b 1"));
        said.push(format!("{now} task.failed b 1 deadline"));
        said.push(format!("{now} plan.failed b deadline"));
        (said, "deadline 1".to_owned())
    }

    fn plan(&self) -> ExecutePlan {
        let millis = Duration::from_millis;
        let mut retry = Retry::fixed(millis(self.delay)).factor(f64::from(self.factor)).jitter(self.jitter);
        retry = retry.max_attempts(self.max_attempts).on_panic(self.on_panic).on_timeout(self.on_timeout);
        if let Some(max_delay) = self.max_delay {
            retry = retry.max_delay(millis(max_delay));
        }
        if let Some(budget) = self.budget {
            retry = retry.budget(millis(budget));
        }
        let case = self.clone();
        let mut step = Step::new("a", move |ctx: StepContext| {
            let (work, end) = case.nth(ctx.attempt());
            async move {
                if work > 0 {
                    tokio::time::sleep(Duration::from_millis(work)).await;
                }
                match end {
                    End::Ok => Ok("up"),
                    End::Err => Err(StepError::from("down")),
                    End::Fatal => Err(StepError::fatal("down")),
                    End::After(wait) => Err(StepError::retry_after("down", Duration::from_millis(wait))),
                    End::Panic => std::panic::resume_unwind(Box::new("a bug, but not a loud one")),
                    End::Hang => std::future::pending().await,
                }
            }
        });
        step = step.retry(retry).on_failure(match self.handles {
            Handles::Abort => OnFailure::Abort,
            Handles::Continue => OnFailure::Continue,
            Handles::Fallback => {
                OnFailure::fallback(|ctx: StepContext| async move { ctx.failure().unwrap().kind.as_str() })
            }
            Handles::BrokenFallback => OnFailure::fallback(|| async { Err::<(), _>("down too") }),
        });
        if self.escalates {
            step = step.escalate_on_failure();
        }
        if let Some(may) = self.retry_if {
            step = step.retry_if(move |_| may);
        }
        if let Some(timeout) = self.timeout {
            step = step.timeout(millis(timeout));
        }
        if let Some(total) = self.total {
            step = step.total_timeout(millis(total));
        }
        let next = Step::new("b", |ctx: StepContext| async move { ctx.previous::<serde_json::Value>() });
        let plan = plan([step, next]);
        if let Some(deadline) = self.deadline { plan.deadline(millis(deadline)) } else { plan }
    }

    async fn seen(&self) -> (Vec<String>, String) {
        #[allow(clippy::cast_precision_loss, reason = "it is at most 4")]
        let actors = life_with(self.random as f64 / 4.0).await;
        let outcome = match execute(&actors, self.plan()).await {
            Ok(results) => serde_json::Value::from(results).to_string(),
            Err(PlanError::StepFailed { kind, attempt, .. }) => format!("{} {attempt}", kind.as_str()),
            Err(PlanError::DeadlineExceeded { .. }) => {
                let record = actors.memory.send(GetRun(run_id("r"))).await.unwrap().unwrap().unwrap();
                format!("deadline {}", record.attempt)
            }
            Err(error) => panic!("{error:?}"),
        };
        let told = told(&actors).await.into_iter();
        let told = told.map(|told| match told.split_once("escalation.needed a") {
            Some((time, _)) => format!("{time}escalation.needed a"),
            None => told,
        });
        (told.collect(), outcome)
    }
}

/// Multiples of eight, of which every part that is taken is a whole number.
fn eights(range: std::ops::Range<u64>) -> impl Strategy<Value = u64> {
    range.prop_map(|n| n * 8)
}

fn maybe<S: Strategy>(strategy: S) -> impl Strategy<Value = Option<S::Value>>
where
    S::Value: Clone,
{
    proptest::option::weighted(0.4, strategy)
}

fn ends() -> impl Strategy<Value = (u64, End)> {
    let end = prop_oneof![
        2 => Just(End::Ok),
        5 => Just(End::Err),
        1 => Just(End::Fatal),
        2 => eights(0..40).prop_map(End::After),
        2 => Just(End::Panic),
        2 => Just(End::Hang),
    ];
    (prop_oneof![Just(0), eights(0..30)], end)
}

fn cases() -> impl Strategy<Value = Case> {
    let jitter = prop_oneof![Just(Jitter::Full), Just(Jitter::Equal), Just(Jitter::None)];
    let handles = prop_oneof![
        Just(Handles::Abort),
        Just(Handles::Continue),
        Just(Handles::Fallback),
        Just(Handles::BrokenFallback)
    ];
    let delays = (eights(1..30), 1_u32..4, maybe(eights(0..60)), jitter, 0_u64..5);
    let retry = (1_u32..7, maybe(eights(1..200)), any::<bool>(), any::<bool>(), maybe(any::<bool>()));
    let limits = (maybe(eights(1..40)), maybe(eights(1..120)), maybe(eights(1..150)));
    let script = proptest::collection::vec(ends(), 0..7);
    (delays, retry, limits, handles, any::<bool>(), script).prop_map(
        |(delays, retry, limits, handles, escalates, script)| {
            let (delay, factor, more, jitter, random) = delays;
            let (max_attempts, budget, on_panic, on_timeout, retry_if) = retry;
            let (timeout, total, deadline) = limits;
            let max_delay = more.map(|more| delay + more);
            Case {
                delay,
                factor,
                max_delay,
                jitter,
                max_attempts,
                budget,
                on_panic,
                on_timeout,
                random,
                retry_if,
                timeout,
                total,
                deadline,
                handles,
                escalates,
                script,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Number of attempts, delays, what they come to, and what is told of them, whatever the policy and whatever goes wrong.
    #[test]
    fn a_step_does_what_the_model_of_its_policy_does(case in cases()) {
        let seen = System::new().block_on(case.seen());
        prop_assert_eq!(seen, case.expected());
    }
}
