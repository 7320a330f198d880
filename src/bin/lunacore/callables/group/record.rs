//! What is known of a group.

use lunacore::{RunId, StepContext};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::identity::{identity, is_alive, is_marked};

/// The entry in the environment of a group's processes that no other group's have.
const MARK: &str = "LUNACORE_GROUP";

/// A group as it is put on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its number, which is that of its first process.
    pub(super) pgid: i32,
    /// When that was started.
    pub(super) started: String,
    /// The value of its mark.
    pub(super) mark: String,
    /// Whose it is: a step of a run, by its idempotency key.
    pub(super) step: String,
    /// The run alone.
    pub(super) run_id: RunId,
}

impl Record {
    /// Of a group that is about to be started. It has no number yet.
    pub(crate) fn of(ctx: &StepContext) -> Self {
        let mark = Uuid::now_v7().to_string();
        let (step, run_id) = (ctx.idempotency_key(), ctx.run_id().clone());
        Self { pgid: 0, started: String::new(), mark, step, run_id }
    }

    /// What the group's processes are told by their environment.
    pub(crate) fn mark(&self) -> (&'static str, &str) {
        (MARK, &self.mark)
    }

    /// Whether something of the group lives, as far as can be seen. `watched`: we have seen it live until just now, so what has its
    /// number and no first process is it, marked or not.
    pub(super) fn lives(&self, watched: bool) -> bool {
        let is_ours = || match identity(self.pgid) {
            Some(first) => first == self.started,
            None => watched || is_marked(self.pgid, MARK, &self.mark),
        };
        is_alive(self.pgid) && is_ours()
    }
}
