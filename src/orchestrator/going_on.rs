//! Going on with a run by its id alone; and which runs go on by themselves.

use std::sync::Arc;

use actix::{AsyncContext, Context, Handler, Message, ResponseFuture};
use tokio::sync::oneshot;

use super::actor::ExecutionOrchestrator;
use super::error::PlanError;
use super::internal::{Happened, Unfinished, tell};
use super::links::Links;
use super::messages::RunHandle;
use super::runner::Outcome;
use super::waiting::Waiting;
use crate::causes::with_causes;
use crate::memory::{Claim, FindRun, FoundRun, ListBreakers, ListUnfinished, MemoryError};
use crate::plan::CheckedPlan;
use crate::run::RunId;

/// Which unfinished runs an orchestrator goes on with by itself when it starts.
///
/// ```no_run
/// use lunacore::{Engine, ProjectMemory, Recover, RunId};
///
/// # #[actix::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = ProjectMemory::open("runs.db")?;
/// let engine = Engine::builder().memory(memory).recover(Recover::None).start()?;
/// let nightly: RunId = "nightly".parse()?;
/// let results = engine.continue_run(&nightly).await?.await?; // this one, and no other
/// # drop(results);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Recover {
    /// All whose plans name their callables, in the order of their acceptance, before any other plan. The default.
    #[default]
    All,
    /// None: they stay as they are stored until somebody asks for them, with [`ContinueRun`], or by sending a plan with their
    /// [run id](crate::ExecutePlan::run_id). They can be cancelled.
    None,
}

/// Goes on with a run that was cut off, from the plan that is stored with it, and answers with a handle to it as soon as it
/// has its place in the queue. Steps that completed are not called again.
///
/// The caller is attached to the run just as if he had sent its plan with its
/// [run id](crate::ExecutePlan::run_id): to one that waits or runs here already, he listens; of one that is over he
/// gets the results, or why it has none; one that is paused stays so until [`ResumePlan`](crate::ResumePlan).
///
/// | the run | is answered with |
/// |---|---|
/// | is not known | [`PlanError::UnknownRun`] |
/// | has steps that were closures, which cannot be stored | [`PlanError::Interrupted`]; send its plan again |
/// | uses a callable that the allocator does not know | the handle's outcome is [`PlanError::Unresolved`] |
/// | is run by another orchestrator over the same memory | [`PlanError::RunElsewhere`] |
/// | has no place in the queue | [`PlanError::QueueFull`] |
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<RunHandle, PlanError>")]
pub struct ContinueRun(pub RunId);

/// Who wants a run to go on, and has not its plan.
pub(crate) struct Asker {
    pub(crate) run_id: RunId,
    accepted: oneshot::Sender<Result<(), PlanError>>,
    outcomes: Vec<oneshot::Sender<Outcome>>,
}

impl Asker {
    /// Nobody asks: the run goes on for those who wait for it anyway.
    pub(crate) fn nobody(run_id: RunId, outcomes: Vec<oneshot::Sender<Outcome>>) -> Self {
        Self { run_id, accepted: oneshot::channel().0, outcomes }
    }

    fn refuse(self, error: PlanError) {
        let _ = self.accepted.send(Err(error));
    }
}

impl ExecutionOrchestrator {
    /// Which unfinished runs go on by themselves when it starts: [`Recover::All`] by default.
    #[must_use]
    pub fn recover(mut self, recover: Recover) -> Self {
        self.recover = recover;
        self
    }

    /// Lets somebody wait for a run that is here, or finds its plan in memory first.
    pub(crate) fn continue_run(&mut self, mut asker: Asker, ctx: &mut Context<Self>) {
        if self.closing.is_some() {
            return asker.refuse(PlanError::ShuttingDown);
        }
        if let Some(active) = self.active.get_mut(&asker.run_id) {
            active.outcomes.append(&mut asker.outcomes);
            active.watch.accepted_by(asker.accepted);
            return;
        }
        // Whose plan waits there is not known while memory is being asked, or the run has still to be looked at.
        if !self.is_settled(&asker.run_id) {
            self.to_continue.push(asker);
            return;
        }
        let (run_id, claim) = (asker.run_id.clone(), Claim::new());
        self.unsettled.insert(run_id.clone());
        let request = self.links.find_run.send(FindRun::new(run_id, claim.clone()));
        let myself = ctx.address().downgrade();
        actix::spawn(async move {
            let found = request.await.unwrap_or(Err(MemoryError::Stopped));
            // It is claimed when its place in the line is.
            drop(claim);
            tell(&myself, Happened::Known { asker: Box::new(asker), found: Box::new(found) });
        });
    }

    /// Memory told what it knows of a run that is to go on.
    pub(crate) fn known(
        &mut self,
        mut asker: Asker,
        found: Result<Option<FoundRun>, MemoryError>,
        ctx: &mut Context<Self>,
    ) {
        self.settle_run(&asker.run_id);
        let found = found.map_err(|error| PlanError::from_memory(asker.run_id.clone(), error));
        let unknown = || PlanError::UnknownRun { run_id: asker.run_id.clone() };
        match found.and_then(|found| found.ok_or_else(unknown)).and_then(|found| self.stand_in(found)) {
            Ok(mut waiting) => {
                waiting.accepted.push(asker.accepted);
                waiting.outcomes.append(&mut asker.outcomes);
                self.admit(waiting, true, ctx);
            }
            Err(error) => asker.refuse(error),
        }
        self.ask_again(ctx);
    }

    /// The plan of a run, as whoever had it accepted would send it again.
    fn stand_in(&self, found: FoundRun) -> Result<Waiting, PlanError> {
        if self.closing.is_some() {
            return Err(PlanError::ShuttingDown);
        }
        let FoundRun { record, plan, .. } = found;
        // One that is here has its closures.
        let elsewhere = !record.state.is_final() && !self.is_here(&record.run_id);
        if let Some(reason) = elsewhere.then(|| plan.cannot_go_on()).flatten() {
            return Err(PlanError::Interrupted { run_id: record.run_id, reason });
        }
        let plan = Arc::new(CheckedPlan::new(plan.to_plan())?);
        if !record.state.is_final() {
            self.check_guards(&plan)?;
        }
        Ok(Waiting::new(record.run_id, record.project, plan, Claim::new()))
    }
}

/// The unfinished runs that nobody else runs, in the order of their acceptance, each with our claim on it.
pub(crate) async fn unfinished(links: &Links, recover: Recover) -> Result<Unfinished, MemoryError> {
    let breakers = links.list_breakers.send(ListBreakers).await.unwrap_or(Err(MemoryError::Stopped))?;
    let mut found = Unfinished { breakers, ..Unfinished::default() };
    if recover == Recover::None {
        return Ok(found);
    }
    let mut after = None;
    loop {
        let request = links.list_unfinished.send(ListUnfinished::new(after));
        let page = request.await.unwrap_or(Err(MemoryError::Stopped))?;
        let Some(last) = page.last() else { return Ok(found) };
        after = Some(last.run_id.clone());
        for record in page {
            let claim = Claim::new();
            let request = links.find_run.send(FindRun::new(record.run_id.clone(), claim.clone()));
            match request.await.unwrap_or(Err(MemoryError::Stopped)) {
                Ok(Some(run)) if run.claimed => found.runs.push((claim, run)),
                Ok(_) => {}
                // What is wrong with one run keeps no other from going on.
                Err(error) => {
                    let run_id = record.run_id.as_str();
                    log::error!(
                        target: "lunacore::orchestrator", run_id;
                        "run {run_id} cannot be read, and does not go on: {}", with_causes(&error)
                    );
                }
            }
        }
    }
}

impl Handler<ContinueRun> for ExecutionOrchestrator {
    type Result = ResponseFuture<Result<RunHandle, PlanError>>;

    fn handle(&mut self, ContinueRun(run_id): ContinueRun, ctx: &mut Self::Context) -> Self::Result {
        // Plans that came before may be those of the run.
        self.catch_up(ctx);
        let (accepted, accepted_reply) = oneshot::channel();
        let (outcome, outcome_reply) = oneshot::channel();
        self.continue_run(Asker { run_id: run_id.clone(), accepted, outcomes: vec![outcome] }, ctx);
        Box::pin(async move {
            accepted_reply.await.unwrap_or(Err(PlanError::Stopped))?;
            Ok(RunHandle::new(run_id, outcome_reply))
        })
    }
}
