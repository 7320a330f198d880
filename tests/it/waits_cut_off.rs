//! Runs that wait for a time or for a signal, cut off at every write: the wait ends when it would have ended, or as soon as somebody
//! is there again, and every signal that was acknowledged counts, once.
//!
//! By virtual time, which all lives of a run share, so that times are exact.

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, SystemTime};

use lunacore::limits::MAX_PAGE;
use lunacore::testing::{Fault, FaultyStore};
use lunacore::*;
use serde_json::{Value, json};

use crate::recovery::World;
use crate::staged::*;
use crate::support::*;

/// How long the step before takes, in seconds.
const BEFORE: u64 = 2;
/// When a sleep ends that is not cut off.
const END: u64 = 12;
/// When a signal is sent that comes early, and one that is waited for.
const EARLY: u64 = 1;
const LATE: u64 = 7;
/// How long a life may take in which nothing more happens.
const LIFE: Duration = Duration::from_secs(40);
const FAULTS: [Fault; 4] = [Fault::Die, Fault::DieAfter, Fault::Fail, Fault::FailAfter];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    Sleep,
    Until,
    Early,
    Late,
    /// The signal is sent while nobody runs the run.
    Absent,
}

/// In which life the fault is, at which write, and of which kind; 0 is never.
#[derive(Debug, Clone, Copy)]
struct Case {
    scene: Scene,
    life: usize,
    at: usize,
    fault: Fault,
}

impl Scene {
    /// How many writes each life has of a run that is not cut off. Pinned, so that none is left out unseen.
    fn writes(self) -> &'static [usize] {
        match self {
            Self::Sleep | Self::Until => &[4],
            Self::Early | Self::Late => &[5],
            // It is accepted and waits; it is sent its signal; it goes on.
            Self::Absent => &[2, 1, 2],
        }
    }

    fn is_timer(self) -> bool {
        matches!(self, Self::Sleep | Self::Until)
    }

    fn plan<W: World>(self, bench: &Bench<W>) -> ExecutePlan {
        let subject = match self {
            Self::Sleep => Step::sleep("subject", Duration::from_secs(END - BEFORE)),
            Self::Until => Step::sleep_until("subject", bench.at(END)),
            _ => Step::wait_for_signal("subject", "go"),
        };
        ExecutePlan::new([work("before", BEFORE), subject, work("after", 1)]).run_id("a")
    }
}

/// What is left of all lives.
struct Told {
    case: Case,
    writes: Vec<usize>,
    /// When each life began, and how many events there were by then.
    lives: Vec<(SystemTime, usize)>,
    events: Vec<Event>,
    outcome: Vec<Value>,
    acknowledged: usize,
    kept: usize,
    trace: Vec<String>,
    versions: Vec<Vec<u64>>,
}

/// Sends a signal until it is acknowledged, as who is told of an error does, a few times.
async fn send(actors: &Actors, acknowledged: &mut usize) {
    for _ in 0..3 {
        match signal(actors, "a", "go", "payload").await {
            Ok(outcome) => {
                *acknowledged += usize::from(outcome == SignalOutcome::Received);
                return;
            }
            Err(_) => seconds(1).await,
        }
    }
}

async fn live<W: World>(case: Case) -> Told {
    let (bench, scene) = (Bench::<W>::new(), case.scene);
    let (mut writes, mut lives, mut acknowledged) = (Vec::new(), Vec::new(), 0);
    for life in 0..6 {
        let store = bench.store().await;
        lives.push((bench.now(), store.events(0, MAX_PAGE).unwrap().len()));
        let (known, at) =
            (store.run(&run_id("a")).unwrap().is_some(), if case.life == life { case.at } else { 0 });
        let store = FaultyStore::new(store, case.fault, at);
        let count = store.commits();
        let absent = scene == Scene::Absent && life == 1 && known;
        let recover = if absent { Recover::None } else { Recover::All };
        let actors = bench.live_over(store, |orchestrator| orchestrator.recover(recover));
        let plan = scene.plan(&bench);
        // Sent again, or left to itself.
        let run = async {
            if known && life % 2 == 1 && !absent {
                let patience = tokio::time::Instant::now();
                while patience.elapsed() < LIFE {
                    seconds(1).await;
                    let state = status(&actors, "a").await.map(|info| info.state);
                    if state.is_ok_and(RunState::is_final) {
                        break;
                    }
                }
            }
            if absent {
                return std::future::pending().await;
            }
            actors.orchestrator.send(plan).await.unwrap()
        };
        let client = async {
            let sends = match scene {
                Scene::Early => Some(EARLY),
                Scene::Late => Some(LATE),
                // Nobody is there to send it in the first life; who did in the second does not again.
                Scene::Absent => (life > 0).then_some(1),
                Scene::Sleep | Scene::Until => None,
            };
            if let Some(second) = sends.filter(|_| acknowledged == 0) {
                seconds(second).await;
                send(&actors, &mut acknowledged).await;
            }
        };
        let (outcome, ()) =
            tokio::join!(tokio::time::timeout(if absent { LIFE / 4 } else { LIFE }, run), client);
        writes.push(count.load(SeqCst));
        if let Ok(Ok(outcome)) = outcome {
            let events = history(&actors).await;
            let found = actors.memory.send(FindRun::new(run_id("a"), Claim::new())).await.unwrap().unwrap();
            let mut versions = Vec::new();
            for step in ["before", "subject", "after"] {
                let key = format!("task:{step}");
                versions.push(actors.memory.send(ListVersions::new(key)).await.unwrap().unwrap());
            }
            bench.bury(actors).await;
            let (kept, trace) = (found.unwrap().signals.len(), bench.service.trace.all());
            return Told { case, writes, lives, events, outcome, acknowledged, kept, trace, versions };
        }
        bench.bury(actors).await;
        seconds(1).await;
    }
    panic!("{case:?}: the run does not end");
}

impl Told {
    fn check(&self) {
        let shown: String = self
            .events
            .iter()
            .map(|event| {
                format!(
                    "{} {event}\n",
                    event.timestamp().duration_since(self.lives[0].0).unwrap().as_millis()
                )
            })
            .collect();
        let shown = format!("{:?} {:?} {:?}\n{shown}", self.case, self.lives, self.trace);
        let scene = self.case.scene;
        let payload = if scene.is_timer() { Value::Null } else { json!("payload") };
        assert_eq!(self.outcome, [json!("before done"), payload, json!("after done")], "{shown}");
        let of = |what: &str| {
            let of = self.events.iter().enumerate().filter(|(_, event)| event.to_string() == what);
            of.collect::<Vec<_>>()
        };
        for step in ["before", "subject", "after"] {
            assert_eq!(of(&format!("task.completed {step}")).len(), 1, "{shown}");
        }
        assert_eq!(self.versions, vec![vec![1]; 3], "{shown}");
        // What is acknowledged is stored, and one of what is stored is taken.
        let received = of("signal.received");
        if !scene.is_timer() {
            assert!(received.len() >= self.acknowledged.max(1), "{shown}");
            assert_eq!(self.kept, received.len() - 1, "{shown}");
        }
        // The wait is told of once, whatever happens: a restart begins none anew.
        let begins =
            of(if scene.is_timer() { "task.sleeping subject" } else { "task.awaiting_signal subject" });
        assert_eq!(begins.len(), 1, "{shown}");
        let begun = begins[0].1;
        let end = match (begun.kind(), received.first()) {
            (EventKind::TaskSleeping { until, .. }, _) => *until,
            (_, Some((_, received))) => received.timestamp(),
            _ => panic!("{shown}"),
        };
        if scene == Scene::Sleep {
            assert_eq!(end, begun.timestamp() + Duration::from_secs(END - BEFORE), "{shown}");
        }
        let (index, completed) = of("task.completed subject")[0];
        let (life, _) = *self.lives.iter().rfind(|(_, events)| *events <= index).unwrap();
        assert_eq!(completed.timestamp(), end.max(begun.timestamp()).max(life), "{shown}");
        // Each is called once, and once more where that was cut off.
        assert!((2..=3).contains(&self.trace.len()), "{shown}");
        assert!(!self.trace.iter().any(|call| call.contains("subject")), "{shown}");
    }
}

async fn sweep<W: World>(scene: Scene) {
    let never = Case { scene, life: 0, at: 0, fault: Fault::Die };
    let whole = live::<W>(never).await;
    whole.check();
    assert_eq!(whole.writes, scene.writes(), "{:?}", whole.events);
    assert_eq!(whole.trace.len(), 2);
    let (mut repeated, mut resumed) = (0, 0);
    for (life, writes) in scene.writes().iter().enumerate() {
        for at in 1..=*writes {
            for fault in FAULTS {
                let told = live::<W>(Case { scene, life, at, fault }).await;
                told.check();
                assert!(told.writes[life] >= at, "{:?}", told.case);
                repeated += usize::from(told.trace.len() == 3);
                resumed += usize::from(told.lives.len() > whole.lives.len());
            }
        }
    }
    assert!(repeated >= 4 && resumed >= 8, "{repeated} {resumed}");
}

fn sweep_all<W: World>(scene: Scene) {
    let paused = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        // From the very start: timers count whole milliseconds from there.
        runtime.enable_all().start_paused(true).build().unwrap()
    };
    actix::System::with_tokio_rt(paused).block_on(sweep::<W>(scene));
}

macro_rules! scenes {
    ($($name:ident $scene:ident;)*) => {
        mod volatile {
            $(
                #[test]
                fn $name() {
                    super::sweep_all::<crate::recovery::Volatile>(super::Scene::$scene);
                }
            )*
        }

        #[cfg(feature = "sqlite")]
        mod sqlite {
            $(
                #[test]
                fn $name() {
                    super::sweep_all::<crate::recovery::Sqlite>(super::Scene::$scene);
                }
            )*
        }
    };
}

scenes! {
    a_sleep_ends_at_its_time_whatever_write_is_cut_off Sleep;
    a_sleep_until_a_time_ends_then_whatever_write_is_cut_off Until;
    an_early_signal_counts_whatever_write_is_cut_off Early;
    a_signal_that_is_waited_for_counts_whatever_write_is_cut_off Late;
    a_signal_while_nobody_is_there_counts_whatever_write_is_cut_off Absent;
}
