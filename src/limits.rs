//! Every cap of the crate, each with its reason.
//!
//! A bound that is reached gives a typed error or a `subscription.lagged` event; nothing is cut off silently.

use std::time::Duration;

/// Longest id of a step or run, tenant, project, agent or callable name, in bytes. Ids become parts of keys,
/// log lines and table cells; 256 bytes hold any sensible name.
pub const MAX_ID_BYTES: usize = 256;

/// Longest artifact key, in bytes: a step id with a prefix, with room for an application's own hierarchy.
pub const MAX_KEY_BYTES: usize = 512;

/// Most steps in one plan. A plan of this size is held in memory several times over while it is accepted.
pub const MAX_STEPS: usize = 100_000;

/// Most inputs that a plan may declare: each is held beside the plan, and what reads a plan searches them by name.
pub const MAX_PLAN_INPUTS: usize = 1_000;

/// Largest values of all inputs of a plan together, and largest input of a step once its expressions are evaluated, in bytes of
/// JSON: as large as an output, so that one can be handed on whole.
pub const MAX_INPUT_BYTES: usize = MAX_OUTPUT_BYTES;

/// Longest expression, in bytes. What needs more is a program, and belongs into a callable.
pub const MAX_EXPRESSION_BYTES: usize = 4 * 1024;

/// Most words of one expression: names, numbers, texts, and the characters of its operators and brackets. Its engine descends
/// one level for each operator in a row, on the stack: this many take less than 512 KiB of it, a quarter of what a thread has.
pub const MAX_EXPRESSION_WORDS: usize = 400;

/// Deepest nesting of brackets in one expression, for the same reason: its engine descends a dozen levels for each.
pub const MAX_EXPRESSION_DEPTH: usize = 16;

/// Most expressions in one plan: one for each of as many steps as it may have.
pub const MAX_EXPRESSIONS: usize = MAX_STEPS;

/// What all expressions of one input may cost, in the units of their engine: one an instruction, one for each 64 bytes of text
/// that it makes. So they make at most twice the text that an input can hold, within a fraction of a second: they are evaluated
/// on the orchestrator's thread.
pub const EXPRESSION_FUEL: u64 = 500_000;

/// What all expressions of one input may read of outputs and inputs: one for each value, and one for each 64 bytes of text.
pub const EXPRESSION_READS: u64 = 1_000_000;

/// Most names that are looked at for what a misspelt one in an expression may have meant, in one plan: so that a plan of
/// [`MAX_STEPS`] steps that are all misspelt is refused as fast as another.
pub const MAX_SUGGESTIONS_TRIED: usize = 1_000_000;

/// Most problems that are listed of a plan. What is wrong with more steps than that is mostly one thing.
pub const MAX_PROBLEMS: usize = 1_000;

/// Largest plan file, in bytes: [`MAX_STEPS`] steps of 160 bytes each. What a step is to work on that is larger than a few
/// lines belongs into a file of its own.
pub const MAX_PLAN_FILE_BYTES: usize = 16 * 1024 * 1024;

/// Most values of a plan file, at twenty for each of [`MAX_STEPS`] steps. Each takes some hundred bytes of memory while the file is
/// read, however short it is written.
pub const MAX_PLAN_FILE_VALUES: usize = 2_000_000;

/// Most values and names of a plan file that YAML aliases repeat: they are for policies that steps share, and a short file must not
/// become a long plan.
pub const MAX_PLAN_FILE_ALIASED: usize = 200_000;

/// Deepest nesting of lists and mappings in a plan file: an input of [`MAX_JSON_DEPTH`] levels, and the three around it.
pub const MAX_PLAN_FILE_DEPTH: usize = MAX_JSON_DEPTH + 3;

/// Most problems of a plan file that are told with their places; of the others, how many there are. Nobody mends more at a time.
pub const MAX_PLAN_FILE_PROBLEMS: usize = 100;

/// Most faults that are told of one step's input, when it does not fit its callable's schema: an input that has more is mostly meant
/// for another callable.
pub const MAX_INPUT_FAULTS: usize = 20;

/// The wait after the first failed attempt, where a plan file asks for retries and names none: long enough for a service to
/// restart within a few attempts, as it grows.
pub const PLAN_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Largest output of a step, in bytes of its string form (or raw bytes). An output travels through a message, an
/// event and an artifact; what is larger belongs into a file or an object store, with its name as the output.
pub const MAX_OUTPUT_BYTES: usize = 16 * 1024 * 1024;

/// Deepest nesting of arrays and objects in an output, input, attribute, meta or payload. What nests deeper cannot be read
/// back from its text (serde_json stops at 128), and far deeper values overflow the stack of whoever writes them.
pub const MAX_JSON_DEPTH: usize = 100;

/// Largest data of one artifact, in bytes.
pub const MAX_ARTIFACT_BYTES: usize = 16 * 1024 * 1024;

/// Largest `meta` of one artifact, in bytes of JSON: it is copied with each read.
pub const MAX_META_BYTES: usize = 64 * 1024;

/// Most further artifacts that one attempt may stage, since all of them are committed at once.
pub const MAX_STAGED_ARTIFACTS: usize = 1_000;

/// Most bytes of further artifacts that one attempt may stage, for the same reason.
pub const MAX_STAGED_BYTES: usize = 64 * 1024 * 1024;

/// Attempts of a step that is retried, the first included, by default. Most faults that go away by themselves are gone at
/// the second attempt; where retries are nested in retries, three at each level are already many.
pub const RETRY_ATTEMPTS: u32 = 3;

/// Most attempts that a retry policy may give a step: each is stored, with its events.
pub const MAX_RETRY_ATTEMPTS: u32 = 10_000;

/// Longest wait that a growing delay of a retry grows to, by default: a service that is well again is noticed within a
/// minute.
pub const RETRY_MAX_DELAY: Duration = Duration::from_secs(60);

/// Longest delay, budget, window or open time that a retry policy or a breaker may have: a leap year. What is longer is
/// a mistaken unit.
pub const MAX_WAIT: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The first time that nothing can wait until, since the epoch: the end of the year 9999. Times are told as RFC 3339, which has no later
/// ones.
pub const END_OF_TIME: Duration = Duration::from_secs(253_402_300_800);

/// Failures in a row that open a breaker, by default: more than one step with [`RETRY_ATTEMPTS`] makes, so that a single
/// bad step does not open it.
pub const BREAKER_FAILURES: u32 = 5;

/// Time over which a breaker takes its failure rate, by default.
pub const BREAKER_WINDOW: Duration = Duration::from_secs(60);

/// Parts that such a window is counted in: of each, the sums are kept, so its memory does not grow with the calls. The
/// oldest part leaves as a whole, so the window is up to a sixtieth shorter than it says.
pub const BREAKER_BUCKETS: u64 = 60;

/// How long a breaker stays open, by default: most services restart within it.
pub const BREAKER_OPEN: Duration = Duration::from_secs(30);

/// Most probes of a breaker: as many attempts as one orchestrator can have in flight.
pub const MAX_BREAKER_PROBES: u32 = 10_000;

/// Most steps of a plan that have a compensation. Each commit of a run that is being undone names those that are undone so far,
/// so that what is written grows with the square of them: for so many, four megabytes.
pub const MAX_COMPENSATIONS: usize = 1_000;

/// How long blocking code that came to a limit is waited for, by default. A call that looks at its token, or that talks to a
/// service with a timeout of its own, mostly ends within it.
pub const TIMEOUT_GRACE: Duration = Duration::from_secs(10);

/// Breakers that one orchestrator may have: each is kept in memory, with its window.
pub const MAX_BREAKERS: usize = 1_000;

/// Most attempts that a limit by name may let be under way at a time: as many as one orchestrator can have in flight.
pub const MAX_LIMIT_CONCURRENCY: u32 = 10_000;

/// Largest burst of a limit by name: more attempts than that cannot start at once.
pub const MAX_LIMIT_BURST: u32 = 10_000;

/// Limits by name that one orchestrator may have: each is kept in memory.
pub const MAX_NAMED_LIMITS: usize = 1_000;

/// Largest secret, in bytes: a key with its chain of certificates. Everything that leaves a step is searched for it.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;

/// Longest message of a recorded failure, in bytes. The live error keeps its full text; the record is cut here, at
/// a character boundary, and ends in `…`.
pub const MAX_FAILURE_BYTES: usize = 8 * 1024;

/// Most causes of a recorded failure: longer chains are a loop or noise.
pub const MAX_FAILURE_CAUSES: usize = 16;

/// Plans that may wait in an orchestrator, by default. The next one gets `PlanError::QueueFull`.
pub const QUEUE_CAPACITY: usize = 1_024;

/// Most plans that an orchestrator may be told to let wait: each is held in memory whole.
pub const MAX_QUEUE_CAPACITY: usize = 1_000_000;

/// Most plans that one orchestrator runs at a time. Each is a task that holds its plan in memory.
pub const MAX_CONCURRENT_PLANS: usize = 10_000;

/// Runs that an orchestrator remembers as interrupted. What memory can still tell of a run, memory tells.
pub const INTERRUPTED_RUNS: usize = 1_000;

/// Longest wait for an allocator's answer. A plan that cannot be resolved holds back those behind it.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(30);

/// Plans that an orchestrator admits before it lets everything else on its thread have a turn.
pub const ADMISSION_BURST: usize = 64;

/// How long an orchestrator goes on with accepted plans after the last handle to it is dropped; then it cancels.
pub const DROP_DRAIN: Duration = Duration::from_secs(30);

/// How long a shutdown waits, once everything is cancelled, for blocking code that was told to stop.
pub const STOP_GRACE: Duration = Duration::from_secs(2);

/// Events that wait for one subscriber, by default. When it is full the oldest is dropped and counted.
pub const SUBSCRIBER_QUEUE: usize = 4_096;

/// Largest queue that a subscriber may ask for.
pub const MAX_SUBSCRIBER_QUEUE: usize = 1_000_000;

/// Most subscriptions of one bus. A blocking subscriber may hold one thread of the blocking pool (512 by default),
/// and at least half of the pool must stay free for steps.
pub const MAX_SUBSCRIPTIONS: usize = 256;

/// Most events that one hand-over to a blocking subscriber carries, and that a replay reads from the store at a time: each
/// subscription holds one such page in memory.
pub const SUBSCRIBER_BATCH: usize = 256;

/// Longest pattern of a subscription, in bytes.
pub const MAX_PATTERN_BYTES: usize = 256;

/// Largest payload of an event that an application emits, or of a progress report, in bytes of JSON.
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// Commits whose events may wait for a bus. A bus that is further behind gets a gap, which it reports as
/// `subscription.lagged`, rather than slowing the plans.
pub const PUBLISH_BACKLOG: usize = 8_192;

/// Progress reports of one orchestrator that may wait for the bus; the next is dropped (progress is ephemeral).
pub const PROGRESS_BACKLOG: usize = 1_024;

/// Runs that one orchestrator looks up at the same time although its queue is full, to see whether they are over. The next
/// gets `PlanError::QueueFull` at once.
pub const LOOKUPS: usize = 64;

/// How soon memory tells a bus of a gap that no later commit has told it of.
pub const GAP_RETRY: Duration = Duration::from_millis(50);

/// Mailbox of each of the four actors, in messages: beyond this `try_send` fails. As always in actix, each asker that
/// waits for an answer has a place besides.
pub const MAILBOX: usize = 4_096;

/// Finished runs that the volatile store remembers; artifacts stay until they are deleted.
pub const VOLATILE_FINISHED_RUNS: usize = 1_000;

/// Events that the volatile store remembers, for subscribers that come late: as many as wait for one that is slow. The
/// SQLite store keeps as many as a [`Retention`](crate::Retention) says, and all without one.
pub const VOLATILE_EVENTS: usize = 4_096;

/// How long [`Durability::Relaxed`](crate::Durability::Relaxed) may keep what it acknowledged from the disk: at most ten
/// flushes a second.
pub const RELAXED_WINDOW: Duration = Duration::from_millis(100);

/// Most writes that memory stores in one transaction. Large enough to share the cost of a flush, and small enough that
/// the answers to one batch make the next while the disk works.
pub const MAX_BATCH: usize = 512;

/// Rows that memory has a store look at in one batch of [`Collect`](crate::Collect): a few milliseconds, for which commits wait.
pub const COLLECT_ROWS: usize = 500;

/// Numbers of versions to keep for which a store remembers which keys it has looked at. Of more at a time the others wait.
pub const COLLECT_PASSES: usize = 8;

/// Keys that a store remembers for each of these numbers, because they have been written to since. With more it looks at all once
/// more.
pub const COLLECT_WRITTEN: usize = 20_000;

/// The pause after such a batch, while there is more and nobody waits for it: the store belongs to the commits for most of the time.
pub const COLLECT_PAUSE: Duration = Duration::from_millis(10);

/// How long after its start memory collects for the first time: runs that were cut off go on first.
pub const COLLECT_DELAY: Duration = Duration::from_secs(5);

/// How often from then on. What is kept too long takes some space, and is counted in days anyway.
pub const COLLECT_INTERVAL: Duration = Duration::from_secs(60);

/// Views that memory reads a store through at the same time, where reading waits for a disk.
pub const READERS: usize = 2;

/// How long the SQLite store waits for another program that has locked its file. Only foreign programs do: a store has one
/// writer, and its readers never wait.
pub const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Pages of the file that the writer of a SQLite store keeps in memory, in bytes. What a busy store touches (the ends of its
/// tables, and the inner pages of its indexes) fits.
pub const SQLITE_WRITER_CACHE: usize = 16 * 1024 * 1024;

/// The same for each of its readers, which mostly read the newest pages.
pub const SQLITE_READER_CACHE: usize = 4 * 1024 * 1024;

/// Pages of 4 KiB in the log of a SQLite store from which on they are moved to the file itself, which takes two syncs. The
/// longer the log, the more often a page has changed by then that is moved once; 16 MiB are read back in no time after a crash.
pub const SQLITE_LOG_PAGES: usize = 4_096;

/// Statements that a connection of a SQLite store keeps prepared: more than there are.
pub const SQLITE_STATEMENTS: usize = 64;

/// Events that the SQLite store keeps in one row. Those of a commit share one, but for a run that is resumed with many steps: a
/// page of its events must not cost the reading of all.
pub const SQLITE_EVENTS_PER_ROW: usize = 100;

/// Rows of a batch that the SQLite store collects before it stores them together.
pub const SQLITE_PENDING_ROWS: usize = 64;

/// The same in bytes, for rows that are large.
pub const SQLITE_PENDING_BYTES: usize = 1024 * 1024;

/// Keys of which the SQLite store remembers the last version, and unfinished runs of which it remembers where they stand:
/// what is not remembered is looked up. A few hundred bytes each.
pub const SQLITE_REMEMBERED: usize = 20_000;

/// Largest page of a listing.
pub const MAX_PAGE: usize = 1_000;

/// Signals that are kept for a run, sent before a step waited for them. More are not a message but a stream.
pub const MAX_SIGNALS: usize = 100;

/// Largest payload of a signal, in bytes of JSON. It is a decision, or an answer; what is larger belongs into a file or an object
/// store, with its name as the payload.
pub const MAX_SIGNAL_BYTES: usize = 1024 * 1024;

/// Most bytes of JSON of all signals together that are kept for a run. Whoever takes the run up reads them all, and holds them until
/// they are taken: as much as one output.
pub const MAX_SIGNALS_BYTES: usize = MAX_OUTPUT_BYTES;
