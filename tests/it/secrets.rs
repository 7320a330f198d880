//! Secrets: where they are found, and that they are found nowhere else. A canary is looked for in every place that a run leaves
//! anything in.

use std::sync::{Arc, Mutex};

use lunacore::testing::SharedStore;
use lunacore::{
    Engine, ExecutePlan, Get, OnFailure, Output, PlanError, ProjectMemory, RecordedError, RegistryAllocator,
    ResolveStep, Retry, RetryOutcome, RetryRun, RunState, SecretError, Secrets, Shutdown, Signal, Step,
    StepContext, StepError, StepOutcome, SubscribeStream, VolatileStore,
};
use serde_json::{Value, json};

use crate::logging::Capture;
use crate::support::{chain, run_id};

/// With what JSON, `Debug`, addresses and base64 write in other ways.
const CANARY: &str = "can\"ary/ü 4711";

fn given() -> Secrets {
    Secrets::given([("TOKEN", CANARY), ("PIN", "47114711")])
}

/// All ways in which the canary, or a part of it, may look.
fn leaks(text: &str) -> bool {
    use base64::Engine as _;
    let base64 = base64::prelude::BASE64_STANDARD.encode(CANARY);
    ["can\"ary", "can\\\"ary", "ary/ü", "ary/\\u", "can%22ary", &base64[..8], "47114711"]
        .iter()
        .any(|form| text.contains(form))
}

fn read(ctx: &StepContext) -> String {
    ctx.input::<Value>().unwrap()["token"].as_str().unwrap().to_owned()
}

#[derive(Debug, thiserror::Error)]
#[error("refused: {token}")]
struct Refused {
    token: String,
    source: Inner,
}

#[derive(Debug, thiserror::Error)]
#[error("because of {0}")]
struct Inner(String);

/// Fails with a message that says nothing; only `Debug` does.
#[derive(Debug, thiserror::Error)]
#[error("refused")]
struct Quiet {
    #[allow(dead_code, reason = "shown by Debug")]
    token: String,
}

/// Every way out of a step.
fn callables() -> RegistryAllocator {
    RegistryAllocator::new()
        .register("leak", |ctx: StepContext| {
            let token = read(&ctx);
            ctx.progress(json!({ "line": format!("uses {token}"), token.clone(): 1 }))?;
            ctx.put_artifact(format!("file-{token}"), format!("content {token}"))?;
            ctx.put_artifact("raw", format!("\0{token}\0").into_bytes())?;
            let pin: u64 = ctx.input::<Value>()?["pin"].as_str().unwrap_or_default().parse()?;
            Ok::<_, StepError>(
                json!({ "a": [token.clone()], token.clone(): { "debug": format!("{token:?}") }, "pin": pin }),
            )
        })
        .register("bytes", |ctx: StepContext| bytes::Bytes::from(format!("\0{}", read(&ctx))))
        .register("fail", |ctx: StepContext| -> Result<(), StepError> {
            let token = read(&ctx);
            Err(Refused { source: Inner(token.clone()), token }.into())
        })
        .register("fail quietly", |ctx: StepContext| -> Result<(), StepError> {
            Err(StepError::fatal(Quiet { token: read(&ctx) }))
        })
        .register("panic", |ctx: StepContext| -> () { panic!("no good: {}", read(&ctx)) })
        .register("rescue", |ctx: StepContext| ctx.failure().map(|failure| failure.message.clone()))
        .register("later", |ctx: StepContext| ctx.output::<Value>("leak"))
        .register("own secret", || CANARY)
}

fn template() -> Value {
    json!({ "token": "${{ secrets.TOKEN }}", "pin": "${{ secrets.PIN }}" })
}

fn leaky(id: &'static str, uses: &'static str) -> Step {
    Step::named(id).uses(uses).with(template())
}

fn engine(memory: ProjectMemory) -> Engine {
    Engine::builder().memory(memory).allocator(callables()).secrets(given()).start().unwrap()
}

/// Runs a plan that leaks in every way, and gives all that anybody could see of it.
async fn everything(engine: &Engine) -> Vec<String> {
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&events);
    engine
        .subscribe("*", move |event: lunacore::Event| {
            sink.lock()
                .unwrap()
                .push(format!("{event} {event:?} {}", serde_json::to_string(&event).unwrap()));
        })
        .await
        .unwrap();
    let steps = vec![
        leaky("leak", "leak"),
        leaky("bytes", "bytes"),
        leaky("fail", "fail")
            .retry(Retry::fixed(std::time::Duration::ZERO).max_attempts(2))
            .on_failure(OnFailure::Continue),
        leaky("panic", "panic").on_failure(OnFailure::fallback_named("rescue")),
        Step::named("later"),
        Step::named("own secret"),
        leaky("quiet", "fail quietly").escalate_on_failure(),
    ];
    let failed = engine.execute(ExecutePlan::new(steps.clone()).run_id("canary")).await.unwrap_err();
    let mut seen = vec![format!("{failed} {failed:?}")];
    seen.extend(chain(&failed));
    let info = engine.status(&run_id("canary")).await.unwrap();
    assert_eq!(info.state, RunState::Failed);
    seen.push(format!("{info:?}"));
    seen.extend(steps.iter().map(|step| format!("{step:?}")));
    for key in engine.memory().send(lunacore::ListKeys::new()).await.unwrap().unwrap() {
        let artifact = engine.memory().send(Get::latest(key.as_str())).await.unwrap().unwrap().unwrap();
        seen.push(format!("{key} {} {artifact:?}", String::from_utf8_lossy(artifact.data.as_bytes())));
    }
    let completed =
        engine.memory().send(lunacore::GetOutputs(run_id("canary"))).await.unwrap().unwrap().unwrap();
    seen.extend(completed.iter().map(|output: &Output| format!("{output:?} {}", output.to_text())));
    engine.bus().send(lunacore::Flush::default()).await.unwrap().unwrap();
    seen.append(&mut events.lock().unwrap());
    seen
}

#[actix::test]
async fn a_secret_is_in_no_place_that_a_run_leaves_anything_in() {
    let log = Capture::start("canary");
    let engine = engine(ProjectMemory::in_memory());
    let seen = everything(&engine).await;
    assert!(seen.len() > 40, "only {} places", seen.len());
    for text in &seen {
        assert!(!leaks(text), "{text}");
    }
    // What is told is told all the same.
    for expected in
        ["uses ***", "content ***", "refused: ***", "because of ***", "panicked: no good: ***", "file-***"]
    {
        assert!(seen.iter().any(|text| text.contains(expected)), "{expected}");
    }
    for line in log.ours(log::Level::Trace) {
        let line = format!("{line:?}");
        assert!(!leaks(&line), "{line}");
    }
    engine.shutdown(Shutdown::now()).await;
}

#[cfg(feature = "sqlite")]
#[actix::test]
async fn a_secret_is_in_no_file_of_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(ProjectMemory::open(dir.path().join("runs.db")).unwrap());
    everything(&engine).await;
    let mut read = 0;
    // While it runs, there is a log as well.
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        read += bytes.len();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!leaks(&text));
    }
    assert!(read > 10_000);
    engine.shutdown(Shutdown::now()).await;
}

#[actix::test]
async fn the_callable_and_it_alone_has_the_secret() {
    let heard = Arc::new(Mutex::new(String::new()));
    let hears = Arc::clone(&heard);
    let registry = RegistryAllocator::new().register("hear", move |ctx: StepContext| {
        *hears.lock().unwrap() = ctx.input::<String>().unwrap();
        json!([format!("{ctx:?}"), ctx.redact("a 47114711 b"), ctx.redact("nothing")])
    });
    let engine = Engine::builder().allocator(registry).secrets(given()).start().unwrap();
    let step = Step::named("hear").with("${{ secrets.PIN }}").when("secrets.PIN == '47114711'");
    let results = engine.execute([step]).await.unwrap();
    assert_eq!(*heard.lock().unwrap(), "47114711");
    assert_eq!(results[0][1], "a *** b");
    assert_eq!(results[0][2], "nothing");
    assert!(!leaks(&results[0].to_string()));
}

#[actix::test]
async fn an_error_keeps_its_type_and_its_verdict_where_it_shows_no_secret() {
    let registry = RegistryAllocator::new()
        .register("fail", |_: StepContext| -> Result<(), StepError> {
            Err(StepError::fatal(Inner("x".to_owned())))
        })
        .register("leak", |ctx: StepContext| -> Result<(), StepError> {
            Err(StepError::fatal(Inner(ctx.input::<String>()?)))
        });
    let engine = Engine::builder().allocator(registry).secrets(given()).start().unwrap();
    for (uses, kept) in [("fail", true), ("leak", false)] {
        let retried =
            Step::named(uses).with("${{ secrets.TOKEN }}").retry(Retry::fixed(std::time::Duration::ZERO));
        let PlanError::StepFailed { source, attempt, .. } = engine.execute([retried]).await.unwrap_err()
        else {
            panic!()
        };
        // A fatal error is not retried, also where only its messages are left.
        assert_eq!(attempt, 1);
        assert_eq!(source.downcast_ref::<Inner>().is_some(), kept);
        assert_eq!(source.downcast_ref::<RecordedError>().is_some(), !kept);
    }
}

#[actix::test]
async fn a_plan_whose_secret_cannot_be_had_is_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    file("EMPTY", b"\n");
    file("BINARY", b"\xff");
    file("LARGE", &vec![b'x'; 64 * 1024 + 1]);
    std::fs::create_dir(dir.path().join("FOLDER")).unwrap();
    let secrets = Secrets::folder(dir.path()).or(Secrets::none());
    let engine = Engine::builder().secrets(secrets).start().unwrap();
    for (name, expected) in [
        (
            "GONE",
            "the secret \"GONE\" is not there; set the environment variable of that name, or see `Secrets`",
        ),
        ("EMPTY", "the secret \"EMPTY\" is empty"),
        ("BINARY", "the secret \"BINARY\" is not UTF-8 text; encode it, as base64 for example"),
        ("LARGE", "the secret \"LARGE\" is larger than 65536 bytes"),
        ("FOLDER", "the file of the secret \"FOLDER\" cannot be read"),
    ] {
        let plan = [
            Step::new("a", || -> () { panic!("it ran") }),
            Step::new("b", || ()).with(format!("${{{{ secrets.{name} }}}}")),
        ];
        let error = engine.execute(plan).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(matches!(error, PlanError::Secret(_)));
    }
    let conditional = Step::new("a", || ()).when("secrets.GONE == 'x'");
    assert!(matches!(
        engine.execute([conditional]).await,
        Err(PlanError::Secret(SecretError::Missing { .. }))
    ));
    let step = Step::new("a", || ()).with("${{ secrets['../GONE'] }}");
    let error = engine.execute([step]).await.unwrap_err();
    assert!(matches!(&error, PlanError::Secret(SecretError::Name { .. })), "{error:?}");
}

#[actix::test]
async fn secrets_are_files_variables_or_given_and_the_first_that_has_one_counts() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("A"), "from a file\r\n").unwrap();
    std::fs::write(dir.path().join("B"), "two\nlines\n\n").unwrap();
    let secrets = Secrets::given([("A", "given")])
        .or(Secrets::folder(dir.path()))
        .or(Secrets::env_with_prefix("CARGO_PKG_"));
    assert!(!format!("{secrets:?}").contains("given\""), "{secrets:?}");
    let heard = Arc::new(Mutex::new(Value::Null));
    let hears = Arc::clone(&heard);
    let step =
        Step::new("hear", move |ctx: StepContext| *hears.lock().unwrap() = ctx.input::<Value>().unwrap())
            .with(json!(["${{ secrets.A }}", "${{ secrets.B }}", "${{ secrets.NAME }}"]));
    let engine = Engine::builder().secrets(secrets).start().unwrap();
    engine.execute([step]).await.unwrap();
    assert_eq!(*heard.lock().unwrap(), json!(["given", "two\nlines\n", "lunacore"]));
    let of_file = Engine::builder().secrets(Secrets::folder(dir.path())).start().unwrap();
    let length = |ctx: StepContext| ctx.input::<String>().map(|text| text.len());
    assert_eq!(of_file.execute([Step::new("a", length).with("${{ secrets.A }}")]).await.unwrap(), [11]);
}

#[actix::test]
async fn a_secret_that_has_changed_is_the_new_one_and_the_old_one_is_still_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("TOKEN");
    std::fs::write(&path, "first-token").unwrap();
    let change = path.clone();
    let steps = vec![
        Step::new("change", move |ctx: StepContext| {
            std::fs::write(&change, "second-token").unwrap();
            ctx.input::<String>()
        })
        .with("${{ secrets.TOKEN }}"),
        Step::new("both", |ctx: StepContext| {
            json!([ctx.input::<String>().unwrap().len(), "first-token", "second-token"])
        })
        .with("${{ secrets.TOKEN }}"),
    ];
    let engine = Engine::builder().secrets(Secrets::folder(dir.path())).start().unwrap();
    assert_eq!(engine.execute(steps).await.unwrap(), [json!("***"), json!([12, "***", "***"])]);
}

/// The token was left somewhere by a step of the process before.
#[cfg(feature = "sqlite")]
#[actix::test]
async fn after_a_restart_the_secrets_of_earlier_steps_are_still_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runs.db");
    let registry = |ready: bool| {
        RegistryAllocator::new()
            .register("use", || "done")
            .register("print", move || if ready { Ok(CANARY) } else { Err(StepError::from("not yet")) })
    };
    let steps = || {
        [
            Step::named("use").with("${{ secrets.TOKEN }}"),
            Step::named("print").retry(Retry::fixed(std::time::Duration::from_secs(3600)).max_attempts(9)),
        ]
    };
    let builder = || Engine::builder().memory(ProjectMemory::open(&path).unwrap()).secrets(given());
    let first = builder().allocator(registry(false)).start().unwrap();
    let mut events = first.bus().send(SubscribeStream::new("task.failed")).await.unwrap().unwrap();
    let waiting = first.submit(ExecutePlan::new(steps()).run_id("r")).await.unwrap();
    events.next().await.unwrap();
    // Paused, it is left as it is.
    first.pause(&run_id("r")).await.unwrap();
    first.shutdown(Shutdown::now()).await;
    drop((first, waiting));
    let memory = loop {
        match ProjectMemory::open(&path) {
            Ok(memory) => break memory,
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    };
    let second = Engine::builder().memory(memory).secrets(given()).allocator(registry(true)).start().unwrap();
    second.resume(&run_id("r")).await.unwrap();
    while second.retry_now(&run_id("r")).await.unwrap() != RetryOutcome::Retrying {
        tokio::task::yield_now().await;
    }
    let outcome = second.execute(ExecutePlan::new(steps()).run_id("r")).await.unwrap();
    assert_eq!(outcome, ["done", "***"]);
}

/// Panics when it is dropped, with what it knows.
struct Bomb(String);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped with {}", self.0);
    }
}

#[actix::test]
async fn a_panic_of_what_a_cancelled_step_leaves_is_logged_without_the_secret() {
    let log = Capture::start("bomb");
    let registry = RegistryAllocator::new().register("hang", |ctx: StepContext| async move {
        let _bomb = Bomb(read(&ctx));
        std::future::pending::<()>().await;
    });
    let engine = Engine::builder().allocator(registry).secrets(given()).start().unwrap();
    let mut events = engine.bus().send(SubscribeStream::new("task.started")).await.unwrap().unwrap();
    let run = engine.submit(ExecutePlan::new([leaky("step", "hang")]).run_id("bomb")).await.unwrap();
    events.next().await.unwrap();
    engine.cancel(&run_id("bomb")).await.unwrap();
    assert!(matches!(run.await, Err(PlanError::Cancelled { .. })));
    let said = log.said(log::Level::Warn);
    assert!(
        said.iter().any(|line| line.ends_with("a cancelled step panicked: dropped with ***")),
        "{said:?}"
    );
    assert!(!said.iter().any(|line| leaks(line)), "{said:?}");
}

#[actix::test]
async fn an_input_that_a_retry_sets_may_read_secrets_and_hides_them_too() {
    let registry = RegistryAllocator::new().register("length", |ctx: StepContext| {
        let input: String = ctx.input()?;
        // What a script may know by itself.
        if input.contains("nothing") {
            return Err(StepError::from("nothing to count"));
        }
        Ok::<_, StepError>(format!("{} in {input}, {CANARY}", input.chars().count()))
    });
    let engine = Engine::builder().allocator(registry).secrets(given()).start().unwrap();
    for (id, set, expected) in [
        ("template", "now ${{ secrets.TOKEN }}", "18 in now ***, ***"),
        ("literal", "seven..", "7 in seven.., ***"),
    ] {
        let step = Step::named("length").with("nothing: ${{ secrets.TOKEN }}");
        engine.execute(ExecutePlan::new([step]).run_id(id)).await.unwrap_err();
        let run = engine.retry_run(RetryRun::new(run_id(id)).set_input(set)).await.unwrap();
        assert_eq!(run.await.unwrap(), [expected], "{id}");
    }
    // Where the plan has no template, text that looks like one is text.
    engine
        .execute(ExecutePlan::new([Step::named("length").input("nothing")]).run_id("data"))
        .await
        .unwrap_err();
    let run = engine.retry_run(RetryRun::new(run_id("data")).set_input("${{ 1 }}")).await.unwrap();
    assert_eq!(run.await.unwrap()[0].as_str().unwrap().split(',').next(), Some("8 in ${{ 1 }}"));
}

/// What a person, or whoever sends a signal, says without knowing what is secret; also in a process in which nothing of the plan
/// was evaluated yet.
#[actix::test]
async fn what_comes_from_outside_is_kept_without_secrets() {
    let store = SharedStore::new(VolatileStore::default());
    let (bytes, failed) = (json!({ "a": [CANARY] }), format!("it was refused: {CANARY}"));
    for (id, outcome) in [("given", StepOutcome::Completed(bytes)), ("failed", StepOutcome::Failed(failed))] {
        let registry = || {
            RegistryAllocator::new()
                .register("fail", || async { Err::<(), _>(StepError::from("broken")) })
                .register("use", || "used")
        };
        let steps = || {
            [
                Step::named("held").uses("fail").on_failure(OnFailure::Hold),
                Step::named("use").with("${{ secrets.TOKEN }}"),
            ]
        };
        let start = || {
            let memory = ProjectMemory::with_store(store.clone());
            Engine::builder().memory(memory).secrets(given()).allocator(registry()).start().unwrap()
        };
        let first = start();
        let run = first.submit(ExecutePlan::new(steps()).run_id(id)).await.unwrap();
        while first.status(run.run_id()).await.unwrap().state != RunState::Held {
            tokio::task::yield_now().await;
        }
        first.shutdown(Shutdown::now()).await;
        drop((first, run));
        let second = start();
        while second.status(&run_id(id)).await.unwrap().state != RunState::Held {
            tokio::task::yield_now().await;
        }
        second.resolve(ResolveStep::new(run_id(id), "held", outcome)).await.unwrap();
        let ended = second.execute(ExecutePlan::new(steps()).run_id(id)).await;
        let told = format!("{ended:?}");
        assert!(told.contains("***") && !leaks(&told), "{told}");
        assert_eq!(ended.is_ok(), id == "given");
        second.shutdown(Shutdown::now()).await;
    }
    let registry = RegistryAllocator::new().register("use", || "used");
    let engine = Engine::builder().secrets(given()).allocator(registry).start().unwrap();
    let steps = [Step::wait_for_signal("ask", "answer"), Step::named("use").with("${{ secrets.TOKEN }}")];
    let run = engine.submit(ExecutePlan::new(steps).run_id("asks")).await.unwrap();
    engine.signal(Signal::new(run_id("asks"), "answer").payload(CANARY)).await.unwrap();
    assert_eq!(run.await.unwrap(), ["***", "used"]);
}
