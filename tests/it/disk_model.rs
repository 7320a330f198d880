//! What a log of strace says that a process did to the files of a store, and what a disk could hold of them after a power
//! loss.
//!
//! The disk is as hostile as POSIX allows: of what was written to a file since its last sync any part may be there, in sectors
//! of 512 bytes and in any order; of the names in the folder any that was made, or removed, since the folder was synced may
//! be there or not. (As SQLite assumes, a write harms no byte beside its own.) After a sync that failed, what it was to
//! write may be lost for good although the process still reads it, as on Linux.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use fastrand::Rng;

const SECTOR: u64 = 512;

/// The system calls that may change a file, as strace wants to hear them; `?` is for what an architecture may not have.
pub const TRACED: &str = "trace=?open,openat,?creat,close,lseek,write,pwrite64,writev,pwritev,?pwritev2,ftruncate,truncate,\
                          fallocate,fsync,fdatasync,?sync_file_range,msync,mmap,?unlink,unlinkat,?rename,?renameat,renameat2,\
                          ?link,linkat,?dup2,dup3,copy_file_range,sendfile,splice";

/// One system call. `begun` and `ended` are lines of the log, so that what one thread did before another is known.
#[derive(Debug)]
struct Call<'a> {
    name: &'a str,
    arguments: Vec<&'a str>,
    /// Negative for an error; `None` when the process died in it, and for an address.
    result: Option<i64>,
    begun: usize,
    ended: usize,
    at: f64,
}

fn calls(log: &str) -> Vec<Call<'_>> {
    let (mut calls, mut unfinished) = (Vec::<Call<'_>>::new(), HashMap::new());
    for (number, line) in log.lines().enumerate() {
        let mut words = line.trim_start().splitn(2, ' ');
        let (pid, rest) = (words.next().unwrap(), words.next().unwrap_or("").trim_start());
        let (at, text) = rest.split_once(' ').unwrap_or((rest, ""));
        if let Some(resumed) = text.strip_prefix("<... ") {
            let call: usize = unfinished.remove(pid).unwrap_or_else(|| panic!("line {number}: {text}"));
            calls[call].ended = number;
            calls[call].result = result(resumed);
            continue;
        }
        let Some((name, rest)) = text.split_once('(').filter(|_| text.as_bytes()[0].is_ascii_lowercase())
        else {
            continue; // signals and exits
        };
        let (arguments, ended) = match rest.strip_suffix(" <unfinished ...>") {
            Some(arguments) => {
                unfinished.insert(pid, calls.len());
                (arguments, usize::MAX)
            }
            None => (rest.rsplit_once(" = ").map_or(rest, |(arguments, _)| arguments.trim_end()), number),
        };
        calls.push(Call {
            name,
            arguments: arguments.trim_end_matches(')').split(", ").collect(),
            result: if ended == number { result(rest) } else { None },
            begun: number,
            ended,
            at: at.parse().unwrap_or_else(|_| panic!("line {number} has no time: {at:?}")),
        });
    }
    calls
}

/// Of `… = -1 EIO (Input/output error) (INJECTED)`, -1.
fn result(text: &str) -> Option<i64> {
    let (_, result) = text.rsplit_once(" = ")?;
    result.split(|c: char| c != '-' && !c.is_ascii_digit()).next()?.parse().ok()
}

/// `"\x2f\x74"` or `\x2f\x74`: all strings are printed so (`-xx`).
fn bytes(text: &str) -> Vec<u8> {
    let text = text.strip_prefix('"').map_or(text, |text| {
        text.strip_suffix('"').unwrap_or_else(|| panic!("strace cut a string short: its -s is too small"))
    });
    let digit = |byte: u8| if byte <= b'9' { byte - b'0' } else { byte - b'a' + 10 };
    text.as_bytes().chunks(4).map(|byte| digit(byte[2]) << 4 | digit(byte[3])).collect()
}

fn text(of: &str) -> String {
    String::from_utf8(bytes(of)).unwrap()
}

/// `9<\x2f\x74>`, as `-y` shows it.
fn descriptor(argument: &str) -> (i64, String) {
    let (number, path) = argument.split_once('<').unwrap_or((argument, ""));
    (number.parse().unwrap_or(-1), text(path.split_once('>').map_or("", |(path, _)| path)))
}

/// One thing that was done to the files of the folder, or told in the log of the process.
#[derive(Debug, Clone)]
pub struct Op {
    pub begun: usize,
    pub ended: usize,
    /// Seconds.
    pub at: f64,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    /// A name in the folder is given to a new file.
    Create {
        name: String,
        file: usize,
    },
    Remove {
        name: String,
    },
    Write {
        name: String,
        file: usize,
        at: u64,
        data: Vec<u8>,
    },
    Truncate {
        file: usize,
        size: u64,
    },
    /// A sync has ended, well or not; it covers what ended before it began.
    Sync {
        name: String,
        file: usize,
        failed: bool,
    },
    SyncFolder {
        failed: bool,
    },
    /// A line that the process was about to write to its own log.
    Note(String),
}

impl Op {
    /// Whether a sync of this file has ended well here.
    pub fn is_sync_of(&self, file: &str) -> bool {
        matches!(&self.what, What::Sync { name, failed: false, .. } if name == file)
    }
}

#[derive(Clone)]
enum Open {
    Folder,
    Notes,
    /// What is lost anyway (`-shm`) or says nothing (`-lock`).
    Ignored,
    File {
        name: String,
        file: usize,
        at: Option<u64>,
    },
}

/// What `log` says of the files in `folder`, which was empty, and of the lines written to `notes`: writes at the moment they
/// began, syncs at the moment they ended.
pub fn ops(log: &str, folder: &Path, notes: &Path) -> Vec<Op> {
    let mut calls = calls(log);
    // What counts is the earliest moment at which a write may have, and the latest at which a sync may not have happened.
    calls.sort_by_key(|call| match call.name {
        "fsync" | "fdatasync" | "open" | "openat" | "creat" | "lseek" => call.ended,
        _ => call.begun,
    });
    let mut files = Files { folder, notes, open: HashMap::new(), names: HashMap::new(), made: 0 };
    calls.iter().filter_map(|call| files.see(call)).collect()
}

struct Files<'a> {
    folder: &'a Path,
    notes: &'a Path,
    open: HashMap<i64, Open>,
    names: HashMap<String, usize>,
    made: usize,
}

impl Files<'_> {
    fn name(&self, path: &str) -> Option<String> {
        Some(Path::new(path).strip_prefix(self.folder).ok()?.to_str().unwrap().to_owned())
    }

    fn see(&mut self, call: &Call<'_>) -> Option<Op> {
        let op = |what| Some(Op { begun: call.begun, ended: call.ended, at: call.at, what });
        let argument = |n: usize| call.arguments[n];
        match call.name {
            "open" | "creat" | "openat" => {
                let first = usize::from(call.name == "openat");
                let flags = if call.name == "creat" { "O_CREAT|O_TRUNC" } else { argument(first + 1) };
                self.opened(&text(argument(first)), flags, call.result?).and_then(op)
            }
            "close" => {
                self.open.remove(&descriptor(argument(0)).0);
                None
            }
            "unlink" => self.removed(&text(argument(0))).and_then(op),
            "unlinkat" => self.removed(&text(argument(1))).and_then(op),
            "lseek" => {
                if let (Some(Open::File { at, .. }), result) = (self.find(argument(0)), call.result?) {
                    *at = u64::try_from(result).ok();
                }
                None
            }
            "write" | "pwrite64" => match self.find(argument(0))? {
                Open::Notes => op(What::Note(text(argument(1)).trim_end().to_owned())),
                Open::File { name, file, at } => {
                    let data = bytes(argument(1));
                    let position = match call.name {
                        "write" => at.take().unwrap_or_else(|| panic!("{call:?} follows no lseek")),
                        _ => argument(3).parse().unwrap(),
                    };
                    // A write that failed may have written nothing; one that was cut off by the end, anything.
                    let failed = call.result.is_some_and(|result| result < 0);
                    assert!(
                        failed || call.result.is_none_or(|result| result == data.len() as i64),
                        "{call:?}"
                    );
                    let (name, file) = (name.clone(), *file);
                    if failed { None } else { op(What::Write { name, file, at: position, data }) }
                }
                _ => None,
            },
            "ftruncate" => match self.find(argument(0))? {
                Open::File { file, .. } if call.result == Some(0) => {
                    let size = argument(1).parse().unwrap();
                    op(What::Truncate { file: *file, size })
                }
                _ => None,
            },
            "fsync" | "fdatasync" => {
                let failed = call.result? != 0;
                match self.find(argument(0))? {
                    Open::Folder => op(What::SyncFolder { failed }),
                    Open::File { name, file, .. } => {
                        op(What::Sync { name: name.clone(), file: *file, failed })
                    }
                    _ => None,
                }
            }
            // A file that is only read may be mapped.
            "mmap" if !(argument(2).contains("WRITE") && argument(3).contains("SHARED")) => None,
            name => {
                let (folder, touched) = (self.folder.to_str().unwrap(), call.arguments.join(" "));
                let touched = touched.split(['<', '>', '"', ' ']).filter(|word| word.starts_with("\\x"));
                let mut touched = touched.map(text).filter(|path| path.starts_with(folder));
                let known = touched.all(|path| path.ends_with("-shm"));
                assert!(known, "the model knows nothing of {name}, which touches the store: {call:?}");
                None
            }
        }
    }

    fn find(&mut self, argument: &str) -> Option<&mut Open> {
        let (number, path) = descriptor(argument);
        let folder = self.folder.to_str().unwrap();
        let found = self.open.get_mut(&number);
        assert!(found.is_some() || !path.starts_with(folder), "{path} was never opened as {number}");
        if let Some(Open::File { name, .. }) = &found {
            assert!(path.contains(&**name), "{number} is {name}, and strace calls it {path}");
        }
        found
    }

    fn opened(&mut self, path: &str, flags: &str, number: i64) -> Option<What> {
        if number < 0 {
            return None;
        }
        self.open.remove(&number);
        if Path::new(path) == self.folder {
            self.open.insert(number, Open::Folder);
        } else if Path::new(path) == self.notes {
            self.open.insert(number, Open::Notes);
        }
        let name = self.name(path).filter(|name| !name.is_empty())?;
        if name.ends_with("-shm") || name.ends_with("-lock") {
            self.open.insert(number, Open::Ignored);
            return None;
        }
        assert!(!flags.contains("O_TRUNC"), "the model knows nothing of O_TRUNC");
        let known = self.names.get(&name).copied();
        let file = known.unwrap_or_else(|| {
            assert!(flags.contains("O_CREAT"), "{name} was there before");
            self.made += 1;
            self.names.insert(name.clone(), self.made - 1);
            self.made - 1
        });
        self.open.insert(number, Open::File { name: name.clone(), file, at: None });
        known.is_none().then_some(What::Create { name, file })
    }

    fn removed(&mut self, path: &str) -> Option<What> {
        let name = self.name(path)?;
        self.names.remove(&name).map(|_| What::Remove { name })
    }
}

/// What a disk holds, and what is on its way there.
#[derive(Default)]
pub struct Disk {
    files: Vec<File>,
    /// What each name has stood for since the folder was last synced; the first is certain.
    names: BTreeMap<String, Vec<(usize, Option<usize>)>>,
}

#[derive(Default)]
struct File {
    certain: Vec<u8>,
    pending: Vec<Pending>,
}

struct Pending {
    ended: usize,
    change: Change,
    fate: Fate,
}

enum Change {
    Write { at: u64, data: Vec<u8> },
    Truncate(u64),
}

#[derive(Clone, Copy, PartialEq)]
enum Fate {
    /// The next sync writes it.
    Open,
    /// A sync has written it, behind something that was given up.
    Safe,
    /// A sync that failed was to write it; no other will.
    GivenUp,
}

/// The content of the files.
pub type Image = BTreeMap<String, Vec<u8>>;

impl Disk {
    pub fn apply(&mut self, op: &Op) {
        match &op.what {
            What::Create { name, file } => {
                self.files.resize_with(self.files.len().max(file + 1), File::default);
                self.named(name).push((op.ended, Some(*file)));
            }
            What::Remove { name } => self.named(name).push((op.ended, None)),
            What::Write { file, at, data, .. } => {
                self.change(*file, op.ended, Change::Write { at: *at, data: data.clone() });
            }
            What::Truncate { file, size, .. } => self.change(*file, op.ended, Change::Truncate(*size)),
            What::Sync { file, failed, .. } => self.files[*file].sync(op.begun, *failed),
            What::SyncFolder { failed: true } | What::Note(_) => {}
            What::SyncFolder { failed: false } => {
                for history in self.names.values_mut() {
                    let covered = history.iter().rposition(|(ended, _)| *ended < op.begun);
                    history.drain(..covered.unwrap_or(0));
                }
            }
        }
    }

    fn named(&mut self, name: &str) -> &mut Vec<(usize, Option<usize>)> {
        self.names.entry(name.to_owned()).or_insert_with(|| vec![(0, None)])
    }

    fn change(&mut self, file: usize, ended: usize, change: Change) {
        self.files[file].pending.push(Pending { ended, change, fate: Fate::Open });
    }

    /// What the disk holds if the power goes now: of what is not certain, each part is there with the probability `keep`.
    pub fn lose(&self, random: &mut Rng, keep: f64) -> Image {
        let mut image = Image::new();
        for (name, history) in &self.names {
            let which = history.iter().skip(1).take_while(|_| random.f64() < keep).count();
            if let Some(file) = history[which].1 {
                image.insert(name.clone(), self.files[file].lose(random, keep));
            }
        }
        image
    }
}

impl File {
    fn sync(&mut self, begun: usize, failed: bool) {
        for pending in self.pending.iter_mut().filter(|pending| pending.ended < begun) {
            pending.fate = match pending.fate {
                Fate::Open if failed => Fate::GivenUp,
                Fate::Open => Fate::Safe,
                settled => settled,
            };
        }
        let certain = self.pending.iter().take_while(|pending| pending.fate == Fate::Safe).count();
        for Pending { change, .. } in self.pending.drain(..certain) {
            apply(&mut self.certain, &change, |_| true);
        }
    }

    fn lose(&self, random: &mut Rng, keep: f64) -> Vec<u8> {
        let mut content = self.certain.clone();
        for Pending { change, fate, .. } in &self.pending {
            let keep = match fate {
                Fate::Safe => 1.0,
                // One write in five is torn, and its sectors share its fate in the other cases.
                _ if keep > 0.0 && keep < 1.0 && random.f64() < 0.2 => 0.5,
                _ if random.f64() < keep => 1.0,
                _ => 0.0,
            };
            apply(&mut content, change, |_| random.f64() < keep);
        }
        content
    }
}

/// Makes a change, so far as its sectors are kept.
fn apply(content: &mut Vec<u8>, change: &Change, mut kept: impl FnMut(u64) -> bool) {
    match change {
        Change::Truncate(size) => {
            if kept(0) {
                content.resize(usize::try_from(*size).unwrap(), 0);
            }
        }
        Change::Write { at, data } => {
            let end = at + data.len() as u64;
            let mut from = *at;
            while from < end {
                let to = end.min((from / SECTOR + 1) * SECTOR);
                if kept(from / SECTOR) {
                    let (from, to, data_from) = (from as usize, to as usize, (from - at) as usize);
                    content.resize(content.len().max(to), 0);
                    content[from..to].copy_from_slice(&data[data_from..data_from + to - from]);
                }
                from = to;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> String {
        text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
    }

    /// A log in which two threads take turns: `{path}` stands for `"path"` as strace prints it, `[path]` for `<path>`.
    fn log(lines: &[&str]) -> Vec<Op> {
        let mut log = String::new();
        for (n, line) in lines.iter().enumerate() {
            let (pid, call) = line.split_once(' ').unwrap();
            let mut call = call.to_owned();
            for (open, close, left, right) in [('{', '}', '"', '"'), ('[', ']', '<', '>')] {
                while let Some((before, rest)) = call.split_once(open) {
                    let (inner, after) = rest.split_once(close).unwrap();
                    call = format!("{before}{left}{}{right}{after}", hex(inner));
                }
            }
            log += &format!("{pid} {n}.5 {call}\n");
        }
        ops(&log, Path::new("/d"), Path::new("/log"))
    }

    fn states(ops: &[Op], keep: f64) -> Vec<Image> {
        let mut disk = Disk::default();
        ops.iter().for_each(|op| disk.apply(op));
        (0..50).map(|seed| disk.lose(&mut Rng::with_seed(seed), keep)).collect()
    }

    fn image(files: &[(&str, &str)]) -> Image {
        files.iter().map(|(name, content)| ((*name).to_owned(), content.as_bytes().to_vec())).collect()
    }

    const BEGIN: [&str; 5] = [
        "1 openat(AT_FDCWD, {/d/a}, O_RDWR|O_CREAT, 0644) = 3[/d/a]",
        "1 openat(AT_FDCWD, {/d}, O_RDONLY) = 4[/d]",
        "1 fsync(4[/d]) = 0",
        "1 lseek(3[/d/a], 0, SEEK_SET) = 0",
        "1 write(3[/d/a], {one}, 3) = 3",
    ];

    #[test]
    fn what_a_sync_covers_is_there() {
        let mut lines = BEGIN.to_vec();
        assert!(states(&log(&lines), 0.0).iter().all(|state| *state == image(&[("a", "")])));
        assert!(states(&log(&lines), 1.0).iter().all(|state| *state == image(&[("a", "one")])));
        let some = states(&log(&lines), 0.5);
        assert!(some.contains(&image(&[("a", "")])) && some.contains(&image(&[("a", "one")])));
        lines.push("1 fdatasync(3[/d/a]) = 0");
        assert!(states(&log(&lines), 0.0).iter().all(|state| *state == image(&[("a", "one")])));
    }

    #[test]
    fn a_write_beside_a_sync_of_another_thread_is_not_covered() {
        let mut lines = BEGIN.to_vec();
        lines.extend([
            "1 fsync(3[/d/a] <unfinished ...>",
            "2 openat(AT_FDCWD, {/log}, O_WRONLY|O_CREAT|O_APPEND, 0644) = 7[/log]",
            "2 pwrite64(3[/d/a], {TWO}, 3, 3) = 3",
            "2 write(7[/log], {ack 1\n}, 6 <unfinished ...>",
            "1 <... fsync resumed>) = 0",
            "2 <... write resumed>) = 6",
        ]);
        let ops = log(&lines);
        assert!(states(&ops, 0.0).iter().all(|state| *state == image(&[("a", "one")])));
        assert!(states(&ops, 1.0).iter().all(|state| *state == image(&[("a", "oneTWO")])));
        let [.., What::Note(note), What::Sync { .. }] =
            &ops.iter().map(|op| op.what.clone()).collect::<Vec<_>>()[..]
        else {
            panic!("the line was about to be written before the sync ended: {ops:?}")
        };
        assert_eq!(note, "ack 1");
    }

    #[test]
    fn names_are_certain_when_their_folder_is_synced() {
        let mut lines = BEGIN.to_vec();
        lines.extend([
            "1 fsync(3[/d/a]) = 0",
            "1 openat(AT_FDCWD, {/d/b}, O_RDWR|O_CREAT, 0644) = 5[/d/b]",
            "1 unlink({/d/a}) = 0",
        ]);
        let some = states(&log(&lines), 0.5);
        for state in [&[][..], &[("a", "one")], &[("b", "")], &[("a", "one"), ("b", "")]] {
            assert!(some.contains(&image(state)), "{state:?}");
        }
        lines.push("1 fsync(4[/d]) = 0");
        assert!(states(&log(&lines), 0.5).iter().all(|state| *state == image(&[("b", "")])));
    }

    #[test]
    fn what_a_failed_sync_was_to_write_no_later_one_does() {
        let mut lines = BEGIN.to_vec();
        lines.extend([
            "1 fsync(3[/d/a]) = -1 EIO (Input/output error) (INJECTED)",
            "1 pwrite64(3[/d/a], {TWO}, 3, 3) = 3",
            "1 fsync(3[/d/a]) = 0",
        ]);
        let ops = log(&lines);
        assert!(states(&ops, 0.0).iter().all(|state| *state == image(&[("a", "\0\0\0TWO")])));
        assert!(states(&ops, 1.0).iter().all(|state| *state == image(&[("a", "oneTWO")])));
        lines.extend(["1 pwrite64(3[/d/a], {one}, 3, 0) = 3", "1 fsync(3[/d/a]) = 0"]);
        assert!(states(&log(&lines), 0.5).iter().all(|state| *state == image(&[("a", "oneTWO")])));
    }

    #[test]
    fn a_write_is_torn_between_sectors_and_nowhere_else() {
        let (mut disk, ops) = (Disk::default(), log(&BEGIN[..3]));
        ops.iter().for_each(|op| disk.apply(op));
        disk.files[0].certain = vec![b'.'; 2_000];
        disk.change(0, 9, Change::Write { at: 500, data: vec![b'x'; 1_000] });
        let (mut torn, mut random) = (0, Rng::with_seed(1));
        for _ in 0..200 {
            let content = &disk.lose(&mut random, 0.5)["a"];
            let parts = [0..500, 500..512, 512..1_024, 1_024..1_500, 1_500..2_000];
            let parts = parts.map(|part| {
                let first = content[part.start];
                assert!(content[part].iter().all(|byte| *byte == first));
                first
            });
            assert_eq!((parts[0], parts[4]), (b'.', b'.'));
            torn += usize::from(parts[1..4].contains(&b'.') && parts[1..4].contains(&b'x'));
        }
        assert!(torn > 10, "{torn}");
        disk.change(0, 9, Change::Truncate(3));
        assert_eq!(disk.lose(&mut random, 1.0)["a"], b"...");
    }

    #[test]
    #[should_panic(expected = "the model knows nothing of fallocate")]
    fn what_the_model_does_not_know_it_does_not_pass_over() {
        log(&[BEGIN[0], "1 fallocate(3[/d/a], 0, 0, 4096) = 0"]);
    }

    #[test]
    #[should_panic(expected = "strace cut a string short")]
    fn a_string_that_was_cut_short_is_noticed() {
        log(&[BEGIN[0], "1 pwrite64(3[/d/a], {one}..., 300, 0) = 300"]);
    }
}
