//! Events of callers' tokens.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::telemetry::metrics::{METRICS, ReasonLabel};
use crate::telemetry::repeats::{About, repeating};
use crate::telemetry::token_refusal::TokenRefusal;

const NETWORK_BITS_V4: u8 = 24;
const NETWORK_BITS_V6: u8 = 48;

/// `route` is the pattern. Of the client's address, which may be that of a person, only the network is logged.
pub fn token_refused(refusal: TokenRefusal, route: &'static str, client: Option<IpAddr>) {
    let reason = refusal.as_str();
    METRICS.tokens_refused.get_or_create(&ReasonLabel { reason }).inc();
    let client_network = client.and_then(network).map(tracing::field::display);
    repeating!(info, "token refused", About::reason(reason).at(route); reason, route, client_network,);
}

fn network(address: IpAddr) -> Option<IpNet> {
    let bits = if address.is_ipv4() { NETWORK_BITS_V4 } else { NETWORK_BITS_V6 };
    IpNet::new(address, bits).ok().map(|network| network.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_logged_as_its_network() {
        for (address, shown) in [("192.0.2.77", "192.0.2.0/24"), ("2001:db8:1:2::3", "2001:db8:1::/48")] {
            let address = address.parse().expect("an address");
            assert_eq!(network(address).expect("a network").to_string(), shown);
        }
    }
}
