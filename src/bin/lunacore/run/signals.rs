//! Ctrl-C and its like.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What tells the command to stop: SIGINT, which is Ctrl-C, SIGTERM, and SIGHUP, when its terminal goes. From the moment that this is made, they end nothing
/// by themselves.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(crate) fn watch() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The next one. Nothing is lost when this is not awaited to the end.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
