use super::super::testing::{at, decide, failure, types};
use super::super::*;
use super::*;
use crate::plan::{IntoOutput, OnInterrupted, Plan, Step};
use std::time::UNIX_EPOCH;

fn plan(on_interrupted: &OnInterrupted) -> CheckedPlan {
    let step = || Step::unnamed(|| ()).on_interrupted(on_interrupted.clone());
    CheckedPlan::new((0..2).map(|_| step()).collect::<Plan>()).unwrap()
}

fn in_flight(state: RunState) -> Position {
    let step = StepProgress { since: Some(at(0)), ..StepProgress::default() };
    Position { state, cursor: 0, attempt: 1, step, ..Position::QUEUED }
}

fn held() -> Position {
    let step = StepProgress { held: Some(HoldReason::Interrupted), ..in_flight(RunState::Held).step };
    Position { step, ..in_flight(RunState::Held) }
}

const RESUME: fn() -> Input = || Input::Resume(Ahead::Go, UNIX_EPOCH);

#[test]
fn what_was_in_flight_is_treated_as_its_policy_says() {
    let verify = OnInterrupted::verify_named("verify");
    for (policy, events, state) in [
        (OnInterrupted::Rerun, ["plan.resumed", "task.started"], RunState::Running),
        (OnInterrupted::Hold, ["plan.resumed", "task.held"], RunState::Held),
        (verify, ["plan.resumed", "task.verifying"], RunState::Running),
    ] {
        let plan = plan(&policy);
        for from in [RunState::Running, RunState::Interrupted] {
            let decision = decide(&plan, in_flight(from), None, RESUME()).unwrap();
            assert_eq!((types(&decision), decision.to.state), (events.to_vec(), state), "{policy:?}");
            assert_eq!(calls_again(&plan, in_flight(from), None), matches!(policy, OnInterrupted::Rerun));
        }
    }
    // The same again, if that is cut off too.
    let plan = plan(&OnInterrupted::verify_named("verify"));
    let verifying = decide(&plan, in_flight(RunState::Running), None, RESUME()).unwrap().to;
    assert!(verifying.step.verifying && verifying.attempt == 1);
    assert_eq!(decide(&plan, verifying, None, RESUME()).unwrap().to, verifying);
}

#[test]
fn what_was_not_in_flight_is_not_in_doubt() {
    let plan = plan(&OnInterrupted::Hold);
    let waits = |position: Position, known: Option<&Arc<StepFailure>>| {
        let to = decide(&plan, position, known, RESUME()).unwrap().to;
        assert_ne!(to.state, RunState::Held);
    };
    let failed = failure();
    waits(Position { attempt: 0, ..in_flight(RunState::Running) }, None);
    waits(in_flight(RunState::Queued), None);
    waits(in_flight(RunState::Interrupted), Some(&failed));
    let step = StepProgress { until: Some(at(9)), ..in_flight(RunState::BackingOff).step };
    waits(Position { step, ..in_flight(RunState::BackingOff) }, Some(&failed));
    // That of the fallback is: the failure that is known is that of the others.
    let step = StepProgress { fallback: true, ..in_flight(RunState::Running).step };
    let fallback = Position { step, ..in_flight(RunState::Running) };
    assert_eq!(decide(&plan, fallback, Some(&failed), RESUME()).unwrap().to.state, RunState::Held);
}

#[test]
fn verdicts() {
    let plan = plan(&OnInterrupted::verify_named("verify"));
    let step = StepProgress { verifying: true, ..in_flight(RunState::Running).step };
    let verifying = Position { step, ..in_flight(RunState::Running) };
    let again = decide(&plan, verifying, None, Input::Proceed(Ahead::Go, at(1))).unwrap();
    assert_eq!((types(&again), again.to.attempt, again.to.step.verifying), (vec!["task.started"], 2, false));
    let output = "x".into_output().unwrap();
    let input = Input::Completed { output, cancelled: false, ahead: Ahead::Go };
    let happened = decide(&plan, verifying, None, input).unwrap();
    assert_eq!((types(&happened), happened.to.cursor), (vec!["task.completed", "task.started"], 1));
    let unknown = decide(&plan, verifying, None, Input::Unverified(Some(failure()))).unwrap();
    assert_eq!((types(&unknown), unknown.to.step.held), (vec!["task.held"], Some(HoldReason::Unverified)));
    assert_eq!(unknown.failure, Some(failure()));
    let stopping = Position { state: RunState::Stopping, expired: true, ..verifying };
    assert_eq!(decide(&plan, stopping, None, Input::Unverified(None)).unwrap().to.state, RunState::Held);
    // Of nothing else a verdict is heard.
    assert!(decide(&plan, in_flight(RunState::Running), None, Input::Unverified(None)).is_none());
    assert!(decide(&plan, in_flight(RunState::Running), None, Input::Proceed(Ahead::Go, at(1))).is_none());
}

/// Every input in the state `held`, and what decides in every other.
#[test]
fn who_is_held_waits_for_a_decision() {
    let plan = plan(&OnInterrupted::Hold);
    let output = || "x".into_output().unwrap();
    let decided: [fn() -> Decided; 4] = [
        || Decided::Completed(Output::null()),
        || Decided::Rerun(at(7)),
        || Decided::Failed(failure()),
        || Decided::Skipped,
    ];
    let leads = [
        (vec!["task.resolved", "task.completed"], RunState::Queued, 1),
        (vec!["task.resolved"], RunState::Queued, 0),
        (vec!["task.resolved", "plan.failed"], RunState::Failed, 0),
        (vec!["task.resolved", "task.skipped"], RunState::Queued, 1),
    ];
    for (decided, (events, state, cursor)) in decided.iter().zip(leads) {
        let to = decide(&plan, held(), None, Input::Resolve(decided())).unwrap();
        assert_eq!((types(&to), to.to.state, to.to.cursor), (events, state, cursor));
        assert_eq!(to.to.step.held, None);
        for other in [
            RunState::Queued,
            RunState::Running,
            RunState::BackingOff,
            RunState::Parked,
            RunState::Paused,
            RunState::Stopping,
            RunState::Interrupted,
            RunState::Completed,
            RunState::Failed,
            RunState::Cancelled,
        ] {
            assert!(decide(&plan, in_flight(other), None, Input::Resolve(decided())).is_none(), "{other}");
        }
    }
    // With the last step the run is over.
    let last = Position { cursor: 1, ..held() };
    let over = decide(&plan, last, None, Input::Resolve(Decided::Skipped)).unwrap();
    assert_eq!((types(&over).last(), over.to.state), (Some(&"plan.completed"), RunState::Completed));
    // Its time begins anew when it is called again.
    let rerun = decide(&plan, held(), None, Input::Resolve(Decided::Rerun(at(7)))).unwrap().to;
    let started = decide(&plan, rerun, None, Input::Start(Ahead::Go, at(8))).unwrap();
    assert_eq!((types(&started), started.to.attempt), (vec!["task.started"], 2));
    assert_eq!(started.to.step.since, Some(at(7)));

    let cancelled = decide(&plan, held(), None, Input::Cancel).unwrap();
    assert_eq!(types(&cancelled), ["task.cancelled", "plan.cancelled"]);
    let reason = Arc::from("no callable");
    let cut = decide(&plan, held(), None, Input::Interrupt { reason }).unwrap();
    assert_eq!((cut.to.state, cut.to.step.held), (RunState::Interrupted, Some(HoldReason::Interrupted)));
    let again = decide(&plan, cut.to, None, RESUME()).unwrap();
    assert_eq!((again.to.state, types(&again)), (RunState::Held, vec!["plan.resumed", "task.held"]));
    let overdue = Input::Failed { failure: failure(), then: Then::Abort, escalate: false };
    assert_eq!(decide(&plan, held(), None, overdue).unwrap().to.state, RunState::Failed);
    for nothing in [
        Input::Start(Ahead::Go, at(1)),
        RESUME(),
        Input::Completed { output: output(), cancelled: false, ahead: Ahead::Go },
        Input::Skip(Ahead::Go),
        Input::Proceed(Ahead::Go, at(1)),
        Input::Unverified(None),
        Input::Stop,
        Input::Expire(failure()),
        Input::Pause,
        Input::Unpause,
    ] {
        let shown = format!("{nothing:?}");
        assert!(decide(&plan, held(), None, nothing).is_none(), "{shown}");
    }
}

#[test]
fn a_failure_may_lead_to_a_hold_also_while_it_is_to_pause() {
    let plan = plan(&OnInterrupted::Rerun);
    let pausing = Position { pausing: true, ..in_flight(RunState::Running) };
    let failed = Input::Failed { failure: failure(), then: Then::Hold, escalate: true };
    let held = decide(&plan, pausing, None, failed).unwrap();
    assert_eq!(types(&held), ["task.failed", "escalation.needed", "task.held"]);
    assert_eq!((held.to.step.held, held.failure.clone()), (Some(HoldReason::Failed), Some(failure())));
    let decided = decide(&plan, held.to, held.failure.as_ref(), Input::Resolve(Decided::Skipped)).unwrap();
    let paused = decide(&plan, decided.to, None, Input::Start(Ahead::Go, at(1))).unwrap();
    assert_eq!((types(&paused), paused.to.cursor), (vec!["plan.paused"], 1));
}

#[test]
fn a_generation_begins_where_it_is_told_to() {
    let plan = plan(&OnInterrupted::Rerun);
    let step = StepProgress { since: Some(at(5)), ..StepProgress::default() };
    let from = |cursor| Position { cursor, step, ..Position::QUEUED };
    let queued = retry(&plan, from(1), (2, 1), None);
    assert_eq!((types(&queued), queued.to), (vec!["plan.retried"], from(1)));
    assert_eq!(types(&retry(&plan, from(0), (2, 0), Some(Ahead::Go))), ["plan.retried", "task.started"]);
    let skipped = retry(&plan, from(1), (2, 0), Some(Ahead::Go));
    assert_eq!(types(&skipped), ["plan.retried", "task.skipped", "task.started"]);
    assert!(matches!(skipped.events[1], EventKind::TaskSkipped { reason: SkipReason::Operator, .. }));
    let over = retry(&plan, from(2), (2, 2), Some(Ahead::Go));
    assert_eq!((types(&over), over.to.state), (vec!["plan.retried", "plan.completed"], RunState::Completed));
    assert!(matches!(over.events[0], EventKind::PlanRetried { task_id: None, completed: 2, .. }));
}

/// It leaves the line for somebody's word, which is about something else.
#[test]
fn what_is_in_doubt_stays_so_where_it_waits_for_a_word() {
    for state in [RunState::Running, RunState::Interrupted] {
        let hold = plan(&OnInterrupted::Hold);
        let to = aside(&hold, in_flight(state), None);
        assert_eq!(to, in_flight(RunState::Interrupted));
        assert_eq!(decide(&hold, to, None, RESUME()).unwrap().to.state, RunState::Held);
        let held = Position { step: held().step, ..in_flight(state) };
        assert_eq!(aside(&plan(&OnInterrupted::Rerun), held, None).state, RunState::Interrupted);

        let again = plan(&OnInterrupted::Rerun);
        let to = aside(&again, in_flight(state), None);
        assert_eq!(to, in_flight(RunState::Queued));
        let started = decide(&again, to, None, Input::Start(Ahead::Go, at(1))).unwrap();
        assert_eq!(types(&started), ["task.started"]);

        let verify = plan(&OnInterrupted::verify_named("verify"));
        let to = aside(&verify, in_flight(state), None);
        assert_eq!((to.state, to.step.verifying), (RunState::Queued, true));
        let paused = decide(&verify, to, None, Input::Pause).unwrap().to;
        let cut = decide(&verify, paused, None, Input::Interrupt { reason: Arc::from("x") }).unwrap().to;
        let unpaused = decide(&verify, paused, None, Input::Unpause).unwrap().to;
        assert_eq!((paused.state, unpaused.state), (RunState::Paused, RunState::Queued));
        for (from, input) in [
            (to, Input::Start(Ahead::Go, at(1))),
            (unpaused, Input::Start(Ahead::Go, at(1))),
            (unpaused, RESUME()),
            (cut, RESUME()),
        ] {
            assert!(!calls_again(&verify, from, None));
            let verified = decide(&verify, from, None, input).unwrap();
            assert_eq!(types(&verified).last(), Some(&"task.verifying"));
            assert_eq!((verified.to.state, verified.to.attempt), (RunState::Running, 1));
        }
    }
}

#[test]
fn what_was_decided_is_not_in_doubt_when_it_is_interrupted() {
    let plan = plan(&OnInterrupted::Hold);
    let interrupt = || Input::Interrupt { reason: Arc::from("no callable") };
    let decided = decide(&plan, held(), None, Input::Resolve(Decided::Rerun(at(7)))).unwrap().to;
    let paused = decide(&plan, decided, None, Input::Pause).unwrap().to;
    for from in [decided, paused, Position { state: RunState::Parked, ..decided }] {
        let cut = decide(&plan, from, None, interrupt()).unwrap().to;
        let twice = decide(&plan, cut, None, interrupt()).unwrap().to;
        let on = decide(&plan, twice, None, Input::Resume(Ahead::Go, at(8))).unwrap();
        let (state, last) = match cut.pausing {
            true => (RunState::Paused, "plan.paused"),
            false => (RunState::Running, "task.started"),
        };
        assert_eq!((on.to.state, types(&on).last()), (state, Some(&last)), "{}", from.state);
    }
    // What was in flight is, as often as that happens.
    let cut = decide(&plan, in_flight(RunState::Running), None, interrupt()).unwrap().to;
    let twice = decide(&plan, cut, None, interrupt()).unwrap().to;
    assert_eq!(decide(&plan, twice, None, RESUME()).unwrap().to.state, RunState::Held);
}
