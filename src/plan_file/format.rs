use std::fmt;
use std::path::Path;

/// The language that a plan file is written in.
///
/// ```
/// use lunacore::PlanFormat;
///
/// assert_eq!(PlanFormat::of_path("plans/etl.yml".as_ref()), Some(PlanFormat::Yaml));
/// assert_eq!(PlanFormat::of_path("plans/etl".as_ref()), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PlanFormat {
    /// YAML 1.2: `.yaml` and `.yml`.
    Yaml,
    /// TOML 1.1: `.toml`.
    Toml,
    /// JSON (RFC 8259): `.json`.
    Json,
}

impl PlanFormat {
    /// The format that the file's name tells, in whatever case.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        match &*path.extension()?.to_str()?.to_ascii_lowercase() {
            "yaml" | "yml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

impl fmt::Display for PlanFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Yaml => "YAML",
            Self::Toml => "TOML",
            Self::Json => "JSON",
        })
    }
}
