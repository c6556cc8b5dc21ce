//! RabbitMQ: the only home of `lapin`.
//!
//! Requests come over one connection and messages leave over another, so that a blocked publisher cannot stop
//! acknowledgements. Each connection has a supervisor of its own, which builds everything anew (connection, channel,
//! topology, consumer) whenever anything ends it, for as long as it takes. `lapin`'s own recovery stays off: it can
//! end up silent and connected at once.
//!
//! Every wait for the broker has a limit, and no error or log line holds the URL.

mod acks;
pub mod consumer;
pub mod dead_letters;
pub mod error;
pub mod probe;
mod properties;
pub mod publish;
mod reconnect;
pub mod rpc;
pub mod topology;

use std::time::Duration;

use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use self::error::{CONNECT, RabbitError, within};
use crate::broker::Names;

/// Where the broker is, how its objects are called, and how much to take at once. Holds a password: no `Debug`.
#[derive(Clone)]
pub struct RabbitSettings {
    uri: AMQPUri,
    names: Names,
    prefetch: u16,
}

impl RabbitSettings {
    /// Settings from an `amqp://` or `amqps://` URL. A prefetch of 0, which means "no limit" in AMQP, becomes 1.
    pub fn new(url: &str, names: Names, prefetch: u16) -> Result<RabbitSettings, InvalidUrl> {
        let mut uri: AMQPUri = url.parse().map_err(|_| InvalidUrl)?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        uri.query.connection_timeout.get_or_insert(TCP_CONNECT_TIMEOUT_MS);
        Ok(RabbitSettings { uri, names, prefetch: prefetch.max(1) })
    }
}

/// The URL cannot be read. It says no more, because the URL holds a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid amqp:// or amqps:// URL")]
pub struct InvalidUrl;

/// A silent peer is noticed after twice this time.
const HEARTBEAT_SECONDS: u16 = 10;
/// For the TCP connection alone.
const TCP_CONNECT_TIMEOUT_MS: u64 = 5_000;
/// For TCP, TLS and the AMQP handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For one question to the broker on an open connection.
const RPC_TIMEOUT: Duration = Duration::from_secs(5);
/// For an orderly goodbye: the broker cleans up after us in any case.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Under load RabbitMQ holds acknowledgements back from a quorum queue for a moment, and forgets them if the connection
/// closes meanwhile. Nothing in AMQP tells when they arrived.
const SETTLE_GRACE: Duration = Duration::from_millis(100);

/// Connects; `role` is what the broker's own list of connections shows.
async fn connect(settings: &RabbitSettings, role: &'static str) -> Result<Connection, RabbitError> {
    let properties = ConnectionProperties::default().with_connection_name(format!("otpost {role}").into());
    within(CONNECT, CONNECT_TIMEOUT, Connection::connect_uri(settings.uri.clone(), properties)).await
}

/// Says goodbye. That it fails changes nothing: what was not settled comes again either way.
async fn close(connection: &Connection) {
    let _ = within("close", CLOSE_TIMEOUT, connection.close(SUCCESS, "OK".into())).await;
}

/// AMQP's reply code for an orderly end.
const SUCCESS: u16 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_added_to_a_url_that_has_none() {
        let settings = RabbitSettings::new("amqp://u:p@host/%2f", Names::new("t"), 0).expect("valid");
        assert_eq!(settings.uri.query.heartbeat, Some(HEARTBEAT_SECONDS));
        assert_eq!(settings.uri.query.connection_timeout, Some(TCP_CONNECT_TIMEOUT_MS));
        assert_eq!(settings.prefetch, 1);
    }

    #[test]
    fn limits_in_the_url_are_kept() {
        let url = "amqps://u:p@host/v?heartbeat=3&connection_timeout=70";
        let settings = RabbitSettings::new(url, Names::new("t"), 9).expect("valid");
        assert_eq!(settings.uri.query.heartbeat, Some(3));
        assert_eq!(settings.uri.query.connection_timeout, Some(70));
    }

    #[test]
    fn a_url_that_cannot_be_read_is_not_repeated_in_the_error() {
        for url in ["", "http://user:secret@host", "amqp//secret", "amqp://user:secret@host:port"] {
            let Err(error) = RabbitSettings::new(url, Names::new("t"), 1) else { panic!("accepted {url}") };
            assert!(!error.to_string().contains("secret"));
        }
    }
}
