//! Whom keys belong to.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A tenant and one of its projects: keys of one project are invisible to every other. Both are `"default"` by default.
///
/// ```
/// use lunacore::Project;
///
/// let web = Project::new("acme", "web");
/// assert_eq!(web.to_string(), "acme/web");
/// assert_eq!(Project::default().to_string(), "default/default");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Project {
    tenant: Arc<str>,
    project: Arc<str>,
}

impl Project {
    /// A project of a tenant. The names are checked when they are used.
    pub fn new(tenant: impl Into<Arc<str>>, project: impl Into<Arc<str>>) -> Self {
        Self { tenant: tenant.into(), project: project.into() }
    }

    /// The tenant's name.
    #[must_use]
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// The project's name within the tenant.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }
}

impl Default for Project {
    fn default() -> Self {
        // One allocation for the two names: a plan makes one of these.
        let name: Arc<str> = Arc::from("default");
        Self { tenant: Arc::clone(&name), project: name }
    }
}

impl fmt::Display for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.project)
    }
}
