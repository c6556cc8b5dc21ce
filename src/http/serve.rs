//! Accepts HTTP/1.1 connections, with bounds on what an unauthenticated client can send, hold and leave unread.
//!
//! A request head that is too long or has too many fields is answered with a bare 431, before any route.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection_io::{ReportingBody, ReportingStream};
use super::connections::{Connection, ConnectionLimits, Connections, WARNING_EVERY};
use crate::telemetry::events;

/// Request line and header fields together: the longest token, and as much for the cookies of a browser.
pub(super) const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields of one request.
const HEADERS_MAX: usize = 100;
/// The time between two looks for connections whose wait has ended.
const OVERDUE_EVERY: Duration = Duration::from_secs(1);
/// The wait after an error of `accept` that concerns the process, such as too many open files.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);
/// During a drain: the wait for a client that has sent a part of a request, or leaves an answer unread.
const DRAIN_WAIT: Duration = Duration::from_secs(1);

/// Serves until `shutdown`, then finishes the requests in flight.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let service = TowerToHyperService::new(router);
    let connections = Connections::new(limits);
    let tasks = TaskTracker::new();
    let mut overdue = interval(OVERDUE_EVERY);
    let (mut accepted, mut warned) = (None, None::<Instant>);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            _ = overdue.tick() => connections.close_overdue(),
            () = connections.room(), if accepted.is_some() => {
                let Some((stream, peer)) = accepted.take() else { continue };
                let connection = connections.open();
                tasks.spawn(serve_connection(stream, peer, service.clone(), connection, shutdown.clone()));
            }
            accept = listener.accept(), if accepted.is_none() => match accept {
                Ok(stream) => accepted = Some(stream),
                Err(error) => {
                    let is_ours = !is_of_the_connection(&error);
                    let is_logged = is_ours && warned.is_none_or(|at| at.elapsed() >= WARNING_EVERY);
                    events::accept_failed(&error, is_logged);
                    if is_logged {
                        warned = Some(Instant::now());
                    }
                    if is_ours {
                        connections.close_one();
                        sleep(ACCEPT_AGAIN_AFTER).await;
                    }
                }
            },
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
    Ok(())
}

/// The client has gone before its connection was accepted.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

async fn serve_connection(
    stream: TcpStream,
    peer: SocketAddr,
    service: TowerToHyperService<Router>,
    connection: Arc<Connection>,
    shutdown: CancellationToken,
) {
    // A connection without a byte costs no buffers.
    tokio::select! {
        _ = stream.readable() => {}
        () = connection.closed() => return,
        () = shutdown.cancelled() => return,
    }
    let respond = service_fn(|mut request: Request<Incoming>| {
        connection.request_began();
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(connection.clone());
        let response = service.call(request);
        let connection = connection.clone();
        async {
            Ok::<_, std::convert::Infallible>(
                response.await?.map(|body| ReportingBody::new(body, connection)),
            )
        }
    });
    let stream = TokioIo::new(ReportingStream::new(stream, connection.clone()));
    let mut server = Box::pin(
        http1::Builder::new()
            .header_read_timeout(None)
            .max_headers(HEADERS_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(stream, respond),
    );
    tokio::select! {
        // An error means that the client is gone.
        _ = server.as_mut() => return,
        () = connection.closed() => return,
        () = shutdown.cancelled() => server.as_mut().graceful_shutdown(),
    }
    loop {
        tokio::select! {
            _ = server.as_mut() => return,
            () = connection.closed() => return,
            () = sleep(DRAIN_WAIT) => if connection.has_waited(DRAIN_WAIT) { return },
        }
    }
}
