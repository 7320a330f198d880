//! The command `lunacore`: runs plan files, and shows what a store holds.
//!
//! Data goes to stdout, progress and errors to stderr, and the exit code tells how it ended:
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done: the plan completed, or what was asked for was told |
//! | 1 | the plan failed |
//! | 2 | the command, the plan or an input is not valid, or names something that is not there |
//! | 3 | the store cannot be opened, is in use by another process, or failed; or the output cannot be written |
//! | 4 | the run was cancelled |
//! | 5 | the run was cut off, or cannot go on by itself; it is in the store as it was |
//! | 6 | the run waits, for a signal, for somebody's decision or for its time; it can go on from the store |
//! | 130 | ended at once, by a second Ctrl-C |
//!
//! Output that nobody reads any more (`lunacore list | head -1`) is no failure.
//!
//! Everything here goes through the public API of the crate: whatever the command does, an application can.

mod args;
mod callables;
mod check;
mod exit;
mod gc;
mod inspect;
mod json;
mod progress;
mod run;
mod screen;
mod store;
mod table;
mod times;
mod words;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};
use exit::{Exit, Failure};
use screen::{Screen, complain};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut screen = Screen::stdout();
    log_to_stderr(cli.verbose);
    let done = perform(cli.command, &mut screen).and_then(|exit| screen.flush().map(|()| exit));
    match done {
        Ok(exit) => exit.into(),
        Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(Failure::Told { exit, message }) => {
            // What was written before comes first, also where both go to the same place.
            let _ = screen.flush();
            complain(&message);
            exit.into()
        }
    }
}

/// By default nothing is logged: what a user has to know, the command says.
fn log_to_stderr(verbose: bool) {
    let level = if verbose { "lunacore=debug" } else { "off" };
    let mut log = env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level));
    // There is one already only where the command is part of a test.
    let _ = log.try_init();
}

fn perform(command: Command, screen: &mut Screen) -> Result<Exit, Failure> {
    match command {
        Command::Run(run) => run::run(&run, screen),
        Command::Resume(resume) => run::resume(&resume, screen),
        Command::Retry(retry) => run::retry(&retry, screen),
        Command::Resolve(resolve) => run::resolve(&resolve, screen),
        Command::Signal(signal) => run::signal(&signal, screen),
        Command::Check(check) => check::check(&check, screen),
        Command::Schema => check::schema(screen),
        Command::Callables(callables) => check::callables(callables.json, screen),
        Command::List(list) => inspect::list(&list, screen),
        Command::Show(show) => inspect::show(&show, screen),
        Command::Events(events) => inspect::events(&events, screen),
        Command::Artifacts(artifacts) => inspect::artifacts(&artifacts, screen),
        Command::Cancel(cancel) => inspect::cancel(&cancel, screen),
        Command::Gc(gc) => gc::gc(&gc, screen),
        Command::Completions(completions) => {
            let mut script = Vec::new();
            clap_complete::generate(completions.shell, &mut Cli::command(), "lunacore", &mut script);
            screen.bytes(&script)?;
            Ok(Exit::Done)
        }
    }
}
