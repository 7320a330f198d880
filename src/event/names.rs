//! What an event is called, and which step it is about.

use super::kind::EventKind;

impl EventKind {
    /// The type as text, for example `"task.started"`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        match self {
            Self::PlanAccepted { .. } => "plan.accepted",
            Self::PlanStarted {} => "plan.started",
            Self::PlanPausing {} => "plan.pausing",
            Self::PlanPaused {} => "plan.paused",
            Self::PlanParked { .. } => "plan.parked",
            Self::SignalReceived { .. } => "signal.received",
            Self::PlanRetried { .. } => "plan.retried",
            Self::PlanCompensating { .. } => "plan.compensating",
            Self::PlanCompensated {} => "plan.compensated",
            Self::PlanStopping {} => "plan.stopping",
            Self::PlanResumed { .. } => "plan.resumed",
            Self::PlanInterrupted { .. } => "plan.interrupted",
            Self::PlanCompleted {} => "plan.completed",
            Self::PlanFailed { .. } => "plan.failed",
            Self::PlanCancelled {} => "plan.cancelled",
            Self::TaskStarted { .. } => "task.started",
            Self::TaskCompleted { .. } => "task.completed",
            Self::TaskRecovered { .. } => "task.recovered",
            Self::TaskFailed { .. } => "task.failed",
            Self::TaskWaiting { .. } => "task.waiting",
            Self::TaskSleeping { .. } => "task.sleeping",
            Self::TaskAwaitingSignal { .. } => "task.awaiting_signal",
            Self::TaskVerifying { .. } => "task.verifying",
            Self::TaskHeld { .. } => "task.held",
            Self::TaskResolved { .. } => "task.resolved",
            Self::TaskCompensating { .. } => "task.compensating",
            Self::TaskCompensated { .. } => "task.compensated",
            Self::TaskCompensationFailed { .. } => "task.compensation_failed",
            Self::TaskSkipped { .. } => "task.skipped",
            Self::EscalationNeeded { .. } => "escalation.needed",
            Self::BreakerOpened { .. } => "breaker.opened",
            Self::BreakerHalfOpened { .. } => "breaker.half_opened",
            Self::BreakerClosed { .. } => "breaker.closed",
            Self::TaskCancelled { .. } => "task.cancelled",
            Self::TaskProgress { .. } => "task.progress",
            Self::SubscriptionLagged { .. } => "subscription.lagged",
            Self::Custom { event_type, .. } => event_type,
        }
    }

    /// The step the event is about, for `task.*` events, `plan.failed`, `plan.parked`, `plan.retried` and `escalation.needed`.
    #[must_use]
    pub fn task_id(&self) -> Option<&str> {
        match self {
            Self::PlanFailed { task_id, .. }
            | Self::PlanParked { task_id, .. }
            | Self::TaskWaiting { task_id, .. }
            | Self::TaskSleeping { task_id, .. }
            | Self::TaskAwaitingSignal { task_id, .. }
            | Self::TaskVerifying { task_id, .. }
            | Self::TaskHeld { task_id, .. }
            | Self::TaskResolved { task_id, .. }
            | Self::TaskCompensating { task_id, .. }
            | Self::TaskCompensated { task_id }
            | Self::TaskCompensationFailed { task_id, .. }
            | Self::TaskSkipped { task_id, .. }
            | Self::EscalationNeeded { task_id, .. }
            | Self::TaskStarted { task_id, .. }
            | Self::TaskCompleted { task_id, .. }
            | Self::TaskRecovered { task_id }
            | Self::TaskFailed { task_id, .. }
            | Self::TaskCancelled { task_id, .. }
            | Self::TaskProgress { task_id, .. } => Some(task_id),
            Self::PlanRetried { task_id, .. } => task_id.as_deref(),
            _ => None,
        }
    }
}
