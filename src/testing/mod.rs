//! For tests of plans, and of stores (feature `testing`).
//!
//! - [`FaultyStore`] fails or dies at a commit of your choice, so that a test can sweep over all commits of a plan and
//!   look at what its steps did to the world.
//! - [`SharedStore`] outlives the memory that it was given to: whoever gets it next is the process after the crash.
//! - [`virtual_clock`] makes time go as fast as a test likes.
//! - [`store_conformance!`](crate::store_conformance) checks a store of your own against everything that every
//!   [`Store`](crate::Store) promises, and [`retention_conformance!`](crate::retention_conformance) what it removes, if it does.
//!
//! ```
//! use lunacore::testing::{Fault, FaultyStore, SharedStore};
//! use lunacore::{Engine, ExecutePlan, ProjectMemory, Step, VolatileStore};
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicUsize, Ordering};
//!
//! # actix::System::new().block_on(async {
//! let calls = Arc::new(AtomicUsize::new(0));
//! let plan = || {
//!     let calls = Arc::clone(&calls);
//!     let pay = Step::new("pay", move || calls.fetch_add(1, Ordering::SeqCst));
//!     ExecutePlan::new([pay, Step::new("thank", || "thanks")]).run_id("order-17")
//! };
//! let store = SharedStore::new(VolatileStore::default());
//!
//! // The process dies when it has stored the first result, and before it hears so.
//! let dying = FaultyStore::new(store.clone(), Fault::DieAfter, 2);
//! let engine = Engine::builder().memory(ProjectMemory::with_store(dying)).start()?;
//! assert!(engine.execute(plan()).await.is_err());
//!
//! let engine = Engine::builder().memory(ProjectMemory::with_store(store)).start()?;
//! assert_eq!(engine.execute(plan()).await?[1], "thanks");
//! assert_eq!(calls.load(Ordering::SeqCst), 1, "the first result counts");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

mod clock;
#[doc(hidden)]
pub mod conformance;
mod faulty;
mod shared;
mod suite;

pub use clock::virtual_clock;
pub use faulty::{Fault, FaultyStore};
pub use shared::SharedStore;
