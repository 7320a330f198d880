//! Reads results back: every run of a step stores a new version of the artifact `task:{step id}`, and steps and the
//! application may store artifacts of their own.
//!
//! `cargo run --example artifact_retrieval`

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use lunacore::{Artifact, ContextError, Engine, Get, ListKeys, ListVersions, Put, Step, StepContext};
use serde_json::{Value, json};

/// Returns its result, and stores a second artifact beside it: both are stored together or not at all.
fn process(ctx: StepContext) -> Result<String, ContextError> {
    let quarter: String = ctx.input()?;
    ctx.put_artifact("report/summary.md", format!("# Report for {quarter}"))?;
    Ok(format!("processed {quarter}"))
}

fn print(artifact: &Artifact) {
    let Artifact { key, version, meta, .. } = artifact;
    let text = artifact.text().unwrap_or("raw bytes");
    println!("{key} version {version}: {text:?}, meta {}", Value::from(meta.clone()));
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let engine = Engine::builder().start()?;
    let memory = engine.memory();

    for quarter in ["spring", "summer"] {
        engine.execute([Step::new("process", process).input(json!(quarter))]).await?;
    }

    // The latest version, and an older one.
    let latest = memory.send(Get::latest("task:process")).await??.ok_or("the step has completed")?;
    let first = memory.send(Get::version("task:process", 1)).await??.ok_or("the step has run twice")?;
    print(&latest);
    print(&first);
    assert_eq!((latest.version, latest.text()), (2, Some("processed summer")));
    assert_eq!((first.version, first.text()), (1, Some("processed spring")));
    assert_eq!(Value::from(first.meta), json!({ "step": 0, "step_id": "process" }));

    let versions = memory.send(ListVersions::new("task:process")).await??;
    println!("versions of task:process: {versions:?}");
    assert_eq!(versions, [1, 2]);

    // What the step stored besides its result says which step it was, too.
    let summary = memory.send(Get::latest("report/summary.md")).await??.ok_or("the step stored it")?;
    print(&summary);
    assert_eq!(summary.text(), Some("# Report for summer"));

    // An application may store artifacts itself. Its meta is merged over that of the version before: the author stays.
    memory
        .send(Put::new("report/notes", "draft").meta("author", json!("ada")).meta("pages", json!(1)))
        .await??;
    let notes = memory.send(Put::new("report/notes", "final").meta("pages", json!(2))).await??;
    print(&notes);
    assert_eq!(Value::from(notes.meta), json!({ "author": "ada", "pages": 2 }));

    let keys = memory.send(ListKeys::new().prefix("report/")).await??;
    println!("keys under report/: {keys:?}");
    assert_eq!(keys, ["report/notes", "report/summary.md"]);

    // A key that was never written is no error.
    assert!(memory.send(Get::latest("task:unknown")).await??.is_none());
    Ok(())
}
