use std::time::{Duration, Instant};

use lunacore::*;
use serde_json::json;

use super::support::World;
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
    for (given, expected) in [
        (json!(30), "30 what? write \"30s\" for seconds"),
        (json!("soon"), "\"soon\" is no duration: expected number at 0"),
        (json!(null), "null is no duration; write \"2s\", for example"),
    ] {
        let failed = world.call("sleep", json!({ "for": given })).await.unwrap_err();
        assert_eq!((failed.causes, failed.fatal), (vec![expected.to_owned()], true));
    }
}

#[actix::test]
async fn an_input_that_does_not_fit_is_refused_for_good() {
    let world = World::new();
    for (name, input, expected) in [
        ("fail", json!({}), "missing field `message`"),
        ("sleep", json!({ "for": "1s", "fro": 1 }), "unknown field `fro`, expected `for`"),
        (
            "file.read",
            json!({ "path": "x", "max": 1 }),
            "unknown field `max`, expected `path` or `max_bytes`",
        ),
        ("file.write", json!({ "path": "x", "text": null }), "invalid type: null, expected a text"),
        (
            "shell",
            json!({ "script": "x", "user": "y" }),
            "unknown field `user`, expected one of `script`, `argv`, `cwd`, `env`, `stdin`",
        ),
    ] {
        let failed = world.call(name, input).await.unwrap_err();
        assert_eq!(failed.message, "the input of step \"step\" does not fit");
        assert_eq!((failed.causes, failed.fatal), (vec![expected.to_owned()], true), "{name}");
    }
}

#[test]
fn each_that_is_registered_is_described_and_has_a_schema() {
    let registry = register(RegistryAllocator::new(), &Ledger::in_memory());
    let about = about();
    let names: Vec<&str> = about.iter().map(|about| about.name).collect();
    assert_eq!(registry.names().collect::<Vec<_>>(), names);
    assert!(about.iter().all(|about| about.description.ends_with('.')));
    let keys = |name: &str| {
        let about = about.iter().find(|about| about.name == name).unwrap();
        about.schema["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(keys("shell"), ["argv", "cwd", "env", "script", "stdin"]);
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
