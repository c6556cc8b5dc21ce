//! A provider that says nothing, and an operator who forbids to ask it.

use std::time::Duration;

use super::{Came, Place, SOON};
use crate::plan::{Fault, Link, Step};
use crate::proxy::Way;
use crate::stage::{Setup, Stage, Traffic};

/// Connections open and nothing comes back, for as long as most codes live in a person's mind.
pub(super) async fn a_silent_twilio_for_two_minutes(place: Place<'_>) -> Result<Came, String> {
    let setup = Setup { workers: 2, ..Setup::new("a_silent_twilio_for_two_minutes", place.seed) };
    let stage = Stage::set(setup, place.servers, place.folder).await?;
    let silence = Fault::Network(Link::Twilio, Way::Black, Duration::from_secs(120));
    let steps = vec![Step { at: Duration::from_secs(5), fault: silence }];
    let traffic = Traffic { a_second: 5, length: Duration::from_secs(135) };
    tokio::join!(stage.traffic(traffic), stage.suffer(steps));
    let verdict = stage.judge().await;
    Ok(Came::out(verdict))
}

/// While the switch is on nothing is sent; afterwards everything is as before.
pub(super) async fn kill_switch(place: Place<'_>) -> Result<Came, String> {
    const SENDS: usize = 20;
    let setup = Setup::new("kill_switch", place.seed);
    let stage = Stage::set(setup, place.servers, place.folder).await?;
    let switch = async |word| stage.fleet.lock().await.run(&["kill-switch", word]);
    // An unknown command is wrong usage, which is told from a refusal by its exit code.
    if switch("status").await.status.code() == Some(2) {
        return Ok(Came::Skipped("this version of otpost has no kill-switch command"));
    }
    stage.ask_often(SENDS);
    stage.client.answered(SENDS, SOON).await?;
    let on = switch("on").await;
    if !on.status.success() {
        return Err(format!("kill-switch on: {}", String::from_utf8_lossy(&on.stderr)));
    }
    let before = stage.twilio.posts().len();
    stage.ask_often(SENDS);
    // They are answered, or they wait: either way nobody is asked to send them.
    let _ = stage.client.answered(2 * SENDS, Duration::from_secs(8)).await;
    let meanwhile = stage.twilio.posts().len() - before;
    switch("off").await;
    stage.client.quiet(SOON).await?;
    let ended = stage.client.results().len();
    stage.ask_often(SENDS);
    let mut verdict = stage.judge().await;
    verdict.expect(meanwhile == 0, |_| format!("{meanwhile} POSTs while the switch was on"));
    let sent = verdict.report.sent;
    verdict
        .expect(sent >= 2 * SENDS, |_| format!("{sent} were sent, fewer than before and after the switch"));
    verdict.note = format!("{ended} results by the time it was off again");
    Ok(Came::out(verdict))
}
