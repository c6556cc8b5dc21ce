//! A stand-in for SendGrid's v3 API on loopback. It records what it is asked, and answers as told.
//!
//! Plain blocking sockets on threads of their own, as the stand-in for Twilio has: it can break a connection at any byte
//! and does not depend on a paused clock. And a key of its own, to sign events with.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

pub const API_KEY: &str = "SG.fake-key-88cd";
pub const MESSAGE_ID: &str = "LRzXl_NHStOGhQ4kofSm_A";

/// How the fake answers a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A status, more header lines, and a body.
    Status(u16, &'static str, String),
    /// The request is read, and the connection closed.
    Close,
    /// The request is read, and nothing is said.
    Hang,
}

impl Answer {
    pub fn status(status: u16) -> Answer {
        Answer::Status(status, "", r#"{"errors":[{"message":"no","field":null,"help":null}]}"#.to_owned())
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Recorded {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

#[derive(Default)]
struct State {
    next: VecDeque<Answer>,
    requests: Vec<Recorded>,
    stopped: bool,
}

pub struct FakeSendGrid {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl FakeSendGrid {
    pub fn start() -> FakeSendGrid {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let fake = FakeSendGrid {
            address: listener.local_addr().expect("an address"),
            state: Arc::new(Mutex::new(State::default())),
        };
        let state = fake.state.clone();
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                if lock(&state).stopped {
                    return;
                }
                let state = state.clone();
                thread::spawn(move || serve(&connection, &state));
            }
        });
        fake
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers the next requests so, in order.
    pub fn next(&self, answers: impl IntoIterator<Item = Answer>) {
        lock(&self.state).next.extend(answers);
    }

    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.state).requests.clone()
    }

    /// The e-mails that were handed over.
    pub fn mails(&self) -> Vec<Recorded> {
        self.requests().into_iter().filter(|request| request.method == "POST").collect()
    }
}

impl Drop for FakeSendGrid {
    fn drop(&mut self) {
        lock(&self.state).stopped = true;
        // Wakes the listener up.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn serve(connection: &TcpStream, state: &Mutex<State>) {
    let _ = connection.set_read_timeout(Some(Duration::from_secs(30)));
    let mut reader = BufReader::new(connection);
    while let Some(request) = read_request(&mut reader) {
        let normal = normal(&request);
        let answer = {
            let mut state = lock(state);
            state.requests.push(request);
            state.next.pop_front().unwrap_or(normal)
        };
        let Answer::Status(status, headers, body) = answer else {
            if matches!(answer, Answer::Hang) {
                let _ = reader.read(&mut [0]);
            }
            return;
        };
        let length = body.len();
        let text = format!("HTTP/1.1 {status} Fake\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        if (&*connection).write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// What SendGrid would say.
fn normal(request: &Recorded) -> Answer {
    let known = request.headers.get("authorization") == Some(&format!("Bearer {API_KEY}"));
    match (request.method.as_str(), request.path.as_str()) {
        _ if !known => Answer::status(401),
        ("POST", "/v3/mail/send") => {
            Answer::Status(202, "X-Message-Id: LRzXl_NHStOGhQ4kofSm_A\r\n", String::new())
        }
        ("GET", "/v3/scopes") => {
            Answer::Status(200, "", r#"{"scopes":["alerts.read","mail.send"]}"#.to_owned())
        }
        _ => Answer::status(404),
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
    let (method, path) = lines.first()?.strip_suffix(" HTTP/1.1")?.split_once(' ')?;
    let header = |line: &String| line.split_once(':').map(|(k, v)| (k.to_lowercase(), v.trim().to_owned()));
    let headers: HashMap<_, _> = lines[1..].iter().filter_map(header).collect();
    let length = headers.get("content-length").map_or(Some(0), |length| length.parse().ok())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Recorded { method: method.to_owned(), path: path.to_owned(), headers, body })
}

/// Signs events as SendGrid does.
pub struct EventKey(EcdsaKeyPair);

impl EventKey {
    pub fn fresh() -> EventKey {
        EventKey(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("chance"))
    }

    /// As SendGrid's settings page shows it.
    pub fn public(&self) -> String {
        use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().expect("a public key");
        BASE64_STANDARD.encode(der.as_ref())
    }

    pub fn sign(&self, timestamp: &str, body: &[u8]) -> String {
        let signed = [timestamp.as_bytes(), body].concat();
        BASE64_STANDARD.encode(self.0.sign(&SystemRandom::new(), &signed).expect("chance").as_ref())
    }
}
