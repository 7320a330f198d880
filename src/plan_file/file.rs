use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{PlanFileError, PlanFileProblem};
use super::fault::PlanFileFault;
use super::fields::Faults;
use super::format::PlanFormat;
use super::node::{Node, Segment};
use super::source::Source;
use super::syntax::Syntax;
use super::{load, locate, read, read_json, read_toml, read_yaml};
use crate::allocator::{AllocatorError, InputFault, ResolveError};
use crate::id::{nearest, shorten};
use crate::limits::{MAX_PLAN_FILE_BYTES, MAX_PLAN_FILE_PROBLEMS};
use crate::plan::{Plan, Role, Step};

/// A plan together with the text that it was read from, so that what is found wrong with it later is told with its place.
///
/// ```
/// use lunacore::{PlanFile, PlanFormat};
///
/// let text = "steps:\n  - { id: get, uses: http.gte }\n";
/// let file = PlanFile::from_text(text, PlanFormat::Yaml)?;
/// let error = file.check_callables(["http.get", "shell"]).unwrap_err();
/// assert_eq!(error.to_string(), r#"
/// 2:22: step "get" uses "http.gte", which is not registered; did you mean "http.get"?
///   2 |   - { id: get, uses: http.gte }
///     |                      ^
/// "#.trim());
/// # Ok::<(), lunacore::PlanFileError>(())
/// ```
#[derive(Debug, Clone)]
pub struct PlanFile {
    plan: Plan,
    format: PlanFormat,
    text: Arc<str>,
    path: Option<PathBuf>,
}

impl PlanFile {
    /// Reads a plan file; its name tells the format.
    ///
    /// # Errors
    /// The file cannot be read, or is not a valid plan: see [`PlanFileError`].
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, PlanFileError> {
        let path = path.as_ref();
        let format = PlanFormat::of_path(path)
            .ok_or_else(|| PlanFileError::UnknownFormat { path: path.to_owned() })?;
        let bytes = load::bytes_of(path)?;
        let path = Some(path.to_owned());
        match load::text_of(&bytes) {
            Ok(text) => Self::read(text, format, path),
            Err((at, fault)) => {
                // What can be shown of it.
                let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes));
                Err(one(&text, path, at, fault))
            }
        }
    }

    /// Reads a plan from a text.
    ///
    /// # Errors
    /// The text is too large, or not a valid plan: see [`PlanFileError`].
    pub fn from_text(text: &str, format: PlanFormat) -> Result<Self, PlanFileError> {
        if text.len() > MAX_PLAN_FILE_BYTES {
            return Err(PlanFileError::TooLarge { path: None });
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        match load::check(text) {
            Ok(text) => Self::read(text, format, None),
            Err((at, fault)) => Err(one(text, None, at, fault)),
        }
    }

    fn read(text: &str, format: PlanFormat, path: Option<PathBuf>) -> Result<Self, PlanFileError> {
        let source = Source::new(text);
        let mut faults = Faults::new(&source);
        let root = match parse(text, format) {
            Ok(root) => root,
            Err(errors) => {
                for Syntax { at, message } in errors {
                    faults.add(at, PlanFileFault::Syntax { message });
                }
                return Err(invalid(&source, faults, path));
            }
        };
        let draft = read::plan(&root, &mut faults);
        // Of a plan of which parts have no name, the rest would be told that it names what is not there.
        if draft.complete {
            for problem in draft.plan.problems() {
                if let Some(way) = locate::way(&problem) {
                    faults.add(root.find(&way), PlanFileFault::Plan(problem));
                }
            }
        }
        if faults.is_empty() {
            return Ok(Self { plan: draft.plan, format, text: Arc::from(text), path });
        }
        Err(invalid(&source, faults, path))
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The plan, without its text.
    #[must_use]
    pub fn into_plan(self) -> Plan {
        self.plan
    }

    /// The format that it is written in.
    #[must_use]
    pub fn format(&self) -> PlanFormat {
        self.format
    }

    /// The file, if it was read from one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Checks that every step, and whatever a step has besides (a fallback, what verifies it, what undoes it), uses a callable
    /// with one of these names.
    ///
    /// # Errors
    /// [`PlanFileError::Invalid`] with each that does not, and where it stands.
    pub fn check_callables<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<(), PlanFileError> {
        let known: std::collections::BTreeSet<&str> = names.into_iter().collect();
        let mut unknown = Vec::new();
        for (index, step) in self.plan.steps().iter().enumerate() {
            let missing = used(step).filter(|(_, name)| !known.contains(name));
            unknown.extend(missing.map(|(role, name)| {
                let step_id = step.id().unwrap_or_default().to_owned();
                let similar = nearest(name, known.iter().copied()).map(str::to_owned);
                let source = AllocatorError::NotRegistered { step_id, name: shorten(name), similar };
                (locate::callable(index, role), PlanFileFault::Callable(source))
            }));
        }
        if unknown.is_empty() { Ok(()) } else { Err(self.tell(unknown.into_iter())) }
    }

    /// An error that tells where in the file these stand: what an allocator has found.
    #[must_use]
    pub fn locate(&self, errors: impl IntoIterator<Item = ResolveError>) -> PlanFileError {
        let mut told = HashMap::new();
        self.tell(errors.into_iter().flat_map(|error| {
            let ResolveError { index, source, .. } = error;
            match source {
                // Each part of an input has a place of its own.
                AllocatorError::Input { step_id, name, faults } => {
                    let one = |fault: InputFault| {
                        let way = locate::input(index, &fault.path);
                        let (step_id, name) = (step_id.clone(), name.clone());
                        let source = AllocatorError::Input { step_id, name, faults: vec![fault] };
                        (way, PlanFileFault::Callable(source))
                    };
                    faults.into_iter().map(one).collect()
                }
                AllocatorError::NotRegistered { ref name, .. } => {
                    // A name that the step has several times is told of as often, in the same order.
                    let before: &mut usize = told.entry((index, name.clone())).or_default();
                    let step = self.plan.steps().get(index);
                    let same = step.into_iter().flat_map(used).filter(|(_, used)| used == name);
                    let role = same.map(|(role, _)| role).nth(*before).flatten();
                    *before += 1;
                    vec![(locate::callable(index, role), PlanFileFault::Callable(source))]
                }
                _ => vec![(locate::step(index, &["with"]), PlanFileFault::Callable(source))],
            }
        }))
    }

    fn tell(&self, wrong: impl Iterator<Item = (Vec<Segment>, PlanFileFault)>) -> PlanFileError {
        let source = Source::new(&self.text);
        let mut faults = Faults::new(&source);
        // Read once more, rather than to keep the places of every plan for the few that need them.
        let root = parse(&self.text, self.format).unwrap_or_else(|_| Node::of(&serde_json::Value::Null));
        for (way, fault) in wrong {
            faults.add(root.find(&way), fault);
        }
        invalid(&source, faults, self.path.clone())
    }
}

impl Plan {
    /// Reads a plan file; its name tells the format: `.yaml`, `.yml`, `.toml` or `.json`. See
    /// [`plan_files`](crate::plan_files) for what it may say, and [`PlanFile`] to keep the places of what it does.
    ///
    /// # Errors
    /// The file cannot be read, or is not a valid plan: see [`PlanFileError`].
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, PlanFileError> {
        PlanFile::from_path(path).map(PlanFile::into_plan)
    }

    /// Reads a plan from a text.
    ///
    /// ```
    /// use lunacore::{Plan, PlanFormat};
    ///
    /// let plan = Plan::from_text(
    ///     r#"
    ///     name = "nightly"
    ///     [[steps]]
    ///     id = "fetch"
    ///     uses = "shell"
    ///     with.script = "curl --fail https://example.org/data.csv"
    ///     retry = 5
    ///     timeout = "30s"
    ///     "#,
    ///     PlanFormat::Toml,
    /// )?;
    /// assert_eq!(plan.get_name(), Some("nightly"));
    /// # Ok::<(), lunacore::PlanFileError>(())
    /// ```
    ///
    /// # Errors
    /// The text is too large, or not a valid plan: see [`PlanFileError`].
    pub fn from_text(text: &str, format: PlanFormat) -> Result<Self, PlanFileError> {
        PlanFile::from_text(text, format).map(PlanFile::into_plan)
    }
}

/// The names of the callables that a step leaves to an allocator: its own first, which has no role.
fn used(step: &Step) -> impl Iterator<Item = (Option<Role>, &str)> {
    // One that only waits calls nothing.
    let own = step.callable_name().filter(|_| step.wait().is_none()).map(|name| (None, name));
    let others = Role::ALL.into_iter().filter_map(|role| Some((Some(role), step.callable_of(role)?)));
    own.into_iter().chain(others)
}

fn parse(text: &str, format: PlanFormat) -> Result<Node, Vec<Syntax>> {
    if text.trim().is_empty() {
        return Ok(Node::of(&serde_json::Value::Null));
    }
    match format {
        PlanFormat::Yaml => read_yaml::read(text).map_err(|error| vec![error]),
        PlanFormat::Toml => read_toml::read(text),
        PlanFormat::Json => read_json::read(text).map_err(|error| vec![error]),
    }
}

/// The error with all that was found, in the order of the file.
fn invalid(source: &Source<'_>, faults: Faults<'_>, path: Option<PathBuf>) -> PlanFileError {
    let (mut found, more) = faults.into_parts();
    found.sort_by_key(|(at, _)| *at);
    let problem = |(at, fault)| PlanFileProblem::new(source.place(at), fault);
    PlanFileError::Invalid { path, problems: found.into_iter().map(problem).collect(), more }
}

fn one(text: &str, path: Option<PathBuf>, at: usize, fault: PlanFileFault) -> PlanFileError {
    let source = Source::new(text);
    let mut faults = Faults::new(&source);
    faults.add(u32::try_from(at).unwrap_or(u32::MAX), fault);
    invalid(&source, faults, path)
}

/// All that is wrong with a plan that has no text, as one sentence.
pub(super) fn from_value(value: &serde_json::Value) -> Result<Plan, String> {
    let (root, source) = (Node::of(value), Source::new(""));
    let mut faults = Faults::new(&source);
    let draft = read::plan(&root, &mut faults);
    if draft.complete {
        for problem in draft.plan.problems().into_iter().take(MAX_PLAN_FILE_PROBLEMS) {
            if locate::way(&problem).is_some() {
                faults.add(0, PlanFileFault::Plan(problem));
            }
        }
    }
    if faults.is_empty() {
        return Ok(draft.plan);
    }
    let (found, _) = faults.into_parts();
    Err(found.iter().map(|(_, fault)| fault.to_string()).collect::<Vec<_>>().join("; "))
}
