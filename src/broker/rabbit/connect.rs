//! Connects to one of the hosts of `AMQP_URL`.
//!
//! A round tries each host once. A name may have several addresses: each is an attempt of its own. A frozen server takes
//! TCP connections and never answers, so an attempt has a limit.
//!
//! `lapin` runs a connection in a thread of its own, and keeps it open if it is dropped while the broker owes an answer. Such
//! a connection would go on to receive messages that no handler gets. So we keep its socket and close that.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Deref;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_rs::{Runtime, TokioRuntime};
use lapin::tcp::{RustlsConnector, TLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::address::TCP_CONNECT_TIMEOUT_MS;
use super::error::{CONNECT, RabbitError, within};
use super::hosts::Hosts;
use super::readable_stream::{self, Inner, Mended, Readable, ReadableRuntime, readable};
use super::{CLOSE_TIMEOUT, RabbitSettings, SUCCESS};
use crate::telemetry::events;
use crate::tls::TlsClient;

/// TCP, TLS and the AMQP handshake together, to an only address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The same, if there is another address to try.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_secs(5);
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// One round. `role` is shown in the broker's list of connections.
pub(super) async fn connect(
    settings: &RabbitSettings,
    hosts: &mut Hosts,
    role: &'static str,
) -> Result<OpenConnection, RabbitError> {
    connect_mending(settings, hosts, role, Mended::default()).await
}

/// Tells of each message that had to be made readable.
pub(super) async fn connect_mending(
    settings: &RabbitSettings,
    hosts: &mut Hosts,
    role: &'static str,
    mended: Mended,
) -> Result<OpenConnection, RabbitError> {
    let mut failures = Vec::new();
    for _ in 0..hosts.count() {
        match connect_to_host(settings, hosts, role, &mended).await {
            Ok(connection) => {
                for (host, error) in &failures {
                    if hosts.may_report(*host) {
                        events::broker_host_failed(role, &hosts.place_of(*host), error);
                    }
                }
                return Ok(connection);
            }
            Err(error) => {
                failures.push((hosts.number(), error));
                hosts.skip();
            }
        }
    }
    Err(RabbitError::of_round(failures))
}

async fn connect_to_host(
    settings: &RabbitSettings,
    hosts: &mut Hosts,
    role: &'static str,
    mended: &Mended,
) -> Result<OpenConnection, RabbitError> {
    let (name, port) = hosts.current().clone();
    let found = timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((name.as_str(), port))).await;
    let found = found.map_err(|_| RabbitError::TimedOut(CONNECT))?.map_err(unreached)?;
    let addresses = hosts.in_order(found);
    let is_only = settings.hosts.len() == 1 && addresses.len() == 1;
    let limit = if is_only { CONNECT_TIMEOUT } else { NEXT_ADDRESS_AFTER };
    let mut last_error = unreached(io::ErrorKind::AddrNotAvailable.into());
    for address in addresses {
        let uri = settings.uri_of(&name, port);
        match attempt(uri, settings.tls.as_ref(), address, limit, role, mended.clone()).await {
            Ok(connection) => {
                hosts.connected_to(address);
                return Ok(connection);
            }
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

fn unreached(error: io::Error) -> RabbitError {
    RabbitError::Failed { step: CONNECT, source: error.into() }
}

async fn attempt(
    uri: AMQPUri,
    tls: Option<&TlsClient>,
    address: SocketAddr,
    limit: Duration,
    role: &'static str,
    mended: Mended,
) -> Result<OpenConnection, RabbitError> {
    let tcp_limit = Duration::from_millis(uri.query.connection_timeout.unwrap_or(TCP_CONNECT_TIMEOUT_MS));
    let properties = ConnectionProperties::default().with_connection_name(format!("otpost {role}").into());
    // In place of the TLS of `lapin`: it has the roots and certificates of the settings.
    let tls = tls.cloned();
    let tokio = TokioRuntime::tokio_current();
    let guard = SocketGuard::default();
    let socket = Arc::clone(&guard.0);
    let connecting = Connection::connector(
        uri,
        readable_stream::runtime(),
        async move |uri: AMQPUri, _: Runtime<ReadableRuntime>| -> lapin::Result<Readable> {
            let stream = timeout(tcp_limit, Inner::connect(&tokio, address));
            let stream = socket.given_up.run_until_cancelled(stream).await.ok_or_else(given_up)?;
            let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            if let AsyncTcpStream::Plain(plain) = &stream {
                socket.keep(plain.get_ref().as_fd().try_clone_to_owned()?.into())?;
            }
            let host = &uri.authority.host;
            let stream = match (uri.scheme, &tls) {
                (AMQPScheme::AMQP, _) => stream,
                (AMQPScheme::AMQPS, Some(tls)) => {
                    let connector = RustlsConnector::from(tls.config());
                    stream.into_rustls(&connector, host).await.map_err(|error| tls.explained(error))?
                }
                (AMQPScheme::AMQPS, None) => stream.into_tls(host, TLSConfig::default()).await?,
            };
            Ok(readable(stream, mended.clone()))
        },
        properties,
    );
    let connection = within(CONNECT, limit, connecting).await?;
    Ok(OpenConnection { connection, socket: guard })
}

fn given_up() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

/// Failure changes nothing: the broker redelivers unsettled deliveries either way.
pub(super) async fn close(connection: &OpenConnection) {
    let _ = within("close", CLOSE_TIMEOUT, connection.close(SUCCESS, "OK".into())).await;
    connection.socket.shut();
}

/// Dropping it closes the socket, whatever `lapin` still waits for.
pub(super) struct OpenConnection {
    connection: Connection,
    socket: SocketGuard,
}

impl Deref for OpenConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

#[derive(Default)]
struct SocketGuard(Arc<SocketState>);

#[derive(Default)]
struct SocketState {
    given_up: CancellationToken,
    /// The socket of the connection once more.
    socket: Mutex<Option<TcpStream>>,
}

impl SocketGuard {
    fn shut(&self) {
        self.0.given_up.cancel();
        let socket = self.0.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(socket) = socket {
            // It fails if the peer has closed it.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        self.shut();
    }
}

impl SocketState {
    fn keep(&self, socket: TcpStream) -> io::Result<()> {
        let mut kept = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if self.given_up.is_cancelled() {
            return Err(given_up());
        }
        *kept = Some(socket);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;
    use crate::broker::Names;

    async fn silent() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        (listener, address)
    }

    fn uri(address: SocketAddr) -> AMQPUri {
        let url = format!("amqp://u:p@{address}/");
        RabbitSettings::new(&url, Names::new("t"), 1).expect("a valid URL").uri
    }

    /// Reads until the client closes the connection.
    async fn read_to_end(listener: &TcpListener) -> Vec<u8> {
        let accepted = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.expect("closed");
            bytes
        };
        timeout(Duration::from_secs(30), accepted).await.expect("closed in time")
    }

    #[tokio::test]
    async fn an_attempt_that_a_silent_server_does_not_answer_is_given_up_with_its_socket() {
        let (listener, address) = silent().await;
        let connected =
            attempt(uri(address), None, address, Duration::from_millis(300), "test", Mended::default()).await;
        assert!(matches!(connected, Err(RabbitError::TimedOut(CONNECT))));
        assert_eq!(read_to_end(&listener).await, b"AMQP\0\0\x09\x01");
    }

    #[tokio::test]
    async fn an_attempt_whose_caller_goes_away_closes_its_socket() {
        let (listener, address) = silent().await;
        let long = Duration::from_secs(600);
        let caller = tokio::spawn(async move {
            attempt(uri(address), None, address, long, "test", Mended::default()).await.map(drop)
        });
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.read_exact(&mut [0; 8]).await.expect("the protocol header");
        caller.abort();
        let closed = timeout(Duration::from_secs(30), stream.read(&mut [0; 8])).await;
        assert_eq!(closed.expect("closed in time").expect("closed"), 0);
    }

    #[tokio::test]
    async fn a_round_names_each_host_by_its_number() {
        let (listener, closed) = silent().await;
        drop(listener);
        let (_listener, silent) = silent().await;
        let url = format!("amqp://u:p@{closed},{silent}/?connection_timeout=1000");
        let settings = RabbitSettings::new(&url, Names::new("t"), 1).expect("a valid URL");
        let began = Instant::now();
        let error = connect(&settings, &mut settings.hosts(), "test").await.err().expect("no broker");
        assert!(began.elapsed() < CONNECT_TIMEOUT, "{:?}", began.elapsed());
        let text = "answers on no host: host 1 cannot be reached: connection refused; host 2 cannot be reached: \
                    no answer in time";
        assert_eq!((error.in_words().as_str(), error.to_string().as_str()), (text, text));
    }
}
