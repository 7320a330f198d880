//! `lunacore gc`.

use std::path::Path;
use std::time::SystemTime;

use lunacore::*;

use crate::support::*;

fn runs(dir: &Path) -> Vec<String> {
    let listed = json_lines(&out(dir, &["list", "--json"]));
    listed.iter().map(|run| run["run_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn gc_removes_what_is_not_to_be_kept_and_tells_how_much() {
    let (dir, _) = history();
    let dir = dir.path();
    let all = ["etl-1", "etl-2", "audit", "hold", "waiting"];
    let would = out(dir, &["gc", "--keep-runs", "1", "--keep-versions", "1", "--dry-run"]);
    assert!(would.starts_with("would remove 3 runs, 1 version of artifacts, and "), "{would}");
    assert_eq!(runs(dir), all, "that was only said");
    let told = out(dir, &["gc", "--keep-runs", "1", "--keep-versions", "1"]);
    assert_eq!(told.strip_prefix("removed"), would.strip_prefix("would remove"));
    assert_eq!(runs(dir), ["hold", "waiting"]);
    assert_eq!(out(dir, &["artifacts", "report"]), "two rows\n", "the artifacts of a run outlive it");
    assert!(error(dir, 2, &["show", "etl-1"]).contains("there is no run etl-1"));
    let nothing = out(dir, &["gc", "--keep-runs", "1", "--json"]);
    assert_eq!(json_lines(&nothing)[0], serde_json::json!({ "runs": 0, "versions": 0, "events": 0 }));
}

#[test]
fn gc_goes_by_time_too() {
    let (dir, _) = history();
    let dir = dir.path();
    // The year 2026 has begun some days ago, whatever the clock of this machine says.
    let since = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_767_225_600);
    let long = format!("{}s", SystemTime::now().duration_since(since).unwrap().as_secs() + 100);
    assert!(
        out(dir, &["gc", "--keep-runs-for", &long, "--keep-events-for", &long])
            .starts_with("removed 0 runs, 0 v")
    );
    let told = json_lines(&out(dir, &["gc", "--keep-events-for", "1h", "--json"]));
    assert_eq!((&told[0]["runs"], told[0]["events"].as_u64().unwrap() > 20), (&0.into(), true));
    assert_eq!(runs(dir).len(), 5);
    let told = json_lines(&out(dir, &["gc", "--keep-runs-for", "1h", "--json"]));
    assert_eq!(told[0]["runs"], 3, "but for that of the last event");
    assert_eq!(runs(dir), ["hold", "waiting"]);
    assert!(out(dir, &["show", "hold"]).contains("completed"));
}

#[test]
fn gc_gives_the_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, path) = (dir.path(), dir.path().join("runs.db"));
    let store = SqliteStore::open(&path).unwrap().durability(Durability::Relaxed);
    actix::System::new().block_on(async move {
        let engine = Engine::builder().memory(ProjectMemory::with_store(store)).start().unwrap();
        for _ in 0..50 {
            engine.execute([Step::new("s", || "x".repeat(10_000))]).await.unwrap();
        }
        engine.shutdown(Shutdown::now()).await;
    });
    let told =
        &json_lines(&out(dir, &["gc", "--keep-runs", "1", "--keep-versions", "1", "--vacuum", "--json"]))[0];
    assert_eq!((&told["runs"], &told["versions"]), (&49.into(), &49.into()));
    let (before, after) = (told["bytes_before"].as_u64().unwrap(), told["bytes"].as_u64().unwrap());
    assert_eq!(after, std::fs::metadata(&path).unwrap().len());
    assert!(after * 3 < before, "{after} of {before}");
    assert!(out(dir, &["gc", "--vacuum"]).contains(&format!("the file has {after} bytes; it had {after}")));
}

#[test]
fn gc_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert!(error(dir, 2, &["gc"]).contains("say what to keep"));
    assert!(error(dir, 3, &["gc", "--keep-runs", "1"]).contains("there is no store"));
    assert!(!dir.join("runs.db").exists());
    for wrong in [["--keep-versions", "0"], ["--keep-runs-for", "long"], ["--keep-runs", "many"]] {
        assert!(error(dir, 2, &["gc", wrong[0], wrong[1]]).contains(wrong[0]));
    }
    assert!(error(dir, 2, &["gc", "--vacuum", "--dry-run"]).contains("--dry-run"));
    let store = SqliteStore::open(dir.join("runs.db")).unwrap();
    assert!(error(dir, 3, &["gc", "--keep-runs", "1"]).contains("in use"));
    drop(store);
}
