//! Twilio, and another provider that takes over from it.

use std::time::Duration;

use super::Place;
use crate::history::Post;
use crate::plan::{Fault, Step};
use crate::stage::{Setup, Stage, Traffic, Verdict};
use crate::twilio::Mood;
use crate::wait::now_ms;

const DIES_AFTER: Duration = Duration::from_secs(10);
const DEAD_FOR: Duration = Duration::from_secs(40);
/// After its return: a probe within half a minute and a quarter, then its share grows.
const RETURNED_FOR: Duration = Duration::from_secs(70);
/// Of a thousand requests that were sent.
const UNKNOWN_MAX: usize = 5;

/// Twilio answers nothing and makes half of the messages, while workers are killed: the other provider takes over, and Twilio gets its
/// messages back.
pub(super) async fn a_provider_that_dies_and_returns(place: Place<'_>) -> Result<Verdict, String> {
    let settings = vec![("DOUBT_FAILOVER_AFTER_SECONDS", "10".to_owned())];
    let setup = Setup::new("a_provider_that_dies_and_returns", place.seed);
    let setup = Setup { workers: 3, two_providers: true, settings, ..setup };
    let stage = Stage::set(setup, place.servers, place.folder).await?;
    let dead = Fault::Provider("dead", Mood::DEAD, DEAD_FOR);
    let kill = |seconds, which| Step {
        at: DIES_AFTER + Duration::from_secs(seconds),
        fault: Fault::KillWorker(which),
    };
    let steps = vec![Step { at: DIES_AFTER, fault: dead }, kill(8, 0), kill(20, 1)];
    let began = now_ms();
    let length = DIES_AFTER + DEAD_FOR + RETURNED_FOR;
    tokio::join!(stage.traffic(Traffic { a_second: 30, length }), stage.suffer(steps));
    let posts = stage.posts();
    let mut verdict = stage.judge().await;
    let at = |provider: &str, from: Duration, to: Duration| {
        let span = began + ms(from)..began + ms(to);
        posts.iter().filter(|post: &&Post| post.provider == provider && span.contains(&post.at)).count()
    };
    // Five lost answers in a row open the circuit breaker of each worker.
    let dead = at("own", DIES_AFTER + Duration::from_secs(10), DIES_AFTER + DEAD_FOR);
    let end = length - Duration::from_secs(10);
    let (returned, left) = (at("twilio", end, length), at("own", end, length));
    verdict
        .expect(dead > 300, |_| format!("while Twilio was dead the other provider got only {dead} messages"));
    verdict.expect(returned > 9 * left, |_| {
        format!("in the end Twilio got {returned}, the other provider {left}")
    });
    verdict.expect(verdict.report.unknown * 1_000 <= UNKNOWN_MAX * verdict.report.sent, |report| {
        format!("{} requests ended as unknown", report.unknown)
    });
    let at_two = verdict.report.at_two;
    verdict.expect(at_two > 0, |_| "no request in doubt went to the other provider".to_owned());
    verdict.note =
        format!("{dead} POSTs at the other provider while Twilio was dead, {at_two} requests at both");
    Ok(verdict)
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).expect("a short time")
}
