//! The instructions that Redis runs for a message, by callgrind: free of the machine's noise.
//!
//! Each work is done for N and for 3 N messages, against servers that differ in nothing else; the difference is what a message
//! costs once all is warm. Instructions of the kernel are not in it.

use std::path::Path;

use anyhow::Context;

use crate::redis_server::{Mode, RedisServer};
use crate::store_steps::{Steps, Work};

/// Few, as Redis is some fifty times slower under callgrind, and the client waits a second for an answer.
const UNDER_WAY: usize = 4;

/// Thousands of instructions a message; `None`: valgrind or redis-server is not there.
pub async fn count(work: Work, messages: usize, keep: Option<&Path>) -> anyhow::Result<Option<f64>> {
    let name = format!("otpost-bench-{:08x}", getrandom::u32().context("no random numbers")?);
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir(&folder)?;
    let counted = async {
        let few = total(work, messages, 3 * messages, &folder.join("few")).await?;
        let many = total(work, 3 * messages, 3 * messages, &folder.join("many")).await?;
        Ok(few.zip(many).map(|(few, many)| (many - few) / (2 * messages) as f64 / 1e3))
    };
    let counted = counted.await;
    if let (Some(kept), Ok(Some(_))) = (keep, &counted) {
        for name in ["few", "many"] {
            std::fs::copy(folder.join(name), kept.join(format!("{}-{name}", work.key())))?;
        }
    }
    std::fs::remove_dir_all(&folder)?;
    counted
}

/// All instructions of a server in which the work was done for so many messages.
async fn total(work: Work, count: usize, sent: usize, file: &Path) -> anyhow::Result<Option<f64>> {
    let Some(redis) = RedisServer::start(&Mode::Counted(file))? else { return Ok(None) };
    let steps = Steps::connect(&redis, UNDER_WAY).await?;
    if Work::AFTER_A_SEND.contains(&work) {
        steps.run(Work::Meter, 0..sent).await?;
    }
    steps.run(work, 0..count).await?;
    redis.shut_down().await?;
    let report = std::fs::read_to_string(file).context("callgrind wrote no file")?;
    let total = report.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(Some(total.context("callgrind counted nothing")?.trim().parse()?))
}
