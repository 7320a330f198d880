//! Allocators: actors that turn steps into callables.
//!
//! Any actor that handles [`Resolve`] is one; the orchestrator knows it as a `Recipient<Resolve>`. It is asked once per
//! plan, before anything of the plan runs.

mod error;
#[cfg(feature = "plan-files")]
mod input;
mod registry;
mod resolve;
mod simple;

pub use error::{AllocatorError, InputFault, ResolveError};
pub use registry::RegistryAllocator;
pub use resolve::Resolve;
pub use simple::SimpleAllocator;
