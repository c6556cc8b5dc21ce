//! Many clients that hold connections and memory, beside one that wants an answer.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use otpost::http::ConnectionLimits;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connections::{GET, LIMITS, connect, read_until, send, serve};
use super::{TestServer, VERIFY_SERVICE, service};

/// The API with a slow route.
fn router() -> Router {
    let slow = get(async || {
        sleep(Duration::from_secs(5)).await;
        "slow"
    });
    TestServer::start().router.clone().route("/slow", slow)
}

fn post(length: usize, sent: usize) -> String {
    let token = service();
    format!(
        "POST {VERIFY_SERVICE} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-type: \
         application/json\r\ncontent-length: {length}\r\n\r\n{}",
        " ".repeat(sent)
    )
}

/// A request with a body of 16 KiB, on a connection of its own.
async fn ask(address: std::net::SocketAddr) -> String {
    let mut connection = connect(address).await;
    send(&mut connection, &post(16 * 1024, 16 * 1024)).await;
    read_until(&mut connection, "}").await
}

/// Sends, and ignores a refusal.
async fn try_send(connection: &mut TcpStream, text: &str) {
    let _ = connection.write_all(text.as_bytes()).await;
}

#[tokio::test(start_paused = true)]
async fn clients_that_only_hold_connections_keep_nobody_out() {
    let half_head = "GET / HTTP/1.1\r\nhost: a\r\n";
    let unread = "GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n".repeat(200);
    for held in ["", half_head, GET, &format!("{GET}{half_head}"), &post(100, 50), &unread] {
        let limits = ConnectionLimits { connections_max: 8, ..LIMITS };
        let (address, _stop) = serve(router(), limits).await;
        let mut crowd = Vec::new();
        for _ in 0..30 {
            let mut connection = connect(address).await;
            send(&mut connection, held).await;
            sleep(Duration::from_millis(10)).await;
            crowd.push(connection);
        }
        let answer = timeout(Duration::from_secs(1), ask(address)).await;
        let answer = answer.unwrap_or_else(|_| panic!("no answer beside {held:.60}"));
        assert!(answer.starts_with("HTTP/1.1 400"), "{held:.60}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_connection_that_has_waited_longest_gives_way_and_none_in_use() {
    let limits = ConnectionLimits { connections_max: 4, ..LIMITS };
    let (address, _stop) = serve(router(), limits).await;
    let (mut works, mut of_proxy) = (connect(address).await, connect(address).await);
    send(&mut works, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    for _ in 0..40 {
        let mut idle = connect(address).await;
        send(&mut idle, "G").await;
        sleep(Duration::from_millis(50)).await;
        // Each time it has waited less than the others.
        send(&mut of_proxy, "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(read_until(&mut of_proxy, "ok\n").await.ends_with("ok\n"));
        drop(idle);
    }
    assert!(read_until(&mut works, "slow").await.ends_with("slow"));
}

#[tokio::test(start_paused = true)]
async fn a_new_client_waits_while_every_connection_works() {
    let limits = ConnectionLimits { connections_max: 2, ..LIMITS };
    let (address, _stop) = serve(router(), limits).await;
    let mut working = Vec::new();
    for _ in 0..2 {
        let mut connection = connect(address).await;
        send(&mut connection, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
        working.push(connection);
    }
    sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    assert!(ask(address).await.starts_with("HTTP/1.1 400"));
    assert!((4..=6).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    for mut connection in working {
        assert!(read_until(&mut connection, "slow").await.ends_with("slow"));
    }
}

/// All bytes that clients held are free again.
async fn expect_room_for_four_bodies(address: std::net::SocketAddr) {
    let mut unfinished = Vec::new();
    for _ in 0..4 {
        let mut connection = connect(address).await;
        send(&mut connection, &post(16 * 1024, 16 * 1024 - 1)).await;
        sleep(Duration::from_millis(10)).await;
        unfinished.push(connection);
    }
    for mut connection in unfinished {
        send(&mut connection, " ").await;
        let answer = read_until(&mut connection, "}").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn heads_and_bodies_in_flight_are_bounded_and_the_longest_unfinished_gives_way() {
    let limits = ConnectionLimits { bytes_max: 256 * 1024, ..LIMITS };
    let long_head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "p".repeat(15_000));
    let chunk = "1\r\n \r\n".repeat(16_000);
    let chunked = post(0, 0).replace("content-length: 0", "transfer-encoding: chunked") + &chunk;
    for held in [&long_head, &format!("{GET}{long_head}"), &post(16 * 1024, 16 * 1024 - 1), &chunked] {
        let (address, _stop) = serve(router(), limits).await;
        let mut crowd = Vec::new();
        for _ in 0..40 {
            let mut connection = connect(address).await;
            try_send(&mut connection, held).await;
            sleep(Duration::from_millis(10)).await;
            crowd.push(connection);
        }
        assert!(ask(address).await.starts_with("HTTP/1.1 400"), "{held:.60}");
        let mut closed = 0;
        for mut connection in crowd {
            let answer = timeout(Duration::from_millis(1), read_until(&mut connection, "never sent")).await;
            if let Ok(answer) = answer {
                closed += 1;
                let is_body = held.starts_with("POST");
                assert!(
                    !is_body || answer.contains("HTTP/1.1 503") && answer.contains("retry-after: 1"),
                    "{answer}"
                );
            }
        }
        assert!((20..40).contains(&closed), "{closed} gave way to others: {held:.60}");
        expect_room_for_four_bodies(address).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_no_other_can_give_way_to_is_refused_for_a_while() {
    let limits = ConnectionLimits { bytes_max: 1024, ..LIMITS };
    let (address, _stop) = serve(router(), limits).await;
    let answer = ask(address).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("retry-after: 1") && answer.contains("\"overloaded\""), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_body_was_refused_is_closed_also_if_the_rest_of_the_body_is_there() {
    let limits = ConnectionLimits { bytes_max: 1024, ..LIMITS };
    let (address, _stop) = serve(router(), limits).await;
    let mut connection = connect(address).await;
    send(&mut connection, &format!("{}{GET}", post(5_000, 5_000))).await;
    let answer = read_until(&mut connection, "never sent").await;
    assert!(answer.contains("\"overloaded\"") && answer.contains("connection: close"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_body_must_be_complete_within_10_seconds() {
    let chunked = post(0, 0).replace("content-length: 0", "transfer-encoding: chunked");
    let expect = post(100, 0).replace("\r\n\r\n", "\r\nexpect: 100-continue\r\n\r\n");
    for (sent, drip) in [(post(1_000, 10), " "), (chunked, "1\r\n \r\n"), (expect, " "), (post(5, 0), "")] {
        let (address, _stop) = serve(router(), LIMITS).await;
        let mut connection = connect(address).await;
        send(&mut connection, &sent).await;
        let began = Instant::now();
        let (mut reader, mut writer) = connection.split();
        let dripping = async {
            loop {
                sleep(Duration::from_secs(1)).await;
                let _ = writer.write_all(drip.as_bytes()).await;
            }
        };
        let mut answer = Vec::new();
        tokio::select! {
            _ = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut answer) => {}
            () = dripping => {}
        }
        let answer = String::from_utf8(answer).expect("text");
        assert!(answer.contains("HTTP/1.1 408") && answer.contains("\"body_too_slow\""), "{answer}");
        assert!((9..=11).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_clients_that_only_wait() {
    let unread = "GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n".repeat(400);
    for sent in ["", "GET / HT", &format!("{GET}GET / HT"), GET, &post(5, 3), &unread] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let stop = CancellationToken::new();
        let server = tokio::spawn(otpost::http::serve(listener, router(), LIMITS, stop.clone()));
        let mut connection = connect(address).await;
        send(&mut connection, sent).await;
        sleep(Duration::from_secs(2)).await;
        let began = Instant::now();
        stop.cancel();
        server.await.expect("no panic").expect("served");
        assert!(began.elapsed() <= Duration::from_secs(2), "{sent:.40}: {:?}", began.elapsed());
    }
}
