//! Reports which crates a `Cargo.lock` has in several versions: four steps that read, parse, compare and write.
//!
//! `cargo run --example dependency_report -- [Cargo.lock] [report.md]`
//!
//! Without arguments it reads this project's own lock file and writes into the directory for temporary files. The
//! first line of the report goes to stdout, progress and errors to stderr.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example prints what it shows")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context as _, anyhow, ensure};
use lunacore::{Engine, Event, EventKind, ExecutePlan, Json, Step, StepContext};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What we need of a lock file.
#[derive(Deserialize)]
struct LockFile {
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Serialize, Deserialize)]
struct Package {
    name: String,
    version: String,
}

type Versions = BTreeMap<String, Vec<String>>;

fn read(ctx: StepContext) -> anyhow::Result<String> {
    let lock: String = ctx.input()?;
    fs::read_to_string(&lock).with_context(|| format!("cannot read {lock}"))
}

fn parse(ctx: StepContext) -> anyhow::Result<Json<Vec<Package>>> {
    let (lock, text): (String, String) = (ctx.input()?, ctx.previous()?);
    let parsed = toml::from_str(&text).map_err(|error| {
        // The parser's own `Display` draws the place over several lines; its number is enough here.
        let before = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(before).filter(|byte| *byte == b'\n').count();
        anyhow!("line {line}: {}", error.message())
    });
    let LockFile { package } = parsed.with_context(|| format!("{lock} is not a lock file"))?;
    ensure!(!package.is_empty(), "{lock} has no packages; is it a Cargo.lock?");
    ctx.progress(json!({ "packages": package.len() }))?;
    Ok(Json(package))
}

/// The versions of each crate that has several, in the order of the lock file, which sorts them.
fn duplicates(ctx: StepContext) -> anyhow::Result<Json<Versions>> {
    let mut versions = Versions::new();
    for Package { name, version } in ctx.previous::<Vec<Package>>()? {
        let known = versions.entry(name).or_default();
        // The same version may come from two registries.
        if !known.contains(&version) {
            known.push(version);
        }
    }
    versions.retain(|_, versions| versions.len() > 1);
    Ok(Json(versions))
}

fn write(ctx: StepContext) -> anyhow::Result<String> {
    let (lock, report): (String, String) = ctx.input()?;
    // The outputs of all earlier steps can be read, not only that of the one before.
    let (packages, duplicates): (Vec<Package>, Versions) = (ctx.output("parse")?, ctx.output("duplicates")?);
    let title = format!("# {} packages, {} in several versions", packages.len(), duplicates.len());
    let mut text = format!("{title}\n\nSource: `{lock}`\n");
    if !duplicates.is_empty() {
        text.push_str("\n| crate | versions |\n|---|---|\n");
    }
    for (name, versions) in &duplicates {
        writeln!(text, "| {name} | {} |", versions.join(", "))?;
    }
    fs::write(&report, text).with_context(|| format!("cannot write {report}"))?;
    Ok(title)
}

fn print_progress(event: Event) {
    match event.kind() {
        EventKind::TaskProgress { value, .. } => eprintln!("{event} {value}"),
        _ => eprintln!("{event}"),
    }
}

/// A path, as text so that it can be the input of a step.
fn path(arg: Option<OsString>, default: impl Into<OsString>) -> anyhow::Result<String> {
    let path = arg.unwrap_or_else(|| default.into());
    path.into_string().map_err(|path| anyhow!("the path {path:?} is not UTF-8"))
}

async fn run() -> anyhow::Result<()> {
    let mut args = env::args_os().skip(1);
    let lock = path(args.next(), concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"))?;
    let report = path(args.next(), env::temp_dir().join("dependency-report.md"))?;

    let engine = Engine::builder().start()?;
    engine.subscribe("task.*", print_progress).await?;
    let steps = [
        Step::new("read", read).input(json!(lock)),
        Step::new("parse", parse).input(json!(lock)),
        Step::new("duplicates", duplicates),
        Step::new("write", write).input(json!([lock, report])),
    ];
    let outcome = engine.execute(ExecutePlan::new(steps).run_id("dependency-report")).await;
    // The last events are printed before the outcome is. A terminal that is too slow for that does not change it.
    let _ = engine.flush(Duration::from_secs(5)).await;
    let results = outcome?;
    let title = results.last().and_then(|title| title.as_str()).context("the last step returns the title")?;
    println!("{title}");
    eprintln!("written to {report}");
    assert_eq!(fs::read_to_string(&report)?.lines().next(), Some(title));
    Ok(())
}

#[actix::main]
async fn main() -> ExitCode {
    env_logger::init();
    let Err(error) = run().await else { return ExitCode::SUCCESS };
    // `:#` prints the error and its chain of causes in one line.
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
