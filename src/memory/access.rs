use std::fmt;

use crate::project::Project;

/// What an access check is asked: may this operation be done on this key of this project?
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// The tenant and project.
    pub project: Project,
    /// The key; for a listing of keys, the prefix.
    pub key: String,
    /// What shall be done.
    pub operation: Operation,
}

/// What is done to an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Reading a version.
    Read,
    /// Storing a new version.
    Write,
    /// Listing versions or keys.
    List,
    /// Deleting a version or all.
    Delete,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::List => "list",
            Self::Delete => "delete",
        })
    }
}

pub(crate) type AccessCheck = Box<dyn Fn(&Access) -> bool + Send>;
