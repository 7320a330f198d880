//! The three pipes of a group, served by one thread.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::PIPE_BUF;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A stream of a group's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Our ends of the pipes, as far as they are open.
#[derive(Debug)]
pub(super) struct Pipes {
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// What is still to be written; the pipe is closed behind it.
    input: Vec<u8>,
    written: usize,
    buffer: Vec<u8>,
}

impl Pipes {
    pub(super) fn new(child: &mut Child, input: Vec<u8>) -> Self {
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        // As much as a pipe holds.
        Self { stdin, stdout, stderr, input, written: 0, buffer: vec![0; 64 * 1024] }
    }

    /// Whether all output has come.
    pub(super) fn at_end(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// Waits so long at most for something to do, and does it. Answers whether there was something.
    pub(super) fn turn(&mut self, wait: Duration, mut take: impl FnMut(Stream, &[u8])) -> io::Result<bool> {
        let [stdin, stdout, stderr] = self.ready(wait)?;
        if stdin {
            self.write();
        }
        if stdout && read(&mut self.stdout, &mut self.buffer, |bytes| take(Stream::Stdout, bytes))? {
            self.stdout = None;
        }
        if stderr && read(&mut self.stderr, &mut self.buffer, |bytes| take(Stream::Stderr, bytes))? {
            self.stderr = None;
        }
        Ok(stdin || stdout || stderr)
    }

    fn ready(&self, wait: Duration) -> io::Result<[bool; 3]> {
        let fds: [Option<(BorrowedFd<'_>, PollFlags)>; 3] = [
            self.stdin.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::POLLOUT)),
            self.stdout.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::POLLIN)),
            self.stderr.as_ref().map(|pipe| (pipe.as_fd(), PollFlags::POLLIN)),
        ];
        let mut asked: Vec<PollFd<'_>> =
            fds.iter().flatten().map(|(fd, flags)| PollFd::new(*fd, *flags)).collect();
        if asked.is_empty() {
            sleep(wait);
            return Ok([false; 3]);
        }
        // Rounded up, since with none it would not wait at all.
        let millis = u16::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(u16::MAX);
        match poll(&mut asked, PollTimeout::from(millis)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut answers = asked.iter().map(|fd| fd.any().unwrap_or_default());
        Ok(fds.map(|fd| fd.is_some() && answers.next().unwrap_or_default()))
    }

    /// Writes as much as fits for certain, so that it does not wait.
    fn write(&mut self) {
        let Some(pipe) = &mut self.stdin else { return };
        let rest = self.input.get(self.written..).unwrap_or_default();
        match pipe.write(&rest[..rest.len().min(PIPE_BUF)]) {
            Ok(bytes) => self.written += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Nobody reads it any more, which is no fault: `head` does so.
            Err(_) => self.written = self.input.len(),
        }
        if self.written >= self.input.len() {
            self.stdin = None;
            self.input = Vec::new();
        }
    }
}

/// Reads once. Answers whether it is at the end.
fn read(pipe: &mut Option<impl Read>, buffer: &mut [u8], take: impl FnOnce(&[u8])) -> io::Result<bool> {
    let Some(pipe) = pipe else { return Ok(false) };
    match pipe.read(buffer) {
        Ok(0) => Ok(true),
        Ok(bytes) => {
            take(&buffer[..bytes]);
            Ok(false)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_is_given_up() {
        let mut command = Command::new("true");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut pipes = Pipes::new(&mut child, vec![b'x'; 1 << 20]);
        child.wait().unwrap();
        while pipes.turn(Duration::from_millis(1), |_, _| ()).unwrap() {}
        assert!(pipes.at_end() && pipes.stdin.is_none());
    }
}
