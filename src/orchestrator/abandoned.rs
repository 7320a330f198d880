//! Account of blocking code that was given up, and of the threads that it still holds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use super::invoke::Call;
use super::permits::LimitPermit;
use crate::plan::RunScope;
use crate::run::RunId;

/// A call of blocking code that came to a limit, did not end within its [grace](crate::Step::grace), and still runs. It holds a
/// thread of the blocking pool, of which there are 512 by default, until it ends; what it returns does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AbandonedCall {
    /// The run, which has failed meanwhile.
    pub run_id: RunId,
    /// The step, which it did or undid.
    pub step_id: Arc<str>,
    /// Its place in the plan, from 0.
    pub index: usize,
    /// Which attempt of that, from 1.
    pub attempt: u32,
    /// When it was given up.
    pub since: SystemTime,
}

/// Those of one orchestrator, in the order in which they were given up.
#[derive(Default)]
pub(crate) struct AbandonedCalls(Rc<RefCell<Account>>);

#[derive(Default)]
struct Account {
    next: u64,
    calls: BTreeMap<u64, AbandonedCall>,
}

impl AbandonedCalls {
    /// Keeps account of a call until it ends, and holds its permit as long.
    pub(crate) fn watch(
        &self,
        scope: &RunScope,
        (index, attempt): (usize, u32),
        (mut call, permit): (Call, Option<LimitPermit>),
        since: SystemTime,
    ) {
        let Some(step) = scope.plan.get(index) else { return };
        let abandoned = AbandonedCall {
            run_id: scope.run_id.clone(),
            step_id: Arc::clone(&step.id),
            index,
            attempt,
            since,
        };
        let (run_id, step_id) = (abandoned.run_id.clone(), Arc::clone(&step.id));
        log::warn!(
            target: "lunacore::run", run_id = run_id.as_str(), step_id = &*step_id, attempt;
            "step {step_id} of run {run_id} does not stop; its blocking code is abandoned, and holds a thread"
        );
        let mut account = self.0.borrow_mut();
        let number = account.next;
        account.next += 1;
        account.calls.insert(number, abandoned);
        drop(account);
        let account = Rc::clone(&self.0);
        actix::spawn(async move {
            drop(call.end().await);
            drop(permit);
            account.borrow_mut().calls.remove(&number);
            log::info!(
                target: "lunacore::run", run_id = run_id.as_str(), step_id = &*step_id, attempt;
                "the abandoned code of step {step_id} of run {run_id} has ended"
            );
        });
    }

    pub(crate) fn list(&self) -> Vec<AbandonedCall> {
        self.0.borrow().calls.values().cloned().collect()
    }
}
