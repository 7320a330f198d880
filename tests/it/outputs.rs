//! What steps return: values, their string form in the artifact, and errors.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use lunacore::limits::MAX_OUTPUT_BYTES;
use lunacore::{
    Artifact, Engine, Event, EventKind, ExecutePlan, FailureKind, IntoOutput, Json, ListKeys, Output,
    OutputError, PlanError, Step, StepContext, StepError, StepFailure,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::support::{chain, engine, run_id, start, until, watch};

async fn artifact(engine: &Engine, key: &str) -> Artifact {
    engine.artifact(key).await.unwrap().unwrap()
}

async fn keys(engine: &Engine) -> Vec<String> {
    engine.memory().send(ListKeys::new()).await.unwrap().unwrap()
}

/// Runs a plan of one step that fails, and gives back its error and what is recorded of it.
async fn failure(step: Step) -> (StepError, Arc<StepFailure>) {
    let engine = engine();
    let error = engine.execute(ExecutePlan::new([step]).run_id("r")).await.unwrap_err();
    let PlanError::StepFailed { source, kind, .. } = error else { panic!("{error:?}") };
    let recorded = engine.status(&run_id("r")).await.unwrap().failure.unwrap();
    assert_eq!(recorded.kind, kind);
    (source, recorded)
}

/// The error of a step, as its own type.
fn own<E: Error + 'static>(error: &StepError) -> &E {
    error.downcast_ref().expect("the error keeps its type")
}

// Values.

#[derive(Serialize)]
struct Page {
    title: &'static str,
    bytes: Option<u64>,
}

#[derive(Serialize)]
enum Weather {
    Rain,
    Wind { speed: u32 },
}

/// A step for each kind of output, its result, and its string form.
fn values() -> Vec<(Step, Value, &'static str)> {
    vec![
        (Step::unnamed(|| ()), json!(null), "null"),
        (Step::unnamed(|| true), json!(true), "true"),
        (Step::unnamed(|| i8::MIN), json!(-128), "-128"),
        (Step::unnamed(|| i16::MIN), json!(-32768), "-32768"),
        (Step::unnamed(|| i32::MIN), json!(-2_147_483_648), "-2147483648"),
        (Step::unnamed(|| i64::MIN), json!(i64::MIN), "-9223372036854775808"),
        (Step::unnamed(|| -7_isize), json!(-7), "-7"),
        (Step::unnamed(|| i128::from(i64::MIN)), json!(i64::MIN), "-9223372036854775808"),
        (Step::unnamed(|| u8::MAX), json!(255), "255"),
        (Step::unnamed(|| u16::MAX), json!(65535), "65535"),
        (Step::unnamed(|| u32::MAX), json!(4_294_967_295_u32), "4294967295"),
        (Step::unnamed(|| u64::MAX), json!(u64::MAX), "18446744073709551615"),
        (Step::unnamed(|| 7_usize), json!(7), "7"),
        (Step::unnamed(|| u128::from(u64::MAX)), json!(u64::MAX), "18446744073709551615"),
        (Step::unnamed(|| 2.0), json!(2.0), "2.0"),
        (Step::unnamed(|| 1e300), json!(1e300), "1e+300"),
        (Step::unnamed(|| 0.5_f32), json!(0.5), "0.5"),
        (Step::unnamed(|| 'ß'), json!("ß"), "ß"),
        (Step::unnamed(|| "plain"), json!("plain"), "plain"),
        (Step::unnamed(|| ""), json!(""), ""),
        (Step::unnamed(|| "with \"quotes\"\n"), json!("with \"quotes\"\n"), "with \"quotes\"\n"),
        (Step::unnamed(|| String::from("null")), json!("null"), "null"),
        (Step::unnamed(|| Cow::Borrowed("cow")), json!("cow"), "cow"),
        (Step::unnamed(|| Box::<str>::from("box")), json!("box"), "box"),
        (Step::unnamed(|| Arc::<str>::from("arc")), json!("arc"), "arc"),
        (Step::unnamed(|| json!("value")), json!("value"), "value"),
        (Step::unnamed(|| json!({ "b": 1, "a": [] })), json!({ "a": [], "b": 1 }), r#"{"a":[],"b":1}"#),
        (Step::unnamed(|| Output::Json(Arc::new(json!([1])))), json!([1]), "[1]"),
        // Nested.
        (Step::unnamed(|| None::<u8>), json!(null), "null"),
        (Step::unnamed(|| Some("some")), json!("some"), "some"),
        (Step::unnamed(|| Some(Some(1))), json!(1), "1"),
        (Step::unnamed(|| vec!["a", "b"]), json!(["a", "b"]), r#"["a","b"]"#),
        (Step::unnamed(|| vec![0_u8, 255]), json!([0, 255]), "[0,255]"),
        (Step::unnamed(Vec::<String>::new), json!([]), "[]"),
        (Step::unnamed(|| vec![vec![Some(1), None], vec![]]), json!([[1, null], []]), "[[1,null],[]]"),
        (Step::unnamed(|| Some(vec![(), ()])), json!([null, null]), "[null,null]"),
        (Step::unnamed(|| Ok::<_, String>(Some("fine"))), json!("fine"), "fine"),
        (Step::unnamed(|| vec![Ok::<_, String>(1), Ok(2)]), json!([1, 2]), "[1,2]"),
        (Step::unnamed(|| Some(Ok::<_, StepError>(3))), json!(3), "3"),
        // Serialised.
        (
            Step::unnamed(|| Json(Page { title: "Home", bytes: None })),
            json!({ "title": "Home", "bytes": null }),
            r#"{"bytes":null,"title":"Home"}"#,
        ),
        (Step::unnamed(|| Json(Weather::Rain)), json!("Rain"), "Rain"),
        (
            Step::unnamed(|| vec![Json(Weather::Wind { speed: 7 })]),
            json!([{ "Wind": { "speed": 7 } }]),
            r#"[{"Wind":{"speed":7}}]"#,
        ),
        (Step::unnamed(|| Json((1, "two", [3.0]))), json!([1, "two", [3.0]]), r#"[1,"two",[3.0]]"#),
        (Step::unnamed(|| Json(BTreeMap::from([(1, 'x')]))), json!({ "1": "x" }), r#"{"1":"x"}"#),
    ]
}

#[actix::test]
async fn every_output_has_its_value_and_its_string_form() {
    let engine = engine();
    let results = engine.execute(values().into_iter().map(|(step, ..)| step).collect::<Vec<_>>()).await;
    for (index, (result, (_, value, text))) in results.unwrap().into_iter().zip(values()).enumerate() {
        assert_eq!(result, value);
        assert_eq!(artifact(&engine, &format!("task:step_{index}")).await.text(), Some(text), "{value}");
    }
}

#[actix::test]
async fn async_steps_return_the_same_outputs() {
    let steps = [
        Step::new("result", async || Ok::<_, std::io::Error>("fine")),
        Step::new("json", async || Json(Page { title: "Home", bytes: Some(1) })),
    ];
    let results = engine().execute(steps).await.unwrap();
    assert_eq!(results, [json!("fine"), json!({ "title": "Home", "bytes": 1 })]);
}

#[actix::test]
async fn results_compare_with_plain_values() {
    let steps = [Step::new("process", || "processed_data"), Step::new("fetch", async || "remote_data")];
    let results = engine().execute(steps).await.unwrap();
    assert_eq!(results, ["processed_data", "remote_data"]);
}

// Bytes.

#[actix::test]
async fn bytes_are_raw_in_the_artifact_and_base64_in_the_result() {
    let engine = engine();
    let raw = Bytes::from_static(&[0xff, 0x00, 0xfe]);
    let (some, fine, output) = (raw.clone(), raw.clone(), raw.clone());
    let steps = [
        Step::new("bytes", move || raw.clone()),
        Step::new("option", move || Some(some.clone())),
        Step::new("result", move || Ok::<_, String>(fine.clone())),
        Step::new("output", move || Output::Bytes(output.clone())),
        Step::new("empty", Bytes::new),
    ];
    assert_eq!(engine.execute(steps).await.unwrap(), ["/wD+", "/wD+", "/wD+", "/wD+", ""]);
    for key in ["task:bytes", "task:option", "task:result", "task:output"] {
        let artifact = artifact(&engine, key).await;
        assert_eq!((artifact.data.as_bytes(), artifact.text()), (&[0xff, 0x00, 0xfe][..], None), "{key}");
    }
    assert_eq!(artifact(&engine, "task:empty").await.data, Bytes::new().into());
}

#[actix::test]
async fn bytes_inside_a_list_are_base64_text() {
    let engine = engine();
    let steps = [Step::new("x", || vec![Bytes::from_static(b"\xff"), Bytes::from_static(b"ab")])];
    assert_eq!(engine.execute(steps).await.unwrap(), [json!(["/w==", "YWI="])]);
    assert_eq!(artifact(&engine, "task:x").await.text(), Some(r#"["/w==","YWI="]"#));
}

#[actix::test]
async fn the_event_of_a_step_that_returned_bytes_has_them_raw_and_its_json_base64() {
    let actors = start();
    let mut events = watch(&actors.bus).await;
    let step = Step::new("x", || Bytes::from_static(b"\xff\x00"));
    actors.orchestrator.send(ExecutePlan::new([step])).await.unwrap().unwrap();
    let completed: Event = until(&mut events, "task.completed").await.pop().unwrap();
    assert_eq!(completed.get("result"), Some(json!("/wA=")));
    assert!(matches!(
        completed.kind(),
        EventKind::TaskCompleted { result: Output::Bytes(bytes), .. } if **bytes == *b"\xff\x00"
    ));
}

#[actix::test]
async fn a_later_step_reads_bytes_as_bytes_numbers_or_text() {
    let steps = [
        Step::new("bytes", || Bytes::from_static(b"a\xc3\x9f")),
        Step::new("as bytes", |ctx: StepContext| ctx.output::<Bytes>("bytes")),
        Step::new("as numbers", |ctx: StepContext| ctx.output::<Vec<u8>>("bytes")),
        Step::new("as text", |ctx: StepContext| ctx.output::<String>("bytes")),
        Step::new("as an option", |ctx: StepContext| ctx.output::<Option<Bytes>>("bytes")),
    ];
    let results = engine().execute(steps).await.unwrap();
    assert_eq!(results[1..], [json!("YcOf"), json!([97, 195, 159]), json!("aß"), json!("YcOf")]);
}

#[actix::test]
async fn bytes_that_are_not_text_cannot_be_read_as_text() {
    let engine = engine();
    let steps = [
        Step::new("bytes", || Bytes::from_static(b"a\xff")),
        Step::new("reads", |ctx: StepContext| ctx.previous::<String>()),
    ];
    let PlanError::StepFailed { source, .. } = engine.execute(steps).await.unwrap_err() else { panic!() };
    assert_eq!(
        chain(&*source),
        [
            r#"the output of step "bytes" does not fit"#,
            "the bytes are not text: invalid utf-8 sequence of 1 bytes from index 1"
        ]
    );
}

#[actix::test]
async fn a_later_step_reads_bytes_as_a_value_and_as_an_array() {
    let bytes = Bytes::from_static(b"\xff\x00").into_output().unwrap();
    assert_eq!(bytes.read::<Value>().unwrap(), json!("/wA="));
    assert_eq!(bytes.read::<[u8; 2]>().unwrap(), [0xff, 0x00]);
}

// What cannot be an output.

#[actix::test]
async fn a_number_that_json_does_not_have_is_an_error() {
    let steps = [
        (Step::new("x", || f64::NAN), "NaN"),
        (Step::new("x", || f64::INFINITY), "inf"),
        (Step::new("x", || f32::NEG_INFINITY), "-inf"),
        (Step::new("x", async || f32::NAN), "NaN"),
        (Step::new("x", || vec![1.0, f64::NAN]), "NaN"),
        (Step::new("x", || Some(f64::INFINITY)).inline(), "inf"),
        (Step::new("x", || Ok::<_, String>(f64::NAN)), "NaN"),
    ];
    for (step, number) in steps {
        let (error, recorded) = failure(step).await;
        assert!(matches!(own(&error), OutputError::NotFinite { .. }));
        assert_eq!(recorded.kind, FailureKind::Output);
        let text = format!("the output {number} is not a JSON number; return None or a string instead");
        assert_eq!((error.to_string(), &recorded.message), (text.clone(), &text));
    }
}

#[actix::test]
async fn a_number_that_json_does_not_have_is_null_inside_a_json_output_as_the_docs_say() {
    assert_eq!(Json(f64::NAN).into_output().unwrap().to_value(), Value::Null);
    assert_eq!(Json([f32::INFINITY]).into_output().unwrap().to_value(), json!([null]));
}

#[actix::test]
async fn a_value_without_a_json_form_is_an_error() {
    let cases = [
        (Step::new("x", || u128::MAX), "number out of range"),
        (Step::new("x", || i128::MIN), "number out of range"),
        (Step::new("x", || Json(HashMap::from([(vec![1], 2)]))), "key must be a string"),
    ];
    for (step, cause) in cases {
        let (error, recorded) = failure(step).await;
        assert!(matches!(own(&error), OutputError::NotJson { .. }));
        assert_eq!(chain(&*error), ["the output has no JSON form", cause]);
        assert_eq!((recorded.kind, &*recorded.causes), (FailureKind::Output, &[cause.to_owned()][..]));
    }
}

#[actix::test]
async fn an_output_of_16_mebibytes_is_stored_and_one_byte_more_is_an_error() {
    let outputs: [fn(usize) -> Output; 3] = [
        |bytes| "x".repeat(bytes).into_output().unwrap(),
        |bytes| Bytes::from(vec![7; bytes]).into_output().unwrap(),
        // The string form of a list has its brackets and quotes.
        |bytes| vec!["x".repeat(bytes - 4)].into_output().unwrap(),
    ];
    for output in outputs {
        let engine = engine();
        engine.execute([Step::new("most", move || output(MAX_OUTPUT_BYTES))]).await.unwrap();
        assert_eq!(artifact(&engine, "task:most").await.data.len(), 16_777_216);

        let step = Step::new("more", move |ctx: StepContext| {
            ctx.put_artifact("further", "x")?;
            Ok::<_, StepError>(output(MAX_OUTPUT_BYTES + 1))
        });
        let error = engine.execute([Step::new("before", || 1), step]).await.unwrap_err();
        let PlanError::StepFailed { kind, source, completed, .. } = error else { panic!("{error:?}") };
        assert_eq!((kind, completed), (FailureKind::Output, vec![json!(1)]));
        assert!(matches!(own(&source), OutputError::TooLarge { bytes: 16_777_217 }));
        assert_eq!(
            source.to_string(),
            "the output has 16777217 bytes, more than 16777216; write it to a file and return the file's name"
        );
        assert_eq!(keys(&engine).await, ["task:before", "task:most"]);
    }
}

#[actix::test]
async fn an_output_that_is_nested_too_deep_is_an_error() {
    // Few enough for today's code to survive it.
    let step = Step::new("x", || (0..1_000).fold(json!(1), |inner, _| json!([inner])));
    let answer = engine().execute([step]).await.map(drop);
    assert!(matches!(answer, Err(PlanError::StepFailed { kind: FailureKind::Output, .. })), "{answer:?}");
}

// Errors.

#[derive(Debug, thiserror::Error, PartialEq)]
enum FetchError {
    #[error("no answer from {host}")]
    NoAnswer { host: &'static str },
    #[error("cannot parse the answer")]
    Malformed(#[source] std::num::ParseIntError),
}

fn malformed() -> FetchError {
    FetchError::Malformed("x".parse::<u32>().unwrap_err())
}

#[actix::test]
async fn every_error_fails_its_step_with_its_message_and_its_causes() {
    const CAUSE: &str = "invalid digit found in string";
    const PARSE: &[&str] = &["cannot parse the answer", CAUSE];
    let broken = || std::io::Error::other(malformed());
    let cases: Vec<(Step, &[&str])> = vec![
        (Step::new("x", || Err::<(), _>("a str")), &["a str"]),
        (Step::new("x", || Err::<u32, _>(String::from("a string"))), &["a string"]),
        (Step::new("x", || "x".parse::<u32>()), &[CAUSE]),
        (Step::new("x", move || Err::<(), _>(broken())), PARSE),
        (Step::new("x", || Err::<(), _>(malformed())), PARSE),
        (Step::new("x", async || Err::<Vec<u8>, _>(malformed())), PARSE),
        (Step::new("x", || Err::<(), _>(StepError::from(malformed()))), PARSE),
        (Step::new("x", || Err::<(), Box<dyn Error + Send + Sync>>("boxed".into())), &["boxed"]),
        (Step::new("x", || Err::<(), _>(anyhow::anyhow!("an anyhow message"))), &["an anyhow message"]),
        (
            Step::new("x", || Err::<(), _>(anyhow::Error::new(malformed()).context("while fetching"))),
            &["while fetching", "cannot parse the answer", CAUSE],
        ),
        (Step::new("x", || vec![Ok(1), Err("inside a list")]), &["inside a list"]),
        (Step::new("x", || Some(Err::<(), _>("inside an option"))), &["inside an option"]),
        (Step::new("x", || Ok::<_, &str>(Err::<(), _>("inside a result"))), &["inside a result"]),
    ];
    for (step, expected) in cases {
        let (error, recorded) = failure(step).await;
        assert_eq!(chain(&*error), expected);
        assert_eq!((recorded.kind, &*recorded.message), (FailureKind::Error, expected[0]));
        assert_eq!(recorded.causes, expected[1..]);
    }
}

#[actix::test]
async fn the_caller_gets_the_steps_own_error_back_with_its_type() {
    let steps = [
        Step::new("x", || Err::<(), _>(FetchError::NoAnswer { host: "a.example" })),
        Step::new("x", async || Err::<(), _>(FetchError::NoAnswer { host: "a.example" })),
        Step::new("x", || -> Result<(), StepError> { Err(FetchError::NoAnswer { host: "a.example" })? }),
        Step::new("x", || {
            Err::<(), Box<dyn Error + Send + Sync>>(FetchError::NoAnswer { host: "a.example" }.into())
        }),
    ];
    for step in steps {
        let error = engine().execute([step]).await.unwrap_err();
        // Through the standard trait, as a caller sees it who knows nothing of this crate.
        let through_source = Error::source(&error).unwrap().downcast_ref::<FetchError>();
        assert_eq!(through_source, Some(&FetchError::NoAnswer { host: "a.example" }));
        let PlanError::StepFailed { source, .. } = error else { panic!("{error:?}") };
        assert!(source.is::<FetchError>());
        assert_eq!(own::<FetchError>(&source), &FetchError::NoAnswer { host: "a.example" });
        assert!(source.downcast_ref::<std::io::Error>().is_none());
    }
}

#[actix::test]
async fn the_cause_of_an_anyhow_error_keeps_its_type() {
    let step = Step::new("x", || Err::<(), _>(anyhow::Error::new(malformed()).context("while fetching")));
    let (error, _) = failure(step).await;
    assert_eq!(error.source().unwrap().downcast_ref::<FetchError>(), Some(&malformed()));
}

#[actix::test]
async fn an_anyhow_error_without_context_keeps_its_message_and_causes_but_hides_its_type_as_the_docs_say() {
    let step = Step::new("x", || -> anyhow::Result<()> { Err(malformed())? });
    let (error, recorded) = failure(step).await;
    assert_eq!((error.to_string(), error.is::<FetchError>()), (malformed().to_string(), false));
    assert_eq!(recorded.message, malformed().to_string());
}

#[actix::test]
async fn a_plan_error_tells_the_step_and_what_came_before_it() {
    let engine = engine();
    let steps = [
        Step::new("first", || "one"),
        Step::new("second", || Bytes::from_static(b"\xff")),
        Step::new("third", || Err::<(), _>(malformed())),
        Step::new("fourth", || "never"),
    ];
    let error = engine.execute(ExecutePlan::new(steps).run_id("r")).await.unwrap_err();
    assert_eq!(
        chain(&error),
        [
            r#"step 2 ("third") of run r failed at attempt 1"#,
            "cannot parse the answer",
            "invalid digit found in string"
        ]
    );
    let PlanError::StepFailed { run_id: run, step_id, index, attempt, kind, completed, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!((run, &*step_id, index, attempt), (run_id("r"), "third", 2, 1));
    assert_eq!((kind, completed), (FailureKind::Error, vec![json!("one"), json!("/w==")]));
    assert_eq!(keys(&engine).await, ["task:first", "task:second"]);
    assert_eq!(engine.results(&run_id("r")).await.unwrap().unwrap(), ["one", "/w=="]);
}

#[actix::test]
async fn a_long_error_is_shortened_in_the_record_and_whole_for_the_caller() {
    let (error, recorded) = failure(Step::new("x", || Err::<(), _>("ä".repeat(5_000)))).await;
    assert_eq!(error.to_string().len(), 10_000);
    // 8,192 bytes at most: 4,094 characters of two bytes, and a mark of three.
    assert_eq!(recorded.message, format!("{}…", "ä".repeat(4_094)));
}
