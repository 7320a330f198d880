//! Takes plans in as they come, but not so many at a time that nothing else gets its turn: actix hands an actor all that is in
//! its mailbox before any other task of its thread runs. While the first of a thousand plans are being stored, the others
//! are admitted.

use std::collections::VecDeque;

use actix::{AsyncContext, Context};
use tokio::sync::oneshot;

use super::actor::ExecutionOrchestrator;
use super::admission::Submitted;
use super::error::PlanError;
use super::internal::{Happened, tell};
use super::messages::ExecutePlan;
use crate::limits::ADMISSION_BURST;

type Answer = Result<Submitted, PlanError>;

/// Plans that have come, and have still to be admitted.
#[derive(Default)]
pub(crate) struct Burst {
    /// Those that were admitted since anything else happened.
    admitted: usize,
    waiting: VecDeque<(ExecutePlan, oneshot::Sender<Answer>)>,
}

impl Burst {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// The answer to a submission, or a promise of it.
pub(crate) enum Received {
    Now(Answer),
    Later(oneshot::Receiver<Answer>),
}

impl Received {
    pub(crate) async fn submitted(self) -> Answer {
        match self {
            Self::Now(answer) => answer,
            Self::Later(answer) => answer.await.unwrap_or(Err(PlanError::Stopped)),
        }
    }
}

impl ExecutionOrchestrator {
    pub(crate) fn receive(&mut self, message: ExecutePlan, ctx: &mut Context<Self>) -> Received {
        if self.burst.admitted < ADMISSION_BURST && self.burst.waiting.is_empty() {
            self.burst.admitted += 1;
            return Received::Now(self.submit(message, ctx));
        }
        let (tell_answer, answer) = oneshot::channel();
        self.burst.waiting.push_back((message, tell_answer));
        if self.burst.waiting.len() == 1 {
            Self::go_on_later(ctx);
        }
        Received::Later(answer)
    }

    fn go_on_later(ctx: &Context<Self>) {
        let myself = ctx.address().downgrade();
        actix::spawn(async move {
            tokio::task::yield_now().await;
            tell(&myself, Happened::Breath);
        });
    }

    /// Everything else has had its turn.
    pub(crate) fn breath(&mut self, ctx: &mut Context<Self>) {
        self.admit_waiting(ADMISSION_BURST, ctx);
        if !self.burst.waiting.is_empty() {
            Self::go_on_later(ctx);
        }
    }

    /// Admits all plans that have come: for whoever asks about one of them, or sends the last.
    pub(crate) fn catch_up(&mut self, ctx: &mut Context<Self>) {
        self.admit_waiting(usize::MAX, ctx);
    }

    fn admit_waiting(&mut self, most: usize, ctx: &mut Context<Self>) {
        for _ in 0..most {
            let Some((message, tell_answer)) = self.burst.waiting.pop_front() else { return };
            let _ = tell_answer.send(self.submit(message, ctx));
        }
    }

    /// Something other than a plan has come.
    pub(crate) fn end_burst(&mut self) {
        self.burst.admitted = 0;
    }
}
