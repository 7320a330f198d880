//! Small helpers that every area uses.

use std::sync::{Arc, Mutex};

use actix::prelude::*;
use lunacore::{
    Engine, Event, EventBus, EventStream, ExecutionOrchestrator, ProjectMemory, RunId, SimpleAllocator,
    SubscribeStream,
};

/// The four actors, started by hand on the current arbiter.
pub struct Actors {
    pub orchestrator: Addr<ExecutionOrchestrator>,
    pub bus: Addr<EventBus>,
    pub memory: Addr<ProjectMemory>,
}

/// Starts the actors, the orchestrator as `configure` leaves it.
pub fn start_with(configure: impl FnOnce(ExecutionOrchestrator) -> ExecutionOrchestrator) -> Actors {
    let (bus, memory) = (EventBus::new().start(), ProjectMemory::in_memory().start());
    let allocator = SimpleAllocator.start();
    let orchestrator = configure(ExecutionOrchestrator::new(bus.clone(), memory.clone(), allocator)).start();
    Actors { orchestrator, bus, memory }
}

pub fn start() -> Actors {
    start_with(|orchestrator| orchestrator)
}

pub fn engine() -> Engine {
    Engine::builder().start().unwrap()
}

pub fn run_id(text: &str) -> RunId {
    text.parse().unwrap()
}

/// A stream of everything on the bus, with room for all of it.
pub async fn watch(bus: &Addr<EventBus>) -> EventStream {
    bus.send(SubscribeStream::new("*").capacity(1_000_000)).await.unwrap().unwrap()
}

/// The next `count` events, as `type step`.
pub async fn next(events: &mut EventStream, count: usize) -> Vec<String> {
    let mut seen = Vec::with_capacity(count);
    for _ in 0..count {
        seen.push(events.next().await.expect("the bus is alive").to_string());
    }
    seen
}

/// All events up to the first of this type, including it.
pub async fn until(events: &mut EventStream, last: &str) -> Vec<Event> {
    let mut seen = Vec::new();
    loop {
        let event = events.next().await.expect("the bus is alive");
        let done = event.event_type() == last;
        seen.push(event);
        if done {
            return seen;
        }
    }
}

/// A list that steps write to, to show what was called and in which order.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    pub fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// The messages of an error and of the causes behind it, outermost first.
pub fn chain(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect()
}

/// Checks that a refused plan left no trace: no event since `events` was opened, no run, no artifact.
pub async fn assert_untouched(actors: &Actors, events: &mut EventStream) {
    let marker = Event::custom("marker", serde_json::Value::Null);
    actors.bus.send(lunacore::Emit(marker)).await.unwrap().unwrap();
    assert_eq!(next(events, 1).await, ["marker"], "nothing may have been sent before");
    assert_eq!(actors.memory.send(lunacore::ListRuns::default()).await.unwrap().unwrap(), []);
    assert_eq!(actors.memory.send(lunacore::ListKeys::new()).await.unwrap().unwrap(), [""; 0]);
}

/// A long name as errors quote it.
pub fn cut(name: &str) -> String {
    format!("{}…", &name[..64])
}

/// The four actors, with this memory.
pub fn start_over(memory: ProjectMemory) -> Actors {
    let (bus, memory) = (EventBus::new().start(), memory.start());
    let allocator = SimpleAllocator.start();
    let orchestrator = ExecutionOrchestrator::new(bus.clone(), memory.clone(), allocator).start();
    Actors { orchestrator, bus, memory }
}
