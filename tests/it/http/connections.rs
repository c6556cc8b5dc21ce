//! Bounds on connections before authentication: size of the request head, and idle time.

use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A server that answers with the peer address, and a client connection to it.
async fn connected() -> (TcpStream, DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let answer_peer = async |ConnectInfo(peer): ConnectInfo<std::net::SocketAddr>| format!("<{}>", peer.ip());
    let stop = CancellationToken::new();
    let router = Router::new().route("/", get(answer_peer));
    tokio::spawn(otpost::http::serve(listener, router, stop.clone()));
    (TcpStream::connect(address).await.expect("it listens"), stop.drop_guard())
}

/// A request with a header field of this length.
fn padded(bytes: usize) -> String {
    format!("GET / HTTP/1.1\r\nhost: a\r\nx-padding: {}\r\n\r\n", "p".repeat(bytes))
}

/// Reads until `text` has come or the connection is closed.
async fn read_until(connection: &mut TcpStream, text: &str) -> String {
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

#[tokio::test]
async fn a_request_head_is_bounded_in_size_and_fields() {
    let many: String = (0..200).map(|nth| format!("x-{nth}: y\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n");
    let long_path = format!("GET /?{} HTTP/1.1\r\nhost: a\r\n\r\n", "p".repeat(40_000));
    for (head, expected) in [
        (padded(100), "HTTP/1.1 200"),
        (padded(24_000), "HTTP/1.1 200"),
        (padded(40_000), "HTTP/1.1 431"),
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
    for sent in ["", "GET / HTTP/1.1\r\nhost: a\r\n"] {
        let (mut connection, _stop) = connected().await;
        connection.write_all(sent.as_bytes()).await.expect("sent");
        let began = Instant::now();
        assert_eq!(read_until(&mut connection, "\n").await, "", "{sent:?}");
        assert!(began.elapsed() <= Duration::from_secs(31), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_be_idle_longer_between_requests_than_proxies_keep_it() {
    let (mut connection, _stop) = connected().await;
    for _ in 0..2 {
        connection.write_all(padded(1).as_bytes()).await.expect("sent");
        let answer = read_until(&mut connection, "<127.0.0.1>").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    let began = Instant::now();
    assert_eq!(read_until(&mut connection, "\n").await, "");
    assert!(began.elapsed() <= Duration::from_secs(31), "{:?}", began.elapsed());
}
