//! Runs plans from an actor of the application's own, which also listens to their events.
//!
//! `cargo run --example inside_an_actor`

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use actix::prelude::*;
use lunacore::{
    Engine, Event, ExecutePlan, ExecutionOrchestrator, Flush, PlanError, Step, StepContext, StepError,
    Subscribe,
};
use serde_json::{Value, json};

/// Makes reports, and keeps a diary of the events it has heard.
struct ReportDesk {
    orchestrator: Addr<ExecutionOrchestrator>,
    diary: Vec<String>,
}

impl Actor for ReportDesk {
    type Context = Context<Self>;
}

/// Asks for the report of a month.
#[derive(Message)]
#[rtype(result = "Result<Vec<Value>, PlanError>")]
struct MakeReport {
    month: &'static str,
}

fn count(ctx: StepContext) -> Result<usize, StepError> {
    Ok(ctx.input::<String>()?.len())
}

fn title(ctx: StepContext) -> Result<String, StepError> {
    let letters: usize = ctx.output("count")?;
    Ok(format!("{} has {letters} letters", ctx.input::<String>()?))
}

impl Handler<MakeReport> for ReportDesk {
    /// The answer comes later: meanwhile the desk goes on with its other messages.
    type Result = ResponseFuture<Result<Vec<Value>, PlanError>>;

    fn handle(&mut self, MakeReport { month }: MakeReport, _: &mut Self::Context) -> Self::Result {
        let steps = [Step::new("count", count), Step::new("title", title)];
        let steps = steps.map(|step| step.input(json!(month)));
        // The month names the run, so a second request for the same month is refused.
        let plan = ExecutePlan::new(steps).run_id(month);
        // Sent here and not in the future, so that plans queue in the order of our own messages.
        let answer = self.orchestrator.send(plan);
        Box::pin(async move { answer.await.unwrap_or(Err(PlanError::Stopped)) })
    }
}

/// `Event` is a message: an actor that handles it can subscribe.
impl Handler<Event> for ReportDesk {
    type Result = ();

    fn handle(&mut self, event: Event, _: &mut Self::Context) {
        let run = event.run_id().map_or("no run", |run_id| run_id.as_str());
        self.diary.push(format!("{run}: {event}"));
    }
}

/// Asks what the desk has heard so far.
#[derive(Message)]
#[rtype(result = "Vec<String>")]
struct ReadDiary;

impl Handler<ReadDiary> for ReportDesk {
    type Result = MessageResult<ReadDiary>;

    fn handle(&mut self, _: ReadDiary, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.diary.clone())
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let engine = Engine::builder().start()?;
    let desk = ReportDesk { orchestrator: engine.orchestrator().clone(), diary: Vec::new() }.start();
    engine.bus().send(Subscribe::new("*.completed", desk.clone())).await??;

    // Two requests at once: the desk takes both, and the orchestrator runs one plan after the other.
    let (june, july) =
        tokio::join!(desk.send(MakeReport { month: "June" }), desk.send(MakeReport { month: "July 2026" }));
    let (june, july) = (june??, july??);
    println!("{}\n{}", Value::from(june.clone()), Value::from(july.clone()));
    assert_eq!(june, [json!(4), json!("June has 4 letters")]);
    assert_eq!(july, [json!(9), json!("July 2026 has 9 letters")]);

    // Events arrive a little later than answers; after a flush the desk has handled all of them.
    engine.bus().send(Flush::default()).await??;
    let diary = desk.send(ReadDiary).await?;
    println!("{}", diary.join("\n"));
    let of = |run: &str| {
        ["task.completed count", "task.completed title", "plan.completed"].map(|e| format!("{run}: {e}"))
    };
    assert_eq!(diary, [of("June"), of("July 2026")].concat());
    Ok(())
}
