use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::fault::PlanFileFault;
use super::source::Place;
use crate::limits::MAX_PLAN_FILE_BYTES;

/// Why a plan file is no plan.
///
/// What it displays is meant to be printed as it is: each problem with its file, line and column, the line itself, and a
/// caret below the place.
///
/// ```
/// use lunacore::{Plan, PlanFormat};
///
/// let error = Plan::from_text("steps:\n  - id: fetch\n    timeuot: 30s\n", PlanFormat::Yaml).unwrap_err();
/// assert_eq!(error.to_string(), r#"
/// 3:5: unknown key "timeuot" in a step; did you mean "timeout"?
///   3 |     timeuot: 30s
///     |     ^
/// "#.trim());
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PlanFileError {
    /// The file's name does not tell its format.
    #[error("{}: a plan file is named .yaml, .yml, .toml or .json, so that its format is known", path.display())]
    #[non_exhaustive]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A folder, a pipe or a device: nothing that has an end.
    #[error("{} is {what}, not a file", path.display())]
    #[non_exhaustive]
    NotAFile {
        /// What was to be read.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    #[non_exhaustive]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// The file is larger than [`MAX_PLAN_FILE_BYTES`].
    #[error("{}more than {MAX_PLAN_FILE_BYTES} bytes, the most that a plan file may have; split the plan", prefix(path.as_ref()))]
    #[non_exhaustive]
    TooLarge {
        /// The file, if it is one.
        path: Option<PathBuf>,
    },
    /// The text is no plan. All that is wrong with it, in the order of the file.
    #[error("{}", Report { path: path.as_ref(), problems, more: *more })]
    #[non_exhaustive]
    Invalid {
        /// The file, if it is one.
        path: Option<PathBuf>,
        /// What is wrong, at most [`MAX_PLAN_FILE_PROBLEMS`](crate::limits::MAX_PLAN_FILE_PROBLEMS) of it.
        problems: Vec<PlanFileProblem>,
        /// How many more there are.
        more: usize,
    },
}

/// What is wrong at one place of a plan file, and where that is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlanFileProblem {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub fault: PlanFileFault,
    place: Place,
}

impl PlanFileProblem {
    pub(super) fn new(place: Place, fault: PlanFileFault) -> Self {
        Self { line: place.line, column: place.column, fault, place }
    }

    /// The line of the file, or as much of it as fits on a screen, and below it a caret at the place. Characters that would
    /// not be seen, or change how the line is shown, are replaced.
    #[must_use]
    pub fn excerpt(&self) -> String {
        self.place.show()
    }
}

impl fmt::Display for PlanFileProblem {
    /// `line:column: what is wrong`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.fault)
    }
}

impl PlanFileError {
    /// What is wrong with the text; nothing, if it could not be read at all.
    #[must_use]
    pub fn problems(&self) -> &[PlanFileProblem] {
        match self {
            Self::Invalid { problems, .. } => problems,
            _ => &[],
        }
    }
}

fn prefix(path: Option<&PathBuf>) -> String {
    path.map_or_else(|| "the text has ".to_owned(), |path| format!("{} has ", path.display()))
}

struct Report<'a> {
    path: Option<&'a PathBuf>,
    problems: &'a [PlanFileProblem],
    more: usize,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            if let Some(path) = self.path {
                write!(f, "{}:", path.display())?;
            }
            write!(f, "{problem}\n{}", problem.excerpt())?;
        }
        if self.more > 0 {
            write!(f, "\nand {} more", self.more)?;
        }
        Ok(())
    }
}
