use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Where the time comes from: that of the system, or another one in tests.
///
/// Everything that is stored, and every limit and delay, goes by it; it should be the same for an orchestrator and its memory,
/// as [`EngineBuilder::clock`](crate::EngineBuilder::clock) sees to. What is waited for in this process is waited for with
/// tokio's timers, so a clock of a test should go as fast as those do.
///
/// ```
/// use lunacore::Clock;
/// use std::time::{Duration, SystemTime, UNIX_EPOCH};
///
/// let fixed = Clock::new(|| UNIX_EPOCH + Duration::from_secs(1));
/// assert_eq!(fixed.now(), UNIX_EPOCH + Duration::from_secs(1));
/// assert!(Clock::default().now() <= SystemTime::now());
/// ```
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// A clock that shows what this returns.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }
}

/// The clock of the system.
impl Default for Clock {
    fn default() -> Self {
        Self::new(SystemTime::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
