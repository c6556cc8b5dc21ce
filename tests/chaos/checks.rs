//! A back end that checks the codes of sent messages over HTTP, and judges every verdict.
//!
//! Each code is checked three times: with a digit changed, right, and right again. Only 503 may take the place of the
//! one verdict that each of these has.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::fleet::Fleet;
use super::process::Process;
use super::servers::free_ports;
use super::twilio::Twilio;
use crate::history::Post;
use crate::wait::{now_ms, until_async};

const JWT_SECRET: &str = "Vq0RkzX9uLr3bTn7yGd2mHs8wJc5pKa1";
const AUDIENCE: &str = "otpost";
/// Codes that are checked at once.
const LANES: usize = 24;
const ANSWER_WITHIN: Duration = Duration::from_secs(12);
const REPEAT_AFTER: Duration = Duration::from_millis(100);
/// A 503 is repeated for this long.
const VERDICT_WITHIN: Duration = Duration::from_secs(60);

/// The API and its client.
pub struct Checks {
    process: RefCell<Process>,
    client: reqwest::Client,
    url: String,
    token: String,
    next: AtomicUsize,
    seen: RefCell<Seen>,
    has_ended: Cell<bool>,
}

/// Counts of all checks.
#[derive(Clone, Default)]
pub struct Seen {
    pub verified: usize,
    pub unavailable: usize,
    /// The last 503 (ms since 1970).
    pub unavailable_at: u64,
    /// Forbidden under every fault.
    pub wrong: Vec<String>,
    /// Verdicts that only lost writes explain, with the time of the write (ms since 1970).
    pub lost: Vec<(String, u64)>,
}

/// The answer to one check.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Verified,
    Wrong,
    Used,
    /// No such code is pending.
    Missing,
    Unavailable,
    Other(String),
}

impl Checks {
    /// Starts the API of a fleet's gateway, and waits until it answers.
    pub async fn start(fleet: &Fleet) -> Result<Checks, String> {
        let [api, ops] = free_ports().map(|port| format!("127.0.0.1:{port}"));
        let mut command = fleet.command("http");
        command.env("HTTP_ADDR", &api).env("OPS_ADDR", &ops);
        command.env("JWT_SECRET", JWT_SECRET).env("JWT_AUDIENCE", AUDIENCE);
        let process = Process::start(command, &fleet.folder().join("http.log"));
        let in_an_hour = now_ms() / 1_000 + 3_600;
        let claims = json!({"sub": "chaos", "scope": "otp:verify", "aud": AUDIENCE, "exp": in_an_hour});
        let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(JWT_SECRET.as_bytes()));
        let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).build();
        let checks = Checks {
            process: RefCell::new(process),
            client: client.map_err(|error| error.to_string())?,
            url: format!("http://{api}"),
            token: token.map_err(|error| error.to_string())?,
            next: AtomicUsize::new(0),
            seen: RefCell::default(),
            has_ended: Cell::new(false),
        };
        until_async("an answer of the API", Duration::from_secs(30), async || checks.answers().await).await?;
        Ok(checks)
    }

    async fn answers(&self) -> Result<(), String> {
        if let Some(status) = self.process.borrow_mut().ended() {
            return Err(format!("({status})\n{}", self.process.borrow().log_tail()));
        }
        let asked = self.client.get(format!("{}/readyz", self.url)).send().await;
        asked.and_then(reqwest::Response::error_for_status).map(drop).map_err(|error| error.to_string())
    }

    /// Checks the codes of messages to numbers that `is_wanted` picks, until [`Checks::end`].
    pub async fn run(&self, twilio: &Twilio, is_wanted: impl Fn(&str) -> bool) {
        let lane = async || {
            while !self.has_ended.get() {
                match self.next_post(twilio, &is_wanted) {
                    Some(post) => self.check(&post).await,
                    None => sleep(REPEAT_AFTER).await,
                }
            }
        };
        futures_util::future::join_all((0..LANES).map(|_| lane())).await;
    }

    pub fn end(&self) -> Seen {
        self.has_ended.set(true);
        self.seen.borrow().clone()
    }

    fn next_post(&self, twilio: &Twilio, is_wanted: &impl Fn(&str) -> bool) -> Option<Post> {
        let posts = twilio.posts();
        loop {
            let nth = self.next.load(Ordering::Relaxed);
            let post = posts.get(nth)?;
            self.next.store(nth + 1, Ordering::Relaxed);
            // A code that was sent twice, as a failover allows, has been checked.
            let is_same = |earlier: &Post| (&earlier.to, &earlier.code) == (&post.to, &post.code);
            if post.accepted && is_wanted(&post.to) && !posts[..nth].iter().any(is_same) {
                return Some(post.clone());
            }
        }
    }

    async fn check(&self, post: &Post) {
        let wrong = other_code(&post.code);
        let (verdict, _) = self.verdict(&post.to, &wrong).await;
        match verdict {
            Verdict::Wrong | Verdict::Unavailable => {}
            Verdict::Missing => self.note_lost("a sent code was missing", post.at),
            other => self.note_wrong(format!("a wrong code was {other:?}")),
        }
        let (verdict, was_in_doubt) = self.verdict(&post.to, &post.code).await;
        let verified_at = now_ms();
        match verdict {
            Verdict::Verified => self.seen.borrow_mut().verified += 1,
            Verdict::Used if was_in_doubt => {}
            Verdict::Missing => return self.note_lost("a right code was missing", post.at),
            other => return self.note_wrong(format!("a right code was {other:?}")),
        }
        // Some of the codes are verified before the fault and checked again after it.
        sleep(Duration::from_millis(fastrand::u64(..4_000))).await;
        match self.verdict(&post.to, &post.code).await.0 {
            Verdict::Used | Verdict::Unavailable => {}
            Verdict::Verified => self.note_lost("a code was verified twice", verified_at),
            Verdict::Missing => self.note_lost("a used code was missing", verified_at),
            other => self.note_wrong(format!("a used code was {other:?}")),
        }
    }

    fn note_unavailable(&self) {
        let mut seen = self.seen.borrow_mut();
        (seen.unavailable, seen.unavailable_at) = (seen.unavailable + 1, now_ms());
    }

    fn note_lost(&self, what: &str, written_at: u64) {
        self.seen.borrow_mut().lost.push((what.to_owned(), written_at));
    }

    fn note_wrong(&self, what: String) {
        self.seen.borrow_mut().wrong.push(what);
    }

    /// Repeats a 503. True if an earlier answer was lost or may have hidden a success.
    async fn verdict(&self, to: &str, code: &str) -> (Verdict, bool) {
        let (began, mut was_in_doubt) = (tokio::time::Instant::now(), false);
        loop {
            let verdict = self.ask(to, code).await;
            if verdict != Verdict::Unavailable || self.has_ended.get() || began.elapsed() > VERDICT_WITHIN {
                return (verdict, was_in_doubt);
            }
            self.note_unavailable();
            was_in_doubt = true;
            sleep(REPEAT_AFTER).await;
        }
    }

    async fn ask(&self, to: &str, code: &str) -> Verdict {
        let body = json!({"to": to, "otp_code": code}).to_string();
        let asked = self.client.post(format!("{}/api/v1/otp/verify", self.url)).bearer_auth(&self.token);
        let asked = asked.header("Content-Type", "application/json").body(body).send().await;
        let Ok(answer) = asked else { return Verdict::Unavailable };
        let status = answer.status().as_u16();
        let Ok(body) = answer.bytes().await else { return Verdict::Unavailable };
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        match (status, body["code"].as_str()) {
            (200, _) if body["verified"] == true => Verdict::Verified,
            (422, Some("wrong_code")) => Verdict::Wrong,
            (409, Some("code_used")) => Verdict::Used,
            (404, Some("no_pending_code")) => Verdict::Missing,
            (503, _) => Verdict::Unavailable,
            (status, code) => Verdict::Other(format!("{status} {}", code.unwrap_or_default())),
        }
    }
}

/// The code with another last digit.
fn other_code(code: &str) -> String {
    let (head, last) = code.split_at(code.len() - 1);
    let last = last.parse::<u8>().expect("a code has digits only");
    format!("{head}{}", (last + 1) % 10)
}
