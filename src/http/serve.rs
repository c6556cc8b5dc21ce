//! Takes connections of HTTP/1.1, with bounds on what comes before anybody knows who it is.
//!
//! A head that is too long, or has too many lines, is answered with a bare 431: no route has seen it.

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

/// The longest request line and headers together: a token and a browser's cookies fit in several times.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Lines of a head.
const HEADERS_MAX: usize = 100;
/// What is read at once of whatever comes. A body may be longer.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// When the first head of a connection must be there.
const FIRST_HEAD_WITHIN: Duration = Duration::from_secs(30);
/// When a further one must be. It counts from the answer before, so it is longer than proxies keep an idle connection:
/// one that we close while a request is on its way there would be an error to somebody.
const NEXT_HEAD_WITHIN: Duration = Duration::from_secs(630);

/// Answers until told to stop, and then finishes what was begun.
pub async fn serve(
    mut listener: TcpListener,
    router: Router,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let service = TowerToHyperService::new(router);
    let connections = TaskTracker::new();
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            // It waits out what fails, as where no more files may be open.
            taken = Listener::accept(&mut listener) => taken,
        };
        connections.spawn(answer(stream, peer, service.clone(), stop.clone()));
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}

/// Answers one connection to its end.
async fn answer(
    stream: TcpStream,
    peer: SocketAddr,
    service: TowerToHyperService<Router>,
    stop: CancellationToken,
) {
    let asked = Arc::new(AtomicBool::new(false));
    let has_asked = asked.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        asked.store(true, Ordering::Relaxed);
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
    let silent = async {
        tokio::time::sleep(FIRST_HEAD_WITHIN).await;
        if has_asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let stopped = async {
        tokio::select! {
            () = silent => {}
            () = stop.cancelled() => {}
        }
    };
    tokio::select! {
        // What fails is the client's end of it: nobody is there to be told.
        _ = connection.as_mut() => return,
        () = stopped => {}
    }
    if stop.is_cancelled() {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}
