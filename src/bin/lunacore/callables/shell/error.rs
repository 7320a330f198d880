use std::io;
use std::path::PathBuf;

use lunacore::StepError;

use crate::callables::group::GroupError;

/// Why a `shell` step failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum ShellError {
    #[error("the input has neither \"script\" nor \"argv\"; give one of them")]
    Nothing,
    #[error("the input has both \"script\" and \"argv\"; give one of them")]
    Both,
    #[error("\"argv\" is empty; its first entry is the program")]
    NoProgram,
    #[error(
        "\"env\" sets {name:?}; the name of a variable has only letters of ASCII, digits and \"_\", and begins with no digit"
    )]
    VariableName { name: String },
    #[error("\"env\" sets {name:?}, which the command itself sets")]
    Reserved { name: String },
    #[error("the folder {path:?} of the input's \"cwd\" cannot be entered")]
    Folder { path: PathBuf, source: io::Error },
    #[error("the program {program:?} was not found in any folder of PATH")]
    NotInPath { program: String },
    #[error("the program {program:?} was not found")]
    NotFound { program: String },
    #[error("{program:?} is not executable")]
    NotExecutable { program: String },
    #[error(transparent)]
    Group(#[from] GroupError),
    #[error("the output could not be read")]
    Pipes { source: io::Error },
    #[error("{what} exited with code {code}{quote}")]
    Exited { what: &'static str, code: i32, quote: String },
    #[error("{what} was ended by signal {signal}{quote}")]
    Signalled { what: &'static str, signal: String, quote: String },
    #[error("it was told to stop, and its process group was ended")]
    Stopped,
}

impl ShellError {
    /// Fatal, unless another attempt may end otherwise.
    pub(super) fn into_step(self) -> StepError {
        let may_pass = match &self {
            Self::Group(GroupError::Start { source }) => {
                !matches!(source.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::ArgumentListTooLong)
            }
            Self::Group(error) => !matches!(error, GroupError::NoIdentity { .. }),
            Self::Pipes { .. } | Self::Exited { .. } | Self::Signalled { .. } | ShellError::Stopped => true,
            _ => false,
        };
        if may_pass { self.into() } else { StepError::fatal(self) }
    }
}
