//! What a path may lead to.

use std::fs;
use std::path::PathBuf;

use lunacore::{Plan, PlanFile, PlanFileError, PlanFormat};

use crate::support::chain;

const GOOD: &str = "steps: [{ id: a }]";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

#[test]
fn the_name_tells_the_format() {
    let folder = Folder::new();
    for (name, content, format) in [
        ("a.yaml", GOOD, PlanFormat::Yaml),
        ("a.yml", GOOD, PlanFormat::Yaml),
        ("a.YAML", GOOD, PlanFormat::Yaml),
        ("a.toml", "[[steps]]\nid = 'a'", PlanFormat::Toml),
        ("a.json", r#"{ "steps": [{ "id": "a" }] }"#, PlanFormat::Json),
    ] {
        let path = folder.file(name, content);
        let file = PlanFile::from_path(&path).unwrap();
        assert_eq!((file.format(), file.path()), (format, Some(&*path)));
        assert_eq!(file.into_plan().steps()[0].id(), Some("a"));
    }
    // JSON is read as JSON, although YAML would take it.
    let error = Plan::from_path(folder.file("b.json", GOOD)).unwrap_err();
    assert!(error.to_string().contains("b.json:1:1: expected value\n"), "{error}");
    for name in ["plan", "plan.txt", "plan.yaml.bak", ".yaml"] {
        let path = folder.file(name, GOOD);
        let error = Plan::from_path(&path).unwrap_err();
        let expected = ": a plan file is named .yaml, .yml, .toml or .json, so that its format is known";
        assert_eq!(error.to_string(), format!("{}{expected}", path.display()));
        assert!(matches!(error, PlanFileError::UnknownFormat { .. }));
    }
}

#[test]
fn a_problem_names_the_file() {
    let folder = Folder::new();
    let path = folder.file("a.yaml", "steps: 5\n");
    let error = Plan::from_path(&path).unwrap_err();
    let expected = ":1:8: `steps` is the number 5, but a list is expected\n  1 | steps: 5\n    |        ^";
    assert_eq!(error.to_string(), format!("{}{expected}", path.display()));
}

#[test]
fn a_file_that_is_not_there_is_told_once_with_its_cause() {
    let error = Plan::from_path("/nowhere/plan.yaml").unwrap_err();
    assert_eq!(chain(&error)[0], "/nowhere/plan.yaml cannot be read");
    assert_eq!(chain(&error).len(), 2, "the cause is a source, and not in the message");
}

#[test]
fn a_text_has_to_be_utf_8() {
    let folder = Folder::new();
    let bom = folder.file("bom.yaml", b"\xef\xbb\xbfsteps: [{ id: a }]");
    assert_eq!(Plan::from_path(bom).unwrap().steps().len(), 1);
    for (content, expected) in [
        (&b"\xff\xfes\0t\0"[..], ":1:1: the file is UTF-16; save it as UTF-8\n"),
        (&b"\xfe\xff\0s\0t"[..], ":1:1: the file is UTF-16; save it as UTF-8\n"),
        (&b"s\0t\0e\0"[..], ":1:2: a NUL stands here; a plan file is text, saved as UTF-8\n"),
        (&b"steps: []\nname: \"a\xe4b\"\n"[..], ":2:9: the byte 0xe4 is not UTF-8\n"),
        (&b"\xef\xbb\xbfname: \xff"[..], ":1:7: the byte 0xff is not UTF-8\n"),
    ] {
        let error = Plan::from_path(folder.file("a.yaml", content)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_file_has_a_largest_size() {
    use lunacore::limits::MAX_PLAN_FILE_BYTES;
    let folder = Folder::new();
    let mut text = format!("{GOOD}\n#");
    text.push_str(&" ".repeat(MAX_PLAN_FILE_BYTES - text.len()));
    assert!(Plan::from_path(folder.file("full.yaml", &text)).is_ok());
    assert!(Plan::from_text(&text, PlanFormat::Yaml).is_ok());
    text.push(' ');
    let path = folder.file("over.yaml", &text);
    let told = "more than 16777216 bytes, the most that a plan file may have; split the plan";
    assert_eq!(Plan::from_path(&path).unwrap_err().to_string(), format!("{} has {told}", path.display()));
    assert_eq!(
        Plan::from_text(&text, PlanFormat::Yaml).unwrap_err().to_string(),
        format!("the text has {told}")
    );
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_opened() {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    let folder = Folder::new();
    let at = |name: &str| folder.0.path().join(name);
    fs::create_dir(at("folder.yaml")).unwrap();
    assert!(Command::new("mkfifo").arg(at("pipe.yaml")).status().unwrap().success());
    symlink("/dev/zero", at("zero.yaml")).unwrap();
    symlink(at("loop.yaml"), at("loop.yaml")).unwrap();
    for (name, what) in [
        ("folder.yaml", "a folder"),
        ("pipe.yaml", "a pipe, a device or a socket"),
        ("zero.yaml", "a pipe, a device or a socket"),
    ] {
        let error = Plan::from_path(at(name)).unwrap_err();
        assert_eq!(error.to_string(), format!("{} is {what}, not a file", at(name).display()));
    }
    assert!(matches!(Plan::from_path(at("loop.yaml")), Err(PlanFileError::Read { .. })));
    // A link to a file is that file.
    symlink(folder.file("a.yaml", GOOD), at("link.yaml")).unwrap();
    assert_eq!(Plan::from_path(at("link.yaml")).unwrap().steps().len(), 1);
}
