//! The address of the client behind trusted proxies.

use std::net::IpAddr;

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The last address in `X-Forwarded-For` that is not a trusted proxy.
///
/// Only the part that trusted proxies appended counts. A client can only write to the left of the address that the first
/// trusted proxy saw.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    let mut client = peer.to_canonical();
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    for hop in hops {
        if !is_trusted(client) {
            break;
        }
        let Ok(address) = hop.trim().parse::<IpAddr>() else {
            break;
        };
        client = address.to_canonical();
    }
    client
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
    fn a_client_cannot_choose_its_address() {
        check(&["6.6.6.6, 1.2.3.4"], "10.0.0.0/8", "1.2.3.4");
        check(&["6.6.6.6", "1.2.3.4, 10.0.0.9"], "10.0.0.0/8", "1.2.3.4");
        check(&["garbage"], "10.0.0.0/8", "10.0.0.1");
    }
}
