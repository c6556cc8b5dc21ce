//! The cost of each step in Redis: a round drives the store and the bare loop's scripts in turn, each against a server of its own.

use anyhow::Context;

use crate::Args;
use crate::redis_server::{Cost, Mode, RedisServer};
use crate::report::Rounds;
use crate::store_steps::{Steps, Work};

/// The first messages load the library and make the first tables; they are not measured.
const WARM_UP: usize = 1_000;
/// About as many as a busy worker has.
const UNDER_WAY: usize = 32;
/// For the bytes of the append-only file, which hardly differ from message to message.
const MESSAGES_TO_FILE: usize = 4_000;

/// `None`: there is no redis-server to start.
pub async fn run(args: &Args) -> anyhow::Result<Option<Rounds<Work, Cost>>> {
    let mut rounds = Rounds::default();
    for round in 0..args.pairs {
        let mut sends = [Work::Bare, Work::Meter, Work::Full];
        // Alternately first, so that a machine that slows down over time favours none.
        sends.rotate_left(round % 3);
        let mut costs = Vec::new();
        for send in sends {
            let Some(measured) = measure(args, send).await.with_context(|| format!("{send:?}"))? else {
                return Ok(None);
            };
            costs.extend(measured);
        }
        for (work, cost) in &costs {
            eprintln!("round {} {:<24} {:5.1} µs CPU of Redis", round + 1, work.title(), cost.cpu_us);
        }
        rounds.add(costs);
    }
    Ok(Some(rounds))
}

/// Sends messages, and does to them what follows a send.
async fn measure(args: &Args, send: Work) -> anyhow::Result<Option<Vec<(Work, Cost)>>> {
    let Some(redis) = RedisServer::start(&Mode::Plain)? else { return Ok(None) };
    let steps = Steps::connect(&redis, UNDER_WAY).await?;
    let aof_bytes = appended(send).await?;
    let mut costs = vec![(send, Cost { aof_bytes, ..cost(args, &redis, &steps, send).await? })];
    if send == Work::Meter {
        for work in Work::AFTER_A_SEND {
            costs.push((work, cost(args, &redis, &steps, work).await?));
        }
    }
    Ok(Some(costs))
}

async fn cost(args: &Args, redis: &RedisServer, steps: &Steps, work: Work) -> anyhow::Result<Cost> {
    steps.run(work, 0..WARM_UP).await?;
    let before = redis.account().await?;
    steps.run(work, WARM_UP..WARM_UP + args.messages).await?;
    Ok(redis.account().await?.since(&before, args.messages))
}

/// Bytes that a message adds to the append-only file.
async fn appended(send: Work) -> anyhow::Result<f64> {
    let Some(redis) = RedisServer::start(&Mode::AppendOnly)? else { return Ok(0.0) };
    let steps = Steps::connect(&redis, UNDER_WAY).await?;
    steps.run(send, 0..WARM_UP).await?;
    let before = redis.account().await?;
    steps.run(send, WARM_UP..WARM_UP + MESSAGES_TO_FILE).await?;
    Ok(redis.account().await?.since(&before, MESSAGES_TO_FILE).aof_bytes)
}
