use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use crate::limits::MAX_SECRET_BYTES;

/// Where expressions find `secrets.NAME`.
///
/// A secret is looked up for each attempt that needs it, so one that has changed meanwhile is the new one. It is never
/// stored: where it shows up in what leaves a step, there is `***` instead. See [`Step::with`](crate::Step::with).
///
/// ```
/// use lunacore::{Engine, ExecutePlan, RegistryAllocator, Secrets, Step, StepContext};
///
/// # actix::System::new().block_on(async {
/// let registry = RegistryAllocator::new().register("greet", |ctx: StepContext| {
///     let token: String = ctx.input()?;
///     Ok::<_, lunacore::StepError>(format!("the token has {} letters and is {token}", token.len()))
/// });
/// let engine = Engine::builder()
///     .allocator(registry)
///     .secrets(Secrets::given([("TOKEN", "open sesame")]).or(Secrets::env()))
///     .start()?;
/// let results = engine.execute([Step::named("greet").with("${{ secrets.TOKEN }}")]).await?;
/// assert_eq!(results, ["the token has 11 letters and is ***"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Secrets(Arc<[Source]>);

#[derive(Clone)]
enum Source {
    Env { prefix: String },
    Folder(PathBuf),
    Given(Arc<BTreeMap<String, String>>),
}

impl Secrets {
    /// No secrets at all.
    #[must_use]
    pub fn none() -> Self {
        Self(Arc::new([]))
    }

    /// The environment of the process: `secrets.NAME` is the variable `NAME`. The default of an orchestrator.
    #[must_use]
    pub fn env() -> Self {
        Self::env_with_prefix("")
    }

    /// The same for the variable `NAME` behind a prefix, so that a plan reaches no others.
    #[must_use]
    pub fn env_with_prefix(prefix: impl Into<String>) -> Self {
        Self(Arc::new([Source::Env { prefix: prefix.into() }]))
    }

    /// A folder with a file for each secret, as Docker and Kubernetes mount them: `secrets.NAME` is the text of the file
    /// `NAME`, without the line break at its end. Names are words (ASCII letters, digits, `_`), so no other file is reached.
    #[must_use]
    pub fn folder(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new([Source::Folder(path.into())]))
    }

    /// These, each a name and a value.
    #[must_use]
    pub fn given<N: Into<String>, V: Into<String>>(secrets: impl IntoIterator<Item = (N, V)>) -> Self {
        let secrets = secrets.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self(Arc::new([Source::Given(Arc::new(secrets))]))
    }

    /// Those of `other` that are not here.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0.iter().chain(other.0.iter()).cloned().collect())
    }

    /// The value of a secret.
    ///
    /// # Errors
    /// [`SecretError`]: it is nowhere, or it cannot be read.
    pub(crate) fn find(&self, name: &str) -> Result<String, SecretError> {
        if !is_word(name) {
            return Err(SecretError::Name { name: crate::id::shorten(name) });
        }
        for source in self.0.iter() {
            if let Some(value) = source.find(name)? {
                return if value.is_empty() {
                    Err(SecretError::Empty { name: name.to_owned() })
                } else {
                    Ok(value)
                };
            }
        }
        Err(SecretError::Missing { name: name.to_owned() })
    }
}

impl Source {
    fn find(&self, name: &str) -> Result<Option<String>, SecretError> {
        match self {
            Self::Given(secrets) => Ok(secrets.get(name).cloned()),
            Self::Env { prefix } => match std::env::var_os(format!("{prefix}{name}")) {
                None => Ok(None),
                Some(value) => {
                    value.into_string().map(Some).map_err(|_| SecretError::NotText { name: name.to_owned() })
                }
            },
            Self::Folder(folder) => {
                let file = match File::open(folder.join(name)) {
                    Ok(file) => file,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(SecretError::unreadable(name, error)),
                };
                let mut bytes = Vec::new();
                let read = file.take(MAX_SECRET_BYTES as u64 + 1).read_to_end(&mut bytes);
                read.map_err(|error| SecretError::unreadable(name, error))?;
                if bytes.len() > MAX_SECRET_BYTES {
                    return Err(SecretError::TooLarge { name: name.to_owned() });
                }
                let mut text =
                    String::from_utf8(bytes).map_err(|_| SecretError::NotText { name: name.to_owned() })?;
                text.truncate(
                    text.strip_suffix('\n').map_or(text.len(), |line| line.trim_end_matches('\r').len()),
                );
                Ok(Some(text))
            }
        }
    }
}

fn is_word(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= crate::limits::MAX_ID_BYTES
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl Default for Secrets {
    fn default() -> Self {
        Self::env()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|source| match source {
                Source::Env { prefix } => format!("the environment, behind {prefix:?}"),
                Source::Folder(path) => format!("the folder {path:?}"),
                Source::Given(secrets) => format!("{} given ones", secrets.len()),
            }))
            .finish()
    }
}

/// Why there is no value for a secret that a plan names.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// It is nowhere.
    #[error("the secret {name:?} is not there; set the environment variable of that name, or see `Secrets`")]
    Missing {
        /// Its name.
        name: String,
    },
    /// It cannot be the name of a secret.
    #[error(
        "{name:?} cannot be the name of a secret: only ASCII letters, digits and underscores can be in it"
    )]
    Name {
        /// The name, shortened.
        name: String,
    },
    /// It is empty, which is mostly a variable that was to be set and was not.
    #[error("the secret {name:?} is empty")]
    Empty {
        /// Its name.
        name: String,
    },
    /// It is not UTF-8.
    #[error("the secret {name:?} is not UTF-8 text; encode it, as base64 for example")]
    NotText {
        /// Its name.
        name: String,
    },
    /// It is larger than [`MAX_SECRET_BYTES`].
    #[error("the secret {name:?} is larger than {MAX_SECRET_BYTES} bytes")]
    TooLarge {
        /// Its name.
        name: String,
    },
    /// Its file cannot be read.
    #[error("the file of the secret {name:?} cannot be read")]
    Unreadable {
        /// Its name.
        name: String,
        /// What the operating system said.
        source: Arc<std::io::Error>,
    },
}

impl SecretError {
    fn unreadable(name: &str, error: std::io::Error) -> Self {
        Self::Unreadable { name: name.to_owned(), source: Arc::new(error) }
    }
}
