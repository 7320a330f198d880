//! A plan as data flows through it: each step is given what those before it returned, and one runs only if it has to.
//!
//! `cargo run --example data_flow --features expressions`

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::error::Error;

use lunacore::{Engine, ExecutePlan, Plan, PlanInput, RegistryAllocator, Step, StepContext};
use serde::Deserialize;
use serde_json::{Value, json};

/// Where something can be bought, and for how much.
#[derive(Deserialize)]
struct Order {
    shop: String,
    articles: Vec<String>,
    pay: f64,
}

/// The steps name their callables, so the whole plan is data: it can be stored, compared and resumed.
fn plan() -> Plan {
    Plan::new([
        Step::named("offers").with(json!({ "article": "${{ inputs.article }}" })),
        Step::named("best").uses("cheapest").with("${{ steps.offers.output }}"),
        Step::named("approve")
            .uses("ask")
            .with("May ${{ steps.best.output.shop }} have ${{ steps.best.output.price }}?")
            .when("steps.best.output.price > inputs.limit"),
        Step::named("order").with(json!({
            "shop": "${{ steps.best.output.shop | upper }}",
            "articles": ["${{ inputs.article }}", "a $${{ bill }}"],
            "pay": "${{ steps.best.output.price * inputs.pieces }}",
        })),
    ])
    .name("buy")
    .declare("article", PlanInput::string())
    .declare("pieces", PlanInput::integer().default(2))
    .declare("limit", PlanInput::number().default(10.0))
}

fn callables() -> RegistryAllocator {
    let offers = |ctx: StepContext| {
        let article = ctx.input::<Value>()?["article"].clone();
        Ok::<_, lunacore::StepError>(json!([
            { "shop": "corner", "article": article, "price": 9.5 },
            { "shop": "harbour", "article": article, "price": 7.25 },
        ]))
    };
    let cheapest = |ctx: StepContext| {
        let offers: Vec<Value> = ctx.input()?;
        let price = |offer: &&Value| offer["price"].as_f64().unwrap_or(f64::MAX);
        let best = offers.iter().min_by(|a, b| price(a).total_cmp(&price(b)));
        best.cloned().ok_or_else(|| lunacore::StepError::fatal("nobody sells it"))
    };
    let ask = |ctx: StepContext| ctx.input::<String>().map(|question| format!("{question} Yes."));
    let order = |ctx: StepContext| {
        let Order { shop, articles, pay } = ctx.input()?;
        Ok::<_, lunacore::StepError>(format!("{shop}: {} for {pay}", articles.join(" and ")))
    };
    RegistryAllocator::new()
        .register("offers", offers)
        .register("cheapest", cheapest)
        .register("ask", ask)
        .register("order", order)
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let engine = Engine::builder().allocator(callables()).start()?;
    for limit in [10.0, 5.0] {
        let run = ExecutePlan::new(plan()).input("article", "tea").input("limit", limit);
        println!("with a limit of {limit}:");
        for (step, result) in plan().steps().iter().zip(engine.execute(run).await?) {
            println!("  {:8} {result}", step.id().unwrap_or_default());
        }
    }

    // What names something that is not there is refused before anything runs, with all that is wrong.
    let wrong =
        Plan::new([Step::named("a").with("${{ inputs.artikle }}").when("steps.b.output"), Step::named("b")])
            .declare("article", PlanInput::any());
    println!("what is wrong with another plan:");
    for problem in wrong.problems() {
        println!("  {problem}: {}", problem.source().map(ToString::to_string).unwrap_or_default());
    }
    Ok(())
}
