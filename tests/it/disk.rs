//! What really reaches the disk: child processes run plans under strace.
//!
//! kill -9 cannot see a missing fsync, for the kernel goes on. So the log of strace is read: which syncs there were and when,
//! what the files on a disk could hold after a power loss at any moment (see `disk_model`), and what happens when syncs and
//! writes fail.

#![allow(clippy::print_stdout, reason = "counts, and what fails, are to be seen")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use lunacore::limits::RELAXED_WINDOW;
use lunacore::*;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::disk_model::{Disk, Image, Op, TRACED, What, ops};

/// After so long a process that hangs ends itself.
const HANG: Duration = Duration::from_secs(100);
const LOG: &str = "runs.db-wal";
const DATABASE: &str = "runs.db";

// What a child does.

/// A run of `steps` steps, each of which answers with text that tells which it is, and `pad` bytes more.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Work {
    run: String,
    steps: usize,
    pad: usize,
    /// Milliseconds that each step takes.
    pause: u64,
    durability: Option<Durability>,
}

impl Work {
    fn new(run: &str, steps: usize) -> Self {
        Self { run: run.to_owned(), steps, pad: 0, pause: 0, durability: None }
    }

    fn durability(self, durability: Durability) -> Self {
        Self { durability: Some(durability), ..self }
    }

    fn plan(&self) -> ExecutePlan {
        let input = json!({ "pad": self.pad, "pause": self.pause });
        let steps = (0..self.steps).map(|n| Step::named(format!("s{n}")).uses("work").input(input.clone()));
        let plan = ExecutePlan::new(steps.collect::<Plan>()).run_id(self.run.as_str());
        match self.durability {
            Some(durability) => plan.durability(durability),
            None => plan,
        }
    }

    fn results(&self) -> Vec<Value> {
        (0..self.steps).map(|n| Value::from(result(&self.run, n, self.pad))).collect()
    }
}

/// Found again in what is written.
fn result(run: &str, step: usize, pad: usize) -> String {
    format!("<{run}:{step:05}>{}", "x".repeat(pad))
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Job {
    base: PathBuf,
    /// The durability of the store.
    store: Durability,
    /// Each list is worked off with a store that is opened and closed; its runs at the same time, or one after another.
    lives: Vec<Vec<Work>>,
    concurrent: usize,
    /// At every so many steps another connection moves the log to the database; 0 for never.
    checkpoint: usize,
    /// How often what fails is tried again.
    again: usize,
    /// At the end it waits until there is a file `stop`, and ends without closing anything.
    idles: bool,
    /// When the disk is full, it is made larger.
    grows: bool,
}

/// The folder of a test: `store/` for the store, `log` for what its processes tell, `trace` for what strace does.
struct Place {
    _dir: TempDir,
    base: PathBuf,
}

impl Place {
    fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    fn within(parent: &Path) -> Self {
        let dir = tempfile::tempdir_in(parent).unwrap();
        let base = dir.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("store")).unwrap();
        Self { _dir: dir, base }
    }

    fn job(&self, works: impl IntoIterator<Item = Work>) -> Job {
        let (base, lives) = (self.base.clone(), vec![works.into_iter().collect()]);
        let store = Durability::Immediate;
        Job { base, store, lives, concurrent: 1, checkpoint: 0, again: 0, idles: false, grows: false }
    }

    fn store(&self) -> PathBuf {
        self.base.join("store").join(DATABASE)
    }

    fn notes(&self) -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(self.base.join("log")).unwrap_or_default();
        text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
    }

    fn ops(&self) -> Vec<Op> {
        let trace = std::fs::read_to_string(self.base.join("trace")).unwrap();
        // It may be growing.
        let trace = &trace[..trace.rfind('\n').map_or(0, |end| end + 1)];
        ops(trace, &self.base.join("store"), &self.base.join("log"))
    }
}

/// What processes tell, each line with one call.
#[derive(Clone)]
struct Notes(Arc<File>);

impl Notes {
    fn at(base: &Path) -> Self {
        Self(Arc::new(OpenOptions::new().create(true).append(true).open(base.join("log")).unwrap()))
    }

    fn note(&self, line: &str) {
        (&*self.0).write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

#[derive(Deserialize)]
struct Input {
    pad: usize,
    pause: u64,
}

fn engine(
    store: SqliteStore,
    concurrent: usize,
    effect: impl Fn(&StepContext) + Clone + Send + Sync + 'static,
) -> Engine {
    let work = move |ctx: StepContext| {
        let effect = effect.clone();
        async move {
            let Input { pad, pause } = ctx.input()?;
            effect(&ctx);
            if pause > 0 {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            ctx.put_artifact(format!("notes/{}", ctx.step_id()), ctx.run_id().as_str())?;
            Ok::<_, StepError>(result(ctx.run_id().as_str(), ctx.index(), pad))
        }
    };
    Engine::builder()
        .memory(ProjectMemory::with_store(store))
        .allocator(RegistryAllocator::new().register("work", work))
        .max_concurrent_plans(concurrent)
        .start()
        .unwrap()
}

#[test]
#[ignore = "run by the other tests of this file, as a process of its own"]
fn child() {
    let Ok(job) = std::env::var("LUNACORE_DISK_JOB") else { return };
    std::thread::spawn(|| {
        std::thread::sleep(HANG);
        std::process::abort();
    });
    let job: Job = serde_json::from_str(&job).unwrap();
    // strace counts the calls of each thread; so all syncs of the store are to come from one.
    let runtime = || {
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap()
    };
    actix::System::with_tokio_rt(runtime).block_on(live(job));
}

async fn live(job: Job) {
    let notes = Notes::at(&job.base);
    for works in &job.lives {
        let Some(store) = open(&job, &notes).await else { return notes.note("end") };
        let engine = engine(store.durability(job.store), job.concurrent, effects(&job, &notes));
        let events = engine.subscribe_stream("*").await.unwrap();
        let listener = actix::spawn(listen(events, notes.clone()));
        let runs = works.iter().map(|work| actix::spawn(run(engine.clone(), work.clone(), job.clone())));
        for run in runs.collect::<Vec<_>>() {
            run.await.unwrap();
        }
        engine.flush(HANG).await.unwrap();
        if job.idles {
            notes.note("idle");
            while !job.base.join("stop").exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            std::process::abort();
        }
        engine.shutdown(Shutdown::drain(HANG)).await;
        drop(engine);
        listener.await.unwrap();
        // Without readers: whoever is the last to close it moves the log to the database, and removes it.
        drop(open(&job, &notes).await);
    }
    if job.grows {
        std::fs::create_dir(job.base.join("copy")).unwrap();
        std::fs::copy(job.base.join("store").join(DATABASE), job.base.join("copy").join(DATABASE)).unwrap();
    }
    notes.note("end");
}

/// Tells of each step that is called; while it runs, nothing is written for its run.
fn effects(job: &Job, notes: &Notes) -> impl Fn(&StepContext) + Clone + Send + Sync + 'static {
    let (notes, job, called) = (notes.clone(), job.clone(), Arc::new(AtomicUsize::new(0)));
    move |ctx| {
        notes.note(&format!("effect {} {}", ctx.run_id(), ctx.index()));
        if job.checkpoint > 0 && (called.fetch_add(1, Ordering::SeqCst) + 1) % job.checkpoint == 0 {
            let other = Connection::open(job.base.join("store").join(DATABASE)).unwrap();
            other.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        }
    }
}

/// The engine before ends a little after its last handle is dropped, so the store may be in use for a moment.
async fn open(job: &Job, notes: &Notes) -> Option<SqliteStore> {
    let mut again = 0..job.again;
    loop {
        match SqliteStore::open(job.base.join("store").join(DATABASE)) {
            Ok(store) => return Some(store),
            Err(OpenError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => {
                let typed = matches!(error, OpenError::Failed { .. } | OpenError::NotWritable { .. });
                notes.note(if typed { "failed open" } else { "untyped open" });
                println!("{}", crate::support::chain(&error).join(": "));
                again.next()?;
            }
        }
    }
}

async fn run(engine: Engine, work: Work, job: Job) {
    let notes = Notes::at(&job.base);
    for _ in 0..=job.again {
        match engine.execute(work.plan()).await {
            Ok(results) => {
                assert_eq!(results, work.results());
                return notes.note(&format!("done {}", work.run));
            }
            Err(error) => {
                let typed = matches!(&error, PlanError::Memory { source: MemoryError::Store(_), .. });
                notes.note(&format!("{} {}", if typed { "failed" } else { "untyped" }, work.run));
                println!("{}", crate::support::chain(&error).join(": "));
            }
        }
        if job.grows {
            let mut mount = Command::new("mount");
            mount.args(["-o", "remount,size=64m"]).arg(job.base.join("store"));
            assert!(mount.status().unwrap().success());
        }
    }
}

/// Tells of what is acknowledged.
async fn listen(mut events: EventStream, notes: Notes) {
    while let Some(event) = events.next().await {
        let Some(run) = event.run_id() else { continue };
        match event.kind() {
            EventKind::PlanAccepted { .. } => notes.note(&format!("accepted {run}")),
            EventKind::PlanCompleted {} => notes.note(&format!("completed {run}")),
            EventKind::TaskCompleted { task_id, .. } => {
                notes.note(&format!("ack {run} {}", &task_id[1..]));
            }
            _ => {}
        }
    }
}

// How it is started.

fn command(program: &str, job: &Job, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    let stderr = File::create(job.base.join("stderr")).unwrap();
    command
        .args(arguments)
        .arg(std::env::current_exe().unwrap())
        .args(["disk::child", "--exact", "--ignored", "--nocapture"])
        .env("LUNACORE_DISK_JOB", serde_json::to_string(job).unwrap())
        .env("RUST_BACKTRACE", "0")
        .stdout(File::create(job.base.join("stdout")).unwrap())
        .stderr(stderr);
    command
}

/// Starts a child under strace, which writes `trace`.
fn start(job: &Job, arguments: &[&str]) -> Child {
    let trace = job.base.join("trace");
    let always =
        ["-f", "-y", "-xx", "-ttt", "-s", "200000", "-e", "signal=none", "-o", trace.to_str().unwrap()];
    match command("strace", job, &[&always, arguments].concat()).spawn() {
        Ok(child) => child,
        Err(error) => panic!("strace cannot be started ({error}): apt-get install strace"),
    }
}

/// The child's own words, when it did not end well.
fn ended(job: &Job, status: ExitStatus) {
    let said = |name| std::fs::read_to_string(job.base.join(name)).unwrap();
    assert!(status.success(), "{status}: {}{}", said("stdout"), said("stderr"));
    let last = std::fs::read_to_string(job.base.join("log")).unwrap_or_default();
    assert!(last.ends_with("end\n"), "strace must be allowed to trace: {}{}", said("stdout"), said("stderr"));
}

/// Runs a child to its end, and tells what it did to its files.
fn traced(place: &Place, job: &Job, arguments: &[&str]) -> Vec<Op> {
    let arguments = [&["--seccomp-bpf", "-e", TRACED], arguments].concat();
    ended(job, start(job, &arguments).wait().unwrap());
    place.ops()
}

/// Waits for something that has no deadline of its own.
fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let since = Instant::now();
    while !happened() {
        assert!(since.elapsed() < HANG, "{what} never happens");
        std::thread::sleep(Duration::from_millis(20));
    }
}

// What the log of the store says.

/// A transaction that was written to the log, and the results that it is the first to hold.
struct Transaction {
    ended: usize,
    at: f64,
    results: Vec<(String, usize)>,
}

/// Frames are a header of 24 bytes and a page; the header of a transaction's last frame holds the size of the database.
fn transactions(ops: &[Op]) -> Vec<Transaction> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    let (mut results, mut last) = (Vec::new(), false);
    for op in ops {
        let What::Write { name, at, data, .. } = &op.what else { continue };
        match (name == LOG, at, data.len()) {
            (false, ..) | (true, 0, 32) => {}
            (true, _, 24) => last = data[4..8] != [0; 4],
            (true, _, 4096) => {
                results.extend(marks(data).into_iter().filter(|mark| seen.insert(mark.clone())));
                if std::mem::take(&mut last) {
                    let results = std::mem::take(&mut results);
                    found.push(Transaction { ended: op.ended, at: op.at, results });
                }
            }
            other => panic!("this is no frame of a log: {other:?}"),
        }
    }
    found
}

/// The results of which the beginning is in a page.
fn marks(page: &[u8]) -> Vec<(String, usize)> {
    let starts = page.iter().enumerate().filter(|(_, byte)| **byte == b'<').map(|(at, _)| at + 1);
    let mark = |at: usize| {
        let length = page[at..].iter().take(40).position(|byte| *byte == b'>')?;
        let (run, step) = std::str::from_utf8(&page[at..at + length]).ok()?.split_once(':')?;
        Some((run.to_owned(), step.parse().ok()?))
    };
    starts.filter_map(mark).collect()
}

fn syncs<'a>(ops: &'a [Op], file: &'static str) -> impl Iterator<Item = &'a Op> {
    ops.iter().filter(move |op| op.is_sync_of(file))
}

/// What the child told, with the moment.
fn told<'a>(ops: &'a [Op], what: &str, run: &str) -> Vec<(&'a Op, usize)> {
    let begin = format!("{what} {run}");
    let rest = |op: &'a Op| match &op.what {
        What::Note(note) => Some((op, note.strip_prefix(&begin)?.trim())),
        _ => None,
    };
    ops.iter().filter_map(rest).map(|(op, step)| (op, step.parse().unwrap_or(0))).collect()
}

/// Each step of the run is acknowledged after a sync that began when all of its commit was written; so is its end.
fn assert_acknowledged_when_synced(ops: &[Op], work: &Work) {
    let transactions = transactions(ops);
    let synced_between = |written: usize, told: &Op| {
        syncs(ops, LOG).any(|sync| sync.begun > written && sync.ended < told.begun)
    };
    let written = |step: usize| {
        let holds = |it: &&Transaction| it.results.contains(&(work.run.clone(), step));
        transactions.iter().find(holds).unwrap_or_else(|| panic!("step {step} was never written")).ended
    };
    let acks = told(ops, "ack", &work.run);
    assert!(acks.iter().map(|(_, step)| *step).eq(0..work.steps), "{acks:?}");
    for (told, step) in acks {
        assert!(synced_between(written(step), told), "step {step} was acknowledged before it was synced");
    }
    for (told, _) in [told(ops, "completed", &work.run), told(ops, "done", &work.run)].concat() {
        assert!(
            synced_between(written(work.steps - 1), told),
            "its end was acknowledged before it was synced"
        );
    }
}

// Syncs.

/// Making the file and its tables takes so many syncs, and closing it so many more.
const OPENING: usize = 12;

#[test]
fn each_commit_is_synced_once_and_before_it_is_acknowledged() {
    let (place, work) = (Place::new(), Work::new("r", 200));
    let ops = traced(&place, &place.job([work.clone()]), &[]);
    let all = ops.iter().filter(|op| matches!(op.what, What::Sync { .. } | What::SyncFolder { .. })).count();
    println!(
        "{} ops, {all} syncs, {} of the log, {} commits",
        ops.len(),
        syncs(&ops, LOG).count(),
        transactions(&ops).len()
    );
    // One commit for the acceptance, one for each step, and one for the tables.
    assert_eq!(transactions(&ops).len(), work.steps + 2);
    assert!(syncs(&ops, LOG).count() > work.steps);
    assert!(all <= work.steps + 1 + OPENING, "{all} syncs");
    assert_acknowledged_when_synced(&ops, &work);
}

/// How many timed flushes there may be from the first to the last result, and one for what came before.
fn windows(transactions: &[Transaction]) -> usize {
    let mut times = transactions.iter().filter(|it| !it.results.is_empty()).map(|it| it.at);
    let (first, last) = (times.next().unwrap(), times.next_back().unwrap());
    ((last - first) / RELAXED_WINDOW.as_secs_f64()) as usize + 2
}

/// Runs a plan that is stored with `Relaxed`, and ends the child once what it has written was synced.
fn relaxed(change: impl FnOnce(&mut Job), faults: &[&str]) -> Vec<Op> {
    let place = Place::new();
    let mut job = place.job([Work { pause: 1, ..Work::new("r", 200) }]);
    (job.idles, job.again) = (true, 3);
    change(&mut job);
    let mut child = start(&job, &[&["--seccomp-bpf", "-e", TRACED], faults].concat());
    wait_for("the end of the plan", || {
        assert!(
            child.try_wait().unwrap().is_none(),
            "{}",
            std::fs::read_to_string(job.base.join("stderr")).unwrap()
        );
        place.notes().last().is_some_and(|note| note[0] == "idle")
    });
    // It does nothing any more, but for a timer.
    wait_for("a sync behind the last write", || {
        let ops = place.ops();
        let is_write = |op: &&Op| matches!(&op.what, What::Write { name, .. } if name == LOG);
        let last = ops.iter().rfind(is_write).unwrap().ended;
        syncs(&ops, LOG).any(|sync| sync.begun > last)
    });
    File::create(job.base.join("stop")).unwrap();
    assert!(!child.wait().unwrap().success(), "nothing was closed");

    let ops = place.ops();
    let (transactions, flushes) = (transactions(&ops), syncs(&ops, LOG).count());
    let windows = windows(&transactions);
    println!("{flushes} syncs of the log in {windows} windows");
    assert_eq!(told(&ops, "ack", "r").len(), 200);
    assert!(flushes <= windows + OPENING, "{flushes} syncs of the log in {windows} windows");
    let known = Known::of(&ops, &job);
    assert_eq!(known.acknowledged["r"], 200, "what is told before the last sync is certain");
    assert_eq!(lose_power(&ops, &job, &BTreeSet::from([ops.len()]), 5), Ok(5));
    ops
}

#[test]
fn relaxed_plans_are_synced_when_their_window_is_over_and_no_more_often() {
    relaxed(|job| job.lives[0][0].durability = Some(Durability::Relaxed), &[]);
}

#[test]
fn relaxed_stores_are_synced_when_their_window_is_over_and_no_more_often() {
    relaxed(|job| job.store = Durability::Relaxed, &[]);
}

/// The first sync of each thread fails: one when the store is opened, and the first that a timer asks for.
#[test]
fn relaxed_stores_are_synced_in_time_after_a_timed_sync_has_failed() {
    let ops =
        relaxed(|job| job.store = Durability::Relaxed, &["-e", "inject=fsync,fdatasync:error=EIO:when=1"]);
    let failed = |op: &&Op| matches!(&op.what, What::Sync { name, failed: true, .. } if name == LOG);
    assert_eq!(ops.iter().filter(failed).count(), 1);
}

#[test]
fn a_relaxed_plan_makes_no_other_less_careful() {
    let place = Place::new();
    let careful = Work::new("careful", 60).durability(Durability::Immediate);
    let lazy = Work { pause: 1, ..Work::new("lazy", 150) }.durability(Durability::Relaxed);
    let job = Job { concurrent: 2, ..place.job([lazy, careful.clone()]) };
    let ops = traced(&place, &job, &[]);
    assert_acknowledged_when_synced(&ops, &careful);
    let (transactions, synced) = (transactions(&ops), syncs(&ops, LOG).count());
    let most = careful.steps + 1 + windows(&transactions) + OPENING;
    println!("{synced} syncs of {} commits, {most} at most", transactions.len());
    assert!(synced <= most, "the lazy one is synced for itself: {synced}");
    assert_eq!(told(&ops, "ack", "lazy").len(), 150);
}

// Power losses.

/// What a store must hold: how many steps of each run, and which runs have ended.
#[derive(Debug, Default)]
struct Known {
    acknowledged: BTreeMap<String, usize>,
    ended: BTreeSet<String>,
}

impl Known {
    /// By what was told so far; of runs that are relaxed, before the last sync.
    fn of(ops: &[Op], job: &Job) -> Self {
        let synced = last_sync(ops);
        let mut known = Self::default();
        for op in ops {
            let What::Note(note) = &op.what else { continue };
            let mut words = note.split(' ');
            let (Some(what), Some(run)) = (words.next(), words.next()) else { continue };
            let work = job.lives.iter().flatten().find(|work| work.run == run);
            let durability = work.and_then(|work| work.durability).unwrap_or(job.store);
            if durability == Durability::Immediate || op.begun < synced {
                known.told(what, run, words.next());
            }
        }
        known
    }

    fn told(&mut self, what: &str, run: &str, step: Option<&str>) {
        match (what, step) {
            ("accepted", _) => drop(self.acknowledged.entry(run.to_owned()).or_default()),
            ("ack", Some(step)) => {
                let count = self.acknowledged.entry(run.to_owned()).or_default();
                *count = (*count).max(step.parse::<usize>().unwrap() + 1);
            }
            ("completed" | "done", _) => drop(self.ended.insert(run.to_owned())),
            _ => {}
        }
    }
}

/// When the last sync began that covers all that was told before it: after one that failed, that of a new log.
fn last_sync(ops: &[Op]) -> usize {
    let (mut synced, mut doubtful) = (0, false);
    for op in ops {
        match &op.what {
            What::Sync { name, failed: true, .. } if name == LOG => doubtful = true,
            What::Write { name, at: 0, .. } if name == LOG => doubtful = false,
            _ if op.is_sync_of(LOG) && !doubtful => synced = op.begun,
            _ => {}
        }
    }
    synced
}

/// From a failed sync of the log on, until a new log is synced, the old one may be short on the disk while the database is
/// ahead of it already. SQLite cannot do better, so the power must not fail in these milliseconds, in which nothing is
/// acknowledged: not where a second careful step is.
fn made_good(ops: &[Op]) -> Vec<std::ops::Range<usize>> {
    let failed = |op: &Op| matches!(&op.what, What::Sync { name, failed: true, .. } if name == LOG);
    let end = |from: usize| {
        let (mut begun, mut acknowledged) = (false, 0);
        let over = ops[from..].iter().position(|op| {
            match &op.what {
                What::Write { name, at: 0, .. } => begun |= name == LOG,
                What::Note(note) => {
                    acknowledged += usize::from(note.starts_with("ack b") || note.starts_with("ack d"));
                }
                _ => {}
            }
            begun && op.is_sync_of(LOG) || acknowledged == 2
        });
        from + over.unwrap()
    };
    (0..ops.len()).filter(|n| failed(&ops[*n])).map(|n| n + 1..end(n) + 1).collect()
}

fn shown(error: impl std::error::Error) -> String {
    crate::support::chain(&error).join(": ")
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// The store holds what it must, and nothing in it contradicts anything else.
fn verify(store: &SqliteStore, job: &Job, known: &Known) -> Result<(), String> {
    let mut completed = BTreeMap::<String, usize>::new();
    let mut after = 0;
    loop {
        let page = store.events(after, 1_000).map_err(shown)?;
        if page.is_empty() {
            break;
        }
        let numbers = page.iter().map(|event| event.seq().unwrap());
        ensure(numbers.eq(after + 1..=after + page.len() as u64), || {
            format!("events have a gap behind {after}")
        })?;
        after += page.len() as u64;
        for event in page {
            if let EventKind::TaskCompleted { task_id, .. } = event.kind() {
                let count = completed.entry(event.run_id().unwrap().to_string()).or_default();
                ensure(**task_id == format!("s{count}"), || format!("{event} comes as number {count}"))?;
                *count += 1;
            }
        }
    }
    ensure(store.last_seq().map_err(shown)? == after, || "events are missing at the end".to_owned())?;

    let mut versions = BTreeMap::<usize, usize>::new();
    for work in job.lives.iter().flatten() {
        let run = &work.run;
        let run_id: RunId = run.parse().unwrap();
        let must = known.acknowledged.get(run).copied();
        let Some(record) = store.run(&run_id).map_err(shown)? else {
            ensure(must.is_none(), || format!("run {run} was accepted and is lost"))?;
            continue;
        };
        let outputs = store.outputs(&run_id).map_err(shown)?.unwrap();
        let cursor = outputs.len();
        ensure(cursor >= must.unwrap_or(0), || format!("{run} has {cursor} steps and had {must:?}"))?;
        let right = outputs.iter().map(Output::to_value).eq(work.results().into_iter().take(cursor));
        ensure(right, || format!("{run} has other results"))?;
        let told = completed.get(run).copied().unwrap_or(0);
        ensure((record.cursor, told) == (cursor, cursor), || {
            format!("{run}: cursor {}, {told} told, {cursor} outputs", record.cursor)
        })?;
        let ended = record.state == RunState::Completed;
        ensure(ended == (cursor == work.steps), || format!("{run}: {} at {cursor}", record.state))?;
        ensure(ended || !known.ended.contains(run), || format!("{run} had ended"))?;
        (0..cursor).for_each(|step| *versions.entry(step).or_default() += 1);
    }
    for (step, count) in versions {
        for key in [format!("task:s{step}"), format!("notes/s{step}")] {
            let found = store.versions(&Project::default(), &key).map_err(shown)?;
            ensure(found.iter().copied().eq(1..=count as u64), || format!("{key}: {found:?}"))?;
        }
    }
    Ok(())
}

/// Goes on with everything in this process; no step that is known is called again.
fn resume(store: SqliteStore, job: &Job, known: &Known) -> Result<(), String> {
    let called = Arc::new(Mutex::new(Vec::new()));
    let calls = called.clone();
    let effect = move |ctx: &StepContext| calls.lock().unwrap().push((ctx.run_id().to_string(), ctx.index()));
    actix::System::new().block_on(async {
        let engine = engine(store, 2, effect);
        for work in job.lives.iter().flatten() {
            let results = engine.execute(work.plan()).await;
            ensure(results.map_err(shown)? == work.results(), || format!("{} ends otherwise", work.run))?;
        }
        engine.shutdown(Shutdown::drain(HANG)).await;
        Ok::<_, String>(())
    })?;
    for (run, step) in called.lock().unwrap().iter() {
        let known = known.acknowledged.get(run).copied().unwrap_or(0);
        ensure(*step >= known, || format!("step {step} of {run} was called again"))?;
    }
    Ok(())
}

/// Where a lot of small files are soon written and need not stay.
fn fast_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// Opens the store as one disk holds it, and looks at everything; in a sample, the plans are finished too.
fn survives(image: &Image, job: &Job, known: &Known, sample: bool) -> Result<(), String> {
    let folder = fast_folder();
    for (name, content) in image {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let path = folder.path().join(DATABASE);
    let store = SqliteStore::open(&path).map_err(shown)?;
    verify(&store, job, known)?;
    if sample {
        let sql = Connection::open(&path).map_err(shown)?;
        let says: String = sql.query_row("PRAGMA integrity_check", [], |row| row.get(0)).map_err(shown)?;
        ensure(says == "ok", || says)?;
        resume(store, job, known)?;
    }
    Ok(())
}

/// Lets the power fail before each of these operations, and tries some of the disks that may be left. Answers how many, or
/// what one of them lacks.
fn lose_power(ops: &[Op], job: &Job, cuts: &BTreeSet<usize>, losses: usize) -> Result<usize, String> {
    const KEEP: [f64; 5] = [0.0, 0.5, 0.9, 1.0, 0.2];
    let (mut disk, mut applied, mut tried) = (Disk::default(), 0, 0);
    for cut in cuts {
        ops[applied..*cut].iter().for_each(|op| disk.apply(op));
        applied = *cut;
        let known = Known::of(&ops[..*cut], job);
        for loss in 0..losses {
            let (seed, keep) = ((cut * losses + loss) as u64, KEEP[loss % KEEP.len()]);
            let image = disk.lose(&mut Rng::with_seed(seed), keep);
            let lost = |what| format!("before operation {cut}, loss {loss} with {keep} kept: {what}");
            survives(&image, job, &known, tried % 25 == 7).map_err(lost)?;
            tried += 1;
        }
    }
    Ok(tried)
}

/// Everywhere at the beginning, and then around what matters, and anywhere.
fn cuts(ops: &[Op], count: usize) -> BTreeSet<usize> {
    let mut random = Rng::with_seed(count as u64);
    let around = ops.iter().enumerate().flat_map(|(n, op)| match op.what {
        What::Write { .. } => vec![],
        What::Note(_) => vec![n + 1],
        _ => vec![n, n + 1],
    });
    let mut around: Vec<usize> = around.collect();
    random.shuffle(&mut around);
    around.truncate(count);
    let anywhere = (0..count / 2).map(|_| random.usize(0..=ops.len()));
    around.into_iter().chain(anywhere).chain(0..ops.len().min(30)).collect()
}

/// Two runs at a time, a store that is closed and opened again, and a log that is moved to the database now and then.
fn busy(place: &Place) -> Job {
    let work = |run: &str, steps| Work { pad: 300, ..Work::new(run, steps) };
    let mut job = place.job([]);
    job.lives = vec![vec![work("a", 30), work("b", 20)], vec![work("c", 25)], vec![work("d", 2)]];
    (job.concurrent, job.checkpoint) = (2, 9);
    job
}

#[test]
fn what_was_acknowledged_survives_a_power_loss() {
    let place = Place::new();
    let job = busy(&place);
    let ops = traced(&place, &job, &[]);
    let cuts = cuts(&ops, 90);
    let tried = lose_power(&ops, &job, &cuts, 4).unwrap();
    println!("{} ops, {} cuts, {tried} disks", ops.len(), cuts.len());
    let checkpoints = syncs(&ops, DATABASE).count();
    assert!(checkpoints > 5, "{checkpoints}");
}

#[test]
fn of_what_is_relaxed_what_was_synced_survives_a_power_loss() {
    let place = Place::new();
    let mut job = Job { store: Durability::Relaxed, ..busy(&place) };
    job.lives.iter_mut().flatten().for_each(|work| work.pause = 2);
    job.lives[0][1].durability = Some(Durability::Immediate);
    let ops = traced(&place, &job, &[]);
    let cuts = cuts(&ops, 60);
    let tried = lose_power(&ops, &job, &cuts, 4).unwrap();
    println!("{} ops, {} cuts, {tried} disks", ops.len(), cuts.len());
}

#[test]
fn the_stores_own_checkpoint_survives_a_power_loss() {
    let place = Place::new();
    let job = place.job([Work { pad: 4_000, ..Work::new("r", 620) }]);
    let ops = traced(&place, &job, &[]);
    let is_write = |op: &Op| matches!(&op.what, What::Write { name, .. } if name == DATABASE);
    // Behind the making of the tables.
    let first = 100 + ops[100..].iter().position(is_write).unwrap();
    let synced = first + ops[first..].iter().position(|op| op.is_sync_of(DATABASE)).unwrap();
    let last = ops[..synced].iter().rposition(is_write).unwrap();
    println!("{} ops, checkpoint {first}..{last}, synced {synced}", ops.len());
    assert!(last - first > 300 && told(&ops[synced..], "ack", "r").len() > 10, "it is elsewhere");
    let mut random = Rng::with_seed(1);
    let around = (first - 2..first + 2).chain(last..last + 3).chain(synced..synced + 12);
    let cuts =
        around.chain((0..5).map(|_| random.usize(first..last))).chain([synced + 50, ops.len()]).collect();
    let tried = lose_power(&ops, &job, &cuts, 3).unwrap();
    println!("{} cuts, {tried} disks", cuts.len());
}

/// Behind all that was told.
fn when_told(ops: &[Op]) -> BTreeSet<usize> {
    let told = |op: &Op| matches!(&op.what, What::Note(note) if !note.starts_with("effect"));
    (0..ops.len()).filter(|n| told(&ops[*n])).map(|n| n + 1).collect()
}

/// The check can fail: with any sync taken away that a commit waited for, something acknowledged is lost.
#[test]
fn a_sync_that_is_left_out_is_noticed() {
    let place = Place::new();
    let mut job = place.job([Work::new("r", 12)]);
    job.lives.push(vec![Work::new("q", 2)]);
    let ops = traced(&place, &job, &[]);
    let without = |left_out: &dyn Fn(usize, &Op) -> bool| {
        let left = ops.iter().enumerate().filter(|(n, op)| !left_out(*n, op)).map(|(_, op)| op.clone());
        let left: Vec<Op> = left.collect();
        lose_power(&left, &job, &when_told(&left), 3)
    };
    without(&|_, _| false).unwrap();
    let waited: Vec<usize> = transactions(&ops)
        .iter()
        .map(|it| ops.iter().position(|op| op.is_sync_of(LOG) && op.begun > it.ended).unwrap())
        .collect();
    // The first makes the tables, and what it makes is written to the database before anything else is told.
    assert_eq!(waited.len(), 1 + 13 + 3);
    for commit in &waited[1..] {
        without(&|n, _| n == *commit).expect_err("a commit was not synced");
    }
    // Neither do the others happen for nothing.
    without(&|_, op| op.is_sync_of(DATABASE)).expect_err("the database is never synced");
    without(&|_, op| matches!(op.what, What::SyncFolder { .. })).expect_err("the folder is never synced");
    println!("{} syncs of {} operations", waited.len(), ops.len());
}

/// After a sync that failed, the disk may lack what the process still reads. So what was relaxed before may not be the
/// ground on which something careful is acknowledged, unless it is written once more.
#[test]
fn a_sync_that_failed_is_made_good_before_anything_is_acknowledged() {
    for failing in [1, 3, 5] {
        let place = Place::new();
        let lazy = |run: &str| Work::new(run, 20).durability(Durability::Relaxed);
        let mut job = place.job([lazy("a"), Work::new("b", 3), lazy("c"), Work::new("d", 4)]);
        job.again = 4;
        let inject = format!("inject=fsync,fdatasync:error=EIO:when={failing}");
        let ops = traced(&place, &job, &["-e", &inject]);
        let failed = |op: &&Op| matches!(&op.what, What::Sync { name, failed: true, .. } if name == LOG);
        assert!(ops.iter().any(|op| failed(&op)), "no sync of the log failed");
        // SQLite does not look at what the sync of a folder answers, so that no such one may be among those that fail here.
        assert!(!ops.iter().any(|op| matches!(op.what, What::SyncFolder { failed: true })));
        let mut cuts = when_told(&ops);
        cuts.extend((0..ops.len()).filter(|n| matches!(ops[*n].what, What::Sync { .. })).map(|n| n + 1));
        let doubtful = made_good(&ops);
        let early = |op: &Op| matches!(&op.what, What::Note(note) if note.starts_with("failed") && note != "failed open");
        assert!(
            !doubtful.iter().any(|range| ops[range.clone()].iter().any(early)),
            "it goes on before all is made good"
        );
        cuts.retain(|cut| !doubtful.iter().any(|range| range.contains(cut)));
        let tried = lose_power(&ops, &job, &cuts, 3).unwrap();
        println!(
            "sync {failing} of each thread fails, made good in {doubtful:?}: {} cuts, {tried} disks",
            cuts.len()
        );
    }
}

// Faults.

/// No step is called again that was acknowledged, and every failure has its type.
fn check_notes(notes: &[Vec<String>]) -> Known {
    let mut known = Known::default();
    for note in notes {
        assert_ne!(note[0], "untyped", "{notes:?}");
        let step = note.get(2).map(String::as_str);
        if note[0] == "effect" {
            let acknowledged = known.acknowledged.get(&note[1]).copied().unwrap_or(0);
            assert!(step.unwrap().parse::<usize>().unwrap() >= acknowledged, "{note:?} again: {notes:?}");
        } else if let Some(run) = note.get(1) {
            known.told(&note[0], run, step);
        }
    }
    known
}

/// A child runs two plans, and some of its calls fail. Answers how many did. One of the first `opening` calls of a thread
/// keeps the store from being opened.
fn with_faults(calls: &str, error: &str, when: &str, opening: usize) -> usize {
    let place = Place::new();
    let job = Job { again: 4, ..place.job([Work::new("r", 20), Work::new("q", 3)]) };
    let store = place.base.join("store");
    let files =
        ["", "-wal", "-journal", "-lock"].map(|end| format!("{}{end}", store.join(DATABASE).display()));
    let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:error={error}:when={when}"));
    let mut arguments: Vec<&str> = files.iter().flat_map(|file| ["-P", file]).collect();
    arguments.extend(["-e", &trace, "-e", &inject]);
    ended(&job, start(&job, &arguments).wait().unwrap());

    let notes = place.notes();
    let mut known = check_notes(&notes);
    let forever = when.ends_with('+');
    let done = notes.iter().filter(|note| note[0] == "done").count();
    assert!(done == 2 || forever, "what fails once is made good by the same process: {notes:?}");
    let trace = std::fs::read_to_string(place.base.join("trace")).unwrap();
    let failed = trace.lines().filter(|line| line.contains("(INJECTED)")).count();
    if when.trim_end_matches('+').parse::<usize>().unwrap() <= opening {
        let noticed = notes.contains(&vec!["failed".to_owned(), "open".to_owned()]);
        assert!(noticed, "{calls} {error} {when}: the store was opened all the same: {notes:?}");
    }
    // And in another process.
    let opened = SqliteStore::open(place.store()).unwrap();
    verify(&opened, &job, &known).unwrap_or_else(|lost| panic!("{calls} {error} {when}: {lost}: {notes:?}"));
    resume(opened, &job, &known).unwrap_or_else(|lost| panic!("{calls} {error} {when}: {lost}: {notes:?}"));
    known.ended = ["r", "q"].map(str::to_owned).into();
    let opened = SqliteStore::open_read_only(place.store()).unwrap();
    verify(&opened, &job, &known).unwrap();
    failed
}

/// Two children at a time.
fn sweep(calls: &str, error: &str, opening: usize, whens: &[String]) -> usize {
    let half = |from: usize| {
        let whens = whens.iter().skip(from).step_by(2);
        whens.filter(|when| with_faults(calls, error, when, opening) > 0).count()
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        half(0) + other.join().unwrap()
    })
}

fn once(at: impl IntoIterator<Item = usize>) -> Vec<String> {
    at.into_iter().map(|k| k.to_string()).collect()
}

fn forever(from: impl IntoIterator<Item = usize>) -> Vec<String> {
    from.into_iter().map(|k| format!("{k}+")).collect()
}

const SYNCS: &str = "fsync,fdatasync";
const WRITES: &str = "write,pwrite64";

#[test]
fn a_sync_that_fails_acknowledges_nothing_and_the_store_goes_on() {
    assert_eq!(sweep(SYNCS, "EIO", 5, &once(1..=20)), 20);
    assert_eq!(sweep(SYNCS, "EIO", 5, &forever([1, 2, 5, 9, 14])), 5);
}

#[test]
fn a_disk_that_is_full_acknowledges_nothing_and_the_store_goes_on() {
    assert_eq!(sweep(WRITES, "ENOSPC", 20, &once((1..=20).chain([33, 47, 64, 81, 100, 150]))), 26);
    assert_eq!(sweep(WRITES, "ENOSPC", 20, &forever([1, 3, 12, 25, 40, 77])), 6);
}

#[test]
fn a_write_that_fails_acknowledges_nothing_and_the_store_goes_on() {
    assert_eq!(sweep(WRITES, "EIO", 20, &once([2, 9, 16, 23, 30, 51, 90])), 7);
}

/// A real one, of a megabyte, in a namespace of its own. Where a process may not have that, faults are injected all the
/// same by the tests above.
#[test]
fn a_plan_goes_on_when_a_full_disk_is_made_larger() {
    let place = Place::new();
    let mounts = "mount -t tmpfs -o size=1m lunacore \"$0\" && exec \"$@\"";
    let store = place.base.join("store");
    let unshare = ["--mount", "--map-root-user", "sh", "-c"];
    let may = Command::new("unshare").args(unshare).args([mounts, store.to_str().unwrap(), "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        println!("left out: no file system may be mounted here");
        return;
    }
    let job = Job { again: 3, grows: true, ..place.job([Work { pad: 30_000, ..Work::new("r", 50) }]) };
    let arguments = [&unshare[..], &[mounts, store.to_str().unwrap()]].concat();
    ended(&job, command("unshare", &job, &arguments).status().unwrap());
    let notes = place.notes();
    let mut known = check_notes(&notes);
    assert!(
        notes.contains(&vec!["failed".to_owned(), "r".to_owned()]),
        "the disk was large enough: {notes:?}"
    );
    assert!(notes.contains(&vec!["done".to_owned(), "r".to_owned()]), "{notes:?}");
    known.ended.insert("r".to_owned());
    let copy = SqliteStore::open(place.base.join("copy").join(DATABASE)).unwrap();
    verify(&copy, &job, &known).unwrap();
}
