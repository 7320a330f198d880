//! What must be true of a run that was cut off, whenever and however that was.

use super::*;

impl Told {
    /// What the outcome is, without what differs between a live error and a stored one.
    fn ended(&self) -> String {
        match &self.outcome {
            Ok(results) => format!("{results:?}"),
            Err(PlanError::StepFailed { step_id, kind, completed, source, .. }) => {
                format!("{step_id} failed after {completed:?}: {kind:?} {source}")
            }
            Err(PlanError::Cancelled { completed, .. }) => format!("cancelled after {completed:?}"),
            Err(other) => panic!("{:?}: {other:?}", self.case),
        }
    }

    /// Of each step the attempts that were started, each with whether it was the fallback's.
    fn started(&self) -> Vec<Called> {
        let started = self.events.iter().filter_map(|event| match event.kind() {
            EventKind::TaskStarted { task_id, attempt, fallback, .. } => {
                Some(Called { step: task_id.to_string(), attempt: *attempt, fallback: *fallback })
            }
            _ => None,
        });
        started.collect()
    }

    /// The attempt that the first life left in flight, by what is stored.
    pub fn in_flight(&self) -> Option<Called> {
        let of_task = |event: &&Event| event.event_type().starts_with("task.");
        let last = self.events[..self.left].iter().rev().find(of_task)?;
        let EventKind::TaskStarted { task_id, attempt, fallback, .. } = last.kind() else { return None };
        let flies = self.case.is_cut_off() && !self.left_record.as_ref()?.state.is_final();
        flies.then(|| Called { step: task_id.to_string(), attempt: *attempt, fallback: *fallback })
    }

    /// The attempt that was in flight by what is stored, and that nobody has called: its start was stored, and not heard of.
    pub fn unheard(&self) -> Option<Called> {
        let last = self.events[..self.left].last()?;
        let starts = matches!(last.kind(), EventKind::TaskStarted { .. });
        let Case { cell, at, .. } = self.case;
        // What is asked between two inline calls is stored before the one is made that was started.
        let asked = cell.kind == Kind::Inline
            && [(Feature::Pause, 3), (Feature::Cancel, 4)].contains(&(cell.feature, at));
        self.in_flight().filter(|_| asked || self.case.is_stored() && starts)
    }

    fn completed(&self) -> Vec<&str> {
        let ends = |kind: &EventKind| {
            matches!(kind, EventKind::TaskCompleted { .. } | EventKind::TaskSkipped { .. })
        };
        let completed = self.events.iter().filter(|event| ends(event.kind()));
        completed.map(|event| event.task_id().unwrap()).collect()
    }

    pub fn shown(&self) -> String {
        let line = |(index, event): (usize, &Event)| {
            let cut = if index == self.left { "---- the second life\n" } else { "" };
            format!("{cut}{} {}\n", event, serde_json::to_string(event).unwrap())
        };
        let lines: String = self.events.iter().enumerate().map(line).collect();
        format!("{:?}\n{:?}\n{:#?}\n{lines}", self.case, self.acknowledged, self.calls)
    }

    pub fn check(&self, whole: &Self) {
        let shown = self.shown();
        self.check_outcome(whole, &shown);
        self.check_history(&shown);
        self.check_calls(whole, &shown);
        self.check_attempts(&shown);
        self.check_times(&shown);
        self.check_limit(&shown);
        let completed = self.completed();
        for (step, versions) in &self.versions {
            let expected: &[u64] = if completed.contains(step) { &[1] } else { &[] };
            assert_eq!(versions, expected, "{step}\n{shown}");
        }
    }

    fn check_outcome(&self, whole: &Self, shown: &str) {
        let (ended, last) = (self.ended(), self.events.last().unwrap());
        let feature = self.case.cell.feature;
        if feature != Feature::Cancel {
            assert_eq!(ended, whole.ended(), "{shown}");
            assert_eq!(last.event_type(), whole.events.last().unwrap().event_type(), "{shown}");
            assert_eq!(self.completed(), whole.completed(), "{shown}");
        } else if self.acknowledged.cancelled {
            assert_eq!(self.record.state, RunState::Cancelled, "{shown}");
        } else {
            let goes_on = [RunState::Completed, RunState::Cancelled].contains(&self.record.state);
            assert!(self.case.is_cut_off() && goes_on, "{shown}");
        }
        assert_eq!(last.event_type(), format!("plan.{}", self.record.state), "{shown}");
        let said = |what: &str| self.events.iter().filter(|event| event.event_type() == what).count();
        if self.acknowledged.paused {
            assert_eq!((said("plan.pausing"), said("plan.paused")), (1, 1), "{shown}");
        }
        assert!(feature == Feature::Pause || said("plan.paused") == 0, "{shown}");
    }

    fn check_history(&self, shown: &str) {
        assert!(self.events.iter().map(Event::seq).eq((1..=self.events.len() as u64).map(Some)), "{shown}");
        let ends: Vec<_> = self.events.iter().map(Event::ends_run).collect();
        let last = ends.len() - 1;
        assert!(ends.iter().enumerate().all(|(index, ends)| *ends == (index == last)), "{shown}");
        // In their order, and each once.
        assert!(STEPS.starts_with(&self.completed()), "{shown}");
        let mut attempts = BTreeMap::new();
        let mut rescued = false;
        for event in &self.events {
            match event.kind() {
                EventKind::TaskStarted { task_id, attempt, fallback, .. } => {
                    let before = attempts.insert(Arc::clone(task_id), *attempt).unwrap_or(0);
                    assert_eq!(*attempt, before + 1, "{shown}");
                    assert_eq!(*fallback, rescued && **task_id == *"subject", "{shown}");
                }
                EventKind::TaskFailed { will_retry: false, .. } => {
                    assert!(!rescued, "{shown}");
                    rescued = self.case.cell.feature == Feature::Fallback;
                }
                _ => {}
            }
        }
    }

    /// Whatever was started was called, once: but for what was cut off before it was heard that it could be.
    fn check_calls(&self, whole: &Self, shown: &str) {
        let mut expected = self.started();
        expected.retain(|started| Some(started) != self.unheard().as_ref());
        if (self.case.cell.feature, self.case.cell.kind) == (Feature::Cancel, Kind::Inline) {
            // Its cancellation was heard between the commit of its start and its call.
            let cancelled = self.record.state == RunState::Cancelled;
            expected.retain(|started| !cancelled || started.step != "after");
        }
        let calls: Vec<Called> = self.calls.iter().map(|(_, called)| called.clone()).collect();
        assert_eq!(calls, expected, "{shown}");
        let completed: Vec<_> =
            self.events[..self.left].iter().filter(|event| event.event_type() == "task.completed").collect();
        for (life, called) in self.calls.iter().filter(|_| self.case.is_cut_off()) {
            let is_over = completed.iter().any(|event| event.task_id() == Some(&called.step));
            assert!(*life == 1 || !is_over, "{called:?} was over\n{shown}");
        }
        let goes_on = self.record.state != RunState::Cancelled;
        let repeated = usize::from(self.in_flight().is_some() && self.unheard().is_none());
        if self.case.cell.feature == Feature::Cancel && goes_on {
            assert!(self.calls.len() <= STEPS.len() + repeated, "{shown}");
        } else {
            assert!(self.calls.len() <= whole.calls.len() + repeated, "{shown}");
        }
    }

    /// A step is tried as often as it needs, and once more if that was cut off.
    fn check_attempts(&self, shown: &str) {
        let cell = self.case.cell;
        for step in STEPS {
            let started = self.started().into_iter().filter(|started| started.step == step).count();
            let lost = self.in_flight().filter(|lost| lost.step == step).map_or(0, |lost| lost.attempt);
            let expected = match cell.feature {
                Feature::Cancel if self.record.state == RunState::Cancelled => continue,
                // See `check_limit`.
                Feature::Total => continue,
                Feature::Fallback => cell.attempts(step) + u32::from(lost > 0),
                _ if lost > 0 => cell.attempts(step).max(lost + 1),
                _ => cell.attempts(step),
            };
            assert_eq!(u32::try_from(started).unwrap(), expected, "{step}\n{shown}");
        }
    }

    /// Nothing is waited for but what there is to wait for, and that not anew after a crash.
    fn check_times(&self, shown: &str) {
        let cell = self.case.cell;
        let mut now = self.events[0].timestamp();
        let (mut due, mut paused_at) = (None, None);
        for (index, event) in self.events.iter().enumerate() {
            if index == self.left {
                now = self.restart_at;
            }
            let expected = match event.kind() {
                EventKind::TaskStarted { .. }
                | EventKind::PlanParked { .. }
                | EventKind::BreakerHalfOpened { .. } => due.take().map_or(now, |due| now.max(due)),
                EventKind::TaskFailed { failure, .. }
                    if failure.kind == FailureKind::Timeout && cell.feature == Feature::Timeout =>
                {
                    match cell.kind {
                        Kind::Async => now + TIMEOUT,
                        Kind::Inline => now + TIMEOUT + OVERRUN,
                        // It was stopping by then.
                        Kind::Blocking => now,
                    }
                }
                EventKind::PlanStopping {} if cell.feature == Feature::Timeout => now + TIMEOUT,
                EventKind::PlanResumed { .. } if paused_at.is_some() && index < self.left => now + LATER,
                // It is resumed when somebody has looked.
                EventKind::PlanResumed { .. } if self.left_pausing() => event.timestamp().max(now),
                _ => now,
            };
            assert_eq!(event.timestamp(), expected, "event {index}: {event}\n{shown}");
            now = expected;
            match event.kind() {
                EventKind::TaskFailed { next_attempt_at, .. } => due = *next_attempt_at,
                EventKind::PlanParked { until, .. } => due = *until,
                EventKind::PlanPaused {} => paused_at = Some(now),
                _ => {}
            }
        }
        assert_eq!(due, None, "{shown}");
    }

    /// Whether the first life left a run that is paused, or is to be.
    fn left_pausing(&self) -> bool {
        self.left_record.as_ref().is_some_and(|record| record.pausing)
    }

    /// All attempts together have their time from the first on, whatever happened between them.
    fn check_limit(&self, shown: &str) {
        let turn = |events: &[Event]| {
            let before = |event: &&Event| event.event_type() == "task.completed";
            events.iter().find(before).map(Event::timestamp)
        };
        if let Some(record) = self.left_record.as_ref().filter(|record| record.cursor == 1) {
            assert_eq!(record.step.since, turn(&self.events), "{shown}");
        }
        if self.case.cell.feature != Feature::Total {
            return;
        }
        let over = turn(&self.events).unwrap() + TOTAL;
        for event in &self.events {
            if let EventKind::TaskFailed { will_retry, .. } = event.kind() {
                assert_eq!(*will_retry, event.timestamp() + DELAY < over, "{event}\n{shown}");
            }
        }
    }
}
