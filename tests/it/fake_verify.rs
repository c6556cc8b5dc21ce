//! A fake of Twilio Verify on loopback, which validates its requests.
//!
//! It has one service. As Twilio documents, it makes codes, counts sends and checks, and lists attempts. Every request is
//! recorded and validated against Twilio's OpenAPI file `twilio_verify_v2`; an invalid one fails the test when the fake is
//! dropped.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::{Value, json};

use crate::fake_http::{Listener, Recorded, read_request};
use crate::fake_twilio::{ACCOUNT_SID, credential, error_body, is_e164, now, rule};

/// The only service of the fake.
pub const SERVICE_SID: &str = "VA00000000000000000000000000000004";
const CHECKS_MAX: usize = 5;
const SENDS_MAX: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Answer {
    /// The answer of the real API.
    Normal,
    /// Status and error number. The request has no effect.
    Error(u16, u32),
    /// Breaks the connection without reading the request.
    Reset,
    /// Performs the request, and breaks the connection before the answer.
    DoThenClose,
    /// Performs the request, and answers with a 502.
    DoThenFail,
    /// Performs the request, and breaks the connection in the middle of the answer's body.
    DoThenTruncate,
    /// Reads the request and never answers.
    Hang,
}

/// One code with its counts of sends and checks.
#[derive(Debug)]
struct Verification {
    sid: String,
    to: String,
    code: String,
    status: &'static str,
    sends: usize,
    checks: usize,
}

#[derive(Default)]
struct State {
    requests: Vec<Recorded>,
    violations: Vec<String>,
    next: VecDeque<Answer>,
    verifications: Vec<Verification>,
    /// In the shape of `verify.v2.verification_attempt`, oldest first.
    attempts: Vec<Value>,
    deleted: bool,
    hidden: bool,
    has_next_page: bool,
    ahead: i64,
}

/// A running fake. When dropped, it stops, and panics if any request was invalid.
pub struct FakeVerify {
    listener: Listener,
    state: Arc<Mutex<State>>,
}

impl FakeVerify {
    pub fn start() -> FakeVerify {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        FakeVerify { listener: Listener::start(move |connection| serve(connection, &shared)), state }
    }

    /// The value for `TWILIO_VERIFY_BASE_URL`.
    pub fn base_url(&self) -> String {
        self.listener.base_url()
    }

    /// Scripts the answers to the next requests, one each.
    pub fn next(&self, answers: impl IntoIterator<Item = Answer>) {
        lock(&self.state).next.extend(answers);
    }

    /// The code that was last sent to a number.
    pub fn code(&self, to: &str) -> String {
        let state = lock(&self.state);
        let last = state.verifications.iter().rev().find(|verification| verification.to == to);
        last.expect("something was sent").code.clone()
    }

    /// Expires every code.
    pub fn expire(&self) {
        lock(&self.state).verifications.iter_mut().for_each(|verification| verification.status = "expired");
    }

    /// Deletes the service, and all codes with it.
    pub fn delete_service(&self) {
        lock(&self.state).deleted = true;
    }

    /// Hides all attempts, as the list of the real API may lag, or shows them again.
    pub fn hide(&self, hidden: bool) {
        lock(&self.state).hidden = hidden;
    }

    /// Makes every list of attempts have a next page.
    pub fn add_next_page(&self) {
        lock(&self.state).has_next_page = true;
    }

    /// Moves the fake's clock ahead of the real one.
    pub fn set_clock_ahead(&self, seconds: i64) {
        lock(&self.state).ahead = seconds;
    }

    /// Changes the last attempt.
    pub fn change_attempt(&self, change: impl FnOnce(&mut Value)) {
        change(lock(&self.state).attempts.last_mut().expect("something was sent"));
    }

    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.state).requests.clone()
    }

    /// The requests whose path has this ending.
    pub fn requests_to(&self, ending: &str) -> Vec<Recorded> {
        self.requests().into_iter().filter(|request| request.path.ends_with(ending)).collect()
    }

    /// The number of sent messages.
    pub fn sent(&self) -> usize {
        lock(&self.state).attempts.len()
    }
}

impl Drop for FakeVerify {
    fn drop(&mut self) {
        let violations = std::mem::take(&mut lock(&self.state).violations);
        if !thread::panicking() {
            assert!(violations.is_empty(), "requests that Verify does not know: {violations:#?}");
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn serve(connection: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(connection);
    while reader.fill_buf().is_ok_and(|bytes| !bytes.is_empty()) {
        let mut reset = lock(state);
        if reset.next.front() == Some(&Answer::Reset) {
            reset.next.pop_front();
            return;
        }
        drop(reset);
        let Some(request) = read_request(&mut reader) else { return };
        let (answer, bytes) = lock(state).respond(request);
        match answer {
            Answer::Hang => drop(reader.read(&mut [0])),
            Answer::DoThenTruncate => drop((&*connection).write_all(&bytes[..bytes.len() - 200])),
            Answer::DoThenClose => {}
            _ if (&*connection).write_all(&bytes).is_ok() => continue,
            _ => {}
        }
        return;
    }
}

impl State {
    /// Records and performs a request, and returns its answer.
    fn respond(&mut self, request: Recorded) -> (Answer, Vec<u8>) {
        let answer = self.next.pop_front().unwrap_or(Answer::Normal);
        let (status, body) = match answer {
            Answer::Error(status, code) => (status, error_body(status, code)),
            Answer::Hang => (200, String::new()),
            _ => self.perform(&request),
        };
        self.requests.push(request);
        let (status, body) = if answer == Answer::DoThenFail { (502, String::new()) } else { (status, body) };
        let date = now(self.ahead).strftime("%a, %d %b %Y %H:%M:%S GMT");
        let head = format!(
            "HTTP/1.1 {status} Fake\r\nDate: {date}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        );
        (answer, format!("{head}\r\n{body}").into_bytes())
    }

    fn perform(&mut self, request: &Recorded) -> (u16, String) {
        match validate(request) {
            // Every path below a deleted service is unknown.
            Ok(_) if self.deleted => (404, error_body(404, 20404)),
            Ok(ValidCall::Service) => {
                (200, json!({"sid": SERVICE_SID, "account_sid": ACCOUNT_SID}).to_string())
            }
            Ok(ValidCall::Send) => self.send(request.field("To").expect("validated")),
            Ok(ValidCall::Check) => self.check(request),
            Ok(ValidCall::Fetch(sid)) => match self.verifications.iter().find(|known| known.sid == sid) {
                Some(known) => (200, self.shown(known).to_string()),
                None => (404, error_body(404, 20404)),
            },
            Ok(ValidCall::Attempts) => (200, self.list(request).to_string()),
            Ok(ValidCall::Refused(status, code)) => (status, error_body(status, code)),
            Err(violation) => {
                self.violations.push(format!("{violation}: {request:?}"));
                (400, error_body(400, 60200))
            }
        }
    }

    fn send(&mut self, to: &str) -> (u16, String) {
        let alive = |known: &Verification| known.to == to && known.status == "pending";
        let at = self.verifications.iter().position(alive).unwrap_or_else(|| {
            let nth = self.verifications.len();
            self.verifications.push(Verification {
                sid: format!("VE{nth:032x}"),
                to: to.to_owned(),
                code: format!("{}", 482_913 + nth),
                status: "pending",
                sends: 0,
                checks: 0,
            });
            nth
        });
        if self.verifications[at].sends == SENDS_MAX {
            return (429, error_body(429, 60203));
        }
        self.verifications[at].sends += 1;
        let (nth, sid) = (self.attempts.len(), self.verifications[at].sid.clone());
        self.attempts.push(json!({
            "sid": format!("VL{nth:032x}"), "account_sid": ACCOUNT_SID, "service_sid": SERVICE_SID,
            "verification_sid": sid, "date_created": iso(now(self.ahead)), "date_updated": iso(now(self.ahead)),
            "conversion_status": "unconverted", "channel": "sms", "price": null,
            "channel_data": {"verification_sid": sid, "to": to, "status": "unconfirmed", "code_length": 6},
            "url": format!("https://verify.twilio.com/v2/Attempts/VL{nth:032x}"),
        }));
        (201, self.shown(&self.verifications[at]).to_string())
    }

    fn check(&mut self, request: &Recorded) -> (u16, String) {
        let is_checked = |known: &&mut Verification| {
            request.field("VerificationSid").is_none_or(|sid| known.sid == sid)
                && request.field("To").is_none_or(|to| known.to == to)
                && known.status == "pending"
        };
        let Some(known) = self.verifications.iter_mut().find(is_checked) else {
            return (404, error_body(404, 20404));
        };
        if known.checks == CHECKS_MAX {
            return (429, error_body(429, 60202));
        }
        known.checks += 1;
        if request.field("Code") == Some(&known.code) {
            known.status = "approved";
        }
        let body = json!({
            "sid": known.sid, "service_sid": SERVICE_SID, "account_sid": ACCOUNT_SID, "to": known.to,
            "channel": "sms", "status": known.status, "valid": known.status == "approved", "amount": null,
            "payee": null, "sna_attempts_error_codes": [], "date_created": iso(now(self.ahead)),
            "date_updated": iso(now(self.ahead)),
        });
        (201, body.to_string())
    }

    fn shown(&self, known: &Verification) -> Value {
        let attempts =
            self.attempts.iter().filter(|attempt| attempt["verification_sid"] == known.sid.as_str());
        let attempts: Vec<Value> = attempts
            .map(|attempt| {
                json!({"time": attempt["date_created"], "channel": "SMS", "attempt_sid": attempt["sid"]})
            })
            .collect();
        let at = iso(now(self.ahead));
        json!({
            "sid": known.sid, "service_sid": SERVICE_SID, "account_sid": ACCOUNT_SID, "to": known.to,
            "channel": "sms", "status": known.status, "valid": false, "date_created": at, "date_updated": at,
            "lookup": {}, "amount": null, "payee": null, "send_code_attempts": attempts, "sna": null,
            "url": format!("https://verify.twilio.com/v2/Services/{SERVICE_SID}/Verifications/{}", known.sid),
        })
    }

    fn list(&self, request: &Recorded) -> Value {
        let after: jiff::Timestamp =
            request.field("DateCreatedAfter").expect("validated").parse().expect("validated");
        let wanted = |attempt: &&Value| {
            let at: jiff::Timestamp =
                attempt["date_created"].as_str().expect("a time").parse().expect("a time");
            !self.hidden
                && at >= after
                && attempt["channel_data"]["to"].as_str() == request.field("ChannelData.To")
        };
        let shown: Vec<&Value> = self.attempts.iter().rev().filter(wanted).collect();
        let url = "https://verify.twilio.com/v2/Attempts?PageSize=100&Page=0";
        let next = self.has_next_page.then_some("https://verify.twilio.com/v2/Attempts?PageSize=100&Page=1");
        json!({"attempts": shown, "meta": {
            "key": "attempts", "page": 0, "page_size": 100, "first_page_url": url, "previous_page_url": null,
            "url": url, "next_page_url": next,
        }})
    }
}

fn iso(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A request that follows the API.
enum ValidCall {
    Service,
    Send,
    Check,
    Fetch(String),
    Attempts,
    Refused(u16, u32),
}

/// Validates a request. The error is a sentence.
fn validate(request: &Recorded) -> Result<ValidCall, &'static str> {
    if !credential(request)?.starts_with(ACCOUNT_SID) {
        return Ok(ValidCall::Refused(401, 20003));
    }
    let mut names: Vec<&str> = request.form.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    rule(names.windows(2).all(|pair| pair[0] != pair[1]), "a field stands twice")?;
    let only = |known: &[&str]| {
        rule(names.iter().all(|name| known.contains(name)), "a field that is not used here, or not known")
    };
    if request.method == "GET" && request.path == "/v2/Attempts" {
        only(&["ChannelData.To", "DateCreatedAfter", "PageSize", "VerifyServiceSid"])?;
        rule(request.field("ChannelData.To").is_some_and(is_e164), "ChannelData.To is not E.164")?;
        rule(request.field("VerifyServiceSid") == Some(SERVICE_SID), "another service's attempts")?;
        let time = |text: &str| text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok();
        rule(request.field("DateCreatedAfter").is_some_and(time), "DateCreatedAfter is no ISO 8601 time")?;
        let size = request.field("PageSize").and_then(|size| size.parse::<u32>().ok());
        rule(size.is_some_and(|size| (1..=100).contains(&size)), "PageSize is out of bounds")?;
        return Ok(ValidCall::Attempts);
    }
    let Some(path) = request.path.strip_prefix(&format!("/v2/Services/{SERVICE_SID}")) else {
        return Ok(ValidCall::Refused(404, 20404));
    };
    let content_type = request.headers.get("content-type").map(String::as_str);
    let is_form = content_type == Some("application/x-www-form-urlencoded");
    match (request.method.as_str(), path) {
        ("GET", "") => only(&[]).map(|()| ValidCall::Service),
        ("GET", path) if path.starts_with("/Verifications/VE") => {
            only(&[]).map(|()| ValidCall::Fetch(path["/Verifications/".len()..].to_owned()))
        }
        ("POST", "/Verifications") => {
            only(&["Channel", "Locale", "To"])?;
            rule(is_form, "the content type is not a form's")?;
            rule(request.field("To").is_some_and(is_e164), "To is not E.164")?;
            rule(request.field("Channel") == Some("sms"), "Channel is not sms")?;
            let locales = ["es", "en", "pt", "pt-BR"];
            rule(request.field("Locale").is_none_or(|tag| locales.contains(&tag)), "Locale is not known")?;
            Ok(ValidCall::Send)
        }
        ("POST", "/VerificationCheck") => {
            only(&["Code", "To", "VerificationSid"])?;
            rule(is_form, "the content type is not a form's")?;
            let code =
                |code: &str| (4..=10).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_digit());
            rule(request.field("Code").is_some_and(code), "Code is not 4 to 10 digits")?;
            rule(names.len() == 2, "not exactly one of To and VerificationSid")?;
            rule(request.field("To").is_none_or(is_e164), "To is not E.164")?;
            let sid = |sid: &str| sid.len() == 34 && sid.starts_with("VE");
            rule(request.field("VerificationSid").is_none_or(sid), "VerificationSid is none")?;
            Ok(ValidCall::Check)
        }
        _ => Err("no such method and path"),
    }
}
