//! The input of `shell`, and the command that it means.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use lunacore::StepContext;
use schemars::JsonSchema;
use serde::Deserialize;

use super::error::ShellError;
use crate::callables::group::Group;
use crate::callables::text::Text;

/// Where programs are looked for when nobody says.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The input of `shell`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["script"] }, { "required": ["argv"] }]))]
pub(crate) struct Args {
    /// Run by `/bin/sh -e -c`.
    script: Option<String>,
    /// A program and its arguments, run as they are, without a shell's interpretation.
    argv: Option<Vec<Text>>,
    /// The folder to run in; the one in which the command runs by default.
    cwd: Option<PathBuf>,
    /// Variables that are added to the environment of the command.
    #[serde(default)]
    env: BTreeMap<String, Text>,
    /// What can be read from standard input, which is empty by default; what is not a text is given as JSON.
    pub(super) stdin: Option<Text>,
    /// The script that `shell.undo` runs, when it undoes the step; it reads what the step wrote to standard output.
    pub(super) undo: Option<String>,
    /// The script that `shell.check` runs: it exits with 0 if the step had its effect, and with 1 if it had not.
    pub(super) check: Option<String>,
}

/// The same, of which something else is run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("required" = ["undo"]))]
pub(crate) struct UndoArgs(pub(super) Args);

/// The same, of which something else is run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("required" = ["check"]))]
pub(crate) struct CheckArgs(pub(super) Args);

impl Args {
    /// Another script in the same place.
    pub(super) fn other(self, script: Option<String>, stdin: Option<String>) -> Self {
        Self { script, argv: None, stdin: stdin.map(Text), ..self }
    }

    /// What a failure calls that which ran.
    pub(super) fn what(&self) -> &'static str {
        if self.script.is_some() { "the script" } else { "the program" }
    }

    /// The gated command.
    pub(super) fn command(&self, ctx: &StepContext) -> Result<Command, ShellError> {
        let folder = self.folder()?;
        let own = variables(ctx);
        if let Some(name) = self.env.keys().find(|name| !is_name(name)) {
            return Err(ShellError::VariableName { name: name.clone() });
        }
        if let Some(name) = self.env.keys().find(|name| own.iter().any(|(own, _)| own == name)) {
            return Err(ShellError::Reserved { name: name.clone() });
        }
        let mut command = match (&self.script, &self.argv) {
            (Some(script), None) => Group::gated(["/bin/sh", "-e", "-c", script, "sh"]),
            (None, Some(argv)) => {
                let Some((Text(program), arguments)) = argv.split_first() else {
                    return Err(ShellError::NoProgram);
                };
                let program = self.find(program, folder)?;
                let arguments = arguments.iter().map(|Text(argument)| OsStr::new(argument));
                Group::gated(std::iter::once(program.as_os_str()).chain(arguments))
            }
            (None, None) => return Err(ShellError::Nothing),
            (Some(_), Some(_)) => return Err(ShellError::Both),
        };
        if let Some(folder) = &self.cwd {
            command.current_dir(folder);
        }
        command.envs(self.env.iter().map(|(name, Text(value))| (name, value))).envs(own);
        Ok(command)
    }

    fn folder(&self) -> Result<&Path, ShellError> {
        let Some(path) = &self.cwd else { return Ok(Path::new(".")) };
        let failed = |source| ShellError::Folder { path: path.clone(), source };
        // Reading the names in it may be forbidden where entering it is not, so that is not tried.
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => Ok(path),
            Ok(_) => Err(failed(io::Error::from(io::ErrorKind::NotADirectory))),
            Err(source) => Err(failed(source)),
        }
    }

    /// The program's path, as the system would find it. Found here, since what the gate says of one that it does not find cannot
    /// be told from what the program says.
    fn find(&self, program: &str, folder: &Path) -> Result<OsString, ShellError> {
        let is_executable = |path: &Path| {
            let metadata = fs::metadata(folder.join(path));
            metadata.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        let named = || program.to_owned();
        if program.contains('/') {
            return match () {
                () if is_executable(Path::new(program)) => Ok(program.into()),
                () if folder.join(program).exists() => Err(ShellError::NotExecutable { program: named() }),
                () => Err(ShellError::NotFound { program: named() }),
            };
        }
        let path = match self.env.get("PATH") {
            Some(Text(path)) => OsString::from(path),
            None => std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()),
        };
        let mut there = false;
        for folder_of_path in std::env::split_paths(&path) {
            let candidate = folder_of_path.join(program);
            // An empty entry is the folder that it runs in.
            let candidate =
                if candidate == Path::new(program) { Path::new(".").join(program) } else { candidate };
            if !program.is_empty() && is_executable(&candidate) {
                return Ok(candidate.into_os_string());
            }
            there |= folder.join(&candidate).is_file();
        }
        Err(if there {
            ShellError::NotExecutable { program: named() }
        } else {
            ShellError::NotInPath { program: named() }
        })
    }
}

/// A name by POSIX. Others do not come through every shell.
fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(is_part) && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

/// What the program is told of its step by its environment.
fn variables(ctx: &StepContext) -> [(&'static str, String); 4] {
    [
        ("LUNACORE_RUN_ID", ctx.run_id().as_str().to_owned()),
        ("LUNACORE_STEP_ID", ctx.step_id().to_owned()),
        ("LUNACORE_ATTEMPT", ctx.attempt().to_string()),
        ("LUNACORE_IDEMPOTENCY_KEY", ctx.idempotency_key()),
    ]
}
