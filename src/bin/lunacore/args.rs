//! The command line, as clap reads it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use lunacore::{Retention, Secrets};

/// Below the help of the command and of each that may end so: the one table of exit codes.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done: the plan completed, or what was asked for was told
  1    the plan failed
  2    the command, the plan or an input is not valid, or names something that is not there
  3    the store cannot be opened, is in use by another process, or failed; or the output cannot be written
  4    the run was cancelled
  5    the run was cut off, or cannot go on by itself; it is in the store as it was
  6    the run waits, for a signal, for somebody's decision or for its time; it can go on from the store
  130  ended at once, by a second Ctrl-C";

/// Runs plans of steps, and shows what a store holds.
///
/// Data goes to stdout; progress and errors go to stderr. Times are UTC.
#[derive(Debug, Parser)]
#[command(name = "lunacore", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Log on stderr what happens inside; RUST_LOG says more exactly of what
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a plan file, or goes on with the run of it that was cut off
    Run(Run),
    /// Goes on with runs that were cut off, from the plans that are stored with them
    Resume(Resume),
    /// Tries a run again that failed, was cancelled or cut off, or is held: from the step at which it stands, or one before it
    Retry(Retry),
    /// Decides about the step at which a run is held, or that failed it, and goes on with the run
    Resolve(Resolve),
    /// Sends a signal to a run, which keeps it until a step takes it
    Signal(Signal),
    /// Checks a plan file, and tells its steps and what they depend on; or all that is wrong with it
    Check(Check),
    /// Prints the JSON Schema of plan files
    Schema,
    /// Lists the callables that steps can use
    Callables(Callables),
    /// Lists the runs of a store in the order in which they were accepted
    List(List),
    /// Shows a run: where it stands, why it failed, and when its steps ran
    Show(Show),
    /// Prints stored events, of one run or of all
    Events(Events),
    /// Lists the artifacts of a store, or writes the data of one to stdout
    Artifacts(Artifacts),
    /// Cancels a run of a store that no process has open for running
    Cancel(Cancel),
    /// Removes from a store what is not to be kept any more; no process may have it open for running
    Gc(Gc),
    /// Writes a completion script for a shell to stdout
    Completions(Completions),
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Run {
    /// The plan: a .yaml, .toml or .json file
    pub(crate) plan: PathBuf,
    /// Gives an input of the plan its value; a text is taken as it stands, everything else is JSON
    #[arg(long = "input", short = 'i', value_name = "NAME=VALUE")]
    pub(crate) inputs: Vec<String>,
    /// Names the run; one that the store knows by this name is attached to, or goes on
    #[arg(long, value_name = "ID", conflicts_with = "new")]
    pub(crate) run_id: Option<String>,
    /// Begin a new run, although one of the same plan was cut off
    #[arg(long)]
    pub(crate) new: bool,
    /// The store: a file, which is made if it is missing
    #[arg(long, value_name = "PATH", env = "LUNACORE_STORE", default_value = "runs.db")]
    pub(crate) store: PathBuf,
    /// Keep nothing: the run ends with the command
    #[arg(long)]
    pub(crate) in_memory: bool,
    #[command(flatten)]
    pub(crate) secrets: Hidden,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    /// Print the outputs as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Show no progress
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Resume {
    /// The run, or the beginning of its id; without it, all that are unfinished, in the order of their acceptance
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) secrets: Hidden,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    /// Show no progress
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Retry {
    /// The run, or the beginning of its id
    pub(crate) run: String,
    /// Begin with this step; results of the steps before it are kept
    #[arg(long, value_name = "STEP")]
    pub(crate) from: Option<String>,
    /// Change the input of the step that it begins with: a member, by its name or by a path such as headers.accept or
    /// items.0; the value is JSON if it can be, and a text otherwise
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub(crate) set: Vec<String>,
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) secrets: Hidden,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    /// Show no progress
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
#[group(id = "how", required = true, multiple = false, args = ["completed", "rerun", "failed", "skip"])]
pub(crate) struct Resolve {
    /// The run, or the beginning of its id
    pub(crate) run: String,
    /// The step; the one that the run is held at, or that failed it, if it is not given
    pub(crate) step: Option<String>,
    /// It had its effect: it counts as completed, with this output, which is JSON if it can be, and a text otherwise; null
    /// by default
    #[arg(long, value_name = "OUTPUT", num_args = 0..=1, default_missing_value = "null")]
    pub(crate) completed: Option<String>,
    /// It had none: it is called again
    #[arg(long)]
    pub(crate) rerun: bool,
    /// It failed for good, for this reason, and so does the plan
    #[arg(long, value_name = "REASON")]
    pub(crate) failed: Option<String>,
    /// The plan goes on without it: its output is null
    #[arg(long)]
    pub(crate) skip: bool,
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) secrets: Hidden,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    /// Show no progress
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Signal {
    /// The run, or the beginning of its id
    pub(crate) run: String,
    /// The name of the signal
    pub(crate) name: String,
    /// What it brings, which becomes the output of the step that takes it: JSON if it can be, and a text otherwise; null by
    /// default
    pub(crate) payload: Option<String>,
    /// Take that from a file, or from stdin if it is -; of a text, the end of its last line is left out
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    pub(crate) file: Option<PathBuf>,
    /// Go on with the run
    #[arg(long)]
    pub(crate) resume: bool,
    #[command(flatten)]
    pub(crate) source: Source,
    #[command(flatten)]
    pub(crate) secrets: Hidden,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
    /// Show no progress
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// What the limits are that steps name.
#[derive(Debug, Args)]
pub(crate) struct Bounds {
    /// Bounds the steps that keep to the limit NAME: 60/1m lets 60 attempts start in a minute, evenly; 60/1m+10 with a burst of 10;
    /// 4 lets 4 be under way at a time, and 4,60/1m is both. Without this, a limit lets one be under way at a time
    #[arg(long = "limit", value_name = "NAME=LIMIT")]
    pub(crate) limits: Vec<String>,
}

/// Where `secrets.NAME` is.
#[derive(Debug, Args)]
pub(crate) struct Hidden {
    /// Look for secrets in this folder first, in a file for each; then in the environment
    #[arg(long = "secrets", value_name = "FOLDER", env = "LUNACORE_SECRETS")]
    folder: Option<PathBuf>,
}

impl Hidden {
    pub(crate) fn secrets(&self) -> Secrets {
        match &self.folder {
            Some(folder) => Secrets::folder(folder).or(Secrets::env()),
            None => Secrets::env(),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The plan: a .yaml, .toml or .json file
    pub(crate) plan: PathBuf,
    /// Print a Mermaid flowchart
    #[arg(long, conflicts_with = "json")]
    pub(crate) mermaid: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Callables {
    /// Print a line of JSON for each, with the schema of its input
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the store is, and in which form to tell what it holds.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// The store: a file
    #[arg(long, value_name = "PATH", env = "LUNACORE_STORE", default_value = "runs.db")]
    pub(crate) store: PathBuf,
    /// Print JSON: a line for each thing that is listed, or one object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Only runs that have not come to their end
    #[arg(long)]
    pub(crate) unfinished: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The run, or the beginning of its id
    pub(crate) run: String,
    #[command(flatten)]
    pub(crate) source: Source,
    /// Draw with plain ASCII; this is so by itself where the locale is not UTF-8
    #[arg(long)]
    pub(crate) ascii: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// The run, or the beginning of its id; without it, the events of all runs
    pub(crate) run: Option<String>,
    #[command(flatten)]
    pub(crate) source: Source,
    /// Only events whose type matches, such as 'task.*'
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    pub(crate) pattern: String,
    /// Go on with what comes, until the run ends, or until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Artifacts {
    /// The artifact, such as task:fetch; without it, all keys are listed
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) source: Source,
    /// This version, and not the latest
    #[arg(long, value_name = "N", requires = "key", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) version: Option<u64>,
    /// The tenant that it belongs to
    #[arg(long, default_value = "default")]
    pub(crate) tenant: String,
    /// The project of the tenant
    #[arg(long, default_value = "default")]
    pub(crate) project: String,
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// The run, or the beginning of its id
    pub(crate) run: String,
    #[command(flatten)]
    pub(crate) source: Source,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Unfinished runs are kept, and so are the last version of each artifact, the last event, and the run that was accepted last. The
artifacts of a run outlive it: --keep-versions bounds them. Times are such as 90m, 12h, 30d or 1y.")]
pub(crate) struct Gc {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Keep at most the last N versions of each artifact
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    keep_versions: Option<u64>,
    /// Keep at most N finished runs: those that finished last
    #[arg(long, value_name = "N")]
    keep_runs: Option<u64>,
    /// Keep finished runs for so long after their end
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    keep_runs_for: Option<Duration>,
    /// Keep events for so long, also those of runs that are kept
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    keep_events_for: Option<Duration>,
    /// Give the free space back to the disk: the file is written anew
    #[arg(long)]
    pub(crate) vacuum: bool,
    /// Only tell what would be removed
    #[arg(long, conflicts_with = "vacuum")]
    pub(crate) dry_run: bool,
}

impl Gc {
    pub(crate) fn retention(&self) -> Retention {
        let mut retention = Retention::new();
        retention.keep_versions = self.keep_versions;
        retention.keep_runs = self.keep_runs;
        retention.keep_runs_for = self.keep_runs_for;
        retention.keep_events_for = self.keep_events_for;
        retention
    }
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}
