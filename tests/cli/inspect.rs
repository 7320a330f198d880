//! The commands that look into a store.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use lunacore::*;

use crate::support::*;

/// With `N d ago` for however long ago it is.
fn undated(text: &str) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    for place in 2..words.len() {
        if words[place].starts_with("ago") && words[place - 2].parse::<u32>().is_ok() {
            words[place - 2] = "N";
        }
    }
    words.join(" ")
}

#[test]
fn list_shows_runs_in_the_order_of_their_acceptance() {
    let (dir, _) = history();
    let expected = "\
RUN      PLAN  STATE      STEPS  ACCEPTED   TOOK
etl-1    etl   completed  4/4    N d ago  18.0 s
etl-2    etl   failed     1/2    N d ago  6.00 s
audit    -     cancelled  0/1    N d ago  3.00 s
hold     -     completed  1/1    N d ago  2.00 s
waiting  -     paused     0/2    N d ago  -
";
    assert_eq!(undated(&out(dir.path(), &["list"])), expected);
    let unfinished = out(dir.path(), &["list", "--unfinished"]);
    assert_eq!(unfinished.lines().count(), 2);
    assert!(unfinished.lines().nth(1).unwrap().starts_with("waiting  -"), "{unfinished}");
}

#[test]
fn list_as_json_has_a_run_a_line() {
    let (dir, path) = history();
    let runs = json_lines(&out(dir.path(), &["list", "--json"]));
    assert_eq!(runs.len(), 5);
    let reader = SqliteStore::open_read_only(path).unwrap();
    for run in &runs {
        let record = reader.run(&run["run_id"].as_str().unwrap().parse().unwrap()).unwrap().unwrap();
        assert_eq!(run["state"], record.state.as_str());
        assert_eq!(
            (run["steps"].as_u64(), run["completed"].as_u64()),
            (Some(record.steps as u64), Some(record.cursor as u64))
        );
    }
    let expected = serde_json::json!({
        "run_id": "etl-2", "name": "etl", "project": { "tenant": "default", "project": "default" },
        "state": "failed", "steps": 2, "completed": 1, "attempt": 1,
        "failure": {
            "kind": "error", "error": "the warehouse does not answer\nit was asked twice",
            "causes": ["connection refused"],
        },
        "accepted_at": "2026-01-01T00:00:18.000000Z", "started_at": "2026-01-01T00:00:18.000000Z",
        "finished_at": "2026-01-01T00:00:24.000000Z",
    });
    assert_eq!(runs[1], expected);
}

#[test]
fn many_runs_are_listed_page_by_page_with_one_header() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("runs.db")).unwrap().durability(Durability::Relaxed);
    actix::System::new().block_on(async move {
        let engine = Engine::builder().memory(ProjectMemory::with_store(store)).start().unwrap();
        for number in 0..2_500 {
            let plan = ExecutePlan::new([Step::new("s", || 1)]).run_id(format!("run-{number:04}"));
            engine.execute(plan).await.unwrap();
        }
        engine.shutdown(Shutdown::now()).await;
    });
    let listed = out(dir.path(), &["list"]);
    let ids: Vec<&str> = listed.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(ids[0], "RUN");
    assert!(ids[1..].iter().enumerate().all(|(number, id)| *id == format!("run-{number:04}")));
    assert_eq!(ids.len(), 2_501);
    assert_eq!(json_lines(&out(dir.path(), &["events", "--json"])).len(), 5 * 2_500);
}

#[test]
fn show_tells_of_a_run_and_draws_its_steps() {
    let (dir, _) = history();
    let expected = "\
Run       etl-1
Plan      etl
State     completed
Steps     4 of 4 done
Accepted  2026-01-01 00:00:00 UTC, N d ago
Started   2026-01-01 00:00:00 UTC, N d ago
Finished  2026-01-01 00:00:18 UTC, N d ago, took 18.0 s

✔ fetch                    ████                               2.00 s
✔ transform                    ▓▓┄┄┄┄┄┄┄┄┄██████              9.00 s      x2
↷ notify the sales depart…                      ▓▓            1.00 s
✔ load                                            ═══════████ 6.00 s

█ ran   ▓ failed   ┄ backed off   ═ paused
";
    let shown = undated(&out(dir.path(), &["show", "etl-1"]));
    assert_eq!(shown, expected);
}

#[test]
fn a_timeline_can_be_drawn_with_ascii_only() {
    let (dir, _) = history();
    let expected = "\
+ fetch                    ####                               2.00 s
+ transform                    xx.........######              9.00 s      x2
/ notify the sales depart.                      xx            1.00 s
+ load                                            =======#### 6.00 s

# ran   x failed   . backed off   = paused
";
    let drawn = out(dir.path(), &["show", "etl-1", "--ascii"]);
    let timeline = drawn.split_once("took 18.0 s\n\n").unwrap().1;
    assert!(drawn.is_ascii());
    assert_eq!(timeline, expected);
    // By itself where the locale knows no more.
    for locale in ["C", "de_DE.ISO-8859-1"] {
        let told: Told =
            command(&["show", "etl-1"]).current_dir(dir.path()).env("LANG", locale).output().unwrap().into();
        assert_eq!(told.out, drawn);
    }
}

#[test]
fn show_tells_why_a_run_failed_with_the_causes() {
    let (dir, _) = history();
    let shown = out(dir.path(), &["show", "etl-2"]);
    let expected = "
Failed (error): the warehouse does not answer
    it was asked twice
  caused by: connection refused

✔ fetch ██████████████████                                    2.00 s
✘ load                    ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓ 4.00 s

█ ran   ▓ failed
";
    let (_, told) = shown.split_once("took 6.00 s\n").unwrap();
    assert_eq!(told, expected);
    let waiting = out(dir.path(), &["show", "waiting"]);
    assert!(waiting.contains("State     paused\n"), "{waiting}");
    assert!(waiting.contains("\n· y"), "a step that never began has a row: {waiting}");
}

#[test]
fn show_as_json_has_the_run_and_what_its_steps_did() {
    let (dir, _) = history();
    let shown: serde_json::Value =
        serde_json::from_str(&out(dir.path(), &["show", "etl-1", "--json"])).unwrap();
    assert_eq!(shown["run"]["state"], "completed");
    let at = |second: u32| format!("2026-01-01T00:00:{second:02}.000000Z");
    let segment =
        |phase: &str, from, to| serde_json::json!({ "phase": phase, "from": at(from), "to": at(to) });
    let expected = serde_json::json!([
        { "id": "fetch", "state": "completed", "attempts": 1, "segments": [segment("attempt", 0, 2)] },
        {
            "id": "transform", "state": "completed", "attempts": 2,
            "segments": [segment("failed", 2, 3), segment("backing_off", 3, 8), segment("attempt", 8, 11)],
        },
        { "id": "notify the sales department", "state": "skipped", "attempts": 1, "segments": [segment("failed", 11, 12)] },
        {
            "id": "load", "state": "completed", "attempts": 1,
            "segments": [segment("paused", 12, 16), segment("attempt", 16, 18)],
        },
    ]);
    assert_eq!(shown["timeline"], expected);
}

#[test]
fn events_are_told_one_a_line() {
    let (dir, _) = history();
    let expected = "\
2026-01-01 00:00:18.000      18  plan.accepted  etl, 2 steps
2026-01-01 00:00:18.000      19  plan.started
2026-01-01 00:00:18.000      20  task.started fetch  attempt 1
2026-01-01 00:00:20.000      21  task.completed fetch  fetch
2026-01-01 00:00:20.000      22  task.started load  attempt 1
2026-01-01 00:00:24.000      23  task.failed load  attempt 1: the warehouse does not answer\\nit was asked twice
2026-01-01 00:00:24.000      24  plan.failed load  the warehouse does not answer\\nit was asked twice
";
    assert_eq!(out(dir.path(), &["events", "etl-2"]), expected);
    let some = out(dir.path(), &["events", "etl-1", "--pattern", "task.[cf]*"]);
    let kinds: Vec<&str> = some.lines().map(|line| line.split_whitespace().nth(3).unwrap()).collect();
    assert_eq!(kinds, ["task.completed", "task.failed", "task.completed", "task.failed", "task.completed"]);
    // Of all runs, each line says of which.
    let all = out(dir.path(), &["events", "--pattern", "plan.cancelled"]);
    assert!(all.ends_with("  audit  plan.cancelled\n"), "{all}");
    assert!(error(dir.path(), 2, &["events", "--pattern", "task.["]).contains("no \"]\" closes"));
}

#[test]
fn events_as_json_are_those_of_the_library() {
    let (dir, path) = history();
    let told = out(dir.path(), &["events", "--json"]);
    let told: Vec<Event> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let stored = SqliteStore::open_read_only(path).unwrap().events(0, 1_000).unwrap();
    assert!(stored.len() > 30);
    assert_eq!(told, stored);
}

#[test]
fn artifacts_are_listed_and_written_as_they_are() {
    let (dir, _) = history();
    let expected = "\
KEY                               VERSIONS  TYPE         BYTES  STORED
report                            1         data         9      N d ago
task:fetch                        1-2       task_result  5      N d ago
task:hold                         1         task_result  4      N d ago
task:load                         1         task_result  10     N d ago
task:notify the sales department  1         task_result  4      N d ago
task:transform                    1         task_result  9      N d ago
";
    assert_eq!(undated(&out(dir.path(), &["artifacts"])), expected);
    assert_eq!(out(dir.path(), &["artifacts", "report"]), "two rows\n");
    assert_eq!(out(dir.path(), &["artifacts", "task:fetch", "--version", "1"]), "fetch");
    let as_json = out(dir.path(), &["artifacts", "task:fetch", "--json"]);
    let artifact: serde_json::Value = serde_json::from_str(&as_json).unwrap();
    let fields = ["key", "version", "run_id", "encoding", "data"].map(|name| artifact[name].clone());
    assert_eq!(
        fields,
        ["task:fetch".into(), 2.into(), "etl-2".into(), "utf-8".into(), "fetch".into()]
            .map(|v: serde_json::Value| v)
    );
    let keys = json_lines(&out(dir.path(), &["artifacts", "--json"]));
    assert_eq!(
        (keys[1]["key"].as_str(), &keys[1]["versions"]),
        (Some("task:fetch"), &serde_json::json!([1, 2]))
    );
    assert_eq!(out(dir.path(), &["artifacts", "--tenant", "acme"]), "", "another tenant has none");
}

#[test]
fn bytes_are_written_as_bytes_and_told_as_base64() {
    let dir = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(dir.path().join("runs.db")).unwrap();
    actix::System::new().block_on(async move {
        use actix::Actor;
        let memory = ProjectMemory::with_store(store).start();
        memory.send(Put::new("logo", vec![0xff, 0, 7])).await.unwrap().unwrap();
    });
    let written = command(&["artifacts", "logo"]).current_dir(dir.path()).output().unwrap();
    assert_eq!(written.stdout, [0xff, 0, 7]);
    let told = json_lines(&out(dir.path(), &["artifacts", "logo", "--json"]));
    assert_eq!((&told[0]["encoding"], &told[0]["data"]), (&"base64".into(), &"/wAH".into()));
}

#[test]
fn what_is_not_there_is_an_error_that_names_what_looks_alike() {
    let (dir, _) = history();
    let failed = |args: &[&str]| error(dir.path(), 2, args);
    assert_eq!(
        failed(&["show", "etl"]),
        "error: several runs begin with etl: etl-1, etl-2; give more of the id\n"
    );
    assert_eq!(failed(&["show", "adit"]), "error: there is no run adit; did you mean audit?\n");
    assert_eq!(
        failed(&["events", "nothing-like-it"]),
        "error: there is no run nothing-like-it; `lunacore list` shows all\n"
    );
    assert_eq!(
        failed(&["artifacts", "fetch"]),
        "error: there is no artifact fetch; did you mean task:fetch?\n"
    );
    assert_eq!(
        failed(&["artifacts", "zzz"]),
        "error: there is no artifact zzz; `lunacore artifacts` lists all\n"
    );
    let version = failed(&["artifacts", "task:fetch", "--version", "7"]);
    assert_eq!(version, "error: there is no artifact task:fetch in version 7; there are the versions 1-2\n");
    assert!(failed(&["artifacts", "--version", "7"]).contains("<KEY>"), "a version of what?");
    assert!(failed(&["shwo", "x"]).contains("'show'"));
    // The beginning of one id only will do.
    assert!(out(dir.path(), &["show", "wait"]).starts_with("Run       waiting\n"));
}

#[test]
fn a_store_that_is_none_is_an_error_of_its_own_and_nothing_is_made() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["list"][..], &["show", "x"], &["events"], &["artifacts"], &["cancel", "x"]] {
        let message = error(dir.path(), 3, args);
        assert!(
            message.starts_with("error: there is no store \"") && message.contains("runs.db"),
            "{message}"
        );
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "looking makes nothing");
    std::fs::write(dir.path().join("notes.txt"), "no database, but a text that is long enough").unwrap();
    let message = error(dir.path(), 3, &["list", "--store", "notes.txt"]);
    assert!(message.contains("is not a store: it is no SQLite database"), "{message}");
    // The environment names the store, and the argument has the last word.
    let told: Told = command(&["list"]).env("LUNACORE_STORE", "/nowhere/x.db").output().unwrap().into();
    assert!(told.err.contains("/nowhere/x.db"), "{}", told.err);
}

/// Who may write everywhere is of no use to see what needs no right to write.
fn as_nobody(binary: &Path, args: &[&str]) -> std::process::Command {
    if !nix::unistd::geteuid().is_root() {
        return command_at(binary, args);
    }
    let mut all = vec!["--reuid=65534", "--regid=65534", "--clear-groups", binary.to_str().unwrap()];
    all.extend(args);
    command_at(Path::new("setpriv"), &all)
}

#[test]
fn looking_needs_no_right_to_write() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, path) = history();
    let allow =
        |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let outside = tempfile::tempdir().unwrap();
    let binary = outside.path().join("lunacore");
    std::fs::copy(env!("CARGO_BIN_EXE_lunacore"), &binary).unwrap();
    allow(outside.path(), 0o755);
    let odd = dir.path().join("50% of #1?.db");
    std::fs::rename(&path, &odd).unwrap();
    allow(&odd, 0o444);
    allow(dir.path(), 0o555);
    let told: Told =
        as_nobody(&binary, &["list", "--json", "--store", odd.to_str().unwrap()]).output().unwrap().into();
    assert_eq!((told.code, told.err.as_str()), (Some(0), ""));
    assert_eq!(told.out.lines().count(), 5);
    let told: Told =
        as_nobody(&binary, &["cancel", "waiting", "--store", odd.to_str().unwrap()]).output().unwrap().into();
    assert_eq!((told.code, told.out.as_str()), (Some(3), ""), "{}", told.err);
    assert!(told.err.contains("cannot be written to"), "{}", told.err);
    allow(dir.path(), 0o755);
}

/// An engine in this process, with a run whose step waits to be let go of.
struct Life {
    engine: Engine,
    gate: std::sync::Arc<tokio::sync::Semaphore>,
}

impl Life {
    fn start(path: &Path) -> Self {
        let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
        let engine = Engine::builder().memory(ProjectMemory::open(path).unwrap()).spawn().unwrap();
        let life = Self { engine, gate };
        let gate = life.gate.clone();
        let step = Step::new("hold", move || {
            let gate = gate.clone();
            async move { gate.acquire().await.map(|permit| permit.forget()).map(|()| "let go") }
        });
        let plan = ExecutePlan::new([step, Step::new("then", || 1)]).run_id("live");
        block_on(life.engine.submit(plan)).unwrap();
        life
    }

    fn end(self) {
        self.gate.add_permits(1);
        block_on(self.engine.shutdown(Shutdown::drain(Duration::from_secs(20))));
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn looking_works_while_another_process_runs_and_cancelling_says_who_has_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runs.db");
    let life = Life::start(&path);
    assert!(out(dir.path(), &["list"]).contains("live  -     running  0/2"));
    assert!(out(dir.path(), &["show", "live"]).contains("▶ hold"));
    let message = error(dir.path(), 3, &["cancel", "live"]);
    let pid = std::process::id();
    assert!(message.contains(&format!("is in use by process {pid} since ")), "{message}");
    assert!(message.ends_with("; end it, or open the store for reading only\n"), "{message}");
    life.end();
    assert!(out(dir.path(), &["list"]).contains("live  -     completed  2/2"));
}

#[test]
fn following_tells_what_comes_until_the_run_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runs.db");
    let life = Life::start(&path);
    let mut child = command(&["events", "live", "--follow", "--json"]);
    let mut child = Running(child.current_dir(dir.path()).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.0.stdout.take().unwrap()));
    let mut next = || -> String {
        let event: Event = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        event.to_string()
    };
    assert_eq!([next(), next(), next()], ["plan.accepted", "plan.started", "task.started hold"]);
    assert!(child.0.try_wait().unwrap().is_none(), "it waits for more");
    life.end();
    assert_eq!([next(), next()], ["task.completed hold", "task.started then"]);
    assert_eq!([next(), next()], ["task.completed then", "plan.completed"]);
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    // One that is over has nothing to wait for.
    assert_eq!(out(dir.path(), &["events", "live", "--follow"]).lines().count(), 7);
}

#[test]
fn a_run_is_cancelled_and_nothing_else_happens() {
    let (dir, path) = history();
    let before = json_lines(&out(dir.path(), &["list", "--json"]));
    assert_eq!(out(dir.path(), &["cancel", "wai"]), "run waiting is cancelled\n");
    let after = json_lines(&out(dir.path(), &["list", "--json"]));
    assert_eq!(before[..4], after[..4]);
    assert_eq!((&after[4]["state"], &after[4]["completed"]), (&"cancelled".into(), &0.into()));
    assert_eq!(out(dir.path(), &["cancel", "waiting"]), "run waiting was cancelled already\n");
    assert_eq!(out(dir.path(), &["cancel", "etl-2"]), "run etl-2 was failed already\n");
    let told: serde_json::Value =
        serde_json::from_str(&out(dir.path(), &["cancel", "etl-2", "--json"])).unwrap();
    assert_eq!(told, serde_json::json!({ "run_id": "etl-2", "state": "failed", "cancelled": false }));
    // Whoever opens it next finds it in order.
    SqliteStore::open(path).unwrap();
}

#[test]
fn output_that_nobody_reads_any_more_is_no_failure() {
    let (dir, _) = history();
    for args in [&["list"][..], &["events", "--json"], &["show", "etl-1"], &["completions", "bash"]] {
        let mut child = command(args)
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let told: Told = child.wait_with_output().unwrap().into();
        assert_eq!((told.code, told.err.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn completions_and_help_know_every_command() {
    let dir = Path::new(".");
    let help = out(dir, &["--help"]);
    assert!(help.contains("Exit codes:\n  0    done"), "{help}");
    let commands =
        ["list", "show", "events", "artifacts", "cancel", "completions", "retry", "resolve", "signal"];
    let script = out(dir, &["completions", "bash"]);
    for command in commands {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
        assert!(script.contains(&format!("lunacore__subcmd__{command}")), "{command}");
    }
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        assert!(out(dir, &["completions", shell]).contains("lunacore"), "{shell}");
    }
    let version = out(dir, &["--version"]);
    assert_eq!(version, format!("lunacore {}\n", env!("CARGO_PKG_VERSION")));
}
