//! Process groups: started behind a gate, kept on record, and ended as a whole.
//!
//! A `shell` step is a group of processes. Three things are held here, whatever happens to the step or to the command:
//!
//! - **Nothing runs off the record.** The first process of a group is a shell that waits at a gate: it becomes the step's
//!   program when it reads a line, and ends when the pipe is closed. The line is written once the group is on
//!   [record](ledger): if the command dies before, nothing has run.
//! - **What a dead command left is found again** by the record, and ended before its step runs again. The record is a
//!   small file in the folder `NAME-groups` beside the store NAME. It is not flushed to the disk: what takes the file
//!   away, a power loss, takes the processes too. With memory that is volatile there is none, since no run outlives it.
//! - **No stranger is killed.** The number of a group is that of its first process, and is given to others once the group
//!   is gone. So the record holds when that process started (with the boot it started in), and a mark that all of the
//!   group have in their environment: the group is the one on record as long as its first process is the one that was
//!   recorded, or that process is gone and one with the mark is left. (The mark is looked at on Linux only. Elsewhere a
//!   group whose first process has ended is not recognised after a crash.)
//!
//! A process that leaves its group, as daemons do with `setsid`, is its own affair.

mod error;
mod gated;
mod identity;
mod ledger;
mod record;
mod survivor;

pub(crate) use ledger::Ledger;

pub(super) use error::GroupError;
pub(super) use gated::{Group, OPEN};
pub(super) use record::Record;
