//! A proxy that can cut its connections, fall silent, or change bytes on their way.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A TCP proxy to `upstream`. Dropping it cuts everything.
pub struct Proxy {
    pub address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    accepting: JoinHandle<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    /// Connections of earlier generations are cut.
    generation: u64,
    /// New connections are closed at once.
    refusing: bool,
}

impl Proxy {
    pub async fn start(upstream: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(watch::Sender::new(State { generation: 0, refusing: false }));
        let accepting = tokio::spawn(accept(listener, upstream, Arc::clone(&state)));
        Proxy { address, state, accepting }
    }

    /// Cuts every connection. Later ones work.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }

    /// Cuts every connection and takes no more until [`Proxy::resume`].
    pub fn refuse(&self) {
        self.state.send_modify(|state| *state = State { generation: state.generation + 1, refusing: true });
    }

    pub fn resume(&self) {
        self.state.send_modify(|state| state.refusing = false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, upstream: String, state: Arc<watch::Sender<State>>) {
    while let Ok((client, _)) = listener.accept().await {
        let now = *state.borrow();
        if now.refusing {
            continue;
        }
        let mut changes = state.subscribe();
        let upstream = upstream.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = forward(client, &upstream) => {}
                _ = changes.wait_for(|state| state.generation != now.generation) => {}
            }
        });
    }
}

async fn forward(client: TcpStream, upstream: &str) {
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    tokio::select! {
        () = copy(client_in, server_out) => {}
        () = copy(server_in, client_out) => {}
    }
}

/// A byte sequence that no client sends by itself; a `~` in it becomes a byte that is no UTF-8.
pub const UNREADABLE: &[u8] = b"unreadable~";

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let bytes = &mut buffer[..count];
        if let Some(at) = bytes.windows(UNREADABLE.len()).position(|window| window == UNREADABLE) {
            bytes[at + UNREADABLE.len() - 1] = 0xff;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
