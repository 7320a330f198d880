//! The crate as its users see it: one module an area, small helpers in `support`.

mod allocator;
mod bus;
mod control;
mod engine;
mod events;
mod logging;
mod memory;
mod ordering;
mod outputs;
mod panics;
mod plans;
mod shutdown;
mod support;
