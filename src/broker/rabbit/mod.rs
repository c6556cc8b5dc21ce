//! RabbitMQ: the only home of `lapin`.
//!
//! Consumers and publishers have connections of their own, so that a blocked publisher cannot stop acknowledgements. The
//! supervisor of a connection rebuilds connection, channel, topology and consumer whenever one of them ends, without a
//! last attempt. `lapin`'s own recovery stays off: it can end up connected and silent. Each connection chooses among the
//! hosts of `AMQP_URL` on its own.
//!
//! Every wait for the broker has a limit, and no error or log line holds the URL.

mod ack_writer;
mod acks;
mod address;
pub mod audit_stream;
mod confirming;
mod connect;
pub mod consumer;
pub mod dead_letters;
pub mod error;
pub mod health_check;
mod hosts;
mod properties;
pub mod publish;
mod readable_properties;
mod readable_stream;
mod reconnect;
mod refusals;
pub mod request_queues;
pub mod rpc;
mod tls;
pub mod topology;

use std::sync::Arc;
use std::time::Duration;

use lapin::uri::AMQPUri;

use self::hosts::{Host, Hosts};
use crate::broker::Names;
use crate::domain::server_url::InvalidUrl;
use crate::domain::stream_age::StreamAge;
use crate::tls::TlsClient;

/// It holds a password: no `Debug`.
#[derive(Clone)]
pub struct RabbitSettings {
    /// For the first host.
    uri: AMQPUri,
    hosts: Arc<[Host]>,
    names: Names,
    prefetch: u16,
    /// Without it `amqps://` trusts the system's roots.
    tls: Option<TlsClient>,
    /// With it the audit stream is declared.
    audit_keep: Option<StreamAge>,
}

impl RabbitSettings {
    /// Reads an `amqp://` or `amqps://` URL. A prefetch of 0, which means "no limit" in AMQP, becomes 1.
    pub fn new(url: &str, names: Names, prefetch: u16) -> Result<RabbitSettings, InvalidUrl> {
        let (uri, hosts) = address::read(url)?;
        Ok(RabbitSettings {
            uri,
            hosts: hosts.into(),
            names,
            prefetch: prefetch.max(1),
            tls: None,
            audit_keep: None,
        })
    }

    /// Connections use this TLS. Not for `amqp://`.
    pub fn with_tls(self, tls: Option<TlsClient>) -> RabbitSettings {
        RabbitSettings { tls, ..self }
    }

    /// Declares the audit stream, which keeps records so long.
    pub fn with_audit(self, keep: StreamAge) -> RabbitSettings {
        RabbitSettings { audit_keep: Some(keep), ..self }
    }

    pub fn tls(&self) -> Option<&TlsClient> {
        self.tls.as_ref()
    }

    /// For one connection, which keeps them.
    fn hosts(&self) -> Hosts {
        Hosts::in_random_order(&self.hosts)
    }

    fn uri_of(&self, host: &str, port: u16) -> AMQPUri {
        let mut uri = self.uri.clone();
        (uri.authority.host, uri.authority.port) = (host.to_owned(), port);
        uri
    }
}

/// One synchronous AMQP method on an open connection.
const RPC_TIMEOUT: Duration = Duration::from_secs(5);
/// An orderly close; the broker cleans up in any case.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Under load RabbitMQ passes acknowledgements to a quorum queue a moment later, and loses them if the connection closes
/// meanwhile. AMQP does not confirm acknowledgements.
const SETTLE_GRACE: Duration = Duration::from_millis(100);

/// AMQP's reply code for an orderly end.
const SUCCESS: u16 = 200;

#[cfg(test)]
mod tests {
    use super::address::{FRAME_BYTES, HEARTBEAT_SECONDS, TCP_CONNECT_TIMEOUT_MS};
    use super::*;

    #[test]
    fn limits_are_added_to_a_url_without_them() {
        let settings = RabbitSettings::new("amqp://u:p@host/%2f", Names::new("t"), 0).expect("valid");
        assert_eq!(settings.uri.query.heartbeat, Some(HEARTBEAT_SECONDS));
        assert_eq!(settings.uri.query.connection_timeout, Some(TCP_CONNECT_TIMEOUT_MS));
        assert_eq!(settings.uri.query.frame_max, Some(FRAME_BYTES));
        assert_eq!(settings.prefetch, 1);
    }

    #[test]
    fn limits_in_the_url_are_kept() {
        let url = "amqps://u:p@host/v?heartbeat=3&connection_timeout=70&frame_max=8192";
        let settings = RabbitSettings::new(url, Names::new("t"), 9).expect("valid");
        assert_eq!(settings.uri.query.heartbeat, Some(3));
        assert_eq!(settings.uri.query.connection_timeout, Some(70));
        assert_eq!(settings.uri.query.frame_max, Some(8192));
    }

    #[test]
    fn the_url_names_the_server_and_the_virtual_host() {
        for (url, host, port, vhost) in [
            ("amqp://u:p@[2001:db8::1]:5672/", "2001:db8::1", 5672, ""),
            ("amqps://[2001:DB8:0::1]", "2001:db8::1", 5671, "/"),
            ("AMQP://host/%2f", "host", 5672, "/"),
            ("amqp://192.0.2.1:1/a%2Fb", "192.0.2.1", 1, "a/b"),
        ] {
            let uri = RabbitSettings::new(url, Names::new("t"), 1).expect("valid").uri;
            assert_eq!((&*uri.authority.host, uri.authority.port, &*uri.vhost), (host, port, vhost), "{url}");
        }
    }

    #[test]
    fn several_hosts_share_credentials_virtual_host_and_parameters() {
        let url = "amqps://u,v:p,q@h1:1,h2,[2001:DB8::1]:3/a%2Fb,c?heartbeat=3";
        let settings = RabbitSettings::new(url, Names::new("t"), 1).expect("valid");
        let host = |name: &str, port| (name.to_owned(), port);
        assert_eq!(*settings.hosts, [host("h1", 1), host("h2", 5671), host("2001:db8::1", 3)]);
        for (name, port) in settings.hosts.iter() {
            let uri = settings.uri_of(name, *port);
            assert_eq!((&uri.authority.host, uri.authority.port), (name, *port));
            let user = &uri.authority.userinfo;
            assert_eq!((&*user.username, &*user.password, &*uri.vhost), ("u,v", "p,q", "a/b,c"));
            assert_eq!(uri.query.heartbeat, Some(3));
        }
    }

    #[test]
    fn a_url_that_cannot_be_read_is_not_repeated_in_the_error() {
        let twice = "amqp://user:secret@one,two,one:5672";
        for url in ["", "http://user:secret@host", "amqp//secret", "amqp://user:secret@host:port", twice] {
            let Err(error) = RabbitSettings::new(url, Names::new("t"), 1) else { panic!("accepted {url}") };
            assert!(!error.to_string().contains("secret"));
        }
    }
}
