//! The command as its users see it: every test starts the real binary.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a failed expectation is a failed test, and its modules export to each other only"
)]

mod check;
mod gc;
mod guards;
mod inspect;
mod repair;
mod run;
mod secrets;
mod support;
mod terminal;
mod undo;
mod waits;
