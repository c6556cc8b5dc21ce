//! Shared parts of the fake providers: a listener on loopback, and the reading of a request.
//!
//! Blocking sockets on their own threads: a fake can break a connection at any byte, does not depend on a paused
//! clock, and does not run on the client's threads.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// A listening port, until it is dropped.
pub struct Listener {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
}

impl Listener {
    /// Serves each connection on its own thread.
    pub fn start(serve: impl Fn(&TcpStream) + Clone + Send + 'static) -> Listener {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let stopped = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stopped);
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let serve = serve.clone();
                thread::spawn(move || {
                    let _ = connection.set_read_timeout(Some(Duration::from_secs(30)));
                    let _ = connection.set_nodelay(true);
                    serve(&connection);
                });
            }
        });
        Listener { address, stopped }
    }

    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the listener up.
        let _ = TcpStream::connect(self.address);
    }
}

/// A received request.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    /// The decoded body, or the query of a GET.
    pub form: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Recorded {
    /// The only value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body. Panics if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// Reads one request. `None` at the end of the connection or at anything malformed.
pub fn read_request(reader: &mut BufReader<&TcpStream>) -> Option<Recorded> {
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
    Some(Recorded { method: method.to_owned(), path: path.to_owned(), headers, form, body })
}
