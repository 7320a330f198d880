//! Starting the command, and stores for it to look into.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use lunacore::testing::virtual_clock;
use lunacore::*;

/// The command, without what the environment of the test would have it do.
pub fn command(args: &[&str]) -> Command {
    command_at(Path::new(env!("CARGO_BIN_EXE_lunacore")), args)
}

pub fn command_at(binary: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command.args(args).stdin(Stdio::null());
    for name in ["LUNACORE_STORE", "NO_COLOR", "CLICOLOR_FORCE", "COLUMNS", "LC_ALL", "LC_CTYPE", "RUST_LOG"]
    {
        command.env_remove(name);
    }
    command.env("LANG", "C.UTF-8").env("TERM", "xterm-256color");
    command
}

/// What a command that has ended left.
#[derive(Debug, PartialEq)]
pub struct Told {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Told {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs the command in a folder.
pub fn run_in(dir: &Path, args: &[&str]) -> Told {
    command(args).current_dir(dir).output().unwrap().into()
}

/// The output of a command that says nothing on stderr and ends well.
pub fn out(dir: &Path, args: &[&str]) -> String {
    let told = run_in(dir, args);
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{args:?}: {}", told.out);
    told.out
}

/// The message of a command that says nothing on stdout and ends with this code.
pub fn error(dir: &Path, code: i32, args: &[&str]) -> String {
    let told = run_in(dir, args);
    assert_eq!((told.code, told.out.as_str()), (Some(code), ""), "{args:?}: {}", told.err);
    told.err
}

/// Each line as JSON.
pub fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// With `ID`, `TIME` and `N` for run ids that nobody chose, times of the day and durations.
pub fn normal(text: &str) -> String {
    let is_uuid = |word: &str| word.len() == 36 && word.bytes().filter(|byte| *byte == b'-').count() == 4;
    let is_time = |word: &str| word.len() == 8 && word.bytes().filter(|byte| *byte == b':').count() == 2;
    let is_number = |word: &str| word.parse::<f64>().is_ok();
    let line = |line: &str| {
        let mut words: Vec<&str> = line.split(' ').collect();
        for place in 0..words.len() {
            if is_uuid(words[place]) {
                words[place] = "ID";
            } else if is_time(words[place]) {
                words[place] = "TIME";
            } else if place > 0
                && is_number(words[place - 1])
                && ["ms", "s", "ms:", "s:"].contains(&words[place])
            {
                words[place] = if words[place].ends_with(':') { "N:" } else { "N" };
                words[place - 1] = "";
            }
        }
        words.retain(|word| !word.is_empty());
        words.join(" ") + "\n"
    };
    text.lines().map(line).collect()
}

/// Ends with its test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks again and again until there is an answer; a test fails rather than wait for ever.
pub fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    try_for(ask).unwrap_or_else(|| panic!("waited in vain for {what}"))
}

/// The same, for who knows more to say when it was in vain.
pub fn try_for<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..3_000 {
        let answer = ask();
        if answer.is_some() {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

#[derive(Debug, thiserror::Error)]
#[error("the warehouse does not answer\nit was asked twice")]
struct NoAnswer {
    source: std::io::Error,
}

/// Timers fire up to a millisecond late, which nobody is to see.
fn whole_seconds() -> Clock {
    let clock = virtual_clock();
    Clock::new(move || {
        let since = clock.now().duration_since(UNIX_EPOCH).unwrap();
        UNIX_EPOCH + Duration::from_secs(since.as_secs())
    })
}

async fn after(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn quick(id: &'static str) -> Step {
    Step::new(id, move || async move {
        after(2).await;
        id
    })
}

/// A store in which the year 2026 has just begun, and everything has happened by the second. Its runs:
///
/// - `etl-1` completed, after a retry, a step that was skipped, and a pause;
/// - `etl-2` failed, with causes;
/// - `audit` was cancelled in its first step;
/// - `waiting` is paused before its first step, and comes behind a run with an id of its own, `hold`.
pub fn history() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runs.db");
    let store = SqliteStore::open(&path).unwrap();
    actix::System::new().block_on(async move {
        tokio::time::pause();
        let memory = ProjectMemory::with_store(store);
        let engine = Engine::builder().memory(memory).clock(whole_seconds()).start().unwrap();
        engine.execute(etl(&engine)).await.unwrap();

        let broken = Step::new("load", || async {
            after(4).await;
            Err::<(), _>(NoAnswer { source: std::io::Error::other("connection refused") })
        });
        let failing = Plan::new([quick("fetch"), broken]).name("etl");
        engine.execute(ExecutePlan::new(failing).run_id("etl-2")).await.unwrap_err();

        let endless = ExecutePlan::new([Step::new("look", std::future::pending::<()>)]);
        let handle = engine.submit(endless.run_id("audit")).await.unwrap();
        after(3).await;
        engine.cancel(handle.run_id()).await.unwrap();

        let hold = engine.submit(ExecutePlan::new([quick("hold")]).run_id("hold")).await.unwrap();
        let waiting = ExecutePlan::new([quick("x"), quick("y")]).run_id("waiting");
        let handle = engine.submit(waiting).await.unwrap();
        engine.pause(handle.run_id()).await.unwrap();
        hold.await.unwrap();
        engine.shutdown(Shutdown::drain(Duration::from_secs(1))).await;
    });
    (dir, path)
}

fn etl(engine: &Engine) -> ExecutePlan {
    let transform = Step::new("transform", |ctx: StepContext| async move {
        if ctx.attempt() == 1 {
            after(1).await;
            return Err("row 17 has no date");
        }
        after(3).await;
        Ok(vec!["a", "b"])
    });
    let engine = engine.clone();
    let notify = Step::new("notify the sales department", move |ctx: StepContext| {
        let engine = engine.clone();
        async move {
            // The run pauses after this step, and goes on four seconds later.
            actix::spawn(async move {
                engine.pause(ctx.run_id()).await.unwrap();
                after(5).await;
                engine.resume(ctx.run_id()).await.unwrap();
            });
            after(1).await;
            Err::<(), _>("nobody there")
        }
    });
    let load = Step::new("load", |ctx: StepContext| async move {
        after(2).await;
        ctx.put_artifact("report", "two rows\n")?;
        Ok::<_, StepError>(serde_json::json!({ "rows": 2 }))
    });
    let steps = [
        quick("fetch"),
        transform.retry(Retry::fixed(Duration::from_secs(5))),
        notify.on_failure(OnFailure::Continue),
        load,
    ];
    ExecutePlan::new(Plan::new(steps).name("etl")).run_id("etl-1")
}
