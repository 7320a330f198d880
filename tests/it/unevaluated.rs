//! Plans with expressions that come to a program which was built without them.

use std::time::Duration;

use actix::prelude::*;
use lunacore::{
    Claim, Commit, EventBus, ExecutionOrchestrator, NewRun, PlanRecord, PlanStatus, Project, ProjectMemory,
    RegistryAllocator, RunState, RunUpdate,
};
use serde_json::json;

use crate::support::{Trace, run_id};

#[actix::test]
async fn a_run_with_expressions_is_interrupted_and_not_run_as_if_they_were_data() {
    let trace = Trace::default();
    let memory = ProjectMemory::in_memory().start();
    for (run, step) in [
        ("template", json!({ "id": "a", "input": "${{ run.id }}", "template": true })),
        ("condition", json!({ "id": "a", "when": "false" })),
        ("plain", json!({ "id": "a", "input": "${{ run.id }}" })),
    ] {
        let plan: PlanRecord = serde_json::from_value(json!({ "format": 1, "steps": [step] })).unwrap();
        let update = RunUpdate::new(RunState::Queued, 0, 0);
        let mut commit = Commit::new(run_id(run), Project::default(), update);
        commit.accept = Some(Box::new(NewRun::new(plan, Claim::new())));
        memory.send(Box::new(commit)).await.unwrap().unwrap();
    }
    let notes = trace.clone();
    let registry = RegistryAllocator::new().register("a", move || notes.note("called"));
    let orchestrator = ExecutionOrchestrator::new(EventBus::new().start(), memory, registry.start()).start();
    for (run, expected) in [
        ("template", RunState::Interrupted),
        ("condition", RunState::Interrupted),
        ("plain", RunState::Completed),
    ] {
        let info = loop {
            let info = orchestrator.send(PlanStatus(run_id(run))).await.unwrap().unwrap();
            if matches!(info.state, RunState::Interrupted | RunState::Completed) {
                break info;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(info.state, expected, "{run}");
        if expected == RunState::Interrupted {
            assert_eq!(
                info.reason.as_deref(),
                Some(
                    r#"step 0 ("a") has expressions, but this program was built without lunacore's feature `expressions`"#
                )
            );
        }
    }
    assert_eq!(trace.all(), ["called"]);
}
