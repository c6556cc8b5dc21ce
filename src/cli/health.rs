//! `otpost health`: queries `/readyz` of the process on this machine. Images without a shell have no other probe.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::output::{Exit, print_json};
use crate::config::Settings;

const ANSWER_WITHIN: Duration = Duration::from_secs(3);

#[derive(serde::Serialize)]
struct HealthRow {
    address: SocketAddr,
    ready: bool,
}

pub(super) fn run(settings: &Settings, json: bool) -> Exit {
    let ready = ready(reachable(settings.ops_addr));
    if json {
        let ready = matches!(ready, Ok(true));
        print_json(&[HealthRow { address: settings.ops_addr, ready }]);
    }
    match ready {
        Ok(true) => Exit::Done,
        Ok(false) => Exit::No,
        Err(error) => {
            eprintln!("otpost: no answer at {} (OPS_ADDR): {error}", settings.ops_addr);
            Exit::Failed
        }
    }
}

/// A process that listens on all addresses is queried on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn ready(address: SocketAddr) -> std::io::Result<bool> {
    let mut connection = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    connection.set_read_timeout(Some(ANSWER_WITHIN))?;
    connection.set_write_timeout(Some(ANSWER_WITHIN))?;
    connection.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    connection.read_exact(&mut status)?;
    Ok(&status == b"HTTP/1.1 200")
}
