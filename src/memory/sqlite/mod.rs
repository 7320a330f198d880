//! Memory in a SQLite file: one connection that writes, others that read meanwhile, and a lock beside the file.
//!
//! `open` finds and identifies the file, `schema` makes its tables, `write`, `single`, `pending`, `runs` and `keys` write, `view` and `read` read,
//! `rows` and `events` turn cells into types and back, `generations` keeps what a retry withdraws, `sweep` removes what is not kept. What it does not do: it undoes nothing by
//! hand, for after any failure the connection is dropped and the file tells what is true.
#![doc = include_str!("tables.md")]

mod error;
mod events;
mod generations;
mod keys;
mod lock;
mod memory;
mod open;
mod pending;
mod read;
mod rows;
mod runs;
mod schema;
mod signals;
mod single;
mod store;
mod sweep;
mod view;
mod write;

pub use error::{LockHolder, OpenError};
pub use store::SqliteStore;
