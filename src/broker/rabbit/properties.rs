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
/// The broker's.
pub(super) const DELIVERY_COUNT: &str = "x-delivery-count";
/// Of a request that was delayed: the count of its earlier returns, which the broker begins anew.
const RETURNS: &str = "x-otpost-returns";
const PERSISTENT: u8 = 2;

/// A property that cannot be read counts as absent.
pub(super) fn incoming(properties: &BasicProperties, redelivered: bool) -> Properties {
    let header = |name| properties.headers().as_ref().and_then(|headers| headers.inner().get(name));
    let earlier_returns = header(RETURNS).and_then(count);
    let returns = header(DELIVERY_COUNT).and_then(count).unwrap_or(0);
    Properties {
        message_id: owned(properties.message_id()),
        priority: *properties.priority(),
        correlation_id: owned(properties.correlation_id()),
        reply_to: owned(properties.reply_to()),
        timestamp: properties.timestamp().and_then(UnixMillis::from_seconds),
        traceparent: header(TRACEPARENT).and_then(traceparent),
        tracestate: header(TRACESTATE).and_then(tracestate),
        delivery_count: returns.saturating_add(earlier_returns.unwrap_or(0)),
        redelivered: redelivered || earlier_returns.is_some(),
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
        let routing_key = short(routing_key)?;
        let mandatory = !matches!(message.target, Target::Reply { .. });
        Some(Envelope { exchange, routing_key, properties: self.properties(message), mandatory })
    }

    /// A copy of a delivered request for the delay queue. Other properties are left out: some would close the AMQP channel
    /// (`user_id`), shorten the delay (`expiration`) or send copies elsewhere (`CC`), and a caller's headers may be as long as
    /// a whole frame.
    pub(super) fn delayed(&self, routing_key: &str, request: &Properties, now: UnixMillis) -> Envelope {
        let at = request.timestamp.unwrap_or(now);
        let mut properties =
            BasicProperties::default().with_delivery_mode(PERSISTENT).with_timestamp(at.as_seconds());
        if let Some(id) = request.message_id.as_deref().and_then(short) {
            properties = properties.with_message_id(id);
        }
        if let Some(id) = request.correlation_id.as_deref().and_then(short) {
            properties = properties.with_correlation_id(id);
        }
        if let Some(queue) = request.reply_to.as_deref().and_then(short) {
            properties = properties.with_reply_to(queue);
        }
        if let Some(priority) = request.priority {
            properties = properties.with_priority(priority);
        }
        let mut headers = trace_headers(request.traceparent.as_deref(), request.tracestate.as_deref());
        let returns = i64::try_from(request.delivery_count).unwrap_or(i64::MAX);
        headers.insert(RETURNS.into(), AMQPValue::LongLongInt(returns));
        Envelope {
            exchange: self.requests.clone(),
            routing_key: routing_key.into(),
            properties: properties.with_headers(headers),
            mandatory: true,
        }
    }

    fn properties(&self, message: &Outgoing<'_>) -> BasicProperties {
        let mut properties = self.constant.clone().with_timestamp(message.at.as_seconds());
        if let Some(id) = short(message.message_id) {
            properties = properties.with_message_id(id);
        }
        if let Some(id) = message.correlation_id.and_then(short) {
            properties = properties.with_correlation_id(id);
        }
        match self.headers(message) {
            Some(headers) => properties.with_headers(headers),
            None => properties,
        }
    }

    fn headers(&self, message: &Outgoing<'_>) -> Option<FieldTable> {
        let mut headers = trace_headers(message.traceparent, message.tracestate);
        let mut put = |name: &str, text: &str| {
            headers.insert(name.into(), AMQPValue::LongString(text.into()));
        };
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

/// `None` over AMQP's 255 bytes. Ids are bounded where they are read; one that is longer is left out, not cut.
fn short(text: &str) -> Option<ShortString> {
    ShortString::try_new(text).ok()
}

fn trace_headers(traceparent: Option<&str>, tracestate: Option<&str>) -> FieldTable {
    let mut headers = FieldTable::default();
    if let Some(traceparent) = traceparent {
        headers.insert(TRACEPARENT.into(), AMQPValue::LongString(traceparent.into()));
        if let Some(tracestate) = tracestate {
            headers.insert(TRACESTATE.into(), AMQPValue::LongString(tracestate.into()));
        }
    }
    headers
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
    fn a_delayed_request_keeps_its_properties_and_its_count_and_is_redelivered() {
        let sent = Properties {
            message_id: Some("m-1".to_owned()),
            priority: Some(7),
            correlation_id: Some("c-1".to_owned()),
            reply_to: Some("reply.me".to_owned()),
            timestamp: Some(UnixMillis(5_000)),
            traceparent: Some(TRACE.to_owned()),
            tracestate: Some("vendor=a".to_owned()),
            delivery_count: 3,
            redelivered: false,
        };
        let routes = Routes::new(&Names::new("t"));
        let envelope = routes.delayed("send-sms-delayed", &sent, UnixMillis(9_000));
        assert_eq!((envelope.exchange.as_str(), envelope.mandatory), ("t.requests", true));
        let again = incoming(&envelope.properties, false);
        assert_eq!(again, Properties { redelivered: true, ..sent });
        let bare = routes.delayed("send-sms-delayed", &Properties::default(), UnixMillis(9_000)).properties;
        let timestamp = Some(UnixMillis(9_000));
        let dated = Properties { timestamp, redelivered: true, ..Properties::default() };
        assert_eq!(incoming(&bare, false), dated);
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
