//! A stand-in for Twilio's Messages API on loopback, that checks what it is asked.
//!
//! It knows one account. Every request is recorded and held against the facts of Twilio's OpenAPI file
//! `twilio_api_v2010`; one that breaks them fails the test when the fake is dropped. Answers have the real
//! shapes and can be scripted: for the next requests in order, for a recipient, or for everyone.
//!
//! Plain blocking sockets on threads of their own: it can break a connection at any byte, does not depend on
//! a paused clock, and its work does not count as the client's.

mod facts;

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use self::facts::{Judged, judge};

/// The account that the fake knows.
pub const ACCOUNT_SID: &str = "AC00000000000000000000000000000001";
/// Its token.
pub const AUTH_TOKEN: &str = "fake-token-5f1d";
/// A standard API key of the account: it may do everything but read the account itself.
pub const API_KEY: (&str, &str) = ("SK00000000000000000000000000000002", "fake-secret-77aa");

/// How the fake answers a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// As Twilio would.
    Normal,
    /// A status and a JSON body.
    Status(u16, Value),
    /// A 429 with this `Retry-After`.
    Throttle(Option<String>),
    /// A 302 to somewhere else.
    Redirect(String),
    /// Breaks the connection without reading the request. Only for the next request.
    Reset,
    /// Creates the message, then breaks the connection before the answer.
    AcceptThenClose,
    /// Creates the message and breaks the connection in the middle of the body of the 201.
    AcceptThenTruncate,
    /// Creates the message and sends this as the body of the 201.
    AcceptWith(String),
    /// Reads the request and never answers.
    Hang,
}

impl Answer {
    /// Twilio's shape of an error.
    pub fn error(status: u16, code: u32) -> Answer {
        let more_info = format!("https://www.twilio.com/docs/errors/{code}");
        let message = "told to +573001234567 with otp 123456";
        Answer::Status(
            status,
            json!({"code": code, "message": message, "more_info": more_info, "status": status}),
        )
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    /// Decoded; of the query for a GET.
    pub form: Vec<(String, String)>,
}

impl Recorded {
    /// The only value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// A running fake. It stops when dropped, and panics then if it was asked anything that Twilio's API does not
/// know.
pub struct FakeTwilio {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    requests: Vec<Recorded>,
    complaints: Vec<String>,
    next: VecDeque<Answer>,
    for_recipient: HashMap<String, Answer>,
    for_everyone: Option<Answer>,
    created: usize,
    stopped: bool,
}

impl FakeTwilio {
    /// Starts one on a free port.
    pub fn start() -> FakeTwilio {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                if lock(&shared).stopped {
                    return;
                }
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&connection, &shared));
            }
        });
        FakeTwilio { address, state }
    }

    /// What `TWILIO_API_BASE_URL` would be.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Scripts the answers to the next requests, one each.
    pub fn next(&self, answers: impl IntoIterator<Item = Answer>) {
        lock(&self.state).next.extend(answers);
    }

    /// Scripts the answer to every message to a recipient (E.164).
    pub fn for_recipient(&self, to: &str, answer: Answer) {
        lock(&self.state).for_recipient.insert(to.to_owned(), answer);
    }

    /// Scripts the answer to everything that nothing else is scripted for.
    pub fn for_everyone(&self, answer: Answer) {
        lock(&self.state).for_everyone = Some(answer);
    }

    /// All requests so far.
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

    /// How many messages were created.
    pub fn created(&self) -> usize {
        lock(&self.state).created
    }
}

impl Drop for FakeTwilio {
    fn drop(&mut self) {
        lock(&self.state).stopped = true;
        // Wakes the listener up.
        let _ = TcpStream::connect(self.address);
        let complaints = std::mem::take(&mut lock(&self.state).complaints);
        if !thread::panicking() {
            assert!(complaints.is_empty(), "Twilio would not know what to make of this: {complaints:#?}");
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn serve(connection: &TcpStream, state: &Mutex<State>) {
    let _ = connection.set_read_timeout(Some(Duration::from_secs(30)));
    let _ = connection.set_nodelay(true);
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
        let answer = lock(state).take_in(request);
        let Some(answer) = answer else {
            // Nothing more: wait until the client goes away.
            let _ = reader.read(&mut [0]);
            return;
        };
        if (&*connection).write_all(&answer.bytes).is_err() || answer.last {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<Recorded> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&length| length > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let (method, target) = lines.first()?.strip_suffix(" HTTP/1.1")?.split_once(' ')?;
    let header = |line: &String| line.split_once(':').map(|(k, v)| (k.to_lowercase(), v.trim().to_owned()));
    let headers: HashMap<_, _> = lines[1..].iter().filter_map(header).collect();
    let length = headers.get("content-length").map_or(Some(0), |length| length.parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let encoded = if method == "GET" { query.as_bytes() } else { &body };
    let form = form_urlencoded::parse(encoded).into_owned().collect();
    Some(Recorded { method: method.to_owned(), path: path.to_owned(), headers, form })
}

/// Bytes to write, and whether the connection ends with them.
struct Reply {
    bytes: Vec<u8>,
    last: bool,
}

impl State {
    /// Records a request and finds the answer; none is a silence that lasts.
    fn take_in(&mut self, request: Recorded) -> Option<Reply> {
        let (normal, accepts) = match judge(&request) {
            Ok(Judged::Message) => (self.created_message(&request), true),
            Ok(Judged::Read(body)) => (reply(200, "", &body.to_string()), false),
            Ok(Judged::Refused(status, code)) => (error_reply(status, code), false),
            Err(complaint) => {
                self.complaints.push(format!("{complaint}: {request:?}"));
                (error_reply(400, 21620), false)
            }
        };
        let scripted = self.scripted(&request);
        self.requests.push(request);
        let (reply, creates) = match scripted {
            Answer::Normal => (Some(normal), true),
            Answer::Status(status, body) => (Some(reply(status, "", &body.to_string())), false),
            Answer::Throttle(wait) => {
                let wait = wait.map_or(String::new(), |wait| format!("Retry-After: {wait}\r\n"));
                (Some(reply(429, &wait, &error_body(429, 20429))), false)
            }
            Answer::Redirect(to) => (Some(reply(302, &format!("Location: {to}\r\n"), "")), false),
            Answer::Reset => panic!("a reset is only for the next request"),
            Answer::AcceptThenClose => (Some(Reply { bytes: Vec::new(), last: true }), true),
            Answer::AcceptThenTruncate => {
                let half = normal.bytes[..normal.bytes.len() - 200].to_vec();
                (Some(Reply { bytes: half, last: true }), true)
            }
            Answer::AcceptWith(body) => (Some(reply(201, "", &body)), true),
            Answer::Hang => (None, false),
        };
        self.created += usize::from(accepts && creates);
        reply
    }

    fn take_reset(&mut self) -> bool {
        let reset = matches!(self.next.front(), Some(Answer::Reset));
        if reset {
            self.next.pop_front();
        }
        reset
    }

    fn scripted(&mut self, request: &Recorded) -> Answer {
        let for_recipient = || request.field("To").and_then(|to| self.for_recipient.get(to).cloned());
        let default = || self.for_everyone.clone().unwrap_or(Answer::Normal);
        let standing = for_recipient().unwrap_or_else(default);
        self.next.pop_front().unwrap_or(standing)
    }

    /// The 201 of Twilio's OpenAPI example, for this message.
    fn created_message(&self, request: &Recorded) -> Reply {
        let sid = format!("SM{:032x}", self.created + 1);
        let service = request.field("MessagingServiceSid");
        let uri = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Messages/{sid}");
        let body = json!({
            "account_sid": ACCOUNT_SID, "api_version": "2010-04-01", "body": request.field("Body"),
            "date_created": "Thu, 24 Aug 2023 05:01:45 +0000", "date_sent": null,
            "date_updated": "Thu, 24 Aug 2023 05:01:45 +0000", "direction": "outbound-api",
            "error_code": null, "error_message": null, "from": request.field("From"),
            "messaging_service_sid": service, "num_media": "0",
            "num_segments": if service.is_some() { "0" } else { "1" }, "price": null, "price_unit": null,
            "sid": sid, "status": if service.is_some() { "accepted" } else { "queued" },
            "subresource_uris": {"media": format!("{uri}/Media.json")}, "to": request.field("To"),
            "uri": format!("{uri}.json"),
        });
        reply(201, "", &body.to_string())
    }
}

fn error_body(status: u16, code: u32) -> String {
    match Answer::error(status, code) {
        Answer::Status(_, body) => body.to_string(),
        other => unreachable!("an error is a status, not {other:?}"),
    }
}

fn error_reply(status: u16, code: u32) -> Reply {
    reply(status, "", &error_body(status, code))
}

fn reply(status: u16, headers: &str, body: &str) -> Reply {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} Fake\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
    Reply { bytes: format!("{head}{headers}\r\n{body}").into_bytes(), last: false }
}
