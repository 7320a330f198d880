//! When a failed step is tried again, when a service that fails is left alone for a while, and how much is asked of one at
//! a time: as machines that are told the time and the random numbers, and that start nothing themselves.
//!
//! Ours rather than a library's. What an orchestrator decides here it commits together with the step's result and takes
//! up again after a crash, so a decision has to be a value, and a state has to be a record that is stored and restored.
//! The libraries for retries and breakers that were looked at have no form in which their state is stored and restored,
//! and nearly all of them read the clock, or draw the random numbers, themselves.

mod breaker;
mod circuit;
mod gcra;
mod limit;
mod meter;
mod record;
mod retry;
mod window;

pub use breaker::{Breaker, InvalidBreaker};
pub(crate) use circuit::{Circuit, Permit, Ticket, Transition};
pub use limit::{InvalidLimit, Limit};
pub(crate) use meter::{Admission, Meter};
pub use record::{BreakerRecord, CircuitState};
pub(crate) use retry::{Failed, Verdict};
pub use retry::{InvalidRetry, Jitter, Retry};
