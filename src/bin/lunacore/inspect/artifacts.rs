//! `lunacore artifacts`.

use std::time::SystemTime;

use lunacore::{Artifact, Project, Reader};
use serde_json::json;

use crate::args::Artifacts;
use crate::exit::{Exit, Failure};
use crate::json;
use crate::screen::{Screen, clean, fit};
use crate::store::{self, PAGE};
use crate::table::Table;
use crate::times::{relative, rfc3339};

/// How many keys are described at a time. Each takes a look at its artifact, which may be large.
const ROWS: usize = 100;

/// How much of a key a row shows.
const KEY: usize = 48;

pub(crate) fn artifacts(artifacts: &Artifacts, screen: &mut Screen) -> Result<Exit, Failure> {
    let reader = store::open(&artifacts.source.store)?;
    let project = Project::new(&*artifacts.tenant, &*artifacts.project);
    match &artifacts.key {
        None => list(&reader, &project, artifacts.source.json, screen)?,
        Some(key) => {
            let found = reader.artifact(&project, key, artifacts.version)?;
            let artifact = found.ok_or_else(|| missing(&reader, &project, key, artifacts.version))?;
            write(&artifact, artifacts.source.json, screen)?;
        }
    }
    Ok(Exit::Done)
}

/// The data as it is. On a terminal a line is ended that has no end, so that the prompt does not follow it.
fn write(artifact: &Artifact, json: bool, screen: &mut Screen) -> Result<(), Failure> {
    if json {
        return screen.json(&json::artifact(artifact));
    }
    let bytes = artifact.data.as_bytes();
    screen.bytes(bytes)?;
    if screen.is_terminal && !bytes.ends_with(b"\n") {
        screen.bytes(b"\n")?;
    }
    Ok(())
}

fn list(reader: &dyn Reader, project: &Project, as_json: bool, screen: &mut Screen) -> Result<(), Failure> {
    let now = SystemTime::now();
    let mut rows = Table::new(&["KEY", "VERSIONS", "TYPE", "BYTES", "STORED"], screen);
    let mut after: Option<String> = None;
    loop {
        let keys = reader.keys(project, "", after.as_deref(), ROWS)?;
        let Some(last) = keys.last() else { return Ok(()) };
        after = Some(last.clone());
        for key in keys {
            // Somebody may delete it meanwhile.
            let Some(latest) = reader.artifact(project, &key, None)? else { continue };
            let versions = reader.versions(project, &key)?;
            if as_json {
                screen.json(&json!({
                    "key": key,
                    "versions": versions,
                    "artifact_type": latest.artifact_type,
                    "bytes": latest.data.len(),
                    "created_at": rfc3339(latest.created_at),
                }))?;
                continue;
            }
            rows.add(vec![
                fit(&key, KEY, screen.style),
                spans(&versions),
                fit(&latest.artifact_type, KEY, screen.style),
                latest.data.len().to_string(),
                relative(latest.created_at, now),
            ]);
        }
        if !as_json {
            rows.write(screen)?;
        }
    }
}

/// `1-3, 5`: the versions that are there.
fn spans(versions: &[u64]) -> String {
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for version in versions {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == *version => *last = *version,
            _ => spans.push((*version, *version)),
        }
    }
    let told = spans.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    told.collect::<Vec<_>>().join(", ")
}

/// What there is instead: other versions of the key, or keys that look alike.
fn missing(reader: &dyn Reader, project: &Project, key: &str, version: Option<u64>) -> Failure {
    match near(reader, project, key, version) {
        Ok(hint) => {
            let version = version.map_or_else(String::new, |version| format!(" in version {version}"));
            Failure::invalid(format!("there is no artifact {}{version}{hint}", clean(key)))
        }
        Err(failure) => failure,
    }
}

fn near(reader: &dyn Reader, project: &Project, key: &str, version: Option<u64>) -> Result<String, Failure> {
    let versions = reader.versions(project, key)?;
    if version.is_some() && !versions.is_empty() {
        return Ok(format!("; there are the versions {}", spans(&versions)));
    }
    let result = format!("task:{key}");
    let mut best: Option<(f64, String)> = None;
    let mut after: Option<String> = None;
    loop {
        let keys = reader.keys(project, "", after.as_deref(), PAGE)?;
        let Some(last) = keys.last() else { break };
        after = Some(last.clone());
        for other in keys {
            let likeness = strsim::jaro_winkler(&other, key).max(strsim::jaro_winkler(&other, &result));
            if likeness > best.as_ref().map_or(0.85, |(likeness, _)| *likeness) {
                best = Some((likeness, other));
            }
        }
    }
    Ok(match best {
        Some((_, key)) => format!("; did you mean {}?", clean(&key)),
        None => "; `lunacore artifacts` lists all".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::spans;

    #[test]
    fn versions_in_a_row_are_told_as_a_span() {
        assert_eq!(spans(&[1]), "1");
        assert_eq!(spans(&[1, 2, 3, 5, 7, 8]), "1-3, 5, 7-8");
        assert_eq!(spans(&[]), "");
    }
}
