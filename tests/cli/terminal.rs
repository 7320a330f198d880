//! What the command does on a terminal and does not elsewhere.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::pty::{Winsize, openpty};

use crate::support::*;

/// A terminal of this many columns, whose screen shows what was written to it.
pub struct Terminal {
    shown: std::thread::JoinHandle<Vec<u8>>,
    pub child: Child,
}

/// Which of the two goes to the terminal.
#[derive(Clone, Copy, PartialEq)]
pub enum Goes {
    Stdout,
    Stderr,
}

impl Terminal {
    pub fn start(mut command: Command, goes: Goes, columns: u16) -> Self {
        let size = Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        match goes {
            Goes::Stdout => command.stdout(pty.slave).stderr(Stdio::piped()),
            Goes::Stderr => command.stderr(pty.slave).stdout(Stdio::piped()),
        };
        let child = command.spawn().unwrap();
        // The command holds the other end open otherwise, and the reading would not end.
        drop(command);
        let mut master = std::fs::File::from(pty.master);
        let shown = std::thread::spawn(move || {
            let (mut all, mut some) = (Vec::new(), [0; 4096]);
            // Linux answers with an error when the last writer has gone.
            while let Ok(read @ 1..) = master.read(&mut some) {
                all.extend_from_slice(&some[..read]);
            }
            all
        });
        Self { shown, child }
    }

    /// What was written to the terminal, and the exit code.
    pub fn end(mut self) -> (String, Option<i32>) {
        let code = self.child.wait().unwrap().code();
        (String::from_utf8(self.shown.join().unwrap()).unwrap(), code)
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
