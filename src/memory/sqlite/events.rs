//! The payload of a row of events: an array with the fields of each, but for a result that is stored already.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use rusqlite::types::ValueRef;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::rows::{Read, output};
use crate::event::{Event, EventKind};
use crate::memory::commit::StepOutput;
use crate::plan::Output;

/// The two types of every step, which take the short way. All others are taken as serde has them.
const STARTED: &str = "task.started";
const COMPLETED: &str = "task.completed";

/// The fields of those two.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Short<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    task_id: Arc<str>,
    agent_id: Option<Arc<str>>,
    attempt: Option<u32>,
}

/// Writes the payload of these events; answers the step whose stored output is the result of one. `completed` is what is
/// stored with them.
pub(super) fn payload(
    json: &mut Vec<u8>,
    events: &[Event],
    completed: Option<&StepOutput>,
) -> Result<Option<usize>, serde_json::Error> {
    let mut step = None;
    json.push(b'[');
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        step = append(json, event.kind(), completed)?.or(step);
    }
    json.push(b']');
    Ok(step)
}

/// Writes one event behind the others.
fn append(
    json: &mut Vec<u8>,
    kind: &EventKind,
    completed: Option<&StepOutput>,
) -> Result<Option<usize>, serde_json::Error> {
    match kind {
        EventKind::TaskStarted { task_id, agent_id, attempt, fallback: false } => {
            json.extend_from_slice(br#"{"type":"task.started","task_id":"#);
            serde_json::to_writer(&mut *json, task_id)?;
            json.extend_from_slice(br#","agent_id":"#);
            serde_json::to_writer(&mut *json, agent_id)?;
            json.extend_from_slice(br#","attempt":"#);
            serde_json::to_writer(&mut *json, attempt)?;
            json.push(b'}');
        }
        EventKind::TaskCompleted { task_id, result } => {
            json.extend_from_slice(br#"{"type":"task.completed","task_id":"#);
            serde_json::to_writer(&mut *json, task_id)?;
            let step = completed.filter(|own| same(&own.output, result)).map(|own| own.step);
            match result {
                _ if step.is_some() => {}
                // Only of an event that tells of another output than the one that was stored with it.
                Output::Json(value) => {
                    json.extend_from_slice(br#","result":"#);
                    serde_json::to_writer(&mut *json, value)?;
                }
                Output::Bytes(bytes) => {
                    json.extend_from_slice(br#","bytes":"#);
                    serde_json::to_writer(&mut *json, &BASE64_STANDARD.encode(bytes))?;
                }
            }
            json.push(b'}');
            return Ok(step);
        }
        // Its own fields may have any name, and the type must be found again.
        EventKind::Custom { event_type, payload } => {
            let mut fields = payload.clone();
            fields.insert("type".to_owned(), Value::from(&**event_type));
            serde_json::to_writer(json, &fields)?;
        }
        other => serde_json::to_writer(json, other)?,
    }
    Ok(None)
}

/// Mostly they share their content, and then a large one need not be compared.
fn same(one: &Output, other: &Output) -> bool {
    match (one, other) {
        (Output::Json(one), Output::Json(other)) if Arc::ptr_eq(one, other) => true,
        _ => one == other,
    }
}

/// The kinds again. `stored` is the output of their step, null where they have none.
pub(super) fn kinds(payload: &str, stored: ValueRef<'_>) -> Read<Vec<EventKind>> {
    if let Ok(list) = serde_json::from_str::<Vec<Short<'_>>>(payload)
        && let Some(kinds) = list.into_iter().map(|fields| short(fields, stored)).collect()
    {
        return kinds;
    }
    let list: Vec<Map<String, Value>> = serde_json::from_str(payload)?;
    list.into_iter().map(|fields| long(fields, stored)).collect()
}

/// `None` where it is another kind.
fn short(fields: Short<'_>, stored: ValueRef<'_>) -> Option<Read<EventKind>> {
    let Short { event_type, task_id, agent_id, attempt } = fields;
    match (event_type, agent_id, attempt) {
        (STARTED, Some(agent_id), Some(attempt)) => {
            Some(Ok(EventKind::TaskStarted { task_id, agent_id, attempt, fallback: false }))
        }
        (COMPLETED, None, None) => {
            Some(stored_output(stored).map(|result| EventKind::TaskCompleted { task_id, result }))
        }
        _ => None,
    }
}

fn long(fields: Map<String, Value>, stored: ValueRef<'_>) -> Read<EventKind> {
    if fields.get("type").is_some_and(|own| own == COMPLETED)
        && !fields.contains_key("result")
        && let Some(Value::String(task_id)) = fields.get("task_id")
    {
        let task_id = Arc::from(&**task_id);
        let result = match fields.get("bytes").and_then(Value::as_str) {
            Some(bytes) => Output::Bytes(Bytes::from(BASE64_STANDARD.decode(bytes)?)),
            None => stored_output(stored)?,
        };
        return Ok(EventKind::TaskCompleted { task_id, result });
    }
    Ok(EventKind::deserialize(Value::Object(fields))?)
}

/// The payload of a row whose events tell the result themselves that was left out. `stored` is that.
pub(super) fn with_result(payload: &str, stored: ValueRef<'_>) -> Read<String> {
    let mut json = vec![b'['];
    for (index, kind) in kinds(payload, stored)?.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        append(&mut json, kind, None)?;
    }
    json.push(b']');
    Ok(String::from_utf8(json)?)
}

fn stored_output(stored: ValueRef<'_>) -> Read<Output> {
    match stored {
        ValueRef::Null => Err("the output of its step is not stored".into()),
        stored => output(stored),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Barrier, SkipReason};
    use crate::plan::IntoOutput;
    use crate::run::{FailureKind, RunId, StepFailure};
    use serde_json::json;
    use std::time::SystemTime;

    /// All in one row.
    fn round(kinds: &[EventKind], output: Option<&Output>) -> (String, Option<usize>) {
        let run_id: RunId = "r".parse().unwrap();
        let stored = |kind: &EventKind| Event::stored(1, SystemTime::now(), run_id.clone(), kind.clone());
        let events: Vec<Event> = kinds.iter().map(stored).collect();
        let mut json = Vec::new();
        let completed = output.map(|output| StepOutput::new(4, Arc::from("a"), output.clone()));
        let step = payload(&mut json, &events, completed.as_ref()).unwrap();
        let payload = String::from_utf8(json).unwrap();
        let cell = output.filter(|_| step.is_some()).map(|output| match output {
            Output::Json(value) => rusqlite::types::Value::from(value.to_string()),
            Output::Bytes(bytes) => rusqlite::types::Value::from(bytes.to_vec()),
        });
        let stored = cell.as_ref().map_or(ValueRef::Null, ValueRef::from);
        assert_eq!(super::kinds(&payload, stored).unwrap(), kinds);
        (payload, step)
    }

    #[test]
    fn every_kind_comes_back_as_it_was() {
        let task_id: Arc<str> = Arc::from("a \"b\" ß");
        let failure = Arc::new(StepFailure::record(FailureKind::Panic, &std::io::Error::other("broken")));
        let later = SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(1_700_000_000_000_001);
        let started = |attempt, fallback| EventKind::TaskStarted {
            task_id: task_id.clone(),
            agent_id: Arc::from("x"),
            attempt,
            fallback,
        };
        let failed = |failure, next_attempt_at: Option<SystemTime>| EventKind::TaskFailed {
            task_id: task_id.clone(),
            attempt: 1,
            will_retry: next_attempt_at.is_some(),
            next_attempt_at,
            failure,
        };
        let kinds = [
            EventKind::PlanAccepted { name: None, steps: 3 },
            EventKind::PlanAccepted { name: Some(Arc::from("n")), steps: 0 },
            EventKind::PlanStarted {},
            EventKind::PlanResumed { completed: 2 },
            EventKind::PlanInterrupted { reason: Arc::from("why") },
            EventKind::PlanCompleted {},
            EventKind::PlanFailed { task_id: task_id.clone(), failure: failure.clone() },
            EventKind::PlanCancelled {},
            EventKind::PlanPausing {},
            EventKind::PlanPaused {},
            EventKind::PlanParked {
                task_id: task_id.clone(),
                behind: Barrier::Limit(Arc::from("l")),
                until: None,
            },
            EventKind::PlanParked {
                task_id: task_id.clone(),
                behind: Barrier::Breaker(Arc::from("b")),
                until: Some(later),
            },
            EventKind::PlanStopping {},
            EventKind::BreakerOpened { breaker: Arc::from("b"), until: later },
            EventKind::BreakerHalfOpened { breaker: Arc::from("b") },
            EventKind::BreakerClosed { breaker: Arc::from("b") },
            EventKind::EscalationNeeded { task_id: task_id.clone(), reason: Arc::from("why") },
            EventKind::TaskSkipped { task_id: task_id.clone(), reason: SkipReason::Failed },
            EventKind::TaskSkipped { task_id: task_id.clone(), reason: SkipReason::Condition },
            EventKind::TaskWaiting { task_id: task_id.clone(), attempt: 1, next_attempt_at: later },
            started(2, false),
            started(3, true),
            EventKind::TaskRecovered { task_id: task_id.clone() },
            failed(failure.clone(), None),
            failed(failure, Some(later)),
            EventKind::TaskCancelled { task_id: task_id.clone(), attempt: 1 },
            EventKind::TaskProgress {
                task_id: task_id.clone(),
                attempt: 1,
                value: Arc::new(json!({ "type": 1.0 })),
            },
            EventKind::SubscriptionLagged { missed: u64::MAX },
            EventKind::Custom {
                event_type: Arc::from("billing.done"),
                payload: Map::from_iter([("sum".to_owned(), json!([1.5, u64::MAX, null]))]),
            },
        ];
        for kind in &kinds {
            assert_eq!(round(std::slice::from_ref(kind), None).1, None);
        }
        assert_eq!(round(&kinds, None).1, None);
        assert_eq!(round(&[], None).0, "[]");
    }

    #[test]
    fn a_result_is_left_out_where_it_is_stored_already_and_only_there() {
        let (stored, other) =
            ("x".into_output().unwrap(), Bytes::from_static(b"\xff").into_output().unwrap());
        let completed =
            |result: &Output| EventKind::TaskCompleted { task_id: Arc::from("a"), result: result.clone() };
        let left_out = (r#"[{"type":"task.completed","task_id":"a"}]"#.to_owned(), Some(4));
        assert_eq!(round(&[completed(&stored)], Some(&stored)), left_out);
        assert_eq!(round(&[completed(&other)], Some(&other)), left_out);
        assert_eq!(round(&[completed(&stored)], None).1, None);
        assert_eq!(round(&[completed(&stored)], Some(&other)).1, None);
        assert_eq!(round(&[completed(&other)], Some(&stored)).1, None);
        let all = [completed(&other), completed(&stored), EventKind::PlanCompleted {}, completed(&stored)];
        assert_eq!(round(&all, Some(&stored)).1, Some(4));
    }
}
