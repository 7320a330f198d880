//! The payload of an event: the fields of its kind as JSON, without the type, and without a result that is stored already.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::rows::{Read, output};
use crate::event::EventKind;
use crate::plan::Output;

/// The two types of every step, which take the short way. All others are taken as serde has them.
const STARTED: &str = "task.started";
const COMPLETED: &str = "task.completed";

#[derive(Serialize)]
struct StartedRef<'a> {
    task_id: &'a str,
    agent_id: &'a str,
    attempt: u32,
}

#[derive(Deserialize)]
struct Started {
    task_id: Arc<str>,
    agent_id: Arc<str>,
    attempt: u32,
}

#[derive(Serialize)]
struct CompletedRef<'a> {
    task_id: &'a str,
    /// Only of an event that tells of another output than the one that was stored with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a Value>,
    /// The same where that is bytes: base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
}

#[derive(Deserialize)]
struct Completed {
    task_id: Arc<str>,
    bytes: Option<String>,
}

/// The payload, and the step whose stored output is the event's result. `output` is what is stored with the event.
pub(super) fn payload(
    kind: &EventKind,
    output: Option<&(usize, Output)>,
) -> Result<(String, Option<usize>), serde_json::Error> {
    let json = match kind {
        EventKind::TaskStarted { task_id, agent_id, attempt } => {
            serde_json::to_string(&StartedRef { task_id, agent_id, attempt: *attempt })?
        }
        EventKind::TaskCompleted { task_id, result } => {
            let step = output.filter(|(_, output)| same(output, result)).map(|(step, _)| *step);
            let (result, bytes) = match result {
                _ if step.is_some() => (None, None),
                Output::Json(value) => (Some(&**value), None),
                Output::Bytes(bytes) => (None, Some(BASE64_STANDARD.encode(bytes))),
            };
            return Ok((serde_json::to_string(&CompletedRef { task_id, result, bytes })?, step));
        }
        EventKind::PlanStarted {} | EventKind::PlanCompleted {} | EventKind::PlanCancelled {} => {
            "{}".to_owned()
        }
        EventKind::Custom { payload, .. } => serde_json::to_string(payload)?,
        other => {
            let mut fields = serde_json::to_value(other)?;
            if let Value::Object(fields) = &mut fields {
                fields.remove("type");
            }
            fields.to_string()
        }
    };
    Ok((json, None))
}

/// Mostly they share their content, and then a large one need not be compared.
fn same(one: &Output, other: &Output) -> bool {
    match (one, other) {
        (Output::Json(one), Output::Json(other)) if Arc::ptr_eq(one, other) => true,
        _ => one == other,
    }
}

/// The kind again. `stored` is the output of its step, null where it has none.
pub(super) fn kind(event_type: &str, payload: &str, stored: ValueRef<'_>) -> Read<EventKind> {
    match event_type {
        STARTED => {
            if let Ok(Started { task_id, agent_id, attempt }) = serde_json::from_str(payload) {
                return Ok(EventKind::TaskStarted { task_id, agent_id, attempt });
            }
        }
        COMPLETED => {
            if let Ok(Completed { task_id, bytes }) = serde_json::from_str(payload) {
                if stored != ValueRef::Null {
                    return Ok(EventKind::TaskCompleted { task_id, result: output(stored)? });
                }
                if let Some(bytes) = bytes {
                    let result = Output::Bytes(Bytes::from(BASE64_STANDARD.decode(bytes)?));
                    return Ok(EventKind::TaskCompleted { task_id, result });
                }
            }
        }
        _ => {}
    }
    let mut fields: Map<String, Value> = serde_json::from_str(payload)?;
    fields.insert("type".to_owned(), Value::from(event_type));
    Ok(EventKind::deserialize(Value::Object(fields))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::sqlite::rows::Cell;
    use crate::plan::IntoOutput;
    use crate::run::{FailureKind, StepFailure};
    use serde_json::json;

    fn round(kind: &EventKind, output: Option<&(usize, Output)>) -> (String, Option<usize>) {
        let (payload, step) = payload(kind, output).unwrap();
        let cell = output.filter(|_| step.is_some()).map(|(_, output)| Cell::of(output).unwrap());
        let text = cell.as_ref().map(|cell| match cell.to_sql() {
            rusqlite::types::ToSqlOutput::Borrowed(value) => rusqlite::types::Value::try_from(value).unwrap(),
            _ => panic!("cells are borrowed"),
        });
        let stored = text.as_ref().map_or(ValueRef::Null, ValueRef::from);
        assert_eq!(&super::kind(kind.event_type(), &payload, stored).unwrap(), kind);
        (payload, step)
    }

    #[test]
    fn every_kind_comes_back_as_it_was() {
        let task_id: Arc<str> = Arc::from("a \"b\" ß");
        let failure = Arc::new(StepFailure::record(FailureKind::Panic, &std::io::Error::other("broken")));
        let kinds = [
            EventKind::PlanAccepted { name: None, steps: 3 },
            EventKind::PlanAccepted { name: Some(Arc::from("n")), steps: 0 },
            EventKind::PlanStarted {},
            EventKind::PlanResumed { completed: 2 },
            EventKind::PlanInterrupted { reason: Arc::from("why") },
            EventKind::PlanCompleted {},
            EventKind::PlanFailed { task_id: task_id.clone(), failure: failure.clone() },
            EventKind::PlanCancelled {},
            EventKind::TaskStarted { task_id: task_id.clone(), agent_id: Arc::from("x"), attempt: 2 },
            EventKind::TaskRecovered { task_id: task_id.clone() },
            EventKind::TaskFailed { task_id: task_id.clone(), attempt: 1, failure },
            EventKind::TaskCancelled { task_id: task_id.clone(), attempt: 1 },
            EventKind::TaskProgress { task_id, attempt: 1, value: Arc::new(json!({ "type": 1.0 })) },
            EventKind::SubscriptionLagged { missed: u64::MAX },
            EventKind::Custom {
                event_type: Arc::from("billing.done"),
                payload: Map::from_iter([("sum".to_owned(), json!([1.5, u64::MAX, null]))]),
            },
        ];
        for kind in kinds {
            assert_eq!(round(&kind, None).1, None);
        }
    }

    #[test]
    fn a_result_is_left_out_where_it_is_stored_already_and_only_there() {
        let (stored, other) =
            ("x".into_output().unwrap(), Bytes::from_static(b"\xff").into_output().unwrap());
        let completed =
            |result: &Output| EventKind::TaskCompleted { task_id: Arc::from("a"), result: result.clone() };
        let left_out = (r#"{"task_id":"a"}"#.to_owned(), Some(4));
        assert_eq!(round(&completed(&stored), Some(&(4, stored.clone()))), left_out);
        assert_eq!(round(&completed(&other), Some(&(4, other.clone()))), left_out);
        assert_eq!(round(&completed(&stored), None).1, None);
        assert_eq!(round(&completed(&stored), Some(&(4, other.clone()))).1, None);
        assert_eq!(round(&completed(&other), Some(&(4, stored))).1, None);
    }
}
