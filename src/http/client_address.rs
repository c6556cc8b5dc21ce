//! The address of the client behind trusted proxies.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::telemetry::events;

pub(super) const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");
/// More hops than proxies ever append; the rest is not read.
const HOPS_MAX: usize = 64;

/// The last address in `X-Forwarded-For` that is not a trusted proxy.
///
/// Only the part that trusted proxies appended counts. A client can only write to the left of the address that the first
/// trusted proxy saw. So an unreadable hop, and one too many, ends the walk at the proxy that stated it: an address further
/// left may be the client's invention.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| contains(net, address));
    let mut client = peer.to_canonical();
    // The lines are one list (RFC 9110 §5.3), in any bytes, and an empty element of a list does not count (§5.6.1).
    let lines = headers.get_all(FORWARDED).iter().rev();
    let elements = lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b','));
    let hops = elements.map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty());
    for (count, hop) in hops.enumerate() {
        if !is_trusted(client) {
            break;
        }
        let Some(address) = address(hop).filter(|_| count < HOPS_MAX) else {
            events::forwarded_hop_unreadable();
            break;
        };
        client = address;
    }
    client
}

/// True for an address in the network. A network of IPv6 contains IPv4 addresses in the form of IPv6, so `::/0` contains
/// every address.
fn contains(net: &IpNet, address: IpAddr) -> bool {
    match (net, address) {
        (IpNet::V6(net), IpAddr::V4(address)) => net.contains(&address.to_ipv6_mapped()),
        _ => net.contains(&address),
    }
}

/// The address of a hop, in the forms of `node` (RFC 7239 §6): with a port, in quotes, IPv6 in brackets. Proxies also write
/// IPv6 without brackets and with a zone. No address: `unknown`, a hidden name, and text of a client.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop).ok()?;
    let hop = match hop.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"')?,
        None => hop,
    };
    if let Some(bracketed) = hop.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        let has_port = |rest: &str| rest.strip_prefix(':').is_some_and(is_port);
        return ipv6(address).filter(|_| port.is_empty() || has_port(port));
    }
    // A second colon is part of an IPv6 address, which has no port without brackets.
    match hop.split_once(':') {
        Some((address, port)) if is_port(port) => Some(IpAddr::V4(address.parse().ok()?)),
        Some(_) => ipv6(hop),
        None => Some(IpAddr::V4(hop.parse().ok()?)),
    }
}

/// An IPv6 address without its zone, which means nothing here.
fn ipv6(text: &str) -> Option<IpAddr> {
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    let is_zone = |zone: &str| {
        !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte))
    };
    let address: Ipv6Addr = address.parse().ok()?;
    zone.is_none_or(is_zone).then(|| IpAddr::V6(address).to_canonical())
}

/// A port, or the name of a hidden one.
fn is_port(text: &str) -> bool {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    match text.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(is_name_byte),
        None => text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(forwarded: &[&str], trusted: &str, expected: &str) {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().expect("a header value"));
        }
        let trusted: Vec<IpNet> = trusted.split(',').filter_map(|net| net.parse().ok()).collect();
        let peer = "10.0.0.1".parse().expect("an address");
        assert_eq!(client_address(peer, &headers, &trusted).to_string(), expected);
    }

    #[test]
    fn no_proxy_is_trusted_by_default() {
        check(&["1.2.3.4"], "", "10.0.0.1");
    }

    #[test]
    fn a_network_of_ipv6_contains_the_ipv4_addresses_in_the_form_of_ipv6() {
        for trusted in ["::/0", "::/80", "::ffff:0:0/96", "::ffff:10.0.0.0/104", "0.0.0.0/0"] {
            check(&["2001:db8::1, 1.2.3.4"], &format!("{trusted},1.2.3.4/32"), "2001:db8::1");
        }
        for other in ["::/97", "2000::/3", "::ffff:11.0.0.0/104"] {
            check(&["1.2.3.4"], other, "10.0.0.1");
        }
    }

    #[test]
    fn a_client_cannot_choose_its_address() {
        check(&["6.6.6.6, 1.2.3.4"], "10.0.0.0/8", "1.2.3.4");
        check(&["6.6.6.6", "1.2.3.4, 10.0.0.9"], "10.0.0.0/8", "1.2.3.4");
        check(&["garbage"], "10.0.0.0/8", "10.0.0.1");
    }
}
