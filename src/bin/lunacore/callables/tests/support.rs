//! Small helpers.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lunacore::*;
use serde_json::Value;

use crate::callables::{Ledger, register};

/// A folder, and an engine with the callables.
pub(super) struct World {
    folder: tempfile::TempDir,
    pub(super) engine: Engine,
    pub(super) ledger: Ledger,
}

impl World {
    pub(super) fn new() -> Self {
        let ledger = Ledger::in_memory();
        let engine =
            Engine::builder().allocator(register(RegistryAllocator::new(), &ledger)).start().unwrap();
        Self { folder: tempfile::tempdir().unwrap(), engine, ledger }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a plan of one step.
    pub(super) async fn run(&self, step: Step) -> Result<Value, Failed> {
        match self.engine.execute([step]).await {
            Ok(mut results) => Ok(results.remove(0)),
            Err(PlanError::StepFailed { kind, source, .. }) => {
                let causes = std::iter::successors(source.source(), |cause| (*cause).source());
                let causes = causes.map(ToString::to_string).collect();
                Err(Failed { kind, message: source.to_string(), causes, fatal: source.is_fatal() })
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    pub(super) async fn call(&self, name: &str, input: Value) -> Result<Value, Failed> {
        self.run(Step::named("step").uses(name).input(input)).await
    }

    /// A `shell` step with this script, in the folder.
    pub(super) fn script(&self, script: &str) -> Step {
        Step::named("step").uses("shell").input(serde_json::json!({ "script": script, "cwd": self.folder() }))
    }
}

#[derive(Debug, PartialEq)]
pub(super) struct Failed {
    pub(super) kind: FailureKind,
    pub(super) message: String,
    pub(super) causes: Vec<String>,
    pub(super) fatal: bool,
}

/// Waits until something is so.
pub(super) async fn patiently(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A script that writes to the file `beat` for as long as it lives.
pub(super) const BEAT: &str = "while :; do echo x >> beat; sleep 0.02; done";

/// Waits for a heart to beat.
pub(super) async fn beats(file: &Path) {
    let before = size(file);
    patiently("a heart to beat", || size(file) > before + 4).await;
}

/// Checks that no heart beats, or will.
pub(super) async fn is_still(file: &Path) {
    let before = size(file);
    assert!(before > 0, "it never beat");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(size(file), before, "it beats still");
}

pub(super) fn size(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |metadata| metadata.len())
}

pub(super) fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

/// Whether there is such a process, dead and not waited for or alive.
pub(super) fn is_there(pid: &str) -> bool {
    assert!(pid.parse::<u32>().is_ok(), "{pid:?}");
    Path::new("/proc").join(pid).exists()
}
