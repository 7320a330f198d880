//! One attempt of a `shell` step.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Instant;

use lunacore::{StepContext, StepError};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::args::Args;
use super::capture::{Capture, last};
use super::error::ShellError;
use super::lines::{Lines, Pace};
use super::pipes::{Pipes, Stream};
use crate::callables::group::{Group, Ledger, OPEN, Record};
use crate::callables::limits::{DRAIN, FIRST_TICK, GRACE, LINGER, QUOTED_BYTES, QUOTED_LINES, TICK};
use crate::callables::text::clean;

/// Runs a script or a program, and returns what it wrote.
// Blocking, so that the engine waits for its end: nothing of the run, and no other attempt, starts before the group is gone.
pub(crate) fn shell(ledger: &Ledger, args: &Args, ctx: &StepContext) -> Result<Value, StepError> {
    run(args, ledger, ctx).map_err(ShellError::into_step)
}

pub(super) fn run(args: &Args, ledger: &Ledger, ctx: &StepContext) -> Result<Value, ShellError> {
    let command = args.command(ctx)?;
    let mut group = Group::start(command, Record::of(ctx), ledger)?;
    // Now it is on record, and the gate may be opened.
    let mut stdin = OPEN.to_vec();
    stdin.extend(args.stdin.iter().flat_map(|text| text.0.bytes()));
    let mut pipes = Pipes::new(&mut group.child, stdin);
    let mut heard = Heard::new(ctx);
    let status = follow(&mut group, &mut pipes, &mut heard)?;
    heard.report(args.what(), status)
}

/// Serves the group until nothing of it is left and all that it wrote is there. `None` when it was told to stop.
fn follow(
    group: &mut Group,
    pipes: &mut Pipes,
    heard: &mut Heard<'_>,
) -> Result<Option<ExitStatus>, ShellError> {
    let mut end = End::default();
    let mut gone_at = None;
    let mut beyond_us = false;
    let mut wait = FIRST_TICK;
    loop {
        let busy = pipes
            .turn(wait, |stream, bytes| heard.take(stream, bytes))
            .map_err(|source| ShellError::Pipes { source })?;
        heard.breathe();
        // A group whose pipes are closed is about to end. It is looked at soon, and then less and less often.
        wait = if pipes.at_end() && !busy {
            (2 * wait).min(TICK)
        } else if pipes.at_end() {
            FIRST_TICK
        } else {
            TICK
        };
        let now = Instant::now();
        let status = group.status();
        if !beyond_us && group.is_alive() {
            let may = end
                .due(heard.ctx.is_cancelled(), status.is_some(), now)
                .is_none_or(|signal| group.signal(signal));
            if may || status.is_none() {
                continue;
            }
            // It has become another user's, by sudo for example.
            beyond_us = true;
            let step_id = heard.ctx.step_id();
            log::warn!(target: "lunacore::shell", step_id; "what step {step_id} left running may not be ended by us");
        }
        let since = *gone_at.get_or_insert(now);
        if pipes.at_end()
            || (!busy && now.duration_since(since) >= DRAIN)
            || now.duration_since(since) >= 4 * DRAIN
        {
            return Ok(status.filter(|_| !end.stopped));
        }
    }
}

/// When a group is told to end, and killed. Pure.
#[derive(Debug, Default)]
struct End {
    /// When the first process was first seen to have ended while others had not.
    left_at: Option<Instant>,
    told_at: Option<Instant>,
    /// It was told to before it had ended by itself.
    stopped: bool,
}

impl End {
    /// The signal that is due. `left`: the first process has ended, others have not.
    fn due(&mut self, cancelled: bool, left: bool, now: Instant) -> Option<Signal> {
        if let Some(told_at) = self.told_at {
            // Again and again, for what it starts meanwhile.
            return (now.duration_since(told_at) >= GRACE).then_some(Signal::SIGKILL);
        }
        let lingered = left && now.duration_since(*self.left_at.get_or_insert(now)) >= LINGER;
        if !cancelled && !lingered {
            return None;
        }
        (self.told_at, self.stopped) = (Some(now), !left);
        Some(Signal::SIGTERM)
    }
}

/// What a group writes: kept, and told of.
struct Heard<'a> {
    ctx: &'a StepContext,
    stdout: (Capture, Lines),
    stderr: (Capture, Lines),
    pace: Pace<Value>,
}

impl<'a> Heard<'a> {
    fn new(ctx: &'a StepContext) -> Self {
        Self { ctx, stdout: Default::default(), stderr: Default::default(), pace: Pace::new(Instant::now()) }
    }

    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let (ctx, now, pace) = (self.ctx, Instant::now(), &mut self.pace);
        let (capture, lines) = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        capture.push(bytes);
        let told = |line| tell(ctx, pace.pass(json!({ "stream": stream.as_str(), "line": line }), now));
        lines.push(bytes, |text| clean(ctx, text), told);
    }

    /// Tells of a line whose time has come.
    fn breathe(&mut self) {
        tell(self.ctx, self.pace.due(Instant::now()));
    }

    /// Tells of what is left, and makes the output or the failure.
    fn report(self, what: &'static str, status: Option<ExitStatus>) -> Result<Value, ShellError> {
        let Self { ctx, stdout, stderr, mut pace } = self;
        let clean = |text: String| clean(ctx, text);
        for (stream, mut lines) in [(Stream::Stdout, stdout.1), (Stream::Stderr, stderr.1)] {
            let line = |line| json!({ "stream": stream.as_str(), "line": line });
            lines.end(clean, |text| tell(ctx, pace.pass(line(text), Instant::now())));
        }
        tell(ctx, pace.rest());
        let Some(status) = status else { return Err(ShellError::Stopped) };
        let stderr = stderr.0.finish(clean);
        if let Some(signal) = status.signal() {
            let name = Signal::try_from(signal).map(|known| format!(" ({known})")).unwrap_or_default();
            return Err(ShellError::Signalled {
                what,
                signal: format!("{signal}{name}"),
                quote: quote(&stderr.text),
            });
        }
        let code = status.code().unwrap_or_default();
        if code != 0 {
            return Err(ShellError::Exited { what, code, quote: quote(&stderr.text) });
        }
        let stdout = stdout.0.finish(clean);
        let mut output = json!({ "exit_code": code, "stdout": stdout.text, "stderr": stderr.text });
        for (name, left_out) in [("stdout_left_out", stdout.left_out), ("stderr_left_out", stderr.left_out)] {
            if left_out > 0 {
                output[name] = left_out.into();
            }
        }
        Ok(output)
    }
}

/// Progress is nothing to fail for.
fn tell(ctx: &StepContext, line: Option<(Value, u64)>) {
    let Some((mut line, skipped)) = line else { return };
    if skipped > 0 {
        line["skipped"] = skipped.into();
    }
    let _ = ctx.progress(line);
}

/// The last lines of a text, as the end of a message.
fn quote(stderr: &str) -> String {
    let text = stderr.trim_end();
    let from = text.rmatch_indices('\n').nth(QUOTED_LINES - 1).map_or(0, |(at, _)| at + 1);
    let lines = &text[from..];
    match lines {
        "" => "; it wrote nothing to stderr".to_owned(),
        lines => {
            let shown = last(lines, QUOTED_BYTES);
            let mark = if shown.len() < text.len() { "…" } else { "" };
            format!("; the end of its stderr:\n{mark}{shown}")
        }
    }
}
