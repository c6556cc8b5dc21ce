//! Many connections to the real binary: its memory, its descriptors, and other clients meanwhile.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::panic::catch_unwind;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::fake_sendgrid::EventKey;

const GET: &str = "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";
const WITHIN: Duration = Duration::from_secs(10);
const MIB: usize = 1024 * 1024;

/// `otpost dev` with a limit of open files. It is killed when dropped.
struct Process {
    child: Child,
    http: String,
    ops: String,
    log: Receiver<String>,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("bound").to_string()
}

impl Process {
    /// `limits` are commands of the shell.
    fn start(limits: &str) -> Process {
        let (http, ops) = (free_address(), free_address());
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("{limits}; exec \"$0\" dev"), env!("CARGO_BIN_EXE_otpost")])
            .env_clear()
            .env("HTTP_ADDR", &http)
            .env("OPS_ADDR", &ops)
            .env("LOG_FORMAT", "json")
            .env("SENDGRID_WEBHOOK_PUBLIC_KEY", EventKey::fresh().public())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let (sender, log) = channel();
        thread::spawn(move || lines.for_each(|line| drop(sender.send(line))));
        let process = Process { child, http, ops, log };
        process.until_logged("\"started\"");
        process
    }

    fn until_logged(&self, text: &str) {
        while !self.log.recv_timeout(WITHIN).expect("a log line").contains(text) {}
    }

    fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok()).expect("a number") * 1024
    }

    fn descriptor_limit(&self) -> String {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", self.child.id())).expect("it runs");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
        line.split_whitespace().nth(3).expect("a soft limit").to_owned()
    }

    /// The answers of the API, the probes and the metrics.
    fn expect_answers(&self) -> String {
        assert!(ask(&self.http, "/livez").ends_with("ok\n"));
        assert!(ask(&self.ops, "/readyz").ends_with("ok"));
        ask(&self.ops, "/metrics")
    }
}

fn ask(address: &str, path: &str) -> String {
    let mut connection = connect(address);
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer in time");
    answer
}

fn connect(address: &str) -> TcpStream {
    let connection = TcpStream::connect(address).expect("it listens");
    connection.set_read_timeout(Some(WITHIN)).expect("a time");
    connection.set_write_timeout(Some(Duration::from_millis(200))).expect("a time");
    connection
}

/// Opens connections that send this much each, as far as the server takes it.
fn crowd(address: &str, count: usize, sent: &[u8]) -> Vec<TcpStream> {
    let connections = (0..count).map(|_| connect(address));
    connections.inspect(|mut connection| drop(connection.write_all(sent))).collect()
}

#[test]
fn unfinished_heads_and_long_ones_leave_the_process_under_128_mib_and_others_are_served() {
    let fields: String = (0..95).map(|nth| format!("h{nth}: {}\r\n", "x".repeat(150))).collect();
    let before_a_body =
        format!("POST /api/v1/otp/verify HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n{fields}\r\n{{");
    let half_head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "p".repeat(16_000));
    for sent in [&half_head, &format!("{GET}{half_head}"), &before_a_body] {
        expect_under_128_mib(900, sent);
    }
}

/// A request head of this length in few fields.
fn long_head(bytes: usize, framing: &str) -> String {
    let padding = "p".repeat(bytes);
    format!("POST /api/v1/otp/verify HTTP/1.1\r\nhost: a\r\n{framing}\r\nx-padding: {padding}\r\n\r\n")
}

#[test]
fn long_heads_before_a_missing_body_or_trailer_leave_the_process_under_128_mib_and_others_are_served() {
    let trailer = format!("0\r\nx: {}", "t".repeat(16_000));
    // Refused as too long; close to the bound; a second buffer of the least size.
    for bytes in [31_000, 15_000, 7_000] {
        expect_under_128_mib(990, &long_head(bytes, "content-length: 9"));
        expect_under_128_mib(990, &(long_head(bytes, "transfer-encoding: chunked") + &trailer));
    }
}

#[track_caller]
fn expect_under_128_mib(count: usize, sent: &str) {
    let process = Process::start("true");
    let _crowd = crowd(&process.http, count, sent.as_bytes());
    process.expect_answers();
    let resident = process.resident_bytes();
    assert!(resident < 128 * MIB, "{} MiB: {sent:.80}", resident / MIB);
}

#[test]
fn a_burst_beyond_the_connections_is_answered_in_turn() {
    let process = Process::start("ulimit -n 256");
    let request =
        "POST /api/v1/otp/verify HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    for _ in 0..4 {
        for mut connection in crowd(&process.http, 300, request.as_bytes()) {
            let mut answer = String::new();
            let _ = connection.read_to_string(&mut answer);
            assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        }
    }
}

/// Sends requests for metrics without a pause and reads the answers, over connections that are opened again when closed.
/// Reports each round.
fn scrape(address: &str, count: usize, rounds: &Sender<()>, is_over: &AtomicBool) {
    let requests = "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n".repeat(100);
    let open = || {
        let connection = connect(address);
        connection.set_nonblocking(true).expect("an open socket");
        connection
    };
    let mut connections: Vec<_> = (0..count).map(|_| open()).collect();
    let mut buffer = vec![0; 1 << 16];
    let is_open = |tried: std::io::Result<usize>| match tried {
        Ok(count) => count > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    };
    while !is_over.load(Relaxed) {
        for connection in &mut connections {
            let is_written = is_open(connection.write(requests.as_bytes()));
            if !is_written || !is_open(connection.read(&mut buffer)) {
                *connection = open();
            }
        }
        let _ = rounds.send(());
    }
}

#[test]
fn probes_are_answered_while_many_clients_ask_for_metrics_without_a_pause() {
    let process = Process::start("true");
    let is_over = AtomicBool::new(false);
    let waits = thread::scope(|scope| {
        let (rounds, reports) = channel();
        for _ in 0..4 {
            let (ops, rounds, is_over) = (&process.ops, rounds.clone(), &is_over);
            scope.spawn(move || scrape(ops, 150, &rounds, is_over));
        }
        drop(rounds);
        // All connections have sent requests, and many have been opened again.
        assert_eq!(reports.iter().take(40).count(), 40);
        let probe = |address: &String| {
            let began = Instant::now();
            let is_answered = catch_unwind(|| ask(address, "/readyz").contains("\nok")).unwrap_or(false);
            (is_answered, began.elapsed())
        };
        let waits = [&process.ops, &process.http].repeat(3).into_iter().map(probe).collect::<Vec<_>>();
        is_over.store(true, Relaxed);
        waits
    });
    for (is_answered, wait) in waits {
        // Without bounds no probe was answered in 5 s. The crowd has most of the machine's time, and other tests the rest.
        assert!(is_answered && wait < Duration::from_secs(3), "{wait:?}");
    }
}

#[test]
fn unfinished_calls_to_a_webhook_leave_the_process_under_128_mib_and_others_are_served() {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
    let signed = format!(
        "x-twilio-email-event-webhook-signature: AAAA\r\nx-twilio-email-event-webhook-timestamp: {seconds}\r\n"
    );
    let whitespace = " ".repeat(MIB - 1).into_bytes();
    let chunks = "1\r\n \r\n".repeat(200_000).into_bytes();
    for headers in ["", &signed] {
        for (framing, body, count) in
            [("content-length: 1048576", &whitespace, 250), ("transfer-encoding: chunked", &chunks, 20)]
        {
            let process = Process::start("true");
            let head =
                format!("POST /webhooks/sendgrid/events HTTP/1.1\r\nhost: a\r\n{headers}{framing}\r\n\r\n");
            let _crowd = crowd(&process.http, count, &[head.as_bytes(), body].concat());
            process.expect_answers();
            let resident = process.resident_bytes();
            assert!(resident < 128 * MIB, "{headers:.9} {framing}: {} MiB", resident / MIB);
        }
    }
}

#[test]
fn idle_connections_leave_descriptors_for_the_api_the_probes_and_metrics() {
    let process = Process::start("ulimit -n 256");
    let _crowd = crowd(&process.http, 300, b"");
    let _of_ops = crowd(&process.ops, 60, b"GET ");
    let metrics = process.expect_answers();
    let closed = "otpost_http_connections_closed_total{reason=\"connections\"}";
    assert!(metrics.contains(closed) && !metrics.contains(&format!("{closed} 0\n")), "{metrics}");
    process.until_logged("http bound reached");
}

#[test]
fn connections_that_cannot_be_accepted_are_counted_and_logged() {
    // The least share of the API and the bound of the ops port are together more than this.
    let process = Process::start("ulimit -n 48");
    let _of_ops = crowd(&process.ops, 40, b"");
    let _crowd = crowd(&process.http, 40, b"");
    process.until_logged("http connection not accepted");
    let began = Instant::now();
    let metrics = process.expect_answers();
    assert!(!metrics.contains("otpost_http_accept_errors_total 0"), "{metrics}");
    assert!(began.elapsed() < WITHIN);
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_at_the_start() {
    let process = Process::start("ulimit -S -n 64; ulimit -H -n 300");
    assert_eq!(process.descriptor_limit(), "300");
}
