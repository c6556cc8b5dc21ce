//! A TCP proxy in front of one server, that delays, swallows, cuts and refuses.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::servers::free_ports;

/// The treatment of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Open,
    /// Each piece is delayed by this.
    Slow(Duration),
    /// Nothing is relayed and nothing is closed, as with a pulled cable.
    Black,
    /// The port is closed.
    Shut,
}

/// A proxy to one address. Dropping it cuts everything.
pub struct Proxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    state: watch::Sender<State>,
    /// Bytes that a client wrote while nothing was relayed.
    swallowed: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    way: Way,
    /// Connections of earlier generations are cut.
    generation: u64,
}

impl Proxy {
    pub async fn start(upstream: SocketAddr) -> Proxy {
        // Not a port of the kernel's choice: another process could get it while this one is closed.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_ports::<1>()[0]));
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let state = watch::Sender::new(State { way: Way::Open, generation: 0 });
        let shared = Arc::new(Shared { state, swallowed: AtomicU64::new(0) });
        let accepting = tokio::spawn(accept(listener, address, upstream, Arc::clone(&shared)));
        Proxy { address, shared, accepting }
    }

    /// Cuts every connection. Later ones work.
    pub fn cut(&self) {
        self.shared.state.send_modify(|state| state.generation += 1);
    }

    /// From now on. After `Black` or `Shut` the old connections are gone.
    pub fn set(&self, way: Way) {
        self.shared.swallowed.store(0, Ordering::Relaxed);
        self.shared.state.send_modify(|state| {
            if way == Way::Shut || state.way == Way::Black {
                state.generation += 1;
            }
            state.way = way;
        });
    }

    /// The bytes that clients have written since nothing was relayed.
    pub fn swallowed(&self) -> u64 {
        self.shared.swallowed.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

/// Listens while the way is not shut: a port without a listener refuses, as that of a server that is down.
async fn accept(listener: TcpListener, address: SocketAddr, upstream: SocketAddr, shared: Arc<Shared>) {
    let mut changes = shared.state.subscribe();
    let mut listener = Some(listener);
    loop {
        let Some(listening) = &listener else {
            if changes.wait_for(|state| state.way != Way::Shut).await.is_err() {
                return;
            }
            listener = TcpListener::bind(address).await.ok();
            if listener.is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            continue;
        };
        tokio::select! {
            accepted = listening.accept() => {
                if let Ok((client, _)) = accepted {
                    tokio::spawn(relay(client, upstream, Arc::clone(&shared)));
                }
            }
            shut = changes.wait_for(|state| state.way == Way::Shut) => match shut.is_ok() {
                true => listener = None,
                false => return,
            },
        }
    }
}

async fn relay(client: TcpStream, upstream: SocketAddr, shared: Arc<Shared>) {
    let mut changes = shared.state.subscribe();
    let generation = changes.borrow().generation;
    let relayed = async {
        let Ok(server) = TcpStream::connect(upstream).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let ((client_in, client_out), (server_in, server_out)) = (client.into_split(), server.into_split());
        tokio::select! {
            () = copy(client_in, server_out, &shared, true) => {}
            () = copy(server_in, client_out, &shared, false) => {}
        }
    };
    tokio::select! {
        () = relayed => {}
        _ = changes.wait_for(|state| state.generation != generation) => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    shared: &Shared,
    from_client: bool,
) {
    let mut state = shared.state.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let way = state.borrow().way;
        match way {
            Way::Slow(late) => tokio::time::sleep(late).await,
            Way::Black => {
                let swallowed = if from_client { count as u64 } else { 0 };
                shared.swallowed.fetch_add(swallowed, Ordering::Relaxed);
                // It ends with the connection, when the way opens again.
                let _ = state.wait_for(|state| state.way != Way::Black).await;
                return;
            }
            Way::Open | Way::Shut => {}
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
