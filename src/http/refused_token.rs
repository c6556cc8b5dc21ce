//! The refusal of a token, carried from the check to the router, which knows the route and the client.

use std::fmt;
use std::net::IpAddr;

use axum::http::HeaderMap;
use ipnet::IpNet;

use super::client_address::{FORWARDED, client_address};
use crate::telemetry::{TokenRefusal, events};

#[derive(Clone)]
pub(super) struct RefusedToken {
    refusal: TokenRefusal,
    /// The client's address behind proxies, as they stated it.
    forwarded: HeaderMap,
}

impl RefusedToken {
    pub(super) fn new(refusal: TokenRefusal) -> RefusedToken {
        RefusedToken { refusal, forwarded: HeaderMap::new() }
    }

    pub(super) fn keep_forwarded(&mut self, headers: &HeaderMap) {
        for line in headers.get_all(FORWARDED) {
            self.forwarded.append(FORWARDED, line.clone());
        }
    }

    pub(super) fn log(&self, route: &'static str, peer: Option<IpAddr>, trusted: &[IpNet]) {
        let client = peer.map(|peer| client_address(peer, &self.forwarded, trusted));
        events::token_refused(self.refusal, route, client);
    }
}

/// Without the addresses.
impl fmt::Debug for RefusedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RefusedToken({})", self.refusal.as_str())
    }
}
