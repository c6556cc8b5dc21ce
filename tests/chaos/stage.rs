//! One gateway on its own names: servers behind proxies, a provider, workers, and a service that asks for codes.
//!
//! A stage is set up, gets traffic and faults, becomes idle, and is judged by its history.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex as StdMutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

use super::client::{Client, EMAIL, Publication, SMS};
use super::fleet::{Fleet, Links};
use super::plan::{Fault, Link, Step};
use super::proxy::{Proxy, Way};
use super::servers::Servers;
use super::twilio::{Mood, Twilio};
use crate::history::{History, Limit, Post, Report, Request, check};
use crate::wait::now_ms;

/// Every request has a result within this time after the last fault.
const QUIET_WITHIN: Duration = Duration::from_secs(180);
const HOUR_MS: u64 = 3_600_000;
/// A send that is not recorded this long after its POST belongs to another handler: twice the provider timeout.
const SEND_MS: u64 = 10_000;

/// The parts of a stage.
#[derive(Clone)]
pub struct Setup {
    pub name: &'static str,
    pub seed: u64,
    pub workers: usize,
    /// Sends to a number.
    pub limit: usize,
    pub code_life_minutes: u64,
    /// More settings of the workers.
    pub settings: Vec<(&'static str, String)>,
    /// Nodes of RabbitMQ in place of the one that all scenarios share; `AMQP_URL` is then in the settings.
    pub brokers: Vec<SocketAddr>,
    /// Any POST may have left its sender in doubt. Otherwise only a POST close to a fault may.
    pub silent_doubt: bool,
    /// Another provider takes over from Twilio.
    pub two_providers: bool,
}

impl Setup {
    pub fn new(name: &'static str, seed: u64) -> Setup {
        let settings = Vec::new();
        let (brokers, silent_doubt, two_providers) = (Vec::new(), false, false);
        let (workers, limit, code_life_minutes) = (1, 5, 10);
        Setup {
            name,
            seed,
            workers,
            limit,
            code_life_minutes,
            settings,
            brokers,
            silent_doubt,
            two_providers,
        }
    }
}

/// A gateway with its servers, provider, client and workers.
pub struct Stage<'a> {
    pub setup: Setup,
    pub servers: &'a Servers,
    pub twilio: Twilio,
    pub other: Option<Twilio>,
    pub client: Client,
    pub fleet: Mutex<Fleet>,
    rabbit: Proxy,
    redis: Proxy,
    provider: Proxy,
    /// Allows one fault at a time on each link.
    lanes: [Mutex<()>; 3],
    mood: Mutex<()>,
    issued: AtomicUsize,
    emails: AtomicUsize,
    faults: StdMutex<Vec<String>>,
    /// The spans of faults that can leave an unrecorded send in doubt.
    doubts: StdMutex<Vec<(u64, u64)>>,
}

/// The requests of a stage and their rate.
#[derive(Clone, Copy)]
pub struct Traffic {
    pub a_second: u32,
    pub length: Duration,
}

impl<'a> Stage<'a> {
    /// Starts all parts, and waits until they work.
    pub async fn set(setup: Setup, servers: &'a Servers, folder: &Path) -> Result<Stage<'a>, String> {
        let prefix = format!("chaos-{}", setup.name.replace('_', "-"));
        let twilio = Twilio::start(&format!("{prefix}-"), setup.seed).await;
        let other = match setup.two_providers {
            true => Some(Twilio::other(&format!("{prefix}-"), setup.seed ^ 1).await),
            false => None,
        };
        let (rabbit, redis, provider) = tokio::join!(
            Proxy::start(servers.rabbit.address),
            Proxy::start(servers.redis.address),
            Proxy::start(twilio.address),
        );
        let links = Links {
            rabbit: rabbit.address,
            redis: redis.address,
            twilio: provider.address,
            other: other.as_ref().map(|other| other.address),
        };
        let mut settings = setup.settings.clone();
        settings.push(("SMS_RATE_LIMIT_PER_NUMBER", setup.limit.to_string()));
        settings.push(("OTP_EXPIRATION_MINUTES", setup.code_life_minutes.to_string()));
        let folder: PathBuf = folder.join(setup.name);
        let mut fleet = Fleet::new(&prefix, &folder, links, &settings);
        let declared = fleet.run(&["topology"]);
        if !declared.status.success() {
            return Err(String::from_utf8_lossy(&declared.stderr).into_owned());
        }
        let brokers = match setup.brokers.as_slice() {
            [] => vec![servers.rabbit.address],
            nodes => nodes.to_vec(),
        };
        let client = Client::start(brokers, &prefix).await?;
        (0..setup.workers).for_each(|_| fleet.add());
        fleet.ready().await?;
        Ok(Stage {
            setup,
            servers,
            twilio,
            other,
            client,
            fleet: Mutex::new(fleet),
            rabbit,
            redis,
            provider,
            lanes: Default::default(),
            mood: Mutex::default(),
            issued: AtomicUsize::new(0),
            emails: AtomicUsize::new(0),
            faults: StdMutex::default(),
            doubts: StdMutex::default(),
        })
    }

    pub fn proxy(&self, link: Link) -> &Proxy {
        match link {
            Link::Rabbit => &self.rabbit,
            Link::Redis => &self.redis,
            Link::Twilio => &self.provider,
        }
    }

    /// Records an error that no history shows.
    pub fn fault(&self, fault: String) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    fn check(&self, what: Result<(), String>) {
        if let Err(fault) = what {
            self.fault(fault);
        }
    }

    /// A request for a number that no other request uses.
    pub fn ask(&self) {
        let nth = self.issued.fetch_add(1, Ordering::Relaxed);
        self.client.publish(self.publication(nth, &number(1_000 + nth), None));
    }

    pub fn ask_often(&self, count: usize) {
        (0..count).for_each(|_| self.ask());
    }

    /// The `nth` request. The name in the greeting identifies it at the provider.
    fn publication(&self, nth: usize, to: &str, not_after: Option<u64>) -> Publication {
        let (name, now) = (name(nth), now_ms());
        let id = format!("chaos-{}-{name}", self.setup.name.replace('_', "-"));
        let life_end = now + self.setup.code_life_minutes * 60_000;
        let mut body = json!({"request_id": id, "to": to, "user_name": name, "requested_at": rfc3339(now)});
        if let Some(not_after) = not_after {
            body["not_after"] = rfc3339(not_after).into();
        }
        let deadline = not_after.map_or(life_end, |not_after| not_after.min(life_end));
        let request = Request { id, to: to.to_owned(), deadline, confirmed: false };
        Publication { request: Some(request), key: SMS, body: body.to_string().into_bytes() }
    }

    /// Requests at a steady rate: most to a number of their own, some to a shared one, some with a short deadline, some twice.
    pub async fn traffic(&self, traffic: Traffic) {
        let mut rng = fastrand::Rng::with_seed(self.setup.seed ^ 0x7261_6666);
        let (began, pause) = (Instant::now(), Duration::from_secs(1) / traffic.a_second);
        let mut next = began;
        while began.elapsed() < traffic.length {
            let nth = self.issued.fetch_add(1, Ordering::Relaxed);
            let (lot, shared) = (rng.u8(..100), rng.usize(..SHARED_NUMBERS));
            let to = if lot < 5 { number(shared) } else { number(1_000 + nth) };
            let in_a_hurry = (lot >= 95).then(|| now_ms() + rng.u64(25_000..60_000));
            let publication = self.publication(nth, &to, in_a_hurry);
            if (5..8).contains(&lot) {
                self.client.publish(Publication {
                    request: publication.request.clone(),
                    key: SMS,
                    body: publication.body.clone(),
                });
            }
            self.client.publish(publication);
            next += pause;
            sleep_until(next).await;
        }
    }

    /// Publishes bodies without a readable request.
    pub fn poison(&self, count: usize) {
        for nth in 0..count {
            let body =
                [&b"{\"request_id\": 7"[..], b"\xff\xfe\x00", b"[]", b"{\"to\":\"+573001234567\"}"][nth % 4];
            self.client.publish(Publication { request: None, key: SMS, body: body.to_vec() });
        }
    }

    /// Requests for e-mails, each to an address of its own.
    pub fn ask_by_email(&self, count: usize) {
        for _ in 0..count {
            let nth = self.emails.fetch_add(1, Ordering::Relaxed);
            let body =
                json!({"request_id": format!("email-{nth}"), "to": format!("person-{nth}@mail.example")});
            self.client.publish(Publication {
                request: None,
                key: EMAIL,
                body: body.to_string().into_bytes(),
            });
        }
    }

    /// Causes the faults of a plan, and waits until each has ended.
    pub async fn suffer(&self, steps: Vec<Step>) {
        let began = Instant::now();
        let step = |step: Step| async move {
            sleep_until(began + step.at).await;
            let (from, doubtful) = (now_ms(), step.fault.leaves_silent_doubt());
            self.happen(step.fault).await;
            if doubtful {
                self.doubts.lock().unwrap_or_else(PoisonError::into_inner).push((from, now_ms()));
            }
        };
        futures_util::future::join_all(steps.into_iter().map(step)).await;
    }

    async fn happen(&self, fault: Fault) {
        match fault {
            Fault::KillWorker(which) => self.fleet.lock().await.replace_killed(which),
            Fault::RollWorker(which) => {
                let retired = self.fleet.lock().await.retire(which);
                self.check(Fleet::stop(retired).await);
            }
            Fault::Restart(kind, end, down) => self.check(self.servers.get(kind).restart(end, down).await),
            Fault::Freeze(kind, span) => self.servers.get(kind).freeze(span).await,
            Fault::Cut(link) => self.proxy(link).cut(),
            Fault::Network(link, way, span) => {
                let _lane = self.lanes[link as usize].lock().await;
                self.proxy(link).set(way);
                tokio::time::sleep(span).await;
                self.proxy(link).set(Way::Open);
            }
            Fault::Provider(_, mood, span) => {
                let _mood = self.mood.lock().await;
                self.twilio.set(mood);
                tokio::time::sleep(span).await;
                self.twilio.set(Mood::UNEASY);
            }
        }
    }

    /// Of every provider.
    pub fn set_mood(&self, mood: Mood) {
        [Some(&self.twilio), self.other.as_ref()]
            .into_iter()
            .flatten()
            .for_each(|provider| provider.set(mood));
    }

    /// Every POST at every provider so far.
    pub fn posts(&self) -> Vec<Post> {
        let others = self.other.as_ref().map(Twilio::posts).unwrap_or_default();
        self.twilio.posts().into_iter().chain(others).collect()
    }

    /// Ends all faults.
    pub fn heal(&self) {
        for link in [Link::Rabbit, Link::Redis, Link::Twilio] {
            self.proxy(link).set(Way::Open);
        }
        self.set_mood(Mood::CALM);
        self.twilio.hold(false);
    }

    /// Ends all faults, waits for all results, stops the workers, and checks the history.
    pub async fn judge(self) -> Verdict {
        self.heal();
        self.check(self.client.quiet(QUIET_WITHIN).await);
        self.wind_down().await;
        let fleet = self.fleet.lock().await;
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone();
        faults.extend(fleet.faults.iter().cloned());
        let history = self.history();
        let report = check(&history);
        let traces = traces(&report, &history, &fleet);
        Verdict { name: self.setup.name, report, faults, traces, explained: 0, note: String::new() }
    }

    /// All results came, but an acknowledgement may have been lost: queued requests are processed once more.
    async fn wind_down(&self) {
        let mut fleet = self.fleet.lock().await;
        self.check(fleet.stop_all().await);
        for _ in 0..3 {
            let queued = self.client.queued(SMS).await;
            if queued == Ok(0) {
                return;
            }
            fleet.add();
            self.check(fleet.ready().await);
            self.check(self.client.drained(Duration::from_secs(30)).await);
            self.check(fleet.stop_all().await);
        }
        self.fault("the request queue does not get empty".to_owned());
    }

    pub fn history(&self) -> History {
        let posts = self.posts().into_iter();
        let doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        let near = |at: u64| doubts.iter().any(|(from, to)| at + SEND_MS >= *from && at <= *to);
        let in_doubt = |post: &Post| post.in_doubt || self.setup.silent_doubt || near(post.at);
        let doubtful = |post: Post| Post { in_doubt: in_doubt(&post), ..post };
        History {
            requests: self.client.requests(),
            results: self.client.results(),
            posts: posts.map(doubtful).collect(),
            limit: Some(Limit { count: self.setup.limit, window: HOUR_MS }),
        }
    }
}

/// The result of a stage.
pub struct Verdict {
    pub name: &'static str,
    pub report: Report,
    /// Faults of the stage itself.
    pub faults: Vec<String>,
    /// The workers' log lines about requests that broke a rule.
    pub traces: Vec<String>,
    /// Broken rules that the scenario explains and allows.
    pub explained: usize,
    /// Further figures.
    pub note: String,
}

impl Verdict {
    pub fn holds(&self) -> bool {
        let rules_hold = self.report.holds() || self.report.broken.len() == self.explained;
        rules_hold && self.faults.is_empty()
    }

    /// A rule of the scenario's own.
    pub fn expect(&mut self, holds: bool, what: impl FnOnce(&Report) -> String) {
        if !holds {
            self.faults.push(what(&self.report));
        }
    }
}

/// All facts about the first few violations.
fn traces(report: &Report, history: &History, fleet: &Fleet) -> Vec<String> {
    let mut traces = Vec::new();
    for broken in report.broken.iter().take(5) {
        traces.push(broken.clone());
        let Some(id) = broken.split_whitespace().find(|word| word.starts_with("chaos-")) else { continue };
        traces.extend(history.requests.iter().filter(|one| one.id == id).map(|one| format!("    {one:?}")));
        let posts = history.posts.iter().filter(|post| post.request.as_deref() == Some(id));
        traces.extend(posts.map(|post| format!("    {post:?}")));
        traces
            .extend(history.results.iter().filter(|one| one.request == id).map(|one| format!("    {one:?}")));
        traces.extend(fleet.said_about(id).into_iter().map(|line| format!("    {line}")));
    }
    traces
}

/// The numbers of [`Stage::traffic`] that many requests share.
const SHARED_NUMBERS: usize = 12;

/// No other request has this number.
pub fn has_own_number(to: &str) -> bool {
    !(0..SHARED_NUMBERS).any(|nth| number(nth) == to)
}

/// The `nth` of many distinct valid mobile numbers.
fn number(nth: usize) -> String {
    format!("+57300{:07}", 6_000_000 + nth)
}

/// A name of letters only, as a greeting takes no others.
fn name(nth: usize) -> String {
    let letters: String = (0..6)
        .rev()
        .map(|place| char::from(b'a' + u8::try_from(nth / 26_usize.pow(place) % 26).expect("below 26")))
        .collect();
    format!("Q{letters}")
}

fn rfc3339(ms: u64) -> String {
    let ms = i64::try_from(ms).expect("it is not that late");
    Timestamp::from_millisecond(ms).expect("a time").to_string()
}
