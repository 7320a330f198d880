//! Every store keeps what the trait promises.

use lunacore::testing::{Fault, FaultyStore, SharedStore};
use lunacore::{VolatileStore, store_conformance};

store_conformance!(volatile, || {
    let store = SharedStore::new(VolatileStore::default());
    move || store.clone()
});

// A wrapper that never fails must not be told from what it wraps.
store_conformance!(faulty, || {
    let store = SharedStore::new(VolatileStore::default());
    move || FaultyStore::new(store.clone(), Fault::Fail, 0)
});

#[cfg(feature = "sqlite")]
store_conformance!(sqlite, || {
    let dir = tempfile::tempdir().unwrap();
    move || lunacore::SqliteStore::open(dir.path().join("runs.db")).unwrap()
});
