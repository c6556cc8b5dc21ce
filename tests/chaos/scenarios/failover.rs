//! A failover of Redis under load: three workers, one API, and a client that measures the losses.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use super::upgrades::sends_allowed;
use super::{LATER, Place};
use crate::checks::{Checks, Seen};
use crate::redis_nodes::Node;
use crate::stage::{Setup, Stage, Traffic, Verdict, has_own_number};
use crate::wait::now_ms;

const TRAFFIC: Traffic = Traffic { a_second: 50, length: Duration::from_secs(1) };
/// Messages before the fault, and after it.
const BEFORE: usize = 300;
const AFTER: usize = 300;
/// A failover takes seconds; a worker then waits for the end of its backoff.
const RECOVERS_WITHIN: Duration = Duration::from_secs(120);
/// The interval of the writes that show what is lost.
const PROBE_EVERY: Duration = Duration::from_millis(1);

/// A gateway on some nodes of Redis.
pub(super) struct Failover<'a> {
    pub name: &'static str,
    pub url: String,
    /// All servers that the gateway may connect to.
    pub nodes: Vec<&'a Node>,
    /// A planned failover loses no write.
    pub planned: bool,
}

impl Failover<'_> {
    /// The key of the probe, in the slot of the gateway's keys.
    pub fn probe_key(name: &str) -> String {
        format!("{{{}}}-probe", prefix(name))
    }

    /// `fault` begins at once, and ends with the server that has taken over. `mend` brings the old one back.
    pub async fn run<'n>(
        &self,
        place: Place<'_>,
        old: &Node,
        fault: impl AsyncFnOnce() -> Result<&'n Node, String>,
        mend: impl AsyncFnOnce() -> Result<(), String>,
    ) -> Result<Verdict, String> {
        let stage = Stage::set(self.setup(place.seed), place.servers, place.folder).await?;
        let checks = Checks::start(&*stage.fleet.lock().await).await?;
        let probe = Probe { key: Failover::probe_key(self.name), acknowledged: RefCell::default() };
        let has_ended = Cell::new(false);
        let traffic = async {
            while !has_ended.get() {
                stage.traffic(TRAFFIC).await;
            }
        };
        let story = async {
            let measured = self.measure(&stage, &probe, fault, mend).await;
            let seen = checks.end();
            has_ended.set(true);
            measured.map(|measured| (measured, seen))
        };
        let checking = checks.run(&stage.twilio, has_own_number);
        let (measured, (), (), ()) = tokio::join!(story, traffic, checking, probe.run(old));
        let (measured, seen) = measured?;
        stage.client.quiet(LATER).await?;
        let allowed = sends_allowed(&stage);
        let mut verdict = stage.judge().await;
        self.judge(&mut verdict, &measured, &seen, allowed);
        Ok(verdict)
    }

    fn setup(&self, seed: u64) -> Setup {
        // Without a cooldown the limit alone decides who is sent a message, so the sends can be counted.
        let settings = vec![("REDIS_URL", self.url.clone()), ("OTP_RESEND_COOLDOWN_SECONDS", "0".to_owned())];
        let setup = Setup::new(self.name, seed);
        Setup { workers: 3, limit: 3, settings, silent_doubt: !self.planned, ..setup }
    }

    async fn measure<'n>(
        &self,
        stage: &Stage<'_>,
        probe: &Probe,
        fault: impl AsyncFnOnce() -> Result<&'n Node, String>,
        mend: impl AsyncFnOnce() -> Result<(), String>,
    ) -> Result<Measured, String> {
        stage.twilio.posted(BEFORE, RECOVERS_WITHIN).await?;
        let opened = connections(&self.nodes).await;
        let began = now_ms();
        let new = fault().await?;
        let took = now_ms() - began;
        let posted = stage.twilio.posts().len();
        stage.twilio.posted(posted + AFTER, RECOVERS_WITHIN).await?;
        let lost_ages = probe.lost_ages(new, began).await?;
        let connections = opened_since(&self.nodes, &opened).await;
        mend().await?;
        let posted = stage.twilio.posts().len();
        stage.twilio.posted(posted + AFTER, RECOVERS_WITHIN).await?;
        let recovered = recovered(stage.twilio.posts().iter().map(|post| post.at), began);
        Ok(Measured { began, took, recovered, connections, lost_ages })
    }

    fn judge(&self, verdict: &mut Verdict, measured: &Measured, seen: &Seen, allowed: usize) {
        let (sent, requests, twice) = (verdict.report.sent, verdict.report.requests, verdict.report.twice);
        verdict.expect(allowed < requests, |_| "no request reached the limit".to_owned());
        for wrong in &seen.wrong {
            verdict.expect(false, |_| wrong.clone());
        }
        verdict.expect(seen.verified > BEFORE, |_| format!("only {} codes were verified", seen.verified));
        if self.planned {
            verdict.expect(sent == allowed, |_| format!("{sent} were sent, the limits allow {allowed}"));
            verdict.expect(twice == 0, |_| format!("{twice} were sent twice"));
            verdict.expect(measured.lost_ages.is_empty(), |_| "the planned failover lost writes".to_owned());
            verdict.expect(seen.lost.is_empty(), |_| format!("{:?}", seen.lost));
        }
        // What is lost was written before the fault, and not long before.
        let oldest = measured.lost_ages.first().copied().unwrap_or(0) + 100;
        for (what, at) in &seen.lost {
            let age = measured.began.saturating_sub(*at);
            let explained = *at <= measured.began + 100 && age <= oldest;
            verdict.expect(explained, |_| format!("{what}, written {age} ms before the fault"));
        }
        verdict.note = format!(
            "recovered in {:.1} s (the failover took {:.1} s), {} connections opened, {} of the probe's writes lost \
             (the oldest {} ms before), {sent} sent and {allowed} allowed, {} codes verified, {} lost, {} answers 503 \
             until {:.1} s",
            seconds(measured.recovered),
            seconds(measured.took),
            measured.connections,
            measured.lost_ages.len(),
            measured.lost_ages.first().copied().unwrap_or(0),
            seen.verified,
            seen.lost.len(),
            seen.unavailable,
            seconds(seen.unavailable_at.saturating_sub(measured.began)),
        );
        println!("{}: {}", self.name, verdict.note);
    }
}

/// Times in ms.
struct Measured {
    began: u64,
    took: u64,
    recovered: u64,
    connections: u64,
    lost_ages: Vec<u64>,
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

/// The names of a stage's keys begin with this.
pub(super) fn prefix(name: &str) -> String {
    format!("chaos-{}", name.replace('_', "-"))
}

/// The longest pause in which nothing was sent ends this long after the fault.
fn recovered(posts: impl Iterator<Item = u64>, began: u64) -> u64 {
    let mut times: Vec<u64> = posts.filter(|at| *at >= began).collect();
    times.sort_unstable();
    let from = std::iter::once(began).chain(times.iter().copied());
    let pauses = from.zip(times.iter().copied()).map(|(from, to)| (to - from, to));
    pauses.max().map_or(0, |(_, to)| to - began)
}

/// Writes one after the other, each with its time, until the server refuses or does not answer.
struct Probe {
    key: String,
    /// When each was acknowledged (ms since 1970).
    acknowledged: RefCell<Vec<u64>>,
}

impl Probe {
    async fn run(&self, primary: &Node) {
        while primary.ask::<usize>(&["RPUSH", &self.key, "x"]).await.is_ok() {
            self.acknowledged.borrow_mut().push(now_ms());
            tokio::time::sleep(PROBE_EVERY).await;
        }
    }

    /// The ages of the acknowledged writes that the new server lacks, from the oldest on.
    async fn lost_ages(&self, new: &Node, began: u64) -> Result<Vec<u64>, String> {
        let kept: usize = new.ask(&["LLEN", &self.key]).await?;
        let acknowledged = self.acknowledged.borrow();
        let lost = acknowledged.get(kept..).unwrap_or_default();
        Ok(lost.iter().map(|at| began.saturating_sub(*at)).collect())
    }
}

/// The connections that each server has accepted; `None` where it does not answer.
async fn connections(nodes: &[&Node]) -> Vec<Option<u64>> {
    let accepted = async |node: &Node| {
        let count = node.info("stats", "total_connections_received").await.ok()?;
        count.parse().ok()
    };
    futures_util::future::join_all(nodes.iter().map(|node| accepted(node))).await
}

/// A restarted server begins with none, so it counts from there.
async fn opened_since(nodes: &[&Node], before: &[Option<u64>]) -> u64 {
    let now = connections(nodes).await;
    let opened = now.into_iter().zip(before).map(|(now, before)| match (now, *before) {
        (Some(now), Some(before)) if now >= before => now - before,
        (now, _) => now.unwrap_or(0),
    });
    opened.sum()
}
