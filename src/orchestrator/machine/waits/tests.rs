use super::super::testing::{at, completed, decide, failed, go, output, types};
use super::super::{Input, Then, accept};
use super::*;
use crate::plan::{Plan, Step};
use std::time::Duration;

/// A plan of steps: those that are called, a sleep, a sleep until a time, and those that await a signal.
pub(in super::super) fn mixed(kinds: &[u8]) -> CheckedPlan {
    let step = |(index, kind): (usize, &u8)| {
        let id = format!("s{index}");
        match kind {
            0 => Step::new(id, || ()).breaker("b"),
            1 => Step::sleep(id, Duration::from_secs(10)),
            2 => Step::sleep_until(id, at(25)),
            _ => Step::wait_for_signal(id, "go").timeout(Duration::from_secs(20)),
        }
    };
    CheckedPlan::new(kinds.iter().enumerate().map(step).collect::<Plan>()).unwrap()
}

fn waiting() -> CheckedPlan {
    mixed(&[1, 3])
}

fn waited(second: u64) -> Input {
    Input::Completed { output: output(), cancelled: false, ahead: Ahead::Wait(at(second)) }
}

#[test]
fn a_wait_begins_with_the_commit_before_it() {
    let plan = mixed(&[1, 2, 3, 0]);
    let first = accept(&plan, Some(Ahead::Wait(at(5))));
    assert_eq!(types(&first), ["plan.accepted", "plan.started", "task.sleeping"]);
    assert!(matches!(&first.events[2], EventKind::TaskSleeping { until, .. } if *until == at(15)));
    assert_eq!((first.to.state, first.to.attempt), (RunState::Sleeping, 1));
    assert_eq!((first.to.step.since, first.to.step.until), (Some(at(5)), Some(at(15))));
    // Also where its time has passed.
    let second = go(&plan, first.to, waited(30));
    assert_eq!((types(&second), second.to.cursor), (vec!["task.completed", "task.sleeping"], 1));
    assert_eq!((second.to.step.since, second.to.step.until), (Some(at(30)), Some(at(25))));
    let third = go(&plan, second.to, waited(40));
    assert_eq!(
        (types(&third), third.to.state),
        (vec!["task.completed", "task.awaiting_signal"], RunState::AwaitingSignal)
    );
    assert!(matches!(
        &third.events[1],
        EventKind::TaskAwaitingSignal { signal, until: Some(until), .. } if **signal == *"go" && *until == at(60)
    ));
    let last = go(&plan, third.to, completed(false));
    assert_eq!((types(&last), last.to.attempt), (vec!["task.completed", "task.started"], 1));
    assert_eq!((last.to.step.since, last.to.step.until), (None, None));
}

/// Whoever has not asked the clock is told to look again.
#[test]
fn a_wait_is_never_taken_for_a_call() {
    let plan = waiting();
    let first = accept(&plan, Some(Ahead::Go));
    assert_eq!(
        (types(&first), first.to.state, first.to.attempt),
        (vec!["plan.accepted", "plan.started"], RunState::Running, 0)
    );
    let at_step = Position { step: StepProgress { since: Some(at(1)), ..first.to.step }, ..first.to };
    let begun = go(&plan, at_step, Input::Proceed(Ahead::Wait(at(2)), at(2)));
    assert_eq!(
        (types(&begun), begun.to.step.since, begun.to.step.until),
        (vec!["task.sleeping"], Some(at(1)), Some(at(12)))
    );
}

#[test]
fn a_wait_goes_on_after_a_pause_for_the_rest_of_it() {
    let plan = waiting();
    let asleep = accept(&plan, Some(Ahead::Wait(at(0)))).to;
    let paused = go(&plan, asleep, Input::Pause);
    assert_eq!(
        (types(&paused), paused.to.state, paused.to.step),
        (vec!["plan.paused"], RunState::Paused, asleep.step)
    );
    let queued = go(&plan, paused.to, Input::Unpause).to;
    for second in [4, 99] {
        // However long that was: what it waited for is looked at when it waits again.
        let again = go(&plan, queued, Input::Start(Ahead::Go, at(second)));
        assert_eq!((types(&again), again.to), (vec!["task.sleeping"], asleep));
    }
    let cut = go(&plan, asleep, Input::Interrupt { reason: Arc::from("no callable") }).to;
    let on = go(&plan, cut, Input::Resume(Ahead::Wait(at(7)), at(7)));
    assert_eq!((types(&on), on.to), (vec!["plan.resumed", "task.sleeping"], asleep));
    assert_eq!(types(&go(&plan, asleep, Input::Cancel)), ["task.cancelled", "plan.cancelled"]);
    // Told to pause before it came to it: the wait begins behind the pause.
    let pausing = mixed(&[0, 1]);
    let running = go(&pausing, accept(&pausing, Some(Ahead::Go)).to, Input::Pause).to;
    let paused = go(&pausing, running, completed(false)).to;
    assert_eq!((paused.state, paused.attempt), (RunState::Paused, 0));
    let queued = go(&pausing, paused, Input::Unpause).to;
    let begun = go(&pausing, queued, Input::Start(Ahead::Wait(at(50)), at(50)));
    assert_eq!((types(&begun), begun.to.step.until), (vec!["task.sleeping"], Some(at(60))));
}

#[test]
fn what_follows_from_a_signal_that_does_not_come() {
    let plan = mixed(&[3, 0]);
    let waits = accept(&plan, Some(Ahead::Wait(at(0)))).to;
    let aborted = go(&plan, waits, failed(Then::Abort));
    assert_eq!(types(&aborted), ["task.failed", "escalation.needed", "plan.failed"]);
    let skipped = go(&plan, waits, failed(Then::Continue(Ahead::Go)));
    assert_eq!(types(&skipped), ["task.failed", "escalation.needed", "task.skipped", "task.started"]);
    let fallback = go(&plan, waits, failed(Then::Fallback));
    assert!(matches!(fallback.events[2], EventKind::TaskStarted { fallback: true, attempt: 2, .. }));
    // It is called like any other, after a crash too.
    let again =
        decide(&plan, fallback.to, fallback.failure.as_ref(), Input::Resume(Ahead::Go, at(90))).unwrap();
    assert_eq!(types(&again), ["plan.resumed", "task.started"]);
    assert!(begun(&plan, waits).is_some() && begun(&plan, fallback.to).is_none());
}
