//! A fake of a vendor's HTTP API on loopback. It records requests, and every answer is scripted.

use std::collections::VecDeque;
use std::io::{BufReader, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fake_http::{Listener, Recorded, read_request};

#[derive(Clone, Debug)]
pub enum Answer {
    /// Status, further header lines, and body.
    Status(u16, &'static str, String),
    /// A body that ends before its announced length.
    Cut(u16, String),
    /// The request is read, and the connection closed.
    Close,
}

#[derive(Default)]
struct State {
    next: VecDeque<Answer>,
    requests: Vec<Recorded>,
}

pub struct FakeVendor {
    listener: Listener,
    state: Arc<Mutex<State>>,
}

impl FakeVendor {
    /// Answers with `normal` unless another answer is scripted.
    pub fn start(normal: Answer) -> FakeVendor {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let serve = move |connection: &TcpStream| serve(connection, &shared, &normal);
        FakeVendor { listener: Listener::start(serve), state }
    }

    pub fn base_url(&self) -> String {
        self.listener.base_url()
    }

    pub fn next(&self, answer: Answer) {
        lock(&self.state).next.push_back(answer);
    }

    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.state).requests.clone()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(connection: &TcpStream, state: &Mutex<State>, normal: &Answer) {
    let mut reader = BufReader::new(connection);
    while let Some(request) = read_request(&mut reader) {
        let answer = {
            let mut state = lock(state);
            state.requests.push(request);
            state.next.pop_front().unwrap_or_else(|| normal.clone())
        };
        let (status, headers, body, missing) = match answer {
            Answer::Status(status, headers, body) => (status, headers, body, 0),
            Answer::Cut(status, body) => (status, "", body, 100),
            Answer::Close => return,
        };
        let length = body.len() + missing;
        let text = format!("HTTP/1.1 {status} Fake\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        if (&*connection).write_all(text.as_bytes()).is_err() || missing > 0 {
            return;
        }
    }
}
