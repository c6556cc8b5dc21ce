//! A provider of e-mails that takes every connection and never answers.

use std::array;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use tokio::net::TcpListener;
use tokio::time::interval;

use super::{LATER, Place};
use crate::stage::{Setup, Stage, Traffic, Verdict};

const ROUNDS: usize = 3;
/// Text messages, with the time to each result; then as many at once, with the time for all of them.
const STEADY: Traffic = Traffic { a_second: 200, length: Duration::from_secs(15) };
const AT_ONCE: usize = 4_000;
/// E-mails before all that, more than a worker holds of them, while traffic that is not measured warms everything up; and
/// then one after each pause.
const WAITING: usize = 200;
const WARM_UP: Traffic = Traffic { a_second: 200, length: Duration::from_secs(3) };
const PAUSE: Duration = Duration::from_millis(25);

/// The load beside the text messages.
#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    /// E-mails, which are taken at once.
    Taken,
    /// E-mails, of which none is answered.
    Hanging,
}

const SIDES: [Beside; 3] = [Beside::Nothing, Beside::Taken, Beside::Hanging];

/// The times of a round.
#[derive(Clone, Copy)]
struct Took {
    p99: Duration,
    at_once: Duration,
}

/// Text messages alone, beside e-mails that are taken, and beside ones that hang. The scenario measures without
/// a threshold, because the machine may be busy.
pub(super) async fn hanging_emails_do_not_slow_text_messages(place: Place<'_>) -> Result<Verdict, String> {
    let names = [
        ["emails_none_1", "emails_taken_1", "emails_hang_1"],
        ["emails_none_2", "emails_taken_2", "emails_hang_2"],
        ["emails_none_3", "emails_taken_3", "emails_hang_3"],
    ];
    let mut rounds = Vec::with_capacity(ROUNDS);
    let mut last = None;
    for names in names {
        let mut took = [None; SIDES.len()];
        for ((name, beside), took) in names.into_iter().zip(SIDES).zip(&mut took) {
            let (verdict, round_took) = measured(name, place, beside).await?;
            if !verdict.holds() {
                return Ok(verdict);
            }
            *took = Some(round_took);
            last = Some(verdict);
        }
        rounds.push(took.map(|took| took.expect("each side was measured")));
    }
    let mut verdict = last.expect("there was a round");
    verdict.name = "hanging_emails_do_not_slow_text_messages";
    let compared = |what: &str, of: fn(&Took) -> Duration| {
        let [nothing, taken, hanging]: [Duration; SIDES.len()] = array::from_fn(|side| {
            let mut all: Vec<Duration> = rounds.iter().map(|round| of(&round[side])).collect();
            all.sort_unstable();
            all[ROUNDS / 2]
        });
        format!(
            "{what} {nothing:.2?} alone, {taken:.2?} beside e-mails, {hanging:.2?} beside hanging ones: \
             ratios {:.2} and {:.2}",
            hanging.div_duration_f64(nothing),
            hanging.div_duration_f64(taken),
        )
    };
    let (p99, at_once) = (compared("p99", |took| took.p99), compared("at once", |took| took.at_once));
    verdict.note = format!("{p99}; {AT_ONCE} {at_once}");
    Ok(verdict)
}

async fn measured(name: &'static str, place: Place<'_>, beside: Beside) -> Result<(Verdict, Took), String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|error| error.to_string())?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let provider = tokio::spawn(async move {
        let taking = Router::new().fallback(async || (StatusCode::ACCEPTED, [("x-message-id", "taken")]));
        let answering = match beside {
            Beside::Hanging => Router::new().fallback(std::future::pending::<StatusCode>),
            Beside::Nothing | Beside::Taken => taking,
        };
        axum::serve(listener, answering).await
    });
    let settings = vec![
        ("SENDGRID_API_KEY", "SG.hang".to_owned()),
        ("EMAIL_FROM", "codes@shop.example".to_owned()),
        ("SENDGRID_API_BASE_URL", format!("http://127.0.0.1:{port}")),
    ];
    let setup = Setup { limit: 1_000, settings, ..Setup::new(name, place.seed) };
    let stage = Stage::set(setup, place.servers, place.folder).await?;
    let emails = async {
        if matches!(beside, Beside::Nothing) {
            return std::future::pending().await;
        }
        stage.ask_by_email(WAITING);
        let mut pace = interval(PAUSE);
        loop {
            pace.tick().await;
            stage.ask_by_email(1);
        }
    };
    let texts = async {
        stage.traffic(WARM_UP).await;
        let began = Instant::now();
        stage.traffic(STEADY).await;
        began
    };
    let steady_began = tokio::select! {
        began = texts => began,
        () = emails => unreachable!("e-mails have no end"),
    };
    stage.client.quiet(LATER).await?;
    let p99 = stage.client.p99(steady_began);
    let began = Instant::now();
    stage.ask_often(AT_ONCE);
    stage.client.quiet(LATER).await?;
    let at_once = began.elapsed();
    let verdict = stage.judge().await;
    provider.abort();
    Ok((verdict, Took { p99, at_once }))
}
