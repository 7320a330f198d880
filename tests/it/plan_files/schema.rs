//! The JSON Schema of plan files: that it is kept, and that it says what the reader does.

use lunacore::{Plan, PlanFormat};
use serde_json::{Value, json};

const KEPT: &str = "src/plan_file/schema.json";

/// `LUNACORE_RENEW=1 cargo test --features plan-files --test it schema` writes it anew.
#[test]
fn the_kept_schema_is_current() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(KEPT);
    let current = format!("{:#}\n", Plan::schema());
    if std::env::var_os("LUNACORE_RENEW").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(kept, current, "{KEPT} is old; run this test with LUNACORE_RENEW=1");
}

/// What has the shape of a plan, and what has not; reader and schema agree on each.
#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn schema_and_reader_agree() {
    let schema = jsonschema::validator_for(&Plan::schema()).unwrap();
    let step = |step: Value| {
        let mut whole = json!({ "id": "a" });
        whole.as_object_mut().unwrap().extend(step.as_object().unwrap().clone());
        json!({ "steps": [whole] })
    };
    let good = [
        json!({ "steps": [] }),
        json!({ "name": "n", "description": "d", "inputs": {}, "steps": [{ "id": "a" }] }),
        json!({ "inputs": { "a": "string", "b": {}, "c": { "type": "any", "default": null } }, "steps": [] }),
        json!({ "inputs": { "a": { "type": "integer", "default": 5, "description": "d" } }, "steps": [] }),
        step(
            json!({ "uses": "x", "with": null, "when": true, "agent": "a", "attributes": {}, "inline": false }),
        ),
        step(json!({ "with": { "any": [1, "x", { "y": null }] }, "when": "1 == 1" })),
        step(json!({ "retry": 5 })),
        step(json!({ "retry": {} })),
        step(json!({ "retry": {
            "max_attempts": 2, "delay": "1s", "factor": 2, "max_delay": "1m 30s", "jitter": "equal", "budget": "1h30m",
            "on_panic": true, "on_timeout": false
        } })),
        step(json!({ "timeout": "30s", "total_timeout": "5 minutes", "grace": "0s" })),
        step(
            json!({ "breaker": "b", "when_open": "park", "on_failure": "abort", "escalate_on_failure": true }),
        ),
        step(json!({ "when_open": "fail", "on_failure": "continue" })),
        step(json!({ "on_failure": { "fallback": "other" } })),
        step(json!({ "limit": "openai" })),
        step(json!({ "on_failure": "hold", "on_interrupted": "hold" })),
        step(json!({ "on_interrupted": "rerun" })),
        step(json!({ "on_interrupted": { "verify": "v" } })),
        step(json!({ "compensate": "u" })),
        step(json!({ "compensate": { "uses": "u" } })),
        step(json!({ "compensate": { "uses": "u", "retry": 3, "timeout": "5s" } })),
        step(json!({ "compensate": { "uses": "u", "retry": { "delay": "5s" } } })),
        step(json!({ "sleep": "0s" })),
        step(json!({ "sleep_until": "2026-12-24T18:00:00Z" })),
        step(json!({ "sleep_until": "2026-12-24T18:00:00.123456Z" })),
        step(json!({ "wait_for_signal": "s", "timeout": "1day" })),
    ];
    for plan in good {
        let found: Vec<String> = schema.iter_errors(&plan).map(|error| error.to_string()).collect();
        assert!(found.is_empty(), "{plan}: {found:?}");
        assert!(Plan::from_text(&plan.to_string(), PlanFormat::Json).is_ok(), "{plan}");
    }
    let bad = [
        json!([]),
        json!({}),
        json!({ "steps": {} }),
        json!({ "steps": [], "nmae": "x" }),
        json!({ "name": 5, "steps": [] }),
        json!({ "name": "", "steps": [] }),
        json!({ "steps": [{}] }),
        json!({ "steps": ["a"] }),
        json!({ "steps": [{ "id": 5 }] }),
        json!({ "steps": [{ "id": "" }] }),
        json!({ "inputs": [], "steps": [] }),
        json!({ "inputs": { "a": "strng" }, "steps": [] }),
        json!({ "inputs": { "a": { "tpye": "any" } }, "steps": [] }),
        step(json!({ "uess": "x" })),
        step(json!({ "uses": 5 })),
        step(json!({ "when": 5 })),
        step(json!({ "attributes": [] })),
        step(json!({ "inline": "yes" })),
        step(json!({ "retry": 0 })),
        step(json!({ "retry": 1.5 })),
        step(json!({ "retry": "often" })),
        step(json!({ "retry": { "attempts": 5 } })),
        step(json!({ "retry": { "delay": 5 } })),
        step(json!({ "retry": { "factor": 0.5 } })),
        step(json!({ "retry": { "jitter": "some" } })),
        step(json!({ "timeout": 30 })),
        step(json!({ "timeout": "30" })),
        step(json!({ "timeout": "soon" })),
        step(json!({ "when_open": "wait" })),
        step(json!({ "on_failure": "skip" })),
        step(json!({ "on_failure": {} })),
        step(json!({ "on_failure": { "fallback": "x", "also": 1 } })),
        step(json!({ "on_failure": { "fallback": "" } })),
        step(json!({ "limit": "" })),
        step(json!({ "limit": 5 })),
        step(json!({ "on_interrupted": "verify" })),
        step(json!({ "on_interrupted": {} })),
        step(json!({ "on_interrupted": { "verify": 5 } })),
        step(json!({ "on_interrupted": { "verify": "v", "also": 1 } })),
        step(json!({ "compensate": 5 })),
        step(json!({ "compensate": "" })),
        step(json!({ "compensate": {} })),
        step(json!({ "compensate": { "uses": "" } })),
        step(json!({ "compensate": { "uses": "u", "with": 5 } })),
        step(json!({ "compensate": { "uses": "u", "retry": 0 } })),
        step(json!({ "compensate": { "uses": "u", "timeout": 5 } })),
        step(json!({ "sleep": 5 })),
        step(json!({ "sleep": "soon" })),
        step(json!({ "sleep_until": "2026-12-24" })),
        step(json!({ "sleep_until": "2026-12-24T18:00:00+01:00" })),
        step(json!({ "wait_for_signal": "" })),
        step(json!({ "wait_for_signal": 5 })),
    ];
    for plan in bad {
        assert!(!schema.is_valid(&plan), "the schema takes {plan}");
        assert!(Plan::from_text(&plan.to_string(), PlanFormat::Json).is_err(), "the reader takes {plan}");
    }
}
