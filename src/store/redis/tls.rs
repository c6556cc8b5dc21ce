//! A connection over our own TLS. The client's own replaces the system's roots by those of a file, and reads them again for each
//! connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_ok;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::socket2::SockRef;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisResult};
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::Address;
use super::sentinel_view::View;
use crate::tls::TlsClient;

/// A connection, with the task that reads its answers.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) connection: MultiplexedConnection,
    /// The view of the Sentinels that led to this server.
    pub(super) view: Option<Arc<View>>,
    /// `None`: the connection ends its own.
    _reader: Option<Arc<Reader>>,
}

impl Open {
    /// Made by this view of the Sentinels.
    pub(super) fn by(self, view: Arc<View>) -> Open {
        Open { view: Some(view), ..self }
    }
}

/// Ends the task with the last copy of the connection: it may wait for the answers of a frozen server.
struct Reader(AbortHandle);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl From<MultiplexedConnection> for Open {
    fn from(connection: MultiplexedConnection) -> Open {
        Open { connection, view: None, _reader: None }
    }
}

/// Connects and logs in. The caller bounds the time.
pub(super) async fn connect(
    address: &Address,
    login: &RedisConnectionInfo,
    tls: &TlsClient,
    user_timeout: Duration,
    config: AsyncConnectionConfig,
) -> RedisResult<Open> {
    let stream = secured(address, tls, user_timeout).await?;
    let (connection, reader) = MultiplexedConnection::new_with_config(login, stream, config).await?;
    let reader = tokio::spawn(reader).abort_handle();
    Ok(Open { connection, view: None, _reader: Some(Arc::new(Reader(reader))) })
}

async fn secured(
    (host, port): &Address,
    tls: &TlsClient,
    user_timeout: Duration,
) -> io::Result<TlsStream<TcpStream>> {
    let addresses = lookup_host((host.as_str(), *port)).await?;
    let attempts: Vec<_> = addresses.map(|address| Box::pin(reach(address, user_timeout))).collect();
    if attempts.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let (stream, _) = select_ok(attempts).await?;
    let name = ServerName::try_from(host.clone()).map_err(|_| io::ErrorKind::InvalidInput)?;
    TlsConnector::from(tls.config()).connect(name, stream).await.map_err(|error| tls.explained(error))
}

async fn reach(address: SocketAddr, user_timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    SockRef::from(&stream).set_tcp_user_timeout(Some(user_timeout))?;
    Ok(stream)
}
