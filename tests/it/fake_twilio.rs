//! A fake of Twilio's Messages API on loopback, which validates its requests.
//!
//! It has one account and stores the created messages, which can be listed page by page and fetched. A test may hide
//! messages, change them, and add messages of other senders. Every request is recorded and validated against Twilio's
//! OpenAPI file `twilio_api_v2010`; an invalid one fails the test when the fake is dropped. Answers have the real shapes
//! and can be scripted: for the next requests in order, for messages to a recipient, for lookups, or for everything.

mod facts;

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha1::Sha1;

use self::facts::{ValidCall, validate};
pub use self::facts::{credential, is_e164, rule};
pub use crate::fake_http::Recorded;
use crate::fake_http::{Listener, read_request};

/// The only account of the fake.
pub const ACCOUNT_SID: &str = "AC00000000000000000000000000000001";
pub const AUTH_TOKEN: &str = "fake-token-5f1d";
/// A standard API key of the account: it may do everything but read the account itself.
pub const API_KEY: (&str, &str) = ("SK00000000000000000000000000000002", "fake-secret-77aa");

#[derive(Clone, Debug)]
pub enum Answer {
    /// The answer of the real API.
    Normal,
    /// A status and a JSON body.
    Status(u16, Value),
    /// A 429 with this `Retry-After`.
    Throttle(Option<String>),
    /// A 302 to this URL.
    Redirect(String),
    /// Breaks the connection without reading the request. Only for the next request.
    Reset,
    /// Creates the message, then breaks the connection before the answer.
    AcceptThenClose,
    /// Creates the message and never answers.
    AcceptThenHang,
    /// Creates the message and breaks the connection in the middle of the body of the 201.
    AcceptThenTruncate,
    /// Creates the message and sends this as the body of the 201.
    AcceptWith(String),
    /// Reads the request and never answers.
    Hang,
}

impl Answer {
    /// An error in Twilio's format.
    pub fn error(status: u16, code: u32) -> Answer {
        let more_info = format!("https://www.twilio.com/docs/errors/{code}");
        let message = "sent to +573001234567 with otp 123456";
        Answer::Status(
            status,
            json!({"code": code, "message": message, "more_info": more_info, "status": status}),
        )
    }
}

/// A running fake. When dropped, it stops, and panics if any request was invalid.
pub struct FakeTwilio {
    listener: Listener,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    requests: Vec<Recorded>,
    violations: Vec<String>,
    next: VecDeque<Answer>,
    for_recipient: HashMap<String, Answer>,
    for_lookups: Option<Answer>,
    for_everyone: Option<Answer>,
    created: usize,
    /// All messages, oldest first.
    rows: Vec<Row>,
    /// The most rows of a page, whatever the request says.
    page_rows: Option<usize>,
    /// Seconds by which the fake's clock is ahead.
    ahead: i64,
}

/// A created message.
struct Row {
    hidden: bool,
    /// In the shape of `api.v2010.account.message`.
    message: Value,
}

impl Row {
    fn sid(&self) -> &str {
        self.message["sid"].as_str().expect("a message has a SID")
    }
}

impl FakeTwilio {
    pub fn start() -> FakeTwilio {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        FakeTwilio { listener: Listener::start(move |connection| serve(connection, &shared)), state }
    }

    /// The value for `TWILIO_API_BASE_URL`.
    pub fn base_url(&self) -> String {
        self.listener.base_url()
    }

    /// Scripts the answers to the next requests, one each.
    pub fn next(&self, answers: impl IntoIterator<Item = Answer>) {
        lock(&self.state).next.extend(answers);
    }

    /// Scripts the answer to every message to a recipient (E.164).
    pub fn for_recipient(&self, to: &str, answer: Answer) {
        lock(&self.state).for_recipient.insert(to.to_owned(), answer);
    }

    /// Scripts the answer to every request without another script.
    pub fn for_everyone(&self, answer: Answer) {
        lock(&self.state).for_everyone = Some(answer);
    }

    /// Scripts the answer to every message lookup.
    pub fn for_lookups(&self, answer: Answer) {
        lock(&self.state).for_lookups = Some(answer);
    }

    /// The SIDs of the messages, oldest first.
    pub fn sids(&self) -> Vec<String> {
        lock(&self.state).rows.iter().map(|row| row.sid().to_owned()).collect()
    }

    /// Hides a message, as the list of the real API may lag, or shows it again.
    pub fn hide(&self, sid: &str, hidden: bool) {
        lock(&self.state).row(sid).hidden = hidden;
    }

    /// Changes fields of a message.
    pub fn change(&self, sid: &str, change: impl FnOnce(&mut Value)) {
        change(&mut lock(&self.state).row(sid).message);
    }

    /// Empties the text of a message, as redaction does.
    pub fn redact(&self, sid: &str) {
        self.change(sid, |message| message["body"] = "".into());
    }

    /// Adds a message without a request, and returns its SID.
    pub fn add(&self, to: &str, from: &str, body: &str, change: impl FnOnce(&mut Value)) -> String {
        let mut state = lock(&self.state);
        let sid = format!("SMf{:031x}", state.rows.len());
        let mut message = message(&sid, to, Some(from), None, body, state.ahead);
        change(&mut message);
        state.rows.push(Row { hidden: false, message });
        sid
    }

    /// Bounds the rows of every later page.
    pub fn page_rows(&self, rows: usize) {
        lock(&self.state).page_rows = Some(rows);
    }

    /// Moves the fake's clock ahead of the real one.
    pub fn set_clock_ahead(&self, seconds: i64) {
        lock(&self.state).ahead = seconds;
    }

    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.state).requests.clone()
    }

    /// The request, if there was exactly one.
    #[track_caller]
    pub fn only_request(&self) -> Recorded {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.into_iter().next().expect("just counted")
    }

    /// The number of created messages.
    pub fn created(&self) -> usize {
        lock(&self.state).created
    }
}

impl Drop for FakeTwilio {
    fn drop(&mut self) {
        let violations = std::mem::take(&mut lock(&self.state).violations);
        if !thread::panicking() {
            assert!(violations.is_empty(), "requests that Twilio's API does not know: {violations:#?}");
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn serve(connection: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(connection);
    loop {
        if !reader.fill_buf().is_ok_and(|bytes| !bytes.is_empty()) {
            return;
        }
        if lock(state).take_reset() {
            return;
        }
        let Some(request) = read_request(&mut reader) else {
            return;
        };
        let answer = lock(state).respond(request);
        let Some(answer) = answer else {
            // Holds the connection open until the client closes it.
            let _ = reader.read(&mut [0]);
            return;
        };
        if (&*connection).write_all(&answer.bytes).is_err() || answer.last {
            return;
        }
    }
}

struct Reply {
    bytes: Vec<u8>,
    /// The connection closes after it.
    last: bool,
}

impl State {
    /// Records a request and returns its reply. `None` means that no reply ever comes.
    fn respond(&mut self, request: Recorded) -> Option<Reply> {
        let (mut made, mut redacted) = (None, None);
        let normal = match validate(&request) {
            Ok(ValidCall::Message) => {
                let message = self.message_for(&request);
                let body = message.to_string();
                made = Some(Row { hidden: false, message: as_kept(message, &request) });
                self.reply(201, "", &body)
            }
            Ok(ValidCall::List) => self.reply(200, "", &self.list(&request).to_string()),
            Ok(ValidCall::Fetch(sid)) => match self.rows.iter().find(|row| !row.hidden && row.sid() == sid) {
                Some(row) => self.reply(200, "", &row.message.to_string()),
                None => self.error_reply(404, 20404),
            },
            Ok(ValidCall::Redact(sid)) => {
                redacted = Some(sid.clone());
                match self.rows.iter().find(|row| row.sid() == sid) {
                    Some(row) if is_on_its_way(&row.message) => {
                        redacted = None;
                        self.error_reply(409, 20009)
                    }
                    Some(row) => self.reply(200, "", &redacted_message(&row.message).to_string()),
                    None => self.error_reply(404, 20404),
                }
            }
            Ok(ValidCall::Read(body)) => self.reply(200, "", &body.to_string()),
            Ok(ValidCall::Refused(status, code)) => self.error_reply(status, code),
            Err(violation) => {
                self.violations.push(format!("{violation}: {request:?}"));
                self.error_reply(400, 21620)
            }
        };
        let scripted = self.scripted(&request);
        self.requests.push(request);
        let (reply, creates) = match scripted {
            Answer::Normal => (Some(normal), true),
            Answer::Status(status, body) => (Some(self.reply(status, "", &body.to_string())), false),
            Answer::Throttle(wait) => {
                let wait = wait.map_or(String::new(), |wait| format!("Retry-After: {wait}\r\n"));
                (Some(self.reply(429, &wait, &error_body(429, 20429))), false)
            }
            Answer::Redirect(to) => (Some(self.reply(302, &format!("Location: {to}\r\n"), "")), false),
            Answer::Reset => panic!("a reset is only for the next request"),
            Answer::AcceptThenClose => (Some(Reply { bytes: Vec::new(), last: true }), true),
            Answer::AcceptThenHang => (None, true),
            Answer::AcceptThenTruncate => {
                let half = normal.bytes[..normal.bytes.len() - 200].to_vec();
                (Some(Reply { bytes: half, last: true }), true)
            }
            Answer::AcceptWith(body) => (Some(self.reply(201, "", &body)), true),
            Answer::Hang => (None, false),
        };
        if let Some(row) = self.rows.iter_mut().find(|row| creates && redacted.as_deref() == Some(row.sid()))
        {
            row.message = redacted_message(&row.message);
        }
        if let Some(row) = made.filter(|_| creates) {
            self.rows.push(row);
            self.created += 1;
        }
        reply
    }

    fn row(&mut self, sid: &str) -> &mut Row {
        self.rows.iter_mut().find(|row| row.sid() == sid).expect("a message with this SID")
    }

    fn take_reset(&mut self) -> bool {
        let reset = matches!(self.next.front(), Some(Answer::Reset));
        if reset {
            self.next.pop_front();
        }
        reset
    }

    fn scripted(&mut self, request: &Recorded) -> Answer {
        let is_post = request.method == "POST";
        let for_recipient = || request.field("To").and_then(|to| self.for_recipient.get(to).cloned());
        let for_kind = if is_post { for_recipient() } else { self.for_lookups.clone() };
        let standing = for_kind.or_else(|| self.for_everyone.clone()).unwrap_or(Answer::Normal);
        self.next.pop_front().unwrap_or(standing)
    }

    fn message_for(&self, request: &Recorded) -> Value {
        let sid = format!("SM{:032x}", self.created + 1);
        let field = |name| request.field(name);
        let (to, body) = (field("To").expect("validated"), field("Body").expect("validated"));
        message(&sid, to, field("From"), field("MessagingServiceSid"), body, self.ahead)
    }

    /// A page of the list, newest first, in the shape of `ListMessageResponse`.
    fn list(&self, request: &Recorded) -> Value {
        let path = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json");
        let wanted = |row: &&Row| {
            let same = |name: &str, key: &str| {
                request.field(name).is_none_or(|requested| row.message[key] == requested)
            };
            // Only the check of credentials filters by date, by a day without messages.
            !row.hidden && request.field("DateSent").is_none() && same("To", "to") && same("From", "from")
        };
        let number = |name| request.field(name).and_then(|number| number.parse::<usize>().ok());
        let requested = number("PageSize").unwrap_or(50);
        let (page, size) = (number("Page").unwrap_or(0), self.page_rows.unwrap_or(requested).min(requested));
        let rows: Vec<&Value> = self.rows.iter().rev().filter(wanted).map(|row| &row.message).collect();
        let shown: Vec<&Value> = rows.iter().skip(page * size).take(size).copied().collect();
        let uri = |page: usize, token: &str| {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.extend_pairs(request.form.iter().filter(|(name, _)| !name.starts_with("Page")));
            query.append_pair("PageSize", &requested.to_string()).append_pair("Page", &page.to_string());
            if !token.is_empty() {
                query.append_pair("PageToken", &format!("PA{token}"));
            }
            format!("{path}?{}", query.finish())
        };
        let last = shown.last().and_then(|row| row["sid"].as_str()).unwrap_or_default();
        let next = (rows.len() > (page + 1) * size).then(|| uri(page + 1, last));
        json!({
            "end": page * size + shown.len().saturating_sub(1), "first_page_uri": uri(0, ""),
            "next_page_uri": next, "page": page, "page_size": requested, "previous_page_uri": null,
            "messages": shown, "start": page * size, "uri": uri(page, ""),
        })
    }

    fn error_reply(&self, status: u16, code: u32) -> Reply {
        self.reply(status, "", &error_body(status, code))
    }

    fn reply(&self, status: u16, headers: &str, body: &str) -> Reply {
        let (length, date) = (body.len(), now(self.ahead).strftime("%a, %d %b %Y %H:%M:%S GMT"));
        let head = format!(
            "HTTP/1.1 {status} Fake\r\nDate: {date}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n"
        );
        Reply { bytes: format!("{head}{headers}\r\n{body}").into_bytes(), last: false }
    }
}

/// The time of a clock that is this many seconds ahead.
pub fn now(ahead: i64) -> jiff::Timestamp {
    jiff::Timestamp::now() + jiff::SignedDuration::from_secs(ahead)
}

/// A time in the format of a message's fields.
pub fn rfc_2822(at: jiff::Timestamp) -> String {
    at.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
}

/// A new message, in the shape of Twilio's OpenAPI example.
fn message(sid: &str, to: &str, from: Option<&str>, service: Option<&str>, body: &str, ahead: i64) -> Value {
    let uri = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Messages/{sid}");
    let at = rfc_2822(now(ahead));
    json!({
        "account_sid": ACCOUNT_SID, "api_version": "2010-04-01", "body": body,
        "date_created": at, "date_sent": null, "date_updated": at, "direction": "outbound-api",
        "error_code": null, "error_message": null, "from": from,
        "messaging_service_sid": service, "num_media": "0",
        "num_segments": if service.is_some() { "0" } else { "1" }, "price": null, "price_unit": null,
        "sid": sid, "status": if service.is_some() { "accepted" } else { "queued" },
        "subresource_uris": {"media": format!("{uri}/Media.json")}, "to": to,
        "uri": format!("{uri}.json"),
    })
}

/// The message as Twilio keeps it: without the text, or without the last four digits of the number, if the request says so.
fn as_kept(mut message: Value, request: &Recorded) -> Value {
    if request.field("ContentRetention") == Some("discard") {
        message["body"] = "".into();
    }
    if request.field("AddressRetention") == Some("obfuscate") {
        let to = message["to"].as_str().expect("a number");
        message["to"] = format!("{}XXXX", &to[..to.len() - 4]).into();
    }
    message
}

fn redacted_message(message: &Value) -> Value {
    let mut redacted = message.clone();
    redacted["body"] = "".into();
    redacted
}

fn is_on_its_way(message: &Value) -> bool {
    ["accepted", "scheduled", "queued", "sending"].map(Value::from).contains(&message["status"])
}

/// An error in Twilio's format.
pub fn error_body(status: u16, code: u32) -> String {
    match Answer::error(status, code) {
        Answer::Status(_, body) => body.to_string(),
        other => unreachable!("an error is a status, not {other:?}"),
    }
}

/// Twilio's signature of a callback: over the URL, then each parameter's name and value in order.
pub fn signature(token: &str, url: &str, form: &[(&str, &str)]) -> String {
    let mut form: Vec<_> = form.to_vec();
    form.sort_unstable();
    form.dedup();
    let signed = form.iter().fold(url.to_owned(), |text, (name, value)| text + name + value);
    let mut mac = Hmac::<Sha1>::new_from_slice(token.as_bytes()).expect("a key of any length");
    mac.update(signed.as_bytes());
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}
