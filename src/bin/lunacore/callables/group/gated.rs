//! A group of processes of ours.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::error::GroupError;
use super::identity::identity;
use super::ledger::Ledger;
use super::record::Record;
use crate::callables::limits::FIRST_TICK;

/// Waits for a line, then becomes the program. It reads no more than the line (POSIX has `read` do so), so that what follows is
/// the program's.
const GATE: &str = r#"IFS= read -r lunacore_gate || exit 125; exec "$@""#;

/// What opens it.
pub(crate) const OPEN: &[u8] = b"\n";

/// A group that was started, behind its gate. It is killed when it is dropped before it has ended.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) child: Child,
    record: Record,
    ledger: Ledger,
    status: Option<ExitStatus>,
}

impl Group {
    /// A command that becomes `program` once its gate is opened by [`OPEN`] on its standard input.
    pub(crate) fn gated<S: AsRef<OsStr>>(program: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GATE, "sh"]).args(program).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a [gated](Self::gated) command and puts it on record, once nothing of an earlier attempt of its step is left.
    ///
    /// # Errors
    /// Why not. Nothing has run then.
    pub(crate) fn start(mut command: Command, record: Record, ledger: &Ledger) -> Result<Self, GroupError> {
        ledger.clear(&record.step)?;
        let (mark, value) = record.mark();
        let child = command.env(mark, value).spawn().map_err(|source| GroupError::Start { source })?;
        let pgid = i32::try_from(child.id()).unwrap_or_default();
        // From here on it is killed by its drop if anything goes wrong.
        let mut group = Self { child, record, ledger: ledger.clone(), status: None };
        group.record.pgid = pgid;
        group.record.started = identity(pgid).ok_or(GroupError::NoIdentity { pid: pgid })?;
        ledger.enter(&group.record)?;
        Ok(group)
    }

    /// How its first process ended, if it has.
    pub(crate) fn status(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            let child = &mut self.child;
            self.status = self.ledger.reap(self.record.pgid, || child.try_wait().ok().flatten());
        }
        self.status
    }

    /// Whether anything of it lives.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.status().is_none() || self.record.lives(true)
    }

    /// Sends a signal to what lives of the group. Answers whether we may.
    pub(crate) fn signal(&mut self, signal: Signal) -> bool {
        // As long as its first process has not been waited for, nobody else has its number.
        !self.is_alive() || killpg(Pid::from_raw(self.record.pgid), signal) != Err(Errno::EPERM)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Not by waiting for it, which would keep the ledger from everyone else.
        while self.is_alive() {
            let may = self.signal(Signal::SIGKILL);
            if !may && self.status.is_some() {
                break;
            }
            sleep(FIRST_TICK);
        }
        self.ledger.strike(self.record.pgid);
    }
}
