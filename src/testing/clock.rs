use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::clock::Clock;

/// A clock that goes as tokio's own does, from the first second of the year 2026 (UTC) on. Where that is
/// [paused](https://docs.rs/tokio/latest/tokio/time/fn.pause.html) a test waits for nothing: a day of retries takes
/// milliseconds, and all times are known beforehand.
///
/// It works where the actors share a thread with the test, as under `#[actix::test]` with
/// [`EngineBuilder::start`](crate::EngineBuilder::start).
///
/// ```
/// use lunacore::testing::virtual_clock;
/// use lunacore::{Engine, Retry, Step};
/// use std::time::{Duration, Instant};
///
/// # actix::System::new().block_on(async {
/// tokio::time::pause();
/// let engine = Engine::builder().clock(virtual_clock()).start()?;
/// let call = Step::new("call", || async { Err::<(), _>("no connection") });
/// let began = Instant::now();
/// let patient = call.retry(Retry::fixed(Duration::from_secs(3_600)).max_attempts(24));
/// assert!(engine.execute([patient]).await.is_err());
/// assert!(began.elapsed() < Duration::from_secs(60), "it did not take a day");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[must_use]
pub fn virtual_clock() -> Clock {
    let began: SystemTime = UNIX_EPOCH + Duration::from_secs(1_767_225_600);
    let start = Instant::now();
    Clock::new(move || began + start.elapsed())
}
