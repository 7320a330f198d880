//! A service with a bad day: at first it does not answer, then it asks for patience, then it works. The step is tried again
//! with growing delays, and each attempt has its own time.
//!
//! `cargo run --example retry_and_timeout`

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lunacore::{Engine, Event, EventKind, LimitExceeded, PlanError, Retry, Shutdown, Step, StepError};

/// What it answers depends on how often it was asked.
#[derive(Clone, Default)]
struct Service(Arc<AtomicUsize>);

impl Service {
    async fn quote(&self) -> Result<f64, StepError> {
        match self.0.fetch_add(1, Ordering::SeqCst) {
            // It hangs: only a timeout ends that.
            0 => std::future::pending().await,
            // It says itself when to come back, as HTTP's `Retry-After` does.
            1 => Err(StepError::retry_after("503, try again in 20 ms", Duration::from_millis(20))),
            2 => Err("connection reset".into()),
            _ => Ok(1.08),
        }
    }
}

fn print(event: &Event) {
    match event.kind() {
        EventKind::TaskStarted { task_id, attempt, .. } => println!("{task_id}: attempt {attempt}"),
        EventKind::TaskFailed { task_id, will_retry, failure, .. } => {
            let then = if *will_retry { "will be tried again" } else { "for the last time" };
            println!("{task_id}: failed, {then}: {failure}");
        }
        EventKind::TaskCompleted { task_id, .. } => println!("{task_id}: completed"),
        _ => {}
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let engine = Engine::builder().start()?;
    engine.subscribe("task.*", |event: Event| print(&event)).await?;

    let service = Service::default();
    // 40 ms, 80 ms, 160 ms …, each shortened at random so that many clients do not come back at the same moment.
    let retry = Retry::exponential(Duration::from_millis(40)).max_attempts(5).on_timeout(true);
    let quote = Step::new("quote", move || {
        let service = service.clone();
        async move { service.quote().await }
    });
    let quote = quote.retry(retry).timeout(Duration::from_millis(100)).total_timeout(Duration::from_secs(10));
    assert_eq!(engine.execute([quote]).await?, [1.08]);

    // An error that would be the same each time is not tried again.
    let typo = Step::new("typo", || async { Err::<(), _>(StepError::fatal("404, no such currency")) });
    let refused = engine.execute([typo.retry(Retry::fixed(Duration::from_millis(1)))]).await;
    assert!(matches!(refused, Err(PlanError::StepFailed { attempt: 1, .. })));

    // Nobody answers here. The error says which limit it was.
    let silent = Step::new("silent", || async { std::future::pending::<()>().await });
    let Err(error) = engine.execute([silent.timeout(Duration::from_millis(50))]).await else {
        return Err("nobody answers".into());
    };
    let limit = error.source().and_then(|source| source.downcast_ref::<LimitExceeded>());
    assert!(matches!(limit, Some(LimitExceeded::Timeout { .. })));

    engine.shutdown(Shutdown::drain(Duration::from_secs(5))).await;
    Ok(())
}
