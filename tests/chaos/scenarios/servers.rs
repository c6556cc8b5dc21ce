//! Operators' actions on servers while workers run.

use std::time::Duration;

use super::{LATER, Place, SOON};
use crate::stage::{Setup, Stage, Traffic, Verdict};
use crate::wait::{until, until_async};

const TRAFFIC: Traffic = Traffic { a_second: 40, length: Duration::from_secs(3) };

async fn redis(place: Place<'_>, words: &[&str]) -> Result<redis::Value, String> {
    let client = redis::Client::open(format!("redis://{}", place.servers.redis.address));
    let client = client.map_err(|error| error.to_string())?;
    let connection = client.get_multiplexed_async_connection().await;
    let mut connection = connection.map_err(|error| error.to_string())?;
    let (first, rest) = words.split_first().expect("a command");
    let mut command = redis::cmd(first);
    rest.iter().for_each(|word| {
        command.arg(word);
    });
    command.query_async(&mut connection).await.map_err(|error| error.to_string())
}

/// Memory is full and nothing may be evicted: sends wait, and go on once there is room.
pub(super) async fn redis_out_of_memory_noeviction(place: Place<'_>) -> Result<Verdict, String> {
    const SENDS: usize = 100;
    let setup = Setup::new("redis_out_of_memory_noeviction", place.seed);
    let stage = Stage::set(setup, place.servers, place.folder).await?;
    stage.ask_often(SENDS / 2);
    stage.client.answered(SENDS / 2, SOON).await?;
    redis(place, &["CONFIG", "SET", "maxmemory", "1"]).await?;
    stage.ask_often(SENDS / 2);
    let refused = async {
        let fleet = stage.fleet.lock().await;
        let refused = || match fleet.said_about("store call failed") {
            lines if lines.len() >= 10 => Ok(()),
            lines => Err(format!("({} refusals)", lines.len())),
        };
        until("a refusal for want of memory", SOON, refused).await
    };
    let refused = refused.await;
    let ended_meanwhile = stage.client.results().len() - SENDS / 2;
    redis(place, &["CONFIG", "SET", "maxmemory", "0"]).await?;
    refused?;
    let mut verdict = stage.judge().await;
    let sent = verdict.report.sent;
    verdict.expect(sent == SENDS, |_| format!("{sent} of {SENDS} were sent"));
    verdict.expect(ended_meanwhile == 0, |_| format!("{ended_meanwhile} ended without memory to record it"));
    Ok(verdict)
}

/// Redis loses its functions and scripts repeatedly.
pub(super) async fn script_flush(place: Place<'_>) -> Result<Verdict, String> {
    let setup = Setup::new("script_flush", place.seed);
    let stage = Stage::set(setup, place.servers, place.folder).await?;
    let flush = async {
        let mut flushed = 0;
        for nth in 1..=15 {
            // A fifth of a second of traffic lies between two.
            stage.client.answered(nth * 8, SOON).await?;
            redis(place, &["FUNCTION", "FLUSH"]).await?;
            redis(place, &["SCRIPT", "FLUSH"]).await?;
            flushed += 1;
        }
        Ok::<_, String>(flushed)
    };
    let asking = async {
        stage.traffic(TRAFFIC).await;
        // Even at a low rate there are enough requests between the flushes.
        stage.ask_often(120);
    };
    let (flushed, ()) = tokio::join!(flush, asking);
    let flushed = flushed?;
    let mut verdict = stage.judge().await;
    let odd = verdict.report.failed + verdict.report.unknown;
    verdict.expect(odd == 0, |_| format!("{odd} sends were not made"));
    verdict.note = format!("{flushed} flushes");
    Ok(verdict)
}

/// A deleted queue loses its messages, and the workers declare it again.
pub(super) async fn queue_deleted(place: Place<'_>) -> Result<Verdict, String> {
    const SENDS: usize = 50;
    let setup = Setup { workers: 2, ..Setup::new("queue_deleted", place.seed) };
    let stage = Stage::set(setup, place.servers, place.folder).await?;
    for _ in 0..2 {
        stage.ask_often(SENDS);
        // The queue is empty, so the deletion loses no request.
        stage.client.quiet(LATER).await?;
        stage.client.delete_queue("send-sms").await?;
        until_async("the queue", LATER, async || stage.client.queued("send-sms").await.map(drop)).await?;
    }
    stage.ask_often(SENDS);
    let mut verdict = stage.judge().await;
    let sent = verdict.report.sent;
    verdict.expect(sent == 3 * SENDS, |_| format!("{sent} of {} were sent", 3 * SENDS));
    Ok(verdict)
}
