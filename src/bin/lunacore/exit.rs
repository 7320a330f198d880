//! How the command ends: its exit codes, and what it says when it does not do what it was asked.

use std::error::Error;
use std::io::ErrorKind;
use std::process::ExitCode;

use lunacore::{ControlError, EngineError, MemoryError, OpenError, PlanError, StoreError};

/// The exit codes; [`EXIT_CODES`](crate::args::EXIT_CODES) tells users of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    Invalid = 2,
    Store = 3,
    Cancelled = 4,
    Interrupted = 5,
    Waits = 6,
    Killed = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why the command does not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Whoever reads the output has seen enough.
    Closed,
    /// To be told on stderr.
    Told { exit: Exit, message: String },
}

impl Failure {
    /// What was asked for cannot be.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Told { exit: Exit::Invalid, message: message.into() }
    }

    /// An error with its causes.
    pub(crate) fn of(exit: Exit, error: &(dyn Error + 'static)) -> Self {
        Self::Told { exit, message: with_causes(error) }
    }
}

/// An error's message, and those of its causes, which messages of this crate never repeat.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| (*error).source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What writing to stdout or stderr ends with.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            return Self::Closed;
        }
        Self::Told { exit: Exit::Store, message: format!("the output cannot be written: {error}") }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::of(Exit::Store, &error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let message = format!("the store failed: {}", with_causes(&error));
        Self::Told { exit: Exit::Store, message }
    }
}

impl From<MemoryError> for Failure {
    fn from(error: MemoryError) -> Self {
        Self::of(of_memory(&error), &error)
    }
}

/// Memory may refuse what it was asked for, too.
fn of_memory(error: &MemoryError) -> Exit {
    match error {
        MemoryError::InvalidName { .. }
        | MemoryError::TooManySignals { .. }
        | MemoryError::SignalsTooLarge { .. } => Exit::Invalid,
        _ => Exit::Store,
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self::of(Exit::Invalid, &error)
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        let exit = match &error {
            // It was read, and refused what it was asked for.
            ControlError::Memory(refused) if of_memory(refused) == Exit::Invalid => {
                return refused.clone().into();
            }
            ControlError::Memory(error) => of_memory(error),
            ControlError::Stopped => Exit::Store,
            ControlError::Interrupted { .. } | ControlError::NotHere { .. } => Exit::Interrupted,
            _ => Exit::Invalid,
        };
        Self::of(exit, &error)
    }
}

impl Failure {
    /// How the command ends when a run ended so.
    pub(crate) fn exit_of(error: &PlanError) -> Exit {
        match error.why() {
            PlanError::StepFailed { .. } | PlanError::DeadlineExceeded { .. } => Exit::Failed,
            PlanError::Cancelled { .. } => Exit::Cancelled,
            PlanError::Interrupted { .. } | PlanError::RunElsewhere { .. } => Exit::Interrupted,
            PlanError::Memory { .. } | PlanError::Stopped => Exit::Store,
            _ => Exit::Invalid,
        }
    }
}
