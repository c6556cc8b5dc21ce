//! A provider that does not answer, and the kill switch.

use std::process::Output;
use std::time::Duration;

use otpost::domain::time::UnixMillis;
use tokio::time::sleep;

use super::Place;
use crate::plan::{Fault, Link, Step};
use crate::proxy::Way;
use crate::stage::{Setup, Stage, Traffic, Verdict};
use crate::wait::now_ms;

/// The provider accepts connections and answers nothing for a while.
pub(super) async fn a_silent_twilio_for_two_minutes(place: Place<'_>) -> Result<Verdict, String> {
    let setup = Setup { workers: 2, ..Setup::new("a_silent_twilio_for_two_minutes", place.seed) };
    let stage = Stage::set(setup, place.servers, place.folder).await?;
    let silence = Fault::Network(Link::Twilio, Way::Black, Duration::from_secs(120));
    let steps = vec![Step { at: Duration::from_secs(5), fault: silence }];
    let traffic = Traffic { a_second: 5, length: Duration::from_secs(135) };
    tokio::join!(stage.traffic(traffic), stage.suffer(steps));
    let verdict = stage.judge().await;
    Ok(verdict)
}

/// Three workers under load: the last POST comes within a second after Redis has the switch, and sending resumes when it is switched off.
pub(super) async fn kill_switch(place: Place<'_>) -> Result<Verdict, String> {
    let setup = Setup { workers: 3, ..Setup::new("kill_switch", place.seed) };
    let stage = Stage::set(setup, place.servers, place.folder).await?;
    let switch = async |word| stage.fleet.lock().await.run(&["kill-switch", word, "--json"]);
    let mut commanded = 0;
    let mut began = 0;
    let mut lifted = 0;
    let switch_off_and_on = async {
        sleep(Duration::from_secs(5)).await;
        commanded = now_ms();
        let on = switch("on").await;
        sleep(Duration::from_secs(6)).await;
        // The start of a process takes its time on a busy machine. Redis' clock is this machine's.
        began = switched_on_at(&switch("status").await)?;
        lifted = now_ms();
        let off = switch("off").await;
        match on.status.success() && off.status.success() {
            true => Ok(()),
            false => Err(format!("kill-switch: {}", String::from_utf8_lossy(&on.stderr))),
        }
    };
    let traffic = Traffic { a_second: 50, length: Duration::from_secs(13) };
    let ((), switched) = tokio::join!(stage.traffic(traffic), switch_off_and_on);
    switched?;
    let posts = stage.twilio.posts();
    let mut verdict = stage.judge().await;
    let late = posts.iter().map(|post| post.at).filter(|at| (began..lifted).contains(at)).max();
    let last = late.map_or(0, |at| at - began);
    verdict.expect(last < 1_000, |_| format!("the last POST came {last} ms after Redis had the switch"));
    let after = posts.iter().filter(|post| post.at >= lifted).count();
    verdict.expect(after > 0, |_| "nothing was sent after the switch was off".to_owned());
    let command = began - commanded;
    verdict.note = format!("last POST {last} ms after Redis had the switch, {command} ms after the command");
    Ok(verdict)
}

/// The time that `otpost kill-switch status` shows.
fn switched_on_at(status: &Output) -> Result<u64, String> {
    let shown: serde_json::Value =
        serde_json::from_slice(&status.stdout).map_err(|error| error.to_string())?;
    let since = shown[0]["since"].as_str().and_then(UnixMillis::parse_rfc3339);
    since.map(|since| since.0).ok_or_else(|| format!("kill-switch status: {shown}"))
}
