use std::time::Duration;

use lunacore::*;
use serde_json::{Value, json};

use super::support::World;
use crate::callables::limits::{LINE_BYTES, LINES_PER_SECOND};

/// What an event reports of how far its step is.
fn progress(event: &Event) -> Value {
    let EventKind::TaskProgress { value, .. } = event.kind() else { panic!("{event}") };
    Value::clone(value)
}

#[actix::test]
async fn lines_are_told_of_while_the_step_runs() {
    let world = World::new();
    let mut events = world.engine.subscribe_stream_with(SubscribeStream::new("task.progress")).await.unwrap();
    let script =
        "echo one; printf half; until [ -e go ]; do sleep 0.01; done; echo ' line' >&2; echo; printf end";
    let run = world.engine.submit([world.script(script)]).await.unwrap();
    assert_eq!(progress(&events.next().await.unwrap()), json!({ "stream": "stdout", "line": "one" }));
    std::fs::write(world.path("go"), "").unwrap();
    run.await.unwrap();
    let mut told = vec![progress(&events.next().await.unwrap()), progress(&events.next().await.unwrap())];
    told.push(progress(&events.next().await.unwrap()));
    told.sort_by_key(ToString::to_string);
    let expected = [("stderr", " line"), ("stdout", "end"), ("stdout", "half")];
    assert_eq!(told, expected.map(|(stream, line)| json!({ "stream": stream, "line": line })));
}

#[actix::test]
async fn not_too_many_lines_are_told_of_but_the_last_is() {
    let world = World::new();
    let mut events =
        world.engine.subscribe_stream_with(SubscribeStream::new("task.*").capacity(100_000)).await.unwrap();
    let output = world.run(world.script("seq 1 50000; printf '%02000d' 0")).await.unwrap();
    assert_eq!(output["stdout"].as_str().unwrap().lines().count(), 50_001);
    let mut told = Vec::new();
    loop {
        let event = events.next().await.unwrap();
        match event.kind() {
            EventKind::TaskProgress { value, .. } => told.push(Value::clone(value)),
            EventKind::TaskCompleted { .. } => break,
            _ => {}
        }
    }
    let skipped: u64 = told.iter().filter_map(|line| line["skipped"].as_u64()).sum();
    assert_eq!(told.len() as u64 + skipped, 50_001);
    assert!(skipped > 0 && told.len() >= LINES_PER_SECOND as usize, "{} told", told.len());
    assert_eq!(told[0], json!({ "stream": "stdout", "line": "1" }));
    let last = format!("{}…", "0".repeat(LINE_BYTES - 3));
    assert_eq!(told.last().unwrap()["line"], last);
}

#[actix::test]
async fn status_is_answered_while_a_script_runs() {
    let world = World::new();
    let run = world.engine.submit([world.script("until [ -e go ]; do sleep 0.01; done")]).await.unwrap();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(world.engine.status(run.run_id()).await.unwrap().state, RunState::Running);
    }
    std::fs::write(world.path("go"), "").unwrap();
    run.await.unwrap();
}
