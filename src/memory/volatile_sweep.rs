//! What the volatile store removes of what is not kept: the same as other stores, which are larger.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Bound;
use std::time::SystemTime;

use super::commit::{NewArtifact, StepOutput};
use super::kept::Keys;
use super::retention::{Collected, Retention};
use super::volatile::VolatileStore;
use crate::artifact::task_key;
use crate::project::Project;

impl VolatileStore {
    pub(super) fn sweep(&mut self, retention: &Retention, now: SystemTime, limit: usize) -> Collected {
        let mut left = limit.max(2);
        let due = self.due(retention, now);
        // The last of them, so the events of all, and what is older than allowed.
        let until = due.checked_sub(1).and_then(|last| self.last_of(*self.finished.get(last)?));
        let old = retention.events_until(now);
        let mut events = 0;
        while left > 0
            && self.events.len() > 1
            && self
                .events
                .front()
                .is_some_and(|event| event.seq() <= until || old.is_some_and(|old| event.timestamp() < old))
        {
            self.events.pop_front();
            (events, left) = (events + 1, left - 1);
        }
        let runs = self.remove_runs(due, &mut left);
        let keep = retention.keep_versions;
        let (versions, is_short) = keep.map_or((0, false), |keep| self.remove_versions(keep, &mut left));
        Collected::new(runs, versions, events, is_short || left == 0)
    }

    fn last_of(&self, order: u64) -> Option<u64> {
        self.runs.get(&order)?.last
    }

    /// How many of the finished runs are not to be kept: the first ones.
    fn due(&self, retention: &Retention, now: SystemTime) -> usize {
        let too_many = retention.keep_runs.map_or(0, |keep| {
            self.finished.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX))
        });
        // A clock may have been set back between two of them; one that finished later says how late it was at least.
        let until = retention.runs_until(now);
        let is_old = |order: &u64| {
            let finished_at = self.runs.get(order).and_then(|run| run.record.finished_at);
            finished_at.is_some_and(|at| until.is_some_and(|until| at < until))
        };
        let too_old = self.finished.iter().rposition(is_old).map_or(0, |place| place + 1);
        too_many.max(too_old)
    }

    /// Removes those of the first `due` finished runs that have no event any more; not the one that was accepted last.
    fn remove_runs(&mut self, due: usize, left: &mut usize) -> u64 {
        let first = self.last_seq + 1 - self.events.len() as u64;
        let (mut removed, mut place) = (0, 0);
        for _ in 0..due {
            let Some(order) = self.finished.get(place).copied() else { break };
            if *left == 0 || self.last_of(order).is_some_and(|last| last >= first) {
                break;
            }
            if order == self.accepted {
                place += 1;
                continue;
            }
            self.finished.remove(place);
            self.forget(order);
            (removed, *left) = (removed + 1, *left - 1);
        }
        removed
    }

    /// Looks at the versions of the next keys, and removes the old ones; answers how many, and whether there may be more.
    fn remove_versions(&mut self, keep: u64, left: &mut usize) -> (u64, bool) {
        let (pass, projects) = (self.passes.of(keep), &mut self.projects);
        let (turn, mut removed) = (pass.keep(), 0);
        while *left > 0 {
            let Ok::<_, Infallible>(next) = pass.next(|passed| Ok(key_behind(projects, passed)));
            let Some(next) = next else {
                self.passes.forget(turn);
                return (removed, turn != keep);
            };
            *left -= 1;
            let trimmed = projects.get_mut(&next.0).map_or(0, |keys| keys.trim(&next.1, turn, *left));
            *left -= trimmed;
            removed += trimmed as u64;
            if *left > 0 {
                pass.looked_at(next);
            }
        }
        (removed, true)
    }

    /// What a commit stores has a version more.
    pub(super) fn note(&mut self, project: &Project, output: Option<&StepOutput>, artifacts: &[NewArtifact]) {
        if self.passes.is_empty() {
            return;
        }
        if let Some(StepOutput { step_id, .. }) = output {
            self.note_key(project, &task_key(step_id));
        }
        for NewArtifact { key, .. } in artifacts {
            self.note_key(project, key);
        }
    }

    pub(super) fn note_key(&mut self, project: &Project, key: &str) {
        if !self.passes.is_empty() {
            self.passes.note(&(project.clone(), key.to_owned()));
        }
    }
}

/// The key behind this one, or the first.
fn key_behind(
    projects: &BTreeMap<Project, Keys>,
    passed: Option<&(Project, String)>,
) -> Option<(Project, String)> {
    let first = |(project, keys): (&Project, &Keys), after: Option<&str>| {
        keys.page("", after, 1).pop().map(|key| (project.clone(), key))
    };
    let Some((project, after)) = passed else {
        return projects.iter().find_map(|entry| first(entry, None));
    };
    let same = projects.get(project).and_then(|keys| first((project, keys), Some(after)));
    let behind = (Bound::Excluded(project), Bound::Unbounded);
    same.or_else(|| projects.range::<Project, _>(behind).find_map(|entry| first(entry, None)))
}
