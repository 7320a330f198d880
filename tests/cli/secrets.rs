//! A secret reaches the script that needs it, and nobody who looks.

use std::fs;

use crate::support::{Told, command, normal, out, run_in};

const CANARY: &str = "canary-4711/\u{fc}";

const PLAN: &str = r#"
name: leaky
steps:
  - id: print
    uses: shell
    with:
      script: |
        test "$TOKEN" = "$EXPECTED" && echo "it is $TOKEN"; echo "$TOKEN" >&2; printf %s "$TOKEN" | base64
        head -c 1048500 /dev/zero | tr '\0' x; for i in 1 2 3 4 5 6 7 8 9; do printf %s "$TOKEN"; done
        head -c 1048500 /dev/zero | tr '\0' y
      env:
        TOKEN: ${{ secrets.TOKEN }}
        EXPECTED: ${{ secrets.TOKEN }}
  - id: fail
    uses: shell
    with:
      script: echo "cannot use $0" >&2; exit 3
      stdin: ${{ secrets.TOKEN }}
    on_failure: continue
  - id: path
    uses: file.read
    with: { path: "missing-${{ secrets.TOKEN }}" }
    on_failure: continue
  - id: end
    uses: fail
    with: { message: "gave up on ${{ secrets.TOKEN }}" }
"#;

fn leaks(text: &str) -> bool {
    ["canary", "4711", "ary-47", "Y2FuYXJ5"].iter().any(|part| text.contains(part))
}

#[test]
fn no_sink_of_the_command_shows_a_secret() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("plan.yaml"), PLAN).unwrap();
    let run = |verbose: bool| -> Told {
        let args: &[&str] =
            if verbose { &["-v", "run", "plan.yaml"] } else { &["run", "plan.yaml", "--json"] };
        command(args)
            .env("TOKEN", CANARY)
            .env("RUST_LOG", "trace")
            .current_dir(dir.path())
            .output()
            .unwrap()
            .into()
    };
    let mut seen = Vec::new();
    for verbose in [false, true] {
        let told = run(verbose);
        assert_eq!(told.code, Some(1), "{}", told.err);
        assert!(told.err.contains("gave up on ***"), "{}", told.err);
        seen.extend([told.out, told.err]);
    }
    let printed = out(dir.path(), &["artifacts", "task:print", "--version", "1"]);
    // The script has it, and what it says is told otherwise.
    assert!(printed.contains("it is ***"), "{}", &printed[..200]);
    seen.push(printed);
    let runs = out(dir.path(), &["list", "--json"]);
    for run in runs.lines() {
        let run: serde_json::Value = serde_json::from_str(run).unwrap();
        let id = run["run_id"].as_str().unwrap();
        seen.extend([out(dir.path(), &["show", id]), out(dir.path(), &["events", id, "--json"])]);
    }
    seen.push(runs);
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path.extension().is_none_or(|extension| extension != "yaml") {
            seen.push(String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned());
        }
    }
    for text in &seen {
        let at = text.find("canary").unwrap_or(0);
        assert!(!leaks(text), "{}", text[at.saturating_sub(200)..].chars().take(400).collect::<String>());
    }
    assert!(seen.iter().map(String::len).sum::<usize>() > 2_000_000, "too little was looked at");
}

#[test]
fn secrets_are_taken_from_a_folder_before_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let plan = "steps: [{ id: length, uses: shell, with: { script: wc -c, stdin: '${{ secrets.TOKEN }}' } }]";
    fs::write(dir.path().join("plan.yaml"), plan).unwrap();
    fs::create_dir(dir.path().join("secrets")).unwrap();
    fs::write(dir.path().join("secrets/TOKEN"), "twelve chars\n").unwrap();
    let lengths = |args: &[&str]| {
        let output = command(args).env("TOKEN", "seven..").current_dir(dir.path()).output().unwrap();
        let told = Told::from(output);
        assert_eq!(told.code, Some(0), "{}", told.err);
        let told: serde_json::Value = serde_json::from_str(&told.out).unwrap();
        told["outputs"]["length"]["stdout"].as_str().unwrap().trim().to_owned()
    };
    assert_eq!(lengths(&["run", "plan.yaml", "--in-memory", "--json", "--secrets", "secrets"]), "12");
    assert_eq!(lengths(&["run", "plan.yaml", "--in-memory", "--json"]), "7");
}

#[test]
fn a_secret_that_is_not_there_is_told_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let plan = "steps:\n  - { id: first, uses: shell, with: { script: touch ran } }\n  - { id: second, uses: noop, with: '${{ secrets.NO_SUCH }}' }\n";
    fs::write(dir.path().join("plan.yaml"), plan).unwrap();
    let told = run_in(dir.path(), &["run", "plan.yaml"]);
    assert_eq!(told.code, Some(2));
    assert!(normal(&told.err).contains("the secret \"NO_SUCH\" is not there"), "{}", told.err);
    assert!(!dir.path().join("ran").exists());
}
