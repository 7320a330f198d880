#[cfg(feature = "expressions")]
use std::sync::Arc;

use actix::{Actor, Addr, Arbiter, Context, Handler, Recipient, System};
use tokio::sync::oneshot;

use super::handle::Engine;
use crate::allocator::{Resolve, SimpleAllocator};
use crate::bus::{EventBus, Flush};
use crate::clock::Clock;
use crate::isolate::catch;
use crate::limits::{MAILBOX, MAX_CONCURRENT_PLANS, QUEUE_CAPACITY};
use crate::memory::ProjectMemory;
use crate::orchestrator::{ExecutionOrchestrator, Recover};
#[cfg(feature = "expressions")]
use crate::plan::Surroundings;
use crate::resilience::{Breaker, InvalidBreaker, InvalidLimit, Limit};
#[cfg(feature = "expressions")]
use crate::secrets::Secrets;

/// Chooses the parts of an [`Engine`] and starts them.
///
/// ```
/// use lunacore::{Engine, ProjectMemory, RegistryAllocator};
///
/// let builder = Engine::builder()
///     .memory(ProjectMemory::in_memory())
///     .allocator(RegistryAllocator::new().register("greet", || "hello"))
///     .max_concurrent_plans(4)
///     .queue_capacity(100);
/// # drop(builder);
/// ```
pub struct EngineBuilder {
    memory: ProjectMemory,
    start_allocator: Box<dyn FnOnce() -> Recipient<Resolve> + Send>,
    max_concurrent_plans: usize,
    queue_capacity: usize,
    recover: Recover,
    breakers: Vec<Breaker>,
    limits: Vec<Limit>,
    clock: Clock,
    #[cfg(feature = "expressions")]
    surroundings: Surroundings,
}

impl Default for EngineBuilder {
    fn default() -> Self {
        Self {
            memory: ProjectMemory::in_memory(),
            start_allocator: Box::new(|| SimpleAllocator.start().recipient()),
            max_concurrent_plans: 1,
            queue_capacity: QUEUE_CAPACITY,
            recover: Recover::default(),
            breakers: Vec::new(),
            limits: Vec::new(),
            clock: Clock::default(),
            #[cfg(feature = "expressions")]
            surroundings: Surroundings::default(),
        }
    }
}

impl EngineBuilder {
    /// The memory; volatile by default.
    #[must_use]
    pub fn memory(mut self, memory: ProjectMemory) -> Self {
        self.memory = memory;
        self
    }

    /// An actor of yours as the allocator, to be started with the engine; [`SimpleAllocator`] by default.
    #[must_use]
    pub fn allocator<A>(mut self, allocator: A) -> Self
    where
        A: Actor<Context = Context<A>> + Handler<Resolve> + Send,
    {
        self.start_allocator = Box::new(|| allocator.start().recipient());
        self
    }

    /// An allocator that runs already.
    #[must_use]
    pub fn running_allocator(mut self, allocator: impl Into<Recipient<Resolve>>) -> Self {
        let allocator = allocator.into();
        self.start_allocator = Box::new(|| allocator);
        self
    }

    /// How many plans run at a time, from 1 (the default) to [`MAX_CONCURRENT_PLANS`]; values outside are taken as the
    /// nearest bound.
    #[must_use]
    pub fn max_concurrent_plans(mut self, plans: usize) -> Self {
        self.max_concurrent_plans = plans.clamp(1, MAX_CONCURRENT_PLANS);
        self
    }

    /// How many plans may wait; [`QUEUE_CAPACITY`] by default.
    #[must_use]
    pub fn queue_capacity(mut self, plans: usize) -> Self {
        self.queue_capacity = plans;
        self
    }

    /// Which unfinished runs of the memory go on by themselves; [`Recover::All`] by default.
    #[must_use]
    pub fn recover(mut self, recover: Recover) -> Self {
        self.recover = recover;
        self
    }

    /// A circuit breaker for the steps that [name it](crate::Step::breaker).
    ///
    /// ```
    /// use lunacore::{Breaker, Engine, Step};
    /// use std::time::Duration;
    ///
    /// # actix::System::new().block_on(async {
    /// let engine = Engine::builder()
    ///     .breaker(Breaker::new("payments").failures(3).open_for(Duration::from_secs(10)))
    ///     .start()?;
    /// let charge = Step::new("charge", || async { "paid" }).breaker("payments");
    /// assert_eq!(engine.execute([charge]).await?, ["paid"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.breakers.push(breaker);
        self
    }

    /// A limit for the steps that [name it](crate::Step::limit); see
    /// [`ExecutionOrchestrator::limit`](crate::ExecutionOrchestrator::limit).
    ///
    /// ```
    /// use lunacore::{Engine, Limit, Step};
    ///
    /// # actix::System::new().block_on(async {
    /// let engine = Engine::builder().limit(Limit::new("openai").concurrency(4)).max_concurrent_plans(100).start()?;
    /// let ask = Step::new("ask", || async { "42" }).limit("openai");
    /// assert_eq!(engine.execute([ask]).await?, ["42"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limits.push(limit);
        self
    }

    /// Where orchestrator and memory take the time from; from the system by default.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Where expressions take `env.NAME` from; see
    /// [`ExecutionOrchestrator::environment`](crate::ExecutionOrchestrator::environment).
    #[cfg(feature = "expressions")]
    #[must_use]
    pub fn environment(mut self, read: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        self.surroundings.env = Arc::new(read);
        self
    }

    /// Where expressions find `secrets.NAME`: in the environment of the process by default.
    #[cfg(feature = "expressions")]
    #[must_use]
    pub fn secrets(mut self, secrets: Secrets) -> Self {
        self.surroundings.secrets = secrets;
        self
    }

    /// Starts the four actors on the current arbiter, inside `#[actix::main]` for example.
    ///
    /// # Errors
    /// [`EngineError::NoSystem`] where there is no actix system, such as under `#[tokio::main]`: call
    /// [`spawn`](Self::spawn) there. [`EngineError::Breaker`] for a breaker that cannot be one, and [`EngineError::Limit`] for
    /// such a limit.
    pub fn start(self) -> Result<Engine, EngineError> {
        self.start_here().map(|(engine, _)| engine)
    }

    /// Starts the four actors on a thread with an actix system of its own; works everywhere.
    ///
    /// The thread ends when the engine is shut down, or when the last handle to it is dropped and what was accepted has
    /// been finished; see [`Shutdown`](crate::Shutdown).
    ///
    /// # Errors
    /// [`EngineError::Thread`] when the operating system gives no thread; [`EngineError::Breaker`] for a breaker that cannot
    /// be one, and [`EngineError::Limit`] for such a limit.
    pub fn spawn(self) -> Result<Engine, EngineError> {
        let (tell_started, started) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name("lunacore".to_owned())
            .spawn(move || {
                System::new().block_on(async move {
                    let (engine, gone) = match self.start_here() {
                        Ok((engine, gone)) => (Ok(engine), Some(gone)),
                        Err(error) => (Err(error), None),
                    };
                    // Only the bus is kept: holding the orchestrator would keep the thread alive for ever.
                    let bus = engine.as_ref().ok().map(|engine| engine.bus().clone());
                    if tell_started.send(engine).is_err() {
                        return;
                    }
                    if let (Some(gone), Some(bus)) = (gone, bus) {
                        let _ = gone.await;
                        // The last events still reach their subscribers.
                        let _ = bus.send(Flush::default()).await;
                    }
                });
            })
            .map_err(|source| EngineError::Thread { source })?;
        started.recv().unwrap_or_else(|_| {
            Err(EngineError::Thread {
                source: std::io::Error::other("it panicked while it started the actors"),
            })
        })
    }

    fn start_here(self) -> Result<(Engine, oneshot::Receiver<()>), EngineError> {
        // There may be a system, but not here: inside `tokio::spawn`, say. Only trying tells.
        if Arbiter::try_current().is_none() || catch(|| actix::spawn(async {})).is_err() {
            return Err(EngineError::NoSystem);
        }
        for breaker in &self.breakers {
            breaker.check()?;
        }
        for limit in &self.limits {
            limit.check()?;
        }
        let bus = start(EventBus::new());
        let memory = start(self.memory.clock(self.clock.clone()));
        let allocator = (self.start_allocator)();
        let mut orchestrator = ExecutionOrchestrator::new(bus.clone(), memory.clone(), allocator.clone())
            .max_concurrent_plans(self.max_concurrent_plans)
            .queue_capacity(self.queue_capacity)
            .recover(self.recover)
            .clock(self.clock);
        for breaker in self.breakers {
            orchestrator = orchestrator.breaker(breaker)?;
        }
        for limit in self.limits {
            orchestrator = orchestrator.limit(limit)?;
        }
        #[cfg(feature = "expressions")]
        {
            orchestrator.surroundings = self.surroundings;
        }
        let gone = orchestrator.watch_end();
        let engine = Engine { orchestrator: start(orchestrator), bus, memory, allocator };
        Ok((engine, gone))
    }
}

/// Starts an actor with all of its mailbox: `Actor::start` leaves it at 16 messages until the actor has run for the first
/// time, and what is sent beyond that is only sent when its answer is awaited.
fn start<A: Actor<Context = Context<A>>>(actor: A) -> Addr<A> {
    A::create(|ctx| {
        ctx.set_mailbox_capacity(MAILBOX);
        actor
    })
}

impl std::fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineBuilder")
            .field("max_concurrent_plans", &self.max_concurrent_plans)
            .field("queue_capacity", &self.queue_capacity)
            .finish_non_exhaustive()
    }
}

/// Why an engine could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The current thread has no actix arbiter.
    #[error("no actix system runs on this thread; call `spawn` instead of `start`, or use `#[actix::main]`")]
    NoSystem,
    /// A circuit breaker cannot be one.
    #[error(transparent)]
    Breaker(#[from] InvalidBreaker),
    /// A limit cannot be one.
    #[error(transparent)]
    Limit(#[from] InvalidLimit),
    /// The engine's thread could not be started.
    #[error("the engine's thread could not be started")]
    Thread {
        /// What the operating system said.
        source: std::io::Error,
    },
}
