//! Files that were made to hurt, each with the exact error it gets, beside a twin that passes.

use std::time::{Duration, Instant};

use lunacore::PlanFormat::{self, Json, Toml, Yaml};
use lunacore::limits::{MAX_PLAN_FILE_BYTES, MAX_STEPS};
use lunacore::{Plan, PlanFileError};

use super::problems;

struct Case {
    what: &'static str,
    format: PlanFormat,
    bad: String,
    /// Of the first problem, with its place.
    says: &'static str,
    twin: String,
}

fn yaml(input: &str) -> String {
    format!("steps:\n  - id: a\n    with: {input}\n")
}

fn json(input: &str) -> String {
    format!("{{\"steps\": [{{ \"id\": \"a\",\n\"with\": {input} }}] }}")
}

fn toml(input: &str) -> String {
    format!("[[steps]]\nid = 'a'\nwith = {input}\n")
}

fn deep(levels: usize, open: &str, core: &str, close: &str) -> String {
    format!("{}{core}{}", open.repeat(levels), close.repeat(levels))
}

fn case(
    what: &'static str,
    format: PlanFormat,
    bad: impl Into<String>,
    says: &'static str,
    twin: impl Into<String>,
) -> Case {
    Case { what, format, bad: bad.into(), says, twin: twin.into() }
}

/// The same input in a file of this format, bad and good.
fn with(what: &'static str, format: PlanFormat, bad: &str, says: &'static str, twin: &str) -> Case {
    let file = match format {
        Toml => toml,
        Json => json,
        _ => yaml,
    };
    case(what, format, file(bad), says, file(twin))
}

#[track_caller]
fn check(cases: Vec<Case>) {
    let mut wrong = Vec::new();
    for Case { what, format, bad, says, twin } in cases {
        let started = Instant::now();
        let found = problems(format, &bad);
        let took = started.elapsed();
        if found[0] != says {
            wrong.push(format!("{what} ({format}) says {:?} and not {says:?}", found[0]));
        }
        assert!(took < Duration::from_secs(20), "{what} ({format}) took {took:?}");
        if let Err(error) = Plan::from_text(&twin, format) {
            wrong.push(format!("the twin of {what} ({format}) is refused: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn aliases_make_no_large_plan_of_a_small_file() {
    let laughs = |levels: usize| {
        let mut text = String::from("steps: [{ id: a, with: [&x0 [lol, lol],\n");
        for level in 1..levels {
            let before = format!("*x{}", level - 1);
            text += &format!("&x{level} [{}],\n", vec![before; 9].join(", "));
        }
        text + "]}]\n"
    };
    let squared = |n: usize| {
        let many = vec!["x"; n].join(", ");
        yaml(&format!("[&a [{many}], {}]", vec!["*a"; n].join(", ")))
    };
    let told = "aliases repeat more than 200000 values and names in this file; write them out";
    check(vec![
        case("laughs", Yaml, laughs(30), LAUGHS, laughs(4)),
        case("a square", Yaml, squared(10_000), SQUARE, squared(100)),
        case(
            "an alias in itself",
            Yaml,
            yaml("&a [1, *a]"),
            "3:18: this alias stands inside of what it repeats",
            yaml("[&a [1], *a]"),
        ),
        case(
            "an unknown alias",
            Yaml,
            yaml("*b"),
            "3:11: alias references unknown anchor",
            yaml("[&b 1, *b]"),
        ),
        case(
            "a merge key",
            Yaml,
            "steps:\n  - &a { id: a, retry: 3 }\n  - { <<: *a, id: b }\n",
            "3:7: merge keys (`<<`) are not read; give the whole mapping an anchor, or write it out",
            "steps:\n  - { id: a, retry: &r { delay: 1s } }\n  - { id: b, retry: *r }\n",
        ),
    ]);
    assert!(LAUGHS.ends_with(told) && SQUARE.ends_with(told));
}

const LAUGHS: &str = "6:36: aliases repeat more than 200000 values and names in this file; write them out";
const SQUARE: &str = "3:30093: aliases repeat more than 200000 values and names in this file; write them out";

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn what_nests_too_deep_ends_no_process() {
    let block = |levels: usize| format!("steps:\n  - id: a\n    with:\n      {}x\n", "- ".repeat(levels));
    let lines = |levels: usize| {
        let line = |level: usize| format!("{}a:\n", " ".repeat(level + 6));
        format!("steps:\n  - id: a\n    with:\n{}", (0..levels).map(line).collect::<String>())
    };
    let many = 100_000;
    check(vec![
        with(
            "flow lists",
            Yaml,
            &deep(many, "[", "", "]"),
            "3:114: lists and mappings nest deeper than 103 levels here",
            &deep(100, "[", "", "]"),
        ),
        with(
            "flow mappings",
            Yaml,
            &deep(many, "{a: ", "1", "}"),
            "3:411: lists and mappings nest deeper than 103 levels here",
            &deep(100, "{a: ", "1", "}"),
        ),
        case(
            "block lists",
            Yaml,
            block(many),
            "4:207: lists and mappings nest deeper than 103 levels here",
            block(100),
        ),
        case(
            "block mappings",
            Yaml,
            lines(3_000),
            "104:107: lists and mappings nest deeper than 103 levels here",
            lines(100),
        ),
        with(
            "lists",
            Json,
            &deep(many, "[", "", "]"),
            "2:109: lists and mappings nest deeper than 103 levels here",
            &deep(100, "[", "", "]"),
        ),
        with(
            "objects",
            Json,
            &deep(many, "{\"a\":", "1", "}"),
            "2:509: lists and mappings nest deeper than 103 levels here",
            &deep(100, "{\"a\":", "1", "}"),
        ),
        with(
            "arrays",
            Toml,
            &deep(many, "[", "", "]"),
            "3:88: lists and tables nest deeper here than the 80 levels that TOML files may",
            &deep(75, "[", "", "]"),
        ),
        with(
            "tables",
            Toml,
            &deep(many, "{a=", "1", "}"),
            "3:248: lists and tables nest deeper here than the 80 levels that TOML files may",
            &deep(75, "{a=", "1", "}"),
        ),
        case(
            "a dotted key",
            Toml,
            format!("[[steps]]\nid = 'a'\n{} = 1\n", vec!["with"; many].join(".")),
            "1:1: lists and tables nest deeper here than the 80 levels that TOML files may",
            format!("[[steps]]\nid = 'a'\n{} = 1\n", vec!["with"; 70].join(".")),
        ),
        case(
            "a header",
            Toml,
            format!("[{}]\nsteps = []\n", vec!["steps"; many].join(".")),
            "1:1: lists and tables nest deeper here than the 80 levels that TOML files may",
            format!("[[steps]]\nid = 'a'\n[steps.{}]\n", vec!["with"; 70].join(".")),
        ),
        // One level more than an input may have.
        with(
            "an input",
            Yaml,
            &deep(101, "[", "", "]"),
            "3:111: lists and mappings nest deeper than 103 levels here",
            &deep(100, "[", "", "]"),
        ),
    ]);
}

#[test]
fn a_thread_with_a_small_stack_reads_the_deepest_file() {
    for (format, text) in [(Yaml, yaml(&deep(100, "[", "", "]"))), (Json, json(&deep(100, "[", "", "]")))] {
        let thread = std::thread::Builder::new().stack_size(256 * 1024);
        let read = thread.spawn(move || Plan::from_text(&text, format).is_ok()).unwrap();
        assert!(read.join().unwrap(), "{format}");
    }
}

#[test]
fn numbers_are_what_is_written_or_refused() {
    let float = "this number is infinite, too large, or none at all; a plan holds finite numbers";
    let integer = "this integer does not fit 64 bits; put it in quotes, as text";
    let every = |format: PlanFormat, bad: &[(&str, &str)]| {
        let text = match format {
            Toml => toml,
            Json => json,
            _ => yaml,
        };
        for (number, what) in bad {
            let found = problems(format, &text(number));
            assert_eq!(found.len(), 1, "{number}");
            assert!(found[0].ends_with(what), "{format} {number}: {found:?}");
        }
    };
    every(Yaml, &[("1e999", float), (".inf", float), ("-.Inf", float), (".nan", float)]);
    every(Yaml, &[("1180591620717411303424", integer), ("-9223372036854775809", integer)]);
    every(Json, &[("1e999", float), ("1180591620717411303424", integer), ("-9223372036854775809", integer)]);
    every(
        Json,
        &[("0x10", "expected `,` or `}`"), ("Infinity", "expected value"), ("NaN", "expected value")],
    );
    every(Json, &[("01", "invalid number"), ("+1", "expected value"), (".5", "expected value")]);
    every(Toml, &[("inf", float), ("-inf", float), ("nan", float), ("1e999", float)]);
    every(Toml, &[("1180591620717411303424", integer), ("-9223372036854775809", integer)]);
    for (format, text, expected) in [
        (
            Yaml,
            yaml("[18446744073709551615, -9223372036854775808, 0x1F, 0o17, 017, +1, 1e3, 1.5, -0.0]"),
            "[18446744073709551615,-9223372036854775808,31,15,17,1,1000.0,1.5,-0.0]",
        ),
        (
            Json,
            json("[18446744073709551615, -9223372036854775808, 1e3, 1.5, -0.0]"),
            "[18446744073709551615,-9223372036854775808,1000.0,1.5,-0.0]",
        ),
        (
            Toml,
            toml("[18446744073709551615, -9223372036854775808, 0x1F, 0o17, 0b11, 1_000, 1e3, 1.5]"),
            "[18446744073709551615,-9223372036854775808,31,15,3,1000,1000.0,1.5]",
        ),
    ] {
        let plan = Plan::from_text(&text, format).unwrap();
        assert_eq!(plan.steps()[0].get_input().to_string(), expected);
    }
}

#[test]
fn words_are_no_booleans_and_dates_are_no_texts() {
    let plan = Plan::from_text(
        &yaml("[yes, no, on, off, y, n, true, FALSE, 1_000, 2026-11-23, 12:30:45, ~, null]"),
        Yaml,
    );
    let expected = r#"["yes","no","on","off","y","n",true,false,"1_000","2026-11-23","12:30:45",null,null]"#;
    assert_eq!(plan.unwrap().steps()[0].get_input().to_string(), expected);
    check(vec![
        case(
            "yes",
            Yaml,
            "steps: [{ id: a, inline: yes }]",
            "1:26: `inline` is the text \"yes\", but true or false is expected",
            "steps: [{ id: a, inline: true }]",
        ),
        case(
            "yes of YAML 1.1",
            Yaml,
            "%YAML 1.1\n---\nsteps: [{ id: a, inline: on }]",
            "3:26: `inline` is the text \"on\", but true or false is expected",
            "%YAML 1.1\n---\nsteps: [{ id: a }]",
        ),
        with("yes", Toml, "yes", "3:8: string values must be quoted, expected literal string", "'yes'"),
        with(
            "a date",
            Toml,
            "2026-11-23",
            "3:8: a plan holds no dates; put it in quotes, as text",
            "'2026-11-23'",
        ),
    ]);
}

#[test]
fn tags_make_no_objects() {
    check(vec![
        with(
            "an object",
            Yaml,
            "!!python/object:os.system 'x'",
            "3:37: unsupported tag `!!python/object:os.system`",
            "'!!python/object:os.system'",
        ),
        with("an own tag", Yaml, "!foo x", "3:16: unsupported tag `!foo`", "'!foo x'"),
        with("a set", Yaml, "!!set {a, b}", "3:17: unsupported tag `!!set`", "[a, b]"),
        with("no integer", Yaml, "!!int 'x'", "3:17: invalid u64", "!!int 5"),
        with(
            "a time",
            Yaml,
            "!!timestamp 2001-01-01",
            "3:23: cannot deserialize tagged scalar into string",
            "!!str 2001-01-01",
        ),
    ]);
}

#[test]
fn a_key_stands_once() {
    let twice = |line: &str, first: usize| {
        format!("{line}: the key \"a\" stands here twice; it has a value on line {first} already")
    };
    for (format, text, expected) in [
        (Yaml, yaml("{ a: 1, b: 2, a: 3 }"), twice("3:25", 3)),
        (Yaml, yaml("\n      a: 1\n      \"a\": 2"), twice("5:7", 4)),
        (Json, json("{\"a\": 1,\n \"b\": 2, \"\\u0061\": 3}"), twice("3:10", 2)),
        (Toml, toml("{ a = 1, b = 2, 'a' = 3 }"), "3:24: duplicate key".to_owned()),
    ] {
        assert_eq!(problems(format, &text), [expected], "{format}");
    }
    let text = "name: x\nname: y\nsteps:\n  - id: a\n    retry: 1\n    id: b\n    retry: 2\n";
    assert_eq!(
        problems(Yaml, text),
        [
            r#"2:1: the key "name" stands here twice; it has a value on line 1 already"#,
            r#"6:5: the key "id" stands here twice; it has a value on line 4 already"#,
            r#"7:5: the key "retry" stands here twice; it has a value on line 5 already"#,
        ]
    );
}

#[test]
fn keys_are_text() {
    let plan = Plan::from_text(&yaml("{ 1: a, true: b, 1.50: c }"), Yaml).unwrap();
    assert_eq!(
        plan.steps()[0].get_input().to_string(),
        r#"{"1":"a","1.50":"c","true":"b"}"#,
        "as they are written"
    );
    check(vec![
        with("a null", Yaml, "{ null: c }", "3:13: a key is null here; put it in quotes", "{ 'null': c }"),
        with(
            "a list",
            Yaml,
            "{ ? [a, b] : 1 }",
            "3:15: a key is a list or a mapping here; keys are text",
            "{ ? a : 1 }",
        ),
        with(
            "half a character",
            Json,
            r#"{ "\ud800": 1 }"#,
            "2:11: the escapes of this name make no text",
            r#"{ "\ud83d\ude00": 1 }"#,
        ),
    ]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn names_show_all_of_themselves() {
    let id = |id: &str| format!("steps:\n  - id: {id:?}\n").replace("\\u{", "\\U{");
    let raw = |id: &str| format!("steps:\n  - id: {id}\n    uses: x\n");
    check(vec![
        case(
            "a bidi control",
            Yaml,
            raw("a\u{202e}b"),
            "2:9: the id \"a\\u{202e}b\" has the invisible character U+202E; two names that look alike must be alike",
            raw("ab"),
        ),
        case(
            "a zero width space",
            Yaml,
            raw("a\u{200b}"),
            "2:9: the id \"a\\u{200b}\" has the invisible character U+200B; two names that look alike must be alike",
            raw("ä"),
        ),
        case(
            "a word joiner",
            Yaml,
            raw("a\u{2060}"),
            "2:9: the id \"a\\u{2060}\" has the invisible character U+2060; two names that look alike must be alike",
            raw("数据"),
        ),
        case(
            "a Hangul filler",
            Yaml,
            raw("\u{3164}"),
            "2:9: the id \"\u{3164}\" has the invisible character U+3164; two names that look alike must be alike",
            raw("한"),
        ),
        case(
            "a callable",
            Yaml,
            "steps: [{ id: a, uses: \"x\u{ad}y\" }]",
            "1:24: the uses \"x\\u{ad}y\" has the invisible character U+00AD; two names that look alike must be alike",
            "steps: [{ id: a, uses: xy }]",
        ),
        case(
            "an input",
            Yaml,
            "inputs: { \"x\u{200d}\": any }\nsteps: []",
            "1:11: the input name \"x\\u{200d}\" has the invisible character U+200D; two names that look alike must be alike",
            "inputs: { x: any }\nsteps: []",
        ),
        case(
            "a Cyrillic letter",
            Yaml,
            "steps: [{ id: a, \u{440}etry: 3 }]",
            "1:18: unknown key \"\u{440}etry\" in a step; 'р' in it is U+0440; did you mean \"retry\"?",
            "steps: [{ id: a, retry: 3 }]",
        ),
        case(
            "a line break",
            Yaml,
            "steps: [{ id: \"a\\nb\" }]",
            "1:15: the id \"a\\nb\" has the control character '\\n' at byte 1",
            "steps: [{ id: \"a b\" }]",
        ),
        case(
            "a long name",
            Json,
            json("1").replace("\"a\"", &format!("\"{}\"", "a".repeat(257))),
            "1:20: the id \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…\" has 257 bytes, more than 256",
            json("1").replace("\"a\"", &format!("\"{}\"", "a".repeat(256))),
        ),
    ]);
    // Ids never become paths, so they may look like some.
    let plan = Plan::from_text(&id("../../etc/passwd"), Yaml).unwrap();
    assert_eq!(plan.steps()[0].id(), Some("../../etc/passwd"));
    // What a line shows does nothing to the terminal.
    let shown = Plan::from_text("steps: 5 # \u{202e}\u{200b}", Yaml).unwrap_err().to_string();
    assert!(shown.contains("5 # \u{fffd}\u{fffd}"), "{shown}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn texts_that_are_none_of_their_format_are_refused() {
    let good = "steps: []\n";
    check(vec![
        case("nothing", Yaml, "", "1:1: the file is empty; a plan has `steps`", good),
        case("white space", Json, " \n ", "1:1: the file is empty; a plan has `steps`", r#"{ "steps": [] }"#),
        case("a comment", Yaml, "# x", "1:4: the file is empty; a plan has `steps`", "# x\nsteps: []"),
        case(
            "a comment",
            Toml,
            "# x",
            "1:1: the plan has no \"steps\"; it is the list of what is done",
            "steps = []",
        ),
        case(
            "a scalar",
            Yaml,
            "hello",
            "1:1: the plan is the text \"hello\", but a mapping is expected",
            good,
        ),
        case("a list", Yaml, "- a", "1:1: the plan is a list, but a mapping is expected", good),
        case(
            "a number",
            Json,
            "5",
            "1:1: the plan is the number 5, but a mapping is expected",
            r#"{ "steps": [] }"#,
        ),
        case(
            "a NUL",
            Yaml,
            "steps: []\0\nx: 1",
            "1:10: a NUL stands here; a plan file is text, saved as UTF-8",
            good,
        ),
        case(
            "a NUL",
            Toml,
            "steps = []\0",
            "1:11: a NUL stands here; a plan file is text, saved as UTF-8",
            "steps = []",
        ),
        case(
            "a NUL",
            Json,
            "{\"steps\": []}\0",
            "1:14: a NUL stands here; a plan file is text, saved as UTF-8",
            r#"{ "steps": [] }"#,
        ),
        case("a bell", Yaml, yaml("\"a\u{7}\""), "3:13: unexpected character: `\\u{7}'", yaml(r#""a\a""#)),
        case(
            "two documents",
            Yaml,
            "steps: []\n---\nsteps: []\n",
            "2:1: another document begins here; a plan file holds one plan",
            "---\nsteps: []\n...\n",
        ),
        case("two values", Json, "{} {}", "1:4: trailing characters", r#"{ "steps": [] } "#),
        case(
            "a tab",
            Yaml,
            "steps:\n\t- id: a\n",
            "2:2: tabs disallowed within this context (block indentation)",
            "steps:\n- id:\ta\n",
        ),
        case("an open bracket", Yaml, yaml("[1, 2"), "3:11: unclosed bracket '['", yaml("[1, 2]")),
        case(
            "an expression",
            Yaml,
            yaml("{ a: ${{ inputs.x }} }"),
            "3:17: while parsing a flow mapping, did not find expected ',' or '}'; inside of { } and [ ], an expression stands in quotes",
            yaml("{ a: '$ {{ inputs.x }}' }"),
        ),
        case("a comma", Json, json("[1,]"), "2:12: expected value", json("[1]")),
        case("a comment", Json, "{} // x", "1:4: trailing characters", r#"{ "steps": [] }"#),
        case(
            "a control character",
            Json,
            json("\"a\tb\""),
            "2:10: control character (\\u0000-\\u001F) found while parsing a string",
            json(r#""a\tb""#),
        ),
        case(
            "half a character",
            Json,
            json(r#""\ud800""#),
            "2:9: this text has half of a surrogate pair, which is no character",
            json(r#""\ud83d\ude00""#),
        ),
        case("the end", Json, "{\"steps\": [", "1:11: EOF while parsing a list", r#"{"steps": []}"#),
    ]);
    assert_eq!(
        problems(Toml, "name = 'a'\nname = 'b'\nsteps = []\nx =\n"),
        ["2:1: duplicate key", "4:4: string values must be quoted, expected literal string"],
        "TOML tells all"
    );
}

#[test]
fn a_mark_before_the_text_and_windows_lines_are_read() {
    for (format, text) in [
        (Yaml, "steps:\n  - id: a\n"),
        (Toml, "[[steps]]\nid = 'a'\n"),
        (Json, "{\"steps\":\n[{\"id\": \"a\"}]}\n"),
    ] {
        for text in [
            text.replace('\n', "\r\n"),
            format!("\u{feff}{text}"),
            format!("\u{feff}{}", text.replace('\n', "\r\n")),
        ] {
            assert_eq!(Plan::from_text(&text, format).unwrap().steps()[0].id(), Some("a"), "{format}");
        }
    }
    let found =
        Plan::from_text("\u{feff}steps:\r\n  - idd: a\r\n    id: b\r\n", Yaml).unwrap_err().to_string();
    assert_eq!(
        found,
        "2:5: unknown key \"idd\" in a step; did you mean \"id\"?\n  2 |   - idd: a\n    |     ^"
    );
}

#[test]
fn the_largest_plan_is_read_and_one_larger_is_not() {
    let steps = |n: usize| {
        let step =
            |n: usize| format!(r#"{{"id":"s{n}","uses":"noop","with":{{"n":{n},"list":[1,2]}},"retry":3}}"#);
        format!("{{\"steps\":\n[{}]}}", (0..n).map(step).collect::<Vec<_>>().join(","))
    };
    assert_eq!(Plan::from_text(&steps(MAX_STEPS), Json).unwrap().steps().len(), MAX_STEPS);
    let over = "2:1: the plan has 100001 steps, more than 100000; split it";
    assert_eq!(problems(Json, &steps(MAX_STEPS + 1)), [over]);
}

#[test]
fn values_are_counted_however_short_they_are() {
    let values = |n: usize| "1,".repeat(n - 1) + "1";
    let over = "the file has more than 2000000 values; split the plan";
    let many = values(2_000_000);
    for (format, text) in [(Json, json(&format!("[{many}]"))), (Toml, toml(&format!("[{many}]")))] {
        let found = problems(format, &text);
        assert_eq!(found.len(), 1);
        assert!(found[0].ends_with(over), "{format}: {found:?}");
    }
    // The plan itself, its steps, the step, its id and its input are values too.
    assert!(Plan::from_text(&json(&format!("[{}]", values(1_999_995))), Json).is_ok());
    assert!(Plan::from_text(&json(&format!("[{}]", values(1_999_996))), Json).is_err());
    let huge = " ".repeat(MAX_PLAN_FILE_BYTES + 1);
    assert!(matches!(Plan::from_text(&huge, Yaml), Err(PlanFileError::TooLarge { .. })));
}
