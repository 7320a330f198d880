//! What the callables do to the world outside of the store.

use super::*;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Called {
    pub step: String,
    pub attempt: u32,
    pub fallback: bool,
}

/// The world outside of the store: what was done there stays done.
pub struct Outside {
    pub cell: Cell,
    /// Each with the number of the life in which it was called.
    pub calls: Mutex<Vec<(usize, Called)>>,
    pub life: AtomicUsize,
    pub busy: AtomicBool,
    pub overlaps: AtomicUsize,
    pub gate: Semaphore,
    /// How many commits this life has asked for.
    commits: Mutex<Arc<AtomicUsize>>,
    /// By how many milliseconds inline calls have put the clock forward.
    ahead: AtomicU64,
    /// Whom calls ask to cancel or pause the run: from inside, where nobody else gets a word in between inline calls.
    orchestrator: Mutex<Option<actix::WeakAddr<ExecutionOrchestrator>>>,
    /// Whether they do so in this life.
    pub steers: AtomicBool,
    tell: UnboundedSender<Asked>,
}

/// A call has been made, and has asked for this.
pub enum Asked {
    Nothing,
    /// To have more time pass than it may take.
    Time,
    Cancel(Request<ExecutionOrchestrator, CancelPlan>),
    Pause(Request<ExecutionOrchestrator, PausePlan>),
}

/// There while an attempt runs.
struct Busy(Arc<Outside>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.store(false, SeqCst);
    }
}

impl Outside {
    pub fn new(cell: Cell) -> (Arc<Self>, UnboundedReceiver<Asked>) {
        let (tell, told) = unbounded_channel();
        let (calls, commits, gate) = (Mutex::default(), Mutex::default(), Semaphore::new(0));
        let (life, overlaps, ahead) = (AtomicUsize::new(1), AtomicUsize::new(0), AtomicU64::new(0));
        let (busy, steers, orchestrator) = (AtomicBool::new(false), AtomicBool::new(true), Mutex::default());
        let outside =
            Self { cell, calls, life, busy, overlaps, gate, commits, ahead, orchestrator, steers, tell };
        (Arc::new(outside), told)
    }

    fn enter(self: &Arc<Self>, ctx: &StepContext, fallback: bool) -> Busy {
        if self.busy.swap(true, SeqCst) {
            self.overlaps.fetch_add(1, SeqCst);
        }
        let (step, attempt) = (ctx.step_id().to_owned(), ctx.attempt());
        self.calls
            .lock()
            .unwrap()
            .push((self.life.load(SeqCst), Called { step: step.clone(), attempt, fallback }));
        self.tell.send(self.asks(ctx.step_id(), attempt)).unwrap();
        Busy(Arc::clone(self))
    }

    fn asks(&self, step: &str, attempt: u32) -> Asked {
        let cell = self.cell;
        if matches!(cell.act(step, attempt), Act::Overrun) && cell.kind == Kind::Blocking {
            return Asked::Time;
        }
        if cell.steered_at() != Some(step) || !self.steers.load(SeqCst) {
            return Asked::Nothing;
        }
        let orchestrator = self.orchestrator.lock().unwrap().as_ref().unwrap().upgrade().unwrap();
        if cell.feature == Feature::Cancel {
            Asked::Cancel(orchestrator.send(CancelPlan(run_id(RUN))))
        } else {
            Asked::Pause(orchestrator.send(PausePlan(run_id(RUN))))
        }
    }

    /// What an attempt returns that need not wait.
    fn result(&self, ctx: &StepContext, act: &Act) -> Result<String, StepError> {
        match act {
            Act::Fail => Err("not yet".into()),
            Act::Fatal => Err(StepError::fatal("not ever")),
            Act::Overrun if self.cell.kind == Kind::Inline => {
                self.ahead.fetch_add((TIMEOUT + OVERRUN).as_millis().try_into().unwrap(), SeqCst);
                Ok("late".to_owned())
            }
            Act::Overrun => Err("told to stop".into()),
            Act::Succeed | Act::Wait => {
                let before: Option<String> = match self.cell.feature {
                    #[cfg(feature = "expressions")]
                    Feature::Template if ctx.step_id() == "subject" => Some(ctx.input()?),
                    _ if ctx.index() == 0 => None,
                    _ => ctx.previous()?,
                };
                let before = before.unwrap_or_default();
                Ok(format!("{before}{} ", ctx.step_id()))
            }
        }
    }

    fn callable(self: &Arc<Self>) -> Callable {
        let outside = Arc::clone(self);
        match self.cell.kind {
            Kind::Async => Callable::new(move |ctx: StepContext| {
                let outside = Arc::clone(&outside);
                async move {
                    let _busy = outside.enter(&ctx, false);
                    let act = outside.cell.act(ctx.step_id(), ctx.attempt());
                    match act {
                        Act::Overrun => pending().await,
                        Act::Wait => drop(outside.gate.acquire().await?),
                        _ => {}
                    }
                    outside.result(&ctx, &act)
                }
            }),
            Kind::Blocking | Kind::Inline => Callable::new(move |ctx: StepContext| {
                let (commits, at) = outside.commits();
                let _busy = outside.enter(&ctx, false);
                let act = outside.cell.act(ctx.step_id(), ctx.attempt());
                let waits = outside.cell.kind == Kind::Blocking && matches!(act, Act::Overrun | Act::Wait);
                while waits && (matches!(act, Act::Overrun) || outside.gate.available_permits() == 0) {
                    // A cancelled run has seen so when it stores it: code that ends before makes another history.
                    if ctx.is_cancelled() && (matches!(act, Act::Overrun) || commits.load(SeqCst) > at) {
                        return Err("told to stop".into());
                    }
                    std::thread::sleep(Duration::from_micros(100));
                }
                outside.result(&ctx, &act)
            }),
        }
    }

    /// The counter of this life's commits, and where it stands.
    fn commits(&self) -> (Arc<AtomicUsize>, usize) {
        let commits = Arc::clone(&self.commits.lock().unwrap());
        let at = commits.load(SeqCst);
        (commits, at)
    }

    fn rescue(self: &Arc<Self>) -> Callable {
        let outside = Arc::clone(self);
        let rescue = move |ctx: &StepContext| {
            let _busy = outside.enter(ctx, true);
            let failure = ctx.failure().ok_or("it does not know why it is called")?;
            Ok::<_, StepError>(format!("{}rescued from {:?} ", ctx.previous::<String>()?, failure.message))
        };
        match self.cell.kind {
            Kind::Async => Callable::new(move |ctx: StepContext| {
                let rescued = rescue(&ctx);
                async move { rescued }
            }),
            Kind::Blocking | Kind::Inline => Callable::new(move |ctx: StepContext| rescue(&ctx)),
        }
    }

    /// Goes as tokio's does, and further by what inline calls have taken.
    pub fn clock(self: &Arc<Self>) -> Clock {
        let (outside, clock) = (Arc::clone(self), virtual_clock());
        Clock::new(move || clock.now() + Duration::from_millis(outside.ahead.load(SeqCst)))
    }

    pub fn live(self: &Arc<Self>, store: FaultyStore, clock: &Clock) -> Actors {
        *self.commits.lock().unwrap() = store.commits();
        let (bus, memory) =
            (EventBus::new().start(), ProjectMemory::with_store(store).clock(clock.clone()).start());
        let registry = STEPS
            .iter()
            .fold(RegistryAllocator::new(), |registry, id| registry.register(*id, self.callable()));
        let registry = registry.register("rescue", self.rescue()).start();
        let breaker = Breaker::new("service").failures(1).open_for(OPEN);
        let orchestrator = ExecutionOrchestrator::new(bus.clone(), memory.clone(), registry);
        let orchestrator = orchestrator.clock(clock.clone()).breaker(breaker).unwrap().start();
        *self.orchestrator.lock().unwrap() = Some(orchestrator.downgrade());
        Actors { orchestrator, bus, memory }
    }
}
