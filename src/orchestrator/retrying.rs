//! Runs that were over, or are held, and are tried again: in their next generation.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix::{AsyncContext, Context, Handler, ResponseFuture};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::actor::ExecutionOrchestrator;
use super::admission::check_guards;
use super::breakers::BreakerSet;
use super::deciding::ResolveOutcome;
use super::error::{ControlError, PlanError, RetryFault};
use super::internal::{Happened, tell};
use super::limit::Deadline;
use super::machine::Position;
use super::messages::RunHandle;
use super::permits::LimitSet;
use super::retry_run::{OnMismatch, RetryFrom, RetryRun};
use super::runner::Outcome;
use super::waiting::Waiting;
use super::watch::{Reply, Request};
use crate::id::to_micros;
use crate::json;
use crate::memory::{Claim, FindRun, FoundRun, MemoryError, Reopen};
use crate::plan::{CheckedPlan, InvalidPlan, Output, Plan, PlanDifference, PlanRecord};
use crate::run::{RunId, RunState};

/// Who wants a run to be tried again.
pub(crate) struct Retrier {
    retry: RetryRun,
    /// The step without which it goes on.
    skip: Option<String>,
    /// Told before it is accepted, if it becomes another run.
    named: Option<oneshot::Sender<RunId>>,
    accepted: oneshot::Sender<Result<(), PlanError>>,
    outcomes: Vec<oneshot::Sender<Outcome>>,
    /// The run was cancelled since.
    pub(crate) withdrawn: bool,
}

/// What becomes of a run that is tried again.
pub(crate) enum Next {
    /// Its next generation.
    Generation(Waiting),
    /// It stays as it is, and this run takes its place, which is looked up by its name.
    Other(Waiting),
}

impl Retrier {
    pub(crate) fn too_late(self, state: RunState) {
        let run_id = self.retry.run_id.clone();
        self.refuse(PlanError::NotRetried { run_id, fault: RetryFault::State(state) });
    }

    pub(crate) fn refuse(self, error: PlanError) {
        let _ = self.accepted.send(Err(error));
    }

    pub(crate) fn run_id(&self) -> &RunId {
        &self.retry.run_id
    }

    /// Waits with what becomes of the run.
    pub(crate) fn attach_to(mut self, waiting: &mut Waiting) {
        waiting.accepted.push(self.accepted);
        waiting.outcomes.append(&mut self.outcomes);
    }
}

impl ExecutionOrchestrator {
    /// Finds a run that is to be tried again, once it is neither running nor about to.
    pub(crate) fn retry_run(&mut self, retrier: Retrier, ctx: &mut Context<Self>) {
        if self.closing.is_some() {
            return retrier.refuse(PlanError::ShuttingDown);
        }
        let run_id = retrier.run_id().clone();
        if let Some(active) = self.active.get(&run_id) {
            return active.watch.ask(Request::Reopen(Box::new(retrier)));
        }
        let waiting = self.tickets.get(&run_id).and_then(|ticket| Some((*ticket, self.waiting.get(ticket)?)));
        if let Some((ticket, waiting)) = waiting
            && waiting.at.state != RunState::Held
            && !self.line.is_finding(ticket)
        {
            let state = waiting.at.state;
            return retrier.too_late(state);
        }
        // What waits there may turn out to be over, or held.
        if self.tickets.contains_key(&run_id) || !self.is_settled(&run_id) {
            self.to_retry.push(retrier);
            return;
        }
        self.unsettled.insert(run_id.clone());
        let claim = Claim::new();
        let request = self.links.find_run.send(FindRun::new(run_id, claim.clone()).to_retry());
        let myself = ctx.address().downgrade();
        actix::spawn(async move {
            let found = request.await.unwrap_or(Err(MemoryError::Stopped));
            tell(&myself, Happened::Reopening { retrier: Box::new(retrier), claim, found: Box::new(found) });
        });
    }

    /// Asks again for runs that were neither here nor there.
    pub(crate) fn retry_again(&mut self, ctx: &mut Context<Self>) {
        for retrier in std::mem::take(&mut self.to_retry) {
            self.retry_run(retrier, ctx);
        }
    }

    /// Memory told what it knows of a run that is to be tried again.
    pub(crate) fn reopening(
        &mut self,
        mut retrier: Retrier,
        claim: Claim,
        found: Result<Option<FoundRun>, MemoryError>,
        ctx: &mut Context<Self>,
    ) {
        let run_id = retrier.run_id().clone();
        let told = self.settle_run(&run_id);
        if self.tickets.contains_key(&run_id) {
            // Somebody has sent its plan meanwhile. What becomes of that is to be seen first.
            self.to_retry.push(retrier);
            drop(claim);
            return self.ask_again(ctx);
        }
        let guards = (&self.breakers, &self.limits);
        match retrier.next_generation(claim, found, guards, self.clock.now()) {
            _ if self.closing.is_some() => retrier.refuse(PlanError::ShuttingDown),
            Err(error) => retrier.refuse(error),
            Ok(next) => {
                let (mut waiting, named) = match next {
                    Next::Generation(mut waiting) => {
                        told.into_iter().for_each(|signal| waiting.signals.keep(signal));
                        (waiting, false)
                    }
                    Next::Other(waiting) => (waiting, true),
                };
                retrier.attach_to(&mut waiting);
                self.admit(waiting, named, ctx);
            }
        }
        self.ask_again(ctx);
    }
}

impl Retrier {
    /// The run as it begins its next generation; or the run that takes its place.
    pub(crate) fn next_generation(
        &mut self,
        claim: Claim,
        found: Result<Option<FoundRun>, MemoryError>,
        guards: (&BreakerSet, &LimitSet),
        now: SystemTime,
    ) -> Result<Next, PlanError> {
        let retrier = self;
        let run_id = retrier.run_id().clone();
        let found = found.map_err(|error| PlanError::from_memory(run_id.clone(), error))?;
        let found = found.ok_or_else(|| PlanError::UnknownRun { run_id: run_id.clone() })?;
        if !found.claimed {
            return Err(PlanError::RunElsewhere { run_id });
        }
        let refused = |fault| PlanError::NotRetried { run_id: run_id.clone(), fault };
        let RetryRun { from, set_input, plan, on_mismatch, deadline, .. } = &mut retrier.retry;
        let skips = retrier.skip.is_some();
        let Plans { plan, changed, replaced } = Plans::of(plan.take(), &found, (*on_mismatch, skips))?;
        let plan = Arc::new(plan);
        check_guards(&plan, guards)?;
        if replaced.is_some() && *on_mismatch == OnMismatch::NewRun {
            let other = other_run(&run_id, plan.record())?;
            if let Some(named) = retrier.named.take() {
                let _ = named.send(other.clone());
            }
            return Ok(Next::Other(Waiting::new(other, found.record.project, plan, Claim::new())));
        }
        check_state(&found, replaced.is_some()).map_err(refused)?;
        let from = first_step(from, &found, &plan, replaced).map_err(refused)?;
        let mut reopen = Reopen::new(found.record.generation + 1, from);
        reopen.set_inputs = found.record.set_inputs.clone();
        if changed {
            reopen.plan = Some(plan.record().clone());
        }
        if replaced.is_some() {
            reopen.set_inputs.split_off(&from);
        }
        if let Some(input) = set_input.take() {
            check_input(&input, from, &plan)
                .map_err(|error| error.unwrap_or_else(|| refused(RetryFault::NoInput)))?;
            reopen.set_inputs.insert(from, Arc::new(input));
        }
        if let Some(step_id) = &retrier.skip
            && plan.get(from).is_none_or(|step| *step.id != **step_id)
        {
            return Err(refused(RetryFault::NotAt { step_id: step_id.clone() }));
        }
        let deadline = match deadline.take() {
            Some(Duration::ZERO) => return Err(InvalidPlan::NoTime.into()),
            Some(after) => now.checked_add(after).map(|at| Deadline { at: to_micros(at), after }),
            None => None,
        };
        reopen.deadline = deadline.map(|deadline| deadline.at);
        let begins = (deadline, to_micros(now));
        Ok(Next::Generation(Waiting::reopened(found, plan, claim, (reopen, skips), begins)))
    }
}

/// The plan that a run is tried again with.
struct Plans {
    plan: CheckedPlan,
    /// It is not the one that is stored, if only in its policies: it counts from now on, and is stored.
    changed: bool,
    /// How many steps it has in common with that, if it is another one.
    replaced: Option<usize>,
}

impl Plans {
    fn of(
        brought: Option<Plan>,
        found: &FoundRun,
        (on_mismatch, skips): (OnMismatch, bool),
    ) -> Result<Self, PlanError> {
        let run_id = found.record.run_id.clone();
        let Some(plan) = brought else {
            if let Some(reason) = found.plan.cannot_go_on() {
                let fault = match skips {
                    true => RetryFault::NeedsPlanToSkip { reason },
                    false => RetryFault::NeedsPlan { reason },
                };
                return Err(PlanError::NotRetried { run_id, fault });
            }
            return Ok(Self {
                plan: CheckedPlan::new(found.plan.to_plan())?,
                changed: false,
                replaced: None,
            });
        };
        let plan = with_inputs_of(plan, &found.plan)?;
        let differences = found.plan.differences(plan.record());
        if !differences.is_empty() && on_mismatch == OnMismatch::Refuse {
            return Err(PlanError::PlanMismatch { run_id, differences });
        }
        let changed = *plan.record() != found.plan;
        Ok(Self { plan, changed, replaced: (!differences.is_empty()).then(|| same_steps(&differences)) })
    }
}

/// A plan with the values that the run has for its inputs.
fn with_inputs_of(plan: Plan, recorded: &PlanRecord) -> Result<CheckedPlan, InvalidPlan> {
    let declared = |name: &String| plan.inputs().any(|(own, _)| own == name);
    let kept = recorded.inputs().iter().filter(|(name, _)| declared(name));
    let kept: Map<String, Value> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    CheckedPlan::with_inputs(plan, kept)
}

/// How many steps two plans have in common, from the first.
fn same_steps(differences: &[PlanDifference]) -> usize {
    let place = |difference: &PlanDifference| match difference {
        // Any step may read it.
        PlanDifference::Input { .. } => 0,
        PlanDifference::Step { index, .. } => *index,
    };
    differences.iter().map(place).min().unwrap_or(0)
}

/// The id of the run that takes the place of one with another plan.
fn other_run(run_id: &RunId, plan: &PlanRecord) -> Result<RunId, PlanError> {
    const SHOWN: usize = 10;
    let fingerprint = plan.fingerprint();
    let shown = fingerprint.get(..SHOWN).unwrap_or(&fingerprint);
    Ok(format!("{run_id}~{shown}").parse()?)
}

fn check_state(found: &FoundRun, replaced: bool) -> Result<(), RetryFault> {
    if found.record.undoing.is_some() || found.record.state == RunState::Compensated {
        return Err(RetryFault::Undone);
    }
    match found.record.state {
        RunState::Failed | RunState::Cancelled | RunState::Held | RunState::Interrupted => Ok(()),
        RunState::Completed if replaced => Ok(()),
        state => Err(RetryFault::State(state)),
    }
}

/// The place of the step that it goes on from.
fn first_step(
    from: &RetryFrom,
    found: &FoundRun,
    plan: &CheckedPlan,
    same: Option<usize>,
) -> Result<usize, RetryFault> {
    let cursor = found.record.cursor;
    let last = same.unwrap_or(cursor).min(cursor);
    let RetryFrom::Step(step_id) = from else { return Ok(last) };
    match plan.index_of(step_id) {
        Some(index) if index <= cursor => Ok(index.min(last)),
        Some(_) => Err(RetryFault::NotReached { step_id: step_id.clone(), completed: cursor }),
        None => Err(RetryFault::NoSuchStep { step_id: step_id.clone() }),
    }
}

/// Whether a step can have an input, and this one. `None`: it can have none.
fn check_input(input: &Value, step: usize, plan: &CheckedPlan) -> Result<(), Option<PlanError>> {
    let Some(checked) = plan.get(step).filter(|checked| checked.step.wait().is_none()) else {
        return Err(None);
    };
    if json::is_too_deep(input) {
        return Err(Some(InvalidPlan::TooDeep { id: checked.id.to_string(), index: step }.into()));
    }
    Ok(())
}

impl Waiting {
    /// A run that begins its next generation as soon as it is accepted.
    fn reopened(
        found: FoundRun,
        plan: Arc<CheckedPlan>,
        claim: Claim,
        (reopen, skips): (Reopen, bool),
        (deadline, now): (Option<Deadline>, SystemTime),
    ) -> Self {
        let FoundRun { record, mut outputs, mut skipped, signals, .. } = found;
        outputs.truncate(reopen.from);
        skipped.retain(|step| *step < reopen.from);
        let mut at = Position { cursor: reopen.from, ..Position::QUEUED };
        // Its time begins now, and not when the step before it completed.
        at.step.since = Some(now);
        if skips {
            at.cursor += 1;
            outputs.push(Output::null());
            skipped.push(reopen.from);
        }
        let mut waiting = Self::new(record.run_id, record.project, plan, claim);
        (waiting.generation, waiting.set_inputs) = (reopen.generation, reopen.set_inputs.clone());
        (waiting.durability, waiting.deadline, waiting.skipped) = (record.durability, deadline, skipped);
        waiting.signals = signals.into_iter().collect();
        (waiting.at, waiting.outputs, waiting.reopen) = (at, outputs, Some(Box::new(reopen)));
        waiting
    }
}

impl Handler<RetryRun> for ExecutionOrchestrator {
    type Result = ResponseFuture<Result<RunHandle, PlanError>>;

    fn handle(&mut self, retry: RetryRun, ctx: &mut Self::Context) -> Self::Result {
        // Plans that came before may be those of the run.
        self.catch_up(ctx);
        let run_id = retry.run_id.clone();
        let (accepted, accepted_reply) = oneshot::channel();
        let (outcome, outcome_reply) = oneshot::channel();
        let (named, mut name) = oneshot::channel();
        let (skip, outcomes) = (None, vec![outcome]);
        self.retry_run(
            Retrier { retry, skip, named: Some(named), accepted, outcomes, withdrawn: false },
            ctx,
        );
        Box::pin(async move {
            accepted_reply.await.unwrap_or(Err(PlanError::Stopped))?;
            Ok(RunHandle::new(name.try_recv().unwrap_or(run_id), outcome_reply))
        })
    }
}

impl ExecutionOrchestrator {
    /// Goes on without the step at which a run that is not here has failed.
    pub(crate) fn skip_failed(
        &mut self,
        run_id: RunId,
        step_id: String,
        reply: Reply<ResolveOutcome>,
        ctx: &mut Context<Self>,
    ) {
        let (accepted, answer) = oneshot::channel();
        let retry = RetryRun::new(run_id.clone());
        let (skip, outcomes) = (Some(step_id), Vec::new());
        self.retry_run(Retrier { retry, skip, named: None, accepted, outcomes, withdrawn: false }, ctx);
        actix::spawn(async move {
            let _ = reply.send(match answer.await.unwrap_or(Err(PlanError::Stopped)) {
                Ok(()) => Ok(ResolveOutcome::Resolved),
                Err(PlanError::UnknownRun { run_id }) => Err(ControlError::UnknownRun { run_id }),
                Err(PlanError::NotRetried { fault: RetryFault::State(state), .. }) => {
                    Ok(ResolveOutcome::NotHeld(state))
                }
                Err(error) => Err(ControlError::NotRetried { run_id, source: Box::new(error) }),
            });
        });
    }
}
