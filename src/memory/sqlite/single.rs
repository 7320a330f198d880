//! What is written that is no commit: artifacts by hand, signals, breakers.

use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::types::Null;

use super::error::Fault;
use super::rows::{self, INSERT_ARTIFACT, data_cell, micros};
use super::signals;
use super::write::Writer;
use crate::artifact::Artifact;
use crate::event::{Event, EventKind};
use crate::id::to_micros;
use crate::memory::error::MemoryError;
use crate::memory::messages::{Put, RecordBreaker};
use crate::memory::signal::{KeptSignal, RecordSignal};
use crate::project::Project;

impl Writer {
    pub(super) fn record_breaker(
        &mut self,
        change: RecordBreaker,
        at: SystemTime,
    ) -> Result<Vec<Event>, Fault> {
        let RecordBreaker { record, event } = change;
        let moment = self.moment(at, 1);
        rows::store_breaker(&self.view.0, &record)?;
        let stored = self.insert_events(None, vec![event], None, moment)?;
        self.pending.settle(&self.view.0, true)?;
        self.last_seq = moment.last_seq;
        self.wrote = true;
        Ok(stored)
    }

    pub(super) fn record_signal(
        &mut self,
        signal: RecordSignal,
        at: SystemTime,
    ) -> Result<(KeptSignal, Vec<Event>), MemoryError> {
        let RecordSignal { run_id, name, payload } = signal;
        let run = self.view.number_of(&run_id)?;
        let Some(run) = run else { return Err(MemoryError::UnknownRun { run_id }) };
        let moment = self.moment(at, 1);
        let kept = KeptSignal::new(moment.first_seq, name, payload);
        signals::keep(&self.view.0, run, &kept, moment.micros)?;
        let received = EventKind::SignalReceived { signal: Arc::clone(&kept.name) };
        let stored = self.insert_events(Some((run, run_id)), vec![received], None, moment)?;
        self.pending.settle(&self.view.0, true)?;
        self.last_seq = moment.last_seq;
        self.wrote = true;
        Ok((kept, stored))
    }

    pub(super) fn put(&mut self, put: Put, at: SystemTime) -> Result<Artifact, Fault> {
        let (project, key) = (put.project().clone(), put.key().to_owned());
        let (artifact_type, meta, data) = put.into_parts();
        let (no, version) = self.next_version(&project, &key)?;
        let mut artifact = Artifact::new(project, key, version.unsigned_abs(), data, to_micros(at));
        (artifact.artifact_type, artifact.meta) = (artifact_type, meta);
        let meta = if artifact.meta.is_empty() { None } else { Some(serde_json::to_string(&artifact.meta)?) };
        self.view.0.prepare_cached(INSERT_ARTIFACT)?.execute((
            no,
            version,
            artifact.id.as_bytes(),
            &*artifact.artifact_type,
            micros(at),
            meta,
            Null,
            Null,
            data_cell(&artifact.data),
        ))?;
        self.wrote = true;
        Ok(artifact)
    }

    pub(super) fn delete(
        &mut self,
        project: &Project,
        key: &str,
        version: Option<u64>,
    ) -> Result<bool, Fault> {
        let deleted = self.keys.delete(&self.view.0, project, key, version)?;
        self.wrote |= deleted;
        Ok(deleted)
    }
}
