//! Promise 7: plans run first in, first out, and steps one after another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::*;
use lunacore::limits::ADMISSION_BURST;
use lunacore::{
    CancelPlan, ExecutePlan, PauseOutcome, PausePlan, Plan, PlanError, PlanStatus, ResumePlan, RunState,
    Shutdown, Signal, SignalOutcome, Step, SubmitPlan,
};
use proptest::prelude::*;
use tokio::sync::Notify;

use crate::support::{Trace, engine, next, run_id, start, start_with, until, watch};

/// A plan whose steps note when they begin and end, and wait in between, so that others could slip in.
fn noting(name: &str, steps: usize, trace: &Trace) -> Plan {
    (0..steps)
        .map(|index| {
            let (trace, name) = (trace.clone(), name.to_owned());
            Step::unnamed(move || {
                let (trace, name) = (trace.clone(), name.clone());
                async move {
                    trace.note(format!("{name}{index} begins"));
                    tokio::task::yield_now().await;
                    tokio::task::yield_now().await;
                    trace.note(format!("{name}{index} ends"));
                }
            })
        })
        .collect()
}

fn in_order(names: &[&str], steps: usize) -> Vec<String> {
    let step = |name: &str, index: usize| [format!("{name}{index} begins"), format!("{name}{index} ends")];
    names.iter().flat_map(|name| (0..steps).flat_map(move |index| step(name, index))).collect()
}

#[actix::test]
async fn plans_sent_at_once_run_one_after_another() {
    let (actors, trace) = (start(), Trace::default());
    let names = ["a", "b", "c", "d"];
    let answers: Vec<_> = names
        .iter()
        .map(|name| actors.orchestrator.send(ExecutePlan::new(noting(name, 3, &trace))))
        .collect();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(trace.all(), in_order(&names, 3));
}

#[actix::test]
async fn sync_and_async_steps_of_a_plan_never_overlap() {
    let (actors, busy) = (start(), Arc::new(AtomicUsize::new(0)));
    let steps: Plan = (0..20)
        .map(|index| {
            let busy = Arc::clone(&busy);
            if index % 2 == 0 {
                Step::unnamed(move || {
                    assert_eq!(busy.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    busy.fetch_sub(1, Ordering::SeqCst);
                })
            } else {
                Step::unnamed(move || {
                    let busy = Arc::clone(&busy);
                    async move {
                        assert_eq!(busy.fetch_add(1, Ordering::SeqCst), 0);
                        tokio::task::yield_now().await;
                        busy.fetch_sub(1, Ordering::SeqCst);
                    }
                })
            }
        })
        .collect();
    actors.orchestrator.send(ExecutePlan::new(steps)).await.unwrap().unwrap();
}

#[actix::test]
async fn several_senders_on_other_threads_are_served_in_the_order_of_arrival() {
    let (actors, trace) = (start(), Trace::default());
    let mut events = watch(&actors.bus).await;
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let (orchestrator, trace) = (actors.orchestrator.clone(), trace.clone());
            tokio::task::spawn_blocking(move || {
                for plan in 0..5 {
                    let id = format!("{sender}-{plan}");
                    orchestrator.do_send(ExecutePlan::new(noting(&id, 2, &trace)).run_id(id.as_str()));
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    let mut accepted = Vec::new();
    let mut completed = Vec::new();
    while completed.len() < 20 {
        let event = events.next().await.unwrap();
        let run = event.run_id().unwrap().to_string();
        match event.event_type() {
            "plan.accepted" => accepted.push(run),
            "plan.completed" => completed.push(run),
            _ => {}
        }
    }
    assert_eq!(accepted, completed);
    let names: Vec<&str> = accepted.iter().map(String::as_str).collect();
    assert_eq!(trace.all(), in_order(&names, 2));
    for sender in 0..4 {
        let own: Vec<_> = names.iter().filter(|name| name.starts_with(&format!("{sender}-"))).collect();
        assert!(own.is_sorted(), "the plans of one sender keep their order: {own:?}");
    }
}

#[actix::test]
async fn two_at_a_time_means_two_and_each_stays_in_order() {
    let actors = start_with(|orchestrator| orchestrator.max_concurrent_plans(2));
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let trace = Trace::default();
    let plans = (0..6).map(|plan| {
        (0..3)
            .map(|index| {
                let (now, most, trace) = (Arc::clone(&now), Arc::clone(&most), trace.clone());
                Step::unnamed(move || {
                    let (now, most, trace) = (Arc::clone(&now), Arc::clone(&most), trace.clone());
                    async move {
                        most.fetch_max(1 + now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                        for _ in 0..10 {
                            tokio::task::yield_now().await;
                        }
                        now.fetch_sub(1, Ordering::SeqCst);
                        trace.note(format!("{plan}.{index}"));
                    }
                })
            })
            .collect::<Plan>()
    });
    let answers: Vec<_> = plans.map(|plan| actors.orchestrator.send(ExecutePlan::new(plan))).collect();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
    for plan in 0..6 {
        let own: Vec<String> =
            trace.all().into_iter().filter(|noted| noted.starts_with(&format!("{plan}."))).collect();
        assert_eq!(own, [format!("{plan}.0"), format!("{plan}.1"), format!("{plan}.2")]);
    }
}

/// A step that waits until the test lets it go on.
fn gated(gate: &Arc<Notify>) -> Step {
    let gate = Arc::clone(gate);
    Step::new("gate", move || {
        let gate = Arc::clone(&gate);
        async move { gate.notified().await }
    })
}

#[actix::test]
async fn a_full_queue_refuses_the_next_plan_and_keeps_the_others() {
    let actors = start_with(|orchestrator| orchestrator.queue_capacity(2));
    let gate = Arc::new(Notify::new());
    let submit = |id: &str| actors.orchestrator.send(SubmitPlan(ExecutePlan::new([gated(&gate)]).run_id(id)));
    let running = submit("running").await.unwrap().unwrap();
    let first = submit("first").await.unwrap().unwrap();
    let second = submit("second").await.unwrap().unwrap();
    let error = submit("third").await.unwrap().unwrap_err();
    assert!(matches!(error, PlanError::QueueFull { capacity: 2 }), "{error:?}");
    assert_eq!(error.to_string(), "2 plans wait already; try again later or raise the queue's capacity");
    for run in [running, first, second] {
        gate.notify_one();
        run.await.unwrap();
    }
    gate.notify_one();
    submit("third").await.unwrap().unwrap().await.unwrap();
}

#[actix::test]
async fn a_capacity_of_zero_still_runs_one_plan_at_a_time() {
    let actors = start_with(|orchestrator| orchestrator.queue_capacity(0));
    let gate = Arc::new(Notify::new());
    let submit = || actors.orchestrator.send(SubmitPlan(ExecutePlan::new([gated(&gate)])));
    let running = submit().await.unwrap().unwrap();
    assert!(matches!(submit().await.unwrap(), Err(PlanError::QueueFull { capacity: 0 })));
    gate.notify_one();
    running.await.unwrap();
}

#[actix::test]
async fn a_failing_plan_leaves_the_next_one_alone() {
    let actors = start();
    let trace = Trace::default();
    let never = trace.clone();
    let failing = [
        Step::new("fail", || Err::<(), _>("broken")),
        Step::new("never", move || never.note("called after a failure")),
    ];
    let failing = actors.orchestrator.send(ExecutePlan::new(failing));
    let next = actors.orchestrator.send(ExecutePlan::new([Step::new("ok", || 1)]));
    assert!(matches!(failing.await.unwrap(), Err(PlanError::StepFailed { index: 0, attempt: 1, .. })));
    assert_eq!(next.await.unwrap().unwrap(), [1]);
    assert_eq!(trace.all(), [""; 0]);
}

#[actix::test]
async fn a_caller_that_goes_away_does_not_stop_its_plan() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let gate = Arc::new(Notify::new());
    let plan = ExecutePlan::new([gated(&gate), Step::new("after", || 2)]);
    let mut answer = Box::pin(actors.orchestrator.send(plan));
    // The caller waits until the plan runs, then loses interest.
    tokio::select! {
        biased;
        _ = &mut answer => panic!("the gate is closed"),
        seen = next(&mut events, 3) => assert_eq!(seen, ["plan.accepted", "plan.started", "task.started gate"]),
    }
    drop(answer);
    gate.notify_one();
    assert_eq!(
        next(&mut events, 4).await,
        ["task.completed gate", "task.started after", "task.completed after", "plan.completed"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is submitted, asked and cancelled in between: what runs, runs in the order of submission, without
    /// interleaving, and every caller is answered.
    #[test]
    fn fifo_holds_under_random_submits_cancels_and_questions(
        moves in proptest::collection::vec((0_u8..4, 0_usize..12, 0_usize..4), 1..60),
    ) {
        System::new().block_on(async move {
            let (actors, trace) = (start(), Trace::default());
            let mut answers = Vec::new();
            for (what, which, pauses) in moves {
                let target = run_id(&format!("{:03}", which.min(answers.len())));
                match what {
                    0 | 1 => {
                        let id = format!("{:03}", answers.len());
                        let plan = ExecutePlan::new(noting(&id, 3, &trace)).run_id(id);
                        answers.push(actors.orchestrator.send(plan));
                    }
                    2 => drop(actors.orchestrator.send(CancelPlan(target)).await.unwrap()),
                    _ => drop(actors.orchestrator.send(PlanStatus(target)).await.unwrap()),
                }
                for _ in 0..pauses {
                    tokio::task::yield_now().await;
                }
            }
            for answer in answers {
                match answer.await.unwrap() {
                    Ok(results) => assert_eq!(results.len(), 3),
                    Err(error) => assert!(matches!(error, PlanError::Cancelled { .. }), "{error:?}"),
                }
            }
            let noted = trace.all();
            let begun: Vec<&str> = noted.iter().filter_map(|note| note.strip_suffix(" begins")).collect();
            assert!(begun.is_sorted(), "out of order: {begun:?}");
            // A step that has begun ends before anything else begins, unless it was dropped.
            for pair in noted.windows(2) {
                if let Some(step) = pair[1].strip_suffix(" ends") {
                    assert_eq!(pair[0], format!("{step} begins"));
                }
            }
        });
    }
}

/// Many more than are admitted at a time: in their order all the same, and whoever asks about the last, cancels it or ends
/// the orchestrator finds it there.
#[actix::test]
async fn a_burst_of_plans_is_taken_in_whole_and_in_order() {
    let count = 3 * ADMISSION_BURST;
    for ending in ["nothing", "status", "cancel", "pause", "signal", "shutdown"] {
        // Its mailbox has room for all.
        let (actors, trace) = (engine(), Trace::default());
        let orchestrator = actors.orchestrator();
        let answers: Vec<_> = (0..count)
            .map(|n| {
                let trace = trace.clone();
                let step = Step::unnamed(move || trace.note(n.to_string())).inline();
                orchestrator.send(ExecutePlan::new([step]).run_id(format!("r{n}")))
            })
            .collect();
        let last = run_id(&format!("r{}", count - 1));
        let mut done = count;
        // Sent behind them, before any has been looked at.
        match ending {
            "status" => {
                let info = orchestrator.send(PlanStatus(last)).await.unwrap().unwrap();
                assert_eq!((info.state, info.position), (RunState::Queued, Some(count - 1)));
            }
            "cancel" => {
                orchestrator.send(CancelPlan(last)).await.unwrap().unwrap();
                done -= 1;
            }
            "pause" => {
                let paused = orchestrator.send(PausePlan(last.clone())).await.unwrap().unwrap();
                assert_eq!(paused, PauseOutcome::Paused);
                orchestrator.send(ResumePlan(last)).await.unwrap().unwrap();
            }
            "signal" => {
                let told = orchestrator.send(Signal::new(last, "go")).await.unwrap().unwrap();
                assert_eq!(told, SignalOutcome::Received);
            }
            "shutdown" => {
                let drain = Shutdown::drain(Duration::from_secs(60));
                assert_eq!(orchestrator.send(drain).await.unwrap().completed, count);
            }
            _ => {}
        }
        let mut completed = 0;
        for answer in answers {
            completed += usize::from(answer.await.unwrap().is_ok());
        }
        assert_eq!(completed, done, "{ending}");
        let mut order: Vec<usize> = trace.all().iter().map(|n| n.parse().unwrap()).collect();
        if ending == "pause" {
            // One that is resumed comes first.
            order.sort_unstable();
        }
        assert_eq!(order, (0..done).collect::<Vec<_>>(), "{ending}");
    }
}

#[actix::test]
async fn a_burst_whose_sender_goes_away_runs_to_its_end() {
    let (actors, trace) = (engine(), Trace::default());
    let (orchestrator, mut events) = (actors.orchestrator().clone(), watch(actors.bus()).await);
    let memory = actors.memory().clone();
    drop(actors);
    for n in 0..3 * ADMISSION_BURST {
        let trace = trace.clone();
        orchestrator.do_send(ExecutePlan::new([Step::unnamed(move || trace.note(n.to_string())).inline()]));
    }
    drop(orchestrator);
    for _ in 0..3 * ADMISSION_BURST {
        until(&mut events, "plan.completed").await;
    }
    assert_eq!(trace.all().len(), 3 * ADMISSION_BURST);
    drop(memory);
}
