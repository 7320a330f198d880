//! The crate as its users see it: one module an area, small helpers in `support`.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a failed expectation is a failed test, and its modules export to each other only"
)]

mod allocator;
mod breakers;
mod bus;
mod compensation;
#[cfg(feature = "expressions")]
mod conditions;
mod conformance;
mod control;
#[cfg(feature = "sqlite")]
mod crash;
#[cfg(all(feature = "sqlite", target_os = "linux"))]
mod disk;
#[cfg(all(feature = "sqlite", target_os = "linux"))]
mod disk_model;
mod engine;
mod events;
#[cfg(feature = "expressions")]
mod expressions;
mod failing;
mod faults;
#[cfg(feature = "sqlite")]
mod fixture;
#[cfg(feature = "sqlite")]
mod fixture_v3;
mod history;
#[cfg(feature = "expressions")]
mod inputs;
mod limits;
mod logging;
mod matrix;
mod memory;
mod named_limits;
mod ordering;
mod outputs;
mod panics;
#[cfg(feature = "plan-files")]
mod plan_files;
mod plans;
mod recovery;
mod repair;
mod repair_held;
mod retention;
#[cfg(feature = "sqlite")]
mod retention_sqlite;
mod retry;
#[cfg(feature = "plan-files")]
mod schemas;
#[cfg(feature = "expressions")]
mod secrets;
mod shutdown;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(feature = "sqlite")]
mod sqlite_model;
mod staged;
mod steering;
mod support;
mod timed;
mod typed;
mod undoing;
#[cfg(not(feature = "expressions"))]
mod unevaluated;
mod waits;
mod waits_cut_off;
