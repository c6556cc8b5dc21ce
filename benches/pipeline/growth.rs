//! The cost of a message while much is stored or much is waiting: it should be the same.

use crate::Args;
use crate::redis_server::{Mode, RedisServer};
use crate::report::{print_stored, print_waiting};
use crate::run::{self, Load};
use crate::store_steps::{Steps, Work};

const UNDER_WAY: usize = 32;
const LEVELS: [usize; 3] = [1_000, 100_000, 1_000_000];

pub async fn run(args: &Args) -> anyhow::Result<()> {
    let mut stored = Vec::new();
    if let Some(redis) = RedisServer::start(&Mode::Plain)? {
        let steps = Steps::connect(&redis, UNDER_WAY).await?;
        let mut sent = 0;
        for level in LEVELS {
            steps.run(Work::Meter, sent..level.max(sent)).await?;
            sent = level.max(sent);
            let before = redis.account().await?;
            steps.run(Work::Meter, sent..sent + args.messages).await?;
            let cost = redis.account().await?.since(&before, args.messages);
            eprintln!("{level} requests stored: {:.1} µs CPU of Redis", cost.cpu_us);
            stored.push((sent, cost));
            sent += args.messages;
        }
    }
    print_stored(&stored);
    let mut waiting = Vec::new();
    for level in LEVELS {
        let measured = run::run(args, Load::Meter, level).await?;
        eprintln!("{level} requests waiting: {:.1} µs CPU", measured.cpu_us);
        waiting.push((level, measured));
    }
    print_waiting(&waiting);
    Ok(())
}
