//! A provider of e-mails that takes every connection and never answers.

use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use super::{LATER, Place};
use crate::stage::{Setup, Stage, Traffic, Verdict};

const ROUNDS: usize = 3;
/// Text messages at a steady pace, whose time to the result is told, and as many at once, of which the time for all is.
const MESSAGES: usize = 2_000;
const A_SECOND: u32 = 200;

/// What a round took, in milliseconds.
struct Took {
    p99: u64,
    all_at_once: u64,
}

/// 4,000 text messages, with and without e-mails beside them that hang. This one measures, and judges nothing by it: the
/// machine may have other things to do.
pub(super) async fn hanging_emails_do_not_slow_text_messages(place: Place<'_>) -> Result<Verdict, String> {
    let names = [
        ["emails_without_1", "emails_without_2", "emails_without_3"],
        ["emails_hang_1", "emails_hang_2", "emails_hang_3"],
    ];
    let mut took = [Vec::new(), Vec::new()];
    let mut last = None;
    for round in 0..ROUNDS {
        for (side, names) in names.iter().enumerate() {
            let (verdict, round_took) = measured(names[round], place, side == 1).await?;
            took[side].push(round_took);
            if !verdict.holds() {
                return Ok(verdict);
            }
            last = Some(verdict);
        }
    }
    let median = |of: fn(&Took) -> u64| {
        took.each_ref().map(|side| {
            let mut all: Vec<u64> = side.iter().map(of).collect();
            all.sort_unstable();
            all[ROUNDS / 2]
        })
    };
    let ratio = |[without, with]: [u64; 2]| with as f64 / without.max(1) as f64;
    let (p99, all) = (median(|took| took.p99), median(|took| took.all_at_once));
    let mut verdict = last.expect("there was a round");
    verdict.name = "hanging_emails_do_not_slow_text_messages";
    verdict.note = format!(
        "p99 {} ms without, {} ms beside hanging e-mails: ratio {:.2}; {MESSAGES} at once in {} and {} ms: ratio {:.2}",
        p99[0],
        p99[1],
        ratio(p99),
        all[0],
        all[1],
        ratio(all)
    );
    Ok(verdict)
}

async fn measured(name: &'static str, place: Place<'_>, hanging: bool) -> Result<(Verdict, Took), String> {
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|error| error.to_string())?;
    let port = silent.local_addr().map_err(|error| error.to_string())?.port();
    let taking = tokio::spawn(async move {
        let mut taken = Vec::new();
        while let Ok((connection, _)) = silent.accept().await {
            taken.push(connection);
        }
    });
    let settings = vec![
        ("SENDGRID_API_KEY", "SG.hang".to_owned()),
        ("EMAIL_FROM", "codes@shop.example".to_owned()),
        ("SENDGRID_API_BASE_URL", format!("http://127.0.0.1:{port}")),
    ];
    let setup = Setup { limit: 1_000, settings, ..Setup::new(name, place.seed) };
    let stage = Stage::set(setup, place.servers, place.folder).await?;
    let beside = |count| {
        if hanging {
            stage.ask_by_email(count)
        }
    };
    // More than a worker holds of them, and more than it gets through.
    beside(200);
    let second = Traffic { a_second: A_SECOND, length: Duration::from_secs(1) };
    for _ in 0..MESSAGES / A_SECOND as usize {
        beside(40);
        stage.traffic(second).await;
    }
    stage.client.quiet(LATER).await?;
    let mut latencies = stage.client.latencies_ms();
    latencies.sort_unstable();
    let p99 = latencies[latencies.len() * 99 / 100];
    let began = Instant::now();
    stage.ask_often(MESSAGES);
    stage.client.quiet(LATER).await?;
    let all_at_once = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let verdict = stage.judge().await;
    taking.abort();
    Ok((verdict, Took { p99, all_at_once }))
}
