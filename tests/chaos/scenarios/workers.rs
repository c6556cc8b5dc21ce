//! Workers that are killed or stopped at the worst moment.

use std::time::{Duration, Instant};

use super::{LATER, Place, SOON};
use crate::plan::Link;
use crate::proxy::Way;
use crate::stage::{Setup, Stage, Traffic, Verdict};
use crate::twilio::Mood;
use crate::wait::{until, until_async};

/// A send in doubt is looked up at the provider, found, and reported as sent. Without lookups it ends as `unknown`.
const EXPECT_LOOKUP: bool = true;

fn lookup_is_expected() -> bool {
    EXPECT_LOOKUP || std::env::var("CHAOS_EXPECT_LOOKUP").is_ok_and(|value| value == "1")
}

/// The worst moment for a crash: Twilio has accepted, its answer has come, and Redis has no record of it.
pub(super) async fn a_worker_killed_between_the_answer_and_the_record(
    place: Place<'_>,
) -> Result<Verdict, String> {
    let name = "a_worker_killed_between_the_answer_and_the_record";
    let setup = Setup { silent_doubt: true, ..Setup::new(name, place.seed) };
    let stage = Stage::set(setup, place.servers, place.folder).await?;
    stage.twilio.hold(true);
    stage.ask();
    stage.twilio.posted(1, SOON).await?;
    let redis = stage.proxy(Link::Redis);
    redis.set(Way::Black);
    stage.twilio.hold(false);
    // From here on, only writes after the answer reach Redis.
    let recording = || if redis.swallowed() > 0 { Ok(()) } else { Err(String::new()) };
    until("the record of an answer", SOON, recording).await?;
    stage.fleet.lock().await.kill_all();
    redis.set(Way::Open);
    stage.fleet.lock().await.add();
    stage.client.answered(1, LATER).await?;
    stage.client.quiet(LATER).await?;
    let lookups = stage.twilio.lookups();
    let mut verdict = stage.judge().await;
    verdict.expect(verdict.report.accepted == 1, |report| format!("{} messages, not one", report.accepted));
    let (sent, unknown) = (verdict.report.sent, verdict.report.unknown);
    verdict.expect(sent + unknown == 1, |_| "it ended neither as sent nor as unknown".to_owned());
    if lookup_is_expected() {
        verdict.expect(sent == 1, |_| "it was not looked up: it ended as unknown".to_owned());
    }
    let end = if sent == 1 { "sent" } else { "unknown" };
    verdict.note = format!("ended as {end} after {lookups} lookups");
    Ok(verdict)
}

/// Every send waits for its next attempt when the worker is stopped.
pub(super) async fn drain_with_sends_in_backoff(place: Place<'_>) -> Result<Verdict, String> {
    const SENDS: usize = 40;
    let setup = Setup::new("drain_with_sends_in_backoff", place.seed);
    let stage = Stage::set(setup, place.servers, place.folder).await?;
    stage.twilio.set(Mood { retry_after: 6, ..Mood::THROTTLING });
    stage.ask_often(SENDS);
    stage.twilio.posted(SENDS, SOON).await?;
    // It ends within its grace, or this is an error.
    stage.fleet.lock().await.stop_all().await?;
    stage.twilio.set(Mood::CALM);
    stage.fleet.lock().await.add();
    let mut verdict = stage.judge().await;
    let report = &verdict.report;
    let all = report.sent == SENDS && report.accepted == SENDS;
    verdict
        .expect(all, |report| format!("{} of {SENDS} were sent, {} messages", report.sent, report.accepted));
    Ok(verdict)
}

/// 2,000 requests, with and without unreadable messages among them. The scenario measures without a
/// threshold, because the machine may be busy.
pub(super) async fn poison_does_not_slow_neighbours(place: Place<'_>) -> Result<Verdict, String> {
    const ROUNDS: usize = 3;
    let names = [
        ["poison_without_1", "poison_without_2", "poison_without_3"],
        ["poison_with_1", "poison_with_2", "poison_with_3"],
    ];
    let mut p99 = [Vec::new(), Vec::new()];
    let mut last = None;
    for round in 0..ROUNDS {
        for (side, names) in names.iter().enumerate() {
            let setup = Setup { limit: 1_000, ..Setup::new(names[round], place.seed) };
            let (verdict, round_p99) = measured(setup, place, side == 1).await?;
            p99[side].push(round_p99);
            if !verdict.holds() {
                return Ok(verdict);
            }
            last = Some(verdict);
        }
    }
    let [without, with] = p99.map(|mut all| {
        all.sort_unstable();
        all[ROUNDS / 2]
    });
    let ratio = with.div_duration_f64(without);
    let mut verdict = last.expect("there was a round");
    verdict.name = "poison_does_not_slow_neighbours";
    verdict.note = format!("p99 {without:.2?} without, {with:.2?} with 1 % poison: ratio {ratio:.2}");
    Ok(verdict)
}

async fn measured(setup: Setup, place: Place<'_>, poisoned: bool) -> Result<(Verdict, Duration), String> {
    const REQUESTS: usize = 2_000;
    const POISON_A_SECOND: usize = 2;
    let stage = Stage::set(setup, place.servers, place.folder).await?;
    let second = Traffic { a_second: 200, length: Duration::from_secs(1) };
    let began = Instant::now();
    // One stage and one connection for all; the pace is that of the traffic.
    for _ in 0..REQUESTS / 200 {
        if poisoned {
            stage.poison(POISON_A_SECOND);
        }
        stage.traffic(second).await;
    }
    stage.client.quiet(LATER).await?;
    let poison = if poisoned { REQUESTS / 200 * POISON_A_SECOND } else { 0 };
    let dead_lettered = async || match stage.client.queued("dead-letters").await? {
        count if count as usize >= poison => Ok(()),
        count => Err(format!("({count} of {poison})")),
    };
    until_async("the dead letters", SOON, dead_lettered).await?;
    let p99 = stage.client.p99(began);
    Ok((stage.judge().await, p99))
}
