//! Reads `AMQP_URL` into the client's own settings. The client's parser connects to localhost where it finds no host
//! name, and overlooks what it does not know.

use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};

use super::hosts::Host;
use crate::domain::server_url::{InvalidUrl, ServerUrl, whole_number};

/// Each side notices a silent peer after twice this time.
pub(super) const HEARTBEAT_SECONDS: u16 = 10;
/// The TCP connection alone.
pub(super) const TCP_CONNECT_TIMEOUT_MS: u64 = 5_000;
/// RabbitMQ's default. The properties of a message are one frame, so with a smaller limit a request that the broker has
/// accepted could not be delivered. `lapin` buffers 32 frames in each direction. A size that is known before it connects
/// leaves the buffers untouched until they are used; to one that the broker names it grows them, and writes 8 MiB of zeros.
pub(super) const FRAME_BYTES: u32 = 131_072;

/// The settings for the first host, and all hosts. Without credentials the user is `guest`, and without a path the virtual
/// host is `/` (RabbitMQ's URI specification).
pub(super) fn read(url: &str) -> Result<(AMQPUri, Vec<Host>), InvalidUrl> {
    let url = ServerUrl::parse(url, &["amqp", "amqps"])?;
    let vhost = url.path()?.unwrap_or("/").to_owned();
    let scheme = if url.scheme == "amqps" { AMQPScheme::AMQPS } else { AMQPScheme::AMQP };
    let has_credentials = url.credentials.is_some();
    let hosts = url.all_hosts(scheme.default_port())?;
    let userinfo = match url.credentials {
        Some(known) if known.user.is_empty() => {
            return Err(InvalidUrl::new("must have a user beside its password, as user:password@host"));
        }
        Some(known) => AMQPUserInfo { username: known.user, password: known.password },
        None => AMQPUserInfo::default(),
    };
    let query = parameters(&url.parameters)?;
    check_external(&query, &scheme, has_credentials)?;
    let (host, port) = hosts[0].clone();
    let authority = AMQPAuthority { userinfo, host, port };
    Ok((AMQPUri { scheme, authority, vhost, query }, hosts))
}

/// SASL EXTERNAL takes the user from the client certificate.
fn check_external(
    query: &AMQPQueryString,
    scheme: &AMQPScheme,
    has_credentials: bool,
) -> Result<(), InvalidUrl> {
    if query.auth_mechanism != Some(SASLMechanism::External) {
        return Ok(());
    }
    if *scheme != AMQPScheme::AMQPS {
        return Err(InvalidUrl::new("must begin with amqps:// beside auth_mechanism=external"));
    }
    match has_credentials {
        true => Err(InvalidUrl::new("must have no user and password beside auth_mechanism=external")),
        false => Ok(()),
    }
}

fn parameters(given: &[(String, String)]) -> Result<AMQPQueryString, InvalidUrl> {
    let mut query = AMQPQueryString {
        heartbeat: Some(HEARTBEAT_SECONDS),
        connection_timeout: Some(TCP_CONNECT_TIMEOUT_MS),
        frame_max: Some(FRAME_BYTES),
        ..AMQPQueryString::default()
    };
    for (name, value) in given {
        match name.as_str() {
            "heartbeat" => query.heartbeat = Some(number("heartbeat", value, 1, 600)?),
            "connection_timeout" => {
                query.connection_timeout = Some(number("connection_timeout", value, 1, 600_000)?);
            }
            // A connection has a few channels of its own.
            "channel_max" => query.channel_max = Some(number("channel_max", value, 16, 65_535)?),
            "frame_max" => query.frame_max = Some(number("frame_max", value, 8_192, 1_048_576)?),
            "auth_mechanism" => query.auth_mechanism = Some(mechanism(value)?),
            _ => {
                let known = "heartbeat, connection_timeout, channel_max, frame_max and auth_mechanism";
                return Err(InvalidUrl::new(format!("must have no other parameters than {known}")));
            }
        }
    }
    Ok(query)
}

fn number<T: TryFrom<u64>>(name: &str, value: &str, min: u64, max: u64) -> Result<T, InvalidUrl> {
    let number = whole_number(value).filter(|number| (min..=max).contains(number));
    let fault = || InvalidUrl::new(format!("must have {name} as a whole number from {min} to {max}"));
    number.and_then(|number| T::try_from(number).ok()).ok_or_else(fault)
}

/// The others need an extension of the broker.
fn mechanism(value: &str) -> Result<SASLMechanism, InvalidUrl> {
    match value {
        "plain" => Ok(SASLMechanism::Plain),
        "amqplain" => Ok(SASLMechanism::AMQPlain),
        "external" => Ok(SASLMechanism::External),
        _ => Err(InvalidUrl::new("must have auth_mechanism as plain, amqplain or external")),
    }
}
