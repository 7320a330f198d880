//! The caps of the built-in callables, each with its reason.

use std::time::Duration;

/// Of each stream of a `shell` step so much is kept, in bytes: half of it from the beginning, half from the end. Both streams
/// together stay below the largest output of a step even where JSON writes six bytes for one.
pub(super) const STREAM_BYTES: usize = 1024 * 1024;

/// Beside each place at which text is cut, so many bytes more are left out than need be: a secret that was cut in two could not be
/// recognised there. Longer than keys and certificates are.
pub(super) const CUT_MARGIN: usize = 16 * 1024;

/// Longest line that is told of as progress, in bytes: it is shown in one line of a terminal.
pub(super) const LINE_BYTES: usize = 1024;

/// So much of a line is collected before it is told of, in bytes; the rest of it is not told of.
pub(super) const LINE_BUFFER: usize = LINE_BYTES + 2 * CUT_MARGIN;

/// Lines of a step that are told of in a second. More can nobody read, and the bus drops progress when it is behind.
pub(super) const LINES_PER_SECOND: u32 = 100;

/// Lines of stderr that the failure of a `shell` step quotes: the last ones, which mostly say why.
pub(super) const QUOTED_LINES: usize = 20;

/// The same in bytes: the record of a failure has room for four times as many.
pub(super) const QUOTED_BYTES: usize = 2 * 1024;

/// Between SIGTERM and SIGKILL. Shorter than the two seconds that a shutdown waits for blocking code to stop.
pub(super) const GRACE: Duration = Duration::from_millis(1_500);

/// How long processes that a script left in its group may go on once it has ended, before they are told to: what
/// writes the last lines to a log is mostly done by then.
pub(super) const LINGER: Duration = Duration::from_millis(250);

/// How long output is waited for once the group has ended. What is in the pipes is there already; only a process that left
/// the group can hold them open.
pub(super) const DRAIN: Duration = Duration::from_millis(500);

/// How often a running group is looked at, and whether it shall stop.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// How soon it is looked at first when its pipes are closed: it is about to end, mostly.
pub(super) const FIRST_TICK: Duration = Duration::from_micros(200);

/// How long a step waits for what an earlier attempt of it left to be gone after SIGKILL. Only what hangs in the kernel takes so long.
pub(super) const SURVIVOR_WAIT: Duration = Duration::from_secs(10);

/// Largest record of a process group, in bytes: it names a run and a step, whose ids are bounded.
pub(super) const RECORD_BYTES: u64 = 16 * 1024;
