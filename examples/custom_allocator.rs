//! Injects shared clients into steps: an allocator of our own picks one by a step's attribute.
//!
//! Results are stored, so they must be data. What is alive (a connection, a cache, an open file) stays in the
//! allocator, behind an `Arc`, and steps borrow it from there.
//!
//! `cargo run --example custom_allocator`

#![allow(clippy::print_stdout, reason = "an example prints what it shows")]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use actix::prelude::*;
use lunacore::{AllocatorError, Callable, ContextError, Engine, PlanError, Resolve, Step, StepContext};
use serde_json::{Value, json};

/// Stands for a client with a connection: it has no JSON form and could not be the result of a step.
struct PriceBook {
    cents_per_item: u64,
    questions: AtomicUsize,
}

impl PriceBook {
    async fn price(&self, items: u64) -> u64 {
        self.questions.fetch_add(1, Relaxed);
        items * self.cents_per_item
    }
}

/// The allocator: it owns the clients and hands out callables that share them.
struct Markets(BTreeMap<&'static str, Arc<PriceBook>>);

impl Markets {
    fn find(&self, step: &Step) -> Result<Callable, AllocatorError> {
        // Steps that bring their own code need nothing from us.
        if let Some(own) = step.callable() {
            return Ok(own.clone());
        }
        let market = step.get_attr("market").and_then(Value::as_str);
        let market = market.ok_or_else(|| AllocatorError::other("the attribute \"market\" is missing"))?;
        let book = self.0.get(market).cloned();
        let book = book.ok_or_else(|| AllocatorError::other(format!("there is no market {market:?}")))?;
        Ok(Callable::new(move |ctx: StepContext| {
            let book = Arc::clone(&book);
            async move { Ok::<_, ContextError>(book.price(ctx.input()?).await) }
        }))
    }
}

impl Actor for Markets {
    type Context = Context<Self>;
}

impl Handler<Resolve> for Markets {
    type Result = <Resolve as Message>::Result;

    /// Called once for each plan, before any of it runs.
    fn handle(&mut self, resolve: Resolve, _: &mut Self::Context) -> Self::Result {
        resolve.each(|step| self.find(step))
    }
}

/// Asks how often each client was used.
#[derive(Message)]
#[rtype(result = "BTreeMap<&'static str, usize>")]
struct Uses;

impl Handler<Uses> for Markets {
    type Result = MessageResult<Uses>;

    fn handle(&mut self, _: Uses, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.0.iter().map(|(name, book)| (*name, book.questions.load(Relaxed))).collect())
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let open = |cents_per_item| Arc::new(PriceBook { cents_per_item, questions: AtomicUsize::new(0) });
    // Started here rather than by the engine, so that we can send it messages of our own.
    let markets = Markets(BTreeMap::from([("berlin", open(120)), ("tokyo", open(95))])).start();
    let engine = Engine::builder().running_allocator(markets.clone()).start()?;

    // These steps have no code of their own: what they do is up to the allocator.
    let price = |id: &str, market: &str, items: u64| {
        Step::named(id).attr("market", json!(market)).input(json!(items))
    };
    let total = Step::new("total", |ctx: StepContext| -> Result<u64, ContextError> {
        ["tea", "bread", "rice"].into_iter().map(|id| ctx.output::<u64>(id)).sum()
    });
    let plan = [price("tea", "tokyo", 10), price("bread", "berlin", 2), price("rice", "tokyo", 4), total];
    let prices = engine.execute(plan).await?;
    println!("prices in cents: {}", Value::from(prices.clone()));
    assert_eq!(prices, [950, 240, 380, 1570]);

    // A plan that names an unknown market is refused before any of it runs, so "tokyo" is not asked again.
    let refused = engine.execute([price("tea", "tokyo", 1), price("cheese", "paris", 1)]).await;
    let Err(PlanError::Unresolved(error)) = refused else { return Err("there is no market in Paris".into()) };
    println!("refused: {error}: {}", error.source);
    assert_eq!(error.index, 1);

    let uses = markets.send(Uses).await?;
    println!("uses: {uses:?}");
    assert_eq!(uses, BTreeMap::from([("berlin", 1), ("tokyo", 2)]));
    Ok(())
}
