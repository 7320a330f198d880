use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::error::MemoryError;
use crate::id::{IdFault, check_id, check_text, shorten};
use crate::isolate::catch;
use crate::limits::MAX_KEY_BYTES;
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

/// Checks names, then asks the application's access check if there is one.
#[derive(Clone, Default)]
pub(crate) struct AccessGuard(Option<Arc<Mutex<AccessCheck>>>);

type AccessCheck = Box<dyn Fn(&Access) -> bool + Send>;

impl AccessGuard {
    pub(crate) fn new(may: impl Fn(&Access) -> bool + Send + 'static) -> Self {
        Self(Some(Arc::new(Mutex::new(Box::new(may)))))
    }

    pub(crate) fn is_guarded(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn check(
        &self,
        project: &Project,
        key: &str,
        operation: Operation,
    ) -> Result<(), MemoryError> {
        check_project(project)?;
        check_text(key, MAX_KEY_BYTES).map_err(|fault| invalid_name("key", key, fault))?;
        self.ask(project, key, operation)
    }

    /// For a listing of keys, whose prefix may be empty.
    pub(crate) fn check_prefix(&self, project: &Project, prefix: &str) -> Result<(), MemoryError> {
        check_project(project)?;
        self.ask(project, prefix, Operation::List)
    }

    /// Asks about a key that is known to be one.
    pub(crate) fn ask(&self, project: &Project, key: &str, operation: Operation) -> Result<(), MemoryError> {
        let Some(may) = &self.0 else { return Ok(()) };
        let access = Access { project: project.clone(), key: key.to_owned(), operation };
        let may = may.lock().unwrap_or_else(PoisonError::into_inner);
        match catch(|| may(&access)) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(message) => {
                log::error!(target: "lunacore::memory", key; "the access check panicked: {message}");
            }
        }
        let Access { project, key, operation } = access;
        Err(MemoryError::AccessDenied { project, key, operation })
    }
}

pub(crate) fn check_project(project: &Project) -> Result<(), MemoryError> {
    let tenant = check_id(project.tenant()).map_err(|fault| invalid_name("tenant", project.tenant(), fault));
    tenant.and(check_id(project.project()).map_err(|fault| invalid_name("project", project.project(), fault)))
}

pub(crate) fn invalid_name(what: &'static str, name: &str, fault: IdFault) -> MemoryError {
    MemoryError::InvalidName { what, name: shorten(name), fault }
}
