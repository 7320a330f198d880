//! The control messages: status, listing, cancellation. None of them waits for a step.

use std::collections::HashMap;
use std::rc::Rc;

use actix::dev::RecipientRequest;
use actix::{AsyncContext, Context, Handler, ResponseFuture};
use tokio::sync::oneshot;

use super::actor::ExecutionOrchestrator;
use super::error::{ControlError, PlanError};
use super::going_on::Recover;
use super::internal::{GoesOn, Happened, Undoes, tell};
use super::line::{Ticket, Withdrawal};
use super::links::{Links, stored};
use super::machine::{self, Known, Position};
use super::messages::{CancelOutcome, CancelPlan, ListPlans, PlanStatus};
use super::runner::{Outcome, commit_of};
use super::status::RunInfo;
use crate::limits::INTERRUPTED_RUNS;
use crate::memory::{Claim, Committed, FindRun, GetRun, ListRuns, MemoryError};
use crate::plan::CheckedPlan;
use crate::run::{RunId, RunRecord, RunState};

/// What someone who cancels is told.
pub(crate) type Cancelled = Result<CancelOutcome, ControlError>;

/// What the end of a run means for those who cancelled it.
pub(crate) fn cancelled_by(outcome: &Outcome) -> Cancelled {
    let error = match outcome {
        Ok(_) => return Ok(CancelOutcome::Finished(RunState::Completed)),
        Err(PlanError::Compensated { not_undone, .. }) if not_undone.is_empty() => {
            return Ok(CancelOutcome::Finished(RunState::Compensated));
        }
        Err(error) => error.why(),
    };
    match error {
        PlanError::StepFailed { .. } | PlanError::DeadlineExceeded { .. } => {
            Ok(CancelOutcome::Finished(RunState::Failed))
        }
        PlanError::Memory { source, .. } => Err(ControlError::Memory(source.clone())),
        PlanError::Interrupted { run_id, .. } => Err(ControlError::Interrupted { run_id: run_id.clone() }),
        // Whoever has it, it is not ours to cancel.
        PlanError::RunExists { run_id } | PlanError::RunElsewhere { run_id } => {
            Err(ControlError::UnknownRun { run_id: run_id.clone() })
        }
        // Refused before it was accepted, or cancelled: either way nothing runs.
        _ => Ok(CancelOutcome::Cancelled),
    }
}

impl ExecutionOrchestrator {
    /// Whether a run waits or runs here.
    pub(crate) fn is_here(&self, run_id: &RunId) -> bool {
        self.active.contains_key(run_id) || self.tickets.contains_key(run_id)
    }

    /// How a run is doing, if it waits or runs here.
    pub(crate) fn info(&self, run_id: &RunId) -> Option<RunInfo> {
        if let Some(active) = self.active.get(run_id) {
            if active.watch.at.get().state.is_final() {
                // It is stored, and memory knows more: why it failed, and when.
                return None;
            }
            let info = RunInfo::active(run_id.clone(), &active.plan, &active.watch);
            return Some(RunInfo { generation: active.generation, ..info });
        }
        let ticket = *self.tickets.get(run_id)?;
        let waiting = self.waiting.get(&ticket)?;
        let queued = RunInfo::queued(run_id.clone(), &waiting.plan, self.line.position(ticket));
        // A run that goes on has some steps behind it.
        let (completed, generation) = (waiting.at.cursor, waiting.generation);
        let info = RunInfo { completed, generation, ..queued };
        Some(if waiting.undoing.is_some() { info.compensating(waiting) } else { info })
    }

    /// Starts to cancel a run that waits or runs here; the answer comes when that is stored.
    pub(crate) fn cancel(
        &mut self,
        run_id: &RunId,
        ctx: &mut Context<Self>,
    ) -> Option<oneshot::Receiver<Cancelled>> {
        let (tell_cancelled, cancelled) = oneshot::channel();
        if let Some(active) = self.active.get_mut(run_id) {
            let at = active.watch.at.get();
            if at.state == RunState::Compensating {
                let _ = tell_cancelled.send(Ok(CancelOutcome::Compensating));
                return Some(cancelled);
            }
            active.cancellation.cancel();
            active.watch.withdraw_retries();
            if at.state == RunState::Stopping && !at.expired {
                let _ = tell_cancelled.send(Ok(CancelOutcome::Stopping));
                return Some(cancelled);
            }
            active.watch.cancels.borrow_mut().push(tell_cancelled);
            return Some(cancelled);
        }
        let ticket = *self.tickets.get(run_id)?;
        self.waiting.get_mut(&ticket)?.cancels.push(tell_cancelled);
        self.withdraw(ticket, ctx);
        Some(cancelled)
    }

    /// Takes a plan that waits out of the line; when its acceptance is stored, its cancellation is stored first.
    pub(crate) fn withdraw(&mut self, ticket: Ticket, ctx: &mut Context<Self>) {
        if let Some(waiting) = self.waiting.get_mut(&ticket)
            && waiting.undoing.is_some()
        {
            self.stand_by(ticket);
            // Those behind it may move up.
            return self.advance(ctx);
        }
        match self.line.withdraw(ticket) {
            Withdrawal::Forgotten => {
                if let Some(waiting) = self.waiting.get(&ticket) {
                    let error = waiting.withdrawn();
                    self.refuse(ticket, error);
                }
                // Those behind it may move up.
                self.advance(ctx);
            }
            Withdrawal::ToStore => {
                let Some(waiting) = self.waiting.get(&ticket) else { return };
                let Some(decision) = waiting.withdrawal() else { return };
                let (to, undoing, failure) =
                    (decision.to, decision.undoing.clone(), decision.failure.clone());
                let request = self.links.commit.send(waiting.commit(decision));
                let myself = ctx.address().downgrade();
                actix::spawn(async move {
                    let stored = stored(request.await);
                    let undoes = undoing.map(|undoing| Box::new(Undoes { to, undoing, failure }));
                    tell(&myself, Happened::Withdrawn { ticket, stored, undoes });
                });
            }
            // `accepted` looks again.
            Withdrawal::Busy => {}
        }
    }

    pub(crate) fn withdrawn(
        &mut self,
        ticket: Ticket,
        stored: Result<Committed, MemoryError>,
        undoes: Option<Box<Undoes>>,
        ctx: &mut Context<Self>,
    ) {
        if let (Ok(_), Some(undoes)) = (&stored, undoes) {
            return self.undo_waiting(ticket, *undoes, ctx);
        }
        let Some(waiting) = self.waiting.get(&ticket) else { return };
        let run_id = waiting.run_id.clone();
        let error = match stored {
            Ok(_) => waiting.withdrawn(),
            Err(error) => {
                // Memory may go on to say that it waits or runs, which it does not any more.
                let info = RunInfo::interrupted(run_id.clone(), &waiting.plan, waiting.at, None);
                self.remember(info);
                PlanError::from_memory(run_id, error)
            }
        };
        self.refuse(ticket, error);
    }
}

impl ExecutionOrchestrator {
    /// Keeps a run that was cut off here in mind: memory may still hold it as running.
    pub(crate) fn remember(&mut self, info: RunInfo) {
        self.interrupted.retain(|other| other.run_id != info.run_id);
        self.interrupted.push_back(info);
        if self.interrupted.len() > INTERRUPTED_RUNS {
            self.interrupted.pop_front();
        }
    }

    /// The run, if it was cut off here.
    fn interrupted(&self, run_id: &RunId) -> Option<RunInfo> {
        self.interrupted.iter().find(|info| info.run_id == *run_id).cloned()
    }
}

/// What to tell of a run that is not here: what memory says, unless that is that it goes on, which we know better.
fn told(
    record: Result<RunRecord, ControlError>,
    interrupted: Option<RunInfo>,
) -> Result<RunInfo, ControlError> {
    match (record, interrupted) {
        (Ok(record), Some(info)) if !record.state.is_final() => Ok(info),
        (Err(_), Some(info)) => Ok(info),
        (record, _) => record.map(RunInfo::from),
    }
}

impl Handler<PlanStatus> for ExecutionOrchestrator {
    type Result = ResponseFuture<Result<RunInfo, ControlError>>;

    fn handle(&mut self, PlanStatus(run_id): PlanStatus, ctx: &mut Self::Context) -> Self::Result {
        if !self.is_here(&run_id) {
            self.catch_up(ctx);
        }
        if let Some(info) = self.info(&run_id) {
            return Box::pin(async move { Ok(info) });
        }
        let interrupted = self.interrupted(&run_id);
        let record = self.links.get_run.send(GetRun(run_id.clone()));
        Box::pin(async move { told(record_of(run_id, record).await, interrupted) })
    }
}

impl Handler<ListPlans> for ExecutionOrchestrator {
    type Result = ResponseFuture<Result<Vec<RunInfo>, ControlError>>;

    fn handle(&mut self, list: ListPlans, _: &mut Self::Context) -> Self::Result {
        // Runs that are here are told by us, who know more: the position in the line, the step in flight.
        let known = self.active.keys().chain(self.tickets.keys()).filter_map(|run_id| self.info(run_id));
        let mut known: HashMap<RunId, RunInfo> =
            (self.interrupted.iter().cloned().chain(known)).map(|info| (info.run_id.clone(), info)).collect();
        let request = self.links.list_runs.send(ListRuns::new(list.after));
        Box::pin(async move {
            let records = request.await.unwrap_or(Err(MemoryError::Stopped))?;
            let told = records.into_iter().map(|record| match known.remove(&record.run_id) {
                // A run may have ended since we looked.
                Some(info) if !record.state.is_final() => info,
                _ => RunInfo::from(record),
            });
            Ok(told.collect())
        })
    }
}

impl Handler<CancelPlan> for ExecutionOrchestrator {
    type Result = ResponseFuture<Cancelled>;

    fn handle(&mut self, CancelPlan(run_id): CancelPlan, ctx: &mut Self::Context) -> Self::Result {
        if !self.is_here(&run_id) {
            self.catch_up(ctx);
        }
        let cancelled = self.cancel(&run_id, ctx).unwrap_or_else(|| {
            let (tell_cancelled, cancelled) = oneshot::channel();
            if self.is_settled(&run_id) {
                self.cancel_stored(run_id, tell_cancelled, ctx);
            } else {
                self.to_cancel.push((run_id, tell_cancelled));
            }
            cancelled
        });
        Box::pin(async move { cancelled.await.unwrap_or(Err(ControlError::Stopped)) })
    }
}

impl ExecutionOrchestrator {
    /// Cancels a run of which it was not known yet whether it goes on by itself.
    pub(crate) fn cancel_or_tell(
        &mut self,
        run_id: RunId,
        tell_cancelled: oneshot::Sender<Cancelled>,
        ctx: &mut Context<Self>,
    ) {
        match self.cancel(&run_id, ctx) {
            None if self.is_settled(&run_id) => self.cancel_stored(run_id, tell_cancelled, ctx),
            None => self.to_cancel.push((run_id, tell_cancelled)),
            Some(cancelled) => drop(actix::spawn(async move {
                let _ = tell_cancelled.send(cancelled.await.unwrap_or(Err(ControlError::Stopped)));
            })),
        }
    }

    /// Cancels a run that is not here: it is over, or was cut off. Whoever asks for it meanwhile waits for that.
    fn cancel_stored(
        &mut self,
        run_id: RunId,
        tell_cancelled: oneshot::Sender<Cancelled>,
        ctx: &mut Context<Self>,
    ) {
        let (links, myself) = (Rc::clone(&self.links), ctx.address().downgrade());
        self.unsettled.insert(run_id.clone());
        let recover = self.recover;
        actix::spawn(async move {
            let (answer, goes_on) = match cancel_found(&links, run_id.clone(), recover).await {
                Ok((outcome, goes_on)) => (Ok(outcome), goes_on),
                Err(error) => (Err(error), None),
            };
            let _ = tell_cancelled.send(answer);
            tell(&myself, Happened::CancelTold { run_id, goes_on });
        });
    }
}

/// Cancels a run, and answers whether it goes on: when there is something to undo.
async fn cancel_found(
    links: &Links,
    run_id: RunId,
    recover: Recover,
) -> Result<(CancelOutcome, Option<GoesOn>), ControlError> {
    // Looked up first: to claim a run that is new would keep it from whoever is about to have it accepted.
    let record = record_of(run_id.clone(), links.get_run.send(GetRun(run_id.clone()))).await?;
    if record.state.is_final() {
        return Ok((CancelOutcome::Finished(record.state), None));
    }
    let claim = Claim::new();
    let found = links.find_run.send(FindRun::new(run_id.clone(), claim.clone())).await;
    let Some(found) = found.unwrap_or(Err(MemoryError::Stopped))? else {
        return Err(ControlError::UnknownRun { run_id });
    };
    let at = Position::of(&found.record);
    let RunRecord { state, project, durability, failure, undoing, .. } = found.record.clone();
    if state.is_final() {
        return Ok((CancelOutcome::Finished(state), None));
    }
    let plan = CheckedPlan::new(found.plan.to_plan()).ok().filter(|_| found.claimed);
    if plan.is_some() && undoing.is_some() {
        return Ok((CancelOutcome::ToCompensate, None));
    }
    let known = Known { failure: failure.as_ref(), undoing: undoing.as_ref(), skipped: &found.skipped };
    let Some(decision) = plan.and_then(|plan| machine::cancel(&plan, at, &known)) else {
        return Err(ControlError::NotHere { run_id, state });
    };
    let (to, failure, undoing) = (decision.to, decision.failure.clone(), decision.undoing.clone());
    stored(links.commit.send(commit_of(&run_id, &project, durability, decision)).await)?;
    // Nobody else goes on with it before that is stored.
    let Some(undoing) = undoing else { return Ok((CancelOutcome::Cancelled, None)) };
    let by_itself = recover == Recover::All && found.plan.cannot_go_on().is_none();
    let outcome = if by_itself { CancelOutcome::Compensating } else { CancelOutcome::ToCompensate };
    // One that cannot go on says so loudly.
    let goes_on =
        (recover == Recover::All).then(|| Box::new((claim, Undoes { to, undoing, failure }.found(found))));
    Ok((outcome, goes_on))
}

pub(crate) async fn record_of(
    run_id: RunId,
    request: RecipientRequest<GetRun>,
) -> Result<RunRecord, ControlError> {
    let record = request.await.unwrap_or(Err(MemoryError::Stopped))?;
    record.ok_or(ControlError::UnknownRun { run_id })
}
