use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::support::{World, patiently, read, size};

#[actix::test]
async fn a_file_is_read_as_it_stands() {
    let world = World::new();
    let path = world.path("ä b");
    fs::write(&path, "\u{feff}one\r\ntwo\0").unwrap();
    assert_eq!(world.call("file.read", json!({ "path": path })).await, Ok(json!("\u{feff}one\r\ntwo\0")));
    assert_eq!(
        world
            .call("file.read", json!({ "path": path, "max_bytes": 12 }))
            .await
            .unwrap()
            .as_str()
            .unwrap()
            .len(),
        12
    );
}

#[actix::test]
async fn what_is_no_text_file_of_bounded_size_is_not_read() {
    let world = World::new();
    let paths = ["bytes", "long", "no", "fifo"].map(|name| world.path(name));
    let [bytes, long, no, fifo] = &paths;
    fs::write(bytes, b"abc\xff\xfe").unwrap();
    fs::write(long, "x".repeat(11)).unwrap();
    assert!(Command::new("mkfifo").arg(fifo).status().unwrap().success());
    for (input, message, causes) in [
        (
            json!({ "path": bytes }),
            format!("the file {bytes:?} is not UTF-8 text: there is the byte 0xff at offset 3"),
            vec![],
        ),
        (
            json!({ "path": long, "max_bytes": 10 }),
            format!("the file {long:?} has more than 10 bytes; let a later step work on the file itself"),
            vec![],
        ),
        (
            json!({ "path": no }),
            format!("the file {no:?} cannot be read"),
            vec!["No such file or directory (os error 2)".to_owned()],
        ),
        (json!({ "path": fifo }), format!("{fifo:?} is not a regular file"), vec![]),
        (json!({ "path": "/dev/zero" }), "\"/dev/zero\" is not a regular file".to_owned(), vec![]),
        (json!({ "path": world.folder() }), format!("{:?} is not a regular file", world.folder()), vec![]),
        (
            json!({ "path": long, "max_bytes": 16_777_217 }),
            "max_bytes is 16777217, more than 16777216, the largest output of a step".to_owned(),
            vec![],
        ),
    ] {
        let failed = world.call("file.read", input).await.unwrap_err();
        assert_eq!((failed.message, failed.causes), (message, causes));
    }
}

#[actix::test]
async fn a_file_is_written_whole_and_nothing_is_left_beside_it() {
    let world = World::new();
    let path = world.path("new");
    let written = world.call("file.write", json!({ "path": path, "text": "ä\n" })).await;
    assert_eq!((written, read(&path)), (Ok(json!({ "path": path, "bytes": 3 })), "ä\n".to_owned()));
    // As any other new file.
    fs::write(world.path("other"), "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&world.path("other")));
    // One that is there keeps who may do what with it.
    fs::set_permissions(&path, Permissions::from_mode(0o750)).unwrap();
    world.call("file.write", json!({ "path": path, "text": { "a": 1 } })).await.unwrap();
    assert_eq!((read(&path), mode(&path) & 0o7777), ("{\"a\":1}".to_owned(), 0o750));
    assert_eq!(fs::read_dir(world.folder()).unwrap().count(), 2);
}

#[actix::test]
async fn what_a_link_leads_to_is_written() {
    let world = World::new();
    let (target, link) = (world.path("target"), world.path("link"));
    fs::write(&target, "old").unwrap();
    symlink("target", &link).unwrap();
    world.call("file.write", json!({ "path": link, "text": "new" })).await.unwrap();
    assert!(link.is_symlink());
    assert_eq!(read(&target), "new");
}

#[actix::test]
async fn a_file_that_cannot_be_written_is_as_it_was() {
    let world = World::new();
    symlink("nowhere", world.path("link")).unwrap();
    let (no, folder, link) = (world.path("no/file"), world.folder().to_owned(), world.path("link"));
    for (path, message, cause) in [
        (
            &no,
            format!(
                "the file {no:?} cannot be written: there is no folder {:?}; make it first",
                world.path("no")
            ),
            None,
        ),
        (&folder, format!("{folder:?} is there, and is not a regular file"), None),
        (
            &Path::new("/dev/null").to_owned(),
            "\"/dev/null\" is there, and is not a regular file".to_owned(),
            None,
        ),
        (
            &Path::new("/proc/lunacore").to_owned(),
            "the file \"/proc/lunacore\" cannot be written".to_owned(),
            Some("No such file"),
        ),
        (&link, format!("the file {link:?} cannot be written"), Some("No such file")),
    ] {
        let failed = world.call("file.write", json!({ "path": path, "text": "x" })).await.unwrap_err();
        assert_eq!(failed.message, message);
        assert!(failed.causes.len() == usize::from(cause.is_some()), "{failed:?}");
        assert!(cause.is_none_or(|cause| failed.causes[0].contains(cause)), "{failed:?}");
    }
    assert!(!world.path("no").exists() && !world.path("nowhere").exists());
}

const LARGE: usize = 8 * 1024 * 1024;

#[actix::test]
#[ignore = "run by the other tests of this file, as a process of its own"]
async fn child() {
    let Ok(path) = std::env::var("LUNACORE_TEST_FILE") else { return };
    let world = World::new();
    for text in ["a", "b"].iter().cycle() {
        world.call("file.write", json!({ "path": path, "text": text.repeat(LARGE) })).await.unwrap();
    }
}

#[actix::test]
async fn a_file_is_never_half_written_however_often_its_writer_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let (mut before, mut in_mid_write) = (String::new(), 0);
    for kill in 0..16 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["callables::tests::files::child", "--exact", "--ignored"])
            .env("LUNACORE_TEST_FILE", &path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let others =
            || fs::read_dir(folder.path()).unwrap().flatten().filter(|entry| entry.path() != path).count();
        let known = others();
        patiently("it to write", || others() > known || path.exists() && kill == 0).await;
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(kill * 6) {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        in_mid_write += usize::from(others() > known);
        let now = read(&path);
        if now != before {
            assert_eq!(size(&path), LARGE as u64);
            assert!(now.bytes().all(|byte| byte == now.as_bytes()[0]));
        }
        before = now;
    }
    assert!(in_mid_write > 0, "no kill was in the middle of a write");
}

#[actix::test]
#[ignore = "run by the other tests of this file, as a process of its own"]
async fn child_that_writes_once() {
    let Ok(path) = std::env::var("LUNACORE_TEST_FILE") else { return };
    World::new().call("file.write", json!({ "path": path, "text": "x" })).await.unwrap();
}

/// kill -9 cannot see a missing fsync, for the kernel goes on: so the calls of the writer are looked at.
#[test]
fn a_file_has_its_name_only_when_it_is_on_the_disk_and_then_the_name_is_too() {
    let folder = tempfile::tempdir().unwrap();
    let (path, trace) = (folder.path().join("file"), folder.path().join("trace"));
    let traced = Command::new("strace")
        .args(["-f", "-y", "-qq", "-e", "trace=write,fsync,rename,renameat,renameat2", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["callables::tests::files::child_that_writes_once", "--exact", "--ignored"])
        .env("LUNACORE_TEST_FILE", &path)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(traced.success());
    let trace = read(&trace);
    let calls: Vec<&str> = trace
        .lines()
        .filter(|line| line.contains(folder.path().to_str().unwrap()))
        .filter_map(|line| line.split_whitespace().nth(1)?.split('(').next())
        .collect();
    assert!(
        matches!(calls[..], ["write", "fsync", rename, "fsync"] if rename.starts_with("rename")),
        "{trace}"
    );
    let last = trace.lines().rfind(|line| line.contains("fsync")).unwrap();
    assert!(last.contains(&format!("<{}>", folder.path().display())), "{last}");
}
