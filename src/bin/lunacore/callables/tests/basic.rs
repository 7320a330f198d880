use std::time::{Duration, Instant};

use lunacore::*;
use serde_json::json;

use super::support::World;
use crate::callables::basic::sleep;
use crate::callables::{Ledger, about, register};

#[actix::test]
async fn noop_returns_its_input() {
    let world = World::new();
    for input in [json!(null), json!("x"), json!({ "a": [1, 2.5, true] })] {
        assert_eq!(world.call("noop", input.clone()).await, Ok(input));
    }
}

#[actix::test]
async fn fail_fails_and_says_what_it_was_told_to() {
    let world = World::new();
    for (fatal, attempts) in [(false, 3), (true, 1)] {
        let mut events =
            world.engine.subscribe_stream_with(SubscribeStream::new("task.started")).await.unwrap();
        let retry = Retry::fixed(Duration::ZERO).max_attempts(3);
        let input = json!({ "message": "out of coffee", "fatal": fatal });
        let failed = world.run(Step::named("step").uses("fail").input(input).retry(retry)).await.unwrap_err();
        assert_eq!((failed.message.as_str(), failed.fatal), ("out of coffee", fatal));
        world.engine.flush(Duration::from_secs(10)).await.unwrap();
        let mut started = 0;
        while started < attempts {
            events.next().await.unwrap();
            started += 1;
        }
        let more = tokio::time::timeout(Duration::from_millis(50), events.next()).await;
        assert!(more.is_err(), "more than {attempts} attempts");
    }
}

#[actix::test]
async fn sleep_sleeps() {
    let world = World::new();
    let began = Instant::now();
    assert_eq!(world.call("sleep", json!({ "for": "150ms" })).await, Ok(json!(null)));
    assert!(began.elapsed() >= Duration::from_millis(150));
    // Without its schema, as where an expression stands whose value is known only when its turn has come.
    for (given, expected) in [
        (json!(30), "30 what? write \"30s\" for seconds"),
        (json!("soon"), "\"soon\" is no duration: expected number at 0"),
        (json!([1]), "[1] is no duration; write \"2s\", for example"),
    ] {
        let step = Step::new("step", sleep).input(json!({ "for": given }));
        let failed = world.run(step).await.unwrap_err();
        assert_eq!((failed.causes, failed.fatal), (vec![expected.to_owned()], true));
    }
}

#[actix::test]
async fn an_input_that_does_not_fit_is_refused_before_anything_runs() {
    let world = World::new();
    for (name, input, expected) in [
        ("fail", json!({}), "\"message\" is a required property"),
        (
            "sleep",
            json!({ "for": "1s", "fro": 1 }),
            "Additional properties are not allowed ('fro' was unexpected)",
        ),
        ("sleep", json!({ "for": 1 }), "/for: 1 is not of type \"string\""),
        (
            "file.read",
            json!({ "path": "x", "max": 1 }),
            "Additional properties are not allowed ('max' was unexpected)",
        ),
        ("file.write", json!({ "path": "x", "text": null }), "/text: null is not of types"),
        (
            "shell",
            json!({ "script": "x", "user": "y" }),
            "Additional properties are not allowed ('user' was unexpected)",
        ),
        ("shell", json!({}), "{} is not valid under any of the schemas listed in the 'oneOf' keyword"),
        (
            "shell",
            json!({ "script": "", "argv": ["x"] }),
            "is valid under more than one of the schemas listed in the 'oneOf' keyword",
        ),
    ] {
        let first =
            Step::named("first").uses("file.write").input(json!({ "path": world.path("ran"), "text": "" }));
        let error =
            world.engine.execute([first, Step::named("step").uses(name).input(input)]).await.unwrap_err();
        let chain: Vec<String> =
            std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
                .map(ToString::to_string)
                .collect();
        let shown = chain.join(": ");
        assert!(shown.contains(&format!("the input of step \"step\" does not fit {name:?}")), "{shown}");
        assert!(shown.contains(expected), "{shown}");
        assert!(!world.path("ran").exists());
    }
}

#[test]
fn each_that_is_registered_is_described_and_has_a_schema() {
    let registry = register(RegistryAllocator::new(), &Ledger::in_memory());
    let about = about();
    let names: Vec<&str> = about.iter().map(|about| about.name).collect();
    assert_eq!(registry.names().collect::<Vec<_>>(), names);
    for about in &about {
        assert_eq!(registry.description(about.name), Some(about.description));
        assert_eq!(registry.schema(about.name), Some(&about.schema));
    }
    let keys = |name: &str| {
        let about = about.iter().find(|about| about.name == name).unwrap();
        about.schema["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(keys("shell"), ["argv", "check", "cwd", "env", "script", "stdin", "undo"]);
    assert_eq!(keys("file.read"), ["max_bytes", "path"]);
    assert_eq!(keys("file.write"), ["path", "text"]);
    assert_eq!(keys("sleep"), ["for"]);
    assert_eq!(keys("fail"), ["fatal", "message"]);
}

#[test]
fn schemas_take_what_the_callables_take() {
    let about = about();
    let accepts = |name: &str, input: serde_json::Value| {
        let about = about.iter().find(|about| about.name == name).unwrap();
        jsonschema::is_valid(&about.schema, &input)
    };
    assert!(accepts("shell", json!({ "argv": ["seq", 3], "env": { "N": 1 }, "stdin": { "a": 1 } })));
    assert!(!accepts("shell", json!({ "argv": [null] })));
    assert!(!accepts("shell", json!({ "skript": "x" })));
    assert!(accepts("sleep", json!({ "for": "2s" })) && !accepts("sleep", json!({ "for": 2 })));
    assert!(accepts("noop", json!(null)) && accepts("noop", json!([1])));
    assert!(accepts("file.write", json!({ "path": "x", "text": 1 })));
    assert!(!accepts("file.write", json!({ "path": "x", "text": null })));
}
