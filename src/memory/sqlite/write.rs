//! The one connection that writes: batches, and what a commit stores.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::time::SystemTime;

use super::error::{Fault, OpenError};
use super::events;
use super::generations;
use super::keys::Keys;
use super::open;
use super::pending::{EventRow, OutputCell, Pending, StepRow};
use super::rows::{self, INSERT_ARTIFACT, data_cell, micros, number};
use super::runs::{self, Moment, Run};
use super::schema;
use super::signals;
use super::sweep::{Bounds, Sweep};
use super::view::View;
use crate::artifact::{step_meta, task_key};
use crate::event::{Event, EventKind};
use crate::id::{to_micros, uuid_at};
use crate::limits::{SQLITE_EVENTS_PER_ROW, SQLITE_REMEMBERED};
use crate::memory::commit::{Commit, NewArtifact, StepOutput};
use crate::memory::error::{MemoryError, StoreError};
use crate::memory::retention::{Collected, Retention};
use crate::memory::store::Reader;
use crate::plan::Output;
use crate::project::Project;
use crate::run::{Durability, RunId};

/// What became of a commit: its events as they are stored.
pub(super) type CommitResult = Result<Vec<Event>, MemoryError>;

/// After a failure of any call it is dropped, and what its batch had written with it: so nothing here has to be undone.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) view: View,
    pub(super) last_seq: u64,
    /// Where unfinished runs stand, so that a step need not look its own up. What is not here is read.
    runs: HashMap<RunId, Run>,
    pub(super) keys: Keys,
    sweep: Sweep,
    /// The last event before this batch.
    before: u64,
    /// What the commits of one call store, empty between calls.
    pub(super) pending: Pending,
    /// How well the connection stores what it commits now.
    durability: Durability,
    /// Whether the batch holds anything.
    pub(super) wrote: bool,
    /// Whether something is stored that a power loss may take.
    unflushed: bool,
}

impl Writer {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let view = View::of_writer(open::writer(path)?);
        let last_seq = view.last_seq().map_err(|error| open::failed(path, error))?;
        let keys = Keys::open(&view.0).map_err(|error| open::failed(path, error))?;
        Ok(Self {
            view,
            last_seq,
            runs: HashMap::new(),
            keys,
            sweep: Sweep::default(),
            before: last_seq,
            pending: Pending::default(),
            durability: Durability::Immediate,
            wrote: false,
            unflushed: false,
        })
    }

    /// Moves everything from the log to the database file, and syncs that.
    ///
    /// When a sync fails, the kernel may give up the pages that it could not write, and still answer reads from its memory as
    /// if they were on disk; the next sync then succeeds. So after a failure nothing in the log that can be read may be
    /// believed to be durable, until all of it is written once more, to the other file, and synced there.
    ///
    /// That the log is empty now is not synced by that, and what the disk has of the old one is older than the database. So a
    /// new one is begun, and synced.
    pub(super) fn checkpoint(&self) -> Result<(), Fault> {
        let busy: i64 = self.view.0.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if busy != 0 {
            return Err(Fault::Busy);
        }
        Ok(schema::touch(&self.view.0)?)
    }

    pub(super) fn begin(&mut self, durability: Durability) -> Result<(), Fault> {
        // SQLite takes this only between transactions.
        self.set(durability)?;
        self.view.0.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        self.wrote = false;
        self.before = self.last_seq;
        Ok(())
    }

    pub(super) fn end(&mut self) -> Result<(), Fault> {
        self.view.0.prepare_cached("COMMIT")?.execute([])?;
        match self.durability {
            Durability::Relaxed => self.unflushed |= self.wrote,
            // The log is synced as a whole, so what was relaxed before is safe now too.
            Durability::Immediate if self.wrote => self.unflushed = false,
            // A transaction that wrote nothing syncs nothing.
            Durability::Immediate => self.flush()?,
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), Fault> {
        if self.unflushed {
            self.set(Durability::Immediate)?;
            schema::touch(&self.view.0)?;
            self.unflushed = false;
        }
        Ok(())
    }

    /// The last chance of what is not flushed yet. A batch that was not ended is forgotten.
    pub(super) fn close(&mut self) -> Result<(), Fault> {
        if !self.view.0.is_autocommit() {
            self.view.0.execute_batch("ROLLBACK")?;
        }
        self.flush()
    }

    pub(super) fn collect(
        &mut self,
        retention: &Retention,
        now: SystemTime,
        limit: usize,
    ) -> Result<Collected, Fault> {
        let before = self.view.0.total_changes();
        let bounds = Bounds { now, published: self.before, limit };
        let collected = self.sweep.collect(&self.view.0, retention, bounds)?;
        self.wrote |= self.view.0.total_changes() > before;
        Ok(collected)
    }

    pub(super) fn vacuum(&mut self) -> Result<(), Fault> {
        self.view.0.execute_batch("VACUUM")?;
        // Who reads keeps the log as it is: it is moved to the file later.
        self.view.0.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    fn set(&mut self, durability: Durability) -> Result<(), Fault> {
        if self.durability != durability {
            let level = if durability == Durability::Immediate { "FULL" } else { "NORMAL" };
            self.view.0.pragma_update(None, "synchronous", level)?;
            self.durability = durability;
        }
        Ok(())
    }

    /// Stores commits one after another; answers what became of each.
    pub(super) fn commit_all(
        &mut self,
        commits: impl IntoIterator<Item = Box<Commit>>,
        at: SystemTime,
    ) -> Result<Vec<CommitResult>, StoreError> {
        let mut results = Vec::new();
        for commit in commits {
            match self.commit(commit, at) {
                Err(MemoryError::Store(error)) => return Err(error),
                result => results.push(result),
            }
            self.pending.settle(&self.view.0, false)?;
        }
        self.pending.settle(&self.view.0, true)?;
        Ok(results)
    }

    fn commit(&mut self, commit: Box<Commit>, at: SystemTime) -> CommitResult {
        let Commit { run_id, project, accept, reopen, update, output, artifacts, events, .. } = *commit;
        let moment = self.moment(at, events.len());
        let step = output.as_ref().map(|completed| completed.step);
        let is_final = update.state.is_final();
        let (no, attempt, generation) = match accept {
            Some(new) => {
                let record = runs::accepted(run_id.clone(), project.clone(), &new, update, step, moment.at)?;
                let Some(no) = runs::insert(&self.view.0, &record, &new, moment)? else {
                    return Err(MemoryError::RunExists { run_id });
                };
                self.wrote = true;
                if !is_final {
                    self.make_room(&run_id);
                    self.runs.insert(run_id.clone(), Run { no, record });
                }
                (no, 0, 1)
            }
            None => {
                self.make_room(&run_id);
                let run = match self.runs.entry(run_id.clone()) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place) => {
                        self.pending.store(&self.view.0)?;
                        let stored = self.view.find(&run_id)?.map(|(no, record)| Run { no, record });
                        match stored {
                            Some(run) => place.insert(run),
                            // It was over, and has been removed since somebody looked.
                            None if reopen.is_some() => return Err(MemoryError::UnknownRun { run_id }),
                            None => return Err(Fault::NeverAccepted { run_id: run_id.to_string() }.into()),
                        }
                    }
                };
                let reopened = reopen.is_some();
                if let Some(reopen) = reopen {
                    self.pending.store(&self.view.0)?;
                    generations::withdraw(&self.view.0, run.no, reopen.from)?;
                    runs::reopen(&self.view.0, run, *reopen)?;
                }
                let (no, attempt, generation) = (run.no, run.record.attempt, run.record.generation);
                if runs::advance(&mut run.record, update, step, moment.at)? || reopened {
                    runs::update(&self.view.0, run, moment)?;
                    self.wrote = true;
                }
                if is_final {
                    self.runs.remove(&run_id);
                }
                (no, attempt, generation)
            }
        };
        // A commit that changes nothing must not pass for one that made SQLite sync.
        self.wrote |= output.is_some() || !artifacts.is_empty() || !events.is_empty();
        self.insert_result((no, attempt, generation), &project, output.as_ref(), moment)?;
        self.insert_artifacts((no, generation), &project, artifacts, moment)?;
        if let Some(taken) = commit.signal {
            signals::take(&self.view.0, no, taken)?;
        }
        for breaker in &commit.breakers {
            rows::store_breaker(&self.view.0, breaker)?;
        }
        let stored = self.insert_events(Some((no, run_id)), events, output.as_ref(), moment)?;
        self.last_seq = moment.last_seq;
        Ok(stored)
    }

    /// The moment of a commit with so many events.
    pub(super) fn moment(&self, at: SystemTime, events: usize) -> Moment {
        let last_seq = self.last_seq + events as u64;
        Moment { at: to_micros(at), micros: micros(at), first_seq: self.last_seq + 1, last_seq }
    }

    /// Interrupted runs may stay unfinished for ever. What is forgotten is read when it is needed.
    fn make_room(&mut self, run_id: &RunId) {
        if self.runs.len() >= SQLITE_REMEMBERED && !self.runs.contains_key(run_id) {
            self.runs.clear();
        }
    }

    /// The artifact of the result is in the same row, since all of it follows from that.
    fn insert_result(
        &mut self,
        (run, attempt, generation): (i64, u32, u32),
        project: &Project,
        completed: Option<&StepOutput>,
        moment: Moment,
    ) -> Result<(), Fault> {
        let Some(StepOutput { step, step_id, output, skipped }) = completed else { return Ok(()) };
        let (key_no, version) = self.next_version(project, &task_key(step_id))?;
        let output = match output {
            Output::Bytes(bytes) => OutputCell::Bytes(bytes.clone()),
            Output::Json(value) => {
                let start = self.pending.text.len();
                serde_json::to_writer(&mut self.pending.text, value)?;
                OutputCell::Json(start..self.pending.text.len())
            }
        };
        let (step, at, artifact_id) = (number(*step), moment.micros, uuid_at(moment.at).into_bytes());
        // No attempt has the number 0: that is how it is known again. Somebody may have completed it before its first.
        let attempt = if *skipped { 0 } else { attempt.max(1) };
        let row = StepRow { run, step, attempt, at, key_no, version, artifact_id, output, generation };
        self.pending.steps.push(row);
        Ok(())
    }

    /// The number of the key, and its next version.
    pub(super) fn next_version(&mut self, project: &Project, key: &str) -> Result<(i64, i64), Fault> {
        let next = match self.keys.known(project, key)? {
            Some(known) => known,
            None => {
                self.pending.store(&self.view.0)?;
                self.keys.look_up(&self.view.0, project, key)?
            }
        };
        self.sweep.note(next.0);
        Ok(next)
    }

    fn insert_artifacts(
        &mut self,
        (run, generation): (i64, u32),
        project: &Project,
        artifacts: Vec<NewArtifact>,
        moment: Moment,
    ) -> Result<(), Fault> {
        for NewArtifact { key, artifact_type, step: (step, step_id), data } in artifacts {
            let meta = serde_json::to_string(&step_meta(step, &step_id, generation))?;
            let step = number(step);
            let (no, version) = self.next_version(project, &key)?;
            self.view.0.prepare_cached(INSERT_ARTIFACT)?.execute((
                no,
                version,
                uuid_at(moment.at).as_bytes(),
                &*artifact_type,
                moment.micros,
                meta,
                run,
                step,
                data_cell(&data),
            ))?;
        }
        Ok(())
    }

    pub(super) fn insert_events(
        &mut self,
        run: Option<(i64, RunId)>,
        events: Vec<EventKind>,
        completed: Option<&StepOutput>,
        moment: Moment,
    ) -> Result<Vec<Event>, Fault> {
        let (no, run_id) = run.unzip();
        let store = |(seq, kind)| Event::stored(seq, moment.at, run_id.clone(), kind);
        let events: Vec<Event> = (moment.first_seq..).zip(events).map(store).collect();
        let mut first_seq = moment.first_seq;
        for events in events.chunks(SQLITE_EVENTS_PER_ROW) {
            let text = &mut self.pending.text;
            let start = text.len();
            for event in events {
                text.extend_from_slice(event.id().as_bytes());
            }
            let ids = start..text.len();
            let step = events::payload(text, events, completed)?.map(number);
            let payload = ids.end..text.len();
            let (seq, at) = (number(first_seq), moment.micros);
            self.pending.events.push(EventRow { seq, run: no, at, step, ids, payload });
            first_seq += events.len() as u64;
        }
        Ok(events)
    }
}
