//! What the command does on a terminal and does not elsewhere.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::run::{calls, folder, send, waiting};
use crate::support::*;

/// A terminal of this many columns, and who writes to it.
pub struct Terminal {
    written: std::thread::JoinHandle<Vec<u8>>,
    screen: Arc<Mutex<vt100::Parser>>,
    pub child: Running,
}

const ROWS: u16 = 30;

/// Which of the two goes to the terminal.
#[derive(Clone, Copy, PartialEq)]
pub enum Goes {
    Stdout,
    Stderr,
}

impl Terminal {
    pub fn start(mut command: Command, goes: Goes, columns: u16) -> Self {
        let size = Winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        match goes {
            Goes::Stdout => command.stdout(pty.slave).stderr(Stdio::piped()),
            Goes::Stderr => command.stderr(pty.slave).stdout(Stdio::piped()),
        };
        let child = Running(command.spawn().unwrap());
        // The command holds the other end open otherwise, and the reading would not end.
        drop(command);
        let mut master = std::fs::File::from(pty.master);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(
            ROWS.try_into().unwrap(),
            columns.try_into().unwrap(),
            1_000,
        )));
        let drawn = Arc::clone(&screen);
        let written = std::thread::spawn(move || {
            let (mut all, mut some) = (Vec::new(), [0; 4096]);
            // Linux answers with an error when the last writer has gone.
            while let Ok(read @ 1..) = master.read(&mut some) {
                all.extend_from_slice(&some[..read]);
                drawn.lock().unwrap().process(&some[..read]);
            }
            all
        });
        Self { written, screen, child }
    }

    /// The lines on the screen, without what is empty at their ends.
    fn screen(&self) -> Vec<String> {
        let parser = self.screen.lock().unwrap();
        let columns = parser.screen().size().1;
        let rows = parser.screen().rows(0, columns.get());
        let mut lines: Vec<String> = rows.map(|line| line.trim_end().to_owned()).collect();
        lines.truncate(lines.iter().rposition(|line| !line.is_empty()).map_or(0, |last| last + 1));
        lines
    }

    /// Waits until the screen shows what is looked for.
    fn until(&self, what: &str, shows: impl Fn(&[String]) -> bool) -> Vec<String> {
        let last = std::cell::RefCell::new(Vec::new());
        let found = try_for(|| {
            let screen = self.screen();
            let shows = shows(&screen);
            last.replace(screen);
            shows.then_some(())
        });
        assert!(found.is_some(), "waited in vain for {what}: {:#?}", last.borrow());
        last.into_inner()
    }

    /// What was written to the terminal, and the exit code.
    pub fn end(mut self) -> (String, Option<i32>) {
        let code = self.child.0.wait().unwrap().code();
        (String::from_utf8(self.written.join().unwrap()).unwrap(), code)
    }
}

fn shown(dir: &Path, args: &[&str], columns: u16, set: &[(&str, &str)]) -> String {
    let mut command = command(args);
    command.current_dir(dir).envs(set.iter().copied());
    let (shown, code) = Terminal::start(command, Goes::Stdout, columns).end();
    assert_eq!(code, Some(0));
    shown
}

#[test]
fn colours_are_for_terminals_and_not_where_no_color_is_set() {
    let (dir, _) = history();
    let list = |set| shown(dir.path(), &["list"], 100, set);
    assert!(list(&[]).contains("\u{1b}[32mcompleted\u{1b}[0m"), "{}", list(&[]));
    // An empty one counts as none.
    assert!(list(&[("NO_COLOR", "")]).contains("\u{1b}["));
    assert!(!list(&[("NO_COLOR", "1")]).contains('\u{1b}'));
    assert!(!list(&[("TERM", "dumb")]).contains('\u{1b}'));
    assert!(!out(dir.path(), &["list"]).contains('\u{1b}'));
}

#[test]
fn the_timeline_is_as_wide_as_the_terminal() {
    let (dir, _) = history();
    let widest = |columns| {
        let shown = shown(dir.path(), &["show", "etl-1"], columns, &[("NO_COLOR", "1")]);
        shown
            .lines()
            .filter(|line| line.contains('█'))
            .map(|line| line.trim_end().chars().count())
            .max()
            .unwrap()
    };
    for columns in [60, 100, 140] {
        let width = widest(columns);
        assert!(width <= usize::from(columns) && width > usize::from(columns) - 16, "{width} of {columns}");
    }
}

#[test]
fn data_on_a_terminal_ends_its_line_and_elsewhere_is_as_it_is() {
    let (dir, _) = history();
    let key = &["artifacts", "task:fetch"];
    assert_eq!(shown(dir.path(), key, 80, &[]), "fetch\r\n");
    assert_eq!(out(dir.path(), key), "fetch");
}

fn run_on_terminal(dir: &Path, args: &[&str], columns: u16) -> Terminal {
    let mut command = command(args);
    command.current_dir(dir).env("NO_COLOR", "1");
    Terminal::start(command, Goes::Stderr, columns)
}

/// With `*` for the spinner, whatever turn it is at.
fn still(lines: &[String]) -> Vec<String> {
    let still = |line: &String| line.replace(|c: char| ('\u{2800}'..='\u{28ff}').contains(&c), "*");
    lines.iter().map(|line| normal(&still(line)).trim_end().to_owned()).collect()
}

#[test]
fn progress_has_a_line_for_each_step_in_sight() {
    let dir = folder(&[("plan.json", waiting("demo"))]);
    let terminal = run_on_terminal(dir.path(), &["run", "plan.json", "--run-id", "r"], 70);
    let screen =
        terminal.until("the second step", |screen| screen.iter().any(|line| line.contains("⠼ second")));
    let expected =
        ["run r of the plan demo", "━━━━━━━━──────────────── 1/3 N", "✔ first N", "* second N", "· third"];
    assert_eq!(still(&screen), expected);
    std::fs::write(dir.path().join("go"), "").unwrap();
    // The display goes away, and its summary stays.
    let (written, screen) = {
        let screen = terminal.until("the end", |screen| screen.len() == 2 && screen[1].contains("completed"));
        let (written, code) = terminal.end();
        assert_eq!(code, Some(0));
        (written, screen)
    };
    assert_eq!(still(&screen), ["run r of the plan demo", "✔ completed after N: 3 of 3 steps done"]);
    let codes =
        written.split("\u{1b}[").skip(1).map(|code| code.trim_start_matches(|c: char| c.is_ascii_digit()));
    assert!(codes.into_iter().all(|code| !code.starts_with('m')), "no colours where NO_COLOR is set");
}

#[test]
fn progress_counts_down_to_the_next_attempt_and_shows_what_a_step_says() {
    let plan = json!({ "steps": [
        { "id": "talk", "uses": "shell", "with": { "script": "echo half way; while [ ! -e go ]; do sleep 0.02; done" } },
        { "id": "shaky", "uses": "fail", "with": { "message": "no disk" }, "retry": { "max_attempts": 2, "delay": "30s", "jitter": "none" } },
    ] });
    let dir = folder(&[("plan.json", plan)]);
    let terminal = run_on_terminal(dir.path(), &["run", "plan.json"], 90);
    let shows = |what: &'static str| move |screen: &[String]| screen.iter().any(|line| line.contains(what));
    terminal.until("the output", shows(" s | half way"));
    std::fs::write(dir.path().join("go"), "").unwrap();
    terminal.until("the wait", shows("… shaky  attempt 2 in 30.0 s: no disk"));
    terminal.until("the countdown", shows("attempt 2 in 28.0 s"));
    // The first Ctrl-C is told above the display.
    send(&terminal.child.0, Signal::SIGINT);
    let screen = terminal.until("the end", shows("cancelled after"));
    assert!(screen.iter().any(|line| line == "stopping; once more ends at once"), "{screen:#?}");
    assert_eq!(terminal.end().1, Some(4));
}

#[test]
fn a_thousand_steps_do_not_flood_the_terminal() {
    let noop = |n: usize| json!({ "id": format!("step-{n}"), "uses": "noop" });
    let mut steps: Vec<_> = (0..1_000).map(noop).collect();
    let script = "echo here >> calls; while [ ! -e go ]; do sleep 0.02; done";
    steps.insert(700, json!({ "id": "wait", "uses": "shell", "with": { "script": script } }));
    let dir = folder(&[("plan.json", json!({ "steps": steps }))]);
    let mut terminal = run_on_terminal(dir.path(), &["run", "plan.json", "--in-memory"], 40);
    // Nobody reads its outputs; they would fill the pipe.
    drop(terminal.child.0.stdout.take());
    wait_for("the step", || (calls(dir.path()).len() == 1).then_some(()));
    // A frame may be read before all of it is written.
    let whole = |screen: &[String]| {
        screen.iter().any(|line| line.contains("700/1001"))
            && screen.last().is_some_and(|line| line.contains("step-702"))
    };
    let screen = terminal.until("the step", whole);
    let lines: Vec<_> = screen.iter().skip_while(|line| !line.contains("700/1001")).collect();
    assert_eq!(lines.len(), 7, "two that are over, the one at work, and three to come: {screen:#?}");
    assert!(screen.iter().all(|line| line.chars().count() <= 40), "{screen:#?}");
    std::thread::sleep(std::time::Duration::from_millis(500));
    std::fs::write(dir.path().join("go"), "").unwrap();
    let (written, _) = terminal.end();
    // A frame has some 300 bytes, twenty times a second; each line alone would be 25,000 and more for 1,000 steps.
    let frames = written.matches("/1001").count();
    assert!(frames >= 4, "it is drawn while nothing happens, for time goes on: {frames}");
    assert!(written.matches("step-").count() < 1_000, "{} bytes, {frames} frames", written.len());
}
