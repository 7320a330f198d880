use super::super::{Ahead, Then, accept, decide};
use super::*;
use crate::plan::{IntoOutput, Output, Plan, Step};
use crate::run::FailureKind;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

/// A plan of so many steps, of which these can be undone.
fn plan(steps: usize, undone: &[usize]) -> CheckedPlan {
    let step = |index| {
        let step = Step::unnamed(|| ());
        if undone.contains(&index) { step.compensate(|| ()) } else { step }
    };
    CheckedPlan::new((0..steps).map(step).collect::<Plan>()).unwrap()
}

fn at(second: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(second)
}

fn failure(message: &'static str) -> Arc<StepFailure> {
    Arc::new(StepFailure::record(FailureKind::Error, &std::io::Error::other(message)))
}

fn output() -> Output {
    "x".into_output().unwrap()
}

fn aborted() -> Input {
    Input::Failed { failure: failure("broken"), then: Then::Abort, escalate: false }
}

fn not_undone(then: AfterUndo) -> Input {
    Input::Undo(Undo::Failed { failure: failure("refused"), then })
}

fn types(decision: &Decision) -> Vec<String> {
    let told = |event: &EventKind| match event.task_id() {
        Some(task) => format!("{} {task}", event.event_type()),
        None => event.event_type().to_owned(),
    };
    decision.events.iter().map(told).collect()
}

/// A run whose step at `cursor` is in flight.
fn running(cursor: usize) -> Position {
    Position { state: RunState::Running, cursor, attempt: 1, ..Position::QUEUED }
}

/// What follows where that is what is stored.
fn on(plan: &CheckedPlan, skipped: &[usize], from: &Decision, input: Input) -> Option<Decision> {
    let known = Known { failure: from.failure.as_ref(), undoing: from.undoing.as_ref(), skipped };
    decide(plan, from.to, &known, input)
}

fn first(plan: &CheckedPlan, skipped: &[usize], cursor: usize, input: Input) -> Decision {
    decide(plan, running(cursor), &Known { skipped, ..Known::default() }, input).unwrap()
}

fn begin() -> Input {
    Input::Undo(Undo::Begin(at(1)))
}

fn done() -> Input {
    Input::Undo(Undo::Done)
}

#[test]
fn the_commit_of_the_failure_also_enters_compensating() {
    let plan = plan(4, &[0, 2]);
    let failed = first(&plan, &[], 3, aborted());
    assert_eq!(types(&failed), ["task.failed step_3", "plan.compensating"]);
    assert!(matches!(failed.events[1], EventKind::PlanCompensating { steps: 2 }));
    assert_eq!(failed.to, Position { state: RunState::Compensating, ..running(3) });
    assert_eq!(failed.failure, Some(failure("broken")));
    assert_eq!(failed.undoing.as_deref(), Some(&Undoing::new(2, false)));
    let cancelled = first(&plan, &[], 3, Input::Cancel);
    assert_eq!(types(&cancelled), ["task.cancelled step_3", "plan.compensating"]);
    assert_eq!((cancelled.undoing.as_deref(), cancelled.failure), (Some(&Undoing::new(2, true)), None));
    // The step that completes with a cancellation is undone too.
    let completed = Input::Completed { output: output(), cancelled: true, ahead: Ahead::Go };
    let completed = first(&plan, &[], 2, completed);
    assert_eq!(types(&completed), ["task.completed step_2", "plan.compensating"]);
    assert_eq!((completed.to.cursor, completed.undoing.unwrap().step), (3, 2));
}

#[test]
fn nothing_is_undone_where_code_of_the_run_may_be_at_work() {
    let plan = plan(4, &[0, 1, 2]);
    let stuck = Arc::new(StepFailure::record(FailureKind::Abandoned, &std::io::Error::other("stuck")));
    let abandoned = Input::Failed { failure: Arc::clone(&stuck), then: Then::Abort, escalate: false };
    let failed = first(&plan, &[1], 3, abandoned);
    assert_eq!(types(&failed), ["task.failed step_3", "plan.failed step_3"]);
    assert_eq!((failed.to.state, &failed.failure), (RunState::Failed, &Some(Arc::clone(&stuck))));
    let left = [2, 0].map(|step| NotUndone::new(step, Arc::clone(&stuck)));
    let expected = Undoing { failed: left.to_vec(), ..Undoing::new(0, false) };
    assert_eq!(failed.undoing.as_deref(), Some(&expected));
    assert!(on(&plan, &[1], &failed, begin()).is_none());
}

/// Nothing that did nothing is undone.
#[test]
fn without_anything_to_undo_it_ends_as_ever() {
    let plan = plan(3, &[1, 2]);
    for (cursor, skipped) in [(0, &[][..]), (1, &[]), (2, &[1]), (3, &[1, 2])] {
        let position = Position { state: RunState::Paused, pausing: true, ..running(cursor) };
        let known = Known { skipped, ..Known::default() };
        let cancelled = decide(&plan, position, &known, Input::Cancel).unwrap();
        assert_eq!((cancelled.to.state, cancelled.undoing.is_none()), (RunState::Cancelled, true));
    }
    assert_eq!(first(&plan, &[1], 2, aborted()).to.state, RunState::Failed);
    assert_eq!(first(&plan, &[2], 2, aborted()).to.state, RunState::Compensating);
    // A plan that completes has nothing to undo.
    let completed = Input::Completed { output: output(), cancelled: true, ahead: Ahead::Go };
    assert_eq!(first(&plan, &[], 2, completed).to.state, RunState::Completed);
}

#[test]
fn every_undo_has_a_commit_before_and_one_behind_it() {
    let plan = plan(4, &[0, 1, 3]);
    let failed = first(&plan, &[1], 3, aborted());
    assert_eq!(failed.undoing.as_ref().unwrap().step, 0, "what was skipped is not undone");
    let failed = first(&plan, &[], 3, aborted());
    let begun = on(&plan, &[], &failed, begin()).unwrap();
    assert_eq!(types(&begun), ["task.compensating step_1"]);
    let undoing = begun.undoing.clone().unwrap();
    assert_eq!((undoing.step, undoing.attempt, undoing.since), (1, 1, Some(at(1))));
    let undone = on(&plan, &[], &begun, done()).unwrap();
    assert_eq!(types(&undone), ["task.compensated step_1"]);
    let undoing = undone.undoing.clone().unwrap();
    assert_eq!((undoing.step, undoing.attempt, undoing.since, &*undoing.undone), (0, 0, None, &[1][..]));
    assert_eq!((undone.to, &undone.failure), (failed.to, &failed.failure), "it stays where it failed");
    let begun = on(&plan, &[], &undone, begin()).unwrap();
    let last = on(&plan, &[], &begun, done()).unwrap();
    assert_eq!(types(&last), ["task.compensated step_0", "plan.compensated"]);
    assert_eq!((last.to.state, last.failure), (RunState::Compensated, Some(failure("broken"))));
    let undoing = last.undoing.unwrap();
    assert_eq!((undoing.step, undoing.attempt, &*undoing.undone), (0, 0, &[1, 0][..]));
}

#[test]
fn what_cannot_be_undone_keeps_nothing_else_from_it() {
    let plan = plan(3, &[0, 1]);
    for (input, end) in [(aborted(), RunState::Failed), (Input::Cancel, RunState::Cancelled)] {
        let begun = on(&plan, &[], &first(&plan, &[], 2, input), begin()).unwrap();
        let waits = on(&plan, &[], &begun, not_undone(AfterUndo::Retry(at(9)))).unwrap();
        assert_eq!(types(&waits), ["task.compensation_failed step_1"]);
        assert!(matches!(
            waits.events[0],
            EventKind::TaskCompensationFailed { will_retry: true, attempt: 1, next_attempt_at: Some(next), .. } if next == at(9)
        ));
        let undoing = waits.undoing.clone().unwrap();
        assert_eq!((undoing.step, undoing.attempt, undoing.until), (1, 1, Some(at(9))));
        let again = on(&plan, &[], &waits, Input::Undo(Undo::Begin(at(9)))).unwrap();
        let undoing = again.undoing.clone().unwrap();
        assert_eq!((undoing.attempt, undoing.until, undoing.since), (2, None, Some(at(1))));
        let left = on(&plan, &[], &again, not_undone(AfterUndo::Next)).unwrap();
        assert!(matches!(
            left.events[0],
            EventKind::TaskCompensationFailed { will_retry: false, attempt: 2, .. }
        ));
        assert_eq!((types(&left).len(), left.to.state), (1, RunState::Compensating));
        let begun = on(&plan, &[], &left, begin()).unwrap();
        let last = on(&plan, &[], &begun, done()).unwrap();
        assert_eq!((last.to.state, last.events.len()), (end, 2));
        let undoing = last.undoing.unwrap();
        assert_eq!(
            (&*undoing.undone, &*undoing.failed),
            (&[0][..], &[NotUndone::new(1, failure("refused"))][..])
        );
    }
}

#[test]
fn code_that_does_not_stop_is_the_end_of_it() {
    let plan = plan(4, &[0, 1, 2]);
    let begun = on(&plan, &[1], &first(&plan, &[1], 3, aborted()), begin()).unwrap();
    let end = on(&plan, &[1], &begun, not_undone(AfterUndo::End)).unwrap();
    assert_eq!(types(&end), ["task.compensation_failed step_2", "plan.failed step_3"]);
    let undoing = end.undoing.unwrap();
    let failed: Vec<usize> = undoing.failed.iter().map(|step| step.step).collect();
    assert_eq!((failed, undoing.attempt, end.to.state), (vec![2, 0], 0, RunState::Failed));
}

#[test]
fn cut_off_it_goes_on_where_it_was() {
    let plan = plan(2, &[0]);
    let begun = on(&plan, &[], &first(&plan, &[], 1, aborted()), begin()).unwrap();
    let resumed = on(&plan, &[], &begun, Input::Resume(Ahead::Go, at(5))).unwrap();
    assert_eq!(types(&resumed), ["plan.resumed", "task.recovered step_0"]);
    assert_eq!((&resumed.undoing, resumed.to, &resumed.failure), (&begun.undoing, begun.to, &begun.failure));
    let cut = on(&plan, &[], &begun, Input::Interrupt { reason: Arc::from("closures") }).unwrap();
    assert_eq!((types(&cut), cut.to.state), (vec!["plan.interrupted".to_owned()], RunState::Interrupted));
    assert_eq!(
        (&cut.reason, &cut.undoing, &cut.failure),
        (&Some(Arc::from("closures")), &begun.undoing, &begun.failure)
    );
    let again = on(&plan, &[], &cut, Input::Resume(Ahead::Go, at(5))).unwrap();
    assert_eq!((again.to.state, &again.undoing), (RunState::Compensating, &begun.undoing));
    let next = on(&plan, &[], &again, begin()).unwrap().undoing.unwrap();
    assert_eq!(next.attempt, 2, "the attempt that was cut off counts");
}

/// An input, and where it leads to.
type Row = (fn() -> Input, [Option<RunState>; 3]);

/// Every other input, in every state that has something to undo, or had.
#[test]
fn it_accepts_nothing() {
    let plan = plan(2, &[0]);
    let inputs: [Row; 17] = {
        use RunState::{Compensated, Compensating, Failed, Interrupted};
        let no = [None; 3];
        [
            // Before the first attempt; while one is in flight; interrupted.
            (begin, [Some(Compensating), Some(Compensating), None]),
            (done, [None, Some(Compensated), None]),
            (|| not_undone(AfterUndo::Next), [None, Some(Failed), None]),
            (|| not_undone(AfterUndo::Retry(at(3))), [None, Some(Compensating), None]),
            (|| not_undone(AfterUndo::End), [None, Some(Failed), None]),
            (|| Input::Resume(Ahead::Go, at(1)), [Some(Compensating); 3]),
            (|| Input::Interrupt { reason: Arc::from("x") }, [Some(Interrupted); 3]),
            (|| Input::Start(Ahead::Go, at(1)), no),
            (|| Input::Completed { output: output(), cancelled: false, ahead: Ahead::Go }, no),
            (|| Input::Skip(Ahead::Go), no),
            (aborted, no),
            (|| Input::Proceed(Ahead::Go, at(1)), no),
            (|| Input::Cancel, no),
            (|| Input::Stop, no),
            (|| Input::Expire(failure("late")), no),
            (|| Input::Pause, no),
            (|| Input::Unpause, no),
        ]
    };
    let entered = first(&plan, &[], 1, aborted());
    let begun = on(&plan, &[], &entered, begin()).unwrap();
    let cut = on(&plan, &[], &begun, Input::Interrupt { reason: Arc::from("x") }).unwrap();
    let over = on(&plan, &[], &begun, done()).unwrap();
    for (index, (input, expected)) in inputs.into_iter().enumerate() {
        for (from, expected) in [&entered, &begun, &cut].into_iter().zip(expected) {
            let to = on(&plan, &[], from, input()).map(|decision| decision.to.state);
            assert_eq!(to, expected, "{} and input {index}", from.to.state);
        }
        assert!(on(&plan, &[], &over, input()).is_none(), "compensated and input {index}");
    }
    // Nor does a run that has nothing to undo hear of undoing.
    for state in [RunState::Running, RunState::Queued, RunState::Failed, RunState::Interrupted] {
        let position = Position { state, ..running(1) };
        for input in [begin(), done(), not_undone(AfterUndo::Next)] {
            assert!(decide(&plan, position, &Known::default(), input).is_none(), "{state}");
        }
    }
}

/// How a run ends that waits or runs: each state leads to undoing.
#[test]
fn every_end_but_completion_leads_to_it() {
    let plan = plan(2, &[0]);
    let expired = |state| Position { state, expired: true, ..running(1) };
    for state in
        [RunState::Queued, RunState::BackingOff, RunState::Parked, RunState::Paused, RunState::Interrupted]
    {
        for input in [Input::Cancel, aborted()] {
            let to = decide(&plan, expired(state), &Known::default(), input).unwrap().to.state;
            assert_eq!(to, RunState::Compensating, "{state}");
        }
        let to = super::super::cancel(&plan, expired(state), &Known::default()).unwrap().to.state;
        assert_eq!(to, RunState::Compensating, "{state}");
    }
    let stopping = Position { state: RunState::Stopping, ..running(1) };
    let completed = || Input::Completed { output: output(), cancelled: true, ahead: Ahead::Go };
    for (from, input) in [
        (stopping, aborted()),
        (stopping, completed()),
        (expired(RunState::Stopping), aborted()),
        (stopping, Input::Resume(Ahead::Go, at(1))),
    ] {
        assert_eq!(decide(&plan, from, &Known::default(), input).unwrap().to.state, RunState::Compensating);
    }
    let stopped = super::super::cancel(&plan, stopping, &Known::default()).unwrap();
    assert_eq!(types(&stopped), ["task.cancelled step_1", "plan.compensating"]);
    assert_eq!(
        super::super::cancel(&plan, Position::QUEUED, &Known::default()).unwrap().to.state,
        RunState::Cancelled
    );
    assert_eq!(accept(&plan, Some(Ahead::Go)).undoing, None);
}

proptest! {
    /// Whatever happens meanwhile: every step that can be undone, and none else, is dealt with once and from the last to the
    /// first; attempts are counted; and the end says what is so.
    #[test]
    fn any_history_of_undoing_is_orderly(
        cursor in 0_usize..6,
        undone in proptest::collection::btree_set(0_usize..6, 0..6),
        skipped in proptest::collection::btree_set(0_usize..6, 0..3),
        cancelled: bool,
        inputs in proptest::collection::vec((0_u8..9, 0_u64..50), 0..60),
    ) {
        let (undone, skipped): (Vec<_>, Vec<_>) = (undone.into_iter().collect(), skipped.into_iter().collect());
        let plan = plan(7, &undone);
        let expected: Vec<usize> =
            undone.iter().copied().filter(|step| *step < cursor && !skipped.contains(step)).rev().collect();
        let mut decision = first(&plan, &skipped, cursor, if cancelled { Input::Cancel } else { aborted() });
        prop_assert_eq!(decision.to.state == RunState::Compensating, !expected.is_empty());
        let (position, stored) = (decision.to, decision.failure.clone());
        let (mut attempts, mut dealt, mut ended) = (vec![0_u32; 7], Vec::new(), false);
        for (what, second) in inputs {
            let input = match what {
                0..=2 => Input::Undo(Undo::Begin(at(second))),
                3 => done(),
                4 => not_undone(AfterUndo::Next),
                5 => not_undone(AfterUndo::Retry(at(second))),
                6 if second < 5 => not_undone(AfterUndo::End),
                6 => Input::Interrupt { reason: Arc::from("cut") },
                7 => Input::Resume(Ahead::Go, at(second)),
                _ => Input::Cancel,
            };
            let abandoned = matches!(input, Input::Undo(Undo::Failed { then: AfterUndo::End, .. }));
            let Some(next) = on(&plan, &skipped, &decision, input) else { continue };
            prop_assert!(!ended, "nothing leads out of the end");
            prop_assert_eq!((next.to.cursor, next.to.attempt), (position.cursor, position.attempt));
            prop_assert_eq!(&next.failure, &stored);
            let undoing = next.undoing.clone().unwrap();
            for event in &next.events {
                match event {
                    EventKind::TaskCompensating { attempt, .. } => {
                        attempts[undoing.step] += 1;
                        prop_assert_eq!(*attempt, attempts[undoing.step]);
                    }
                    EventKind::TaskCompensated { task_id } | EventKind::TaskCompensationFailed { task_id, will_retry: false, .. } => {
                        dealt.push(plan.index_of(task_id).unwrap());
                    }
                    _ => {}
                }
            }
            if abandoned {
                dealt.clone_from(&expected);
            }
            let both: BTreeSet<usize> =
                undoing.undone.iter().copied().chain(undoing.failed.iter().map(|step| step.step)).collect();
            prop_assert_eq!(&both, &dealt.iter().copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(both.len(), undoing.undone.len() + undoing.failed.len(), "each once");
            prop_assert!(expected.starts_with(&dealt), "{:?} of {:?}", dealt, expected);
            ended = next.to.state.is_final();
            prop_assert_eq!(ended, dealt == expected);
            if ended {
                let end = match (undoing.failed.is_empty(), cancelled) {
                    (true, _) => RunState::Compensated,
                    (false, true) => RunState::Cancelled,
                    (false, false) => RunState::Failed,
                };
                prop_assert_eq!(next.to.state, end);
            } else if next.to.state != RunState::Interrupted {
                prop_assert_eq!(undoing.step, expected[dealt.len()]);
            }
            decision = next;
        }
    }
}
