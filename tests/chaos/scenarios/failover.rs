//! A failover of Redis under load: three workers, one API, and a client that measures the losses.

use std::cell::RefCell;
use std::time::Duration;

use super::upgrades::sends_allowed;
use super::{LATER, Place};
use crate::checks::{Checks, Seen};
use crate::history::Post;
use crate::redis_nodes::Node;
use crate::stage::{Setup, Stage, Traffic, Verdict, has_own_number};
use crate::wait::now_ms;

/// It is cut off when all has been measured.
const TRAFFIC: Traffic = Traffic { a_second: 50, length: Duration::from_secs(600) };
/// Messages before the fault, and after it.
const BEFORE: usize = 300;
const AFTER: usize = 300;
const VERIFIED_MIN: usize = 100;
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
    pub loses: Loses,
    pub shards: u16,
}

/// The acknowledged writes that a failover may lose.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Loses {
    Nothing,
    /// Those that had not reached a replica when the server failed.
    TheLastBefore,
    /// Those that the old server took until the gateway left it.
    UntilItIsLeft,
}

impl Loses {
    /// May a write of this time be lost? A busy machine delays what the client sees.
    fn covers(self, at: u64, began: u64) -> bool {
        let span = match self {
            Loses::Nothing => return false,
            Loses::TheLastBefore => -500..=100,
            Loses::UntilItIsLeft => -500..=4_000,
        };
        span.contains(&after(at, began))
    }
}

/// Milliseconds after the fault.
fn after(at: u64, began: u64) -> i64 {
    i64::try_from(at).unwrap_or(0) - i64::try_from(began).unwrap_or(0)
}

/// One of the messages to which a broken rule applies was admitted by a write that may be lost. A redelivery of such a request has no
/// record, and a limit does not count it.
fn is_explained(broken: &str, posts: &[Post], is_lost: impl Fn(u64) -> bool) -> bool {
    let is_of = |post: &Post, word: &str| post.to == word || post.request.as_deref() == Some(word);
    let is_lost_of = |word: &str| posts.iter().any(|post| is_of(post, word) && is_lost(post.at));
    broken.split_whitespace().any(is_lost_of)
}

impl Failover<'_> {
    /// The key of the probe, in the slot of the gateway's keys.
    pub fn probe_key(name: &str) -> String {
        format!("{{{}}}-probe", prefix(name))
    }

    /// `fault` begins at once, and ends with the server that has taken over. `mend` brings the old
    /// one back, and ends with the server that serves then.
    pub async fn run<'n>(
        &self,
        place: Place<'_>,
        old: &Node,
        fault: impl AsyncFnOnce() -> Result<&'n Node, String>,
        mend: impl AsyncFnOnce() -> Result<&'n Node, String>,
    ) -> Result<Verdict, String> {
        let stage = Stage::set(self.setup(place.seed), place.servers, place.folder).await?;
        let checks = Checks::start(&*stage.fleet.lock().await).await?;
        let probe = Probe { key: Failover::probe_key(self.name), acknowledged: RefCell::default() };
        let story = async {
            let measured = self.measure(&stage, &probe, fault, mend).await;
            measured.map(|measured| (measured, checks.end()))
        };
        let load = futures_util::future::join(stage.traffic(TRAFFIC), probe.run(old));
        let under_load = async {
            let measured = tokio::select! {
                measured = story => measured,
                _ = load => Err("the story took too long".to_owned()),
            };
            checks.end();
            measured
        };
        let (measured, ()) = tokio::join!(under_load, checks.run(&stage.twilio, has_own_number));
        let (measured, seen) = measured?;
        stage.client.quiet(LATER).await?;
        let (allowed, posts) = (sends_allowed(&stage), stage.twilio.posts());
        let mut verdict = stage.judge().await;
        self.judge(&mut verdict, &measured, &seen, allowed);
        if self.loses != Loses::Nothing {
            let is_lost = |at: u64| self.loses.covers(at, measured.began);
            let broken = verdict.report.broken.iter();
            verdict.explained = broken.filter(|broken| is_explained(broken, &posts, is_lost)).count();
        }
        Ok(verdict)
    }

    fn setup(&self, seed: u64) -> Setup {
        // Without a cooldown the limit alone decides who is sent a message, so the sends can be counted.
        let settings = vec![
            ("REDIS_URL", self.url.clone()),
            ("REDIS_SHARDS", self.shards.to_string()),
            ("OTP_RESEND_COOLDOWN_SECONDS", "0".to_owned()),
        ];
        let setup = Setup::new(self.name, seed);
        Setup { workers: 3, limit: 3, settings, silent_doubt: self.loses != Loses::Nothing, ..setup }
    }

    async fn measure<'n>(
        &self,
        stage: &Stage<'_>,
        probe: &Probe,
        fault: impl AsyncFnOnce() -> Result<&'n Node, String>,
        mend: impl AsyncFnOnce() -> Result<&'n Node, String>,
    ) -> Result<Measured, String> {
        stage.twilio.posted(BEFORE, RECOVERS_WITHIN).await?;
        let opened = connections(&self.nodes).await;
        let began = now_ms();
        fault().await?;
        let took = now_ms() - began;
        let posted = stage.twilio.posts().len();
        stage.twilio.posted(posted + AFTER, RECOVERS_WITHIN).await?;
        let posts: Vec<u64> = stage.twilio.posts().iter().map(|post| post.at).collect();
        let (paused, recovered) = longest_pause(&posts, began);
        let connections = opened_since(&self.nodes, &opened).await;
        let mending = now_ms();
        let new = mend().await?;
        let posted = stage.twilio.posts().len();
        stage.twilio.posted(posted + AFTER, RECOVERS_WITHIN).await?;
        let posts: Vec<u64> = stage.twilio.posts().iter().map(|post| post.at).collect();
        let (paused_back, _) = longest_pause(&posts, mending);
        // By now the old server has given up what the new one lacks.
        let lost = probe.lost(new).await?;
        Ok(Measured { began, took, paused, recovered, paused_back, connections, lost })
    }

    fn judge(&self, verdict: &mut Verdict, measured: &Measured, seen: &Seen, allowed: usize) {
        let (sent, requests, twice) = (verdict.report.sent, verdict.report.requests, verdict.report.twice);
        verdict.expect(allowed < requests, |_| "no request reached the limit".to_owned());
        for wrong in &seen.wrong {
            verdict.expect(false, |_| wrong.clone());
        }
        verdict
            .expect(seen.verified > VERIFIED_MIN, |_| format!("only {} codes were verified", seen.verified));
        if self.loses == Loses::Nothing {
            verdict.expect(sent == allowed, |_| format!("{sent} were sent, the limits allow {allowed}"));
            verdict.expect(twice == 0, |_| format!("{twice} were sent twice"));
            verdict.expect(measured.lost.is_empty(), |_| "a write of the probe was lost".to_owned());
            verdict.expect(seen.lost.is_empty(), |_| format!("{:?}", seen.lost));
        }
        for (what, at) in &seen.lost {
            let is_covered = self.loses.covers(*at, measured.began);
            verdict.expect(is_covered, |_| format!("{what}, written at {} ms", after(*at, measured.began)));
        }
        let span = |times: &mut dyn Iterator<Item = u64>| {
            let times: Vec<i64> = times.map(|at| after(at, measured.began)).collect();
            match (times.iter().min(), times.iter().max()) {
                (Some(from), Some(to)) => format!("{} (at {from} to {to} ms)", times.len()),
                _ => "0".to_owned(),
            }
        };
        verdict.note = format!(
            "nothing sent for {:.1} s, from {:.1} s on (failover: {:.1} s, back: nothing for {:.1} s); {} connections; lost writes: {} of the \
             probe, {} of checks; {sent} sent, {allowed} allowed; {} codes verified; {} times 503, the last at {:.1} s",
            seconds(measured.paused),
            seconds(measured.recovered.saturating_sub(measured.paused)),
            seconds(measured.took),
            seconds(measured.paused_back),
            measured.connections,
            span(&mut measured.lost.iter().copied()),
            span(&mut seen.lost.iter().map(|(_, at)| *at)),
            seen.verified,
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
    /// The longest time without a message, and its end after the fault.
    paused: u64,
    recovered: u64,
    /// The longest time without a message while the old server came back.
    paused_back: u64,
    connections: u64,
    /// When the lost writes of the probe were acknowledged.
    lost: Vec<u64>,
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

/// The names of a stage's keys begin with this.
pub(super) fn prefix(name: &str) -> String {
    format!("chaos-{}", name.replace('_', "-"))
}

/// The longest time without a message, and its end after the fault.
pub(super) fn longest_pause(posts: &[u64], began: u64) -> (u64, u64) {
    let mut times: Vec<u64> = posts.iter().copied().filter(|at| *at >= began).collect();
    times.sort_unstable();
    let from = std::iter::once(began).chain(times.iter().copied());
    let pauses = from.zip(times.iter().copied()).map(|(from, to)| (to - from, to - began));
    pauses.max().unwrap_or_default()
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

    /// When those writes were acknowledged that the new server lacks.
    async fn lost(&self, new: &Node) -> Result<Vec<u64>, String> {
        let kept: usize = new.ask(&["LLEN", &self.key]).await?;
        Ok(self.acknowledged.borrow().get(kept..).unwrap_or_default().to_vec())
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
