//! Artifacts, the records of runs, who may touch them, and what happens when the store fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use actix::prelude::*;
use bytes::Bytes;
use lunacore::limits::{MAX_ARTIFACT_BYTES, MAX_META_BYTES, MAX_PAGE};
use lunacore::{
    Access, Artifact, ArtifactData, Delete, ExecutePlan, Get, GetOutputs, GetRun, IdFault, ListKeys,
    ListRuns, ListVersions, MemoryError, Operation, Output, PlanError, Project, ProjectMemory, Put,
    RunHandle, RunRecord, RunState, Step, StepContext, StepError, SubmitPlan,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use crate::support::*;

fn in_memory() -> Addr<ProjectMemory> {
    ProjectMemory::in_memory().start()
}

pub async fn submit(actors: &Actors, plan: ExecutePlan) -> RunHandle {
    actors.orchestrator.send(SubmitPlan(plan)).await.unwrap().unwrap()
}

pub async fn put(memory: &Addr<ProjectMemory>, put: Put) -> Artifact {
    memory.send(put).await.unwrap().unwrap()
}

pub async fn get(memory: &Addr<ProjectMemory>, get: Get) -> Option<Artifact> {
    memory.send(get).await.unwrap().unwrap()
}

async fn text(memory: &Addr<ProjectMemory>, message: Get) -> Option<String> {
    get(memory, message).await.map(|artifact| artifact.text().unwrap().to_owned())
}

pub async fn versions(memory: &Addr<ProjectMemory>, key: &str) -> Vec<u64> {
    memory.send(ListVersions::new(key)).await.unwrap().unwrap()
}

pub async fn keys(memory: &Addr<ProjectMemory>, list: ListKeys) -> Vec<String> {
    memory.send(list).await.unwrap().unwrap()
}

async fn delete(memory: &Addr<ProjectMemory>, delete: Delete) -> bool {
    memory.send(delete).await.unwrap().unwrap()
}

// Versions.

#[actix::test]
async fn each_put_is_a_new_version_and_all_can_be_read() {
    let memory = in_memory();
    for (version, data) in [(1, "one"), (2, "two"), (3, "three")] {
        assert_eq!(put(&memory, Put::new("k", data)).await.version, version);
    }
    assert_eq!(versions(&memory, "k").await, [1, 2, 3]);
    assert_eq!(text(&memory, Get::latest("k")).await.as_deref(), Some("three"));
    for (version, data) in [(0, None), (1, Some("one")), (2, Some("two")), (3, Some("three")), (4, None)] {
        assert_eq!(text(&memory, Get::version("k", version)).await.as_deref(), data);
    }
}

#[actix::test]
async fn a_key_that_is_not_there_has_no_versions_and_nothing_to_read() {
    let memory = in_memory();
    assert_eq!(get(&memory, Get::latest("k")).await, None);
    assert_eq!(get(&memory, Get::version("k", 1)).await, None);
    assert_eq!(versions(&memory, "k").await, [0; 0]);
}

#[actix::test]
async fn a_version_number_is_not_used_again_while_the_key_lives() {
    let memory = in_memory();
    for _ in 0..3 {
        put(&memory, Put::new("k", "x")).await;
    }
    assert!(delete(&memory, Delete::version("k", 3)).await);
    assert_eq!(get(&memory, Get::latest("k")).await.unwrap().version, 2);
    assert_eq!(put(&memory, Put::new("k", "x")).await.version, 4);
    assert!(delete(&memory, Delete::version("k", 1)).await);
    assert!(delete(&memory, Delete::version("k", 4)).await);
    assert_eq!(put(&memory, Put::new("k", "x")).await.version, 5);
    assert_eq!(versions(&memory, "k").await, [2, 5]);
}

#[actix::test]
async fn versions_start_anew_when_the_last_is_deleted() {
    let memory = in_memory();
    for last in [Delete::version("k", 2), Delete::all("k")] {
        put(&memory, Put::new("k", "x").meta("old", json!(1))).await;
        put(&memory, Put::new("k", "x")).await;
        assert!(delete(&memory, Delete::version("k", 1)).await);
        assert!(delete(&memory, last).await);
        let artifact = put(&memory, Put::new("k", "y")).await;
        assert_eq!((artifact.version, artifact.meta.len()), (1, 0));
        assert!(delete(&memory, Delete::all("k")).await);
    }
}

#[actix::test]
async fn a_delete_takes_one_version_or_all_and_tells_whether_there_was_something() {
    let memory = in_memory();
    for data in ["one", "two", "three"] {
        put(&memory, Put::new("k", data)).await;
    }
    put(&memory, Put::new("other", "x")).await;
    assert!(!delete(&memory, Delete::all("absent")).await);
    assert!(!delete(&memory, Delete::version("absent", 1)).await);
    assert!(!delete(&memory, Delete::version("k", 4)).await);
    assert!(delete(&memory, Delete::version("k", 2)).await);
    assert!(!delete(&memory, Delete::version("k", 2)).await);
    assert_eq!(get(&memory, Get::version("k", 2)).await, None);
    assert_eq!(versions(&memory, "k").await, [1, 3]);
    assert!(delete(&memory, Delete::all("k")).await);
    assert!(!delete(&memory, Delete::all("k")).await);
    assert_eq!(get(&memory, Get::latest("k")).await, None);
    assert_eq!(keys(&memory, ListKeys::new()).await, ["other"]);
}

#[actix::test]
async fn the_results_of_each_execution_are_further_versions() {
    let actors = start();
    for result in ["first", "second"] {
        let plan = ExecutePlan::new([Step::new("process", move || result)]).run_id(result);
        actors.orchestrator.send(plan).await.unwrap().unwrap();
    }
    assert_eq!(versions(&actors.memory, "task:process").await, [1, 2]);
    for (version, result) in [(1, "first"), (2, "second")] {
        let artifact = get(&actors.memory, Get::version("task:process", version)).await.unwrap();
        assert_eq!((artifact.text(), &artifact.run_id), (Some(result), &Some(run_id(result))));
    }
}

// What an artifact says of itself.

#[actix::test]
async fn an_artifact_is_read_as_it_was_answered_to_its_put() {
    let memory = in_memory();
    let before = SystemTime::now() - Duration::from_micros(1);
    let answer = put(&memory, Put::new("k", "x").artifact_type("note").meta("a", json!([1]))).await;
    assert_eq!(get(&memory, Get::latest("k")).await.as_ref(), Some(&answer));
    assert_eq!((&*answer.key, answer.version, &answer.project), ("k", 1, &Project::default()));
    assert_eq!((&*answer.artifact_type, answer.run_id), ("note", None));
    assert_eq!(Value::from(answer.meta), json!({ "a": [1] }));
    assert!(before <= answer.created_at && answer.created_at <= SystemTime::now());
    assert_eq!(answer.id.get_version_num(), 7);
    // The type, where nothing else is said.
    assert_eq!(&*put(&memory, Put::new("k", "y")).await.artifact_type, "data");
}

#[actix::test]
async fn every_version_has_an_id_of_its_own() {
    let memory = in_memory();
    let mut ids = BTreeSet::new();
    for n in 0..100 {
        ids.insert(put(&memory, Put::new(format!("k{}", n % 3), "x")).await.id);
    }
    assert_eq!(ids.len(), 100);
}

#[actix::test]
async fn an_artifact_holds_text_or_bytes() {
    let memory = in_memory();
    let cases: [(ArtifactData, Option<&str>, &[u8]); 6] = [
        ("text ß".into(), Some("text ß"), "text ß".as_bytes()),
        (String::from("owned").into(), Some("owned"), b"owned"),
        ("".into(), Some(""), b""),
        (Bytes::from_static(b"\xff\x00").into(), None, b"\xff\x00"),
        (vec![1, 2].into(), None, &[1, 2]),
        (b"looks like text"[..].into(), None, b"looks like text"),
    ];
    for (data, as_text, as_bytes) in cases {
        put(&memory, Put::new("k", data)).await;
        let artifact = get(&memory, Get::latest("k")).await.unwrap();
        assert_eq!((artifact.text(), artifact.data.as_bytes()), (as_text, as_bytes));
        assert_eq!((artifact.data.len(), artifact.data.is_empty()), (as_bytes.len(), as_bytes.is_empty()));
    }
}

#[test]
fn the_debug_form_of_an_artifact_does_not_show_its_content() {
    assert_eq!(format!("{:?}", ArtifactData::from("secret")), "Text(6 bytes)");
    assert_eq!(format!("{:?}", ArtifactData::from(vec![1, 2, 3])), "Bytes(3 bytes)");
}

#[actix::test]
async fn the_artifact_of_a_step_says_which_step_run_and_time() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let steps = [Step::new("process", || "processed_data"), Step::new("fetch", || 2)];
    actors.orchestrator.send(ExecutePlan::new(steps).run_id("r")).await.unwrap().unwrap();
    let completed = until(&mut events, "task.completed").await.pop().unwrap();
    let process = get(&actors.memory, Get::latest("task:process")).await.unwrap();
    assert_eq!(Value::from(process.meta).to_string(), r#"{"step":0,"step_id":"process"}"#);
    assert_eq!((&*process.artifact_type, process.run_id), ("task_result", Some(run_id("r"))));
    // One commit, one time.
    assert_eq!(process.created_at, completed.timestamp());
    let fetch = get(&actors.memory, Get::latest("task:fetch")).await.unwrap();
    assert_eq!(fetch.text(), Some("2"));
    assert_eq!(Value::from(fetch.meta), json!({ "step": 1, "step_id": "fetch" }));
}

// Meta.

#[actix::test]
async fn a_put_merges_its_meta_over_that_of_the_version_before() {
    let memory = in_memory();
    put(&memory, Put::new("k", "1").meta("author", json!("ada")).meta("pages", json!(1))).await;
    let second =
        put(&memory, Put::new("k", "2").meta("pages", json!({ "a": 1 })).meta("new", json!(null))).await;
    assert_eq!(Value::from(second.meta), json!({ "author": "ada", "pages": { "a": 1 }, "new": null }));
    // The merge is not deep, and the version before stays as it was.
    let third = put(&memory, Put::new("k", "3").meta("pages", json!({ "b": 2 }))).await;
    assert_eq!(Value::from(third.meta), json!({ "author": "ada", "pages": { "b": 2 }, "new": null }));
    let first = get(&memory, Get::version("k", 1)).await.unwrap();
    assert_eq!(Value::from(first.meta), json!({ "author": "ada", "pages": 1 }));
}

#[actix::test]
async fn a_steps_own_meta_is_exact_whatever_was_put_under_its_key_before() {
    let actors = start();
    put(&actors.memory, Put::new("task:process", "x").meta("author", json!("ada"))).await;
    actors.orchestrator.send(ExecutePlan::new([Step::new("process", || "y")])).await.unwrap().unwrap();
    let own = get(&actors.memory, Get::latest("task:process")).await.unwrap();
    assert_eq!((own.version, own.text()), (2, Some("y")));
    assert_eq!(Value::from(own.meta), json!({ "step": 0, "step_id": "process" }));
    // A put after that merges again.
    let after = put(&actors.memory, Put::new("task:process", "z").meta("step", json!("mine"))).await;
    assert_eq!(Value::from(after.meta), json!({ "step": "mine", "step_id": "process" }));
}

#[actix::test]
async fn further_artifacts_of_a_step_have_its_exact_meta_too() {
    let actors = start();
    put(&actors.memory, Put::new("report", "x").meta("author", json!("ada"))).await;
    let step = Step::new("write", |ctx: StepContext| ctx.put_artifact("report", "y"));
    actors.orchestrator.send(ExecutePlan::new([step])).await.unwrap().unwrap();
    let report = get(&actors.memory, Get::latest("report")).await.unwrap();
    assert_eq!((report.version, report.text()), (2, Some("y")));
    assert_eq!(Value::from(report.meta), json!({ "step": 0, "step_id": "write" }));
}

// Listing keys.

#[actix::test]
async fn keys_are_listed_in_order_by_prefix_and_a_page_at_a_time() {
    let memory = in_memory();
    for key in ["b", "task:2", "a", "task:10", "task;", "task:1", "ä"] {
        put(&memory, Put::new(key, "x")).await;
        put(&memory, Put::new(key, "y")).await;
    }
    let list = ListKeys::new;
    let cases: [(ListKeys, &[&str]); 14] = [
        (list(), &["a", "b", "task:1", "task:10", "task:2", "task;", "ä"]),
        (list().prefix("task:"), &["task:1", "task:10", "task:2"]),
        (list().prefix("task:1"), &["task:1", "task:10"]),
        (list().prefix("z"), &[]),
        (list().limit(0), &[]),
        (list().limit(2), &["a", "b"]),
        (list().limit(2).after("b"), &["task:1", "task:10"]),
        (list().prefix("task:").limit(2), &["task:1", "task:10"]),
        (list().prefix("task:").limit(2).after("task:10"), &["task:2"]),
        (list().prefix("task:").after("task:2"), &[]),
        // The key to go on behind need not be there, nor have the prefix.
        (list().after("aa"), &["b", "task:1", "task:10", "task:2", "task;", "ä"]),
        (list().prefix("task:").after("a"), &["task:1", "task:10", "task:2"]),
        (list().prefix("task:").after("z"), &[]),
        (list().after("ä"), &[]),
    ];
    for (list, expected) in cases {
        assert_eq!(keys(&memory, list.clone()).await, expected, "{list:?}");
    }
}

#[actix::test]
async fn a_page_has_at_most_1_000_keys_whatever_is_asked_for() {
    let memory = in_memory();
    for n in 0..=MAX_PAGE {
        put(&memory, Put::new(format!("{n:05}"), "")).await;
    }
    for list in [ListKeys::new(), ListKeys::new().limit(usize::MAX)] {
        let page = keys(&memory, list).await;
        assert_eq!((page.len(), &*page[999]), (1_000, "00999"));
    }
    assert_eq!(keys(&memory, ListKeys::new().after("00999")).await, ["01000"]);
}

// Projects.

#[actix::test]
async fn projects_and_tenants_do_not_see_each_other() {
    let memory = in_memory();
    let places =
        [("default", "default"), ("acme", "web"), ("acme", "default"), ("default", "web"), ("acmew", "eb")];
    for (tenant, project) in places {
        let artifact =
            put(&memory, Put::new("k", format!("{tenant}/{project}")).in_project(tenant, project)).await;
        assert_eq!((artifact.version, artifact.project), (1, Project::new(tenant, project)));
    }
    put(&memory, Put::new("only here", "x").in_project("acme", "web")).await;
    put(&memory, Put::new("k", "2").in_project("acme", "web")).await;
    assert!(delete(&memory, Delete::version("k", 1).in_project("acme", "web")).await);
    assert!(delete(&memory, Delete::all("k").in_project("default", "web")).await);

    let read = |tenant, project| text(&memory, Get::latest("k").in_project(tenant, project));
    assert_eq!(text(&memory, Get::latest("k")).await.as_deref(), Some("default/default"));
    assert_eq!(read("acme", "web").await.as_deref(), Some("2"));
    assert_eq!(read("acme", "default").await.as_deref(), Some("acme/default"));
    assert_eq!(read("default", "web").await, None);
    assert_eq!(read("acmew", "eb").await.as_deref(), Some("acmew/eb"));
    assert_eq!(keys(&memory, ListKeys::new()).await, ["k"]);
    assert_eq!(keys(&memory, ListKeys::new().in_project("acme", "web")).await, ["k", "only here"]);
    let list = ListVersions::new("k").in_project("acme", "web");
    assert_eq!(memory.send(list).await.unwrap().unwrap(), [2]);
}

#[actix::test]
async fn a_plan_stores_its_artifacts_in_its_project_and_nowhere_else() {
    let actors = start();
    let step = Step::new("x", |ctx: StepContext| {
        ctx.put_artifact("further", "y")?;
        Ok::<_, StepError>("result")
    });
    let plan = ExecutePlan::new([step]).in_project("acme", "web");
    actors.orchestrator.send(plan).await.unwrap().unwrap();
    assert_eq!(keys(&actors.memory, ListKeys::new()).await, [""; 0]);
    assert_eq!(keys(&actors.memory, ListKeys::new().in_project("acme", "web")).await, ["further", "task:x"]);
    let artifact = get(&actors.memory, Get::latest("task:x").in_project("acme", "web")).await.unwrap();
    assert_eq!((artifact.text(), &artifact.project), (Some("result"), &Project::new("acme", "web")));
}

// Names and sizes.

#[actix::test]
async fn keys_tenants_and_projects_must_be_valid() {
    let shown = cut(&"x".repeat(513));
    let memory = in_memory();
    let long = "x".repeat(513);
    let get = |key: &str| Get::latest(key);
    let cases = [
        (get(""), "key", "", IdFault::Empty),
        (get(&long), "key", &shown, IdFault::TooLong { bytes: 513, limit: 512 }),
        (get("a\rb"), "key", "a\rb", IdFault::ControlCharacter { character: '\r', at: 1 }),
        (get("k").in_project("", "p"), "tenant", "", IdFault::Empty),
        (get("k").in_project("t", ""), "project", "", IdFault::Empty),
        (
            get("k").in_project("t", "\0"),
            "project",
            "\0",
            IdFault::ControlCharacter { character: '\0', at: 0 },
        ),
        (
            get("k").in_project(&long[..257], "p"),
            "tenant",
            &shown,
            IdFault::TooLong { bytes: 257, limit: 256 },
        ),
    ];
    for (get, expected_what, expected_name, expected_fault) in cases {
        let error = memory.send(get).await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), format!("the {expected_what} {expected_name:?} {expected_fault}"));
        assert!(error.wrote_nothing());
        let MemoryError::InvalidName { what, name, fault } = error else { panic!("{error:?}") };
        assert_eq!((what, &*name, fault), (expected_what, expected_name, expected_fault));
    }
}

#[actix::test]
async fn every_message_checks_its_names() {
    let memory = in_memory();
    let answers: Vec<Result<(), MemoryError>> = vec![
        memory.send(Put::new("", "x")).await.unwrap().map(drop),
        memory.send(Get::latest("")).await.unwrap().map(drop),
        memory.send(Get::version("", 1)).await.unwrap().map(drop),
        memory.send(Delete::all("")).await.unwrap().map(drop),
        memory.send(Put::new("k", "x").in_project("", "p")).await.unwrap().map(drop),
        memory.send(ListVersions::new("k").in_project("", "p")).await.unwrap().map(drop),
        memory.send(ListKeys::new().in_project("t", "")).await.unwrap().map(drop),
        memory.send(Delete::version("k", 1).in_project("t", "")).await.unwrap().map(drop),
    ];
    for (index, answer) in answers.into_iter().enumerate() {
        assert!(matches!(answer, Err(MemoryError::InvalidName { .. })), "{index}: {answer:?}");
    }
    assert_eq!(keys(&memory, ListKeys::new()).await, [""; 0]);
}

#[actix::test]
async fn a_listing_of_versions_checks_its_key() {
    let answer = in_memory().send(ListVersions::new("")).await.unwrap();
    assert!(matches!(answer, Err(MemoryError::InvalidName { .. })), "{answer:?}");
}

#[actix::test]
async fn a_plan_for_an_invalid_project_is_refused_before_anything_runs() {
    let (actors, trace) = (start(), Trace::default());
    let mut events = watch(&actors.bus).await;
    let plan = ExecutePlan::new([noted(&trace, "x")]).in_project("", "web").run_id("r");
    let error = actors.orchestrator.send(plan).await.unwrap().unwrap_err();
    assert_eq!(chain(&error), ["memory could not store run r", r#"the tenant "" is empty"#]);
    assert!(matches!(error, PlanError::Memory { source: MemoryError::InvalidName { .. }, .. }));
    assert_untouched(&actors, &mut events).await;
    assert_eq!(trace.all(), [""; 0]);
}

#[actix::test]
async fn an_artifact_type_must_be_valid() {
    for artifact_type in ["", "a\nb", &"x".repeat(1_000_000)] {
        let answer = in_memory().send(Put::new("k", "x").artifact_type(artifact_type)).await.unwrap();
        assert!(matches!(answer, Err(MemoryError::InvalidName { .. })));
    }
}

#[actix::test]
async fn the_data_of_a_put_has_at_most_16_mebibytes() {
    let memory = in_memory();
    let error = memory.send(Put::new("k", vec![0; MAX_ARTIFACT_BYTES + 1])).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), r#"the artifact "k" has 16777217 bytes, more than 16777216"#);
    assert!(matches!(error, MemoryError::DataTooLarge { bytes: 16_777_217, .. }));
    assert_eq!(versions(&memory, "k").await, [0; 0]);
    assert_eq!(put(&memory, Put::new("k", vec![0; MAX_ARTIFACT_BYTES])).await.data.len(), 16_777_216);
}

#[actix::test]
async fn the_meta_of_a_put_has_at_most_64_kibibytes_of_json() {
    let memory = in_memory();
    // `{"m":"…"}` has eight bytes around the text.
    let with = |bytes: usize| Put::new("k", "x").meta("m", json!("y".repeat(bytes - 8)));
    let error = memory.send(with(MAX_META_BYTES + 1)).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), r#"the meta of artifact "k" has 65537 bytes of JSON, more than 65536"#);
    assert!(matches!(error, MemoryError::MetaTooLarge { bytes: 65_537, .. }));
    assert_eq!(versions(&memory, "k").await, [0; 0]);
    assert_eq!(put(&memory, with(MAX_META_BYTES)).await.version, 1);
}

#[actix::test]
async fn merged_meta_has_at_most_64_kibibytes_of_json_too() {
    let memory = in_memory();
    for name in ["a", "b"] {
        let half = Put::new("k", "x").meta(name, json!("y".repeat(MAX_META_BYTES * 2 / 3)));
        let _ = memory.send(half).await.unwrap();
    }
    let meta = get(&memory, Get::latest("k")).await.unwrap().meta;
    let bytes = serde_json::to_string(&meta).unwrap().len();
    assert!(bytes <= MAX_META_BYTES, "{bytes} bytes");
}

// Access.

/// Memory that denies what `may` denies, and the accesses it was asked about.
fn guarded(may: impl Fn(&Access) -> bool + Send + 'static) -> (ProjectMemory, Arc<Mutex<Vec<Access>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&asked);
    let memory = ProjectMemory::in_memory().access_check(move |access| {
        note.lock().unwrap().push(access.clone());
        may(access)
    });
    (memory, asked)
}

#[actix::test]
async fn an_access_check_is_told_the_project_the_key_and_the_operation() {
    let (memory, asked) = guarded(|_| true);
    let memory = memory.start();
    let web = Project::new("acme", "web");
    put(&memory, Put::new("k", "x").in_project("acme", "web")).await;
    get(&memory, Get::latest("k").in_project("acme", "web")).await;
    memory.send(ListVersions::new("k").in_project("acme", "web")).await.unwrap().unwrap();
    keys(&memory, ListKeys::new().prefix("pre").in_project("acme", "web")).await;
    delete(&memory, Delete::all("k").in_project("acme", "web")).await;
    keys(&memory, ListKeys::new()).await;

    let asked: Vec<(Project, String, Operation)> = asked
        .lock()
        .unwrap()
        .drain(..)
        .map(|access| (access.project, access.key, access.operation))
        .collect();
    let expected = [
        (web.clone(), "k".to_owned(), Operation::Write),
        (web.clone(), "k".to_owned(), Operation::Read),
        (web.clone(), "k".to_owned(), Operation::List),
        (web.clone(), "pre".to_owned(), Operation::List),
        (web, "k".to_owned(), Operation::Delete),
        (Project::default(), String::new(), Operation::List),
    ];
    assert_eq!(asked, expected);
}

/// Tries every operation on the key `k`, and tells how each was answered.
async fn try_all(memory: &Addr<ProjectMemory>) -> Vec<Result<(), String>> {
    let text = |answer: Result<(), MemoryError>| answer.map_err(|error| error.to_string());
    vec![
        text(memory.send(Put::new("k", "x")).await.unwrap().map(drop)),
        text(memory.send(Get::latest("k")).await.unwrap().map(drop)),
        text(memory.send(Get::version("k", 1)).await.unwrap().map(drop)),
        text(memory.send(ListVersions::new("k")).await.unwrap().map(drop)),
        text(memory.send(ListKeys::new().prefix("k")).await.unwrap().map(drop)),
        text(memory.send(Delete::version("k", 9)).await.unwrap().map(drop)),
    ]
}

#[actix::test]
async fn what_an_access_check_denies_is_refused_and_the_rest_is_not() {
    use Operation::{Delete, List, Read, Write};
    let denied = |operation| Err(format!(r#"{operation} access to "k" in default/default is denied"#));
    for only in [Write, Read, List, Delete] {
        let (memory, _) = guarded(move |access| access.operation != only);
        let memory = memory.start();
        let expected: Vec<Result<(), String>> = [Write, Read, Read, List, List, Delete]
            .map(|operation| if operation == only { denied(operation) } else { Ok(()) })
            .into();
        assert_eq!(try_all(&memory).await, expected);
    }
}

#[actix::test]
async fn a_denied_write_or_delete_changes_nothing() {
    let allowed = Arc::new(Mutex::new(true));
    let switch = Arc::clone(&allowed);
    let (memory, _) = guarded(move |access| *switch.lock().unwrap() || access.operation == Operation::Read);
    let memory = memory.start();
    put(&memory, Put::new("k", "kept")).await;
    *allowed.lock().unwrap() = false;
    let error = memory.send(Put::new("k", "x")).await.unwrap().unwrap_err();
    assert!(error.wrote_nothing());
    let MemoryError::AccessDenied { project, key, operation } = error else { panic!("{error:?}") };
    assert_eq!((project, &*key, operation), (Project::default(), "k", Operation::Write));
    memory.send(Delete::all("k")).await.unwrap().unwrap_err();
    assert_eq!(text(&memory, Get::latest("k")).await.as_deref(), Some("kept"));
}

#[actix::test]
async fn an_access_check_that_panics_denies() {
    let (memory, _) = guarded(|access| access.key == "fine" || panic!("broken check"));
    let memory = memory.start();
    let error = memory.send(Put::new("k", "x")).await.unwrap().unwrap_err();
    assert!(matches!(error, MemoryError::AccessDenied { .. }), "{error:?}");
    // The actor is alive, and goes on asking.
    assert_eq!(put(&memory, Put::new("fine", "x")).await.version, 1);
}

#[actix::test]
async fn results_that_may_not_be_read_as_artifacts_may_not_be_read_as_outputs() {
    let (memory, _) = guarded(|access| access.operation != Operation::Read);
    let actors = start_over(memory);
    let plan = ExecutePlan::new([Step::new("x", || "secret")]).in_project("acme", "web").run_id("r");
    actors.orchestrator.send(plan).await.unwrap().unwrap();
    let artifact = actors.memory.send(Get::latest("task:x").in_project("acme", "web")).await.unwrap();
    assert!(matches!(artifact, Err(MemoryError::AccessDenied { .. })));
    assert!(actors.memory.send(GetOutputs(run_id("r"))).await.unwrap().is_err());
}

#[actix::test]
async fn a_plan_that_may_not_write_a_result_is_refused_before_it_runs() {
    let (memory, _) = guarded(|access| access.key != "task:secret" || access.operation != Operation::Write);
    let (actors, trace) = (start_over(memory), Trace::default());
    let mut events = watch(&actors.bus).await;
    let plan = ExecutePlan::new([noted(&trace, "open"), noted(&trace, "secret")]).run_id("r");
    let error = actors.orchestrator.send(plan).await.unwrap().unwrap_err();
    assert_eq!(
        chain(&error),
        ["memory could not store run r", r#"write access to "task:secret" in default/default is denied"#]
    );
    assert!(matches!(error, PlanError::Memory { source: MemoryError::AccessDenied { .. }, .. }));
    assert_untouched(&actors, &mut events).await;
    assert_eq!(trace.all(), [""; 0]);

    // In a project where it may, it runs; so does another plan here.
    actors.orchestrator.send(ExecutePlan::new([noted(&trace, "open")])).await.unwrap().unwrap();
}

#[actix::test]
async fn an_access_check_sees_the_project_of_a_plan() {
    let (memory, asked) = guarded(|access| access.project.tenant() == "acme");
    let (actors, trace) = (start_over(memory), Trace::default());
    let plan = || ExecutePlan::new([noted(&trace, "x")]);
    actors.orchestrator.send(plan()).await.unwrap().unwrap_err();
    actors.orchestrator.send(plan().in_project("acme", "web")).await.unwrap().unwrap();
    assert_eq!(trace.all(), ["x"]);
    let asked = asked.lock().unwrap();
    assert_eq!((asked[1].project.project(), &*asked[1].key), ("web", "task:x"));
    assert_eq!(asked[1].operation, Operation::Write);
}

// Runs.

/// A step that notes its id when it is called.
pub fn noted(trace: &Trace, id: &str) -> Step {
    let (trace, note) = (trace.clone(), id.to_owned());
    Step::new(id, move || trace.note(note.clone()))
}

pub async fn record(memory: &Addr<ProjectMemory>, id: &str) -> Option<RunRecord> {
    memory.send(GetRun(run_id(id))).await.unwrap().unwrap()
}

async fn outputs(memory: &Addr<ProjectMemory>, id: &str) -> Option<Vec<Value>> {
    let outputs = memory.send(GetOutputs(run_id(id))).await.unwrap().unwrap();
    outputs.map(|outputs| outputs.iter().map(Output::to_value).collect())
}

#[actix::test]
async fn memory_knows_a_run_from_its_acceptance_to_its_end() {
    let actors = start();
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&entered), Arc::clone(&release));
    let blocks = Step::new("blocks", move || {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.notify_one();
            wait.notified().await;
            "released"
        }
    });
    let plan = lunacore::Plan::new([Step::new("first", || 1), blocks, Step::new("last", || 3)]).name("demo");
    let run = submit(&actors, ExecutePlan::new(plan).run_id("a")).await;
    let queued = submit(&actors, ExecutePlan::new([Step::new("x", || 1)]).run_id("b")).await;
    entered.notified().await;

    let a = record(&actors.memory, "a").await.unwrap();
    assert_eq!((a.run_id, a.name.as_deref()), (run_id("a"), Some("demo")));
    assert_eq!((a.steps, a.self_contained), (3, false));
    assert_eq!((a.state, a.cursor, a.attempt, a.failure), (RunState::Running, 1, 1, None));
    assert!(a.started_at.is_some() && a.finished_at.is_none());
    assert_eq!(outputs(&actors.memory, "a").await.unwrap(), [1]);
    let b = record(&actors.memory, "b").await.unwrap();
    assert_eq!((b.state, b.cursor, b.attempt, b.name), (RunState::Queued, 0, 0, None));
    assert_eq!((b.started_at, b.finished_at), (None, None));
    assert_eq!(outputs(&actors.memory, "b").await.unwrap(), [Value::Null; 0]);

    release.notify_one();
    run.await.unwrap();
    queued.await.unwrap();
    let a = record(&actors.memory, "a").await.unwrap();
    assert_eq!((a.state, a.cursor), (RunState::Completed, 3));
    assert!(a.accepted_at <= a.started_at.unwrap() && a.started_at <= a.finished_at);
    assert_eq!(outputs(&actors.memory, "a").await.unwrap(), [json!(1), json!("released"), json!(3)]);
    assert_eq!(record(&actors.memory, "b").await.unwrap().state, RunState::Completed);
}

#[actix::test]
async fn the_record_of_a_failed_run_says_where_and_why() {
    let actors = start();
    let steps =
        [Step::new("first", || 1), Step::new("second", || Err::<(), _>("broken")), Step::new("third", || 3)];
    actors.orchestrator.send(ExecutePlan::new(steps).run_id("r")).await.unwrap().unwrap_err();
    let record = record(&actors.memory, "r").await.unwrap();
    assert_eq!((record.state, record.cursor, record.attempt), (RunState::Failed, 1, 1));
    assert_eq!(record.failure.unwrap().message, "broken");
    assert!(record.finished_at.is_some());
    assert_eq!(outputs(&actors.memory, "r").await.unwrap(), [1]);
}

#[actix::test]
async fn a_run_that_is_not_known_has_no_record_and_no_outputs() {
    let memory = in_memory();
    assert_eq!(record(&memory, "r").await, None);
    assert_eq!(outputs(&memory, "r").await, None);
}

#[actix::test]
async fn runs_are_listed_in_the_order_of_their_acceptance() {
    let actors = start();
    for id in ["c", "a", "b"] {
        actors.orchestrator.send(ExecutePlan::new([]).run_id(id)).await.unwrap().unwrap();
    }
    for (after, expected) in [
        (None, vec!["c", "a", "b"]),
        (Some("c"), vec!["a", "b"]),
        (Some("b"), vec![]),
        (Some("absent"), vec![]),
    ] {
        let page = actors.memory.send(ListRuns::new(after.map(run_id))).await.unwrap().unwrap();
        let ids: Vec<&str> = page.iter().map(|record| record.run_id.as_str()).collect();
        assert_eq!(ids, expected, "after {after:?}");
    }
}

// A model of the versions of keys.

#[derive(Debug, Clone)]
enum Op {
    Put(u8, String, Option<(u8, u8)>),
    DeleteVersion(u8, u64),
    DeleteAll(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0_u8..3;
    prop_oneof![
        4 => (key.clone(), "[a-z]{0,3}", proptest::option::of((0_u8..3, any::<u8>())))
            .prop_map(|(key, data, meta)| Op::Put(key, data, meta)),
        3 => (key.clone(), 0_u64..8).prop_map(|(key, version)| Op::DeleteVersion(key, version)),
        1 => key.prop_map(Op::DeleteAll),
    ]
}

/// The kept versions of a key, and the largest that it has had.
#[derive(Default)]
struct Model {
    last: u64,
    kept: BTreeMap<u64, (String, Map<String, Value>)>,
}

/// Does the same to the model as to memory, and compares the answers.
async fn apply(memory: &Addr<ProjectMemory>, model: &mut BTreeMap<String, Model>, op: Op) {
    match op {
        Op::Put(key, data, meta) => {
            let key = format!("k{key}");
            let mut message = Put::new(key.clone(), data.clone());
            let versions = model.entry(key).or_default();
            let mut merged =
                versions.kept.values().next_back().map(|(_, meta)| meta.clone()).unwrap_or_default();
            if let Some((name, value)) = meta {
                message = message.meta(name.to_string(), json!(value));
                merged.insert(name.to_string(), json!(value));
            }
            versions.last += 1;
            versions.kept.insert(versions.last, (data, merged.clone()));
            let answer = put(memory, message).await;
            assert_eq!((answer.version, answer.meta), (versions.last, merged));
        }
        Op::DeleteVersion(key, version) => {
            let key = format!("k{key}");
            let there = model.get_mut(&key).is_some_and(|versions| versions.kept.remove(&version).is_some());
            if model.get(&key).is_some_and(|versions| versions.kept.is_empty()) {
                model.remove(&key);
            }
            assert_eq!(delete(memory, Delete::version(key, version)).await, there);
        }
        Op::DeleteAll(key) => {
            let key = format!("k{key}");
            let there = model.remove(&key).is_some();
            assert_eq!(delete(memory, Delete::all(key)).await, there);
        }
    }
}

#[test]
fn any_history_of_puts_and_deletes_reads_like_its_model() {
    let config = ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
    let system = System::new();
    let checked = TestRunner::new(config).run(&proptest::collection::vec(op(), 1..40), |ops| {
        system.block_on(async {
            let (memory, mut model) = (in_memory(), BTreeMap::new());
            for op in ops {
                apply(&memory, &mut model, op).await;
                assert_eq!(keys(&memory, ListKeys::new()).await, model.keys().cloned().collect::<Vec<_>>());
                for (key, expected) in &model {
                    let kept: Vec<u64> = expected.kept.keys().copied().collect();
                    assert_eq!(versions(&memory, key).await, kept);
                    for (version, (data, meta)) in &expected.kept {
                        let artifact = get(&memory, Get::version(key, *version)).await.unwrap();
                        assert_eq!((artifact.text(), &artifact.meta), (Some(&**data), meta));
                    }
                    let latest = get(&memory, Get::latest(key)).await.unwrap().version;
                    assert_eq!(Some(&latest), kept.last());
                }
            }
        });
        Ok(())
    });
    checked.unwrap();
}
