//! What `--json` prints. The names of fields are those of the crate's types, and stay as they are; fields may be added.

use std::time::SystemTime;

use lunacore::{Artifact, RunRecord};
use serde_json::{Map, Value, json};

use crate::times::rfc3339;

/// A run: the fields of [`RunRecord`] that say something. Those that say nothing are left out.
pub(crate) fn run(record: &RunRecord) -> Value {
    let at = |at: Option<SystemTime>| at.map(rfc3339);
    let fields = json!({
        "run_id": record.run_id,
        "name": record.name,
        "project": record.project,
        "state": record.state,
        "steps": record.steps,
        "completed": record.cursor,
        "attempt": (record.attempt > 0).then_some(record.attempt),
        "generation": (record.generation > 1).then_some(record.generation),
        "held": record.step.held,
        "undoing": record.undoing,
        "set_inputs": (!record.set_inputs.is_empty()).then_some(&record.set_inputs),
        "until": at(record.step.until),
        "pausing": record.pausing.then_some(true),
        "failure": record.failure,
        "reason": record.reason,
        "accepted_at": rfc3339(record.accepted_at),
        "started_at": at(record.started_at),
        "finished_at": at(record.finished_at),
        "deadline": at(record.deadline),
    });
    without_nulls(fields)
}

/// An artifact with its data: text as it is, bytes as base64.
pub(crate) fn artifact(artifact: &Artifact) -> Value {
    let (data, encoding) = match artifact.text() {
        Some(text) => (text.to_owned(), "utf-8"),
        None => (base64(artifact.data.as_bytes()), "base64"),
    };
    without_nulls(json!({
        "id": artifact.id,
        "key": artifact.key,
        "version": artifact.version,
        "project": artifact.project,
        "artifact_type": artifact.artifact_type,
        "created_at": rfc3339(artifact.created_at),
        "run_id": artifact.run_id,
        "meta": artifact.meta,
        "encoding": encoding,
        "data": data,
    }))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// An object without the fields that are null.
pub(crate) fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            Value::Object(fields.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>())
        }
        other => other,
    }
}
