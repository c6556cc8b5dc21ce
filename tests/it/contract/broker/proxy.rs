//! A proxy that can cut its connections, fall silent, speak for the broker, or change bytes on their way.

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

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct State {
    /// Connections of earlier generations are cut.
    generation: u64,
    /// New connections are closed at once.
    refusing: bool,
    /// Nothing passes, and nothing is cut.
    silent: bool,
    /// Nothing that a client writes passes.
    deaf: bool,
    /// The broker is said to block publishers.
    blocking: bool,
    /// The broker is said to refuse what older connections publish.
    nacking: bool,
}

/// `connection.blocked` with the reason `test`, and `connection.unblocked`: method frames on channel 0.
const BLOCKED: &[u8] = b"\x01\0\0\0\0\0\x09\0\x0a\0\x3c\x04test\xce";
const UNBLOCKED: &[u8] = b"\x01\0\0\0\0\0\x04\0\x0a\0\x3d\xce";

impl Proxy {
    pub async fn start(upstream: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(watch::Sender::new(State::default()));
        let accepting = tokio::spawn(accept(listener, upstream, Arc::clone(&state)));
        Proxy { address, state, accepting }
    }

    /// Cuts every connection. Later ones work.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }

    /// Cuts every connection and takes no more until [`Proxy::resume`].
    pub fn refuse(&self) {
        self.state.send_modify(|state| {
            state.generation += 1;
            state.refusing = true;
        });
    }

    /// Lets nothing pass, on old connections and new ones, until [`Proxy::resume`].
    pub fn hush(&self) {
        self.state.send_modify(|state| state.silent = true);
    }

    /// Holds what clients write, as a broker under an alarm does, until [`Proxy::resume`].
    pub fn deafen(&self) {
        self.state.send_modify(|state| state.deaf = true);
    }

    /// Sends `connection.blocked` to every client, as under a memory alarm, until [`Proxy::resume`]. What is
    /// published passes all the same.
    pub fn block(&self) {
        self.state.send_modify(|state| state.blocking = true);
    }

    /// Turns the confirms of the present connections into refusals, until [`Proxy::resume`]. New ones are confirmed.
    pub fn nack(&self) {
        self.state.send_modify(|state| state.nacking = true);
    }

    pub fn resume(&self) {
        self.state.send_modify(|state| *state = State { generation: state.generation, ..State::default() });
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
        let (mut changes, state) = (state.subscribe(), state.subscribe());
        let upstream = upstream.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = forward(client, &upstream, state, now.nacking) => {}
                _ = changes.wait_for(|state| state.generation != now.generation) => {}
            }
        });
    }
}

async fn forward(client: TcpStream, upstream: &str, state: watch::Receiver<State>, is_confirmed: bool) {
    let Ok(server) = TcpStream::connect(upstream).await else {
        return;
    };
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    tokio::select! {
        () = copy(client_in, server_out, state.clone(), false, true) => {}
        () = copy(server_in, client_out, state, true, is_confirmed) => {}
    }
}

/// A byte sequence that no client sends; a `~` in it becomes a byte that is no UTF-8.
pub const UNREADABLE: &[u8] = b"unreadable~";

/// Injected bytes go between two reads: between two frames, while the broker is silent.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
    speaks: bool,
    is_confirmed: bool,
) {
    let (mut buffer, mut blocked) = (vec![0; 64 * 1024], false);
    loop {
        let count = tokio::select! {
            biased;
            Ok(now) = state.wait_for(|state| speaks && !state.silent && state.blocking != blocked) => {
                blocked = now.blocking;
                let word = if blocked { BLOCKED } else { UNBLOCKED };
                buffer[..word.len()].copy_from_slice(word);
                word.len()
            }
            read = from.read(&mut buffer) => match read {
                Ok(count @ 1..) => count,
                _ => return,
            },
        };
        let bytes = &mut buffer[..count];
        if let Some(at) = bytes.windows(UNREADABLE.len()).position(|window| window == UNREADABLE) {
            bytes[at + UNREADABLE.len() - 1] = 0xff;
        }
        if !is_confirmed && state.borrow().nacking {
            refuse_confirms(bytes);
        }
        let passes = |state: &State| !state.silent && (speaks || !state.deaf);
        let Ok(_) = state.wait_for(passes).await.map(drop) else { return };
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// `basic.ack` and `basic.nack` differ in their method alone: frames of 13 bytes, class 60.
fn refuse_confirms(bytes: &mut [u8]) {
    const ACK: &[u8] = b"\0\0\0\x0d\0\x3c\0\x50";
    for at in 0..bytes.len().saturating_sub(ACK.len() - 1) {
        if bytes[at..].starts_with(ACK) {
            bytes[at + ACK.len() - 1] = 0x78;
        }
    }
}
