//! Bounds on connections before authentication: size and time of the request head, idle time, unread answers.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ConnectInfo;
use axum::routing::{any, get};
use otpost::http::ConnectionLimits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(super) const LIMITS: ConnectionLimits = ConnectionLimits {
    connections_max: 1_000,
    bytes_max: 32 * 1024 * 1024,
    gives_way_after: Duration::from_millis(100),
};
/// A complete request.
pub(super) const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const LONG_ANSWER: usize = 256 * 1024;

/// A server on a port of its own, until the guard is dropped.
pub(super) async fn serve(router: Router, limits: ConnectionLimits) -> (std::net::SocketAddr, DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let stop = CancellationToken::new();
    tokio::spawn(otpost::http::serve(listener, router, limits, stop.clone()));
    (address, stop.drop_guard())
}

/// Answers with the peer address, after the whole body.
fn router() -> Router {
    let answer_peer =
        async |ConnectInfo(peer): ConnectInfo<std::net::SocketAddr>, _: Bytes| format!("<{}>", peer.ip());
    let long = get(async || vec![b'x'; LONG_ANSWER]);
    Router::new().route("/", any(answer_peer)).route("/long", long)
}

/// A client connection to a server of its own.
async fn connected() -> (TcpStream, DropGuard) {
    let (address, stop) = serve(router(), LIMITS).await;
    (connect(address).await, stop)
}

pub(super) async fn connect(address: std::net::SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(address).await.expect("it listens");
    // A paused clock runs on while the kernel holds back small packets.
    connection.set_nodelay(true).expect("an open socket");
    connection
}

pub(super) async fn send(connection: &mut TcpStream, text: &str) {
    connection.write_all(text.as_bytes()).await.expect("sent");
}

/// A request with a header field of this length.
fn padded(bytes: usize) -> String {
    format!("GET / HTTP/1.1\r\nhost: a\r\nx-padding: {}\r\n\r\n", "p".repeat(bytes))
}

/// Reads until `text` has come or the connection is closed.
pub(super) async fn read_until(connection: &mut TcpStream, text: &str) -> String {
    let mut read = String::new();
    let mut buffer = [0; 4096];
    while !read.contains(text) {
        match connection.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => read.push_str(std::str::from_utf8(&buffer[..count]).expect("text")),
        }
    }
    read
}

/// The time until the server closes the connection.
async fn closed_after(connection: &mut TcpStream) -> Duration {
    let began = Instant::now();
    read_until(connection, "never sent").await;
    began.elapsed()
}

#[tokio::test]
async fn a_request_head_is_bounded_in_size_and_fields() {
    let many: String = (0..200).map(|nth| format!("x-{nth}: y\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n");
    let long_path = format!("GET /?{} HTTP/1.1\r\nhost: a\r\n\r\n", "p".repeat(40_000));
    for (head, expected) in [
        (padded(100), "HTTP/1.1 200"),
        (padded(16_000), "HTTP/1.1 200"),
        (padded(17_000), "HTTP/1.1 431"),
        (padded(100_000), "HTTP/1.1 431"),
        (padded(1_000_000), "HTTP/1.1 431"),
        (many, "HTTP/1.1 431"),
        (long_path, "HTTP/1.1 431"),
    ] {
        let (mut connection, _stop) = connected().await;
        // The server may refuse and close before it has read everything.
        let _ = connection.write_all(head.as_bytes()).await;
        let answer = read_until(&mut connection, "\r\n\r\n").await;
        assert!(answer.starts_with(expected), "{} bytes: {answer}", head.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_is_closed() {
    for sent in ["", "G", "\r\n", "GET / HTTP/1.1\r\nhost: a\r\n"] {
        let (mut connection, _stop) = connected().await;
        send(&mut connection, sent).await;
        let closed_after = closed_after(&mut connection).await;
        assert!(closed_after <= Duration::from_secs(31), "{sent:?}: {closed_after:?}");
    }
}

/// Requests that end in different ways.
fn requests() -> Vec<String> {
    let post = |more: &str| format!("POST / HTTP/1.1\r\nhost: a\r\n{more}");
    vec![
        GET.to_owned(),
        "GET / HTTP/1.1\nhost: a\n\n".to_owned(),
        padded(15_000),
        post("content-length: 0\r\n\r\n"),
        post("content-length: 5\r\n\r\nhello"),
        post(&format!("content-length: 20000\r\n\r\n{}", "b".repeat(20_000))),
        post("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        post("transfer-encoding: chunked\r\n\r\n1\r\nh\r\n1;x=y\r\ni\r\n0\r\nx: y\r\n\r\n"),
        post("expect: 100-continue\r\ncontent-length: 5\r\n\r\nhello"),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_second_head_has_30_seconds_from_its_first_byte_however_the_first_request_ended() {
    for request in requests() {
        for is_pipelined in [true, false] {
            let (mut connection, _stop) = connected().await;
            let half = &padded(9_000)[..8_000];
            if is_pipelined {
                send(&mut connection, &format!("{request}{half}")).await;
                read_until(&mut connection, "<127.0.0.1>").await;
            } else {
                send(&mut connection, &request).await;
                read_until(&mut connection, "<127.0.0.1>").await;
                sleep(Duration::from_secs(100)).await;
                send(&mut connection, half).await;
            }
            let closed_after = closed_after(&mut connection).await;
            assert!(
                (Duration::from_secs(29)..=Duration::from_secs(31)).contains(&closed_after),
                "pipelined: {is_pipelined}, {closed_after:?}: {request:.80}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_byte_by_byte_has_no_more_time() {
    let (connection, _stop) = connected().await;
    let (mut reader, mut writer) = connection.into_split();
    let began = Instant::now();
    tokio::spawn(async move {
        for byte in padded(1_000).bytes() {
            if writer.write_all(&[byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_secs(3)).await;
        }
    });
    assert!(!matches!(reader.read(&mut [0; 64]).await, Ok(1..)), "closed without an answer");
    assert!(began.elapsed() <= Duration::from_secs(31), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_be_idle_longer_between_requests_than_proxies_keep_it() {
    for request in requests() {
        let (mut connection, _stop) = connected().await;
        for parts in [1, 2, request.len().min(400)] {
            for part in request.as_bytes().chunks(request.len().div_ceil(parts)) {
                connection.write_all(part).await.expect("sent");
                tokio::task::yield_now().await;
            }
            let answer = read_until(&mut connection, "<127.0.0.1>").await;
            assert!(answer.contains("HTTP/1.1 200"), "{request:.80}: {answer}");
            sleep(Duration::from_secs(600)).await;
        }
        let closed_after = closed_after(&mut connection).await;
        assert!((20..=31).contains(&closed_after.as_secs()), "{request:.80}: {closed_after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_its_answers_unread_is_closed() {
    const REQUESTS: usize = 400;
    for reads_a_little in [false, true] {
        let (mut connection, _stop) = connected().await;
        let pipelined = "GET /long HTTP/1.1\r\nhost: a\r\n\r\n".repeat(REQUESTS);
        send(&mut connection, &pipelined).await;
        let mut read = 0;
        for _ in 0..40 {
            sleep(Duration::from_secs(1)).await;
            if reads_a_little {
                read += connection.read(&mut [0; 16]).await.unwrap_or(0);
            }
        }
        let mut buffer = vec![0; 1 << 20];
        while let Ok(count @ 1..) = connection.read(&mut buffer).await {
            read += count;
        }
        assert!(read < REQUESTS * LONG_ANSWER / 2, "{read} bytes were still served");
    }
}
