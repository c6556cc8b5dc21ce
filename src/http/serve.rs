//! Accepts HTTP/1.1 connections, with bounds on what an unauthenticated client can send.
//!
//! A request head that is too long or has too many fields is answered with a bare 431, before any route.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Request line and header fields together: several times a token and the cookies of a browser.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Header fields of one request.
const HEADERS_MAX: usize = 100;
/// The read buffer of a connection. A body may be longer.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// The time for the first request head of a connection.
const FIRST_HEAD_WITHIN: Duration = Duration::from_secs(30);
/// The time for a further head, counted from the previous response. It is longer than proxies keep idle connections:
/// closing a connection while a proxy sends a request on it would fail that request.
const NEXT_HEAD_WITHIN: Duration = Duration::from_secs(630);

/// Serves until `shutdown`, then finishes the requests in flight.
pub async fn serve(
    mut listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let service = TowerToHyperService::new(router);
    let connections = TaskTracker::new();
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            // Axum's `accept` waits and retries on errors, such as too many open files.
            accepted = Listener::accept(&mut listener) => accepted,
        };
        connections.spawn(serve_connection(stream, peer, service.clone(), shutdown.clone()));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    service: TowerToHyperService<Router>,
    shutdown: CancellationToken,
) {
    let has_request = Arc::new(AtomicBool::new(false));
    let request_seen = has_request.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        has_request.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(ConnectInfo(peer));
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(NEXT_HEAD_WITHIN)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let no_first_request = async {
        tokio::time::sleep(FIRST_HEAD_WITHIN).await;
        if request_seen.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let closing = async {
        tokio::select! {
            () = no_first_request => {}
            () = shutdown.cancelled() => {}
        }
    };
    tokio::select! {
        // An error means that the client is gone.
        _ = connection.as_mut() => return,
        () = closing => {}
    }
    if shutdown.is_cancelled() {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}
