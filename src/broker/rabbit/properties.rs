//! Converts between AMQP's properties and ours.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::topology::DEAD_KEY;
use crate::broker::{Names, Outgoing, Properties, Target, request_key};
use crate::domain::time::UnixMillis;

const TRACEPARENT: &str = "traceparent";
const TRACEPARENT_MAX: usize = 255;
const TRACESTATE: &str = "tracestate";
const TRACESTATE_MAX: usize = 512;
const PERSISTENT: u8 = 2;

/// A property that cannot be read counts as absent.
pub(super) fn incoming(properties: &BasicProperties, redelivered: bool) -> Properties {
    let header = |name| properties.headers().as_ref().and_then(|headers| headers.inner().get(name));
    Properties {
        correlation_id: owned(properties.correlation_id()),
        reply_to: owned(properties.reply_to()),
        timestamp: properties.timestamp().and_then(UnixMillis::from_seconds),
        traceparent: header(TRACEPARENT).and_then(traceparent),
        tracestate: header(TRACESTATE).and_then(tracestate),
        delivery_count: header("x-delivery-count").and_then(count).unwrap_or(0),
        redelivered,
    }
}

pub(super) fn owned(text: &Option<ShortString>) -> Option<String> {
    text.as_ref().map(|text| text.as_str().to_owned())
}

fn traceparent(value: &AMQPValue) -> Option<String> {
    text(value).filter(|text| looks_like_traceparent(text)).map(str::to_owned)
}

/// It means nothing without a `traceparent`, and is only passed on.
fn tracestate(value: &AMQPValue) -> Option<String> {
    let is_allowed = |text: &&str| {
        (1..=TRACESTATE_MAX).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    };
    text(value).filter(is_allowed).map(str::to_owned)
}

fn text(value: &AMQPValue) -> Option<&str> {
    let AMQPValue::LongString(text) = value else { return None };
    std::str::from_utf8(text.as_bytes()).ok()
}

/// `version-trace-parent-flags` in lower-case hexadecimal; later versions may append to it (W3C Trace Context).
fn looks_like_traceparent(text: &str) -> bool {
    const LEN: usize = 55;
    let bytes = text.as_bytes();
    let is_dash_or_hex = |(at, byte): (usize, &u8)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    (LEN..=TRACEPARENT_MAX).contains(&bytes.len())
        && bytes[..LEN].iter().enumerate().all(is_dash_or_hex)
        && bytes[LEN..].iter().all(u8::is_ascii_graphic)
}

/// Brokers differ in the integer type of a count.
pub(super) fn count(value: &AMQPValue) -> Option<u64> {
    match *value {
        AMQPValue::ShortShortInt(count) => u64::try_from(count).ok(),
        AMQPValue::ShortShortUInt(count) => Some(count.into()),
        AMQPValue::ShortInt(count) => u64::try_from(count).ok(),
        AMQPValue::ShortUInt(count) => Some(count.into()),
        AMQPValue::LongInt(count) => u64::try_from(count).ok(),
        AMQPValue::LongUInt(count) => Some(count.into()),
        AMQPValue::LongLongInt(count) => u64::try_from(count).ok(),
        _ => None,
    }
}

/// Exchanges, keys and constant properties of outgoing messages, made once.
pub(super) struct Routes {
    requests: ShortString,
    results: ShortString,
    dead: ShortString,
    audit: String,
    names: Names,
    constant: BasicProperties,
}

/// An outgoing message in `lapin`'s types.
pub(super) struct Envelope {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    /// False for replies: RabbitMQ returns a mandatory message to a direct reply-to although it arrives.
    pub(super) mandatory: bool,
}

impl Routes {
    pub(super) fn new(names: &Names) -> Routes {
        Routes {
            requests: names.requests().into(),
            results: names.results().into(),
            dead: names.dead().into(),
            audit: names.audit(),
            names: names.clone(),
            constant: BasicProperties::default()
                .with_delivery_mode(PERSISTENT)
                .with_content_type("application/json".into())
                .with_app_id("otpost".into()),
        }
    }

    /// `None` if the routing key is longer than AMQP allows: no such queue can exist.
    pub(super) fn envelope(&self, message: &Outgoing<'_>) -> Option<Envelope> {
        let (exchange, routing_key) = match message.target {
            Target::Results { routing_key } => (self.results.clone(), routing_key),
            Target::Reply { queue } => (ShortString::default(), queue),
            Target::Requests(channel) => (self.requests.clone(), request_key(channel)),
            Target::Dead(_) => (self.dead.clone(), DEAD_KEY),
            Target::Audit => (ShortString::default(), self.audit.as_str()),
        };
        let routing_key = ShortString::try_new(routing_key).ok()?;
        let mandatory = !matches!(message.target, Target::Reply { .. });
        Some(Envelope { exchange, routing_key, properties: self.properties(message), mandatory })
    }

    fn properties(&self, message: &Outgoing<'_>) -> BasicProperties {
        let mut properties = self.constant.clone().with_timestamp(message.at.as_seconds());
        // Ids are bounded where they are read. One over AMQP's 255 bytes is left out, not cut.
        if let Ok(id) = ShortString::try_new(message.message_id) {
            properties = properties.with_message_id(id);
        }
        if let Some(Ok(id)) = message.correlation_id.map(ShortString::try_new) {
            properties = properties.with_correlation_id(id);
        }
        match self.headers(message) {
            Some(headers) => properties.with_headers(headers),
            None => properties,
        }
    }

    fn headers(&self, message: &Outgoing<'_>) -> Option<FieldTable> {
        let mut headers = FieldTable::default();
        let mut put = |name: &str, text: &str| {
            headers.insert(name.into(), AMQPValue::LongString(text.into()));
        };
        if let Some(traceparent) = message.traceparent {
            put(TRACEPARENT, traceparent);
            message.tracestate.into_iter().for_each(|tracestate| put(TRACESTATE, tracestate));
        }
        if let Target::Dead(dead) = message.target {
            put("x-otpost-reason", dead.reason);
            put("x-otpost-error", dead.error);
            put("x-otpost-queue", &self.names.requests_of(dead.channel));
            put("x-otpost-at", &message.at.to_string());
            let count = i64::try_from(dead.delivery_count).unwrap_or(i64::MAX);
            if let Some(at) = dead.requested_at {
                put("x-otpost-requested-at", &at.to_string());
            }
            if let Some(request) = dead.request_id {
                put("x-otpost-request-id", request);
            }
            if let Some(status) = dead.status {
                put("x-otpost-status", status);
            }
            headers.insert("x-otpost-delivery-count".into(), AMQPValue::LongLongInt(count));
        }
        (!headers.inner().is_empty()).then_some(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::channel::Channel;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn with_header(name: &str, value: AMQPValue) -> Properties {
        let mut headers = FieldTable::default();
        headers.insert(name.into(), value);
        incoming(&BasicProperties::default().with_headers(headers), false)
    }

    #[test]
    fn a_trace_context_is_read_only_in_its_format() {
        let read = |text: &[u8]| with_header(TRACEPARENT, AMQPValue::LongString(text.into())).traceparent;
        assert_eq!(read(TRACE.as_bytes()).as_deref(), Some(TRACE));
        let later = format!("{TRACE}-more");
        assert_eq!(read(later.as_bytes()), Some(later));
        let too_long = format!("{TRACE}-{}", "a".repeat(TRACEPARENT_MAX));
        for wrong in [b"" as &[u8], b"\xff", b"00-abc", too_long.as_bytes(), TRACE.to_uppercase().as_bytes()]
        {
            assert_eq!(read(wrong), None);
        }
    }

    #[test]
    fn a_trace_state_is_bounded_printable_text() {
        let read = |text: &[u8]| with_header(TRACESTATE, AMQPValue::LongString(text.into())).tracestate;
        assert_eq!(read(b"vendor=a,other=b").as_deref(), Some("vendor=a,other=b"));
        for wrong in [b"" as &[u8], b"\xff=1", b"a=\n", &[b'a'; TRACESTATE_MAX + 1]] {
            assert_eq!(read(wrong), None);
        }
    }

    #[test]
    fn the_delivery_count_is_read_from_any_integer() {
        let read = |value| with_header("x-delivery-count", value).delivery_count;
        assert_eq!(read(AMQPValue::LongLongInt(7)), 7);
        assert_eq!(read(AMQPValue::ShortShortUInt(7)), 7);
        assert_eq!(read(AMQPValue::LongInt(-1)), 0);
        assert_eq!(read(AMQPValue::LongString("7".into())), 0);
        assert_eq!(incoming(&BasicProperties::default(), false).delivery_count, 0);
    }

    #[test]
    fn overlong_ids_and_queues_cause_no_panic() {
        let long = "x".repeat(300);
        let message = |target| Outgoing {
            target,
            body: b"{}",
            message_id: &long,
            correlation_id: Some(&long),
            at: UnixMillis(1000),
            traceparent: None,
            tracestate: None,
        };
        let routes = Routes::new(&Names::new("t"));
        assert!(routes.envelope(&message(Target::Reply { queue: &long })).is_none());
        let envelope = routes.envelope(&message(Target::Requests(Channel::Email))).expect("a short key");
        assert_eq!(envelope.properties.message_id(), &None);
        assert_eq!(envelope.properties.timestamp(), &Some(1));
    }
}
