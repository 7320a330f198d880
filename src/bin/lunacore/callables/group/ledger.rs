//! Which groups there are, of this process and of those before it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use lunacore::RunId;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::error::GroupError;
use super::record::Record;
use super::survivor;
use crate::callables::limits::{RECORD_BYTES, SURVIVOR_WAIT};

/// The groups that run, and the records of those that may. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct Ledger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Where the records are; `None` if there are none.
    folder: Option<PathBuf>,
    live: Mutex<Live>,
    /// Is told whenever a group has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Live {
    groups: BTreeMap<i32, Held>,
    /// The command is ending.
    closed: bool,
}

#[derive(Debug)]
struct Held {
    record: Record,
    /// Its first process was waited for, so that its number is free for others once the group is gone.
    reaped: bool,
}

impl Ledger {
    /// For memory that is volatile: without records.
    pub(crate) fn in_memory() -> Self {
        Self::new(None)
    }

    /// With records beside a store, which this process has opened and so has alone.
    pub(crate) fn beside(store: &Path) -> Self {
        // By whichever name it is opened, it is the same store.
        let mut name = OsString::from(fs::canonicalize(store).unwrap_or_else(|_| store.to_owned()));
        name.push("-groups");
        let ledger = Self::new(Some(PathBuf::from(name)));
        ledger.forget_the_gone();
        ledger
    }

    fn new(folder: Option<PathBuf>) -> Self {
        Self(Arc::new(Inner { folder, live: Mutex::default(), ended: Condvar::new() }))
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills all groups of this process and lets no other be started: for a command that ends at once.
    pub(crate) fn kill_all(&self) {
        let mut live = self.live();
        live.closed = true;
        for held in live.groups.values() {
            if !held.reaped || held.record.lives(true) {
                let _ = killpg(Pid::from_raw(held.record.pgid), Signal::SIGKILL);
            }
        }
    }

    /// Ends what an earlier process left of a run: for a run that is cancelled and will not go on. Answers how many
    /// groups that were.
    ///
    /// # Errors
    /// [`GroupError::Read`], or [`GroupError::Survivor`].
    pub(crate) fn end_left_by(&self, run_id: &RunId) -> Result<usize, GroupError> {
        self.end_left(|record| record.run_id == *run_id)
    }

    /// Ends what is left of earlier attempts of a step, of this process or another.
    pub(super) fn clear(&self, step: &str) -> Result<(), GroupError> {
        let of_step = |held: &Held| held.record.step == step;
        // Those of this process have been told to end by whoever started them.
        let waited = self.0.ended.wait_timeout_while(self.live(), SURVIVOR_WAIT, |live| {
            !live.closed && live.groups.values().any(of_step)
        });
        let (live, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if live.closed {
            return Err(GroupError::Ending);
        }
        if let Some(held) = live.groups.values().find(|held| of_step(held)) {
            return Err(GroupError::Survivor { pgid: held.record.pgid });
        }
        drop(live);
        self.end_left(|record| record.step == step).map(drop)
    }

    fn end_left(&self, which: impl Fn(&Record) -> bool) -> Result<usize, GroupError> {
        let mut ended = 0;
        for (path, record) in self.left()? {
            if !which(&record) {
                continue;
            }
            if record.lives(false) {
                log::warn!(
                    target: "lunacore::shell", run_id = record.run_id.as_str(), pgid = record.pgid;
                    "run {} left process group {} running; it is ended", record.run_id, record.pgid
                );
                ended += 1;
            }
            if !survivor::end(&record) {
                return Err(GroupError::Survivor { pgid: record.pgid });
            }
            self.remove(&path);
        }
        Ok(ended)
    }

    /// Puts a group on record. It may run from then on.
    pub(super) fn enter(&self, record: &Record) -> Result<(), GroupError> {
        let mut live = self.live();
        if live.closed {
            return Err(GroupError::Ending);
        }
        if let Some(folder) = &self.0.folder {
            let path = path_of(folder, record.pgid);
            let write = || {
                fs::create_dir_all(folder)?;
                fs::write(&path, serde_json::to_vec(record)?)
            };
            write().map_err(|source| GroupError::Record { path: path.clone(), source })?;
        }
        live.groups.insert(record.pgid, Held { record: record.clone(), reaped: false });
        Ok(())
    }

    /// Does `wait`, which may wait for the first process of a group, while nobody signals it, and keeps in mind if it did.
    pub(super) fn reap<T>(&self, pgid: i32, wait: impl FnOnce() -> Option<T>) -> Option<T> {
        let mut live = self.live();
        let status = wait();
        if let (Some(_), Some(held)) = (&status, live.groups.get_mut(&pgid)) {
            held.reaped = true;
        }
        status
    }

    /// Takes a group that is gone off the record.
    pub(super) fn strike(&self, pgid: i32) {
        let mut live = self.live();
        if live.groups.remove(&pgid).is_some()
            && let Some(folder) = &self.0.folder
        {
            self.remove(&path_of(folder, pgid));
        }
        self.0.ended.notify_all();
    }

    /// A record that cannot be removed does no harm: its group is gone.
    fn remove(&self, path: &Path) {
        let _ = fs::remove_file(path);
        // With the last one the folder goes.
        let _ = self.0.folder.as_ref().map(fs::remove_dir);
    }

    /// The records of groups that are not of this process.
    fn left(&self) -> Result<Vec<(PathBuf, Record)>, GroupError> {
        let Some(folder) = &self.0.folder else { return Ok(Vec::new()) };
        let read = || -> io::Result<Vec<(PathBuf, Record)>> {
            let mut left = Vec::new();
            let entries = match fs::read_dir(folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(left),
                entries => entries?,
            };
            for entry in entries {
                let path = entry?.path();
                let is_record = path.extension().is_some_and(|extension| extension == "json");
                // One that is not whole was being written when its process died: its gate was never opened.
                if is_record && let Some(record) = read_record(&path)? {
                    left.push((path, record));
                }
            }
            Ok(left)
        };
        let left = read().map_err(|source| GroupError::Read { path: folder.clone(), source })?;
        let live = self.live();
        Ok(left.into_iter().filter(|(_, record)| !live.groups.contains_key(&record.pgid)).collect())
    }

    fn forget_the_gone(&self) {
        // What cannot be read now is read again by the step that needs it, which then says so.
        for (path, record) in self.left().unwrap_or_default() {
            if !record.lives(false) {
                self.remove(&path);
            }
        }
    }
}

/// By the group's number: ids never become paths.
fn path_of(folder: &Path, pgid: i32) -> PathBuf {
    folder.join(format!("{pgid}.json"))
}

fn read_record(path: &Path) -> io::Result<Option<Record>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(RECORD_BYTES).read_to_end(&mut bytes)?,
        // Its group has ended just now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(parse(&bytes))
}

fn parse(bytes: &[u8]) -> Option<Record> {
    let record: Option<Record> = serde_json::from_slice(bytes).ok();
    // No file may make us signal group 0, 1 or less: the system takes the first for our own, and the others for everything.
    record.filter(|record| record.pgid > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_record_names_a_group_that_stands_for_others() {
        let of = |pgid: i64| {
            format!(r#"{{"pgid":{pgid},"started":"s","mark":"m","step":"r/1/s","run_id":"r","new":0}}"#)
        };
        assert!(parse(of(2).as_bytes()).is_some());
        for pgid in [1, 0, -1, -2, 1 << 32] {
            assert_eq!(parse(of(pgid).as_bytes()), None, "{pgid}");
        }
    }
}
