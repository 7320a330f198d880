//! Ends what a command that is dead left running.

use std::thread::sleep;
use std::time::Instant;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::record::Record;
use crate::callables::limits::{GRACE, SURVIVOR_WAIT, TICK};

/// Ends the group, unless nothing of it lives: tells it to, and kills it after the grace. Answers whether it is gone.
pub(super) fn end(record: &Record) -> bool {
    let began = Instant::now();
    let mut told = false;
    while record.lives(false) {
        let passed = began.elapsed();
        if passed > GRACE + SURVIVOR_WAIT {
            return false;
        }
        let signal = if passed >= GRACE { Signal::SIGKILL } else { Signal::SIGTERM };
        if signal == Signal::SIGKILL || !told {
            told = true;
            // That it is gone meanwhile, or may not be killed by us, shows when it is looked at again.
            let _ = killpg(Pid::from_raw(record.pgid), signal);
        }
        sleep(TICK);
    }
    true
}
