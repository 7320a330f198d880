use std::io;
use std::path::PathBuf;

/// What went wrong with a process group.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum GroupError {
    /// The gate could not be started.
    #[error("the process could not be started")]
    Start { source: io::Error },
    /// It cannot be told from those that come after it.
    #[error("the system does not tell when process {pid} was started; mount /proc, or install ps")]
    NoIdentity { pid: i32 },
    /// Without a record nothing may run.
    #[error("the process group could not be put on record in {path:?}, so it was not let run")]
    Record { path: PathBuf, source: io::Error },
    /// The records of other groups cannot be read, and one may be of this step.
    #[error("the records of process groups in {path:?} cannot be read")]
    Read { path: PathBuf, source: io::Error },
    /// What an earlier attempt left does not end.
    #[error(
        "process group {pgid}, which an earlier attempt of the step left, does not end; see to it, then try again"
    )]
    Survivor { pgid: i32 },
    /// Nothing is started any more.
    #[error("the command is ending")]
    Ending,
}
