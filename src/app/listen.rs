//! Listening sockets.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use tokio::net::{TcpListener, TcpSocket};

use crate::config::{Role, Settings};
use crate::telemetry::events;

/// In `otpost dev` a default port that is in use is replaced by a free one, with a notice. A port of the settings is not.
pub(super) fn listen(
    name: &str,
    address: SocketAddr,
    role: Role,
    settings: &Settings,
) -> anyhow::Result<TcpListener> {
    let given = settings.shown.iter().any(|shown| shown.name == name && shown.given);
    let is_replaceable = role == Role::Dev && !given;
    match bind(address) {
        Err(error) if is_replaceable && error.kind() == std::io::ErrorKind::AddrInUse => {
            events::notice(&format!("{name}: {address} is in use, so another port is taken"));
            let free = SocketAddr::new(address.ip(), 0);
            bind(free).with_context(|| format!("{name}: listening on {free}"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("{name}: {address} is in use: stop what listens there, or set {name} to another port")
        }
        listener => listener.with_context(|| format!("{name}: listening on {address}")),
    }
}

/// Accepted connections have the send buffer of the listening socket: answers that a client leaves unread take no more
/// of the kernel's memory.
fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    const SEND_BUFFER_BYTES: u32 = 128 * 1024;
    const BACKLOG: u32 = 1024;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
