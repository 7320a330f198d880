use std::time::{Duration, Instant};

use lunacore::*;
use serde_json::{Value, json};

use super::support::{World, is_there, patiently, read};
use crate::callables::limits::{QUOTED_BYTES, STREAM_BYTES};
use crate::callables::shell;

#[actix::test]
async fn the_output_is_what_it_wrote() {
    let world = World::new();
    let output = world.run(world.script("echo one; echo two >&2; printf '\\377'")).await;
    assert_eq!(output, Ok(json!({ "exit_code": 0, "stdout": "one\n\u{fffd}", "stderr": "two\n" })));
    assert_eq!(world.run(world.script("")).await, Ok(json!({ "exit_code": 0, "stdout": "", "stderr": "" })));
}

#[actix::test]
async fn a_script_ends_at_its_first_failing_command() {
    let world = World::new();
    let failed = world.run(world.script("echo one; false; touch two")).await.unwrap_err();
    assert_eq!(failed.message, "the script exited with code 1; it wrote nothing to stderr");
    assert!(!world.path("two").exists());
}

#[actix::test]
async fn another_code_than_0_is_a_failure_that_says_why() {
    let world = World::new();
    let failed = world.run(world.script("echo why >&2; echo what; exit 3")).await.unwrap_err();
    assert_eq!(failed.message, "the script exited with code 3; the end of its stderr:\nwhy");
    assert_eq!((failed.kind, failed.fatal), (FailureKind::Error, false));
    let failed = world.call("shell", json!({ "argv": ["sh", "-c", "kill -9 $$"] })).await.unwrap_err();
    assert_eq!(failed.message, "the program was ended by signal 9 (SIGKILL); it wrote nothing to stderr");
    // Only the last lines, and not too much of them.
    let failed = world.run(world.script("seq 1 100 >&2; exit 1")).await.unwrap_err();
    let lines: Vec<String> = (81..=100).map(|n| n.to_string()).collect();
    let expected = format!("the script exited with code 1; the end of its stderr:\n…{}", lines.join("\n"));
    assert_eq!(failed.message, expected);
    let failed = world.run(world.script("printf '%09999d' 0 >&2; exit 1")).await.unwrap_err();
    assert!(failed.message.ends_with(&format!("\n…{}", "0".repeat(QUOTED_BYTES))), "{}", failed.message);
}

#[actix::test]
async fn arguments_are_not_interpreted() {
    let world = World::new();
    let argv = json!(["printf", "<%s>", "$(touch x)", "a  b", "*", "'\"", "", "ä\n", 5, true]);
    let output = world.call("shell", json!({ "argv": argv, "cwd": world.folder() })).await.unwrap();
    assert_eq!(output["stdout"], "<$(touch x)><a  b><*><'\"><><ä\n><5><true>");
    assert_eq!(std::fs::read_dir(world.folder()).unwrap().count(), 0);
}

#[actix::test]
async fn standard_input_is_what_is_given() {
    let world = World::new();
    let long = "0123456789\n".repeat(100_000);
    for (given, expected) in [
        (json!({}), ""),
        (json!({ "stdin": "one\ntwo" }), "one\ntwo"),
        (json!({ "stdin": "\n" }), "\n"),
        (json!({ "stdin": { "a": [1] } }), "{\"a\":[1]}"),
        (json!({ "stdin": long }), &long[..]),
    ] {
        let mut input = given.clone();
        input["argv"] = json!(["sh", "-c", "cat > got"]);
        input["cwd"] = json!(world.folder());
        world.call("shell", input).await.unwrap();
        assert!(read(&world.path("got")) == expected, "{given}");
    }
    // What is not read does no harm.
    for script in ["true", "head -c 1", "exec <&-; sleep 0.1"] {
        let input = json!({ "script": script, "stdin": long });
        world.call("shell", input).await.unwrap();
    }
}

#[actix::test]
async fn environment_and_folder_are_as_told() {
    let world = World::new();
    let script = "pwd -P; echo $WHO $N ${PATH:+path}; \
        echo $LUNACORE_RUN_ID $LUNACORE_STEP_ID $LUNACORE_ATTEMPT $LUNACORE_IDEMPOTENCY_KEY; \
        [ ${#LUNACORE_GROUP} -gt 30 ]";
    let input = json!({ "script": script, "cwd": world.folder(), "env": { "WHO": "you $N", "N": 7 } });
    let step = Step::named("say it").uses("shell").input(input);
    let results = world.engine.execute(ExecutePlan::new([step]).run_id("a/b")).await.unwrap();
    let folder = world.folder().canonicalize().unwrap();
    let expected = format!("{}\nyou $N 7 path\na/b say it 1 a%2Fb/1/say%20it\n", folder.display());
    assert_eq!(results[0]["stdout"], expected);
}

#[actix::test]
async fn what_cannot_be_run_is_refused_for_good_and_says_why() {
    let world = World::new();
    std::fs::write(world.path("plain"), "x").unwrap();
    let (folder, plain) = (world.folder().to_str().unwrap(), world.path("plain"));
    let plain = plain.to_str().unwrap();
    let refused: Vec<(Value, String, Option<&str>)> = vec![
        (json!({ "argv": [] }), "\"argv\" is empty; its first entry is the program".into(), None),
        (
            json!({ "argv": ["no-such"] }),
            "the program \"no-such\" was not found in any folder of PATH".into(),
            None,
        ),
        (
            json!({ "argv": ["sh"], "env": { "PATH": "/no" } }),
            "the program \"sh\" was not found in any folder of PATH".into(),
            None,
        ),
        (json!({ "argv": [""] }), "the program \"\" was not found in any folder of PATH".into(), None),
        (json!({ "argv": ["./no"] }), "the program \"./no\" was not found".into(), None),
        (json!({ "argv": [plain] }), format!("{plain:?} is not executable"), None),
        (json!({ "argv": ["plain"], "env": { "PATH": folder } }), "\"plain\" is not executable".into(), None),
        (json!({ "argv": [folder] }), format!("{folder:?} is not executable"), None),
        (
            json!({ "script": "", "cwd": "/no/such" }),
            "the folder \"/no/such\" of the input's \"cwd\" cannot be entered".into(),
            Some("No such file or directory (os error 2)"),
        ),
        (
            json!({ "script": "", "cwd": plain }),
            format!("the folder {plain:?} of the input's \"cwd\" cannot be entered"),
            Some("not a directory"),
        ),
        (
            json!({ "script": "", "env": { "LUNACORE_RUN_ID": "x" } }),
            "\"env\" sets \"LUNACORE_RUN_ID\", which the command itself sets".into(),
            None,
        ),
        (
            json!({ "script": "a\0b" }),
            "the process could not be started".into(),
            Some("nul byte found in provided data"),
        ),
        (
            json!({ "script": "#".repeat(1 << 22) }),
            "the process could not be started".into(),
            Some("Argument list too long (os error 7)"),
        ),
    ];
    // Without its schema, as where an expression stands whose value is known only when its turn has come.
    for (input, problem) in [
        (json!({}), "neither \"script\" nor"),
        (json!({ "script": "", "argv": ["x"] }), "both \"script\" and"),
    ] {
        let ledger = world.ledger.clone();
        let call = move |args: shell::Args, ctx: StepContext| shell::shell(&ledger, &args, &ctx);
        let failed = world.run(Step::new("step", call).input(input)).await.unwrap_err();
        let message = format!("the input has {problem} \"argv\"; give one of them");
        assert_eq!((failed.message, failed.fatal), (message, true));
    }
    for name in ["", "A=B", "a.b", "1A", "ä", "A\0"] {
        let failed = world.call("shell", json!({ "script": "", "env": { name: "x" } })).await.unwrap_err();
        let rule =
            "the name of a variable has only letters of ASCII, digits and \"_\", and begins with no digit";
        assert_eq!((failed.message, failed.fatal), (format!("\"env\" sets {name:?}; {rule}"), true));
    }
    for (input, message, cause) in refused {
        let failed = world.call("shell", input.clone()).await.unwrap_err();
        let causes: Vec<&str> = failed.causes.iter().map(String::as_str).collect();
        assert_eq!((failed.message, causes), (message, cause.into_iter().collect()));
        assert!(failed.fatal);
    }
}

#[actix::test]
async fn a_program_is_found_as_the_system_finds_it() {
    let world = World::new();
    for (name, text) in [("tool", "#!/bin/sh\necho mine"), ("other", "#!/bin/sh\necho other")] {
        std::fs::write(world.path(name), text).unwrap();
    }
    std::process::Command::new("chmod").arg("+x").arg(world.path("tool")).status().unwrap();
    let path = format!("/no/such::{}", world.folder().display());
    for (argv, cwd, path) in [
        (json!(["./tool"]), Some(world.folder()), None),
        (json!([world.path("tool")]), None, None),
        (json!(["tool"]), None, Some(path.as_str())),
        (json!(["tool"]), Some(world.folder()), Some("/no:")),
    ] {
        let mut input = json!({ "argv": argv });
        if let Some(cwd) = cwd {
            input["cwd"] = json!(cwd);
        }
        if let Some(path) = path {
            input["env"] = json!({ "PATH": format!("{path}:/bin:/usr/bin") });
        }
        assert_eq!(world.call("shell", input.clone()).await.unwrap()["stdout"], "mine\n", "{input}");
    }
}

#[actix::test]
async fn of_long_output_the_middle_is_left_out_and_counted() {
    let world = World::new();
    let script = "head -c 3000000 /dev/zero | tr '\\0' a; head -c 100 /dev/zero >&2; echo end";
    let output = world.run(world.script(script)).await.unwrap();
    let left_out = 3_000_004 - STREAM_BYTES;
    assert_eq!(output["stdout_left_out"], left_out);
    assert!(output.get("stderr_left_out").is_none());
    let half = "a".repeat(STREAM_BYTES / 2);
    let expected = format!("{half}\n… {left_out} bytes left out …\n{}end\n", &half[4..]);
    assert!(output["stdout"] == expected);
    // The worst that can be written fits into the output of a step.
    let worst = format!("head -c {STREAM_BYTES} /dev/zero; head -c {STREAM_BYTES} /dev/zero >&2");
    let output = world.run(world.script(&worst)).await.unwrap();
    assert_eq!(output["stderr"].as_str().unwrap().len(), STREAM_BYTES);
}

#[actix::test]
async fn what_a_script_leaves_in_its_group_is_ended() {
    let world = World::new();
    // What is done soon may finish.
    let output = world.run(world.script("(sleep 0.1; echo late) & echo now")).await.unwrap();
    assert_eq!(output["stdout"], "now\nlate\n");
    let began = Instant::now();
    let output = world.run(world.script("sleep 1000 & echo $!")).await.unwrap();
    let (pid, took) = (output["stdout"].as_str().unwrap().trim(), began.elapsed());
    assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(500), "{took:?}");
    patiently("it to be gone", || !is_alive(pid)).await;
    // Whatever it says to SIGTERM, and wherever it writes.
    let script = "(trap '' TERM; exec >&- 2>&- <&-; sleep 1000) & echo $!";
    let output = world.run(world.script(script)).await.unwrap();
    assert!(!is_alive(output["stdout"].as_str().unwrap().trim()));
}

/// A process that nobody has waited for, since its parent has ended, may be there for a while, but does not live.
fn is_alive(pid: &str) -> bool {
    let stat = read(&std::path::Path::new("/proc").join(pid).join("stat"));
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[actix::test]
async fn what_has_left_the_group_is_not_waited_for() {
    let world = World::new();
    let began = Instant::now();
    let output = world.run(world.script("setsid sleep 1000 & sleep 0.1; echo $!")).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(500));
    let daemon = output["stdout"].as_str().unwrap().trim().to_owned();
    assert!(is_alive(&daemon), "it is its own affair");
    std::process::Command::new("kill").arg(&daemon).status().unwrap();
}

#[actix::test]
async fn no_zombie_is_left() {
    let world = World::new();
    for script in ["echo $$", "echo $$ >&2; exit 1", "echo $$ >&2; kill -9 $$"] {
        let pid = match world.run(world.script(script)).await {
            Ok(output) => output["stdout"].as_str().unwrap().trim().to_owned(),
            Err(failed) => failed.message.rsplit_once('\n').unwrap().1.to_owned(),
        };
        assert!(!is_there(&pid), "{script}");
    }
    let step = world.script("echo $$ > pid; sleep 1000").timeout(Duration::from_millis(500));
    assert_eq!(world.run(step).await.unwrap_err().kind, FailureKind::Timeout);
    assert!(!is_there(read(&world.path("pid")).trim()));
}
