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

/// The function libraries of otpost that Redis has.
pub(super) async fn libraries(place: Place<'_>) -> Result<usize, String> {
    let listed = redis(place, &["FUNCTION", "LIST", "LIBRARYNAME", "otpost_*"]).await?;
    Ok(listed.as_sequence().map_or(0, <[redis::Value]>::len))
}

/// Memory is full and nothing may be evicted.
pub(super) async fn redis_out_of_memory_noeviction(place: Place<'_>) -> Result<Verdict, String> {
    let full = ["CONFIG", "SET", "maxmemory", "1"];
    let roomy = ["CONFIG", "SET", "maxmemory", "0"];
    redis_refuses_writes("redis_out_of_memory_noeviction", place, &full, &roomy).await
}

/// Redis becomes the replica of a server that is not there, and then a primary again.
pub(super) async fn redis_read_only(place: Place<'_>) -> Result<Verdict, String> {
    let replica = ["REPLICAOF", "127.0.0.1", "1"];
    redis_refuses_writes("redis_read_only", place, &replica, &["REPLICAOF", "NO", "ONE"]).await
}

/// Sends wait, those at the provider for their record, and go on once Redis writes again.
async fn redis_refuses_writes(
    name: &'static str,
    place: Place<'_>,
    refuse: &[&str],
    write: &[&str],
) -> Result<Verdict, String> {
    const PART: usize = 50;
    let stage = Stage::set(Setup::new(name, place.seed), place.servers, place.folder).await?;
    stage.ask_often(PART);
    stage.client.answered(PART, SOON).await?;
    stage.ask_often(PART);
    stage.twilio.posted(PART + 1, SOON).await?;
    redis(place, refuse).await?;
    stage.ask_often(PART);
    let refused = async {
        let fleet = stage.fleet.lock().await;
        let refused = || match fleet.said_about("store is unavailable") {
            lines if lines.is_empty() => Err("(no refusal)".to_owned()),
            _ => Ok(()),
        };
        until("a refused write", SOON, refused).await
    };
    let refused = refused.await;
    let ended = stage.client.results().len();
    redis(place, write).await?;
    refused?;
    let mut verdict = stage.judge().await;
    let (sent, twice) = (verdict.report.sent, verdict.report.twice);
    verdict.expect(sent == 3 * PART, |_| format!("{sent} of {} were sent", 3 * PART));
    verdict.expect(twice == 0, |_| format!("{twice} were sent twice"));
    verdict
        .expect(ended <= 2 * PART, |_| format!("{ended} ended, though Redis recorded at most {}", 2 * PART));
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
