//! `lunacore gc`: the store is opened for running, and nothing is run.

use std::path::Path;
use std::time::SystemTime;

use lunacore::limits::COLLECT_ROWS;
use lunacore::{Collected, Durability, Retention, SqliteStore, Store};
use serde_json::json;

use crate::args::Gc;
use crate::exit::{Exit, Failure};
use crate::json::without_nulls;
use crate::screen::Screen;
use crate::store;

pub(crate) fn gc(gc: &Gc, screen: &mut Screen) -> Result<Exit, Failure> {
    let (path, retention) = (&gc.source.store, gc.retention());
    if retention.keeps_everything() && !gc.vacuum {
        return Err(Failure::invalid(
            "nothing is to be removed: say what to keep, such as --keep-runs-for 30d",
        ));
    }
    // Before the store is opened for running, which would make one that is missing.
    drop(store::open(path)?);
    let mut store = SqliteStore::open(path)?;
    let collected = collect(&mut store, &retention, gc.dry_run)?;
    let sizes = match gc.vacuum {
        true => Some(vacuum(store, path)?),
        false => None,
    };
    if gc.source.json {
        screen.json(&without_nulls(json!({
            "runs": collected.runs,
            "versions": collected.versions,
            "events": collected.events,
            "dry_run": gc.dry_run.then_some(true),
            "bytes_before": sizes.map(|(before, _)| before),
            "bytes": sizes.map(|(_, after)| after),
        })))?;
        return Ok(Exit::Done);
    }
    let would = if gc.dry_run { "would remove" } else { "removed" };
    let (runs, versions) = (counted(collected.runs, "run"), counted(collected.versions, "version"));
    let events = counted(collected.events, "event");
    screen.line(format!("{would} {runs}, {versions} of artifacts, and {events}"))?;
    if let Some((before, after)) = sizes {
        screen.line(format!("the file has {after} bytes; it had {before}"))?;
    }
    Ok(Exit::Done)
}

/// To the end. What is only to be told is done in one batch, which is never ended.
fn collect(store: &mut SqliteStore, retention: &Retention, dry_run: bool) -> Result<Collected, Failure> {
    let (mut all, now) = (Collected::default(), SystemTime::now());
    if dry_run {
        store.begin(Durability::Relaxed)?;
        return Ok(store.collect(retention, now, usize::MAX)?);
    }
    loop {
        store.begin(Durability::Relaxed)?;
        all = all.and(store.collect(retention, now, COLLECT_ROWS)?);
        store.end()?;
        if !all.more {
            return Ok(all);
        }
    }
}

/// Closed once it is done: only then is the file as small as it gets. Answers its size before and after.
fn vacuum(mut store: SqliteStore, path: &Path) -> Result<(u64, u64), Failure> {
    let size = || std::fs::metadata(path).map(|metadata| metadata.len()).unwrap_or_default();
    let before = size();
    store.vacuum()?;
    drop(store);
    Ok((before, size()))
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
