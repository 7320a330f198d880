//! The shape of the source: which folder may import which, how long a file may be, and what no file may do.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up: a folder (or file) may import those in the rows above its own, and nothing else. The last column
/// tells whether it may name actix.
const ORDER: [(&str, bool); 20] = [
    ("limits", false),
    ("isolate", false),
    ("causes", false),
    ("clock", false),
    ("id", false),
    ("json", false),
    ("project", false),
    ("run", false),
    ("resilience", false),
    ("artifact", false),
    ("secrets", false),
    ("expression", false),
    ("plan", false),
    ("event", false),
    ("bus", true),
    ("memory", true),
    ("allocator", true),
    ("plan_file", false),
    ("orchestrator", true),
    ("testing", false),
];

/// What may import everything. The command is a crate of its own, which may import `lunacore`: see below.
const ROOTS: [&str; 4] = ["engine", "lib", "from_python", "bin"];

/// Actor files: only the file that makes a folder's face and its own folder may name them.
const ACTORS: [(&str, &str); 5] = [
    ("bus", "EventBus"),
    ("memory", "ProjectMemory"),
    ("allocator", "SimpleAllocator"),
    ("allocator", "RegistryAllocator"),
    ("orchestrator", "ExecutionOrchestrator"),
];

const MAX_LINES: usize = 400;

struct Source {
    path: PathBuf,
    /// The folder below `src`, or the file's own name.
    place: String,
    /// Without comments and without the unit tests at the end.
    code: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // Documents and schemas lie beside what they are about, and import nothing.
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let first = path.strip_prefix(&root).unwrap().iter().next().unwrap();
            let place = Path::new(first).file_stem().unwrap().to_str().unwrap().to_owned();
            let code = text.split("#[cfg(test)]").next().unwrap().lines();
            let code =
                code.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            found.push(Source { path, place, code, lines: text.lines().count() });
        }
    }
    assert!(found.len() > 30, "the sources are elsewhere");
    found
}

fn rank(place: &str) -> Option<usize> {
    ORDER.iter().position(|(name, _)| *name == place)
}

/// The places named by `crate::place`; what a macro names as `$crate::place` its users import.
fn imports(code: &str) -> impl Iterator<Item = &str> {
    let named = code.match_indices("crate::").filter(|(at, _)| !code[..*at].ends_with('$'));
    named.map(|(at, prefix)| {
        let rest = &code[at + prefix.len()..];
        rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()
    })
}

#[test]
fn imports_run_one_way() {
    for source in sources() {
        if ROOTS.contains(&source.place.as_str()) {
            continue;
        }
        let own = rank(&source.place).unwrap_or_else(|| panic!("{} has no row in ORDER", source.place));
        for import in imports(&source.code).filter(|import| *import != source.place) {
            let other = rank(import).unwrap_or_else(|| panic!("{:?} imports crate::{import}", source.path));
            assert!(other < own, "{:?} imports crate::{import}, which stands above it", source.path);
        }
    }
}

#[test]
fn the_command_goes_through_the_public_api() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/lunacore");
    let command: Vec<_> = sources().into_iter().filter(|source| source.place == "bin").collect();
    assert!(command.len() > 5, "the command is elsewhere");
    for source in command {
        assert!(source.path.starts_with(&root), "{:?} is no part of the command", source.path);
        for reach in ["#[path", "include!", "lunacore::testing"] {
            assert!(!source.code.contains(reach), "{:?} reaches for more with {reach}", source.path);
        }
        for import in imports(&source.code) {
            let own = root.join(import).is_dir() || root.join(import).with_extension("rs").is_file();
            assert!(own, "{:?} imports crate::{import}, which is no part of the command", source.path);
        }
    }
}

#[test]
fn pure_places_name_no_actor_framework() {
    for source in sources() {
        let pure = ORDER.iter().any(|(name, actix)| *name == source.place && !actix);
        let pure_file = [
            "machine.rs",
            "line.rs",
            "queue.rs",
            "backlog.rs",
            "store.rs",
            "volatile.rs",
            "status.rs",
            "claims.rs",
            "kept_signals.rs",
            "waits.rs",
            "account.rs",
        ];
        if pure || pure_file.iter().any(|name| source.path.ends_with(name)) {
            assert!(!source.code.contains("actix"), "{:?} names actix", source.path);
        }
    }
}

#[test]
fn no_actor_names_another_actor() {
    for source in sources().iter().filter(|source| !ROOTS.contains(&source.place.as_str())) {
        for (place, actor) in ACTORS.iter().filter(|(place, _)| *place != source.place) {
            assert!(!source.code.contains(actor), "{:?} names {actor} of {place}", source.path);
        }
    }
}

#[test]
fn files_stay_short() {
    for source in sources() {
        assert!(
            source.lines <= MAX_LINES,
            "{:?} has {} lines, more than {MAX_LINES}",
            source.path,
            source.lines
        );
    }
}

#[test]
fn a_folder_face_holds_no_logic() {
    for source in sources().iter().filter(|source| source.path.ends_with("mod.rs")) {
        assert!(!source.code.contains("fn "), "{:?} has a function", source.path);
    }
}
