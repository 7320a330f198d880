use super::testing::{at, completed, decide, failed, failure, go, output, types};
use super::waits::tests::mixed;
use super::*;
use crate::plan::{Plan, Step};
use proptest::prelude::*;
use std::time::UNIX_EPOCH;

fn plan(steps: usize) -> CheckedPlan {
    CheckedPlan::new((0..steps).map(|_| Step::unnamed(|| ()).breaker("b")).collect::<Plan>()).unwrap()
}

const PARK: Ahead = Ahead::Park { now: UNIX_EPOCH, until: None, behind: Behind::Breaker };

#[test]
fn one_commit_a_step_with_the_next_start_in_it() {
    let plan = plan(2);
    let first = accept(&plan, Some(Ahead::Go));
    assert_eq!(types(&first), ["plan.accepted", "plan.started", "task.started"]);
    let second = go(&plan, first.to, completed(false));
    assert_eq!(types(&second), ["task.completed", "task.started"]);
    assert_eq!((second.to.state, second.to.cursor), (RunState::Running, 1));
    let last = go(&plan, second.to, completed(false));
    assert_eq!(types(&last), ["task.completed", "plan.completed"]);
    assert_eq!((last.to.state, last.to.cursor), (RunState::Completed, 2));
}

#[test]
fn an_empty_plan_completes_at_once() {
    let plan = plan(0);
    assert_eq!(types(&accept(&plan, Some(Ahead::Go))), ["plan.accepted", "plan.started", "plan.completed"]);
    let queued = accept(&plan, None);
    let started = go(&plan, queued.to, Input::Start(Ahead::Go, at(0)));
    assert_eq!(types(&started), ["plan.started", "plan.completed"]);
}

/// A failed attempt: the failure with the time of the next, then its start.
#[test]
fn a_retry_takes_two_commits() {
    let plan = plan(1);
    let first = accept(&plan, Some(Ahead::Go));
    let waits = go(&plan, first.to, failed(Then::Retry(at(7))));
    assert_eq!(types(&waits), ["task.failed"]);
    assert!(matches!(
        &waits.events[0],
        EventKind::TaskFailed { will_retry: true, next_attempt_at: Some(next), attempt: 1, .. } if *next == at(7)
    ));
    assert_eq!((waits.to.state, waits.to.step.until), (RunState::BackingOff, Some(at(7))));
    assert_eq!(waits.failure, Some(failure()));
    let again = decide(&plan, waits.to, Some(&failure()), Input::Proceed(Ahead::Go, at(7))).unwrap();
    assert_eq!(types(&again), ["task.started"]);
    assert_eq!((again.to.attempt, again.to.step.until, again.failure), (2, None, None));
}

#[test]
fn what_follows_from_the_last_failure() {
    let plan = plan(2);
    let first = accept(&plan, Some(Ahead::Go)).to;
    let aborted = go(&plan, first, failed(Then::Abort));
    assert_eq!(types(&aborted), ["task.failed", "escalation.needed", "plan.failed"]);
    let skipped = go(&plan, first, failed(Then::Continue(Ahead::Go)));
    assert_eq!(types(&skipped), ["task.failed", "escalation.needed", "task.skipped", "task.started"]);
    assert_eq!((skipped.to.cursor, skipped.failure), (1, None));
    let parked = go(&plan, first, failed(Then::Continue(PARK)));
    assert_eq!(types(&parked), ["task.failed", "escalation.needed", "task.skipped", "plan.parked"]);
    let fallback = go(&plan, first, failed(Then::Fallback));
    assert_eq!(types(&fallback), ["task.failed", "escalation.needed", "task.started"]);
    assert!(matches!(fallback.events[2], EventKind::TaskStarted { fallback: true, attempt: 2, .. }));
    // Its failure is known to it for as long as it runs, also after a restart.
    assert_eq!(fallback.failure, Some(failure()));
    let resumed =
        decide(&plan, fallback.to, fallback.failure.as_ref(), Input::Resume(Ahead::Go, at(9))).unwrap();
    assert!(resumed.to.step.fallback && resumed.failure == Some(failure()));
    let retried = go(&plan, first, failed(Then::Retry(at(1))));
    assert_eq!(types(&retried), ["task.failed"], "nobody is told before the last attempt");
}

#[test]
fn a_pause_waits_for_the_attempt_and_for_nothing_else() {
    let plan = plan(3);
    let running = accept(&plan, Some(Ahead::Go)).to;
    let pausing = go(&plan, running, Input::Pause);
    assert_eq!((types(&pausing), pausing.to.state), (vec!["plan.pausing"], RunState::Running));
    assert!(decide(&plan, pausing.to, None, Input::Pause).is_none(), "it is told only once");
    let paused = go(&plan, pausing.to, completed(false));
    assert_eq!(types(&paused), ["task.completed", "plan.paused"]);
    assert_eq!((paused.to.state, paused.to.cursor, paused.to.attempt), (RunState::Paused, 1, 0));
    let queued = go(&plan, paused.to, Input::Unpause);
    assert_eq!((types(&queued), queued.to.state), (vec!["plan.resumed"], RunState::Queued));
    let on = go(&plan, queued.to, Input::Start(Ahead::Go, at(5)));
    assert_eq!(types(&on), ["task.started"], "the plan itself has been started");
    assert_eq!(on.to.step.since, Some(at(5)), "its time begins now");

    // While it backs off: the rest of the delay is waited after it.
    let backing_off = go(&plan, running, failed(Then::Retry(at(100)))).to;
    let paused = decide(&plan, backing_off, Some(&failure()), Input::Pause).unwrap();
    assert_eq!(paused.failure, Some(failure()));
    let queued = go(&plan, paused.to, Input::Unpause).to;
    assert_eq!(go(&plan, queued, Input::Start(Ahead::Go, at(99))).to.state, RunState::BackingOff);
    assert_eq!(go(&plan, queued, Input::Start(Ahead::Go, at(100))).to.state, RunState::Running);

    // In the last step there is nothing left to pause.
    let last = Position { cursor: 2, pausing: true, ..running };
    assert_eq!(go(&plan, last, completed(false)).to.state, RunState::Completed);
    // One that is cancelled meanwhile goes on no more.
    let stopping = go(&plan, pausing.to, Input::Stop).to;
    assert!(stopping.pausing && decide(&plan, stopping, None, Input::Unpause).is_none());
    // Taken back before it came to it.
    let goes_on = go(&plan, pausing.to, Input::Unpause).to;
    assert_eq!(go(&plan, goes_on, completed(false)).to.state, RunState::Running);
}

/// A step with a condition is not told of as started before that is true, and skipping it is a commit of its own.
#[test]
fn a_condition_is_looked_at_before_the_start() {
    let plan = plan(3);
    let since = |decision: Decision| Position {
        step: StepProgress { since: Some(at(0)), ..decision.to.step },
        ..decision.to
    };
    let first = accept(&plan, Some(Ahead::Check));
    assert_eq!(types(&first), ["plan.accepted", "plan.started"]);
    let first = since(first);
    assert_eq!((first.state, first.cursor, first.attempt), (RunState::Running, 0, 0));
    let started = go(&plan, first, Input::Proceed(Ahead::Go, at(1)));
    assert_eq!(
        (types(&started), started.to.attempt, started.to.step.since),
        (vec!["task.started"], 1, Some(at(0)))
    );
    let parked = go(&plan, first, Input::Proceed(PARK, at(1)));
    assert_eq!((types(&parked), parked.to.state), (vec!["plan.parked"], RunState::Parked));
    // It was true when the run was parked.
    let on = go(&plan, parked.to, Input::Proceed(Ahead::Check, at(1)));
    assert_eq!(types(&on), ["task.started"]);
    let skipped = go(&plan, first, Input::Skip(Ahead::Go));
    assert_eq!(
        (types(&skipped), skipped.to.cursor, skipped.to.attempt),
        (vec!["task.skipped", "task.started"], 1, 1)
    );
    assert!(matches!(skipped.events[0], EventKind::TaskSkipped { reason: SkipReason::Condition, .. }));
    let again = go(&plan, first, Input::Skip(Ahead::Check));
    assert_eq!((types(&again), again.to.cursor, again.to.attempt), (vec!["task.skipped"], 1, 0));
    let last = Position { cursor: 2, ..first };
    assert_eq!(types(&go(&plan, last, Input::Skip(Ahead::Go))), ["task.skipped", "plan.completed"]);
    // One that was started is not skipped any more.
    assert!(decide(&plan, started.to, None, Input::Skip(Ahead::Go)).is_none());
    let next =
        go(&plan, started.to, Input::Completed { output: output(), cancelled: false, ahead: Ahead::Check });
    assert_eq!((types(&next), next.to.cursor, next.to.attempt), (vec!["task.completed"], 1, 0));
    let retried = go(&plan, started.to, failed(Then::Retry(at(1)))).to;
    assert_eq!(types(&go(&plan, retried, Input::Proceed(Ahead::Check, at(1)))), ["task.started"]);

    assert_eq!(
        types(&go(&plan, first, failed(Then::Abort))),
        ["task.failed", "escalation.needed", "plan.failed"]
    );
    assert_eq!(types(&go(&plan, first, Input::Cancel)), ["task.cancelled", "plan.cancelled"]);
    assert_eq!(
        types(&go(&plan, since(next), Input::Resume(Ahead::Check, at(9)))),
        ["plan.resumed", "task.recovered"]
    );
    let pausing = go(&plan, first, Input::Pause).to;
    assert_eq!(types(&go(&plan, pausing, Input::Skip(Ahead::Go))), ["task.skipped", "plan.paused"]);
    let paused = go(&plan, pausing, Input::Proceed(Ahead::Go, at(1)));
    assert_eq!((types(&paused), paused.to.cursor), (vec!["plan.paused"], 0));
    let queued = go(&plan, paused.to, Input::Unpause).to;
    assert_eq!(types(&go(&plan, queued, Input::Skip(Ahead::Go))), ["task.skipped", "task.started"]);
    assert!(
        decide(&plan, Position::QUEUED, None, Input::Skip(Ahead::Go)).is_none(),
        "its plan was not started"
    );
}

#[test]
fn every_state_answers_every_input() {
    use RunState::{
        AwaitingSignal, BackingOff, Cancelled, Completed, Failed, Interrupted, Parked, Paused, Queued,
        Running, Sleeping, Stopping,
    };
    let (plan, waits) = (plan(2), mixed(&[1, 3]));
    let inputs: [fn() -> Input; 15] = [
        || Input::Start(Ahead::Go, at(1)),
        || Input::Start(PARK, at(1)),
        || Input::Resume(Ahead::Go, at(1)),
        || Input::Interrupt { reason: Arc::from("no callable") },
        || completed(false),
        || completed(true),
        || failed(Then::Abort),
        || failed(Then::Retry(at(5))),
        || Input::Proceed(Ahead::Go, at(1)),
        || Input::Proceed(PARK, at(1)),
        || Input::Cancel,
        || Input::Stop,
        || Input::Expire(failure()),
        || Input::Pause,
        || Input::Unpause,
    ];
    // One row a state: where each input above leads.
    let [run, back, park, pause, queue, cut, stop, fail, cancel] =
        [Running, BackingOff, Parked, Paused, Queued, Interrupted, Stopping, Failed, Cancelled]
            .map(Some::<RunState>);
    let no = None;
    #[rustfmt::skip]
    let table: [(RunState, bool, [Option<RunState>; 15]); 14] = [
        //                    start       resume intr. completed    failed      proceed     cancel  stop  expire pause  unpause
        (Queued, false,      [run,  park, run,   cut,  no,  no,     fail, back, no,   no,   cancel, no,   no,    pause, no]),
        (Running, false,     [no,   no,   run,   cut,  run, cancel, fail, back, no,   no,   cancel, stop, stop,  run,   no]),
        (BackingOff, false,  [no,   no,   run,   cut,  no,  no,     fail, back, run,  park, cancel, no,   no,    pause, no]),
        (Parked, false,      [no,   no,   no,    cut,  no,  no,     fail, back, run,  park, cancel, no,   no,    pause, no]),
        (Sleeping, false,    [no,   no,   no,    cut,  run,  cancel, fail, back, no,  no,   cancel, no,   no,    pause, no]),
        (AwaitingSignal, false, [no, no,  no,    cut,  run,  cancel, fail, back, no,  no,   cancel, no,   no,    pause, no]),
        (Paused, false,      [no,   no,   no,    cut,  no,  no,     fail, back, no,   no,   cancel, no,   no,    no,    queue]),
        // Cancelled; come to a limit.
        (Stopping, false,    [no,   no,   cancel, no,  cancel, cancel, cancel, cancel, no, no, no,  no,   no,    no,    no]),
        (Stopping, true,     [no,   no,   no,    no,   cancel, cancel, fail, back, no, no,  no,     stop, no,    stop,  no]),
        (Interrupted, false, [no,   no,   run,   cut,  no,  no,     fail, back, no,   no,   cancel, no,   no,    no,    no]),
        (Completed, false, [no; 15]),
        (Failed, false, [no; 15]),
        (Cancelled, false, [no; 15]),
        (Completed, true, [no; 15]),
    ];
    for (state, expired, row) in table {
        let from = Position { state, attempt: 1, expired, ..Position::QUEUED };
        let plan = if matches!(state, Sleeping | AwaitingSignal) { &waits } else { &plan };
        for (index, (input, expected)) in inputs.iter().zip(row).enumerate() {
            let to = decide(plan, from, None, input()).map(|decision| decision.to.state);
            assert_eq!(to, expected, "{state} ({expired}) and input {index}");
        }
    }
}

/// Where a run stands by what was told of it, and by nothing else.
fn replay(events: &[EventKind]) -> (RunState, usize, u32, bool) {
    let (mut state, mut cursor, mut attempt, mut pausing) = (RunState::Queued, 0, 0, false);
    for event in events {
        match event {
            EventKind::TaskStarted { attempt: number, .. } => (state, attempt) = (RunState::Running, *number),
            EventKind::PlanStarted {} => state = RunState::Running,
            EventKind::TaskCompleted { .. } | EventKind::TaskSkipped { .. } => {
                (state, cursor, attempt) = (RunState::Running, cursor + 1, 0);
            }
            EventKind::TaskFailed { will_retry: true, .. } | EventKind::TaskWaiting { .. } => {
                state = RunState::BackingOff;
            }
            EventKind::PlanParked { .. } => state = RunState::Parked,
            EventKind::TaskSleeping { .. } => (state, attempt) = (RunState::Sleeping, 1),
            EventKind::TaskAwaitingSignal { .. } => (state, attempt) = (RunState::AwaitingSignal, 1),
            EventKind::PlanPausing {} => pausing = true,
            EventKind::PlanPaused {} => (state, pausing) = (RunState::Paused, true),
            EventKind::PlanResumed { .. } => {
                pausing = false;
                state = match state {
                    RunState::Paused => RunState::Queued,
                    // It was cut off, and looks where it stands.
                    RunState::Queued | RunState::BackingOff | RunState::Interrupted => RunState::Running,
                    same => same,
                };
            }
            EventKind::PlanStopping {} => state = RunState::Stopping,
            EventKind::PlanInterrupted { .. } => state = RunState::Interrupted,
            EventKind::PlanCompleted {} => (state, pausing) = (RunState::Completed, false),
            EventKind::PlanFailed { .. } => (state, pausing) = (RunState::Failed, false),
            EventKind::PlanCancelled {} => (state, pausing) = (RunState::Cancelled, false),
            _ => {}
        }
    }
    (state, cursor, attempt, pausing)
}

fn any_input() -> impl Strategy<Value = (u8, bool, Ahead, u64)> {
    let ahead = prop_oneof![
        Just(Ahead::Go),
        Just(PARK),
        Just(Ahead::Check),
        (0_u64..50).prop_map(|s| Ahead::Wait(at(s)))
    ];
    (0_u8..14, any::<bool>(), ahead, 0_u64..50)
}

proptest! {
    /// Whatever happens: the cursor only grows, the end is said once and last, no cancelled run does anything more, and what
    /// was told is what is.
    #[test]
    fn any_history_is_orderly(
        steps in proptest::collection::vec(0_u8..4, 0..5),
        inputs in proptest::collection::vec(any_input(), 0..40),
    ) {
        let plan = mixed(&steps);
        let is_wait = |at: Position| steps.get(at.cursor).is_some_and(|kind| *kind > 0);
        let steps = steps.len();
        let mut decision = accept(&plan, None);
        let mut said: Vec<EventKind> = std::mem::take(&mut decision.events);
        let (mut cancelled, mut starts) = (false, 0_usize);
        for (what, flag, ahead, second) in inputs {
            let input = match what {
                0 | 1 => Input::Completed { output: output(), cancelled, ahead },
                // Whoever starts one that waits says when.
                2 if is_wait(decision.to) => Input::Start(Ahead::Wait(at(second)), at(second)),
                2 => Input::Start(ahead, at(second)),
                3 => failed(Then::Abort),
                // One that only waits is not tried again.
                4 if is_wait(decision.to) => Input::Pause,
                4 => failed(Then::Retry(at(second))),
                5 => failed(Then::Fallback),
                6 => failed(Then::Continue(ahead)),
                7 => Input::Proceed(ahead, at(second)),
                8 => Input::Pause,
                9 => Input::Unpause,
                10 => Input::Interrupt { reason: Arc::from("cut") },
                13 => Input::Skip(ahead),
                11 if flag => Input::Expire(failure()),
                11 => { cancelled = true; Input::Stop }
                _ if flag => { cancelled = true; Input::Cancel }
                _ => Input::Resume(ahead, at(second)),
            };
            let was_cancelling = decision.to.state == RunState::Stopping && !decision.to.expired;
            let Some(mut next) = decide(&plan, decision.to, decision.failure.as_ref(), input) else { continue };
            if next.to.state == RunState::Running {
                // As memory does.
                next.to.step.since.get_or_insert(at(0));
            }
            prop_assert!(next.to.cursor >= decision.to.cursor && next.to.cursor <= steps);
            prop_assert!(!decision.to.state.is_final());
            if was_cancelling {
                prop_assert!(next.to.state == RunState::Cancelled, "cancelled, and then {}", next.to.state);
            }
            if next.to.state == RunState::BackingOff {
                prop_assert!(next.failure.is_some() && next.to.step.until.is_some());
            }
            if matches!(next.to.state, RunState::Sleeping | RunState::AwaitingSignal) {
                prop_assert!(is_wait(next.to) && next.to.attempt == 1 && next.to.step.since.is_some());
            }
            // What only waits is never called, but for its fallback.
            let calls = next.to.state == RunState::Running && next.to.attempt > 0;
            prop_assert!(!calls || !is_wait(next.to) || next.to.step.fallback, "{:?}", next.to);
            decision = next;
            starts += decision.events.iter().filter(|kind| matches!(kind, EventKind::TaskStarted { .. })).count();
            said.append(&mut decision.events);
            let Position { state, cursor, attempt, pausing, .. } = decision.to;
            prop_assert_eq!(replay(&said), (state, cursor, attempt, pausing));
        }
        let count = |wanted: &str| said.iter().filter(|kind| kind.event_type() == wanted).count();
        prop_assert_eq!(count("task.completed") + count("task.skipped"), decision.to.cursor);
        prop_assert_eq!(starts, count("task.started"));
        let ends = count("plan.completed") + count("plan.failed") + count("plan.cancelled");
        prop_assert_eq!(ends, usize::from(decision.to.state.is_final()));
        if decision.to.state.is_final() {
            prop_assert!(replay(&said).0.is_final());
        }
    }
}

/// What it parks behind is told, and the one that it does not wait for is not.
#[test]
fn a_run_parks_behind_its_breaker_or_its_limit() {
    let plan = CheckedPlan::new(Plan::new([Step::unnamed(|| ()).breaker("b").limit("l")])).unwrap();
    let [breaker, limit] = [Barrier::Breaker("b".into()), Barrier::Limit("l".into())];
    for (behind, told) in [(Behind::Breaker, breaker), (Behind::Limit, limit)] {
        let parked = accept(&plan, Some(Ahead::Park { now: at(1), until: Some(at(9)), behind }));
        assert_eq!((parked.to.state, parked.to.attempt), (RunState::Parked, 0));
        assert_eq!((parked.to.step.since, parked.to.step.until), (Some(at(1)), Some(at(9))));
        let EventKind::PlanParked { behind, until, .. } = &parked.events[2] else { panic!() };
        assert_eq!((behind, *until), (&told, Some(at(9))));
        let started = go(&plan, parked.to, Input::Proceed(Ahead::Go, at(9)));
        // Its time counts from when it parked.
        assert_eq!((types(&started), started.to.step.since), (vec!["task.started"], Some(at(1))));
    }
}
