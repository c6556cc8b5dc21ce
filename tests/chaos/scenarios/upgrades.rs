//! Two builds at once on one Redis, as in a rollout.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use super::{LATER, Place, servers};
use crate::builds::other_binary;
use crate::fleet::Fleet;
use crate::stage::{Setup, Stage, Traffic, Verdict};

const WORKERS: usize = 3;
const TRAFFIC: Traffic = Traffic { a_second: 60, length: Duration::from_secs(25) };

/// Under load the workers of one build are replaced by those of another, one by one, and then back.
pub(super) async fn a_rolling_upgrade_and_back(place: Place<'_>) -> Result<Verdict, String> {
    let setup = Setup::new("a_rolling_upgrade_and_back", place.seed);
    // Without a cooldown the limit alone decides who is sent a message, so the sends can be counted.
    let settings = vec![("OTP_RESEND_COOLDOWN_SECONDS", "0".to_owned())];
    let setup = Setup { workers: WORKERS, limit: 3, settings, ..setup };
    let other = other_binary(place.folder)?;
    let stage = Stage::set(setup, place.servers, place.folder).await?;
    let has_rolled = Cell::new(false);
    let roll = async {
        let rolled = roll_there_and_back(&stage, other).await;
        has_rolled.set(true);
        rolled
    };
    let traffic = async {
        stage.traffic(TRAFFIC).await;
        while !has_rolled.get() {
            stage.traffic(Traffic { length: Duration::from_secs(1), ..TRAFFIC }).await;
        }
    };
    let ((), rolled) = tokio::join!(traffic, roll);
    rolled?;
    stage.client.quiet(LATER).await?;
    let libraries = servers::libraries(place).await?;
    let allowed = sends_allowed(&stage);
    let mut verdict = stage.judge().await;
    let report = &verdict.report;
    let (sent, requests, twice) = (report.sent, report.requests, report.twice);
    verdict.expect(sent == allowed, |_| format!("{sent} were sent, the limits allow {allowed}"));
    verdict.expect(allowed < requests, |_| "no request reached the limit".to_owned());
    verdict.expect(twice == 0, |_| format!("{twice} were sent twice, and no worker died"));
    verdict.expect(libraries >= 2, |_| "both builds have one library".to_owned());
    verdict.note = format!("{} replaced, {libraries} libraries", 2 * WORKERS);
    Ok(verdict)
}

async fn roll_there_and_back(stage: &Stage<'_>, other: PathBuf) -> Result<(), String> {
    let own = std::mem::replace(&mut stage.fleet.lock().await.binary, other);
    roll_all(stage).await?;
    stage.fleet.lock().await.binary = own;
    roll_all(stage).await
}

async fn roll_all(stage: &Stage<'_>) -> Result<(), String> {
    for which in 0..WORKERS {
        let retired = stage.fleet.lock().await.retire(which);
        Fleet::stop(retired).await?;
        stage.fleet.lock().await.ready().await?;
    }
    Ok(())
}

/// The sum over all numbers of their requests, none counted beyond the limit. Some requests come with too little time left.
pub(super) fn sends_allowed(stage: &Stage<'_>) -> usize {
    let results = stage.client.results().into_iter();
    let expired = results.filter(|result| result.error.as_deref() == Some("expired"));
    let expired: HashSet<String> = expired.map(|result| result.request).collect();
    let mut requests: HashMap<String, usize> = HashMap::new();
    for request in stage.client.requests().into_iter().filter(|request| !expired.contains(&request.id)) {
        *requests.entry(request.to).or_default() += 1;
    }
    requests.into_values().map(|count| count.min(stage.setup.limit)).sum()
}
