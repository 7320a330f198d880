//! A trip is booked in three steps. The last one fails, so what the others did is undone, from the last to the first.
//!
//! `cargo run --example saga`

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lunacore::{
    Engine, Event, EventKind, ExecutePlan, Plan, PlanError, Retry, RunState, Step, StepContext, StepError,
};

/// The bookings of everybody else's systems.
type Bookings = Arc<Mutex<Vec<String>>>;

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("error")).init();
    let bookings = Bookings::default();
    let engine = Engine::builder().start()?;
    engine.subscribe("*", tell).await?;

    let retry = Retry::fixed(Duration::from_millis(10)).max_attempts(3);
    let trip = Plan::new([
        Step::new("flight", book(&bookings, "LH 454")).compensate(cancel(&bookings)),
        Step::new("hotel", book(&bookings, "room 12"))
            .compensate(cancel(&bookings))
            .compensation_retry(retry),
        Step::new("charge", || Err::<String, _>(StepError::fatal("the card was declined"))),
    ]);
    let run = engine.submit(ExecutePlan::new(trip).run_id("trip-1")).await?;
    let run_id = run.run_id().clone();
    let error = run.await.err().ok_or("the trip was booked")?;

    engine.flush(Duration::from_secs(1)).await?;
    println!("{error}");
    println!("because {}: {}", error.why(), error.why().source().ok_or("no cause")?);

    let PlanError::Compensated { undone, not_undone, .. } = &error else { return Err(error.into()) };
    assert_eq!((undone.join(", "), not_undone.len()), ("hotel, flight".to_owned(), 0));
    assert_eq!(engine.status(&run_id).await?.state, RunState::Compensated);
    assert!(bookings.lock().map_err(|_| "a step panicked")?.is_empty(), "nothing is left");
    Ok(())
}

fn tell(event: Event) {
    match event.kind() {
        EventKind::TaskCompleted { task_id, result } => println!("{task_id}: {}", result.to_value()),
        EventKind::TaskFailed { task_id, failure, .. } => println!("{task_id} failed: {failure}"),
        EventKind::PlanCompensating { steps } => println!("undoing {steps} steps"),
        EventKind::TaskCompensationFailed { task_id, attempt, failure, .. } => {
            println!("{task_id} is not undone at attempt {attempt}: {failure}");
        }
        EventKind::TaskCompensated { task_id } => println!("{task_id} is undone"),
        _ => {}
    }
}

fn book(bookings: &Bookings, what: &'static str) -> impl Fn() -> Result<String, StepError> + use<> {
    let bookings = Arc::clone(bookings);
    move || {
        bookings.lock().map_err(|_| "a step panicked")?.push(what.to_owned());
        Ok(what.to_owned())
    }
}

/// What was booked is what the step returned.
fn cancel(bookings: &Bookings) -> impl Fn(StepContext) -> Result<(), StepError> + use<> {
    let bookings = Arc::clone(bookings);
    move |ctx: StepContext| {
        if ctx.step_id() == "hotel" && ctx.attempt() == 1 {
            return Err("nobody answers".into());
        }
        let booked: String = ctx.output(ctx.step_id())?;
        bookings.lock().map_err(|_| "a step panicked")?.retain(|booking| *booking != booked);
        Ok(())
    }
}
