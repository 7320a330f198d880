//! Secret values: where `secrets.NAME` finds them, and how they are kept out of everything that leaves a step.
//!
//! What is not here: nothing of this is stored, and no secret is handed out but to the expression that names it.

#[cfg(feature = "expressions")]
mod forms;
mod redact;
#[cfg(feature = "expressions")]
mod source;

pub(crate) use redact::Redactor;
#[cfg(feature = "expressions")]
pub(crate) use redact::TooManySecrets;
#[cfg(feature = "expressions")]
pub use source::{SecretError, Secrets};
