use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use super::commit::{Commit, NewArtifact, NewRun, Reopen, RunUpdate, StepOutput, describe};
use super::error::{MemoryError, StoreError};
use super::kept::{Content, Kept, Keys, Meta, Other};
use super::messages::{Put, RecordBreaker};
use super::passes::Passes;
use super::retention::{Collected, Retention};
use super::signal::{KeptSignal, RecordSignal, SignalUsage, Signals};
use super::store::{Reader, Store};
use crate::artifact::Artifact;
use crate::event::{Event, EventKind};
use crate::id::{Ids, uuid_at};
use crate::limits::{VOLATILE_EVENTS, VOLATILE_FINISHED_RUNS};
use crate::plan::{Output, PlanRecord};
use crate::project::Project;
use crate::resilience::BreakerRecord;
use crate::run::{RunId, RunRecord};

/// A store that lives and dies with its process.
///
/// Artifacts stay until they are deleted. Of finished runs, with their outputs, it remembers the last
/// [`VOLATILE_FINISHED_RUNS`], and of events the last [`VOLATILE_EVENTS`].
#[derive(Debug, Default)]
pub struct VolatileStore {
    /// Trees, not hash maps: they list in order, and never stop to rehash.
    pub(super) projects: BTreeMap<Project, Keys>,
    pub(super) runs: BTreeMap<u64, Run>,
    run_order: HashMap<RunId, u64>,
    /// The place of the run of the last commit: mostly the next commit is of the same run, and needs no hash of its id.
    latest: u64,
    pub(super) finished: VecDeque<u64>,
    pub(super) accepted: u64,
    pub(super) last_seq: u64,
    breakers: BTreeMap<Arc<str>, BreakerRecord>,
    /// The last events, the oldest first.
    pub(super) events: VecDeque<Event>,
    /// Which keys were looked at for old versions, while not all have been.
    pub(super) passes: Passes<(Project, String)>,
}

#[derive(Debug)]
pub(super) struct Run {
    pub(super) record: RunRecord,
    plan: PlanRecord,
    outputs: Vec<Output>,
    /// The places of the outputs of steps that were skipped.
    skipped: Vec<usize>,
    signals: Signals,
    /// When the turn of the step at its cursor came.
    turn: Option<SystemTime>,
    /// The last event that was stored before its first.
    before: u64,
    /// The last event of the commit that finished it.
    pub(super) last: Option<u64>,
}

impl VolatileStore {
    fn accept(
        &mut self,
        run_id: &RunId,
        project: &Project,
        new: NewRun,
        at: SystemTime,
    ) -> Result<(), MemoryError> {
        if self.run_order.contains_key(run_id) {
            return Err(MemoryError::RunExists { run_id: run_id.clone() });
        }
        self.accepted += 1;
        let mut record = RunRecord::new(run_id.clone(), project.clone(), new.plan.len(), at);
        describe(&mut record, &new.plan);
        (record.durability, record.deadline) = (new.durability, new.deadline);
        self.runs.insert(
            self.accepted,
            Run {
                record,
                plan: new.plan,
                outputs: Vec::new(),
                skipped: Vec::new(),
                signals: Signals::default(),
                turn: None,
                before: self.last_seq,
                last: None,
            },
        );
        self.run_order.insert(run_id.clone(), self.accepted);
        Ok(())
    }

    /// Opens the next generation of a run that is known.
    fn reopen_run(&mut self, run_id: &RunId, reopen: Reopen) {
        let Some(order) = self.run_order.get(run_id).copied() else { return };
        self.finished.retain(|finished| *finished != order);
        let Some(run) = self.runs.get_mut(&order) else { return };
        let Reopen { generation, from, plan, set_inputs, deadline } = reopen;
        if let Some(plan) = plan {
            describe(&mut run.record, &plan);
            run.plan = plan;
        }
        run.outputs.truncate(from);
        run.skipped.retain(|step| *step < from);
        let record = &mut run.record;
        (record.generation, record.set_inputs, record.deadline) = (generation, set_inputs, deadline);
        record.finished_at = None;
    }

    /// Answers the generation of the run, if it is known.
    fn advance(
        &mut self,
        run_id: &RunId,
        update: RunUpdate,
        completed: Option<&StepOutput>,
        (at, last_seq): (SystemTime, u64),
    ) -> Option<u32> {
        if self.runs.get(&self.latest).is_none_or(|run| run.record.run_id != *run_id) {
            self.latest = *self.run_order.get(run_id)?;
        }
        let Run { record, outputs, skipped, turn, last, .. } = self.runs.get_mut(&self.latest)?;
        let was_final = record.state.is_final();
        let generation = record.generation;
        let RunUpdate { state, cursor, attempt, step, pausing, failure, reason, undoing } = update;
        (record.cursor, record.attempt, record.failure, record.reason) = (cursor, attempt, failure, reason);
        (record.step, record.pausing, record.undoing) = (step, pausing, undoing);
        record.enter(state, at);
        if completed.is_some() {
            *turn = Some(at);
        }
        record.step.since = step.since.or(*turn).or(record.started_at);
        *last = state.is_final().then_some(last_seq);
        if state.is_final() && !was_final {
            self.finished.push_back(self.latest);
        }
        if let Some(StepOutput { step, output, skipped: is_skipped, .. }) = completed {
            if outputs.is_empty() {
                // All at once, since most plans come to their end, and growing by and by copies everything twice.
                outputs.reserve_exact(record.steps);
            }
            outputs.truncate(*step);
            outputs.push(output.clone());
            if *is_skipped {
                skipped.push(*step);
            }
        }
        while self.finished.len() > VOLATILE_FINISHED_RUNS {
            if let Some(oldest) = self.finished.pop_front() {
                self.forget(oldest);
            }
        }
        Some(generation)
    }

    pub(super) fn forget(&mut self, order: u64) {
        if let Some(run) = self.runs.remove(&order) {
            self.run_order.remove(&run.record.run_id);
        }
    }

    #[inline]
    fn tell(&mut self, run_id: Option<RunId>, kind: EventKind, (ids, at): (Ids, SystemTime)) -> Event {
        self.last_seq += 1;
        let event = Event::restored(ids.make(), self.last_seq, at, run_id, kind);
        if self.events.len() >= VOLATILE_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event.clone());
        event
    }

    /// How many of the kept events lie at or before `after`.
    fn skip(&self, after: u64) -> Result<usize, MemoryError> {
        let first = self.last_seq + 1 - self.events.len() as u64;
        if after.saturating_add(1) < first {
            return Err(MemoryError::HistoryGone { after, first });
        }
        Ok(usize::try_from(after.saturating_add(1) - first).unwrap_or(usize::MAX))
    }

    fn runs_after(&self, after: Option<&RunId>) -> impl Iterator<Item = &RunRecord> {
        let from = match after.map(|run_id| self.run_order.get(run_id)) {
            None => 0,
            Some(Some(order)) => order + 1,
            Some(None) => u64::MAX,
        };
        self.runs.range(from..).map(|(_, run)| &run.record)
    }

    fn run_by_id(&self, run_id: &RunId) -> Option<&Run> {
        self.runs.get(self.run_order.get(run_id)?)
    }
}

impl Store for VolatileStore {
    fn commit(&mut self, commit: Box<Commit>, at: SystemTime) -> Result<Vec<Event>, MemoryError> {
        let Commit {
            run_id,
            project,
            accept,
            reopen,
            update,
            output,
            artifacts,
            events,
            signal,
            breakers,
            ..
        } = *commit;
        // The only steps that can fail come first, so that nothing is half done.
        if let Some(new) = accept {
            self.accept(&run_id, &project, *new, at)?;
        }
        if let Some(reopen) = reopen {
            if !self.run_order.contains_key(&run_id) {
                // It was over, and has been removed since somebody looked.
                return Err(MemoryError::UnknownRun { run_id });
            }
            self.reopen_run(&run_id, *reopen);
        }
        let last_seq = self.last_seq + events.len() as u64;
        let Some(generation) = self.advance(&run_id, update, output.as_ref(), (at, last_seq)) else {
            return Err(StoreError::new(format!("run {run_id} was never accepted")).into());
        };
        if let Some(taken) = signal
            && let Some(run) = self.runs.get_mut(&self.latest)
        {
            run.signals.take(taken);
        }
        let (ids, at) = Ids::at(at);
        self.note(&project, output.as_ref(), &artifacts);
        if output.is_some() || !artifacts.is_empty() {
            let keys = self.projects.entry(project).or_default();
            let new = |content| Kept::new(ids.make(), at, Some(run_id.clone()), content);
            if let Some(StepOutput { step, step_id, output, .. }) = output {
                let step = u32::try_from(step).unwrap_or(u32::MAX);
                keys.keep_result(step_id, new(Content::Result(step, generation, output)));
            }
            for NewArtifact { key, artifact_type, step: (step, step_id), data } in artifacts {
                let meta = Meta::Step(step, step_id, generation);
                keys.keep(&key, new(Content::Other(Box::new(Other { artifact_type, meta, data }))));
            }
        }

        self.breakers.extend(breakers.into_iter().map(|breaker| (Arc::clone(&breaker.name), breaker)));
        // In the room that the list has already.
        Ok(events.into_iter().map(|kind| self.tell(Some(run_id.clone()), kind, (ids, at))).collect())
    }

    fn record_breaker(&mut self, change: RecordBreaker, at: SystemTime) -> Result<Vec<Event>, MemoryError> {
        let RecordBreaker { record, event } = change;
        self.breakers.insert(Arc::clone(&record.name), record);
        Ok(vec![self.tell(None, event, Ids::at(at))])
    }

    fn record_signal(
        &mut self,
        signal: RecordSignal,
        at: SystemTime,
    ) -> Result<(KeptSignal, Vec<Event>), MemoryError> {
        let RecordSignal { run_id, name, payload } = signal;
        let run = self.run_order.get(&run_id).and_then(|order| self.runs.get_mut(order));
        let Some(run) = run else { return Err(MemoryError::UnknownRun { run_id }) };
        let kept = KeptSignal::new(self.last_seq + 1, name, payload);
        run.signals.keep(kept.clone());
        let received = EventKind::SignalReceived { signal: Arc::clone(&kept.name) };
        Ok((kept, vec![self.tell(Some(run_id), received, Ids::at(at))]))
    }

    fn put(&mut self, put: Put, at: SystemTime) -> Result<Artifact, MemoryError> {
        let (project, key) = (put.project().clone(), put.key().to_owned());
        let (artifact_type, meta, data) = put.into_parts();
        self.note_key(&project, &key);
        let other = Other { artifact_type, meta: Meta::Free(meta), data };
        let kept = Kept::new(uuid_at(at), at, None, Content::Other(Box::new(other)));
        let keys = self.projects.entry(project.clone()).or_default();
        Ok(keys.keep(&key, kept).to_artifact(&project, &key))
    }

    fn delete(&mut self, project: &Project, key: &str, version: Option<u64>) -> Result<bool, MemoryError> {
        Ok(self.projects.get_mut(project).is_some_and(|keys| keys.delete(key, version)))
    }

    fn collect(
        &mut self,
        retention: &Retention,
        now: SystemTime,
        limit: usize,
    ) -> Result<Collected, MemoryError> {
        Ok(self.sweep(retention, now, limit))
    }
}

impl Reader for VolatileStore {
    fn last_seq(&self) -> Result<u64, StoreError> {
        Ok(self.last_seq)
    }

    fn artifact(
        &self,
        project: &Project,
        key: &str,
        version: Option<u64>,
    ) -> Result<Option<Artifact>, StoreError> {
        let versions = self.projects.get(project).and_then(|keys| keys.get(key));
        let kept = versions.and_then(|versions| versions.get(version));
        Ok(kept.map(|kept| kept.to_artifact(project, key)))
    }

    fn versions(&self, project: &Project, key: &str) -> Result<Vec<u64>, StoreError> {
        let versions = self.projects.get(project).and_then(|keys| keys.get(key));
        Ok(versions.map(|versions| versions.numbers().collect()).unwrap_or_default())
    }

    fn keys(
        &self,
        project: &Project,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        Ok(self.projects.get(project).map(|keys| keys.page(prefix, after, limit)).unwrap_or_default())
    }

    fn run(&self, run_id: &RunId) -> Result<Option<RunRecord>, StoreError> {
        Ok(self.run_by_id(run_id).map(|run| run.record.clone()))
    }

    fn plan(&self, run_id: &RunId) -> Result<Option<PlanRecord>, StoreError> {
        Ok(self.run_by_id(run_id).map(|run| run.plan.clone()))
    }

    fn runs(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        Ok(self.runs_after(after).take(limit).cloned().collect())
    }

    fn unfinished(&self, after: Option<&RunId>, limit: usize) -> Result<Vec<RunRecord>, StoreError> {
        let unfinished = self.runs_after(after).filter(|record| !record.state.is_final());
        Ok(unfinished.take(limit).cloned().collect())
    }

    fn outputs(&self, run_id: &RunId) -> Result<Option<Vec<Output>>, StoreError> {
        Ok(self.run_by_id(run_id).map(|run| run.outputs.clone()))
    }

    fn skipped(&self, run_id: &RunId) -> Result<Vec<usize>, StoreError> {
        Ok(self.run_by_id(run_id).map(|run| run.skipped.clone()).unwrap_or_default())
    }

    fn signals(&self, run_id: &RunId) -> Result<Vec<KeptSignal>, StoreError> {
        Ok(self.run_by_id(run_id).map(|run| run.signals.all().to_vec()).unwrap_or_default())
    }

    fn signal_usage(&self, run_id: &RunId) -> Result<SignalUsage, StoreError> {
        Ok(self.run_by_id(run_id).map(|run| run.signals.usage()).unwrap_or_default())
    }

    fn breakers(&self) -> Result<Vec<BreakerRecord>, StoreError> {
        Ok(self.breakers.values().cloned().collect())
    }

    fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError> {
        let skip = self.skip(after)?;
        Ok(self.events.iter().skip(skip).take(limit).cloned().collect())
    }

    fn run_events(&self, run_id: &RunId, after: u64, limit: usize) -> Result<Vec<Event>, MemoryError> {
        let Some(run) = self.run_by_id(run_id) else { return Ok(Vec::new()) };
        if run.last.is_some_and(|last| after >= last) {
            return Ok(Vec::new());
        }
        // What came before the run was accepted is none of its events.
        let skip = self.skip(after.max(run.before))?;
        let own = self.events.iter().skip(skip).filter(|event| event.run_id() == Some(run_id));
        Ok(own.take(limit).cloned().collect())
    }
}
