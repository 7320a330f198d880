//! What tells a process from all others that had or will have its number, and a living one from a dead one.

use nix::errno::Errno;
use nix::sys::signal::killpg;
use nix::unistd::Pid;

/// What is the same for the whole life of a process, also when it becomes another program, and is so for no other process with
/// the same number: when it was started. `None` when there is no such process.
pub(super) fn identity(pid: i32) -> Option<String> {
    system::identity(pid)
}

/// Whether a process of the group lives. Those that have ended and are not yet waited for do not.
pub(super) fn is_alive(pgid: i32) -> bool {
    // Mostly the system knows no such group, and is asked for nothing more.
    match killpg(Pid::from_raw(pgid), None) {
        Err(Errno::ESRCH) => false,
        _ => system::has_living(pgid),
    }
}

/// Whether a living process of the group has this entry in its environment.
pub(super) fn is_marked(pgid: i32, name: &str, value: &str) -> bool {
    system::is_marked(pgid, format!("{name}={value}").as_bytes())
}

#[cfg(target_os = "linux")]
mod system {
    use std::fs;

    pub(super) fn identity(pid: i32) -> Option<String> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        stat(pid).map(|stat| format!("boot {} tick {}", boot.trim(), stat.start))
    }

    pub(super) fn has_living(pgid: i32) -> bool {
        living(pgid).next().is_some()
    }

    pub(super) fn is_marked(pgid: i32, entry: &[u8]) -> bool {
        living(pgid).any(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|own| own == entry)
        })
    }

    fn living(pgid: i32) -> impl Iterator<Item = i32> {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        numbers.filter(move |pid| stat(*pid).is_some_and(|stat| stat.group == pgid && stat.lives()))
    }

    fn stat(pid: i32) -> Option<Stat> {
        Stat::read(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// What is needed of `/proc/PID/stat`; see proc(5).
    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct Stat {
        pub(super) state: char,
        pub(super) group: i32,
        /// In ticks of the clock since the system was started.
        pub(super) start: u64,
    }

    impl Stat {
        /// The second field is the program's name, which may hold anything; the third comes behind its last parenthesis.
        pub(super) fn read(line: &str) -> Option<Self> {
            let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
            let field = |number: usize| fields.get(number - 3).copied();
            Some(Self {
                state: field(3)?.chars().next()?,
                group: field(5)?.parse().ok()?,
                start: field(22)?.parse().ok()?,
            })
        }

        fn lives(&self) -> bool {
            !matches!(self.state, 'Z' | 'X' | 'x')
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_line_is_read_whatever_the_program_is_called() {
            let line = "77 (a) Z 1 (b) S 1 76 75 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 8812 2 3";
            assert_eq!(Stat::read(line), Some(Stat { state: 'S', group: 76, start: 8812 }));
            assert_eq!(Stat::read("77 (a"), None);
            assert_eq!(Stat::read("77 (a) S 1"), None);
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::process::Command;

    pub(super) fn identity(pid: i32) -> Option<String> {
        let listed = Command::new("ps").args(["-o", "lstart=", "-p", &pid.to_string()]).output().ok()?;
        let started = String::from_utf8_lossy(&listed.stdout).trim().to_owned();
        (!started.is_empty()).then_some(started)
    }

    pub(super) fn has_living(_: i32) -> bool {
        true
    }

    pub(super) fn is_marked(_: i32, _: &[u8]) -> bool {
        false
    }
}
