//! A fake of SendGrid's v3 API on loopback. It records requests, and its answers can be scripted.
//!
//! [`EventKey`] signs events as SendGrid does.

use std::collections::VecDeque;
use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::fake_http::{Listener, Recorded, read_request};

pub const API_KEY: &str = "SG.fake-key-88cd";
pub const MESSAGE_ID: &str = "LRzXl_NHStOGhQ4kofSm_A";

#[derive(Clone, Debug)]
pub enum Answer {
    /// Status, further header lines, and body.
    Status(u16, &'static str, String),
    /// The request is read, and the connection closed.
    Close,
    /// The request is read, and never answered.
    Hang,
}

impl Answer {
    pub fn status(status: u16) -> Answer {
        Answer::Status(status, "", r#"{"errors":[{"message":"no","field":null,"help":null}]}"#.to_owned())
    }
}

#[derive(Default)]
struct State {
    next: VecDeque<Answer>,
    requests: Vec<Recorded>,
}

pub struct FakeSendGrid {
    listener: Listener,
    state: Arc<Mutex<State>>,
}

impl FakeSendGrid {
    pub fn start() -> FakeSendGrid {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        FakeSendGrid { listener: Listener::start(move |connection| serve(connection, &shared)), state }
    }

    pub fn base_url(&self) -> String {
        self.listener.base_url()
    }

    /// Scripts the answers to the next requests, one each.
    pub fn next(&self, answers: impl IntoIterator<Item = Answer>) {
        lock(&self.state).next.extend(answers);
    }

    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.state).requests.clone()
    }

    /// The requests to send an e-mail.
    pub fn mails(&self) -> Vec<Recorded> {
        self.requests().into_iter().filter(|request| request.method == "POST").collect()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn serve(connection: &TcpStream, state: &Mutex<State>) {
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

/// The answer of the real API.
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

/// A key that signs events as SendGrid does.
pub struct EventKey(EcdsaKeyPair);

impl EventKey {
    pub fn fresh() -> EventKey {
        EventKey(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("randomness"))
    }

    /// As SendGrid's settings page shows it.
    pub fn public(&self) -> String {
        use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().expect("a public key");
        BASE64_STANDARD.encode(der.as_ref())
    }

    pub fn sign(&self, timestamp: &str, body: &[u8]) -> String {
        let signed = [timestamp.as_bytes(), body].concat();
        BASE64_STANDARD.encode(self.0.sign(&SystemRandom::new(), &signed).expect("randomness").as_ref())
    }
}
